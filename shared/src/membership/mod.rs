//! Owns who is heard: heartbeats out to every board, heartbeats in, and the verdict "down" after silence. Must not
//! decide who leads or who keeps copies; what a board says of itself is kept and handed on unjudged.
//!
//! ```text
//!               first heartbeat                     silent for `down_after`
//!   unheard ───────────────────▶ alive ───────────────────────────────▶ down
//!                                │  ▲ │ heartbeat of a later life         │
//!                                │  └─┘ (restarted)                       │
//!                                ◀────────────────────────────────────────┘ any heartbeat but an old one
//! ```
//!
//! Only a deadline judges, never a heartbeat, and this board's own lateness is never held against the others: a
//! process that was frozen first handles what has arrived, and then grants the silent the time that it missed.

mod peer;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;

use crate::config::{NodeConfig, Timing};
use crate::ids::{BoardId, BoardSet, Epoch, Term};
use crate::outbox::Outbox;
use crate::time::{Deadline, Instant};
use crate::wire::heartbeat::{Heartbeat, Vitals};
use peer::{Peer, Sign};

/// What membership asks for or tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this heartbeat as a datagram; it may be lost.
    Tell {
        /// To whom.
        to: BoardId,
        /// What.
        heartbeat: Heartbeat,
    },
    /// A board is heard, for the first time or again.
    Up {
        /// Which.
        board: BoardId,
        /// In which life.
        epoch: Epoch,
    },
    /// A board has been silent for too long.
    Down {
        /// Which.
        board: BoardId,
    },
    /// A board that counted as alive is in a later life: what its earlier one had in memory is gone.
    Restarted {
        /// Which.
        board: BoardId,
        /// The new life.
        epoch: Epoch,
    },
}

/// The site's boards as this one hears them.
///
/// Contract: one input, then drain the outbox, then the next input; [`Membership::handle_deadline`] is called at or
/// after [`Membership::next_deadline`], once all heartbeats that have arrived are handled, and at the start. Boards
/// that the configuration does not name are passed over.
#[derive(Debug)]
pub struct Membership {
    me: BoardId,
    epoch: Epoch,
    timing: Timing,
    peers: BTreeMap<BoardId, Peer>,
    /// Counts this life's heartbeats.
    number: u64,
    beat_at: Instant,
    seen: Term,
}

impl Membership {
    /// A board that has heard nobody yet. Its first heartbeats are due at once.
    pub fn new(config: &NodeConfig, epoch: Epoch, now: Instant) -> Self {
        Self {
            me: config.board,
            epoch,
            timing: config.timing,
            peers: config.peers().iter().map(|board| (board, Peer::Unheard)).collect(),
            number: 0,
            beat_at: now,
            seen: Term::ZERO,
        }
    }

    /// A heartbeat from `from`. Older ones than the newest are passed over; nobody is judged.
    pub fn handle_heartbeat(&mut self, from: BoardId, heartbeat: &Heartbeat, now: Instant, out: &mut Outbox<Output>) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let epoch = heartbeat.epoch;
        match peer.handle_heartbeat(heartbeat, now + self.timing.down_after) {
            Sign::Old => return,
            Sign::Alive => {}
            Sign::Up => out.push(Output::Up { board: from, epoch }),
            Sign::Restarted => out.push(Output::Restarted { board: from, epoch }),
        }
        let leads = heartbeat.vitals.leads.map_or(Term::ZERO, |claim| claim.term);
        self.seen = self.seen.max(heartbeat.vitals.seen).max(leads);
    }

    /// The connection to `peer` stands or fell. A lost one is evidence, not a verdict: it halves the patience with
    /// that board. A new one is used at once, so that the other side hears from us.
    pub fn handle_link(&mut self, peer: BoardId, up: bool, now: Instant, _out: &mut Outbox<Output>) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            if up {
                self.beat_at = self.beat_at.min(now);
            } else {
                peer.expect_by(now + self.timing.down_after / 2);
            }
        }
    }

    /// The instant of [`Membership::next_deadline`] has come, or passed: sends heartbeats that are due, with
    /// `vitals` in them, and counts boards as down whose silence has lasted too long.
    pub fn handle_deadline(&mut self, now: Instant, vitals: Vitals, out: &mut Outbox<Output>) {
        let planned = self.next_deadline().at;
        if now < planned {
            return;
        }
        let late = now.since(planned);
        let latest = now + self.timing.down_after;
        for (board, peer) in &mut self.peers {
            peer.forgive(late, latest);
            if peer.judge(now) {
                out.push(Output::Down { board: *board });
            }
        }
        if now >= self.beat_at {
            self.beat(now, vitals, out);
        }
    }

    /// When to call [`Membership::handle_deadline`], and what for.
    pub fn next_deadline(&self) -> Deadline {
        let beat = Deadline { at: self.beat_at, why: "heartbeats to the other boards" };
        let silence = self.peers.values().filter_map(Peer::due).min();
        silence.map_or(beat, |at| beat.min(Deadline { at, why: "a board has been silent too long" }))
    }

    /// The boards that count as alive, this one included.
    pub fn alive(&self) -> BoardSet {
        let mut alive: BoardSet = self.heard().map(|(board, _)| board).collect();
        alive.insert(self.me);
        alive
    }

    /// Whether `board` counts as alive; this board always does.
    pub fn is_alive(&self, board: BoardId) -> bool {
        self.alive().contains(board)
    }

    /// The life in which `board` was last heard, alive or not; this board's own for itself.
    pub fn epoch_of(&self, board: BoardId) -> Option<Epoch> {
        if board == self.me {
            return Some(self.epoch);
        }
        self.peers.get(&board)?.epoch()
    }

    /// What `board` said of itself, while it counts as alive; never this board.
    pub fn vitals_of(&self, board: BoardId) -> Option<Vitals> {
        self.peers.get(&board)?.vitals()
    }

    /// The highest term ever heard of from anybody.
    pub const fn seen(&self) -> Term {
        self.seen
    }

    /// The highest term under which a board that counts as alive says it leads.
    pub fn leads(&self) -> Option<Term> {
        self.heard().filter_map(|(_, vitals)| Some(vitals.leads?.term)).max()
    }

    /// Whether this board hears nobody although there are others: the fault may be its own. True at the start.
    pub fn is_isolated(&self) -> bool {
        !self.peers.is_empty() && self.heard().next().is_none()
    }

    fn heard(&self) -> impl Iterator<Item = (BoardId, Vitals)> + '_ {
        self.peers.iter().filter_map(|(board, peer)| Some((*board, peer.vitals()?)))
    }

    fn beat(&mut self, now: Instant, vitals: Vitals, out: &mut Outbox<Output>) {
        self.number += 1;
        self.beat_at = now + self.timing.heartbeat;
        let heartbeat = Heartbeat {
            epoch: self.epoch,
            number: self.number,
            vitals,
            missed: BoardSet::EMPTY,
            version: 0,
            digest: 0,
            period_ms: 0,
            wanted_ms: 0,
        };
        for to in self.peers.keys() {
            out.push(Output::Tell { to: *to, heartbeat: heartbeat.clone() });
        }
    }
}

//! Owns who is alive: heartbeats out, heartbeats in, what boards tell each other of whom they hear, and the verdicts.
//! Must not decide who leads or who keeps copies; what a board says of itself is kept and handed on unjudged.
//!
//! ```text
//!                 reached, in a known life                 not reached any more
//!   never heard ───────────────────────────▶ alive ─────────────────────────────▶ down
//!                                            │ ▲ │ in another life (restarted)     │
//!                                            │ ╰─┘                                 │
//!                                            ◀─────────────────────────────────────╯ reached, in any life not buried
//! ```
//!
//! Each board publishes whom of those that it observes it *misses*: their silence has lasted longer than the loss and the
//! lateness of that way excuse. A board is **reached** where somebody reached observes and does not miss it, this board
//! itself being reached. So a verdict "down" needs every observer that this board has reason to trust, and one way that
//! is cut, or one board that hears badly, takes nobody down. A board that many observers miss but not all is *impaired*:
//! alive, and not fit to lead.
//!
//! Only a deadline finds silence, never a message; and this board's own lateness is never held against the others: a
//! process that was frozen first handles what has arrived, and then grants the silent the time that it missed.

mod estimate;
mod flap;
mod graph;
mod hearing;
mod link;
pub mod lives;
mod rules;
mod sending;
mod status;
#[cfg(test)]
mod tests;
mod verdict;

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::action::Evidence;
use crate::config::{NodeConfig, Timing};
use crate::ids::{BoardId, BoardSet, Epoch, Term};
use crate::limits::{
    BEAT_BYTES, BEAT_BYTES_SECOND, BEAT_PERIOD_LEAST, DRIFT_PERMILLE, HEARING_LINES_MAX, LATE_WAKE, LATENESS_LEAST,
    OBSERVERS_COUNTED_MAX,
};
use crate::outbox::Outbox;
use crate::time::{Deadline, Instant};
use crate::wire::heartbeat::{Hearing, HearingLine, Heartbeat, Vitals};
use flap::Flap;
use graph::Graph;
use hearing::Lines;
use link::{Beats, Link, Patience, Sign};
#[doc(hidden)]
pub use rules::{Margin, Rules};
pub use status::BoardView;

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
    /// Send this as a datagram; it may be lost.
    TellHearing {
        /// To whom.
        to: BoardId,
        /// What.
        hearing: Hearing,
    },
    /// A board is alive, for the first time or again.
    Up {
        /// Which.
        board: BoardId,
        /// In which life.
        epoch: Epoch,
    },
    /// A board that counted as alive is in another life: what its earlier one had in memory is gone.
    Restarted {
        /// Which.
        board: BoardId,
        /// The new life.
        epoch: Epoch,
    },
    /// A board does not count as alive any more.
    Down {
        /// Which.
        board: BoardId,
        /// Why.
        why: Why,
    },
    /// A board is alive, but many of its observers have missed it for a while: it is not fit to lead.
    Impaired {
        /// Which.
        board: BoardId,
    },
    /// An impaired board has been heard well for a while, or is down.
    Whole {
        /// Which.
        board: BoardId,
    },
}

/// Why a board does not count as alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// All its observers miss it.
    Silent,
    /// They do, yet its machine acknowledges packets: its process hangs.
    Sick,
    /// It closed its connection in good order.
    Left,
    /// Its supervisor saw its process end.
    Obituary,
    /// This board hears nobody at all: the fault is more likely its own.
    Isolated,
    /// It does not belong to the site any more.
    Removed,
}

/// One other board.
#[derive(Clone, Debug)]
struct Peer {
    link: Link,
    beats: Beats,
    flap: Flap,
    is_alive: bool,
    /// The life in which it last counted as alive.
    life: Option<Epoch>,
    why: Option<Why>,
}

/// The site's boards as this one knows them.
///
/// Contract: one input, then drain the outbox, then the next input; [`Membership::handle_deadline`] is called at or
/// after [`Membership::next_deadline`], once all messages that have arrived are handled, and at the start. Boards that
/// do not belong to the site are passed over. Memory is bounded by [`crate::limits::BOARDS_MAX`].
#[derive(Debug)]
pub struct Membership {
    me: BoardId,
    timing: Timing,
    seed: u64,
    rules: Rules,
    voters: BoardSet,
    graph: Graph,
    peers: BTreeMap<BoardId, Peer>,
    lines: Lines,
    /// This board's own line.
    own: HearingLine,
    /// When its change is told.
    tell_at: Instant,
    digest: u32,
    alive: BoardSet,
    impaired: BoardSet,
    /// Boards that will become impaired, or will not be it any more, and when.
    doubted: BTreeMap<BoardId, Instant>,
    seen: Term,
    /// As of the last input: a wake-up after it is a late one.
    wake_at: Instant,
}

impl Membership {
    /// A board that has heard nobody yet. Its first heartbeats are due at once; `seed` spreads the next ones, so that
    /// boards that start together do not send together.
    pub fn new(config: &NodeConfig, epoch: Epoch, seed: u64, now: Instant) -> Self {
        Self::with_rules(config, epoch, seed, Rules::default(), now)
    }

    /// The same, by rules that may be broken.
    #[doc(hidden)]
    pub fn with_rules(config: &NodeConfig, epoch: Epoch, seed: u64, rules: Rules, now: Instant) -> Self {
        let voters = config.voters.set.boards();
        let own = HearingLine { observer: config.board, epoch, version: 0, missed: BoardSet::EMPTY };
        let mut members = Self {
            me: config.board,
            timing: config.timing,
            seed,
            rules,
            voters,
            graph: Graph::new(config.boards, voters),
            peers: BTreeMap::new(),
            lines: Lines::default(),
            own,
            tell_at: Instant::NEVER,
            digest: 0,
            alive: [config.board].into_iter().collect(),
            impaired: BoardSet::EMPTY,
            doubted: BTreeMap::new(),
            seen: Term::ZERO,
            wake_at: now,
        };
        members.take_in(config.peers(), now);
        members.settle(now, &mut Outbox::default());
        members
    }

    /// A heartbeat from `from`. Older ones than the newest are passed over, those of a life that is over, and those that claim
    /// a lease in another board's term, or in nobody's: there would be nobody to ask what the leader decides.
    pub fn handle_heartbeat(&mut self, from: BoardId, heartbeat: &Heartbeat, now: Instant, out: &mut Outbox<Output>) {
        if heartbeat.vitals.leads.is_some_and(|claim| claim.term.board() != Some(from)) {
            return;
        }
        let is_timely = self.lateness(now) <= LATE_WAKE;
        let patience = self.patience(from);
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let was_gone = peer.link.is_gone;
        let sign = peer.link.handle_heartbeat(heartbeat, is_timely, &patience, now);
        if sign == Sign::Old {
            return;
        }
        peer.beats.wanted = Duration::from_millis(heartbeat.wanted_ms.into());
        let leads = heartbeat.vitals.leads.map_or(Term::ZERO, |claim| claim.term);
        self.seen = self.seen.max(heartbeat.vitals.seen).max(leads);
        let (epoch, version, missed) = (heartbeat.epoch, heartbeat.version, heartbeat.missed);
        let line = HearingLine { observer: from, epoch, version, missed };
        let is_news = if self.lines.life(from) == Some(epoch) {
            self.lines.merge(&line, now)
        } else {
            self.lines.replace(&line, now);
            true
        };
        if is_news || was_gone || sign == Sign::Again {
            self.settle(now, out);
        }
        self.compare(from, heartbeat.digest, out);
        self.wake_at = self.next_deadline().at;
    }

    /// What `from` knows of whom boards hear.
    pub fn handle_hearing(&mut self, from: BoardId, hearing: &Hearing, now: Instant, out: &mut Outbox<Output>) {
        if !self.peers.contains_key(&from) || hearing.lines.len() > HEARING_LINES_MAX {
            return;
        }
        let mut is_news = false;
        for line in &hearing.lines {
            // A board that is heard itself speaks for itself: others may still pass on what an earlier life said.
            let believed = self.peers.get(&line.observer).is_some_and(|peer| {
                peer.link.life().is_none_or(|life| life == line.epoch) && peer.link.buried != Some(line.epoch.nonce)
            });
            is_news |= believed && self.lines.merge(line, now);
        }
        if is_news {
            self.settle(now, out);
        }
        if hearing.asks {
            for hearing in hearing::messages(&self.lines.all(self.alive)) {
                out.push(Output::TellHearing { to: from, hearing });
            }
        }
        self.wake_at = self.next_deadline().at;
    }

    /// The connection to `peer` stands or fell. A lost one is evidence, not a verdict: it halves the patience with
    /// that board. A new one is used at once, so that the other side hears from us.
    pub fn handle_link(&mut self, peer: BoardId, up: bool, now: Instant, _out: &mut Outbox<Output>) {
        let patience = self.patience(peer);
        if let Some(peer) = self.peers.get_mut(&peer) {
            if up {
                peer.beats.due = peer.beats.due.min(now);
            } else {
                let by = now + peer.link.silence_allowed(&patience) / 2;
                peer.link.expect_by(by);
            }
        }
        self.wake_at = self.next_deadline().at;
    }

    /// The transport has noticed something about `board`.
    pub fn handle_evidence(&mut self, board: BoardId, evidence: Evidence, now: Instant, out: &mut Outbox<Output>) {
        match (evidence, self.peers.get_mut(&board)) {
            (_, None) => return,
            (Evidence::Acknowledges, Some(peer)) => peer.link.acknowledged = Some(now),
            (Evidence::Restarted, Some(_)) => self.handle_link(board, false, now, out),
            (Evidence::Leaves, Some(peer)) => {
                peer.link.fall_silent();
                peer.link.is_gone = true;
                self.settle(now, out);
            }
        }
        self.wake_at = self.next_deadline().at;
    }

    /// The supervisor of `board` has seen the life with the nonce `life` end. Nothing that is still heard of that life
    /// counts; a later life does.
    pub fn handle_obituary(&mut self, board: BoardId, life: u64, now: Instant, out: &mut Outbox<Output>) {
        let Some(peer) = self.peers.get_mut(&board) else {
            return;
        };
        peer.link.buried = Some(life);
        if peer.link.life().is_some_and(|epoch| epoch.nonce == life) {
            peer.link.fall_silent();
        }
        self.settle(now, out);
        self.wake_at = self.next_deadline().at;
    }

    /// From now on these are the site's boards.
    pub fn handle_boards(&mut self, boards: BoardSet, now: Instant, out: &mut Outbox<Output>) {
        let gone: BoardSet = self.peers.keys().copied().filter(|board| !boards.contains(*board)).collect();
        for board in gone.iter() {
            if self.peers.remove(&board).is_some_and(|peer| peer.is_alive) {
                out.push(Output::Down { board, why: Why::Removed });
            }
            self.impaired.remove(board);
            self.doubted.remove(&board);
        }
        self.lines.retain(boards);
        self.take_in(boards.iter().filter(|board| *board != self.me).collect(), now);
        self.draw_graph(now, out);
    }

    /// From now on these boards vote: they observe each other.
    pub fn handle_voters(&mut self, voters: BoardSet, now: Instant, out: &mut Outbox<Output>) {
        self.voters = voters;
        self.draw_graph(now, out);
    }

    fn draw_graph(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let mut boards: BoardSet = self.peers.keys().copied().collect();
        boards.insert(self.me);
        self.graph = Graph::new(boards, self.voters);
        self.reckon_all();
        self.settle(now, out);
        self.wake_at = self.next_deadline().at;
    }

    /// Whoever looks on has changed, and with it how much silence is evidence.
    fn reckon_all(&mut self) {
        for board in self.known() {
            let patience = self.patience(board);
            if let Some(peer) = self.peers.get_mut(&board) {
                peer.link.reckon(&patience);
            }
        }
    }

    fn take_in(&mut self, boards: BoardSet, now: Instant) {
        for board in boards.iter() {
            let patience = self.patience(board);
            self.peers.entry(board).or_insert_with(|| Peer {
                link: Link::new(&patience),
                beats: Beats::new(self.timing.heartbeat, now),
                flap: Flap::default(),
                is_alive: false,
                life: None,
                why: None,
            });
        }
    }

    /// The instant of [`Membership::next_deadline`] has come, or passed: finds the boards whose silence has lasted too
    /// long, tells what has changed, and sends the heartbeats that are due, with `vitals` in them.
    pub fn handle_deadline(&mut self, now: Instant, vitals: &Vitals, out: &mut Outbox<Output>) {
        let late = self.lateness(now);
        if now < self.wake_at {
            return;
        }
        // Less is allowed for anyway.
        if self.rules.forgives && late > LATENESS_LEAST {
            self.forgive_all(late, now);
        }
        let mut falls = false;
        for peer in self.peers.values_mut() {
            falls |= peer.link.judge(now);
        }
        if falls {
            self.settle(now, out);
        }
        self.declare_impaired(now, out);
        self.send_due(now, vitals, out);
        self.wake_at = self.next_deadline().at;
    }

    fn forgive_all(&mut self, late: Duration, now: Instant) {
        for board in self.known() {
            let patience = self.patience(board);
            if let Some(peer) = self.peers.get_mut(&board) {
                peer.link.forgive(late, &patience, now);
            }
        }
    }

    /// When to call [`Membership::handle_deadline`], and what for.
    pub fn next_deadline(&self) -> Deadline {
        let (mut beat, mut silence) = (Instant::NEVER, Instant::NEVER);
        for peer in self.peers.values() {
            beat = beat.min(peer.beats.due);
            silence = silence.min(peer.link.due);
        }
        let doubt = self.doubted.values().copied().min().unwrap_or(Instant::NEVER);
        [
            Deadline { at: beat, why: "heartbeats to the other boards" },
            Deadline { at: silence, why: "a board has been silent too long" },
            Deadline { at: self.tell_at, why: "whom this board hears" },
            Deadline { at: doubt, why: "a board that some miss" },
        ]
        .into_iter()
        .fold(Deadline::NONE, Deadline::min)
    }

    /// The boards that count as alive, this one included.
    pub const fn alive(&self) -> BoardSet {
        self.alive
    }

    /// Whether `board` counts as alive; this board always does.
    pub const fn is_alive(&self, board: BoardId) -> bool {
        self.alive.contains(board)
    }

    /// Boards that are alive and not fit to lead, because many of their observers miss them.
    pub const fn impaired(&self) -> BoardSet {
        self.impaired
    }

    /// The life in which `board` was last known, alive or not; this board's own for itself.
    pub fn epoch_of(&self, board: BoardId) -> Option<Epoch> {
        if board == self.me {
            return Some(self.own.epoch);
        }
        self.peers.get(&board)?.life
    }

    /// What `board` said last of itself, while it counts as alive; never this board. From a board that does not observe
    /// this one it is up to [`crate::limits::BEAT_PERIOD_FAR`] old.
    pub fn vitals_of(&self, board: BoardId) -> Option<&Vitals> {
        let peer = self.peers.get(&board).filter(|peer| peer.is_alive)?;
        peer.link.heard.as_ref().map(|heard| &heard.vitals)
    }

    /// The highest term under which a board says it leads, and has not run out: counted from when that was received,
    /// with the margin for clocks that drift apart. Of a board that ended or left nothing counts.
    pub fn claims(&self, now: Instant) -> Option<Term> {
        self.claimed(|left, at| now < at + left)
    }

    /// The same without an end: the highest term under which a board that counts as alive said last that it leads.
    pub fn last_claim(&self) -> Option<Term> {
        let alive = self.peers.values().filter(|peer| peer.is_alive);
        alive.filter_map(|peer| Some(peer.link.heard?.vitals.leads?.term)).max()
    }

    fn claimed(&self, counts: impl Fn(Duration, Instant) -> bool) -> Option<Term> {
        let claims = self.peers.values().filter_map(|peer| {
            let heard = peer.link.heard.filter(|heard| peer.link.buried != Some(heard.epoch.nonce))?;
            let claim = heard.vitals.leads.filter(|_| !peer.link.is_gone)?;
            let left = u64::from(claim.left_ms) * 1000 * (1000 + DRIFT_PERMILLE) / (1000 - DRIFT_PERMILLE);
            counts(Duration::from_micros(left), heard.at).then_some(claim.term)
        });
        claims.max()
    }

    /// The highest term ever heard of from anybody.
    pub const fn seen(&self) -> Term {
        self.seen
    }

    /// Whether this board hears nobody although there are others: the fault may be its own. True at the start.
    pub fn is_isolated(&self) -> bool {
        !self.peers.is_empty() && self.peers.values().all(|peer| peer.link.is_silent)
    }

    /// Whether `board` came back so often lately that it should not lead yet.
    pub fn unsteady(&self, board: BoardId, now: Instant) -> bool {
        self.peers.get(&board).is_some_and(|peer| peer.flap.is_held(now))
    }

    fn known(&self) -> impl Iterator<Item = BoardId> + use<> {
        let known: BoardSet = self.peers.keys().copied().collect();
        known.iter()
    }

    /// How late this input is for what was due before it.
    fn lateness(&self, now: Instant) -> Duration {
        now.since(self.wake_at)
    }

    fn patience(&self, board: BoardId) -> Patience {
        let observed = self.graph.of(self.me);
        let looking_on = self
            .graph
            .of(board)
            .iter()
            .filter(|observer| self.alive.contains(*observer))
            .count();
        let observers = if observed.contains(board) {
            looking_on.clamp(1, OBSERVERS_COUNTED_MAX)
        } else {
            0
        };
        Patience {
            down_after: self.timing.down_after,
            heartbeat: self.timing.heartbeat,
            observers: if self.rules.corroborates { observers } else { observers.min(1) },
            period_least: period_least(observed.len()),
            rules: self.rules,
        }
    }
}

/// The shortest period that the budget allows to so many observers.
fn period_least(observers: usize) -> Duration {
    let each = Duration::from_micros(1_000_000 * BEAT_BYTES / BEAT_BYTES_SECOND);
    (each * u32::try_from(observers).unwrap_or(1)).max(BEAT_PERIOD_LEAST)
}

//! Owns the verdicts: which boards are reached along those who hear, which are not any more and why, and which are
//! heard by too few to be fit to lead.

use crate::ids::{BoardId, BoardSet, Epoch};
use crate::limits::{HEARING_GATHER, IMPAIRED_AFTER};
use crate::membership::{Membership, Output, Why};
use crate::outbox::Outbox;
use crate::time::Instant;

/// Of a board's observers one in so many must miss it before it counts as impaired (Rapid's low watermark is 4 of 10).
const IMPAIRED_SHARE: usize = 4;

impl Membership {
    /// Works out anew whom this board misses, and with it who is alive. Called after whatever may have changed either.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let observed = self.graph.of(self.me);
        let missing = self
            .peers
            .iter()
            .filter(|(board, peer)| observed.contains(**board) && peer.link.is_silent);
        let missed: BoardSet = missing.map(|(board, _)| *board).collect();
        if missed != self.own.missed {
            self.own.missed = missed;
            self.own.version += 1;
            self.lines.replace(&self.own, now);
            self.tell_at = self.tell_at.min(now + HEARING_GATHER);
        }
        self.judge_all(now, out);
        self.digest = self.lines.digest(self.alive());
        self.look_for_impaired(now, out);
    }

    fn judge_all(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let (before, reached) = (self.alive, self.reached());
        let isolated = self.is_isolated();
        for (board, peer) in &mut self.peers {
            let life = peer.link.life().or_else(|| self.lines.life(*board));
            match (life, reached.contains(*board)) {
                (Some(epoch), true) if !peer.is_alive => {
                    if peer.life.is_some() {
                        peer.flap.handle_return(now);
                    }
                    peer.is_alive = true;
                    peer.life = Some(epoch);
                    out.push(Output::Up { board: *board, epoch });
                }
                (Some(epoch), true) if peer.life != Some(epoch) => {
                    peer.flap.handle_return(now);
                    peer.life = Some(epoch);
                    out.push(Output::Restarted { board: *board, epoch });
                }
                (_, false) if peer.is_alive => {
                    let why = peer.why_down(isolated);
                    peer.is_alive = false;
                    peer.why = Some(why);
                    out.push(Output::Down { board: *board, why });
                }
                (Some(_) | None, true | false) => {}
            }
        }
        self.alive = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_alive)
            .map(|(board, _)| *board)
            .collect();
        self.alive.insert(self.me);
        if self.alive != before {
            self.reckon_all();
        }
    }

    fn reached(&self) -> BoardSet {
        if !self.rules.corroborates {
            let heard = self.peers.iter().filter(|(_, peer)| !peer.link.is_silent);
            return heard.map(|(board, _)| *board).collect();
        }
        let is_over = |life: Option<Epoch>, buried| life.is_some_and(|life| Some(life.nonce) == buried);
        let barred = self.peers.iter().filter(|(board, peer)| {
            let link = &peer.link;
            link.is_gone || is_over(link.life().or_else(|| self.lines.life(**board)), link.buried)
        });
        self.lines
            .reached(self.me, &self.graph, barred.map(|(board, _)| *board).collect())
    }

    /// The observers that count as alive and miss `board`, without those that miss more than half of whom they should
    /// hear: with such a one the fault is its own.
    pub(super) fn missed_by(&self, board: BoardId) -> BoardSet {
        let misses = |observer: &BoardId| {
            self.lines.missed(*observer).is_some_and(|missed| {
                let should = self.graph.of(*observer).intersection(self.alive);
                missed.contains(board) && 2 * should.difference(missed).len() >= should.len()
            })
        };
        self.graph.of(board).intersection(self.alive).iter().filter(misses).collect()
    }

    fn look_for_impaired(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let any_missed = self.lines.missed_any(self.alive);
        if !any_missed && self.impaired.is_empty() && self.doubted.is_empty() {
            return;
        }
        let alive = self.alive;
        let few = |board: &BoardId| {
            let observers = self.graph.of(*board).intersection(alive).len();
            alive.contains(*board) && self.missed_by(*board).len() >= observers.div_ceil(IMPAIRED_SHARE).max(1)
        };
        let heard_by_few: BoardSet = self.peers.keys().copied().filter(few).collect();
        self.doubted
            .retain(|board, _| heard_by_few.contains(*board) != self.impaired.contains(*board));
        for board in self.peers.keys() {
            if heard_by_few.contains(*board) != self.impaired.contains(*board) {
                self.doubted.entry(*board).or_insert(now + IMPAIRED_AFTER);
            }
        }
        self.declare_impaired(now, out);
    }

    /// What has lasted long enough is said.
    pub(super) fn declare_impaired(&mut self, now: Instant, out: &mut Outbox<Output>) {
        while let Some((board, _)) = self
            .doubted
            .iter()
            .find(|(_, due)| now >= **due)
            .map(|(board, due)| (*board, *due))
        {
            self.doubted.remove(&board);
            if self.impaired.contains(board) {
                self.impaired.remove(board);
                out.push(Output::Whole { board });
            } else {
                self.impaired.insert(board);
                out.push(Output::Impaired { board });
            }
        }
    }
}

impl super::Peer {
    fn why_down(&self, isolated: bool) -> Why {
        let is_over = |life: Epoch| Some(life.nonce) == self.link.buried;
        if self.life.is_some_and(is_over) {
            Why::Obituary
        } else if self.link.is_gone {
            Why::Left
        } else if self.link.is_sick() {
            Why::Sick
        } else if isolated {
            Why::Isolated
        } else {
            Why::Silent
        }
    }
}

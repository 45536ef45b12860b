//! Owns how membership looks to a person: one line a board.

use crate::ids::{BoardId, BoardSet, Epoch};
use crate::membership::{Membership, Why};
use crate::time::Instant;

/// One other board, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardView {
    /// Which.
    pub board: BoardId,
    /// The life in which it was last known.
    pub epoch: Option<Epoch>,
    /// Whether it counts as alive.
    pub alive: bool,
    /// Why it does not.
    pub why: Option<Why>,
    /// Whether this board observes it.
    pub observed: bool,
    /// Observers that miss it.
    pub missed_by: BoardSet,
    /// So many of them that it is not fit to lead.
    pub impaired: bool,
    /// It came back so often that it is held back from leading.
    pub unsteady: bool,
    /// Of its heartbeats so many are lost, in permille.
    pub loss_permille: u16,
    /// The period of its heartbeats, in milliseconds; 0 where it was never heard.
    pub period_ms: u64,
    /// It was heard so long ago, in milliseconds; `None` where never.
    pub silent_ms: Option<u64>,
    /// It may be silent for so long, in milliseconds.
    pub patience_ms: u64,
}

impl Membership {
    /// One line for each other board, in order of number.
    pub fn status(&self, now: Instant) -> impl Iterator<Item = BoardView> + '_ {
        self.peers.iter().map(move |(board, peer)| {
            let heard = peer.link.heard;
            BoardView {
                board: *board,
                epoch: self.epoch_of(*board),
                alive: peer.is_alive,
                why: if peer.is_alive { None } else { peer.why },
                observed: self.graph.of(self.me).contains(*board),
                missed_by: self.missed_by(*board),
                impaired: self.impaired.contains(*board),
                unsteady: peer.flap.is_held(now),
                loss_permille: (peer.link.loss.chance() * 1000.0) as u16,
                period_ms: heard.map_or(0, |heard| millis(heard.period)),
                silent_ms: heard.map(|heard| millis(now.since(heard.at))),
                patience_ms: millis(peer.link.silence_allowed(&self.patience(*board))),
            }
        })
    }
}

fn millis(span: core::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

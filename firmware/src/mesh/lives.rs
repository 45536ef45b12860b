//! Which life of each peer is believed, and its connections: tells a board that restarted from two machines that run as one
//! board, as a cloned disk makes them. A life that another one followed is over and says nothing more; one that greets all
//! the same runs beside the other. Of the two the later by number of starts, then by nonce, is believed, on every board alike,
//! as long as a connection of it stands: so that votes and copies are one machine's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quinn::Connection;
use shared::event::Event;
use shared::ids::{BoardId, Epoch};

use super::Close;

/// Earlier lives remembered of each peer: two machines that greet in turn need one.
const LIVES_KEPT: usize = 8;

/// What a connection is for, and who dialled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The peer's messages.
    Data,
    /// Control, dialled by the peer.
    ControlCame,
    /// Control, dialled by this board.
    ControlDialled,
}

/// How a greeting is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// By the life that is believed.
    Same,
    /// By a life that was never heard of: the board has restarted.
    New,
    /// By one that counted as over, and is believed from now on.
    Back,
    /// By one that counts as over, beside one that is believed.
    Refused,
}

/// The lives of one peer.
#[derive(Debug)]
struct Peer {
    believed: Epoch,
    before: VecDeque<Epoch>,
    connections: BTreeMap<Kind, Connection>,
    /// The life that was last told to run beside another.
    told: Option<Epoch>,
}

impl Peer {
    /// `stands`: whether there is a connection of the life that is believed.
    fn judge(&mut self, epoch: Epoch, stands: bool) -> Verdict {
        if epoch == self.believed {
            return Verdict::Same;
        }
        let was_over = self.before.contains(&epoch);
        if was_over && stands && epoch < self.believed {
            return Verdict::Refused;
        }
        self.before.retain(|life| *life != epoch);
        if self.before.len() == LIVES_KEPT {
            self.before.pop_front();
        }
        self.before.push_back(std::mem::replace(&mut self.believed, epoch));
        if was_over && stands { Verdict::Back } else { Verdict::New }
    }

    fn stands(&self) -> bool {
        self.connections.values().any(|connection| connection.close_reason().is_none())
    }
}

/// The lives of all peers.
#[derive(Debug, Default)]
pub(super) struct Lives(Mutex<BTreeMap<BoardId, Peer>>);

/// What comes of a greeting.
#[derive(Debug)]
pub(super) struct Greeted {
    /// The connection is closed, for this reason.
    pub(super) refused: Option<String>,
    /// It is to be told that two machines run as this board.
    pub(super) event: Option<Event>,
}

impl Lives {
    /// `peer` has said hello in the life `epoch` on `connection`, which takes the place of those that it replaces, or is
    /// closed.
    pub(super) fn greet(&self, peer: BoardId, epoch: Epoch, kind: Kind, connection: &Connection) -> Greeted {
        let mut peers = self.lock();
        let known = peers.entry(peer).or_insert_with(|| Peer {
            believed: epoch,
            before: VecDeque::new(),
            connections: BTreeMap::new(),
            told: None,
        });
        let stands = known.stands();
        let verdict = known.judge(epoch, stands);
        let believed = known.believed;
        let mut twice = |other: Epoch| {
            let is_news = known.told != Some(other);
            known.told = Some(other);
            is_news.then_some(Event::BoardTwice { board: peer, believed, other })
        };
        let (refused, event) = match verdict {
            Verdict::Refused => {
                let why = format!("another machine runs as {peer}, in its life {believed}: the disk of one is a copy");
                Close::Twice.connection(connection, &why);
                return Greeted { refused: Some(why), event: twice(epoch) };
            }
            Verdict::Back => (None, known.before.back().copied().and_then(&mut twice)),
            Verdict::Same | Verdict::New => (None, None),
        };
        let newer = "a newer connection took its place";
        if verdict != Verdict::Same {
            std::mem::take(&mut known.connections)
                .values()
                .for_each(|older| Close::Replaced.connection(older, newer));
        }
        if let Some(older) = known.connections.insert(kind, connection.clone()) {
            Close::Replaced.connection(&older, newer);
        }
        Greeted { refused, event }
    }

    /// Whether `connection` is one on which its peer has greeted, and that no other has replaced.
    pub(super) fn has(&self, peer: BoardId, connection: &Connection) -> bool {
        let peers = self.lock();
        let mut standing = peers.get(&peer).into_iter().flat_map(|known| known.connections.values());
        standing.any(|have| have.stable_id() == connection.stable_id())
    }

    /// The connections of peers that `is_member` does not name; they are forgotten.
    pub(super) fn let_go(&self, is_member: impl Fn(BoardId) -> bool) -> Vec<Connection> {
        let mut peers = self.lock();
        let gone = peers.extract_if(.., |peer, _| !is_member(*peer));
        gone.flat_map(|(_, known)| known.connections.into_values()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BoardId, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(boot: u32, nonce: u64) -> Epoch {
        Epoch { boot, nonce }
    }

    fn peer(believed: Epoch) -> Peer {
        Peer { believed, before: VecDeque::new(), connections: BTreeMap::new(), told: None }
    }

    #[test]
    fn a_board_that_restarts_is_believed_whatever_its_disk_counts() {
        let mut peer = peer(life(7, 1));
        assert_eq!(peer.judge(life(7, 1), true), Verdict::Same);
        assert_eq!(peer.judge(life(8, 2), true), Verdict::New);
        assert_eq!(peer.judge(life(8, 1), true), Verdict::New, "an old image was put back");
        assert_eq!(peer.judge(life(1, 3), true), Verdict::New, "its disk was replaced");
    }

    #[test]
    fn of_two_that_greet_in_turn_the_later_is_believed_from_the_first_greeting_that_proves_it() {
        for (one, other) in [(life(8, 1), life(8, 2)), (life(8, 2), life(8, 1)), (life(9, 1), life(8, 2))] {
            let mut peer = peer(one);
            let (earlier, later) = (one.min(other), one.max(other));
            assert_eq!(peer.judge(other, true), Verdict::New, "it looks like a restart");
            let proof = peer.judge(one, true);
            assert_eq!(proof, if one == later { Verdict::Back } else { Verdict::Refused });
            for _ in 0..3 {
                assert_eq!(peer.judge(earlier, true), Verdict::Refused);
                assert_eq!(peer.judge(later, true), Verdict::Same);
            }
            assert_eq!(peer.judge(earlier, false), Verdict::New, "the other one is gone");
        }
    }

    #[test]
    fn earlier_lives_are_remembered_in_bounded_memory() {
        let mut peer = peer(life(1, 0));
        for boot in 2..100 {
            assert_eq!(peer.judge(life(boot, 0), true), Verdict::New);
            assert!(peer.before.len() <= LIVES_KEPT);
        }
    }
}

//! The connections of each peer's life that is believed. Which one that is `shared` decides; here the connections of the others
//! are closed, and it is told.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quinn::Connection;
use shared::event::Event;
use shared::ids::{BoardId, Epoch};
use shared::membership::lives::{self, Verdict};

use super::Close;

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

/// The lives of one peer.
#[derive(Debug)]
struct Peer {
    lives: lives::Lives,
    connections: BTreeMap<Kind, Connection>,
    /// The life that was last told to run beside another.
    told: Option<Epoch>,
}

impl Peer {
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
            lives: lives::Lives::new(epoch),
            connections: BTreeMap::new(),
            told: None,
        });
        let stands = known.stands();
        let verdict = known.lives.handle_greeting(epoch, stands);
        let believed = known.lives.believed();
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
            Verdict::Back => (None, known.lives.last_over().and_then(&mut twice)),
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

//! What the node tells its peers, on its way out: everything for one peer from one drain shares datagrams, on the newest
//! control connection that stands. Where none does, it is lost, as a datagram may be, and the peer is dialled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quinn::Connection;
use shared::ids::BoardId;
use shared::wire::control::{ControlMessage, Packer};
use tokio::sync::Notify;

use super::{Close, MeshCounts, count};

/// Between two looks at whether what was told has left.
const TOLD_LOOK: Duration = Duration::from_millis(1);

/// Connections with one peer that are remembered: one that each dialled.
const STANDING_MAX: usize = 2;

/// A control connection came to stand, or fell.
#[derive(Debug)]
pub(crate) struct ControlChange {
    /// With whom.
    pub(crate) peer: BoardId,
    /// Which.
    pub(crate) connection: Connection,
    /// Whether it stands now.
    pub(crate) stands: bool,
}

/// The node's way to tell its peers something.
#[derive(Debug)]
pub(crate) struct Telling {
    peers: BTreeMap<BoardId, Ear>,
    counts: Arc<MeshCounts>,
}

/// One peer as it is told things.
#[derive(Debug)]
struct Ear {
    wanted: Arc<Notify>,
    /// Those that stand, the newest last: more than one only where both dialled.
    standing: Vec<Standing>,
    packer: Packer,
}

#[derive(Debug)]
struct Standing {
    connection: Connection,
    /// Room for datagrams while none waits.
    room: usize,
}

impl Telling {
    /// A way to tell `peers`, whose diallers each wait for the bell.
    pub(super) fn new(peers: BTreeMap<BoardId, Arc<Notify>>, counts: Arc<MeshCounts>) -> Self {
        let ear = |wanted| Ear { wanted, standing: Vec::new(), packer: Packer::default() };
        let peers = peers.into_iter().map(|(peer, wanted)| (peer, ear(wanted))).collect();
        Self { peers, counts }
    }

    /// Takes in that a connection stands or fell.
    pub(crate) fn change(&mut self, change: ControlChange) {
        let Some(ear) = self.peers.get_mut(&change.peer) else { return };
        let ControlChange { connection, stands, .. } = change;
        ear.standing
            .retain(|standing| standing.connection.stable_id() != connection.stable_id());
        if stands {
            if ear.standing.len() == STANDING_MAX {
                ear.standing.remove(0);
            }
            let room = connection.datagram_send_buffer_space();
            ear.standing.push(Standing { connection, room });
        }
    }

    /// Closes what stands with `peer`, which is no board of the site any more, or listens elsewhere.
    pub(crate) fn part(&mut self, peer: BoardId) {
        let Some(ear) = self.peers.get_mut(&peer) else { return };
        for standing in ear.standing.drain(..) {
            Close::Refused.connection(&standing.connection, "the list of boards was changed");
        }
    }

    /// Adds `message` to what goes to `to` with the next [`Telling::flush`].
    pub(crate) fn tell(&mut self, to: BoardId, message: &ControlMessage) {
        let Some(ear) = self.peers.get_mut(&to) else { return };
        if let Some(full) = ear.packer.push(message) {
            ear.send(full, &self.counts);
        }
    }

    /// Sends what was told.
    pub(crate) fn flush(&mut self) {
        for ear in self.peers.values_mut() {
            if let Some(datagram) = ear.packer.take() {
                ear.send(datagram, &self.counts);
            }
        }
    }

    /// Waits until every datagram told has left this machine, or its connection has fallen: closing a connection forgets
    /// what has not.
    pub(crate) async fn told(&self) {
        for Standing { connection, room } in self.peers.values().filter_map(|ear| ear.standing.last()) {
            let waits = || connection.datagram_send_buffer_space() < *room;
            while connection.close_reason().is_none() && waits() {
                tokio::time::sleep(TOLD_LOOK).await;
            }
        }
    }
}

impl Ear {
    fn send(&mut self, datagram: Vec<u8>, counts: &MeshCounts) {
        let bytes = datagram.len() as u64;
        self.standing.retain(|standing| standing.connection.close_reason().is_none());
        let newest = self.standing.last();
        let sent = newest.is_some_and(|newest| newest.connection.send_datagram(Bytes::from(datagram)).is_ok());
        if sent {
            count(&counts.control_sent);
            counts.control_sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        } else {
            count(&counts.control_unsent);
            self.wanted.notify_one();
        }
    }
}

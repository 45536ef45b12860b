//! Which boards the mesh dials: begins with those that were added while it runs, lets go of those that were taken out or
//! listen elsewhere now. Who they are is the node's to know first; certificates decide who may come in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use link::stop::Stop;
use quinn::{ClientConfig, Endpoint};
use shared::ids::BoardId;
use shared::wire::peer::Hello;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::{LinkChange, MeshOutputs, control, outgoing};

/// Where the other boards listen.
pub(crate) type Addresses = BTreeMap<BoardId, SocketAddr>;

/// Boards that `now` has no more, or elsewhere.
pub(crate) fn gone(before: &Addresses, now: &Addresses) -> Vec<BoardId> {
    let is_gone = |(board, address): &(&BoardId, &SocketAddr)| now.get(*board) != Some(*address);
    before.iter().filter(is_gone).map(|(board, _)| *board).collect()
}

/// Keeps a dialler for data and one for control for each board.
pub(super) struct Members {
    pub(super) endpoint: Endpoint,
    /// How a control connection is dialled.
    pub(super) config: ClientConfig,
    pub(super) hello: Hello,
    /// One for each board that there can be.
    pub(super) bells: BTreeMap<BoardId, Arc<Notify>>,
    pub(super) outputs: MeshOutputs,
    pub(super) stop: Stop,
}

impl Members {
    /// Dials those that are `wanted`, until the stop is given.
    pub(super) async fn run(self, mut wanted: watch::Receiver<Addresses>) {
        let mut stop = self.stop.clone();
        let mut dialled = Addresses::new();
        let mut diallers: BTreeMap<BoardId, JoinSet<()>> = BTreeMap::new();
        loop {
            let now = wanted.borrow_and_update().clone();
            for board in gone(&dialled, &now) {
                if let Some(mut tasks) = diallers.remove(&board) {
                    tasks.shutdown().await;
                    // After whatever its dialler said of it.
                    let _ = self.outputs.changes.send(LinkChange { peer: board, link: None }).await;
                }
            }
            for (board, address) in &now {
                diallers.entry(*board).or_insert_with(|| self.dial(*board, *address));
            }
            dialled = now;
            let changed = async {
                if wanted.changed().await.is_err() {
                    // Nobody can change it any more.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = changed => {}
                () = stop.stopped() => break,
            }
        }
        for tasks in diallers.values_mut() {
            while tasks.join_next().await.is_some() {}
        }
    }

    fn dial(&self, peer: BoardId, address: SocketAddr) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let data = outgoing::Dialler {
            endpoint: self.endpoint.clone(),
            peer,
            address,
            hello: self.hello.clone(),
            outputs: self.outputs.clone(),
        };
        tasks.spawn(data.run(self.stop.clone()));
        if let Some(wanted) = self.bells.get(&peer) {
            let control = control::ControlDialler {
                endpoint: self.endpoint.clone(),
                config: self.config.clone(),
                peer,
                address,
                hello: self.hello.clone(),
                wanted: Arc::clone(wanted),
                outputs: self.outputs.clone(),
            };
            tasks.spawn(control.run(self.stop.clone()));
        }
        tasks
    }
}

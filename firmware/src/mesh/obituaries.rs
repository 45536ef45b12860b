//! Judges the obituaries that come in at the mesh's port, by what peers' connections have proved, and brings the good
//! ones to the node.

use std::time::Instant;

use link::obituary::{Coroner, Judgement};
use link::sites::certificate;
use quinn::Connection;
use shared::ids::{BoardId, Epoch};
use tokio::sync::mpsc;

use super::lives::{Greeted, Kind};
use super::{MeshOutputs, count};

/// Peers that said hello and wait to be learnt. At the limit the one who greets waits.
pub(super) const LEARNT_MAX: usize = 64;

/// A peer's life, as a connection has proved it.
#[derive(Debug)]
pub(super) struct Proof {
    peer: BoardId,
    connection: Connection,
    life: u64,
}

impl MeshOutputs {
    /// `peer` has said hello in the life `epoch` on `connection`, which stands from now on; or why it is closed.
    pub(super) async fn learn(
        &self,
        peer: BoardId,
        connection: &Connection,
        kind: Kind,
        epoch: Epoch,
    ) -> Result<(), String> {
        let Greeted { refused, event } = self.lives.greet(peer, epoch, kind, connection);
        if let Some(event) = event {
            // Where many wait to be told, one line less harms nobody.
            let _ = self.events.try_send(event);
        }
        if let Some(why) = refused {
            return Err(why);
        }
        let proof = Proof { peer, connection: connection.clone(), life: epoch.nonce };
        // Where nobody learns, this board stops.
        let _ = self.proofs.send(proof).await;
        Ok(())
    }
}

/// Runs until the queues are closed.
pub(super) async fn judge(
    mut coroner: Coroner,
    mut proofs: mpsc::Receiver<Proof>,
    mut obituaries: mpsc::Receiver<Vec<u8>>,
    outputs: MeshOutputs,
) {
    loop {
        tokio::select! {
            biased;
            Some(Proof { peer, connection, life }) = proofs.recv() => {
                if let Some(certificate) = certificate(&connection) {
                    coroner.learn(peer, certificate, life);
                }
            }
            Some(datagram) = obituaries.recv() => match coroner.judge(&datagram, Instant::now()) {
                Judgement::Ended { board, life } => {
                    count(&outputs.counts.obituaries);
                    tracing::info!(%board, life, "its supervisor says that this life has ended");
                    if outputs.obituaries.send((board, life)).await.is_err() {
                        return;
                    }
                }
                Judgement::Known => {}
                Judgement::Bad => count(&outputs.counts.obituaries_bad),
                Judgement::TooMany => count(&outputs.counts.obituaries_dropped),
            },
            else => return,
        }
    }
}

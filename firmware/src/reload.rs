//! The list of boards, read again while this board runs: from its configuration's [[peer]], checked as at the start. Owns
//! what may change so; everything else in the file waits for the next start.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use shared::ids::{BoardId, Name};
use shared::limits::CONFIG_BYTES_MAX;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::admin;
use crate::config::BoardConfig;
use crate::drive::Snapshot;
use crate::mesh::Addresses;

/// Reads the file and brings its boards to the node.
#[derive(Debug)]
pub(crate) struct Reloader {
    file: PathBuf,
    site: Name,
    board: BoardId,
    /// What the mesh dials now.
    current: watch::Receiver<Addresses>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    wanted: mpsc::Sender<Addresses>,
}

impl Reloader {
    /// One for `config`, and what it will bring.
    pub(crate) fn new(
        config: &BoardConfig,
        current: watch::Receiver<Addresses>,
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    ) -> (Self, mpsc::Receiver<Addresses>) {
        let (wanted, boards) = mpsc::channel(1);
        let (site, board) = (config.node.site.clone(), config.node.board);
        (Self { file: config.file.clone(), site, board, current, snapshots, wanted }, boards)
    }

    /// Reads it now: the word that is answered, or why it cannot be.
    pub(crate) fn read(&self) -> Result<&'static str, String> {
        let config = self.parse()?;
        if (&config.node.site, config.node.board) != (&self.site, self.board) {
            let (board, site) = (config.node.board, &config.node.site);
            return Err(format!("{} is {board}'s of site {site} now", self.file.display()));
        }
        let boards = config.node.boards;
        let votes = |number: &&u8| BoardId::new(**number).is_some_and(|board| !boards.contains(board));
        let snapshot = self.snapshots.borrow().clone();
        if let Some(voter) = snapshot
            .as_ref()
            .and_then(|snapshot| snapshot.status.vote.boards.iter().find(votes))
        {
            return Err(format!("board-{voter} still votes: take its vote first, with `roadstead voters`"));
        }
        if *self.current.borrow() == config.peers {
            return Ok("already");
        }
        let peers = config.peers.len();
        self.wanted
            .try_send(config.peers)
            .map_err(|_| "the list that was read before is still on its way".to_owned())?;
        tracing::info!(file = %self.file.display(), peers, "the list of boards was read again");
        Ok("begun")
    }

    fn parse(&self) -> Result<BoardConfig, String> {
        let cannot = |error| format!("cannot read {}: {error}", self.file.display());
        let mut bytes = Vec::new();
        let limit = CONFIG_BYTES_MAX as u64 + 1;
        File::open(&self.file)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(cannot)?;
        BoardConfig::parse(&self.file, &bytes).map_err(|refusal| refusal.to_string())
    }
}

/// Does it at every SIGHUP.
pub(crate) async fn on_hangup(reload: admin::Reload) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        if let Err(why) = reload() {
            tracing::error!(why, "the list of boards stays as it was");
        }
    }
}

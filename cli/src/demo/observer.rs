//! Looks at the boards and at the store over and over, for the screen and for the end of the drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shared::ids::Name;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::region;
use super::site::{BoardStatus, ask};

/// Between two looks at the boards.
const BOARDS_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at the store: the drain is measured as finely as this.
const STORE_EVERY: Duration = Duration::from_millis(50);

/// What is seen, as of the latest looks. Looking ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Observer {
    boards: watch::Receiver<Vec<Option<BoardStatus>>>,
    stored: watch::Receiver<u64>,
    _looking: JoinSet<()>,
}

impl Observer {
    /// Begins to look at the boards whose HTTP faces are `faces`, and at the store of `site` in `dir`.
    pub(crate) fn start(faces: Vec<SocketAddr>, dir: PathBuf, site: Name) -> Self {
        let (tell_boards, boards) = watch::channel(vec![None; faces.len()]);
        let (tell_stored, stored) = watch::channel(0);
        let mut looking = JoinSet::new();
        looking.spawn(look_at_boards(faces, tell_boards));
        looking.spawn(look_at_store(dir, site, tell_stored));
        Self { boards, stored, _looking: looking }
    }

    /// What each board last said; `None` where it did not answer.
    pub(crate) fn boards(&self) -> Vec<Option<BoardStatus>> {
        self.boards.borrow().clone()
    }

    /// Readings in the store.
    pub(crate) fn stored(&self) -> u64 {
        *self.stored.borrow()
    }

    /// Returns once the store holds `readings` readings.
    pub(crate) async fn holds(&self, readings: u64) {
        let mut stored = self.stored.clone();
        // An error means that nobody looks any more: then nothing more will be seen.
        if stored.wait_for(|stored| *stored >= readings).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn look_at_boards(faces: Vec<SocketAddr>, tell: watch::Sender<Vec<Option<BoardStatus>>>) {
    loop {
        let mut asking = JoinSet::new();
        for (at, face) in faces.iter().copied().enumerate() {
            asking.spawn(async move { (at, ask(face).await) });
        }
        let mut said = vec![None; faces.len()];
        while let Some(answer) = asking.join_next().await {
            if let Ok((at, status)) = answer {
                said[at] = status;
            }
        }
        tell.send_replace(said);
        tokio::time::sleep(BOARDS_EVERY).await;
    }
}

async fn look_at_store(dir: PathBuf, site: Name, tell: watch::Sender<u64>) {
    loop {
        let (dir, site) = (dir.clone(), site.clone());
        if let Ok(stored) = tokio::task::spawn_blocking(move || region::stored(&dir, &site)).await {
            tell.send_replace(stored);
        }
        tokio::time::sleep(STORE_EVERY).await;
    }
}

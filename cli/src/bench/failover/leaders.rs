//! Who says that it leads, for builds whose boards take no `[[duty]]`: each board is asked again and again over HTTP, and
//! what it says goes to the observer as a beat. Coarser than a duty's own beats, and never what a figure stands on.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ask;
use super::beat::{Beat, Stamp};
use super::namespace::Namespace;
use super::observer::Observer;
use super::site::inside;
use crate::failure::Failure;

/// Between two questions to one board.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// The threads that ask. They end with it.
#[derive(Debug)]
pub(super) struct Leaders {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Leaders {
    /// Asks each of `boards`, at its HTTP face and in its namespace, and tells `observer`.
    pub(super) fn watch<'n>(
        boards: impl Iterator<Item = (u8, SocketAddr, Option<&'n Namespace>)>,
        observer: &Observer,
    ) -> Result<Self, Failure> {
        let mut leaders = Self { ends: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        for (board, http, own) in boards {
            let (ends, towards) = (Arc::clone(&leaders.ends), observer.path().to_owned());
            let thread = inside(own, move || std::thread::spawn(move || follow(board, http, &towards, &ends)))?;
            leaders.threads.push(thread);
        }
        Ok(leaders)
    }
}

impl Drop for Leaders {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn follow(board: u8, http: SocketAddr, towards: &Path, ends: &AtomicBool) {
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let mut number = 0;
    while !ends.load(Ordering::Relaxed) {
        // The answer is as old as the question.
        let stamp = Stamp::now();
        if let Some(status) = ask::status(http) {
            let leads = !status["lease_remaining_ms"].is_null();
            let token = if leads { status["term"].as_u64().unwrap_or(0) } else { 0 };
            let beat = Beat { stamp, token, number, process: board.into(), board };
            number += 1;
            let _ = socket.send_to(&beat.bytes(), towards);
        }
        std::thread::sleep(ASK_EVERY);
    }
}

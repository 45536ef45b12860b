//! The observer: a socket on which whoever performs the duty says so, all day, and a thread that writes it down. It
//! stands outside the site: a unix socket with a path is reached from every network namespace, so a board whose cable
//! is pulled is seen as before. Owns the socket and the record; judges nothing.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::beat::{BEAT_BYTES, Beat, Stamp};

/// The thread looks so often whether it is to end.
const GLANCE: Duration = Duration::from_millis(100);
/// Beats kept at most, some ten minutes of them: whoever asks forgets what it has judged.
const KEPT_MAX: usize = 1_500_000;

/// The observer. Its thread and its socket's file end with it.
#[derive(Debug)]
pub struct Observer {
    path: PathBuf,
    beats: Arc<Mutex<Vec<Beat>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Listens on `socket`, which is bound to `path`.
    ///
    /// # Errors
    /// Where no thread can be started or the socket cannot be set up.
    pub fn start(socket: UnixDatagram, path: &Path) -> io::Result<Self> {
        socket.set_read_timeout(Some(GLANCE))?;
        let beats = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        let (record, told) = (Arc::clone(&beats), Arc::clone(&ends));
        let thread = std::thread::Builder::new()
            .name("observer".to_owned())
            .spawn(move || listen(&socket, &record, &told))?;
        Ok(Self { path: path.to_owned(), beats, ends, thread: Some(thread) })
    }

    /// Where beats are sent to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that was heard with a stamp from `from` on.
    pub fn since(&self, from: Stamp) -> Vec<Beat> {
        locked(&self.beats).iter().filter(|beat| beat.stamp >= from).copied().collect()
    }

    /// Forgets what has a stamp before `before`.
    pub fn forget(&self, before: Stamp) {
        locked(&self.beats).retain(|beat| beat.stamp >= before);
    }

    /// Who acts now, if somebody did within the last `within`.
    pub fn acting(&self, within: Duration) -> Option<Beat> {
        let from = Stamp::now().minus(within);
        let recent = self.since(from);
        recent
            .into_iter()
            .filter(Beat::acts)
            .max_by_key(|beat| (beat.token, beat.stamp))
    }

    /// Boards from which something was heard within the last `within`: they act or stand by.
    pub fn ready(&self, within: Duration) -> Vec<u8> {
        let mut boards: Vec<u8> = self.since(Stamp::now().minus(within)).iter().map(|beat| beat.board).collect();
        boards.sort_unstable();
        boards.dedup();
        boards
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn listen(socket: &UnixDatagram, record: &Mutex<Vec<Beat>>, ends: &AtomicBool) {
    let mut bytes = [0; BEAT_BYTES + 1];
    while !ends.load(Ordering::Relaxed) {
        let Ok(count) = socket.recv(&mut bytes) else { continue };
        let Some(beat) = bytes.get(..count).and_then(Beat::read) else { continue };
        let mut beats = locked(record);
        if beats.len() < KEPT_MAX {
            beats.push(beat);
        }
    }
}

fn locked(beats: &Mutex<Vec<Beat>>) -> MutexGuard<'_, Vec<Beat>> {
    beats.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_written_down_until_it_is_forgotten() {
        let scratch = crate::scratch::Scratch::new("observer");
        let path = scratch.path().join("socket");
        let observer = Observer::start(UnixDatagram::bind(&path).unwrap(), &path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let mut beat = Beat { stamp: Stamp::now(), token: 4, number: 0, process: 1, board: 1 };
        sender.send_to(&beat.bytes(), &path).unwrap();
        sender.send_to(b"noise", &path).unwrap();
        beat = Beat { stamp: Stamp::now(), token: 0, number: 1, process: 2, board: 2 };
        sender.send_to(&beat.bytes(), &path).unwrap();
        let long = Duration::from_secs(60);
        while observer.since(Stamp(0)).len() < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(observer.acting(long).map(|beat| beat.board), Some(1));
        assert_eq!(observer.ready(long), [1, 2]);
        observer.forget(beat.stamp);
        assert_eq!(observer.since(Stamp(0)), [beat]);
        drop(observer);
        assert!(!path.exists());
    }
}

//! A vault's place in a bucket. Owns the lock there, which outlives a killed process for a while and no longer: it counts while
//! somebody renews it.
//!
//! The only clock that is trusted is the own one's pace: who finds a lock watches it, and takes it over once it has not changed for
//! [`DEAD_AFTER`]. Who holds one renews it every [`RENEW_EVERY`], and gives up where it finds another's.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use super::place::{Hold, Place, too_long};
use crate::objects::{ObjectError, ObjectPlace, Objects};

/// The lock's object.
const LOCK: &str = "lock";
/// Bytes of it: who holds it, and a number that changes with each renewal.
const LOCK_BYTES_MAX: u64 = 256;
/// A lock that has not changed for so long is a dead one's: six renewals.
const DEAD_AFTER: Duration = Duration::from_secs(60);
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at another's lock.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Objects of a list; more pieces a vault may not have.
const LISTED_MAX: usize = 8 * 1024 * 1024;

/// A bucket, or what begins with a prefix there.
pub struct Bucket {
    objects: Arc<Objects>,
    runtime: Arc<Runtime>,
    dead_after: Duration,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.objects)
    }
}

impl Bucket {
    /// Opens the place. Must not be used within an asynchronous task: it blocks.
    pub fn open(place: &ObjectPlace) -> Result<Self, ObjectError> {
        Self::open_with(place, DEAD_AFTER)
    }

    /// The same, with another idea of when a lock that nobody renews is a dead one's.
    pub fn open_with(place: &ObjectPlace, dead_after: Duration) -> Result<Self, ObjectError> {
        let unusable = |source| ObjectError::File { path: "/dev/null".into(), source };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(unusable)?;
        Ok(Self { objects: Arc::new(Objects::open(place)?), runtime: Arc::new(runtime), dead_after })
    }

    /// The lock as it is; `None` where there is none.
    fn look(&self) -> io::Result<Option<Bytes>> {
        self.runtime.block_on(self.objects.get(LOCK, LOCK_BYTES_MAX)).map_err(passed_on)
    }

    /// Whether the lock that is there is a dead one's: watches it. It may go meanwhile, too.
    fn is_left_over(&self) -> io::Result<bool> {
        let seen = self.look()?;
        let begun = Instant::now();
        while begun.elapsed() < self.dead_after {
            thread::sleep(LOOK_EVERY.min(self.dead_after / 4));
            if self.look()? != seen {
                return Ok(false);
            }
        }
        Ok(seen.is_some())
    }
}

impl Place for Bucket {
    fn shown(&self) -> String {
        self.objects.to_string()
    }

    fn list(&self, under: &str, each: &mut dyn FnMut(&str)) -> io::Result<()> {
        let found = self.runtime.block_on(self.objects.list(under, LISTED_MAX)).map_err(passed_on)?;
        // A list that is cut off would make what it lacks look gone.
        if found.len() == LISTED_MAX {
            return Err(io::Error::other("it has more objects than can be listed"));
        }
        found.iter().for_each(|found| each(&found.name));
        Ok(())
    }

    fn get(&self, name: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let got = self.runtime.block_on(self.objects.get(name, bytes_max as u64));
        Ok(got.map_err(passed_on)?.map(Vec::from))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let put = self.objects.put(name, Bytes::copy_from_slice(bytes));
        self.runtime.block_on(put).map_err(passed_on)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.runtime.block_on(self.objects.delete(name)).map_err(passed_on)
    }

    /// A service answers once it has what was put.
    fn settle(&self) -> io::Result<()> {
        Ok(())
    }

    fn hold(&self) -> io::Result<Option<Box<dyn Hold>>> {
        let own = link::entropy::draw()?;
        let first = lock_text(own, 0);
        let put = || {
            self.runtime
                .block_on(self.objects.put_new(LOCK, first.clone()))
                .map_err(passed_on)
        };
        if !put()? {
            // An answer that was lost makes our own lock look like another's.
            let is_ours = self.look()?.is_some_and(|seen| seen == first);
            if !is_ours {
                if !self.is_left_over()? {
                    return Ok(None);
                }
                self.remove(LOCK)?;
                if !put()? {
                    return Ok(None);
                }
            }
        }
        // A service that knows no "only where there is none" lets two put one after the other: the later one's stands.
        if self.look()?.is_none_or(|seen| seen != first) {
            return Ok(None);
        }
        Ok(Some(Box::new(Lease::keep(own, Arc::clone(&self.objects), Arc::clone(&self.runtime))?)))
    }
}

fn lock_text(own: u64, renewal: u64) -> Bytes {
    format!("{own:016x} {renewal} process {}\n", std::process::id()).into()
}

/// A lock that is renewed until it is dropped.
#[derive(Debug)]
struct Lease {
    own: u64,
    objects: Arc<Objects>,
    runtime: Arc<Runtime>,
    stop: Option<Sender<()>>,
    renewing: Option<JoinHandle<()>>,
}

impl Lease {
    fn keep(own: u64, objects: Arc<Objects>, runtime: Arc<Runtime>) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let (theirs, running) = (Arc::clone(&objects), Arc::clone(&runtime));
        let renew = move || {
            let mut renewal = 0;
            while stopped.recv_timeout(RENEW_EVERY) == Err(RecvTimeoutError::Timeout) {
                renewal += 1;
                // One that fails is followed by another; who waits for it in vain is told by `is_held`.
                match is_still(own, &theirs, &running) {
                    Ok(true) => drop(running.block_on(theirs.put(LOCK, lock_text(own, renewal)))),
                    Ok(false) => return,
                    Err(_) => {}
                }
            }
        };
        let renewing = thread::Builder::new().name("backup lock".to_owned()).spawn(renew)?;
        Ok(Self { own, objects, runtime, stop: Some(stop), renewing: Some(renewing) })
    }
}

fn is_still(own: u64, objects: &Objects, runtime: &Runtime) -> io::Result<bool> {
    let seen = runtime.block_on(objects.get(LOCK, LOCK_BYTES_MAX)).map_err(passed_on)?;
    Ok(seen.is_some_and(|seen| seen.starts_with(format!("{own:016x} ").as_bytes())))
}

impl Hold for Lease {
    fn is_held(&self) -> io::Result<bool> {
        is_still(self.own, &self.objects, &self.runtime)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(renewing) = self.renewing.take() {
            // It has nothing to say.
            let _ = renewing.join();
        }
        if self.is_held().unwrap_or(false) {
            // One that stays is taken for a dead one's after a while.
            let _ = self.runtime.block_on(self.objects.delete(LOCK));
        }
    }
}

fn passed_on(error: ObjectError) -> io::Error {
    match error {
        ObjectError::TooLong { .. } => too_long(),
        other => io::Error::other(other),
    }
}

//! The S3 service of this run of tests: one for all that run at the same time, ended with the last of them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gateway::objects::own::OwnService;
use gateway::objects::{ObjectPlace, Objects};

use crate::scratch::Scratch;

/// Names SeaweedFS's program; with it its absence is a failure.
const PROGRAM: &str = "ROADSTEAD_S3";

pub(crate) struct Bucket {
    /// Before the directory that it lies in.
    running: Mutex<OwnService>,
    scratch: Scratch,
}

impl Bucket {
    /// The one that runs already, or a new one; `None`, and said so, where there is no program.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Bucket>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::alone()?);
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    /// One for a test that kills it.
    pub(crate) fn alone() -> Option<Self> {
        let Some(program) = std::env::var_os(PROGRAM).map(PathBuf::from) else {
            eprintln!("NOT TRIED: there is no S3 server here; `cargo xtask test --tier s3` fetches one");
            return None;
        };
        let scratch = Scratch::new();
        let running = OwnService::start(&program, &scratch.path().join("s3")).unwrap();
        Some(Self { running: Mutex::new(running), scratch })
    }

    pub(crate) fn running(&self) -> MutexGuard<'_, OwnService> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place there that nothing else has.
    pub(crate) fn place(&self) -> ObjectPlace {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let prefix = format!("archive-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.running().place("region", &prefix).unwrap()
    }

    pub(crate) fn objects(&self) -> Objects {
        Objects::open(&self.place()).unwrap()
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.scratch.path()
    }
}

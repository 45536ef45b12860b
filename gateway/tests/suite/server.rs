//! The PostgreSQL server of this run of tests: one for all that run at the same time, ended with the last of them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gateway::store::postgres::own::{OwnServer, programs};

use crate::scratch::Scratch;

/// Names the folder of the server's programs; with it their absence is a failure.
const PROGRAMS: &str = "ROADSTEAD_POSTGRES";

pub(crate) struct Server {
    /// Before the directory that it lies in.
    running: Mutex<OwnServer>,
    _scratch: Scratch,
}

impl Server {
    /// The one that runs already, or a new one; `None`, and said so, where there are no programs.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::alone()?);
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    /// One for a test that stops it.
    pub(crate) fn alone() -> Option<Self> {
        let told = std::env::var_os(PROGRAMS).map(PathBuf::from);
        let Some(programs) = told.or_else(programs) else {
            eprintln!("NOT TRIED: there is no PostgreSQL here; `cargo xtask test --tier postgres` fetches one");
            return None;
        };
        let scratch = Scratch::new();
        let running = OwnServer::start(&programs, &scratch.path().join("postgres")).unwrap();
        Some(Self { running: Mutex::new(running), _scratch: scratch })
    }

    pub(crate) fn running(&self) -> MutexGuard<'_, OwnServer> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

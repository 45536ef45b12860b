//! The region's memory: one SQLite file with one writer. Blocks, rows, coverage, fences and counts change together in
//! one transaction, synced before it is reported. What is new and what is a row is decided by `shared::region`; here it
//! is looked up and written.
//!
//! | file | what |
//! |---|---|
//! | `region.sqlite`, `-wal`, `-shm` | the store |
//! | `lock` | held while a gateway runs, so that there is one writer |

pub mod backup;
mod counts;
mod deposit;
mod desk;
mod ids;
mod look;
pub mod read;
mod schema;
mod thread;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use shared::hub::{HubMemory, Stored};
use shared::ids::{Name, Stream, Term};
use shared::ranges::RangeSet;
use shared::time::WallMillis;
use shared::wire::uplink::Block;

pub(crate) use self::desk::{Desk, Unanswered};
pub(crate) use self::thread::{Done, Job, StoreThread};

/// Name of the store's file in the data directory.
pub const FILE: &str = "region.sqlite";
/// Events kept; the oldest go first.
pub const EVENTS_MAX: u64 = 10_000;

/// Why the store cannot be opened or has not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory cannot be used. The operator's to mend.
    #[error("cannot use {path}: check that it is a directory that this user may write", path = path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another gateway has it. Nothing was touched.
    #[error("another gateway runs on {path}: stop it, or give this one its own data_dir", path = path.display())]
    Locked {
        /// Which directory.
        path: PathBuf,
    },
    /// Written by another version, or by something else. Nothing was touched.
    #[error("{path} has layout {found}, this build knows {known}: use the build that wrote it", path = path.display(), known = schema::VERSION)]
    Layout {
        /// Which file.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// The database refuses. Nothing of the transaction is stored.
    #[error("the store's database failed")]
    Database(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether trying again later can help: the disk is full or a reader is in the way. Everything else ends the
    /// process: after a failed write or sync nobody knows what the file holds until it is opened afresh.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Directory { .. } | Self::Locked { .. } | Self::Layout { .. } => false,
            Self::Database(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            ),
        }
    }
}

/// What one site adds in a transaction.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// Which site.
    pub site: Name,
    /// The fence to write, if it rises.
    pub fence: Option<Term>,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
}

/// Something to remember for people.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Of which site, if of one.
    pub site: Option<Name>,
    /// When, by the region's wall clock.
    pub at: WallMillis,
    /// The event's name.
    pub name: &'static str,
    /// What happened, in words.
    pub detail: String,
}

/// The store, open for writing.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    ids: ids::Ids,
    /// Held for its lock.
    _lock: File,
}

impl Store {
    /// Opens the store in `dir`, making both where they do not exist, and tells what it remembers.
    ///
    /// The incarnation is drawn anew at every opening: a store cannot know that it was restored from an older copy, and
    /// all that a new number costs is that sites ask for the coverage again.
    pub fn open(dir: &Path) -> Result<(Self, HubMemory), StoreError> {
        let unusable = |source| StoreError::Directory { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        let lock = lock(dir)?;
        let mut connection = schema::open(&dir.join(FILE))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;
        let incarnation = link::entropy::draw().map_err(unusable)?;
        let memory = schema::remember(&mut connection, incarnation)?;
        Ok((Self { connection, ids: ids::Ids::default(), _lock: lock }, memory))
    }

    /// In one transaction, in order: each site's fence and blocks, and what happened. On success it is synced, and each
    /// deposit has one outcome a block; a block that does not hold together left nothing behind and spares the rest. On
    /// an error nothing is stored.
    pub fn transact(
        &mut self,
        deposits: &[Deposit],
        happenings: &[Happening],
        now: WallMillis,
    ) -> Result<Vec<Vec<Stored>>, StoreError> {
        let result = self.try_transact(deposits, happenings, now);
        if result.is_err() {
            // Identities that the transaction gave out are gone with it.
            self.ids.forget();
        }
        result
    }

    fn try_transact(
        &mut self,
        deposits: &[Deposit],
        happenings: &[Happening],
        now: WallMillis,
    ) -> Result<Vec<Vec<Stored>>, StoreError> {
        // Immediate: the one writer takes its lock first, and never fails half-way for want of it.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut filing = deposit::Filing::new(&transaction, &mut self.ids, now);
        let stored = deposits
            .iter()
            .map(|deposit| filing.deposit(deposit))
            .collect::<Result<Vec<_>, _>>()?;
        filing.happenings(happenings)?;
        transaction.commit()?;
        Ok(stored)
    }

    /// What is covered of these streams of `site`; streams that the store does not know are left out.
    pub fn load(&mut self, site: &Name, streams: &[Stream]) -> Result<Vec<(Stream, RangeSet)>, StoreError> {
        let mut loaded = Vec::new();
        for stream in streams {
            if let Some(id) = self.ids.find_stream(&self.connection, site, stream)? {
                loaded.push((*stream, deposit::coverage(&self.connection, id)?));
            }
        }
        Ok(loaded)
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let unusable = |source| StoreError::Directory { path: dir.to_owned(), source };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .map_err(unusable)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked { path: dir.to_owned() }),
        Err(errno) => Err(unusable(errno.into())),
    }
}

//! The region's memory: blocks, rows, coverage, fences and counts change together in one transaction, durable before it is
//! reported. What is new and what is a row is decided by `shared::region`; here it is looked up and written.
//!
//! ```text
//! store thread ──▶ trait Store ───────┬─ SqliteStore:   one file in the data directory, one gateway
//! desk (API) ────▶ trait StoreReader ─┘
//! ```
//!
//! | module | what |
//! |---|---|
//! | `sqlite` | the store in a file of its own |
//! | `read` | what is asked of a store, and the answers |
//! | `counts` | how a stream's figures come out of what is stored |
//! | `backup` | copies of the file |
//! | `thread`, `desk` | the thread that writes, and the one that answers |

pub mod backup;
mod counts;
mod desk;
pub mod read;
mod sqlite;
mod thread;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use shared::hub::Stored;
use shared::ids::{Name, Stream, Term};
use shared::ranges::RangeSet;
use shared::time::WallMillis;
use shared::wire::uplink::Block;

pub(crate) use self::desk::{Desk, Unanswered};
pub use self::sqlite::{FILE, SqliteReader, SqliteStore};
pub(crate) use self::thread::{Done, Job, StoreThread};

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
    #[error("{path} has layout {found}, this build knows {known}: use the build that wrote it", path = path.display(), known = sqlite::schema::VERSION)]
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

/// A region's store, open for writing. It promises, whatever it is made of:
///
/// * A record is stored once by its address (origin, epoch, class, sequence), and a reading is a row once by its publisher's
///   key, whoever sends it, how often and in whatever order.
/// * Coverage and rows change in the same transaction: what is covered is stored, and what is stored is covered.
/// * What [`transact`](Self::transact) has returned is durable. What it has refused is not there.
/// * Two that write the same place at once are put in order; neither loses or doubles what the other has written.
pub trait Store: fmt::Debug + Send {
    /// In one transaction, in order: each site's fence and blocks, and what happened. On success it is durable, and each
    /// deposit has one outcome a block; a block that does not hold together left nothing behind and spares the rest. On
    /// an error nothing is stored. A fence is never lowered.
    fn transact(
        &mut self,
        deposits: &[Deposit],
        happenings: &[Happening],
        now: WallMillis,
    ) -> Result<Vec<Vec<Stored>>, StoreError>;

    /// What is covered of these streams of `site`; streams that the store does not know are left out.
    fn load(&mut self, site: &Name, streams: &[Stream]) -> Result<Vec<(Stream, RangeSet)>, StoreError>;
}

/// Holds a directory for this process alone.
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

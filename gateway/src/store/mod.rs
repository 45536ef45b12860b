//! The region's memory: blocks, rows, coverage, fences and counts change together in one transaction, durable before it is
//! reported. What is new and what is a row is decided by `shared::region`; here it is looked up and written.
//!
//! ```text
//! store thread ──▶ trait Store ───────┬─ SqliteStore, SqliteReader:     one file in the data directory, one gateway
//! desk (API) ────▶ trait StoreReader ─┴─ PostgresStore, PostgresReader: a database, any number of gateways
//! ```
//!
//! | module | what |
//! |---|---|
//! | `sqlite` | the store in a file of its own |
//! | `postgres` | the store in a database |
//! | `read` | what is asked of a store, and the answers |
//! | `parts` | what leaves a store: for the archive, and for good |
//! | `counts` | how a stream's figures come out of what is stored |
//! | `backup` | copies of the file |
//! | `thread`, `desk` | the thread that writes, and the one that answers |

pub mod backup;
mod counts;
mod desk;
mod lots;
pub mod parts;
pub mod postgres;
pub mod read;
mod sqlite;
mod thread;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use shared::hub::Stored;
use shared::ids::{Name, Stream, Term};
use shared::ranges::RangeSet;
use shared::time::WallMillis;
use shared::wire::uplink::Block;

pub(crate) use self::desk::{Desk, Unanswered};
use self::parts::{Expired, Expiry, Part};
pub use self::postgres::{Fault, PostgresLoads, PostgresPlace, PostgresReader, PostgresStore};
pub use self::sqlite::{FILE, SqliteReader, SqliteStore};
pub(crate) use self::thread::{Done, Errand, Job, StoreThread};

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
    /// The PostgreSQL server did not do what it was asked. Nothing of the transaction is stored, but where a commit had no
    /// answer and the server is away since: then it is found out before anything else is stored.
    #[error("{fault}")]
    Postgres {
        /// What kind of failure.
        fault: Fault,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The PostgreSQL server took what it was asked and said nothing. The connection is given up; what that means for the
    /// transaction is as where the server is away.
    #[error("the store's database takes what it is asked and does not answer")]
    Silent,
    /// This machine lacks what a connection needs. Nothing of the transaction is stored.
    #[error("this machine has no room for a connection to the store's database")]
    NoRoom(#[source] io::Error),
    /// A file that the configuration names for the way to the database cannot be used. The operator's to mend.
    #[error("cannot use {path}, which [store] names", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database has tables of another version. Nothing was touched.
    #[error(
        "the database's schema roadstead has layout {found}, this build knows {known}: use the build that wrote it"
    )]
    Tables {
        /// Their layout; 0 where none is named.
        found: i32,
        /// This build's.
        known: i32,
    },
    /// What is acknowledged would not be safe in this database. The operator's to mend; nothing was stored.
    #[error("the database will not do: {wrong}")]
    Unsafe {
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// The database lacks what it has acknowledged: it was restored, or a standby without the last commits became primary. The
    /// process must end: the next one has a new incarnation, and sites send again what they retain.
    #[error(
        "the database has forgotten some of the {known} transactions that it had committed: the gateway begins anew"
    )]
    Forgotten {
        /// How many this gateway knows.
        known: u64,
    },
    /// A row that must be there is not, or holds what none can.
    #[error("the store's database lacks a row that it must have, or has one that cannot be")]
    Vanished,
}

impl StoreError {
    /// Whether trying again later can help: the disk is full, a reader is in the way, the server is away. Everything else ends the
    /// process: after a failed write or sync nobody knows what the file holds until it is opened afresh.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Directory { .. }
            | Self::Locked { .. }
            | Self::Layout { .. }
            | Self::Unreadable { .. }
            | Self::Tables { .. }
            | Self::Unsafe { .. }
            | Self::Forgotten { .. }
            | Self::Vanished => false,
            Self::Silent | Self::NoRoom(_) => true,
            Self::Postgres { fault, .. } => match fault {
                Fault::Away | Fault::Busy | Fault::Conflict => true,
                Fault::Refused => false,
            },
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
/// * Coverage stays when rows expire: what was stored once is never stored again under its address.
/// * Nothing expires that is in a part, unless the part is noted as archived.
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

    /// Plans the next part of `site`: blocks of one day, received before `before`, that are in no part yet; as many as a part
    /// holds. `None` where there are none.
    fn plan(&mut self, site: &Name, before: WallMillis) -> Result<Option<Part>, StoreError>;

    /// Notes that `part` is in the archive, in an object of so many bytes that was read back. False, and nothing changed, where it was
    /// noted before.
    fn archived(&mut self, part: &Part, bytes: u64, now: WallMillis) -> Result<bool, StoreError>;

    /// Removes blocks with their records, and counts these as expired; how many of each site. What is gone already, what came into
    /// a part meanwhile, and what is in a part that waits, stays as it is.
    fn expire(&mut self, expiry: &Expiry<'_>) -> Result<Expired, StoreError>;
}

/// What root makes in another user's directory is that user's.
fn leave_to_owner(file: &File, dir: &Path) -> io::Result<()> {
    let (own, above) = (file.metadata()?, std::fs::metadata(dir)?);
    if own.uid() == 0 && above.uid() != 0 {
        fchown(file, Some(above.uid()), Some(above.gid()))?;
    }
    Ok(())
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
    leave_to_owner(&file, dir).map_err(unusable)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked { path: dir.to_owned() }),
        Err(errno) => Err(unusable(errno.into())),
    }
}

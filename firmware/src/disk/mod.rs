//! A board's directory on disk: journal segments, the state that must outlive a power cut, and a lock. Does what the
//! node asks on threads of its own, one a lane, and stops for good at the first failure: after a failed sync nobody
//! knows what the disk holds until it is read again, so the process ends and recovers.
//!
//! ```text
//! <data_dir>/              0700, this board's alone
//!   lock                   held (flock) as long as the process lives
//!   state                  two slots of one page: start counter, nonce, reserved election terms
//!   wear                   two slots of one page: what was written in the board's whole life
//!   NNNNNNNNNNNNNNNN.seg   a journal segment, its number in hexadecimal
//!   NNNNNNNNNNNNNNNN.free  a file that was one, holds nothing, and becomes another
//! ```

mod files;
mod lanes;
mod recover;
mod state;
pub mod system;
pub mod volume;
mod wear;
mod worker;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use shared::action::Memory;
use shared::ids::{BoardId, Epoch, Name};
use shared::journal::recover::Recovered;

use crate::keys::Keys;
pub(crate) use files::parse_segment;
pub(crate) use state::copies as state_copies;
use system::System;
use volume::{Found, Volume};
pub use wear::{Wear, Worn};
pub(crate) use worker::SYNC_BUCKETS_MICROS;
pub use worker::{Disk, DiskGauge};

/// Bits that keep everyone but the owner out.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A failed effect on the board's directory.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused. What the disk holds of the effect is unknown until it is read again.
    #[error("cannot {verb} {path}", path = path.display())]
    System {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process has the directory. Nothing was changed.
    #[error("{path} is in use by another process: one board, one directory, one process", path = path.display())]
    Locked {
        /// The lock's file.
        path: PathBuf,
    },
    /// Neither copy of the state can be read. Nothing was changed.
    #[error("both copies in {path} are damaged, so it is unknown what this board has promised; set the directory \
             aside and start with an empty one: the board then refills from its peers", path = path.display())]
    StateDamaged {
        /// The state's file.
        path: PathBuf,
    },
    /// There are segments but no state. Nothing was changed.
    #[error("{path} is missing although journal segments stand beside it; restore it with them, or set the whole \
             directory aside", path = path.display())]
    StateMissing {
        /// The state's file.
        path: PathBuf,
    },
    /// The directory belongs to another board. Nothing was changed.
    #[error("{path} belongs to {board} of site {site}; each board needs its own data_dir", path = path.display())]
    AnotherBoard {
        /// The state's file.
        path: PathBuf,
        /// Whose it is.
        board: BoardId,
        /// Of which site.
        site: String,
    },
    /// There are encrypted blocks, and no keys are configured. Nothing was changed.
    #[error("the journal in {data_dir} is encrypted under key {key}, and the configuration names no file of keys: say \
             `key` in [journal]", data_dir = data_dir.display())]
    Encrypted {
        /// The directory.
        data_dir: PathBuf,
        /// The key's name.
        key: String,
    },
    /// There are blocks encrypted under a key that is not among those at hand. Nothing was changed.
    #[error("the journal in {data_dir} is encrypted under key {key}, which is not in {file} (it has {known}): give the \
             file that this board had before", data_dir = data_dir.display(), file = file.display())]
    WrongKey {
        /// The directory.
        data_dir: PathBuf,
        /// The key's name.
        key: String,
        /// The file of keys.
        file: PathBuf,
        /// Names of the keys in it.
        known: String,
    },
    /// A block could not be encrypted; it was not written.
    #[error("a block cannot be encrypted with the keys of {path}", path = path.display())]
    Unsealed {
        /// The file of keys.
        path: PathBuf,
    },
}

impl DiskError {
    fn system<P: AsRef<Path>>(verb: &'static str, path: P) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { verb, path: path.as_ref().to_owned(), source }
    }

    /// Whether the device, or what of it this process may use, is full.
    fn is_for_want_of_room(&self) -> bool {
        let full =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, Self::System { source, .. } if full(source))
    }
}

/// What a start of the board finds, all of it durable.
#[derive(Debug)]
pub struct Opened {
    /// This life of the journal.
    pub epoch: Epoch,
    /// What its voter must not forget, with election terms reserved for this life.
    pub memory: Memory,
    /// What earlier lives left.
    pub recovered: Recovered,
    /// The directory, ready for jobs.
    pub disk: Disk,
}

/// Opens `data_dir` for `board` of `site`, making it where it does not exist: takes the lock, reads the journal,
/// makes what was read durable, and begins a new life of the journal with `nonce`. Blocks until the disk has done it.
pub fn open(data_dir: &Path, site: &Name, board: BoardId, nonce: u64) -> Result<Opened, DiskError> {
    open_with(data_dir, (site, board), nonce, None)
}

/// The same of a journal that is encrypted with `keys`.
pub fn open_with(
    data_dir: &Path,
    owner: (&Name, BoardId),
    nonce: u64,
    keys: Option<Keys>,
) -> Result<Opened, DiskError> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(data_dir)
        .map_err(DiskError::system("make the directory", data_dir))?;
    let lock = lock(data_dir)?;
    let Found { epoch, memory, recovered, volume } = Volume::open_with(Arc::new(System), data_dir, owner, nonce, keys)?;
    Ok(Opened { epoch, memory, recovered, disk: Disk::start(volume, lock) })
}

fn lock(data_dir: &Path) -> Result<File, DiskError> {
    let path = data_dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(&path)
        .map_err(DiskError::system("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DiskError::Locked { path }),
        Err(errno) => Err(DiskError::system("lock", &path)(errno.into())),
    }
}

#[cfg(test)]
mod lane_tests;
#[cfg(test)]
mod tests;

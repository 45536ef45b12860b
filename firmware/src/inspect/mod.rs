//! Looks at a board's data directory from outside, whether a board runs on it or none does: takes no lock, writes
//! nothing, and copes with segments that appear, grow, are recycled and disappear meanwhile. Owns what is read and what is
//! made of it; how that is shown is the command line's.

mod suspicion;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod verdict;
pub mod walk;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use shared::ids::{BoardId, Epoch, Name, SegmentId, Stream};
use shared::limits::INSPECTED_NAMES_MAX;
use shared::ranges::SeqRange;
use shared::record::{Gap, Kind, Reading};

use crate::disk::{parse_segment, state_copies};

/// Why a directory cannot be looked at. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The system refused.
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
    /// It is something else.
    #[error("{path} {what}", path = path.display())]
    NotJournal {
        /// What was given.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to give instead.
        remedy: String,
    },
}

impl InspectError {
    fn system(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { verb, path: path.to_owned(), source }
    }
}

/// One copy of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateCopy {
    /// Whether its checksum holds.
    pub whole: bool,
    /// Number of the change that it says.
    pub change: Option<u64>,
}

/// What the state file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Its two copies.
    pub copies: [StateCopy; 2],
    /// Whose directory it is, by the newest whole copy.
    pub owner: Option<Owner>,
}

/// Whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The board.
    pub board: u8,
    /// Its site.
    pub site: Name,
    /// Starts of the board so far.
    pub boot: u32,
    /// Drawn at the last start.
    pub nonce: u64,
}

/// A stream as reports name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StreamName {
    /// Board whose records they are.
    pub board: u8,
    /// In which of its lives.
    pub boot: u32,
    /// The nonce of that life.
    pub nonce: u64,
    /// Which class.
    pub class: &'static str,
}

impl From<&Stream> for StreamName {
    fn from(stream: &Stream) -> Self {
        let Epoch { boot, nonce } = stream.origin.epoch;
        Self { board: stream.origin.board.get(), boot, nonce, class: stream.class.as_str() }
    }
}

/// Records of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Records {
    /// Of which stream.
    #[serde(flatten)]
    pub stream: StreamName,
    /// Which of them.
    #[serde(flatten)]
    pub range: SeqRange,
}

/// A board's data directory.
#[derive(Debug)]
pub struct JournalDir {
    path: PathBuf,
}

impl JournalDir {
    /// The directory at `path`, which must hold a journal: something else is refused with what it is.
    pub fn open(path: &Path) -> Result<Self, InspectError> {
        let not =
            |what, remedy: &str| InspectError::NotJournal { path: path.to_owned(), what, remedy: remedy.to_owned() };
        let about = fs::metadata(path).map_err(InspectError::system("look at", path))?;
        if !about.is_dir() {
            return Err(not("is a file", "give the directory that `data_dir` in board.toml names"));
        }
        let names = names(path)?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        if has("state") || names.iter().any(|name| parse_segment(Path::new(name)).is_some()) {
            return Ok(Self { path: path.to_owned() });
        }
        Err(if has("region.sqlite") {
            not("is a gateway's directory, not a board's", "ask the gateway: `roadstead status`, or its /api/sites")
        } else if names.iter().any(|name| name.ends_with(".votes")) {
            not("is a witness's directory, which holds no records", "give a board's data_dir")
        } else if has("board.toml") {
            let data = path.join("data");
            not("holds a board's configuration, not its journal", &format!("give its data_dir: {}", data.display()))
        } else if names.is_empty() {
            not("is empty", "a board makes its journal here at its first start")
        } else {
            not("holds no journal", "give the directory that `data_dir` in board.toml names")
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the state file says.
    pub fn state(&self) -> Result<State, InspectError> {
        let path = self.path.join("state");
        let slots = match File::open(&path) {
            // A copy that is being written looks torn: the other one is not, and a second look finds both.
            Ok(file) => {
                let first = state_copies(&file);
                if first.iter().all(Option::is_some) {
                    first
                } else {
                    state_copies(&file)
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => [None, None],
            Err(error) => return Err(InspectError::system("open", &path)(error)),
        };
        let owner = slots.iter().flatten().max_by_key(|slot| slot.change).map(|slot| Owner {
            board: slot.board.get(),
            site: slot.site.clone(),
            boot: slot.state.boot,
            nonce: slot.state.nonce,
        });
        let copies = slots.map(|slot| StateCopy { whole: slot.is_some(), change: slot.map(|slot| slot.change) });
        Ok(State { copies, owner })
    }

    /// Whether a process holds the directory's lock, as far as the kernel tells: locks of processes in other containers
    /// are not seen.
    pub fn is_in_use(&self) -> bool {
        let Ok(lock) = fs::metadata(self.path.join("lock")) else { return false };
        let (major, minor) = (rustix::fs::major(lock.dev()), rustix::fs::minor(lock.dev()));
        // proc(5): the device's numbers in hexadecimal, the inode's in decimal.
        let place = format!("{major:02x}:{minor:02x}:{}", lock.ino());
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.any(|word| word == "FLOCK") && words.any(|word| word == place)
        })
    }

    /// The segments that are there now, in rising order.
    pub fn segments(&self) -> Result<Vec<SegmentId>, InspectError> {
        let mut segments: Vec<SegmentId> = names(&self.path)?
            .iter()
            .filter_map(|name| parse_segment(Path::new(name)))
            .collect();
        segments.sort_unstable();
        Ok(segments)
    }

    /// The board whose directory it is, where the state says so.
    pub fn board(&self) -> Option<BoardId> {
        let owner = self.state().ok()?.owner?;
        BoardId::new(owner.board)
    }
}

/// What a gap record declares; `None` for a reading.
pub fn gap_of(reading: &Reading<'_>) -> Option<Gap> {
    if reading.kind != Kind::Gap {
        return None;
    }
    postcard::from_bytes(reading.payload).ok()
}

/// What stands in a directory; names that are no UTF-8 are nothing of ours.
fn names(path: &Path) -> Result<Vec<String>, InspectError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(InspectError::system("read", path))? {
        let name = entry.map_err(InspectError::system("read", path))?.file_name();
        if names.len() < INSPECTED_NAMES_MAX {
            names.extend(name.into_string());
        }
    }
    Ok(names)
}

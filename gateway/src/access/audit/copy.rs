//! The log as it is at one moment, for a backup: what is added meanwhile is left out.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::super::belonging;
use super::{DIRECTORY, HEAD, files, name};

/// A log at one moment.
#[derive(Debug)]
pub struct LogCopy {
    /// Each file by its name, open, and how much of it counts: it only grows.
    pub files: Vec<(String, File, u64)>,
    /// What `head` holds.
    pub head: (String, Vec<u8>),
}

/// The log in the data directory `data_dir`; `None` where nothing was written down there yet.
pub fn copy(data_dir: &Path) -> io::Result<Option<LogCopy>> {
    let dir = data_dir.join(DIRECTORY);
    if !dir.join(HEAD).exists() {
        return Ok(None);
    }
    let lock = belonging::open(&dir.join("lock"), false)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let mut open = Vec::new();
    for number in files(&dir)? {
        let name = name(number);
        let file = File::open(dir.join(&name))?;
        let bytes = file.metadata()?.len();
        open.push((name, file, bytes));
    }
    Ok(Some(LogCopy { files: open, head: (HEAD.to_owned(), fs::read(dir.join(HEAD))?) }))
}

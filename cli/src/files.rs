//! Files that commands read and write: bounded reading, whole writing, keys for their owner's eyes only.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use shared::limits::CONFIG_BYTES_MAX;

use crate::failure::Failure;

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Everybody on the machine: certificates, configurations. Mode 0644.
    All,
    /// The owner alone: keys. Mode 0600.
    Owner,
}

/// The bytes of a configuration file. One byte more than allowed is read, so that a longer file is seen to be one.
pub(crate) fn read_config(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error| {
        Failure::new(format!("cannot read {}", path.display()))
            .because(error)
            .remedy("give the path of a board.toml or gateway.toml, as `roadstead init` writes them")
    };
    let mut bytes = Vec::new();
    let limit = CONFIG_BYTES_MAX as u64 + 1;
    File::open(path)
        .map_err(cannot)?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    Ok(bytes)
}

/// Writes what `with` makes of a configuration file's text in its place.
pub(crate) fn rewrite(path: &Path, with: impl FnOnce(&str) -> String) -> Result<(), Failure> {
    let text = read_config(path)?;
    write(path, with(&String::from_utf8_lossy(&text)).as_bytes(), Readers::All)
}

/// A board's configuration without its region: it keeps its records to itself.
pub(crate) fn without_region(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut is_region = false;
    for line in text.lines() {
        if line.starts_with('[') {
            is_region = line.starts_with("[region]") || line.starts_with("[[region.");
        }
        if !is_region {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Writes `bytes` to `path`, whole or not at all: into a file beside it, synced, then renamed over it.
pub(crate) fn write(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), Failure> {
    let cannot = |error| Failure::new(format!("cannot write {}", path.display())).because(error);
    let beside = beside(path);
    remove(&beside)?;
    let mode = match readers {
        Readers::All => 0o644,
        Readers::Owner => 0o600,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .map_err(cannot)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(cannot)?;
    fs::rename(&beside, path).map_err(cannot)
}

/// Removes the file `path`, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::new(format!("cannot remove {}", path.display())).because(error)),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Makes the directory `path` and those above it, readable for the owner alone where it holds keys.
pub(crate) fn make_dir(path: &Path, readers: Readers) -> Result<(), Failure> {
    let mode = match readers {
        Readers::All => 0o755,
        Readers::Owner => 0o700,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| Failure::new(format!("cannot make {}", path.display())).because(error))
}

/// Whether something is in the directory `path`; no where it does not exist.
pub(crate) fn is_occupied(path: &Path) -> Result<bool, Failure> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::new(format!("cannot look into {}", path.display())).because(error)),
    }
}

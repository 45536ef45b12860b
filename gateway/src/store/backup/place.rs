//! Where a vault is: named objects, each whole or not there. Owns the trait and the directory; a bucket is in `bucket`.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Ends the names of files that are not whole yet: nobody else's, so that they may be removed from any directory.
pub(super) const PART: &str = "backup-part";
/// Held while a vault is written.
const LOCK: &str = "lock";

/// Named objects. Names have parts with `/` between, of letters, digits, `.` and `-`.
pub trait Place: fmt::Debug + Sync {
    /// Its name, for people.
    fn shown(&self) -> String;

    /// Shows `each` the names of all objects whose names begin with `under` and a `/`.
    fn list(&self, under: &str, each: &mut dyn FnMut(&str)) -> io::Result<()>;

    /// The object `name`; `None` where there is none. One of more than `bytes_max` is an error.
    fn get(&self, name: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>>;

    /// Writes the object `name`, whole or not at all, over the one that may be there.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes the object `name`; that there is none is no error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// When it returns, what was put and removed before stays so whatever happens.
    fn settle(&self) -> io::Result<()>;

    /// Keeps everybody else from writing while it is held; `None` where somebody does.
    fn hold(&self) -> io::Result<Option<Box<dyn Hold>>>;
}

/// Keeps others from writing a place until it is dropped.
pub trait Hold: fmt::Debug {
    /// Whether it does still. What cannot be undone asks before.
    fn is_held(&self) -> io::Result<bool>;
}

/// A directory.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The directory at `path`, which is made when something is written.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// All files below `dir`, parts too, whose paths relative to the place are given.
    fn walk(&self, dir: &Path, each: &mut dyn FnMut(&str)) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                self.walk(&path, each)?;
            } else if let Some(name) = path.strip_prefix(&self.0).ok().and_then(Path::to_str) {
                each(name);
            }
        }
        Ok(())
    }

    /// What was given up half-way.
    fn remove_parts(&self) -> io::Result<()> {
        let mut parts = Vec::new();
        for under in super::vault::DIRECTORIES {
            self.walk(&self.0.join(under), &mut |name| {
                if is_part(name) {
                    parts.push(self.0.join(name));
                }
            })?;
        }
        parts.iter().try_for_each(|part| remove(part))
    }
}

impl Place for Folder {
    fn shown(&self) -> String {
        self.0.display().to_string()
    }

    fn list(&self, under: &str, each: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.walk(&self.0.join(under), &mut |name| {
            if !is_part(name) {
                each(name);
            }
        })
    }

    fn get(&self, name: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.0.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // One byte more than allowed, so that a longer one is seen to be one.
        let mut bytes = Vec::new();
        file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > bytes_max {
            Err(too_long())
        } else {
            Ok(Some(bytes))
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.join(name);
        let part = self.0.join(format!("{name}.{PART}"));
        let mut file = match File::create(&part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(&self.0))?;
                File::create(&part)?
            }
            made => made?,
        };
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, &path)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        remove(&self.0.join(name))
    }

    fn settle(&self) -> io::Result<()> {
        for under in super::vault::DIRECTORIES {
            sync_below(&self.0.join(under))?;
        }
        File::open(&self.0)?.sync_all()
    }

    fn hold(&self) -> io::Result<Option<Box<dyn Hold>>> {
        fs::create_dir_all(&self.0)?;
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(self.0.join(LOCK))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                self.remove_parts()?;
                Ok(Some(Box::new(Locked { _file: file })))
            }
            Err(errno) if errno == rustix::io::Errno::WOULDBLOCK => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A locked file, which the system unlocks when this process ends, however it does.
#[derive(Debug)]
struct Locked {
    _file: File,
}

impl Hold for Locked {
    fn is_held(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// Syncs the directory, if it is there, and those in it.
fn sync_below(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // Pieces stand two deep: below that are files alone.
        if entry.file_type()?.is_dir() {
            sync_below(&entry.path())?;
        }
    }
    File::open(dir)?.sync_all()
}

fn is_part(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == PART)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// An object is longer than any that is written.
pub(super) fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is longer than any that is written")
}

//! What a board's directory asks of a file system: the trait, and the machine's own. `cargo xtask crash-points` puts a
//! simulated one here that loses, tears and refuses, so that what runs on boards is what is tried there.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::{Errno, retry_on_intr};

use super::FILE_MODE;

/// A file system, as far as a board's directory needs one. Errors are the system's own; whoever calls says what was tried.
pub trait FileSystem: Debug + Send + Sync {
    /// Opens `path`.
    fn open(&self, path: &Path, how: Opening) -> io::Result<Box<dyn OpenFile>>;

    /// Every entry of `directory`, in no order.
    fn entries(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Gives the file at `from` the name `to`, in place of what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file at `path`.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what was made, renamed and removed in `directory` durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It exists; to read and write.
    Existing,
    /// To read and write; made where it does not exist, for its owner alone (mode 0600).
    Kept,
    /// To write; made where it does not exist, emptied where it does, for its owner alone (mode 0600).
    Emptied,
}

/// An open file. Closed when dropped, which makes nothing durable.
pub trait OpenFile: Debug + Send {
    /// Writes the front of `bytes` at `offset`; returns how many were written, which may be fewer than all.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Sets room aside for the first `bytes` bytes, which the file has from then on: what was not written reads as zeros, and
    /// writing there needs no more room. `Unsupported` where the file system cannot; then nothing is changed.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Fills `bytes` from `offset` on; an error where the file ends before.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Makes the bytes durable, and of the rest what is needed to read them (fdatasync).
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the bytes and all about them durable (fsync).
    fn sync_all(&self) -> io::Result<()>;

    /// Bytes in it.
    fn length(&self) -> io::Result<u64>;

    /// Drops what the page cache holds of it; pages that wait to be written stay.
    fn forget_cached(&self) -> io::Result<()>;
}

/// Writes all of `bytes` at `offset`, in as many writes as the system wants.
pub(super) fn write_all_at(file: &dyn OpenFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl FileSystem for System {
    fn open(&self, path: &Path, how: Opening) -> io::Result<Box<dyn OpenFile>> {
        let mut options = OpenOptions::new();
        options.write(true).mode(FILE_MODE);
        match how {
            Opening::Existing => options.read(true),
            Opening::Kept => options.read(true).create(true).truncate(false),
            Opening::Emptied => options.create(true).truncate(true),
        };
        Ok(Box::new(options.open(path)?))
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}

impl OpenFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match retry_on_intr(|| fallocate(self, FallocateFlags::empty(), 0, bytes)) {
            // A kernel or a sandbox without the call says ENOSYS, and what is no file on a disk ENODEV.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => Err(io::ErrorKind::Unsupported.into()),
            done => Ok(done?),
        }
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(fadvise(self, 0, None, Advice::DontNeed)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes a byte at a time, and is interrupted before each.
    #[derive(Debug, Default)]
    struct Reluctant {
        written: Mutex<Vec<u8>>,
        interrupted: Mutex<bool>,
        full_at: Option<usize>,
    }

    impl OpenFile for Reluctant {
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            let mut interrupted = self.interrupted.lock().unwrap();
            *interrupted = !*interrupted;
            if *interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let mut written = self.written.lock().unwrap();
            assert_eq!(offset, written.len() as u64);
            if self.full_at == Some(written.len()) {
                return Ok(0);
            }
            written.push(bytes[0]);
            Ok(1)
        }

        fn allocate(&self, _: u64) -> io::Result<()> {
            unreachable!("it is only written to")
        }

        fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            unreachable!("it is only written to")
        }

        fn sync_data(&self) -> io::Result<()> {
            unreachable!("it is only written to")
        }

        fn sync_all(&self) -> io::Result<()> {
            unreachable!("it is only written to")
        }

        fn length(&self) -> io::Result<u64> {
            unreachable!("it is only written to")
        }

        fn forget_cached(&self) -> io::Result<()> {
            unreachable!("it is only written to")
        }
    }

    #[test]
    fn short_and_interrupted_writes_go_on_where_they_ended() {
        let file = Reluctant::default();
        write_all_at(&file, b"whole", 0).unwrap();
        assert_eq!(*file.written.lock().unwrap(), b"whole");
        let full = Reluctant { full_at: Some(3), ..Reluctant::default() };
        let error = write_all_at(&full, b"whole", 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}

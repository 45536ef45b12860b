//! A database on scratch space: a copy of one that others write, or one that is put together from pieces to be looked at. Its file
//! has no name once it is open, so that no byte of it is left when this process ends, however it does: at most the name of an empty
//! file, if the end comes in the moment in which it has one, and the next one takes that away.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{BackupError, cannot};

/// How the file is called for the moment in which it has a name.
const NAME: &str = "backup-scratch";
/// Bytes that stay free beside it: the gateway may write on the same disk.
const SPARED: u64 = 64 * 1024 * 1024;
/// How long a copy waits for a lock.
const BUSY: Duration = Duration::from_secs(5);
/// Where a database says how it is written: 1 with a journal, 2 with a log beside it.
const FORMATS: u64 = 18;
/// Where it counts its changes, twice: a reader believes what it remembers while they are the same.
const COUNTERS: [u64; 2] = [24, 92];

/// A database without a name.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Its bytes.
    pub(super) file: File,
    /// The same as a database.
    pub(super) connection: Connection,
}

impl Scratch {
    /// An empty one on the disk of `dir`, which has room for `bytes`.
    pub(super) fn new(dir: &Path, bytes: u64) -> Result<Self, BackupError> {
        has_room(dir, bytes)?;
        clear(dir)?;
        let (path, file) = make(dir)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        fs::remove_file(&path).map_err(cannot("remove", &path))?;
        // Nobody needs it after a crash.
        connection.pragma_update(None, "journal_mode", "off")?;
        connection.pragma_update(None, "synchronous", "off")?;
        Ok(Self { file, connection })
    }

    /// A copy of `source` as it is at one moment, page by page in the same places. Who writes it goes on meanwhile.
    pub(super) fn copy(source: &Connection, dir: &Path) -> Result<Self, BackupError> {
        let count = |pragma| source.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let bytes = count("page_count")?.saturating_mul(count("page_size")?);
        let mut copied = Self::new(dir, bytes.unsigned_abs())?;
        let backup = Backup::new(source, &mut copied.connection)?;
        let begun = Instant::now();
        // All pages in one step: within one read transaction, which no writer disturbs.
        while backup.step(-1)? != StepResult::Done {
            if begun.elapsed() > BUSY {
                return Err(cannot("copy", dir)(io::Error::other("somebody locks the database")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        drop(backup);
        copied.needs_no_log().map_err(cannot("write", dir))?;
        Ok(copied)
    }

    /// A copy of a database with a log says that it has one; this one has none.
    fn needs_no_log(&self) -> io::Result<()> {
        if self.bytes()? == 0 {
            return Ok(());
        }
        self.file.write_all_at(&[1, 1], FORMATS)?;
        let mut changes = [0; 4];
        self.file.read_exact_at(&mut changes, COUNTERS[0])?;
        let next = u32::from_be_bytes(changes).wrapping_add(1).to_be_bytes();
        COUNTERS.iter().try_for_each(|at| self.file.write_all_at(&next, *at))
    }

    /// Its length.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Opens a database that others write, to read it.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, BackupError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn has_room(dir: &Path, bytes: u64) -> Result<(), BackupError> {
    let about = rustix::fs::statvfs(dir)
        .map_err(io::Error::from)
        .map_err(cannot("look at", dir))?;
    let (free, needed) = (about.f_bavail.saturating_mul(about.f_frsize), bytes.saturating_add(SPARED));
    if free < needed {
        Err(BackupError::NoRoom { path: dir.to_owned(), free, needed })
    } else {
        Ok(())
    }
}

/// An empty file with a name that nothing had, locked as long as it is open.
fn make(dir: &Path) -> Result<(PathBuf, File), BackupError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{NAME}-{}-{number}", std::process::id()));
        // Made by nobody else, and for nobody else: what a backup holds is secret.
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(cannot("make", &path))?;
        match file.try_lock() {
            // Whoever clears up may have been there before the lock was.
            Ok(()) if file.metadata().is_ok_and(|about| about.nlink() == 0) => {}
            // Where a file system has no locks, clearing up leaves this one alone, too.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok((path, file)),
            Err(TryLockError::WouldBlock) => {}
        }
    }
}

/// Removes the names that killed processes have left: their files are empty, and nobody locks them.
fn clear(dir: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(dir).map_err(cannot("look into", dir))? {
        let entry = entry.map_err(cannot("look into", dir))?;
        if entry.file_name().to_string_lossy().starts_with(NAME) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            // What cannot be opened or removed is another's, or gone already.
            let _ = remove_left_over(&entry.path());
        }
    }
    Ok(())
}

fn remove_left_over(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    // Held until the name is gone, so that nobody takes up what is about to go.
    if file.try_lock().is_ok() && file.metadata()?.len() == 0 {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_a_killed_process_left_goes_and_that_of_a_living_one_stays() {
        let dir = std::env::temp_dir().join(format!("roadstead-scratch-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (left, file) = make(&dir).unwrap();
        drop(file);
        let (held, lock) = make(&dir).unwrap();
        let (foreign, full) = (dir.join("other"), dir.join(format!("{NAME}-full")));
        fs::write(&foreign, "").unwrap();
        fs::write(&full, "somebody's").unwrap();

        let scratch = Scratch::new(&dir, 0).unwrap();
        let exist = [&left, &held, &foreign, &full].map(|path| path.exists());
        assert_eq!(exist, [false, true, true, true]);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3, "the new one has no name");
        drop((scratch, lock));
        clear(&dir).unwrap();
        assert!(!held.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}

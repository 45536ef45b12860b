//! A database on scratch space: a copy of one that others write, or one that is put together from pieces to be looked at. Its file
//! has no name once it is open, so that nothing of it is left when this process ends, however it does.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
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
/// Longer than a file has a name by far.
const MOMENT: Duration = Duration::from_secs(60);
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
        let path = name(dir)?;
        // Made by nobody else, and for nobody else: what a backup holds is secret.
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(cannot("make", &path))?;
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

/// A name that nothing has. What a process left that was killed within the moment in which it had one goes: it is empty.
fn name(dir: &Path) -> Result<PathBuf, BackupError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    for entry in fs::read_dir(dir).map_err(cannot("look into", dir))? {
        let entry = entry.map_err(cannot("look into", dir))?;
        if entry.file_name().to_string_lossy().starts_with(NAME) && is_left_over(&entry).unwrap_or(false) {
            // Whoever was faster has removed it.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(dir.join(format!("{NAME}-{}-{number}", std::process::id())))
}

fn is_left_over(entry: &fs::DirEntry) -> io::Result<bool> {
    let about = entry.metadata()?;
    let is_old = about.modified()?.elapsed().is_ok_and(|age| age > MOMENT);
    Ok(about.is_file() && about.len() == 0 && is_old)
}

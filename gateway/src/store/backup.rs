//! Copies of the store: taken while a gateway writes it, checked before they count, put back while none runs. Owns the
//! files of a directory of backups; decides neither when one is taken nor which is put back.
//!
//! ```text
//! DIR/<name>.sqlite    the store as it was at one moment
//!     <name>.json      what is in it and its digest: written last, so that without it there is no backup
//!     *.backup-part    being written, or given up
//!     lock             held while one is taken
//! ```

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::sqlite::{FILE, schema};
use super::{StoreError, lock};

/// Bytes copied or digested at once.
const PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of a manifest. A longer one is none.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
/// Ends the names of files that are not whole yet: nobody else's, so that they may be removed from any directory.
const PART: &str = "backup-part";

/// What a backup holds, as it stands beside it in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout of the store in it.
    pub layout: i64,
    /// When it was taken, by the wall clock there: milliseconds since 1970.
    pub taken_ms: u64,
    /// Length of its file.
    pub bytes: u64,
    /// XXH3 (128 bit) of its file, in hexadecimal: against what rots, not against who forges.
    pub xxh3: String,
    /// Sites in it.
    pub sites: u64,
    /// Readings and gap records in it.
    pub records: u64,
}

/// A backup in its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its name: what its files are called.
    pub name: String,
    /// What it holds.
    pub manifest: Manifest,
}

/// Why a backup is not taken, not trusted or not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be used. The operator's to mend. While one is put back, the store may be set aside already: the same again
    /// goes on from there.
    #[error("cannot {doing} {path}", path = path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another one is being taken into the same directory. Nothing was touched.
    #[error("another backup is being taken into {path}", path = path.display())]
    Busy {
        /// Which directory.
        path: PathBuf,
    },
    /// The store or the copy of it.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// The backup does not hold what it should. Nothing was touched.
    #[error("{path} is damaged: {what}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

fn cannot(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { doing, path, source }
}

fn damaged(path: &Path, what: impl fmt::Display) -> BackupError {
    BackupError::Damaged { path: path.to_owned(), what: what.to_string() }
}

/// Copies the store in the data directory `store` into `dir`, which is made where it does not exist, as the backup `name`. A gateway
/// may write the store meanwhile: the copy is of one committed state. It is synced and checked before it counts.
pub fn take(store: &Path, dir: &Path, name: &str, taken_ms: u64) -> Result<Backup, BackupError> {
    fs::create_dir_all(dir).map_err(cannot("make", dir))?;
    let _lock = alone(dir)?;
    remove_leftovers(dir)?;
    let part = dir.join(format!("{name}.{PART}"));
    copy_live(store, &part)?;
    File::open(&part)
        .and_then(|file| file.sync_all())
        .map_err(cannot("sync", &part))?;
    let (bytes, xxh3) = digest(&part)?;
    let (sites, records) = check(&part)?;
    let manifest = Manifest { layout: schema::VERSION, taken_ms, bytes, xxh3, sites, records };
    let file = dir.join(format!("{name}.sqlite"));
    fs::rename(&part, &file).map_err(cannot("name", &file))?;
    sync_dir(dir)?;
    let backup = Backup { name: name.to_owned(), manifest };
    write_manifest(dir, &backup)?;
    sync_dir(dir)?;
    Ok(backup)
}

/// What was given up half-way has the size of a store.
fn remove_leftovers(dir: &Path) -> Result<(), BackupError> {
    for path in files(dir)? {
        if path.extension().is_some_and(|end| end == PART) {
            remove(&path)?;
        }
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let entries = fs::read_dir(dir).map_err(cannot("look into", dir))?;
    entries
        .map(|entry| Ok(entry.map_err(cannot("look into", dir))?.path()))
        .collect()
}

fn alone(dir: &Path) -> Result<File, BackupError> {
    lock(dir).map_err(|error| match error {
        StoreError::Locked { path } => BackupError::Busy { path },
        other => other.into(),
    })
}

/// One read transaction over the whole store: the writer goes on beside it, and its log is kept that long.
fn copy_live(store: &Path, into: &Path) -> Result<(), BackupError> {
    let connection = schema::open_to_read(&store.join(FILE))?;
    let Some(into) = into.to_str() else {
        return Err(damaged(into, "its name is not UTF-8"));
    };
    connection.execute("VACUUM INTO ?1", [into])?;
    Ok(())
}

fn write_manifest(dir: &Path, backup: &Backup) -> Result<(), BackupError> {
    let path = manifest_of(dir, &backup.name);
    let beside = dir.join(format!("{}.json.{PART}", backup.name));
    let mut text = serde_json::to_vec_pretty(&backup.manifest).map_err(|error| damaged(&path, error))?;
    text.push(b'\n');
    let written = File::create(&beside).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(cannot("write", &path))
}

fn manifest_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.json"))
}

/// The backups in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backups {
    /// The oldest first.
    pub whole: Vec<Backup>,
    /// Names of those whose manifest cannot be read: nobody knows what they hold.
    pub unreadable: Vec<String>,
}

/// The backups in `dir`. What has no manifest is none.
pub fn list(dir: &Path) -> Result<Backups, BackupError> {
    let mut found = Backups::default();
    for path in files(dir)? {
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text));
        match read.ok().and_then(|_| serde_json::from_slice(&text).ok()) {
            Some(manifest) => found.whole.push(Backup { name: name.to_owned(), manifest }),
            None => found.unreadable.push(name.to_owned()),
        }
    }
    let order = |backup: &Backup| (backup.manifest.taken_ms, backup.name.clone());
    found.whole.sort_by_key(order);
    found.unreadable.sort_unstable();
    Ok(found)
}

/// Reads all of a backup: its bytes are those that were written, it is a whole store, and its counts add up.
pub fn verify(dir: &Path, backup: &Backup) -> Result<(), BackupError> {
    let file = dir.join(format!("{}.sqlite", backup.name));
    compare(&file, digest(&file)?, &backup.manifest)?;
    let counted = check(&file)?;
    if counted == (backup.manifest.sites, backup.manifest.records) {
        Ok(())
    } else {
        Err(damaged(&file, "it does not hold what its manifest counts"))
    }
}

fn compare(file: &Path, (bytes, xxh3): (u64, String), manifest: &Manifest) -> Result<(), BackupError> {
    if bytes != manifest.bytes {
        return Err(damaged(file, format_args!("{bytes} bytes, where {} were written", manifest.bytes)));
    }
    if xxh3 != manifest.xxh3 {
        return Err(damaged(file, "its bytes are not those that were written"));
    }
    Ok(())
}

/// Puts `backup` in the place of the store in the data directory `store`, where no gateway may run. What was there is kept beside
/// it, under names that end in `aside`: the path, where there was a store. At each instant there is one whole store in the place, as
/// far as the one before was whole; killed half-way it may be called again.
pub fn restore(store: &Path, dir: &Path, backup: &Backup, aside: &str) -> Result<Option<PathBuf>, BackupError> {
    fs::create_dir_all(store).map_err(cannot("make", store))?;
    let _lock = lock(store)?;
    verify(dir, backup)?;
    let (place, coming) = (store.join(FILE), store.join(format!("{FILE}.restored")));
    let from = dir.join(format!("{}.sqlite", backup.name));
    compare(&coming, copy(&from, &coming)?, &backup.manifest)?;
    give_owner(&coming, store).map_err(cannot("give away", &coming))?;
    let kept = keep_aside(store, aside)?;
    fs::rename(&coming, &place).map_err(cannot("name", &place))?;
    sync_dir(store)?;
    Ok(kept)
}

/// The log leaves its place first, also where it is all that is left: beside another store it would be taken for that one's.
fn keep_aside(store: &Path, aside: &str) -> Result<Option<PathBuf>, BackupError> {
    let place = store.join(FILE);
    if place.exists() {
        fold_log(&place)?;
    }
    for end in ["-wal", "-shm", "-journal"] {
        let path = store.join(format!("{FILE}{end}"));
        if path.exists() {
            fs::rename(&path, store.join(format!("{FILE}.{aside}{end}"))).map_err(cannot("set aside", &path))?;
        }
    }
    let kept = store.join(format!("{FILE}.{aside}"));
    let kept = match fs::hard_link(&place, &kept) {
        Ok(()) => Some(kept),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(cannot("set aside", &place)(error)),
    };
    sync_dir(store)?;
    Ok(kept)
}

/// Brings the log into the store, so that the store is whole without it. One that is damaged stays as it is, with its log.
fn fold_log(place: &Path) -> Result<(), BackupError> {
    let Ok(sql) = schema::open(place) else { return Ok(()) };
    let folded = sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    match folded {
        Ok(0) | Err(_) => Ok(()),
        Ok(_) => Err(cannot("set aside", place)(io::Error::other("somebody reads it: close it first"))),
    }
}

/// As the store before, or the directory, has it: whoever runs the gateway may write it.
fn give_owner(path: &Path, store: &Path) -> io::Result<()> {
    let place = fs::metadata(store.join(FILE));
    if let Ok(place) = &place {
        fs::set_permissions(path, place.permissions())?;
    }
    let like = place.or_else(|_| fs::metadata(store))?;
    let own = fs::metadata(path)?;
    if (own.uid(), own.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    chown(path, Some(like.uid()), Some(like.gid()))
}

/// Removes the oldest backups of `dir` but the last `keep`, and never `spared`, however the clock went; their names.
pub fn prune(dir: &Path, keep: usize, spared: &str) -> Result<Vec<String>, BackupError> {
    let _lock = alone(dir)?;
    let mut old = list(dir)?.whole;
    old.truncate(old.len().saturating_sub(keep));
    old.retain(|backup| backup.name != spared);
    for backup in &old {
        // Without its manifest it is none, whatever happens next.
        remove(&manifest_of(dir, &backup.name))?;
        remove(&dir.join(format!("{}.sqlite", backup.name)))?;
    }
    sync_dir(dir)?;
    Ok(old.into_iter().map(|backup| backup.name).collect())
}

/// Whether the file is a whole store whose counts add up; its sites and records.
fn check(path: &Path) -> Result<(u64, u64), BackupError> {
    let (connection, layout) = schema::open_any_to_read(path)?;
    let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        return Err(damaged(path, said));
    }
    let count = |sql: &str| -> Result<u64, BackupError> {
        let counted: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(counted.cast_unsigned())
    };
    let uncounted = if layout == schema::VERSION { UNCOUNTED } else { UNCOUNTED_BEFORE };
    if count(UNCOVERED)? > 0 || count(uncounted)? > 0 {
        return Err(damaged(path, "what streams count is not what is stored of them"));
    }
    Ok((count("SELECT count(*) FROM site")?, count("SELECT count(*) FROM record")?))
}

/// Streams whose coverage is not as long as what they count.
const UNCOVERED: &str = "
SELECT count(*) FROM stream WHERE rows + gaps + duplicates <>
  (SELECT coalesce(sum(last - first + 1), 0) FROM coverage WHERE stream = stream.id)";
/// Streams that count other records than are stored and have expired.
const UNCOUNTED: &str = "
SELECT count(*) FROM stream WHERE rows + gaps - expired <> (SELECT count(*) FROM record WHERE stream = stream.id)";
/// The same in the layout before, where nothing expired.
const UNCOUNTED_BEFORE: &str = "
SELECT count(*) FROM stream WHERE rows + gaps <> (SELECT count(*) FROM record WHERE stream = stream.id)";

fn digest(path: &Path) -> Result<(u64, String), BackupError> {
    let file = File::open(path).map_err(cannot("read", path))?;
    pump(file, io::sink()).map_err(cannot("read", path))
}

/// Copies and syncs; returns what [`digest`] would.
fn copy(from: &Path, to: &Path) -> Result<(u64, String), BackupError> {
    let reading = File::open(from).map_err(cannot("read", from))?;
    let writing = File::create(to).map_err(cannot("write", to))?;
    let copied = pump(reading, &writing).map_err(cannot("copy to", to))?;
    writing.sync_all().map_err(cannot("sync", to))?;
    Ok(copied)
}

fn pump(mut from: impl Read, mut to: impl Write) -> io::Result<(u64, String)> {
    let mut piece = vec![0; PIECE_BYTES];
    let (mut bytes, mut hash) = (0, Xxh3::new());
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => return Ok((bytes, format!("{:032x}", hash.digest128()))),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let Some(piece) = piece.get(..read) else { continue };
        hash.update(piece);
        to.write_all(piece)?;
        bytes += read as u64;
    }
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(cannot("sync", dir))
}

//! Copies of the store: taken while a gateway writes it, checked before they count, put back while none runs. Owns the
//! files of a directory of plain backups, and how a store comes into its place; decides neither when one is taken nor which is
//! put back.
//!
//! ```text
//! DIR/<name>.sqlite    the store as it was at one moment
//!     <name>.json      what is in it and its digest: written last, so that without it there is no backup
//!     *.backup-part    being written, or given up
//!     lock             held while one is taken
//! ```
//!
//! | module | what |
//! |---|---|
//! | `vault` | backups in pieces: encrypted, each written once |
//! | `contents`, `seal`, `key` | what such a backup holds, as bytes; how it is sealed; with what |
//! | `place`, `bucket`, `crew` | where a vault is: a directory, a bucket; who carries pieces there |
//! | `scratch` | copies of databases, and their looks |

mod bucket;
mod contents;
mod crew;
mod key;
mod place;
mod scratch;
mod seal;
mod vault;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use shared::region::numbers::NumberRange;
use xxhash_rust::xxh3::Xxh3;

pub use self::bucket::Bucket;
pub use self::key::{BackupKey, KeyError};
use self::place::PART;
pub use self::place::{Folder, Hold, Place};
pub use self::vault::{Beside, PIECE_BYTES, Restored, Source, Swept, Taken, Taking, Vault, is_vault};
use super::sqlite::{FILE, schema};
use super::{StoreError, lock};

/// Bytes copied or digested at once.
const PUMP_BYTES: usize = 1024 * 1024;
/// Bytes of a manifest. A longer one is none.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;

/// What a backup holds, as it stands beside it in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout of the store in it.
    pub layout: i64,
    /// When it was taken, by the wall clock there: milliseconds since 1970.
    pub taken_ms: u64,
    /// Length of its file.
    pub bytes: u64,
    /// XXH3 (128 bit) of its file, in hexadecimal: against what rots, not against who forges. `None` in a vault, where each
    /// piece has a seal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xxh3: Option<String>,
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
    /// An object of a vault cannot be written, read or removed. The operator's to mend, or to try again: no backup that is
    /// listed is harmed.
    #[error("cannot {doing} {object}")]
    Object {
        /// What was tried.
        doing: &'static str,
        /// Which, and where.
        object: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another one is being taken into the same place, or old ones are removed there. Nothing was touched.
    #[error("another backup is being taken into {path}, or removed there", path = path.display())]
    Busy {
        /// Which place.
        path: PathBuf,
    },
    /// The vault is another key's. Nothing was touched.
    #[error("the backups in {place} are sealed with key {wanted}; this is key {given}")]
    WrongKey {
        /// Which vault.
        place: String,
        /// The name of its key.
        wanted: String,
        /// The name of the one that was given.
        given: String,
    },
    /// A copy of the store finds no room on the disk. Nothing was touched.
    #[error("{path} has {free} bytes free, and {needed} are needed", path = path.display())]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// Bytes that are there.
        free: u64,
        /// Bytes that must be.
        needed: u64,
    },
    /// A vault has more pieces than are kept in memory. Nothing was touched.
    #[error("{place} has more than {most} pieces: begin another one")]
    TooMany {
        /// Which vault.
        place: String,
        /// How many there may be.
        most: usize,
    },
    /// The key cannot be used. Nothing was touched.
    #[error("no key for backups")]
    Key(#[from] KeyError),
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
    let manifest = Manifest { layout: schema::VERSION, taken_ms, bytes, xxh3: Some(xxh3), sites, records };
    let backup = Backup { name: name.to_owned(), manifest };
    // Before the file has its name: whoever finds a file without a manifest knows by it whose it is.
    let coming = write_manifest(dir, &backup)?;
    let file = file_of(dir, name);
    fs::rename(&part, &file).map_err(cannot("name", &file))?;
    sync_dir(dir)?;
    let manifest = manifest_of(dir, name);
    fs::rename(&coming, &manifest).map_err(cannot("name", &manifest))?;
    sync_dir(dir)?;
    Ok(backup)
}

/// What was given up half-way has the size of a store: the part of one, or a whole one whose manifest was coming or going.
fn remove_leftovers(dir: &Path) -> Result<(), BackupError> {
    for path in files(dir)? {
        if path.extension().is_none_or(|end| end != PART) {
            continue;
        }
        let manifest = path.with_extension("");
        if manifest.extension().is_some_and(|end| end == "json") && !manifest.exists() {
            remove(&manifest.with_extension("sqlite"))?;
        }
        remove(&path)?;
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

/// Writes it under a name that does not count yet, which is returned.
fn write_manifest(dir: &Path, backup: &Backup) -> Result<PathBuf, BackupError> {
    let beside = coming_manifest(dir, &backup.name);
    let mut text = serde_json::to_vec_pretty(&backup.manifest).map_err(|error| damaged(&beside, error))?;
    text.push(b'\n');
    let written = File::create(&beside).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written.map_err(cannot("write", &beside))?;
    Ok(beside)
}

fn file_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.sqlite"))
}

fn manifest_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.json"))
}

/// Of one that is coming, or going.
fn coming_manifest(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.json.{PART}"))
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
    let file = file_of(dir, &backup.name);
    compare(&file, digest(&file)?, &backup.manifest)?;
    holds(&file, check(&file)?, &backup.manifest)
}

fn holds(file: &Path, counted: (u64, u64), manifest: &Manifest) -> Result<(), BackupError> {
    if counted == (manifest.sites, manifest.records) {
        Ok(())
    } else {
        Err(damaged(file, "it does not hold what its manifest counts"))
    }
}

fn compare(file: &Path, (bytes, xxh3): (u64, String), manifest: &Manifest) -> Result<(), BackupError> {
    if bytes != manifest.bytes {
        return Err(damaged(file, format_args!("{bytes} bytes, where {} were written", manifest.bytes)));
    }
    if manifest.xxh3.as_ref() != Some(&xxh3) {
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
    let coming = coming_store(store);
    let from = file_of(dir, &backup.name);
    compare(&coming, copy(&from, &coming)?, &backup.manifest)?;
    put_in_place(store, aside)
}

/// Where a store stands that comes back, until it is whole.
fn coming_store(store: &Path) -> PathBuf {
    store.join(format!("{FILE}.restored"))
}

/// The store that came back is whole, and takes its place; what was there is kept.
fn put_in_place(store: &Path, aside: &str) -> Result<Option<PathBuf>, BackupError> {
    let (place, coming) = (store.join(FILE), coming_store(store));
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
    match place {
        Ok(like) => give_to(path, &like),
        Err(_) => give_owner_like(path, store),
    }
}

/// As the directory has it.
fn give_owner_like(path: &Path, dir: &Path) -> io::Result<()> {
    give_to(path, &fs::metadata(dir)?)
}

fn give_to(path: &Path, like: &fs::Metadata) -> io::Result<()> {
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
        // Without its manifest it is none, whatever happens next; what is left tells the next backup whose the file is.
        let (manifest, going) = (manifest_of(dir, &backup.name), coming_manifest(dir, &backup.name));
        fs::rename(&manifest, &going).map_err(cannot("remove", &manifest))?;
        sync_dir(dir)?;
        remove(&file_of(dir, &backup.name))?;
        remove(&going)?;
    }
    sync_dir(dir)?;
    Ok(old.into_iter().map(|backup| backup.name).collect())
}

/// Whether the file is a whole store whose counts add up; its sites and records.
fn check(path: &Path) -> Result<(u64, u64), BackupError> {
    check_open(&schema::open_any_to_read(path)?.0, path)
}

/// The same of one that is open; `path` is what it is called.
fn check_open(connection: &Connection, path: &Path) -> Result<(u64, u64), BackupError> {
    let layout = schema::layout_of(connection, path)?;
    let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        return Err(damaged(path, said));
    }
    let count = |sql: &str| -> Result<u64, BackupError> {
        let counted: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(counted.cast_unsigned())
    };
    let uncounted = if layout == schema::WITHOUT_ARCHIVE {
        UNCOUNTED_BEFORE
    } else {
        UNCOUNTED
    };
    if count(UNCOVERED)? > 0 || count(uncounted)? > 0 {
        return Err(damaged(path, "what streams count is not what is stored of them"));
    }
    let (records, numbered): (i64, i64) =
        connection.query_row("SELECT count(*), count(*) FILTER (WHERE key_kind = 0) FROM record", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let (records, numbered) = (records.cast_unsigned(), numbered.cast_unsigned());
    if layout > schema::WITHOUT_NUMBERS {
        let ranged = numbers(connection)?;
        if ranged != numbered {
            let said = format!("its table numbered has {ranged} numbers, and {numbered} records have one");
            return Err(damaged(path, said));
        }
    }
    Ok((count("SELECT count(*) FROM site")?, records))
}

/// How many numbers of publishers are kept as ranges.
fn numbers(connection: &Connection) -> Result<u64, BackupError> {
    let mut select = connection.prepare("SELECT first, last FROM numbered")?;
    let mut rows = select.query([])?;
    let mut sum = 0_u64;
    while let Some(row) = rows.next()? {
        let NumberRange { first, last } = NumberRange::of_keys(row.get(0)?, row.get(1)?);
        let length = last.checked_sub(first).and_then(|length| u64::try_from(length).ok());
        sum = sum.saturating_add(length.map_or(u64::MAX, |length| length.saturating_add(1)));
    }
    Ok(sum)
}

/// Streams whose coverage is not as long as what they count.
const UNCOVERED: &str = "
SELECT count(*) FROM stream WHERE rows + gaps + duplicates <>
  (SELECT coalesce(sum(last - first + 1), 0) FROM coverage WHERE stream = stream.id)";
/// Streams that count other records than are stored and have expired.
const UNCOUNTED: &str = "
SELECT count(*) FROM stream WHERE rows + gaps - expired <> (SELECT count(*) FROM record WHERE stream = stream.id)";
/// The same in the first layout, where nothing expired.
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
    let mut piece = vec![0; PUMP_BYTES];
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
    place::remove(path).map_err(cannot("remove", path))
}

fn sync_dir(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(cannot("sync", dir))
}

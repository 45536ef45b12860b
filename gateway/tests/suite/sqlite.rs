//! What the store in a file promises of its file.

use gateway::config::Retention;
use gateway::store::backup::{restore, take, verify};
use gateway::store::read::SqliteReader;
use gateway::store::{FILE, SqliteStore, StoreError};

use crate::archive::Archive;
use crate::deposits::{rows, site};
use crate::leaving::later;
use crate::scratch::Scratch;

/// A store as builds made it before there was an archive.
const LAYOUT_1: &str = include_str!("layout_1.sql");

#[test]
fn one_gateway_at_a_time_and_only_its_own_files() {
    let scratch = Scratch::new();
    let (store, _) = SqliteStore::open(scratch.path()).unwrap();
    assert!(matches!(SqliteStore::open(scratch.path()), Err(StoreError::Locked { .. })));
    drop(store);
    let foreign = Scratch::new();
    let other = rusqlite::Connection::open(foreign.path().join(FILE)).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);
    assert!(matches!(SqliteStore::open(foreign.path()), Err(StoreError::Layout { found: 0, .. })));
    let newer = Scratch::new();
    drop(SqliteStore::open(newer.path()).unwrap());
    let other = rusqlite::Connection::open(newer.path().join(FILE)).unwrap();
    other.pragma_update(None, "user_version", 3).unwrap();
    drop(other);
    assert!(matches!(SqliteStore::open(newer.path()), Err(StoreError::Layout { found: 3, .. })));
    assert!(matches!(SqliteReader::open(newer.path()), Err(StoreError::Layout { found: 3, .. })));
}

#[test]
fn a_store_from_before_the_archive_is_brought_up_and_its_rows_are_archived_too() {
    let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
    let old = rusqlite::Connection::open(scratch.path().join(FILE)).unwrap();
    old.execute_batch(LAYOUT_1).unwrap();
    drop(old);
    assert!(matches!(SqliteReader::open(scratch.path()), Err(StoreError::Layout { found: 1, .. })));
    let (store, memory) = SqliteStore::open(scratch.path()).unwrap();
    assert_eq!(memory.fences[&site()].token(), 5);
    let reader = SqliteReader::open(scratch.path()).unwrap();
    assert_eq!(rows(&reader).len(), 4);
    let taken = take(scratch.path(), elsewhere.path(), "one", 1).unwrap();
    verify(elsewhere.path(), &taken).unwrap();
    let archive = Archive::in_directory(elsewhere.path());
    let mut upkeep = archive.upkeep((Box::new(store), Box::new(reader)), Retention { days: [Some(1), Some(1), None] });
    let done = upkeep.round(later(2)).unwrap();
    assert_eq!((done.parts, done.archived, done.expired), (1, 4, 4));
    let seqs: Vec<(u8, u64)> = archive.lines().iter().map(|line| (line.board, line.seq)).collect();
    assert_eq!(seqs, [(1, 1), (1, 2), (1, 4), (2, 9)]);
    drop(upkeep);
    take(scratch.path(), elsewhere.path(), "two", 2).unwrap();
    let (_, memory) = SqliteStore::open(scratch.path()).unwrap();
    assert_eq!(memory.fences[&site()].token(), 5, "and opened again it is as it was");
}

/// A backup that an older build has taken.
#[test]
fn a_backup_from_before_the_archive_is_whole_and_is_put_back() {
    let (data, backups) = (Scratch::new(), Scratch::new());
    let (store, _) = SqliteStore::open(data.path()).unwrap();
    drop(store);
    let mut taken = take(data.path(), backups.path(), "one", 1).unwrap();
    let file = backups.path().join("one.sqlite");
    std::fs::remove_file(&file).unwrap();
    let old = rusqlite::Connection::open(&file).unwrap();
    old.execute_batch(LAYOUT_1).unwrap();
    drop(old);
    let bytes = std::fs::read(&file).unwrap();
    taken.manifest.layout = 1;
    taken.manifest.bytes = bytes.len() as u64;
    taken.manifest.xxh3 = Some(format!("{:032x}", gateway::objects::Digest::of(&bytes).xxh3));
    (taken.manifest.sites, taken.manifest.records) = (1, 4);
    verify(backups.path(), &taken).unwrap();
    restore(data.path(), backups.path(), &taken, "before").unwrap();
    let (_, memory) = SqliteStore::open(data.path()).unwrap();
    assert_eq!(memory.fences[&site()].token(), 5);
    assert_eq!(rows(&SqliteReader::open(data.path()).unwrap()).len(), 4);
}

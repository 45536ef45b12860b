//! Backups of the store: taken beside its writer, checked, and put back.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use gateway::store::backup::{Backup, BackupError, Backups, list, prune, restore, take, verify};
use gateway::store::read::SqliteReader;
use gateway::store::{FILE, SqliteStore, StoreError};

use crate::deposits::{block, put, rows, stream};
use crate::scratch::Scratch;

/// A store that holds sequences 1 to `last`, open, and a directory for backups.
fn filled(last: u64) -> (Scratch, Scratch, SqliteStore) {
    let scratch = Scratch::new();
    let (mut store, _) = SqliteStore::open(scratch.path()).unwrap();
    put(&mut store, &[block(stream(1, 1), 1, 1..=last)]);
    (scratch, Scratch::new(), store)
}

fn stored(dir: &Path) -> usize {
    rows(&SqliteReader::open(dir).unwrap()).len()
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn what_is_taken_beside_the_writer_is_put_back_and_what_was_there_is_kept() {
    let (data, backups, mut store) = filled(4);
    let taken = take(data.path(), backups.path(), "one", 1000).unwrap();
    assert_eq!((taken.manifest.sites, taken.manifest.records), (1, 4));
    put(&mut store, &[block(stream(1, 1), 5, 5..=9)]);
    assert_eq!(list(backups.path()).unwrap().whole, std::slice::from_ref(&taken));
    verify(backups.path(), &taken).unwrap();
    let refused = restore(data.path(), backups.path(), &taken, "before");
    assert!(matches!(refused, Err(BackupError::Store(StoreError::Locked { .. }))), "{refused:?}");
    assert_eq!(stored(data.path()), 9, "a gateway runs: nothing was touched");
    // As a kill leaves it: the last commits stand in the log alone.
    let killed = Scratch::new();
    for end in ["", "-wal"] {
        let name = format!("{FILE}{end}");
        fs::copy(data.path().join(&name), killed.path().join(&name)).unwrap();
    }
    drop(store);
    let data = killed;
    let kept = restore(data.path(), backups.path(), &taken, "before").unwrap().unwrap();
    assert_eq!(stored(data.path()), 4);
    let (mut store, _) = SqliteStore::open(data.path()).unwrap();
    put(&mut store, &[block(stream(1, 1), 5, 5..=6)]);
    drop(store);
    assert_eq!(stored(data.path()), 6, "it goes on from there");
    let other = Scratch::new();
    fs::rename(kept, other.path().join(FILE)).unwrap();
    assert_eq!(stored(other.path()), 9, "what was there is whole, its log included");
}

#[test]
fn a_store_that_is_gone_comes_back_into_an_empty_directory() {
    let (data, backups, store) = filled(4);
    let taken = take(data.path(), backups.path(), "one", 1000).unwrap();
    drop((store, data));
    let fresh = Scratch::new();
    let place = fresh.path().join("data");
    assert_eq!(restore(&place, backups.path(), &taken, "before").unwrap(), None);
    assert_eq!(stored(&place), 4);
}

#[test]
fn a_damaged_store_is_kept_beside_what_is_put_back() {
    let (data, backups, store) = filled(4);
    let taken = take(data.path(), backups.path(), "one", 1000).unwrap();
    drop(store);
    let place = data.path().join(FILE);
    fs::write(&place, b"no database any more").unwrap();
    let kept = restore(data.path(), backups.path(), &taken, "before").unwrap().unwrap();
    assert_eq!(fs::read(kept).unwrap(), b"no database any more");
    assert_eq!(stored(data.path()), 4);
}

#[test]
fn each_changed_byte_of_a_backup_is_noticed_and_nothing_is_put_back() {
    let (data, backups, store) = filled(40);
    let taken = take(data.path(), backups.path(), "one", 1000).unwrap();
    drop(store);
    let file = backups.path().join("one.sqlite");
    for at in (0..taken.manifest.bytes).step_by(997) {
        flip(&file, at);
        let found = restore(data.path(), backups.path(), &taken, "before");
        assert!(matches!(found, Err(BackupError::Damaged { .. })), "byte {at}: {found:?}");
        flip(&file, at);
    }
    let short = taken.manifest.bytes - 1;
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(short).unwrap();
    assert!(matches!(verify(backups.path(), &taken), Err(BackupError::Damaged { .. })));
    assert_eq!(stored(data.path()), 40);
}

#[test]
fn a_store_that_does_not_add_up_gives_no_backup() {
    let (data, backups, store) = filled(4);
    drop(store);
    let sql = rusqlite::Connection::open(data.path().join(FILE)).unwrap();
    sql.execute("DELETE FROM record WHERE seq = 3", []).unwrap();
    drop(sql);
    let taken = take(data.path(), backups.path(), "one", 1000);
    assert!(matches!(taken, Err(BackupError::Damaged { .. })), "{taken:?}");
    assert_eq!(list(backups.path()).unwrap().whole, []);
    assert!(take(data.path(), backups.path(), "one", 1000).is_err(), "what was left over is no obstacle");
}

#[test]
fn the_oldest_go_and_what_has_no_manifest_is_no_backup() {
    let (data, backups, _store) = filled(4);
    let take = |name, at| take(data.path(), backups.path(), name, at).unwrap();
    let all: Vec<Backup> = vec![take("b", 1000), take("c", 2000), take("a", 3000)];
    assert_eq!(list(backups.path()).unwrap().whole, all);
    fs::write(backups.path().join("d.sqlite"), b"being copied").unwrap();
    fs::write(backups.path().join("e.json"), b"{}").unwrap();
    fs::write(backups.path().join("f.backup-part"), b"given up").unwrap();
    assert_eq!(list(backups.path()).unwrap(), Backups { whole: all.clone(), unreadable: vec!["e".to_owned()] });
    assert_eq!(prune(backups.path(), 2, "a").unwrap(), ["b"]);
    assert_eq!(list(backups.path()).unwrap().whole, all[1..]);
    assert_eq!(prune(backups.path(), 2, "a").unwrap(), [""; 0]);
    assert!(!backups.path().join("b.sqlite").exists());
    // The clock was ahead when the others were taken.
    let late = take("now", 500);
    assert!(!backups.path().join("f.backup-part").exists(), "what was given up is removed by the next one");
    assert!(backups.path().join("d.sqlite").exists(), "what is somebody else's is not");
    assert_eq!(prune(backups.path(), 1, &late.name).unwrap(), ["c"]);
    verify(backups.path(), &late).unwrap();
}

#[test]
fn a_log_without_its_store_is_not_taken_for_that_of_the_restored_one() {
    let (data, backups, mut store) = filled(4);
    let taken = take(data.path(), backups.path(), "one", 1000).unwrap();
    put(&mut store, &[block(stream(1, 1), 5, 5..=9)]);
    let left = Scratch::new();
    fs::copy(data.path().join(format!("{FILE}-wal")), left.path().join(format!("{FILE}-wal"))).unwrap();
    assert_eq!(restore(left.path(), backups.path(), &taken, "before").unwrap(), None);
    assert_eq!(stored(left.path()), 4);
    assert!(left.path().join(format!("{FILE}.before-wal")).exists());
    drop(store);
}

/// A kill between the file and its manifest, or between them as one goes, leaves a file as long as a store.
#[test]
fn a_file_whose_manifest_was_coming_or_going_is_removed_by_the_next_one() {
    let (data, backups, _store) = filled(4);
    let one = take(data.path(), backups.path(), "one", 1000).unwrap();
    let name = |end: &str| backups.path().join(format!("one.{end}"));
    fs::rename(name("json"), name("json.backup-part")).unwrap();
    assert_eq!(list(backups.path()).unwrap(), Backups::default());
    take(data.path(), backups.path(), "two", 2000).unwrap();
    assert!(!name("sqlite").exists() && !name("json.backup-part").exists());
    // One that counts stays, whatever lies beside it.
    take(data.path(), backups.path(), "one", 1000).unwrap();
    fs::write(name("json.backup-part"), b"given up").unwrap();
    take(data.path(), backups.path(), "three", 3000).unwrap();
    verify(backups.path(), &one).unwrap();
    assert!(!name("json.backup-part").exists());
}

/// As every version before vaults wrote it: a plain file and its manifest, of layout 1.
#[test]
fn a_plain_backup_of_old_is_listed_verified_and_put_back() {
    let dir = Scratch::new();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plain-1");
    let name = "20260301T080000000Z";
    fs::copy(kept.join(format!("{name}.json")), dir.path().join(format!("{name}.json"))).unwrap();
    let packed = fs::read(kept.join(format!("{name}.sqlite.lz4"))).unwrap();
    let store = lz4_flex::block::decompress_size_prepended(&packed).unwrap();
    fs::write(dir.path().join(format!("{name}.sqlite")), store).unwrap();
    let found = list(dir.path()).unwrap();
    let [old] = &found.whole[..] else { panic!("{found:?}") };
    assert_eq!((old.manifest.taken_ms, old.manifest.records), (1_772_352_000_000, 40));
    verify(dir.path(), old).unwrap();
    let fresh = Scratch::new();
    restore(fresh.path(), dir.path(), old, "before").unwrap();
    // A gateway brings it up to the layout of today.
    drop(SqliteStore::open(fresh.path()).unwrap());
    assert_eq!(SqliteReader::open(fresh.path()).map(|store| rows(&store).len()).unwrap(), 40);
}

/// Writes the fixture anew: for a form that changed on purpose alone, beside the old one.
#[test]
#[ignore = "writes what another test reads"]
fn keep_a_plain_backup() {
    let (data, backups, _store) = filled(40);
    let name = "20260301T080000000Z";
    take(data.path(), backups.path(), name, 1_772_352_000_000).unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plain-1");
    fs::create_dir_all(&kept).unwrap();
    fs::copy(backups.path().join(format!("{name}.json")), kept.join(format!("{name}.json"))).unwrap();
    let packed =
        lz4_flex::block::compress_prepend_size(&fs::read(backups.path().join(format!("{name}.sqlite"))).unwrap());
    fs::write(kept.join(format!("{name}.sqlite.lz4")), packed).unwrap();
}

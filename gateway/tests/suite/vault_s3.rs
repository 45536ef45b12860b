//! A vault in a real S3 server's bucket.

use std::time::Duration;

use gateway::objects::Objects;
use gateway::store::SqliteStore;
use gateway::store::backup::{BackupError, BackupKey, Bucket as Place, PIECE_BYTES, Place as _, Taking, Vault};
use gateway::store::read::SqliteReader;

use crate::bucket::Bucket;
use crate::deposits::{block, put, rows, stream};
use crate::scratch::Scratch;

#[test]
fn a_vault_in_a_bucket_is_taken_verified_put_back_and_swept() {
    let Some(bucket) = Bucket::shared() else { return };
    let place = Place::open(&bucket.place()).unwrap();
    let (data, key) = (Scratch::new(), BackupKey::new().unwrap());
    let vault = Vault::new(&place, &key);
    let (mut store, _) = SqliteStore::open(data.path()).unwrap();
    let taking = |name, taken_ms| Taking {
        store: data.path(),
        scratch: data.path(),
        beside: Vec::new(),
        name,
        taken_ms,
        piece_bytes: 8192,
    };
    for first in (1..=4000).step_by(400) {
        put(&mut store, &[block(stream(1, 1), first, first..=first + 399)]);
    }
    let full = vault.take(taking("one", 1000)).unwrap();
    put(&mut store, &[block(stream(1, 1), 4001, 4001..=4003)]);
    let more = vault.take(taking("two", 2000)).unwrap();
    assert!(more.new_pieces < full.new_pieces / 2, "{more:?} after {full:?}");
    let all = vault.list().unwrap().whole;
    assert_eq!(all.len(), 2);
    for (backup, records) in all.iter().zip([4000, 4003]) {
        vault.verify(backup, data.path()).unwrap();
        let fresh = Scratch::new();
        vault.restore(fresh.path(), backup, "before").unwrap();
        assert_eq!(rows(&SqliteReader::open(fresh.path()).unwrap()).len(), records);
    }
    let swept = vault.prune(1, None).unwrap();
    assert_eq!(swept.backups, ["one"]);
    assert!(swept.pieces > 0);
    vault.verify(&all[1], data.path()).unwrap();
    let other = BackupKey::new().unwrap();
    assert!(matches!(Vault::new(&place, &other).list(), Err(BackupError::WrongKey { .. })));
    // One that does not hold is known by its piece, here as well.
    let mut pieces = Vec::new();
    place.list("pieces", &mut |name| pieces.push(name.to_owned())).unwrap();
    let mut bytes = place.get(&pieces[0], 2 * PIECE_BYTES as usize).unwrap().unwrap();
    bytes[20] ^= 1;
    place.put(&pieces[0], &bytes).unwrap();
    let found = vault.verify(&all[1], data.path()).unwrap_err();
    assert!(found.to_string().contains(&pieces[0]), "{found}");
}

#[test]
fn a_lock_in_a_bucket_keeps_others_out_until_its_holder_is_gone() {
    let Some(bucket) = Bucket::shared() else { return };
    let at = bucket.place();
    let place = Place::open_with(&at, Duration::from_secs(2)).unwrap();
    let held = place.hold().unwrap().unwrap();
    assert!(held.is_held().unwrap());
    drop(held);
    // As a killed process leaves it: there, and not renewed.
    let objects = Objects::open(&at).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(objects.put("lock", "a dead one's".into())).unwrap();
    let taken_over = place.hold().unwrap().unwrap();
    assert!(taken_over.is_held().unwrap());
    // A holder whose lock somebody took over is told so.
    runtime.block_on(objects.put("lock", "another's".into())).unwrap();
    assert!(!taken_over.is_held().unwrap());
    drop(taken_over);
    let left = runtime.block_on(objects.get("lock", 99)).unwrap();
    assert_eq!(left.unwrap(), "another's", "nobody else's lock is removed");
}

#[test]
fn a_lock_that_is_renewed_is_not_taken_over() {
    let Some(bucket) = Bucket::shared() else { return };
    let at = bucket.place();
    let (one, two) = (Place::open(&at).unwrap(), Place::open_with(&at, Duration::from_secs(25)).unwrap());
    let held = one.hold().unwrap().unwrap();
    assert!(two.hold().unwrap().is_none());
    assert!(held.is_held().unwrap());
}

//! What the store in a file promises of its file.

use gateway::store::read::SqliteReader;
use gateway::store::{FILE, SqliteStore, StoreError};

use crate::scratch::Scratch;

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
    other.pragma_update(None, "user_version", 2).unwrap();
    drop(other);
    assert!(matches!(SqliteStore::open(newer.path()), Err(StoreError::Layout { found: 2, .. })));
    assert!(matches!(SqliteReader::open(newer.path()), Err(StoreError::Layout { found: 2, .. })));
}

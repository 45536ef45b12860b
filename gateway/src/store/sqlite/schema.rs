//! The store's layout and how the file is opened. Owns every table definition and every pragma, with its reason.
//!
//! ```text
//! site 1──* stream 1──* coverage     what is stored, as ranges
//!                  1──* block        as it came: the unit of storage and of archives
//!                  1──* kept         a block's age, and in which part of the archive it is
//!                  1──* record       rows for queries, by (stream, seq); digests are unique by (publisher, key_kind, lot, key)
//!                  1──* shed         ranges that a gap record declared lost
//! site 1──* publisher, event, part   topic, meta
//!           publisher 1──* numbered   numbers that it gave rows, as ranges
//! ```
//!
//! Numbers that are unsigned 64-bit elsewhere (nonce, fence) are kept as the same 64 bits, signed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use shared::hub::HubMemory;
use shared::ids::{Name, Term};

use super::numbers;
use crate::store::StoreError;

/// Layout that this build writes, in `user_version`.
pub(in crate::store) const VERSION: i64 = 4;
/// A layout before, which is brought up to this one when the file is opened for writing: it lacks [`ARCHIVE`] and all that follows.
pub(in crate::store) const WITHOUT_ARCHIVE: i64 = 1;
/// A layout before, which lacks [`LOTS`].
const WITHOUT_LOTS: i64 = 2;
/// The layout before, which lacks [`NUMBERS`].
pub(in crate::store) const WITHOUT_NUMBERS: i64 = 3;
/// Marks the file as ours, in `application_id`: "RdSd".
const APPLICATION: i64 = 0x5264_5364;
/// Prepared statements kept: all that the store uses.
const STATEMENTS: usize = 96;
/// How long a statement waits for a lock: only a checkpoint against a long reader ever does.
const BUSY: Duration = Duration::from_secs(5);

const LAYOUT: &str = "
CREATE TABLE meta (incarnation INTEGER NOT NULL) STRICT;
CREATE TABLE site (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, fence INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE stream (
  id INTEGER PRIMARY KEY, site INTEGER NOT NULL, board INTEGER NOT NULL, boot INTEGER NOT NULL,
  nonce INTEGER NOT NULL, class INTEGER NOT NULL,
  rows INTEGER NOT NULL DEFAULT 0, duplicates INTEGER NOT NULL DEFAULT 0, gaps INTEGER NOT NULL DEFAULT 0,
  UNIQUE (site, board, boot, nonce, class)) STRICT;
CREATE TABLE coverage (
  stream INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  PRIMARY KEY (stream, first)) STRICT, WITHOUT ROWID;
CREATE TABLE block (
  id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
  codec INTEGER NOT NULL, raw_len INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL,
  received_ms INTEGER NOT NULL) STRICT;
CREATE INDEX block_place ON block (stream, first);
CREATE TABLE publisher (
  id INTEGER PRIMARY KEY, site INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE (site, name)) STRICT;
CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE record (
  stream INTEGER NOT NULL, seq INTEGER NOT NULL, block INTEGER NOT NULL, kind INTEGER NOT NULL,
  publisher INTEGER NOT NULL, key_kind INTEGER NOT NULL, key BLOB NOT NULL, awaits_original INTEGER NOT NULL,
  taken_ms INTEGER NOT NULL, topic INTEGER NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY (stream, seq)) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX record_key ON record (publisher, key_kind, key);
CREATE TABLE shed (
  id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  bytes INTEGER NOT NULL, reason INTEGER NOT NULL) STRICT;
CREATE INDEX shed_stream ON shed (stream);
CREATE TABLE event (
  id INTEGER PRIMARY KEY, site INTEGER, at_ms INTEGER NOT NULL, name TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
";

/// What layout 2 has more than layout 1: counts of what was archived and of what has expired, each block's age, and parts.
const ARCHIVE: &str = "
ALTER TABLE stream ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stream ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
CREATE TABLE kept (
  stream INTEGER NOT NULL, part INTEGER NOT NULL, received_ms INTEGER NOT NULL, block INTEGER NOT NULL,
  records INTEGER NOT NULL, PRIMARY KEY (stream, part, received_ms, block)) STRICT, WITHOUT ROWID;
CREATE TABLE part (
  id INTEGER PRIMARY KEY AUTOINCREMENT, site INTEGER NOT NULL, day_ms INTEGER NOT NULL, name TEXT NOT NULL,
  records INTEGER NOT NULL, bytes INTEGER, stored_ms INTEGER) STRICT;
CREATE INDEX part_waiting ON part (id) WHERE stored_ms IS NULL;
";
/// The ages of the blocks that a file of layout 1 has: none is archived.
const AGES: &str = "
INSERT INTO kept (stream, part, received_ms, block, records)
  SELECT b.stream, 0, b.received_ms, b.id,
         (SELECT count(*) FROM record r
          WHERE r.stream = b.stream AND r.seq BETWEEN b.first AND b.first + b.count - 1 AND r.block = b.id)
  FROM block b;
";

/// What layout 3 has more than layout 2: lots, so that the index of keys is not written all over where keys are digests; and the
/// copies that wait for their original have an index of their own.
const LOTS: &str = "
ALTER TABLE publisher ADD COLUMN lot INTEGER NOT NULL DEFAULT 1;
ALTER TABLE record ADD COLUMN lot INTEGER NOT NULL DEFAULT 0;
DROP INDEX record_key;
CREATE UNIQUE INDEX record_key ON record (publisher, key_kind, lot, key);
CREATE INDEX record_waiting ON record (publisher, key) WHERE awaits_original = 1;
";

/// What layout 4 has more than layout 3: numbers of publishers as ranges, and the index of keys without them. Its condition is written as queries
/// have it: SQLite takes a partial index only where it finds one of the terms.
const NUMBERS: &str = "
CREATE TABLE numbered (
  publisher INTEGER NOT NULL, first BLOB NOT NULL, last BLOB NOT NULL, PRIMARY KEY (publisher, first)) STRICT, WITHOUT ROWID;
";
/// Once the rows that are there are counted, in the order of the index of before.
const KEYS: &str = "
DROP INDEX record_key;
CREATE UNIQUE INDEX record_key ON record (publisher, key_kind, lot, key) WHERE key_kind = 1 OR key_kind = 2;
";

/// Opens the file for writing, making it where it does not exist.
pub(in crate::store) fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Rows of some 200 bytes with payloads up to 64 KiB: twice the default page halves the overflow chains. It only
    // counts before the first table.
    connection.pragma_update(None, "page_size", 8192)?;
    // Readers never wait for the writer, nor the writer for them; a commit is one append and one sync.
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Sync at every commit: NORMAL would lose acknowledged commits at a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    // 32 MiB of log between checkpoints, so that hot index pages are written once and not at every commit.
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    // What a burst has grown is given back.
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    // 32 MiB for the keys' index, which is touched at random.
    connection.pragma_update(None, "cache_size", -32 * 1024)?;
    // No mapped I/O (the default): a failing disk must be an error, not a signal that kills the process.
    connection.pragma_update(None, "mmap_size", 0)?;
    // A damaged page is found when it is read and not after it was believed.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // An index of millions of records that is made anew is sorted on the disk.
    connection.pragma_update(None, "temp_store", "file")?;
    lay_out(&mut connection, path)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(connection)
}

/// Opens the file for reading alone; a gateway may be writing it meanwhile.
pub(in crate::store) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    match open_any_to_read(path)? {
        (connection, VERSION) => Ok(connection),
        (_, found) => Err(StoreError::Layout { path: path.to_owned(), found }),
    }
}

/// The same of a file that may have the layout before, too; with its layout.
pub(in crate::store) fn open_any_to_read(path: &Path) -> Result<(Connection, i64), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "trusted_schema", false)?;
    let found = layout_of(&connection, path)?;
    Ok((connection, found))
}

/// The layout of an open store, where it is one that can be read; `path` is what it is called.
pub(in crate::store) fn layout_of(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let found = pragma(connection, "user_version")?;
    if !(WITHOUT_ARCHIVE..=VERSION).contains(&found) || pragma(connection, "application_id")? != APPLICATION {
        return Err(StoreError::Layout { path: path.to_owned(), found });
    }
    Ok(found)
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

/// All tables or none, also of those that an older file lacks: a gateway that is killed here begins again.
fn lay_out(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = pragma(&transaction, "user_version")?;
    let is_ours = pragma(&transaction, "application_id")? == APPLICATION;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if found == VERSION && is_ours {
        return Ok(());
    }
    let is_before = is_ours && (WITHOUT_ARCHIVE..=WITHOUT_NUMBERS).contains(&found);
    let is_new = found == 0 && tables == 0;
    if !is_before && !is_new {
        return Err(StoreError::Layout { path: path.to_owned(), found });
    }
    if is_before {
        tracing::info!(file = %path.display(), "bringing the store up to this version: each record is looked at once");
    } else {
        transaction.execute_batch(LAYOUT)?;
    }
    if found < WITHOUT_LOTS {
        transaction.execute_batch(ARCHIVE)?;
        transaction.execute_batch(AGES)?;
    }
    if found < WITHOUT_NUMBERS {
        transaction.execute_batch(LOTS)?;
    }
    transaction.execute_batch(NUMBERS)?;
    numbers::count(&transaction)?;
    transaction.execute_batch(KEYS)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// Writes the new incarnation and reads the fences.
pub(in crate::store) fn remember(connection: &mut Connection, incarnation: u64) -> Result<HubMemory, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("DELETE FROM meta", [])?;
    transaction.execute("INSERT INTO meta (incarnation) VALUES (?1)", [incarnation.cast_signed()])?;
    let mut fences = BTreeMap::new();
    {
        let mut select = transaction.prepare("SELECT name, fence FROM site")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let fence: i64 = row.get(1)?;
            // Names came from the configuration, which bounds them.
            if let Ok(name) = Name::try_from(name.as_str()) {
                fences.insert(name, Term::from_token(fence.cast_unsigned()));
            }
        }
    }
    transaction.commit()?;
    Ok(HubMemory { incarnation, fences })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_a_sync_and_readers_do_not_wait() {
        let dir = std::env::temp_dir().join(format!("roadstead-schema-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let connection = open(&dir.join("region.sqlite")).unwrap();
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        assert_eq!(pragma(&connection, "synchronous").unwrap(), 2);
        assert_eq!(pragma(&connection, "page_size").unwrap(), 8192);
        assert_eq!(pragma(&connection, "mmap_size").unwrap(), 0);
        assert_eq!(pragma(&connection, "user_version").unwrap(), VERSION);
        drop(connection);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

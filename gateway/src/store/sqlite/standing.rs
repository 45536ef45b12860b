//! The row that is filed already under a reading's key, looked for where it may be (`lots`).

use rusqlite::{Connection, OptionalExtension, Row, params};
use shared::region::ledger::{Filed, FilingKey};
use shared::time::WallMillis;

use super::deposit::stream_at;
use crate::store::StoreError;
use crate::store::lots::NO_LOT;

/// The row of `publisher` under `key` in one lot.
pub(super) fn in_lot(
    sql: &Connection,
    (publisher, lot): (i64, i64),
    key: FilingKey,
) -> Result<Option<Filed>, StoreError> {
    let found = sql
        .prepare_cached(
            "SELECT s.board, s.boot, s.nonce, s.class, r.seq, r.awaits_original, r.taken_ms
             FROM record r INDEXED BY record_key JOIN stream s ON s.id = r.stream
             WHERE r.publisher = ?1 AND r.key_kind = ?2 AND (r.key_kind = 1 OR r.key_kind = 2) AND r.lot = ?3 AND r.key = ?4",
        )?
        .query_row(params![publisher, key.kind, lot, &key.bytes[..]], filed)
        .optional()?;
    Ok(found)
}

/// The copy of `publisher` under `key` that waits for its original.
pub(super) fn waiting(sql: &Connection, publisher: i64, key: &FilingKey) -> Result<Option<Filed>, StoreError> {
    let found = sql
        .prepare_cached(
            "SELECT s.board, s.boot, s.nonce, s.class, r.seq, r.awaits_original, r.taken_ms
             FROM record r INDEXED BY record_waiting JOIN stream s ON s.id = r.stream
             WHERE r.publisher = ?1 AND r.key = ?3 AND r.awaits_original = 1 AND r.key_kind = ?2",
        )?
        .query_row(params![publisher, key.kind, &key.bytes[..]], filed)
        .optional()?;
    Ok(found)
}

/// A delivery of `publisher` under `key` in any lot, the newest first. Asks the index once a lot and skips what is between.
pub(super) fn in_any_lot(sql: &Connection, publisher: i64, key: &FilingKey) -> Result<Option<Filed>, StoreError> {
    let found = sql
        .prepare_cached(
            "WITH RECURSIVE lots (lot) AS (
               SELECT max(lot) FROM record WHERE publisher = ?1 AND key_kind = 2
               UNION ALL
               SELECT (SELECT max(lot) FROM record WHERE publisher = ?1 AND key_kind = 2 AND lot < lots.lot)
               FROM lots WHERE lot IS NOT NULL)
             SELECT s.board, s.boot, s.nonce, s.class, r.seq, r.awaits_original, r.taken_ms
             FROM lots CROSS JOIN record r INDEXED BY record_key CROSS JOIN stream s
             WHERE r.publisher = ?1 AND r.key_kind = 2 AND r.lot = lots.lot AND r.key = ?2 AND s.id = r.stream
             LIMIT 1",
        )?
        .query_row(params![publisher, &key.bytes[..]], filed)
        .optional()?;
    Ok(found)
}

/// The original of the copy of `publisher` under `key`, a delivery's, has come.
pub(super) fn meet(sql: &Connection, publisher: i64, key: &FilingKey) -> Result<(), StoreError> {
    sql.prepare_cached(
        "UPDATE record SET awaits_original = 0 WHERE publisher = ?1 AND key_kind = 2 AND lot = ?2 AND key = ?3",
    )?
    .execute(params![publisher, NO_LOT, &key.bytes[..]])?;
    Ok(())
}

fn filed(row: &Row<'_>) -> rusqlite::Result<Filed> {
    let (seq, taken): (i64, i64) = (row.get(4)?, row.get(6)?);
    Ok(Filed {
        stream: stream_at(row, 0)?,
        seq: seq.cast_unsigned(),
        taken: WallMillis(taken.cast_unsigned()),
        awaits_original: row.get(5)?,
    })
}

//! Parts and expiry in the file: each function is one transaction's work, or one look's. Which blocks are due is found by streams, each
//! with one place in the index of `kept`.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use shared::ids::{Class, Name};
use shared::region::numbers::{Numbers, number};
use shared::time::WallMillis;

use super::deposit::stream_at;
use super::numbers;
use super::read::row_of;
use crate::store::StoreError;
use crate::store::parts::{
    self, DAY_MS, DUE_MAX, Due, Expired, Expiry, Filling, Member, PART_BLOCKS_MAX, Part, day_of, millis,
};
use crate::store::read::Row;

/// A site that has blocks from before `before` in no part.
pub(super) fn unarchived(sql: &Connection, before: WallMillis) -> Result<Option<String>, StoreError> {
    let found = sql
        .prepare_cached(
            "SELECT site.name FROM stream s JOIN site ON site.id = s.site
             WHERE EXISTS (SELECT 1 FROM kept k WHERE k.stream = s.id AND k.part = 0 AND k.received_ms < ?1) LIMIT 1",
        )?
        .query_row([millis(before)], |row| row.get(0))
        .optional()?;
    Ok(found)
}

/// The first part that waits.
pub(super) fn waiting(sql: &Connection) -> Result<Option<Part>, StoreError> {
    let found = sql
        .prepare_cached(
            "SELECT p.id, site.name, p.day_ms, p.name, p.records FROM part p JOIN site ON site.id = p.site
             WHERE p.stored_ms IS NULL ORDER BY p.id LIMIT 1",
        )?
        .query_row([], |row| {
            let records: i64 = row.get(4)?;
            Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, records.cast_unsigned()))
        })
        .optional()?;
    let Some((id, site, day_ms, name, records)) = found else { return Ok(None) };
    let site = Name::try_from(site.as_str()).map_err(|_| StoreError::Vanished)?;
    Ok(Some(Part { id, site, day_ms, name, records }))
}

/// Gathers the blocks of the first day that has any.
pub(super) fn plan(sql: &Connection, site: &Name, before: WallMillis) -> Result<Option<Part>, StoreError> {
    let first: Option<i64> = sql
        .prepare_cached(
            "SELECT min(first) FROM
               (SELECT (SELECT min(k.received_ms) FROM kept k WHERE k.stream = s.id AND k.part = 0) AS first
                FROM stream s JOIN site ON site.id = s.site WHERE site.name = ?1)",
        )?
        .query_row([site.as_str()], |row| row.get(0))?;
    let Some(day_ms) = first.filter(|first| *first < millis(before)).map(day_of) else {
        return Ok(None);
    };
    let end = millis(before).min(day_ms.saturating_add(DAY_MS));
    let (mut members, mut places, mut records) = (Vec::new(), Vec::new(), 0);
    let mut select = sql.prepare_cached(
        "SELECT s.board, s.boot, s.nonce, s.class, b.first, b.count, b.raw_len, k.records, k.stream, k.received_ms, k.block
         FROM (SELECT k.stream, k.received_ms, k.block, k.records
               FROM site JOIN stream s ON s.site = site.id JOIN kept k ON k.stream = s.id
               WHERE site.name = ?1 AND k.part = 0 AND k.received_ms >= ?2 AND k.received_ms < ?3
               ORDER BY k.block LIMIT ?4) k
         JOIN stream s ON s.id = k.stream JOIN block b ON b.id = k.block ORDER BY k.block",
    )?;
    let mut rows = select.query(params![site.as_str(), day_ms, end, PART_BLOCKS_MAX as i64])?;
    let mut filling = Filling::new();
    while let Some(row) = rows.next()? {
        if !filling.takes(row.get::<_, i64>(6)?.cast_unsigned()) {
            break;
        }
        let first: i64 = row.get(4)?;
        members.push(Member { stream: stream_at(row, 0)?, first: first.cast_unsigned(), count: row.get(5)? });
        records += row.get::<_, i64>(7)?;
        places.push((row.get::<_, i64>(8)?, row.get::<_, i64>(9)?, row.get::<_, i64>(10)?));
    }
    let id = sql
        .prepare_cached(
            "INSERT INTO part (site, day_ms, name, records) SELECT id, ?2, '', ?3 FROM site WHERE name = ?1",
        )?
        .insert(params![site.as_str(), day_ms, records])?;
    let name = parts::name(site, day_ms, id, &members);
    sql.prepare_cached("UPDATE part SET name = ?2 WHERE id = ?1")?
        .execute(params![id, name])?;
    let mut take = sql.prepare_cached(
        "UPDATE kept SET part = ?1 WHERE stream = ?2 AND part = 0 AND received_ms = ?3 AND block = ?4",
    )?;
    for (stream, received_ms, block) in places {
        take.execute(params![id, stream, received_ms, block])?;
    }
    Ok(Some(Part { id, site: site.clone(), day_ms, name, records: records.cast_unsigned() }))
}

/// Passes on the rows of a part that waits; how many.
pub(super) fn rows(
    sql: &Connection,
    part: &Part,
    each: &mut dyn FnMut(Row<'_>, i64),
) -> Result<Option<u64>, StoreError> {
    if !waits(sql, part)? {
        return Ok(None);
    }
    let mut blocks = sql.prepare_cached(
        "SELECT s.board, s.boot, s.nonce, s.class, s.id, b.id, b.first, b.first + (b.count - 1), k.received_ms
         FROM site JOIN stream s ON s.site = site.id JOIN kept k ON k.stream = s.id AND k.part = ?2
              JOIN block b ON b.id = k.block
         WHERE site.name = ?1 ORDER BY s.board, s.boot, s.nonce, s.class, b.first, b.id",
    )?;
    let mut select = sql.prepare_cached(
        "SELECT r.seq, r.kind, p.name, r.key_kind, r.key, r.taken_ms, t.name, r.payload
         FROM record r JOIN publisher p ON p.id = r.publisher JOIN topic t ON t.id = r.topic
         WHERE r.stream = ?1 AND r.seq BETWEEN ?2 AND ?3 AND r.block = ?4 ORDER BY r.seq",
    )?;
    let mut count = 0;
    let mut found = blocks.query(params![part.site.as_str(), part.id])?;
    while let Some(block) = found.next()? {
        let (stream, received_ms) = (stream_at(block, 0)?, block.get(8)?);
        let place: (i64, i64, i64, i64) = (block.get(4)?, block.get(6)?, block.get(7)?, block.get(5)?);
        let mut rows = select.query(place)?;
        while let Some(row) = rows.next()? {
            each(row_of(stream, row)?, received_ms);
            count += 1;
        }
    }
    Ok(Some(count))
}

fn waits(sql: &Connection, part: &Part) -> Result<bool, StoreError> {
    Ok(sql
        .prepare_cached("SELECT 1 FROM part WHERE id = ?1 AND name = ?2 AND stored_ms IS NULL")?
        .exists(params![part.id, part.name])?)
}

/// Notes that a part is archived.
pub(super) fn archived(sql: &Connection, part: &Part, bytes: u64, now: WallMillis) -> Result<bool, StoreError> {
    if !waits(sql, part)? {
        return Ok(false);
    }
    sql.prepare_cached("UPDATE part SET bytes = ?2, stored_ms = ?3 WHERE id = ?1")?
        .execute(params![part.id, bytes.cast_signed(), millis(now)])?;
    sql.prepare_cached(
        "UPDATE stream SET archived = archived + (SELECT sum(records) FROM kept WHERE stream = stream.id AND part = ?2)
         WHERE site = (SELECT id FROM site WHERE name = ?1)
           AND EXISTS (SELECT 1 FROM kept WHERE stream = stream.id AND part = ?2)",
    )?
    .execute(params![part.site.as_str(), part.id])?;
    Ok(true)
}

/// Blocks whose time is over.
pub(super) fn due(sql: &Connection, class: Class, before: WallMillis, archived: bool) -> Result<Vec<Due>, StoreError> {
    let mut found = due_of(sql, IN_ARCHIVED, class, before)?;
    if found.is_empty() && !archived {
        found = due_of(sql, IN_NONE, class, before)?;
    }
    Ok(found)
}

/// In no part, of all streams of a class.
const IN_NONE: &str = "
SELECT k.stream, k.part, k.received_ms, k.block, k.records FROM stream s CROSS JOIN kept k
WHERE s.class = ?1 AND k.stream = s.id AND k.part = 0 AND k.received_ms < ?2 LIMIT ?3";
/// In the first part of each stream, where that is archived: later ones are of later days.
const IN_ARCHIVED: &str = "
SELECT k.stream, k.part, k.received_ms, k.block, k.records FROM stream s CROSS JOIN kept k CROSS JOIN part p
WHERE s.class = ?1 AND k.stream = s.id AND k.part = (SELECT min(part) FROM kept WHERE stream = s.id AND part > 0)
  AND k.received_ms < ?2 AND p.id = k.part AND p.stored_ms IS NOT NULL LIMIT ?3";

fn due_of(sql: &Connection, select: &str, class: Class, before: WallMillis) -> Result<Vec<Due>, StoreError> {
    let mut select = sql.prepare_cached(select)?;
    let due = select.query_map(params![class as u8, millis(before), DUE_MAX], |row| {
        let records: i64 = row.get(4)?;
        Ok(Due {
            stream: row.get(0)?,
            part: row.get(1)?,
            received_ms: row.get(2)?,
            block: row.get(3)?,
            records: records.cast_unsigned(),
        })
    })?;
    Ok(due.collect::<Result<_, _>>()?)
}

/// Removes blocks and their records, and the numbers that publishers gave these.
pub(super) fn expire(sql: &Connection, expiry: &Expiry<'_>) -> Result<Expired, StoreError> {
    let mut expired = Expired::new();
    let mut away = BTreeMap::new();
    for due in expiry.blocks.iter().filter(|due| due.part > 0 || !expiry.archived_only) {
        if !release(sql, due)? {
            continue;
        }
        let (first, last): (i64, i64) = sql
            .prepare_cached("SELECT first, first + (count - 1) FROM block WHERE id = ?1")?
            .query_row([due.block], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let gone = remove(sql, (due.stream, first, last, due.block), &mut away)?;
        sql.prepare_cached("DELETE FROM block WHERE id = ?1")?.execute([due.block])?;
        never_again(sql, due.block)?;
        sql.prepare_cached("UPDATE stream SET expired = expired + ?2 WHERE id = ?1")?
            .execute(params![due.stream, gone.cast_signed()])?;
        let site: String = sql
            .prepare_cached("SELECT site.name FROM stream s JOIN site ON site.id = s.site WHERE s.id = ?1")?
            .query_row([due.stream], |row| row.get(0))?;
        *expired.entry(site).or_default() += gone;
    }
    numbers::take_away(sql, &away)?;
    Ok(expired)
}

/// Removes the records of a block of a stream; how many. The numbers of publishers that go with them are put into `away`.
fn remove(sql: &Connection, place: (i64, i64, i64, i64), away: &mut BTreeMap<i64, Numbers>) -> Result<u64, StoreError> {
    let mut remove = sql.prepare_cached(
        "DELETE FROM record WHERE stream = ?1 AND seq BETWEEN ?2 AND ?3 AND block = ?4 RETURNING publisher, key_kind, key",
    )?;
    let mut rows = remove.query(place)?;
    let mut gone = 0;
    while let Some(row) = rows.next()? {
        gone += 1;
        if row.get::<_, u8>(1)? == 0 {
            away.entry(row.get(0)?).or_default().add(number(row.get(2)?));
        }
    }
    Ok(gone)
}

/// A number that is gone is not given again: whoever pages by it would pass over what comes. SQLite keeps the highest one in a table of
/// its own, which it lets be written.
fn never_again(sql: &Connection, block: i64) -> Result<(), StoreError> {
    let raised = sql
        .prepare_cached("UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'block'")?
        .execute([block])?;
    if raised == 0 {
        sql.prepare_cached("INSERT INTO sqlite_sequence (name, seq) VALUES ('block', ?1)")?
            .execute([block])?;
    }
    Ok(())
}

/// Whether the block was kept as it was found, and may go; then it is kept no more.
fn release(sql: &Connection, due: &Due) -> Result<bool, StoreError> {
    let changed = sql
        .prepare_cached(
            "DELETE FROM kept WHERE stream = ?1 AND part = ?2 AND received_ms = ?3 AND block = ?4
               AND (?2 = 0 OR EXISTS (SELECT 1 FROM part WHERE id = ?2 AND stored_ms IS NOT NULL))",
        )?
        .execute(params![due.stream, due.part, due.received_ms, due.block])?;
    Ok(changed == 1)
}

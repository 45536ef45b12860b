//! Parts and expiry in the database: each function is one transaction's work, or one look's, as in the file of SQLite. Who calls
//! those that write holds the row of `meta`, so that one gateway does it at a time.

use std::collections::BTreeMap;

use shared::ids::{Class, Name, Stream};
use shared::region::numbers::number;
use shared::time::WallMillis;
use tokio_postgres::Row;

use super::filing::stream_at;
use super::key::KeyBytes;
use super::numbers::Numbered;
use super::session::{Session, get};
use crate::store::StoreError;
use crate::store::parts::{self, DAY_MS, DUE_MAX, Due, Expired, Expiry, Filling, Member, Part, day_of, millis};

/// A block of a part.
pub(super) struct PartBlock {
    pub(super) id: i64,
    pub(super) stream_id: i32,
    pub(super) stream: Stream,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) received_ms: i64,
}

/// A site that has blocks from before `before` in no part.
pub(super) fn unarchived(session: &mut Session, before: WallMillis) -> Result<Option<String>, StoreError> {
    let select = "SELECT site.name FROM stream s JOIN site ON site.id = s.site
                  WHERE EXISTS (SELECT 1 FROM kept k WHERE k.stream = s.id AND k.part = 0 AND k.received_ms < $1) LIMIT 1";
    session
        .query_opt(select, &[&millis(before)])?
        .map(|row| get(&row, 0))
        .transpose()
}

/// The first part that waits.
pub(super) fn waiting(session: &mut Session) -> Result<Option<Part>, StoreError> {
    let select = "SELECT p.id, site.name, p.day_ms, p.name, p.records FROM part p JOIN site ON site.id = p.site
                  WHERE p.stored_ms IS NULL ORDER BY p.id LIMIT 1";
    let of_row = |row: Row| {
        let site = Name::try_from(get::<&str>(&row, 1)?).map_err(|_| StoreError::Vanished)?;
        let records = get::<i64>(&row, 4)?.cast_unsigned();
        Ok(Part { id: get(&row, 0)?, site, day_ms: get(&row, 2)?, name: get(&row, 3)?, records })
    };
    session.query_opt(select, &[])?.map(of_row).transpose()
}

/// Gathers the blocks of the first day that has any.
pub(super) fn plan(session: &mut Session, site: &Name, before: WallMillis) -> Result<Option<Part>, StoreError> {
    let first = "SELECT min(of_stream.first) FROM
                   (SELECT (SELECT min(k.received_ms) FROM kept k WHERE k.stream = s.id AND k.part = 0) AS first
                    FROM stream s JOIN site ON site.id = s.site WHERE site.name = $1) AS of_stream";
    let first = session.query_opt(first, &[&site.as_str()])?;
    let first: Option<i64> = first.map_or(Ok(None), |row| get(&row, 0))?;
    let Some(day_ms) = first.filter(|first| *first < millis(before)).map(day_of) else {
        return Ok(None);
    };
    let end = millis(before).min(day_ms.saturating_add(DAY_MS));
    let select = "SELECT s.board, s.boot, s.nonce, s.class, b.first, b.count, b.raw_len, k.records, k.stream, k.block
                  FROM (SELECT k.stream, k.block, k.records
                        FROM site JOIN stream s ON s.site = site.id JOIN kept k ON k.stream = s.id
                        WHERE site.name = $1 AND k.part = 0 AND k.received_ms >= $2 AND k.received_ms < $3
                        ORDER BY k.block LIMIT $4) k
                  JOIN stream s ON s.id = k.stream JOIN block b ON b.id = k.block ORDER BY k.block";
    let most = parts::PART_BLOCKS_MAX as i64;
    let (mut members, mut streams, mut blocks, mut records) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut filling = Filling::new();
    for row in session.query(select, &[&site.as_str(), &day_ms, &end, &most])? {
        if !filling.takes(u64::from(get::<i32>(&row, 6)?.cast_unsigned())) {
            break;
        }
        let (first, count): (i64, i32) = (get(&row, 4)?, get(&row, 5)?);
        members.push(Member {
            stream: stream_at(&row, 0)?,
            first: first.cast_unsigned(),
            count: count.cast_unsigned(),
        });
        records += i64::from(get::<i32>(&row, 7)?);
        streams.push(get::<i32>(&row, 8)?);
        blocks.push(get::<i64>(&row, 9)?);
    }
    let insert =
        "INSERT INTO part (site, day_ms, name, records) SELECT id, $2, '', $3 FROM site WHERE name = $1 RETURNING id";
    let row = session.query_opt(insert, &[&site.as_str(), &day_ms, &records])?;
    let id = row.map_or(Err(StoreError::Vanished), |row| get(&row, 0))?;
    let name = parts::name(site, day_ms, id, &members);
    session.execute("UPDATE part SET name = $2 WHERE id = $1", &[&id, &name])?;
    let take = "UPDATE kept SET part = $1 FROM unnest($2::integer[], $3::bigint[]) AS taken (stream, block)
                WHERE kept.stream = taken.stream AND kept.part = 0 AND kept.block = taken.block
                  AND kept.received_ms >= $4 AND kept.received_ms < $5";
    session.execute(take, &[&id, &streams, &blocks, &day_ms, &end])?;
    Ok(Some(Part { id, site: site.clone(), day_ms, name, records: records.cast_unsigned() }))
}

/// The blocks of a part that waits, in order of their streams and sequences.
pub(super) fn blocks(session: &mut Session, part: &Part) -> Result<Option<Vec<PartBlock>>, StoreError> {
    if !waits(session, part)? {
        return Ok(None);
    }
    let select = "SELECT s.board, s.boot, s.nonce, s.class, s.id, b.id, b.first, b.first + (b.count - 1), k.received_ms
                  FROM site JOIN stream s ON s.site = site.id JOIN kept k ON k.stream = s.id AND k.part = $2
                       JOIN block b ON b.id = k.block
                  WHERE site.name = $1 ORDER BY s.board, s.boot, s.nonce, s.class, b.first, b.id";
    let of_row = |row: &Row| {
        Ok(PartBlock {
            stream: stream_at(row, 0)?,
            stream_id: get(row, 4)?,
            id: get(row, 5)?,
            first: get(row, 6)?,
            last: get(row, 7)?,
            received_ms: get(row, 8)?,
        })
    };
    let found = session.query(select, &[&part.site.as_str(), &part.id])?;
    found.iter().map(of_row).collect::<Result<_, _>>().map(Some)
}

fn waits(session: &mut Session, part: &Part) -> Result<bool, StoreError> {
    let select = "SELECT 1 FROM part WHERE id = $1 AND name = $2 AND stored_ms IS NULL";
    Ok(session.query_opt(select, &[&part.id, &part.name])?.is_some())
}

/// Notes that a part is archived.
pub(super) fn archived(session: &mut Session, part: &Part, bytes: u64, now: WallMillis) -> Result<bool, StoreError> {
    if !waits(session, part)? {
        return Ok(false);
    }
    let update = "UPDATE part SET bytes = $2, stored_ms = $3 WHERE id = $1";
    session.execute(update, &[&part.id, &bytes.cast_signed(), &millis(now)])?;
    let count = "UPDATE stream SET archived = stream.archived + more.records
                 FROM (SELECT k.stream, sum(k.records)::bigint AS records
                       FROM site JOIN stream s ON s.site = site.id JOIN kept k ON k.stream = s.id AND k.part = $2
                       WHERE site.name = $1 GROUP BY k.stream) AS more
                 WHERE stream.id = more.stream";
    session.execute(count, &[&part.site.as_str(), &part.id])?;
    Ok(true)
}

/// Blocks whose time is over.
pub(super) fn due(
    session: &mut Session,
    class: Class,
    before: WallMillis,
    archived: bool,
) -> Result<Vec<Due>, StoreError> {
    // In the first part of each stream, where that is archived: later ones are of later days.
    let in_archived = "SELECT k.stream, k.part, k.received_ms, k.block, k.records
                       FROM stream s
                       CROSS JOIN LATERAL (SELECT min(m.part) AS part FROM kept m WHERE m.stream = s.id AND m.part > 0) AS first
                       JOIN kept k ON k.stream = s.id AND k.part = first.part
                       JOIN part p ON p.id = k.part
                       WHERE s.class = $1 AND k.received_ms < $2 AND p.stored_ms IS NOT NULL LIMIT $3";
    let in_none = "SELECT k.stream, k.part, k.received_ms, k.block, k.records
                   FROM stream s JOIN kept k ON k.stream = s.id
                   WHERE s.class = $1 AND k.part = 0 AND k.received_ms < $2 LIMIT $3";
    let found = due_of(session, in_archived, class, before)?;
    if found.is_empty() && !archived {
        return due_of(session, in_none, class, before);
    }
    Ok(found)
}

fn due_of(
    session: &mut Session,
    select: &'static str,
    class: Class,
    before: WallMillis,
) -> Result<Vec<Due>, StoreError> {
    let of_row = |row: &Row| {
        Ok(Due {
            stream: i64::from(get::<i32>(row, 0)?),
            part: get(row, 1)?,
            received_ms: get(row, 2)?,
            block: get(row, 3)?,
            records: u64::from(get::<i32>(row, 4)?.cast_unsigned()),
        })
    };
    let found = session.query(select, &[&i16::from(class as u8), &millis(before), &i64::from(DUE_MAX)])?;
    found.iter().map(of_row).collect()
}

/// Removes blocks and their records, and the numbers that publishers gave these.
pub(super) fn expire(session: &mut Session, expiry: &Expiry<'_>) -> Result<Expired, StoreError> {
    lock(session, expiry)?;
    let going = || expiry.blocks.iter().filter(|due| due.part > 0 || !expiry.archived_only);
    let streams: Vec<i64> = going().map(|due| due.stream).collect();
    let parts: Vec<i64> = going().map(|due| due.part).collect();
    let received: Vec<i64> = going().map(|due| due.received_ms).collect();
    let blocks: Vec<i64> = going().map(|due| due.block).collect();
    let release = "DELETE FROM kept k
                   USING unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS due (stream, part, received_ms, block)
                   WHERE k.stream = due.stream AND k.part = due.part AND k.received_ms = due.received_ms AND k.block = due.block
                     AND (k.part = 0 OR EXISTS (SELECT 1 FROM part p WHERE p.id = k.part AND p.stored_ms IS NOT NULL))
                   RETURNING k.block";
    let released = session.query(release, &[&streams, &parts, &received, &blocks])?;
    let released = released.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>, _>>()?;
    let gone = remove(session, &released)?;
    let mut expired = Expired::new();
    // Also of blocks without a row: they are gone, too.
    let sites = "SELECT DISTINCT site.name FROM stream JOIN site ON site.id = stream.site JOIN block ON block.stream = stream.id
                 WHERE block.id = ANY($1)";
    for row in session.query(sites, &[&released])? {
        expired.insert(get(&row, 0)?, 0);
    }
    session.execute("DELETE FROM block WHERE id = ANY($1)", &[&released])?;
    let count = "UPDATE stream SET expired = stream.expired + $2 FROM site
                 WHERE stream.id = $1 AND site.id = stream.site RETURNING site.name";
    for (stream, records) in gone {
        let row = session.query_opt(count, &[&stream, &records])?.ok_or(StoreError::Vanished)?;
        *expired.entry(get(&row, 0)?).or_default() += records.cast_unsigned();
    }
    Ok(expired)
}

/// Locks what filing locks, in its order: streams, then publishers. Rows that expire stay locked until the commit, and numbers are changed.
fn lock(session: &mut Session, expiry: &Expiry<'_>) -> Result<(), StoreError> {
    let blocks: Vec<i64> = expiry.blocks.iter().map(|due| due.block).collect();
    let streams =
        "SELECT id FROM stream WHERE id IN (SELECT b.stream FROM block b WHERE b.id = ANY($1)) ORDER BY id FOR UPDATE";
    session.query(streams, &[&blocks])?;
    let select = "SELECT DISTINCT r.publisher FROM block b JOIN record r
                  ON r.stream = b.stream AND r.seq BETWEEN b.first AND b.first + (b.count - 1) AND r.block = b.id
                  WHERE b.id = ANY($1)";
    let publishers = session.query(select, &[&blocks])?;
    let publishers = publishers.iter().map(|row| get(row, 0)).collect::<Result<Vec<i32>, _>>()?;
    session.query("SELECT id FROM publisher WHERE id = ANY($1) ORDER BY id FOR UPDATE", &[&publishers])?;
    Ok(())
}

/// Removes the records of blocks, with their numbers; how many of each stream.
fn remove(session: &mut Session, blocks: &[i64]) -> Result<BTreeMap<i32, i64>, StoreError> {
    let remove = "WITH gone AS (
                    DELETE FROM record r USING block b
                    WHERE b.id = ANY($1) AND r.stream = b.stream AND r.seq BETWEEN b.first AND b.first + (b.count - 1)
                      AND r.block = b.id
                    RETURNING r.stream, r.publisher, r.key_kind, r.key)
                  SELECT stream, publisher, count(*), array_agg(key) FILTER (WHERE key_kind = 0)
                  FROM gone GROUP BY stream, publisher";
    let mut gone: BTreeMap<i32, i64> = BTreeMap::new();
    let mut away = Numbered::default();
    for row in session.query(remove, &[&blocks])? {
        *gone.entry(get(&row, 0)?).or_default() += get::<i64>(&row, 2)?;
        for KeyBytes(bytes) in get::<Option<Vec<KeyBytes>>>(&row, 3)?.unwrap_or_default() {
            away.of(get(&row, 1)?).add(number(bytes));
        }
    }
    let mut numbered = away.around(session)?;
    numbered.remove(&away);
    numbered.write(session)?;
    Ok(gone)
}

//! Reading the file from outside of its writer: read-only, with a connection of its own.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use shared::ids::{Class, Name, Stream};
use shared::ranges::RangeSet;
use shared::record::{GapReason, Kind};
use shared::region::ledger::FilingKey;
use shared::time::WallMillis;

use super::deposit::{range_at, stream_at};
use super::ids::SiteId;
use super::{FILE, deposit, parts, schema};
use crate::store::StoreError;
use crate::store::counts::{self, Counted, SiteCounts, StreamCounts};
use crate::store::parts::{Due, Part};
use crate::store::read::{Cursor, Looked, Row, Shed, StoreReader, StoredEvent};

/// The store in a file, open for reading.
#[derive(Debug)]
pub struct SqliteReader {
    pub(super) sql: Connection,
}

impl SqliteReader {
    /// Opens the store in the data directory `dir`.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self { sql: schema::open_to_read(&dir.join(FILE))? })
    }

    /// Streams of `site` with their numbers, in order of board, epoch and class.
    pub(super) fn streams(&self, site: &Name) -> Result<Vec<(i64, Stream)>, StoreError> {
        let mut select = self.sql.prepare_cached(
            "SELECT s.board, s.boot, s.nonce, s.class, s.id FROM stream s JOIN site ON site.id = s.site
             WHERE site.name = ?1 ORDER BY s.board, s.boot, s.nonce, s.class",
        )?;
        let streams = select.query_map([site.as_str()], |row| Ok((row.get(4)?, stream_at(row, 0)?)))?;
        Ok(streams.collect::<Result<_, _>>()?)
    }

    pub(super) fn site(&self, site: &Name) -> Result<Option<SiteId>, StoreError> {
        let found = self
            .sql
            .prepare_cached("SELECT id FROM site WHERE name = ?1")?
            .query_row([site.as_str()], |row| row.get(0))
            .optional()?;
        Ok(found)
    }
}

impl StoreReader for SqliteReader {
    fn bytes(&self) -> Result<u64, StoreError> {
        let select = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        let bytes: i64 = self.sql.query_row(select, [], |row| row.get(0))?;
        Ok(bytes.cast_unsigned())
    }

    fn sites(&self) -> Result<Vec<String>, StoreError> {
        let mut select = self.sql.prepare_cached("SELECT name FROM site ORDER BY name")?;
        let names = select.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    fn rows(&self, site: &Name, each: &mut dyn FnMut(Row<'_>)) -> Result<u64, StoreError> {
        let reading = self.sql.unchecked_transaction()?;
        let mut count = 0;
        for (id, stream) in self.streams(site)? {
            let mut select = reading.prepare_cached(
                "SELECT r.seq, r.kind, p.name, r.key_kind, r.key, r.taken_ms, t.name, r.payload
                 FROM record r JOIN publisher p ON p.id = r.publisher JOIN topic t ON t.id = r.topic
                 WHERE r.stream = ?1 ORDER BY r.seq",
            )?;
            let mut rows = select.query([id])?;
            while let Some(row) = rows.next()? {
                each(row_of(stream, row)?);
                count += 1;
            }
        }
        Ok(count)
    }

    fn coverage(&self, site: &Name) -> Result<Vec<(Stream, RangeSet)>, StoreError> {
        let _reading = self.sql.unchecked_transaction()?;
        let streams = self.streams(site)?;
        let covered = |(id, stream)| Ok((stream, deposit::coverage(&self.sql, id)?));
        streams.into_iter().map(covered).collect()
    }

    fn shed(&self, site: &Name) -> Result<Vec<Shed>, StoreError> {
        let mut select = self.sql.prepare_cached(
            "SELECT s.board, s.boot, s.nonce, s.class, d.first, d.last, d.bytes, d.reason
             FROM shed d JOIN stream s ON s.id = d.stream JOIN site ON site.id = s.site
             WHERE site.name = ?1 ORDER BY d.id",
        )?;
        let shed = select.query_map([site.as_str()], |row| {
            let (bytes, reason): (i64, u8) = (row.get(6)?, row.get(7)?);
            let reason = if reason == GapReason::JournalFull as u8 {
                GapReason::JournalFull
            } else {
                GapReason::Damaged
            };
            Ok(Shed { stream: stream_at(row, 0)?, range: range_at(row, 4)?, bytes: bytes.cast_unsigned(), reason })
        })?;
        Ok(shed.collect::<Result<_, _>>()?)
    }

    fn events(&self, site: &Name, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let mut select = self.sql.prepare_cached(
            "SELECT e.at_ms, e.name, e.detail FROM event e JOIN site s ON s.id = e.site
             WHERE s.name = ?1 ORDER BY e.id DESC LIMIT ?2",
        )?;
        let events = select.query_map(params![site.as_str(), limit], |row| {
            Ok(StoredEvent { at_ms: row.get(0)?, name: row.get(1)?, detail: row.get(2)? })
        })?;
        Ok(events.collect::<Result<_, _>>()?)
    }

    fn stored(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut select = self.sql.prepare_cached(
            "SELECT site.name, sum(s.rows) FROM stream s JOIN site ON site.id = s.site GROUP BY site.id",
        )?;
        let stored = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
        Ok(stored.collect::<Result<_, _>>()?)
    }

    fn counts(&self, site: &Name) -> Result<SiteCounts, StoreError> {
        let _reading = self.sql.unchecked_transaction()?;
        let streams = self.streams(site)?;
        let streams = streams.into_iter().map(|(id, stream)| count(&self.sql, id, stream));
        Ok(SiteCounts { streams: streams.collect::<Result<_, _>>()? })
    }

    fn look(
        &self,
        site: &Name,
        after: Option<Cursor>,
        limit: u32,
        each: &mut dyn FnMut(Row<'_>),
    ) -> Result<Looked, StoreError> {
        let _reading = self.sql.unchecked_transaction()?;
        let mut looked = Looked { rows: 0, next: after };
        let Some(site) = self.site(site)? else { return Ok(looked) };
        // Each block holds a row at least, but for those that were all duplicates: a few more blocks than rows do.
        for arrived in self.arrived(site, after, limit.saturating_add(64))? {
            if looked.rows == limit {
                break;
            }
            self.look_into(&arrived, after, limit, &mut looked, each)?;
        }
        Ok(looked)
    }

    fn unarchived(&self, before: WallMillis) -> Result<Option<String>, StoreError> {
        parts::unarchived(&self.sql, before)
    }

    fn waiting(&self) -> Result<Option<Part>, StoreError> {
        parts::waiting(&self.sql)
    }

    fn part_rows(&self, part: &Part, each: &mut dyn FnMut(Row<'_>, i64)) -> Result<Option<u64>, StoreError> {
        let _reading = self.sql.unchecked_transaction()?;
        parts::rows(&self.sql, part, each)
    }

    fn due(&self, class: Class, before: WallMillis, archived: bool) -> Result<Vec<Due>, StoreError> {
        parts::due(&self.sql, class, before, archived)
    }

    fn newest(&self, site: &Name, class: Class, limit: u32, each: &mut dyn FnMut(Row<'_>)) -> Result<(), StoreError> {
        let _reading = self.sql.unchecked_transaction()?;
        let mut select = self.sql.prepare_cached(
            "SELECT r.seq, r.kind, p.name, r.key_kind, r.key, r.taken_ms, t.name, r.payload
             FROM record r JOIN publisher p ON p.id = r.publisher JOIN topic t ON t.id = r.topic
             WHERE r.stream = ?1 ORDER BY r.seq DESC LIMIT ?2",
        )?;
        for (id, stream) in self.streams(site)?.into_iter().filter(|(_, stream)| stream.class == class) {
            let mut rows = select.query(params![id, limit])?;
            while let Some(row) = rows.next()? {
                each(row_of(stream, row)?);
            }
        }
        Ok(())
    }
}

fn count(sql: &Connection, id: i64, stream: Stream) -> Result<StreamCounts, StoreError> {
    let counted = sql
        .prepare_cached("SELECT rows, duplicates, gaps, archived, expired FROM stream WHERE id = ?1")?
        .query_row([id], |row| {
            let figure = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
            Ok(Counted {
                rows: figure(0)?,
                duplicates: figure(1)?,
                gaps: figure(2)?,
                archived: figure(3)?,
                expired: figure(4)?,
            })
        })?;
    Ok(counts::reckon(stream, counted, &deposit::coverage(sql, id)?, &declared_lost(sql, id)?))
}

fn declared_lost(sql: &Connection, id: i64) -> Result<RangeSet, StoreError> {
    let mut select = sql.prepare_cached("SELECT first, last FROM shed WHERE stream = ?1")?;
    let mut rows = select.query([id])?;
    let mut declared = RangeSet::EMPTY;
    while let Some(row) = rows.next()? {
        declared.insert(range_at(row, 0)?);
    }
    Ok(declared)
}

/// The record in the columns seq, kind, publisher, key_kind, key, taken_ms, topic, payload.
pub(super) fn row_of<'r>(stream: Stream, row: &'r rusqlite::Row<'_>) -> Result<Row<'r>, StoreError> {
    let (seq, kind): (i64, u8) = (row.get(0)?, row.get(1)?);
    Ok(Row {
        stream,
        seq: seq.cast_unsigned(),
        kind: if kind == Kind::Gap as u8 { Kind::Gap } else { Kind::Reading },
        publisher: text(row, 2)?,
        key: FilingKey { kind: row.get(3)?, bytes: row.get(4)? },
        taken_ms: row.get(5)?,
        topic: text(row, 6)?,
        payload: row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?,
    })
}

fn text<'r>(row: &'r rusqlite::Row<'_>, at: usize) -> Result<&'r str, StoreError> {
    Ok(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?)
}

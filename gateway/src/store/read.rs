//! Reading the store from outside of the writer: the same file, read-only, also while a gateway writes it, also after
//! one was killed. What it returns is one committed state a call.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use shared::ids::{Name, Seq, Stream};
use shared::ranges::RangeSet;
use shared::record::{GapReason, Kind};
use shared::region::ledger::FilingKey;

use super::deposit::{range_at, stream_at};
use super::ids::SiteId;
use super::{FILE, StoreError, deposit, schema};

pub use super::counts::{SiteCounts, StreamCounts};
pub use super::look::{Cursor, Looked};

/// The store, open for reading.
#[derive(Debug)]
pub struct StoreReader {
    pub(super) sql: Connection,
}

/// A stored record, borrowed from the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'r> {
    /// Board, epoch and class.
    pub stream: Stream,
    /// Place in the stream.
    pub seq: Seq,
    /// A reading, or a gap that the site itself noted.
    pub kind: Kind,
    /// Who sent it.
    pub publisher: &'r str,
    /// What it is filed under: for a publisher that counts, kind 0, and the bytes are its epoch and sequence, both
    /// big-endian.
    pub key: FilingKey,
    /// Board's wall clock when it was taken in, in milliseconds since 1970.
    pub taken_ms: i64,
    /// Where it was published.
    pub topic: &'r str,
    /// What it says.
    pub payload: &'r [u8],
}

/// What gap records declared lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shed {
    /// Of which stream.
    pub stream: Stream,
    /// Which sequences. Some may be stored after all: another board still had them.
    pub range: shared::ranges::SeqRange,
    /// Bytes of their records.
    pub bytes: u64,
    /// Why.
    pub reason: GapReason,
}

/// Something that happened in the region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredEvent {
    /// When, by the region's wall clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// The event's name.
    pub name: String,
    /// What happened, in words.
    pub detail: String,
}

impl StoreReader {
    /// Opens the store in the data directory `dir`.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self { sql: schema::open_to_read(&dir.join(FILE))? })
    }

    /// The sites that have ever been welcomed, by name.
    pub fn sites(&self) -> Result<Vec<String>, StoreError> {
        let mut select = self.sql.prepare_cached("SELECT name FROM site ORDER BY name")?;
        let names = select.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Every stored record of `site`, gaps included, in order of board, epoch, class and sequence; returns how many.
    /// A site that the store does not know has none.
    pub fn rows(&self, site: &Name, mut each: impl FnMut(Row<'_>)) -> Result<u64, StoreError> {
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

    /// What is covered of every stream of `site`.
    pub fn coverage(&self, site: &Name) -> Result<Vec<(Stream, RangeSet)>, StoreError> {
        let _reading = self.sql.unchecked_transaction()?;
        let streams = self.streams(site)?;
        let covered = |(id, stream)| Ok((stream, deposit::coverage(&self.sql, id)?));
        streams.into_iter().map(covered).collect()
    }

    /// What gap records of `site` declared lost, in order of arrival.
    pub fn shed(&self, site: &Name) -> Result<Vec<Shed>, StoreError> {
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

    /// The newest events of `site`, newest first.
    pub fn events(&self, site: &Name, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let mut select = self.sql.prepare_cached(
            "SELECT e.at_ms, e.name, e.detail FROM event e JOIN site s ON s.id = e.site
             WHERE s.name = ?1 ORDER BY e.id DESC LIMIT ?2",
        )?;
        let events = select.query_map(params![site.as_str(), limit], |row| {
            Ok(StoredEvent { at_ms: row.get(0)?, name: row.get(1)?, detail: row.get(2)? })
        })?;
        Ok(events.collect::<Result<_, _>>()?)
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

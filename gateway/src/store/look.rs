//! A look at the newest rows, in the order in which they arrived: for people, a page at a time. Arrival is by block,
//! so a page begins at a place in a block.

use std::fmt;
use std::str::FromStr;

use rusqlite::params;
use shared::ids::{Class, Name, Seq};

use super::StoreError;
use super::deposit::{range_at, stream_at};
use super::read::{Row, StoreReader, row_of};

/// A place in the order of arrival: `<block>-<sequence>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    block: i64,
    seq: Seq,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.block, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a place is written <block>-<sequence>, as `next` in an earlier answer";
        let (block, seq) = text.split_once('-').ok_or(wrong)?;
        let block = block.parse().map_err(|_| wrong)?;
        let seq = seq.parse().ok().filter(|seq| *seq <= i64::MAX as Seq).ok_or(wrong)?;
        Ok(Self { block, seq })
    }
}

/// What a look has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// How many rows.
    pub rows: u32,
    /// The place of the newest row seen, or the one that was given: look after it for what has come since.
    pub next: Option<Cursor>,
}

/// A block whose rows are looked at.
struct Arrived {
    id: i64,
    stream_id: i64,
    stream: shared::ids::Stream,
    range: shared::ranges::SeqRange,
}

impl StoreReader {
    /// At most `limit` rows of `site`: the newest, newest first; or with `after` those that arrived after that place,
    /// oldest first.
    pub fn look(
        &self,
        site: &Name,
        after: Option<Cursor>,
        limit: u32,
        mut each: impl FnMut(Row<'_>),
    ) -> Result<Looked, StoreError> {
        let _reading = self.sql.unchecked_transaction()?;
        let mut looked = Looked { rows: 0, next: after };
        let Some(site) = self.site(site)? else { return Ok(looked) };
        // Each block holds a row at least, but for those that were all duplicates: a few more blocks than rows do.
        for arrived in self.arrived(site, after, limit.saturating_add(64))? {
            if looked.rows == limit {
                break;
            }
            self.look_into(&arrived, after, limit, &mut looked, &mut each)?;
        }
        Ok(looked)
    }

    /// The newest rows of one class of `site`, at most `limit` of each of its streams, in no order.
    pub fn newest(
        &self,
        site: &Name,
        class: Class,
        limit: u32,
        mut each: impl FnMut(Row<'_>),
    ) -> Result<(), StoreError> {
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

    fn arrived(&self, site: i64, after: Option<Cursor>, limit: u32) -> Result<Vec<Arrived>, StoreError> {
        let order = if after.is_some() { "ASC" } else { "DESC" };
        let mut select = self.sql.prepare_cached(&format!(
            "SELECT b.id, b.first, b.first + b.count - 1, s.board, s.boot, s.nonce, s.class, s.id
             FROM block b JOIN stream s ON s.id = b.stream
             WHERE s.site = ?1 AND b.id >= ?2 ORDER BY b.id {order} LIMIT ?3"
        ))?;
        let from = after.map_or(0, |cursor| cursor.block);
        let arrived = select.query_map(params![site, from, limit], |row| {
            Ok(Arrived {
                id: row.get(0)?,
                range: range_at(row, 1)?,
                stream: stream_at(row, 3)?,
                stream_id: row.get(7)?,
            })
        })?;
        Ok(arrived.collect::<Result<_, _>>()?)
    }

    fn look_into(
        &self,
        arrived: &Arrived,
        after: Option<Cursor>,
        limit: u32,
        looked: &mut Looked,
        each: &mut impl FnMut(Row<'_>),
    ) -> Result<(), StoreError> {
        let order = if after.is_some() { "ASC" } else { "DESC" };
        let first = match after {
            Some(cursor) if cursor.block == arrived.id => arrived.range.first.max(cursor.seq + 1),
            Some(_) | None => arrived.range.first,
        };
        let mut select = self.sql.prepare_cached(&format!(
            "SELECT r.seq, r.kind, p.name, r.key_kind, r.key, r.taken_ms, t.name, r.payload
             FROM record r JOIN publisher p ON p.id = r.publisher JOIN topic t ON t.id = r.topic
             WHERE r.stream = ?1 AND r.seq BETWEEN ?2 AND ?3 AND r.block = ?4 ORDER BY r.seq {order} LIMIT ?5"
        ))?;
        let mut rows = select.query(params![
            arrived.stream_id,
            first.cast_signed(),
            arrived.range.last.cast_signed(),
            arrived.id,
            limit - looked.rows
        ])?;
        while let Some(row) = rows.next()? {
            let row = row_of(arrived.stream, row)?;
            looked.next = looked.next.max(Some(Cursor { block: arrived.id, seq: row.seq }));
            looked.rows += 1;
            each(row);
        }
        Ok(())
    }
}

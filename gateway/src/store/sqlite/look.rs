//! A look at the newest rows, in the order in which they arrived: for people, a page at a time. Arrival is by block,
//! so a page begins at a place in a block.

use rusqlite::params;

use super::deposit::{range_at, stream_at};
use super::read::{SqliteReader, row_of};
use crate::store::StoreError;
use crate::store::read::{Cursor, Looked, Row};

/// A block whose rows are looked at.
pub(super) struct Arrived {
    id: i64,
    stream_id: i64,
    stream: shared::ids::Stream,
    range: shared::ranges::SeqRange,
}

impl SqliteReader {
    pub(super) fn arrived(&self, site: i64, after: Option<Cursor>, limit: u32) -> Result<Vec<Arrived>, StoreError> {
        let order = if after.is_some() { "ASC" } else { "DESC" };
        let mut select = self.sql.prepare_cached(&format!(
            "SELECT b.id, b.first, b.first + (b.count - 1), s.board, s.boot, s.nonce, s.class, s.id
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

    pub(super) fn look_into(
        &self,
        arrived: &Arrived,
        after: Option<Cursor>,
        limit: u32,
        looked: &mut Looked,
        each: &mut dyn FnMut(Row<'_>),
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

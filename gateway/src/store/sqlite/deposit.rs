//! What happens within one transaction: coverage is read, the block is settled against it, its fresh readings become
//! rows or duplicates, the block and the coverage are written. Every judgement is `shared::region::ledger`'s.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{CachedStatement, Connection, Row, params};
use shared::hub::{Stored, Tally};
use shared::ids::{BoardId, Class, Epoch, Name, Origin, Seq, Stream, Term};
use shared::ranges::{RangeSet, SeqRange};
use shared::record::{Key, Kind, Reading};
use shared::region::ledger::{self, Filed, FilingKey, Settled, Verdict};
use shared::region::numbers;
use shared::time::WallMillis;
use shared::wire::uplink::Block;

use super::ids::{At, Ids, SiteId, StreamId};
use super::standing;
use crate::store::lots::{self, NO_LOT};
use crate::store::parts::millis;
use crate::store::{Deposit, EVENTS_MAX, Happening, StoreError};

/// The filing of one transaction.
pub(super) struct Filing<'t> {
    sql: &'t Connection,
    /// Files a row. At hand, because to look for it among the statements that are kept costs some 2 % of a row.
    insert: CachedStatement<'t>,
    ids: &'t mut Ids,
    now: WallMillis,
    /// Coverage of the streams that this transaction touches, as it will be.
    coverage: HashMap<StreamId, RangeSet>,
}

/// Where a block's readings go.
struct Place<'b> {
    site: SiteId,
    id: StreamId,
    stream: &'b Stream,
    block: i64,
}

/// Whether a reading became a row.
enum Outcome {
    Row,
    Duplicate,
}

impl<'t> Filing<'t> {
    pub(super) fn new(sql: &'t Connection, ids: &'t mut Ids, now: WallMillis) -> Result<Self, StoreError> {
        let insert = sql.prepare_cached(
            "INSERT INTO record (stream, seq, block, kind, publisher, key_kind, key, awaits_original, taken_ms,
                                 topic, payload, lot)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (publisher, key_kind, lot, key) WHERE key_kind = 1 OR key_kind = 2 DO NOTHING",
        )?;
        Ok(Self { sql, insert, ids, now, coverage: HashMap::new() })
    }

    /// Files one site's deposit; one outcome a block.
    pub(super) fn deposit(&mut self, deposit: &Deposit) -> Result<Vec<Stored>, StoreError> {
        let site = self.ids.site(self.sql, &deposit.site)?;
        if let Some(term) = deposit.fence {
            self.raise(site, term)?;
        }
        let mut stored = Vec::with_capacity(deposit.blocks.len());
        for block in &deposit.blocks {
            stored.push(self.block(site, block)?);
        }
        Ok(stored)
    }

    /// Writes the fence where it is higher than the one that stands.
    fn raise(&self, site: SiteId, term: Term) -> Result<(), StoreError> {
        let standing: i64 = self
            .sql
            .prepare_cached("SELECT fence FROM site WHERE id = ?1")?
            .query_row([site], |row| row.get(0))?;
        if standing.cast_unsigned() < term.token() {
            self.sql
                .prepare_cached("UPDATE site SET fence = ?2 WHERE id = ?1")?
                .execute(params![site, term.token().cast_signed()])?;
        }
        Ok(())
    }

    fn block(&mut self, site: SiteId, block: &Block) -> Result<Stored, StoreError> {
        let id = self.ids.stream(self.sql, site, &block.stream)?;
        let covered = match self.coverage.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(coverage(self.sql, id)?),
        };
        let settled = match ledger::settle(covered, block) {
            Ok(settled) => settled,
            Err(bad) => return Ok(Stored { stream: block.stream, outcome: Err(bad) }),
        };
        let mut tally = Tally { again: settled.again(), ..Tally::default() };
        if !settled.fresh.is_empty() {
            let block_id = self.insert_block(id, block)?;
            let place = Place { site, id, stream: &block.stream, block: block_id };
            self.readings(&place, &settled, &mut tally)?;
            self.keep(&place, tally.rows + tally.gaps)?;
            self.cover(id, settled.range)?;
            self.sql
                .prepare_cached(
                    "UPDATE stream SET rows = rows + ?2, duplicates = duplicates + ?3, gaps = gaps + ?4 WHERE id = ?1",
                )?
                .execute(params![
                    id,
                    tally.rows.cast_signed(),
                    tally.duplicates.cast_signed(),
                    tally.gaps.cast_signed()
                ])?;
        }
        Ok(Stored { stream: block.stream, outcome: Ok(tally) })
    }

    fn insert_block(&self, id: StreamId, block: &Block) -> Result<i64, StoreError> {
        let inserted = self
            .sql
            .prepare_cached(
                "INSERT INTO block (id, stream, first, count, codec, raw_len, crc, body, received_ms)
                 VALUES (1 + max(coalesce((SELECT max(id) FROM block), 0),
                                 coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'block'), 0)),
                         ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .insert(params![
                id,
                block.first.cast_signed(),
                block.count,
                block.codec as u8,
                block.raw_len,
                block.crc,
                &block.body[..],
                millis(self.now)
            ])?;
        Ok(inserted)
    }

    /// Notes the block's age, and how many `records` came with it.
    fn keep(&self, place: &Place<'_>, records: u64) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("INSERT INTO kept (stream, part, received_ms, block, records) VALUES (?1, 0, ?2, ?3, ?4)")?
            .execute(params![place.id, millis(self.now), place.block, records.cast_signed()])?;
        Ok(())
    }

    fn readings(&mut self, place: &Place<'_>, settled: &Settled, tally: &mut Tally) -> Result<(), StoreError> {
        for (seq, reading) in settled.readings() {
            match (self.reading(place, seq, &reading)?, reading.kind) {
                (Outcome::Row, Kind::Reading) => tally.rows += 1,
                (Outcome::Row, Kind::Gap) => {
                    tally.gaps += 1;
                    self.shed(place.site, &reading)?;
                }
                (Outcome::Duplicate, Kind::Reading | Kind::Gap) => tally.duplicates += 1,
            }
        }
        Ok(())
    }

    fn reading(&mut self, place: &Place<'_>, seq: Seq, reading: &Reading<'_>) -> Result<Outcome, StoreError> {
        let at = self.ids.publisher(self.sql, place.site, reading.publisher)?;
        if let (Kind::Reading, Key::Sequence { .. }) = (reading.kind, reading.key) {
            return self.numbered(place, (seq, reading), at);
        }
        // Most readings are new: the unique index answers in the same step that files them, and only where it
        // refuses is the row looked up that stands in the way. What it cannot refuse is looked up first.
        let filed = self.filed_elsewhere(at, reading)?;
        let mut verdict = ledger::file(filed.as_ref(), reading, place.stream, seq);
        if let Verdict::Insert { key, awaits_original } = verdict {
            if self.insert(place, (seq, reading), at, key, awaits_original)? {
                return Ok(Outcome::Row);
            }
            let filed = standing::in_lot(self.sql, self.lot(at, reading, key, awaits_original), key)?;
            verdict = ledger::file(filed.as_ref(), reading, place.stream, seq);
        }
        match verdict {
            Verdict::Insert { key, awaits_original } => {
                let is_new = self.insert(place, (seq, reading), at, key, awaits_original)?;
                Ok(if is_new { Outcome::Row } else { Outcome::Duplicate })
            }
            Verdict::Duplicate { meets } => {
                if meets {
                    standing::meet(self.sql, self.ids.known(at).id, &FilingKey::of(reading, place.stream, seq))?;
                }
                Ok(Outcome::Duplicate)
            }
        }
    }

    /// A reading that its publisher has numbered.
    fn numbered(
        &mut self,
        place: &Place<'_>,
        (seq, reading): (Seq, &Reading<'_>),
        at: At,
    ) -> Result<Outcome, StoreError> {
        let key = FilingKey::of(reading, place.stream, seq);
        let publisher = self.ids.known(at).id;
        let numbers = self.ids.numbered.around(self.sql, publisher, numbers::number(key.bytes))?;
        match numbers::file(numbers, key) {
            Verdict::Insert { key, awaits_original } => {
                self.insert(place, (seq, reading), at, key, awaits_original)?;
                Ok(Outcome::Row)
            }
            Verdict::Duplicate { .. } => Ok(Outcome::Duplicate),
        }
    }

    /// The row that is filed already under the key of `reading`, where it may be in another lot than the reading's own.
    fn filed_elsewhere(&self, at: At, reading: &Reading<'_>) -> Result<Option<Filed>, StoreError> {
        let publisher = self.ids.known(at);
        let key = FilingKey { kind: reading.key.kind(), bytes: reading.key.bytes() };
        match (reading.kind, reading.key) {
            (Kind::Reading, Key::Delivery { resent: true, .. }) => standing::in_any_lot(self.sql, publisher.id, &key),
            (Kind::Reading, Key::Delivery { resent: false, .. }) if publisher.may_wait => {
                standing::waiting(self.sql, publisher.id, &key)
            }
            (Kind::Reading, Key::Content(_)) if publisher.may_be_old => {
                standing::in_lot(self.sql, (publisher.id, NO_LOT), key)
            }
            _ => Ok(None),
        }
    }

    /// The publisher of `reading`, and the lot in which it is filed under `key`.
    fn lot(&self, at: At, reading: &Reading<'_>, key: FilingKey, awaits_original: bool) -> (i64, i64) {
        let publisher = self.ids.known(at);
        (publisher.id, lots::of(reading, key, awaits_original).unwrap_or(publisher.lot))
    }

    /// Files a row; false where its key is taken.
    fn insert(
        &mut self,
        place: &Place<'_>,
        (seq, reading): (Seq, &Reading<'_>),
        at: At,
        key: FilingKey,
        awaits_original: bool,
    ) -> Result<bool, StoreError> {
        let topic = self.ids.topic(self.sql, reading.topic)?;
        let publisher = self.ids.known(at);
        let own_lot = lots::of(reading, key, awaits_original);
        let changed = self.insert.execute(params![
            place.id,
            seq.cast_signed(),
            place.block,
            reading.kind as u8,
            publisher.id,
            key.kind,
            &key.bytes[..],
            awaits_original,
            millis(reading.taken),
            topic,
            reading.payload,
            own_lot.unwrap_or(publisher.lot)
        ])?;
        if changed == 1 && awaits_original {
            self.ids.handle_waiting(at);
        }
        if changed == 1 && own_lot.is_none() {
            self.ids.handle_filed(self.sql, at)?;
        }
        Ok(changed == 1)
    }

    /// Notes what a gap record declares lost.
    fn shed(&mut self, site: SiteId, reading: &Reading<'_>) -> Result<(), StoreError> {
        // Settling has read it already.
        let Ok(gap) = ledger::gap(reading) else { return Ok(()) };
        let stream = self.ids.stream(self.sql, site, &gap.stream)?;
        self.sql
            .prepare_cached("INSERT INTO shed (stream, first, last, bytes, reason) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                stream,
                gap.range.first.cast_signed(),
                gap.range.last.cast_signed(),
                i64::try_from(gap.bytes).unwrap_or(i64::MAX),
                gap.reason as u8
            ])?;
        Ok(())
    }

    /// Extends the coverage: in memory for the blocks that follow, and in its table, where one row takes the place of
    /// all that it joins.
    fn cover(&mut self, id: StreamId, range: SeqRange) -> Result<(), StoreError> {
        let covered = self.coverage.entry(id).or_default();
        covered.insert(range);
        let at = covered.ranges().partition_point(|have| have.last < range.first);
        let joined = covered.ranges()[at];
        self.sql
            .prepare_cached("DELETE FROM coverage WHERE stream = ?1 AND first BETWEEN ?2 AND ?3")?
            .execute(params![id, joined.first.cast_signed(), joined.last.cast_signed()])?;
        self.sql
            .prepare_cached("INSERT INTO coverage (stream, first, last) VALUES (?1, ?2, ?3)")?
            .execute(params![id, joined.first.cast_signed(), joined.last.cast_signed()])?;
        Ok(())
    }

    /// Writes which numbers of publishers have become rows.
    pub(super) fn numbers(&mut self) -> Result<(), StoreError> {
        self.ids.numbered.write(self.sql)
    }

    /// Remembers what happened, and forgets the oldest beyond [`EVENTS_MAX`].
    pub(super) fn happenings(&mut self, happenings: &[Happening]) -> Result<(), StoreError> {
        let mut newest = None;
        for happening in happenings {
            let site = match &happening.site {
                Some(name) => Some(self.site_of(name)?),
                None => None,
            };
            let id = self
                .sql
                .prepare_cached("INSERT INTO event (site, at_ms, name, detail) VALUES (?1, ?2, ?3, ?4)")?
                .insert(params![site, millis(happening.at), happening.name, happening.detail])?;
            newest = Some(id);
        }
        if let Some(newest) = newest {
            self.sql
                .prepare_cached("DELETE FROM event WHERE id <= ?1")?
                .execute([newest - EVENTS_MAX.cast_signed()])?;
        }
        Ok(())
    }

    fn site_of(&mut self, name: &Name) -> Result<SiteId, StoreError> {
        self.ids.site(self.sql, name)
    }
}

/// What is covered of a stream.
pub(super) fn coverage(sql: &Connection, id: StreamId) -> Result<RangeSet, StoreError> {
    let mut select = sql.prepare_cached("SELECT first, last FROM coverage WHERE stream = ?1 ORDER BY first")?;
    let mut rows = select.query([id])?;
    let mut covered = RangeSet::EMPTY;
    while let Some(row) = rows.next()? {
        covered.insert(range_at(row, 0)?);
    }
    Ok(covered)
}

/// The range in two columns from `at` on.
pub(super) fn range_at(row: &Row<'_>, at: usize) -> rusqlite::Result<SeqRange> {
    let (first, last): (i64, i64) = (row.get(at)?, row.get(at + 1)?);
    Ok(SeqRange { first: first.cast_unsigned(), last: last.cast_unsigned() })
}

/// The stream in the four columns board, boot, nonce, class from `at` on.
pub(super) fn stream_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Stream> {
    let (board, nonce, class): (u8, i64, u8) = (row.get(at)?, row.get(at + 2)?, row.get(at + 3)?);
    let board = BoardId::new(board).ok_or(rusqlite::Error::IntegralValueOutOfRange(at, i64::from(board)))?;
    let class = Class::ALL
        .get(usize::from(class))
        .ok_or(rusqlite::Error::IntegralValueOutOfRange(at + 3, i64::from(class)))?;
    let epoch = Epoch { boot: row.get(at + 1)?, nonce: nonce.cast_unsigned() };
    Ok(Stream { origin: Origin { board, epoch }, class: *class })
}

//! How much of a site is stored, and whether it adds up: from the counts that move with each transaction, the coverage
//! and what gap records declared lost.

use std::collections::BTreeMap;

use rusqlite::Connection;
use shared::ids::{Name, Stream};
use shared::ranges::{RangeSet, SeqRange};

use super::StoreError;
use super::deposit::{self, range_at};
use super::read::StoreReader;

/// Counts of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCounts {
    /// Which.
    pub stream: Stream,
    /// Readings that are rows.
    pub rows: u64,
    /// Readings that were rows already, under another address.
    pub duplicates: u64,
    /// Gap records.
    pub gaps: u64,
    /// Sequences that are stored: rows, duplicates and gap records together.
    pub covered: u64,
    /// Sequences that a gap record declared lost and that are not stored.
    pub shed: u64,
    /// Sequences below the highest known one that are neither stored nor declared lost: on their way, or missing.
    pub holes: u64,
}

/// Counts of a site, by stream, in order of board, epoch and class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteCounts {
    /// The streams.
    pub streams: Vec<StreamCounts>,
}

impl SiteCounts {
    /// One figure over all streams.
    pub fn sum(&self, figure: impl Fn(&StreamCounts) -> u64) -> u64 {
        self.streams.iter().map(figure).sum()
    }
}

impl StoreReader {
    /// Rows of every site that has any stream, by its name.
    pub fn stored(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut select = self.sql.prepare_cached(
            "SELECT site.name, sum(s.rows) FROM stream s JOIN site ON site.id = s.site GROUP BY site.id",
        )?;
        let stored = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
        Ok(stored.collect::<Result<_, _>>()?)
    }

    /// Counts of `site`, all of one moment.
    pub fn counts(&self, site: &Name) -> Result<SiteCounts, StoreError> {
        let _reading = self.sql.unchecked_transaction()?;
        let streams = self.streams(site)?;
        let streams = streams.into_iter().map(|(id, stream)| count(&self.sql, id, stream));
        Ok(SiteCounts { streams: streams.collect::<Result<_, _>>()? })
    }
}

fn count(sql: &Connection, id: i64, stream: Stream) -> Result<StreamCounts, StoreError> {
    let counted: (i64, i64, i64) = sql
        .prepare_cached("SELECT rows, duplicates, gaps FROM stream WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let covered = deposit::coverage(sql, id)?;
    let declared = declared_lost(sql, id)?;
    let last = covered.last().max(declared.last()).unwrap_or(0);
    let absent: RangeSet = if last == 0 {
        RangeSet::EMPTY
    } else {
        covered.missing(SeqRange { first: 1, last }).into_iter().collect()
    };
    Ok(StreamCounts {
        stream,
        rows: counted.0.cast_unsigned(),
        duplicates: counted.1.cast_unsigned(),
        gaps: counted.2.cast_unsigned(),
        covered: covered.count(),
        shed: declared.minus(&covered).count(),
        holes: absent.minus(&declared).count(),
    })
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

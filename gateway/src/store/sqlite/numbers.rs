//! The table `numbered`: which numbers publishers gave rows that are there, as ranges. What is new is `shared::region::numbers`' to say. Keeps the
//! ranges in use at hand, bounded: there is no other writer.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, Row, params};
use shared::region::numbers::{self, NumberRange, Numbers};

use crate::store::StoreError;

/// Publishers kept at hand between transactions. At the limit they are dropped together.
const AT_HAND_MAX: usize = 64 * 1024;
/// Ranges of one of them; most have one or two. One that has more is not kept.
const RANGES_MAX: usize = 8;

/// Numbers by publisher, as far as they are at hand.
#[derive(Debug, Default)]
pub(super) struct Numbered {
    publishers: HashMap<i64, Near>,
    /// Whose may have changed since they were written.
    touched: Vec<i64>,
}

#[derive(Debug)]
struct Near {
    numbers: Numbers,
    /// All that is stored and touches one of these is at hand.
    known: Option<NumberRange>,
    is_touched: bool,
}

impl Numbered {
    /// Numbers of a publisher, to which `number` may be added.
    pub(super) fn around(
        &mut self,
        sql: &Connection,
        publisher: i64,
        number: u128,
    ) -> Result<&mut Numbers, StoreError> {
        let near = self.publishers.entry(publisher).or_insert_with(|| Near {
            numbers: Numbers::default(),
            known: None,
            is_touched: false,
        });
        if near.known.is_none_or(|known| !(known.first..=known.last).contains(&number)) {
            near.look(sql, publisher, number)?;
        }
        if !std::mem::replace(&mut near.is_touched, true) {
            self.touched.push(publisher);
        }
        Ok(&mut near.numbers)
    }

    /// Writes what has changed, at the end of a transaction.
    pub(super) fn write(&mut self, sql: &Connection) -> Result<(), StoreError> {
        for publisher in self.touched.drain(..) {
            let Some(near) = self.publishers.get_mut(&publisher) else { continue };
            near.is_touched = false;
            write(sql, publisher, &mut near.numbers)?;
            if near.numbers.len() > RANGES_MAX {
                self.publishers.remove(&publisher);
            }
        }
        if self.publishers.len() > AT_HAND_MAX {
            self.publishers.clear();
        }
        Ok(())
    }
}

impl Near {
    /// Looks for what stands before and behind `number`, which is not among those that are known.
    fn look(&mut self, sql: &Connection, publisher: i64, number: u128) -> Result<(), StoreError> {
        let key = number.to_be_bytes();
        let one = |select: &str| -> Result<Option<NumberRange>, StoreError> {
            let mut select = sql.prepare_cached(select)?;
            let mut rows = select.query(params![publisher, &key[..]])?;
            Ok(rows.next()?.map(range_of).transpose()?)
        };
        let before =
            one("SELECT first, last FROM numbered WHERE publisher = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1")?;
        let behind =
            one("SELECT first, last FROM numbered WHERE publisher = ?1 AND first > ?2 ORDER BY first LIMIT 1")?;
        for stored in [before, behind].into_iter().flatten() {
            self.numbers.load(stored);
        }
        let found = NumberRange {
            first: before.map_or(0, |range| range.first),
            last: behind.map_or(u128::MAX, |range| range.last),
        };
        let meets = |known: &NumberRange| found.first <= known.last && known.first <= found.last;
        self.known = Some(self.known.filter(meets).map_or(found, |known| NumberRange {
            first: found.first.min(known.first),
            last: found.last.max(known.last),
        }));
        Ok(())
    }
}

/// Takes numbers away, by publisher.
pub(super) fn take_away(sql: &Connection, away: &BTreeMap<i64, Numbers>) -> Result<(), StoreError> {
    let mut select = sql.prepare_cached(
        "SELECT first, last FROM numbered WHERE publisher = ?1 AND first <= ?3
           AND first >= coalesce((SELECT max(first) FROM numbered WHERE publisher = ?1 AND first <= ?2), ?2)",
    )?;
    for (publisher, away) in away {
        let mut numbers = Numbers::default();
        for range in away.ranges() {
            let (first, last) = (range.first.to_be_bytes(), range.last.to_be_bytes());
            let mut rows = select.query(params![publisher, &first[..], &last[..]])?;
            while let Some(row) = rows.next()? {
                numbers.load(range_of(row)?);
            }
        }
        for range in away.ranges() {
            numbers.remove(range);
        }
        write(sql, *publisher, &mut numbers)?;
    }
    Ok(())
}

/// Fills the table from the rows that are there, a publisher after the other.
pub(super) fn count(sql: &Connection) -> Result<(), StoreError> {
    // In the order of the index of keys as it was in the layout before.
    let mut select =
        sql.prepare("SELECT publisher, key FROM record WHERE key_kind = 0 ORDER BY publisher, key_kind, lot, key")?;
    let mut insert = sql.prepare("INSERT INTO numbered (publisher, first, last) VALUES (?1, ?2, ?3)")?;
    let mut rows = select.query([])?;
    let mut open: Option<(i64, NumberRange)> = None;
    let mut put = |(publisher, range): (i64, NumberRange)| {
        insert.execute(params![publisher, &range.first.to_be_bytes()[..], &range.last.to_be_bytes()[..]])
    };
    while let Some(row) = rows.next()? {
        let (publisher, number) = (row.get(0)?, numbers::number(row.get(1)?));
        open = match open {
            Some((of, range)) if of == publisher && range.last.checked_add(1) == Some(number) => {
                Some((of, NumberRange { last: number, ..range }))
            }
            done => {
                done.map(&mut put).transpose()?;
                Some((publisher, NumberRange { first: number, last: number }))
            }
        };
    }
    open.map(&mut put).transpose()?;
    Ok(())
}

fn write(sql: &Connection, publisher: i64, numbers: &mut Numbers) -> Result<(), StoreError> {
    let changes = numbers.changes();
    for first in changes.gone {
        sql.prepare_cached("DELETE FROM numbered WHERE publisher = ?1 AND first = ?2")?
            .execute(params![publisher, &first.to_be_bytes()[..]])?;
    }
    for range in changes.written {
        sql.prepare_cached(
            "INSERT INTO numbered (publisher, first, last) VALUES (?1, ?2, ?3)
             ON CONFLICT (publisher, first) DO UPDATE SET last = excluded.last",
        )?
        .execute(params![publisher, &range.first.to_be_bytes()[..], &range.last.to_be_bytes()[..]])?;
    }
    Ok(())
}

fn range_of(row: &Row<'_>) -> rusqlite::Result<NumberRange> {
    Ok(NumberRange::of_keys(row.get(0)?, row.get(1)?))
}

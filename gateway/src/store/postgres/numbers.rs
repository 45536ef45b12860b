//! The table `numbered`: which numbers publishers gave rows that are there, as ranges. What is new is `shared::region::numbers`' to say.
//!
//! Whoever reads the table to change it has locked the rows of the publishers before (`lots`), so of two gateways that bring readings of one publisher the
//! second sees what the first has filed.

use std::collections::BTreeMap;

use shared::region::numbers::{NumberRange, Numbers};

use super::key::KeyBytes;
use super::session::{Session, get};
use super::standing::KEYS_AT_ONCE;
use crate::store::StoreError;

/// Numbers by publisher.
#[derive(Debug, Default)]
pub(super) struct Numbered(BTreeMap<i32, Numbers>);

impl Numbered {
    /// Numbers of a publisher.
    pub(super) fn of(&mut self, publisher: i32) -> &mut Numbers {
        self.0.entry(publisher).or_default()
    }

    /// Of which publishers there are any.
    pub(super) fn publishers(&self) -> impl Iterator<Item = i32> {
        self.0.keys().copied()
    }

    /// Ranges by publisher.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (i32, NumberRange)> {
        self.0
            .iter()
            .flat_map(|(publisher, numbers)| numbers.ranges().map(|range| (*publisher, range)))
    }

    /// What is stored around these numbers: ranges that hold one of them or stand next to one, and some others.
    pub(super) fn around(&self, session: &mut Session) -> Result<Self, StoreError> {
        // The last one that begins before, and all that begin between.
        let select = "SELECT sought.publisher, near.first, near.last
                      FROM unnest($1::integer[], $2::uuid[], $3::uuid[]) AS sought (publisher, low, high)
                      CROSS JOIN LATERAL (
                        (SELECT n.first, n.last FROM numbered n WHERE n.publisher = sought.publisher AND n.first <= sought.low
                         ORDER BY n.first DESC LIMIT 1)
                        UNION ALL
                        SELECT n.first, n.last FROM numbered n
                        WHERE n.publisher = sought.publisher AND n.first > sought.low AND n.first <= sought.high) AS near";
        let mut stored = Self::default();
        let sought: Vec<(i32, NumberRange)> = self.ranges().collect();
        for sought in sought.chunks(KEYS_AT_ONCE) {
            let publishers: Vec<i32> = sought.iter().map(|(publisher, _)| *publisher).collect();
            let lows: Vec<KeyBytes> = sought.iter().map(|(_, range)| key(range.first.saturating_sub(1))).collect();
            let highs: Vec<KeyBytes> = sought.iter().map(|(_, range)| key(range.last.saturating_add(1))).collect();
            for row in session.query(select, &[&publishers, &lows, &highs])? {
                let (KeyBytes(first), KeyBytes(last)) = (get(&row, 1)?, get(&row, 2)?);
                stored.of(get(&row, 0)?).load(NumberRange::of_keys(first, last));
            }
        }
        Ok(stored)
    }

    /// Takes away what is in `others`.
    pub(super) fn remove(&mut self, others: &Self) {
        for (publisher, range) in others.ranges() {
            self.of(publisher).remove(range);
        }
    }

    /// Writes what has changed.
    pub(super) fn write(&mut self, session: &mut Session) -> Result<(), StoreError> {
        let (mut gone, mut written) = (Vec::new(), Vec::new());
        for (publisher, numbers) in &mut self.0 {
            let changes = numbers.changes();
            gone.extend(changes.gone.into_iter().map(|first| (*publisher, first)));
            written.extend(changes.written.into_iter().map(|range| (*publisher, range)));
        }
        let delete = "DELETE FROM numbered n USING unnest($1::integer[], $2::uuid[]) AS gone (publisher, first)
                      WHERE n.publisher = gone.publisher AND n.first = gone.first";
        for gone in gone.chunks(KEYS_AT_ONCE) {
            let publishers: Vec<i32> = gone.iter().map(|(publisher, _)| *publisher).collect();
            let firsts: Vec<KeyBytes> = gone.iter().map(|(_, first)| key(*first)).collect();
            session.execute_along(delete, vec![Box::new(publishers), Box::new(firsts)])?;
        }
        let write = "INSERT INTO numbered (publisher, first, last)
                     SELECT * FROM unnest($1::integer[], $2::uuid[], $3::uuid[])
                     ON CONFLICT (publisher, first) DO UPDATE SET last = excluded.last";
        for written in written.chunks(KEYS_AT_ONCE) {
            let publishers: Vec<i32> = written.iter().map(|(publisher, _)| *publisher).collect();
            let firsts: Vec<KeyBytes> = written.iter().map(|(_, range)| key(range.first)).collect();
            let lasts: Vec<KeyBytes> = written.iter().map(|(_, range)| key(range.last)).collect();
            session.execute_along(write, vec![Box::new(publishers), Box::new(firsts), Box::new(lasts)])?;
        }
        Ok(())
    }
}

const fn key(number: u128) -> KeyBytes {
    KeyBytes(number.to_be_bytes())
}

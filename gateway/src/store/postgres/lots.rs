//! In which lot of its publisher a row is filed. Keys that are digests lie at random, so in an index by key alone each new row
//! touches a page of its own, and with millions of rows each of these is read and written. The index has the lot before the key: rows that come
//! about the same time stand side by side.
//!
//! ```text
//! sequence   0: such keys rise by themselves
//! content    the reading's own number. Equal keys have equal payloads, so the index still refuses the second
//! delivery
//!   resent   0, where its original finds it
//!   original the publisher's current lot
//! address    the publisher's current lot: nothing else ever equals it
//! ```
//!
//! What is found never depends on which lot is a publisher's current one. In a database from before lots all rows are in lot 0.

use std::collections::{BTreeSet, HashMap};

use shared::identity::own_number;
use shared::record::{Key, Reading};
use shared::region::ledger::FilingKey;

use super::session::{Session, get};
use crate::store::StoreError;

/// Rows of a lot, about, of each gateway: their part of the index is some hundred pages, which stay in memory.
const LOT_ROWS: u32 = 16_384;

/// Where a row is filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lot {
    /// There, always.
    At(i64),
    /// In its publisher's current lot.
    Current,
}

impl Lot {
    /// Where a row of `reading` is filed under `key`.
    pub(super) fn of(reading: &Reading<'_>, key: &FilingKey) -> Self {
        match reading.key {
            _ if key.kind == FilingKey::ADDRESS => Self::Current,
            Key::Content(_) => Self::At(own_number(reading.payload).cast_signed()),
            Key::Delivery { resent: false, .. } => Self::Current,
            Key::Delivery { resent: true, .. } | Key::Sequence { .. } => Self::At(0),
        }
    }
}

/// Publishers' current lots, and what else is known of their lots. As it is about what was committed, or is
/// locality alone, it outlasts a transaction that does not commit.
#[derive(Debug, Default)]
pub(super) struct Lots {
    current: HashMap<i32, Current>,
    /// Whether a publisher has rows under content keys in lot 0. Whatever is filed there from now on has that lot by its own number.
    old_contents: HashMap<i32, bool>,
}

#[derive(Debug, Default)]
struct Current {
    lot: i64,
    /// Rows that were filed in it from here.
    filed: u32,
}

impl Lots {
    pub(super) fn len(&self) -> usize {
        self.current.len().max(self.old_contents.len())
    }

    /// Locks the rows of `publishers` until the commit, in the order of their numbers, and reads their current lots. A copy and its original, in two
    /// lots, are no matter of the index: so two gateways file deliveries of one publisher one after the other, and what follows
    /// sees what the first has committed.
    pub(super) fn lock(&mut self, session: &mut Session, publishers: &BTreeSet<i32>) -> Result<(), StoreError> {
        if publishers.is_empty() {
            return Ok(());
        }
        let wanted: Vec<i32> = publishers.iter().copied().collect();
        let lock = "SELECT id, lot FROM publisher WHERE id = ANY($1) ORDER BY id FOR UPDATE";
        let locked = session.query(lock, &[&wanted])?;
        if locked.len() != wanted.len() {
            return Err(StoreError::Vanished);
        }
        for row in locked {
            let lot = get(&row, 1)?;
            let current = self.current.entry(get(&row, 0)?).or_default();
            if current.lot != lot {
                *current = Current { lot, filed: 0 };
            }
        }
        Ok(())
    }

    /// The number of a lot of a publisher's, which is locked where its current one is meant.
    pub(super) fn number(&self, publisher: i32, lot: Lot) -> Result<i64, StoreError> {
        match lot {
            Lot::At(number) => Ok(number),
            Lot::Current => Ok(self.current.get(&publisher).ok_or(StoreError::Vanished)?.lot),
        }
    }

    /// The same for a row that is filed there: it counts.
    pub(super) fn put(&mut self, publisher: i32, lot: Lot) -> Result<i64, StoreError> {
        if let (Lot::Current, Some(current)) = (lot, self.current.get_mut(&publisher)) {
            current.filed += 1;
        }
        self.number(publisher, lot)
    }

    /// Begins the next lot of those of the locked `publishers` whose current one is full.
    pub(super) fn raise(&mut self, session: &mut Session, publishers: &BTreeSet<i32>) -> Result<(), StoreError> {
        let mut full = Vec::new();
        for publisher in publishers {
            if let Some(current) = self.current.get_mut(publisher).filter(|current| current.filed >= LOT_ROWS) {
                current.filed = 0;
                full.push(*publisher);
            }
        }
        if !full.is_empty() {
            session.execute("UPDATE publisher SET lot = lot + 1 WHERE id = ANY($1)", &[&full])?;
        }
        Ok(())
    }

    /// Those of `publishers` that have rows under content keys in lot 0; each is asked for once.
    pub(super) fn with_old_contents(
        &mut self,
        session: &mut Session,
        publishers: &BTreeSet<i32>,
    ) -> Result<BTreeSet<i32>, StoreError> {
        let is_new = |publisher: &i32| !self.old_contents.contains_key(publisher);
        let asked: Vec<i32> = publishers.iter().copied().filter(is_new).collect();
        if !asked.is_empty() {
            let select = "SELECT p.id FROM unnest($1::integer[]) AS p (id)
                          CROSS JOIN LATERAL (SELECT 1 FROM record r
                            WHERE r.publisher = p.id AND r.key_kind = 1 AND r.lot = 0 LIMIT 1) AS old";
            self.old_contents.extend(asked.iter().map(|publisher| (*publisher, false)));
            for row in session.query(select, &[&asked])? {
                self.old_contents.insert(get(&row, 0)?, true);
            }
        }
        let has = |publisher: &i32| self.old_contents.get(publisher) == Some(&true);
        Ok(publishers.iter().copied().filter(has).collect())
    }
}

//! Current lots of publishers, which several gateways write to. What lots are for and how rows come to theirs is told in `store::lots`; what is found never
//! depends on which lot is a publisher's current one.

use std::collections::{BTreeSet, HashMap};

use super::session::{Session, get};
use crate::store::StoreError;
use crate::store::lots::{LOT_ROWS, rows_of_next};

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
    /// So many more rows are filed in it from here before the next one is begun.
    room: i64,
}

impl Lots {
    pub(super) fn len(&self) -> usize {
        self.current.len().max(self.old_contents.len())
    }

    /// Locks the rows of `publishers` until the commit, in the order of their numbers, and reads their current lots. A copy and its original, in two
    /// lots, are no matter of the index, nor are numbers: so two gateways file these of one publisher one after the other, and what follows
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
                *current = Current { lot, room: i64::from(LOT_ROWS) };
            }
        }
        Ok(())
    }

    /// The number of a `lot`; `None` is the current one of the publisher, which is locked.
    pub(super) fn number(&self, publisher: i32, lot: Option<i64>) -> Result<i64, StoreError> {
        let current = || self.current.get(&publisher).map(|current| current.lot);
        lot.or_else(current).ok_or(StoreError::Vanished)
    }

    /// The same for a row that is filed there: it counts.
    pub(super) fn put(&mut self, publisher: i32, lot: Option<i64>) -> Result<i64, StoreError> {
        if let (None, Some(current)) = (lot, self.current.get_mut(&publisher)) {
            current.room -= 1;
        }
        self.number(publisher, lot)
    }

    /// Begins the next lot of those of the locked `publishers` whose current one is full.
    pub(super) fn raise(&mut self, session: &mut Session, publishers: &BTreeSet<i32>) -> Result<(), StoreError> {
        let is_full = |publisher: &i32| self.current.get(publisher).is_some_and(|current| current.room <= 0);
        let full: Vec<i32> = publishers.iter().copied().filter(is_full).collect();
        if full.is_empty() {
            return Ok(());
        }
        let update = "UPDATE publisher SET lot = lot + 1 WHERE id = ANY($1)
                      RETURNING id, lot, (SELECT r.lot FROM record r WHERE r.publisher = publisher.id AND r.key_kind = 2
                                            AND r.lot > 0 ORDER BY r.lot LIMIT 1)";
        for row in session.query(update, &[&full])? {
            let (lot, oldest): (i64, Option<i64>) = (get(&row, 1)?, get(&row, 2)?);
            let room = i64::from(rows_of_next(lot - oldest.unwrap_or(lot)));
            self.current.insert(get(&row, 0)?, Current { lot, room });
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
            let with_old = session.query(select, &[&asked])?;
            let with_old = with_old.iter().map(|row| get(row, 0)).collect::<Result<BTreeSet<i32>, _>>()?;
            // Only once the server has answered: this outlasts a transaction that fails.
            self.old_contents
                .extend(asked.iter().map(|publisher| (*publisher, with_old.contains(publisher))));
        }
        let has = |publisher: &i32| self.old_contents.get(publisher) == Some(&true);
        Ok(publishers.iter().copied().filter(has).collect())
    }
}

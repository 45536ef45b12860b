//! Which rows stand already under the keys of a transaction's readings, as far as the table's index does not say so itself by
//! refusing a second one.
//!
//! ```text
//! reading    looked for                                        careful: also
//! sequence   its number among its publisher's (`numbers`)
//! content    its key in lot 0, where there are rows from       its key in its lot
//!            before lots
//! delivery
//!   resent   its key in every lot of its publisher
//!   original what waits for it, in lot 0                       its key in the current lot
//! gap        nothing else ever has its key
//! ```
//!
//! Of several rows under one key in several lots any will do, but one that waits goes first.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use shared::ids::{Seq, Stream};
use shared::record::{Key, Kind, Reading};
use shared::region::ledger::{Filed, FilingKey};
use shared::region::numbers;
use shared::time::WallMillis;
use tokio_postgres::Row;

use super::filing::{Filing, small, stream_at};
use super::key::KeyBytes;
use super::numbers::Numbered;
use super::session::get;
use crate::store::StoreError;
use crate::store::lots::{self, NO_LOT};

/// Keys that one statement looks for: each may be a read of a disk, of a millisecond say, and a statement has a deadline.
pub(super) const KEYS_AT_ONCE: usize = 4096;
/// The kinds of [`Key::Content`] and [`Key::Delivery`] in a column.
const CONTENT: i16 = 1;
const DELIVERY: i16 = 2;

/// Rows that are filed, by publisher and key.
pub(super) type FiledRows = HashMap<(i32, FilingKey), Filed>;

/// What is looked for.
#[derive(Default)]
pub(super) struct Sought {
    /// Publishers whose current lots are written to, or whose deliveries or numbers are judged.
    pub(super) publishers: BTreeSet<i32>,
    numbers: Numbered,
    originals: Vec<(i32, [u8; 16])>,
    copies: BTreeMap<i32, BTreeSet<[u8; 16]>>,
    content_publishers: BTreeSet<i32>,
    contents: Vec<(i32, [u8; 16])>,
    careful: Vec<(i32, FilingKey, Option<i64>)>,
}

/// A key in a lot.
struct Probe {
    publisher: i32,
    kind: i16,
    lot: i64,
    key: [u8; 16],
}

impl Sought {
    /// Looks for what is needed to judge `reading`.
    pub(super) fn add(&mut self, publisher: i32, reading: &Reading<'_>, (stream, seq): (&Stream, Seq), careful: bool) {
        let key = FilingKey::of(reading, stream, seq);
        match (reading.kind, reading.key) {
            (Kind::Gap, _) => {
                self.publishers.insert(publisher);
                return;
            }
            (Kind::Reading, Key::Delivery { resent: true, .. }) => {
                self.publishers.insert(publisher);
                self.copies.entry(publisher).or_default().insert(key.bytes);
                return;
            }
            (Kind::Reading, Key::Delivery { resent: false, .. }) => {
                self.publishers.insert(publisher);
                self.originals.push((publisher, key.bytes));
            }
            (Kind::Reading, Key::Content(_)) => {
                self.content_publishers.insert(publisher);
                self.contents.push((publisher, key.bytes));
            }
            (Kind::Reading, Key::Sequence { .. }) => {
                numbers::file(self.numbers.of(publisher), key);
                return;
            }
        }
        if careful {
            self.careful.push((publisher, key, lots::of(reading, key, false)));
        }
    }
}

impl Filing<'_> {
    /// Locks the publishers, then looks.
    pub(super) fn look_up(&mut self, sought: &mut Sought) -> Result<(FiledRows, Numbered), StoreError> {
        sought.publishers.extend(sought.numbers.publishers());
        self.ids.lots.lock(self.session, &sought.publishers)?;
        let numbered = sought.numbers.around(self.session)?;
        let mut filed = FiledRows::new();
        self.look_for_waiting(&sought.publishers, &sought.originals, &mut filed)?;
        self.look_for_originals(&sought.copies, &mut filed)?;
        let mut probes = self.old_contents(&sought.content_publishers, &sought.contents)?;
        for (publisher, key, lot) in &sought.careful {
            let lot = self.ids.lots.number(*publisher, *lot)?;
            probes.push(Probe { publisher: *publisher, kind: i16::from(key.kind), lot, key: key.bytes });
        }
        // As they stand in the index.
        probes.sort_unstable_by_key(|probe| (probe.publisher, probe.kind, probe.lot, probe.key));
        for probes in probes.chunks(KEYS_AT_ONCE) {
            self.probe(probes, &mut filed)?;
        }
        Ok((filed, numbered))
    }

    /// Rows that wait for one of these originals: another transaction's are none, but upkeep may remove one at this moment, and is waited for.
    fn look_for_waiting(
        &mut self,
        publishers: &BTreeSet<i32>,
        originals: &[(i32, [u8; 16])],
        filed: &mut FiledRows,
    ) -> Result<(), StoreError> {
        if originals.is_empty() {
            return Ok(());
        }
        let publishers: Vec<i32> = publishers.iter().copied().collect();
        let with_waiting = "SELECT p.id FROM unnest($1::integer[]) AS p (id)
                            CROSS JOIN LATERAL (SELECT 1 FROM record r
                              WHERE r.awaits_original AND r.publisher = p.id LIMIT 1) AS waiting";
        let with_waiting = self.session.query(with_waiting, &[&publishers])?;
        let with_waiting = with_waiting
            .iter()
            .map(|row| get(row, 0))
            .collect::<Result<BTreeSet<i32>, _>>()?;
        let waited_for = originals.iter().filter(|(publisher, _)| with_waiting.contains(publisher));
        // In the order in which they are locked, over all statements.
        let waited_for: Vec<(i32, [u8; 16])> = waited_for.copied().collect::<BTreeSet<_>>().into_iter().collect();
        let select = "SELECT r.publisher, r.key_kind, r.key, r.seq, r.taken_ms, r.awaits_original,
                             s.board, s.boot, s.nonce, s.class
                      FROM unnest($1::integer[], $2::uuid[]) AS sent (publisher, key)
                      JOIN record r ON r.publisher = sent.publisher AND r.key = sent.key
                      JOIN stream s ON s.id = r.stream
                      WHERE r.awaits_original ORDER BY r.publisher, r.key FOR UPDATE OF r";
        for waited_for in waited_for.chunks(KEYS_AT_ONCE) {
            let publishers: Vec<i32> = waited_for.iter().map(|(publisher, _)| *publisher).collect();
            let keys: Vec<KeyBytes> = waited_for.iter().map(|(_, key)| KeyBytes(*key)).collect();
            note(&self.session.query(select, &[&publishers, &keys])?, filed)?;
        }
        Ok(())
    }

    /// Rows that these copies are copies of, in all lots of their publishers: in lot 0 first, then the newest first.
    fn look_for_originals(
        &mut self,
        copies: &BTreeMap<i32, BTreeSet<[u8; 16]>>,
        filed: &mut FiledRows,
    ) -> Result<(), StoreError> {
        let publishers: Vec<i32> = copies.keys().copied().collect();
        if publishers.is_empty() {
            return Ok(());
        }
        // From lot to lot, by the index.
        let lots = "WITH RECURSIVE found (publisher, lot) AS (
                      SELECT p.id, (SELECT r.lot FROM record r WHERE r.publisher = p.id AND r.key_kind = 2
                                    ORDER BY r.lot LIMIT 1)
                      FROM unnest($1::integer[]) AS p (id)
                    UNION ALL
                      SELECT f.publisher, (SELECT r.lot FROM record r WHERE r.publisher = f.publisher AND r.key_kind = 2
                                           AND r.lot > f.lot ORDER BY r.lot LIMIT 1)
                      FROM found f WHERE f.lot IS NOT NULL)
                    SELECT publisher, lot FROM found WHERE lot IS NOT NULL ORDER BY publisher, lot = 0 DESC, lot DESC";
        let mut probes = Vec::new();
        for row in self.session.query(lots, &[&publishers])? {
            let (publisher, lot): (i32, i64) = (get(&row, 0)?, get(&row, 1)?);
            for key in copies.get(&publisher).into_iter().flatten().copied() {
                if filed.contains_key(&(publisher, FilingKey { kind: DELIVERY as u8, bytes: key })) {
                    continue;
                }
                probes.push(Probe { publisher, kind: DELIVERY, lot, key });
                if probes.len() == KEYS_AT_ONCE {
                    self.probe(&probes, filed)?;
                    probes.clear();
                }
            }
        }
        self.probe(&probes, filed)
    }

    /// The keys in lot 0 of publishers that have such rows there.
    fn old_contents(
        &mut self,
        publishers: &BTreeSet<i32>,
        contents: &[(i32, [u8; 16])],
    ) -> Result<Vec<Probe>, StoreError> {
        let with_old = self.ids.lots.with_old_contents(self.session, publishers)?;
        if with_old.is_empty() {
            return Ok(Vec::new());
        }
        let old = contents.iter().filter(|(publisher, _)| with_old.contains(publisher));
        Ok(old
            .map(|(publisher, key)| Probe { publisher: *publisher, kind: CONTENT, lot: NO_LOT, key: *key })
            .collect())
    }

    /// Looks for each key in its lot.
    fn probe(&mut self, probes: &[Probe], filed: &mut FiledRows) -> Result<(), StoreError> {
        if probes.is_empty() {
            return Ok(());
        }
        let publishers: Vec<i32> = probes.iter().map(|probe| probe.publisher).collect();
        let kinds: Vec<i16> = probes.iter().map(|probe| probe.kind).collect();
        let lots: Vec<i64> = probes.iter().map(|probe| probe.lot).collect();
        let keys: Vec<KeyBytes> = probes.iter().map(|probe| KeyBytes(probe.key)).collect();
        // One after the other, by the index: a server that takes it for better to read the whole table is not asked.
        let select = "SELECT r.publisher, r.key_kind, r.key, r.seq, r.taken_ms, r.awaits_original,
                             s.board, s.boot, s.nonce, s.class
                      FROM unnest($1::integer[], $2::smallint[], $3::bigint[], $4::uuid[])
                           AS sent (publisher, key_kind, lot, key)
                      CROSS JOIN LATERAL (SELECT * FROM record
                        WHERE record.publisher = sent.publisher AND record.key_kind = sent.key_kind
                          AND record.key_kind IN (1, 2) AND record.lot = sent.lot AND record.key = sent.key LIMIT 1) AS r
                      JOIN stream s ON s.id = r.stream";
        note(&self.session.query(select, &[&publishers, &kinds, &lots, &keys])?, filed)
    }
}

/// Keeps rows that were found, by their keys; of two under one key that which waits.
fn note(rows: &[Row], filed: &mut FiledRows) -> Result<(), StoreError> {
    for row in rows {
        let KeyBytes(bytes) = get(row, 2)?;
        let key = FilingKey { kind: small(row, 1)?, bytes };
        let found = Filed {
            stream: stream_at(row, 6)?,
            seq: get::<i64>(row, 3)?.cast_unsigned(),
            taken: WallMillis(get::<i64>(row, 4)?.cast_unsigned()),
            awaits_original: get(row, 5)?,
        };
        match filed.entry((get(row, 0)?, key)) {
            Entry::Vacant(free) => {
                free.insert(found);
            }
            Entry::Occupied(mut standing) if found.awaits_original => {
                standing.insert(found);
            }
            Entry::Occupied(_) => {}
        }
    }
    Ok(())
}

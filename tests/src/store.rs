//! The region's store in memory: what is in it survives crashes, and a transaction is all or nothing. Calls the same
//! pure functions inside its transaction as the store that ships; checks at once that no reading becomes two rows.

use std::collections::BTreeMap;

use shared::ids::{Class, Seq, Stream, Term};
use shared::ranges::RangeSet;
use shared::record::{Gap, GapReason, Kind, Reading};
use shared::region::ledger::{Filed, FilingKey, Settled, Stored, Tally, Verdict, file, gap, settle};
use shared::wire::uplink::Block;

use crate::mark::Mark;
use crate::model::Model;
use crate::mutant::Mutant;

/// What the region remembers. One site.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// Drawn when the store was made.
    pub incarnation: u64,
    /// Highest term welcomed.
    pub fence: Term,
    coverage: BTreeMap<Stream, RangeSet>,
    rows: BTreeMap<(String, FilingKey), Filed>,
    marks: BTreeMap<Mark, u32>,
    addresses: BTreeMap<Stream, BTreeMap<Seq, Option<Mark>>>,
    /// Readings that were rows already, under another address.
    pub duplicates: u64,
    /// Gap records.
    pub gaps: u64,
    /// What gap records declared lost.
    declared: BTreeMap<Stream, RangeSet>,
    /// What they say.
    pub gaps_named: Vec<Gap>,
}

impl Store {
    /// An empty store.
    pub fn new(incarnation: u64) -> Self {
        Self { incarnation, ..Self::default() }
    }

    /// One transaction: the fence, the blocks, their coverage. Complaints about broken promises go to `complaints`.
    pub fn commit(
        &mut self,
        fence: Option<Term>,
        blocks: &[Block],
        model: &mut Model,
        mutant: Option<Mutant>,
        complaints: &mut Vec<String>,
    ) -> Vec<Stored> {
        if let Some(term) = fence {
            self.fence = self.fence.max(term);
        }
        let mut stored = Vec::new();
        for block in blocks {
            let coverage = self.coverage.entry(block.stream).or_default();
            let settled = settle(coverage, block);
            let outcome = match settled {
                Ok(settled) => {
                    coverage.insert(settled.range);
                    Ok(self.file_all(block.stream, &settled, model, mutant, complaints))
                }
                Err(why) => {
                    complaints.push(format!("a block of {} does not hold together: {why}", block.stream));
                    Err(why)
                }
            };
            stored.push(Stored { stream: block.stream, outcome });
        }
        stored
    }

    fn file_all(
        &mut self,
        stream: Stream,
        settled: &Settled,
        model: &mut Model,
        mutant: Option<Mutant>,
        complaints: &mut Vec<String>,
    ) -> Tally {
        let mut tally = Tally { again: settled.again(), ..Tally::default() };
        for (seq, reading) in settled.readings() {
            let mark = Mark::read(reading.payload);
            if let Err(what) = model.record_stored(stream, seq, mark) {
                complaints.push(what);
            }
            if self.addresses.entry(stream).or_default().insert(seq, mark).is_some() {
                complaints.push(format!("sequence {seq} of {stream} was stored twice"));
            }
            match reading.kind {
                Kind::Gap => {
                    tally.gaps += 1;
                    if let Ok(gap) = gap(&reading) {
                        self.gaps_named.push(gap);
                    }
                    if mutant != Some(Mutant::GapForgotten) {
                        self.declare(&reading, complaints);
                    }
                }
                Kind::Reading => self.file_one((stream, seq), &reading, mark, mutant, &mut tally, complaints),
            }
        }
        self.duplicates += tally.duplicates;
        self.gaps += tally.gaps;
        tally
    }

    fn declare(&mut self, reading: &Reading<'_>, complaints: &mut Vec<String>) {
        let Ok(gap) = gap(reading) else {
            complaints.push("a gap record does not read".into());
            return;
        };
        if gap.stream.class == Class::Alarm && gap.reason == GapReason::JournalFull {
            complaints.push(format!("alarms of {} were shed", gap.stream));
        }
        self.declared.entry(gap.stream).or_default().insert(gap.range);
    }

    /// Whether the record was declared shed and never came.
    pub fn is_shed(&self, stream: &Stream, seq: Seq) -> bool {
        let declared = self.declared.get(stream).is_some_and(|declared| declared.contains(seq));
        declared && !self.coverage.get(stream).is_some_and(|covered| covered.contains(seq))
    }

    /// Records of `stream` that came or were declared shed.
    pub fn known(&self, stream: &Stream) -> RangeSet {
        let mut known = self.coverage(stream);
        known.extend(self.declared.get(stream).unwrap_or(&RangeSet::EMPTY));
        known
    }

    /// Whether a gap record says that the record was shed to make room, and not that no board can read it any more.
    pub fn made_room(&self, stream: &Stream, seq: Seq) -> bool {
        let of = |gap: &&Gap| gap.reason == GapReason::JournalFull && gap.stream == *stream;
        self.gaps_named
            .iter()
            .filter(of)
            .any(|gap| (gap.range.first..=gap.range.last).contains(&seq))
    }

    /// Records of `stream` that were declared shed and never came.
    pub fn shed(&self, stream: &Stream) -> u64 {
        let Some(declared) = self.declared.get(stream) else { return 0 };
        self.coverage
            .get(stream)
            .map_or(declared.count(), |covered| declared.minus(covered).count())
    }

    /// Records that were declared shed and never came, in all.
    pub fn shed_in_all(&self) -> u64 {
        self.declared.keys().map(|stream| self.shed(stream)).sum()
    }

    fn file_one(
        &mut self,
        (stream, seq): (Stream, Seq),
        reading: &Reading<'_>,
        mark: Option<Mark>,
        mutant: Option<Mutant>,
        tally: &mut Tally,
        complaints: &mut Vec<String>,
    ) {
        let asked = (reading.publisher.to_owned(), FilingKey::of(reading, &stream, seq));
        let filed = self.rows.get(&asked).filter(|_| mutant != Some(Mutant::KeysIgnored));
        match file(filed, reading, &stream, seq) {
            Verdict::Insert { key, awaits_original } => {
                let row = Filed { stream, seq, taken: reading.taken, awaits_original };
                self.rows.insert((asked.0, key), row);
                tally.rows += 1;
                let Some(mark) = mark else {
                    complaints.push(format!("sequence {seq} of {stream} is a reading that nobody published"));
                    return;
                };
                let rows = self.marks.entry(mark).or_default();
                *rows += 1;
                if *rows > 1 {
                    complaints.push(format!("reading {mark} became {rows} rows, the last at {seq} of {stream}"));
                }
            }
            Verdict::Duplicate { meets } => {
                tally.duplicates += 1;
                if meets && let Some(row) = self.rows.get_mut(&asked) {
                    row.awaits_original = false;
                }
            }
        }
    }

    /// What is covered of `stream`.
    pub fn coverage(&self, stream: &Stream) -> RangeSet {
        self.coverage.get(stream).cloned().unwrap_or_default()
    }

    /// Every stream with what is stored at each of its sequences, in order.
    pub fn streams(&self) -> impl Iterator<Item = (&Stream, &BTreeMap<Seq, Option<Mark>>)> {
        self.addresses.iter()
    }

    /// Rows that carry `mark`.
    pub fn rows_of(&self, mark: Mark) -> u32 {
        self.marks.get(&mark).copied().unwrap_or(0)
    }

    /// Rows in all.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Forgets what is covered, and nothing else: a lie.
    pub fn forget_coverage(&mut self) {
        self.coverage.clear();
    }
}

//! The reference: which reading got which number, what was durable where, what was acknowledged and what the region has,
//! each with the step at which that became so. Knows nothing of how the journal works; the judge holds disks against it.

use std::collections::{BTreeMap, BTreeSet};

use shared::ids::{Seq, Stream};
use shared::ranges::{RangeSet, SeqRange};
use shared::record::{Gap, Kind, Reading};
use shared::wire::peer::Run;

use crate::mark::Mark;

/// What stands at a number of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A reading of a publisher.
    Reading(Mark),
    /// A note that records were shed.
    Gap(Stream, SeqRange),
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Steps that had been begun when it left.
    pub at: u64,
    /// Of which reading.
    pub mark: Mark,
    /// On how many boards it was said to be.
    pub copies: usize,
}

/// The reference. Boards go by their place, from 0.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    numbered: BTreeMap<(Stream, Seq), Entry>,
    places: BTreeMap<Mark, (Stream, Seq)>,
    durable: Vec<(u64, usize, Stream, SeqRange)>,
    promises: Vec<Promise>,
    covered: Vec<(u64, Stream, SeqRange)>,
    rows: BTreeMap<Mark, u32>,
    region: BTreeMap<Stream, RangeSet>,
    region_gaps: Vec<(u64, Stream, SeqRange)>,
    /// The first broken promise.
    pub broken: Option<String>,
}

/// What `reading` stands for; `None` for a reading that nobody published.
pub fn entry(reading: &Reading<'_>) -> Option<Entry> {
    match reading.kind {
        Kind::Reading => Mark::read(reading.payload).map(Entry::Reading),
        Kind::Gap => {
            let gap: Gap = postcard::from_bytes(reading.payload).ok()?;
            Some(Entry::Gap(gap.stream, gap.range))
        }
    }
}

impl Ledger {
    /// Notes that a promise was broken; the first one stays.
    pub fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// A run is about to be written, by its origin or by a keeper.
    pub fn run(&mut self, run: &Run) {
        let Ok(readings) = Reading::decode_all(&run.bytes, run.count) else {
            self.breaks(format!("a run of {} is written that does not read", run.stream));
            return;
        };
        for (seq, reading) in (run.first..).zip(&readings) {
            let Some(entry) = entry(reading) else {
                self.breaks(format!("{seq} of {} is a reading that nobody published", run.stream));
                return;
            };
            if let Err(what) = self.number(run.stream, seq, entry) {
                self.breaks(what);
            }
        }
    }

    fn number(&mut self, stream: Stream, seq: Seq, entry: Entry) -> Result<(), String> {
        let have = *self.numbered.entry((stream, seq)).or_insert(entry);
        if have != entry {
            return Err(format!("{seq} of {stream} is {entry:?}; it was {have:?} before"));
        }
        if let Entry::Reading(mark) = entry {
            self.places.entry(mark).or_insert((stream, seq));
        }
        Ok(())
    }

    /// What stands at a number, if it was ever given out.
    pub fn at(&self, stream: Stream, seq: Seq) -> Option<Entry> {
        self.numbered.get(&(stream, seq)).copied()
    }

    /// Where a reading stands.
    pub fn place(&self, mark: Mark) -> Option<(Stream, Seq)> {
        self.places.get(&mark).copied()
    }

    /// A board says that these records are durable on its disk.
    pub fn durable(&mut self, at: u64, board: usize, stream: Stream, range: SeqRange) {
        self.durable.push((at, board, stream, range));
    }

    /// What was said to be durable on `board` before step `number`.
    pub fn durable_on(&self, board: usize, number: u64) -> BTreeMap<Stream, RangeSet> {
        let mut durable: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        let said = self.durable.iter().filter(|(at, of, ..)| *at <= number && *of == board);
        said.for_each(|(_, _, stream, range)| durable.entry(*stream).or_default().insert(*range));
        durable
    }

    /// An acknowledgement leaves.
    pub fn promise(&mut self, promise: Promise) {
        self.promises.push(promise);
    }

    /// Acknowledgements that had left before step `number`.
    pub fn promised(&self, number: u64) -> impl Iterator<Item = &Promise> {
        self.promises.iter().filter(move |promise| promise.at <= number)
    }

    /// What the region had before step `number`, and what it knew to be shed.
    pub fn covered(&self, number: u64) -> BTreeMap<Stream, RangeSet> {
        let mut covered: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        let had = self.covered.iter().chain(&self.region_gaps).filter(|(at, ..)| *at <= number);
        had.for_each(|(_, stream, range)| covered.entry(*stream).or_default().insert(*range));
        covered
    }

    /// What the region has of `stream`.
    pub fn region_has(&self, stream: &Stream) -> RangeSet {
        self.region.get(stream).cloned().unwrap_or_default()
    }

    /// The region files records; what it has already is passed over.
    pub fn file(&mut self, at: u64, stream: Stream, first: Seq, readings: &[Reading<'_>]) {
        let mut filed = BTreeSet::new();
        for (seq, reading) in (first..).zip(readings) {
            let known = self.at(stream, seq);
            let said = entry(reading);
            if said.is_none() || said != known {
                self.breaks(format!("the region is sent {said:?} as {seq} of {stream}, which is {known:?}"));
                return;
            }
            if self.region.get(&stream).is_some_and(|have| have.contains(seq)) {
                continue;
            }
            filed.insert(seq);
            match said {
                Some(Entry::Reading(mark)) => {
                    let rows = self.rows.entry(mark).or_default();
                    *rows += 1;
                    if *rows > 1 {
                        self.breaks(format!("{mark} becomes a second row, at {seq} of {stream}"));
                    }
                }
                Some(Entry::Gap(of, range)) => self.region_gaps.push((at, of, range)),
                None => {}
            }
        }
        for seq in filed {
            let range = SeqRange { first: seq, last: seq };
            self.region.entry(stream).or_default().insert(range);
            self.covered.push((at, stream, range));
        }
    }

    /// Acknowledged readings that the region neither has nor knows to be shed.
    pub fn missing(&self) -> Vec<Mark> {
        let covered = self.covered(u64::MAX);
        let accounted = |mark: Mark| {
            let place = self.place(mark);
            place.is_some_and(|(stream, seq)| covered.get(&stream).is_some_and(|have| have.contains(seq)))
        };
        self.promises
            .iter()
            .map(|promise| promise.mark)
            .filter(|mark| !accounted(*mark))
            .collect()
    }
}

impl Ledger {
    /// What was so before step `number`, for a site whose steps begin anew.
    #[must_use]
    pub fn as_of(&self, number: u64) -> Self {
        let mut then = Self { numbered: self.numbered.clone(), places: self.places.clone(), ..Self::default() };
        then.promises = self.promised(number).map(|promise| Promise { at: 0, ..*promise }).collect();
        let past = |(at, stream, range): &(u64, Stream, SeqRange)| (*at <= number).then_some((0, *stream, *range));
        then.covered = self.covered.iter().filter_map(past).collect();
        then.region_gaps = self.region_gaps.iter().filter_map(past).collect();
        for (_, stream, range) in &then.covered {
            then.region.entry(*stream).or_default().insert(*range);
            if let Some(Entry::Reading(mark)) = self.at(*stream, range.first) {
                then.rows.insert(mark, 1);
            }
        }
        then
    }

    /// Records that the region has filed.
    pub const fn filed(&self) -> usize {
        self.covered.len()
    }
}

//! Whether a journal is whole: every block of every segment is checked. Judges the ends of segments as recovery does: a
//! block that no later one presupposes was never acknowledged. Tells which records are missing where that can be told.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;
use shared::ids::{Epoch, SegmentId, Stream};
use shared::journal::format::{Found, Header, decode};
use shared::journal::segment::Segment;
use shared::limits::{INSPECTED_FINDINGS_MAX, INSPECTED_SPANS_MAX, STREAMS_MAX};
use shared::ranges::{RangeSet, SeqRange};

use super::suspicion::{Span, Suspicion, note};
use super::walk::{Block, Fault, Hole, Piece, Walked};
use super::{InspectError, JournalDir, Records, State};
use crate::keys::Keys;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether everything that was ever acknowledged here can be read.
    pub whole: bool,
    /// The state file.
    pub state: State,
    /// Whether a process has the directory, as far as can be seen.
    pub in_use: bool,
    /// Segments that were checked.
    pub segments: u64,
    /// Segments that were recycled or deleted while they were.
    pub gone: u64,
    /// Their files' bytes.
    pub bytes: u64,
    /// Whole blocks.
    pub blocks: u64,
    /// Of these, encrypted ones that were not opened: checked by their checksums, their records not looked at.
    pub sealed_blocks: u64,
    /// Records in the others; one that stands in two blocks counts twice.
    pub records: u64,
    /// Damage.
    pub damaged: Vec<Damage>,
    /// Ends of writes that were never acknowledged.
    pub torn: Vec<Torn>,
    /// Findings beyond those listed.
    pub unlisted: u64,
}

/// A place that held a block and does not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// In which segment, its number in hexadecimal.
    pub segment: String,
    /// First byte.
    pub offset: u32,
    /// How many bytes; 0 where a block is missing between two others.
    pub bytes: u32,
    /// What is wrong.
    pub fault: DamageFault,
    /// Records that are missing there and stand nowhere else in the journal. Empty where nothing can be told.
    pub missing: Vec<Records>,
    /// Whether the segment's footer says so: then this is all that stood there, or at other damaged places of the same
    /// segment. Else the blocks around it show it: then these were never kept on this board, perhaps, and others may have
    /// stood there too.
    pub by_footer: bool,
}

/// What is wrong at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageFault {
    /// A block's payload does not hold.
    Payload,
    /// No block's header holds.
    Header,
    /// The system cannot read it.
    Unreadable,
    /// The checksums hold, but what they are over are no records.
    Records,
    /// The checksums hold, but this is not what was encrypted: somebody changed it.
    Seal,
    /// A whole block, but not the one that belongs there: blocks are missing before it, or it was put there.
    Order,
}

impl From<Fault> for DamageFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Payload => Self::Payload,
            Fault::Header => Self::Header,
            Fault::Unreadable => Self::Unreadable,
        }
    }
}

/// The end of a write that was never acknowledged: the next start cuts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Torn {
    /// In which segment, its number in hexadecimal.
    pub segment: String,
    /// First byte.
    pub offset: u32,
}

/// Checks all of `directory`; with `keys` also whether encrypted blocks are what was written.
pub fn verify(directory: &JournalDir, mut keys: Option<&mut Keys>) -> Result<Verdict, InspectError> {
    let mut judge = Judge::default();
    for segment in directory.segments()? {
        judge.segment(directory, segment, keys.as_deref_mut())?;
    }
    judge.cut();
    let state = directory.state()?;
    let damaged = judge.told();
    let (held_any, copies) = (judge.segments > 0, &state.copies);
    // With one copy left the next start restores the other.
    let state_lost = held_any && copies.iter().all(|copy| !copy.whole);
    Ok(Verdict {
        whole: damaged.is_empty() && !state_lost,
        state,
        in_use: directory.is_in_use(),
        segments: judge.segments,
        gone: judge.gone,
        bytes: judge.bytes,
        blocks: judge.blocks,
        sealed_blocks: judge.sealed_blocks,
        records: judge.records,
        damaged,
        torn: judge.torn,
        unlisted: judge.unlisted,
    })
}

/// How a segment ended, while it is open whether anything is missing there.
#[derive(Debug)]
struct Tail {
    segment: SegmentId,
    end: u32,
    torn: Option<Hole>,
    next: Option<(Epoch, u64)>,
}

#[derive(Debug, Default)]
struct Judge {
    segments: u64,
    gone: u64,
    bytes: u64,
    blocks: u64,
    sealed_blocks: u64,
    records: u64,
    damaged: Vec<(SegmentId, Damage)>,
    torn: Vec<Torn>,
    unlisted: u64,
    tail: Option<Tail>,
    held: BTreeMap<Stream, RangeSet>,
    suspicion: Suspicion,
    /// Not all that is held was looked at: what is missing is not inferred.
    knows_not_all: bool,
    /// By finding: what the footer of its segment names and its blocks do not hold.
    by_footer: BTreeMap<usize, Vec<(Stream, SeqRange)>>,
}

/// What one segment shows, before it is known that it stayed.
#[derive(Debug, Default)]
struct Seen {
    blocks: u64,
    sealed_blocks: u64,
    records: u64,
    first: Option<(Header, bool)>,
    last: Option<Header>,
    places: Vec<(u32, u32, DamageFault)>,
    /// A hole's number is its place in `places`.
    spans: Vec<Span>,
    /// There are more than are kept.
    is_crowded: bool,
    unlisted: u64,
}

impl Seen {
    fn piece(&mut self, segment: SegmentId, piece: Piece<'_>, keys: Option<&mut Keys>) {
        match piece {
            Piece::Hole(hole) => self.damage(hole.start, hole.end - hole.start, hole.fault.into()),
            Piece::Block(block) => self.block(segment, block, keys),
        }
    }

    fn damage(&mut self, offset: u32, bytes: u32, fault: DamageFault) {
        if self.places.len() >= INSPECTED_FINDINGS_MAX {
            self.unlisted += 1;
            return;
        }
        self.spans.push(Span::Hole(self.places.len()));
        self.places.push((offset, bytes, fault));
    }

    fn block(&mut self, segment: SegmentId, block: Block<'_>, keys: Option<&mut Keys>) {
        let place = block.header.place;
        let behind_hole = self
            .places
            .last()
            .is_some_and(|(offset, bytes, _)| offset + bytes == place.offset);
        if self.last.is_some_and(|last| !follows(&last, &block.header, behind_hole)) {
            self.damage(place.offset, 0, DamageFault::Order);
        }
        self.first.get_or_insert((block.header, behind_hole));
        self.last = Some(block.header);
        self.blocks += 1;
        let bytes = u32::try_from(block.bytes.len()).unwrap_or(u32::MAX);
        if let Some(keys) = keys
            && !keys.open(segment, place.offset, block.bytes).forged.is_empty()
        {
            return self.damage(place.offset, bytes, DamageFault::Seal);
        }
        match decode(segment, place.offset, block.bytes) {
            Found::Block { runs, .. } => {
                for run in &runs {
                    let range = run.range().expect("decode checks the range");
                    self.records += u64::from(run.count);
                    if self.spans.len() < INSPECTED_SPANS_MAX {
                        note(&mut self.spans, run.stream, range);
                    } else {
                        self.is_crowded = true;
                    }
                }
            }
            Found::Sealed(_) => self.sealed_blocks += 1,
            Found::Broken(_) | Found::Nothing => self.damage(place.offset, bytes, DamageFault::Records),
        }
    }
}

impl Seen {
    /// What a footer names and the blocks do not hold.
    fn lacks(&self, footer: &Segment) -> Vec<(Stream, SeqRange)> {
        let mut found: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        for span in &self.spans {
            if let Span::Records(stream, range) = span {
                found.entry(*stream).or_default().insert(*range);
            }
        }
        let named = footer.streams.iter().flat_map(|(stream, holding)| {
            let ranges = holding.ranges.ranges().iter();
            ranges.map(|range| (*stream, *range)).collect::<Vec<_>>()
        });
        elsewhere_missing(&named.collect::<Vec<_>>(), &found)
    }
}

/// Those of `records` that are not in `held`.
fn elsewhere_missing(records: &[(Stream, SeqRange)], held: &BTreeMap<Stream, RangeSet>) -> Vec<(Stream, SeqRange)> {
    let missing = |(stream, range): &(Stream, SeqRange)| {
        let parts = held.get(stream).map_or(vec![*range], |held| held.missing(*range));
        parts.into_iter().map(|range| (*stream, range)).collect::<Vec<_>>()
    };
    records.iter().flat_map(missing).collect()
}

/// Whether `next` may stand behind `last` in one segment: with nothing between them it is the block that was written next.
fn follows(last: &Header, next: &Header, behind_hole: bool) -> bool {
    let (before, after) = (&last.place, &next.place);
    if before.epoch != after.epoch {
        return false;
    }
    match after.number.checked_sub(before.number) {
        Some(1) => after.previous == last.checksum,
        Some(steps) => steps > 1 && behind_hole,
        None => false,
    }
}

impl Judge {
    fn segment(
        &mut self,
        directory: &JournalDir,
        segment: SegmentId,
        mut keys: Option<&mut Keys>,
    ) -> Result<(), InspectError> {
        let mut seen = Seen::default();
        let walked = directory.walk(segment, |piece| {
            seen.piece(segment, piece, keys.as_deref_mut());
            ControlFlow::Continue(())
        })?;
        let Walked::Whole { bytes, end, torn } = walked else {
            self.gone += 1;
            return Ok(());
        };
        self.segments += 1;
        self.bytes += bytes;
        self.blocks += seen.blocks;
        self.sealed_blocks += seen.sealed_blocks;
        self.records += seen.records;
        self.unlisted += seen.unlisted;
        self.knows_not_all |= seen.is_crowded || seen.sealed_blocks > 0;
        if let Some((first, behind_hole)) = &seen.first {
            self.follow(first, *behind_hole);
        }
        // Of a segment in which nothing is found it is still known what would have come next.
        let due = self
            .tail
            .as_ref()
            .filter(|tail| tail.segment.0 + 1 == segment.0)
            .and_then(|tail| tail.next);
        self.cut();
        let first_finding = self.damaged.len();
        self.take_in(segment, &seen);
        if self.damaged.len() > first_finding
            && !(seen.is_crowded || seen.sealed_blocks > 0)
            && let Some(footer) = directory.footer(segment)
        {
            let lacking = seen.lacks(&footer);
            self.by_footer
                .extend((first_finding..self.damaged.len()).map(|number| (number, lacking.clone())));
        }
        let next = seen.last.map(|last| (last.place.epoch, last.place.number + 1)).or(due);
        self.tail = Some(Tail { segment, end, torn, next });
        Ok(())
    }

    /// The first block of a segment: what the segment before lacks although it was durable was damaged.
    fn follow(&mut self, first: &Header, behind_hole: bool) {
        let Some(tail) = self.tail.take() else { return };
        let place = &first.place;
        let adjoins = place.segment.0 == tail.segment.0 + 1;
        let lacks = adjoins
            && tail
                .next
                .is_some_and(|(epoch, next)| epoch == place.epoch && next < place.known);
        // Behind a hole the missing block may have stood in that hole.
        if lacks && (tail.torn.is_some() || !behind_hole) {
            let (offset, bytes, fault) = match tail.torn {
                Some(hole) => (hole.start, hole.end - hole.start, hole.fault.into()),
                None => (tail.end, 0, DamageFault::Order),
            };
            self.damage(tail.segment, offset, bytes, fault);
        } else {
            self.tail = Some(tail);
        }
    }

    /// Nothing says that the end of the segment before was durable.
    fn cut(&mut self) {
        if let Some(Tail { segment, torn: Some(hole), .. }) = self.tail.take() {
            if hole.fault == Fault::Unreadable {
                self.damage(segment, hole.start, hole.end - hole.start, DamageFault::Unreadable);
            } else if self.torn.len() < INSPECTED_FINDINGS_MAX {
                self.torn.push(Torn { segment: name(segment), offset: hole.start });
            } else {
                self.unlisted += 1;
            }
        }
    }

    fn damage(&mut self, segment: SegmentId, offset: u32, bytes: u32, fault: DamageFault) {
        if self.damaged.len() >= INSPECTED_FINDINGS_MAX {
            self.unlisted += 1;
            return;
        }
        self.suspicion.handle(Span::Hole(self.damaged.len()));
        let damage = Damage { segment: name(segment), offset, bytes, fault, missing: Vec::new(), by_footer: false };
        self.damaged.push((segment, damage));
    }

    fn take_in(&mut self, segment: SegmentId, seen: &Seen) {
        for span in &seen.spans {
            match span {
                Span::Hole(number) => {
                    if let Some((offset, bytes, fault)) = seen.places.get(*number) {
                        self.damage(segment, *offset, *bytes, *fault);
                    }
                }
                Span::Records(stream, range) => {
                    self.suspicion.handle(*span);
                    self.hold(*stream, *range);
                }
            }
        }
    }

    fn hold(&mut self, stream: Stream, range: SeqRange) {
        if self.held.len() < STREAMS_MAX || self.held.contains_key(&stream) {
            let held = self.held.entry(stream).or_default();
            held.insert(range);
            held.truncate(INSPECTED_SPANS_MAX);
        }
    }

    /// The damage, each with what is missing there.
    fn told(&mut self) -> Vec<Damage> {
        let mut missing = std::mem::take(&mut self.suspicion).finish(&self.held);
        let mut by_footer = std::mem::take(&mut self.by_footer);
        for (_, records) in by_footer.iter_mut() {
            *records = elsewhere_missing(records, &self.held);
        }
        let damaged = std::mem::take(&mut self.damaged);
        let knows_not_all = self.knows_not_all;
        let tell = |(number, (_, mut damage)): (usize, (SegmentId, Damage))| {
            let named_by_footer = by_footer.remove(&number);
            damage.by_footer = named_by_footer.is_some();
            let inferred = || missing.remove(&number).filter(|_| !knows_not_all).unwrap_or_default();
            let records = named_by_footer.unwrap_or_else(inferred);
            let named = |(stream, range): (Stream, SeqRange)| Records { stream: (&stream).into(), range };
            damage.missing = records.into_iter().map(named).collect();
            damage
        };
        damaged.into_iter().enumerate().map(tell).collect()
    }
}

/// A segment as its file is called.
pub(super) fn name(segment: SegmentId) -> String {
    format!("{:016x}", segment.0)
}

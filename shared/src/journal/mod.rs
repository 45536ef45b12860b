//! One log a board, for its own records and for the copies it keeps, so that one fdatasync covers all that has
//! gathered. Owns which segment is written, what each holds, and when a file is free; never touches a file itself.
//!
//! ```text
//!  prepared ──first append──▶ active ──full──▶ sealed ──all covered by the region──▶ freed ──recycled──▶ prepared
//!                                                └──what is to stay written again, the rest shed──▲
//! ```
//!
//! `room.rs` says which class may still be written and sees to the files, `clean.rs` makes room where there is none.
//!
//! A stopped journal is never continued: each start writes a segment of its own, in a new epoch.

pub mod clean;
#[cfg(test)]
mod clean_tests;
pub mod footer;
pub mod format;
mod holes;
mod places;
pub mod recover;
pub mod room;
pub mod scrub;
#[cfg(test)]
mod scrub_tests;
pub mod segment;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::DiskJob;
use crate::config::JournalConfig;
use crate::ids::{Epoch, SegmentId, Stream, Token};
use crate::journal::format::{Place, encode, padded};
use crate::journal::places::Places;
use crate::journal::recover::Recovered;
use crate::journal::segment::Segment;
use crate::limits::PAGE_BYTES;
use crate::outbox::Outbox;
use crate::ranges::{RangeSet, SeqRange};
use crate::time::Instant;
use crate::wire::peer::Run;

/// The state of one board's journal. See the module for the life of a segment.
#[derive(Debug)]
pub struct Journal {
    config: JournalConfig,
    epoch: Epoch,
    segments: BTreeMap<SegmentId, Kept>,
    /// Durable here, by stream: the union of what the segments hold.
    held: BTreeMap<Stream, RangeSet>,
    active: Option<SegmentId>,
    /// Segments that stand ready, in the order in which they become active.
    ready: VecDeque<SegmentId>,
    /// The one that is being made.
    preparing: Option<Preparing>,
    freed: Vec<SegmentId>,
    /// When the next file is written ahead at the earliest.
    ahead_at: Instant,
    /// The device had no room for a file: when to ask again.
    no_room: Option<Instant>,
    /// Something has changed that may ask for room to be made.
    is_changed: bool,
    next_segment: u64,
    /// The last segment that became full took small blocks: the next new file is written through.
    commits_are_small: bool,
    in_flight: Option<InFlight>,
    next_token: u64,
    blocks: u64,
    previous: u32,
    poisoned: bool,
}

/// A segment whose file is being made.
#[derive(Debug)]
struct Preparing {
    segment: SegmentId,
    /// Of a freed file.
    recycled: bool,
    /// Nothing needs it yet: it becomes a free file.
    ahead: bool,
}

/// A segment, and how far it is given to blocks.
#[derive(Debug)]
struct Kept {
    /// What is durable in it.
    segment: Segment,
    /// Bytes given to blocks, durable or being written.
    end: u32,
    /// Places that cannot be read.
    damaged: BTreeSet<u32>,
    places: Places,
}

#[derive(Debug)]
struct InFlight {
    token: Token,
    segment: SegmentId,
    end: u32,
    number: u64,
    runs: Vec<(Stream, SeqRange, u64)>,
}

impl Journal {
    /// The journal of a new life, `epoch`, over what an earlier one left.
    pub fn new(config: JournalConfig, epoch: Epoch, recovered: Recovered) -> Self {
        let mut held: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        let mut segments = BTreeMap::new();
        let mut freed = recovered.free;
        let last = recovered.segments.keys().next_back().max(freed.iter().max());
        let next_segment = last.map_or(1, |last| last.0 + 1);
        let mut damaged = holes::damaged_places(&recovered.events);
        for (id, segment) in recovered.segments {
            // A life that wrote nothing leaves its segment empty. Many short lives must not use the space up.
            if segment.end == 0 && !segment.is_broken && !segment.is_damaged {
                freed.push(id);
                continue;
            }
            for (stream, holding) in &segment.streams {
                held.entry(*stream).or_default().extend(&holding.ranges);
            }
            let end = segment.end;
            let damaged = damaged.remove(&id).unwrap_or_default();
            segments.insert(id, Kept { segment, end, damaged, places: Places::default() });
        }
        let mut journal = Self {
            config,
            epoch,
            segments,
            held,
            active: None,
            ready: VecDeque::new(),
            preparing: None,
            freed,
            ahead_at: Instant::ZERO,
            no_room: None,
            is_changed: true,
            next_segment,
            commits_are_small: false,
            in_flight: None,
            next_token: 1,
            blocks: 0,
            previous: 0,
            poisoned: false,
        };
        journal.drop_doubles();
        journal
    }

    /// Gives the segments of earlier lives the footer that they lack, so that the next start need not scan them. Call once.
    pub fn foot_earlier(&mut self, out: &mut Outbox<DiskJob>) {
        let lacking = self
            .segments
            .iter()
            .filter(|(_, kept)| !kept.segment.has_footer && !kept.segment.is_damaged)
            .map(|(id, _)| *id);
        for id in lacking.take(FOOTED_AT_START).collect::<Vec<_>>() {
            self.foot(id, false, out);
        }
    }

    /// Writes the footer of a segment whose blocks are all durable and to which none is added any more.
    fn foot(&mut self, id: SegmentId, synced: bool, out: &mut Outbox<DiskJob>) {
        let Some(kept) = self.segments.get_mut(&id).filter(|kept| !kept.segment.is_damaged) else {
            return;
        };
        if let Some((offset, bytes)) = footer::encode(id, &kept.segment) {
            kept.segment.has_footer = true;
            out.push(DiskJob::Foot { segment: id, offset, bytes: Bytes::from(bytes), synced });
        }
    }

    /// Appends `runs` as one block. Call only where [`Journal::can_append`] said yes to their bytes.
    pub fn append(&mut self, runs: &[Run], now: Instant, out: &mut Outbox<DiskJob>) {
        let payload = runs.iter().map(|run| run.bytes.len() + RUN_OVERHEAD).sum();
        let full = if self.fits_active(payload) { None } else { self.open_next() };
        let id = self.active.expect("an active segment was chosen above");
        let kept = self.segments.get_mut(&id).expect("the active segment is indexed");
        let place = Place {
            segment: id,
            offset: kept.end,
            epoch: self.epoch,
            number: self.blocks,
            // One block is in flight at a time: all before it are durable.
            known: self.blocks,
            previous: self.previous,
        };
        let (bytes, checksum) = encode(&place, runs);
        kept.end += u32::try_from(bytes.len()).expect("a block is shorter than a segment");
        self.blocks += 1;
        self.previous = checksum;
        let token = Token(self.next_token);
        self.next_token += 1;
        let noted = |run: &Run| (run.stream, run.range().expect("runs have a range"), segment::run_bytes(run));
        let runs = runs.iter().map(noted).collect();
        self.in_flight = Some(InFlight { token, segment: id, end: kept.end, number: place.number, runs });
        out.push(DiskJob::Append { token, segment: id, offset: place.offset, bytes: Bytes::from(bytes) });
        // After the block, so that no commit waits for it.
        if let Some(full) = full {
            self.foot(full, false, out);
        }
        self.prepare(now, out);
    }

    /// The next segment becomes the active one; returns the one that was.
    fn open_next(&mut self) -> Option<SegmentId> {
        let next = self.ready.pop_front().expect("can_append was asked first");
        let full = self.active.and_then(|id| self.segments.get(&id));
        self.commits_are_small = full.is_some_and(|kept| kept.segment.has_small_blocks());
        let segment = Segment::empty(self.config.segment_bytes);
        self.segments
            .insert(next, Kept { segment, end: 0, damaged: BTreeSet::new(), places: Places::default() });
        self.is_changed = true;
        self.active.replace(next)
    }

    /// The block is durable: returns what it holds. Anything but the block in flight changes nothing.
    pub fn handle_appended(&mut self, token: Token) -> Vec<(Stream, SeqRange)> {
        let Some(done) = self.in_flight.take_if(|block| block.token == token) else {
            return Vec::new();
        };
        let kept = self.segments.get_mut(&done.segment).expect("a segment in flight stays");
        let Kept { segment, places, .. } = kept;
        places.note((segment.end, done.end), done.runs.iter().map(|(stream, range, _)| (*stream, *range)));
        segment.end = done.end;
        segment.note_block(self.epoch, done.number);
        for (stream, range, bytes) in &done.runs {
            segment.insert(*stream, *range, *bytes);
            self.held.entry(*stream).or_default().insert(*range);
        }
        self.is_changed |= self.is_pressed();
        done.runs.into_iter().map(|(stream, range, _)| (stream, range)).collect()
    }

    /// A job failed: nothing is appended any more.
    pub fn poison(&mut self) {
        self.poisoned = true;
        self.in_flight = None;
    }

    /// Its size and how the classes share it.
    pub const fn config(&self) -> &JournalConfig {
        &self.config
    }

    /// Whether a job failed.
    pub const fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// What is durable here, by stream.
    pub const fn held(&self) -> &BTreeMap<Stream, RangeSet> {
        &self.held
    }

    fn rebuild_held(&mut self) {
        let mut held: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        for kept in self.segments.values() {
            for (stream, holding) in &kept.segment.streams {
                held.entry(*stream).or_default().extend(&holding.ranges);
            }
        }
        self.held = held;
    }

    /// Durable bytes at or after `(segment, offset)`: the segment, where to start in it, and how many bytes.
    /// Segments in which `wanted` finds nothing are passed over, and of one that this life has written the parts before the first
    /// in which it does.
    pub fn next_to_read(
        &self,
        from: (SegmentId, u32),
        wanted: impl Fn(&Stream, &RangeSet) -> bool,
    ) -> Option<(SegmentId, u32, u32)> {
        let mut onwards = self.segments.range(from.0..);
        onwards.find_map(|(id, kept)| kept.to_read(*id, from, &wanted))
    }

    /// The same from the newest segment on: the last one not after `before` in which `wanted` finds something.
    pub fn last_to_read(
        &self,
        before: (SegmentId, u32),
        wanted: impl Fn(&Stream, &RangeSet) -> bool,
    ) -> Option<(SegmentId, u32, u32)> {
        let mut backwards = self.segments.range(..=before.0).rev();
        backwards.find_map(|(id, kept)| kept.to_read(*id, before, &wanted))
    }

    /// Asserts what must hold between any two inputs.
    pub fn check(&self) {
        for (id, Kept { segment, end, .. }) in &self.segments {
            assert!(segment.end <= *end, "segment {id:?} synced past its end");
            assert!(*end <= segment.file_bytes, "segment {id:?} overflows");
            assert!((*end as usize).is_multiple_of(PAGE_BYTES), "segment {id:?} ends off a page");
        }
    }
}

impl Kept {
    /// What is to be read of it, as segment `id`: behind `cursor` where that lies in it.
    fn to_read(
        &self,
        id: SegmentId,
        cursor: (SegmentId, u32),
        wanted: impl Fn(&Stream, &RangeSet) -> bool,
    ) -> Option<(SegmentId, u32, u32)> {
        let segment = &self.segment;
        let start = if id == cursor.0 { cursor.1 } else { 0 };
        let mut streams = segment.streams.iter();
        if start >= segment.end || !streams.any(|(stream, holding)| wanted(stream, &holding.ranges)) {
            return None;
        }
        let held = |stream: &Stream| segment.streams.get(stream).map(|holding| &holding.ranges);
        let start = self.places.first(start, held, wanted)?;
        Some((id, start, segment.end - start))
    }
}

/// Footers written at a start: a start finds one or two segments without, and hundreds after an update. The others get
/// theirs at later starts, or are freed before.
const FOOTED_AT_START: usize = 256;
/// Bytes that a run takes beyond its records, at most: stream, numbers, lengths.
pub const RUN_OVERHEAD: usize = 64;

/// Most bytes that a block with `payload` bytes takes.
const fn block_bytes_at_most(payload: usize) -> usize {
    padded(format::HEADER_BYTES + payload)
}

//! One log a board, for its own records and for the copies it keeps, so that one fdatasync covers all that has
//! gathered. Owns which segment is written, what each holds, and when a file is free; never touches a file itself.
//!
//! ```text
//!  prepared ──first append──▶ active ──full──▶ sealed ──all covered by the region──▶ freed ──recycled──▶ prepared
//! ```
//!
//! A stopped journal is never continued: each start writes a segment of its own, in a new epoch.

pub mod format;
pub mod recover;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::DiskJob;
use crate::config::JournalConfig;
use crate::ids::{Epoch, SegmentId, Stream, Token};
use crate::journal::format::{Place, encode, padded};
use crate::journal::recover::Recovered;
use crate::limits::PAGE_BYTES;
use crate::outbox::Outbox;
use crate::ranges::{RangeSet, SeqRange};
use crate::wire::peer::Run;

/// The state of one board's journal. See the module for the life of a segment.
#[derive(Debug)]
pub struct Journal {
    config: JournalConfig,
    epoch: Epoch,
    segments: BTreeMap<SegmentId, Segment>,
    /// Durable here, by stream: the union of what the segments hold.
    held: BTreeMap<Stream, RangeSet>,
    active: Option<SegmentId>,
    spare: Spare,
    freed: Vec<SegmentId>,
    next_segment: u64,
    in_flight: Option<InFlight>,
    next_token: u64,
    blocks: u64,
    previous: u32,
    poisoned: bool,
}

#[derive(Debug, Default)]
struct Segment {
    streams: BTreeMap<Stream, RangeSet>,
    /// Bytes given to blocks, written or being written.
    end: u32,
    /// Bytes up to the end of the last durable block.
    synced: u32,
}

/// The segment that follows the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    Missing,
    Preparing(SegmentId),
    Ready(SegmentId),
}

#[derive(Debug)]
struct InFlight {
    token: Token,
    segment: SegmentId,
    end: u32,
    ranges: Vec<(Stream, SeqRange)>,
}

impl Journal {
    /// The journal of a new life, `epoch`, over what an earlier one left.
    pub fn new(config: JournalConfig, epoch: Epoch, recovered: Recovered) -> Self {
        let mut held: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        let mut segments = BTreeMap::new();
        let mut freed = Vec::new();
        let next_segment = recovered.segments.keys().next_back().map_or(1, |last| last.0 + 1);
        for (id, found) in recovered.segments {
            // A life that wrote nothing leaves its segment empty. Many short lives must not use the space up.
            if found.end == 0 && !found.is_broken {
                freed.push(id);
                continue;
            }
            for (stream, ranges) in &found.streams {
                held.entry(*stream).or_default().extend(ranges);
            }
            let segment = Segment { streams: found.streams, end: found.end, synced: found.end };
            segments.insert(id, segment);
        }
        Self {
            config,
            epoch,
            segments,
            held,
            active: None,
            spare: Spare::Missing,
            freed,
            next_segment,
            in_flight: None,
            next_token: 1,
            blocks: 0,
            previous: 0,
            poisoned: false,
        }
    }

    /// Asks for the segment that comes next, where there is none and the limit allows one.
    pub fn prepare(&mut self, out: &mut Outbox<DiskJob>) {
        if self.spare != Spare::Missing || self.poisoned || self.at_limit() {
            return;
        }
        let segment = SegmentId(self.next_segment);
        self.next_segment += 1;
        self.spare = Spare::Preparing(segment);
        let from = self.freed.pop();
        out.push(DiskJob::Prepare { segment, from, bytes: self.config.segment_bytes });
    }

    fn at_limit(&self) -> bool {
        self.freed.is_empty() && self.segments.len() >= self.config.segments_max as usize
    }

    /// The segment is there.
    pub fn handle_prepared(&mut self, segment: SegmentId) {
        if self.spare == Spare::Preparing(segment) {
            self.spare = Spare::Ready(segment);
        }
    }

    /// Whether no more segment can be had: what is appended now fills the last of the space.
    pub fn is_full(&self) -> bool {
        self.poisoned || (self.spare == Spare::Missing && self.at_limit())
    }

    /// Whether a block with `payload` bytes can be appended now.
    pub fn can_append(&self, payload: usize) -> bool {
        if self.poisoned || self.in_flight.is_some() {
            return false;
        }
        self.fits_active(payload) || matches!(self.spare, Spare::Ready(_))
    }

    fn fits_active(&self, payload: usize) -> bool {
        self.active.is_some_and(|id| {
            let end = self.segments.get(&id).map_or(0, |segment| segment.end as usize);
            end + block_bytes_at_most(payload) <= self.config.segment_bytes as usize
        })
    }

    /// Appends `runs` as one block. Call only where [`Journal::can_append`] said yes to their bytes.
    pub fn append(&mut self, runs: &[Run], out: &mut Outbox<DiskJob>) {
        let payload = runs.iter().map(|run| run.bytes.len() + RUN_OVERHEAD).sum();
        if !self.fits_active(payload) {
            let Spare::Ready(next) = self.spare else {
                unreachable!("can_append was asked first");
            };
            self.segments.insert(next, Segment::default());
            self.active = Some(next);
            self.spare = Spare::Missing;
        }
        let id = self.active.expect("an active segment was chosen above");
        let segment = self.segments.get_mut(&id).expect("the active segment is indexed");
        let place = Place {
            segment: id,
            offset: segment.end,
            epoch: self.epoch,
            number: self.blocks,
            previous: self.previous,
        };
        let (bytes, checksum) = encode(&place, runs);
        segment.end += u32::try_from(bytes.len()).expect("a block is shorter than a segment");
        self.blocks += 1;
        self.previous = checksum;
        let token = Token(self.next_token);
        self.next_token += 1;
        let ranges = runs
            .iter()
            .map(|run| (run.stream, run.range().expect("runs have a range")))
            .collect();
        self.in_flight = Some(InFlight { token, segment: id, end: segment.end, ranges });
        out.push(DiskJob::Append { token, segment: id, offset: place.offset, bytes: Bytes::from(bytes) });
        self.prepare(out);
    }

    /// The block is durable: returns what it holds. Anything but the block in flight changes nothing.
    pub fn handle_appended(&mut self, token: Token) -> Vec<(Stream, SeqRange)> {
        let Some(done) = self.in_flight.take_if(|block| block.token == token) else {
            return Vec::new();
        };
        let segment = self.segments.get_mut(&done.segment).expect("a segment in flight stays");
        segment.synced = done.end;
        for (stream, range) in &done.ranges {
            segment.streams.entry(*stream).or_default().insert(*range);
            self.held.entry(*stream).or_default().insert(*range);
        }
        done.ranges
    }

    /// A job failed: nothing is appended any more.
    pub fn poison(&mut self) {
        self.poisoned = true;
        self.in_flight = None;
    }

    /// Whether a job failed.
    pub const fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// What is durable here, by stream.
    pub const fn held(&self) -> &BTreeMap<Stream, RangeSet> {
        &self.held
    }

    /// Frees every sealed segment whose records are all in `covered`; returns them. Their files are recycled; those
    /// beyond what is soon needed are deleted.
    pub fn free(&mut self, covered: &BTreeMap<Stream, RangeSet>, out: &mut Outbox<DiskJob>) -> Vec<SegmentId> {
        let freed: Vec<SegmentId> = self
            .segments
            .iter()
            .filter(|(id, _)| Some(**id) != self.active)
            .filter(|(_, segment)| segment.is_covered(covered))
            .map(|(id, _)| *id)
            .collect();
        for id in &freed {
            self.segments.remove(id);
            if self.freed.len() < FREED_KEPT {
                self.freed.push(*id);
            } else {
                out.push(DiskJob::Delete { segment: *id });
            }
        }
        if !freed.is_empty() {
            self.rebuild_held();
            self.prepare(out);
        }
        freed
    }

    fn rebuild_held(&mut self) {
        let mut held: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        for segment in self.segments.values() {
            for (stream, ranges) in &segment.streams {
                held.entry(*stream).or_default().extend(ranges);
            }
        }
        self.held = held;
    }

    /// Durable bytes at or after `(segment, offset)`: the segment, where to start in it, and how many bytes.
    /// Segments in which `wanted` finds nothing are passed over.
    pub fn next_to_read(
        &self,
        from: (SegmentId, u32),
        wanted: impl Fn(&Stream, &RangeSet) -> bool,
    ) -> Option<(SegmentId, u32, u32)> {
        self.segments.range(from.0..).find_map(|(id, segment)| {
            let start = if *id == from.0 { from.1 } else { 0 };
            let any = segment.streams.iter().any(|(stream, ranges)| wanted(stream, ranges));
            (any && start < segment.synced).then(|| (*id, start, segment.synced - start))
        })
    }

    /// Segment files in use, out of how many there may be.
    pub fn fill(&self) -> (usize, usize) {
        (self.segments.len(), self.config.segments_max as usize)
    }

    /// Asserts what must hold between any two inputs.
    pub fn check(&self) {
        for (id, segment) in &self.segments {
            assert!(segment.synced <= segment.end, "segment {id:?} synced past its end");
            assert!(segment.end <= self.config.segment_bytes, "segment {id:?} overflows");
            assert!((segment.end as usize).is_multiple_of(PAGE_BYTES), "segment {id:?} ends off a page");
        }
    }
}

impl Segment {
    fn is_covered(&self, covered: &BTreeMap<Stream, RangeSet>) -> bool {
        self.streams
            .iter()
            .all(|(stream, ranges)| covered.get(stream).is_some_and(|have| have.contains_all(ranges)))
    }
}

/// Freed files kept for the next segments: writing into old blocks changes no size and no extent (notes: 85 to 20
/// device bytes per payload byte at one record a commit).
const FREED_KEPT: usize = 4;
/// Bytes that a run takes beyond its records, at most: stream, numbers, lengths.
pub const RUN_OVERHEAD: usize = 64;

/// Most bytes that a block with `payload` bytes takes.
const fn block_bytes_at_most(payload: usize) -> usize {
    padded(format::HEADER_BYTES + payload)
}

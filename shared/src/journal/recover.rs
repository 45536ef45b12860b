//! Finds what a stopped journal holds: scans segments in order, cuts a torn tail, tells corruption apart from it.
//!
//! The rule (notes: etcd and TigerBeetle's tail rules): at the first place that holds no whole block, if a whole block
//! of the same segment follows, what stood here was damaged after it was written, and its records must come from a
//! copy; if none follows, it is the torn end of a write that was never acknowledged.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::event::Event;
use crate::ids::{SegmentId, Stream};
use crate::journal::format::{Found, decode};
use crate::limits::PAGE_BYTES;
use crate::ranges::RangeSet;

/// A scan over all segments of a directory, oldest first.
#[derive(Debug, Default)]
pub struct Recovery {
    recovered: Recovered,
}

/// What a stopped journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Each segment with the streams in it and the end of its last whole block.
    pub segments: BTreeMap<SegmentId, RecoveredSegment>,
    /// What was found on the way.
    pub events: Vec<Event>,
}

/// One segment's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredSegment {
    /// The records in it.
    pub streams: BTreeMap<Stream, RangeSet>,
    /// Bytes up to the end of its last whole block.
    pub end: u32,
    /// Whether a place in it begins like a block and holds none.
    pub is_broken: bool,
}

impl Recovery {
    /// An empty scan.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next segment, whole. Call in rising order of `segment`.
    pub fn handle_segment(&mut self, segment: SegmentId, bytes: &[u8]) {
        let mut found = RecoveredSegment::default();
        let mut at = 0;
        // The first place that holds no block, while it is open whether one follows.
        let mut hole: Option<(usize, bool)> = None;
        while at + PAGE_BYTES <= bytes.len() {
            let offset = u32::try_from(at).expect("a segment is shorter than 4 GiB");
            match decode(segment, offset, &bytes[at..]) {
                Found::Block { runs, length } => {
                    if let Some((start, _)) = hole.take() {
                        let offset = u32::try_from(start).expect("a segment is shorter than 4 GiB");
                        self.recovered.events.push(Event::JournalDamaged { segment, offset });
                    }
                    for run in runs {
                        let range = run.range().expect("decode checks the range");
                        found.streams.entry(run.stream).or_default().insert(range);
                    }
                    at += length as usize;
                    found.end = u32::try_from(at).expect("a segment is shorter than 4 GiB");
                }
                Found::Broken { .. } => {
                    found.is_broken = true;
                    hole.get_or_insert((at, true));
                    at += PAGE_BYTES;
                }
                Found::Nothing => {
                    hole.get_or_insert((at, false));
                    at += PAGE_BYTES;
                }
            }
        }
        if let Some((start, true)) = hole {
            let offset = u32::try_from(start).expect("a segment is shorter than 4 GiB");
            self.recovered.events.push(Event::TornTail { segment, offset });
        }
        self.recovered.segments.insert(segment, found);
    }

    /// What was found.
    pub fn finish(self) -> Recovered {
        self.recovered
    }
}

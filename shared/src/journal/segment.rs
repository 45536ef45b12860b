//! One segment of the journal as the index knows it: which records it holds, how far it is written, and how much of it is
//! still of use. Owns no file and decides nothing.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Class, Epoch, Seq, Stream};
use crate::limits::PAGE_BYTES;
use crate::ranges::{RangeSet, SeqRange};
use crate::wire::peer::Run;

/// Pages of a block from which on zeros in a new file cost more than they spare: a sync into room that was only set aside
/// writes one to four pages of the file system's own beside the block (measured on ext4: one or two without a journal, three
/// or four with one), and takes half as long again.
const SMALL_PAGES: u64 = 3;

/// What a segment holds of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The records.
    pub ranges: RangeSet,
    /// Bytes of their runs.
    pub bytes: u64,
}

/// The blocks of a segment: all of one life of the journal, numbered without a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// The life that wrote them.
    pub epoch: Epoch,
    /// Number of the first.
    pub first: u64,
    /// Number of the block that follows the last.
    pub next: u64,
}

/// One segment's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The records in it, by stream.
    pub streams: BTreeMap<Stream, Holding>,
    /// Bytes up to the end of its last whole block.
    pub end: u32,
    /// Its blocks; `None` while it has none.
    pub blocks: Option<Blocks>,
    /// Bytes of its file.
    pub file_bytes: u32,
    /// Whether a footer stands in it.
    pub has_footer: bool,
    /// Whether the region has said that it has all of it.
    pub is_covered: bool,
    /// Whether a place in it begins like a block and holds none.
    pub is_broken: bool,
    /// Whether something in it cannot be read: it is not rewritten until that is repaired or covered.
    pub is_damaged: bool,
}

impl Segment {
    /// An empty segment whose file has `file_bytes` bytes.
    pub(super) fn empty(file_bytes: u32) -> Self {
        Self { file_bytes, ..Self::default() }
    }

    /// Notes that `run` stands in it.
    pub(super) fn note(&mut self, run: &Run, range: SeqRange) {
        self.insert(run.stream, range, run_bytes(run));
    }

    pub(super) fn insert(&mut self, stream: Stream, range: SeqRange, bytes: u64) {
        let holding = self.streams.entry(stream).or_default();
        holding.ranges.insert(range);
        holding.bytes += bytes;
    }

    /// Notes that the block numbered `number` of `epoch` stands in it.
    pub(super) fn note_block(&mut self, epoch: Epoch, number: u64) {
        let blocks = self.blocks.get_or_insert(Blocks { epoch, first: number, next: number });
        if blocks.epoch == epoch {
            blocks.next = blocks.next.max(number + 1);
        }
    }

    /// Whether its blocks take less than [`SMALL_PAGES`] each, taken together.
    pub(super) fn has_small_blocks(&self) -> bool {
        let count = self.blocks.map_or(0, |blocks| blocks.next - blocks.first);
        u64::from(self.end) < count * SMALL_PAGES * PAGE_BYTES as u64
    }

    /// Whether all its records are in `gone`.
    pub(super) fn is_within(&self, gone: &BTreeMap<Stream, RangeSet>) -> bool {
        self.streams
            .iter()
            .all(|(stream, holding)| gone.get(stream).is_some_and(|have| have.contains_all(&holding.ranges)))
    }

    /// Bytes of its runs by class that are not in `covered`: of a run in part, in proportion.
    pub(super) fn live_bytes(&self, covered: &BTreeMap<Stream, RangeSet>) -> [u64; Class::ALL.len()] {
        let mut live = [0; Class::ALL.len()];
        for (stream, holding) in &self.streams {
            live[stream.class as usize] += holding.live_bytes(covered.get(stream));
        }
        live
    }
}

impl Holding {
    fn live_bytes(&self, covered: Option<&RangeSet>) -> u64 {
        covered.map_or(self.bytes, |covered| self.bytes_of(&self.ranges.minus(covered)))
    }

    /// Bytes of its records above `after` that are not in `covered`.
    pub(super) fn live_bytes_after(&self, after: Seq, covered: Option<&RangeSet>) -> u64 {
        if after == 0 {
            return self.live_bytes(covered);
        }
        let later = SeqRange { first: after.saturating_add(1), last: Seq::MAX };
        let later: RangeSet = self.ranges.within(later).collect();
        self.bytes_of(&covered.map_or_else(|| later.clone(), |covered| later.minus(covered)))
    }

    /// Bytes of the records `part`, in proportion to their number.
    pub(super) fn bytes_of(&self, part: &RangeSet) -> u64 {
        let all = self.ranges.count().max(1);
        u64::try_from(u128::from(self.bytes) * u128::from(part.count()) / u128::from(all)).unwrap_or(u64::MAX)
    }
}

/// Bytes that `run` takes in a block, at most.
pub(super) fn run_bytes(run: &Run) -> u64 {
    (run.bytes.len() + super::RUN_OVERHEAD) as u64
}

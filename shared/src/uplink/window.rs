//! What is on its way to the region and not acknowledged: bounded in bytes and blocks, cleared when the way falls.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::ids::Stream;
use crate::limits::{BLOCK_BODY_BYTES_MAX, UPLINK_WINDOW_BLOCKS, UPLINK_WINDOW_BYTES};
use crate::ranges::{RangeSet, SeqRange};
use crate::time::Instant;
use crate::uplink::lanes::Lane;

/// While others are served, blocks wait so many times longer for their turn before they count as lost: what is sent again stands
/// in the holder's queue twice, so that is to be seldom.
const TURNS: u32 = 6;

/// Records between the journal and the region's acknowledgement.
#[derive(Debug)]
pub(super) struct Window {
    /// Gathered or sent, by stream: not to be read again.
    taken: BTreeMap<Stream, RangeSet>,
    gathered_bytes: usize,
    blocks: Vec<(Stream, SeqRange, usize)>,
    sent_bytes: usize,
    bytes_max: usize,
    progress: Instant,
    /// When the region last acknowledged a block of any board.
    others: Instant,
}

impl Window {
    /// The window of one of `boards` boards: together they fill the holder's queue with at most four windows.
    pub(super) fn new(boards: usize) -> Self {
        Self {
            taken: BTreeMap::new(),
            gathered_bytes: 0,
            blocks: Vec::new(),
            sent_bytes: 0,
            bytes_max: share(boards),
            progress: Instant::ZERO,
            others: Instant::ZERO,
        }
    }

    /// The site has another number of boards.
    pub(super) fn handle_boards(&mut self, boards: usize) {
        self.bytes_max = share(boards);
    }

    /// Whether more may be gathered. What waits for others leaves them a quarter.
    pub(super) const fn has_room(&self, lane: Lane) -> bool {
        let (bytes, blocks) = (self.bytes_max, UPLINK_WINDOW_BLOCKS);
        let (bytes, blocks) = if lane.waits() {
            (bytes - bytes / 4, blocks - blocks / 4)
        } else {
            (bytes, blocks)
        };
        self.gathered_bytes + self.sent_bytes < bytes && self.blocks.len() < blocks
    }

    /// The parts of `range` that are not on their way.
    pub(super) fn missing(&self, stream: &Stream, range: SeqRange) -> Vec<SeqRange> {
        self.taken
            .get(stream)
            .map_or_else(|| alloc::vec![range], |have| have.missing(range))
    }

    /// Records were taken from the journal.
    pub(super) fn handle_gathered(&mut self, stream: Stream, range: SeqRange, bytes: usize) {
        self.taken.entry(stream).or_default().insert(range);
        self.gathered_bytes += bytes;
    }

    /// A block of gathered records, `bytes` of them unpacked, has left.
    pub(super) fn handle_sent(&mut self, stream: Stream, range: SeqRange, bytes: usize, now: Instant) {
        if self.blocks.is_empty() {
            self.progress = now;
        }
        self.gathered_bytes = self.gathered_bytes.saturating_sub(bytes);
        self.sent_bytes += bytes;
        self.blocks.push((stream, range, bytes));
    }

    /// The region covers `covered` of `stream`: blocks that arrived leave the window.
    pub(super) fn handle_covered(&mut self, stream: &Stream, covered: &RangeSet, now: Instant) {
        let before = self.blocks.len();
        self.blocks.retain(|(of, range, bytes)| {
            let arrived = of == stream && covered.contains_range(*range);
            if arrived {
                self.sent_bytes -= bytes;
            }
            !arrived
        });
        if self.blocks.len() < before {
            self.progress = now;
        }
        if let Some(taken) = self.taken.get_mut(stream) {
            *taken = taken.minus(covered);
        }
    }

    /// The region has acknowledged a block of some board.
    pub(super) fn handle_others(&mut self, now: Instant) {
        self.others = now;
    }

    /// When the window counts as stuck, if anything was sent: while the region takes blocks of others, which may go before those
    /// sent here, that is later.
    pub(super) fn stuck_at(&self, patience: Duration) -> Option<Instant> {
        let at_most = self.progress + patience * TURNS;
        let stuck_at = (self.progress + patience).max(at_most.min(self.others + patience));
        (!self.blocks.is_empty()).then_some(stuck_at)
    }

    /// Nothing is on its way any more.
    pub(super) fn clear(&mut self, now: Instant) {
        self.taken.clear();
        self.blocks.clear();
        self.gathered_bytes = 0;
        self.sent_bytes = 0;
        self.progress = now;
    }
}

fn share(boards: usize) -> usize {
    (4 * UPLINK_WINDOW_BYTES / boards.max(1)).clamp(BLOCK_BODY_BYTES_MAX, UPLINK_WINDOW_BYTES)
}

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
const TURNS: u32 = 18;

/// Bytes of blocks that were sent: the link, and every queue on the way, holds them as they are packed; the region works on them
/// unpacked, and what waits for it there keeps others waiting.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    packed: usize,
    unpacked: usize,
}

/// Unpacked, a window holds so many times its bytes at most. With three boards that is four times what keeps a link of 20 Mbit/s and 80 ms
/// full of records that pack to a sixteenth; what waits at the region for its transaction keeps fresh events waiting, for half a
/// second where the store takes 44,000 records of 600 bytes a second (measured: `roadstead bench drain`).
const UNPACKED_TIMES: usize = 3;

/// Records between the journal and the region's acknowledgement.
#[derive(Debug)]
pub(super) struct Window {
    /// Gathered or sent, by stream: not to be read again.
    taken: BTreeMap<Stream, RangeSet>,
    /// Not packed yet.
    gathered_bytes: usize,
    blocks: Vec<(Stream, SeqRange, Weight)>,
    sent: Weight,
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
            sent: Weight::default(),
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
        let packed = self.gathered_bytes + self.sent.packed;
        let unpacked = self.gathered_bytes + self.sent.unpacked;
        packed < bytes && unpacked < UNPACKED_TIMES * bytes && self.blocks.len() < blocks
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

    /// A block of gathered records, `unpacked` bytes of them, has left as `packed` ones.
    pub(super) fn handle_sent(&mut self, of: (Stream, SeqRange), (unpacked, packed): (usize, usize), now: Instant) {
        if self.blocks.is_empty() {
            self.progress = now;
        }
        self.gathered_bytes = self.gathered_bytes.saturating_sub(unpacked);
        self.sent.unpacked += unpacked;
        self.sent.packed += packed;
        self.blocks.push((of.0, of.1, Weight { packed, unpacked }));
    }

    /// The region covers `covered` of `stream`: blocks that arrived leave the window.
    pub(super) fn handle_covered(&mut self, stream: &Stream, covered: &RangeSet, now: Instant) {
        let before = self.blocks.len();
        self.blocks.retain(|(of, range, weight)| {
            let arrived = of == stream && covered.contains_range(*range);
            if arrived {
                self.sent.packed -= weight.packed;
                self.sent.unpacked -= weight.unpacked;
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

    /// Nothing is on its way any more: what was, gathered or sent.
    pub(super) fn clear(&mut self, now: Instant) -> BTreeMap<Stream, RangeSet> {
        self.blocks.clear();
        self.gathered_bytes = 0;
        self.sent = Weight::default();
        self.progress = now;
        core::mem::take(&mut self.taken)
    }
}

fn share(boards: usize) -> usize {
    (4 * UPLINK_WINDOW_BYTES / boards.max(1)).clamp(BLOCK_BODY_BYTES_MAX, UPLINK_WINDOW_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BoardId, Class, Epoch, Origin};

    /// Records that pack to nothing fill it unpacked, those that do not by what is sent; what arrives makes room again.
    #[test]
    fn a_window_is_bounded_as_blocks_are_packed_and_as_they_are_not() {
        let most = UPLINK_WINDOW_BYTES;
        let of = Stream { origin: Origin { board: BoardId::FIRST, epoch: Epoch::default() }, class: Class::Event };
        let at = |first, last| SeqRange { first, last };
        for (unpacked, packed, until_full) in [(most / 8, most / 8, 8), (most / 8, 1, 24), (most / 8, most / 16, 16)] {
            let mut window = Window::new(1);
            let mut sent = 0;
            while window.has_room(Lane::ALL[0]) {
                sent += 1;
                window.handle_gathered(of, at(sent, sent), unpacked);
                window.handle_sent((of, at(sent, sent)), (unpacked, packed), Instant::ZERO);
            }
            assert_eq!(sent, until_full, "{unpacked} {packed}");
            window.handle_covered(&of, &RangeSet::from_iter([at(1, sent)]), Instant::ZERO);
            assert!(window.has_room(Lane::ALL[0]));
        }
    }
}

//! What the journal gives up: records that stood in a damaged place leave what is held, so that this board claims them
//! no more. A segment with a damaged place is never used again: once the region covers the rest, its file is deleted.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::DiskJob;
use crate::event::Event;
use crate::ids::{SegmentId, Stream};
use crate::journal::{Journal, Kept, footer};
use crate::limits::DAMAGED_PLACES_MAX;
use crate::outbox::Outbox;
use crate::ranges::RangeSet;

impl Journal {
    /// Bytes up to the end of the last durable block of `segment`; `None` where there is no such segment.
    pub fn durable_end(&self, segment: SegmentId) -> Option<u32> {
        self.segments.get(&segment).map(|kept| kept.segment.end)
    }

    /// The first segment from `from` on with durable bytes, and how many.
    pub fn durable_from(&self, from: SegmentId) -> Option<(SegmentId, u32)> {
        let mut durable = self.segments.range(from..).filter(|(_, kept)| kept.segment.end > 0);
        durable.next().map(|(id, kept)| (*id, kept.segment.end))
    }

    /// What `segment` is thought to hold, by stream.
    pub fn claimed(&self, segment: SegmentId) -> BTreeMap<Stream, RangeSet> {
        let streams = self.segments.get(&segment).into_iter().flat_map(|kept| &kept.segment.streams);
        streams.map(|(stream, holding)| (*stream, holding.ranges.clone())).collect()
    }

    /// A place of `segment` cannot be read: true where that is new. Its footer says so from now on, so that the next start
    /// reads the blocks, finds the place, too, and knows what stood there. Call before [`Journal::lose`].
    pub fn note_damaged_place(&mut self, segment: SegmentId, offset: u32, out: &mut Outbox<DiskJob>) -> bool {
        let Some(Kept { segment: kept, damaged, .. }) = self.segments.get_mut(&segment) else {
            return false;
        };
        kept.is_damaged = true;
        // What it said of the region stands on the disk as long as this does not.
        let synced = core::mem::take(&mut kept.is_covered);
        self.is_changed = true;
        if core::mem::take(&mut kept.has_footer)
            && let Some((offset, bytes)) = footer::encode(segment, kept)
        {
            out.push(DiskJob::Foot { segment, offset, bytes: Bytes::from(bytes), synced });
        }
        let known = damaged.contains(&offset);
        if !known && damaged.len() < DAMAGED_PLACES_MAX {
            damaged.insert(offset);
        }
        !known
    }

    /// `segment` does not hold `lost` after all. Returns what is held nowhere else.
    pub fn lose(&mut self, segment: SegmentId, lost: &BTreeMap<Stream, RangeSet>) -> Vec<(Stream, RangeSet)> {
        let Some(Kept { segment, .. }) = self.segments.get_mut(&segment) else {
            return Vec::new();
        };
        for (stream, ranges) in lost {
            if let Some(holding) = segment.streams.get_mut(stream) {
                let (left, before) = (holding.ranges.minus(ranges), holding.ranges.count().max(1));
                let bytes = u128::from(holding.bytes) * u128::from(left.count()) / u128::from(before);
                holding.bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
                holding.ranges = left;
            }
        }
        segment.streams.retain(|_, holding| !holding.ranges.is_empty());
        self.rebuild_held();
        let gone = lost.iter().map(|(stream, ranges)| {
            let left = self.held.get(stream).map_or_else(|| ranges.clone(), |held| ranges.minus(held));
            (*stream, left)
        });
        gone.filter(|(_, ranges)| !ranges.is_empty()).collect()
    }

    /// Places that cannot be read, in all segments.
    pub fn damaged_places(&self) -> usize {
        self.segments.values().map(|kept| kept.damaged.len()).sum()
    }
}

/// Where recovery found damage, by segment.
pub(super) fn damaged_places(events: &[Event]) -> BTreeMap<SegmentId, BTreeSet<u32>> {
    let mut damaged: BTreeMap<SegmentId, BTreeSet<u32>> = BTreeMap::new();
    for event in events {
        if let Event::JournalDamaged { segment, offset } = event {
            let places = damaged.entry(*segment).or_default();
            if places.len() < DAMAGED_PLACES_MAX {
                places.insert(*offset);
            }
        }
    }
    damaged
}

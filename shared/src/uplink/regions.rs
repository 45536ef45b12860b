//! Whose word a board's coverage is, where its site knows several regions: what one has said is not taken for what another has, and
//! another one is not taken for one that has lost its memory.

use alloc::collections::BTreeMap;

use crate::ids::Stream;
use crate::ranges::RangeSet;
use crate::uplink::{Route, Uplink};
use crate::wire::peer::RegionTag;

/// A stream of which the region covers less than was heard before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WentBack {
    /// Which.
    pub stream: Stream,
    /// Whether what was heard before is another region's word: then this one has lost nothing.
    pub is_another: bool,
}

impl Uplink {
    /// What is heard of coverage from now on is the word of `region`. Returns whether another one spoke before. Whose word it was
    /// that a journal remembers from an earlier life, nobody knows: it is taken for another one's.
    pub fn handle_region(&mut self, region: RegionTag) -> bool {
        let before = self.region.replace(region);
        if before != Some(region) {
            self.foreign = self.covered.keys().copied().collect();
            if self.ahead.end() {
                // What was read meanwhile was passed over.
                self.lanes.rewind();
            }
        }
        before.is_some_and(|before| before != region)
    }

    /// Whose word the coverage is, where the site knows several regions.
    pub const fn region(&self) -> Option<RegionTag> {
        self.region
    }

    /// What a region is known to have, and which one; `None` while it is still asked, where no way is open, and where the site knows
    /// one region alone.
    pub fn known(&self) -> Option<(RegionTag, &BTreeMap<Stream, RangeSet>)> {
        let is_known = self.route != Route::Closed && self.unanswered.is_empty() && self.foreign.is_empty();
        self.region.filter(|_| is_known).map(|region| (region, &self.covered))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::config::Timing;
    use crate::ids::{BoardId, Class, Epoch, Name, Origin};
    use crate::ranges::SeqRange;
    use crate::time::Instant;
    use crate::wire::peer::Coverage;

    /// A region that had less than the one before the start was told of as one that has lost its memory.
    #[test]
    fn what_a_journal_remembers_may_be_another_regions_word() {
        let origin = Origin { board: BoardId::new(1).unwrap(), epoch: Epoch { boot: 1, nonce: 1 } };
        let stream = Stream { origin, class: Class::Event };
        let to = |last| RangeSet::from_iter([SeqRange { first: 1, last }]);
        let held = BTreeMap::from([(stream, to(9))]);
        let mut uplink = Uplink::new(&Timing::default(), 2, (&held, BTreeMap::from([(stream, to(6))])), Instant::ZERO);
        let north = RegionTag::of(&Name::try_from("north").unwrap());
        assert!(!uplink.handle_region(north), "nobody spoke before in this life");
        for (last, went_back) in [(4, vec![true]), (4, vec![]), (2, vec![false])] {
            let line = Coverage { stream, ranges: to(last), whole: true };
            uplink.handle_coverage(vec![line], &held, Instant::ZERO);
            let heard: Vec<bool> = uplink.take_went_back().iter().map(|line| line.is_another).collect();
            assert_eq!(heard, went_back, "up to {last}");
            assert!(!uplink.handle_region(north));
        }
    }
}

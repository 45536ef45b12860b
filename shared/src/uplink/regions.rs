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
    /// What is heard of coverage from now on is the word of `region`. Returns whether another one spoke before.
    pub fn handle_region(&mut self, region: RegionTag) -> bool {
        let is_another = self.region.replace(region).is_some_and(|before| before != region);
        if is_another {
            self.foreign = self.covered.keys().copied().collect();
        }
        is_another
    }

    /// What a region is known to have, and which one; `None` while it is still asked, where no way is open, and where the site knows
    /// one region alone.
    pub fn known(&self) -> Option<(RegionTag, &BTreeMap<Stream, RangeSet>)> {
        let is_known = self.route != Route::Closed && self.unanswered.is_empty() && self.foreign.is_empty();
        self.region.filter(|_| is_known).map(|region| (region, &self.covered))
    }
}

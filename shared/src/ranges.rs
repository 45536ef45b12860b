//! Sets of sequences as sorted, disjoint, non-adjacent ranges: what a board holds, what the region covers.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::Seq;

/// Sequences `first..=last`, both included, never empty: one that ends before it begins is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SeqRange {
    /// Lowest sequence.
    pub first: Seq,
    /// Highest sequence, at least `first`.
    pub last: Seq,
}

impl<'de> Deserialize<'de> for SeqRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "SeqRange")]
        struct Raw {
            first: Seq,
            last: Seq,
        }
        let Raw { first, last } = Raw::deserialize(deserializer)?;
        if first > last {
            return Err(serde::de::Error::custom("a range ends before it begins"));
        }
        Ok(Self { first, last })
    }
}

impl SeqRange {
    /// `count` sequences from `first`; `None` where there are none, or they would pass the largest number.
    pub const fn from_count(first: Seq, count: u32) -> Option<Self> {
        if count == 0 {
            return None;
        }
        match first.checked_add(count as u64 - 1) {
            Some(last) => Some(Self { first, last }),
            None => None,
        }
    }

    /// How many sequences.
    pub const fn count(self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether `seq` lies within.
    pub const fn contains(self, seq: Seq) -> bool {
        self.first <= seq && seq <= self.last
    }

    /// What both have in common.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let first = self.first.max(other.first);
        let last = self.last.min(other.last);
        (first <= last).then_some(Self { first, last })
    }
}

/// A set of sequences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RangeSet {
    ranges: Vec<SeqRange>,
}

/// Bytes from outside may claim anything: what arrives is rebuilt range by range, so that the order holds. It is sorted
/// before, so that a frame full of ranges in falling order costs no more than one in rising order.
impl<'de> Deserialize<'de> for RangeSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            ranges: Vec<SeqRange>,
        }
        let mut raw = Raw::deserialize(deserializer)?;
        raw.ranges.sort_unstable();
        Ok(raw.ranges.into_iter().collect())
    }
}

impl RangeSet {
    /// The empty set.
    pub const EMPTY: Self = Self { ranges: Vec::new() };

    /// Adds `range`, joining what touches.
    pub fn insert(&mut self, range: SeqRange) {
        let start = self.ranges.partition_point(|have| have.last.saturating_add(1) < range.first);
        let end = self.ranges.partition_point(|have| have.first <= range.last.saturating_add(1));
        let mut joined = range;
        if let Some(first) = self.ranges.get(start).filter(|_| start < end) {
            joined.first = joined.first.min(first.first);
        }
        if let Some(last) = self.ranges[..end].last().filter(|_| start < end) {
            joined.last = joined.last.max(last.last);
        }
        self.ranges.splice(start..end, [joined]);
    }

    /// Adds every sequence of `other`.
    pub fn extend(&mut self, other: &Self) {
        for range in &other.ranges {
            self.insert(*range);
        }
    }

    /// Joins the ranges that stand nearest to each other until there are at most `most`: the set then holds more than before.
    pub fn coarsen(&mut self, most: usize) {
        while self.ranges.len() > most.max(1) {
            let distance = |at: &usize| self.ranges[*at].first - self.ranges[*at - 1].last;
            let Some(at) = (1..self.ranges.len()).min_by_key(distance) else { return };
            let joined = self.ranges.remove(at);
            self.ranges[at - 1].last = joined.last;
        }
    }

    /// Whether `seq` is in the set.
    pub fn contains(&self, seq: Seq) -> bool {
        self.contains_range(SeqRange { first: seq, last: seq })
    }

    /// Whether all of `range` is in the set.
    pub fn contains_range(&self, range: SeqRange) -> bool {
        let at = self.ranges.partition_point(|have| have.last < range.first);
        self.ranges
            .get(at)
            .is_some_and(|have| have.first <= range.first && range.last <= have.last)
    }

    /// Whether all of `other` is in the set.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.ranges.iter().all(|range| self.contains_range(*range))
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn missing(&self, range: SeqRange) -> Vec<SeqRange> {
        let mut gaps = Vec::new();
        let mut next = range.first;
        let start = self.ranges.partition_point(|have| have.last < range.first);
        for have in &self.ranges[start..] {
            if have.first > range.last {
                break;
            }
            if have.first > next {
                gaps.push(SeqRange { first: next, last: have.first - 1 });
            }
            match have.last.checked_add(1) {
                Some(after) => next = after,
                None => return gaps,
            }
        }
        if next <= range.last {
            gaps.push(SeqRange { first: next, last: range.last });
        }
        gaps
    }

    /// The parts of this set that are not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self { ranges: self.ranges.iter().flat_map(|range| other.missing(*range)).collect() }
    }

    /// The parts of `range` that are in the set, in order.
    pub fn within(&self, range: SeqRange) -> impl Iterator<Item = SeqRange> + '_ {
        let start = self.ranges.partition_point(|have| have.last < range.first);
        self.ranges[start..].iter().map_while(move |have| have.intersection(range))
    }

    /// What this set and `other` have in common.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self { ranges: self.ranges.iter().flat_map(|range| other.within(*range)).collect() }
    }

    /// The highest sequence, if any.
    pub fn last(&self) -> Option<Seq> {
        self.ranges.last().map(|range| range.last)
    }

    /// The highest `n` such that all of 1..=n is in the set; 0 where 1 is missing.
    pub fn watermark(&self) -> Seq {
        self.ranges
            .first()
            .filter(|range| range.first <= 1)
            .map_or(0, |range| range.last)
    }

    /// How many sequences.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|range| range.count()).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[SeqRange] {
        &self.ranges
    }

    /// Forgets the highest ranges beyond `max`. True where something was forgotten.
    pub fn truncate(&mut self, max: usize) -> bool {
        let cut = self.ranges.len() > max;
        self.ranges.truncate(max);
        cut
    }
}

impl FromIterator<SeqRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = SeqRange>>(ranges: I) -> Self {
        let mut set = Self::EMPTY;
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec;

    fn range(first: Seq, last: Seq) -> SeqRange {
        SeqRange { first, last }
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_not_read() {
        for (first, last) in [(4, 5), (5, 5), (5, 4)] {
            let bytes = postcard::to_allocvec(&range(first, last)).unwrap();
            assert_eq!(postcard::from_bytes::<SeqRange>(&bytes).ok(), (first <= last).then(|| range(first, last)));
        }
    }

    #[test]
    fn what_stands_nearest_is_joined_first() {
        let mut set: RangeSet = [range(1, 2), range(5, 6), range(8, 9), range(20, 20)].into_iter().collect();
        set.coarsen(4);
        assert_eq!(set.ranges().len(), 4);
        set.coarsen(2);
        assert_eq!(set.ranges(), [range(1, 9), range(20, 20)]);
        set.coarsen(0);
        assert_eq!(set.ranges(), [range(1, 20)]);
    }

    #[test]
    fn joins_what_touches_and_keeps_what_does_not() {
        let mut set = RangeSet::EMPTY;
        set.insert(range(5, 6));
        set.insert(range(1, 2));
        assert_eq!(set.ranges(), [range(1, 2), range(5, 6)]);
        set.insert(range(3, 3));
        assert_eq!(set.ranges(), [range(1, 3), range(5, 6)]);
        set.insert(range(4, 4));
        assert_eq!(set.ranges(), [range(1, 6)]);
        assert_eq!(set.watermark(), 6);
    }

    #[test]
    fn agrees_with_a_plain_set_of_numbers() {
        let mut state = 7_u64;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let (mut set, mut plain) = (RangeSet::EMPTY, BTreeSet::new());
            for _ in 0..12 {
                let first = 1 + next(40);
                let last = first + next(6);
                set.insert(range(first, last));
                plain.extend(first..=last);
            }
            let asked = range(1 + next(40), 44);
            let missing: BTreeSet<Seq> = set.missing(asked).into_iter().flat_map(|r| r.first..=r.last).collect();
            let within: BTreeSet<Seq> = set.within(asked).flat_map(|r| r.first..=r.last).collect();
            let all: BTreeSet<Seq> = (asked.first..=asked.last).collect();
            assert_eq!(missing, &all - &plain);
            assert_eq!(within, &all & &plain);
            assert_eq!(set.count(), plain.len() as u64);
            assert!(set.ranges().windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
        }
    }

    #[test]
    fn ends_of_the_number_line_do_not_overflow() {
        let mut set = RangeSet::EMPTY;
        set.insert(range(u64::MAX - 1, u64::MAX));
        set.insert(range(1, 1));
        assert_eq!(set.missing(range(1, u64::MAX)), vec![range(2, u64::MAX - 2)]);
        assert_eq!(SeqRange::from_count(u64::MAX, 2), None);
    }
}

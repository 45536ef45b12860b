//! The numbers that a publisher gave its readings itself, of those that are rows, as ranges: a publisher counts, so a range says in two
//! numbers what a row each would say in an index. Owns which number is new; a store keeps the ranges and locks them.
//!
//! ```text
//! store: ranges around the numbers that come ──load──▶ Numbers ──add each──▶ new, or a row already
//!        ranges that changed ◀──────────────────────── changes
//! ```
//!
//! A number here is a [filing key](FilingKey) of a sequence: epoch and sequence, most significant byte first. What stands behind the last
//! number of one epoch is the first of the next.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::region::filing::{FilingKey, Verdict};

/// Numbers `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumberRange {
    /// The lowest.
    pub first: u128,
    /// The highest, at least `first`.
    pub last: u128,
}

/// Numbers of one publisher: all that it has, or those around some ([`Numbers::load`]).
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    ranges: BTreeMap<u128, Range>,
    /// Where ranges began that begin there no more.
    gone: Vec<u128>,
}

/// The rest of a range, which its first number leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    last: u128,
    has_changed: bool,
}

/// What a store has to write, in this order, so that it has what [`Numbers`] has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// First numbers of ranges to remove; some may not be there.
    pub gone: Vec<u128>,
    /// Ranges to write, over what begins with the same number.
    pub written: Vec<NumberRange>,
}

/// The number that the bytes of a filing key are.
pub const fn number(key: [u8; 16]) -> u128 {
    u128::from_be_bytes(key)
}

impl NumberRange {
    /// The range from one key to another, as a store has them.
    pub const fn of_keys(first: [u8; 16], last: [u8; 16]) -> Self {
        Self { first: number(first), last: number(last) }
    }
}

/// Judges a reading by its key, a sequence: as [`filing::file`](crate::region::filing::file) does where rows are looked up.
pub fn file(numbers: &mut Numbers, key: FilingKey) -> Verdict {
    if numbers.add(number(key.bytes)) {
        Verdict::Insert { key, awaits_original: false }
    } else {
        Verdict::Duplicate { meets: false }
    }
}

impl Numbers {
    /// Takes in what is stored. To judge a number with [`add`](Self::add), or to take it away, those stored ranges are needed that hold
    /// it or stand next to it. What was taken in before stays as it has become, until numbers are taken away.
    pub fn load(&mut self, stored: NumberRange) {
        let before = self.ranges.range(..=stored.first).next_back();
        if before.is_none_or(|(_, range)| range.last < stored.first) {
            self.ranges
                .insert(stored.first, Range { last: stored.last, has_changed: false });
        }
    }

    /// Adds a number; whether it is new.
    pub fn add(&mut self, number: u128) -> bool {
        let joins = match self.ranges.range_mut(..=number).next_back() {
            Some((_, before)) if number <= before.last => return false,
            // It lies behind the end, so one more than that is no overflow.
            Some((_, before)) if number == before.last + 1 => {
                *before = Range { last: number, has_changed: true };
                true
            }
            Some(_) | None => false,
        };
        let after = number.checked_add(1).and_then(|next| self.ranges.remove(&next));
        if after.is_some() {
            self.gone.push(number + 1);
        }
        let last = after.map_or(number, |after| after.last);
        if !joins {
            self.ranges.insert(number, Range { last, has_changed: true });
        } else if let (Some(_), Some((_, before))) = (after, self.ranges.range_mut(..=number).next_back()) {
            before.last = last;
        }
        true
    }

    /// Takes numbers away, as far as they are there.
    pub fn remove(&mut self, away: NumberRange) {
        let before = self.ranges.range(..=away.first).next_back();
        let from = before.map_or(away.first, |(first, _)| *first);
        let met: Vec<NumberRange> = self
            .ranges
            .range(from..=away.last)
            .map(|(first, range)| NumberRange { first: *first, last: range.last })
            .filter(|range| away.first <= range.last)
            .collect();
        for range in met {
            self.ranges.remove(&range.first);
            self.gone.push(range.first);
            if range.first < away.first {
                self.ranges
                    .insert(range.first, Range { last: away.first - 1, has_changed: true });
            }
            if away.last < range.last {
                self.ranges.insert(away.last + 1, Range { last: range.last, has_changed: true });
            }
        }
    }

    /// The ranges, in order; two may touch where they were stored so.
    pub fn ranges(&self) -> impl Iterator<Item = NumberRange> {
        self.ranges
            .iter()
            .map(|(first, range)| NumberRange { first: *first, last: range.last })
    }

    /// How many ranges.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// What has changed since ranges were loaded, or since this was asked before.
    pub fn changes(&mut self) -> Changes {
        let mut written = Vec::new();
        for (first, range) in &mut self.ranges {
            if core::mem::take(&mut range.has_changed) {
                written.push(NumberRange { first: *first, last: range.last });
            }
        }
        // One that begins there again is written.
        let mut gone = core::mem::take(&mut self.gone);
        gone.retain(|first| !self.ranges.contains_key(first));
        Changes { gone, written }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::record::Key;

    /// A store's table, as [`Changes`] leave it.
    #[derive(Default)]
    struct Table(BTreeMap<u128, u128>);

    impl Table {
        fn load(&self, around: impl Iterator<Item = u128>) -> Numbers {
            let mut numbers = Numbers::default();
            self.load_more(&mut numbers, around);
            numbers
        }

        fn load_more(&self, numbers: &mut Numbers, around: impl Iterator<Item = u128>) {
            for number in around {
                let (low, high) = (number.saturating_sub(1), number.saturating_add(1));
                let touching = self.0.iter().filter(|(first, last)| **first <= high && low <= **last);
                for (first, last) in touching {
                    numbers.load(NumberRange { first: *first, last: *last });
                }
            }
        }

        fn write(&mut self, changes: &Changes) {
            for first in &changes.gone {
                self.0.remove(first);
            }
            for range in &changes.written {
                self.0.insert(range.first, range.last);
            }
        }

        fn numbers(&self) -> BTreeSet<u128> {
            self.0.iter().flat_map(|(first, last)| *first..=*last).collect()
        }
    }

    /// Against a plain set, where only what stands around the numbers of a round is at hand, as in a store. Both ends of what can be are met. Seen to fail where what
    /// follows is not joined, where its place is not given up, and where a range that was cut is not written.
    #[test]
    fn agrees_with_a_plain_set_whatever_is_added_and_taken_away() {
        let mut state = 5_u64;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for round in 0..60_u64 {
            let (mut table, mut plain) = (Table::default(), BTreeSet::new());
            let base = [0, u128::from(u64::MAX) - 30, u128::MAX - 60][(round % 3) as usize];
            for _ in 0..40 {
                let count = 1 + next(12);
                let some: Vec<u128> = (0..count).map(|_| base + u128::from(next(61))).collect();
                let mut numbers = table.load(some.iter().copied());
                let mut away = Numbers::default();
                for number in &some {
                    away.add(*number);
                }
                if next(3) == 0 {
                    for range in away.ranges() {
                        numbers.remove(range);
                    }
                    plain.retain(|number| !some.contains(number));
                } else {
                    for number in &some {
                        // A store may come by the same ranges again.
                        table.load_more(&mut numbers, some.iter().copied());
                        assert_eq!(numbers.add(*number), plain.insert(*number), "{number}");
                    }
                }
                table.write(&numbers.changes());
                assert_eq!(numbers.changes(), Changes::default());
                assert_eq!(table.numbers(), plain);
            }
            let firsts = plain.iter().filter(|number| **number == 0 || !plain.contains(&(**number - 1)));
            assert_eq!(table.0.len(), firsts.count(), "what touches is one range");
        }
    }

    #[test]
    fn keys_of_sequences_are_judged_as_by_their_rows() {
        let key = |epoch, seq| {
            let key = Key::Sequence { epoch, seq };
            FilingKey { kind: key.kind(), bytes: key.bytes() }
        };
        let mut numbers = Numbers::default();
        for key in [key(0, u64::MAX), key(1, 0), key(1, 2), key(0, 0), key(u64::MAX, u64::MAX)] {
            assert_eq!(file(&mut numbers, key), Verdict::Insert { key, awaits_original: false });
            assert_eq!(file(&mut numbers, key), Verdict::Duplicate { meets: false });
        }
        assert_eq!(numbers.len(), 4, "one epoch's last stands beside the next one's first");
    }

    #[test]
    fn what_is_counted_on_is_one_range_that_is_written_once() {
        let mut numbers = Numbers::default();
        numbers.load(NumberRange { first: 1, last: 9 });
        assert!((10..=99).all(|number| numbers.add(number)) && !numbers.add(50) && !numbers.add(3));
        let written = alloc::vec![NumberRange { first: 1, last: 99 }];
        assert_eq!(numbers.changes(), Changes { gone: Vec::new(), written });
        assert_eq!((numbers.len(), numbers.changes()), (1, Changes::default()));
    }
}

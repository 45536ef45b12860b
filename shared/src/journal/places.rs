//! Where in a segment what stands, roughly: of each part of it the lowest and highest number of every stream. Whoever looks for
//! little, as for the alarms of a backlog, need not read all of it. Known only of what this life has written; a segment of an earlier
//! one is read from its begin.

use alloc::vec::Vec;

use crate::ids::Stream;
use crate::ranges::{RangeSet, SeqRange};

/// A part is at least so long, and ends with a block: with one more block, one read takes it in. A segment has eight, each with some
/// 50 bytes a stream: 3 MiB of memory for 10 GiB of three boards' records.
const PART_BYTES: u32 = 1024 * 1024;
/// Streams that are told apart in a part; one with more may hold anything. Bounds the memory to five times that where a site has many
/// boards.
const STREAMS_TOLD_MAX: usize = 32;

/// The parts of a segment, in order, without a gap.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<Part>);

#[derive(Debug)]
struct Part {
    start: u32,
    end: u32,
    /// `None`: more than can be told.
    holds: Option<Vec<(Stream, SeqRange)>>,
}

impl Places {
    /// The block from `start` to `end` is durable, and holds `runs`.
    pub(super) fn note(&mut self, (start, end): (u32, u32), runs: impl Iterator<Item = (Stream, SeqRange)>) {
        if self.0.last().is_none_or(|part| part.end - part.start >= PART_BYTES) {
            if let Some(holds) = self.0.last_mut().and_then(|full| full.holds.as_mut()) {
                holds.shrink_to_fit();
            }
            self.0.push(Part { start, end, holds: Some(Vec::new()) });
        }
        let Some(part) = self.0.last_mut() else { return };
        part.end = end;
        for (stream, range) in runs {
            let Some(holds) = &mut part.holds else { return };
            let is_full = holds.len() >= STREAMS_TOLD_MAX;
            match holds.iter_mut().find(|(of, _)| *of == stream) {
                Some((_, hull)) => {
                    (hull.first, hull.last) = (hull.first.min(range.first), hull.last.max(range.last));
                }
                None if is_full => part.holds = None,
                None => holds.push((stream, range)),
            }
        }
    }

    /// From where on to read, at or behind `from`, to meet all that is `wanted` of what the segment holds; `None` where nothing is.
    /// `held` is what it holds of a stream.
    pub(super) fn first<'a>(
        &self,
        from: u32,
        held: impl Fn(&Stream) -> Option<&'a RangeSet>,
        wanted: impl Fn(&Stream, &RangeSet) -> bool,
    ) -> Option<u32> {
        if self.0.is_empty() {
            return Some(from);
        }
        let has = |(stream, hull): &(Stream, SeqRange)| {
            held(stream).is_some_and(|ranges| wanted(stream, &ranges.within(*hull).collect()))
        };
        let may_have = |part: &&Part| part.holds.as_ref().is_none_or(|holds| holds.iter().any(has));
        let part = self.0.iter().filter(|part| part.end > from).find(may_have)?;
        Some(part.start.max(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BoardId, Class, Epoch, Origin};

    fn stream(class: Class) -> Stream {
        Stream { origin: Origin { board: BoardId::FIRST, epoch: Epoch::default() }, class }
    }

    /// Seen to fail where the end of a part is not moved on, and where its hull is that of its first run alone.
    #[test]
    fn what_is_wanted_is_never_behind_the_place_that_is_named() {
        const BLOCK: u32 = 192 * 1024;
        let mut places = Places::default();
        let (mut held, alarms) = (RangeSet::EMPTY, RangeSet::from_iter([SeqRange { first: 1, last: 1 }]));
        let at = |number: u32| (number * BLOCK, (number + 1) * BLOCK);
        // Copies come out of order: the numbers of a part lie apart.
        let range = |number: u32| {
            let first = u64::from(number ^ 1) * 10 + 1;
            SeqRange { first, last: first + 9 }
        };
        for number in 0..40 {
            let alarm = (number == 29).then_some((stream(Class::Alarm), SeqRange { first: 1, last: 1 }));
            places.note(at(number), core::iter::once((stream(Class::Event), range(number))).chain(alarm));
            held.insert(range(number));
        }
        let of = |stream: &Stream| Some(if stream.class == Class::Alarm { &alarms } else { &held });
        let alarm = |stream: &Stream, _: &RangeSet| stream.class == Class::Alarm;
        let found = places.first(0, of, alarm).unwrap();
        assert!(found <= at(29).0 && found + PART_BYTES + BLOCK >= at(29).1, "{found}");
        assert_eq!(places.first(found + 4096, of, alarm), Some(found + 4096), "within its part");
        assert_eq!(places.first(36 * BLOCK, of, alarm), None, "it lies before");
        for number in 0..40 {
            let one = range(number);
            let wanted = |_: &Stream, ranges: &RangeSet| ranges.within(one).next().is_some();
            let found = places.first(0, of, wanted).unwrap();
            assert!(found <= at(number).0, "{number}: {found}");
            let again = places.first(at(number).0, of, wanted).unwrap();
            assert_eq!(again, at(number).0, "{number}: what comes before it is not gone back to");
        }
        assert_eq!(places.first(0, of, |_, _| false), None);
        assert_eq!(Places::default().first(7, of, alarm), Some(7), "nothing is known");

        let mut crowd = Places::default();
        let of_boards = (1..=40).map(|number| Origin { board: BoardId::new(number).unwrap(), epoch: Epoch::default() });
        crowd.note(at(0), of_boards.map(|origin| (Stream { origin, class: Class::Bulk }, range(0))));
        assert_eq!(crowd.first(0, of, alarm), Some(0), "it may be among those that are not told");
    }
}

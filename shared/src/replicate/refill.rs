//! Brings records that were committed on fewer than k boards up to k again, once enough boards live: reads them from
//! the journal and sends copies in the background, one window at a time, so that commits are not slowed.
//!
//! ```text
//!  owed ──k-1 peers usable──▶ read ─▶ sent to each of them ─▶ confirmed by all ─▶ settled
//!    ▲                                   └── no progress ──┐
//!    └────────────── a target went, or lost it ◀───────────┘
//! ```

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::ids::{BoardId, BoardSet, SegmentId, Stream};
use crate::ranges::{RangeSet, SeqRange};
use crate::time::{Deadline, Instant};
use crate::wire::peer::Run;

/// Bytes of copies on their way at once: an eighth of what commits may have waiting.
const WINDOW_BYTES: usize = crate::limits::UNCOMMITTED_BYTES_MAX / 8;
/// No confirmation for so long: send again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Records of this board that lack copies.
#[derive(Debug, Default)]
pub struct Refill {
    owed: BTreeMap<Stream, RangeSet>,
    targets: BoardSet,
    confirmed: BTreeMap<(BoardId, Stream), RangeSet>,
    sent: BTreeMap<Stream, RangeSet>,
    sent_bytes: usize,
    cursor: (SegmentId, u32),
    lap: u64,
    progress: Instant,
}

/// A piece of the journal to read for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    lap: u64,
    /// In which segment.
    pub segment: SegmentId,
    /// From which byte.
    pub offset: u32,
    /// Durable bytes from there.
    pub length: u32,
}

impl Refill {
    /// Records were committed on fewer than k boards.
    pub fn handle_degraded(&mut self, stream: Stream, range: SeqRange) {
        self.owed.entry(stream).or_default().insert(range);
    }

    /// These are all the records that lack copies, as far as anybody has said what it holds.
    pub fn handle_lacking(&mut self, lacking: BTreeMap<Stream, RangeSet>) {
        let is_known = |(stream, ranges): (&Stream, &RangeSet)| {
            self.owed.get(stream).is_some_and(|owed| owed.contains_all(ranges))
        };
        if !lacking.iter().all(is_known) {
            // What is new may stand before the place where reading is now.
            self.cursor = (SegmentId(0), 0);
            self.lap += 1;
        }
        self.sent.retain(|stream, sent| {
            *sent = lacking
                .get(stream)
                .map_or(RangeSet::EMPTY, |lacking| sent.intersection(lacking));
            !sent.is_empty()
        });
        if self.sent.is_empty() {
            self.sent_bytes = 0;
        }
        self.owed = lacking;
    }

    /// The boards to which copies are owed now: k-1 usable ones, or none while there are fewer.
    pub fn handle_targets(&mut self, targets: BoardSet, now: Instant) {
        if targets != self.targets {
            self.targets = targets;
            self.start_over(now);
        }
    }

    fn start_over(&mut self, now: Instant) {
        self.sent.clear();
        self.sent_bytes = 0;
        self.confirmed.clear();
        self.cursor = (SegmentId(0), 0);
        self.lap += 1;
        self.progress = now;
    }

    /// `from` holds these records durably.
    pub fn handle_durable(&mut self, from: BoardId, stream: &Stream, range: SeqRange, now: Instant) {
        if !self.targets.contains(from) || !self.owed.contains_key(stream) {
            return;
        }
        self.confirmed.entry((from, *stream)).or_default().insert(range);
        let mut settled = RangeSet::from_iter([range]);
        for target in self.targets.iter() {
            let Some(have) = self.confirmed.get(&(target, *stream)) else { return };
            settled = settled.ranges().iter().flat_map(|part| have.within(*part)).collect();
        }
        self.settle(stream, &settled, now);
    }

    /// The region has stored these records of `stream`: copies are owed no more.
    pub fn handle_covered(&mut self, stream: &Stream, covered: &RangeSet, now: Instant) {
        self.settle(stream, covered, now);
    }

    fn settle(&mut self, stream: &Stream, settled: &RangeSet, now: Instant) {
        let Some(owed) = self.owed.get_mut(stream) else { return };
        *owed = owed.minus(settled);
        self.progress = now;
        if owed.is_empty() {
            self.owed.remove(stream);
        }
        if let Some(sent) = self.sent.get_mut(stream) {
            *sent = sent.minus(settled);
            if sent.is_empty() {
                self.sent.remove(stream);
            }
        }
        if self.sent.is_empty() {
            self.sent_bytes = 0;
        }
    }

    /// Where to read next. `next` finds the first place from a cursor on whose segment holds something wanted.
    pub fn wants_read(
        &self,
        next: impl FnOnce((SegmentId, u32), &dyn Fn(&Stream, &RangeSet) -> bool) -> Option<(SegmentId, u32, u32)>,
    ) -> Option<Read> {
        if self.owed.is_empty() || self.targets.is_empty() || self.sent_bytes >= WINDOW_BYTES {
            return None;
        }
        let wanted =
            |stream: &Stream, ranges: &RangeSet| ranges.ranges().iter().any(|range| self.is_wanted(stream, *range));
        let (segment, offset, length) = next(self.cursor, &wanted)?;
        Some(Read { lap: self.lap, segment, offset, length })
    }

    fn is_wanted(&self, stream: &Stream, range: SeqRange) -> bool {
        let Some(owed) = self.owed.get(stream) else { return false };
        let sent = self.sent.get(stream);
        owed.within(range)
            .any(|part| sent.is_none_or(|sent| !sent.contains_range(part)))
    }

    /// Runs that `read` found, and where reading goes on: returns those to send to every target.
    pub fn handle_read(&mut self, read: &Read, runs: Vec<Run>, cursor: (SegmentId, u32)) -> (BoardSet, Vec<Run>) {
        if read.lap != self.lap {
            return (BoardSet::EMPTY, Vec::new());
        }
        self.cursor = cursor;
        let mut wanted = Vec::new();
        for run in runs {
            let Some(range) = run.range() else { continue };
            if self.is_wanted(&run.stream, range) {
                self.sent.entry(run.stream).or_default().insert(range);
                self.sent_bytes += run.bytes.len();
                wanted.push(run);
            }
        }
        (self.targets, wanted)
    }

    /// Sends again what was not confirmed for long.
    pub fn handle_deadline(&mut self, now: Instant) {
        if now >= self.next_deadline().at {
            self.start_over(now);
        }
    }

    /// When what was sent counts as lost.
    pub fn next_deadline(&self) -> Deadline {
        if self.sent.is_empty() {
            return Deadline::NONE;
        }
        Deadline { at: self.progress + PATIENCE, why: "owed copies to be confirmed" }
    }

    /// Records that lack copies.
    pub fn owed(&self) -> u64 {
        self.owed.values().map(RangeSet::count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Class, Epoch, Origin};
    use bytes::Bytes;

    fn board(number: u8) -> BoardId {
        BoardId::new(number).unwrap()
    }

    fn stream() -> Stream {
        Stream { origin: Origin { board: board(1), epoch: Epoch::default() }, class: Class::Event }
    }

    fn range(first: u64, last: u64) -> SeqRange {
        SeqRange { first, last }
    }

    #[test]
    fn owed_until_every_target_confirmed() {
        let mut refill = Refill::default();
        refill.handle_degraded(stream(), range(1, 4));
        let place = (SegmentId(1), 0, 4096);
        assert!(refill.wants_read(|_, _| Some(place)).is_none(), "nobody to send to");
        refill.handle_targets([board(2), board(3)].into_iter().collect(), Instant::ZERO);
        let held = RangeSet::from_iter([range(1, 9)]);
        let read = refill
            .wants_read(|_, wanted| wanted(&stream(), &held).then_some(place))
            .unwrap();
        let runs = alloc::vec![
            Run::new(stream(), 1, 4, Bytes::from_static(b"abcd")),
            Run::new(stream(), 5, 4, Bytes::from_static(b"efgh")),
        ];
        let (targets, sent) = refill.handle_read(&read, runs.clone(), (SegmentId(1), 4096));
        assert_eq!((targets.len(), sent), (2, alloc::vec![runs[0].clone()]));
        refill.handle_durable(board(2), &stream(), range(1, 4), Instant::ZERO);
        assert_eq!(refill.owed(), 4, "one of two confirmed");
        refill.handle_durable(board(3), &stream(), range(1, 3), Instant::ZERO);
        assert_eq!(refill.owed(), 1);
        refill.handle_durable(board(3), &stream(), range(4, 4), Instant::ZERO);
        assert_eq!(refill.owed(), 0);
        assert_eq!(refill.next_deadline(), Deadline::NONE);
    }

    #[test]
    fn what_is_found_to_lack_copies_is_read_from_the_beginning() {
        let mut refill = Refill::default();
        refill.handle_degraded(stream(), range(5, 9));
        refill.handle_targets([board(2)].into_iter().collect(), Instant::ZERO);
        let held = RangeSet::from_iter([range(1, 9)]);
        let next = |refill: &Refill| {
            let place = |from, wanted: &dyn Fn(&Stream, &RangeSet) -> bool| {
                wanted(&stream(), &held).then_some((core::cmp::max(from, (SegmentId(1), 0)).0, 0, 4096))
            };
            refill.wants_read(place)
        };
        let read = next(&refill).unwrap();
        refill.handle_read(&read, Vec::new(), (SegmentId(3), 4096));
        assert_eq!(next(&refill).unwrap().segment, SegmentId(3));
        refill.handle_lacking(BTreeMap::from([(stream(), RangeSet::from_iter([range(6, 9)]))]));
        assert_eq!((refill.owed(), next(&refill).unwrap().segment), (4, SegmentId(3)), "nothing is new");
        refill.handle_lacking(BTreeMap::from([(stream(), RangeSet::from_iter([range(2, 9)]))]));
        assert_eq!((refill.owed(), next(&refill).unwrap().segment), (8, SegmentId(1)));
        let run = Run::new(stream(), 2, 8, Bytes::from_static(b"a"));
        let read = next(&refill).unwrap();
        refill.handle_read(&read, alloc::vec![run], (SegmentId(1), 4096));
        assert!(refill.next_deadline().at < Instant::NEVER);
        refill.handle_lacking(BTreeMap::new());
        assert_eq!((refill.owed(), refill.next_deadline()), (0, Deadline::NONE), "it is waited for no more");
    }

    #[test]
    fn what_is_not_confirmed_is_sent_again_after_patience_not_before() {
        let mut refill = Refill::default();
        refill.handle_degraded(stream(), range(1, 1));
        refill.handle_targets([board(2)].into_iter().collect(), Instant::ZERO);
        let held = RangeSet::from_iter([range(1, 1)]);
        let place = (SegmentId(1), 0, 4096);
        let read = refill
            .wants_read(|_, wanted| wanted(&stream(), &held).then_some(place))
            .unwrap();
        let run = Run::new(stream(), 1, 1, Bytes::from_static(b"a"));
        refill.handle_read(&read, alloc::vec![run], (SegmentId(1), 4096));
        let late = Instant::ZERO + PATIENCE;
        refill.handle_deadline(Instant::from_micros(late.micros() - 1));
        assert!(
            refill
                .wants_read(|_, wanted| wanted(&stream(), &held).then_some(place))
                .is_none()
        );
        refill.handle_deadline(late);
        assert!(
            refill
                .wants_read(|_, wanted| wanted(&stream(), &held).then_some(place))
                .is_some()
        );
    }
}

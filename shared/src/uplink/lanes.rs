//! In which order a board's records go up: what is fresh first, then the alarms that have waited, the newest first, then what was
//! fresh when the way was open and has become late, and then all else that has waited, each the oldest first; while alarms are still
//! searched for, the rest takes turns with the search. What has been durable for some seconds has waited, whether the way was
//! closed meanwhile or is too slow, so that a line which is slower than its site keeps the newest fresh.
//!
//! ```text
//!  numbers of a stream   1 ............... opened ......... waited .........
//!                          backlog                  late           fresh
//! ```
//!
//! A region that stands still for a moment makes late what it was about to get; that is not to wait until a backlog of hours is home.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::ids::{Class, SegmentId, Seq, Stream};
use crate::limits::RANGES_MAX;
use crate::ranges::{RangeSet, SeqRange};
use crate::time::Instant;
use crate::uplink::{Cursor, Direction};
use crate::wire::peer::Run;

/// What the region lacks after so long is not fresh any more: the figure that a live event must meet while a backlog drains.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// Fresh records gather for so long before they are read: of many small reads each would cost as much as a large one.
const GATHERS_FOR: Duration = Duration::from_millis(10);

/// What goes before what, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// What is fresh.
    Fresh,
    /// Alarms that have waited.
    Alarms,
    /// What became late since the way is open.
    Late,
    /// All else that has waited.
    Backlog,
}

impl Lane {
    pub(super) const ALL: [Self; 4] = [Self::Fresh, Self::Alarms, Self::Late, Self::Backlog];

    /// Whether the others go before it, also on the wire.
    pub(super) const fn waits(self) -> bool {
        matches!(self, Self::Late | Self::Backlog)
    }
}

/// Where each lane stands.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Of each stream the last record that had waited when the way opened after an outage. Never more than `waited`.
    opened: BTreeMap<Stream, Seq>,
    /// Of each stream the last record that has waited. All of another stream is fresh.
    waited: BTreeMap<Stream, Seq>,
    /// Whether there is anything between the two.
    is_late: bool,
    /// What was durable when last marked, of each stream, and when marked before that.
    mark: BTreeMap<Stream, Seq>,
    before: BTreeMap<Stream, Seq>,
    marked: Instant,
    /// Counts rewinds, so that a read from before one is told.
    lap: u64,
    stands: [Stand; Lane::ALL.len()],
    /// Fresh records gather until then.
    rests_until: Instant,
    /// Whether the last read of what has waited was one for alarms: then the rest has its turn.
    rest_is_next: bool,
}

#[derive(Debug)]
struct Stand {
    /// Where reading goes on.
    cursor: Cursor,
    /// Read but not gathered yet, because the window was full.
    pending: VecDeque<Run>,
}

/// Nothing is read yet.
const fn start(lane: Lane) -> Stand {
    let cursor = match direction(lane) {
        Direction::Onwards => (SegmentId(0), 0),
        Direction::Backwards => (SegmentId(u64::MAX), 0),
    };
    Stand { cursor, pending: VecDeque::new() }
}

const fn direction(lane: Lane) -> Direction {
    match lane {
        Lane::Fresh | Lane::Late | Lane::Backlog => Direction::Onwards,
        Lane::Alarms => Direction::Backwards,
    }
}

impl Lanes {
    /// All that is `held` has waited.
    pub(super) fn new(held: &BTreeMap<Stream, RangeSet>, now: Instant) -> Self {
        Self {
            opened: last(held),
            waited: last(held),
            is_late: false,
            mark: last(held),
            before: last(held),
            marked: now,
            lap: 0,
            stands: Lane::ALL.map(start),
            rests_until: Instant::ZERO,
            rest_is_next: false,
        }
    }

    /// Notes what is durable now, where that is due: when the way opens, it is known by that what has waited.
    pub(super) fn note(&mut self, held: &BTreeMap<Stream, RangeSet>, now: Instant) {
        if now >= self.marked + FRESH_FOR {
            self.before = core::mem::replace(&mut self.mark, last(held));
            self.marked = now;
        }
    }

    /// The way opens, after it was closed for so long, if it was: everything is read from its begin, and what is no longer fresh has
    /// waited. A moment is no outage: what was late before it still is.
    pub(super) fn split(&mut self, closed_for: Option<Duration>) {
        self.waited.clone_from(&self.before);
        if closed_for.is_some_and(|closed_for| closed_for >= FRESH_FOR) {
            self.opened.clone_from(&self.waited);
        }
        self.is_late = self.waited != self.opened;
        self.rewind();
    }

    /// Every lane is read from its begin; a read under way is out of date.
    pub(super) fn rewind(&mut self) {
        self.stands = Lane::ALL.map(start);
        self.rests_until = Instant::ZERO;
        self.rest_is_next = false;
        self.lap += 1;
    }

    /// Looks whether what is fresh of the streams `mine` has become something that waits. Each time it has, a hole stays behind in
    /// what the region covers: where there are many, everything goes up in order until they are filled.
    pub(super) fn refresh(
        &mut self,
        mine: &BTreeSet<Stream>,
        held: &BTreeMap<Stream, RangeSet>,
        covered: &BTreeMap<Stream, RangeSet>,
        now: Instant,
    ) {
        if now < self.marked + FRESH_FOR {
            return;
        }
        let lags = |(stream, mark): (&Stream, &Seq)| {
            let first = self.waited.get(stream).map_or(Some(0), |last| last.checked_add(1));
            let first = first.filter(|first| first <= mark && mine.contains(stream));
            let Some((first, held)) = first.zip(held.get(stream)) else {
                return false;
            };
            let fresh = RangeSet::from_iter([SeqRange { first, last: *mark }]).intersection(held);
            !covered
                .get(stream)
                .map_or_else(|| fresh.clone(), |covered| fresh.minus(covered))
                .is_empty()
        };
        let is_scattered =
            |stream: &Stream| covered.get(stream).is_some_and(|have| have.ranges().len() > RANGES_MAX / 2);
        if self.mark.iter().any(lags) && !mine.iter().any(is_scattered) {
            self.waited.clone_from(&self.mark);
            self.is_late = true;
            self.rewind();
        }
        self.note(held, now);
    }

    /// How often reading began anew.
    pub(super) const fn lap(&self) -> u64 {
        self.lap
    }

    /// The part of `range` that goes up in `lane`.
    pub(super) fn part(&self, lane: Lane, stream: &Stream, range: SeqRange) -> Option<SeqRange> {
        let is_alarm = stream.class == Class::Alarm;
        let waited = self.waited.get(stream).copied();
        let opened = self.opened.get(stream).copied();
        let behind = |last: Option<Seq>| match last {
            None => Some(range.first),
            Some(last) => Some(range.first.max(last.checked_add(1)?)),
        };
        let part = match (lane, waited) {
            (Lane::Fresh, waited) => SeqRange { first: behind(waited)?, ..range },
            (Lane::Alarms, Some(waited)) if is_alarm => SeqRange { last: range.last.min(waited), ..range },
            // Alarms, too: one that is written again, or comes as a copy, while they are read backwards is met by nobody else.
            (Lane::Late, Some(waited)) => SeqRange { first: behind(opened)?, last: range.last.min(waited) },
            (Lane::Backlog, Some(waited)) => SeqRange { last: range.last.min(waited).min(opened?), ..range },
            (Lane::Alarms | Lane::Late | Lane::Backlog, _) => return None,
        };
        (part.first <= part.last).then_some(part)
    }

    /// Whether anything may be in the lane at all: else no segment is looked at for it.
    pub(super) const fn is_in_use(&self, lane: Lane) -> bool {
        !matches!(lane, Lane::Late) || self.is_late
    }

    /// Where the lane is read on, and which way.
    pub(super) const fn place(&self, lane: Lane) -> (Direction, Cursor) {
        (direction(lane), self.stands[lane as usize].cursor)
    }

    /// When the lane is read on at the earliest.
    pub(super) const fn rests_until(&self, lane: Lane) -> Instant {
        match lane {
            Lane::Fresh => self.rests_until,
            Lane::Alarms | Lane::Late | Lane::Backlog => Instant::ZERO,
        }
    }

    /// In which order lanes are read. The search for alarms goes through whole segments for a few of them: meanwhile every other
    /// read is one for the rest, so that the way is not idle, unless alarms that were found wait for room.
    pub(super) fn order(&self) -> [Lane; Lane::ALL.len()] {
        if self.rest_is_next && !self.has_pending(Lane::Alarms) {
            [Lane::Fresh, Lane::Late, Lane::Backlog, Lane::Alarms]
        } else {
            Lane::ALL
        }
    }

    /// A read for `lane` has begun; where it is a short one it brings all that the lane has.
    pub(super) fn handle_reading(&mut self, lane: Lane, is_short: bool, now: Instant) {
        match lane {
            Lane::Fresh if is_short => self.rests_until = now + GATHERS_FOR,
            Lane::Fresh => {}
            Lane::Alarms | Lane::Late | Lane::Backlog => self.rest_is_next = lane == Lane::Alarms,
        }
    }

    /// Runs that were read for the lane, and where its reading goes on.
    pub(super) fn handle_read(&mut self, lane: Lane, runs: Vec<Run>, cursor: Cursor) {
        let stand = &mut self.stands[lane as usize];
        stand.cursor = cursor;
        stand.pending.extend(runs);
    }

    /// Whether something that was read waits for room.
    pub(super) fn has_pending(&self, lane: Lane) -> bool {
        !self.stands[lane as usize].pending.is_empty()
    }

    /// The next run that was read.
    pub(super) fn pop(&mut self, lane: Lane) -> Option<Run> {
        self.stands[lane as usize].pending.pop_front()
    }

    /// There is more to be had of this run.
    pub(super) fn put_back(&mut self, lane: Lane, run: Run) {
        self.stands[lane as usize].pending.push_front(run);
    }
}

fn last(held: &BTreeMap<Stream, RangeSet>) -> BTreeMap<Stream, Seq> {
    held.iter()
        .filter_map(|(stream, ranges)| Some((*stream, ranges.last()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::peer::Run;

    /// Seen to fail where alarms always go first, and where what was found of them is passed over.
    #[test]
    fn while_alarms_are_searched_for_every_other_read_is_for_the_rest() {
        let mut lanes = Lanes::new(&BTreeMap::new(), Instant::ZERO);
        let read = |lanes: &mut Lanes| {
            let lane = lanes.order()[1];
            lanes.handle_reading(lane, false, Instant::ZERO);
            lane
        };
        let turns: Vec<Lane> = (0..4).map(|_| read(&mut lanes)).collect();
        assert_eq!(turns, [Lane::Alarms, Lane::Late, Lane::Alarms, Lane::Late]);
        assert_eq!(read(&mut lanes), Lane::Alarms);
        let origin = crate::ids::Origin { board: crate::ids::BoardId::FIRST, epoch: crate::ids::Epoch::default() };
        let found = Run::new(Stream { origin, class: Class::Alarm }, 1, 1, bytes::Bytes::new());
        lanes.handle_read(Lane::Alarms, alloc::vec![found], (SegmentId(1), 0));
        assert_eq!(lanes.order(), Lane::ALL, "what was found waits for room");
        lanes.rewind();
        assert_eq!(lanes.order(), Lane::ALL);
    }
}

//! In which order a board's records go up: alarms that are fresh, all else that is, then the alarms that have waited, the newest first,
//! then what was fresh when the way was open and has become late, and then all else that has waited, each the oldest first. While
//! alarms are still searched for, what comes behind them takes turns with the search. What has been durable for some seconds has
//! waited, whether the way was closed meanwhile or is too slow, so that a line which is slower than its site keeps the newest fresh.
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
/// Where an outage ends, so many records of a stream are fresh at most: some hundredths of a second of the line. Of a site that takes in
/// more within [`FRESH_FOR`] than the line carries, what is published from now on would come behind all of that.
const FRESH_MAX: u64 = 4096;
/// Fresh records gather for so long before they are read: of many small reads each would cost as much as a large one.
const GATHERS_FOR: Duration = Duration::from_millis(10);

/// What goes before what, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Alarms that are fresh: where a line is slower than its site, much is.
    FreshAlarms,
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
    pub(super) const ALL: [Self; 5] = [Self::FreshAlarms, Self::Fresh, Self::Alarms, Self::Late, Self::Backlog];

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
    /// Whether anything may be in a lane that the region lacks.
    is_in_use: [bool; Lane::ALL.len()],
    /// What was durable when last marked, of each stream, and when marked before that.
    mark: BTreeMap<Stream, Seq>,
    before: BTreeMap<Stream, Seq>,
    marked: Instant,
    /// Counts rewinds, so that a read from before one is told.
    lap: u64,
    stands: [Stand; Lane::ALL.len()],
    /// Fresh alarms, and fresh records, gather until then.
    rest_until: [Instant; 2],
    /// Whether the last read of what is fresh was one for alarms, and brought a whole helping: then the others have their turn.
    fresh_is_next: bool,
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
        Lane::FreshAlarms | Lane::Fresh | Lane::Late | Lane::Backlog => Direction::Onwards,
        Lane::Alarms => Direction::Backwards,
    }
}

impl Lanes {
    /// All that is `held` has waited.
    pub(super) fn new(held: &BTreeMap<Stream, RangeSet>, now: Instant) -> Self {
        Self {
            opened: last(held),
            waited: last(held),
            is_in_use: [true; Lane::ALL.len()],
            mark: last(held),
            before: last(held),
            marked: now,
            lap: 0,
            stands: Lane::ALL.map(start),
            rest_until: [Instant::ZERO; 2],
            fresh_is_next: false,
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

    /// The way opens, after nothing could go up for so long, or closes: everything is read from its begin, and what is no longer fresh
    /// has waited. A moment is no outage: what was late before it still is.
    pub(super) fn split(&mut self, held: &BTreeMap<Stream, RangeSet>, stopped_for: Option<Duration>) {
        self.waited.clone_from(&self.before);
        self.keep_opened();
        if stopped_for.is_some_and(|stopped_for| stopped_for >= FRESH_FOR) {
            for (stream, last) in last(held) {
                if let Some(waited) = last.checked_sub(FRESH_MAX).filter(|waited| *waited > 0) {
                    let before = self.waited.entry(stream).or_insert(waited);
                    *before = waited.max(*before);
                }
            }
            self.opened.clone_from(&self.waited);
        }
        self.rewind();
    }

    /// What had waited when the way opened has waited, whatever was durable at the last mark.
    fn keep_opened(&mut self) {
        for (stream, opened) in &self.opened {
            let waited = self.waited.entry(*stream).or_insert(*opened);
            *waited = (*waited).max(*opened);
        }
    }

    /// The region has lost what it had, or it is another one: what it lacks is a backlog.
    pub(super) fn handle_went_back(&mut self) {
        self.opened.clone_from(&self.waited);
        self.rewind();
    }

    /// Every lane is read from its begin; a read under way is out of date.
    pub(super) fn rewind(&mut self) {
        self.stands = Lane::ALL.map(start);
        self.rest_until = [Instant::ZERO; 2];
        (self.fresh_is_next, self.rest_is_next) = (false, false);
        self.lap += 1;
    }

    /// Looks in which lanes there may be something of the streams `mine`, and whether what is fresh of them has become something that
    /// waits. Call where any of these has changed.
    pub(super) fn refresh(
        &mut self,
        mine: &BTreeSet<Stream>,
        held: &BTreeMap<Stream, RangeSet>,
        covered: &BTreeMap<Stream, RangeSet>,
        now: Instant,
    ) {
        self.refresh_marks(mine, held, covered, now);
        self.is_in_use = [false; Lane::ALL.len()];
        for (stream, have) in held.iter().filter(|(stream, _)| mine.contains(stream)) {
            let lacks = covered.get(stream).map_or_else(|| have.clone(), |covered| have.minus(covered));
            let (Some(first), Some(last)) = (lacks.ranges().first().map(|range| range.first), lacks.last()) else {
                continue;
            };
            let all = SeqRange { first, last };
            for lane in Lane::ALL {
                self.is_in_use[lane as usize] |= self.part(lane, stream, all).is_some();
            }
        }
    }

    /// Looks whether what is fresh of the streams `mine` has become something that waits. Each time it has, a hole stays behind in
    /// what the region covers: where there are many, everything goes up in order until they are filled.
    fn refresh_marks(
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
            self.keep_opened();
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
        let behind = |last: Option<Seq>| match last {
            None => Some(range.first),
            Some(last) => Some(range.first.max(last.checked_add(1)?)),
        };
        let part = match (lane, waited) {
            (Lane::FreshAlarms, waited) if is_alarm => SeqRange { first: behind(waited)?, ..range },
            (Lane::Fresh, waited) => SeqRange { first: behind(waited)?, ..range },
            (Lane::Alarms, Some(waited)) if is_alarm => SeqRange { last: range.last.min(waited), ..range },
            // Alarms, too: one that is written again, or comes as a copy, while they are read backwards is met by nobody else.
            (Lane::Late, Some(waited)) => {
                let opened = self.opened.get(stream).copied();
                SeqRange { first: behind(opened)?, last: range.last.min(waited) }
            }
            (Lane::Backlog, Some(waited)) => {
                let opened = self.opened.get(stream)?;
                SeqRange { last: range.last.min(waited).min(*opened), ..range }
            }
            (Lane::FreshAlarms | Lane::Alarms | Lane::Late | Lane::Backlog, _) => return None,
        };
        (part.first <= part.last).then_some(part)
    }

    /// Whether there may be something in the lane, and nothing that was read for it, or for one that goes before it, waits for room.
    pub(super) fn may_be_read(&self, lane: Lane) -> bool {
        let is_held = Lane::ALL[..=lane as usize].iter().any(|before| self.has_pending(*before));
        self.is_in_use[lane as usize] && !is_held
    }

    /// Where the lane is read on, and which way.
    pub(super) const fn place(&self, lane: Lane) -> (Direction, Cursor) {
        (direction(lane), self.stands[lane as usize].cursor)
    }

    /// When the lane is read on at the earliest.
    pub(super) const fn rests_until(&self, lane: Lane) -> Instant {
        match lane {
            Lane::FreshAlarms => self.rest_until[0],
            Lane::Fresh => self.rest_until[1],
            Lane::Alarms | Lane::Late | Lane::Backlog => Instant::ZERO,
        }
    }

    /// In which order lanes are read. The search for alarms goes through whole segments for a few of them: meanwhile every other
    /// read is one for what comes behind them, so that the way is not idle, unless alarms that were found wait for room.
    pub(super) fn order(&self) -> [Lane; Lane::ALL.len()] {
        let mut order = Lane::ALL;
        if self.fresh_is_next && !self.has_pending(Lane::FreshAlarms) {
            order[..2].reverse();
        }
        if self.rest_is_next && !self.has_pending(Lane::Alarms) {
            order[2..].rotate_left(1);
        }
        order
    }

    /// A read for `lane` has begun; where it is a short one it brings all that the lane has.
    pub(super) fn handle_reading(&mut self, lane: Lane, is_short: bool, now: Instant) {
        match lane {
            Lane::FreshAlarms | Lane::Fresh => {
                let is_alarms = matches!(lane, Lane::FreshAlarms);
                self.fresh_is_next = is_alarms && !is_short;
                if is_short {
                    self.rest_until[usize::from(!is_alarms)] = now + GATHERS_FOR;
                }
            }
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

    /// What a site took in at full speed until the way opened does not come before all that it takes in from then on. Seen to fail where
    /// all of the last two seconds is fresh.
    #[test]
    fn of_a_flood_before_the_way_opens_little_is_fresh() {
        let origin = crate::ids::Origin { board: crate::ids::BoardId::FIRST, epoch: crate::ids::Epoch::default() };
        let [old, new] = [Class::Event, Class::Bulk].map(|class| Stream { origin, class });
        let all = |last| RangeSet::from_iter([SeqRange { first: 1, last }]);
        let before = BTreeMap::from([(old, all(1_000))]);
        for (flood, outage, old_from, new_from) in
            [(1_100, 60, 1_001, 1), (90_000, 60, 85_905, 85_905), (90_000, 1, 1_001, 1)]
        {
            let mut lanes = Lanes::new(&before, Instant::ZERO);
            let held = BTreeMap::from([(old, all(flood)), (new, all(flood))]);
            lanes.split(&held, Some(Duration::from_secs(outage)));
            let fresh = |stream: &Stream| lanes.part(Lane::Fresh, stream, SeqRange { first: 1, last: flood });
            for (stream, from) in [(old, old_from), (new, new_from)] {
                assert_eq!(fresh(&stream), Some(SeqRange { first: from, last: flood }), "{flood} {outage}");
            }
            // A moment later the session falls and stands again.
            lanes.split(&held, None);
            lanes.split(&held, Some(Duration::ZERO));
            let fresh = |stream: &Stream| lanes.part(Lane::Fresh, stream, SeqRange { first: 1, last: flood });
            for (stream, from) in [(old, old_from), (new, new_from)] {
                assert_eq!(fresh(&stream), Some(SeqRange { first: from, last: flood }), "{flood} {outage}, again");
            }
        }
    }

    /// Seen to fail where alarms always go first, and where what was found of them is passed over.
    #[test]
    fn while_alarms_are_searched_for_every_other_read_is_for_the_rest() {
        let mut lanes = Lanes::new(&BTreeMap::new(), Instant::ZERO);
        let read = |lanes: &mut Lanes| {
            let lane = lanes.order()[2];
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
        lanes.handle_reading(Lane::FreshAlarms, false, Instant::ZERO);
        assert_eq!(lanes.order()[..2], [Lane::Fresh, Lane::FreshAlarms]);
        lanes.handle_reading(Lane::FreshAlarms, true, Instant::ZERO);
        assert_eq!(lanes.order(), Lane::ALL, "there are no more");
    }
}

//! Holes: records that stood here and cannot be read any more. Owns which there are, asks one board after the other for
//! them, and knows when nobody has them. Reads and writes nothing itself.
//!
//! ```text
//!  open ──lap: each board is asked once──▶ sent by one of them, written, held ─▶ closed
//!   ▲ │                                 └▶ covered by the region ─────────────▶ closed
//!   └─┴── a board is away, or cannot say   every board has answered twice that it is not there, and then
//!         │                                the region that it does not cover it ──▶ gone: named, closed
//!         └── the journal has no room left to remember by ──▶ named, and sought while this life lasts
//! ```

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::ids::{BoardId, BoardSet, Stream};
use crate::limits::{FETCH_RANGES_MAX, RANGES_MAX, STREAMS_MAX};
use crate::outbox::Outbox;
use crate::ranges::{RangeSet, SeqRange};
use crate::time::{Deadline, Instant};
use crate::wire::peer::Fetched;

/// A board that has not answered for so long is passed over: it reads at most a few segments for its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two laps, where something came of the last one or may come of the next.
const SOON: Duration = Duration::from_secs(1);
/// Between two laps of which nothing came.
const LATER: Duration = Duration::from_secs(10);

/// Records of one or several streams.
pub type Records = BTreeMap<Stream, RangeSet>;

/// The holes of one board.
#[derive(Debug)]
pub struct Repair {
    own: BoardId,
    holes: Records,
    /// Missing, but perhaps because the region has it: not asked for until the region has said what it covers.
    doubtful: Records,
    /// No board has these, and the region is asked: what a board brought up it no longer has. With each whether it is this
    /// board's business to name it.
    asked: BTreeMap<Stream, Vec<(SeqRange, bool)>>,
    /// What to say of those of which the region has said that it lacks them.
    gone: Vec<Output>,
    lap: Option<Lap>,
    /// What nobody had in the last lap.
    gone_before: Records,
    laps: u64,
    /// Nothing came of the last lap, and nothing is missing since.
    is_fruitless: bool,
    /// What was asked for since all of it was, or since a board came: the next lap asks for the others first.
    searched: Records,
    /// Holes that a gap record says, for want of room to remember them by.
    named: Records,
    next_at: Instant,
    counts: RepairCounts,
}

/// What became of holes since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairCounts {
    /// Records that were lost here.
    pub opened: u64,
    /// Of these, records that are held again.
    pub filled: u64,
    /// Of these, records that no board has.
    pub gone: u64,
}

/// What the stage asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask this board.
    Fetch {
        /// Whom.
        to: BoardId,
        /// Comes back with the answer.
        number: u64,
        /// What.
        wanted: Vec<(Stream, SeqRange)>,
    },
    /// Ask the region what it covers of this stream.
    Ask(Stream),
    /// No board has these records, nor has the region.
    Gone {
        /// Of which stream.
        stream: Stream,
        /// Which.
        range: SeqRange,
        /// Whether it is this board's business to say so to the region.
        declare: bool,
    },
}

/// The boards as the control path sees them.
#[derive(Clone, Copy, Debug)]
pub struct Members {
    /// The other boards of the site.
    pub peers: BoardSet,
    /// Those whose connection stands.
    pub linked: BoardSet,
    /// Those that have said that they hold some of what is missing: asked first.
    pub holders: BoardSet,
    /// Whether there is a region: nothing is gone before it has said what it covers.
    pub has_region: bool,
}

/// Each board is asked once.
#[derive(Debug)]
struct Lap {
    asked: Records,
    left: VecDeque<BoardId>,
    pending: Option<(BoardId, Instant)>,
    number: u64,
    /// Of what was asked, what every board so far has answered not to have.
    gone: Records,
    /// Boards that have the same hole.
    sharers: BTreeMap<BoardId, Records>,
    filled_before: u64,
}

impl Repair {
    /// No hole is known on `own`.
    pub fn new(own: BoardId) -> Self {
        Self {
            own,
            holes: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            asked: BTreeMap::new(),
            gone: Vec::new(),
            lap: None,
            gone_before: BTreeMap::new(),
            laps: 0,
            is_fruitless: false,
            searched: BTreeMap::new(),
            named: BTreeMap::new(),
            next_at: Instant::ZERO,
            counts: RepairCounts::default(),
        }
    }

    /// These records stood here and are lost.
    pub fn open(&mut self, stream: Stream, ranges: &RangeSet, now: Instant) {
        if ranges.is_empty() || (self.holes.len() >= STREAMS_MAX && !self.holes.contains_key(&stream)) {
            return;
        }
        let holes = self.holes.entry(stream).or_default();
        self.counts.opened += ranges.minus(holes).count();
        holes.extend(ranges);
        holes.truncate(RANGES_MAX);
        self.is_fruitless = false;
        self.next_at = self.next_at.min(now);
    }

    /// These records are not here, and may never have been lost: the region may cover them.
    pub fn doubt(&mut self, stream: Stream, ranges: &RangeSet) {
        if !ranges.is_empty() && (self.doubtful.len() < STREAMS_MAX || self.doubtful.contains_key(&stream)) {
            let doubtful = self.doubtful.entry(stream).or_default();
            doubtful.extend(ranges);
            doubtful.truncate(RANGES_MAX);
        }
    }

    /// Streams of which the region should say what it covers.
    pub fn streams(&self) -> BTreeSet<Stream> {
        self.holes.keys().chain(self.doubtful.keys()).copied().collect()
    }

    /// What the region has said counts no more: it is asked anew.
    pub fn handle_route(&mut self) {
        self.asked.clear();
    }

    /// The region covers `ranges` of `stream`; `whole`: and nothing else.
    pub fn handle_covered(&mut self, stream: Stream, ranges: &RangeSet, whole: bool, now: Instant) {
        if whole {
            if let Some(doubtful) = self.doubtful.remove(&stream) {
                self.open(stream, &doubtful.minus(ranges), now);
            }
        } else if let Some(doubtful) = self.doubtful.get_mut(&stream) {
            *doubtful = doubtful.minus(ranges);
        }
        self.close(&stream, ranges);
        if whole {
            self.judge(stream);
        }
    }

    /// What is still missing of what no board had is gone.
    fn judge(&mut self, stream: Stream) {
        for (range, declare) in self.asked.remove(&stream).into_iter().flatten() {
            let left: Vec<SeqRange> = self
                .holes
                .get(&stream)
                .into_iter()
                .flat_map(|holes| holes.within(range).collect::<Vec<_>>())
                .collect();
            for range in left {
                self.counts.gone += self.close(&stream, &RangeSet::from_iter([range]));
                self.gone.push(Output::Gone { stream, range, declare });
            }
        }
    }

    /// These records are durable here (again): how many of them were holes.
    pub fn handle_held(&mut self, stream: &Stream, range: SeqRange) -> u64 {
        if let Some(doubtful) = self.doubtful.get_mut(stream) {
            *doubtful = doubtful.minus(&RangeSet::from_iter([range]));
        }
        let filled = self.close(stream, &RangeSet::from_iter([range]));
        self.counts.filled += filled;
        filled
    }

    /// There is no room to remember by. What no board that is here has is named to the region as lost here, once; it is sought
    /// all the same, and where a board that is away brings it, there is no gap.
    pub fn name(&mut self) -> Vec<(Stream, SeqRange)> {
        if self.lap.is_some() || !core::mem::take(&mut self.is_fruitless) {
            return Vec::new();
        }
        let known = both(&self.named, &self.holes);
        let mut fresh = both(&self.searched, &self.holes);
        fresh.iter_mut().for_each(|(stream, ranges)| {
            if let Some(known) = known.get(stream) {
                *ranges = ranges.minus(known);
            }
        });
        self.named = known;
        for (stream, ranges) in &fresh {
            self.named.entry(*stream).or_default().extend(ranges);
        }
        lines(&fresh).collect()
    }

    /// Whether the next start would know of some hole from a damaged segment alone.
    pub fn has_unnamed(&self) -> bool {
        let is_named = |(stream, holes): (&Stream, &RangeSet)| {
            self.named.get(stream).is_some_and(|named| named.contains_all(holes))
        };
        let doubts = || self.doubtful.values().any(|ranges| !ranges.is_empty());
        self.is_judging() || !self.holes.iter().all(is_named) || (!self.holes.is_empty() && doubts())
    }

    /// A gap record that named some may be lost: they are to be named again.
    pub fn forget_named(&mut self) {
        self.named.clear();
    }

    fn close(&mut self, stream: &Stream, ranges: &RangeSet) -> u64 {
        let Some(holes) = self.holes.get_mut(stream) else { return 0 };
        let before = holes.count();
        *holes = holes.minus(ranges);
        let closed = before - holes.count();
        if holes.is_empty() {
            self.holes.remove(stream);
        }
        closed
    }

    /// Whether all of `range` is missing or `held`: what a run of this life may bring back.
    pub fn may_take(&self, stream: &Stream, range: SeqRange, held: Option<&RangeSet>) -> bool {
        let Some(holes) = self.holes.get(stream) else { return false };
        holes
            .missing(range)
            .iter()
            .all(|part| held.is_some_and(|held| held.contains_range(*part)))
    }

    /// The next board is asked, where it is time.
    pub fn pump(&mut self, members: Members, now: Instant, out: &mut Outbox<Output>) {
        self.gone.drain(..).for_each(|gone| out.push(gone));
        if self.lap.is_none() && !self.begin(members, now) {
            return;
        }
        while let Some(lap) = &mut self.lap {
            if let Some((_, until)) = lap.pending {
                if now < until {
                    return;
                }
                lap.gives_no_answer();
            }
            let Some(board) = lap.left.pop_front() else {
                self.end(members, now, out);
                return;
            };
            let wanted = lap.wanted(&self.holes);
            if wanted.is_empty() {
                continue;
            }
            if !members.linked.contains(board) {
                // It may have them: nothing is gone.
                lap.gone.clear();
                continue;
            }
            self.laps += 1;
            lap.number = self.laps;
            lap.pending = Some((board, now + PATIENCE));
            out.push(Output::Fetch { to: board, number: lap.number, wanted });
        }
    }

    fn begin(&mut self, members: Members, now: Instant) -> bool {
        if self.holes.is_empty() || now < self.next_at {
            return false;
        }
        self.searched = both(&self.searched, &self.holes);
        if !self.has_unsearched() {
            self.searched.clear();
        }
        let is_in = |records: &Records, (stream, range): &(Stream, SeqRange)| {
            records.get(stream).is_some_and(|ranges| ranges.contains_range(*range))
        };
        // Those that were asked for stand behind the others, and so do those that nobody had: many of them hide nothing.
        let mut all: Vec<_> = lines(&self.holes).collect();
        all.sort_by_key(|line| (is_in(&self.searched, line), is_in(&self.gone_before, line)));
        let asked: Records = gather(all.into_iter().take(FETCH_RANGES_MAX));
        let others = members.peers.difference(members.holders);
        let left = members
            .holders
            .intersection(members.peers)
            .iter()
            .chain(others.iter())
            .collect();
        self.lap = Some(Lap {
            gone: asked.clone(),
            asked,
            left,
            pending: None,
            number: 0,
            sharers: BTreeMap::new(),
            filled_before: self.counts.filled,
        });
        true
    }

    /// `from` has answered. Anything but the answer that is waited for changes nothing.
    pub fn handle_fetched(&mut self, from: BoardId, answer: &Fetched) {
        let Some(lap) = &mut self.lap else { return };
        if lap.number != answer.number || lap.pending.take_if(|(board, _)| *board == from).is_none() {
            return;
        }
        let bounded = |lines: &[(Stream, SeqRange)]| gather(lines.iter().copied().take(4 * FETCH_RANGES_MAX));
        let lost = bounded(&answer.lost);
        let mut not_there = bounded(&answer.absent);
        for (stream, ranges) in &lost {
            not_there.entry(*stream).or_default().extend(ranges);
        }
        lap.gone = both(&lap.gone, &not_there);
        lap.sharers.insert(from, lost);
    }

    /// The connection to `peer` fell: it will not answer.
    pub fn handle_link(&mut self, peer: BoardId, up: bool, now: Instant) {
        if up {
            self.is_fruitless = false;
            self.searched.clear();
            self.next_at = self.next_at.min(now);
        } else if let Some(lap) = self
            .lap
            .as_mut()
            .filter(|lap| lap.pending.is_some_and(|(board, _)| board == peer))
        {
            lap.gives_no_answer();
        }
    }

    fn end(&mut self, members: Members, now: Instant, out: &mut Outbox<Output>) {
        let Some(lap) = self.lap.take() else { return };
        let gone = both(&lap.gone, &self.holes);
        let again = both(&gone, &self.gone_before);
        for (stream, asked) in &lap.asked {
            self.searched.entry(*stream).or_default().extend(asked);
            if let Some(before) = self.gone_before.get_mut(stream) {
                *before = before.minus(asked);
            }
        }
        for (stream, ranges) in &again {
            let lines = ranges
                .ranges()
                .iter()
                .map(|range| (*range, lap.is_first(self.own, stream, *range)));
            self.asked.insert(*stream, lines.collect());
            if members.has_region {
                out.push(Output::Ask(*stream));
            } else {
                self.judge(*stream);
            }
        }
        let hopeful = !gone.is_empty() || self.counts.filled > lap.filled_before;
        for (stream, gone) in gone {
            self.gone_before.entry(stream).or_default().extend(&gone);
        }
        self.gone_before = both(&self.gone_before, &self.holes);
        self.is_fruitless = !hopeful;
        self.next_at = now + if hopeful || self.has_unsearched() { SOON } else { LATER };
        self.gone.drain(..).for_each(|gone| out.push(gone));
    }

    /// When the next board is asked, or one is given up.
    pub fn next_deadline(&self) -> Deadline {
        match &self.lap {
            Some(Lap { pending: Some((_, until)), .. }) => {
                Deadline { at: *until, why: "a board to say whether it has what is missing here" }
            }
            Some(_) => Deadline { at: Instant::ZERO, why: "the next board to be asked for what is missing here" },
            None if !self.gone.is_empty() => Deadline { at: Instant::ZERO, why: "records to be called gone" },
            None if self.holes.is_empty() => Deadline::NONE,
            None => Deadline { at: self.next_at, why: "the boards to be asked for what is missing here" },
        }
    }

    /// Whether some holes wait for their first lap.
    fn has_unsearched(&self) -> bool {
        let is_searched = |(stream, holes): (&Stream, &RangeSet)| {
            self.searched.get(stream).is_some_and(|searched| searched.contains_all(holes))
        };
        !self.holes.iter().all(is_searched)
    }

    /// The holes.
    pub const fn holes(&self) -> &Records {
        &self.holes
    }

    /// Whether the region has just said of some that it lacks them, too: they are called gone next.
    pub const fn is_judging(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Records that are missing.
    pub fn missing(&self) -> u64 {
        self.holes.values().map(RangeSet::count).sum()
    }

    /// Counters since the start.
    pub const fn counts(&self) -> RepairCounts {
        self.counts
    }

    /// Asserts what must hold between any two inputs: what is missing is not claimed as held.
    pub fn check(&self, held: &BTreeMap<Stream, RangeSet>) {
        for (stream, holes) in &self.holes {
            let claimed = held.get(stream).map_or(0, |held| holes.intersection(held).count());
            assert_eq!(claimed, 0, "{stream}: records are missing and claimed as held");
        }
    }
}

impl Lap {
    fn gives_no_answer(&mut self) {
        self.pending = None;
        self.gone.clear();
    }

    /// What was asked for and is still missing.
    fn wanted(&self, holes: &Records) -> Vec<(Stream, SeqRange)> {
        lines(&both(&self.asked, holes)).take(FETCH_RANGES_MAX).collect()
    }

    /// Of all boards with this hole the origin's own names it, else that of the lowest number.
    fn is_first(&self, own: BoardId, stream: &Stream, range: SeqRange) -> bool {
        let order = |board: BoardId| (board != stream.origin.board, board);
        let shares =
            |records: &Records| records.get(stream).is_some_and(|ranges| ranges.within(range).next().is_some());
        !self
            .sharers
            .iter()
            .any(|(board, records)| order(*board) < order(own) && shares(records))
    }
}

fn gather(lines: impl IntoIterator<Item = (Stream, SeqRange)>) -> Records {
    let mut records = Records::new();
    for (stream, range) in lines {
        records.entry(stream).or_default().insert(range);
    }
    records
}

fn lines(records: &Records) -> impl Iterator<Item = (Stream, SeqRange)> {
    records
        .iter()
        .flat_map(|(stream, ranges)| ranges.ranges().iter().map(move |range| (*stream, *range)))
}

/// What is in both.
fn both(one: &Records, other: &Records) -> Records {
    let common = one
        .iter()
        .filter_map(|(stream, ranges)| Some((*stream, ranges.intersection(other.get(stream)?))));
    common.filter(|(_, ranges)| !ranges.is_empty()).collect()
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;

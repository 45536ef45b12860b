//! The way of a board's records to the region: which of the journal's records this board brings up, what is on its
//! way, what the region covers. The route is the region itself where this board holds `uplink`, else the holder.
//!
//! ```text
//!  closed ──opened──▶ asking ──region's coverage is known──▶ sending ─┐
//!     ▲                  ▲      read journal → seal → send → covered  │
//!     └──route fell──────┴──── no progress, coverage went back ◀──────┘
//! ```
//!
//! Where the region has spoken before, sending begins with asking: see `ahead`.
//!
//! What is fresh goes before what has waited, and alarms before everything else that has: see `lanes`.
//!
//! Two boards that bring up the same record do no harm; one that nobody brings up would, so a keeper adopts a living
//! origin's records once they have made no progress for long enough.

mod ahead;
pub mod budget;
mod lanes;
pub mod outlook;
mod regions;
pub mod silence;
pub mod ways;
mod window;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::config::Timing;
use crate::ids::{BoardId, BoardSet, Class, SegmentId, Stream, Term};
use crate::limits::{COVERAGE_STREAMS_MAX, RANGES_MAX, READ_BYTES};
use crate::ranges::{RangeSet, SeqRange};
use crate::record::Reading;
use crate::time::{Deadline, Instant};
use crate::uplink::ahead::Ahead;
pub use crate::uplink::regions::WentBack;

use crate::uplink::lanes::{Lane, Lanes};
use crate::uplink::window::Window;
use crate::wire::peer::{Coverage, RegionTag, Run};
use crate::wire::uplink::Block;

/// No block of the window made progress for so long: start over. Twice the region's patience with one transaction.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where blocks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Nowhere.
    Closed,
    /// To the region: this board holds `uplink` and its session stands.
    Region(Term),
    /// To the holder.
    Holder(BoardId, Term),
}

/// A place in the journal.
pub type Cursor = (SegmentId, u32);
/// Whether anything of these records is to be brought up from here.
pub type Wanted<'a> = dyn Fn(&Stream, &RangeSet) -> bool + 'a;

/// Which way a journal is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The oldest segment first.
    Onwards,
    /// The newest segment first.
    Backwards,
}

/// Records to be sealed.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Whether all that is fresh, and alarms, go before them.
    pub waits: bool,
    /// Of which stream.
    pub stream: Stream,
    /// Which.
    pub range: SeqRange,
    /// Encoded.
    pub bytes: Bytes,
}

/// What was waited for too long, and what to ask the region then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Its answer: what was gathered and sent stays on its way.
    Answer(Vec<Vec<Stream>>),
    /// Any progress: everything begins anew.
    Progress(Vec<Vec<Stream>>),
}

/// A piece of the journal to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    lap: u64,
    lane: Lane,
    /// In which segment.
    pub segment: SegmentId,
    /// From which byte.
    pub offset: u32,
    /// Durable bytes from there.
    pub length: u32,
}

/// What decides whose records are brought up from here: one's own, those of boards that are down, and those that
/// have made no progress for long.
#[derive(Clone, Copy, Debug)]
pub struct Origins<'a> {
    /// This board.
    pub own: BoardId,
    /// Boards heard.
    pub alive: BoardSet,
    /// What is durable here.
    pub held: &'a BTreeMap<Stream, RangeSet>,
}

/// The uplink of one board.
#[derive(Debug)]
pub struct Uplink {
    route: Route,
    /// When it last could send, where it cannot: closed, or without an answer.
    stopped_at: Instant,
    adopt_after: Duration,
    /// What the region has stored, for streams held here. Only what was heard; nothing is assumed.
    covered: BTreeMap<Stream, RangeSet>,
    /// When the coverage of a stream last grew, or held all there was.
    progress: BTreeMap<Stream, Instant>,
    unanswered: BTreeSet<Stream>,
    ahead: Ahead,
    asked_at: Instant,
    window: Window,
    lanes: Lanes,
    /// Streams brought up from here.
    mine: BTreeSet<Stream>,
    own: Option<BoardId>,
    adopt_at: Instant,
    went_back: Vec<WentBack>,
    /// Whose word `covered` is, where the site knows several regions; `None` before any has named itself.
    region: Option<RegionTag>,
    /// Streams of which `covered` is the word of another region than the next one that answers.
    foreign: BTreeSet<Stream>,
}

impl Uplink {
    /// A closed uplink of one of `boards` boards that holds `held`, of which the region had `covered` when it last spoke.
    pub fn new(
        timing: &Timing,
        boards: usize,
        (held, covered): (&BTreeMap<Stream, RangeSet>, BTreeMap<Stream, RangeSet>),
        now: Instant,
    ) -> Self {
        Self {
            route: Route::Closed,
            stopped_at: now,
            adopt_after: timing.adopt_after,
            covered,
            progress: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            ahead: Ahead::default(),
            asked_at: Instant::ZERO,
            window: Window::new(boards),
            lanes: Lanes::new(held, now),
            mine: BTreeSet::new(),
            own: None,
            adopt_at: Instant::NEVER,
            went_back: Vec::new(),
            region: None,
            foreign: BTreeSet::new(),
        }
    }

    /// Time passes while records come in.
    pub fn note(&mut self, held: &BTreeMap<Stream, RangeSet>, now: Instant) {
        // While the way is open coverage says what is fresh.
        if self.route == Route::Closed {
            self.lanes.note(held, now);
        }
    }

    /// Where blocks go now.
    pub const fn route(&self) -> Route {
        self.route
    }

    /// The route stands or fell: starts over. Returns what to ask the region, in messages of bounded size. Where it is to go
    /// `ahead`, what the region has not said before it has is sent before it has answered.
    pub fn handle_route(&mut self, route: Route, ahead: bool, origins: Origins<'_>, now: Instant) -> Vec<Vec<Stream>> {
        let was_answered = self.is_answered();
        self.route = route;
        self.start_over((was_answered, ahead), origins, now)
    }

    fn start_over(
        &mut self,
        (was_answered, ahead): (bool, bool),
        origins: Origins<'_>,
        now: Instant,
    ) -> Vec<Vec<Stream>> {
        if was_answered {
            self.stopped_at = now;
            self.ahead.handle_known(origins.held);
        }
        self.ahead.doubt(self.window.clear(now));
        self.ahead.begin(ahead);
        self.own = Some(origins.own);
        self.lanes.note(origins.held, now);
        let is_open = self.route != Route::Closed;
        self.lanes.split(origins.held, is_open.then(|| now.since(self.stopped_at)));
        self.unanswered.clear();
        self.asked_at = now;
        if self.route == Route::Closed {
            return Vec::new();
        }
        self.unanswered.extend(origins.held.keys());
        self.progress.clear();
        self.refresh(origins, now);
        self.questions()
    }

    /// What the region is to be asked, in messages of bounded size.
    fn questions(&self) -> Vec<Vec<Stream>> {
        let streams: Vec<Stream> = self.unanswered.iter().copied().collect();
        streams.chunks(COVERAGE_STREAMS_MAX).map(<[Stream]>::to_vec).collect()
    }

    /// The site has another number of boards.
    pub fn handle_boards(&mut self, boards: usize) {
        self.window.handle_boards(boards);
    }

    /// Looks again whose records are brought up from here. Call where boards, coverage or the journal changed.
    pub fn refresh(&mut self, origins: Origins<'_>, now: Instant) {
        let (mut mine, mut adopt_at) = (BTreeSet::new(), Instant::NEVER);
        for (stream, have) in origins.held {
            let covered = self.covered.get(stream).is_some_and(|covered| covered.contains_all(have));
            let since = *self.progress.entry(*stream).or_insert(now);
            let board = stream.origin.board;
            if covered {
                self.progress.insert(*stream, now);
                // Its next record is no reason to begin anew.
                if board == origins.own || !origins.alive.contains(board) {
                    mine.insert(*stream);
                }
                continue;
            }
            // Before the region has answered there can be no progress.
            let since = if self.is_answered() { since } else { now };
            let patient_until = since + self.adopt_after;
            if board == origins.own || !origins.alive.contains(board) || now >= patient_until {
                mine.insert(*stream);
            } else {
                adopt_at = adopt_at.min(patient_until);
            }
        }
        if !mine.is_subset(&self.mine) {
            self.lanes.rewind();
        }
        self.mine = mine;
        self.adopt_at = adopt_at;
        self.lanes.refresh(&self.mine, origins.held, &self.covered, now);
    }

    /// The region's word on what it covers. Records not held here are passed over. Returns the streams of which it
    /// covers more than before.
    pub fn handle_coverage(
        &mut self,
        lines: Vec<Coverage>,
        held: &BTreeMap<Stream, RangeSet>,
        now: Instant,
    ) -> Vec<Stream> {
        let mut fresh = Vec::new();
        let was_answered = self.is_answered();
        if lines.iter().any(|line| !line.whole) {
            self.window.handle_others(now);
        }
        for line in lines {
            // While records go ahead, words on some of them come before the answer.
            if line.whole || !self.ahead.is_on() {
                self.unanswered.remove(&line.stream);
            }
            let Some(held) = held.get(&line.stream) else { continue };
            // Only what is held matters, and only that is believed: a region cannot make a board forget a record
            // it has yet to write.
            let said = line.ranges.intersection(held);
            let have = self.covered.entry(line.stream).or_default();
            let is_another = line.whole && self.foreign.remove(&line.stream);
            let is_own = self.own == Some(line.stream.origin.board);
            if line.whole && self.ahead.handle_answer(line.stream, is_own) {
                self.lanes.rewind();
            }
            if line.whole && !said.contains_all(have) {
                // The region lost its memory, or is another one: what is still held here is brought up again.
                self.went_back.push(WentBack { stream: line.stream, is_another });
                *have = RangeSet::EMPTY;
                self.lanes.handle_went_back();
            }
            let new = said.minus(have);
            if !new.is_empty() {
                self.progress.insert(line.stream, now);
                fresh.push(line.stream);
            }
            have.extend(&said);
            // What is forgotten below has arrived all the same.
            self.window.handle_covered(&line.stream, have, now);
            have.truncate(RANGES_MAX);
        }
        if !was_answered && self.is_answered() {
            // Living origins have as long from now on to bring up what is theirs.
            for since in self.progress.values_mut() {
                *since = now;
            }
        }
        fresh
    }

    /// Streams whose coverage went back since the last call.
    pub fn take_went_back(&mut self) -> Vec<WentBack> {
        core::mem::take(&mut self.went_back)
    }

    /// What the region covers, of streams held here.
    pub const fn covered(&self) -> &BTreeMap<Stream, RangeSet> {
        &self.covered
    }

    /// Forgets what is no longer held, so that the region's next word is compared with what it could still lose.
    pub fn retain(&mut self, held: &BTreeMap<Stream, RangeSet>) {
        self.covered.retain(|stream, covered| {
            let Some(held) = held.get(stream) else { return false };
            *covered = covered.intersection(held);
            true
        });
        self.progress.retain(|stream, _| held.contains_key(stream));
        self.foreign.retain(|stream| held.contains_key(stream));
        self.ahead.retain(held);
    }

    /// Records held here that the region does not cover.
    pub fn backlog(&self, held: &BTreeMap<Stream, RangeSet>) -> u64 {
        held.iter()
            .map(|(stream, have)| {
                self.covered
                    .get(stream)
                    .map_or(have.count(), |covered| have.minus(covered).count())
            })
            .sum()
    }

    /// Whether the region has answered all that it was asked.
    fn is_answered(&self) -> bool {
        self.route != Route::Closed && self.unanswered.is_empty()
    }

    /// Whether the board may read and send now.
    fn is_sending(&self) -> bool {
        self.is_answered() || (self.route != Route::Closed && self.ahead.is_on())
    }

    /// Where to read next and when at the earliest, if anything is wanted: segment, offset, bytes to its durable end. `next`
    /// finds the first place from a cursor on, or the last before one, whose segment holds something wanted.
    pub fn wants_read(
        &self,
        now: Instant,
        next: impl Fn(Direction, Cursor, &Wanted<'_>) -> Option<(SegmentId, u32, u32)>,
    ) -> Option<(Read, Instant)> {
        let mut later: Option<(Read, Instant)> = None;
        if !self.is_sending() {
            return None;
        }
        for lane in self.lanes.order() {
            // Fresh alarms are at hand when there is room again: else what was read of the others would always fill it first.
            let has_room = lane == Lane::FreshAlarms || self.window.has_room(lane);
            if !has_room || !self.lanes.may_be_read(lane) {
                continue;
            }
            let wanted = |stream: &Stream, ranges: &RangeSet| {
                self.mine.contains(stream) && ranges.ranges().iter().any(|range| self.is_wanted(lane, stream, *range))
            };
            let (direction, cursor) = self.lanes.place(lane);
            let Some((segment, offset, length)) = next(direction, cursor, &wanted) else {
                continue;
            };
            let read = Read { lap: self.lanes.lap(), lane, segment, offset, length };
            let after = self.lanes.rests_until(lane);
            if now >= after {
                return Some((read, after));
            }
            // Meanwhile something that has waited may be read.
            if later.is_none_or(|(_, before)| after < before) {
                later = Some((read, after));
            }
        }
        later
    }

    /// `read` has begun. Where it brings less than a helping, all that is fresh was read: some gathers before the next.
    pub fn handle_reading(&mut self, read: &Read, now: Instant) {
        self.lanes.handle_reading(read.lane, read.length < READ_BYTES, now);
    }

    fn is_wanted(&self, lane: Lane, stream: &Stream, range: SeqRange) -> bool {
        !self.wanted_of(lane, stream, range).is_empty()
    }

    /// The parts of `range` that the lane brings up and that are neither covered nor on their way.
    fn wanted_of(&self, lane: Lane, stream: &Stream, range: SeqRange) -> Vec<SeqRange> {
        let Some(range) = self.lanes.part(lane, stream, range) else {
            return Vec::new();
        };
        let uncovered = self
            .covered
            .get(stream)
            .map_or_else(|| alloc::vec![range], |have| have.missing(range));
        let unsent = uncovered.into_iter().flat_map(|part| self.window.missing(stream, part));
        if !self.unanswered.contains(stream) {
            return unsent.collect();
        }
        if !self.ahead.may_go(stream, self.own == Some(stream.origin.board)) {
            return Vec::new();
        }
        match self.ahead.in_doubt(stream) {
            Some(in_doubt) => unsent.flat_map(|part| in_doubt.missing(part)).collect(),
            None => unsent.collect(),
        }
    }

    /// Runs that `read` found, and where reading goes on; those that its lane does not bring up are passed over. A read from before
    /// the uplink rewound changes nothing.
    pub fn handle_read(&mut self, read: &Read, mut runs: Vec<Run>, cursor: Cursor) {
        if read.lap == self.lanes.lap() {
            // Else a helping without an alarm would wait for room, and the search for alarms with it.
            let is_mine = |run: &Run| self.mine.contains(&run.stream);
            runs.retain(|run| {
                is_mine(run) && run.range().is_some_and(|range| self.is_wanted(read.lane, &run.stream, range))
            });
            self.lanes.handle_read(read.lane, runs, cursor);
        }
    }

    /// Takes the next records to be sealed, while the window has room for them.
    pub fn take_records(&mut self) -> Option<Taken> {
        for lane in Lane::ALL {
            while self.is_sending() && self.window.has_room(lane) {
                let Some(run) = self.lanes.pop(lane) else { break };
                let Some(range) = run.range().filter(|_| self.mine.contains(&run.stream)) else {
                    continue;
                };
                let parts = self.wanted_of(lane, &run.stream, range);
                let Some(part) = parts.first().copied() else { continue };
                let Some(bytes) = cut(&run, part) else { continue };
                let stream = run.stream;
                if parts.len() > 1 {
                    self.lanes.put_back(lane, run);
                }
                self.window.handle_gathered(stream, part, bytes.len());
                // An alarm waits for nothing on the wire, whichever lane has met it.
                let waits = lane.waits() && stream.class != Class::Alarm;
                return Some(Taken { waits, stream, range: part, bytes });
            }
        }
        None
    }

    /// A block leaves now.
    pub fn handle_sent(&mut self, block: &Block, now: Instant) {
        if let Some(range) = block.range() {
            let bytes = (block.raw_len as usize, block.body.len());
            self.window.handle_sent((block.stream, range), bytes, now);
        }
    }

    /// Starts over where nothing has made progress for long, or asks again.
    pub fn handle_deadline(&mut self, origins: Origins<'_>, now: Instant) -> Option<Overdue> {
        if self.route == Route::Closed {
            return None;
        }
        let stuck = self.window.stuck_at(PATIENCE).is_some_and(|at| now >= at);
        let unanswered = !self.unanswered.is_empty() && now >= self.asked_at + PATIENCE;
        if unanswered && !stuck && self.ahead.is_on() {
            // A region that has much to store comes to the question late. What went ahead is on its way.
            self.asked_at = now;
            return Some(Overdue::Answer(self.questions()));
        }
        if stuck || unanswered {
            return Some(Overdue::Progress(self.start_over((self.is_answered(), false), origins, now)));
        }
        if now >= self.adopt_at {
            self.refresh(origins, now);
        }
        None
    }

    /// When the uplink starts over unless something arrives, or adopts a stream.
    pub fn next_deadline(&self) -> Deadline {
        if self.route == Route::Closed {
            return Deadline::NONE;
        }
        if !self.unanswered.is_empty() {
            return Deadline { at: self.asked_at + PATIENCE, why: "the region to say what it covers" };
        }
        let stuck = self.window.stuck_at(PATIENCE).unwrap_or(Instant::NEVER);
        let stuck = Deadline { at: stuck, why: "the region to acknowledge a block" };
        stuck.min(Deadline { at: self.adopt_at, why: "a living origin to bring its records up" })
    }
}

/// The bytes of the records `part` of `run`; `None` where the run's bytes are not its records.
fn cut(run: &Run, part: SeqRange) -> Option<Bytes> {
    if run.range() == Some(part) {
        return Some(run.bytes.clone());
    }
    let mut rest: &[u8] = &run.bytes;
    let (mut start, mut end) = (0, 0);
    for seq in run.first..=part.last {
        if seq == part.first {
            start = run.bytes.len() - rest.len();
        }
        rest = Reading::decode(rest).ok()?.1;
        end = run.bytes.len() - rest.len();
    }
    Some(run.bytes.slice(start..end))
}

#[cfg(test)]
mod tests;

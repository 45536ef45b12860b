//! Makes room in a journal that is full, or holds more of a class than it may: takes a segment, sheds the records in it that
//! matter least, writes the others again, and frees it. Decides what goes and in which order; reads and writes nothing.
//!
//! ```text
//!  idle ──too little room──▶ declaring ──gap records committed──▶ moving ──all that stays is durable elsewhere──▶ freed
//! ```
//!
//! What is covered, or stands in another segment, goes first, and silently. Then bulk, then events, the oldest segment that
//! frees enough first; each range that goes is declared by a gap record, on k boards, before the segment is freed. Alarms,
//! gap records among them, are never shed. A keeper sheds copies by the same rule and declares them itself: whoever drops
//! declares, and the region counts as shed only what never reaches it from any board.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::segment::{Holding, Segment};
use super::{Journal, Kept};
use crate::action::DiskJob;
use crate::ids::{Class, SegmentId, Seq, Stream};
use crate::limits::{COMMIT_BYTES_MAX, PAGE_BYTES, UNCOMMITTED_RECORDS_MAX};
use crate::outbox::Outbox;
use crate::ranges::{RangeSet, SeqRange};
use crate::record::{Gap, GapReason};
use crate::time::Instant;
use crate::wire::peer::Run;

/// A segment to be freed, and what becomes of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which.
    pub victim: SegmentId,
    /// Durable bytes of it.
    pub end: u32,
    /// What is shed, one line a range.
    pub gaps: Vec<Gap>,
    /// All that need not be written again: covered, held elsewhere, or shed.
    gone: BTreeMap<Stream, RangeSet>,
    /// Whether anything is to be written again.
    some_stays: bool,
}

/// The cleaning under way, if any.
#[derive(Debug, Default)]
pub struct Cleaner {
    job: Option<Job>,
}

#[derive(Debug)]
struct Job {
    plan: Plan,
    /// The gap records are committed once this board's alarms are up to here.
    declared: Option<Seq>,
    /// Where reading goes on.
    at: u32,
    /// Read, and to be written again.
    moving: VecDeque<Run>,
    /// Runs in the block on its way.
    in_block: usize,
    /// Something could not be read: the segment stays.
    is_stuck: bool,
}

/// What may be shed: classes by [`Class`] as index.
type Sheddable = [bool; Class::ALL.len()];

const NOTHING: Sheddable = [false, false, false];
const BULK: Sheddable = [false, false, true];
const BULK_AND_EVENT: Sheddable = [false, true, true];

impl Journal {
    /// The next segment to free, where there is too little room; `None` where there is enough, or nothing can be freed.
    /// `committed` says up to where a stream's records may be shed; `None`: nobody has said, and its origin may wait for the last.
    pub fn plan(
        &mut self,
        covered: &BTreeMap<Stream, RangeSet>,
        committed: impl Fn(&Stream) -> Option<Seq>,
    ) -> Option<Plan> {
        if !core::mem::take(&mut self.is_changed) || self.poisoned {
            return None;
        }
        let last = |stream: &Stream| self.held.get(stream).and_then(RangeSet::last).unwrap_or(0);
        // Of a board that is silent only the newest life held may go on.
        let is_over = |stream: &Stream| {
            let later = |other: &Stream| {
                other.origin.board == stream.origin.board && other.origin.epoch.boot > stream.origin.epoch.boot
            };
            self.held.keys().any(later)
        };
        let committed = |stream: &Stream| {
            committed(stream).unwrap_or_else(|| match is_over(stream) {
                true => Seq::MAX,
                false => last(stream).saturating_sub(WAITED_FOR_MAX),
            })
        };
        let (victim, sheddable) = self.choose(covered, &committed)?;
        let kept = self.segments.get(&victim)?;
        let mut plan =
            Plan { victim, end: kept.segment.end, gaps: Vec::new(), gone: BTreeMap::new(), some_stays: false };
        for (stream, holding) in &kept.segment.streams {
            let mut gone = self.soundly_elsewhere(victim, stream);
            if let Some(covered) = covered.get(stream) {
                gone.extend(covered);
            }
            if sheddable[stream.class as usize] {
                let sheds = SeqRange { first: 0, last: committed(stream) };
                let left = holding.ranges.minus(&gone);
                for range in left.within(sheds).collect::<Vec<_>>() {
                    let bytes = holding.bytes_of(&RangeSet::from_iter([range]));
                    plan.gaps
                        .push(Gap { stream: *stream, range, bytes, reason: GapReason::JournalFull });
                    gone.insert(range);
                }
            }
            plan.some_stays |= !gone.contains_all(&holding.ranges);
            plan.gone.insert(*stream, gone);
        }
        Some(plan)
    }

    /// Which segment, and what of it may be shed.
    fn choose(
        &self,
        covered: &BTreeMap<Stream, RangeSet>,
        committed: &dyn Fn(&Stream) -> Seq,
    ) -> Option<(SegmentId, Sheddable)> {
        let quarter = self.block_area() as u64 / 4;
        let eighth = self.block_area() as u64 / 8;
        if self.is_pressed() {
            return [(NOTHING, quarter), (BULK, eighth), (BULK_AND_EVENT, eighth)]
                .into_iter()
                .find_map(|(sheddable, least)| {
                    Some((self.victim(covered, (sheddable, committed), least)?, sheddable))
                });
        }
        if self.config.event_bytes_max == u64::MAX && self.config.bulk_bytes_max == u64::MAX {
            return None;
        }
        let live = self.live_bytes(covered);
        [Class::Bulk, Class::Event].into_iter().find_map(|class| {
            let mut sheddable = NOTHING;
            sheddable[class as usize] = live[class as usize] > self.config.bytes_max(class);
            let above = sheddable[class as usize];
            above
                .then(|| Some((self.victim(covered, (sheddable, committed), 1)?, sheddable)))
                .flatten()
        })
    }

    /// Whether room is to be made before writers wait for it.
    pub(super) fn is_pressed(&self) -> bool {
        self.available() <= self.floor(Class::Event) + self.capacity() / AHEAD
    }

    /// Whether room is short while damaged segments, whose other records are `covered`, stay for what they remember.
    pub fn is_held_up(&self, covered: &BTreeMap<Stream, RangeSet>) -> bool {
        let remembers = |(id, kept): (&SegmentId, &Kept)| {
            kept.segment.is_damaged && Some(*id) != self.active && kept.segment.is_within(covered)
        };
        self.is_pressed() && self.segments.iter().any(remembers)
    }

    /// The oldest segment that gives back a quarter of its bytes, else the one that gives back most, at least `least`.
    fn victim(
        &self,
        covered: &BTreeMap<Stream, RangeSet>,
        (sheddable, committed): (Sheddable, &dyn Fn(&Stream) -> Seq),
        least: u64,
    ) -> Option<SegmentId> {
        let area = self.block_area() as u64;
        let room = self.active_room() as u64 + area * self.ready.len() as u64;
        let mut best: Option<(u64, SegmentId)> = None;
        for (id, Kept { segment, .. }) in &self.segments {
            if Some(*id) == self.active || segment.is_damaged {
                continue;
            }
            let stays = bytes_that_stay(segment, covered, sheddable, committed);
            let frees = area.saturating_sub(stays);
            let sheds = sheddable == NOTHING || bytes_that_stay(segment, covered, NOTHING, committed) > stays;
            if !sheds || frees < least || stays + PAGES_BESIDE > room {
                continue;
            }
            // Where nothing is shed, writing again must come to an end: each time a segment is won, or half of one.
            if sheddable == NOTHING && stays > area / 2 && stays + PAGES_BESIDE > self.active_room() as u64 {
                continue;
            }
            if frees >= area / 4 {
                return Some(*id);
            }
            if best.is_none_or(|(most, _)| frees > most) {
                best = Some((frees, *id));
            }
        }
        best.map(|(_, id)| id)
    }

    /// Bytes by class of what the region does not cover, own records and copies.
    pub fn live_bytes(&self, covered: &BTreeMap<Stream, RangeSet>) -> [u64; Class::ALL.len()] {
        let mut live = [0; Class::ALL.len()];
        for kept in self.segments.values() {
            for (sum, bytes) in live.iter_mut().zip(kept.segment.live_bytes(covered)) {
                *sum += bytes;
            }
        }
        live
    }

    /// The victim's records are covered, declared or durable elsewhere: its file is free.
    pub fn finish_cleaning(&mut self, victim: SegmentId, now: Instant, out: &mut Outbox<DiskJob>) {
        self.release(victim, now, out);
    }

    /// More may be shed than before.
    pub fn note_committed(&mut self) {
        self.is_changed |= self.is_pressed();
    }

    /// Something in the segment cannot be read: it is not chosen again.
    pub fn note_damage(&mut self, id: SegmentId) {
        if let Some(kept) = self.segments.get_mut(&id) {
            kept.segment.is_damaged = true;
        }
        self.is_changed = true;
    }

    /// Whether the segment is still there.
    pub fn has_segment(&self, id: SegmentId) -> bool {
        self.segments.contains_key(&id)
    }
}

/// Room is made while a thirty-second part of the segments is still free, so that writers seldom wait for it.
const AHEAD: usize = 32;
/// Records at the end of a stream for which its origin may wait, at most: what it takes in at once beyond its limit is far less
/// than the limit again.
const WAITED_FOR_MAX: Seq = 2 * UNCOMMITTED_RECORDS_MAX as Seq;
/// Padding of the blocks in which a segment's records are written again, and a gap record's block.
const PAGES_BESIDE: u64 = 4 * PAGE_BYTES as u64;

/// Bytes of what is neither covered nor may be shed.
fn bytes_that_stay(
    segment: &Segment,
    covered: &BTreeMap<Stream, RangeSet>,
    sheddable: Sheddable,
    committed: &dyn Fn(&Stream) -> Seq,
) -> u64 {
    let stays = |(stream, holding): (&Stream, &Holding)| {
        let sheds = sheddable[stream.class as usize];
        let after = if sheds { committed(stream) } else { 0 };
        match holding.ranges.last() {
            Some(last) if last > after => holding.live_bytes_after(after, covered.get(stream)),
            Some(_) | None => 0,
        }
    };
    segment.streams.iter().map(stays).sum()
}

impl Cleaner {
    /// Whether a segment is being freed.
    pub const fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Takes up `plan`, whose gap records are this board's alarms up to `declared`; `None` where it sheds nothing.
    pub fn begin(&mut self, plan: Plan, declared: Option<Seq>) {
        let at = if plan.some_stays { 0 } else { plan.end };
        self.job = Some(Job { plan, declared, at, moving: VecDeque::new(), in_block: 0, is_stuck: false });
    }

    /// This board's alarms are committed up to `seq`.
    pub fn handle_committed(&mut self, seq: Seq) {
        if let Some(job) = &mut self.job
            && job.declared.is_some_and(|declared| declared <= seq)
        {
            job.declared = None;
        }
    }

    /// Where to read next: segment, offset, bytes to its end.
    pub fn wants_read(&self) -> Option<(SegmentId, u32, u32)> {
        let job = self.job.as_ref()?;
        let reads = job.declared.is_none() && job.moving.is_empty() && job.in_block == 0 && !job.is_stuck;
        (reads && job.at < job.plan.end).then(|| (job.plan.victim, job.at, job.plan.end - job.at))
    }

    /// Runs that stand in `victim`, read up to `end`; `damaged` where some place could not be read.
    pub fn handle_read(&mut self, victim: SegmentId, runs: Vec<Run>, end: u32, damaged: bool) {
        let Some(job) = self.job.as_mut().filter(|job| job.plan.victim == victim) else {
            return;
        };
        job.at = end;
        job.is_stuck |= damaged;
        let stays = |run: &Run| {
            let gone = job.plan.gone.get(&run.stream);
            run.range()
                .is_some_and(|range| !gone.is_some_and(|gone| gone.contains_range(range)))
        };
        job.moving.extend(runs.into_iter().filter(stays));
    }

    /// Bytes of the run that [`Cleaner::take_run`] would return, while less than half of a block is taken by such.
    pub fn next_bytes(&self, taken: usize) -> Option<usize> {
        let job = self.job.as_ref()?;
        let bytes = job.moving.front()?.bytes.len();
        (taken == 0 || taken + bytes <= COMMIT_BYTES_MAX / 2).then_some(bytes)
    }

    /// The next run to write again.
    pub fn take_run(&mut self) -> Option<Run> {
        let job = self.job.as_mut()?;
        let run = job.moving.pop_front()?;
        job.in_block += 1;
        Some(run)
    }

    /// The block on its way is durable.
    pub fn handle_durable(&mut self) {
        if let Some(job) = &mut self.job {
            job.in_block = 0;
        }
    }

    /// The segment whose records are all seen to, once, and whether it is free; one that could not be read stays.
    pub fn take_done(&mut self) -> Option<(SegmentId, bool)> {
        let job = self.job.take_if(|job| {
            let read = job.at >= job.plan.end || job.is_stuck;
            job.declared.is_none() && read && job.moving.is_empty() && job.in_block == 0
        })?;
        Some((job.plan.victim, !job.is_stuck))
    }

    /// What stands in another segment is in doubt: a segment whose records were to go because of it stays.
    pub fn handle_doubt(&mut self, segment: SegmentId, claimed: &BTreeMap<Stream, RangeSet>) {
        let relies = |plan: &Plan| {
            let meets = |(stream, gone): (&Stream, &RangeSet)| {
                claimed
                    .get(stream)
                    .is_some_and(|claimed| !claimed.intersection(gone).is_empty())
            };
            plan.victim != segment && plan.gone.iter().any(meets)
        };
        self.job.take_if(|job| relies(&job.plan));
    }

    /// Whatever was under way is given up: the segment went by itself.
    pub fn give_up(&mut self) {
        self.job = None;
    }

    /// The segment under way.
    pub fn victim(&self) -> Option<SegmentId> {
        self.job.as_ref().map(|job| job.plan.victim)
    }
}

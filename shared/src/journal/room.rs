//! How much more the journal may take, of which class; and the files that come and go. Floors are counted in segments that
//! are not written to yet:
//!
//! ```text
//!  segments_max ┌──────────────────────────────┐
//!               │ written: records and copies  │
//!               ├──────────────────────────────┤ ◀ here bulk and event wait, and older ones are shed
//!               │ alarm_reserve: alarms alone  │
//!               ├──────────────────────────────┤ ◀ here alarms wait
//!               │ OWN_SEGMENTS: gap records,   │
//!               │ what is written again, and   │
//!               │ the first segment of a life  │
//!             0 └──────────────────────────────┘
//! ```
//!
//! Where the device has no room for another file, the files that are there are all there may be, until it has.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Journal, Kept, Preparing, RUN_OVERHEAD, block_bytes_at_most};
use crate::action::DiskJob;
use crate::ids::{Class, SegmentId, Stream};
use crate::limits::{FOOTER_BYTES, OWN_SEGMENTS, RECORD_BYTES_MAX, RUN_BYTES_MAX};
use crate::outbox::Outbox;
use crate::ranges::RangeSet;
use crate::time::{Deadline, Instant};

/// Freed files kept for the next segments, as far as the limit on files allows: 256 MiB, what a fast site writes in a minute
/// for which the region is away. Writing into written blocks changes no size and no extent, so that a sync costs nothing but
/// the block (measured on ext4: 1.0 device bytes per byte at any size; into a new file 2.0 at a page a sync, 1.25 at four).
const FREED_KEPT: usize = 32;
/// Segments that stand ready: one that comes next, and one for the start of the next life, should the device be full then.
const READY: usize = 2;
/// Between two tries to make a file on a full device: well within the 10 s in which a board takes records again.
const ROOM_EVERY: Duration = Duration::from_secs(2);
/// Between two files that are written ahead: 32 of 8 MiB are there after 8 s where the device is fast, and commits wait for their zeros
/// a twentieth of the time (10 ms a file on the measured virtual disk).
const AHEAD_EVERY: Duration = Duration::from_millis(250);
/// The same after the device had no room for one: it is not needed, so nothing hurries.
const AHEAD_AGAIN: Duration = Duration::from_secs(60);

/// The floor of what the journal does for itself: gap records, and what is written again to free a segment.
pub const UPKEEP: usize = 0;

impl Journal {
    /// Asks for the segment that comes next, where too few stand ready and the limit allows one.
    pub fn prepare(&mut self, now: Instant, out: &mut Outbox<DiskJob>) {
        if self.files() >= self.configured() {
            // There is no need of more files than there are.
            self.no_room = None;
        }
        // A full device is asked for a new file whether or not one is needed: nothing else says when it has room.
        let asks_again = self.no_room.is_some_and(|at| now >= at);
        let waits = self.freed.is_empty() && self.no_room.is_some_and(|at| now < at);
        let enough = self.ready.len() >= READY || waits;
        if self.poisoned || !self.may_have_more() {
            return;
        }
        let ahead = enough && !asks_again;
        if ahead && !(self.wants_ahead() && now >= self.ahead_at) {
            return;
        }
        let segment = SegmentId(self.next_segment);
        self.next_segment += 1;
        let from = if asks_again || ahead { None } else { self.freed.pop() };
        self.preparing = Some(Preparing { segment, recycled: from.is_some(), ahead });
        // Nothing waits longer for the first than it must. The files that come after it are used again and again.
        let is_one_of_the_first = !self.ready.is_empty() && self.files() <= self.written_ahead();
        let written = self.commits_are_small || is_one_of_the_first;
        out.push(DiskJob::Prepare { segment, from, bytes: self.config.segment_bytes, written });
    }

    /// The segment is there.
    pub fn handle_prepared(&mut self, segment: SegmentId, now: Instant, out: &mut Outbox<DiskJob>) {
        let Some(done) = self.preparing.take_if(|asked| asked.segment == segment) else {
            return;
        };
        if done.ahead {
            self.freed.push(segment);
            out.push(DiskJob::Free { segment });
        } else {
            self.ready.push_back(segment);
        }
        self.ahead_at = self.ahead_at.max(now + AHEAD_EVERY);
        self.is_changed = true;
        if !done.recycled {
            self.no_room = None;
        }
        self.prepare(now, out);
    }

    /// The device has no room for the segment's file. Where files are free, the next segment is made of one.
    pub fn handle_no_room(&mut self, segment: SegmentId, now: Instant, out: &mut Outbox<DiskJob>) {
        let Some(asked) = self.preparing.take_if(|asked| asked.segment == segment) else {
            return;
        };
        if asked.ahead {
            self.ahead_at = now + AHEAD_AGAIN;
        } else {
            self.no_room = Some(now + ROOM_EVERY);
            self.is_changed = true;
        }
        self.prepare(now, out);
    }

    /// Whether the device has no room for more files, as far as it was asked.
    pub const fn is_device_full(&self) -> bool {
        self.no_room.is_some()
    }

    /// When the device is asked again for room.
    pub fn next_deadline(&self) -> Deadline {
        if self.poisoned || !self.may_have_more() {
            return Deadline::NONE;
        }
        match self.no_room {
            Some(at) => Deadline { at, why: "the device to have room" },
            None if self.wants_ahead() => Deadline { at: self.ahead_at, why: "a file to be written ahead" },
            None => Deadline::NONE,
        }
    }

    /// Whether a file is to be made that nothing needs yet: while there are few, and as long as the device has room.
    fn wants_ahead(&self) -> bool {
        self.ready.len() >= READY && self.no_room.is_none() && self.files() < self.written_ahead()
    }

    fn written_ahead(&self) -> usize {
        self.config.written_ahead as usize
    }

    fn may_have_more(&self) -> bool {
        self.preparing.is_none() && self.segments.len() + self.ready.len() < self.configured()
    }

    fn configured(&self) -> usize {
        self.config.segments_max as usize
    }

    /// Files that are there or are being made.
    fn files(&self) -> usize {
        self.segments.len() + self.ready.len() + self.freed.len() + usize::from(self.preparing.is_some())
    }

    /// Segments that there may be: on a full device those whose files are there.
    pub(super) fn capacity(&self) -> usize {
        match self.no_room {
            Some(_) => self.configured().min(self.files()),
            None => self.configured(),
        }
    }

    /// Segments that may still be begun.
    pub fn available(&self) -> usize {
        self.capacity().saturating_sub(self.segments.len())
    }

    /// Segments for alarms alone: their part of those that there may be.
    fn reserve(&self) -> usize {
        (self.config.alarm_reserve as usize * self.capacity() / self.configured()).max(1)
    }

    /// How many segments stay free of what `class` writes.
    pub fn floor(&self, class: Class) -> usize {
        match class {
            Class::Alarm => OWN_SEGMENTS,
            Class::Event | Class::Bulk => OWN_SEGMENTS + self.reserve(),
        }
    }

    /// Whether records of `class` can be taken in without any being shed first.
    pub fn takes(&self, class: Class) -> bool {
        let (available, floor) = (self.available(), self.floor(class));
        let fits = || self.fits_active(RUN_BYTES_MAX + RECORD_BYTES_MAX + RUN_OVERHEAD);
        !self.poisoned && (available > floor || (available == floor && fits()))
    }

    /// Whether not even an alarm can be taken in.
    pub fn is_full(&self) -> bool {
        !self.takes(Class::Alarm)
    }

    /// Whether a block with `payload` bytes can be appended now that leaves `floor` segments to be begun.
    pub fn can_append(&self, payload: usize, floor: usize) -> bool {
        if !self.is_idle() {
            return false;
        }
        let available = self.available();
        if self.fits_active(payload) {
            return available >= floor;
        }
        block_bytes_at_most(payload) <= self.block_area() && !self.ready.is_empty() && available > floor
    }

    /// Whether a block may be appended at all: none is on its way.
    pub const fn is_idle(&self) -> bool {
        !self.poisoned && self.in_flight.is_none()
    }

    /// Bytes of a segment that blocks may have.
    pub(super) const fn block_area(&self) -> usize {
        (self.config.segment_bytes - FOOTER_BYTES) as usize
    }

    /// Whether a block with `payload` bytes fits what is left of the active segment.
    pub fn fits_active(&self, payload: usize) -> bool {
        block_bytes_at_most(payload) <= self.active_room()
    }

    /// Bytes left in the active segment.
    pub(super) fn active_room(&self) -> usize {
        let kept = self.active.and_then(|id| self.segments.get(&id));
        kept.map_or(0, |kept| self.block_area().saturating_sub(kept.end as usize))
    }

    /// Frees sealed segments whose records are all in `covered`, the oldest first, and returns them. The newest of them stay as far
    /// as there is room, and say in their footers that they are covered. While records that were lost here are still sought
    /// (`has_holes`) the damaged ones stay: the next start knows from them alone what is missing.
    pub fn free(
        &mut self,
        covered: &BTreeMap<Stream, RangeSet>,
        has_holes: bool,
        now: Instant,
        out: &mut Outbox<DiskJob>,
    ) -> Vec<SegmentId> {
        let is_covered = |(id, kept): &(&SegmentId, &Kept)| {
            let is_remembered = kept.segment.is_damaged && has_holes;
            let is_covered = kept.segment.is_covered || kept.segment.is_within(covered);
            Some(**id) != self.active && !is_remembered && is_covered
        };
        let covered: Vec<SegmentId> = self.segments.iter().filter(is_covered).map(|(id, _)| *id).collect();
        let mut freed = Vec::new();
        for (place, id) in covered.iter().enumerate() {
            let is_kept = covered.len() - place <= self.config.covered_kept as usize && !self.is_pressed();
            if is_kept && self.keep_covered(*id, out) {
                continue;
            }
            self.give_back(*id, out);
            freed.push(*id);
        }
        if !freed.is_empty() {
            self.rebuild_held();
            self.prepare(now, out);
        }
        // What is covered need not be kept: room may be made.
        self.is_changed = true;
        freed
    }

    /// The region has the segment, which stays. False where it is of no use: something in it cannot be read.
    fn keep_covered(&mut self, id: SegmentId, out: &mut Outbox<DiskJob>) -> bool {
        let Some(kept) = self.segments.get_mut(&id).filter(|kept| !kept.segment.is_damaged) else {
            return false;
        };
        if !core::mem::replace(&mut kept.segment.is_covered, true) && kept.segment.has_footer {
            self.foot(id, false, out);
        }
        true
    }

    /// The region has lost something of `stream`: what holds any of it counts as covered no more, also for the next life.
    pub fn handle_went_back(&mut self, stream: &Stream, out: &mut Outbox<DiskJob>) {
        let holds = |kept: &Kept| kept.segment.is_covered && kept.segment.streams.contains_key(stream);
        let holders: Vec<SegmentId> = self
            .segments
            .iter()
            .filter(|(_, kept)| holds(kept))
            .map(|(id, _)| *id)
            .collect();
        for id in holders {
            let kept = self.segments.get_mut(&id).expect("it was found above");
            kept.segment.is_covered = false;
            if kept.segment.has_footer {
                self.foot(id, true, out);
            }
        }
    }

    /// Whether room is short although the region has segments that stay.
    pub fn may_free_covered(&self) -> bool {
        let may_go = |kept: &Kept| kept.segment.is_covered && !kept.segment.is_damaged;
        self.is_pressed() && self.segments.values().any(may_go)
    }

    /// What the region had when it last spoke to this board or to an earlier life of it, of the segments that stay for that reason.
    pub fn covered(&self) -> BTreeMap<Stream, RangeSet> {
        let mut covered: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        for kept in self.segments.values().filter(|kept| kept.segment.is_covered) {
            for (stream, holding) in &kept.segment.streams {
                covered.entry(*stream).or_default().extend(&holding.ranges);
            }
        }
        covered
    }

    /// Frees one segment: nothing in it is wanted any more.
    pub(super) fn release(&mut self, id: SegmentId, now: Instant, out: &mut Outbox<DiskJob>) {
        self.give_back(id, out);
        self.rebuild_held();
        self.is_changed = true;
        self.prepare(now, out);
    }

    /// The file is kept for a later segment, or deleted where enough are. On a full device it is all there is.
    fn give_back(&mut self, id: SegmentId, out: &mut Outbox<DiskJob>) {
        // A file with a damaged place is never written again.
        let is_sound = self.segments.remove(&id).is_some_and(|kept| !kept.segment.is_damaged);
        let is_wanted = self.freed.len() < FREED_KEPT.max(self.written_ahead()) && self.files() < self.configured();
        if is_sound && (is_wanted || self.no_room.is_some()) {
            self.freed.push(id);
            out.push(DiskJob::Free { segment: id });
        } else {
            out.push(DiskJob::Delete { segment: id });
        }
    }

    /// A segment whose every record stands in others, too, is what a stopped life was writing again. It is dropped without
    /// a job: its file is free.
    pub(super) fn drop_doubles(&mut self) {
        let mut twice: BTreeMap<Stream, u64> = BTreeMap::new();
        for kept in self.segments.values() {
            for (stream, holding) in &kept.segment.streams {
                *twice.entry(*stream).or_default() += holding.ranges.count();
            }
        }
        twice.retain(|stream, count| self.held.get(stream).is_some_and(|held| held.count() < *count));
        if twice.is_empty() {
            return;
        }
        for id in self.segments.keys().rev().copied().collect::<Vec<_>>() {
            let Some(kept) = self.segments.get(&id) else { continue };
            let streams = &kept.segment.streams;
            let double = !streams.is_empty()
                && !kept.segment.is_damaged
                && streams.iter().all(|(stream, holding)| {
                    twice.contains_key(stream) && self.elsewhere(id, stream).contains_all(&holding.ranges)
                });
            if double {
                self.segments.remove(&id);
                self.freed.push(id);
            }
        }
    }

    /// What segments other than `id` hold of `stream`.
    pub(super) fn elsewhere(&self, id: SegmentId, stream: &Stream) -> RangeSet {
        self.held_by(stream, |other, _| other != id)
    }

    /// The same, of segments of which no damage is known: more of one that has some may be lost.
    pub(super) fn soundly_elsewhere(&self, id: SegmentId, stream: &Stream) -> RangeSet {
        self.held_by(stream, |other, kept| other != id && !kept.segment.is_damaged)
    }

    fn held_by(&self, stream: &Stream, counts: impl Fn(SegmentId, &Kept) -> bool) -> RangeSet {
        let mut all = RangeSet::EMPTY;
        for (_, kept) in self.segments.iter().filter(|(other, kept)| counts(**other, kept)) {
            if let Some(holding) = kept.segment.streams.get(stream) {
                all.extend(&holding.ranges);
            }
        }
        all
    }

    /// Segment files in use, out of how many there may be.
    pub fn fill(&self) -> (usize, usize) {
        (self.segments.len(), self.configured())
    }
}

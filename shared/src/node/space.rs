//! Making room: what is shed, how that is declared, and what a person is told of a disk that fills up. The journal chooses;
//! here its choice meets the other stages.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::action::Action;
use crate::event::Event;
use crate::ids::{BoardId, Class, Epoch, Seq, Stream};
use crate::journal::clean::Plan;
use crate::limits::RANGES_MAX;
use crate::node::{Node, origins, push_jobs};
use crate::outbox::Outbox;
use crate::ranges::{RangeSet, SeqRange};
use crate::record::{Gap, GapReason};
use crate::time::Instant;

/// A segment is freed within so long, else the journal is full for those who publish: its gap records take a commit, and what
/// stays of it two or three more.
const FREED_WITHIN: Duration = Duration::from_secs(1);

impl Node {
    /// Frees segments, one after the other, while there is too little room: declares what is shed and has it committed, writes
    /// again what stays, and only then gives the file back.
    pub(super) fn make_room(&mut self, now: Instant, out: &mut Outbox<Action>) {
        if self.journal.is_poisoned() {
            return;
        }
        if self.journal.may_free_covered() {
            self.free_covered(now, out);
        }
        let committed = self.replication.committed(Class::Alarm);
        if self.upkeep.naming.take_if(|last| *last <= committed).is_some() {
            self.free_covered(now, out);
        }
        self.cleaner.handle_committed(committed);
        while let Some((victim, is_free)) = self.cleaner.take_done() {
            if is_free {
                let mut jobs = Outbox::default();
                self.journal.finish_cleaning(victim, now, &mut jobs);
                self.upkeep.scrub.handle_freed(&[victim]);
                push_jobs(&mut jobs, out);
                self.uplink.retain(self.journal.held());
                self.uplink.refresh(origins(&self.config, &self.membership, &self.journal), now);
            } else {
                self.journal.note_damage(victim);
                self.upkeep.scrub.suspect(victim);
            }
            self.begin_cleaning(now, out);
        }
        if !self.cleaner.is_busy() {
            self.begin_cleaning(now, out);
        }
    }

    fn begin_cleaning(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let (origin, replication, keeper) = (self.origin, &self.replication, &self.keeper);
        // Of a life that goes on only what is committed: of its own records nobody has been told of the others yet, and a copy
        // is counted until then by the board that waits for it.
        let committed = |stream: &Stream| match stream.origin {
            of if of == origin => Some(replication.committed(stream.class)),
            of if of.board == origin.board => Some(Seq::MAX),
            _ => keeper.committed(stream),
        };
        let Some(plan) = self.journal.plan(self.uplink.covered(), committed) else {
            return;
        };
        let declared = self.declare(&plan, now, out);
        self.cleaner.begin(plan, declared);
        self.cleaner.handle_committed(self.replication.committed(Class::Alarm));
        self.write(now, out);
    }

    /// Numbers the gap records of `plan`; returns the last one's sequence.
    fn declare(&mut self, plan: &Plan, now: Instant, out: &mut Outbox<Action>) -> Option<Seq> {
        if plan.gaps.is_empty() {
            return None;
        }
        let mut lines: BTreeMap<Class, (u64, u64)> = BTreeMap::new();
        let mut shed: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        for gap in &plan.gaps {
            let line = lines.entry(gap.stream.class).or_default();
            *line = (line.0 + gap.range.count(), line.1 + gap.bytes);
            shed.entry(gap.stream).or_default().insert(gap.range);
        }
        for (stream, ranges) in shed {
            // What is shed needs no further copy.
            self.refill.handle_covered(&stream, &ranges, now);
            let declared = self.declared.0.entry(stream).or_default();
            declared.extend(&ranges);
            // What lies between is covered or still to come, and counts as shed only where it never comes.
            declared.coarsen(RANGES_MAX);
        }
        for (class, (records, bytes)) in lines {
            self.shed[class as usize] += records;
            out.push(Action::Notice(Event::Shed { class, records, bytes }));
        }
        let last = self.admission.handle_gaps(&plan.gaps, self.wall, now);
        self.declared.1 = last;
        Some(last)
    }

    /// The region covers more of this life's alarms: once it has every gap record, what they say need not be remembered.
    pub(super) fn forget_declared(&mut self) {
        if self.declared.0.is_empty() || self.upkeep.repair.is_judging() {
            return;
        }
        let stream = Stream { origin: self.origin, class: Class::Alarm };
        // What was freed was covered.
        let is_open = |range: &SeqRange| range.first <= self.declared.1;
        let held = self.journal.held().get(&stream);
        let mut open = match (held, self.uplink.covered().get(&stream)) {
            (Some(held), Some(covered)) => held.minus(covered),
            (Some(held), None) => held.clone(),
            (None, _) => RangeSet::EMPTY,
        };
        if let Some(holes) = self.upkeep.repair.holes().get(&stream) {
            open.extend(holes);
        }
        let is_written = self.replication.committed(Class::Alarm) >= self.declared.1;
        if is_written && !open.ranges().iter().any(is_open) {
            self.declared.0.clear();
        }
    }

    /// Gap records of this life are lost: what they may have said is said again. How many bytes it was is not remembered.
    pub(super) fn declare_again(&mut self, now: Instant) {
        let lines = self.declared.0.iter().flat_map(|(stream, ranges)| {
            let gap =
                |range: &SeqRange| Gap { stream: *stream, range: *range, bytes: 0, reason: GapReason::JournalFull };
            ranges.ranges().iter().map(gap)
        });
        let gaps: Vec<Gap> = lines.collect();
        if !gaps.is_empty() {
            self.declared.1 = self.admission.handle_gaps(&gaps, self.wall, now);
        }
    }

    /// Tells where `board`, in the life `epoch`, has a disk that is older than what is kept of it here: its disk was restored from
    /// a copy, or is one. Its records are told apart all the same: each life draws a number of its own.
    pub(super) fn notice_older(&self, board: BoardId, epoch: Epoch, out: &mut Outbox<Action>) {
        let of_board = |stream: &&Stream| stream.origin.board == board;
        let lives = self.journal.held().keys().filter(of_board).map(|stream| stream.origin.epoch);
        let later = |life: &Epoch| life.boot > epoch.boot || (life.boot == epoch.boot && life.nonce != epoch.nonce);
        if let Some(seen) = lives.filter(later).max() {
            out.push(Action::Notice(Event::BoardOlder { board, epoch, seen }));
        }
    }

    /// Tells when not even alarms are taken in, when the device has no room for more files, and when that is over.
    pub(super) fn notice_room(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let is_full = self.journal.is_full() && !self.journal.is_poisoned();
        self.full_since = is_full.then(|| self.full_since.unwrap_or(now));
        // While a segment is being freed, what comes waits for it, for moments.
        let lasts = self.full_since.is_some_and(|since| now >= since + FREED_WITHIN);
        let full = is_full && (lasts || !self.cleaner.is_busy());
        if full != self.full {
            self.full = full;
            out.push(Action::Notice(if full { Event::JournalFull } else { Event::JournalRoom }));
        }
        let device_full = self.journal.is_device_full();
        if device_full != self.device_full {
            self.device_full = device_full;
            out.push(Action::Notice(if device_full { Event::DeviceFull } else { Event::DeviceRoom }));
        }
    }
}

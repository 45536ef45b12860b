//! Keeping what was committed: the journal is verified, what is damaged is asked for, copies that are missing are made.
//! All of it after what publishers wait for: one read at a time, and a small share of each write.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::action::Action;
use crate::config::NodeConfig;
use crate::event::Event;
use crate::ids::{BoardId, BoardSet, Class, Epoch, Origin, SegmentId, Seq, Stream};
use crate::journal::scrub::{self, Scrub};
use crate::journal::{Journal, RUN_OVERHEAD};
use crate::limits::{COMMIT_BYTES_MAX, COVERAGE_STREAMS_MAX, INVENTORY_STREAMS_MAX, REPAIR_SHARE_BYTES};
use crate::node::{Node, origins, push_jobs};
use crate::outbox::Outbox;
use crate::ranges::{RangeSet, SeqRange};
use crate::record::{Gap, GapReason};
use crate::replicate::census::{Census, Here};
use crate::replicate::fetch::{Answering, Known};
use crate::replicate::keeper::Taken;
use crate::replicate::repair::{Members, Output, Repair};
use crate::time::{Deadline, Instant};
use crate::wire::peer::{Coverage, PeerMessage, Run};

/// Between two looks for copies that are missing: each goes over all ranges that are held.
const SURVEY_PERIOD: Duration = Duration::from_secs(1);
/// Between two inventories, a board of the site each, so that a site of 64 sends no more than one of 10.
const INVENTORY_PERIOD_BOARD: Duration = Duration::from_millis(500);
/// Between two inventories at least.
const INVENTORY_PERIOD_LEAST: Duration = Duration::from_secs(5);
/// A journal that is filled beyond so many quarters makes and takes no copies for which nobody waits: it may soon shed, and
/// what it sheds would come back.
const REPAIR_QUARTERS: usize = 2;
/// Verification that was due for so long goes before other reads, one piece at a time.
const SCRUB_WAITS_MAX: Duration = Duration::from_secs(10);

/// What it takes.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) census: Census,
    pub(super) repair: Repair,
    pub(super) answering: Answering,
    pub(super) scrub: Scrub,
    inventory_at: Instant,
    survey_at: Instant,
    /// When copies were last counted.
    surveyed: Instant,
    /// The last gap record that names what is gone, until it is committed.
    pub(super) naming: Option<Seq>,
}

impl Upkeep {
    /// For a new life over what `journal` was found to hold, and `lost`: not to hold any more.
    pub(super) fn new(
        config: &NodeConfig,
        origin: Origin,
        (journal, lost): (&Journal, &BTreeMap<Stream, RangeSet>),
        now: Instant,
    ) -> Self {
        let peers = config.peers();
        let mut upkeep = Self {
            census: Census::new(origin, peers, config.copies, config.repair.absent_after, now),
            repair: Repair::new(config.board),
            answering: Answering::default(),
            scrub: Scrub::new(config.repair, now),
            inventory_at: now + INVENTORY_PERIOD_LEAST,
            survey_at: now + SURVEY_PERIOD,
            surveyed: now,
            naming: None,
        };
        for (stream, ranges) in lost {
            upkeep.repair.open(*stream, ranges, now);
        }
        upkeep.look_for_holes(origin, journal, now);
        upkeep
    }

    /// A journal takes its own records in order, so a number that is missing between others was there, and was freed, shed or
    /// is lost. Where a place is damaged it is taken for lost; of what stood before the oldest the region has to say first
    /// that it lacks it.
    fn look_for_holes(&mut self, origin: Origin, journal: &Journal, now: Instant) {
        if journal.damaged_places() == 0 {
            return;
        }
        for (stream, held) in journal.held().iter().filter(|(stream, _)| stream.origin.board == origin.board) {
            let (Some(first), Some(last)) = (held.ranges().first().map(|range| range.first), held.last()) else {
                continue;
            };
            let between: RangeSet = held.missing(SeqRange { first, last }).into_iter().collect();
            self.repair.open(*stream, &between, now);
            let before = held.missing(SeqRange { first: 1, last: first });
            self.repair.doubt(*stream, &before.into_iter().collect());
        }
    }

    fn inventory_soon(&mut self, now: Instant) {
        self.inventory_at = self.inventory_at.min(now);
    }

    fn survey_soon(&mut self, now: Instant) {
        self.survey_at = self.survey_at.min(now + SURVEY_PERIOD);
    }

    fn survey_at(&self) -> Instant {
        self.survey_at.min(self.census.next_deadline(self.surveyed).at)
    }
}

impl Node {
    /// What is due of it: part of the end of every input of the data path.
    pub(super) fn keep_up(&mut self, now: Instant, out: &mut Outbox<Action>) {
        self.ask_for_missing(now, out);
        self.answer_fetches(out);
        if now >= self.upkeep.inventory_at {
            let period = INVENTORY_PERIOD_BOARD * u32::try_from(self.config.boards.len()).unwrap_or(u32::MAX);
            self.upkeep.inventory_at = now + period.max(INVENTORY_PERIOD_LEAST);
            self.tell_inventory(self.linked, out);
            self.upkeep.survey_soon(now);
        }
        if now >= self.upkeep.survey_at() {
            self.survey(now);
        }
    }

    /// When something of it is due next.
    pub(super) fn upkeep_deadline(&self) -> Deadline {
        let repair = match self.journal.is_poisoned() {
            true => Deadline::NONE,
            false => self.upkeep.repair.next_deadline(),
        };
        repair
            .min(Deadline { at: self.upkeep.inventory_at, why: "the other boards to be told what is held here" })
            .min(Deadline { at: self.upkeep.survey_at(), why: "copies to be counted" })
    }

    /// Counts copies, and owes those that are missing.
    fn survey(&mut self, now: Instant) {
        self.upkeep.surveyed = now;
        self.upkeep.survey_at = Instant::NEVER;
        self.upkeep.census.retain(self.journal.held());
        let here = Here {
            held: self.journal.held(),
            covered: self.uplink.covered(),
            committed: Class::ALL.map(|class| self.replication.committed(class)),
            linked: self.linked,
        };
        // Where room is short here it is short elsewhere, and what a board has shed is not brought back to it.
        if let Some(lacking) = self.upkeep.census.lacking(here, now).filter(|_| self.has_room_for_copies()) {
            self.refill.handle_lacking(lacking);
        }
    }

    /// Says to `boards` what is durable here and not in the region.
    fn tell_inventory(&self, boards: BoardSet, out: &mut Outbox<Action>) {
        if boards.is_empty() {
            return;
        }
        let covered = self.uplink.covered();
        let mut lines = Vec::new();
        for (stream, held) in self.journal.held() {
            match covered.get(stream) {
                Some(covered) if covered.contains_all(held) => {}
                Some(covered) => {
                    let mut ranges = held.clone();
                    ranges.extend(covered);
                    lines.push((*stream, ranges));
                }
                None => lines.push((*stream, held.clone())),
            }
        }
        let mut parts: Vec<&[(Stream, RangeSet)]> = lines.chunks(INVENTORY_STREAMS_MAX).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for to in boards.iter() {
            for (place, part) in parts.iter().enumerate() {
                let message = PeerMessage::Holds {
                    life: self.origin.epoch,
                    committed: Class::ALL.map(|class| self.replication.committed(class)),
                    lines: part.to_vec(),
                    last: place + 1 == parts.len(),
                };
                out.push(Action::Send { to, message });
            }
        }
    }

    /// The reliable connection to `peer` stands or fell.
    pub(super) fn upkeep_link(&mut self, peer: BoardId, up: bool, now: Instant, out: &mut Outbox<Action>) {
        self.upkeep.census.handle_link(peer, up, now);
        self.upkeep.repair.handle_link(peer, up, now);
        self.upkeep.answering.handle_link_down(peer);
        self.upkeep.survey_soon(now);
        if up {
            self.tell_inventory(BoardSet::from_iter([peer]), out);
        }
    }

    /// A part of what `from` holds.
    pub(super) fn handle_holds(
        &mut self,
        from: (BoardId, Epoch),
        lines: Vec<(Stream, RangeSet)>,
        last: bool,
        now: Instant,
    ) {
        if self.upkeep.census.handle_holds(from, lines, last, now) {
            self.upkeep.survey_soon(now);
        }
    }

    /// A board asks for records that it lost.
    pub(super) fn handle_fetch(&mut self, from: BoardId, number: u64, wanted: &[(Stream, SeqRange)]) {
        let known = Known {
            held: self.journal.held(),
            holes: self.upkeep.repair.holes(),
            is_in_doubt: self.journal.is_poisoned() || self.upkeep.scrub.is_urgent(),
        };
        let keeper = &self.keeper;
        let waits = |stream: &Stream, range| keeper.is_coming(stream, range);
        self.upkeep.answering.handle_fetch(from, number, wanted, known, waits);
    }

    /// A copy that is missing here, or that is owed to this board.
    pub(super) fn handle_repair(&mut self, from: BoardId, run: Run, out: &mut Outbox<Action>) {
        let (stream, range) = (run.stream, run.range());
        let held = self.journal.held();
        let is_lost = range.is_some_and(|range| self.upkeep.repair.may_take(&stream, range, held.get(&stream)));
        // Records of this life come from its admission and from nowhere else, but for those that it has lost; and what is lost
        // is taken as long as anything is.
        let may_come = stream.origin != self.origin || is_lost;
        let has_room = self.has_room_for_copies() || (is_lost && self.journal.takes(stream.class));
        let taken = match may_come && has_room {
            true => self.keeper.handle_repair(from, run, held),
            false => Taken::Refused,
        };
        confirm(from, stream, range, taken, out);
    }

    fn has_room_for_copies(&self) -> bool {
        let (used, max) = self.journal.fill();
        used * 4 <= max * REPAIR_QUARTERS && self.journal.takes(Class::Bulk)
    }

    /// Copies that nobody waits for go along with a block: a small share of it, or one run.
    pub(super) fn take_repairs(&mut self, runs: &mut Vec<Run>, bytes: usize, floor: usize) {
        let mut share = 0;
        while let Some((next, class)) = self.keeper.next_repair() {
            let next = next + RUN_OVERHEAD;
            let floor = floor.max(self.journal.floor(class));
            let fits = bytes + share + next <= COMMIT_BYTES_MAX && self.journal.can_append(bytes + share + next, floor);
            if !fits || (share > 0 && share + next > REPAIR_SHARE_BYTES) {
                return;
            }
            share += next;
            runs.extend(self.keeper.take_repair());
        }
    }

    /// Records have become durable here.
    pub(super) fn note_kept(&mut self, stream: &Stream, range: SeqRange, now: Instant, out: &mut Outbox<Action>) {
        self.upkeep.census.handle_kept(stream, now);
        let filled = self.upkeep.repair.handle_held(stream, range);
        if filled > 0 && self.upkeep.repair.missing() == 0 {
            out.push(Action::Notice(Event::Repaired { records: self.upkeep.repair.counts().filled }));
            self.free_covered(now, out);
        }
    }

    /// What the region covers is no hole.
    pub(super) fn cover_holes(&mut self, lines: &[Coverage], now: Instant) {
        for line in lines {
            self.upkeep.repair.handle_covered(line.stream, &line.ranges, line.whole, now);
        }
    }

    /// The region is asked anew: also about streams of which nothing is left here but holes.
    pub(super) fn ask_about_holes(&mut self, out: &mut Outbox<Action>) {
        self.upkeep.repair.handle_route();
        let held = self.journal.held();
        let streams: Vec<Stream> = self
            .upkeep
            .repair
            .streams()
            .into_iter()
            .filter(|stream| !held.contains_key(stream))
            .collect();
        self.ask(streams.chunks(COVERAGE_STREAMS_MAX).map(<[Stream]>::to_vec).collect(), out);
    }

    /// A reader met damage that was not known: the segment is verified before anything else is read.
    pub(super) fn meet_damage(&mut self, segment: SegmentId, offset: u32, out: &mut Outbox<Action>) {
        if self.note_damage(segment, offset, out) {
            self.upkeep.scrub.suspect(segment);
        }
    }

    fn note_damage(&mut self, segment: SegmentId, offset: u32, out: &mut Outbox<Action>) -> bool {
        let mut jobs = Outbox::default();
        let is_new = self.journal.note_damaged_place(segment, offset, &mut jobs);
        push_jobs(&mut jobs, out);
        // A segment that goes because its records stand in this one, too, would take the last sound copy with it.
        self.cleaner.handle_doubt(segment, &self.journal.claimed(segment));
        if is_new {
            out.push(Action::Notice(Event::JournalDamaged { segment, offset }));
        }
        is_new
    }

    /// A piece of the journal was read to be verified.
    pub(super) fn handle_verified(&mut self, read: &scrub::Read, bytes: &[u8], now: Instant, out: &mut Outbox<Action>) {
        let verified = self.upkeep.scrub.handle_read(read, bytes, &self.journal, now);
        for offset in verified.damaged {
            self.note_damage(read.segment, offset, out);
        }
        if !verified.lost.is_empty() {
            self.lose(read.segment, &verified.lost, now, out);
        }
    }

    /// `segment` does not hold `lost` after all: claimed no more, and asked for.
    fn lose(&mut self, segment: SegmentId, lost: &BTreeMap<Stream, RangeSet>, now: Instant, out: &mut Outbox<Action>) {
        let gone = self.journal.lose(segment, lost);
        let covered = self.uplink.covered();
        let before = self.upkeep.repair.missing();
        for (stream, ranges) in &gone {
            let missing = covered
                .get(stream)
                .map_or_else(|| ranges.clone(), |covered| ranges.minus(covered));
            self.upkeep.repair.open(*stream, &missing, now);
        }
        let own = Stream { origin: self.origin, class: Class::Alarm };
        if gone.iter().any(|(stream, _)| *stream == own) {
            // A board that is away for long may have them, and until it is back nobody would know what they say.
            self.upkeep.repair.forget_named();
            self.declare_again(now);
        }
        let records = self.upkeep.repair.missing() - before;
        if records > 0 {
            out.push(Action::Notice(Event::RecordsMissing { segment, records }));
        }
        self.uplink.retain(self.journal.held());
        self.uplink.refresh(origins(&self.config, &self.membership, &self.journal), now);
        self.upkeep.inventory_soon(now);
        self.upkeep.survey_soon(now);
    }

    fn ask_for_missing(&mut self, now: Instant, out: &mut Outbox<Action>) {
        self.name_missing(now, out);
        if now < self.upkeep.repair.next_deadline().at || self.journal.is_poisoned() {
            return;
        }
        let holes = self.upkeep.repair.holes();
        let holders = holes
            .iter()
            .flat_map(|(stream, ranges)| self.upkeep.census.holders(stream, ranges).iter().collect::<Vec<_>>());
        let members = Members {
            peers: self.config.peers(),
            linked: self.linked,
            holders: holders.collect(),
            has_region: self.config.has_region,
        };
        let (mut outputs, mut gap_records_gone, mut any_gone) = (Outbox::default(), false, false);
        self.upkeep.repair.pump(members, now, &mut outputs);
        while let Some(output) = outputs.pop() {
            match output {
                Output::Fetch { to, number, wanted } => {
                    out.push(Action::Send { to, message: PeerMessage::Fetch { number, wanted } });
                }
                Output::Ask(stream) => self.ask(alloc::vec![alloc::vec![stream]], out),
                Output::Gone { stream, range, declare } => {
                    out.push(Action::Notice(Event::RecordsGone { stream, range }));
                    any_gone = true;
                    gap_records_gone |= stream == (Stream { origin: self.origin, class: Class::Alarm });
                    if declare {
                        self.name_damaged(&[(stream, range)], now);
                    }
                }
            }
        }
        if gap_records_gone {
            self.upkeep.repair.forget_named();
            self.declare_again(now);
        }
        if any_gone {
            // Damaged segments stayed for what is named now; where that is to be written first, they go when it is.
            self.free_covered(now, out);
        }
    }

    /// Where damaged segments stay for what is missing alone, and room is short, that is named, so that they may go.
    fn name_missing(&mut self, now: Instant, out: &mut Outbox<Action>) {
        if self.journal.is_poisoned() || !self.journal.is_held_up(self.uplink.covered()) {
            return;
        }
        let missing = self.upkeep.repair.name();
        self.name_damaged(&missing, now);
        if !self.upkeep.repair.has_unnamed() && self.upkeep.naming.is_none() {
            self.free_covered(now, out);
        }
    }

    fn name_damaged(&mut self, missing: &[(Stream, SeqRange)], now: Instant) {
        // How many bytes they were nobody knows.
        let name = |(stream, range): &(Stream, SeqRange)| Gap {
            stream: *stream,
            range: *range,
            bytes: 0,
            reason: GapReason::Damaged,
        };
        let gaps: Vec<Gap> = missing.iter().map(name).collect();
        if !gaps.is_empty() {
            self.upkeep.naming = Some(self.admission.handle_gaps(&gaps, self.wall, now));
        }
    }

    fn answer_fetches(&mut self, out: &mut Outbox<Action>) {
        while !self.upkeep.answering.is_idle() {
            let read = self
                .upkeep
                .answering
                .wants_read(|cursor, wanted| self.journal.next_to_read(cursor, wanted));
            let Some((to, answer)) = self.upkeep.answering.take_answer(read.is_some()) else {
                return;
            };
            out.push(Action::Send { to, message: PeerMessage::Fetched(answer) });
        }
    }

    /// The next piece of the journal to be verified, and since when it is due.
    pub(super) fn next_scrub(&self) -> Option<(scrub::Read, Instant)> {
        let read = self.upkeep.scrub.wants_read(&self.journal)?;
        Some((read, self.upkeep.scrub.next_deadline().at))
    }

    /// Whether verification that is due since `due` goes before other reads.
    pub(super) fn scrub_goes_first(&self, due: Instant, now: Instant) -> bool {
        self.upkeep.scrub.is_urgent() || now >= due + SCRUB_WAITS_MAX
    }
}

/// Says what became of a copy.
pub(super) fn confirm(from: BoardId, stream: Stream, range: Option<SeqRange>, taken: Taken, out: &mut Outbox<Action>) {
    match (taken, range) {
        (Taken::Queued, _) => {}
        (Taken::Held, Some(range)) => {
            let message = PeerMessage::Durable(alloc::vec![(stream, range)]);
            out.push(Action::Send { to: from, message });
        }
        (Taken::Held, None) | (Taken::Refused, _) => out.push(Action::Notice(Event::CopyRefused { from })),
    }
}

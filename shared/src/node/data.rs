//! The data path: offer → admit → journal ∥ copies → commit → answer; journal → seal → region or holder → coverage →
//! free. Reads top to bottom in that order.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::{Action, Answer, DiskJob, Offer};
use crate::event::Event;
use crate::ids::{BoardId, Class, SegmentId, Seq, Ticket, Token};
use crate::journal::RUN_OVERHEAD;
use crate::journal::format::{Found, decode};
use crate::journal::room::UPKEEP;
use crate::limits::{COMMIT_BYTES_MAX, PAGE_BYTES, READ_BYTES};
use crate::node::upkeep::confirm;
use crate::node::{Node, Purpose, READ_PERIOD, origins, push_jobs};
use crate::outbox::Outbox;
use crate::replicate::keeper::{self, carries_gap};
use crate::replicate::origin::{Committed, Output, Replication};
use crate::seal::Sealed;
use crate::time::Instant;
use crate::uplink::{Cursor, Direction, Route, Taken, WentBack};
use crate::wire::peer::{Coverage, PeerMessage, Run};
use crate::wire::uplink::{Block, ToRegion};

impl Node {
    /// Publishes arrived. Call only while [`Node::accepts`]; answers come by [`Action::Answer`].
    pub fn handle_offers(&mut self, offers: Vec<Offer>, now: Instant, out: &mut Outbox<Action>) {
        let mut refused = Vec::new();
        for offer in &offers {
            self.wall = self.wall.max(offer.record.taken);
            self.admission.handle_offer(offer, now, &mut refused);
        }
        if !refused.is_empty() {
            out.push(Action::Answer(refused));
        }
        self.pump(now, out);
    }

    /// Moves everything on that can move: the end of every input of the data path.
    pub(super) fn pump(&mut self, now: Instant, out: &mut Outbox<Action>) {
        self.uplink.note(self.journal.held(), now);
        self.write(now, out);
        self.commit(out);
        self.make_room(now, out);
        self.keep_up(now, out);
        self.read(now, out);
        self.seal(now, out);
        self.notice_room(now, out);
    }

    /// Group commit: whatever has gathered, own records, copies and what is written again alike, becomes one block and one
    /// fdatasync. It begins once a record has waited as long as its class may; then everything goes along.
    pub(super) fn write(&mut self, now: Instant, out: &mut Outbox<Action>) {
        self.linger_until = None;
        if !self.journal.is_idle() {
            return;
        }
        let due = self.admission.next_deadline();
        let others = self.keeper.waits() || self.keeper.next_repair().is_some() || self.cleaner.next_bytes(0).is_some();
        if !others && due.at > now {
            self.linger_until = Some(due).filter(|due| due.at != Instant::NEVER);
            return;
        }
        self.admission.handle_write(now);
        let mut batch = Batch::default();
        let mut copies = Outbox::default();
        while let Some(pick) = self.pick(&batch) {
            batch.bytes += pick.bytes;
            batch.floor = batch.floor.max(pick.floor);
            match pick.source {
                Source::Own(class) => {
                    if let Some(own) = self.admission.take_run(class) {
                        batch.runs.push(own.run.clone());
                        self.replication.handle_run(own, self.peers(), now, &mut copies);
                    }
                    batch.own_next = false;
                }
                Source::Copy(class) => {
                    batch.runs.extend(self.keeper.take_run(class));
                    batch.own_next = true;
                }
                Source::Again => {
                    batch.runs.extend(self.cleaner.take_run());
                    batch.again += pick.bytes;
                }
            }
        }
        send_copies(&mut copies, &self.replication, out);
        self.take_repairs(&mut batch.runs, batch.bytes, batch.floor);
        if !batch.runs.is_empty() {
            let mut jobs = Outbox::default();
            self.journal.append(&batch.runs, now, &mut jobs);
            push_jobs(&mut jobs, out);
        }
    }

    /// The next run of the block that gathers in `batch`: alarms first, then what frees a segment, then the rest, in which own
    /// records and copies take turns, so that neither starves the other. Passed over is what the journal has no room for.
    fn pick(&self, batch: &Batch) -> Option<Pick> {
        let turns = |class| match batch.own_next {
            true => [Source::Own(class), Source::Copy(class)],
            false => [Source::Copy(class), Source::Own(class)],
        };
        let [alarm, event, bulk] = Class::ALL.map(turns);
        let order = alarm.into_iter().chain([Source::Again]).chain(event).chain(bulk);
        let mut picks = order.filter_map(|source| {
            let (bytes, floor) = match source {
                // With a gap record, and what was numbered before it, room is made.
                Source::Own(Class::Alarm) if self.admission.has_gap() => {
                    (self.admission.next_bytes(Class::Alarm)?, UPKEEP)
                }
                Source::Own(class) => (self.admission.next_bytes(class)?, self.journal.floor(class)),
                Source::Copy(Class::Alarm) if self.keeper.has_gap() => (self.keeper.next_bytes(Class::Alarm)?, UPKEEP),
                Source::Copy(class) => (self.keeper.next_bytes(class)?, self.journal.floor(class)),
                Source::Again => (self.cleaner.next_bytes(batch.again)?, UPKEEP),
            };
            Some(Pick { source, bytes: bytes + RUN_OVERHEAD, floor })
        });
        let fits = |pick: &Pick| {
            let bytes = batch.bytes + pick.bytes;
            // What is written again fills a segment up before it begins another: else freeing one could win nothing.
            let overflows = !batch.runs.is_empty() && !self.journal.fits_active(bytes);
            if matches!(pick.source, Source::Again) && overflows {
                return false;
            }
            bytes <= COMMIT_BYTES_MAX && self.journal.can_append(bytes, batch.floor.max(pick.floor))
        };
        picks.find(fits)
    }

    pub(super) fn handle_appended(&mut self, token: Token, now: Instant, out: &mut Outbox<Action>) {
        self.admission.handle_synced(now);
        for (stream, range) in self.journal.handle_appended(token) {
            self.replication.handle_synced(&stream, range);
            self.note_kept(&stream, range, now, out);
        }
        self.cleaner.handle_durable();
        for (to, confirmed) in self.keeper.handle_durable() {
            out.push(Action::Send { to, message: PeerMessage::Durable(confirmed) });
        }
        self.uplink.refresh(origins(&self.config, &self.membership, &self.journal), now);
    }

    /// A peer asks for a copy to be kept.
    pub(super) fn handle_copy(&mut self, from: BoardId, run: Run, committed: Seq, out: &mut Outbox<Action>) {
        let (stream, range) = (run.stream, run.range());
        if stream.origin.board == from && self.keeper.handle_commit(&stream, committed) {
            self.journal.note_committed();
        }
        // While room is being made a copy may wait for it.
        let room = self.journal.takes(stream.class) || self.cleaner.is_busy() || carries_gap(&run);
        let welcome = stream.origin.board != self.config.board && room && !self.journal.is_poisoned();
        let taken = match welcome {
            true => self.keeper.handle_copy(from, run, self.journal.held()),
            false => keeper::Taken::Refused,
        };
        confirm(from, stream, range, taken, out);
    }

    /// Sends what lacks a copy.
    pub(super) fn replicate_more(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let mut copies = Outbox::default();
        self.replication.pump(self.peers(), now, &mut copies);
        send_copies(&mut copies, &self.replication, out);
        self.refill.handle_targets(self.replication.targets(self.peers()), now);
    }

    /// Answers what is durable on k boards.
    fn commit(&mut self, out: &mut Outbox<Action>) {
        if self.journal.is_poisoned() {
            return;
        }
        let committed = self.replication.take_committed(self.presumed());
        if !committed.is_empty() {
            self.journal.note_committed();
        }
        let mut answers: Vec<(Ticket, Answer)> = Vec::new();
        for Committed { own, copies } in committed {
            self.admission.handle_committed(&own.run);
            if copies < self.config.copies
                && let Some(range) = own.run.range()
            {
                self.refill.handle_degraded(own.run.stream, range);
            }
            answers.extend(own.tickets.into_iter().map(|ticket| (ticket, Answer::Committed)));
            self.notice_copies(copies, out);
        }
        if !answers.is_empty() {
            out.push(Action::Answer(answers));
        }
    }

    /// Tells each new low of copies once, and when k is reached again.
    fn notice_copies(&mut self, copies: usize, out: &mut Outbox<Action>) {
        let wanted = self.config.copies;
        if copies >= wanted {
            if self.degraded.take().is_some() {
                out.push(Action::Notice(Event::Restored));
            }
        } else if self.degraded.is_none_or(|lowest| copies < lowest) {
            self.degraded = Some(copies);
            out.push(Action::Notice(Event::Degraded { copies, wanted }));
        }
    }

    /// What is to be read next, and when: owed copies before answers to boards that lost records, these before the
    /// uplink's blocks, and verification where nothing else is to be read, or where it has waited for long.
    pub(super) fn next_read(&self, now: Instant) -> Option<(Purpose, Instant)> {
        if self.journal.is_poisoned() {
            return None;
        }
        let wanted = self.next_wanted(now);
        let scrub = self.next_scrub().map(|(read, due)| (Purpose::Scrub(read), due));
        match (wanted, scrub) {
            (Some((_, after)), Some((scrub, due)))
                if now >= due && (now < after || self.scrub_goes_first(due, now)) =>
            {
                Some((scrub, due))
            }
            (Some((wanted, after)), Some((_, due))) => Some((wanted, if now < after { after.min(due) } else { after })),
            (wanted, scrub) => wanted.or(scrub),
        }
    }

    /// What somebody waits for, and when it is read.
    fn next_wanted(&self, now: Instant) -> Option<(Purpose, Instant)> {
        if let Some((segment, offset, length)) = self.cleaner.wants_read() {
            // What frees a segment is waited for.
            return Some((Purpose::Clean { segment, offset, length }, Instant::ZERO));
        }
        let refill = self
            .refill
            .wants_read(|cursor, wanted| self.journal.next_to_read(cursor, wanted));
        if let Some(read) = refill {
            return Some((Purpose::Refill(read), self.read_after));
        }
        let answer = self
            .upkeep
            .answering
            .wants_read(|cursor, wanted| self.journal.next_to_read(cursor, wanted));
        if let Some(read) = answer {
            return Some((Purpose::Answer(read), self.read_after));
        }
        if !self.config.has_region {
            return None;
        }
        let (read, after) = self.uplink.wants_read(now, |direction, cursor, wanted| match direction {
            Direction::Onwards => self.journal.next_to_read(cursor, wanted),
            Direction::Backwards => self.journal.last_to_read(cursor, wanted),
        })?;
        Some((Purpose::Uplink(read), after))
    }

    /// Reads on in the journal. One read at a time, so that a commit waits for one at most.
    fn read(&mut self, now: Instant, out: &mut Outbox<Action>) {
        if self.reading.is_some() {
            return;
        }
        let Some((purpose, _)) = self.next_read(now).filter(|(_, at)| now >= *at) else {
            return;
        };
        let (segment, offset, length) = purpose.place();
        let token = self.token();
        self.reading = Some((token, purpose));
        if let Purpose::Scrub(read) = purpose {
            self.upkeep.scrub.handle_reading(&read, &self.journal, now);
            out.push(Action::Disk(DiskJob::Verify { token, segment, offset, length }));
            return;
        }
        match purpose {
            Purpose::Clean { .. } => {}
            Purpose::Uplink(read) => self.uplink.handle_reading(&read, now),
            // A whole helping means a backlog: go on at once. Less means all that is new was read: let some gather.
            _ if length < READ_BYTES => self.read_after = now + READ_PERIOD,
            _ => {}
        }
        let length = length.min(READ_BYTES);
        out.push(Action::Disk(DiskJob::Read { token, segment, offset, length }));
    }

    pub(super) fn handle_read(&mut self, token: Token, bytes: &Bytes, now: Instant, out: &mut Outbox<Action>) {
        let Some((_, purpose)) = self.reading.take_if(|(asked, _)| *asked == token) else {
            return;
        };
        let (segment, offset, _) = purpose.place();
        if let Purpose::Scrub(read) = purpose {
            return self.handle_verified(&read, bytes, now, out);
        }
        let Blocks { runs, cursor, damaged } = blocks_in(segment, offset, bytes);
        if let Some(offset) = damaged {
            self.meet_damage(segment, offset, out);
        }
        match purpose {
            Purpose::Clean { segment, .. } => self.cleaner.handle_read(segment, runs, cursor.1, damaged.is_some()),
            Purpose::Uplink(read) => self.uplink.handle_read(&read, runs, cursor),
            Purpose::Refill(read) => {
                let (targets, runs) = self.refill.handle_read(&read, runs, cursor);
                for (to, run) in targets.iter().flat_map(|to| runs.iter().map(move |run| (to, run.clone()))) {
                    out.push(Action::Send { to, message: PeerMessage::Repair(run) });
                }
            }
            Purpose::Answer(read) => {
                for (to, run) in self.upkeep.answering.handle_read(&read, runs, cursor) {
                    out.push(Action::Send { to, message: PeerMessage::Repair(run) });
                }
            }
            Purpose::Scrub(_) => {}
        }
    }

    /// Seals what was read and sends it on.
    fn seal(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let mut sealed = Vec::new();
        while let Some(Taken { waits, stream, range, bytes }) = self.uplink.take_records() {
            self.sealer.handle_records((waits, stream), range, &bytes, now, &mut sealed);
        }
        self.sealer.handle_deadline(now, &mut sealed);
        for Sealed { waits, block } in sealed {
            self.uplink.handle_sent(&block, now);
            match self.uplink.route() {
                Route::Region(_) => out.push(Action::ToRegion { message: ToRegion::Block(block), waits }),
                Route::Holder(to, _) if waits => out.push(Action::Send { to, message: PeerMessage::Backlog(block) }),
                Route::Holder(to, _) => out.push(Action::Send { to, message: PeerMessage::Block(block) }),
                Route::Closed => {}
            }
        }
    }

    /// A board's block, to be passed on by the holder.
    pub(super) fn handle_block(&mut self, block: Block, waits: bool, out: &mut Outbox<Action>) {
        // What was sealed for an earlier session its board sends again, packed for this one.
        if matches!(self.uplink.route(), Route::Region(_)) && self.sealer.reads().takes(block.codec) {
            out.push(Action::ToRegion { message: ToRegion::Block(block), waits });
        }
    }

    /// The region's word on what it has stored.
    pub(super) fn handle_coverage(&mut self, lines: Vec<Coverage>, now: Instant, out: &mut Outbox<Action>) {
        self.cover_holes(&lines, now);
        let fresh = self.uplink.handle_coverage(lines, self.journal.held(), now);
        for stream in fresh {
            if let Some(covered) = self.uplink.covered().get(&stream) {
                self.replication.handle_covered(&stream, covered, self.config.peers());
                self.refill.handle_covered(&stream, covered, now);
            }
        }
        self.commit(out);
        let mut jobs = Outbox::default();
        for WentBack { stream, is_another } in self.uplink.take_went_back() {
            self.journal.handle_went_back(&stream, &mut jobs);
            // What it is about to free may be what the region has lost.
            self.cleaner.give_up();
            if !is_another {
                out.push(Action::Notice(Event::CoverageWentBack { stream }));
            }
        }
        push_jobs(&mut jobs, out);
        self.free_covered(now, out);
        self.forget_declared();
    }

    /// Frees what the region covers.
    pub(super) fn free_covered(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let mut jobs = Outbox::default();
        // Until the gap records that name what is gone are committed, a start must know it from the damaged segments.
        let has_holes = self.upkeep.repair.has_unnamed() || self.upkeep.naming.is_some();
        let freed = self.journal.free(self.uplink.covered(), has_holes, now, &mut jobs);
        self.upkeep.scrub.handle_freed(&freed);
        for segment in freed {
            out.push(Action::Notice(Event::SegmentFreed { segment }));
        }
        if self.cleaner.victim().is_some_and(|victim| !self.journal.has_segment(victim)) {
            self.cleaner.give_up();
        }
        push_jobs(&mut jobs, out);
        self.uplink.retain(self.journal.held());
        self.uplink.refresh(origins(&self.config, &self.membership, &self.journal), now);
    }
}

fn send_copies(copies: &mut Outbox<Output>, replication: &Replication, out: &mut Outbox<Action>) {
    while let Some(Output::Copy { to, run }) = copies.pop() {
        let committed = replication.committed(run.stream.class);
        out.push(Action::Send { to, message: PeerMessage::Copy { run, committed } });
    }
}

impl Purpose {
    /// Segment, offset, bytes to its durable end.
    const fn place(&self) -> (SegmentId, u32, u32) {
        match self {
            Self::Clean { segment, offset, length } => (*segment, *offset, *length),
            Self::Uplink(read) => (read.segment, read.offset, read.length),
            Self::Refill(read) => (read.segment, read.offset, read.length),
            Self::Answer(read) => (read.segment, read.offset, read.length),
            Self::Scrub(read) => (read.segment, read.offset, read.length),
        }
    }
}

/// Where the next run of a block comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// This board's own records.
    Own(Class),
    /// Copies that peers sent.
    Copy(Class),
    /// What stands in a segment that is to be freed.
    Again,
}

/// A run that is to be written next.
#[derive(Clone, Copy, Debug)]
struct Pick {
    source: Source,
    bytes: usize,
    /// How many segments have to stay free of it.
    floor: usize,
}

/// A block as it gathers.
#[derive(Debug, Default)]
struct Batch {
    runs: Vec<Run>,
    bytes: usize,
    /// Of these, bytes that are written again.
    again: usize,
    floor: usize,
    own_next: bool,
}

/// What a read of durable bytes found.
struct Blocks {
    runs: Vec<Run>,
    /// Where reading goes on.
    cursor: Cursor,
    /// The first place that holds no whole block although it was durable: a copy must bring its records up.
    damaged: Option<u32>,
}

/// The whole blocks in `bytes`. What is damaged is passed over.
fn blocks_in(segment: SegmentId, start: u32, bytes: &Bytes) -> Blocks {
    let place = |at: usize| start.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
    let (mut runs, mut damaged, mut at) = (Vec::new(), None, 0);
    while at < bytes.len() {
        match decode(segment, place(at), &bytes[at..]) {
            Found::Block { header, runs: found } => {
                runs.extend(found);
                at += header.block_bytes();
            }
            // The read ended within the block; at the front of a read it cannot: a read takes in a whole block.
            Found::Broken(header) if at > 0 && at + header.block_bytes() > bytes.len() => break,
            Found::Sealed(header) | Found::Broken(header) => {
                damaged.get_or_insert(place(at));
                at += header.block_bytes();
            }
            Found::Nothing => {
                damaged.get_or_insert(place(at));
                at += PAGE_BYTES;
            }
        }
    }
    Blocks { runs, cursor: (segment, place(at)), damaged }
}

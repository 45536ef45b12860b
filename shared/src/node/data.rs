//! The data path: offer → admit → journal ∥ copies → commit → answer; journal → seal → region or holder → coverage →
//! free. Reads top to bottom in that order.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::{Action, Answer, DiskJob, Offer};
use crate::event::Event;
use crate::ids::{BoardId, SegmentId, Ticket, Token};
use crate::journal::RUN_OVERHEAD;
use crate::journal::format::{Found, decode};
use crate::limits::{COMMIT_BYTES_MAX, PAGE_BYTES, READ_BYTES};
use crate::node::{Node, Purpose, READ_PERIOD, origins, push_jobs};
use crate::outbox::Outbox;
use crate::replicate::keeper::Taken;
use crate::replicate::origin::{Committed, Output};
use crate::time::Instant;
use crate::uplink::{Cursor, Route};
use crate::wire::peer::{Coverage, PeerMessage, Run};
use crate::wire::uplink::{Block, ToRegion};

impl Node {
    /// Publishes arrived. Call only while [`Node::accepts`]; answers come by [`Action::Answer`].
    pub fn handle_offers(&mut self, offers: Vec<Offer>, now: Instant, out: &mut Outbox<Action>) {
        let mut refused = Vec::new();
        for offer in &offers {
            self.admission.handle_offer(offer, &mut refused);
        }
        if !refused.is_empty() {
            out.push(Action::Answer(refused));
        }
        self.pump(now, out);
    }

    /// Moves everything on that can move: the end of every input of the data path.
    pub(super) fn pump(&mut self, now: Instant, out: &mut Outbox<Action>) {
        self.write(now, out);
        self.commit(out);
        self.read(now, out);
        self.seal(now, out);
        self.notice_room(out);
    }

    /// Group commit: whatever has gathered, own records and copies alike, becomes one block and one fdatasync.
    fn write(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let (mut runs, mut bytes, mut own_next) = (Vec::new(), 0, true);
        let mut copies = Outbox::default();
        loop {
            let (own, copy) = (self.admission.next_bytes(), self.keeper.next_bytes());
            // Own records and copies take turns, so that neither starves the other.
            let take_own = own.is_some() && (own_next || copy.is_none());
            let Some(next) = (if take_own { own } else { copy }) else { break };
            if bytes + next + RUN_OVERHEAD > COMMIT_BYTES_MAX || !self.journal.can_append(bytes + next + RUN_OVERHEAD) {
                break;
            }
            bytes += next + RUN_OVERHEAD;
            own_next = !take_own;
            if !take_own {
                runs.extend(self.keeper.take_run());
            } else if let Some(own) = self.admission.take_run() {
                runs.push(own.run.clone());
                self.replication.handle_run(own, self.peers(), now, &mut copies);
            }
        }
        send_copies(&mut copies, out);
        if !runs.is_empty() {
            let mut jobs = Outbox::default();
            self.journal.append(&runs, &mut jobs);
            push_jobs(&mut jobs, out);
        }
    }

    pub(super) fn handle_appended(&mut self, token: Token, now: Instant, out: &mut Outbox<Action>) {
        for (stream, range) in self.journal.handle_appended(token) {
            self.replication.handle_synced(&stream, range);
        }
        for (to, confirmed) in self.keeper.handle_durable() {
            out.push(Action::Send { to, message: PeerMessage::Durable(confirmed) });
        }
        self.uplink.refresh(origins(&self.config, &self.membership, &self.journal), now);
    }

    /// A peer asks for a copy to be kept.
    pub(super) fn handle_copy(&mut self, from: BoardId, run: Run, out: &mut Outbox<Action>) {
        let (stream, range) = (run.stream, run.range());
        let welcome = stream.origin.board != self.config.board && !self.journal.is_full();
        let taken = match welcome {
            true => self.keeper.handle_copy(from, run, self.journal.held()),
            false => Taken::Refused,
        };
        match (taken, range) {
            (Taken::Queued, _) => {}
            (Taken::Held, Some(range)) => {
                let message = PeerMessage::Durable(alloc::vec![(stream, range)]);
                out.push(Action::Send { to: from, message });
            }
            (Taken::Held, None) | (Taken::Refused, _) => out.push(Action::Notice(Event::CopyRefused { from })),
        }
    }

    /// Sends what lacks a copy.
    pub(super) fn replicate_more(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let mut copies = Outbox::default();
        self.replication.pump(self.peers(), now, &mut copies);
        send_copies(&mut copies, out);
        self.refill.handle_targets(self.replication.targets(self.peers()), now);
    }

    /// Answers what is durable on k boards.
    fn commit(&mut self, out: &mut Outbox<Action>) {
        if self.journal.is_poisoned() {
            return;
        }
        let committed = self.replication.take_committed(self.presumed());
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

    /// What is to be read next, owed copies before the uplink's blocks.
    pub(super) fn next_read(&self) -> Option<Purpose> {
        if self.journal.is_poisoned() {
            return None;
        }
        let refill = self
            .refill
            .wants_read(|cursor, wanted| self.journal.next_to_read(cursor, wanted));
        if let Some(read) = refill {
            return Some(Purpose::Refill(read));
        }
        let region = self.config.has_region;
        let uplink = || {
            self.uplink
                .wants_read(|cursor, wanted| self.journal.next_to_read(cursor, wanted))
        };
        region.then(uplink).flatten().map(Purpose::Uplink)
    }

    /// Reads on in the journal, for the region or for owed copies.
    fn read(&mut self, now: Instant, out: &mut Outbox<Action>) {
        if self.reading.is_some() || now < self.read_after {
            return;
        }
        let Some(purpose) = self.next_read() else { return };
        let (segment, offset, length) = purpose.place();
        let token = self.token();
        self.reading = Some((token, purpose));
        // A whole helping means a backlog: go on at once. Less means all that is fresh was read: let some gather.
        if length < READ_BYTES {
            self.read_after = now + READ_PERIOD;
        }
        let length = length.min(READ_BYTES);
        out.push(Action::Disk(DiskJob::Read { token, segment, offset, length }));
    }

    pub(super) fn handle_read(&mut self, token: Token, bytes: &Bytes, out: &mut Outbox<Action>) {
        let Some((_, purpose)) = self.reading.take_if(|(asked, _)| *asked == token) else {
            return;
        };
        let (segment, offset, _) = purpose.place();
        let Blocks { runs, cursor, damaged } = blocks_in(segment, offset, bytes);
        if let Some(offset) = damaged {
            out.push(Action::Notice(Event::JournalDamaged { segment, offset }));
        }
        match purpose {
            Purpose::Uplink(read) => self.uplink.handle_read(&read, runs, cursor),
            Purpose::Refill(read) => {
                let (targets, runs) = self.refill.handle_read(&read, runs, cursor);
                for (to, run) in targets.iter().flat_map(|to| runs.iter().map(move |run| (to, run.clone()))) {
                    out.push(Action::Send { to, message: PeerMessage::Copy(run) });
                }
            }
        }
    }

    /// Seals what was read and sends it on.
    fn seal(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let mut sealed = Vec::new();
        while let Some((stream, range, bytes)) = self.uplink.take_records() {
            self.sealer.handle_records(stream, range, &bytes, now, &mut sealed);
        }
        self.sealer.handle_deadline(now, &mut sealed);
        for block in sealed {
            self.uplink.handle_sent(&block, now);
            match self.uplink.route() {
                Route::Region(_) => out.push(Action::ToRegion(ToRegion::Block(block))),
                Route::Holder(to, _) => out.push(Action::Send { to, message: PeerMessage::Block(block) }),
                Route::Closed => {}
            }
        }
    }

    /// A board's block, to be passed on by the holder.
    pub(super) fn handle_block(&mut self, block: Block, out: &mut Outbox<Action>) {
        if matches!(self.uplink.route(), Route::Region(_)) {
            out.push(Action::ToRegion(ToRegion::Block(block)));
        }
    }

    /// The region's word on what it has stored.
    pub(super) fn handle_coverage(&mut self, lines: Vec<Coverage>, now: Instant, out: &mut Outbox<Action>) {
        let fresh = self.uplink.handle_coverage(lines, self.journal.held(), now);
        for stream in fresh {
            if let Some(covered) = self.uplink.covered().get(&stream) {
                self.replication.handle_covered(&stream, covered, self.config.peers());
                self.refill.handle_covered(&stream, covered, now);
            }
        }
        self.commit(out);
        for stream in self.uplink.take_went_back() {
            out.push(Action::Notice(Event::CoverageWentBack { stream }));
        }
        let mut jobs = Outbox::default();
        for segment in self.journal.free(self.uplink.covered(), &mut jobs) {
            out.push(Action::Notice(Event::SegmentFreed { segment }));
        }
        push_jobs(&mut jobs, out);
        self.uplink.retain(self.journal.held());
        self.uplink.refresh(origins(&self.config, &self.membership, &self.journal), now);
    }

    fn notice_room(&mut self, out: &mut Outbox<Action>) {
        let full = self.journal.is_full() && !self.journal.is_poisoned();
        if full != self.full {
            self.full = full;
            out.push(Action::Notice(if full { Event::JournalFull } else { Event::JournalRoom }));
        }
    }
}

fn send_copies(copies: &mut Outbox<Output>, out: &mut Outbox<Action>) {
    while let Some(Output::Copy { to, run }) = copies.pop() {
        out.push(Action::Send { to, message: PeerMessage::Copy(run) });
    }
}

impl Purpose {
    /// Segment, offset, bytes to its durable end.
    const fn place(&self) -> (SegmentId, u32, u32) {
        match self {
            Self::Uplink(read) => (read.segment, read.offset, read.length),
            Self::Refill(read) => (read.segment, read.offset, read.length),
        }
    }
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

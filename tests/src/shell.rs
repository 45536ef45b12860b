//! A board's shell: hands one input after the other to the node and performs its actions in order, as the firmware
//! does. Decides nothing; what leaves here is held to the promises at once.

use std::time::Duration;

use shared::action::{Action, Answer, DiskDone, DiskJob, Evidence, Offer};
use shared::event::Event;
use shared::ids::{BoardId, SegmentId, Stream, Ticket};
use shared::journal::format::{Found, decode};
use shared::node::Node;
use shared::outbox::Outbox;
use shared::ranges::SeqRange;
use shared::record::Record;
use shared::time::Instant;

use crate::board::{Life, Process, Waiting};
use crate::clock::Moment;
use crate::happening::{Happening, Input};
use crate::mark::Mark;
use crate::model::AnswerLeft;
use crate::mutant::Mutant;
use crate::region::Stores;
use crate::world::World;

/// Publishes that the shell hands over at once.
const OFFERS_AT_ONCE: usize = 256;
/// Handles of the deadline within this time before a board counts as stuck or as waiting busily.
const SPINS_MAX: u32 = 200;
const SPINS_WITHIN: Duration = Duration::from_millis(40);

/// What one input did, gathered while its actions are performed.
#[derive(Debug, Default)]
struct Performed {
    answers: Vec<(Mark, u64)>,
    /// Fewest boards that the node held for alive, itself included, and whether it has said that they are too few.
    fewest_alive: usize,
    degraded: bool,
    ends: bool,
}
impl World {
    /// Hands one input to the node of `board`, or keeps it while the process is frozen.
    pub(crate) fn input(&mut self, board: BoardId, input: Input) {
        let Some(process) = self.boards.get_mut(&board).and_then(|host| host.process.as_mut()) else {
            return;
        };
        if let Some(waits) = &mut process.frozen {
            waits.push_back(input);
            return;
        }
        self.drive(board, |node, now, out| match input {
            Input::Link { peer, up } => node.handle_link(peer, up, now, out),
            Input::Message { from, message } => node.handle_message(from, message, now, out),
            Input::Control { from, message } => node.handle_control(from, message, now, out),
            Input::Witness { from, message } => node.handle_witness(from, &message, now, out),
            Input::WitnessLink { witness, up } => node.handle_witness_link(witness, up, now, out),
            Input::Obituary { board, life } => node.handle_obituary(board, life, now, out),
            Input::Evidence { board, evidence } => node.handle_evidence(board, evidence, now, out),
            Input::Duty { duty, report } => node.handle_duty(duty, report, now, out),
            Input::Health(health) => node.handle_health(health, now, out),
            Input::Disk(done) => node.handle_disk(done, now, out),
            Input::RegionLink(link) => node.handle_region_link(link, now, out),
            Input::Region(message) => node.handle_region(message, now, out),
        });
    }

    /// One input, then the outbox to empty, then the checks.
    pub(crate) fn drive(&mut self, board: BoardId, handle: impl FnOnce(&mut Node, Instant, &mut Outbox<Action>)) {
        let now = self.now;
        let Some(host) = self.boards.get_mut(&board) else { return };
        let local = host.clock.local(now);
        let Some(process) = host.process.as_mut() else { return };
        let alive_before = process.node.alive().len();
        let mut out = std::mem::take(&mut self.outbox);
        handle(&mut process.node, local, &mut out);
        process.node.check();
        let fewest_alive = alive_before.min(process.node.alive().len());
        let mut performed = Performed { fewest_alive, degraded: process.degraded, ..Performed::default() };
        let mut left = process.dies_after;
        let mut dies = false;
        while let Some(action) = out.pop() {
            if left == Some(0) {
                dies = true;
                out = Outbox::default();
                break;
            }
            left = left.map(|actions| actions - 1);
            self.perform(board, action, &mut performed);
        }
        self.outbox = out;
        if let Some(process) = self.process(board) {
            process.dies_after = left;
        }
        self.after_input(board, performed, dies);
    }

    pub(crate) fn process(&mut self, board: BoardId) -> Option<&mut Process> {
        self.boards.get_mut(&board).and_then(|host| host.process.as_mut())
    }

    fn after_input(&mut self, board: BoardId, performed: Performed, dies: bool) {
        for (mark, connection) in performed.answers {
            let degraded = performed.degraded.then_some(performed.fewest_alive);
            self.answer_leaves(board, mark, degraded);
            self.send_answer(mark, connection);
        }
        self.check_leases(board);
        if dies {
            self.story.tell(self.now, board, || "dies between two actions");
            self.crash(board);
            self.boot_later(board);
        } else if performed.ends {
            self.tally.poisoned += 1;
            self.crash(board);
            self.boot_later(board);
        } else if self
            .process(board)
            .is_some_and(|process| process.stops && process.node.is_stopped())
        {
            self.story.tell(self.now, board, || "has stopped as asked");
            self.tally.stops += 1;
            self.evidence_of(board, Evidence::Leaves, Duration::from_millis(2));
            self.crash(board);
            self.boot_later(board);
        } else {
            self.plan_wake(board);
            self.plan_serve(board);
        }
    }

    fn answer_leaves(&mut self, board: BoardId, mark: Mark, degraded: Option<usize>) {
        let holders = self.boards.values().filter(|host| host.has(mark)).count();
        let left = AnswerLeft { mark, at: self.now, holders, degraded };
        if let Err(what) = self
            .model
            .answer_leaves(left, Stores::of(&self.region, self.standby.as_ref()).have(mark))
        {
            self.broken(format!("{board}: {what}"));
        }
    }

    /// Promise 4: when this board holds the lease, no other does.
    fn check_leases(&mut self, board: BoardId) {
        let Some(host) = self.boards.get(&board) else { return };
        let life = (board, host.life);
        let Some(term) = host.holds(self.now) else { return };
        let other = self.boards.values().filter(|host| host.id != board).find_map(|host| {
            let held = host.holds(self.now)?;
            Some((host.id, held))
        });
        if let Some((other, held)) = other {
            self.broken(format!("{board} holds the lease in term {term} while {other} holds it in term {held}"));
        }
        match self.model.leads(term, life) {
            Ok(new) => self.tally.takeovers += u64::from(new),
            Err(what) => self.broken(what),
        }
    }

    fn perform(&mut self, board: BoardId, action: Action, performed: &mut Performed) {
        match action {
            Action::Answer(answers) => self.perform_answers(board, answers, performed),
            Action::Disk(job) => self.perform_disk(board, job),
            Action::Send { to, message } => self.send(board, to, message),
            Action::Tell { to, message } => self.tell(board, to, message),
            Action::TellWitness { message, .. } => self.tell_witness(board, &message),
            Action::Duty { duty, order } => self.order_duty(board, duty, order),
            Action::Dial(hello) => self.dial(board, hello),
            Action::HangUp => self.hang_up(board),
            Action::ToRegion { message, waits } => self.send_to_region(board, &message, waits),
            Action::Notice(event) => self.perform_notice(board, &event, performed),
        }
    }

    fn perform_answers(&mut self, board: BoardId, answers: Vec<(Ticket, Answer)>, performed: &mut Performed) {
        for (ticket, answer) in answers {
            let waiting = self.process(board).and_then(|process| process.tickets.remove(&ticket));
            let Some(Waiting { mark, connection }) = waiting else {
                self.broken(format!("{board} answers {ticket:?}, which nobody waits for"));
                continue;
            };
            self.story.weigh(self.now, ticket.0);
            match answer {
                Answer::Committed => performed.answers.push((mark, connection)),
                Answer::Refused(why) => self.broken(format!("{board} refuses {mark}, a sound reading: {why:?}")),
            }
        }
    }

    fn perform_disk(&mut self, board: BoardId, job: DiskJob) {
        if let DiskJob::Append { segment, offset, bytes, .. } = &job {
            self.story.weigh_bytes(self.now, bytes);
            self.tally.appends += 1;
            self.block_is_written(board, *segment, *offset, bytes);
        }
        if let DiskJob::Free { .. } = &job {
            self.tally.freed += 1;
        }
        if let Some(host) = self.boards.get_mut(&board) {
            host.disk.push(job);
        }
        self.disk_begins(board);
    }

    /// What a board writes says which reading has which number, also of records that never travel.
    fn block_is_written(&mut self, board: BoardId, segment: SegmentId, offset: u32, bytes: &[u8]) {
        let Found::Block { runs, .. } = decode(segment, offset, bytes) else {
            self.broken(format!("{board} writes a block that does not read"));
            return;
        };
        for run in &runs {
            if let Err(what) = self.model.run_travels(board, run) {
                self.broken(what);
            }
        }
    }

    fn perform_notice(&mut self, board: BoardId, event: &Event, performed: &mut Performed) {
        self.story.tell(self.now, board, || format!("{event:?}"));
        match event {
            Event::Degraded { .. } => {
                performed.degraded = true;
                if let Some(process) = self.process(board) {
                    process.degraded = true;
                }
            }
            Event::Restored => {
                if let Some(process) = self.process(board) {
                    process.degraded = false;
                }
            }
            Event::JournalPoisoned => performed.ends = true,
            Event::JournalDamaged { .. } => self.tally.damaged += 1,
            Event::TornTail { .. } => self.tally.torn += 1,
            Event::RecordsMissing { .. } => self.tally.missing += 1,
            Event::Repaired { .. } => self.tally.repaired += 1,
            Event::RecordsGone { stream, range } => self.check_gone(board, stream, *range),
            Event::JournalFull => self.tally.full += 1,
            Event::RegionChanged => self.tally.region_changes += 1,
            Event::CoverageWentBack { .. } => self.tally.went_back += 1,
            Event::DeviceFull => self.tally.device_full += 1,
            Event::Shed { .. } => self.tally.sheddings += 1,
            Event::HandOver { to: Some(_), .. } => self.handed_over = Some(self.now),
            _ => {}
        }
    }

    /// Promise 3: what a board calls gone is on no disk and not in the region.
    fn check_gone(&mut self, board: BoardId, stream: &Stream, range: SeqRange) {
        self.tally.gone += 1;
        // Of two regions the board knows what the one says that it speaks with.
        let (boards, stores) = (&self.boards, Stores::of(&self.region, self.standby.as_ref()));
        let place = |mark| {
            let holder = boards.values().find(|host| !host.lost && host.disk.holds(mark));
            let stored = stores.all_have(mark).then(|| "in the region".to_owned());
            holder.map(|host| format!("on {}", host.id)).or(stored)
        };
        if let Err(what) = self.model.called_gone(stream, range, place) {
            self.broken(format!("{board}: {what}"));
        }
    }

    fn disk_begins(&mut self, board: BoardId) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        match host.disk.begin(&host.speed, &mut host.dice) {
            Ok(Some(takes)) => {
                let job = host.disk.job;
                self.put_in(takes, Happening::DiskEnds { board, job });
            }
            Ok(None) => {}
            Err(what) => self.broken(format!("{board}: {what}")),
        }
    }

    pub(crate) fn disk_ends(&mut self, board: BoardId, job: u64) {
        let lies = self.settings.mutant;
        let Some(host) = self.boards.get_mut(&board) else { return };
        if host.disk.job != job {
            return;
        }
        let done = host.disk.end(&mut host.dice, lies);
        if done == Some(DiskDone::Failed) {
            self.story.tell(self.now, board, || "a disk job fails");
        }
        self.disk_begins(board);
        if let Some(done) = done {
            self.input(board, Input::Disk(done));
        }
    }

    pub(crate) fn plan_wake(&mut self, board: BoardId) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        let life = host.life;
        let Some(process) = host.process.as_mut() else { return };
        // A timer is never early and often a little late.
        let late = Duration::from_micros(host.dice.below(150));
        let due = host.clock.moment(process.node.next_deadline().at);
        if due == Moment::NEVER || due.max(self.now) + late >= process.wake {
            return;
        }
        let at = due.max(self.now) + late;
        process.wake = at;
        self.agenda.put(at, Happening::Wake { board, life });
    }

    pub(crate) fn wake(&mut self, board: BoardId, life: Life) {
        let now = self.now;
        let Some(host) = self.boards.get_mut(&board).filter(|host| host.life == life) else {
            return;
        };
        let local = host.clock.local(now);
        let Some(process) = host.process.as_mut() else { return };
        if process.is_frozen() || process.wake > now {
            return;
        }
        process.wake = Moment::NEVER;
        let deadline = process.node.next_deadline();
        if deadline.at > local {
            self.plan_wake(board);
            return;
        }
        let (began, count) = process.spins;
        process.spins = if now.since(began) < SPINS_WITHIN {
            (began, count + 1)
        } else {
            (now, 0)
        };
        let spins = process.spins.1;
        if spins > SPINS_MAX {
            self.broken(format!(
                "{board} handles its deadline {SPINS_MAX} times within {SPINS_WITHIN:?}: {}",
                deadline.why
            ));
            return;
        }
        self.drive(board, |node, now, out| node.handle_deadline(now, out));
    }

    /// A publish arrives at a board.
    pub(crate) fn offer_arrives(
        &mut self,
        mark: Mark,
        connection: u64,
        (board, life): (BoardId, Life),
        acknowledged: bool,
        record: Record,
    ) {
        let Some(host) = self.boards.get_mut(&board).filter(|host| host.life == life) else {
            return;
        };
        let Some(process) = host.process.as_mut() else { return };
        let ticket = acknowledged.then(|| {
            let ticket = Ticket(process.next_ticket);
            process.next_ticket += 1;
            process.tickets.insert(ticket, Waiting { mark, connection });
            ticket
        });
        process.inbox.push_back(Offer { ticket, record });
        self.plan_serve(board);
        if acknowledged && self.lies(Mutant::AnswerBeforeCommit) {
            self.answer_leaves(board, mark, None);
        }
    }

    pub(crate) fn plan_serve(&mut self, board: BoardId) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        let life = host.life;
        let Some(process) = host.process.as_mut() else { return };
        if !process.inbox.is_empty() && !process.serves && process.node.accepts() && !process.is_frozen() {
            process.serves = true;
            self.put_in(Duration::from_micros(50), Happening::Serve { board, life });
        }
    }

    pub(crate) fn serve(&mut self, board: BoardId, life: Life) {
        let Some(host) = self.boards.get_mut(&board).filter(|host| host.life == life) else {
            return;
        };
        let Some(process) = host.process.as_mut() else { return };
        process.serves = false;
        if process.is_frozen() || !process.node.accepts() {
            return;
        }
        let count = process.inbox.len().min(OFFERS_AT_ONCE);
        let offers: Vec<Offer> = process.inbox.drain(..count).collect();
        if !offers.is_empty() {
            self.drive(board, |node, now, out| node.handle_offers(offers, now, out));
        }
    }
}

//! A board's node: where the stages meet, so that data flows one way and is seen to. Routes each input to its stage,
//! passes on what concerns the next, and checks the chain. Touches no disk, socket or clock itself.
//!
//! The contract of every `handle_*`: one input, with `now` not before the last one's; then the shell drains the
//! outbox to empty, performing actions in order; then the next input. All inputs that are ready are handled before a
//! deadline is. `next_deadline` says when to call `handle_deadline`, and why.
//!
//! `data.rs` is the data path from offer to region, `upkeep.rs` what keeps copies whole, `control.rs` the control path,
//! `report.rs` what the region is told beside records, `status.rs` what a person sees.

mod chronicle;
mod control;
mod data;
mod fitness;
mod lead;
mod report;
mod space;
pub mod status;
#[cfg(test)]
mod tests;
mod upkeep;

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use crate::action::{Action, DiskDone, DiskJob, DutyReport, Memory};
use crate::admit::Admission;
use crate::config::NodeConfig;
use crate::duties::Duties;
use crate::election::{Election, Life};
use crate::event::Event;
use crate::ids::{BoardId, BoardSet, Class, DutyId, Epoch, Origin, SegmentId, Seq, Stream, Term, Token, WitnessId};
use crate::journal::Journal;
use crate::journal::clean::Cleaner;
use crate::journal::recover::Recovered;
use crate::journal::scrub;
use crate::membership::Membership;
use crate::node::chronicle::Chronicle;
use crate::node::fitness::OwnFitness;
use crate::node::lead::{Cause, GivingUp};
use crate::node::report::Telling;
use crate::node::upkeep::Upkeep;
use crate::outbox::Outbox;
use crate::ranges::RangeSet;
use crate::replicate::fetch;
use crate::replicate::keeper::Keeper;
use crate::replicate::origin::{Peers, Replication};
use crate::replicate::refill::{self, Refill};
use crate::seal::Sealer;
use crate::time::{Deadline, Instant, WallMillis};
use crate::uplink::{Origins, Overdue, Read, Uplink};
use crate::wire::peer::RegionTag;
use crate::wire::uplink::{BoardReport, Reads};

/// A board not heard since this one started is thought to live for so long: boards of a cabinet start together, and
/// a record that could have had its second copy a moment later must not be committed on one board.
const START_GRACE: Duration = Duration::from_secs(2);
/// Between two reports of a board to the region.
const REPORT_PERIOD: Duration = Duration::from_secs(1);
/// Between two reads of fresh records for the uplink: reading after every commit would cost the disk thread more
/// than sealing waits anyway.
const READ_PERIOD: Duration = Duration::from_millis(10);
/// A site without a leader for so long is told to be autonomous: ten default leases, well beyond any takeover.
const AUTONOMOUS_AFTER: Duration = Duration::from_secs(2);

/// What the shell knows before a node starts. It has bumped and fsynced the boot counter and the ceiling, and
/// fsynced what recovery read.
#[derive(Clone, Debug)]
pub struct Start {
    /// This life of the journal.
    pub epoch: Epoch,
    /// What the board's voter must not forget, as durable now: its terms are reserved for this life.
    pub memory: Memory,
    /// Seed of every random choice of this life.
    pub seed: u64,
    /// Lives of this board that its supervisor has seen end badly since it was started: a board that flaps does not lead.
    pub restarts: u32,
    /// What the journal's earlier lives left.
    pub recovered: Recovered,
}

/// A board of a site.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    origin: Origin,
    admission: Admission,
    journal: Journal,
    replication: Replication,
    refill: Refill,
    keeper: Keeper,
    cleaner: Cleaner,
    upkeep: Upkeep,
    sealer: Sealer,
    uplink: Uplink,
    membership: Membership,
    election: Election,
    duties: Duties,
    own: OwnFitness,
    chronicle: Chronicle,
    /// The leadership of this board is being given up.
    giving_up: Option<GivingUp>,
    /// The last leadership heard of, and what is known of its end.
    led: (Term, Cause),
    led_why: &'static str,
    leaderless_since: Option<Instant>,
    is_autonomous: bool,
    /// Witnesses whose connection stands.
    witnesses: BTreeSet<WitnessId>,
    /// How users' processes are, as last told.
    processes: BTreeMap<DutyId, DutyReport>,
    /// Boards that datagrams leave to.
    told: BoardSet,
    linked: BoardSet,
    region: Region,
    /// With which region the session is, or was, where the site knows several.
    region_of_session: Option<RegionTag>,
    /// What the region reads, as it or its holder said last; `None` where nobody has, and after a session that fell without a word of it.
    region_reads: Option<Reads>,
    /// Blocks have followed the hello, and the region has not said yet what it reads.
    has_gone_ahead: bool,
    reading: Option<(Token, Purpose)>,
    read_after: Instant,
    next_token: u64,
    reports: BTreeMap<BoardId, BoardReport>,
    report_at: Instant,
    /// What the region was told of duties.
    telling: Telling,
    recovery_events: alloc::vec::Vec<Event>,
    /// Until when boards never heard count as living.
    grace: Option<Instant>,
    /// The fewest copies told of, while records are committed on fewer than k boards.
    degraded: Option<usize>,
    full: bool,
    /// Since when not even an alarm fits the journal as it is.
    full_since: Option<Instant>,
    device_full: bool,
    /// Records shed since the start, by class.
    shed: [u64; Class::ALL.len()],
    /// What was shed, while the region may not have heard of it, and the last gap record that says so.
    declared: (BTreeMap<Stream, RangeSet>, Seq),
    /// A record waits until then for others to be written with.
    linger_until: Option<Deadline>,
    /// The latest wall time that a reading came with: a label for gap records.
    wall: WallMillis,
    stopping: bool,
}

/// The session with the region, where this board holds `uplink`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Region {
    Idle,
    Dialling(Term),
    /// Not welcomed yet, but blocks follow the hello.
    Ahead(Term),
    Open(Term),
}

impl Region {
    /// The term under which blocks and questions of the site go on to the region, if they do.
    const fn passes_on(self) -> Option<Term> {
        match self {
            Self::Idle | Self::Dialling(_) => None,
            Self::Ahead(term) | Self::Open(term) => Some(term),
        }
    }

    /// The term under which it is wanted, if it is.
    const fn term(self) -> Option<Term> {
        match self {
            Self::Idle => None,
            Self::Dialling(term) | Self::Ahead(term) | Self::Open(term) => Some(term),
        }
    }
}

/// What a read of the journal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To write again what stays of a segment that is to be freed.
    Clean {
        segment: SegmentId,
        offset: u32,
        length: u32,
    },
    Uplink(Read),
    Refill(refill::Read),
    Answer(fetch::Read),
    Scrub(scrub::Read),
}

impl Node {
    /// A node in its first instant. Call [`Node::handle_start`] next.
    pub fn new(config: NodeConfig, mut start: Start, now: Instant) -> Self {
        let origin = Origin { board: config.board, epoch: start.epoch };
        let timing = config.timing;
        let life = Life { boot: start.epoch.boot, nonce: start.epoch.nonce, memory: start.memory, seed: start.seed };
        let recovery_events = start.recovered.events.clone();
        let lost = core::mem::take(&mut start.recovered.lost);
        let journal = Journal::new(config.journal, start.epoch, start.recovered);
        let uplink = Uplink::new(&timing, config.boards.len(), (journal.held(), journal.covered()), now);
        Self {
            admission: Admission::new(origin, config.journal),
            upkeep: Upkeep::new(&config, origin, (&journal, &lost), now),
            journal,
            replication: Replication::new(origin, config.peers(), config.copies, timing.hedge_after),
            refill: Refill::default(),
            keeper: Keeper::default(),
            cleaner: Cleaner::default(),
            sealer: Sealer::new(timing.seal_alarm, timing.seal_event),
            uplink,
            membership: Membership::new(&config, start.epoch, start.seed, now),
            election: Election::new(&config, life, now),
            duties: Duties::new(&config, start.epoch, now),
            own: OwnFitness::new(config.priority, start.restarts, now),
            chronicle: Chronicle::default(),
            giving_up: None,
            led: (Term::ZERO, Cause::First),
            led_why: "",
            leaderless_since: None,
            is_autonomous: false,
            witnesses: BTreeSet::new(),
            processes: BTreeMap::new(),
            told: BoardSet::EMPTY,
            linked: BoardSet::EMPTY,
            region: Region::Idle,
            region_of_session: None,
            region_reads: None,
            has_gone_ahead: false,
            reading: None,
            read_after: Instant::ZERO,
            next_token: 1,
            reports: BTreeMap::new(),
            report_at: now + REPORT_PERIOD,
            telling: Telling::default(),
            recovery_events,
            grace: Some(now + START_GRACE),
            degraded: None,
            full: false,
            full_since: None,
            device_full: false,
            shed: [0; Class::ALL.len()],
            declared: (BTreeMap::new(), 0),
            linger_until: None,
            wall: WallMillis::default(),
            stopping: false,
            origin,
            config,
        }
    }

    /// The first input.
    pub fn handle_start(&mut self, now: Instant, out: &mut Outbox<Action>) {
        for event in core::mem::take(&mut self.recovery_events) {
            out.push(Action::Notice(event));
        }
        self.notice_older(self.config.board, self.origin.epoch, out);
        self.prepare_journal(now, out);
        let mut jobs = Outbox::default();
        self.journal.foot_earlier(&mut jobs);
        push_jobs(&mut jobs, out);
        self.uplink.refresh(origins(&self.config, &self.membership, &self.journal), now);
        self.tell_voters(now, out);
        self.pump_control(now, out);
    }

    /// A disk job is done, or failed.
    pub fn handle_disk(&mut self, done: DiskDone, now: Instant, out: &mut Outbox<Action>) {
        match done {
            DiskDone::Prepared { segment } => {
                let mut jobs = Outbox::default();
                self.journal.handle_prepared(segment, now, &mut jobs);
                push_jobs(&mut jobs, out);
            }
            DiskDone::NoRoom { segment } => {
                let mut jobs = Outbox::default();
                self.journal.handle_no_room(segment, now, &mut jobs);
                push_jobs(&mut jobs, out);
            }
            DiskDone::Appended { token } => self.handle_appended(token, now, out),
            DiskDone::Read { token, bytes } => self.handle_read(token, &bytes, now, out),
            DiskDone::Remembered(memory) => self.handle_remembered(memory, now, out),
            DiskDone::Failed => {
                self.journal.poison();
                out.push(Action::Notice(Event::JournalPoisoned));
                self.give_up_lease("its journal is poisoned", now, out);
            }
        }
        self.pump(now, out);
    }

    /// The named instant has come: [`Node::next_deadline`] is not after `now`.
    pub fn handle_deadline(&mut self, now: Instant, out: &mut Outbox<Action>) {
        self.pump_control(now, out);
        if now >= self.report_at {
            self.report_at = now + REPORT_PERIOD;
            self.report(now, out);
        }
        match self
            .uplink
            .handle_deadline(origins(&self.config, &self.membership, &self.journal), now)
        {
            Some(Overdue::Progress(asks)) => {
                self.sealer.clear();
                self.ask(asks, out);
            }
            Some(Overdue::Answer(asks)) => self.ask(asks, out),
            None => {}
        }
        self.refill.handle_deadline(now);
        if now >= self.journal.next_deadline().at {
            self.prepare_journal(now, out);
        }
        if self.grace.take_if(|until| now >= *until).is_some() {
            self.replicate_more(now, out);
        }
        if now >= self.replication.next_deadline().at {
            self.replicate_more(now, out);
        }
        self.pump(now, out);
    }

    /// No more is accepted; what was is still committed, and the lease is handed back.
    pub fn handle_stop(&mut self, now: Instant, out: &mut Outbox<Action>) {
        self.stopping = true;
        self.give_up_lease("it is to stop", now, out);
        self.pump(now, out);
    }

    /// Whether a stop that was asked for has nothing left to wait for.
    pub fn is_stopped(&self) -> bool {
        self.stopping && self.giving_up.is_none() && (self.journal.is_poisoned() || self.admission.waiting() == 0)
    }

    /// Whether the shell may offer more records now. It reads no socket while this is false.
    pub fn accepts(&self) -> bool {
        let room = self.journal.takes(Class::Alarm) || self.cleaner.is_busy();
        !self.stopping && !self.journal.is_poisoned() && room && self.admission.has_room()
    }

    /// What is durable here, by stream.
    pub const fn held(&self) -> &BTreeMap<Stream, RangeSet> {
        self.journal.held()
    }

    /// What a region is known to have of it, and which one: `None` unless the site knows several, and one of them has answered.
    pub fn known_coverage(&self) -> Option<(RegionTag, &BTreeMap<Stream, RangeSet>)> {
        self.uplink.known()
    }

    /// When to call [`Node::handle_deadline`], and why.
    pub fn next_deadline(&self) -> Deadline {
        let read = match (self.reading, self.next_read(Instant::ZERO)) {
            (None, Some((Purpose::Clean { .. }, _))) => Deadline::NONE,
            (None, Some((Purpose::Scrub(_), at))) => Deadline { at, why: "the journal to be verified" },
            (None, Some((_, at))) => Deadline { at, why: "records to be read" },
            (Some(_), _) | (None, None) => Deadline::NONE,
        };
        [
            self.membership.next_deadline(),
            self.election.next_deadline(),
            self.duties.next_deadline(),
            self.own.next_deadline(),
            self.leader_deadline(),
            self.replication.next_deadline(),
            self.refill.next_deadline(),
            self.sealer.next_deadline(),
            self.uplink.next_deadline(),
            self.upkeep_deadline(),
            read,
            self.journal.next_deadline(),
            self.linger_until.unwrap_or(Deadline::NONE),
            self.grace
                .map_or(Deadline::NONE, |at| Deadline { at, why: "the other boards to start" }),
            Deadline { at: self.report_at, why: "the next report" },
        ]
        .into_iter()
        .fold(Deadline::NONE, Deadline::min)
    }

    fn leader_deadline(&self) -> Deadline {
        let since = self.leaderless_since.filter(|_| !self.is_autonomous);
        since.map_or(Deadline::NONE, |since| Deadline { at: since + AUTONOMOUS_AFTER, why: "a leader to be heard of" })
    }

    /// Asserts the chain freed ⊆ covered ⊆ synced ≤ appended, committed ≤ appended, and each stage's own invariants.
    /// Cheap: called after every input, in tests and in the field.
    pub fn check(&self) {
        self.election.check();
        self.journal.check();
        self.replication.check();
        self.upkeep.repair.check(self.journal.held());
        for class in Class::ALL {
            let stream = Stream { origin: self.origin, class };
            let appended = self.admission.last(class);
            let committed = self.replication.committed(class);
            assert!(committed <= appended, "{stream}: committed {committed} of {appended} appended");
            let held = self.journal.held().get(&stream).and_then(|ranges| ranges.last()).unwrap_or(0);
            assert!(held <= appended, "{stream}: synced {held} of {appended} appended");
            let covered = self.uplink.covered().get(&stream).and_then(|ranges| ranges.last()).unwrap_or(0);
            assert!(covered <= held, "{stream}: covered {covered} of {held} synced");
        }
    }

    fn prepare_journal(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let mut jobs = Outbox::default();
        self.journal.prepare(now, &mut jobs);
        push_jobs(&mut jobs, out);
    }

    fn peers(&self) -> Peers {
        Peers { alive: self.presumed(), linked: self.linked }
    }

    /// Boards on which a record must be before it commits, as far as k asks for them.
    fn presumed(&self) -> BoardSet {
        match self.grace {
            Some(_) => self.config.boards,
            None => self.membership.alive(),
        }
    }

    fn token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        token
    }
}

/// What decides whose records are brought up from here; a function of three fields, so that the uplink can be
/// changed while they are read.
fn origins<'a>(config: &NodeConfig, membership: &Membership, journal: &'a Journal) -> Origins<'a> {
    Origins { own: config.board, alive: membership.alive(), held: journal.held() }
}

fn push_jobs(jobs: &mut Outbox<DiskJob>, out: &mut Outbox<Action>) {
    while let Some(job) = jobs.pop() {
        out.push(Action::Disk(job));
    }
}

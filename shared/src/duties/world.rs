//! A small site of duties, by seed: boards with clocks that drift, a network that loses, delays, doubles and cuts, an
//! oracle that lends the leadership as the election does, processes that obey late or never. A referee watches that no
//! two boards act in one exclusive duty, and that tokens rise.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::rules::Rule;
use super::*;
use crate::config::{DutyConfig, DutyMode, JournalConfig, RepairConfig, Timing};
use crate::ids::Voters;
use crate::limits::DRIFT_PERMILLE;
use crate::wire::duty::DutyMessage;

const MS: u64 = 1000;
const SECOND: u64 = 1000 * MS;
const LEASE: u64 = 200 * MS;
/// The storm lasts so long; then it is calm for as long as duties may need to be in place.
const STORM: u64 = 15 * SECOND;
const CALM: u64 = 8 * SECOND;

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

#[derive(Clone)]
enum Happening {
    Deliver {
        to: BoardId,
        from: BoardId,
        message: DutyMessage,
    },
    Attest {
        to: BoardId,
        board: BoardId,
        life: u64,
    },
    Obey {
        board: BoardId,
        life: u64,
        duty: DutyId,
        seq: u64,
        order: DutyOrder,
    },
    Begin {
        board: BoardId,
        life: u64,
        duty: DutyId,
        seq: u64,
        token: Fencing,
    },
    Cease {
        board: BoardId,
        life: u64,
        duty: DutyId,
        seq: u64,
    },
    Kill {
        board: BoardId,
        life: u64,
        duty: DutyId,
    },
    Report {
        board: BoardId,
        life: u64,
        duty: DutyId,
        seq: u64,
        report: DutyReport,
    },
    Wake {
        board: BoardId,
    },
    Start {
        board: BoardId,
    },
    Look {
        board: BoardId,
    },
    Lead,
    Fault,
}

/// A user's process, and the supervisor's part in it.
#[derive(Clone, Default)]
struct Work {
    /// Counts the orders that ask for something new.
    seq: u64,
    ordered: Option<DutyOrder>,
    arrived: u64,
    begun: u64,
    acting: Option<Fencing>,
    until: u64,
}

struct Machine {
    duties: Option<Duties>,
    epoch: Epoch,
    /// Parts per million of the true second.
    rate: u64,
    offset: u64,
    works: Vec<Work>,
    wake: u64,
}

impl Machine {
    fn local(&self, at: u64) -> Instant {
        Instant::from_micros(self.offset + at * self.rate / 1_000_000)
    }

    fn real(&self, local: Instant) -> u64 {
        if local == Instant::NEVER {
            return u64::MAX / 4;
        }
        (local.micros().saturating_sub(self.offset) * 1_000_000).div_ceil(self.rate)
    }
}

struct Lease {
    term: Term,
    until: Instant,
    real_end: u64,
    /// The leader no longer reaches the voters.
    is_cut: bool,
    ending: bool,
}

struct World {
    dice: Dice,
    now: u64,
    count: u64,
    agenda: BTreeMap<(u64, u8, u64), Happening>,
    machines: BTreeMap<BoardId, Machine>,
    cut: BTreeSet<(BoardId, BoardId)>,
    lease: Option<Lease>,
    /// The last lease has been given back, or its holder attested: the next leader need not wait.
    is_free: bool,
    free_at: u64,
    busy_until: u64,
    counter: u64,
    configs: BTreeMap<BoardId, NodeConfig>,
    highest: BTreeMap<DutyId, (Fencing, BoardId)>,
    loss: u64,
    broken: Option<Rule>,
    verdict: Result<(), String>,
    begun: usize,
    elsewhere: usize,
}

pub(super) fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

pub(super) fn duty(place: u8) -> DutyId {
    DutyId::new(place).unwrap()
}

pub(super) fn config(own: BoardId, boards: u8) -> NodeConfig {
    let all: BoardSet = (1..=boards).map(board).collect();
    let made = |name: &str, mode, standby| {
        let is_local = name != "fuse" || own.get() % 3 != 1;
        DutyConfig { name: name.try_into().unwrap(), mode, standby, is_local }
    };
    NodeConfig {
        site: "world".try_into().unwrap(),
        board: own,
        boards: all,
        voters: Voters { version: 1, set: all.into() },
        priority: 0,
        domain: if own.get().is_multiple_of(2) { "even" } else { "odd" }.try_into().unwrap(),
        duties: [
            made("signal", DutyMode::Exclusive, true),
            made("fuse", DutyMode::Exclusive, false),
            made("infer", DutyMode::Available { active: 2 }, true),
        ]
        .to_vec(),
        copies: 2,
        timing: Timing::default(),
        journal: JournalConfig::default(),
        repair: RepairConfig::default(),
        has_region: false,
    }
}

impl World {
    fn new(seed: u64, broken: Option<Rule>) -> Self {
        let mut dice = Dice(seed);
        let boards = 3 + dice.below(5) as u8;
        let mut world = Self {
            loss: [0, 20, 300][dice.below(3) as usize],
            dice,
            now: 0,
            count: 0,
            agenda: BTreeMap::new(),
            machines: BTreeMap::new(),
            cut: BTreeSet::new(),
            lease: None,
            is_free: true,
            free_at: 0,
            busy_until: 0,
            counter: 0,
            configs: (1..=boards)
                .map(|number| (board(number), config(board(number), boards)))
                .collect(),
            highest: BTreeMap::new(),
            broken,
            verdict: Ok(()),
            begun: 0,
            elsewhere: 0,
        };
        for number in 1..=boards {
            let drift = 1000 * DRIFT_PERMILLE;
            let rate =
                1_000_000 - drift + [0, drift, 2 * drift, world.dice.below(2 * drift)][world.dice.below(4) as usize];
            let offset = SECOND + world.dice.below(1000 * SECOND);
            let machine = Machine {
                duties: None,
                epoch: Epoch { boot: 0, nonce: 0 },
                rate,
                offset,
                works: alloc::vec![Work::default(); 3],
                wake: u64::MAX,
            };
            world.machines.insert(board(number), machine);
            let start = world.dice.below(100 * MS);
            world.plan(start, Happening::Start { board: board(number) });
        }
        world.plan(200 * MS, Happening::Lead);
        world.plan(2 * SECOND, Happening::Fault);
        world
    }

    fn plan(&mut self, at: u64, what: Happening) {
        // What ends at an instant ends before anything begins at it.
        let rank = u8::from(!matches!(what, Happening::Kill { .. } | Happening::Cease { .. }));
        self.count += 1;
        self.agenda.insert((at.max(self.now), rank, self.count), what);
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(((at, _, _), what)) = self.agenda.pop_first() {
            if at > STORM + CALM || self.verdict.is_err() {
                break;
            }
            self.now = at;
            self.happen(what);
        }
        self.verdict.clone()?;
        self.judge_calm()
    }

    fn judge_calm(&self) -> Result<(), String> {
        let acting = |duty: usize| {
            self.machines
                .values()
                .filter(|machine| machine.works[duty].acting.is_some())
                .count()
        };
        for (place, wanted) in [(0, 1), (1, 1), (2, 2)] {
            if acting(place) != wanted {
                let lines: Vec<_> = self
                    .machines
                    .values()
                    .filter_map(|machine| Some(machine.duties.as_ref()?.lines(machine.local(self.now))))
                    .flatten()
                    .filter(|line| usize::from(line.duty.get()) == place)
                    .collect();
                return Err(format!(
                    "calm: duty {place} is performed by {} boards: {lines:?} {:?} {}",
                    acting(place),
                    self.lease.as_ref().map(|l| (l.term, l.is_cut, l.ending)),
                    self.now
                ));
            }
        }
        Ok(())
    }

    fn fail(&mut self, what: String) {
        if self.verdict.is_ok() {
            self.verdict = Err(format!("at {} ms: {what}", self.now / MS));
        }
    }

    fn is_calm(&self) -> bool {
        self.now >= STORM
    }

    /// Gives an input to a board, and performs what it decides.
    fn input(&mut self, to: BoardId, act: impl FnOnce(&mut Duties, Instant, &mut Outbox<Output>)) {
        let now = self.now;
        let machine = self.machines.get_mut(&to).unwrap();
        let local = machine.local(now);
        let Some(duties) = &mut machine.duties else { return };
        let mut out = Outbox::default();
        act(duties, local, &mut out);
        let due = duties.next_deadline().at;
        let wake = machine.real(due).max(now + 1);
        if wake != machine.wake {
            machine.wake = wake;
            self.plan(wake, Happening::Wake { board: to });
        }
        while let Some(output) = out.pop() {
            self.perform(to, output);
        }
    }

    fn perform(&mut self, from: BoardId, output: Output) {
        match output {
            Output::Tell { to, message } => {
                if !self.is_calm() && self.dice.chance(self.loss) || self.cut.contains(&(from, to)) {
                    return;
                }
                for _ in 0..1 + u64::from(self.dice.chance(20)) {
                    let delay = match self.dice.below(100) {
                        0 if !self.is_calm() => self.dice.below(1500 * MS),
                        1..10 => self.dice.below(80 * MS),
                        _ => 200 + self.dice.below(2 * MS),
                    };
                    self.plan(self.now + delay, Happening::Deliver { to, from, message: message.clone() });
                }
            }
            Output::Order { duty, order } => {
                let machine = self.machines.get_mut(&from).unwrap();
                let life = machine.epoch.nonce;
                let work = &mut machine.works[usize::from(duty.get())];
                let same = |a: &DutyOrder| match (a, order) {
                    (DutyOrder::Act { token, .. }, DutyOrder::Act { token: new, .. }) => *token == new,
                    (a, b) => *a == b,
                };
                if !work.ordered.as_ref().is_some_and(same) {
                    work.seq += 1;
                }
                work.ordered = Some(order);
                let seq = work.seq;
                self.plan(self.now + 100, Happening::Obey { board: from, life, duty, seq, order });
            }
            Output::Started { .. } | Output::Stopped { .. } | Output::Moved { .. } => {}
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Deliver { to, from, message } => {
                self.input(to, |duties, now, out| duties.handle_message(from, &message, now, out));
            }
            Happening::Attest { to, board, life } => {
                self.input(to, |duties, now, out| duties.handle_obituary(board, life, now, out));
            }
            Happening::Obey { board, life, duty, seq, order } => self.obey(board, life, duty, seq, order),
            Happening::Begin { board, life, duty, seq, token } => self.begin(board, life, duty, seq, token),
            Happening::Cease { board, life, duty, seq } => {
                let machine = self.machines.get_mut(&board).unwrap();
                let work = &mut machine.works[usize::from(duty.get())];
                if machine.epoch.nonce == life && work.arrived == seq {
                    work.acting = None;
                    self.report(board, life, duty, DutyReport::StandsBy);
                }
            }
            Happening::Kill { board, life, duty } => {
                let machine = self.machines.get_mut(&board).unwrap();
                let local = machine.local(self.now);
                let work = &mut machine.works[usize::from(duty.get())];
                if machine.epoch.nonce == life && work.acting.is_some() && local.micros() >= work.until {
                    work.acting = None;
                    // An extension that comes too late begins it anew.
                    work.begun = u64::MAX;
                    self.report(board, life, duty, DutyReport::StandsBy);
                }
            }
            Happening::Report { board, life, duty, seq, report } => {
                let machine = &self.machines[&board];
                if machine.epoch.nonce == life && machine.works[usize::from(duty.get())].seq == seq {
                    self.input(board, |duties, now, out| duties.handle_report(duty, report, now, out));
                }
            }
            Happening::Wake { board } => {
                if self.machines[&board].wake <= self.now {
                    self.machines.get_mut(&board).unwrap().wake = u64::MAX;
                    self.input(board, |duties, now, out| duties.handle_deadline(now, out));
                }
            }
            Happening::Start { board } => self.start(board),
            Happening::Look { board } => self.look(board),
            Happening::Lead => self.lead(),
            Happening::Fault => self.fault(),
        }
    }

    fn report(&mut self, board: BoardId, life: u64, duty: DutyId, report: DutyReport) {
        let seq = self.machines[&board].works[usize::from(duty.get())].arrived;
        let delay = 100 + self.dice.below(2 * MS);
        self.plan(self.now + delay, Happening::Report { board, life, duty, seq, report });
    }

    /// The supervisor has an order.
    fn obey(&mut self, board: BoardId, life: u64, duty: DutyId, seq: u64, order: DutyOrder) {
        let machine = self.machines.get_mut(&board).unwrap();
        if machine.epoch.nonce != life {
            return;
        }
        let local = machine.local(self.now);
        let work = &mut machine.works[usize::from(duty.get())];
        work.arrived = seq;
        match order {
            DutyOrder::Act { token, until } => {
                if local >= until {
                    return;
                }
                work.until = until.micros();
                let is_new = core::mem::replace(&mut work.begun, seq) != seq;
                let end = machine.real(until);
                self.plan(end, Happening::Kill { board, life, duty });
                if is_new {
                    let delay = self.dice.below(3 * MS);
                    self.plan(self.now + delay, Happening::Begin { board, life, duty, seq, token });
                }
            }
            DutyOrder::StandBy | DutyOrder::End => {
                // Some obey late, some never: then the end of the lease ends them.
                let delay = [MS, 5 * MS, 100 * MS, 10 * SECOND][self.dice.below(4) as usize];
                let delay = if work_is_available(duty) { MS } else { delay };
                self.plan(self.now + delay, Happening::Cease { board, life, duty, seq });
            }
        }
    }

    /// A process begins to act.
    fn begin(&mut self, board: BoardId, life: u64, duty: DutyId, seq: u64, token: Fencing) {
        let machine = self.machines.get_mut(&board).unwrap();
        let local = machine.local(self.now);
        let work = &mut machine.works[usize::from(duty.get())];
        if machine.epoch.nonce != life || work.arrived != seq || local.micros() >= work.until {
            return;
        }
        work.acting = Some(token);
        self.begun += 1;
        self.elsewhere += usize::from(token.term().board() != Some(board) && !work_is_available(duty));
        self.report(board, life, duty, DutyReport::Acts { token });
        if work_is_available(duty) {
            return;
        }
        let acts = |(other, machine): &(&BoardId, &Machine)| {
            **other != board && machine.works[usize::from(duty.get())].acting.is_some()
        };
        if let Some((other, _)) = self.machines.iter().find(acts) {
            let other = *other;
            self.fail(format!("{board} and {other} act in duty {duty:?}"));
        }
        if let Some((highest, by)) = self.highest.get(&duty)
            && (token < *highest || (token == *highest && *by != board))
        {
            let what = format!("{board} acts in duty {duty:?} under {token}, after {by} did under {highest}");
            self.fail(what);
        }
        self.highest.insert(duty, (token, board));
    }

    fn start(&mut self, board: BoardId) {
        let nonce = self.dice.next();
        let (broken, config) = (self.broken, self.configs[&board].clone());
        let machine = self.machines.get_mut(&board).unwrap();
        machine.epoch = Epoch { boot: machine.epoch.boot + 1, nonce };
        let mut duties = Duties::new(&config, machine.epoch, machine.local(self.now));
        duties.rules.broken = broken;
        machine.duties = Some(duties);
        machine.works = alloc::vec![Work::default(); 3];
        machine.wake = u64::MAX;
        self.plan(self.now + 1, Happening::Look { board });
    }

    /// What membership and the election tell a board, now and then.
    fn look(&mut self, own: BoardId) {
        if self.machines[&own].duties.is_none() {
            return;
        }
        let hears = |other: BoardId| {
            other == own || (self.machines[&other].duties.is_some() && !self.cut.contains(&(other, own)))
        };
        let alive: BoardSet = self.machines.keys().copied().filter(|other| hears(*other)).collect();
        let can = alive.iter().filter(|other| *other != own);
        let can = can
            .map(|other| (other, self.machines[&other].duties.as_ref().map_or(0, Duties::can)))
            .collect();
        let view = DutyView { alive, fit: alive, can };
        let claim = self
            .lease
            .as_ref()
            .map(|lease| lease.term)
            .filter(|term| hears(term.board().unwrap()));
        self.input(own, |duties, now, out| duties.handle_view(&view, now, out));
        let leads = self.lease.as_ref().is_some_and(|lease| lease.term.board() == Some(own));
        if !leads {
            self.input(own, |duties, now, out| duties.handle_leader(claim, now, out));
        }
        let next = self.now + 20 * MS + self.dice.below(100 * MS);
        self.plan(next, Happening::Look { board: own });
    }

    /// The election, every few milliseconds: renews, ends, hands over, elects.
    fn lead(&mut self) {
        self.plan(self.now + 10 * MS, Happening::Lead);
        if let Some(lease) = &mut self.lease {
            let leader = lease.term.board().unwrap();
            let term = lease.term;
            let machine = &self.machines[&leader];
            let local = machine.local(self.now);
            if machine.duties.is_none() {
                // A crash: the term is void at once where it is attested, and else when its time is over.
                self.lease = None;
            } else if local >= lease.until {
                self.lease = None;
                self.input(leader, |duties, now, out| duties.handle_lease(None, now, out));
            } else if !lease.is_cut {
                lease.until = local + Duration::from_micros(LEASE);
                lease.real_end = machine.real(lease.until);
                self.busy_until = self.busy_until.max(lease.real_end);
                self.free_at = lease.real_end;
                let until = lease.until;
                self.input(leader, |duties, now, out| duties.handle_lease(Some((term, until)), now, out));
                self.hand_over(leader);
            }
            return;
        }
        let is_over = self.is_free || self.now >= self.free_at;
        if is_over && self.dice.chance(400) {
            self.elect();
        }
    }

    fn hand_over(&mut self, leader: BoardId) {
        let Some(lease) = &mut self.lease else { return };
        if !lease.ending {
            return;
        }
        let machine = &self.machines[&leader];
        if machine
            .duties
            .as_ref()
            .is_some_and(|duties| duties.is_quiet(machine.local(self.now)))
        {
            self.lease = None;
            self.is_free = true;
            self.input(leader, |duties, now, out| duties.handle_lease(None, now, out));
        }
    }

    fn elect(&mut self) {
        let up: Vec<BoardId> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.duties.is_some())
            .map(|(board, _)| *board)
            .collect();
        if up.is_empty() {
            return;
        }
        let leader = up[self.dice.below(up.len() as u64) as usize];
        self.counter += 1 + self.dice.below(3);
        let term = Term::new(self.counter, leader);
        let machine = &self.machines[&leader];
        let until = machine.local(self.now) + Duration::from_micros(LEASE);
        let real_end = machine.real(until);
        let is_clear = self.now >= self.busy_until;
        self.lease = Some(Lease { term, until, real_end, is_cut: false, ending: false });
        self.busy_until = self.busy_until.max(real_end);
        self.free_at = real_end;
        self.is_free = false;
        self.input(leader, |duties, now, out| duties.handle_lease(Some((term, until)), now, out));
        if is_clear && self.dice.chance(500) {
            self.input(leader, |duties, now, out| duties.handle_clear(now, out));
        }
    }

    fn fault(&mut self) {
        if self.is_calm() {
            self.cut.clear();
            return;
        }
        let next = self.now + self.dice.below(1500 * MS);
        self.plan(next.min(STORM), Happening::Fault);
        let all: Vec<BoardId> = self.machines.keys().copied().collect();
        let any = all[self.dice.below(all.len() as u64) as usize];
        let leader = self.lease.as_ref().and_then(|lease| lease.term.board());
        match self.dice.below(7) {
            0 => self.crash(any),
            1 | 2 => self.crash(leader.unwrap_or(any)),
            3 => {
                if let Some(lease) = &mut self.lease {
                    lease.is_cut = true;
                }
            }
            4 => {
                if let Some(lease) = &mut self.lease {
                    let leader = lease.term.board().unwrap();
                    lease.ending = true;
                    self.input(leader, |duties, now, out| duties.quiesce(now, out));
                }
            }
            5 => {
                let other = all[self.dice.below(all.len() as u64) as usize];
                self.cut.insert((any, other));
                if self.dice.chance(500) {
                    self.cut.insert((other, any));
                }
            }
            _ => self.cut.clear(),
        }
    }

    /// A board's node ends, and its processes with it; its supervisor says so, or nobody does.
    fn crash(&mut self, board: BoardId) {
        let is_attested = self.dice.chance(700);
        let machine = self.machines.get_mut(&board).unwrap();
        if machine.duties.take().is_none() {
            return;
        }
        let life = machine.epoch.nonce;
        machine.works = alloc::vec![Work::default(); 3];
        machine.epoch.nonce = 0;
        if is_attested {
            self.is_free |= self.lease.as_ref().is_some_and(|lease| lease.term.board() == Some(board));
            for to in self.machines.keys().copied().collect::<Vec<_>>() {
                let delay = if self.dice.chance(900) { MS } else { self.dice.below(3 * SECOND) };
                self.plan(self.now + delay, Happening::Attest { to, board, life });
            }
        }
        let back = self.now + [60 * MS, 300 * MS, 3 * SECOND][self.dice.below(3) as usize];
        self.plan(back, Happening::Start { board });
    }
}

fn work_is_available(duty: DutyId) -> bool {
    duty.get() == 2
}

#[test]
fn no_two_boards_act_and_after_calm_every_duty_is_performed() {
    let (mut begun, mut elsewhere) = (0, 0);
    for seed in 0..150 {
        let mut world = World::new(seed, None);
        if let Err(what) = world.run() {
            panic!("seed {seed}: {what}");
        }
        begun += world.begun;
        elsewhere += world.elsewhere;
    }
    assert!(begun > 5000 && elsewhere > 1000, "too little happened: {begun}, {elsewhere}");
}

/// The rules that a storm meets; the others have cases of their own in `tests.rs`.
#[test]
fn the_referee_sees_every_rule_broken() {
    for rule in [
        Rule::Accounting,
        Rule::CertainEnd,
        Rule::LeaseFromAsking,
        Rule::TokenRises,
        Rule::LifeAttested,
        Rule::FreshLife,
    ] {
        let caught = (0..400).any(|seed| World::new(seed, Some(rule)).run().is_err());
        assert!(caught, "{rule:?} can be broken unseen");
    }
}

//! A simulated site for the election's tests: boards with clocks that drift to the very limit, a network that
//! loses, delays, repeats and reorders, crashes with and without haste, freezes, and a referee that looks after
//! every event. All of it follows from one seed.

mod misfortune;
mod referee;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::jitter::Jitter;
use super::rules::Rules;
use super::{Election, Life, Output, Standing, View};
use crate::action::{Memory, WishAnswer};
use crate::config::{JournalConfig, NodeConfig, RepairConfig, Timing};
use crate::ids::{BoardId, BoardSet, Name, Term, VoterId, VoterSet, Voters, WitnessId};
use crate::limits::{DRIFT_PERMILLE, TERMS_RESERVED};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::election::ElectionMessage;
use crate::wire::heartbeat::Fitness;
use crate::witness::{self, Witness};

pub(super) fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

pub(super) fn witness(number: u8) -> VoterId {
    WitnessId::new(number).unwrap().into()
}

/// A site of `boards` boards, the first `voters` of them voting, with the default clockwork (a lease of 200 ms).
pub(super) fn config(me: u8, boards: u8, voters: u8) -> NodeConfig {
    NodeConfig {
        site: site(),
        board: board(me),
        boards: (1..=boards).map(board).collect(),
        voters: Voters { version: 1, set: (1..=voters).map(board).map(VoterId::from).collect() },
        priority: 0,
        domain: Name::default(),
        duties: Vec::new(),
        copies: 2,
        timing: Timing::default(),
        journal: JournalConfig::default(),
        repair: RepairConfig::default(),
        has_region: false,
    }
}

fn site() -> Name {
    Name::try_from("here").unwrap()
}

/// What travels: the election's own datagrams, or a sign of life in place of membership's.
#[derive(Clone, Debug)]
enum Datagram {
    Control(ElectionMessage),
    Beat {
        boot: u32,
        number: u64,
        seen: Term,
        leads: Option<(Term, Duration)>,
    },
    Obituary {
        board: BoardId,
        life: u64,
    },
}

/// The newest sign of life of one board.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Instant,
    order: (u32, u64),
    seen: Term,
    /// Its claim, and when that runs out.
    leads: Option<(Term, Instant)>,
}

#[allow(clippy::large_enum_variant, reason = "a handful a test")]
enum Mind {
    Board(Election),
    Witness(Witness),
}

struct Process {
    mind: Mind,
    heard: BTreeMap<BoardId, Heard>,
    beats: u64,
    beat_at: Instant,
    /// Real time at which something reaches the disk.
    remembering: Option<(u64, Memory)>,
}

impl Process {
    fn election(&mut self) -> Option<&mut Election> {
        match &mut self.mind {
            Mind::Board(election) => Some(election),
            Mind::Witness(_) => None,
        }
    }

    fn holds(&self, now: Instant) -> Option<Term> {
        match &self.mind {
            Mind::Board(election) => election.holds(now),
            Mind::Witness(_) => None,
        }
    }

    fn next_deadline(&self) -> Instant {
        match &self.mind {
            Mind::Board(election) => election.next_deadline().at.min(self.beat_at),
            Mind::Witness(_) => Instant::NEVER,
        }
    }
}

/// Outputs of either mind, on their way out.
enum Said {
    Board(Outbox<Output>),
    Witness(Outbox<witness::Output>),
}

struct Machine {
    /// The start with which its disk began.
    new_at: u32,
    /// Speed of its clock in permille of real time.
    rate: u64,
    offset: u64,
    boot: u32,
    memory: Memory,
    process: Option<Process>,
    /// Real time of the next start, where it is not running.
    start_at: u64,
    /// Real time until which its process stands still.
    frozen_until: u64,
    /// Real time at which a stopped process ends.
    ends_at: u64,
}

impl Machine {
    fn local(&self, real: u64) -> Instant {
        Instant::from_micros(self.offset + real * self.rate / 1000)
    }

    /// The first real instant at which this clock shows `local`.
    fn real(&self, local: Instant) -> u64 {
        (local.micros().saturating_sub(self.offset))
            .saturating_mul(1000)
            .div_ceil(self.rate)
    }

    fn wake_at(&self) -> u64 {
        let Some(process) = &self.process else {
            return self.start_at;
        };
        let next = process.next_deadline();
        let remembered = process.remembering.map_or(u64::MAX, |(at, _)| at);
        let wake = if next == Instant::NEVER { u64::MAX } else { self.real(next) };
        wake.min(remembered).max(self.frozen_until).min(self.ends_at)
    }
}

/// How bad the network is now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) loss_permille: u64,
    pub(super) repeat_permille: u64,
    /// How many datagrams in a thousand come up to 400 ms late.
    pub(super) late_permille: u64,
}

/// What the referee saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// The first broken promise.
    pub(super) fault: Option<String>,
    /// Successive leaderships.
    pub(super) holders: Vec<Term>,
    /// What happened, in words.
    pub(super) story: Vec<String>,
    /// Real time without a holder since it was last reset.
    pub(super) gap_micros: u64,
    /// Real time until which what was begun under each term may run.
    ends: BTreeMap<Term, u64>,
    /// Looks that found a leader which was told so.
    pub(super) clears: u64,
    /// Disks replaced.
    pub(super) replaced: u64,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) weather: Weather,
    pub(super) record: Record,
    rng: Jitter,
    boards: u8,
    voters: VoterSet,
    rules: Rules,
    machines: BTreeMap<VoterId, Machine>,
    wire: BTreeMap<(u64, u64), (VoterId, VoterId, Datagram)>,
    flights: u64,
    cut: BTreeSet<(VoterId, VoterId)>,
    fitness: BTreeMap<BoardId, Fitness>,
    /// Whether the story tells every message.
    pub(super) is_wordy: bool,
}

impl World {
    /// A site that was led before, whose boards start within the first 20 ms, each with a clock as wrong as allowed. One that
    /// has no vote, or a witness that has none, is new.
    pub(super) fn new(seed: u64, boards: u8, voters: u8, rules: Rules) -> Self {
        let voters = (1..=voters).map(board).map(VoterId::from).collect();
        let mut world = Self {
            now: 0,
            weather: Weather::default(),
            record: Record::default(),
            machines: BTreeMap::new(),
            rng: Jitter::new(seed),
            boards,
            voters,
            rules,
            wire: BTreeMap::new(),
            flights: 0,
            cut: BTreeSet::new(),
            fitness: BTreeMap::new(),
            is_wordy: false,
        };
        for number in 1..=boards {
            let id = board(number).into();
            world.add_machine(id, voters.contains(id));
        }
        world
    }

    /// The same with a witness 30 ms away, which votes where `votes`.
    pub(super) fn with_witness(mut self, number: u8, votes: bool) -> Self {
        let id = witness(number);
        if votes {
            self.voters.insert(id);
        }
        self.add_machine(id, votes);
        self
    }

    /// The same, but that nobody ever led.
    pub(super) fn new_site(mut self) -> Self {
        self.machines.values_mut().for_each(|machine| machine.memory.joined = false);
        self
    }

    fn add_machine(&mut self, id: VoterId, joined: bool) {
        let machine = Machine {
            new_at: 1,
            rate: 1000 - DRIFT_PERMILLE + self.draw(3) * DRIFT_PERMILLE,
            offset: self.draw(1_000_000_000),
            boot: 0,
            memory: Memory { joined, ..Memory::default() },
            process: None,
            start_at: self.now + self.draw(20_000),
            frozen_until: 0,
            ends_at: u64::MAX,
        };
        self.machines.insert(id, machine);
    }

    /// Runs for `micros` of real time, or until a promise is broken.
    pub(super) fn run(&mut self, micros: u64) {
        let end = self.now + micros;
        while self.record.fault.is_none() {
            let arrival = self.wire.keys().next().map_or(u64::MAX, |(at, _)| *at);
            let wake = self.machines.iter().map(|(board, machine)| (machine.wake_at(), *board)).min();
            let (wake, who) = wake.unwrap();
            let next = arrival.min(wake).max(self.now);
            if next > end {
                break;
            }
            if self.holder().is_none() {
                self.record.gap_micros += next - self.now;
            }
            self.now = next;
            if arrival <= wake {
                self.deliver();
            } else {
                self.wake(who);
            }
            self.referee();
        }
        self.now = end;
    }

    /// The board that may act now, if any.
    pub(super) fn holder(&self) -> Option<(BoardId, Term)> {
        self.holders().next()
    }

    /// Every board that believes it may act now: the referee allows one.
    fn holders(&self) -> impl Iterator<Item = (BoardId, Term)> + '_ {
        self.machines.iter().filter_map(|(board, machine)| {
            let process = machine.process.as_ref()?;
            Some((board.board()?, process.holds(machine.local(self.now))?))
        })
    }

    /// Every datagram from `from` to `to` is lost from now on.
    pub(super) fn cut(&mut self, from: impl Into<VoterId>, to: impl Into<VoterId>) {
        self.cut.insert((from.into(), to.into()));
    }

    pub(super) fn isolate(&mut self, victim: impl Into<VoterId>) {
        let victim = victim.into();
        let all: Vec<VoterId> = self.machines.keys().copied().collect();
        for other in all {
            self.cut(victim, other);
            self.cut(other, victim);
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The process dies at once, and starts again after `micros`.
    pub(super) fn crash(&mut self, victim: impl Into<VoterId>, micros: u64) {
        let victim = victim.into();
        self.tell(format!("{victim} crashes for {micros} us"));
        let is_written = self.draw(2) == 0;
        let machine = self.machines.get_mut(&victim).unwrap();
        let process = machine.process.take();
        // What was on its way to disk is there or not.
        if let Some((_, memory)) = process.and_then(|process| process.remembering).filter(|_| is_written) {
            machine.memory = memory;
        }
        machine.start_at = self.now + micros;
        machine.frozen_until = 0;
        machine.ends_at = u64::MAX;
    }

    /// It crashes, and its disk is replaced by an empty one: not while another voter has met no leader, or has nobody beside
    /// it.
    pub(super) fn replace_disk(&mut self, victim: impl Into<VoterId>, micros: u64) {
        let victim = victim.into();
        let known = self.machines.values().map(|machine| machine.memory.voters);
        let configured = Voters { version: 1, set: self.voters };
        let newest = known
            .chain([configured])
            .max_by_key(|voters| voters.version)
            .unwrap_or_default()
            .set;
        let remembers = |id: VoterId| self.machines[&id].memory.joined;
        if newest.len() < 2 || !newest.iter().chain(self.voters.iter()).all(|id| id == victim || remembers(id)) {
            return;
        }
        self.crash(victim, micros);
        self.tell(format!("{victim} has an empty disk"));
        let machine = self.machines.get_mut(&victim).unwrap();
        machine.memory = Memory::default();
        machine.new_at = machine.boot + 1;
        self.record.replaced += 1;
    }

    /// The same as a crash, and its supervisor tells everybody within a millisecond.
    pub(super) fn crash_attested(&mut self, victim: BoardId, micros: u64) {
        let life = u64::from(self.machines[&victim.into()].boot);
        if self.machines[&victim.into()].process.is_none() {
            return;
        }
        self.crash(victim, micros);
        let all: Vec<VoterId> = self.machines.keys().copied().collect();
        for _ in 0..3 {
            for to in all.iter().filter(|to| **to != victim.into()) {
                self.send(victim.into(), *to, Datagram::Obituary { board: victim, life });
            }
        }
    }

    /// The holder, if any, hands over; its effects have ended.
    pub(super) fn hand_over(&mut self, to: Option<BoardId>) -> Option<BoardId> {
        let (holder, _) = self.holder()?;
        self.on(holder, |election, now, out| election.handle_hand_over(to, now, out))?
    }

    /// The holder, if any, is asked for other voters.
    pub(super) fn wish(&mut self, voters: VoterSet) -> Option<WishAnswer> {
        let (holder, _) = self.holder()?;
        self.tell(format!("{holder} is asked for {:?}", voters.iter().map(VoterId::get).collect::<Vec<_>>()));
        self.on(holder, |election, now, out| election.handle_wish_voters(voters, now, out))
    }

    /// Who votes, by the holder.
    pub(super) fn voters(&mut self) -> Option<Voters> {
        let (holder, _) = self.holder()?;
        self.on(holder, |election, _, _| election.voters())
    }

    /// How fit a board says it is.
    pub(super) fn set_fitness(&mut self, board: BoardId, fitness: Fitness) {
        self.fitness.insert(board, fitness);
        self.on(board, |election, now, out| election.handle_fitness(fitness, now, out));
    }

    /// Whom the holder would hand over to.
    pub(super) fn wants_hand_over(&mut self) -> Option<BoardId> {
        let (holder, _) = self.holder()?;
        self.on(holder, |election, now, _| election.wants_hand_over(now))?
    }

    /// Where a board stands.
    pub(super) fn standing(&mut self, board: BoardId) -> Standing {
        self.on(board, |election, now, _| election.standing(now)).unwrap()
    }

    fn on<T>(
        &mut self,
        board: BoardId,
        act: impl FnOnce(&mut Election, Instant, &mut Outbox<Output>) -> T,
    ) -> Option<T> {
        let now = self.now;
        let machine = self.machines.get_mut(&board.into()).unwrap();
        let local = machine.local(now);
        let mut out = Outbox::default();
        let answer = act(machine.process.as_mut()?.election()?, local, &mut out);
        self.drain(board.into(), out);
        self.referee();
        Some(answer)
    }

    pub(super) fn freeze(&mut self, victim: impl Into<VoterId>, micros: u64) {
        let victim = victim.into();
        self.tell(format!("{victim} freezes for {micros} us"));
        self.machines.get_mut(&victim).unwrap().frozen_until = self.now + micros;
    }

    /// A graceful stop; the process lives on for `micros`, and starts again at once.
    pub(super) fn stop(&mut self, victim: BoardId, micros: u64) {
        if self.on(victim, |election, now, out| election.handle_stop(now, out)).is_none() {
            return;
        }
        let ends_at = self.now + micros;
        let machine = self.machines.get_mut(&victim.into()).unwrap();
        machine.ends_at = machine.ends_at.min(ends_at);
        self.tell(format!("{victim} stops within {micros} us"));
    }

    /// No fault any more: every board runs and every link works.
    pub(super) fn calm(&mut self) {
        self.heal();
        self.weather = Weather::default();
        let now = self.now;
        for machine in self.machines.values_mut() {
            machine.start_at = machine.start_at.min(now);
            machine.frozen_until = 0;
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        draw(&mut self.rng, below)
    }

    fn tell(&mut self, line: String) {
        self.record.story.push(format!("{:>9} {line}", self.now));
    }

    fn send(&mut self, from: VoterId, to: VoterId, datagram: Datagram) {
        if !self.machines.contains_key(&to) {
            return;
        }
        let copies = 1 + u64::from(self.draw(1000) < self.weather.repeat_permille);
        let is_far = from.witness().or(to.witness()).is_some();
        for _ in 0..copies {
            let is_lost = self.draw(1000) < self.weather.loss_permille;
            let is_late = self.draw(1000) < self.weather.late_permille;
            let way = if is_far { 29_000 } else { 200 };
            let delay = way + self.draw(if is_late { 400_000 } else { 1_500 });
            if !is_lost && !self.cut.contains(&(from, to)) {
                self.flights += 1;
                self.wire.insert((self.now + delay, self.flights), (from, to, datagram.clone()));
            }
        }
    }

    fn deliver(&mut self) {
        let ((_, flight), (from, to, datagram)) = self.wire.pop_first().unwrap();
        let now = self.now;
        let machine = self.machines.get_mut(&to).unwrap();
        if machine.frozen_until > now {
            // It waits in the socket, and is read before any deadline is looked at.
            self.wire.insert((machine.frozen_until, flight), (from, to, datagram));
            return;
        }
        let local = machine.local(now);
        let Some(process) = machine.process.as_mut() else {
            return;
        };
        if let (Datagram::Beat { boot, number, seen, leads }, Some(board)) = (&datagram, from.board()) {
            let order = (*boot, *number);
            if process.heard.get(&board).is_none_or(|heard| heard.order < order) {
                let patient = |left| super::rules::Settings::new(Duration::ZERO).patience(left);
                let leads = leads.map(|(term, left)| (term, local + patient(left)));
                process.heard.insert(board, Heard { at: local, order, seen: *seen, leads });
            }
        }
        let view = to.board().map(|me| view_of(process, &self.fitness, me, local));
        let said = match &mut process.mind {
            Mind::Board(election) => {
                let mut out = Outbox::default();
                match datagram {
                    Datagram::Control(message) => election.handle_message(from, &message, local, &mut out),
                    Datagram::Beat { .. } => {}
                    Datagram::Obituary { board, life } => election.handle_obituary(board, life, local, &mut out),
                }
                election.handle_view(view.unwrap(), local, &mut out);
                Said::Board(out)
            }
            Mind::Witness(witness) => {
                let mut out = Outbox::default();
                match datagram {
                    Datagram::Control(message) => {
                        witness.handle_message(&site(), from.board().unwrap(), &message, local, &mut out);
                    }
                    Datagram::Beat { .. } => {}
                    Datagram::Obituary { board, life } => witness.handle_obituary(&site(), board, life),
                }
                Said::Witness(out)
            }
        };
        self.drain_any(to, said);
    }

    fn wake(&mut self, who: VoterId) {
        let now = self.now;
        let machine = self.machines.get_mut(&who).unwrap();
        if machine.ends_at <= now {
            self.crash(who, 1_000);
            return;
        }
        if machine.process.is_none() {
            self.start(who);
            return;
        }
        let local = machine.local(now);
        let process = machine.process.as_mut().unwrap();
        if let Some((_, memory)) = process.remembering.filter(|(at, _)| *at <= now) {
            machine.memory = memory;
            process.remembering = None;
            let said = match &mut process.mind {
                Mind::Board(election) => {
                    let mut out = Outbox::default();
                    election.handle_remembered(memory, local, &mut out);
                    Said::Board(out)
                }
                Mind::Witness(witness) => {
                    let mut out = Outbox::default();
                    witness.handle_remembered(&site(), memory, local, &mut out);
                    Said::Witness(out)
                }
            };
            self.drain_any(who, said);
        }
        if who.board().is_some() {
            self.wake_board(who);
        }
    }

    fn wake_board(&mut self, who: VoterId) {
        let me = who.board().unwrap();
        let machine = self.machines.get_mut(&who).unwrap();
        let local = machine.local(self.now);
        let process = machine.process.as_mut().unwrap();
        if process.beat_at <= local {
            process.beat_at = local + Duration::from_millis(100);
            self.beat(who);
        }
        let process = self.machines.get_mut(&who).unwrap().process.as_mut().unwrap();
        let view = view_of(process, &self.fitness, me, local);
        let election = process.election().unwrap();
        let mut out = Outbox::default();
        if election.next_deadline().at <= local {
            election.handle_deadline(local, &mut out);
        }
        election.handle_view(view, local, &mut out);
        self.drain(who, out);
    }

    /// A sign of life to every other board.
    fn beat(&mut self, who: VoterId) {
        let machine = self.machines.get_mut(&who).unwrap();
        let local = machine.local(self.now);
        let process = machine.process.as_mut().unwrap();
        process.beats += 1;
        let number = process.beats;
        let Some(election) = process.election() else { return };
        let leads = election.lease().map(|(term, until)| (term, until.since(local)));
        let beat = Datagram::Beat { boot: machine.boot, number, seen: election.seen(), leads };
        for to in (1..=self.boards).map(|number| board(number).into()).filter(|to| *to != who) {
            self.send(who, to, beat.clone());
        }
    }

    fn start(&mut self, who: VoterId) {
        let seed = self.draw(u64::MAX);
        let now = self.now;
        let rules = self.rules;
        let boards = self.boards;
        let links: Vec<WitnessId> = self.machines.keys().filter_map(|id| id.witness()).collect();
        let voters = Voters { version: 1, set: self.voters };
        let machine = self.machines.get_mut(&who).unwrap();
        machine.boot += 1;
        let local = machine.local(now);
        machine.start_at = u64::MAX;
        let mut out = Outbox::default();
        let mind = match who.board() {
            Some(me) => {
                machine.memory.term_ceiling += TERMS_RESERVED;
                let nonce = u64::from(machine.boot);
                let life = Life { boot: machine.boot + 1 - machine.new_at, nonce, memory: machine.memory, seed };
                let config = NodeConfig { voters, ..config(me.get(), boards, 0) };
                let mut election = Election::with_rules(&config, life, local, rules);
                for witness in links {
                    election.handle_witness_link(witness, true, local, &mut out);
                }
                Mind::Board(election)
            }
            None => Mind::Witness(Witness::with_rules([(site(), machine.memory)], machine.boot.into(), local, rules)),
        };
        machine.process = Some(Process { mind, heard: BTreeMap::new(), beats: 0, beat_at: local, remembering: None });
        self.tell(format!("{who} starts"));
        self.drain(who, out);
    }

    fn remember(&mut self, who: VoterId, memory: Memory) {
        let at = self.now + 1_000 + self.draw(30_000);
        let process = self.machines.get_mut(&who).unwrap().process.as_mut().unwrap();
        assert!(process.remembering.is_none(), "two writings at once");
        process.remembering = Some((at, memory));
    }

    fn drain_any(&mut self, who: VoterId, said: Said) {
        match said {
            Said::Board(out) => self.drain(who, out),
            Said::Witness(mut out) => {
                while let Some(output) = out.pop() {
                    match output {
                        witness::Output::Tell { to, message, .. } => {
                            self.send(who, to.into(), Datagram::Control(message));
                        }
                        witness::Output::Remember { memory, .. } => self.remember(who, memory),
                    }
                }
            }
        }
    }

    fn drain(&mut self, who: VoterId, mut out: Outbox<Output>) {
        while let Some(output) = out.pop() {
            match output {
                Output::Tell { to, message } => {
                    if self.is_wordy {
                        self.tell(format!("{who} to {to}: {message:?}"));
                    }
                    self.send(who, to, Datagram::Control(message));
                }
                Output::Acquired { term } => {
                    self.tell(format!("{who} acquires {term}"));
                    self.beat(who);
                }
                Output::Lost { term, released } => {
                    self.tell(format!("{who} loses {term}, {released}"));
                    self.beat(who);
                }
                Output::Remember(memory) => self.remember(who, memory),
                Output::VotersChanged { voters } => self.tell(format!("{who} counts by {voters:?}")),
                Output::LeaderSeen { .. } | Output::Extended { .. } => {}
            }
        }
    }

    fn blame(&mut self, fault: String) {
        self.tell(fault.clone());
        self.record.fault.get_or_insert(fault);
    }
}

/// What a board hears: those whose sign of life is at most 250 ms old.
fn view_of(process: &Process, known: &BTreeMap<BoardId, Fitness>, me: BoardId, now: Instant) -> View {
    let fresh = |heard: &&Heard| now.since(heard.at) < Duration::from_millis(250);
    let mut alive: BoardSet = process
        .heard
        .iter()
        .filter(|(_, heard)| fresh(heard))
        .map(|(board, _)| *board)
        .collect();
    alive.insert(me);
    let claims = process.heard.values().filter_map(|heard| heard.leads);
    View {
        alive,
        leads: claims.filter(|(_, until)| now < *until).map(|(term, _)| term).max(),
        seen: process.heard.values().map(|heard| heard.seen).max().unwrap_or_default(),
        fitness: known.clone(),
    }
}

fn draw(rng: &mut Jitter, below: u64) -> u64 {
    u64::try_from(rng.below(Duration::from_micros(below)).as_micros()).unwrap()
}

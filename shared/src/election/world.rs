//! A simulated site for the election's tests: boards with clocks that drift to the very limit, a network that
//! loses, delays, repeats and reorders, crashes with and without haste, freezes, and a referee that looks after
//! every event. All of it follows from one seed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::jitter::Jitter;
use super::rules::Rules;
use super::{Election, Life, Output, View};
use crate::config::{JournalConfig, NodeConfig, Timing};
use crate::ids::{BoardId, BoardSet, Name, Term};
use crate::limits::{DRIFT_PERMILLE, TERMS_RESERVED};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::election::ElectionMessage;

pub(super) fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

/// A site of `boards` boards, the first `voters` of them voting, with a lease of 300 ms.
pub(super) fn config(me: u8, boards: u8, voters: u8) -> NodeConfig {
    NodeConfig {
        site: Name::try_from("here").unwrap(),
        board: board(me),
        boards: (1..=boards).map(board).collect(),
        voters: (1..=voters).map(board).collect(),
        copies: 2,
        timing: Timing {
            heartbeat: Duration::from_millis(25),
            down_after: Duration::from_millis(150),
            lease: Duration::from_millis(300),
            renew: Duration::from_millis(50),
            ..Timing::default()
        },
        journal: JournalConfig::default(),
        has_region: false,
    }
}

/// What travels: the election's own datagrams, or a sign of life in place of membership's.
#[derive(Clone, Debug)]
enum Datagram {
    Control(ElectionMessage),
    Beat { boot: u32, number: u64, seen: Term, leads: Option<Term> },
}

/// The newest sign of life of one board.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Instant,
    order: (u32, u64),
    seen: Term,
    leads: Option<Term>,
}

struct Process {
    election: Election,
    heard: BTreeMap<BoardId, Heard>,
    beats: u64,
    beat_at: Instant,
    /// Real time at which a ceiling reaches the disk.
    reserving: Option<(u64, u64)>,
}

struct Machine {
    /// Speed of its clock in permille of real time.
    rate: u64,
    offset: u64,
    boot: u32,
    ceiling: u64,
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
        let next = process.election.next_deadline().at.min(process.beat_at);
        let reserved = process.reserving.map_or(u64::MAX, |(at, _)| at);
        let wake = if next == Instant::NEVER { u64::MAX } else { self.real(next) };
        wake.min(reserved).max(self.frozen_until).min(self.ends_at)
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
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) weather: Weather,
    pub(super) record: Record,
    rng: Jitter,
    boards: u8,
    voters: u8,
    rules: Rules,
    machines: BTreeMap<BoardId, Machine>,
    wire: BTreeMap<(u64, u64), (BoardId, BoardId, Datagram)>,
    flights: u64,
    cut: BTreeSet<(BoardId, BoardId)>,
}

impl World {
    /// A site whose boards start within the first 20 ms, each with a clock as wrong as allowed.
    pub(super) fn new(seed: u64, boards: u8, voters: u8, rules: Rules) -> Self {
        let mut rng = Jitter::new(seed);
        let machines = (1..=boards).map(|number| {
            let start_at = draw(&mut rng, 20_000);
            let rate = 1000 - DRIFT_PERMILLE + draw(&mut rng, 3) * DRIFT_PERMILLE;
            let machine = Machine {
                rate,
                offset: draw(&mut rng, 1_000_000_000),
                boot: 0,
                ceiling: 0,
                process: None,
                start_at,
                frozen_until: 0,
                ends_at: u64::MAX,
            };
            (board(number), machine)
        });
        Self {
            now: 0,
            weather: Weather::default(),
            record: Record::default(),
            machines: machines.collect(),
            rng,
            boards,
            voters,
            rules,
            wire: BTreeMap::new(),
            flights: 0,
            cut: BTreeSet::new(),
        }
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
            Some((*board, process.election.holds(machine.local(self.now))?))
        })
    }

    /// Every datagram from `from` to `to` is lost from now on.
    pub(super) fn cut(&mut self, from: BoardId, to: BoardId) {
        self.cut.insert((from, to));
    }

    pub(super) fn isolate(&mut self, victim: BoardId) {
        for other in (1..=self.boards).map(board) {
            self.cut(victim, other);
            self.cut(other, victim);
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The process dies at once, and starts again after `micros`.
    pub(super) fn crash(&mut self, victim: BoardId, micros: u64) {
        self.tell(format!("{victim} crashes for {micros} us"));
        let machine = self.machines.get_mut(&victim).unwrap();
        machine.process = None;
        machine.start_at = self.now + micros;
        machine.frozen_until = 0;
        machine.ends_at = u64::MAX;
    }

    pub(super) fn freeze(&mut self, victim: BoardId, micros: u64) {
        self.tell(format!("{victim} freezes for {micros} us"));
        self.machines.get_mut(&victim).unwrap().frozen_until = self.now + micros;
    }

    /// A graceful stop; the process lives on for `micros`, and starts again at once.
    pub(super) fn stop(&mut self, victim: BoardId, micros: u64) {
        let now = self.now;
        let machine = self.machines.get_mut(&victim).unwrap();
        let local = machine.local(now);
        let Some(process) = machine.process.as_mut() else {
            return;
        };
        let mut out = Outbox::default();
        process.election.handle_stop(local, &mut out);
        machine.ends_at = machine.ends_at.min(now + micros);
        self.tell(format!("{victim} stops within {micros} us"));
        self.drain(victim, out);
        self.referee();
    }

    /// A random fault, the holder being the favourite victim.
    pub(super) fn misfortune(&mut self) {
        let victim = match self.holder() {
            Some((holder, _)) if self.draw(2) == 0 => holder,
            Some(_) | None => board(self.draw(u64::from(self.boards)) as u8 + 1),
        };
        let other = board(self.draw(u64::from(self.boards)) as u8 + 1);
        match self.draw(24) {
            0..=3 => self.isolate(victim),
            4 | 5 => self.cut(victim, other),
            6 | 7 => {
                self.cut(victim, other);
                self.cut(other, victim);
            }
            8..=11 => self.heal(),
            12..=14 => {
                let micros = 5_000 + self.draw(1_000_000);
                self.crash(victim, micros);
            }
            15 | 16 => self.freeze_for_a_while(victim),
            17 | 18 => {
                let micros = 5_000 + self.draw(60_000);
                self.isolate(victim);
                self.crash_all_but(victim, micros);
            }
            19 | 20 => {
                let micros = self.draw(400_000);
                self.stop(victim, micros);
            }
            21 | 22 => self.change_weather(),
            _ => {
                let micros = 5_000 + self.draw(60_000);
                self.crash_all_but(other, micros);
                self.crash(other, micros);
            }
        }
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

    fn freeze_for_a_while(&mut self, victim: BoardId) {
        let micros = 50_000 + self.draw(900_000);
        self.freeze(victim, micros);
    }

    fn crash_all_but(&mut self, spared: BoardId, micros: u64) {
        for victim in (1..=self.boards).map(board).filter(|victim| *victim != spared) {
            self.crash(victim, micros);
        }
    }

    fn change_weather(&mut self) {
        self.weather = Weather {
            loss_permille: self.draw(4) * 100,
            repeat_permille: self.draw(3) * 50,
            late_permille: self.draw(4) * 100,
        };
    }

    fn draw(&mut self, below: u64) -> u64 {
        draw(&mut self.rng, below)
    }

    fn tell(&mut self, line: String) {
        self.record.story.push(format!("{:>9} {line}", self.now));
    }

    fn send(&mut self, from: BoardId, to: BoardId, datagram: Datagram) {
        let copies = 1 + u64::from(self.draw(1000) < self.weather.repeat_permille);
        for _ in 0..copies {
            let is_lost = self.draw(1000) < self.weather.loss_permille;
            let is_late = self.draw(1000) < self.weather.late_permille;
            let delay = 200 + self.draw(if is_late { 400_000 } else { 1_500 });
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
        let mut out = Outbox::default();
        match datagram {
            Datagram::Control(message) => process.election.handle_control(from, &message, local, &mut out),
            Datagram::Beat { boot, number, seen, leads } => {
                let order = (boot, number);
                if process.heard.get(&from).is_none_or(|heard| heard.order < order) {
                    process.heard.insert(from, Heard { at: local, order, seen, leads });
                    let view = view_of(process, to, local);
                    process.election.handle_view(view, local, &mut out);
                }
            }
        }
        self.drain(to, out);
    }

    fn wake(&mut self, who: BoardId) {
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
        let mut out = Outbox::default();
        if let Some((_, ceiling)) = process.reserving.filter(|(at, _)| *at <= now) {
            machine.ceiling = ceiling;
            process.reserving = None;
            process.election.handle_reserved(ceiling, local, &mut out);
        }
        if process.beat_at <= local {
            process.beat_at = local + Duration::from_millis(25);
            process.beats += 1;
            let view = view_of(process, who, local);
            process.election.handle_view(view, local, &mut out);
            let beat = Datagram::Beat {
                boot: machine.boot,
                number: process.beats,
                seen: process.election.seen(),
                leads: process.election.holds(local),
            };
            for to in (1..=self.boards).map(board).filter(|to| *to != who) {
                self.send(who, to, beat.clone());
            }
        }
        let process = self.machines.get_mut(&who).unwrap().process.as_mut().unwrap();
        if process.election.next_deadline().at <= local {
            process.election.handle_deadline(local, &mut out);
        }
        self.drain(who, out);
    }

    fn start(&mut self, who: BoardId) {
        let seed = self.draw(u64::MAX);
        let config = config(who.get(), self.boards, self.voters);
        let now = self.now;
        let rules = self.rules;
        let machine = self.machines.get_mut(&who).unwrap();
        machine.boot += 1;
        machine.ceiling += TERMS_RESERVED;
        let life = Life { boot: machine.boot, term_ceiling: machine.ceiling, seed };
        let local = machine.local(now);
        machine.start_at = u64::MAX;
        machine.process = Some(Process {
            election: Election::with_rules(&config, life, local, rules),
            heard: BTreeMap::new(),
            beats: 0,
            beat_at: local,
            reserving: None,
        });
        self.tell(format!("{who} starts"));
    }

    fn drain(&mut self, who: BoardId, mut out: Outbox<Output>) {
        while let Some(output) = out.pop() {
            match output {
                Output::Tell { to, message } => self.send(who, to, Datagram::Control(message)),
                Output::Acquired { term } => self.tell(format!("{who} acquires {term}")),
                Output::Lost { term, released } => self.tell(format!("{who} loses {term}, {released}")),
                Output::Reserve { ceiling } => {
                    let at = self.now + 1_000 + self.draw(30_000);
                    let process = self.machines.get_mut(&who).unwrap().process.as_mut().unwrap();
                    process.reserving = Some((at, ceiling));
                }
                Output::LeaderSeen { .. } => {}
            }
        }
    }

    /// Looks for a second holder and for a term that does not rise.
    fn referee(&mut self) {
        for machine in self.machines.values() {
            if let Some(process) = &machine.process {
                process.election.check();
            }
        }
        let holders: Vec<(BoardId, Term)> = self.holders().collect();
        if holders.len() > 1 {
            self.blame(format!("two holders: {holders:?}"));
        }
        let Some((_, term)) = holders.first() else {
            return;
        };
        match self.record.holders.last() {
            Some(last) if last == term => {}
            Some(last) if last > term => self.blame(format!("{term} was held after {last}")),
            Some(_) | None => self.record.holders.push(*term),
        }
    }

    fn blame(&mut self, fault: String) {
        self.tell(fault.clone());
        self.record.fault.get_or_insert(fault);
    }
}

/// What a board hears: those whose sign of life is at most 150 ms old.
fn view_of(process: &Process, me: BoardId, now: Instant) -> View {
    let fresh = |heard: &&Heard| now.since(heard.at) < Duration::from_millis(150);
    let mut alive: BoardSet = process
        .heard
        .iter()
        .filter(|(_, heard)| fresh(heard))
        .map(|(board, _)| *board)
        .collect();
    alive.insert(me);
    View {
        alive,
        leads: process.heard.values().filter(fresh).filter_map(|heard| heard.leads).max(),
        seen: process.heard.values().map(|heard| heard.seen).max().unwrap_or_default(),
    }
}

fn draw(rng: &mut Jitter, below: u64) -> u64 {
    u64::try_from(rng.below(Duration::from_micros(below)).as_micros()).unwrap()
}

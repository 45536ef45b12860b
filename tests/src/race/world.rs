//! The world of the race: an agenda in true time, boards with clocks of their own rate, ways that lose and delay, boards
//! that stall. Must not judge: it counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use shared::ids::BoardId;
use shared::membership::Rules;
use shared::time::Instant;

use super::{Detector, Effects, Seat};
use crate::dice::{Dice, micros};

/// What a world is like.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Boards, numbered from 1.
    pub boards: u8,
    /// Datagrams lost, in a million: each for itself, or in bursts.
    pub loss_ppm: u32,
    /// Mean length of a burst in which a way loses all; so often that `loss_ppm` is lost. Zero: no bursts.
    pub burst: Duration,
    /// Boards, from the highest number down, that stall again and again.
    pub stalling: u8,
    /// A stall lasts up to so long, and so long do they run in between.
    pub stall: (Duration, Duration),
    /// Datagrams that wait for a board that stalls; more are lost. None for one whose machine sleeps.
    pub waiting_most: usize,
    /// How far clocks run from true time at most, in a million.
    pub drift_ppm: u32,
    /// Broken: a board that was late judges first, and reads what has arrived afterwards.
    pub judges_first: bool,
    /// Broken: a heartbeat only counts if its acknowledgement arrives, too.
    pub by_round_trip: bool,
    /// The detectors' own rules.
    pub rules: Rules,
}

impl Weather {
    /// A LAN that loses one datagram in a thousand.
    pub fn clean(boards: u8) -> Self {
        Self {
            boards,
            loss_ppm: 1000,
            burst: Duration::ZERO,
            stalling: 0,
            stall: (Duration::ZERO, Duration::ZERO),
            waiting_most: 4096,
            drift_ppm: 200,
            judges_first: false,
            by_round_trip: false,
            rules: Rules::default(),
        }
    }

    /// The same with 30 % independent loss each way.
    pub fn lossy(boards: u8) -> Self {
        Self { loss_ppm: 300_000, ..Self::clean(boards) }
    }

    /// One board of 16 that runs about half of the time, stalling for up to two seconds.
    pub fn starved() -> Self {
        Self { stalling: 1, stall: (Duration::from_secs(2), Duration::from_secs(2)), ..Self::clean(16) }
    }
}

/// A finding of a board about another: who, of whom, whether alive, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who.
    pub by: u8,
    /// Of whom.
    pub of: u8,
    /// Whether that one counts as alive now.
    pub alive: bool,
    /// True micros.
    pub at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrives(u32),
    Wake(u8),
    Stall(u8),
    Thaw(u8),
}

struct Board<D: Detector> {
    detector: D,
    is_dead: bool,
    is_stalled: bool,
    inbox: Vec<(BoardId, D::Datagram)>,
    /// The wake-up that is in the agenda.
    armed: u64,
    /// Rate of its clock in millionths more or less than true.
    drift: i64,
    origin: u64,
    life: u32,
    bytes: u64,
}

/// Whether a way is in a burst, and until when.
#[derive(Clone, Copy, Default)]
struct Burst {
    is_bad: bool,
    until: u64,
}

/// A world of detectors.
pub struct World<D: Detector> {
    weather: Weather,
    tuning: D::Tuning,
    dice: Dice,
    now: u64,
    count: u64,
    agenda: BinaryHeap<Reverse<(u64, u64, What)>>,
    on_the_way: Vec<Option<(u8, u8, D::Datagram)>>,
    free: Vec<u32>,
    boards: Vec<Board<D>>,
    bursts: Vec<Burst>,
    effects: Effects<D::Datagram>,
    /// All that was found, in order.
    pub found: Vec<Found>,
}

impl<D: Detector> World<D> {
    /// A world in which all boards start within 100 ms.
    pub fn new(weather: Weather, tuning: D::Tuning, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let count = usize::from(weather.boards);
        let mut world = Self {
            bursts: vec![Burst::default(); (count + 1) * (count + 1)],
            tuning,
            now: 1_000_000,
            count: 0,
            agenda: BinaryHeap::new(),
            on_the_way: Vec::new(),
            free: Vec::new(),
            boards: Vec::new(),
            effects: Effects::default(),
            found: Vec::new(),
            dice: dice.fork(),
            weather,
        };
        for number in 1..=world.weather.boards {
            world.now += dice.below(100_000 / u64::from(world.weather.boards));
            let drift =
                dice.between(0, 2 * u64::from(world.weather.drift_ppm)) as i64 - i64::from(world.weather.drift_ppm);
            let origin = dice.below(1 << 40);
            let detector = world.seated(number, 1, origin, drift);
            world.boards.push(Board {
                detector,
                is_dead: false,
                is_stalled: false,
                inbox: Vec::new(),
                armed: u64::MAX,
                drift,
                origin,
                life: 1,
                bytes: 0,
            });
            world.carry_out(number);
            if number > world.weather.boards - world.weather.stalling {
                world.plan(world.now + 5_000_000, What::Stall(number));
            }
        }
        world
    }

    fn seated(&mut self, number: u8, life: u32, origin: u64, drift: i64) -> D {
        let board = BoardId::new(number).expect("boards are numbered from 1 to 64");
        let seat = Seat {
            board,
            boards: self.weather.boards,
            life,
            seed: self.dice.word(),
            rules: self.weather.rules,
        };
        D::start(seat, &self.tuning, local(self.now, origin, drift), &mut self.effects)
    }

    /// True micros.
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// The world's chance, for whoever decides what goes wrong.
    pub const fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// `board` loses its power.
    pub fn kill(&mut self, board: u8) {
        let board = self.board(board);
        board.is_dead = true;
        board.inbox.clear();
    }

    /// `board` starts again, in its next life.
    pub fn restart(&mut self, number: u8) {
        let (life, origin, drift) = (self.board(number).life + 1, self.board(number).origin, self.board(number).drift);
        let detector = self.seated(number, life, origin, drift);
        let board = self.board(number);
        (board.detector, board.life, board.is_dead, board.armed) = (detector, life, false, u64::MAX);
        self.carry_out(number);
    }

    /// Whether every living board counts exactly the living as alive.
    pub fn agrees(&self) -> bool {
        self.boards.iter().filter(|board| !board.is_dead).all(|board| {
            (1..).zip(&self.boards).all(|(number, other)| {
                BoardId::new(number).is_some_and(|other_id| board.detector.is_alive(other_id) != other.is_dead)
            })
        })
    }

    /// Bytes sent since the world began: on average a board, and by the busiest.
    pub fn bytes(&self) -> (u64, u64) {
        let all: u64 = self.boards.iter().map(|board| board.bytes).sum();
        let most = self.boards.iter().map(|board| board.bytes).max().unwrap_or(0);
        (all / u64::from(self.weather.boards), most)
    }

    /// Forgets the bytes counted so far.
    pub fn forget_bytes(&mut self) {
        self.boards.iter_mut().for_each(|board| board.bytes = 0);
    }

    /// Lets the world go on for `span`, or until `done` says so after an event; true where it did.
    pub fn run(&mut self, span: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + micros(span);
        while let Some(Reverse((at, _, what))) = self.agenda.peek().copied() {
            if at > end {
                break;
            }
            self.agenda.pop();
            self.now = at;
            let before = self.found.len();
            self.happen(what);
            if self.found.len() != before && done(self) {
                return true;
            }
        }
        self.now = end;
        false
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrives(slot) => {
                let place = slot as usize;
                if let Some((from, to, datagram)) = self.on_the_way.get_mut(place).and_then(Option::take) {
                    self.free.push(slot);
                    self.arrive(from, to, datagram);
                }
            }
            What::Wake(number) => {
                let now = self.now;
                let board = self.board(number);
                if board.armed == now {
                    board.armed = u64::MAX;
                    self.wake(number);
                }
            }
            What::Stall(number) => {
                self.board(number).is_stalled = true;
                let until = self.now + self.dice.below(micros(self.weather.stall.0) + 1);
                self.plan(until, What::Thaw(number));
            }
            What::Thaw(number) => {
                self.thaw(number);
                let until = self.now + self.dice.below(micros(self.weather.stall.1) + 1);
                self.plan(until, What::Stall(number));
            }
        }
    }

    /// What has arrived first, then what is due; unless the rule is broken.
    fn thaw(&mut self, number: u8) {
        self.board(number).is_stalled = false;
        if self.weather.judges_first {
            self.wake(number);
        }
        for (from, datagram) in std::mem::take(&mut self.board(number).inbox) {
            let now = self.local(number);
            let (effects, board) = (&mut self.effects, &mut self.boards[usize::from(number) - 1]);
            board.detector.hear(from, &datagram, now, effects);
            self.carry_out(number);
        }
        self.wake(number);
    }

    fn arrive(&mut self, from: u8, to: u8, datagram: D::Datagram) {
        let now = self.local(to);
        let (effects, board) = (&mut self.effects, &mut self.boards[usize::from(to) - 1]);
        let Some(from) = BoardId::new(from).filter(|_| !board.is_dead) else {
            return;
        };
        if board.is_stalled {
            if board.inbox.len() < self.weather.waiting_most {
                board.inbox.push((from, datagram));
            }
            return;
        }
        board.detector.hear(from, &datagram, now, effects);
        self.carry_out(to);
    }

    fn wake(&mut self, number: u8) {
        let now = self.local(number);
        let (effects, board) = (&mut self.effects, &mut self.boards[usize::from(number) - 1]);
        if board.is_dead || board.is_stalled {
            return;
        }
        if board.detector.next() <= now {
            board.detector.wake(now, effects);
        }
        self.carry_out(number);
    }

    /// What a board asked for happens; its next wake-up is planned.
    fn carry_out(&mut self, number: u8) {
        let mut sent = std::mem::take(&mut self.effects.sent);
        let mut bytes = u64::from(std::mem::take(&mut self.effects.besides));
        for (to, datagram, size) in sent.drain(..) {
            bytes += u64::from(size);
            self.send(number, to.get(), datagram);
        }
        self.effects.sent = sent;
        for (of, alive) in self.effects.found.drain(..) {
            self.found.push(Found { by: number, of: of.get(), alive, at: self.now });
        }
        let now = self.now;
        let board = self.board(number);
        board.bytes += bytes;
        let next = board.detector.next();
        if next == Instant::NEVER {
            return;
        }
        let at = true_time(next, board.origin, board.drift).max(now);
        if at < board.armed {
            board.armed = at;
            self.plan(at, What::Wake(number));
        }
    }

    fn send(&mut self, from: u8, to: u8, datagram: D::Datagram) {
        if self.is_lost(from, to) || self.weather.by_round_trip && self.is_lost(to, from) {
            return;
        }
        let at = self.now + micros(self.dice.delay(Duration::from_micros(700), Duration::from_micros(600)));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.on_the_way.push(None);
            (self.on_the_way.len() - 1) as u32
        });
        self.on_the_way[slot as usize] = Some((from, to, datagram));
        self.plan(at, What::Arrives(slot));
    }

    fn is_lost(&mut self, from: u8, to: u8) -> bool {
        if self.weather.burst.is_zero() {
            return self.dice.chance(self.weather.loss_ppm);
        }
        let bad = micros(self.weather.burst);
        let good = bad * u64::from(1_000_000 - self.weather.loss_ppm) / u64::from(self.weather.loss_ppm.max(1));
        let width = usize::from(self.weather.boards) + 1;
        let way = &mut self.bursts[usize::from(from) * width + usize::from(to)];
        while way.until <= self.now {
            way.is_bad = !way.is_bad;
            let mean = Duration::from_micros(if way.is_bad { bad } else { good });
            way.until = way.until.max(self.now.saturating_sub(60_000_000)) + micros(self.dice.gap(mean)).max(1);
        }
        way.is_bad
    }

    fn plan(&mut self, at: u64, what: What) {
        self.count += 1;
        self.agenda.push(Reverse((at, self.count, what)));
    }

    fn local(&self, number: u8) -> Instant {
        let board = &self.boards[usize::from(number) - 1];
        local(self.now, board.origin, board.drift)
    }

    fn board(&mut self, number: u8) -> &mut Board<D> {
        &mut self.boards[usize::from(number) - 1]
    }
}

/// What a clock of that rate shows.
fn local(now: u64, origin: u64, drift: i64) -> Instant {
    let off = (now as i64 / 1000 * drift) / 1000;
    Instant::from_micros(origin.saturating_add(now).saturating_add_signed(off))
}

/// The first true instant at which that clock shows `at` or later.
fn true_time(at: Instant, origin: u64, drift: i64) -> u64 {
    let shown = at.micros().saturating_sub(origin) as i64;
    let mut guess = shown - shown / 1000 * drift / 1000;
    while local(guess.unsigned_abs(), origin, drift) < at {
        guess += 1 + (at.micros() - local(guess.unsigned_abs(), origin, drift).micros()) as i64;
    }
    guess.unsigned_abs()
}

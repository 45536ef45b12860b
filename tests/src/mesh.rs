//! The network between boards as data: directed ways that can be cut one by one, and one reliable connection for
//! each pair of boards. What happens to a message is decided in `links.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shared::ids::BoardId;
use shared::wire::peer::PeerMessage;

use crate::clock::Moment;
use crate::dice::Dice;
use crate::settings::{Bursts, Weather};

/// A directed way from one machine to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    weather: Weather,
    /// Cuts in force: each is mended on its own.
    pub(crate) cuts: u32,
    /// Loss in bursts and its present mood, where there is any.
    bursts: Option<Mood>,
    /// Everything takes so much longer, until then: a switch that is busy, a roaming radio.
    spike: (Duration, Moment),
}

/// Loss in bursts (Gilbert and Elliott, in time rather than in packets): a way is good or bad for a while.
#[derive(Clone, Copy, Debug)]
struct Mood {
    bursts: Bursts,
    until: Moment,
    bad: bool,
    turns: Moment,
}

/// Lost of what travels while a way is bad, in a million.
const BAD_LOSS_PPM: u32 = 900_000;

impl Path {
    pub(crate) const fn new(weather: Weather) -> Self {
        Self { weather, cuts: 0, bursts: None, spike: (Duration::ZERO, Moment::ZERO) }
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.cuts == 0
    }

    /// Shortest time that anything takes.
    pub(crate) const fn least(&self) -> Duration {
        self.weather.delay
    }

    /// From now on loss comes in bursts, until then.
    pub(crate) const fn roughen(&mut self, bursts: Bursts, until: Moment) {
        self.bursts = Some(Mood { bursts, until, bad: false, turns: Moment::ZERO });
    }

    /// From now on everything takes up to `extra` longer, until then.
    pub(crate) const fn slow_down(&mut self, extra: Duration, until: Moment) {
        self.spike = (extra, until);
    }

    /// Ends what was done to this way, but for cuts.
    pub(crate) const fn calm(&mut self) {
        self.bursts = None;
        self.spike = (Duration::ZERO, Moment::ZERO);
    }

    /// Whether a packet that leaves now is lost on an open way.
    pub(crate) fn loses(&mut self, now: Moment, dice: &mut Dice) -> bool {
        if let Some(mood) = &mut self.bursts {
            if now >= mood.until {
                self.bursts = None;
            } else {
                if now >= mood.turns {
                    mood.bad = !mood.bad;
                    let mean = if mood.bad { mood.bursts.bad } else { mood.bursts.good };
                    mood.turns = now + dice.gap(mean);
                }
                if mood.bad && dice.chance(BAD_LOSS_PPM) {
                    return true;
                }
            }
        }
        dice.chance(self.weather.loss_ppm)
    }

    /// How long a packet that leaves now takes.
    pub(crate) fn delay(&self, now: Moment, dice: &mut Dice) -> Duration {
        let delay = dice.delay(self.weather.delay, self.weather.jitter);
        if now < self.spike.1 {
            delay + dice.span(Duration::ZERO, self.spike.0)
        } else {
            delay
        }
    }

    /// What becomes of a datagram that leaves now: when each of its copies arrives.
    pub(crate) fn datagram(&mut self, now: Moment, dice: &mut Dice) -> [Option<Duration>; 2] {
        if !self.is_open() || self.loses(now, dice) {
            return [None, None];
        }
        let first = Some(self.delay(now, dice));
        let twice = dice.chance(self.weather.twice_ppm);
        [first, twice.then(|| self.delay(now, dice))]
    }
}

/// Two boards, the lower number first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) low: BoardId,
    pub(crate) high: BoardId,
}

impl Pair {
    pub(crate) fn new(one: BoardId, other: BoardId) -> Self {
        Self { low: one.min(other), high: one.max(other) }
    }

    /// The board at `side`.
    pub(crate) const fn at(self, side: Side) -> BoardId {
        match side {
            Side::Low => self.low,
            Side::High => self.high,
        }
    }

    /// On which side `board` is.
    pub(crate) fn side(self, board: BoardId) -> Side {
        if board == self.low { Side::Low } else { Side::High }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Low,
    High,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Low, Self::High];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

/// What one end of a connection knows and has on its way to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    /// The board has been told that the connection stands.
    pub(crate) told: bool,
    /// Nothing arrives here before: order is kept.
    pub(crate) arrives: Moment,
    /// On its way here and stuck behind a cut.
    pub(crate) held: VecDeque<Box<PeerMessage>>,
}

/// The reliable connection of a pair.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    /// Counts connections: what belongs to an earlier one is void.
    pub(crate) generation: u64,
    pub(crate) stands: bool,
    low: End,
    high: End,
}

impl Link {
    pub(crate) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Low => &mut self.low,
            Side::High => &mut self.high,
        }
    }

    /// Ends the connection: what is on its way is lost.
    pub(crate) fn fall(&mut self) {
        self.stands = false;
        self.generation += 1;
        for side in Side::BOTH {
            self.end(side).held.clear();
        }
    }
}

/// The network of a site.
#[derive(Debug, Default)]
pub(crate) struct Mesh {
    paths: BTreeMap<(BoardId, BoardId), Path>,
    pub(crate) links: BTreeMap<Pair, Link>,
}

impl Mesh {
    pub(crate) fn new(boards: &[BoardId], weather: Weather) -> Self {
        let mut mesh = Self::default();
        for one in boards {
            for other in boards.iter().filter(|other| *other != one) {
                mesh.paths.insert((*one, *other), Path::new(weather));
                mesh.links.entry(Pair::new(*one, *other)).or_default();
            }
        }
        mesh
    }

    pub(crate) fn path(&mut self, from: BoardId, to: BoardId) -> &mut Path {
        self.paths.get_mut(&(from, to)).expect("every two boards have a way")
    }

    pub(crate) fn link(&mut self, pair: Pair) -> &mut Link {
        self.links.get_mut(&pair).expect("every two boards have a connection")
    }

    pub(crate) fn both_open(&mut self, pair: Pair) -> bool {
        self.path(pair.low, pair.high).is_open() && self.path(pair.high, pair.low).is_open()
    }

    /// Every way that is cut.
    pub(crate) fn cut_ways(&self) -> Vec<(BoardId, BoardId)> {
        let cut = self.paths.iter().filter(|(_, path)| !path.is_open());
        cut.map(|(way, _)| *way).collect()
    }

    /// Every way loses and delays as it usually does; cuts stay.
    pub(crate) fn calm(&mut self) {
        self.paths.values_mut().for_each(Path::calm);
    }

    pub(crate) fn pairs(&self) -> Vec<Pair> {
        self.links.keys().copied().collect()
    }

    pub(crate) fn pairs_of(&self, board: BoardId) -> Vec<Pair> {
        self.links
            .keys()
            .copied()
            .filter(|pair| pair.low == board || pair.high == board)
            .collect()
    }
}

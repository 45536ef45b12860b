//! The network between boards as data: directed ways that can be cut one by one, and one reliable connection for
//! each pair of boards. What happens to a message is decided in `links.rs`.

use std::collections::{BTreeMap, VecDeque};

use shared::ids::BoardId;
use shared::wire::peer::PeerMessage;

use crate::clock::Moment;
use crate::settings::Weather;

/// A directed way from one machine to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) weather: Weather,
    /// Cuts in force: each is mended on its own.
    pub(crate) cuts: u32,
}

impl Path {
    pub(crate) const fn new(weather: Weather) -> Self {
        Self { weather, cuts: 0 }
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.cuts == 0
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

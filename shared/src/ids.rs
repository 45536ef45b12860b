//! Names of things: boards, journal epochs, origins, streams, terms. Every id is a type; a bare integer never
//! crosses a module.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{BOARDS_MAX, NAME_BYTES_MAX};

/// A short name (site, publisher role, capability), at most [`NAME_BYTES_MAX`] bytes of UTF-8.
pub type Name = heapless::String<NAME_BYTES_MAX>;

/// A board of a site: 1 to 64, unique within the site, never reused for another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct BoardId(u8);

impl BoardId {
    /// The board numbered `number`, or `None` outside 1..=64.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number as usize <= BOARDS_MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number, 1 to 64.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for BoardId {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("a board's number is 1 to 64")
    }
}

impl From<BoardId> for u8 {
    fn from(board: BoardId) -> Self {
        board.0
    }
}

impl fmt::Display for BoardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "board-{}", self.0)
    }
}

/// A set of boards of one site, as one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardSet(u64);

impl BoardSet {
    /// No board.
    pub const EMPTY: Self = Self(0);

    /// Adds `board`; true where it was not there yet.
    pub const fn insert(&mut self, board: BoardId) -> bool {
        let bit = 1 << (board.0 - 1);
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    /// Takes `board` out.
    pub const fn remove(&mut self, board: BoardId) {
        self.0 &= !(1 << (board.0 - 1));
    }

    /// Whether `board` is in the set.
    pub const fn contains(self, board: BoardId) -> bool {
        self.0 & (1 << (board.0 - 1)) != 0
    }

    /// How many boards are in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The boards, in order of number.
    pub fn iter(self) -> impl Iterator<Item = BoardId> {
        (1..=BOARDS_MAX as u8).map(BoardId).filter(move |board| self.contains(*board))
    }
}

impl FromIterator<BoardId> for BoardSet {
    fn from_iter<I: IntoIterator<Item = BoardId>>(boards: I) -> Self {
        let mut set = Self::EMPTY;
        for board in boards {
            set.insert(board);
        }
        set
    }
}

/// One life of a board's journal. `boot` rises by one at every start and is fsynced before the first record is
/// accepted; `nonce` tells a cloned or rolled-back disk from the original.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Start counter, from 1.
    pub boot: u32,
    /// 64 random bits drawn at that start.
    pub nonce: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}", self.boot, self.nonce)
    }
}

/// A board's journal as a source of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Whose journal.
    pub board: BoardId,
    /// Which life of it.
    pub epoch: Epoch,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.board, self.epoch)
    }
}

/// How much a record matters: what is shed last, sent first, committed soonest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Still accepted when all else is shed; sent first.
    Alarm,
    /// The ordinary reading.
    Event,
    /// Large or cheap data; shed first.
    Bulk,
}

impl Class {
    /// Every class, most important first.
    pub const ALL: [Self; 3] = [Self::Alarm, Self::Event, Self::Bulk];

    /// The word used in topics, configuration and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Event => "event",
            Self::Bulk => "bulk",
        }
    }

    /// The class named `word`.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

/// The records of one class of one origin: sequences run without a hole within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stream {
    /// Whose journal, which life.
    pub origin: Origin,
    /// Which class.
    pub class: Class,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.origin, self.class.as_str())
    }
}

/// Place of a record in its stream, from 1.
pub type Seq = u64;

/// Number of a leadership; never reused. `counter` in the high bits orders terms, the candidate's number in the
/// low 8 makes them unique by construction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(u64);

impl Term {
    /// Before any leadership.
    pub const ZERO: Self = Self(0);

    /// The term in which `board` holds the counter `counter`.
    pub const fn new(counter: u64, board: BoardId) -> Self {
        Self(counter << 8 | board.0 as u64)
    }

    /// The term as one number, rising over leaderships: the fencing token on the wire and in stores.
    pub const fn token(self) -> u64 {
        self.0
    }

    /// The term that `token` stands for.
    pub const fn from_token(token: u64) -> Self {
        Self(token)
    }

    /// The ordering part.
    pub const fn counter(self) -> u64 {
        self.0 >> 8
    }

    /// Whose term this is; `None` for [`Term::ZERO`].
    pub const fn board(self) -> Option<BoardId> {
        BoardId::new((self.0 & 0xff) as u8)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 8, self.0 & 0xff)
    }
}

/// Names an effect that the shell was asked for, and comes back with its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names a publish that waits for its answer. The shell chooses it and reads it back; the node only keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Number of a journal segment on one board: rises, never reused, in the file's name and in every block of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId(pub u64);

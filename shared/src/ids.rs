//! Names of things: boards, journal epochs, origins, streams, terms. Every id is a type; a bare integer never
//! crosses a module.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{BOARDS_MAX, DUTIES_MAX, NAME_BYTES_MAX};

/// A short name (site, publisher role, capability), at most [`NAME_BYTES_MAX`] bytes of UTF-8.
pub type Name = heapless::String<NAME_BYTES_MAX>;

/// A board of a site: 1 to 64, unique within the site, never reused for another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct BoardId(u8);

impl BoardId {
    /// The lowest.
    pub const FIRST: Self = Self(1);

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

    /// The boards that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The boards that are in this set and not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The boards, in order of number.
    pub fn iter(self) -> impl Iterator<Item = BoardId> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let place = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            Some(BoardId(place as u8 + 1))
        })
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

/// Who may vote for the leader, as one small number: a board (1 to 64) or a witness (64 + its number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct VoterId(u8);

impl VoterId {
    /// The voter numbered `number`, or `None` outside 1..=127.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= 127 { Some(Self(number)) } else { None }
    }

    /// The number: 1 to 64 for boards, 65 to 127 for witnesses.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The board, where it is one.
    pub const fn board(self) -> Option<BoardId> {
        BoardId::new(self.0)
    }

    /// The witness, where it is one.
    pub const fn witness(self) -> Option<WitnessId> {
        if self.0 as usize > BOARDS_MAX {
            WitnessId::new(self.0 - BOARDS_MAX as u8)
        } else {
            None
        }
    }
}

impl TryFrom<u8> for VoterId {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("a voter's number is 1 to 127")
    }
}

impl From<VoterId> for u8 {
    fn from(voter: VoterId) -> Self {
        voter.0
    }
}

impl From<BoardId> for VoterId {
    fn from(board: BoardId) -> Self {
        Self(board.0)
    }
}

impl From<WitnessId> for VoterId {
    fn from(witness: WitnessId) -> Self {
        Self(witness.0 + BOARDS_MAX as u8)
    }
}

impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.board(), self.witness()) {
            (Some(board), _) => board.fmt(f),
            (None, Some(witness)) => witness.fmt(f),
            (None, None) => write!(f, "voter-{}", self.0),
        }
    }
}

/// A voter of a site that holds no data and never leads: 1 to 63, unique in the site, never reused for another
/// machine, since its vote is what that machine remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct WitnessId(u8);

impl WitnessId {
    /// The witness numbered `number`, or `None` outside 1..=63.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= 63 { Some(Self(number)) } else { None }
    }

    /// The number, 1 to 63.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for WitnessId {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("a witness's number is 1 to 63")
    }
}

impl From<WitnessId> for u8 {
    fn from(witness: WitnessId) -> Self {
        witness.0
    }
}

impl fmt::Display for WitnessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "witness-{}", self.0)
    }
}

/// A set of voters, as one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VoterSet(u128);

impl VoterSet {
    /// No voter.
    pub const EMPTY: Self = Self(0);

    /// Adds `voter`; true where it was not there yet.
    pub const fn insert(&mut self, voter: VoterId) -> bool {
        let bit = 1 << voter.0;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    /// Takes `voter` out.
    pub const fn remove(&mut self, voter: VoterId) {
        self.0 &= !(1 << voter.0);
    }

    /// As one number: bit n stands for the voter numbered n.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The set that `bits` stand for; `None` where the lowest is set, which stands for nobody.
    pub const fn from_bits(bits: u128) -> Option<Self> {
        if bits & 1 == 0 { Some(Self(bits)) } else { None }
    }

    /// Whether `voter` is in the set.
    pub const fn contains(self, voter: VoterId) -> bool {
        self.0 & (1 << voter.0) != 0
    }

    /// How many voters are in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The voters, in order of number: boards first.
    pub fn iter(self) -> impl Iterator<Item = VoterId> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let bit = u8::try_from(left.trailing_zeros()).ok().filter(|_| left != 0)?;
            left &= left - 1;
            Some(VoterId(bit))
        })
    }

    /// The boards among them.
    pub fn boards(self) -> BoardSet {
        self.iter().filter_map(VoterId::board).collect()
    }

    /// The witnesses among them.
    pub fn witnesses(self) -> impl Iterator<Item = WitnessId> {
        self.iter().filter_map(VoterId::witness)
    }
}

impl FromIterator<VoterId> for VoterSet {
    fn from_iter<I: IntoIterator<Item = VoterId>>(voters: I) -> Self {
        let mut set = Self::EMPTY;
        for voter in voters {
            set.insert(voter);
        }
        set
    }
}

impl From<BoardSet> for VoterSet {
    fn from(boards: BoardSet) -> Self {
        boards.iter().map(VoterId::from).collect()
    }
}

/// Who votes, and the number of that decision: rises with every change, from 1 (what the configuration said first).
/// A later decision carries the term of the leader that made it, so that two leaders never number two decisions alike,
/// and the decision of a later leader is the later one.
///
/// ```text
/// 63                            8 7    0
/// | term's token                 | step |      1 alone: the configuration's
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Voters {
    /// Orders decisions.
    pub version: u64,
    /// Who votes.
    pub set: VoterSet,
}

impl Voters {
    /// The version of what the configuration says.
    pub const CONFIGURED: u64 = 1;

    /// The version of the `step`-th decision made under `term`, from 1.
    pub const fn version_of(term: Term, step: u8) -> u64 {
        term.token() << 8 | step as u64
    }

    /// The term of the leader that decided; [`Term::ZERO`] for the configuration.
    pub const fn decided_in(&self) -> Term {
        Term::from_token(self.version >> 8)
    }

    /// How many voters are more than half of them.
    pub const fn quorum(&self) -> usize {
        self.set.len() / 2 + 1
    }
}

/// A user's duty: its place, from 0, in the list of duties that all boards of a site share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct DutyId(u8);

impl DutyId {
    /// The duty at `place`, or `None` from [`DUTIES_MAX`] on.
    pub const fn new(place: u8) -> Option<Self> {
        if (place as usize) < DUTIES_MAX { Some(Self(place)) } else { None }
    }

    /// The place, from 0.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for DutyId {
    type Error = &'static str;

    fn try_from(place: u8) -> Result<Self, Self::Error> {
        Self::new(place).ok_or("a site has at most 32 duties")
    }
}

impl From<DutyId> for u8 {
    fn from(duty: DutyId) -> Self {
        duty.0
    }
}

/// The fencing token of an exclusive duty: rises with every new holder, over terms and within one. Receivers keep the
/// highest and refuse lower ones.
///
/// ```text
/// 63            24 23      16 15          0
/// | term counter  | board    | revision    |
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fencing(u64);

impl Fencing {
    /// The token of `revision` of `term`.
    pub const fn new(term: Term, revision: u16) -> Self {
        Self(term.token() << 16 | revision as u64)
    }

    /// As one number.
    pub const fn token(self) -> u64 {
        self.0
    }

    /// The leader's term.
    pub const fn term(self) -> Term {
        Term::from_token(self.0 >> 16)
    }

    /// The revision within the term.
    pub const fn revision(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Display for Fencing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term(), self.revision())
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

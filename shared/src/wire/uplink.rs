//! Between the holder of `uplink` and the region. Blocks may be sent twice, by two holders, in any order: the
//! region's coverage decides what is new.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use crate::checksum::crc32c_of;
use crate::config::DutyMode;
use crate::ids::{BoardId, BoardSet, Epoch, Fencing, Name, Seq, Stream, Term};
use crate::limits::{DUTIES_MAX, DUTY_WORDS_BYTES_MAX};
use crate::ranges::SeqRange;
use crate::wire::peer::Coverage;

/// One message to the region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRegion {
    /// First on every connection.
    Hello(Hello),
    /// What do you cover of these streams? At most `COVERAGE_STREAMS_MAX` of them.
    Ask(Vec<Stream>),
    /// Store this.
    Block(Block),
    /// How the site is, once a second.
    Report(SiteReport),
    /// Who performs the users' duties: with a report where something has changed, and with every tenth. Only to a region that
    /// has said that it hears this ([`Coverage::hears`]): an older one would take it for no message at all.
    Duties(SiteDuties),
}

/// One message from the region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRegion {
    /// The session stands.
    Welcome {
        /// Drawn when the region's store was made or restored; another number means that coverage may have gone back.
        incarnation: u64,
    },
    /// What is stored: the answer to `Ask` (whole), and the acknowledgement of blocks (added), sent after the
    /// transaction has committed. Behind the welcome, lines that say what the region reads ([`Coverage::reads`]) and what it
    /// hears ([`Coverage::hears`]).
    Coverage(Vec<Coverage>),
    /// The session ends; why is in the reason.
    Refused(Refusal),
}

/// Why the region refuses a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A holder with a higher term has spoken for this site.
    Fenced {
        /// That term.
        highest: Term,
    },
    /// The certificate does not belong to the site or board that the hello names.
    Identity,
    /// This gateway serves as many sites as it can.
    Full,
    /// A message that does not fit the conversation, or a block that does not hold together.
    Protocol,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced { highest } => write!(f, "a holder with the higher term {highest} has spoken for this site"),
            Self::Identity => f.write_str("the certificate does not belong to the site or board that was named"),
            Self::Full => f.write_str("this gateway serves as many as it can"),
            Self::Protocol => f.write_str("a message did not fit the conversation"),
        }
    }
}

/// Who speaks for the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The site.
    pub site: Name,
    /// The board that holds `uplink`.
    pub board: BoardId,
    /// Its journal epoch.
    pub epoch: Epoch,
    /// Term of its lease: the fencing token.
    pub term: Term,
}

/// How a block's body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codec {
    /// The records as they are.
    Plain,
    /// LZ4 block format.
    Lz4,
    /// Records in columns: `docs/data-files.md`. Sent only to whoever has said that it reads them.
    Columns,
}

/// Which codecs whoever stores a block can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// Those of the first builds: as they are, and LZ4. What holds until somebody says more.
    #[default]
    Lz4,
    /// Columns, too.
    Columns,
}

impl Reads {
    /// Whether it can read such a block.
    pub const fn takes(self, codec: Codec) -> bool {
        match codec {
            Codec::Plain | Codec::Lz4 => true,
            Codec::Columns => matches!(self, Self::Columns),
        }
    }
}

/// A sealed, immutable, compressed run of records of one stream: the unit of upload and of storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Whose records.
    pub stream: Stream,
    /// Sequence of the first.
    pub first: Seq,
    /// How many, 1 to `RUN_RECORDS_MAX`.
    pub count: u32,
    /// How the body is packed.
    pub codec: Codec,
    /// Bytes of the records unpacked, at most `BLOCK_RAW_BYTES_MAX`.
    pub raw_len: u32,
    /// Checksum of all of the above and the body.
    pub crc: u32,
    /// The packed records.
    pub body: Bytes,
}

impl Block {
    /// A block with its checksum.
    pub fn new(stream: Stream, first: Seq, count: u32, codec: Codec, raw_len: u32, body: Bytes) -> Self {
        let mut block = Self { stream, first, count, codec, raw_len, crc: 0, body };
        block.crc = block.checksum();
        block
    }

    /// The sequences, or `None` where the numbers make no sense.
    pub const fn range(&self) -> Option<SeqRange> {
        SeqRange::from_count(self.first, self.count)
    }

    /// Whether the checksum holds.
    pub fn is_intact(&self) -> bool {
        self.crc == self.checksum()
    }

    fn checksum(&self) -> u32 {
        let Stream { origin, class } = &self.stream;
        crc32c_of(&[
            &[origin.board.get(), *class as u8, self.codec as u8],
            &origin.epoch.boot.to_le_bytes(),
            &origin.epoch.nonce.to_le_bytes(),
            &self.first.to_le_bytes(),
            &self.count.to_le_bytes(),
            &self.raw_len.to_le_bytes(),
            &self.body,
        ])
    }
}

/// How the site is, as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteReport {
    /// The boards of the site, the leader itself included, at most 64.
    pub boards: Vec<BoardReport>,
}

/// How one board is. Counters run from the board's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardReport {
    /// The board.
    pub board: BoardId,
    /// Its journal epoch; the default, and every counter 0, where the leader has not heard from it since it leads.
    pub epoch: Epoch,
    /// Whether the leader hears it.
    pub alive: bool,
    /// Records taken in and numbered.
    pub accepted: u64,
    /// Of these, records on k boards and acknowledged.
    pub committed: u64,
    /// Of these, records committed on fewer than k boards because fewer lived.
    pub degraded: u64,
    /// Records taken in without an acknowledgement to give (QoS 0).
    pub unacknowledged: u64,
    /// Records shed, each in a gap record.
    pub shed: u64,
    /// Records in its journal, own and copies, that the region does not cover yet.
    pub backlog: u64,
}

impl BoardReport {
    /// What is told of a board that has not said a word to the leader.
    pub const fn unheard(board: BoardId) -> Self {
        Self {
            board,
            epoch: Epoch { boot: 0, nonce: 0 },
            alive: false,
            accepted: 0,
            committed: 0,
            degraded: 0,
            unacknowledged: 0,
            shed: 0,
            backlog: 0,
        }
    }

    /// Whether it says anything beside who is alive.
    pub fn is_heard(&self) -> bool {
        self.epoch != Epoch::default()
    }
}

/// The users' duties of a site, as its leader has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteDuties {
    /// In the site's order, at most `DUTIES_MAX`: what names more is no message.
    #[serde(deserialize_with = "bounded")]
    pub duties: Vec<DutyTold>,
}

impl SiteDuties {
    /// Whether both say the same, but for the time that has passed.
    pub fn is_as(&self, other: &Self) -> bool {
        let is_as = |(one, other): (&DutyTold, &DutyTold)| *one == DutyTold { held_ms: one.held_ms, ..other.clone() };
        self.duties.len() == other.duties.len() && self.duties.iter().zip(&other.duties).all(is_as)
    }
}

/// One duty of the users. Names and words are text that the region shows and never runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyTold {
    /// Its name.
    pub name: Name,
    /// One board at a time, or several.
    pub mode: DutyMode,
    /// How it is.
    pub state: DutyState,
    /// The boards that are to perform it.
    pub holders: BoardSet,
    /// Living boards on which a process of it stands ready or acts.
    pub ready: BoardSet,
    /// Living boards that could perform it and cannot for a while, because its process had failed too often or they stop; as far
    /// as this leader has seen it.
    pub failed: BoardSet,
    /// The token that it is performed under.
    pub token: Option<Fencing>,
    /// Milliseconds for which it has been like that with its board; `None` for an available duty.
    pub held_ms: Option<u64>,
    /// What it waits for.
    pub waits_for: DutyWords,
    /// Why it last moved; empty for an available duty.
    pub why: DutyWords,
}

/// Words for people.
pub type DutyWords = heapless::String<DUTY_WORDS_BYTES_MAX>;

/// `text`, as much of it as there is room for.
pub fn duty_words(text: &str) -> DutyWords {
    let mut words = DutyWords::new();
    // The rest of what is too long is left out.
    let _ = text.chars().try_for_each(|letter| words.push(letter));
    words
}

/// How a duty is. As a number, so that one that a later build adds is `Unknown` to this one, and no broken message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum DutyState {
    /// The leader does not know yet who has it.
    Unknown,
    /// Nobody has it.
    Unassigned,
    /// Nobody has it, because each board that could perform it has given it up for a while.
    Failed,
    /// It was taken from a board that may still be acting.
    Leaving,
    /// A board has it whose process is not ready yet.
    Starting,
    /// Fewer boards perform it than should.
    Short,
    /// It is performed.
    Running,
}

impl DutyState {
    /// Every state, in order of its number.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Unassigned,
        Self::Failed,
        Self::Leaving,
        Self::Starting,
        Self::Short,
        Self::Running,
    ];

    /// The word for it in the API and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unassigned => "unassigned",
            Self::Failed => "failed",
            Self::Leaving => "leaving",
            Self::Starting => "starting",
            Self::Short => "short",
            Self::Running => "running",
        }
    }
}

impl From<u8> for DutyState {
    fn from(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }
}

impl From<DutyState> for u8 {
    fn from(state: DutyState) -> Self {
        state as Self
    }
}

/// Reads no more than a site may have: a longer list is refused before it takes room.
fn bounded<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<DutyTold>, D::Error> {
    let duties = heapless::Vec::<DutyTold, DUTIES_MAX>::deserialize(from)?;
    Ok(duties.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Conversation, FrameRefusal, decode_whole, encode};

    fn told(name: &str, state: DutyState) -> DutyTold {
        DutyTold {
            name: Name::try_from(name).unwrap(),
            mode: DutyMode::Exclusive,
            state,
            holders: BoardSet::from_iter(BoardId::new(64)),
            ready: BoardSet::EMPTY,
            failed: BoardSet::EMPTY,
            token: Some(Fencing::default()),
            held_ms: Some(7),
            waits_for: duty_words("nothing"),
            why: duty_words("nobody had it"),
        }
    }

    fn through(duties: &SiteDuties) -> Result<ToRegion, FrameRefusal> {
        decode_whole(Conversation::ToRegion, &encode(Conversation::ToRegion, &ToRegion::Duties(duties.clone())))
    }

    #[test]
    fn as_many_duties_as_a_site_may_have_come_through_and_not_one_more() {
        let mut site = SiteDuties { duties: alloc::vec![told("signal", DutyState::Running); DUTIES_MAX] };
        assert_eq!(through(&site), Ok(ToRegion::Duties(site.clone())));
        site.duties.push(told("one-more", DutyState::Running));
        assert_eq!(through(&site), Err(FrameRefusal::Body));
    }

    #[test]
    fn names_and_words_are_bounded_where_they_are_made_and_where_they_are_read() {
        assert_eq!(duty_words(&"é".repeat(DUTY_WORDS_BYTES_MAX)).len(), DUTY_WORDS_BYTES_MAX);
        let odd = duty_words(&alloc::format!("a{}", "é".repeat(DUTY_WORDS_BYTES_MAX)));
        assert_eq!(odd.len(), DUTY_WORDS_BYTES_MAX - 1, "no letter is cut in two");
        // What a hostile site says: the same message with longer text.
        #[derive(Serialize)]
        struct Wide<'a>(&'a str, DutyMode, u8, u64, u64, u64, Option<u64>, Option<u64>, &'a str, &'a str);
        let read = |name: usize, words: usize| {
            let (name, words) = ("n".repeat(name), "w".repeat(words));
            let wide = Wide(&name, DutyMode::Exclusive, 6, 1, 1, 0, None, None, &words, "");
            let bytes = postcard::to_allocvec(&[wide].as_slice()).unwrap();
            postcard::from_bytes::<SiteDuties>(&bytes).is_ok()
        };
        let (name, words) = (crate::limits::NAME_BYTES_MAX, DUTY_WORDS_BYTES_MAX);
        assert_eq!([read(name, words), read(name + 1, words), read(name, words + 1)], [true, false, false]);
    }

    #[test]
    fn a_state_of_a_later_build_is_unknown_to_this_one() {
        for (number, state) in (0..).zip(DutyState::ALL) {
            assert_eq!((u8::from(state), DutyState::from(number)), (number, state));
        }
        assert_eq!(DutyState::from(DutyState::ALL.len() as u8), DutyState::Unknown);
    }

    #[test]
    fn time_that_has_passed_is_no_change() {
        let one = SiteDuties { duties: alloc::vec![told("signal", DutyState::Running)] };
        let mut other = one.clone();
        other.duties[0].held_ms = None;
        assert!(one.is_as(&other) && !one.is_as(&SiteDuties::default()));
        other.duties[0].state = DutyState::Starting;
        assert!(!one.is_as(&other));
    }

    /// A build from before this message reads what it knew as it did, and takes the new one for no message: so it must not be
    /// sent to one that has not said that it hears it.
    #[test]
    fn what_older_builds_say_and_hear_has_not_changed() {
        let report = encode(Conversation::ToRegion, &ToRegion::Report(SiteReport::default()));
        assert_eq!(report[crate::frame::HEADER_BYTES..], [3, 0]);
        let duties = encode(Conversation::ToRegion, &ToRegion::Duties(SiteDuties::default()));
        assert_eq!(duties[crate::frame::HEADER_BYTES..], [4, 0]);
    }
}

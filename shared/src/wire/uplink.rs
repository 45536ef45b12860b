//! Between the holder of `uplink` and the region. Blocks may be sent twice, by two holders, in any order: the
//! region's coverage decides what is new.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::checksum::crc32c_of;
use crate::ids::{BoardId, Epoch, Name, Seq, Stream, Term};
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
    /// transaction has committed. Behind the welcome, one line that says what the region reads ([`Coverage::reads`]).
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

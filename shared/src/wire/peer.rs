//! Between boards of a site: copies of records, and blocks on their way through the holder of `uplink`.
//! Reliable and ordered while one connection lives; everything may be said twice over two connections.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::checksum::crc32c_of;
use crate::ids::{BoardId, Class, Epoch, Name, Origin, Seq, Stream, Term};
use crate::ranges::{RangeSet, SeqRange};
use crate::wire::uplink::{Block, BoardReport, Codec, Reads};

/// One message from board to board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// First on every connection.
    Hello(Hello),
    /// Keep a copy of these records, which are the sender's own.
    Copy {
        /// The records.
        run: Run,
        /// The sender's records of this class and life are committed up to here: copies of them may be shed.
        committed: Seq,
    },
    /// These copies are fsynced here.
    Durable(Vec<(Stream, SeqRange)>),
    /// I hold `uplink` and the region listens: ask for coverage and send blocks to me.
    UplinkOpen {
        /// The holder's term.
        term: Term,
    },
    /// Blocks sent under this term and not yet covered are to be sent again elsewhere.
    UplinkClosed {
        /// The holder's term.
        term: Term,
    },
    /// What does the region cover of these streams? To the holder, at most `COVERAGE_STREAMS_MAX` streams.
    Ask(Vec<Stream>),
    /// Pass this on to the region. To the holder.
    Block(Block),
    /// What the region covers. From the holder.
    Coverage(Vec<Coverage>),
    /// How I am. To the holder, once a second.
    Report(BoardReport),
    /// What is durable here: a part of an inventory, at most `INVENTORY_STREAMS_MAX` streams. To every board when a
    /// connection begins, now and then, and at once where something was lost. Parts of one inventory follow each other; one
    /// that is lost is replaced by the next inventory.
    Holds {
        /// The life of the sender that says so.
        life: Epoch,
        /// Up to where records of this life are committed, by class in order of `Class::ALL`.
        committed: [Seq; Class::ALL.len()],
        /// What is held, by stream.
        lines: Vec<(Stream, RangeSet)>,
        /// Whether it is the last part: what no part named is not held.
        last: bool,
    },
    /// Send me what you hold of these records, each run as a `Repair`, and then say `Fetched`: at most
    /// `FETCH_RANGES_MAX` ranges. Asked again where no answer comes.
    Fetch {
        /// Comes back with the answer.
        number: u64,
        /// What is missing here.
        wanted: Vec<(Stream, SeqRange)>,
    },
    /// Keep a copy of these records, which lack one: in the background, after what publishers wait for. Answered by
    /// `Durable`; sent again where it is not.
    Repair(Run),
    /// The end of the answer to a `Fetch`.
    Fetched(Fetched),
    /// As `Block`, but every `Block` and all that the holder says itself goes before it. To the holder.
    Backlog(Block),
}

/// What became of the ranges of a question. What was neither sent nor is named here is left for another question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Of the question.
    pub number: u64,
    /// Not here.
    pub absent: Vec<(Stream, SeqRange)>,
    /// They were here and cannot be read any more: this board asks around, too.
    pub lost: Vec<(Stream, SeqRange)>,
    /// This board cannot say: they are on their way to its disk, or its disk is in doubt.
    pub unknown: Vec<(Stream, SeqRange)>,
}

/// Who opens the connection. The certificate has the last word on `board`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Site of the sender.
    pub site: Name,
    /// The sender.
    pub board: BoardId,
    /// Its journal epoch.
    pub epoch: Epoch,
    /// Digest of what must be equal on all boards of the site; others are refused by name.
    pub fingerprint: u64,
}

/// What the region has stored durably of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The stream.
    pub stream: Stream,
    /// Sequences stored.
    pub ranges: RangeSet,
    /// True: this is all there is, forget what was said before. False: add these.
    pub whole: bool,
}

/// Who says which codecs may be sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The region, behind its welcome.
    Region,
    /// The holder, which passes blocks on as they are, behind `UplinkOpen`. A holder of an older build passes the region's
    /// words on and could not read the blocks: its peers must not take these words for its own.
    Holder,
}

/// Nonce of the life that [`Coverage::reads`] speaks of.
const READS_NONCE: u64 = 0x0072_6561_6473_0000;
/// Nonce of the life that [`Coverage::region`] speaks of.
const REGION_NONCE: u64 = 0x7265_6769_6f6e_0000;

/// Nonce of the life that [`Coverage::hears`] speaks of.
const HEARS_NONCE: u64 = 0x0068_6561_7273_0000;
/// Stands for `ToRegion::Duties` in [`Coverage::hears`]. Another mode of a duty, more duties or longer words than this build reads take
/// the next number: to this one they are no message.
const HEARS_DUTIES: Seq = 1;

/// Tells the regions of a site's configuration apart: made of a region's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionTag(Seq);

impl RegionTag {
    /// That of the region `name`. Two names have the same one once in four thousand million times; then a change from one to the
    /// other is taken for a region that has lost its memory.
    pub fn of(name: &Name) -> Self {
        // Never 0, which is no sequence.
        Self(Seq::from(crc32c_of(&[name.as_str().as_bytes()])) + 1)
    }
}

impl Coverage {
    /// What `reader` reads, as a line about a life that no board can have had: lives are counted from 1. So builds that do not
    /// know such a line pass it over, as they do every line about records that they do not hold. Sequence n stands for the codec
    /// of number n - 1. Whoever says nothing reads the codecs of the first builds.
    pub fn reads(reader: Reader, reads: Reads) -> Self {
        let last = match reads {
            Reads::Lz4 => Codec::Lz4,
            Reads::Columns => Codec::Columns,
        };
        let codecs = SeqRange { first: 1, last: last as Seq + 1 };
        Self { stream: reads_stream(reader), ranges: RangeSet::from_iter([codecs]), whole: true }
    }

    /// Which region the holder's session is with, as a line of the same kind: the words behind it are that region's. Said by a holder
    /// that knows several regions, behind `UplinkOpen`.
    pub fn region(tag: RegionTag) -> Self {
        let tag = SeqRange { first: tag.0, last: tag.0 };
        Self { stream: region_stream(), ranges: RangeSet::from_iter([tag]), whole: true }
    }

    /// Which messages a region of this build takes beside those of the first builds, as a line of the same kind: sequence 1 stands
    /// for `ToRegion::Duties`. Said by the region, behind its welcome; to one that says nothing they are not sent.
    pub fn hears() -> Self {
        let messages = SeqRange { first: HEARS_DUTIES, last: HEARS_DUTIES };
        Self { stream: hears_stream(), ranges: RangeSet::from_iter([messages]), whole: true }
    }

    /// Whether it says that `ToRegion::Duties` is heard.
    pub fn hears_duties(&self) -> bool {
        self.stream == hears_stream() && self.ranges.contains(HEARS_DUTIES)
    }

    /// The region that it names, if that is such a line.
    pub fn as_region(&self) -> Option<RegionTag> {
        let tag = self.ranges.last().map(RegionTag);
        tag.filter(|_| self.stream == region_stream())
    }

    /// What `reader` says that it reads, if that is such a line of it.
    pub fn as_reads(&self, reader: Reader) -> Option<Reads> {
        let reads = match self.ranges.contains(Codec::Columns as Seq + 1) {
            true => Reads::Columns,
            false => Reads::Lz4,
        };
        (self.stream == reads_stream(reader)).then_some(reads)
    }
}

fn reads_stream(reader: Reader) -> Stream {
    let class = match reader {
        Reader::Region => Class::Alarm,
        Reader::Holder => Class::Event,
    };
    Stream { origin: nobodys(READS_NONCE), class }
}

fn region_stream() -> Stream {
    Stream { origin: nobodys(REGION_NONCE), class: Class::Event }
}

fn hears_stream() -> Stream {
    Stream { origin: nobodys(HEARS_NONCE), class: Class::Alarm }
}

/// A life that no board can have had.
const fn nobodys(nonce: u64) -> Origin {
    Origin { board: BoardId::FIRST, epoch: Epoch { boot: 0, nonce } }
}

/// Consecutive records of one stream, as committed together: the unit of journal and replication. Immutable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Whose records.
    pub stream: Stream,
    /// Sequence of the first.
    pub first: Seq,
    /// How many, 1 to `RUN_RECORDS_MAX`.
    pub count: u32,
    /// Checksum made by the origin, checked by whoever takes the run in.
    pub crc: u32,
    /// The records, encoded one after the other.
    pub bytes: Bytes,
}

impl Run {
    /// A run with its checksum.
    pub fn new(stream: Stream, first: Seq, count: u32, bytes: Bytes) -> Self {
        let crc = run_crc(&stream, first, count, &bytes);
        Self { stream, first, count, crc, bytes }
    }

    /// The sequences, or `None` where the numbers make no sense.
    pub const fn range(&self) -> Option<SeqRange> {
        SeqRange::from_count(self.first, self.count)
    }

    /// Whether the checksum holds.
    pub fn is_intact(&self) -> bool {
        self.crc == run_crc(&self.stream, self.first, self.count, &self.bytes)
    }
}

fn run_crc(stream: &Stream, first: Seq, count: u32, bytes: &[u8]) -> u32 {
    let Stream { origin, class } = stream;
    crc32c_of(&[
        &[origin.board.get(), *class as u8],
        &origin.epoch.boot.to_le_bytes(),
        &origin.epoch.nonce.to_le_bytes(),
        &first.to_le_bytes(),
        &count.to_le_bytes(),
        bytes,
    ])
}

//! Commit blocks: what one group commit writes. Byte by byte in `docs/data-files.md`. Owns the encoding and every check
//! that a block's bytes must pass; knows no cipher: whoever has the keys hands its own in.
//!
//! ```text
//! segment file  | block | block | block | zeros, or blocks of the file's earlier life ... |
//! block         | header 96 B | payload | zeros to the next 4 KiB page |
//!
//!  0    4      6     8       16    24   28     32     40    48   52      56       60  64    72  88       92     96
//!  |RSJ2|format|flags|segment|nonce|boot|offset|number|known|runs|payload|previous|key|spare|tag|payload |header|
//!  |    |u16   |u16  |u64    |u64  |u32 |u32   |u64   |u64  |u32 |length |crc32c  |u32|u64  |   |crc32c  |crc32c|
//!  └──────────────── authenticated with a sealed payload ───────────────────────────────────┘
//! ```
//!
//! All numbers little-endian. Segment number, epoch and offset stand in the header, so that a block of a recycled
//! file's earlier life, or one copied to another place, is never taken for a block of this one. The header has a
//! checksum of its own: a bad length cannot misalign the scan. Checksums are over what stands on disk, so that sealed
//! payloads are checked without their key.

use alloc::vec::Vec;

use crate::checksum::crc32c;
use crate::ids::{Epoch, SegmentId};
use crate::limits::{COMMIT_BYTES_MAX, PAGE_BYTES};
use crate::wire::peer::Run;

/// Bytes of a block before its payload.
pub const HEADER_BYTES: usize = 96;
/// The format written by this build.
pub const FORMAT: u16 = 2;
/// Bytes of the tag that authenticates a sealed payload.
pub const TAG_BYTES: usize = 16;

const MAGIC: [u8; 4] = *b"RSJ2";
/// Bytes at the front of the header that are authenticated with a sealed payload.
const AUTHENTICATED: usize = 72;
const KEY_AT: usize = 60;
const PREVIOUS_AT: usize = 56;
const TAG_AT: usize = AUTHENTICATED;
const PAYLOAD_CRC_AT: usize = 88;
const HEADER_CRC_AT: usize = 92;

const MAGIC_1: [u8; 4] = *b"RSJ1";
const HEADER_1_BYTES: usize = 64;

/// Where a block stands, and after which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which segment.
    pub segment: SegmentId,
    /// At which byte, a multiple of the page.
    pub offset: u32,
    /// Written in which life of the journal.
    pub epoch: Epoch,
    /// Counts the blocks of that life, from 0.
    pub number: u64,
    /// Blocks of that life that were known durable when this one was written: all with a lower number. What is missing of
    /// them was damaged later, and is no torn end.
    pub known: u64,
    /// Header checksum of the block before it in this life; 0 for the first.
    pub previous: u32,
}

/// A block's bytes, padded to the page, and its header checksum.
pub fn encode(place: &Place, runs: &[Run]) -> (Vec<u8>, u32) {
    let bytes: usize = runs.iter().map(|run| run.bytes.len() + 64).sum();
    let mut block = Vec::with_capacity(padded(HEADER_BYTES + bytes));
    block.resize(HEADER_BYTES, 0);
    for run in runs {
        block = postcard::to_extend(run, block).expect("a Vec takes every run");
    }
    let length = u32::try_from(block.len() - HEADER_BYTES).expect("a block stays below COMMIT_BYTES_MAX");
    let count = u32::try_from(runs.len()).expect("a block holds few runs");
    put(&mut block, 0, &MAGIC);
    put(&mut block, 4, &FORMAT.to_le_bytes());
    put(&mut block, 8, &place.segment.0.to_le_bytes());
    put(&mut block, 16, &place.epoch.nonce.to_le_bytes());
    put(&mut block, 24, &place.epoch.boot.to_le_bytes());
    put(&mut block, 28, &place.offset.to_le_bytes());
    put(&mut block, 32, &place.number.to_le_bytes());
    put(&mut block, 40, &place.known.to_le_bytes());
    put(&mut block, 48, &count.to_le_bytes());
    put(&mut block, 52, &length.to_le_bytes());
    put(&mut block, PREVIOUS_AT, &place.previous.to_le_bytes());
    let checksum = sign(&mut block);
    block.resize(padded(block.len()), 0);
    (block, checksum)
}

/// Writes both checksums of `block`, whose payload reaches to its end; returns the header's.
fn sign(block: &mut [u8]) -> u32 {
    let payload = crc32c(&block[HEADER_BYTES..]);
    put(block, PAYLOAD_CRC_AT, &payload.to_le_bytes());
    let header = crc32c(&block[..HEADER_CRC_AT]);
    put(block, HEADER_CRC_AT, &header.to_le_bytes());
    header
}

fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// `length` rounded up to whole pages.
pub const fn padded(length: usize) -> usize {
    length.div_ceil(PAGE_BYTES) * PAGE_BYTES
}

/// What a block's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub format: u16,
    /// Where the block stands, and after which one.
    pub place: Place,
    /// How many runs it holds.
    pub runs: u32,
    /// Bytes of the header itself.
    pub header_bytes: usize,
    /// Bytes of the payload.
    pub payload_bytes: usize,
    /// Under which key the payload is sealed; 0 for a plain one.
    pub key: u32,
    /// What authenticates a sealed payload; zeros for a plain one.
    pub tag: [u8; TAG_BYTES],
    /// Checksum of the payload as it stands on disk.
    pub payload_crc: u32,
    /// Checksum of the header.
    pub checksum: u32,
}

impl Header {
    /// The header at the front of `bytes`, whatever segment it belongs to; `None` where there is none that holds.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = match *bytes.first_chunk()? {
            MAGIC => Self::read_2(bytes.get(..HEADER_BYTES)?),
            MAGIC_1 => Self::read_1(bytes.get(..HEADER_1_BYTES)?),
            _ => None,
        }?;
        (header.payload_bytes <= COMMIT_BYTES_MAX + PAGE_BYTES).then_some(header)
    }

    fn read_2(header: &[u8]) -> Option<Self> {
        let checksum = word(header, HEADER_CRC_AT);
        if checksum != crc32c(&header[..HEADER_CRC_AT]) || header[4..6] != FORMAT.to_le_bytes() {
            return None;
        }
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&header[TAG_AT..TAG_AT + TAG_BYTES]);
        Some(Self {
            format: FORMAT,
            place: Place {
                segment: SegmentId(long(header, 8)),
                offset: word(header, 28),
                epoch: Epoch { boot: word(header, 24), nonce: long(header, 16) },
                number: long(header, 32),
                known: long(header, 40),
                previous: word(header, PREVIOUS_AT),
            },
            runs: word(header, 48),
            header_bytes: HEADER_BYTES,
            payload_bytes: word(header, 52) as usize,
            key: word(header, KEY_AT),
            tag,
            payload_crc: word(header, PAYLOAD_CRC_AT),
            checksum,
        })
    }

    /// Blocks of format 1 stand in segments that earlier builds wrote. Each was written after the one before was synced.
    fn read_1(header: &[u8]) -> Option<Self> {
        let checksum = word(header, 60);
        if checksum != crc32c(&header[..60]) || header[4..6] != 1_u16.to_le_bytes() {
            return None;
        }
        Some(Self {
            format: 1,
            place: Place {
                segment: SegmentId(long(header, 8)),
                offset: word(header, 32),
                epoch: Epoch { boot: word(header, 16), nonce: long(header, 24) },
                number: long(header, 48),
                known: long(header, 48),
                previous: word(header, 40),
            },
            runs: word(header, 20),
            header_bytes: HEADER_1_BYTES,
            payload_bytes: word(header, 36) as usize,
            key: 0,
            tag: [0; TAG_BYTES],
            payload_crc: word(header, 44),
            checksum,
        })
    }

    /// Bytes from the block's first to the first of the next.
    pub const fn block_bytes(&self) -> usize {
        padded(self.header_bytes + self.payload_bytes)
    }

    /// Whether the payload is sealed, so that its runs cannot be read as they stand.
    pub const fn is_sealed(&self) -> bool {
        self.key != 0
    }

    /// The payload at the front of `bytes`; `None` where it ends past them or its checksum does not hold.
    fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let payload = bytes.get(self.header_bytes..self.header_bytes + self.payload_bytes)?;
        (crc32c(payload) == self.payload_crc).then_some(payload)
    }
}

fn word(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn long(header: &[u8], at: usize) -> u64 {
    u64::from(word(header, at)) | u64::from(word(header, at + 4)) << 32
}

/// What stands at a place of a segment, as far as it can be told without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Examined {
    /// A whole block: both checksums hold.
    Whole(Header),
    /// A block's header, but its payload does not hold, or ends past the bytes at hand.
    Broken(Header),
    /// Nothing that this segment's writer wrote whole.
    Nothing,
}

/// Looks at the block of `segment` at `offset`, which the front of `bytes` holds: checksums only.
pub fn examine(segment: SegmentId, offset: u32, bytes: &[u8]) -> Examined {
    let ours = |header: &Header| header.place.segment == segment && header.place.offset == offset;
    match Header::read(bytes).filter(ours) {
        Some(header) if header.payload(bytes).is_some() => Examined::Whole(header),
        Some(header) => Examined::Broken(header),
        None => Examined::Nothing,
    }
}

/// What stands at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole block.
    Block {
        /// What its header says.
        header: Header,
        /// Its runs, each with its own checksum checked.
        runs: Vec<Run>,
    },
    /// A whole block that is sealed: whoever has the key opens it with [`open`] first.
    Sealed(Header),
    /// A block's header, but its payload does not hold, or ends past the bytes at hand.
    Broken(Header),
    /// Nothing that this segment's writer wrote whole.
    Nothing,
}

/// Reads the block of `segment` at `offset`, which the front of `bytes` holds.
pub fn decode(segment: SegmentId, offset: u32, bytes: &[u8]) -> Found {
    let header = match examine(segment, offset, bytes) {
        Examined::Whole(header) => header,
        Examined::Broken(header) => return Found::Broken(header),
        Examined::Nothing => return Found::Nothing,
    };
    if header.is_sealed() {
        return Found::Sealed(header);
    }
    match header.payload(bytes).and_then(|payload| read_runs(payload, header.runs)) {
        Some(runs) => Found::Block { header, runs },
        None => Found::Broken(header),
    }
}

fn read_runs(payload: &[u8], count: u32) -> Option<Vec<Run>> {
    let mut runs = Vec::new();
    let mut rest = payload;
    for _ in 0..count {
        let (run, after) = postcard::take_from_bytes::<Run>(rest).ok()?;
        if !run.is_intact() || run.range().is_none() {
            return None;
        }
        runs.push(run);
        rest = after;
    }
    rest.is_empty().then_some(runs)
}

/// Seals the payload of the plain block of format 2 at the front of `block`, in place and of the same length, under `key`
/// (never 0), after the block whose header checksum is `previous`. `seal` is given the header's front, to be authenticated,
/// and the payload, and returns the tag. Returns the block's new header checksum; `None`, with nothing changed, where there is
/// no such block.
pub fn seal(
    block: &mut [u8],
    key: u32,
    previous: u32,
    seal: impl FnOnce(&[u8], &mut [u8]) -> [u8; TAG_BYTES],
) -> Option<u32> {
    let whole = |header: &Header| header.format == FORMAT && !header.is_sealed() && header.payload(block).is_some();
    let header = Header::read(block).filter(whole).filter(|_| key != 0)?;
    put(block, KEY_AT, &key.to_le_bytes());
    put(block, PREVIOUS_AT, &previous.to_le_bytes());
    let block = &mut block[..HEADER_BYTES + header.payload_bytes];
    let (front, payload) = block.split_at_mut(HEADER_BYTES);
    let tag = seal(&front[..AUTHENTICATED], payload);
    put(block, TAG_AT, &tag);
    Some(sign(block))
}

/// Opens the sealed block at the front of `block`, in place: afterwards it is a plain one. `open` is given the header's
/// front, the payload and the tag, and says whether the payload was authentic. False, where it was not or there is no whole
/// sealed block: what stands in the payload then is no longer of use.
pub fn open(block: &mut [u8], open: impl FnOnce(&[u8], &mut [u8], &[u8; TAG_BYTES]) -> bool) -> bool {
    let whole = |header: &Header| header.is_sealed() && header.payload(block).is_some();
    let Some(header) = Header::read(block).filter(whole) else { return false };
    let block = &mut block[..HEADER_BYTES + header.payload_bytes];
    let (front, payload) = block.split_at_mut(HEADER_BYTES);
    if !open(&front[..AUTHENTICATED], payload, &header.tag) {
        return false;
    }
    put(block, KEY_AT, &[0; 4]);
    put(block, TAG_AT, &[0; TAG_BYTES]);
    sign(block);
    true
}

//! Commit blocks: what one group commit writes. Byte by byte in `docs/data-files.md`.
//!
//! ```text
//! segment file  | block | block | block | zeros, or blocks of the file's earlier life ... |
//! block         | header 64 B | payload | zeros to the next 4 KiB page |
//!
//!  0   4      6      8        16     20     24      32      36       40        44       48      56     60     64
//!  |RSJ1|format|flags |segment |boot  |runs  |nonce  |offset |payload |previous |payload |number |spare |header|
//!  |    |u16   |u16   |u64     |u32   |u32   |u64    |u32    |length  |block's  |crc32c  |u64    |u32   |crc32c|
//! ```
//!
//! All numbers little-endian. Segment number, epoch and offset stand in the header, so that a block of a recycled
//! file's earlier life, or one copied to another place, is never taken for a block of this one. The header has a
//! checksum of its own: a bad length cannot misalign the scan.

use alloc::vec::Vec;

use crate::checksum::crc32c;
use crate::ids::{Epoch, SegmentId};
use crate::limits::{COMMIT_BYTES_MAX, PAGE_BYTES};
use crate::wire::peer::Run;

/// Bytes of a block before its payload.
pub const HEADER_BYTES: usize = 64;
/// The format written by this build.
pub const FORMAT: u16 = 1;
const MAGIC: [u8; 4] = *b"RSJ1";

/// Where a block stands, and after which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which segment.
    pub segment: SegmentId,
    /// At which byte, a multiple of the page.
    pub offset: u32,
    /// Written in which life of the journal.
    pub epoch: Epoch,
    /// Counts the blocks of that life.
    pub number: u64,
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
    let payload_crc = crc32c(&block[HEADER_BYTES..]);
    let length = u32::try_from(block.len() - HEADER_BYTES).expect("a block stays below COMMIT_BYTES_MAX");
    let count = u32::try_from(runs.len()).expect("a block holds few runs");
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(4, &FORMAT.to_le_bytes());
    put(8, &place.segment.0.to_le_bytes());
    put(16, &place.epoch.boot.to_le_bytes());
    put(20, &count.to_le_bytes());
    put(24, &place.epoch.nonce.to_le_bytes());
    put(32, &place.offset.to_le_bytes());
    put(36, &length.to_le_bytes());
    put(40, &place.previous.to_le_bytes());
    put(44, &payload_crc.to_le_bytes());
    put(48, &place.number.to_le_bytes());
    let header_crc = crc32c(&block[..60]);
    block[60..64].copy_from_slice(&header_crc.to_le_bytes());
    block.resize(padded(block.len()), 0);
    (block, header_crc)
}

/// `length` rounded up to whole pages.
pub const fn padded(length: usize) -> usize {
    length.div_ceil(PAGE_BYTES) * PAGE_BYTES
}

/// What stands at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole block.
    Block {
        /// Its runs, each with its own checksum checked.
        runs: Vec<Run>,
        /// Bytes up to the next block.
        length: u32,
    },
    /// A block's header, but its payload does not hold, or ends past the bytes at hand.
    Broken {
        /// Bytes up to where the next block would stand.
        length: u32,
    },
    /// Nothing that this segment's writer wrote whole.
    Nothing,
}

/// Reads the block of `segment` at `offset`, which the front of `bytes` holds.
pub fn decode(segment: SegmentId, offset: u32, bytes: &[u8]) -> Found {
    let Some((count, length, payload_crc)) = header(segment, offset, bytes) else {
        return Found::Nothing;
    };
    let whole = padded(HEADER_BYTES + length);
    let broken = Found::Broken { length: u32::try_from(whole).unwrap_or(u32::MAX) };
    let Some(payload) = bytes.get(HEADER_BYTES..HEADER_BYTES + length) else {
        return broken;
    };
    if crc32c(payload) != payload_crc {
        return broken;
    }
    match read_runs(payload, count) {
        Some(runs) => Found::Block { runs, length: u32::try_from(whole).unwrap_or(u32::MAX) },
        None => broken,
    }
}

fn header(segment: SegmentId, offset: u32, bytes: &[u8]) -> Option<(u32, usize, u32)> {
    let header = bytes.get(..HEADER_BYTES)?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let ours = header[..4] == MAGIC
        && word(60) == crc32c(&header[..60])
        && header[4..6] == FORMAT.to_le_bytes()
        && long(8) == segment.0
        && word(32) == offset;
    let length = word(36) as usize;
    (ours && length <= COMMIT_BYTES_MAX + PAGE_BYTES).then_some((word(20), length, word(44)))
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

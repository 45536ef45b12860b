//! Segment footers: what a full segment says of itself, so that a start need not read its blocks. Byte by byte in
//! `docs/data-files.md`. A footer is believed only where its checksum holds and it names its own segment; without one the
//! segment is scanned. It is written once every block of its segment is durable, and need not be durable itself. Where a
//! place in the segment cannot be read any more, a footer says what stood there: the segment is scanned all the same.
//!
//! ```text
//! segment file  | block | block | ...                       | footer, the last 16 KiB |
//! footer        | header 32 B | index | zeros |
//!
//!  0    4      6     8       16     20     24    28     32
//!  |RSJF|format|state|segment|length|index | key |header|
//!  |    |u16   |u16  |u64    |u32   |crc32c|u32  |crc32c|
//! ```

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::checksum::crc32c;
use crate::ids::{SegmentId, Stream};
use crate::journal::segment::{Blocks, Holding, Segment};
use crate::limits::{FOOTER_BYTES, STREAMS_MAX};

const MAGIC: [u8; 4] = *b"RSJF";
const FORMAT: u16 = 1;
const HEADER_BYTES: usize = 32;
const STATE_AT: usize = 6;
/// The state of a footer whose segment has a damaged place.
const DAMAGED: u16 = 1;
/// The state of a footer whose segment the region had as a whole when it last said so; 0 is that of all others.
const COVERED: u16 = 2;
const KEY_AT: usize = 24;
const HEADER_CRC_AT: usize = 28;

/// The index of a segment: postcard.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    end: u32,
    blocks: Blocks,
    streams: Vec<(Stream, Holding)>,
}

/// Where the footer of a file of `file_bytes` bytes begins; `None` where the file is too short to have one.
pub fn footer_at(file_bytes: u32) -> Option<u32> {
    file_bytes.checked_sub(FOOTER_BYTES)
}

/// The footer of `segment`; `None` where it has no room for one, holds nothing, or has more to say than fits.
pub(super) fn encode(id: SegmentId, segment: &Segment) -> Option<(u32, Vec<u8>)> {
    let at = footer_at(segment.file_bytes).filter(|at| segment.end <= *at)?;
    let streams = segment.streams.iter().map(|(stream, holding)| (*stream, holding.clone()));
    let index = Index { end: segment.end, blocks: segment.blocks?, streams: streams.collect() };
    let mut footer = postcard::to_extend(&index, alloc::vec![0; HEADER_BYTES]).expect("a Vec takes every index");
    if footer.len() > FOOTER_BYTES as usize {
        return None;
    }
    let length = u32::try_from(footer.len() - HEADER_BYTES).expect("a footer is short");
    let body_crc = crc32c(&footer[HEADER_BYTES..]);
    let mut put = |at: usize, bytes: &[u8]| footer[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(4, &FORMAT.to_le_bytes());
    let state = match (segment.is_damaged, segment.is_covered) {
        (true, _) => DAMAGED,
        (false, true) => COVERED,
        (false, false) => 0,
    };
    put(STATE_AT, &state.to_le_bytes());
    put(8, &id.0.to_le_bytes());
    put(16, &length.to_le_bytes());
    put(20, &body_crc.to_le_bytes());
    let header_crc = crc32c(&footer[..HEADER_CRC_AT]);
    footer[HEADER_CRC_AT..HEADER_BYTES].copy_from_slice(&header_crc.to_le_bytes());
    footer.resize(FOOTER_BYTES as usize, 0);
    Some((at, footer))
}

/// Says in `footer` that the blocks of its segment are sealed under `key`.
pub fn set_key(footer: &mut [u8], key: u32) {
    // One that is taken back is zeros, and stays so.
    if let Some(header) = footer.get_mut(..HEADER_BYTES).filter(|header| header[..4] == MAGIC) {
        header[KEY_AT..KEY_AT + 4].copy_from_slice(&key.to_le_bytes());
        let checksum = crc32c(&header[..HEADER_CRC_AT]);
        header[HEADER_CRC_AT..].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Under which key the blocks of a segment are sealed, by its footer in `bytes`; `None` where they are plain, or no footer
/// holds.
pub fn key(bytes: &[u8]) -> Option<u32> {
    let header = bytes.get(..HEADER_BYTES)?;
    let word = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let holds = header[..4] == MAGIC && word(HEADER_CRC_AT)? == crc32c(&header[..HEADER_CRC_AT]);
    word(KEY_AT).filter(|key| holds && *key != 0)
}

/// What the footer in `bytes` says of segment `id`, whose file has `file_bytes` bytes; `None` where it is none of this
/// segment's or does not hold. Of a damaged segment it is what stood there before.
pub fn decode(id: SegmentId, file_bytes: u32, bytes: &[u8]) -> Option<Segment> {
    let header = bytes.get(..HEADER_BYTES)?;
    let word = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let segment = header.get(8..16)?.try_into().ok().map(u64::from_le_bytes)?;
    let ours = header[..4] == MAGIC
        && word(HEADER_CRC_AT)? == crc32c(&header[..HEADER_CRC_AT])
        && header[4..STATE_AT] == FORMAT.to_le_bytes()
        && segment == id.0;
    if !ours {
        return None;
    }
    let body = bytes.get(HEADER_BYTES..)?.get(..word(16)? as usize)?;
    if crc32c(body) != word(20)? {
        return None;
    }
    let index: Index = postcard::from_bytes(body).ok()?;
    let state = u16::from_le_bytes(header[STATE_AT..8].try_into().ok()?);
    let sound = footer_at(file_bytes).is_some_and(|at| index.end <= at) && index.streams.len() <= STREAMS_MAX;
    sound.then(|| Segment {
        streams: index.streams.into_iter().collect::<BTreeMap<_, _>>(),
        end: index.end,
        blocks: Some(index.blocks),
        file_bytes,
        has_footer: true,
        is_broken: false,
        is_covered: state == COVERED,
        is_damaged: state == DAMAGED,
    })
}

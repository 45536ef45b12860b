//! Packing records into a sealed block and back. Owns the choice of the codec, and every check that a block's numbers and
//! bytes must pass before a record of it is believed; never decides what goes into a block or what becomes of it.
//!
//! `columns` takes records apart and keeps the layout; `model` is what both ends know, `text` what stands in a payload,
//! `slots` what a number should be, `words` the list of words, `bits` how all that is written.

mod bits;
mod columns;
#[cfg(test)]
mod columns_tests;
mod model;
mod slots;
mod text;
mod words;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::ids::{Seq, Stream};
use crate::limits::{BLOCK_BODY_BYTES_MAX, BLOCK_RAW_BYTES_MAX, RUN_RECORDS_MAX};
use crate::ranges::SeqRange;
use crate::wire::uplink::{Block, Codec};

pub use crate::wire::uplink::Reads;

/// Highest sequence that a block may carry: stores keep sequences in signed 64-bit columns.
pub const SEQ_MAX: Seq = i64::MAX as u64;

/// Why a block is refused: the sender's fault (or the way's). Nothing was kept of it; the same bytes will be refused
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBlock {
    /// The checksum does not hold.
    Checksum,
    /// No records, more than [`RUN_RECORDS_MAX`], or sequences outside 1 to [`SEQ_MAX`].
    Numbers,
    /// Says it unpacks to more than [`BLOCK_RAW_BYTES_MAX`], or is packed in more than [`BLOCK_BODY_BYTES_MAX`].
    TooLong,
    /// Does not unpack to the length it says.
    Packing,
    /// Unpacks to something other than its count of records.
    Records,
    /// Leaves the store more holes in one stream than it keeps track of.
    Scattered,
}

impl fmt::Display for BadBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "its checksum does not hold",
            Self::Numbers => "its count or sequences are impossible",
            Self::TooLong => "it is longer than a block may be",
            Self::Packing => "it does not unpack to the length it says",
            Self::Records => "it does not hold the records it says",
            Self::Scattered => "it leaves too many holes in its stream",
        })
    }
}

impl core::error::Error for BadBlock {}

/// Columns that leave less than one in so many bytes are not compared with LZ4, which does not get there with records.
const PLAINLY_LESS: usize = 6;

/// Seals `raw`, the encodings of `count` records of `stream` from sequence `first` on, for whoever reads every codec of this
/// build.
///
/// # Panics
/// Where `raw` is longer than [`BLOCK_RAW_BYTES_MAX`]: whoever gathers the records keeps to it.
pub fn pack(stream: Stream, first: Seq, count: u32, raw: &[u8]) -> Block {
    pack_for(Reads::Columns, stream, first, count, raw)
}

/// The same, in the smallest form that `reads` allows.
///
/// # Panics
/// As [`pack`].
pub fn pack_for(reads: Reads, stream: Stream, first: Seq, count: u32, raw: &[u8]) -> Block {
    assert!(raw.len() <= BLOCK_RAW_BYTES_MAX, "a block's records keep to the limit");
    let raw_len = u32::try_from(raw.len()).expect("the limit fits 32 bits");
    let columns = match reads {
        Reads::Columns => in_columns(raw, count),
        Reads::Lz4 => None,
    };
    let most = columns.as_ref().map_or(raw.len(), Vec::len);
    let (codec, body) = match columns {
        Some(body) if body.len() < raw.len() / PLAINLY_LESS => (Codec::Columns, body.into()),
        columns => match (in_lz4(raw, most), columns) {
            (Some(body), _) => (Codec::Lz4, body),
            (None, Some(body)) => (Codec::Columns, body.into()),
            (None, None) => (Codec::Plain, Bytes::copy_from_slice(raw)),
        },
    };
    Block::new(stream, first, count, codec, raw_len, body)
}

/// What comes back from them is compared with what went in: records leave the boards once the region has their block.
fn in_columns(raw: &[u8], count: u32) -> Option<Vec<u8>> {
    let body = columns::pack(raw, count)?;
    let back = columns::unpack(&body, count, raw.len());
    debug_assert_eq!(back.as_deref(), Ok(raw), "what is packed is unpacked");
    (back.as_deref() == Ok(raw)).then_some(body)
}

/// `None` where it would not be shorter than `most`.
fn in_lz4(raw: &[u8], most: usize) -> Option<Bytes> {
    let mut packed = vec![0; lz4_flex::block::get_maximum_output_size(raw.len())];
    let length = lz4_flex::block::compress_into(raw, &mut packed).expect("the buffer has room for the worst case");
    // A copy, so that a block that waits holds its own bytes and not the worst case.
    (length < most).then(|| Bytes::copy_from_slice(&packed[..length]))
}

/// The block's sequences, once its numbers make sense. Cheap: reads no byte of the body.
pub fn check_numbers(block: &Block) -> Result<SeqRange, BadBlock> {
    if block.count > RUN_RECORDS_MAX || block.first == 0 {
        return Err(BadBlock::Numbers);
    }
    if block.raw_len as usize > BLOCK_RAW_BYTES_MAX || block.body.len() > BLOCK_BODY_BYTES_MAX {
        return Err(BadBlock::TooLong);
    }
    let range = block.range().ok_or(BadBlock::Numbers)?;
    if range.last > SEQ_MAX {
        return Err(BadBlock::Numbers);
    }
    Ok(range)
}

/// The encoded records of `block`. Allocates at most [`BLOCK_RAW_BYTES_MAX`], whatever the block says.
pub fn unpack(block: &Block) -> Result<Vec<u8>, BadBlock> {
    check_numbers(block)?;
    if !block.is_intact() {
        return Err(BadBlock::Checksum);
    }
    match block.codec {
        Codec::Plain if block.body.len() == block.raw_len as usize => Ok(block.body.to_vec()),
        Codec::Plain => Err(BadBlock::Packing),
        Codec::Lz4 => {
            let mut raw = vec![0; block.raw_len as usize];
            match lz4_flex::block::decompress_into(&block.body, &mut raw) {
                Ok(length) if length == raw.len() => Ok(raw),
                Ok(_) | Err(_) => Err(BadBlock::Packing),
            }
        }
        Codec::Columns => {
            columns::unpack(&block.body, block.count, block.raw_len as usize).map_err(|_| BadBlock::Packing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BoardId, Class, Epoch, Origin};
    use crate::record::{Key, Kind, Reading};
    use crate::time::WallMillis;

    fn stream() -> Stream {
        let board = BoardId::new(3).unwrap();
        Stream { origin: Origin { board, epoch: Epoch { boot: 2, nonce: 9 } }, class: Class::Event }
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_is_packed_is_unpacked_and_what_cannot_be_packed_stays_as_it_is() {
        let text = b"det/7 on det/7 off ".repeat(100);
        let packed = pack(stream(), 5, 200, &text);
        assert_eq!(packed.codec, Codec::Lz4);
        assert!(packed.body.len() < text.len() / 4);
        assert_eq!(unpack(&packed), Ok(text));
        let plain = pack(stream(), 5, 2, &noise(300));
        assert_eq!((plain.codec, unpack(&plain)), (Codec::Plain, Ok(noise(300))));
    }

    fn records(count: u64) -> Vec<u8> {
        let mut raw = Vec::new();
        for seq in 1..=count {
            let payload = alloc::format!("{{\"ts\":{},\"lane\":{},\"count\":{}}}", seq * 1000, seq % 4, seq * seq % 3);
            let (publisher, topic, key) = ("loop-7", "det/7", Key::Sequence { epoch: 0, seq });
            let (kind, taken, payload) = (Kind::Reading, WallMillis(seq * 1000 + 3), payload.as_bytes());
            Reading { kind, publisher, key, taken, topic, payload }.encode(&mut raw);
        }
        raw
    }

    /// Whoever has not said that it reads columns gets none, and what is smallest of the rest.
    #[test]
    fn a_block_is_packed_as_small_as_its_reader_allows() {
        let raw = records(300);
        let old = pack_for(Reads::Lz4, stream(), 1, 300, &raw);
        let new = pack_for(Reads::Columns, stream(), 1, 300, &raw);
        assert_eq!((old.codec, new.codec), (Codec::Lz4, Codec::Columns));
        assert!(new.body.len() * 4 < old.body.len(), "{} {}", new.body.len(), old.body.len());
        assert_eq!((unpack(&old), unpack(&new)), (Ok(raw.clone()), Ok(raw)));
        assert_eq!(Reads::default(), Reads::Lz4);
        // The same records, which LZ4 packs as well as can be, and what nothing makes smaller.
        let same = records(1).repeat(9);
        for raw in [same, noise(5000), records(1), Vec::new()] {
            let [old, new] = [Reads::Lz4, Reads::Columns].map(|reads| pack_for(reads, stream(), 1, 9, &raw));
            assert!(new.body.len() <= old.body.len() && old.body.len() <= raw.len());
            assert_eq!(unpack(&new), Ok(raw));
        }
    }

    #[test]
    fn numbers_hold_on_both_sides_of_their_limits() {
        let with = |first, count, raw_len| Block::new(stream(), first, count, Codec::Plain, raw_len, Bytes::new());
        let at = |first, count, raw_len| check_numbers(&with(first, count, raw_len)).map(|range| range.last);
        assert_eq!(at(1, RUN_RECORDS_MAX, 0), Ok(u64::from(RUN_RECORDS_MAX)));
        assert_eq!(at(1, RUN_RECORDS_MAX + 1, 0), Err(BadBlock::Numbers));
        assert_eq!(at(1, 0, 0), Err(BadBlock::Numbers));
        assert_eq!(at(0, 1, 0), Err(BadBlock::Numbers));
        assert_eq!(at(SEQ_MAX, 1, 0), Ok(SEQ_MAX));
        assert_eq!(at(SEQ_MAX, 2, 0), Err(BadBlock::Numbers));
        assert_eq!(at(u64::MAX, 2, 0), Err(BadBlock::Numbers));
        assert_eq!(at(1, 1, BLOCK_RAW_BYTES_MAX as u32), Ok(1));
        assert_eq!(at(1, 1, BLOCK_RAW_BYTES_MAX as u32 + 1), Err(BadBlock::TooLong));
    }

    #[test]
    fn the_longest_block_packs_and_stays_within_the_body_limit() {
        let block = pack(stream(), 1, 1, &noise(BLOCK_RAW_BYTES_MAX));
        assert!(block.body.len() <= BLOCK_BODY_BYTES_MAX);
        assert_eq!(unpack(&block).map(|raw| raw.len()), Ok(BLOCK_RAW_BYTES_MAX));
    }

    #[test]
    fn a_block_that_unpacks_to_another_length_is_refused() {
        let packed = pack(stream(), 1, 1, &[7; 1000]);
        for raw_len in [0, 1, 999, 1001, BLOCK_RAW_BYTES_MAX as u32] {
            let lying = Block::new(stream(), 1, 1, Codec::Lz4, raw_len, packed.body.clone());
            assert_eq!(unpack(&lying), Err(BadBlock::Packing), "{raw_len}");
            let plain = Block::new(stream(), 1, 1, Codec::Plain, raw_len, packed.body.clone());
            assert_eq!(unpack(&plain), Err(BadBlock::Packing), "{raw_len}");
            let columns = Block::new(stream(), 1, 1, Codec::Columns, raw_len, packed.body.clone());
            assert_eq!(unpack(&columns), Err(BadBlock::Packing), "{raw_len}");
        }
    }

    #[test]
    fn hostile_bytes_are_refused_and_never_panic() {
        for length in 0..400 {
            let body = Bytes::from(noise(length));
            let block = Block::new(stream(), 1, 1, Codec::Lz4, 4096, body);
            assert_eq!(unpack(&block), Err(BadBlock::Packing), "{length}");
            let columns = Block::new(stream(), 1, 1, Codec::Columns, 4096, block.body);
            assert_eq!(unpack(&columns), Err(BadBlock::Packing), "{length}");
        }
        let good = pack(stream(), 1, 9, &[7; 500]);
        for bit in 0..good.body.len() * 8 {
            let mut body = good.body.to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            let flipped = Block { body: body.into(), ..good.clone() };
            assert_eq!(unpack(&flipped), Err(BadBlock::Checksum), "bit {bit}");
        }
    }
}

//! Packing records into a sealed block and back. Owns the compression and every check that a block's numbers and
//! bytes must pass before a record of it is believed; never decides what goes into a block or what becomes of it.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::ids::{Seq, Stream};
use crate::limits::{BLOCK_BODY_BYTES_MAX, BLOCK_RAW_BYTES_MAX, RUN_RECORDS_MAX};
use crate::ranges::SeqRange;
use crate::wire::uplink::{Block, Codec};

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

/// Seals `raw`, the encodings of `count` records of `stream` from sequence `first` on: LZ4 where that is smaller.
///
/// # Panics
/// Where `raw` is longer than [`BLOCK_RAW_BYTES_MAX`]: whoever gathers the records keeps to it.
pub fn pack(stream: Stream, first: Seq, count: u32, raw: &[u8]) -> Block {
    assert!(raw.len() <= BLOCK_RAW_BYTES_MAX, "a block's records keep to the limit");
    let raw_len = u32::try_from(raw.len()).expect("the limit fits 32 bits");
    let mut packed = vec![0; lz4_flex::block::get_maximum_output_size(raw.len())];
    let length = lz4_flex::block::compress_into(raw, &mut packed).expect("the buffer has room for the worst case");
    let (codec, body) = if length < raw.len() {
        // A copy, so that a block that waits holds its own bytes and not the worst case.
        (Codec::Lz4, Bytes::copy_from_slice(&packed[..length]))
    } else {
        (Codec::Plain, Bytes::copy_from_slice(raw))
    };
    Block::new(stream, first, count, codec, raw_len, body)
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BoardId, Class, Epoch, Origin};

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
    fn what_is_packed_is_unpacked_by_either_codec() {
        let text = b"det/7 on det/7 off ".repeat(100);
        let packed = pack(stream(), 5, 200, &text);
        assert_eq!(packed.codec, Codec::Lz4);
        assert!(packed.body.len() < text.len() / 4);
        assert_eq!(unpack(&packed), Ok(text));
        let plain = pack(stream(), 5, 2, &noise(300));
        assert_eq!((plain.codec, unpack(&plain)), (Codec::Plain, Ok(noise(300))));
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
        }
    }

    #[test]
    fn hostile_bytes_are_refused_and_never_panic() {
        for length in 0..400 {
            let body = Bytes::from(noise(length));
            let block = Block::new(stream(), 1, 1, Codec::Lz4, 4096, body);
            assert_eq!(unpack(&block), Err(BadBlock::Packing), "{length}");
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

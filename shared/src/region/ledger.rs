//! What of a block is new: its sequences less those that the store covers. Pure functions that a store calls inside
//! its one transaction, between reading the coverage and writing rows; nothing is kept here.
//!
//! ```text
//! begin → coverage of the stream → settle(coverage, block) → rows of the fresh ranges, each by `file`
//!       → the block → coverage + range → commit → acknowledge
//! ```

use alloc::vec::Vec;

use crate::block::{BadBlock, SEQ_MAX, check_numbers, unpack};
use crate::ids::{Seq, Stream};
use crate::limits::{COVERAGE_RANGES_MAX, PAYLOAD_BYTES_MAX, PUBLISHER_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::ranges::{RangeSet, SeqRange};
use crate::record::{Gap, Kind, Reading};
use crate::wire::uplink::Block;

pub use crate::region::filing::{Filed, FilingKey, Verdict, file};

/// A block that holds together, set against what is covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// All its sequences: what the coverage gains.
    pub range: SeqRange,
    /// The sequences that the store does not have yet, in order; empty where the whole block is known.
    pub fresh: Vec<SeqRange>,
    raw: Vec<u8>,
    /// Where each fresh record begins in `raw`.
    starts: Vec<(Seq, usize)>,
}

impl Settled {
    /// The records to file, in order of sequence.
    pub fn readings(&self) -> impl Iterator<Item = (Seq, Reading<'_>)> {
        self.starts.iter().filter_map(|(seq, start)| {
            let (reading, _) = Reading::decode(&self.raw[*start..]).ok()?;
            Some((*seq, reading))
        })
    }

    /// How many records there are to file.
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// From the first to the last sequence that was stored before, if any was.
    pub fn again(&self) -> Option<SeqRange> {
        let fresh: RangeSet = self.fresh.iter().copied().collect();
        let stored = fresh.missing(self.range);
        let (first, last) = (stored.first()?.first, stored.last()?.last);
        Some(SeqRange { first, last })
    }
}

/// What the store did with the records of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Readings that became rows.
    pub rows: u64,
    /// Readings that were rows already, under another address.
    pub duplicates: u64,
    /// Gap records filed.
    pub gaps: u64,
    /// The part of the block that was stored before.
    pub again: Option<SeqRange>,
}

/// What became of one block of a transaction that has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whose records.
    pub stream: Stream,
    /// What they came to; a block that does not hold together left nothing behind.
    pub outcome: Result<Tally, BadBlock>,
}

/// The transaction did not commit: nothing of it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFailed;

/// Sets `block` against `coverage`, what the store has of its stream. Bytes from outside end in a refusal, never in a
/// panic, and allocate no more than a block may hold.
pub fn settle(coverage: &RangeSet, block: &Block) -> Result<Settled, BadBlock> {
    let range = check_numbers(block)?;
    let fresh = coverage.missing(range);
    if fresh.is_empty() {
        // Nothing of it is needed; but a sender of damaged blocks is told so at the first.
        return if block.is_intact() {
            Ok(Settled { range, fresh, raw: Vec::new(), starts: Vec::new() })
        } else {
            Err(BadBlock::Checksum)
        };
    }
    if coverage.ranges().len() >= COVERAGE_RANGES_MAX && is_apart(coverage, range) {
        return Err(BadBlock::Scattered);
    }
    let raw = unpack(block)?;
    let starts = fresh_starts(&raw, range, &fresh)?;
    Ok(Settled { range, fresh, raw, starts })
}

/// Whether `range` touches nothing of `coverage`, so that it would be one range more.
fn is_apart(coverage: &RangeSet, range: SeqRange) -> bool {
    let wide = SeqRange { first: range.first.saturating_sub(1), last: range.last.saturating_add(1) };
    coverage.within(wide).next().is_none()
}

/// Reads every record of `raw`, which must be exactly those of `range`; returns where the fresh ones begin.
fn fresh_starts(raw: &[u8], range: SeqRange, fresh: &[SeqRange]) -> Result<Vec<(Seq, usize)>, BadBlock> {
    let mut starts = Vec::with_capacity(fresh.iter().map(|part| part.count() as usize).sum());
    let mut parts = fresh.iter().peekable();
    let mut rest = raw;
    for seq in range.first..=range.last {
        let (reading, after) = Reading::decode(rest).map_err(|_| BadBlock::Records)?;
        check_reading(&reading)?;
        while parts.next_if(|part| part.last < seq).is_some() {}
        if parts.peek().is_some_and(|part| part.contains(seq)) {
            starts.push((seq, raw.len() - rest.len()));
        }
        rest = after;
    }
    if rest.is_empty() { Ok(starts) } else { Err(BadBlock::Records) }
}

fn check_reading(reading: &Reading<'_>) -> Result<(), BadBlock> {
    let fits = reading.publisher.len() <= PUBLISHER_BYTES_MAX
        && reading.topic.len() <= TOPIC_BYTES_MAX
        && reading.payload.len() <= PAYLOAD_BYTES_MAX;
    if !fits {
        return Err(BadBlock::Records);
    }
    match reading.kind {
        Kind::Reading => Ok(()),
        Kind::Gap => gap(reading).map(|_| ()),
    }
}

/// What a gap record says was shed.
pub fn gap(reading: &Reading<'_>) -> Result<Gap, BadBlock> {
    let gap: Gap = postcard::from_bytes(reading.payload).map_err(|_| BadBlock::Records)?;
    let sane = 1 <= gap.range.first && gap.range.first <= gap.range.last && gap.range.last <= SEQ_MAX;
    if sane { Ok(gap) } else { Err(BadBlock::Records) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::pack;
    use crate::ids::{BoardId, Class, Epoch, Origin};
    use crate::record::{GapReason, Key};
    use crate::time::WallMillis;
    use crate::wire::uplink::Codec;
    use alloc::collections::BTreeSet;
    use bytes::Bytes;

    fn stream() -> Stream {
        let origin = Origin { board: BoardId::new(1).unwrap(), epoch: Epoch { boot: 1, nonce: 1 } };
        Stream { origin, class: Class::Event }
    }

    fn reading(seq: Seq) -> Reading<'static> {
        Reading {
            kind: Kind::Reading,
            publisher: "loop-7",
            key: Key::Sequence { epoch: 0, seq },
            taken: WallMillis(seq),
            topic: "det/7",
            payload: b"on",
        }
    }

    fn block(first: Seq, count: u32) -> Block {
        let mut raw = Vec::new();
        for seq in first..first + u64::from(count) {
            reading(seq).encode(&mut raw);
        }
        pack(stream(), first, count, &raw)
    }

    fn range(first: Seq, last: Seq) -> SeqRange {
        SeqRange { first, last }
    }

    #[test]
    fn only_what_is_not_covered_is_fresh() {
        let coverage: RangeSet = [range(3, 4), range(8, 20)].into_iter().collect();
        let settled = settle(&coverage, &block(1, 9)).unwrap();
        assert_eq!(settled.fresh, [range(1, 2), range(5, 7)]);
        let filed: Vec<_> = settled.readings().map(|(seq, reading)| (seq, reading.taken.0)).collect();
        assert_eq!(filed, [(1, 1), (2, 2), (5, 5), (6, 6), (7, 7)]);
        assert_eq!(settled.again(), Some(range(3, 9)));
        let whole = settle(&RangeSet::EMPTY, &block(1, 9)).unwrap();
        assert_eq!((whole.again(), whole.readings().count()), (None, 9));
        let known = settle(&coverage, &block(9, 3)).unwrap();
        assert_eq!((known.fresh.len(), known.readings().count()), (0, 0));
    }

    /// However blocks overlap and in whatever order they come, each sequence is filed once.
    #[test]
    fn agrees_with_a_plain_set_of_numbers() {
        let mut state = 11_u64;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let (mut coverage, mut plain) = (RangeSet::EMPTY, BTreeSet::new());
            for _ in 0..20 {
                let (first, count) = (1 + next(60), 1 + next(12) as u32);
                let settled = settle(&coverage, &block(first, count)).unwrap();
                for (seq, reading) in settled.readings() {
                    assert!(plain.insert(seq), "{seq} filed twice");
                    assert_eq!(reading.taken.0, seq);
                }
                coverage.insert(settled.range);
                assert!((first..first + u64::from(count)).all(|seq| plain.contains(&seq)));
                assert_eq!(coverage.count(), plain.len() as u64);
            }
        }
    }

    #[test]
    fn a_block_that_does_not_hold_together_is_refused() {
        let good = block(1, 4);
        let raw = unpack(&good).unwrap();
        let settle_raw = |count, raw: &[u8]| settle(&RangeSet::EMPTY, &pack(stream(), 1, count, raw)).map(|_| ());
        assert_eq!(settle_raw(4, &raw), Ok(()));
        assert_eq!(settle_raw(3, &raw), Err(BadBlock::Records));
        assert_eq!(settle_raw(5, &raw), Err(BadBlock::Records));
        for cut in 0..raw.len() {
            assert_eq!(settle_raw(4, &raw[..cut]), Err(BadBlock::Records), "cut at {cut}");
        }
        let mut flipped = good.clone();
        flipped.crc ^= 1;
        assert_eq!(settle(&RangeSet::EMPTY, &flipped), Err(BadBlock::Checksum));
        let covered: RangeSet = [range(1, 9)].into_iter().collect();
        assert_eq!(settle(&covered, &flipped), Err(BadBlock::Checksum));
        let overflow = Block::new(stream(), u64::MAX, 2, Codec::Plain, 0, Bytes::new());
        assert_eq!(settle(&RangeSet::EMPTY, &overflow), Err(BadBlock::Numbers));
    }

    #[test]
    fn flipped_bits_under_a_right_checksum_never_panic() {
        let raw = unpack(&block(1, 3)).unwrap();
        for bit in 0..raw.len() * 8 {
            let mut bad = raw.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let _judged = settle(&RangeSet::EMPTY, &pack(stream(), 1, 3, &bad));
        }
    }

    #[test]
    fn holes_end_at_their_limit_but_what_joins_is_taken() {
        let with =
            |ranges: usize| -> RangeSet { (0..ranges as u64).map(|at| range(10 + at * 3, 10 + at * 3)).collect() };
        assert!(settle(&with(COVERAGE_RANGES_MAX - 1), &block(1, 1)).is_ok());
        let full = with(COVERAGE_RANGES_MAX);
        assert_eq!(settle(&full, &block(1, 1)), Err(BadBlock::Scattered));
        assert!(settle(&full, &block(9, 1)).is_ok());
        assert!(settle(&full, &block(11, 1)).is_ok());
    }

    #[test]
    fn a_gap_says_what_was_shed_or_the_block_is_refused() {
        let shed = Gap { stream: stream(), range: range(4, 9), bytes: 77, reason: GapReason::JournalFull };
        let settle_gap = |payload: &[u8]| {
            let record = Reading { kind: Kind::Gap, payload, ..reading(1) };
            let mut raw = Vec::new();
            record.encode(&mut raw);
            settle(&RangeSet::EMPTY, &pack(stream(), 1, 1, &raw))
        };
        let payload = postcard::to_allocvec(&shed).unwrap();
        let settled = settle_gap(&payload).unwrap();
        let (_, record) = settled.readings().next().unwrap();
        assert_eq!(gap(&record), Ok(shed));
        assert_eq!(settle_gap(b"").map(|_| ()), Err(BadBlock::Records));
        let backwards = postcard::to_allocvec(&Gap { range: range(9, 4), ..shed }).unwrap();
        assert_eq!(settle_gap(&backwards).map(|_| ()), Err(BadBlock::Records));
    }

    #[test]
    fn record_parts_over_their_limits_are_refused() {
        let long = [b'p'; PUBLISHER_BYTES_MAX + 1];
        for (length, ok) in [(PUBLISHER_BYTES_MAX, true), (PUBLISHER_BYTES_MAX + 1, false)] {
            let publisher = core::str::from_utf8(&long[..length]).unwrap();
            let mut raw = Vec::new();
            Reading { publisher, ..reading(1) }.encode(&mut raw);
            assert_eq!(settle(&RangeSet::EMPTY, &pack(stream(), 1, 1, &raw)).is_ok(), ok);
        }
    }
}

//! One number after the other, each said as its distance from what was to be expected. Owns the guesses, and how well each
//! has guessed so far; both ends of a block learn the same from the same numbers.
//!
//! A **slot** is a place in a pattern: its numbers are a column of the block. Five guesses are kept for each: as the last record
//! of the same source had it; on the line through that source's last two; as the last record of any source had it; the mean; and
//! nought. The one whose misses were the shortest lately counts, and the length of its misses gives the `k` of Rice's code.

use super::bits::{Flow, Torn};

/// Guesses of a slot.
const GUESSES: usize = 5;
/// The one that guesses nought: its miss is the number itself.
const NOUGHT: usize = 4;
/// A miss of one bit, as lengths of misses are counted.
pub(super) const BIT: i32 = 1 << BIT_SHIFT;
const BIT_SHIFT: u32 = 6;
/// What a new slot expects: misses of some bits.
const UNKNOWN: i32 = 6 * BIT;
/// A slot whose misses are shorter on the average is quiet: all quiet slots of a record are said at once.
const QUIET: i32 = BIT / 8;

/// What is known of the numbers of one place of a pattern.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// What its numbers are.
    pub(super) reach: Reach,
    /// Average length of the misses of each guess, in parts of [`BIT`].
    misses: [i32; GUESSES],
    /// The guess whose misses are the shortest.
    best: usize,
    mean: u64,
    last: u64,
}

/// The numbers of one source at one place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// The last.
    pub(super) last: u64,
    /// The one before it.
    before: u64,
}

/// What the numbers of a place are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// 64 bits.
    Long,
    /// The same, places in the list of words.
    Word,
    /// Bytes.
    Byte,
}

impl Slot {
    /// Of a new pattern.
    pub(super) const fn new(reach: Reach) -> Self {
        Self { reach, misses: [UNKNOWN; GUESSES], best: 0, mean: 0, last: 0 }
    }

    /// A past for a source that has none here: what others had.
    pub(super) const fn past(&self) -> Past {
        Past { last: self.last, before: self.last }
    }

    /// Whether nearly all its numbers are as expected.
    pub(super) const fn is_quiet(&self) -> bool {
        self.misses[self.best] < QUIET
    }

    /// Average length of a miss of late, in parts of [`BIT`].
    pub(super) const fn missed(&self) -> i32 {
        self.misses[self.best]
    }

    const fn guesses(&self, past: Past) -> [u64; GUESSES] {
        let line = past.last.wrapping_mul(2).wrapping_sub(past.before);
        [past.last, line, self.last, self.mean, 0]
    }

    /// Whether `value` is what is expected.
    pub(super) const fn expects(&self, value: u64, past: Past) -> bool {
        miss(self.best, value, self.guesses(past)[self.best], self.reach) == 0
    }

    /// Writes or reads the next number of `past`'s source; `known` where it is as expected. Learns from it.
    pub(super) fn code(&mut self, flow: &mut impl Flow, value: u64, past: &mut Past, known: bool) -> Result<u64, Torn> {
        let (best, reach) = (self.best, self.reach);
        let guesses = self.guesses(*past);
        if known {
            let value = found(best, 0, guesses[best], reach);
            self.last = value;
            *past = Past { last: value, before: past.last };
            return Ok(value);
        }
        let missed = miss(best, value, guesses[best], reach);
        let missed = self.code_miss(flow, missed)?;
        let value = found(best, missed, guesses[best], reach);
        let mut shortest = i32::MAX;
        for (guess, misses) in self.misses.iter_mut().enumerate() {
            let length = u64::BITS - miss(guess, value, guesses[guess], reach).leading_zeros();
            let bits = length.cast_signed() << BIT_SHIFT;
            *misses = misses.wrapping_add(bits.wrapping_sub(*misses) >> 3);
            if *misses < shortest {
                (shortest, self.best) = (*misses, guess);
            }
        }
        let away = value.wrapping_sub(self.mean).cast_signed();
        self.mean = self.mean.wrapping_add((away >> 3).cast_unsigned());
        self.last = value;
        *past = Past { last: value, before: past.last };
        Ok(value)
    }

    fn code_miss(&self, flow: &mut impl Flow, missed: u64) -> Result<u64, Torn> {
        let k = ((self.misses[self.best] - BIT * 6 / 10) >> BIT_SHIFT).max(0).cast_unsigned();
        match self.reach {
            Reach::Byte if k >= 6 => flow.bits(8, missed),
            Reach::Byte => {
                let missed = flow.number(k, missed)?;
                if missed > 0xff { Err(Torn) } else { Ok(missed) }
            }
            Reach::Long | Reach::Word => flow.number(k.min(56), missed),
        }
    }
}

/// How far `value` is from what was guessed: small numbers for small distances either way.
const fn miss(guess: usize, value: u64, guessed: u64, reach: Reach) -> u64 {
    if guess == NOUGHT {
        return value;
    }
    let away = value.wrapping_sub(guessed).cast_signed();
    match reach {
        Reach::Long | Reach::Word => ((away << 1) ^ (away >> 63)).cast_unsigned(),
        Reach::Byte => {
            let away = away as u8 as i8;
            ((away << 1) ^ (away >> 7)) as u8 as u64
        }
    }
}

/// The number that missed the guess by so much.
const fn found(guess: usize, missed: u64, guessed: u64, reach: Reach) -> u64 {
    if guess == NOUGHT {
        return missed;
    }
    let away = (missed >> 1) ^ (missed & 1).wrapping_neg();
    let value = guessed.wrapping_add(away);
    match reach {
        Reach::Long | Reach::Word => value,
        Reach::Byte => value & 0xff,
    }
}

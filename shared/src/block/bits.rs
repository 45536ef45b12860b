//! Numbers as bits, and bytes beside them: the two halves of a body in columns. Owns how a number is written and read;
//! what the numbers mean is [`super::columns`]' matter.
//!
//! A number is written by Rice's code: `number >> k` as so many ones and a zero, then its lowest `k` bits; `k` is known to both
//! sides. One that would take [`ONES_MAX`] ones is written as these, its length in six bits, and its bits. The first bit of
//! a byte is its lowest.

use alloc::vec::Vec;

/// Ones before a number is written by its length.
const ONES_MAX: u32 = 16;
/// Bits that hold the length of a number, less one.
const LENGTH_BITS: u32 = 6;

/// The bits or the bytes end too early, or say what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Torn;

/// One way through a body: written or read by the same code. A writer takes what it is given and returns it; a reader passes
/// it over and returns what was written.
pub(super) trait Flow {
    /// Whether it writes.
    const WRITES: bool;

    /// A number of `width` bits, 32 at most.
    fn bits(&mut self, width: u32, value: u64) -> Result<u64, Torn>;
    /// A number that is small as a rule, by Rice's code.
    fn number(&mut self, k: u32, value: u64) -> Result<u64, Torn>;
    /// Appends `length` bytes to `into`: of a writer the `given` ones.
    fn bytes(&mut self, length: usize, given: &[u8], into: &mut Vec<u8>) -> Result<(), Torn>;

    /// Whether.
    fn flag(&mut self, value: bool) -> Result<bool, Torn> {
        Ok(self.bits(1, u64::from(value))? != 0)
    }

    /// One of `count` places.
    fn place(&mut self, count: usize, value: usize) -> Result<usize, Torn> {
        let width = usize::BITS - count.saturating_sub(1).leading_zeros();
        let read = usize::try_from(self.bits(width, value as u64)?).map_err(|_| Torn)?;
        if read < count { Ok(read) } else { Err(Torn) }
    }
}

const fn low(width: u32) -> u64 {
    if width >= u64::BITS { u64::MAX } else { (1 << width) - 1 }
}

/// Writes.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Whole bytes of numbers.
    numbers: Vec<u8>,
    /// Bytes beside them.
    text: Vec<u8>,
    /// Bits that are no whole word yet.
    open: u64,
    count: u32,
}

impl Writer {
    /// A writer with room for so many bytes of numbers.
    pub(super) fn new(room: usize) -> Self {
        Self { numbers: Vec::with_capacity(room), ..Self::default() }
    }

    /// The numbers, the last byte filled up with zeros, and the bytes beside them.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        let bytes = self.count.div_ceil(8) as usize;
        self.numbers.extend_from_slice(&self.open.to_le_bytes()[..bytes]);
        (self.numbers, self.text)
    }

    /// How long both are by now, about.
    pub(super) const fn length(&self) -> usize {
        self.numbers.len() + self.text.len()
    }

    #[inline]
    fn push(&mut self, width: u32, value: u64) {
        self.open |= value << self.count;
        let count = self.count + width;
        if count < u64::BITS {
            self.count = count;
            return;
        }
        self.numbers.extend_from_slice(&self.open.to_le_bytes());
        let written = u64::BITS - self.count;
        self.open = if written < u64::BITS { value >> written } else { 0 };
        self.count = count - u64::BITS;
    }
}

impl Flow for Writer {
    const WRITES: bool = true;

    fn bits(&mut self, width: u32, value: u64) -> Result<u64, Torn> {
        self.push(width, value & low(width));
        Ok(value)
    }

    #[inline]
    fn number(&mut self, k: u32, value: u64) -> Result<u64, Torn> {
        let ones = value >> k;
        if ones < u64::from(ONES_MAX) {
            let ones = ones as u32;
            self.push(ones + 1, low(ones));
            self.push(k, value & low(k));
        } else {
            self.push(ONES_MAX, low(ONES_MAX));
            let length = u64::BITS - value.leading_zeros();
            self.push(LENGTH_BITS, u64::from(length - 1));
            self.push(length, value);
        }
        Ok(value)
    }

    fn bytes(&mut self, length: usize, given: &[u8], into: &mut Vec<u8>) -> Result<(), Torn> {
        debug_assert_eq!(length, given.len(), "a writer says how many it was given");
        self.text.extend_from_slice(given);
        into.extend_from_slice(given);
        Ok(())
    }
}

/// Reads.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    numbers: &'a [u8],
    text: &'a [u8],
    /// Bits that were taken from `numbers` and not read yet.
    open: u64,
    count: u32,
}

impl<'a> Reader<'a> {
    /// Reads what [`Writer::finish`] returned.
    pub(super) const fn new(numbers: &'a [u8], text: &'a [u8]) -> Self {
        Self { numbers, text, open: 0, count: 0 }
    }

    /// Nothing is left but the zeros that fill the last byte.
    pub(super) fn finish(self) -> Result<(), Torn> {
        let is_end = self.numbers.is_empty() && self.text.is_empty() && self.count < 8 && self.open == 0;
        if is_end { Ok(()) } else { Err(Torn) }
    }

    /// Takes as many bits as there is room for: 57 at least, unless the numbers end.
    fn fill(&mut self) {
        if let Some((word, _)) = self.numbers.split_first_chunk::<8>() {
            let bytes = (u64::BITS - 1 - self.count) / 8;
            let word = u64::from_le_bytes(*word) & low(bytes * 8);
            self.open |= word << self.count;
            self.count += bytes * 8;
            self.numbers = &self.numbers[bytes as usize..];
            return;
        }
        while self.count < u64::BITS - 8
            && let Some((byte, rest)) = self.numbers.split_first()
        {
            self.open |= u64::from(*byte) << self.count;
            self.count += 8;
            self.numbers = rest;
        }
    }

    /// The next `width` bits, 56 at most.
    #[inline]
    fn take(&mut self, width: u32) -> Result<u64, Torn> {
        if self.count < width {
            self.fill();
            if self.count < width {
                return Err(Torn);
            }
        }
        let value = self.open & low(width);
        self.open >>= width;
        self.count -= width;
        Ok(value)
    }

    /// The next `width` bits, 64 at most.
    fn long(&mut self, width: u32) -> Result<u64, Torn> {
        let first = width.min(32);
        Ok(self.take(first)? | self.take(width - first)? << first)
    }
}

impl Flow for Reader<'_> {
    const WRITES: bool = false;

    #[inline]
    fn bits(&mut self, width: u32, _: u64) -> Result<u64, Torn> {
        self.take(width)
    }

    #[inline]
    fn number(&mut self, k: u32, _: u64) -> Result<u64, Torn> {
        if self.count < u64::BITS / 2 {
            self.fill();
        }
        let ones = self.open.trailing_ones();
        let width = (ones + 1).saturating_add(k);
        if ones < ONES_MAX && width <= self.count {
            // Nearly always: all of it is there. The count is below 64, and so is the width.
            let rest = (self.open >> (ones + 1)) & low(k);
            self.open >>= width;
            self.count -= width;
            return Ok(u64::from(ones) << k | rest);
        }
        if ones >= ONES_MAX {
            self.take(ONES_MAX)?;
            let length = self.take(LENGTH_BITS)? as u32 + 1;
            return self.long(length);
        }
        self.take(ones + 1)?;
        let rest = self.long(k)?;
        Ok(u64::from(ones) << k | rest)
    }

    fn bytes(&mut self, length: usize, _: &[u8], into: &mut Vec<u8>) -> Result<(), Torn> {
        let (bytes, rest) = self.text.split_at_checked(length).ok_or(Torn)?;
        into.extend_from_slice(bytes);
        self.text = rest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_on_both_sides_of_every_length() {
        let lengths = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let values: Vec<u64> = lengths.chain([0, u64::MAX - 1, u64::MAX]).collect();
        for k in 0..=48 {
            let mut writer = Writer::new(0);
            for value in &values {
                writer.number(k, *value).unwrap();
                writer.bits(32, *value).unwrap();
                writer.flag(value % 2 == 1).unwrap();
            }
            writer.bytes(3, b"abc", &mut Vec::new()).unwrap();
            let (numbers, text) = writer.finish();
            let mut reader = Reader::new(&numbers, &text);
            for value in &values {
                assert_eq!(reader.number(k, 0), Ok(*value), "k {k}");
                assert_eq!(reader.bits(32, 0), Ok(*value & low(32)));
                assert_eq!(reader.flag(false), Ok(value % 2 == 1));
            }
            let mut into = Vec::new();
            reader.bytes(3, b"", &mut into).unwrap();
            assert_eq!((into.as_slice(), reader.finish()), (&b"abc"[..], Ok(())));
        }
    }

    #[test]
    fn an_end_that_comes_early_is_torn() {
        let mut writer = Writer::new(0);
        (0..40).for_each(|value| assert!(writer.number(2, value * 31).is_ok()));
        let (numbers, text) = writer.finish();
        for cut in 0..numbers.len() {
            let mut reader = Reader::new(&numbers[..cut], &text);
            assert!((0..40).any(|_| reader.number(2, 0).is_err()), "cut at {cut}");
        }
        assert_eq!(Reader::new(&[], b"ab").bytes(3, b"", &mut Vec::new()), Err(Torn));
        assert_eq!(Reader::new(&[0], b"").finish(), Err(Torn));
    }

    #[test]
    fn a_place_is_one_of_those_that_there_are() {
        for count in 1..70_usize {
            let mut writer = Writer::new(0);
            writer.place(count, count - 1).unwrap();
            let (numbers, text) = writer.finish();
            assert_eq!(Reader::new(&numbers, &text).place(count, 0), Ok(count - 1));
        }
        assert_eq!(Reader::new(&[3], b"").place(3, 0), Err(Torn));
    }
}

//! Text as a pattern and what stands in it: `{"lane":3,"v_ms":12.50}` is the pattern `{"lane":#,"v_ms":#}` with the numbers 3 and
//! 1250, of which the second has two decimals. Owns how text is taken apart and put together again; whatever a pattern
//! takes apart it puts together to the same bytes.

use alloc::vec::Vec;

use super::slots::Past;
use super::words::Words;
use crate::limits::{COLUMN_SLOTS_MAX, COLUMN_WORD_BYTES_MAX};

/// Digits of a number at most, its decimals filled up: it fits 63 bits.
const DIGITS_MAX: usize = 18;

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digits {
    /// Digits before the point at least, filled up with zeros: 1 to [`DIGITS_MAX`].
    pub(super) width: u8,
    /// Decimals at least.
    pub(super) least: u8,
    /// Decimals at most; zeros at the end are left out down to `least`. The number counts in units of the last.
    pub(super) most: u8,
}

impl Digits {
    /// Whether numbers may be written so.
    pub(super) const fn check(self) -> bool {
        let digits = self.width as usize + self.most as usize;
        self.width >= 1 && self.least <= self.most && digits <= DIGITS_MAX
    }

    /// The same, or such that `found` can be written so too.
    fn widened(self, found: Found<'_>) -> Self {
        let decimals = found.decimals.len() as u8;
        let whole = found.whole.len() as u8;
        let padded = found.whole[0] == b'0' && whole > 1;
        Self {
            width: if padded || whole < self.width { whole } else { self.width },
            least: self.least.min(decimals),
            most: self.most.max(decimals),
        }
    }
}

/// What stands at a place of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Token {
    /// A number.
    Number(Digits),
    /// A word of the block's list.
    Word,
}

/// Bytes that are always the same, and what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    /// Bytes of the pattern's literal text.
    pub(super) literal: usize,
    /// Then this.
    pub(super) token: Token,
}

/// A pattern of text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    /// What is always the same, one piece after the other; what is left after the last part ends the text.
    pub(super) literals: Vec<u8>,
    /// What changes.
    pub(super) parts: Vec<Part>,
}

/// Digits as found.
#[derive(Clone, Copy, Debug)]
struct Found<'a> {
    whole: &'a [u8],
    decimals: &'a [u8],
}

impl Pattern {
    /// The numbers and words of `text` appended to `values`; `before` are those of the text before it. `None` where it
    /// is not of this pattern; what was appended is then of no use.
    pub(super) fn take_apart(
        &self,
        text: &[u8],
        words: &mut Words,
        before: &[Past],
        values: &mut Vec<u64>,
    ) -> Option<()> {
        let (mut rest, mut literals) = (text, self.literals.as_slice());
        for (nth, part) in self.parts.iter().enumerate() {
            let (literal, left) = literals.split_at_checked(part.literal)?;
            literals = left;
            rest = rest.strip_prefix(literal)?;
            match part.token {
                Token::Number(digits) => {
                    let (value, length) = number(rest, digits)?;
                    values.push(value);
                    rest = &rest[length..];
                }
                Token::Word => {
                    let length = letters(rest);
                    if length == 0 || length > COLUMN_WORD_BYTES_MAX {
                        return None;
                    }
                    values.push(words.place(&rest[..length], before.get(nth).map(|past| past.last))?);
                    rest = &rest[length..];
                }
            }
        }
        (rest == literals).then_some(())
    }

    /// The text appended to `text`, which grows to `most` bytes at most. `None` where that cannot be.
    pub(super) fn put_together(&self, values: &[u64], words: &Words, text: &mut Vec<u8>, most: usize) -> Option<()> {
        let mut literals = self.literals.as_slice();
        for (part, value) in self.parts.iter().zip(values) {
            let (literal, left) = literals.split_at_checked(part.literal)?;
            literals = left;
            text.extend_from_slice(literal);
            match part.token {
                Token::Number(digits) => write(*value, digits, text),
                Token::Word => text.extend_from_slice(words.word(*value)?),
            }
            if text.len() > most {
                return None;
            }
        }
        text.extend_from_slice(literals);
        (text.len() <= most).then_some(())
    }

    /// A pattern of which `text` is, as much like `like` as can be. `None` where it has too many numbers.
    pub(super) fn of(text: &[u8], like: Option<&Self>) -> Option<Self> {
        let mut pattern = Self::default();
        let (mut at, mut literal) = (0, 0);
        while at < text.len() {
            let Some((token, length)) = pattern.token_at(text, at, like) else {
                // What is no number as a whole is not looked at again from each of its digits.
                at += digits(&text[at..]).max(1);
                continue;
            };
            if pattern.parts.len() == COLUMN_SLOTS_MAX {
                return None;
            }
            pattern.literals.extend_from_slice(&text[literal..at]);
            pattern.parts.push(Part { literal: at - literal, token });
            at += length;
            literal = at;
        }
        pattern.literals.extend_from_slice(&text[literal..]);
        Some(pattern)
    }

    /// Whether there are words in it.
    pub(super) fn has_words(&self) -> bool {
        self.parts.iter().any(|part| part.token == Token::Word)
    }

    /// What stands at `at`, if something that changes does, and how long it is.
    fn token_at(&self, text: &[u8], at: usize, like: Option<&Self>) -> Option<(Token, usize)> {
        let rest = &text[at..];
        match rest[0] {
            b'0'..=b'9' | b'-' => {
                // A minus after a letter, a digit or another minus belongs to the text.
                let joins = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
                if rest[0] == b'-' && at.checked_sub(1).and_then(|before| text.get(before)).is_some_and(joins) {
                    return None;
                }
                let (found, length) = find(rest)?;
                let plain = Digits {
                    width: if found.whole[0] == b'0' { found.whole.len() as u8 } else { 1 },
                    least: found.decimals.len() as u8,
                    most: found.decimals.len() as u8,
                };
                let known = like.and_then(|like| like.parts.get(self.parts.len())).map(|part| part.token);
                let digits = match known {
                    Some(Token::Number(known)) => [known, known.widened(found), plain],
                    Some(Token::Word) | None => [plain; 3],
                };
                let digits = digits
                    .into_iter()
                    .find(|digits| number(rest, *digits).is_some_and(|(_, taken)| taken == length))?;
                Some((Token::Number(digits), length))
            }
            byte if is_letter(byte) && opens_value(&text[..at]) => {
                let length = letters(rest);
                let ends = rest
                    .get(length)
                    .is_none_or(|next| !next.is_ascii_alphanumeric() && *next != b'-');
                (length <= COLUMN_WORD_BYTES_MAX && ends).then_some((Token::Word, length))
            }
            _ => None,
        }
    }
}

/// Whether a value of JSON begins behind `before`: a colon, perhaps a space, perhaps a quotation mark.
fn opens_value(before: &[u8]) -> bool {
    let bare = before.strip_suffix(b"\"").unwrap_or(before);
    let bare = bare.strip_suffix(b" ").unwrap_or(bare);
    bare.ends_with(b":")
}

const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn letters(text: &[u8]) -> usize {
    text.iter().position(|byte| !is_letter(*byte)).unwrap_or(text.len())
}

fn digits(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len())
}

/// The digits at the front of `text`, with sign and decimals, and how long that is.
fn find(text: &[u8]) -> Option<(Found<'_>, usize)> {
    let (minus, bare) = text.strip_prefix(b"-").map_or((false, text), |bare| (true, bare));
    let (whole, rest) = bare.split_at(digits(bare));
    let decimals = rest.strip_prefix(b".").map_or(&rest[..0], |rest| &rest[..digits(rest)]);
    if whole.is_empty() || whole.len() > DIGITS_MAX || decimals.len() > DIGITS_MAX {
        return None;
    }
    let point = usize::from(!decimals.is_empty());
    Some((Found { whole, decimals }, usize::from(minus) + whole.len() + point + decimals.len()))
}

/// The number at the front of `text`, and how long it is; `None` where it would be written in another way.
fn number(text: &[u8], Digits { width, least, most }: Digits) -> Option<(u64, usize)> {
    let minus = text.first() == Some(&b'-');
    let start = usize::from(minus);
    let (mut value, mut at) = (0_u64, start);
    while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    let whole = at - start;
    let width = usize::from(width);
    if whole < width || (whole > width && text[start] == b'0') || whole + usize::from(most) > DIGITS_MAX {
        return None;
    }
    let mut decimals = 0;
    if most > 0 && text.get(at) == Some(&b'.') && text.get(at + 1).is_some_and(u8::is_ascii_digit) {
        at += 1;
        while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            if decimals == most {
                return None;
            }
            value = value * 10 + u64::from(digit);
            decimals += 1;
            at += 1;
        }
        if decimals > least && text[at - 1] == b'0' {
            return None;
        }
    }
    if decimals < least {
        return None;
    }
    for _ in decimals..most {
        value *= 10;
    }
    match (minus, value) {
        // There is no minus zero.
        (true, 0) => None,
        (true, _) => Some((value.wrapping_neg(), at)),
        (false, _) => Some((value, at)),
    }
}

/// Writes `value` so. Any value can be written; those that [`number`] returns come out as they stood.
fn write(value: u64, Digits { width, least, most }: Digits, text: &mut Vec<u8>) {
    let value = value.cast_signed();
    if value < 0 {
        text.push(b'-');
    }
    // Twenty digits and a point, or what is to be filled up with zeros: 18 and 18.
    let mut buffer = [b'0'; 48];
    let (mut at, mut left, mut decimals) = (buffer.len(), value.unsigned_abs(), most);
    while decimals > least && left % 10 == 0 {
        left /= 10;
        decimals -= 1;
    }
    if decimals > 0 {
        for _ in 0..decimals {
            at -= 1;
            buffer[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        at -= 1;
        buffer[at] = b'.';
    }
    let end = at;
    while left > 0 {
        at -= 1;
        buffer[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    let start = at.min(end - usize::from(width));
    text.extend_from_slice(&buffer[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail, and to take a second, where such a run is looked at again from each of its digits: its last digits were found.
    #[test]
    fn a_run_of_digits_that_is_no_number_is_passed_over_at_once() {
        for text in [alloc::vec![b'7'; 8192], [&b"0."[..], &[b'7'; 8190]].concat()] {
            let pattern = Pattern::of(&text, None).unwrap();
            assert_eq!((pattern.parts.len(), pattern.literals), (0, text));
        }
        let short = Pattern::of(b"7777", None).unwrap();
        assert_eq!(short.parts.len(), 1);
    }
}

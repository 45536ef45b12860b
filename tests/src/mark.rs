//! The mark that every payload in the world carries, so that a reading can be found again in raw bytes on a disk
//! or in the region's store without asking the code under test where it put it.

use std::fmt;

use shared::ids::Class;

/// Names one reading of one publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Whose.
    pub publisher: u8,
    /// Its number, from 1.
    pub number: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}#{}", self.publisher, self.number)
    }
}

const LEAD: u8 = 0xf5;
const MAGIC: [u8; 4] = [LEAD, b'R', b'S', b'M'];
/// Bytes of a mark: magic, publisher, number, and both again inverted, so that chance bytes are none.
pub const MARK_BYTES: usize = 14;

impl Mark {
    /// Which class its publisher gives it.
    pub const fn class(self) -> Class {
        match self.number % 16 {
            0 => Class::Alarm,
            1..=3 => Class::Bulk,
            _ => Class::Event,
        }
    }

    /// A payload of `length` bytes (at least [`MARK_BYTES`]) that carries the mark.
    pub fn payload(self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length.max(MARK_BYTES));
        bytes.extend_from_slice(&MAGIC);
        bytes.push(self.publisher);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.push(!self.publisher);
        bytes.extend_from_slice(&(!self.number).to_le_bytes());
        while bytes.len() < length {
            bytes.push(b'a' + (bytes.len() % 26) as u8);
        }
        bytes
    }

    /// The mark at the front of `bytes`.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mark: &[u8; MARK_BYTES] = bytes.first_chunk()?;
        let number = u32::from_le_bytes([mark[5], mark[6], mark[7], mark[8]]);
        let again = u32::from_le_bytes([mark[10], mark[11], mark[12], mark[13]]);
        let sound = mark[..4] == MAGIC && mark[4] == !mark[9] && number == !again;
        sound.then_some(Self { publisher: mark[4], number })
    }

    /// Every mark in `bytes`, wherever it stands. The zeros that pad a write to its page are skipped in strides.
    pub fn find_all(bytes: &[u8]) -> Vec<Self> {
        const STRIDE: usize = 64;
        let mut found = Vec::new();
        for (index, chunk) in bytes.chunks(STRIDE).enumerate() {
            if !chunk.contains(&LEAD) {
                continue;
            }
            for (within, byte) in chunk.iter().enumerate() {
                if *byte == LEAD {
                    found.extend(Self::read(&bytes[index * STRIDE + within..]));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_where_they_stand_and_nowhere_else() {
        let marks = [Mark { publisher: 3, number: 9 }, Mark { publisher: 255, number: u32::MAX }];
        let mut bytes = vec![0_u8; 61];
        bytes.extend(marks[0].payload(40));
        bytes.extend(vec![LEAD; 70]);
        bytes.extend(marks[1].payload(0));
        assert_eq!(Mark::find_all(&bytes), marks);
        bytes.pop();
        assert_eq!(Mark::find_all(&bytes), marks[..1]);
    }
}

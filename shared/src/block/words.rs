//! The words of a block: classes, states, names of phases, each once. A number in a column stands for a word by its place in
//! this list; the first time that a place is named the word itself follows.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::bits::{Flow, Torn};
use crate::limits::{COLUMN_WORD_BYTES_MAX, COLUMN_WORDS_MAX};

/// Bits of the length of a word that are written in any case.
const LENGTH_K: u32 = 2;

/// The list.
#[derive(Debug, Default)]
pub(super) struct Words {
    text: Vec<u8>,
    ends: Vec<usize>,
    /// So many of them the other end knows.
    told: usize,
    /// Place by digest, of a writer; one that is no longer there is told by its text.
    places: BTreeMap<u64, usize>,
}

impl Words {
    /// The word at `place`.
    pub(super) fn word(&self, place: u64) -> Option<&[u8]> {
        let place = usize::try_from(place).ok()?;
        self.text.get(self.span(place)?)
    }

    fn span(&self, place: usize) -> Option<Range<usize>> {
        let start = place.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        Some(start..*self.ends.get(place)?)
    }

    /// The place of `word`, which may be `guess`. A new one is added; `None` where there is no room.
    pub(super) fn place(&mut self, word: &[u8], guess: Option<u64>) -> Option<u64> {
        if let Some(guess) = guess
            && self.word(guess) == Some(word)
        {
            return Some(guess);
        }
        let digest = xxh3_64(word);
        if let Some(place) = self.places.get(&digest)
            && self.word(*place as u64) == Some(word)
        {
            return Some(*place as u64);
        }
        let place = self.ends.len();
        if place == COLUMN_WORDS_MAX {
            return None;
        }
        self.push(word);
        self.places.insert(digest, place);
        Some(place as u64)
    }

    fn push(&mut self, word: &[u8]) {
        self.text.extend_from_slice(word);
        self.ends.push(self.text.len());
    }

    /// Words that nobody was told of are forgotten: the text that brought them is not taken apart.
    pub(super) fn forget_untold(&mut self) {
        self.ends.truncate(self.told);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Writes or reads the word at `place`, where that is the first that the other end hears of it.
    pub(super) fn code(&mut self, flow: &mut impl Flow, place: u64) -> Result<(), Torn> {
        let place = usize::try_from(place).map_err(|_| Torn)?;
        if place < self.told {
            return Ok(());
        }
        if place > self.told || place >= COLUMN_WORDS_MAX {
            return Err(Torn);
        }
        let given = self.span(place).map(|span| self.text[span].to_vec()).unwrap_or_default();
        let length = flow.number(LENGTH_K, given.len() as u64)?;
        if length > COLUMN_WORD_BYTES_MAX as u64 {
            return Err(Torn);
        }
        let mut word = Vec::new();
        flow.bytes(length as usize, &given, &mut word)?;
        if place == self.ends.len() {
            self.push(&word);
        }
        self.told += 1;
        Ok(())
    }
}

//! What happened, one readable line an event, and a digest of everything that happened: two runs of a seed are the
//! same run exactly if their digests are equal. Lines are made only where somebody reads them.

use std::collections::VecDeque;
use std::fmt::Display;

use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Moment;

/// Who reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Nobody: only the digest is kept.
    Silent,
    /// Whoever looks at a failed seed: the last lines are kept.
    Kept,
    /// A person: lines go to standard output as they happen.
    Aloud,
}

/// Lines kept of a story that is not told aloud.
const LINES_MAX: usize = 400;

/// The story of one world.
#[derive(Debug)]
pub struct Story {
    telling: Telling,
    lines: VecDeque<String>,
    digest: u64,
}

impl Story {
    /// An empty story.
    pub fn new(telling: Telling) -> Self {
        Self { telling, lines: VecDeque::new(), digest: 0 }
    }

    /// Takes a fact into the digest.
    pub fn weigh(&mut self, at: Moment, what: u64) {
        for word in [at.micros(), what] {
            self.digest = (self.digest.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// Takes bytes that travelled or were written into the digest.
    pub fn weigh_bytes(&mut self, at: Moment, bytes: &[u8]) {
        self.weigh(at, xxh3_64(bytes));
    }

    /// Tells a line; `tell` is asked for it only where somebody reads.
    pub fn tell<D: Display>(&mut self, at: Moment, who: impl Display, tell: impl FnOnce() -> D) {
        match self.telling {
            Telling::Silent => {}
            Telling::Kept => {
                if self.lines.len() == LINES_MAX {
                    self.lines.pop_front();
                }
                self.lines.push_back(format!("{at}  {who:<12} {}", tell()));
            }
            Telling::Aloud => println!("{at}  {who:<12} {}", tell()),
        }
    }

    /// The last lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// Digest of all that happened.
    pub const fn digest(&self) -> u64 {
        self.digest
    }
}

//! Owns the small random pauses that keep apart what would otherwise happen in step, and choices without a reason. All of it follows from
//! the injected seed.

use core::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): one word of state, good enough to break ties.
#[derive(Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A pause of 0 to `most`, in whole microseconds.
    pub(crate) fn below(&mut self, most: Duration) -> Duration {
        let span = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.word() % span)
    }

    /// The place of one of `count`; 0 where there is none.
    pub(crate) fn pick(&mut self, count: usize) -> usize {
        let place = self.word() % u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(place).unwrap_or(0)
    }

    const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

//! Seeded chance: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), good enough for pauses and lost datagrams.

use std::time::Duration;

/// Dice that fall the same way for the same seed.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Dice(u64);

impl Dice {
    /// Dice of `seed`.
    pub(in crate::bench) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next roll.
    pub(in crate::bench) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A duration below `most`.
    pub(in crate::bench) fn below(&mut self, most: Duration) -> Duration {
        most.mul_f64((self.roll() % 10_000) as f64 / 10_000.0)
    }
}

//! The world's only randomness: SplitMix64 (Steele, Lea, Flood 2014), small and equal on every machine. A seed and
//! the order of the questions decide every answer; no other source of chance may be used in the world.

use core::time::Duration;

/// One stream of chance.
#[derive(Clone, Debug)]
pub struct Dice(u64);

/// Parts in a million that mean "always".
pub const ALWAYS: u32 = 1_000_000;

impl Dice {
    /// The stream that `seed` stands for.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream that draws the faults of a seed's world.
    pub const fn for_faults(seed: u64) -> Self {
        Self(seed ^ 0x4641_554c_5453)
    }

    /// A stream of its own for one part of the world, so that one part's questions do not shift another's answers.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.word())
    }

    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.word()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Whether something that happens `ppm` times in a million happens now.
    pub fn chance(&mut self, ppm: u32) -> bool {
        self.below(u64::from(ALWAYS)) < u64::from(ppm)
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.word() & 1 == 1
    }

    /// One of `choices`; `None` where there are none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(choices.len().max(1) as u64)).unwrap_or(0);
        choices.get(at).copied()
    }

    /// A duration from `low` to `high`.
    pub fn span(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_micros(self.between(micros(low), micros(high)))
    }

    /// A delay of at least `base` with a tail: mostly a fraction of `jitter`, one time in thirty-two up to eight times
    /// it, because measured delays are heavy tailed.
    pub fn delay(&mut self, base: Duration, jitter: Duration) -> Duration {
        let tail = if self.below(32) == 0 { 8 } else { 1 };
        base + Duration::from_micros(self.below(micros(jitter) * tail + 1))
    }

    /// Time to the next of things that happen every `mean` on average: a geometric draw in 64 steps.
    pub fn gap(&mut self, mean: Duration) -> Duration {
        let step = micros(mean) / 16;
        let mut waited = self.below(step + 1);
        for _ in 0..64 {
            if self.below(16) == 0 {
                break;
            }
            waited += step;
        }
        Duration::from_micros(waited)
    }
}

/// `span` in micros.
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_stays_within_bounds() {
        let (mut one, mut two) = (Dice::new(7), Dice::new(7));
        for _ in 0..1000 {
            let got = one.between(3, 5);
            assert_eq!(got, two.between(3, 5));
            assert!((3..=5).contains(&got));
        }
        assert!(!one.chance(0));
        assert!(one.chance(ALWAYS));
        assert_eq!(one.pick::<u8>(&[]), None);
    }

    #[test]
    fn gaps_have_the_mean_that_was_asked_for() {
        let mut dice = Dice::new(1);
        let sum: Duration = (0..4000).map(|_| dice.gap(Duration::from_secs(1))).sum();
        let mean = sum / 4000;
        assert!(mean > Duration::from_millis(850) && mean < Duration::from_millis(1150), "{mean:?}");
    }
}

//! Time in the world: one true time that nobody in it can see, and for each machine a monotonic clock of its own
//! that starts anywhere and runs a little fast or slow.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

use shared::time::Instant;

use crate::dice::micros;

/// True time: microseconds since the world began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The beginning.
    pub const ZERO: Self = Self(0);
    /// Later than any world lasts.
    pub const NEVER: Self = Self(u64::MAX);

    /// Microseconds since the beginning.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// So much before; the beginning where there is no earlier moment.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros(by)))
    }

    /// Time since `earlier`; zero where it is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

const MILLION: i128 = 1_000_000;

/// A machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SkewedClock {
    /// What it showed when the world began.
    pub shows: u64,
    /// How much faster than true time it runs, in parts per million; negative is slower.
    pub ppm: i64,
}

impl SkewedClock {
    /// What the clock shows at `at`.
    pub fn local(&self, at: Moment) -> Instant {
        let run = i128::from(at.0) * (MILLION + i128::from(self.ppm)) / MILLION;
        Instant::from_micros(u64::try_from(i128::from(self.shows) + run).unwrap_or(0))
    }

    /// The first moment at which the clock shows at least `local`.
    pub fn moment(&self, local: Instant) -> Moment {
        if local == Instant::NEVER {
            return Moment::NEVER;
        }
        let run = i128::from(local.micros()) - i128::from(self.shows);
        if run <= 0 {
            return Moment::ZERO;
        }
        let rate = MILLION + i128::from(self.ppm);
        let at = (run * MILLION + rate - 1) / rate;
        u64::try_from(at).map_or(Moment::NEVER, Moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_reached_at_its_moment_and_not_before() {
        for ppm in [-25_000, -333, 0, 7, 25_000] {
            let clock = SkewedClock { shows: 5_000_000, ppm };
            for asked in [5_000_001, 5_000_777, 6_123_456, 99_000_000] {
                let at = clock.moment(Instant::from_micros(asked));
                assert!(clock.local(at).micros() >= asked);
                assert!(clock.local(Moment(at.0 - 1)).micros() < asked);
            }
        }
        assert_eq!(SkewedClock { shows: 1, ppm: 0 }.moment(Instant::NEVER), Moment::NEVER);
    }
}

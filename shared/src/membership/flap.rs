//! Owns how often one board came back lately, and how long it is held back for it from leading. Being alive is not
//! held back: data flows at once.

use core::time::Duration;

use crate::limits::{HOLD_DOWN_LEAST, HOLD_DOWN_MOST, PENALTY_HALF_LIFE};
use crate::time::Instant;

/// A return's penalty.
const RETURN: u64 = 1000;

/// How often one board came back lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flap {
    /// In thousandths of a return, as of `at`.
    penalty: u64,
    at: Instant,
    held_until: Instant,
}

impl Flap {
    /// It came back.
    pub(super) fn handle_return(&mut self, now: Instant) {
        self.penalty = self.decayed(now) + RETURN;
        self.at = now;
        let doublings = u32::try_from(self.penalty.saturating_sub(1) / RETURN)
            .unwrap_or(u32::MAX)
            .min(31);
        self.held_until = now + (HOLD_DOWN_LEAST * (1 << doublings)).min(HOLD_DOWN_MOST);
    }

    /// Whether it is held back.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        now < self.held_until
    }

    /// Halved each half-life, straight in between.
    fn decayed(&self, now: Instant) -> u64 {
        let gone = now.since(self.at);
        let halvings = gone.as_micros() / PENALTY_HALF_LIFE.as_micros();
        let rest = gone.as_micros() % PENALTY_HALF_LIFE.as_micros();
        let Some(whole) = u32::try_from(halvings).ok().and_then(|by| self.penalty.checked_shr(by)) else {
            return 0;
        };
        let part = u128::from(whole) * rest / (2 * PENALTY_HALF_LIFE.as_micros());
        whole - u64::try_from(part).unwrap_or(whole)
    }
}

/// The longest hold-down is longer than it takes to forget one return.
const _: () = assert!(HOLD_DOWN_MOST.as_micros() > Duration::from_secs(60).as_micros(), "a flapping board is held");

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn the_first_return_is_held_back_for_a_second() {
        let mut flap = Flap::default();
        assert!(!flap.is_held(at(0)));
        flap.handle_return(at(0));
        assert!(flap.is_held(Instant::from_micros(at(1).micros() - 1)));
        assert!(!flap.is_held(at(1)));
    }

    #[test]
    fn each_return_in_quick_succession_doubles_it_up_to_ten_minutes() {
        let mut flap = Flap::default();
        for (nth, held) in [1, 2, 4, 8, 16, 32].into_iter().enumerate() {
            flap.handle_return(at(0));
            assert!(flap.is_held(at(held - 1)) && !flap.is_held(at(held)), "return {nth}");
        }
        (0..20).for_each(|_| flap.handle_return(at(0)));
        assert!(flap.is_held(at(599)) && !flap.is_held(at(600)));
    }

    #[test]
    fn what_was_is_forgotten_by_halves() {
        let mut flap = Flap::default();
        (0..4).for_each(|_| flap.handle_return(at(0)));
        assert_eq!([0, 30, 60, 120, 6000].map(|seconds| flap.decayed(at(seconds))), [4000, 3000, 2000, 1000, 0]);
    }
}

//! How much of a path a backlog may take: what is fresh is sent as it comes and counted, and what has waited gets the rest of the
//! budget. A bucket of tokens, kept as the instant at which all that was sent is paid for.

use core::time::Duration;

use crate::time::Instant;

/// What was not used counts for so long: an even flow through timers that are late by some milliseconds.
const BURST: Duration = Duration::from_millis(50);
/// What was sent beyond the budget is made up for so long at most: an hour in which all was fresh is no reason to let a backlog wait
/// for another.
const DEBT_MAX: Duration = Duration::from_secs(1);

/// The budget of one session.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    bits_a_second: u64,
    paid_at: Instant,
}

impl Budget {
    /// So many megabits a second (millions), at least one; nothing of it is spent at `now`.
    pub fn new(megabits: u32, now: Instant) -> Self {
        Self { bits_a_second: u64::from(megabits.max(1)) * 1_000_000, paid_at: now }
    }

    /// `bytes` were sent, whether the budget had room for them or not.
    pub fn spend(&mut self, bytes: u64, now: Instant) {
        let unused = now.since(self.paid_at).min(BURST);
        let from = now.micros().saturating_sub(u64::try_from(unused.as_micros()).unwrap_or(0));
        let from = self.paid_at.max(Instant::from_micros(from));
        let paid_at = from + Duration::from_micros(bytes.saturating_mul(8_000_000) / self.bits_a_second);
        self.paid_at = paid_at.min(now + DEBT_MAX);
    }

    /// When what waits may go on: the past where it may now.
    pub const fn rests_until(&self) -> Instant {
        self.paid_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> Instant {
        Instant::from_micros(at * 1_000)
    }

    /// What a backlog that always has something to send gets in `seconds`, in bytes, while `live` bytes go each 10 ms.
    fn backlog(megabits: u32, live: u64, seconds: u64) -> u64 {
        let mut budget = Budget::new(megabits, ms(0));
        let mut sent = 0;
        for at in 0..seconds * 1000 {
            if at % 10 == 0 {
                budget.spend(live, ms(at));
            }
            while budget.rests_until() <= ms(at) {
                budget.spend(4096, ms(at));
                sent += 4096;
            }
        }
        sent
    }

    #[test]
    fn a_backlog_gets_what_is_left_of_the_budget() {
        for (megabits, live, rest) in [(8, 0, 10_000_000), (8, 5_000, 5_000_000), (8, 10_000, 0), (8, 20_000, 0)] {
            let sent = backlog(megabits, live, 10);
            let most = rest + 60_000 + 4096;
            assert!((rest * 99 / 100..=most).contains(&sent), "{live} live: {sent}, not {rest}");
        }
    }

    #[test]
    fn a_debt_is_made_up_for_within_a_second() {
        let mut budget = Budget::new(2, ms(0));
        budget.spend(5_400_000_000, ms(86_400_000));
        assert_eq!(budget.rests_until(), ms(86_401_000));
    }

    #[test]
    fn what_was_not_used_for_long_is_gone() {
        let mut budget = Budget::new(8, ms(0));
        budget.spend(50_000, ms(60_000));
        assert_eq!(budget.rests_until(), ms(60_000), "50 ms of it are left");
        budget.spend(1_000, ms(60_000));
        assert_eq!(budget.rests_until(), ms(60_001));
    }
}

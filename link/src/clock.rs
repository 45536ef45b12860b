//! The machine's clocks, read here and nowhere in `shared`: instants that only rise, and wall time as a label.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use shared::time::{Deadline, Instant, WallMillis};

/// Now, on the clock that also counts while the machine is suspended: a lease must not live on through a sleep.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_micros(seconds.saturating_mul(1_000_000) + nanos / 1_000)
}

/// Wall time, for labels only. A clock before 1970 reads as 1970.
pub fn wall() -> WallMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Sleep that ends at `deadline`, or after [`NAP_MAX`] where that is earlier: the sleeper looks at the clock again,
/// because the runtime's own timer stands still while the machine is suspended.
pub fn nap(deadline: Deadline, now: Instant) -> Duration {
    deadline.at.since(now).min(NAP_MAX)
}

/// Longest sleep without looking at the clock.
pub const NAP_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_rise_and_naps_are_bounded() {
        let first = now();
        std::thread::sleep(Duration::from_millis(2));
        let second = now();
        assert!(second.since(first) >= Duration::from_millis(2));
        assert_eq!(nap(Deadline::NONE, second), NAP_MAX);
        assert_eq!(nap(Deadline { at: first, why: "past" }, second), Duration::ZERO);
        assert!(wall().0 > 0);
    }
}

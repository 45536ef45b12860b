//! The machine's clocks, read here and nowhere in `shared`: instants that only rise, and wall time as a label.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use shared::time::{Deadline, Instant, WallMillis};

/// The longest that this process has seen its machine asleep, in microseconds since it booted.
static SLEPT: AtomicU64 = AtomicU64::new(0);

/// Now, on a clock that nobody slews and that also counts while the machine is suspended.
///
/// `CLOCK_MONOTONIC_RAW` runs at the speed of the machine's oscillator: NTP does not bend it, so two boards differ by what
/// their quartz differs (some 0.01 %), far within the 1 % that leases allow for. It stands still in suspend. How long the
/// machine slept is what `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`, which NTP bends alike; it is added, so that a
/// lease does not live on through a sleep.
pub fn now() -> Instant {
    let raw = micros(ClockId::MonotonicRaw);
    let asleep = micros(ClockId::Boottime).saturating_sub(micros(ClockId::Monotonic));
    // The two are not read at one instant, and their difference comes out too small rather than too large.
    let before = SLEPT.fetch_max(asleep, Ordering::Relaxed);
    Instant::from_micros(raw.saturating_add(before.max(asleep)))
}

fn micros(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000) + nanos / 1_000
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

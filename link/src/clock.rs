//! The machine's clocks, read here and nowhere in `shared`: instants that only rise, and wall time as a label.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use shared::time::{Deadline, Instant, WallMillis};

/// Micros that the machine was suspended since its boot, as far as this process has seen.
static SUSPENDED: AtomicU64 = AtomicU64::new(0);
/// A suspension shorter than this is not told from the noise of reading two clocks.
const SUSPENSION_MIN_MICROS: u64 = 1_000;

/// Now, on a clock that nobody slews: CLOCK_MONOTONIC_RAW, and the time that the machine was suspended, because a lease
/// must not live on through a sleep. It only rises. All processes of one machine agree on it to a millisecond or so, as
/// both parts count from the boot. Three reads through the vDSO, no lock.
pub fn now() -> Instant {
    // The two run alike, slewed alike, and differ by the suspensions alone (clock_gettime(2)). In this order a delay
    // between the reads makes the difference too small, which the next call mends; never too large.
    let (with, without) = (micros(ClockId::Boottime), micros(ClockId::Monotonic));
    let seen = SUSPENDED.load(Ordering::Acquire);
    let suspended = suspended(seen, with, without);
    if suspended > seen {
        SUSPENDED.fetch_max(suspended, Ordering::AcqRel);
    }
    let raw = micros(ClockId::MonotonicRaw);
    Instant::from_micros(raw.saturating_add(SUSPENDED.load(Ordering::Acquire)))
}

/// Micros of suspension, where `seen` were known: more only where the clocks say so clearly.
fn suspended(seen: u64, with: u64, without: u64) -> u64 {
    let measured = with.saturating_sub(without);
    if measured >= seen.saturating_add(SUSPENSION_MIN_MICROS) {
        measured
    } else {
        seen
    }
}

fn micros(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
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
    fn a_suspension_moves_the_clock_and_noise_does_not() {
        assert_eq!(suspended(0, 70_000_000, 70_000_000), 0);
        assert_eq!(suspended(0, 70_000_999, 70_000_000), 0);
        assert_eq!(suspended(0, 70_001_000, 70_000_000), 1_000);
        assert_eq!(suspended(5_000_000, 75_000_999, 70_000_000), 5_000_000);
        assert_eq!(suspended(5_000_000, 95_000_000, 70_000_000), 25_000_000);
        // A delay between the reads.
        assert_eq!(suspended(5_000_000, 70_000_000, 70_300_000), 5_000_000);
    }

    #[test]
    fn instants_never_fall_on_any_thread() {
        let run = || {
            let mut last = now();
            for _ in 0..20_000 {
                let next = now();
                assert!(next >= last);
                last = next;
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(run);
            scope.spawn(run);
        });
    }

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

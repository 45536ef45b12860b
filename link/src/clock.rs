//! The machine's clocks, read here and nowhere in `shared`: instants that only rise, wall time as a label, and a sleep that is
//! exact below a millisecond.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use shared::time::{Deadline, Instant, WallMillis};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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

/// Sleeps for whoever counts in parts of a millisecond: the runtime's own timer counts in whole ones. Where the kernel gives no
/// timer it sleeps by the runtime's.
#[derive(Debug)]
pub struct Sleeper {
    timer: io::Result<AsyncFd<OwnedFd>>,
}

/// The shortest nap: whoever naps lets the others go on, also where its deadline stays in the past.
const NAP_MIN: Duration = Duration::from_micros(50);
/// From here on the runtime's timer is good enough.
const COARSE: Duration = Duration::from_millis(4);

impl Sleeper {
    /// One on the runtime that is entered.
    ///
    /// # Panics
    /// Outside of a runtime, or in one without I/O.
    #[expect(clippy::new_without_default, reason = "it belongs to a runtime")]
    pub fn new() -> Self {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
        #[expect(
            deprecated,
            reason = "unsound for types whose descriptor changes; an `OwnedFd` keeps its own"
        )]
        let watch = |timer| AsyncFd::with_interest(timer, Interest::READABLE);
        Self { timer: timer.map_err(io::Error::from).and_then(watch) }
    }

    /// Sleeps for `nap`. May be dropped half-way and called again.
    pub async fn sleep(&self, nap: Duration) {
        // A deadline that has just passed: the runtime's timer would make a millisecond or two of it.
        let nap = nap.max(NAP_MIN);
        match &self.timer {
            Ok(timer) if nap < COARSE && nap_by(timer, nap).await.is_ok() => {}
            _ => tokio::time::sleep(nap).await,
        }
    }
}

async fn nap_by(timer: &AsyncFd<OwnedFd>, nap: Duration) -> io::Result<()> {
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec { tv_sec: 0, tv_nsec: nap.subsec_nanos().into() },
    };
    // What an earlier nap left unread goes with this.
    timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
    loop {
        let mut ready = timer.readable().await?;
        // Not to be read is the end of a nap that was given up.
        if let Ok(read) = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?)) {
            return read.map(drop);
        }
    }
}

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

    #[tokio::test]
    async fn a_nap_of_parts_of_a_millisecond_is_one_and_may_be_given_up() {
        let sleeper = Sleeper::new();
        for micros in [0, 100, 300, 900, 2_500, 7_000] {
            let nap = Duration::from_micros(micros);
            tokio::select! {
                biased;
                () = sleeper.sleep(Duration::from_micros(50)) => panic!("it cannot be over yet"),
                () = std::future::ready(()) => {}
            }
            std::thread::sleep(Duration::from_micros(200));
            let (began, mut shortest) = (now(), Duration::MAX);
            for _ in 0..20 {
                let began = now();
                sleeper.sleep(nap).await;
                shortest = shortest.min(now().since(began));
            }
            assert!(now().since(began) >= nap * 19, "{nap:?} is slept, and no less");
            assert!(shortest < nap + Duration::from_millis(2), "{nap:?}: {shortest:?}");
            let is_exact = shortest < nap + Duration::from_micros(400);
            assert!(is_exact || nap >= COARSE, "{nap:?}: {shortest:?} at best");
        }
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

//! When the path of a session counts as dead: something that must be acknowledged is under way, and for a while nothing was
//! acknowledged at all. What the region says of itself is no proof: where packets vanish on the way out alone, its own still come.
//! Judges samples of counters that the shell reads; sends and closes nothing.
//!
//! ```text
//!  answered ──something is asked──▶ silent since ──a round trip and a bit──▶ ask, at every sample ──patience──▶ dead
//!     ▲                                  │                                       │
//!     └──────────── an acknowledgement ──┴───────────────────────────────────────┘
//! ```

use core::time::Duration;

use crate::time::Instant;

/// Between two samples.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(40);
/// A session that has been wrongly given up so often is no more patient the next time.
pub const MISTAKES_MAX: u32 = 3;

/// Two timeouts of QUIC's own probes once a path is known, and the answer: a timeout is a round trip, four deviations of it, and
/// the 25 ms for which an acknowledgement may wait (RFC 9002, 6.2.1).
const ROUND_TRIPS: u32 = 3;
/// And what a busy machine at either end needs.
const SLACK: Duration = Duration::from_millis(250);
/// The least patience: a radio that changes its cell is away for a quarter of a second now and then.
const PATIENCE_MIN: Duration = Duration::from_millis(450);
/// The most that mistakes make of it, and what QUIC's own idle timeout is.
const PATIENCE_MISTAKEN: Duration = Duration::from_secs(3);
/// What is asked at every sample from then on, is asked often enough that a loss of one packet in ten each way is not taken for
/// silence in a year.
const DOUBT_SLACK: Duration = Duration::from_millis(40);

/// A sample later than this means that this machine stood still, and not that its timers are coarse.
const LATE_BORNE: Duration = Duration::from_millis(60);

/// What a session has sent and heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Frames sent so far that must be acknowledged, those sent again included.
    pub asked: u64,
    /// Acknowledgements heard so far.
    pub answered: u64,
    /// The smoothed round trip.
    pub rtt: Duration,
}

/// What follows from a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well, or too little is known.
    Fine,
    /// Something is late: send one more packet that must be acknowledged, so that a lost one is not taken for silence.
    Ask,
    /// Nothing came back for too long: close the session, and take another way.
    Dead,
}

/// The judge of one session.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    mistakes: u32,
    last: Option<Sample>,
    since: Option<Instant>,
}

impl Silence {
    /// Of a session over a path that was wrongly taken for dead `mistakes` times: each doubles the patience.
    pub const fn new(mistakes: u32) -> Self {
        Self { mistakes, last: None, since: None }
    }

    /// Judges the next sample. Where samples come late this machine stood still, and that is no silence of the path.
    pub fn handle_sample(&mut self, sample: Sample) -> Verdict {
        let Some(last) = self.last.replace(sample) else {
            return Verdict::Fine;
        };
        let late = sample.at.since(last.at + SAMPLE_EVERY);
        let stood_still = if late > LATE_BORNE { late } else { Duration::ZERO };
        if sample.answered != last.answered {
            self.since = None;
            return Verdict::Fine;
        }
        self.since = match self.since {
            Some(since) => Some(since + stood_still),
            None => (sample.asked > last.asked).then_some(sample.at),
        };
        match self.silent_for(sample.at) {
            Some(silent) if silent >= patience(sample.rtt, self.mistakes) => Verdict::Dead,
            Some(silent) if silent >= sample.rtt + sample.rtt / 4 + DOUBT_SLACK => Verdict::Ask,
            Some(_) | None => Verdict::Fine,
        }
    }

    /// How long something has been asked for in vain.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| now.since(since))
    }
}

/// How long silence is borne over a path of this smoothed round trip: 450 ms at least, 490 ms at 80 ms, 2 s at 600 ms.
pub fn patience(rtt: Duration, mistakes: u32) -> Duration {
    let once = (rtt.saturating_mul(ROUND_TRIPS) + SLACK).max(PATIENCE_MIN);
    let mistaken = once.saturating_mul(1 << mistakes.min(MISTAKES_MAX));
    mistaken.min(PATIENCE_MISTAKEN).max(once)
}

#[cfg(test)]
#[path = "silence_tests.rs"]
mod tests;

//! How worn the board's medium is by what this board wrote to it, and how long it will last at that rate. Owns the estimate;
//! the counting is the disk's.
//!
//! ```text
//!  days left = (endurance - written) / rate
//!  rate      = the greater of: written over all lives / time of all lives
//!                              written in this life   / time of this life, once that is an hour
//! ```
//!
//! The greater, so that sensors that were added lately count at once, and a burst after a start is not forgotten. Written
//! is what this process gave to the file system: what the file system itself, other programs and earlier owners wrote is not in
//! it, so an estimate is the most that can be hoped for. Without the medium's endurance, or before an hour, there is none.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::disk::{DiskGauge, Worn};

/// Before so long a rate says nothing: a start makes segments ahead and reads its sensors' backlog.
const OBSERVED_MIN: Duration = Duration::from_secs(3600);
/// A day.
pub(crate) const DAY_SECONDS: f64 = 86_400.0;

/// Where the numbers stand.
#[derive(Clone, Debug)]
pub(crate) struct WearGauge {
    /// Of the disk.
    pub(crate) disk: Arc<DiskGauge>,
    /// Bytes that may be written to the medium in its life; `None` where nobody says.
    pub(crate) endurance: Option<u64>,
}

impl WearGauge {
    /// The wear as it is now.
    pub(crate) fn status(&self) -> WearStatus {
        let wear = self.disk.wear();
        WearStatus::new(wear.ever(), wear.now(), wear.since(), self.endurance)
    }
}

/// What this board wrote to its medium in all its lives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct WearStatus {
    /// Bytes.
    pub(crate) written_bytes: u64,
    /// Syncs of files and of the directory.
    pub(crate) syncs: u64,
    /// Bytes of records among them, before padding and headers.
    pub(crate) payload_bytes: u64,
    /// Bytes written for each byte of records; `None` where there are none.
    pub(crate) bytes_per_payload_byte: Option<f64>,
    /// Time over which that was: that of stops is not in it.
    pub(crate) observed_s: u64,
    /// The start of the board at which counting began.
    pub(crate) since_boot: u32,
    /// Bytes that may be written to the medium in its life.
    pub(crate) endurance_bytes: Option<u64>,
    /// How long that still lasts.
    pub(crate) days_left: Option<f64>,
    /// Why there is no estimate.
    pub(crate) no_estimate_because: Option<&'static str>,
}

impl WearStatus {
    fn new(ever: Worn, now: Worn, since_boot: u32, endurance: Option<u64>) -> Self {
        let estimate = days_left(ever, now, endurance);
        Self {
            written_bytes: ever.bytes,
            syncs: ever.syncs,
            payload_bytes: ever.payload,
            bytes_per_payload_byte: (ever.payload > 0).then(|| rounded(ever.bytes as f64 / ever.payload as f64)),
            observed_s: ever.during.as_secs(),
            since_boot,
            endurance_bytes: endurance,
            days_left: estimate.ok().map(rounded),
            no_estimate_because: estimate.err(),
        }
    }
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn days_left(ever: Worn, now: Worn, endurance: Option<u64>) -> Result<f64, &'static str> {
    let endurance = endurance.ok_or("the medium's endurance is unknown: say `endurance_tbw` in [journal]")?;
    if ever.during < OBSERVED_MIN {
        return Err("less than an hour was observed");
    }
    let rate = |worn: Worn| worn.bytes as f64 / worn.during.as_secs_f64();
    let lately = if now.during < OBSERVED_MIN { 0.0 } else { rate(now) };
    let rate = rate(ever).max(lately);
    if rate <= 0.0 {
        return Err("nothing was written");
    }
    Ok(endurance.saturating_sub(ever.bytes) as f64 / rate / DAY_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worn(bytes: u64, seconds: u64) -> Worn {
        Worn { bytes, syncs: 1, payload: bytes / 2, during: Duration::from_secs(seconds) }
    }

    #[test]
    fn an_estimate_needs_an_endurance_and_an_hour() {
        let status = |seconds, endurance| WearStatus::new(worn(86_400, seconds), worn(0, 0), 1, endurance);
        assert_eq!(status(3599, Some(1_000_000)).days_left, None);
        assert_eq!(status(3600, None).days_left, None);
        assert!(
            status(3600, None)
                .no_estimate_because
                .is_some_and(|why| why.contains("endurance_tbw"))
        );
        let told = status(3600, Some(86_400 + 24 * 86_400 * 10));
        assert_eq!((told.days_left, told.no_estimate_because), (Some(10.0), None));
        assert_eq!(told.bytes_per_payload_byte, Some(2.0));
    }

    #[test]
    fn the_greater_rate_counts_and_what_is_worn_out_has_no_day_left() {
        // A byte a second over all lives, ten in this one.
        let ever = worn(100_000, 100_000);
        let days = |now| WearStatus::new(ever, now, 1, Some(100_000 + 864_000)).days_left;
        assert_eq!(days(worn(36_000, 3600)), Some(1.0));
        assert_eq!(days(worn(36_000, 3599)), Some(10.0), "too short to say anything");
        assert_eq!(days(worn(360, 3600)), Some(10.0));
        assert_eq!(WearStatus::new(ever, ever, 1, Some(1)).days_left, Some(0.0));
    }
}

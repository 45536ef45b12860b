//! What all measurements are told in: percentiles, medians over runs, units, the disk beside them.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::demo::screen::grouped;
use crate::failure::Failure;

/// What the disk does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Device {
    /// A write and fdatasync of one page: half are faster.
    pub(super) fdatasync_p50_us: u64,
    /// 99 of 100 are faster.
    pub(super) fdatasync_p99_us: u64,
}

impl Device {
    /// From all its syncs.
    pub(super) fn of(mut syncs: Vec<Duration>) -> Self {
        syncs.sort_unstable();
        Self { fdatasync_p50_us: percentile(&syncs, 50), fdatasync_p99_us: percentile(&syncs, 99) }
    }

    /// For people.
    pub(super) fn line(self) -> String {
        let (half, most) = (micros(self.fdatasync_p50_us), micros(self.fdatasync_p99_us));
        format!("the disk itself: 4 KiB write and fdatasync, p50 {half}, p99 {most}")
    }
}

/// The duration that `percent` of a hundred in `sorted` are not above, in microseconds; 0 of none.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted
        .get(rank - 1)
        .map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

/// The middle one of `values`, the lower of two; 0 of none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// Bytes in MiB, to a tenth.
pub(super) fn mib(bytes: u64) -> f64 {
    (bytes as f64 / (1024.0 * 1024.0) * 10.0).round() / 10.0
}

/// To a hundredth.
pub(super) fn hundredth(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A time for people.
pub(super) fn micros(micros: u64) -> String {
    if micros < 10_000 {
        format!("{} us", grouped(micros))
    } else {
        format!("{:.1} ms", micros as f64 / 1000.0)
    }
}

/// Writes `figures` to the file `path`, as JSON.
pub(super) fn write_json(path: &Path, figures: &impl Serialize) -> Result<(), Failure> {
    let cannot = |error| Failure::new(format!("cannot write {}", path.display())).because(error);
    let text = serde_json::to_string(figures).map_err(cannot)?;
    crate::files::write(path, format!("{text}\n").as_bytes(), crate::files::Readers::All)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_at_their_ranks() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!([percentile(&sorted, 50), percentile(&sorted, 99), percentile(&sorted, 100)], [100, 198, 200]);
        assert_eq!(percentile(&sorted[..1], 50), 1);
        assert_eq!(percentile(&[], 99), 0);
    }

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!([median([3.0, 1.0, 2.0]), median([4.0, 1.0, 2.0, 3.0]), median([])], [2.0, 2.0, 0.0]);
    }
}

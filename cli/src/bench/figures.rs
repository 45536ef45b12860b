//! Measurements as figures: percentiles, a table for people, JSON for programs. Measures nothing.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::demo::screen::grouped;

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// Publishes on their way at once.
    pub(super) in_flight: u32,
    /// Acknowledgements a second.
    pub(super) events_per_s: f64,
    /// Time from a publish to its acknowledgement: half are faster.
    pub(super) ack_p50_us: u64,
    /// 99 of 100 are faster.
    pub(super) ack_p99_us: u64,
    /// Bytes that all boards together wrote to their files, for each byte of payload acknowledged.
    pub(super) device_bytes_per_payload_byte: f64,
    /// Memory of the board that uses most, under this load.
    pub(super) rss_mib: f64,
    /// Connections that the publishes were spread over.
    #[serde(skip)]
    pub(super) connections: usize,
}

/// What the disk does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Device {
    /// A write and fdatasync of one page: half are faster.
    pub(super) fdatasync_p50_us: u64,
    /// 99 of 100 are faster.
    pub(super) fdatasync_p99_us: u64,
}

/// Programs that do the same, measured the same way; none is measured yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Rivals {}

/// Everything measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    /// One a number of publishes in flight.
    pub(super) points: Vec<Point>,
    /// The disk below.
    pub(super) device: Device,
    /// Memory of a board that does nothing.
    pub(super) idle_rss_mib: f64,
    /// Others.
    pub(super) rivals: Rivals,
}

/// The duration that `percent` of a hundred in `sorted` are not above, in microseconds; 0 of none.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted
        .get(rank - 1)
        .map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

/// The figures of the disk, from all its syncs.
pub(super) fn device(mut syncs: Vec<Duration>) -> Device {
    syncs.sort_unstable();
    Device { fdatasync_p50_us: percentile(&syncs, 50), fdatasync_p99_us: percentile(&syncs, 99) }
}

/// Bytes in MiB, to a tenth.
pub(super) fn mib(bytes: u64) -> f64 {
    (bytes as f64 / (1024.0 * 1024.0) * 10.0).round() / 10.0
}

impl Figures {
    /// The table.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "in flight",
            "connections",
            "events/s",
            "ack p50",
            "ack p99",
            "device bytes per payload byte",
            "board RSS",
        ]);
        for point in &self.points {
            table.add_row([
                grouped(u64::from(point.in_flight)),
                point.connections.to_string(),
                grouped(point.events_per_s as u64),
                micros(point.ack_p50_us),
                micros(point.ack_p99_us),
                format!("{:.1}", point.device_bytes_per_payload_byte),
                format!("{:.1} MiB", point.rss_mib),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let Device { fdatasync_p50_us, fdatasync_p99_us } = self.device;
        format!(
            "{}\n\nthe disk itself: 4 KiB write and fdatasync, p50 {}, p99 {}\n\
             a board that does nothing: {:.1} MiB RSS, supervisor included\n",
            table.trim_fmt(),
            micros(fdatasync_p50_us),
            micros(fdatasync_p99_us),
            self.idle_rss_mib
        )
    }
}

fn micros(micros: u64) -> String {
    if micros < 10_000 {
        format!("{} us", grouped(micros))
    } else {
        format!("{:.1} ms", micros as f64 / 1000.0)
    }
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
    fn the_json_has_these_members() {
        let point = Point {
            in_flight: 1,
            events_per_s: 2.5,
            ack_p50_us: 3,
            ack_p99_us: 4,
            device_bytes_per_payload_byte: 5.5,
            rss_mib: 6.5,
            connections: 9,
        };
        let device = Device { fdatasync_p50_us: 7, fdatasync_p99_us: 8 };
        let figures = Figures { points: vec![point], device, idle_rss_mib: 10.5, rivals: Rivals {} };
        assert_eq!(
            serde_json::to_string(&figures).unwrap(),
            "{\"points\":[{\"in_flight\":1,\"events_per_s\":2.5,\"ack_p50_us\":3,\"ack_p99_us\":4,\
             \"device_bytes_per_payload_byte\":5.5,\"rss_mib\":6.5}],\
             \"device\":{\"fdatasync_p50_us\":7,\"fdatasync_p99_us\":8},\"idle_rss_mib\":10.5,\"rivals\":{}}"
        );
        assert!(figures.table().contains("fdatasync, p50 7 us, p99 8 us"));
    }
}

//! The journal as figures: a table for people, JSON for programs. Measures nothing.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::bench::figures::{Device, hundredth, median, micros, percentile};
use crate::demo::screen::grouped;

/// One measurement in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    events_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    device_bytes: f64,
}

impl Sample {
    /// Of commits of `batch` records that took so long, one after the other, in a time of `whole`.
    pub(super) fn of(mut took: Vec<Duration>, batch: u32, whole: Duration, device_bytes: f64) -> Self {
        took.sort_unstable();
        Self {
            events_per_s: (took.len() as f64) * f64::from(batch) / whole.as_secs_f64().max(f64::MIN_POSITIVE),
            p50_us: percentile(&took, 50),
            p99_us: percentile(&took, 99),
            device_bytes,
        }
    }
}

/// What all runs of one measurement say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// Records of a commit.
    pub(super) batch: u32,
    /// Records a second: the median of the runs.
    pub(super) events_per_s: f64,
    /// Time of a commit, half are faster: the median of the runs.
    pub(super) commit_p50_us: u64,
    /// 99 of 100 are faster: the median of the runs.
    pub(super) commit_p99_us: u64,
    /// Bytes that reached the block device for each byte of payload: the median of the runs.
    pub(super) device_bytes_per_payload_byte: f64,
    /// Records a second in the slowest run.
    pub(super) events_per_s_worst: f64,
    /// The longest 99th percentile of all runs.
    pub(super) commit_p99_us_worst: u64,
}

impl Point {
    /// Of `runs`, one or more.
    pub(super) fn of(batch: u32, runs: &[Sample]) -> Self {
        let middle = |figure: fn(&Sample) -> f64| median(runs.iter().map(figure));
        let slowest = runs.iter().map(|run| run.events_per_s).fold(f64::INFINITY, f64::min);
        Self {
            batch,
            events_per_s: middle(|run| run.events_per_s).round(),
            commit_p50_us: middle(|run| run.p50_us as f64) as u64,
            commit_p99_us: middle(|run| run.p99_us as f64) as u64,
            device_bytes_per_payload_byte: hundredth(middle(|run| run.device_bytes)),
            events_per_s_worst: slowest.round(),
            commit_p99_us_worst: runs.iter().map(|run| run.p99_us).max().unwrap_or(0),
        }
    }
}

/// A board that was started on a backlog.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Restart {
    /// Payload in the backlog.
    pub(super) backlog_gib: f64,
    /// From the start of the process to the acknowledgement of the first publish: the median of the starts.
    pub(super) ready_ms: f64,
    /// The longest.
    pub(super) ready_ms_worst: f64,
    /// Most memory in use from then on, supervisor included.
    pub(super) rss_mib: f64,
    /// How often it was started.
    pub(super) starts: usize,
}

/// Everything measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    /// One a number of records in a commit.
    pub(super) points: Vec<Point>,
    /// The disk below.
    pub(super) device: Device,
    /// Starts on backlogs, the shorter first.
    pub(super) restarts: Vec<Restart>,
    /// How often each commit was measured.
    pub(super) runs: u32,
}

impl Figures {
    /// The table.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "records a commit",
            "events/s",
            "worst",
            "commit p50",
            "commit p99",
            "worst",
            "device bytes per payload byte",
        ]);
        for point in &self.points {
            table.add_row([
                grouped(u64::from(point.batch)),
                grouped(point.events_per_s as u64),
                grouped(point.events_per_s_worst as u64),
                micros(point.commit_p50_us),
                micros(point.commit_p99_us),
                micros(point.commit_p99_us_worst),
                format!("{:.2}", point.device_bytes_per_payload_byte),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("{}\n\n{}\n", table.trim_fmt(), self.device.line());
        for restart in &self.restarts {
            let Restart { backlog_gib, ready_ms, ready_ms_worst, rss_mib, starts } = restart;
            text.push_str(&format!(
                "a board with a backlog of {backlog_gib} GiB: first publish acknowledged {ready_ms} ms after its start, \
                 {ready_ms_worst} ms at worst of {starts}; {rss_mib} MiB RSS\n"
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_by_their_records() {
        let took = (1..=100).map(Duration::from_micros).collect();
        let sample = Sample::of(took, 16, Duration::from_secs(2), 1.5);
        assert_eq!((sample.events_per_s, sample.p50_us, sample.p99_us), (800.0, 50, 99));
        let slower = Sample { events_per_s: 10.0, p99_us: 500, ..sample };
        let point = Point::of(16, &[sample, slower, sample]);
        assert_eq!((point.events_per_s, point.events_per_s_worst, point.commit_p99_us_worst), (800.0, 10.0, 500));
    }

    #[test]
    fn the_json_has_these_members() {
        let point = Point::of(1, &[Sample::default()]);
        let restart = Restart { backlog_gib: 1.0, ready_ms: 2.0, ready_ms_worst: 3.0, rss_mib: 4.0, starts: 5 };
        let device = Device { fdatasync_p50_us: 1, fdatasync_p99_us: 2 };
        let figures = Figures { points: vec![point], device, restarts: vec![restart], runs: 1 };
        let json = serde_json::to_value(&figures).unwrap();
        assert_eq!((&json["points"][0]["batch"], &json["restarts"][0]["ready_ms"]), (&1.into(), &2.0.into()));
        assert!(figures.table().contains("backlog of 1 GiB"));
    }
}

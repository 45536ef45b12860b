//! Ingest as figures: runs brought together, a table for people, JSON for programs. Measures nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::bench::figures::{Device, hundredth, median, mib, micros, percentile};
use crate::demo::screen::grouped;

/// One measurement in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) events_per_s: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    /// Per copy.
    pub(super) device_bytes: f64,
    /// Bytes.
    pub(super) resident: u64,
}

impl Sample {
    /// Of acknowledgements that took so long, in a time of `seconds`.
    pub(super) fn of(mut took: Vec<Duration>, seconds: u32, device_bytes: f64, resident: u64) -> Self {
        took.sort_unstable();
        Self {
            events_per_s: took.len() as f64 / f64::from(seconds),
            p50_us: percentile(&took, 50),
            p99_us: percentile(&took, 99),
            device_bytes,
            resident,
        }
    }
}

/// What all runs of one measurement say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// Publishes on their way at once.
    pub(super) in_flight: u32,
    /// Acknowledgements a second: the median of the runs.
    pub(super) events_per_s: f64,
    /// Time from a publish to its acknowledgement, half are faster: the median of the runs.
    pub(super) ack_p50_us: u64,
    /// 99 of 100 are faster: the median of the runs.
    pub(super) ack_p99_us: u64,
    /// Bytes that reached the block device for each byte of payload acknowledged, per copy: the median of the runs.
    pub(super) device_bytes_per_payload_byte: f64,
    /// Memory of the member that uses most, under this load: the most of all runs.
    pub(super) rss_mib: f64,
    /// Acknowledgements a second in the slowest run.
    pub(super) events_per_s_worst: f64,
    /// The longest 99th percentile of all runs.
    pub(super) ack_p99_us_worst: u64,
}

impl Point {
    /// Of `runs`, one or more.
    pub(super) fn of(in_flight: u32, runs: &[Sample]) -> Self {
        let middle = |figure: fn(&Sample) -> f64| median(runs.iter().map(figure));
        let slowest = runs.iter().map(|run| run.events_per_s).fold(f64::INFINITY, f64::min);
        Self {
            in_flight,
            events_per_s: middle(|run| run.events_per_s).round(),
            ack_p50_us: middle(|run| run.p50_us as f64) as u64,
            ack_p99_us: middle(|run| run.p99_us as f64) as u64,
            device_bytes_per_payload_byte: hundredth(middle(|run| run.device_bytes)),
            rss_mib: mib(runs.iter().map(|run| run.resident).max().unwrap_or(0)),
            events_per_s_worst: slowest.round(),
            ack_p99_us_worst: runs.iter().map(|run| run.p99_us).max().unwrap_or(0),
        }
    }
}

/// Somebody else, measured the same way in the same minutes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rival {
    /// As ours.
    pub(super) points: Vec<Point>,
    /// What it says that it is.
    pub(super) version: String,
    /// What was set.
    pub(super) setup: &'static str,
    /// Copies that it writes of each record.
    pub(super) copies: u32,
}

/// Everything measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    /// One a number of publishes in flight.
    pub(super) points: Vec<Point>,
    /// The disk below.
    pub(super) device: Device,
    /// Memory of a board that does nothing.
    pub(super) idle_rss_mib: f64,
    /// Copies of each record.
    pub(super) copies: u32,
    /// How often each measurement was made.
    pub(super) runs: u32,
    /// Others, by their names.
    pub(super) rivals: BTreeMap<&'static str, Rival>,
    /// Others that could not be measured, and why.
    pub(super) skipped: BTreeMap<&'static str, String>,
}

impl Figures {
    /// The table.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "",
            "in flight",
            "events/s",
            "worst",
            "ours is",
            "ack p50",
            "ack p99",
            "worst",
            "device bytes a copy",
            "most RSS",
        ]);
        for (at, ours) in self.points.iter().enumerate() {
            table.add_row(row("roadstead", ours, String::new()));
            for (name, rival) in &self.rivals {
                if let Some(theirs) = rival.points.get(at) {
                    let times = format!("{:.1}x", ours.events_per_s / theirs.events_per_s.max(f64::MIN_POSITIVE));
                    table.add_row(row(name, theirs, times));
                }
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("{}\n\n{}\n", table.trim_fmt(), self.device.line());
        text.push_str(&format!("a board that does nothing: {:.1} MiB RSS, supervisor included\n", self.idle_rss_mib));
        for (name, rival) in &self.rivals {
            text.push_str(&format!("{name}: {}: {}; {} copies\n", rival.version, rival.setup, rival.copies));
        }
        for (name, why) in &self.skipped {
            text.push_str(&format!("NOT MEASURED: {name}: {why}\n"));
        }
        text
    }
}

fn row(who: &str, point: &Point, times: String) -> [String; 10] {
    [
        who.to_owned(),
        grouped(u64::from(point.in_flight)),
        grouped(point.events_per_s as u64),
        grouped(point.events_per_s_worst as u64),
        times,
        micros(point.ack_p50_us),
        micros(point.ack_p99_us),
        micros(point.ack_p99_us_worst),
        format!("{:.2}", point.device_bytes_per_payload_byte),
        format!("{:.1} MiB", point.rss_mib),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(figure: u64) -> Sample {
        let device_bytes = figure as f64 / 10.0;
        Sample {
            events_per_s: figure as f64,
            p50_us: figure + 1,
            p99_us: figure + 2,
            device_bytes,
            resident: figure << 20,
        }
    }

    #[test]
    fn the_middle_run_speaks_and_the_worst_is_named() {
        let point = Point::of(64, &[sample(30), sample(10), sample(20)]);
        assert_eq!((point.events_per_s, point.ack_p50_us, point.ack_p99_us), (20.0, 21, 22));
        assert_eq!((point.events_per_s_worst, point.ack_p99_us_worst, point.rss_mib), (10.0, 32, 30.0));
        assert_eq!(point.device_bytes_per_payload_byte, 2.0);
    }

    #[test]
    fn a_second_of_acknowledgements_is_counted_by_the_second() {
        let took = (1..=200).map(Duration::from_micros).rev().collect();
        let sample = Sample::of(took, 4, 1.5, 7);
        assert_eq!((sample.events_per_s, sample.p50_us, sample.p99_us), (50.0, 100, 198));
    }

    #[test]
    fn the_json_has_these_members() {
        let point = Point::of(1, &[sample(10)]);
        let device = Device { fdatasync_p50_us: 7, fdatasync_p99_us: 8 };
        let rival = Rival { points: vec![point.clone()], version: "1".to_owned(), setup: "x", copies: 3 };
        let figures = Figures {
            points: vec![point],
            device,
            idle_rss_mib: 10.5,
            copies: 2,
            runs: 1,
            rivals: BTreeMap::from([("nats", rival)]),
            skipped: BTreeMap::from([("redis", "no".to_owned())]),
        };
        let json = serde_json::to_value(&figures).unwrap();
        for point in [&json["points"][0], &json["rivals"]["nats"]["points"][0]] {
            assert_eq!((&point["in_flight"], &point["events_per_s"]), (&1.into(), &10.0.into()));
            assert_eq!((&point["ack_p50_us"], &point["ack_p99_us"]), (&11.into(), &12.into()));
            assert_eq!((&point["device_bytes_per_payload_byte"], &point["rss_mib"]), (&1.0.into(), &10.0.into()));
        }
        assert_eq!(json["device"], serde_json::json!({ "fdatasync_p50_us": 7, "fdatasync_p99_us": 8 }));
        let table = figures.table();
        assert!(table.contains("1.0x") && table.contains("p50 7 us, p99 8 us") && table.contains("redis: no"));
    }
}

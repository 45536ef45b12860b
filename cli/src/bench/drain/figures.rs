//! What a drain comes to, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::line::Terms;
use super::readings::Readings;
use crate::bench::figures::{hundredth, median, percentile};
use crate::demo::screen::grouped;

/// One run of one subject.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// Whether everything arrived while it was watched.
    pub(super) is_whole: bool,
    /// From the link's return to the last record of the backlog, or as long as it was watched.
    pub(super) drain_s: f64,
    /// Bytes that the link let through towards the region, of those that it could have.
    pub(super) wire_share: f64,
    /// Bytes of payload that arrived, of the same.
    pub(super) goodput_share: f64,
    /// Records of the backlog that arrived, a second.
    pub(super) records_per_s: f64,
    /// From the link's return to the first record of the backlog.
    pub(super) first_record_s: Option<f64>,
    /// Acknowledged and not there in the end; `None` where not all was waited for.
    pub(super) lost: Option<u64>,
    /// There more than once, or never published.
    pub(super) duplicated: u64,
    /// Bytes let through towards the region for each record that arrived.
    pub(super) wire_bytes_per_record: f64,
    /// Packets towards the region that the link lost.
    pub(super) packets_lost: u64,
    /// Packets towards the region that found the queue full.
    pub(super) packets_dropped: u64,
    /// From the publish of each event while the backlog drained to its being in the store.
    pub(super) event: Vec<Duration>,
    /// The same of alarms.
    pub(super) alarm: Vec<Duration>,
}

/// Least and greatest of the runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64> + Clone) -> Self {
        Self {
            least: thousandth(values.clone().into_iter().fold(f64::INFINITY, f64::min)),
            most: thousandth(values.into_iter().fold(f64::NEG_INFINITY, f64::max)),
        }
    }
}

/// Medians over the runs of one subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    wire_share: f64,
    goodput_share: f64,
    records_per_s: f64,
    /// `null` where in half of the runs nothing came.
    first_record_s: Option<f64>,
    drain_s: f64,
    /// All runs together; `null` where a run was not waited for to its end.
    lost: Option<u64>,
    duplicated: u64,
    wire_bytes_per_record: f64,
    packets_lost: u64,
    packets_dropped: u64,
    /// Runs, and of these such in which the whole backlog arrived while it was watched.
    runs: usize,
    whole: usize,
    spread: BTreeMap<&'static str, Spread>,
}

impl Point {
    /// From at least one run.
    pub(super) fn of(samples: &[Sample]) -> Self {
        let all = |figure: fn(&Sample) -> f64| samples.iter().map(figure);
        let never = |sample: &Sample| sample.first_record_s.unwrap_or(f64::INFINITY);
        let first = median(samples.iter().map(never));
        let spread = BTreeMap::from([
            ("wire_share", Spread::of(all(|sample| sample.wire_share))),
            ("records_per_s", Spread::of(all(|sample| sample.records_per_s))),
            ("first_record_s", Spread::of(samples.iter().filter_map(|sample| sample.first_record_s))),
        ]);
        Self {
            wire_share: thousandth(median(all(|sample| sample.wire_share))),
            goodput_share: thousandth(median(all(|sample| sample.goodput_share))),
            records_per_s: median(all(|sample| sample.records_per_s)).round(),
            first_record_s: first.is_finite().then(|| thousandth(first)),
            drain_s: hundredth(median(all(|sample| sample.drain_s))),
            lost: samples.iter().map(|sample| sample.lost).sum(),
            duplicated: samples.iter().map(|sample| sample.duplicated).sum(),
            wire_bytes_per_record: median(all(|sample| sample.wire_bytes_per_record)).round(),
            packets_lost: samples.iter().map(|sample| sample.packets_lost).sum(),
            packets_dropped: samples.iter().map(|sample| sample.packets_dropped).sum(),
            runs: samples.len(),
            whole: samples.iter().filter(|sample| sample.is_whole).count(),
            spread,
        }
    }

    /// Whether anything is lost or there twice.
    pub(super) const fn is_amiss(&self) -> bool {
        self.duplicated > 0 || matches!(self.lost, Some(1..))
    }

    fn row(&self, name: &str) -> String {
        let first = self.first_record_s.map_or("-".to_owned(), |first| format!("{first:.2} s"));
        let lost = self.lost.map_or("-".to_owned(), grouped);
        format!(
            "{name:16} {:>8.3} {:>8.3} {:>12} {first:>10} {:>9.1} {lost:>6} {:>6}\n",
            self.wire_share,
            self.goodput_share,
            grouped(self.records_per_s as u64),
            self.drain_s,
            grouped(self.duplicated)
        )
    }
}

/// How late records are that are published while the backlog drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Latency {
    p50_ms: u64,
    p99_ms: u64,
    worst_ms: u64,
    records: usize,
}

impl Latency {
    /// Of all runs together.
    pub(super) fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |percent| percentile(&took, percent).div_ceil(1000);
        Self { p50_ms: at(50), p99_ms: at(99), worst_ms: at(100), records: took.len() }
    }
}

/// Somebody measured beside us.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rival {
    #[serde(flatten)]
    pub(super) point: Point,
    /// Our records a second by theirs, medians; `null` where nothing of theirs arrived.
    pub(super) we_are_times: Option<f64>,
    pub(super) version: String,
    pub(super) setup: &'static str,
}

/// The figures of a benchmark.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    #[serde(flatten)]
    pub(super) point: Point,
    /// `event` and `alarm`.
    pub(super) live: BTreeMap<&'static str, Latency>,
    pub(super) records: u64,
    pub(super) payload_bytes: usize,
    pub(super) rate_mbit: f64,
    pub(super) rtt_ms: u64,
    pub(super) queue_ms: u64,
    pub(super) loss: f64,
    pub(super) rivals: BTreeMap<&'static str, Rival>,
    /// What was asked for and could not be measured, and why.
    pub(super) notes: BTreeMap<&'static str, String>,
}

impl Figures {
    /// Of ours alone; `rtt` is the link's own.
    pub(super) fn of(samples: &[Sample], records: u64, terms: Terms) -> Self {
        let all = |figure: fn(&Sample) -> &Vec<Duration>| samples.iter().flat_map(figure).copied().collect();
        Self {
            point: Point::of(samples),
            live: BTreeMap::from([
                ("event", Latency::of(all(|sample| &sample.event))),
                ("alarm", Latency::of(all(|sample| &sample.alarm))),
            ]),
            records,
            payload_bytes: Readings::length(),
            rate_mbit: terms.rate_bps as f64 / 1e6,
            rtt_ms: 2 * u64::try_from(terms.delay.as_millis()).unwrap_or(0),
            queue_ms: u64::try_from(terms.queue.as_millis()).unwrap_or(0),
            loss: f64::from(terms.loss_ppm) / 1e6,
            rivals: BTreeMap::new(),
            notes: BTreeMap::new(),
        }
    }

    /// Adds `samples` of somebody else.
    pub(super) fn add(&mut self, name: &'static str, samples: &[Sample], version: &str, setup: &'static str) {
        let point = Point::of(samples);
        let has_come = point.records_per_s > 0.0;
        let we_are_times = has_come.then(|| hundredth(self.point.records_per_s / point.records_per_s));
        let version = version.to_owned();
        self.rivals.insert(name, Rival { point, we_are_times, version, setup });
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{} records of {} bytes; {} Mbit/s, {} ms round trip, {} % lost, each way; medians of {} runs\n\n",
            grouped(self.records),
            self.payload_bytes,
            self.rate_mbit,
            self.rtt_ms,
            self.loss * 100.0,
            self.point.runs
        );
        text += "                     wire  payload    records/s      first     drain   lost  twice\n";
        text += &self.point.row("roadstead");
        for (name, rival) in &self.rivals {
            text += &rival.point.row(name);
        }
        text += "\npublished meanwhile, until it is in the region's store:\n";
        for (name, latency) in &self.live {
            text += &format!(
                "  {name}: p50 {} ms, p99 {} ms, worst {} ms of {}\n",
                latency.p50_ms, latency.p99_ms, latency.worst_ms, latency.records
            );
        }
        for (name, rival) in &self.rivals {
            text += &match rival.we_are_times {
                Some(times) => format!("{times:.1} times the records of {name}\n"),
                None => format!("{name}: nothing arrived while it was watched\n"),
            };
        }
        for (name, why) in &self.notes {
            text += &format!("NOTE: {name}: {why}\n");
        }
        text
    }
}

/// To a thousandth.
fn thousandth(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(wire_share: f64, records_per_s: f64) -> Sample {
        let took = |ms| vec![Duration::from_millis(ms); 2];
        Sample {
            is_whole: true,
            drain_s: 10.0,
            wire_share,
            records_per_s,
            first_record_s: Some(0.2),
            lost: Some(0),
            event: took(70),
            alarm: took(50),
            ..Sample::default()
        }
    }

    const TERMS: Terms = Terms {
        rate_bps: 20_000_000,
        delay: Duration::from_millis(40),
        queue: Duration::from_millis(100),
        loss_ppm: 10_000,
    };

    #[test]
    fn the_figures_say_what_others_read() {
        let mut figures = Figures::of(&[sample(0.9, 900.0), sample(0.95, 1000.0), sample(0.93, 950.0)], 100, TERMS);
        let never = Sample { first_record_s: None, lost: None, is_whole: false, ..sample(0.1, 0.0) };
        figures.add("mosquitto", &[never], "2", "a bridge");
        figures.notes.insert("nats", "no".to_owned());
        let json = serde_json::to_value(&figures).unwrap();
        assert_eq!(
            (&json["wire_share"], &json["records_per_s"], &json["first_record_s"]),
            (&0.93.into(), &950.0.into(), &0.2.into())
        );
        assert_eq!((&json["lost"], &json["duplicated"], &json["loss"]), (&0.into(), &0.into(), &0.01.into()));
        assert_eq!(json["spread"]["wire_share"], serde_json::json!({ "least": 0.9, "most": 0.95 }));
        assert_eq!((&json["live"]["alarm"]["p99_ms"], &json["live"]["event"]["records"]), (&50.into(), &6.into()));
        let rival = &json["rivals"]["mosquitto"];
        assert!(rival["first_record_s"].is_null() && rival["lost"].is_null());
        assert!(rival["we_are_times"].is_null());
        figures.add("mosquitto", &[sample(0.1, 95.0)], "2", "a bridge");
        assert_eq!(serde_json::to_value(&figures).unwrap()["rivals"]["mosquitto"]["we_are_times"], 10.0);
        let table = figures.table();
        assert!(table.contains("0.930") && table.contains("NOTE: nats: no"), "{table}");
    }

    #[test]
    fn a_loss_in_any_run_is_amiss() {
        let lossy = Sample { lost: Some(1), ..sample(0.9, 1.0) };
        assert!(Point::of(&[sample(0.9, 1.0), lossy]).is_amiss());
        assert!(!Point::of(&[sample(0.9, 1.0)]).is_amiss());
        assert!(Point::of(&[Sample { duplicated: 1, ..sample(0.9, 1.0) }]).is_amiss());
    }
}

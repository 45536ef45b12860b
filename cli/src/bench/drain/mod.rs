//! `roadstead bench drain`: whether a backlog goes home at the link's rate once it is back, and what others make of the same
//! link.

mod course;
mod figures;
mod line;
mod ours;
mod packet;
pub(super) mod paths;
pub(super) mod publish;
mod readings;
mod rivals;
mod subject;
mod tally;
mod wan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::arguments::{Drain, DrainAgainst};
use super::failover::namespace;
use super::figures::write_json;
use super::leftovers;
use crate::failure::Failure;
use course::Course;
use figures::{Figures, Point, Sample};
use line::Terms;
use rivals::Name;

/// What waits for the wire at most.
const QUEUE: Duration = Duration::from_millis(100);

/// A benchmark in progress, and what has been found so far.
#[derive(Default)]
struct Found {
    ours: Vec<Sample>,
    theirs: BTreeMap<Name, Vec<Sample>>,
    notes: BTreeMap<Name, String>,
}

impl Found {
    fn note(&mut self, name: Name, why: &str) {
        eprintln!("NOTE: {}: {why}", name.as_str());
        self.notes.insert(name, why.to_owned());
    }
}

/// Runs the benchmark.
pub(super) async fn measure(asked: &Drain) -> Result<ExitCode, Failure> {
    leftovers::remove_on_panic();
    if let Some(why) = namespace::lacking() {
        let what = format!("a link cannot be emulated: that needs network namespaces, and {why}");
        return Err(Failure::new(what).remedy("run it as root"));
    }
    let mut found = Found::default();
    let versions = install(asked, &mut found);
    let below: PathBuf = asked.dir.clone().unwrap_or_else(std::env::temp_dir);
    let terms = terms(asked);
    let rival_max = Duration::from_secs(u64::from(asked.rival_seconds));
    let course = Course { terms, records: asked.records, rival_max, below: &below };
    for run in 0..asked.runs {
        eprintln!("run {} of {}", run + 1, asked.runs);
        let seed = asked.seed.wrapping_add(u64::from(run));
        let sample = course.run(None, seed).await?;
        eprintln!("  roadstead: {}", told(&sample));
        found.ours.push(sample);
        for name in versions.keys() {
            // One that has failed in an earlier run is not tried again.
            if found.notes.contains_key(name) {
                continue;
            }
            match course.run(Some(*name), seed).await {
                Ok(sample) => {
                    eprintln!("  {}: {}", name.as_str(), told(&sample));
                    found.theirs.entry(*name).or_default().push(sample);
                }
                Err(failure) => found.note(*name, &failure.to_string()),
            }
        }
    }
    finish(asked, &found, &versions)
}

/// Finds or installs the rivals asked for; their versions.
fn install(asked: &Drain, found: &mut Found) -> BTreeMap<Name, String> {
    let names: BTreeSet<Name> = asked.against.iter().copied().map(named).collect();
    let mut versions = BTreeMap::new();
    for name in names {
        if let Some(why) = wan::lacks(name.congestion()) {
            found.note(name, &why);
            continue;
        }
        match name.install() {
            Ok(version) => drop(versions.insert(name, version)),
            Err(failure) => found.note(name, &failure.to_string()),
        }
    }
    versions
}

const fn named(against: DrainAgainst) -> Name {
    match against {
        DrainAgainst::Mosquitto => Name::Mosquitto,
        DrainAgainst::MosquittoBbr => Name::MosquittoBbr,
        DrainAgainst::Nats => Name::Nats,
        DrainAgainst::NatsBbr => Name::NatsBbr,
    }
}

fn terms(asked: &Drain) -> Terms {
    Terms {
        rate_bps: (asked.rate_mbit * 1e6) as u64,
        delay: Duration::from_micros(u64::from(asked.rtt_ms) * 500),
        queue: QUEUE,
        loss_ppm: (asked.loss * line::MILLION as f64).round() as u32,
    }
}

/// Writes the figures. A record lost or there twice is a failure of ours; what a rival does is its figure.
fn finish(asked: &Drain, found: &Found, versions: &BTreeMap<Name, String>) -> Result<ExitCode, Failure> {
    let mut figures = Figures::of(&found.ours, asked.records, terms(asked));
    for (name, samples) in &found.theirs {
        let version = versions.get(name).map_or("", String::as_str);
        figures.add(name.as_str(), samples, version, name.setup());
    }
    figures.notes = found.notes.iter().map(|(name, why)| (name.as_str(), why.clone())).collect();
    if let Some(path) = &asked.json {
        write_json(path, &figures)?;
    }
    crate::say(&figures.table())?;
    if Point::of(&found.ours).is_amiss() {
        return Err(Failure::new("acknowledged records are lost, or in the region's store twice"));
    }
    Ok(ExitCode::SUCCESS)
}

fn told(sample: &Sample) -> String {
    let first = sample
        .first_record_s
        .map_or("none came".to_owned(), |first| format!("first after {first:.2} s"));
    format!(
        "wire {:.3}, {:.0} records/s, {first}, {:.1} s",
        sample.wire_share, sample.records_per_s, sample.drain_s
    )
}

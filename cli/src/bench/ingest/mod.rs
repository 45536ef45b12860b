//! `roadstead bench ingest`: how fast a site takes records in, and others beside it.
//!
//! ```text
//! run 1:  a site: 1, 64, 1024 in flight │ a rival: 1, 64, 1024 │ the next rival ...
//! run 2:  the same again                      the disk is probed before each of them
//! ```
//!
//! A site has boards without an uplink, so that the way to the acknowledgement is measured and nothing beside it.

pub(super) mod client;
pub(super) mod dialects;
mod figures;
pub(super) mod rivals;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, io};

use shared::config::JournalConfig;
use tokio::task::JoinSet;

use super::arguments::{Ingest, IngestAgainst};
use super::device::{self, Meter};
use super::figures::{Device, mib, write_json};
use super::waits::until;
use super::{leftovers, usage};
use crate::demo::site::{Home, Site, ask};
use crate::failure::Failure;
use client::{Load, Seen, publish};
use dialects::{amqp::Amqp, mqtt::Mqtt, nats::Nats, redis::Redis};
use figures::{Figures, Point, Rival, Sample};
use rivals::{Cluster, Name};

/// Connections that publishes are spread over at most: more than a few only cost the clients.
const CONNECTIONS_MAX: u32 = 8;
/// Publishes on their way over one connection before a second one is opened.
const IN_FLIGHT_EACH: u32 = 16;
/// Publishes before a measurement counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// A site that has a leader is given so long to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(1);
/// 32 files of 8 MiB on each board, one each 250 ms; a slow card writes them with 20 MB a second.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// Between two looks at the memory in use.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Boards that keep each record of a site.
const COPIES: u32 = 2;

/// What publishers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Talk {
    Mqtt,
    Nats,
    Redis,
    Amqp,
}

impl Talk {
    fn spawn(self, load: Load, publishing: &mut JoinSet<io::Result<Seen>>) {
        let (number, payload) = (load.number, load.payload);
        match self {
            Self::Mqtt => publishing.spawn(publish(load, Mqtt::new(number, payload))),
            Self::Nats => publishing.spawn(publish(load, Nats::new(number, payload))),
            Self::Redis => publishing.spawn(publish(load, Redis::new(payload))),
            Self::Amqp => publishing.spawn(publish(load, Amqp::new(payload))),
        };
    }
}

/// Somebody who takes records in.
enum Subject {
    Site(Box<Site>),
    Rival(Name, Cluster),
}

impl Subject {
    fn talk(&self) -> Talk {
        match self {
            Self::Site(_) => Talk::Mqtt,
            Self::Rival(name, _) => name.talk(),
        }
    }

    fn copies(&self) -> u32 {
        match self {
            Self::Site(_) => COPIES,
            Self::Rival(name, _) => name.copies(),
        }
    }

    /// Where connection `number` goes.
    fn server(&self, number: usize, is_spread: bool) -> SocketAddr {
        match self {
            Self::Site(site) if is_spread => site.plan().boards[number % site.count()].mqtt,
            Self::Site(site) => site.plan().boards[0].mqtt,
            Self::Rival(_, cluster) => cluster.server(),
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        match self {
            Self::Site(site) => site.check(),
            Self::Rival(_, cluster) => cluster.check(),
        }
    }

    /// The processes of each board or server.
    fn parties(&self) -> Vec<Vec<u32>> {
        match self {
            Self::Site(site) => usage::members(&site.groups()),
            Self::Rival(_, cluster) => cluster.parties(),
        }
    }

    /// Bytes of pages made dirty, where the device does not count.
    fn dirtied(&self) -> u64 {
        match self {
            Self::Site(site) => usage::of(&site.groups()).iter().map(|usage| usage.written).sum(),
            Self::Rival(_, cluster) => cluster.dirtied(),
        }
    }
}

/// A measurement in progress, and what has been found so far.
struct Bench<'a> {
    asked: &'a Ingest,
    below: PathBuf,
    meter: Meter,
    syncs: Vec<Duration>,
    idle: u64,
    ours: BTreeMap<u32, Vec<Sample>>,
    theirs: BTreeMap<(Name, u32), Vec<Sample>>,
    skipped: BTreeMap<Name, String>,
}

/// Runs the benchmark.
pub(super) async fn measure(asked: &Ingest) -> Result<ExitCode, Failure> {
    leftovers::remove_on_panic();
    let below = asked.dir.clone().unwrap_or_else(std::env::temp_dir);
    if device::is_in_memory(&below) {
        eprintln!("{} is in memory: syncing costs nothing there. Give a disk with --dir.", below.display());
    }
    let cannot = |error| Failure::new(format!("cannot look into {}", below.display())).because(error);
    let meter = Meter::new(&below).map_err(cannot)?;
    let mut bench = Bench {
        asked,
        meter,
        below,
        syncs: Vec::new(),
        idle: 0,
        ours: BTreeMap::new(),
        theirs: BTreeMap::new(),
        skipped: BTreeMap::new(),
    };
    let versions = bench.install();
    let target = if asked.spread { "all boards" } else { "board 1" };
    eprintln!(
        "{} boards, each record synced on {COPIES} of them, no uplink; {} bytes of payload, QoS 1, to {target}",
        asked.boards, asked.payload
    );
    for run in 1..=asked.runs {
        eprintln!("run {run} of {}", asked.runs);
        bench.run(&versions).await?;
    }
    bench.probe()?;
    let figures = bench.figures(&versions);
    if let Some(path) = &asked.json {
        write_json(path, &figures)?;
    }
    crate::say(&figures.table())?;
    // What was asked for and could not be measured is no success.
    Ok(if bench.skipped.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Waits until the boards have written the first files of their journals ahead, as they have for the rest of their lives.
async fn settle(site: &Site) -> Result<(), Failure> {
    let journal = JournalConfig::default();
    let is_whole = |file: &fs::DirEntry| {
        let length = file.metadata().map(|about| about.len()).unwrap_or_default();
        length == u64::from(journal.segment_bytes)
    };
    let files = |dir: &PathBuf| {
        fs::read_dir(dir)
            .map(|files| files.flatten().filter(is_whole).count())
            .unwrap_or_default()
    };
    let dirs = site.board_data();
    let settled = || {
        dirs.iter()
            .all(|dir| files(dir) >= journal.written_ahead as usize)
            .then_some(())
    };
    match until(SETTLED_WITHIN, settled).await {
        Some(()) => Ok(()),
        None => Err(Failure::new(
            "the boards have not written their first files ahead in time: this disk is too slow for a figure",
        )),
    }
}

const fn named(against: IngestAgainst) -> Name {
    match against {
        IngestAgainst::Nats => Name::Nats,
        IngestAgainst::NatsDefault => Name::NatsDefault,
        IngestAgainst::Redis => Name::Redis,
        IngestAgainst::RabbitMq => Name::RabbitMq,
        IngestAgainst::Mosquitto => Name::Mosquitto,
    }
}

impl Bench<'_> {
    /// Finds or installs the rivals asked for; their versions.
    fn install(&mut self) -> BTreeMap<Name, String> {
        let names: BTreeSet<Name> = self.asked.against.iter().copied().map(named).collect();
        let mut versions = BTreeMap::new();
        for name in names {
            match name.install() {
                Ok(version) => drop(versions.insert(name, version)),
                Err(failure) => self.skip(name, &failure),
            }
        }
        versions
    }

    fn skip(&mut self, name: Name, failure: &Failure) {
        eprintln!("SKIPPED: {}: {failure}", name.as_str());
        self.skipped.insert(name, failure.to_string());
    }

    /// Everyone once, one after the other.
    async fn run(&mut self, versions: &BTreeMap<Name, String>) -> Result<(), Failure> {
        for in_flight in self.asked.in_flight.clone() {
            self.probe()?;
            let sample = self.site(in_flight).await?;
            eprintln!("  roadstead, {in_flight} in flight: {}", told(&sample));
            self.ours.entry(in_flight).or_default().push(sample);
        }
        for name in versions.keys() {
            // One that has failed in an earlier run is not tried again.
            if !self.skipped.contains_key(name)
                && let Err(failure) = self.rival(*name).await
            {
                self.skip(*name, &failure);
            }
        }
        Ok(())
    }

    fn probe(&mut self) -> Result<(), Failure> {
        let home = Home::temporary_in(&self.below, "bench")?;
        let probed = device::probe(home.path());
        let cannot =
            |error| Failure::new(format!("cannot measure the disk in {}", self.below.display())).because(error);
        self.syncs.extend(probed.map_err(cannot)?);
        Ok(())
    }

    /// A site of its own for each measurement: its boards keep every record.
    async fn site(&mut self, in_flight: u32) -> Result<Sample, Failure> {
        let home = Home::temporary_in(&self.below, "bench")?;
        let mut site = Site::make(home, self.asked.boards, false)?;
        if self.asked.encrypt {
            site.encrypt()?;
        }
        site.start_all()?;
        site.ready().await?;
        tokio::time::sleep(REST).await;
        settle(&site).await?;
        if self.idle == 0 {
            self.idle = usage::most_resident(&usage::members(&site.groups()));
        }
        let mut subject = Subject::Site(Box::new(site));
        let sample = self.point(&mut subject, in_flight).await?;
        if let Subject::Site(mut site) = subject {
            refuse_full(&site).await?;
            site.stop_all();
        }
        Ok(sample)
    }

    async fn rival(&mut self, name: Name) -> Result<(), Failure> {
        self.probe()?;
        let cluster = Cluster::start(name, &self.below).await?;
        let mut subject = Subject::Rival(name, cluster);
        tokio::time::sleep(REST).await;
        for in_flight in self.asked.in_flight.clone() {
            let sample = self.point(&mut subject, in_flight).await?;
            eprintln!("  {}, {in_flight} in flight: {}", name.as_str(), told(&sample));
            self.theirs.entry((name, in_flight)).or_default().push(sample);
        }
        Ok(())
    }

    async fn point(&self, subject: &mut Subject, in_flight: u32) -> Result<Sample, Failure> {
        let asked = self.asked;
        let before = self.written(subject)?;
        // Once: the search would take a core from what is measured, several times a second.
        let parties = subject.parties();
        let from = Instant::now() + WARM_UP;
        let until = from + Duration::from_secs(u64::from(asked.seconds));
        let mut publishing = self.publishers(subject, in_flight, (from, until));
        let mut resident = 0;
        let mut seen = Seen::default();
        // The last acknowledgements may come long after the time is up.
        while !publishing.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let look = tokio::time::timeout(left.clamp(Duration::from_millis(1), LOOK_EVERY), publishing.join_next());
            match look.await {
                Ok(None) => break,
                Ok(Some(ended)) => {
                    let one = ended.map_err(io::Error::other).flatten().map_err(|error| {
                        let died = subject.check().err();
                        died.unwrap_or_else(|| Failure::new("a client failed").because(error))
                    })?;
                    seen.acknowledged += one.acknowledged;
                    seen.took.extend(one.took);
                }
                Err(_) => {
                    resident = resident.max(usage::most_resident(&parties));
                    subject.check()?;
                }
            }
        }
        resident = resident.max(usage::most_resident(&subject.parties()));
        let written = self.written(subject)? - before;
        let payload = seen.acknowledged as f64 * f64::from(asked.payload) * f64::from(subject.copies());
        let device_bytes = written as f64 / payload.max(1.0);
        Ok(Sample::of(seen.took, asked.seconds, device_bytes, resident))
    }

    fn publishers(
        &self,
        subject: &Subject,
        in_flight: u32,
        (from, until): (Instant, Instant),
    ) -> JoinSet<io::Result<Seen>> {
        let connections = in_flight.div_ceil(IN_FLIGHT_EACH).min(CONNECTIONS_MAX);
        let mut publishing = JoinSet::new();
        for number in 0..connections {
            let share = in_flight / connections + u32::from(number < in_flight % connections);
            let load = Load {
                server: subject.server(number as usize, self.asked.spread),
                number: number as usize,
                in_flight: u16::try_from(share).unwrap_or(u16::MAX - 1),
                payload: self.asked.payload as usize,
                from,
                until,
            };
            subject.talk().spawn(load, &mut publishing);
        }
        publishing
    }

    fn written(&self, subject: &Subject) -> Result<u64, Failure> {
        let counted = self.meter.written();
        let counted = counted.map_err(|error| Failure::new("the device's bytes cannot be counted").because(error))?;
        Ok(counted.unwrap_or_else(|| subject.dirtied()))
    }

    fn figures(&self, versions: &BTreeMap<Name, String>) -> Figures {
        let in_flight = &self.asked.in_flight;
        let point = |in_flight: u32, runs: Option<&Vec<Sample>>| Some(Point::of(in_flight, runs?));
        let rivals = versions.iter().map(|(name, version)| {
            let rival = Rival {
                points: in_flight
                    .iter()
                    .filter_map(|at| point(*at, self.theirs.get(&(*name, *at))))
                    .collect(),
                version: version.clone(),
                setup: name.setup(),
                copies: name.copies(),
            };
            (name.as_str(), rival)
        });
        Figures {
            points: in_flight.iter().filter_map(|at| point(*at, self.ours.get(at))).collect(),
            device: Device::of(self.syncs.clone()),
            idle_rss_mib: mib(self.idle),
            copies: COPIES,
            runs: self.asked.runs,
            rivals: rivals.filter(|(_, rival)| !rival.points.is_empty()).collect(),
            skipped: self.skipped.iter().map(|(name, why)| (name.as_str(), why.clone())).collect(),
        }
    }
}

fn told(sample: &Sample) -> String {
    format!(
        "{:.0} events/s, p99 {} us, {:.2} device bytes",
        sample.events_per_s, sample.p99_us, sample.device_bytes
    )
}

/// A board without an uplink keeps every record: once its journal is full it sheds the oldest, and figures mean nothing.
async fn refuse_full(site: &Site) -> Result<(), Failure> {
    for board in &site.plan().boards {
        let status = ask(board.http).await;
        if status.is_some_and(|status| status.shed.event + status.shed.bulk > 0) {
            let what = format!("the journal of {} is full before the time is up", board.board);
            return Err(
                Failure::new(what).remedy("without an uplink every record is kept: lower --seconds or --payload")
            );
        }
    }
    Ok(())
}

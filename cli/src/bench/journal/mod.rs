//! `roadstead bench journal`: how fast the journal alone is on a disk, how soon a board is ready on what an earlier life
//! left, and how much memory a long backlog takes.

mod figures;
mod solo;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use shared::config::JournalConfig;
use shared::limits::SEGMENT_BYTES;

use super::arguments::Journal;
use super::device::{self, Meter};
use super::figures::{Device, median, mib, write_json};
use super::ingest::dialects::mqtt::publish_one;
use super::{leftovers, usage};
use crate::demo::site::{Home, Site};
use crate::failure::Failure;
use figures::{Figures, Point, Restart, Sample};
use solo::{Readings, Solo};

/// Commits before they count.
const WARM_UP: Duration = Duration::from_millis(500);
/// Payload of the backlog on which a board is started, and for which there is a bound.
const BACKLOG_GIB: f64 = 1.0;
/// Records of a commit while a backlog is made: as many as fit a run, so that it is soon there.
const BACKLOG_BATCH: u32 = 1024;
/// Disk that a byte of payload in a backlog takes at most, and what is left free beside it.
const ROOM_A_BYTE: f64 = 1.5;
const LEFT_FREE: f64 = 2.0;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// Files that a backlog may fill: as many as a configuration allows.
const SEGMENTS: u32 = 65_536;
/// A board that does not take a publish by then hangs.
const READY_MAX: Duration = Duration::from_secs(120);
/// Between two tries to publish to a board that starts.
const TRY_EVERY: Duration = Duration::from_millis(2);
/// A ready board's memory is watched for so long.
const WATCH: Duration = Duration::from_secs(3);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs the benchmark.
pub(super) async fn measure(asked: &Journal) -> Result<ExitCode, Failure> {
    leftovers::remove_on_panic();
    let below = asked.dir.clone().unwrap_or_else(std::env::temp_dir);
    if device::is_in_memory(&below) {
        eprintln!("{} is in memory: syncing costs nothing there. Give a disk with --dir.", below.display());
    }
    let cannot = |error| Failure::new(format!("cannot look into {}", below.display())).because(error);
    let bench = Bench { asked, meter: Meter::new(&below).map_err(cannot)?, below: below.clone() };
    let mut samples: BTreeMap<u32, Vec<Sample>> = BTreeMap::new();
    let mut syncs = Vec::new();
    for run in 1..=asked.runs {
        eprintln!("run {run} of {}", asked.runs);
        for batch in &asked.batch {
            syncs.extend(bench.probe()?);
            samples.entry(*batch).or_default().push(bench.commits(*batch).await?);
        }
    }
    let restarts = if asked.commits_only { Vec::new() } else { bench.restarts().await? };
    let points = asked
        .batch
        .iter()
        .filter_map(|batch| Some(Point::of(*batch, samples.get(batch)?)));
    let figures = Figures { points: points.collect(), device: Device::of(syncs), restarts, runs: asked.runs };
    if let Some(path) = &asked.json {
        write_json(path, &figures)?;
    }
    crate::say(&figures.table())?;
    Ok(ExitCode::SUCCESS)
}

struct Bench<'a> {
    asked: &'a Journal,
    below: PathBuf,
    meter: Meter,
}

impl Bench<'_> {
    fn probe(&self) -> Result<Vec<Duration>, Failure> {
        let home = Home::temporary_in(&self.below, "bench")?;
        let cannot =
            |error| Failure::new(format!("cannot measure the disk in {}", self.below.display())).because(error);
        device::probe(home.path()).map_err(cannot)
    }

    /// The files of a site of one board, whose journal may grow without a bound that matters here.
    fn site(&self) -> Result<Site, Failure> {
        let home = Home::temporary_in(&self.below, "bench")?;
        let journal = JournalConfig::sized(SEGMENT_BYTES, SEGMENTS);
        Site::make_with_journal(home, 1, journal)
    }

    /// Commits of `batch` records, one after the other.
    async fn commits(&self, batch: u32) -> Result<Sample, Failure> {
        let site = self.site()?;
        let mut solo = Solo::open(site.config(0))?;
        let mut readings = Readings::new(self.asked.payload as usize);
        let begun = Instant::now();
        while begun.elapsed() < WARM_UP {
            solo.commit(readings.next(batch)).await?;
        }
        let before = self.written()?;
        let seconds = Duration::from_secs(u64::from(self.asked.seconds));
        let mut took = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < seconds {
            let records = readings.next(batch);
            let commit = Instant::now();
            solo.commit(records).await?;
            took.push(commit.elapsed());
        }
        let whole = begun.elapsed();
        let payload = took.len() as f64 * f64::from(batch) * f64::from(self.asked.payload);
        let device_bytes = match (before, self.written()?) {
            (Some(before), Some(after)) => (after - before) as f64 / payload,
            _ => 0.0,
        };
        Ok(Sample::of(took, batch, whole, device_bytes))
    }

    fn written(&self) -> Result<Option<u64>, Failure> {
        let counted = self.meter.written();
        counted.map_err(|error| Failure::new("the device's bytes cannot be counted").because(error))
    }

    /// A board on a backlog of 1 GiB, and on the longer one that is asked for, as far as the disk has room.
    async fn restarts(&self) -> Result<Vec<Restart>, Failure> {
        let mut site = self.site()?;
        let mut wanted = vec![BACKLOG_GIB.min(self.room()?)];
        let longer = f64::from(self.asked.backlog_gib).min(self.room()?);
        if longer < f64::from(self.asked.backlog_gib) {
            eprintln!("the disk has room for a backlog of {longer:.1} GiB only");
        }
        wanted.extend((longer > BACKLOG_GIB).then_some(longer));
        let mut restarts = Vec::new();
        let mut readings = Readings::new(self.asked.payload as usize);
        let mut made = 0.0;
        for backlog in wanted {
            eprintln!("a backlog of {backlog:.1} GiB");
            self.fill(site.config(0), &mut readings, (made, backlog)).await?;
            made = backlog;
            restarts.push(self.restart(&mut site, backlog).await?);
        }
        Ok(restarts)
    }

    /// Payload for which the disk has room, in GiB.
    fn room(&self) -> Result<f64, Failure> {
        let cannot = |errno: rustix::io::Errno| {
            Failure::new(format!("cannot look into {}", self.below.display())).because(std::io::Error::from(errno))
        };
        let about = rustix::fs::statvfs(&self.below).map_err(cannot)?;
        let free = about.f_bavail as f64 * about.f_frsize as f64 / GIB;
        Ok(((free - LEFT_FREE) / ROOM_A_BYTE).max(0.0))
    }

    /// Commits records until the board of `config` has `to` GiB of payload, where it has `from`.
    async fn fill(&self, config: &Path, readings: &mut Readings, (from, to): (f64, f64)) -> Result<(), Failure> {
        let mut solo = Solo::open(config)?;
        let mut left = (to - from) * GIB;
        while left > 0.0 {
            solo.commit(readings.next(BACKLOG_BATCH)).await?;
            left -= f64::from(BACKLOG_BATCH) * f64::from(self.asked.payload);
        }
        Ok(())
    }

    /// Starts the board as often as there are runs, killed each time.
    async fn restart(&self, site: &mut Site, backlog: f64) -> Result<Restart, Failure> {
        let mut ready = Vec::new();
        let mut resident = 0;
        for _ in 0..self.asked.runs {
            let begun = Instant::now();
            site.start(0)?;
            while let Err(error) = publish_one(site.plan().boards[0].mqtt).await {
                site.check()?;
                if begun.elapsed() > READY_MAX {
                    return Err(Failure::new("a board on a backlog takes no publish").because(error));
                }
                tokio::time::sleep(TRY_EVERY).await;
            }
            ready.push(begun.elapsed().as_secs_f64() * 1000.0);
            let watched = Instant::now();
            while watched.elapsed() < WATCH {
                resident = resident.max(usage::most_resident(&usage::members(&site.groups())));
                tokio::time::sleep(LOOK_EVERY).await;
            }
            site.kill(0);
        }
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        Ok(Restart {
            backlog_gib: tenth(backlog),
            ready_ms: tenth(median(ready.iter().copied())),
            ready_ms_worst: tenth(ready.iter().copied().fold(0.0, f64::max)),
            rss_mib: mib(resident),
            starts: ready.len(),
        })
    }
}

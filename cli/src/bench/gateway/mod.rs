//! `roadstead bench gateway`: how fast a gateway's store takes blocks, by the very code that a gateway stores with. Owns what is
//! stored and what is measured around it; the network in front of a gateway is `bench drain`'s.

mod blocks;
mod figures;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway::store::postgres::own::{OwnServer, programs};
use gateway::store::read::{PostgresReader, SqliteReader, StoreReader};
use gateway::store::{Deposit, PostgresPlace, PostgresStore, SqliteStore, Store, StoreError};
use shared::time::WallMillis;

use super::arguments::{Gateway, StoreChoice};
use super::figures::write_json;
use super::{device, install, leftovers, usage};
use crate::failure::Failure;
use blocks::Blocks;
use figures::{Figures, Run};

/// What a run writes to.
enum Target {
    File,
    Own(OwnServer),
    Given(PostgresPlace),
}

/// Sets the flag when it is dropped, so that Ctrl-C ends the measurement and with it the server.
struct Stopping(Arc<AtomicBool>);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the benchmark.
pub(super) async fn measure(asked: &Gateway) -> Result<ExitCode, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    let _stopping = Stopping(Arc::clone(&stopped));
    let asked = asked.clone();
    // A store blocks, as it does on its own thread in a gateway.
    let measured = tokio::task::spawn_blocking(move || measure_all(&asked, &stopped)).await;
    measured.map_err(|error| Failure::new("the measurement ended unexpectedly").because(error))?
}

fn measure_all(asked: &Gateway, stopped: &AtomicBool) -> Result<ExitCode, Failure> {
    leftovers::remove_on_panic();
    let below = asked.dir.clone().unwrap_or_else(std::env::temp_dir);
    if device::is_in_memory(&below) {
        eprintln!("{} is in memory: syncing costs nothing there. Give a disk with --dir.", below.display());
    }
    let dir = Dir::new(&below)?;
    let target = target(asked, &dir.0)?;
    let mut runs = Vec::new();
    if let Target::Own(_) = target {
        // A server makes each file of its log, and fills it with zeros, once; later it takes old ones again. One that has just been set up is not
        // what is measured.
        eprintln!("a run that does not count: the server is new");
        measure_one(asked, &target, &dir.0, 0, stopped)?;
    }
    for run in 1..=asked.runs {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        eprintln!("run {run} of {}", asked.runs);
        runs.extend(measure_one(asked, &target, &dir.0, run, stopped)?);
    }
    let figures = Figures::of(asked, runs);
    if let Some(path) = &asked.json {
        write_json(path, &figures)?;
    }
    crate::say(&figures.text())
}

fn target(asked: &Gateway, dir: &Path) -> Result<Target, Failure> {
    match (asked.store, &asked.url) {
        (StoreChoice::Sqlite, None) => Ok(Target::File),
        (StoreChoice::Sqlite, Some(_)) => Err(Failure::new("--url is for --store postgres")),
        (StoreChoice::Postgres, Some(url)) => PostgresPlace::new(url, asked.password_file.clone(), asked.ca.clone())
            .map(Target::Given)
            .map_err(|why| Failure::new(format!("--url will not do: {why}"))),
        (StoreChoice::Postgres, None) => {
            let found = match asked.programs.clone().or_else(programs) {
                Some(found) => Some(found),
                // Its servers are where no path leads; this one tells of them.
                None => install::ensure("pg_lsclusters", "postgresql").map(|()| programs())?,
            };
            let programs = found.ok_or_else(|| {
                Failure::new("there is no PostgreSQL server on this machine to measure")
                    .remedy("sudo apt-get install postgresql; or name one with --url")
            })?;
            let server = OwnServer::start(&programs, &dir.join("postgres"));
            server
                .map(Target::Own)
                .map_err(|error| Failure::new("cannot start a PostgreSQL server").because(error))
        }
    }
}

/// One run on a store of its own; `None` where it was stopped.
fn measure_one(
    asked: &Gateway,
    target: &Target,
    dir: &Path,
    run: u32,
    stopped: &AtomicBool,
) -> Result<Option<Run>, Failure> {
    let broken = |error: StoreError| Failure::new("the store failed").because(error);
    let data = dir.join(format!("run-{run}"));
    let place = match target {
        Target::File => None,
        Target::Given(place) => Some(place.clone()),
        Target::Own(server) => {
            let url = server.database(&format!("run_{run}"));
            let url = url.map_err(|error| Failure::new("cannot make a database").because(error))?;
            Some(PostgresPlace::new(&url, None, None).map_err(Failure::new)?)
        }
    };
    let (mut store, reader) = open(place.as_ref(), &data).map_err(broken)?;
    let blocks = Blocks::new(asked, link::entropy::draw().unwrap_or(u64::from(run)));
    let deposits: Vec<Deposit> = blocks.deposits(asked.transaction_blocks as usize);
    let before = reader.bytes().map_err(broken)?;
    if let Target::Own(server) = target {
        // Of the runs before nothing is left to be written during this one.
        let settled = server.execute("postgres", "CHECKPOINT");
        settled.map_err(|error| Failure::new("the server cannot settle").because(error))?;
    }
    let cpu = || (usage::cpu(std::process::id()), server_cpu(target));
    let (cpu_before, begun) = (cpu(), Instant::now());
    let mut stored = 0;
    for deposit in &deposits {
        if stopped.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let outcomes = store
            .transact(std::slice::from_ref(deposit), &[], WallMillis(1))
            .map_err(broken)?;
        stored += outcomes
            .iter()
            .flatten()
            .filter_map(|stored| Some(stored.outcome.ok()?.rows))
            .sum::<u64>();
    }
    let (took, cpu_after) = (begun.elapsed(), cpu());
    if stored != asked.records {
        return Err(Failure::new(format!("{stored} of {} records became rows", asked.records)));
    }
    drop(store);
    let grown = reader.bytes().map_err(broken)?.saturating_sub(before);
    drop(reader);
    // The next run has a directory of its own.
    let _ = std::fs::remove_dir_all(&data);
    let spent = |before: Option<Duration>, after: Option<Duration>| Some(after?.saturating_sub(before?).as_secs_f64());
    Ok(Some(Run {
        seconds: took.as_secs_f64(),
        gateway_cpu_s: spent(Some(cpu_before.0), Some(cpu_after.0)).unwrap_or(0.0),
        database_cpu_s: spent(cpu_before.1, cpu_after.1),
        disk_bytes: grown,
    }))
}

type Opened = (Box<dyn Store>, Box<dyn StoreReader>);

fn open(place: Option<&PostgresPlace>, data: &Path) -> Result<Opened, StoreError> {
    Ok(match place {
        None => (Box::new(SqliteStore::open(data)?.0), Box::new(SqliteReader::open(data)?)),
        Some(place) => (Box::new(PostgresStore::open(place, data)?.0), Box::new(PostgresReader::open(place)?)),
    })
}

/// What a server of our own has used; of another one nobody here knows.
fn server_cpu(target: &Target) -> Option<Duration> {
    match target {
        Target::Own(server) => server.process().map(usage::cpu_with_children),
        Target::File | Target::Given(_) => None,
    }
}

/// A directory that goes with the measurement.
struct Dir(PathBuf);

impl Dir {
    fn new(below: &Path) -> Result<Self, Failure> {
        let path = below.join(format!("roadstead-bench-gateway-{}", std::process::id()));
        let made = std::fs::create_dir_all(&path);
        made.map_err(|error| Failure::new(format!("cannot make {}", path.display())).because(error))?;
        Ok(Self(path))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

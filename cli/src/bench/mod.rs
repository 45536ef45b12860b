//! `roadstead bench`: measures real processes on this machine. Owns what is measured and how; what a number should be
//! is said elsewhere.
//!
//! Each measurement has a site of its own: boards without an uplink, so that the way to the acknowledgement is measured
//! and nothing beside it. The disk is probed in the same directory before each of them and after the last.

pub mod arguments;
mod client;
mod device;
pub mod failover;
mod figures;
mod usage;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::demo::site::{Home, Site, ask};
use crate::demo::until_interrupted;
use crate::failure::Failure;
use crate::files;
use arguments::{BenchCommand, Ingest};
use client::Load;
use figures::{Figures, Point, Rivals, mib};

/// Connections that publishes are spread over at most: more than a few only cost the clients.
const CONNECTIONS_MAX: u32 = 8;
/// Publishes on their way over one connection before a second one is opened.
const IN_FLIGHT_EACH: u32 = 16;
/// Publishes before a measurement counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// A site that has a leader is given so long to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(1);
/// Between two looks at the memory in use.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// As a shell says of a process that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// Runs the benchmark.
pub(crate) fn run(asked: &BenchCommand) -> Result<ExitCode, Failure> {
    match asked {
        BenchCommand::Ingest(ingest) => until_interrupted(measure(ingest), || ExitCode::from(INTERRUPTED)),
        BenchCommand::Failover(asked) => until_interrupted(failover::measure(asked), || ExitCode::from(INTERRUPTED)),
    }
}

async fn measure(asked: &Ingest) -> Result<ExitCode, Failure> {
    let below = asked.dir.clone().unwrap_or_else(std::env::temp_dir);
    if device::is_in_memory(&below) {
        eprintln!("{} is in memory: syncing costs nothing there. Give a disk with --dir.", below.display());
    }
    let target = if asked.spread { "all boards" } else { "board 1" };
    eprintln!(
        "{} boards, each record synced on 2 of them, no uplink; {} bytes of payload, QoS 1, to {target}",
        asked.boards, asked.payload
    );
    let mut syncs = Vec::new();
    let mut points = Vec::new();
    let mut idle = 0;
    for in_flight in &asked.in_flight {
        eprintln!("{in_flight} in flight: {} s", asked.seconds);
        syncs.extend(probe(&below)?);
        let home = Home::temporary_in(&below, "bench")?;
        let mut site = Site::make(home, asked.boards, false)?;
        site.start_all()?;
        site.ready().await?;
        tokio::time::sleep(REST).await;
        if points.is_empty() {
            idle = most_resident(&site);
        }
        points.push(point(&mut site, asked, *in_flight).await?);
        site.stop_all();
    }
    syncs.extend(probe(&below)?);
    let figures = Figures { points, device: figures::device(syncs), idle_rss_mib: mib(idle), rivals: Rivals {} };
    if let Some(path) = &asked.json {
        let cannot = |error| Failure::new(format!("cannot write {}", path.display())).because(error);
        let text = serde_json::to_string(&figures).map_err(cannot)?;
        files::write(path, format!("{text}\n").as_bytes(), files::Readers::All)?;
    }
    crate::say(&figures.table())
}

fn probe(below: &Path) -> Result<Vec<Duration>, Failure> {
    let home = Home::temporary_in(below, "bench")?;
    device::probe(home.path())
        .map_err(|error| Failure::new(format!("cannot measure the disk in {}", below.display())).because(error))
}

async fn point(site: &mut Site, asked: &Ingest, in_flight: u32) -> Result<Point, Failure> {
    let connections = in_flight.div_ceil(IN_FLIGHT_EACH).min(CONNECTIONS_MAX);
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(u64::from(asked.seconds));
    let mut publishing = JoinSet::new();
    for number in 0..connections {
        let share = in_flight / connections + u32::from(number < in_flight % connections);
        let board = if asked.spread { number as usize % site.count() } else { 0 };
        publishing.spawn(client::publish(Load {
            board: site.plan().boards[board].mqtt,
            number: number as usize,
            in_flight: u16::try_from(share).unwrap_or(u16::MAX),
            payload: asked.payload as usize,
            from,
            until,
        }));
    }
    tokio::time::sleep_until(from.into()).await;
    let before = written(site);
    let mut resident = 0;
    while Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
        resident = resident.max(most_resident(site));
        site.check()?;
    }
    let written = written(site) - before;
    refuse_full(site).await?;
    let mut took = Vec::new();
    while let Some(ended) = publishing.join_next().await {
        took.extend(ended.map_err(io::Error::other).flatten().map_err(|error| {
            site.check()
                .err()
                .unwrap_or_else(|| Failure::new("a client failed").because(error))
        })?);
    }
    took.sort_unstable();
    let payload = took.len() as f64 * f64::from(asked.payload);
    Ok(Point {
        in_flight,
        events_per_s: (took.len() as f64 / f64::from(asked.seconds)).round(),
        ack_p50_us: figures::percentile(&took, 50),
        ack_p99_us: figures::percentile(&took, 99),
        device_bytes_per_payload_byte: (written as f64 / payload.max(1.0) * 100.0).round() / 100.0,
        rss_mib: mib(resident),
        connections: connections as usize,
    })
}

/// A board without an uplink keeps every record: once its journal is full it takes none, and figures mean nothing.
async fn refuse_full(site: &Site) -> Result<(), Failure> {
    for board in &site.plan().boards {
        let status = ask(board.http).await;
        if status.is_some_and(|status| status.segments >= status.segments_max) {
            let what = format!("the journal of {} is full before the time is up", board.board);
            return Err(
                Failure::new(what).remedy("without an uplink every record is kept: lower --seconds or --payload")
            );
        }
    }
    Ok(())
}

/// Bytes of memory of the board that uses most.
fn most_resident(site: &Site) -> u64 {
    usage::of(&site.groups()).iter().map(|usage| usage.resident).max().unwrap_or(0)
}

/// Bytes that all boards have written.
fn written(site: &Site) -> u64 {
    usage::of(&site.groups()).iter().map(|usage| usage.written).sum()
}

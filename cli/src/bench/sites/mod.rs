//! `roadstead bench sites`: how many sites one gateway bears. A real gateway process with its store on disk; each site is a
//! session of its own, from a socket of its own and with certificates of its own, that sends blocks and reports as a leader does.
//! Owns the course; a site is [`crowd`]'s.

mod crowd;
mod figures;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use shared::ids::Name;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::crowd::{LEADER, Order, Seen, Stage, Where};
use self::figures::Figures;
use super::arguments::SitesBench;
use super::figures::write_json;
use super::{leftovers, usage};
use crate::demo::group::{Group, Role};
use crate::demo::ports;
use crate::demo::site::Home;
use crate::failure::Failure;
use crate::init::certificates::Authority;
use crate::status::client;

/// The gateway is ready after so long.
const READY_MAX: Duration = Duration::from_secs(60);
/// Every site has a session after so long, or something is wrong.
const CONNECTED_MAX: Duration = Duration::from_secs(300);
/// What was sent is acknowledged after so long.
const SETTLED_MAX: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// An answer of the gateway takes no longer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Files that this process opens beside one socket a site.
const FILES_BESIDE: u64 = 256;
const GATEWAY: &str = "crowd";

/// Runs the benchmark.
pub(super) async fn measure(asked: &SitesBench) -> Result<ExitCode, Failure> {
    leftovers::remove_on_panic();
    open_files(u64::from(asked.sites) + FILES_BESIDE)?;
    let below = asked.dir.clone().unwrap_or_else(std::env::temp_dir);
    let home = Home::temporary_in(&below, "bench-sites")?;
    let addresses = ports::free(2)?;
    let [quic, http] = addresses[..] else {
        return Err(Failure::new("two ports are needed"));
    };
    eprintln!("making the certificates of {} sites", asked.sites);
    let sites = prepare(home.path(), asked.sites, (quic, http))?;
    let config = home.path().join("gateway.toml");
    let gateway = Group::start(Role::Gateway, &config, &home.path().join("log.txt"))?;
    leftovers::note_group(gateway.id());
    ready(http).await?;
    let empty = usage::resident(gateway.id());

    let (stage, stages) = watch::channel(Stage::Connect);
    let up = Arc::new(Semaphore::new(0));
    let begun = Instant::now();
    let mut crowd = JoinSet::new();
    for (number, place) in sites.into_iter().enumerate() {
        let order = Order { number, gateway: quic, records_per_s: asked.rate, payload: asked.payload as usize };
        crowd.spawn(crowd::site(place, order, stages.clone(), Arc::clone(&up)));
    }
    drop(stages);
    let connected = until(CONNECTED_MAX, &mut crowd, || up.available_permits() >= asked.sites as usize).await?;
    if !connected {
        let what =
            format!("{} of {} sites have a session after {CONNECTED_MAX:?}", up.available_permits(), asked.sites);
        return Err(Failure::new(what));
    }
    let connected_s = begun.elapsed().as_secs_f64();
    eprintln!("all of them have a session after {connected_s:.1} s");
    let idle = usage::resident(gateway.id());
    // Everyone has found its pace before anything counts.
    stage.send_replace(Stage::Send);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cpu_before, from) = (usage::cpu(gateway.id()), Instant::now());
    stage.send_replace(Stage::Count);
    tokio::time::sleep(Duration::from_secs(u64::from(asked.seconds))).await;
    let (spent, took) = (usage::cpu(gateway.id()).saturating_sub(cpu_before), from.elapsed());
    let busy = usage::resident(gateway.id());
    stage.send_replace(Stage::Settle);
    let seen = settle(&mut crowd).await?;
    let figures = Figures::of(asked, &seen, &figures::Gateway { connected_s, empty, idle, busy, spent, took });
    let stored = stored(http).await?;
    drop(gateway);
    let figures = figures.with_stored(stored);
    if let Some(path) = &asked.json {
        write_json(path, &figures)?;
    }
    crate::say(&figures.text())?;
    Ok(if figures.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lets this process open so many files, where its hard limit allows it; the gateway needs one socket for all.
fn open_files(wanted: u64) -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= wanted) {
        return Ok(());
    }
    limit.current = Some(limit.maximum.map_or(wanted, |hard| hard.min(wanted)));
    if limit.current == Some(wanted) && setrlimit(Resource::Nofile, limit).is_ok() {
        return Ok(());
    }
    Err(Failure::new(format!("{wanted} open files are needed: a socket a site"))
        .remedy(format!("ulimit -Hn {wanted}, or ask for fewer --sites")))
}

/// Keys, certificates and configuration, in `home`.
fn prepare(home: &Path, sites: u32, (quic, http): (SocketAddr, SocketAddr)) -> Result<Vec<Where>, Failure> {
    let write = |name: &str, text: &str| {
        let path = home.join(name);
        let cannot = |error| Failure::new(format!("cannot write {}", path.display())).because(error);
        fs::write(&path, text).map_err(cannot)?;
        Ok::<_, Failure>(path.clone())
    };
    let name = |text: &str| Name::try_from(text).map_err(|_| Failure::new(format!("{text} is no name")));
    let region = Authority::new("region")?;
    let own = region.gateway(&name(GATEWAY)?)?;
    write("gateway.pem", &own.certificate)?;
    write("gateway.key", &own.key)?;
    let roots = write("region-ca.pem", &region.certificate())?;
    let mut config = format!(
        "data_dir = \"data\"\n\n[listen]\nquic = \"{quic}\"\nhttp = \"{http}\"\n\n[identity]\n\
         certificate = \"gateway.pem\"\nkey = \"gateway.key\"\nca = \"region-ca.pem\"\n"
    );
    let mut places = Vec::new();
    for number in 1..=sites {
        let site = name(&format!("site-{number}"))?;
        let authority = Authority::new(&format!("site {number}"))?;
        let board = authority.board(&site, LEADER, quic.ip())?;
        write(&format!("{site}-ca.pem"), &authority.certificate())?;
        config.push_str(&format!("\n[[site]]\nname = \"{site}\"\nca = \"{site}-ca.pem\"\n"));
        let certificate = write(&format!("{site}.pem"), &board.certificate)?;
        let key = write(&format!("{site}.key"), &board.key)?;
        places.push(Where { gateway: name(GATEWAY)?, site, certificate, key, roots: roots.clone() });
    }
    write("gateway.toml", &config)?;
    Ok(places)
}

async fn ready(http: SocketAddr) -> Result<(), Failure> {
    let begun = Instant::now();
    while let Err(why) = client::get(&format!("http://{http}"), "/readyz", ANSWER_MAX).await {
        if begun.elapsed() > READY_MAX {
            return Err(Failure::new("the gateway does not get ready").because(why));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Waits for `is_so`, at most so long; an error where a site has given up.
async fn until(
    most: Duration,
    crowd: &mut JoinSet<Result<Seen, String>>,
    is_so: impl Fn() -> bool,
) -> Result<bool, Failure> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > most {
            return Ok(false);
        }
        if let Ok(Some(ended)) = tokio::time::timeout(LOOK_EVERY, crowd.join_next()).await {
            taken(ended)?;
            return Err(Failure::new("a site ended before it was told to"));
        }
    }
    Ok(true)
}

fn taken(ended: Result<Result<Seen, String>, tokio::task::JoinError>) -> Result<Seen, Failure> {
    let seen = ended.map_err(|error| Failure::new("a site's task failed").because(error))?;
    seen.map_err(|why| Failure::new(format!("a site's session ended: {why}")))
}

/// Everyone's last acknowledgements.
async fn settle(crowd: &mut JoinSet<Result<Seen, String>>) -> Result<Vec<Seen>, Failure> {
    let all = async {
        let mut seen = Vec::new();
        while let Some(ended) = crowd.join_next().await {
            seen.push(taken(ended)?);
        }
        Ok(seen)
    };
    tokio::time::timeout(SETTLED_MAX, all)
        .await
        .map_err(|_| Failure::new(format!("not everything is acknowledged after {SETTLED_MAX:?}")))?
}

/// Rows in the gateway's store, by its own metrics.
async fn stored(http: SocketAddr) -> Result<u64, Failure> {
    let cannot = |why| Failure::new("the gateway's metrics cannot be read").because(why);
    let body = client::get(&format!("http://{http}"), "/metrics", ANSWER_MAX)
        .await
        .map_err(cannot)?;
    let text = String::from_utf8_lossy(&body);
    let lines = text
        .lines()
        .filter(|line| line.starts_with("roadstead_region_records_total{") && line.contains("outcome=\"row\""));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(values.sum::<f64>() as u64)
}

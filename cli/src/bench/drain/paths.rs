//! `roadstead bench paths`: a site with two paths to its region, of which the one in use swallows everything from one moment to
//! the next, again and again, while records come. Each path goes through a namespace of its own, which routes packets into a black
//! hole when it is told to: no card goes down, and nobody is told.
//!
//! ```text
//!           ┌─ p1 10.85.1.1 ──── a namespace that routes ──── r1 10.85.1.6 ─┐
//!  site ────┤                                                              ├──── region 10.84.2.1
//!           └─ p2 10.85.2.1 ──── a namespace that routes ──── r2 10.85.2.6 ─┘
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gateway::store::read::{Row, SqliteReader, StoreReader as _};
use serde::Serialize;
use serde_json::Value;
use shared::ids::Name;
use tokio::task::JoinSet;

use super::ours::{BOARDS, begin, init, port};
use super::publish::{Live, dial, trickle};
use super::readings::{Id, Kind};
use super::wan::REGION;
use crate::bench::arguments::Paths;
use crate::bench::failover::ask;
use crate::bench::failover::namespace::{Namespace, ip, lacking};
use crate::bench::figures::{percentile, write_json};
use crate::bench::kin::Kin;
use crate::bench::leftovers;
use crate::bench::waits::until;
use crate::demo::site::Home;
use crate::failure::Failure;
use crate::files::rewrite;
use crate::init::{BOARD_FILE, GATEWAY_DIR, GATEWAY_FILE};

/// A site speaks to its region after so long.
const READY_MAX: Duration = Duration::from_secs(30);
/// A dead path is left within this, or never.
const LEFT_MAX: Duration = Duration::from_secs(30);
/// A path is in use for so long at least before it is cut, so that it is no mistake to have left the other one.
const STANDS_MS: u64 = 1_500;
/// All that was acknowledged has arrived after so long.
const HOME_MAX: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Serialize)]
struct Figures {
    /// How often the path in use was cut.
    cuts: u32,
    /// From the cut to a session over the other path: half were sooner.
    left_ms_p50: f64,
    /// The latest.
    left_ms_max: f64,
    /// Records acknowledged.
    records: u64,
    /// Of these, records that are not in the store.
    lost: u64,
    /// Rows beyond the first of a record.
    duplicated: u64,
}

/// Runs the benchmark.
pub(in crate::bench) async fn measure(asked: &Paths) -> Result<ExitCode, Failure> {
    leftovers::remove_on_panic();
    if let Some(why) = lacking() {
        let what = format!("two paths cannot be made: that needs network namespaces, and {why}");
        return Err(Failure::new(what).remedy("run it as root"));
    }
    let below: PathBuf = asked.dir.clone().unwrap_or_else(std::env::temp_dir);
    let lab = Lab::start(&below).await?;
    let figures = lab.run(asked.cuts).await?;
    if let Some(path) = &asked.json {
        write_json(path, &figures)?;
    }
    crate::say(&format!(
        "{} cuts: on the other path after {} ms, {} ms at most; {} records, {} lost, {} twice\n",
        figures.cuts, figures.left_ms_p50, figures.left_ms_max, figures.records, figures.lost, figures.duplicated
    ))?;
    if figures.lost + figures.duplicated > 0 {
        return Err(Failure::new("acknowledged records are lost, or in the region's store twice"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The site, the region and what is between them. When it is dropped, no process, file or namespace is left.
struct Lab {
    // In this order: processes before their namespaces, the ends before what is between.
    _processes: Vec<Kin>,
    home: Home,
    site: Namespace,
    _region: Namespace,
    between: Vec<Namespace>,
}

impl Lab {
    async fn start(below: &Path) -> Result<Self, Failure> {
        let home = Home::temporary_in(below, "paths")?;
        let id = format!("rs{}-p", std::process::id());
        let site = Namespace::make(&format!("{id}-site"))?;
        let region = Namespace::make(&format!("{id}-region"))?;
        ip(&format!("-n {} addr add {REGION}/32 dev lo", region.name()))?;
        for end in [&site, &region] {
            // An answer may come by a path that is not the best one.
            for which in ["all", "default"] {
                set(end, &format!("conf/{which}/rp_filter"), "0")?;
            }
        }
        let mut between = Vec::new();
        for path in 1..=2 {
            let middle = Namespace::make(&format!("{id}-{path}"))?;
            set(&middle, "ip_forward", "1")?;
            lay(path, (&site, &middle, &region))?;
            between.push(middle);
        }
        let program =
            std::env::current_exe().map_err(|error| Failure::new("cannot find this program").because(error))?;
        init(&program, &home)?;
        let gateway = home.path().join(GATEWAY_DIR).join(GATEWAY_FILE);
        // Nobody asks it over HTTP, and beyond loopback it would want an account.
        rewrite(&gateway, |text| text.replace(&format!("http = \"{REGION}:"), "http = \"127.0.0.1:"))?;
        let mut processes = vec![begin(&region, &program, "gateway", &gateway)?];
        for board in 1..=BOARDS {
            let config = home.path().join(format!("board-{board}")).join(BOARD_FILE);
            let paths = "\n[[uplink]]\ninterface = \"p1\"\n\n[[uplink]]\ninterface = \"p2\"\n";
            rewrite(&config, |text| format!("{text}{paths}"))?;
            processes.push(begin(&site, &program, "node", &config)?);
        }
        let lab = Self { _processes: processes, home, site, _region: region, between };
        if until(READY_MAX, || lab.in_use().map(drop)).await.is_none() {
            return Err(Failure::new("no board speaks to the region"));
        }
        Ok(lab)
    }

    /// The path in use, 1 or 2, and for how long it has been, in ms, if a session stands.
    fn in_use(&self) -> Option<(usize, u64)> {
        let (path, for_ms, _) = self.told()?;
        Some((path, for_ms))
    }

    /// The same, and why it last changed.
    fn told(&self) -> Option<(usize, u64, String)> {
        (1..=BOARDS).find_map(|board| {
            let http = SocketAddr::from(([127, 0, 0, 1], port(board) + 2));
            let status: Value = self.site.within(move || ask::status(http)).ok().flatten()?;
            let path = status["uplink_path"]["path"].as_str()?.strip_prefix('p')?.parse().ok()?;
            let why = status["uplink_path"]["why"].as_str().unwrap_or_default().to_owned();
            Some((path, status["uplink_path"]["for_ms"].as_u64()?, why))
        })
    }

    /// Swallows everything on `path` each way, or nothing any more.
    fn set_cut(&self, path: usize, is_cut: bool) -> Result<(), Failure> {
        let (word, name) = (if is_cut { "add" } else { "del" }, self.between[path - 1].name());
        // More exact than the ways there.
        ip(&format!("-n {name} route {word} blackhole {REGION}/32"))?;
        ip(&format!("-n {name} route {word} blackhole 10.85.{path}.1/32"))
    }

    async fn run(&self, cuts: u32) -> Result<Figures, Failure> {
        let live = Live::default();
        let mut publishing = JoinSet::new();
        for board in 1..=BOARDS {
            for kind in [Kind::Event, Kind::Alarm] {
                let stream = dial(&self.site, SocketAddr::from(([127, 0, 0, 1], port(board) + 1))).await;
                let stream = stream.map_err(|error| Failure::new("cannot publish").because(error))?;
                publishing.spawn(trickle(stream, kind, board, live.clone()));
            }
        }
        let mut left = Vec::new();
        for cut in 0..cuts {
            let stands = || {
                self.in_use()
                    .filter(|(_, for_ms)| *for_ms >= STANDS_MS + 97 * u64::from(cut % 8))
            };
            let Some((path, _)) = until(READY_MAX, stands).await else {
                return Err(Failure::new("no path stays"));
            };
            let begun = Instant::now();
            self.set_cut(path, true)?;
            let on_other = || self.in_use().filter(|(now, _)| *now != path);
            if until(LEFT_MAX, on_other).await.is_none() {
                return Err(Failure::new("a dead path is not left"));
            }
            left.push(begun.elapsed());
            let (took, why) = (left[left.len() - 1].as_millis(), self.told().unwrap_or_default().2);
            eprintln!("  cut {}: on the other path after {took} ms; {why}", cut + 1);
            self.set_cut(path, false)?;
        }
        live.end();
        while let Some(done) = publishing.join_next().await {
            let done = done.map_err(std::io::Error::other).flatten();
            done.map_err(|error| Failure::new("publishing failed").because(error))?;
        }
        let rows = self.settle(&live).await?;
        Ok(figures(cuts, left, &live, &rows))
    }

    /// Waits until all that was acknowledged is in the region; how many rows each record has then.
    async fn settle(&self, live: &Live) -> Result<BTreeMap<Id, u64>, Failure> {
        let ids = live.ids();
        let begun = Instant::now();
        loop {
            let rows = self.rows()?;
            if ids.iter().all(|id| rows.contains_key(id)) || begun.elapsed() > HOME_MAX {
                return Ok(rows);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn rows(&self) -> Result<BTreeMap<Id, u64>, Failure> {
        let cannot = |error| Failure::new("cannot read the region's store").because(error);
        let store = SqliteReader::open(&self.home.path().join(GATEWAY_DIR).join("data")).map_err(cannot)?;
        let mut rows = BTreeMap::new();
        let mut each = |row: Row<'_>| {
            if let Some(id) = Id::of(row.payload) {
                *rows.entry(id).or_insert(0) += 1;
            }
        };
        store
            .rows(&Name::try_from("bench").unwrap_or_default(), &mut each)
            .map_err(cannot)?;
        Ok(rows)
    }
}

fn figures(cuts: u32, mut left: Vec<Duration>, live: &Live, rows: &BTreeMap<Id, u64>) -> Figures {
    left.sort_unstable();
    let ids = live.ids();
    let millis = |percent| percentile(&left, percent) as f64 / 1000.0;
    Figures {
        cuts,
        left_ms_p50: millis(50),
        left_ms_max: millis(100),
        records: ids.len() as u64,
        lost: ids.iter().filter(|id| !rows.contains_key(id)).count() as u64,
        duplicated: rows.values().map(|rows| rows - 1).sum(),
    }
}

/// Cables and routes of one path.
fn lay(path: usize, (site, middle, region): (&Namespace, &Namespace, &Namespace)) -> Result<(), Failure> {
    let (site, middle, region) = (site.name(), middle.name(), region.name());
    for (end, name, near, far) in [(site, "p", "1", "2"), (region, "r", "6", "5")] {
        ip(&format!("-n {middle} link add {name}x type veth peer name {name}{path} netns {end}"))?;
        ip(&format!("-n {middle} addr add 10.85.{path}.{far}/30 dev {name}x"))?;
        ip(&format!("-n {end} addr add 10.85.{path}.{near}/30 dev {name}{path}"))?;
        ip(&format!("-n {middle} link set dev {name}x up"))?;
        ip(&format!("-n {end} link set dev {name}{path} up"))?;
    }
    ip(&format!("-n {site} route add default via 10.85.{path}.2 dev p{path} metric {path}00"))?;
    ip(&format!("-n {region} route add 10.85.{path}.0/30 via 10.85.{path}.5"))?;
    ip(&format!("-n {middle} route add 10.84.2.0/24 via 10.85.{path}.6"))
}

fn set(namespace: &Namespace, key: &str, value: &'static str) -> Result<(), Failure> {
    let path = format!("/proc/sys/net/ipv4/{key}");
    let written = namespace.within(move || std::fs::write(path, value))?;
    written.map_err(|error| Failure::new(format!("cannot set {key} to {value}")).because(error))
}

//! A site of this program in the site's namespace, its gateway in the region's. Owns its directory and processes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gateway::store::read::{SqliteReader, StoreReader as _};
use shared::ids::{Class, Name};

use super::publish::Live;
use super::readings::{Id, Kind, Readings};
use super::tally::Tally;
use super::wan::{REGION, Wan};
use crate::bench::failover::{ask, namespace};
use crate::bench::kin::Kin;
use crate::bench::waits::until;
use crate::demo::group::tail;
use crate::demo::site::Home;
use crate::failure::Failure;
use crate::files::rewrite;
use crate::init::{BOARD_FILE, GATEWAY_DIR, GATEWAY_FILE};

/// Boards.
pub(super) const BOARDS: u8 = 3;
/// First port: board 1 has the ports from ten above it on, mesh, MQTT, HTTP; board 2 those from twenty above, and so on.
const PORT: u16 = 7400;
/// A site leads after so long.
const READY_MAX: Duration = Duration::from_secs(20);
/// Bytes of one journal file.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Files of a journal by default, and at most.
const SEGMENTS: std::ops::RangeInclusive<u64> = 256..=65_536;
/// Of each stream so many more of the newest rows are looked at than live records have not been seen yet.
const NEWEST: u32 = 8;

/// The first port of `board`.
pub(super) const fn port(board: u8) -> u16 {
    PORT + 10 * board as u16
}

/// A site that runs. When it is dropped, no process and no file is left.
#[derive(Debug)]
pub(super) struct Site {
    boards: Vec<Kin>,
    gateway: Option<Kin>,
    name: Name,
    store: Option<SqliteReader>,
    warm_ups: u64,
    home: Home,
}

impl Site {
    /// Makes and starts it, with journals for `records` records; returns when a board leads.
    pub(super) async fn start(wan: &Wan, below: &Path, records: u64) -> Result<Self, Failure> {
        let home = Home::temporary_in(below, "drain")?;
        let program =
            std::env::current_exe().map_err(|error| Failure::new("cannot find this program").because(error))?;
        init(&program, &home)?;
        let name = Name::try_from("bench").unwrap_or_default();
        let mut site = Self { boards: Vec::new(), gateway: None, name, store: None, warm_ups: 0, home };
        // Frames, what stands around each, and padding: more than enough is not written.
        let segments = (records * (Readings::length() as u64 + 128) * 5 / 4 / SEGMENT_BYTES + 64)
            .clamp(*SEGMENTS.start(), *SEGMENTS.end());
        let gateway = site.path(GATEWAY_DIR).join(GATEWAY_FILE);
        // Nobody asks it over HTTP, and beyond loopback it would want an account.
        rewrite(&gateway, |text| text.replace(&format!("http = \"{REGION}:"), "http = \"127.0.0.1:"))?;
        site.gateway = Some(begin(wan.region(), &program, "gateway", &gateway)?);
        for board in 1..=BOARDS {
            let config = site.path(&format!("board-{board}")).join(BOARD_FILE);
            rewrite(&config, |text| text.replace("[journal]\n", &format!("[journal]\nsegments_max = {segments}\n")))?;
            site.boards.push(begin(wan.site(), &program, "node", &config)?);
        }
        let leads = || (1..=BOARDS).any(|board| leads(wan, board));
        if until(READY_MAX, || leads().then_some(())).await.is_none() {
            return Err(Failure::new(format!("no board leads\n{}", site.tails())));
        }
        Ok(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Where `board` takes publishes.
    pub(super) fn mqtt(board: u8) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port(board) + 1).into()
    }

    /// Records of the backlog in the region's store. Live records that are there are noted.
    pub(super) fn arrived(&mut self, live: &Live) -> Result<u64, Failure> {
        if self.store.is_none() {
            self.store = SqliteReader::open(&self.path(GATEWAY_DIR).join("data")).ok();
        }
        let Some(store) = &self.store else { return Ok(0) };
        let cannot = |error| Failure::new("cannot read the region's store").because(error);
        let counts = store.counts(&self.name).map_err(cannot)?;
        let rows: u64 = counts
            .streams
            .iter()
            .filter(|stream| stream.stream.class == Class::Event)
            .map(|stream| stream.rows)
            .sum();
        let now = Instant::now();
        for (class, kind) in [(Class::Event, Kind::Event), (Class::Alarm, Kind::Alarm)] {
            let newest = u32::try_from(live.unseen(kind)).unwrap_or(u32::MAX).saturating_add(NEWEST);
            let mut seen = |row: gateway::store::read::Row<'_>| {
                if let Some(id) = Id::of(row.payload) {
                    live.handle_seen(id, now);
                }
            };
            store.newest(&self.name, class, newest, &mut seen).map_err(cannot)?;
        }
        // Rows were counted first: a live one that came since is subtracted too early, and never too late.
        Ok(rows.saturating_sub(self.warm_ups + live.seen(Kind::Event)))
    }

    /// So many records have been published and are in the store that are not the backlog.
    pub(super) fn handle_warm(&mut self, records: u64) {
        self.warm_ups = records;
    }

    /// Every row of the store, read afresh.
    pub(super) fn read(&self, tally: &mut Tally, mut live: impl FnMut(Id)) -> Result<(), Failure> {
        let cannot = |error| Failure::new("cannot read the region's store").because(error);
        let store = SqliteReader::open(&self.path(GATEWAY_DIR).join("data")).map_err(cannot)?;
        let mut each = |row: gateway::store::read::Row<'_>| {
            tally.handle(row.payload);
            if let Some(id) = Id::of(row.payload) {
                live(id);
            }
        };
        store.rows(&self.name, &mut each).map(drop).map_err(cannot)
    }

    /// A failure if a process has ended although nobody ended it.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        let ended = self.gateway.iter_mut().chain(&mut self.boards).find_map(Kin::ended);
        match ended {
            None => Ok(()),
            Some(status) => Err(Failure::new(format!("a process ended ({status})\n{}", self.tails()))),
        }
    }

    /// The ends of all logs.
    fn tails(&self) -> String {
        let boards = (1..=BOARDS).map(|board| format!("board-{board}"));
        let names = boards.chain([GATEWAY_DIR.to_owned()]);
        names.map(|name| tail(&self.path(&name).join("log.txt")) + "\n").collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.boards.clear();
        self.gateway = None;
    }
}

/// Makes the files of a site called `bench`, whose gateway is at [`REGION`].
pub(super) fn init(program: &Path, home: &Home) -> Result<(), Failure> {
    let (program, dir) = (program.to_string_lossy(), home.path().to_string_lossy());
    let (boards, port, gateway) = (BOARDS.to_string(), PORT.to_string(), REGION.to_string());
    let arguments = ["init", &dir, "--force", "--boards", &boards, "--site", "bench", "--host-base", "127.0.0.1"];
    let rest = ["--gateway-host", &gateway, "--port-base", &port];
    namespace::run(&program, &[&arguments[..], &rest[..]].concat()).map(drop)
}

/// Starts a process in a namespace; what it says stands beside its configuration.
pub(super) fn begin(at: &namespace::Namespace, program: &Path, role: &str, config: &Path) -> Result<Kin, Failure> {
    let mut command = Command::new(program);
    command.args([role, "--config"]).arg(config);
    let log = config.with_file_name("log.txt");
    let started = at.within(move || Kin::start(command, &log))?;
    started.map_err(|error| Failure::new(format!("cannot start a {role}")).because(error))
}

fn leads(wan: &Wan, board: u8) -> bool {
    let http = SocketAddr::from((Ipv4Addr::LOCALHOST, port(board) + 2));
    let status = wan.site().within(move || ask::status(http)).ok().flatten();
    status.is_some_and(|status| !status["lease_remaining_ms"].is_null())
}

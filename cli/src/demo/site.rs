//! A site on this machine, for as long as a command runs: keys and configurations in a directory, boards and gateway as
//! processes. When it is dropped, no process is left, and no file either unless the files are to be kept.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firmware::config::BoardConfig;
use gateway::config::GatewayConfig;
use serde::Deserialize;
use shared::config::JournalConfig;
use shared::ids::{BoardId, Name};

use super::group::{self, Group, Role};
use super::ports;
use crate::failure::Failure;
use crate::files;
use crate::init::plan::{BoardPlan, GatewayPlan, SitePlan};
use crate::init::{encrypt, make_site};
use crate::status::client;

/// A site has a leader after so long.
const READY_MAX: Duration = Duration::from_secs(10);
/// Between two questions to a board that is starting.
const ASK_EVERY: Duration = Duration::from_millis(25);
/// A board on this machine answers within so long, or not at all.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Where a site's files are.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    is_kept: bool,
}

impl Home {
    /// A new directory among the temporary ones, for the owner alone; removed when dropped.
    pub(crate) fn temporary(what: &str) -> Result<Self, Failure> {
        Self::temporary_in(&std::env::temp_dir(), what)
    }

    /// The same, in `below`. Its path is absolute and short: it will hold the paths of sockets, which may have 107 bytes.
    pub(crate) fn temporary_in(below: &Path, what: &str) -> Result<Self, Failure> {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let name = format!("roadstead-{what}-{}-{}", std::process::id(), since.subsec_nanos());
        let path = below.join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::new(format!("cannot make {}", path.display())).because(error))?;
        let path = absolute(&path)?;
        Ok(Self { path, is_kept: false })
    }

    /// The new or empty directory `path`, which stays.
    pub(crate) fn kept(path: &Path) -> Result<Self, Failure> {
        if files::is_occupied(path)? {
            return Err(Failure::new(format!("{} is not empty", path.display())).remedy("give a new directory"));
        }
        files::make_dir(path, files::Readers::All)?;
        let path = absolute(path)?;
        Ok(Self { path, is_kept: true })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("could not remove {}: {error}", self.path.display());
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize()
        .map_err(|error| Failure::new(format!("cannot look into {}", path.display())).because(error))
}

/// What a board says of itself; what else it says is passed over.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct BoardStatus {
    /// The leader's term.
    pub(crate) term: u64,
    /// How long this board's lease still runs, if it leads.
    pub(crate) lease_remaining_ms: Option<u64>,
    /// Records that the region does not have yet.
    pub(crate) backlog: u64,
    /// Records committed since the start.
    pub(crate) committed: u64,
    /// Whether fewer than k boards live.
    pub(crate) degraded: bool,
    /// Records shed since the start.
    pub(crate) shed: Shed,
}

/// Records that a board has shed.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Shed {
    /// Events.
    pub(crate) event: u64,
    /// Bulk.
    pub(crate) bulk: u64,
}

/// Asks the board whose HTTP face is at `http` how it is; `None` where it does not say.
pub(crate) async fn ask(http: SocketAddr) -> Option<BoardStatus> {
    let body = client::get(&format!("http://{http}"), "/status", ANSWER_MAX).await.ok()?;
    serde_json::from_slice(&body).ok()
}

/// A process of the site.
#[derive(Debug)]
struct Member {
    title: String,
    role: Role,
    config: PathBuf,
    log: PathBuf,
    group: Option<Group>,
}

impl Member {
    fn new(role: Role, config: PathBuf, title: String) -> Self {
        let log = config.with_file_name("log.txt");
        Self { title, role, config, log, group: None }
    }

    fn start(&mut self) -> Result<(), Failure> {
        self.group = Some(Group::start(self.role, &self.config, &self.log)?);
        Ok(())
    }

    /// A failure if its process has ended although nobody ended it.
    fn check(&mut self) -> Result<(), Failure> {
        match self.group.as_mut().and_then(Group::ended) {
            None => Ok(()),
            Some(status) => {
                let what = format!("{} ended ({status}); {}", self.title, group::tail(&self.log));
                Err(Failure::new(what))
            }
        }
    }
}

/// The site.
#[derive(Debug)]
pub(crate) struct Site {
    plan: SitePlan,
    /// Where boards dial the gateway.
    uplink: SocketAddr,
    boards: Vec<Member>,
    gateway: Option<Member>,
    // Dropped last: processes write into it.
    home: Home,
}

impl Site {
    /// Makes a site of `count` boards in `home`. With a gateway its boards dial it at [`Site::uplink`], where nobody
    /// listens yet; without one they keep their records to themselves. Nothing runs yet.
    pub(crate) fn make(home: Home, count: u8, has_gateway: bool) -> Result<Self, Failure> {
        Self::make_with(home, count, has_gateway, None)
    }

    /// A site of `count` boards without a gateway, whose journals have this size.
    pub(crate) fn make_with_journal(home: Home, count: u8, journal: JournalConfig) -> Result<Self, Failure> {
        Self::make_with(home, count, false, Some(journal))
    }

    fn make_with(home: Home, count: u8, has_gateway: bool, journal: Option<JournalConfig>) -> Result<Self, Failure> {
        let ports = ports::free(usize::from(count) * 3 + 3)?;
        let (own, of_boards) = ports.split_at(3);
        let [uplink, quic, http] = *own else {
            return Err(Failure::new("three ports were asked for"));
        };
        let boards = (1..=count)
            .filter_map(BoardId::new)
            .zip(of_boards.chunks_exact(3))
            .map(|(board, ports)| BoardPlan { board, mesh: ports[0], mqtt: ports[1], http: ports[2] })
            .collect();
        let gateway = GatewayPlan { name: name("region"), quic: uplink, http };
        let plan = SitePlan { site: name("demo"), boards, gateway, witness: None, journal };
        let made = make_site(home.path(), &plan, |_| {})?;
        for config in made.boards.iter().filter(|_| !has_gateway) {
            keep_to_itself(config)?;
        }
        listen_behind(&made.gateway, uplink, quic)?;
        let boards = made.boards.into_iter().enumerate();
        let boards = boards
            .map(|(at, config)| Member::new(Role::Board, config, format!("board {}", at + 1)))
            .collect();
        let gateway = has_gateway.then(|| Member::new(Role::Gateway, made.gateway, "the gateway".to_owned()));
        Ok(Self {
            plan: SitePlan { gateway: GatewayPlan { quic, ..plan.gateway.clone() }, ..plan },
            uplink,
            boards,
            gateway,
            home,
        })
    }

    /// Gives every board an encrypted journal, before it is started.
    pub(crate) fn encrypt(&self) -> Result<(), Failure> {
        let configs: Vec<PathBuf> = self.boards.iter().map(|board| board.config.clone()).collect();
        encrypt(&configs)
    }

    /// Names and addresses; the gateway's are those where it listens itself.
    pub(crate) fn plan(&self) -> &SitePlan {
        &self.plan
    }

    /// Where boards dial the gateway.
    pub(crate) fn uplink(&self) -> SocketAddr {
        self.uplink
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> &Path {
        self.home.path()
    }

    /// The boards' data directories.
    pub(crate) fn board_data(&self) -> Vec<PathBuf> {
        let beside = |board: &Member| board.config.with_file_name("data");
        self.boards.iter().map(beside).collect()
    }

    /// The gateway's data directory.
    pub(crate) fn gateway_data(&self) -> PathBuf {
        self.home.path().join(crate::init::GATEWAY_DIR).join("data")
    }

    /// The configuration of board `at` (an index).
    pub(crate) fn config(&self, at: usize) -> &Path {
        &self.boards[at].config
    }

    /// How many boards it has.
    pub(crate) fn count(&self) -> usize {
        self.boards.len()
    }

    /// Whether the process of board `at` (an index) runs, as far as we have ended or started it.
    pub(crate) fn runs(&self, at: usize) -> bool {
        self.boards[at].group.is_some()
    }

    /// The process groups of the boards that run.
    pub(crate) fn groups(&self) -> Vec<u32> {
        self.boards
            .iter()
            .filter_map(|board| board.group.as_ref())
            .map(Group::id)
            .collect()
    }

    /// Starts every process.
    pub(crate) fn start_all(&mut self) -> Result<(), Failure> {
        self.gateway.iter_mut().chain(&mut self.boards).try_for_each(Member::start)
    }

    /// A failure if a process has ended although nobody ended it.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        self.gateway.iter_mut().chain(&mut self.boards).try_for_each(Member::check)
    }

    /// Starts board `at` (an index) again.
    pub(crate) fn start(&mut self, at: usize) -> Result<(), Failure> {
        self.boards[at].start()
    }

    /// SIGKILLs board `at` (an index), supervisor and all.
    pub(crate) fn kill(&mut self, at: usize) {
        if let Some(group) = self.boards[at].group.take() {
            group.kill();
        }
    }

    /// SIGKILLs the gateway.
    pub(crate) fn kill_gateway(&mut self) {
        if let Some(group) = self.gateway.as_mut().and_then(|gateway| gateway.group.take()) {
            group.kill();
        }
    }

    /// Starts the gateway again.
    pub(crate) fn start_gateway(&mut self) -> Result<(), Failure> {
        self.gateway.as_mut().map_or(Ok(()), Member::start)
    }

    /// Waits until a board leads; returns its index and term.
    pub(crate) async fn ready(&mut self) -> Result<(usize, u64), Failure> {
        let begun = Instant::now();
        let mut silent = None;
        while begun.elapsed() < READY_MAX {
            self.check()?;
            let mut leader = None;
            silent = None;
            for at in (0..self.count()).filter(|at| self.runs(*at)) {
                match ask(self.plan.boards[at].http).await {
                    Some(status) if status.lease_remaining_ms.is_some() => leader = Some((at, status.term)),
                    Some(_) => {}
                    None => silent = Some(at),
                }
            }
            if let (Some(leader), None) = (leader, silent) {
                return Ok(leader);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        let seconds = READY_MAX.as_secs();
        let (at, what) = match silent {
            Some(at) => (at, format!("board {} does not answer after {seconds} s", at + 1)),
            None => (0, format!("no board leads after {seconds} s")),
        };
        Err(Failure::new(format!("{what}; {}", group::tail(&self.boards[at].log))))
    }

    /// Stops every process cleanly, all at once, and returns the titles of those that had to be killed.
    pub(crate) fn stop_all(&mut self) -> Vec<String> {
        for group in self
            .gateway
            .iter()
            .chain(&self.boards)
            .filter_map(|member| member.group.as_ref())
        {
            group.ask_to_stop();
        }
        let mut killed = Vec::new();
        for member in self.gateway.iter_mut().chain(&mut self.boards) {
            if let Some(group) = member.group.take()
                && !group.wait_stopped()
            {
                killed.push(member.title.clone());
            }
        }
        killed
    }
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap_or_default()
}

/// Takes the region out of a board's configuration.
fn keep_to_itself(config: &Path) -> Result<(), Failure> {
    files::rewrite(config, files::without_region)?;
    let text = files::read_config(config)?;
    match BoardConfig::parse(config, &text) {
        Ok(parsed) if parsed.region.is_none() => Ok(()),
        Ok(_) => Err(Failure::new(format!("{} still names a region", config.display()))),
        Err(refusal) => Err(Failure::new(refusal.to_string())),
    }
}

/// Lets the gateway listen at `own` although boards dial `uplink`: the demo's relay stands between.
fn listen_behind(config: &Path, uplink: SocketAddr, own: SocketAddr) -> Result<(), Failure> {
    files::rewrite(config, |text| text.replace(&format!("\"{uplink}\""), &format!("\"{own}\"")))?;
    let text = files::read_config(config)?;
    match GatewayConfig::parse(config, &text) {
        Ok(parsed) if parsed.listen_quic == own => Ok(()),
        Ok(_) => Err(Failure::new(format!("{} does not say where to listen", config.display()))),
        Err(refusal) => Err(Failure::new(refusal.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(site: &Site, at: usize) -> BoardConfig {
        let path = &site.boards[at].config;
        BoardConfig::parse(path, &fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn boards_dial_the_relay_and_the_gateway_stands_behind_it() {
        let site = Site::make(Home::temporary("test").unwrap(), 3, true).unwrap();
        let path = site.path().to_owned();
        let dialled = site.uplink();
        let configured = board(&site, 2).region.unwrap().gateways[0].address.clone();
        assert_eq!(configured, firmware::config::GatewayPlace::Address(dialled));
        let config = &site.gateway.as_ref().unwrap().config;
        let gateway = GatewayConfig::parse(config, &fs::read(config).unwrap()).unwrap();
        assert_eq!(gateway.listen_quic, site.plan().gateway.quic);
        assert_ne!(gateway.listen_quic, dialled);
        assert_eq!(gateway.data_dir, site.gateway_data());
        drop(site);
        assert!(!path.exists());
    }

    #[test]
    fn without_a_gateway_records_stay_at_the_site() {
        let site = Site::make(Home::temporary("test").unwrap(), 2, false).unwrap();
        assert!(site.gateway.is_none());
        for at in 0..2 {
            let config = board(&site, at);
            assert_eq!((config.region, config.node.copies), (None, 2));
        }
    }

    #[test]
    fn a_directory_with_something_in_it_is_not_taken() {
        let scratch = crate::scratch::Scratch::new("home");
        let home = Home::kept(&scratch.path().join("new")).unwrap();
        let path = home.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(home);
        assert!(path.exists());
        assert!(Home::kept(&path).is_err());
    }
}

//! A site of real processes, as an operator would make it: `roadstead init`, then a gateway and boards that run from its
//! files. Owns directory, ports and processes; when it is dropped nothing of it is left. One site at a time: the
//! machine is one, and what is measured is a whole site.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::group::{Group, program};
use crate::{http, ports, until};

/// A site is up after so long, on a machine that does other things too.
pub(crate) const READY_MAX: Duration = Duration::from_secs(30);
/// Lines at a log's end that a failure shows.
const TAIL_LINES: usize = 15;

/// One at a time, also where the tests of one process are run at the same time.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for this test's turn, and keeps it.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine of the site.
#[derive(Debug)]
struct Member {
    command: &'static str,
    config: PathBuf,
    log: PathBuf,
    prelude: String,
    group: Option<Group>,
}

impl Member {
    fn new(command: &'static str, dir: &Path, file: &str) -> Self {
        Self {
            command,
            config: dir.join(file),
            log: dir.join("log.txt"),
            prelude: String::new(),
            group: None,
        }
    }

    fn start(&mut self) {
        assert!(self.group.is_none(), "{} runs already", self.config.display());
        self.group = Some(Group::start(self.command, &self.config, &self.log, &self.prelude));
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn group(&self) -> &Group {
        self.group.as_ref().expect("it runs")
    }
}

/// A site. Boards go by their number, from 1.
#[derive(Debug)]
pub(crate) struct Site {
    boards: Vec<Member>,
    gateway: Member,
    /// The gateway of a second region, where there is one.
    standby: Option<Member>,
    first_port: u16,
    dir: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    /// Makes a site of `boards` boards; nothing runs yet.
    pub(crate) fn make(boards: u8) -> Self {
        let turn = turn();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let name = format!("roadstead-process-{}-{}", std::process::id(), since.subsec_nanos());
        let dir = std::env::temp_dir().join(name);
        let first_port = ports::first_free(boards);
        init(&dir, boards, "site", first_port);
        let members =
            (1..=boards).map(|number| Member::new("node", &dir.join(format!("board-{number}")), "board.toml"));
        let boards = members.collect();
        let gateway = Member::new("gateway", &dir.join("gateway"), "gateway.toml");
        Self { boards, gateway, standby: None, first_port, dir, _turn: turn }
    }

    /// Makes a site of `boards` boards with its gateway, starts all of it and waits until it is ready.
    pub(crate) fn start(boards: u8) -> Self {
        let mut site = Self::make(boards);
        site.start_gateway();
        site.start_boards();
        site
    }

    /// Makes another site of the same size and addresses, called `name`, below this one's directory; it never runs.
    pub(crate) fn make_stranger(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(format!("stranger-{name}"));
        init(&dir, u8::try_from(self.boards.len()).unwrap(), name, self.first_port);
        dir
    }

    /// Takes the last board out of the site: the others are told nothing of it, but its certificate exists.
    pub(crate) fn forget_last_board(&mut self) {
        let number = self.boards.len();
        let forgotten = format!("board = {number}\nmesh = \"{}\"\n", self.address(number, 0));
        self.boards.pop();
        for board in 1..number {
            self.edit(board, |text| text.replace(&format!("[[peer]]\n{forgotten}"), ""));
        }
    }

    /// Changes the configuration of a board that does not run; that nothing changes is a failure.
    pub(crate) fn edit(&self, board: usize, with: impl FnOnce(&str) -> String) {
        let path = &self.boards[board - 1].config;
        let text = fs::read_to_string(path).unwrap();
        let edited = with(&text);
        assert_ne!(edited, text, "nothing to change in {}", path.display());
        fs::write(path, edited).unwrap();
    }

    /// Adds a table to the configuration of the gateway, which does not run yet.
    pub(crate) fn extend_gateway(&self, table: &str) {
        let path = &self.gateway.config;
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, format!("{text}\n{table}\n")).unwrap();
    }

    /// Has a board started by a shell that runs `prelude` before.
    pub(crate) fn set_prelude(&mut self, board: usize, prelude: &str) {
        prelude.clone_into(&mut self.boards[board - 1].prelude);
    }

    /// Directory of a board.
    pub(crate) fn board_dir(&self, board: usize) -> PathBuf {
        self.dir.join(format!("board-{board}"))
    }

    /// The gateway's directory of data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("gateway").join("data")
    }

    /// Numbers of the boards that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (1..=self.boards.len())
            .filter(|board| self.boards[board - 1].group.is_some())
            .collect()
    }

    fn address(&self, machine: usize, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.first_port + 10 * u16::try_from(machine).unwrap() + port).into()
    }

    /// A board's mesh, UDP.
    pub(crate) fn mesh(&self, board: usize) -> SocketAddr {
        self.address(board, 0)
    }

    /// A board's front door, TCP.
    pub(crate) fn mqtt(&self, board: usize) -> SocketAddr {
        self.address(board, 1)
    }

    /// A board's pages, TCP.
    pub(crate) fn http(&self, board: usize) -> SocketAddr {
        self.address(board, 2)
    }

    /// Where boards dial the gateway, UDP.
    pub(crate) fn gateway_quic(&self) -> SocketAddr {
        self.address(0, 0)
    }

    /// The gateway's API, TCP.
    pub(crate) fn gateway_http(&self) -> SocketAddr {
        self.address(0, 2)
    }

    /// Starts the gateway and waits until it is ready.
    pub(crate) fn start_gateway(&mut self) {
        self.gateway.start();
        let http = self.gateway_http();
        let ready = until(READY_MAX, || http::get(http, "/readyz").is_some());
        assert!(ready, "the gateway does not get ready");
    }

    /// SIGKILLs the gateway.
    pub(crate) fn kill_gateway(&mut self) {
        self.gateway.group = None;
    }

    /// Makes a second region, called `south`, with an authority, a gateway and a store of its own, and tells the boards, none of
    /// which runs yet, of it: the steps of `docs/regions.md`. The first region is `north` from now on.
    pub(crate) fn make_standby(&mut self) {
        let (dir, port) = (self.dir.join("south"), ports::first_free_but(1, self.first_port));
        let made = Command::new(program())
            .args(["init", "--boards", "1", "--site", "site", "--gateway", "south"])
            .args(["--port-base", &port.to_string()])
            .arg(&dir)
            .output()
            .unwrap();
        assert!(made.status.success(), "init: {}", String::from_utf8_lossy(&made.stderr));
        fs::copy(self.dir.join("ca/site-ca.pem"), dir.join("gateway/sites/site.pem")).unwrap();
        let authority = fs::read_to_string(dir.join("ca/region-ca.pem")).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for board in 1..=self.boards.len() {
            let believed = self.board_dir(board).join("region-ca.pem");
            let first = fs::read_to_string(&believed).unwrap();
            fs::write(&believed, format!("{first}{authority}")).unwrap();
            let south = format!(
                "region = \"north\"\n\n[[region.gateway]]\nname = \"south\"\naddress = \"{address}\"\nregion = \"south\"\n"
            );
            self.edit(board, |text| text.replacen("# region = \"north\"\n", &south, 1));
        }
        self.standby = Some(Member::new("gateway", &dir.join("gateway"), "gateway.toml"));
    }

    fn standby(&mut self) -> &mut Member {
        self.standby.as_mut().expect("it was made")
    }

    /// Starts the second region's gateway and waits until it is ready.
    pub(crate) fn start_standby(&mut self) {
        self.standby().start();
        let http = self.standby_http();
        let ready = until(READY_MAX, || http::get(http, "/readyz").is_some());
        assert!(ready, "the second region's gateway does not get ready\n{}", self.tails());
    }

    /// SIGKILLs it.
    pub(crate) fn kill_standby(&mut self) {
        self.standby().group = None;
    }

    /// Its directory of data.
    pub(crate) fn standby_data_dir(&self) -> PathBuf {
        self.dir.join("south/gateway/data")
    }

    /// Its API, TCP.
    pub(crate) fn standby_http(&self) -> SocketAddr {
        let config = &self.standby.as_ref().expect("it was made").config;
        let text = fs::read_to_string(config).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("http = \"")).unwrap();
        line.trim_end_matches('"').parse().unwrap()
    }

    /// The gateway's process.
    pub(crate) fn gateway_process(&self) -> u32 {
        self.gateway.group().first()
    }

    /// Starts every board that does not run and waits until the site is ready.
    pub(crate) fn start_boards(&mut self) {
        self.launch_boards();
        self.wait_ready();
    }

    /// The same where nobody can be elected: they hear and reach each other.
    pub(crate) fn start_boards_unled(&mut self) {
        self.launch_boards();
        let running = self.running();
        let up = until(READY_MAX, || running.iter().all(|board| self.sees_all(*board, &running)));
        assert!(up, "the boards do not hear each other\n{}", self.tails());
    }

    /// Starts one board, and waits for nothing.
    pub(crate) fn launch(&mut self, board: usize) {
        self.boards[board - 1].start();
    }

    fn launch_boards(&mut self) {
        for member in self.boards.iter_mut().filter(|member| member.group.is_none()) {
            member.start();
        }
    }

    /// SIGKILL to board and supervisor, at once, without waiting for their end; returns when the kernel had it.
    pub(crate) fn strike(&self, board: usize) -> Instant {
        self.boards[board - 1].group().strike();
        Instant::now()
    }

    /// SIGKILLs a board and its supervisor; returns when they are gone.
    pub(crate) fn kill(&mut self, board: usize) {
        self.boards[board - 1].group = None;
    }

    /// SIGKILL to a board's supervisor alone.
    pub(crate) fn strike_supervisor(&self, board: usize) {
        self.boards[board - 1].group().strike_first();
    }

    /// Lets a board stand still, supervisor and all, or go on again.
    pub(crate) fn stand_still(&self, board: usize, still: bool) {
        self.boards[board - 1].group().stand_still(still);
    }

    /// SIGTERM to a board's supervisor.
    pub(crate) fn ask_to_stop(&self, board: usize) {
        self.boards[board - 1].group().ask_to_stop();
    }

    /// Waits for the end of a board that was asked to stop; whether it was a good one, within `within`.
    pub(crate) fn has_stopped(&mut self, board: usize, within: Duration) -> bool {
        let status = self.boards[board - 1].group.as_mut().and_then(|group| group.ended(within));
        self.boards[board - 1].group = None;
        status.is_some_and(|status| status.success())
    }

    /// SIGTERM to the gateway; whether it ended well within `within`.
    pub(crate) fn stop_gateway(&mut self, within: Duration) -> bool {
        self.gateway.group().ask_to_stop();
        let status = self.gateway.group.as_mut().and_then(|group| group.ended(within));
        self.gateway.group = None;
        status.is_some_and(|status| status.success())
    }

    /// The process of a board itself; `None` while its supervisor has none.
    pub(crate) fn node_process(&self, board: usize) -> Option<u32> {
        self.boards[board - 1].group().second()
    }

    /// Runs `roadstead` with `words` and the board's configuration, the gateway's for board 0: how it ended, and what it said.
    pub(crate) fn command(&self, board: usize, words: &[&str]) -> (bool, String) {
        let member = board.checked_sub(1).map_or(&self.gateway, |at| &self.boards[at]);
        let mut command = Command::new(program());
        let output = command.args(words).arg("--config").arg(&member.config).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// What a board says of itself.
    pub(crate) fn status(&self, board: usize) -> Option<Value> {
        http::status(self.http(board))
    }

    /// The board that holds the lease, and its term.
    pub(crate) fn leader(&self) -> Option<(usize, u64)> {
        self.running().into_iter().find_map(|board| {
            let status = self.status(board)?;
            status["lease_remaining_ms"].as_u64()?;
            Some((board, status["term"].as_u64()?))
        })
    }

    /// Waits until every running board is ready, hears and reaches every other one, one of them leads, and all have noted
    /// that: only then each one's vote counts for the next leader.
    pub(crate) fn wait_ready(&self) {
        let running = self.running();
        let has_joined = |board: &usize| self.status(*board).is_some_and(|status| status["vote"]["joined"] == true);
        let ready = until(READY_MAX, || {
            let is_up = |board: &usize| self.is_ready(*board, &running) && has_joined(board);
            running.iter().all(is_up) && self.leader().is_some()
        });
        assert!(ready, "the site does not get ready\n{}", self.tails());
    }

    /// Whether a board is ready, and hears and reaches every one of `running`.
    pub(crate) fn is_ready(&self, board: usize, running: &[usize]) -> bool {
        self.sees_all(board, running) && http::get(self.http(board), "/readyz").is_some()
    }

    fn sees_all(&self, board: usize, running: &[usize]) -> bool {
        let Some(status) = self.status(board) else { return false };
        let sees = |peer: &Value| {
            let number = peer["board"].as_u64().and_then(|number| usize::try_from(number).ok());
            !number.is_some_and(|number| running.contains(&number)) || (peer["alive"] == true && peer["linked"] == true)
        };
        status["boards"].as_array().is_some_and(|peers| peers.iter().all(sees))
    }

    /// All that a board has logged.
    pub(crate) fn board_log(&self, board: usize) -> String {
        self.boards[board - 1].log()
    }

    /// All that the gateway has logged.
    pub(crate) fn gateway_log(&self) -> String {
        self.gateway.log()
    }

    /// The ends of all logs, for a failure's message.
    pub(crate) fn tails(&self) -> String {
        let tail = |member: &Member| {
            let log = member.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n    ");
            format!("the end of {}:\n    {end}\n", member.log.display())
        };
        self.boards
            .iter()
            .chain([&self.gateway])
            .chain(&self.standby)
            .map(tail)
            .collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tails());
        }
        for member in self.boards.iter_mut().chain([&mut self.gateway]).chain(&mut self.standby) {
            member.group = None;
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("could not remove {}: {error}", self.dir.display());
        }
    }
}

fn init(dir: &Path, boards: u8, name: &str, first_port: u16) {
    let made = Command::new(program())
        .arg("init")
        .arg(dir)
        .args(["--boards", &boards.to_string(), "--site", name, "--port-base", &first_port.to_string()])
        .output()
        .unwrap();
    assert!(made.status.success(), "init: {}", String::from_utf8_lossy(&made.stderr));
}

//! A site for a trial of faults: boards in namespaces of their own, or on loopback where there can be none, with one
//! exclusive duty that beats to the observer. Owns its directory, processes and cables; when it is dropped nothing is
//! left. Strikes where it is told; judges nothing.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::beat::Stamp;
use super::emulator::{Conditions, Relay};
use super::files;
use super::lab::{Lab, SWITCH};
use super::leaders::Leaders;
use super::namespace::Namespace;
use super::observer::Observer;
use super::{ask, namespace};
use crate::bench::kin::{self, Kin};
use crate::demo::group::tail;
use crate::demo::site::Home;
use crate::failure::Failure;

/// First port of every machine: mesh on it, MQTT on the next, HTTP on the one after.
pub(super) const PORT: u16 = 7400;
/// Whoever acts beats far more often than this.
pub(super) const ACTS_WITHIN: Duration = Duration::from_millis(60);
/// Whoever stands by says so more often than this.
const READY_WITHIN: Duration = Duration::from_millis(500);
/// Beats that may wait for the observer: the default of 10 is 5 ms of them.
const QUEUE: &str = "1000";

/// What a site is to be like.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How many boards.
    pub boards: u8,
    /// `timing.preset`, where it is not the default.
    pub preset: Option<&'static str>,
    /// A witness beside them, this round trip away.
    pub witness: Option<Duration>,
    /// Whether every pair of boards talks through relays, whose conditions can be set.
    pub relays: bool,
    /// The program, whose path other processes can use.
    pub program: PathBuf,
    /// Where its directory is made.
    pub below: PathBuf,
}

/// One board.
#[derive(Debug)]
struct Board {
    dir: PathBuf,
    http: SocketAddr,
    kin: Option<Kin>,
}

/// The site. Boards go by their number, from 1.
#[derive(Debug)]
pub struct Site {
    boards: Vec<Board>,
    witness: Option<(PathBuf, Kin)>,
    relays: Vec<(u8, u8, Relay)>,
    leaders: Option<Leaders>,
    observer: Observer,
    lab: Option<Lab>,
    wanted: Wanted,
    // Dropped last: processes write into it.
    _home: Home,
}

impl Site {
    /// Makes and starts it. Whether it is whole is another question.
    pub fn start(wanted: Wanted) -> Result<Self, Failure> {
        let home = Home::temporary_in(&wanted.below, "failover")?;
        let is_in_namespaces = namespace::lacking().is_none();
        let machines = usize::from(wanted.boards) + usize::from(wanted.witness.is_some());
        let lab = is_in_namespaces.then(|| Lab::build(machines)).transpose()?;
        let first_port = if lab.is_some() { PORT } else { files::free_ports(wanted.boards)? };
        files::init(&wanted, &home, lab.is_some(), first_port)?;
        let path = home.path().join("observer");
        let observer = observe(lab.as_ref(), &path)?;
        let boards = (1..=wanted.boards)
            .map(|board| Board {
                dir: home.path().join(format!("board-{board}")),
                http: http(lab.is_some(), board, first_port),
                kin: None,
            })
            .collect();
        let mut site = Self {
            boards,
            witness: None,
            relays: Vec::new(),
            leaders: None,
            observer,
            lab,
            wanted,
            _home: home,
        };
        site.set_up(first_port)?;
        Ok(site)
    }

    fn set_up(&mut self, first_port: u16) -> Result<(), Failure> {
        if self.wanted.relays {
            self.start_relays(first_port)?;
        }
        self.start_witness(first_port)?;
        let duty = files::duty(&self.wanted.program, self.observer.path());
        let mut knows_duties = true;
        for board in &self.boards {
            files::settle(&board.dir, board.http, self.wanted.preset)?;
            knows_duties &= files::append_duty(&self.wanted.program, &board.dir, &duty)?;
        }
        if !knows_duties {
            eprintln!(
                "NOTE: this build takes no [[duty]]: what is watched is who says that it leads, asked every 2 ms over HTTP"
            );
            let faces = (1..=self.wanted.boards).map(|board| (board, self.boards[usize::from(board) - 1].http));
            let inside = |board: u8| self.lab.as_ref().map(|lab| lab.machine(usize::from(board) - 1));
            self.leaders =
                Some(Leaders::watch(faces.map(|(board, http)| (board, http, inside(board))), &self.observer)?);
        }
        (1..=self.wanted.boards).try_for_each(|board| self.start_board(board))
    }

    /// Every pair of boards gets a relay for each of the two that may dial.
    fn start_relays(&mut self, first_port: u16) -> Result<(), Failure> {
        for from in 1..=self.wanted.boards {
            for to in (1..=self.wanted.boards).filter(|to| *to != from) {
                let target = self.mesh(to, first_port);
                let at = match self.lab {
                    Some(_) => SocketAddr::from((SWITCH, 20_000 + u16::from(from) * 100 + u16::from(to))),
                    None => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                };
                let seed = u64::from(from) << 8 | u64::from(to);
                let (clean, made) = (Conditions::default(), self.lab.as_ref().map(Lab::switch));
                let relay = inside(made, move || Relay::start(at, target, clean, clean, seed))?
                    .map_err(|error| Failure::new("cannot start a relay").because(error))?;
                let dir = &self.boards[usize::from(from) - 1].dir;
                files::replace(dir, &format!("mesh = \"{target}\""), &format!("mesh = \"{}\"", relay.address()))?;
                self.relays.push((from, to, relay));
            }
        }
        Ok(())
    }

    fn mesh(&self, board: u8, first_port: u16) -> SocketAddr {
        match self.lab {
            Some(_) => (Lab::address(usize::from(board) - 1), PORT).into(),
            None => (Ipv4Addr::LOCALHOST, first_port + 10 * u16::from(board)).into(),
        }
    }

    /// The gateway is the witness, behind a relay that is as far away as the region.
    fn start_witness(&mut self, first_port: u16) -> Result<(), Failure> {
        let Some(rtt) = self.wanted.witness else { return Ok(()) };
        let dir = self._home.path().join(crate::init::GATEWAY_DIR);
        let one_way = Conditions { loss_permille: 0, delay: rtt / 2, jitter: rtt / 20 };
        let at = usize::from(self.wanted.boards);
        let own = self.lab.as_ref().map(|lab| lab.machine(at));
        let target = files::witness_address(&dir)?;
        let front: SocketAddr = match &self.lab {
            Some(_) => (Lab::address(at), PORT + 50).into(),
            None => (Ipv4Addr::LOCALHOST, first_port + 9).into(),
        };
        let relay = inside(own, move || Relay::start(front, target, one_way, one_way, 60))?
            .map_err(|error| Failure::new("cannot start the witness's relay").because(error))?;
        for board in &self.boards {
            files::point_witness(&board.dir, target, relay.address())?;
        }
        let mut command = Command::new(&self.wanted.program);
        command.args(["gateway", "--config"]).arg(dir.join(crate::init::GATEWAY_FILE));
        let log = dir.join("log.txt");
        let kin = begin(own, command, &log)?;
        self.witness = Some((log, kin));
        self.relays.push((0, 0, relay));
        Ok(())
    }

    /// Starts a board that does not run.
    pub fn start_board(&mut self, board: u8) -> Result<(), Failure> {
        let at = usize::from(board) - 1;
        let own = self.lab.as_ref().map(|lab| lab.machine(at));
        let mut command = Command::new(&self.wanted.program);
        command
            .args(["node", "--config"])
            .arg(self.boards[at].dir.join(crate::init::BOARD_FILE));
        let kin = begin(own, command, &self.boards[at].dir.join("log.txt"))?;
        self.boards[at].kin = Some(kin);
        Ok(())
    }

    /// The observer.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Whether boards have cables that can be pulled.
    pub fn has_cables(&self) -> bool {
        self.lab.is_some()
    }

    /// The switch and the machines, where there are any.
    pub fn lab(&self) -> Option<&Lab> {
        self.lab.as_ref()
    }

    /// Sets the conditions of the way from board `from` to board `to`, on all that the two have between them.
    pub fn set_way(&self, from: u8, to: u8, conditions: Conditions, other_way: Conditions) {
        for (dials, target, relay) in &self.relays {
            if (*dials, *target) == (from, to) {
                relay.set(conditions, other_way);
            } else if (*dials, *target) == (to, from) {
                relay.set(other_way, conditions);
            }
        }
    }

    /// Every living process of a board, its supervisor first.
    pub fn processes(&self, board: u8) -> Vec<u32> {
        self.kin(board).map(Kin::all).unwrap_or_default()
    }

    fn kin(&self, board: u8) -> Option<&Kin> {
        self.boards[usize::from(board) - 1].kin.as_ref()
    }

    /// SIGKILL to the node of a board; its supervisor lives.
    pub fn kill_node(&self, board: u8) -> Result<Stamp, Failure> {
        let node = self
            .kin(board)
            .and_then(Kin::node)
            .ok_or_else(|| Failure::new(format!("board {board} has no node process")))?;
        Ok(kin::send(&[node], Signal::KILL))
    }

    /// SIGKILL to the supervisor and the node of a board, at one stroke.
    pub fn kill_supervisor_and_node(&mut self, board: u8) -> Result<Stamp, Failure> {
        let kin = self
            .kin(board)
            .ok_or_else(|| Failure::new(format!("board {board} does not run")))?;
        let both: Vec<u32> = [Some(kin.first()), kin.node()].into_iter().flatten().collect();
        Ok(kin::send(&both, Signal::KILL))
    }

    /// SIGKILL to all that belongs to a board, workloads too.
    pub fn kill_all(&mut self, board: u8) -> Stamp {
        kin::send(&self.processes(board), Signal::KILL)
    }

    /// Lets all that belongs to a board stand still, or go on.
    pub fn stand_still(&self, board: u8, still: bool) -> Stamp {
        kin::send(&self.processes(board), if still { Signal::STOP } else { Signal::CONT })
    }

    /// The board that says that it leads.
    pub fn leader(&self) -> Option<u8> {
        (1..=self.wanted.boards).find(|board| {
            self.status(*board)
                .is_some_and(|status| !status["lease_remaining_ms"].is_null())
        })
    }

    /// Asks the leader to hand over, by its control socket; in a build without one `holder` gets SIGTERM.
    pub fn hand_over(&mut self, holder: u8) -> Result<Stamp, Failure> {
        let board = self.leader().unwrap_or(holder);
        let socket = self.boards[usize::from(board) - 1].dir.join("data").join("control.sock");
        if socket.exists() {
            return ask::hand_over(&socket);
        }
        let first = self.kin(holder).map(Kin::first).into_iter().collect::<Vec<_>>();
        Ok(kin::send(&first, Signal::TERM))
    }

    /// Starts every board again whose supervisor has ended.
    pub fn restart_ended(&mut self) -> Result<(), Failure> {
        for board in 1..=self.wanted.boards {
            let kin = self.boards[usize::from(board) - 1].kin.as_mut();
            if kin.is_none_or(|kin| kin.ended().is_some()) {
                // What it has left behind ends first.
                self.boards[usize::from(board) - 1].kin = None;
                self.start_board(board)?;
            }
        }
        Ok(())
    }

    /// What a board says of itself.
    pub fn status(&self, board: u8) -> Option<Value> {
        let at = usize::from(board) - 1;
        let http = self.boards[at].http;
        let own = self.lab.as_ref().map(|lab| lab.machine(at));
        inside(own, move || ask::status(http)).ok().flatten()
    }

    /// What the site still lacks: every board hears and reaches every other one, one leads and acts, all others stand by.
    /// `None` when it is whole.
    pub fn lacks(&self) -> Option<String> {
        let mut leads = 0;
        for board in 1..=self.wanted.boards {
            let Some(status) = self.status(board) else {
                return Some(format!("board {board} does not answer"));
            };
            let sees = |peer: &Value| peer["alive"] == true && peer["linked"] == true;
            if !status["boards"].as_array().is_some_and(|peers| peers.iter().all(sees)) {
                return Some(format!("board {board} does not see all others"));
            }
            let vote = &status["vote"];
            if !vote["abstains_ms"].is_null() {
                return Some(format!("board {board} abstains after its restart"));
            }
            if vote["joined"] != true || vote["witnesses_strange"] != Value::Array(Vec::new()) {
                return Some(format!("board {board} or its witness is new to the site"));
            }
            leads += usize::from(!status["lease_remaining_ms"].is_null());
        }
        if leads != 1 {
            return Some(format!("{leads} boards say that they lead"));
        }
        let ready = self.observer.ready(READY_WITHIN);
        if let Some(board) = (1..=self.wanted.boards).find(|board| !ready.contains(board)) {
            return Some(format!("nobody stands by on board {board}"));
        }
        self.observer.acting(ACTS_WITHIN).is_none().then(|| "nobody acts".to_owned())
    }

    /// The ends of all logs, for a failure's message.
    pub fn tails(&self) -> String {
        let logs = self.boards.iter().map(|board| board.dir.join("log.txt"));
        let logs = logs.chain(self.witness.iter().map(|(log, _)| log.clone()));
        logs.map(|log| tail(&log) + "\n").collect()
    }

    /// The lease and the rest of the clockwork that its boards run with, as they are written down.
    pub fn timing(&self) -> String {
        files::timing(&self.boards[0].dir)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.leaders = None;
        self.boards.iter_mut().for_each(|board| board.kin = None);
        self.witness = None;
        self.relays.clear();
    }
}

/// Does `work` in `place`, or here where there is none.
pub(super) fn inside<T: Send + 'static>(
    place: Option<&Namespace>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    match place {
        Some(namespace) => namespace.within(work),
        None => Ok(work()),
    }
}

/// Starts `command` in `place`.
pub(super) fn begin(place: Option<&Namespace>, command: Command, log: &Path) -> Result<Kin, Failure> {
    let what = format!("cannot start `{}`", command.get_program().to_string_lossy());
    let log = log.to_owned();
    inside(place, move || Kin::start(command, &log))?.map_err(|error| Failure::new(what).because(error))
}

/// The observer's socket is opened in the switch's namespace, where its queue can be made longer.
fn observe(lab: Option<&Lab>, path: &Path) -> Result<Observer, Failure> {
    let (bound, is_ours) = (path.to_owned(), lab.is_some());
    let open = move || -> io::Result<UnixDatagram> {
        if is_ours && let Err(error) = fs::write("/proc/sys/net/unix/max_dgram_qlen", QUEUE) {
            eprintln!("the observer's queue stays short: {error}");
        }
        UnixDatagram::bind(&bound)
    };
    inside(lab.map(Lab::switch), open)?
        .and_then(|socket| Observer::start(socket, path))
        .map_err(|error| Failure::new(format!("cannot observe at {}", path.display())).because(error))
}

/// In a namespace pages are on its loopback, so that they answer without a cable too.
fn http(has_namespace: bool, board: u8, first_port: u16) -> SocketAddr {
    let port = if has_namespace {
        PORT + 2
    } else {
        first_port + 10 * u16::from(board) + 2
    };
    (Ipv4Addr::LOCALHOST, port).into()
}

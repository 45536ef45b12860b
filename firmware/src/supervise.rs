//! A small process that outlives the node: starts it, passes signals on, starts it again when it ends badly. It also runs
//! the users' processes, as the node orders, so that their end is seen to even where the node hangs or is killed: when
//! the node ends, they are ended first, then its end is announced, then it is started again. It holds no data and decides
//! nothing, so there is little in it that could fail.

pub mod channel;
mod crew;
mod launch;
mod process;
mod workload;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

pub use launch::{LAUNCH_VARIABLE, launch};
pub use process::Place;

use crate::config::DutyProcess;
use crew::Crew;

/// The environment variable in which the supervisor tells the node its own process number.
pub const SUPERVISOR_VARIABLE: &str = "ROADSTEAD_SUPERVISOR";
/// The environment variable in which the supervisor tells the node how often it ended badly.
pub const RESTARTS_VARIABLE: &str = "ROADSTEAD_RESTARTS";
/// The environment variable in which the supervisor tells the node which life this is: the nonce of its epoch.
pub const LIFE_VARIABLE: &str = "ROADSTEAD_LIFE";
/// Exit status of a node whose journal is poisoned: it must recover, so it is started again.
pub const EXIT_POISONED: u8 = 75;
/// Exit status of a node that cannot run until a person mends something: it is not started again.
pub const EXIT_UNUSABLE: u8 = 78;

/// Wait before the first restart. Short: peers notice a dead board after 400 ms.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest wait before a restart.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A node that ran so long was a good one: the next restart comes soon.
const GOOD_AFTER: Duration = Duration::from_secs(30);
/// Restarts without a good run between them. At the limit the supervisor gives up, and the system's own takes over.
const RESTARTS_MAX: u32 = 20;
/// A node that was asked to stop is killed after so long: it gives itself 5 s.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Why a node is not kept running.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// It cannot be started.
    #[error("cannot start the node's process")]
    Start(#[source] io::Error),
    /// Signals cannot be received, or the process not be waited for.
    #[error("cannot watch over the node's process")]
    Watch(#[source] io::Error),
    /// It says that a person must mend something; its own message says what.
    #[error("the node cannot run as it is set up; its message above says why")]
    Unusable,
    /// It ended badly too often.
    #[error("the node ended {restarts} times in a row without running for {good:?}; last {status}", good = GOOD_AFTER)]
    TooOften {
        /// How often.
        restarts: u32,
        /// How the last one ended.
        status: ExitStatus,
    },
}

/// What happened to the node.
enum Happened {
    Stop(Signal),
    Ended(io::Result<ExitStatus>),
}

/// The users' processes that a supervisor runs for its board.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Which.
    pub processes: Vec<DutyProcess>,
    /// Where.
    pub place: Place,
}

/// One life of the node: its process, and those that it gives orders for.
struct Life {
    child: Child,
    crew: Crew,
    number: u64,
}

/// Signals that a person or the system sends to a supervisor.
struct Wishes {
    terminate: Signals,
    interrupt: Signals,
    hangup: Signals,
}

impl Wishes {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next wish, as the signal to pass on.
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }

    /// The next wish to stop.
    async fn stop(&mut self) {
        while self.next().await == Signal::HUP {}
    }
}

/// Runs the node that `command` starts until it stops as asked (SIGTERM or SIGINT, passed on), and starts it again
/// when it ends otherwise; SIGHUP is passed on too. The child must call [`bind_to_supervisor`] first. Each life's number is `announce`d once the
/// node of that life, and every process that it gave orders for, has ended: nothing of it can act any more. Needs a
/// runtime of one thread: the children die with the thread that started them.
pub async fn supervise(
    mut command: impl FnMut() -> Command,
    charge: Charge,
    mut announce: impl FnMut(u64),
) -> Result<(), SuperviseError> {
    let mut wishes = Wishes::new().map_err(SuperviseError::Watch)?;
    let (mut backoff, mut restarts) = (BACKOFF_MIN, 0);
    loop {
        let began = Instant::now();
        let mut life = Life::start(command(), restarts, &charge).map_err(SuperviseError::Start)?;
        let (status, was_asked) = life.watch(&mut wishes).await;
        let number = life.number;
        life.crew.end().await;
        announce(number);
        let status = status.map_err(SuperviseError::Watch)?;
        if was_asked || status.success() {
            return Ok(());
        }
        if status.code() == Some(i32::from(EXIT_UNUSABLE)) {
            return Err(SuperviseError::Unusable);
        }
        if began.elapsed() >= GOOD_AFTER {
            (backoff, restarts) = (BACKOFF_MIN, 0);
        }
        restarts += 1;
        if restarts > RESTARTS_MAX {
            return Err(SuperviseError::TooOften { restarts, status });
        }
        let poisoned = status.code() == Some(i32::from(EXIT_POISONED));
        tracing::error!(%status, poisoned, restarts, wait_ms = backoff.as_millis(), "the node ended; it is started again");
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = wishes.stop() => return Ok(()),
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

impl Life {
    fn start(mut command: Command, restarts: u32, charge: &Charge) -> io::Result<Self> {
        let number = link::entropy::draw()?;
        let (ours, theirs) = StdDatagram::pair()?;
        let child = command
            .env(SUPERVISOR_VARIABLE, std::process::id().to_string())
            .env(RESTARTS_VARIABLE, restarts.to_string())
            .env(LIFE_VARIABLE, number.to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()?;
        let crew = Crew::start(charge, ours)?;
        Ok(Self { child, crew, number })
    }

    /// Waits for the node's end, and passes on what people wish: how it ended, and whether it was asked to.
    async fn watch(&mut self, wishes: &mut Wishes) -> (io::Result<ExitStatus>, bool) {
        let happened = loop {
            tokio::select! {
                status = self.child.wait() => break Happened::Ended(status),
                signal = wishes.next() => match signal {
                    Signal::HUP => self.pass_on(signal),
                    _ => break Happened::Stop(signal),
                },
                () = self.crew.serve() => unreachable!("a crew is served until it is dropped"),
            }
        };
        match happened {
            Happened::Ended(status) => (status, false),
            Happened::Stop(signal) => (self.stop(signal).await, true),
        }
    }

    fn pass_on(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            // Where it is gone already, waiting for it says so.
            let _ = kill_process(pid, signal);
        }
    }

    async fn stop(&mut self, signal: Signal) -> io::Result<ExitStatus> {
        self.pass_on(signal);
        let ended = tokio::select! {
            status = self.child.wait() => Some(status),
            () = tokio::time::sleep(STOP_MAX) => None,
            () = self.crew.serve() => unreachable!("a crew is served until it is dropped"),
        };
        match ended {
            Some(status) => status,
            None => {
                tracing::error!("the node did not stop in time; it is killed");
                self.child.kill().await?;
                self.child.wait().await
            }
        }
    }
}

/// Called first by a node's process: from now on it dies when its supervisor does, so that no two nodes ever run on
/// one board. Without a supervisor nothing is changed.
///
/// # Errors
/// Where the supervisor is gone already; the process must end.
pub fn bind_to_supervisor() -> io::Result<()> {
    let Ok(supervisor) = std::env::var(SUPERVISOR_VARIABLE) else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before the line above took effect.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if parent.as_deref() == Some(supervisor.as_str()) {
        return Ok(());
    }
    Err(io::Error::other("the supervisor that started this node is gone"))
}

#[cfg(test)]
mod tests;

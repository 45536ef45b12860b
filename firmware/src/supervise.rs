//! A small process that outlives the node: starts it, passes signals on, starts it again when it ends badly. It holds
//! no data and speaks to nobody, so there is little in it that could fail.

use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// The environment variable in which the supervisor tells the node its own process number.
pub const SUPERVISOR_VARIABLE: &str = "ROADSTEAD_SUPERVISOR";
/// The environment variable in which the supervisor tells the node how often it ended badly.
pub const RESTARTS_VARIABLE: &str = "ROADSTEAD_RESTARTS";
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

/// What a person asked for.
enum Asked {
    Stop(Signal),
    Ended(io::Result<ExitStatus>),
}

/// Runs the node that `command` starts until it stops as asked (SIGTERM or SIGINT, passed on), and starts it again
/// when it ends otherwise. The child must call [`bind_to_supervisor`] first. Needs a runtime of one thread: the child
/// dies with the thread that started it.
pub async fn supervise(mut command: impl FnMut() -> Command) -> Result<(), SuperviseError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(SuperviseError::Watch)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SuperviseError::Watch)?;
    let (mut backoff, mut restarts) = (BACKOFF_MIN, 0);
    loop {
        let began = Instant::now();
        let mut child = command()
            .env(SUPERVISOR_VARIABLE, std::process::id().to_string())
            .env(RESTARTS_VARIABLE, restarts.to_string())
            .kill_on_drop(true)
            .spawn()
            .map_err(SuperviseError::Start)?;
        let asked = tokio::select! {
            _ = terminate.recv() => Asked::Stop(Signal::TERM),
            _ = interrupt.recv() => Asked::Stop(Signal::INT),
            status = child.wait() => Asked::Ended(status),
        };
        let status = match asked {
            Asked::Stop(signal) => return stop(child, signal).await,
            Asked::Ended(status) => status.map_err(SuperviseError::Watch)?,
        };
        if status.success() {
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
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn stop(mut child: Child, signal: Signal) -> Result<(), SuperviseError> {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
        // Where it is gone already, the wait below says so.
        let _ = kill_process(pid, signal);
    }
    match tokio::time::timeout(STOP_MAX, child.wait()).await {
        Ok(status) => {
            status.map_err(SuperviseError::Watch)?;
        }
        Err(_) => {
            tracing::error!("the node did not stop in time; it is killed");
            child.kill().await.map_err(SuperviseError::Watch)?;
        }
    }
    Ok(())
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

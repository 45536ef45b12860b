//! The last step before a user's process: binds it to its supervisor, limits it, and becomes it. Runs in a process of its
//! own (`roadstead duty-launch`), because what it does can only be done from within.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal, getppid, nice, set_parent_process_death_signal, setrlimit};
use serde::{Deserialize, Serialize};

use crate::config::DutyProcess;

/// The environment variable that tells the launcher what to launch; the process does not see it.
pub const LAUNCH_VARIABLE: &str = "ROADSTEAD_LAUNCH";

/// What is launched, and how.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Launch {
    /// The supervisor's process number.
    parent: u32,
    command: Vec<String>,
    memory_max_mib: Option<u32>,
    files_max: u32,
    nice: u8,
    directory: Option<PathBuf>,
    environment: BTreeMap<String, String>,
}

impl Launch {
    pub(super) fn of(process: &DutyProcess) -> Self {
        Self {
            parent: std::process::id(),
            command: process.command.clone(),
            memory_max_mib: process.memory_max_mib,
            files_max: process.files_max,
            nice: process.nice,
            directory: process.directory.clone(),
            environment: process.environment.clone(),
        }
    }
}

/// Becomes the process that [`LAUNCH_VARIABLE`] describes; returns only why that could not be done.
pub fn launch() -> io::Error {
    match prepared() {
        Ok(mut command) => command.exec(),
        Err(error) => error,
    }
}

fn prepared() -> io::Result<Command> {
    let text = std::env::var(LAUNCH_VARIABLE)
        .map_err(|_| io::Error::other("this is run by the supervisor of a board, not by people"))?;
    let launch: Launch = serde_json::from_str(&text).map_err(io::Error::other)?;
    // The kernel ends this process with the supervisor's; the rest of its group is the supervisor's to end.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent != Some(launch.parent) {
        return Err(io::Error::other("the supervisor that started this process is gone"));
    }
    if let Some(mib) = launch.memory_max_mib {
        limit(Resource::Data, u64::from(mib) * 1024 * 1024)?;
    }
    limit(Resource::Nofile, u64::from(launch.files_max))?;
    limit(Resource::Core, 0)?;
    nice(i32::from(launch.nice))?;
    let (program, words) = launch
        .command
        .split_first()
        .ok_or_else(|| io::Error::other("there is no command"))?;
    let mut command = Command::new(program);
    command.args(words).env_remove(LAUNCH_VARIABLE).envs(&launch.environment);
    if let Some(directory) = &launch.directory {
        command.current_dir(directory);
    }
    Ok(command)
}

/// Lowers a limit for good. What is lower already stays.
fn limit(resource: Resource, to: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let to = hard.map_or(to, |hard| hard.min(to));
    Ok(setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) })?)
}

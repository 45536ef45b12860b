//! A board or gateway as a process group of its own, so that whatever it starts ends with it. Owns starting, signals and
//! what the kernel says of the processes; ends nothing that it has not started.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, kill_process_group, prlimit};

use crate::until;

/// Members of a killed group are gone after so long: only the kernel's own work can hold them.
const GONE_MAX: Duration = Duration::from_secs(5);

/// The program under test.
pub(crate) fn program() -> PathBuf {
    let path = std::env::var_os("ROADSTEAD_BIN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/roadstead"), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is not there: run `cargo build --release` first, or name the program in ROADSTEAD_BIN",
        path.display()
    );
    path
}

/// A process group. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    id: Pid,
}

impl Group {
    /// Starts `roadstead <command> --config <config>`; what it says is appended to `log`. `prelude` is shell that runs in
    /// the same process before: limits, signals that are ignored.
    pub(crate) fn start(command: &str, config: &Path, log: &Path, prelude: &str) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let script = format!("{prelude} exec \"$0\" \"$@\"");
        let child = Command::new("sh")
            .args(["-c", &script])
            .arg(program())
            .args([command, "--config"])
            .arg(config)
            .env_remove("ROADSTEAD_LOG")
            .env_remove("ROADSTEAD_LOG_FORM")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let id = Pid::from_child(&child);
        Self { child, id }
    }

    /// The process that was started: a gateway, or a board's supervisor.
    pub(crate) fn first(&self) -> u32 {
        self.child.id()
    }

    /// The process that the first one started: the board itself, if it runs.
    pub(crate) fn second(&self) -> Option<u32> {
        let own = self.child.id();
        processes().into_iter().find(|process| {
            standing(*process).is_some_and(|standing| standing.parent == own && standing.group == own && standing.lives)
        })
    }

    /// SIGKILL to every member, and nothing else: no wait.
    pub(crate) fn strike(&self) {
        // While a member lives the kernel gives the group's number to nobody else; an error means that none does.
        let _ = kill_process_group(self.id, Signal::KILL);
    }

    /// SIGKILL to the first process alone.
    pub(crate) fn strike_first(&self) {
        kill_process(self.id, Signal::KILL).unwrap();
    }

    /// Lets every member stand still, or go on again.
    pub(crate) fn stand_still(&self, still: bool) {
        kill_process_group(self.id, if still { Signal::STOP } else { Signal::CONT }).unwrap();
    }

    /// SIGTERM to the first process.
    pub(crate) fn ask_to_stop(&self) {
        kill_process(self.id, Signal::TERM).unwrap();
    }

    /// How the first process ended, if it does within `within`.
    pub(crate) fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let mut status = None;
        until(within, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.strike();
        let _ = self.child.wait();
        let own = self.child.id();
        until(GONE_MAX, || {
            !processes()
                .into_iter()
                .filter_map(standing)
                .any(|one| one.group == own && one.lives)
        });
    }
}

/// What the kernel says of a process.
struct Standing {
    parent: u32,
    group: u32,
    /// Whether it is more than a record of its end.
    lives: bool,
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Fields 3 to 5 of `/proc/<process>/stat` (proc(5)); the name before them, in parentheses, may hold anything.
fn standing(process: u32) -> Option<Standing> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let lives = !matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Standing { parent, group, lives })
}

/// Whether `process` runs.
pub(crate) fn runs(process: u32) -> bool {
    standing(process).is_some_and(|standing| standing.lives)
}

/// Resident memory of `process` in KiB.
pub(crate) fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// From now on `process` cannot write a file beyond `bytes`: the nearest that an ordinary user has to a full disk.
pub(crate) fn limit_files(process: u32, bytes: u64) {
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    let process = Pid::from_raw(i32::try_from(process).unwrap());
    prlimit(process, Resource::Fsize, limit).unwrap();
}

/// Lets this process open as many files as the system allows it at all; returns how many.
pub(crate) fn open_many() -> u64 {
    let now = rustix::process::getrlimit(Resource::Nofile);
    let most = Rlimit { current: now.maximum, maximum: now.maximum };
    rustix::process::setrlimit(Resource::Nofile, most).unwrap();
    now.maximum.unwrap_or(u64::MAX)
}

//! A board or gateway as a process of its own: this very binary, in its own process group, so that whatever it starts
//! ends with it. Owns starting and ending; what the process does is not its business.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::failure::Failure;

/// The running program itself, also when its file has been replaced since: one run is of one version.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// A process that was asked to stop is killed after so long.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Members of a killed group are gone after so long: only the kernel's own work can hold them.
const GONE_MAX: Duration = Duration::from_secs(2);
/// Lines of a log that are shown when its process has failed.
const TAIL_LINES: usize = 20;
/// Bytes at a log's end that are searched for them.
const TAIL_BYTES: usize = 32 * 1024;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `roadstead node`.
    Board,
    /// `roadstead gateway`.
    Gateway,
}

/// A process group. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    id: Pid,
}

impl Group {
    /// Starts `role` with the configuration `config`; what it says is appended to the file `log`.
    pub(crate) fn start(role: Role, config: &Path, log: &Path) -> Result<Self, Failure> {
        let command = match role {
            Role::Board => "node",
            Role::Gateway => "gateway",
        };
        let cannot = |error| Failure::new(format!("cannot start `roadstead {command}`")).because(error);
        let log = File::options().create(true).append(true).open(log).map_err(cannot)?;
        let child = Command::new(OWN_PROGRAM)
            .arg0("roadstead")
            .arg(command)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(cannot)?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(cannot)?;
        let id = Pid::from_child(&child);
        Ok(Self { child, id })
    }

    /// The group's number: the process number of its first member.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the first process of the group ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL to every member; returns when none is left.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Asks for a clean stop without waiting for it.
    pub(crate) fn ask_to_stop(&self) {
        // An error means that it is gone already.
        let _ = kill_process(self.id, Signal::TERM);
    }

    /// Waits for the stop that was asked for; kills whoever is left after a while. Whether it ended by itself.
    pub(crate) fn wait_stopped(mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < STOP_MAX {
            if self.ended().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn end(&mut self) {
        // While a member lives the kernel gives the group's number to nobody else; an error means that none does.
        let _ = kill_process_group(self.id, Signal::KILL);
        let _ = self.child.wait();
        let begun = Instant::now();
        while has_members(self.child.id()) && begun.elapsed() < GONE_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether a process of the group `id` still does something. One that is dead and only waits for its parent to ask how
/// it ended does not: its parent may be a process that seldom asks.
fn has_members(id: u32) -> bool {
    processes()
        .into_iter()
        .filter_map(standing)
        .any(|standing| standing.group == id && standing.lives)
}

/// The numbers of all processes.
pub(crate) fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its group.
    pub(crate) group: u32,
    /// Whether it is more than a record of its end.
    pub(crate) lives: bool,
}

/// Fields 3 and 5 of `/proc/<process>/stat` (proc(5)); the name before them, in parentheses, may hold anything.
pub(crate) fn standing(process: u32) -> Option<Standing> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    Some(Standing { group, lives: !matches!(state, "Z" | "X") })
}

/// The last lines of the log at `path`, indented, for a failure's message.
pub(crate) fn tail(path: &PathBuf) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !is_backtrace(line)).collect();
    let mut shown = format!("the end of {}:", path.display());
    if lines.is_empty() {
        shown.push_str("\n    (empty)");
    }
    for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
        shown.push_str("\n    ");
        shown.push_str(line);
    }
    shown
}

/// Whether `line` is one of a panic's backtrace, which would push the panic itself out of sight.
fn is_backtrace(line: &str) -> bool {
    let text = line.trim_start();
    let is_frame = text
        .split_once(": ")
        .is_some_and(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
    text != line && (is_frame || text.starts_with("at "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sh` and a child of its own, in one group.
    fn family() -> Group {
        let child = Command::new("sh")
            .args(["-c", "sleep 600 & sleep 600"])
            .process_group(0)
            .spawn()
            .unwrap();
        let id = Pid::from_child(&child);
        Group { child, id }
    }

    fn members(id: u32) -> usize {
        processes()
            .into_iter()
            .filter_map(standing)
            .filter(|standing| standing.group == id && standing.lives)
            .count()
    }

    #[test]
    fn a_tail_shows_the_panic_and_not_its_backtrace() {
        let scratch = crate::scratch::Scratch::new("tail");
        let log = scratch.path().join("log.txt");
        let frames = "  17: a::b\n             at /c/d.rs:1:2\n".repeat(TAIL_LINES);
        std::fs::write(&log, format!("thread 'main' panicked at x:\nwhy\n{frames}last: 12: words\n")).unwrap();
        let shown = tail(&log);
        assert!(shown.ends_with(":\n    thread 'main' panicked at x:\n    why\n    last: 12: words"), "{shown}");
        assert!(tail(&scratch.path().join("none")).ends_with("(empty)"));
    }

    #[test]
    fn a_killed_group_leaves_nobody() {
        let mut group = family();
        let id = group.id();
        let begun = Instant::now();
        while members(id) < 3 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!((members(id), group.ended()), (3, None));
        group.kill();
        assert_eq!(members(id), 0);
    }
}

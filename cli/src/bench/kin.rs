//! A process of a site with all that it has started: supervisor, node, workloads. Owns starting and ending them by their
//! own numbers, whatever groups they are in; ends nothing that does not descend from a process it has started.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::failover::beat::Stamp;
use super::leftovers;

/// What was killed is gone after so long: only the kernel's own work can hold it.
const GONE_MAX: Duration = Duration::from_secs(3);

/// A process that descends from the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Relative {
    process: u32,
    parent: u32,
    /// Whether it is more than a record of its end.
    lives: bool,
}

/// The processes that have sprung from one command. Killed when dropped; nobody is left then.
#[derive(Debug)]
pub(super) struct Kin {
    child: Child,
}

impl Kin {
    /// Starts `command` in a process group of its own; what it says is appended to `log`. A command without a stdin of
    /// its own has none.
    pub(super) fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdout(log.try_clone()?).stderr(log);
        Self::spawn(command)
    }

    /// Starts `command` with the outputs that it has.
    pub(super) fn spawn(mut command: Command) -> io::Result<Self> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        leftovers::note_group(child.id());
        Ok(Self { child })
    }

    /// The first process: a board's supervisor.
    pub(super) fn first(&self) -> u32 {
        self.child.id()
    }

    /// The first process's standard error, where it is a pipe; once.
    pub(super) fn take_errors(&mut self) -> Option<std::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// How the first process ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The board itself: the child of the supervisor that was started with `--child`.
    pub(super) fn node(&self) -> Option<u32> {
        let first = self.first();
        relatives(first)
            .into_iter()
            .filter(|relative| relative.parent == first && relative.lives)
            .map(|relative| relative.process)
            .find(|process| has_argument(*process, "--child"))
    }

    /// Every living process, the first one first.
    pub(super) fn all(&self) -> Vec<u32> {
        let lives = |relative: &Relative| relative.lives;
        relatives(self.first())
            .into_iter()
            .filter(lives)
            .map(|relative| relative.process)
            .collect()
    }

    fn end(&mut self) {
        let all = self.all();
        send(&all, Signal::KILL);
        let _ = self.child.wait();
        let begun = Instant::now();
        while all.iter().any(|process| lives(*process)) && begun.elapsed() < GONE_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
        leftovers::strike_group(self.first());
    }
}

impl Drop for Kin {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends `signal` to each of `processes` in their order; returns the instant just before. One that is gone is passed
/// over.
pub(super) fn send(processes: &[u32], signal: Signal) -> Stamp {
    let stamp = Stamp::now();
    for pid in processes
        .iter()
        .filter_map(|process| Pid::from_raw(i32::try_from(*process).ok()?))
    {
        let _ = kill_process(pid, signal);
    }
    stamp
}

fn has_argument(process: u32, argument: &str) -> bool {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
}

/// Whether `process` is there and more than a record of its end.
fn lives(process: u32) -> bool {
    standing(process).is_some_and(|relative| relative.lives)
}

/// Fields 3 and 4 of `/proc/<process>/stat` (proc(5)); the name before them, in parentheses, may hold anything.
fn standing(process: u32) -> Option<Relative> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Relative { process, parent, lives: !matches!(state, "Z" | "X") })
}

/// `first` and all that descend from it, parents before children.
fn relatives(first: u32) -> Vec<Relative> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<Relative> = entries
        .filter_map(|entry| standing(entry.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut found: Vec<Relative> = all.iter().filter(|relative| relative.process == first).copied().collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|relative| relative.process) {
        found.extend(all.iter().filter(|relative| relative.parent == parent));
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_descends_from_it_ends_with_it() {
        let scratch = crate::scratch::Scratch::new("kin");
        let mut command = Command::new("sh");
        // A grandchild in a session, and so a group, of its own.
        command.args(["-c", "setsid sleep 600 & sleep 600"]);
        let kin = Kin::start(command, &scratch.path().join("log")).unwrap();
        let begun = Instant::now();
        while kin.all().len() < 3 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let all = kin.all();
        assert_eq!((all.len(), all[0]), (3, kin.first()));
        assert_eq!(kin.node(), None, "none of them is a board");
        drop(kin);
        assert!(!all.iter().any(|process| lives(*process)));
    }
}

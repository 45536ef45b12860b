//! One step of a chore: another program, run with its output going straight to the screen, under a time limit.
//! What fails is reported with the line to type to see it fail again.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::workshop::Workshop;

/// No step takes so long unless it hangs: the whole of CI has forty minutes.
const STEP_MAX: Duration = Duration::from_secs(25 * 60);
/// How often a running step is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// A program with its arguments and what is set in its environment.
pub(crate) struct Step {
    program: OsString,
    args: Vec<String>,
    settings: Vec<(&'static str, String)>,
    within: Duration,
}

/// Why a chore went no further.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A program said no.
    Failed {
        /// What to type to see it again.
        line: String,
        /// What it said.
        why: String,
    },
    /// The machine lacks something that the chore needs.
    Lacking {
        /// What.
        what: String,
        /// What to type to have it.
        remedy: String,
    },
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { line, why } => write!(f, "{why}; to repeat:\n  {line}"),
            Self::Lacking { what, remedy } => write!(f, "{what}; to mend it:\n  {remedy}"),
        }
    }
}

impl Step {
    /// The step that `line` says: words parted by spaces, no quoting.
    pub(crate) fn new(line: &str) -> Self {
        let mut words = line.split_whitespace().map(String::from);
        let program = words.next().unwrap_or_default();
        Self::program(program).args(words)
    }

    /// The step that runs `program`.
    pub(crate) fn program(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), args: Vec::new(), settings: Vec::new(), within: STEP_MAX }
    }

    /// Adds arguments.
    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable in the step's environment.
    pub(crate) fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    /// Limits how long the step may take.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// The step as one would type it in the repository's folder.
    pub(crate) fn line(&self) -> String {
        let settings = self.settings.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = std::iter::once(quoted(&self.program.to_string_lossy()));
        let args = self.args.iter().map(|arg| quoted(arg));
        settings.chain(words).chain(args).collect::<Vec<_>>().join(" ")
    }

    /// Runs the step to its end, or ends it at its limit.
    pub(crate) fn run(&self, workshop: &Workshop) -> Result<(), Stop> {
        println!("> {}", self.line());
        let mut child = self.command(workshop).spawn().map_err(|error| self.failed(error.to_string()))?;
        match wait(&mut child, self.within) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(self.failed(status.to_string())),
            Ok(None) => {
                end_with_descendants(&mut child);
                Err(self.failed(format!("not done within {} s", self.within.as_secs())))
            }
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    fn command(&self, workshop: &Workshop) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(&workshop.root);
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        if let Ok(path) = std::env::join_paths(workshop.search_path()) {
            command.env("PATH", path);
        }
        if workshop.plain {
            command
                .env("NO_COLOR", "1")
                .env("CARGO_TERM_COLOR", "never")
                .env("CARGO_TERM_PROGRESS_WHEN", "never");
        }
        command
    }

    fn failed(&self, why: String) -> Stop {
        Stop::Failed { line: self.line(), why }
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The child's status, or `None` once `limit` has passed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if begun.elapsed() > limit => return Ok(None),
            None => thread::sleep(GLANCE),
        }
    }
}

/// Ends a child of ours and all that it has started, each by its own number. The child shares our process group so
/// that Ctrl-C reaches it, which is why the group cannot be ended as a whole.
fn end_with_descendants(child: &mut Child) {
    let mut doomed = vec![child.id()];
    let parents = parents();
    let mut next = 0;
    while next < doomed.len() {
        let parent = doomed[next];
        doomed.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        next += 1;
    }
    let ids: Vec<String> = doomed.iter().map(u32::to_string).collect();
    let ended = Command::new("kill").arg("-KILL").args(&ids).status();
    if !ended.is_ok_and(|status| status.success()) {
        eprintln!("could not end all of {}", ids.join(" "));
    }
    if let Err(error) = child.wait() {
        eprintln!("could not wait for {}: {error}", child.id());
    }
}

/// Every process of this machine with its parent; empty where there is no `/proc`.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name, in brackets, may hold anything; the state and the parent follow it.
            let after = &stat[stat.rfind(')')? + 1..];
            Some((id, after.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_typed_again() {
        let step = Step::new("cargo nextest run -E")
            .args(["binary(tidy)"])
            .set("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(step.line(), "RUSTDOCFLAGS='-D warnings' cargo nextest run -E 'binary(tidy)'");
    }

    #[test]
    fn failure_keeps_the_line_and_the_status() {
        let workshop = Workshop::find();
        assert!(Step::new("true").run(&workshop).is_ok());
        let Err(Stop::Failed { line, why }) = Step::new("false").run(&workshop) else {
            unreachable!("`false` fails");
        };
        assert_eq!(line, "false");
        assert!(why.contains('1'), "{why}");
    }

    #[test]
    fn what_hangs_is_ended_with_what_it_started() {
        let workshop = Workshop::find();
        let begun = Instant::now();
        let nested = Step::program("sh")
            .args(["-c", "sleep 60 & wait"])
            .within(Duration::from_millis(200));
        let Err(Stop::Failed { why, .. }) = nested.run(&workshop) else {
            unreachable!("the step outlasts its limit");
        };
        assert!(why.contains("not done within"), "{why}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

//! `roadstead journal`: looks at a board's data directory from outside. Owns how findings are told; the reading is in
//! `firmware::inspect`.

pub(crate) mod arguments;
mod dump;
pub(crate) mod key;
mod stats;
#[cfg(test)]
mod tests;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use firmware::inspect::{InspectError, JournalDir, State};
use firmware::keys::Keys;
use link::logging::whole_story;

pub(crate) use dump::date;

use crate::failure::Failure;
use arguments::{Journal, JournalCommand};

/// Does what is asked of a journal.
pub(crate) fn run(asked: &Journal) -> Result<ExitCode, Failure> {
    match &asked.command {
        JournalCommand::Verify(asked) => verify::run(asked),
        JournalCommand::Stats(asked) => stats::run(asked),
        JournalCommand::Dump(asked) => dump::run(asked),
        JournalCommand::Key(asked) => key::run(&asked.command),
    }
}

fn open(dir: &Path) -> Result<JournalDir, Failure> {
    JournalDir::open(dir).map_err(unreadable)
}

/// The keys in the file `path`, where one was given.
fn keys(path: Option<&Path>) -> Result<Option<Keys>, Failure> {
    path.map(|path| Keys::load(path).map_err(|error| Failure::new(whole_story(&error))))
        .transpose()
}

/// The refusal in words, with what to do about it.
fn unreadable(error: InspectError) -> Failure {
    let remedy = match &error {
        InspectError::NotJournal { remedy, .. } => Some(remedy.clone()),
        InspectError::System { source, .. } => match source.kind() {
            std::io::ErrorKind::PermissionDenied => {
                Some("a board's directory is for its user alone: run this as that user, or as root".to_owned())
            }
            std::io::ErrorKind::NotFound => Some("give the directory that `data_dir` in board.toml names".to_owned()),
            _ => None,
        },
    };
    let failure = match error {
        InspectError::System { verb, path, source } => {
            Failure::new(format!("cannot {verb} {}", path.display())).because(source)
        }
        error @ InspectError::NotJournal { .. } => Failure::new(error.to_string()),
    };
    match remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

/// Whose directory it is, in words.
fn whose(dir: &Path, state: &State, in_use: bool) -> String {
    let used = if in_use { "; a process has it" } else { "" };
    match &state.owner {
        Some(owner) => format!(
            "{}: the journal of board-{} of site {}, in its start {}{used}\n",
            dir.display(),
            owner.board,
            owner.site,
            owner.boot
        ),
        None => format!("{}: a journal whose state cannot be read{used}\n", dir.display()),
    }
}

/// `1 block`, `3 blocks`.
fn counted(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

/// A report as JSON, with its directory.
fn json<T: serde::Serialize>(dir: &Path, report: &T) -> Result<String, Failure> {
    let cannot = |error| Failure::new("the answer cannot be written as JSON").because(error);
    let mut value = serde_json::to_value(report).map_err(cannot)?;
    value["directory"] = dir.display().to_string().into();
    Ok(format!("{value:#}\n"))
}

//! `roadstead`: one binary, for people. Owns the command line: what is asked, what is said, and exit codes. What a
//! board or a gateway does is in their own crates.
//!
//! Data goes to stdout, talk to stderr. Exit codes: 0 done, 1 failed, 2 the command line was not understood.

mod access;
mod arguments;
mod backups;
pub mod bench;
mod check;
pub mod demo;
pub mod drill;
mod failure;
mod files;
pub mod init;
mod journal;
mod new_site;
mod orientation;
mod process;
mod progress;
#[cfg(test)]
mod scratch;
mod status;
mod wishes;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use arguments::Arguments;
use arguments::{Command, ConfigCommand};
pub use failure::Failure;
pub use progress::Progress;

/// The command line was not understood.
const USAGE: u8 = 2;

/// Does what the command line `arguments` (the program's name first) asks, and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(refusal) => {
            // Help and version are asked for, not refused: clap sends them to stdout, and only they exit with 0.
            let _ = refusal.print();
            return ExitCode::from(if refusal.use_stderr() { USAGE } else { 0 });
        }
    };
    match perform(arguments.command) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Option<Command>) -> Result<ExitCode, Failure> {
    match command {
        None => say(orientation::TEXT),
        Some(Command::Demo(asked)) => demo::run(&asked),
        Some(Command::Bench(asked)) => bench::run(&asked.command),
        Some(Command::BenchBeat { observer }) => bench::failover::performer::run(&observer),
        Some(Command::Init(init)) => new_site::run(&init),
        Some(Command::Node(node)) => process::node(&node),
        Some(Command::DutyLaunch) => Ok(process::launch()),
        Some(Command::Gateway(gateway)) => process::gateway(&gateway),
        Some(Command::Witness(witness)) => process::witness(&witness),
        Some(Command::Config(config)) => match config.command {
            ConfigCommand::Check { files } => check::run(&files),
        },
        Some(Command::Journal(asked)) => journal::run(&asked),
        Some(Command::Status(asked)) => status::run(&asked),
        Some(Command::Sites(asked)) => status::region::sites(&asked),
        Some(Command::Events(asked)) => status::region::events(&asked),
        Some(Command::Backup(asked)) => backups::run(&asked.command),
        Some(Command::Restore(asked)) => backups::restore(&asked),
        Some(Command::Drill(asked)) => drill::run(&asked.command),
        Some(Command::User(asked)) => access::user(&asked.command),
        Some(Command::Token(asked)) => access::token(&asked.command),
        Some(Command::Audit(asked)) => access::audit(&asked.command),
        Some(Command::Leader(asked)) => wishes::leader(&asked),
        Some(Command::Voters(asked)) => wishes::voters(&asked),
        Some(Command::Vote(asked)) => wishes::vote(&asked),
        Some(Command::Reload(asked)) => wishes::reload(&asked),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "roadstead", &mut script);
            say(&String::from_utf8_lossy(&script))
        }
    }
}

/// Writes data to stdout. A reader that has gone away (`| head`) is no failure.
fn say(text: &str) -> Result<ExitCode, Failure> {
    let written = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    match written {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::new("cannot write to stdout").because(error)),
    }
}

#[cfg(test)]
mod help_tests;

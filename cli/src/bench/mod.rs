//! `roadstead bench`: measures real processes on this machine. Owns what is measured and how; what a number should be
//! is said elsewhere.

pub mod arguments;
mod blocks;
mod device;
mod drain;
pub mod failover;
pub(crate) mod feed;
mod figures;
mod gateway;
mod ingest;
mod install;
mod journal;

mod kin;
mod leftovers;
mod sites;
mod usage;
mod waits;

use std::process::ExitCode;

use crate::demo::until_interrupted;
use crate::failure::Failure;
use arguments::BenchCommand;

/// As a shell says of a process that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// Runs the benchmark.
pub(crate) fn run(asked: &BenchCommand) -> Result<ExitCode, Failure> {
    let interrupted = || ExitCode::from(INTERRUPTED);
    match asked {
        BenchCommand::Ingest(asked) => until_interrupted(ingest::measure(asked), interrupted),
        BenchCommand::Journal(asked) => until_interrupted(journal::measure(asked), interrupted),
        BenchCommand::Failover(asked) => until_interrupted(failover::measure(asked), interrupted),
        BenchCommand::Sites(asked) => until_interrupted(sites::measure(asked), interrupted),
        BenchCommand::Gateway(asked) => until_interrupted(gateway::measure(asked), interrupted),
        BenchCommand::Blocks(asked) => blocks::measure(asked),
        BenchCommand::Paths(asked) => until_interrupted(drain::paths::measure(asked), interrupted),
        BenchCommand::Drain(asked) => until_interrupted(drain::measure(asked), interrupted),
    }
}

//! The command line of `roadstead drill`. Owns words and bounds.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `roadstead drill`.
#[derive(Debug, Args)]
pub struct Drill {
    /// Which disaster.
    #[command(subcommand)]
    pub command: DrillCommand,
}

/// What can be drilled.
#[derive(Debug, Subcommand)]
pub enum DrillCommand {
    /// The region's disk is lost, and a backup that is older than half of what it held is put back
    #[command(long_about = "\
The region's disk is lost, and a backup that is older than half of what it held is put back.

Starts three boards and a gateway on this machine, in a temporary directory, and publishes readings over MQTT. When nearly half of \
them are stored an encrypted backup is taken, and when half are, another one beside it, which writes what has changed. When all \
are stored, the gateway is killed and its store removed. Then the newer backup is put together and checked as \
`backup verify` does, and put back; the gateway starts, and the boards send again what it lacks. At the end the store is read afresh \
and held against what was acknowledged.")]
    Restore(RestoreDrill),
}

/// `roadstead drill restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead drill restore
  roadstead drill restore --records 20000 --json drill.json
  roadstead drill restore --plain

Exits with 0 only if nothing is missing and nothing is there twice; 1 otherwise. The boards keep what the region has as by \
default: an eighth of their journals, which is more than a million of these readings.")]
pub struct RestoreDrill {
    /// Readings of 200 bytes: 1000 to 2000000. Half of them are stored after the backup.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=2_000_000))]
    pub records: u64,
    /// Take plain backups instead: whole copies, not encrypted.
    #[arg(long)]
    pub plain: bool,
    /// Write the report to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

//! The command line of `roadstead bench`. Owns words and bounds.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `roadstead bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// How fast a site takes readings in, from publish to acknowledgement: 2 boards have synced it by then
    #[command(after_help = "\
Examples:
  roadstead bench ingest
  roadstead bench ingest --in-flight 1,64 --seconds 5 --json ingest.json
  roadstead bench ingest --dir /mnt/sd-card
      measures that disk: boards keep their journals on it

Boards are real processes of this program, on this machine, with certificates of their own; every figure includes the \
load that the clients themselves put on it. There is no gateway: what is measured is the way to the acknowledgement. \
Beside it stands what the disk itself takes for a write and fdatasync, measured in the same minutes.")]
    Ingest(Ingest),
}

/// `roadstead bench ingest`.
#[derive(Debug, Args)]
pub struct Ingest {
    /// Publishes on their way at once, over all connections; one measurement each: 1 to 65536.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,64,1024",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: Vec<u32>,
    /// How long each measurement takes, in seconds, after a second of warming up: 1 to 600.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// How many boards: 2 to 16. Each record is kept on 2 of them.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub boards: u8,
    /// Bytes of a payload: 16 to 65536.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub payload: u32,
    /// Publish to all boards. Default: all clients publish to board 1.
    #[arg(long)]
    pub spread: bool,
    /// Work in a directory of its own below this one. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

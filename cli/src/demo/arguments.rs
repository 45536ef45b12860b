//! The command line of `roadstead demo`. Owns words and bounds.

use std::path::PathBuf;

use clap::Args;

/// Readings of one run: each is remembered until the verdict. More are refused.
pub(crate) const READINGS_MAX: u64 = 20_000_000;

/// What the command does, at length.
pub(crate) const STORY: &str = "\
See a site survive on this machine: boards die, the uplink is cut, nothing is lost.

Starts boards and a gateway, each a process of its own, with keys and certificates of their own, in a temporary \
directory. Real MQTT clients replay the log of a real traffic signal controller to them. Then the leading board is \
killed (SIGKILL), the uplink is cut, another board is killed and comes back, the uplink comes back and drains. At the \
end the region's store is read afresh and held against what the publishers got acknowledged.";

/// `roadstead demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead demo
  roadstead demo --boards 5 --rate 2000
  roadstead demo --input log.csv --json verdict.json
  roadstead demo --hold
      no faults: the site runs for your own MQTT clients until Ctrl-C

The timeline goes to stderr, the verdict to stdout. Exits with 0 only if nothing was lost, duplicated, out of order \
or unaccounted for; 1 otherwise. Ctrl-C ends every process and removes every file.")]
pub struct Demo {
    /// How many boards: 2 to 16.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub boards: u8,
    /// Readings published a second, over all publishers: 1 to 100000.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// How long readings are published, in seconds: 5 to 3600. The faults are spread over this time.
    #[arg(long, value_name = "S", default_value_t = 40, value_parser = clap::value_parser!(u32).range(5..=3600))]
    pub seconds: u32,
    /// Replay this log instead: CSV with the header `ts,device,event,param`. A short one is repeated.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Write the verdict to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Use this new or empty directory, and keep it: configurations, journals, logs, the region's store.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Only run the site, without readings or faults, and print its addresses, until Ctrl-C.
    #[arg(long, conflicts_with_all = ["rate", "seconds", "input", "json"])]
    pub hold: bool,
}

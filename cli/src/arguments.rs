//! The command line's shape and its help. Owns words and examples; does nothing.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use shared::config::text::check_name;
use shared::ids::Name;

use crate::access::arguments::{Audit, Token, User};
use crate::backups::arguments::{BackupArguments, Restore};
use crate::bench::arguments::Bench;
use crate::demo::arguments::Demo;
use crate::drill::arguments::Drill;
use crate::journal::arguments::Journal;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 the command line was not understood.
Data goes to stdout, everything else to stderr.";

/// High availability for the boards at the roadside.
#[derive(Debug, Parser)]
#[command(name = "roadstead", version, about, after_help = EXIT_CODES, max_term_width = 100)]
#[command(long_about = "\
High availability for the boards at the roadside.

The boards of an intersection form a site. They elect a leader, keep every acknowledged record on two boards while \
the uplink is down, and deliver each record to the region exactly once when it returns. Without a command, \
`roadstead` says where to begin.")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See a site survive on this machine: boards die, the uplink is cut, nothing is lost
    #[command(long_about = crate::demo::arguments::STORY)]
    Demo(Demo),
    /// Make a site: keys, certificates and a checked configuration for every machine
    Init(Init),
    /// Run one board, under a supervisor that starts it again when it fails
    Node(Node),
    /// Become the process of a duty: what a board's supervisor starts
    #[command(hide = true)]
    DutyLaunch,
    /// Run a gateway: the region's end
    Gateway(Gateway),
    /// Run a witness: a third voter without data beside two boards
    Witness(Witness),
    /// Look at configurations
    Config(Config),
    /// Ask boards and gateways how they are
    Status(Status),
    /// Show the sites that gateways serve, those in trouble first
    Sites(Sites),
    /// Show what happened at a site, as its gateway knows it
    Events(Events),
    /// Look into a board's journal, whether the board runs or not
    Journal(Journal),
    /// Take copies of a gateway's store while it runs, list and check them
    Backup(BackupArguments),
    /// Put a backup in the place of a gateway's store
    Restore(Restore),
    /// Who may look at a gateway: accounts of people
    User(User),
    /// Who may look at a gateway: tokens of programs
    Token(Token),
    /// What was done on a gateway, by whom, and whether that log is whole
    Audit(Audit),
    /// Let a disaster happen on this machine, and see what is left
    Drill(Drill),
    /// Who leads a site: give the leadership to another board
    Leader(Leader),
    /// Change who votes for the leader, while the site runs
    Voters(Voters),
    /// Let a board vote whose disk was replaced, where nobody is left who could tell it who leads
    Vote(Vote),
    /// Let a running board read its list of boards again
    Reload(Reload),
    /// Measure how fast boards are on this machine
    Bench(Bench),
    /// Perform the measured duty of `bench failover`: what its boards start
    #[command(hide = true)]
    BenchBeat {
        /// The observer's socket.
        #[arg(long, value_name = "SOCKET")]
        observer: PathBuf,
    },
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  roadstead completions bash > /etc/bash_completion.d/roadstead
  roadstead completions fish > ~/.config/fish/completions/roadstead.fish")]
    Completions {
        /// For which shell.
        shell: Shell,
    },
}

/// `roadstead init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead init site --boards 3
      three boards and a gateway on this machine, ports from 7400 on
  roadstead init north --boards 4 --site north-4 --host-base 10.1.4.11 --gateway-host 10.1.0.1
      board 1 at 10.1.4.11 to board 4 at 10.1.4.14, the gateway at 10.1.0.1; sensors publish
      with the user name and password that are told at the end

Each directory in DIR is all that one machine needs: copy board-1 to board 1, and so on. Keep DIR/ca offline: \
whoever has its keys can make boards.

Certificates do not expire, because a board without a clock must still find its site. To throw a board out, make \
the site anew.")]
pub struct Init {
    /// Where the site's files go: a new or empty directory.
    pub dir: PathBuf,
    /// How many boards: 1 to 64.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub boards: u8,
    /// The site's name: a to z, 0 to 9 and -, up to 32.
    #[arg(long, default_value = "site", value_parser = check_name)]
    pub site: Name,
    /// The gateway's name, likewise.
    #[arg(long, default_value = "central", value_parser = check_name)]
    pub gateway: Name,
    /// Address of board 1; the others follow. A loopback address puts all of them on this machine, on different
    /// ports.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub host_base: IpAddr,
    /// Address of the gateway. Default: this machine, or the address after the last board's.
    #[arg(long, value_name = "IP")]
    pub gateway_host: Option<IpAddr>,
    /// First port: mesh (UDP) on it, MQTT on the next, HTTP on the one after. On one machine the gateway has it, and
    /// board n begins 10 n later.
    #[arg(long, value_name = "PORT", default_value_t = 7400, value_parser = clap::value_parser!(u16).range(1..))]
    pub port_base: u16,
    /// Let the gateway witness for the site too, so that of two boards the one that is left may lead. Default: only for a
    /// site of two boards.
    #[arg(long, conflicts_with_all = ["no_witness", "witness_host"])]
    pub witness: bool,
    /// A site of two boards without a witness: while one is gone, exclusive duties and the uplink stop.
    #[arg(long, conflicts_with = "witness_host")]
    pub no_witness: bool,
    /// A machine of its own at this address is the witness, not the gateway.
    #[arg(long, value_name = "IP")]
    pub witness_host: Option<IpAddr>,
    /// Encrypt the boards' journals: each gets a file of keys, journal.key. One that is there already stays.
    #[arg(long)]
    pub encrypt: bool,
    /// Write into a directory that is not empty, replacing the keys and passwords in it. Boards beyond N lose their
    /// keys and configurations, and keep their records.
    #[arg(long)]
    pub force: bool,
}

/// `roadstead node`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead node --config site/board-1/board.toml
  ROADSTEAD_LOG=debug roadstead node --config board.toml
  ROADSTEAD_LOG_FORM=json roadstead node --config board.toml

Stops cleanly on SIGTERM and Ctrl-C. The log goes to stderr.")]
pub struct Node {
    /// The board's configuration, as `roadstead init` writes it.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Run the board itself: what the supervisor starts.
    #[arg(long, hide = true)]
    pub child: bool,
}

/// `roadstead gateway`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead gateway --config site/gateway/gateway.toml
  ROADSTEAD_LOG_FORM=json roadstead gateway --config gateway.toml

Stops cleanly on SIGTERM and Ctrl-C. The log goes to stderr.")]
pub struct Gateway {
    /// The gateway's configuration, as `roadstead init` writes it.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `roadstead witness`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead init site --boards 2 --host-base 10.1.4.11 --witness-host 10.1.4.20
  roadstead witness --config site/witness/witness.toml

A gateway is a witness where its `listen.witness` says so, a board of a neighbouring site where it has [witness_for]; this \
command is for a machine that is neither. Stops cleanly on SIGTERM and Ctrl-C. The log goes to stderr.")]
pub struct Witness {
    /// The witness's configuration, as `roadstead init` writes it.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `roadstead config`.
#[derive(Debug, Args)]
pub struct Config {
    /// What to do with them.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What can be done with configurations.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check configurations as the processes would, without running anything
    #[command(after_help = "\
Examples:
  roadstead config check site/board-1/board.toml
  roadstead config check site/*/*.toml

A good file gets one line; a bad one its file, line and column, the line itself, and what to do. Exits \
with 1 if any file is bad.")]
    Check {
        /// board.toml, gateway.toml and witness.toml files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// `roadstead status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead status --dir site
  roadstead status --config site/board-2/board.toml
  roadstead status --url https://10.1.4.12:7402 --certificate b2.pem --token-file status-token
  roadstead status --dir site -o json | jq '.[].status.leader'
  roadstead status --config site/gateway/gateway.toml --token-file status.token

A gateway that has accounts asks who is there: give the file of a token (`roadstead token add`). What is asked of a board by its configuration or its site's directory finds the token there. Exits with 1 if nobody answered.")]
pub struct Status {
    /// Ask all boards and the gateway of a site that `roadstead init` made.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["config", "url"])]
    pub dir: Option<PathBuf>,
    /// Ask the board or gateway of this configuration. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Ask at this address, such as http://127.0.0.1:7412. May be given several times.
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,
    /// The certificate that an https:// address given with --url must have, PEM.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub certificate: Option<PathBuf>,
    /// The token that is shown to whom is asked.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How to answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// How long one of them may take to answer, in milliseconds: 10 to 60000.
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub timeout_ms: u64,
}

/// Which gateways are asked, and how they answer.
#[derive(Debug, Args)]
pub struct OfGateways {
    /// Ask the gateway of a site that `roadstead init` made.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["config", "url"])]
    pub dir: Option<PathBuf>,
    /// Ask the gateway of this configuration. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Ask the gateway at this address, such as https://10.1.0.1:7402. May be given several times.
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,
    /// The certificate that an https:// address given with --url must have, PEM.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub certificate: Option<PathBuf>,
    /// The token that is shown to whom is asked.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How to answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// How long one of them may take to answer, in milliseconds: 10 to 60000.
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub timeout_ms: u64,
}

/// `roadstead sites`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead sites --dir site
  roadstead sites --config gateway.toml --token-file viewer.token
  roadstead sites --url https://10.1.0.1:7402 --certificate gateway.pem --token-file viewer.token
  roadstead sites --dir site -o json | jq '.[].state'

Exits with 1 if no gateway answered.")]
pub struct Sites {
    #[command(flatten)]
    pub of: OfGateways,
}

/// `roadstead events`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead events north-4 --config gateway.toml
  roadstead events north-4 --dir site --limit 20
  roadstead events north-4 --config gateway.toml -o json | jq '.[0]'

Newest first. A gateway keeps the last 10,000 of all its sites. Exits with 1 if no gateway answered, or none serves the site.")]
pub struct Events {
    /// The site's name.
    #[arg(value_name = "SITE", value_parser = check_name)]
    pub site: Name,
    /// How many at most: 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    #[command(flatten)]
    pub of: OfGateways,
}

/// `roadstead leader`.
#[derive(Debug, Args)]
pub struct Leader {
    /// What to do.
    #[command(subcommand)]
    pub command: LeaderCommand,
}

/// What can be done with the leadership.
#[derive(Debug, Subcommand)]
pub enum LeaderCommand {
    /// Give it to another board, in good order
    #[command(after_help = "\
Examples:
  roadstead leader hand-over --config site/board-1/board.toml
  roadstead leader hand-over --config board.toml --to 2

Ask the board that leads (`roadstead status` says which), on its own machine. Its exclusive duties end first; the next \
leader acts within some ten milliseconds. Exits with 1 where it cannot be.")]
    HandOver {
        /// The configuration of the board that leads.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// To which board. Default: the fittest.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
        to: Option<u8>,
    },
}

/// `roadstead voters`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead voters --config site/board-1/board.toml --boards 1,2,4
      boards 1, 2 and 4 vote, no witness
  roadstead voters --config board.toml --boards 1,2 --witness 1

Ask the board that leads, on its own machine. The leader goes from the present voters to these one at a time; each \
step is on disk at a majority of the old and of the new ones before the next. `roadstead status` shows how far it is. \
Write the same into `voters` of every board.toml, for boards that are made anew.")]
pub struct Voters {
    /// The configuration of the board that leads.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Boards that vote from now on.
    #[arg(long, value_name = "N", value_delimiter = ',', required = true, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub boards: Vec<u8>,
    /// The witness that votes beside them.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u8).range(1..=63))]
    pub witness: Option<u8>,
}

/// `roadstead vote`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead vote --config site/board-2/board.toml

A board whose disk was replaced does not know what it has promised, so its vote waits for the leader to tell it. Where so many \
voters are gone for good that there is no leader without this vote, nobody ever does, and its status page says that its \
disk remembers no leader. Ask that board, on its own machine, at the earliest six seconds after its start; then take those that are \
gone out of the voters (`roadstead voters`). Where they are only cut off, bring them back instead: two leaders can \
not come of asking, but a lower term than theirs can.")]
pub struct Vote {
    /// The configuration of the board whose disk was replaced.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `roadstead reload`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roadstead reload --config site/board-1/board.toml

Reads [[peer]] again: boards that were added are dialled, boards that were taken out are let go. Do it on every board of \
the site; take a board's vote first (`roadstead voters`). Everything else in the file takes effect at the next start. \
SIGHUP to `roadstead node` does the same, and says in the log why it could not.")]
pub struct Reload {
    /// The board's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

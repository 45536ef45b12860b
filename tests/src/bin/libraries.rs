//! What a journal on a library would cost: SQLite, redb and fjall commit the same records in the same batches, durably,
//! beside `roadstead bench journal` on the same disk. They take turns; `cargo xtask bench-journal` builds and runs it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase as _, TableDefinition};
use rusqlite::Connection;
use serde_json::{Value, json};

type Done<T> = Result<T, Box<dyn Error>>;

/// Compares the journal with libraries.
#[derive(Clone, Debug, Parser)]
#[command(name = "libraries")]
struct Arguments {
    /// The built `roadstead`.
    #[arg(long)]
    roadstead: PathBuf,
    /// Records of a commit; one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,256")]
    batch: Vec<u32>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// How often each is made: the median is told.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Bytes of a record.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// Work in a directory of its own below this one.
    #[arg(long)]
    dir: PathBuf,
    /// Write the figures to this file too, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Commits before they count.
const WARM_UP: Duration = Duration::from_millis(500);
/// The table, tree or keyspace, ordered by the records' numbers.
const TABLE: &str = "records";
const OF_REDB: TableDefinition<'_, u64, &[u8]> = TableDefinition::new(TABLE);

/// A library that keeps records durably.
trait Library {
    /// Makes `records`, numbered from `first` on, durable at once.
    fn commit(&mut self, first: u64, records: &[Vec<u8>]) -> Done<()>;
    /// How many it has.
    fn count(&self) -> Done<u64>;
}

/// SQLite as it is to be set up for this: WAL, each commit synced.
struct Sqlite(Connection);

impl Sqlite {
    fn open(dir: &Path) -> Done<Self> {
        let connection = Connection::open(dir.join("sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL)", [])?;
        Ok(Self(connection))
    }
}

impl Library for Sqlite {
    fn commit(&mut self, first: u64, records: &[Vec<u8>]) -> Done<()> {
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO records (seq, bytes) VALUES (?1, ?2)")?;
            for (seq, bytes) in (first..).zip(records) {
                insert.execute((i64::try_from(seq)?, bytes))?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn count(&self) -> Done<u64> {
        let count: i64 = self.0.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
        Ok(u64::try_from(count)?)
    }
}

/// redb as it comes: a commit is durable when it returns.
struct Redb(redb::Database);

impl Library for Redb {
    fn commit(&mut self, first: u64, records: &[Vec<u8>]) -> Done<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(OF_REDB)?;
            for (seq, bytes) in (first..).zip(records) {
                table.insert(seq, bytes.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn count(&self) -> Done<u64> {
        use redb::ReadableTableMetadata as _;
        Ok(self.0.begin_read()?.open_table(OF_REDB)?.len()?)
    }
}

/// fjall: a batch, and its journal synced after it.
struct Fjall {
    database: Database,
    records: Keyspace,
}

impl Fjall {
    fn open(dir: &Path) -> Done<Self> {
        let database = Database::builder(dir.join("fjall")).open()?;
        let records = database.keyspace(TABLE, KeyspaceCreateOptions::default)?;
        Ok(Self { database, records })
    }
}

impl Library for Fjall {
    fn commit(&mut self, first: u64, records: &[Vec<u8>]) -> Done<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (seq, bytes) in (first..).zip(records) {
            batch.insert(&self.records, seq.to_be_bytes(), bytes.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn count(&self) -> Done<u64> {
        Ok(self.records.len()? as u64)
    }
}

const LIBRARIES: [&str; 3] = ["sqlite", "redb", "fjall"];

fn open(name: &str, dir: &Path) -> Done<Box<dyn Library>> {
    Ok(match name {
        "sqlite" => Box::new(Sqlite::open(dir)?),
        "redb" => Box::new(Redb(redb::Database::create(dir.join("redb"))?)),
        _ => Box::new(Fjall::open(dir)?),
    })
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    events_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    device_bytes: f64,
}

fn main() -> Done<()> {
    let arguments = Arguments::parse();
    let home = arguments.dir.join(format!("libraries-{}", std::process::id()));
    std::fs::create_dir_all(&home)?;
    let measured = measure(&arguments, &home);
    std::fs::remove_dir_all(&home)?;
    let measured = measured?;
    println!(
        "{:<10} {:>16} {:>10} {:>10} {:>10} {:>30}",
        "", "records a commit", "events/s", "p50 us", "p99 us", "device bytes per payload byte"
    );
    let mut figures = serde_json::Map::new();
    for ((name, batch), samples) in &measured {
        let middle = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        let [rate, half, most, bytes] = [
            middle(|one| one.events_per_s),
            middle(|one| one.p50_us),
            middle(|one| one.p99_us),
            middle(|one| one.device_bytes),
        ];
        println!("{name:<10} {batch:>16} {rate:>10.0} {half:>10.0} {most:>10.0} {bytes:>30.2}");
        let point = json!({
            "batch": batch, "events_per_s": rate.round(), "commit_p50_us": half.round(), "commit_p99_us": most.round(),
            "device_bytes_per_payload_byte": (bytes * 100.0).round() / 100.0,
        });
        let whose = figures.entry(name.clone()).or_insert_with(|| json!({ "points": [] }));
        if let Some(points) = whose["points"].as_array_mut() {
            points.push(point);
        }
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, format!("{}\n", Value::Object(figures)))?;
    }
    Ok(())
}

/// All measurements: in each run everyone once, one after the other.
fn measure(arguments: &Arguments, home: &Path) -> Done<BTreeMap<(String, u32), Vec<Sample>>> {
    let mut measured: BTreeMap<(String, u32), Vec<Sample>> = BTreeMap::new();
    for run in 1..=arguments.runs {
        eprintln!("run {run} of {}", arguments.runs);
        for batch in arguments.batch.iter().copied() {
            let ours = ours(arguments, home, batch)?;
            measured.entry(("roadstead".to_owned(), batch)).or_default().push(ours);
            for name in LIBRARIES {
                let dir = home.join(format!("{name}-{run}-{batch}"));
                std::fs::create_dir(&dir)?;
                let sample = library(arguments, name, &dir, batch)?;
                measured.entry((name.to_owned(), batch)).or_default().push(sample);
                std::fs::remove_dir_all(&dir)?;
            }
        }
    }
    Ok(measured)
}

/// What `roadstead bench journal` says of itself.
fn ours(arguments: &Arguments, home: &Path, batch: u32) -> Done<Sample> {
    let path = home.join("ours.json");
    let status = Command::new(&arguments.roadstead)
        .args(["bench", "journal", "--commits-only", "--runs", "1"])
        .args(["--batch", &batch.to_string(), "--seconds", &arguments.seconds.to_string()])
        .args(["--payload", &arguments.payload.to_string()])
        .arg("--dir")
        .arg(home)
        .arg("--json")
        .arg(&path)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("`roadstead bench journal` failed: {status}").into());
    }
    let figures: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let point = &figures["points"][0];
    let figure = |name: &str| point[name].as_f64().ok_or_else(|| format!("no `{name}` in its figures"));
    Ok(Sample {
        events_per_s: figure("events_per_s")?,
        p50_us: figure("commit_p50_us")?,
        p99_us: figure("commit_p99_us")?,
        device_bytes: figure("device_bytes_per_payload_byte")?,
    })
}

fn library(arguments: &Arguments, name: &str, dir: &Path, batch: u32) -> Done<Sample> {
    let mut library = open(name, dir)?;
    let mut next = 1_u64;
    let mut took = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < WARM_UP {
        commit(&mut *library, &mut next, batch, arguments.payload)?;
    }
    let before = written(dir)?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(u64::from(arguments.seconds)) {
        took.push(commit(&mut *library, &mut next, batch, arguments.payload)?);
    }
    let whole = begun.elapsed().as_secs_f64();
    let written = written(dir)? - before;
    if library.count()? != next - 1 {
        return Err(format!("{name} does not have what it was given").into());
    }
    took.sort_unstable();
    let events = took.len() as f64 * f64::from(batch);
    let percentile = |percent: usize| took[(took.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64() * 1e6;
    Ok(Sample {
        events_per_s: events / whole,
        p50_us: percentile(50),
        p99_us: percentile(99),
        device_bytes: written as f64 / (events * arguments.payload as f64),
    })
}

fn commit(library: &mut dyn Library, next: &mut u64, batch: u32, payload: usize) -> Done<Duration> {
    let records: Vec<Vec<u8>> = (*next..).take(batch as usize).map(|seq| record(seq, payload)).collect();
    let begun = Instant::now();
    library.commit(*next, &records)?;
    *next += u64::from(batch);
    Ok(begun.elapsed())
}

/// Letters that no compression shortens much, no two records alike.
fn record(seq: u64, payload: usize) -> Vec<u8> {
    let mut state = seq;
    let letter = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        b'a' + ((state >> 33) % 26) as u8
    };
    (0..payload).map(letter).collect()
}

/// Bytes that have reached the block device below `dir`, with all that was written so far: field 7 of its `stat`.
fn written(dir: &Path) -> Done<u64> {
    let directory = File::open(dir)?;
    rustix::fs::syncfs(&directory)?;
    let device = directory.metadata()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))?;
    let sectors: u64 = text.split_whitespace().nth(6).ok_or("no sectors")?.parse()?;
    Ok(sectors * 512)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

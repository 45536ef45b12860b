//! Runs worlds by seed: `sim --seeds 200` for many, `sim --seed 7 --story` to be told what happened in one, `sim --seed 7
//! --shrink` for the shortest world that fails in the same way.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Parser;
use tests::campaign::{Outcome, run, run_and_explain};
use tests::mutant::Mutant;
use tests::recipe::Recipe;
use tests::settings::Settings;
use tests::shrink::{list, shrink};
use tests::story::Telling;
use tests::tally::Tally;

/// Lines of a failed world's story that are shown.
const LINES: usize = 60;

/// Simulates sites under faults and holds them to their promises.
#[derive(Clone, Debug, Parser)]
#[command(name = "sim")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Fewest and most boards, 1 to 64, such as 2..5: mostly up to 7, sometimes up to 16, rarely more.
    #[arg(long, default_value = "2..64", value_parser = boards)]
    boards: (u8, u8),
    /// Tell what happens, line by line.
    #[arg(long)]
    story: bool,
    /// Where the seed fails, find the shortest world that fails in the same way.
    #[arg(long)]
    shrink: bool,
    /// Let only these of the drawn faults strike, by their numbers in the story, or `none`.
    #[arg(long)]
    only: Option<String>,
    /// Publish and let faults happen for so many milliseconds.
    #[arg(long)]
    busy_ms: Option<u64>,
    /// Publishers.
    #[arg(long)]
    publishers: Option<u8>,
    /// Leave duties out.
    #[arg(long)]
    without_duties: bool,
    /// Tell this lie: a world in which the checks must find something.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Worlds at a time [default: as many as there are processors].
    #[arg(long)]
    jobs: Option<usize>,
    /// Append a line with what was run and what came of it to this file.
    #[arg(long)]
    record: Option<PathBuf>,
}

fn boards(text: &str) -> Result<(u8, u8), String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.trim_start_matches('=').parse::<u8>().map_err(|why| why.to_string());
    let (low, high) = (number(low)?, number(high)?);
    if (1..=64).contains(&low) && low <= high && high <= 64 {
        Ok((low, high))
    } else {
        Err("1 to 64 boards".into())
    }
}

fn mutant(text: &str) -> Result<Mutant, String> {
    Mutant::parse(text).ok_or_else(|| {
        let names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        format!("one of {}", names.join(", "))
    })
}

impl Arguments {
    fn recipe(&self, seed: u64) -> Recipe {
        let only = self.only.as_ref().map(|text| {
            let numbers = text
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty() && *word != "none");
            numbers.filter_map(|word| word.parse().ok()).collect()
        });
        Recipe {
            mutant: self.mutant,
            only,
            busy: self.busy_ms.map(Duration::from_millis),
            publishers: self.publishers.map(|count| count.max(1)),
            without_duties: self.without_duties,
            ..Recipe::new(seed, self.boards)
        }
    }
}

fn repeat(recipe: &Recipe) -> String {
    format!("cargo xtask sim {} --story", recipe.arguments())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) if arguments.shrink => make_short(arguments.recipe(seed)),
        Some(seed) => run_one(&arguments, seed),
        None => run_many(&arguments),
    }
}

fn run_one(arguments: &Arguments, seed: u64) -> ExitCode {
    let telling = if arguments.story { Telling::Aloud } else { Telling::Kept };
    say_seed_on_panic(arguments);
    RUNNING.store(seed, Ordering::Relaxed);
    let recipe = arguments.recipe(seed);
    let outcome = run(Settings { telling, ..recipe.settings() });
    println!("seed {seed}, digest {:016x}", outcome.digest);
    println!("{}", outcome.tally);
    if outcome.failure.is_some() {
        complain(&recipe, &outcome);
        return ExitCode::FAILURE;
    }
    println!("every promise held");
    ExitCode::SUCCESS
}

/// How a world fails, found out in a process of its own: where an assertion fails, a release build ends its process.
fn judge(recipe: &Recipe) -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let ran = Command::new(program)
        .args(recipe.arguments().split(' '))
        .stdin(Stdio::null())
        .output()
        .ok()?;
    if ran.status.success() {
        return None;
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let broken = said.lines().find_map(|line| Some(line.split_once(" FAILED ")?.1.to_owned()));
    // The message stands below the line that names the place.
    let asserted = || {
        let mut lines = said.lines().skip_while(|line| !line.contains("panicked at"));
        Some(format!("assertion: {} {}", lines.next()?, lines.next()?))
    };
    broken.or_else(asserted)
}

/// Finds the shortest world that fails as `recipe` does, and tells its story.
fn make_short(recipe: Recipe) -> ExitCode {
    eprintln!("looking for a shorter world than {}", recipe.arguments());
    let Some(shrunk) = shrink(recipe, judge) else {
        println!("it does not fail");
        return ExitCode::SUCCESS;
    };
    let failure = judge(&shrunk.recipe).unwrap_or_default();
    println!("{failure}\nafter these faults ({} worlds were tried):", shrunk.tries);
    for line in list(&shrunk.recipe) {
        println!("{line}");
    }
    println!("repeat with: {}", repeat(&shrunk.recipe));
    ExitCode::FAILURE
}

static RUNNING: AtomicU64 = AtomicU64::new(0);

/// A release build does not unwind: an assertion that fails ends the process, so the seed is told first.
fn say_seed_on_panic(arguments: &Arguments) {
    let arguments = arguments.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        let recipe = arguments.recipe(current_seed());
        eprintln!("repeat with: {}", repeat(&recipe));
        eprintln!("make it short with: cargo xtask sim {} --shrink", recipe.arguments());
    }));
}

thread_local! {
    static SEED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

fn current_seed() -> u64 {
    match SEED.get() {
        0 => RUNNING.load(Ordering::Relaxed),
        seed => seed,
    }
}

fn complain(recipe: &Recipe, outcome: &Outcome) {
    for line in &outcome.lines[outcome.lines.len().saturating_sub(LINES)..] {
        eprintln!("{line}");
    }
    if let Some(failure) = &outcome.failure {
        eprintln!("seed {} FAILED {failure}", outcome.seed);
    }
    eprintln!("repeat with: {}", repeat(recipe));
    eprintln!("make it short with: cargo xtask sim {} --shrink", recipe.arguments());
}

/// What came of many seeds.
#[derive(Debug, Default)]
struct Sum {
    tally: Tally,
    done: u64,
    failed: Vec<u64>,
    /// Digest of all digests, whatever order they came in.
    digest: u64,
}

fn run_many(arguments: &Arguments) -> ExitCode {
    say_seed_on_panic(arguments);
    let began = Instant::now();
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut sum = run_jobs(arguments, jobs.max(1));
    let rate = sum.done as f64 / began.elapsed().as_secs_f64();
    println!("{}", sum.tally);
    sum.failed.sort_unstable();
    println!(
        "{} seeds in {:.1} s, {rate:.1} a second; {} failed {:?}; digest {:016x}",
        sum.done,
        began.elapsed().as_secs_f64(),
        sum.failed.len(),
        sum.failed,
        sum.digest
    );
    if let Err(why) = record(arguments, &sum, rate) {
        eprintln!("the record could not be written: {why}");
        return ExitCode::FAILURE;
    }
    match sum.failed.first() {
        None => ExitCode::SUCCESS,
        Some(seed) => make_short(arguments.recipe(*seed)),
    }
}

fn run_jobs(arguments: &Arguments, jobs: usize) -> Sum {
    let next = AtomicU64::new(arguments.start);
    let end = arguments.start + arguments.seeds;
    let (send, outcomes) = mpsc::channel();
    let mut sum = Sum::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    SEED.set(seed);
                    if send.send(run_and_explain(arguments.recipe(seed).settings())).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        for outcome in outcomes {
            sum.tally += outcome.tally;
            sum.done += 1;
            sum.digest ^= outcome.digest.rotate_left((outcome.seed % 64) as u32);
            if outcome.failure.is_some() {
                complain(&arguments.recipe(outcome.seed), &outcome);
                sum.failed.push(outcome.seed);
            }
            show_progress(sum.done, arguments.seeds, sum.failed.len());
        }
    });
    sum
}

/// One line a run: whoever keeps the file adds the date.
fn record(arguments: &Arguments, sum: &Sum, rate: f64) -> std::io::Result<()> {
    let Some(path) = &arguments.record else { return Ok(()) };
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let (low, high) = arguments.boards;
    let last = arguments.start + arguments.seeds.saturating_sub(1);
    writeln!(
        file,
        "seeds {}..={last} boards {low}..{high}: {} run, {} failed {:?}, {} faults, {} takeovers, digest {:016x}, {rate:.1} seeds/s",
        arguments.start,
        sum.done,
        sum.failed.len(),
        sum.failed,
        sum.tally.faults,
        sum.tally.takeovers,
        sum.digest
    )
}

fn show_progress(done: u64, of: u64, failed: usize) {
    let mut out = std::io::stderr();
    let last = done == of;
    if out.is_terminal() {
        let end = if last { "\n" } else { "" };
        let _ = write!(out, "\r{done} of {of} seeds, {failed} failed{end}");
        let _ = out.flush();
    } else if last || done.is_multiple_of(100) {
        let _ = writeln!(out, "{done} of {of} seeds, {failed} failed");
    }
}

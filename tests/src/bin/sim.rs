//! Runs worlds by seed: `sim --seeds 200` for many, `sim --seed 7 --story` to be told what happened in one.

use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use clap::Parser;
use tests::campaign::{Outcome, run, run_and_explain};
use tests::mutant::Mutant;
use tests::settings::Settings;
use tests::story::Telling;
use tests::tally::Tally;

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
    /// Fewest and most boards, such as 2..5.
    #[arg(long, default_value = "2..64", value_parser = boards)]
    boards: RangeInclusive<u8>,
    /// Tell what happens, line by line.
    #[arg(long)]
    story: bool,
    /// Flip bits on disks, too.
    #[arg(long)]
    bit_flips: bool,
    /// Tell this lie: a world in which the checks must find something.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Worlds at a time [default: as many as there are processors].
    #[arg(long)]
    jobs: Option<usize>,
}

fn boards(text: &str) -> Result<RangeInclusive<u8>, String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.trim_start_matches('=').parse::<u8>().map_err(|why| why.to_string());
    let (low, high) = (number(low)?, number(high)?);
    if (1..=64).contains(&low) && low <= high && high <= 64 {
        Ok(low..=high)
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
    fn settings(&self, seed: u64) -> Settings {
        match self.mutant {
            Some(mutant) => Settings::for_mutant(seed, mutant),
            None if self.bit_flips => Settings::drawn(seed, *self.boards.start(), *self.boards.end()).with_bit_flips(),
            None => Settings::drawn(seed, *self.boards.start(), *self.boards.end()),
        }
    }

    /// The line that runs `seed` again with its story.
    fn repeat(&self, seed: u64) -> String {
        let lie = self
            .mutant
            .map(|mutant| format!(" --mutant {}", mutant.name()))
            .unwrap_or_default();
        let (low, high) = (self.boards.start(), self.boards.end());
        let flips = if self.bit_flips { " --bit-flips" } else { "" };
        format!("cargo xtask sim --seed {seed} --boards {low}..{high}{flips}{lie} --story")
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => run_one(&arguments, seed),
        None => run_many(&arguments),
    }
}

fn run_one(arguments: &Arguments, seed: u64) -> ExitCode {
    let telling = if arguments.story { Telling::Aloud } else { Telling::Kept };
    say_seed_on_panic(arguments);
    RUNNING.store(seed, Ordering::Relaxed);
    let outcome = run(Settings { telling, ..arguments.settings(seed) });
    println!("seed {seed}, digest {:016x}", outcome.digest);
    println!("{}", outcome.tally);
    if outcome.failure.is_some() {
        complain(arguments, &outcome);
        return ExitCode::FAILURE;
    }
    println!("every promise held");
    ExitCode::SUCCESS
}

static RUNNING: AtomicU64 = AtomicU64::new(0);

/// A release build does not unwind: an assertion that fails ends the process, so the seed is told first.
fn say_seed_on_panic(arguments: &Arguments) {
    let arguments = arguments.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        eprintln!("repeat with: {}", arguments.repeat(current_seed()));
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

fn complain(arguments: &Arguments, outcome: &Outcome) {
    for line in &outcome.lines[outcome.lines.len().saturating_sub(60)..] {
        eprintln!("{line}");
    }
    if let Some(failure) = &outcome.failure {
        eprintln!("seed {} FAILED {failure}", outcome.seed);
    }
    eprintln!("repeat with: {}", arguments.repeat(outcome.seed));
}

fn run_many(arguments: &Arguments) -> ExitCode {
    say_seed_on_panic(arguments);
    let began = Instant::now();
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let next = AtomicU64::new(arguments.start);
    let end = arguments.start + arguments.seeds;
    let (send, outcomes) = mpsc::channel();
    let (mut tally, mut done, mut failed) = (Tally::default(), 0_u64, Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    SEED.set(seed);
                    if send.send(run_and_explain(arguments.settings(seed))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        for outcome in outcomes {
            tally += outcome.tally;
            done += 1;
            if outcome.failure.is_some() {
                complain(arguments, &outcome);
                failed.push(outcome.seed);
            }
            show_progress(done, arguments.seeds, failed.len(), done == arguments.seeds);
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    println!("{tally}");
    failed.sort_unstable();
    println!(
        "{done} seeds in {seconds:.1} s, {:.1} a second; {} failed {failed:?}",
        done as f64 / seconds,
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show_progress(done: u64, of: u64, failed: usize, last: bool) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let end = if last { "\n" } else { "" };
        let _ = write!(out, "\r{done} of {of} seeds, {failed} failed{end}");
        let _ = out.flush();
    } else if last || done.is_multiple_of(100) {
        let _ = writeln!(out, "{done} of {of} seeds, {failed} failed");
    }
}

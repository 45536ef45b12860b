//! Cuts power at every step of many workloads: `crash-points --seeds 10000` for many, `crash-points --seed 7` for one.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use clap::Parser;
use tests::crash::campaign::{Counts, Finding, Outcome, examine, under_way};
use tests::crash::lie::Lie;
use tests::crash::workload::Recipe;

/// Cuts the power of simulated boards at every step and holds what they find afterwards to their promises.
#[derive(Clone, Debug, Parser)]
#[command(name = "crash-points")]
struct Arguments {
    /// Workloads of up to three boards: at moments drawn by seed, power goes in ways drawn by seed.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Small workloads: at every step, power goes in every way.
    #[arg(long, default_value_t = 1_000)]
    small: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Run this seed alone, as a large workload or, with `--small 1`, as a small one.
    #[arg(long)]
    seed: Option<u64>,
    /// Break this rule: the judge must find something.
    #[arg(long, value_parser = lie)]
    lie: Option<Lie>,
    /// Workloads at a time [default: as many as there are processors].
    #[arg(long)]
    jobs: Option<usize>,
}

fn lie(text: &str) -> Result<Lie, String> {
    Lie::parse(text).ok_or_else(|| {
        let names: Vec<&str> = Lie::ALL.iter().map(|lie| lie.name()).collect();
        format!("one of {}", names.join(", "))
    })
}

impl Arguments {
    fn recipes(&self) -> Vec<Recipe> {
        let recipe = |seed, small| Recipe { seed, small, lie: self.lie };
        if let Some(seed) = self.seed {
            return vec![recipe(seed, self.small == 1)];
        }
        let small = (self.start..self.start + self.small).map(|seed| recipe(seed, true));
        let large = (self.start..self.start + self.seeds).map(|seed| recipe(seed, false));
        small.chain(large).collect()
    }
}

fn repeat(recipe: &Recipe) -> String {
    let small = if recipe.small { " --small 1" } else { "" };
    let lie = recipe.lie.map_or(String::new(), |lie| format!(" --lie {}", lie.name()));
    format!("cargo xtask crash-points --seed {}{small}{lie}", recipe.seed)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    say_seed_on_panic();
    let began = Instant::now();
    let (counts, finding) = run(&arguments);
    print!("{counts}");
    println!("in {:.1} s", began.elapsed().as_secs_f64());
    match finding {
        None => {
            println!("every promise held");
            ExitCode::SUCCESS
        }
        Some(finding) => {
            complain(&finding);
            ExitCode::FAILURE
        }
    }
}

fn complain(finding: &Finding) {
    for line in &finding.story {
        eprintln!("  {line}");
    }
    eprintln!("BROKEN: {}", finding.what);
    eprintln!("repeat with: {}", repeat(&finding.recipe));
}

/// A release build does not unwind: an assertion that fails ends the process, so the seed is told first.
fn say_seed_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        let (seed, step) = under_way();
        eprintln!("at seed {seed}, judging step {step} (0: while the workload ran)");
    }));
}

/// Examines every workload, until one finds something.
fn run(arguments: &Arguments) -> (Counts, Option<Finding>) {
    let recipes = arguments.recipes();
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (send, outcomes) = mpsc::channel::<Outcome>();
    let (mut counts, mut finding) = (Counts::default(), None);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (send, next, stop, recipes) = (send.clone(), &next, &stop, &recipes);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let nth = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                    let Some(recipe) = recipes.get(nth) else { break };
                    if send.send(examine(*recipe)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        for outcome in outcomes {
            counts += outcome.counts;
            if let Some(found) = outcome.finding {
                stop.store(true, Ordering::Relaxed);
                finding.get_or_insert(found);
            }
            show_progress(counts.workloads, recipes.len() as u64);
        }
    });
    (counts, finding)
}

fn show_progress(done: u64, of: u64) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let end = if done == of { "\n" } else { "" };
        let _ = write!(out, "\r{done} of {of} workloads{end}");
        let _ = out.flush();
    } else if done == of || done.is_multiple_of(500) {
        let _ = writeln!(out, "{done} of {of} workloads");
    }
}

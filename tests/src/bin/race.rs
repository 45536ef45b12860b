//! Races the membership that ships against `foca` under the same faults, and prints what was measured.

use std::time::Duration;

use clap::Parser;
use shared::config::Timing;
use tests::race::heats::{bytes, detection, false_verdicts, percentile};
use tests::race::{Detector, Ours, Rival, Weather, rival};

/// Races failure detectors in simulation.
#[derive(Clone, Debug, Parser)]
#[command(name = "race")]
struct Arguments {
    /// Worlds whose boards die, for each row.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Deaths in each of them.
    #[arg(long, default_value_t = 15)]
    deaths: u32,
    /// Simulated hours of each row that counts false verdicts.
    #[arg(long, default_value_t = 1)]
    hours: u64,
    /// Simulated hours with a starved board.
    #[arg(long, default_value_t = 1)]
    starved_hours: u64,
    /// Numbers of boards.
    #[arg(long, value_delimiter = ',', default_value = "3,16,64")]
    boards: Vec<u8>,
    /// Leave the rival out.
    #[arg(long)]
    alone: bool,
}

fn main() {
    let arguments = Arguments::parse();
    println!("{:<12} {:>6} {:<26} measured", "detector", "boards", "heat");
    for boards in arguments.boards.clone() {
        row::<Ours>("roadstead", boards, &Timing::default(), &arguments);
        if !arguments.alone {
            row::<Rival>("foca LAN", boards, &rival::lan(boards), &arguments);
            row::<Rival>("foca tuned", boards, &rival::tuned(boards), &arguments);
        }
    }
    let starved = Weather::starved();
    starve::<Ours>("roadstead", &starved, &Timing::default(), &arguments);
    if !arguments.alone {
        starve::<Rival>("foca LAN", &starved, &rival::lan(16), &arguments);
        starve::<Rival>("foca tuned", &starved, &rival::tuned(16), &arguments);
    }
}

fn row<D: Detector>(name: &str, boards: u8, tuning: &D::Tuning, arguments: &Arguments) {
    for (heat, weather) in [("0.1 % loss", Weather::clean(boards)), ("30 % loss", Weather::lossy(boards))] {
        let mut took = shared_out(arguments.seeds, |seed| detection::<D>(&weather, tuning, seed, arguments.deaths));
        took.sort();
        let [half, most, worst] = [50, 99, 100].map(|percent| percentile(&took, percent).as_millis());
        println!(
            "{name:<12} {boards:>6} {heat:<26} dead board known to all: p50 {half} p99 {most} max {worst} ms, {} deaths",
            took.len()
        );
        let (mean, busiest) = bytes::<D>(&weather, tuning, 1);
        println!("{name:<12} {boards:>6} {heat:<26} {mean} bytes a second a board, the busiest {busiest}");
        let wrong = wrong::<D>(&weather, tuning, arguments.hours);
        println!("{name:<12} {boards:>6} {heat:<26} {wrong} false verdicts in {} h", arguments.hours);
    }
}

fn starve<D: Detector>(name: &str, weather: &Weather, tuning: &D::Tuning, arguments: &Arguments) {
    let wrong = wrong::<D>(weather, tuning, arguments.starved_hours);
    let hours = arguments.starved_hours;
    println!(
        "{name:<12} {:>6} {:<26} {wrong} healthy boards taken for dead in {hours} h",
        weather.boards, "one board starved"
    );
}

/// An hour a world.
fn wrong<D: Detector>(weather: &Weather, tuning: &D::Tuning, hours: u64) -> usize {
    let hour = Duration::from_secs(3600);
    shared_out(hours, |seed| vec![false_verdicts::<D>(weather, tuning, seed, hour)])
        .into_iter()
        .sum()
}

/// The worlds of seeds 1 to `seeds`, on as many threads as there are processors.
fn shared_out<T: Send>(seeds: u64, world: impl Fn(u64) -> Vec<T> + Sync) -> Vec<T> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let world = &world;
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..jobs)
            .map(|job| {
                scope.spawn(move || {
                    (1..=seeds)
                        .filter(|seed| seed % jobs == job)
                        .flat_map(world)
                        .collect::<Vec<T>>()
                })
            })
            .collect();
        started
            .into_iter()
            .flat_map(|job| job.join().expect("a world does not panic"))
            .collect()
    })
}

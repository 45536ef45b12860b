//! What is measured: how long until all know of a dead board, who is taken for dead and is not, and what it costs.

use std::time::Duration;

use super::Detector;
use super::world::{Weather, World};

/// Long enough for all boards to know each other, and their ways.
const SETTLE: Duration = Duration::from_secs(30);
/// Nobody takes longer than this to find a dead board, or never does.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long it took until every living board knew, sorted; two minutes where that never came.
pub fn detection<D: Detector>(weather: &Weather, tuning: &D::Tuning, seed: u64, times: u32) -> Vec<Duration> {
    let mut world = World::<D>::new(weather.clone(), tuning.clone(), seed);
    world.run(SETTLE, |_| false);
    let mut took: Vec<Duration> = (0..times)
        .map(|_| {
            world.run(PATIENCE, World::agrees);
            let pause = world.dice().below(2_000_000);
            world.run(Duration::from_micros(3_000_000 + pause), |_| false);
            let boards = u64::from(weather.boards);
            let victim = 1 + world.dice().below(boards) as u8;
            let began = world.now();
            world.kill(victim);
            let known = world.run(PATIENCE, World::agrees);
            let took = if known {
                Duration::from_micros(world.now() - began)
            } else {
                PATIENCE
            };
            world.run(Duration::from_secs(1), |_| false);
            world.restart(victim);
            world.run(PATIENCE, World::agrees);
            took
        })
        .collect();
    took.sort();
    took
}

/// The `percent` th of `sorted`.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(place).copied().unwrap_or_default()
}

/// Boards taken for dead in `span` though they lived and did not stall, each finding by each board counted.
pub fn false_verdicts<D: Detector>(weather: &Weather, tuning: &D::Tuning, seed: u64, span: Duration) -> usize {
    verdicts_of::<D>(weather, tuning, seed, span, weather.boards - weather.stalling)
}

/// The same of boards 1 to `steady`, whether they stalled or not.
pub fn verdicts_of<D: Detector>(weather: &Weather, tuning: &D::Tuning, seed: u64, span: Duration, steady: u8) -> usize {
    let mut world = World::<D>::new(weather.clone(), tuning.clone(), seed);
    world.run(SETTLE, |_| false);
    world.found.clear();
    world.run(span, |_| false);
    world.found.iter().filter(|found| !found.alive && found.of <= steady).count()
}

/// Bytes sent a second: by a board on average, and by the busiest.
pub fn bytes<D: Detector>(weather: &Weather, tuning: &D::Tuning, seed: u64) -> (u64, u64) {
    let mut world = World::<D>::new(weather.clone(), tuning.clone(), seed);
    world.run(SETTLE, |_| false);
    world.forget_bytes();
    world.run(Duration::from_secs(60), |_| false);
    let (mean, most) = world.bytes();
    (mean / 60, most / 60)
}

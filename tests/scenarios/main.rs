//! Named stories: one fault each, at the worst moment, with what a person would expect to read about it.

mod control;
mod data;
mod duties;
mod regions;
mod repair;
mod uplink;

use std::time::Duration;

use shared::ids::BoardId;
use tests::settings::Settings;
use tests::world::{Violation, World};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn board(number: u8) -> BoardId {
    BoardId::new(number).expect("a small number")
}

/// A quiet world of `boards` boards, k = 2, in which all boards are up and have met a leader, it speaks to the region and
/// publishers publish.
fn settled(seed: u64, boards: u8) -> World {
    settle(Settings::quiet(seed, boards, 2.min(usize::from(boards))))
}

fn settle(settings: Settings) -> World {
    let mut world = World::new(settings);
    let is_whole = |world: &World| world.leader().is_some() && world.all_have_joined();
    let ready = world.run_until(millis(5_000), |world| world.tally().rows > 20 && is_whole(world));
    assert_eq!(ready, Ok(true), "the site does not come up");
    world
}

/// The world comes to rest and every promise holds.
fn ends_well(world: &mut World) {
    let ended = world.finish();
    assert_eq!(ended, Ok(()));
}

fn reaches(world: &mut World, within: u64, reached: impl Fn(&World) -> bool) -> Result<bool, Violation> {
    world.run_until(millis(within), reached)
}

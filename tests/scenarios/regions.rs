//! Two regions, each with a store of its own: the better one is gone, the other takes over, and the better one comes back.

use tests::region::Place;
use tests::settings::Settings;
use tests::world::World;

use crate::{board, ends_well, millis, reaches, settle};

/// Three boards whose journals keep everything that any region has.
fn keeping(seed: u64) -> Settings {
    Settings {
        standby: true,
        // Each commit takes a page at least: what is written in seconds fills some tens of such files.
        segment_bytes: 256 * 1024,
        segments_max: 512,
        covered_kept: Some(256),
        interval: (millis(2), millis(8)),
        busy: millis(60_000),
        ..Settings::quiet(seed, 3, 2)
    }
}

fn expect_place(world: &mut World, place: Place) {
    assert_eq!(reaches(world, 12_000, |world| world.speaks_with() == Some(place)), Ok(true), "not with {place:?}");
}

/// Everything that was acknowledged is in the region that stands by.
fn expect_all_in_standby(world: &mut World) {
    let all: Vec<_> = world.acknowledged();
    let are_there = |world: &World| all.iter().all(|mark| world.rows_standby(*mark) == 1);
    assert_eq!(reaches(world, 20_000, are_there), Ok(true), "the second region lacks something");
}

/// Everything that was acknowledged is in the better one, once, and nobody took one region for another that had lost its memory.
fn expect_whole(mut world: World) {
    world.rest();
    ends_well(&mut world);
    let tally = world.tally();
    assert_eq!((tally.released_elsewhere, tally.shed, tally.went_back), (0, 0, 0));
    let lacks = world.acknowledged().into_iter().find(|mark| world.rows(*mark) != 1);
    assert_eq!(lacks, None);
}

#[test]
fn a_second_region_takes_over_and_the_first_one_gets_what_it_has_missed() {
    for seed in 1..=4 {
        let mut world = settle(keeping(seed));
        expect_place(&mut world, Place::Home);
        assert_eq!(world.tally().rows_standby, 0, "the second region is left alone");
        world.crash_region(Place::Home);
        let before = world.tally();
        expect_place(&mut world, Place::Standby);
        assert_eq!(world.run_for(millis(4_000)), Ok(()));
        // All that is kept goes there, also what the first one had, and what is new.
        expect_all_in_standby(&mut world);
        let during = world.tally();
        assert_eq!(during.rows, before.rows);
        assert!(during.rows_standby > before.rows + 1_000, "seed {seed}");
        assert_eq!(during.region_changes, 3, "seed {seed}: once a board");
        // The leader goes meanwhile, and its successor finds the second region by itself.
        let leader = world.leader().unwrap();
        world.crash(leader);
        assert_eq!(reaches(&mut world, 3_000, |world| world.leader().is_some_and(|other| other != leader)), Ok(true));
        expect_place(&mut world, Place::Standby);
        world.boot_later(leader);
        world.boot_region(Place::Home);
        expect_place(&mut world, Place::Home);
        assert_eq!(world.run_for(millis(1_000)), Ok(()));
        expect_whole(world);
    }
}

/// Regions come and go in turn, and both at once, and the site loses its power in between.
#[test]
fn regions_that_flap_lose_nothing_and_get_nothing_twice() {
    for seed in 1..=4 {
        let mut world = settle(keeping(seed));
        for round in 0..4 {
            world.crash_region(Place::Home);
            expect_place(&mut world, Place::Standby);
            assert_eq!(world.run_for(millis(300 * round)), Ok(()));
            if round % 2 == 0 {
                world.crash_region(Place::Standby);
                assert_eq!(world.run_for(millis(700)), Ok(()));
            }
            if round == 3 {
                for number in 1..=3 {
                    world.cut_power(board(number));
                    world.boot_later(board(number));
                }
            }
            world.boot_region(Place::Home);
            expect_place(&mut world, Place::Home);
            world.boot_region(Place::Standby);
            assert_eq!(world.run_for(millis(200)), Ok(()));
        }
        world.rest();
        ends_well(&mut world);
        let lacks = world.acknowledged().into_iter().find(|mark| world.rows(*mark) != 1);
        assert_eq!((lacks, world.tally().released_elsewhere), (None, 0), "seed {seed}");
    }
}

/// The better region comes back with an older store than it had.
#[test]
fn a_region_that_is_put_back_while_another_stands_in_gets_both_what_it_lost_and_what_it_missed() {
    for seed in 1..=3 {
        let mut world = settle(keeping(seed));
        let backup = world.region_backup();
        assert_eq!(world.run_for(millis(2_000)), Ok(()));
        world.crash_region(Place::Home);
        expect_place(&mut world, Place::Standby);
        assert_eq!(world.run_for(millis(2_000)), Ok(()));
        world.region_restored(backup);
        expect_place(&mut world, Place::Home);
        expect_whole(world);
    }
}

/// A leader that is cut off from its site speaks with one region while its successor speaks with the other.
#[test]
fn two_leaders_that_speak_with_two_regions_do_no_harm() {
    for seed in 1..=4 {
        let mut world = settle(keeping(seed));
        world.crash_region(Place::Home);
        expect_place(&mut world, Place::Standby);
        let old = world.leader().unwrap();
        for number in (1..=3).filter(|number| board(*number) != old) {
            world.cut_way(old, board(number));
            world.cut_way(board(number), old);
        }
        world.boot_region(Place::Home);
        let moved = reaches(&mut world, 3_000, |world| world.leader().is_some_and(|leader| leader != old));
        assert_eq!(moved, Ok(true), "seed {seed}");
        expect_place(&mut world, Place::Home);
        assert_eq!(world.run_for(millis(6_500)), Ok(()));
        for number in (1..=3).filter(|number| board(*number) != old) {
            world.mend_way(old, board(number));
            world.mend_way(board(number), old);
        }
        expect_whole(world);
    }
}

/// What a journal has no room to keep goes, the oldest first; the region that never got it counts it. Which that is `covered_kept` says.
#[test]
fn what_is_kept_no_longer_is_a_hole_in_the_region_that_was_away() {
    for seed in 1..=3 {
        let settings = Settings { segment_bytes: 64 * 1024, segments_max: 64, covered_kept: Some(4), ..keeping(seed) };
        let mut world = settle(settings);
        world.crash_region(Place::Home);
        expect_place(&mut world, Place::Standby);
        assert_eq!(world.run_for(millis(8_000)), Ok(()));
        world.boot_region(Place::Home);
        expect_place(&mut world, Place::Home);
        world.rest();
        ends_well(&mut world);
        let lacks = world.acknowledged().into_iter().filter(|mark| world.rows(*mark) == 0);
        let lacks: Vec<_> = lacks.collect();
        assert!(!lacks.is_empty(), "seed {seed}: everything was kept");
        assert!(lacks.iter().all(|mark| world.rows_standby(*mark) == 1), "seed {seed}: what one lacks the other has");
        assert!(lacks.iter().all(|mark| world.is_hole(*mark)), "seed {seed}: nothing is silently absent");
        assert_eq!((world.tally().shed, world.tally().went_back), (0, 0), "seed {seed}");
    }
}

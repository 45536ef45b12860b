//! What rots or is lost on one board comes back from the others; what rots on all is named.

use shared::ids::BoardId;
use tests::mark::Mark;
use tests::settings::Settings;
use tests::world::World;

use crate::data::region_away;
use crate::{board, ends_well, millis, reaches, settle};

/// Three boards cut off from their region, and readings that were acknowledged by `victim` since, the oldest first.
fn cut_off(seed: u64, boards: u8, victim: BoardId) -> (World, Vec<Mark>) {
    let mut settings = Settings::quiet(seed, boards, 2);
    settings.busy = millis(120_000);
    settings.patience = millis(60_000);
    let mut world = settle(settings);
    region_away(&mut world, boards, true);
    world.steer(0, Some(victim));
    // Until the session has fallen: what is handed to it still arrives when the way is mended.
    assert_eq!(world.run_for(millis(4_000)), Ok(()));
    let mut marks = Vec::new();
    for _ in 0..5 {
        let mark = world.publish(0);
        assert_eq!(reaches(&mut world, 2_000, |world| world.is_acknowledged(mark)), Ok(true));
        marks.push(mark);
    }
    (world, marks)
}

/// No publisher publishes any more; what is published already stays.
fn quiet(world: &mut World) {
    world.rest();
    assert_eq!(world.run_for(millis(1_000)), Ok(()));
}

#[test]
fn a_flipped_bit_is_found_and_repaired_from_the_copy() {
    for seed in 1..=8 {
        let victim = board(1 + (seed % 3) as u8);
        let (mut world, marks) = cut_off(seed, 3, victim);
        // On the disk of the origin, and on that of the keeper.
        let holder = if seed % 2 == 0 {
            victim
        } else {
            world.holders(marks[0]).into_iter().find(|at| *at != victim).unwrap()
        };
        assert!(world.flip_bit(holder, marks[0]));
        assert!(!world.holders(marks[0]).contains(&holder));
        let back = |world: &World| world.holders(marks[0]).contains(&holder);
        assert_eq!(reaches(&mut world, 15_000, back), Ok(true), "seed {seed}: not repaired");
        assert!(world.tally().damaged > 0 && world.tally().missing > 0, "seed {seed}: nobody noticed");
        assert_eq!(world.tally().gone, 0);
        region_away(&mut world, 3, false);
        ends_well(&mut world);
        assert_eq!(world.rows(marks[0]), 1);
    }
}

#[test]
fn a_bit_that_flips_while_the_board_is_off_is_repaired_after_its_start() {
    for seed in 1..=6 {
        let victim = board(1 + (seed % 3) as u8);
        let (mut world, marks) = cut_off(seed, 3, victim);
        world.cut_power(victim);
        assert!(world.flip_bit(victim, marks[seed as usize % 5]));
        assert_eq!(world.run_for(millis(500)), Ok(()));
        world.boot(victim);
        let back = |world: &World| marks.iter().all(|mark| world.holders(*mark).len() >= 2);
        assert_eq!(reaches(&mut world, 20_000, back), Ok(true), "seed {seed}: not repaired");
        region_away(&mut world, 3, false);
        ends_well(&mut world);
    }
}

#[test]
fn a_replaced_disk_is_refilled_with_what_it_kept_and_with_its_own() {
    // Of a pair without a witness board 1 is the only voter, whose terms nobody else remembers.
    for (seed, boards, victim) in [(1, 3, board(2)), (2, 3, board(1)), (3, 2, board(2)), (4, 2, board(2))] {
        let (mut world, marks) = cut_off(seed, boards, victim);
        quiet(&mut world);
        let all = world.acknowledged();
        assert!(all.len() > 50 && all.contains(&marks[0]));
        world.replace_disk(victim);
        assert_eq!(world.run_for(millis(6_000)), Ok(()));
        assert!(all.iter().any(|mark| world.holders(*mark).len() < 2));
        world.boot(victim);
        let back = |world: &World| all.iter().all(|mark| world.rows(*mark) > 0 || world.holders(*mark).len() >= 2);
        assert_eq!(reaches(&mut world, 30_000, back), Ok(true), "seed {seed}: copies are missing");
        region_away(&mut world, boards, false);
        ends_well(&mut world);
    }
}

#[test]
fn a_board_that_stays_away_is_replaced_as_keeper_and_not_before_its_time() {
    let mut settings = Settings::quiet(3, 3, 2);
    settings.busy = millis(120_000);
    settings.repair.absent_after = millis(20_000);
    let mut world = settle(settings);
    region_away(&mut world, 3, true);
    world.steer(0, Some(board(3)));
    assert_eq!(world.run_for(millis(1_500)), Ok(()));
    quiet(&mut world);
    let all = world.acknowledged();
    world.cut_power(board(3));
    world.steer(0, None);
    let others = |world: &World, mark: &Mark| world.holders(*mark).into_iter().filter(|at| *at != board(3)).count();
    let whole = |world: &World| all.iter().all(|mark| world.rows(*mark) > 0 || others(world, mark) >= 2);
    assert!(!whole(&world));
    assert_eq!(reaches(&mut world, 19_000, whole), Ok(false), "its disk still has them");
    assert_eq!(reaches(&mut world, 30_000, whole), Ok(true));
    world.boot(board(3));
    region_away(&mut world, 3, false);
    ends_well(&mut world);
}

#[test]
fn what_rots_on_every_board_is_named_by_a_gap() {
    for seed in 1..=6 {
        let victim = board(1 + (seed % 3) as u8);
        let (mut world, marks) = cut_off(seed, 3, victim);
        for holder in world.holders(marks[2]) {
            assert!(world.flip_bit(holder, marks[2]));
        }
        assert!(world.holders(marks[2]).is_empty());
        assert!(world.pardon_lost() >= 1);
        assert_eq!(world.run_for(millis(20_000)), Ok(()));
        assert_eq!(world.tally().gone, 0, "the region has not said that it lacks it");
        assert!(world.missing() > 0, "the hole is open and seen");
        region_away(&mut world, 3, false);
        let named = |world: &World| world.gap_of(marks[2]).is_some();
        assert_eq!(reaches(&mut world, 30_000, named), Ok(true), "seed {seed}: nothing names it");
        assert_eq!(world.gap_of(marks[2]), Some(shared::record::GapReason::Damaged));
        ends_well(&mut world);
        assert_eq!((world.rows(marks[2]), world.missing()), (0, 0));
        assert_eq!(world.rows(marks[1]) + world.rows(marks[3]), 2, "its neighbours are there");
    }
}

#[test]
fn a_hole_stays_open_while_a_board_that_may_fill_it_is_away() {
    let victim = board(1);
    let (mut world, marks) = cut_off(5, 3, victim);
    // A slow peer may have made a third copy of one.
    let mark = marks.into_iter().find(|mark| world.holders(*mark).len() == 2).unwrap();
    let keeper = world.holders(mark).into_iter().find(|at| *at != victim).unwrap();
    world.keep_down(keeper);
    world.cut_power(keeper);
    assert!(world.flip_bit(victim, mark));
    region_away(&mut world, 3, false);
    assert_eq!(world.run_for(millis(30_000)), Ok(()));
    assert!(world.missing() > 0 && world.tally().gone == 0, "the keeper has it");
    world.let_boot(keeper);
    assert_eq!(reaches(&mut world, 20_000, |world| world.rows(mark) == 1), Ok(true));
    ends_well(&mut world);
    assert_eq!(world.missing(), 0);
}

#[test]
fn commits_go_on_at_their_pace_while_a_disk_is_refilled() {
    // Two of three boards are asked for as much as they can take; the third is refilled meanwhile.
    let pace = |refilled: bool| {
        let mut settings = Settings::quiet(7, 3, 2);
        settings.busy = millis(120_000);
        settings.interval = (millis(1), millis(3));
        // Copies for which nobody waits are made while a journal is at most half full.
        (settings.segment_bytes, settings.segments_max) = (256 * 1024, 256);
        let mut world = settle(settings);
        region_away(&mut world, 3, true);
        assert_eq!(world.run_for(millis(10_000)), Ok(()));
        if refilled {
            world.replace_disk(board(3));
            assert_eq!(world.run_for(millis(6_000)), Ok(()));
            world.boot(board(3));
        } else {
            assert_eq!(world.run_for(millis(6_000)), Ok(()));
        }
        assert_eq!(world.run_for(millis(1_000)), Ok(()));
        let before = world.tally();
        assert_eq!(world.run_for(millis(5_000)), Ok(()));
        let after = world.tally();
        assert!(!refilled || after.repairs > before.repairs, "nothing is refilled");
        after.acknowledged - before.acknowledged
    };
    let (alone, beside) = (pace(false), pace(true));
    assert!(beside * 10 >= alone * 9, "{beside} readings were acknowledged beside the refill, {alone} alone");
}

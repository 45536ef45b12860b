//! The way to the region, and the region itself.

use std::time::Duration;

use shared::ids::Class;
use tests::settings::Settings;
use tests::world::World;

use crate::{board, ends_well, millis, reaches, settle, settled};

#[test]
fn uplink_cut_then_restored_drains() {
    let mut world = settled(1, 3);
    for number in 1..=3 {
        world.cut_uplink(board(number), true, true);
    }
    assert_eq!(world.run_for(millis(200)), Ok(()));
    let before = world.tally();
    assert_eq!(world.run_for(millis(4_000)), Ok(()));
    let during = world.tally();
    assert_eq!(during.rows, before.rows, "nothing arrives");
    assert!(during.acknowledged > before.acknowledged + 200, "records are taken all the same");
    for number in 1..=3 {
        world.mend_uplink(board(number), true, true);
    }
    let drained = reaches(&mut world, 10_000, |world| world.tally().rows >= during.acknowledged);
    assert_eq!(drained, Ok(true), "the backlog drains");
    ends_well(&mut world);
}

/// Every first path dies without a word: alarms of that moment come home by the second one before anybody has noticed, and what is no
/// alarm does not.
#[test]
fn an_alarm_comes_home_by_the_second_path_while_the_first_is_dead() {
    let (mut all, mut home) = (0, 0);
    for seed in 1..=16 {
        let settings = Settings { second_path: true, ..Settings::quiet(seed, 3, 2) };
        let mut world = settle(settings);
        assert_eq!(world.run_for(millis(1_000)), Ok(()));
        world.rest();
        assert_eq!(world.run_for(millis(1_000)), Ok(()));
        for number in 1..=3 {
            world.cut_uplink(board(number), true, true);
        }
        let marks: Vec<_> = (0..32).map(|_| world.publish(0)).collect();
        // The silence is noticed after 1.5 s at the earliest.
        assert_eq!(world.run_for(millis(1_000)), Ok(()));
        let (alarms, others): (Vec<_>, Vec<_>) = marks.into_iter().partition(|mark| mark.class() == Class::Alarm);
        all += alarms.len();
        home += alarms.iter().filter(|mark| world.rows(**mark) == 1).count();
        assert!(
            others.iter().all(|mark| world.rows(*mark) == 0),
            "seed {seed}: what is no alarm went by the second path"
        );
        for number in 1..=3 {
            world.mend_uplink(board(number), true, true);
        }
        ends_well(&mut world);
    }
    // The second path swallows one copy in ten, too, and falls now and then.
    assert!(all >= 32 && home * 2 >= all, "{home} of {all} alarms were home in time");
}

/// A busy site whose boards have been without an uplink for `outage`, and that has begun to bring home what came meanwhile; and how many
/// readings were acknowledged when it began.
fn draining(seed: u64, outage: Duration) -> (World, u64) {
    let busy = Settings {
        interval: (Duration::from_micros(500), millis(2)),
        busy: millis(20_000),
        ..Settings::quiet(seed, 3, 2)
    };
    let mut world = settle(busy);
    for number in 1..=3 {
        world.cut_uplink(board(number), true, true);
    }
    assert_eq!(world.run_for(outage), Ok(()));
    let cut = world.tally();
    for number in 1..=3 {
        world.mend_uplink(board(number), true, true);
    }
    assert_eq!(reaches(&mut world, 5_000, |world| world.tally().rows > cut.rows + 100), Ok(true), "seed {seed}");
    (world, cut.acknowledged)
}

/// Seen to fail with everything in one lane: the reading came home after the last of the backlog.
#[test]
fn what_is_fresh_comes_home_while_a_backlog_drains() {
    for seed in 1..=2 {
        let (mut world, waiting) = draining(seed, millis(12_000));
        let mark = world.publish(0);
        assert_eq!(reaches(&mut world, 1_000, |world| world.rows(mark) == 1), Ok(true), "seed {seed}");
        let (home, missing) = (world.tally().rows, waiting - world.tally().rows.min(waiting));
        assert!(missing > 1_000, "seed {seed}: {missing} readings of the backlog came later, {home} are home");
        ends_well(&mut world);
    }
}

/// The way stands still for three seconds while a backlog drains: what came just before and meanwhile is not put behind the backlog.
/// Seen to fail with what has become late in the lane of the backlog.
#[test]
fn what_becomes_late_while_a_backlog_drains_does_not_wait_until_it_is_home() {
    for seed in 1..=4 {
        let (mut world, waiting) = draining(seed, millis(14_000));
        let mut marks = Vec::new();
        for step in 0..6 {
            marks.push(world.publish(0));
            if step == 0 {
                for number in 1..=3 {
                    world.cut_uplink(board(number), true, true);
                }
            }
            assert_eq!(world.run_for(millis(500)), Ok(()));
        }
        for number in 1..=3 {
            world.mend_uplink(board(number), true, true);
        }
        // What is fresh, and what was late before it, goes first: that of some seven seconds of a busy site.
        let all_home = reaches(&mut world, 4_000, |world| marks.iter().all(|mark| world.rows(*mark) == 1));
        let missing = waiting - world.tally().rows.min(waiting);
        assert_eq!(all_home, Ok(true), "seed {seed}, {missing} of the backlog are left");
        assert!(missing > 1_000, "seed {seed}: {missing} readings of the backlog came later");
        ends_well(&mut world);
    }
}

/// Seen to fail with nothing kept.
#[test]
fn a_region_that_is_put_back_gets_again_what_it_has_lost() {
    for seed in 1..=6 {
        let settings = Settings {
            // Each commit takes a page at least: what is written in seconds fills some tens of such files.
            segment_bytes: 256 * 1024,
            segments_max: 512,
            interval: (millis(2), millis(8)),
            busy: millis(8_000),
            ..Settings::quiet(seed, 3, 2)
        };
        let mut world = settle(settings);
        let backup = world.region_backup();
        let before = world.tally();
        assert_eq!(world.run_for(millis(5_000)), Ok(()));
        let since = world.tally();
        assert!(since.rows > before.rows + 2_000, "seed {seed}");
        // What is known of the region survives a start; half the seeds try it.
        if seed % 2 == 0 {
            for number in 1..=3 {
                world.cut_power(board(number));
            }
            assert_eq!(world.run_for(millis(10)), Ok(()));
        }
        world.region_restored(backup);
        assert!(world.tally().rows < since.rows, "seed {seed}: the backup is older");
        ends_well(&mut world);
        assert_eq!(world.tally().shed, 0);
    }
}

#[test]
fn answers_that_vanish_do_no_harm() {
    let mut world = settled(2, 3);
    let leader = world.leader().unwrap();
    // Blocks arrive and are stored; what the region answers vanishes, until the session is given up.
    world.cut_uplink(leader, false, true);
    let before = world.tally().rows;
    assert_eq!(world.run_for(millis(1_000)), Ok(()));
    assert!(world.tally().rows > before + 20, "what was on its way is stored");
    assert_eq!(world.run_for(millis(4_000)), Ok(()));
    world.mend_uplink(leader, false, true);
    ends_well(&mut world);
}

#[test]
fn gateway_crash_between_commit_and_ack() {
    for seed in 1..=6 {
        let mut world = settled(seed, 3);
        let mark = world.publish(0);
        // The transaction has committed at this very moment; its answer has not left.
        assert_eq!(reaches(&mut world, 3_000, |world| world.rows(mark) == 1), Ok(true));
        world.region_crash();
        assert_eq!(world.run_for(millis(300)), Ok(()));
        world.region_boot();
        ends_well(&mut world);
        assert_eq!(world.rows(mark), 1, "seed {seed}");
    }
}

#[test]
fn a_transaction_that_fails_is_done_again() {
    let mut world = settled(3, 3);
    let before = world.tally();
    world.fail_next_transaction();
    assert_eq!(reaches(&mut world, 2_000, |world| world.tally().sessions_closed > before.sessions_closed), Ok(true));
    ends_well(&mut world);
}

#[test]
fn two_uploaders_harmless() {
    for seed in 1..=6 {
        let mut world = settled(seed, 3);
        let old = world.leader().unwrap();
        // The leader is cut off from the others and still reaches the region: for a while both sides upload.
        for number in 1..=3 {
            if board(number) != old {
                world.cut_way(old, board(number));
                world.cut_way(board(number), old);
            }
        }
        let moved = reaches(&mut world, 2_000, |world| world.leader().is_some_and(|leader| leader != old));
        assert_eq!(moved, Ok(true), "seed {seed}");
        // Long enough that the majority takes the other for dead and uploads its copies.
        assert_eq!(world.run_for(millis(6_500)), Ok(()));
        for number in 1..=3 {
            if board(number) != old {
                world.mend_way(old, board(number));
                world.mend_way(board(number), old);
            }
        }
        ends_well(&mut world);
    }
}

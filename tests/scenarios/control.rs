//! Who leads, and what happens to it.

use crate::{board, ends_well, millis, reaches, settled};

#[test]
fn leader_crash_moves_uplink() {
    for seed in 1..=8 {
        let mut world = settled(seed, 3);
        let old = world.leader().unwrap();
        world.keep_down(old);
        world.crash(old);
        let at = world.now();
        // Silence of 400 ms, or the lease of 600 ms with its drift; then one round of votes.
        let moved = reaches(&mut world, 1_500, |world| world.leader().is_some_and(|leader| leader != old));
        assert_eq!(moved, Ok(true), "seed {seed}: no new leader");
        let took = world.now().since(at);
        assert!(took >= millis(300), "seed {seed}: a lease was taken over after {took:?}, while it still ran");
        assert!(took <= millis(1_000), "seed {seed}: takeover took {took:?}");
        let rows = world.tally().rows;
        assert_eq!(reaches(&mut world, 2_000, |world| world.tally().rows > rows + 20), Ok(true), "uplink moved too");
        ends_well(&mut world);
    }
}

#[test]
fn planned_stop_hands_over_at_once() {
    for seed in 1..=8 {
        let mut world = settled(seed, 3);
        let old = world.leader().unwrap();
        let at = world.now();
        world.stop(old);
        let moved = reaches(&mut world, 1_000, |world| world.leader().is_some_and(|leader| leader != old));
        assert_eq!(moved, Ok(true), "seed {seed}: no new leader");
        let took = world.now().since(at);
        assert!(took <= millis(50), "seed {seed}: hand-over took {took:?}");
        assert_eq!(reaches(&mut world, 1_000, |world| world.tally().stops == 1), Ok(true));
        ends_well(&mut world);
    }
}

#[test]
fn stale_leader_fenced() {
    let mut world = settled(1, 3);
    let old = world.leader().unwrap();
    world.keep_down(old);
    world.crash(old);
    assert_eq!(reaches(&mut world, 3_000, |world| world.leader().is_some()), Ok(true));
    let rows = world.tally().rows;
    assert_eq!(reaches(&mut world, 3_000, |world| world.tally().rows > rows + 20), Ok(true));
    let before = world.tally().sessions_refused;
    world.replay_stale_hello(old);
    assert_eq!(reaches(&mut world, 1_000, |world| world.tally().sessions_refused > before), Ok(true));
    // The region remembers the highest term over a restart, too.
    world.region_crash();
    assert_eq!(world.run_for(millis(100)), Ok(()));
    world.region_boot();
    let before = world.tally().sessions_refused;
    world.replay_stale_hello(old);
    assert_eq!(reaches(&mut world, 1_000, |world| world.tally().sessions_refused > before), Ok(true));
    ends_well(&mut world);
}

#[test]
fn a_leader_that_stands_still_does_not_lead_when_it_goes_on() {
    let mut world = settled(2, 3);
    let old = world.leader().unwrap();
    world.freeze(old, millis(2_500));
    let moved = reaches(&mut world, 2_000, |world| world.leader().is_some_and(|leader| leader != old));
    assert_eq!(moved, Ok(true));
    assert_eq!(world.run_for(millis(3_000)), Ok(()));
    ends_well(&mut world);
}

#[test]
fn a_minority_has_no_leader_and_takes_records_all_the_same() {
    let mut world = settled(3, 3);
    let alone = world.leader().unwrap();
    let others: Vec<_> = (1..=3).map(board).filter(|other| *other != alone).collect();
    for other in &others {
        world.cut_way(alone, *other);
        world.cut_way(*other, alone);
    }
    assert_eq!(world.run_for(millis(2_500)), Ok(()));
    assert!(world.leader().is_some_and(|leader| leader != alone), "the majority leads");
    world.steer(0, Some(alone));
    assert_eq!(world.run_for(millis(500)), Ok(()));
    let mark = world.publish(0);
    assert_eq!(reaches(&mut world, 2_000, |world| world.is_acknowledged(mark)), Ok(true), "alone, visibly degraded");
    for other in &others {
        world.mend_way(alone, *other);
        world.mend_way(*other, alone);
    }
    world.steer(0, None);
    ends_well(&mut world);
    assert!(world.tally().degraded > 0);
    assert_eq!(world.rows(mark), 1);
}

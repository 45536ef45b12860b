//! Who leads, and what happens to it.

use std::time::Duration;

use shared::action::{Wish, WishAnswer};
use shared::ids::{BoardId, VoterId, VoterSet};
use tests::settings::Settings;
use tests::world::World;

use crate::{board, ends_well, millis, reaches, settle, settled};

/// The leader ends as `ends` has it: how long the site is without one.
fn takeover(world: &mut World, ends: impl FnOnce(&mut World, BoardId)) -> Duration {
    let old = world.leader().expect("a settled site is led");
    world.keep_down(old);
    ends(world, old);
    let at = world.now();
    let moved = reaches(world, 1_500, |world| world.leader().is_some_and(|leader| leader != old));
    assert_eq!(moved, Ok(true), "no new leader");
    world.now().since(at)
}

#[test]
fn leader_crash_moves_uplink() {
    for seed in 1..=8 {
        let mut world = settled(seed, 3);
        let took = takeover(&mut world, World::crash_unseen);
        // The lease of 200 ms, of which at most a renewal had gone, with its drift; then one round of votes.
        assert!(took >= millis(140), "seed {seed}: a lease was taken over after {took:?}, while it still ran");
        assert!(took <= millis(500), "seed {seed}: takeover took {took:?}");
        let rows = world.tally().rows;
        assert_eq!(reaches(&mut world, 2_000, |world| world.tally().rows > rows + 20), Ok(true), "uplink moved too");
        ends_well(&mut world);
    }
}

#[test]
fn a_crash_that_the_supervisor_attests_costs_no_lease() {
    for seed in 1..=8 {
        let mut world = settled(seed, 3);
        let took = takeover(&mut world, World::crash);
        assert!(took <= millis(60), "seed {seed}: takeover took {took:?}");
        ends_well(&mut world);
    }
}

#[test]
fn a_pair_with_a_far_witness_moves_its_leader() {
    for seed in 1..=8 {
        let mut pair = Settings::quiet(seed, 2, 2);
        (pair.witness, pair.voters) = (true, None);
        pair.witness_way.delay = millis(30);
        let mut world = settle(pair);
        // Both have found the witness, and it has on disk what a takeover needs.
        assert_eq!(world.run_for(millis(6_000)), Ok(()));
        let took = takeover(&mut world, World::crash_unseen);
        assert!(took >= millis(140), "seed {seed}: a lease was taken over after {took:?}, while it still ran");
        assert!(took <= millis(1_000), "seed {seed}: takeover took {took:?}");
        ends_well(&mut world);
    }
}

#[test]
fn a_pair_without_a_witness_stops_when_its_partner_is_dead_and_takes_records_all_the_same() {
    let mut pair = Settings::quiet(4, 2, 2);
    pair.voters = None;
    let mut world = settle(pair);
    let dead = world.leader().unwrap();
    let left = if dead == board(1) { board(2) } else { board(1) };
    world.keep_down(dead);
    world.crash_unseen(dead);
    world.steer(0, Some(left));
    assert_eq!(world.run_for(millis(3_000)), Ok(()));
    assert_eq!(world.leader(), None, "one of two voters is no majority");
    let mark = world.publish(0);
    assert_eq!(reaches(&mut world, 2_000, |world| world.is_acknowledged(mark)), Ok(true), "alone, visibly degraded");
    world.steer(0, None);
    world.let_boot(dead);
    ends_well(&mut world);
    assert_eq!(world.rows(mark), 1);
}

#[test]
fn a_hand_over_on_wish_goes_to_the_board_that_was_named() {
    for seed in 1..=8 {
        let mut world = settled(seed, 3);
        let old = world.leader().unwrap();
        let to = (1..=3).map(board).find(|other| *other != old).unwrap();
        let at = world.now();
        assert_eq!(world.wish(old, Wish::HandOver { to: Some(to) }), Some(WishAnswer::Begun));
        assert_eq!(reaches(&mut world, 1_000, |world| world.leader() == Some(to)), Ok(true));
        let took = world.now().since(at);
        assert!(took <= millis(50), "seed {seed}: hand-over took {took:?}");
        ends_well(&mut world);
    }
}

#[test]
fn who_votes_changes_while_the_site_runs() {
    for seed in 1..=4 {
        let mut world = settled(seed, 5);
        let leader = world.leader().unwrap();
        let others = (1..=5).map(board).filter(|other| *other != leader).take(2);
        let three: VoterSet = others.chain([leader]).map(VoterId::from).collect();
        assert_eq!(world.wish(leader, Wish::Voters(three)), Some(WishAnswer::Begun), "seed {seed}");
        assert_eq!(world.run_for(millis(1_000)), Ok(()));
        assert_eq!(world.leader(), Some(leader), "seed {seed}: the lease goes on");
        assert_eq!(world.wish(leader, Wish::Voters(three)), Some(WishAnswer::Already), "seed {seed}");
        let took = takeover(&mut world, World::crash_unseen);
        assert!(took <= millis(500), "seed {seed}: takeover took {took:?}");
        let next: VoterId = world.leader().unwrap().into();
        assert!(three.contains(next), "seed {seed}: {next:?} leads and does not vote");
        ends_well(&mut world);
    }
}

#[test]
fn where_nobody_is_left_to_tell_a_replaced_voter_an_operator_does() {
    for seed in 1..=8 {
        let mut three = Settings::quiet(seed, 3, 2);
        three.busy = millis(40_000);
        let mut world = settle(three);
        let dead = world.leader().unwrap();
        let [replaced, left] = [1, 2].map(|step| board((dead.get() - 1 + step) % 3 + 1));
        world.keep_down(dead);
        world.crash_unseen(dead);
        world.keep_down(replaced);
        world.crash_unseen(replaced);
        world.replace_disk(replaced);
        world.let_boot(replaced);
        let limit = world.now() + millis(30_000);
        let mut answer = None;
        while answer.is_none() && world.now() < limit {
            assert_eq!(world.run_for(millis(100)), Ok(()));
            answer = world.wish(replaced, Wish::Vote);
        }
        assert!(matches!(answer, Some(WishAnswer::Refused(_))), "seed {seed}: too early: {answer:?}");
        assert_eq!(world.run_for(millis(7_000)), Ok(()));
        assert_eq!(world.leader(), None, "seed {seed}: one of three remembers");
        assert_eq!(world.wish(left, Wish::Vote), Some(WishAnswer::Already), "seed {seed}");
        assert_eq!(world.wish(replaced, Wish::Vote), Some(WishAnswer::Begun), "seed {seed}");
        let led = reaches(&mut world, 2_000, |world| world.leader().is_some());
        assert_eq!(led, Ok(true), "seed {seed}: two of three vote");
        world.let_boot(dead);
        ends_well(&mut world);
    }
}

#[test]
fn a_site_of_one_board_leads_itself() {
    let mut world = settled(5, 1);
    assert_eq!(world.leader(), Some(board(1)));
    world.crash_unseen(board(1));
    ends_well(&mut world);
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

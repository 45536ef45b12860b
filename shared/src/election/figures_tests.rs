//! The figures of a takeover in the simulated site: clocks as wrong as allowed, a LAN of up to 1.7 ms one way, a witness
//! 30 ms away, disks that take up to 31 ms. And what must not cost anything: restarts, changes of voters.

use alloc::vec::Vec;
use core::time::Duration;

use super::rules::Rules;
use super::world::{World, board, witness};
use crate::action::WishAnswer;
use crate::ids::{VoterId, VoterSet};
use crate::limits::{GIVE_WAY_RANK, GIVE_WAY_UPLINK};
use crate::wire::heartbeat::Fitness;

const SECOND: u64 = 1_000_000;

fn led(seed: u64, boards: u8) -> World {
    let world = World::new(seed, boards, boards.min(3), Rules::default());
    let mut world = if boards == 2 { world.with_witness(1, true) } else { world };
    world.run(SECOND + seed * 7919 % 50_000);
    assert!(world.holder().is_some(), "seed {seed}: {:?}", world.record.story);
    world.record.gap_micros = 0;
    world
}

/// The gaps of 40 seeds, from the shortest to the longest, after `strike`.
fn gaps(boards: u8, strike: impl Fn(&mut World)) -> Vec<u64> {
    let gap = |seed| {
        let mut world = led(seed, boards);
        let (leader, _) = world.holder().unwrap();
        strike(&mut world);
        world.run(2 * SECOND);
        let story = world.record.story.join("\n");
        assert_eq!(world.record.fault, None, "seed {seed}:\n{story}");
        assert!(world.holder().is_some_and(|(board, _)| board != leader), "seed {seed}:\n{story}");
        world.record.gap_micros
    };
    let mut gaps: Vec<u64> = (0..40).map(gap).collect();
    gaps.sort_unstable();
    gaps
}

fn leader(world: &World) -> crate::ids::BoardId {
    world.holder().unwrap().0
}

#[test]
fn a_dead_leader_of_three_is_followed_within_its_lease_and_thirty_milliseconds() {
    let gaps = gaps(3, |world| world.crash(leader(world), 60 * SECOND));
    assert!(gaps[39] < 236_000, "{gaps:?}");
}

#[test]
fn a_dead_leader_of_a_pair_is_followed_within_its_lease_and_a_round_trip_to_the_witness() {
    let gaps = gaps(2, |world| world.crash(leader(world), 60 * SECOND));
    assert!(gaps[20] < 300_000 && gaps[38] < 330_000, "{gaps:?}");
}

#[test]
fn an_attested_crash_costs_some_round_trips() {
    let gaps = gaps(3, |world| world.crash_attested(leader(world), 60 * SECOND));
    assert!(gaps[20] < 15_000 && gaps[39] < 30_000, "{gaps:?}");
}

#[test]
fn a_hand_over_costs_two_round_trips() {
    let gaps = gaps(3, |world| {
        world.hand_over(None).expect("somebody follows");
    });
    assert!(gaps[20] < 5_000 && gaps[39] < 10_000, "{gaps:?}");
}

#[test]
fn the_witness_carries_a_leader_whose_partner_dies_and_is_out_of_the_way_once_it_is_back() {
    for seed in 0..20 {
        let mut world = led(seed, 2);
        let leader = leader(&world);
        let partner = board(3 - leader.get());
        world.crash(partner, 3 * SECOND);
        world.run(2 * SECOND);
        assert_eq!(world.holder().map(|(board, _)| board), Some(leader), "seed {seed}: {:?}", world.record.story);
        assert_eq!(world.record.gap_micros, 0, "seed {seed}: {:?}", world.record.story);
        world.run(4 * SECOND);
        assert_eq!(world.record.gap_micros, 0, "seed {seed}: {:?}", world.record.story);
        // The witness has been waived: the leader's death costs a lease of the boards, not one of the witness.
        world.crash(leader, 60 * SECOND);
        world.run(2 * SECOND);
        assert!(world.record.gap_micros < 330_000, "seed {seed}: {} us", world.record.gap_micros);
    }
}

fn voters(numbers: &[u8], witnesses: &[u8]) -> VoterSet {
    let boards = numbers.iter().map(|number| VoterId::from(board(*number)));
    boards.chain(witnesses.iter().map(|number| witness(*number))).collect()
}

#[test]
fn voters_change_while_the_site_runs_and_nothing_stops() {
    for seed in 0..20 {
        let mut world = led(seed, 4);
        world.run(6 * SECOND);
        world.record.gap_micros = 0;
        let leader = leader(&world).get();
        let comes = 4;
        let goes = leader % 3 + 1;
        let wanted: Vec<u8> = (1..=4).filter(|number| *number != goes).collect();
        assert!(wanted.contains(&comes));
        assert_eq!(world.wish(voters(&wanted, &[])), Some(WishAnswer::Begun));
        world.run(SECOND);
        let story = world.record.story.join("\n");
        assert_eq!(world.voters().map(|voters| voters.set), Some(voters(&wanted, &[])), "seed {seed}:\n{story}");
        assert_eq!(world.record.gap_micros, 0, "seed {seed}:\n{story}");
        // The new set elects without the old member, and also without the leader.
        world.crash(board(leader), 60 * SECOND);
        world.run(2 * SECOND);
        let after = world.holder().map(|(board, _)| board.get());
        assert!(after.is_some_and(|board| wanted.contains(&board) && board != leader), "seed {seed}: {after:?}");
    }
}

#[test]
fn a_witness_is_replaced_by_another() {
    for seed in 0..10 {
        let mut world = World::new(seed, 2, 2, Rules::default())
            .with_witness(1, true)
            .with_witness(2, false);
        world.run(6 * SECOND);
        world.record.gap_micros = 0;
        assert_eq!(world.wish(voters(&[1, 2], &[2])), Some(WishAnswer::Begun), "seed {seed}");
        world.run(2 * SECOND);
        let story = world.record.story.join("\n");
        assert_eq!(world.voters().map(|voters| voters.set), Some(voters(&[1, 2], &[2])), "seed {seed}:\n{story}");
        assert_eq!(world.record.gap_micros, 0, "seed {seed}:\n{story}");
        world.crash(witness(1), 60 * SECOND);
        let leader = leader(&world);
        world.crash(leader, 60 * SECOND);
        world.run(2 * SECOND);
        assert!(world.holder().is_some_and(|(board, _)| board != leader), "seed {seed}:\n{story}");
    }
}

#[test]
fn a_leader_gives_way_to_a_board_with_an_uplink_soon_and_to_a_preferred_one_later() {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap();
    for (fitness, after) in [
        (Fitness { uplink: false, ..Fitness::default() }, GIVE_WAY_UPLINK),
        (Fitness { health: 2, ..Fitness::default() }, GIVE_WAY_RANK),
    ] {
        let mut world = led(1, 3);
        let leader = leader(&world);
        world.set_fitness(leader, fitness);
        world.run(micros(after) - 400_000);
        assert_eq!(world.wants_hand_over(), None);
        world.run(900_000);
        let to = world.wants_hand_over().expect("a fitter board");
        assert_ne!(to, leader);
        assert_eq!(world.hand_over(Some(to)), Some(to));
        world.run(SECOND);
        assert_eq!(world.holder().map(|(board, _)| board), Some(to));
        assert!(world.standing(to).lease.is_some());
    }
}

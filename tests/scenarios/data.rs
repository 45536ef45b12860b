//! What is acknowledged stays.

use crate::{board, ends_well, millis, reaches, settled};

/// Cuts every board off the region, or mends that.
pub(crate) fn region_away(world: &mut tests::world::World, boards: u8, away: bool) {
    for number in 1..=boards {
        if away {
            world.cut_uplink(board(number), true, true);
        } else {
            world.mend_uplink(board(number), true, true);
        }
    }
}

#[test]
fn board_killed_1ms_after_ack_is_in_store_once() {
    for seed in 1..=12 {
        let mut world = settled(seed, 3);
        let victim = board(1 + (seed % 3) as u8);
        world.steer(0, Some(victim));
        assert_eq!(world.run_for(millis(500)), Ok(()));
        let mark = world.publish(0);
        assert_eq!(reaches(&mut world, 2_000, |world| world.is_acknowledged(mark)), Ok(true));
        assert_eq!(world.run_for(millis(1)), Ok(()));
        match seed % 3 {
            0 => world.crash(victim),
            1 => world.cut_power(victim),
            _ => world.destroy(victim),
        }
        world.steer(0, None);
        ends_well(&mut world);
        assert_eq!(world.rows(mark), 1, "seed {seed}");
    }
}

#[test]
fn publisher_resends_through_another_board_makes_one_row() {
    // Publishers 0, 1 and 2 are told apart by their numbers, by content, and by delivery.
    for publisher in 0..3 {
        let mut world = settled(10 + u64::from(publisher), 3);
        world.steer(publisher, Some(board(1)));
        assert_eq!(world.run_for(millis(500)), Ok(()));
        let again = world.tally().sent_again;
        let met = world.tally().duplicates_met;
        let mark = world.publish(publisher);
        assert_eq!(reaches(&mut world, 2_000, |world| world.is_acknowledged(mark)), Ok(true));
        // The acknowledgement is on its way; the connection ends before it arrives.
        world.steer(publisher, Some(board(2)));
        assert_eq!(world.run_for(millis(1_000)), Ok(()));
        assert!(world.tally().sent_again > again, "publisher {publisher} sends again");
        world.steer(publisher, None);
        ends_well(&mut world);
        assert!(world.tally().duplicates_met > met, "publisher {publisher}: both came, one was met");
        assert_eq!(world.rows(mark), 1, "publisher {publisher}");
    }
}

#[test]
fn whole_site_power_cut_loses_nothing_acknowledged() {
    for seed in 1..=8 {
        let mut world = settled(seed, 3);
        region_away(&mut world, 3, true);
        assert_eq!(world.run_for(millis(2_000)), Ok(()));
        let before = world.tally();
        assert!(before.acknowledged > before.rows + 50, "the site keeps what the region does not have");
        world.cut_site_power();
        assert_eq!(world.run_for(millis(2_500)), Ok(()));
        region_away(&mut world, 3, false);
        ends_well(&mut world);
    }
}

#[test]
fn dead_origin_uploaded_from_its_copy() {
    for seed in 1..=6 {
        let mut world = settled(seed, 3);
        let victim = board(1 + (seed % 3) as u8);
        region_away(&mut world, 3, true);
        world.steer(0, Some(victim));
        assert_eq!(world.run_for(millis(500)), Ok(()));
        let mark = world.publish(0);
        assert_eq!(reaches(&mut world, 2_000, |world| world.is_acknowledged(mark)), Ok(true));
        assert_eq!(world.rows(mark), 0);
        world.destroy(victim);
        world.steer(0, None);
        region_away(&mut world, 3, false);
        assert_eq!(reaches(&mut world, 20_000, |world| world.rows(mark) == 1), Ok(true), "seed {seed}");
        ends_well(&mut world);
        assert_eq!(world.rows(mark), 1);
    }
}

#[test]
fn failed_sync_poisons_and_recovers() {
    for seed in 1..=6 {
        let mut world = settled(seed, 3);
        let victim = board(1 + (seed % 3) as u8);
        world.steer(0, Some(victim));
        assert_eq!(world.run_for(millis(500)), Ok(()));
        let boots = world.tally().boots;
        world.fail_next_sync(victim);
        assert_eq!(reaches(&mut world, 5_000, |world| world.tally().poisoned == 1), Ok(true), "seed {seed}");
        assert_eq!(reaches(&mut world, 5_000, |world| world.tally().boots > boots), Ok(true));
        // What the page cache still showed after the failure must not be counted on: power goes, too.
        assert_eq!(world.run_for(millis(700)), Ok(()));
        world.cut_power(victim);
        world.boot(victim);
        world.steer(0, None);
        ends_well(&mut world);
    }
}

#[test]
fn a_pair_goes_on_when_one_is_lost() {
    let mut world = settled(4, 2);
    world.destroy(board(2));
    world.steer(0, None);
    assert_eq!(world.run_for(millis(2_000)), Ok(()));
    let mark = world.publish(0);
    assert_eq!(reaches(&mut world, 8_000, |world| world.is_acknowledged(mark)), Ok(true));
    ends_well(&mut world);
    assert_eq!(world.rows(mark), 1);
}

#[test]
fn a_full_journal_sheds_bulk_then_events_and_says_so_and_takes_every_alarm() {
    let mut settings = tests::settings::Settings::quiet(5, 3, 2);
    (settings.segment_bytes, settings.segments_max) = (64 * 1024, 24);
    settings.interval = (millis(2), millis(4));
    settings.busy = millis(60_000);
    let mut world = tests::world::World::new(settings);
    assert_eq!(reaches(&mut world, 5_000, |world| world.tally().rows > 20), Ok(true));
    region_away(&mut world, 3, true);
    assert_eq!(reaches(&mut world, 34_000, |world| world.tally().sheddings > 20), Ok(true), "the journals fill up");
    // Copies go first here and there; what is away for longer loses the last copy of some, too.
    assert_eq!(world.run_for(millis(5_000)), Ok(()));
    let acknowledged = world.tally().acknowledged;
    assert_eq!(reaches(&mut world, 2_000, |world| world.tally().acknowledged > acknowledged + 500), Ok(true));
    region_away(&mut world, 3, false);
    let rows = world.tally().rows;
    assert_eq!(reaches(&mut world, 10_000, |world| world.tally().rows > rows + 1_000), Ok(true));
    ends_well(&mut world);
    let tally = world.tally();
    assert!(tally.shed > 0, "{tally}");
    assert_eq!(tally.full, 0, "alarms always find room, or wait for moments: {tally}");
}

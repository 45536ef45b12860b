//! A short race: the marks of membership held in simulated time, on seeds that are worlds; and rules that are broken on
//! purpose, which the same heats must find.

use std::time::Duration;

use shared::config::Timing;
use shared::membership::{Margin, Rules};
use tests::race::heats::{bytes, detection, false_verdicts, percentile, verdicts_of};
use tests::race::{Ours, Rival, Weather, rival};

const MINUTE: Duration = Duration::from_secs(60);

fn deaths(weather: &Weather, times: u32) -> Vec<Duration> {
    detection::<Ours>(weather, &Timing::default(), 7, times)
}

fn wrong(weather: &Weather, minutes: u32) -> usize {
    false_verdicts::<Ours>(weather, &Timing::default(), 3, MINUTE * minutes)
}

#[test]
fn a_dead_board_is_known_to_all_within_the_marks() {
    for (boards, times, mark) in [(3, 30, 400), (16, 15, 400), (64, 4, 700)] {
        let took = deaths(&Weather::clean(boards), times);
        assert!(percentile(&took, 99) <= Duration::from_millis(mark), "{boards} boards: {took:?}");
    }
}

#[test]
fn a_dead_board_is_known_within_a_second_where_thirty_in_a_hundred_are_lost() {
    for (boards, times) in [(2, 20), (3, 20), (16, 5)] {
        let took = deaths(&Weather::lossy(boards), times);
        assert!(percentile(&took, 99) <= Duration::from_secs(1), "{boards} boards: {took:?}");
    }
}

#[test]
fn nobody_is_accused_on_a_clean_lan_or_a_lossy_one() {
    for (boards, clean, lossy) in [(2, 60, 20), (3, 60, 20), (16, 5, 2), (64, 1, 0)] {
        assert_eq!(wrong(&Weather::clean(boards), clean), 0, "{boards} boards, clean");
        assert_eq!(wrong(&Weather::lossy(boards), lossy), 0, "{boards} boards, lossy");
    }
}

#[test]
fn a_starved_board_accuses_nobody() {
    assert_eq!(wrong(&Weather::starved(), 5), 0);
}

#[test]
fn heartbeats_cost_what_they_may() {
    for (boards, mark) in [(3, 3_000), (16, 22_500), (64, 15_000)] {
        let (mean, _) = bytes::<Ours>(&Weather::clean(boards), &Timing::default(), 1);
        assert!(mean <= mark, "{boards} boards send {mean} bytes a second each");
    }
}

#[test]
fn the_rival_is_slower_on_the_same_seeds() {
    let weather = Weather::clean(16);
    let rival = detection::<Rival>(&weather, &rival::lan(16), 7, 5);
    assert!(percentile(&rival, 50) > percentile(&deaths(&weather, 5), 100), "{rival:?}");
}

#[test]
fn who_judges_before_reading_accuses_the_healthy() {
    assert!(wrong(&Weather { judges_first: true, rules: unforgiving(), ..Weather::starved() }, 2) > 0);
}

#[test]
fn who_ignores_its_own_lateness_accuses_the_healthy() {
    let sleeper = Weather { waiting_most: 0, ..Weather::starved() };
    assert_eq!(wrong(&sleeper, 2), 0);
    assert!(wrong(&Weather { rules: unforgiving(), ..sleeper }, 2) > 0);
}

fn unforgiving() -> Rules {
    Rules { forgives: false, ..Rules::default() }
}

#[test]
fn a_margin_from_the_median_takes_stalling_boards_for_dead() {
    let stalling = Weather {
        stalling: 3,
        stall: (Duration::from_millis(350), Duration::from_secs(2)),
        ..Weather::clean(3)
    };
    let by_mad = Rules { margin: Margin::Mad, ..Rules::default() };
    let count = |weather: &Weather| verdicts_of::<Ours>(weather, &Timing::default(), 3, 10 * MINUTE, 3);
    assert_eq!(count(&stalling), 0);
    assert!(count(&Weather { rules: by_mad, ..stalling }) > 0);
}

#[test]
fn evidence_that_needs_a_round_trip_is_slower() {
    let honest = deaths(&Weather::lossy(3), 20);
    let round_trip = deaths(&Weather { by_round_trip: true, ..Weather::lossy(3) }, 20);
    assert!(percentile(&round_trip, 50) > percentile(&honest, 50) * 5 / 4, "{round_trip:?} {honest:?}");
}

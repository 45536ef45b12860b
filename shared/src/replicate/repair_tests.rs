//! Holes: who is asked, what closes them, and when they are gone.

use super::*;
use crate::ids::{Class, Epoch, Origin};

fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

fn boards(numbers: &[u8]) -> BoardSet {
    numbers.iter().map(|number| board(*number)).collect()
}

fn stream(of: u8) -> Stream {
    Stream { origin: Origin { board: board(of), epoch: Epoch::default() }, class: Class::Event }
}

fn range(first: u64, last: u64) -> SeqRange {
    SeqRange { first, last }
}

fn set(first: u64, last: u64) -> RangeSet {
    RangeSet::from_iter([range(first, last)])
}

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

/// Board 1 of three, all there.
fn members() -> Members {
    Members {
        peers: boards(&[2, 3]),
        linked: boards(&[2, 3]),
        holders: BoardSet::EMPTY,
        has_region: false,
    }
}

fn pump(repair: &mut Repair, members: Members, now: Instant) -> Vec<Output> {
    let mut out = Outbox::default();
    repair.pump(members, now, &mut out);
    core::iter::from_fn(|| out.pop()).collect()
}

fn asks(outputs: &[Output]) -> Option<(BoardId, u64)> {
    outputs.iter().find_map(|output| match output {
        Output::Fetch { to, number, .. } => Some((*to, *number)),
        Output::Ask(_) | Output::Gone { .. } => None,
    })
}

/// Every board answers `kind` to whatever it is asked, until nobody is asked; returns what was said then.
fn answer_all(
    repair: &mut Repair,
    members: Members,
    now: Instant,
    kind: impl Fn(BoardId, u64) -> Fetched,
) -> Vec<Output> {
    let mut outputs = pump(repair, members, now);
    while let Some((to, number)) = asks(&outputs) {
        repair.handle_fetched(to, &kind(to, number));
        outputs = pump(repair, members, now);
    }
    outputs
}

fn absent(_: BoardId, number: u64) -> Fetched {
    Fetched { number, absent: alloc::vec![(stream(1), range(1, 99))], ..Fetched::default() }
}

#[test]
fn boards_are_asked_one_after_the_other_holders_first_until_it_is_held() {
    let mut repair = Repair::new(board(1));
    assert!(pump(&mut repair, members(), at(0)).is_empty());
    repair.open(stream(1), &set(4, 9), at(0));
    let members = Members { holders: boards(&[3]), ..members() };
    let first = pump(&mut repair, members, at(0));
    assert_eq!(first, [Output::Fetch { to: board(3), number: 1, wanted: alloc::vec![(stream(1), range(4, 9))] }]);
    assert!(pump(&mut repair, members, at(1)).is_empty(), "one at a time");
    repair.handle_fetched(board(2), &absent(board(2), 1));
    assert!(pump(&mut repair, members, at(1)).is_empty(), "another board's answer is none");
    assert_eq!(repair.handle_held(&stream(1), range(1, 6)), 3);
    repair.handle_fetched(board(3), &Fetched { number: 1, ..Fetched::default() });
    let second = pump(&mut repair, members, at(1));
    assert_eq!(second, [Output::Fetch { to: board(2), number: 2, wanted: alloc::vec![(stream(1), range(7, 9))] }]);
    repair.handle_held(&stream(1), range(7, 9));
    assert_eq!((repair.missing(), repair.counts().filled), (0, 6));
    assert_eq!(repair.next_deadline().at, at(6), "the answer is still waited for");
}

#[test]
fn what_nobody_has_is_gone_after_two_laps_and_not_after_one() {
    let mut repair = Repair::new(board(1));
    repair.open(stream(1), &set(4, 9), at(0));
    assert!(answer_all(&mut repair, members(), at(0), absent).is_empty());
    assert_eq!(repair.missing(), 6);
    assert!(pump(&mut repair, members(), Instant::from_micros(at(1).micros() - 1)).is_empty());
    let said = answer_all(&mut repair, members(), at(1), absent);
    assert_eq!(said, [Output::Gone { stream: stream(1), range: range(4, 9), declare: true }]);
    assert_eq!((repair.missing(), repair.counts().gone), (0, 6));
}

#[test]
fn a_board_that_is_away_or_silent_or_cannot_say_keeps_the_hole_open() {
    let unknown = |_, number| Fetched { number, unknown: alloc::vec![(stream(1), range(4, 9))], ..Fetched::default() };
    let half = |_, number| Fetched { number, absent: alloc::vec![(stream(1), range(4, 5))], ..Fetched::default() };
    let mut repair = Repair::new(board(1));
    repair.open(stream(1), &set(4, 9), at(0));
    let parted = Members { linked: boards(&[2]), ..members() };
    for lap in 0..4 {
        assert!(answer_all(&mut repair, parted, at(100 * lap), absent).is_empty(), "board 3 may have it");
    }
    for lap in 10..14 {
        assert!(answer_all(&mut repair, members(), at(100 * lap), unknown).is_empty());
    }
    // Board 2 says nothing for its five seconds.
    for lap in 20..24 {
        let asked = asks(&pump(&mut repair, members(), at(100 * lap))).unwrap();
        assert_eq!(asked.0, board(2));
        assert!(answer_all(&mut repair, members(), at(100 * lap + 4), absent).is_empty());
        assert!(answer_all(&mut repair, members(), at(100 * lap + 5), absent).is_empty());
    }
    assert_eq!(repair.missing(), 6);
    answer_all(&mut repair, members(), at(3000), half);
    let said = answer_all(&mut repair, members(), at(3001), half);
    assert_eq!(said, [Output::Gone { stream: stream(1), range: range(4, 5), declare: true }], "and no more");
}

#[test]
fn without_room_to_remember_by_a_fruitless_hole_is_named_once_and_sought_all_the_same() {
    let mut repair = Repair::new(board(1));
    repair.open(stream(1), &set(4, 9), at(0));
    assert!(repair.name().is_empty(), "nobody was asked yet");
    let parted = Members { linked: boards(&[2]), ..members() };
    assert!(answer_all(&mut repair, parted, at(0), absent).is_empty(), "board 3 may have it");
    repair.handle_link(board(3), true, at(1));
    assert!(repair.name().is_empty(), "board 3 is back and is asked first");
    assert!(answer_all(&mut repair, parted, at(1), absent).is_empty());
    assert!(repair.has_unnamed());
    assert_eq!(repair.name(), [(stream(1), range(4, 9))]);
    assert!(!repair.has_unnamed(), "no start has to know them from what is damaged");
    repair.open(stream(1), &set(20, 20), at(2));
    assert!(repair.name().is_empty() && repair.has_unnamed(), "nobody was asked for the new one");
    assert!(answer_all(&mut repair, parted, at(2), absent).is_empty());
    assert_eq!(repair.name(), [(stream(1), range(20, 20))], "the others are named already");
    assert_eq!((repair.missing(), repair.counts().gone), (7, 0), "board 3 may have them");
    repair.doubt(stream(2), &set(1, 3));
    assert!(repair.has_unnamed(), "the region may lack these, and they are not named");
    repair.handle_covered(stream(2), &set(1, 3), false, at(3));
    assert!(!repair.has_unnamed());
    repair.forget_named();
    assert!(repair.has_unnamed(), "what named them is lost");
    assert!(answer_all(&mut repair, parted, at(100), absent).is_empty());
    assert_eq!(repair.name(), [(stream(1), range(4, 9)), (stream(1), range(20, 20))]);
    assert_eq!(repair.handle_held(&stream(1), range(4, 9)), 6);
    assert!(!repair.has_unnamed());
}

/// Every second record of these, so that none of `ranges` holes touches another.
fn sprinkled(ranges: u64) -> RangeSet {
    (0..ranges).map(|at| range(2 * at + 1, 2 * at + 1)).collect()
}

fn absent_all(_: BoardId, number: u64) -> Fetched {
    Fetched { number, absent: alloc::vec![(stream(1), range(1, 9999))], ..Fetched::default() }
}

#[test]
fn more_holes_than_one_lap_asks_for_are_all_gone_in_the_end() {
    let mut repair = Repair::new(board(1));
    repair.open(stream(1), &sprinkled(3 * FETCH_RANGES_MAX as u64), at(0));
    let mut gone = 0;
    for second in 0..20 {
        gone += answer_all(&mut repair, members(), at(second), absent_all).len();
    }
    assert_eq!((gone, repair.missing()), (3 * FETCH_RANGES_MAX, 0));
}

#[test]
fn while_a_board_is_away_no_hole_hides_another_and_none_is_named_that_nobody_was_asked_for() {
    let mut repair = Repair::new(board(1));
    let holes = FETCH_RANGES_MAX as u64 + 10;
    repair.open(stream(1), &sprinkled(holes), at(0));
    let parted = Members { linked: boards(&[2]), ..members() };
    answer_all(&mut repair, parted, at(0), absent_all);
    assert_eq!(repair.name().len(), FETCH_RANGES_MAX);
    assert!(repair.has_unnamed(), "the others were asked for by nobody");
    assert_eq!(repair.next_deadline().at, at(1), "and are now");
    let [Output::Fetch { number, wanted, .. }] = &pump(&mut repair, parted, at(1))[..] else {
        panic!("nobody is asked")
    };
    let last = 2 * holes - 1;
    assert!(wanted.contains(&(stream(1), range(last, last))), "those that were not asked for come first");
    assert_eq!(repair.handle_held(&stream(1), range(last, last)), 1);
    repair.handle_fetched(board(2), &absent_all(board(2), *number));
    answer_all(&mut repair, parted, at(1), absent_all);
    answer_all(&mut repair, parted, at(2), absent_all);
    answer_all(&mut repair, parted, at(20), absent_all);
    let named = repair.name();
    assert_eq!(named.len(), 9, "all that is left, each once: {named:?}");
    assert!(!repair.has_unnamed());
}

#[test]
fn nothing_is_gone_before_the_region_has_said_after_the_boards_that_it_lacks_it() {
    let members = Members { has_region: true, ..members() };
    let mut repair = Repair::new(board(1));
    repair.open(stream(1), &set(4, 9), at(0));
    repair.handle_covered(stream(1), &set(1, 3), true, at(0));
    answer_all(&mut repair, members, at(0), absent);
    for lap in 1..4 {
        assert_eq!(answer_all(&mut repair, members, at(100 * lap), absent), [Output::Ask(stream(1))]);
    }
    repair.handle_covered(stream(1), &set(4, 4), false, at(300));
    assert_eq!((repair.missing(), repair.counts().gone), (5, 0), "that is not all it covers");
    // A board had brought some of it up, and has freed it.
    repair.handle_covered(stream(1), &set(1, 5), true, at(300));
    assert_eq!((repair.missing(), repair.counts().gone), (0, 4));
    let said = pump(&mut repair, members, at(300));
    assert_eq!(said, [Output::Gone { stream: stream(1), range: range(6, 9), declare: true }]);
    // A new route: what the region was asked before counts no more.
    repair.open(stream(1), &set(20, 20), at(400));
    answer_all(&mut repair, members, at(400), absent);
    answer_all(&mut repair, members, at(401), absent);
    repair.handle_route();
    repair.handle_covered(stream(1), &set(1, 5), true, at(402));
    assert_eq!(repair.missing(), 1);
}

#[test]
fn what_may_be_covered_is_not_asked_for_before_that_is_known() {
    let mut repair = Repair::new(board(1));
    repair.doubt(stream(1), &set(1, 9));
    assert!(pump(&mut repair, members(), at(0)).is_empty());
    assert_eq!((repair.missing(), repair.streams().len()), (0, 1));
    repair.handle_covered(stream(1), &set(1, 7), true, at(1));
    assert_eq!(repair.missing(), 2);
    assert!(asks(&pump(&mut repair, members(), at(1))).is_some());
}

#[test]
fn of_two_boards_with_the_same_hole_the_origin_names_it() {
    let lost = |_, number| Fetched {
        number,
        lost: alloc::vec![(stream(2), range(4, 9)), (stream(3), range(1, 2))],
        ..Fetched::default()
    };
    let mut repair = Repair::new(board(1));
    repair.open(stream(2), &set(4, 9), at(0));
    let pair = Members { peers: boards(&[2]), linked: boards(&[2]), ..members() };
    answer_all(&mut repair, pair, at(0), lost);
    let said = answer_all(&mut repair, pair, at(1), lost);
    assert_eq!(said, [Output::Gone { stream: stream(2), range: range(4, 9), declare: false }]);
    repair.open(stream(3), &set(1, 2), at(2));
    answer_all(&mut repair, pair, at(2), lost);
    let said = answer_all(&mut repair, pair, at(3), lost);
    assert_eq!(said, [Output::Gone { stream: stream(3), range: range(1, 2), declare: true }], "1 comes before 2");
}

#[test]
fn a_run_of_this_life_brings_back_only_what_is_missing() {
    let mut repair = Repair::new(board(1));
    repair.open(stream(1), &set(4, 9), at(0));
    assert!(repair.may_take(&stream(1), range(4, 9), None));
    assert!(!repair.may_take(&stream(1), range(4, 10), None));
    assert!(repair.may_take(&stream(1), range(3, 10), Some(&RangeSet::from_iter([range(1, 3), range(10, 12)]))));
    assert!(!repair.may_take(&stream(2), range(4, 9), None));
}

//! Tests of [`super`]: what is read and sent when, in which order, and what becomes of it where the region or its memory goes.

use super::*;
use crate::ids::{Class, Epoch, Origin};
use crate::record::{Key, Kind};
use crate::time::WallMillis;

fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

fn stream(of: u8) -> Stream {
    Stream { origin: Origin { board: board(of), epoch: Epoch::default() }, class: Class::Event }
}

fn range(first: u64, last: u64) -> SeqRange {
    SeqRange { first, last }
}

fn held(lines: &[(u8, u64)]) -> BTreeMap<Stream, RangeSet> {
    lines
        .iter()
        .map(|(of, last)| (stream(*of), RangeSet::from_iter([range(1, *last)])))
        .collect()
}

fn boards(numbers: &[u8]) -> BoardSet {
    numbers.iter().map(|number| board(*number)).collect()
}

fn run(of: u8, first: u64, count: u32) -> Run {
    let mut bytes = Vec::new();
    for number in 0..count {
        let payload = [number as u8; 3];
        let reading = Reading {
            kind: Kind::Reading,
            publisher: "p",
            key: Key::Sequence { epoch: 0, seq: first + u64::from(number) },
            taken: WallMillis(0),
            topic: "t",
            payload: &payload,
        };
        reading.encode(&mut bytes);
    }
    Run::new(stream(of), first, count, Bytes::from(bytes))
}

fn covers(of: u8, last: u64, whole: bool) -> Vec<Coverage> {
    let ranges = if last == 0 {
        RangeSet::EMPTY
    } else {
        RangeSet::from_iter([range(1, last)])
    };
    alloc::vec![Coverage { stream: stream(of), ranges, whole }]
}

fn fresh(held: &BTreeMap<Stream, RangeSet>) -> Uplink {
    Uplink::new(&Timing::default(), 3, (held, BTreeMap::new()), Instant::ZERO)
}

fn opened(held: &BTreeMap<Stream, RangeSet>, alive: BoardSet) -> Uplink {
    let mut uplink = fresh(held);
    let origins = Origins { own: board(1), alive, held };
    let route = Route::Region(Term::new(1, board(1)));
    assert_eq!(uplink.handle_route(route, false, origins, Instant::ZERO).concat().len(), held.len());
    let nothing = |stream: &Stream| Coverage { stream: *stream, ranges: RangeSet::EMPTY, whole: true };
    uplink.handle_coverage(held.keys().map(nothing).collect(), held, Instant::ZERO);
    uplink
}

fn next_read(uplink: &Uplink, held: &BTreeMap<Stream, RangeSet>) -> Option<Read> {
    let any = |wanted: &Wanted<'_>| held.iter().any(|(stream, ranges)| wanted(stream, ranges));
    let read = uplink.wants_read(Instant::ZERO, |_, cursor, wanted| any(wanted).then_some((cursor.0, cursor.1, 4096)));
    read.map(|(read, _)| read)
}

#[test]
fn nothing_is_read_before_the_region_said_what_it_covers() {
    let held = held(&[(1, 5)]);
    let mut uplink = fresh(&BTreeMap::new());
    let origins = Origins { own: board(1), alive: boards(&[1]), held: &held };
    uplink.handle_route(Route::Region(Term::ZERO), false, origins, Instant::ZERO);
    assert!(next_read(&uplink, &held).is_none());
    uplink.handle_coverage(covers(1, 5, true), &held, Instant::ZERO);
    assert!(next_read(&uplink, &held).is_none(), "all of it is covered");
    assert_eq!(uplink.backlog(&held), 0);
}

/// Seen to fail where what was on its way is forgotten when the way falls, where reading does not begin anew with the answer, and
/// where a word on some records counts as the answer.
#[test]
fn what_is_new_goes_ahead_of_the_answer_and_what_is_in_doubt_waits_for_it() {
    let (before, after) = (held(&[(1, 5)]), held(&[(1, 9)]));
    let mut uplink = opened(&before, boards(&[1]));
    let read = next_read(&uplink, &before).unwrap();
    uplink.handle_read(&read, alloc::vec![run(1, 1, 3)], (SegmentId(1), 4096));
    assert_eq!(uplink.take_records().unwrap().range, range(1, 3));

    let origins = Origins { own: board(1), alive: boards(&[1]), held: &after };
    uplink.handle_route(Route::Closed, false, origins, Instant::ZERO);
    let asks = uplink.handle_route(Route::Region(Term::new(1, board(1))), true, origins, Instant::ZERO);
    assert_eq!(asks.concat().len(), 1, "it is asked all the same");
    for sent in [range(6, 9), range(4, 5)] {
        let read = next_read(&uplink, &after).unwrap();
        uplink.handle_read(&read, alloc::vec![run(1, 1, 9)], (SegmentId(1), 4096));
        assert_eq!(uplink.take_records().unwrap().range, sent);
        assert!(uplink.take_records().is_none());
    }
    let some = Coverage { stream: stream(1), ranges: RangeSet::from_iter([range(4, 9)]), whole: false };
    uplink.handle_coverage(alloc::vec![some], &after, Instant::ZERO);
    assert!(next_read(&uplink, &after).is_none(), "three are still in doubt");

    let whole = Coverage { stream: stream(1), ranges: RangeSet::from_iter([range(1, 1), range(4, 9)]), whole: true };
    uplink.handle_coverage(alloc::vec![whole], &after, Instant::ZERO);
    assert_eq!(uplink.take_went_back(), []);
    let read = next_read(&uplink, &after).unwrap();
    assert_eq!((read.segment, read.offset), (SegmentId(0), 0), "from the begin");
    uplink.handle_read(&read, alloc::vec![run(1, 1, 9)], (SegmentId(1), 4096));
    assert_eq!(uplink.take_records().unwrap().range, range(2, 3));
}

/// A board hears which region it is right behind that there is a way, and may have begun to read. Seen to fail where that read
/// is not out of date then: what it brought was never read again.
#[test]
fn what_is_read_before_the_region_is_named_is_read_again() {
    let (before, after) = (held(&[(1, 5)]), held(&[(1, 9)]));
    let mut uplink = opened(&before, boards(&[1]));
    let [north, south] = ["north", "south"].map(|name| RegionTag::of(&crate::ids::Name::try_from(name).unwrap()));
    uplink.handle_region(north);
    uplink.handle_coverage(covers(1, 5, true), &before, Instant::ZERO);
    let origins = Origins { own: board(1), alive: boards(&[1]), held: &after };
    uplink.handle_route(Route::Closed, false, origins, Instant::ZERO);
    uplink.handle_route(Route::Region(Term::new(1, board(1))), true, origins, Instant::ZERO);
    let read = next_read(&uplink, &after).unwrap();
    uplink.handle_region(south);
    uplink.handle_read(&read, alloc::vec![run(1, 1, 9)], (SegmentId(1), 4096));
    assert!(uplink.take_records().is_none());
    uplink.handle_coverage(covers(1, 5, true), &after, Instant::ZERO);
    let again = next_read(&uplink, &after).unwrap();
    assert_eq!((again.segment, again.offset), (SegmentId(0), 0));
}

/// A question that the region answers late is asked again, and what went ahead stays on its way; where nothing of that is
/// acknowledged either, all begins anew.
#[test]
fn a_late_answer_is_asked_for_again_and_nothing_is_sent_twice() {
    let (before, after) = (held(&[(1, 5)]), held(&[(1, 9)]));
    let mut uplink = opened(&before, boards(&[1]));
    let origins = Origins { own: board(1), alive: boards(&[1]), held: &after };
    uplink.handle_coverage(covers(1, 5, false), &before, Instant::ZERO);
    uplink.handle_route(Route::Closed, false, origins, Instant::ZERO);
    uplink.handle_route(Route::Region(Term::new(1, board(1))), true, origins, Instant::ZERO);
    let read = next_read(&uplink, &after).unwrap();
    uplink.handle_read(&read, alloc::vec![run(1, 6, 4)], (SegmentId(1), 4096));
    let taken = uplink.take_records().unwrap();
    let block = crate::block::pack(stream(1), 6, 4, &taken.bytes);
    let late = Instant::ZERO + PATIENCE;
    uplink.handle_sent(&block, late);
    let asks = alloc::vec![alloc::vec![stream(1)]];
    assert_eq!(uplink.handle_deadline(origins, late), Some(Overdue::Answer(asks.clone())));
    assert!(next_read(&uplink, &after).is_none(), "it is on its way");
    assert_eq!(uplink.handle_deadline(origins, late + PATIENCE), Some(Overdue::Progress(asks)));
    assert!(next_read(&uplink, &after).is_none(), "the region is waited for again");
    uplink.handle_coverage(covers(1, 5, true), &after, late + PATIENCE);
    assert!(next_read(&uplink, &after).is_some());
}

/// What another board has brought up nobody knows, and a board that has just started knows nothing.
#[test]
fn nothing_goes_ahead_of_the_answer_that_the_region_has_not_spoken_of() {
    let (before, after) = (held(&[(1, 5)]), held(&[(1, 5), (2, 5)]));
    for is_known in [false, true] {
        let mut uplink = if is_known { opened(&before, boards(&[1])) } else { fresh(&before) };
        let origins = Origins { own: board(1), alive: boards(&[1]), held: &after };
        let was = Origins { held: &before, ..origins };
        uplink.handle_route(Route::Closed, false, was, Instant::ZERO);
        uplink.handle_route(Route::Region(Term::new(1, board(1))), true, origins, Instant::ZERO);
        assert_eq!(next_read(&uplink, &after).is_some(), is_known);
        if is_known {
            let read = next_read(&uplink, &after).unwrap();
            uplink.handle_read(&read, alloc::vec![run(2, 1, 5), run(1, 1, 5)], (SegmentId(1), 4096));
            assert_eq!(uplink.take_records().unwrap().stream, stream(1));
            assert!(uplink.take_records().is_none());
            uplink.handle_coverage(covers(2, 0, true), &after, Instant::ZERO);
            let read = next_read(&uplink, &after).unwrap();
            uplink.handle_read(&read, alloc::vec![run(2, 1, 5)], (SegmentId(1), 4096));
            assert_eq!(uplink.take_records().unwrap().stream, stream(2), "nobody has brought it up");
        }
    }
}

#[test]
fn only_what_is_missing_is_sent_cut_at_record_boundaries() {
    let held = held(&[(1, 9)]);
    let mut uplink = opened(&held, boards(&[1]));
    uplink.handle_coverage(covers(1, 4, false), &held, Instant::ZERO);
    let read = next_read(&uplink, &held).unwrap();
    uplink.handle_read(&read, alloc::vec![run(1, 3, 4), run(1, 7, 3)], (SegmentId(1), 4096));
    let Taken { range: part, bytes, .. } = uplink.take_records().unwrap();
    assert_eq!(part, range(5, 6));
    assert_eq!(Reading::decode_all(&bytes, 2).unwrap()[0].payload, [2; 3]);
    assert_eq!(uplink.take_records().unwrap().range, range(7, 9));
    assert!(uplink.take_records().is_none());
    assert!(next_read(&uplink, &held).is_none(), "all of it is on its way");
}

#[test]
fn a_living_origin_brings_up_its_own_until_it_is_down_or_makes_no_progress() {
    let held = held(&[(2, 3)]);
    let mut uplink = opened(&held, boards(&[1, 2]));
    assert!(next_read(&uplink, &held).is_none());
    let adopt = Instant::ZERO + Timing::default().adopt_after;
    for (at, mine) in [(adopt.micros() - 1, false), (adopt.micros(), true)] {
        let origins = Origins { own: board(1), alive: boards(&[1, 2]), held: &held };
        uplink.handle_deadline(origins, Instant::from_micros(at));
        assert_eq!(next_read(&uplink, &held).is_some(), mine);
    }
    let mut uplink = opened(&held, boards(&[1, 2]));
    uplink.refresh(Origins { own: board(1), alive: boards(&[1]), held: &held }, Instant::ZERO);
    assert!(next_read(&uplink, &held).is_some(), "its board is down");
}

#[test]
fn a_region_that_lost_its_memory_gets_everything_held_again() {
    let held = held(&[(1, 6)]);
    let mut uplink = opened(&held, boards(&[1]));
    uplink.handle_coverage(covers(1, 6, false), &held, Instant::ZERO);
    assert!(next_read(&uplink, &held).is_none());
    uplink.handle_coverage(covers(1, 2, true), &held, Instant::ZERO);
    uplink.refresh(Origins { own: board(1), alive: boards(&[1]), held: &held }, Instant::ZERO);
    assert_eq!(uplink.take_went_back(), [WentBack { stream: stream(1), is_another: false }]);
    assert_eq!(uplink.backlog(&held), 4);
    assert!(next_read(&uplink, &held).is_some());
}

#[test]
fn what_was_freed_is_not_missed_in_the_regions_word() {
    let before = held(&[(1, 6)]);
    let mut uplink = opened(&before, boards(&[1]));
    uplink.handle_coverage(covers(1, 6, false), &before, Instant::ZERO);
    let after = BTreeMap::from([(stream(1), RangeSet::from_iter([range(5, 6)]))]);
    uplink.retain(&after);
    uplink.handle_coverage(covers(1, 6, true), &after, Instant::ZERO);
    assert!(uplink.take_went_back().is_empty());
    uplink.handle_coverage(covers(1, 5, true), &after, Instant::ZERO);
    assert_eq!(uplink.take_went_back(), [WentBack { stream: stream(1), is_another: false }]);
}

#[test]
fn a_region_that_covers_what_was_never_held_is_not_believed() {
    let held = held(&[(1, 2)]);
    let mut uplink = opened(&held, boards(&[1]));
    uplink.handle_coverage(covers(1, 900, false), &held, Instant::ZERO);
    assert_eq!(uplink.covered()[&stream(1)].last(), Some(2));
}

fn alarms(of: u8) -> Stream {
    Stream { class: Class::Alarm, ..stream(of) }
}

fn of_class(class: Class, run: Run) -> Run {
    Run::new(Stream { class, ..run.stream }, run.first, run.count, run.bytes)
}

/// What `uplink` takes of the journal's `runs`, one at a time, until it wants no more: class, whether it waits, records.
fn order(uplink: &mut Uplink, held: &BTreeMap<Stream, RangeSet>, runs: &[Run]) -> Vec<(Class, bool, SeqRange)> {
    let mut order = Vec::new();
    while let Some(read) = next_read(uplink, held) {
        uplink.handle_reading(&read, Instant::ZERO);
        uplink.handle_read(&read, runs.to_vec(), (SegmentId(1), 4096));
        while let Some(taken) = uplink.take_records() {
            order.push((taken.stream.class, taken.waits, taken.range));
        }
    }
    order
}

/// Seen to fail with `Lane::ALL` the other way round, and with the alarms' lane left out.
#[test]
fn what_is_fresh_goes_first_and_of_what_has_waited_the_alarms() {
    let mut held = held(&[(1, 6)]);
    held.insert(alarms(1), RangeSet::from_iter([range(1, 2)]));
    let mut uplink = opened(&held, boards(&[1]));
    held.insert(stream(1), RangeSet::from_iter([range(1, 9)]));
    held.insert(alarms(1), RangeSet::from_iter([range(1, 3)]));
    uplink.refresh(Origins { own: board(1), alive: boards(&[1]), held: &held }, Instant::ZERO);
    let runs = [run(1, 1, 9), of_class(Class::Alarm, run(1, 1, 3))];
    let expected = [
        (Class::Alarm, false, range(3, 3)),
        (Class::Event, false, range(7, 9)),
        (Class::Alarm, false, range(1, 2)),
        (Class::Event, true, range(1, 6)),
    ];
    assert_eq!(order(&mut uplink, &held, &runs), expected);
}

/// The rest is read while the search goes on, and may meet an alarm first. Seen to fail.
#[test]
fn an_alarm_that_the_backlog_meets_waits_for_nothing_on_the_wire() {
    let mut held = held(&[(1, 6)]);
    held.insert(alarms(1), RangeSet::from_iter([range(1, 2)]));
    let mut uplink = opened(&held, boards(&[1]));
    for (lane, runs) in [
        (Lane::Alarms, alloc::vec![]),
        (Lane::Backlog, alloc::vec![of_class(Class::Alarm, run(1, 1, 1)), run(1, 1, 2)]),
    ] {
        let read = next_read(&uplink, &held).unwrap();
        assert_eq!(read.lane, lane);
        uplink.handle_reading(&read, Instant::ZERO);
        uplink.handle_read(&read, runs, (SegmentId(1), 4096));
    }
    let taken: Vec<(Class, bool)> = core::iter::from_fn(|| uplink.take_records())
        .map(|taken| (taken.stream.class, taken.waits))
        .collect();
    assert_eq!(taken, [(Class::Alarm, false), (Class::Event, true)]);
}

/// A line that is slower than its site: its window is full of what is fresh, and more is at hand. Seen to fail where alarms are read
/// only when there is room.
#[test]
fn a_fresh_alarm_is_at_hand_when_there_is_room_again() {
    let first = RangeSet::from_iter([range(1, 1)]);
    let mut held = BTreeMap::from([(alarms(1), first.clone())]);
    let mut uplink = opened(&held, boards(&[1]));
    uplink.handle_coverage(
        alloc::vec![Coverage { stream: alarms(1), ranges: first, whole: false }],
        &held,
        Instant::ZERO,
    );
    held.insert(stream(1), RangeSet::from_iter([range(1, 6)]));
    uplink.refresh(Origins { own: board(1), alive: boards(&[1]), held: &held }, Instant::ZERO);
    let read = next_read(&uplink, &held).unwrap();
    uplink.handle_read(&read, alloc::vec![run(1, 1, 1), run(1, 2, 1)], (SegmentId(1), 4096));
    let full = crate::limits::UPLINK_WINDOW_BYTES;
    let blocks = [(stream(1), range(1, 1)), (stream(1), range(6, 6))];
    for (of, part) in blocks {
        uplink.window.handle_gathered(of, part, full);
        uplink.window.handle_sent((of, part), (full, full), Instant::ZERO);
    }
    assert!(uplink.take_records().is_none());
    held.insert(alarms(1), RangeSet::from_iter([range(1, 2)]));
    uplink.refresh(Origins { own: board(1), alive: boards(&[1]), held: &held }, Instant::ZERO);
    let read = next_read(&uplink, &held).expect("the alarm is looked for");
    uplink.handle_read(&read, alloc::vec![run(1, 3, 3)], (SegmentId(1), 8192));
    let read = next_read(&uplink, &held).expect("it is looked for further on");
    uplink.handle_read(&read, alloc::vec![of_class(Class::Alarm, run(1, 2, 1))], (SegmentId(1), 8192));
    uplink
        .window
        .handle_covered(&stream(1), &RangeSet::from_iter([range(1, 1), range(6, 6)]), Instant::ZERO);
    assert_eq!(uplink.take_records().unwrap().stream.class, Class::Alarm);
    assert_eq!(uplink.take_records().unwrap().stream.class, Class::Event);
}

/// What a region lacks that has lost its memory, or that is another one, is a backlog. Seen to fail.
#[test]
fn what_a_region_has_lost_is_not_late() {
    let own = held(&[(1, 4)]);
    let mut uplink = opened(&own, boards(&[1]));
    let more = held(&[(1, 9)]);
    let origins = Origins { own: board(1), alive: boards(&[1]), held: &more };
    for seconds in [2, 4] {
        uplink.refresh(origins, Instant::from_micros(seconds * 1_000_000));
    }
    uplink.handle_coverage(covers(1, 9, false), &more, Instant::ZERO);
    uplink.handle_coverage(covers(1, 0, true), &more, Instant::ZERO);
    uplink.refresh(origins, Instant::from_micros(4_000_000));
    assert_eq!(order(&mut uplink, &more, &[run(1, 1, 9)]), [(Class::Event, true, range(1, 9))]);
}

#[test]
fn what_has_waited_is_searched_for_alarms_from_the_newest_segment_and_for_the_rest_from_the_oldest() {
    let mut held = held(&[(1, 6)]);
    held.insert(alarms(1), RangeSet::from_iter([range(1, 2)]));
    let uplink = opened(&held, boards(&[1]));
    let asked = core::cell::RefCell::new(Vec::new());
    uplink.wants_read(Instant::ZERO, |direction, cursor, _| {
        asked.borrow_mut().push((direction, cursor));
        None
    });
    let ends = [(Direction::Backwards, SegmentId(u64::MAX)), (Direction::Onwards, SegmentId(0))];
    assert_eq!(asked.into_inner(), ends.map(|(direction, segment)| (direction, (segment, 0))));
}

/// Both sides of the time for which a record is fresh.
#[test]
fn what_a_slow_line_did_not_bring_up_in_time_lets_newer_records_pass() {
    for (at, passes) in [(1_999_999, false), (2_000_000, true)] {
        let before = held(&[(1, 1)]);
        let mut uplink = opened(&before, boards(&[1]));
        let between = held(&[(1, 5)]);
        let origins = Origins { own: board(1), alive: boards(&[1]), held: &between };
        uplink.refresh(origins, Instant::from_micros(2_000_000));
        let later = held(&[(1, 9)]);
        let origins = Origins { held: &later, ..origins };
        uplink.refresh(origins, Instant::from_micros(2_000_000 + at));
        let read = next_read(&uplink, &later).unwrap();
        uplink.handle_read(&read, alloc::vec![run(1, 1, 9)], (SegmentId(1), 4096));
        let first = uplink.take_records().unwrap();
        assert_eq!((first.waits, first.range), (false, range(if passes { 6 } else { 2 }, 9)));
    }
}

/// A region that stood still for some seconds: what came meanwhile goes before the backlog, also where the way fell for a moment;
/// after an outage it is backlog like the rest.
#[test]
fn what_became_late_while_the_way_was_open_goes_before_what_has_waited_longer() {
    let at = |millis: u64| Instant::from_micros(millis * 1_000);
    let own = Origins { own: board(1), alive: boards(&[1]), held: &held(&[(1, 4)]) };
    for (fell_for, lately) in [(None, true), (Some(1_999), true), (Some(2_000), false)] {
        let mut uplink = opened(own.held, own.alive);
        let more = held(&[(1, 9)]);
        let origins = Origins { held: &more, ..own };
        uplink.refresh(origins, at(2_000));
        uplink.refresh(origins, at(4_000));
        if let Some(fell_for) = fell_for {
            uplink.handle_route(Route::Closed, false, origins, at(4_000));
            uplink.note(&more, at(4_000 + fell_for));
            uplink.handle_route(Route::Region(Term::new(2, board(1))), false, origins, at(4_000 + fell_for));
            uplink.handle_coverage(covers(1, 0, true), &more, at(4_000 + fell_for));
            uplink.refresh(origins, at(4_000 + fell_for));
        }
        let expected = match lately {
            true => alloc::vec![(Class::Event, true, range(5, 9)), (Class::Event, true, range(1, 4))],
            false => alloc::vec![(Class::Event, true, range(1, 9))],
        };
        assert_eq!(order(&mut uplink, &more, &[run(1, 1, 9)]), expected, "{fell_for:?}");
    }
}

/// The holder is gone without a word: nobody closes the way, and the next one stands only after a while.
#[test]
fn an_outage_in_which_nobody_closed_the_way_is_one() {
    let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
    for (again_at, is_late) in [(11, true), (12, false)] {
        let own = held(&[(1, 4)]);
        let mut uplink = opened(&own, boards(&[1]));
        let more = held(&[(1, 9)]);
        let origins = Origins { own: board(1), alive: boards(&[1]), held: &more };
        let read = next_read(&uplink, &more).unwrap();
        uplink.handle_read(&read, alloc::vec![run(1, 1, 1)], (SegmentId(1), 4096));
        let Taken { stream: of, range: part, bytes, .. } = uplink.take_records().unwrap();
        uplink.handle_sent(&crate::block::pack(of, part.first, 1, &bytes), Instant::ZERO);
        for seconds in [2, 4, 6, 8] {
            uplink.refresh(origins, at(seconds));
        }
        assert!(uplink.handle_deadline(origins, at(10)).is_some(), "nothing is acknowledged");
        uplink.handle_route(Route::Region(Term::new(2, board(1))), false, origins, at(again_at));
        uplink.handle_coverage(covers(1, 0, true), &more, at(again_at));
        assert_eq!(order(&mut uplink, &more, &[run(1, 1, 9)]).len(), 1 + usize::from(is_late), "at {again_at}");
    }
}

/// Seen to fail: a board that is at fault may number its records so.
#[test]
fn the_highest_number_of_all_is_waited_for_like_any_other() {
    let held = BTreeMap::from([(stream(1), RangeSet::from_iter([range(u64::MAX, u64::MAX)]))]);
    let mut uplink = opened(&BTreeMap::new(), boards(&[1]));
    let origins = Origins { own: board(1), alive: boards(&[1]), held: &held };
    for seconds in [2, 4, 6] {
        uplink.refresh(origins, Instant::from_micros(seconds * 1_000_000));
        assert!(next_read(&uplink, &held).is_some());
    }
}

/// Both sides of each time.
#[test]
fn blocks_that_wait_for_those_of_others_count_as_lost_later() {
    let mut window = Window::new(3);
    window.handle_sent((stream(1), range(1, 1)), (9, 9), Instant::ZERO);
    let at = |micros| Some(Instant::from_micros(micros));
    assert_eq!(window.stuck_at(PATIENCE), at(10_000_000));
    window.handle_others(Instant::from_micros(3_000_000));
    assert_eq!(window.stuck_at(PATIENCE), at(13_000_000));
    window.handle_others(Instant::from_micros(175_000_000));
    assert_eq!(window.stuck_at(PATIENCE), at(180_000_000), "not for ever");
    window.handle_covered(&stream(1), &RangeSet::from_iter([range(1, 1)]), Instant::from_micros(176_000_000));
    assert_eq!(window.stuck_at(PATIENCE), None);
}

#[test]
fn a_stream_with_many_holes_goes_up_in_order() {
    for (holes, passes) in [(RANGES_MAX / 2 - 1, true), (RANGES_MAX / 2, false)] {
        let before = held(&[(1, 1)]);
        let mut uplink = opened(&before, boards(&[1]));
        let last = 2 * RANGES_MAX as u64;
        let between = held(&[(1, last)]);
        let origins = Origins { own: board(1), alive: boards(&[1]), held: &between };
        uplink.refresh(origins, Instant::from_micros(2_000_000));
        let ranges = (1..=holes as u64 + 1).map(|at| range(2 * at, 2 * at)).collect();
        uplink.handle_coverage(
            alloc::vec![Coverage { stream: stream(1), ranges, whole: false }],
            &between,
            Instant::ZERO,
        );
        let later = held(&[(1, last + 4)]);
        uplink.refresh(Origins { held: &later, ..origins }, Instant::from_micros(4_000_000));
        let (read, _) = uplink
            .wants_read(Instant::from_micros(4_000_000), |_, cursor, _| Some((cursor.0, cursor.1, 4096)))
            .unwrap();
        uplink.handle_read(&read, alloc::vec![run(1, last + 1, 4)], (SegmentId(1), 4096));
        uplink.handle_read(&read, alloc::vec![run(1, last - 1, 2)], (SegmentId(1), 4096));
        let first = uplink.take_records().unwrap();
        assert_eq!((first.waits, first.range.first), (false, last + 1), "{holes} holes");
        let next = uplink.take_records().unwrap_or(first);
        assert_eq!(next.range.first == last - 1, !passes, "{holes} holes");
    }
}

/// Both sides of the time for which a record is fresh, where the way was closed.
#[test]
fn what_became_durable_just_before_the_way_opened_is_fresh() {
    for (at, waits) in [(3_999_999, false), (4_000_000, true)] {
        let mut uplink = fresh(&BTreeMap::new());
        let held = held(&[(1, 5)]);
        uplink.note(&held, Instant::from_micros(2_000_000));
        let origins = Origins { own: board(1), alive: boards(&[1]), held: &held };
        uplink.handle_route(Route::Region(Term::new(1, board(1))), false, origins, Instant::from_micros(at));
        uplink.handle_coverage(covers(1, 0, true), &held, Instant::from_micros(at));
        let read = next_read(&uplink, &held).unwrap();
        uplink.handle_read(&read, alloc::vec![run(1, 1, 5)], (SegmentId(1), 4096));
        assert_eq!(uplink.take_records().unwrap().waits, waits, "at {at}");
    }
}

#[test]
fn fresh_records_gather_between_short_reads_while_a_backlog_is_read_at_once() {
    let held = held(&[(1, 1), (2, 4)]);
    let old = BTreeMap::from([(stream(2), held[&stream(2)].clone())]);
    let mut uplink = fresh(&old);
    let route = Route::Region(Term::new(1, board(1)));
    uplink.handle_route(route, false, Origins { own: board(1), alive: boards(&[1]), held: &old }, Instant::ZERO);
    uplink.handle_coverage(covers(2, 0, true), &old, Instant::ZERO);
    uplink.refresh(Origins { own: board(1), alive: boards(&[1]), held: &held }, Instant::ZERO);
    let lane_at = |uplink: &Uplink, at| {
        let any = |wanted: &Wanted<'_>| held.iter().any(|(stream, ranges)| wanted(stream, ranges));
        let read = uplink.wants_read(Instant::from_micros(at), |_, cursor, wanted| {
            any(wanted).then_some((cursor.0, cursor.1, 4096))
        });
        read.map(|(read, after)| (read.lane, after.micros()))
    };
    let (read, _) = uplink
        .wants_read(Instant::ZERO, |_, cursor, _| Some((cursor.0, cursor.1, 4096)))
        .unwrap();
    assert_eq!(read.lane, Lane::Fresh);
    uplink.handle_reading(&read, Instant::ZERO);
    assert_eq!(lane_at(&uplink, 9_999), Some((Lane::Backlog, 0)));
    assert_eq!(lane_at(&uplink, 10_000), Some((Lane::Fresh, 10_000)));
}

#[test]
fn silence_of_the_region_starts_over_at_the_patience() {
    let held = held(&[(1, 1)]);
    let mut uplink = opened(&held, boards(&[1]));
    let read = next_read(&uplink, &held).unwrap();
    uplink.handle_read(&read, alloc::vec![run(1, 1, 1)], (SegmentId(1), 4096));
    let Taken { stream: of, range: part, bytes, .. } = uplink.take_records().unwrap();
    uplink.handle_sent(&crate::block::pack(of, part.first, 1, &bytes), Instant::ZERO);
    let origins = Origins { own: board(1), alive: boards(&[1]), held: &held };
    let late = Instant::ZERO + PATIENCE;
    assert!(
        uplink
            .handle_deadline(origins, Instant::from_micros(late.micros() - 1))
            .is_none()
    );
    let asks = alloc::vec![alloc::vec![stream(1)]];
    assert_eq!(uplink.handle_deadline(origins, late), Some(Overdue::Progress(asks)));
}

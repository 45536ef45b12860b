//! The contract of a store: what is asked twice is stored once, all of a transaction or nothing, and what it remembers.

use gateway::store::read::Row;
use gateway::store::{Deposit, EVENTS_MAX, Happening, Store};
use shared::block::BadBlock;
use shared::ids::{Class, Name, Term};
use shared::ranges::{RangeSet, SeqRange};
use shared::record::{Gap, GapReason, Kind, Reading};

use crate::contract::Rig;
use crate::deposits::{NOW, block, block_of, counted, put, reading, rows, site, stream};

fn covered(ranges: &[(u64, u64)]) -> RangeSet {
    ranges
        .iter()
        .map(|(first, last)| SeqRange { first: *first, last: *last })
        .collect()
}

pub(crate) fn a_block_sent_again_adds_nothing_and_is_covered_again(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    let sent = block(stream(1, 1), 1, 1..=4);
    let first = put(&mut *store, std::slice::from_ref(&sent))[0].unwrap();
    assert_eq!((first.rows, first.duplicates, first.again), (4, 0, None));
    let before = rows(&*reader);
    let again = put(&mut *store, &[sent.clone(), sent])[0].unwrap();
    assert_eq!((again.rows, again.duplicates), (0, 0));
    assert_eq!(again.again, Some(SeqRange { first: 1, last: 4 }));
    assert_eq!(rows(&*reader), before);
    assert_eq!(store.load(&site(), &[stream(1, 1)]).unwrap(), [(stream(1, 1), covered(&[(1, 4)]))]);
    let counts = reader.counts(&site()).unwrap();
    assert_eq!((counts.sum(|of| of.rows), counts.sum(|of| of.duplicates)), (4, 0));
}

pub(crate) fn blocks_that_overlap_within_and_across_transactions_store_each_sequence_once(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    let of = |first: u64, last: u64| block(stream(1, 1), first, first..=last);
    put(&mut *store, &[of(5, 8), of(1, 2)]);
    put(&mut *store, &[of(2, 6), of(7, 12), of(20, 21)]);
    let seqs: Vec<u64> = rows(&*reader).into_iter().map(|(_, _, seq, _)| seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20, 21]);
    assert_eq!(reader.coverage(&site()).unwrap(), [(stream(1, 1), covered(&[(1, 12), (20, 21)]))]);
    let counts = reader.counts(&site()).unwrap();
    assert_eq!((counts.sum(|of| of.rows), counts.sum(|of| of.covered), counts.sum(|of| of.holes)), (14, 14, 7));
    put(&mut *store, &[of(13, 19)]);
    assert_eq!(reader.coverage(&site()).unwrap(), [(stream(1, 1), covered(&[(1, 21)]))]);
}

pub(crate) fn rows_come_in_order_of_board_epoch_and_sequence_whatever_the_order_of_arrival(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    put(&mut *store, &[block(stream(2, 1), 1, 1..=2), block(stream(1, 2), 1, 3..=4)]);
    put(&mut *store, &[block(stream(1, 1), 3, 7..=8), block(stream(1, 1), 1, 5..=6)]);
    let order: Vec<_> = rows(&*reader)
        .into_iter()
        .map(|(board, boot, seq, _)| (board, boot, seq))
        .collect();
    assert_eq!(order, [(1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 1, 4), (1, 2, 1), (1, 2, 2), (2, 1, 1), (2, 1, 2)]);
}

pub(crate) fn a_bad_block_leaves_nothing_behind_and_spares_the_rest(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    let mut flipped = block(stream(1, 1), 3, 3..=4);
    flipped.crc ^= 1;
    let outcomes = put(&mut *store, &[block(stream(1, 1), 1, 1..=2), flipped, block(stream(1, 1), 5, 5..=6)]);
    assert_eq!(outcomes[1], Err(BadBlock::Checksum));
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert_eq!(reader.coverage(&site()).unwrap(), [(stream(1, 1), covered(&[(1, 2), (5, 6)]))]);
    assert_eq!(rows(&*reader).len(), 4);
}

pub(crate) fn a_gap_is_filed_and_what_it_declares_lost_is_counted_unless_it_comes_after_all(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    let range = SeqRange { first: 2, last: 6 };
    let gap = Gap { stream: stream(1, 1), range, bytes: 321, reason: GapReason::JournalFull };
    let payload = postcard::to_allocvec(&gap).unwrap();
    let noted = |number| Reading { kind: Kind::Gap, publisher: "", ..reading(counted(number), &payload) };
    put(&mut *store, &[block_of(stream(1, 1), 1, &[reading(counted(1), b"on")])]);
    let tally = put(&mut *store, &[block_of(stream(1, 1), 7, &[noted(0)])])[0].unwrap();
    assert_eq!((tally.rows, tally.gaps), (0, 1));
    let counts = reader.counts(&site()).unwrap();
    assert_eq!((counts.sum(|of| of.shed), counts.sum(|of| of.holes), counts.sum(|of| of.gaps)), (5, 0, 1));
    let shed = reader.shed(&site()).unwrap();
    assert_eq!((shed.len(), shed[0].range, shed[0].bytes), (1, range, 321));
    put(&mut *store, &[block(stream(1, 1), 3, 3..=4)]);
    assert_eq!(reader.counts(&site()).unwrap().sum(|of| of.shed), 3);
}

pub(crate) fn sites_do_not_meet(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    let oak = Name::try_from("oak").unwrap();
    let deposit = |site: Name| Deposit { site, fence: None, blocks: vec![block(stream(1, 1), 1, 1..=3)] };
    store.transact(&[deposit(site()), deposit(oak.clone())], &[], NOW).unwrap();
    assert_eq!(reader.sites().unwrap(), ["elm", "oak"]);
    assert_eq!(reader.counts(&oak).unwrap().sum(|of| of.rows), 3);
    assert_eq!(rows(&*reader).len(), 3);
    let fir = Name::try_from("fir").unwrap();
    assert_eq!(reader.rows(&fir, &mut |_| {}).unwrap(), 0);
    assert_eq!(store.load(&fir, &[stream(1, 1)]).unwrap(), []);
}

pub(crate) fn what_was_committed_is_there_after_reopening_under_a_new_incarnation(rig: &dyn Rig) {
    let (mut store, first) = rig.open();
    assert!(first.fences.is_empty());
    let high = Term::from_token(u64::MAX - 3);
    let deposit = Deposit { site: site(), fence: Some(high), blocks: vec![block(stream(1, 1), 1, 1..=3)] };
    store.transact(&[deposit], &[], NOW).unwrap();
    drop(store);
    let (mut store, second) = rig.open();
    assert_eq!(second.fences[&site()], high);
    assert_ne!(first.incarnation, second.incarnation);
    assert_eq!(store.load(&site(), &[stream(1, 1)]).unwrap(), [(stream(1, 1), covered(&[(1, 3)]))]);
    let again = put(&mut *store, &[block(stream(1, 1), 1, 1..=3)])[0].unwrap();
    assert_eq!(again.rows, 0);
}

pub(crate) fn a_transaction_that_fails_stores_nothing_and_gives_out_no_identities(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    // The second of two sites cannot be filed: the first must not be either.
    rig.refuse_sequence_9();
    let oak = Name::try_from("oak").unwrap();
    let deposits = [
        Deposit {
            site: site(),
            fence: Some(Term::from_token(7)),
            blocks: vec![block(stream(1, 1), 1, 1..=3)],
        },
        Deposit { site: oak, fence: None, blocks: vec![block(stream(1, 1), 9, 9..=9)] },
    ];
    let failed = store.transact(&deposits, &[], NOW).unwrap_err();
    assert!(!failed.is_passing(), "{failed:?}");
    assert_eq!(reader.sites().unwrap(), [""; 0]);
    rig.refuse_nothing();
    let stored = store.transact(&deposits, &[], NOW).unwrap();
    assert!(
        stored
            .iter()
            .flatten()
            .all(|stored| stored.outcome.is_ok_and(|tally| tally.rows > 0))
    );
    assert_eq!(rows(&*reader).len(), 3);
}

pub(crate) fn events_are_kept_up_to_their_limit_newest_first(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    let happening =
        |number: u64| Happening { site: Some(site()), at: NOW, name: "session_opened", detail: number.to_string() };
    let all: Vec<Happening> = (1..=EVENTS_MAX + 5).map(happening).collect();
    store.transact(&[], &all, NOW).unwrap();
    let kept = reader.events(&site(), u32::MAX).unwrap();
    assert_eq!(kept.len() as u64, EVENTS_MAX);
    assert_eq!(kept[0].detail, (EVENTS_MAX + 5).to_string());
    assert_eq!(reader.events(&site(), 2).unwrap().len(), 2);
}

pub(crate) fn a_look_shows_the_newest_and_pages_through_what_came_since(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    put(&mut *store, &[block(stream(2, 1), 1, 1..=3)]);
    put(&mut *store, &[block(stream(1, 1), 1, 11..=13)]);
    let look = |after, limit| {
        let mut seen = Vec::new();
        let looked = reader
            .look(&site(), after, limit, &mut |row| seen.push((row.stream.origin.board.get(), row.seq)))
            .unwrap();
        assert_eq!(looked.rows as usize, seen.len());
        (seen, looked.next)
    };
    let (newest, next) = look(None, 4);
    assert_eq!(newest, [(1, 3), (1, 2), (1, 1), (2, 3)]);
    assert_eq!(look(next, 9), (Vec::new(), next));
    put(&mut *store, &[block(stream(1, 1), 2, 12..=15), block(stream(2, 1), 4, 4..=4)]);
    let (since, next) = look(next, 2);
    assert_eq!(since, [(1, 4), (1, 5)]);
    let (rest, next) = look(next, 2);
    assert_eq!(rest, [(2, 4)]);
    assert_eq!(look(next, 2).0, []);
}

pub(crate) fn the_widest_numbers_survive(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    let top = shared::block::SEQ_MAX;
    let wide = Reading {
        taken: shared::time::WallMillis(u64::MAX),
        ..reading(shared::record::Key::Sequence { epoch: u64::MAX, seq: u64::MAX }, b"\xff\x00")
    };
    put(&mut *store, &[block_of(stream(64, u32::MAX), top, &[wide])]);
    let mut seen = 0;
    reader
        .rows(&site(), &mut |row| {
            assert_eq!((row.stream, row.seq), (stream(64, u32::MAX), top));
            assert_eq!((row.payload, row.taken_ms), (&b"\xff\x00"[..], i64::MAX));
            assert_eq!(row.key.bytes, [0xff; 16]);
            seen += 1;
        })
        .unwrap();
    assert_eq!(seen, 1);
}

pub(crate) fn a_fence_rises_and_never_falls(rig: &dyn Rig) {
    let (mut store, _) = rig.open();
    // The highest bit too: a signed column must not turn the order round.
    for (asked, stands) in [(5, 5), (3, 5), (u64::MAX - 1, u64::MAX - 1), (7, u64::MAX - 1)] {
        let deposit = Deposit { site: site(), fence: Some(Term::from_token(asked)), blocks: Vec::new() };
        store.transact(&[deposit], &[], NOW).unwrap();
        drop(store);
        let (again, memory) = rig.open();
        assert_eq!(memory.fences[&site()].token(), stands);
        store = again;
    }
}

pub(crate) fn the_newest_of_a_class_come_from_each_of_its_streams(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    put(&mut *store, &[block(stream(2, 1), 1, 1..=5), block(stream(1, 1), 1, 11..=13)]);
    let newest = |class, limit| {
        let mut seen = Vec::new();
        let each = &mut |row: Row<'_>| seen.push((row.stream.origin.board.get(), row.seq, row.publisher.to_owned()));
        reader.newest(&site(), class, limit, each).unwrap();
        seen.sort();
        seen
    };
    let of = |board: u8, seq: u64| (board, seq, "loop-7".to_owned());
    assert_eq!(newest(Class::Event, 2), [of(1, 2), of(1, 3), of(2, 4), of(2, 5)]);
    assert_eq!(newest(Class::Alarm, 2), []);
    assert_eq!(reader.stored().unwrap().into_iter().collect::<Vec<_>>(), [("elm".to_owned(), 8)]);
}

/// A block of as many records as one may have, under names that were never seen, and again under others.
pub(crate) fn many_names_and_many_records_at_once(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    let filed = |store: &mut dyn Store, board: u8| {
        let names: Vec<(String, String)> = (0..2048).map(|at| (format!("p-{at}"), format!("t/{}", at % 700))).collect();
        let readings: Vec<Reading<'_>> = (1..)
            .zip(&names)
            .map(|(number, (publisher, topic))| Reading { publisher, topic, ..reading(counted(number), &[b'x'; 100]) })
            .collect();
        put(store, &[block_of(stream(board, 1), 1, &readings)])[0].unwrap()
    };
    assert_eq!(filed(&mut *store, 1).rows, 2048);
    assert_eq!(filed(&mut *store, 2).duplicates, 2048);
    let mut seen = 0;
    let each = &mut |row: Row<'_>| {
        assert_eq!(row.publisher, format!("p-{}", row.seq - 1));
        assert_eq!(row.topic, format!("t/{}", (row.seq - 1) % 700));
        seen += 1;
    };
    reader.rows(&site(), each).unwrap();
    assert_eq!(seen, 2048);
    assert_eq!(reader.coverage(&site()).unwrap().len(), 2);
}

pub(crate) fn a_name_may_have_any_character(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    let names = ["", "a\0b", "a\u{1a}0b", "ö", "\u{10ffff}", "'; DROP TABLE record; --", "a\\b"];
    let readings: Vec<Reading<'_>> = names
        .iter()
        .map(|name| Reading { publisher: name, topic: name, ..reading(counted(1), b"\0\xff") })
        .collect();
    let tally = put(&mut *store, &[block_of(stream(1, 1), 1, &readings)])[0].unwrap();
    assert_eq!((tally.rows, tally.duplicates), (names.len() as u64, 0), "no two of them are one");
    let mut seen = Vec::new();
    let each = &mut |row: Row<'_>| {
        assert_eq!((row.topic, row.payload), (row.publisher, &b"\0\xff"[..]));
        seen.push(row.publisher.to_owned());
    };
    reader.rows(&site(), each).unwrap();
    assert_eq!(seen, names);
    let again = block_of(stream(2, 1), 1, &readings);
    assert_eq!(put(&mut *store, &[again])[0].unwrap().duplicates, names.len() as u64);
}

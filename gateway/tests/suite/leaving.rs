//! What leaves a store: into the archive each row once, and for good only what its time is over for and, where there is an
//! archive, what is in it.

use std::net::TcpListener;

use gateway::config::Retention;
use gateway::objects::{ObjectPlace, Service};
use gateway::store::parts::{DAY_MS, Expired, Expiry, Part};
use gateway::store::read::{StoreReader, StreamCounts};
use gateway::store::{Deposit, Happening, Store, StoreError};
use gateway::upkeep::{Done, Upkeep, UpkeepError};
use shared::hub::Stored;
use shared::ids::{Class, Name, Stream};
use shared::ranges::{RangeSet, SeqRange};
use shared::record::{Gap, GapReason, Kind, Reading};
use shared::time::WallMillis;
use shared::wire::uplink::Block;

use crate::archive::{Archive, lines};
use crate::contract::Rig;
use crate::deposits::{NOW, block, block_of, counted, put, reading, rows, site, stream};
use crate::liar::Liar;
use crate::scratch::Scratch;

/// `days` after what tests store is received.
pub(crate) fn later(days: u64) -> WallMillis {
    WallMillis(NOW.0 + days * DAY_MS.unsigned_abs())
}

pub(crate) fn keep(alarm: Option<u32>, event: Option<u32>, bulk: Option<u32>) -> Retention {
    Retention { days: [alarm, event, bulk] }
}

fn of_class(board: u8, class: Class) -> Stream {
    Stream { class, ..stream(board, 1) }
}

pub(crate) fn put_at(store: &mut dyn Store, blocks: Vec<Block>, now: WallMillis) {
    let deposit = Deposit { site: site(), fence: None, blocks };
    let stored = store.transact(&[deposit], &[], now).unwrap();
    assert!(stored[0].iter().all(|stored| stored.outcome.is_ok()));
}

/// Blocks of every class, with a gap, a block that came twice, and readings that came over two boards.
fn varied() -> Vec<Block> {
    let range = SeqRange { first: 2, last: 6 };
    let gap = Gap { stream: stream(1, 1), range, bytes: 321, reason: GapReason::JournalFull };
    let gap = postcard::to_allocvec(&gap).unwrap();
    let gap = Reading { kind: Kind::Gap, publisher: "", ..reading(counted(0), &gap) };
    let odd = Reading {
        publisher: "loop \"8\"\u{0}",
        topic: "dét/8",
        taken: WallMillis(1_700_000_000_123),
        ..reading(shared::record::Key::content(b"l", b"t", b"p"), b"\xff\x00")
    };
    vec![
        block(stream(1, 1), 7, 1..=4),
        block(stream(1, 1), 9, 3..=8),
        block(stream(2, 1), 1, 1..=4),
        block_of(of_class(1, Class::Alarm), 1, &[gap, odd]),
        block(of_class(3, Class::Bulk), 1, 100..=110),
    ]
}

fn counts(reader: &dyn StoreReader) -> [u64; 5] {
    let counts = reader.counts(&site()).unwrap();
    let sum = |figure: fn(&StreamCounts) -> u64| counts.sum(figure);
    let stored = sum(|of| of.rows) + sum(|of| of.gaps);
    assert_eq!(sum(|of| of.covered), stored + sum(|of| of.duplicates), "it adds up");
    assert_eq!(stored - sum(|of| of.expired), rows(reader).len() as u64, "what has not expired is there");
    [stored, sum(|of| of.duplicates), sum(|of| of.archived), sum(|of| of.expired), sum(|of| of.covered)]
}

pub(crate) fn a_day_that_is_over_is_archived_once_with_every_column(rig: &dyn Rig) {
    let scratch = Scratch::new();
    let archive = Archive::in_directory(scratch.path());
    let (mut store, reader) = rig.both();
    put(&mut *store, &varied());
    let wanted = lines(&*reader);
    let mut upkeep = archive.upkeep((store, rig.reader()), Retention::default());
    assert_eq!(upkeep.round(NOW).unwrap(), Done::default(), "the day is not over");
    let done = upkeep.round(later(1)).unwrap();
    assert_eq!(done, Done { parts: 1, archived: wanted.len() as u64, expired: 0 });
    let found = archive.rows();
    let (name, found) = found.first_key_value().unwrap();
    assert!(name.starts_with("site=elm/day=2023-11-14/part-"), "{name}");
    assert!(found.iter().all(|(_, received)| *received == NOW.0.cast_signed()));
    assert_eq!(found.iter().map(|(line, _)| line.clone()).collect::<Vec<_>>(), wanted);
    assert_eq!(upkeep.round(later(2)).unwrap(), Done::default(), "once");
    assert_eq!(archive.lines().len(), wanted.len());
    assert_eq!(counts(&*reader), [21, 4, 21, 0, 25]);
    assert_eq!(lines(&*reader), wanted, "nothing was to be removed");
}

pub(crate) fn days_are_parts_of_their_own_and_what_comes_late_is_one_more(rig: &dyn Rig) {
    let scratch = Scratch::new();
    let archive = Archive::in_directory(scratch.path());
    let (mut store, reader) = rig.both();
    put_at(&mut *store, vec![block(stream(1, 1), 1, 1..=3)], later(0));
    put_at(&mut *store, vec![block(stream(1, 1), 4, 4..=5)], later(1));
    // As where another gateway commits late, or a clock was set back: the day is archived already.
    let mut upkeep = archive.upkeep((store, rig.reader()), Retention::default());
    assert_eq!(upkeep.round(later(2)).unwrap().parts, 2);
    drop(upkeep);
    let (mut store, _) = rig.open();
    put_at(&mut *store, vec![block(stream(2, 1), 1, 11..=12)], later(0));
    let mut upkeep = archive.upkeep((store, rig.reader()), Retention::default());
    assert_eq!(upkeep.round(later(2)).unwrap(), Done { parts: 1, archived: 2, expired: 0 });
    let mut wanted = lines(&*reader);
    wanted.sort();
    assert_eq!(archive.lines(), wanted);
    let days: Vec<String> = archive.rows().keys().map(|name| name[9..23].to_owned()).collect();
    assert_eq!(days, ["day=2023-11-14", "day=2023-11-14", "day=2023-11-15"]);
}

/// A store that ends where the gateway would be killed: after the object is there, before that is noted.
#[derive(Debug)]
struct Killed(Box<dyn Store>);

impl Store for Killed {
    fn transact(
        &mut self,
        deposits: &[Deposit],
        happenings: &[Happening],
        now: WallMillis,
    ) -> Result<Vec<Vec<Stored>>, StoreError> {
        self.0.transact(deposits, happenings, now)
    }

    fn load(&mut self, site: &Name, streams: &[Stream]) -> Result<Vec<(Stream, RangeSet)>, StoreError> {
        self.0.load(site, streams)
    }

    fn plan(&mut self, site: &Name, before: WallMillis) -> Result<Option<Part>, StoreError> {
        self.0.plan(site, before)
    }

    fn archived(&mut self, _: &Part, _: u64, _: WallMillis) -> Result<bool, StoreError> {
        Err(StoreError::Vanished)
    }

    fn expire(&mut self, expiry: &Expiry<'_>) -> Result<Expired, StoreError> {
        self.0.expire(expiry)
    }
}

pub(crate) fn a_gateway_that_ends_before_it_has_noted_a_part_puts_the_same_again(rig: &dyn Rig) {
    let scratch = Scratch::new();
    let archive = Archive::in_directory(scratch.path());
    let (mut store, reader) = rig.both();
    put(&mut *store, &varied());
    let mut upkeep = archive.upkeep((Box::new(Killed(store)), rig.reader()), keep(Some(1), Some(1), Some(1)));
    assert!(upkeep.round(later(9)).is_err());
    let first = archive.bodies();
    assert_eq!(first.len(), 1, "it was put");
    assert_eq!(counts(&*reader), [21, 4, 0, 0, 25], "and not noted, so nothing was removed");
    drop(upkeep);
    let (mut store, _) = rig.open();
    // It would be in the same part, were that planned anew.
    put(&mut *store, &[block(stream(4, 1), 1, 201..=205)]);
    let mut wanted = lines(&*reader);
    wanted.sort();
    let mut upkeep = archive.upkeep((store, rig.reader()), Retention::default());
    assert_eq!(upkeep.round(later(9)).unwrap(), Done { parts: 2, archived: 26, expired: 0 });
    assert_eq!(archive.lines(), wanted, "each row once");
    let (name, body) = first.first_key_value().unwrap();
    assert_eq!(archive.bodies().get(name), Some(body), "the same bytes under the same name");
}

pub(crate) fn what_cannot_be_archived_stays(rig: &dyn Rig) {
    let scratch = Scratch::new();
    let archive = Archive::in_directory(scratch.path());
    let (mut store, reader) = rig.both();
    put(&mut *store, &varied());
    let place = scratch.path().join("archive");
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::write(&place, b"no directory any more").unwrap();
    let mut upkeep = archive.upkeep((store, rig.reader()), keep(Some(1), Some(1), Some(1)));
    for _ in 0..2 {
        let failed = upkeep.round(later(9)).unwrap_err();
        assert!(matches!(failed, UpkeepError::Objects(_)), "{failed:?}");
        assert_eq!(counts(&*reader), [21, 4, 0, 0, 25]);
    }
    std::fs::remove_file(&place).unwrap();
    std::fs::create_dir(&place).unwrap();
    assert_eq!(upkeep.round(later(9)).unwrap(), Done { parts: 1, archived: 21, expired: 21 });
    assert_eq!(counts(&*reader), [21, 4, 21, 21, 25]);
    assert_eq!(archive.lines().len(), 21);
}

/// A service that takes an object and keeps another one.
pub(crate) fn what_is_not_read_back_as_it_was_put_stays(rig: &dyn Rig) {
    let liar = Liar::start(TcpListener::bind("127.0.0.1:0").unwrap());
    let scratch = Scratch::new();
    let service = Service { credentials: Some(liar.credentials(scratch.path())), ..liar.service() };
    let archive = Archive::at(&ObjectPlace::new("s3://region/x", scratch.path(), service).unwrap());
    let (mut store, reader) = rig.both();
    put(&mut *store, &varied());
    let mut upkeep = archive.upkeep((store, rig.reader()), keep(Some(1), Some(1), Some(1)));
    for lie in [Some(0), Some(1), None] {
        liar.lie(lie);
        let outcome = upkeep.round(later(9));
        if lie.is_some() {
            assert!(outcome.is_err(), "{outcome:?}");
            assert_eq!(counts(&*reader), [21, 4, 0, 0, 25], "nothing is noted and nothing goes");
        } else {
            assert_eq!(outcome.unwrap(), Done { parts: 1, archived: 21, expired: 21 });
        }
    }
}

fn without_archive(store: Box<dyn Store>, rig: &dyn Rig, archive: &Archive, retention: Retention) -> Upkeep {
    Upkeep::of(store, rig.reader(), None, retention, archive.runtime.handle().clone())
}

pub(crate) fn what_was_kept_long_enough_goes_by_its_class_and_coverage_stays(rig: &dyn Rig) {
    let scratch = Scratch::new();
    let archive = Archive::in_directory(scratch.path());
    let (mut store, reader) = rig.both();
    put(&mut *store, &varied());
    let mut upkeep = without_archive(store, rig, &archive, keep(None, Some(9), Some(2)));
    assert_eq!(upkeep.round(later(2)).unwrap().expired, 0, "not a moment too early");
    let coverage = reader.coverage(&site()).unwrap();
    assert_eq!(upkeep.round(WallMillis(later(2).0 + 1)).unwrap().expired, 11, "bulk");
    assert_eq!(upkeep.round(WallMillis(later(9).0 + 1)).unwrap().expired, 8, "events");
    assert_eq!(upkeep.round(later(9999)).unwrap().expired, 0, "alarms are kept");
    assert_eq!(counts(&*reader), [21, 4, 0, 19, 25]);
    assert_eq!(reader.coverage(&site()).unwrap(), coverage);
    let kept = lines(&*reader);
    assert!(kept.iter().all(|line| line.class == "alarm") && kept.len() == 2, "{kept:?}");
    assert_eq!(reader.counts(&site()).unwrap().sum(|of| of.shed), 5, "what was declared lost stays known");
    drop(upkeep);
    let (mut store, _) = rig.open();
    for tally in put(&mut *store, &varied()) {
        let tally = tally.unwrap();
        assert_eq!((tally.rows, tally.gaps, tally.duplicates), (0, 0, 0), "covered still");
    }
    assert_eq!(lines(&*reader), kept);
}

pub(crate) fn many_records_go_some_at_a_time(rig: &dyn Rig) {
    let scratch = Scratch::new();
    let archive = Archive::in_directory(scratch.path());
    let (mut store, reader) = rig.both();
    for number in 0..30 {
        let first = number * 500 + 1;
        put(&mut *store, &[block(stream(1, 1), first, first..=first + 499)]);
    }
    put_at(&mut *store, vec![block(stream(1, 1), 15_001, 15_001..=15_003)], later(5));
    let mut upkeep = without_archive(store, rig, &archive, keep(None, Some(4), None));
    assert_eq!(upkeep.round(later(6)).unwrap().expired, 15_000);
    assert_eq!(counts(&*reader), [15_003, 0, 0, 15_000, 15_003]);
    let looked = reader.look(&site(), None, 100, &mut |row| assert!(row.seq > 15_000)).unwrap();
    assert_eq!(looked.rows, 3);
}

pub(crate) fn a_part_that_waits_is_left_alone_when_the_archive_is_gone(rig: &dyn Rig) {
    let scratch = Scratch::new();
    let archive = Archive::in_directory(scratch.path());
    let (mut store, reader) = rig.both();
    put(&mut *store, &varied());
    let part = store.plan(&site(), later(1)).unwrap().unwrap();
    assert_eq!(part.records, 21);
    assert_eq!(reader.waiting().unwrap(), Some(part.clone()));
    put_at(&mut *store, vec![block(stream(5, 1), 1, 301..=303)], later(1));
    let mut upkeep = without_archive(store, rig, &archive, keep(Some(1), Some(1), Some(1)));
    assert_eq!(upkeep.round(later(9)).unwrap().expired, 3, "what is in no part");
    drop(upkeep);
    let (mut store, _) = rig.open();
    assert!(store.archived(&part, 1, later(9)).unwrap());
    assert!(!store.archived(&part, 1, later(9)).unwrap(), "noted once");
    assert_eq!(counts(&*reader), [24, 4, 21, 3, 28]);
    assert_eq!(reader.part_rows(&part, &mut |_, _| {}).unwrap(), None, "it waits no more");
    let mut upkeep = without_archive(store, rig, &archive, keep(Some(1), Some(1), Some(1)));
    assert_eq!(upkeep.round(later(9)).unwrap().expired, 21);
}

pub(crate) fn what_came_into_a_part_after_it_was_looked_up_stays(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    put(&mut *store, &[block(stream(1, 1), 1, 1..=3)]);
    let due = reader.due(Class::Event, later(9), false).unwrap();
    assert_eq!(due.len(), 1);
    let all = |archived_only| Expiry { blocks: &due, archived_only };
    assert!(store.expire(&all(true)).unwrap().is_empty(), "an archive is wanted first");
    store.plan(&site(), later(1)).unwrap().unwrap();
    assert!(store.expire(&all(false)).unwrap().is_empty(), "it waits for the archive");
    assert_eq!(reader.due(Class::Event, later(9), false).unwrap(), []);
    assert_eq!(counts(&*reader), [3, 0, 0, 0, 3]);
}

/// Numbers are known as long as their rows are there: what is taken away is cut out of a range, and what comes again fills it up. Seen to fail where
/// expiry leaves them, and where what is at hand is not dropped by it.
pub(crate) fn a_number_that_has_expired_may_come_again(rig: &dyn Rig) {
    let (mut store, reader) = rig.both();
    // In order, but the middle is the oldest.
    put_at(&mut *store, vec![block(stream(1, 1), 1, 11..=20)], later(0));
    put_at(&mut *store, vec![block(stream(1, 1), 11, 1..=10), block(stream(2, 1), 1, 21..=30)], later(5));
    rig.expect_numbers_of_rows();
    let due = reader.due(Class::Event, later(1), false).unwrap();
    let expired = store.expire(&Expiry { blocks: &due, archived_only: false }).unwrap();
    assert_eq!(expired, Expired::from([("elm".into(), 10)]));
    rig.expect_numbers_of_rows();
    let tallies = put(&mut *store, &[block(stream(3, 1), 1, 8..=13), block(stream(3, 1), 7, 12..=21)]);
    let told: Vec<_> = tallies
        .into_iter()
        .map(|tally| tally.map(|tally| (tally.rows, tally.duplicates)))
        .collect();
    assert_eq!(told, [Ok((3, 3)), Ok((7, 3))]);
    rig.expect_numbers_of_rows();
}

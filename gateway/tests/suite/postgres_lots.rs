//! Lots of the store in PostgreSQL: databases from before them, gateways from before them, and two gateways that file a copy and its
//! original at the same time.

use std::sync::Barrier;
use std::time::Duration;

use gateway::store::parts::Expiry;
use gateway::store::read::PostgresReader;
use gateway::store::{Deposit, Fault, PostgresStore, Store, StoreError};
use shared::hub::Tally;
use shared::ids::Class;
use shared::record::{Key, Reading};

use crate::contract::{Postgres, Rig as _};
use crate::deposits::{NOW, block_of, counted, put, reading, rows, site, stream};
use crate::leaving::later;
use crate::postgres::numbered;
use crate::scratch::Scratch;

/// Makes a database of layout 4 of one that has no number twice.
const BEFORE_NUMBERS: &str = "
    DROP TABLE roadstead.numbered;
    DROP INDEX roadstead.record_key;
    CREATE UNIQUE INDEX record_key ON roadstead.record (publisher, key_kind, lot, key);
    ALTER TABLE roadstead.writer DROP CONSTRAINT writer_layout;
    UPDATE roadstead.meta SET layout = 4;";

/// Makes a database of layout 3 of one that has no key in two lots.
pub(crate) const BEFORE_LOTS: &str = "
    DROP TABLE roadstead.numbered;
    DROP INDEX roadstead.record_key, roadstead.record_waiting;
    ALTER TABLE roadstead.record DROP COLUMN lot;
    ALTER TABLE roadstead.publisher DROP COLUMN lot;
    ALTER TABLE roadstead.writer DROP COLUMN layout;
    CREATE UNIQUE INDEX record_key ON roadstead.record (publisher, key_kind, key);
    UPDATE roadstead.meta SET layout = 3;";

/// A delivery's original or its copy.
fn delivered(number: u64, resent: bool) -> Reading<'static> {
    reading(Key::delivery(b"loop-7", b"det/7", &number.to_le_bytes(), 5, resent), b"on")
}

/// A reading with its own time, and the key that is its digest.
fn timed(payload: &str) -> Reading<'_> {
    let mut digest = [1; 16];
    for (at, byte) in payload.bytes().enumerate() {
        digest[at % 16] ^= byte;
    }
    reading(Key::Content(digest), payload.as_bytes())
}

/// What reading `seq` over `board` came to: whether it became a row.
fn takes(store: &mut dyn Store, board: u8, seq: u64, reading: Reading<'_>) -> bool {
    let tally = put(store, &[block_of(stream(board, 1), seq, &[reading])])[0].unwrap();
    assert_eq!(tally.rows + tally.duplicates, 1, "nothing vanishes");
    tally.rows == 1
}

/// Ends the test where a condition of SQL does not hold.
fn expect(rig: &Postgres, condition: &str) {
    rig.execute(&format!("DO $$ BEGIN ASSERT ({condition}), 'it is otherwise'; END $$"));
}

/// Seen to fail without looking in lot 0 for what content is filed there.
#[test]
fn a_database_from_before_lots_is_brought_up_and_its_rows_are_found() {
    let Some(rig) = Postgres::new() else { return };
    let (mut store, _) = rig.open();
    let (old, new) = (timed("{\"ts\":1760000000001}"), timed("{\"ts\":1760000000002}"));
    for (seq, reading) in [(1, delivered(1, true)), (2, delivered(2, false)), (3, old)] {
        assert!(takes(&mut *store, 1, seq, reading));
    }
    drop(store);
    rig.execute(BEFORE_LOTS);
    assert!(matches!(PostgresReader::open(&rig.place()), Err(StoreError::Tables { found: 3, known: 5 })));
    let (mut store, reader) = rig.both();
    expect(&rig, "SELECT count(*) = 3 FROM roadstead.record WHERE lot = 0");
    assert!(!takes(&mut *store, 2, 1, delivered(1, false)), "the original of the copy that waits");
    expect(&rig, "SELECT count(*) = 0 FROM roadstead.record WHERE awaits_original");
    assert!(takes(&mut *store, 2, 2, delivered(1, false)), "nothing waits for it");
    assert!(!takes(&mut *store, 2, 3, delivered(2, true)), "a copy of what is filed");
    assert!(takes(&mut *store, 2, 4, delivered(2, false)), "it merely looks the same");
    assert!(!takes(&mut *store, 2, 5, old));
    assert!(takes(&mut *store, 2, 6, new));
    assert!(!takes(&mut *store, 3, 1, new));
    assert_eq!(rows(&*reader).len(), 6);
}

#[test]
fn a_database_from_before_numbers_were_ranges_is_brought_up_and_its_rows_are_found() {
    let Some(rig) = Postgres::new() else { return };
    let (mut store, _) = rig.open();
    let numbers = [1, 2, 3, 5, 9, 10, u64::MAX - 1, u64::MAX, i64::MAX.cast_unsigned(), i64::MAX.cast_unsigned() + 1];
    let publishers = ["loop-7", "loop-8"];
    let all: Vec<Reading<'_>> = publishers
        .into_iter()
        .flat_map(|publisher| [0, 1, u64::MAX].map(|epoch| (publisher, epoch)))
        .flat_map(|(publisher, epoch)| numbers.map(|seq| (publisher, Key::Sequence { epoch, seq })))
        .map(|(publisher, key)| Reading { publisher, ..reading(key, b"on") })
        .collect();
    put(&mut *store, &[block_of(stream(1, 1), 1, &all)])[0].unwrap();
    drop(store);
    rig.execute(BEFORE_NUMBERS);
    let (mut store, _) = rig.both();
    // In each epoch 1 to 3, 5, 9 to 10, the last two, and, as its sign changes between them, two ranges of one number each.
    expect(&rig, "SELECT count(*) = 2 * 3 * 6 FROM roadstead.numbered");
    let tally = put(&mut *store, &[block_of(stream(2, 1), 1, &all)])[0].unwrap();
    assert_eq!((tally.rows, tally.duplicates), (0, all.len() as u64));
    let next = |seq| reading(Key::Sequence { epoch: 0, seq }, b"on");
    let between = [4, 4, 6, i64::MAX.cast_unsigned() + 2, i64::MAX.cast_unsigned() - 1].map(next);
    let tally = put(&mut *store, &[block_of(stream(2, 1), 1 + all.len() as u64, &between)])[0].unwrap();
    assert_eq!((tally.rows, tally.duplicates), (4, 1));
    expect(
        &rig,
        "SELECT array_agg(substr(first::text, 20) || ' ' || substr(last::text, 20) ORDER BY first) = array[
           '0000-000000000001 0000-000000000006', '0000-000000000009 0000-00000000000a',
           '7fff-fffffffffffe 7fff-ffffffffffff', '8000-000000000000 8000-000000000001',
           'ffff-fffffffffffe ffff-ffffffffffff']
         FROM roadstead.numbered n JOIN roadstead.publisher p ON p.id = n.publisher
         WHERE p.name = 'loop-7' AND first::text < '00000000-0000-0001'",
    );
}

/// A row's lot is of its kind of key, and a publisher's lot is followed by the next where it is full.
#[test]
fn a_lot_that_is_full_is_followed_by_the_next() {
    let Some(rig) = Postgres::new() else { return };
    let (mut store, reader) = rig.both();
    const BLOCKS: u64 = 3;
    const OF_EACH: u64 = 2048;
    for block in 0..BLOCKS {
        let first = block * OF_EACH + 1;
        let readings: Vec<Reading<'_>> = (first..first + OF_EACH).map(|number| delivered(number, false)).collect();
        let tally = put(&mut *store, &[block_of(stream(1, 1), first, &readings)])[0].unwrap();
        assert_eq!((tally.rows, tally.duplicates), (OF_EACH, 0));
    }
    expect(&rig, "SELECT lot = 2 FROM roadstead.publisher");
    expect(&rig, "SELECT count(*) = 4096 FROM roadstead.record WHERE lot = 1");
    expect(&rig, "SELECT count(*) = 2048 FROM roadstead.record WHERE lot = 2");
    rig.execute("UPDATE roadstead.publisher SET lot = 9");
    // Copies and look-alikes of what is in the first lot, and of one of their own block.
    let again = [
        delivered(1, true),
        delivered(2, false),
        delivered(2, false),
        delivered(20_001, false),
        delivered(20_001, true),
        delivered(20_002, true),
        timed("{\"ts\":17}"),
    ];
    let tally = put(&mut *store, &[block_of(stream(2, 1), 1, &again)])[0].unwrap();
    assert_eq!((tally.rows, tally.duplicates), (5, 2));
    expect(&rig, "SELECT count(*) = 3 FROM roadstead.record WHERE lot = 9");
    expect(&rig, "SELECT count(*) = 1 FROM roadstead.record WHERE lot = 17 AND key_kind = 1");
    expect(&rig, "SELECT count(*) = 1 FROM roadstead.record WHERE lot = 0 AND awaits_original");
    assert!(!takes(&mut *store, 3, 1, delivered(20_002, false)), "the original of the copy that waits in lot 0");
    assert!(!takes(&mut *store, 3, 2, delivered(1, true)));
    assert!(!takes(&mut *store, 3, 3, delivered(20_001, true)));
    assert_eq!(rows(&*reader).len() as u64, BLOCKS * OF_EACH + 5);
}

/// It would file into lot 0 what others file elsewhere. Seen to fail where the rows of `writer` stay.
#[test]
fn a_gateway_from_before_lots_ends_when_the_database_is_brought_up() {
    let Some(rig) = Postgres::new() else { return };
    let (mut older, _) = rig.open();
    older.transact(&[numbered(stream(1, 1), 0)], &[], NOW).unwrap();
    rig.execute(BEFORE_LOTS);
    let dir = Scratch::new();
    let mut newer = PostgresStore::open(&rig.place(), dir.path()).unwrap().0;
    let failed = older.transact(&[numbered(stream(1, 1), 1)], &[], NOW).unwrap_err();
    assert!(matches!(failed, StoreError::Forgotten { known: 1 }) && !failed.is_passing(), "{failed:?}");
    newer.transact(&[numbered(stream(1, 1), 1)], &[], NOW).unwrap();
    // One that was just about to make its row when the tables were brought up: before lots, and before numbers were ranges.
    rig.execute(
        "DO $$ BEGIN
           INSERT INTO roadstead.writer (incarnation, committed, opened_ms, at_ms) VALUES (7, 0, 0, 0);
           RAISE EXCEPTION 'it was let in';
         EXCEPTION WHEN not_null_violation THEN NULL;
         END $$;
         DO $$ BEGIN
           INSERT INTO roadstead.writer (incarnation, committed, opened_ms, at_ms, layout) VALUES (7, 0, 0, 0, 4);
           RAISE EXCEPTION 'it was let in';
         EXCEPTION WHEN check_violation THEN NULL;
         END $$",
    );
    // What has filed nothing since does not remove anything either.
    let due = rig.reader().due(Class::Event, later(9), false).unwrap();
    let failed = older.expire(&Expiry { blocks: &due, archived_only: false }).unwrap_err();
    assert!(matches!(failed, StoreError::Forgotten { .. }), "{failed:?}");
}

/// Seen to fail, by a deadlock, where anything is locked before the writers' rows are.
#[test]
fn an_older_gateways_transaction_that_is_under_way_is_waited_for() {
    let Some(rig) = Postgres::new() else { return };
    let (mut older, _) = rig.open();
    assert!(takes(&mut *older, 1, 1, delivered(1, false)));
    rig.execute(BEFORE_LOTS);
    let (place, dir) = (rig.place(), Scratch::new());
    let mut newer = std::thread::scope(|scope| {
        // As such a transaction locks: its writer's row, then all the others. What it files is a copy that waits.
        scope.spawn(|| {
            rig.execute(
                "UPDATE roadstead.writer SET committed = committed + 1;
                 SELECT pg_sleep(1.5);
                 UPDATE roadstead.stream SET rows = rows;
                 UPDATE roadstead.publisher SET name = name;
                 UPDATE roadstead.record SET awaits_original = true",
            );
        });
        std::thread::sleep(Duration::from_millis(500));
        PostgresStore::open(&place, dir.path()).unwrap().0
    });
    assert!(!takes(&mut newer, 2, 1, delivered(1, false)), "what it has filed is seen");
}

const ROUNDS: u64 = 60;
const OF_EACH: u64 = 30;

/// Two gateways file blocks at once, each over a board of its own. What is in them is said by the gateway, 0 or 1, the round, and the block's first sequence.
fn file_at_once(rig: &Postgres, readings: impl Fn(u64, u64, u64) -> Vec<Reading<'static>> + Sync) {
    let dirs = [Scratch::new(), Scratch::new()];
    let together = Barrier::new(2);
    std::thread::scope(|scope| {
        for (gateway, dir) in (0..).zip(&dirs) {
            let (place, together, readings) = (rig.place(), &together, &readings);
            scope.spawn(move || {
                let mut store = PostgresStore::open(&place, dir.path()).unwrap().0;
                for round in 0..ROUNDS {
                    let first = round * OF_EACH + 1;
                    let readings = readings(gateway, round, first);
                    together.wait();
                    let board = u8::try_from(gateway + 1).unwrap();
                    put(&mut store, &[block_of(stream(board, 1), first, &readings)])[0].unwrap();
                }
            });
        }
    });
}

/// Each delivery comes over both gateways at once: its original over one and its copy over the other, in both orders within a block, or a copy over each.
/// Seen to fail without the lock of the publishers.
#[test]
fn two_gateways_that_file_a_copy_and_its_original_at_once_make_one_row_of_them() {
    let Some(rig) = Postgres::new() else { return };
    file_at_once(&rig, |gateway, round, first| {
        // Copies over both meet in the index, which would put the rest of their blocks in order, too.
        let is_copy = |number| round % 3 == 0 || (number + gateway) % 2 == 0;
        (first..first + OF_EACH)
            .map(|number| delivered(number, is_copy(number)))
            .collect()
    });
    let reader = rig.reader();
    let counts = reader.counts(&site()).unwrap();
    let all = ROUNDS * OF_EACH;
    assert_eq!((counts.sum(|of| of.rows), counts.sum(|of| of.duplicates)), (all, all));
    assert_eq!(rows(&*reader).len() as u64, all);
    // A third of them have no original.
    expect(&rig, &format!("SELECT count(*) = {} FROM roadstead.record WHERE awaits_original", all / 3));
}

/// Each number comes over both gateways at once, by another board over each, and in another order within its block. Seen to fail without the lock of the publishers.
#[test]
fn two_gateways_that_file_the_same_numbers_at_once_make_one_row_of_each() {
    let Some(rig) = Postgres::new() else { return };
    file_at_once(&rig, |gateway, _, first| {
        let mut readings: Vec<_> = (first..first + OF_EACH).map(|seq| reading(counted(seq), b"on")).collect();
        if gateway == 1 {
            readings.reverse();
        }
        readings
    });
    let counts = rig.reader().counts(&site()).unwrap();
    let all = ROUNDS * OF_EACH;
    assert_eq!((counts.sum(|of| of.rows), counts.sum(|of| of.duplicates)), (all, all));
    rig.expect_numbers_of_rows();
    expect(&rig, "SELECT count(*) = 1 FROM roadstead.numbered");
}

/// A digest is filed already that comes in the first body of a transaction with several, behind which stand blocks that are all duplicates: what was asked
/// behind the failure is not filed without the rest, and the gateway goes on. Seen to fail where a COPY is
/// asked for before the one ahead of it was answered.
#[test]
fn a_transaction_that_fails_half_way_is_made_again_as_a_whole() {
    let Some(rig) = Postgres::new() else { return };
    let (mut store, reader) = rig.both();
    const OF_EACH: u64 = 1000;
    for round in 0..12 {
        let payloads: Vec<String> = (0..8 * OF_EACH)
            .map(|nth| format!("{{\"ts\":{}}}", 1_760_000_000_000 + round * 100_000 + nth))
            .collect();
        let mut readings: Vec<Reading<'_>> = payloads.iter().map(|payload| timed_anew(payload)).collect();
        // As of a gateway that has not met any for long.
        drop(store);
        store = rig.open().0;
        let before = readings[usize::try_from(round * 531).unwrap()];
        assert!(takes(&mut *store, 1, round + 1, before));
        for (nth, reading) in readings.iter_mut().enumerate() {
            if nth % 2 == 1 {
                *reading = Reading { key: counted(round * 100_000 + nth as u64 / 2), ..*reading };
            }
        }
        let first = round * 16 * OF_EACH + 1;
        let block = |nth: u64, of: u64| {
            let (from, to) = (of * OF_EACH, (of + 1) * OF_EACH);
            let readings = &readings[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
            block_of(stream(2, 1), first + nth * OF_EACH, readings)
        };
        let blocks: Vec<_> = (0..16).map(|nth| block(nth, nth % 8)).collect();
        let tallies = put(&mut *store, &blocks);
        let sum = |figure: fn(&Tally) -> u64| tallies.iter().map(|tally| figure(tally.as_ref().unwrap())).sum::<u64>();
        let is_digest = u64::from(round * 531 % 2 == 0);
        let rows = 8 * OF_EACH - is_digest;
        assert_eq!((sum(|of| of.rows), sum(|of| of.duplicates)), (rows, 16 * OF_EACH - rows), "round {round}");
        let counts = reader.counts(&site()).unwrap();
        let (rows, twice) = (counts.sum(|of| of.rows), counts.sum(|of| of.duplicates));
        assert_eq!(counts.sum(|of| of.covered), rows + twice);
        expect(&rig, &format!("SELECT count(*) = {rows} FROM roadstead.record"));
        expect(&rig, &format!("SELECT sum(records) = {rows} FROM roadstead.kept"));
    }
    rig.expect_numbers_of_rows();
}

/// A reading with its own time, and the digest of its content.
fn timed_anew(payload: &str) -> Reading<'_> {
    reading(Key::content(b"loop-7", b"det/7", payload.as_bytes()), payload.as_bytes())
}

/// What goes along fails as what it is: a disk without room is waited for, and the gateway goes on. Seen to fail where rows are copied
/// behind what comes after them.
#[test]
fn a_failure_behind_the_rows_is_told_as_what_it_is() {
    let Some(rig) = Postgres::new() else { return };
    let (mut store, reader) = rig.both();
    let block = |round: u64| {
        let numbers: Vec<_> = (1..=500).map(|seq| reading(counted(round * 500 + seq), b"on")).collect();
        block_of(stream(1, 1), round * 500 + 1, &numbers)
    };
    put(&mut *store, &[block(0)])[0].unwrap();
    rig.execute(
        "CREATE FUNCTION roadstead.no_room() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$",
    );
    for (round, table) in (1..).zip(["block", "record", "numbered", "kept", "stream", "coverage"]) {
        rig.execute(&format!(
            "CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON roadstead.{table}
             FOR EACH ROW EXECUTE FUNCTION roadstead.no_room()"
        ));
        let deposit = Deposit { site: site(), fence: None, blocks: vec![block(round)] };
        let failed = store.transact(std::slice::from_ref(&deposit), &[], NOW).unwrap_err();
        assert!(matches!(failed, StoreError::Postgres { fault: Fault::Busy, .. }), "{table}: {failed:?}");
        rig.execute(&format!("DROP TRIGGER no_room ON roadstead.{table}"));
        let stored = store.transact(&[deposit], &[], NOW).unwrap();
        assert_eq!(stored[0][0].outcome.unwrap().rows, 500, "{table}");
    }
    assert_eq!(rows(&*reader).len(), 3500);
    rig.expect_numbers_of_rows();
}

/// Who holds the table lets the COPY wait until it is refused, before it has taken anything. The gateway goes on.
#[test]
fn a_copy_that_is_refused_at_once_is_made_again() {
    let Some(rig) = Postgres::new() else { return };
    let (mut store, reader) = rig.both();
    let readings: Vec<_> = (1..=7000).map(|seq| reading(counted(seq), b"on")).collect();
    let blocks: Vec<_> = (0..7)
        .map(|nth| block_of(stream(1, 1), nth * 1000 + 1, &readings[nth as usize * 1000..][..1000]))
        .collect();
    let deposit = Deposit { site: site(), fence: None, blocks };
    std::thread::scope(|scope| {
        scope.spawn(|| rig.execute("LOCK TABLE roadstead.block IN SHARE MODE; SELECT pg_sleep(11)"));
        std::thread::sleep(Duration::from_millis(500));
        let failed = store.transact(std::slice::from_ref(&deposit), &[], NOW).unwrap_err();
        assert!(failed.is_passing(), "{failed:?}");
        let failed = store.transact(std::slice::from_ref(&deposit), &[], NOW);
        assert!(failed.is_ok_and(|stored| stored[0].len() == 7));
    });
    assert_eq!(rows(&*reader).len(), 7000);
    rig.expect_numbers_of_rows();
}

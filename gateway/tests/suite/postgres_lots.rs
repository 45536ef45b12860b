//! Lots of the store in PostgreSQL: databases from before them, gateways from before them, and two gateways that file a copy and its
//! original at the same time.

use std::sync::Barrier;
use std::time::Duration;

use gateway::store::read::PostgresReader;
use gateway::store::{PostgresStore, Store, StoreError};
use shared::record::{Key, Reading};

use crate::contract::{Postgres, Rig as _};
use crate::deposits::{NOW, block_of, put, reading, rows, site, stream};
use crate::postgres::numbered;
use crate::scratch::Scratch;

/// Makes a database of layout 3 of one that has no key in two lots.
pub(crate) const BEFORE_LOTS: &str = "
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
    assert!(matches!(PostgresReader::open(&rig.place()), Err(StoreError::Tables { found: 3, known: 4 })));
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
    // One that was just about to make its row when the tables were brought up.
    rig.execute(
        "DO $$ BEGIN
           INSERT INTO roadstead.writer (incarnation, committed, opened_ms, at_ms) VALUES (7, 0, 0, 0);
           RAISE EXCEPTION 'it was let in';
         EXCEPTION WHEN not_null_violation THEN NULL;
         END $$",
    );
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

/// Each delivery comes over both gateways at once: its original over one and its copy over the other, in both orders within a block, or a copy over each.
/// Seen to fail without the lock of the publishers.
#[test]
fn two_gateways_that_file_a_copy_and_its_original_at_once_make_one_row_of_them() {
    let Some(rig) = Postgres::new() else { return };
    let dirs = [Scratch::new(), Scratch::new()];
    const ROUNDS: u64 = 60;
    const OF_EACH: u64 = 30;
    let together = Barrier::new(2);
    std::thread::scope(|scope| {
        for (gateway, dir) in (0..).zip(&dirs) {
            let (place, together) = (rig.place(), &together);
            scope.spawn(move || {
                let mut store = PostgresStore::open(&place, dir.path()).unwrap().0;
                for round in 0..ROUNDS {
                    let first = round * OF_EACH + 1;
                    // Copies over both meet in the index, which would put the rest of their blocks in order, too.
                    let is_copy = |number| round % 3 == 0 || (number + gateway) % 2 == 0;
                    let readings: Vec<Reading<'_>> = (first..first + OF_EACH)
                        .map(|number| delivered(number, is_copy(number)))
                        .collect();
                    together.wait();
                    let board = u8::try_from(gateway + 1).unwrap();
                    put(&mut store, &[block_of(stream(board, 1), first, &readings)])[0].unwrap();
                }
            });
        }
    });
    let reader = rig.reader();
    let counts = reader.counts(&site()).unwrap();
    let all = ROUNDS * OF_EACH;
    assert_eq!((counts.sum(|of| of.rows), counts.sum(|of| of.duplicates)), (all, all));
    assert_eq!(rows(&*reader).len() as u64, all);
    // A third of them have no original.
    expect(&rig, &format!("SELECT count(*) = {} FROM roadstead.record WHERE awaits_original", all / 3));
}

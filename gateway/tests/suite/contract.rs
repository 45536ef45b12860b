//! The one contract that every store keeps, and what it is tried on: each test runs once for each store.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gateway::store::read::{PostgresReader, SqliteReader, StoreReader};
use gateway::store::{FILE, PostgresPlace, PostgresStore, SqliteStore, Store};
use shared::hub::HubMemory;

use crate::scratch::Scratch;
use crate::server::Server;

/// A place for one store, empty at first.
pub(crate) trait Rig {
    /// Opens the store there, for writing.
    fn open(&self) -> (Box<dyn Store>, HubMemory);

    /// Opens it for reading, once it was opened for writing.
    fn reader(&self) -> Box<dyn StoreReader>;

    /// From now on the database refuses to file a record with sequence 9.
    fn refuse_sequence_9(&self);

    /// Takes that back.
    fn refuse_nothing(&self);

    /// Ends the test unless the numbers that are kept as ranges are those of the rows, in as few ranges as can be.
    fn expect_numbers_of_rows(&self);

    /// Opens it for both.
    fn both(&self) -> (Box<dyn Store>, Box<dyn StoreReader>) {
        let (store, _) = self.open();
        (store, self.reader())
    }
}

/// Makes a test of each part of the contract, on a rig of its own.
macro_rules! contract {
    ($rig:expr) => {
        $crate::contract::contract! { $rig;
            store:
                a_block_sent_again_adds_nothing_and_is_covered_again,
                blocks_that_overlap_within_and_across_transactions_store_each_sequence_once,
                rows_come_in_order_of_board_epoch_and_sequence_whatever_the_order_of_arrival,
                a_bad_block_leaves_nothing_behind_and_spares_the_rest,
                a_gap_is_filed_and_what_it_declares_lost_is_counted_unless_it_comes_after_all,
                sites_do_not_meet,
                what_was_committed_is_there_after_reopening_under_a_new_incarnation,
                a_transaction_that_fails_stores_nothing_and_gives_out_no_identities,
                events_are_kept_up_to_their_limit_newest_first,
                a_look_shows_the_newest_and_pages_through_what_came_since,
                the_widest_numbers_survive,
                a_fence_rises_and_never_falls,
                the_newest_of_a_class_come_from_each_of_its_streams,
                many_names_and_many_records_at_once,
                a_name_may_have_any_character;
            filing:
                a_counted_reading_over_two_boards_is_one_row,
                one_block_may_hold_a_reading_twice,
                numbers_come_in_any_order_and_each_is_one_row,
                kinds_of_keys_do_not_meet,
                a_delivery_sent_again_is_one_row_in_either_order,
                deliveries_that_look_alike_are_all_kept,
                an_original_behind_its_would_be_copy_on_the_same_board_is_kept,
                a_copy_and_its_original_meet_however_much_came_between;
            leaving:
                a_day_that_is_over_is_archived_once_with_every_column,
                days_are_parts_of_their_own_and_what_comes_late_is_one_more,
                a_gateway_that_ends_before_it_has_noted_a_part_puts_the_same_again,
                what_cannot_be_archived_stays,
                what_is_not_read_back_as_it_was_put_stays,
                what_was_kept_long_enough_goes_by_its_class_and_coverage_stays,
                many_records_go_some_at_a_time,
                a_number_that_has_expired_may_come_again,
                a_part_that_waits_is_left_alone_when_the_archive_is_gone,
                what_came_into_a_part_after_it_was_looked_up_stays;
        }
    };
    ($rig:expr; $($part:ident: $($name:ident),+;)+) => {
        $($(
            #[test]
            fn $name() {
                if let Some(rig) = $rig {
                    $crate::$part::$name(&rig);
                }
            }
        )+)+
    };
}
pub(crate) use contract;

/// A directory with a file.
struct Sqlite(Scratch);

impl Sqlite {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn execute(&self, sql: &str) {
        let other = rusqlite::Connection::open(self.path().join(FILE)).unwrap();
        other.execute_batch(sql).unwrap();
    }
}

impl Rig for Sqlite {
    fn open(&self) -> (Box<dyn Store>, HubMemory) {
        let (store, memory) = SqliteStore::open(self.path()).unwrap();
        (Box::new(store), memory)
    }

    fn reader(&self) -> Box<dyn StoreReader> {
        Box::new(SqliteReader::open(self.path()).unwrap())
    }

    fn refuse_sequence_9(&self) {
        self.execute(
            "CREATE TRIGGER stop BEFORE INSERT ON record WHEN NEW.seq = 9 BEGIN SELECT RAISE(ABORT, 'no'); END;",
        );
    }

    fn refuse_nothing(&self) {
        self.execute("DROP TRIGGER stop");
    }

    fn expect_numbers_of_rows(&self) {
        let other = rusqlite::Connection::open(self.path().join(FILE)).unwrap();
        let mut rows = BTreeSet::new();
        let mut select = other.prepare("SELECT publisher, key FROM record WHERE key_kind = 0").unwrap();
        let mut found = select.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let (publisher, number) = (row.get::<_, i64>(0).unwrap(), u128::from_be_bytes(row.get(1).unwrap()));
            assert!(rows.insert((publisher, number)), "{number} of {publisher} is two rows");
        }
        let mut select = other.prepare("SELECT publisher, first, last FROM numbered").unwrap();
        let mut found = select.query([]).unwrap();
        let mut numbered = BTreeSet::new();
        while let Some(row) = found.next().unwrap() {
            let publisher: i64 = row.get(0).unwrap();
            let (first, last) = (u128::from_be_bytes(row.get(1).unwrap()), u128::from_be_bytes(row.get(2).unwrap()));
            let before = first.checked_sub(1).map(|before| (publisher, before));
            assert!(before.is_none_or(|before| !rows.contains(&before)), "it is no range of its own");
            numbered.extend((first..=last).map(|number| (publisher, number)));
        }
        assert_eq!(numbered, rows);
    }
}

/// A database of a server's.
pub(crate) struct Postgres {
    server: Arc<Server>,
    name: String,
    locked: Scratch,
}

impl Postgres {
    /// `None`, and said so, where there is no server to start.
    pub(crate) fn new() -> Option<Self> {
        let server = Server::shared()?;
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("region_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.running().database(&name).unwrap();
        Some(Self { server, name, locked: Scratch::new() })
    }

    pub(crate) fn place(&self) -> PostgresPlace {
        PostgresPlace::new(&self.server.running().url(&self.name), None, None).unwrap()
    }

    /// Does what `sql` says, past the store.
    pub(crate) fn execute(&self, sql: &str) {
        self.server.running().execute(&self.name, sql).unwrap();
    }
}

impl Rig for Postgres {
    fn open(&self) -> (Box<dyn Store>, HubMemory) {
        let (store, memory) = PostgresStore::open(&self.place(), self.locked.path()).unwrap();
        (Box::new(store), memory)
    }

    fn reader(&self) -> Box<dyn StoreReader> {
        Box::new(PostgresReader::open(&self.place()).unwrap())
    }

    fn refuse_sequence_9(&self) {
        self.execute("ALTER TABLE roadstead.record ADD CONSTRAINT stop CHECK (seq <> 9)");
    }

    fn refuse_nothing(&self) {
        self.execute("ALTER TABLE roadstead.record DROP CONSTRAINT stop");
    }

    fn expect_numbers_of_rows(&self) {
        self.execute(
            "CREATE OR REPLACE FUNCTION number(key uuid) RETURNS numeric LANGUAGE sql AS $$
               WITH halves AS (SELECT ('x' || substr(translate(key::text, '-', ''), 1, 16))::bit(64)::bigint::numeric AS high,
                                      ('x' || substr(translate(key::text, '-', ''), 17))::bit(64)::bigint::numeric AS low)
               SELECT mod(high + 18446744073709551616, 18446744073709551616) * 18446744073709551616
                    + mod(low + 18446744073709551616, 18446744073709551616) FROM halves $$;
             DO $$
             DECLARE all_rows bigint; within bigint; length numeric; joined bigint;
             BEGIN
               SELECT count(DISTINCT (publisher, key)) INTO all_rows FROM roadstead.record WHERE key_kind = 0;
               SELECT count(*) INTO within FROM roadstead.record r JOIN roadstead.numbered n
                 ON n.publisher = r.publisher AND r.key BETWEEN n.first AND n.last WHERE r.key_kind = 0;
               SELECT coalesce(sum(number(last) - number(first) + 1), 0) INTO length FROM roadstead.numbered;
               SELECT count(*) INTO joined FROM roadstead.numbered n JOIN roadstead.record r
                 ON r.publisher = n.publisher AND r.key_kind = 0 AND number(r.key) = number(n.first) - 1;
               ASSERT all_rows = within AND within = length AND joined = 0,
                 format('%s rows, %s in a range; ranges have %s; %s of them could be joined', all_rows, within, length, joined);
             END $$",
        );
    }
}

mod postgres {
    super::contract!(super::Postgres::new());
}

mod sqlite {
    super::contract!(Some(super::Sqlite(super::Scratch::new())));
}

//! What the store in PostgreSQL promises when its server dies, comes back, forgets, or is written by another gateway as well.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway::store::read::{PostgresReader, StoreReader};
use gateway::store::{Deposit, PostgresPlace, PostgresStore, Store, StoreError};
use shared::ids::Stream;

use crate::archive::Archive;
use crate::contract::{Postgres, Rig};
use crate::deposits::{NOW, block, rows, site, stream};
use crate::leaving::{keep, later};
use crate::postgres_lots::BEFORE_LOTS;
use crate::scratch::Scratch;
use crate::server::Server;

/// Records of a block.
pub(crate) const RECORDS: u64 = 50;

/// A database of a server that the test may stop.
pub(crate) struct Own {
    pub(crate) server: Server,
    pub(crate) url: String,
    pub(crate) locked: Scratch,
}

impl Own {
    pub(crate) fn new() -> Option<Self> {
        let server = Server::alone()?;
        let url = server.running().database("region").unwrap();
        Some(Self { server, url, locked: Scratch::new() })
    }

    pub(crate) fn open(&self) -> PostgresStore {
        PostgresStore::open(&place(&self.url), self.locked.path()).unwrap().0
    }

    pub(crate) fn reader(&self) -> PostgresReader {
        PostgresReader::open(&place(&self.url)).unwrap()
    }

    /// Where the server listens.
    pub(crate) fn socket(&self) -> PathBuf {
        let directory = self.url.split_whitespace().find_map(|part| part.strip_prefix("host="));
        PathBuf::from(directory.unwrap()).join(".s.PGSQL.5432")
    }
}

pub(crate) fn place(url: &str) -> PostgresPlace {
    PostgresPlace::new(url, None, None).unwrap()
}

/// The `number`th block of a stream, from 0.
pub(crate) fn numbered(stream: Stream, number: u64) -> Deposit {
    let first = number * RECORDS + 1;
    Deposit { site: site(), fence: None, blocks: vec![block(stream, first, first..=first + RECORDS - 1)] }
}

/// What came of blocks that are told in order, each again until it is acknowledged, as a site does.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
}

impl Told {
    /// Tells the next block once.
    pub(crate) fn tell(&mut self, store: &mut dyn Store) {
        match store.transact(&[numbered(stream(1, 1), self.acknowledged)], &[], NOW) {
            Ok(stored) => {
                assert!(stored[0][0].outcome.is_ok());
                self.acknowledged += 1;
            }
            // Nothing was said about it.
            Err(error) => {
                assert!(error.is_passing(), "{error:?}");
                self.refused += 1;
            }
        }
    }
}

/// Every row once, in order, and covered.
pub(crate) fn expect_whole(reader: &dyn StoreReader, blocks: u64) {
    let covered = reader.coverage(&site()).unwrap().remove(0).1;
    assert!(covered.watermark() >= blocks * RECORDS, "acknowledged {blocks} blocks, covered {covered:?}");
    let seqs: Vec<u64> = rows(reader).into_iter().map(|(_, _, seq, _)| seq).collect();
    assert_eq!(seqs, (1..=covered.watermark()).collect::<Vec<u64>>());
    assert_eq!(reader.counts(&site()).unwrap().sum(|of| of.rows), covered.watermark());
}

/// The server is killed, stopped at once and stopped in good order, over and over, while blocks are stored: as a primary's
/// crash, a power cut and a planned switch. The gateway goes on by itself.
#[test]
fn a_server_that_dies_and_comes_back_has_all_that_was_acknowledged_once() {
    let Some(own) = Own::new() else { return };
    let mut store = own.open();
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    let mut told = Told::default();
    std::thread::scope(|scope| {
        let server = &own.server;
        scope.spawn(move || {
            for round in 0..6 {
                std::thread::sleep(Duration::from_millis(400));
                let mut running = server.running();
                match round % 3 {
                    0 => running.kill(),
                    1 => running.stop_at_once(),
                    _ => running.stop(),
                }
                .unwrap();
                // Once longer than a transaction waits.
                std::thread::sleep(Duration::from_millis(if round == 4 { 6500 } else { 100 }));
                running.go_on().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stopped.load(Ordering::Relaxed) {
            told.tell(&mut store);
        }
    });
    let Told { acknowledged, refused } = told;
    assert!(acknowledged > 10 && refused > 0, "{acknowledged} acknowledged, {refused} refused");
    println!("{acknowledged} blocks acknowledged, {refused} transactions given up, 6 restarts");
    let reader = own.reader();
    expect_whole(&reader, acknowledged);
    assert_eq!(reader.coverage(&site()).unwrap()[0].1.watermark(), acknowledged * RECORDS);
    store.transact(&[numbered(stream(1, 1), acknowledged)], &[], NOW).unwrap();
    expect_whole(&reader, acknowledged + 1);
}

/// Between the store and the server: passes everything on until it is told to swallow the next answer of a commit, and to cut the
/// connection in its stead.
struct Thief {
    url: String,
    /// The next commit happens, and its answer is lost.
    steals: Arc<AtomicBool>,
    /// The next commit is lost on its way.
    swallows: Arc<AtomicBool>,
}

impl Thief {
    fn new(socket: PathBuf) -> Self {
        let (steals, swallows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (armed, gag) = (Arc::clone(&steals), Arc::clone(&swallows));
        let url =
            between(socket, move || !gag.swap(false, Ordering::Relaxed), move || !armed.swap(false, Ordering::Relaxed));
        Self { url, steals, swallows }
    }
}

/// Where whoever connects is connected to the server at `socket`. When a commit is on its way, `ordered` says whether it is passed on,
/// and of its answer `answered`; else the connection is cut.
pub(crate) fn between(
    socket: PathBuf,
    ordered: impl Fn() -> bool + Clone + Send + 'static,
    answered: impl Fn() -> bool + Clone + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = UnixStream::connect(&socket) else { continue };
            let (to_server, from_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let (ordered, answered) = (ordered.clone(), answered.clone());
            std::thread::spawn(move || pass(&from_client, &to_server, &ordered));
            std::thread::spawn(move || pass(&server, &client, &answered));
        }
    });
    format!("host=127.0.0.1 port={port} user=roadstead dbname=region")
}

/// Passes on what one says to the other, and a commit where `goes_on` says so: its order and the tag of its answer are the same text in
/// the protocol.
fn pass<A, B>(from: &A, to: &B, goes_on: &dyn Fn() -> bool)
where
    for<'a> &'a A: io::Read + Ends,
    for<'a> &'a B: io::Write + Ends,
{
    let mut piece = [0; 64 * 1024];
    while let Ok(read) = io::Read::read(&mut &*from, &mut piece) {
        let said = &piece[..read];
        let is_commit = said.windows(7).any(|tag| tag == b"COMMIT\0");
        if read == 0 || (is_commit && !goes_on()) || io::Write::write_all(&mut &*to, said).is_err() {
            break;
        }
    }
    from.end();
    to.end();
}

/// A socket that can be ended from either thread.
trait Ends {
    fn end(self);
}

impl Ends for &TcpStream {
    fn end(self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Ends for &UnixStream {
    fn end(self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// Seen to fail where a commit whose answer is lost is taken for one that happened.
#[test]
fn a_commit_whose_answer_is_lost_is_found_out_and_not_made_twice() {
    let Some(own) = Own::new() else { return };
    let thief = Thief::new(own.socket());
    let mut store = PostgresStore::open(&place(&thief.url), own.locked.path()).unwrap().0;
    for number in 0..20 {
        thief.steals.store(number % 4 == 1, Ordering::Relaxed);
        thief.swallows.store(number % 4 == 3, Ordering::Relaxed);
        let stored = store.transact(&[numbered(stream(1, 1), number)], &[], NOW).unwrap();
        let tally = stored[0][0].outcome.unwrap();
        // Filed again it would say that it was there before.
        assert_eq!((tally.rows, tally.again), (RECORDS, None), "block {number}");
        assert!(!thief.steals.load(Ordering::Relaxed), "the answer was stolen");
        assert!(!thief.swallows.load(Ordering::Relaxed), "the order was swallowed");
    }
    expect_whole(&own.reader(), 20);
}

#[test]
fn a_server_that_has_forgotten_ends_the_gateway() {
    let Some(rig) = Postgres::new() else { return };
    let (mut store, first) = rig.open();
    store.transact(&[numbered(stream(1, 1), 0)], &[], NOW).unwrap();
    // As a standby that lacks the last commit, or a backup that was put back.
    let back = "UPDATE roadstead.writer SET committed = committed - 1";
    rig.execute(back);
    let failed = store.transact(&[numbered(stream(1, 1), 1)], &[], NOW).unwrap_err();
    assert!(matches!(failed, StoreError::Forgotten { known: 1 }) && !failed.is_passing(), "{failed:?}");
    drop(store);
    let (mut store, second) = rig.open();
    assert_ne!(first.incarnation, second.incarnation);
    store.transact(&[numbered(stream(1, 1), 1)], &[], NOW).unwrap();
}

/// Both bring the same streams, in opposite order, and readings that the other one brings too.
#[test]
fn two_gateways_at_once_neither_lose_nor_double_what_the_other_writes() {
    let Some(rig) = Postgres::new() else { return };
    let (dirs, begun) = ([Scratch::new(), Scratch::new()], Instant::now());
    const BLOCKS: u64 = 30;
    std::thread::scope(|scope| {
        for (gateway, dir) in dirs.iter().enumerate() {
            let place = rig.place();
            scope.spawn(move || {
                let mut store = PostgresStore::open(&place, dir.path()).unwrap().0;
                for number in 0..BLOCKS {
                    let of = |board: u8| numbered(stream(board, 1), number).blocks;
                    let order = if gateway == 0 { [1, 2, 3] } else { [3, 2, 1] };
                    let blocks = order.into_iter().flat_map(of).collect();
                    let stored = store
                        .transact(&[Deposit { site: site(), fence: None, blocks }], &[], NOW)
                        .unwrap();
                    assert!(stored[0].iter().all(|stored| stored.outcome.is_ok()));
                }
            });
        }
    });
    let reader = rig.reader();
    // Every board has the same readings: each is one row, wherever it was taken from.
    let counts = reader.counts(&site()).unwrap();
    let all = BLOCKS * RECORDS;
    assert_eq!((counts.sum(|of| of.rows), counts.sum(|of| of.duplicates)), (all, 2 * all));
    assert_eq!(rows(&*reader).len() as u64, all);
    for (_, covered) in reader.coverage(&site()).unwrap() {
        assert_eq!((covered.watermark(), covered.ranges().len()), (all, 1));
    }
    println!("{} blocks of two gateways in {:?}", 6 * BLOCKS, begun.elapsed());
}

#[test]
fn a_server_that_would_lose_commits_is_refused() {
    let Some(own) = Own::new() else { return };
    own.server
        .running()
        .execute("postgres", "ALTER SYSTEM SET fsync = off")
        .unwrap();
    own.server.running().execute("postgres", "SELECT pg_reload_conf()").unwrap();
    let refused = || PostgresStore::open(&place(&own.url), own.locked.path());
    let begun = Instant::now();
    // The server reads its settings when it comes to it.
    while !matches!(refused(), Err(StoreError::Unsafe { .. })) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it was opened");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_database_from_before_the_archive_is_brought_up_and_its_rows_are_archived_too() {
    let Some(rig) = Postgres::new() else { return };
    let (mut store, _) = rig.open();
    store.transact(&[numbered(stream(1, 1), 0)], &[], NOW).unwrap();
    drop(store);
    rig.execute(BEFORE_LOTS);
    rig.execute(
        "DROP TABLE roadstead.kept, roadstead.part, roadstead.gateway;
         ALTER TABLE roadstead.stream DROP COLUMN archived, DROP COLUMN expired;
         UPDATE roadstead.meta SET layout = 1",
    );
    assert!(matches!(PostgresReader::open(&rig.place()), Err(StoreError::Tables { found: 1, .. })));
    let (mut store, reader) = rig.both();
    store.transact(&[numbered(stream(1, 1), 1)], &[], NOW).unwrap();
    let scratch = Scratch::new();
    let archive = Archive::in_directory(scratch.path());
    let mut upkeep = archive.upkeep((store, rig.reader()), keep(None, Some(1), None));
    let done = upkeep.round(later(2)).unwrap();
    assert_eq!((done.archived, done.expired), (2 * RECORDS, 2 * RECORDS));
    assert_eq!(archive.lines().len() as u64, 2 * RECORDS);
    assert_eq!(rows(&*reader), []);
}

/// Two gateways keep up one store, while a third takes blocks in: each record is archived once and counted once.
#[test]
fn two_gateways_that_archive_at_once_put_each_row_once() {
    let Some(rig) = Postgres::new() else { return };
    let scratch = Scratch::new();
    let archive = Archive::in_directory(scratch.path());
    let locks = [Scratch::new(), Scratch::new(), Scratch::new()];
    let open =
        |at: usize| -> Box<dyn Store> { Box::new(PostgresStore::open(&rig.place(), locks[at].path()).unwrap().0) };
    let mut upkeeps = [0, 1].map(|at| archive.upkeep((open(at), rig.reader()), keep(None, Some(3), None)));
    let mut third = open(2);
    let filled = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for upkeep in &mut upkeeps {
            let filled = &filled;
            scope.spawn(move || {
                loop {
                    let last = filled.load(Ordering::Relaxed);
                    upkeep.round(later(9)).unwrap();
                    if last {
                        break;
                    }
                }
            });
        }
        for number in 0..60 {
            let now = later(number / 12);
            third.transact(&[numbered(stream(1, 1), number)], &[], now).unwrap();
        }
        filled.store(true, Ordering::Relaxed);
    });
    let wanted: Vec<u64> = (1..=60 * RECORDS).collect();
    let mut archived: Vec<u64> = archive.lines().into_iter().map(|line| line.seq).collect();
    archived.sort_unstable();
    assert_eq!(archived, wanted);
    let reader = rig.reader();
    let counts = reader.counts(&site()).unwrap();
    assert_eq!((counts.sum(|of| of.archived), counts.sum(|of| of.expired)), (60 * RECORDS, 60 * RECORDS));
    assert_eq!(rows(&*reader), []);
}

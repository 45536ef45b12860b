//! What the store in PostgreSQL, and the gateway before it, promise when the server takes connections and answers nothing: all of its
//! processes are stopped where they are, and go on later, with all that is in their sockets.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway::config::{GatewayConfig, StoreKind};
use gateway::store::read::StoreReader as _;
use gateway::store::{PostgresStore, Store as _};
use link::identity::Identity;
use shared::wire::uplink::{FromRegion, ToRegion};
use tokio::runtime::Builder;

use crate::deposits::{NOW, block, site, stream};
use crate::postgres::{Own, RECORDS, Told, between, expect_whole, numbered, place};
use crate::region::{Board, Files, Running};

/// A server is frozen for so long: longer than any wait for it.
const FROZEN: Duration = Duration::from_secs(28);
/// A transaction is given up within this: ten seconds for an answer, and what a commit costs that is asked about on a connection
/// which comes about only within five more, at its last attempt; and some for a busy machine.
const GIVEN_UP: Duration = Duration::from_secs(25);
/// A standby is away for so long: longer than an answer to a commit is waited for, and shorter than that and a lock together.
const AWAY: Duration = Duration::from_secs(16);
/// A gateway ends within this.
const ENDED: Duration = Duration::from_secs(35);

/// Seen to fail without a deadline for an answer, and without one for what comes before the first statement.
#[test]
fn a_server_that_answers_nothing_is_given_up_and_nothing_is_lost_or_doubled() {
    let Some(own) = Own::new() else { return };
    let mut store = own.open();
    let over = AtomicBool::new(false);
    let (mut told, mut longest) = (Told::default(), Duration::ZERO);
    std::thread::scope(|scope| {
        let (server, over) = (&own.server, &over);
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            server.running().freeze().unwrap();
            std::thread::sleep(FROZEN);
            server.running().thaw().unwrap();
            std::thread::sleep(Duration::from_secs(2));
            over.store(true, Ordering::Relaxed);
        });
        while !over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            told.tell(&mut store);
            longest = longest.max(begun.elapsed());
        }
    });
    let Told { acknowledged, refused } = told;
    println!("{acknowledged} blocks acknowledged, {refused} transactions given up, the longest took {longest:?}");
    assert!(longest < GIVEN_UP, "{longest:?}");
    assert!(acknowledged > 10 && refused > 1, "{acknowledged} acknowledged, {refused} refused");
    let reader = own.reader();
    expect_whole(&reader, acknowledged);
    assert_eq!(reader.coverage(&site()).unwrap()[0].1.watermark(), acknowledged * RECORDS);
}

/// Its kernel takes the connection; nobody takes it from there.
#[test]
fn the_next_host_is_tried_where_one_takes_connections_and_says_nothing() {
    let Some(own) = Own::new() else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let socket = own.socket();
    let directory = socket.parent().unwrap().display();
    let url = format!("host=127.0.0.1,{directory} port={port},5432 user=roadstead dbname=region");
    let begun = Instant::now();
    let mut store = PostgresStore::open(&place(&url), own.locked.path()).unwrap().0;
    assert!(begun.elapsed() < GIVEN_UP, "{:?}", begun.elapsed());
    store.transact(&[numbered(stream(1, 1), 0)], &[], NOW).unwrap();
    expect_whole(&own.reader(), 1);
}

/// The order to commit is in the server's socket when it is given up. A server that goes on finds it there, or has ended the session
/// before for its idleness.
#[test]
fn a_commit_before_which_the_server_froze_is_made_once() {
    let Some(own) = Own::new() else { return };
    let own = Arc::new(own);
    let freezes = Arc::new(AtomicBool::new(false));
    // Whoever stands between stays until the process ends, and the server shall not.
    let (armed, frozen) = (Arc::clone(&freezes), Arc::downgrade(&own));
    let ordered = move || {
        if let Some(frozen) = frozen.upgrade()
            && armed.swap(false, Ordering::Relaxed)
        {
            frozen.server.running().freeze().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(12));
                frozen.server.running().thaw().unwrap();
            });
        }
        true
    };
    let url = between(own.socket(), ordered, || true);
    let mut store = PostgresStore::open(&place(&url), own.locked.path()).unwrap().0;
    for number in 0..6 {
        freezes.store(number % 3 == 1, Ordering::Relaxed);
        let begun = Instant::now();
        // Told again until it is acknowledged, as a site does.
        while let Err(error) = store.transact(&[numbered(stream(1, 1), number)], &[], NOW) {
            assert!(error.is_passing(), "{error:?}");
        }
        println!("block {number} took {:?}", begun.elapsed());
        assert!(!freezes.load(Ordering::Relaxed), "it was frozen");
    }
    expect_whole(&own.reader(), 6);
}

/// A commit waits within the server for a standby that is away, longer than the gateway waits for it. It was made, and nobody
/// may hear so before the standby has it: whoever asks meanwhile waits for its row. Seen to fail where the row is asked for
/// without its lock: the transaction is taken for one that was never made, and the next one ends the gateway.
#[test]
fn a_commit_that_waits_for_a_standby_is_told_of_when_that_has_it_and_made_once() {
    let Some(own) = Own::new() else { return };
    let own = Arc::new(own);
    let (waits, lifted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (armed, over, server) = (Arc::clone(&waits), Arc::clone(&lifted), Arc::downgrade(&own));
    let ordered = move || {
        if let Some(own) = server.upgrade()
            && armed.swap(false, Ordering::Relaxed)
        {
            waits_for(&own, "'nobody'");
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                std::thread::sleep(AWAY);
                over.store(true, Ordering::Relaxed);
                waits_for(&own, "DEFAULT");
            });
        }
        true
    };
    let url = between(own.socket(), ordered, || true);
    let mut store = PostgresStore::open(&place(&url), own.locked.path()).unwrap().0;
    let mut told = Told::default();
    told.tell(&mut store);
    waits.store(true, Ordering::Relaxed);
    while told.acknowledged == 1 {
        told.tell(&mut store);
    }
    assert!(lifted.load(Ordering::Relaxed), "it was acknowledged before the standby had it");
    println!("{} transactions given up", told.refused);
    expect_whole(&own.reader(), 2);
}

/// From now on commits wait for the standby of that name.
fn waits_for(own: &Own, standby: &str) {
    let server = own.server.running();
    for sql in [&format!("ALTER SYSTEM SET synchronous_standby_names TO {standby}"), "SELECT pg_reload_conf()"] {
        server.execute("region", sql).unwrap();
    }
    // Its processes hear of it one after the other.
    std::thread::sleep(Duration::from_millis(500));
}

/// Seen to hang without a deadline for an answer.
#[test]
fn a_gateway_whose_database_answers_nothing_lets_sites_go_and_stops() {
    // Before the server: what still waits for it when the test fails has an end with it.
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let Some(own) = Own::new() else { return };
    runtime.block_on(live_through_silence(&own));
    expect_whole(&own.reader(), 3);
}

async fn live_through_silence(own: &Own) {
    let files = Files::new();
    let config = || GatewayConfig { store: StoreKind::Postgres(place(&own.url)), ..files.config() };
    let identity = files.board("elm", "elm", 1);
    let running = files.start_with(config()).await;
    let mut session = welcomed(&identity, &running).await;
    session.say(&[of_board(0)]).await;
    session.hear_covered(stream(1, 1), RECORDS).await;
    assert_eq!(running.get("/readyz").await.0, 200);

    own.server.running().freeze().unwrap();
    let frozen = Instant::now();
    session.say(&[of_board(1)]).await;
    assert_eq!(session.hear().await, None, "nothing is acknowledged, and the site is let go");
    println!("the site was let go after {:?}", frozen.elapsed());
    assert!(frozen.elapsed() < GIVEN_UP, "{:?}", frozen.elapsed());
    let (status, why) = running.get("/readyz").await;
    assert!(status == 503 && why.contains("not stored"), "{status} {why}");

    // While one waits and more is on its way.
    let mut session = welcomed(&identity, &running).await;
    session.say(&[of_board(1)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stopping = Instant::now();
    running.stopper.stop();
    let ended = tokio::time::timeout(ENDED, running.serving).await;
    println!("the gateway ended after {:?}", stopping.elapsed());
    ended.unwrap().unwrap().unwrap();

    own.server.running().thaw().unwrap();
    let running = files.start_with(config()).await;
    let mut session = welcomed(&identity, &running).await;
    session.say(&[of_board(0), of_board(1), of_board(2)]).await;
    session.hear_covered(stream(1, 1), 3 * RECORDS).await;
    assert_eq!(running.get("/readyz").await.0, 200);
    running.stop().await;
}

fn of_board(number: u64) -> ToRegion {
    let first = number * RECORDS + 1;
    ToRegion::Block(block(stream(1, 1), first, first..=first + RECORDS - 1))
}

async fn welcomed(identity: &Identity, running: &Running) -> Board {
    let mut session = Board::dial(identity, running).await.unwrap();
    assert!(matches!(session.hello("elm", 1, 5).await, Some(FromRegion::Welcome { .. })));
    session
}

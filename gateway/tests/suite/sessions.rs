//! Whole sessions over loopback: real certificates, real QUIC, a real store, and the API beside them.

use gateway::GatewayError;
use gateway::store::FILE;
use gateway::store::read::SqliteReader;
use link::endpoint::BACKLOG_STREAMS;
use link::frames::encode;
use shared::frame::Conversation;
use shared::ids::Term;
use shared::wire::uplink::{BoardReport, FromRegion, Reads, Refusal, SiteReport, ToRegion};
use tokio::net::UdpSocket;

use crate::deposits::{block, rows, stream};
use crate::region::{Board, Files, PATIENCE, board};

#[tokio::test]
async fn what_is_acknowledged_is_stored_and_survives_the_gateway() {
    let files = Files::new();
    let first = files.board("elm", "elm", 1);
    let running = files.start().await;
    let mut session = Board::dial(&first, &running).await.unwrap();
    let Some(FromRegion::Welcome { incarnation }) = session.hello("elm", 1, 5).await else {
        panic!("no welcome")
    };
    session.say(&[ToRegion::Block(block(stream(1, 1), 1, 1..=100))]).await;
    session.hear_covered(stream(1, 1), 100).await;
    let reader = SqliteReader::open(&files.path("data")).unwrap();
    assert_eq!(rows(&reader).len(), 100, "read while the gateway runs");
    running.stop().await;

    let running = files.start().await;
    let mut lower = Board::dial(&files.board("elm", "elm", 2), &running).await.unwrap();
    let highest = Term::new(5, board(1));
    assert_eq!(lower.hello("elm", 2, 4).await, Some(FromRegion::Refused(Refusal::Fenced { highest })));
    assert_eq!(lower.hear().await, None, "and closed");
    let mut session = Board::dial(&first, &running).await.unwrap();
    let Some(FromRegion::Welcome { incarnation: next }) = session.hello("elm", 1, 5).await else {
        panic!("no welcome")
    };
    assert_ne!(next, incarnation);
    session.say(&[ToRegion::Ask(vec![stream(1, 1), stream(2, 1)])]).await;
    let Some(FromRegion::Coverage(whole)) = session.hear().await else {
        panic!("no answer")
    };
    assert_eq!((whole[0].ranges.watermark(), whole[0].whole, whole[1].ranges.count()), (100, true, 0));
    assert_eq!(session.reads, Some(Reads::Columns), "it has said which blocks it reads");
    session.say(&[ToRegion::Block(block(stream(1, 1), 51, 51..=150))]).await;
    session.hear_covered_from(stream(1, 1), 51, 150).await;
    assert_eq!(rows(&reader).len(), 150);
    running.stop().await;
}

#[tokio::test]
async fn a_flood_is_held_back_and_all_of_it_is_acknowledged() {
    let files = Files::new();
    let running = files.start().await;
    let mut session = Board::dial(&files.board("elm", "elm", 1), &running).await.unwrap();
    assert!(matches!(session.hello("elm", 1, 1).await, Some(FromRegion::Welcome { .. })));
    // Three times what may wait of one session, sent without looking at the answers.
    let last = shared::limits::SESSION_BLOCKS_MAX as u64 * 3;
    let blocks: Vec<ToRegion> = (1..=last)
        .map(|seq| ToRegion::Block(block(stream(1, 1), seq, seq..=seq)))
        .collect();
    session.say(&blocks).await;
    session.hear_covered(stream(1, 1), last).await;
    let counts = running.json("/api/sites/elm/counts").await;
    assert_eq!((counts["stored"].as_u64(), counts["holes"].as_u64()), (Some(last), Some(0)));
    running.stop().await;
}

/// A backlog comes on four streams, in whatever order, and on no more in a session's life: each new one would have a share of its own of
/// what may wait. What is no message on one of them ends the session. Seen to fail where every stream is taken that is offered.
#[tokio::test]
async fn a_backlog_comes_on_four_streams_and_on_no_fifth() {
    let files = Files::new();
    let running = files.start().await;
    let mut session = Board::dial(&files.board("elm", "elm", 1), &running).await.unwrap();
    assert!(matches!(session.hello("elm", 1, 1).await, Some(FromRegion::Welcome { .. })));
    let sent = |first| encode(Conversation::ToRegion, &ToRegion::Block(block(stream(1, 1), first, first..=first)));
    let mut streams = Vec::new();
    for _ in 0..BACKLOG_STREAMS {
        streams.push(session.connection.open_uni().await.unwrap());
    }
    for (stream, first) in streams.iter_mut().rev().zip(1..) {
        stream.write_chunk(sent(first)).await.unwrap();
    }
    session.hear_covered(stream(1, 1), 4).await;
    streams.remove(0).finish().unwrap();
    let mut fifth = tokio::time::timeout(PATIENCE, session.connection.open_uni())
        .await
        .unwrap()
        .unwrap();
    fifth.write_chunk(sent(9)).await.unwrap();
    streams[0].write_chunk(sent(5)).await.unwrap();
    session.hear_covered_from(stream(1, 1), 5, 5).await;
    streams[1].write_chunk(sent(6)).await.unwrap();
    session.hear_covered_from(stream(1, 1), 6, 6).await;
    assert_eq!(rows(&SqliteReader::open(&files.path("data")).unwrap()).len(), 6, "the fifth is not looked at");
    streams[2].write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(session.hear().await, Some(FromRegion::Refused(Refusal::Protocol)));
    assert_eq!(session.hear().await, None);
    running.stop().await;
}

#[tokio::test]
async fn who_is_not_a_board_of_the_site_is_turned_away() {
    let files = Files::new();
    let running = files.start().await;
    // The authority of another site cannot speak for this one, nor can that of the region.
    for authority in ["oak", "region"] {
        let stranger = files.board(authority, "elm", 1);
        let refused = match Board::dial(&stranger, &running).await {
            Err(_) => true,
            Ok(mut session) => session.hear().await.is_none() && session.connection.close_reason().is_some(),
        };
        assert!(refused, "{authority}");
    }
    let mut other_board = Board::dial(&files.board("elm", "elm", 2), &running).await.unwrap();
    assert_eq!(other_board.hello("elm", 1, 9).await, Some(FromRegion::Refused(Refusal::Identity)));
    let mut other_site = Board::dial(&files.board("oak", "oak", 1), &running).await.unwrap();
    assert_eq!(other_site.hello("elm", 1, 9).await, Some(FromRegion::Refused(Refusal::Identity)));
    let mut right = Board::dial(&files.board("elm", "elm", 1), &running).await.unwrap();
    let welcome = right.hello("elm", 1, 1).await;
    assert!(matches!(welcome, Some(FromRegion::Welcome { .. })), "no fence has moved: {welcome:?}");
    running.stop().await;
}

#[tokio::test]
async fn garbage_ends_its_session_and_harms_nobody() {
    let files = Files::new();
    let running = files.start().await;
    let identity = files.board("elm", "elm", 1);
    let mut good = Board::dial(&identity, &running).await.unwrap();
    assert!(matches!(good.hello("elm", 1, 1).await, Some(FromRegion::Welcome { .. })));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in [0, 1, 20, 1200] {
        socket.send_to(&vec![0x5a; length], running.quic).await.unwrap();
    }
    let mut noise = Board::dial(&identity, &running).await.unwrap();
    noise.send.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(noise.hear().await, Some(FromRegion::Refused(Refusal::Protocol)));
    assert_eq!(noise.hear().await, None);
    let mut bad = Board::dial(&identity, &running).await.unwrap();
    assert!(matches!(bad.hello("elm", 1, 1).await, Some(FromRegion::Welcome { .. })));
    let mut broken = block(stream(1, 1), 1, 1..=4);
    broken.crc ^= 1;
    bad.say(&[ToRegion::Block(broken)]).await;
    assert_eq!(bad.hear().await, Some(FromRegion::Refused(Refusal::Protocol)));
    good.say(&[ToRegion::Block(block(stream(1, 1), 1, 1..=4))]).await;
    good.hear_covered(stream(1, 1), 4).await;
    let (_, metrics) = running.get("/metrics").await;
    for line in [
        "roadstead_region_bad_frames_total 1",
        "roadstead_region_blocks_bad_total{site=\"elm\"} 1",
        "roadstead_region_records_total{site=\"elm\",outcome=\"row\"} 4",
    ] {
        assert!(metrics.lines().any(|have| have == line), "{line} is not in\n{metrics}");
    }
    running.stop().await;
}

fn report(committed: u64, backlog: u64) -> ToRegion {
    let line = |number, committed, backlog| BoardReport {
        board: board(number),
        epoch: stream(number, 1).origin.epoch,
        alive: true,
        accepted: committed,
        committed,
        degraded: 0,
        unacknowledged: 0,
        shed: 0,
        backlog,
    };
    ToRegion::Report(SiteReport { boards: vec![line(1, committed, backlog), line(2, 0, 0)] })
}

#[tokio::test]
async fn the_api_shows_what_is_there_and_whether_it_adds_up() {
    let files = Files::new();
    let running = files.start().await;
    assert_eq!(running.get("/livez").await.0, 200);
    assert_eq!(running.get("/readyz").await.0, 200);
    assert_eq!(running.json("/api/sites").await["sites"].as_array().unwrap().len(), 2);
    let mut session = Board::dial(&files.board("elm", "elm", 1), &running).await.unwrap();
    assert!(matches!(session.hello("elm", 1, 1).await, Some(FromRegion::Welcome { .. })));
    session
        .say(&[report(12, 2), ToRegion::Block(block(stream(1, 1), 1, 1..=10))])
        .await;
    session.hear_covered(stream(1, 1), 10).await;
    let site = running.json("/api/sites/elm").await;
    assert_eq!((&site["is_connected"], &site["report"]["boards_alive"]), (&true.into(), &2.into()));
    let counts = running.json("/api/sites/elm/counts").await;
    assert_eq!((&counts["committed"], &counts["stored"], &counts["backlog"]), (&12.into(), &10.into(), &2.into()));
    assert_eq!(counts["reconciles"], true, "{counts}");
    // Three are said to be committed that are neither stored nor in a journal.
    session.say(&[report(13, 2), ToRegion::Ask(Vec::new())]).await;
    assert_eq!(session.hear().await, Some(FromRegion::Coverage(Vec::new())));
    let counts = running.json("/api/sites/elm/counts").await;
    assert_eq!(counts["reconciles"], false, "{counts}");
    let boards = running.json("/api/sites/elm/boards").await;
    assert_eq!(boards["boards"][0]["stored"], 10);
    let records = running.json("/api/sites/elm/records?limit=3").await;
    assert_eq!((&records["records"][0]["seq"], &records["records"][0]["payload"]), (&10.into(), &"on 10".into()));
    let next = records["next"].as_str().unwrap();
    let since = running.json(&format!("/api/sites/elm/records?after={next}")).await;
    assert_eq!(since["records"].as_array().unwrap().len(), 0);
    let events = running.json("/api/sites/elm/events?limit=1").await;
    assert_eq!(events["events"][0]["name"], "session_opened");
    running.stop().await;
}

#[tokio::test]
async fn a_bad_request_is_told_what_would_be_right() {
    let files = Files::new();
    let running = files.start().await;
    for (path, status, words) in [
        ("/api/sites/fir/counts", 404, "served are: elm, oak"),
        ("/api/sites/elm/records?limit=0", 400, "1 to 1000"),
        ("/api/sites/elm/records?after=x", 400, "<block>-<sequence>"),
        ("/api/sites/elm/events?limt=3", 400, "takes: limit"),
        ("/api/sites?x=1", 400, "takes: none"),
        ("/api/nothing", 404, "nothing at this path"),
    ] {
        let (got, body) = running.get(path).await;
        let said: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(got, status, "{path}");
        assert!(said["error"].as_str().unwrap().contains(words), "{path}: {body}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_written_acknowledges_nothing_until_it_can() {
    let files = Files::new();
    let running = files.start().await;
    let identity = files.board("elm", "elm", 1);
    let mut session = Board::dial(&identity, &running).await.unwrap();
    assert!(matches!(session.hello("elm", 1, 1).await, Some(FromRegion::Welcome { .. })));
    let other = rusqlite::Connection::open(files.path("data").join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    session.say(&[ToRegion::Block(block(stream(1, 1), 1, 1..=10))]).await;
    assert_eq!(session.hear().await, None, "closed without an acknowledgement");
    let (status, body) = running.get("/readyz").await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(running.get("/livez").await.0, 200);
    other.execute_batch("ROLLBACK").unwrap();
    let mut session = Board::dial(&identity, &running).await.unwrap();
    assert!(matches!(session.hello("elm", 1, 1).await, Some(FromRegion::Welcome { .. })));
    session.say(&[ToRegion::Block(block(stream(1, 1), 1, 1..=10))]).await;
    session.hear_covered(stream(1, 1), 10).await;
    assert_eq!(running.get("/readyz").await.0, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_for_good_ends_the_process_and_acknowledges_nothing() {
    let files = Files::new();
    let running = files.start().await;
    let mut session = Board::dial(&files.board("elm", "elm", 1), &running).await.unwrap();
    assert!(matches!(session.hello("elm", 1, 1).await, Some(FromRegion::Welcome { .. })));
    let other = rusqlite::Connection::open(files.path("data").join(FILE)).unwrap();
    other
        .execute_batch("CREATE TRIGGER stop BEFORE INSERT ON record BEGIN SELECT RAISE(ABORT, 'no'); END;")
        .unwrap();
    session.say(&[ToRegion::Block(block(stream(1, 1), 1, 1..=10))]).await;
    assert_eq!(session.hear().await, None);
    let ended = tokio::time::timeout(PATIENCE, running.serving).await.unwrap().unwrap();
    assert!(matches!(ended, Err(GatewayError::Store(_))), "{ended:?}");
}

//! Whole sessions over loopback: real certificates, real QUIC, a real store, and the API beside them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use gateway::config::GatewayConfig;
use gateway::store::FILE;
use gateway::store::read::StoreReader;
use gateway::{Gateway, GatewayError};
use link::endpoint::{self, Listening};
use link::frames::{FrameReader, encode, write_all_frames};
use link::identity::Identity;
use link::sites::{board_name, gateway_name};
use link::stop::Stopper;
use link::tables::ServedSite;
use quinn::{Connection, SendStream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use shared::frame::Conversation;
use shared::ids::{BoardId, Epoch, Name, Stream, Term};
use shared::ranges::RangeSet;
use shared::wire::uplink::{BoardReport, FromRegion, Hello, Refusal, SiteReport, ToRegion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use crate::deposits::{block, rows, stream};
use crate::scratch::Scratch;

/// Long enough for a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Authorities and files of a region with the sites `elm` and `oak`.
struct Files {
    scratch: Scratch,
    authorities: BTreeMap<&'static str, Issuer<'static, KeyPair>>,
}

impl Files {
    fn new() -> Self {
        let scratch = Scratch::new();
        let mut authorities = BTreeMap::new();
        for name in ["region", "elm", "oak"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            std::fs::write(scratch.path().join(format!("{name}-ca.pem")), params.self_signed(&key).unwrap().pem())
                .unwrap();
            authorities.insert(name, Issuer::new(params, key));
        }
        let files = Self { scratch, authorities };
        files.certify("region", &gateway_name("centre"), "gateway");
        files
    }

    fn path(&self, file: &str) -> PathBuf {
        self.scratch.path().join(file)
    }

    /// A certificate for `name`, signed by `authority`.
    fn certify(&self, authority: &str, name: &str, file: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authorities[authority]).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn board(&self, authority: &str, site: &str, number: u8) -> Identity {
        let file = format!("{authority}-{site}-{number}");
        self.certify(authority, &board_name(site, board(number)), &file);
        let (certificate, key) = (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        Identity::load(&certificate, &key, &self.path("region-ca.pem")).unwrap()
    }

    fn config(&self) -> GatewayConfig {
        let site = |site: &str| ServedSite { name: name(site), ca: self.path(&format!("{site}-ca.pem")) };
        GatewayConfig {
            listen_quic: SocketAddr::from(([127, 0, 0, 1], 0)),
            listen_http: SocketAddr::from(([127, 0, 0, 1], 0)),
            listen_witness: None,
            data_dir: self.path("data"),
            certificate: self.path("gateway.pem"),
            key: self.path("gateway.key"),
            ca: self.path("region-ca.pem"),
            sites: vec![site("elm"), site("oak")],
        }
    }

    async fn start(&self) -> Running {
        let gateway: Gateway = gateway::open(self.config()).await.unwrap();
        let (quic, http) = (gateway.quic_address(), gateway.http_address());
        let (stopper, mut stop) = link::stop::signal();
        let serving = tokio::spawn(async move { gateway.serve(stop.stopped()).await });
        Running { quic, http, stopper, serving }
    }
}

struct Running {
    quic: SocketAddr,
    http: SocketAddr,
    stopper: Stopper,
    serving: JoinHandle<Result<(), GatewayError>>,
}

impl Running {
    async fn stop(self) {
        self.stopper.stop();
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap().unwrap();
    }

    /// The status and body of a GET.
    async fn get(&self, path: &str) -> (u16, String) {
        let mut connection = TcpStream::connect(self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let reading = connection.read_to_string(&mut answer);
        tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    async fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// A board's end of a session.
struct Board {
    send: SendStream,
    frames: FrameReader,
    connection: Connection,
    _listening: Listening,
}

impl Board {
    async fn dial(identity: &Identity, running: &Running) -> Result<Self, quinn::ConnectionError> {
        let listening = endpoint::uplink(identity, running.quic).unwrap();
        let connection = listening
            .endpoint
            .connect(running.quic, &gateway_name("centre"))
            .unwrap()
            .await?;
        let (send, receive) = connection.open_bi().await?;
        let frames = FrameReader::new(receive, Conversation::FromRegion);
        Ok(Self { send, frames, connection, _listening: listening })
    }

    async fn say(&mut self, messages: &[ToRegion]) {
        let mut frames: Vec<Bytes> = messages.iter().map(|message| encode(Conversation::ToRegion, message)).collect();
        write_all_frames(&mut self.send, &mut frames).await.unwrap();
    }

    /// The next answer; `None` once the session is over.
    async fn hear(&mut self) -> Option<FromRegion> {
        let read = tokio::time::timeout(PATIENCE, self.frames.read()).await.unwrap();
        read.ok().flatten()
    }

    async fn hello(&mut self, site: &str, number: u8, counter: u64) -> Option<FromRegion> {
        let term = Term::new(counter, board(number));
        let hello = Hello { site: name(site), board: board(number), epoch: Epoch { boot: 1, nonce: 1 }, term };
        self.say(&[ToRegion::Hello(hello)]).await;
        self.hear().await
    }

    /// Hears until `of` is covered up to `last`, without a hole.
    async fn hear_covered(&mut self, of: Stream, last: u64) {
        self.hear_covered_from(of, 1, last).await;
    }

    /// Hears until the sequences from `first` to `last` are covered.
    async fn hear_covered_from(&mut self, of: Stream, first: u64, last: u64) {
        let mut covered = RangeSet::EMPTY;
        while !covered.contains_range(shared::ranges::SeqRange { first, last }) {
            let Some(FromRegion::Coverage(lines)) = self.hear().await else {
                panic!("coverage was due")
            };
            lines
                .iter()
                .filter(|line| line.stream == of)
                .for_each(|line| covered.extend(&line.ranges));
        }
    }
}

fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

fn name(name: &str) -> Name {
    Name::try_from(name).unwrap()
}

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
    let reader = StoreReader::open(&files.path("data")).unwrap();
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

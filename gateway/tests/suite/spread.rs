//! Sites that are spread over two gateways of one database: both are processes of their own, this very test binary run again, and one is
//! killed and comes back. The sites dial as boards do, by `shared::uplink::ways`.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::config::{GatewayConfig, Retention, StoreKind};
use gateway::store::PostgresPlace;
use gateway::store::postgres::{PostgresLoads, PostgresReader};
use gateway::store::read::{Row, StoreReader as _};
use link::clock;
use link::endpoint::{self, Listening};
use link::frames::{FrameReader, encode, write_all_frames};
use link::identity::Identity;
use link::sites::gateway_name;
use link::tables::ServedSite;
use quinn::{Connection, ConnectionError, SendStream};
use shared::frame::Conversation;
use shared::hub::Load;
use shared::ids::{Epoch, Name, Term};
use shared::ranges::RangeSet;
use shared::uplink::ways::{Fall, Way, Ways};
use shared::wire::uplink::{FromRegion, Hello, ToRegion};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::contract::{Postgres, Rig as _};
use crate::deposits::{block, stream};
use crate::postgres_lots::BEFORE_LOTS;
use crate::region::{Files, board, get, name};
use crate::server::Server;

const SITES: [&str; 12] = ["ash", "asp", "bay", "box", "elm", "fig", "fir", "gum", "ivy", "nut", "oak", "yew"];
/// Each of two has its share within these: six, and two more or less.
const EVEN: std::ops::RangeInclusive<usize> = 4..=8;
/// Records of a block, and the pause between two.
const RECORDS: u64 = 10;
const EVERY: Duration = Duration::from_millis(200);
/// Longest wait for anything: a dead gateway counts as one for ten seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// Not at any gateway.
const NOWHERE: usize = usize::MAX;

/// What the process of a gateway is told.
const PLACE: &str = "ROADSTEAD_TEST_SPREAD";

/// A gateway until it is killed.
#[test]
#[ignore = "the process that the other test kills"]
fn gateway_process() {
    let Ok(told) = std::env::var(PLACE) else { return };
    let mut parts = told.split('\n');
    let mut next = || parts.next().unwrap();
    let (dir, number, quic, http, url) = (next(), next(), next(), next(), next());
    let dir = Path::new(dir);
    let site = |site: &str| ServedSite { name: name(site), ca: dir.join(format!("{site}-ca.pem")) };
    let config = GatewayConfig {
        listen_quic: quic.parse().unwrap(),
        listen_http: http.parse().unwrap(),
        https: None,
        listen_witness: None,
        store: StoreKind::Postgres(PostgresPlace::new(url, None, None).unwrap()),
        spread_sites: true,
        archive: None,
        retention: Retention::default(),
        data_dir: dir.join(format!("data-{number}")),
        certificate: dir.join("gateway.pem"),
        key: dir.join("gateway.key"),
        ca: dir.join("region-ca.pem"),
        sites: SITES.into_iter().map(site).collect(),
        digest: [0; 32],
    };
    runtime().block_on(gateway::run(config, std::future::pending())).unwrap();
}

/// A gateway's process.
struct Gateway {
    told: String,
    quic: SocketAddr,
    http: SocketAddr,
    process: Option<Child>,
}

impl Gateway {
    /// The `number`th gateway of the database at `url`, on ports that nobody has now.
    fn new(files: &Files, number: usize, url: &str) -> Self {
        let quic = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let told = format!("{}\n{number}\n{quic}\n{http}\n{url}", files.scratch.path().display());
        let mut gateway = Self { told, quic, http, process: None };
        gateway.start();
        gateway
    }

    fn start(&mut self) {
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "spread::gateway_process", "--ignored", "--nocapture"])
            .env(PLACE, &self.told)
            .stdout(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
    }

    /// Starts it again where it has ended by itself, as whoever supervises it does: both make the tables at the same time.
    fn keep_up(&mut self) {
        if let Some(process) = &mut self.process
            && let Some(ended) = process.try_wait().unwrap()
        {
            println!("a gateway has ended, and is started again: {ended}");
            self.start();
        }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// A figure of its metrics, once it answers.
    async fn figure(&self, series: &str) -> Option<u64> {
        let (_, metrics) = get(self.http, "/metrics").await.ok()?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.parse().ok()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a site shows of itself.
#[derive(Debug)]
struct Seen {
    /// The gateway that it has a session with.
    at: AtomicUsize,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// Sessions that the region ended with its reason for sending sites away.
    sent_away: AtomicU64,
}

impl Seen {
    fn at(&self) -> Option<usize> {
        Some(self.at.load(Ordering::Relaxed)).filter(|at| *at != NOWHERE)
    }
}

struct Session {
    way: Way,
    connection: Connection,
    stream: SendStream,
    frames: FrameReader,
    _listening: Listening,
}

/// A site: one board that speaks for it and dials the gateways of its list.
struct Site {
    name: &'static str,
    identity: Identity,
    gateways: Vec<SocketAddr>,
    ways: Ways,
    seen: Arc<Seen>,
    /// Whether enough was sent.
    stop: Arc<AtomicBool>,
    next: u64,
    covered: RangeSet,
    /// Blocks without an acknowledgement, by their last sequences.
    waiting: VecDeque<(u64, Bytes)>,
}

impl Site {
    /// Runs until all that was sent is acknowledged after `stop`.
    async fn run(mut self) {
        loop {
            self.ways.begin(clock::now());
            let mut session = self.dial().await;
            self.ways.handle_opened(session.way, clock::now());
            self.seen.at.store(session.way.gateway, Ordering::Relaxed);
            let fall = self.serve(&mut session).await;
            self.seen.at.store(NOWHERE, Ordering::Relaxed);
            let Some(fall) = fall else { return };
            if let Some(ConnectionError::ApplicationClosed(close)) = session.connection.close_reason()
                && close.error_code.into_inner() == 2
            {
                assert!(close.reason.starts_with(b"this gateway has more than its share"));
                self.seen.sent_away.fetch_add(1, Ordering::Relaxed);
            }
            session.connection.close(0_u32.into(), b"the session is over");
            self.ways.handle_fell(fall, clock::now());
        }
    }

    async fn dial(&mut self) -> Session {
        loop {
            let Some(way) = self.ways.due(clock::now()) else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            match tokio::time::timeout(Duration::from_millis(900), self.attempt(way)).await {
                Ok(Some((listening, connection))) => {
                    if let Some(session) = self.introduce(way, listening, connection).await {
                        return session;
                    }
                    self.ways.handle_refused(way, clock::now());
                }
                Ok(None) => self.ways.handle_refused(way, clock::now()),
                Err(_) => {}
            }
        }
    }

    async fn attempt(&self, way: Way) -> Option<(Listening, Connection)> {
        let address = self.gateways[way.gateway];
        let listening = endpoint::uplink(&self.identity, address, endpoint::Binding::default()).unwrap();
        let connecting = listening.endpoint.connect(address, &gateway_name("centre")).unwrap();
        let connection = connecting.await.ok()?;
        Some((listening, connection))
    }

    async fn introduce(&self, way: Way, listening: Listening, connection: Connection) -> Option<Session> {
        let (mut stream, back) = connection.open_bi().await.ok()?;
        let term = Term::new(1, board(1));
        let hello = Hello { site: name(self.name), board: board(1), epoch: Epoch { boot: 1, nonce: 1 }, term };
        let hello = encode(Conversation::ToRegion, &ToRegion::Hello(hello));
        stream.write_all(&hello).await.ok()?;
        let frames = FrameReader::new(back, Conversation::FromRegion);
        Some(Session { way, connection, stream, frames, _listening: listening })
    }

    /// Sends and hears until the session ends, says how; `None` where all is done.
    async fn serve(&mut self, session: &mut Session) -> Option<Fall> {
        let mut again: Vec<Bytes> = self.waiting.iter().map(|(_, said)| said.clone()).collect();
        if write_all_frames(&mut session.stream, &mut again).await.is_err() {
            return Some(Fall::Ended);
        }
        let mut beats = tokio::time::interval(EVERY);
        loop {
            let stops = self.stop.load(Ordering::Relaxed);
            if stops && self.waiting.is_empty() {
                return None;
            }
            tokio::select! {
                said = session.frames.read::<FromRegion>() => match said {
                    Ok(Some(said)) => self.hear(said),
                    Ok(None) | Err(_) => return Some(self.why(&session.connection)),
                },
                _ = beats.tick() => {
                    let mut said = if stops { Vec::new() } else { vec![self.beat()] };
                    if write_all_frames(&mut session.stream, &mut said).await.is_err() {
                        return Some(self.why(&session.connection));
                    }
                    if self.looks().await {
                        return Some(Fall::Left);
                    }
                }
            }
        }
    }

    fn why(&self, connection: &Connection) -> Fall {
        match connection.close_reason() {
            Some(ConnectionError::TimedOut) => Fall::Silent,
            _ => Fall::Ended,
        }
    }

    fn beat(&mut self) -> Bytes {
        let (first, last) = (self.next, self.next + RECORDS - 1);
        let block = encode(Conversation::ToRegion, &ToRegion::Block(block(stream(1, 1), first, first..=last)));
        self.next = last + 1;
        self.waiting.push_back((last, block.clone()));
        self.seen.sent.store(last, Ordering::Relaxed);
        block
    }

    fn hear(&mut self, said: FromRegion) {
        let FromRegion::Coverage(lines) = said else { return };
        for line in lines.iter().filter(|line| line.stream == stream(1, 1)) {
            self.covered.extend(&line.ranges);
        }
        let covered = &self.covered;
        while let Some((last, _)) = self.waiting.pop_front_if(|(last, _)| covered.contains(*last)) {
            self.seen.acknowledged.store(last, Ordering::Relaxed);
        }
    }

    /// A look at a better way where one is due; true where that is to be taken. It is dialled anew then.
    async fn looks(&mut self) -> bool {
        let Some(way) = self.ways.look(clock::now()) else { return false };
        match tokio::time::timeout(Duration::from_millis(900), self.attempt(way)).await {
            Ok(Some((_listening, connection))) => {
                let word = 2 * connection.rtt() + Duration::from_millis(50);
                if tokio::time::timeout(word, connection.closed()).await.is_ok() {
                    self.ways.handle_look_refused(clock::now());
                    return false;
                }
                connection.close(0_u32.into(), b"only to see that somebody answers");
                self.ways.handle_looked(way, true, clock::now())
            }
            Ok(None) => {
                self.ways.handle_look_refused(clock::now());
                false
            }
            Err(_) => self.ways.handle_looked(way, false, clock::now()),
        }
    }
}

/// Waits for `is_so`; says what was waited for, and how it is, where it does not come.
async fn expect(what: &str, crowd: &[Arc<Seen>], mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", here(crowd));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{what}: after {:?}, {:?}", begun.elapsed(), here(crowd));
}

/// How many sites are at each of two gateways.
fn here(crowd: &[Arc<Seen>]) -> [usize; 2] {
    [0, 1].map(|gateway| crowd.iter().filter(|seen| seen.at() == Some(gateway)).count())
}

fn is_even(crowd: &[Arc<Seen>]) -> bool {
    let here = here(crowd);
    here.iter().all(|sites| EVEN.contains(sites)) && here.iter().sum::<usize>() == crowd.len()
}

/// Every sequence once, and nothing that was not sent.
fn expect_once(reader: &PostgresReader, site: &Name, sent: u64) {
    let mut seqs = Vec::new();
    reader.rows(site, &mut |row: Row<'_>| seqs.push(row.seq)).unwrap();
    assert_eq!(seqs, (1..=sent).collect::<Vec<u64>>(), "{site}");
    let counts = reader.counts(site).unwrap();
    assert_eq!((counts.sum(|of| of.rows), counts.sum(|of| of.duplicates)), (sent, 0), "{site}");
}

/// All sites have the same list. Both gateways end with about half of them; one is killed, and all are at the other; it comes back and
/// has its share again. Each record is stored once.
#[test]
fn sites_are_spread_over_two_gateways_also_after_one_was_killed() {
    let Some(server) = Server::alone() else { return };
    let url = server.running().database("region").unwrap();
    let files = Files::of(&SITES);
    let gateways = [1, 2].map(|number| Gateway::new(&files, number, &url));
    let sent = runtime().block_on(spread(&files, gateways));
    let reader = PostgresReader::open(&PostgresPlace::new(&url, None, None).unwrap()).unwrap();
    for (site, sent) in SITES.into_iter().zip(sent) {
        expect_once(&reader, &name(site), sent);
    }
}

fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

/// The story of the gateways; what each site has sent in it.
async fn spread(files: &Files, mut gateways: [Gateway; 2]) -> Vec<u64> {
    expect("both gateways know each other", &[], async || {
        let mut known = 0;
        for gateway in &mut gateways {
            gateway.keep_up();
            known += usize::from(gateway.figure("roadstead_region_gateways").await == Some(2));
        }
        known == 2
    })
    .await;
    let stop = Arc::<AtomicBool>::default();
    let (mut tasks, crowd) = assemble(files, gateways.each_ref().map(|gateway| gateway.quic), &stop);
    expect("the sites are spread", &crowd, async || is_even(&crowd)).await;
    let sent_away: u64 = crowd.iter().map(|seen| seen.sent_away.load(Ordering::Relaxed)).sum();
    assert!(sent_away >= 4, "they moved because they were told to: {sent_away}");
    let looked = "roadstead_region_sites_sent_away_total{stage=\"looked\"}";
    expect("who looks back is told no", &crowd, async || gateways[0].figure(looked).await > Some(0)).await;
    gateways[0].kill();
    expect("all are at the one that lives", &crowd, async || here(&crowd) == [0, SITES.len()]).await;
    gateways[0].start();
    expect("the one that came back has its share", &crowd, async || is_even(&crowd)).await;
    // At least so much more, over the gateways as they are now.
    let goal: Vec<u64> = crowd
        .iter()
        .map(|seen| seen.sent.load(Ordering::Relaxed) + 5 * RECORDS)
        .collect();
    let is_far = |(seen, goal): (&Arc<Seen>, &u64)| seen.acknowledged.load(Ordering::Relaxed) >= *goal;
    expect("records go on", &crowd, async || crowd.iter().zip(&goal).all(is_far)).await;
    stop.store(true, Ordering::Relaxed);
    let done = async {
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, done).await.unwrap();
    crowd.iter().map(|seen| seen.sent.load(Ordering::Relaxed)).collect()
}

/// All sites, on their way to the first of `gateways`; they send until `stop`.
fn assemble(files: &Files, gateways: [SocketAddr; 2], stop: &Arc<AtomicBool>) -> (JoinSet<()>, Vec<Arc<Seen>>) {
    let (mut tasks, mut crowd) = (JoinSet::new(), Vec::new());
    for site in SITES {
        let seen = Arc::new(Seen {
            at: AtomicUsize::new(NOWHERE),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            sent_away: AtomicU64::new(0),
        });
        crowd.push(Arc::clone(&seen));
        let site = Site {
            name: site,
            identity: files.board(site, site, 1),
            gateways: gateways.to_vec(),
            ways: Ways::new(1, &vec![0; gateways.len()], clock::now()),
            seen,
            stop: Arc::clone(stop),
            next: 1,
            covered: RangeSet::EMPTY,
            waiting: VecDeque::new(),
        };
        tasks.spawn(site.run());
    }
    (tasks, crowd)
}

/// Gateways see each other as long as they say something, and not once they have said good-bye.
#[test]
fn gateways_of_one_database_see_each_others_loads() {
    let Some(rig) = Postgres::new() else { return };
    drop(rig.open());
    let [mut first, mut second] = [1, u64::MAX].map(|incarnation| PostgresLoads::new(rig.place(), incarnation));
    let load = |gateway, sites, has_spoken| [Load { gateway, sites, has_spoken }];
    assert_eq!(first.tell(7).unwrap(), []);
    assert_eq!(second.tell(0).unwrap(), load(1, 7, true));
    assert_eq!(first.tell(8).unwrap(), load(u64::MAX, 0, true));
    assert_eq!(second.tell(4096).unwrap(), load(1, 8, true));
    rig.execute("UPDATE roadstead.gateway SET at_ms = at_ms - 5000 WHERE incarnation = 1");
    assert_eq!(second.tell(4096).unwrap(), load(1, 8, false), "as of one that was killed");
    // Ten seconds of silence, by the server's clock; then a clock that was put back.
    for millis in ["- 5000", "+ 25000"] {
        rig.execute(&format!("UPDATE roadstead.gateway SET at_ms = at_ms {millis} WHERE incarnation = 1"));
        assert_eq!(second.tell(1).unwrap(), [], "{millis}");
    }
    assert_eq!(first.tell(9).unwrap(), load(u64::MAX, 1, true), "it is heard again");
    second.leave().unwrap();
    assert_eq!(first.tell(9).unwrap(), []);
}

#[test]
fn a_database_from_before_the_spreading_is_brought_up() {
    let Some(rig) = Postgres::new() else { return };
    drop(rig.open());
    rig.execute(BEFORE_LOTS);
    rig.execute("DROP TABLE roadstead.gateway; UPDATE roadstead.meta SET layout = 2");
    assert!(PostgresReader::open(&rig.place()).is_err());
    drop(rig.open());
    assert_eq!(PostgresLoads::new(rig.place(), 1).tell(1).unwrap(), []);
}

//! The session with a region that this test plays: real sockets and certificates, over loopback.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use link::doorman::Doorman;
use link::endpoint::{self, Listening};
use link::frames::encode;
use link::sites::{Sites, board_name, gateway_name};
use link::stop::signal;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use shared::frame::Conversation;
use shared::ids::{BoardId, Epoch, Name, Term};

use super::*;
use crate::config::{GatewayAddress, GatewayPlace, UplinkPath};

const PATIENCE: Duration = Duration::from_secs(30);

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Identities of board 1 of site north and of the gateway, under one authority.
fn identities() -> (Identity, Identity, Scratch) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let scratch = Scratch(std::env::temp_dir().join(format!("roadstead-uplink-{}-{number}", std::process::id())));
    fs::create_dir_all(&scratch.0).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(scratch.0.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let make = |name: String| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.clone()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let path = |ending| scratch.0.join(format!("{name}.{ending}"));
        fs::write(path("pem"), certificate.pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        Identity::load(&path("pem"), &path("key"), &scratch.0.join("ca.pem")).unwrap()
    };
    let board = make(board_name("north", BoardId::new(1).unwrap()));
    let gateway = make(gateway_name("central"));
    (board, gateway, scratch)
}

fn hello(counter: u64) -> Hello {
    let board = BoardId::new(1).unwrap();
    let site = Name::try_from("north").unwrap();
    Hello { site, board, epoch: Epoch { boot: 1, nonce: 1 }, term: Term::new(counter, board) }
}

fn open(gateway: &Identity) -> (Listening, SocketAddr) {
    let sites = Arc::new(Sites::one(Name::try_from("north").unwrap(), gateway.roots()).unwrap());
    let listening = endpoint::gateway(gateway, &sites, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listening.endpoint.local_addr().unwrap();
    (listening, address)
}

/// A region at `addresses`, over one path.
fn at(addresses: &[SocketAddr]) -> Region {
    let name = Name::try_from("central").unwrap();
    let gateway = |address: &SocketAddr| GatewayAddress {
        name: name.clone(),
        address: GatewayPlace::Address(*address),
        region: None,
    };
    let paths = vec![UplinkPath { name: "any".to_owned(), ..UplinkPath::default() }];
    Region { ca: PathBuf::new(), gateways: addresses.iter().map(gateway).collect(), paths }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

/// The region's end of the next session, and the hello on it. A board that was not answered at once has dialled more than
/// once, and goes on with one of these connections alone.
async fn next_session(door: &mut Doorman) -> (Connection, SendStream, FrameReader, Hello) {
    loop {
        let connection = within(door.accept()).await.unwrap();
        let Ok((back, stream)) = within(connection.accept_bi()).await else { continue };
        let mut frames = FrameReader::new(stream, Conversation::ToRegion);
        match within(frames.read()).await.unwrap() {
            Some(ToRegion::Hello(hello)) => return (connection, back, frames, hello),
            other => panic!("not a hello: {other:?}"),
        }
    }
}

async fn up(brought: &mut mpsc::Receiver<RegionInput>) -> Session {
    match within(brought.recv()).await.unwrap() {
        RegionInput::Up(session) => session,
        other => panic!("not up: {other:?}"),
    }
}

#[tokio::test]
async fn a_session_is_kept_while_it_is_wanted_and_begun_anew_for_another_term() {
    let (board, gateway, _scratch) = identities();
    let (listening, address) = open(&gateway);
    let mut door = Doorman::new(listening.endpoint.clone());
    let (stopper, stop) = signal();
    let (uplink, mut brought) = Uplink::start(board, &at(&[address]), stop);
    uplink.dial(hello(1));
    let (_connection, mut back, mut frames, heard) = next_session(&mut door).await;
    assert_eq!(heard, hello(1));
    let session = up(&mut brought).await;

    session.send(ToRegion::Ask(Vec::new()), false);
    assert_eq!(within(frames.read()).await.unwrap(), Some(ToRegion::Ask(Vec::new())));
    let welcome = FromRegion::Welcome { incarnation: 9 };
    back.write_all(&encode(Conversation::FromRegion, &welcome)).await.unwrap();
    let said = within(brought.recv()).await.unwrap();
    assert!(matches!(&said, RegionInput::Said(said) if *said == [welcome]), "{said:?}");

    uplink.dial(hello(2));
    assert!(matches!(within(brought.recv()).await.unwrap(), RegionInput::Down));
    let (connection, _back, _frames, heard) = next_session(&mut door).await;
    assert_eq!(heard, hello(2));
    up(&mut brought).await;

    uplink.hang_up();
    assert!(matches!(within(brought.recv()).await.unwrap(), RegionInput::Down));
    within(connection.closed()).await;
    stopper.stop();
    within(uplink.finish()).await;
}

#[tokio::test]
async fn garbage_from_the_region_ends_the_session_and_the_next_is_dialled() {
    let (board, gateway, _scratch) = identities();
    let (listening, address) = open(&gateway);
    let mut door = Doorman::new(listening.endpoint.clone());
    let (_stopper, stop) = signal();
    let (uplink, mut brought) = Uplink::start(board, &at(&[address]), stop);
    uplink.dial(hello(1));
    let (_connection, mut back, _frames, _) = next_session(&mut door).await;
    up(&mut brought).await;
    back.write_all(b"HTTP/1.1 200 OK").await.unwrap();
    assert!(matches!(within(brought.recv()).await.unwrap(), RegionInput::Down));
    assert_eq!(uplink.counts.bad_frames.load(Ordering::Relaxed), 1);
    let _again = next_session(&mut door).await;
    up(&mut brought).await;
}

#[tokio::test]
async fn a_gateway_that_swallows_everything_is_passed_over() {
    let (board, gateway, _scratch) = identities();
    let swallows = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (listening, address) = open(&gateway);
    let mut door = Doorman::new(listening.endpoint.clone());
    let (_stopper, stop) = signal();
    let region = at(&[swallows.local_addr().unwrap(), address]);
    let (uplink, mut brought) = Uplink::start(board, &region, stop);
    uplink.dial(hello(1));
    let _session = next_session(&mut door).await;
    up(&mut brought).await;
    let standing = uplink.standing.status(clock::now());
    assert_eq!(standing.address, Some(address.to_string()));
}

#[tokio::test]
async fn a_path_that_falls_silent_counts_as_down() {
    let (board, gateway, _scratch) = identities();
    let (tell, told) = std::sync::mpsc::channel();
    let (thaw, frozen) = std::sync::mpsc::channel::<()>();
    // The region's process stands still once the session stands: its socket is open and nothing answers.
    let region = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (listening, address) = open(&gateway);
            tell.send(address).unwrap();
            let mut door = Doorman::new(listening.endpoint.clone());
            let _session = next_session(&mut door).await;
            let _ = frozen.recv_timeout(PATIENCE);
        });
    });
    let (_stopper, stop) = signal();
    let (uplink, mut brought) = Uplink::start(board, &at(&[told.recv().unwrap()]), stop);
    uplink.dial(hello(1));
    let _session = up(&mut brought).await;
    let began = Instant::now();
    assert!(matches!(within(brought.recv()).await.unwrap(), RegionInput::Down));
    println!("silence was noticed after {} ms", began.elapsed().as_millis());
    assert!(began.elapsed() < PATIENCE / 2, "silence was not noticed by itself");
    assert_eq!(uplink.counts.silent.load(Ordering::Relaxed), 1, "by nothing else");
    let _ = thaw.send(());
    tokio::task::spawn_blocking(|| region.join().unwrap()).await.unwrap();
}

/// A link of 4 Mbit/s between a board and its region, which holds what it cannot carry yet. Where it goes is told by the board.
fn slow_link(region: SocketAddr) -> SocketAddr {
    let near = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let far = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = near.local_addr().unwrap();
    let (near_back, far_back) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let (board, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((length, from)) = near.recv_from(&mut bytes) {
            let _ = board.try_send(from);
            let _ = far.send_to(&bytes[..length], region);
            std::thread::sleep(Duration::from_micros(2 * length as u64));
        }
    });
    std::thread::spawn(move || {
        let board = told.recv().unwrap();
        let mut bytes = [0; 2048];
        while let Ok((length, _)) = far_back.recv_from(&mut bytes) {
            let _ = near_back.send_to(&bytes[..length], board);
        }
    });
    address
}

fn block(first: u64, bytes: usize) -> ToRegion {
    let stream = shared::ids::Stream {
        origin: shared::ids::Origin { board: BoardId::new(1).unwrap(), epoch: Epoch { boot: 1, nonce: 1 } },
        class: shared::ids::Class::Event,
    };
    let codec = shared::wire::uplink::Codec::Plain;
    ToRegion::Block(shared::wire::uplink::Block::new(stream, first, 1, codec, 1, vec![first as u8; bytes].into()))
}

/// Seen to fail with one stream for both.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_fresh_overtakes_a_backlog_that_is_on_its_way() {
    const BACKLOG: u64 = 16;
    let (board, gateway, _scratch) = identities();
    let (listening, address) = open(&gateway);
    let mut door = Doorman::new(listening.endpoint.clone());
    let (_stopper, stop) = signal();
    let (uplink, mut brought) = Uplink::start(board, &at(&[slow_link(address)]), stop);
    uplink.dial(hello(1));
    let (connection, _back, mut frames, _) = next_session(&mut door).await;
    let session = up(&mut brought).await;
    for first in 1..=BACKLOG {
        session.send(block(first, 60_000), true);
    }
    let mut backlog = FrameReader::new(within(connection.accept_uni()).await.unwrap(), Conversation::ToRegion);
    assert_eq!(within(backlog.read()).await.unwrap(), Some(block(1, 60_000)), "in order");
    session.send(block(BACKLOG + 1, 1000), false);
    let arrived = Arc::new(AtomicU64::new(1));
    let count = |mut backlog: FrameReader| {
        let counted = Arc::clone(&arrived);
        tokio::spawn(async move {
            while let Ok(Some(ToRegion::Block(_))) = backlog.read().await {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
    };
    count(backlog);
    for _ in 1..endpoint::BACKLOG_STREAMS {
        let stream = within(connection.accept_uni()).await.unwrap();
        count(FrameReader::new(stream, Conversation::ToRegion));
    }
    assert_eq!(within(frames.read()).await.unwrap(), Some(block(BACKLOG + 1, 1000)));
    let before = arrived.load(Ordering::Relaxed);
    assert!(before < BACKLOG / 2, "{before} of {BACKLOG} blocks that wait came first");
    within(async {
        while arrived.load(Ordering::Relaxed) < BACKLOG {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_silent_gateway_is_knocked_at_often_so_that_its_return_is_noticed() {
    let (board, gateway, _scratch) = identities();
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (_stopper, stop) = signal();
    let (uplink, _brought) = Uplink::start(board, &at(&[silent.local_addr().unwrap()]), stop);
    uplink.dial(hello(1));
    let mut attempts = std::collections::BTreeSet::new();
    while attempts.len() < 8 {
        let (_, from) = within(silent.recv_from(&mut [0; 2048])).await.unwrap();
        attempts.insert(from);
    }
    assert!(uplink.counts.failed.load(Ordering::Relaxed) < 4, "several attempts belong to one turn");
    drop(gateway);
}

/// A road between boards and a region that swallows what comes from, and goes to, one address at a time.
struct Road {
    address: SocketAddr,
    cut: Cut,
    /// What goes out alone is swallowed.
    outwards: Arc<std::sync::atomic::AtomicBool>,
}

type Cut = Arc<std::sync::Mutex<Option<std::net::IpAddr>>>;

/// What the region says to `board` on this one's own socket.
async fn bring_back(
    far: Arc<tokio::net::UdpSocket>,
    near: Arc<tokio::net::UdpSocket>,
    board: SocketAddr,
    (cut, outwards): (Cut, Arc<std::sync::atomic::AtomicBool>),
) {
    let mut bytes = [0; 2048];
    while let Ok((length, _)) = far.recv_from(&mut bytes).await {
        if *cut.lock().unwrap() != Some(board.ip()) || outwards.load(Ordering::Relaxed) {
            let _ = near.send_to(&bytes[..length], board).await;
        }
    }
}

impl Road {
    async fn to(region: SocketAddr) -> Self {
        let near = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = near.local_addr().unwrap();
        let (cut, outwards) = (Cut::default(), Arc::default());
        let (is_cut, is_outwards) = (Arc::clone(&cut), Arc::clone(&outwards));
        tokio::spawn(async move {
            let mut ways = std::collections::BTreeMap::<SocketAddr, Arc<tokio::net::UdpSocket>>::new();
            let mut bytes = [0; 2048];
            while let Ok((length, from)) = near.recv_from(&mut bytes).await {
                let far = match ways.get(&from) {
                    Some(far) => Arc::clone(far),
                    None => {
                        let far = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
                        let rules = (Arc::clone(&is_cut), Arc::clone(&is_outwards));
                        tokio::spawn(bring_back(Arc::clone(&far), Arc::clone(&near), from, rules));
                        ways.insert(from, Arc::clone(&far));
                        far
                    }
                };
                if *is_cut.lock().unwrap() != Some(from.ip()) {
                    let _ = far.send_to(&bytes[..length], region).await;
                }
            }
        });
        Self { address, cut, outwards }
    }

    fn cut(&self, from: &str) {
        *self.cut.lock().unwrap() = Some(from.parse().unwrap());
    }
}

/// Two paths by two addresses of this machine; the one in use falls silent, again and again. Seen to fail where the only patience is
/// the transport's.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_paths_the_silent_one_is_left_for_the_other() {
    const PATHS: [&str; 2] = ["127.0.0.2", "127.0.0.3"];
    let (board, gateway, _scratch) = identities();
    let (listening, address) = open(&gateway);
    let mut door = Doorman::new(listening.endpoint.clone());
    let road = Road::to(address).await;
    let mut region = at(&[road.address]);
    let path = |address: &str| UplinkPath {
        name: address.to_owned(),
        address: Some(address.parse().unwrap()),
        ..UplinkPath::default()
    };
    region.paths = PATHS.map(path).into();
    let (_stopper, stop) = signal();
    let (uplink, mut brought) = Uplink::start(board, &region, stop);
    uplink.dial(hello(1));
    // Kept, so that the region does not close what the board has not left.
    let mut sessions = vec![next_session(&mut door).await];
    up(&mut brought).await;
    let mut took = Vec::new();
    for round in 0..10 {
        // One that comes back at once after it was taken for dead would be given more time.
        let stands = async {
            while uplink.standing.status(clock::now()).for_ms < 600 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within(stands).await;
        let standing = uplink.standing.status(clock::now());
        assert_eq!(standing.path.as_deref(), Some(PATHS[round % 2]), "{}", standing.why);
        let cut = Instant::now();
        road.cut(PATHS[round % 2]);
        assert!(matches!(within(brought.recv()).await.unwrap(), RegionInput::Down));
        sessions.push(next_session(&mut door).await);
        up(&mut brought).await;
        took.push(cut.elapsed());
    }
    took.sort();
    println!(
        "on the other path after {:?}, {:?} at most, of {}",
        took[took.len() / 2],
        took[took.len() - 1],
        took.len()
    );
    assert_eq!(uplink.counts.silent.load(Ordering::Relaxed), 10);
    assert!(took[took.len() / 2] < Duration::from_millis(2_500), "{took:?}");
}

fn alarm(first: u64) -> ToRegion {
    match block(first, 100) {
        ToRegion::Block(block) => {
            let stream = shared::ids::Stream { class: shared::ids::Class::Alarm, ..block.stream };
            let (codec, raw) = (block.codec, block.raw_len);
            ToRegion::Block(shared::wire::uplink::Block::new(stream, first, 1, codec, raw, block.body))
        }
        other => other,
    }
}

/// The first path dies without a word: an alarm of that moment is in the region by the second one before anybody has noticed.
#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_goes_by_both_paths_and_what_is_no_alarm_by_one() {
    let (board, gateway, _scratch) = identities();
    let (listening, address) = open(&gateway);
    let mut door = Doorman::new(listening.endpoint.clone());
    let road = Road::to(address).await;
    let mut region = at(&[road.address]);
    let path = |address: &str| UplinkPath {
        name: address.to_owned(),
        address: Some(address.parse().unwrap()),
        takes_alarms: true,
        ..UplinkPath::default()
    };
    region.paths = ["127.0.0.2", "127.0.0.3"].map(path).into();
    let (_stopper, stop) = signal();
    let (uplink, mut brought) = Uplink::start(board, &region, stop);
    uplink.dial(hello(1));
    let (_first, _back, mut frames, _) = next_session(&mut door).await;
    let session = up(&mut brought).await;
    let (_second, mut back, mut beside, said) = next_session(&mut door).await;
    assert_eq!(said, hello(1), "the second session speaks for the same board under the same term");
    let welcome = FromRegion::Welcome { incarnation: 9 };
    back.write_all(&encode(Conversation::FromRegion, &welcome)).await.unwrap();
    let stands = async {
        while session.beside.borrow().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(stands).await;

    session.send(alarm(1), false);
    session.send(block(2, 100), false);
    session.send(alarm(3), true);
    assert_eq!(within(frames.read()).await.unwrap(), Some(alarm(1)), "the first session has it, too");
    assert_eq!(within(frames.read()).await.unwrap(), Some(block(2, 100)));
    assert_eq!(within(beside.read()).await.unwrap(), Some(alarm(1)));
    road.cut("127.0.0.2");
    let cut = Instant::now();
    session.send(alarm(4), false);
    assert_eq!(within(beside.read()).await.unwrap(), Some(alarm(4)), "alarms that are fresh, and nothing else");
    println!("by the second path after {} us", cut.elapsed().as_micros());
    assert_eq!(uplink.counts.silent.load(Ordering::Relaxed), 0, "nobody has noticed the first path's death yet");
    // The first session falls to the second path, which is then no second one any more.
    assert!(matches!(within(brought.recv()).await.unwrap(), RegionInput::Down));
    let _third = next_session(&mut door).await;
    up(&mut brought).await;
    assert_eq!(uplink.standing.status(clock::now()).path.as_deref(), Some("127.0.0.3"));
    assert!(matches!(within(beside.read::<ToRegion>()).await, Ok(None) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_to_take_no_alarms_is_left_alone() {
    let (board, gateway, _scratch) = identities();
    let (listening, address) = open(&gateway);
    let mut door = Doorman::new(listening.endpoint.clone());
    let mut region = at(&[address]);
    let path = |takes_alarms: bool| UplinkPath {
        name: format!("takes alarms: {takes_alarms}"),
        address: Some("127.0.0.2".parse().unwrap()),
        takes_alarms,
        ..UplinkPath::default()
    };
    region.paths = vec![path(true), path(false)];
    let (_stopper, stop) = signal();
    let (uplink, mut brought) = Uplink::start(board, &region, stop);
    uplink.dial(hello(1));
    let _first = next_session(&mut door).await;
    let session = up(&mut brought).await;
    let other = tokio::time::timeout(Duration::from_millis(500), door.accept()).await;
    assert!(other.is_err(), "a second session was dialled");
    assert!(session.beside.borrow().is_none());
}

/// What the region says of itself still comes, and is no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_dead_outwards_alone_is_left_too() {
    let (board, gateway, _scratch) = identities();
    let (listening, address) = open(&gateway);
    let mut door = Doorman::new(listening.endpoint.clone());
    let road = Road::to(address).await;
    road.outwards.store(true, Ordering::Relaxed);
    let (_stopper, stop) = signal();
    let (uplink, mut brought) = Uplink::start(board, &at(&[road.address]), stop);
    uplink.dial(hello(1));
    let (_connection, mut back, _frames, _) = next_session(&mut door).await;
    let session = up(&mut brought).await;
    tokio::spawn(async move {
        let welcome = encode(Conversation::FromRegion, &FromRegion::Welcome { incarnation: 9 });
        while back.write_all(&welcome).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let cut = Instant::now();
    road.cut("127.0.0.1");
    session.send(ToRegion::Ask(Vec::new()), false);
    while !matches!(within(brought.recv()).await.unwrap(), RegionInput::Down) {}
    let left = cut.elapsed();
    println!("a path that is dead outwards was left after {} ms", left.as_millis());
    assert!(left < Duration::from_millis(2_500), "{left:?}");
    let counted = async {
        while uplink.counts.silent.load(Ordering::Relaxed) != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(counted).await;
}

/// Both sides of a budget: the backlog takes as long as it must, and what is fresh does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_keeps_to_the_budget_of_its_path() {
    const BLOCKS: u64 = 5;
    let (board, gateway, _scratch) = identities();
    let (listening, address) = open(&gateway);
    let mut door = Doorman::new(listening.endpoint.clone());
    let mut region = at(&[address]);
    region.paths[0].bandwidth_mbit = Some(1);
    let (_stopper, stop) = signal();
    let (uplink, mut brought) = Uplink::start(board, &region, stop);
    uplink.dial(hello(1));
    let (connection, _back, mut frames, _) = next_session(&mut door).await;
    let session = up(&mut brought).await;
    let began = Instant::now();
    for first in 1..=BLOCKS {
        session.send(block(first, 25_000), true);
    }
    let mut backlog = FrameReader::new(within(connection.accept_uni()).await.unwrap(), Conversation::ToRegion);
    assert_eq!(within(backlog.read()).await.unwrap(), Some(block(1, 25_000)));
    // Now that something waits it counts.
    let (sent, half_way) = (Instant::now(), began.elapsed());
    session.send(block(BLOCKS + 1, 25_000), false);
    assert_eq!(within(frames.read()).await.unwrap(), Some(block(BLOCKS + 1, 25_000)));
    let fresh = sent.elapsed();
    for first in 2..=BLOCKS {
        assert_eq!(within(backlog.read()).await.unwrap(), Some(block(first, 25_000)));
    }
    // 150,000 bytes in all, but for 50 ms of them and the last piece, which nothing waits for.
    let least = Duration::from_millis(1_200 - 50 - 100);
    assert!(began.elapsed() >= least, "after {:?}", began.elapsed());
    assert!(fresh < (began.elapsed() - half_way) / 2, "what is fresh came after {fresh:?}");
}

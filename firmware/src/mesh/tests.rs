//! Boards over loopback: who is heard, who is refused, what a fall and a return look like.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use bytes::Bytes;
use link::sites::board_name;
use link::stop::{Stopper, signal};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use shared::ids::{Epoch, Name, Term};
use shared::wire::control::ControlMessage;
use shared::wire::election::ElectionMessage;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Authority {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("roadstead-mesh-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(directory.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), directory }
    }

    fn board(&self, number: u8) -> Identity {
        let path = |ending: &str| self.directory.join(format!("{number}.{ending}"));
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([board_name("north", board(number))]).unwrap();
        fs::write(path("pem"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        Identity::load(&path("pem"), &path("key"), &self.directory.join("ca.pem")).unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

fn hello(number: u8) -> Hello {
    let epoch = Epoch { boot: 1, nonce: number.into() };
    Hello { site: Name::try_from("north").unwrap(), board: board(number), epoch, fingerprint: 5 }
}

/// A free UDP port: given back at once, so that a board may listen on it.
fn free() -> SocketAddr {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

struct Running {
    mesh: Mesh,
    telling: Telling,
    inputs: MeshInputs,
    stopper: Stopper,
}

impl Running {
    async fn start(identity: &Identity, hello: Hello, listen: SocketAddr, peer: (u8, SocketAddr)) -> Self {
        let (stopper, stop) = signal();
        let peers = BTreeMap::from([(board(peer.0), peer.1)]);
        let begun = std::time::Instant::now();
        let (mut mesh, inputs) = loop {
            match Mesh::start(identity, hello.clone(), listen, &peers, &stop) {
                Ok(started) => break started,
                // An endpoint's last task gives its port back a moment after it was closed.
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let telling = mesh.telling.take().unwrap();
        Self { mesh, telling, inputs, stopper }
    }

    async fn change(&mut self) -> LinkChange {
        within(self.inputs.changes.recv()).await.unwrap()
    }

    /// Tells `peer` until a connection stands, as heartbeats do.
    async fn tell(&mut self, peer: u8, message: &ControlMessage) {
        let sent = || self.mesh.counts.control_sent.load(Ordering::Relaxed);
        let before = sent();
        within(async {
            loop {
                self.telling.tell(board(peer), message);
                self.telling.flush();
                if sent() > before {
                    return;
                }
                if let Ok(Some(change)) =
                    tokio::time::timeout(Duration::from_millis(20), self.inputs.control_changes.recv()).await
                {
                    self.telling.change(change);
                }
            }
        })
        .await;
    }

    async fn link(&mut self) -> Link {
        self.change().await.link.expect("the link came to stand")
    }

    async fn stop(self) {
        self.stopper.stop();
        within(self.mesh.finish()).await;
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

fn open(counter: u64) -> PeerMessage {
    PeerMessage::UplinkOpen { term: Term::new(counter, board(1)) }
}

/// Two boards that know each other, and their links.
async fn pair(authority: &Authority) -> ((Running, Link), (Running, Link)) {
    let (at_one, at_two) = (free(), free());
    let mut one = Running::start(&authority.board(1), hello(1), at_one, (2, at_two)).await;
    let mut two = Running::start(&authority.board(2), hello(2), at_two, (1, at_one)).await;
    let (to_two, to_one) = (one.link().await, two.link().await);
    ((one, to_two), (two, to_one))
}

#[tokio::test]
async fn messages_come_in_order() {
    let authority = Authority::new();
    let ((one, to_two), (mut two, _to_one)) = pair(&authority).await;
    for counter in 0..1000 {
        to_two.send(open(counter));
    }
    let mut heard = Vec::new();
    while heard.len() < 1000 {
        let (from, batch) = within(two.inputs.messages.recv()).await.unwrap();
        assert_eq!(from, board(1));
        heard.extend(batch);
    }
    assert_eq!(heard, (0..1000).map(open).collect::<Vec<_>>());
    assert_eq!(to_two.waiting_bytes.load(Ordering::Relaxed), 0);

    one.stop().await;
    // The good-bye is heard at once, and told.
    assert!(two.change().await.link.is_none());
    two.stop().await;
}

/// The idle timeout of the data connections, and half of it again.
const QUIET: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_connection_that_has_nothing_to_carry_stays() {
    let authority = Authority::new();
    let ((mut low, to_high), (mut high, _)) = pair(&authority).await;
    let fell = tokio::time::timeout(QUIET, async {
        tokio::select! {
            change = low.inputs.changes.recv() => change,
            change = high.inputs.changes.recv() => change,
        }
    });
    assert!(fell.await.is_err(), "it fell, or another came");
    to_high.send(open(1));
    assert_eq!(within(high.inputs.messages.recv()).await, Some((board(1), vec![open(1)])));
    low.stop().await;
    high.stop().await;
}

fn vote(counter: u64) -> ControlMessage {
    ControlMessage::Election(ElectionMessage::Release { term: Term::new(counter, board(1)) })
}

#[tokio::test]
async fn what_is_told_in_one_go_shares_a_datagram_and_both_tell_on_one_connection() {
    let authority = Authority::new();
    let ((mut one, _to_two), (mut two, _to_one)) = pair(&authority).await;
    one.tell(2, &vote(1)).await;
    assert_eq!(within(two.inputs.control.recv()).await.unwrap(), (board(1), vote(1)));
    let before = one.mesh.counts.control_sent.load(Ordering::Relaxed);
    for counter in 2..12 {
        one.telling.tell(board(2), &vote(counter));
    }
    one.telling.flush();
    assert_eq!(one.mesh.counts.control_sent.load(Ordering::Relaxed), before + 1);
    for counter in 2..12 {
        assert_eq!(within(two.inputs.control.recv()).await.unwrap(), (board(1), vote(counter)));
    }
    // The other direction takes the connection that was accepted.
    two.tell(1, &vote(20)).await;
    assert_eq!(within(one.inputs.control.recv()).await.unwrap(), (board(2), vote(20)));
    assert_eq!(two.mesh.counts.control_dialled.load(Ordering::Relaxed), 0);
    one.stop().await;
    let evidence = within(two.inputs.evidence.recv()).await.unwrap();
    assert_eq!(evidence, (board(1), Evidence::Leaves));
    two.stop().await;
}

#[tokio::test]
async fn an_obituary_of_a_known_life_reaches_the_node_once() {
    let authority = Authority::new();
    let (at_one, at_two) = (free(), free());
    let identity = authority.board(1);
    let mut one = Running::start(&identity, hello(1), at_one, (2, at_two)).await;
    let mut two = Running::start(&authority.board(2), hello(2), at_two, (1, at_one)).await;
    one.tell(2, &vote(1)).await;
    assert_eq!(within(two.inputs.control.recv()).await.unwrap(), (board(1), vote(1)));
    let announcer =
        |identity: &Identity| link::obituary::Announcer::new(identity, hello(1).site, board(1), vec![at_two]).unwrap();
    announcer(&authority.board(2)).announce(1);
    announcer(&identity).announce(8);
    announcer(&identity).announce(1);
    announcer(&identity).announce(1);
    assert_eq!(within(two.inputs.obituaries.recv()).await.unwrap(), (board(1), 1));
    assert!(two.inputs.obituaries.try_recv().is_err());
    assert!(two.mesh.counts.obituaries_bad.load(Ordering::Relaxed) >= 1);
    assert_eq!(two.mesh.counts.obituaries.load(Ordering::Relaxed), 1);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn the_higher_board_dials_where_it_is_not_called() {
    let authority = Authority::new();
    let ((mut one, _to_two), (mut two, _to_one)) = pair(&authority).await;
    two.tell(1, &vote(3)).await;
    assert_eq!(within(one.inputs.control.recv()).await.unwrap(), (board(2), vote(3)));
    assert_eq!(two.mesh.counts.control_dialled.load(Ordering::Relaxed), 1);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_control_connection_that_falls_leaves_the_data_connections_alone() {
    let authority = Authority::new();
    let ((mut one, to_two), (mut two, _to_one)) = pair(&authority).await;
    one.tell(2, &vote(1)).await;
    let change = within(two.inputs.control_changes.recv()).await.unwrap();
    Close::BadFrame.connection(&change.connection, "for this test");
    assert!(!within(two.inputs.control_changes.recv()).await.unwrap().stands);
    // What is told before the fall is known is lost with it.
    loop {
        let change = within(one.inputs.control_changes.recv()).await.unwrap();
        let fell = !change.stands;
        one.telling.change(change);
        if fell {
            break;
        }
    }
    one.tell(2, &vote(2)).await;
    while within(two.inputs.control.recv()).await.unwrap() != (board(1), vote(2)) {}
    to_two.send(open(1));
    assert!(within(two.inputs.messages.recv()).await.is_some());
    assert!(one.inputs.changes.try_recv().is_err());
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_board_that_comes_back_is_dialled_again() {
    let authority = Authority::new();
    let (at_one, at_two) = (free(), free());
    let mut one = Running::start(&authority.board(1), hello(1), at_one, (2, at_two)).await;
    let mut two = Running::start(&authority.board(2), hello(2), at_two, (1, at_one)).await;
    let _first = one.link().await;
    two.link().await;
    two.stop().await;
    assert!(one.change().await.link.is_none());
    let mut two = Running::start(&authority.board(2), hello(2), at_two, (1, at_one)).await;
    let again = one.link().await;
    again.send(open(7));
    assert_eq!(within(two.inputs.messages.recv()).await.unwrap(), (board(1), vec![open(7)]));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_peer_with_another_configuration_or_name_is_refused() {
    let authority = Authority::new();
    let other_fingerprint = Hello { fingerprint: 6, ..hello(1) };
    let other_board = hello(3);
    let other_site = Hello { site: Name::try_from("south").unwrap(), ..hello(1) };
    for (case, claim) in [other_fingerprint, other_board, other_site].into_iter().enumerate() {
        let at_two = free();
        let identity = authority.board(1);
        let two = Running::start(&authority.board(2), hello(2), at_two, (1, free())).await;
        // It dials as board 1, whatever it says; where it says another site it must at least be let dial.
        let mut one =
            Running::start(&identity, Hello { site: hello(1).site, ..claim.clone() }, free(), (2, at_two)).await;
        if case == 2 {
            one.stop().await;
            assert!(difference_is_said(&claim));
        } else {
            let link = one.link().await;
            within(link.connection.closed()).await;
            within(async {
                while two.mesh.counts.refused.load(Ordering::Relaxed) == 0 {
                    tokio::task::yield_now().await
                }
            })
            .await;
            one.stop().await;
        }
        two.stop().await;
    }
}

fn difference_is_said(theirs: &Hello) -> bool {
    super::incoming::difference(&hello(2), theirs, board(1)).is_some_and(|why| why.contains("south"))
}

#[tokio::test]
async fn a_board_that_the_site_does_not_have_is_refused() {
    let authority = Authority::new();
    let at_two = free();
    let mut two = Running::start(&authority.board(2), hello(2), at_two, (1, free())).await;
    let mut stranger = Running::start(&authority.board(4), hello(4), free(), (2, at_two)).await;
    let link = stranger.link().await;
    link.send(open(1));
    let why = within(link.connection.closed()).await.to_string();
    assert!(why.contains("no such board"), "{why}");
    assert!(two.inputs.messages.try_recv().is_err());
    assert!(two.mesh.counts.refused.load(Ordering::Relaxed) >= 1);
    stranger.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn garbage_on_a_good_connection_is_counted_and_told() {
    let authority = Authority::new();
    let ((mut one, to_two), (mut two, _to_one)) = pair(&authority).await;
    one.tell(2, &vote(1)).await;
    let line = within(two.inputs.control_changes.recv()).await.unwrap().connection;
    assert_eq!(within(two.inputs.control.recv()).await.unwrap(), (board(1), vote(1)));
    line.send_datagram(Bytes::from_static(b"not a heartbeat")).unwrap();
    let event = within(one.inputs.events.recv()).await.unwrap();
    assert!(matches!(event, Event::BadFrame { from, .. } if from == board(2)), "{event:?}");
    assert_eq!(one.mesh.counts.bad_frames.load(Ordering::Relaxed), 1);
    // The connection stands: a datagram may be damaged on its way to being one.
    to_two.send(open(1));
    assert!(within(two.inputs.messages.recv()).await.is_some());
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_dropped_and_memory_stays_bounded() {
    let authority = Authority::new();
    let ((mut one, to_two), (two, _to_one)) = pair(&authority).await;
    // Nobody takes what `two` receives, so its queue fills, its stream's window closes, and ours fills.
    let message = PeerMessage::Ask(vec![stream(); 2000]);
    let mut sent_bytes = 0;
    while to_two.connection.close_reason().is_none() {
        to_two.send(message.clone());
        sent_bytes += weight(&message);
        tokio::task::yield_now().await;
        assert!(sent_bytes < 8 * LINK_BYTES_MAX, "it takes for ever more");
    }
    assert_eq!(one.mesh.counts.queue_full.load(Ordering::Relaxed), 1);
    assert!(one.change().await.link.is_none());
    one.stop().await;
    two.stop().await;
}

fn stream() -> shared::ids::Stream {
    let origin = shared::ids::Origin { board: board(1), epoch: Epoch { boot: 1, nonce: 1 } };
    shared::ids::Stream { origin, class: shared::ids::Class::Event }
}

#[tokio::test]
async fn boards_come_and_go_while_the_mesh_runs() {
    let authority = Authority::new();
    let (at_one, at_two, at_three) = (free(), free(), free());
    let mut one = Running::start(&authority.board(1), hello(1), at_one, (2, at_two)).await;
    let mut two = Running::start(&authority.board(2), hello(2), at_two, (1, at_one)).await;
    let mut three = Running::start(&authority.board(3), hello(3), at_three, (1, at_one)).await;
    let _to_two = one.link().await;
    let _to_one = two.link().await;
    one.tell(2, &vote(1)).await;
    assert_eq!(within(two.inputs.control.recv()).await.unwrap(), (board(1), vote(1)));

    // The third comes: from now on it is dialled and let in.
    let both = Addresses::from([(board(2), at_two), (board(3), at_three)]);
    one.mesh.members.send_replace(both.clone());
    let change = one.change().await;
    assert_eq!((change.peer, change.link.is_some()), (board(3), true));
    within(async { while three.change().await.link.is_none() {} }).await;
    one.tell(3, &vote(2)).await;
    assert_eq!(within(three.inputs.control.recv()).await.unwrap(), (board(1), vote(2)));

    // The second goes: its connections fall on both sides, and it is not let in again.
    let third = Addresses::from([(board(3), at_three)]);
    for peer in gone(&both, &third) {
        one.telling.part(peer);
    }
    one.mesh.members.send_replace(third);
    let change = one.change().await;
    assert_eq!((change.peer, change.link.is_some()), (board(2), false));
    within(async { while two.change().await.link.is_some() {} }).await;
    let refused = one.mesh.counts.refused.load(Ordering::Relaxed);
    within(async {
        while one.mesh.counts.refused.load(Ordering::Relaxed) < refused + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    one.tell(3, &vote(3)).await;
    assert_eq!(within(three.inputs.control.recv()).await.unwrap(), (board(1), vote(3)));
    for running in [one, two, three] {
        running.stop().await;
    }
}

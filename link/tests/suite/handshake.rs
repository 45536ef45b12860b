//! Who gets in and who does not, and that nobody gets in by an earlier handshake.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use link::doorman::Doorman;
use link::endpoint::{self, Listening};
use link::identity::{Identity, IdentityError};
use link::sites::{Sites, board_name, gateway_name};
use quinn::Connection;

use crate::certificates::{Authority, Scratch, board, site};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(20);

fn address(listening: &Listening) -> SocketAddr {
    listening.endpoint.local_addr().unwrap()
}

/// Dials and says something; what the acceptor saw, if it let the dialler in.
async fn meet(
    dialler: &Identity,
    acceptor: &Listening,
    name: &str,
) -> (Result<Connection, String>, Option<Connection>) {
    let dialling = endpoint::uplink(dialler, address(acceptor), endpoint::Binding::default()).unwrap();
    let mut door = Doorman::new(acceptor.endpoint.clone());
    let counts = door.admissions();
    let accepting = async {
        tokio::select! {
            accepted = door.accept() => accepted,
            () = async { while counts.failed() == 0 { tokio::time::sleep(Duration::from_millis(5)).await } } => None,
        }
    };
    let dial = dialling.endpoint.connect(address(acceptor), name).unwrap();
    let both = async {
        let (dialled, accepted) = tokio::join!(dial, accepting);
        (dialled.map_err(|error| error.to_string()), accepted)
    };
    tokio::time::timeout(PATIENCE, both).await.unwrap()
}

#[tokio::test]
async fn a_board_of_the_site_is_known_by_its_certificate() {
    let authority = Authority::new();
    let sites = authority.as_site("north");
    let acceptor = endpoint::mesh(&authority.board("north", 2), &sites, LOOPBACK).unwrap();
    let (dialled, accepted) = meet(&authority.board("north", 1), &acceptor, &board_name("north", board(2))).await;
    assert!(dialled.is_ok());
    assert_eq!(sites.identify(&accepted.unwrap()), Some((site("north"), board(1))));
}

#[tokio::test]
async fn a_server_of_another_name_is_not_believed() {
    let authority = Authority::new();
    let acceptor = endpoint::mesh(&authority.board("north", 2), &authority.as_site("north"), LOOPBACK).unwrap();
    let (dialled, accepted) = meet(&authority.board("north", 1), &acceptor, &board_name("north", board(3))).await;
    let error = dialled.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    assert!(accepted.is_none());
}

#[tokio::test]
async fn strangers_are_refused() {
    let (north, south) = (Authority::new(), Authority::new());
    let gateway = gateway_name("central");
    let mut sites = Sites::default();
    sites.load(site("north"), &north.roots()).unwrap();
    sites.load(site("south"), &south.roots()).unwrap();
    let sites = Arc::new(sites);
    let server = north.identity(&[&gateway], &north);
    let unknown = Authority::new();
    let both = [board_name("north", board(1)), board_name("south", board(1))];
    let strangers = [
        ("another authority", unknown.identity(&[&board_name("north", board(1))], &north)),
        ("south's authority speaks for north", south.identity(&[&board_name("north", board(1))], &north)),
        ("two sites at once", south.identity(&[&both[0], &both[1]], &north)),
        ("a site that nobody serves", north.identity(&[&board_name("west", board(1))], &north)),
        ("a pattern", north.identity(&["*.north.roadstead"], &north)),
        ("no board", north.identity(&[&gateway], &north)),
        ("no such board", north.identity(&["board-65.north.roadstead"], &north)),
    ];
    for (who, stranger) in strangers {
        let acceptor = endpoint::gateway(&server, &sites, LOOPBACK).unwrap();
        let (_, accepted) = meet(&stranger, &acceptor, &gateway).await;
        assert!(accepted.is_none(), "{who} was let in");
    }
    for (name, authority) in [("north", &north), ("south", &south)] {
        let acceptor = endpoint::gateway(&server, &sites, LOOPBACK).unwrap();
        let friend = authority.identity(&[&board_name(name, board(4))], &north);
        let (_, accepted) = meet(&friend, &acceptor, &gateway).await;
        assert_eq!(sites.identify(&accepted.unwrap()), Some((site(name), board(4))));
    }
}

#[tokio::test]
async fn a_site_taken_out_is_unknown_on_a_living_connection() {
    let authority = Authority::new();
    let sites = authority.as_site("north");
    let acceptor = endpoint::mesh(&authority.board("north", 2), &sites, LOOPBACK).unwrap();
    let (_dialled, accepted) = meet(&authority.board("north", 1), &acceptor, &board_name("north", board(2))).await;
    let accepted = accepted.unwrap();
    assert!(sites.identify(&accepted).is_some());
    let other = Authority::new();
    assert_eq!(other.as_site("north").identify(&accepted), None);
    assert_eq!(authority.as_site("south").identify(&accepted), None);
}

#[tokio::test]
async fn nothing_is_resumed() {
    let authority = Authority::new();
    let sites = authority.as_site("north");
    let identity = authority.board("north", 2);
    let server = identity.server_tls(&sites, &[link::identity::ALPN]).unwrap();
    assert!(!server.session_storage.can_cache());
    assert!(!server.ticketer.enabled());
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
    assert!(!identity.client_tls(link::identity::ALPN).unwrap().enable_early_data);

    let acceptor = endpoint::mesh(&identity, &sites, LOOPBACK).unwrap();
    let dialling = endpoint::mesh(&authority.board("north", 1), &sites, LOOPBACK).unwrap();
    let name = board_name("north", board(2));
    let mut door = Doorman::new(acceptor.endpoint.clone());
    for _ in 0..3 {
        let dial = dialling.endpoint.connect(address(&acceptor), &name).unwrap();
        // Without a ticket from an earlier handshake there is no early data to offer.
        let Err(dial) = dial.into_0rtt() else { panic!("a session was resumed") };
        let (dialled, accepted) = tokio::join!(dial, door.accept());
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        let mut stream = accepted.open_uni().await.unwrap();
        stream.write_all(b"tickets would come with this").await.unwrap();
        let mut heard = dialled.accept_uni().await.unwrap();
        assert!(heard.read_chunk(64, true).await.unwrap().is_some());
        dialled.close(0_u32.into(), b"");
    }
}

/// A board that answers one dial and then dies without a word, its tasks and socket gone from one moment to the next.
fn short_life(identity: Identity, sites: Arc<Sites>, tell: std::sync::mpsc::Sender<SocketAddr>) {
    let life = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kept = life.block_on(async {
        let acceptor = endpoint::mesh(&identity, &sites, LOOPBACK).unwrap();
        tell.send(address(&acceptor)).unwrap();
        let mut door = Doorman::new(acceptor.endpoint.clone());
        let accepted = door.accept().await.unwrap();
        tokio::time::timeout(PATIENCE, accepted.read_datagram()).await.unwrap().unwrap();
        (acceptor, accepted)
    });
    drop(life);
    drop(kept);
}

#[tokio::test]
async fn a_restarted_peer_is_noticed_at_once() {
    let authority = Authority::new();
    let sites = authority.as_site("north");
    let (tell, told) = std::sync::mpsc::channel();
    let first = {
        let (identity, sites) = (authority.board("north", 2), Arc::clone(&sites));
        std::thread::spawn(move || short_life(identity, sites, tell))
    };
    let at = told.recv().unwrap();
    let dialling = endpoint::mesh(&authority.board("north", 1), &sites, LOOPBACK).unwrap();
    let control = dialling.control.clone().unwrap();
    let dialled = dialling
        .endpoint
        .connect_with(control, at, &board_name("north", board(2)))
        .unwrap()
        .await
        .unwrap();
    dialled.send_datagram(bytes::Bytes::from_static(&[7; 64])).unwrap();
    tokio::task::spawn_blocking(|| first.join().unwrap()).await.unwrap();
    assert_eq!(dialled.close_reason(), None, "it died without a word");

    // The same device again, with its key: it was restarted.
    let certificate = authority.roots().with_file_name("board-2.north.roadstead.pem");
    let identity = Identity::load(&certificate, &certificate.with_extension("key"), &authority.roots()).unwrap();
    let _reborn = endpoint::mesh(&identity, &sites, at).unwrap();
    let ended = async {
        loop {
            let _ = dialled.send_datagram(bytes::Bytes::from_static(&[7; 64]));
            tokio::select! {
                error = dialled.closed() => break error,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(error, quinn::ConnectionError::Reset, "an idle timeout would be too late");
}

#[tokio::test]
async fn garbage_is_counted_and_harms_nobody() {
    let authority = Authority::new();
    let sites = authority.as_site("north");
    let acceptor = endpoint::mesh(&authority.board("north", 2), &sites, LOOPBACK).unwrap();
    let stranger = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
    let mut state = 7_u64;
    for length in (0..1200).step_by(4) {
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        stranger.send_to(&noise, address(&acceptor)).await.unwrap();
    }
    stranger
        .send_to(b"GET / HTTP/1.1\r\nHost: board\r\n\r\n", address(&acceptor))
        .await
        .unwrap();
    let (dialled, accepted) = meet(&authority.board("north", 1), &acceptor, &board_name("north", board(2))).await;
    assert!(dialled.is_ok() && accepted.is_some());
    assert!(acceptor.strays.count() >= 200, "counted {}", acceptor.strays.count());
}

#[test]
fn errors_name_the_file() {
    let (one, two) = (Authority::new(), Authority::new());
    let scratch = Scratch::new();
    let missing = scratch.0.join("missing.pem");
    let error = Identity::load(&missing, &missing, &one.roots()).unwrap_err();
    assert!(matches!(&error, IdentityError::Read { .. }) && error.to_string().contains("missing.pem"), "{error}");
    let empty = scratch.0.join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let error = Identity::load(&empty, &missing, &one.roots()).unwrap_err();
    assert!(matches!(error, IdentityError::NoCertificate { .. }), "{error}");
    let directory = |authority: &Authority| authority.roots().parent().unwrap().to_owned();
    one.board("a", 1);
    two.board("a", 1);
    let certificate = directory(&one).join("board-1.a.roadstead.pem");
    let key = directory(&two).join("board-1.a.roadstead.key");
    let error = Identity::load(&certificate, &key, &one.roots()).unwrap_err();
    assert!(matches!(error, IdentityError::Pair { .. }), "{error}");
}

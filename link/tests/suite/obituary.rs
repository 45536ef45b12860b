//! Obituaries: a good one is heard, and whatever anybody else could make of it is not.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use link::endpoint;
use link::obituary::{Announcer, Verifier};

use crate::certificates::{Authority, board, site};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_good_one_is_heard_and_a_spoilt_or_strange_one_is_not() {
    let (north, stranger) = (Authority::new(), Authority::new());
    let sites = north.as_site("north");
    let listening = endpoint::mesh(&north.board("north", 2), &sites, LOOPBACK).unwrap();
    let target = listening.endpoint.local_addr().unwrap();
    let heard = Arc::clone(&listening.obituaries);
    let mut verifier = Verifier::new(Arc::clone(&heard), sites);

    let announcer = Announcer::new(&north.board("north", 1), vec![target]).unwrap();
    let good = announcer.sign(7).unwrap();
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    let mut spoilt = 0;
    // A bit of every byte behind the magic: life, certificate, signature.
    for at in 5..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        // Fewer than are checked in a second, and no more at once than may wait.
        if at % 16 == 0 {
            socket.send_to(&bad, target).unwrap();
            spoilt += 1;
        }
    }
    let strange = Announcer::new(&stranger.board("north", 1), vec![target]).unwrap();
    socket.send_to(&strange.sign(7).unwrap(), target).unwrap();
    let all_seen = async {
        tokio::select! {
            good = verifier.next() => unreachable!("{good:?} was believed"),
            () = async {
                while heard.refused() + heard.dropped() < spoilt + 1 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            } => {}
        }
    };
    tokio::time::timeout(PATIENCE, all_seen).await.unwrap();
    assert_eq!(heard.heard(), 0);

    tokio::task::spawn_blocking(move || announcer.announce(u64::MAX)).await.unwrap();
    for _ in 0..3 {
        let said = tokio::time::timeout(PATIENCE, verifier.next()).await.unwrap();
        assert_eq!(said, (site("north"), board(1), u64::MAX));
    }
    assert_eq!((heard.heard(), listening.strays.count()), (3, 0));
}

//! A witness over loopback: it grants to one board at a time, an obituary frees its grant, and a restart forgets nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use link::endpoint;
use link::obituary::Announcer;
use link::sites::gateway_name;
use link::stop::signal;
use link::witness::WitnessHost;
use quinn::Connection;
use shared::ids::{BoardId, Term, VoterSet, Voters};
use shared::wire::control::{ControlMessage, Packer, unpack};
use shared::wire::election::{Acquire, ElectionMessage, Standing};

use crate::certificates::{Authority, Scratch, board, site};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Boards 1 and 2, and witness 1.
const VOTERS: u128 = 1 << 1 | 1 << 2 | 1 << 65;
const PATIENCE: Duration = Duration::from_secs(20);

fn acquire(from: BoardId, counter: u64, attempt: u64) -> ElectionMessage {
    ElectionMessage::Acquire(Acquire {
        term: Term::new(counter, from),
        attempt,
        lease_micros: 4_000_000,
        trial: false,
        life: u64::from(from.get()),
        voters: Voters { version: 1, set: VoterSet::from_bits(VOTERS).unwrap() },
        released: None,
        standing: Standing::Stranger,
        vouch: None,
    })
}

/// Asks until the witness answers so that it counts: its first answer waits for its disk.
async fn ask(connection: &Connection, from: BoardId, counter: u64, wants_grant: bool) {
    let asking = async {
        for attempt in 1.. {
            let mut packer = Packer::default();
            packer.push(&ControlMessage::Election(acquire(from, counter, attempt)));
            connection.send_datagram(Bytes::from(packer.take().unwrap())).unwrap();
            let Ok(answer) = tokio::time::timeout(Duration::from_millis(50), connection.read_datagram()).await else {
                continue;
            };
            for message in unpack(&answer.unwrap()).unwrap() {
                let granted = matches!(message, ControlMessage::Election(ElectionMessage::Granted { .. }));
                if granted == wants_grant {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("the witness answers otherwise");
}

#[tokio::test]
async fn one_grant_at_a_time_until_an_obituary() {
    let (authority, scratch) = (Authority::new(), Scratch::new());
    let directory = scratch.0.join("witness");
    let gateway = gateway_name("central");
    let sites = authority.as_site("north");
    let listening = endpoint::witness(&authority.identity(&[&gateway], &authority), &sites, LOOPBACK).unwrap();
    let at = listening.endpoint.local_addr().unwrap();
    let host = WitnessHost::open(listening, sites, &directory).unwrap();
    let (stopper, stop) = signal();
    let serving = tokio::spawn(host.serve(stop));
    let identities = [authority.board("north", 1), authority.board("north", 2)];
    let mut connections = Vec::new();
    for identity in &identities {
        let dialling = endpoint::towards_witness(identity, at).unwrap();
        connections.push(dialling.endpoint.connect(at, &gateway).unwrap().await.unwrap());
    }
    ask(&connections[0], board(1), 1, true).await;
    ask(&connections[1], board(2), 2, false).await;
    let announcer = Announcer::new(&identities[0], site("north"), board(1), vec![at]).unwrap();
    announcer.announce(1);
    ask(&connections[1], board(2), 2, true).await;
    assert!(directory.join("north.votes").exists());
    stopper.stop();
    serving.await.unwrap().unwrap();
}

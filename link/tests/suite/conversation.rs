//! Frames over a real stream: batches come whole and in order, garbage ends the stream.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use link::doorman::Doorman;
use link::endpoint;
use link::frames::{FrameReader, ReadError, encode, write_all_frames};
use link::sites::board_name;
use quinn::{Connection, SendStream};
use shared::frame::{Conversation, FrameRefusal};
use shared::ids::Term;
use shared::wire::peer::PeerMessage;

use crate::certificates::{Authority, board};

struct Pair {
    stream: SendStream,
    reader: FrameReader,
    _alive: (Connection, Connection, endpoint::Listening),
}

async fn pair() -> Pair {
    let authority = Authority::new();
    let sites = authority.as_site("north");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let acceptor = endpoint::mesh(&authority.board("north", 2), &sites, loopback).unwrap();
    let dialling = endpoint::mesh(&authority.board("north", 1), &sites, loopback).unwrap();
    let mut door = Doorman::new(acceptor.endpoint.clone());
    let address = acceptor.endpoint.local_addr().unwrap();
    let dial = dialling.endpoint.connect(address, &board_name("north", board(2))).unwrap();
    let (dialled, accepted) = tokio::join!(dial, door.accept());
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    let mut stream = dialled.open_uni().await.unwrap();
    // The peer hears of a stream with its first byte.
    stream.write_all(&encode(Conversation::Peer, &message(0))).await.unwrap();
    let reader = FrameReader::new(accepted.accept_uni().await.unwrap(), Conversation::Peer);
    Pair { stream, reader, _alive: (dialled, accepted, acceptor) }
}

fn message(counter: u64) -> PeerMessage {
    PeerMessage::UplinkOpen { term: Term::new(counter, board(1)) }
}

#[tokio::test]
async fn batches_come_whole_and_in_order() {
    let Pair { mut stream, mut reader, _alive } = pair().await;
    let writing = async {
        let mut frames: Vec<Bytes> = (1..10_000).map(|n| encode(Conversation::Peer, &message(n))).collect();
        write_all_frames(&mut stream, &mut frames).await.unwrap();
        assert!(frames.is_empty());
        stream.finish().unwrap();
    };
    let reading = async {
        let (mut read, mut batches) = (Vec::new(), 0);
        while let Some(batch) = reader.read_batch::<PeerMessage>(512).await.unwrap() {
            assert!((1..=512).contains(&batch.len()));
            read.extend(batch);
            batches += 1;
        }
        (read, batches)
    };
    let both = async { tokio::join!(writing, reading) };
    let ((), (read, batches)) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert!(read.iter().eq((0..10_000).map(message).collect::<Vec<_>>().iter()));
    assert!(batches < 5_000, "one hand-off a message is too many: {batches}");
}

#[tokio::test]
async fn garbage_ends_the_stream_after_what_was_good() {
    let Pair { mut stream, mut reader, _alive } = pair().await;
    stream.write_all(b"this is no frame").await.unwrap();
    assert_eq!(reader.read_batch(8).await.unwrap(), Some(vec![message(0)]));
    let error = reader.read_batch::<PeerMessage>(8).await.unwrap_err();
    assert!(matches!(error, ReadError::Refused(FrameRefusal::NotAFrame)), "{error}");
}

#[tokio::test]
async fn half_a_frame_is_no_message() {
    let Pair { mut stream, mut reader, _alive } = pair().await;
    stream.write_all(&encode(Conversation::Peer, &message(1))[..13]).await.unwrap();
    stream.finish().unwrap();
    assert_eq!(reader.read().await.unwrap(), Some(message(0)));
    let error = reader.read::<PeerMessage>().await.unwrap_err();
    assert!(matches!(error, ReadError::Refused(FrameRefusal::Short)), "{error}");
}

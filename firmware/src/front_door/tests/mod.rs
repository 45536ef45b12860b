//! The front door against raw sockets and clients written by others, with a node that answers when the test says.

mod clients;
mod hostile;
mod publishing;
mod sessions;

use std::time::Duration;

use shared::action::{Answer, Offer};
use shared::ids::Ticket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::{DoorAnswers, DoorConfig, FrontDoor};

/// Longer than anything here takes on a busy machine; only a failure waits for it.
const LONG: Duration = Duration::from_secs(20);

/// A front door and the place where its node would be.
struct House {
    answers: DoorAnswers,
    offers: mpsc::Receiver<Vec<Offer>>,
    stop: watch::Sender<bool>,
}

fn config() -> DoorConfig {
    DoorConfig::new(([127, 0, 0, 1], 0).into())
}

impl House {
    fn open(config: DoorConfig) -> Self {
        Self::with_batches(config, shared::limits::OFFER_BATCHES_MAX)
    }

    fn with_batches(config: DoorConfig, batches_max: usize) -> Self {
        let (sender, offers) = mpsc::channel(batches_max);
        let (stop, stopped) = watch::channel(false);
        let answers = FrontDoor::start(config, sender, stopped).unwrap();
        Self { answers, offers, stop }
    }

    async fn dial(&self) -> Client {
        Client { stream: TcpStream::connect(self.answers.address()).await.unwrap() }
    }

    /// A connected client, its CONNACK read.
    async fn client(&self, connect: &[u8]) -> Client {
        let mut client = self.dial().await;
        client.send(connect).await;
        let connack = client.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "accepted: {connack:x?}");
        client
    }

    async fn batch(&mut self) -> Vec<Offer> {
        timeout(LONG, self.offers.recv())
            .await
            .expect("publishes in time")
            .expect("the door is open")
    }

    async fn offer(&mut self) -> Offer {
        let mut batch = self.batch().await;
        assert_eq!(batch.len(), 1);
        batch.pop().unwrap()
    }

    async fn offers(&mut self, count: usize) -> Vec<Offer> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.batch().await);
        }
        all
    }

    fn commit(&self, offers: &[Offer]) {
        let answers: Vec<(Ticket, Answer)> = offers
            .iter()
            .filter_map(|offer| Some((offer.ticket?, Answer::Committed)))
            .collect();
        self.answers.deliver(&answers);
    }

    fn count(&self, name: &str) -> u64 {
        self.answers.counters().sum(name)
    }

    /// Waits until a counter has a value: the door's tasks run beside the test.
    async fn until(&self, name: &str, value: u64) {
        let reached = async {
            while self.count(name) != value {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(timeout(LONG, reached).await.is_ok(), "{name} is {}, not {value}", self.count(name));
    }
}

/// A client made of bytes.
struct Client {
    stream: TcpStream,
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet.
    async fn packet(&mut self) -> Vec<u8> {
        self.try_packet().await.expect("a packet before the end")
    }

    /// The next packet, or `None` where the connection ended.
    async fn try_packet(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 2];
        timeout(LONG, self.stream.read_exact(&mut packet))
            .await
            .expect("an answer in time")
            .ok()?;
        assert!(packet[1] < 0x80, "test packets are short");
        let mut body = vec![0; usize::from(packet[1])];
        timeout(LONG, self.stream.read_exact(&mut body))
            .await
            .expect("an answer in time")
            .ok()?;
        packet.extend(body);
        Some(packet)
    }

    async fn expect(&mut self, wanted: &[u8]) {
        assert_eq!(self.packet().await, wanted);
    }

    async fn expect_end(&mut self) {
        let packet = self.try_packet().await;
        assert_eq!(packet, None, "the connection ends");
    }

    /// Nothing arrives for a moment. Can only miss a fault, never invent one.
    async fn expect_silence(&mut self) {
        let mut byte = [0];
        let heard = timeout(Duration::from_millis(60), self.stream.read(&mut byte)).await;
        assert!(heard.is_err(), "silence, not {heard:?} {byte:x?}");
    }
}

fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut packet = vec![first];
    let mut left = body.len();
    loop {
        let byte = (left % 128) as u8;
        left /= 128;
        packet.push(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn connect3(client: &[u8], clean: bool, keep_alive_s: u16) -> Vec<u8> {
    let flags = [4, u8::from(clean) << 1];
    packet(0x10, &[b"\0\x04MQTT", &flags, &keep_alive_s.to_be_bytes(), &text(client)])
}

fn connect5(client: &[u8], clean: bool, keep_alive_s: u16, properties: &[u8]) -> Vec<u8> {
    let flags = [5, u8::from(clean) << 1];
    let length = [properties.len() as u8];
    packet(0x10, &[b"\0\x04MQTT", &flags, &keep_alive_s.to_be_bytes(), &length, properties, &text(client)])
}

/// Session Expiry Interval.
fn expiry(seconds: u32) -> Vec<u8> {
    [&[0x11][..], &seconds.to_be_bytes()].concat()
}

fn publish3(qos: u8, dup: bool, id: u16, topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let id: &[u8] = if qos > 0 { &id } else { &[] };
    packet(0x30 | qos << 1 | u8::from(dup) << 3, &[&text(topic), id, payload])
}

fn publish5(qos: u8, dup: bool, id: u16, topic: &[u8], properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let id: &[u8] = if qos > 0 { &id } else { &[] };
    let length = [properties.len() as u8];
    packet(0x30 | qos << 1 | u8::from(dup) << 3, &[&text(topic), id, &length, properties, payload])
}

fn user(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0x26][..], &text(name), &text(value)].concat()
}

//! MQTT 3.1.1, QoS 1: what boards and mosquitto are published to with.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::ingest::client::{Dialect, broken};

/// CONNACK, session not present, accepted (MQTT 3.1.1, section 3.2).
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
/// PUBACK and its length (section 3.4); the packet identifier follows.
const PUBACK: [u8; 2] = [0x40, 2];
/// DISCONNECT (section 3.14).
const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A publisher.
#[derive(Debug)]
pub(in crate::bench) struct Mqtt {
    client: String,
    /// A PUBLISH packet up to its packet identifier.
    head: Vec<u8>,
}

impl Mqtt {
    /// Connection `number`, with payloads of `payload` bytes.
    pub(in crate::bench) fn new(number: usize, payload: usize) -> Self {
        Self::on(format!("bench-{number}"), &format!("bench/{number}"), payload)
    }

    /// The client `client`, which publishes payloads of `payload` bytes on `topic`.
    pub(in crate::bench) fn on(client: String, topic: &str, payload: usize) -> Self {
        let mut head = vec![0x32];
        let mut length = 2 + topic.len() + 2 + payload;
        loop {
            let more = length > 127;
            head.push((length % 128) as u8 | if more { 0x80 } else { 0 });
            length /= 128;
            if !more {
                break;
            }
        }
        head.extend((topic.len() as u16).to_be_bytes());
        head.extend(topic.as_bytes());
        Self { client, head }
    }
}

impl Dialect for Mqtt {
    async fn greet(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        connect(stream, &self.client, true).await
    }

    fn publish(&mut self, slot: u16, payload: &[u8], to: &mut Vec<u8>) {
        to.extend_from_slice(&self.head);
        // No packet identifier is 0.
        to.extend_from_slice(&(slot + 1).to_be_bytes());
        to.extend_from_slice(payload);
    }

    fn read(&mut self, bytes: &[u8], done: &mut Vec<u16>, _answer: &mut Vec<u8>) -> io::Result<usize> {
        let (packets, _) = bytes.as_chunks::<4>();
        for [kind, length, high, low] in packets {
            if [*kind, *length] != PUBACK {
                return Err(broken("the server says something else than PUBACK"));
            }
            done.push(u16::from_be_bytes([*high, *low]).wrapping_sub(1));
        }
        Ok(packets.len() * 4)
    }

    fn farewell(&self) -> &'static [u8] {
        &DISCONNECT
    }
}

/// Publishes one reading on a connection of its own and waits for its acknowledgement.
pub(in crate::bench) async fn publish_one(server: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let payload = [b'0'; 16];
    let mut mqtt = Mqtt::new(0, payload.len());
    mqtt.greet(&mut stream).await?;
    let mut packet = Vec::new();
    mqtt.publish(0, &payload, &mut packet);
    stream.write_all(&packet).await?;
    let (mut answer, mut done) = ([0; 4], Vec::new());
    stream.read_exact(&mut answer).await?;
    mqtt.read(&answer, &mut done, &mut packet)?;
    if done == [0] {
        Ok(())
    } else {
        Err(broken("another publish was acknowledged"))
    }
}

async fn connect(stream: &mut TcpStream, client: &str, is_clean: bool) -> io::Result<()> {
    // CONNECT (section 3.1): protocol MQTT, level 4, no keep-alive.
    let mut packet = vec![0x10, (12 + client.len()) as u8, 0, 4, b'M', b'Q', b'T', b'T', 4];
    packet.extend([if is_clean { 2 } else { 0 }, 0, 0]);
    packet.extend((client.len() as u16).to_be_bytes());
    packet.extend(client.as_bytes());
    stream.write_all(&packet).await?;
    let mut answer = [0; CONNACK.len()];
    stream.read_exact(&mut answer).await?;
    if answer == CONNACK {
        Ok(())
    } else {
        Err(broken("the server does not accept the connection"))
    }
}

/// Subscribes to everything published here and goes away, so that a broker has somebody to keep it for.
pub(in crate::bench::ingest) async fn leave_subscription(stream: &mut TcpStream) -> io::Result<()> {
    subscribe(stream, "keeper", false).await?;
    stream.write_all(&DISCONNECT).await
}

/// Subscribes to everything published here as `client`, whose session is kept unless it is to be clean.
pub(in crate::bench) async fn subscribe(stream: &mut TcpStream, client: &str, is_clean: bool) -> io::Result<()> {
    connect(stream, client, is_clean).await?;
    // SUBSCRIBE (section 3.8) to `bench/#` with QoS 1, answered by SUBACK (3.9).
    let mut packet = vec![0x82, 12, 0, 1, 0, 7];
    packet.extend(b"bench/#");
    packet.push(1);
    stream.write_all(&packet).await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    if answer == [0x90, 3, 0, 1, 1] {
        Ok(())
    } else {
        Err(broken("the server does not take the subscription"))
    }
}

/// Takes what a subscription brings, each payload acknowledged, until the server closes the connection.
pub(in crate::bench) async fn receive(stream: &mut TcpStream, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let (mut bytes, mut answer) = (Vec::new(), Vec::new());
    while stream.read_buf(&mut bytes).await? > 0 {
        let mut at = 0;
        while let Some((kind, body)) = packet(&bytes[at..])? {
            let (begins, ends) = (at + body.start, at + body.end);
            let body = &bytes[begins..ends];
            at = ends;
            // PUBLISH (section 3.3) with QoS 1, perhaps sent again.
            if kind & 0xf6 != 0x32 {
                return Err(broken("the server says something else than PUBLISH"));
            }
            let (topic, rest) = body.split_at_checked(2).ok_or_else(|| broken("half a PUBLISH"))?;
            let topic = usize::from(u16::from_be_bytes([topic[0], topic[1]]));
            let rest = rest.get(topic..).filter(|rest| rest.len() >= 2);
            let (identifier, payload) = rest.ok_or_else(|| broken("half a PUBLISH"))?.split_at(2);
            answer.extend(PUBACK);
            answer.extend(identifier);
            each(payload);
        }
        bytes.drain(..at);
        stream.write_all(&answer).await?;
        answer.clear();
    }
    Ok(())
}

/// The first byte of the whole packet at the front of `bytes`, and where its body is (section 2.2).
fn packet(bytes: &[u8]) -> io::Result<Option<(u8, std::ops::Range<usize>)>> {
    let mut length = 0;
    for (place, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let body = place + 2..place + 2 + length;
            return Ok((bytes.len() >= body.end).then_some((bytes[0], body)));
        }
    }
    if bytes.len() > 4 {
        return Err(broken("a length of more than four bytes"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_as_the_standard_says() {
        let mut packet = Vec::new();
        Mqtt::new(7, 200).publish(0x0101, &[b'x'; 200], &mut packet);
        // 2 + 7 ("bench/7") + 2 + 200 = 211 = 0xd3, in two bytes.
        assert_eq!(&packet[..3], [0x32, 0xd3, 0x01]);
        assert_eq!(&packet[3..12], b"\x00\x07bench/7");
        assert_eq!(&packet[12..14], [1, 2]);
        assert_eq!(packet.len(), 3 + 211);
        let mut smallest = Vec::new();
        Mqtt::new(0, 16).publish(0, &[b'x'; 16], &mut smallest);
        assert_eq!((smallest[1] as usize, smallest.len()), (2 + 7 + 2 + 16, 2 + 27));
    }

    #[test]
    fn acknowledgements_are_read_as_far_as_they_are_whole() {
        let (mut done, mut answer) = (Vec::new(), Vec::new());
        let mut mqtt = Mqtt::new(0, 16);
        let used = mqtt.read(&[0x40, 2, 0, 1, 0x40, 2, 1, 0, 0x40], &mut done, &mut answer);
        assert_eq!((used.unwrap(), done.clone()), (8, vec![0, 255]));
        assert!(mqtt.read(&[0x40, 3, 0, 0], &mut done, &mut answer).is_err());
        assert!(answer.is_empty());
    }
    #[test]
    fn a_packet_is_whole_or_not_there_yet() {
        assert_eq!(packet(&[0x32, 2, 7, 8, 9]).unwrap(), Some((0x32, 2..4)));
        assert_eq!(packet(&[0x32, 2, 7]).unwrap(), None);
        assert_eq!(packet(&[0x32, 0x80]).unwrap(), None);
        let long = [&[0x32, 0x80, 1][..], &[0; 128]].concat();
        assert_eq!(packet(&long).unwrap(), Some((0x32, 3..131)));
        assert!(packet(&[0x32, 0x80, 0x80, 0x80, 0x80]).is_err());
    }
}

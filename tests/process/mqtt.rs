//! A publisher that is nothing but bytes on a socket: it can be stopped between any two of them, mark a packet as sent
//! again when it likes, and know to the microsecond when an acknowledgement came.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A board that says nothing for so long has failed the test.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Which standard is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// A publish of QoS 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    /// Packet identifier, not 0.
    pub(crate) packet: u16,
    /// Marked as sent again.
    pub(crate) dup: bool,
    /// The publisher's own number, as the user property `seq`: MQTT 5 only.
    pub(crate) seq: Option<u64>,
}

/// A connection that a board has accepted.
#[derive(Debug)]
pub(crate) struct Publisher {
    stream: TcpStream,
    version: Version,
    /// Bytes that came and were not looked at yet.
    ahead: Vec<u8>,
}

impl Publisher {
    /// Connects as `client` with a fresh session and waits for the board's yes.
    pub(crate) fn connect(mqtt: SocketAddr, client: &str, version: Version) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&mqtt, SILENCE_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let mut publisher = Self { stream, version, ahead: Vec::new() };
        publisher.stream.write_all(&connect(client, version))?;
        let (kind, body, _) = publisher.packet()?;
        if kind != 0x20 || body.get(1) != Some(&0) {
            return Err(io::Error::other(format!("no CONNACK: {kind:#x} {body:?}")));
        }
        Ok(publisher)
    }

    /// Sends; does not wait.
    pub(crate) fn send(&mut self, publish: &Publish<'_>) -> io::Result<()> {
        self.stream.write_all(&encode(publish, self.version))
    }

    /// Sends all of `publishes` with one write; does not wait.
    pub(crate) fn send_all<'a>(&mut self, publishes: impl Iterator<Item = Publish<'a>>) -> io::Result<()> {
        let bytes: Vec<u8> = publishes.flat_map(|publish| encode(&publish, self.version)).collect();
        self.stream.write_all(&bytes)
    }

    /// The packet that was acknowledged next, and when its bytes were here.
    pub(crate) fn acknowledged(&mut self) -> io::Result<(u16, Instant)> {
        let (kind, body, at) = self.packet()?;
        let refused = body.get(2).is_some_and(|reason| *reason >= 0x80);
        match *body {
            [high, low, ..] if kind == 0x40 && !refused => Ok((u16::from_be_bytes([high, low]), at)),
            _ => Err(io::Error::other(format!("no PUBACK: {kind:#x} {body:?}"))),
        }
    }

    /// Sends and waits for the acknowledgement; returns when it came.
    pub(crate) fn publish(&mut self, publish: &Publish<'_>) -> io::Result<Instant> {
        self.send(publish)?;
        let (packet, at) = self.acknowledged()?;
        if packet == publish.packet {
            Ok(at)
        } else {
            Err(io::Error::other(format!("packet {packet} was acknowledged, not {}", publish.packet)))
        }
    }

    /// The next packet: first byte, body, and when its last byte was here.
    fn packet(&mut self) -> io::Result<(u8, Vec<u8>, Instant)> {
        loop {
            if let Some((head, length)) = measured(&self.ahead)
                && self.ahead.len() >= head + length
            {
                let rest = self.ahead.split_off(head + length);
                let whole = std::mem::replace(&mut self.ahead, rest);
                return Ok((whole[0], whole[head..].to_vec(), Instant::now()));
            }
            let mut bytes = [0; 16 * 1024];
            let count = self.stream.read(&mut bytes)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.ahead.extend_from_slice(&bytes[..count]);
        }
    }
}

/// Bytes of the packet's fixed header and of its body, once the header is complete (MQTT 5, section 2.1.4).
fn measured(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (nth, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * nth);
        if byte & 0x80 == 0 {
            return Some((nth + 2, length));
        }
    }
    None
}

/// A CONNECT with a fresh session, keep-alive 60 s, no will and no password.
pub(crate) fn connect(client: &str, version: Version) -> Vec<u8> {
    let (level, properties): (u8, &[u8]) = match version {
        Version::V3 => (4, &[]),
        Version::V5 => (5, &[0]),
    };
    let mut body = b"\0\x04MQTT".to_vec();
    body.extend_from_slice(&[level, 0b10, 0, 60]);
    body.extend_from_slice(properties);
    text(&mut body, client);
    framed(0x10, &body)
}

/// `publish` as bytes.
pub(crate) fn encode(publish: &Publish<'_>, version: Version) -> Vec<u8> {
    let mut body = Vec::with_capacity(publish.payload.len() + 64);
    text(&mut body, publish.topic);
    body.extend_from_slice(&publish.packet.to_be_bytes());
    match version {
        Version::V3 => assert_eq!(publish.seq, None, "MQTT 3.1.1 has no properties"),
        Version::V5 => {
            let mut properties = Vec::new();
            if let Some(seq) = publish.seq {
                properties.push(0x26);
                text(&mut properties, "seq");
                text(&mut properties, &seq.to_string());
            }
            body.push(u8::try_from(properties.len()).unwrap());
            body.extend_from_slice(&properties);
        }
    }
    body.extend_from_slice(publish.payload);
    framed(0x32 | u8::from(publish.dup) << 3, &body)
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
    into.extend_from_slice(text.as_bytes());
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        packet.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend_from_slice(body);
    packet
}

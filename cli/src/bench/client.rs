//! A lean MQTT 3.1.1 publisher that only measures: one packet encoded beforehand, a fixed number of QoS 1 publishes on
//! their way, the time from each to its acknowledgement. It costs the machine little beside what it measures.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes read at once: some thousand acknowledgements.
const READ_BYTES: usize = 16 * 1024;
/// What is still on its way when the time is up is waited for so long.
const LAST_ACKS_MAX: Duration = Duration::from_secs(5);
/// CONNACK, session not present, accepted (MQTT 3.1.1, section 3.2).
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
/// PUBACK and its length (section 3.4); the packet identifier follows.
const PUBACK: [u8; 2] = [0x40, 2];

/// What one connection has to do.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// The board.
    pub(super) board: SocketAddr,
    /// Number of this connection, for its names.
    pub(super) number: usize,
    /// Publishes on their way at once: 1 to 65535.
    pub(super) in_flight: u16,
    /// Bytes of a payload, 16 or more.
    pub(super) payload: usize,
    /// From when on acknowledgements count.
    pub(super) from: Instant,
    /// Until when.
    pub(super) until: Instant,
}

/// A PUBLISH packet in which only identifier and count change.
#[derive(Debug)]
struct Template {
    packet: Vec<u8>,
    id_at: usize,
    count_at: usize,
}

/// Hex digits of the count that makes each payload different.
const COUNT_DIGITS: usize = 16;

impl Template {
    fn new(number: usize, payload: usize) -> Self {
        let topic = format!("bench/{number}");
        let mut packet = vec![0x32];
        let mut length = 2 + topic.len() + 2 + payload;
        loop {
            let more = length > 127;
            packet.push((length % 128) as u8 | if more { 0x80 } else { 0 });
            length /= 128;
            if !more {
                break;
            }
        }
        packet.extend((topic.len() as u16).to_be_bytes());
        packet.extend(topic.as_bytes());
        let id_at = packet.len();
        packet.extend([0; 2]);
        let count_at = packet.len();
        packet.extend([b'0'; COUNT_DIGITS]);
        packet.extend(noise(number, payload.saturating_sub(COUNT_DIGITS)));
        Self { packet, id_at, count_at }
    }

    fn append(&mut self, id: u16, count: u64, to: &mut Vec<u8>) {
        self.packet[self.id_at..self.id_at + 2].copy_from_slice(&id.to_be_bytes());
        for digit in 0..COUNT_DIGITS {
            let nibble = (count >> (4 * (COUNT_DIGITS - 1 - digit)) & 15) as usize;
            self.packet[self.count_at + digit] = b"0123456789abcdef"[nibble];
        }
        to.extend_from_slice(&self.packet);
    }
}

/// Letters that no compression shortens much.
fn noise(seed: usize, length: usize) -> impl Iterator<Item = u8> {
    let mut state = seed as u64 + 1;
    (0..length).map(move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        b'a' + ((state >> 33) % 26) as u8
    })
}

/// Publishes until the time is up; returns the time to each acknowledgement that came while it counted.
pub(super) async fn publish(load: Load) -> io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(load.board).await?;
    stream.set_nodelay(true)?;
    connect(&mut stream, load.number).await?;
    let mut template = Template::new(load.number, load.payload);
    let mut sent_at = vec![None; usize::from(load.in_flight) + 1];
    let mut idle: Vec<u16> = (1..=load.in_flight).collect();
    let mut took = Vec::new();
    let mut count = 0_u64;
    let mut outgoing = Vec::new();
    let mut incoming = Incoming::default();
    let last = load.until + LAST_ACKS_MAX;
    loop {
        let now = Instant::now();
        if now < load.until {
            while let Some(id) = idle.pop() {
                template.append(id, count, &mut outgoing);
                count += 1;
                sent_at[usize::from(id)] = Some(now);
            }
            stream.write_all(&outgoing).await?;
            outgoing.clear();
        } else if idle.len() == usize::from(load.in_flight) {
            // DISCONNECT (section 3.14).
            stream.write_all(&[0xe0, 0]).await?;
            return Ok(took);
        }
        let read = tokio::time::timeout_at(last.into(), incoming.read(&mut stream)).await;
        read.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the last acknowledgements did not come"))??;
        let now = Instant::now();
        while let Some(id) = incoming.next_acknowledged()? {
            let sent = sent_at.get_mut(usize::from(id)).and_then(Option::take);
            let sent = sent.ok_or_else(|| broken("a publish was acknowledged that was not on its way"))?;
            idle.push(id);
            if (load.from..load.until).contains(&now) {
                took.push(now - sent);
            }
        }
    }
}

async fn connect(stream: &mut TcpStream, number: usize) -> io::Result<()> {
    let client = format!("bench-{number}");
    // CONNECT (section 3.1): protocol MQTT, level 4, clean session, no keep-alive.
    let mut packet = vec![0x10, (12 + client.len()) as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
    packet.extend((client.len() as u16).to_be_bytes());
    packet.extend(client.as_bytes());
    stream.write_all(&packet).await?;
    let mut answer = [0; CONNACK.len()];
    stream.read_exact(&mut answer).await?;
    if answer == CONNACK {
        Ok(())
    } else {
        Err(broken("the board does not accept the connection"))
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Acknowledgements as they come in.
#[derive(Debug, Default)]
struct Incoming {
    bytes: Vec<u8>,
    at: usize,
}

impl Incoming {
    async fn read(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.reserve(READ_BYTES);
        match stream.read_buf(&mut self.bytes).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the board closed the connection")),
            _ => Ok(()),
        }
    }

    /// The next packet identifier, if a whole PUBACK is there.
    fn next_acknowledged(&mut self) -> io::Result<Option<u16>> {
        let Some([kind, length, high, low]) = self.bytes.get(self.at..self.at + 4) else {
            return Ok(None);
        };
        if [*kind, *length] != PUBACK {
            return Err(broken("the board says something else than PUBACK"));
        }
        self.at += 4;
        Ok(Some(u16::from_be_bytes([*high, *low])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_as_the_standard_says_and_every_payload_differs() {
        let mut template = Template::new(7, 200);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        template.append(0x0102, 0xabc, &mut one);
        template.append(0x0103, 0xabd, &mut two);
        // 2 + 7 ("bench/7") + 2 + 200 = 211 = 0xd3, in two bytes.
        assert_eq!(&one[..3], [0x32, 0xd3, 0x01]);
        assert_eq!(&one[3..12], b"\x00\x07bench/7");
        assert_eq!(&one[12..14], [1, 2]);
        assert_eq!(&one[14..30], b"0000000000000abc");
        assert_eq!((one.len(), two.len()), (3 + 211, 3 + 211));
        assert_ne!(one[14..], two[14..]);
        let smallest = Template::new(0, 16);
        assert_eq!((smallest.packet[1] as usize, smallest.packet.len()), (2 + 7 + 2 + 16, 2 + 27));
    }

    #[test]
    fn acknowledgements_are_read_across_the_seams_of_reads() {
        let mut incoming = Incoming::default();
        let mut ids = Vec::new();
        for byte in [0x40, 2, 0, 1, 0x40, 2, 1, 0, 0x40] {
            incoming.bytes.push(byte);
            ids.extend(incoming.next_acknowledged().unwrap());
        }
        assert_eq!(ids, [1, 256]);
        incoming.bytes.extend([3, 0, 0]);
        assert!(incoming.next_acknowledged().is_err());
    }
}

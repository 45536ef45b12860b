//! A lean publisher that only measures: a fixed number of publishes on their way, the time from each to its
//! acknowledgement. It costs the machine little beside what it measures, and it is the same for everyone who is measured:
//! only the [`Dialect`] differs.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes read at once: some thousand acknowledgements.
const READ_BYTES: usize = 16 * 1024;
/// What is still on its way when the time is up is waited for so long. The slowest, mosquitto saving at each change, takes
/// 7 s for 1024 publishes.
const LAST_ACKS_MAX: Duration = Duration::from_secs(60);

/// How a protocol says what is measured. Everything is written and read by the one who uses it.
pub(in crate::bench) trait Dialect: Send + 'static {
    /// Whether a burst of publishes is answered as a whole, so that the next one waits for it.
    const IN_BURSTS: bool = false;

    /// Introduces itself; returns once the server takes publishes.
    fn greet(&mut self, stream: &mut TcpStream) -> impl Future<Output = io::Result<()>> + Send;

    /// Appends a publish of the payload `payload` in the free place `slot`, from 0.
    fn publish(&mut self, slot: u16, payload: &[u8], to: &mut Vec<u8>);

    /// Appends what follows the publishes of one write.
    fn end_burst(&mut self, _to: &mut Vec<u8>) {}

    /// Reads the whole answers at the front of `bytes`: places that are acknowledged go to `done`, what the server wants to
    /// hear to `answer`. Returns how many bytes it has used up.
    fn read(&mut self, bytes: &[u8], done: &mut Vec<u16>, answer: &mut Vec<u8>) -> io::Result<usize>;

    /// What is said at the end.
    fn farewell(&self) -> &'static [u8] {
        &[]
    }
}

/// What one connection has to do.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Who takes the publishes.
    pub(super) server: SocketAddr,
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

/// What one connection has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The time to each acknowledgement that came while it counted.
    pub(super) took: Vec<Duration>,
    /// Acknowledgements from the first to the last, counted or not.
    pub(super) acknowledged: u64,
}

/// Hex digits of the count that makes each payload different.
const COUNT_DIGITS: usize = 16;

/// A payload of which no two are alike.
#[derive(Debug)]
struct Payload {
    bytes: Vec<u8>,
    count: u64,
}

impl Payload {
    fn new(number: usize, length: usize) -> Self {
        let mut bytes = vec![b'0'; COUNT_DIGITS];
        bytes.extend(noise(number, length.saturating_sub(COUNT_DIGITS)));
        Self { bytes, count: 0 }
    }

    fn next(&mut self) -> &[u8] {
        for digit in 0..COUNT_DIGITS {
            let nibble = (self.count >> (4 * (COUNT_DIGITS - 1 - digit)) & 15) as usize;
            self.bytes[digit] = b"0123456789abcdef"[nibble];
        }
        self.count += 1;
        &self.bytes
    }
}

/// Letters that no compression shortens much.
pub(in crate::bench) fn noise(seed: usize, length: usize) -> impl Iterator<Item = u8> {
    let mut state = seed as u64 + 1;
    (0..length).map(move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        b'a' + ((state >> 33) % 26) as u8
    })
}

/// Places of publishes, and since when each is on its way.
#[derive(Debug)]
pub(in crate::bench) struct Places {
    sent_at: Vec<Option<Instant>>,
    idle: Vec<u16>,
}

impl Places {
    /// So many, all of them idle.
    pub(in crate::bench) fn new(count: u16) -> Self {
        Self { sent_at: vec![None; usize::from(count)], idle: (0..count).rev().collect() }
    }

    /// Whether nothing is on its way.
    pub(in crate::bench) fn are_idle(&self) -> bool {
        self.idle.len() == self.sent_at.len()
    }

    /// A place for a publish at `now`, if one is idle.
    pub(in crate::bench) fn take(&mut self, now: Instant) -> Option<u16> {
        let slot = self.idle.pop()?;
        self.sent_at[usize::from(slot)] = Some(now);
        Some(slot)
    }

    /// What is in `slot` is acknowledged; since when it was on its way.
    pub(in crate::bench) fn give_back(&mut self, slot: u16) -> io::Result<Instant> {
        let sent = self.sent_at.get_mut(usize::from(slot)).and_then(Option::take);
        self.idle.push(slot);
        sent.ok_or_else(|| broken("a publish was acknowledged that was not on its way"))
    }
}

/// Publishes until the time is up.
pub(super) async fn publish<D: Dialect>(load: Load, mut dialect: D) -> io::Result<Seen> {
    let mut stream = TcpStream::connect(load.server).await?;
    stream.set_nodelay(true)?;
    dialect.greet(&mut stream).await?;
    let mut payload = Payload::new(load.number, load.payload);
    let mut places = Places::new(load.in_flight);
    let mut seen = Seen::default();
    let (mut outgoing, mut incoming, mut done) = (Vec::new(), Vec::new(), Vec::new());
    let last = load.until + LAST_ACKS_MAX;
    loop {
        let now = Instant::now();
        if now < load.until {
            if !D::IN_BURSTS || places.are_idle() {
                while let Some(slot) = places.take(now) {
                    dialect.publish(slot, payload.next(), &mut outgoing);
                }
                dialect.end_burst(&mut outgoing);
            }
        } else if places.are_idle() {
            stream.write_all(dialect.farewell()).await?;
            return Ok(seen);
        }
        stream.write_all(&outgoing).await?;
        outgoing.clear();
        incoming.reserve(READ_BYTES);
        let read = tokio::time::timeout_at(last.into(), stream.read_buf(&mut incoming)).await;
        let read = read.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the last acknowledgements did not come"));
        if read?? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        let now = Instant::now();
        let used = dialect.read(&incoming, &mut done, &mut outgoing)?;
        incoming.drain(..used);
        for slot in done.drain(..) {
            let sent = places.give_back(slot)?;
            seen.acknowledged += 1;
            if (load.from..load.until).contains(&now) {
                seen.took.push(now - sent);
            }
        }
    }
}

/// An answer that no server of this protocol gives, or that says no.
pub(super) fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_payloads_are_alike() {
        let mut payload = Payload::new(7, 200);
        let (one, two) = (payload.next().to_vec(), payload.next().to_vec());
        assert_eq!((one.len(), &one[..16], &two[..16]), (200, &b"0000000000000000"[..], &b"0000000000000001"[..]));
        assert_eq!(one[16..], two[16..]);
        assert_ne!(one[16..], Payload::new(8, 200).next()[16..], "connections differ");
        assert_eq!(Payload::new(0, 16).next().len(), 16);
    }

    #[test]
    fn a_place_is_taken_once_and_given_back_once() {
        let mut places = Places::new(2);
        let now = Instant::now();
        let taken: Vec<u16> = std::iter::from_fn(|| places.take(now)).collect();
        assert_eq!((taken, places.are_idle()), (vec![0, 1], false));
        assert_eq!(places.give_back(1).unwrap(), now);
        assert!(places.give_back(1).is_err(), "it was not on its way any more");
        assert!(places.give_back(2).is_err(), "there is no such place");
    }
}

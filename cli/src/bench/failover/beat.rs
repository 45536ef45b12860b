//! A beat: what a holder of the duty says to the observer while it acts, and what one that stands by says of itself.
//! Owns its shape on the wire and the clock of its stamp; judges nothing.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// First bytes of every beat.
const MAGIC: [u8; 4] = *b"RSB1";
/// Bytes of a beat.
pub const BEAT_BYTES: usize = 33;

/// An instant of the machine's raw monotonic clock, in nanoseconds: the same clock in every process of this machine,
/// in every network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Now.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::MonotonicRaw);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// How long after `earlier`; nothing if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// So much earlier.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// One beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// When its sender decided to act: read before it is sent.
    pub stamp: Stamp,
    /// The fencing token it acts under; 0 while it stands by.
    pub token: u64,
    /// Counts its sender's beats.
    pub number: u64,
    /// Its sender's process number.
    pub process: u32,
    /// Its sender's board.
    pub board: u8,
}

impl Beat {
    /// Whether its sender acts; otherwise it stands by.
    pub fn acts(&self) -> bool {
        self.token != 0
    }

    /// As it is sent.
    pub fn bytes(&self) -> [u8; BEAT_BYTES] {
        let mut bytes = [0; BEAT_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..12].copy_from_slice(&self.stamp.0.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.token.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.number.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.process.to_le_bytes());
        bytes[32] = self.board;
        bytes
    }

    /// From what came in; `None` of anything else.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BEAT_BYTES] = bytes.try_into().ok()?;
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if bytes[..4] != MAGIC {
            return None;
        }
        Some(Self {
            stamp: Stamp(long(4)?),
            token: long(12)?,
            number: long(20)?,
            process: u32::from_le_bytes(bytes[28..32].try_into().ok()?),
            board: bytes[32],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_comes_back_as_it_was_and_nothing_else_does() {
        let beat = Beat { stamp: Stamp::now(), token: 1 << 40 | 7, number: 3, process: 70_000, board: 64 };
        let mut bytes = beat.bytes();
        assert_eq!(Beat::read(&bytes), Some(beat));
        assert_eq!(Beat::read(&bytes[..BEAT_BYTES - 1]), None);
        bytes[0] = b'X';
        assert_eq!(Beat::read(&bytes), None);
    }

    #[test]
    fn stamps_rise() {
        let first = Stamp::now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(Stamp::now().since(first) >= Duration::from_millis(2));
        assert_eq!(first.since(Stamp::now()), Duration::ZERO);
    }
}

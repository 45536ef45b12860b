//! A record: one reading as a publisher gave it, with the key that makes a re-sent reading one row. Owns the
//! encoding that the journal, the wire between boards and sealed blocks share, so that bytes travel unchanged.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::ids::{Class, Stream};
use crate::limits::{PAYLOAD_BYTES_MAX, PUBLISHER_BYTES_MAX, RECORD_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::ranges::SeqRange;
use crate::time::WallMillis;

/// What makes a re-sent reading the same reading, whatever board took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// The publisher counts: its incarnation (0 where it keeps none) and its own sequence. The strongest key.
    Sequence {
        /// Which life of the publisher counts.
        epoch: u64,
        /// Its own number, unique in that life.
        seq: u64,
    },
    /// The content tells readings apart, because it carries the sensor's own time or number: 128-bit digest of
    /// publisher, topic and payload.
    Content([u8; 16]),
    /// Nothing in the reading tells it apart: digest of publisher, topic, payload and packet identifier. Two of
    /// these are one reading only if one of them was marked as sent again (MQTT's DUP).
    Delivery {
        /// The digest.
        digest: [u8; 16],
        /// Whether the publisher marked it as sent again.
        resent: bool,
    },
}

impl Key {
    /// Digest key over content that tells readings apart.
    pub fn content(publisher: &[u8], topic: &[u8], payload: &[u8]) -> Self {
        Self::Content(digest(publisher, topic, payload, None))
    }

    /// Digest key over a delivery that nothing else tells apart.
    pub fn delivery(publisher: &[u8], topic: &[u8], payload: &[u8], packet: u16, resent: bool) -> Self {
        Self::Delivery { digest: digest(publisher, topic, payload, Some(packet)), resent }
    }

    /// The 16 bytes under which the region files the row: of a publisher's readings of one kind of key those with equal ones are one, but for
    /// deliveries that were not marked as sent again.
    pub fn bytes(&self) -> [u8; 16] {
        match self {
            Self::Sequence { epoch, seq } => {
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&epoch.to_be_bytes());
                bytes[8..].copy_from_slice(&seq.to_be_bytes());
                bytes
            }
            Self::Content(digest) | Self::Delivery { digest, .. } => *digest,
        }
    }

    /// Which kind of key, as the region files it: 0 sequence, 1 content, 2 delivery.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Sequence { .. } => 0,
            Self::Content(_) => 1,
            Self::Delivery { .. } => 2,
        }
    }
}

fn digest(publisher: &[u8], topic: &[u8], payload: &[u8], packet: Option<u16>) -> [u8; 16] {
    let mut hash = Xxh3::new();
    for part in [publisher, topic, payload] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    if let Some(packet) = packet {
        hash.update(&packet.to_le_bytes());
    }
    hash.digest128().to_be_bytes()
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A publisher's reading.
    Reading,
    /// The site's own note that records were shed; the payload is a [`Gap`].
    Gap,
}

/// Which records were shed, and why: the payload of a record of kind [`Kind::Gap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Of which stream.
    pub stream: Stream,
    /// Which sequences.
    pub range: SeqRange,
    /// Bytes of their records.
    pub bytes: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why records were shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapReason {
    /// The journal was full and this was the oldest of the lowest class.
    JournalFull,
    /// No copy of them can be read any more.
    Damaged,
}

/// A reading on its way in, as the front door hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How much it matters.
    pub class: Class,
    /// Who sent it, at most [`PUBLISHER_BYTES_MAX`] bytes of UTF-8.
    pub publisher: Bytes,
    /// What makes it one row.
    pub key: Key,
    /// Board's wall clock when it was taken in: a label.
    pub taken: WallMillis,
    /// Where it was published, at most [`TOPIC_BYTES_MAX`] bytes of UTF-8.
    pub topic: Bytes,
    /// What it says, at most [`PAYLOAD_BYTES_MAX`] bytes.
    pub payload: Bytes,
}

/// Why a record is not taken. The publisher's fault; nothing has changed; sending it again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordRefusal {
    /// The publisher's name is empty, too long or not UTF-8.
    Publisher,
    /// The topic is too long or not UTF-8.
    Topic,
    /// The payload is too long.
    Payload,
}

impl Record {
    /// Whether the record keeps to the limits.
    pub fn check(&self) -> Result<(), RecordRefusal> {
        let publisher_ok =
            (1..=PUBLISHER_BYTES_MAX).contains(&self.publisher.len()) && core::str::from_utf8(&self.publisher).is_ok();
        if !publisher_ok {
            return Err(RecordRefusal::Publisher);
        }
        if self.topic.len() > TOPIC_BYTES_MAX || core::str::from_utf8(&self.topic).is_err() {
            return Err(RecordRefusal::Topic);
        }
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(RecordRefusal::Payload);
        }
        Ok(())
    }

    /// Appends the record as journal, wire and blocks carry it. The record has passed [`Record::check`].
    pub fn encode(&self, into: &mut Vec<u8>) {
        let reading = Reading {
            kind: Kind::Reading,
            publisher: core::str::from_utf8(&self.publisher).unwrap_or_default(),
            key: self.key,
            taken: self.taken,
            topic: core::str::from_utf8(&self.topic).unwrap_or_default(),
            payload: &self.payload,
        };
        reading.encode(into);
    }
}

/// A record as stored, borrowed from the bytes that carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading<'a> {
    /// What it is.
    pub kind: Kind,
    /// Who sent it.
    pub publisher: &'a str,
    /// What makes it one row.
    pub key: Key,
    /// Board's wall clock when it was taken in.
    pub taken: WallMillis,
    /// Where it was published.
    pub topic: &'a str,
    /// What it says.
    #[serde(serialize_with = "in_one_piece")]
    pub payload: &'a [u8],
}

/// The same bytes as one after the other, many times faster.
fn in_one_piece<S: serde::Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// The bytes are not records, although their checksum holds: a bug or another version wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRecords;

impl<'a> Reading<'a> {
    /// Appends the record to `into`.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let taken = core::mem::take(into);
        *into = postcard::to_extend(self, taken).expect("a Vec takes every record");
    }

    /// Reads one record from the front of `bytes`; returns it and the rest.
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BadRecords> {
        let (reading, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(|_| BadRecords)?;
        if bytes.len() - rest.len() > RECORD_BYTES_MAX {
            return Err(BadRecords);
        }
        Ok((reading, rest))
    }

    /// Reads exactly `count` records that fill `bytes`.
    pub fn decode_all(bytes: &'a [u8], count: u32) -> Result<Vec<Self>, BadRecords> {
        // The count comes from outside: what it makes us reserve is bounded by the bytes that came with it.
        let mut readings = Vec::with_capacity((count as usize).min(bytes.len()));
        let mut rest = bytes;
        for _ in 0..count {
            let (reading, after) = Self::decode(rest)?;
            readings.push(reading);
            rest = after;
        }
        if rest.is_empty() { Ok(readings) } else { Err(BadRecords) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &'static [u8]) -> Record {
        Record {
            class: Class::Event,
            publisher: Bytes::from_static(b"loop-7"),
            key: Key::Sequence { epoch: 0, seq: 9 },
            taken: WallMillis(5),
            topic: Bytes::from_static(b"det/7"),
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut bytes = Vec::new();
        record(b"on").encode(&mut bytes);
        record(b"").encode(&mut bytes);
        let readings = Reading::decode_all(&bytes, 2).unwrap();
        assert_eq!((readings[0].payload, readings[1].payload), (&b"on"[..], &b""[..]));
        assert_eq!(readings[0].publisher, "loop-7");
        assert_eq!(Reading::decode_all(&bytes, 1), Err(BadRecords));
        assert_eq!(Reading::decode_all(&bytes, 3), Err(BadRecords));
        assert_eq!(Reading::decode_all(&bytes, u32::MAX), Err(BadRecords));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let mut at = record(b"");
        at.payload = alloc::vec![0; PAYLOAD_BYTES_MAX].into();
        assert_eq!(at.check(), Ok(()));
        at.payload = alloc::vec![0; PAYLOAD_BYTES_MAX + 1].into();
        assert_eq!(at.check(), Err(RecordRefusal::Payload));
        let mut named = record(b"");
        named.publisher = alloc::vec![b'p'; PUBLISHER_BYTES_MAX].into();
        assert_eq!(named.check(), Ok(()));
        named.publisher = alloc::vec![b'p'; PUBLISHER_BYTES_MAX + 1].into();
        assert_eq!(named.check(), Err(RecordRefusal::Publisher));
    }

    #[test]
    fn keys_tell_parts_apart() {
        assert_ne!(Key::content(b"a", b"bc", b"d"), Key::content(b"ab", b"c", b"d"));
        assert_ne!(
            Key::delivery(b"a", b"b", b"c", 1, false).bytes(),
            Key::delivery(b"a", b"b", b"c", 2, false).bytes()
        );
    }
}

//! The envelope around every message between machines: version, kind, length and checksum, all judged before a
//! byte of the body is believed. Refuses, never panics, never allocates by an unchecked length.
//!
//! ```text
//!  0        2         3        4          8          12
//!  | magic  | version | kind   | length   | crc32c   | body: `length` bytes of postcard |
//!  | "RS"   | u8      | u8     | u32 LE   | of bytes 0..8 and the body, LE |
//! ```

use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checksum::crc32c_of;
use crate::limits::FRAME_BYTES_MAX;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 12;
/// The version of every conversation written by this build. Others are refused by name.
pub const VERSION: u8 = 1;
const MAGIC: [u8; 2] = *b"RS";

/// Which conversation a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Conversation {
    /// Between boards, reliable: [`crate::wire::peer::PeerMessage`].
    Peer = 1,
    /// Between boards, in datagrams: [`crate::wire::control::ControlMessage`].
    Control = 2,
    /// Board to region: [`crate::wire::uplink::ToRegion`].
    ToRegion = 3,
    /// Region to board: [`crate::wire::uplink::FromRegion`].
    FromRegion = 4,
}

/// Why a frame is refused. The sender's fault; nothing has changed; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRefusal {
    /// Does not begin with the magic.
    NotAFrame,
    /// Written by a version this build does not speak.
    Version(u8),
    /// Belongs to another conversation.
    Kind(u8),
    /// Longer than [`FRAME_BYTES_MAX`].
    TooLong(u32),
    /// Ends before its length.
    Short,
    /// The checksum does not hold.
    Checksum,
    /// The body is not a message of this conversation.
    Body,
}

impl core::fmt::Display for FrameRefusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotAFrame => f.write_str("not a roadstead frame"),
            Self::Version(version) => write!(f, "speaks version {version}, this build speaks {VERSION}"),
            Self::Kind(kind) => write!(f, "belongs to conversation {kind}, not this one"),
            Self::TooLong(length) => write!(f, "{length} bytes, over the limit of {FRAME_BYTES_MAX}"),
            Self::Short => f.write_str("ends before its length"),
            Self::Checksum => f.write_str("checksum does not hold"),
            Self::Body => f.write_str("body is not a message of this conversation"),
        }
    }
}

impl core::error::Error for FrameRefusal {}

/// `message` as a whole frame.
pub fn encode<M: Serialize>(kind: Conversation, message: &M) -> Vec<u8> {
    let mut frame = Vec::with_capacity(64);
    frame.extend_from_slice(&[MAGIC[0], MAGIC[1], VERSION, kind as u8]);
    frame.extend_from_slice(&[0; HEADER_BYTES - 4]);
    let mut frame = postcard::to_extend(message, frame).expect("a Vec takes every message");
    let length = u32::try_from(frame.len() - HEADER_BYTES).expect("messages stay below FRAME_BYTES_MAX");
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c_of(&[&frame[..8], &frame[HEADER_BYTES..]]);
    frame[8..12].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// Length of the body that follows `header`, once magic, version, kind and length are right.
pub fn body_length(kind: Conversation, header: &[u8; HEADER_BYTES]) -> Result<usize, FrameRefusal> {
    if header[..2] != MAGIC {
        return Err(FrameRefusal::NotAFrame);
    }
    if header[2] != VERSION {
        return Err(FrameRefusal::Version(header[2]));
    }
    if header[3] != kind as u8 {
        return Err(FrameRefusal::Kind(header[3]));
    }
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    if length as usize > FRAME_BYTES_MAX - HEADER_BYTES {
        return Err(FrameRefusal::TooLong(length));
    }
    Ok(length as usize)
}

/// The message that `header` and `body` carry.
pub fn decode<M: DeserializeOwned>(header: &[u8; HEADER_BYTES], body: &[u8]) -> Result<M, FrameRefusal> {
    let crc = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if crc != crc32c_of(&[&header[..8], body]) {
        return Err(FrameRefusal::Checksum);
    }
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(FrameRefusal::Body),
    }
}

/// The message of a whole frame in one piece, such as a datagram.
pub fn decode_whole<M: DeserializeOwned>(kind: Conversation, frame: &[u8]) -> Result<M, FrameRefusal> {
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(FrameRefusal::Short)?;
    if body_length(kind, header)? != body.len() {
        return Err(FrameRefusal::Short);
    }
    decode(header, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_refused() {
        let frame = encode(Conversation::Peer, &(7_u32, "hello"));
        let whole: (u32, alloc::string::String) = decode_whole(Conversation::Peer, &frame).unwrap();
        assert_eq!(whole.0, 7);
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let read = decode_whole::<(u32, alloc::string::String)>(Conversation::Peer, &bad);
            assert!(read.is_err(), "bit {bit} went unnoticed");
        }
        for cut in 0..frame.len() {
            assert!(decode_whole::<(u32, alloc::string::String)>(Conversation::Peer, &frame[..cut]).is_err());
        }
    }

    #[test]
    fn length_is_judged_before_the_body() {
        let mut frame = encode(Conversation::Peer, &1_u8);
        frame[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let header = frame.first_chunk().unwrap();
        assert_eq!(body_length(Conversation::Peer, header), Err(FrameRefusal::TooLong(u32::MAX)));
        let at = (FRAME_BYTES_MAX - HEADER_BYTES) as u32;
        for (length, ok) in [(at, true), (at + 1, false)] {
            frame[4..8].copy_from_slice(&length.to_le_bytes());
            assert_eq!(body_length(Conversation::Peer, frame.first_chunk().unwrap()).is_ok(), ok);
        }
    }
}

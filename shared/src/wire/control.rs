//! Between boards, and between a board and a witness, in datagrams that may be lost: signs of life, votes, duties.
//! Durations are micros on the sender's clock; instants never travel.
//!
//! What one machine says to another at one instant shares a datagram as long as it stays below
//! [`crate::limits::DATAGRAM_BYTES_MAX`]: at the rate of heartbeats the envelope costs more than the letter.
//!
//! ```text
//!  0         1
//!  | version | postcard of one to CONTROL_BATCH_MAX messages, one after the other, to the end
//! ```
//!
//! There is no checksum: every datagram is authenticated by the connection that carries it.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::frame::FrameRefusal;
use crate::limits::{CONTROL_BATCH_MAX, DATAGRAM_BYTES_MAX};
use crate::wire::duty::DutyMessage;
use crate::wire::election::ElectionMessage;
use crate::wire::heartbeat::{Hearing, Heartbeat};

/// The version of this conversation. Others are refused by name.
pub const CONTROL_VERSION: u8 = 1;

/// One control message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlMessage {
    /// I am alive.
    Heartbeat(Heartbeat),
    /// Whom boards hear: evidence for and against a board's life, passed on.
    Hearing(Hearing),
    /// Votes.
    Election(ElectionMessage),
    /// Who does what.
    Duty(DutyMessage),
}

/// Packs messages for one machine into as few datagrams as they fit into, in order. A message that fits none alone
/// is a bug of whoever made it.
#[derive(Debug, Default)]
pub struct Packer {
    datagram: Vec<u8>,
    count: usize,
}

impl Packer {
    /// Adds `message`; a datagram that is full before it comes back, to be sent.
    ///
    /// # Panics
    /// Where the message alone is longer than a datagram.
    pub fn push(&mut self, message: &ControlMessage) -> Option<Vec<u8>> {
        let bytes = postcard::to_allocvec(message).expect("a Vec takes every message");
        assert!(bytes.len() < DATAGRAM_BYTES_MAX, "a control message is longer than a datagram");
        let full = self.count == CONTROL_BATCH_MAX || self.datagram.len() + bytes.len() > DATAGRAM_BYTES_MAX;
        let before = if full { self.take() } else { None };
        if self.datagram.is_empty() {
            self.datagram.push(CONTROL_VERSION);
        }
        self.datagram.extend_from_slice(&bytes);
        self.count += 1;
        before
    }

    /// What is left to be sent.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.count = 0;
        (!self.datagram.is_empty()).then(|| core::mem::take(&mut self.datagram))
    }
}

/// The messages of a datagram.
///
/// # Errors
/// It is longer than allowed, of another version, or not made of whole messages; nothing of it is believed.
pub fn unpack(datagram: &[u8]) -> Result<Vec<ControlMessage>, FrameRefusal> {
    if datagram.len() > DATAGRAM_BYTES_MAX {
        return Err(FrameRefusal::TooLong(u32::try_from(datagram.len()).unwrap_or(u32::MAX)));
    }
    let (version, mut rest) = datagram.split_first().ok_or(FrameRefusal::Short)?;
    if *version != CONTROL_VERSION {
        return Err(FrameRefusal::Version(*version));
    }
    let mut messages = Vec::new();
    while !rest.is_empty() {
        if messages.len() == CONTROL_BATCH_MAX {
            return Err(FrameRefusal::Body);
        }
        let (message, after) = postcard::take_from_bytes(rest).map_err(|_| FrameRefusal::Body)?;
        messages.push(message);
        rest = after;
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;

    fn release(counter: u64) -> ControlMessage {
        let board = crate::ids::BoardId::new(1).unwrap();
        ControlMessage::Election(ElectionMessage::Release { term: Term::new(counter, board) })
    }

    #[test]
    fn what_is_packed_is_unpacked_in_order_and_never_beyond_the_limits() {
        let mut packer = Packer::default();
        let messages: Vec<_> = (0..500).map(|counter| release(counter << 30)).collect();
        let mut datagrams: Vec<_> = messages.iter().filter_map(|message| packer.push(message)).collect();
        datagrams.extend(packer.take());
        assert!(datagrams.len() > 1 && datagrams.iter().all(|datagram| datagram.len() <= DATAGRAM_BYTES_MAX));
        let back: Vec<_> = datagrams.iter().flat_map(|datagram| unpack(datagram).unwrap()).collect();
        assert_eq!(back, messages);
        assert_eq!(packer.take(), None);
    }

    #[test]
    fn what_is_cut_or_of_another_version_is_refused() {
        let mut packer = Packer::default();
        packer.push(&release(1 << 39));
        let datagram = packer.take().unwrap();
        for cut in 2..datagram.len() {
            assert_eq!(unpack(&datagram[..cut]), Err(FrameRefusal::Body), "cut at {cut}");
        }
        assert_eq!(unpack(&[]), Err(FrameRefusal::Short));
        assert_eq!(unpack(&[CONTROL_VERSION + 1, 0]), Err(FrameRefusal::Version(CONTROL_VERSION + 1)));
        assert!(unpack(&[0; DATAGRAM_BYTES_MAX + 1]).is_err());
    }
}

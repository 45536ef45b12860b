//! What a supervisor says when it has seen its board's node end: from then on nothing of that life can act. A datagram of
//! its own beside QUIC, because whoever could have sent it on a connection is dead.
//!
//! ```text
//!  0      1         5
//!  | 0x00 | "RSOB"  | postcard of Obituary | signature over all before it by the board's key
//! ```
//!
//! The first byte tells it from QUIC, whose packets have the bit 0x40 set (RFC 9000, 17; RFC 9443 for the practice).

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{BoardId, Name};

/// How an obituary begins.
pub const OBITUARY_MAGIC: [u8; 5] = [0x00, b'R', b'S', b'O', b'B'];
/// Bytes of an obituary and its signature: a name, some numbers, and an ECDSA signature of up to 72 bytes. Longer
/// datagrams are passed over.
pub const OBITUARY_BYTES_MAX: usize = 256;

/// The end of one life of a board's node, seen by the supervisor that waited for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obituary {
    /// The site.
    pub site: Name,
    /// The board.
    pub board: BoardId,
    /// The life that ended: the nonce of its epoch.
    pub life: u64,
}

impl Obituary {
    /// The bytes to be signed; the signature follows them.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = OBITUARY_MAGIC.to_vec();
        postcard::to_extend(self, bytes).expect("a Vec takes every message")
    }

    /// The obituary in `datagram`, the part of it that is signed, and the signature, which is still to be checked.
    pub fn decode(datagram: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let body = datagram.strip_prefix(&OBITUARY_MAGIC)?;
        if datagram.len() > OBITUARY_BYTES_MAX {
            return None;
        }
        let (obituary, signature) = postcard::take_from_bytes(body).ok()?;
        let signed = &datagram[..datagram.len() - signature.len()];
        Some((obituary, signed, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else_is_taken_for_it() {
        let obituary = Obituary {
            site: "a-site-with-a-name-as-long-as-can".try_into().unwrap_or_default(),
            board: BoardId::new(64).unwrap(),
            life: u64::MAX,
        };
        let mut datagram = obituary.encode();
        let signed = datagram.clone();
        datagram.extend_from_slice(&[7; 72]);
        assert!(datagram.len() <= OBITUARY_BYTES_MAX);
        assert_eq!(Obituary::decode(&datagram), Some((obituary, signed.as_slice(), [7; 72].as_slice())));
        assert_eq!(Obituary::decode(&datagram[..9]), None);
        datagram[0] = 0x40;
        assert_eq!(Obituary::decode(&datagram), None);
        assert_eq!(Obituary::decode(&[0; 300]), None);
    }
}

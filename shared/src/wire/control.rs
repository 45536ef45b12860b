//! Heartbeats and lease votes between boards: unreliable datagrams, each below
//! [`crate::limits::DATAGRAM_BYTES_MAX`]. Durations are micros on the sender's clock; instants never travel.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Term};

/// One control datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlMessage {
    /// I am alive.
    Heartbeat(Heartbeat),
    /// Grant me this term (or renew it) for so long.
    Acquire(Acquire),
    /// You have my grant; or, to a trial, you would have it.
    Granted {
        /// The term asked for.
        term: Term,
        /// The attempt asked for: tells renewals apart, so that a late answer extends nothing.
        attempt: u64,
    },
    /// You have not; nothing changed at the voter.
    Denied {
        /// The term asked for.
        term: Term,
        /// The attempt asked for.
        attempt: u64,
        /// Highest term the voter has promised.
        promised: Term,
        /// Until its own live grant or abstention ends; 0 where there is none.
        remaining_micros: u64,
    },
    /// I do not act under this term any more; its grant is void.
    Release {
        /// The term given up.
        term: Term,
    },
}

/// A board's sign of life, built by the node itself so that a hung node falls silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's journal epoch: tells a restart.
    pub epoch: Epoch,
    /// Counts this epoch's heartbeats, so that an old one is not taken for a new one.
    pub number: u64,
    /// Highest term the sender has seen.
    pub seen: Term,
    /// Term the sender acts under, if it leads.
    pub leads: Option<Term>,
    /// Whether the sender takes records.
    pub accepts: bool,
}

/// A request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// The term.
    pub term: Term,
    /// Counts the candidate's requests.
    pub attempt: u64,
    /// How long, counted by each voter from receipt and by the candidate from sending.
    pub lease_micros: u64,
    /// Only asks what the answer would be: the voter judges it like any other, and changes nothing.
    pub trial: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::DATAGRAM_BYTES_MAX;

    #[test]
    fn the_longest_of_each_message_leaves_a_datagram_half_empty() {
        let term = Term::from_token(u64::MAX);
        let messages = [
            ControlMessage::Heartbeat(Heartbeat {
                epoch: Epoch { boot: u32::MAX, nonce: u64::MAX },
                number: u64::MAX,
                seen: term,
                leads: Some(term),
                accepts: true,
            }),
            ControlMessage::Acquire(Acquire { term, attempt: u64::MAX, lease_micros: u64::MAX, trial: true }),
            ControlMessage::Granted { term, attempt: u64::MAX },
            ControlMessage::Denied { term, attempt: u64::MAX, promised: term, remaining_micros: u64::MAX },
            ControlMessage::Release { term },
        ];
        for message in messages {
            let bytes = postcard::to_allocvec(&message).unwrap();
            assert!(bytes.len() * 2 <= DATAGRAM_BYTES_MAX, "{message:?}: {}", bytes.len());
            assert_eq!(postcard::from_bytes(&bytes), Ok(message));
        }
    }
}

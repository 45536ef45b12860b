//! Duties: between the leader, which decides who does what, and the boards that do it.
//!
//! A holder's right to act is a lease under the leader's lease. It asks, naming the question; the leader answers how
//! long its own lease still ran when the question came; the holder counts that from when it asked. So the holder's
//! lease ends before the leader's, whatever the network did in between.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{DutyId, Fencing, Term};

/// One message about duties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DutyMessage {
    /// From a board to the leader: what I hold; how long may I act?
    Ask {
        /// Names the question: rises.
        number: u64,
        /// The leader's term. A board that has said this takes no lease under a lower one any more.
        term: Term,
        /// Exclusive duties that it may still be acting in, under which token; at most `DUTIES_MAX`.
        holds: Vec<(DutyId, Fencing)>,
        /// Duties for which a process stands ready: bit n for the duty at place n.
        ready: u32,
        /// Duties whose process is running and acting: bit n for the duty at place n.
        acting: u32,
        /// How busy it is, in permille of its processors.
        load_permille: u16,
    },
    /// From the leader, the answer: what you are to do, and for how long.
    Assigned {
        /// The question answered; 0 where nobody asked: then it gives no right to act, and is to be asked about.
        number: u64,
        /// The leader's term.
        term: Term,
        /// How long its lease still ran when the question came, less what is held back for clocks that drift.
        lease_micros: u64,
        /// What the receiver is to do; duties that are not in it are to be ended. At most `DUTIES_MAX`.
        duties: Vec<Assignment>,
    },
}

/// A duty that a board is to perform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which.
    pub duty: DutyId,
    /// With which token.
    pub token: Fencing,
    /// Whether it is to act, or only to have a process ready.
    pub act: bool,
}

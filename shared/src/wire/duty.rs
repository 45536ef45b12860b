//! Duties: between the leader, which decides who does what, and the boards that do it.
//!
//! A holder's right to act is a lease under the leader's lease. It asks, naming the question; the leader answers how
//! long its own lease still ran when the question came; the holder counts that from when it asked. So the holder's
//! lease ends before the leader's, whatever the network did in between.
//!
//! Datagrams overtake each other, so what a board says it does not hold is only good for as long as no answer on its
//! way can change it: with every question it says which answers it will not act on any more (`closed`).

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{DutyId, Epoch, Fencing, Term};

/// One message about duties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DutyMessage {
    /// From a board to the leader: what I hold; how long may I act?
    Ask(Ask),
    /// From the leader, the answer: what you are to do, and for how long. May be given again when it changes.
    Assigned(Assigned),
}

/// A board's question. Lost: the next one follows. Said twice: the second is passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Names the question within the life: rises, from 1.
    pub number: u64,
    /// The life that asks. A new one proves that the one before is over.
    pub epoch: Epoch,
    /// The leader's term. A board that has said this takes no lease under a lower one any more.
    pub term: Term,
    /// Answers to questions up to this one are not acted on any more.
    pub closed: u64,
    /// Exclusive duties that it may still be acting in, under which token; at most `DUTIES_MAX`.
    pub holds: Vec<(DutyId, Fencing)>,
    /// Duties that it could perform: bit n for the duty at place n.
    pub can: u32,
    /// Duties for which a process stands ready or acts.
    pub ready: u32,
    /// Duties whose process acts.
    pub acting: u32,
    /// Whether it may be given exclusive duties: it has lived for long enough.
    pub may_hold: bool,
    /// How busy it is, in permille of its processors.
    pub load_permille: u16,
    /// Digest of the name of what it shares its fate with.
    pub domain: u32,
}

/// A leader's answer. Lost: the next question brings another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The question answered.
    pub number: u64,
    /// The life that asked it: numbers begin again with every life.
    pub life: u64,
    /// The leader's term.
    pub term: Term,
    /// The life in which the leader answers.
    pub leader: u64,
    /// How long its lease still ran when the question came, less what is held back for clocks that drift; 0 gives no
    /// right beyond what the receiver has.
    pub lease_micros: u64,
    /// What the receiver is to act in; it is to rest in all others. At most `DUTIES_MAX`.
    pub duties: Vec<Assignment>,
}

/// A duty that a board is to act in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which.
    pub duty: DutyId,
    /// With which token.
    pub token: Fencing,
}

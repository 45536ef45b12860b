//! Signs of life between boards, and what boards tell each other of whom they hear.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{BoardId, BoardSet, Epoch, Term};

/// A board's sign of life, built by the node itself so that a hung node falls silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's journal epoch: tells a restart.
    pub epoch: Epoch,
    /// Counts this epoch's heartbeats to this receiver, so that an old one is not taken for a new one and a missing one
    /// is a lost one.
    pub number: u64,
    /// What the sender says of itself.
    pub vitals: Vitals,
    /// Boards that the sender should hear and does not.
    pub missed: BoardSet,
    /// Counts the changes of `missed`.
    pub version: u32,
    /// Digest of all that the sender knows of whom boards hear; where it differs, the two exchange it.
    pub digest: u32,
    /// The period after which the next heartbeat to this receiver follows, in milliseconds.
    pub period_ms: u16,
    /// The period that the sender would like to be sent heartbeats at, in milliseconds: short on a lossy way.
    pub wanted_ms: u16,
}

/// What a heartbeat says of its sender beyond being alive. The node fills it in from the other stages; membership
/// keeps it and hands it on unjudged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// Highest term it has seen.
    pub seen: Term,
    /// The lease it acts under, if it leads.
    pub leads: Option<Claim>,
    /// Whether it takes records.
    pub accepts: bool,
    /// How fit it is to lead.
    pub fitness: Fitness,
    /// User duties that it could perform now: bit n stands for the duty at place n.
    pub can: u32,
}

/// A lease as its holder speaks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its term.
    pub term: Term,
    /// How long it still runs, in milliseconds, when the heartbeat is sent.
    pub left_ms: u16,
}

/// How fit a board is to lead; the greater leads rather. Never a reason to refuse a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fitness {
    /// It goes on living, its journal is sound, and it may lead: false while it stops.
    pub eligible: bool,
    /// It has not flapped lately: out of its hold-down.
    pub steady: bool,
    /// It has not failed to reach the region lately.
    pub uplink: bool,
    /// 0 (barely working) to 3 (well): load, memory, heat and disk, with hysteresis.
    pub health: u8,
    /// The operator's preference, 0 to 255; default 0.
    pub priority: u8,
}

impl Default for Fitness {
    fn default() -> Self {
        Self { eligible: true, steady: true, uplink: true, health: 3, priority: 0 }
    }
}

/// What observers have said, passed on: at most [`crate::limits::HEARING_LINES_MAX`] lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hearing {
    /// The newest that the sender knows of some observers.
    pub lines: Vec<HearingLine>,
    /// Asks for all that the receiver knows beyond that.
    pub asks: bool,
}

/// Whom one observer misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HearingLine {
    /// The observer.
    pub observer: BoardId,
    /// In which life.
    pub epoch: Epoch,
    /// Counts its changes of mind.
    pub version: u32,
    /// Boards that it should hear and does not.
    pub missed: BoardSet,
}

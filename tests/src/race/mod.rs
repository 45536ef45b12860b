//! The race of failure detectors: a lean world of detectors alone, 2 to 64 boards, virtual time, one seed a world. The
//! membership that ships and its rival run under the same faults drawn from the same seeds.
//!
//! Bytes are counted as they leave the machine. Ours: 28 (IP, UDP), 27 (QUIC's short header with a connection id of 8, and
//! the tag), 3 (the frame), 1 (our version) and the payload, and 61 for a packet that only acknowledges where nothing
//! else leaves in time. Assumed: acknowledgements are asked for seldom enough (QUIC's acknowledgement frequency) to
//! ride on the heartbeat of the other direction, so lonely are only the answers to what boards that do not observe each
//! other send once a second, and to news without a heartbeat. The rival: 28 and the payload, in the clear.

pub mod heats;
mod ours;
pub mod rival;
mod world;

pub use ours::Ours;
pub use rival::Rival;
pub use world::{Found, Weather, World};

use shared::ids::BoardId;
use shared::membership::Rules;
use shared::time::Instant;

/// What a detector asks of the world, and what it found.
#[derive(Debug)]
pub struct Effects<D> {
    /// To whom, what, and how many bytes of it leave the machine.
    pub sent: Vec<(BoardId, D, u32)>,
    /// A board, and whether it now counts as alive.
    pub found: Vec<(BoardId, bool)>,
    /// Bytes that leave besides.
    pub besides: u32,
}

impl<D> Default for Effects<D> {
    fn default() -> Self {
        Self { sent: Vec::new(), found: Vec::new(), besides: 0 }
    }
}

/// A board as a detector is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Which.
    pub board: BoardId,
    /// Of so many, numbered from 1.
    pub boards: u8,
    /// In which life, from 1.
    pub life: u32,
    /// Its chance.
    pub seed: u64,
    /// Rules that may be broken; the rival passes them over.
    pub rules: Rules,
}

/// One failure detector.
pub trait Detector {
    /// What travels.
    type Datagram: Clone;
    /// How it is set up.
    type Tuning: Clone + Send + Sync;
    /// One that has heard nobody.
    fn start(seat: Seat, tuning: &Self::Tuning, now: Instant, out: &mut Effects<Self::Datagram>) -> Self;
    /// A datagram came.
    fn hear(&mut self, from: BoardId, datagram: &Self::Datagram, now: Instant, out: &mut Effects<Self::Datagram>);
    /// An instant that it asked for has come.
    fn wake(&mut self, now: Instant, out: &mut Effects<Self::Datagram>);
    /// When to wake it.
    fn next(&self) -> Instant;
    /// Whether it counts `board` as alive.
    fn is_alive(&self, board: BoardId) -> bool;
}

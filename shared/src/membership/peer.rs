//! Owns what is known of one other board: the life it was last heard in, what it said, and until when it may be
//! silent. Must not know the other boards.

use core::time::Duration;

use crate::ids::Epoch;
use crate::time::Instant;
use crate::wire::heartbeat::{Heartbeat, Vitals};

/// One other board. The drawing stands above [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Not heard since this process started.
    Unheard,
    /// Heard, and not silent for too long since.
    Alive {
        heard: Heard,
        vitals: Vitals,
        /// Silent until then, it counts as down.
        due: Instant,
    },
    /// Silent for too long.
    Down { heard: Heard },
}

/// The newest heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    epoch: Epoch,
    number: u64,
}

/// What a heartbeat means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing: a newer one was handled before.
    Old,
    /// The board lives on.
    Alive,
    /// It was not alive, and is.
    Up,
    /// It was alive in an earlier life.
    Restarted,
}

impl Peer {
    /// A heartbeat came; the next one is due by `due`.
    pub(super) fn handle_heartbeat(&mut self, heartbeat: &Heartbeat, due: Instant) -> Sign {
        let heard = Heard { epoch: heartbeat.epoch, number: heartbeat.number };
        let sign = self.sign_of(heard);
        if sign != Sign::Old {
            *self = Self::Alive { heard, vitals: heartbeat.vitals, due };
        }
        sign
    }

    /// A living board's lives only rise. One that was silent may come back with any other life than the last: its
    /// disk may have been replaced, and then it counts its starts anew.
    fn sign_of(&self, new: Heard) -> Sign {
        match self {
            Self::Unheard => Sign::Up,
            Self::Alive { heard, .. } if new.epoch == heard.epoch => {
                if new.number > heard.number {
                    Sign::Alive
                } else {
                    Sign::Old
                }
            }
            Self::Alive { heard, .. } => {
                if new.epoch > heard.epoch {
                    Sign::Restarted
                } else {
                    Sign::Old
                }
            }
            Self::Down { heard } => {
                let is_repeated = new.epoch == heard.epoch && new.number <= heard.number;
                if is_repeated { Sign::Old } else { Sign::Up }
            }
        }
    }

    /// A reason to expect the next sign of life by `due`, if not sooner.
    pub(super) fn expect_by(&mut self, by: Instant) {
        match self {
            Self::Alive { due, .. } => *due = by.min(*due),
            Self::Unheard | Self::Down { .. } => {}
        }
    }

    /// We were late by `late`: the board may be, too, but never beyond `latest`.
    pub(super) fn forgive(&mut self, late: Duration, latest: Instant) {
        match self {
            Self::Alive { due, .. } => *due = (*due + late).min(latest).max(*due),
            Self::Unheard | Self::Down { .. } => {}
        }
    }

    /// Counts the board as down where its silence has lasted too long; true where that is new.
    pub(super) fn judge(&mut self, now: Instant) -> bool {
        match *self {
            Self::Alive { heard, due, .. } if now >= due => {
                *self = Self::Down { heard };
                true
            }
            Self::Unheard | Self::Alive { .. } | Self::Down { .. } => false,
        }
    }

    /// When it must be judged.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self {
            Self::Alive { due, .. } => Some(*due),
            Self::Unheard | Self::Down { .. } => None,
        }
    }

    /// What it said of itself, while it counts as alive.
    pub(super) const fn vitals(&self) -> Option<Vitals> {
        match self {
            Self::Alive { vitals, .. } => Some(*vitals),
            Self::Unheard | Self::Down { .. } => None,
        }
    }

    /// The life in which it was last heard.
    pub(super) const fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Alive { heard, .. } | Self::Down { heard } => Some(heard.epoch),
            Self::Unheard => None,
        }
    }
}

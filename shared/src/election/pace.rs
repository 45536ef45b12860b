//! Owns how long a lease the holder asks for and how often it renews: the site's, and more where renewals get lost. Must
//! not ask; voters honour whatever they granted, so that a change here is always safe.

use core::time::Duration;

use crate::config::Timing;
use crate::limits::RENEW_LEAST;
use crate::time::Instant;

/// The holder's pace.
#[derive(Debug)]
pub(super) struct Pace {
    usual: Duration,
    most: Duration,
    renew: Duration,
    near: Duration,
    /// Longest lease that voters are known to be ready for.
    proven: Duration,
}

impl Pace {
    pub(super) fn new(timing: &Timing) -> Self {
        Self {
            usual: timing.lease,
            most: timing.lease_most.max(timing.lease),
            renew: timing.renew,
            near: timing.lease,
            proven: timing.lease,
        }
    }

    /// The lease to ask for. A longer one than before has to be remembered by voters first, which refuse it until then:
    /// every other request asks for what they are ready for.
    pub(super) fn lease(&self, attempt: u64) -> Duration {
        if attempt.is_multiple_of(2) {
            self.near
        } else {
            self.near.min(self.proven)
        }
    }

    /// The lease wanted now.
    pub(super) const fn wanted(&self) -> Duration {
        self.near
    }

    /// Between two renewals.
    pub(super) fn renew(&self) -> Duration {
        if self.near > self.usual {
            (self.renew / 2).max(RENEW_LEAST)
        } else {
            self.renew
        }
    }

    /// The boards extended the lease to `until`, when `left` of it was left.
    pub(super) fn handle_extended(&mut self, left: Duration, until: Instant, now: Instant) {
        self.proven = self.proven.max(until.since(now)).min(self.most);
        if left < self.near / 3 {
            self.lengthen();
        } else {
            let excess = self.near.saturating_sub(self.usual);
            self.near = if excess < self.usual / 16 {
                self.usual
            } else {
                self.near - excess / 256
            };
        }
    }

    /// A lease ran out.
    pub(super) fn lengthen(&mut self) {
        self.near = (self.near * 2).min(self.most);
    }
}

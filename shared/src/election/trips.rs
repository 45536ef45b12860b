//! Owns how long each voter takes to answer, measured by this board's own requests. Decides nothing.

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use crate::ids::{VoterId, VoterSet};
use crate::limits::{LEASE_REQUESTS_MAX, ROUND_TRIP_GUESS, ROUND_TRIP_MOST};
use crate::time::Instant;

/// Round trips: at once what is slower, slowly what is faster.
#[derive(Debug, Default)]
pub(super) struct Trips {
    sent: VecDeque<(u64, Instant)>,
    measured: BTreeMap<VoterId, Duration>,
}

impl Trips {
    /// A request leaves at `now`.
    pub(super) fn handle_sent(&mut self, attempt: u64, now: Instant) {
        if self.sent.len() == LEASE_REQUESTS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((attempt, now));
    }

    /// `voter` answered it.
    pub(super) fn handle_answer(&mut self, voter: VoterId, attempt: u64, now: Instant) {
        let Some((_, at)) = self.sent.iter().find(|(sent, _)| *sent == attempt) else {
            return;
        };
        let took = now.since(*at).min(ROUND_TRIP_MOST);
        let known = self.measured.entry(voter).or_insert(took);
        *known = took.max((*known * 7 + took) / 8);
    }

    /// To `voter` and back.
    pub(super) fn to(&self, voter: VoterId) -> Duration {
        self.measured.get(&voter).copied().unwrap_or(ROUND_TRIP_GUESS)
    }

    /// To the `count` nearest of `voters` and back.
    pub(super) fn to_nearest(&self, count: usize, voters: VoterSet) -> Duration {
        let mut trips: alloc::vec::Vec<Duration> = voters.iter().map(|voter| self.to(voter)).collect();
        trips.sort_unstable();
        trips
            .get(count.saturating_sub(1))
            .or(trips.last())
            .copied()
            .unwrap_or(Duration::ZERO)
    }
}

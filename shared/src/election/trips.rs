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

    /// Nothing is asked any more. An answer that comes all the same was held up by what ended it, a cut or a process that
    /// stood still, and tells nothing of the way.
    pub(super) fn forget_sent(&mut self) {
        self.sent.clear();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BoardId;

    #[test]
    fn what_a_cut_held_up_is_no_round_trip() {
        let (mut trips, voter) = (Trips::default(), VoterId::from(BoardId::new(2).unwrap()));
        let at = |millis: u64| Instant::from_micros(1_000_000 + millis * 1000);
        trips.handle_sent(1, at(0));
        trips.handle_answer(voter, 1, at(2));
        trips.handle_sent(2, at(50));
        trips.forget_sent();
        trips.handle_answer(voter, 2, at(1_250));
        assert_eq!(trips.to(voter), Duration::from_millis(2));
        trips.handle_sent(3, at(1_300));
        trips.handle_answer(voter, 3, at(1_304));
        assert_eq!(trips.to(voter), Duration::from_millis(4));
    }
}

//! Owns how long a lease runs: requests sent under one term, what each voter acknowledged of them, and the rule that
//! makes an end of it. Must not send, and knows no campaign.

use alloc::collections::{BTreeMap, VecDeque};

use super::rules::{Rule, Rules};
use crate::ids::{BoardId, BoardSet, Term};
use crate::limits::{LEASE_GUARD, LEASE_REQUESTS_MAX};
use crate::time::Instant;

/// A lease that a majority stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) term: Term,
    pub(super) valid_until: Instant,
}

impl Lease {
    /// Whether its holder may act: until [`LEASE_GUARD`] before its end.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        now + LEASE_GUARD < self.valid_until
    }

    /// From when on its holder may not act.
    pub(super) fn ends(&self) -> Instant {
        let guard = u64::try_from(LEASE_GUARD.as_micros()).unwrap_or(u64::MAX);
        Instant::from_micros(self.valid_until.micros().saturating_sub(guard))
    }
}

/// The requests of one term and their acknowledgements.
#[derive(Debug)]
pub(super) struct Pursuit {
    term: Term,
    /// Attempts and when they were sent, oldest first: the newest [`LEASE_REQUESTS_MAX`]. The answer to an older
    /// one extends nothing.
    sent: VecDeque<(u64, Instant)>,
    /// When the newest request that each voter acknowledged was sent.
    acknowledged: BTreeMap<BoardId, Instant>,
    rules: Rules,
}

impl Pursuit {
    pub(super) const fn new(term: Term, rules: Rules) -> Self {
        Self { term, sent: VecDeque::new(), acknowledged: BTreeMap::new(), rules }
    }

    pub(super) const fn term(&self) -> Term {
        self.term
    }

    /// A request leaves at `now`.
    pub(super) fn handle_sent(&mut self, attempt: u64, now: Instant) {
        if self.sent.len() == LEASE_REQUESTS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((attempt, now));
    }

    /// When `attempt` was sent, if it is one of the newest requests of this term.
    pub(super) fn sent_at(&self, attempt: u64) -> Option<Instant> {
        let known = self.sent.iter().find(|(sent, _)| *sent == attempt)?;
        Some(known.1)
    }

    /// `voter` acknowledged `attempt`; false where that says nothing.
    pub(super) fn handle_granted(&mut self, voter: BoardId, attempt: u64, now: Instant) -> bool {
        let Some(sent) = self.sent_at(attempt) else {
            return false;
        };
        let from = if self.rules.keep(Rule::LeaseFromSend) { sent } else { now };
        let newest = self.acknowledged.entry(voter).or_insert(from);
        *newest = from.max(*newest);
        true
    }

    /// The voters that acknowledged.
    pub(super) fn granted(&self) -> BoardSet {
        self.acknowledged.keys().copied().collect()
    }

    /// The newest instant from which on `quorum` voters stand behind this term: each acknowledged a request that was
    /// sent then or later, and holds no other grant until that request's lease is over.
    pub(super) fn backed_since(&self, quorum: usize) -> Option<Instant> {
        let mut sent: alloc::vec::Vec<Instant> = self.acknowledged.values().copied().collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        sent.get(quorum.checked_sub(1)?).copied()
    }
}

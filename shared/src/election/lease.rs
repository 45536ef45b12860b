//! Owns how long a lease runs: requests sent under one term, what each voter acknowledged of them, and the rule that
//! makes an end of it. Must not send, and knows no campaign.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::rules::{Rule, Settings};
use crate::ids::{Term, VoterId, VoterSet, Voters};
use crate::limits::LEASE_REQUESTS_MAX;
use crate::time::Instant;

/// A lease that a majority stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    /// Its term.
    pub(crate) term: Term,
    /// Its very end.
    pub(crate) valid_until: Instant,
}

impl Lease {
    /// From when on its holder may not act: the guard before its end.
    pub(super) fn ends(&self, settings: &Settings) -> Instant {
        let guard = super::durable::micros(settings.guard);
        Instant::from_micros(self.valid_until.micros().saturating_sub(guard))
    }

    /// Whether its holder may act.
    pub(super) fn is_held(&self, now: Instant, settings: &Settings) -> bool {
        now < self.ends(settings)
    }
}

/// How long leases a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spans {
    /// Of boards.
    pub(crate) near: Duration,
    /// Of witnesses.
    pub(crate) far: Duration,
}

impl Spans {
    /// Of `voter`.
    pub(super) const fn of(&self, voter: VoterId) -> Duration {
        if voter.board().is_some() { self.near } else { self.far }
    }
}

/// One request, sent to several voters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sent {
    attempt: u64,
    at: Instant,
    asked: VoterSet,
    spans: Spans,
}

/// The requests of one term and their acknowledgements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pursuit {
    term: Term,
    /// Who is counted.
    voters: Voters,
    /// Requests, oldest first: the newest [`LEASE_REQUESTS_MAX`]. The answer to an older one extends nothing.
    sent: VecDeque<Sent>,
    /// Until when each voter stands behind this term, by the clock here: when the request was sent that it
    /// acknowledged, and the lease that was asked of it.
    backed: BTreeMap<VoterId, Instant>,
    /// Voters for whom nothing that they granted before this term can still run.
    clear: VoterSet,
    /// Answers of a voter to this attempt or an older one are not counted: it was told to forget them.
    waived: BTreeMap<VoterId, u64>,
    settings: Settings,
}

impl Pursuit {
    pub(super) const fn new(term: Term, voters: Voters, settings: Settings) -> Self {
        Self {
            term,
            voters,
            sent: VecDeque::new(),
            backed: BTreeMap::new(),
            clear: VoterSet::EMPTY,
            waived: BTreeMap::new(),
            settings,
        }
    }

    pub(super) const fn term(&self) -> Term {
        self.term
    }

    pub(super) const fn voters(&self) -> Voters {
        self.voters
    }

    /// From now on these are counted.
    pub(super) fn count_by(&mut self, voters: Voters) {
        self.voters = voters;
    }

    /// A request leaves at `now`.
    pub(super) fn handle_sent(&mut self, attempt: u64, asked: VoterSet, spans: Spans, now: Instant) {
        if self.sent.len() == LEASE_REQUESTS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { attempt, at: now, asked, spans });
    }

    /// The request, if it was sent to `voter` and is one of the newest of this term.
    fn find(&self, voter: VoterId, attempt: u64) -> Option<&Sent> {
        self.sent
            .iter()
            .find(|sent| sent.attempt == attempt && sent.asked.contains(voter))
    }

    /// `voter` acknowledged `attempt`; false where that says nothing.
    pub(super) fn handle_granted(&mut self, voter: VoterId, attempt: u64, now: Instant) -> bool {
        if self.waived.get(&voter).is_some_and(|waived| attempt <= *waived) {
            return false;
        }
        let Some(sent) = self.find(voter, attempt) else {
            return false;
        };
        let from = if self.settings.rules.keep(Rule::LeaseFromSend) {
            sent.at
        } else {
            now
        };
        let until = from + sent.spans.of(voter);
        let newest = self.backed.entry(voter).or_insert(until);
        *newest = until.max(*newest);
        true
    }

    /// `voter` said so with its answer to `attempt`.
    pub(super) fn handle_clear(&mut self, voter: VoterId, attempt: u64) {
        if self.find(voter, attempt).is_some() {
            self.clear.insert(voter);
        }
    }

    /// Whether no lease of an earlier term, nor anything done under one, can still run: each such lease was backed by a
    /// majority, and so by one of these.
    pub(super) fn is_clear(&self) -> bool {
        let clear = self.clear.iter().filter(|voter| self.voters.set.contains(*voter)).count();
        clear >= quorum(&self.voters, &self.settings)
    }

    /// Nothing that `voter` acknowledged so far counts any more; the newest attempt of these.
    pub(super) fn waive(&mut self, voter: VoterId) -> u64 {
        let newest = self.sent.back().map_or(0, |sent| sent.attempt);
        if self.settings.rules.keep(Rule::StopThenWaive) {
            self.backed.remove(&voter);
            self.waived.insert(voter, newest);
        }
        newest
    }

    /// Whether a voter was told to forget.
    #[cfg(test)]
    pub(super) fn has_waived(&self) -> bool {
        !self.waived.is_empty()
    }

    /// For the model: time counts from `now` on, which becomes `base`, and what is over is all one.
    #[cfg(test)]
    pub(super) fn rebase(&mut self, now: Instant, base: Instant) {
        let longest = |sent: &Sent| sent.spans.near.max(sent.spans.far);
        self.sent.retain(|sent| sent.at + longest(sent) > now);
        for sent in &mut self.sent {
            sent.at = Instant::from_micros(base.micros() - now.since(sent.at).as_micros() as u64);
        }
        self.backed.retain(|_, until| *until > now);
        self.backed.values_mut().for_each(|until| *until = base + until.since(now));
        self.clear = VoterSet::EMPTY;
    }

    /// For the model: whether an answer to `attempt` would count.
    #[cfg(test)]
    pub(super) fn awaits(&self, voter: VoterId, term: Term, attempt: u64) -> bool {
        let is_waived = self.waived.get(&voter).is_some_and(|waived| attempt <= *waived);
        term == self.term && !is_waived && self.find(voter, attempt).is_some()
    }

    /// Until when `voter` stands behind this term.
    pub(super) fn backed_until(&self, voter: VoterId) -> Option<Instant> {
        self.backed.get(&voter).copied()
    }

    /// Until when a majority of `voters` stands behind this term, those in `without` not counted.
    pub(super) fn end(&self, voters: &Voters, without: VoterSet) -> Option<Instant> {
        let counts = |voter: &VoterId| voters.set.contains(*voter) && !without.contains(*voter);
        let backed = self.backed.iter().filter(|(voter, _)| counts(voter));
        let mut ends: Vec<Instant> = backed.map(|(_, until)| *until).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(quorum(voters, &self.settings).checked_sub(1)?).copied()
    }
}

/// How many of `voters` a lease needs.
pub(super) fn quorum(voters: &Voters, settings: &Settings) -> usize {
    if settings.rules.keep(Rule::Majority) { voters.quorum() } else { 1 }
}

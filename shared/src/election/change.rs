//! Owns how it changes who votes while the site runs, one voter a step, so that at every instant all majorities that
//! could back a lease share a voter. Must not decide who is to vote: an operator wishes it.
//!
//! The rule (after MongoDB's reconfiguration without a log, Schultz et al. 2021, whose decisions are ordered likewise):
//!
//! 1. A decision carries the term of the leader that made it and a step within the term; a later one has the higher pair.
//!    Voters keep the latest on disk, and grant nothing to who counts by an earlier one.
//! 2. Only a leader with a live lease decides. A voter takes a decision in only while it has no live grant to another
//!    board, does not abstain, and has promised no higher term.
//! 3. Its first decision under a term is the set of voters that it was elected by. Once a majority of these remember it,
//!    whatever an earlier leader decided and did not complete can win no majority any more: any two sets that differ
//!    from a common one by one voter share a voter with every majority of that one.
//! 4. Each further decision adds or removes one voter. The leader goes on counting by the old set, until a majority of
//!    the old and a majority of the new set remember the new one, and the new one carries the lease as far as the old
//!    one did. Only then it counts by it, and only then may it decide again.
//!    One that comes has met a leader before: until then it grants nothing.
//! 5. A candidate counts by the latest decision on its own disk, complete or not: its majorities share a voter with those
//!    of the decision before, and by 3 with everything else that can still win.

use super::Output;
use super::core::Core;
use super::lease::quorum;
use super::rules::Rule;
use crate::ids::{VoterId, VoterSet, Voters};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::election::ElectionMessage;

/// A decision on its way to the voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Change {
    pub(super) decision: Voters,
    pub(super) stored: VoterSet,
    /// Counted by already; those that have not remembered it are still told.
    pub(super) complete: bool,
}

impl Core {
    /// From now on these are to vote; this board leads and is among them. Carried on step by step in
    /// [`Core::decide`].
    pub(crate) fn wish(&mut self, voters: VoterSet) {
        self.wished = Some(voters);
    }

    /// Makes the next decision towards what is wished, if it is time for one, and tells the voters.
    pub(crate) fn decide(&mut self, now: Instant, out: &mut Outbox<Output>) -> bool {
        let is_busy = self.change.is_some_and(|change| !change.complete);
        if self.holds(now).is_none() || (is_busy && self.settings.rules.keep(Rule::OneChange)) {
            return false;
        }
        let Some(decision) = self.next_decision() else { return false };
        // Until a newcomer has met a leader it grants nothing, and would only raise the number of votes that are needed.
        let counted = self.voters().set;
        if let Some(comes) = decision.set.iter().find(|voter| !counted.contains(*voter))
            && !self.is_member(comes, now, out)
        {
            return false;
        }
        self.stated = decision;
        self.change = Some(Change { decision, stored: VoterSet::EMPTY, complete: false });
        self.propose(now, out);
        if !self.settings.rules.keep(Rule::OneChange) {
            self.decide(now, out);
        }
        true
    }

    fn next_decision(&mut self) -> Option<Voters> {
        let wished = self.wished?;
        let pursuit = self.pursuit.as_ref()?;
        let (term, counted) = (pursuit.term(), pursuit.voters());
        // A mutant decides on top of what is under way; otherwise nothing is.
        let last = self.change.map_or(counted, |change| change.decision);
        if last.set == wished {
            self.wished = None;
            return None;
        }
        let is_own = last.decided_in() == term;
        if !is_own && self.settings.rules.keep(Rule::ChangeAfterOwn) {
            return Some(Voters { version: Voters::version_of(term, 1), set: last.set });
        }
        let step = if is_own {
            u8::try_from(last.version & 0xff).ok()?.checked_add(1)?
        } else {
            1
        };
        Some(Voters { version: Voters::version_of(term, step), set: one_step(last.set, wished) })
    }

    /// Tells the decision under way to every voter, old or new, that has not remembered it.
    pub(crate) fn propose(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let (Some(change), Some(pursuit)) = (self.change, &self.pursuit) else {
            return;
        };
        let (term, voters) = (pursuit.term(), change.decision);
        let both = voters.set.iter().chain(pursuit.voters().set.iter());
        let missing = both.filter(|voter| !change.stored.contains(*voter)).collect();
        self.tell(missing, &ElectionMessage::Propose { term, voters }, out);
        if missing.contains(self.me.into())
            && let Some(ElectionMessage::Stored { term, version }) = self.voter.handle_propose(term, voters, now)
        {
            self.handle_stored(self.me.into(), term, version, now, out);
        }
        self.remember(now, out);
    }

    /// `voter` remembers a decision.
    pub(super) fn handle_stored(
        &mut self,
        voter: VoterId,
        term: crate::ids::Term,
        version: u64,
        now: Instant,
        out: &mut Outbox<Output>,
    ) {
        let is_current = self.pursuit.as_ref().is_some_and(|pursuit| pursuit.term() == term);
        if let Some(change) = self
            .change
            .as_mut()
            .filter(|change| is_current && change.decision.version == version)
        {
            change.stored.insert(voter);
            self.complete_change(now, out);
        }
    }

    /// Counts by the decision under way, once enough voters remember it and it carries the lease as far as before.
    pub(super) fn complete_change(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let (Some(change), Some(pursuit), Some(lease)) = (&mut self.change, &mut self.pursuit, self.lease) else {
            return;
        };
        let stored_by = |voters: &Voters| voters.set.iter().filter(|voter| change.stored.contains(*voter)).count();
        let both = [pursuit.voters(), change.decision];
        let is_stored = both.iter().all(|voters| stored_by(voters) >= quorum(voters, &self.settings))
            || !self.settings.rules.keep(Rule::ChangeByMajority);
        let end = pursuit.end(&change.decision, VoterSet::EMPTY);
        let carries = lease.term == pursuit.term() && end >= Some(lease.valid_until);
        if change.complete || !is_stored || !carries || !lease.is_held(now, &self.settings) {
            return;
        }
        change.complete = true;
        pursuit.count_by(change.decision);
        self.decide(now, out);
    }

    /// A voter remembers a later decision than this board counts by: a candidate takes it in. A leader, elected after
    /// that decision was begun and before it was complete, says its own, which is later still.
    pub(super) fn handle_voters(&mut self, voters: Voters, now: Instant, out: &mut Outbox<Output>) {
        let Some(pursuit) = self.pursuit.as_ref().filter(|_| self.lease.is_some()) else {
            self.voter.handle_voters(voters);
            return;
        };
        let own = Voters { version: Voters::version_of(pursuit.term(), 1), set: pursuit.voters().set };
        if voters.version < own.version && self.change.is_none() && self.holds(now).is_some() {
            self.stated = own;
            self.change = Some(Change { decision: own, stored: VoterSet::EMPTY, complete: false });
            self.propose(now, out);
        }
    }
}

/// `from` with one voter more or less, on the way to `to`: first all that come, then all that go, so that no step has
/// fewer voters than both.
fn one_step(from: VoterSet, to: VoterSet) -> VoterSet {
    let mut next = from;
    if let Some(comes) = to.iter().find(|voter| !from.contains(*voter)) {
        next.insert(comes);
    } else if let Some(goes) = from.iter().find(|voter| !to.contains(*voter)) {
        next.remove(goes);
    }
    next
}

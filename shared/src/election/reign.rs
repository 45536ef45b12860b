//! Owns how a leader keeps its lease: renewals, the witness's help and its end, reminders of who votes. Must not judge
//! how long the lease runs (the core does).

use super::campaign::Campaign;
use super::lease::{Lease, Pursuit, Spans};
use super::voter::Verdict;
use super::{Election, Output};
use crate::ids::{VoterId, VoterSet};
use crate::limits::{REMIND_VOTERS, WAIVE_AFTER};
use crate::outbox::Outbox;
use crate::time::Instant;

/// What a leader remembers between renewals.
#[derive(Debug)]
pub(super) struct Reign {
    /// When the next request leaves.
    pub(super) renew_at: Instant,
    /// Renewals sent.
    count: u32,
    /// Successive renewals that the boards alone carried.
    carried: u32,
    /// Times that witnesses are still told that they are not counted on.
    waives: u32,
    /// When witnesses were last asked.
    witness_at: Option<Instant>,
}

impl Reign {
    pub(super) const fn new(renew_at: Instant) -> Self {
        Self { renew_at, count: 0, carried: 0, waives: WAIVE_AFTER, witness_at: None }
    }
}

impl Election {
    /// The renewal's time has come.
    pub(super) fn renew(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if let Campaign::Lead(reign) = &mut self.campaign {
            reign.renew_at = now + self.pace.renew();
        }
        let Some(pursuit) = &self.core.pursuit else { return };
        let asked = pursuit.voters().set.iter().chain(self.core.stated.set.iter());
        let (witnesses, mut whom): (VoterSet, VoterSet) = partition(asked.collect());
        let is_short = self.is_short(pursuit, witnesses, now);
        let before = self.core.lease;
        let spans = Spans { near: self.pace.lease(self.core.attempt + 1), far: self.timing.witness_lease };
        let cold: alloc::vec::Vec<VoterId> =
            witnesses.iter().filter(|witness| self.needs(pursuit, *witness, now)).collect();
        let Campaign::Lead(reign) = &mut self.campaign else { return };
        reign.count = reign.count.wrapping_add(1);
        if is_short {
            reign.carried = 0;
            reign.waives = WAIVE_AFTER;
            let waited = reign.witness_at.is_none_or(|at| now.since(at) >= self.timing.renew * 2);
            if waited && !cold.is_empty() {
                reign.witness_at = Some(now);
                cold.iter().for_each(|witness| {
                    whom.insert(*witness);
                });
            }
        } else {
            reign.carried = reign.carried.saturating_add(1);
        }
        let reminds = reign.count.is_multiple_of(REMIND_VOTERS);
        self.trips.handle_sent(self.core.attempt + 1, now);
        let own = self.core.request(whom, spans, now, out);
        self.note_extension(before, now);
        if self.core.change.is_some_and(|change| !change.complete || reminds) {
            self.core.propose(now, out);
        }
        self.core.decide(now, out);
        if let Some(verdict) = own {
            let term = self.core.pursuit.as_ref().map(Pursuit::term);
            self.handle_renewal_answer(term.unwrap_or_default(), verdict, now, out);
        }
    }

    /// Whether the boards alone do not carry the lease far enough.
    fn is_short(&self, pursuit: &Pursuit, witnesses: VoterSet, now: Instant) -> bool {
        let counted = pursuit.end(&pursuit.voters(), witnesses);
        let coming = self.core.change.filter(|change| !change.complete).map(|change| change.decision);
        let end = coming.map_or(counted, |voters| counted.min(pursuit.end(&voters, witnesses)));
        let left = end.map_or(core::time::Duration::ZERO, |end| end.since(now));
        let (near, renew) = (self.pace.wanted(), self.timing.renew);
        let slowest = witnesses.iter().map(|witness| self.trips.to(witness)).max().unwrap_or_default();
        // Half of the lease; sooner where a witness is far away, but never after a single renewal that is merely late.
        let soon = (slowest + renew * 2).min(near.saturating_sub(renew + renew / 2));
        left < soon.max(near / 2)
    }

    fn needs(&self, pursuit: &Pursuit, witness: VoterId, now: Instant) -> bool {
        let until = pursuit.backed_until(witness);
        until.is_none_or(|until| until.since(now) < self.timing.witness_lease / 2)
    }

    /// A voter's answer to a renewal. Where it has promised more, this leader takes a higher term.
    pub(super) fn handle_renewal_answer(
        &mut self,
        term: crate::ids::Term,
        verdict: Verdict,
        now: Instant,
        out: &mut Outbox<Output>,
    ) {
        let Verdict::Denied { promised, remaining, .. } = verdict else {
            return self.waive_witnesses(out);
        };
        let is_present = self.core.pursuit.as_ref().is_some_and(|pursuit| pursuit.term() == term);
        if is_present && promised > term && remaining.is_zero() && self.core.raise() {
            self.renew(now, out);
        }
    }

    /// The boards have carried the lease for a while: a witness's grant would only be in the way of the next leader.
    /// Told several times, since a datagram may be lost.
    fn waive_witnesses(&mut self, out: &mut Outbox<Output>) {
        let Some(pursuit) = &self.core.pursuit else { return };
        let Campaign::Lead(reign) = &mut self.campaign else { return };
        if reign.carried < WAIVE_AFTER * (1 + WAIVE_AFTER - reign.waives) || reign.waives == 0 {
            return;
        }
        let (witnesses, _) = partition(pursuit.voters().set);
        let mut told = false;
        for witness in witnesses.iter() {
            told |= self.core.waive(witness, out);
        }
        if told && let Campaign::Lead(reign) = &mut self.campaign {
            reign.waives -= 1;
        }
    }

    /// The lease runs longer than `before`: the pace learns how near its end it was.
    pub(super) fn note_extension(&mut self, before: Option<Lease>, now: Instant) {
        let (Some(before), Some(lease)) = (before, self.core.lease) else { return };
        let Some(pursuit) = &self.core.pursuit else { return };
        let (witnesses, _) = partition(pursuit.voters().set);
        let by_boards = pursuit.end(&pursuit.voters(), witnesses) >= Some(lease.valid_until);
        if by_boards && before.term == lease.term && before.valid_until < lease.valid_until {
            self.pace.handle_extended(before.valid_until.since(now), lease.valid_until, now);
        }
    }
}

/// Witnesses and boards apart.
fn partition(voters: VoterSet) -> (VoterSet, VoterSet) {
    let (boards, witnesses): (alloc::vec::Vec<VoterId>, alloc::vec::Vec<VoterId>) =
        voters.iter().partition(|voter| voter.board().is_some());
    (witnesses.into_iter().collect(), boards.into_iter().collect())
}

//! Owns the way of one candidate: when it tries, whom it asks, when it gives up, and how a holder renews. Must not
//! judge a request: its own vote is asked like the others'.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::lease::{Lease, Pursuit};
use super::rules::Rule;
use super::voter::Verdict;
use super::{Election, Output};
use crate::ids::{BoardId, BoardSet, Term};
use crate::limits::{CAMPAIGN_DOUBLINGS_MAX, CAMPAIGN_SENDS, CAMPAIGN_STAGGER};
use crate::outbox::Outbox;
use crate::time::{Deadline, Instant};
use crate::wire::election::{Acquire, ElectionMessage};

/// Where the campaign is. The drawing stands above [`super`].
#[derive(Debug)]
pub(super) enum Campaign {
    /// Another board leads, or nobody could be elected.
    Follow,
    /// Until it is this board's turn.
    Wait(Wait),
    /// Asks what the voters would say.
    Trial(Round),
    /// Asks for their grants.
    Ask(Round),
    /// Holds the lease and renews it.
    Lead {
        /// The term renewed: that of the lease, or a higher one on the way.
        pursuit: Pursuit,
        /// When the next request leaves.
        renew_at: Instant,
    },
}

/// A pause before a campaign.
#[derive(Debug)]
pub(super) struct Wait {
    at: Instant,
    /// Not sooner than this, whatever the own vote does: by then a majority could be free.
    retry_after: Instant,
    /// When the own vote is free, as known when `at` was set.
    own_free: Instant,
}

/// Requests of one campaign and their answers.
#[derive(Debug)]
pub(super) struct Round {
    pursuit: Pursuit,
    /// Who refused, and from when on it may not.
    refused: BTreeMap<BoardId, Instant>,
    resend_at: Instant,
    sends_left: u32,
}

impl Campaign {
    /// The state's name on the status page.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Follow => "follow",
            Self::Wait(_) => "wait",
            Self::Trial(_) => "trial",
            Self::Ask(_) => "ask",
            Self::Lead { .. } => "lead",
        }
    }

    pub(super) const fn next_deadline(&self) -> Deadline {
        match self {
            Self::Follow => Deadline::NONE,
            Self::Wait(wait) => Deadline { at: wait.at, why: "this board's turn to campaign" },
            Self::Trial(round) => Deadline { at: round.resend_at, why: "voters say what they would grant" },
            Self::Ask(round) => Deadline { at: round.resend_at, why: "voters grant the lease" },
            Self::Lead { renew_at, .. } => Deadline { at: *renew_at, why: "the lease is renewed" },
        }
    }
}

impl Election {
    /// The campaign's own deadline, if it has come.
    pub(super) fn handle_campaign_deadline(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if now < self.campaign.next_deadline().at {
            return;
        }
        match &mut self.campaign {
            Campaign::Follow => {}
            Campaign::Wait(_) => self.begin_trial(now, out),
            Campaign::Trial(round) | Campaign::Ask(round) => {
                if round.sends_left == 0 {
                    self.fail(now, out);
                } else {
                    round.sends_left -= 1;
                    round.resend_at = now + self.site.renew;
                    self.send_requests(now, out);
                }
            }
            Campaign::Lead { renew_at, .. } => {
                *renew_at = now + self.site.renew;
                self.send_requests(now, out);
            }
        }
    }

    /// A voter's answer to one of this board's requests; anything else is passed over.
    pub(super) fn handle_verdict(
        &mut self,
        voter: BoardId,
        (term, attempt): (Term, u64),
        verdict: Verdict,
        now: Instant,
        out: &mut Outbox<Output>,
    ) {
        let pursuit = match &mut self.campaign {
            Campaign::Follow | Campaign::Wait(_) => return,
            Campaign::Trial(round) | Campaign::Ask(round) => &mut round.pursuit,
            Campaign::Lead { pursuit, .. } => pursuit,
        };
        if pursuit.term() != term || pursuit.sent_at(attempt).is_none() {
            return;
        }
        match verdict {
            Verdict::Granted => {
                pursuit.handle_granted(voter, attempt, now);
                self.count(now, out);
            }
            Verdict::Denied { promised, remaining } => {
                self.handle_refusal(voter, promised, remaining, now, out);
            }
        }
    }

    fn handle_refusal(
        &mut self,
        voter: BoardId,
        promised: Term,
        remaining: Duration,
        now: Instant,
        out: &mut Outbox<Output>,
    ) {
        match &mut self.campaign {
            Campaign::Follow | Campaign::Wait(_) => {}
            Campaign::Trial(round) | Campaign::Ask(round) => {
                round.refused.insert(voter, now + remaining);
                let granted = round.pursuit.granted();
                let lost = round.refused.keys().filter(|voter| !granted.contains(**voter)).count();
                if self.site.voters.len() - lost < self.quorum() {
                    self.fail(now, out);
                }
            }
            Campaign::Lead { pursuit, .. } => {
                if promised > pursuit.term() && remaining.is_zero() {
                    self.raise(now, out);
                }
            }
        }
    }

    /// Counts the answers, and moves on where they suffice.
    fn count(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let quorum = self.quorum();
        let pursuit = match &self.campaign {
            Campaign::Follow | Campaign::Wait(_) => return,
            Campaign::Trial(round) => {
                if round.pursuit.granted().len() >= quorum {
                    let term = round.pursuit.term();
                    self.campaign = Campaign::Ask(self.new_round(term, now));
                    self.send_requests(now, out);
                }
                return;
            }
            Campaign::Ask(round) => &round.pursuit,
            Campaign::Lead { pursuit, .. } => pursuit,
        };
        let Some(since) = pursuit.backed_since(quorum) else {
            return;
        };
        let won = Lease { term: pursuit.term(), valid_until: since + self.site.lease };
        if won.is_held(now) {
            self.take(won, now, out);
        }
    }

    /// A majority backs `won`: a new lease, a longer one, or the same under a higher term.
    fn take(&mut self, won: Lease, now: Instant, out: &mut Outbox<Output>) {
        let before = self.lease.replace(won);
        if let Some(old) = before {
            if old.term == won.term {
                return;
            }
            out.push(Output::Lost { term: old.term, released: false });
        }
        out.push(Output::Acquired { term: won.term });
        let campaign = core::mem::replace(&mut self.campaign, Campaign::Follow);
        self.campaign = match campaign {
            Campaign::Ask(round) => Campaign::Lead { pursuit: round.pursuit, renew_at: now + self.site.renew },
            Campaign::Follow | Campaign::Wait(_) | Campaign::Trial(_) | Campaign::Lead { .. } => campaign,
        };
    }

    /// Takes a higher term while the lease runs, because a voter has promised more than the present one: it
    /// restarted, and has abstained long enough for all to put a higher ceiling on disk. The other voters hold this board's grant already, so nobody can come between.
    fn raise(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let term = self.terms.next();
        if !self.terms.is_usable(term) {
            return;
        }
        self.campaign = Campaign::Lead { pursuit: Pursuit::new(term, self.rules), renew_at: now + self.site.renew };
        self.send_requests(now, out);
    }

    fn begin_trial(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let term = self.terms.next();
        let is_free = self.voter.free_for(self.site.me, now) <= now;
        if !is_free || !self.terms.is_usable(term) {
            self.wait(now + self.site.renew, now);
            return;
        }
        self.campaign = Campaign::Trial(self.new_round(term, now));
        self.send_requests(now, out);
    }

    fn new_round(&self, term: Term, now: Instant) -> Round {
        Round {
            pursuit: Pursuit::new(term, self.rules),
            refused: BTreeMap::new(),
            resend_at: now + self.site.renew,
            sends_left: CAMPAIGN_SENDS - 1,
        }
    }

    /// Sends the next request of the present term to all voters; the own vote answers at once.
    fn send_requests(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let (pursuit, trial) = match &mut self.campaign {
            Campaign::Follow | Campaign::Wait(_) => return,
            Campaign::Trial(round) => (&mut round.pursuit, true),
            Campaign::Ask(round) => (&mut round.pursuit, false),
            Campaign::Lead { pursuit, .. } => (pursuit, false),
        };
        self.attempt += 1;
        let term = pursuit.term();
        let attempt = self.attempt;
        pursuit.handle_sent(attempt, now);
        let lease_micros = u64::try_from(self.site.lease.as_micros()).unwrap_or(u64::MAX);
        let acquire = Acquire { term, attempt, lease_micros, trial, life: 0, voters: 1, released: None };
        self.tell_voters(&ElectionMessage::Acquire(acquire), out);
        if !trial {
            self.terms.take(term);
        }
        let verdict = self.voter.handle_acquire(&acquire, &self.terms, now);
        self.handle_verdict(self.site.me, (term, attempt), verdict, now, out);
    }

    /// A round is lost: gives back what it got, and tries again when a majority could be free.
    fn fail(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let (round, is_trial) = match core::mem::replace(&mut self.campaign, Campaign::Follow) {
            Campaign::Trial(round) => (round, true),
            Campaign::Ask(round) => (round, false),
            other @ (Campaign::Follow | Campaign::Wait(_) | Campaign::Lead { .. }) => {
                self.campaign = other;
                return;
            }
        };
        let retry_after = self.majority_free(&round, now);
        if !is_trial {
            self.release(round.pursuit.term(), out);
        }
        self.failures = self.failures.saturating_add(1);
        self.wait(retry_after, now);
    }

    /// From when on a majority could grant, by what the voters said; `now` where too few answered to tell.
    fn majority_free(&self, round: &Round, now: Instant) -> Instant {
        let granted = round.pursuit.granted();
        let mut free: alloc::vec::Vec<Instant> = granted.iter().map(|_| now).collect();
        let refused = round.refused.iter().filter(|(voter, _)| !granted.contains(**voter));
        free.extend(refused.map(|(_, free_at)| *free_at));
        free.sort_unstable();
        let latest = now + super::voter::patience(self.site.lease);
        free.get(self.quorum() - 1).map_or(now, |at| (*at).clamp(now, latest))
    }

    /// Waits for this board's turn: the own vote free, `retry_after` past, and the candidates of lower rank first.
    fn wait(&mut self, retry_after: Instant, now: Instant) {
        let own_free = self.voter.free_for(self.site.me, now);
        let at = own_free.max(retry_after).max(self.rests_until) + self.pause();
        self.campaign = Campaign::Wait(Wait { at, retry_after, own_free });
    }

    /// Rank among the voters heard, in steps of [`CAMPAIGN_STAGGER`], and a random part that grows with failures.
    fn pause(&mut self) -> Duration {
        let before = self.heard().iter().take_while(|board| *board != self.site.me).count();
        let steps = u32::try_from(before).unwrap_or(u32::MAX);
        let spread = CAMPAIGN_STAGGER * (1 << self.failures.min(CAMPAIGN_DOUBLINGS_MAX)) / 4;
        CAMPAIGN_STAGGER.saturating_mul(steps) + self.jitter.below(spread)
    }

    /// Something that a waiting campaign waited for may have come.
    pub(super) fn hasten(&mut self, now: Instant) {
        if matches!(self.campaign, Campaign::Wait(_)) {
            self.wait(now, now);
        }
    }

    /// Starts, keeps or ends the campaign, as view and own vote ask for.
    pub(super) fn settle_campaign(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let may_run = self.may_run();
        match &self.campaign {
            Campaign::Follow => {
                if may_run {
                    self.wait(now, now);
                }
            }
            Campaign::Wait(wait) => {
                if !may_run {
                    self.campaign = Campaign::Follow;
                } else if self.voter.free_for(self.site.me, now) > wait.own_free.max(now) {
                    let retry_after = wait.retry_after;
                    self.wait(retry_after, now);
                }
            }
            Campaign::Trial(_) => {
                if !may_run {
                    self.campaign = Campaign::Follow;
                }
            }
            Campaign::Ask(round) => {
                if !may_run {
                    let term = round.pursuit.term();
                    self.campaign = Campaign::Follow;
                    self.release(term, out);
                }
            }
            Campaign::Lead { .. } => {}
        }
    }

    /// Whether this board may campaign: a voter that goes on living, hears a majority, and knows of no leader.
    fn may_run(&self) -> bool {
        self.is_voter() && !self.is_stopped && self.other_leads().is_none() && self.heard().len() >= self.quorum()
    }

    /// The voters heard, this board included.
    fn heard(&self) -> BoardSet {
        let alive = self.view.alive;
        let me = self.site.me;
        self.site
            .voters
            .iter()
            .filter(|board| *board == me || alive.contains(*board))
            .collect()
    }

    /// The lease was not renewed in time. It is not released: what was begun in its last instant may still be under
    /// way until its very end, and only then this board tries again.
    pub(super) fn run_out(&mut self, lease: Lease, out: &mut Outbox<Output>) {
        self.lease = None;
        self.campaign = Campaign::Follow;
        self.rests_until = lease.valid_until;
        out.push(Output::Lost { term: lease.term, released: false });
    }

    /// Gives up whatever this board has or wants: first it stops acting, then it tells.
    pub(super) fn abandon(&mut self, out: &mut Outbox<Output>) {
        let wanted = match core::mem::replace(&mut self.campaign, Campaign::Follow) {
            Campaign::Follow | Campaign::Wait(_) | Campaign::Trial(_) => None,
            Campaign::Ask(round) => Some(round.pursuit.term()),
            Campaign::Lead { pursuit, .. } => Some(pursuit.term()),
        };
        let lease = self.lease;
        if self.rules.keep(Rule::StopThenRelease) {
            self.lease = None;
        }
        let held = lease.map(|lease| lease.term);
        if let Some(term) = held {
            out.push(Output::Lost { term, released: true });
            self.release(term, out);
        }
        if let Some(term) = wanted.filter(|term| held != Some(*term)) {
            self.release(term, out);
        }
    }

    fn release(&mut self, term: Term, out: &mut Outbox<Output>) {
        self.voter.handle_release(self.site.me, term);
        self.tell_voters(&ElectionMessage::Release { term }, out);
    }

    fn tell_voters(&self, message: &ElectionMessage, out: &mut Outbox<Output>) {
        for to in self.site.voters.iter().filter(|to| *to != self.site.me) {
            out.push(Output::Tell { to, message: message.clone() });
        }
    }
}

//! Owns the way of one candidate: when it tries, whom it asks, and when it gives up. Must not judge a request: its own
//! vote is asked like the others'.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::lease::{Spans, quorum};
use super::reign::Reign;
use super::voter::Verdict;
use super::{Election, Output, rank};
use crate::ids::{BoardId, BoardSet, Term, VoterId, VoterSet};
use crate::limits::{CAMPAIGN_DOUBLINGS_MAX, CAMPAIGN_JITTER, CAMPAIGN_SENDS, CAMPAIGN_STAGGER};
use crate::outbox::Outbox;
use crate::time::{Deadline, Instant};

/// A leader that has not asked this voter again for so many renewals is silent.
const SILENT_RENEWALS: u32 = 2;
/// How long before its turn a trial begins, beyond a round trip.
const TRIAL_LEAD: Duration = Duration::from_millis(2);

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
    Lead(Reign),
}

/// A pause before a campaign.
#[derive(Debug)]
pub(super) struct Wait {
    at: Instant,
    /// Not sooner than this, whatever the own vote does: by then a majority could be free.
    retry_after: Instant,
    /// When the own vote is free, as known when `at` was set.
    own_free: Instant,
    /// A leader is known to have ended: no trial.
    is_certain: bool,
}

/// Requests of one campaign and their answers.
#[derive(Debug)]
pub(super) struct Round {
    term: Term,
    /// Its first request.
    first: u64,
    /// From when on a request to each voter would be granted, by what it said.
    willing: BTreeMap<VoterId, Instant>,
    /// Who refused, for other reasons than a grant that will run out.
    refused: VoterSet,
    /// When a majority is free, where that is not yet.
    ask_at: Option<Instant>,
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
            Self::Lead(_) => "lead",
        }
    }

    pub(super) fn next_deadline(&self) -> Deadline {
        match self {
            Self::Follow => Deadline::NONE,
            Self::Wait(wait) => Deadline { at: wait.at, why: "this board's turn to campaign" },
            Self::Trial(Round { ask_at: Some(at), .. }) => Deadline { at: *at, why: "a majority of voters is free" },
            Self::Trial(round) => Deadline { at: round.resend_at, why: "voters say what they would grant" },
            Self::Ask(round) => Deadline { at: round.resend_at, why: "voters grant the lease" },
            Self::Lead(reign) => Deadline { at: reign.renew_at, why: "the lease is renewed" },
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
            Campaign::Wait(wait) if wait.is_certain => self.begin_ask(now, out),
            Campaign::Wait(_) => self.begin_trial(now, out),
            Campaign::Trial(Round { ask_at: Some(_), .. }) => self.begin_ask(now, out),
            Campaign::Trial(round) | Campaign::Ask(round) => {
                if round.sends_left == 0 {
                    self.fail(now, out);
                } else {
                    round.sends_left -= 1;
                    self.send_round(true, now, out);
                }
            }
            Campaign::Lead(_) => self.renew(now, out),
        }
    }

    /// A voter's answer to one of this board's requests; anything else is passed over.
    pub(super) fn handle_answer(
        &mut self,
        voter: VoterId,
        (term, attempt): (Term, u64),
        verdict: Verdict,
        now: Instant,
        out: &mut Outbox<Output>,
    ) {
        let trip = self.trips.to(voter);
        let round = match &mut self.campaign {
            Campaign::Follow | Campaign::Wait(_) => return,
            Campaign::Trial(round) | Campaign::Ask(round) => round,
            Campaign::Lead(_) => return self.handle_renewal_answer(term, verdict, now, out),
        };
        if round.term != term || attempt < round.first {
            return;
        }
        match verdict {
            Verdict::Granted { .. } => {
                round.willing.insert(voter, now);
                round.refused.remove(voter);
            }
            Verdict::Denied { remaining, .. } if !remaining.is_zero() => {
                let at = Instant::from_micros((now + remaining).micros().saturating_sub(micros(trip)));
                round.willing.insert(voter, at.max(now));
            }
            Verdict::Denied { .. } => {
                round.refused.insert(voter);
                round.willing.remove(&voter);
            }
        }
        self.weigh(now, out);
    }

    /// What the answers so far amount to.
    fn weigh(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let me: VoterId = self.core.me.into();
        let own_free = self.core.voter.free_for(self.core.me, now);
        let voters = self.core.voters();
        let quorum = quorum(&voters, &self.core.settings);
        let lead = self.trial_lead();
        let (round, is_trial) = match &mut self.campaign {
            Campaign::Follow | Campaign::Wait(_) | Campaign::Lead(_) => return,
            Campaign::Trial(round) => (round, true),
            Campaign::Ask(round) => (round, false),
        };
        let votes = |voter: &VoterId| voters.set.contains(*voter);
        let refused = round.refused.iter().filter(votes).count();
        if voters.set.len() - refused < quorum {
            return self.fail(now, out);
        }
        if let Some(at) = round.willing.get_mut(&me) {
            *at = own_free;
        }
        let mut free: Vec<Instant> = voters
            .set
            .iter()
            .filter(|voter| !round.refused.contains(*voter))
            .map(|voter| round.willing.get(&voter).copied().unwrap_or(Instant::ZERO))
            .collect();
        free.sort_unstable();
        // Those that have not answered may be free at once: only where even then it would take long, it is given up.
        let earliest = free[quorum - 1];
        free.retain(|at| *at > Instant::ZERO);
        let is_far = |at: Instant| at > now + lead + CAMPAIGN_STAGGER;
        let at = free.get(quorum - 1).copied().map(|at| at.max(own_free));
        match (at, is_trial) {
            (Some(at), true) if at <= now => self.begin_ask(now, out),
            (Some(at), true) if !is_far(at) => round.ask_at = Some(at),
            // Somebody's grant to another board was about to run out: asked again just then.
            (Some(at), false) if at > now && !is_far(at) => round.resend_at = round.resend_at.min(at),
            (Some(_) | None, false) if is_far(earliest) => self.fail(now, out),
            (Some(_) | None, true) if is_far(earliest) => {
                let retry_after = Instant::from_micros(earliest.micros().saturating_sub(micros(lead)));
                self.wait(retry_after, false, 0, now);
            }
            (Some(_) | None, _) => {}
        }
    }

    fn begin_trial(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let term = self.core.terms.next();
        let is_near = self.core.voter.free_for(self.core.me, now) <= now + self.trial_lead() + CAMPAIGN_STAGGER;
        if !is_near || !self.core.voter.is_usable(term) {
            return self.wait(now + self.timing.renew, false, 0, now);
        }
        self.campaign = Campaign::Trial(self.new_round(term));
        self.send_round(self.failures > 0, now, out);
    }

    fn begin_ask(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let term = self.core.terms.next();
        let is_free = self.core.voter.free_for(self.core.me, now) <= now;
        let is_wide = self.failures > 0
            || matches!(&self.campaign, Campaign::Trial(round) if round.sends_left + 1 < CAMPAIGN_SENDS);
        if !is_free || !self.core.begin() {
            return self.wait(now + self.trial_lead(), false, 0, now);
        }
        self.campaign = Campaign::Ask(self.new_round(term));
        self.send_round(is_wide, now, out);
    }

    fn new_round(&self, term: Term) -> Round {
        Round {
            term,
            first: self.core.attempt + 1,
            willing: BTreeMap::new(),
            refused: VoterSet::EMPTY,
            ask_at: None,
            resend_at: Instant::NEVER,
            sends_left: CAMPAIGN_SENDS - 1,
        }
    }

    /// Sends the round's request; to every voter where `is_wide`, else to witnesses only where the boards heard are too
    /// few. The own vote answers at once.
    fn send_round(&mut self, is_wide: bool, now: Instant, out: &mut Outbox<Output>) {
        let voters = self.core.voters();
        let boards = self.candidates().len() + usize::from(!self.candidates().contains(self.core.me));
        let needs_witness = is_wide || !self.core.voter.is_joined() || boards < quorum(&voters, &self.core.settings);
        let whom: VoterSet = voters
            .set
            .iter()
            .filter(|voter| needs_witness || voter.board().is_some())
            .collect();
        let spans = Spans { near: self.pace.lease(self.core.attempt + 1), far: self.timing.witness_lease };
        let slowest = whom.iter().map(|voter| self.trips.to(voter)).max().unwrap_or_default();
        let pause = CAMPAIGN_STAGGER
            .max(self.trial_lead() * 2)
            .max((slowest + TRIAL_LEAD).min(self.timing.lease));
        self.trips.handle_sent(self.core.attempt + 1, now);
        let own = match &mut self.campaign {
            Campaign::Follow | Campaign::Wait(_) | Campaign::Lead(_) => return,
            Campaign::Trial(round) => {
                round.resend_at = now + pause;
                // A voter may have told of a higher term meanwhile.
                round.term = self.core.terms.next();
                self.core.probe(whom, spans, now, out)
            }
            Campaign::Ask(round) => {
                round.resend_at = now + pause;
                self.core.request(whom, spans, now, out)
            }
        };
        self.settle_lead(now, out);
        let (term, attempt) = match &self.campaign {
            Campaign::Trial(round) | Campaign::Ask(round) => (round.term, self.core.attempt),
            Campaign::Follow | Campaign::Wait(_) | Campaign::Lead(_) => return,
        };
        if let Some(verdict) = own {
            self.handle_answer(self.core.me.into(), (term, attempt), verdict, now, out);
        }
    }

    /// A round is lost: gives back what it got, and tries again when a majority could be free.
    fn fail(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let round = match core::mem::replace(&mut self.campaign, Campaign::Follow) {
            Campaign::Trial(round) => round,
            Campaign::Ask(round) => {
                self.core.release(None, out);
                round
            }
            other @ (Campaign::Follow | Campaign::Wait(_) | Campaign::Lead(_)) => {
                self.campaign = other;
                return;
            }
        };
        self.failures = self.failures.saturating_add(1);
        let free = self.majority_free(&round, now);
        let retry_after = Instant::from_micros(free.micros().saturating_sub(micros(self.trial_lead()))).max(now);
        self.wait(retry_after, false, 0, now);
    }

    /// From when on a majority could grant, by what the voters said; `now` where too few answered to tell.
    fn majority_free(&self, round: &Round, now: Instant) -> Instant {
        let mut free: Vec<Instant> = round.willing.values().copied().collect();
        free.sort_unstable();
        let latest = now + self.core.settings.patience(self.pace.wanted().max(self.timing.lease));
        let quorum = quorum(&self.core.voters(), &self.core.settings);
        free.get(quorum - 1).map_or(now, |at| (*at).clamp(now, latest))
    }

    /// Waits for this board's turn: the own vote free (or, for a trial, about to be and the leader silent),
    /// `retry_after` past, and the candidates of lower rank and `steps` more first.
    fn wait(&mut self, retry_after: Instant, is_certain: bool, steps: u32, now: Instant) {
        let own_free = self.core.voter.free_for(self.core.me, now);
        let early = own_free.micros().saturating_sub(micros(self.trial_lead()));
        let silent = match self.core.voter.last_grant() {
            Some((term, asked_at)) if term.board() != Some(self.core.me) => {
                asked_at + self.timing.renew * SILENT_RENEWALS + self.timing.renew / 2
            }
            Some(_) | None => now,
        };
        let trial_at = Instant::from_micros(early).max(silent.min(own_free));
        let turn = if is_certain { own_free } else { trial_at };
        let at = turn.max(retry_after).max(self.rests_until).max(now) + self.pause(steps);
        self.campaign = Campaign::Wait(Wait { at, retry_after, own_free, is_certain });
    }

    /// Steps by rank among the boards that could lead now, and a random part that grows with failures.
    fn pause(&mut self, steps: u32) -> Duration {
        let before = rank::rank(&self.known_fitness(), self.candidates(), self.core.me);
        let steps = steps.saturating_add(u32::try_from(before).unwrap_or(u32::MAX));
        let step = CAMPAIGN_STAGGER.max(self.trial_lead() * 2);
        let spread = CAMPAIGN_JITTER * (1 << self.failures.min(CAMPAIGN_DOUBLINGS_MAX));
        step.saturating_mul(steps) + self.jitter.below(spread)
    }

    fn known_fitness(&self) -> rank::Fitnesses {
        let mut known = self.view.fitness.clone();
        known.insert(self.core.me, self.fitness);
        known
    }

    /// How long a trial takes: a round trip to as many others as make a majority.
    fn trial_lead(&self) -> Duration {
        let voters = self.core.voters();
        let mut others: VoterSet = self.candidates().into();
        for witness in self.linked.iter().filter(|witness| voters.set.contains(*witness)) {
            others.insert(witness);
        }
        others.remove(self.core.me.into());
        self.trips
            .to_nearest(quorum(&voters, &self.core.settings).saturating_sub(1), others)
            + TRIAL_LEAD
    }

    /// A leader is known to have ended: the fittest asks at once, `steps` later where it may have named a successor.
    pub(super) fn handle_ended(&mut self, term: Term, steps: u32, now: Instant) {
        self.core.take(term);
        match &self.campaign {
            Campaign::Lead(_) | Campaign::Ask(_) => return,
            Campaign::Follow | Campaign::Wait(_) | Campaign::Trial(_) => {}
        }
        if !self.may_run() {
            return;
        }
        self.failures = 0;
        self.rests_until = self.rests_until.min(now);
        // Told twice, once as the successor and once as a voter: what it was told as the successor stands.
        let turn = match &self.campaign {
            Campaign::Wait(wait) if wait.is_certain => wait.at,
            Campaign::Follow | Campaign::Wait(_) | Campaign::Trial(_) | Campaign::Ask(_) | Campaign::Lead(_) => {
                Instant::NEVER
            }
        };
        self.wait(now, true, steps, now);
        if let Campaign::Wait(wait) = &mut self.campaign {
            wait.at = wait.at.min(turn.max(wait.own_free));
        }
    }

    /// This board was named as the successor: it asks at once, whatever its rank.
    pub(super) fn hasten_named(&mut self, now: Instant) {
        if let Campaign::Wait(wait) = &mut self.campaign {
            wait.at = wait.own_free.max(now);
        }
    }

    /// Something that a waiting campaign waited for may have come.
    pub(super) fn hasten(&mut self, now: Instant) {
        if let Campaign::Wait(wait) = &self.campaign {
            self.wait(now, wait.is_certain, 0, now);
        }
    }

    /// Starts, keeps or ends the campaign, as view and own vote ask for.
    pub(super) fn settle_campaign(&mut self, now: Instant, out: &mut Outbox<Output>) {
        self.settle_lead(now, out);
        let may_run = self.may_run();
        let own_free = self.core.voter.free_for(self.core.me, now);
        match &self.campaign {
            Campaign::Follow => {
                if may_run {
                    self.wait(now, false, 0, now);
                }
            }
            Campaign::Wait(wait) => {
                if !may_run {
                    self.campaign = Campaign::Follow;
                } else if own_free > wait.own_free.max(now) {
                    let retry_after = wait.retry_after;
                    self.wait(retry_after, false, 0, now);
                }
            }
            Campaign::Trial(round) => {
                if !may_run {
                    self.campaign = Campaign::Follow;
                    self.trips.forget_sent();
                } else if round.ask_at.is_some_and(|at| own_free > at) {
                    self.wait(now, false, 0, now);
                }
            }
            Campaign::Ask(_) => {
                if !may_run {
                    self.give_up(None, out);
                }
            }
            Campaign::Lead(_) => {}
        }
    }

    /// A lease won makes the campaign a reign.
    fn settle_lead(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if self.core.lease.is_some() && !matches!(self.campaign, Campaign::Lead(_)) {
            self.failures = 0;
            if core::mem::take(&mut self.has_lapsed) {
                self.pace.lengthen();
            }
            // At a new site all that voted are told at once that they have a leader; and a lease that waited for a far witness is
            // about to run out on the boards.
            let left = self
                .core
                .lease
                .map_or(Duration::ZERO, |lease| lease.ends(&self.core.settings).since(now));
            let is_short = left < self.pace.renew() * 2;
            let is_founder = self.core.is_founder();
            let renew_at = if is_founder || is_short { now } else { now + self.pace.renew() };
            if is_founder {
                self.sound_at = self.sound_at.min(now);
            }
            self.campaign = Campaign::Lead(Reign::new(renew_at));
            self.core.decide(now, out);
        }
    }

    /// Whether this board may campaign: a voter that goes on living, hears a majority (at a new site all, for a while), and knows
    /// of no leader but the one that its own vote waits for.
    fn may_run(&self) -> bool {
        let voters = self.core.voters();
        let granted = self.core.voter.last_grant().map(|(term, _)| term);
        let is_led = self.other_leads().is_some_and(|term| granted != Some(term));
        let heard = voters.set.iter().filter(|voter| self.hears(*voter)).count();
        voters.set.contains(self.core.me.into())
            && !self.is_stopped
            && self.fitness.eligible
            && !is_led
            && heard >= quorum(&voters, &self.core.settings)
            && (self.founds_at == Instant::ZERO || self.are_all_there())
    }

    pub(super) fn hears(&self, voter: VoterId) -> bool {
        match voter.board() {
            Some(board) => board == self.core.me || self.view.alive.contains(board),
            None => self.linked.contains(voter),
        }
    }

    /// The boards that could lead now: voters heard, this one included, without the one that led last and fell silent or
    /// gave up.
    fn candidates(&self) -> BoardSet {
        let boards = self.core.voters().set.boards();
        let last = self.last_leader();
        boards
            .iter()
            .filter(|board| self.hears((*board).into()) && (*board == self.core.me || Some(*board) != last))
            .collect()
    }

    fn last_leader(&self) -> Option<BoardId> {
        let granted = self.core.voter.last_grant().map(|(term, _)| term);
        granted.max(self.core.ended()).and_then(Term::board)
    }
}

fn micros(duration: Duration) -> u64 {
    super::durable::micros(duration)
}

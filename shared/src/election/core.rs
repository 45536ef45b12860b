//! The part of the election that safety rests on: this board's vote and its lease, without any idea of when to try. What
//! it is told to do it does only as far as the rules allow, so that whoever drives it (the campaign, or a model that
//! tries everything) cannot break them. Must not own a timer.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::change::Change;
use super::durable::micros;
use super::lease::{Lease, Pursuit, Spans};
use super::rules::{Rule, Settings};
use super::terms::Terms;
use super::voter::{Past, Verdict, Voter};
use super::{Life, Output};
use crate::action::{Memory, WishAnswer};
use crate::ids::{BoardId, Term, VoterId, VoterSet, Voters};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::election::{Acquire, ElectionMessage, Met, Standing, Vouch};

/// What a message means to the campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing.
    Nothing,
    /// A term ended before its lease.
    Ended(Term),
    /// A term ended with the life of its holder.
    Died(Term),
    /// A term ended, and this board is to follow.
    HandedOver(Term),
    /// A voter answered.
    Answer {
        /// The term asked for.
        term: Term,
        /// The attempt.
        attempt: u64,
        /// What it said.
        verdict: Verdict,
    },
}

/// One board's vote and lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Core {
    pub(super) me: BoardId,
    pub(super) life: u64,
    pub(super) settings: Settings,
    pub(super) voter: Voter,
    pub(super) terms: Terms,
    /// The term asked for or led under, and who backs it.
    pub(super) pursuit: Option<Pursuit>,
    pub(super) lease: Option<Lease>,
    /// Counts this life's requests.
    pub(super) attempt: u64,
    /// The newest decision who votes that this board's requests speak of.
    pub(super) stated: Voters,
    /// A decision on its way to the voters.
    pub(super) change: Option<Change>,
    /// Who is to vote in the end, step by step.
    pub(super) wished: Option<VoterSet>,
    /// The newest term of another board known to have ended before its lease.
    ended: Option<Term>,
    /// It won its lease from voters none of which had met a leader.
    is_founder: bool,
    /// What voters said last of whether they have met a leader.
    met: BTreeMap<VoterId, Met>,
    /// The last request that it made while it had met no leader itself.
    last_strange: u64,
}

impl Core {
    /// `configured`: who votes where no decision is on disk.
    pub(crate) fn new(me: BoardId, configured: Voters, life: &Life, settings: Settings, now: Instant) -> Self {
        let past = Past {
            memory: life.memory,
            floor: life.memory.term_ceiling.saturating_sub(settings.terms_reserved),
            configured,
            may_have_granted: life.boot > 1,
            life: life.nonce,
        };
        let voter = Voter::new(Some(me.into()), &past, settings, now);
        Self {
            me,
            life: life.nonce,
            settings,
            terms: Terms::new(me, voter.floor()),
            stated: voter.voters(),
            voter,
            pursuit: None,
            lease: None,
            attempt: 0,
            change: None,
            wished: None,
            ended: None,
            is_founder: false,
            met: BTreeMap::new(),
            last_strange: 0,
        }
    }

    /// Who counts for this board now: those its lease is counted by, else the newest decision on disk.
    pub(crate) fn voters(&self) -> Voters {
        self.pursuit.as_ref().map_or(self.voter.voters(), Pursuit::voters)
    }

    /// The newest term of another board known to have ended before its lease.
    pub(super) const fn ended(&self) -> Option<Term> {
        self.ended
    }

    /// Somebody spoke of `term`.
    pub(super) fn hear(&mut self, term: Term) {
        self.terms.hear(term);
        self.voter.hear(term);
    }

    /// `term` is led under, asked for or promised: this board's own must lie above it.
    pub(super) fn take(&mut self, term: Term) {
        self.terms.take(term);
        self.voter.hear(term);
    }

    /// The term under which this board may act.
    pub(crate) fn holds(&self, now: Instant) -> Option<Term> {
        let lease = self.lease.filter(|lease| lease.is_held(now, &self.settings))?;
        Some(lease.term)
    }

    /// Starts on a term of its own above all it knows. False, and nothing changed, where it asks or leads already, has
    /// no vote, or its terms are used up until the disk has more.
    pub(crate) fn begin(&mut self) -> bool {
        let voters = self.voter.voters();
        let term = self.terms.next();
        if self.pursuit.is_some() || !voters.set.contains(self.me.into()) || !self.voter.is_usable(term) {
            return false;
        }
        self.stated = voters;
        self.pursuit = Some(Pursuit::new(term, voters, self.settings));
        true
    }

    /// Asks `whom` for the present term, or to renew it; the own vote, where it is among them, answers at once.
    pub(crate) fn request(
        &mut self,
        whom: VoterSet,
        spans: Spans,
        now: Instant,
        out: &mut Outbox<Output>,
    ) -> Option<Verdict> {
        self.pursuit.as_ref()?;
        let attempt = self.count_attempt();
        let pursuit = self.pursuit.as_mut()?;
        pursuit.handle_sent(attempt, whom, spans, now);
        let term = pursuit.term();
        self.terms.take(term);
        self.ask(term, whom, spans, false, now, out);
        let own = whom.contains(self.me.into()).then(|| {
            let acquire = self.acquire(term, self.me.into(), spans, false, now);
            self.voter.handle_acquire(&acquire, now)
        });
        if let Some(verdict) = own {
            self.handle_verdict(self.me.into(), (term, attempt), verdict, now, out);
        }
        self.remember(now, out);
        own
    }

    /// Asks `whom` what they would say to the next term; what the own vote says, where it is among them.
    pub(super) fn probe(
        &mut self,
        whom: VoterSet,
        spans: Spans,
        now: Instant,
        out: &mut Outbox<Output>,
    ) -> Option<Verdict> {
        self.count_attempt();
        self.stated = self.voter.voters();
        let term = self.terms.next();
        self.ask(term, whom, spans, true, now, out);
        let acquire = self.acquire(term, self.me.into(), spans, true, now);
        let verdict = whom.contains(self.me.into()).then(|| self.voter.handle_acquire(&acquire, now));
        self.remember(now, out);
        verdict
    }

    /// Asks `witness` what it would say to this board now, without wanting anything of it: keeps it ready, and says how far
    /// away it is.
    pub(super) fn sound(&mut self, witness: VoterId, spans: Spans, now: Instant, out: &mut Outbox<Output>) {
        self.count_attempt();
        let term = self.pursuit.as_ref().map_or(self.terms.next(), Pursuit::term);
        self.ask(term, core::iter::once(witness).collect(), spans, true, now, out);
    }

    fn count_attempt(&mut self) -> u64 {
        self.attempt += 1;
        if !self.voter.is_joined() {
            self.last_strange = self.attempt;
        }
        self.attempt
    }

    fn ask(&self, term: Term, whom: VoterSet, spans: Spans, trial: bool, now: Instant, out: &mut Outbox<Output>) {
        for to in whom.iter().filter(|to| *to != self.me.into()) {
            let message = ElectionMessage::Acquire(self.acquire(term, to, spans, trial, now));
            out.push(Output::Tell { to, message });
        }
    }

    fn acquire(&self, term: Term, of: VoterId, spans: Spans, trial: bool, now: Instant) -> Acquire {
        let standing = if self.holds(now) == Some(term) && self.is_founder {
            Standing::Founder
        } else if self.holds(now) == Some(term) {
            Standing::Leader
        } else if self.voter.is_joined() {
            Standing::Member
        } else {
            Standing::Stranger
        };
        let is_told = |met: &&Met| self.voter.is_joined() && matches!(met, Met::Early(_) | Met::Waits(_));
        let held = self.lease.map_or(Duration::ZERO, |lease| lease.valid_until.since(now));
        let vouch = self.met.get(&of).filter(is_told).map(|met| Vouch {
            answers: *met,
            promised: self.voter.promised(),
            held_micros: micros(held),
        });
        Acquire {
            term,
            attempt: self.attempt,
            lease_micros: micros(spans.of(of)),
            trial,
            life: self.life,
            voters: self.stated,
            released: self.ended.filter(|_| self.lease.is_none()),
            standing,
            vouch,
        }
    }

    /// A message from another voter or board. A request or release under a term that is not the sender's own is passed
    /// over.
    pub(crate) fn handle_message(
        &mut self,
        from: VoterId,
        message: &ElectionMessage,
        now: Instant,
        out: &mut Outbox<Output>,
    ) -> Heard {
        let own = |term: Term| from.board().is_some() && term.board() == from.board() && from != self.me.into();
        let heard = match message {
            ElectionMessage::Acquire(acquire) if own(acquire.term) => {
                self.handle_acquire(from, acquire, now, out);
                Heard::Nothing
            }
            ElectionMessage::Release { term } if own(*term) => self.end(*term, Heard::Ended(*term)),
            ElectionMessage::HandOver { term } if own(*term) => self.end(*term, Heard::HandedOver(*term)),
            ElectionMessage::Waive { term, attempt } if own(*term) => {
                self.voter.handle_waive(*term, *attempt);
                Heard::Nothing
            }
            ElectionMessage::Propose { term, voters } if own(*term) => {
                self.terms.take(*term);
                if let Some(message) = self.voter.handle_propose(*term, *voters, now) {
                    out.push(Output::Tell { to: from, message });
                }
                Heard::Nothing
            }
            ElectionMessage::Stored { term, version } => {
                self.handle_stored(from, *term, *version, now, out);
                Heard::Nothing
            }
            ElectionMessage::Granted { term, attempt, clear } => {
                // To strangers strangers grant.
                if *attempt > self.last_strange {
                    self.note_met(from, Met::Leader);
                }
                self.handle_verdict(from, (*term, *attempt), Verdict::Granted { clear: *clear }, now, out)
            }
            ElectionMessage::Denied { term, attempt, promised, remaining_micros, voters, met } => {
                self.note_met(from, *met);
                if let (Met::Early(_) | Met::Waits(_), Some(pursuit)) = (met, &mut self.pursuit) {
                    // What a life granted that forgot it carries the lease as far as it does by now, and no further.
                    pursuit.waive(from);
                }
                self.terms.take(*promised);
                self.voter.hear(*promised);
                let remaining = Duration::from_micros(*remaining_micros);
                let verdict = Verdict::Denied { promised: *promised, remaining, voters: *voters, met: *met };
                self.handle_verdict(from, (*term, *attempt), verdict, now, out)
            }
            ElectionMessage::Acquire(_)
            | ElectionMessage::Release { .. }
            | ElectionMessage::HandOver { .. }
            | ElectionMessage::Waive { .. }
            | ElectionMessage::Propose { .. } => Heard::Nothing,
        };
        self.remember(now, out);
        heard
    }

    /// Somebody that votes, or is to vote, said whether it has met a leader.
    fn note_met(&mut self, voter: VoterId, met: Met) {
        let sets = [Some(self.voters().set), Some(self.stated.set), self.wished];
        if sets.into_iter().flatten().any(|set| set.contains(voter)) {
            self.met.insert(voter, met);
        }
    }

    /// Whether it won its lease from voters none of which had met a leader.
    pub(super) const fn is_founder(&self) -> bool {
        self.is_founder
    }

    /// Whether `voter` has said that it has met a leader.
    pub(super) fn has_met(&self, voter: VoterId) -> bool {
        self.met.get(&voter) == Some(&Met::Leader)
    }

    /// Whether `voter` has met a leader; asks it where it has not said so, and tells it of this one.
    pub(super) fn is_member(&mut self, voter: VoterId, now: Instant, out: &mut Outbox<Output>) -> bool {
        if self.has_met(voter) {
            return true;
        }
        self.sound(voter, Spans { near: Duration::ZERO, far: Duration::ZERO }, now, out);
        false
    }

    /// An operator says that this board may vote though it has met no leader.
    pub(super) fn swear(&mut self, now: Instant, out: &mut Outbox<Output>) -> WishAnswer {
        let answer = self.voter.swear(now);
        self.terms.take(self.voter.promised());
        self.remember(now, out);
        answer
    }

    fn handle_acquire(&mut self, from: VoterId, acquire: &Acquire, now: Instant, out: &mut Outbox<Output>) {
        if acquire.trial {
            self.terms.hear(acquire.term);
        } else {
            self.terms.take(acquire.term);
        }
        let verdict = self.voter.handle_acquire(acquire, now);
        self.terms.take(self.voter.promised());
        out.push(Output::Tell { to: from, message: verdict.message(acquire) });
    }

    /// `term` of another board is known to have ended: what was granted to it is void.
    fn end(&mut self, term: Term, heard: Heard) -> Heard {
        self.terms.take(term);
        self.voter.handle_release(term);
        self.ended = self.ended.max(Some(term));
        heard
    }

    /// That life of `board` is over, and nothing of it acts any more. Whoever says so has seen it end.
    pub(crate) fn handle_obituary(&mut self, board: BoardId, life: u64) -> Heard {
        if board == self.me {
            return Heard::Nothing;
        }
        match self.voter.handle_obituary(board, life) {
            Some(term) => self.end(term, Heard::Died(term)),
            None => Heard::Nothing,
        }
    }

    /// What [`Output::Remember`] asked for is on disk.
    pub(crate) fn handle_remembered(&mut self, memory: Memory, now: Instant, out: &mut Outbox<Output>) {
        let told = self.voter.handle_remembered(memory);
        self.terms.take(self.voter.promised());
        match told {
            Some((to, ElectionMessage::Stored { term, version })) if to == self.me => {
                self.handle_stored(to.into(), term, version, now, out);
            }
            Some((to, message)) => out.push(Output::Tell { to: to.into(), message }),
            None => {}
        }
        self.remember(now, out);
    }

    /// What is to be put on disk now, if anything.
    pub(super) fn remember(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if let Some(memory) = self.voter.remember(now) {
            out.push(Output::Remember(memory));
        }
    }

    fn handle_verdict(
        &mut self,
        voter: VoterId,
        (term, attempt): (Term, u64),
        verdict: Verdict,
        now: Instant,
        out: &mut Outbox<Output>,
    ) -> Heard {
        if let Verdict::Granted { clear } = verdict
            && let Some(pursuit) = self.pursuit.as_mut().filter(|pursuit| pursuit.term() == term)
        {
            if clear {
                pursuit.handle_clear(voter, attempt);
            }
            if pursuit.handle_granted(voter, attempt, now) {
                self.count(now, out);
            }
        }
        if let Verdict::Denied { voters: Some(voters), .. } = verdict {
            self.handle_voters(voters, now, out);
        }
        Heard::Answer { term, attempt, verdict }
    }

    /// Counts the answers: a new lease, a longer one, or the same under a higher term. A lease that has run out comes
    /// back under a higher term only.
    pub(super) fn count(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let Some(pursuit) = &self.pursuit else { return };
        let Some(valid_until) = pursuit.end(&pursuit.voters(), VoterSet::EMPTY) else {
            return;
        };
        let won = Lease { term: pursuit.term(), valid_until };
        if !won.is_held(now, &self.settings) {
            return;
        }
        let until = won.ends(&self.settings);
        match self.lease {
            // What has run out is over, though nobody has said so yet: who acted under it may have stopped, and would
            // begin anew under a term of which tokens were given out.
            Some(old) if old.term == won.term && !old.is_held(now, &self.settings) => return,
            Some(old) if old.term == won.term && won.valid_until <= old.valid_until => {
                self.complete_change(now, out);
                return;
            }
            Some(old) if old.term == won.term => out.push(Output::Extended { term: won.term, until }),
            Some(old) => {
                out.push(Output::Lost { term: old.term, released: false });
                out.push(Output::Acquired { term: won.term });
            }
            None => {
                self.is_founder = !self.voter.is_joined();
                out.push(Output::Acquired { term: won.term });
            }
        }
        self.lease = Some(won);
        self.voter.join(won.term);
        self.complete_change(now, out);
    }

    /// The lease that has run out at `now`, if it has: this board stops acting and asking. It is not released: what was
    /// begun in its last instant may still be under way until its very end.
    pub(crate) fn expire(&mut self, now: Instant, out: &mut Outbox<Output>) -> Option<Lease> {
        let over = self.lease.filter(|lease| !lease.is_held(now, &self.settings))?;
        self.lease = None;
        self.pursuit = None;
        self.change = None;
        out.push(Output::Lost { term: over.term, released: false });
        Some(over)
    }

    /// Takes a higher term while the lease runs, because a voter has promised more than the present one: it restarted,
    /// and has abstained long enough for all to put a higher ceiling on disk. The other voters hold this board's grant
    /// already, so nobody can come between.
    pub(crate) fn raise(&mut self) -> bool {
        let term = self.terms.next();
        let Some(pursuit) = self.pursuit.as_mut().filter(|_| self.lease.is_some()) else {
            return false;
        };
        if !self.voter.is_usable(term) {
            return false;
        }
        let voters = pursuit.voters();
        self.pursuit = Some(Pursuit::new(term, voters, self.settings));
        // What it decided under the lower term stays said: its requests go on speaking of it.
        self.change = None;
        true
    }

    /// Does not count on `witness` any more, then tells it so; where the others carry the lease as far as it was counted.
    pub(crate) fn waive(&mut self, witness: VoterId, out: &mut Outbox<Output>) -> bool {
        let Some(pursuit) = &mut self.pursuit else { return false };
        let without = core::iter::once(witness).collect();
        let end = pursuit.end(&pursuit.voters(), without);
        let reaches = self
            .lease
            .is_some_and(|lease| lease.term == pursuit.term() && end >= Some(lease.valid_until));
        if !reaches && self.settings.rules.keep(Rule::StopThenWaive) {
            return false;
        }
        let attempt = pursuit.waive(witness);
        let message = ElectionMessage::Waive { term: pursuit.term(), attempt };
        out.push(Output::Tell { to: witness, message });
        true
    }

    /// Gives up whatever this board has or wants: first it stops acting, then it tells, the successor by name.
    pub(crate) fn release(&mut self, successor: Option<BoardId>, out: &mut Outbox<Output>) {
        let Some(pursuit) = self.pursuit.take() else { return };
        let told = pursuit.voters().set.iter().chain(self.stated.set.iter()).collect();
        let held = self.lease.map(|lease| lease.term);
        let rule = if successor.is_some() {
            Rule::StopThenHandOver
        } else {
            Rule::StopThenRelease
        };
        if self.settings.rules.keep(rule) {
            self.lease = None;
        }
        self.change = None;
        if let Some(term) = held {
            out.push(Output::Lost { term, released: true });
        }
        // The pursued term is the held one or a higher one of this board: to give it up gives up both.
        let term = pursuit.term();
        self.voter.handle_release(term);
        if let (Some(to), Some(_)) = (successor, held) {
            out.push(Output::Tell { to: to.into(), message: ElectionMessage::HandOver { term } });
        }
        self.tell(told, &ElectionMessage::Release { term }, out);
    }

    pub(super) fn tell(&self, whom: VoterSet, message: &ElectionMessage, out: &mut Outbox<Output>) {
        for to in whom.iter().filter(|to| *to != self.me.into()) {
            out.push(Output::Tell { to, message: message.clone() });
        }
    }

    /// For the model: time counts from `now` on, which becomes `base`.
    #[cfg(test)]
    pub(super) fn rebase(&mut self, now: Instant, base: Instant) {
        self.voter.rebase(now, base);
        if let Some(pursuit) = &mut self.pursuit {
            pursuit.rebase(now, base);
        }
        if let Some(lease) = &mut self.lease {
            lease.valid_until = base + lease.valid_until.since(now);
        }
    }

    /// For the model: whether `letter` from `from` can still mean anything to this board. One that cannot is forgotten.
    #[cfg(test)]
    pub(super) fn can_use(&self, from: VoterId, letter: &ElectionMessage) -> bool {
        match letter {
            ElectionMessage::Granted { term, attempt, .. } => self
                .pursuit
                .as_ref()
                .is_some_and(|pursuit| pursuit.awaits(from, *term, *attempt)),
            ElectionMessage::Denied { promised, voters, met, .. } => {
                let newest = self.voter.newest_voters().version;
                let is_news = *met != self.met.get(&from).copied().unwrap_or_default();
                is_news || *promised > self.terms.taken() || voters.is_some_and(|voters| voters.version > newest)
            }
            ElectionMessage::Stored { version, .. } => self
                .change
                .is_some_and(|change| change.decision.version == *version && !change.stored.contains(from)),
            ElectionMessage::HandOver { .. }
            | ElectionMessage::Acquire(_)
            | ElectionMessage::Release { .. }
            | ElectionMessage::Waive { .. }
            | ElectionMessage::Propose { .. } => self.voter.can_use(letter),
        }
    }

    /// Re-checks what must always hold.
    ///
    /// # Panics
    /// Where it does not: the election has a bug, and the process must not go on acting.
    pub(crate) fn check(&self) {
        let promised = self.voter.promised();
        assert!(self.voter.is_usable(promised), "a promise lies above the durable ceiling");
        assert!(promised <= self.terms.taken(), "a promise was not taken note of");
        if let Some(lease) = self.lease {
            assert!(self.voter.is_usable(lease.term), "a lease lies above the durable ceiling");
            assert!(lease.term.board() == Some(self.me), "a lease under another board's term");
        }
    }
}

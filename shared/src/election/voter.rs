//! Owns what a voter has granted and promised, and judges requests for a lease; boards and witnesses vote alike. Must not
//! want anything for its own board: the candidate beside it is asked and answered like any other.
//!
//! Who votes changes by decisions ([`Voters`]) that voters remember on disk. A voter grants nothing to a candidate that
//! counts by an older decision than the voter remembers, and takes no decision in while it has a live grant to another
//! board than the one that decides. Decisions are ordered by the term of their leader; the rule that makes a decision
//! complete stands in [`super::change`].
//!
//! A voter whose disk was replaced has forgotten what it promised, and does not know it. So one that has met no leader
//! since its memory began is a stranger, and votes with strangers only: that is how a site begins. Where the site has a
//! leader's memory it grants nothing, until every lease that an earlier life of it can have granted has run out
//! (`LEASE_MAX`), and then a leader, or every other voter, has answered that it was refused. A leader is backed by a
//! majority without it, which every majority that it was part of shares a voter with: no higher term was led under than
//! this voter now promises. While the first leader that a site ever had leads, less has to be waited for: nobody else has
//! asked for more than two usual leases, and what that one was granted it says itself.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::durable::Durable;
use super::rules::{Rule, Settings};
use crate::action::{Memory, WishAnswer};
use crate::ids::{BoardId, Term, VoterId, VoterSet, Voters};
use crate::limits::TERM_COUNTER_MAX;
use crate::time::Instant;
use crate::wire::election::{Acquire, ElectionMessage, Met, Standing};

/// Why a voter refuses. A refusal changes nothing that a later judgement looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It restarted not long ago, and may have granted a lease that still runs.
    Abstains,
    /// One of the two has met a leader of the site, and the other may have forgotten that it has.
    Stranger,
    /// The candidate counts by an older decision who votes than this voter remembers.
    OldVoters,
    /// The same decision, but other voters, or none of the two among them: a configuration is wrong.
    NoVoter,
    /// The candidate's life is attested over: the request was under way when it ended.
    Dead,
    /// It has promised a higher term.
    Promised,
    /// It has a live grant to another board.
    OtherHolder,
    /// The asking board gave this term up.
    Released,
    /// The term lies above the durable ceiling: a restart would forget the promise. It is being raised.
    Unreserved,
    /// The lease asked for is longer than a restarted voter would abstain. Where it may be, that is being raised.
    TooLong,
    /// A repetition of a request whose grant has run out or was waived.
    Stale,
}

/// A voter's answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Granted; or, in a trial, it would be.
    Granted {
        /// Whether nothing that this voter granted before, and that was voided before its time, could still run. Said with
        /// a grant only: a refusal voids nothing, and so knows nothing.
        clear: bool,
    },
    /// Not granted, and nothing changed.
    Denied {
        /// The highest term promised.
        promised: Term,
        /// Until the voter's live grant to another board, or its abstention, ends.
        remaining: Duration,
        /// Who votes, where the candidate counts by an older decision.
        voters: Option<Voters>,
        /// Whether it has met a leader.
        met: Met,
    },
}

impl Verdict {
    /// As it travels.
    pub(crate) fn message(self, acquire: &Acquire) -> ElectionMessage {
        let Acquire { term, attempt, .. } = *acquire;
        match self {
            Self::Granted { clear } => ElectionMessage::Granted { term, attempt, clear },
            Self::Denied { promised, remaining, voters, met } => ElectionMessage::Denied {
                term,
                attempt,
                promised,
                remaining_micros: super::durable::micros(remaining),
                voters,
                met,
            },
        }
    }
}

/// A grant, live or run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Grant {
    term: Term,
    attempt: u64,
    life: u64,
    granted_at: Instant,
    expires: Instant,
}

/// A decision that is on its way to disk, and whom to tell when it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Proposal {
    by: BoardId,
    term: Term,
    version: u64,
}

/// What a voter's earlier lives left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// On disk now.
    pub(crate) memory: Memory,
    /// The last term counter that an earlier life can have used or promised.
    pub(crate) floor: u64,
    /// Who votes where no decision is on disk.
    pub(crate) configured: Voters,
    /// Whether an earlier life can have granted anything.
    pub(crate) may_have_granted: bool,
    /// Names this life.
    pub(crate) life: u64,
}

/// One voter's memory. No grant is on disk: after a restart the floor of terms and the abstention stand for them
/// (PaxosLease: waiting replaces writing).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Voter {
    me: Option<VoterId>,
    settings: Settings,
    durable: Durable,
    grant: Option<Grant>,
    /// Until when grants that were voided before their time would have run.
    voided_until: Instant,
    promised: Term,
    /// The newest term each board is known to act under no more: one entry a board.
    released: BTreeMap<BoardId, Term>,
    /// The last life of each board that is attested over: one entry a board. Older ones cannot matter: a board's next
    /// life has begun with a higher term.
    dead: BTreeMap<BoardId, u64>,
    abstains_until: Instant,
    /// Until when longer leases than usual may run, or are likely to be asked for.
    long_until: Instant,
    proposal: Option<Proposal>,
    life: u64,
    /// From when on it can be told who leads, by the founder of its site and by anybody: what a forgotten life granted has run
    /// out.
    asks_from: [Instant; 2],
    /// Other voters that have answered its refusal, while it has met no leader.
    vouched: VoterSet,
    /// What it promises once the disk is ready for it, because an operator said that no leader is to be waited for.
    sworn: Option<Term>,
}

impl Voter {
    /// A voter that honours what its earlier lives may have granted. `me`: the board; none for a witness, which votes for
    /// whoever asks it.
    pub(crate) fn new(me: Option<VoterId>, past: &Past, settings: Settings, now: Instant) -> Self {
        let durable = Durable::new(past.memory, past.floor, past.configured, &settings);
        let longest = if settings.rules.keep(Rule::LongestKept) {
            durable.longest()
        } else {
            settings.lease_usual
        };
        let abstains = past.may_have_granted && settings.rules.keep(Rule::Abstention);
        Self {
            me,
            settings,
            grant: None,
            voided_until: now,
            promised: durable.floor(&settings),
            released: BTreeMap::new(),
            dead: BTreeMap::new(),
            abstains_until: if abstains { now + settings.patience(longest) } else { now },
            long_until: now,
            proposal: None,
            life: past.life,
            asks_from: [settings.lease_usual * 2, settings.lease_max].map(|lease| match lease.is_zero() {
                _ if durable.is_joined() => Instant::ZERO,
                false => now + settings.patience(lease),
                true => Instant::NEVER,
            }),
            vouched: VoterSet::EMPTY,
            sworn: None,
            durable,
        }
    }

    /// Whether it has met a leader since its memory began.
    pub(crate) const fn is_joined(&self) -> bool {
        self.durable.is_joined()
    }

    /// Whether it may have forgotten what it promised to members of its site.
    fn is_stranger(&self) -> bool {
        !self.is_joined() && self.settings.rules.keep(Rule::StrangerWaits)
    }

    /// Whether it has met a leader, and if not, whether it can be told of one.
    fn met(&self, now: Instant) -> Met {
        let [early, late] = self.asks_from;
        if self.is_joined() {
            Met::Leader
        } else if now >= late || !self.settings.rules.keep(Rule::VouchLate) {
            Met::Waits(self.life)
        } else if now >= early {
            Met::Early(self.life)
        } else {
            Met::Nobody
        }
    }

    /// What a request says of the site to a voter that has met no leader.
    fn meet(&mut self, acquire: &Acquire, now: Instant) {
        if self.is_joined() {
            return;
        }
        let leads = matches!(acquire.standing, Standing::Leader | Standing::Founder);
        if leads && self.has_granted(acquire) && self.is_usable(acquire.term) {
            return self.join(acquire.term);
        }
        let Some(vouch) = acquire.vouch.filter(|vouch| vouch.promised.counter() <= TERM_COUNTER_MAX) else {
            return;
        };
        // It can be told by now, if it said so: who answers has heard that.
        let said = match vouch.answers {
            Met::Waits(life) if acquire.standing != Standing::Stranger => Some(life),
            Met::Early(life) if acquire.standing == Standing::Founder => Some(life),
            Met::Waits(_) | Met::Early(_) | Met::Nobody | Met::Leader => None,
        };
        if said.is_none() || (said != Some(self.life) && self.settings.rules.keep(Rule::VouchBound)) {
            return;
        }
        self.hear(vouch.promised);
        self.durable.want_voters(acquire.voters);
        if !self.is_usable(vouch.promised) || self.live_grant(now).is_some() {
            // The ceiling is being raised, or another stranger may count on this vote: it will be said again.
            return;
        }
        if leads {
            self.hold(acquire, vouch.held_micros, now);
            return self.join(vouch.promised);
        }
        self.promised = self.promised.max(vouch.promised);
        if let Some(from) = acquire.term.board() {
            self.vouched.insert(from.into());
        }
        let mut others = self.durable.newest_voters().set.iter().filter(|voter| Some(*voter) != self.me);
        if self.me.is_some() && others.all(|voter| self.vouched.contains(voter)) {
            self.join(vouch.promised);
        }
    }

    /// Stands behind a leader for as long as its lease runs: a forgotten grant may carry that.
    fn hold(&mut self, acquire: &Acquire, held_micros: u64, now: Instant) {
        let held = Duration::from_micros(held_micros).min(self.settings.lease_max);
        let expires = now + self.settings.patience(held);
        self.grant = Some(Grant { term: acquire.term, attempt: 0, life: acquire.life, granted_at: now, expires });
    }

    /// It has met a leader: nothing higher than `term` was led under.
    pub(super) fn join(&mut self, term: Term) {
        self.promised = self.promised.max(term);
        self.asks_from = [Instant::ZERO; 2];
        self.vouched = VoterSet::EMPTY;
        self.sworn = None;
        self.durable.join();
    }

    /// An operator says that this voter may vote though nobody can tell it who led: those who could are gone for good. Leases stay
    /// exclusive all the same, because what it forgot has run out; terms rise if those who are gone led under no more
    /// than [`Settings::terms_reserved`] terms of which nobody here has heard. It counts once the disk is ready.
    pub(super) fn swear(&mut self, now: Instant) -> WishAnswer {
        match self.met(now) {
            Met::Leader => return WishAnswer::Already,
            Met::Waits(_) => {}
            Met::Nobody | Met::Early(_) => {
                return WishAnswer::Refused("a lease that it forgot may still run: wait six seconds");
            }
        }
        if self.live_grant(now).is_some() {
            return WishAnswer::Refused("a new site is being founded: look at `roadstead status`");
        }
        if self.sworn.is_none() {
            let term = self.durable.far_term(&self.settings);
            self.hear(term);
            self.sworn = Some(term);
            self.join_if_sworn();
        }
        WishAnswer::Begun
    }

    fn join_if_sworn(&mut self) {
        if let Some(term) = self.sworn.take_if(|term| self.durable.is_usable(*term)) {
            self.join(term);
        }
    }

    /// Whether this life granted the request's term to the life that asks.
    fn is_granted(&self, acquire: &Acquire) -> bool {
        self.grant
            .is_some_and(|grant| grant.term == acquire.term && grant.life == acquire.life)
    }

    /// Whether this life granted the life that asks this term, or a lower one that it has raised since.
    fn has_granted(&self, acquire: &Acquire) -> bool {
        let is_its = |grant: Grant| grant.term.board() == acquire.term.board() && grant.life == acquire.life;
        self.grant.is_some_and(|grant| is_its(grant) && grant.term <= acquire.term)
    }

    /// The highest term promised: no lower one will be granted.
    pub(crate) const fn promised(&self) -> Term {
        self.promised
    }

    /// The last term that an earlier life can have used or promised.
    pub(super) fn floor(&self) -> Term {
        self.durable.floor(&self.settings)
    }

    /// Whether `term` lies below the durable ceiling.
    pub(super) const fn is_usable(&self, term: Term) -> bool {
        self.durable.is_usable(term)
    }

    /// Longest lease granted at once.
    pub(crate) fn longest(&self) -> Duration {
        self.durable.longest()
    }

    /// Who votes by the newest decision on disk.
    pub(crate) const fn voters(&self) -> Voters {
        self.durable.voters()
    }

    /// Who votes by the newest decision heard of.
    #[cfg(test)]
    pub(super) const fn newest_voters(&self) -> Voters {
        self.durable.newest_voters()
    }

    /// The live grant and its end.
    pub(crate) fn live_grant(&self, now: Instant) -> Option<(Term, Instant)> {
        let grant = self.grant.filter(|grant| now < grant.expires)?;
        Some((grant.term, grant.expires))
    }

    /// Whether nothing that it granted and that was voided before its time could still run.
    pub(super) fn is_clear(&self, now: Instant) -> bool {
        now >= self.voided_until
    }

    /// The last grant, live or not: its term, and when its holder was last heard asking.
    pub(super) fn last_grant(&self) -> Option<(Term, Instant)> {
        self.grant.map(|grant| (grant.term, grant.granted_at))
    }

    /// Until when it abstains, where it does.
    pub(crate) fn abstains_until(&self, now: Instant) -> Option<Instant> {
        (now < self.abstains_until).then_some(self.abstains_until)
    }

    /// From when on it could grant to `board`, as far as it knows; `now` where it could at once.
    pub(crate) fn free_for(&self, board: BoardId, now: Instant) -> Instant {
        let other = self.live_grant(now).filter(|(term, _)| term.board() != Some(board));
        let granted_until = other.map_or(now, |(_, expires)| expires);
        granted_until.max(self.abstains_until).max(now)
    }

    /// `term` is spoken of: the ceiling is raised in time.
    pub(super) fn hear(&mut self, term: Term) {
        self.durable.hear(term);
    }

    /// Judges a request by the board that its term names; grants it unless it is a trial or a repetition.
    pub(crate) fn handle_acquire(&mut self, acquire: &Acquire, now: Instant) -> Verdict {
        self.hear(acquire.term);
        self.meet(acquire, now);
        match self.judge(acquire, now) {
            Ok(()) => {
                if !acquire.trial && !self.is_repeated(acquire) {
                    self.grant(acquire, now);
                }
                Verdict::Granted { clear: self.is_clear(now) }
            }
            Err(refusal) => {
                let lease = Duration::from_micros(acquire.lease_micros);
                // Whatever stands in the way now, the disk is made ready for the next time.
                let is_longer = lease > self.durable.longest() && lease <= self.settings.lease_max;
                if is_longer && refusal != Refusal::NoVoter {
                    self.durable.want_longest(lease);
                    self.long_until = self.long_until.max(now + self.settings.lease_max * 2);
                }
                self.denial(acquire, now)
            }
        }
    }

    /// The term's board does not act under it any more.
    pub(crate) fn handle_release(&mut self, term: Term) {
        let Some(board) = term.board() else { return };
        let newest = self.released.entry(board).or_default();
        *newest = term.max(*newest);
        if let Some(grant) = self.grant.take_if(|grant| is_ended_by(grant.term, term)) {
            self.voided_until = self.voided_until.max(grant.expires);
        }
    }

    /// The term's board does not count on what this voter granted it up to `attempt`.
    pub(crate) fn handle_waive(&mut self, term: Term, attempt: u64) {
        if let Some(grant) = self
            .grant
            .as_mut()
            .filter(|grant| grant.term == term && grant.attempt <= attempt)
        {
            grant.attempt = attempt;
            self.voided_until = self.voided_until.max(grant.expires);
            grant.expires = Instant::ZERO;
        }
    }

    /// That life of `board` is over, and nothing of it acts any more. The term whose grant is void by that, if any.
    /// A late request of the dead is refused from now on; granting it would harm nobody, but cost a lease.
    pub(crate) fn handle_obituary(&mut self, board: BoardId, life: u64) -> Option<Term> {
        self.dead.insert(board, life);
        let grant = self.grant.filter(|grant| grant.term.board() == Some(board))?;
        if grant.life != life && self.settings.rules.keep(Rule::ObituaryOfItsLife) {
            return None;
        }
        self.handle_release(grant.term);
        Some(grant.term)
    }

    /// A leader's decision who votes. Answered at once where it is on disk, later where it is put there; never where
    /// this voter may stand behind another leader.
    pub(crate) fn handle_propose(&mut self, term: Term, voters: Voters, now: Instant) -> Option<ElectionMessage> {
        let by = term.board()?;
        self.hear(term);
        let is_bound = self.live_grant(now).is_some_and(|(granted, _)| granted.board() != Some(by));
        let newest = self.durable.newest_voters();
        let is_older = voters.version < newest.version || (voters.version == newest.version && voters != newest);
        if now < self.abstains_until
            || self.is_stranger()
            || term < self.promised
            || is_bound
            || self.is_released(term)
            || !self.is_usable(term)
            || is_older
        {
            return None;
        }
        self.promised = term;
        if self.durable.voters() == voters {
            return Some(ElectionMessage::Stored { term, version: voters.version });
        }
        self.durable.want_voters(voters);
        self.proposal = Some(Proposal { by, term, version: voters.version });
        None
    }

    /// Another voter or the leader knows of this decision.
    pub(crate) fn handle_voters(&mut self, voters: Voters) {
        self.durable.want_voters(voters);
    }

    /// What to put on disk now; asked for once. Also where longer leases than usual are over: a restart then costs
    /// no more than the usual abstention again.
    pub(crate) fn remember(&mut self, now: Instant) -> Option<Memory> {
        let usual = self.settings.lease_usual;
        let is_over = now >= self.long_until && now >= self.abstains_until;
        if is_over && !usual.is_zero() && self.durable.longest() > usual {
            self.durable.lower_longest(&self.settings);
        }
        self.durable.ask(&self.settings)
    }

    /// It is on disk. Whom to tell, where a leader waits for it.
    pub(crate) fn handle_remembered(&mut self, memory: Memory) -> Option<(BoardId, ElectionMessage)> {
        self.durable.handle_remembered(memory);
        self.join_if_sworn();
        let proposal = self.proposal.take_if(|proposal| proposal.version <= memory.voters.version)?;
        let still = proposal.version == memory.voters.version && proposal.term == self.promised;
        still.then_some((proposal.by, ElectionMessage::Stored { term: proposal.term, version: proposal.version }))
    }

    /// For the model: time counts from `now` on, which becomes `base`, and what is over is all one.
    #[cfg(test)]
    pub(super) fn rebase(&mut self, now: Instant, base: Instant) {
        let ahead = |at: Instant| base + at.since(now);
        self.abstains_until = ahead(self.abstains_until);
        self.long_until = ahead(self.long_until);
        self.asks_from = self.asks_from.map(|at| if at == Instant::NEVER { at } else { ahead(at) });
        // What voters say of earlier grants is for duties, and no rule of the election looks at it: not searched.
        self.voided_until = base;
        if let Some(grant) = &mut self.grant {
            grant.granted_at = base;
            grant.expires = ahead(grant.expires);
        }
    }

    /// For the model: whether `letter` can still mean anything to this voter. One that cannot is forgotten.
    #[cfg(test)]
    pub(super) fn can_use(&self, letter: &ElectionMessage) -> bool {
        match letter {
            ElectionMessage::Acquire(acquire) => {
                let is_news = !self.is_joined()
                    && (acquire.vouch.is_some() || matches!(acquire.standing, Standing::Leader | Standing::Founder));
                is_news || (acquire.term >= self.promised && !(self.is_repeated(acquire)))
            }
            ElectionMessage::Release { term } | ElectionMessage::HandOver { term } => !self.is_released(*term),
            ElectionMessage::Waive { term, attempt } => {
                self.grant.is_none_or(|grant| grant.term <= *term && grant.attempt < *attempt)
                    || self.grant.is_some_and(|grant| {
                        grant.term == *term && grant.attempt == *attempt && grant.expires > Instant::from_micros(100)
                    })
            }
            ElectionMessage::Propose { term, voters } => {
                *term >= self.promised && voters.version >= self.durable.newest_voters().version
            }
            ElectionMessage::Granted { .. } | ElectionMessage::Denied { .. } | ElectionMessage::Stored { .. } => true,
        }
    }

    /// For the model: whether it knows of that death.
    #[cfg(test)]
    pub(super) fn knows_dead(&self, board: BoardId, life: u64) -> bool {
        self.dead.get(&board).is_some_and(|dead| *dead >= life)
    }

    /// Whether the term's board gave it up, or a later one of its own.
    pub(crate) fn is_released(&self, term: Term) -> bool {
        let newest = term.board().and_then(|board| self.released.get(&board));
        newest.is_some_and(|released| term <= *released)
    }

    /// Whether the request may be granted, and if not, why.
    pub(crate) fn judge(&self, acquire: &Acquire, now: Instant) -> Result<(), Refusal> {
        let board = acquire.term.board();
        if now < self.abstains_until {
            return Err(Refusal::Abstains);
        }
        let is_stranger = (acquire.standing == Standing::Stranger) == self.is_joined();
        if is_stranger && !self.is_granted(acquire) && self.settings.rules.keep(Rule::StrangerWaits) {
            return Err(Refusal::Stranger);
        }
        self.judge_voters(acquire)?;
        if board.is_some_and(|board| self.dead.get(&board) == Some(&acquire.life)) {
            return Err(Refusal::Dead);
        }
        if acquire.term < self.promised || self.is_of_another_life(acquire) {
            return Err(Refusal::Promised);
        }
        let others = self.live_grant(now).filter(|(term, _)| term.board() != board);
        let live = others.filter(|(term, _)| !acquire.released.is_some_and(|ended| is_ended_by(*term, ended)));
        if live.is_some() && self.settings.rules.keep(Rule::OneGrant) {
            return Err(Refusal::OtherHolder);
        }
        if self.is_released(acquire.term) {
            return Err(Refusal::Released);
        }
        if !self.is_usable(acquire.term) {
            return Err(Refusal::Unreserved);
        }
        let lease = Duration::from_micros(acquire.lease_micros);
        let is_long = lease > self.durable.longest() && self.settings.rules.keep(Rule::LongestKept);
        if is_long || lease > self.settings.lease_max {
            return Err(Refusal::TooLong);
        }
        if self.is_repeated(acquire) && self.live_grant(now).is_none() {
            return Err(Refusal::Stale);
        }
        Ok(())
    }

    fn judge_voters(&self, acquire: &Acquire) -> Result<(), Refusal> {
        let newest = self.durable.newest_voters();
        if acquire.voters.version < newest.version {
            let keeps = self.settings.rules.keep(Rule::NewestVoters);
            return if keeps { Err(Refusal::OldVoters) } else { Ok(()) };
        }
        if acquire.voters.version > newest.version {
            return Ok(());
        }
        let votes = |voter: VoterId| newest.set.contains(voter);
        let candidate = acquire.term.board().is_some_and(|board| votes(board.into()));
        if acquire.voters.set == newest.set && self.me.is_none_or(votes) && candidate {
            Ok(())
        } else {
            Err(Refusal::NoVoter)
        }
    }

    /// Whether this request, or a later one of its term, was granted before: it then extends nothing.
    fn is_repeated(&self, acquire: &Acquire) -> bool {
        self.grant
            .is_some_and(|grant| grant.term == acquire.term && acquire.attempt <= grant.attempt)
    }

    /// Whether this very term was granted to another life of its board: one that has forgotten its terms, on an empty or an older
    /// disk, must take a higher one.
    fn is_of_another_life(&self, acquire: &Acquire) -> bool {
        self.grant
            .is_some_and(|grant| grant.term == acquire.term && grant.life != acquire.life)
    }

    fn grant(&mut self, acquire: &Acquire, now: Instant) {
        let lease = Duration::from_micros(acquire.lease_micros);
        let wait = if self.settings.rules.keep(Rule::DriftMargin) {
            self.settings.patience(lease)
        } else {
            lease
        };
        if let Some(ended) = acquire.released.filter(|ended| ended.board() != acquire.term.board()) {
            self.handle_release(ended);
        }
        // A live grant can only be the same board's: what it was given before is honoured to the end.
        let live = self.live_grant(now);
        let honoured = live.map_or(now, |(_, expires)| expires);
        if live.is_some_and(|(term, _)| term != acquire.term) {
            // What it let others do under its term before, maybe in an earlier life, may still run.
            self.voided_until = self.voided_until.max(honoured);
        }
        let expires = honoured.max(now + wait);
        self.promised = acquire.term;
        self.grant =
            Some(Grant { term: acquire.term, attempt: acquire.attempt, life: acquire.life, granted_at: now, expires });
        if lease > self.settings.lease_usual {
            self.long_until = self.long_until.max(expires);
        }
        self.durable.want_voters(acquire.voters);
    }

    fn denial(&self, acquire: &Acquire, now: Instant) -> Verdict {
        let free_at = acquire.term.board().map_or(now, |board| self.free_for(board, now));
        let newest = self.durable.newest_voters();
        let voters = (newest.version > acquire.voters.version).then_some(newest);
        Verdict::Denied { promised: self.promised, remaining: free_at.since(now), voters, met: self.met(now) }
    }
}

/// Whether a board that gave up `ended` acts under `term` no more: it is the same or an earlier term of the same board.
fn is_ended_by(term: Term, ended: Term) -> bool {
    term.board() == ended.board() && term <= ended
}

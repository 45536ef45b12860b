//! Owns what the leader knows of its boards' duties during one term, and decides who performs what. Must not send, and
//! performs nothing itself.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::config::{DutyConfig, DutyMode};
use crate::ids::{BoardId, BoardSet, DutyId, Epoch, Fencing, Term};
use crate::limits::{DUTY_LEASE_MAX, DUTY_SETTLE, DUTY_SILENT};
use crate::time::{Deadline, Instant};
use crate::wire::duty::{Ask, Assigned, Assignment};

use super::chair::{Chair, Given, State, Why};
use super::choice::{Field, bit};
use super::rules::{Rule, Rules, haste, patience};

/// What a board has said of itself in this term.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) epoch: Epoch,
    /// Its newest question, and when that came.
    pub(super) number: u64,
    pub(super) at: Instant,
    pub(super) can: u32,
    pub(super) ready: u32,
    /// What it could perform earlier in this life and can no more. For people alone.
    pub(super) failed: u32,
    pub(super) may_hold: bool,
    pub(super) load: u16,
    pub(super) domain: u32,
}

/// One duty, as the leader has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Post {
    /// At most one board.
    Exclusive(Chair),
    /// So many of the boards, these now.
    Available { wanted: u8, active: BoardSet },
}

/// What the leader looks at when it decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) me: BoardId,
    /// This board's account of itself, its question being of this instant.
    pub(super) own: Account,
    /// Exclusive duties that this board itself may be acting in.
    pub(super) own_holds: u32,
    /// Boards that are not down.
    pub(super) alive: BoardSet,
    /// Boards that are steady and not impaired.
    pub(super) fit: BoardSet,
    /// Other boards of the site, and those that lately were.
    pub(super) others: BoardSet,
    /// Others that are attested to hold nothing of an earlier term.
    pub(super) attested: BoardSet,
}

/// A duty that has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) duty: DutyId,
    pub(super) to: BoardId,
    pub(super) token: Fencing,
    pub(super) why: Why,
}

/// One leadership.
#[derive(Debug)]
pub(super) struct Tenure {
    pub(super) term: Term,
    pub(super) until: Instant,
    won_at: Instant,
    revision: u16,
    /// It is about to be handed over: no lease is given, and the leader's own exclusive duties end.
    pub(super) ending: bool,
    /// Nothing granted under an earlier term can still run.
    pub(super) clear: bool,
    said: BoardSet,
    accounts: BTreeMap<BoardId, Account>,
    pub(super) posts: Vec<Post>,
    /// Boards whose duties have changed since they were told.
    pub(super) dirty: BoardSet,
    rules: Rules,
}

impl Tenure {
    pub(super) fn new(term: Term, until: Instant, duties: &[DutyConfig], rules: Rules, now: Instant) -> Self {
        let post = |duty: &DutyConfig| match duty.mode {
            DutyMode::Exclusive => Post::Exclusive(Chair::new(now)),
            DutyMode::Available { active } => Post::Available { wanted: active, active: BoardSet::EMPTY },
        };
        Self {
            term,
            until,
            won_at: now,
            revision: 0,
            ending: false,
            clear: false,
            said: BoardSet::EMPTY,
            accounts: BTreeMap::new(),
            posts: duties.iter().map(post).collect(),
            dirty: BoardSet::EMPTY,
            rules,
        }
    }

    pub(super) const fn won_at(&self) -> Instant {
        self.won_at
    }

    /// Whether no revision is left: nothing moves any more in this term.
    pub(super) const fn is_exhausted(&self) -> bool {
        self.revision == u16::MAX
    }

    /// Uses up every token of the term.
    #[cfg(test)]
    pub(super) const fn exhaust(&mut self) {
        self.revision = u16::MAX;
    }

    /// From then on nothing that an earlier leader granted still runs, by any clock.
    fn sure_at(&self) -> Instant {
        if self.clear {
            self.won_at
        } else {
            self.won_at + patience(DUTY_LEASE_MAX)
        }
    }

    /// A board's question. False where it is old, of a life that is over, or was had before.
    pub(super) fn handle_ask(&mut self, from: BoardId, ask: &Ask, now: Instant) -> bool {
        if let Some(known) = self.accounts.get(&from) {
            // On an empty or an older disk a board counts its lives anew. What it was given was given in answer to a question, and has
            // run out once none has come for so long; a late question of a life that is over does no harm then.
            let is_silent = now >= known.at + patience(DUTY_LEASE_MAX);
            let is_later = ask.epoch.boot > known.epoch.boot || (ask.epoch != known.epoch && is_silent);
            if !is_later && (ask.epoch != known.epoch || ask.number <= known.number) {
                return false;
            }
            if ask.epoch != known.epoch {
                self.end_life(from, |epoch| epoch != ask.epoch, now);
            }
        }
        self.said.insert(from);
        let before = self.accounts.get(&from).filter(|known| known.epoch == ask.epoch);
        let could = before.map_or(0, |known| known.can | known.failed);
        self.accounts.insert(from, account_of(ask, could & !ask.can, now));
        let holds = ask.holds.iter().fold(0, |bits, (duty, _)| bits | bit(*duty));
        for (place, post) in self.posts.iter_mut().enumerate() {
            let Some(bit) = u32::try_from(place).ok().and_then(|place| 1_u32.checked_shl(place)) else {
                break;
            };
            match post {
                Post::Exclusive(chair) if holds & bit == 0 => {
                    let closed = if self.rules.keep(Rule::ClosedAnswers) {
                        ask.closed
                    } else {
                        u64::MAX
                    };
                    chair.handle_denial(from, ask.epoch, closed, now);
                }
                Post::Exclusive(_) => {}
                Post::Available { active, .. } => {
                    if ask.acting & bit != 0 {
                        active.insert(from);
                    }
                }
            }
        }
        for (duty, token) in &ask.holds {
            self.claim(*duty, from, ask.epoch, *token, now);
        }
        true
    }

    /// `board` may be acting in `duty` under a token that an earlier leader gave it.
    fn claim(&mut self, duty: DutyId, board: BoardId, epoch: Epoch, token: Fencing, now: Instant) {
        let sure_at = self.sure_at().max(now);
        let Some(Post::Exclusive(chair)) = self.posts.get_mut(usize::from(duty.get())) else {
            return;
        };
        if chair.state != State::Unknown || token.term() >= self.term {
            return;
        }
        // Recalled under its old token first; where it can go on, the review gives it a new one at once.
        chair.state = State::Recalled(Given { board, epoch, token, question: 0, sure_at });
        chair.why = Why::Kept;
        chair.since = now;
    }

    /// A life of `board` is over, for certain.
    pub(super) fn handle_obituary(&mut self, board: BoardId, life: u64, now: Instant) {
        let keep = self.rules.keep(Rule::LifeAttested);
        if self.accounts.get(&board).is_some_and(|account| account.epoch.nonce == life) {
            self.accounts.remove(&board);
        }
        self.end_life(board, |epoch| !keep || epoch.nonce == life, now);
    }

    fn end_life(&mut self, board: BoardId, is_over: impl Fn(Epoch) -> bool + Copy, now: Instant) {
        for post in &mut self.posts {
            match post {
                Post::Exclusive(chair) => {
                    chair.handle_end(board, is_over, now);
                }
                Post::Available { active, .. } => active.remove(board),
            }
        }
    }

    /// Whether every other board has said what it holds, is attested to hold nothing, or has had its time.
    pub(super) fn is_accounted(&self, scene: &Scene, now: Instant) -> bool {
        let known = |board| self.said.contains(board) || scene.attested.contains(board);
        !self.rules.keep(Rule::Accounting) || now >= self.sure_at() || scene.others.iter().all(known)
    }

    /// Looks at everything anew: who lost what, who gets what.
    pub(super) fn review(&mut self, scene: &Scene, now: Instant) -> Vec<Moved> {
        self.accounts.insert(scene.me, scene.own);
        let mut moves = Vec::new();
        for place in 0..self.posts.len() {
            let Some(duty) = u8::try_from(place).ok().and_then(DutyId::new) else { break };
            match self.posts[place] {
                Post::Exclusive(chair) => {
                    let chair = self.review_chair(chair, duty, scene, now, &mut moves);
                    self.posts[place] = Post::Exclusive(chair);
                }
                Post::Available { wanted, active } => {
                    let active = self.review_crew(duty, usize::from(wanted), active, scene, now);
                    self.posts[place] = Post::Available { wanted, active };
                }
            }
        }
        moves
    }

    fn review_chair(
        &mut self,
        mut chair: Chair,
        duty: DutyId,
        scene: &Scene,
        now: Instant,
        moves: &mut Vec<Moved>,
    ) -> Chair {
        let own = scene.own_holds & bit(duty) != 0;
        if chair.state == State::Unknown {
            if own {
                let token = Fencing::default();
                let (board, epoch) = (scene.me, scene.own.epoch);
                chair.state = State::Recalled(Given { board, epoch, token, question: 0, sure_at: self.sure_at() });
                chair.why = Why::Kept;
            } else if self.is_accounted(scene, now) {
                chair.vacate(now);
            }
        }
        if let State::Given(given) = chair.state {
            self.judge(&mut chair, given, duty, scene, now);
            if matches!(chair.state, State::Recalled(_)) {
                self.dirty.insert(given.board);
            }
        }
        if let State::Recalled(given) = chair.state {
            let is_free = if given.board == scene.me { !own } else { now >= given.sure_at };
            if is_free || !self.rules.keep(Rule::CertainEnd) {
                chair.vacate(now);
            } else if chair.why == Why::Kept && self.may_keep(given.board, duty, scene, now) {
                self.give(&mut chair, given.board, given.sure_at, duty, now, moves);
            }
        }
        if chair.state == State::Vacant && !self.ending && now < self.until {
            let avoid: BoardSet = chair.avoid.into_iter().collect();
            let field = self.field(true, scene, now);
            let assigned = self.assigned();
            let best = field.best(duty, avoid, BoardSet::EMPTY, &assigned);
            if let Some(board) = best.or_else(|| field.best(duty, BoardSet::EMPTY, BoardSet::EMPTY, &assigned)) {
                self.give(&mut chair, board, now, duty, now, moves);
            }
        }
        chair
    }

    /// Whether a board that has `duty` from an earlier leader goes on with it.
    fn may_keep(&self, board: BoardId, duty: DutyId, scene: &Scene, now: Instant) -> bool {
        let leaves = self.ending && board == scene.me;
        let field = self.field(false, scene, now);
        !leaves && now < self.until && field.candidates.contains(board) && field.can(board, duty)
    }

    fn give(
        &mut self,
        chair: &mut Chair,
        board: BoardId,
        sure_at: Instant,
        duty: DutyId,
        now: Instant,
        moves: &mut Vec<Moved>,
    ) {
        // At the last revision things stay as they are: nobody gets what would need a higher one.
        let Some(revision) = self.revision.checked_add(1) else { return };
        let Some(account) = self.accounts.get(&board) else { return };
        if self.rules.keep(Rule::TokenRises) || self.revision == 0 {
            self.revision = revision;
        }
        let token = Fencing::new(self.term, self.revision);
        let kept = matches!(chair.state, State::Recalled(_));
        let why = match chair.why {
            Why::NewLeader => Why::Placed,
            why => why,
        };
        chair.give(Given { board, epoch: account.epoch, token, question: 0, sure_at }, why, now);
        if kept {
            chair.why = Why::Kept;
        }
        self.dirty.insert(board);
        moves.push(Moved { duty, to: board, token, why: chair.why });
    }

    /// Whether the holder is to have it no more.
    fn judge(&self, chair: &mut Chair, given: Given, duty: DutyId, scene: &Scene, now: Instant) {
        let field = self.field(false, scene, now);
        let account = self.accounts.get(&given.board);
        let is_silent = account.is_none_or(|account| now >= account.at + DUTY_SILENT);
        let cause = if self.ending && given.board == scene.me {
            Some(Why::HandOver)
        } else if !scene.alive.contains(given.board) {
            Some(Why::HolderDown)
        } else if is_silent {
            Some(Why::HolderSilent)
        } else if !field.can(given.board, duty) {
            Some(Why::HolderCannot)
        } else {
            None
        };
        if let Some(why) = cause {
            chair.recall(why, now);
            return;
        }
        let field = self.field(true, scene, now);
        let better = if field.is_unfit(given.board, duty) {
            Some(Why::HolderUnfit)
        } else if field.is_overloaded(given.board, duty) {
            Some(Why::HolderLoaded)
        } else {
            None
        };
        chair.better = match (better, chair.better) {
            (Some(why), Some((since, before))) if why == before => Some((since, why)),
            (Some(why), _) => Some((now, why)),
            (None, _) => None,
        };
        if let Some((since, why)) = chair.better
            && now >= since + super::better_after(why)
            && self.revision < u16::MAX
        {
            chair.recall(why, now);
            chair.avoid = Some(given.board);
        }
    }

    fn review_crew(
        &mut self,
        duty: DutyId,
        wanted: usize,
        mut active: BoardSet,
        scene: &Scene,
        now: Instant,
    ) -> BoardSet {
        let before = active;
        let field = self.field(false, scene, now);
        active = active
            .iter()
            .filter(|board| field.candidates.contains(*board) && field.can(*board, duty))
            .collect();
        let is_settled = now >= self.won_at + DUTY_SETTLE
            || scene.alive.iter().all(|board| board == scene.me || self.said.contains(board));
        if is_settled {
            let assigned = self.assigned();
            while active.len() > wanted {
                let key = |board: &BoardId| field.key(*board, duty, active, &assigned);
                let Some(worst) = active.iter().max_by_key(key) else { break };
                active.remove(worst);
            }
            while active.len() < wanted {
                let Some(best) = field.best(duty, active, active, &assigned) else { break };
                active.insert(best);
            }
        }
        let changed: Vec<BoardId> = before
            .iter()
            .chain(active.iter())
            .filter(|board| before.contains(*board) != active.contains(*board))
            .collect();
        for board in changed {
            self.dirty.insert(board);
        }
        active
    }

    /// Who may be chosen: boards that live and have asked lately; for exclusive duties, that may hold one.
    fn field<'a>(&'a self, holds: bool, scene: &Scene, now: Instant) -> Field<'a> {
        let is_candidate = |(board, account): &(&BoardId, &Account)| {
            scene.alive.contains(**board) && now < account.at + DUTY_SILENT && (account.may_hold || !holds)
        };
        let candidates = self.accounts.iter().filter(is_candidate).map(|(board, _)| *board).collect();
        Field { accounts: &self.accounts, candidates, fit: scene.fit, leader: scene.me }
    }

    /// How many duties each board has been given.
    fn assigned(&self) -> BTreeMap<BoardId, u16> {
        let mut counts = BTreeMap::new();
        for post in &self.posts {
            let boards = match post {
                Post::Exclusive(chair) => chair.holder().map(|given| given.board).into_iter().collect(),
                Post::Available { active, .. } => *active,
            };
            for board in boards.iter() {
                *counts.entry(board).or_insert(0) += 1;
            }
        }
        counts
    }

    /// What `board` is to act in, in answer to its newest question.
    pub(super) fn answer(&mut self, board: BoardId, leader: u64, now: Instant) -> Option<Assigned> {
        let account = *self.accounts.get(&board)?;
        let gives = (!self.ending || !self.rules.keep(Rule::NoLeaseWhileEnding)) && now < self.until;
        let lease = if gives {
            haste(self.until.since(account.at)).min(DUTY_LEASE_MAX)
        } else {
            Default::default()
        };
        let mut duties = Vec::new();
        for (place, post) in self.posts.iter_mut().enumerate() {
            let Some(duty) = u8::try_from(place).ok().and_then(DutyId::new) else { break };
            match post {
                Post::Exclusive(Chair { state: State::Given(given), .. }) if given.board == board => {
                    if gives {
                        given.question = given.question.max(account.number);
                        given.sure_at = given.sure_at.max(self.until);
                    }
                    duties.push(Assignment { duty, token: given.token });
                }
                Post::Available { active, .. } if active.contains(board) => {
                    duties.push(Assignment { duty, token: Fencing::new(self.term, 0) });
                }
                Post::Exclusive(_) | Post::Available { .. } => {}
            }
        }
        self.dirty.remove(board);
        Some(Assigned {
            number: account.number,
            life: account.epoch.nonce,
            term: self.term,
            leader,
            lease_micros: u64::try_from(lease.as_micros()).unwrap_or(u64::MAX),
            duties,
        })
    }

    /// The boards whose last account `says` something.
    pub(super) fn boards_that(&self, says: impl Fn(&Account) -> bool) -> BoardSet {
        self.accounts
            .iter()
            .filter(|(_, account)| says(account))
            .map(|(board, _)| *board)
            .collect()
    }

    /// When the next review can find something new by time alone.
    pub(super) fn next_deadline(&self, me: BoardId, now: Instant) -> Deadline {
        let mut next = Deadline::NONE;
        for post in &self.posts {
            let due = match post {
                Post::Exclusive(chair) => self.chair_deadline(chair, me),
                Post::Available { .. } => Deadline { at: self.won_at + DUTY_SETTLE, why: "boards to say what they do" },
            };
            // What was due and found nothing is not due again.
            next = if due.at > now { next.min(due) } else { next };
        }
        next
    }

    fn chair_deadline(&self, chair: &Chair, me: BoardId) -> Deadline {
        match chair.state {
            State::Unknown => Deadline { at: self.sure_at(), why: "earlier leaders' duty leases to end" },
            State::Vacant => Deadline::NONE,
            State::Recalled(given) if given.board == me => Deadline::NONE,
            State::Recalled(given) => Deadline { at: given.sure_at, why: "a former holder's lease to end" },
            State::Given(given) => {
                let heard = self.accounts.get(&given.board).filter(|_| given.board != me);
                let silent = heard.map_or(Deadline::NONE, |account| Deadline {
                    at: account.at + DUTY_SILENT,
                    why: "a holder's question",
                });
                chair.better.map_or(silent, |(since, why)| {
                    silent.min(Deadline { at: since + super::better_after(why), why: "a holder to recover" })
                })
            }
        }
    }
}

fn account_of(ask: &Ask, failed: u32, now: Instant) -> Account {
    Account {
        epoch: ask.epoch,
        number: ask.number,
        at: now,
        can: ask.can,
        ready: ask.ready,
        failed,
        may_hold: ask.may_hold,
        load: ask.load_permille,
        domain: ask.domain,
    }
}

//! Owns what a voter has granted and promised, and judges requests for a lease. Must not want anything for its own
//! board: the candidate beside it is asked and answered like any other.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::Life;
use super::rules::{Rule, Rules};
use super::terms::Terms;
use crate::ids::{BoardId, Term};
use crate::limits::DRIFT_PERMILLE;
use crate::time::Instant;
use crate::wire::election::Acquire;

/// Why a voter refuses. A refusal changes nothing at the voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It restarted not long ago, and may have granted a lease that still runs.
    Abstains,
    /// It has a live grant to another board.
    OtherHolder,
    /// It has promised a higher term.
    Promised,
    /// The asking board gave this term up.
    Released,
    /// The term lies above the durable ceiling: a restart would forget the promise. It is being raised.
    Unreserved,
    /// The lease asked for is longer than the site's, and so longer than a restarted voter would abstain.
    TooLong,
    /// A repetition of a request whose grant has run out.
    Stale,
}

/// A voter's answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Granted; or, in a trial, it would be.
    Granted,
    /// Not granted, and nothing changed.
    Denied {
        /// The highest term promised.
        promised: Term,
        /// Until the voter's live grant to another board, or its abstention, ends.
        remaining: Duration,
    },
}

/// A grant, live or run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grant {
    term: Term,
    attempt: u64,
    expires: Instant,
}

/// One voter's memory. Nothing of it is on disk: after a restart the floor of terms and the abstention stand for it
/// (PaxosLease: waiting replaces writing).
#[derive(Debug)]
pub(super) struct Voter {
    lease: Duration,
    grant: Option<Grant>,
    promised: Term,
    /// The newest term each board gave up: one entry a voter.
    released: BTreeMap<BoardId, Term>,
    abstains_until: Instant,
    rules: Rules,
}

impl Voter {
    /// A voter that honours what its earlier lives may have granted.
    pub(super) fn new(lease: Duration, life: Life, terms: &Terms, rules: Rules, now: Instant) -> Self {
        let is_first_life = life.boot <= 1;
        let abstains_until = if is_first_life || !rules.keep(Rule::Abstention) {
            now
        } else {
            now + patience(lease)
        };
        Self {
            lease,
            grant: None,
            promised: terms.floor(),
            released: BTreeMap::new(),
            abstains_until,
            rules,
        }
    }

    /// The highest term promised: no lower one will be granted.
    pub(super) const fn promised(&self) -> Term {
        self.promised
    }

    /// The live grant and its end.
    pub(super) fn live_grant(&self, now: Instant) -> Option<(Term, Instant)> {
        let grant = self.grant.filter(|grant| now < grant.expires)?;
        Some((grant.term, grant.expires))
    }

    /// Until when it abstains, where it does.
    pub(super) fn abstains_until(&self, now: Instant) -> Option<Instant> {
        (now < self.abstains_until).then_some(self.abstains_until)
    }

    /// From when on it could grant to `board`, as far as it knows; `now` where it could at once.
    pub(super) fn free_for(&self, board: BoardId, now: Instant) -> Instant {
        let other = self.live_grant(now).filter(|(term, _)| term.board() != Some(board));
        let granted_until = other.map_or(now, |(_, expires)| expires);
        granted_until.max(self.abstains_until).max(now)
    }

    /// Judges a request by the board that its term names; grants it unless it is a trial or a repetition.
    pub(super) fn handle_acquire(&mut self, acquire: &Acquire, terms: &Terms, now: Instant) -> Verdict {
        match self.judge(acquire, terms, now) {
            Ok(()) => {
                if !acquire.trial && !self.is_repeated(acquire) {
                    self.grant(acquire, now);
                }
                Verdict::Granted
            }
            Err(_) => self.denial(acquire, now),
        }
    }

    /// The term's board does not act under it any more.
    pub(super) fn handle_release(&mut self, board: BoardId, term: Term) {
        let newest = self.released.entry(board).or_default();
        *newest = term.max(*newest);
        if self.grant.is_some_and(|grant| grant.term == term) {
            self.grant = None;
        }
    }

    /// Whether the term's board gave it up, or a later one of its own.
    pub(super) fn is_released(&self, term: Term) -> bool {
        let newest = term.board().and_then(|board| self.released.get(&board));
        newest.is_some_and(|released| term <= *released)
    }

    /// Whether the request may be granted, and if not, why.
    pub(super) fn judge(&self, acquire: &Acquire, terms: &Terms, now: Instant) -> Result<(), Refusal> {
        let board = acquire.term.board();
        if now < self.abstains_until {
            return Err(Refusal::Abstains);
        }
        if acquire.term < self.promised {
            return Err(Refusal::Promised);
        }
        let other = self.live_grant(now).filter(|(term, _)| term.board() != board);
        if other.is_some() && self.rules.keep(Rule::OneGrant) {
            return Err(Refusal::OtherHolder);
        }
        if self.is_released(acquire.term) {
            return Err(Refusal::Released);
        }
        if !terms.is_usable(acquire.term) {
            return Err(Refusal::Unreserved);
        }
        if Duration::from_micros(acquire.lease_micros) > self.lease {
            return Err(Refusal::TooLong);
        }
        if self.is_repeated(acquire) && self.live_grant(now).is_none() {
            return Err(Refusal::Stale);
        }
        Ok(())
    }

    /// Whether this request, or a later one of its term, was granted before: it then extends nothing.
    fn is_repeated(&self, acquire: &Acquire) -> bool {
        self.grant
            .is_some_and(|grant| grant.term == acquire.term && acquire.attempt <= grant.attempt)
    }

    fn grant(&mut self, acquire: &Acquire, now: Instant) {
        let lease = Duration::from_micros(acquire.lease_micros);
        let wait = if self.rules.keep(Rule::DriftMargin) {
            patience(lease)
        } else {
            lease
        };
        // A live grant can only be the same board's: what it was given before is honoured to the end.
        let honoured = self.live_grant(now).map_or(now, |(_, expires)| expires);
        self.promised = acquire.term;
        self.grant = Some(Grant { term: acquire.term, attempt: acquire.attempt, expires: honoured.max(now + wait) });
    }

    fn denial(&self, acquire: &Acquire, now: Instant) -> Verdict {
        let free_at = acquire.term.board().map_or(now, |board| self.free_for(board, now));
        Verdict::Denied { promised: self.promised, remaining: free_at.since(now) }
    }
}

/// How long a voter waits for a lease of `lease` to run out on the holder's clock: the voter's may be fast and the
/// holder's slow, each by [`DRIFT_PERMILLE`]. Rounded up.
pub(super) fn patience(lease: Duration) -> Duration {
    let micros = u64::try_from(lease.as_micros()).unwrap_or(u64::MAX);
    let fast = micros.saturating_mul(1000 + DRIFT_PERMILLE);
    Duration::from_micros(fast.div_ceil(1000 - DRIFT_PERMILLE))
}

//! Owns the numbering of terms on one board: the highest taken, the highest heard of, and the durably reserved
//! ceiling below which terms may be used and promised. Must not decide who gets a term.
//!
//! ```text
//! 0 ──── floor ─────────── taken ───────── heard ──────── durable ───── asked
//!        │ earlier lives    │ next() = one  │ reserve_ahead │ usable up   │ on its way
//!        │ may have used it │ above it      │ looks at it   │ to here     │ to disk
//! ```
//!
//! Taken and heard differ when a restarted board speaks of its floor, a whole reserve above the others: they put a
//! higher ceiling on disk at once, but go on numbering from below, which a takeover need not wait for.

use super::Life;
use super::rules::{Rule, Rules};
use crate::ids::{BoardId, Term};
use crate::limits::{TERM_COUNTER_MAX, TERMS_RESERVED};

/// The terms this board knows of and may use.
#[derive(Debug)]
pub(super) struct Terms {
    board: BoardId,
    floor: u64,
    taken: Term,
    heard: Term,
    durable: u64,
    asked: u64,
}

impl Terms {
    /// Starts above everything an earlier life may have used: the shell has raised the ceiling by
    /// [`TERMS_RESERVED`] for this life, so the earlier ceiling is that much below.
    pub(super) fn new(board: BoardId, life: Life, rules: Rules) -> Self {
        let floor = if rules.keep(Rule::CeilingKept) {
            life.term_ceiling.saturating_sub(TERMS_RESERVED)
        } else {
            0
        };
        Self {
            board,
            floor,
            taken: last_of(floor),
            heard: last_of(floor),
            durable: life.term_ceiling,
            asked: life.term_ceiling,
        }
    }

    /// The last term that an earlier life of this board can have used or promised.
    pub(super) fn floor(&self) -> Term {
        last_of(self.floor)
    }

    /// The highest term that a board may hold or a voter may have promised, as far as this board met it.
    pub(super) const fn taken(&self) -> Term {
        self.taken
    }

    /// The highest term heard of.
    pub(super) const fn heard(&self) -> Term {
        self.heard
    }

    /// Somebody spoke of `term`. One near the end of the numbers is not believed: no site gets there.
    pub(super) fn hear(&mut self, term: Term) {
        if term > self.heard && term.counter() <= TERM_COUNTER_MAX {
            self.heard = term;
        }
    }

    /// `term` is led under, asked for or promised: this board's own must lie above it.
    pub(super) fn take(&mut self, term: Term) {
        self.hear(term);
        if term > self.taken && term.counter() <= TERM_COUNTER_MAX {
            self.taken = term;
        }
    }

    /// A term of this board above every term taken. It may not be usable yet.
    pub(super) const fn next(&self) -> Term {
        Term::new(self.taken.counter() + 1, self.board)
    }

    /// Whether `term` may be used or promised: a restart will not forget it.
    pub(super) const fn is_usable(&self, term: Term) -> bool {
        term.counter() <= self.durable
    }

    /// The ceiling is on disk.
    pub(super) fn handle_reserved(&mut self, ceiling: u64) {
        self.durable = self.durable.max(ceiling);
        self.asked = self.asked.max(ceiling);
    }

    /// The ceiling to put on disk now, asked for once: when less than half of the reserve is left.
    pub(super) fn reserve_ahead(&mut self) -> Option<u64> {
        let used = self.heard.counter();
        if used + TERMS_RESERVED / 2 < self.asked {
            return None;
        }
        self.asked = used + TERMS_RESERVED;
        Some(self.asked)
    }
}

/// The last term with this counter: at or above the term of any board.
const fn last_of(counter: u64) -> Term {
    if counter == 0 {
        return Term::ZERO;
    }
    Term::from_token(counter << 8 | 0xff)
}

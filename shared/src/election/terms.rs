//! Owns the numbering of terms on one board: the highest taken and the highest heard of. Must not decide who gets a
//! term, nor which one a restart would remember (the durable ceiling does).
//!
//! Taken and heard differ when a restarted board speaks of its floor, a whole reserve above the others: they put a
//! higher ceiling on disk at once, but go on numbering from below, which a takeover need not wait for.

use crate::ids::{BoardId, Term};
use crate::limits::TERM_COUNTER_MAX;

/// The terms this board knows of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Terms {
    board: BoardId,
    taken: Term,
    heard: Term,
}

impl Terms {
    /// Starts above `floor`, the last term that an earlier life may have used.
    pub(super) const fn new(board: BoardId, floor: Term) -> Self {
        Self { board, taken: floor, heard: floor }
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
}

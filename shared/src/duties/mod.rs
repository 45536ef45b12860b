//! Owns which duties this board performs, and under which term. Today the holder of the site's lease performs them
//! all, and there is one: `uplink`. Must not decide who leads, nor perform anything.
//!
//! ```text
//!   held before │ lease now │ told
//!   ────────────┼───────────┼──────────────────────────────
//!   none        │ none      │ nothing
//!   none        │ t         │ started t
//!   t           │ t         │ nothing
//!   t           │ u         │ stopped t, started u
//!   t           │ none      │ stopped t
//! ```

#[cfg(test)]
mod tests;

use crate::ids::{BoardId, Term};
use crate::outbox::Outbox;

/// A named service of the site that one board performs at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// Speaks for the site to the region.
    Uplink,
}

impl Duty {
    /// Every duty, in the order in which they start; they stop in the reverse.
    pub const ALL: [Self; 1] = [Self::Uplink];

    /// The duty's name on the status page and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
        }
    }
}

/// Who performs what: the leader's decision, ordered by term and then revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignments {
    /// The leader's term.
    pub term: Term,
    /// Counts the decisions of this term, from 1.
    pub revision: u64,
    /// Who speaks for the site to the region.
    pub uplink: BoardId,
}

/// What becomes of this board's duties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Perform this duty; attach `term` to every effect of it.
    Started {
        /// Which.
        duty: Duty,
        /// The fencing token.
        term: Term,
    },
    /// Perform it no more under this term.
    Stopped {
        /// Which.
        duty: Duty,
        /// The fencing token that is void.
        term: Term,
    },
}

/// The duties of one board. It waits for nothing, and so has no deadline.
#[derive(Debug)]
pub struct Duties {
    board: BoardId,
    assignments: Option<Assignments>,
}

impl Duties {
    /// A board without duties.
    pub const fn new(board: BoardId) -> Self {
        Self { board, assignments: None }
    }

    /// The lease is held under this term, or not held. Saying the same again changes nothing.
    pub fn handle_lease(&mut self, lease: Option<Term>, out: &mut Outbox<Output>) {
        let held = self.assignments.map(|assignments| assignments.term);
        if held == lease {
            return;
        }
        if let Some(term) = held {
            self.assignments = None;
            for duty in Duty::ALL.into_iter().rev() {
                out.push(Output::Stopped { duty, term });
            }
        }
        if let Some(term) = lease {
            self.assignments = Some(Assignments { term, revision: 1, uplink: self.board });
            for duty in Duty::ALL {
                out.push(Output::Started { duty, term });
            }
        }
    }

    /// The term under which this board performs `duty`. Before an effect ask the election's `holds` too.
    pub fn holds(&self, duty: Duty) -> Option<Term> {
        let assignments = self.assignments?;
        let holder = match duty {
            Duty::Uplink => assignments.uplink,
        };
        (holder == self.board).then_some(assignments.term)
    }

    /// This board's decision, while it leads.
    pub const fn assignments(&self) -> Option<Assignments> {
        self.assignments
    }
}

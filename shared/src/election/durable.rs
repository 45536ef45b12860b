//! Owns what a voter has on disk and what is on its way there: the ceiling of terms, the longest lease, who votes. One
//! writing at a time, so that a crash leaves either what was or what was asked for. Must not judge a request.
//!
//! ```text
//! terms   0 ──── floor ───────────── heard ────────── on disk ───── asked
//!                │ earlier lives      │ ask() looks    │ usable up    │ on its way
//!                │ may have used it   │ at it          │ to here      │
//! ```

use core::time::Duration;

use super::rules::{Rule, Settings};
use crate::action::Memory;
use crate::ids::{Term, Voters};
use crate::limits::TERM_COUNTER_MAX;

/// One voter's disk, as far as it knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Durable {
    /// On disk for certain.
    memory: Memory,
    /// On its way to disk: after a crash it may be there or not.
    asked: Option<Memory>,
    /// The last counter that an earlier life can have used or promised.
    floor: u64,
    /// Highest term counter heard of.
    heard: u64,
    /// Longest lease to be ready for, in microseconds.
    longest: u64,
    /// Who votes by the newest decision heard of.
    voters: Voters,
    /// Who votes where no decision is on disk.
    configured: Voters,
    /// Whether it has met a leader.
    joined: bool,
}

impl Durable {
    /// What is on disk in the first instant of a life. `floor`: the last counter that an earlier life can have used.
    pub(super) fn new(memory: Memory, floor: u64, configured: Voters, settings: &Settings) -> Self {
        let usual = micros(settings.lease_usual);
        Self {
            memory,
            asked: None,
            floor,
            heard: floor,
            longest: memory.longest_micros.max(usual),
            voters: if memory.voters.version > configured.version {
                memory.voters
            } else {
                configured
            },
            configured,
            joined: memory.joined,
        }
    }

    /// Whether it has met a leader since its memory began.
    pub(super) const fn is_joined(&self) -> bool {
        self.joined
    }

    /// It has met one, which leads under a term that was heard of before.
    pub(super) const fn join(&mut self) {
        self.joined = true;
    }

    /// The last term that an earlier life can have used or promised.
    pub(super) fn floor(&self, settings: &Settings) -> Term {
        if settings.rules.keep(Rule::CeilingKept) {
            last_of(self.floor)
        } else {
            Term::ZERO
        }
    }

    /// Somebody spoke of `term`. One near the end of the numbers is not believed: no site gets there.
    pub(super) fn hear(&mut self, term: Term) {
        if term.counter() <= TERM_COUNTER_MAX {
            self.heard = self.heard.max(term.counter());
        }
    }

    /// The last term that lies as far above all that was heard of as is reserved at once.
    pub(super) fn far_term(&self, settings: &Settings) -> Term {
        last_of((self.heard + settings.terms_reserved).min(TERM_COUNTER_MAX))
    }

    /// Whether `term` may be used or promised: a restart will not forget it.
    pub(super) const fn is_usable(&self, term: Term) -> bool {
        term.counter() <= self.memory.term_ceiling
    }

    /// Longest lease that may be granted: whatever a crash leaves on disk, the next life abstains for it.
    pub(super) fn longest(&self) -> Duration {
        let coming = self.asked.map_or(u64::MAX, |asked| asked.longest_micros);
        Duration::from_micros(self.memory.longest_micros.min(coming))
    }

    /// Longer leases than [`Durable::longest`] are asked for.
    pub(super) fn want_longest(&mut self, lease: Duration) {
        self.longest = self.longest.max(micros(lease));
    }

    /// No lease longer than the usual one was granted that could still run.
    pub(super) fn lower_longest(&mut self, settings: &Settings) {
        self.longest = micros(settings.lease_usual);
    }

    /// Who votes by the newest decision that is on disk.
    pub(super) const fn voters(&self) -> Voters {
        if self.memory.voters.version > self.configured.version {
            self.memory.voters
        } else {
            self.configured
        }
    }

    /// Who votes by the newest decision heard of, on disk or on its way there.
    pub(super) const fn newest_voters(&self) -> Voters {
        self.voters
    }

    /// A decision who votes is to be remembered; an older one than the newest is not. What the configuration says is not
    /// put on disk: there it may be corrected while nobody runs.
    pub(super) fn want_voters(&mut self, voters: Voters) {
        if voters.version > self.voters.version && voters.version > Voters::CONFIGURED {
            self.voters = voters;
        }
    }

    /// What to put on disk now, asked for once; nothing while a writing is under way. The ceiling is raised when less
    /// than half of the reserve is left.
    pub(super) fn ask(&mut self, settings: &Settings) -> Option<Memory> {
        if self.asked.is_some() {
            return None;
        }
        let mut wanted = self.memory;
        if self.heard + settings.terms_reserved / 2 >= wanted.term_ceiling {
            wanted.term_ceiling = self.heard + settings.terms_reserved;
        }
        wanted.longest_micros = self.longest;
        wanted.joined = self.joined;
        if self.voters.version > self.configured.version {
            wanted.voters = self.voters;
        }
        if wanted == self.memory {
            return None;
        }
        self.asked = Some(wanted);
        self.asked
    }

    /// It is on disk.
    pub(super) fn handle_remembered(&mut self, memory: Memory) {
        self.memory = memory;
        self.asked = None;
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The last term with this counter: at or above the term of any board.
const fn last_of(counter: u64) -> Term {
    if counter == 0 {
        return Term::ZERO;
    }
    Term::from_token(counter << 8 | 0xff)
}

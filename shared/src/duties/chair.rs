//! Owns the leader's knowledge of one exclusive duty: who has it, under which token, and until when a board that it left
//! may still be acting. Must not choose who gets it.
//!
//! ```text
//!  state    │ given to X │ taken away │ X says: held    │ X says: not held │ X's life over │ X's lease over │ all accounted
//!  ─────────┼────────────┼────────────┼─────────────────┼──────────────────┼───────────────┼────────────────┼──────────────
//!  unknown  │            │            │ given, recalled │                  │               │                │ vacant
//!  vacant   │ given      │            │                 │                  │               │                │
//!  given    │            │ recalled   │                 │                  │ vacant        │                │
//!  recalled │            │            │                 │ vacant           │ vacant        │ vacant         │
//! ```
//!
//! A board that says, to a new leader, that it holds a duty had a right to it when it said so; nobody else had one then,
//! and nobody but this leader has given one since. So it is given the duty again at once, where it can go on.

use crate::ids::{BoardId, Epoch, Fencing};
use crate::time::Instant;

/// A duty in somebody's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) board: BoardId,
    /// The life that has it.
    pub(super) epoch: Epoch,
    pub(super) token: Fencing,
    /// The newest question of that life that was answered with it.
    pub(super) question: u64,
    /// From then on no right that it was given still runs.
    pub(super) sure_at: Instant,
}

/// Where an exclusive duty is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// With whomever an earlier leader gave it to, if with anybody.
    Unknown,
    /// With nobody, for certain.
    Vacant,
    /// With this board.
    Given(Given),
    /// It is taken from this board, and has not certainly left it.
    Recalled(Given),
}

/// Why a duty is where it is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The leader is new and has not placed it yet.
    NewLeader,
    /// It stayed where it was under the leader before.
    Kept,
    /// Nobody had it.
    Placed,
    /// Its holder is down.
    HolderDown,
    /// Its holder was restarted, or attested as dead.
    HolderEnded,
    /// Its holder has not asked for its lease for long.
    HolderSilent,
    /// Its holder cannot perform it any more.
    HolderCannot,
    /// Its holder was impaired or unsteady for long, and another was well.
    HolderUnfit,
    /// Its holder was overloaded for long, and another had room.
    HolderLoaded,
    /// The leader hands over, and its own duties end first.
    HandOver,
}

impl Why {
    /// In words, for the status page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewLeader => "the leader is new",
            Self::Kept => "it stayed where it was",
            Self::Placed => "nobody had it",
            Self::HolderDown => "its holder is down",
            Self::HolderEnded => "its holder's process ended",
            Self::HolderSilent => "its holder did not ask for its lease",
            Self::HolderCannot => "its holder cannot perform it any more",
            Self::HolderUnfit => "its holder was impaired or unsteady for long",
            Self::HolderLoaded => "its holder was overloaded for long",
            Self::HandOver => "the leader hands over",
        }
    }
}

/// One exclusive duty, as the leader has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chair {
    pub(super) state: State,
    pub(super) since: Instant,
    pub(super) why: Why,
    /// Since when another board would do much better, and why.
    pub(super) better: Option<(Instant, Why)>,
    /// The board that it was taken from for being worse than others.
    pub(super) avoid: Option<BoardId>,
}

impl Chair {
    pub(super) const fn new(now: Instant) -> Self {
        Self { state: State::Unknown, since: now, why: Why::NewLeader, better: None, avoid: None }
    }

    /// The board that is to act, and its token.
    pub(super) const fn holder(&self) -> Option<Given> {
        match self.state {
            State::Given(given) => Some(given),
            State::Unknown | State::Vacant | State::Recalled(_) => None,
        }
    }

    pub(super) fn give(&mut self, given: Given, why: Why, now: Instant) {
        self.state = State::Given(given);
        self.since = now;
        self.why = why;
        self.better = None;
        self.avoid = None;
    }

    /// Its holder is to have it no more.
    pub(super) fn recall(&mut self, why: Why, now: Instant) {
        if let State::Given(given) = self.state {
            self.state = State::Recalled(given);
            self.since = now;
            self.why = why;
            self.better = None;
        }
    }

    /// Nobody has it, for certain.
    pub(super) fn vacate(&mut self, now: Instant) {
        if self.state != State::Vacant {
            self.state = State::Vacant;
            self.since = now;
        }
    }

    /// `board` says, in its life `epoch`, that it does not act in it and closes answers up to `closed`.
    pub(super) fn handle_denial(&mut self, board: BoardId, epoch: Epoch, closed: u64, now: Instant) {
        if let State::Recalled(given) = self.state
            && given.board == board
            && given.epoch == epoch
            && closed >= given.question
        {
            self.vacate(now);
        }
    }

    /// Every life of `board` that `is_over` is over.
    pub(super) fn handle_end(&mut self, board: BoardId, is_over: impl Fn(Epoch) -> bool, now: Instant) -> bool {
        let (State::Given(given) | State::Recalled(given)) = self.state else {
            return false;
        };
        let ended = given.board == board && is_over(given.epoch);
        if ended {
            if matches!(self.state, State::Given(_)) {
                self.why = Why::HolderEnded;
            }
            self.vacate(now);
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;

    fn given() -> Given {
        let board = BoardId::new(2).unwrap();
        let token = Fencing::new(Term::new(1, board), 1);
        let epoch = Epoch { boot: 1, nonce: 7 };
        Given { board, epoch, token, question: 5, sure_at: Instant::from_micros(50) }
    }

    fn chair(state: State) -> Chair {
        Chair { state, ..Chair::new(Instant::ZERO) }
    }

    #[test]
    fn each_cell_of_the_table_that_is_decided_here() {
        let now = Instant::from_micros(9);
        let given = given();
        let (held, recalled) = (State::Given(given), State::Recalled(given));
        type Event = fn(&mut Chair, Instant);
        let events: [Event; 3] = [
            |chair, now| chair.recall(Why::HolderDown, now),
            |chair, now| chair.handle_denial(BoardId::new(2).unwrap(), Epoch { boot: 1, nonce: 7 }, 5, now),
            |chair, now| {
                chair.handle_end(BoardId::new(2).unwrap(), |epoch| epoch.nonce == 7, now);
            },
        ];
        let table = [
            (State::Unknown, [State::Unknown, State::Unknown, State::Unknown]),
            (State::Vacant, [State::Vacant, State::Vacant, State::Vacant]),
            (held, [recalled, held, State::Vacant]),
            (recalled, [recalled, State::Vacant, State::Vacant]),
        ];
        for (before, row) in table {
            for (column, after) in row.into_iter().enumerate() {
                let mut chair = chair(before);
                events[column](&mut chair, now);
                assert_eq!(chair.state, after, "{before:?}, event {column}");
            }
        }
    }

    #[test]
    fn a_denial_counts_only_once_the_last_answer_is_closed_and_from_the_same_life() {
        let given = given();
        for (epoch, closed, leaves) in
            [(given.epoch, 4, false), (Epoch { boot: 2, nonce: 7 }, 5, false), (given.epoch, 5, true)]
        {
            let mut chair = chair(State::Recalled(given));
            chair.handle_denial(given.board, epoch, closed, Instant::ZERO);
            assert_eq!(chair.state == State::Vacant, leaves, "{epoch} {closed}");
        }
    }
}

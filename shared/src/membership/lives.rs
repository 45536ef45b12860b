//! Which life of a board is believed: tells a board that restarted from two machines that run as one board, as a cloned disk
//! makes them. A life that another one followed is over and says nothing more; one that greets all the same runs beside the
//! other. Of the two the later by number of starts, then by nonce, is believed, on every board alike, as long as a connection
//! of it stands: so that votes and copies are one machine's.

use alloc::collections::VecDeque;

use crate::ids::Epoch;
use crate::limits::LIVES_KEPT;

/// How a greeting is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By the life that is believed.
    Same,
    /// By a life that was never heard of: the board has restarted.
    New,
    /// By one that counted as over, and is believed from now on.
    Back,
    /// By one that counts as over, beside one that is believed.
    Refused,
}

/// The lives of one board.
#[derive(Clone, Debug)]
pub struct Lives {
    believed: Epoch,
    /// Lives that others followed, the last one at the back.
    over: VecDeque<Epoch>,
}

impl Lives {
    /// `first` has greeted.
    pub fn new(first: Epoch) -> Self {
        Self { believed: first, over: VecDeque::new() }
    }

    /// The life that is believed.
    pub const fn believed(&self) -> Epoch {
        self.believed
    }

    /// The life that was believed before.
    pub fn last_over(&self) -> Option<Epoch> {
        self.over.back().copied()
    }

    /// The board says hello in the life `epoch`; `stands`: beside a connection of the life that is believed.
    pub fn handle_greeting(&mut self, epoch: Epoch, stands: bool) -> Verdict {
        if epoch == self.believed {
            return Verdict::Same;
        }
        let was_over = self.over.contains(&epoch);
        if was_over && stands && epoch < self.believed {
            return Verdict::Refused;
        }
        self.over.retain(|life| *life != epoch);
        if self.over.len() == LIVES_KEPT {
            self.over.pop_front();
        }
        self.over.push_back(core::mem::replace(&mut self.believed, epoch));
        if was_over && stands { Verdict::Back } else { Verdict::New }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(boot: u32, nonce: u64) -> Epoch {
        Epoch { boot, nonce }
    }

    #[test]
    fn a_board_that_restarts_is_believed_whatever_its_disk_counts() {
        let mut lives = Lives::new(life(7, 1));
        assert_eq!(lives.handle_greeting(life(7, 1), true), Verdict::Same);
        assert_eq!(lives.handle_greeting(life(8, 2), true), Verdict::New);
        assert_eq!(lives.handle_greeting(life(8, 1), true), Verdict::New, "an old image was put back");
        assert_eq!(lives.handle_greeting(life(1, 3), true), Verdict::New, "its disk was replaced");
    }

    #[test]
    fn of_two_that_greet_in_turn_the_later_is_believed_from_the_first_greeting_that_proves_it() {
        for (one, other) in [(life(8, 1), life(8, 2)), (life(8, 2), life(8, 1)), (life(9, 1), life(8, 2))] {
            let mut lives = Lives::new(one);
            let (earlier, later) = (one.min(other), one.max(other));
            assert_eq!(lives.handle_greeting(other, true), Verdict::New, "it looks like a restart");
            let proof = lives.handle_greeting(one, true);
            assert_eq!(proof, if one == later { Verdict::Back } else { Verdict::Refused });
            for _ in 0..3 {
                assert_eq!(lives.handle_greeting(earlier, true), Verdict::Refused);
                assert_eq!(lives.handle_greeting(later, true), Verdict::Same);
            }
            assert_eq!(lives.handle_greeting(earlier, false), Verdict::New, "the other one is gone");
        }
    }

    #[test]
    fn earlier_lives_are_remembered_in_bounded_memory() {
        let mut lives = Lives::new(life(1, 0));
        for boot in 2..100 {
            assert_eq!(lives.handle_greeting(life(boot, 0), true), Verdict::New);
            assert!(lives.over.len() <= LIVES_KEPT);
        }
    }
}

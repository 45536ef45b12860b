//! Owns a board's questions to the leader: when each was asked, which answers still count, when the next is due. Must not
//! know what is asked.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::limits::DUTY_QUESTIONS_MAX;
use crate::time::Instant;

/// The questions of one life.
#[derive(Debug)]
pub(super) struct Asking {
    /// Number and instant of the newest questions, oldest first.
    asked: VecDeque<(u64, Instant)>,
    next: u64,
    /// The newest question whose answer was acted on.
    answered: u64,
    /// The newest that was said to be closed: answers up to it are not acted on.
    closed: u64,
    due: Instant,
}

impl Asking {
    pub(super) const fn new() -> Self {
        Self { asked: VecDeque::new(), next: 1, answered: 0, closed: 0, due: Instant::NEVER }
    }

    /// Asks at `now`, and again after `period`: the question's number, and up to which one answers are closed.
    pub(super) fn ask(&mut self, now: Instant, period: Duration) -> (u64, u64) {
        let number = self.next;
        self.next += 1;
        if self.asked.len() == DUTY_QUESTIONS_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((number, now));
        self.closed = self.answered;
        self.due = now + period;
        (number, self.closed)
    }

    /// An answer to `number` came: when that was asked, if the answer still counts and none newer did.
    pub(super) fn handle_answer(&mut self, number: u64, keep_closed: bool) -> Option<Instant> {
        let is_closed = keep_closed && (number <= self.closed || number < self.answered);
        if is_closed {
            return None;
        }
        let (_, at) = *self.asked.iter().find(|(asked, _)| *asked == number)?;
        self.answered = self.answered.max(number);
        Some(at)
    }

    /// There is something to ask or to say: at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now);
    }

    /// Questions are asked every `period` from now on; none where there is nobody to ask, though an answer came late.
    pub(super) fn quicken(&mut self, period: Duration) {
        if let Some((_, last)) = self.asked.back().filter(|_| self.due != Instant::NEVER) {
            self.due = self.due.min(*last + period);
        }
    }

    /// There is nobody to ask.
    pub(super) fn pause(&mut self) {
        self.due = Instant::NEVER;
    }

    pub(super) const fn due(&self) -> Instant {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_until_it_was_said_to_be_closed() {
        let at = Instant::from_micros;
        let period = Duration::from_micros(10);
        let mut asking = Asking::new();
        assert_eq!(asking.ask(at(1), period), (1, 0));
        assert_eq!(asking.ask(at(2), period), (2, 0));
        assert_eq!(asking.handle_answer(1, true), Some(at(1)));
        assert_eq!(asking.handle_answer(1, true), Some(at(1)), "it may be given again");
        assert_eq!(asking.ask(at(3), period), (3, 1));
        assert_eq!(asking.handle_answer(1, true), None, "closed");
        assert_eq!(asking.handle_answer(2, true), Some(at(2)));
        assert_eq!(asking.handle_answer(9, true), None, "never asked");
        assert_eq!(asking.due(), at(13));
    }

    #[test]
    fn only_the_newest_questions_count() {
        let mut asking = Asking::new();
        for _ in 0..=DUTY_QUESTIONS_MAX {
            asking.ask(Instant::ZERO, Duration::ZERO);
        }
        assert_eq!(asking.handle_answer(1, true), None);
        assert_eq!(asking.handle_answer(2, true), Some(Instant::ZERO));
    }
}

//! How long a backlog still takes to go home, by how it fell lately.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::time::Instant;

/// Between two marks.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// So many marks are remembered: an estimate looks back half a minute.
const MARKS_MAX: usize = 30;
/// And it needs so much to look at.
const SEEN_LEAST: Duration = Duration::from_secs(2);

/// What the backlog was lately.
#[derive(Clone, Debug, Default)]
pub struct Outlook {
    marks: VecDeque<(Instant, u64)>,
}

impl Outlook {
    /// The backlog is so many records now. Call as often as it is known.
    pub fn note(&mut self, backlog: u64, now: Instant) {
        if self.marks.back().is_some_and(|(at, _)| now < *at + MARK_EVERY) {
            return;
        }
        // What grows is another backlog: how it fell before says nothing of it.
        if self.marks.back().is_some_and(|(_, before)| backlog > *before) {
            self.marks.clear();
        }
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((now, backlog));
    }

    /// How long it takes at the pace of the last half minute, until nothing is left; `None` where it does not fall, or nothing waits.
    pub fn estimate(&self) -> Option<Duration> {
        let ((from, most), (to, left)) = (self.marks.front()?, self.marks.back()?);
        let (took, fell) = (to.since(*from), most.saturating_sub(*left));
        if *left == 0 || fell == 0 || took < SEEN_LEAST {
            return None;
        }
        let micros = took.as_micros().saturating_mul(u128::from(*left)) / u128::from(fell);
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(backlogs: impl IntoIterator<Item = u64>) -> Outlook {
        let mut outlook = Outlook::default();
        for (second, backlog) in backlogs.into_iter().enumerate() {
            outlook.note(backlog, Instant::from_micros(second as u64 * 1_000_000));
        }
        outlook
    }

    #[test]
    fn what_falls_evenly_is_home_when_it_says() {
        assert_eq!(fed([1000, 900]).estimate(), None, "too little is seen");
        assert_eq!(fed([1000, 900, 800]).estimate(), Some(Duration::from_secs(8)));
        // Fast first, slow for the last half minute: that counts.
        let slow = (0..40).map(|second| {
            if second < 10 {
                100_000 - 9_000 * second
            } else {
                10_000 - 100 * (second - 10)
            }
        });
        assert_eq!(fed(slow).estimate(), Some(Duration::from_secs(71)));
    }

    #[test]
    fn what_grows_or_is_gone_has_no_outlook() {
        assert_eq!(fed([10, 20, 30, 40]).estimate(), None);
        assert_eq!(fed([1000, 900, 800, 1200, 1100]).estimate(), None, "another backlog");
        assert_eq!(fed([300, 200, 100, 0]).estimate(), None);
        assert_eq!(fed([300, 300, 300]).estimate(), None);
    }
}

//! Refused logins, written down so that a flood cannot fill the disk: the first of a span one by one, the others as a number.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::time::Instant;

use super::{Deed, Outcome};

/// One span.
pub(crate) const SPAN: Duration = Duration::from_secs(10 * 60);
/// Refusals that get a line of their own in one span: with one that sums up, 3,024 lines a day, a megabyte.
pub(crate) const LINES_A_SPAN: u32 = 20;

/// Counts them.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    began: Option<Instant>,
    told: u32,
    held: BTreeMap<&'static str, u64>,
}

impl Refusals {
    /// What is to be written down of one refusal, with `why` as one of a few words.
    pub(crate) fn note(&mut self, deed: Deed, why: &'static str, now: Instant) -> Vec<Deed> {
        let mut due: Vec<Deed> = self.due(now).into_iter().collect();
        let began = *self.began.get_or_insert(now);
        debug_assert!(now.since(began) < SPAN, "a span that is over is closed");
        if self.told < LINES_A_SPAN {
            self.told += 1;
            due.push(Deed { outcome: Outcome::Refused, detail: why.to_owned(), ..deed });
        } else {
            *self.held.entry(why).or_default() += 1;
        }
        due
    }

    /// The sum of a span that is over, if one was held back.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Deed> {
        let is_over = self.began.is_some_and(|began| now.since(began) >= SPAN);
        if is_over { self.close() } else { None }
    }

    /// The same for a span that ends now.
    pub(crate) fn close(&mut self) -> Option<Deed> {
        let held = std::mem::take(self).held;
        if held.is_empty() {
            return None;
        }
        let words: Vec<String> = held.iter().map(|(why, count)| format!("{count} {why}")).collect();
        let sum: u64 = held.values().sum();
        Some(Deed {
            who: "nobody".to_owned(),
            from: "several".to_owned(),
            outcome: Outcome::Refused,
            detail: format!("{sum} more refusals within ten minutes: {}", words.join(", ")),
            ..Deed::by_gateway("login")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(1_000_000_000);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_flood_is_a_number() {
        let mut refusals = Refusals::default();
        let mut told = 0;
        for number in 0..10_000_u32 {
            let why = if number % 2 == 0 { "password" } else { "code" };
            told += refusals
                .note(Deed::by_gateway("login"), why, START + MS * (number % 1000))
                .len();
        }
        assert_eq!(told, LINES_A_SPAN as usize);
        assert_eq!(refusals.due(START + (SPAN - MS)), None);
        let sum = refusals.due(START + SPAN).unwrap();
        assert_eq!(sum.detail, "9980 more refusals within ten minutes: 4990 code, 4990 password");
        assert_eq!(refusals.due(START + SPAN), None);
    }

    #[test]
    fn the_next_span_begins_with_the_sum_of_the_last() {
        let mut refusals = Refusals::default();
        for _ in 0..=LINES_A_SPAN {
            refusals.note(Deed::by_gateway("login"), "password", START);
        }
        let due = refusals.note(Deed::by_gateway("login"), "password", START + SPAN);
        assert_eq!(due.len(), 2, "{due:?}");
        assert!(due[0].detail.starts_with("1 more") && due[1].detail == "password");
        assert_eq!(refusals.close(), None);
    }
}

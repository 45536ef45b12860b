//! The rules that keep two boards from acting in one exclusive duty, by name, and the arithmetic of clocks that drift.
//! Outside tests every rule is kept; in tests one may be broken, and the simulated site must notice.

use core::time::Duration;

use crate::limits::DRIFT_PERMILLE;

/// What safety rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A new leader gives a duty to nobody before every other board is accounted for.
    Accounting,
    /// A duty leaves a board only once its end there is certain.
    CertainEnd,
    /// A lease is counted from the asking of the question, never from the receipt of its answer.
    LeaseFromAsking,
    /// Every new holder has a higher token.
    TokenRises,
    /// No lease is taken under a lower term than one that was spoken of.
    OldTermRefused,
    /// What a board says it does not hold counts only once it acts on no answer that is still on its way.
    ClosedAnswers,
    /// An obituary accounts for the life that it names, and for no other.
    LifeAttested,
    /// A young life takes no lease.
    FreshLife,
    /// A leader gives no lease while it prepares to hand over.
    NoLeaseWhileEnding,
}

/// Which rules are kept: all of them, except in a test that breaks one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    #[cfg(test)]
    pub(super) broken: Option<Rule>,
}

impl Rules {
    /// Whether `rule` is kept.
    #[cfg(not(test))]
    pub(super) const fn keep(self, _rule: Rule) -> bool {
        true
    }

    /// Whether `rule` is kept.
    #[cfg(test)]
    pub(super) fn keep(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}

/// After so long by this clock, `duration` has passed by any clock of the site.
pub(super) fn patience(duration: Duration) -> Duration {
    scaled(duration, 1000 + DRIFT_PERMILLE, 1000 - DRIFT_PERMILLE)
}

/// After so long by any clock of the site, `duration` has not yet passed by this one.
pub(super) fn haste(duration: Duration) -> Duration {
    scaled(duration, 1000 - DRIFT_PERMILLE, 1000 + DRIFT_PERMILLE)
}

fn scaled(duration: Duration, by: u64, of: u64) -> Duration {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(micros.saturating_mul(by) / of)
}

#[test]
fn patience_outlasts_and_haste_ends_before() {
    let second = Duration::from_secs(1);
    let (fast, slow) = (1000 + DRIFT_PERMILLE, 1000 - DRIFT_PERMILLE);
    // A whole second of the slowest clock, as the fastest counts it.
    assert!(patience(second).as_micros() as u64 * slow / fast >= 999_999);
    assert!(haste(second).as_micros() as u64 * fast / slow <= 1_000_000);
}

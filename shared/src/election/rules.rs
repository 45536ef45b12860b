//! The rules that keep two boards from holding one lease, by name, and the numbers that they reckon with. Outside tests
//! every rule is kept; in tests one may be broken, and the model check or the simulated site must notice. Decides
//! nothing itself.

use core::time::Duration;

use crate::limits::{DRIFT_PERMILLE, LEASE_GUARD, LEASE_MAX, TERMS_RESERVED};

/// What safety rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// A voter waits longer than the lease, by the drift of two clocks.
    DriftMargin,
    /// A restarted voter grants nothing until every grant of its earlier life has run out.
    Abstention,
    /// A lease is counted from the sending of the request, never from the receipt of its answer.
    LeaseFromSend,
    /// A voter holds one unexpired grant at most.
    OneGrant,
    /// A lease needs more than half of the voters.
    Majority,
    /// A holder stops acting before it tells that its term is free.
    StopThenRelease,
    /// A holder stops acting before it tells a successor that the term is its to follow.
    StopThenHandOver,
    /// What was promised below the durable ceiling is not forgotten in a restart.
    CeilingKept,
    /// An obituary voids what its life was granted, and nothing that another life was.
    ObituaryOfItsLife,
    /// A holder does not count on a grant that it waives.
    StopThenWaive,
    /// A voter grants no lease longer than it has remembered to abstain for.
    LongestKept,
    /// A leader counts by a new decision who votes only once a majority of the old and of the new voters remember it.
    ChangeByMajority,
    /// A leader first has its own decision, which changes nobody, remembered: what an earlier leader began is over.
    ChangeAfterOwn,
    /// No second change before the first one is complete.
    OneChange,
    /// A voter grants nothing to who counts by an older decision who votes than it remembers.
    NewestVoters,
    /// A voter that has met no leader, and so may have forgotten what it granted, grants nothing to a board that has.
    StrangerWaits,
    /// It is told who leads only once every grant of a life that it forgot has run out.
    VouchLate,
    /// It believes only what was said after that.
    VouchBound,
}

/// Which rules are kept: all of them, except in a test that breaks one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    #[cfg(test)]
    pub(crate) broken: Option<Rule>,
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

/// The numbers that safety rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Settings {
    /// How wrong the rate of a clock may be, in permille.
    pub(crate) drift_permille: u64,
    /// A holder stops acting so long before its lease ends.
    pub(crate) guard: Duration,
    /// Longest lease that may be granted at all.
    pub(crate) lease_max: Duration,
    /// What a voter is ready to grant from the start, and comes back to once it has granted longer ones: the site's
    /// lease. Zero: it is ready for what it was ever asked for, as a witness is.
    pub(crate) lease_usual: Duration,
    /// Term counters reserved for each life.
    pub(crate) terms_reserved: u64,
    /// Which rules are kept.
    pub(crate) rules: Rules,
}

impl Settings {
    /// Those of a site whose usual lease is `lease_usual`.
    pub(crate) fn new(lease_usual: Duration) -> Self {
        Self {
            drift_permille: DRIFT_PERMILLE,
            guard: LEASE_GUARD,
            lease_max: LEASE_MAX,
            lease_usual,
            terms_reserved: TERMS_RESERVED,
            rules: Rules::default(),
        }
    }

    /// How long a voter waits for a lease of `lease` to run out on the holder's clock: the voter's may be fast and the
    /// holder's slow, each by the drift. Rounded up.
    pub(crate) fn patience(&self, lease: Duration) -> Duration {
        let micros = u64::try_from(lease.as_micros()).unwrap_or(u64::MAX);
        let fast = micros.saturating_mul(1000 + self.drift_permille);
        Duration::from_micros(fast.div_ceil(1000 - self.drift_permille))
    }
}

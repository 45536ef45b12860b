//! The rules that keep two boards from holding one lease, by name. Outside tests every rule is kept; in tests one
//! may be broken, and the simulated site must notice. Decides nothing itself.

/// What safety rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
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
    /// What was promised below the durable ceiling is not forgotten in a restart.
    CeilingKept,
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

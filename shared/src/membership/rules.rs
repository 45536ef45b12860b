//! Owns what may be broken of the rules on purpose, so that the race can prove that it would notice.

/// How lateness is turned into a margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Margin {
    /// From mean and variance: holds for every distribution (Cantelli).
    Variance,
    /// From the median absolute deviation: blind to tails (measured by others: 13 to 49 times too small).
    Mad,
}

/// The rules; honest by default.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How lateness is turned into a margin.
    pub margin: Margin,
    /// Whether this board's own late wake-ups move the deadlines of the others.
    pub forgives: bool,
    /// Whether a board that one observer still hears is alive.
    pub corroborates: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { margin: Margin::Variance, forgives: true, corroborates: true }
    }
}

//! Lies that the rig can tell: each breaks one rule of the journal, so that the judge has something to find. A lie that
//! lives through its workloads means that the judge sleeps.

/// One lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// A segment counts as synced before it is: what is acknowledged may be in the page cache alone.
    NotSynced,
    /// Made and renamed segments are used before their directory is synced.
    NamesNotSynced,
    /// After a failed sync the page cache is believed.
    CacheTrusted,
    /// A start goes on in the epoch of the life before.
    EpochContinued,
    /// Each block is written together with the page before it.
    PageRewritten,
    /// A torn tail is called damage.
    TailCalledDamage,
    /// Damage is called a torn tail.
    DamageCalledTail,
}

impl Lie {
    /// Every lie.
    pub const ALL: [Self; 7] = [
        Self::NotSynced,
        Self::NamesNotSynced,
        Self::CacheTrusted,
        Self::EpochContinued,
        Self::PageRewritten,
        Self::TailCalledDamage,
        Self::DamageCalledTail,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSynced => "not-synced",
            Self::NamesNotSynced => "names-not-synced",
            Self::CacheTrusted => "cache-trusted",
            Self::EpochContinued => "epoch-continued",
            Self::PageRewritten => "page-rewritten",
            Self::TailCalledDamage => "tail-called-damage",
            Self::DamageCalledTail => "damage-called-tail",
        }
    }

    /// The lie named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lie| lie.name() == name)
    }
}

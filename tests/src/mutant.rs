//! Lies that the world can tell: each breaks something that the real shells must do, so that a checker has
//! something to catch. A mutant that lives through its seeds means that a checker sleeps.

use crate::faults::Fault;

/// One lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Disks report a write as durable before it is synced.
    AckBeforeSync,
    /// After a failed sync a restarted board reads the page cache, which says what the disk does not hold.
    CacheTrusted,
    /// A start does not count up the boot epoch and draws the same nonce.
    EpochReused,
    /// The ceiling of terms is not kept over a restart, and a voter forgets what it granted.
    CeilingForgotten,
    /// A deleted file is another one: the newest segment but one goes instead of the freed one.
    WrongFileDeleted,
    /// The region acknowledges before its transaction commits.
    RegionAckBeforeCommit,
    /// The region's store keeps blocks but forgets coverage at a crash.
    CoverageForgotten,
    /// The region files every reading without looking for its key.
    KeysIgnored,
    /// A publisher that sends again counts anew, so that nothing tells the two apart.
    KeyChangedOnResend,
    /// The network turns a voter's no into a yes.
    DeniedBecomesGranted,
    /// One board's clock runs at half the speed of the others: far beyond the drift that leases allow for.
    SlowClock,
    /// A board answers its publishers as soon as their readings arrive.
    AnswerBeforeCommit,
    /// The network says that a peer has fsynced a copy which it has only received.
    CopyConfirmedByNetwork,
    /// The region forgets the highest term it has seen at a restart.
    FenceForgotten,
    /// A supervisor says of a node that only stands still that it has ended.
    ObituaryOfTheLiving,
    /// A supervisor does not kill the process of a duty whose lease has ended.
    DeadManSleeps,
    /// The process of a duty goes on acting for a while after it was killed.
    ActsBeyondLease,
    /// A witness forgets at a restart what it granted.
    WitnessForgets,
    /// A board whose disk was replaced votes as one that remembers.
    EmptyDiskTrusted,
    /// The region does not note what a gap record declares.
    GapForgotten,
    /// Front doors take alarms for bulk.
    AlarmsAreBulk,
    /// What is written again to free a segment is reported as durable and never reaches the disk.
    FreedBeforeDurable,
    /// A board sends a run to another that lost it without having verified what it read.
    UnverifiedServed,
    /// A disk that is verified answers from the page cache, so that a board claims what it does not hold any more.
    CacheVerified,
    /// A board that is asked for what another lost says that it does not have it, whatever it has.
    AbsenceInvented,
}

impl Mutant {
    /// Every lie.
    pub const ALL: [Self; 25] = [
        Self::AckBeforeSync,
        Self::CacheTrusted,
        Self::EpochReused,
        Self::CeilingForgotten,
        Self::WrongFileDeleted,
        Self::RegionAckBeforeCommit,
        Self::CoverageForgotten,
        Self::KeysIgnored,
        Self::KeyChangedOnResend,
        Self::DeniedBecomesGranted,
        Self::SlowClock,
        Self::AnswerBeforeCommit,
        Self::CopyConfirmedByNetwork,
        Self::FenceForgotten,
        Self::ObituaryOfTheLiving,
        Self::DeadManSleeps,
        Self::ActsBeyondLease,
        Self::WitnessForgets,
        Self::EmptyDiskTrusted,
        Self::GapForgotten,
        Self::AlarmsAreBulk,
        Self::FreedBeforeDurable,
        Self::UnverifiedServed,
        Self::CacheVerified,
        Self::AbsenceInvented,
    ];

    /// The lie's name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "ack-before-sync",
            Self::CacheTrusted => "cache-trusted",
            Self::EpochReused => "epoch-reused",
            Self::CeilingForgotten => "ceiling-forgotten",
            Self::WrongFileDeleted => "wrong-file-deleted",
            Self::RegionAckBeforeCommit => "region-ack-before-commit",
            Self::CoverageForgotten => "coverage-forgotten",
            Self::KeysIgnored => "keys-ignored",
            Self::KeyChangedOnResend => "key-changed-on-resend",
            Self::DeniedBecomesGranted => "denied-becomes-granted",
            Self::SlowClock => "slow-clock",
            Self::AnswerBeforeCommit => "answer-before-commit",
            Self::CopyConfirmedByNetwork => "copy-confirmed-by-network",
            Self::FenceForgotten => "fence-forgotten",
            Self::ObituaryOfTheLiving => "obituary-of-the-living",
            Self::DeadManSleeps => "dead-man-sleeps",
            Self::ActsBeyondLease => "acts-beyond-lease",
            Self::WitnessForgets => "witness-forgets",
            Self::EmptyDiskTrusted => "empty-disk-trusted",
            Self::GapForgotten => "gap-forgotten",
            Self::AlarmsAreBulk => "alarms-are-bulk",
            Self::FreedBeforeDurable => "freed-before-durable",
            Self::UnverifiedServed => "unverified-served",
            Self::CacheVerified => "cache-verified",
            Self::AbsenceInvented => "absence-invented",
        }
    }

    /// The lie named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}

impl Mutant {
    /// What the check has to say that catches the lie: two at once, where that is what it brings about. Anything else, such
    /// as a site that does not come to rest, would be luck.
    pub const fn shows_as(self) -> &'static str {
        match self {
            Self::DeniedBecomesGranted | Self::SlowClock | Self::ObituaryOfTheLiving | Self::WitnessForgets => {
                " while "
            }
            Self::EmptyDiskTrusted => " in term ",
            Self::DeadManSleeps | Self::ActsBeyondLease => "acts under duty",
            Self::GapForgotten => "acknowledged and",
            Self::AlarmsAreBulk => "an alarm, was shed",
            Self::UnverifiedServed => " sends ",
            Self::CacheVerified => " claims ",
            Self::AbsenceInvented => "is called gone",
            _ => "",
        }
    }

    /// The faults under which the lie shows.
    pub const fn revealed_by(self) -> &'static [Fault] {
        match self {
            Self::AckBeforeSync | Self::AnswerBeforeCommit | Self::CopyConfirmedByNetwork | Self::WrongFileDeleted => {
                &[Fault::PowerCut]
            }
            Self::CacheTrusted => &[Fault::SyncFails, Fault::LinkReset, Fault::Crash],
            Self::EpochReused => &[Fault::Crash, Fault::PowerCut],
            Self::CeilingForgotten => &[Fault::Crash, Fault::Pause, Fault::MeshCut],
            Self::RegionAckBeforeCommit | Self::CoverageForgotten => &[Fault::RegionCrash],
            Self::FenceForgotten => &[Fault::RegionCrash, Fault::StaleHello],
            Self::KeysIgnored | Self::KeyChangedOnResend => &[Fault::Crash, Fault::PublisherReset],
            Self::DeniedBecomesGranted | Self::SlowClock => &[Fault::MeshCut, Fault::Pause],
            Self::ObituaryOfTheLiving => &[Fault::Pause],
            Self::DeadManSleeps | Self::ActsBeyondLease => &[Fault::Pause, Fault::MeshCut],
            Self::WitnessForgets => &[Fault::WitnessCrash, Fault::MeshCut],
            Self::EmptyDiskTrusted => &[Fault::Replaced, Fault::MeshCut, Fault::OneWayCut],
            Self::GapForgotten | Self::AlarmsAreBulk => &[Fault::RegionAway],
            Self::FreedBeforeDurable => &[Fault::RegionAway, Fault::PowerCut],
            Self::UnverifiedServed | Self::CacheVerified | Self::AbsenceInvented => &[Fault::Rot, Fault::RegionAway],
        }
    }
}

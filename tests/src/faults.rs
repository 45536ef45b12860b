//! What can go wrong, how often, and when in a world: each seed draws which faults happen at all, so that no kind hides
//! behind the others, and then a list of occurrences, numbered in order of time. An occurrence carries its own dice, so
//! that it is the same one whether or not the others happen: this is what shrinking relies on. What a fault does is in
//! `strikes.rs`.

use std::time::Duration;

use shared::ids::BoardId;

use crate::board::Life;
use crate::clock::Moment;
use crate::dice::Dice;
use crate::region::Place;
use crate::settings::Settings;

/// Nothing goes wrong before: boards start.
const CALM_START: Duration = Duration::from_millis(700);

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $words:literal every $gap:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// Every kind.
            pub const ALL: [Self; [$($gap),*].len()] = [$(Self::$name),*];

            /// How far apart this kind usually is: a run of some 8 s sees a few of each.
            pub const fn usual_gap(self) -> Duration {
                Duration::from_millis(match self {
                    $(Self::$name => $gap,)*
                })
            }

            /// The fault in a few words.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                }
            }
        }
    };
}

faults! {
    /// A node's process dies; its supervisor sees that, and says so.
    Crash = "a node's process dies" every 1_700,
    /// A process dies between two actions of one input.
    CrashMidway = "a node's process dies in the middle of an input" every 1_700,
    /// A node's process and its supervisor die at once: nobody is told.
    SupervisorCrash = "a node's process and its supervisor die" every 2_500,
    /// A board loses power.
    PowerCut = "a board loses power" every 2_500,
    /// All boards lose power at once.
    SitePowerCut = "the site loses power" every 4_300,
    /// A process stands still for a while.
    Pause = "a node's process stands still" every 1_700,
    /// A board's processors are overrun for a while: its node runs now and then.
    Starve = "a board is starved of processor time" every 3_300,
    /// A process is asked to stop, and started again: an update.
    Stop = "a node is asked to stop" every 2_500,
    /// An operator asks the leader to hand over.
    HandOver = "an operator asks for a hand-over" every 2_500,
    /// A write or sync fails.
    SyncFails = "a write fails" every 2_500,
    /// A disk has no room for another file for a while.
    DiskFull = "a disk has no room for more files" every 3_300,
    /// A disk becomes slow for a while.
    SlowDisk = "a disk is slow" every 1_700,
    /// One way between two boards is cut.
    OneWayCut = "one way between two boards is cut" every 1_700,
    /// A board is cut off from the others.
    MeshCut = "a board is cut off from the others" every 2_500,
    /// The site falls into two parts, wholly or with a board that both hear, both ways or one.
    Parting = "the site falls into two parts" every 2_500,
    /// A board's cable is loose: cut and mended many times.
    Flapping = "a board's cable flaps" every 3_300,
    /// A board's ways lose in bursts.
    BurstLoss = "a board's ways lose in bursts" every 2_500,
    /// A board's ways are slow for a while, and what travels on them is late and out of order.
    DelaySpike = "a board's ways are slow" every 2_500,
    /// A connection between two boards is reset.
    LinkReset = "a connection between two boards is reset" every 1_300,
    /// The way of one board to the region is cut, one way or both.
    UplinkCut = "a board's way to the region is cut" every 2_500,
    /// No board reaches the region.
    RegionAway = "no board reaches the region" every 3_300,
    /// A session with the region is reset.
    UplinkReset = "a session with the region is reset" every 1_300,
    /// The region's process dies.
    RegionCrash = "the region's process dies" every 3_300,
    /// A transaction of the region does not commit.
    StoreFails = "a transaction does not commit" every 2_500,
    /// A hello of an earlier leadership reaches the region.
    StaleHello = "a hello of an earlier leadership is repeated" every 1_300,
    /// A publisher's connection is reset.
    PublisherReset = "a publisher's connection is reset" every 1_300,
    /// The witness's process dies.
    WitnessCrash = "the witness's process dies" every 2_500,
    /// A board's way to the witness, or all boards', is cut.
    WitnessCut = "a way to the witness is cut" every 2_500,
    /// The process of a user's duty dies.
    DutyDies = "the process of a duty dies" every 2_500,
    /// Durable blocks of one board rot: bits flip, blocks or a file are zeros, two files have each other's bytes. Every
    /// record in them has another copy, or the region has it.
    Rot = "blocks on a disk rot" every 1_700,
    /// A board is lost for ever.
    Loss = "a board is lost for ever" every 6_500,
    /// A board's disk is replaced by an empty one. Every record on it has another copy, or the region has it.
    Replaced = "a disk is replaced by an empty one" every 6_500,
    /// One of two regions is gone for long. Drawn where there are two alone.
    RegionGone = "one of two regions is gone for long" every 2_500,
}

/// What ends a fault, or carries it on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mend {
    Way {
        from: BoardId,
        to: BoardId,
    },
    Cut {
        from: BoardId,
        to: BoardId,
    },
    Uplink {
        board: BoardId,
        out: bool,
        back: bool,
    },
    /// The disk of a board has room again.
    Room {
        board: BoardId,
    },
    Disk {
        board: BoardId,
    },
    Witness {
        board: BoardId,
    },
    WitnessBoot,
    RegionBoot {
        place: Place,
    },
    Stopped {
        board: BoardId,
        life: Life,
    },
}

/// One fault at its time.
#[derive(Clone, Debug)]
pub struct Occurrence {
    /// Its place in the world's list, from 1.
    pub number: u32,
    /// When.
    pub at: Moment,
    /// What.
    pub fault: Fault,
    /// Decides whom it befalls and for how long.
    pub dice: Dice,
}

/// Every fault of the world that `settings` describe, in order of time, whether or not it is left out.
pub fn occurrences(settings: &Settings, dice: &mut Dice) -> Vec<Occurrence> {
    let end = Moment::ZERO + settings.busy;
    let mut all = Vec::new();
    for fault in Fault::ALL {
        let mut kind = dice.fork();
        let Some(gap) = settings.faults.get(&fault) else { continue };
        let mut at = Moment::ZERO + CALM_START + kind.gap(*gap);
        while at < end {
            all.push(Occurrence { number: 0, at, fault, dice: kind.fork() });
            at = at + kind.gap(*gap) + Duration::from_millis(1);
        }
    }
    all.sort_by_key(|occurrence| (occurrence.at, occurrence.fault));
    for (occurrence, number) in all.iter_mut().zip(1..) {
        occurrence.number = number;
    }
    all
}

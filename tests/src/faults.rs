//! What goes wrong, how often, and how it is mended. Each seed draws which faults happen at all, so that no kind
//! hides behind the others. The budget: at most k-1 boards are lost for ever, and never a majority of the voters.

use std::time::Duration;

use shared::ids::BoardId;

use crate::board::Life;
use crate::happening::Happening;
use crate::world::World;

/// A supervisor kills a process that has not stopped so long after it was asked.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process dies.
    Crash,
    /// A process dies between two actions of one input.
    CrashMidway,
    /// A board loses power.
    PowerCut,
    /// All boards lose power at once.
    SitePowerCut,
    /// A process stands still for a while.
    Pause,
    /// A process is asked to stop, and started again: an update.
    Stop,
    /// A write or sync fails.
    SyncFails,
    /// A disk becomes slow for a while.
    SlowDisk,
    /// One way between two boards is cut.
    OneWayCut,
    /// A board is cut off from the others.
    MeshCut,
    /// A connection between two boards is reset.
    LinkReset,
    /// The way of one board to the region is cut, one way or both.
    UplinkCut,
    /// No board reaches the region.
    RegionAway,
    /// A session with the region is reset.
    UplinkReset,
    /// The region's process dies.
    RegionCrash,
    /// A transaction of the region does not commit.
    StoreFails,
    /// A hello of an earlier leadership reaches the region.
    StaleHello,
    /// A publisher's connection is reset.
    PublisherReset,
    /// A bit of a durable record flips on one board's disk. Counts as the loss of that board: the budget is one.
    BitFlip,
    /// A board is lost for ever.
    Loss,
}

/// What ends a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mend {
    Way { from: BoardId, to: BoardId },
    Uplink { board: BoardId, out: bool, back: bool },
    Disk { board: BoardId },
    RegionBoot,
    Stopped { board: BoardId, life: Life },
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 20] = [
        Self::Crash,
        Self::CrashMidway,
        Self::PowerCut,
        Self::SitePowerCut,
        Self::Pause,
        Self::Stop,
        Self::SyncFails,
        Self::SlowDisk,
        Self::OneWayCut,
        Self::MeshCut,
        Self::LinkReset,
        Self::UplinkCut,
        Self::RegionAway,
        Self::UplinkReset,
        Self::RegionCrash,
        Self::StoreFails,
        Self::StaleHello,
        Self::PublisherReset,
        Self::BitFlip,
        Self::Loss,
    ];

    /// How far apart this kind usually is: a run of some 8 s sees a few of each.
    pub const fn usual_gap(self) -> Duration {
        Duration::from_millis(match self {
            Self::LinkReset | Self::UplinkReset | Self::PublisherReset | Self::StaleHello => 1_300,
            Self::Crash | Self::CrashMidway | Self::Pause | Self::OneWayCut | Self::SlowDisk => 1_700,
            Self::PowerCut | Self::Stop | Self::SyncFails | Self::MeshCut | Self::UplinkCut | Self::StoreFails => 2_500,
            Self::RegionCrash | Self::RegionAway => 3_300,
            Self::SitePowerCut | Self::BitFlip => 4_300,
            Self::Loss => 6_500,
        })
    }
}

impl World {
    pub(crate) fn start_faults(&mut self) {
        let kinds: Vec<(Fault, Duration)> = self.settings.faults.iter().map(|(fault, gap)| (*fault, *gap)).collect();
        for (fault, gap) in kinds {
            let first = Duration::from_millis(700) + self.fault_dice.gap(gap);
            self.put_in(first, Happening::Fault(fault));
        }
    }

    pub(crate) fn fault_due(&mut self, fault: Fault) {
        if self.now >= self.busy_until {
            return;
        }
        self.strike(fault);
        if let Some(gap) = self.settings.faults.get(&fault).copied() {
            let next = self.fault_dice.gap(gap) + Duration::from_millis(1);
            self.put_in(next, Happening::Fault(fault));
        }
    }

    fn span(&mut self, low_ms: u64, high_ms: u64) -> Duration {
        self.fault_dice
            .span(Duration::from_millis(low_ms), Duration::from_millis(high_ms))
    }

    fn strike(&mut self, fault: Fault) {
        let ids: Vec<BoardId> = self.boards.values().filter(|host| !host.lost).map(|host| host.id).collect();
        let Some(board) = self.fault_dice.pick(&ids) else { return };
        match fault {
            Fault::Crash => {
                self.crash(board);
                self.boot_later(board);
            }
            Fault::CrashMidway => {
                let after = self.fault_dice.below(12);
                if let Some(process) = self.boards.get_mut(&board).and_then(|host| host.process.as_mut()) {
                    process.dies_after = Some(after);
                }
            }
            Fault::PowerCut => {
                self.cut_power(board);
                self.boot_later(board);
            }
            Fault::SitePowerCut => self.cut_site_power(),
            Fault::Pause => {
                let span = self.span(20, 3_000);
                self.freeze(board, span);
            }
            Fault::Stop => {
                self.stop(board);
                self.put_in(STOPS_WITHIN, Happening::Mend(Mend::Stopped { board, life: self.boards[&board].life }));
            }
            Fault::SyncFails => self.fail_next_sync(board),
            Fault::SlowDisk => self.slow_disk(board),
            Fault::Loss => self.lose_if_it_can_be_borne(board),
            Fault::BitFlip => self.flip_if_it_can_be_borne(board),
            Fault::OneWayCut | Fault::MeshCut | Fault::LinkReset => self.strike_mesh(fault, board, &ids),
            Fault::UplinkCut | Fault::RegionAway | Fault::UplinkReset => self.strike_uplink(fault, board, &ids),
            Fault::RegionCrash => {
                self.region_crash();
                let back = self.span(50, 3_000);
                self.put_in(back, Happening::Mend(Mend::RegionBoot));
            }
            Fault::StoreFails => self.fail_next_transaction(),
            Fault::StaleHello => self.replay_stale_hello(board),
            Fault::PublisherReset => {
                let id = self.fault_dice.below(u64::from(self.settings.publishers)) as u8;
                let connection = self.publishers[usize::from(id)].connection;
                self.publisher_reset(id, connection);
            }
        }
    }

    fn strike_mesh(&mut self, fault: Fault, board: BoardId, ids: &[BoardId]) {
        let others: Vec<BoardId> = ids.iter().copied().filter(|other| *other != board).collect();
        let Some(other) = self.fault_dice.pick(&others) else { return };
        let back = self.span(100, 4_000);
        match fault {
            Fault::LinkReset => self.reset_link(crate::mesh::Pair::new(board, other)),
            Fault::OneWayCut => {
                self.cut_way(board, other);
                self.put_in(back, Happening::Mend(Mend::Way { from: board, to: other }));
            }
            _ => {
                for other in others {
                    for (from, to) in [(board, other), (other, board)] {
                        self.cut_way(from, to);
                        self.put_in(back, Happening::Mend(Mend::Way { from, to }));
                    }
                }
            }
        }
    }

    fn strike_uplink(&mut self, fault: Fault, board: BoardId, ids: &[BoardId]) {
        let back = self.span(200, 6_000);
        match fault {
            Fault::UplinkReset => self.reset_uplink(board),
            Fault::UplinkCut => {
                let (out, home) = match self.fault_dice.below(3) {
                    0 => (true, false),
                    1 => (false, true),
                    _ => (true, true),
                };
                self.cut_uplink(board, out, home);
                self.put_in(back, Happening::Mend(Mend::Uplink { board, out, back: home }));
            }
            _ => {
                for board in ids {
                    self.cut_uplink(*board, true, true);
                    self.put_in(back, Happening::Mend(Mend::Uplink { board: *board, out: true, back: true }));
                }
            }
        }
    }

    /// All boards lose power at once, and get it back together.
    pub fn cut_site_power(&mut self) {
        let ids: Vec<BoardId> = self.boards.keys().copied().collect();
        self.tally.site_power_cuts += 1;
        self.story.tell(self.now, "site", || "loses power");
        for board in ids {
            self.cut_power(board);
            self.boot_later(board);
        }
    }

    /// The region's next transaction does not commit.
    pub fn fail_next_transaction(&mut self) {
        self.region.fails_next = true;
    }

    /// The next write or sync on `board` fails.
    pub fn fail_next_sync(&mut self, board: BoardId) {
        if let Some(host) = self.boards.get_mut(&board) {
            host.disk.fails_next = true;
        }
    }

    fn slow_disk(&mut self, board: BoardId) {
        let back = self.span(200, 3_000);
        if let Some(host) = self.boards.get_mut(&board) {
            host.speed.sync_max = self.settings.disk.sync_max * 30;
            host.speed.sync_min = self.settings.disk.sync_max;
            self.story.tell(self.now, board, || format!("disk is slow for {back:?}"));
        }
        self.put_in(back, Happening::Mend(Mend::Disk { board }));
    }

    fn lose_if_it_can_be_borne(&mut self, board: BoardId) {
        let lost = |host: &&crate::board::Board| host.lost;
        let gone = self.boards.values().filter(|host| host.lost || host.flipped).count();
        let Some(host) = self.boards.get(&board) else { return };
        let voters = host.config.voters.set.boards();
        let voters_gone = self
            .boards
            .values()
            .filter(lost)
            .filter(|host| voters.contains(host.id))
            .count();
        let majority_left = !voters.contains(board) || voters.len() - voters_gone - 1 > voters.len() / 2;
        let gone_already = usize::from(host.flipped);
        if gone + 1 - gone_already < self.settings.copies && majority_left {
            self.destroy(board);
        }
    }

    fn flip_if_it_can_be_borne(&mut self, board: BoardId) {
        let gone = self
            .boards
            .values()
            .filter(|host| host.id != board && (host.lost || host.flipped))
            .count();
        if gone + 1 < self.settings.copies {
            self.flip_bit(board);
        }
    }

    /// A bit of a durable record flips on the disk of `board`, unnoticed.
    pub fn flip_bit(&mut self, board: BoardId) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        if !host.disk.flip(&mut host.dice) {
            return;
        }
        host.flipped = true;
        self.tally.flips += 1;
        self.story.tell(self.now, board, || "a bit flips on disk");
        // What only this board holds may be what the bit belongs to.
        self.excuse_what_only(board);
    }

    pub(crate) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Way { from, to } => self.mend_way(from, to),
            Mend::Uplink { board, out, back } => self.mend_uplink(board, out, back),
            Mend::Disk { board } => {
                let speed = self.settings.disk;
                if let Some(host) = self.boards.get_mut(&board) {
                    host.speed = speed;
                }
            }
            Mend::RegionBoot => self.region_boot(),
            Mend::Stopped { board, life } => {
                if self.boards[&board].life == life && self.boards[&board].process.is_some() {
                    self.crash(board);
                    self.boot_later(board);
                }
            }
        }
    }

    /// Nothing goes wrong any more: what has gone wrong is mended by the entries already on the agenda.
    pub(crate) fn heal(&mut self) {
        self.story.tell(self.now, "world", || "no more faults");
        for host in self.boards.values_mut() {
            host.disk.fails_next = false;
            host.kept_down = false;
            if let Some(process) = &mut host.process {
                process.dies_after = None;
            }
        }
        self.region.fails_next = false;
        let down: Vec<BoardId> = self
            .boards
            .values()
            .filter(|host| host.process.is_none())
            .map(|host| host.id)
            .collect();
        for board in down {
            self.boot_later(board);
        }
    }
}

//! Configuration as used: checked values only, impossible ones unrepresentable. The text forms (TOML) and their
//! refusals with line, column and remedy stand beside it.

mod nearest;
mod refusal;
pub mod site;
pub mod text;

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{BoardId, BoardSet, Class, Name, Voters};
use crate::limits::{SEGMENT_BYTES, SEGMENTS_MAX};

/// What a board's node decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The site.
    pub site: Name,
    /// This board.
    pub board: BoardId,
    /// All boards of the site, this one included.
    pub boards: BoardSet,
    /// Who votes for the leader, as first configured: version 1. Board voters are members of `boards`; 1 to 7 in all, an
    /// odd number, or both boards of a pair without a witness.
    pub voters: Voters,
    /// How this board is to be preferred as leader: 0 to 255, default 0.
    pub priority: u8,
    /// What this board shares its fate with: a power feed, a cabinet, a switch. Duties are spread over several.
    pub domain: Name,
    /// The site's duties, in the order that all boards share: at most [`crate::limits::DUTIES_MAX`].
    pub duties: Vec<DutyConfig>,
    /// k: boards on which a record is fsynced before it is acknowledged; 1 to 5, default 2.
    pub copies: usize,
    /// The clockwork.
    pub timing: Timing,
    /// The journal's size.
    pub journal: JournalConfig,
    /// How the journal is verified, and when copies are made anew.
    pub repair: RepairConfig,
    /// Whether a region is configured: without one no block is sealed for it.
    pub has_region: bool,
}

/// A user's duty as the node decides by it. What its process is, the shell knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DutyConfig {
    /// Its name, unique in the site.
    pub name: Name,
    /// How many boards perform it at a time.
    pub mode: DutyMode,
    /// Whether boards that do not perform it keep a process ready.
    pub standby: bool,
    /// Whether this board can perform it: its configuration has a command for it and what the duty needs. The one part
    /// that may differ between the boards of a site.
    #[serde(skip)]
    pub is_local: bool,
}

/// How many boards perform a duty at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DutyMode {
    /// One at most, under a lease; none in a minority.
    Exclusive,
    /// So many, 1 to 64, as far as there are boards; more where the site is parted, because its effects may be had twice.
    Available {
        /// How many.
        active: u8,
    },
}

/// Periods and patience. Each default is for a LAN with bounded scheduling latency (notes: membership, part 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between heartbeats to each board on a way that loses next to nothing; shorter on a lossy one. Default 100 ms.
    pub heartbeat: Duration,
    /// Least silence after which a board counts as down: at least 2 heartbeats; more on a lossy way. Default 200 ms.
    pub down_after: Duration,
    /// A leader's lease, counted from sending the renewal. Default 200 ms; at most `limits::LEASE_MAX`. On a bad way the
    /// holder asks for up to `lease_most`.
    pub lease: Duration,
    /// Longest lease that the holder asks for where renewals are lost or late. Default 2 s.
    pub lease_most: Duration,
    /// Between a leader's renewals: at most a third of `lease`. Default 50 ms.
    pub renew: Duration,
    /// Lease asked of a witness, which may be far away. Default 2 s; at most `limits::LEASE_MAX`.
    pub witness_lease: Duration,
    /// A copy not confirmed for so long is also sent to another board. Default 150 ms.
    pub hedge_after: Duration,
    /// Records wait so long for others before their block is sealed for the uplink: alarm. Default 10 ms.
    pub seal_alarm: Duration,
    /// The same for event and bulk. Default 100 ms.
    pub seal_event: Duration,
    /// A copy holder uploads what its living origin has not, after so long. Default 5 s.
    pub adopt_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            down_after: Duration::from_millis(200),
            lease: Duration::from_millis(200),
            lease_most: Duration::from_millis(2000),
            renew: Duration::from_millis(50),
            witness_lease: Duration::from_millis(2000),
            hedge_after: Duration::from_millis(150),
            seal_alarm: Duration::from_millis(10),
            seal_event: Duration::from_millis(100),
            adopt_after: Duration::from_secs(5),
        }
    }
}

/// The journal's size on disk, how the classes share it, and how long records gather before they are written. A board's own
/// affair: none of it need be equal on the boards of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Bytes of one segment file: a multiple of the page, 4 MiB to 256 MiB. Default 8 MiB.
    pub segment_bytes: u32,
    /// Files at most: 8 or more. Default 256.
    pub segments_max: u32,
    /// Files that alarms alone may fill, out of these: at least 1, at most half. Default a sixteenth.
    pub alarm_reserve: u32,
    /// Files of records that the region has, kept as long as there is room: after the region has lost its memory they are
    /// sent again. At most half of the files. Default an eighth; 0: what the region has is freed at once.
    pub covered_kept: u32,
    /// Files that there are before they are needed, at most half of all: they are made one after another while the board runs, and
    /// written through with zeros, once in the life of its disk. Into them a commit costs its own bytes and one write of the
    /// device; into a new file up to twice both. Default an eighth, at most 32; 0: a file is made when it is needed.
    pub written_ahead: u32,
    /// Bytes of events, own and copies, that the region does not cover: past it the oldest are shed. Default: no bound but
    /// the journal's.
    pub event_bytes_max: u64,
    /// The same for bulk.
    pub bulk_bytes_max: u64,
    /// An event waits so long for others before a write begins for it. Default 0: while one write is on its way, the next
    /// one's records gather anyhow. For those that are about to come it waits half a millisecond at most all the same.
    pub event_linger: Duration,
    /// The same for bulk. Default 10 ms. Each write takes at least a page: this is what spares the flash.
    pub bulk_linger: Duration,
}

/// Files written ahead by default, at most: 256 MiB, which a board at 1 MB a second fills in four minutes; a medium that endures 10 TB
/// gives 0.003 % of its life for them.
const WRITTEN_AHEAD: u32 = 32;

impl JournalConfig {
    /// A journal of that size, all else as by default.
    pub fn sized(segment_bytes: u32, segments_max: u32) -> Self {
        Self {
            segment_bytes,
            segments_max,
            alarm_reserve: (segments_max / 16).max(1),
            covered_kept: segments_max / 8,
            written_ahead: (segments_max / 8).min(WRITTEN_AHEAD),
            event_bytes_max: u64::MAX,
            bulk_bytes_max: u64::MAX,
            event_linger: Duration::ZERO,
            bulk_linger: Duration::from_millis(10),
        }
    }

    /// Bytes of `class` that the region does not cover, past which the oldest are shed. Alarms are not shed.
    pub const fn bytes_max(&self, class: Class) -> u64 {
        match class {
            Class::Alarm => u64::MAX,
            Class::Event => self.event_bytes_max,
            Class::Bulk => self.bulk_bytes_max,
        }
    }

    /// How long a record of `class` waits for others before a write begins for it.
    pub const fn linger(&self, class: Class) -> Duration {
        match class {
            Class::Alarm => Duration::ZERO,
            Class::Event => self.event_linger,
            Class::Bulk => self.bulk_linger,
        }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self::sized(SEGMENT_BYTES, SEGMENTS_MAX)
    }
}

/// How the journal is verified in the background, and when copies are made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairConfig {
    /// Bytes of the journal read a second to verify it, at most; 0: it is not verified but where it is read anyway. Default
    /// 1 MiB: a full default journal of 2 GiB takes 34 minutes, and 84 GiB a day; a twentieth of what a slow eMMC reads.
    pub scrub_bytes_per_s: u32,
    /// From the beginning of one pass over the journal to that of the next, at least. Default 1 h, so that a small journal
    /// is not read all day; scrubs of a few days to weeks found most latent errors before readers did (Bairavasundaram et
    /// al., SIGMETRICS 2007: 60 % and more).
    pub scrub_every: Duration,
    /// Copies on a board that has been away for so long count no more and are made on another. Default 10 min, as Ceph's
    /// `mon_osd_down_out_interval` (600 s) and HDFS (10.5 min): a restart, an update or a pulled plug is over by then.
    pub absent_after: Duration,
}

impl Default for RepairConfig {
    fn default() -> Self {
        Self {
            scrub_bytes_per_s: 1024 * 1024,
            scrub_every: Duration::from_secs(3600),
            absent_after: Duration::from_secs(600),
        }
    }
}

impl NodeConfig {
    /// Digest of what must be equal on every board of a site; said in the handshake, a difference is refused. Who
    /// belongs and who votes is not in it: both change while the site runs.
    pub fn fingerprint(&self) -> u64 {
        let words = (&self.site, self.copies as u64, &self.duties);
        let bytes = postcard::to_allocvec(&words).expect("a Vec takes every message");
        xxh3_64(&bytes)
    }

    /// The other boards.
    pub fn peers(&self) -> BoardSet {
        let mut peers = self.boards;
        peers.remove(self.board);
        peers
    }
}

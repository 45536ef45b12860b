//! Configuration as used: checked values only, impossible ones unrepresentable. The text forms (TOML) and their
//! refusals with line, column and remedy stand beside it.

mod nearest;
mod refusal;
pub mod site;
pub mod text;

use core::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{BoardId, BoardSet, Name};
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
    /// Boards that vote for the leader: an odd number, 1 to 7, or both boards of a pair; all members of `boards`.
    pub voters: BoardSet,
    /// k: boards on which a record is fsynced before it is acknowledged; 1 to 5, default 2.
    pub copies: usize,
    /// The clockwork.
    pub timing: Timing,
    /// The journal's size.
    pub journal: JournalConfig,
    /// Whether a region is configured: without one no block is sealed for it.
    pub has_region: bool,
}

/// Periods and patience. Each default is for a LAN with bounded scheduling latency (notes: membership, part 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between heartbeats to each board. Default 50 ms.
    pub heartbeat: Duration,
    /// Silence after which a board counts as down: at least 4 heartbeats. Default 400 ms.
    pub down_after: Duration,
    /// A leader's lease, counted from sending the renewal. Default 600 ms; at most `limits::LEASE_MAX`.
    pub lease: Duration,
    /// Between a leader's renewals: at most a third of `lease`. Default 100 ms.
    pub renew: Duration,
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
            heartbeat: Duration::from_millis(50),
            down_after: Duration::from_millis(400),
            lease: Duration::from_millis(600),
            renew: Duration::from_millis(100),
            hedge_after: Duration::from_millis(150),
            seal_alarm: Duration::from_millis(10),
            seal_event: Duration::from_millis(100),
            adopt_after: Duration::from_secs(5),
        }
    }
}

/// The journal's size on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Bytes of one segment file: a multiple of the page, 4 MiB to 256 MiB.
    pub segment_bytes: u32,
    /// Files at most: 4 or more.
    pub segments_max: u32,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, segments_max: SEGMENTS_MAX }
    }
}

impl NodeConfig {
    /// Digest of what must be equal on every board of a site; said in the handshake, a difference is refused.
    pub fn fingerprint(&self) -> u64 {
        let words = (
            &self.site,
            self.boards,
            self.voters,
            self.copies as u64,
            u64::try_from(self.timing.lease.as_micros()).unwrap_or(u64::MAX),
        );
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

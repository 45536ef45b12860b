//! What is asked of a store from outside of its writer, and the answers: also while a gateway writes it, also after one was
//! killed. What a store returns is one committed state a call.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use shared::ids::{Class, Name, Seq, Stream};
use shared::ranges::{RangeSet, SeqRange};
use shared::record::{GapReason, Kind};
use shared::region::ledger::FilingKey;
use shared::time::WallMillis;

use super::StoreError;
use super::parts::{Due, Part};

pub use super::counts::{SiteCounts, StreamCounts};
pub use super::postgres::PostgresReader;
pub use super::sqlite::SqliteReader;

/// A region's store, open for reading. A site that it does not know has nothing in it.
pub trait StoreReader: fmt::Debug + Send {
    /// Bytes that tables and indexes take on their disk, about; logs and what a crash needs are left out.
    fn bytes(&self) -> Result<u64, StoreError>;

    /// The sites that have ever been welcomed, by name.
    fn sites(&self) -> Result<Vec<String>, StoreError>;

    /// Rows of every site that has any stream, by its name.
    fn stored(&self) -> Result<BTreeMap<String, u64>, StoreError>;

    /// Counts of `site`, all of one moment.
    fn counts(&self, site: &Name) -> Result<SiteCounts, StoreError>;

    /// What is covered of every stream of `site`, in order of board, epoch and class.
    fn coverage(&self, site: &Name) -> Result<Vec<(Stream, RangeSet)>, StoreError>;

    /// What gap records of `site` declared lost, in order of arrival.
    fn shed(&self, site: &Name) -> Result<Vec<Shed>, StoreError>;

    /// The newest events of `site`, newest first.
    fn events(&self, site: &Name, limit: u32) -> Result<Vec<StoredEvent>, StoreError>;

    /// Every stored record of `site`, gaps included, in order of board, epoch, class and sequence; returns how many.
    fn rows(&self, site: &Name, each: &mut dyn FnMut(Row<'_>)) -> Result<u64, StoreError>;

    /// At most `limit` rows of `site`: the newest, newest first; or with `after` those that arrived after that place,
    /// oldest first.
    fn look(
        &self,
        site: &Name,
        after: Option<Cursor>,
        limit: u32,
        each: &mut dyn FnMut(Row<'_>),
    ) -> Result<Looked, StoreError>;

    /// A site that has blocks from before `before` that are in no part.
    fn unarchived(&self, before: WallMillis) -> Result<Option<String>, StoreError>;

    /// The part that was planned first of those that wait for their archival.
    fn waiting(&self) -> Result<Option<Part>, StoreError>;

    /// Every row of a part that waits, with the time at which it was received, in order of board, epoch and class and of their blocks'
    /// sequences; how many. `None`, and nothing passed on, where the part waits no more: then its rows may be gone.
    fn part_rows(&self, part: &Part, each: &mut dyn FnMut(Row<'_>, i64)) -> Result<Option<u64>, StoreError>;

    /// Blocks of `class` that were received before `before`, [`DUE_MAX`](super::parts::DUE_MAX) at most: those that are in no part, or
    /// with `archived` those of archived parts alone; never those of a part that waits. Where there are any at all, some are found.
    fn due(&self, class: Class, before: WallMillis, archived: bool) -> Result<Vec<Due>, StoreError>;

    /// The newest rows of one class of `site`, at most `limit` of each of its streams, in no order.
    fn newest(&self, site: &Name, class: Class, limit: u32, each: &mut dyn FnMut(Row<'_>)) -> Result<(), StoreError>;
}

/// A stored record, borrowed from the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'r> {
    /// Board, epoch and class.
    pub stream: Stream,
    /// Place in the stream.
    pub seq: Seq,
    /// A reading, or a gap that the site itself noted.
    pub kind: Kind,
    /// Who sent it.
    pub publisher: &'r str,
    /// What it is filed under: for a publisher that counts, kind 0, and the bytes are its epoch and sequence, both
    /// big-endian.
    pub key: FilingKey,
    /// Board's wall clock when it was taken in, in milliseconds since 1970.
    pub taken_ms: i64,
    /// Where it was published.
    pub topic: &'r str,
    /// What it says.
    pub payload: &'r [u8],
}

/// What gap records declared lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shed {
    /// Of which stream.
    pub stream: Stream,
    /// Which sequences. Some may be stored after all: another board still had them.
    pub range: SeqRange,
    /// Bytes of their records.
    pub bytes: u64,
    /// Why.
    pub reason: GapReason,
}

/// Something that happened in the region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredEvent {
    /// When, by the region's wall clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// The event's name.
    pub name: String,
    /// What happened, in words.
    pub detail: String,
}

/// A place in the order of arrival: `<block>-<sequence>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub(super) block: i64,
    pub(super) seq: Seq,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.block, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a place is written <block>-<sequence>, as `next` in an earlier answer";
        let (block, seq) = text.split_once('-').ok_or(wrong)?;
        let block = block.parse().map_err(|_| wrong)?;
        let seq = seq.parse().ok().filter(|seq| *seq <= i64::MAX as Seq).ok_or(wrong)?;
        Ok(Self { block, seq })
    }
}

/// What a look has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// How many rows.
    pub rows: u32,
    /// The place of the newest row seen, or the one that was given: look after it for what has come since.
    pub next: Option<Cursor>,
}

//! What leaves the store: parts, which are blocks that go into the archive as one object, and blocks whose time is over. Owns a
//! part's size and name, and how days are told apart; which blocks they are is looked up by each store.
//!
//! ```text
//! block ──▶ in no part ──plan──▶ in a part that waits ──put, read back, noted──▶ in a part that is archived ──▶ expired
//!                │                                                                                              ▲
//!                └───────────────────────────── where there is no archive ──────────────────────────────────────┘
//! ```
//!
//! A part is planned in a transaction of its own before anything of it is written elsewhere, so that whoever comes after a crash
//! writes the same rows under the same name.

use std::collections::BTreeMap;

use shared::ids::{Name, Seq, Stream};
use shared::time::WallMillis;
use time::OffsetDateTime;
use xxhash_rust::xxh3::Xxh3;

/// Bytes of records, unpacked, of one part, but for its last block: an object of some 5 to 30 MiB, which is in memory once.
pub const PART_BYTES: u64 = 64 * 1024 * 1024;
/// Blocks of one part: what one transaction plans.
pub const PART_BLOCKS_MAX: usize = 4096;
/// Blocks that are looked up at once because their time is over.
pub const DUE_MAX: u32 = 1024;
/// Records that one transaction removes, but for those of its last block: some 50 ms in a file.
pub const EXPIRED_RECORDS: u64 = 8192;
/// A day of the region's clock, UTC.
pub const DAY_MS: i64 = 24 * 3600 * 1000;

/// Blocks of one site that the region received on one day, and that are archived as one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number in this store.
    pub id: i64,
    /// Whose blocks.
    pub site: Name,
    /// When the day began.
    pub day_ms: i64,
    /// The object's name: from its first attempt on.
    pub name: String,
    /// Readings and gap records that it must have.
    pub records: u64,
}

/// A block whose time is over, as a look has found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub(super) stream: i64,
    pub(super) part: i64,
    pub(super) received_ms: i64,
    pub(super) block: i64,
    /// Readings and gap records that came with it.
    pub records: u64,
}

/// Blocks that are to go.
#[derive(Clone, Debug)]
pub struct Expiry<'d> {
    /// Which.
    pub blocks: &'d [Due],
    /// Whether what is not archived stays, whatever was found.
    pub archived_only: bool,
}

/// Records that went, by site.
pub type Expired = BTreeMap<String, u64>;

/// A block that is about to be part of a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) stream: Stream,
    pub(super) first: Seq,
    pub(super) count: u32,
}

/// When the day of `at_ms` began.
pub fn day_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS) * DAY_MS
}

/// The object's name: partitions as DuckDB and others read them, the part's number, and what tells it from a part of that number
/// that another store made, or this one before it was restored.
pub(super) fn name(site: &Name, day_ms: i64, id: i64, members: &[Member]) -> String {
    let mut hash = Xxh3::new();
    for Member { stream, first, count } in members {
        let origin = stream.origin;
        hash.update(&[origin.board.get(), stream.class as u8]);
        hash.update(&origin.epoch.boot.to_le_bytes());
        hash.update(&origin.epoch.nonce.to_le_bytes());
        hash.update(&first.to_le_bytes());
        hash.update(&count.to_le_bytes());
    }
    format!("site={site}/day={}/part-{id:012}-{:016x}.parquet", date(day_ms), hash.digest())
}

/// The date of a day, such as `2026-03-01`; the last that there is for what lies beyond it.
pub fn date(day_ms: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(day_ms.div_euclid(1000));
    let date = moment.map_or(time::Date::MAX, OffsetDateTime::date);
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

/// Takes members until the part is full.
pub(super) struct Filling {
    bytes: u64,
    count: usize,
}

impl Filling {
    pub(super) const fn new() -> Self {
        Self { bytes: 0, count: 0 }
    }

    /// Whether another block fits, of which `raw_len` bytes are then in it.
    pub(super) fn takes(&mut self, raw_len: u64) -> bool {
        if self.bytes >= PART_BYTES || self.count >= PART_BLOCKS_MAX {
            return false;
        }
        self.bytes += raw_len;
        self.count += 1;
        true
    }
}

/// Wall time as a column; the end of time is good enough for what lies beyond it.
pub(crate) fn millis(at: WallMillis) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use shared::ids::{BoardId, Class, Epoch, Origin};

    use super::*;

    fn member(first: Seq) -> Member {
        let origin = Origin { board: BoardId::new(1).unwrap(), epoch: Epoch { boot: 1, nonce: 2 } };
        Member { stream: Stream { origin, class: Class::Event }, first, count: 2 }
    }

    #[test]
    fn a_name_says_site_day_and_number_and_tells_contents_apart() {
        let site = Name::try_from("elm").unwrap();
        let day = day_of(1_700_000_000_000);
        assert_eq!((day_of(day), day_of(day + DAY_MS - 1), day_of(day - 1)), (day, day, day - DAY_MS));
        let one = name(&site, day, 7, &[member(1), member(3)]);
        assert!(one.starts_with("site=elm/day=2023-11-14/part-000000000007-"), "{one}");
        assert_eq!(one, name(&site, day, 7, &[member(1), member(3)]));
        assert_ne!(one, name(&site, day, 7, &[member(1), member(5)]));
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(i64::MAX), "9999-12-31");
    }

    #[test]
    fn a_part_is_full_at_its_bytes_or_its_blocks() {
        let mut filling = Filling::new();
        assert!(filling.takes(PART_BYTES - 1) && filling.takes(9) && !filling.takes(1));
        let mut filling = Filling::new();
        assert!((0..PART_BLOCKS_MAX).all(|_| filling.takes(0)) && !filling.takes(0));
    }
}

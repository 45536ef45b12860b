//! How much of a site is stored, and whether it adds up: from the counts that move with each transaction, the coverage
//! and what gap records declared lost.

use shared::ids::Stream;
use shared::ranges::{RangeSet, SeqRange};

/// Counts of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCounts {
    /// Which.
    pub stream: Stream,
    /// Readings that are rows, or were until they expired.
    pub rows: u64,
    /// Readings that were rows already, under another address.
    pub duplicates: u64,
    /// Gap records, those that expired among them.
    pub gaps: u64,
    /// Readings and gap records that are in the archive, read back and found whole.
    pub archived: u64,
    /// Readings and gap records that were rows, and are not any more: their time was over.
    pub expired: u64,
    /// Sequences that are or were stored: rows, duplicates and gap records together.
    pub covered: u64,
    /// Sequences that a gap record declared lost and that are not stored.
    pub shed: u64,
    /// Sequences below the highest known one that are neither stored nor declared lost: on their way, or missing.
    pub holes: u64,
}

/// Counts of a site, by stream, in order of board, epoch and class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteCounts {
    /// The streams.
    pub streams: Vec<StreamCounts>,
}

impl SiteCounts {
    /// One figure over all streams; the largest number where that is more: boards say how much they have shed.
    pub fn sum(&self, figure: impl Fn(&StreamCounts) -> u64) -> u64 {
        self.streams.iter().map(figure).fold(0, u64::saturating_add)
    }
}

/// What a stream's own row counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) rows: u64,
    pub(super) duplicates: u64,
    pub(super) gaps: u64,
    pub(super) archived: u64,
    pub(super) expired: u64,
}

/// Sets what is counted of a stream beside what is covered of it and what gap records `declared` lost.
pub(super) fn reckon(stream: Stream, counted: Counted, covered: &RangeSet, declared: &RangeSet) -> StreamCounts {
    let last = covered.last().max(declared.last()).unwrap_or(0);
    let absent: RangeSet = if last == 0 {
        RangeSet::EMPTY
    } else {
        covered.missing(SeqRange { first: 1, last }).into_iter().collect()
    };
    StreamCounts {
        stream,
        rows: counted.rows,
        duplicates: counted.duplicates,
        gaps: counted.gaps,
        archived: counted.archived,
        expired: counted.expired,
        covered: covered.count(),
        shed: declared.minus(covered).count(),
        holes: absent.minus(declared).count(),
    }
}

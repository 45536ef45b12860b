//! Where in the index of keys a row's key stands. A digest is as good as random: filed by it alone each new row would be written to a page
//! of its own once there are millions, and bring that page to the disk. So keys of rows that come at about the same time stand together.
//!
//! ```text
//! key        lot                        to find a row that is filed
//! sequence   none, and no key there     in the table of numbers, which is apart
//! content    the sensor's own number    by lot and key: equal readings have equal numbers
//! delivery
//!   original the publisher's at present every lot of the publisher is asked, for a copy alone
//!   copy     none                       by its key: it waits for its original, and such rows have an index of their own
//! address    the publisher's at present never looked for
//! ```

use shared::identity::own_number;
use shared::record::{Key, Reading};
use shared::region::ledger::FilingKey;

/// A row that is in no lot. All were before there were lots.
pub(super) const NO_LOT: i64 = 0;
/// The first lot of a publisher.
pub(super) const FIRST_LOT: i64 = 1;
/// Rows of a publisher's lot, about, where it has few of them: some twenty pages of the index, each of which a transaction of thousands of
/// rows of some dozens of publishers writes for several.
pub(super) const LOT_ROWS: u32 = 4096;
/// A copy whose original was not filed is looked for in every lot of its publisher, some microseconds each where the index is at hand: so with each
/// so many lots the next ones are twice as long. A publisher that says something each second has some five hundred in a month, and
/// one that says a thousand things a second some five thousand.
const DOUBLED_AFTER: i64 = 512;

/// Rows of the next lot of a publisher that has rows in so many.
pub(super) fn rows_of_next(lots: i64) -> u32 {
    let doubled = u32::try_from(lots.max(0) / DOUBLED_AFTER).unwrap_or(u32::MAX);
    LOT_ROWS << doubled.min(LOT_ROWS.leading_zeros() - 1)
}

/// The lot in which `reading` is filed under `key`; `None`: its publisher's at present.
pub(super) fn of(reading: &Reading<'_>, key: FilingKey, awaits_original: bool) -> Option<i64> {
    match reading.key {
        _ if key.kind == FilingKey::ADDRESS => None,
        Key::Sequence { .. } => Some(NO_LOT),
        // At most 18 digits.
        Key::Content(_) => Some(own_number(reading.payload).cast_signed()),
        Key::Delivery { .. } => awaits_original.then_some(NO_LOT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However much a publisher says, its lots stay few.
    #[test]
    fn lots_become_longer_where_there_are_many() {
        assert_eq!([0, 511, 512, 1024].map(rows_of_next), [4096, 4096, 8192, 16384]);
        assert_eq!(rows_of_next(i64::MAX), rows_of_next(-1) << 18);
        let mut lots = 0;
        let mut rows = 0_u64;
        while rows < 2_600_000_000 {
            rows += u64::from(rows_of_next(lots));
            lots += 1;
        }
        assert!(lots < 5500, "{lots}");
    }
}

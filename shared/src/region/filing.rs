//! Which reading becomes a row: the same reading, sent again over another board, is one. Owns that judgement alone;
//! the store looks rows up and writes them.
//!
//! ```text
//! key       nothing filed   filed
//! sequence  insert          duplicate
//! content   insert          duplicate
//! delivery
//!   resent    insert, waits for its original   duplicate
//!   original  insert        waits for its original, and this can be it: duplicate, met
//!                           else a new reading that merely looks the same: insert under its own address
//! gap       insert under its own address
//! ```
//!
//! A store may take an original for one that nothing is filed for where what looks the same does not wait: it is inserted either way.

use xxhash_rust::xxh3::Xxh3;

use crate::ids::{Seq, Stream};
use crate::record::{Key, Kind, Reading};
use crate::time::WallMillis;

/// A row that is already filed under a reading's publisher, kind of key and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filed {
    /// Stream of the row.
    pub stream: Stream,
    /// Its sequence.
    pub seq: Seq,
    /// Its board's wall clock when it was taken in.
    pub taken: WallMillis,
    /// Whether it is the copy of a delivery whose original has not been seen.
    pub awaits_original: bool,
}

/// What a row is filed under, beside its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilingKey {
    /// Kind of key: as [`Key::kind`], or [`FilingKey::ADDRESS`].
    pub kind: u8,
    /// The key.
    pub bytes: [u8; 16],
}

impl FilingKey {
    /// The kind of a key made from the record's own address: nothing else ever equals it.
    pub const ADDRESS: u8 = 3;

    /// The key that `reading` asks to be filed under.
    pub fn of(reading: &Reading<'_>, stream: &Stream, seq: Seq) -> Self {
        match reading.kind {
            Kind::Reading => Self { kind: reading.key.kind(), bytes: reading.key.bytes() },
            Kind::Gap => Self::address(&reading.key, stream, seq),
        }
    }

    fn address(key: &Key, stream: &Stream, seq: Seq) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&key.bytes());
        hash.update(&[stream.origin.board.get(), stream.class as u8]);
        hash.update(&stream.origin.epoch.boot.to_le_bytes());
        hash.update(&stream.origin.epoch.nonce.to_le_bytes());
        hash.update(&seq.to_le_bytes());
        Self { kind: Self::ADDRESS, bytes: hash.digest128().to_be_bytes() }
    }
}

/// What becomes of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A new row.
    Insert {
        /// Under which key.
        key: FilingKey,
        /// Whether it waits for its original.
        awaits_original: bool,
    },
    /// The row that is filed already. Count it.
    Duplicate {
        /// Whether this was the original that the filed row waits for: it waits no more.
        meets: bool,
    },
}

/// Judges `reading`, at `seq` of `stream`, against the row `filed` under [`FilingKey::of`] it.
///
/// A delivery key tells two readings apart only by the mark of a re-sent packet, so the judgement leans towards
/// keeping: an original taken in after the waiting copy on the same board cannot be that copy's original. On a board whose disk was
/// replaced lives are counted anew, so that a higher count of lives alone does not say that it was after: its clock must say so too.
pub fn file(filed: Option<&Filed>, reading: &Reading<'_>, stream: &Stream, seq: Seq) -> Verdict {
    let key = FilingKey::of(reading, stream, seq);
    let resent = match reading.key {
        Key::Sequence { .. } | Key::Content(_) => None,
        Key::Delivery { resent, .. } => Some(resent),
    };
    let Some(filed) = filed else {
        return Verdict::Insert { key, awaits_original: reading.kind == Kind::Reading && resent == Some(true) };
    };
    match resent {
        None | Some(true) => Verdict::Duplicate { meets: false },
        Some(false) if filed.awaits_original && !is_after(reading, stream, seq, filed) => {
            Verdict::Duplicate { meets: true }
        }
        Some(false) => Verdict::Insert { key: FilingKey::address(&reading.key, stream, seq), awaits_original: false },
    }
}

/// Whether the record at `seq` of `stream` was surely taken in after `filed`. Only one board's order is known.
fn is_after(reading: &Reading<'_>, stream: &Stream, seq: Seq, filed: &Filed) -> bool {
    let (this, that) = (&stream.origin, &filed.stream.origin);
    if this.board != that.board {
        return false;
    }
    if this.epoch != that.epoch {
        return this.epoch.boot > that.epoch.boot && reading.taken >= filed.taken;
    }
    stream.class == filed.stream.class && seq > filed.seq
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BoardId, Class, Epoch, Origin};

    fn stream(board: u8, boot: u32) -> Stream {
        let board = BoardId::new(board).unwrap();
        Stream { origin: Origin { board, epoch: Epoch { boot, nonce: 1 } }, class: Class::Event }
    }

    fn reading(key: Key) -> Reading<'static> {
        Reading {
            kind: Kind::Reading,
            publisher: "loop-7",
            key,
            taken: WallMillis(1),
            topic: "det/7",
            payload: b"on",
        }
    }

    fn delivery(resent: bool) -> Reading<'static> {
        reading(Key::delivery(b"loop-7", b"det/7", b"on", 5, resent))
    }

    fn filed(board: u8, boot: u32, seq: Seq, awaits_original: bool) -> Filed {
        Filed { stream: stream(board, boot), seq, taken: WallMillis(1), awaits_original }
    }

    const DUPLICATE: Verdict = Verdict::Duplicate { meets: false };
    const MET: Verdict = Verdict::Duplicate { meets: true };

    #[test]
    fn strong_keys_file_the_first_and_count_the_rest() {
        for key in [Key::Sequence { epoch: 1, seq: 2 }, Key::Content([7; 16])] {
            let reading = reading(key);
            let under = FilingKey { kind: key.kind(), bytes: key.bytes() };
            assert_eq!(file(None, &reading, &stream(1, 1), 4), Verdict::Insert { key: under, awaits_original: false });
            assert_eq!(file(Some(&filed(2, 1, 9, false)), &reading, &stream(1, 1), 4), DUPLICATE);
        }
    }

    #[test]
    fn a_resent_delivery_waits_for_its_original_and_meets_it_once() {
        let resent = delivery(true);
        let under = FilingKey::of(&resent, &stream(1, 1), 4);
        assert_eq!(file(None, &resent, &stream(1, 1), 4), Verdict::Insert { key: under, awaits_original: true });
        assert_eq!(file(Some(&filed(2, 1, 9, false)), &resent, &stream(1, 1), 4), DUPLICATE);
        assert_eq!(file(Some(&filed(2, 1, 9, true)), &resent, &stream(1, 1), 4), DUPLICATE);
        assert_eq!(file(Some(&filed(2, 1, 9, true)), &delivery(false), &stream(1, 1), 4), MET);
    }

    #[test]
    fn originals_that_look_the_same_are_all_kept() {
        let original = delivery(false);
        let verdict = |seq| file(Some(&filed(2, 1, 9, false)), &original, &stream(1, 1), seq);
        let (Verdict::Insert { key: first, .. }, Verdict::Insert { key: second, .. }) = (verdict(4), verdict(5)) else {
            panic!("both are new readings");
        };
        assert_eq!((first.kind, second.kind), (FilingKey::ADDRESS, FilingKey::ADDRESS));
        assert_ne!(first, second);
        assert_eq!(verdict(4), verdict(4), "the address decides, not the moment");
    }

    #[test]
    fn an_original_taken_after_the_waiting_copy_on_its_board_is_a_new_reading() {
        let waiting = filed(2, 3, 9, true);
        let at = |board, boot, seq| file(Some(&waiting), &delivery(false), &stream(board, boot), seq);
        assert_eq!(at(2, 3, 8), MET);
        assert!(matches!(at(2, 3, 10), Verdict::Insert { .. }));
        assert_eq!(at(2, 2, 10), MET);
        assert!(matches!(at(2, 4, 8), Verdict::Insert { .. }));
        assert_eq!(at(1, 4, 10), MET);
    }

    #[test]
    fn an_original_of_a_life_before_the_disk_was_replaced_meets_its_copy() {
        let of_new_disk = Filed { taken: WallMillis(2), ..filed(2, 1, 9, true) };
        let original = delivery(false);
        assert_eq!(file(Some(&of_new_disk), &original, &stream(2, 5), 3), MET);
        let later = Reading { taken: WallMillis(2), ..original };
        assert!(matches!(file(Some(&of_new_disk), &later, &stream(2, 5), 3), Verdict::Insert { .. }));
    }

    #[test]
    fn gaps_never_meet_one_another() {
        let gap = Reading { kind: Kind::Gap, ..reading(Key::Content([0; 16])) };
        let first = FilingKey::of(&gap, &stream(1, 1), 4);
        let second = FilingKey::of(&gap, &stream(1, 1), 5);
        assert_eq!(first.kind, FilingKey::ADDRESS);
        assert_ne!(first, second);
    }
}

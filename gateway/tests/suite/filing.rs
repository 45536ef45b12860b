//! A reading that comes over two boards is one row; readings that merely look alike are not.

use std::collections::BTreeSet;

use gateway::store::Store;
use gateway::store::read::StoreReader;
use shared::record::{Key, Reading};

use crate::contract::Rig;
use crate::deposits::{block_of, counted, put, reading, rows, stream};

struct Filing {
    store: Box<dyn Store>,
    reader: Box<dyn StoreReader>,
    next: u64,
}

impl Filing {
    fn new(rig: &dyn Rig) -> Self {
        let (store, reader) = rig.both();
        Self { store, reader, next: 0 }
    }

    /// A reading over `board`; whether it became a row. Sequences rise over all boards, each in its own stream.
    fn take(&mut self, board: u8, reading: Reading<'_>) -> bool {
        self.next += 1;
        let sent = block_of(stream(board, 1), self.next, &[reading]);
        let tally = put(&mut *self.store, &[sent])[0].unwrap();
        assert_eq!(tally.rows + tally.duplicates, 1, "nothing vanishes");
        tally.rows == 1
    }

    fn rows(&self) -> usize {
        rows(&*self.reader).len()
    }
}

fn delivered(packet: u16, resent: bool) -> Reading<'static> {
    reading(Key::delivery(b"loop-7", b"det/7", b"on", packet, resent), b"on")
}

pub(crate) fn a_counted_reading_over_two_boards_is_one_row(rig: &dyn Rig) {
    let mut filing = Filing::new(rig);
    assert!(filing.take(1, reading(counted(5), b"on")));
    assert!(!filing.take(2, reading(counted(5), b"on")));
    assert!(filing.take(2, reading(counted(6), b"on")));
    assert!(filing.take(2, Reading { publisher: "loop-8", ..reading(counted(5), b"on") }));
    assert!(filing.take(2, reading(Key::Sequence { epoch: 1, seq: 5 }, b"on")));
    assert_eq!(filing.rows(), 4);
}

pub(crate) fn one_block_may_hold_a_reading_twice(rig: &dyn Rig) {
    let mut filing = Filing::new(rig);
    let twice = [reading(counted(5), b"on"), reading(counted(5), b"on"), reading(counted(6), b"on")];
    let tally = put(&mut *filing.store, &[block_of(stream(1, 1), 1, &twice)])[0].unwrap();
    assert_eq!((tally.rows, tally.duplicates), (2, 1));
}

/// Two publishers number their readings around places where a range may begin or end, in blocks over three boards; what is a row is what a plain set
/// of numbers says. Now and then the store is opened again, which then knows no more than what is stored. Seen to fail where a range that was
/// joined to the one before it stays, and where the one behind is not looked for.
pub(crate) fn numbers_come_in_any_order_and_each_is_one_row(rig: &dyn Rig) {
    const BASES: [u64; 3] = [0, i64::MAX.cast_unsigned() - 20, u64::MAX - 40];
    let mut state = 7_u64;
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let mut filing = Filing::new(rig);
    let mut plain = BTreeSet::new();
    for round in 0..60 {
        let blocks: Vec<Vec<(&str, Key)>> = (0..=next(2))
            .map(|_| {
                let count = 1 + next(21);
                let one = |_| {
                    let publisher = ["loop-7", "loop-8"][next(2) as usize];
                    let seq = BASES[next(3) as usize] + next(41);
                    (publisher, Key::Sequence { epoch: next(2) * u64::MAX, seq })
                };
                (0..count).map(one).collect()
            })
            .collect();
        let new = blocks.iter().flatten().filter(|numbered| plain.insert(**numbered)).count();
        let mut sent = Vec::new();
        for block in &blocks {
            let readings: Vec<_> = block
                .iter()
                .map(|(publisher, key)| Reading { publisher, ..reading(*key, b"on") })
                .collect();
            sent.push(block_of(stream(1 + next(3) as u8, 1), filing.next + 1, &readings));
            filing.next += readings.len() as u64;
        }
        let tallies = put(&mut *filing.store, &sent);
        let rows: u64 = tallies.iter().map(|tally| tally.unwrap().rows).sum();
        assert_eq!(rows, new as u64, "round {round}");
        if next(12) == 0 {
            let sequence = filing.next;
            drop(filing);
            filing = Filing { next: sequence, ..Filing::new(rig) };
        }
    }
    assert_eq!(filing.rows(), plain.len());
    rig.expect_numbers_of_rows();
}

pub(crate) fn kinds_of_keys_do_not_meet(rig: &dyn Rig) {
    let mut filing = Filing::new(rig);
    let bytes = counted(5).bytes();
    assert!(filing.take(1, reading(counted(5), b"on")));
    assert!(filing.take(1, reading(Key::Content(bytes), b"on")));
    assert!(filing.take(1, reading(Key::Delivery { digest: bytes, resent: false }, b"on")));
    assert!(!filing.take(2, reading(Key::Content(bytes), b"on")));
    assert_eq!(filing.rows(), 3);
}

pub(crate) fn a_delivery_sent_again_is_one_row_in_either_order(rig: &dyn Rig) {
    let mut filing = Filing::new(rig);
    assert!(filing.take(1, delivered(5, false)));
    assert!(!filing.take(2, delivered(5, true)));
    assert!(filing.take(3, delivered(6, true)), "the copy comes first");
    assert!(!filing.take(2, delivered(6, true)));
    assert!(!filing.take(1, delivered(6, false)), "its original");
    assert!(filing.take(1, delivered(6, false)), "another one: that packet's number is in use again");
    assert_eq!(filing.rows(), 3);
}

pub(crate) fn deliveries_that_look_alike_are_all_kept(rig: &dyn Rig) {
    let mut filing = Filing::new(rig);
    assert!(filing.take(1, delivered(5, false)));
    assert!(filing.take(1, delivered(5, false)));
    assert!(filing.take(2, delivered(5, false)));
    assert_eq!(filing.rows(), 3);
}

pub(crate) fn an_original_behind_its_would_be_copy_on_the_same_board_is_kept(rig: &dyn Rig) {
    let mut filing = Filing::new(rig);
    assert!(filing.take(1, delivered(5, true)));
    assert!(filing.take(1, delivered(5, false)));
    assert_eq!(filing.rows(), 2);
}

/// More readings of one publisher than stand together in the index of keys, so that what came before is in another lot.
fn many(filing: &mut Filing, board: u8, first: u32) -> u32 {
    const BLOCKS: u32 = 20;
    const RECORDS: u32 = 1000;
    for block in 0..BLOCKS {
        let payloads: Vec<String> = (0..RECORDS).map(|nth| (first + block * RECORDS + nth).to_string()).collect();
        let key = |payload: &String| Key::delivery(b"loop-7", b"det/7", payload.as_bytes(), 1, false);
        let readings: Vec<_> = payloads
            .iter()
            .map(|payload| reading(key(payload), payload.as_bytes()))
            .collect();
        let sent = block_of(stream(board, 1), filing.next + 1, &readings);
        filing.next += u64::from(RECORDS);
        assert_eq!(put(&mut *filing.store, &[sent])[0].unwrap().rows, u64::from(RECORDS));
    }
    first + BLOCKS * RECORDS
}

/// Seen to fail where a copy is looked for in the lot of the moment alone, and where an original looks for no copy that waits.
pub(crate) fn a_copy_and_its_original_meet_however_much_came_between(rig: &dyn Rig) {
    let mut filing = Filing::new(rig);
    assert!(filing.take(1, delivered(5, false)));
    assert!(filing.take(3, delivered(6, true)));
    let next = many(&mut filing, 1, 0);
    assert!(!filing.take(2, delivered(5, true)), "the original is in an older lot");
    assert!(!filing.take(1, delivered(6, false)), "its copy has waited");
    assert!(filing.take(1, delivered(5, false)), "that packet's number is in use again");
    // A gateway that starts knows no more than what is stored.
    let sequence = filing.next;
    drop(filing);
    let mut filing = Filing { next: sequence, ..Filing::new(rig) };
    many(&mut filing, 1, next);
    assert!(!filing.take(2, delivered(5, true)));
    for (at, is_new) in [(0, false), (next - 1, false), (next, false), (2 * next - 1, false), (2 * next, true)] {
        let payload = at.to_string();
        let copy = reading(Key::delivery(b"loop-7", b"det/7", payload.as_bytes(), 1, true), payload.as_bytes());
        assert_eq!(filing.take(3, copy), is_new, "{at}");
    }
}

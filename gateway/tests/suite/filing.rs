//! A reading that comes over two boards is one row; readings that merely look alike are not.

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

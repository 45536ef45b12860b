//! What tests put into a store, and how they look at what is in it.

use gateway::store::read::{Row, StoreReader};
use gateway::store::{Deposit, Store};
use shared::block::{BadBlock, pack};
use shared::hub::Tally;
use shared::ids::{BoardId, Class, Epoch, Name, Origin, Seq, Stream};
use shared::record::{Key, Kind, Reading};
use shared::time::WallMillis;
use shared::wire::uplink::Block;

pub(crate) const NOW: WallMillis = WallMillis(1_700_000_000_000);

pub(crate) fn site() -> Name {
    Name::try_from("elm").unwrap()
}

pub(crate) fn stream(board: u8, boot: u32) -> Stream {
    let board = BoardId::new(board).unwrap();
    // A nonce with its highest bit set: it must survive a signed column.
    let epoch = Epoch { boot, nonce: u64::MAX - u64::from(boot) };
    Stream { origin: Origin { board, epoch }, class: Class::Event }
}

pub(crate) fn reading(key: Key, payload: &[u8]) -> Reading<'_> {
    Reading {
        kind: Kind::Reading,
        publisher: "loop-7",
        key,
        taken: WallMillis(5),
        topic: "det/7",
        payload,
    }
}

pub(crate) fn counted(seq: u64) -> Key {
    Key::Sequence { epoch: 0, seq }
}

/// A block of these readings, from sequence `first` on.
pub(crate) fn block_of(stream: Stream, first: Seq, readings: &[Reading<'_>]) -> Block {
    let mut raw = Vec::new();
    for reading in readings {
        reading.encode(&mut raw);
    }
    pack(stream, first, u32::try_from(readings.len()).unwrap(), &raw)
}

/// A block whose readings carry the publisher's numbers `numbers`.
pub(crate) fn block(stream: Stream, first: Seq, numbers: std::ops::RangeInclusive<u64>) -> Block {
    let payloads: Vec<(u64, String)> = numbers.map(|number| (number, format!("on {number}"))).collect();
    let readings: Vec<Reading<'_>> = payloads
        .iter()
        .map(|(number, payload)| reading(counted(*number), payload.as_bytes()))
        .collect();
    block_of(stream, first, &readings)
}

/// Stores the blocks in one transaction; what became of each.
pub(crate) fn put(store: &mut dyn Store, blocks: &[Block]) -> Vec<Result<Tally, BadBlock>> {
    let deposit = Deposit { site: site(), fence: None, blocks: blocks.to_vec() };
    let stored = store.transact(&[deposit], &[], NOW).unwrap().remove(0);
    stored.into_iter().map(|stored| stored.outcome).collect()
}

/// Every row as (board, boot, sequence, payload), in the store's order.
pub(crate) fn rows(reader: &dyn StoreReader) -> Vec<(u8, u32, Seq, String)> {
    let mut rows = Vec::new();
    let mut keep = |row: Row<'_>| {
        let origin = row.stream.origin;
        let payload = String::from_utf8_lossy(row.payload).into_owned();
        rows.push((origin.board.get(), origin.epoch.boot, row.seq, payload));
    };
    reader.rows(&site(), &mut keep).unwrap();
    rows
}

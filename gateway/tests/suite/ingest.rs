//! How fast the store takes blocks. Not judged here, because the machine decides; run it by name to see.

use std::time::Instant;

use gateway::store::{Deposit, SqliteStore, Store as _};
use shared::record::{Key, Reading};

use crate::deposits::{NOW, block_of, counted, reading, site, stream};
use crate::scratch::Scratch;

/// Records of 200 bytes, as many as fit a block.
const RECORDS: u64 = 1280;

/// Records of about 200 bytes from 64 publishers, 16 blocks a transaction.
#[test]
#[ignore = "a measurement: cargo test --release -p gateway --test suite -- --ignored --nocapture ingest"]
fn records_a_second() {
    for (name, key) in [("sequence keys", counted as fn(u64) -> Key), ("digest keys", digest_of)] {
        let scratch = Scratch::new();
        let (mut store, _) = SqliteStore::open(scratch.path()).unwrap();
        let count = RECORDS;
        let deposits: Vec<Deposit> = (0..16_u64)
            .map(|transaction| {
                let blocks = (0..16).map(|at| block_from(transaction * 16 + at, count, key));
                Deposit { site: site(), fence: None, blocks: blocks.collect() }
            })
            .collect();
        let begun = Instant::now();
        for deposit in &deposits {
            let stored = store.transact(std::slice::from_ref(deposit), &[], NOW).unwrap();
            assert!(
                stored[0]
                    .iter()
                    .all(|stored| stored.outcome.is_ok_and(|tally| tally.rows == count))
            );
        }
        let took = begun.elapsed();
        let records = count * 256;
        println!("{name}: {records} records in {took:?}, {:.0} records/s", records as f64 / took.as_secs_f64());
    }
}

fn digest_of(number: u64) -> Key {
    Key::content(b"loop", b"det", &number.to_le_bytes())
}

fn block_from(at: u64, count: u64, key: fn(u64) -> Key) -> shared::wire::uplink::Block {
    let first = at * count + 1;
    let texts: Vec<(u64, String, String)> = (first..first + count)
        .map(|number| {
            let payload = format!(
                "{{\"detector\":{},\"phase\":{},\"ts\":{number},\"pad\":\"{:0>90}\"}}",
                number % 64,
                number % 8,
                number
            );
            (number, format!("loop-{}", number % 64), payload)
        })
        .collect();
    let readings: Vec<Reading<'_>> = texts
        .iter()
        .map(|(number, publisher, payload)| Reading { publisher, ..reading(key(*number), payload.as_bytes()) })
        .collect();
    block_of(stream(1, 1), first, &readings)
}

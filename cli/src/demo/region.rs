//! What the region's store holds, read afresh from its file: how much while the demo runs, and every row for the
//! verdict.

use std::collections::HashMap;
use std::path::Path;

use gateway::store::read::{self, SqliteReader, StoreReader as _};
use shared::ids::Name;
use shared::record::Kind;

use super::replay::content;
use super::verdict::{Account, Judge, Row, Verdict};
use crate::failure::Failure;

/// Kind of key of a publisher that counts.
const BY_NUMBER: u8 = 0;

/// How many readings of `site` the store in `dir` holds; 0 where there is none yet.
pub(crate) fn stored(dir: &Path, site: &Name) -> u64 {
    let counted = SqliteReader::open(dir).and_then(|store| store.counts(site));
    counted.map_or(0, |counts| counts.sum(|stream| stream.rows))
}

/// The verdict on `accounts` by every row of `site` in the store in `dir`.
pub(crate) fn judge(
    dir: &Path,
    site: &Name,
    accounts: &[Account],
    takeover_ms: Option<u64>,
    drain_s: Option<f64>,
) -> Result<Verdict, Failure> {
    let cannot = |error| Failure::new(format!("cannot read the region's store in {}", dir.display())).because(error);
    let store = SqliteReader::open(dir).map_err(cannot)?;
    let mut judge = Judge::new(accounts);
    let mut streams = HashMap::new();
    store
        .rows(site, &mut |row| match row.kind {
            Kind::Reading => {
                let next = streams.len() as u64;
                let stream = *streams.entry(row.stream).or_insert(next);
                judge.handle_row(&Row {
                    stream,
                    seq: row.seq,
                    publisher: row.publisher,
                    number: number(&row),
                    content: content(row.topic.as_bytes(), row.payload),
                });
            }
            Kind::Gap => {}
        })
        .map_err(cannot)?;
    // A sequence that a gap declares lost may be stored after all, from another copy: only the others are shed.
    let counts = store.counts(site).map_err(cannot)?;
    judge.handle_gap(counts.sum(|stream| stream.shed));
    Ok(judge.finish(takeover_ms, drain_s))
}

/// The publisher's own number, where the row is filed under one. Our publishers name no epoch: theirs is 0.
fn number(row: &read::Row<'_>) -> Option<u64> {
    let (epoch, number) = row.key.bytes.split_at(8);
    let is_ours = row.key.kind == BY_NUMBER && epoch == [0; 8];
    is_ours.then(|| number.try_into().map(u64::from_be_bytes).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use gateway::store::{Deposit, SqliteStore, Store as _};
    use shared::block::pack;
    use shared::ids::{BoardId, Class, Epoch, Origin, Stream};
    use shared::record::{Key, Reading};
    use shared::time::WallMillis;

    use super::super::verdict::Fate;
    use super::*;

    fn reading(publisher: &'static str, key: Key, payload: &'static [u8]) -> Reading<'static> {
        Reading { kind: Kind::Reading, publisher, key, taken: WallMillis(1), topic: "t", payload }
    }

    fn fate(payload: &[u8]) -> Fate {
        Fate { content: content(b"t", payload), sent: true, acked: true }
    }

    #[test]
    fn rows_of_a_real_store_are_recognised() {
        let scratch = crate::scratch::Scratch::new("region");
        let site = Name::try_from("demo").unwrap();
        assert_eq!(stored(scratch.path(), &site), 0);
        let by_number = |epoch, seq| Key::Sequence { epoch, seq };
        let readings = [
            reading("a", by_number(0, 1), b"one"),
            reading("a", by_number(0, 2), b"two"),
            reading("b", by_number(0, 1), b"nobody sent this"),
            reading("a", by_number(7, 3), b"of another life"),
        ];
        let mut raw = Vec::new();
        readings.iter().for_each(|reading| reading.encode(&mut raw));
        let origin = Origin { board: BoardId::new(1).unwrap(), epoch: Epoch { boot: 1, nonce: 5 } };
        let block = pack(Stream { origin, class: Class::Event }, 1, 4, &raw);
        let deposit = Deposit { site: site.clone(), fence: None, blocks: vec![block] };
        SqliteStore::open(scratch.path())
            .unwrap()
            .0
            .transact(&[deposit], &[], WallMillis(1))
            .unwrap();

        assert_eq!(stored(scratch.path(), &site), 4);
        let readings = vec![fate(b"one"), fate(b"two"), fate(b"three")];
        let accounts = [Account { publisher: "a".to_owned(), readings }];
        let verdict = judge(scratch.path(), &site, &accounts, None, None).unwrap();
        assert_eq!((verdict.sent, verdict.acked, verdict.stored), (3, 3, 2));
        assert_eq!((verdict.lost, verdict.unaccounted, verdict.passes()), (1, 2, false));
    }
}

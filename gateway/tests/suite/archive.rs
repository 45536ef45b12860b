//! An archive as tests look into it: its objects, read back by a reader of Parquet.

use std::collections::BTreeMap;
use std::path::Path;

use gateway::config::Retention;
use gateway::objects::{ObjectPlace, Objects, Service};
use gateway::store::Store;
use gateway::store::read::{Row, StoreReader};
use gateway::upkeep::Upkeep;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use tokio::runtime::Runtime;

use crate::deposits::site;

/// Longer than any object of a test.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Every column of a row, and when it was received.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) board: u8,
    pub(crate) boot: u32,
    pub(crate) nonce: u64,
    pub(crate) class: String,
    pub(crate) seq: u64,
    pub(crate) kind: String,
    pub(crate) publisher: String,
    pub(crate) key: (u8, Vec<u8>),
    pub(crate) taken: i64,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

impl Line {
    fn of(row: &Row<'_>) -> Self {
        let origin = row.stream.origin;
        Self {
            board: origin.board.get(),
            boot: origin.epoch.boot,
            nonce: origin.epoch.nonce,
            class: row.stream.class.as_str().to_owned(),
            seq: row.seq,
            kind: format!("{:?}", row.kind).to_lowercase(),
            publisher: row.publisher.to_owned(),
            key: (row.key.kind, row.key.bytes.to_vec()),
            taken: row.taken_ms,
            topic: row.topic.to_owned(),
            payload: row.payload.to_vec(),
        }
    }

    fn read(row: &parquet::record::Row) -> (Self, i64) {
        let line = Self {
            board: row.get_ubyte(0).unwrap(),
            boot: row.get_uint(1).unwrap(),
            nonce: row.get_ulong(2).unwrap(),
            class: row.get_string(3).unwrap().clone(),
            seq: row.get_ulong(4).unwrap(),
            kind: row.get_string(5).unwrap().clone(),
            publisher: row.get_string(6).unwrap().clone(),
            key: (row.get_ubyte(7).unwrap(), row.get_bytes(8).unwrap().data().to_vec()),
            taken: row.get_timestamp_millis(9).unwrap(),
            topic: row.get_string(11).unwrap().clone(),
            payload: row.get_bytes(12).unwrap().data().to_vec(),
        };
        (line, row.get_timestamp_millis(10).unwrap())
    }
}

/// Every row of the store, in its order.
pub(crate) fn lines(reader: &dyn StoreReader) -> Vec<Line> {
    let mut lines = Vec::new();
    reader.rows(&site(), &mut |row| lines.push(Line::of(&row))).unwrap();
    lines
}

/// An archive, and what is needed to use it.
pub(crate) struct Archive {
    pub(crate) runtime: Runtime,
    pub(crate) objects: Objects,
}

impl Archive {
    /// In a directory.
    pub(crate) fn in_directory(dir: &Path) -> Self {
        Self::at(&ObjectPlace::new("archive", dir, Service::default()).unwrap())
    }

    pub(crate) fn at(place: &ObjectPlace) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self { runtime, objects: Objects::open(place).unwrap() }
    }

    /// The upkeep of a store that archives here.
    pub(crate) fn upkeep(
        &self,
        (store, reader): (Box<dyn Store>, Box<dyn StoreReader>),
        retention: Retention,
    ) -> Upkeep {
        let (archive, runtime) = (Some(self.objects.clone()), self.runtime.handle().clone());
        Upkeep::of(store, reader, archive, retention, runtime)
    }

    /// Names and bytes of all objects, by name.
    pub(crate) fn bodies(&self) -> BTreeMap<String, bytes::Bytes> {
        self.runtime.block_on(async {
            let mut bodies = BTreeMap::new();
            for found in self.objects.list("", usize::MAX).await.unwrap() {
                let body = self.objects.get(&found.name, BYTES_MAX).await.unwrap().unwrap();
                assert_eq!(body.len() as u64, found.bytes);
                bodies.insert(found.name, body);
            }
            bodies
        })
    }

    /// Rows of all objects, by the objects' names, each with the time at which it was received.
    pub(crate) fn rows(&self) -> BTreeMap<String, Vec<(Line, i64)>> {
        let read = |body| {
            let file = SerializedFileReader::new(body).unwrap();
            let rows = file.get_row_iter(None).unwrap();
            rows.map(|row| Line::read(&row.unwrap())).collect()
        };
        self.bodies().into_iter().map(|(name, body)| (name, read(body))).collect()
    }

    /// Rows of all objects, sorted: a row that is there twice is there twice.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = self.rows().into_values().flatten().map(|(line, _)| line).collect();
        lines.sort();
        lines
    }
}

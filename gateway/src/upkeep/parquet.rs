//! Rows as a Parquet file. Owns the file's columns, and how much of it is in memory before it is compressed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use shared::record::Kind;

use crate::store::parts::Part;
use crate::store::read::Row;

/// Rows of a row group: a reader that wants one column reads it in pieces of so many.
const GROUP_ROWS: usize = 64 * 1024;
/// Bytes of names and payloads of a row group: what is in memory before it is compressed, and some 100 bytes a row more.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// The end of the year 9999. A board's clock may say anything, but readers reckon in microseconds, and refuse a whole file for one
/// time that these cannot tell.
const LATEST_MS: i64 = 253_402_300_799_999;

/// What a row is. `site` and `day` stand in the object's name, where readers look for partitions.
const COLUMNS: &str = "
message record {
  required int32 board (INTEGER(8,false));
  required int32 boot (INTEGER(32,false));
  required int64 nonce (INTEGER(64,false));
  required binary class (STRING);
  required int64 seq (INTEGER(64,false));
  required binary kind (STRING);
  required binary publisher (STRING);
  required int32 key_kind (INTEGER(8,false));
  required fixed_len_byte_array(16) key;
  required int64 taken (TIMESTAMP(MILLIS,true));
  required int64 received (TIMESTAMP(MILLIS,true));
  required binary topic (STRING);
  required binary payload;
}";

/// A file that is being written, into memory. The same rows make the same bytes.
pub(super) struct Writer {
    file: SerializedFileWriter<Vec<u8>>,
    group: Group,
    rows: u64,
}

/// Rows that gather for a row group, by column.
#[derive(Default)]
struct Group {
    boards: Vec<i32>,
    boots: Vec<i32>,
    nonces: Vec<i64>,
    classes: Vec<ByteArray>,
    seqs: Vec<i64>,
    kinds: Vec<ByteArray>,
    publishers: Vec<ByteArray>,
    key_kinds: Vec<i32>,
    keys: Vec<FixedLenByteArray>,
    taken: Vec<i64>,
    received: Vec<i64>,
    topics: Vec<ByteArray>,
    payloads: Vec<ByteArray>,
    /// Names, each once.
    names: HashMap<String, ByteArray>,
    bytes: usize,
}

impl Writer {
    pub(super) fn new(part: &Part) -> Result<Self, ParquetError> {
        let about = |key: &str, value: String| KeyValue::new(format!("roadstead.{key}"), value);
        let properties = WriterProperties::builder()
            .set_compression(Compression::LZ4_RAW)
            // What a payload begins with finds nothing.
            .set_column_statistics_enabled(ColumnPath::from("payload"), EnabledStatistics::None)
            .set_key_value_metadata(Some(vec![
                about("columns", "1".to_owned()),
                about("site", part.site.to_string()),
                about("part", part.id.to_string()),
            ]))
            .build();
        let columns = Arc::new(parse_message_type(COLUMNS)?);
        let file = SerializedFileWriter::new(Vec::new(), columns, Arc::new(properties))?;
        Ok(Self { file, group: Group::default(), rows: 0 })
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &Row<'_>, received_ms: i64) -> Result<(), ParquetError> {
        self.group.add(row, received_ms);
        self.rows += 1;
        if self.group.seqs.len() >= GROUP_ROWS || self.group.bytes >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let group = std::mem::take(&mut self.group);
        if group.seqs.is_empty() {
            return Ok(());
        }
        group.write(self.file.next_row_group()?)
    }

    /// The file's bytes, and how many rows it has.
    pub(super) fn finish(mut self) -> Result<(Bytes, u64), ParquetError> {
        self.flush()?;
        Ok((self.file.into_inner()?.into(), self.rows))
    }
}

impl Group {
    fn add(&mut self, row: &Row<'_>, received_ms: i64) {
        let origin = row.stream.origin;
        self.boards.push(i32::from(origin.board.get()));
        self.boots.push(origin.epoch.boot.cast_signed());
        self.nonces.push(origin.epoch.nonce.cast_signed());
        self.seqs.push(row.seq.cast_signed());
        self.key_kinds.push(i32::from(row.key.kind));
        self.keys.push(ByteArray::from(row.key.bytes.to_vec()).into());
        self.taken.push(row.taken_ms.min(LATEST_MS));
        self.received.push(received_ms.min(LATEST_MS));
        self.payloads.push(ByteArray::from(row.payload.to_vec()));
        self.bytes += row.payload.len() + row.publisher.len() + row.topic.len();
        let class = self.name(row.stream.class.as_str());
        self.classes.push(class);
        let kind = self.name(match row.kind {
            Kind::Reading => "reading",
            Kind::Gap => "gap",
        });
        self.kinds.push(kind);
        let publisher = self.name(row.publisher);
        self.publishers.push(publisher);
        let topic = self.name(row.topic);
        self.topics.push(topic);
    }

    fn name(&mut self, name: &str) -> ByteArray {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let new = ByteArray::from(name);
        self.names.insert(name.to_owned(), new.clone());
        new
    }

    /// Writes the columns, in the order of [`COLUMNS`].
    fn write(self, mut to: SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<(), ParquetError> {
        column::<Int32Type>(&mut to, &self.boards)?;
        column::<Int32Type>(&mut to, &self.boots)?;
        column::<Int64Type>(&mut to, &self.nonces)?;
        column::<ByteArrayType>(&mut to, &self.classes)?;
        column::<Int64Type>(&mut to, &self.seqs)?;
        column::<ByteArrayType>(&mut to, &self.kinds)?;
        column::<ByteArrayType>(&mut to, &self.publishers)?;
        column::<Int32Type>(&mut to, &self.key_kinds)?;
        column::<FixedLenByteArrayType>(&mut to, &self.keys)?;
        column::<Int64Type>(&mut to, &self.taken)?;
        column::<Int64Type>(&mut to, &self.received)?;
        column::<ByteArrayType>(&mut to, &self.topics)?;
        column::<ByteArrayType>(&mut to, &self.payloads)?;
        to.close()?;
        Ok(())
    }
}

fn column<T: DataType>(group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, values: &[T::T]) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("there are fewer columns than were declared".to_owned()));
    };
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

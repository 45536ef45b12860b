//! Blocks as figures: a table for people, JSON for programs. Measures nothing.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::bench::figures::hundredth;

/// One shape in blocks of one size by one codec.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Line {
    shape: &'static str,
    codec: &'static str,
    block_records_max: u32,
    block_records: f64,
    postcard_bytes_per_record: f64,
    packed_bytes_per_record: f64,
    ratio: f64,
    pack_ns_per_record: f64,
    unpack_ns_per_record: f64,
}

impl Line {
    /// Shape, most records of a block, whether in columns; records of a block on the average; bytes and times a record.
    pub(super) fn new(
        (shape, block_records_max, in_columns): (&'static str, u32, bool),
        block_records: f64,
        [raw, packed]: [f64; 2],
        [pack, unpack]: [f64; 2],
    ) -> Self {
        Self {
            shape,
            codec: if in_columns { "columns" } else { "lz4" },
            block_records_max,
            block_records: hundredth(block_records),
            postcard_bytes_per_record: hundredth(raw),
            packed_bytes_per_record: hundredth(packed),
            ratio: hundredth(raw / packed),
            pack_ns_per_record: pack.round(),
            unpack_ns_per_record: unpack.round(),
        }
    }

    /// How many times smaller than postcard.
    #[cfg(test)]
    pub(super) const fn ratio(&self) -> f64 {
        self.ratio
    }
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) seed: u64,
    pub(super) runs: u32,
    pub(super) lines: Vec<Line>,
}

impl Figures {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "records",
            "in a block",
            "codec",
            "postcard",
            "packed",
            "ratio",
            "pack",
            "unpack",
        ]);
        for line in &self.lines {
            table.add_row([
                line.shape.to_owned(),
                format!("{:.0}", line.block_records),
                line.codec.to_owned(),
                format!("{:.1} B", line.postcard_bytes_per_record),
                format!("{:.1} B", line.packed_bytes_per_record),
                format!("{:.1}", line.ratio),
                format!("{:.0} ns", line.pack_ns_per_record),
                format!("{:.0} ns", line.unpack_ns_per_record),
            ]);
        }
        for column in table.column_iter_mut().enumerate().filter(|(nth, _)| ![0, 2].contains(nth)) {
            column.1.set_cell_alignment(CellAlignment::Right);
        }
        format!("{table}\n\nBytes and times are those of one record; times are the best of {} runs.\n", self.runs)
    }
}

//! `roadstead bench blocks`: traffic records into sealed blocks and back, by each codec. One thread, no disk, no network.

mod figures;
mod traffic;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use shared::block::{pack_for, unpack};
use shared::ids::{BoardId, Class, Epoch, Origin, Stream};
use shared::limits::RUN_BYTES_MAX;
use shared::wire::uplink::{Block, Reads};

use self::figures::{Figures, Line};
use self::traffic::{Shape, Traffic};
use crate::bench::arguments::Blocks;
use crate::bench::figures::write_json;
use crate::failure::Failure;

/// Records of a measurement at least, over as many blocks as that takes.
const RECORDS: u32 = 8192;

/// Packs, unpacks and tells.
pub(super) fn measure(asked: &Blocks) -> Result<ExitCode, Failure> {
    let mut lines = Vec::new();
    for shape in Shape::ALL {
        for records in &asked.records {
            let blocks = gathered(shape, asked.seed, *records);
            for reads in [Reads::Lz4, Reads::Columns] {
                lines.push(line(shape, *records, reads, &blocks, asked.runs)?);
            }
        }
    }
    let figures = Figures { seed: asked.seed, runs: asked.runs, lines };
    print!("{}", figures.text());
    if let Some(path) = &asked.json {
        write_json(path, &figures)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Encoded records and how many they are, as a board gathers them: `records`, or as many as a block may hold bytes of.
fn gathered(shape: Shape, seed: u64, records: u32) -> Vec<(Vec<u8>, u32)> {
    let mut traffic = Traffic::new(shape, seed);
    let (mut blocks, mut count) = (Vec::new(), 0);
    let (mut raw, mut held) = (Vec::new(), 0);
    while count < RECORDS {
        let record = traffic.encoded(1);
        if held == records || raw.len() + record.len() > RUN_BYTES_MAX {
            blocks.push((std::mem::take(&mut raw), held));
            count += std::mem::take(&mut held);
        }
        raw.extend(record);
        held += 1;
    }
    blocks
}

fn line(shape: Shape, most: u32, reads: Reads, blocks: &[(Vec<u8>, u32)], runs: u32) -> Result<Line, Failure> {
    let origin = Origin { board: BoardId::FIRST, epoch: Epoch { boot: 1, nonce: 1 } };
    let stream = Stream { origin, class: Class::Event };
    let (mut packs, mut unpacks, mut packed) = (Duration::MAX, Duration::MAX, Vec::new());
    for _ in 0..runs {
        let began = Instant::now();
        packed = blocks
            .iter()
            .map(|(raw, count)| pack_for(reads, stream, 1, *count, raw))
            .collect::<Vec<Block>>();
        packs = packs.min(began.elapsed());
        let began = Instant::now();
        let back: Vec<_> = packed.iter().map(unpack).collect();
        unpacks = unpacks.min(began.elapsed());
        let is_same = back.iter().zip(blocks).all(|(back, (raw, _))| back.as_ref() == Ok(raw));
        if !is_same {
            return Err(Failure::new(format!("a block of {} records does not unpack to them", shape.name())));
        }
    }
    let records: u32 = blocks.iter().map(|(_, count)| count).sum();
    let each = |bytes: usize| bytes as f64 / f64::from(records);
    let nanos = |took: Duration| took.as_nanos() as f64 / f64::from(records);
    Ok(Line::new(
        (shape.name(), most, reads == Reads::Columns),
        f64::from(records) / blocks.len() as f64,
        [blocks.iter().map(|(raw, _)| raw.len()).sum(), packed.iter().map(|block| block.body.len()).sum()].map(each),
        [packs, unpacks].map(nanos),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures that are promised of blocks, for every shape that is traffic: a third of postcard at 256 records, a quarter at
    /// as many as a block holds. What is noise does not become larger.
    #[test]
    fn traffic_records_are_a_third_of_their_encoding_and_a_quarter_in_full_blocks() {
        for (most, least) in [(256, 3.0), (2048, 4.0)] {
            for shape in Shape::ALL {
                let blocks = gathered(shape, 7, most);
                let line = line(shape, most, Reads::Columns, &blocks, 1).unwrap();
                let least = if shape == Shape::Noise { 1.0 } else { least };
                assert!(line.ratio() >= least, "{} {most}: {}", shape.name(), line.ratio());
            }
        }
    }
}

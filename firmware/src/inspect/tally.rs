//! What a journal holds, counted: by stream and by class, against the bytes that it takes on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde::Serialize;
use shared::ids::{Class, SegmentId, Stream};
use shared::journal::format::{Found, decode};
use shared::limits::{INSPECTED_SPANS_MAX, STREAMS_MAX};
use shared::ranges::RangeSet;
use shared::record::{Gap, GapReason, Reading};
use shared::wire::peer::Run;

use super::walk::{Block, Piece, Walked};
use super::{InspectError, JournalDir, State, StreamName, gap_of};
use crate::keys::Keys;

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tally {
    /// The state file.
    pub state: State,
    /// Whether a process has the directory, as far as can be seen.
    pub in_use: bool,
    /// Segment files.
    pub segments: u64,
    /// Of these, files without a block: made ahead, or freed and not used again yet.
    pub empty_segments: u64,
    /// Segments that went away while they were looked at; not counted.
    pub gone: u64,
    /// Places that hold no whole block although one stood there; `verify` tells more.
    pub holes: u64,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Bytes up to the end of each file's last block.
    pub used_bytes: u64,
    /// How much of the files is used: 0 to 1.
    pub fill: f64,
    /// Whole blocks.
    pub blocks: u64,
    /// Of these, encrypted ones that were not opened: their records are in no line below.
    pub sealed_blocks: u64,
    /// Of these, such whose payload holds no records although its checksum holds.
    pub unread_blocks: u64,
    /// Bytes of the blocks' payloads, before padding.
    pub payload_bytes: u64,
    /// Bytes of records, as they are encoded.
    pub record_bytes: u64,
    /// Bytes that blocks take for each byte of records; `None` where there are none.
    pub used_per_record_byte: Option<f64>,
    /// By class, own and copies.
    pub classes: Vec<ClassLine>,
    /// By stream.
    pub streams: Vec<StreamLine>,
    /// Streams beyond those listed.
    pub unlisted: u64,
}

/// The records of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassLine {
    /// Which.
    pub class: &'static str,
    /// Streams of it.
    pub streams: u64,
    /// What they hold.
    #[serde(flatten)]
    pub counts: Counts,
}

/// The records of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamLine {
    /// Which.
    #[serde(flatten)]
    pub stream: StreamName,
    /// Whether it is of this board, in whatever life; else copies.
    pub own: bool,
    /// Lowest sequence held.
    pub first: u64,
    /// Highest sequence held.
    pub last: u64,
    /// Disjoint ranges held.
    pub ranges: u64,
    /// What it holds.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What is held of a stream or class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records, each once.
    pub records: u64,
    /// Records as they were written: one that stands in two blocks counts twice.
    pub written: u64,
    /// Their bytes, likewise.
    pub bytes: u64,
    /// Blocks with any of them; of a class: of each stream of it.
    pub blocks: u64,
    /// Segments with any of them; of a class: of each stream of it.
    pub segments: u64,
    /// Gap records among them.
    pub gap_records: u64,
    /// Records of this stream or class that gap records here declare shed because the journal was full.
    pub shed: u64,
    /// The same for those that no copy could be read of.
    pub lost: u64,
}

impl Counts {
    const fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.written += other.written;
        self.bytes += other.bytes;
        self.blocks += other.blocks;
        self.segments += other.segments;
        self.gap_records += other.gap_records;
        self.shed += other.shed;
        self.lost += other.lost;
    }
}

/// Counts all of `directory`; encrypted blocks as far as `keys` open them.
pub fn tally(directory: &JournalDir, mut keys: Option<&mut Keys>) -> Result<Tally, InspectError> {
    let mut sum = Sum::default();
    for segment in directory.segments()? {
        let mut part = Sum::default();
        let walked = directory.walk(segment, |piece| {
            match piece {
                Piece::Block(block) => part.block(segment, block, keys.as_deref_mut()),
                Piece::Hole(_) => part.holes += 1,
            }
            ControlFlow::Continue(())
        })?;
        match walked {
            Walked::Whole { bytes, end, .. } => sum.take_in(part, bytes, end),
            Walked::Gone | Walked::Stopped => sum.gone += 1,
        }
    }
    Ok(sum.finish(directory.state()?, directory.is_in_use()))
}

#[derive(Debug, Default)]
struct Held {
    ranges: RangeSet,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Sum {
    segments: u64,
    empty_segments: u64,
    gone: u64,
    holes: u64,
    file_bytes: u64,
    used_bytes: u64,
    blocks: u64,
    sealed_blocks: u64,
    unread_blocks: u64,
    payload_bytes: u64,
    streams: BTreeMap<Stream, Held>,
    unlisted: BTreeSet<Stream>,
}

impl Sum {
    fn block(&mut self, segment: SegmentId, block: Block<'_>, keys: Option<&mut Keys>) {
        self.blocks += 1;
        if let Some(keys) = keys {
            keys.open(segment, block.header.place.offset, block.bytes);
        }
        self.payload_bytes += block.header.payload_bytes as u64;
        match decode(segment, block.header.place.offset, block.bytes) {
            Found::Block { runs, .. } => self.runs(&runs),
            Found::Sealed(_) => self.sealed_blocks += 1,
            Found::Broken(_) | Found::Nothing => self.unread_blocks += 1,
        }
    }

    fn runs(&mut self, runs: &[Run]) {
        let mut met = BTreeSet::new();
        for run in runs {
            let gaps = gaps(run);
            let is_new = met.insert(run.stream);
            if let Some(held) = self.held(run.stream) {
                held.ranges.insert(run.range().expect("decode checks the range"));
                held.counts.written += u64::from(run.count);
                held.counts.bytes += run.bytes.len() as u64;
                held.counts.blocks += u64::from(is_new);
                held.counts.gap_records += gaps.len() as u64;
            }
            for gap in gaps {
                if let Some(held) = self.held(gap.stream) {
                    match gap.reason {
                        GapReason::JournalFull => held.counts.shed += gap.range.count(),
                        GapReason::Damaged => held.counts.lost += gap.range.count(),
                    }
                }
            }
        }
    }

    fn held(&mut self, stream: Stream) -> Option<&mut Held> {
        if self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(&stream) {
            if self.unlisted.len() < STREAMS_MAX {
                self.unlisted.insert(stream);
            }
            return None;
        }
        Some(self.streams.entry(stream).or_default())
    }

    fn take_in(&mut self, part: Self, bytes: u64, end: u32) {
        self.segments += 1;
        self.empty_segments += u64::from(part.blocks == 0 && part.holes == 0);
        self.holes += part.holes;
        self.file_bytes += bytes;
        self.used_bytes += u64::from(end);
        self.blocks += part.blocks;
        self.sealed_blocks += part.sealed_blocks;
        self.unread_blocks += part.unread_blocks;
        self.payload_bytes += part.payload_bytes;
        self.unlisted.extend(part.unlisted);
        for (stream, mut found) in part.streams {
            found.counts.segments = u64::from(!found.ranges.is_empty());
            if let Some(held) = self.held(stream) {
                held.ranges.extend(&found.ranges);
                held.ranges.truncate(INSPECTED_SPANS_MAX);
                held.counts.add(&found.counts);
            }
        }
    }

    fn finish(mut self, state: State, in_use: bool) -> Tally {
        for held in self.streams.values_mut() {
            held.counts.records = held.ranges.count();
        }
        let record_bytes = self.streams.values().map(|held| held.counts.bytes).sum();
        let own = state.owner.as_ref().map(|owner| owner.board);
        let line = |(stream, held): (&Stream, &Held)| StreamLine {
            stream: stream.into(),
            own: own == Some(stream.origin.board.get()),
            first: held.ranges.ranges().first().map_or(0, |range| range.first),
            last: held.ranges.last().unwrap_or(0),
            ranges: held.ranges.ranges().len() as u64,
            counts: held.counts,
        };
        let ratio = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        Tally {
            in_use,
            segments: self.segments,
            empty_segments: self.empty_segments,
            gone: self.gone,
            holes: self.holes,
            file_bytes: self.file_bytes,
            used_bytes: self.used_bytes,
            fill: ratio(self.used_bytes, self.file_bytes).unwrap_or(0.0),
            blocks: self.blocks,
            sealed_blocks: self.sealed_blocks,
            unread_blocks: self.unread_blocks,
            payload_bytes: self.payload_bytes,
            record_bytes,
            used_per_record_byte: ratio(self.used_bytes, record_bytes),
            classes: Class::ALL.into_iter().map(|class| self.class(class)).collect(),
            streams: self.streams.iter().map(line).collect(),
            unlisted: self.unlisted.len() as u64,
            state,
        }
    }

    fn class(&self, class: Class) -> ClassLine {
        let mut line = ClassLine { class: class.as_str(), ..ClassLine::default() };
        for (_, held) in self.streams.iter().filter(|(stream, _)| stream.class == class) {
            line.streams += 1;
            line.counts.add(&held.counts);
        }
        line
    }
}

/// The gaps that a run's gap records declare.
fn gaps(run: &Run) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut rest = &run.bytes[..];
    while let Ok((reading, after)) = Reading::decode(rest) {
        gaps.extend(gap_of(&reading));
        if after.is_empty() || after.len() == rest.len() {
            break;
        }
        rest = after;
    }
    gaps
}

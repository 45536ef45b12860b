//! What the fuzz targets do with bytes: read them as they are, and as a script that writes something whole and then
//! damages it, because no search guesses a checksum. Whatever comes, nothing panics, and nothing is read that was not
//! written. The suite of the simulation runs the same functions over the committed corpora on every push.

mod board;
mod messages;

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use shared::block;
use shared::config::JournalConfig;
use shared::ids::{BoardId, Class, Epoch, Origin, SegmentId, Stream};
use shared::journal::Journal;
use shared::journal::footer;
use shared::journal::format::{Found, Place, decode, encode};
use shared::journal::recover::{Recovered, Recovery};
use shared::limits::{BLOCK_RAW_BYTES_MAX, PAGE_BYTES};
use shared::ranges::RangeSet;
use shared::record::Reading;
use shared::wire::peer::Run;
use shared::wire::uplink::{Block, Codec};

pub use self::messages::{control, duty, election, from_region, heartbeat, obituary, peer, to_region};

/// Blocks that one script writes.
const BLOCKS_MAX: usize = 12;
/// Bytes of a record that a script writes.
const RECORD_MOST: usize = 6_000;

/// A script: numbers taken from the front of bytes; zeros once they are used up.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn stream(&mut self) -> Stream {
        let board = BoardId::new(self.byte() % 64 + 1).expect("1 to 64");
        let epoch = Epoch { boot: u32::from(self.byte()), nonce: u64::from(self.byte()) };
        let class = [Class::Alarm, Class::Event, Class::Bulk][usize::from(self.byte() % 3)];
        Stream { origin: Origin { board, epoch }, class }
    }

    /// A run of bytes that say their stream's place in the script, so that no two are alike.
    fn run(&mut self, nth: usize) -> Run {
        let (stream, first, count) = (self.stream(), u64::from(self.number()) + 1, u32::from(self.byte() % 8) + 1);
        let length = self.number() as usize % RECORD_MOST;
        let fill = u8::try_from(nth).unwrap_or(0);
        Run::new(stream, first, count, Bytes::from(vec![fill; length]))
    }

    fn runs(&mut self, nth: usize) -> Vec<Run> {
        (0..self.byte() % 3 + 1).map(|_| self.run(nth)).collect()
    }

    /// Changes some bytes of `bytes`: bits, pages of zeros, pages copied to other places.
    fn damage(&mut self, bytes: &mut [u8]) {
        let pages = bytes.len() / PAGE_BYTES;
        while !self.is_over() && !bytes.is_empty() {
            let at = self.number() as usize % bytes.len();
            match self.byte() % 4 {
                0 | 1 => bytes[at] ^= self.byte(),
                2 => bytes[at / PAGE_BYTES * PAGE_BYTES..]
                    .iter_mut()
                    .take(PAGE_BYTES)
                    .for_each(|byte| *byte = 0),
                _ if pages > 0 => {
                    let (from, to) = (self.number() as usize % pages, at / PAGE_BYTES % pages);
                    bytes.copy_within(from * PAGE_BYTES..(from + 1) * PAGE_BYTES, to * PAGE_BYTES);
                }
                _ => {}
            }
        }
    }
}

fn place(script: &mut Script<'_>) -> Place {
    Place {
        segment: SegmentId(u64::from(script.byte())),
        offset: u32::from(script.byte()) * PAGE_BYTES as u32,
        epoch: Epoch { boot: u32::from(script.byte()), nonce: u64::from(script.byte()) },
        number: u64::from(script.byte()),
        known: u64::from(script.byte()),
        previous: script.number(),
    }
}

/// A commit block: as it is, and one that was written and then damaged.
pub fn commit_block(data: &[u8]) {
    let mut script = Script(data);
    let place = place(&mut script);
    if let Found::Block { runs, header } = decode(place.segment, place.offset, data) {
        assert!(header.block_bytes() <= data.len() + PAGE_BYTES, "a block ends where its bytes do");
        assert!(runs.iter().all(Run::is_intact), "a damaged run is read");
    }
    let runs = script.runs(1);
    let (mut bytes, _) = encode(&place, &runs);
    assert!(matches!(decode(place.segment, place.offset, &bytes), Found::Block { runs: read, .. } if read == runs));
    script.damage(&mut bytes);
    if let Found::Block { runs: read, .. } = decode(place.segment, place.offset, &bytes) {
        assert_eq!(read, runs, "what is read was not written");
    }
}

/// Segments that a script writes, each with what is in it.
fn written(script: &mut Script<'_>, segment: SegmentId) -> (Vec<u8>, BTreeMap<Stream, RangeSet>) {
    let (mut bytes, mut holds) = (Vec::new(), BTreeMap::<Stream, RangeSet>::new());
    let epoch = Epoch { boot: u32::from(script.byte()), nonce: u64::from(script.byte()) };
    let mut previous = 0;
    for nth in 0..usize::from(script.byte()) % BLOCKS_MAX {
        let offset = u32::try_from(bytes.len()).expect("a script is short");
        let runs = script.runs(nth);
        for run in &runs {
            let range = run.range().expect("a script's numbers are small");
            holds.entry(run.stream).or_default().insert(range);
        }
        let number = nth as u64;
        let (block, checksum) = encode(&Place { segment, offset, epoch, number, known: number, previous }, &runs);
        previous = checksum;
        bytes.extend_from_slice(&block);
    }
    bytes.resize(bytes.len() + usize::from(script.byte() % 3) * PAGE_BYTES, 0);
    (bytes, holds)
}

fn recover(segments: &[(SegmentId, Vec<u8>)]) -> Recovered {
    let mut recovery = Recovery::new();
    for (segment, bytes) in segments {
        let length = u32::try_from(bytes.len()).expect("a script is short");
        if let Some(at) = footer::footer_at(length)
            && recovery.handle_footer(*segment, length, &bytes[at as usize..])
        {
            continue;
        }
        let scanned = recovery.handle_segment(*segment, length, |offset, window: &mut [u8]| {
            window.copy_from_slice(&bytes[offset as usize..offset as usize + window.len()]);
            Ok::<(), Infallible>(())
        });
        scanned.expect("memory can be read");
    }
    recovery.finish()
}

/// The records of a segment, by stream.
fn ranges(found: &Recovered, segment: SegmentId) -> BTreeMap<Stream, RangeSet> {
    let streams = &found.segments[&segment].streams;
    streams
        .iter()
        .map(|(stream, holding)| (*stream, holding.ranges.clone()))
        .collect()
}

/// One segment: as it is, and one that was written and then damaged.
pub fn segment(data: &[u8]) {
    recover(&[(SegmentId(1), data.to_vec())]);
    let mut script = Script(data);
    let (mut bytes, holds) = written(&mut script, SegmentId(1));
    let whole = recover(&[(SegmentId(1), bytes.clone())]);
    assert_eq!(ranges(&whole, SegmentId(1)), holds, "what was written is found");
    script.damage(&mut bytes);
    let found = recover(&[(SegmentId(1), bytes)]);
    for (stream, ranges) in ranges(&found, SegmentId(1)) {
        let written = holds.get(&stream).cloned().unwrap_or_default();
        assert!(written.contains_all(&ranges), "{stream}: {ranges:?} is found, {written:?} was written");
    }
}

/// A whole journal, damaged and with segments that changed places, and a new life over what was found.
pub fn recovery(data: &[u8]) {
    let mut script = Script(data);
    let count = u64::from(script.byte() % 4) + 1;
    let mut holds = BTreeMap::<Stream, RangeSet>::new();
    let mut segments = Vec::new();
    for number in 1..=count {
        let (bytes, more) = written(&mut script, SegmentId(number));
        for (stream, ranges) in &more {
            holds.entry(*stream).or_default().extend(ranges);
        }
        segments.push((SegmentId(number), bytes));
    }
    if script.byte() % 4 == 0 {
        let (one, other) = (script.byte() as usize % segments.len(), script.byte() as usize % segments.len());
        let bytes = segments[one].1.clone();
        segments[one].1 = std::mem::replace(&mut segments[other].1, bytes);
    }
    let which = script.byte() as usize % segments.len();
    script.damage(&mut segments[which].1);
    let found = recover(&segments);
    let config = JournalConfig::sized(64 * PAGE_BYTES as u32, 8);
    let journal = Journal::new(config, Epoch { boot: 300, nonce: 1 }, found);
    for (stream, ranges) in journal.held() {
        let written = holds.get(stream).cloned().unwrap_or_default();
        assert!(written.contains_all(ranges), "{stream}: {ranges:?} is held, {written:?} was written");
    }
}

/// A run and the records in it.
pub fn run(data: &[u8]) {
    if let Ok(run) = postcard::from_bytes::<Run>(data) {
        let _ = (run.range(), run.is_intact());
        let _ = Reading::decode_all(&run.bytes, run.count);
    }
    let count = data.first().map_or(0, |byte| u32::from(*byte));
    if let Ok(readings) = Reading::decode_all(data, count) {
        let mut again = Vec::new();
        readings.iter().for_each(|reading| reading.encode(&mut again));
        assert_eq!(Reading::decode_all(&again, count), Ok(readings), "what is read is written the same");
    }
}

/// A sealed block: as it is, with its checksum made right, and one that was packed.
pub fn block(data: &[u8]) {
    if let Ok(read) = postcard::from_bytes::<Block>(data) {
        let _ = block::unpack(&read);
        let Block { stream, first, count, codec, raw_len, body, .. } = read;
        let right = Block::new(stream, first, count, codec, raw_len, body);
        if let Ok(raw) = block::unpack(&right) {
            let _ = Reading::decode_all(&raw, count);
        }
    }
    let mut script = Script(data);
    let (stream, first, count) = (script.stream(), u64::from(script.number()) + 1, u32::from(script.byte()) + 1);
    let packed = block::pack(stream, first, count, script.0);
    assert_eq!(block::unpack(&packed).as_deref(), Ok(script.0), "what is packed is unpacked");
    columns(stream, first, count, script);
}

/// Bytes as a body in columns, as many records and bytes as they say first; and what comes of it packed again.
fn columns(stream: Stream, first: u64, count: u32, mut script: Script<'_>) {
    let raw_len = script.number() % (block_raw_most() + 1);
    let columns = Block::new(stream, first, count, Codec::Columns, raw_len, Bytes::copy_from_slice(script.0));
    if let Ok(raw) = block::unpack(&columns) {
        assert_eq!(raw.len(), raw_len as usize, "what is unpacked is as long as it says");
        let again = block::pack(stream, first, count, &raw);
        assert_eq!(block::unpack(&again), Ok(raw), "what is packed is unpacked");
    }
}

fn block_raw_most() -> u32 {
    u32::try_from(BLOCK_RAW_BYTES_MAX).unwrap_or(u32::MAX)
}

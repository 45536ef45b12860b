//! A walk over one segment's blocks, in bounded memory, beside a board that may be writing it: what looks torn or damaged
//! is read again before it is called so. Judges by checksums alone, so that no key is needed.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use shared::ids::SegmentId;
use shared::journal::footer::{self, footer_at};
use shared::journal::format::{Examined, HEADER_BYTES, Header, examine, padded};
use shared::journal::segment::Segment;
use shared::limits::{COMMIT_BYTES_MAX, FOOTER_BYTES, PAGE_BYTES};

use super::{InspectError, JournalDir};

/// The longest block.
const BLOCK_BYTES_MAX: usize = padded(HEADER_BYTES + COMMIT_BYTES_MAX + PAGE_BYTES);
/// Read at once.
const WINDOW_BYTES: usize = 2 * BLOCK_BYTES_MAX;
/// A block being written is given so long to be whole, where a board runs on the directory.
const SETTLE: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100)];

/// What stands in a segment, in order.
#[derive(Debug)]
pub enum Piece<'w> {
    /// A whole block: both checksums hold.
    Block(Block<'w>),
    /// Pages without a whole block, before a block.
    Hole(Hole),
}

/// A whole block.
#[derive(Debug)]
pub struct Block<'w> {
    /// What its header says.
    pub header: Header,
    /// All of it, up to the next block.
    pub bytes: &'w mut [u8],
}

/// Pages without a whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Its first byte in the segment.
    pub start: u32,
    /// The byte after its last.
    pub end: u32,
    /// What stands at its start.
    pub fault: Fault,
}

/// Why there is no whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A header holds, and its payload does not.
    Payload,
    /// No header holds.
    Header,
    /// The system cannot read it.
    Unreadable,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// The segment was recycled or deleted meanwhile: what was seen of it does not count.
    Gone,
    /// The visitor had enough.
    Stopped,
    /// To the end.
    Whole {
        /// Length of the file.
        bytes: u64,
        /// The byte after the last whole block.
        end: u32,
        /// A block's header without its payload, or pages that cannot be read, behind the last whole block.
        torn: Option<Hole>,
    },
}

impl JournalDir {
    fn segment_path(&self, segment: SegmentId) -> PathBuf {
        self.path.join(format!("{:016x}.seg", segment.0))
    }

    /// What the footer of `segment` says; `None` where it has none that holds, or one that says what stood there before damage.
    pub fn footer(&self, segment: SegmentId) -> Option<Segment> {
        let file = File::open(self.segment_path(segment)).ok()?;
        let length = u32::try_from(file.metadata().ok()?.len()).ok()?;
        let mut bytes = vec![0; FOOTER_BYTES as usize];
        file.read_exact_at(&mut bytes, footer_at(length)?.into()).ok()?;
        footer::decode(segment, length, &bytes).filter(|footer| !footer.is_damaged)
    }

    /// Shows each piece of `segment` to `visit`, in order.
    pub fn walk(
        &self,
        segment: SegmentId,
        mut visit: impl FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<Walked, InspectError> {
        let path = self.segment_path(segment);
        let opened = match File::open(&path) {
            Ok(file) => file.metadata().map(|about| (file, about)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Walked::Gone),
            Err(error) => Err(error),
        };
        let (file, about) = opened.map_err(InspectError::system("open", &path))?;
        // A segment is shorter than 4 GiB; what is beyond is nothing of ours.
        let length = u32::try_from(about.len()).unwrap_or(u32::MAX);
        let mut window = Window { file, length, start: 0, bytes: Vec::new() };
        let patience = if self.is_in_use() { &SETTLE[..] } else { &SETTLE[..1] };
        let (mut at, mut end, mut hole) = (0_u32, 0_u32, None::<Hole>);
        let page = PAGE_BYTES as u32;
        loop {
            if u64::from(at) + u64::from(page) > u64::from(length) {
                // Only where a header stands was anything begun.
                let begun = hole.filter(|hole| hole.fault != Fault::Header);
                match begun.filter(|hole| window.settles(segment, hole.start, patience)) {
                    Some(settled) => (at, hole) = (settled.start, None),
                    None => break,
                }
            }
            let fault = match window.examine(segment, at) {
                Ok(Examined::Whole(header)) => {
                    if let Some(open) = hole.take() {
                        // Blocks are written one after the other: whoever sees this one can see what is before it.
                        if window.settles(segment, open.start, &SETTLE[..1]) {
                            at = open.start;
                            continue;
                        }
                        if visit(Piece::Hole(open)).is_break() {
                            return Ok(Walked::Stopped);
                        }
                        window.fill(at).map_err(InspectError::system("read", &path))?;
                    }
                    let bytes = window.block(at, header.block_bytes());
                    at += u32::try_from(bytes.len()).unwrap_or(page);
                    if visit(Piece::Block(Block { header, bytes })).is_break() {
                        return Ok(Walked::Stopped);
                    }
                    end = at;
                    continue;
                }
                Ok(Examined::Broken(_)) => Fault::Payload,
                Ok(Examined::Nothing) => Fault::Header,
                Err(_) => Fault::Unreadable,
            };
            hole.get_or_insert(Hole { start: at, end: at, fault }).end = at.saturating_add(page);
            at = at.saturating_add(page);
        }
        let stands = fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (about.dev(), about.ino()));
        if !stands {
            return Ok(Walked::Gone);
        }
        let torn = hole.filter(|hole| hole.fault != Fault::Header);
        Ok(Walked::Whole { bytes: about.len(), end, torn })
    }
}

/// A part of the file in memory.
#[derive(Debug)]
struct Window {
    file: File,
    length: u32,
    start: u32,
    bytes: Vec<u8>,
}

impl Window {
    /// What stands at `at`.
    fn examine(&mut self, segment: SegmentId, at: u32) -> io::Result<Examined> {
        let behind = (at - self.start) as usize;
        let has_all = u64::from(self.start) + self.bytes.len() as u64 >= u64::from(self.length);
        if at < self.start || behind + BLOCK_BYTES_MAX > self.bytes.len() && !has_all || behind >= self.bytes.len() {
            self.fill(at)?;
        }
        Ok(examine(segment, at, &self.bytes[(at - self.start) as usize..]))
    }

    /// Reads from `at` on; where not all of it can be read, the page there alone.
    fn fill(&mut self, at: u32) -> io::Result<()> {
        let left = (self.length - at) as usize;
        let read = self.read(at, left.min(WINDOW_BYTES));
        read.or_else(|_| self.read(at, left.min(PAGE_BYTES)))
    }

    fn read(&mut self, at: u32, length: usize) -> io::Result<()> {
        self.start = at;
        self.bytes.clear();
        self.bytes.resize(length, 0);
        let read = self.file.read_exact_at(&mut self.bytes, u64::from(at));
        if read.is_err() {
            self.bytes.clear();
        }
        read
    }

    /// Whether a whole block stands at `at` after all, at one of several looks.
    fn settles(&mut self, segment: SegmentId, at: u32, pauses: &[Duration]) -> bool {
        pauses.iter().any(|pause| {
            std::thread::sleep(*pause);
            let read = self.fill(at);
            read.is_ok() && matches!(examine(segment, at, &self.bytes), Examined::Whole(_))
        })
    }

    fn block(&mut self, at: u32, length: usize) -> &mut [u8] {
        let from = (at - self.start) as usize;
        let to = (from + length).min(self.bytes.len());
        &mut self.bytes[from..to]
    }
}

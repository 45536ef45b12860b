//! Finds what a stopped journal holds: takes segments with a footer at its word, scans the others in order, cuts a torn
//! tail, tells corruption apart from it. Reads no file itself: a window of a scanned segment at a time is handed to it.
//!
//! The rule (notes: etcd and TigerBeetle's tail rules): at the first place that holds no whole block, if a whole block
//! of the same segment follows, or the next segment's first block says that more blocks of its life were durable than
//! are found, what stood here was damaged after it was written, and its records must come from a copy; otherwise it is
//! the torn end of a write that was never acknowledged.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::event::Event;
use crate::ids::{Epoch, SegmentId, Stream};
use crate::journal::footer;
use crate::journal::format::{Found, Header, decode};
use crate::journal::segment::Segment;
use crate::limits::{PAGE_BYTES, READ_BYTES};
use crate::ranges::RangeSet;

/// A look at all segments of a directory, oldest first.
#[derive(Debug, Default)]
pub struct Recovery {
    recovered: Recovered,
    /// What damaged segments held before, by their footers.
    claims: BTreeMap<SegmentId, BTreeMap<Stream, RangeSet>>,
    /// How the segment before ended, while it is open whether anything is missing there.
    tail: Option<Tail>,
}

/// What a stopped journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Each segment with the streams in it and the end of its last whole block.
    pub segments: BTreeMap<SegmentId, Segment>,
    /// Files that were free: they hold nothing, whatever stands in them.
    pub free: Vec<SegmentId>,
    /// Keys of whole blocks that were handed over sealed: their records are there and unknown. A shell that meets any has
    /// not the keys that it needs.
    pub sealed: BTreeSet<u32>,
    /// What stood in damaged places and was not found in any segment, as far as footers say.
    pub lost: BTreeMap<Stream, RangeSet>,
    /// What was found on the way.
    pub events: Vec<Event>,
}

/// How a segment ended.
#[derive(Clone, Copy, Debug)]
struct Tail {
    segment: SegmentId,
    /// End of its last whole block.
    end: u32,
    /// Where a block's header stands without its payload, behind the last whole block.
    torn: Option<u32>,
    /// The life that wrote it, and the number of the block that would have come next.
    next: Option<(Epoch, u64)>,
}

/// A scan of one segment.
#[derive(Debug)]
struct Scan {
    id: SegmentId,
    found: Segment,
    at: u32,
    /// The first place that holds no block, while it is open whether one follows, and whether a header stands there.
    hole: Option<(u32, bool)>,
}

impl Recovery {
    /// Nothing looked at yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The file of `segment` is free: it holds nothing.
    pub fn handle_free(&mut self, segment: SegmentId) {
        self.recovered.free.push(segment);
    }

    /// Takes the next segment at its footer's word: `bytes` is what stands in the last `FOOTER_BYTES` of its file, which has
    /// `file_bytes`. False where no footer holds: the segment is to be scanned. Segments come in rising order.
    pub fn handle_footer(&mut self, segment: SegmentId, file_bytes: u32, bytes: &[u8]) -> bool {
        let Some(found) = footer::decode(segment, file_bytes, bytes) else {
            return false;
        };
        if found.is_damaged {
            let claims = found.streams.into_iter().map(|(stream, holding)| (stream, holding.ranges));
            self.claims.insert(segment, claims.collect());
            return false;
        }
        if let Some(blocks) = found.blocks {
            self.follow(segment, (blocks.epoch, blocks.first), None);
        }
        self.end_segment(segment, found, None);
        true
    }

    /// Scans the next segment, whose file has `file_bytes` bytes. `read` fills the buffer from an offset on, as far as it
    /// is long; at most [`READ_BYTES`] are asked for. Segments come in rising order.
    pub fn handle_segment<E>(
        &mut self,
        segment: SegmentId,
        file_bytes: u32,
        mut read: impl FnMut(u32, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut scan = Scan { id: segment, found: Segment::empty(file_bytes), at: 0, hole: None };
        let mut window = Vec::new();
        while file_bytes.saturating_sub(scan.at) as usize >= PAGE_BYTES {
            let length = (file_bytes - scan.at).min(READ_BYTES);
            window.resize(length as usize, 0);
            read(scan.at, &mut window)?;
            let is_last = scan.at + length == file_bytes;
            self.scan_window(&mut scan, &window, is_last);
        }
        let torn = scan.hole.and_then(|(offset, torn)| torn.then_some(offset));
        self.end_segment(segment, scan.found, torn);
        Ok(())
    }

    /// Goes through `window`, which begins where the scan stands; a block that reaches past it is left to the next one.
    fn scan_window(&mut self, scan: &mut Scan, window: &[u8], is_last: bool) {
        let (start, mut within) = (scan.at, 0);
        while within + PAGE_BYTES <= window.len() {
            scan.at = start + u32::try_from(within).expect("a window is short");
            match decode(scan.id, scan.at, &window[within..]) {
                Found::Block { header, runs } => {
                    for run in runs {
                        let range = run.range().expect("decode checks the range");
                        scan.found.note(&run, range);
                    }
                    self.whole_block(scan, &header);
                    within += header.block_bytes();
                }
                Found::Sealed(header) => {
                    self.recovered.sealed.insert(header.key);
                    self.whole_block(scan, &header);
                    within += header.block_bytes();
                }
                Found::Broken(header) if within > 0 && within + header.block_bytes() > window.len() && !is_last => {
                    return;
                }
                Found::Broken(_) => {
                    scan.found.is_broken = true;
                    scan.hole.get_or_insert((scan.at, true));
                    within += PAGE_BYTES;
                }
                Found::Nothing => {
                    scan.hole.get_or_insert((scan.at, false));
                    within += PAGE_BYTES;
                }
            }
        }
        scan.at = start + u32::try_from(within).expect("a window is short");
    }

    fn whole_block(&mut self, scan: &mut Scan, header: &Header) {
        let hole = scan.hole.take();
        if let Some((offset, _)) = hole {
            scan.found.is_damaged = true;
            self.recovered.events.push(Event::JournalDamaged { segment: scan.id, offset });
        }
        let place = &header.place;
        self.follow(scan.id, (place.epoch, place.known), hole);
        scan.found.note_block(place.epoch, place.number);
        scan.found.end = place.offset + u32::try_from(header.block_bytes()).expect("a block is short");
    }

    /// The first block of `segment` was found, behind `hole` where one stands before it, and says how many blocks of its
    /// life were durable. What the segment before lacks of them was damaged.
    fn follow(&mut self, segment: SegmentId, (epoch, known): (Epoch, u64), hole: Option<(u32, bool)>) {
        let Some(tail) = self.tail.take() else { return };
        let follows = segment.0 == tail.segment.0 + 1;
        let lacks = follows && tail.next.is_some_and(|(of, next)| of == epoch && next < known);
        // Behind a hole the missing block may have stood in that hole.
        if lacks && (tail.torn.is_some() || hole.is_none()) {
            let offset = tail.torn.unwrap_or(tail.end);
            if let Some(before) = self.recovered.segments.get_mut(&tail.segment) {
                before.is_damaged = true;
            }
            self.recovered
                .events
                .push(Event::JournalDamaged { segment: tail.segment, offset });
        } else {
            self.tail = Some(tail);
            self.cut();
        }
    }

    fn end_segment(&mut self, segment: SegmentId, found: Segment, torn: Option<u32>) {
        // Of a segment in which nothing is found it is still known what would have come next.
        let before = self.tail.filter(|tail| tail.segment.0 + 1 == segment.0);
        self.cut();
        let next = found.blocks.map(|blocks| (blocks.epoch, blocks.next));
        let next = next.or(before.and_then(|tail| tail.next));
        self.tail = Some(Tail { segment, end: found.end, torn, next });
        self.recovered.segments.insert(segment, found);
    }

    /// Nothing says that the end of the segment before was durable: it is cut.
    fn cut(&mut self) {
        if let Some(Tail { segment, torn: Some(offset), .. }) = self.tail.take() {
            self.recovered.events.push(Event::TornTail { segment, offset });
        }
    }

    /// What was found.
    pub fn finish(mut self) -> Recovered {
        self.cut();
        for (segment, claims) in core::mem::take(&mut self.claims) {
            self.compare(segment, claims);
        }
        self.recovered
    }

    /// What `segment` held before its damage, against what is found.
    fn compare(&mut self, segment: SegmentId, claims: BTreeMap<Stream, RangeSet>) {
        for (stream, mut lost) in claims {
            let holdings = self.recovered.segments.values().filter_map(|found| found.streams.get(&stream));
            for holding in holdings {
                lost = lost.minus(&holding.ranges);
            }
            if lost.is_empty() {
                continue;
            }
            self.recovered.lost.entry(stream).or_default().extend(&lost);
            if let Some(found) = self.recovered.segments.get_mut(&segment)
                && !core::mem::replace(&mut found.is_damaged, true)
            {
                let is_cut = |event: &Event| matches!(event, Event::TornTail { segment: cut, .. } if *cut == segment);
                self.recovered.events.retain(|event| !is_cut(event));
                self.recovered.events.push(Event::JournalDamaged { segment, offset: found.end });
            }
        }
    }
}

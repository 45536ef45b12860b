//! Verifies what stands on the disk: reads every durable block again, segment by segment, and compares what it finds with
//! what the journal claims to hold there. Decides what is read when; what was lost the journal is told by whoever reads.
//!
//! ```text
//!  rest ──time for a pass──▶ read on ──segment's end──▶ claimed − found = lost ──next segment──▶ read on
//!    ▲                          ▲ a reader met damage: that segment first, at once                  │
//!    └──────────────────────────┴───────────────────last segment────────────────────────────────────┘
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use crate::config::RepairConfig;
use crate::ids::{SegmentId, Stream};
use crate::journal::Journal;
use crate::journal::format::{Found, decode};
use crate::limits::{PAGE_BYTES, SCRUB_READ_BYTES};
use crate::ranges::RangeSet;
use crate::time::{Deadline, Instant};

/// The verification of one board's journal.
#[derive(Debug)]
pub struct Scrub {
    config: RepairConfig,
    pass: Option<Pass>,
    /// The pass goes on at this segment or after it; `None`: between two passes.
    next: Option<SegmentId>,
    /// Segments in which a reader met damage.
    suspects: BTreeSet<SegmentId>,
    rest_until: Instant,
    /// When the last pass began.
    began: Option<Instant>,
    counts: ScrubCounts,
}

/// What was verified since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCounts {
    /// Bytes read and found whole or damaged.
    pub bytes: u64,
    /// Passes over the whole journal.
    pub passes: u64,
    /// Damaged places found.
    pub damaged: u64,
}

/// One segment under verification.
#[derive(Debug)]
struct Pass {
    segment: SegmentId,
    offset: u32,
    end: u32,
    claimed: BTreeMap<Stream, RangeSet>,
    found: BTreeMap<Stream, RangeSet>,
    /// The block at `offset` is longer than a usual read.
    longer: Option<u32>,
    /// What was read last was damaged: what follows belongs to the same place.
    in_damage: bool,
}

/// A piece of the journal to read for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// In which segment.
    pub segment: SegmentId,
    /// From which byte.
    pub offset: u32,
    /// How many bytes.
    pub length: u32,
}

/// What a read has shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Where damage begins.
    pub damaged: Vec<u32>,
    /// The segment was verified to its end: what it claims to hold and does not.
    pub lost: BTreeMap<Stream, RangeSet>,
}

impl Scrub {
    /// The verification of a journal that was opened at `now`. Its first pass is due at once: a start takes footers at their
    /// word.
    pub fn new(config: RepairConfig, now: Instant) -> Self {
        Self {
            config,
            pass: None,
            next: None,
            suspects: BTreeSet::new(),
            rest_until: now,
            began: None,
            counts: ScrubCounts::default(),
        }
    }

    /// A reader met damage in `segment`: what is lost there must be known soon.
    pub fn suspect(&mut self, segment: SegmentId) {
        self.suspects.insert(segment);
    }

    /// Whether what `segment` holds is in doubt.
    pub fn is_suspect(&self, segment: SegmentId) -> bool {
        self.suspects.contains(&segment)
    }

    /// Whether a segment waits that is to be verified before anything else is read.
    pub fn is_urgent(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// What to read next. It is due at [`Scrub::next_deadline`].
    pub fn wants_read(&self, journal: &Journal) -> Option<Read> {
        if let Some(pass) = &self.pass
            && journal.durable_end(pass.segment).is_some()
            && (self.suspects.is_empty() || self.suspects.contains(&pass.segment))
        {
            let length = pass.longer.unwrap_or(SCRUB_READ_BYTES).min(pass.end - pass.offset);
            return Some(Read { segment: pass.segment, offset: pass.offset, length });
        }
        let suspect = self
            .suspects
            .iter()
            .find_map(|id| journal.durable_from(*id).filter(|(at, _)| at == id));
        let next = || {
            let from = self.next.unwrap_or(SegmentId(0));
            (self.config.scrub_bytes_per_s > 0)
                .then(|| journal.durable_from(from))
                .flatten()
        };
        let (segment, end) = suspect.or_else(next)?;
        Some(Read { segment, offset: 0, length: SCRUB_READ_BYTES.min(end) })
    }

    /// When the next read is due. Call only where [`Scrub::wants_read`] has one.
    pub fn next_deadline(&self) -> Deadline {
        if self.is_urgent() {
            return Deadline { at: Instant::ZERO, why: "a damaged segment to be verified" };
        }
        let rests = self.pass.is_none() && self.next.is_none();
        let again = self.began.filter(|_| rests).map(|began| began + self.config.scrub_every);
        Deadline {
            at: again.unwrap_or(self.rest_until).max(self.rest_until),
            why: "the journal to be verified",
        }
    }

    /// `read` is being done.
    pub fn handle_reading(&mut self, read: &Read, journal: &Journal, now: Instant) {
        if self
            .pass
            .as_ref()
            .is_some_and(|pass| pass.segment == read.segment && pass.offset == read.offset)
        {
            return;
        }
        if !self.suspects.contains(&read.segment) {
            if self.next.is_none() {
                self.began = Some(now);
            }
            self.next = Some(read.segment);
        }
        self.pass = Some(Pass {
            segment: read.segment,
            offset: 0,
            end: journal.durable_end(read.segment).unwrap_or(0),
            claimed: journal.claimed(read.segment),
            found: BTreeMap::new(),
            longer: None,
            in_damage: false,
        });
    }

    /// The bytes that `read` asked for.
    pub fn handle_read(&mut self, read: &Read, bytes: &[u8], journal: &Journal, now: Instant) -> Verified {
        let mut verified = Verified::default();
        let rate = u64::from(self.config.scrub_bytes_per_s.max(1));
        self.rest_until = now + Duration::from_micros(bytes.len() as u64 * 1_000_000 / rate);
        let Some(pass) = &mut self.pass else { return verified };
        if (pass.segment, pass.offset) != (read.segment, read.offset) {
            return verified;
        }
        let before = pass.offset;
        pass.walk(bytes, &mut verified.damaged);
        self.counts.bytes += u64::from(pass.offset - before);
        self.counts.damaged += verified.damaged.len() as u64;
        if pass.offset >= pass.end
            && let Some(done) = self.pass.take()
        {
            verified.lost = done.lost();
            self.finish(done.segment, journal);
        }
        verified
    }

    fn finish(&mut self, segment: SegmentId, journal: &Journal) {
        let was_suspect = self.suspects.remove(&segment);
        if was_suspect && self.next != Some(segment) {
            return;
        }
        self.next = journal.durable_from(SegmentId(segment.0 + 1)).map(|(next, _)| next);
        self.counts.passes += u64::from(self.next.is_none());
    }

    /// These segments are no more.
    pub fn handle_freed(&mut self, freed: &[SegmentId]) {
        for segment in freed {
            self.suspects.remove(segment);
            self.pass.take_if(|pass| pass.segment == *segment);
        }
    }

    /// Counters since the start.
    pub const fn counts(&self) -> ScrubCounts {
        self.counts
    }

    /// The segment that is verified next or now, while a pass is under way.
    pub fn at(&self) -> Option<SegmentId> {
        self.pass.as_ref().map(|pass| pass.segment).or(self.next)
    }
}

impl Pass {
    /// Goes on over `bytes`, which stand at the offset.
    fn walk(&mut self, bytes: &[u8], damaged: &mut Vec<u32>) {
        let mut at = 0;
        self.longer = None;
        while at < bytes.len() && self.offset < self.end {
            let left = (self.end - self.offset) as usize;
            let (whole, length) = match decode(self.segment, self.offset, &bytes[at..]) {
                Found::Block { header, runs } => {
                    for run in runs {
                        let range = run.range().expect("decode checks the range");
                        self.found.entry(run.stream).or_default().insert(range);
                    }
                    (true, header.block_bytes())
                }
                // The read ended within the block.
                Found::Broken(header) if header.block_bytes() > bytes.len() - at && header.block_bytes() <= left => {
                    self.longer = if at == 0 { u32::try_from(header.block_bytes()).ok() } else { None };
                    return;
                }
                Found::Sealed(header) | Found::Broken(header) if header.block_bytes() <= left => {
                    (false, header.block_bytes())
                }
                Found::Sealed(_) | Found::Broken(_) | Found::Nothing => (false, PAGE_BYTES),
            };
            if !whole && !self.in_damage {
                damaged.push(self.offset);
            }
            self.in_damage = !whole;
            at += length;
            self.offset = self
                .offset
                .saturating_add(u32::try_from(length).unwrap_or(u32::MAX))
                .min(self.end);
        }
    }

    fn lost(&self) -> BTreeMap<Stream, RangeSet> {
        let mut lost = BTreeMap::new();
        for (stream, claimed) in &self.claimed {
            let missing = self
                .found
                .get(stream)
                .map_or_else(|| claimed.clone(), |found| claimed.minus(found));
            if !missing.is_empty() {
                lost.insert(*stream, missing);
            }
        }
        lost
    }
}

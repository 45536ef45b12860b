//! Gathers consecutive records of a stream into blocks for the region: closed when full or when the oldest has
//! waited its class's linger. Owns what is gathered and not yet sent; forgets it whenever the uplink starts over.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::block;
use crate::ids::{Class, Seq, Stream};
use crate::limits::{RUN_BYTES_MAX, RUN_RECORDS_MAX};
use crate::ranges::SeqRange;
use crate::time::{Deadline, Instant};
use crate::wire::uplink::{Block, Reads};

/// Records that wait to be sealed.
#[derive(Debug)]
pub struct Sealer {
    /// By whether they wait for others on their way, and stream.
    open: BTreeMap<(bool, Stream), Open>,
    alarm: Duration,
    event: Duration,
    /// What may be sent to the region on this way.
    reads: Reads,
}

/// A block, and whether all that is fresh goes before it.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Whether it waits for them.
    pub waits: bool,
    /// What is to be sent.
    pub block: Block,
}

#[derive(Debug)]
struct Open {
    first: Seq,
    count: u32,
    raw: Vec<u8>,
    since: Instant,
}

impl Sealer {
    /// A sealer with the linger of alarms and of all else.
    pub const fn new(alarm: Duration, event: Duration) -> Self {
        Self { open: BTreeMap::new(), alarm, event, reads: Reads::Lz4 }
    }

    /// Adds the records `range` of a stream, encoded in `raw`; `key` is whether all that is fresh goes before them, and the
    /// stream. What they do not continue, or would overfill, is sealed into `sealed` first.
    pub fn handle_records(
        &mut self,
        key: (bool, Stream),
        range: SeqRange,
        raw: &[u8],
        now: Instant,
        sealed: &mut Vec<Sealed>,
    ) {
        let count = u32::try_from(range.count()).expect("a run is shorter than RUN_RECORDS_MAX");
        let fits = |open: &Open| {
            open.first + Seq::from(open.count) == range.first
                && open.count + count <= RUN_RECORDS_MAX
                && open.raw.len() + raw.len() <= RUN_BYTES_MAX
        };
        if self.open.get(&key).is_some_and(|open| !fits(open)) {
            self.seal(key, sealed);
        }
        let open =
            self.open
                .entry(key)
                .or_insert_with(|| Open { first: range.first, count: 0, raw: Vec::new(), since: now });
        open.count += count;
        open.raw.extend_from_slice(raw);
    }

    /// Seals whatever has waited long enough.
    pub fn handle_deadline(&mut self, now: Instant, sealed: &mut Vec<Sealed>) {
        let due: Vec<(bool, Stream)> = self
            .open
            .iter()
            .filter(|((_, stream), open)| now >= open.since + self.linger(stream.class))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            self.seal(key, sealed);
        }
    }

    fn seal(&mut self, (waits, stream): (bool, Stream), sealed: &mut Vec<Sealed>) {
        if let Some(open) = self.open.remove(&(waits, stream)) {
            sealed
                .push(Sealed { waits, block: block::pack_for(self.reads, stream, open.first, open.count, &open.raw) });
        }
    }

    /// From now on blocks are packed for whoever reads so much.
    pub const fn handle_reads(&mut self, reads: Reads) {
        self.reads = reads;
    }

    /// For whom blocks are packed.
    pub const fn reads(&self) -> Reads {
        self.reads
    }

    /// Forgets all that is gathered: it will be read again.
    pub fn clear(&mut self) {
        self.open.clear();
    }

    /// Bytes gathered.
    pub fn bytes(&self) -> usize {
        self.open.values().map(|open| open.raw.len()).sum()
    }

    fn linger(&self, class: Class) -> Duration {
        match class {
            Class::Alarm => self.alarm,
            Class::Event | Class::Bulk => self.event,
        }
    }

    /// When the next block is sealed.
    pub fn next_deadline(&self) -> Deadline {
        self.open
            .iter()
            .map(|((_, stream), open)| Deadline {
                at: open.since + self.linger(stream.class),
                why: "a block to be sealed",
            })
            .fold(Deadline::NONE, Deadline::min)
    }
}

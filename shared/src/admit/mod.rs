//! Takes readings in: refuses what breaks a limit, numbers the rest, gathers them into runs for the next group
//! commit. Owns this life's sequence numbers and the bound on what waits for its commit; knows no disk and no peer.

mod gather;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use self::gather::{Crowd, Gathering};
use crate::action::{Answer, Offer, OwnRun};
use crate::config::JournalConfig;
use crate::ids::{Class, Origin, Seq, Stream, Ticket};
use crate::limits::{
    LINGER_BYTES_MAX, RECORD_BYTES_MAX, RUN_BYTES_MAX, RUN_RECORDS_MAX, UNCOMMITTED_BYTES_MAX, UNCOMMITTED_RECORDS_MAX,
};
use crate::record::{Gap, Key, Kind, Reading};
use crate::time::{Deadline, Instant, WallMillis};
use crate::wire::peer::Run;

/// Who publishes gap records, as the region files them.
pub const GAP_PUBLISHER: &str = "roadstead";
/// Under which topic.
pub const GAP_TOPIC: &str = "roadstead/gap";

/// Admission and batching of this board's own records.
#[derive(Debug)]
pub struct Admission {
    config: JournalConfig,
    open: [OpenRun; Class::ALL.len()],
    closed: [VecDeque<OwnRun>; Class::ALL.len()],
    /// The last gap record that was numbered and has not left yet.
    gap: Option<Seq>,
    uncommitted: Amount,
    /// Of these, what waits for a write.
    unwritten: Amount,
    gathering: Gathering,
    counts: AdmitCounts,
}

/// What was taken in since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmitCounts {
    /// Records numbered, this board's own gap records included.
    pub accepted: u64,
    /// Of these, gap records.
    pub gaps: u64,
    /// Of these, records that nobody waits for.
    pub unacknowledged: u64,
    /// Publishes refused for what they are; not among `accepted`.
    pub refused: u64,
}

#[derive(Debug)]
struct OpenRun {
    stream: Stream,
    first: Seq,
    count: u32,
    bytes: Vec<u8>,
    tickets: Vec<Ticket>,
    /// When its first record came.
    since: Instant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    records: usize,
    bytes: usize,
}

impl Admission {
    /// Admission for a new life of a journal: sequences begin at 1.
    pub fn new(origin: Origin, config: JournalConfig) -> Self {
        let open = |class| OpenRun {
            stream: Stream { origin, class },
            first: 1,
            count: 0,
            bytes: Vec::new(),
            tickets: Vec::new(),
            since: Instant::ZERO,
        };
        Self {
            config,
            open: Class::ALL.map(open),
            closed: Class::ALL.map(|_| VecDeque::new()),
            gap: None,
            uncommitted: Amount::default(),
            unwritten: Amount::default(),
            gathering: Gathering::default(),
            counts: AdmitCounts::default(),
        }
    }

    /// Takes in one publish. A refused one is answered at once through `refused`.
    pub fn handle_offer(&mut self, offer: &Offer, now: Instant, refused: &mut Vec<(Ticket, Answer)>) {
        if let Err(refusal) = offer.record.check() {
            self.counts.refused += 1;
            refused.extend(offer.ticket.map(|ticket| (ticket, Answer::Refused(refusal))));
            return;
        }
        self.number(offer.record.class, now, |into| offer.record.encode(into));
        self.open[offer.record.class as usize].tickets.extend(offer.ticket);
        self.counts.unacknowledged += u64::from(offer.ticket.is_none());
    }

    /// Numbers what this board sheds, as alarms of its own taken in at `taken`; returns the last one's sequence.
    pub fn handle_gaps(&mut self, gaps: &[Gap], taken: WallMillis, now: Instant) -> Seq {
        for gap in gaps {
            let payload = postcard::to_allocvec(gap).expect("a Vec takes every message");
            let reading = Reading {
                kind: Kind::Gap,
                publisher: GAP_PUBLISHER,
                key: Key::content(GAP_PUBLISHER.as_bytes(), GAP_TOPIC.as_bytes(), &payload),
                taken,
                topic: GAP_TOPIC,
                payload: &payload,
            };
            self.number(Class::Alarm, now, |into| reading.encode(into));
            self.counts.gaps += 1;
        }
        let last = self.last(Class::Alarm);
        if !gaps.is_empty() {
            self.gap = Some(last);
        }
        last
    }

    /// Whether a gap record waits to be written: with it, and what was numbered before it, room is made.
    pub const fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    fn number(&mut self, class: Class, now: Instant, encode: impl FnOnce(&mut Vec<u8>)) {
        let open = &mut self.open[class as usize];
        if open.count == RUN_RECORDS_MAX || open.bytes.len() + RECORD_BYTES_MAX > RUN_BYTES_MAX {
            // Close only a run that the largest record could overflow: its exact size is known after encoding.
            self.closed[class as usize].extend(open.close());
        }
        let open = &mut self.open[class as usize];
        if open.count == 0 {
            open.since = now;
        }
        let before = open.bytes.len();
        encode(&mut open.bytes);
        open.count += 1;
        self.counts.accepted += 1;
        let bytes = open.bytes.len() - before;
        for amount in [&mut self.uncommitted, &mut self.unwritten] {
            amount.records += 1;
            amount.bytes += bytes;
        }
        self.gathering.handle_record();
    }

    /// Whether more may be offered before something commits.
    pub const fn has_room(&self) -> bool {
        self.uncommitted.records < UNCOMMITTED_RECORDS_MAX && self.uncommitted.bytes < UNCOMMITTED_BYTES_MAX
    }

    /// The next run of `class` to commit, whatever its size.
    pub fn take_run(&mut self, class: Class) -> Option<OwnRun> {
        let closed = self.closed[class as usize].pop_front();
        let own = closed.or_else(|| self.open[class as usize].close())?;
        self.unwritten.records -= own.run.count as usize;
        self.unwritten.bytes -= own.run.bytes.len();
        let last = own.run.range().map_or(0, |range| range.last);
        if class == Class::Alarm && self.gap.is_some_and(|gap| gap <= last) {
            self.gap = None;
        }
        Some(own)
    }

    /// Bytes of the run that [`Admission::take_run`] would return; `None` where nothing of `class` waits.
    pub fn next_bytes(&self, class: Class) -> Option<usize> {
        if let Some(own) = self.closed[class as usize].front() {
            return Some(own.run.bytes.len());
        }
        let open = &self.open[class as usize];
        (open.count > 0).then_some(open.bytes.len())
    }

    /// A write begins with what waits.
    pub fn handle_write(&mut self, now: Instant) {
        let waits = |class: Class| self.next_bytes(class).is_some();
        // An alarm waits for nobody, and bulk for longer.
        let is_judged = waits(Class::Event) && !waits(Class::Alarm) && self.due(Class::Event) <= now;
        self.gathering.handle_write(self.crowd(), is_judged, now);
    }

    /// It is durable here.
    pub fn handle_synced(&mut self, now: Instant) {
        self.gathering.handle_synced(now);
    }

    const fn crowd(&self) -> Crowd {
        Crowd {
            records: self.unwritten.records,
            bytes: self.unwritten.bytes,
            unanswered: self.uncommitted.records - self.unwritten.records,
        }
    }

    /// When a write is to begin for what waits: at once where much does, else once the oldest of a class has waited its
    /// linger, and no more events are about to come.
    pub fn next_deadline(&self) -> Deadline {
        Class::ALL
            .into_iter()
            .filter(|class| self.next_bytes(*class).is_some())
            .map(|class| Deadline { at: self.due(class), why: "more records for a write" })
            .fold(Deadline::NONE, Deadline::min)
    }

    fn due(&self, class: Class) -> Instant {
        let open = &self.open[class as usize];
        if !self.closed[class as usize].is_empty() || open.bytes.len() >= LINGER_BYTES_MAX {
            return Instant::ZERO;
        }
        let due = open.since + self.config.linger(class);
        match class {
            Class::Alarm => due,
            Class::Event | Class::Bulk => due.max(self.gathering.due(self.crowd(), open.since)),
        }
    }

    /// A run has committed: its records no longer count as waiting.
    pub fn handle_committed(&mut self, run: &Run) {
        self.uncommitted.records -= run.count as usize;
        self.uncommitted.bytes -= run.bytes.len();
        self.gathering.handle_answered(run.count as usize);
    }

    /// Records that wait for their commit.
    pub const fn waiting(&self) -> usize {
        self.uncommitted.records
    }

    /// Counters since the start.
    pub const fn counts(&self) -> AdmitCounts {
        self.counts
    }

    /// Highest sequence given out in `class`; 0 where none was.
    pub fn last(&self, class: Class) -> Seq {
        let open = &self.open[class as usize];
        open.first + Seq::from(open.count) - 1
    }
}

impl OpenRun {
    fn close(&mut self) -> Option<OwnRun> {
        if self.count == 0 {
            return None;
        }
        let bytes = Bytes::from(core::mem::take(&mut self.bytes));
        let run = Run::new(self.stream, self.first, self.count, bytes);
        self.first += Seq::from(self.count);
        self.count = 0;
        Some(OwnRun { run, tickets: core::mem::take(&mut self.tickets) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BoardId, Epoch};
    use crate::record::{Record, RecordRefusal};

    fn admission() -> Admission {
        let origin = Origin { board: BoardId::new(1).unwrap(), epoch: Epoch { boot: 1, nonce: 2 } };
        Admission::new(origin, JournalConfig::default())
    }

    fn offer(class: Class, bytes: usize) -> Offer {
        let record = Record {
            class,
            publisher: Bytes::from_static(b"p"),
            key: Key::Sequence { epoch: 0, seq: 1 },
            taken: WallMillis(1),
            topic: Bytes::from_static(b"t"),
            payload: Bytes::from(alloc::vec![1; bytes]),
        };
        Offer { ticket: Some(Ticket(bytes as u64)), record }
    }

    #[test]
    fn numbers_run_without_a_hole_and_alarms_leave_first() {
        let (mut admission, mut refused) = (admission(), Vec::new());
        for class in [Class::Event, Class::Alarm, Class::Event] {
            admission.handle_offer(&offer(class, 3), Instant::ZERO, &mut refused);
        }
        let first = admission.take_run(Class::Alarm).unwrap();
        assert_eq!((first.run.stream.class, first.run.first, first.run.count), (Class::Alarm, 1, 1));
        let second = admission.take_run(Class::Event).unwrap();
        assert_eq!((second.run.first, second.run.count, second.tickets.len()), (1, 2, 2));
        assert_eq!(Reading::decode_all(&second.run.bytes, 2).unwrap().len(), 2);
        admission.handle_offer(&offer(Class::Event, 3), Instant::ZERO, &mut refused);
        assert_eq!(admission.take_run(Class::Event).unwrap().run.first, 3);
        assert!(refused.is_empty());
        assert_eq!(admission.waiting(), 4);
        admission.handle_committed(&first.run);
        assert_eq!(admission.waiting(), 3);
    }

    #[test]
    fn runs_keep_to_their_limits_and_refusals_take_no_number() {
        let (mut admission, mut refused) = (admission(), Vec::new());
        let mut too_big = offer(Class::Event, 10);
        too_big.record.payload = Bytes::from(alloc::vec![0; crate::limits::PAYLOAD_BYTES_MAX + 1]);
        admission.handle_offer(&too_big, Instant::ZERO, &mut refused);
        assert_eq!(refused, [(Ticket(10), Answer::Refused(RecordRefusal::Payload))]);
        for _ in 0..=RUN_RECORDS_MAX {
            admission.handle_offer(&offer(Class::Event, 1), Instant::ZERO, &mut refused);
        }
        assert_eq!(admission.take_run(Class::Event).unwrap().run.count, RUN_RECORDS_MAX);
        let next = admission.take_run(Class::Event).unwrap().run;
        assert_eq!((next.first, next.count), (u64::from(RUN_RECORDS_MAX) + 1, 1));
        for _ in 0..8 {
            admission.handle_offer(&offer(Class::Bulk, 60_000), Instant::ZERO, &mut refused);
        }
        while let Some(own) = admission.take_run(Class::Bulk) {
            assert!(own.run.bytes.len() <= RUN_BYTES_MAX);
        }
        assert_eq!(admission.last(Class::Bulk), 8);
    }

    #[test]
    fn a_write_begins_once_the_oldest_has_lingered_or_much_waits() {
        let (mut admission, mut refused) = (admission(), Vec::new());
        let linger = JournalConfig::default().bulk_linger;
        let start = Instant::from_micros(5);
        assert_eq!(admission.next_deadline(), Deadline::NONE);
        admission.handle_offer(&offer(Class::Bulk, 3), start, &mut refused);
        admission.handle_offer(&offer(Class::Bulk, 3), start + linger / 2, &mut refused);
        assert_eq!(admission.next_deadline().at, start + linger, "the oldest counts");
        admission.handle_offer(&offer(Class::Bulk, LINGER_BYTES_MAX), start, &mut refused);
        assert_eq!(admission.next_deadline().at, Instant::ZERO);
        admission.take_run(Class::Bulk);
        admission.handle_offer(&offer(Class::Alarm, 3), start, &mut refused);
        assert_eq!(admission.next_deadline().at, start, "an alarm waits for nobody");
    }

    #[test]
    fn gap_records_are_alarms_and_read_back() {
        let mut admission = admission();
        let gap = Gap {
            stream: Stream { class: Class::Bulk, ..admission.open[0].stream },
            range: crate::ranges::SeqRange { first: 4, last: 9 },
            bytes: 77,
            reason: crate::record::GapReason::JournalFull,
        };
        assert_eq!(admission.handle_gaps(&[gap, gap], WallMillis(3), Instant::ZERO), 2);
        assert!(admission.has_gap());
        let own = admission.take_run(Class::Alarm).unwrap();
        assert!(!admission.has_gap());
        let readings = Reading::decode_all(&own.run.bytes, 2).unwrap();
        assert_eq!(readings[1].kind, Kind::Gap);
        assert_eq!(postcard::from_bytes::<Gap>(readings[1].payload), Ok(gap));
        assert_eq!((admission.counts().accepted, admission.counts().gaps), (2, 2));
    }
}

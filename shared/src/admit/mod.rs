//! Takes readings in: refuses what breaks a limit, numbers the rest, gathers them into runs for the next group
//! commit. Owns this life's sequence numbers and the bound on what waits for its commit; knows no disk and no peer.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::{Answer, Offer, OwnRun};
use crate::ids::{Class, Origin, Seq, Stream, Ticket};
use crate::limits::{RECORD_BYTES_MAX, RUN_BYTES_MAX, RUN_RECORDS_MAX, UNCOMMITTED_BYTES_MAX, UNCOMMITTED_RECORDS_MAX};
use crate::wire::peer::Run;

/// Admission and batching of this board's own records.
#[derive(Debug)]
pub struct Admission {
    open: [OpenRun; 3],
    closed: VecDeque<OwnRun>,
    uncommitted: Amount,
    counts: AdmitCounts,
}

/// What was taken in since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmitCounts {
    /// Records numbered.
    pub accepted: u64,
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
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    records: usize,
    bytes: usize,
}

impl Admission {
    /// Admission for a new life of a journal: sequences begin at 1.
    pub fn new(origin: Origin) -> Self {
        let open = |class| OpenRun {
            stream: Stream { origin, class },
            first: 1,
            count: 0,
            bytes: Vec::new(),
            tickets: Vec::new(),
        };
        Self {
            open: Class::ALL.map(open),
            closed: VecDeque::new(),
            uncommitted: Amount::default(),
            counts: AdmitCounts::default(),
        }
    }

    /// Takes in one publish. A refused one is answered at once through `refused`.
    pub fn handle_offer(&mut self, offer: &Offer, refused: &mut Vec<(Ticket, Answer)>) {
        if let Err(refusal) = offer.record.check() {
            self.counts.refused += 1;
            refused.extend(offer.ticket.map(|ticket| (ticket, Answer::Refused(refusal))));
            return;
        }
        let open = &mut self.open[offer.record.class as usize];
        if open.count == RUN_RECORDS_MAX || open.bytes.len() + RECORD_BYTES_MAX > RUN_BYTES_MAX {
            // Close only a run that the largest record could overflow: its exact size is known after encoding.
            self.closed.extend(open.close());
        }
        let open = &mut self.open[offer.record.class as usize];
        let before = open.bytes.len();
        offer.record.encode(&mut open.bytes);
        open.count += 1;
        open.tickets.extend(offer.ticket);
        self.counts.accepted += 1;
        self.counts.unacknowledged += u64::from(offer.ticket.is_none());
        self.uncommitted.records += 1;
        self.uncommitted.bytes += open.bytes.len() - before;
    }

    /// Whether more may be offered before something commits.
    pub const fn has_room(&self) -> bool {
        self.uncommitted.records < UNCOMMITTED_RECORDS_MAX && self.uncommitted.bytes < UNCOMMITTED_BYTES_MAX
    }

    /// The next run to commit, whatever its size; alarms first.
    pub fn take_run(&mut self) -> Option<OwnRun> {
        if let Some(run) = self.closed.pop_front() {
            return Some(run);
        }
        self.open.iter_mut().find_map(OpenRun::close)
    }

    /// Bytes of the run that [`Admission::take_run`] would return; `None` where nothing waits.
    pub fn next_bytes(&self) -> Option<usize> {
        if let Some(own) = self.closed.front() {
            return Some(own.run.bytes.len());
        }
        self.open.iter().find(|open| open.count > 0).map(|open| open.bytes.len())
    }

    /// A run has committed: its records no longer count as waiting.
    pub fn handle_committed(&mut self, run: &Run) {
        self.uncommitted.records -= run.count as usize;
        self.uncommitted.bytes -= run.bytes.len();
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
    use crate::record::{Key, Reading, Record, RecordRefusal};
    use crate::time::WallMillis;

    fn admission() -> Admission {
        Admission::new(Origin { board: BoardId::new(1).unwrap(), epoch: Epoch { boot: 1, nonce: 2 } })
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
            admission.handle_offer(&offer(class, 3), &mut refused);
        }
        let first = admission.take_run().unwrap();
        assert_eq!((first.run.stream.class, first.run.first, first.run.count), (Class::Alarm, 1, 1));
        let second = admission.take_run().unwrap();
        assert_eq!((second.run.first, second.run.count, second.tickets.len()), (1, 2, 2));
        assert_eq!(Reading::decode_all(&second.run.bytes, 2).unwrap().len(), 2);
        admission.handle_offer(&offer(Class::Event, 3), &mut refused);
        assert_eq!(admission.take_run().unwrap().run.first, 3);
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
        admission.handle_offer(&too_big, &mut refused);
        assert_eq!(refused, [(Ticket(10), Answer::Refused(RecordRefusal::Payload))]);
        for _ in 0..=RUN_RECORDS_MAX {
            admission.handle_offer(&offer(Class::Event, 1), &mut refused);
        }
        assert_eq!(admission.take_run().unwrap().run.count, RUN_RECORDS_MAX);
        let next = admission.take_run().unwrap().run;
        assert_eq!((next.first, next.count), (u64::from(RUN_RECORDS_MAX) + 1, 1));
        for _ in 0..8 {
            admission.handle_offer(&offer(Class::Bulk, 60_000), &mut refused);
        }
        while let Some(own) = admission.take_run() {
            assert!(own.run.bytes.len() <= RUN_BYTES_MAX);
        }
        assert_eq!(admission.last(Class::Bulk), 8);
    }
}

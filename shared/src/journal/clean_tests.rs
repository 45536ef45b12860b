//! Which segment goes, what of it, and in which order, against a plain in-memory disk that restarts.

use super::clean::Cleaner;
use super::tests::{Disk, NOW, epoch};
use super::*;
use crate::ids::{BoardId, Class, Origin, Seq};
use crate::limits::OWN_SEGMENTS;
use crate::record::Gap;

const PAYLOAD: usize = 3_000;

fn config() -> JournalConfig {
    JournalConfig::sized(20 * PAGE_BYTES as u32, 10)
}

fn stream(class: Class) -> Stream {
    Stream { origin: Origin { board: BoardId::new(1).unwrap(), epoch: epoch(1) }, class }
}

/// A journal that is written to, cleaned and restarted.
struct Bench {
    disk: Disk,
    journal: Journal,
    cleaner: Cleaner,
    next: BTreeMap<Class, Seq>,
    gaps: Vec<Gap>,
    covered: BTreeMap<Stream, RangeSet>,
    /// Up to where each stream is committed, as far as its origin has said.
    committed: Option<Seq>,
}

impl Bench {
    fn new(config: JournalConfig) -> Self {
        let (mut disk, mut journal) = (Disk::default(), Journal::new(config, epoch(1), Recovered::default()));
        let mut out = Outbox::default();
        journal.prepare(NOW, &mut out);
        disk.drain(&mut journal, &mut out);
        Self {
            disk,
            journal,
            cleaner: Cleaner::default(),
            next: BTreeMap::new(),
            gaps: Vec::new(),
            covered: BTreeMap::new(),
            committed: Some(Seq::MAX),
        }
    }

    fn restart(&mut self, life: u32) {
        self.journal = Journal::new(*self.journal.config(), epoch(life), self.disk.recover());
        self.cleaner = Cleaner::default();
        let mut out = Outbox::default();
        self.journal.prepare(NOW, &mut out);
        self.disk.drain(&mut self.journal, &mut out);
    }

    /// Appends one run of `class`; false where the journal does not take it.
    fn put(&mut self, class: Class) -> bool {
        if !self.journal.can_append(PAYLOAD + RUN_OVERHEAD, self.journal.floor(class)) {
            return false;
        }
        let next = self.next.entry(class).or_insert(1);
        let run = Run::new(stream(class), *next, 1, Bytes::from(alloc::vec![1; PAYLOAD]));
        *next += 1;
        self.disk.append(&mut self.journal, &[run]);
        true
    }

    /// Frees one segment, if the journal asks for that; stops after so many blocks were written again.
    fn clean_some(&mut self, blocks: usize) -> Option<SegmentId> {
        let committed = self.committed;
        let plan = self.journal.plan(&self.covered, |_| committed)?;
        let victim = plan.victim;
        self.gaps.extend(&plan.gaps);
        self.cleaner.begin(plan, None);
        let mut written = 0;
        loop {
            if let Some((id, offset, length)) = self.cleaner.wants_read() {
                let bytes = self.disk.files[&id][offset as usize..(offset + length) as usize].to_vec();
                let mut at = 0;
                let mut runs = Vec::new();
                while let format::Found::Block { header, runs: found } =
                    format::decode(id, offset + at as u32, bytes.get(at..).unwrap_or_default())
                {
                    runs.extend(found);
                    at += header.block_bytes();
                }
                assert_eq!(at, bytes.len(), "the segment reads");
                self.cleaner.handle_read(id, runs, offset + length, false);
            }
            if written == blocks {
                return None;
            }
            if let Some((done, is_free)) = self.cleaner.take_done() {
                assert!(is_free && done == victim);
                let mut out = Outbox::default();
                self.journal.finish_cleaning(done, NOW, &mut out);
                self.disk.drain(&mut self.journal, &mut out);
                return Some(victim);
            }
            // In one block, as far as one takes them.
            let (mut runs, mut taken) = (Vec::new(), 0);
            while let Some(bytes) = self.cleaner.next_bytes(taken) {
                taken += bytes + RUN_OVERHEAD;
                if !runs.is_empty() && !self.journal.fits_active(taken) {
                    break;
                }
                runs.extend(self.cleaner.take_run());
            }
            assert!(!runs.is_empty(), "something is to be written again");
            self.disk.append(&mut self.journal, &runs);
            self.cleaner.handle_durable();
            written += 1;
        }
    }

    fn clean(&mut self) {
        while self.clean_some(usize::MAX).is_some() {}
    }

    fn held(&self, class: Class) -> u64 {
        self.journal.held().get(&stream(class)).map_or(0, RangeSet::count)
    }

    fn shed(&self, class: Class) -> RangeSet {
        let of = self.gaps.iter().filter(|gap| gap.stream == stream(class));
        of.map(|gap| gap.range).collect()
    }

    /// All that was put in is held or declared.
    fn reconciles(&self) {
        for (class, next) in &self.next {
            let held = self.journal.held().get(&stream(*class)).cloned().unwrap_or_default();
            let mut known = held.clone();
            known.extend(&self.shed(*class));
            assert_eq!(known.count(), next - 1, "{class:?}: held {held:?}, shed {:?}", self.shed(*class));
        }
    }
}

#[test]
fn the_oldest_of_the_lowest_class_goes_first_and_alarms_never() {
    let mut bench = Bench::new(config());
    let mix = [Class::Event, Class::Bulk, Class::Alarm, Class::Bulk];
    let mut events_shed_at = None;
    for round in 0..400 {
        let class = mix[round % mix.len()];
        bench.clean();
        assert!(bench.put(class), "round {round}: {class:?} is not taken");
        bench.reconciles();
        if events_shed_at.is_none() && !bench.shed(Class::Event).is_empty() {
            events_shed_at = Some(bench.held(Class::Bulk));
        }
        if bench.held(Class::Alarm) > 70 {
            break;
        }
    }
    let bulk = bench.shed(Class::Bulk);
    // A few may be left where they stand too thin to free a segment by themselves.
    let newest = bulk.ranges().last().map_or(0, |range| range.last);
    assert!(newest - bulk.count() <= 8, "the oldest first: {bulk:?}");
    assert!(bulk.count() > 50);
    assert!(events_shed_at.is_some_and(|left| left <= 24), "{events_shed_at:?} bulk were left when events went");
    assert!(bench.shed(Class::Alarm).is_empty());
    assert_eq!(bench.held(Class::Alarm), bench.next[&Class::Alarm] - 1);
}

#[test]
fn what_its_origin_may_wait_for_is_not_shed() {
    for (committed, most) in [(Some(30), 30), (Some(0), 0), (None, 0)] {
        let mut bench = Bench::new(config());
        bench.committed = committed;
        for _ in 0..400 {
            bench.clean();
            bench.put(Class::Bulk);
            bench.reconciles();
        }
        let shed = bench.shed(Class::Bulk);
        assert_eq!(shed.last().unwrap_or(0), most, "committed {committed:?}: {shed:?}");
        assert!(bench.journal.takes(Class::Alarm), "alarms are taken all the same");
    }
}

#[test]
fn what_is_called_committed_may_be_shed_at_once_and_nothing_need_be_written_first() {
    let mut bench = Bench::new(config());
    bench.committed = Some(0);
    for _ in 0..400 {
        bench.clean();
        bench.put(Class::Bulk);
    }
    assert!(!bench.put(Class::Bulk) && bench.clean_some(0).is_none(), "it is full, and nothing may go");
    bench.committed = Some(Seq::MAX);
    bench.journal.note_committed();
    bench.clean();
    assert!(bench.put(Class::Bulk));
}

#[test]
fn of_a_silent_board_only_the_newest_life_is_kept() {
    let mut bench = Bench::new(config());
    let sheds = |bench: &mut Bench| {
        let before = bench.shed(Class::Bulk).count();
        for _ in 0..200 {
            bench.clean();
            bench.put(Class::Bulk);
        }
        bench.shed(Class::Bulk).count() > before
    };
    bench.committed = None;
    assert!(!sheds(&mut bench), "its board may wait for these");
    let origin = Origin { epoch: epoch(2), ..stream(Class::Bulk).origin };
    let run = Run::new(Stream { origin, class: Class::Alarm }, 1, 1, Bytes::from_static(b"later"));
    bench.disk.append(&mut bench.journal, &[run]);
    bench.journal.note_committed();
    assert!(sheds(&mut bench), "a later life was heard of");
}

#[test]
fn alarms_alone_fill_the_journal_and_then_wait() {
    let mut bench = Bench::new(config());
    while bench.put(Class::Bulk) {
        bench.clean();
        if bench.shed(Class::Bulk).count() > 20 {
            break;
        }
    }
    let mut alarms = 0;
    loop {
        bench.clean();
        if !bench.put(Class::Alarm) {
            break;
        }
        alarms += 1;
        assert!(alarms < 1_000, "there is an end");
    }
    assert!(bench.journal.is_full());
    assert_eq!(bench.held(Class::Bulk), 0, "nothing lower is left");
    assert_eq!(bench.held(Class::Alarm), alarms);
    assert!(bench.journal.available() <= OWN_SEGMENTS);
    assert!(!bench.put(Class::Bulk));
    // Coverage makes room again.
    bench
        .covered
        .insert(stream(Class::Alarm), RangeSet::from_iter([SeqRange { first: 1, last: alarms }]));
    let mut out = Outbox::default();
    bench.journal.free(&bench.covered.clone(), false, NOW, &mut out);
    bench.disk.drain(&mut bench.journal, &mut out);
    assert!(bench.put(Class::Bulk) && bench.put(Class::Alarm));
}

#[test]
fn a_class_past_its_bound_sheds_its_own_oldest() {
    let bound = 20 * PAYLOAD as u64;
    let mut bench = Bench::new(JournalConfig { event_bytes_max: bound, ..JournalConfig::sized(20 * 4096, 64) });
    for round in 0..120 {
        assert!(bench.put(if round % 3 == 0 { Class::Bulk } else { Class::Event }));
        bench.clean();
        bench.reconciles();
    }
    assert!(bench.shed(Class::Bulk).is_empty(), "only the class that is past its bound");
    assert_eq!(bench.held(Class::Bulk), 40);
    let held = bench.held(Class::Event) * PAYLOAD as u64;
    // Whole segments go, and the active one stays.
    assert!(held <= bound + 20 * 4096, "{held} bytes of events");
    assert!(bench.shed(Class::Event).count() > 30);
}

#[test]
fn what_is_covered_goes_before_anything_is_shed() {
    let mut bench = Bench::new(config());
    for round in 0..300 {
        let class = if round % 8 == 0 { Class::Alarm } else { Class::Event };
        if class == Class::Event {
            let last = bench.next.get(&class).copied().unwrap_or(1) - 1;
            if last > 0 {
                bench
                    .covered
                    .insert(stream(class), RangeSet::from_iter([SeqRange { first: 1, last }]));
            }
        }
        bench.clean();
        assert!(bench.put(class), "round {round}");
    }
    assert!(bench.gaps.is_empty(), "{:?}", bench.gaps);
    assert_eq!(bench.held(Class::Alarm), 38);
}

#[test]
fn a_stop_in_the_middle_of_cleaning_loses_and_doubles_nothing() {
    for blocks in 0..2 {
        let mut bench = Bench::new(config());
        let mut round = 0;
        let mut life = 1;
        while life < 12 {
            let class = [Class::Event, Class::Alarm, Class::Bulk][round % 3];
            round += 1;
            if bench.put(class) {
                continue;
            }
            // The journal asks for room; the process ends when so many blocks are written again.
            bench.clean_some(blocks);
            life += 1;
            bench.restart(life);
            bench.reconciles();
            assert_eq!(bench.held(Class::Alarm), bench.next[&Class::Alarm] - 1);
            bench.clean();
            bench.reconciles();
            assert!(bench.put(Class::Event), "life {life} takes records again");
        }
    }
}

#[test]
fn a_full_device_is_a_full_journal_until_it_has_room() {
    let mut bench = Bench::new(JournalConfig::sized(20 * PAGE_BYTES as u32, 64));
    bench.disk.files_max = Some(8);
    let mut rounds = 0;
    while bench.gaps.is_empty() {
        bench.clean();
        assert!(bench.put(Class::Bulk));
        rounds += 1;
        assert!(rounds < 500);
    }
    assert!(bench.journal.is_device_full());
    assert!(bench.journal.takes(Class::Alarm));
    for _ in 0..100 {
        bench.clean();
        assert!(bench.put(Class::Event) && bench.put(Class::Alarm));
        bench.reconciles();
        if bench.held(Class::Alarm) > 20 {
            break;
        }
    }
    let at = bench.journal.next_deadline().at;
    assert!(at <= NOW + core::time::Duration::from_secs(10));
    bench.disk.files_max = None;
    let mut out = Outbox::default();
    bench.journal.prepare(at, &mut out);
    bench.disk.drain(&mut bench.journal, &mut out);
    assert!(!bench.journal.is_device_full());
    assert!(bench.journal.available() > 40);
    bench.disk.files_max = Some(0);
    bench.restart(2);
    bench.clean();
    assert!(bench.put(Class::Alarm), "also after a start on a full device");
}

/// A journal that stopped while it wrote a segment again: the segment, and the one that has a part of its records, too.
fn with_doubles() -> (Bench, SegmentId, SegmentId) {
    let mut bench = Bench::new(config());
    for number in 0.. {
        let class = if number % 3 == 0 { Class::Bulk } else { Class::Alarm };
        if !bench.put(class) {
            break;
        }
    }
    bench.clean_some(1);
    bench.restart(2);
    let committed = bench.committed;
    let plan = bench.journal.plan(&bench.covered, |_| committed).expect("it is still full");
    let victim = plan.victim;
    let of_victim = bench.journal.claimed(victim);
    let overlaps = |id: &SegmentId| {
        let claimed = bench.journal.claimed(*id);
        let meets = |(stream, ranges): (&Stream, &RangeSet)| {
            claimed
                .get(stream)
                .is_some_and(|claimed| !claimed.intersection(ranges).is_empty())
        };
        *id != victim && of_victim.iter().any(meets)
    };
    let other = (0..100).map(SegmentId).find(overlaps).expect("a part was written again");
    bench.cleaner.begin(plan, None);
    (bench, victim, other)
}

#[test]
fn a_segment_that_goes_because_of_its_doubles_stays_where_these_are_in_doubt() {
    let (mut bench, victim, other) = with_doubles();
    bench.cleaner.handle_doubt(victim, &bench.journal.claimed(victim));
    assert_eq!(bench.cleaner.victim(), Some(victim), "its own damage is met when it is read");
    bench.cleaner.handle_doubt(other, &bench.journal.claimed(other));
    assert_eq!(bench.cleaner.victim(), None);

    // What stands in a damaged segment, too, is written again like all else.
    let (of_victim, of_other) = (bench.journal.claimed(victim), bench.journal.claimed(other));
    bench.journal.note_damaged_place(other, 0, &mut Outbox::default());
    assert_eq!(bench.clean_some(usize::MAX), Some(victim));
    bench.journal.lose(other, &of_other);
    let alarms = stream(Class::Alarm);
    let held = &bench.journal.held()[&alarms];
    assert!(held.contains_all(&of_victim[&alarms]), "{held:?} lacks some of {:?}", of_victim[&alarms]);
}

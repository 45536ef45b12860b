//! Verification against a plain in-memory disk: what it reads when, and what it finds.

use core::time::Duration;

use super::scrub::{Scrub, Verified};
use super::tests::{Disk, epoch, run, small, stream};
use super::*;
use crate::config::RepairConfig;
use crate::event::Event;
use crate::limits::{FOOTER_BYTES, SCRUB_READ_BYTES};
use crate::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

fn config() -> RepairConfig {
    RepairConfig { scrub_bytes_per_s: 32 * 1024, scrub_every: HOUR, ..RepairConfig::default() }
}

/// Three segments with five blocks: two small ones, two that fill most of a segment, one of an own and a copied run.
fn filled() -> (Disk, Journal) {
    let (mut disk, mut journal) = (Disk::default(), Journal::new(small(), epoch(1), Recovered::default()));
    disk.append(&mut journal, &[run(1, 1, 3, 100)]);
    disk.append(&mut journal, &[run(1, 4, 2, 100), run(2, 1, 9, 5_000)]);
    disk.append(&mut journal, &[run(1, 6, 1, 20_000)]);
    disk.append(&mut journal, &[run(1, 7, 1, 20_000)]);
    (disk, journal)
}

/// Reads what is due at `now`, until nothing is: what came of it, and when the next read is due.
fn verify(scrub: &mut Scrub, disk: &Disk, journal: &mut Journal, now: &mut Instant) -> Vec<(SegmentId, Verified)> {
    let mut all = Vec::new();
    while let Some(read) = scrub.wants_read(journal) {
        let due = scrub.next_deadline().at;
        if due > *now + HOUR / 2 {
            break;
        }
        *now = due.max(*now);
        scrub.handle_reading(&read, journal, *now);
        let at = read.offset as usize;
        let bytes = &disk.files[&read.segment][at..at + read.length as usize];
        let verified = scrub.handle_read(&read, bytes, journal, *now);
        if verified != Verified::default() {
            all.push((read.segment, verified));
        }
    }
    all
}

#[test]
fn a_whole_journal_is_read_once_an_hour_at_its_rate_and_found_whole() {
    let (disk, mut journal) = filled();
    let mut now = Instant::ZERO;
    let mut scrub = Scrub::new(config(), now);
    assert!(verify(&mut scrub, &disk, &mut journal, &mut now).is_empty());
    let counts = scrub.counts();
    let durable: u64 = disk.recover().segments.values().map(|segment| u64::from(segment.end)).sum();
    assert_eq!((counts.bytes, counts.passes, counts.damaged), (durable, 1, 0));
    let took = now.since(Instant::ZERO);
    assert!(took >= Duration::from_secs(1), "{durable} bytes at 32 KiB/s took {took:?}");
    assert_eq!(scrub.next_deadline().at, Instant::ZERO + HOUR);
}

#[test]
fn a_rotten_block_leaves_what_is_held_and_its_segment_is_never_used_again() {
    let (mut disk, mut journal) = filled();
    let rotten = SegmentId(1);
    // The payload of the second block, which begins on the second page and takes two.
    disk.files.get_mut(&rotten).unwrap()[PAGE_BYTES + 200] ^= 4;
    let mut now = Instant::ZERO + HOUR;
    let mut scrub = Scrub::new(config(), Instant::ZERO);
    let mut found = verify(&mut scrub, &disk, &mut journal, &mut now);
    assert_eq!(found.len(), 1, "a segment that fits one read");
    let (segment, verified) = found.remove(0);
    assert_eq!((segment, verified.damaged.as_slice()), (rotten, &[PAGE_BYTES as u32][..]));
    let ranges = |stream| verified.lost[&stream].ranges().to_vec();
    assert_eq!(ranges(stream(1)), [SeqRange { first: 4, last: 5 }]);
    assert_eq!(ranges(stream(2)), [SeqRange { first: 1, last: 9 }]);
    let mut out = Outbox::default();
    assert!(journal.note_damaged_place(segment, verified.damaged[0], &mut out), "it is new");
    assert!(!journal.note_damaged_place(segment, verified.damaged[0], &mut out), "it is known");
    let at = footer::footer_at(small().segment_bytes).unwrap();
    let Some(DiskJob::Foot { segment: footed, offset, bytes, .. }) = out.pop() else {
        panic!("the next start is to find it, too");
    };
    assert_eq!((footed, offset, bytes.len()), (segment, at, FOOTER_BYTES as usize));
    disk.files.get_mut(&segment).unwrap()[at as usize..].copy_from_slice(&bytes);
    let gone = journal.lose(segment, &verified.lost);
    assert_eq!(gone.len(), 2);
    assert_eq!(journal.held()[&stream(1)].missing(SeqRange { first: 1, last: 7 }), [SeqRange { first: 4, last: 5 }]);
    assert!(!journal.held().contains_key(&stream(2)));
    // Once the rest is covered its file is deleted, where a sound one is kept for later.
    let mut covered = BTreeMap::new();
    covered.insert(stream(1), RangeSet::from_iter([SeqRange { first: 1, last: 7 }]));
    let mut out = Outbox::default();
    assert_eq!(journal.free(&covered, false, Instant::ZERO, &mut out)[0], rotten);
    let jobs: Vec<DiskJob> = core::iter::from_fn(|| out.pop()).collect();
    assert!(jobs.contains(&DiskJob::Delete { segment: rotten }), "{jobs:?}");
    let recovered = disk.recover();
    assert_eq!(recovered.events.len(), 1, "a restart would find it, too");
    assert!(matches!(recovered.events[0], Event::JournalDamaged { .. }));
    assert_eq!(recovered.lost, verified.lost, "and would know what stood there");
}

#[test]
fn a_start_knows_what_stood_at_the_end_of_a_segment_that_rotted_there() {
    let (mut disk, mut journal) = filled();
    let rotten = SegmentId(1);
    let last = journal.durable_end(rotten).unwrap() as usize - PAGE_BYTES;
    let mut out = Outbox::default();
    journal.note_damaged_place(rotten, last as u32, &mut out);
    let Some(DiskJob::Foot { offset, bytes, .. }) = out.pop() else {
        panic!("no footer")
    };
    let file = disk.files.get_mut(&rotten).unwrap();
    file[offset as usize..].copy_from_slice(&bytes);
    file[last..last + PAGE_BYTES].fill(0);
    // Nothing in the segment stands behind it any more, and nothing that follows was written by the same life.
    disk.files.retain(|segment, _| *segment == rotten);
    let recovered = disk.recover();
    assert!(!recovered.lost.is_empty());
    assert!(recovered.segments[&rotten].is_damaged);
    assert!(
        matches!(recovered.events[..], [Event::JournalDamaged { segment, .. }] if segment == rotten),
        "{recovered:?}"
    );
}

#[test]
fn a_damaged_segment_stays_while_what_stood_there_is_sought_and_over_a_start() {
    let (mut disk, mut journal) = filled();
    let rotten = SegmentId(1);
    // All of it: nothing in the file is a block any more.
    let end = journal.durable_end(rotten).unwrap() as usize;
    let mut out = Outbox::default();
    journal.note_damaged_place(rotten, 0, &mut out);
    let Some(DiskJob::Foot { offset, bytes, .. }) = out.pop() else {
        panic!("no footer")
    };
    let lost = journal.claimed(rotten);
    let file = disk.files.get_mut(&rotten).unwrap();
    file[..end].fill(0);
    file[offset as usize..].copy_from_slice(&bytes);
    journal.lose(rotten, &lost);
    let covered = BTreeMap::new();
    assert!(
        !journal
            .free(&covered, true, Instant::ZERO, &mut Outbox::default())
            .contains(&rotten)
    );
    let recovered = disk.recover();
    assert_eq!(recovered.lost, lost);
    let mut next = Journal::new(small(), super::tests::epoch(2), recovered);
    assert!(next.damaged_places() > 0, "its file is not taken for a free one");
    assert!(
        !next
            .free(&covered, true, Instant::ZERO, &mut Outbox::default())
            .contains(&rotten)
    );
    assert!(
        next.free(&covered, false, Instant::ZERO, &mut Outbox::default())
            .contains(&rotten)
    );
}

#[test]
fn what_is_whole_elsewhere_is_not_lost() {
    let (mut disk, mut journal) = filled();
    disk.append(&mut journal, &[run(1, 4, 2, 100)]);
    let gone = journal
        .lose(SegmentId(1), &BTreeMap::from([(stream(1), RangeSet::from_iter([SeqRange { first: 1, last: 5 }]))]));
    assert_eq!(gone, [(stream(1), RangeSet::from_iter([SeqRange { first: 1, last: 3 }]))]);
}

#[test]
fn a_suspect_goes_first_and_at_once_and_the_pass_goes_on_where_it_was() {
    let (disk, mut journal) = filled();
    let mut now = Instant::ZERO + HOUR;
    let mut scrub = Scrub::new(config(), Instant::ZERO);
    let first = scrub.wants_read(&journal).unwrap();
    scrub.handle_reading(&first, &journal, now);
    scrub.suspect(SegmentId(2));
    assert!(scrub.is_urgent() && scrub.is_suspect(SegmentId(2)));
    assert_eq!(scrub.next_deadline().at, Instant::ZERO, "no rest before it");
    assert_eq!(scrub.wants_read(&journal).unwrap().segment, SegmentId(2));
    assert!(verify(&mut scrub, &disk, &mut journal, &mut now).is_empty());
    assert!(!scrub.is_urgent());
    assert_eq!(scrub.counts().passes, 1, "all of it was verified");
    scrub.suspect(SegmentId(9));
    scrub.handle_freed(&[SegmentId(9)]);
    assert!(!scrub.is_urgent(), "a segment that is gone is no suspect");
}

#[test]
fn a_block_longer_than_a_read_is_read_whole() {
    let config = JournalConfig::sized(1024 * 1024, 8);
    let (mut disk, mut journal) = (Disk::default(), Journal::new(config, epoch(1), Recovered::default()));
    let long = SCRUB_READ_BYTES as usize + 50_000;
    disk.append(&mut journal, &[run(1, 1, 1, 100)]);
    disk.append(&mut journal, &[run(1, 2, 1, long)]);
    disk.append(&mut journal, &[run(1, 3, 1, 100)]);
    let mut now = Instant::ZERO + HOUR;
    let mut scrub = Scrub::new(self::config(), Instant::ZERO);
    assert!(verify(&mut scrub, &disk, &mut journal, &mut now).is_empty());
    disk.files.get_mut(&SegmentId(1)).unwrap()[PAGE_BYTES + long / 2] ^= 1;
    scrub.suspect(SegmentId(1));
    let found = verify(&mut scrub, &disk, &mut journal, &mut now);
    let (_, at_the_end) = found.iter().find(|(_, verified)| !verified.lost.is_empty()).unwrap();
    assert_eq!(at_the_end.lost[&stream(1)].ranges(), [SeqRange { first: 2, last: 2 }]);
}

#[test]
fn nothing_is_verified_at_the_rate_of_zero_but_a_suspect() {
    let (disk, mut journal) = filled();
    let mut now = Instant::ZERO + HOUR * 5;
    let mut scrub = Scrub::new(RepairConfig { scrub_bytes_per_s: 0, ..config() }, Instant::ZERO);
    assert_eq!(scrub.wants_read(&journal), None);
    scrub.suspect(SegmentId(1));
    verify(&mut scrub, &disk, &mut journal, &mut now);
    assert!(scrub.counts().bytes > 0);
    assert_eq!(scrub.wants_read(&journal), None);
}

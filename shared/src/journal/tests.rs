//! The journal against a plain in-memory disk.

use super::format::{Found, decode};
use super::recover::Recovery;
use super::*;
use crate::event::Event;
use crate::ids::{BoardId, Class, Origin};
use crate::limits::{FOOTER_BYTES, OWN_SEGMENTS};

pub(super) const NOW: Instant = Instant::ZERO;

pub(super) fn epoch(boot: u32) -> Epoch {
    Epoch { boot, nonce: 77 }
}

pub(super) fn stream(board: u8) -> Stream {
    let origin = Origin { board: BoardId::new(board).unwrap(), epoch: epoch(1) };
    Stream { origin, class: Class::Event }
}

pub(super) fn run(board: u8, first: u64, count: u32, bytes: usize) -> Run {
    Run::new(stream(board), first, count, Bytes::from(alloc::vec![board; bytes]))
}

pub(super) fn small() -> JournalConfig {
    JournalConfig::sized(12 * PAGE_BYTES as u32, 8)
}

#[derive(Default)]
pub(super) struct Disk {
    /// More files than that there is no room for.
    pub(super) files_max: Option<usize>,
    pub(super) files: BTreeMap<SegmentId, Vec<u8>>,
    free: BTreeMap<SegmentId, Vec<u8>>,
    done: Vec<Token>,
}

impl Disk {
    pub(super) fn drain(&mut self, journal: &mut Journal, out: &mut Outbox<DiskJob>) {
        while let Some(job) = out.pop() {
            match job {
                DiskJob::Prepare { segment, from: None, .. }
                    if self.files_max.is_some_and(|max| self.files.len() + self.free.len() >= max) =>
                {
                    journal.handle_no_room(segment, NOW, out);
                }
                DiskJob::Prepare { segment, from, bytes, .. } => {
                    let file = from.and_then(|from| self.free.remove(&from).or_else(|| self.files.remove(&from)));
                    self.files
                        .insert(segment, file.unwrap_or_else(|| alloc::vec![0; bytes as usize]));
                    journal.handle_prepared(segment, NOW, out);
                }
                DiskJob::Append { token, segment, offset, bytes } => {
                    let file = self.files.get_mut(&segment).unwrap();
                    file[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
                    self.done.push(token);
                }
                DiskJob::Foot { segment, offset, bytes, .. } => {
                    let file = self.files.get_mut(&segment).unwrap();
                    file[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
                }
                DiskJob::Delete { segment } => {
                    self.files.remove(&segment);
                }
                DiskJob::Free { segment } => {
                    let file = self.files.remove(&segment).unwrap();
                    self.free.insert(segment, file);
                }
                DiskJob::Read { .. } | DiskJob::Verify { .. } | DiskJob::Remember(_) => unreachable!("not asked here"),
            }
        }
    }

    pub(super) fn append(&mut self, journal: &mut Journal, runs: &[Run]) {
        let mut out = Outbox::default();
        journal.prepare(NOW, &mut out);
        self.drain(journal, &mut out);
        assert!(journal.can_append(runs.iter().map(|run| run.bytes.len() + RUN_OVERHEAD).sum(), room::UPKEEP));
        journal.append(runs, NOW, &mut out);
        self.drain(journal, &mut out);
        let token = self.done.pop().unwrap();
        assert_eq!(journal.handle_appended(token).len(), runs.len());
        journal.check();
    }

    /// Segments, and free files.
    fn count(&self) -> (usize, usize) {
        (self.files.len(), self.free.len())
    }

    pub(super) fn recover(&self) -> Recovered {
        self.recover_counting().0
    }

    fn without_footers(&self) -> Self {
        let mut bare = Self { files: self.files.clone(), ..Self::default() };
        for file in bare.files.values_mut() {
            let at = file.len() - FOOTER_BYTES as usize;
            file[at + 20] ^= 1;
        }
        bare
    }

    /// What is recovered, and how many bytes were read for it.
    fn recover_counting(&self) -> (Recovered, usize) {
        let (mut recovery, mut count) = (Recovery::new(), 0);
        for id in self.free.keys() {
            recovery.handle_free(*id);
        }
        for (id, bytes) in &self.files {
            let length = bytes.len() as u32;
            let at = footer::footer_at(length).unwrap() as usize;
            count += FOOTER_BYTES as usize;
            if recovery.handle_footer(*id, length, &bytes[at..]) {
                continue;
            }
            let read = |offset: u32, window: &mut [u8]| {
                count += window.len();
                window.copy_from_slice(&bytes[offset as usize..offset as usize + window.len()]);
                Ok::<(), core::convert::Infallible>(())
            };
            let Ok(()) = recovery.handle_segment(*id, length, read);
        }
        (recovery.finish(), count)
    }
}

fn filled() -> (Disk, Journal) {
    let mut disk = Disk::default();
    let mut journal = Journal::new(small(), epoch(1), Recovered::default());
    disk.append(&mut journal, &[run(1, 1, 3, 100), run(2, 1, 1, 5000)]);
    disk.append(&mut journal, &[run(1, 4, 2, 50)]);
    (disk, journal)
}

#[test]
fn what_was_appended_is_recovered() {
    let (disk, journal) = filled();
    let recovered = disk.recover();
    assert!(recovered.events.is_empty(), "{:?}", recovered.events);
    let again = Journal::new(small(), epoch(2), recovered);
    assert_eq!(again.held(), journal.held());
    assert_eq!(again.held()[&stream(1)].watermark(), 5);
}

#[test]
fn a_torn_tail_is_cut_and_damage_before_a_block_is_told_apart() {
    let (disk, _) = filled();
    let id = *disk.files.keys().next().unwrap();
    // The second block stands on the third page: 100 + 5000 bytes take two.
    let mut torn = Disk { files: disk.files.clone(), ..Disk::default() };
    torn.files.get_mut(&id).unwrap()[2 * PAGE_BYTES + 120] ^= 1;
    let recovered = torn.recover();
    assert_eq!(recovered.events, [Event::TornTail { segment: id, offset: 2 * PAGE_BYTES as u32 }]);
    assert_eq!(recovered.segments[&id].streams[&stream(1)].ranges.watermark(), 3);

    let mut damaged = Disk { files: disk.files.clone(), ..Disk::default() };
    damaged.files.get_mut(&id).unwrap()[120] ^= 1;
    let recovered = damaged.recover();
    assert_eq!(recovered.events, [Event::JournalDamaged { segment: id, offset: 0 }]);
    assert_eq!(recovered.segments[&id].streams[&stream(1)].ranges.ranges(), [SeqRange { first: 4, last: 5 }]);
}

#[test]
fn every_flipped_bit_of_a_block_is_noticed() {
    let place = Place { segment: SegmentId(3), offset: 0, epoch: epoch(1), number: 0, known: 0, previous: 0 };
    let (bytes, _) = encode(&place, &[run(1, 1, 2, 40)]);
    let written = format::HEADER_BYTES + 40 + 20;
    assert!(matches!(decode(SegmentId(3), 0, &bytes), Found::Block { .. }));
    assert_eq!(decode(SegmentId(4), 0, &bytes), Found::Nothing, "a recycled file's old block");
    assert_eq!(decode(SegmentId(3), 4096, &bytes), Found::Nothing, "a block at another place");
    for bit in 0..written * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Found::Block { runs, .. } = decode(SegmentId(3), 0, &bad) {
            assert_eq!(runs, [run(1, 1, 2, 40)], "bit {bit} changed what is read");
        }
    }
    for cut in 0..written {
        let _ = decode(SegmentId(3), 0, &bytes[..cut]);
    }
}

#[test]
fn covered_segments_are_recycled_and_each_class_ends_at_its_floor() {
    let mut disk = Disk::default();
    let mut journal = Journal::new(JournalConfig { covered_kept: 0, ..small() }, epoch(1), Recovered::default());
    let floors = [OWN_SEGMENTS + 1, OWN_SEGMENTS];
    let mut out = Outbox::default();
    journal.prepare(NOW, &mut out);
    disk.drain(&mut journal, &mut out);
    let mut seq = 1;
    for (class, floor) in [Class::Event, Class::Alarm].into_iter().zip(floors) {
        assert_eq!(journal.floor(class), floor);
        while journal.can_append(20_000 + RUN_OVERHEAD, floor) {
            disk.append(&mut journal, &[run(1, seq, 1, 20_000)]);
            seq += 1;
        }
        assert_eq!(journal.available(), floor);
        assert!(!journal.takes(class));
    }
    assert!(journal.is_full());
    assert!(journal.can_append(20_000, room::UPKEEP), "the journal's own");
    let mut covered = BTreeMap::new();
    covered.insert(stream(1), RangeSet::from_iter([SeqRange { first: 1, last: seq - 1 }]));
    let freed = journal.free(&covered, false, NOW, &mut out);
    assert_eq!(freed.len(), 5, "all but the active one");
    disk.drain(&mut journal, &mut out);
    assert!(journal.takes(Class::Bulk));
    disk.append(&mut journal, &[run(1, seq, 1, 20_000)]);
    let found = disk.recover();
    assert_eq!(found.segments.values().filter(|found| found.end > 0).count(), 2);
    assert_eq!(found.segments.len() + found.free.len(), disk.files.len() + disk.free.len());
    assert!(disk.free.len() <= 4, "the others are deleted");
}

#[test]
fn segments_that_short_lives_left_empty_are_used_again() {
    let mut disk = Disk::default();
    for life in 1..=10 {
        let mut journal = Journal::new(small(), epoch(life), disk.recover());
        assert!(!journal.is_full(), "life {life}");
        let mut out = Outbox::default();
        journal.prepare(NOW, &mut out);
        disk.drain(&mut journal, &mut out);
        assert!(journal.can_append(100, journal.floor(Class::Bulk)), "life {life}");
    }
    assert_eq!(disk.files.len(), 2, "those that stand ready");
    let mut journal = Journal::new(small(), epoch(11), disk.recover());
    disk.append(&mut journal, &[run(1, 1, 1, 100)]);
    let found = disk.recover();
    let written = found
        .segments
        .iter()
        .find(|(_, found)| found.end > 0)
        .map(|(id, _)| *id)
        .unwrap();
    disk.files.get_mut(&written).unwrap()[format::HEADER_BYTES + 40] ^= 1;
    let found = disk.recover();
    assert!(found.segments[&written].is_broken, "there is a block, and it does not hold");
    assert_eq!(Journal::new(small(), epoch(12), found).fill().0, 1, "it is kept: it may be damage");
}

#[test]
fn a_segment_whose_end_was_durable_is_damaged_and_not_torn() {
    let mut disk = Disk::default();
    let mut journal = Journal::new(small(), epoch(1), Recovered::default());
    for seq in 1..=3 {
        disk.append(&mut journal, &[run(1, seq, 1, 12_000)]);
    }
    let ids: Vec<SegmentId> = disk.files.keys().copied().collect();
    let end = 3 * PAGE_BYTES;
    // The second block ends its segment; the third, in the next one, says that both before it were durable.
    for (at, what) in [(end + 60, "its header"), (end + 5000, "its payload")] {
        let mut rotten = disk.without_footers();
        rotten.files.get_mut(&ids[0]).unwrap()[at] ^= 1;
        let damaged = Event::JournalDamaged { segment: ids[0], offset: end as u32 };
        assert_eq!(rotten.recover().events, core::slice::from_ref(&damaged), "{what}");
        // Without the third nothing says so.
        rotten.files.remove(&ids[1]);
        assert!(!rotten.recover().events.contains(&damaged), "{what}");
    }
}

#[test]
fn a_sealed_payload_is_checked_without_its_key_and_opened_with_it() {
    let place = Place { segment: SegmentId(3), offset: 0, epoch: epoch(1), number: 4, known: 4, previous: 9 };
    let (plain, _) = encode(&place, &[run(1, 1, 2, 40)]);
    let cipher = |front: &[u8], payload: &mut [u8]| {
        payload.iter_mut().for_each(|byte| *byte ^= 0x5a);
        [front[32]; format::TAG_BYTES]
    };
    let mut sealed = plain.clone();
    let checksum = format::seal(&mut sealed, 7, 11, cipher).unwrap();
    let Found::Sealed(header) = decode(SegmentId(3), 0, &sealed) else {
        panic!("it is sealed")
    };
    assert_eq!((header.key, header.tag, header.checksum), (7, [4; format::TAG_BYTES], checksum));
    assert_eq!((header.place.previous, sealed.len()), (11, plain.len()));
    assert_eq!(format::seal(&mut sealed, 7, 11, cipher), None, "it is sealed already");
    let mut rotten = sealed.clone();
    rotten[format::HEADER_BYTES] ^= 1;
    assert!(matches!(decode(SegmentId(3), 0, &rotten), Found::Broken(_)), "found without the key");
    assert!(!format::open(&mut sealed.clone(), |_, _, _| false), "another key");
    assert!(format::open(&mut sealed, |front, payload, tag| cipher(front, payload) == *tag));
    let Found::Block { runs, .. } = decode(SegmentId(3), 0, &sealed) else {
        panic!("it is open")
    };
    assert_eq!(runs, [run(1, 1, 2, 40)]);
}

#[test]
fn a_start_believes_footers_and_scans_only_what_has_none() {
    let mut disk = Disk::default();
    let config = JournalConfig::sized(40 * PAGE_BYTES as u32, 16);
    let mut journal = Journal::new(config, epoch(1), Recovered::default());
    let mut seq = 1;
    while journal.fill().0 < 4 {
        disk.append(&mut journal, &[run(1, seq, 1, 30_000), run(2, seq, 1, 10)]);
        seq += 1;
    }
    let (footed, read) = disk.recover_counting();
    let segment_bytes = config.segment_bytes as usize;
    // The last one is still written to, and the next two stand ready.
    assert_eq!(read, 6 * FOOTER_BYTES as usize + 3 * segment_bytes, "three by their footers");
    // The same is found without: a footer that does not hold is none.
    let mut bare = disk.without_footers();
    let (mut scanned, read) = bare.recover_counting();
    assert_eq!(read, 6 * (FOOTER_BYTES as usize + segment_bytes));
    assert_eq!(scanned.segments.values().filter(|segment| segment.has_footer).count(), 0);
    let mut next = Journal::new(config, epoch(2), scanned.clone());
    for (segment, found) in &mut scanned.segments {
        found.has_footer = footed.segments[segment].has_footer;
    }
    assert_eq!(scanned, footed);
    // The next life gives them the footers that they lack.
    let mut out = Outbox::default();
    next.foot_earlier(&mut out);
    bare.drain(&mut next, &mut out);
    let (again, read) = bare.recover_counting();
    assert_eq!(read, 6 * FOOTER_BYTES as usize + 2 * segment_bytes, "but for those that hold nothing");
    assert_eq!(Journal::new(config, epoch(3), again).held(), journal.held());
}

#[test]
fn a_footer_is_believed_in_its_own_segment_alone_and_every_flipped_bit_is_noticed() {
    let mut segment = Segment::empty(64 * PAGE_BYTES as u32);
    segment.note(&run(1, 7, 3, 50), SeqRange { first: 7, last: 9 });
    segment.note_block(epoch(1), 4);
    segment.end = PAGE_BYTES as u32;
    let (at, bytes) = footer::encode(SegmentId(5), &segment).unwrap();
    assert_eq!(at, segment.file_bytes - FOOTER_BYTES);
    let there = Segment { has_footer: true, ..segment.clone() };
    assert_eq!(footer::decode(SegmentId(5), segment.file_bytes, &bytes), Some(there.clone()));
    assert_eq!(footer::decode(SegmentId(6), segment.file_bytes, &bytes), None, "an earlier life of a recycled file");
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for bit in 0..written * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let found = footer::decode(SegmentId(5), segment.file_bytes, &bad);
        assert!(found.is_none() || found.as_ref() == Some(&there), "bit {bit} changed what is read");
    }
    for cut in 0..written {
        assert_eq!(footer::decode(SegmentId(5), segment.file_bytes, &bytes[..cut]), None);
    }
    segment.end = at + PAGE_BYTES as u32;
    assert!(footer::encode(SegmentId(5), &segment).is_none(), "its blocks reach into the footer's place");
}

#[test]
fn a_segment_with_more_streams_than_fit_has_no_footer_and_is_scanned() {
    let mut segment = Segment::empty(64 * PAGE_BYTES as u32);
    segment.note_block(epoch(1), 0);
    let mut boots = 0;
    while footer::encode(SegmentId(1), &segment).is_some() {
        boots += 1;
        let origin = Origin { board: BoardId::new(1).unwrap(), epoch: Epoch { boot: boots, nonce: u64::MAX } };
        segment.insert(Stream { origin, class: Class::Bulk }, SeqRange { first: 1 << 40, last: 1 << 41 }, 1 << 20);
    }
    assert!(boots > 450, "{boots} streams fit");
}

#[test]
fn a_segment_that_was_zeroed_or_swapped_in_the_middle_of_a_life_is_damage() {
    let mut disk = Disk::default();
    let mut journal = Journal::new(small(), epoch(1), Recovered::default());
    for seq in 1..=4 {
        disk.append(&mut journal, &[run(1, seq, 1, 20_000)]);
    }
    let ids: Vec<SegmentId> = disk.files.keys().copied().collect();
    let damaged = Event::JournalDamaged { segment: ids[1], offset: 0 };
    assert!(disk.recover().events.is_empty());
    let mut zeroed = Disk { files: disk.files.clone(), ..Disk::default() };
    zeroed.files.get_mut(&ids[1]).unwrap().fill(0);
    assert_eq!(zeroed.recover().events, core::slice::from_ref(&damaged));
    let mut swapped = Disk { files: disk.files.clone(), ..Disk::default() };
    let other = disk.files[&ids[0]].clone();
    swapped.files.insert(ids[1], other);
    assert_eq!(swapped.recover().events, core::slice::from_ref(&damaged));
    // A segment that is freed and one that no life has written to are no damage.
    let mut freed = Disk { files: disk.files.clone(), ..Disk::default() };
    freed.files.remove(&ids[1]);
    assert!(freed.recover().events.is_empty());
}

/// What the next new file is asked to be, once a segment was filled with blocks of `bytes` bytes.
fn is_written_through(bytes: usize) -> bool {
    let (mut disk, mut journal) = (Disk::default(), Journal::new(small(), epoch(1), Recovered::default()));
    let mut out = Outbox::default();
    journal.prepare(NOW, &mut out);
    assert!(
        matches!(out.pop(), Some(DiskJob::Prepare { written: false, .. })),
        "nothing is known of commits yet"
    );
    journal.handle_prepared(SegmentId(1), NOW, &mut out);
    disk.files.insert(SegmentId(1), alloc::vec![0; small().segment_bytes as usize]);
    disk.drain(&mut journal, &mut out);
    // The first block opens the first segment: that file is asked for before any segment is full.
    let mut earlier = None;
    for first in 1.. {
        let mut out = Outbox::default();
        journal.append(&[run(1, first, 1, bytes)], NOW, &mut out);
        let mut asked = None;
        while let Some(job) = out.pop() {
            match job {
                DiskJob::Prepare { segment, written, .. } => {
                    asked = Some(written);
                    journal.handle_prepared(segment, NOW, &mut Outbox::default());
                }
                DiskJob::Append { token, .. } => drop(journal.handle_appended(token)),
                _ => {}
            }
        }
        if let (Some(asked), Some(_)) = (asked, earlier) {
            return asked;
        }
        earlier = earlier.or(asked);
    }
    unreachable!("a segment becomes full")
}

#[test]
fn a_file_is_written_through_where_commits_take_few_pages() {
    assert!(is_written_through(100));
    // Two pages each.
    assert!(is_written_through(PAGE_BYTES));
    // Three, and as many as there are.
    assert!(!is_written_through(2 * PAGE_BYTES));
    assert!(!is_written_through(7 * PAGE_BYTES));
}

/// A journal that writes four files ahead, and the first two files asked of it: each is made at once.
fn just_started() -> (Journal, Vec<(SegmentId, bool)>, Outbox<DiskJob>) {
    let config = JournalConfig::sized(12 * PAGE_BYTES as u32, 32);
    assert_eq!(config.written_ahead, 4);
    let mut journal = Journal::new(config, epoch(1), Recovered::default());
    let (mut asked, mut out) = (Vec::new(), Outbox::default());
    journal.prepare(NOW, &mut out);
    while let Some(DiskJob::Prepare { segment, from: None, written, .. }) = out.pop() {
        asked.push((segment, written));
        journal.handle_prepared(segment, NOW, &mut out);
    }
    (journal, asked, out)
}

/// The file that is asked for at the journal's deadline, which is not before `after`.
fn asked_ahead(journal: &mut Journal, after: Instant) -> Option<(SegmentId, Instant)> {
    let at = journal.next_deadline().at;
    if at == Instant::NEVER {
        return None;
    }
    assert!(at > after, "one after another");
    let mut out = Outbox::default();
    let just_before = Instant::from_micros(at.micros() - 1);
    journal.prepare(just_before, &mut out);
    assert_eq!(out.pop(), None, "not before its time");
    journal.prepare(at, &mut out);
    match out.pop() {
        Some(DiskJob::Prepare { segment, from: None, written: true, .. }) => Some((segment, at)),
        other => unreachable!("{other:?} is no file that is written ahead"),
    }
}

#[test]
fn the_first_files_are_written_ahead_one_after_another_and_are_free() {
    let (mut journal, asked, _) = just_started();
    // Records wait for the first.
    assert_eq!(asked, [(SegmentId(1), false), (SegmentId(2), true)]);
    let (mut now, mut freed) = (NOW, Vec::new());
    while let Some((segment, at)) = asked_ahead(&mut journal, now) {
        let mut out = Outbox::default();
        now = at;
        journal.handle_prepared(segment, now, &mut out);
        assert_eq!(out.pop(), Some(DiskJob::Free { segment }));
        assert_eq!(out.pop(), None);
        freed.push(segment);
    }
    assert_eq!(freed, [SegmentId(3), SegmentId(4)], "two stand ready, two are free: four in all");
    // They are what the next segments are made of.
    let mut out = Outbox::default();
    journal.append(&[run(1, 1, 1, 100)], now, &mut out);
    assert!(matches!(out.pop(), Some(DiskJob::Append { .. })));
    assert!(matches!(out.pop(), Some(DiskJob::Prepare { from: Some(SegmentId(4)), .. })));
}

#[test]
fn a_device_without_room_for_a_file_that_is_not_needed_is_not_full() {
    let (mut journal, ..) = just_started();
    let (segment, at) = asked_ahead(&mut journal, NOW).unwrap();
    let before = journal.available();
    journal.handle_no_room(segment, at, &mut Outbox::default());
    assert!(!journal.is_device_full());
    assert_eq!(journal.available(), before);
    assert_eq!(journal.next_deadline().at, at + core::time::Duration::from_secs(60), "asked again, but seldom");
    assert!(asked_ahead(&mut journal, at).is_some());
}

#[test]
fn freed_files_are_kept_as_far_as_the_limit_allows() {
    // What was written ahead stays, too: else it would be written again and again.
    for (segments_max, written_ahead, kept) in [(8, 1, 4), (60, 7, 32), (100, 40, 40)] {
        let sized = JournalConfig::sized(12 * PAGE_BYTES as u32, segments_max);
        let config = JournalConfig { covered_kept: 0, written_ahead, ..sized };
        let (mut disk, mut journal) = (Disk::default(), Journal::new(config, epoch(1), Recovered::default()));
        let mut first = 1;
        while journal.fill().0 < segments_max as usize - 3 {
            disk.append(&mut journal, &[run(1, first, 1, 2 * PAGE_BYTES)]);
            first += 1;
        }
        let mut out = Outbox::default();
        let covered = BTreeMap::from([(stream(1), journal.held()[&stream(1)].clone())]);
        journal.free(&covered, false, NOW, &mut out);
        disk.drain(&mut journal, &mut out);
        let (files, free) = disk.count();
        assert_eq!(free, kept, "of {segments_max}");
        assert!(files + free <= segments_max as usize, "{files} and {free} of {segments_max}");
    }
}

/// A journal of `segments` segments that the region has, of a configuration that keeps four of them.
fn covered_journal(segments: usize) -> (Disk, Journal, BTreeMap<Stream, RangeSet>) {
    let config = JournalConfig { covered_kept: 4, ..JournalConfig::sized(12 * PAGE_BYTES as u32, 32) };
    let (mut disk, mut journal) = (Disk::default(), Journal::new(config, epoch(1), Recovered::default()));
    let mut first = 1;
    // One more is active: it is not looked at.
    while journal.fill().0 <= segments {
        disk.append(&mut journal, &[run(1, first, 1, 2 * PAGE_BYTES)]);
        first += 1;
    }
    let covered = BTreeMap::from([(stream(1), journal.held()[&stream(1)].clone())]);
    (disk, journal, covered)
}

/// Both sides of the limit; and what stays is known to be covered by the next life, until the region has lost it.
#[test]
fn the_newest_segments_that_the_region_has_stay_and_a_start_knows_them() {
    for (segments, freed) in [(4, 0), (5, 1), (12, 8)] {
        let (mut disk, mut journal, covered) = covered_journal(segments);
        let mut out = Outbox::default();
        assert_eq!(journal.free(&covered, false, NOW, &mut out).len(), freed, "of {segments}");
        disk.drain(&mut journal, &mut out);
        assert_eq!(journal.free(&covered, false, NOW, &mut out), [], "nothing goes that is not replaced");
        assert!(out.pop().is_none(), "what is said to be covered is not said again");
        assert_eq!(journal.fill().0, 5);
        let kept = journal.covered();
        assert!(kept[&stream(1)].last() < covered[&stream(1)].last(), "the active segment is not in it");
        let next = Journal::new(*journal.config(), epoch(2), disk.recover());
        assert_eq!(next.covered(), kept);
        let scanned = Journal::new(*journal.config(), epoch(2), disk.without_footers().recover());
        assert_eq!(scanned.covered(), BTreeMap::new(), "a footer that does not hold says nothing");

        journal.handle_went_back(&stream(2), &mut out);
        assert!(out.pop().is_none() && journal.covered() == kept, "another stream");
        journal.handle_went_back(&stream(1), &mut out);
        let mut again = Vec::new();
        while let Some(job) = out.pop() {
            assert!(matches!(job, DiskJob::Foot { synced: true, .. }));
            again.push(job);
        }
        assert_eq!(again.len(), 4);
        again.into_iter().for_each(|job| out.push(job));
        disk.drain(&mut journal, &mut out);
        assert_eq!(journal.covered(), BTreeMap::new());
        assert_eq!(Journal::new(*journal.config(), epoch(2), disk.recover()).covered(), BTreeMap::new());
    }
}

/// Seen to fail where room is not asked for before keeping.
#[test]
fn what_the_region_has_gives_way_segment_by_segment_before_room_is_short() {
    let (mut disk, mut journal, covered) = covered_journal(4);
    let mut out = Outbox::default();
    journal.free(&covered, false, NOW, &mut out);
    disk.drain(&mut journal, &mut out);
    let mut first = covered[&stream(1)].last().unwrap() + 1;
    let mut counts = Vec::new();
    while journal.covered() != BTreeMap::new() {
        assert!(!journal.may_free_covered(), "room was made before");
        disk.append(&mut journal, &[run(1, first, 1, 2 * PAGE_BYTES)]);
        first += 1;
        if journal.may_free_covered() {
            counts.push(journal.free(&covered, false, NOW, &mut out).len());
            disk.drain(&mut journal, &mut out);
        }
        assert!(journal.takes(Class::Event), "nothing waits for what the region has");
    }
    assert_eq!(counts, [1; 4]);
}

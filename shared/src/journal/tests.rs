//! The journal against a plain in-memory disk.

use super::format::{Found, decode};
use super::recover::Recovery;
use super::*;
use crate::event::Event;
use crate::ids::{BoardId, Class, Origin};

fn epoch(boot: u32) -> Epoch {
    Epoch { boot, nonce: 77 }
}

fn stream(board: u8) -> Stream {
    let origin = Origin { board: BoardId::new(board).unwrap(), epoch: epoch(1) };
    Stream { origin, class: Class::Event }
}

fn run(board: u8, first: u64, count: u32, bytes: usize) -> Run {
    Run::new(stream(board), first, count, Bytes::from(alloc::vec![board; bytes]))
}

fn small() -> JournalConfig {
    JournalConfig { segment_bytes: 8 * PAGE_BYTES as u32, segments_max: 3 }
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<SegmentId, Vec<u8>>,
    done: Vec<Token>,
}

impl Disk {
    fn drain(&mut self, journal: &mut Journal, out: &mut Outbox<DiskJob>) {
        while let Some(job) = out.pop() {
            match job {
                DiskJob::Prepare { segment, from, bytes } => {
                    let file = from.and_then(|from| self.files.remove(&from));
                    self.files
                        .insert(segment, file.unwrap_or_else(|| alloc::vec![0; bytes as usize]));
                    journal.handle_prepared(segment);
                }
                DiskJob::Append { token, segment, offset, bytes } => {
                    let file = self.files.get_mut(&segment).unwrap();
                    file[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
                    self.done.push(token);
                }
                DiskJob::Delete { segment } => {
                    self.files.remove(&segment);
                }
                DiskJob::Read { .. } | DiskJob::Remember(_) => unreachable!("not asked here"),
            }
        }
    }

    fn append(&mut self, journal: &mut Journal, runs: &[Run]) {
        let mut out = Outbox::default();
        journal.prepare(&mut out);
        self.drain(journal, &mut out);
        assert!(journal.can_append(runs.iter().map(|run| run.bytes.len() + RUN_OVERHEAD).sum()));
        journal.append(runs, &mut out);
        self.drain(journal, &mut out);
        let token = self.done.pop().unwrap();
        assert_eq!(journal.handle_appended(token).len(), runs.len());
        journal.check();
    }

    fn recover(&self) -> Recovered {
        let mut recovery = Recovery::new();
        for (id, bytes) in &self.files {
            recovery.handle_segment(*id, bytes);
        }
        recovery.finish()
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
    torn.files.get_mut(&id).unwrap()[2 * PAGE_BYTES + 80] ^= 1;
    let recovered = torn.recover();
    assert_eq!(recovered.events, [Event::TornTail { segment: id, offset: 2 * PAGE_BYTES as u32 }]);
    assert_eq!(recovered.segments[&id].streams[&stream(1)].watermark(), 3);

    let mut damaged = Disk { files: disk.files.clone(), ..Disk::default() };
    damaged.files.get_mut(&id).unwrap()[80] ^= 1;
    let recovered = damaged.recover();
    assert_eq!(recovered.events, [Event::JournalDamaged { segment: id, offset: 0 }]);
    assert_eq!(recovered.segments[&id].streams[&stream(1)].ranges(), [SeqRange { first: 4, last: 5 }]);
}

#[test]
fn every_flipped_bit_of_a_block_is_noticed() {
    let place = Place { segment: SegmentId(3), offset: 0, epoch: epoch(1), number: 0, previous: 0 };
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
fn covered_segments_are_recycled_and_the_limit_holds() {
    let mut disk = Disk::default();
    let mut journal = Journal::new(small(), epoch(1), Recovered::default());
    let mut seq = 1;
    while journal.fill().0 < 3 {
        disk.append(&mut journal, &[run(1, seq, 1, 20_000)]);
        seq += 1;
    }
    assert!(journal.is_full());
    assert!(!journal.can_append(20_000), "no room past the limit");
    let mut covered = BTreeMap::new();
    covered.insert(stream(1), RangeSet::from_iter([SeqRange { first: 1, last: seq - 1 }]));
    let mut out = Outbox::default();
    let freed = journal.free(&covered, &mut out);
    assert_eq!(freed.len(), 2, "all but the active one");
    disk.drain(&mut journal, &mut out);
    disk.append(&mut journal, &[run(1, seq, 1, 20_000)]);
    assert_eq!(disk.recover().segments.len(), disk.files.len());
    assert_eq!(disk.recover().segments.values().filter(|found| found.end > 0).count(), 2);
}

#[test]
fn segments_that_short_lives_left_empty_are_used_again() {
    let mut disk = Disk::default();
    for life in 1..=10 {
        let mut journal = Journal::new(small(), epoch(life), disk.recover());
        assert!(!journal.is_full(), "life {life}");
        let mut out = Outbox::default();
        journal.prepare(&mut out);
        disk.drain(&mut journal, &mut out);
        assert!(journal.can_append(100), "life {life}");
    }
    assert_eq!(disk.files.len(), 1);
    let mut journal = Journal::new(small(), epoch(11), disk.recover());
    disk.append(&mut journal, &[run(1, 1, 1, 100)]);
    let written = disk.files.keys().next().copied().unwrap();
    disk.files.get_mut(&written).unwrap()[format::HEADER_BYTES + 40] ^= 1;
    let found = disk.recover();
    assert!(found.segments[&written].is_broken, "there is a block, and it does not hold");
    assert_eq!(Journal::new(small(), epoch(12), found).fill().0, 1, "it is kept: it may be damage");
}

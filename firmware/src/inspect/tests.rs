//! Real directories, whole and harmed, looked at while a board writes them and after.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use shared::action::{DiskDone, DiskJob};
use shared::config::JournalConfig;
use shared::event::Event;
use shared::ids::{Class, Origin, Token};
use shared::journal::Journal;
use shared::journal::format::{Place, encode};
use shared::journal::recover::Recovery;
use shared::limits::PAGE_BYTES;
use shared::outbox::Outbox;
use shared::record::{GapReason, Key, Kind, Reading};
use shared::time::{Instant, WallMillis};
use shared::wire::peer::Run;

use super::tally::{StreamLine, tally};
use super::verdict::{Damage, DamageFault, Verdict, verify};
use super::walk::Walked;
use super::*;
use crate::disk::system::System;
use crate::disk::volume::Volume;

const SEGMENT_BYTES: u32 = 16 * PAGE_BYTES as u32;

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("roadstead-inspect-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn open(&self) -> JournalDir {
        JournalDir::open(&self.0).unwrap()
    }

    fn segment(&self, segment: u64) -> PathBuf {
        self.0.join(format!("{segment:016x}.seg"))
    }

    /// Overwrites what stands at `offset` of a segment.
    fn spoil(&self, segment: u64, offset: u32, bytes: &[u8]) {
        let file = fs::OpenOptions::new().write(true).open(self.segment(segment)).unwrap();
        file.write_all_at(bytes, offset.into()).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A board's journal, written block by block.
struct Writer {
    volume: Volume,
    epoch: Epoch,
    segment_bytes: u32,
    segment: u64,
    offset: u32,
    number: u64,
    previous: u32,
}

impl Writer {
    fn new(scratch: &Scratch) -> Self {
        Self::with_segments_of(scratch, SEGMENT_BYTES)
    }

    fn with_segments_of(scratch: &Scratch, segment_bytes: u32) -> Self {
        let site = Name::try_from("north").unwrap();
        let found = Volume::open(Arc::new(System), &scratch.0, (&site, board(1)), 7).unwrap();
        let last = found.recovered.segments.keys().next_back().map_or(0, |last| last.0);
        let mut writer = Self {
            volume: found.volume,
            epoch: found.epoch,
            segment_bytes,
            segment: last,
            offset: 0,
            number: 0,
            previous: 0,
        };
        writer.next_segment();
        writer
    }

    fn next_segment(&mut self) {
        self.segment += 1;
        self.offset = 0;
        let job = DiskJob::Prepare {
            segment: SegmentId(self.segment),
            from: None,
            bytes: self.segment_bytes,
            written: false,
        };
        self.volume.perform(job).unwrap();
    }

    /// Where the block stands.
    fn append(&mut self, runs: &[Run]) -> (u64, u32) {
        let place = |writer: &Self| Place {
            segment: SegmentId(writer.segment),
            offset: writer.offset,
            epoch: writer.epoch,
            number: writer.number,
            known: writer.number,
            previous: writer.previous,
        };
        if self.offset as usize + encode(&place(self), runs).0.len() > self.segment_bytes as usize {
            self.next_segment();
        }
        let (bytes, checksum) = encode(&place(self), runs);
        let at = (self.segment, self.offset);
        let segment = SegmentId(self.segment);
        self.offset += u32::try_from(bytes.len()).unwrap();
        let job = DiskJob::Append { token: Token(1), segment, offset: at.1, bytes: bytes.into() };
        self.volume.perform(job).unwrap();
        self.number += 1;
        self.previous = checksum;
        at
    }
}

fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

fn stream(number: u8, class: Class) -> Stream {
    Stream { origin: Origin { board: board(number), epoch: Epoch { boot: 1, nonce: 7 } }, class }
}

fn reading(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let key = Key::Sequence { epoch: 0, seq: 1 };
    Reading { kind, publisher: "loop-7", key, taken: WallMillis(5), topic: "det/7", payload }.encode(&mut bytes);
    bytes
}

fn run(stream: Stream, first: u64, count: u32) -> Run {
    Run::new(stream, first, count, reading(Kind::Reading, b"on").repeat(count as usize).into())
}

fn events(number: u8, first: u64, count: u32) -> Run {
    run(stream(number, Class::Event), first, count)
}

fn missing(damage: &Damage) -> Vec<(u8, u64, u64)> {
    damage
        .missing
        .iter()
        .map(|records| (records.stream.board, records.range.first, records.range.last))
        .collect()
}

/// Three blocks of a page each in segment 1: own events 1 to 9, copies of board 2.
fn three_blocks(scratch: &Scratch) -> Writer {
    let mut writer = Writer::new(scratch);
    writer.append(&[events(1, 1, 3), events(2, 5, 2)]);
    writer.append(&[events(1, 4, 3)]);
    writer.append(&[events(1, 7, 3), events(2, 7, 1)]);
    writer
}

#[test]
fn a_whole_journal_is_whole_and_nothing_is_changed() {
    let scratch = Scratch::new();
    drop(three_blocks(&scratch));
    let contents = || {
        let mut files: Vec<_> = fs::read_dir(&scratch.0)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = contents();
    let verdict = verify(&scratch.open(), None).unwrap();
    let tally = tally(&scratch.open(), None).unwrap();
    assert_eq!(contents(), before);
    let Verdict { whole, segments, blocks, records, damaged, torn, in_use, .. } = verdict;
    assert_eq!((whole, in_use, segments, blocks, records), (true, false, 1, 3, 12));
    assert!(damaged.is_empty() && torn.is_empty());
    let owner = verdict.state.owner.unwrap();
    assert_eq!((owner.board, owner.site.as_str(), owner.boot, owner.nonce), (1, "north", 1, 7));
    assert_eq!((tally.blocks, tally.used_bytes, tally.file_bytes), (3, 3 * 4096, SEGMENT_BYTES.into()));
}

#[test]
fn damage_is_placed_and_what_stood_there_is_told() {
    let scratch = Scratch::new();
    drop(three_blocks(&scratch));
    // The payload of the second block, which is short: a byte behind its header.
    scratch.spoil(1, 4096 + 100, b"rot");
    let verdict = verify(&scratch.open(), None).unwrap();
    assert!(!verdict.whole && verdict.torn.is_empty());
    let [damage] = verdict.damaged.as_slice() else {
        panic!("{:?}", verdict.damaged)
    };
    let place = (damage.segment.as_str(), damage.offset, damage.bytes, damage.fault);
    assert_eq!(place, ("0000000000000001", 4096, 4096, DamageFault::Payload));
    assert_eq!(missing(damage), [(1, 4, 6)]);
    scratch.spoil(1, 4096, &[0; 4096]);
    let verdict = verify(&scratch.open(), None).unwrap();
    assert_eq!(verdict.damaged[0].fault, DamageFault::Header);
    assert_eq!(missing(&verdict.damaged[0]), [(1, 4, 6)]);
}

/// With a footer it is known what stood at the damaged place, even where nothing of its stream stands around it.
#[test]
fn a_footer_tells_all_that_is_missing() {
    let scratch = Scratch::new();
    let config = JournalConfig { segment_bytes: SEGMENT_BYTES, ..JournalConfig::default() };
    let site = Name::try_from("north").unwrap();
    let mut found = Volume::open(Arc::new(System), &scratch.0, (&site, board(1)), 7).unwrap();
    let mut journal = Journal::new(config, found.epoch, found.recovered);
    let mut out = Outbox::default();
    journal.prepare(Instant::ZERO, &mut out);
    let blocks = [
        vec![events(3, 1, 2)],
        vec![events(1, 1, 1500)],
        vec![events(1, 1501, 1500)],
        vec![events(1, 3001, 1)],
    ];
    for runs in blocks.iter().map(Some).chain([None]) {
        while let Some(job) = out.pop() {
            match found.volume.perform(job).unwrap() {
                Some(DiskDone::Prepared { segment }) => journal.handle_prepared(segment, Instant::ZERO, &mut out),
                Some(DiskDone::Appended { token }) => drop(journal.handle_appended(token)),
                _ => {}
            }
        }
        if let Some(runs) = runs {
            journal.append(runs, Instant::ZERO, &mut out);
        }
    }
    assert!(scratch.open().footer(SegmentId(1)).is_some(), "the first segment is full");
    scratch.spoil(1, 100, b"rot");
    let verdict = verify(&scratch.open(), None).unwrap();
    let damage = &verdict.damaged[0];
    assert_eq!((missing(damage), damage.by_footer), (vec![(3, 1, 2)], true));
}

#[test]
fn records_that_stand_elsewhere_too_are_not_missing() {
    let scratch = Scratch::new();
    let mut writer = three_blocks(&scratch);
    writer.append(&[events(1, 5, 1)]);
    drop(writer);
    scratch.spoil(1, 4096 + 100, b"rot");
    let verdict = verify(&scratch.open(), None).unwrap();
    assert_eq!(missing(&verdict.damaged[0]), [(1, 4, 4), (1, 6, 6)]);
}

#[test]
fn a_torn_end_is_no_damage_unless_a_later_block_knows_better() {
    let scratch = Scratch::new();
    let mut writer = three_blocks(&scratch);
    scratch.spoil(1, 2 * 4096 + 100, b"rot");
    let verdict = verify(&scratch.open(), None).unwrap();
    assert!(verdict.whole, "{verdict:?}");
    assert_eq!((verdict.torn[0].offset, verdict.blocks), (2 * 4096, 2));
    // A block in the next segment says that this one was durable.
    writer.next_segment();
    writer.append(&[events(1, 10, 1)]);
    let verdict = verify(&scratch.open(), None).unwrap();
    assert!(!verdict.whole && verdict.torn.is_empty(), "{verdict:?}");
    let damage = &verdict.damaged[0];
    assert_eq!((damage.segment.as_str(), damage.offset), ("0000000000000001", 2 * 4096));
    assert_eq!(missing(damage), [(1, 7, 9)]);
}

#[test]
fn a_segment_emptied_in_the_middle_of_a_life_is_damage() {
    let scratch = Scratch::new();
    let mut writer = three_blocks(&scratch);
    writer.next_segment();
    writer.append(&[events(1, 10, 2)]);
    writer.next_segment();
    writer.append(&[events(1, 12, 1)]);
    drop(writer);
    scratch.spoil(2, 0, &vec![0; SEGMENT_BYTES as usize]);
    let verdict = verify(&scratch.open(), None).unwrap();
    let [damage] = verdict.damaged.as_slice() else {
        panic!("{:?}", verdict.damaged)
    };
    assert_eq!((damage.segment.as_str(), damage.offset), ("0000000000000002", 0));
    assert_eq!(missing(damage), [(1, 10, 11)]);
}

#[test]
fn a_block_put_where_another_belongs_is_noticed() {
    let scratch = Scratch::new();
    let mut writer = three_blocks(&scratch);
    // A whole block of the right place and life, which was never written there.
    let place = Place { segment: SegmentId(1), offset: 4096, epoch: writer.epoch, number: 1, known: 1, previous: 1 };
    let (forged, _) = encode(&place, &[events(1, 4, 1)]);
    scratch.spoil(1, 4096, &forged);
    writer.append(&[events(1, 10, 1)]);
    let faults: Vec<_> = verify(&scratch.open(), None)
        .unwrap()
        .damaged
        .iter()
        .map(|d| (d.offset, d.fault))
        .collect();
    assert_eq!(faults, [(4096, DamageFault::Order), (2 * 4096, DamageFault::Order)]);
}

/// Whatever is spoilt, the verdict and the next start agree.
#[test]
fn verdict_and_recovery_agree() {
    let mut dice = 0x9e37_79b9_u32;
    let mut roll = move |below: u32| {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (dice >> 8) % below
    };
    for round in 0..60 {
        let scratch = Scratch::new();
        let mut writer = Writer::new(&scratch);
        for number in 0..10 {
            writer.append(&[events(1, 1 + number * 150, 30 + roll(120))]);
        }
        let last = writer.segment;
        drop(writer);
        for _ in 0..1 + roll(3) {
            let segment = 1 + u64::from(roll(u32::try_from(last).unwrap()));
            let length = [1, 200, 4096, 9000][roll(4) as usize];
            scratch.spoil(segment, roll(SEGMENT_BYTES - length), &vec![round as u8; length as usize]);
        }
        let mut recovery = Recovery::new();
        for segment in 1..=last {
            let bytes = fs::read(scratch.segment(segment)).unwrap();
            let read = |offset: u32, window: &mut [u8]| {
                window.copy_from_slice(&bytes[offset as usize..offset as usize + window.len()]);
                Ok::<(), std::convert::Infallible>(())
            };
            let Ok(()) = recovery.handle_segment(SegmentId(segment), SEGMENT_BYTES, read);
        }
        let place = |segment: &SegmentId, offset: &u32| (format!("{:016x}", segment.0), *offset);
        let (mut damaged, mut torn) = (Vec::new(), Vec::new());
        for event in &recovery.finish().events {
            match event {
                Event::JournalDamaged { segment, offset } => damaged.push(place(segment, offset)),
                Event::TornTail { segment, offset } => torn.push(place(segment, offset)),
                other => panic!("{other}"),
            }
        }
        damaged.sort();
        let verdict = verify(&scratch.open(), None).unwrap();
        let mut ours: Vec<_> = verdict
            .damaged
            .iter()
            .map(|damage| (damage.segment.clone(), damage.offset))
            .collect();
        ours.sort();
        assert_eq!(ours, damaged, "round {round}");
        let ours: Vec<_> = verdict.torn.iter().map(|torn| (torn.segment.clone(), torn.offset)).collect();
        assert_eq!(ours, torn, "round {round}");
        assert_eq!(verdict.whole, damaged.is_empty(), "round {round}");
    }
}

#[test]
fn a_journal_that_is_being_written_is_never_called_damaged() {
    let scratch = Scratch::new();
    let mut writer = Writer::new(&scratch);
    writer.append(&[events(1, 1, 1)]);
    let done = Arc::new(AtomicBool::new(false));
    let writing = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            for seq in 2..1500 {
                writer.append(&[events(1, seq, 1), run(stream(1, Class::Bulk), seq, 300)]);
                if seq % 40 == 0 && writer.segment > 3 {
                    let segment = SegmentId(writer.segment - 3);
                    let _ = writer.volume.perform(DiskJob::Delete { segment });
                }
            }
            done.store(true, Ordering::Relaxed);
        })
    };
    let directory = scratch.open();
    let mut looks = 0;
    while !done.load(Ordering::Relaxed) {
        let verdict = verify(&directory, None).unwrap();
        assert!(verdict.whole, "{:?}", verdict.damaged);
        tally(&directory, None).unwrap();
        looks += 1;
    }
    writing.join().unwrap();
    assert!(looks > 1, "it was looked at while it was written");
}

#[test]
fn a_segment_that_goes_during_a_walk_does_not_count() {
    let scratch = Scratch::new();
    drop(three_blocks(&scratch));
    let walked = scratch.open().walk(SegmentId(1), |_| {
        let _ = fs::remove_file(scratch.segment(1));
        ControlFlow::Continue(())
    });
    assert_eq!(walked.unwrap(), Walked::Gone);
}

/// A block whose end is not there yet is waited for, where a board runs on the directory.
#[test]
fn a_block_that_is_half_written_is_waited_for() {
    let scratch = Scratch::new();
    let writer = three_blocks(&scratch);
    let lock = fs::File::create(scratch.0.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !scratch.open().is_in_use() {
        eprintln!("this file system does not tell who holds a lock: nothing was tried");
        return;
    }
    let place = Place {
        segment: SegmentId(1),
        offset: writer.offset,
        epoch: writer.epoch,
        number: writer.number,
        known: writer.number,
        previous: writer.previous,
    };
    let (block, _) = encode(&place, &[Run::new(stream(1, Class::Event), 10, 1, vec![7; 2 * PAGE_BYTES].into())]);
    let (front, rest) = block.split_at(PAGE_BYTES);
    scratch.spoil(1, writer.offset, front);
    let verdict = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            scratch.spoil(1, writer.offset + PAGE_BYTES as u32, rest);
        });
        verify(&scratch.open(), None).unwrap()
    });
    assert!(verdict.in_use && verdict.whole && verdict.torn.is_empty(), "{verdict:?}");
    assert_eq!(verdict.blocks, 4);
}

#[test]
fn counts_are_by_stream_and_gap_records_are_read() {
    let scratch = Scratch::new();
    let mut writer = three_blocks(&scratch);
    let gap = Gap {
        stream: stream(1, Class::Bulk),
        range: SeqRange { first: 1, last: 40 },
        bytes: 900,
        reason: GapReason::JournalFull,
    };
    let note = reading(Kind::Gap, &postcard::to_allocvec(&gap).unwrap());
    writer.append(&[Run::new(stream(1, Class::Alarm), 1, 1, note.into()), events(1, 9, 1), events(1, 11, 1)]);
    drop(writer);
    let tally = tally(&scratch.open(), None).unwrap();
    let line = |number: u8, class: &str| -> &StreamLine {
        tally
            .streams
            .iter()
            .find(|line| line.stream.board == number && line.stream.class == class)
            .unwrap()
    };
    let own = line(1, "event");
    assert_eq!((own.own, own.first, own.last, own.ranges), (true, 1, 11, 2));
    let counts = own.counts;
    assert_eq!((counts.records, counts.written, counts.blocks, counts.segments), (10, 11, 4, 1));
    assert_eq!((line(1, "alarm").counts.gap_records, line(1, "bulk").counts.shed), (1, 40));
    assert!(!line(2, "event").own);
    let classes: Vec<_> = tally
        .classes
        .iter()
        .map(|line| (line.class, line.streams, line.counts.records))
        .collect();
    assert_eq!(classes, [("alarm", 1, 1), ("event", 2, 13), ("bulk", 1, 0)]);
    let bytes = reading(Kind::Reading, b"on").len() as u64;
    assert_eq!(counts.bytes, 11 * bytes);
    assert!(tally.record_bytes < tally.payload_bytes && tally.payload_bytes < tally.used_bytes);
}

#[test]
fn state_copies_and_a_missing_state_are_told() {
    let scratch = Scratch::new();
    drop(three_blocks(&scratch));
    let spoil = |offset: u64| {
        let file = fs::OpenOptions::new().write(true).open(scratch.0.join("state")).unwrap();
        file.write_all_at(b"rot", offset).unwrap();
    };
    spoil(100);
    let verdict = verify(&scratch.open(), None).unwrap();
    assert!(verdict.whole && !verdict.state.copies[0].whole && verdict.state.copies[1].whole);
    spoil(4096 + 100);
    let verdict = verify(&scratch.open(), None).unwrap();
    assert!(!verdict.whole && verdict.state.owner.is_none());
    fs::remove_file(scratch.0.join("state")).unwrap();
    assert!(!verify(&scratch.open(), None).unwrap().whole);
}

/// What the kernel calls an overlay's device is not what its files say.
const OVERLAY: u64 = 0x794c_7630;

#[test]
fn a_process_that_has_the_directory_is_seen() {
    let scratch = Scratch::new();
    let site = Name::try_from("north").unwrap();
    let opened = crate::disk::open(&scratch.0, &site, board(1), 7).unwrap();
    let kind = rustix::fs::statfs(&scratch.0).unwrap().f_type as u64;
    assert!(scratch.open().is_in_use() || kind == OVERLAY);
    drop(opened);
    assert!(!scratch.open().is_in_use());
}

#[test]
fn what_is_no_journal_is_said_to_be_what_it_is() {
    let scratch = Scratch::new();
    let refusal = |name: Option<&str>| {
        let path = name.map_or(scratch.0.clone(), |name| scratch.0.join(name));
        JournalDir::open(&path).unwrap_err().to_string()
    };
    assert!(refusal(None).ends_with("is empty"));
    assert!(refusal(Some("none")).contains("cannot look at"));
    for (file, words) in [
        ("notes.txt", "holds no journal"),
        ("board.toml", "configuration"),
        ("north.votes", "witness"),
        ("region.sqlite", "gateway"),
    ] {
        fs::write(scratch.0.join(file), Bytes::from_static(b"x")).unwrap();
        assert!(refusal(None).contains(words), "{file}: {}", refusal(None));
    }
    assert!(refusal(Some("notes.txt")).ends_with("is a file"));
    fs::write(scratch.0.join("state"), b"").unwrap();
    assert!(JournalDir::open(&scratch.0).is_ok());
}

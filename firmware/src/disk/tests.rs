//! The directory through stops of every kind, on a real file system.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use shared::action::{DiskDone, DiskJob};
use shared::config::JournalConfig;
use shared::event::Event;
use shared::ids::{BoardId, Class, Epoch, Name, Origin, SegmentId, Stream, Token};
use shared::journal::Journal;
use shared::journal::format::{self, Place};
use shared::limits::{PAGE_BYTES, TERMS_RESERVED};
use shared::outbox::Outbox;
use shared::wire::peer::Run;

use super::*;

pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("roadstead-disk-{}-{number}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

pub(super) fn site() -> Name {
    Name::try_from("north").unwrap()
}

fn start(scratch: &Scratch) -> Result<Opened, DiskError> {
    open(&scratch.0, &site(), board(1), 7)
}

pub(super) async fn answer(disk: &mut Disk, job: DiskJob) -> DiskDone {
    disk.submit(job);
    tokio::time::timeout(Duration::from_secs(20), disk.done()).await.unwrap()
}

pub(super) const SEGMENT_BYTES: u32 = 64 * 4096;

pub(super) fn prepare(segment: u64, from: Option<u64>) -> DiskJob {
    DiskJob::Prepare {
        segment: SegmentId(segment),
        from: from.map(SegmentId),
        bytes: SEGMENT_BYTES,
        written: false,
    }
}

pub(super) fn append(segment: u64, offset: u32, bytes: Vec<u8>) -> DiskJob {
    DiskJob::Append { token: Token(9), segment: SegmentId(segment), offset, bytes: bytes.into() }
}

pub(super) fn read(segment: u64, offset: u32, length: u32) -> DiskJob {
    DiskJob::Read { token: Token(5), segment: SegmentId(segment), offset, length }
}

fn stream() -> Stream {
    let epoch = Epoch { boot: 1, nonce: 7 };
    Stream { origin: Origin { board: board(1), epoch }, class: Class::Event }
}

/// A block of three records, and its header checksum.
fn commit_block(segment: u64, offset: u32, number: u64, previous: u32) -> (Vec<u8>, u32) {
    let run = Run::new(stream(), number * 3 - 2, 3, Bytes::from_static(b"three records"));
    let epoch = stream().origin.epoch;
    let place = Place { segment: SegmentId(segment), offset, epoch, number, known: number, previous };
    format::encode(&place, &[run])
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart() {
    let scratch = Scratch::new();
    let (first, crc) = commit_block(1, 0, 1, 0);
    let after = u32::try_from(first.len()).unwrap();
    {
        let mut opened = start(&scratch).unwrap();
        assert_eq!((opened.epoch, opened.memory.term_ceiling), (Epoch { boot: 1, nonce: 7 }, TERMS_RESERVED));
        assert_eq!(answer(&mut opened.disk, prepare(1, None)).await, DiskDone::Prepared { segment: SegmentId(1) });
        for (offset, block) in [(0, first.clone()), (after, commit_block(1, after, 2, crc).0)] {
            let done = answer(&mut opened.disk, append(1, offset, block)).await;
            assert_eq!(done, DiskDone::Appended { token: Token(9) });
        }
        let times = opened.disk.gauge().sync_times();
        assert_eq!((times.buckets.iter().sum::<u64>(), times.bytes), (2, u64::from(2 * after)));
        let done = answer(&mut opened.disk, read(1, 0, after)).await;
        assert_eq!(done, DiskDone::Read { token: Token(5), bytes: first.into() });
    }
    let opened = start(&scratch).unwrap();
    assert_eq!((opened.epoch.boot, opened.memory.term_ceiling), (2, 2 * TERMS_RESERVED));
    let segment = &opened.recovered.segments[&SegmentId(1)];
    assert_eq!(segment.end, 2 * after);
    assert_eq!(segment.streams[&stream()].ranges.last(), Some(6));
}

#[tokio::test]
async fn a_recycled_file_holds_nothing_of_its_earlier_life() {
    let scratch = Scratch::new();
    {
        let mut opened = start(&scratch).unwrap();
        answer(&mut opened.disk, prepare(1, None)).await;
        answer(&mut opened.disk, append(1, 0, commit_block(1, 0, 1, 0).0)).await;
        answer(&mut opened.disk, prepare(2, Some(1))).await;
        assert!(!scratch.0.join("0000000000000001.seg").exists());
        let metadata = fs::metadata(scratch.0.join("0000000000000002.seg")).unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (u64::from(SEGMENT_BYTES), 0o600));
    }
    fs::write(scratch.0.join("0000000000000003.tmp"), "half made").unwrap();
    fs::write(scratch.0.join("notes.seg"), "somebody's").unwrap();
    let opened = start(&scratch).unwrap();
    assert_eq!(opened.recovered.segments.keys().copied().collect::<Vec<_>>(), [SegmentId(2)]);
    assert_eq!(opened.recovered.segments[&SegmentId(2)].end, 0);
    assert!(!scratch.0.join("0000000000000003.tmp").exists());
    assert!(scratch.0.join("notes.seg").exists());
    assert_eq!(fs::metadata(&scratch.0).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn what_a_file_has_lost_is_zeros_and_no_failure() {
    let scratch = Scratch::new();
    let mut opened = start(&scratch).unwrap();
    answer(&mut opened.disk, prepare(1, None)).await;
    answer(&mut opened.disk, append(1, 0, vec![7; 3 * PAGE_BYTES])).await;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(scratch.0.join("0000000000000001.seg"))
        .unwrap();
    file.set_len(2 * PAGE_BYTES as u64 - 1).unwrap();
    let whole = u32::try_from(3 * PAGE_BYTES).unwrap();
    let verify = DiskJob::Verify { token: Token(5), segment: SegmentId(1), offset: 0, length: whole };
    for job in [verify, read(1, 0, whole)] {
        let mut left = vec![7; PAGE_BYTES];
        left.resize(3 * PAGE_BYTES, 0);
        assert_eq!(answer(&mut opened.disk, job).await, DiskDone::Read { token: Token(5), bytes: left.into() });
    }
    assert!(!opened.disk.gauge().has_failed());
}

#[tokio::test]
async fn the_first_failure_is_final() {
    let scratch = Scratch::new();
    let mut opened = start(&scratch).unwrap();
    answer(&mut opened.disk, prepare(1, None)).await;
    // A disk that is full for ever.
    symlink("/dev/full", scratch.0.join("0000000000000002.seg")).unwrap();
    assert_eq!(answer(&mut opened.disk, append(2, 0, vec![1; PAGE_BYTES])).await, DiskDone::Failed);
    assert!(opened.disk.gauge().has_failed());
    opened.disk.submit(append(1, 0, vec![7; PAGE_BYTES]));
    let silence = tokio::time::timeout(Duration::from_millis(100), opened.disk.done()).await;
    assert!(silence.is_err(), "a failure is said once, and nothing is done after it: {silence:?}");
    drop(opened);
    let written = fs::read(scratch.0.join("0000000000000001.seg")).unwrap();
    assert!(written.iter().all(|byte| *byte == 0), "it was written after the failure");
}

#[tokio::test]
async fn a_segment_that_is_not_there_fails_the_disk() {
    let scratch = Scratch::new();
    let mut opened = start(&scratch).unwrap();
    assert_eq!(answer(&mut opened.disk, read(4, 0, 4096)).await, DiskDone::Failed);
}

#[tokio::test]
async fn reserved_terms_are_never_taken_back() {
    let scratch = Scratch::new();
    {
        let mut opened = start(&scratch).unwrap();
        for ceiling in [9_000, 8_000] {
            let memory = shared::action::Memory { term_ceiling: ceiling, ..Default::default() };
            let done = answer(&mut opened.disk, DiskJob::Remember(memory)).await;
            assert_eq!(done, DiskDone::Remembered(memory));
        }
    }
    assert_eq!(start(&scratch).unwrap().memory.term_ceiling, 9_000 + TERMS_RESERVED);
}

#[test]
fn one_damaged_copy_of_the_state_costs_nothing() {
    for slot in [0, 1] {
        let scratch = Scratch::new();
        drop(start(&scratch).unwrap());
        let state = fs::OpenOptions::new().write(true).open(scratch.0.join("state")).unwrap();
        state.write_all_at(b"rot", slot * PAGE_BYTES as u64 + 18).unwrap();
        let opened = start(&scratch).unwrap();
        assert_eq!((opened.epoch.boot, opened.memory.term_ceiling), (2, 2 * TERMS_RESERVED));
    }
}

#[test]
fn two_damaged_copies_are_refused_with_a_remedy() {
    let scratch = Scratch::new();
    drop(start(&scratch).unwrap());
    let path = scratch.0.join("state");
    let state = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for slot in [0, 1] {
        state.write_all_at(b"rot", slot * PAGE_BYTES as u64 + 18).unwrap();
    }
    let error = start(&scratch).unwrap_err();
    assert!(matches!(error, DiskError::StateDamaged { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn segments_without_state_are_refused() {
    let scratch = Scratch::new();
    {
        let mut opened = start(&scratch).unwrap();
        answer(&mut opened.disk, prepare(1, None)).await;
    }
    fs::remove_file(scratch.0.join("state")).unwrap();
    let error = start(&scratch).unwrap_err();
    assert!(matches!(error, DiskError::StateMissing { .. }), "{error}");
    // A second try must not take the first one's empty file for a new board's.
    let error = start(&scratch).unwrap_err();
    assert!(matches!(error, DiskError::StateMissing { .. }), "{error}");
}

#[test]
fn one_directory_one_board_one_process() {
    let scratch = Scratch::new();
    let opened = start(&scratch).unwrap();
    let error = start(&scratch).unwrap_err();
    assert!(matches!(error, DiskError::Locked { .. }), "{error}");
    drop(opened);
    let error = open(&scratch.0, &site(), board(2), 7).unwrap_err();
    assert!(matches!(error, DiskError::AnotherBoard { .. }), "{error}");
    assert!(start(&scratch).is_ok());
}

#[test]
fn a_start_cut_short_before_the_state_stood_is_a_start() {
    let scratch = Scratch::new();
    fs::create_dir(&scratch.0).unwrap();
    fs::write(scratch.0.join("state"), vec![0; PAGE_BYTES]).unwrap();
    assert_eq!(start(&scratch).unwrap().epoch.boot, 1);
}

/// What a build of format 1 left: whole blocks, one that rotted, and one whose end was torn off.
#[test]
fn a_directory_of_format_1_is_recovered() {
    let scratch = Scratch::new();
    fs::create_dir(&scratch.0).unwrap();
    for name in ["state", "0000000000000001.seg", "0000000000000002.seg"] {
        let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("src/disk/fixtures/format-1")
            .join(name);
        fs::copy(kept, scratch.0.join(name)).unwrap();
    }
    let Opened { epoch, recovered, .. } = start(&scratch).unwrap();
    assert_eq!(epoch.boot, 2);
    let of = |number, class| Stream { origin: Origin { board: board(number), epoch: stream().origin.epoch }, class };
    let found = |segment, stream| {
        let holding = recovered.segments[&SegmentId(segment)]
            .streams
            .get(&stream)
            .cloned()
            .unwrap_or_default();
        holding
            .ranges
            .ranges()
            .iter()
            .map(|range| (range.first, range.last))
            .collect::<Vec<_>>()
    };
    assert_eq!(found(1, of(1, Class::Event)), [(1, 63)]);
    assert_eq!(found(1, of(1, Class::Bulk)), [(1, 40)]);
    assert_eq!(found(1, of(2, Class::Alarm)), [(1, 2)]);
    assert_eq!(found(2, of(1, Class::Event)), [(64, 64), (67, 68)]);
    assert_eq!(found(2, of(2, Class::Event)), []);
    let damaged = Event::JournalDamaged { segment: SegmentId(2), offset: 4096 };
    assert_eq!(recovered.events, [damaged, Event::TornTail { segment: SegmentId(2), offset: 3 * 4096 }]);
}

/// What a restart costs with a large backlog, from a cold cache: not part of the ordinary run, for it writes as much as it
/// says. `BACKLOG_MIB=1024 cargo test --release -p firmware --lib a_restart_with_a_large_backlog -- --ignored --nocapture`
#[tokio::test]
#[ignore = "writes a gigabyte"]
async fn a_restart_with_a_large_backlog_is_quick_and_small() {
    let mib: u64 = std::env::var("BACKLOG_MIB")
        .ok()
        .and_then(|mib| mib.parse().ok())
        .unwrap_or(1024);
    let scratch = Scratch::new();
    let config = JournalConfig::sized(shared::limits::SEGMENT_BYTES, 65_536);
    let Opened { epoch, recovered, mut disk, .. } = start(&scratch).unwrap();
    let mut journal = Journal::new(config, epoch, recovered);
    let run_bytes = 250 * 1024;
    let payload = Bytes::from(vec![7; run_bytes]);
    let (now, mut out, mut first) = (shared::time::Instant::ZERO, Outbox::default(), 1);
    journal.prepare(now, &mut out);
    while first * run_bytes as u64 / 1024 <= mib * 1024 {
        while let Some(job) = out.pop() {
            disk.submit(job.clone());
            let done = match job {
                DiskJob::Prepare { .. } | DiskJob::Append { .. } => disk.done().await,
                _ => continue,
            };
            match done {
                DiskDone::Prepared { segment } => journal.handle_prepared(segment, now, &mut out),
                DiskDone::Appended { token } => drop(journal.handle_appended(token)),
                other => panic!("{other:?}"),
            }
        }
        let runs = [0, 1, 2].map(|more| Run::new(stream(), first + more, 1, payload.clone()));
        first += 3;
        journal.append(&runs, now, &mut out);
    }
    let held = journal.held().clone();
    drop((journal, disk));
    let rss = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    for entry in fs::read_dir(&scratch.0).unwrap() {
        let file = fs::File::open(entry.unwrap().path()).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    let (before, began) = (rss(), std::time::Instant::now());
    let opened = start(&scratch).unwrap();
    let journal = Journal::new(config, opened.epoch, opened.recovered);
    let took = began.elapsed();
    println!(
        "{mib} MiB: ready in {took:?}, {} segments, RSS {before} MiB before and {} after",
        journal.fill().0,
        rss()
    );
    assert_eq!(journal.held(), &held);
    assert!(took < Duration::from_millis(500));
}

#[tokio::test]
async fn a_device_without_room_is_no_failure_and_is_asked_again() {
    let scratch = Scratch::new();
    let mut opened = start(&scratch).unwrap();
    assert_eq!(answer(&mut opened.disk, prepare(1, None)).await, DiskDone::Prepared { segment: SegmentId(1) });
    // What is written for the second segment ends on a device that is full.
    symlink("/dev/full", scratch.0.join("0000000000000002.tmp")).unwrap();
    assert_eq!(answer(&mut opened.disk, prepare(2, None)).await, DiskDone::NoRoom { segment: SegmentId(2) });
    assert!(!opened.disk.gauge().has_failed());
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 3, "lock, state and the first segment");
    let block = commit_block(1, 0, 1, 0).0;
    assert_eq!(answer(&mut opened.disk, append(1, 0, block)).await, DiskDone::Appended { token: Token(9) });
    assert_eq!(answer(&mut opened.disk, prepare(2, None)).await, DiskDone::Prepared { segment: SegmentId(2) });
}

#[tokio::test]
async fn a_freed_segment_is_no_segment_after_a_restart_and_becomes_another() {
    let scratch = Scratch::new();
    {
        let mut opened = start(&scratch).unwrap();
        answer(&mut opened.disk, prepare(1, None)).await;
        answer(&mut opened.disk, append(1, 0, commit_block(1, 0, 1, 0).0)).await;
        opened.disk.submit(DiskJob::Free { segment: SegmentId(1) });
    }
    let mut opened = start(&scratch).unwrap();
    assert_eq!(opened.recovered.free, [SegmentId(1)]);
    assert!(opened.recovered.segments.is_empty());
    assert_eq!(answer(&mut opened.disk, prepare(2, Some(1))).await, DiskDone::Prepared { segment: SegmentId(2) });
    drop(opened);
    let opened = start(&scratch).unwrap();
    assert!(opened.recovered.free.is_empty());
    assert!(opened.recovered.segments[&SegmentId(2)].streams.is_empty());
}

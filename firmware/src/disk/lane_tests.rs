//! The lanes beside each other, on a file system that waits where it is told to.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use shared::action::{DiskDone, DiskJob};
use shared::ids::{SegmentId, Token};
use shared::limits::PAGE_BYTES;

use super::system::{FileSystem, OpenFile, Opening, System};
use super::tests::{SEGMENT_BYTES, Scratch, answer, append, board, prepare, read, site};
use super::volume::Volume;
use super::{Disk, lock};

/// What a [`Slow`] waits at, or fails at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Nothing,
    Allocate,
    Read,
}

/// The machine's own file system, but for what a test says.
#[derive(Debug)]
struct Slow {
    at: Mutex<At>,
    moved: Condvar,
    allocates: AtomicBool,
    fails: AtomicBool,
}

impl Slow {
    fn new() -> Arc<Self> {
        let at = Mutex::new(At::Nothing);
        let (allocates, fails) = (AtomicBool::new(true), AtomicBool::new(false));
        Arc::new(Self { at, moved: Condvar::new(), allocates, fails })
    }

    fn hold(&self, at: At) {
        *self.at.lock().unwrap() = at;
        self.moved.notify_all();
    }

    fn pass(&self, at: At) {
        let held = self.at.lock().unwrap();
        // A test that has failed must end, too.
        let waited = self.moved.wait_timeout_while(held, Duration::from_secs(10), |held| *held == at);
        drop(waited.unwrap());
    }
}

/// [`Slow`], shared with the test.
#[derive(Clone, Debug)]
struct Held(Arc<Slow>);

#[derive(Debug)]
struct HeldFile(Box<dyn OpenFile>, Arc<Slow>);

impl FileSystem for Held {
    fn open(&self, path: &Path, how: Opening) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(HeldFile(System.open(path, how)?, Arc::clone(&self.0))))
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        System.entries(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        System.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        System.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        System.sync_directory(directory)
    }
}

impl OpenFile for HeldFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.1.pass(At::Allocate);
        if self.1.fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("a broken device"));
        }
        if self.1.allocates.load(Ordering::Relaxed) {
            self.0.allocate(bytes)
        } else {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.pass(At::Read);
        self.0.read_exact_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.0.forget_cached()
    }
}

fn start(scratch: &Scratch, slow: &Arc<Slow>) -> Disk {
    fs::create_dir_all(&scratch.0).unwrap();
    let lock = lock(&scratch.0).unwrap();
    let system = Arc::new(Held(Arc::clone(slow)));
    Disk::start(Volume::open(system, &scratch.0, (&site(), board(1)), 7).unwrap().volume, lock)
}

fn appended() -> DiskDone {
    DiskDone::Appended { token: Token(9) }
}

fn prepared(segment: u64) -> DiskDone {
    DiskDone::Prepared { segment: SegmentId(segment) }
}

#[tokio::test]
async fn no_commit_waits_for_a_file_that_is_made_or_read() {
    let (scratch, slow) = (Scratch::new(), Slow::new());
    let mut disk = start(&scratch, &slow);
    answer(&mut disk, prepare(1, None)).await;
    let nothing = DiskDone::Read { token: Token(5), bytes: Bytes::new() };
    for (at, job, done) in [(At::Allocate, prepare(2, None), prepared(2)), (At::Read, read(1, 0, 0), nothing)] {
        slow.hold(at);
        disk.submit(job);
        for page in 0..3 {
            assert_eq!(answer(&mut disk, append(1, page * PAGE_BYTES as u32, vec![7; PAGE_BYTES])).await, appended());
        }
        assert!(disk.try_done().is_none(), "{at:?} did not wait");
        slow.hold(At::Nothing);
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), disk.done()).await.unwrap(), done);
    }
}

#[tokio::test]
async fn a_file_is_freed_only_after_it_was_read_for_the_last_time() {
    let (scratch, slow) = (Scratch::new(), Slow::new());
    let mut disk = start(&scratch, &slow);
    answer(&mut disk, prepare(1, None)).await;
    answer(&mut disk, append(1, 0, vec![7; PAGE_BYTES])).await;
    slow.hold(At::Read);
    disk.submit(read(1, 0, PAGE_BYTES as u32));
    disk.submit(DiskJob::Free { segment: SegmentId(1) });
    disk.submit(prepare(2, Some(1)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(scratch.0.join("0000000000000001.seg").exists(), "it was freed while it was read");
    slow.hold(At::Nothing);
    let DiskDone::Read { bytes, .. } = disk.done().await else { panic!("no read") };
    assert_eq!(bytes[..], [7; PAGE_BYTES]);
    assert_eq!(disk.done().await, prepared(2));
    // What was open under the old name is closed, in every lane: the block goes into the new segment, and what is removed
    // leaves its room.
    assert_eq!(answer(&mut disk, append(2, 0, vec![8; PAGE_BYTES])).await, appended());
    assert_eq!(fs::read(scratch.0.join("0000000000000002.seg")).unwrap()[..PAGE_BYTES], [8; PAGE_BYTES]);
    answer(&mut disk, read(2, 0, PAGE_BYTES as u32)).await;
    disk.submit(DiskJob::Delete { segment: SegmentId(2) });
    answer(&mut disk, prepare(3, None)).await;
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open: Vec<PathBuf> = open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    let kept: Vec<&PathBuf> = open
        .iter()
        .filter(|path| path.starts_with(&scratch.0) && path.ends_with("0000000000000002.seg (deleted)"))
        .collect();
    assert!(kept.is_empty(), "{kept:?}");
}

#[tokio::test]
async fn a_failure_in_one_lane_ends_all_of_them() {
    let (scratch, slow) = (Scratch::new(), Slow::new());
    let mut disk = start(&scratch, &slow);
    answer(&mut disk, prepare(1, None)).await;
    slow.fails.store(true, Ordering::Relaxed);
    assert_eq!(answer(&mut disk, prepare(2, None)).await, DiskDone::Failed);
    disk.submit(append(1, 0, vec![7; PAGE_BYTES]));
    let silence = tokio::time::timeout(Duration::from_millis(100), disk.done()).await;
    assert!(silence.is_err(), "something was done after a failure: {silence:?}");
    drop(disk);
    let written = fs::read(scratch.0.join("0000000000000001.seg")).unwrap();
    assert!(written.iter().all(|byte| *byte == 0), "it was written after the failure");
}

/// A new file has its room at once; zeros are written into it where they are asked for, or where the file system cannot set
/// room aside.
#[tokio::test]
async fn zeros_are_written_only_where_they_are_wanted() {
    for (allocates, written, has_zeros) in [(true, false, false), (true, true, true), (false, false, true)] {
        let (scratch, slow) = (Scratch::new(), Slow::new());
        slow.allocates.store(allocates, Ordering::Relaxed);
        let mut disk = start(&scratch, &slow);
        let before = disk.gauge().wear().now().bytes;
        let job = DiskJob::Prepare { segment: SegmentId(1), from: None, bytes: SEGMENT_BYTES, written };
        assert_eq!(answer(&mut disk, job).await, prepared(1));
        let bytes = disk.gauge().wear().now().bytes - before;
        assert_eq!(bytes, if has_zeros { u64::from(SEGMENT_BYTES) } else { 0 }, "{allocates} {written}");
        let about = fs::metadata(scratch.0.join("0000000000000001.seg")).unwrap();
        assert!(about.blocks() * 512 >= u64::from(SEGMENT_BYTES), "its room is not set aside");
        let all = fs::read(scratch.0.join("0000000000000001.seg")).unwrap();
        assert!(all.len() == SEGMENT_BYTES as usize && all.iter().all(|byte| *byte == 0));
    }
}

//! What a board writes to its disk over its whole life: every byte and every sync of its directory, the zeros that segments
//! are made of and the state included. Kept in a small file beside the journal, which is written now and then and at the
//! stop: a crash costs the counts of the minutes since.
//!
//! ```text
//!  0        8        16       24      32        40        48      52       4092    4096
//!  | magic  | change | bytes  | syncs | payload | micros  | since | zeros  | crc32c |      twice, a page each, in turn
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shared::checksum::crc32c;
use shared::limits::PAGE_BYTES;

use super::DiskError;
use super::system::{FileSystem, OpenFile, Opening, write_all_at};

const MAGIC: &[u8; 8] = b"RSWEAR1\0";
const CRC_AT: usize = PAGE_BYTES - 4;

/// Between two writes of the counts: 144 pages a day, which is nothing beside a journal, and a crash costs little.
pub(super) const SAVE_PERIOD: Duration = Duration::from_secs(600);

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worn {
    /// Bytes given to the file system.
    pub bytes: u64,
    /// Syncs of files and of the directory.
    pub syncs: u64,
    /// Bytes of runs of records in the blocks among them, before padding and headers.
    pub payload: u64,
    /// Time over which that was.
    pub during: Duration,
}

impl Worn {
    fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            syncs: self.syncs.saturating_add(other.syncs),
            payload: self.payload.saturating_add(other.payload),
            during: self.during.saturating_add(other.during),
        }
    }
}

/// Counts of this life, and what earlier ones left.
#[derive(Debug)]
pub struct Wear {
    earlier: Worn,
    /// The start of the board at which counting began; 0 until it is known.
    since: AtomicU32,
    began: Instant,
    bytes: AtomicU64,
    syncs: AtomicU64,
    payload: AtomicU64,
}

impl Wear {
    fn new(earlier: Worn, since: u32) -> Self {
        let zero = AtomicU64::default;
        let since = AtomicU32::new(since);
        Self { earlier, since, began: Instant::now(), bytes: zero(), syncs: zero(), payload: zero() }
    }

    /// What this life has written.
    pub fn now(&self) -> Worn {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Worn {
            bytes: read(&self.bytes),
            syncs: read(&self.syncs),
            payload: read(&self.payload),
            during: self.began.elapsed(),
        }
    }

    /// What all lives have written since counting began.
    pub fn ever(&self) -> Worn {
        self.earlier.plus(self.now())
    }

    /// The start of the board at which counting began: 1 where it counts all its life.
    pub fn since(&self) -> u32 {
        self.since.load(Ordering::Relaxed)
    }

    /// This is the board's start number `boot`: counting begins with it where it had not begun.
    pub(super) fn begin(&self, boot: u32) {
        let _ = self.since.compare_exchange(0, boot, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// These bytes of a block are runs of records.
    pub(super) fn note_payload(&self, bytes: usize) {
        self.payload.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn note_write(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn note_sync(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }
}

/// A file system whose writes and syncs are counted.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    system: Arc<dyn FileSystem>,
    wear: Arc<Wear>,
}

impl Counted {
    pub(super) fn new(system: Arc<dyn FileSystem>, wear: Arc<Wear>) -> Self {
        Self { system, wear }
    }
}

impl FileSystem for Counted {
    fn open(&self, path: &Path, how: Opening) -> io::Result<Box<dyn OpenFile>> {
        let file = self.system.open(path, how)?;
        Ok(Box::new(CountedFile { file, wear: Arc::clone(&self.wear) }))
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.system.entries(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.system.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.system.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.wear.note_sync();
        self.system.sync_directory(directory)
    }
}

#[derive(Debug)]
struct CountedFile {
    file: Box<dyn OpenFile>,
    wear: Arc<Wear>,
}

impl OpenFile for CountedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let count = self.file.write_at(bytes, offset)?;
        self.wear.note_write(count);
        Ok(count)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.wear.note_sync();
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.wear.note_sync();
        self.file.sync_all()
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.file.forget_cached()
    }
}

/// One copy of the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    change: u64,
    worn: Worn,
    since: u32,
}

/// The file with both copies.
#[derive(Debug)]
pub(super) struct WearFile {
    path: PathBuf,
    change: u64,
    exists: bool,
}

impl WearFile {
    /// What the file in `directory` says. Nothing is lost but counts where it is missing or damaged: then counting begins
    /// with this start, and the status says so.
    pub(super) fn load(system: &dyn FileSystem, directory: &Path) -> (Self, Wear) {
        let path = directory.join("wear");
        let file = system.open(&path, Opening::Existing).ok();
        let slots = file.iter().flat_map(|file| [read(&**file, 0), read(&**file, 1)]);
        let newest = slots.flatten().max_by_key(|slot| slot.change);
        let last = newest.unwrap_or_default();
        (Self { path, change: last.change, exists: newest.is_some() }, Wear::new(last.worn, last.since))
    }

    /// Writes and syncs the counts, over the older copy.
    pub(super) fn save(&mut self, system: &dyn FileSystem, wear: &Wear) -> Result<(), DiskError> {
        self.write(system, wear).map_err(DiskError::system("write", &self.path))
    }

    fn write(&mut self, system: &dyn FileSystem, wear: &Wear) -> io::Result<()> {
        let file = system.open(&self.path, Opening::Kept)?;
        let page = encode(&Slot { change: self.change + 1, worn: wear.ever(), since: wear.since() });
        if self.exists {
            write_all_at(&*file, &page, self.change % 2 * PAGE_BYTES as u64)?;
            file.sync_data()?;
        } else {
            let both = page.repeat(2);
            write_all_at(&*file, &both, 0)?;
            file.sync_all()?;
            if let Some(directory) = self.path.parent() {
                system.sync_directory(directory)?;
            }
        }
        self.exists = true;
        self.change += 1;
        Ok(())
    }
}

fn encode(slot: &Slot) -> Vec<u8> {
    let mut page = vec![0; PAGE_BYTES];
    let micros = u64::try_from(slot.worn.during.as_micros()).unwrap_or(u64::MAX);
    page[..8].copy_from_slice(MAGIC);
    let numbers = [slot.change, slot.worn.bytes, slot.worn.syncs, slot.worn.payload, micros];
    for (at, number) in (8..).step_by(8).zip(numbers) {
        page[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    page[48..52].copy_from_slice(&slot.since.to_le_bytes());
    let crc = crc32c(&page[..CRC_AT]);
    page[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    page
}

fn read(file: &dyn OpenFile, slot: u64) -> Option<Slot> {
    let mut page = [0; PAGE_BYTES];
    file.read_exact_at(&mut page, slot * PAGE_BYTES as u64).ok()?;
    let crc = u32::from_le_bytes(page[CRC_AT..].try_into().ok()?);
    if &page[..8] != MAGIC || crc != crc32c(&page[..CRC_AT]) {
        return None;
    }
    let number = |at: usize| Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?));
    Some(Slot {
        change: number(8)?,
        worn: Worn {
            bytes: number(16)?,
            syncs: number(24)?,
            payload: number(32)?,
            during: Duration::from_micros(number(40)?),
        },
        since: u32::from_le_bytes(page[48..52].try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt, symlink};
    use std::sync::atomic::AtomicU32;

    use shared::action::DiskJob;
    use shared::ids::{BoardId, Class, Epoch, Name, Origin, SegmentId, Stream, Token};
    use shared::journal::format::{Place, encode};
    use shared::wire::peer::Run;

    use super::super::system::System;
    use super::super::volume::Volume;
    use super::*;

    const SEGMENT_BYTES: u32 = 16 * PAGE_BYTES as u32;
    const PAGE: u64 = PAGE_BYTES as u64;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("roadstead-wear-{}-{number}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn open(&self) -> Volume {
            let site = Name::try_from("north").unwrap();
            Volume::open(Arc::new(System), &self.0, (&site, BoardId::new(1).unwrap()), 7)
                .unwrap()
                .volume
        }

        fn spoil(&self, offset: u64) {
            let file = fs::OpenOptions::new().write(true).open(self.0.join("wear")).unwrap();
            file.write_all_at(b"rot", offset).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Makes a segment and writes one block into it; returns the bytes of its runs.
    fn write(volume: &mut Volume) -> u64 {
        let segment = SegmentId(1);
        let epoch = Epoch { boot: 1, nonce: 7 };
        volume
            .perform(DiskJob::Prepare { segment, from: None, bytes: SEGMENT_BYTES, written: true })
            .unwrap();
        let stream = Stream { origin: Origin { board: BoardId::new(1).unwrap(), epoch }, class: Class::Event };
        let run = Run::new(stream, 1, 1, vec![7; 100].into());
        let place = Place { segment, offset: 0, epoch, number: 0, known: 0, previous: 0 };
        let (bytes, _) = encode(&place, &[run]);
        let payload = shared::journal::format::Header::read(&bytes).unwrap().payload_bytes as u64;
        volume
            .perform(DiskJob::Append { token: Token(1), segment, offset: 0, bytes: bytes.into() })
            .unwrap();
        payload
    }

    #[test]
    fn every_byte_and_sync_of_the_directory_is_counted() {
        let scratch = Scratch::new();
        let mut volume = scratch.open();
        // Both copies of the state, each synced; the directory.
        let start = volume.gauge().wear().now();
        assert_eq!((start.bytes, start.syncs, start.payload), (2 * PAGE, 3, 0));
        let payload = write(&mut volume);
        let then = volume.gauge().wear().now();
        // The segment's zeros and their sync, its own and the directory's; a page and its sync.
        assert_eq!(then.bytes - start.bytes, u64::from(SEGMENT_BYTES) + PAGE);
        assert_eq!((then.syncs - start.syncs, then.payload), (4, payload));
        volume.save_wear().unwrap();
        assert_eq!(volume.gauge().wear().now().bytes - then.bytes, 2 * PAGE, "its own file, too");
    }

    #[test]
    fn counts_are_kept_over_restarts_and_a_crash_costs_what_was_not_saved() {
        let scratch = Scratch::new();
        let mut volume = scratch.open();
        write(&mut volume);
        let saved = volume.gauge().wear().ever();
        volume.save_wear().unwrap();
        volume.save_wear().unwrap();
        write(&mut volume);
        drop(volume);
        let volume = scratch.open();
        let wear = volume.gauge().wear();
        let ever = wear.ever();
        // What the file's first writing cost is in its second.
        assert_eq!((ever.bytes - wear.now().bytes, ever.payload), (saved.bytes + 2 * PAGE, saved.payload));
        assert!(ever.during >= saved.during);
        assert_eq!(wear.since(), 1);
    }

    #[test]
    fn one_spoilt_copy_costs_little_and_two_begin_anew() {
        let scratch = Scratch::new();
        let mut volume = scratch.open();
        for _ in 0..3 {
            write(&mut volume);
            volume.save_wear().unwrap();
        }
        let before = volume.gauge().wear().ever();
        drop(volume);
        scratch.spoil(100);
        let volume = scratch.open();
        let wear = volume.gauge().wear();
        let kept = wear.ever().payload;
        assert!(kept == before.payload || kept == before.payload / 3 * 2, "{kept} of {}", before.payload);
        assert_eq!(wear.since(), 1);
        drop(volume);
        scratch.spoil(PAGE + 100);
        let wear = scratch.open().gauge().wear();
        assert_eq!((wear.ever().payload, wear.since()), (0, 3), "counting begins with the third start");
    }

    #[test]
    fn counts_that_cannot_be_saved_stop_nothing() {
        let scratch = Scratch::new();
        symlink("/dev/full", scratch.0.join("wear")).unwrap();
        let mut volume = scratch.open();
        assert!(volume.save_wear().is_err());
        assert!(write(&mut volume) > 0);
    }
}

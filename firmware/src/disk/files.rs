//! Journal segments as files: made whole before they are used, written in place, synced by data alone. Knows nothing
//! of what stands in them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::ids::SegmentId;
use shared::limits::PAGE_BYTES;

use super::DiskError;
use super::system::{FileSystem, OpenFile, Opening, write_all_at};

/// Files kept open: the one written, the next, and those being read.
const OPEN_MAX: usize = 8;
/// Zeros written and synced at once while a segment is made: a commit that comes meanwhile waits some 6 ms for a slow eMMC.
const ZEROS_BYTES: usize = 128 * 1024;
/// Ending of a segment that is still being made; such files are removed at the start.
const UNFINISHED: &str = "tmp";
/// Endings of a segment, and of a file that holds nothing and may become one.
const SEGMENT: &str = "seg";
const FREE: &str = "free";

/// The segments of one directory.
#[derive(Debug)]
pub(super) struct Files {
    system: Arc<dyn FileSystem>,
    path: PathBuf,
    open: BTreeMap<SegmentId, Box<dyn OpenFile>>,
}

impl Files {
    pub(super) fn new(system: Arc<dyn FileSystem>, path: &Path) -> Self {
        Self { system, path: path.to_owned(), open: BTreeMap::new() }
    }

    fn segment_path(&self, segment: SegmentId) -> PathBuf {
        self.path.join(format!("{:016x}.{SEGMENT}", segment.0))
    }

    fn free_path(&self, segment: SegmentId) -> PathBuf {
        self.segment_path(segment).with_extension(FREE)
    }

    /// The segments that are there and the files that are free, each in rising order.
    pub(super) fn list(&self) -> Result<(Vec<SegmentId>, Vec<SegmentId>), DiskError> {
        let (mut segments, mut free) = (Vec::new(), Vec::new());
        for path in self.system.entries(&self.path).map_err(DiskError::system("read", &self.path))? {
            if let Some(segment) = parse(&path, SEGMENT) {
                segments.push(segment);
            } else if let Some(segment) = parse(&path, FREE) {
                free.push(segment);
            }
        }
        segments.sort_unstable();
        free.sort_unstable();
        Ok((segments, free))
    }

    /// Removes what a crash left half-made.
    pub(super) fn remove_unfinished(&self) -> Result<(), DiskError> {
        for path in self.system.entries(&self.path).map_err(DiskError::system("read", &self.path))? {
            if path.extension().is_some_and(|ending| ending == UNFINISHED) {
                self.system.remove(&path).map_err(DiskError::system("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Makes what was made, renamed and removed in the directory durable.
    pub(super) fn sync_directory(&self) -> Result<(), DiskError> {
        self.system
            .sync_directory(&self.path)
            .map_err(DiskError::system("sync", &self.path))
    }

    /// Makes `segment` exist with `bytes` bytes. A freed segment's file is only renamed: the blocks in it name their
    /// own segment, so they are not taken for this one's. False where the device has no room for it: then nothing is changed,
    /// and nothing that was written before is touched.
    pub(super) fn prepare(
        &mut self,
        segment: SegmentId,
        from: Option<SegmentId>,
        bytes: u32,
        written: bool,
    ) -> Result<bool, DiskError> {
        let path = self.segment_path(segment);
        let recycled = match from {
            Some(from) => self.recycle(from, &path, bytes)?,
            None => false,
        };
        if !recycled {
            match self.make(&path, bytes, written) {
                Err(error) if error.is_for_want_of_room() => {
                    let unfinished = path.with_extension(UNFINISHED);
                    match self.system.remove(&unfinished) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(DiskError::system("remove", &unfinished)(error));
                        }
                        Ok(()) | Err(_) => return Ok(false),
                    }
                }
                made => made?,
            }
        }
        self.sync_directory()?;
        Ok(true)
    }

    /// Closes the file of `segment`, if it is open.
    pub(super) fn close(&mut self, segment: SegmentId) {
        self.open.remove(&segment);
    }

    /// Gives the file of `segment`, which holds nothing any more, the name of a free one.
    pub(super) fn free(&mut self, segment: SegmentId) -> Result<(), DiskError> {
        self.open.remove(&segment);
        let path = self.segment_path(segment);
        self.system
            .rename(&path, &self.free_path(segment))
            .map_err(DiskError::system("rename", &path))?;
        self.sync_directory()
    }

    /// False where the freed file has another length: then it is removed and a new one must be made.
    fn recycle(&mut self, from: SegmentId, to: &Path, bytes: u32) -> Result<bool, DiskError> {
        self.open.remove(&from);
        // What a short life left empty was never given the name of a free file.
        let free = self.free_path(from);
        let (old, file) = match self.system.open(&free, Opening::Existing) {
            Ok(file) => (free, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let old = self.segment_path(from);
                let file = self.system.open(&old, Opening::Existing);
                let file = file.map_err(DiskError::system("open", &old))?;
                (old, file)
            }
            Err(error) => return Err(DiskError::system("open", &free)(error)),
        };
        let length = file.length().map_err(DiskError::system("look at", &old))?;
        if length == u64::from(bytes) {
            self.system.rename(&old, to).map_err(DiskError::system("rename", &old))?;
            return Ok(true);
        }
        self.system.remove(&old).map_err(DiskError::system("remove", &old))?;
        Ok(false)
    }

    /// Makes a file under another name and gives it its own when it is whole. Room is set aside first, so that the zeros of one
    /// that is to be written through meet a file that does not grow.
    fn make(&self, path: &Path, bytes: u32, written: bool) -> Result<(), DiskError> {
        let unfinished = path.with_extension(UNFINISHED);
        let file = self
            .system
            .open(&unfinished, Opening::Emptied)
            .map_err(DiskError::system("make", &unfinished))?;
        let allocated = match file.allocate(u64::from(bytes)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
            Err(error) => return Err(DiskError::system("set room aside for", &unfinished)(error)),
        };
        if written || !allocated {
            self.fill(&*file, &unfinished, bytes)?;
        }
        file.sync_all().map_err(DiskError::system("sync", &unfinished))?;
        self.system
            .rename(&unfinished, path)
            .map_err(DiskError::system("rename", &unfinished))
    }

    /// Writes zeros, so many at a time that those who sync meanwhile hardly wait for them.
    fn fill(&self, file: &dyn OpenFile, path: &Path, bytes: u32) -> Result<(), DiskError> {
        let zeros = vec![0; ZEROS_BYTES.min(bytes as usize)];
        let mut at = 0;
        while at < u64::from(bytes) {
            let left = usize::try_from(u64::from(bytes) - at).expect("a segment's length fits memory");
            let part = &zeros[..zeros.len().min(left)];
            write_all_at(file, part, at).map_err(DiskError::system("write", path))?;
            file.sync_data().map_err(DiskError::system("sync", path))?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Writes `bytes` at `offset`; they are not durable yet.
    pub(super) fn write(&mut self, segment: SegmentId, offset: u32, bytes: &[u8]) -> Result<(), DiskError> {
        let path = self.segment_path(segment);
        let file = self.file(segment)?;
        write_all_at(file, bytes, u64::from(offset)).map_err(DiskError::system("write", &path))
    }

    /// Makes what was written to `segment` durable.
    pub(super) fn sync(&mut self, segment: SegmentId) -> Result<(), DiskError> {
        let path = self.segment_path(segment);
        self.file(segment)?.sync_data().map_err(DiskError::system("sync", &path))
    }

    /// Reads `length` bytes at `offset`. Pages that the disk cannot read, and those that the file has lost, are zeros:
    /// nothing whole is found there, so that a copy stands in.
    pub(super) fn read(&mut self, segment: SegmentId, offset: u32, length: u32) -> Result<Vec<u8>, DiskError> {
        let mut bytes = vec![0; length as usize];
        self.read_into(segment, offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Drops what the page cache holds of `segment`, so that the next read comes from the disk. Call after a sync: pages
    /// that wait to be written stay.
    pub(super) fn forget_cached(&mut self, segment: SegmentId) -> Result<(), DiskError> {
        let path = self.segment_path(segment);
        self.file(segment)?
            .forget_cached()
            .map_err(DiskError::system("drop from the cache", &path))
    }

    /// Fills `bytes` from `offset` on. Pages that the disk cannot read, and those that the file has lost, are zeros: nothing
    /// whole is found there, so that a copy stands in.
    pub(super) fn read_into(&mut self, segment: SegmentId, offset: u32, bytes: &mut [u8]) -> Result<(), DiskError> {
        let path = self.segment_path(segment);
        read_what_can_be(self.file(segment)?, bytes, u64::from(offset)).map_err(DiskError::system("read", &path))
    }

    /// Bytes of `segment`'s file: as many as 32 bits count, where there are more.
    pub(super) fn length(&mut self, segment: SegmentId) -> Result<u32, DiskError> {
        let path = self.segment_path(segment);
        let length = self.file(segment)?.length().map_err(DiskError::system("look at", &path))?;
        Ok(u32::try_from(length).unwrap_or(u32::MAX))
    }

    /// Removes `segment`. Not synced: where a crash brings it back, what it holds is known to be covered.
    pub(super) fn delete(&mut self, segment: SegmentId) -> Result<(), DiskError> {
        self.open.remove(&segment);
        let path = self.segment_path(segment);
        self.system.remove(&path).map_err(DiskError::system("remove", &path))
    }

    fn file(&mut self, segment: SegmentId) -> Result<&dyn OpenFile, DiskError> {
        if !self.open.contains_key(&segment) {
            let path = self.segment_path(segment);
            let file = self
                .system
                .open(&path, Opening::Existing)
                .map_err(DiskError::system("open", &path))?;
            if self.open.len() >= OPEN_MAX {
                // The oldest: writing is at the newest, and reading moves on from old to new.
                self.open.pop_first();
            }
            self.open.insert(segment, file);
        }
        Ok(&**self.open.get(&segment).expect("it was put there just now"))
    }
}

/// Reads as far as the disk can: where it cannot (a bad sector, a file cut short), page by page. Any other failure is one.
fn read_what_can_be(file: &dyn OpenFile, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let is_damage = |error: &io::Error| {
        error.kind() == io::ErrorKind::UnexpectedEof
            || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
    };
    match file.read_exact_at(bytes, offset) {
        Err(error) if is_damage(&error) => {}
        done => return done,
    }
    for (at, page) in (offset..).step_by(PAGE_BYTES).zip(bytes.chunks_mut(PAGE_BYTES)) {
        match file.read_exact_at(page, at) {
            Err(error) if is_damage(&error) => page.fill(0),
            done => done?,
        }
    }
    Ok(())
}

/// The segment whose file is called like this.
pub(crate) fn parse_segment(path: &Path) -> Option<SegmentId> {
    parse(path, SEGMENT)
}

fn parse(path: &Path, ending: &str) -> Option<SegmentId> {
    let digits = path.file_name()?.to_str()?.strip_suffix(ending)?.strip_suffix('.')?;
    let is_ours = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(digits, 16).ok().filter(|_| is_ours).map(SegmentId)
}

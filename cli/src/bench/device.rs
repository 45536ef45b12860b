//! The disk itself: how fast one page is written and synced, as a journal without anything around it would, and how many
//! bytes reach it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The journal's page.
const PAGE: usize = 4096;
/// Pages of the file, written round and round.
const PAGES: u64 = 256;
/// Syncs of one probe, if there is time.
const SYNCS_MAX: usize = 1000;
/// Time of one probe.
const PROBE_MAX: Duration = Duration::from_secs(1);
/// `f_type` of a file system in memory (statfs(2)).
const TMPFS: u64 = 0x0102_1994;

/// The time that each write and sync took. The file is removed.
pub(super) fn probe(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = dir.join("device-probe");
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
    let took = run(&file);
    std::fs::remove_file(&path)?;
    took
}

fn run(file: &File) -> io::Result<Vec<Duration>> {
    let page = [0x5a; PAGE];
    // Written once before it counts, so that no sync has to place new blocks.
    for at in 0..PAGES {
        file.write_all_at(&page, at * PAGE as u64)?;
    }
    file.sync_all()?;
    let begun = Instant::now();
    let mut took = Vec::new();
    while took.len() < SYNCS_MAX && begun.elapsed() < PROBE_MAX {
        let sync = Instant::now();
        file.write_all_at(&page, took.len() as u64 % PAGES * PAGE as u64)?;
        file.sync_data()?;
        took.push(sync.elapsed());
    }
    Ok(took)
}

/// Counts the bytes that reach the block device below a directory, whoever writes them: data, metadata, the file system's
/// journal. So a measurement wants a machine on which nothing else writes.
#[derive(Debug)]
pub(super) struct Meter {
    file_system: File,
    /// Where the kernel counts; `None` where the file system is not on one device that it names.
    counts: Option<PathBuf>,
}

/// Field of `/sys/dev/block/<device>/stat` that counts written sectors (Documentation/block/stat.rst), from 0.
const SECTORS_WRITTEN: usize = 6;
/// Bytes of such a sector, whatever the device has.
const SECTOR: u64 = 512;

impl Meter {
    /// Of the device below `dir`.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let file_system = File::open(dir)?;
        let device = file_system.metadata()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let path = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        let counts = path.is_file().then_some(path);
        Ok(Self { file_system, counts })
    }

    /// Bytes that have reached the device since it is there, with all that was written so far; `None` where the kernel does
    /// not say.
    pub(super) fn written(&self) -> io::Result<Option<u64>> {
        rustix::fs::syncfs(&self.file_system)?;
        let Some(path) = &self.counts else { return Ok(None) };
        let text = std::fs::read_to_string(path)?;
        let sectors = text.split_whitespace().nth(SECTORS_WRITTEN);
        Ok(sectors
            .and_then(|sectors| sectors.parse::<u64>().ok())
            .map(|sectors| sectors * SECTOR))
    }
}

/// Whether `dir` is in memory, where syncing costs nothing and figures mean little.
pub(super) fn is_in_memory(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reaches_the_device() {
        let scratch = crate::scratch::Scratch::new("device");
        let meter = Meter::new(scratch.path()).unwrap();
        let Some(before) = meter.written().unwrap() else { return };
        std::fs::write(scratch.path().join("file"), vec![7; 1 << 20]).unwrap();
        assert!(meter.written().unwrap().unwrap() - before >= 1 << 20);
    }

    #[test]
    fn a_probe_measures_and_leaves_nothing() {
        let scratch = crate::scratch::Scratch::new("device");
        let took = probe(scratch.path()).unwrap();
        assert!(!took.is_empty() && took.iter().all(|took| !took.is_zero()));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}

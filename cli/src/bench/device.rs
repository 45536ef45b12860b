//! How fast the disk itself is: one page written and synced at a time, as a journal without anything around it would.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
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

/// Whether `dir` is in memory, where syncing costs nothing and figures mean little.
pub(super) fn is_in_memory(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_measures_and_leaves_nothing() {
        let scratch = crate::scratch::Scratch::new("device");
        let took = probe(scratch.path()).unwrap();
        assert!(!took.is_empty() && took.iter().all(|took| !took.is_zero()));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}

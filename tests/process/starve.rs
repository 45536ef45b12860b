//! A board that gets little of the processor: its processes in a control group with a quota, version 1 of cgroups or
//! version 2. Owns the group; when it is dropped the processes are free again and the group is gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Microseconds of a period of the quota: the kernel's default.
const PERIOD_US: u32 = 100_000;

/// The control group.
#[derive(Debug)]
pub(crate) struct Starved {
    group: PathBuf,
    processes: Vec<u32>,
}

impl Starved {
    /// Gives `processes`, all together, `permille` of one processor.
    pub(crate) fn of(processes: &[u32], permille: u32) -> io::Result<Self> {
        let root = root()?;
        let group = root.join(format!("roadstead-process-{}", std::process::id()));
        fs::create_dir(&group)?;
        let starved = Self { group, processes: processes.to_vec() };
        let quota_us = PERIOD_US / 1000 * permille;
        let quota = starved.group.join("cpu.cfs_quota_us");
        if quota.exists() {
            fs::write(starved.group.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
            fs::write(quota, quota_us.to_string())?;
        } else {
            fs::write(starved.group.join("cpu.max"), format!("{quota_us} {PERIOD_US}"))?;
        }
        starved
            .processes
            .iter()
            .try_for_each(|process| join(&starved.group, *process))?;
        Ok(starved)
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        let inside = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        let parent = self.group.parent().unwrap_or(Path::new("/"));
        for process in inside.lines().filter_map(|line| line.parse().ok()) {
            // One that has ended meanwhile needs no freedom.
            let _ = join(parent, process);
        }
        if let Err(error) = fs::remove_dir(&self.group) {
            eprintln!("could not remove {}: {error}", self.group.display());
        }
    }
}

fn join(group: &Path, process: u32) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), process.to_string())
}

/// Where control groups with a quota of the processor can be made.
fn root() -> io::Result<PathBuf> {
    let first = PathBuf::from("/sys/fs/cgroup/cpu");
    if first.join("cpu.cfs_quota_us").exists() || first.join("cgroup.procs").exists() {
        return Ok(first);
    }
    let second = PathBuf::from("/sys/fs/cgroup");
    let offers = fs::read_to_string(second.join("cgroup.subtree_control")).unwrap_or_default();
    if offers.split_whitespace().any(|controller| controller == "cpu") {
        return Ok(second);
    }
    Err(io::Error::other("no control group with a quota of the processor can be made here"))
}

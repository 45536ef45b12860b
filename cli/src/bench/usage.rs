//! What processes use, as the kernel counts it, by process group: a board is its supervisor and its node.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::demo::group::{processes, standing};

/// What the members of one group use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes of memory in use: resident set sizes added up. Pages that two members share count twice.
    pub(super) resident: u64,
    /// Bytes of pages that the members made dirty since they started, as the kernel accounts them to whoever does. On ext4
    /// with large folios it counts whole folios, also where one page of them is written: up to thirty times too much.
    pub(super) written: u64,
}

/// The usage of each of `groups`, in their order. What cannot be read counts as nothing.
pub(super) fn of(groups: &[u32]) -> Vec<Usage> {
    let mut sums: BTreeMap<u32, Usage> = groups.iter().map(|group| (*group, Usage::default())).collect();
    for process in processes() {
        let group = standing(process).map(|standing| standing.group);
        let Some(sum) = group.and_then(|group| sums.get_mut(&group)) else { continue };
        sum.resident += resident(process);
        sum.written += written(process);
    }
    groups.iter().filter_map(|group| sums.get(group).copied()).collect()
}

/// Bytes of memory in use by `process`; 0 where it is gone.
pub(super) fn resident(process: u32) -> u64 {
    figure(process, "status", "VmRSS:").unwrap_or(0) * 1024
}

/// Bytes of pages that `process` made dirty; 0 where it is gone.
pub(super) fn written(process: u32) -> u64 {
    figure(process, "io", "write_bytes:").unwrap_or(0)
}

/// CPU time that `process` has used so far, in the kernel and out of it; none where it is gone.
pub(super) fn cpu(process: u32) -> Duration {
    times(process).map_or(Duration::ZERO, |(own, _)| own)
}

/// The same of `process`, of its children, and of those that it had and has waited for.
pub(super) fn cpu_with_children(process: u32) -> Duration {
    let own = times(process).map_or(Duration::ZERO, |(own, gone)| own + gone);
    let children = processes().into_iter().filter(|child| parent(*child) == Some(process));
    own + children.map(cpu).sum::<Duration>()
}

/// CPU time of a process itself, and of the children that it has waited for: fields 14 to 17 of its `stat`, in ticks, of
/// which Linux has a hundred a second on every machine that it shows them on.
fn times(process: u32) -> Option<(Duration, Duration)> {
    let ticks: Vec<u64> = stat(process)?
        .iter()
        .skip(11)
        .take(4)
        .map_while(|field| field.parse().ok())
        .collect();
    let time = |ticks: u64| Duration::from_millis(ticks * 10);
    match ticks[..] {
        [user, system, gone_user, gone_system] => Some((time(user + system), time(gone_user + gone_system))),
        _ => None,
    }
}

fn parent(process: u32) -> Option<u32> {
    stat(process)?.get(1)?.parse().ok()
}

/// The fields of a process's `stat` from the third on. The name before them, in brackets, may have blanks.
fn stat(process: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn figure(process: u32, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_uses_memory_and_an_unknown_one_nothing() {
        let group = standing(std::process::id()).unwrap().group;
        let usage = of(&[group, u32::MAX]);
        assert!(usage[0].resident > 100_000);
        assert_eq!(usage[1], Usage::default());
        let begun = std::time::Instant::now();
        while cpu(std::process::id()) < Duration::from_millis(20) {
            assert!(begun.elapsed() < Duration::from_secs(10), "this loop uses the CPU");
        }
        assert!(cpu_with_children(std::process::id()) >= Duration::from_millis(20));
    }
}

//! Reads the journal that earlier lives left. Each file is synced before it is read: what a crashed process had
//! written but not synced is readable all the same, and must be durable before anyone is told that it is held. Then
//! its pages are dropped from the cache: after a failed sync the cache holds bytes that the disk lacks, marked clean,
//! so that no later sync would write them (Rebello et al., ATC'20).

use shared::journal::recover::{Recovered, Recovery};

use super::DiskError;
use super::files::Files;

pub(super) fn recover(files: &mut Files) -> Result<Recovered, DiskError> {
    let mut recovery = Recovery::new();
    // One buffer for all: a segment at a time is in memory.
    let mut bytes = Vec::new();
    for segment in files.list()? {
        files.sync(segment)?;
        files.forget_cached(segment)?;
        files.read_whole(segment, &mut bytes)?;
        recovery.handle_segment(segment, &bytes);
    }
    Ok(recovery.finish())
}

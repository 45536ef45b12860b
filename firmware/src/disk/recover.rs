//! Reads the journal that earlier lives left. Each file is synced after it is read: what a crashed process had
//! written but not synced is readable all the same, and must be durable before anyone is told that it is held.

use shared::journal::recover::{Recovered, Recovery};

use super::DiskError;
use super::files::Files;

pub(super) fn recover(files: &mut Files) -> Result<Recovered, DiskError> {
    let mut recovery = Recovery::new();
    // One buffer for all: a segment at a time is in memory.
    let mut bytes = Vec::new();
    for segment in files.list()? {
        files.read_whole(segment, &mut bytes)?;
        recovery.handle_segment(segment, &bytes);
        files.sync(segment)?;
    }
    Ok(recovery.finish())
}

//! Reads the journal that earlier lives left: of a segment with a footer that alone, of the others every byte, a window at a
//! time. A file without a footer is synced before it is read: what a crashed process had written but not synced is readable
//! all the same, and must be durable before anyone is told that it is held. Then its pages are dropped from the cache: after a
//! failed sync the cache holds bytes that the disk lacks, marked clean, so that no later sync would write them (Rebello et al.,
//! ATC'20). A footer is only ever written after its blocks were synced, so that neither is needed there.

use shared::journal::footer::footer_at;
use shared::journal::recover::{Recovered, Recovery};
use shared::limits::FOOTER_BYTES;

use super::DiskError;
use super::files::Files;

pub(super) fn recover(files: &mut Files) -> Result<Recovered, DiskError> {
    let mut recovery = Recovery::new();
    let mut footer = vec![0; FOOTER_BYTES as usize];
    let (segments, free) = files.list()?;
    for segment in free {
        recovery.handle_free(segment);
    }
    for segment in segments {
        let length = files.length(segment)?;
        if let Some(at) = footer_at(length) {
            files.read_into(segment, at, &mut footer)?;
            if recovery.handle_footer(segment, length, &footer) {
                continue;
            }
        }
        files.sync(segment)?;
        files.forget_cached(segment)?;
        recovery.handle_segment(segment, length, |offset, window| files.read_into(segment, offset, window))?;
    }
    Ok(recovery.finish())
}

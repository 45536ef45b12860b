//! Reads the journal that earlier lives left: of a segment with a footer that alone, of the others every byte, a window at a
//! time. A file without a footer is synced before it is read: what a crashed process had written but not synced is readable
//! all the same, and must be durable before anyone is told that it is held. Then its pages are dropped from the cache: after a
//! failed sync the cache holds bytes that the disk lacks, marked clean, so that no later sync would write them (Rebello et al.,
//! ATC'20). A footer is only ever written after its blocks were synced, so that neither is needed there.
//!
//! Sealed blocks are opened as far as the keys go, so that recovery sees plain ones. What a destroyed key sealed is not held
//! any more, whatever a footer says.

use std::collections::BTreeSet;

use shared::event::Event;
use shared::ids::SegmentId;
use shared::journal::footer::{self, footer_at};
use shared::journal::recover::{Recovered, Recovery};
use shared::limits::FOOTER_BYTES;

use super::DiskError;
use super::files::Files;
use crate::keys::Keys;

pub(super) fn recover(files: &mut Files, mut keys: Option<&mut Keys>) -> Result<Recovered, DiskError> {
    let mut recovery = Recovery::new();
    let (mut lacking, mut forged) = (BTreeSet::new(), BTreeSet::new());
    let mut footer = vec![0; FOOTER_BYTES as usize];
    let (segments, free) = files.list()?;
    for segment in free {
        recovery.handle_free(segment);
    }
    for segment in segments {
        let length = files.length(segment)?;
        if let Some(at) = footer_at(length) {
            files.read_into(segment, at, &mut footer)?;
            let key = footer::key(&footer).filter(|key| !keys.as_deref().is_some_and(|keys| keys.knows(*key)));
            let is_lost = key.is_some_and(|key| keys.as_deref().is_some_and(|keys| keys.has_destroyed(key)));
            if !is_lost && recovery.handle_footer(segment, length, &footer) {
                lacking.extend(key);
                continue;
            }
        }
        files.sync(segment)?;
        files.forget_cached(segment)?;
        recovery.handle_segment(segment, length, |offset, window| {
            files.read_into(segment, offset, window)?;
            if let Some(keys) = &mut keys {
                let opened = keys.open(segment, offset, window);
                forged.extend(opened.forged.into_iter().map(|offset| (segment, offset)));
            }
            Ok::<(), DiskError>(())
        })?;
    }
    let mut recovered = recovery.finish();
    recovered.sealed.append(&mut lacking);
    note_forged(&mut recovered, &forged);
    Ok(recovered)
}

/// What is not what was sealed although its checksums hold is damage, wherever it stands: no torn end.
fn note_forged(recovered: &mut Recovered, forged: &BTreeSet<(SegmentId, u32)>) {
    for (segment, offset) in forged {
        let event = Event::JournalDamaged { segment: *segment, offset: *offset };
        if !recovered.events.contains(&event) {
            recovered.events.push(event);
        }
        if let Some(found) = recovered.segments.get_mut(segment) {
            found.is_damaged = true;
        }
    }
}

//! What is done to a board's directory, in three lanes, so that a commit waits for commits alone: blocks are written and
//! synced in one, read in another, and files made, freed and removed in the third. A job goes through the lanes in order and
//! is done in its own, so that a file is freed only after it was read and written for the last time.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use shared::action::{DiskDone, DiskJob};
use shared::ids::SegmentId;
use shared::journal::footer;
use shared::journal::format::{HEADER_BYTES, Header};

use super::files::Files;
use super::state::StateFile;
use super::system::FileSystem;
use super::wear::WearFile;
use super::{DiskError, DiskGauge};
use crate::keys::Keys;

/// Where a job is done. A later lane does it only after all that was asked for before it in earlier lanes is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Blocks, footers and the state, as they become durable.
    Write,
    /// Blocks, as they are read.
    Read,
    /// Files, as they come and go.
    Make,
}

impl Lane {
    /// The lane in which `job` is done.
    pub const fn of(job: &DiskJob) -> Self {
        match job {
            DiskJob::Append { .. } | DiskJob::Foot { .. } | DiskJob::Remember(_) => Self::Write,
            DiskJob::Read { .. } | DiskJob::Verify { .. } => Self::Read,
            DiskJob::Prepare { .. } | DiskJob::Free { .. } | DiskJob::Delete { .. } => Self::Make,
        }
    }
}

/// One lane at work.
pub(super) trait Work: Send {
    /// Does `job`, which is of this lane. After an error nobody knows what the disk holds until it is read again: no further
    /// job may be done in any lane.
    fn perform(&mut self, job: DiskJob) -> Result<Option<DiskDone>, DiskError>;

    /// `job` is on its way to a later lane: what this one has open of a file that goes away with it is closed.
    fn pass(&mut self, job: &DiskJob);

    /// Writes down the counts of what was written, where this lane keeps them. A failure says nothing of the journal.
    fn save_wear(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

/// Which file `job` takes the name of.
const fn parted(job: &DiskJob) -> Option<SegmentId> {
    match job {
        DiskJob::Free { segment } | DiskJob::Delete { segment } => Some(*segment),
        DiskJob::Prepare { from, .. } => *from,
        _ => None,
    }
}

/// [`Lane::Write`].
#[derive(Debug)]
pub(super) struct Writer {
    files: Files,
    state: StateFile,
    system: Arc<dyn FileSystem>,
    wear: WearFile,
    keys: Option<Keys>,
    gauge: Arc<DiskGauge>,
}

impl Writer {
    pub(super) fn new(
        (system, path): (Arc<dyn FileSystem>, &Path),
        state: StateFile,
        wear: WearFile,
        keys: Option<Keys>,
        gauge: Arc<DiskGauge>,
    ) -> Self {
        Self { files: Files::new(Arc::clone(&system), path), state, system, wear, keys, gauge }
    }

    /// A block as it is to stand on disk.
    fn seal(&mut self, bytes: Bytes) -> Result<Bytes, DiskError> {
        let Some(keys) = &mut self.keys else { return Ok(bytes) };
        // The node has let go of it, so nothing is copied.
        let mut block = bytes.try_into_mut().unwrap_or_else(|bytes| BytesMut::from(&bytes[..]));
        if keys.seal(&mut block) {
            Ok(block.freeze())
        } else {
            Err(DiskError::Unsealed { path: keys.path().to_owned() })
        }
    }

    /// A footer that says under which key its segment's blocks are sealed: a start with other keys reads nothing else of it.
    fn name_key(&mut self, segment: SegmentId, footer: Bytes) -> Result<Bytes, DiskError> {
        if self.keys.is_none() {
            return Ok(footer);
        }
        let mut front = [0; HEADER_BYTES];
        self.files.read_into(segment, 0, &mut front)?;
        let is_own = |header: &Header| header.is_sealed() && header.place.segment == segment;
        let Some(header) = Header::read(&front).filter(is_own) else {
            return Ok(footer);
        };
        let mut footer = BytesMut::from(&footer[..]);
        footer::set_key(&mut footer, header.key);
        Ok(footer.freeze())
    }
}

impl Work for Writer {
    fn perform(&mut self, job: DiskJob) -> Result<Option<DiskDone>, DiskError> {
        Ok(match job {
            DiskJob::Append { token, segment, offset, bytes } => {
                let bytes = self.seal(bytes)?;
                self.files.write(segment, offset, &bytes)?;
                let began = Instant::now();
                self.files.sync(segment)?;
                self.gauge.note_sync(began.elapsed(), bytes.len());
                self.gauge
                    .wear()
                    .note_payload(Header::read(&bytes).map_or(0, |header| header.payload_bytes));
                Some(DiskDone::Appended { token })
            }
            DiskJob::Foot { segment, offset, bytes, synced } => {
                let bytes = self.name_key(segment, bytes)?;
                self.files.write(segment, offset, &bytes)?;
                if synced {
                    self.files.sync(segment)?;
                }
                None
            }
            DiskJob::Remember(memory) => {
                self.state.remember(memory)?;
                Some(DiskDone::Remembered(memory))
            }
            other => unreachable!("{other:?} is of another lane"),
        })
    }

    fn pass(&mut self, job: &DiskJob) {
        parted(job).into_iter().for_each(|segment| self.files.close(segment));
    }

    fn save_wear(&mut self) -> Result<(), DiskError> {
        self.wear.save(&*self.system, &self.gauge.wear())
    }
}

/// [`Lane::Read`].
#[derive(Debug)]
pub(super) struct Reader {
    files: Files,
    keys: Option<Keys>,
}

impl Reader {
    pub(super) fn new((system, path): (Arc<dyn FileSystem>, &Path), keys: Option<Keys>) -> Self {
        Self { files: Files::new(system, path), keys }
    }

    /// Blocks as the node knows them. What is not what was sealed, or was sealed under a key that was destroyed, is no block any
    /// more: a copy must stand in. A key that should be there and is not is no damage of the block: it ends the process.
    fn unseal(&mut self, segment: SegmentId, offset: u32, bytes: &mut [u8]) -> Result<(), DiskError> {
        let Some(keys) = &mut self.keys else { return Ok(()) };
        keys.refresh_for(segment);
        let mut opened = keys.open(segment, offset, bytes);
        let lacks = |keys: &Keys, lacking: &BTreeSet<u32>| lacking.iter().any(|key| !keys.has_destroyed(*key));
        if lacks(keys, &opened.lacking) {
            // The writer may have read newer ones.
            keys.refresh_now();
            let again = keys.open(segment, offset, bytes);
            opened.forged.extend(again.forged);
            if lacks(keys, &again.lacking) {
                return Err(DiskError::Unsealed { path: keys.path().to_owned() });
            }
        }
        for offset in opened.forged {
            tracing::error!(segment = segment.0, offset, "a block's checksums hold, but its seal does not");
        }
        Ok(())
    }
}

impl Work for Reader {
    fn perform(&mut self, job: DiskJob) -> Result<Option<DiskDone>, DiskError> {
        let (token, segment, offset, length) = match job {
            DiskJob::Read { token, segment, offset, length } => (token, segment, offset, length),
            DiskJob::Verify { token, segment, offset, length } => {
                self.files.forget_cached(segment)?;
                (token, segment, offset, length)
            }
            other => unreachable!("{other:?} is of another lane"),
        };
        let mut bytes = self.files.read(segment, offset, length)?;
        self.unseal(segment, offset, &mut bytes)?;
        Ok(Some(DiskDone::Read { token, bytes: Bytes::from(bytes) }))
    }

    fn pass(&mut self, job: &DiskJob) {
        parted(job).into_iter().for_each(|segment| self.files.close(segment));
    }
}

/// [`Lane::Make`].
#[derive(Debug)]
pub(super) struct Maker {
    files: Files,
}

impl Maker {
    pub(super) fn new(files: Files) -> Self {
        Self { files }
    }
}

impl Work for Maker {
    fn perform(&mut self, job: DiskJob) -> Result<Option<DiskDone>, DiskError> {
        Ok(match job {
            DiskJob::Prepare { segment, from, bytes, written } => {
                let done = match self.files.prepare(segment, from, bytes, written)? {
                    true => DiskDone::Prepared { segment },
                    false => DiskDone::NoRoom { segment },
                };
                Some(done)
            }
            DiskJob::Free { segment } => {
                self.files.free(segment)?;
                None
            }
            DiskJob::Delete { segment } => {
                self.files.delete(segment)?;
                None
            }
            other => unreachable!("{other:?} is of another lane"),
        })
    }

    fn pass(&mut self, _: &DiskJob) {}
}

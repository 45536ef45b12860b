//! A board's directory without lock and thread: reads what earlier lives left, begins a new one, and does one job of the
//! node's after the other on whatever file system it is given.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use shared::action::{DiskDone, DiskJob, Memory};
use shared::ids::{BoardId, Epoch, Name, SegmentId};
use shared::journal::footer;
use shared::journal::format::{HEADER_BYTES, Header};
use shared::journal::recover::Recovered;
use shared::limits::TERMS_RESERVED;

use super::files::Files;
use super::state::{State, StateFile};
use super::system::FileSystem;
use super::wear::{Counted, WearFile};
use super::{DiskError, DiskGauge, recover};
use crate::keys::{Generation, Keys, name_of};

/// The files of one board.
#[derive(Debug)]
pub struct Volume {
    files: Files,
    state: StateFile,
    system: Arc<dyn FileSystem>,
    wear: WearFile,
    keys: Option<Keys>,
    gauge: Arc<DiskGauge>,
}

/// What a start of the board finds, all of it durable.
#[derive(Debug)]
pub struct Found {
    /// This life of the journal.
    pub epoch: Epoch,
    /// What its voter must not forget, with election terms reserved for this life.
    pub memory: Memory,
    /// What earlier lives left.
    pub recovered: Recovered,
    /// The files, ready for jobs.
    pub volume: Volume,
}

impl Volume {
    /// Reads the journal in `data_dir`, which exists, makes what was read durable, and begins a new life of it with
    /// `nonce`. Whoever calls sees to it that no other process has the directory.
    pub fn open(
        system: Arc<dyn FileSystem>,
        data_dir: &Path,
        owner: (&Name, BoardId),
        nonce: u64,
    ) -> Result<Found, DiskError> {
        Self::open_with(system, data_dir, owner, nonce, None)
    }

    /// The same of a journal that is encrypted with `keys`. Where one is missing that blocks are sealed under, nothing is
    /// changed.
    pub fn open_with(
        system: Arc<dyn FileSystem>,
        data_dir: &Path,
        (site, board): (&Name, BoardId),
        nonce: u64,
        mut keys: Option<Keys>,
    ) -> Result<Found, DiskError> {
        let (wear_file, wear) = WearFile::load(&*system, data_dir);
        let gauge = Arc::new(DiskGauge::new(wear));
        let system: Arc<dyn FileSystem> = Arc::new(Counted::new(system, gauge.wear()));
        let mut files = Files::new(Arc::clone(&system), data_dir);
        let recovered = recover::recover(&mut files, keys.as_mut())?;
        check_keys(&recovered.sealed, keys.as_ref(), data_dir)?;
        files.remove_unfinished()?;
        let mut state_file = StateFile::open(&*system, data_dir, (site, board), !recovered.segments.is_empty())?;
        let last = state_file.state();
        let state = State {
            boot: last.boot.checked_add(1).expect("a board does not start four billion times"),
            nonce,
            memory: Memory { term_ceiling: last.memory.term_ceiling + TERMS_RESERVED, ..last.memory },
        };
        state_file.write(state)?;
        files.sync_directory()?;
        gauge.wear().begin(state.boot);
        let volume = Self { files, state: state_file, system, wear: wear_file, keys, gauge };
        Ok(Found { epoch: Epoch { boot: state.boot, nonce }, memory: state.memory, recovered, volume })
    }

    /// Does `job`; what is answered says what it did. After an error nobody knows what the disk holds until it is read
    /// again: no further job may be done.
    pub fn perform(&mut self, job: DiskJob) -> Result<Option<DiskDone>, DiskError> {
        Ok(match job {
            DiskJob::Prepare { segment, from, bytes } => {
                let done = match self.files.prepare(segment, from, bytes)? {
                    true => DiskDone::Prepared { segment },
                    false => DiskDone::NoRoom { segment },
                };
                Some(done)
            }
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
            DiskJob::Foot { segment, offset, bytes } => {
                let bytes = self.name_key(segment, bytes)?;
                self.files.write(segment, offset, &bytes)?;
                None
            }
            DiskJob::Read { token, segment, offset, length } => {
                let mut bytes = self.files.read(segment, offset, length)?;
                self.unseal(segment, offset, &mut bytes);
                Some(DiskDone::Read { token, bytes: Bytes::from(bytes) })
            }
            DiskJob::Verify { token, segment, offset, length } => {
                self.files.forget_cached(segment)?;
                let mut bytes = self.files.read(segment, offset, length)?;
                self.unseal(segment, offset, &mut bytes);
                Some(DiskDone::Read { token, bytes: Bytes::from(bytes) })
            }
            DiskJob::Free { segment } => {
                self.files.free(segment)?;
                None
            }
            DiskJob::Delete { segment } => {
                self.files.delete(segment)?;
                None
            }
            DiskJob::Remember(memory) => {
                self.state.remember(memory)?;
                Some(DiskDone::Remembered(memory))
            }
        })
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
        let Some(header) = Header::read(&front).filter(Header::is_sealed) else {
            return Ok(footer);
        };
        let mut footer = BytesMut::from(&footer[..]);
        footer::set_key(&mut footer, header.key);
        Ok(footer.freeze())
    }

    /// Blocks as the node knows them. What cannot be opened is no block any more: a copy must stand in.
    fn unseal(&mut self, segment: SegmentId, offset: u32, bytes: &mut [u8]) {
        let Some(keys) = &mut self.keys else { return };
        let opened = keys.open(segment, offset, bytes);
        for offset in opened.forged {
            tracing::error!(segment = segment.0, offset, "a block's checksums hold, but its seal does not");
        }
    }

    /// Writes down what was written so far. A failure says nothing of the journal: only counts are lost.
    pub fn save_wear(&mut self) -> Result<(), DiskError> {
        self.wear.save(&*self.system, &self.gauge.wear())
    }

    /// How the disk does.
    pub(super) fn gauge(&self) -> Arc<DiskGauge> {
        Arc::clone(&self.gauge)
    }
}

/// Every key that blocks are still sealed under after recovery must be one that was destroyed: whatever else is missing, the
/// file of keys is the wrong one.
fn check_keys(sealed: &BTreeSet<u32>, keys: Option<&Keys>, data_dir: &Path) -> Result<(), DiskError> {
    for id in sealed {
        let (data_dir, key) = (data_dir.to_owned(), name_of(*id));
        let Some(keys) = keys else {
            return Err(DiskError::Encrypted { data_dir, key });
        };
        match keys.ring().find(*id) {
            Some(generation) if generation.is_destroyed() => {
                tracing::warn!(generation = generation.number, "records under a destroyed key are lost on this board");
            }
            _ => {
                let known = keys
                    .ring()
                    .generations()
                    .iter()
                    .map(Generation::name)
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(DiskError::WrongKey { data_dir, key, file: keys.path().to_owned(), known });
            }
        }
    }
    Ok(())
}

//! A board's directory without lock and thread: reads what earlier lives left, begins a new one, and does one job of the
//! node's after the other on whatever file system it is given.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use shared::action::{DiskDone, DiskJob, Memory};
use shared::ids::{BoardId, Epoch, Name};
use shared::journal::recover::Recovered;
use shared::limits::TERMS_RESERVED;

use super::files::Files;
use super::state::{State, StateFile};
use super::system::FileSystem;
use super::{DiskError, DiskGauge, recover};

/// The files of one board.
#[derive(Debug)]
pub struct Volume {
    files: Files,
    state: StateFile,
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
        (site, board): (&Name, BoardId),
        nonce: u64,
    ) -> Result<Found, DiskError> {
        let mut files = Files::new(Arc::clone(&system), data_dir);
        let recovered = recover::recover(&mut files)?;
        let mut state_file = StateFile::open(&*system, data_dir, (site, board), !recovered.segments.is_empty())?;
        let last = state_file.state();
        let state = State {
            boot: last.boot.checked_add(1).expect("a board does not start four billion times"),
            nonce,
            memory: Memory { term_ceiling: last.memory.term_ceiling + TERMS_RESERVED, ..last.memory },
        };
        state_file.write(state)?;
        files.sync_directory()?;
        let volume = Self { files, state: state_file, gauge: Arc::default() };
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
                self.files.write(segment, offset, &bytes)?;
                let began = Instant::now();
                self.files.sync(segment)?;
                self.gauge.note_sync(began.elapsed(), bytes.len());
                Some(DiskDone::Appended { token })
            }
            DiskJob::Foot { segment, offset, bytes } => {
                self.files.write(segment, offset, &bytes)?;
                None
            }
            DiskJob::Read { token, segment, offset, length } => {
                let bytes = Bytes::from(self.files.read(segment, offset, length)?);
                Some(DiskDone::Read { token, bytes })
            }
            DiskJob::Verify { token, segment, offset, length } => {
                self.files.forget_cached(segment)?;
                let bytes = Bytes::from(self.files.read(segment, offset, length)?);
                Some(DiskDone::Read { token, bytes })
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

    /// How the disk does.
    pub(super) fn gauge(&self) -> Arc<DiskGauge> {
        Arc::clone(&self.gauge)
    }
}

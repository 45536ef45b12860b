//! A board's directory without lock and threads: reads what earlier lives left, begins a new one, and does one job of the
//! node's after the other on whatever file system it is given.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use shared::action::{DiskDone, DiskJob, Memory};
use shared::ids::{BoardId, Epoch, Name};
use shared::journal::recover::Recovered;
use shared::limits::TERMS_RESERVED;

use super::files::Files;
pub use super::lanes::Lane;
use super::lanes::{Maker, Reader, Work, Writer};
use super::state::{State, StateFile};
use super::system::FileSystem;
use super::wear::{Counted, WearFile};
use super::{DiskError, DiskGauge, recover};
use crate::keys::{Generation, Keys, name_of};

/// The files of one board.
#[derive(Debug)]
pub struct Volume {
    writer: Writer,
    reader: Reader,
    maker: Maker,
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
        let place = || (Arc::clone(&system), data_dir);
        let volume = Self {
            reader: Reader::new(place(), keys.clone()),
            writer: Writer::new(place(), state_file, wear_file, keys, Arc::clone(&gauge)),
            maker: Maker::new(files),
            gauge,
        };
        Ok(Found { epoch: Epoch { boot: state.boot, nonce }, memory: state.memory, recovered, volume })
    }

    /// Does `job`; what is answered says what it did. After an error nobody knows what the disk holds until it is read
    /// again: no further job may be done.
    pub fn perform(&mut self, job: DiskJob) -> Result<Option<DiskDone>, DiskError> {
        let lane = Lane::of(&job);
        for (at, work) in self.lanes() {
            if at == lane {
                return work.perform(job);
            }
            work.pass(&job);
        }
        unreachable!("each job has its lane")
    }

    fn lanes(&mut self) -> [(Lane, &mut dyn Work); 3] {
        [(Lane::Write, &mut self.writer), (Lane::Read, &mut self.reader), (Lane::Make, &mut self.maker)]
    }

    /// The lanes, in order, to be run beside each other.
    pub(super) fn split(self) -> [(Lane, Box<dyn Work>); 3] {
        [
            (Lane::Write, Box::new(self.writer)),
            (Lane::Read, Box::new(self.reader)),
            (Lane::Make, Box::new(self.maker)),
        ]
    }

    /// Writes down what was written so far. A failure says nothing of the journal: only counts are lost.
    pub fn save_wear(&mut self) -> Result<(), DiskError> {
        self.writer.save_wear()
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

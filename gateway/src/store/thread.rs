//! The one thread that writes: takes jobs in order, and puts the deposits of all sites that wait into one transaction.
//! Blocking is its trade; the rest of the process never waits for the disk.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shared::hub::{StoreFailed, Stored};
use shared::ids::{Name, Stream, Token};
use shared::limits::BLOCK_RAW_BYTES_MAX;
use shared::ranges::RangeSet;
use shared::time::WallMillis;
use shared::wire::uplink::Block;
use tokio::sync::mpsc;

use super::{Deposit, Happening, Store, StoreError};
use crate::metrics::Metrics;

/// Jobs looked at for one transaction: each site has one deposit on its way at most.
const GATHERED_MAX: usize = 256;

/// Bytes of records, unpacked, of one transaction: once so many are gathered, what waits beyond is for the next. With the largest
/// deposit on top, some 36 MiB.
const GATHERED_BYTES: u64 = 32 * 1024 * 1024;
/// A store that was away is not asked for coverage for so long: each question waits until it is given up, and all sites ask.
const AWAY: Duration = Duration::from_secs(1);

/// Something for the thread to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Store; answered by [`Done::Stored`].
    Store(Token, Deposit),
    /// Read coverage, after what was asked to be stored before; answered by [`Done::Loaded`].
    Load(Token, Name, Vec<Stream>),
    /// Remember for people. Not answered.
    Note(Happening),
    /// Something else to do with the store, which answers by itself; where it fails in passing it is forgotten.
    Errand(Errand),
}

/// What is done with the store, in its turn.
pub(crate) struct Errand(pub(crate) Act);

type Act = Box<dyn FnOnce(&mut dyn Store) -> Result<(), StoreError> + Send>;

impl std::fmt::Debug for Errand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Errand")
    }
}

/// What the thread has done.
#[derive(Debug)]
pub(crate) enum Done {
    /// Committed and synced, or not.
    Stored(Token, Result<Vec<Stored>, StoreFailed>),
    /// What is covered, if that could be read.
    Loaded(Token, Result<Vec<(Stream, RangeSet)>, StoreFailed>),
    /// The store failed for good. The thread has ended; the process must.
    Broken(StoreError),
}

/// A running store thread.
#[derive(Debug)]
pub(crate) struct StoreThread {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

impl StoreThread {
    /// Starts the thread over `store`, with room for `jobs_max` jobs; what it has done comes out of the receiver.
    pub(crate) fn start(
        store: Box<dyn Store>,
        jobs_max: usize,
        metrics: Metrics,
    ) -> io::Result<(Self, mpsc::Receiver<Done>)> {
        let (jobs, waiting) = mpsc::channel(jobs_max);
        let (done, results) = mpsc::channel(jobs_max);
        let writer = Writer { store, failed_at: None, waiting, done, metrics };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())?;
        Ok((Self { jobs, thread }, results))
    }

    /// Where jobs go in.
    pub(crate) fn jobs(&self) -> mpsc::Sender<Job> {
        self.jobs.clone()
    }

    /// Waits for the thread to end, which it does when every sender of jobs and the receiver of results are gone.
    /// Blocks.
    pub(crate) fn join(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            tracing::error!("the store thread ended in a panic");
        }
    }
}

struct Writer {
    store: Box<dyn Store>,
    /// When it was away last.
    failed_at: Option<Instant>,
    waiting: mpsc::Receiver<Job>,
    done: mpsc::Sender<Done>,
    metrics: Metrics,
}

/// Jobs that are done together.
#[derive(Default)]
struct Gathered {
    tokens: Vec<Token>,
    deposits: Vec<Deposit>,
    happenings: Vec<Happening>,
    loads: Vec<(Token, Name, Vec<Stream>)>,
    errands: Vec<Errand>,
    /// Bytes of the deposits' records, as their blocks say.
    bytes: u64,
}

impl Gathered {
    fn add(&mut self, job: Job) {
        match job {
            Job::Store(token, deposit) => {
                // More than a block may hold is a lie, and is found out unpacked.
                let most = BLOCK_RAW_BYTES_MAX as u64;
                let bytes = |block: &Block| u64::from(block.raw_len).min(most);
                self.bytes += deposit.blocks.iter().map(bytes).sum::<u64>();
                self.tokens.push(token);
                self.deposits.push(deposit);
            }
            Job::Load(token, site, streams) => self.loads.push((token, site, streams)),
            Job::Note(happening) => self.happenings.push(happening),
            Job::Errand(errand) => self.errands.push(errand),
        }
    }
}

impl Writer {
    fn run(mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            let mut gathered = Gathered::default();
            gathered.add(first);
            for _ in 1..GATHERED_MAX {
                if gathered.bytes >= GATHERED_BYTES {
                    break;
                }
                let Ok(job) = self.waiting.try_recv() else { break };
                gathered.add(job);
            }
            if let Err(broken) = self.work(gathered) {
                self.tell(Done::Broken(broken));
                return;
            }
            // The gateway stops, and the store would be waited for with each of the jobs that are left: none of them was promised
            // to anybody.
            if self.is_away() && self.done.is_closed() {
                return;
            }
        }
    }

    fn work(&mut self, gathered: Gathered) -> Result<(), StoreError> {
        let Gathered { tokens, deposits, happenings, loads, errands, bytes: _ } = gathered;
        if !deposits.is_empty() || !happenings.is_empty() {
            self.store(tokens, &deposits, &happenings)?;
        }
        // After the deposits that were asked for before them, and those that came with them.
        for (token, site, streams) in loads {
            let loaded = if self.is_away() {
                Err(StoreFailed)
            } else {
                self.load(&site, &streams)?
            };
            self.tell(Done::Loaded(token, loaded));
        }
        for Errand(errand) in errands {
            match errand(&mut *self.store) {
                Err(error) if error.is_passing() => {
                    tracing::warn!(error = link::logging::whole_story(&error), "the store has no time for its upkeep");
                }
                done => done?,
            }
        }
        Ok(())
    }

    fn is_away(&self) -> bool {
        self.failed_at.is_some_and(|at| at.elapsed() < AWAY)
    }

    /// Reads coverage, or gives it up for now: whoever asked may have another region, and asks again.
    fn load(
        &mut self,
        site: &Name,
        streams: &[Stream],
    ) -> Result<Result<Vec<(Stream, RangeSet)>, StoreFailed>, StoreError> {
        match self.store.load(site, streams) {
            Ok(loaded) => Ok(Ok(loaded)),
            Err(error) if error.is_passing() => {
                tracing::error!(
                    error = link::logging::whole_story(&error),
                    "the coverage cannot be read until this passes"
                );
                self.failed_at = Some(Instant::now());
                Ok(Err(StoreFailed))
            }
            Err(error) => Err(error),
        }
    }

    fn store(&mut self, tokens: Vec<Token>, deposits: &[Deposit], happenings: &[Happening]) -> Result<(), StoreError> {
        let begun = Instant::now();
        match self.store.transact(deposits, happenings, now()) {
            Ok(stored) => {
                self.metrics.committed(begun.elapsed(), deposits, &stored);
                for (token, stored) in tokens.into_iter().zip(stored) {
                    self.tell(Done::Stored(token, Ok(stored)));
                }
                Ok(())
            }
            Err(error) if error.is_passing() => {
                self.failed_at = Some(Instant::now());
                self.metrics.not_committed();
                tracing::error!(
                    error = link::logging::whole_story(&error),
                    "nothing is stored until this passes; sites keep their records"
                );
                for token in tokens {
                    self.tell(Done::Stored(token, Err(StoreFailed)));
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn tell(&self, done: Done) {
        // Nobody listens any more: the process stops, and what is committed is found again.
        let _ = self.done.blocking_send(done);
    }
}

fn now() -> WallMillis {
    link::clock::wall()
}

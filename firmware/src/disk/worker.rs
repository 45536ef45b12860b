//! The threads that do disk jobs, one a lane, each one job after the other, in order. The first failure is final.
//!
//! ```text
//!  node ──jobs──▶ disk: writes, syncs ──▶ disk-read: reads ──▶ disk-make: makes, frees, removes files
//!    ▲                  │                       │                          │
//!    └─────────────────┴──────answers──────────┴──────────────────────────┘
//! ```

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use link::logging::whole_story;
use shared::action::{DiskDone, DiskJob};
use tokio::sync::mpsc;

use super::lanes::Work;
use super::volume::{Lane, Volume};
use super::wear::{SAVE_PERIOD, Wear};

/// Jobs that may wait. The node has a handful on their way: at the limit it has a bug.
const JOBS_MAX: usize = 4096;
/// Upper ends of the buckets in which sync times are counted, in microseconds: 0.1 ms to 3 s.
pub(crate) const SYNC_BUCKETS_MICROS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 3_000_000];

/// How the disk does: read by `/metrics`.
#[derive(Debug)]
pub struct DiskGauge {
    failed: AtomicBool,
    syncs: Mutex<SyncTimes>,
    wear: Arc<Wear>,
}

/// Times of fdatasync since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SyncTimes {
    /// How many fell into each bucket of [`SYNC_BUCKETS_MICROS`]; the last holds all above.
    pub(crate) buckets: [u64; SYNC_BUCKETS_MICROS.len() + 1],
    /// All of them together.
    pub(crate) total: Duration,
    /// How many bytes they made durable.
    pub(crate) bytes: u64,
}

impl DiskGauge {
    pub(super) fn new(wear: Wear) -> Self {
        Self { failed: AtomicBool::new(false), syncs: Mutex::default(), wear: Arc::new(wear) }
    }

    /// What was written, in this life and before.
    pub fn wear(&self) -> Arc<Wear> {
        Arc::clone(&self.wear)
    }

    /// Whether a job has failed: nothing is written any more.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn sync_times(&self) -> SyncTimes {
        *self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_sync(&self, took: Duration, bytes: usize) {
        let mut times = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        times.buckets[SYNC_BUCKETS_MICROS.partition_point(|end| *end < micros)] += 1;
        times.total += took;
        times.bytes += bytes as u64;
    }
}

/// The disk, as the owner of the node sees it.
#[derive(Debug)]
pub struct Disk {
    jobs: Option<SyncSender<DiskJob>>,
    done: mpsc::Receiver<DiskDone>,
    gauge: Arc<DiskGauge>,
    /// First lane first.
    threads: Vec<JoinHandle<()>>,
    _lock: File,
}

impl Disk {
    pub(super) fn start(volume: Volume, lock: File) -> Self {
        let (jobs, waiting) = sync_channel(JOBS_MAX);
        let (answers, done) = mpsc::channel(JOBS_MAX);
        let gauge = volume.gauge();
        let mut threads = Vec::new();
        let mut waiting = Some(waiting);
        for (lane, work) in volume.split() {
            let (next, waiting_next) = sync_channel(JOBS_MAX);
            let next = (lane != Lane::Make).then_some(next);
            let waiting = waiting.replace(waiting_next).expect("each lane leaves one behind it");
            let (gauge, answers) = (Arc::clone(&gauge), answers.clone());
            let worker = Worker { work, lane, gauge, answers, next, saves_wear: lane == Lane::Write };
            threads.push(worker.start(waiting));
        }
        Self { jobs: Some(jobs), done, gauge, threads, _lock: lock }
    }

    /// Hands a job over without waiting. After a failure it is dropped: the answer `Failed` was the last.
    ///
    /// # Panics
    /// Where `JOBS_MAX` wait: the node never asks for so many, so it has a bug.
    pub fn submit(&self, job: DiskJob) {
        let Some(jobs) = &self.jobs else { return };
        let full = matches!(jobs.try_send(job), Err(TrySendError::Full(_)));
        assert!(!full, "the node asks for more than the disk can ever do");
    }

    /// The next answer. May be dropped half-way and called again.
    pub async fn done(&mut self) -> DiskDone {
        match self.done.recv().await {
            Some(done) => done,
            // The threads are gone, so no job will ever be done again. Said once: a further call waits for ever.
            None if !self.gauge.failed.swap(true, Ordering::Relaxed) => DiskDone::Failed,
            None => std::future::pending().await,
        }
    }

    /// The next answer, if one is there.
    pub fn try_done(&mut self) -> Option<DiskDone> {
        self.done.try_recv().ok()
    }

    /// How the disk does.
    pub fn gauge(&self) -> Arc<DiskGauge> {
        Arc::clone(&self.gauge)
    }
}

/// Waits for the jobs in hand, so that the directory is free when this returns.
impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = None;
        self.done.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// One lane's thread.
struct Worker {
    work: Box<dyn Work>,
    lane: Lane,
    gauge: Arc<DiskGauge>,
    answers: mpsc::Sender<DiskDone>,
    /// The lane behind it, to which goes what is not its own.
    next: Option<SyncSender<DiskJob>>,
    /// Until it failed: then it is left alone.
    saves_wear: bool,
}

impl Worker {
    fn start(self, waiting: Receiver<DiskJob>) -> JoinHandle<()> {
        let name = match self.lane {
            Lane::Write => "disk",
            Lane::Read => "disk-read",
            Lane::Make => "disk-make",
        };
        std::thread::Builder::new()
            .name(name.into())
            .stack_size(256 * 1024)
            .spawn(move || self.run(&waiting))
            .expect("a process that just started can start a thread")
    }

    fn run(mut self, jobs: &Receiver<DiskJob>) {
        let mut save_at = Instant::now() + SAVE_PERIOD;
        loop {
            if Instant::now() >= save_at {
                self.save_wear();
                save_at = Instant::now() + SAVE_PERIOD;
            }
            let job = match jobs.recv_timeout(save_at.saturating_duration_since(Instant::now())) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if self.gauge.has_failed() {
                return;
            }
            if self.handle(job).is_err() {
                break;
            }
        }
        self.save_wear();
    }

    /// Does `job`, or hands it on. An error where nobody waits for more.
    fn handle(&mut self, job: DiskJob) -> Result<(), Ended> {
        if Lane::of(&job) != self.lane {
            self.work.pass(&job);
            let next = self.next.as_ref().expect("the last lane does what is left");
            return next.send(job).map_err(|_| Ended);
        }
        let done = match self.work.perform(job) {
            Ok(None) => return Ok(()),
            Ok(Some(done)) => done,
            Err(error) => {
                tracing::error!(error = whole_story(&error), "the disk failed; nothing more is written");
                // Said once, by the lane that failed first.
                if !self.gauge.failed.swap(true, Ordering::Relaxed) {
                    let _ = self.answers.blocking_send(DiskDone::Failed);
                }
                return Err(Ended);
            }
        };
        self.answers.blocking_send(done).map_err(|_| Ended)
    }

    fn save_wear(&mut self) {
        if !self.saves_wear {
            return;
        }
        if let Err(error) = self.work.save_wear() {
            tracing::warn!(error = whole_story(&error), "the counts of what was written are kept no more");
            self.saves_wear = false;
        }
    }
}

/// The lane does nothing more.
struct Ended;

//! The thread that does disk jobs, one after the other, in order. The first failure is final.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use link::logging::whole_story;
use shared::action::{DiskDone, DiskJob};
use tokio::sync::mpsc;

use super::volume::Volume;
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
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    pub(super) fn start(volume: Volume, lock: File) -> Self {
        let (jobs, waiting) = sync_channel(JOBS_MAX);
        let (answers, done) = mpsc::channel(JOBS_MAX);
        let gauge = volume.gauge();
        let worker = Worker { volume, gauge: Arc::clone(&gauge), saves_wear: true, _lock: lock };
        let thread = std::thread::Builder::new()
            .name("disk".into())
            .stack_size(256 * 1024)
            .spawn(move || worker.run(&waiting, &answers))
            .expect("a process that just started can start a thread");
        Self { jobs: Some(jobs), done, gauge, thread: Some(thread) }
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
            // The thread is gone, so no job will ever be done again. Said once: a further call waits for ever.
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

/// Waits for the job in hand, so that the directory is free when this returns.
impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = None;
        self.done.close();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

struct Worker {
    volume: Volume,
    gauge: Arc<DiskGauge>,
    /// Until it failed: then it is left alone.
    saves_wear: bool,
    _lock: File,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<DiskJob>, answers: &mpsc::Sender<DiskDone>) {
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
            let done = match self.volume.perform(job) {
                Ok(None) => continue,
                Ok(Some(done)) => done,
                Err(error) => {
                    tracing::error!(error = whole_story(&error), "the disk failed; nothing more is written");
                    self.gauge.failed.store(true, Ordering::Relaxed);
                    let _ = answers.blocking_send(DiskDone::Failed);
                    return;
                }
            };
            if answers.blocking_send(done).is_err() {
                break;
            }
        }
        self.save_wear();
    }

    fn save_wear(&mut self) {
        if !self.saves_wear {
            return;
        }
        if let Err(error) = self.volume.save_wear() {
            tracing::warn!(error = whole_story(&error), "the counts of what was written are kept no more");
            self.saves_wear = false;
        }
    }
}

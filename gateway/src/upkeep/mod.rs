//! What is done with records that are stored: those of a day that is over go into the archive, and those whose time is over are
//! removed. Owns the order of both; what is a part, and which blocks are due, is the store's.
//!
//! ```text
//! part planned ──▶ rows read ──▶ Parquet file ──▶ object put ──▶ object read back ──▶ noted in the store ──▶ may expire
//!  transaction      snapshot       in memory                       digest compared        transaction         transactions
//! ```
//!
//! Killed between any two of these, the next round begins with the part that waits: the same rows under the same name. What writes runs
//! on the store's own thread, between the transactions of sites, a bounded piece at a time.
//!
//! | module | what |
//! |---|---|
//! | `parquet` | rows as a file |

mod parquet;

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::parquet::errors::ParquetError;
use link::logging::whole_story;
use link::stop::Stop;
use prometheus_client::registry::Registry;
use shared::ids::{Class, Name};
use shared::time::WallMillis;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use self::parquet::Writer;
use crate::config::Retention;
use crate::metrics::Metrics;
use crate::objects::{Digest, ObjectError, Objects};
use crate::store::parts::{DAY_MS, Due, EXPIRED_RECORDS, Expiry, Part, day_of, millis};
use crate::store::read::StoreReader;
use crate::store::{Errand, Job, Store, StoreError};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(600);
/// Between a round that failed and the next.
const RETRY: Duration = Duration::from_secs(60);
/// A day is over for the archive so long after its end: what was received in it is committed by then, also by another gateway,
/// and a clock that was set back a little makes no second part.
const SETTLED_MS: i64 = 10 * 60 * 1000;
/// Between two transactions that remove, sites have the store for as long as the first took, and no longer than this.
const REST_MAX: Duration = Duration::from_secs(1);

/// Why a round ended before it was done. Nothing is lost by it: the next goes on.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// The store cannot be read or written.
    #[error("the store could not be asked")]
    Store(#[from] StoreError),
    /// The store has no time, or has ended.
    #[error("the store has no time for its upkeep now")]
    NotNow,
    /// The archive's place.
    #[error("the archive could not be used")]
    Objects(#[from] ObjectError),
    /// A file could not be made of rows. A bug.
    #[error("rows could not be made a Parquet file")]
    Parquet(#[from] ParquetError),
    /// The store lacks rows that it must have, or has more. Nothing was put.
    #[error("part {name} must have {records} rows, and the store has {rows}: the store is damaged")]
    NotWhole {
        /// Which part.
        name: String,
        /// How many it must have.
        records: u64,
        /// How many there are.
        rows: u64,
    },
    /// What was read back is not what was put. It is put again in the next round.
    #[error("{name} in {place} is not what was put there: nothing of it is removed from the store")]
    Changed {
        /// Which object.
        name: String,
        /// Where.
        place: String,
    },
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Parts that are in the archive now.
    pub parts: u64,
    /// Records in them.
    pub archived: u64,
    /// Records that were removed.
    pub expired: u64,
}

/// Who writes.
#[derive(Debug)]
enum Hand {
    /// The store's own thread, which is asked.
    Thread(mpsc::Sender<Job>),
    /// This one.
    Here(Box<dyn Store>),
}

/// The upkeep of a store.
#[derive(Debug)]
pub struct Upkeep {
    hand: Hand,
    reader: Box<dyn StoreReader>,
    archive: Option<Objects>,
    retention: Retention,
    runtime: Handle,
    metrics: Metrics,
    stop: Option<Stop>,
}

impl Upkeep {
    /// Of a store that nobody else writes meanwhile. Requests leave by `runtime`, on which this must not be called.
    pub fn of(
        store: Box<dyn Store>,
        reader: Box<dyn StoreReader>,
        archive: Option<Objects>,
        retention: Retention,
        runtime: Handle,
    ) -> Self {
        let metrics = Metrics::new(&mut Registry::default());
        Self { hand: Hand::Here(store), reader, archive, retention, runtime, metrics, stop: None }
    }

    /// Of the store whose thread takes `jobs`, in a thread of its own, until `stop`.
    pub(crate) fn start(
        jobs: mpsc::Sender<Job>,
        reader: Box<dyn StoreReader>,
        (archive, retention): (Option<Objects>, Retention),
        metrics: Metrics,
        stop: Stop,
    ) -> io::Result<JoinHandle<()>> {
        let (hand, runtime) = (Hand::Thread(jobs), Handle::current());
        let upkeep = Self { hand, reader, archive, retention, runtime, metrics, stop: Some(stop.clone()) };
        std::thread::Builder::new()
            .name("upkeep".to_owned())
            .spawn(move || upkeep.run(stop))
    }

    fn run(mut self, mut stop: Stop) {
        while !stop.is_stopped() {
            let pause = match self.round(link::clock::wall()) {
                Ok(done) => {
                    if done != Done::default() {
                        let Done { parts, archived, expired } = done;
                        tracing::info!(parts, archived, expired, "the store's upkeep is done");
                    }
                    ROUND
                }
                Err(_) if stop.is_stopped() => return,
                Err(error) => {
                    tracing::error!(
                        why = whole_story(&error),
                        "the store's upkeep ended early; it goes on in a minute"
                    );
                    RETRY
                }
            };
            let _ = self
                .runtime
                .block_on(async { tokio::time::timeout(pause, stop.stopped()).await });
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(Stop::is_stopped)
    }

    /// Archives every day that is over at `now`, then removes what has been kept for as long as it is to be, and where there is an
    /// archive is in it. Where the archive fails, what is in it already is removed all the same. Blocks.
    pub fn round(&mut self, now: WallMillis) -> Result<Done, UpkeepError> {
        let mut done = Done::default();
        let archived = self.archive(now, &mut done);
        if archived.is_err() && !self.is_stopped() {
            self.metrics.archive_failed();
        }
        self.expire(now, &mut done)?;
        archived.map(|()| done)
    }

    fn archive(&mut self, now: WallMillis, done: &mut Done) -> Result<(), UpkeepError> {
        let Some(archive) = self.archive.clone() else { return Ok(()) };
        let over = day_of(millis(now).saturating_sub(SETTLED_MS));
        let over = WallMillis(u64::try_from(over).unwrap_or(0));
        while !self.is_stopped() {
            let Some(part) = self.next_part(over)? else { return Ok(()) };
            let Some(bytes) = self.put(&archive, &part)? else { continue };
            let noted = part.clone();
            if self.ask(move |store| store.archived(&noted, bytes, now))? {
                self.metrics.archived(&part.site, part.records);
                tracing::debug!(name = part.name, records = part.records, bytes, "archived");
                done.parts += 1;
                done.archived += part.records;
            }
        }
        Ok(())
    }

    fn next_part(&mut self, over: WallMillis) -> Result<Option<Part>, UpkeepError> {
        if let Some(waiting) = self.reader.waiting()? {
            return Ok(Some(waiting));
        }
        let Some(site) = self.reader.unarchived(over)? else { return Ok(None) };
        // Names came from the configuration, which bounds them.
        let site = Name::try_from(site.as_str()).map_err(|_| StoreError::Vanished)?;
        self.ask(move |store| store.plan(&site, over))
    }

    /// Puts the part's rows, and reads the object back; its length. `None` where the part does not wait any more: another gateway has
    /// put it.
    fn put(&self, archive: &Objects, part: &Part) -> Result<Option<u64>, UpkeepError> {
        let mut file = Writer::new(part)?;
        let mut failed = None;
        let read = self.reader.part_rows(part, &mut |row, received_ms| {
            if failed.is_none() {
                failed = file.add(&row, received_ms).err();
            }
        })?;
        if read.is_none() {
            return Ok(None);
        }
        if let Some(failed) = failed {
            return Err(failed.into());
        }
        let (body, rows) = file.finish()?;
        if rows != part.records {
            return Err(UpkeepError::NotWhole { name: part.name.clone(), records: part.records, rows });
        }
        // Blocks whose readings were all rows already.
        if rows == 0 {
            return Ok(Some(0));
        }
        let wanted = Digest::of(&body);
        let found = self.runtime.block_on(async {
            archive.put(&part.name, body).await?;
            archive.digest(&part.name, wanted.bytes).await
        })?;
        if found != Some(wanted) {
            return Err(UpkeepError::Changed { name: part.name.clone(), place: archive.to_string() });
        }
        Ok(Some(wanted.bytes))
    }

    fn expire(&mut self, now: WallMillis, done: &mut Done) -> Result<(), UpkeepError> {
        let archived_only = self.archive.is_some();
        for class in Class::ALL {
            let Some(days) = self.retention.of(class) else { continue };
            let before = millis(now).saturating_sub(i64::from(days).saturating_mul(DAY_MS));
            let before = WallMillis(u64::try_from(before).unwrap_or(0));
            while !self.is_stopped() {
                let due = self.reader.due(class, before, archived_only)?;
                let expired = self.remove(due, archived_only)?;
                // Nothing is due, or all of it has changed since it was looked up: the next round looks again.
                if expired == (0, 0) {
                    break;
                }
                done.expired += expired.1;
            }
        }
        Ok(())
    }

    /// Removes blocks, some records a transaction; how many blocks were tried, and how many records went. Nothing was tried where the
    /// upkeep stops.
    fn remove(&mut self, mut due: Vec<Due>, archived_only: bool) -> Result<(usize, u64), UpkeepError> {
        let (mut tried, mut gone) = (0, 0);
        while !due.is_empty() && !self.is_stopped() {
            let begun = Instant::now();
            let rest = due.split_off(piece(&due));
            let blocks = std::mem::replace(&mut due, rest);
            let count = blocks.len();
            let expired = self.ask(move |store| store.expire(&Expiry { blocks: &blocks, archived_only }))?;
            self.metrics.expired(&expired);
            let records: u64 = expired.values().sum();
            tried += if expired.is_empty() { 0 } else { count };
            gone += records;
            if matches!(self.hand, Hand::Thread(_)) {
                std::thread::sleep(begun.elapsed().min(REST_MAX));
            }
        }
        Ok((tried, gone))
    }

    /// Has the store do something in its turn; what came of it.
    fn ask<A: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut dyn Store) -> Result<A, StoreError> + Send + 'static,
    ) -> Result<A, UpkeepError> {
        match &mut self.hand {
            Hand::Here(store) => Ok(act(&mut **store)?),
            Hand::Thread(jobs) => {
                let (answer, answered) = std::sync::mpsc::sync_channel(1);
                let errand = Errand(Box::new(move |store| {
                    // The asker waits for it.
                    let _ = answer.send(act(store)?);
                    Ok(())
                }));
                jobs.blocking_send(Job::Errand(errand)).map_err(|_| UpkeepError::NotNow)?;
                answered.recv().map_err(|_| UpkeepError::NotNow)
            }
        }
    }
}

/// How many of the blocks go in one transaction: one at least.
fn piece(due: &[Due]) -> usize {
    let mut records = 0;
    due.iter()
        .take_while(|due| {
            let fits = records < EXPIRED_RECORDS;
            records += due.records;
            fits
        })
        .count()
}

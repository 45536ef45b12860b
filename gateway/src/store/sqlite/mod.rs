//! The store in one SQLite file with one writer. Owns the file, its lock and its transactions.
//!
//! | file | what |
//! |---|---|
//! | `region.sqlite`, `-wal`, `-shm` | the store |
//! | `lock` | held while a gateway runs, so that there is one writer |

mod deposit;
mod ids;
mod look;
mod numbers;
mod parts;
mod read;
pub(super) mod schema;
mod standing;

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};
use shared::hub::{HubMemory, Stored};
use shared::ids::{Name, Stream};
use shared::ranges::RangeSet;
use shared::time::WallMillis;

pub use self::read::SqliteReader;
use super::parts::{Expired, Expiry, Part};
use super::{Deposit, Happening, Store, StoreError, lock};

/// Name of the store's file in the data directory.
pub const FILE: &str = "region.sqlite";

/// The store in a file, open for writing.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    ids: ids::Ids,
    /// Held for its lock.
    _lock: File,
}

impl SqliteStore {
    /// Opens the store in `dir`, making both where they do not exist, and tells what it remembers.
    ///
    /// The incarnation is drawn anew at every opening: a store cannot know that it was restored from an older copy, and
    /// all that a new number costs is that sites ask for the coverage again.
    pub fn open(dir: &Path) -> Result<(Self, HubMemory), StoreError> {
        let unusable = |source| StoreError::Directory { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        let lock = lock(dir)?;
        let mut connection = schema::open(&dir.join(FILE))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;
        let incarnation = link::entropy::draw().map_err(unusable)?;
        let memory = schema::remember(&mut connection, incarnation)?;
        Ok((Self { connection, ids: ids::Ids::default(), _lock: lock }, memory))
    }

    fn try_transact(
        &mut self,
        deposits: &[Deposit],
        happenings: &[Happening],
        now: WallMillis,
    ) -> Result<Vec<Vec<Stored>>, StoreError> {
        // Immediate: the one writer takes its lock first, and never fails half-way for want of it.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut filing = deposit::Filing::new(&transaction, &mut self.ids, now)?;
        let stored = deposits
            .iter()
            .map(|deposit| filing.deposit(deposit))
            .collect::<Result<Vec<_>, _>>()?;
        filing.happenings(happenings)?;
        filing.numbers()?;
        drop(filing);
        transaction.commit()?;
        Ok(stored)
    }

    fn within<A>(&mut self, act: impl FnOnce(&Connection) -> Result<A, StoreError>) -> Result<A, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = act(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

impl Store for SqliteStore {
    fn transact(
        &mut self,
        deposits: &[Deposit],
        happenings: &[Happening],
        now: WallMillis,
    ) -> Result<Vec<Vec<Stored>>, StoreError> {
        let result = self.try_transact(deposits, happenings, now);
        if result.is_err() {
            // Identities that the transaction gave out are gone with it.
            self.ids.forget();
        }
        result
    }

    fn load(&mut self, site: &Name, streams: &[Stream]) -> Result<Vec<(Stream, RangeSet)>, StoreError> {
        let mut loaded = Vec::new();
        for stream in streams {
            if let Some(id) = self.ids.find_stream(&self.connection, site, stream)? {
                loaded.push((*stream, deposit::coverage(&self.connection, id)?));
            }
        }
        Ok(loaded)
    }

    fn plan(&mut self, site: &Name, before: WallMillis) -> Result<Option<Part>, StoreError> {
        self.within(|sql| parts::plan(sql, site, before))
    }

    fn archived(&mut self, part: &Part, bytes: u64, now: WallMillis) -> Result<bool, StoreError> {
        self.within(|sql| parts::archived(sql, part, bytes, now))
    }

    fn expire(&mut self, expiry: &Expiry<'_>) -> Result<Expired, StoreError> {
        // What is at hand of numbers goes with rows.
        self.ids.numbered = numbers::Numbered::default();
        self.within(|sql| parts::expire(sql, expiry))
    }
}

//! The store in a PostgreSQL database, of version 15 or later, or of an engine that speaks its protocol and its plain SQL. Owns the
//! connection that writes: what it promises when the server goes, comes back, or another one takes its place.
//!
//! ```text
//! BEGIN; writer.committed = n; file the deposits; COMMIT ──answer──▶ acknowledged
//!                                                   └──no answer──▶ connect again, and ask: committed = n?
//!                                                                     n       it was: acknowledged
//!                                                                     n - 1   it was not: file it again
//!                                                                     less    the server has forgotten: end, begin anew
//! ```
//!
//! The row of `writer` is locked by the transaction that changes it, so whoever asks waits until the server has made up its mind
//! about a transaction whose answer was lost. So a commit is asked for only after that change was answered: one that a
//! stopped server finds in its socket when it goes on would else happen after the asking.
//!
//! A server that does not answer in time (`session`) is one that is away.

mod copy;
mod fault;
mod filing;
mod ids;
mod key;
mod loads;
mod lots;
mod names;
mod numbers;
pub mod own;
mod parts;
mod place;
mod read;
mod schema;
mod session;
mod standing;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use shared::hub::{HubMemory, Stored};
use shared::ids::{Name, Stream, Term};
use shared::ranges::RangeSet;
use shared::time::WallMillis;

pub use self::fault::Fault;
use self::filing::{Filing, range_at};
use self::ids::Ids;
pub use self::loads::PostgresLoads;
pub use self::place::PostgresPlace;
pub use self::read::PostgresReader;
use self::session::{Session, get};
use super::parts::{Expired, Expiry, Part, millis};
use super::{Deposit, Happening, Store, StoreError, lock};

/// A server that is away is waited for so long within a transaction; sessions of boards stay meanwhile. Then the transaction
/// is given up, and boards bring its blocks again: as long as a supervised server takes to start again. One that takes
/// connections and does not answer was waited for longer than this when it is noticed.
const AWAY_MAX: Duration = Duration::from_secs(5);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);
/// A transaction that meets another gateway's is done again so often at most.
const CONFLICTS_MAX: u32 = 10;
/// After a digest was filed already, all of them are looked up first for so many transactions: what was sent twice comes in a row.
const CAREFUL_FOR: u32 = 64;
/// What a writer of this long ago has committed interests nobody: thirty days.
const WRITER_MILLIS_MAX: i64 = 30 * 24 * 3600 * 1000;

/// The store in PostgreSQL, open for writing.
#[derive(Debug)]
pub struct PostgresStore {
    place: PostgresPlace,
    session: Option<Session>,
    ids: Ids,
    incarnation: u64,
    /// Transactions that this writer knows to be committed.
    committed: i64,
    /// Whether one more was asked for whose answer was lost.
    in_doubt: bool,
    /// For how many transactions all digests are looked up first.
    careful: u32,
    /// Held for its lock: what else is in the directory has one owner.
    _lock: File,
}

impl PostgresStore {
    /// Opens the store at `place`, making its tables where there are none, and tells what it remembers. Locks `dir`, which is made
    /// where it does not exist: accounts and the audit log of a gateway are there whatever its store.
    ///
    /// The incarnation is drawn anew at every opening, as of the store in a file. Several gateways may have the same place open.
    pub fn open(place: &PostgresPlace, dir: &Path) -> Result<(Self, HubMemory), StoreError> {
        let unusable = |source| StoreError::Directory { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        let lock = lock(dir)?;
        let mut session = Session::to_write(place)?;
        schema::lay_out(&mut session)?;
        let incarnation = link::entropy::draw().map_err(unusable)?;
        let now = millis(link::clock::wall());
        // By the server's clock: that of a gateway may be years ahead. One that shares the sites and has nothing to file is there all the same.
        let delete = "DELETE FROM writer WHERE at_ms < (extract(epoch FROM now()) * 1000)::bigint - $1
                        AND incarnation NOT IN (SELECT incarnation FROM gateway)";
        session.execute(delete, &[&WRITER_MILLIS_MAX])?;
        session.execute(
            "INSERT INTO writer (incarnation, committed, opened_ms, at_ms, layout)
             VALUES ($1, 0, $2, (extract(epoch FROM now()) * 1000)::bigint, $3)",
            &[&incarnation.cast_signed(), &now, &schema::VERSION],
        )?;
        let mut fences = BTreeMap::new();
        for row in session.query("SELECT name, fence FROM site", &[])? {
            // Names came from the configuration, which bounds them.
            if let Ok(name) = Name::try_from(get::<&str>(&row, 0)?) {
                fences.insert(name, Term::from_token(get::<i64>(&row, 1)?.cast_unsigned()));
            }
        }
        let store = Self {
            place: place.clone(),
            session: Some(session),
            ids: Ids::default(),
            incarnation,
            committed: 0,
            in_doubt: false,
            careful: 0,
            _lock: lock,
        };
        Ok((store, HubMemory { incarnation, fences }))
    }

    /// The connection, made anew where it is gone. Before anything else is done on a new one it is settled what the server has
    /// committed. Waits for a server that is away until `deadline`.
    fn session(&mut self, deadline: Instant) -> Result<&mut Session, StoreError> {
        if self.session.as_ref().is_some_and(Session::is_gone) {
            self.session = None;
        }
        while self.session.is_none() {
            let settled = Session::to_write(&self.place).and_then(|mut session| {
                self.settle(&mut session)?;
                Ok(session)
            });
            match settled {
                Ok(session) => {
                    tracing::info!(database = %self.place, "connected again");
                    self.session = Some(session);
                }
                Err(error) if error.is_passing() && Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(self.session.as_mut().expect("it was just made where it was missing"))
    }

    /// Asks a server what it has committed of this writer's, and takes its word for the transaction that is in doubt.
    fn settle(&mut self, session: &mut Session) -> Result<(), StoreError> {
        session.batch("BEGIN")?;
        let asked = "SELECT committed FROM writer WHERE incarnation = $1 FOR UPDATE";
        let row = session.query_opt(asked, &[&self.incarnation.cast_signed()])?;
        let committed: Option<i64> = row.map(|row| get(&row, 0)).transpose()?;
        session.batch("COMMIT")?;
        let believed = self.committed..=self.committed + i64::from(self.in_doubt);
        match committed.filter(|committed| believed.contains(committed)) {
            Some(committed) => {
                self.committed = committed;
                self.in_doubt = false;
                Ok(())
            }
            None => Err(StoreError::Forgotten { known: self.committed.cast_unsigned() }),
        }
    }

    /// One attempt at a transaction. An error leaves it open, or the connection gone.
    fn attempt(
        &mut self,
        deposits: &[Deposit],
        happenings: &[Happening],
        now: WallMillis,
        deadline: Instant,
    ) -> Result<Vec<Vec<Stored>>, StoreError> {
        self.session(deadline)?;
        let Self { session: Some(session), ids, .. } = self else {
            return Err(StoreError::Vanished);
        };
        let number = self.committed + 1;
        let update = "UPDATE writer SET committed = $2, at_ms = (extract(epoch FROM now()) * 1000)::bigint
                      WHERE incarnation = $1 AND committed = $3";
        if session.begin(update, &[&self.incarnation.cast_signed(), &number, &self.committed])? != 1 {
            return Err(StoreError::Forgotten { known: self.committed.cast_unsigned() });
        }
        let mut filing = Filing { session, ids, now, careful: self.careful > 0 };
        let stored = filing.file(deposits, happenings)?;
        self.in_doubt = true;
        if let Err(error) = self.commit() {
            // Whatever it said: what the server has done about it is asked on a new connection.
            self.session = None;
            tracing::warn!(
                why = link::logging::whole_story(&error),
                "a commit had no answer; the server is asked what became of it"
            );
            self.session(Instant::now() + AWAY_MAX)?;
            return if self.committed == number { Ok(stored) } else { Err(error) };
        }
        self.committed = number;
        self.in_doubt = false;
        Ok(stored)
    }

    /// A transaction that may be made again however the one before has ended: its doing finds out by itself what was done. One that
    /// meets another gateway's is made again.
    fn within<A>(&mut self, act: impl Fn(&mut Session) -> Result<A, StoreError>) -> Result<A, StoreError> {
        let deadline = Instant::now() + AWAY_MAX;
        let (mut conflicts, incarnation, known) = (0, self.incarnation.cast_signed(), self.committed.cast_unsigned());
        // A writer of an older build may not change tables which it does not know; and one that keeps up what is there is not one of long ago.
        let is_known = |session: &mut Session| -> Result<(), StoreError> {
            let update = "UPDATE writer SET at_ms = (extract(epoch FROM now()) * 1000)::bigint WHERE incarnation = $1";
            let changed = session.execute(update, &[&incarnation])?;
            if changed == 1 {
                Ok(())
            } else {
                Err(StoreError::Forgotten { known })
            }
        };
        loop {
            let session = self.session(deadline)?;
            // One at a time of all gateways: none plans what another one does, and none waits for another's locks crosswise.
            let done = session
                .batch("BEGIN; SELECT 1 FROM meta FOR UPDATE")
                .and_then(|()| is_known(session))
                .and_then(|()| act(session))
                .and_then(|done| session.batch("COMMIT").map(|()| done));
            let error = match done {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if session.batch("ROLLBACK").is_err() {
                self.session = None;
            }
            match &error {
                StoreError::Postgres { fault: Fault::Conflict, .. } if conflicts < CONFLICTS_MAX => conflicts += 1,
                _ => return Err(error),
            }
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let session = self.session.as_mut().ok_or(StoreError::Vanished)?;
        session.batch("COMMIT")
    }
}

impl Store for PostgresStore {
    fn transact(
        &mut self,
        deposits: &[Deposit],
        happenings: &[Happening],
        now: WallMillis,
    ) -> Result<Vec<Vec<Stored>>, StoreError> {
        let deadline = Instant::now() + AWAY_MAX;
        let mut conflicts = 0;
        loop {
            let error = match self.attempt(deposits, happenings, now, deadline) {
                Ok(stored) => {
                    self.careful = self.careful.saturating_sub(1);
                    return Ok(stored);
                }
                Err(error) => error,
            };
            // Numbers that the transaction gave out are gone with it.
            self.ids.forget();
            if self.session.as_mut().is_some_and(|session| session.batch("ROLLBACK").is_err()) {
                self.session = None;
            }
            match &error {
                StoreError::Postgres { fault: Fault::Conflict, .. } if conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    self.careful = CAREFUL_FOR;
                }
                error if is_away(error) && Instant::now() < deadline => self.session = None,
                _ => return Err(error),
            }
        }
    }

    fn load(&mut self, site: &Name, streams: &[Stream]) -> Result<Vec<(Stream, RangeSet)>, StoreError> {
        let deadline = Instant::now() + AWAY_MAX;
        loop {
            let loaded = self.session(deadline).and_then(|session| load(session, site, streams));
            match loaded {
                Err(error) if is_away(&error) && Instant::now() < deadline => self.session = None,
                loaded => return loaded,
            }
        }
    }

    fn plan(&mut self, site: &Name, before: WallMillis) -> Result<Option<Part>, StoreError> {
        self.within(|session| parts::plan(session, site, before))
    }

    fn archived(&mut self, part: &Part, bytes: u64, now: WallMillis) -> Result<bool, StoreError> {
        self.within(|session| parts::archived(session, part, bytes, now))
    }

    fn expire(&mut self, expiry: &Expiry<'_>) -> Result<Expired, StoreError> {
        self.within(|session| parts::expire(session, expiry))
    }
}

/// Whether another attempt needs another connection, and may find a server that answers.
const fn is_away(error: &StoreError) -> bool {
    matches!(error, StoreError::Postgres { fault: Fault::Away, .. } | StoreError::Silent)
}

fn load(session: &mut Session, site: &Name, streams: &[Stream]) -> Result<Vec<(Stream, RangeSet)>, StoreError> {
    let columns: Vec<_> = streams.iter().map(ids::columns).collect();
    let boards: Vec<i16> = columns.iter().map(|column| column.0).collect();
    let boots: Vec<i64> = columns.iter().map(|column| column.1).collect();
    let nonces: Vec<i64> = columns.iter().map(|column| column.2).collect();
    let classes: Vec<i16> = columns.iter().map(|column| column.3).collect();
    // One row a range, and one without a range for a stream that has none; in the order in which streams were asked for.
    let select = "SELECT asked.place, c.first, c.last
                  FROM unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::smallint[]) WITH ORDINALITY
                       AS asked (board, boot, nonce, class, place)
                  JOIN site ON site.name = $1
                  JOIN stream s ON s.site = site.id AND s.board = asked.board AND s.boot = asked.boot
                       AND s.nonce = asked.nonce AND s.class = asked.class
                  LEFT JOIN coverage c ON c.stream = s.id
                  ORDER BY asked.place, c.first";
    let mut loaded: Vec<(Stream, RangeSet)> = Vec::new();
    let mut last = None;
    for row in session.query(select, &[&site.as_str(), &boards, &boots, &nonces, &classes])? {
        let place: i64 = get(&row, 0)?;
        if last != Some(place) {
            let asked = usize::try_from(place - 1).ok().and_then(|at| streams.get(at));
            loaded.push((*asked.ok_or(StoreError::Vanished)?, RangeSet::EMPTY));
            last = Some(place);
        }
        let first: Option<i64> = get(&row, 1)?;
        if let (Some(_), Some((_, covered))) = (first, loaded.last_mut()) {
            covered.insert(range_at(&row, 1)?);
        }
    }
    Ok(loaded)
}

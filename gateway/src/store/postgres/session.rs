//! One connection to the server: its settings, its prepared statements, its transactions. Blocks; never to be used on a thread
//! that runs async tasks.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;

use postgres::types::ToSql;
use postgres::{Client, Row, RowIter, Statement};

use super::fault::{self, failed};
use super::place::PostgresPlace;
use crate::store::StoreError;

/// Values of a statement, in the order of their numbers.
pub(super) type Values<'v> = &'v [&'v (dyn ToSql + Sync)];

/// What every session begins with. The tables stand in a schema of their own.
const BEGINNING: &str = "SET search_path TO roadstead; SET client_min_messages TO warning";
/// A writer that the server does not hear of any more gives its locks back, so that its successor can find out what became of
/// its last transaction; and no statement or lock is waited for longer than anyone would wait for the gateway.
const WRITING: &str = "SET idle_in_transaction_session_timeout TO '15s'; SET lock_timeout TO '20s'; \
                       SET statement_timeout TO '60s'";

/// A connection.
pub(super) struct Session {
    /// There until it is dropped.
    client: Option<Client>,
    statements: HashMap<&'static str, Statement>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// Connects for reading.
    pub(super) fn to_read(place: &PostgresPlace) -> Result<Self, StoreError> {
        let mut session = Self { client: Some(place.connect()?), statements: HashMap::new() };
        session.batch(BEGINNING)?;
        Ok(session)
    }

    /// Connects for writing, to a server whose commits last.
    pub(super) fn to_write(place: &PostgresPlace) -> Result<Self, StoreError> {
        let mut session = Self::to_read(place)?;
        session.batch(WRITING)?;
        session.insist_on_durability()?;
        Ok(session)
    }

    /// An acknowledgement says that a record is on the server's disk: `synchronous_commit` must not be off, which this session
    /// mends for itself, nor `fsync`, which it cannot. An engine that knows neither has no such switch. Names are UTF-8.
    fn insist_on_durability(&mut self) -> Result<(), StoreError> {
        let select = "SELECT name::text FROM pg_catalog.pg_settings
                      WHERE name IN ('fsync', 'synchronous_commit') AND setting = 'off'
                         OR name = 'server_encoding' AND setting <> 'UTF8'";
        for row in self.query(select, &[])? {
            let name: String = get(&row, 0)?;
            match name.as_str() {
                "synchronous_commit" => self.batch("SET synchronous_commit TO on")?,
                "fsync" => return Err(StoreError::Unsafe { wrong: "fsync = off: a commit would not last" }),
                _ => return Err(StoreError::Unsafe { wrong: "its encoding is not UTF8" }),
            }
        }
        Ok(())
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("it is taken out only when the session is dropped")
    }

    /// Statements without values, one after the other.
    pub(super) fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.client().batch_execute(sql).map_err(failed)
    }

    fn statement(&mut self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client().prepare(sql).map_err(failed)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// All rows of a statement.
    pub(super) fn query(&mut self, sql: &'static str, values: Values<'_>) -> Result<Vec<Row>, StoreError> {
        let statement = self.statement(sql)?;
        self.client().query(&statement, values).map_err(failed)
    }

    /// The one row of a statement, if it has any.
    pub(super) fn query_opt(&mut self, sql: &'static str, values: Values<'_>) -> Result<Option<Row>, StoreError> {
        let statement = self.statement(sql)?;
        self.client().query_opt(&statement, values).map_err(failed)
    }

    /// Rows as they come, however many there are.
    pub(super) fn stream(&mut self, sql: &'static str, values: Values<'_>) -> Result<RowIter<'_>, StoreError> {
        let statement = self.statement(sql)?;
        self.client().query_raw(&statement, values.iter().copied()).map_err(failed)
    }

    /// How many rows a statement changed.
    pub(super) fn execute(&mut self, sql: &'static str, values: Values<'_>) -> Result<u64, StoreError> {
        let statement = self.statement(sql)?;
        self.client().execute(&statement, values).map_err(failed)
    }

    /// Copies a whole `body` in the binary format into a table.
    pub(super) fn copy(&mut self, sql: &'static str, body: &[u8]) -> Result<(), StoreError> {
        let statement = self.statement(sql)?;
        let mut writer = self.client().copy_in(&statement).map_err(failed)?;
        // One piece: it is sent by `finish`, whose failure is the server's own.
        if let Err(error) = writer.write_all(body) {
            return Err(StoreError::Piped(error));
        }
        writer.finish().map_err(failed)?;
        Ok(())
    }

    /// Whether the connection is gone.
    pub(super) fn is_gone(&mut self) -> bool {
        self.client().is_closed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The client waits for its farewell, which a thread that runs async tasks must not; and an end by an error may happen
        // on any.
        if let Some(client) = self.client.take() {
            let farewell = std::thread::Builder::new().spawn(move || drop(client));
            let _ = farewell.map(std::thread::JoinHandle::join);
        }
    }
}

/// The value in a column.
pub(super) fn get<'r, T: postgres::types::FromSql<'r>>(row: &'r Row, at: usize) -> Result<T, StoreError> {
    row.try_get(at).map_err(fault::failed)
}

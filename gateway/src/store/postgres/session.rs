//! One connection to the server: its settings, its prepared statements, its transactions, and how long it is listened to. Blocks;
//! never to be used on a thread that runs async tasks.
//!
//! A statement whose answer nobody needs before the transaction goes on *goes along*: it is sent when the next answer is waited for, ahead of what
//! that belongs to, and whoever waits next has its failure.
//!
//! A server may take a connection and all that it is asked and answer nothing: its processes are stopped, its disk hangs. No
//! socket ends then, and keepalives are answered by its kernel. So each answer has a deadline of its own, after which the connection
//! is given up. A server that is slow and alive gives up what it does before that, and says so.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, RowStream, Statement};

use super::fault::{self, failed};
use super::place::PostgresPlace;
use crate::store::StoreError;

/// Values of a statement, in the order of their numbers.
pub(super) type Values<'v> = &'v [&'v (dyn ToSql + Sync)];
/// The same of one that goes along.
pub(super) type Value = Box<dyn ToSql + Sync + Send>;

/// An answer is waited for so long: well above what a statement of ours takes on a server that does anything at all (a piece of COPY
/// takes milliseconds), and short enough that sites have left for another region, and a gateway that is told to stop has
/// ended, before whoever supervises them loses patience.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A connection that is well says farewell, and the server has so long to hear it.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// What every session begins with. The tables stand in a schema of their own.
const BEGINNING: &str = "SET search_path TO roadstead; SET client_min_messages TO warning";
/// A statement of a connection that was given up ends on the server, too.
const ASKING: &str = "SET client_connection_check_interval TO '2s'";
/// A writer that the server does not hear of any more gives its locks back, so that its successor can find out what became of
/// its last transaction; and no lock or statement is waited for until the connection would be given up for it
/// ([`ANSWER_MAX`]): a server that is alive says before that that it has no time.
const WRITING: &str = "SET idle_in_transaction_session_timeout TO '5s'; SET lock_timeout TO '8s'; \
                       SET statement_timeout TO '9s'";

/// A connection.
pub(super) struct Session {
    /// There until it is given up, or dropped.
    line: Option<Line>,
    statements: HashMap<&'static str, Statement>,
    /// Whether a COPY was refused before it took a body. Such a one is answered twice, for its own end and for that of the body which it does not take, and the
    /// connection does not expect that: all that is asked behind it would get the answer to what was asked before.
    is_out_of_step: Arc<AtomicBool>,
    /// What was asked and is not waited for yet, in order.
    along: VecDeque<JoinHandle<Result<u64, Error>>>,
    /// An answer is waited for so long.
    patience: Duration,
}

/// What a connection consists of.
struct Line {
    runtime: Runtime,
    client: Arc<Client>,
    /// Sends and receives; ends with the client, or with the connection.
    carrying: JoinHandle<()>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// Connects for reading.
    pub(super) fn to_read(place: &PostgresPlace) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StoreError::NoRoom)?;
        let connected = runtime.block_on(place.connect());
        let (client, carrying) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                // A name that is still being looked up is not waited for.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let line = Some(Line { runtime, client: Arc::new(client), carrying });
        let mut session = Self {
            line,
            statements: HashMap::new(),
            is_out_of_step: Arc::default(),
            along: VecDeque::new(),
            patience: ANSWER_MAX,
        };
        session.batch(BEGINNING)?;
        // An engine that does not know it goes on with what nobody waits for any more.
        let _ = session.batch(ASKING);
        Ok(session)
    }

    /// Connects for writing, to a server whose commits last.
    pub(super) fn to_write(place: &PostgresPlace) -> Result<Self, StoreError> {
        let mut session = Self::to_read(place)?;
        session.batch(WRITING)?;
        session.insist_on_durability()?;
        Ok(session)
    }

    /// From now on an answer is waited for so long.
    pub(super) const fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
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

    /// The answer to what `question` asks; without one in time the connection is given up. What goes along is waited for first.
    fn ask<A>(&mut self, question: impl AsyncFnOnce(&Client) -> Result<A, Error>) -> Result<A, StoreError> {
        self.ask_for(self.patience, question)
    }

    fn ask_for<A>(
        &mut self,
        patience: Duration,
        question: impl AsyncFnOnce(&Client) -> Result<A, Error>,
    ) -> Result<A, StoreError> {
        self.catch_up()?;
        let Line { runtime, client, .. } = self.line.as_ref().ok_or(StoreError::Silent)?;
        let answer = in_time(runtime, patience, question(client));
        self.heard(answer)
    }

    /// What an answer comes to; without one the connection is given up.
    fn heard<A>(&mut self, answer: Option<Result<A, Error>>) -> Result<A, StoreError> {
        match answer {
            Some(answer) => answer.map_err(failed),
            None => {
                self.give_up();
                Err(StoreError::Silent)
            }
        }
    }

    /// Waits for all that goes along; the first failure. All are waited for after it, which fail for that too: what was asked within a transaction is
    /// not to come to the server when that has ended.
    pub(super) fn catch_up(&mut self) -> Result<(), StoreError> {
        let mut caught_up = Ok(());
        while let Some(first) = self.along.pop_front() {
            let Some(Line { runtime, .. }) = &self.line else {
                self.along.clear();
                return caught_up.and(Err(StoreError::Silent));
            };
            // It ends by itself, unless the connection is given up.
            let answer = in_time(runtime, self.patience, first).map(Result::ok);
            let answer = self.heard(answer.flatten());
            caught_up = caught_up.and(answer.map(|_| ()));
        }
        if self.is_out_of_step.load(Ordering::Relaxed) {
            self.give_up();
        }
        caught_up
    }

    /// Asks for what nobody needs an answer to before the transaction goes on: whatever is waited for next has its failure. In order, as all that is asked.
    fn go_along(&mut self, asked: impl Future<Output = Result<u64, Error>> + Send + 'static) -> Result<(), StoreError> {
        let Line { runtime, .. } = self.line.as_ref().ok_or(StoreError::Silent)?;
        let mut asked = Box::pin(asked);
        // It is in the connection's queue from here on, whatever the runtime takes up first.
        let answer = asked.as_mut().now_or_never();
        self.along.push_back(runtime.spawn(async move {
            match answer {
                Some(answer) => answer,
                None => asked.await,
            }
        }));
        Ok(())
    }

    fn client(&self) -> Result<Arc<Client>, StoreError> {
        let Line { client, .. } = self.line.as_ref().ok_or(StoreError::Silent)?;
        Ok(Arc::clone(client))
    }

    /// Closes the connection without a word. What it was asked may still happen, as where a connection is cut.
    fn give_up(&mut self) {
        if let Some(Line { runtime, .. }) = self.line.take() {
            runtime.shutdown_background();
        }
    }

    /// Statements without values, one after the other.
    pub(super) fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.ask(async |client| client.batch_execute(sql).await)
    }

    fn statement(&mut self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let statement = self.ask(async |client| client.prepare(sql).await)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// All rows of a statement.
    pub(super) fn query(&mut self, sql: &'static str, values: Values<'_>) -> Result<Vec<Row>, StoreError> {
        let statement = self.statement(sql)?;
        self.ask(async |client| client.query(&statement, values).await)
    }

    /// The one row of a statement, if it has any.
    pub(super) fn query_opt(&mut self, sql: &'static str, values: Values<'_>) -> Result<Option<Row>, StoreError> {
        let statement = self.statement(sql)?;
        self.ask(async |client| client.query_opt(&statement, values).await)
    }

    /// Rows as they come, however many there are.
    pub(super) fn stream(&mut self, sql: &'static str, values: Values<'_>) -> Result<Coming<'_>, StoreError> {
        let statement = self.statement(sql)?;
        let rows = self.ask(async |client| client.query_raw(&statement, values.iter().copied()).await)?;
        Ok(Coming { session: self, rows: Box::pin(rows) })
    }

    /// How many rows a statement changed.
    pub(super) fn execute(&mut self, sql: &'static str, values: Values<'_>) -> Result<u64, StoreError> {
        let statement = self.statement(sql)?;
        self.ask(async |client| client.execute(&statement, values).await)
    }

    /// The rows of two statements, of which the second begins when the first has ended.
    pub(super) fn query_both(
        &mut self,
        first: (&'static str, Values<'_>),
        second: (&'static str, Values<'_>),
    ) -> Result<(Vec<Row>, Vec<Row>), StoreError> {
        let statements = (self.statement(first.0)?, self.statement(second.0)?);
        self.ask_for(2 * self.patience, async |client| {
            let (first, second) = (client.query(&statements.0, first.1), client.query(&statements.1, second.1));
            let (first, second) = futures_util::join!(first, second);
            Ok((first?, second?))
        })
    }

    /// Begins a transaction with a statement; how many rows that has changed.
    pub(super) fn begin(&mut self, sql: &'static str, values: Values<'_>) -> Result<u64, StoreError> {
        let statement = self.statement(sql)?;
        // To begin takes no time.
        self.ask(async |client| {
            // What is looked up after a lock was waited for is what the other one has committed.
            let begun = client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED");
            let (begun, changed) = futures_util::join!(begun, client.execute(&statement, values));
            begun?;
            changed
        })
    }

    /// A statement that goes along.
    pub(super) fn execute_along(&mut self, sql: &'static str, values: Vec<Value>) -> Result<(), StoreError> {
        let (statement, client) = (self.statement(sql)?, self.client()?);
        self.go_along(async move { client.execute_raw(&statement, values).await })
    }

    /// Copies a whole `body` in the binary format into a table; it goes along. All before it is waited for, so that a transaction that has failed does not refuse it.
    pub(super) fn copy_along(&mut self, sql: &'static str, body: Vec<u8>) -> Result<(), StoreError> {
        let (statement, client) = (self.statement(sql)?, self.client()?);
        self.catch_up()?;
        let is_out_of_step = Arc::clone(&self.is_out_of_step);
        self.go_along(async move {
            let begun = client.copy_in(&statement).await;
            let mut rows = Box::pin(begun.inspect_err(|_| is_out_of_step.store(true, Ordering::Relaxed))?);
            // Where it cannot be sent, `finish` has the server's own failure.
            let _ = rows.send(Bytes::from(body)).await;
            rows.as_mut().finish().await
        })?;
        self.carry_on();
        Ok(())
    }

    /// Gives the connection a moment to send what the server takes by now. Otherwise nothing is sent unless an answer is waited for.
    pub(super) fn carry_on(&self) {
        if let (Some(Line { runtime, .. }), false) = (&self.line, self.along.is_empty()) {
            runtime.block_on(tokio::task::yield_now());
        }
    }

    /// Whether the connection is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.line.as_ref().is_none_or(|line| line.client.is_closed())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The farewell is waited for, which a thread that runs async tasks must not; and an end by an error may happen on any.
        if let Some(Line { runtime, client, carrying }) = self.line.take() {
            let farewell = std::thread::Builder::new().spawn(move || {
                drop(client);
                in_time(&runtime, FAREWELL_MAX, carrying);
                runtime.shutdown_background();
            });
            let _ = farewell.map(std::thread::JoinHandle::join);
        }
    }
}

/// Rows that come one after the other.
pub(super) struct Coming<'s> {
    session: &'s mut Session,
    rows: Pin<Box<RowStream>>,
}

impl Coming<'_> {
    /// The next one; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Row>, StoreError> {
        let Self { session, rows } = self;
        session.ask(async |_| rows.next().await.transpose())
    }
}

/// What `future` comes to, unless that takes longer than `most`. The connection is carried on meanwhile.
fn in_time<A>(runtime: &Runtime, most: Duration, future: impl Future<Output = A>) -> Option<A> {
    runtime.block_on(async { tokio::time::timeout(most, future).await.ok() })
}

/// The value in a column.
pub(super) fn get<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r Row, at: usize) -> Result<T, StoreError> {
    row.try_get(at).map_err(fault::failed)
}

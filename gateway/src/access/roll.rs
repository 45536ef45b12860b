//! The roll of those who may look: accounts and tokens, in a small database beside the store, for its owner alone. Gateway and command
//! line write the same file; each change goes into the audit log first, and is not made where that cannot be written.

mod change;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde::Serialize;
use shared::ids::Name;
use shared::time::WallMillis;

pub use self::change::Change;
use super::audit::{AuditError, AuditLog, Deed};
use super::belonging;
use super::hashing::PasswordHash;
use super::role::Role;
use super::secrets::{Fingerprint, NoEntropy};
use super::totp::{self, TotpSecret, recovery_print};

/// Name of the roll in the data directory.
pub const FILE: &str = "access.sqlite";
/// Accounts that there may be.
pub const ACCOUNTS_MAX: usize = 1000;
/// Tokens that there may be.
pub const TOKENS_MAX: usize = 1000;
/// Days that a token may be good for at most.
pub const TOKEN_DAYS_MAX: u64 = 3650;
/// How tokens begin, so that one is known where it should not be.
pub const TOKEN_PREFIX: &str = "rst_";

/// Layout that this build writes, in `user_version`.
const VERSION: i64 = 1;
/// Marks the file as ours, in `application_id`: "RdAc".
const APPLICATION: i64 = 0x5264_4163;
/// How long a change waits for another one.
const BUSY: Duration = Duration::from_secs(5);
/// Permission bits of the group and of others.
const NOT_THE_OWNER: u32 = 0o077;

const LAYOUT: &str = "
CREATE TABLE account (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, role INTEGER NOT NULL, enabled INTEGER NOT NULL,
  generation INTEGER NOT NULL, salt BLOB NOT NULL, digest BLOB NOT NULL, memory_kib INTEGER NOT NULL,
  passes INTEGER NOT NULL, totp BLOB, totp_step INTEGER NOT NULL, created_ms INTEGER NOT NULL) STRICT;
CREATE TABLE recovery (
  account INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (account, digest)) STRICT, WITHOUT ROWID;
CREATE TABLE token (
  name TEXT PRIMARY KEY, digest BLOB NOT NULL UNIQUE, role INTEGER NOT NULL, created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// An account's number, which no later one gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub(super) i64);

/// Why the roll cannot be used, or a change is not made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RollError {
    /// The file cannot be used. The operator's to mend.
    #[error("cannot use {path}: this user must own it", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The group or everybody can get at it.
    #[error("{path} is open to others than its owner (mode {mode:04o}); run: chmod 600 {path}", path = path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Written by another version, or by something else.
    #[error("{path} has layout {found}, this build knows {VERSION}: use the build that wrote it", path = path.display())]
    Layout {
        /// Which.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// The database refuses.
    #[error("the accounts' database failed")]
    Database(#[from] rusqlite::Error),
    /// The change cannot be written down, so it is not made.
    #[error("the change is not made, because it cannot be written down")]
    Audit(#[from] AuditError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// Nobody has this name.
    #[error("there is no {what} called {name}")]
    Unknown {
        /// Account or token.
        what: &'static str,
        /// The name.
        name: Name,
    },
    /// Somebody has it already.
    #[error("there is a {what} called {name} already")]
    Taken {
        /// Account or token.
        what: &'static str,
        /// The name.
        name: Name,
    },
    /// As many as there may be.
    #[error("there are {max} {what}s, and there may be no more")]
    Full {
        /// Account or token.
        what: &'static str,
        /// How many.
        max: usize,
    },
}

/// An account, as those may see it who may see accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Its number.
    #[serde(skip)]
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether it may sign in.
    pub enabled: bool,
    /// Whether a code is asked for beside the password.
    pub totp: bool,
    /// Recovery codes that are left.
    pub recovery_codes: u32,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// Rises with every change of its secrets or rights.
    #[serde(skip)]
    pub(super) generation: i64,
}

/// A token, without its secret, which nobody keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// The roll, open.
#[derive(Debug)]
pub struct Roll {
    sql: Connection,
}

impl Roll {
    /// Opens the roll in the data directory `dir`, making both where they do not exist.
    pub fn open(dir: &Path) -> Result<Self, RollError> {
        let path = dir.join(FILE);
        let failed = |source| RollError::File { path: path.clone(), source };
        belonging::make_dir(dir).map_err(failed)?;
        // SQLite gives its files beside it the mode and the owner of this one.
        let file = belonging::open(&path, false).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & NOT_THE_OWNER != 0 {
            return Err(RollError::Exposed { path, mode });
        }
        drop(file);
        let mut sql = Connection::open(&path)?;
        sql.busy_timeout(BUSY)?;
        // A reader never waits for a change, nor a change for a reader; a change is on disk when it is told.
        sql.pragma_update(None, "journal_mode", "wal")?;
        sql.pragma_update(None, "synchronous", "full")?;
        // What is removed is overwritten: a secret is gone when it is taken away.
        sql.pragma_update(None, "secure_delete", "on")?;
        let making = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = making.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let application: i64 = making.pragma_query_value(None, "application_id", |row| row.get(0))?;
        match (application, found) {
            (0, 0) => {
                making.execute_batch(LAYOUT)?;
                making.pragma_update(None, "user_version", VERSION)?;
                making.pragma_update(None, "application_id", APPLICATION)?;
                making.commit()?;
            }
            (APPLICATION, VERSION) => drop(making),
            (_, found) => return Err(RollError::Layout { path, found }),
        }
        Ok(Self { sql })
    }

    /// All accounts, by name.
    pub fn accounts(&self) -> Result<Vec<Account>, RollError> {
        let mut select = self
            .sql
            .prepare_cached(&format!("SELECT {ACCOUNT} FROM account a ORDER BY name"))?;
        let accounts = select.query_map([], account_of)?;
        Ok(accounts.collect::<Result<_, _>>()?)
    }

    /// All tokens, by name, also those that have ended.
    pub fn tokens(&self) -> Result<Vec<Token>, RollError> {
        let mut select = self
            .sql
            .prepare_cached("SELECT name, role, created_ms, expires_ms FROM token ORDER BY name")?;
        let tokens = select.query_map([], token_of)?;
        Ok(tokens.collect::<Result<_, _>>()?)
    }

    /// Whether there is an account, of whatever kind: then the gateway asks everybody who they are.
    pub fn has_accounts(&self) -> Result<bool, RollError> {
        let mut select = self.sql.prepare_cached("SELECT EXISTS (SELECT 1 FROM account)")?;
        Ok(select.query_row([], |row| row.get(0))?)
    }

    /// The account of this name.
    pub fn account(&self, name: &str) -> Result<Option<Account>, RollError> {
        let mut select = self
            .sql
            .prepare_cached(&format!("SELECT {ACCOUNT} FROM account a WHERE name = ?1"))?;
        Ok(select.query_row([name], account_of).optional()?)
    }

    pub(super) fn account_by_id(&self, id: AccountId) -> Result<Option<Account>, RollError> {
        let mut select = self
            .sql
            .prepare_cached(&format!("SELECT {ACCOUNT} FROM account a WHERE id = ?1"))?;
        Ok(select.query_row([id.0], account_of).optional()?)
    }

    pub(super) fn password(&self, id: AccountId) -> Result<PasswordHash, RollError> {
        let mut select = self
            .sql
            .prepare_cached("SELECT salt, digest, memory_kib, passes FROM account WHERE id = ?1")?;
        let hash = select.query_row([id.0], |row| {
            Ok(PasswordHash { salt: row.get(0)?, digest: row.get(1)?, memory_kib: row.get(2)?, passes: row.get(3)? })
        })?;
        Ok(hash)
    }

    /// The second factor of an account, with the newest step that was taken.
    pub(super) fn totp(&self, id: AccountId) -> Result<Option<(TotpSecret, u64)>, RollError> {
        let mut select = self
            .sql
            .prepare_cached("SELECT totp, totp_step FROM account WHERE id = ?1 AND totp IS NOT NULL")?;
        let found = select
            .query_row([id.0], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        Ok(found.map(|(secret, step)| (TotpSecret::from_bytes(secret), step.cast_unsigned())))
    }

    /// The token with this secret, if it is good at `now`.
    pub(super) fn token(&self, print: &Fingerprint, now: WallMillis) -> Result<Option<Token>, RollError> {
        let mut select = self
            .sql
            .prepare_cached("SELECT name, role, created_ms, expires_ms FROM token WHERE digest = ?1")?;
        let token = select.query_row([print], token_of).optional()?;
        Ok(token.filter(|token| now.0 < token.expires_ms))
    }

    /// Takes a code of the telephone, or a recovery code, for good, and writes `deed` down; `false` where it is neither.
    pub(super) fn take_code(
        &mut self,
        (id, code): (AccountId, &str),
        (log, deed): (&mut AuditLog, &Deed),
        now: WallMillis,
    ) -> Result<bool, RollError> {
        let Some((secret, used)) = self.totp(id)? else { return Ok(false) };
        let transaction = self.sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let taken = match secret.step_of(&totp::plain(code), now, used) {
            Some(step) => transaction.execute(
                "UPDATE account SET totp_step = ?2 WHERE id = ?1 AND totp_step < ?2",
                params![id.0, step.cast_signed()],
            )?,
            None => transaction.execute(
                "DELETE FROM recovery WHERE account = ?1 AND digest = ?2",
                params![id.0, recovery_print(code)],
            )?,
        };
        if taken == 0 {
            return Ok(false);
        }
        log.add(deed, now)?;
        transaction.commit()?;
        Ok(true)
    }

    /// Makes a change, written down before it stands. `by` says who does it and from where.
    pub fn change(&mut self, change: &Change, by: &Deed, log: &mut AuditLog, now: WallMillis) -> Result<(), RollError> {
        let transaction = self.sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
        change.make(&transaction, now)?;
        let deed = Deed { what: change.what(), on: change.on(), detail: change.detail(), ..by.clone() };
        let seq = log.add(&deed, now)?;
        if let Err(error) = transaction.commit() {
            let detail = format!("entry {seq} did not come about: {error}");
            log.add(&Deed { outcome: super::audit::Outcome::Failed, detail, ..deed }, now)?;
            return Err(error.into());
        }
        Ok(())
    }
}

const ACCOUNT: &str = "id, name, role, enabled, totp IS NOT NULL, \
    (SELECT count(*) FROM recovery r WHERE r.account = a.id), created_ms, generation";

fn account_of(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        id: AccountId(row.get(0)?),
        name: row.get(1)?,
        role: role_of(row, 2)?,
        enabled: row.get(3)?,
        totp: row.get(4)?,
        recovery_codes: row.get(5)?,
        created_ms: row.get::<_, i64>(6)?.cast_unsigned(),
        generation: row.get(7)?,
    })
}

fn token_of(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        name: row.get(0)?,
        role: role_of(row, 1)?,
        created_ms: row.get::<_, i64>(2)?.cast_unsigned(),
        expires_ms: row.get::<_, i64>(3)?.cast_unsigned(),
    })
}

/// A role that this build does not know gives no rights: the row cannot be read.
fn role_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Role> {
    let code: u8 = row.get(at)?;
    Role::of_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(at, code.into()))
}

#[cfg(test)]
mod tests;

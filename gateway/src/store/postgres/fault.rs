//! Whose fault it is when the server does not do what it is asked, and whether trying again helps.

use std::error::Error as _;
use std::fmt;
use std::io;

use tokio_postgres::Error;

use crate::store::StoreError;

/// The index that holds each reading's digest once.
const FILED_KEY: &str = "record_key";

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server is away, is about to go, or takes no writes any more: another one may be primary soon.
    Away,
    /// It is there and has no room or no time: a full disk, too many connections, a lock that is held.
    Busy,
    /// Another gateway was quicker with the same place: the same again will find what that one wrote.
    Conflict,
    /// It refuses, and will refuse again: credentials, rights, a table that is not as it should be, damage.
    Refused,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Away => "the store's database cannot be reached",
            Self::Busy => "the store's database has no room or no time",
            Self::Conflict => "another gateway wrote the same place of the store's database at the same time",
            Self::Refused => "the store's database failed",
        })
    }
}

/// What `error` is, as the gateway takes it.
pub(super) fn judge(error: &Error) -> Fault {
    let Some(code) = error.code().map(tokio_postgres::error::SqlState::code) else {
        let is_io = error.source().is_some_and(|source| source.is::<io::Error>());
        return if is_io || error.is_closed() { Fault::Away } else { Fault::Refused };
    };
    let constraint = error.as_db_error().and_then(|error| error.constraint());
    // https://www.postgresql.org/docs/15/errcodes-appendix.html: classes by their first two characters
    match (code.get(..2).unwrap_or_default(), code) {
        // connection exceptions; shut down, crashed, starting up; a primary that became a standby
        ("08", _) | (_, "57P01" | "57P02" | "57P03" | "57P05" | "25006" | "25P03") => Fault::Away,
        ("53", _) | (_, "55P03" | "57014") => Fault::Busy,
        // serialization failure, deadlock
        (_, "40001" | "40P01") => Fault::Conflict,
        // a key that another transaction has filed; any other place that is taken means that rows and coverage disagree
        (_, "23505") if constraint == Some(FILED_KEY) => Fault::Conflict,
        _ => Fault::Refused,
    }
}

/// As a failure of the store.
pub(super) fn failed(source: Error) -> StoreError {
    StoreError::Postgres { fault: judge(&source), source }
}

/// Whatever is wrong with a connection that does not come about may pass.
pub(super) fn away(source: Error) -> StoreError {
    StoreError::Postgres { fault: Fault::Away, source }
}

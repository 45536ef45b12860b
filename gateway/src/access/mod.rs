//! Who may look at this gateway: accounts of people, tokens and certificates of machines, sessions, and the log of what was done.
//! On loopback nobody is asked until there is an account; beyond it everybody is, always.
//!
//! ```text
//! request ── guard ──▶ keeper (one thread: roll, sessions, waits, audit log) ──▶ let in, or sent to the login page
//!               └────▶ hasher (one thread, below all others: argon2id)
//! roadstead user, token ──▶ the same roll and audit log, from another process: the next request sees it
//! ```

pub mod audit;
mod belonging;
mod desk;
mod guard;
mod hashing;
mod keeper;
mod machines;
mod moment;
mod role;
pub mod roll;
#[cfg(test)]
mod scratch;
mod secrets;
mod sessions;
mod throttle;
pub mod totp;

pub(crate) use self::desk::Access;
pub(crate) use self::guard::{Asker, LOGIN, back, guard, identify, set_cookie};
pub(crate) use self::keeper::{Counts, Denied, Keeper, Pass, Visitor, Who};

pub use self::hashing::{HashError, PASSWORD_BYTES_MAX, PasswordHash, check_password};
pub use self::role::Role;
pub use self::secrets::{NoEntropy, Secret};

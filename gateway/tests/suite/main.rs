//! The gateway from outside: what its store promises, and whole sessions over loopback.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod access;
mod archive;
mod backups;
mod browser;
mod bucket;
mod contract;
mod deposits;
mod filing;
mod ingest;
mod killed;
mod leaving;
mod liar;
mod pages;
mod postgres;
mod postgres_lots;
mod region;
mod s3;
mod scratch;
mod server;
mod sessions;
mod silent_postgres;
mod spread;
mod sqlite;
mod store;
mod upkeep;
mod vault;
mod vault_s3;

//! The suite of real processes: the built `roadstead`, made into sites on loopback, with gateway and boards as processes
//! of their own. They are killed, stopped, starved, fed garbage and met by strangers, and the region's store is read
//! afresh to see whether what was acknowledged is in it, once. Nothing of a board or a gateway is linked in but the
//! store's reader, the dialler that plays the stranger, and what the failover bench watches a site with.
//!
//! The program comes from `ROADSTEAD_BIN`, else from the release build in `target/release`.
//!
//! Above each test stands what was broken to see it fail.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "every failure here is a test that failed"
)]

mod garbage;
mod group;
mod http;
mod load;
mod mqtt;
mod ports;
mod site;
mod starve;
mod store;
mod stranger;

mod backups;
mod browser;
mod copies;
mod dashboard;
mod disk;
mod duplicates;
mod failover;
mod hostile;
mod journal;
mod kills;
mod monitoring;
mod paths;
mod postgres;
mod powercut;
mod regions;
mod repair;
mod s3;
mod stopping;
mod weight;

use std::time::{Duration, Instant};

/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `holds` does, for `within` at most; whether it did.
fn until(within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if begun.elapsed() > within {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

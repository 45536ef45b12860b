//! Whole boards over loopback: real sockets, real disks, real certificates.

// What a test's fixture cannot do fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod certificates;
mod publisher;
mod site;

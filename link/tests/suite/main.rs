//! What `link` promises, tried over loopback: who gets in, what garbage does, how a dawdling client fares.

// What a test's fixture cannot do fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod certificates;
mod conversation;
mod handshake;
mod http;
mod https;
mod witness;

//! The plumbing that a board and a gateway share: who is at the other end (TLS identities), QUIC endpoints, framed
//! streams, HTTP serving, clocks, logging and the signal to stop. It carries bytes and decides nothing about
//! records, leases or sites.

pub mod clock;
pub mod doorman;
pub mod endpoint;
pub mod entropy;
pub mod frames;
mod haul;
pub mod http;
pub mod https;
pub mod identity;
pub mod logging;
pub mod obituary;
pub mod once;
pub mod sites;
mod steady;
pub mod stop;
pub mod strays;
pub mod tables;
pub mod witness;

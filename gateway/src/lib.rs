//! Acts in the region: takes QUIC sessions of sites, drives the one `Hub` that decides, keeps the store, and shows what
//! is there over HTTP. Decides nothing about records itself: what a block adds, which reading is a row and who may
//! speak for a site is `shared::hub` and `shared::region`.
//!
//! ```text
//! QUIC sessions ──bounded──▶ owner task (Hub) ──jobs──▶ store thread ──one transaction──▶ region.sqlite
//!       ▲                        │   ▲                       │                                │
//!       └── acknowledgements ────┘   └──────── done ─────────┘          HTTP ◀── read-only ───┤
//!                                                                      upkeep ◀── read-only ──┘──▶ archive
//! ```
//!
//! An acknowledgement leaves only after its transaction has committed and is synced, so that a gateway killed at any
//! point loses nothing that it acknowledged.

pub mod access;
mod api;
pub mod config;
mod crew;
mod dashboard;
mod metrics;
pub mod objects;
mod owner;
mod picture;
mod reckon;
mod run;
mod session;
mod spread;
pub mod store;
pub mod upkeep;

pub use run::{Gateway, GatewayError, open, run};

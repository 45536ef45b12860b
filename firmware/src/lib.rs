//! A board's process: QUIC among the boards and to the region, the journal's disk, the MQTT front door, the bridge from
//! an existing broker, the status pages. Acts, and decides nothing: [`shared::node::Node`] decides, and one task here owns it.
//!
//! ```text
//!  front_door ─offers─►┐                      ┌─answers──► front_door, bridge
//!  bridge ─offers─────►│                      │
//!  mesh ─messages─────►│   drive, the owner   ├─jobs─────► disk (its own thread)
//!  disk ─done─────────►├──► of Node: one ─────┼─messages─► mesh
//!  uplink ─region─────►│   input at a time    ├─messages─► uplink
//!  the clock ─────────►┘                      └─snapshots─► http, metrics
//! ```

pub mod admin;
mod askers;
pub mod bridge;
pub mod config;
pub mod disk;
mod drive;
pub mod front_door;
mod health;
mod http;
pub mod inspect;
pub mod keys;
mod mesh;
mod metrics;
mod notices;
mod page;
mod reload;
pub mod secrets;
mod start;
pub mod supervise;
mod uplink;
mod wear;
mod witness;
mod workloads;

pub use start::{FirmwareError, run};

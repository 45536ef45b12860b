//! The world around the code that decides: a simulator that is the second shell around the very same `Node` and `Hub`
//! that ship. Virtual clocks, a network that loses, delays, repeats and cuts, disks that lose what was not synced,
//! processes that die at any moment, publishers that send again elsewhere, and a reference model that holds all of it
//! to the promises of `docs/promises.md` at every step. A seed decides everything: it is the bug report.
//!
//! Reading order: `settings` (what a world is like), `faults` and `strikes` (what goes wrong), `world` (the run loop),
//! `boards`, `supervisor`, `duty`, `shell`, `links`, `uplinks`, `witness`, `region`, `publishers` (what happens), `model`,
//! `referee`, `accord` and `verdict` (what must hold), `mutant` (lies that prove that the checks bite), `campaign` and `shrink`
//! (many seeds, and a failed one made short).

mod accord;
pub mod agenda;
mod beside;
mod board;
mod boards;
pub mod campaign;
pub mod clock;
pub mod crash;
pub mod dice;
pub mod disk;
mod duty;
pub mod faults;
pub mod file;
mod happening;
mod links;
pub mod mark;
mod mesh;
mod model;
pub mod mutant;
mod publisher;
mod publishers;
pub mod race;
pub mod recipe;
mod referee;
pub mod region;
pub mod settings;
mod shell;
pub mod shrink;
pub mod store;
pub mod story;
mod strikes;
mod supervisor;
pub mod tally;
mod uplink;
mod uplinks;
mod verdict;
mod witness;
pub mod world;

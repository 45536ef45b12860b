//! Power cuts at every step of a journal's life: the disk code and the node that ship, on disks that keep any subset of what
//! was not synced, tear pages, fail, fill up and rot. A workload runs once and its tape holds every disk before each
//! step; each of these moments is then a power cut of all boards at once, in every way or in ways drawn by seed, and
//! whatever boards find afterwards is held against the reference.
//!
//! Reading order: `medium` (a disk), `mains` (file systems on it, the tape, troubles), `site` (boards), `workload` (what
//! happens), `ledger` (the reference), `judge` (what must hold), `rot` (what befalls durable bytes), `lie` (rules broken
//! on purpose), `campaign` (which moments, and the counts).

pub mod campaign;
pub mod judge;
pub mod ledger;
pub mod lie;
pub mod mains;
pub mod medium;
pub mod rot;
pub mod site;
pub mod workload;

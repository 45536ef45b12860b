//! Copies: the origin's side decides who keeps a copy of a run and when it is committed, the keeper's side takes
//! copies in. No consensus: any board accepts at any time and numbers its own records.

pub mod census;
pub mod fetch;
pub mod keeper;
pub mod origin;
pub mod refill;
pub mod repair;

//! Stages of the region, in the order in which a block passes them: who may speak ([`session`], [`fence`]), what waits
//! for its transaction ([`intake`]), what of it is new ([`ledger`]), and which reading becomes a row ([`filing`], [`numbers`]).
//! A store calls the last three inside its transaction, so that every store decides alike.

pub mod fence;
pub mod filing;
pub mod intake;
pub mod ledger;
pub mod numbers;
pub mod session;

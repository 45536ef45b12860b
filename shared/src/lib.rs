//! What decides. Pure state machines for a board ([`node::Node`]) and for the region ([`hub::Hub`]):
//! no clock, socket, file, thread, task, entropy or log line can be named here.
//!
//! ```text
//! data     sensor → admit → batch → journal → replicate → commit → seal → uplink ══QUIC══ session → fence → ledger → store
//! control  heartbeats → membership → election → duties ─┬→ replicate (who keeps copies)
//!                                                       └→ uplink (who speaks for the site)
//! ```
//!
//! Reading order, by rank; a module imports only lower ranks, and stages (rank 2) never import each other:
//!
//! * rank 0, vocabulary: [`time`], [`ids`], [`ranges`], [`checksum`], [`limits`]
//! * rank 1, what travels: [`record`], [`block`], [`frame`], [`identity`], [`wire`], [`config`], [`event`], [`action`], [`outbox`]
//! * rank 2, stages of a board: [`admit`], [`journal`], [`replicate`], [`seal`], [`uplink`], [`membership`],
//!   [`election`], [`duties`]; of the region: [`region`]
//! * rank 3, where stages meet: [`node`], [`hub`]; [`witness`], the election's votes for many sites
#![no_std]

extern crate alloc;

pub mod action;
pub mod admit;
pub mod block;
pub mod checksum;
pub mod config;
pub mod duties;
pub mod election;
pub mod event;
pub mod frame;
pub mod hub;
pub mod identity;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod membership;
pub mod node;
pub mod outbox;
pub mod ranges;
pub mod record;
pub mod region;
pub mod replicate;
pub mod seal;
pub mod time;
pub mod uplink;
pub mod wire;
pub mod witness;

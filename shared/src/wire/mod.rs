//! What machines say to each other: one file a conversation. Streams carry postcard behind [`crate::frame`], control
//! datagrams carry it packed ([`control`]).

pub mod control;
pub mod duty;
pub mod election;
pub mod heartbeat;
pub mod obituary;
pub mod peer;
pub mod uplink;

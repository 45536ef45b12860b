//! What machines say to each other: one file a conversation, each message postcard behind [`crate::frame`].

pub mod control;
pub mod peer;
pub mod uplink;

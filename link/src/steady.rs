//! Congestion control for a conversation that paces itself: a window that nothing closes. Heartbeats and votes leave at a
//! rate that membership and election choose by what they measure, a few kilobytes a second; a window that has collapsed
//! after a cut (RFC 9002, 7.6) would hold them back just when the link is there again. Not for bulk data.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};

/// Bytes in flight: seconds of control traffic, far below what a LAN's queues hold.
const WINDOW_BYTES: u64 = 64 * 1024;

/// A window of [`WINDOW_BYTES`], always.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steady;

impl Controller for Steady {
    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}

    fn on_mtu_update(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        WINDOW_BYTES
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }

    fn initial_window(&self) -> u64 {
        WINDOW_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl ControllerFactory for Steady {
    fn build(self: Arc<Self>, _: Instant, _: u16) -> Box<dyn Controller> {
        Box::new(*self)
    }
}

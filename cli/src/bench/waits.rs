//! Waiting for a condition, so that an interrupt is heard meanwhile. Owns how often is looked.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Faults fall at a random moment of so long, so that they meet every phase of heartbeats and leases.
pub(super) const PHASES: Duration = Duration::from_millis(1100);

/// Waits until `look` finds something, for `within` at most.
pub(super) async fn until<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() > within {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

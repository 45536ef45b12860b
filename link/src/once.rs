//! What is said once a peer and then only counted, in bounded memory.

use std::collections::BTreeMap;

/// Peers remembered. At the limit all are forgotten, so a line may be said again: better than growing.
pub const PEERS_MAX: usize = 256;

/// How often each peer did something worth one line in the log.
#[derive(Debug)]
pub struct OncePerPeer<P> {
    times: BTreeMap<P, u32>,
}

impl<P> Default for OncePerPeer<P> {
    fn default() -> Self {
        Self { times: BTreeMap::new() }
    }
}

impl<P: Ord> OncePerPeer<P> {
    /// Notes that `peer` did it; true exactly at the `at`-th time (1 is the first).
    pub fn is_time(&mut self, peer: P, at: u32) -> bool {
        if self.times.len() >= PEERS_MAX && !self.times.contains_key(&peer) {
            self.times.clear();
        }
        let times = self.times.entry(peer).or_insert(0);
        *times = times.saturating_add(1);
        *times == at
    }

    /// True the first time.
    pub fn is_first(&mut self, peer: P) -> bool {
        self.is_time(peer, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_peer_in_bounded_memory() {
        let mut once = OncePerPeer::default();
        assert!(once.is_first(1));
        assert!(!once.is_first(1));
        assert!(!once.is_time(2, 2));
        assert!(once.is_time(2, 2));
        for peer in 10..10 + 4 * PEERS_MAX {
            assert!(once.is_first(peer));
            assert!(once.times.len() <= PEERS_MAX);
        }
    }
}

//! How often one may be wrong: a few tries, then a wait that doubles. Bounded in what it remembers; whoever was wrong longest ago is
//! forgotten first.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::time::Instant;

/// The first wait.
pub(super) const WAIT_MIN: Duration = Duration::from_secs(30);
/// The longest.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// After so long without a try all is forgotten.
pub(super) const FORGET: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Copy, Debug)]
struct Tries {
    failed: u32,
    last: Instant,
}

/// Tries by whoever `K` names.
#[derive(Debug)]
pub(super) struct Throttle<K> {
    tries: BTreeMap<K, Tries>,
    free: u32,
    keys_max: usize,
}

impl<K: Ord + Clone> Throttle<K> {
    /// Lets each try `free` times; remembers `keys_max` of them.
    pub(super) const fn new(free: u32, keys_max: usize) -> Self {
        Self { tries: BTreeMap::new(), free, keys_max }
    }

    /// How long `key` has to wait still; `None` where it may try.
    pub(super) fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let tries = self.tries.get(key)?;
        let over = tries.failed.checked_sub(self.free)?;
        let wait = WAIT_MIN.saturating_mul(1 << over.min(16)).min(WAIT_MAX);
        wait.checked_sub(now.since(tries.last)).filter(|left| !left.is_zero())
    }

    /// Counts a try before it is known how it ends, so that tries at the same time are no way around the wait.
    pub(super) fn attempt(&mut self, key: &K, now: Instant) {
        if !self.tries.contains_key(key) && self.tries.len() >= self.keys_max {
            self.make_room(now);
        }
        let tries = self.tries.entry(key.clone()).or_insert(Tries { failed: 0, last: now });
        if now.since(tries.last) >= FORGET {
            tries.failed = 0;
        }
        tries.failed = tries.failed.saturating_add(1);
        tries.last = now;
    }

    /// The try was right: it does not count.
    pub(super) fn refund(&mut self, key: &K) {
        if let Some(tries) = self.tries.get_mut(key) {
            tries.failed = tries.failed.saturating_sub(1);
        }
    }

    /// The try was right, and all before it are forgiven.
    pub(super) fn forgive(&mut self, key: &K) {
        self.tries.remove(key);
    }

    fn make_room(&mut self, now: Instant) {
        self.tries.retain(|_, tries| now.since(tries.last) < FORGET);
        if self.tries.len() >= self.keys_max
            && let Some(oldest) = self
                .tries
                .iter()
                .min_by_key(|(_, tries)| tries.last)
                .map(|(key, _)| key.clone())
        {
            self.tries.remove(&oldest);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.tries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(1_000_000_000);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_wait_begins_after_the_free_tries_and_doubles() {
        let mut throttle = Throttle::new(3, 10);
        for _ in 0..2 {
            throttle.attempt(&"a", START);
            assert_eq!(throttle.wait(&"a", START), None);
        }
        throttle.attempt(&"a", START);
        assert_eq!(throttle.wait(&"a", START), Some(WAIT_MIN));
        assert_eq!(throttle.wait(&"a", START + (WAIT_MIN - MS)), Some(MS));
        assert_eq!(throttle.wait(&"a", START + WAIT_MIN), None);
        assert_eq!(throttle.wait(&"b", START), None);
        let again = START + WAIT_MIN;
        throttle.attempt(&"a", again);
        assert_eq!(throttle.wait(&"a", again), Some(2 * WAIT_MIN));
        for _ in 0..100 {
            throttle.attempt(&"a", again);
        }
        assert_eq!(throttle.wait(&"a", again), Some(WAIT_MAX));
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let worn = || {
            let mut throttle = Throttle::new(3, 10);
            (0..5).for_each(|_| throttle.attempt(&"a", START));
            throttle
        };
        let (mut early, mut late) = (worn(), worn());
        early.attempt(&"a", START + (FORGET - MS));
        assert!(early.wait(&"a", START + (FORGET - MS)).is_some());
        late.attempt(&"a", START + FORGET);
        assert!(late.wait(&"a", START + FORGET).is_none());
    }

    #[test]
    fn being_right_is_forgiven_and_refunded() {
        let mut throttle = Throttle::new(2, 10);
        (0..2).for_each(|_| throttle.attempt(&"a", START));
        throttle.refund(&"a");
        assert_eq!(throttle.wait(&"a", START), None);
        (0..5).for_each(|_| throttle.attempt(&"a", START));
        throttle.forgive(&"a");
        assert_eq!(throttle.wait(&"a", START), None);
    }

    #[test]
    fn the_oldest_gives_way_and_memory_is_bounded() {
        let mut throttle = Throttle::new(1, 100);
        for number in 0..1000_u64 {
            throttle.attempt(&number, START + MS * number as u32);
            assert!(throttle.len() <= 100);
        }
        let now = START + MS * 1000;
        assert!(throttle.wait(&899, now).is_none() && throttle.wait(&900, now).is_some());
    }
}

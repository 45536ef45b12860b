//! What is going to happen, in order of time; what is due at the same moment happens in the order in which it was
//! put down. Nothing else decides an order in the world.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::clock::Moment;

/// The list of what is going to happen.
#[derive(Debug)]
pub struct Agenda<T> {
    heap: BinaryHeap<Entry<T>>,
    numbered: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Moment,
    number: u64,
    what: T,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), numbered: 0 }
    }
}

impl<T> Agenda<T> {
    /// Puts `what` down for `at`.
    pub fn put(&mut self, at: Moment, what: T) {
        self.numbered += 1;
        self.heap.push(Entry { at, number: self.numbered, what });
    }

    /// Takes what comes next.
    pub fn take(&mut self) -> Option<(Moment, T)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Moment> {
        self.heap.peek().map(|entry| entry.at)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The heap gives its greatest entry first: the earliest is the greatest.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn time_first_then_order_of_entry() {
        let mut agenda = Agenda::default();
        let late = Moment::ZERO + Duration::from_micros(2);
        agenda.put(late, 'c');
        agenda.put(Moment::ZERO, 'a');
        agenda.put(late, 'd');
        agenda.put(Moment::ZERO, 'b');
        let order: String = std::iter::from_fn(|| agenda.take()).map(|(_, what)| what).collect();
        assert_eq!(order, "abcd");
    }
}

//! What a machine asks of its shell: a queue filled during one input and drained to empty before the next.

use alloc::collections::VecDeque;

use crate::limits::OUTBOX_MAX;

/// Actions in the order in which they were decided.
#[derive(Debug)]
pub struct Outbox<A> {
    actions: VecDeque<A>,
}

impl<A> Default for Outbox<A> {
    fn default() -> Self {
        Self { actions: VecDeque::new() }
    }
}

impl<A> Outbox<A> {
    /// Adds an action.
    ///
    /// # Panics
    /// Past [`OUTBOX_MAX`]: one input never asks for so much, so the machine has a bug.
    pub fn push(&mut self, action: A) {
        assert!(self.actions.len() < OUTBOX_MAX, "one input filled the outbox");
        self.actions.push_back(action);
    }

    /// Takes the next action.
    pub fn pop(&mut self) -> Option<A> {
        self.actions.pop_front()
    }

    /// Whether all was drained.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}

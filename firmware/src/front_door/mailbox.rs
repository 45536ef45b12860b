//! Where the node's answers wait for the session that asked: one slot a session, found by the upper half of a ticket.
//! Delivering never waits for a connection.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use shared::action::Answer;
use shared::ids::Ticket;
use tokio::sync::Notify;

/// Answers for one session, and the bell for the connection that has it.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    answers: Mutex<Vec<(u32, Answer)>>,
    pub(crate) bell: Notify,
}

impl Mailbox {
    /// Takes what has come. Bounded by what the session has in flight.
    pub(crate) fn take(&self) -> Vec<(u32, Answer)> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, run: &[(Ticket, Answer)]) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.extend(run.iter().map(|(ticket, answer)| (ticket.0 as u32, *answer)));
    }
}

/// All mailboxes, by slot. They are made as sessions need them and never unmade, so a late answer always finds one.
#[derive(Debug, Default)]
pub(super) struct Mailboxes {
    by_slot: RwLock<Vec<Arc<Mailbox>>>,
}

impl Mailboxes {
    /// Makes one more; returns its slot.
    pub(super) fn add(&self) -> u32 {
        let mut all = self.by_slot.write().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::default());
        // Bounded by the configured number of sessions.
        (all.len() - 1) as u32
    }

    /// The mailbox of `slot`, which [`Mailboxes::add`] returned.
    pub(super) fn of(&self, slot: u32) -> Arc<Mailbox> {
        let all = self.by_slot.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&all[slot as usize])
    }

    /// Delivers answers; those for slots that never were are dropped.
    pub(super) fn deliver(&self, answers: &[(Ticket, Answer)]) {
        let all = self.by_slot.read().unwrap_or_else(PoisonError::into_inner);
        for run in answers.chunk_by(|(left, _), (right, _)| slot_of(*left) == slot_of(*right)) {
            let Some(mailbox) = all.get(slot_of(run[0].0)) else { continue };
            mailbox.put(run);
            mailbox.bell.notify_one();
        }
    }
}

fn slot_of(ticket: Ticket) -> usize {
    (ticket.0 >> 32) as usize
}

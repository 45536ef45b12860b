//! Owns what must hold at every instant of a simulated site's life.

use alloc::format;
use alloc::vec::Vec;

use super::{Mind, Process, World};
use crate::ids::{BoardId, Term};

impl World {
    /// Looks for a second holder, for a term that does not rise, and for a leader that is told too early that nothing of
    /// earlier terms can run any more.
    pub(super) fn referee(&mut self) {
        for machine in self.machines.values() {
            if let Some(Process { mind: Mind::Board(election), .. }) = &machine.process {
                election.check();
            }
        }
        self.watch_ends();
        let holders: Vec<(BoardId, Term)> = self.holders().collect();
        if holders.len() > 1 {
            self.blame(format!("two holders: {holders:?}"));
        }
        let Some((_, term)) = holders.first() else {
            return;
        };
        match self.record.holders.last() {
            Some(last) if last == term => {}
            Some(last) if last > term => self.blame(format!("{term} was held after {last}")),
            Some(_) | None => self.record.holders.push(*term),
        }
    }

    /// What was begun under a term may run until its lease would have ended, whatever becomes of its holder: the word that
    /// nothing earlier can run counts neither on a release nor on an obituary.
    fn watch_ends(&mut self) {
        let mut clear = Vec::new();
        for machine in self.machines.values() {
            let Some(Process { mind: Mind::Board(election), .. }) = &machine.process else {
                continue;
            };
            let now = machine.local(self.now);
            let Some((term, until)) = election.lease().filter(|(_, until)| now < *until) else {
                continue;
            };
            let end = self.record.ends.entry(term).or_default();
            *end = machine.real(until).max(*end);
            if election.is_clear(now) {
                clear.push(term);
            }
        }
        self.record.ends.retain(|_, end| *end > self.now);
        self.record.clears += clear.len() as u64;
        for term in clear {
            if let Some((other, end)) = self.record.ends.iter().find(|(other, _)| **other != term) {
                self.blame(format!("{term} is said to be clear, and {other} may be acted under until {end}"));
            }
        }
    }
}

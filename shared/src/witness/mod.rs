//! Owns the votes of a witness: a voter that holds no data and never leads, for many sites at once, each apart from the
//! others. The same code judges as in a board's vote. Must not know what a site is beyond its name; the shell lets a
//! board speak for its own site only.

#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::action::Memory;
use crate::election::rules::{Rules, Settings};
use crate::election::voter::{Past, Voter};
use crate::ids::{BoardId, Name, Term, Voters};
use crate::limits::WITNESS_SITES_MAX;
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::election::ElectionMessage;

/// What a witness asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram to a board of a site; it may be lost.
    Tell {
        /// Whose board.
        site: Name,
        /// Which.
        to: BoardId,
        /// What.
        message: ElectionMessage,
    },
    /// Put this on disk for the site, then call [`Witness::handle_remembered`] with it. One at a time is asked for a
    /// site; those of several sites may share a writing.
    Remember {
        /// For which site.
        site: Name,
        /// What.
        memory: Memory,
    },
}

/// Where the vote for one site stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteVote {
    /// The live grant, and until when.
    pub granted: Option<(Term, Instant)>,
    /// The highest term promised.
    pub promised: Term,
    /// Until when it abstains after a restart.
    pub abstains_until: Option<Instant>,
    /// Who votes, as far as the witness knows; version 0 where it was never told.
    pub voters: Voters,
}

/// The votes of one witness process.
///
/// Contract: one input, then drain the outbox, then the next input. It has no deadline: it only answers.
#[derive(Debug)]
pub struct Witness {
    sites: BTreeMap<Name, Voter>,
    settings: Settings,
    /// Names this life.
    life: u64,
    refused: u64,
}

impl Witness {
    /// A witness in its first instant; `known`: what it has on disk of each site; `life`: drawn anew for each process. It
    /// abstains for each site as long as the longest lease that it may have granted there.
    pub fn new(known: impl IntoIterator<Item = (Name, Memory)>, life: u64, now: Instant) -> Self {
        Self::with_rules(known, life, now, Rules::default())
    }

    pub(crate) fn with_rules(
        known: impl IntoIterator<Item = (Name, Memory)>,
        life: u64,
        now: Instant,
        rules: Rules,
    ) -> Self {
        // It is ready for what it was ever asked for, and stays so: the next time it is asked will be in a hurry.
        let settings = Settings { rules, ..Settings::new(Duration::ZERO) };
        let voter = |memory| Voter::new(None, &past(memory, life, true), settings, now);
        let sites = known.into_iter().map(|(site, memory)| (site, voter(memory))).collect();
        Self { sites, settings, life, refused: 0 }
    }

    /// A datagram from a board, whose certificate proved site and number.
    pub fn handle_message(
        &mut self,
        site: &Name,
        from: BoardId,
        message: &ElectionMessage,
        now: Instant,
        out: &mut Outbox<Output>,
    ) {
        let own = |term: Term| term.board() == Some(from);
        let Some(voter) = self.voter(site, now) else { return };
        let answer = match message {
            ElectionMessage::Acquire(acquire) if own(acquire.term) => {
                let verdict = voter.handle_acquire(acquire, now);
                Some(verdict.message(acquire))
            }
            ElectionMessage::Propose { term, voters } if own(*term) => voter.handle_propose(*term, *voters, now),
            ElectionMessage::Release { term } if own(*term) => {
                voter.handle_release(*term);
                None
            }
            ElectionMessage::Waive { term, attempt } if own(*term) => {
                voter.handle_waive(*term, *attempt);
                None
            }
            ElectionMessage::Acquire(_)
            | ElectionMessage::Propose { .. }
            | ElectionMessage::Release { .. }
            | ElectionMessage::Waive { .. }
            | ElectionMessage::Granted { .. }
            | ElectionMessage::Denied { .. }
            | ElectionMessage::HandOver { .. }
            | ElectionMessage::Stored { .. } => None,
        };
        if let Some(message) = answer {
            out.push(Output::Tell { site: site.clone(), to: from, message });
        }
        self.remember(site, now, out);
    }

    /// The supervisor of `board` of `site` has seen that life of it end, and signed that.
    pub fn handle_obituary(&mut self, site: &Name, board: BoardId, life: u64) {
        if let Some(voter) = self.sites.get_mut(site) {
            voter.handle_obituary(board, life);
        }
    }

    /// What [`Output::Remember`] asked for is on disk.
    pub fn handle_remembered(&mut self, site: &Name, memory: Memory, now: Instant, out: &mut Outbox<Output>) {
        let Some(voter) = self.sites.get_mut(site) else { return };
        if let Some((to, message)) = voter.handle_remembered(memory) {
            out.push(Output::Tell { site: site.clone(), to, message });
        }
        self.remember(site, now, out);
    }

    /// Messages of sites beyond [`WITNESS_SITES_MAX`], passed over.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Where the vote for each site stands.
    pub fn sites(&self, now: Instant) -> impl Iterator<Item = (&Name, SiteVote)> {
        self.sites.iter().map(move |(site, voter)| {
            let vote = SiteVote {
                granted: voter.live_grant(now),
                promised: voter.promised(),
                abstains_until: voter.abstains_until(now),
                voters: voter.voters(),
            };
            (site, vote)
        })
    }

    fn voter(&mut self, site: &Name, now: Instant) -> Option<&mut Voter> {
        if !self.sites.contains_key(site) {
            if self.sites.len() >= WITNESS_SITES_MAX {
                self.refused += 1;
                return None;
            }
            // Nothing on disk: no life of this witness has voted for the site, or the disk is not the one that it was.
            let voter = Voter::new(None, &past(Memory::default(), self.life, false), self.settings, now);
            self.sites.insert(site.clone(), voter);
        }
        self.sites.get_mut(site)
    }

    fn remember(&mut self, site: &Name, now: Instant, out: &mut Outbox<Output>) {
        if let Some(memory) = self.sites.get_mut(site).and_then(|voter| voter.remember(now)) {
            out.push(Output::Remember { site: site.clone(), memory });
        }
    }
}

/// Nothing is raised at the start, which would cost a writing for each site: every term up to the ceiling may have been
/// promised, and the ceiling is raised when the site first speaks.
fn past(memory: Memory, life: u64, may_have_granted: bool) -> Past {
    Past { memory, floor: memory.term_ceiling, configured: Voters::default(), may_have_granted, life }
}

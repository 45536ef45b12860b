//! Owns how witnesses are kept ready while nobody needs them: sounded from time to time, until they answer that they would grant.
//! Must not want anything of them.

use super::lease::Spans;
use super::voter::Verdict;
use super::{Election, Output};
use crate::ids::{VoterId, VoterSet};
use crate::limits::{WITNESS_FOUND_EVERY, WITNESS_SOUND_EVERY};
use crate::outbox::Outbox;
use crate::time::Instant;

impl Election {
    /// When a witness is sounded next; never where there is none, or this board has no vote.
    pub(super) fn sounds_at(&self) -> Instant {
        let voters = self.core.voters().set;
        let is_any = voters.contains(self.core.me.into()) && self.linked.iter().any(|witness| voters.contains(witness));
        if is_any { self.sound_at } else { Instant::NEVER }
    }

    /// Asks each witness what it would say, and wants nothing: it puts on disk ahead what a takeover would wait for, and
    /// its distance is known.
    pub(super) fn sound(&mut self, now: Instant, out: &mut Outbox<Output>) {
        // Until each answers that it would grant, soon again; at a new site, which waits for that, at once.
        let pause = if self.founds_at == Instant::ZERO {
            WITNESS_SOUND_EVERY / 10
        } else {
            WITNESS_FOUND_EVERY
        };
        self.sound_at = now + pause;
        let voters = self.core.voters().set;
        let spans = Spans { near: self.pace.wanted(), far: self.timing.witness_lease };
        let witnesses: VoterSet = self.linked.iter().filter(|witness| voters.contains(*witness)).collect();
        for witness in witnesses.iter() {
            self.core.sound(witness, spans, now, out);
            self.trips.handle_sent(self.core.attempt, now);
        }
    }

    /// A witness has answered. It is ready where it would grant, now or when a grant has run out, and has met a leader: the
    /// leader tells one that has not, with every sounding.
    pub(super) fn handle_sounded(&mut self, witness: VoterId, verdict: Verdict, now: Instant) {
        let has_met = self.core.has_met(witness);
        match verdict {
            Verdict::Granted { .. } => {
                self.willing.insert(witness);
                if !has_met && self.core.is_founder() {
                    // It helped to elect this board, and is told so at once: what was sent with that may have come before it.
                    self.sound_at = self.sound_at.min(now);
                }
            }
            Verdict::Denied { remaining, .. } if remaining.is_zero() => self.willing.remove(witness),
            Verdict::Denied { .. } => {
                self.willing.insert(witness);
            }
        }
        if has_met && self.willing.contains(witness) {
            self.sound_at = now + WITNESS_SOUND_EVERY;
        }
    }

    /// Witnesses that are reached and have not said that they have met a leader; none where this board has no vote, and asks none.
    pub(super) fn strangers(&self) -> VoterSet {
        let voters = self.core.voters().set;
        let asks = voters.contains(self.core.me.into());
        let is_strange = |voter: &VoterId| asks && voters.contains(*voter) && !self.core.has_met(*voter);
        self.linked.iter().filter(is_strange).collect()
    }

    /// Whether all that vote are there for the first leader of a new site: boards are heard, and witnesses have said that they
    /// would grant, so that they are among those who elect it, and know that they have one.
    pub(super) fn are_all_there(&self) -> bool {
        let mut voters = self.core.voters().set.iter();
        voters.all(|voter| self.hears(voter) && (voter.board().is_some() || self.willing.contains(voter)))
    }
}

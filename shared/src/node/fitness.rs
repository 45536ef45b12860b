//! Owns how fit this board is to lead, as it says of itself in every heartbeat: whether it goes on living, whether it
//! has been steady, whether it has reached the region, how its machine is. It orders candidates and never refuses a vote.
//!
//! A board does not probe the region while another leads: a thousand sites that did would cost the centre more than they
//! win. It counts as able to reach it until it has tried in vain, and again after a while that doubles.

use core::time::Duration;

use crate::time::{Deadline, Instant};
use crate::wire::heartbeat::Fitness;

/// A leader that has not reached the region for so long lets another board try (notes: membership, 3.3 rule 8).
const UPLINK_PATIENCE: Duration = Duration::from_secs(3);
/// So long a board that has tried in vain counts as cut off from the region; doubled each time, up to the most.
const UPLINK_DOUBT: Duration = Duration::from_secs(60);
/// The longest doubt.
const UPLINK_DOUBT_MAX: Duration = Duration::from_secs(600);
/// One flap: a lease that ran out, or a restart by the supervisor. Its weight halves in this time (notes: membership,
/// 2.4 rule 10).
const FLAP_HALF_LIFE: Duration = Duration::from_secs(60);
/// Flaps that weigh more than this keep a board from leading while another can: one is forgiven, two at once are not.
const FLAPS_FORGIVEN_PERMILLE: u64 = 1_500;
/// Flaps counted at most: the hold-down ends 5 half-lives after the last at the latest.
const FLAPS_PERMILLE_MAX: u64 = 32_000;

/// This board's fitness and what it follows from.
#[derive(Debug)]
pub(super) struct OwnFitness {
    priority: u8,
    health: u8,
    is_eligible: bool,
    /// Since when the session with the region is wanted and does not stand.
    dialling_since: Option<Instant>,
    doubted_until: Instant,
    doubt: Duration,
    /// Weight of past flaps, in permille of one, when last counted.
    flaps: (u64, Instant),
}

impl OwnFitness {
    pub(super) fn new(priority: u8, restarts: u32, now: Instant) -> Self {
        let flaps = (u64::from(restarts) * 1_000).min(FLAPS_PERMILLE_MAX);
        Self {
            priority,
            health: 3,
            is_eligible: true,
            dialling_since: None,
            doubted_until: Instant::ZERO,
            doubt: UPLINK_DOUBT,
            flaps: (flaps, now),
        }
    }

    /// This board stops, or its journal is poisoned: another is to lead.
    pub(super) const fn handle_end(&mut self) {
        self.is_eligible = false;
    }

    /// How the machine is: 0 to 3.
    pub(super) fn handle_health(&mut self, level: u8) {
        self.health = level.min(3);
    }

    /// A lease of this board ran out although it lived.
    pub(super) fn handle_flap(&mut self, now: Instant) {
        let weight = self.flaps_at(now);
        self.flaps = ((weight + 1_000).min(FLAPS_PERMILLE_MAX), now);
    }

    /// The session with the region is wanted, and stands or does not; or it is not wanted.
    pub(super) fn handle_uplink(&mut self, stands: Option<bool>, now: Instant) {
        match stands {
            None => self.dialling_since = None,
            Some(true) => {
                self.dialling_since = None;
                self.doubt = UPLINK_DOUBT;
                self.doubted_until = now;
            }
            Some(false) => {
                self.dialling_since.get_or_insert(now);
            }
        }
    }

    /// Judges the uplink, where its patience is over.
    pub(super) fn handle_deadline(&mut self, now: Instant) {
        if now < self.next_deadline().at {
            return;
        }
        if self.dialling_since.is_some() {
            self.doubted_until = now + self.doubt;
            self.doubt = (self.doubt * 2).min(UPLINK_DOUBT_MAX);
        }
    }

    pub(super) fn next_deadline(&self) -> Deadline {
        match self.dialling_since {
            Some(since) => {
                let at = (since + UPLINK_PATIENCE).max(self.doubted_until);
                Deadline { at, why: "the region to answer" }
            }
            None => Deadline::NONE,
        }
    }

    pub(super) fn at(&self, now: Instant) -> Fitness {
        Fitness {
            eligible: self.is_eligible,
            steady: self.flaps_at(now) <= FLAPS_FORGIVEN_PERMILLE,
            uplink: now >= self.doubted_until,
            health: self.health,
            priority: self.priority,
        }
    }

    fn flaps_at(&self, now: Instant) -> u64 {
        let (weight, since) = self.flaps;
        let passed = now.since(since);
        let halvings = u32::try_from(passed.as_micros() / FLAP_HALF_LIFE.as_micros()).unwrap_or(u32::MAX);
        let rest = u64::try_from(passed.as_micros() % FLAP_HALF_LIFE.as_micros()).unwrap_or(0);
        let span = u64::try_from(FLAP_HALF_LIFE.as_micros()).unwrap_or(1);
        // Linear between two halvings: within 6 % of the curve.
        let whole = weight.checked_shr(halvings).unwrap_or(0);
        whole - whole * rest / span / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(1_000_000_000 + millis * 1000)
    }

    #[test]
    fn a_leader_that_does_not_reach_the_region_is_doubted_after_three_seconds_and_ever_longer() {
        let mut own = OwnFitness::new(0, 0, at(0));
        own.handle_uplink(Some(false), at(0));
        own.handle_deadline(at(2_999));
        assert!(own.at(at(2_999)).uplink);
        own.handle_deadline(at(3_000));
        assert!(!own.at(at(3_000)).uplink);
        own.handle_uplink(None, at(3_001));
        assert!(!own.at(at(62_999)).uplink);
        assert!(own.at(at(63_000)).uplink, "another try is allowed");
        own.handle_uplink(Some(false), at(70_000));
        own.handle_deadline(at(73_000));
        assert!(!own.at(at(73_000 + 119_999)).uplink);
        assert!(own.at(at(73_000 + 120_000)).uplink);
        own.handle_uplink(Some(false), at(200_000));
        own.handle_deadline(at(203_000));
        own.handle_uplink(Some(true), at(204_000));
        assert!(own.at(at(204_000)).uplink, "it answered");
    }

    #[test]
    fn one_flap_is_forgiven_and_two_are_held_down_until_they_fade() {
        let mut own = OwnFitness::new(0, 0, at(0));
        own.handle_flap(at(0));
        assert!(own.at(at(0)).steady);
        own.handle_flap(at(1));
        assert!(!own.at(at(1)).steady);
        assert!(own.at(at(60_000)).steady);
        let restarted = OwnFitness::new(0, u32::MAX, at(0));
        assert!(!restarted.at(at(240_000)).steady);
        assert!(restarted.at(at(300_000)).steady, "never longer than five half-lives");
    }
}

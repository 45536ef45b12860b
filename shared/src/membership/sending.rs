//! Owns what leaves: heartbeats at the period that each receiver asked for, and news of whom this board hears.

use core::time::Duration;

use crate::ids::BoardId;
use crate::limits::{BEAT_PERIOD_FAR, HEARING_FRESH};
use crate::membership::{Membership, Output, hearing, period_least};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::heartbeat::{Hearing, Heartbeat, Vitals};

/// Heartbeats that fall due within this part of their period leave with those that are due: one wake-up for all.
const TOGETHER: u32 = 8;

impl Membership {
    /// Sends what is due.
    pub(super) fn send_due(&mut self, now: Instant, vitals: &Vitals, out: &mut Outbox<Output>) {
        if self.peers.values().any(|peer| peer.beats.due <= now) {
            for board in self.known() {
                let soon = now + self.period(board, vitals) / TOGETHER;
                if self.peers.get(&board).is_some_and(|peer| peer.beats.due <= soon) {
                    self.beat(board, now, vitals, out);
                }
            }
        }
        if now >= self.tell_at {
            self.tell_at = Instant::NEVER;
            self.tell(now, out);
        }
    }

    /// A heartbeat to every board now: leadership or standing has changed.
    pub fn beat_now(&mut self, now: Instant, vitals: &Vitals, out: &mut Outbox<Output>) {
        for board in self.known() {
            self.beat(board, now, vitals, out);
        }
        self.wake_at = self.next_deadline().at;
    }

    /// Another message leaves to `to` now: a heartbeat that would follow within half its period goes along.
    pub fn ride_along(&mut self, to: BoardId, now: Instant, vitals: &Vitals, out: &mut Outbox<Output>) {
        let period = self.period(to, vitals);
        if self.peers.get(&to).is_some_and(|peer| peer.beats.due <= now + period / 2) {
            self.beat(to, now, vitals, out);
            self.wake_at = self.next_deadline().at;
        }
    }

    /// What `to` asked for, if it observes this board. The others hear from it seldom, from a leader less so.
    fn period(&self, to: BoardId, vitals: &Vitals) -> Duration {
        let observers = self.graph.of(self.me);
        match self.peers.get(&to) {
            Some(peer) if observers.contains(to) => peer.beats.period(period_least(observers.len())),
            Some(_) | None if vitals.leads.is_some() => BEAT_PERIOD_FAR / 4,
            Some(_) | None => BEAT_PERIOD_FAR,
        }
    }

    fn beat(&mut self, to: BoardId, now: Instant, vitals: &Vitals, out: &mut Outbox<Output>) {
        let period = self.period(to, vitals);
        let spread = Duration::from_micros(self.seed % u64::try_from(period.as_micros()).unwrap_or(1).max(1));
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        let next = now + if peer.beats.is_first() { period - spread } else { period };
        let heartbeat = Heartbeat {
            epoch: self.own.epoch,
            number: peer.beats.leave(next),
            vitals: *vitals,
            missed: self.own.missed,
            version: self.own.version,
            digest: self.digest,
            period_ms: millis(period),
            wanted_ms: millis(peer.link.wanted),
        };
        out.push(Output::Tell { to, heartbeat });
        if self.graph.of(self.me).contains(to) {
            let mut others = self.alive;
            others.remove(self.me);
            for hearing in hearing::messages(&self.lines.news(others, HEARING_FRESH, now)) {
                out.push(Output::TellHearing { to, hearing });
            }
        }
    }

    /// This board's change of mind to every board, and with it what other observers have just said: where the same
    /// board fell silent for all of them, one message that arrives is enough.
    fn tell(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let lines = self.lines.news(self.alive, HEARING_FRESH, now);
        for to in self.known() {
            for hearing in hearing::messages(&lines) {
                out.push(Output::TellHearing { to, hearing });
            }
        }
    }

    /// Where the digest that came with a heartbeat keeps differing, all lines are asked for: after 2 heartbeats, 4, 8
    /// and so on, because on a way that works in one direction only no answer ever comes.
    pub(super) fn compare(&mut self, from: BoardId, digest: u32, out: &mut Outbox<Output>) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let differing = &mut peer.link.differing;
        *differing = if digest == self.digest { 0 } else { differing.saturating_add(1) };
        if *differing > 1 && differing.is_power_of_two() {
            out.push(Output::TellHearing { to: from, hearing: Hearing { lines: [].into(), asks: true } });
        }
    }
}

fn millis(span: Duration) -> u16 {
    u16::try_from(span.as_millis()).unwrap_or(u16::MAX)
}

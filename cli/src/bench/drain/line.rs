//! One direction of an uplink as a calculation: what becomes of each packet, and when it arrives. Time is the parameter
//! `now`, chance a seed; owns no socket, no thread and no byte.
//!
//! ```text
//!  packet ──▶ queue, drop-tail ──▶ the wire, so many bits a second ──▶ lost on it? ──▶ delay ──▶ arrives
//! ```
//!
//! A packet that is lost on the way has had its time on the wire, as on a radio: what the others have left is less.

use std::time::Duration;

use crate::bench::failover::dice::Dice;

/// Bits of a byte.
const BITS: u64 = 8;
/// Parts that a probability is counted in.
pub(super) const MILLION: u64 = 1_000_000;

/// What a direction is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Bits a second of whole IP packets.
    pub(super) rate_bps: u64,
    /// Each takes so long after its last bit has left.
    pub(super) delay: Duration,
    /// So much time's worth of packets waits for the wire; what comes beyond is dropped.
    pub(super) queue: Duration,
    /// Of a million packets so many are lost, each by itself.
    pub(super) loss_ppm: u32,
}

impl Terms {
    /// How long `bytes` occupy the wire.
    pub(super) fn takes(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes * BITS) * 1_000_000_000 / u128::from(self.rate_bps.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives then.
    Arrives(Duration),
    /// The wire loses it.
    Lost,
    /// The queue is full.
    Dropped,
    /// The wire is cut.
    Swallowed,
}

/// Packets and their bytes, IP headers and all above them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Packets.
    pub(super) packets: u64,
    /// Bytes.
    pub(super) bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.packets += 1;
        self.bytes += bytes;
    }

    /// What has come since `before`.
    pub(super) const fn since(self, before: Self) -> Self {
        Self { packets: self.packets - before.packets, bytes: self.bytes - before.bytes }
    }
}

/// What a direction has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Let through.
    pub(super) through: Count,
    /// Lost on the wire.
    pub(super) lost: Count,
    /// Dropped at the queue's end.
    pub(super) dropped: Count,
    /// Swallowed while it was cut.
    pub(super) swallowed: Count,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Line {
    terms: Terms,
    dice: Dice,
    is_cut: bool,
    /// The last bit of what has come so far leaves then.
    free_at: Duration,
    carried: Carried,
}

impl Line {
    /// A line whose losses are decided by `seed`.
    pub(super) fn new(terms: Terms, seed: u64) -> Self {
        Self {
            terms,
            dice: Dice::new(seed),
            is_cut: false,
            free_at: Duration::ZERO,
            carried: Carried::default(),
        }
    }

    /// Cuts it, or mends it. What is on its way arrives all the same.
    pub(super) fn set_cut(&mut self, is_cut: bool) {
        self.is_cut = is_cut;
    }

    /// Other terms, for packets that come from now on.
    pub(super) fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// What it has done.
    pub(super) const fn carried(&self) -> Carried {
        self.carried
    }

    /// A packet of `bytes` bytes comes; `now` never goes back.
    pub(super) fn take(&mut self, bytes: u64, now: Duration) -> Fate {
        if self.is_cut {
            self.carried.swallowed.add(bytes);
            return Fate::Swallowed;
        }
        let begins = self.free_at.max(now);
        let leaves = begins + self.terms.takes(bytes);
        if leaves > now + self.terms.queue.max(self.terms.takes(bytes)) {
            self.carried.dropped.add(bytes);
            return Fate::Dropped;
        }
        self.free_at = leaves;
        // A roll for each that gets a place: the fate of the nth depends on the seed and n alone.
        if self.dice.roll() % MILLION < u64::from(self.terms.loss_ppm) {
            self.carried.lost.add(bytes);
            return Fate::Lost;
        }
        self.carried.through.add(bytes);
        Fate::Arrives(leaves + self.terms.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// 20 Mbit/s: 2500 bytes a millisecond.
    const CLEAN: Terms = Terms {
        rate_bps: 20_000_000,
        delay: Duration::from_millis(40),
        queue: Duration::from_millis(100),
        loss_ppm: 0,
    };

    #[test]
    fn a_packet_takes_its_bits_and_the_delay() {
        let mut line = Line::new(CLEAN, 1);
        assert_eq!(line.take(1250, 7 * MS), Fate::Arrives(47 * MS + MS / 2));
        assert_eq!(line.take(1250, 7 * MS), Fate::Arrives(48 * MS), "it waits for the one before");
        assert_eq!(line.take(2500, 60 * MS), Fate::Arrives(101 * MS), "an idle wire saves nothing up");
    }

    #[test]
    fn the_queue_holds_its_time_and_not_a_bit_more() {
        let mut line = Line::new(CLEAN, 1);
        for _ in 0..100 {
            assert!(matches!(line.take(2500, MS), Fate::Arrives(_)));
        }
        assert_eq!(line.take(40, MS), Fate::Dropped);
        assert_eq!(line.take(2500, 2 * MS), Fate::Arrives(142 * MS));
        assert_eq!(line.take(2501, 3 * MS), Fate::Dropped);
        let carried = line.carried();
        assert_eq!((carried.through.packets, carried.dropped), (101, Count { packets: 2, bytes: 2541 }));
        let mut narrow = Line::new(Terms { queue: Duration::ZERO, ..CLEAN }, 1);
        assert_eq!(narrow.take(2500, MS), Fate::Arrives(42 * MS), "an idle wire takes one whatever the queue");
        assert_eq!(narrow.take(1, MS), Fate::Dropped);
    }

    /// Offers twice the rate for ten seconds of virtual time.
    fn flooded(terms: Terms, seed: u64) -> Carried {
        let mut line = Line::new(terms, seed);
        for nth in 0..40_000 {
            line.take(1250, MS / 4 * nth);
        }
        line.carried()
    }

    #[test]
    fn a_flood_is_let_through_at_the_rate() {
        for rate_bps in [1_000_000, 20_000_000, 37_500_000] {
            let carried = flooded(Terms { rate_bps, ..CLEAN }, 1);
            // Ten seconds of the rate, and the queue that was filled meanwhile.
            let most = rate_bps / 8 * 101 / 10;
            let bytes = carried.through.bytes;
            assert!((most - 2500..=most).contains(&bytes), "{bytes} of {most}");
        }
    }

    #[test]
    fn as_many_are_lost_as_the_terms_say_and_the_seed_says_which() {
        let lossy = |loss_ppm, seed| flooded(Terms { loss_ppm, ..CLEAN }, seed);
        for (loss_ppm, share) in [(10_000, 0.01), (50_000, 0.05), (500_000, 0.5)] {
            let carried = lossy(loss_ppm, 7);
            let on_wire = (carried.through.packets + carried.lost.packets) as f64;
            let lost = carried.lost.packets as f64;
            // Four standard deviations of so many throws.
            let margin = 4.0 * (on_wire * share * (1.0 - share)).sqrt();
            assert!((lost - on_wire * share).abs() < margin, "{lost} of {on_wire}");
            assert_eq!(carried, lossy(loss_ppm, 7));
            assert_ne!(carried, lossy(loss_ppm, 8));
        }
        assert_eq!(lossy(0, 7).lost, Count::default());
        assert_eq!(lossy(1_000_000, 7).through, Count::default(), "what is lost has had its time on the wire");
        let sent = |carried: Carried| carried.through.packets + carried.lost.packets;
        assert_eq!(sent(lossy(1_000_000, 7)), sent(lossy(0, 7)));
    }

    #[test]
    fn a_cut_wire_swallows_all_and_remembers_nothing() {
        let mut line = Line::new(CLEAN, 1);
        line.set_cut(true);
        assert_eq!(line.take(1250, MS), Fate::Swallowed);
        line.set_cut(false);
        assert_eq!(line.take(1250, MS), Fate::Arrives(41 * MS + MS / 2));
        assert_eq!(line.carried().swallowed, Count { packets: 1, bytes: 1250 });
        line.set_terms(Terms { delay: Duration::ZERO, ..CLEAN });
        assert_eq!(line.take(1250, 90 * MS), Fate::Arrives(90 * MS + MS / 2));
    }
}

//! Owns what is measured on the way from one board: how much of it is lost, and how late the rest comes; and how many
//! misses in a row are evidence at that. Plain arithmetic, equal on every machine: `core` has neither logarithm nor root.

use core::time::Duration;

use crate::limits::{LATENESS_LEAST, MISTAKE_EVERY};
use crate::membership::rules::{Margin, Rules};

/// A heartbeat's weight in what is remembered of losses: some 500 are, most of a minute.
const LOSS_WEIGHT: f64 = 1.0 / 512.0;
/// As if so many had come already: a way that nobody knows is taken for a fair one.
const LOSS_PRIOR: f64 = 50.0;
/// Losses that must be seen before losses in a row are believed to go together.
const BURST_PRIOR: f64 = 8.0;
/// No way is believed to be worse: nothing would ever be evidence on it.
const CHANCE_MOST: f64 = 0.9;
/// A heartbeat's weight in the mean and the variance of lateness.
const LATENESS_WEIGHT: f64 = 1.0 / 128.0;
/// Deviations that the margin spans: by Cantelli's inequality at most 1 in 26 is later, whatever the distribution.
const DEVIATIONS: f64 = 5.0;
/// A normal distribution's deviation, counted in median absolute deviations.
const DEVIATIONS_IN_MAD: f64 = 1.4826;

/// How much is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Loss {
    sent: f64,
    lost: f64,
    /// Lost right after a lost one: in bursts most are.
    in_row: f64,
    /// The newest 16, one bit each: set where lost.
    newest: u16,
}

impl Default for Loss {
    fn default() -> Self {
        Self { sent: LOSS_PRIOR, lost: 0.0, in_row: 0.0, newest: 0 }
    }
}

impl Loss {
    /// One came, `before` that should have come earlier did not.
    pub(super) fn count(&mut self, before: u64) {
        let before = before.min(64);
        for place in 0..before {
            self.decay();
            self.lost += 1.0;
            self.in_row += if place > 0 { 1.0 } else { 0.0 };
            self.newest |= 1;
        }
        self.decay();
    }

    /// One that had counted as lost was only overtaken.
    pub(super) fn uncount(&mut self) {
        self.lost = (self.lost - 1.0).max(0.0);
        self.in_row = self.in_row.min(self.lost);
        self.newest &= self.newest.wrapping_sub(1);
    }

    fn decay(&mut self) {
        let keep = 1.0 - LOSS_WEIGHT;
        self.sent = self.sent * keep + 1.0;
        self.lost *= keep;
        self.in_row *= keep;
        self.newest <<= 1;
    }

    /// The chance that one is lost: Jeffreys' estimate, (k + 1/2) / (n + 1); the newest count for themselves where
    /// more than one of them is lost, so that a way that turns bad is known as such within a second.
    pub(super) fn chance(&self) -> f64 {
        let long = (self.lost + 0.5) / (self.sent + 1.0);
        let newest = f64::from(self.newest.count_ones());
        let short = if newest > 1.5 { (newest + 0.5) / 17.0 } else { 0.0 };
        long.max(short).min(CHANCE_MOST)
    }

    /// The chance that the one after a lost one is lost.
    fn chance_in_row(&self) -> f64 {
        let alone = self.chance();
        ((self.in_row + BURST_PRIOR * alone) / (self.lost + BURST_PRIOR))
            .max(alone)
            .min(CHANCE_MOST)
    }

    /// Misses in a row, `period` apart, that with `observers` looking on happen by chance once in
    /// [`MISTAKE_EVERY`]: ln(period / every) / (observers · ln p), the first miss and the following each with its chance.
    pub(super) fn misses_needed(&self, period: Duration, observers: usize) -> u32 {
        let rare = ln(period.as_micros() as f64 / MISTAKE_EVERY.as_micros() as f64) / observers.max(1) as f64;
        let further = (rare - ln(self.chance())) / ln(self.chance_in_row());
        if further <= 0.0 { 1 } else { 1 + ceil(further) }
    }
}

/// How late heartbeats come against the period that the one before promised.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lateness {
    mean: f64,
    variance: f64,
    /// Kept for [`Margin::Mad`] alone.
    median: f64,
    deviation: f64,
}

impl Lateness {
    /// One came so late.
    pub(super) fn count(&mut self, late: Duration, rules: Rules) {
        let late = late.as_micros() as f64;
        if rules.margin == Margin::Mad {
            self.median += step(late, self.median);
            self.deviation += step((late - self.median).max(self.median - late), self.deviation);
        }
        let off = late - self.mean;
        self.mean += LATENESS_WEIGHT * off;
        self.variance = (1.0 - LATENESS_WEIGHT) * (self.variance + LATENESS_WEIGHT * off * off);
    }

    /// What must be allowed for lateness.
    pub(super) fn margin(&self, rules: Rules) -> Duration {
        let micros = match rules.margin {
            Margin::Variance => self.mean + DEVIATIONS * sqrt(self.variance),
            Margin::Mad => self.median + DEVIATIONS * DEVIATIONS_IN_MAD * self.deviation,
        };
        Duration::from_micros(micros as u64).max(LATENESS_LEAST)
    }
}

/// Towards `value` from `from`, in steps of 100 µs: where the steps balance, as many lie above as below.
fn step(value: f64, from: f64) -> f64 {
    if value > from { 100.0 } else { -100.0_f64.min(from) }
}

/// The natural logarithm of a positive number, to some nine digits.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = f64::from((bits >> 52) as u32) - 1023.0;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > core::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1.0;
    }
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = [11.0, 9.0, 7.0, 5.0, 3.0, 1.0]
        .iter()
        .fold(0.0, |sum, odd| sum * square + 1.0 / odd);
    exponent * core::f64::consts::LN_2 + 2.0 * t * series
}

/// The square root, by Newton's steps from a guess that halves the exponent.
fn sqrt(x: f64) -> f64 {
    if x < 1e-9 {
        return 0.0;
    }
    let guess = f64::from_bits((x.to_bits() >> 1) + (1023 << 51));
    (0..4).fold(guess, |root, _| (root + x / root) / 2.0)
}

fn ceil(x: f64) -> u32 {
    let whole = x as u32;
    if f64::from(whole) < x { whole + 1 } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-7 * other.abs().max(1.0)
    }

    #[test]
    fn logarithm_and_root_are_right() {
        for (x, want) in [(1.0, 0.0), (0.001, -6.907_755_279), (0.3, -1.203_972_804), (3.5e-10, -21.773_087_999)] {
            assert!(close(ln(x), want), "ln {x} = {}", ln(x));
        }
        for x in [0.25, 2.0, 9e9, 1e-4] {
            assert!(close(sqrt(x) * sqrt(x), x), "sqrt {x}");
        }
        assert_eq!((ceil(2.0), ceil(2.1), ceil(0.0)), (2, 3, 0));
    }

    fn measured(of_ten: u64, row: u64) -> Loss {
        let mut loss = Loss::default();
        for _ in 0..300 {
            (0..of_ten / row).for_each(|_| loss.count(row));
            (0..10 - of_ten - of_ten / row).for_each(|_| loss.count(0));
        }
        loss
    }

    #[test]
    fn the_more_is_lost_and_the_fewer_look_on_the_more_misses_are_needed() {
        let period = Duration::from_millis(100);
        let clean = measured(0, 1);
        assert_eq!([1, 2, 3].map(|observers| clean.misses_needed(period, observers)), [4, 2, 2]);
        let bad = measured(3, 1);
        assert!((0.28..0.32).contains(&bad.chance()), "{}", bad.chance());
        assert_eq!([1, 2, 3].map(|observers| bad.misses_needed(period, observers)), [19, 10, 7]);
    }

    #[test]
    fn losses_in_a_row_are_weaker_evidence_than_single_ones() {
        let period = Duration::from_millis(100);
        let (single, rows) = (measured(3, 1), measured(3, 3));
        assert!(rows.misses_needed(period, 3) > single.misses_needed(period, 3));
    }

    #[test]
    fn a_way_that_turns_bad_is_known_within_sixteen_heartbeats() {
        let mut loss = measured(0, 1);
        loss.count(1);
        assert!(loss.chance() < 0.01, "one lost heartbeat is no bad way");
        loss.count(2);
        assert!(loss.chance() > 0.15);
    }

    #[test]
    fn one_that_was_overtaken_is_not_lost() {
        let mut loss = Loss::default();
        loss.count(1);
        loss.uncount();
        assert!(loss.lost < 1e-9 && loss.newest == 0);
    }

    #[test]
    fn the_margin_knows_the_tail_that_a_median_hides() {
        let (mut honest, mut mad) = (Lateness::default(), Lateness::default());
        let by_mad = Rules { margin: Margin::Mad, ..Rules::default() };
        for beat in 0..2000 {
            let late = Duration::from_millis(if beat % 20 == 0 { 200 } else { 0 });
            honest.count(late, Rules::default());
            mad.count(late, by_mad);
        }
        assert!(honest.margin(Rules::default()) > Duration::from_millis(180), "{honest:?}");
        assert!(mad.margin(by_mad) < Duration::from_millis(10), "{mad:?}");
    }
}

//! Owns one other board as heard directly: the life it was last heard in, what it said, how lossy and late its way is,
//! and until when it may be silent. Also when the next heartbeat to it is due. Must not know the other boards.

use core::time::Duration;

use crate::ids::Epoch;
use crate::limits::{BEAT_PERIOD_LEAST, BEAT_PERIOD_MOST, SILENCE_MOST};
use crate::membership::estimate::{Lateness, Loss};
use crate::membership::rules::Rules;
use crate::time::Instant;
use crate::wire::heartbeat::{Heartbeat, Vitals};

/// Numbers that a heartbeat may be behind the newest and still be one that was overtaken.
const OVERTAKEN_MOST: u64 = 64;
/// Heartbeats after which the patience is worked out anew even where none was lost.
const RECKON_EVERY: u64 = 16;

/// What decides how long a board may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The configured floor.
    pub(super) down_after: Duration,
    /// The configured period.
    pub(super) heartbeat: Duration,
    /// Who else looks on; 0 where this board does not observe the other.
    pub(super) observers: usize,
    /// The shortest period that the budget allows.
    pub(super) period_least: Duration,
    pub(super) rules: Rules,
}

/// The newest heartbeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heard {
    pub(super) epoch: Epoch,
    pub(super) number: u64,
    pub(super) at: Instant,
    /// When the next was promised.
    pub(super) period: Duration,
    pub(super) vitals: Vitals,
}

/// What a heartbeat means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing: a newer one was handled before, or it is of a life that is over.
    Old,
    /// The board lives on.
    Alive,
    /// It was silent, or is in another life.
    Again,
}

/// One other board as heard directly.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Link {
    pub(super) heard: Option<Heard>,
    /// Not heard yet, or not any more.
    pub(super) is_silent: bool,
    /// Silent until then, it counts as missed.
    pub(super) due: Instant,
    /// How long it may be silent after a heartbeat.
    pub(super) patience: Duration,
    /// The period that it is asked to send at.
    pub(super) wanted: Duration,
    pub(super) loss: Loss,
    pub(super) lateness: Lateness,
    /// A life of it that is known to be over.
    pub(super) buried: Option<u64>,
    /// It closed its connection in good order, and has not been heard since.
    pub(super) is_gone: bool,
    /// Its machine acknowledged something last.
    pub(super) acknowledged: Option<Instant>,
    /// Its heartbeats in a row whose digest differs from ours.
    pub(super) differing: u32,
}

impl Link {
    pub(super) fn new(patience: &Patience) -> Self {
        let mut link = Self {
            heard: None,
            is_silent: true,
            due: Instant::NEVER,
            patience: patience.down_after,
            wanted: patience.heartbeat,
            loss: Loss::default(),
            lateness: Lateness::default(),
            buried: None,
            is_gone: false,
            acknowledged: None,
            differing: 0,
        };
        link.reckon(patience);
        link
    }

    /// A heartbeat came. `is_timely`: this board was awake to see when.
    pub(super) fn handle_heartbeat(
        &mut self,
        heartbeat: &Heartbeat,
        is_timely: bool,
        patience: &Patience,
        now: Instant,
    ) -> Sign {
        let sign = self.sign_of(heartbeat);
        if sign == Sign::Old {
            self.uncount(heartbeat);
            return sign;
        }
        let changed = self.measure(heartbeat, is_timely, patience, now);
        self.heard = Some(Heard {
            epoch: heartbeat.epoch,
            number: heartbeat.number,
            at: now,
            period: Duration::from_millis(heartbeat.period_ms.into()),
            vitals: heartbeat.vitals,
        });
        if changed || heartbeat.number.is_multiple_of(RECKON_EVERY) {
            self.reckon(patience);
        }
        self.is_silent = false;
        self.is_gone = false;
        self.due = now + self.silence_allowed(patience);
        sign
    }

    /// A life that is heard only gives way to a later one. One that fell silent gives way to any other: the board's disk
    /// may have been replaced, and then it counts its starts anew. A life that is over says nothing.
    fn sign_of(&self, new: &Heartbeat) -> Sign {
        if self.buried == Some(new.epoch.nonce) {
            return Sign::Old;
        }
        match &self.heard {
            Some(heard) if heard.epoch == new.epoch => match (new.number > heard.number, self.is_silent) {
                (false, _) => Sign::Old,
                (true, false) => Sign::Alive,
                (true, true) => Sign::Again,
            },
            Some(heard) if !self.is_silent && new.epoch < heard.epoch => Sign::Old,
            Some(_) | None => Sign::Again,
        }
    }

    /// Counts what was lost before, and how late this one is; true where the patience is to be worked out anew.
    fn measure(&mut self, new: &Heartbeat, is_timely: bool, patience: &Patience, now: Instant) -> bool {
        let Some(heard) = self.heard.filter(|heard| heard.epoch == new.epoch && !self.is_silent) else {
            return true;
        };
        let before = new.number - heard.number - 1;
        self.loss.count(before);
        if before == 0 && is_timely {
            let late = now.since(heard.at).saturating_sub(heard.period);
            self.lateness.count(late, patience.rules);
        }
        before > 0 || now.since(heard.at) > heard.period * 3 / 2
    }

    fn uncount(&mut self, late: &Heartbeat) {
        if let Some(heard) = self.heard
            && heard.epoch == late.epoch
            && late.number < heard.number
            && heard.number - late.number < OVERTAKEN_MOST
        {
            self.loss.uncount();
        }
    }

    /// Works out how often this board is to be heard, and how long it may be silent.
    pub(super) fn reckon(&mut self, with: &Patience) {
        let target = with.down_after * 3 / 2;
        let mut wanted = with.heartbeat.max(with.period_least);
        while wanted > with.period_least && self.span(wanted, with) > target {
            wanted = (wanted * 3 / 4).max(with.period_least);
        }
        self.wanted = wanted;
        let period = self.heard.map_or(wanted, |heard| heard.period.max(BEAT_PERIOD_LEAST));
        self.patience = self.span(period, with);
    }

    /// So many periods as misses are needed, and what is late; at most what is ever excused.
    fn span(&self, period: Duration, with: &Patience) -> Duration {
        let misses = self.loss.misses_needed(period, with.observers).max(2);
        let most = SILENCE_MOST / u32::try_from(with.observers.max(1)).unwrap_or(1);
        (period * misses + self.lateness.margin(with.rules)).min(most)
    }

    /// From a heartbeat on. Above the floor half a period more, so that a board that stalls for as long as the floor
    /// less a period is not taken for dead.
    pub(super) fn silence_allowed(&self, with: &Patience) -> Duration {
        let period = self.heard.map_or(self.wanted, |heard| heard.period).min(BEAT_PERIOD_MOST);
        let floor = with.down_after + period / 2;
        match (&self.heard, with.observers) {
            (Some(heard), 0) => heard.period * 3 + floor,
            (None, 0) | (_, _) => self.patience.max(floor),
        }
    }

    /// A reason to expect the next sign of life by `by`, if not sooner.
    pub(super) fn expect_by(&mut self, by: Instant) {
        if !self.is_silent {
            self.due = by.min(self.due);
        }
    }

    /// We were late by `late`: the board may be, too, but never beyond a whole patience from now.
    pub(super) fn forgive(&mut self, late: Duration, with: &Patience, now: Instant) {
        if !self.is_silent {
            let latest = now + self.silence_allowed(with);
            self.due = (self.due + late).min(latest).max(self.due);
        }
    }

    /// Counts it as silent where it has been for too long; true where that is new.
    pub(super) fn judge(&mut self, now: Instant) -> bool {
        let falls = !self.is_silent && now >= self.due;
        if falls {
            self.fall_silent();
        }
        falls
    }

    /// It is not heard any more.
    pub(super) fn fall_silent(&mut self) {
        self.is_silent = true;
        self.due = Instant::NEVER;
    }

    /// The life in which it is heard now.
    pub(super) fn life(&self) -> Option<Epoch> {
        self.heard.filter(|_| !self.is_silent).map(|heard| heard.epoch)
    }

    /// Whether its machine gave a sign since its process was heard last.
    pub(super) fn is_sick(&self) -> bool {
        match (self.acknowledged, self.heard) {
            (Some(acknowledged), Some(heard)) => acknowledged > heard.at + heard.period,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

/// When heartbeats to one board leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beats {
    number: u64,
    pub(super) due: Instant,
    /// What it asked for.
    pub(super) wanted: Duration,
}

impl Beats {
    pub(super) fn new(wanted: Duration, now: Instant) -> Self {
        Self { number: 0, due: now, wanted }
    }

    /// One leaves now; its number.
    pub(super) fn leave(&mut self, next: Instant) -> u64 {
        self.number += 1;
        self.due = next;
        self.number
    }

    /// Whether none has left yet.
    pub(super) const fn is_first(&self) -> bool {
        self.number == 0
    }

    /// What the receiver asked for, within bounds.
    pub(super) fn period(&self, least: Duration) -> Duration {
        self.wanted.clamp(least.min(BEAT_PERIOD_MOST), BEAT_PERIOD_MOST)
    }
}

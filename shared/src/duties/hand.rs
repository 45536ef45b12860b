//! Owns one duty on this board: whether it may act, since when, and whether its process may still be acting. Must not
//! know who leads.
//!
//! ```text
//!  stance │ act           │ rest          │ its end comes  │ process at rest │ process has failed
//!  ───────┼───────────────┼───────────────┼────────────────┼─────────────────┼───────────────────
//!  rests  │ acts, order   │ rests         │ rests          │ rests           │ rests
//!  acts   │ acts, order   │ leaves, order │ rests, order   │ acts            │ rests, order
//!  leaves │ acts, order   │ leaves        │ rests          │ rests           │ rests
//! ```
//!
//! A report answers the newest order: the shell holds back what was said before that one had arrived. So "at rest" while
//! the stance is `acts` only means that the process has not begun yet, or is being started again.

use crate::action::{DutyOrder, DutyReport};
use crate::config::{DutyConfig, DutyMode};
use crate::ids::{DutyId, Fencing};
use crate::outbox::Outbox;
use crate::time::Instant;

use super::Output;

/// What this board does in a duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stance {
    /// Nothing of it acts here, for certain.
    Rests,
    /// It may act, until then.
    Acts { token: Fencing, until: Instant },
    /// It may act no more; that its process has obeyed is not known before then.
    Leaves { token: Fencing, until: Instant },
}

/// One duty on this board.
#[derive(Debug)]
pub(super) struct Hand {
    duty: DutyId,
    pub(super) mode: DutyMode,
    standby: bool,
    is_local: bool,
    failed: bool,
    process: DutyReport,
    pub(super) stance: Stance,
    ordered: DutyOrder,
    stopping: bool,
}

impl Hand {
    pub(super) fn new(duty: DutyId, config: &DutyConfig) -> Self {
        Self {
            duty,
            mode: config.mode,
            standby: config.standby,
            is_local: config.is_local,
            failed: false,
            process: DutyReport::Ended { failed: false },
            stance: Stance::Rests,
            ordered: DutyOrder::End,
            stopping: false,
        }
    }

    pub(super) const fn is_exclusive(&self) -> bool {
        matches!(self.mode, DutyMode::Exclusive)
    }

    /// Whether this board could perform it.
    pub(super) const fn can(&self) -> bool {
        self.is_local && !self.failed && !self.stopping
    }

    /// Whether this board has given it up for a while, because its process had failed too often.
    pub(super) const fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether a process stands ready or acts.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.process, DutyReport::StandsBy | DutyReport::Acts { .. })
    }

    pub(super) const fn process(&self) -> DutyReport {
        self.process
    }

    /// The token under which it has the right to act at `now`.
    pub(super) fn right(&self, now: Instant) -> Option<Fencing> {
        match self.stance {
            Stance::Acts { token, until } if now < until => Some(token),
            Stance::Acts { .. } | Stance::Rests | Stance::Leaves { .. } => None,
        }
    }

    /// The token under which something of it may be acting at `now`.
    pub(super) fn may_act(&self, now: Instant) -> Option<Fencing> {
        match self.stance {
            Stance::Acts { token, until } | Stance::Leaves { token, until } if now < until => Some(token),
            Stance::Acts { .. } | Stance::Rests | Stance::Leaves { .. } => None,
        }
    }

    /// When the right to act, or the doubt whether it was obeyed, ends.
    pub(super) const fn ends(&self) -> Option<Instant> {
        match self.stance {
            Stance::Rests => None,
            Stance::Acts { until, .. } | Stance::Leaves { until, .. } => Some(until),
        }
    }

    /// It may act under `token` until `until`. A right under one token is never made shorter by this: its giver counts
    /// on the longest that it gave.
    pub(super) fn act(&mut self, token: Fencing, until: Instant, out: &mut Outbox<Output>) {
        if !self.can() {
            return;
        }
        let until = match self.stance {
            Stance::Acts { token: held, until: before } if held == token => before.max(until),
            Stance::Rests | Stance::Acts { .. } | Stance::Leaves { .. } => until,
        };
        self.stance = Stance::Acts { token, until };
        self.order(DutyOrder::Act { token, until }, out);
    }

    /// It may act no more.
    pub(super) fn rest(&mut self, out: &mut Outbox<Output>) {
        if let Stance::Acts { token, until } = self.stance {
            self.stance = Stance::Leaves { token, until };
        }
        self.order(self.rest_order(), out);
    }

    /// What its lease allowed is over at `now`: the shell has seen to the process before.
    pub(super) fn lapse(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if self.ends().is_some_and(|until| now >= until) {
            self.stance = Stance::Rests;
            self.order(self.rest_order(), out);
        }
    }

    /// The process has changed.
    pub(super) fn handle_report(&mut self, report: DutyReport, out: &mut Outbox<Output>) {
        self.process = report;
        self.failed = matches!(report, DutyReport::Ended { failed: true });
        let at_rest = !matches!(report, DutyReport::Acts { .. });
        match self.stance {
            Stance::Leaves { .. } if at_rest => self.stance = Stance::Rests,
            Stance::Acts { .. } if self.failed => {
                self.stance = Stance::Rests;
                self.order(self.rest_order(), out);
            }
            Stance::Rests | Stance::Acts { .. } | Stance::Leaves { .. } => {}
        }
    }

    /// The board stops: no process from now on.
    pub(super) fn stop(&mut self, out: &mut Outbox<Output>) {
        self.stopping = true;
        self.rest(out);
    }

    const fn rest_order(&self) -> DutyOrder {
        if self.standby && self.is_local && !self.stopping {
            DutyOrder::StandBy
        } else {
            DutyOrder::End
        }
    }

    fn order(&mut self, order: DutyOrder, out: &mut Outbox<Output>) {
        if self.ordered != order {
            self.ordered = order;
            out.push(Output::Order { duty: self.duty, order });
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::ids::{BoardId, Term};

    const AT_REST: DutyReport = DutyReport::StandsBy;

    fn hand(stance: Stance) -> Hand {
        let config = DutyConfig {
            name: "signal".try_into().unwrap(),
            mode: DutyMode::Exclusive,
            standby: true,
            is_local: true,
        };
        let mut hand = Hand::new(DutyId::new(0).unwrap(), &config);
        hand.stance = stance;
        hand.ordered = match stance {
            Stance::Rests | Stance::Leaves { .. } => DutyOrder::StandBy,
            Stance::Acts { token, until } => DutyOrder::Act { token, until },
        };
        hand
    }

    #[test]
    fn each_cell_of_the_table() {
        let token = |revision| Fencing::new(Term::new(1, BoardId::new(1).unwrap()), revision);
        let (first, second) = (Instant::from_micros(10), Instant::from_micros(20));
        let acts = Stance::Acts { token: token(1), until: first };
        let leaves = Stance::Leaves { token: token(1), until: first };
        let again = Stance::Acts { token: token(2), until: second };
        type Event = fn(&mut Hand, &mut Outbox<Output>);
        let act: Event = |hand, out| {
            hand.act(Fencing::new(Term::new(1, BoardId::new(1).unwrap()), 2), Instant::from_micros(20), out);
        };
        let rest: Event = |hand, out| hand.rest(out);
        let end: Event = |hand, out| hand.lapse(Instant::from_micros(10), out);
        let still: Event = |hand, out| hand.handle_report(AT_REST, out);
        let failed: Event = |hand, out| hand.handle_report(DutyReport::Ended { failed: true }, out);
        let events = [act, rest, end, still, failed];
        let table = [
            (
                Stance::Rests,
                [(again, 1), (Stance::Rests, 0), (Stance::Rests, 0), (Stance::Rests, 0), (Stance::Rests, 0)],
            ),
            (acts, [(again, 1), (leaves, 1), (Stance::Rests, 1), (acts, 0), (Stance::Rests, 1)]),
            (leaves, [(again, 1), (leaves, 0), (Stance::Rests, 0), (Stance::Rests, 0), (Stance::Rests, 0)]),
        ];
        for (before, row) in table {
            for (column, (after, orders)) in row.into_iter().enumerate() {
                let mut hand = hand(before);
                let mut out = Outbox::default();
                events[column](&mut hand, &mut out);
                let said: Vec<Output> = core::iter::from_fn(|| out.pop()).collect();
                assert_eq!((hand.stance, said.len()), (after, orders), "{before:?}, event {column}: {said:?}");
            }
        }
    }

    #[test]
    fn a_right_ends_at_its_end_and_not_before() {
        let token = Fencing::new(Term::new(1, BoardId::new(1).unwrap()), 1);
        let mut held = hand(Stance::Acts { token, until: Instant::from_micros(10) });
        let mut out = Outbox::default();
        held.lapse(Instant::from_micros(9), &mut out);
        assert_eq!(held.right(Instant::from_micros(9)), Some(token));
        assert_eq!(held.right(Instant::from_micros(10)), None);
        assert!(out.is_empty());
    }
}

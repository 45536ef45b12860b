//! Owns how a duty is shown to people: who has it, until when, what it waits for, why it last moved. Decides nothing.

use alloc::vec::Vec;

use super::Duties;
use super::chair::{Chair, State, Why};
use super::hand::{Hand, Stance};
use super::tenure::Post;
use crate::action::DutyReport;
use crate::config::DutyMode;
use crate::ids::{BoardId, DutyId, Fencing, Name};
use crate::time::Instant;

/// One user's duty, as this board knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DutyLine {
    /// Which.
    pub duty: DutyId,
    /// Its name.
    pub name: Name,
    /// One at a time, or several.
    pub mode: DutyMode,
    /// Who performs it: all that the leader has given it to; elsewhere this board alone, where it does.
    pub holders: Vec<BoardId>,
    /// The token that it is performed under.
    pub token: Option<Fencing>,
    /// Since when it is with these holders, where this board leads.
    pub since: Option<Instant>,
    /// Until when this board may act in it.
    pub until: Option<Instant>,
    /// What it waits for.
    pub waits_for: &'static str,
    /// Why it last moved, where this board leads.
    pub why: &'static str,
    /// Its process on this board: `none`, `failed`, `starting`, `stands by`, `acts`.
    pub process: &'static str,
}

impl Duties {
    /// The site's duties for people, in their order.
    pub fn lines(&self, now: Instant) -> Vec<DutyLine> {
        let lines = self.hands.iter().enumerate().filter_map(|(place, hand)| {
            let duty = u8::try_from(place).ok().and_then(DutyId::new)?;
            Some(self.line(duty, hand, now))
        });
        lines.collect()
    }

    fn line(&self, duty: DutyId, hand: &Hand, now: Instant) -> DutyLine {
        let place = usize::from(duty.get());
        let until = match hand.stance {
            Stance::Acts { until, .. } | Stance::Leaves { until, .. } => Some(until),
            Stance::Rests => None,
        };
        let mut line = DutyLine {
            duty,
            name: self.config.duties.get(place).map(|duty| duty.name.clone()).unwrap_or_default(),
            mode: hand.mode,
            holders: hand.right(now).map(|_| self.config.board).into_iter().collect(),
            token: hand.right(now),
            since: None,
            until: until.filter(|until| *until != Instant::NEVER),
            waits_for: own_wait(hand, self.leader.is_some()),
            why: "",
            process: process(hand.process()),
        };
        let Some(tenure) = &self.tenure else { return line };
        match tenure.posts.get(place) {
            Some(Post::Exclusive(chair)) => {
                line.holders = chair.holder().map(|given| given.board).into_iter().collect();
                line.token = chair.holder().map(|given| given.token);
                line.since = Some(chair.since);
                line.why = chair.why.as_str();
                line.waits_for = tenure_wait(chair, tenure.is_exhausted(), tenure.ending);
            }
            Some(Post::Available { wanted, active }) => {
                line.holders = active.iter().collect();
                line.token = Some(Fencing::new(tenure.term, 0));
                line.waits_for = if active.len() < usize::from(*wanted) {
                    "boards that can perform it"
                } else {
                    "nothing"
                };
            }
            None => {}
        }
        line
    }
}

fn own_wait(hand: &Hand, is_led: bool) -> &'static str {
    match hand.stance {
        Stance::Leaves { .. } => "its process to come to rest",
        Stance::Rests | Stance::Acts { .. } if !is_led => "a leader",
        Stance::Acts { .. } if !matches!(hand.process(), DutyReport::Acts { .. }) => "its process to act",
        Stance::Rests | Stance::Acts { .. } => "nothing",
    }
}

const fn tenure_wait(chair: &Chair, is_exhausted: bool, is_ending: bool) -> &'static str {
    match chair.state {
        State::Unknown => "every board to say what it holds, or its lease to end",
        State::Vacant if is_ending => "the next leader",
        State::Vacant if is_exhausted => "the next leader: this term's tokens are used up",
        State::Vacant => "a board that can perform it",
        State::Recalled(_) => "its former holder to rest, or its lease to end",
        State::Given(_) => match chair.better {
            Some((_, Why::HolderLoaded)) => "its holder's load to fall, before it moves",
            Some(_) => "its holder to be well, before it moves",
            None => "nothing",
        },
    }
}

const fn process(report: DutyReport) -> &'static str {
    match report {
        DutyReport::Ended { failed: false } => "none",
        DutyReport::Ended { failed: true } => "failed",
        DutyReport::Starting => "starting",
        DutyReport::StandsBy => "stands by",
        DutyReport::Acts { .. } => "acts",
    }
}

//! Owns how a duty is shown to people: who has it, until when, what it waits for, why it last moved. Decides nothing.

use alloc::vec::Vec;

use super::Duties;
use super::chair::{Chair, State, Why};
use super::choice::bit;
use super::hand::{Hand, Stance};
use super::tenure::{Account, Post, Tenure};
use crate::action::DutyReport;
use crate::config::DutyMode;
use crate::ids::{BoardId, BoardSet, DutyId, Fencing, Name};
use crate::time::Instant;
use crate::wire::uplink::{DutyState, DutyTold, SiteDuties, duty_words};

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

    /// The same for the region, where this board leads.
    pub fn told(&self, now: Instant) -> Option<SiteDuties> {
        let tenure = self.tenure.as_ref()?;
        let told = |(line, post): (DutyLine, &Post)| self.told_of(line, post, tenure, now);
        Some(SiteDuties { duties: self.lines(now).into_iter().zip(&tenure.posts).map(told).collect() })
    }

    fn told_of(&self, line: DutyLine, post: &Post, tenure: &Tenure, now: Instant) -> DutyTold {
        let bit = bit(line.duty);
        let living = |says: fn(&Account) -> u32| {
            let boards = tenure.boards_that(|account| says(account) & bit != 0);
            boards.intersection(self.view.alive)
        };
        let ready = living(|account| account.ready);
        let failed = living(|account| account.failed);
        let nobody_can = living(|account| account.can).is_empty();
        let held = |since| u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        let state = state(post, ready, nobody_can && !failed.is_empty());
        let waits_for = if state == DutyState::Starting {
            "its process to be ready"
        } else {
            line.waits_for
        };
        DutyTold {
            state,
            holders: line.holders.into_iter().collect(),
            ready,
            failed,
            token: line.token,
            held_ms: line.since.map(held),
            waits_for: duty_words(waits_for),
            why: duty_words(line.why),
            name: line.name,
            mode: line.mode,
        }
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

/// How a duty is. `ready` are the boards whose process stands ready or acts; `has_failed` where every board that could perform
/// it has given it up.
fn state(post: &Post, ready: BoardSet, has_failed: bool) -> DutyState {
    let vacant = if has_failed { DutyState::Failed } else { DutyState::Unassigned };
    match post {
        Post::Exclusive(chair) => match chair.state {
            State::Unknown => DutyState::Unknown,
            State::Vacant => vacant,
            State::Recalled(_) => DutyState::Leaving,
            State::Given(given) if ready.contains(given.board) => DutyState::Running,
            State::Given(_) => DutyState::Starting,
        },
        Post::Available { active, .. } if active.is_empty() => vacant,
        Post::Available { active, .. } if !active.difference(ready).is_empty() => DutyState::Starting,
        Post::Available { wanted, active } if active.len() < usize::from(*wanted) => DutyState::Short,
        Post::Available { .. } => DutyState::Running,
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

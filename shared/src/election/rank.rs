//! Owns who had better lead: the order of candidates, and when a leader gives way to a fitter board. Must never be a
//! reason to refuse a vote.

use alloc::collections::BTreeMap;
use core::cmp::Reverse;

use crate::ids::{BoardId, BoardSet};
use crate::limits::{GIVE_WAY_RANK, GIVE_WAY_UPLINK};
use crate::time::Instant;
use crate::wire::heartbeat::Fitness;

/// How fit boards are, by their heartbeats.
pub(super) type Fitnesses = BTreeMap<BoardId, Fitness>;

/// A board of which nothing was heard yet is as fit as any.
fn fitness(known: &Fitnesses, board: BoardId) -> Fitness {
    known.get(&board).copied().unwrap_or_default()
}

/// How many of `boards` are fitter than `me`; of equals the lower number is.
pub(super) fn rank(known: &Fitnesses, boards: BoardSet, me: BoardId) -> usize {
    let key = |board| (Reverse(fitness(known, board)), board);
    boards.iter().filter(|board| *board != me && key(*board) < key(me)).count()
}

/// The fittest of `boards`.
pub(super) fn fittest(known: &Fitnesses, boards: BoardSet) -> Option<BoardId> {
    boards
        .iter()
        .filter(|board| fitness(known, *board).eligible)
        .min_by_key(|board| (Reverse(fitness(known, *board)), *board))
}

/// A board that would lead better than the leader, since when, and from when on the leader gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rival {
    pub(super) board: BoardId,
    by_uplink: bool,
    pub(super) at: Instant,
}

/// The rival of a leader that is `own` fit; `before` goes on counting where it is still one.
pub(super) fn rival(
    known: &Fitnesses,
    others: BoardSet,
    own: Fitness,
    before: Option<Rival>,
    now: Instant,
) -> Option<Rival> {
    let board = fittest(known, others)?;
    let other = fitness(known, board);
    let by_uplink = other.uplink && !own.uplink;
    let is_fitter = by_uplink || other.health > own.health || other.priority > own.priority;
    if !other.steady || (own.eligible && (!is_fitter || other < own)) {
        return None;
    }
    let patience = if by_uplink { GIVE_WAY_UPLINK } else { GIVE_WAY_RANK };
    let at = if own.eligible { now + patience } else { now };
    let goes_on = before.filter(|before| before.board == board && before.by_uplink == by_uplink);
    Some(Rival { board, by_uplink, at: goes_on.map_or(at, |before| before.at.min(at)) })
}

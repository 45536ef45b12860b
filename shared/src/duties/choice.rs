//! Owns which board is the best for a duty: well rather than impaired, warm rather than cold, far from the duty's other
//! performers, with room. Must not keep anything.

use alloc::collections::BTreeMap;

use crate::ids::{BoardId, BoardSet, DutyId};
use crate::limits::{DUTY_LOAD_HIGH, DUTY_LOAD_LOW};

use super::tenure::Account;

/// What the choice is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) accounts: &'a BTreeMap<BoardId, Account>,
    /// Boards that may be chosen at all.
    pub(super) candidates: BoardSet,
    /// Boards that are steady and not impaired.
    pub(super) fit: BoardSet,
    /// The leader.
    pub(super) leader: BoardId,
}

/// Steps of load that count as different: less is noise, and noise moves nothing.
const LOAD_STEP: u16 = 250;

impl Field<'_> {
    /// The best board for `duty` among the candidates but `not`, next to `others` that perform it too. `assigned` counts
    /// what each board has been given already.
    pub(super) fn best(
        &self,
        duty: DutyId,
        not: BoardSet,
        others: BoardSet,
        assigned: &BTreeMap<BoardId, u16>,
    ) -> Option<BoardId> {
        let able = |board: &BoardId| !not.contains(*board) && self.can(*board, duty);
        let key = |board: &BoardId| self.key(*board, duty, others, assigned);
        self.candidates.iter().filter(able).min_by_key(key)
    }

    /// Whether `board` could perform `duty`.
    pub(super) fn can(&self, board: BoardId, duty: DutyId) -> bool {
        self.accounts.get(&board).is_some_and(|account| account.can & bit(duty) != 0)
    }

    /// The smaller, the better.
    pub(super) fn key(
        &self,
        board: BoardId,
        duty: DutyId,
        others: BoardSet,
        assigned: &BTreeMap<BoardId, u16>,
    ) -> (bool, bool, usize, u16, bool, BoardId) {
        let account = self.accounts.get(&board);
        let domain = |board: BoardId| self.accounts.get(&board).map(|account| account.domain);
        let is_near = |other: &BoardId| *other != board && domain(*other) == domain(board);
        let load = account.map_or(0, |account| account.load / LOAD_STEP);
        (
            !self.fit.contains(board),
            account.is_none_or(|account| account.ready & bit(duty) == 0),
            others.iter().filter(is_near).count(),
            load + assigned.get(&board).copied().unwrap_or(0),
            board != self.leader,
            board,
        )
    }

    /// Whether `holder` is overloaded while another candidate for `duty` has room.
    pub(super) fn is_overloaded(&self, holder: BoardId, duty: DutyId) -> bool {
        let load = |board: BoardId| self.accounts.get(&board).map_or(0, |account| account.load);
        let has_room = |board: BoardId| board != holder && self.can(board, duty) && load(board) <= DUTY_LOAD_LOW;
        load(holder) >= DUTY_LOAD_HIGH
            && self.candidates.iter().any(|board| has_room(board) && self.fit.contains(board))
    }

    /// Whether `holder` is impaired or unsteady while another candidate for `duty` is well.
    pub(super) fn is_unfit(&self, holder: BoardId, duty: DutyId) -> bool {
        let is_well = |board: BoardId| board != holder && self.can(board, duty) && self.fit.contains(board);
        !self.fit.contains(holder) && self.candidates.iter().any(is_well)
    }
}

/// The bit that stands for `duty` in a word of duties.
pub(super) const fn bit(duty: DutyId) -> u32 {
    1 << duty.get()
}

//! Who acts under which duty, in true time, and the promise over it: never two under an exclusive one, and tokens that
//! rise from holder to holder. Knows what the processes did, not what the boards believe.

use std::collections::BTreeMap;

use shared::ids::{BoardId, DutyId, Fencing};

/// The referee.
#[derive(Clone, Debug, Default)]
pub(crate) struct Referee {
    acting: BTreeMap<DutyId, BTreeMap<BoardId, Fencing>>,
    /// Newest token of each exclusive duty, and who acted under it.
    newest: BTreeMap<DutyId, (Fencing, BoardId)>,
    /// What each exclusive duty's actuator has seen at most: it refuses lower ones.
    actuators: BTreeMap<DutyId, Fencing>,
}

impl Referee {
    /// Promise 4: a process begins to act on `board`.
    pub(crate) fn begins(
        &mut self,
        duty: DutyId,
        board: BoardId,
        token: Fencing,
        is_exclusive: bool,
    ) -> Result<(), String> {
        let place = duty.get();
        let acting = self.acting.entry(duty).or_default();
        acting.insert(board, token);
        if !is_exclusive {
            return Ok(());
        }
        if let Some((other, held)) = acting.iter().find(|(other, _)| **other != board) {
            return Err(format!("{board} acts under duty {place} with token {token} while {other} acts with {held}"));
        }
        match self.newest.insert(duty, (token, board)) {
            Some((before, holder)) if token < before || (token == before && holder != board) => {
                Err(format!("{board} acts under duty {place} with token {token}, after {holder} with {before}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// It acts no more.
    pub(crate) fn ends(&mut self, duty: DutyId, board: BoardId) {
        if let Some(acting) = self.acting.get_mut(&duty) {
            acting.remove(&board);
        }
    }

    /// A command reaches the actuator; false where it is refused as stale.
    pub(crate) fn command(&mut self, duty: DutyId, token: Fencing) -> bool {
        let highest = self.actuators.entry(duty).or_default();
        let fresh = token >= *highest;
        *highest = token.max(*highest);
        fresh
    }

    /// Boards on which it is acted under `duty`.
    pub(crate) fn acting(&self, duty: DutyId) -> impl Iterator<Item = BoardId> {
        self.acting.get(&duty).into_iter().flat_map(BTreeMap::keys).copied()
    }
}

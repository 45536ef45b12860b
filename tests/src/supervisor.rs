//! What happens beside a board's node: its supervisor says when it has ended, the transport notices what heartbeats do
//! not say, the shell looks at its machine, and a starved machine lets the node run now and then.

use std::time::Duration;

use shared::action::{Evidence, Health};
use shared::ids::BoardId;

use crate::board::Life;
use crate::boards::HEALTH_PERIOD;
use crate::clock::Moment;
use crate::happening::{Happening, Input};
use crate::world::World;

/// When the supervisor says it again: a datagram may be lost.
const AGAIN: [Duration; 2] = [Duration::from_millis(3), Duration::from_millis(9)];

impl World {
    /// The supervisor has seen the node of `board` end: it reaps, signs, and tells all others, three times.
    pub(crate) fn obituary(&mut self, board: BoardId) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        let after = host.dice.span(Duration::from_micros(500), Duration::from_millis(4));
        let (life, machine) = (host.nonce, host.machine);
        self.put_in(after, Happening::Obituary { board, life, machine, times: 0 });
    }

    pub(crate) fn obituary_leaves(&mut self, board: BoardId, life: u64, machine: u64, times: u8) {
        if self.boards[&board].machine != machine {
            return;
        }
        if times == 0 {
            self.tally.obituaries += 1;
            self.story.tell(self.now, board, || "its supervisor tells of the end");
        }
        let others: Vec<BoardId> = self.boards.keys().copied().filter(|other| *other != board).collect();
        for to in others {
            for delay in self
                .mesh
                .path(board, to)
                .datagram(self.now, &mut self.net_dice)
                .into_iter()
                .flatten()
            {
                self.put_in(delay, Happening::ObituaryArrives { to, board, life });
            }
        }
        self.obituary_to_witness(board, life);
        if let Some(after) = AGAIN.get(usize::from(times)) {
            self.put_in(*after, Happening::Obituary { board, life, machine, times: times + 1 });
        }
    }

    pub(crate) fn obituary_arrives(&mut self, to: BoardId, board: BoardId, life: u64) {
        if !self.boards[&to].is_drowned() {
            self.input(to, Input::Obituary { board, life });
        }
    }

    /// `board` has started again: who still held a connection to its earlier life is told by its stateless reset.
    pub(crate) fn restart_is_noticed(&mut self, board: BoardId) {
        if self.boards[&board].life > Life(1) {
            self.evidence_of(board, Evidence::Restarted, Duration::from_millis(60));
        }
    }

    /// The transport of every other board that `board` is not cut off from notices something about it.
    pub(crate) fn evidence_of(&mut self, board: BoardId, evidence: Evidence, within: Duration) {
        let others: Vec<BoardId> = self.boards.keys().copied().filter(|other| *other != board).collect();
        for to in others {
            if self.mesh.path(board, to).is_open() && self.net_dice.below(8) != 0 {
                let after = self.net_dice.span(Duration::from_micros(200), within);
                self.put_in(after, Happening::Evidence { to, board, evidence });
            }
        }
    }

    /// The shell says how its machine is.
    pub(crate) fn health(&mut self, board: BoardId, life: Life) {
        let starved = self.boards[&board].starved_until > self.now;
        if self.boards[&board].life != life || self.boards[&board].process.is_none() {
            return;
        }
        let health = Health {
            level: if starved { 1 } else { 3 },
            load_permille: if starved { 1_000 } else { 200 },
            lateness_micros: if starved { 60_000 } else { 300 },
        };
        self.input(board, Input::Health(health));
        self.put_in(HEALTH_PERIOD, Happening::Health { board, life });
    }

    /// The node of `board` gets the processor now and then alone, until `until`.
    pub fn starve(&mut self, board: BoardId, until: Moment) {
        let now = self.now;
        let Some(host) = self.boards.get_mut(&board) else { return };
        if now >= until || host.process.is_none() {
            return;
        }
        host.starved_until = host.starved_until.max(until);
        let life = host.life;
        self.story.tell(now, board, || format!("is starved until {until}"));
        self.starve_on(board, life, until);
    }

    pub(crate) fn starve_on(&mut self, board: BoardId, life: Life, until: Moment) {
        if self.now >= until.min(self.busy_until) || self.boards[&board].life != life {
            return;
        }
        let Some(host) = self.boards.get_mut(&board) else { return };
        let most = if host.dice.below(6) == 0 { 400 } else { 60 };
        let still = host.dice.span(Duration::from_millis(5), Duration::from_millis(most));
        let runs = host.dice.span(Duration::from_micros(200), Duration::from_millis(8));
        self.freeze(board, still);
        self.put_in(still + runs, Happening::Starve { board, life, until });
    }
}

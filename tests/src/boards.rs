//! What befalls a board as a machine: it boots, crashes, loses power, stands still, stops, or is lost for ever.

use std::time::Duration;

use shared::ids::{BoardId, Epoch};
use shared::journal::recover::Recovery;
use shared::limits::TERMS_RESERVED;
use shared::node::{Node, Start};

use crate::board::{Life, Process};
use crate::clock::Moment;
use crate::happening::Happening;
use crate::mutant::Mutant;
use crate::region::Stores;
use crate::world::World;

/// Between two looks of the shell at its machine.
pub(crate) const HEALTH_PERIOD: Duration = Duration::from_secs(1);

impl World {
    /// Starts the process of `board`: recovery, state file, node. Nothing happens where one runs or the board is lost.
    pub fn boot(&mut self, board: BoardId) {
        let (lies, now) = (self.settings.mutant, self.now);
        let host = self.boards.get_mut(&board).expect("the site has this board");
        if host.process.is_some() || host.lost {
            return;
        }
        if now < host.not_before {
            let (after, wait) = (host.life, host.not_before.since(now));
            return self.put_in(wait, Happening::Boot { board, after });
        }
        host.life = Life(host.life.0 + 1);
        let mut recovery = Recovery::new();
        host.disk.recover(lies, &mut recovery);
        let mut epoch = Epoch { boot: host.disk.boot + 1, nonce: host.dice.word() };
        if lies == Some(Mutant::EpochReused) {
            epoch = Epoch { boot: 1, nonce: u64::from(board.get()) };
        }
        host.disk.boot = epoch.boot;
        host.nonce = epoch.nonce;
        let mut memory = host.disk.memory;
        memory.term_ceiling += TERMS_RESERVED;
        if lies != Some(Mutant::CeilingForgotten) {
            host.disk.memory = memory;
        }
        // A new process counts time from an origin of its own.
        host.clock.shows = host.clock.shows.wrapping_add(host.dice.below(1_000_000)) % 1_000_000_000_000;
        let start = Start {
            epoch,
            memory,
            seed: host.dice.word(),
            recovered: recovery.finish(),
            restarts: host.restarts,
        };
        let node = Node::new(host.config.clone(), start, host.clock.local(now));
        host.process = Some(Process::new(node));
        let files = host.disk.files();
        self.story.weigh(now, epoch.nonce);
        self.story.tell(now, board, || format!("boots as {epoch}, {files} segments"));
        self.tally.boots += 1;
        self.drive(board, |node, now, out| node.handle_start(now, out));
        let life = self.boards[&board].life;
        self.put_in(HEALTH_PERIOD, Happening::Health { board, life });
        self.restart_is_noticed(board);
    }

    pub(crate) fn boot_due(&mut self, board: BoardId, after: Life) {
        if self
            .boards
            .get(&board)
            .is_some_and(|host| host.life == after && !host.kept_down)
        {
            self.boot(board);
        }
    }

    /// The process of `board` is gone at once (SIGKILL, a panic). What it wrote stays in the page cache. Its supervisor
    /// sees that, ends the processes of duties, and tells the others.
    pub fn crash(&mut self, board: BoardId) {
        let stopped = self.process(board).is_some_and(|process| process.stops);
        if self.process_ends(board) {
            self.obituary(board);
            if let Some(host) = self.boards.get_mut(&board).filter(|_| !stopped) {
                host.restarts += 1;
            }
        }
    }

    /// The process of `board` and its supervisor are gone at once: nobody tells the others.
    pub fn crash_unseen(&mut self, board: BoardId) {
        if let Some(host) = self.boards.get_mut(&board) {
            host.machine += 1;
            host.restarts = 0;
        }
        self.process_ends(board);
    }

    fn process_ends(&mut self, board: BoardId) -> bool {
        self.duties_end(board);
        let Some(host) = self.boards.get_mut(&board) else { return false };
        if host.process.take().is_none() {
            return false;
        }
        host.disk.lose_process(&mut host.dice);
        self.story.tell(self.now, board, || "process dies");
        self.story.weigh(self.now, u64::from(board.get()));
        self.tally.crashes += 1;
        self.links_lose_process(board);
        self.uplink_loses_process(board);
        self.publishers_lose_process(board);
        true
    }

    /// Asks the process of `board` to stop: it ends once it has nothing left to wait for, and starts again later.
    pub fn stop(&mut self, board: BoardId) {
        let Some(process) = self.process(board).filter(|process| !process.is_frozen()) else {
            return;
        };
        process.stops = true;
        self.story.tell(self.now, board, || "is asked to stop");
        self.drive(board, |node, now, out| node.handle_stop(now, out));
    }

    /// Keeps `board` from starting again until [`World::let_boot`] or the end of the faults.
    pub fn keep_down(&mut self, board: BoardId) {
        if let Some(host) = self.boards.get_mut(&board) {
            host.kept_down = true;
        }
    }

    /// Lets `board` start again, at once.
    pub fn let_boot(&mut self, board: BoardId) {
        if let Some(host) = self.boards.get_mut(&board) {
            host.kept_down = false;
        }
        self.boot(board);
    }

    /// Power of `board` is gone: what was not synced may be lost.
    pub fn cut_power(&mut self, board: BoardId) {
        self.crash_unseen(board);
        if let Some(host) = self.boards.get_mut(&board) {
            host.disk.lose_power(&mut host.dice);
            self.tally.power_cuts += 1;
            self.story.tell(self.now, board, || "loses power");
        }
    }

    /// The board is gone for ever, with its disk.
    pub fn destroy(&mut self, board: BoardId) {
        self.crash_unseen(board);
        if let Some(host) = self.boards.get_mut(&board) {
            host.lost = true;
            host.took_along.push(std::mem::take(&mut host.disk));
            self.tally.lost_boards += 1;
            self.story.tell(self.now, board, || "is lost for ever");
        }
        self.excuse_what_only(Some(board));
    }

    /// What was acknowledged visibly degraded and is left nowhere, or on `board` alone, which goes: it goes with it.
    pub(crate) fn excuse_what_only(&mut self, board: Option<BoardId>) {
        let (boards, stores) = (&self.boards, Stores::of(&self.region, self.standby.as_ref()));
        let elsewhere = |mark| boards.values().any(|host| Some(host.id) != board && host.disk.holds(mark));
        self.model.board_lost(|mark| elsewhere(mark) || stores.have(mark));
    }

    /// The supervisor, or the returning power, starts the board some time from now.
    pub fn boot_later(&mut self, board: BoardId) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        let after = host.life;
        let pause = host.dice.span(self.settings.restart.0, self.settings.restart.1);
        self.put_in(pause, Happening::Boot { board, after });
    }

    /// The process stops running while the world goes on.
    pub fn freeze(&mut self, board: BoardId, span: Duration) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        let life = host.life;
        let Some(process) = host.process.as_mut().filter(|process| !process.is_frozen()) else {
            return;
        };
        process.frozen = Some(std::collections::VecDeque::new());
        self.story.tell(self.now, board, || format!("stands still for {span:?}"));
        self.tally.pauses += 1;
        self.put_in(span, Happening::Thaw { board, life });
        if self.lies(Mutant::ObituaryOfTheLiving) {
            self.obituary(board);
        }
        self.suspect_links_of(board);
    }

    pub(crate) fn thaw(&mut self, board: BoardId, life: Life) {
        let Some(host) = self.boards.get_mut(&board).filter(|host| host.life == life) else {
            return;
        };
        let Some(process) = host.process.as_mut() else { return };
        let Some(waits) = process.frozen.take() else { return };
        process.wake = Moment::NEVER;
        self.story
            .tell(self.now, board, || format!("goes on, {} inputs waited", waits.len()));
        // All input is handled before any deadline is judged.
        for input in waits {
            self.input(board, input);
        }
        self.plan_wake(board);
        self.plan_serve(board);
    }
}

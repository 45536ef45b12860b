//! The moves of the model: which are possible, and what each does. Must not know bounds beyond counting them down.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Letter, Machine, Mind, NOW, RESERVED, Search, Site, Step};
use crate::action::Memory;
use crate::election::core::{Core, Heard};
use crate::election::rules::Rule;
use crate::election::voter::{Past, Voter};
use crate::election::{Life, Output};
use crate::ids::{BoardId, VoterId, VoterSet, Voters};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::election::{Acquire, ElectionMessage, Met};

impl Machine {
    pub(super) fn restart(&mut self, search: &Search) {
        self.boot += 1;
        let settings = search.settings(self.id);
        self.mind = match self.id.board() {
            Some(board) => {
                self.memory.term_ceiling += RESERVED;
                let life =
                    Life { boot: self.boot - self.before, nonce: self.boot.into(), memory: self.memory, seed: 0 };
                Mind::Board(Core::new(board, search.configured(), &life, settings, self.clock))
            }
            None => {
                // The first life's ceiling stands for one that was raised when the site first spoke.
                let floor = if self.boot == 1 + self.before {
                    0
                } else {
                    self.memory.term_ceiling
                };
                let may_have_granted = self.boot > 1 + self.before;
                let life = self.boot.into();
                let past = Past { memory: self.memory, floor, configured: Voters::default(), may_have_granted, life };
                Mind::Witness(Voter::new(None, &past, settings, self.clock))
            }
        };
    }
}

impl Machine {
    fn replace_disk(&mut self) {
        self.mind = Mind::Down;
        self.writing = None;
        self.memory = Memory { longest_micros: self.memory.longest_micros, ..Memory::default() };
        self.before = self.boot;
    }
}

impl Site {
    pub(super) fn steps(&self, search: &Search, steps: &mut Vec<Step>) {
        if self.fault.is_some() {
            return;
        }
        steps.extend((0..1 << self.machines.len()).map(Step::Tick));
        let arrive = self
            .net
            .iter()
            .map(|(from, to, letter)| Step::Deliver(*from, *to, letter.clone()));
        steps.extend(arrive);
        for (at, machine) in self.machines.iter().enumerate() {
            if machine.writing.is_some() {
                steps.push(Step::Write(at));
            }
            match &machine.mind {
                Mind::Down => {
                    steps.push(Step::Restart(at));
                    continue;
                }
                Mind::Witness(_) => {}
                Mind::Board(core) => self.steps_of_board(search, at, core, steps),
            }
            let is_remembered = |other: &Machine| other.id == machine.id || other.memory.joined;
            if self.left.disks > 0 && self.machines.iter().all(is_remembered) {
                steps.push(Step::Replace(at));
            }
            if self.left.crashes > 0 {
                steps.push(Step::Crash(at, false));
                if machine.writing.is_some() {
                    steps.push(Step::Crash(at, true));
                }
            }
        }
        if self.left.obituaries > 0 {
            steps.extend(self.ended.iter().map(|(board, life)| Step::Attest(*board, *life)));
        }
    }

    fn steps_of_board(&self, search: &Search, at: usize, core: &Core, steps: &mut Vec<Step>) {
        if core.pursuit.is_none() {
            if self.left.begins[at] > 0 {
                steps.push(Step::Begin(at));
            }
            return;
        }
        if core.lease.is_none() {
            steps.push(Step::GiveUp(at));
            return;
        }
        if self.left.renewals > 0 {
            steps.push(Step::Renew(at));
            steps.push(Step::Raise(at));
        }
        if self.left.releases > 0 {
            steps.push(Step::Release(at));
        }
        let others = self
            .machines
            .iter()
            .filter_map(|machine| machine.id.board())
            .filter(|board| *board != core.me);
        if self.left.hand_overs > 0 {
            steps.extend(others.map(|to| Step::HandOver(at, to)));
        }
        let witnesses = || core.voters().set.iter().filter(|voter| voter.board().is_none());
        if self.left.waives > 0 {
            steps.extend(witnesses().map(|witness| Step::Waive(at, witness)));
        }
        if self.left.sounds > 0 {
            steps.extend(witnesses().map(|witness| Step::Sound(at, witness)));
        }
        for (place, (board, set)) in search.wishes.iter().enumerate() {
            if *board == core.me && self.left.wishes & 1 << place != 0 {
                steps.push(Step::Wish(at, *set));
            }
        }
    }

    pub(super) fn take(&mut self, search: &Search, step: &Step) {
        match step {
            Step::Tick(fast) => self.tick(*fast),
            Step::Deliver(from, to, letter) => self.deliver(search, *from, *to, letter),
            Step::Restart(at) => self.machines[*at].restart(search),
            Step::Write(at) => {
                if let Some(memory) = self.machines[*at].writing.take() {
                    self.written(search, *at, memory);
                }
            }
            Step::Crash(at, is_written) => self.crash(*at, *is_written),
            Step::Replace(at) => {
                self.left.disks -= 1;
                self.machines[*at].replace_disk();
            }
            Step::Attest(board, life) => self.attest(*board, *life),
            Step::Begin(at) => {
                self.left.begins[*at] -= 1;
                self.on(search, *at, |core, now, out| {
                    if core.begin() {
                        core.request(core.voters().set, search.spans(), now, out);
                    }
                });
            }
            Step::Renew(at) => {
                self.left.renewals -= 1;
                self.on(search, *at, |core, now, out| {
                    let whom: VoterSet = core.voters().set.iter().chain(core.stated.set.iter()).collect();
                    core.request(whom, search.spans(), now, out);
                });
            }
            Step::Raise(at) => {
                self.left.renewals -= 1;
                self.on(search, *at, |core, now, out| {
                    if core.raise() {
                        core.request(core.voters().set, search.spans(), now, out);
                    }
                });
            }
            Step::GiveUp(at) => self.on(search, *at, |core, _, out| core.release(None, out)),
            Step::Release(at) => {
                self.left.releases -= 1;
                self.on(search, *at, |core, _, out| core.release(None, out));
                self.stopped(*at);
            }
            Step::HandOver(at, to) => {
                self.left.hand_overs -= 1;
                self.seen.hand_over = true;
                self.on(search, *at, |core, _, out| core.release(Some(*to), out));
                self.stopped(*at);
            }
            Step::Waive(at, witness) => {
                self.left.waives -= 1;
                self.on(search, *at, |core, _, out| {
                    core.waive(*witness, out);
                });
            }
            Step::Sound(at, witness) => {
                self.left.sounds -= 1;
                self.on(search, *at, |core, now, out| core.sound(*witness, search.spans(), now, out));
            }
            Step::Wish(at, set) => self.wish(search, *at, *set),
        }
    }

    fn attest(&mut self, board: BoardId, life: u64) {
        self.left.obituaries -= 1;
        self.ended.retain(|ended| *ended != (board, life));
        for machine in &self.machines {
            self.net.insert((board.into(), machine.id, Letter::Obituary { board, life }));
        }
    }

    fn wish(&mut self, search: &Search, at: usize, set: VoterSet) {
        let place = search.wishes.iter().position(|(_, wish)| *wish == set);
        self.left.wishes &= !(1 << place.expect("a wish of the search"));
        self.on(search, at, |core, now, out| {
            core.wish(set);
            core.decide(now, out);
        });
    }

    fn tick(&mut self, fast: u8) {
        for (at, machine) in self.machines.iter_mut().enumerate() {
            let now = NOW + Duration::from_micros(1 + u64::from(fast >> at & 1));
            match &mut machine.mind {
                Mind::Down => {}
                Mind::Witness(voter) => voter.rebase(now, NOW),
                Mind::Board(core) => {
                    core.expire(now, &mut Outbox::default());
                    core.rebase(now, NOW);
                }
            }
        }
    }

    /// Forgets letters that mean nothing to their receivers any more, and requests of those that do not want the answer:
    /// granted, they would only bind a vote that counts for nobody.
    pub(super) fn tidy(&mut self, search: &Search) {
        let machines = &self.machines;
        let find = |id: VoterId| machines.iter().find(|machine| machine.id == id);
        self.net.retain(|(from, to, letter)| {
            let wanted = match (letter, find(*from).map(|machine| &machine.mind)) {
                (Letter::Election(ElectionMessage::Acquire(acquire)), Some(Mind::Board(core))) => {
                    core.pursuit.as_ref().is_some_and(|pursuit| pursuit.term() == acquire.term)
                }
                (Letter::Election(ElectionMessage::Acquire(_)), Some(Mind::Down)) => false,
                _ => true,
            };
            let usable = match (find(*to).map(|machine| &machine.mind), letter) {
                (Some(Mind::Down), Letter::Election(_)) => true,
                (Some(Mind::Down) | None, _) => false,
                (Some(Mind::Board(core)), Letter::Election(message)) => core.can_use(*from, message),
                (Some(Mind::Witness(voter)), Letter::Election(message)) => voter.can_use(message),
                (Some(Mind::Board(core)), Letter::Obituary { board, life }) => !core.voter.knows_dead(*board, *life),
                (Some(Mind::Witness(voter)), Letter::Obituary { board, life }) => !voter.knows_dead(*board, *life),
            };
            // What means nothing to a voter any more may mean something to one that forgets.
            self.left.disks > 0 || (usable && (wanted || !search.wishes.is_empty()))
        });
    }

    fn crash(&mut self, at: usize, is_written: bool) {
        self.left.crashes -= 1;
        let machine = &mut self.machines[at];
        machine.mind = Mind::Down;
        if let Some(memory) = machine.writing.take().filter(|_| is_written) {
            machine.memory = memory;
        }
        if let Some(board) = machine.id.board() {
            self.ended.push((board, machine.boot.into()));
        }
    }

    /// S6: who gave up does not act.
    fn stopped(&mut self, at: usize) {
        let machine = &self.machines[at];
        if let Mind::Board(core) = &machine.mind
            && core.holds(machine.clock).is_some()
        {
            self.fault = Some("S6 a board acts after it gave up");
        }
    }

    fn on(&mut self, search: &Search, at: usize, act: impl FnOnce(&mut Core, Instant, &mut Outbox<Output>)) {
        let machine = &mut self.machines[at];
        let Mind::Board(core) = &mut machine.mind else { return };
        let mut out = Outbox::default();
        act(core, machine.clock, &mut out);
        self.drain(search, at, out);
    }

    fn drain(&mut self, search: &Search, at: usize, mut out: Outbox<Output>) {
        let from = self.machines[at].id;
        while let Some(output) = out.pop() {
            match output {
                Output::Tell { to, message } => self.post(from, to, message),
                Output::Remember(memory) => {
                    assert_eq!(self.machines[at].writing, None, "two writings at once");
                    if search.slow_disk {
                        self.machines[at].writing = Some(memory);
                    } else {
                        self.written(search, at, memory);
                    }
                }
                Output::Acquired { .. }
                | Output::Extended { .. }
                | Output::Lost { .. }
                | Output::LeaderSeen { .. }
                | Output::VotersChanged { .. } => {}
            }
        }
    }

    /// A denial says to the core no more than what was promised, who votes and who has met no leader: one that says none
    /// of it is not posted.
    fn post(&mut self, from: VoterId, to: VoterId, message: ElectionMessage) {
        let message = match message {
            ElectionMessage::Denied { term, promised, voters: None, met: Met::Leader, .. } if promised <= term => {
                return;
            }
            ElectionMessage::Denied { term, promised, voters, met, .. } => {
                ElectionMessage::Denied { term, attempt: 0, promised, remaining_micros: 0, voters, met }
            }
            // What is clear is for duties, and no rule of the election looks at it: one letter, not two.
            ElectionMessage::Granted { term, attempt, .. } => ElectionMessage::Granted { term, attempt, clear: false },
            other => other,
        };
        self.net.insert((from, to, Letter::Election(message)));
    }

    fn written(&mut self, search: &Search, at: usize, memory: crate::action::Memory) {
        let machine = &mut self.machines[at];
        machine.memory = memory;
        match &mut machine.mind {
            Mind::Down => {}
            Mind::Board(core) => {
                let mut out = Outbox::default();
                core.handle_remembered(memory, machine.clock, &mut out);
                self.drain(search, at, out);
            }
            Mind::Witness(voter) => {
                if let Some((to, message)) = voter.handle_remembered(memory) {
                    let from = machine.id;
                    self.post(from, to.into(), message);
                }
                self.witness_remembers(search, at);
            }
        }
    }

    fn witness_remembers(&mut self, search: &Search, at: usize) {
        let machine = &mut self.machines[at];
        let Mind::Witness(voter) = &mut machine.mind else { return };
        let Some(memory) = voter.remember(machine.clock) else { return };
        if search.slow_disk {
            machine.writing = Some(memory);
        } else {
            self.written(search, at, memory);
        }
    }

    fn deliver(&mut self, search: &Search, from: VoterId, to: VoterId, letter: &Letter) {
        let Some(at) = self.machines.iter().position(|machine| machine.id == to) else {
            return;
        };
        let before = self.machines[at].voter().cloned();
        let machine = &mut self.machines[at];
        let clock = machine.clock;
        match (&mut machine.mind, letter) {
            (Mind::Down, _) => {}
            (Mind::Board(core), Letter::Election(message)) => {
                let mut out = Outbox::default();
                core.handle_message(from, message, clock, &mut out);
                self.drain(search, at, out);
            }
            (Mind::Board(core), Letter::Obituary { board, life }) => {
                self.seen.obituary |= core.handle_obituary(*board, *life) != Heard::Nothing;
            }
            (Mind::Witness(voter), Letter::Obituary { board, life }) => {
                voter.handle_obituary(*board, *life);
            }
            (Mind::Witness(voter), Letter::Election(message)) => {
                if let Some(answer) = witness_answer(voter, message, clock) {
                    let sender: Option<BoardId> = from.board();
                    self.post(to, sender.expect("boards alone ask a witness").into(), answer);
                }
                self.witness_remembers(search, at);
            }
        }
        if let (Some(before), Letter::Election(ElectionMessage::Acquire(acquire))) = (before, letter) {
            self.judge_grant(at, &before, acquire);
        }
    }

    /// S2, S4 and S8: what a request may change at a voter.
    fn judge_grant(&mut self, at: usize, before: &Voter, acquire: &Acquire) {
        let machine = &self.machines[at];
        let now = machine.clock;
        let Some(after) = machine.voter() else { return };
        let (old, new) = (before.live_grant(now), after.live_grant(now));
        let is_changed = old != new;
        let other = old.filter(|(term, _)| term.board() != acquire.term.board());
        if is_changed && before.abstains_until(now).is_some() {
            self.fault = Some("S4 a grant in abstention");
        } else if is_changed && other.is_some() && acquire.released.is_none() {
            self.fault = Some("S2 a second grant beside a live one");
        } else if !is_changed && new.is_none() && before.promised() != after.promised() && before.is_joined() {
            self.fault = Some("S8 a promise without a grant");
        }
    }

    /// S3 over all steps, and what has happened.
    pub(super) fn judge(&mut self) {
        for (_, term) in self.holders() {
            if term < self.last {
                self.fault = Some("S3 a holder under a lower term than the one before");
            }
            if term > self.last {
                let is_other = term.board() != self.last.board();
                self.seen.leaders = (self.seen.leaders + u8::from(is_other)).min(2);
                self.last = term;
            }
        }
        for machine in &self.machines {
            if let Mind::Board(core) = &machine.mind {
                core.check();
                self.seen.changed |= core.lease.is_some() && core.voters().version > 1 && {
                    core.change
                        .is_some_and(|change| change.complete && change.decision.version & 0xff > 1)
                };
                let is_kept = core.settings.rules.keep(Rule::StopThenWaive);
                self.seen.waived |= is_kept && core.pursuit.as_ref().is_some_and(|pursuit| pursuit.has_waived());
            }
        }
    }
}

fn witness_answer(voter: &mut Voter, message: &ElectionMessage, now: Instant) -> Option<ElectionMessage> {
    match message {
        ElectionMessage::Acquire(acquire) => {
            let verdict = voter.handle_acquire(acquire, now);
            Some(verdict.message(acquire))
        }
        ElectionMessage::Propose { term, voters } => voter.handle_propose(*term, *voters, now),
        ElectionMessage::Release { term } => {
            voter.handle_release(*term);
            None
        }
        ElectionMessage::Waive { term, attempt } => {
            voter.handle_waive(*term, *attempt);
            None
        }
        ElectionMessage::Granted { .. }
        | ElectionMessage::Denied { .. }
        | ElectionMessage::HandOver { .. }
        | ElectionMessage::Stored { .. } => None,
    }
}

//! The processes of users' duties on the boards, and the supervisors that start, tell and kill them: who acts, in true
//! time. A supervisor outlives its node and is a process of its own: while a node stands still, its dead-man runs.
//!
//! The processes are no help: one acts from the moment it is told to until it has said that it rests, has exited, or is
//! killed, and looks at no clock. What keeps it within its lease is the supervisor's dead-man alone.

use std::time::Duration;

use shared::action::{DutyOrder, DutyReport};
use shared::config::DutyMode;
use shared::ids::{BoardId, DutyId, Fencing};
use shared::time::Instant;

use crate::board::Life;
use crate::clock::Moment;
use crate::dice::Dice;
use crate::happening::{Happening, Input};
use crate::mutant::Mutant;
use crate::world::World;

/// The dead-man strikes so long before the end of a lease: a timer is late, and a kill takes its time.
const GUARD: Duration = Duration::from_millis(3);
/// Between node and supervisor, and back.
const PIPE: Duration = Duration::from_micros(120);

/// What a process is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// There is none.
    Nothing,
    Starting,
    StandsBy,
    Acts(Fencing),
}

/// A board's part in one duty, as its supervisor has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worker {
    pub(crate) at: At,
    order: DutyOrder,
    /// Until when the process may act, by the board's clock.
    until: Instant,
    /// Counts what the process is told: answers to earlier words are void.
    told: u64,
    /// When the first dead-man on the agenda looks.
    guarded: Option<Moment>,
    /// A lie: it lives on for a while after it was killed.
    outlives: bool,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            at: At::Nothing,
            order: DutyOrder::End,
            until: Instant::ZERO,
            told: 0,
            guarded: None,
            outlives: false,
        }
    }
}

/// What happens to a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DutyStep {
    /// The node's order reaches the supervisor.
    Order(DutyOrder),
    /// It has started, or come to rest, as it was told.
    Ready { told: u64 },
    /// It has exited, as it was told.
    Exits { told: u64 },
    /// The supervisor looks whether its lease has ended.
    DeadMan,
    /// What the supervisor says reaches the node.
    Report { life: Life, report: DutyReport },
}

impl World {
    /// The node orders something; its supervisor hears of it in a moment.
    pub(crate) fn order_duty(&mut self, board: BoardId, duty: DutyId, order: DutyOrder) {
        self.put_in(PIPE, Happening::Duty { board, duty, step: DutyStep::Order(order) });
    }

    pub(crate) fn duty_step(&mut self, board: BoardId, duty: DutyId, step: DutyStep) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        match step {
            DutyStep::Report { life, report } => {
                if host.life == life {
                    self.input(board, Input::Duty { duty, report });
                }
                return;
            }
            DutyStep::Order(_) | DutyStep::Ready { .. } | DutyStep::Exits { .. } | DutyStep::DeadMan => {}
        }
        if host.process.is_none() {
            // The supervisor has ended everything with its node.
            return;
        }
        let worker = host.workers.entry(duty).or_default();
        match step {
            DutyStep::Order(order) => {
                let again = std::mem::discriminant(&order) == std::mem::discriminant(&worker.order);
                worker.order = order;
                worker.told += u64::from(!again);
                // What a process is told twice it does once.
                if !again || is_act(order) || worker.at == At::Nothing {
                    self.follow(board, duty);
                }
            }
            DutyStep::Ready { told }
                if worker.at == At::Starting || (told == worker.told && worker.order == DutyOrder::StandBy) =>
            {
                self.becomes(board, duty, At::StandsBy);
                self.follow(board, duty);
            }
            DutyStep::Exits { told } if told == worker.told && !is_act(worker.order) => {
                self.becomes(board, duty, At::Nothing);
                self.follow(board, duty);
            }
            DutyStep::DeadMan => self.dead_man(board, duty),
            DutyStep::Ready { .. } | DutyStep::Exits { .. } | DutyStep::Report { .. } => {}
        }
    }

    /// The supervisor does what is ordered, as far as the process is.
    fn follow(&mut self, board: BoardId, duty: DutyId) {
        let now = self.now;
        let Some(host) = self.boards.get_mut(&board) else { return };
        let standby = host
            .config
            .duties
            .get(usize::from(duty.get()))
            .is_some_and(|config| config.standby);
        let local = host.clock.local(now);
        let Some(worker) = host.workers.get_mut(&duty) else { return };
        let told = worker.told;
        let (at, order) = (worker.at, worker.order);
        match (order, at) {
            (DutyOrder::Act { token, until }, At::StandsBy) if until > local + GUARD => {
                worker.until = until;
                self.becomes(board, duty, At::Acts(token));
            }
            (DutyOrder::Act { token, until }, At::Acts(before)) => {
                if token != before && until <= local + GUARD {
                    return;
                }
                worker.until = if token == before { worker.until.max(until) } else { until };
                if token != before {
                    self.becomes(board, duty, At::Acts(token));
                }
            }
            (DutyOrder::Act { until, .. }, At::Nothing) if until > local + GUARD => self.start_duty(board, duty),
            (DutyOrder::StandBy, At::Nothing) if standby => self.start_duty(board, duty),
            (DutyOrder::StandBy, At::Acts(_)) if standby => {
                let takes = obeys(&mut host.dice);
                self.put_in(takes, Happening::Duty { board, duty, step: DutyStep::Ready { told } });
            }
            (DutyOrder::StandBy, At::StandsBy) if standby => self.report(board, duty, DutyReport::StandsBy),
            (DutyOrder::End | DutyOrder::StandBy, At::Nothing) => {
                self.report(board, duty, DutyReport::Ended { failed: false });
            }
            (DutyOrder::End | DutyOrder::StandBy, At::StandsBy | At::Acts(_)) => {
                let takes = obeys(&mut host.dice);
                self.put_in(takes, Happening::Duty { board, duty, step: DutyStep::Exits { told } });
            }
            (_, At::Starting) | (DutyOrder::Act { .. }, At::Nothing | At::StandsBy) => {}
        }
    }

    fn start_duty(&mut self, board: BoardId, duty: DutyId) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        let takes = host.dice.span(Duration::from_millis(1), Duration::from_millis(200));
        let told = host.workers.get(&duty).map_or(0, |worker| worker.told);
        self.becomes(board, duty, At::Starting);
        self.put_in(takes, Happening::Duty { board, duty, step: DutyStep::Ready { told } });
    }

    /// The process comes to be at `at`; the referee and the node are told.
    fn becomes(&mut self, board: BoardId, duty: DutyId, at: At) {
        let Some(worker) = self.boards.get_mut(&board).and_then(|host| host.workers.get_mut(&duty)) else {
            return;
        };
        let before = std::mem::replace(&mut worker.at, at);
        if before == at {
            return;
        }
        let place = usize::from(duty.get());
        self.story
            .tell(self.now, board, || format!("duty {place}: {before:?} becomes {at:?}"));
        self.story.weigh(self.now, u64::from(board.get()) << 8 | u64::from(duty.get()));
        let is_exclusive = self.is_exclusive(duty);
        if let At::Acts(token) = before {
            self.referee.ends(duty, board);
            self.command_leaves(duty, token, Duration::from_millis(300));
        }
        let report = match at {
            At::Nothing => DutyReport::Ended { failed: false },
            At::Starting => DutyReport::Starting,
            At::StandsBy => DutyReport::StandsBy,
            At::Acts(token) => {
                self.tally.duties_begun += 1;
                if let Err(what) = self.referee.begins(duty, board, token, is_exclusive) {
                    self.broken(what);
                }
                self.command_leaves(duty, token, Duration::from_millis(20));
                self.guard(board, duty);
                DutyReport::Acts { token }
            }
        };
        self.report(board, duty, report);
    }

    /// Boards on which a process acts under the duty at `place`, in true time.
    pub fn acting(&self, place: u8) -> Vec<BoardId> {
        DutyId::new(place).map_or_else(Vec::new, |duty| self.referee.acting(duty).collect())
    }

    fn is_exclusive(&self, duty: DutyId) -> bool {
        let config = self.settings.duties.get(usize::from(duty.get()));
        config.is_some_and(|config| config.mode == DutyMode::Exclusive)
    }

    /// Something that the process did reaches what it acts upon, sooner or later.
    fn command_leaves(&mut self, duty: DutyId, token: Fencing, most: Duration) {
        if self.is_exclusive(duty) {
            let after = self.net_dice.span(Duration::from_micros(100), most);
            self.put_in(after, Happening::Command { duty, token });
        }
    }

    pub(crate) fn command_arrives(&mut self, duty: DutyId, token: Fencing) {
        self.tally.stale_commands += u64::from(!self.referee.command(duty, token));
    }

    fn report(&mut self, board: BoardId, duty: DutyId, report: DutyReport) {
        let life = self.boards.get(&board).map_or_else(Life::default, |host| host.life);
        self.put_in(PIPE, Happening::Duty { board, duty, step: DutyStep::Report { life, report } });
    }

    /// Sees to it that the dead-man looks in time.
    fn guard(&mut self, board: BoardId, duty: DutyId) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        let late = Duration::from_micros(host.dice.below(500));
        let Some(worker) = host.workers.get_mut(&duty) else { return };
        let due = host.clock.moment(worker.until);
        // A right under a new token may end sooner than the one before.
        let at = due.before(GUARD).max(self.now) + late;
        if due == Moment::NEVER || worker.guarded.is_some_and(|guarded| guarded <= at) {
            return;
        }
        worker.guarded = Some(at);
        self.agenda.put(at, Happening::Duty { board, duty, step: DutyStep::DeadMan });
    }

    fn dead_man(&mut self, board: BoardId, duty: DutyId) {
        let sleeps = self.lies(Mutant::DeadManSleeps);
        let Some(host) = self.boards.get_mut(&board) else { return };
        let local = host.clock.local(self.now);
        let Some(worker) = host.workers.get_mut(&duty) else { return };
        worker.guarded = worker.guarded.filter(|guarded| *guarded > self.now);
        if !matches!(worker.at, At::Acts(_)) {
            return;
        }
        if local + GUARD < worker.until {
            self.guard(board, duty);
            return;
        }
        if sleeps {
            return;
        }
        if self.settings.mutant == Some(Mutant::ActsBeyondLease) && !worker.outlives {
            worker.outlives = true;
            worker.guarded = Some(self.now + Duration::from_millis(400));
            let step = DutyStep::DeadMan;
            self.put_in(Duration::from_millis(400), Happening::Duty { board, duty, step });
            return;
        }
        worker.outlives = false;
        self.tally.dead_man_kills += 1;
        self.becomes(board, duty, At::Nothing);
        self.follow(board, duty);
    }

    /// The supervisor kills and reaps every process of a duty, or they die with it.
    pub(crate) fn duties_end(&mut self, board: BoardId) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        for (duty, worker) in std::mem::take(&mut host.workers) {
            if let At::Acts(token) = worker.at {
                self.referee.ends(duty, board);
                self.command_leaves(duty, token, Duration::from_millis(300));
            }
        }
    }

    /// The process of one duty on `board` dies; the supervisor starts it again.
    pub(crate) fn duty_dies(&mut self, board: BoardId, dice: &mut Dice) {
        let Some(host) = self.boards.get_mut(&board) else { return };
        let running = host.workers.iter().filter(|(_, worker)| worker.at != At::Nothing);
        let running: Vec<DutyId> = running.map(|(duty, _)| *duty).collect();
        if let Some(duty) = dice.pick(&running) {
            self.becomes(board, duty, At::Nothing);
            self.follow(board, duty);
        }
    }
}

const fn is_act(order: DutyOrder) -> bool {
    matches!(order, DutyOrder::Act { .. })
}

/// How long a process takes to do as it is told: mostly soon, sometimes too late.
fn obeys(dice: &mut Dice) -> Duration {
    let most = if dice.below(8) == 0 { 1_000 } else { 15 };
    dice.span(Duration::from_micros(200), Duration::from_millis(most))
}

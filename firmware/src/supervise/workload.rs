//! Owns the process of one duty during one life of the node: starts it, tells it what it may do, sees to it that it does
//! not act past the end of its lease, whatever the node or the process does, and reports. Must not decide what is ordered.
//!
//! ```text
//!             started, ready            active TOKEN LEFT_MS END_MS   standby N, not confirmed
//!   (none) ───────────────► standing ───────────────────────► acting ─────────────────────────► resting
//!     ▲                        ▲                                                                 │   │
//!     │ gone                   └──────────────── X_ROADSTEAD=standby N ──────────────────────────┘   │
//!   stopping ◄── stop, SIGTERM ── (any)              killed: KILL_BEFORE the end of the lease ◄──────┘
//! ```
//!
//! A process that cannot confirm (`notify = false`) is stopped instead of told to stand by.

use std::collections::VecDeque;
use std::time::Duration;

use link::clock;
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use shared::action::{DutyOrder, DutyReport};
use shared::ids::Fencing;
use shared::time::Instant;
use tokio::sync::{mpsc, watch};

use super::channel::Report;
use super::process::{Place, Process, ProcessEvent, Said};
use crate::config::DutyProcess;

/// A process is told to stand by so long before its lease ends, if that is not extended: time to finish what it does.
const STAND_BY_BEFORE: Duration = Duration::from_millis(50);
/// A process that may still be acting is killed so long before its lease ends: this process may be woken late on a busy
/// machine (12 ms were seen at six times its load), and what is killed takes a moment to be gone.
const KILL_BEFORE: Duration = Duration::from_millis(20);
/// Wait before the first restart, doubled with each within the budget's time.
const RESTART_MIN: Duration = Duration::from_millis(20);
/// Longest wait before a restart.
const RESTART_MAX: Duration = Duration::from_secs(5);

/// What an order means now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Warm,
    Acting(Fencing, Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Standing,
    Acting(Fencing),
    /// It was told to stand by, in the line of this number, and is to have confirmed it by then.
    Resting(Fencing, u64, Instant),
    /// It was told to stop, and is to be gone by then.
    Stopping(Instant),
}

#[derive(Debug)]
struct Running {
    process: Process,
    phase: Phase,
    started: Instant,
    /// Its last sign of life.
    alive: Instant,
    /// The token and the end of the lease that it may be acting under.
    may_act: Option<(Fencing, Instant)>,
    /// The lease that it was last told of.
    told: Option<(Fencing, Instant)>,
}

/// One duty's process.
#[derive(Debug)]
pub(super) struct Workload {
    duty: DutyProcess,
    place: Place,
    seq: u64,
    order: DutyOrder,
    running: Option<Running>,
    /// Counts the lines that tell it to stand by.
    rests: u64,
    restarts: VecDeque<Instant>,
    start_after: Instant,
    failed_until: Option<Instant>,
    reported: Option<(u64, DutyReport)>,
}

impl Workload {
    pub(super) const fn new(duty: DutyProcess, place: Place) -> Self {
        Self {
            duty,
            place,
            seq: 0,
            order: DutyOrder::End,
            running: None,
            rests: 0,
            restarts: VecDeque::new(),
            start_after: Instant::ZERO,
            failed_until: None,
            reported: None,
        }
    }

    /// Runs until nobody gives orders any more; then ends the process, and returns once it is gone.
    pub(super) async fn run(
        mut self,
        mut orders: watch::Receiver<Option<(u64, DutyOrder)>>,
        reports: mpsc::Sender<Report>,
    ) {
        loop {
            self.advance(clock::now()).await;
            self.report(&reports).await;
            let nap = self.next_at().since(clock::now()).min(clock::NAP_MAX);
            tokio::select! {
                biased;
                changed = orders.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    if let Some((seq, order)) = *orders.borrow_and_update() {
                        (self.seq, self.order) = (seq, order);
                    }
                }
                event = event(&mut self.running) => self.handle(event),
                () = tokio::time::sleep(nap) => {}
            }
        }
        if let Some(running) = self.running.take() {
            let _ = running.process.kill().await;
        }
    }

    fn wanted(&self, now: Instant) -> Wanted {
        let rest = if self.duty.standby { Wanted::Warm } else { Wanted::Nothing };
        match self.order {
            DutyOrder::End => Wanted::Nothing,
            DutyOrder::StandBy => rest,
            DutyOrder::Act { token, until } if now + STAND_BY_BEFORE < until => Wanted::Acting(token, until),
            DutyOrder::Act { .. } => rest,
        }
    }

    /// Brings the process nearer to what is wanted.
    async fn advance(&mut self, now: Instant) {
        if self.is_overdue(now)
            && let Some(running) = self.running.take()
        {
            let was_asked = matches!(running.phase, Phase::Resting(..) | Phase::Stopping(_));
            tracing::warn!(duty = %self.duty.name, phase = ?running.phase, "a process did not do as it was told in time; it is killed");
            let _ = running.process.kill().await;
            if !was_asked {
                self.count_restart(now);
            }
        }
        if self.failed_until.is_some_and(|until| now >= until) {
            self.failed_until = None;
            self.restarts.clear();
        }
        let wanted = self.wanted(now);
        if self.running.is_none() {
            self.start(wanted, now);
        }
        let can_confirm = self.duty.notify;
        let stop_within = self.duty.stop_within;
        let Some(running) = &mut self.running else { return };
        match (running.phase, wanted) {
            // One that acts from its start on is told of its lease before it is ready.
            (Phase::Starting, Wanted::Acting(token, until)) if running.may_act.is_some() => {
                running.activate(token, until);
                running.phase = Phase::Starting;
            }
            (Phase::Stopping(_) | Phase::Starting, Wanted::Acting(..) | Wanted::Warm)
            | (Phase::Stopping(_), Wanted::Nothing)
            | (Phase::Resting(..) | Phase::Standing, Wanted::Warm) => {}
            (Phase::Standing | Phase::Acting(_) | Phase::Resting(..), Wanted::Acting(token, until)) => {
                running.activate(token, until);
            }
            (Phase::Acting(token), Wanted::Warm) if can_confirm => {
                self.rests += 1;
                running.phase = Phase::Resting(token, self.rests, now + stop_within);
                running.told = None;
                running.process.tell(&format!("standby {}", self.rests));
            }
            (Phase::Acting(_), Wanted::Warm)
            | (Phase::Starting | Phase::Standing | Phase::Acting(_) | Phase::Resting(..), Wanted::Nothing) => {
                running.stop(now + stop_within)
            }
        }
    }

    /// Whether the process has to be killed now.
    fn is_overdue(&self, now: Instant) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| now >= running.killed_at(&self.duty))
    }

    fn start(&mut self, wanted: Wanted, now: Instant) {
        let lease = match wanted {
            Wanted::Nothing => return,
            Wanted::Warm => None,
            Wanted::Acting(token, until) if !self.duty.standby => Some((token, until)),
            Wanted::Acting(..) => None,
        };
        if self.failed_until.is_some() || now < self.start_after {
            return;
        }
        match Process::start(&self.duty, &self.place, lease.map(|(token, _)| token)) {
            Ok(process) => {
                tracing::info!(duty = %self.duty.name, token = ?lease.map(|(token, _)| token.token()), "a process is started");
                let mut running = Running {
                    process,
                    phase: if self.duty.notify { Phase::Starting } else { Phase::Standing },
                    started: now,
                    alive: now,
                    may_act: lease,
                    told: None,
                };
                if let Some((token, until)) = lease {
                    running.activate(token, until);
                    if self.duty.notify {
                        running.phase = Phase::Starting;
                    }
                }
                self.running = Some(running);
            }
            Err(error) => {
                tracing::error!(duty = %self.duty.name, %error, "a process cannot be started");
                self.count_restart(now);
            }
        }
    }

    /// The process ended, or could not be had, without having been asked to end.
    fn count_restart(&mut self, now: Instant) {
        let within = self.duty.restarts_within;
        self.restarts.retain(|at| now.since(*at) < within);
        if self.restarts.len() >= self.duty.restarts_max as usize {
            tracing::error!(duty = %self.duty.name, restarts = self.restarts.len(), "the restart budget is used up");
            self.failed_until = Some(now + within);
            return;
        }
        let doublings = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX).min(16);
        self.start_after = now + RESTART_MIN.saturating_mul(1 << doublings).min(RESTART_MAX);
        self.restarts.push_back(now);
    }

    fn handle(&mut self, event: ProcessEvent) {
        let now = clock::now();
        let Some(running) = &mut self.running else { return };
        match event {
            ProcessEvent::Ended(status) => {
                let was_asked = matches!(running.phase, Phase::Resting(..) | Phase::Stopping(_));
                tracing::info!(duty = %self.duty.name, ?status, was_asked, "a process has ended");
                // Whatever it left behind in its group goes with it.
                running.process.signal(Signal::KILL);
                self.running = None;
                if !was_asked {
                    self.count_restart(now);
                }
            }
            ProcessEvent::Said(said) => {
                for said in said {
                    running.handle_said(&said, now);
                }
            }
        }
    }

    /// When something is due by time alone.
    fn next_at(&self) -> Instant {
        let soft = match self.order {
            DutyOrder::Act { until, .. } if until != Instant::NEVER => before(until, STAND_BY_BEFORE),
            DutyOrder::Act { .. } | DutyOrder::StandBy | DutyOrder::End => Instant::NEVER,
        };
        // What is past has been done, or waits for the process.
        let soft = if soft > clock::now() { soft } else { Instant::NEVER };
        match &self.running {
            Some(running) => running.killed_at(&self.duty).min(soft),
            None if self.failed_until.is_some() => self.failed_until.unwrap_or(Instant::NEVER),
            None if self.wanted(clock::now()) == Wanted::Nothing => Instant::NEVER,
            None => self.start_after.max(clock::now() + RESTART_MIN / 20),
        }
    }

    async fn report(&mut self, reports: &mpsc::Sender<Report>) {
        let report = match &self.running {
            None => DutyReport::Ended { failed: self.failed_until.is_some() },
            Some(running) => match (running.may_act, running.phase) {
                (Some((token, _)), _) => DutyReport::Acts { token },
                (None, Phase::Standing) => DutyReport::StandsBy,
                (None, Phase::Starting | Phase::Stopping(_) | Phase::Acting(_) | Phase::Resting(..)) => {
                    DutyReport::Starting
                }
            },
        };
        if self.seq != 0 && self.reported != Some((self.seq, report)) {
            self.reported = Some((self.seq, report));
            let _ = reports
                .send(Report { duty: self.duty.name.clone(), seq: self.seq, report })
                .await;
        }
    }
}

impl Running {
    /// Tells it that it may act until then.
    fn activate(&mut self, token: Fencing, until: Instant) {
        self.may_act = Some((token, until));
        self.phase = Phase::Acting(token);
        if self.told != Some((token, until)) {
            self.told = Some((token, until));
            let token = token.token();
            if until == Instant::NEVER {
                self.process.tell(&format!("active {token} forever"));
            } else {
                // The end by a clock that the process can read: read before ours, so that what comes between them only
                // makes it earlier. Who reads the line late, because it stood still, still knows when to stop.
                let boot = boot_millis();
                let left = before(until, STAND_BY_BEFORE).since(clock::now()).as_millis();
                self.process.tell(&format!("active {token} {left} {}", boot + left));
            }
        }
    }

    fn stop(&mut self, by: Instant) {
        self.phase = Phase::Stopping(by);
        self.process.tell("stop");
        self.process.signal(Signal::TERM);
    }

    fn handle_said(&mut self, said: &Said, now: Instant) {
        match (said, self.phase) {
            (Said::Ready, Phase::Starting) => {
                self.phase = self.may_act.map_or(Phase::Standing, |(token, _)| Phase::Acting(token));
                self.alive = now;
            }
            (Said::StandsBy(number), Phase::Resting(_, asked, _)) if *number == asked => {
                self.phase = Phase::Standing;
                self.may_act = None;
                self.alive = now;
            }
            (Said::Ready | Said::Alive | Said::StandsBy(_), _) => self.alive = now,
        }
    }

    /// When it is killed, if it does not do first what it is to do.
    fn killed_at(&self, duty: &DutyProcess) -> Instant {
        let lease = self.may_act.map_or(Instant::NEVER, |(_, until)| before(until, KILL_BEFORE));
        let watched = duty.watchdog.map_or(Instant::NEVER, |watchdog| self.alive + watchdog);
        let phase = match self.phase {
            Phase::Starting => self.started + duty.ready_within,
            Phase::Standing | Phase::Acting(_) => watched,
            Phase::Resting(_, _, by) | Phase::Stopping(by) => by,
        };
        lease.min(phase)
    }
}

/// Milliseconds since the machine's boot, by the clock that also counts while it sleeps.
fn boot_millis() -> u128 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u128::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000 + u128::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// The instant `by` before `at`; never stays never.
fn before(at: Instant, by: Duration) -> Instant {
    if at == Instant::NEVER {
        return at;
    }
    Instant::from_micros(at.micros().saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
}

/// The next thing about the process, if there is one.
async fn event(running: &mut Option<Running>) -> ProcessEvent {
    match running {
        Some(running) => running.process.event().await,
        None => std::future::pending().await,
    }
}

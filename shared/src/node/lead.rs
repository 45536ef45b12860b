//! Who leads and who does what: election and duties, and how they wait for each other. A lease is given back only when
//! nothing acts under it any more; a duty begins only under a lease that stands.
//!
//! ```text
//!  wish, fitter board, fence, stop ──▶ duties end ──quiet──▶ election gives the lease back ──▶ the successor is told
//!                                       (renewed meanwhile)
//! ```

use super::{Node, Region};
use crate::action::{Action, DiskJob, DutyReport, Health, Wish, WishAnswer};
use crate::duties::{self, Duty, DutyView};
use crate::election::{self, View};
use crate::event::Event;
use crate::ids::{BoardId, BoardSet, DutyId, Name, Term, VoterId, WitnessId};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::control::ControlMessage;
use crate::wire::election::ElectionMessage;
use crate::wire::heartbeat::{Claim, Fitness, Vitals};
use crate::wire::uplink::Hello;

/// A leadership that is being given up, once its duties have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivingUp {
    /// To a successor, or to whoever is fittest.
    HandOver(Option<BoardId>),
    /// The region has seen this higher term.
    Fenced(Term),
    /// The board stops, or its journal is poisoned.
    Stop,
}

/// What is known of why the last leader leads no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing: its lease ran out.
    LeaseOver,
    /// It gave its term back.
    Released,
    /// Its supervisor has seen it end.
    Attested,
    /// There was none.
    First,
    /// It took a higher term of its own, to win a voter back.
    Raised,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::LeaseOver => "the lease before it ran out",
            Self::Released => "the leader before it handed over",
            Self::Attested => "the supervisor of the leader before it saw it end",
            Self::First => "there was no leader",
            Self::Raised => "the same board leads on under a higher term",
        }
    }
}

impl Node {
    /// A datagram from a witness, whose certificate proved it.
    pub fn handle_witness(
        &mut self,
        from: WitnessId,
        message: &ElectionMessage,
        now: Instant,
        out: &mut Outbox<Action>,
    ) {
        let mut outputs = Outbox::default();
        self.election.handle_message(from.into(), message, now, &mut outputs);
        self.handle_election(&mut outputs, now, out);
        self.look_around(now, out);
    }

    /// The connection to a witness stands or fell.
    pub fn handle_witness_link(&mut self, witness: WitnessId, up: bool, now: Instant, out: &mut Outbox<Action>) {
        if up == self.witnesses.contains(&witness) {
            return;
        }
        if up {
            self.witnesses.insert(witness);
            self.note(Event::WitnessReached { witness }, now, out);
        } else {
            self.witnesses.remove(&witness);
            self.note(Event::WitnessLost { witness }, now, out);
        }
        let mut outputs = Outbox::default();
        self.election.handle_witness_link(witness, up, now, &mut outputs);
        self.handle_election(&mut outputs, now, out);
        self.look_around(now, out);
    }

    /// Something about the process of a user's duty has changed.
    pub fn handle_duty(&mut self, duty: DutyId, report: DutyReport, now: Instant, out: &mut Outbox<Action>) {
        self.note_process(duty, report, now, out);
        let mut outputs = Outbox::default();
        self.duties.handle_report(duty, report, now, &mut outputs);
        self.handle_duties(&mut outputs, now, out);
        self.look_around(now, out);
    }

    fn note_process(&mut self, duty: DutyId, report: DutyReport, now: Instant, out: &mut Outbox<Action>) {
        let Some(name) = self.duty_name(duty) else { return };
        let before = self.processes.insert(duty, report);
        let acted = matches!(before, Some(DutyReport::Acts { .. }));
        match report {
            DutyReport::Acts { token } if before != Some(report) => {
                self.note(Event::DutyActs { duty: name, token }, now, out);
            }
            DutyReport::Ended { failed: true } if before != Some(report) => {
                self.note(Event::DutyFailed { duty: name }, now, out);
            }
            DutyReport::Ended { .. } | DutyReport::Starting | DutyReport::StandsBy if acted => {
                self.note(Event::DutyRests { duty: name }, now, out);
            }
            DutyReport::Acts { .. } | DutyReport::Ended { .. } | DutyReport::Starting | DutyReport::StandsBy => {}
        }
    }

    fn duty_name(&self, duty: DutyId) -> Option<Name> {
        Some(self.config.duties.get(usize::from(duty.get()))?.name.clone())
    }

    /// How the machine is, about once a second.
    pub fn handle_health(&mut self, health: Health, now: Instant, out: &mut Outbox<Action>) {
        self.own.handle_health(health.level);
        self.duties.handle_load(health.load_permille);
        self.look_around(now, out);
    }

    /// An operator wishes something.
    pub fn handle_wish(&mut self, wish: Wish, now: Instant, out: &mut Outbox<Action>) -> WishAnswer {
        let answer = match wish {
            Wish::HandOver { to } => self.wish_hand_over(to, now, out),
            Wish::Voters(set) => {
                let mut outputs = Outbox::default();
                let answer = self.election.handle_wish_voters(set, now, &mut outputs);
                self.handle_election(&mut outputs, now, out);
                answer
            }
            Wish::Vote => {
                let mut outputs = Outbox::default();
                let answer = self.election.handle_wish_vote(now, &mut outputs);
                self.handle_election(&mut outputs, now, out);
                answer
            }
        };
        self.look_around(now, out);
        answer
    }

    fn wish_hand_over(&mut self, to: Option<BoardId>, now: Instant, out: &mut Outbox<Action>) -> WishAnswer {
        if self.holds(now).is_none() {
            let leader = self.leader_term().and_then(Term::board);
            return WishAnswer::NotLeading(leader);
        }
        if to == Some(self.config.board) {
            return WishAnswer::Already;
        }
        if self.giving_up.is_some() {
            return WishAnswer::Begun;
        }
        let candidates = self.candidates();
        if candidates.is_empty() {
            return WishAnswer::Refused("no other board that votes is heard");
        }
        if to.is_some_and(|to| !candidates.contains(to)) {
            return WishAnswer::Refused("that board does not vote, or is not heard");
        }
        self.give_up(GivingUp::HandOver(to), "an operator wished it", now, out);
        WishAnswer::Begun
    }

    /// Other boards that could lead.
    fn candidates(&self) -> BoardSet {
        let voters = self.election.voters().set;
        let alive = self.membership.alive();
        alive
            .iter()
            .filter(|board| *board != self.config.board && voters.contains(VoterId::from(*board)))
            .collect()
    }

    /// Begins to give the leadership up: duties end first.
    pub(super) fn give_up(&mut self, how: GivingUp, why: &'static str, now: Instant, out: &mut Outbox<Action>) {
        if self.holds(now).is_some() {
            let to = match how {
                GivingUp::HandOver(to) => to,
                GivingUp::Fenced(_) | GivingUp::Stop => None,
            };
            self.note(Event::HandOver { to, why }, now, out);
        }
        // A stop is final; nothing that is under way replaces it.
        if self.giving_up != Some(GivingUp::Stop) {
            self.giving_up = Some(how);
        }
        let mut outputs = Outbox::default();
        self.duties.quiesce(now, &mut outputs);
        self.handle_duties(&mut outputs, now, out);
        self.go_on_giving_up(now, out);
    }

    /// Gives the lease back once nothing acts under it.
    fn go_on_giving_up(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let Some(how) = self.giving_up else { return };
        let mut outputs = Outbox::default();
        if self.holds(now).is_none() {
            // It ran out meanwhile, or there was none.
            self.duties.resume(now, &mut outputs);
            self.handle_duties(&mut outputs, now, out);
        } else if !self.duties.is_quiet(now) {
            return;
        }
        self.giving_up = None;
        let mut outputs = Outbox::default();
        match how {
            GivingUp::HandOver(to) => {
                // Where there is nobody to take it, the lease goes on, and so do its duties below.
                let _ = self.election.handle_hand_over(to, now, &mut outputs);
            }
            GivingUp::Fenced(highest) => self.election.handle_fenced(highest, now, &mut outputs),
            GivingUp::Stop => self.election.handle_stop(now, &mut outputs),
        }
        self.handle_election(&mut outputs, now, out);
        if self.holds(now).is_some() {
            let mut outputs = Outbox::default();
            self.duties.resume(now, &mut outputs);
            self.handle_duties(&mut outputs, now, out);
        }
    }

    /// What this board says of itself in its heartbeats.
    pub(super) fn vitals(&self, now: Instant) -> Vitals {
        let leads = self.election.lease().filter(|(_, until)| now < *until).map(|(term, until)| {
            let left_ms = u16::try_from(until.since(now).as_millis()).unwrap_or(u16::MAX);
            Claim { term, left_ms }
        });
        Vitals {
            seen: self.election.seen(),
            leads,
            accepts: self.accepts(),
            fitness: self.own.at(now),
            can: self.duties.can(),
        }
    }

    /// Lets election and duties look at what membership sees, and each other.
    pub(super) fn look_around(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let mut outputs = Outbox::default();
        self.election.handle_fitness(self.own.at(now), now, &mut outputs);
        let view = self.view(now);
        self.election.handle_view(view, now, &mut outputs);
        self.handle_election(&mut outputs, now, out);
        if self.giving_up.is_none()
            && let Some(to) = self.election.wants_hand_over(now)
        {
            self.give_up(GivingUp::HandOver(Some(to)), "another board is fitter to lead", now, out);
        }
        self.tell_duties(now, out);
        self.go_on_giving_up(now, out);
        self.watch_leader(now, out);
        self.ride_along(now, out);
    }

    /// The leader that this board believes in. A claim runs out sooner than its board is known to be down, on a lossy way
    /// or where its heartbeats are far between: for everything but a campaign the last word of a living board counts.
    pub(super) fn leader_term(&self) -> Option<Term> {
        let last = || self.membership.last_claim().filter(|term| !self.election.is_given_up(*term));
        self.election.leader_seen().or_else(last)
    }

    pub(super) fn view(&self, now: Instant) -> View {
        let alive = self.membership.alive();
        // What a board says of itself, less what this one has seen of it.
        let fitness = alive.iter().filter_map(|board| {
            let said = self.membership.vitals_of(board)?.fitness;
            let impaired = self.membership.impaired().contains(board);
            let steady = said.steady && !self.membership.unsteady(board, now);
            Some((board, Fitness { eligible: said.eligible && !impaired, steady, ..said }))
        });
        let fitness = fitness.collect();
        View { alive, leads: self.membership.claims(now), seen: self.membership.seen(), fitness }
    }

    /// Duties hear of lease, leader and members.
    fn tell_duties(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let mut outputs = Outbox::default();
        let lease = self.election.lease().filter(|(_, until)| now < *until);
        self.duties.handle_lease(lease, now, &mut outputs);
        if self.election.is_clear(now) {
            self.duties.handle_clear(now, &mut outputs);
        }
        self.duties.handle_leader(self.leader_term(), now, &mut outputs);
        let alive = self.membership.alive();
        let view = DutyView {
            alive,
            fit: alive.iter().filter(|board| self.is_fit(*board, now)).collect(),
            can: alive
                .iter()
                .filter_map(|board| Some((board, self.membership.vitals_of(board)?.can)))
                .collect(),
        };
        self.duties.handle_view(&view, now, &mut outputs);
        self.handle_duties(&mut outputs, now, out);
    }

    /// Whether `board` is steady and not impaired.
    fn is_fit(&self, board: BoardId, now: Instant) -> bool {
        if board == self.config.board {
            return self.own.at(now).steady && !self.membership.is_isolated();
        }
        !self.membership.impaired().contains(board) && !self.membership.unsteady(board, now)
    }

    /// Tells once when the site has had no leader for longer than a takeover takes, and when it has one again.
    fn watch_leader(&mut self, now: Instant, out: &mut Outbox<Action>) {
        if self.leader_term().is_some() {
            self.leaderless_since = None;
            if core::mem::take(&mut self.is_autonomous) {
                self.note(Event::Led, now, out);
            }
            return;
        }
        let since = *self.leaderless_since.get_or_insert(now);
        if !self.is_autonomous && now >= since + super::AUTONOMOUS_AFTER {
            self.is_autonomous = true;
            self.note(Event::Autonomous, now, out);
        }
    }

    pub(super) fn handle_remembered(&mut self, memory: crate::action::Memory, now: Instant, out: &mut Outbox<Action>) {
        let mut outputs = Outbox::default();
        self.election.handle_remembered(memory, now, &mut outputs);
        self.handle_election(&mut outputs, now, out);
        self.look_around(now, out);
    }

    pub(super) fn handle_election(
        &mut self,
        outputs: &mut Outbox<election::Output>,
        now: Instant,
        out: &mut Outbox<Action>,
    ) {
        while let Some(output) = outputs.pop() {
            match output {
                election::Output::Tell { to, message } => self.tell_voter(to, message, out),
                election::Output::Acquired { term } => {
                    self.note(Event::LeaseAcquired { term }, now, out);
                    self.tell_duties(now, out);
                    self.beat_now(now, out);
                }
                election::Output::Extended { .. } => self.tell_duties(now, out),
                election::Output::Lost { term, released } => self.handle_lost(term, released, now, out),
                election::Output::Remember(memory) => out.push(Action::Disk(DiskJob::Remember(memory))),
                election::Output::LeaderSeen { term } => {
                    let why = self.cause_of(term).as_str();
                    self.led = (term, Cause::LeaseOver);
                    self.led_why = why;
                    self.note(Event::LeaderChanged { term, why }, now, out);
                }
                election::Output::VotersChanged { voters } => {
                    self.note(Event::VotersChanged { voters }, now, out);
                    self.tell_voters(now, out);
                }
            }
        }
    }

    /// Leader and voters observe each other directly: membership hears who votes.
    pub(super) fn tell_voters(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let mut outputs = Outbox::default();
        let voters = self.election.voters().set.boards();
        self.membership.handle_voters(voters, now, &mut outputs);
        self.handle_membership(&mut outputs, now, out);
    }

    fn handle_lost(&mut self, term: Term, released: bool, now: Instant, out: &mut Outbox<Action>) {
        if released {
            self.explain(term, Cause::Released);
        } else if self.election.holds(now).is_none() {
            self.own.handle_flap(now);
        }
        self.note(Event::LeaseLost { term, released }, now, out);
        self.tell_duties(now, out);
        if released {
            self.beat_now(now, out);
        }
    }

    /// Why the leadership of `term`'s predecessor ended.
    fn cause_of(&self, term: Term) -> Cause {
        let (before, cause) = self.led;
        if before == Term::ZERO {
            Cause::First
        } else if before.board() == term.board() && cause == Cause::LeaseOver {
            Cause::Raised
        } else {
            cause
        }
    }

    /// Why the present leader leads, in words.
    pub(super) const fn leader_why(&self) -> &'static str {
        self.led_why
    }

    /// Something ended the leadership of `term`, if that is the last one heard of.
    pub(super) fn explain(&mut self, term: Term, cause: Cause) {
        if self.led.0 == term {
            self.led.1 = cause;
        }
    }

    fn tell_voter(&mut self, to: VoterId, message: ElectionMessage, out: &mut Outbox<Action>) {
        match (to.board(), to.witness()) {
            (Some(to), _) => self.tell(to, ControlMessage::Election(message), out),
            (None, Some(to)) => out.push(Action::TellWitness { to, message }),
            (None, None) => {}
        }
    }

    pub(super) fn handle_duties(
        &mut self,
        outputs: &mut Outbox<duties::Output>,
        now: Instant,
        out: &mut Outbox<Action>,
    ) {
        while let Some(output) = outputs.pop() {
            match output {
                duties::Output::Started { duty: Duty::Uplink, term } => self.start_uplink(term, now, out),
                duties::Output::Stopped { duty: Duty::Uplink, .. } => self.stop_uplink(now, out),
                duties::Output::Tell { to, message } => self.tell(to, ControlMessage::Duty(message), out),
                duties::Output::Order { duty, order } => out.push(Action::Duty { duty, order }),
                duties::Output::Moved { duty, to, why, .. } => {
                    if let Some(duty) = self.duty_name(duty) {
                        self.note(Event::DutyMoved { duty, to: Some(to), why: why.as_str() }, now, out);
                    }
                }
            }
        }
    }

    fn start_uplink(&mut self, term: Term, now: Instant, out: &mut Outbox<Action>) {
        if !self.config.has_region {
            return;
        }
        self.region = Region::Dialling(term);
        self.own.handle_uplink(Some(false), now);
        out.push(Action::Dial(Hello {
            site: self.config.site.clone(),
            board: self.config.board,
            epoch: self.origin.epoch,
            term,
        }));
    }

    fn stop_uplink(&mut self, now: Instant, out: &mut Outbox<Action>) {
        self.own.handle_uplink(None, now);
        if self.region == Region::Idle {
            return;
        }
        self.close_uplink(now, out);
        self.region = Region::Idle;
        if core::mem::take(&mut self.has_gone_ahead) {
            self.region_reads = None;
        }
        out.push(Action::HangUp);
    }

    /// The term under which this board holds a valid lease at `now`.
    pub fn holds(&self, now: Instant) -> Option<Term> {
        self.election.holds(now)
    }
}

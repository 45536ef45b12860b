//! Owns what follows from every input: what ran out, what the leader decides anew, what this board does and asks. Called
//! last by each `handle_*`; decides nothing that a stage of its own decides.

use core::time::Duration;

use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64;

use super::choice::bit;
use super::hand::{Hand, Stance};
use super::rules::{Rule, haste, patience};
use super::tenure::{Account, Post, Scene};
use super::{Duties, Duty, Output};
use crate::config::DutyMode;
use crate::ids::{BoardId, BoardSet, DutyId, Fencing, Term};
use crate::limits::{DUTY_ALONE_AFTER, DUTY_ASK_IDLE, DUTY_FRESH, DUTY_LEASE_MAX, RENEW_LEAST};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::duty::{Ask, Assigned, DutyMessage};

impl Duties {
    /// What follows at `now`.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Outbox<Output>) {
        self.settled_at = now;
        for hand in &mut self.hands {
            hand.lapse(now, out);
        }
        if self.tenure.is_some() {
            self.lead(now, out);
        } else {
            self.follow(now, out);
        }
        for hand in &mut self.hands {
            if !matches!(hand.stance, Stance::Acts { .. }) {
                hand.rest(out);
            }
        }
    }

    fn lead(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let scene = self.scene(now);
        let Some(tenure) = &mut self.tenure else { return };
        for moved in tenure.review(&scene, now) {
            let super::tenure::Moved { duty, to, token, why } = moved;
            out.push(Output::Moved { duty, to, token, why });
        }
        let me = self.config.board;
        for (hand, post) in self.hands.iter_mut().zip(&tenure.posts) {
            let token = match post {
                Post::Exclusive(chair) => {
                    let own = chair.holder().filter(|given| given.board == me && now < tenure.until);
                    own.map(|given| (given.token, tenure.until))
                }
                Post::Available { active, .. } => {
                    active.contains(me).then_some((Fencing::new(tenure.term, 0), Instant::NEVER))
                }
            };
            match token {
                Some((token, until)) => hand.act(token, until, out),
                None => hand.rest(out),
            }
        }
        tenure.dirty.remove(me);
        let told: Vec<BoardId> = tenure.dirty.iter().collect();
        tenure.dirty = BoardSet::EMPTY;
        for to in told {
            self.answer(to, now, out);
        }
    }

    fn answer(&mut self, to: BoardId, now: Instant, out: &mut Outbox<Output>) {
        let life = self.epoch.nonce;
        if let Some(assigned) = self.tenure.as_mut().and_then(|tenure| tenure.answer(to, life, now)) {
            out.push(Output::Tell { to, message: DutyMessage::Assigned(assigned) });
        }
    }

    /// What the leader looks at.
    fn scene(&self, now: Instant) -> Scene {
        let won = self.tenure.as_ref().map_or(now, |tenure| tenure.won_at());
        let recent = |since: &Instant| won.since(*since) < patience(DUTY_LEASE_MAX) * 2;
        let departed = self.departed.iter().filter(|(_, since)| recent(since)).map(|(board, _)| *board);
        let mut others: BoardSet = self.boards.iter().chain(departed).collect();
        others.remove(self.config.board);
        let attested = others.iter().filter(|board| self.is_attested(*board, won)).collect();
        Scene {
            me: self.config.board,
            own: self.own_account(now),
            own_holds: self.own_holds(now),
            alive: self.view.alive,
            fit: self.view.fit,
            others,
            attested,
        }
    }

    /// Whether `board` is known to hold nothing of a term before the one won at `won`: its last life is over, that life
    /// was alive a moment ago, and the next one is too young to have been granted anything.
    fn is_attested(&self, board: BoardId, won: Instant) -> bool {
        let Some(dead) = self.obituaries.get(&board) else { return false };
        let Some((life, alive_at)) = self.proofs.get(&board) else { return false };
        let keep = self.rules.keep(Rule::LifeAttested);
        !keep || (life == dead && won.since(*alive_at) < haste(DUTY_FRESH))
    }

    fn own_account(&self, now: Instant) -> Account {
        Account {
            epoch: self.epoch,
            number: 0,
            at: now,
            can: self.can(),
            ready: self.bits(Hand::is_ready),
            failed: self.bits(Hand::has_failed),
            // A leader acts under its own lease, which no other board needs to wait for.
            may_hold: true,
            load: self.load,
            domain: self.domain(),
        }
    }

    /// Exclusive duties that this board may be acting in.
    pub(super) fn own_holds(&self, now: Instant) -> u32 {
        self.bits(|hand| hand.is_exclusive() && hand.may_act(now).is_some())
    }

    pub(super) fn bits(&self, is_so: impl Fn(&Hand) -> bool) -> u32 {
        self.hands
            .iter()
            .enumerate()
            .fold(0, |bits, (place, hand)| bits | u32::from(is_so(hand)) << place)
    }

    fn domain(&self) -> u32 {
        (xxh3_64(self.config.domain.as_bytes()) & u64::from(u32::MAX)) as u32
    }

    pub(super) fn start_uplink(&mut self, term: Term, out: &mut Outbox<Output>) {
        self.uplink = Some(term);
        for duty in Duty::ALL {
            out.push(Output::Started { duty, term });
        }
    }

    pub(super) fn stop_uplink(&mut self, out: &mut Outbox<Output>) {
        if let Some(term) = self.uplink.take() {
            for duty in Duty::ALL.into_iter().rev() {
                out.push(Output::Stopped { duty, term });
            }
        }
    }

    /// What this board did under its own lease of `term` ends.
    pub(super) fn rest_led(&mut self, term: Option<Term>, out: &mut Outbox<Output>) {
        for hand in self.hands.iter_mut().filter(|hand| hand.is_exclusive()) {
            if let Stance::Acts { token, .. } = hand.stance
                && Some(token.term()) == term
            {
                hand.rest(out);
            }
        }
    }

    pub(super) fn handle_ask(&mut self, from: BoardId, ask: &Ask, now: Instant, out: &mut Outbox<Output>) {
        let is_dead = self.obituaries.get(&from) == Some(&ask.epoch.nonce);
        let known = self.boards.contains(from) && from != self.config.board && !is_dead;
        let is_new = match &mut self.tenure {
            Some(tenure) if known && tenure.term == ask.term => tenure.handle_ask(from, ask, now),
            Some(_) | None => false,
        };
        self.settle(now, out);
        if is_new {
            self.answer(from, now, out);
        }
    }

    pub(super) fn handle_assigned(
        &mut self,
        from: BoardId,
        assigned: &Assigned,
        now: Instant,
        out: &mut Outbox<Output>,
    ) {
        let is_old = assigned.term < self.spoken && self.rules.keep(Rule::OldTermRefused);
        let is_from_leader = assigned.term.board() == Some(from) && self.tenure.is_none();
        if assigned.life == self.epoch.nonce && !is_old && is_from_leader {
            let keep_closed = self.rules.keep(Rule::ClosedAnswers);
            if let Some(asked_at) = self.asking.handle_answer(assigned.number, keep_closed) {
                self.proofs.insert(from, (assigned.leader, asked_at));
                self.take(assigned, asked_at, now, out);
            }
        }
        self.settle(now, out);
    }

    /// Does what the leader's answer says.
    fn take(&mut self, assigned: &Assigned, asked_at: Instant, now: Instant, out: &mut Outbox<Output>) {
        let from = if self.rules.keep(Rule::LeaseFromAsking) { asked_at } else { now };
        let lease = Duration::from_micros(assigned.lease_micros).min(DUTY_LEASE_MAX);
        let until = from + lease;
        let may_hold = self.may_hold(now);
        self.is_wanted = false;
        for place in 0..self.hands.len() {
            let Some(duty) = u8::try_from(place).ok().and_then(DutyId::new) else { break };
            let hand = &mut self.hands[place];
            let given = assigned.duties.iter().find(|given| given.duty == duty);
            match (given, hand.is_exclusive()) {
                (Some(given), false) => hand.act(given.token, Instant::NEVER, out),
                (Some(given), true) => {
                    self.is_wanted = true;
                    // A right that it has goes on to its end, where the answer adds nothing to it.
                    if may_hold && until > now && given.token.term() == assigned.term {
                        hand.act(given.token, until, out);
                    }
                }
                (None, _) => hand.rest(out),
            }
        }
        self.asking.quicken(self.period(now));
    }

    /// Whether this life is old enough to be granted a lease by another board.
    fn may_hold(&self, now: Instant) -> bool {
        now >= self.born + DUTY_FRESH || !self.rules.keep(Rule::FreshLife)
    }

    fn period(&self, now: Instant) -> Duration {
        let renew = self.config.timing.renew;
        if self.own_holds(now) != 0 {
            // A right that is about to end, because answers were lost, is asked for more often.
            let ends = self
                .hands
                .iter()
                .filter(|hand| hand.is_exclusive())
                .filter_map(Hand::ends)
                .min();
            let is_short = ends.is_some_and(|ends| ends.since(now) < 2 * renew);
            if is_short { renew.min(RENEW_LEAST) } else { renew }
        } else if self.is_wanted {
            renew
        } else {
            DUTY_ASK_IDLE
        }
    }

    /// Asks the leader at once, where there is one and something to ask about.
    pub(super) fn hurry(&mut self, now: Instant) {
        if self.leader.is_some() && self.tenure.is_none() && !self.hands.is_empty() {
            self.asking.hurry(now);
        }
    }

    fn follow(&mut self, now: Instant, out: &mut Outbox<Output>) {
        match self.leader {
            Some(term) if now >= self.asking.due() => self.ask(term, now, out),
            Some(_) => {}
            None => self.go_alone(now, out),
        }
    }

    fn ask(&mut self, term: Term, now: Instant, out: &mut Outbox<Output>) {
        let Some(to) = term.board() else { return };
        let (number, closed) = self.asking.ask(now, self.period(now));
        self.spoken = self.spoken.max(term);
        let holds = self
            .hands
            .iter()
            .enumerate()
            .filter(|(_, hand)| hand.is_exclusive())
            .filter_map(|(place, hand)| {
                let duty = u8::try_from(place).ok().and_then(DutyId::new)?;
                Some((duty, hand.may_act(now)?))
            });
        let ask = Ask {
            number,
            epoch: self.epoch,
            term,
            closed,
            holds: holds.collect(),
            can: self.can(),
            ready: self.bits(Hand::is_ready),
            acting: self.bits(|hand| hand.may_act(now).is_some()),
            may_hold: self.may_hold(now),
            load_permille: self.load,
            domain: self.domain(),
        };
        out.push(Output::Tell { to, message: DutyMessage::Ask(ask) });
    }

    /// Nobody leads: available duties go on, and after a while the first of the living boards that can begin.
    fn go_alone(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if now < self.leaderless_since + DUTY_ALONE_AFTER {
            return;
        }
        let token = Fencing::new(self.spoken, 0);
        let me = self.config.board;
        for (place, hand) in self.hands.iter_mut().enumerate() {
            let Some(duty) = u8::try_from(place).ok().and_then(DutyId::new) else { break };
            let DutyMode::Available { active } = hand.mode else { continue };
            if hand.stance != Stance::Rests || !hand.can() {
                continue;
            }
            let could = |board: &BoardId| self.view.can.get(board).is_some_and(|can| can & bit(duty) != 0);
            let before = self.view.alive.iter().filter(|board| *board < me && could(board)).count();
            if before < usize::from(active) {
                hand.act(token, Instant::NEVER, out);
            }
        }
    }
}

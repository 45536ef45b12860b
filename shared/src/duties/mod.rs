//! Owns who performs which duty: the leader's decision, and this board's part in it. Must not decide who leads, nor
//! perform anything.
//!
//! ```text
//!                     leader                                        board
//!   own lease ──► tenure: accounts, chairs ──Assigned──► asking ──► hands ──orders──► processes
//!                     ▲                                    │          ▲                  │
//!                     └───────────────Ask──────────────────┘          └─────reports──────┘
//! ```
//!
//! `uplink` is performed by the leader itself under its own lease. A user's **exclusive** duty acts on one board at a
//! time: on the leader under its lease, elsewhere under a lease within it, counted by the holder from when it asked.
//! A duty moves only after its end at the old holder is certain: said by it, attested, or its lease over by the leader's
//! clock. A new leader gives a duty to another board than the one that says it has it only when every board is
//! *accounted for*: it has asked under the new term; or its life was attested as over, by whoever knew that life to be
//! alive so lately that the next one cannot have been granted anything ([`DUTY_FRESH`]); or the longest lease
//! ([`DUTY_LEASE_MAX`]) has had its time; or the election knows that every earlier lease has run out.
//!
//! **Available** duties need no lease: as many boards as wanted perform each; where no leader is heard of they go on,
//! and boards that can begin of their own accord after a while.

mod asking;
mod chair;
mod choice;
mod hand;
mod rules;
mod settle;
mod status;
mod tenure;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

pub use chair::Why;
pub use status::DutyLine;

use asking::Asking;
use hand::{Hand, Stance};
use rules::{Rule, Rules};
use tenure::Tenure;

use crate::action::{DutyOrder, DutyReport};
use crate::config::NodeConfig;
use crate::ids::{BoardId, BoardSet, DutyId, Epoch, Fencing, Term};
use crate::limits::{DUTY_ALONE_AFTER, DUTY_LOADED_AFTER, DUTY_UNFIT_AFTER};
#[cfg(doc)]
use crate::limits::{DUTY_FRESH, DUTY_LEASE_MAX};
use crate::outbox::Outbox;
use crate::time::{Deadline, Instant};
use crate::wire::duty::DutyMessage;

/// A duty of the product's own, which the leader itself performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// Speaks for the site to the region.
    Uplink,
}

impl Duty {
    /// Every duty, in the order in which they start; they stop in the reverse.
    pub const ALL: [Self; 1] = [Self::Uplink];

    /// The duty's name on the status page and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
        }
    }
}

/// What membership sees, as duties are decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DutyView {
    /// Boards that are not down, this one included.
    pub alive: BoardSet,
    /// Boards that are steady (out of their hold-down) and not impaired.
    pub fit: BoardSet,
    /// What each other board says it could perform, by its sign of life: bit n for the duty at place n.
    pub can: BTreeMap<BoardId, u32>,
}

/// What becomes of duties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Perform this duty; attach `term` to every effect of it.
    Started {
        /// Which.
        duty: Duty,
        /// The fencing token.
        term: Term,
    },
    /// Perform it no more under this term.
    Stopped {
        /// Which.
        duty: Duty,
        /// The fencing token that is void.
        term: Term,
    },
    /// Send this as a datagram; it may be lost.
    Tell {
        /// To whom.
        to: BoardId,
        /// What.
        message: DutyMessage,
    },
    /// See to the process of a user's duty.
    Order {
        /// Which duty.
        duty: DutyId,
        /// What is to become of it.
        order: DutyOrder,
    },
    /// This board, which leads, has given an exclusive duty to a board.
    Moved {
        /// Which duty.
        duty: DutyId,
        /// To whom.
        to: BoardId,
        /// Under which token.
        token: Fencing,
        /// Why.
        why: Why,
    },
}

/// The duties of one board.
///
/// Contract: one input at a time, then drain the outbox; every input that is ready comes before a deadline; `now` never
/// goes back. A report of a process answers the newest order: one that was said before that order had arrived is not
/// handed in (the next one says the same, or better). The shell sees to it that a process does not act past `until`,
/// whether this machine is run or not.
#[derive(Debug)]
pub struct Duties {
    config: NodeConfig,
    epoch: Epoch,
    born: Instant,
    view: DutyView,
    boards: BoardSet,
    /// Boards that left the site, and when: they may still hold something.
    departed: BTreeMap<BoardId, Instant>,
    load: u16,
    /// The highest term that this board has asked under or led.
    spoken: Term,
    leader: Option<Term>,
    leaderless_since: Instant,
    asking: Asking,
    /// Whether the newest answer gives this board an exclusive duty.
    is_wanted: bool,
    hands: Vec<Hand>,
    tenure: Option<Tenure>,
    /// The term under which this board performs `uplink`.
    uplink: Option<Term>,
    /// When everything was last looked at.
    settled_at: Instant,
    /// By leader: the life in which it answered, and when the question was asked: it was alive after that.
    proofs: BTreeMap<BoardId, (u64, Instant)>,
    /// Lives attested as over: the newest of each board.
    obituaries: BTreeMap<BoardId, u64>,
    rules: Rules,
}

impl Duties {
    /// A board without duties, in the life `epoch`.
    pub fn new(config: &NodeConfig, epoch: Epoch, now: Instant) -> Self {
        let hands = config.duties.iter().enumerate().filter_map(|(place, duty)| {
            let id = u8::try_from(place).ok().and_then(DutyId::new)?;
            Some(Hand::new(id, duty))
        });
        Self {
            epoch,
            born: now,
            view: DutyView { alive: config.boards, fit: config.boards, can: BTreeMap::new() },
            boards: config.boards,
            departed: BTreeMap::new(),
            load: 0,
            spoken: Term::ZERO,
            leader: None,
            leaderless_since: now,
            asking: Asking::new(),
            is_wanted: false,
            hands: hands.collect(),
            tenure: None,
            uplink: None,
            settled_at: now,
            proofs: BTreeMap::new(),
            obituaries: BTreeMap::new(),
            rules: Rules::default(),
            config: config.clone(),
        }
    }

    /// Own leadership: gained or extended until then (by its own clock; it may act before that), or lost (`None`).
    ///
    /// # Panics
    /// Where a lease that was lost comes back under the same term: the election has a bug.
    pub fn handle_lease(&mut self, lease: Option<(Term, Instant)>, now: Instant, out: &mut Outbox<Output>) {
        let held = self.tenure.as_ref().map(|tenure| tenure.term);
        match (lease, &mut self.tenure) {
            (Some((term, until)), Some(tenure)) if tenure.term == term => tenure.until = until,
            (Some((term, until)), _) => {
                // Tokens are counted from one in each term.
                assert!(term != self.spoken, "a term is led a second time: its tokens would be given out again");
                self.stop_uplink(out);
                self.rest_led(held, out);
                self.spoken = self.spoken.max(term);
                self.leader = Some(term);
                self.asking.pause();
                self.is_wanted = false;
                self.tenure = Some(Tenure::new(term, until, &self.config.duties, self.rules, now));
                self.start_uplink(term, out);
            }
            (None, _) => {
                self.stop_uplink(out);
                self.rest_led(held, out);
                if self.tenure.take().is_some() {
                    self.leader = None;
                    self.leaderless_since = now;
                }
            }
        }
        self.settle(now, out);
    }

    /// The election knows that nothing granted before this board's term can still run: every grant that its own lease
    /// rests on was free because its time was over, none because it was given back or its holder attested as dead. To be
    /// said after `handle_lease`; saves waiting for boards that say nothing.
    pub fn handle_clear(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if let Some(tenure) = &mut self.tenure {
            tenure.clear = true;
        }
        self.settle(now, out);
    }

    /// Who leads, as far as this board knows.
    pub fn handle_leader(&mut self, leader: Option<Term>, now: Instant, out: &mut Outbox<Output>) {
        let is_new = |term: &Term| *term >= self.spoken || !self.rules.keep(Rule::OldTermRefused);
        // What this board itself leads under it knows by its lease.
        let leader = leader.filter(is_new).filter(|term| term.board() != Some(self.config.board));
        if self.tenure.is_none() && leader != self.leader {
            self.leader = leader;
            self.is_wanted = false;
            if leader.is_none() {
                self.leaderless_since = now;
                self.asking.pause();
            }
            self.hurry(now);
        }
        self.settle(now, out);
    }

    /// What membership sees has changed.
    pub fn handle_view(&mut self, view: &DutyView, now: Instant, out: &mut Outbox<Output>) {
        if self.view != *view {
            self.view = view.clone();
            self.settle(now, out);
        }
    }

    /// The site's boards have changed.
    pub fn handle_boards(&mut self, boards: BoardSet, now: Instant, out: &mut Outbox<Output>) {
        for board in self.boards.iter().filter(|board| !boards.contains(*board)) {
            self.departed.insert(board, now);
        }
        self.departed.retain(|board, _| !boards.contains(*board));
        self.boards = boards;
        self.settle(now, out);
    }

    /// A message from `from`, whose certificate proved it.
    pub fn handle_message(&mut self, from: BoardId, message: &DutyMessage, now: Instant, out: &mut Outbox<Output>) {
        match message {
            DutyMessage::Ask(ask) => self.handle_ask(from, ask, now, out),
            DutyMessage::Assigned(assigned) => self.handle_assigned(from, assigned, now, out),
        }
    }

    /// Something about the process of a duty has changed.
    pub fn handle_report(&mut self, duty: DutyId, report: DutyReport, now: Instant, out: &mut Outbox<Output>) {
        if let Some(hand) = self.hands.get_mut(usize::from(duty.get())) {
            let before = (hand.process(), hand.stance);
            hand.handle_report(report, out);
            if before != (hand.process(), hand.stance) {
                self.hurry(now);
            }
        }
        self.settle(now, out);
    }

    /// The supervisor of `board` has seen that life of it end, and signed that.
    pub fn handle_obituary(&mut self, board: BoardId, life: u64, now: Instant, out: &mut Outbox<Output>) {
        if !self.config.boards.contains(board) && !self.boards.contains(board) {
            return;
        }
        self.obituaries.insert(board, life);
        if let Some(tenure) = &mut self.tenure {
            tenure.handle_obituary(board, life, now);
        }
        self.settle(now, out);
    }

    /// How busy this board is, in permille of its processors.
    pub fn handle_load(&mut self, permille: u16) {
        self.load = permille;
    }

    /// This board, which leads, is going to hand over: its own exclusive duties end, `uplink` among them, and no lease is
    /// given any more. Those of other boards go on, and the next leader takes them over as they are.
    pub fn quiesce(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if let Some(tenure) = &mut self.tenure
            && !tenure.ending
        {
            tenure.ending = true;
            self.stop_uplink(out);
        }
        self.settle(now, out);
    }

    /// The hand-over was called off: this board goes on leading.
    pub fn resume(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if let Some(tenure) = &mut self.tenure
            && tenure.ending
        {
            tenure.ending = false;
            let term = tenure.term;
            self.start_uplink(term, out);
        }
        self.settle(now, out);
    }

    /// Whether, after [`Duties::quiesce`], nothing acts under this board's own lease any more, for certain.
    pub fn is_quiet(&self, now: Instant) -> bool {
        let is_ending = self.tenure.as_ref().is_none_or(|tenure| tenure.ending);
        is_ending && self.own_holds(now) == 0
    }

    /// The board stops: every process of it ends. Call [`Duties::quiesce`] as well where it leads.
    pub fn handle_stop(&mut self, now: Instant, out: &mut Outbox<Output>) {
        for hand in &mut self.hands {
            hand.stop(out);
        }
        self.hurry(now);
        self.settle(now, out);
    }

    /// Whether no process of this board may be acting at `now`, in any duty.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.hands.iter().all(|hand| hand.may_act(now).is_none())
    }

    /// What is due at `now`.
    pub fn handle_deadline(&mut self, now: Instant, out: &mut Outbox<Output>) {
        self.settle(now, out);
    }

    /// When `handle_deadline` is to be called next.
    pub fn next_deadline(&self) -> Deadline {
        let ends = self.hands.iter().filter_map(Hand::ends).min().unwrap_or(Instant::NEVER);
        let lapse = Deadline { at: ends, why: "a duty's lease to end" };
        // A site without duties of its users has nothing to ask about.
        let due = if self.hands.is_empty() { Instant::NEVER } else { self.asking.due() };
        let ask = Deadline { at: due, why: "the next question to the leader" };
        let mut next = ask.min(lapse);
        if let Some(tenure) = &self.tenure {
            next = next.min(tenure.next_deadline(self.config.board, self.settled_at));
        }
        if self.leader.is_none() && self.hands.iter().any(|hand| !hand.is_exclusive()) {
            next = next.min(self.alone_deadline());
        }
        next
    }

    fn alone_deadline(&self) -> Deadline {
        let waits = self
            .hands
            .iter()
            .any(|hand| hand.can() && hand.stance == Stance::Rests && !hand.is_exclusive());
        let at = self.leaderless_since + DUTY_ALONE_AFTER;
        let at = if waits && at > self.settled_at { at } else { Instant::NEVER };
        Deadline { at, why: "a leader to be heard of" }
    }

    /// The token under which this board may act in a user's exclusive duty at `now`.
    pub fn holds(&self, duty: DutyId, now: Instant) -> Option<Fencing> {
        let hand = self.hands.get(usize::from(duty.get()))?;
        hand.right(now).filter(|_| hand.is_exclusive())
    }

    /// The term under which this board performs one of the product's own duties. Before an effect ask the election's
    /// `holds` too.
    pub const fn performs(&self, duty: Duty) -> Option<Term> {
        match duty {
            Duty::Uplink => self.uplink,
        }
    }

    /// Duties that this board could perform now, for its sign of life: bit n for the duty at place n.
    pub fn can(&self) -> u32 {
        self.bits(Hand::can)
    }
}

/// How long another board must be better for `why` before a duty moves to it.
const fn better_after(why: Why) -> Duration {
    match why {
        Why::HolderLoaded => DUTY_LOADED_AFTER,
        Why::NewLeader
        | Why::Kept
        | Why::Placed
        | Why::HolderDown
        | Why::HolderEnded
        | Why::HolderSilent
        | Why::HolderCannot
        | Why::HolderUnfit
        | Why::HandOver => DUTY_UNFIT_AFTER,
    }
}

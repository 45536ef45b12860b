//! Owns who leads the site: this board's vote, and its own campaign and lease. At no instant do two boards hold a
//! valid lease, and the terms of successive holders rise. Must not judge who is alive (membership says it), and must
//! not know what a leader does (duties).
//!
//! A voter promises each term to one board at a time and for a bounded while; a board that holds such promises of
//! more than half of the voters leads until the oldest of them could end. No vote is written to disk: a restarted
//! voter waits until whatever it granted has run out (PaxosLease), and starts above the durably reserved ceiling.
//!
//! ```text
//!            quorum heard, no leader,
//!            own vote free                 pause over        majority willing      majority granted
//!   follow ──────────────────────▶ wait ──────────────▶ trial ─────────────▶ ask ─────────────────▶ lead ─┐ renew
//!     ▲ ▲                           ▲ │                 │  │                  │ release                ▲    │
//!     │ └── leader or no quorum ────┼─┴─────────────────┘  └── refused or ────┤                        └────┘
//!     │                             └───────────────────────── no answer ─────┘                          │
//!     └───────────────────────────────── lease runs out, or stop: stop acting, then release ─────────────┘
//! ```
//!
//! A trial asks for the same judgement as a request but changes nothing, so that a board with a bad link to the
//! leader disturbs nobody. A leader that meets a voter with a higher promise (it restarted) takes a higher term while
//! its lease still runs: the vote is won back without a gap.

mod campaign;
mod jitter;
mod lease;
mod rules;
mod terms;
#[cfg(test)]
mod tests;
mod voter;
#[cfg(test)]
mod voter_tests;
#[cfg(test)]
mod world;

use core::time::Duration;

use crate::config::NodeConfig;
use crate::ids::{BoardId, BoardSet, Term};
use crate::outbox::Outbox;
use crate::time::{Deadline, Instant};
use crate::wire::election::{Acquire, ElectionMessage};
use campaign::Campaign;
use jitter::Jitter;
use lease::Lease;
use rules::{Rule, Rules};
use terms::Terms;
use voter::{Verdict, Voter};

/// What this process starts from. The shell has made it durable before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The board's start counter, from 1. A board's first life has granted nothing before, and need not abstain.
    pub boot: u32,
    /// Highest term counter this life may use or promise: on disk, and raised for this life by
    /// [`crate::limits::TERMS_RESERVED`] above that of the life before.
    pub term_ceiling: u64,
    /// Seed of the pauses that keep candidates apart; any number, best a different one each life.
    pub seed: u64,
}

/// What membership says of the other boards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Boards heard, this one included.
    pub alive: BoardSet,
    /// Highest term that a board heard says it leads under.
    pub leads: Option<Term>,
    /// Highest term any board has spoken of.
    pub seen: Term,
}

/// What the election asks for or tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram; it may be lost.
    Tell {
        /// To whom.
        to: BoardId,
        /// What.
        message: ElectionMessage,
    },
    /// This board holds the lease from now on.
    Acquired {
        /// Under which term.
        term: Term,
    },
    /// This board does not act under this term any more. Where it won a higher term at the same instant,
    /// [`Output::Acquired`] follows at once.
    Lost {
        /// The term that ended.
        term: Term,
        /// Given up, rather than run out or replaced.
        released: bool,
    },
    /// Put this ceiling of term counters on disk, then call [`Election::handle_reserved`].
    Reserve {
        /// Highest counter that may then be used or promised.
        ceiling: u64,
    },
    /// The site has a leader under a higher term than the last one told.
    LeaderSeen {
        /// Its term, which names the board.
        term: Term,
    },
}

/// Where this board stands, for the status page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The lease held and the instant from which on it may not be acted under.
    pub lease: Option<(Term, Instant)>,
    /// What this voter has granted, and until when.
    pub granted: Option<(Term, Instant)>,
    /// The highest term this voter promised.
    pub promised: Term,
    /// Until when this voter abstains after its restart.
    pub abstains_until: Option<Instant>,
    /// What the campaign is doing, in one word.
    pub campaign: &'static str,
    /// What is waited for.
    pub next: Deadline,
}

/// The fixed part: who votes, and the clockwork.
#[derive(Clone, Copy, Debug)]
struct Site {
    me: BoardId,
    voters: BoardSet,
    lease: Duration,
    renew: Duration,
}

/// The election as one board sees it.
///
/// Contract: one input, then drain the outbox, then the next input. [`Election::handle_view`] follows every input
/// of membership; [`Election::handle_deadline`] is called at or after [`Election::next_deadline`], once all
/// messages that have arrived are handled. Before every exclusive effect ask [`Election::holds`] with a fresh `now`.
#[derive(Debug)]
pub struct Election {
    site: Site,
    voter: Voter,
    terms: Terms,
    campaign: Campaign,
    lease: Option<Lease>,
    /// The very end of the last lease that ran out: no campaign of this board before.
    rests_until: Instant,
    /// Counts this life's requests.
    attempt: u64,
    /// Rounds lost since there was a leader: spreads the next ones.
    failures: u32,
    jitter: Jitter,
    view: View,
    /// Highest term told as leader.
    told: Term,
    is_stopped: bool,
    rules: Rules,
}

impl Election {
    /// A board that knows of no leader. Call [`Election::handle_view`] when membership has something to say.
    pub fn new(config: &NodeConfig, life: Life, now: Instant) -> Self {
        Self::with_rules(config, life, now, Rules::default())
    }

    fn with_rules(config: &NodeConfig, life: Life, now: Instant, rules: Rules) -> Self {
        let timing = &config.timing;
        let terms = Terms::new(config.board, life, rules);
        let mut alive = BoardSet::EMPTY;
        alive.insert(config.board);
        Self {
            site: Site {
                me: config.board,
                voters: config.voters.set.boards(),
                lease: timing.lease,
                renew: timing.renew,
            },
            voter: Voter::new(timing.lease, life, &terms, rules, now),
            terms,
            campaign: Campaign::Follow,
            lease: None,
            rests_until: now,
            attempt: 0,
            failures: 0,
            jitter: Jitter::new(life.seed),
            view: View { alive, ..View::default() },
            told: Term::ZERO,
            is_stopped: false,
            rules,
        }
    }

    /// Membership has changed its mind, or only looked: equal views cost nothing.
    pub fn handle_view(&mut self, view: View, now: Instant, out: &mut Outbox<Output>) {
        self.terms.hear(view.seen);
        if let Some(leads) = view.leads {
            self.terms.take(leads);
        }
        self.view = view;
        self.settle(now, out);
    }

    /// A datagram from another board. A request or release under a term that is not the sender's own, a vote of a
    /// board that has none, and heartbeats (membership's) are passed over.
    pub fn handle_control(&mut self, from: BoardId, message: &ElectionMessage, now: Instant, out: &mut Outbox<Output>) {
        if from == self.site.me || !self.site.voters.contains(from) {
            return;
        }
        match message {
            ElectionMessage::Acquire(acquire) => {
                if acquire.term.board() == Some(from) && self.is_voter() {
                    self.hear_request(acquire);
                    let verdict = self.voter.handle_acquire(acquire, &self.terms, now);
                    let message = answer(acquire.term, acquire.attempt, verdict);
                    out.push(Output::Tell { to: from, message });
                }
            }
            ElectionMessage::Granted { term, attempt } => {
                self.handle_verdict(from, (*term, *attempt), Verdict::Granted, now, out);
            }
            ElectionMessage::Denied { term, attempt, promised, remaining_micros, .. } => {
                self.terms.take(*promised);
                let remaining = Duration::from_micros(*remaining_micros);
                let verdict = Verdict::Denied { promised: *promised, remaining };
                self.handle_verdict(from, (*term, *attempt), verdict, now, out);
            }
            ElectionMessage::Release { term } => {
                if term.board() == Some(from) {
                    self.voter.handle_release(from, *term);
                    self.hasten(now);
                }
            }
            ElectionMessage::Waive { .. }
            | ElectionMessage::HandOver { .. }
            | ElectionMessage::Propose { .. }
            | ElectionMessage::Stored { .. } => {}
        }
        self.settle(now, out);
    }

    /// The ceiling asked for by [`Output::Reserve`] is on disk.
    pub fn handle_reserved(&mut self, ceiling: u64, now: Instant, out: &mut Outbox<Output>) {
        self.terms.handle_reserved(ceiling);
        self.hasten(now);
        self.settle(now, out);
    }

    /// The instant of [`Election::next_deadline`] has come, or passed.
    pub fn handle_deadline(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if let Some(lease) = self.lease.filter(|lease| !lease.is_held(now)) {
            self.run_out(lease, out);
        }
        self.handle_campaign_deadline(now, out);
        self.settle(now, out);
    }

    /// The process is about to end: this board stops acting, then tells that its term is free, and campaigns no
    /// more. Effects under way must have ended before. It keeps voting until the process ends.
    pub fn handle_stop(&mut self, now: Instant, out: &mut Outbox<Output>) {
        self.is_stopped = true;
        self.abandon(out);
        self.settle(now, out);
    }

    /// A receiver of effects (the region) has seen `highest`, above what this board leads under: the site forgot it, or
    /// a part of it that cannot be heard leads. This board takes note, so that its next term lies above, and gives the
    /// lease up.
    pub fn handle_fenced(&mut self, highest: Term, now: Instant, out: &mut Outbox<Output>) {
        self.terms.take(highest);
        self.abandon(out);
        self.settle(now, out);
    }

    /// When to call [`Election::handle_deadline`], and what for.
    pub fn next_deadline(&self) -> Deadline {
        let ends = self
            .lease
            .map_or(Deadline::NONE, |lease| Deadline { at: lease.ends(), why: "the lease runs out" });
        ends.min(self.campaign.next_deadline())
    }

    /// The term under which this board may act at `now`: a majority backs it for [`crate::limits::LEASE_GUARD`] longer.
    pub fn holds(&self, now: Instant) -> Option<Term> {
        let lease = self.lease.filter(|lease| lease.is_held(now))?;
        Some(lease.term)
    }

    /// The term of the leader that this board believes in, itself included.
    pub fn leader_seen(&self) -> Option<Term> {
        let own = self.lease.map(|lease| lease.term);
        own.max(self.other_leads())
    }

    /// The highest term this board knows of, for its heartbeats.
    pub fn seen(&self) -> Term {
        self.terms.heard()
    }

    /// Where this board stands, for the status page.
    pub fn standing(&self, now: Instant) -> Standing {
        Standing {
            lease: self.lease.map(|lease| (lease.term, lease.ends())),
            granted: self.voter.live_grant(now),
            promised: self.voter.promised(),
            abstains_until: self.voter.abstains_until(now),
            campaign: self.campaign.name(),
            next: self.next_deadline(),
        }
    }

    /// Re-checks what must always hold.
    ///
    /// # Panics
    /// Where it does not: the election has a bug, and the process must not go on acting.
    pub fn check(&self) {
        let promised = self.voter.promised();
        assert!(self.terms.is_usable(promised), "a promise lies above the durable ceiling");
        assert!(promised <= self.terms.taken(), "a promise was not taken note of");
        if let Some(lease) = self.lease {
            assert!(self.terms.is_usable(lease.term), "a lease lies above the durable ceiling");
            assert!(lease.term.board() == Some(self.site.me), "a lease under another board's term");
        }
    }

    /// Brings campaign, reserve and what was told into line with the state after an input.
    fn settle(&mut self, now: Instant, out: &mut Outbox<Output>) {
        self.settle_campaign(now, out);
        if let Some(ceiling) = self.terms.reserve_ahead() {
            out.push(Output::Reserve { ceiling });
        }
        if let Some(term) = self.leader_seen() {
            self.failures = 0;
            if term > self.told {
                self.told = term;
                out.push(Output::LeaderSeen { term });
            }
        }
    }

    /// The term of another leader believed in. Its word of having stopped counts before its next heartbeat.
    fn other_leads(&self) -> Option<Term> {
        self.view.leads.filter(|term| !self.voter.is_released(*term))
    }

    fn hear_request(&mut self, acquire: &Acquire) {
        if acquire.trial {
            self.terms.hear(acquire.term);
        } else {
            self.terms.take(acquire.term);
        }
    }

    fn is_voter(&self) -> bool {
        self.site.voters.contains(self.site.me)
    }

    /// How many voters are more than half of them.
    fn quorum(&self) -> usize {
        if self.rules.keep(Rule::Majority) {
            self.site.voters.len() / 2 + 1
        } else {
            1
        }
    }
}

fn answer(term: Term, attempt: u64, verdict: Verdict) -> ElectionMessage {
    match verdict {
        Verdict::Granted => ElectionMessage::Granted { term, attempt },
        Verdict::Denied { promised, remaining } => ElectionMessage::Denied {
            term,
            attempt,
            promised,
            remaining_micros: u64::try_from(remaining.as_micros()).unwrap_or(u64::MAX),
            voters: None,
        },
    }
}

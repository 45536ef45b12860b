//! Owns who leads the site: this board's vote, and its own campaign and lease. At no instant do two boards hold a
//! valid lease, and the terms of successive holders rise. Must not judge who is alive (membership says it), and must
//! not know what a leader does (duties).
//!
//! A voter promises each term to one board at a time and for a bounded while; a board that holds such promises of
//! more than half of the voters leads until the oldest of them could end. No vote is written to disk: a restarted
//! voter waits until whatever it granted has run out (PaxosLease), and starts above the durably reserved ceiling.
//!
//! ```text
//!            quorum heard, no other's       turn has come      majority willing,
//!            claim                                             or soon           majority granted
//!   follow ──────────────────────▶ wait ──────────────▶ trial ────────────▶ ask ────────────────▶ lead ─┐ renew
//!     ▲ ▲                           ▲ │                 │  │                  │ release               ▲    │
//!     │ └── claim, or no quorum ────┼─┴─────────────────┘  └── refused or ────┤                       └────┘
//!     │                             └───────────────────────── no answer ─────┘                          │
//!     └───────────────────────────────── lease runs out, or stop: stop acting, then release ─────────────┘
//! ```
//!
//! A trial asks for the same judgement as a request but changes nothing, so that a board with a bad link to the
//! leader disturbs nobody; its answers say from when on each voter is free, so that the request lands just then. Where
//! a leader is known to have ended (it gave its term up, or its life is attested over) there is no trial. A leader that
//! meets a voter with a higher promise (it restarted) takes a higher term while its lease still runs: the vote is won
//! back without a gap.
//!
//! `core.rs` and what stands below it (`voter.rs`, `lease.rs`, `change.rs`, `durable.rs`, `terms.rs`) are what safety
//! rests on, and what the model check drives; `campaign.rs`, `reign.rs`, `pace.rs`, `rank.rs` and `trips.rs` only choose
//! when to do what the core allows.

mod campaign;
mod change;
pub(crate) mod core;
mod durable;
#[cfg(test)]
mod figures_tests;
pub(crate) mod jitter;
mod lease;
#[cfg(test)]
mod model;
mod pace;
mod rank;
mod reign;
pub(crate) mod rules;
mod sounding;
mod terms;
#[cfg(test)]
mod tests;
mod trips;
pub(crate) mod voter;
#[cfg(test)]
mod voter_tests;
#[cfg(test)]
mod world;

use ::core::time::Duration;
use alloc::collections::BTreeMap;

use self::core::{Core, Heard};
use crate::action::{Memory, WishAnswer};
use crate::config::{NodeConfig, Timing};
use crate::ids::{BoardId, BoardSet, Term, VoterId, VoterSet, Voters, WitnessId};
use crate::limits::{FOUNDING_WAIT, VOTERS_MAX};
use crate::outbox::Outbox;
use crate::time::{Deadline, Instant};
use crate::wire::election::ElectionMessage;
use crate::wire::heartbeat::Fitness;
use campaign::Campaign;
use jitter::Jitter;
use pace::Pace;
use rank::Rival;
use rules::{Rules, Settings};
use trips::Trips;

/// What this process starts from. The shell has made it durable before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The board's start counter, from 1. A board's first life has granted nothing before, and need not abstain.
    pub boot: u32,
    /// The nonce of this life's epoch: an obituary names it.
    pub nonce: u64,
    /// What is on disk. The ceiling of terms has been raised for this life by [`crate::limits::TERMS_RESERVED`] above
    /// that of the life before.
    pub memory: Memory,
    /// Seed of the pauses that keep candidates apart; any number, best a different one each life.
    pub seed: u64,
}

/// What membership says of the other boards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Boards heard, this one included.
    pub alive: BoardSet,
    /// Highest term that another board says it leads under, while its claim has not run out.
    pub leads: Option<Term>,
    /// Highest term any board has spoken of.
    pub seen: Term,
    /// How fit each board says it is to lead. Boards that are missing count as fit.
    pub fitness: BTreeMap<BoardId, Fitness>,
}

/// What the election asks for or tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram to a board or a witness; it may be lost.
    Tell {
        /// To whom.
        to: VoterId,
        /// What.
        message: ElectionMessage,
    },
    /// This board holds the lease from now on.
    Acquired {
        /// Under which term.
        term: Term,
    },
    /// The lease runs longer than told before.
    Extended {
        /// Its term.
        term: Term,
        /// From when on it may not be acted under.
        until: Instant,
    },
    /// This board does not act under this term any more. Where it won a higher term at the same instant,
    /// [`Output::Acquired`] follows at once.
    Lost {
        /// The term that ended.
        term: Term,
        /// Given up, rather than run out or replaced.
        released: bool,
    },
    /// Put this on disk, then call [`Election::handle_remembered`] with it. One at a time is asked for.
    Remember(Memory),
    /// The site has a leader under a higher term than the last one told.
    LeaderSeen {
        /// Its term, which names the board.
        term: Term,
    },
    /// From now on these vote, as far as this board is concerned.
    VotersChanged {
        /// Who.
        voters: Voters,
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
    /// Whether this voter has met a leader of its site since its disk remembers; where not, and others have, it grants
    /// nothing until it is told who leads.
    pub joined: bool,
    /// Witnesses that are reached and have not said of themselves that they have.
    pub strangers: VoterSet,
    /// Longest lease that this voter grants at once.
    pub longest: Duration,
    /// The lease that this board asks for where it leads.
    pub asks_for: Duration,
    /// Who votes.
    pub voters: Voters,
    /// Who is to vote in the end, while that is under way.
    pub wished: Option<VoterSet>,
    /// What the campaign is doing, in one word.
    pub campaign: &'static str,
    /// What is waited for.
    pub next: Deadline,
}

/// The election as one board sees it.
///
/// Contract: one input, then drain the outbox, then the next input. [`Election::handle_view`] follows every input
/// of membership; [`Election::handle_deadline`] is called at or after [`Election::next_deadline`], once all
/// messages that have arrived are handled. Before every exclusive effect ask [`Election::holds`] with a fresh `now`.
#[derive(Debug)]
pub struct Election {
    core: Core,
    timing: Timing,
    campaign: Campaign,
    /// The very end of the last lease that ran out, or a while after one that was given up: no campaign of this board
    /// before.
    rests_until: Instant,
    /// Rounds lost since there was a leader: spreads the next ones.
    failures: u32,
    jitter: Jitter,
    view: View,
    fitness: Fitness,
    /// Witnesses to which a connection stands.
    linked: VoterSet,
    /// Of these, those that have said that they would grant.
    willing: VoterSet,
    pace: Pace,
    /// A lease of this board ran out, and nobody else has led since.
    has_lapsed: bool,
    trips: Trips,
    rival: Option<Rival>,
    /// Highest term told as leader.
    told: Term,
    told_voters: Voters,
    is_stopped: bool,
    /// Until when this board, which has met no leader, waits for all other voters before it wants to lead; zero where it does
    /// not wait.
    founds_at: Instant,
    /// When witnesses are sounded next.
    sound_at: Instant,
}

impl Election {
    /// A board that knows of no leader. Call [`Election::handle_view`] when membership has something to say.
    pub fn new(config: &NodeConfig, life: Life, now: Instant) -> Self {
        Self::with_rules(config, life, now, Rules::default())
    }

    fn with_rules(config: &NodeConfig, life: Life, now: Instant, rules: Rules) -> Self {
        let timing = config.timing;
        let settings = Settings { rules, ..Settings::new(timing.lease) };
        let core = Core::new(config.board, config.voters, &life, settings, now);
        let mut alive = BoardSet::EMPTY;
        alive.insert(config.board);
        let founds_at = if core.voter.is_joined() {
            Instant::ZERO
        } else {
            now + FOUNDING_WAIT
        };
        Self {
            told_voters: core.voters(),
            core,
            timing,
            campaign: Campaign::Follow,
            rests_until: now,
            failures: 0,
            jitter: Jitter::new(life.seed),
            view: View { alive, ..View::default() },
            fitness: Fitness { priority: config.priority, ..Fitness::default() },
            linked: VoterSet::EMPTY,
            willing: VoterSet::EMPTY,
            pace: Pace::new(&timing),
            has_lapsed: false,
            trips: Trips::default(),
            rival: None,
            told: Term::ZERO,
            is_stopped: false,
            founds_at,
            sound_at: now,
        }
    }

    /// Membership has changed its mind, or only looked: equal views cost nothing.
    pub fn handle_view(&mut self, view: View, now: Instant, out: &mut Outbox<Output>) {
        self.core.hear(view.seen);
        if let Some(leads) = view.leads {
            self.core.take(leads);
        }
        self.view = view;
        self.settle(now, out);
    }

    /// How fit this board is to lead.
    pub fn handle_fitness(&mut self, fitness: Fitness, now: Instant, out: &mut Outbox<Output>) {
        self.fitness = fitness;
        self.settle(now, out);
    }

    /// The connection to a witness stands or fell.
    pub fn handle_witness_link(&mut self, witness: WitnessId, up: bool, now: Instant, out: &mut Outbox<Output>) {
        if up {
            self.linked.insert(witness.into());
            self.sound_at = now;
        } else {
            self.linked.remove(witness.into());
            self.willing.remove(witness.into());
        }
        self.settle(now, out);
    }

    /// A datagram from another board or a witness. A request or release under a term that is not the sender's own is
    /// passed over; a vote of somebody that has none is not counted.
    pub fn handle_message(&mut self, from: VoterId, message: &ElectionMessage, now: Instant, out: &mut Outbox<Output>) {
        let before = self.core.lease;
        let heard = self.core.handle_message(from, message, now, out);
        self.handle_heard(from, heard, now, out);
        self.note_extension(before, now);
        self.settle(now, out);
    }

    /// The supervisor of `board` has seen that life of it end: nothing of it acts any more.
    pub fn handle_obituary(&mut self, board: BoardId, life: u64, now: Instant, out: &mut Outbox<Output>) {
        let heard = self.core.handle_obituary(board, life);
        self.handle_heard(board.into(), heard, now, out);
        self.settle(now, out);
    }

    /// What [`Output::Remember`] asked for is on disk.
    pub fn handle_remembered(&mut self, memory: Memory, now: Instant, out: &mut Outbox<Output>) {
        self.core.handle_remembered(memory, now, out);
        self.hasten(now);
        self.settle(now, out);
    }

    /// The instant of [`Election::next_deadline`] has come, or passed.
    pub fn handle_deadline(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if now >= self.founds_at {
            self.founds_at = Instant::ZERO;
        }
        if let Some(lease) = self.core.expire(now, out) {
            self.campaign = Campaign::Follow;
            self.trips.forget_sent();
            self.rests_until = lease.valid_until;
            // Cut off, or robbed of renewals by loss? That is told by who leads next.
            self.has_lapsed = true;
            // Whoever did not answer may be dead, though it counts as heard: all voters are asked at once.
            self.failures = self.failures.max(1);
        }
        self.handle_campaign_deadline(now, out);
        if now >= self.sounds_at() {
            self.sound(now, out);
        }
        self.settle(now, out);
    }

    /// The process is about to end: this board stops acting, then tells that its term is free, and campaigns no
    /// more. Effects under way must have ended before. It keeps voting until the process ends.
    pub fn handle_stop(&mut self, now: Instant, out: &mut Outbox<Output>) {
        self.is_stopped = true;
        self.give_up(self.successor(None), out);
        self.settle(now, out);
    }

    /// A receiver of effects (the region) has seen `highest`, above what this board leads under: the site forgot it, or
    /// a part of it that cannot be heard leads. This board takes note, so that its next term lies above, and gives the
    /// lease up.
    pub fn handle_fenced(&mut self, highest: Term, now: Instant, out: &mut Outbox<Output>) {
        self.core.take(highest);
        self.give_up(None, out);
        self.settle(now, out);
    }

    /// Gives the leadership to `to`, or to the fittest other board that votes and is heard: to whom, where there is one
    /// and this board leads. All that it did as leader must have ended before.
    pub fn handle_hand_over(&mut self, to: Option<BoardId>, now: Instant, out: &mut Outbox<Output>) -> Option<BoardId> {
        self.core.holds(now)?;
        let to = self.successor(to)?;
        self.give_up(Some(to), out);
        self.rests_until = now + self.timing.lease;
        self.settle(now, out);
        Some(to)
    }

    /// Voters are to be these: one is added or taken away at a time, each step complete before the next. Refused where
    /// this board would lose its vote: it hands over first.
    pub fn handle_wish_voters(&mut self, set: VoterSet, now: Instant, out: &mut Outbox<Output>) -> WishAnswer {
        if self.core.holds(now).is_none() {
            return WishAnswer::NotLeading(self.leader_seen().and_then(Term::board));
        }
        if set.is_empty() || set.len() > VOTERS_MAX {
            return WishAnswer::Refused("1 to 7 can vote");
        }
        if !set.contains(self.core.me.into()) {
            return WishAnswer::Refused(
                "this board leads and would lose its vote: hand over first, then ask the next leader",
            );
        }
        if set == self.core.voters().set && self.core.wished.is_none() {
            return WishAnswer::Already;
        }
        self.core.wish(set);
        self.core.decide(now, out);
        self.settle(now, out);
        WishAnswer::Begun
    }

    /// An operator says that this board may vote though its disk remembers no leader and nobody tells it of one: the voters that could
    /// are gone for good. Refused until every lease that it may have forgotten has run out.
    pub fn handle_wish_vote(&mut self, now: Instant, out: &mut Outbox<Output>) -> WishAnswer {
        let answer = self.core.swear(now, out);
        self.settle(now, out);
        answer
    }

    /// When to call [`Election::handle_deadline`], and what for.
    pub fn next_deadline(&self) -> Deadline {
        let ends = self.core.lease.map_or(Deadline::NONE, |lease| Deadline {
            at: lease.ends(&self.core.settings),
            why: "the lease runs out",
        });
        let sounds = Deadline { at: self.sounds_at(), why: "the witness is kept ready" };
        let founds = match self.founds_at {
            Instant::ZERO => Deadline::NONE,
            at => Deadline { at, why: "the other voters of a new site" },
        };
        ends.min(self.campaign.next_deadline()).min(sounds).min(founds)
    }

    /// The lease held, and from when on it may not be acted under.
    pub fn lease(&self) -> Option<(Term, Instant)> {
        self.core.lease.map(|lease| (lease.term, lease.ends(&self.core.settings)))
    }

    /// The term under which this board may act at `now`: a majority backs it for [`crate::limits::LEASE_GUARD`] longer.
    pub fn holds(&self, now: Instant) -> Option<Term> {
        self.core.holds(now)
    }

    /// A fitter board that has been so for long enough, where this board leads: the node ends what it does as leader,
    /// then calls [`Election::handle_hand_over`].
    pub fn wants_hand_over(&self, now: Instant) -> Option<BoardId> {
        let rival = self.rival.filter(|rival| now >= rival.at)?;
        self.core.holds(now).map(|_| rival.board)
    }

    /// The term of the leader that this board believes in, itself included.
    pub fn leader_seen(&self) -> Option<Term> {
        let own = self.core.lease.map(|lease| lease.term);
        own.max(self.other_leads())
    }

    /// Whether this board leads and nothing that was done under an earlier lease can still go on: a majority of voters
    /// has nothing left that they granted before.
    pub fn is_clear(&self, now: Instant) -> bool {
        let held = self.core.holds(now);
        held.is_some()
            && self
                .core
                .pursuit
                .as_ref()
                .is_some_and(|pursuit| held == Some(pursuit.term()) && pursuit.is_clear())
    }

    /// Whether the leadership of `term` is known to have been given up.
    pub fn is_given_up(&self, term: Term) -> bool {
        self.core.voter.is_released(term)
    }

    /// The highest term this board knows of, for its heartbeats.
    pub fn seen(&self) -> Term {
        self.core.terms.heard()
    }

    /// Who votes.
    pub fn voters(&self) -> Voters {
        self.core.voters()
    }

    /// Where this board stands, for the status page.
    pub fn standing(&self, now: Instant) -> Standing {
        let voter = &self.core.voter;
        Standing {
            lease: self.lease(),
            granted: voter.live_grant(now),
            promised: voter.promised(),
            abstains_until: voter.abstains_until(now),
            joined: voter.is_joined(),
            strangers: self.strangers(),
            longest: voter.longest(),
            asks_for: self.pace.wanted(),
            voters: self.voters(),
            wished: self.core.wished,
            campaign: self.campaign.name(),
            next: self.next_deadline(),
        }
    }

    /// Re-checks what must always hold.
    ///
    /// # Panics
    /// Where it does not: the election has a bug, and the process must not go on acting.
    pub fn check(&self) {
        self.core.check();
    }

    /// Brings campaign, memory and what was told into line with the state after an input.
    fn settle(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if self.core.voter.is_joined() {
            self.founds_at = Instant::ZERO;
        }
        // Others led without it: it was cut off, and a longer lease would have helped nobody.
        self.has_lapsed &= self.other_leads().is_none();
        self.settle_campaign(now, out);
        self.core.remember(now, out);
        let others = self.others();
        self.rival = match self.campaign {
            Campaign::Lead(_) => rank::rival(&self.view.fitness, others, self.fitness, self.rival, now),
            Campaign::Follow | Campaign::Wait(_) | Campaign::Trial(_) | Campaign::Ask(_) => None,
        };
        if let Some(term) = self.leader_seen() {
            self.failures = 0;
            if term > self.told {
                self.told = term;
                out.push(Output::LeaderSeen { term });
            }
        }
        let voters = self.core.voters();
        if voters != self.told_voters {
            self.told_voters = voters;
            out.push(Output::VotersChanged { voters });
        }
    }

    /// The term of another leader believed in. Its word of having stopped counts before its next heartbeat.
    fn other_leads(&self) -> Option<Term> {
        self.view.leads.filter(|term| !self.core.voter.is_released(*term))
    }

    /// The other boards that vote and are heard.
    fn others(&self) -> BoardSet {
        let mut boards = self.core.voters().set.boards();
        boards.remove(self.core.me);
        boards.iter().filter(|board| self.view.alive.contains(*board)).collect()
    }

    /// Who is to lead after this board: `to` if it can, where one is named.
    fn successor(&self, to: Option<BoardId>) -> Option<BoardId> {
        match to {
            Some(to) => self.others().contains(to).then_some(to),
            None => rank::fittest(&self.view.fitness, self.others()),
        }
    }

    /// Stops acting and asking, and tells.
    fn give_up(&mut self, successor: Option<BoardId>, out: &mut Outbox<Output>) {
        self.core.release(successor, out);
        self.campaign = Campaign::Follow;
    }

    /// What a message or an obituary means to the campaign.
    fn handle_heard(&mut self, from: VoterId, heard: Heard, now: Instant, out: &mut Outbox<Output>) {
        match heard {
            Heard::Nothing => {}
            // A successor was named, most likely; where an obituary ended the term, none was.
            Heard::Ended(term) => self.handle_ended(term, 1, now),
            Heard::Died(term) => self.handle_ended(term, 0, now),
            Heard::HandedOver(term) => {
                self.handle_ended(term, 0, now);
                self.hasten_named(now);
            }
            Heard::Answer { term, attempt, verdict } => {
                self.trips.handle_answer(from, attempt, now);
                if from.witness().is_some() {
                    self.handle_sounded(from, verdict, now);
                }
                self.handle_answer(from, (term, attempt), verdict, now, out);
            }
        }
    }
}

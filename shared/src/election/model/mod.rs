//! The real core of the election, driven by a scheduler that may do anything at any time, for a search of every state
//! (stateright): clocks up to 2:1 apart, a network that delays, repeats, reorders and loses, crashes and restarts. Owns
//! the moves and what must hold after each; the bounds of each search stand in `tests.rs`.
//!
//! Time is whole units: at each tick every clock advances by one unit or by two. The network is a set that only grows:
//! what is in it may arrive at any time, again and again, or never. A lease of `near` units is asked of boards and one of
//! `far` units of witnesses.

extern crate std;

mod steps;
mod tests;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use stateright::{Model, Property};

use super::core::Core;
use super::lease::Spans;
use super::rules::{Rule, Rules, Settings};
use super::voter::Voter;
use crate::action::Memory;
use crate::ids::{BoardId, Term, VoterId, VoterSet, Voters};
use crate::time::Instant;
use crate::wire::election::ElectionMessage;

/// How wrong a clock may be so that two are 2:1 apart.
const DRIFT: u64 = 333;
/// Every clock always shows this: time counts from now on, so that a search needs no end of time.
const NOW: Instant = Instant::from_micros(100);
/// Terms reserved for a life: more than any search needs, but for a few that need the ceiling.
const RESERVED: u64 = 8;

/// The bounds of one search.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) name: &'static str,
    /// Who votes at first; every board and witness of `machines` exists.
    pub(super) voters: VoterSet,
    pub(super) machines: VoterSet,
    pub(super) near: u64,
    pub(super) far: u64,
    /// What voters are ready for from the start, in units.
    pub(super) usual: u64,
    /// Campaigns a board.
    pub(super) begins: u8,
    /// All others: of all machines together.
    pub(super) renewals: u8,
    pub(super) crashes: u8,
    /// Disks replaced by empty ones while the others remember.
    pub(super) disks: u8,
    /// Whether nobody has met a leader yet.
    pub(super) is_new: bool,
    /// The longest lease that anybody may ask for; longer than what is asked for here only where that makes a difference.
    pub(super) longest: u64,
    pub(super) releases: u8,
    pub(super) hand_overs: u8,
    pub(super) waives: u8,
    /// Trials of a leader at a witness.
    pub(super) sounds: u8,
    pub(super) obituaries: u8,
    /// What each board may wish once, where it leads.
    pub(super) wishes: Vec<(BoardId, VoterSet)>,
    /// Whether a writing takes a step of its own.
    pub(super) slow_disk: bool,
    pub(super) rule: Option<Rule>,
}

/// What is left of a search's bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Left {
    begins: Vec<u8>,
    renewals: u8,
    crashes: u8,
    disks: u8,
    releases: u8,
    hand_overs: u8,
    waives: u8,
    sounds: u8,
    obituaries: u8,
    wishes: u8,
}

#[allow(clippy::large_enum_variant, reason = "boxes would only slow the search")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "two of three are the large one")]
pub(super) enum Mind {
    Down,
    Board(Core),
    Witness(Voter),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Machine {
    id: VoterId,
    clock: Instant,
    boot: u32,
    /// Starts before its disk was replaced.
    before: u32,
    memory: Memory,
    writing: Option<Memory>,
    mind: Mind,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Letter {
    Election(ElectionMessage),
    Obituary { board: BoardId, life: u64 },
}

/// A site at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Site {
    machines: Vec<Machine>,
    net: BTreeSet<(VoterId, VoterId, Letter)>,
    left: Left,
    /// Lives that ended and were not attested yet.
    ended: Vec<(BoardId, u64)>,
    /// The term of the last holder.
    last: Term,
    /// What a step broke.
    fault: Option<&'static str>,
    /// What has happened, so that a search is known not to be empty.
    seen: Seen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    leaders: u8,
    obituary: bool,
    hand_over: bool,
    waived: bool,
    changed: bool,
}

/// One move of the scheduler; machines by their place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Bit n: the clock of machine n advances by two.
    Tick(u8),
    Deliver(VoterId, VoterId, Letter),
    Begin(usize),
    Renew(usize),
    GiveUp(usize),
    Release(usize),
    HandOver(usize, BoardId),
    Waive(usize, VoterId),
    Sound(usize, VoterId),
    Raise(usize),
    Crash(usize, bool),
    Replace(usize),
    Restart(usize),
    Attest(BoardId, u64),
    Wish(usize, VoterSet),
    Write(usize),
}

impl Search {
    fn settings(&self, id: VoterId) -> Settings {
        Settings {
            drift_permille: DRIFT,
            guard: Duration::ZERO,
            lease_max: Duration::from_micros(self.near.max(self.far).max(self.longest)),
            lease_usual: Duration::from_micros(if id.board().is_some() { self.usual } else { 0 }),
            terms_reserved: RESERVED,
            rules: Rules { broken: self.rule },
        }
    }

    fn spans(&self) -> Spans {
        Spans { near: Duration::from_micros(self.near), far: Duration::from_micros(self.far) }
    }

    fn configured(&self) -> Voters {
        Voters { version: Voters::CONFIGURED, set: self.voters }
    }

    fn first(&self, id: VoterId) -> Machine {
        let longest_micros = if id.board().is_some() { self.usual } else { self.far };
        let memory = Memory { longest_micros, joined: !self.is_new, ..Memory::default() };
        let mut machine = Machine { id, clock: NOW, boot: 0, before: 0, memory, writing: None, mind: Mind::Down };
        if id.board().is_none() {
            machine.memory.term_ceiling = RESERVED;
        }
        machine.restart(self);
        machine
    }
}

impl Site {
    pub(super) fn holders(&self) -> Vec<(BoardId, Term)> {
        let holds = |machine: &Machine| match &machine.mind {
            Mind::Board(core) => core.holds(machine.clock).map(|term| (core.me, term)),
            Mind::Witness(_) | Mind::Down => None,
        };
        self.machines.iter().filter_map(holds).collect()
    }

    /// S7: each of a majority stands behind the holder, or cannot stand behind another because it restarted.
    fn is_backed(&self) -> bool {
        let holds = |machine: &Machine| match &machine.mind {
            Mind::Board(core) => core.holds(machine.clock).map(|_| (core.me, core.voters())),
            Mind::Witness(_) | Mind::Down => None,
        };
        self.machines.iter().filter_map(holds).all(|(me, voters)| {
            let backs = |machine: &&Machine| voters.set.contains(machine.id) && machine.backs(me);
            self.machines.iter().filter(backs).count() >= voters.quorum()
        })
    }
}

impl Machine {
    fn voter(&self) -> Option<&Voter> {
        match &self.mind {
            Mind::Board(core) => Some(&core.voter),
            Mind::Witness(voter) => Some(voter),
            Mind::Down => None,
        }
    }

    fn backs(&self, board: BoardId) -> bool {
        self.voter().is_none_or(|voter| {
            let grants = voter
                .live_grant(self.clock)
                .is_some_and(|(term, _)| term.board() == Some(board));
            grants || voter.abstains_until(self.clock).is_some() || !voter.is_joined()
        })
    }
}

impl Model for Search {
    type State = Site;
    type Action = Step;

    fn init_states(&self) -> Vec<Site> {
        let boards = self.machines.boards().len();
        let left = Left {
            begins: alloc::vec![self.begins; boards],
            renewals: self.renewals,
            crashes: self.crashes,
            disks: self.disks,
            releases: self.releases,
            hand_overs: self.hand_overs,
            waives: self.waives,
            sounds: self.sounds,
            obituaries: self.obituaries,
            wishes: u8::MAX,
        };
        alloc::vec![Site {
            machines: self.machines.iter().map(|id| self.first(id)).collect(),
            net: BTreeSet::new(),
            left,
            ended: Vec::new(),
            last: Term::ZERO,
            fault: None,
            seen: Seen::default(),
        }]
    }

    fn actions(&self, site: &Site, actions: &mut Vec<Step>) {
        site.steps(self, actions);
    }

    fn next_state(&self, site: &Site, step: Step) -> Option<Site> {
        let mut next = site.clone();
        next.take(self, &step);
        next.judge();
        next.tidy(self);
        (next != *site).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = alloc::vec![
            Property::always("S1 one holder at most", |_, site: &Site| site.holders().len() <= 1),
            Property::always("S2 S3 S4 S6 S8 each step keeps them", |_, site: &Site| site.fault.is_none()),
            Property::always("S7 a majority stands behind the holder", |_, site: &Site| site.is_backed()),
            Property::sometimes("somebody leads", |_, site: &Site| site.seen.leaders > 0),
        ];
        properties.push(Property::sometimes("a second one leads", |_, site: &Site| site.seen.leaders > 1));
        if self.obituaries > 0 {
            properties.push(Property::sometimes("an obituary takeover", |_, site: &Site| {
                site.seen.obituary && site.seen.leaders > 1
            }));
        }
        if self.hand_overs > 0 {
            properties.push(Property::sometimes("a hand-over", |_, site: &Site| {
                site.seen.hand_over && site.seen.leaders > 1
            }));
        }
        if self.disks > 0 {
            properties.push(Property::sometimes("a board that forgot has met a leader", |_, site: &Site| {
                let has_met = |machine: &Machine| machine.voter().is_some_and(Voter::is_joined) && machine.before > 0;
                site.machines.iter().any(has_met)
            }));
        }
        if self.waives > 0 {
            properties.push(Property::sometimes("a waived witness", |_, site: &Site| site.seen.waived));
        }
        if !self.wishes.is_empty() {
            properties.push(Property::sometimes("a change is complete", |_, site: &Site| site.seen.changed));
        }
        properties
    }
}

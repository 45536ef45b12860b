//! A board as a machine: its disk, its clock, and the process on it, if one runs. Decides nothing; `boards.rs` moves it.

use std::collections::{BTreeMap, VecDeque};

use shared::action::Offer;
use shared::config::NodeConfig;
use shared::ids::{BoardId, DutyId, Term, Ticket};
use shared::node::Node;

use crate::clock::{Moment, SkewedClock};
use crate::dice::Dice;
use crate::disk::{Disk, DiskSpeed};
use crate::duty::Worker;
use crate::happening::Input;
use crate::mark::Mark;

/// Datagrams that wait for a process which stands still; more are dropped.
const WAITS_MAX: usize = 256;

/// Counts the processes that a board has run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life(pub(crate) u64);

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) mark: Mark,
    pub(crate) connection: u64,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) node: Node,
    /// Publishes read from sockets that the node has not taken yet.
    pub(crate) inbox: VecDeque<Offer>,
    /// An event that hands over the inbox is on the agenda.
    pub(crate) serves: bool,
    pub(crate) tickets: BTreeMap<Ticket, Waiting>,
    pub(crate) next_ticket: u64,
    /// Earliest wake on the agenda.
    pub(crate) wake: Moment,
    /// While the process does not run (SIGSTOP, a starved host): what waits for it.
    pub(crate) frozen: Option<VecDeque<Input>>,
    /// Dies after so many more actions.
    pub(crate) dies_after: Option<u64>,
    /// The node has visibly said that fewer than k boards keep each record.
    pub(crate) degraded: bool,
    /// It was asked to stop.
    pub(crate) stops: bool,
    /// Handles of the deadline since then: a deadline that does not move on is a bug.
    pub(crate) spins: (Moment, u32),
}

impl Process {
    pub(crate) fn new(node: Node) -> Self {
        Self {
            node,
            inbox: VecDeque::new(),
            serves: false,
            tickets: BTreeMap::new(),
            next_ticket: 1,
            wake: Moment::NEVER,
            frozen: None,
            dies_after: None,
            degraded: false,
            stops: false,
            spins: (Moment::ZERO, 0),
        }
    }

    pub(crate) const fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }
}

/// A board.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) id: BoardId,
    pub(crate) config: NodeConfig,
    pub(crate) disk: Disk,
    pub(crate) speed: DiskSpeed,
    pub(crate) clock: SkewedClock,
    pub(crate) dice: Dice,
    pub(crate) process: Option<Process>,
    pub(crate) life: Life,
    /// Gone for ever, disk and all.
    pub(crate) lost: bool,
    /// Disks that were here before: what was on them when they were replaced, or lost with the board.
    pub(crate) took_along: Vec<Disk>,
    /// Processes of duties, as the supervisor has them.
    pub(crate) workers: BTreeMap<DutyId, Worker>,
    /// The nonce of the newest life's epoch: what its obituary names.
    pub(crate) nonce: u64,
    /// Lives that its supervisor has seen end badly since it was started.
    pub(crate) restarts: u32,
    /// Counts ends of the supervisor: what an earlier one was about to do is void.
    pub(crate) machine: u64,
    /// Its processors are overrun until then.
    pub(crate) starved_until: Moment,
    /// It does not start before: a voter whose disk is empty stays away for the longest lease.
    pub(crate) not_before: Moment,
    /// Held down by a scenario: no boot that is due happens.
    pub(crate) kept_down: bool,
}

impl Board {
    /// Whether a process runs and is not frozen.
    pub(crate) fn runs(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.is_frozen())
    }

    /// Whether its process was asked to stop, and has still to.
    pub(crate) fn stops(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.stops)
    }

    /// Whether so much waits for a process that stands still that datagrams are dropped, as a socket's buffer does.
    pub(crate) fn is_drowned(&self) -> bool {
        let frozen = self.process.as_ref().and_then(|process| process.frozen.as_ref());
        frozen.is_some_and(|waits| waits.len() >= WAITS_MAX)
    }

    /// The term under which this board holds a lease at `now`, by its own clock.
    pub(crate) fn holds(&self, now: Moment) -> Option<Term> {
        self.process
            .as_ref()
            .and_then(|process| process.node.holds(self.clock.local(now)))
    }

    /// Whether the reading is, or was when the board was lost, durable here.
    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.disk.holds(mark) || self.took_along.iter().any(|disk| disk.holds(mark))
    }
}

//! What a person sees of a node: a snapshot for `/status`, the metrics and the command line. Reads, never decides.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;

use crate::duties::Duty;
use crate::ids::BoardId;
use crate::node::{Node, Region};
use crate::time::{Deadline, Instant};
use crate::uplink::Route;
use crate::wire::uplink::BoardReport;

/// A node at one instant. Times are milliseconds from that instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The site's name.
    pub site: String,
    /// This board.
    pub board: u8,
    /// This life of its journal: start counter and nonce.
    pub epoch: String,
    /// The leader this board believes in.
    pub leader: Option<u8>,
    /// That leader's term, as a fencing token.
    pub term: u64,
    /// Whether this board leads, and for how long its lease still runs.
    pub lease_remaining_ms: Option<u64>,
    /// Duties that this board runs now.
    pub duties: Vec<&'static str>,
    /// Where this board's blocks go: `closed`, `region`, `holder`.
    pub uplink: &'static str,
    /// The session with the region, where this board holds `uplink`: `idle`, `dialling`, `open`.
    pub region: &'static str,
    /// Whether records are taken in.
    pub accepts: bool,
    /// Whether fewer than k boards live.
    pub degraded: bool,
    /// Whether the journal is poisoned: the process is about to end.
    pub poisoned: bool,
    /// Records numbered since the start.
    pub accepted: u64,
    /// Records committed since the start.
    pub committed: u64,
    /// Of these, on fewer than k boards.
    pub degraded_records: u64,
    /// Records that nobody waits for (QoS 0) since the start.
    pub unacknowledged: u64,
    /// Records committed on fewer than k boards whose missing copies are still to be made.
    pub owed: u64,
    /// Publishes refused for what they are since the start.
    pub refused: u64,
    /// Records that wait for their commit.
    pub uncommitted: usize,
    /// Runs sent to one more peer because a copy was late.
    pub hedged: u64,
    /// Records in this board's journal, own and copies, that the region does not cover.
    pub backlog: u64,
    /// Journal segments in use.
    pub segments: usize,
    /// Journal segments there may be.
    pub segments_max: usize,
    /// The boards of the site as this one sees them.
    pub boards: Vec<PeerStatus>,
    /// What is waited for next.
    pub waits_for: &'static str,
    /// Every deadline by name, the nearest first.
    pub deadlines: Vec<DeadlineStatus>,
}

/// Another board as this one sees it, and this one itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Which.
    pub board: u8,
    /// Whether it is heard (or has not been silent for long enough to count as down).
    pub alive: bool,
    /// Whether the reliable connection to it stands; true of this board itself.
    pub linked: bool,
    /// Whether it votes.
    pub votes: bool,
}

/// Something that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadlineStatus {
    /// In words.
    pub why: &'static str,
    /// How long still.
    pub in_ms: u64,
}

impl Node {
    /// The node as it is at `now`.
    pub fn status(&self, now: Instant) -> Status {
        let admitted = self.admission.counts();
        let committed = self.replication.counts();
        let lease = self.election.standing(now).lease;
        let leader = self.election.leader_seen();
        let (segments, segments_max) = self.journal.fill();
        Status {
            site: self.config.site.to_string(),
            board: self.config.board.get(),
            epoch: self.origin.epoch.to_string(),
            leader: leader.and_then(|term| term.board()).map(BoardId::get),
            term: leader.map_or(0, |term| term.token()),
            lease_remaining_ms: lease.map(|(_, until)| millis(until, now)),
            duties: self.duties(),
            uplink: match self.uplink.route() {
                Route::Closed => "closed",
                Route::Region(_) => "region",
                Route::Holder(..) => "holder",
            },
            region: match self.region {
                Region::Idle => "idle",
                Region::Dialling(_) => "dialling",
                Region::Open(_) => "open",
            },
            accepts: self.accepts(),
            degraded: self.degraded.is_some(),
            poisoned: self.journal.is_poisoned(),
            accepted: admitted.accepted,
            committed: committed.committed,
            degraded_records: committed.degraded,
            unacknowledged: admitted.unacknowledged,
            owed: self.refill.owed(),
            refused: admitted.refused,
            uncommitted: self.admission.waiting(),
            hedged: committed.hedged,
            backlog: self.uplink.backlog(self.journal.held()),
            segments,
            segments_max,
            boards: self.config.boards.iter().map(|board| self.peer_status(board)).collect(),
            waits_for: self.next_deadline().why,
            deadlines: self.deadlines(now),
        }
    }

    /// Journal epoch and counters for the region.
    pub(super) fn own_report(&self) -> BoardReport {
        let admitted = self.admission.counts();
        let committed = self.replication.counts();
        BoardReport {
            board: self.config.board,
            epoch: self.origin.epoch,
            alive: true,
            accepted: admitted.accepted,
            committed: committed.committed,
            degraded: committed.degraded,
            unacknowledged: admitted.unacknowledged,
            shed: 0,
            backlog: self.uplink.backlog(self.journal.held()),
        }
    }

    fn duties(&self) -> Vec<&'static str> {
        let held = |duty: &Duty| self.duties.performs(*duty).is_some();
        Duty::ALL.into_iter().filter(held).map(Duty::as_str).collect()
    }

    fn peer_status(&self, board: BoardId) -> PeerStatus {
        let own = board == self.config.board;
        PeerStatus {
            board: board.get(),
            alive: self.membership.alive().contains(board),
            linked: own || self.linked.contains(board),
            votes: self.config.voters.set.contains(board.into()),
        }
    }

    fn deadlines(&self, now: Instant) -> Vec<DeadlineStatus> {
        let mut all: Vec<Deadline> = [
            self.membership.next_deadline(),
            self.election.next_deadline(),
            self.replication.next_deadline(),
            self.sealer.next_deadline(),
            self.uplink.next_deadline(),
        ]
        .into_iter()
        .filter(|deadline| deadline.at != Instant::NEVER)
        .collect();
        all.sort_by_key(|deadline| deadline.at);
        all.into_iter()
            .map(|deadline| DeadlineStatus { why: deadline.why, in_ms: millis(deadline.at, now) })
            .collect()
    }
}

fn millis(at: Instant, now: Instant) -> u64 {
    u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX)
}

//! What a person sees of a node: a snapshot for `/status`, the metrics and the command line. Reads, never decides.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;

use crate::config::DutyMode;
use crate::duties::{Duty, DutyLine};
use crate::ids::{BoardId, Class, WitnessId};
use crate::limits::HOLES_LISTED_MAX;
use crate::node::{Node, Region};
use crate::ranges::SeqRange;
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
    /// Why the leader before leads no more, as far as this board knows.
    pub leader_why: &'static str,
    /// Whether no board leads for longer than a takeover takes: exclusive duties rest, all else goes on.
    pub autonomous: bool,
    /// Whether this board leads, and for how long its lease still runs.
    pub lease_remaining_ms: Option<u64>,
    /// What this board's vote does.
    pub vote: VoteStatus,
    /// Duties that this board performs now: the product's own and the users'.
    pub duties: Vec<String>,
    /// The users' duties, wherever they are performed.
    pub user_duties: Vec<DutyStatus>,
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
    /// Records held here that lack copies which this board is to make.
    pub owed: u64,
    /// How the journal is verified, and what of it is damaged and missing.
    pub repair: RepairStatus,
    /// Publishes refused for what they are since the start.
    pub refused: u64,
    /// Records that wait for their commit.
    pub uncommitted: usize,
    /// Runs sent to one more peer because a copy was late.
    pub hedged: u64,
    /// Records in this board's journal, own and copies, that the region does not cover.
    pub backlog: u64,
    /// Records shed since the start.
    pub shed: ShedStatus,
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
    /// What happened lately on the control path, the newest first.
    pub history: Vec<HistoryLine>,
}

/// Records shed because the journal was full, by class; alarms never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShedStatus {
    /// Events.
    pub event: u64,
    /// Bulk.
    pub bulk: u64,
}

/// How the journal is verified, and what of it is damaged and missing. Counters run from the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RepairStatus {
    /// Bytes of the journal verified.
    pub verified_bytes: u64,
    /// Passes over the whole journal.
    pub passes: u64,
    /// The segment that is verified next or now, while a pass is under way.
    pub verifying: Option<u64>,
    /// Damaged places in segments that are still there.
    pub damaged_places: usize,
    /// Records missing here that the region is not known to cover: they are asked for.
    pub missing: u64,
    /// Which these are, the first few ranges.
    pub holes: Vec<HoleStatus>,
    /// Records that were missing and are held again.
    pub repaired: u64,
    /// Records that no board can read any more.
    pub gone: u64,
}

/// Records that are missing here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HoleStatus {
    /// Of which stream.
    pub stream: String,
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// Who votes, and what this board's vote does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VoteStatus {
    /// Counts the changes of who votes.
    pub version: u64,
    /// Boards that vote.
    pub boards: Vec<u8>,
    /// Witnesses that vote.
    pub witnesses: Vec<u8>,
    /// Of these, those whose connection stands.
    pub witnesses_reached: Vec<u8>,
    /// Of these, those that have not told this board that they have met a leader of the site: they grant nothing to members until
    /// they have been told.
    pub witnesses_strange: Vec<u8>,
    /// The term that this board has granted a lease, if that still runs.
    pub granted_term: Option<u64>,
    /// How long it still runs.
    pub granted_remaining_ms: Option<u64>,
    /// How long this board still grants nothing, because it restarted.
    pub abstains_ms: Option<u64>,
    /// Whether it has met a leader of the site since its disk remembers. One that has not is new, or its disk is: it grants
    /// nothing to boards that have, until the leader has told it, which takes up to [`crate::limits::LEASE_MAX`].
    pub joined: bool,
    /// What this board's campaign is doing: `follow`, `wait`, `trial`, `ask`, `lead`.
    pub campaign: &'static str,
    /// How fit this board is to lead: whether it may, has been steady, and reaches the region.
    pub eligible: bool,
    /// It has not flapped lately.
    pub steady: bool,
    /// It has not failed to reach the region lately.
    pub uplink_ok: bool,
    /// How its machine is: 0 to 3.
    pub health: u8,
    /// The operator's preference.
    pub priority: u8,
}

/// A user's duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DutyStatus {
    /// Its name.
    pub name: String,
    /// `exclusive` or `available`.
    pub mode: &'static str,
    /// Boards that perform it: all, as the leader has decided; elsewhere this board alone, where it does.
    pub holders: Vec<u8>,
    /// The fencing token that it is performed under.
    pub token: Option<u64>,
    /// How long this board may still act in it, where it does and the duty needs a lease.
    pub remaining_ms: Option<u64>,
    /// How long its holders have it, where this board leads.
    pub since_ms: Option<u64>,
    /// Why it last moved, where this board leads.
    pub why: &'static str,
    /// What it waits for.
    pub waits_for: &'static str,
    /// Its process on this board: `none`, `failed`, `starting`, `stands by`, `acts`.
    pub process: &'static str,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryLine {
    /// How long ago.
    pub ago_ms: u64,
    /// What, in words.
    pub what: String,
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
    /// How long nothing was heard of it, where this board listens to it.
    pub silent_ms: Option<u64>,
    /// How much of what it sends is lost on the way here, in permille, where this board listens to it.
    pub loss_permille: Option<u16>,
    /// Boards that should hear it and do not.
    pub missed_by: Vec<u8>,
    /// Whether it is heard by some boards and not by others.
    pub impaired: bool,
    /// Whether it has not flapped lately.
    pub steady: bool,
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
        let leader = self.leader_term();
        let (segments, segments_max) = self.journal.fill();
        Status {
            site: self.config.site.to_string(),
            board: self.config.board.get(),
            epoch: self.origin.epoch.to_string(),
            leader: leader.and_then(|term| term.board()).map(BoardId::get),
            term: leader.map_or(0, |term| term.token()),
            leader_why: self.leader_why(),
            autonomous: self.is_autonomous,
            lease_remaining_ms: lease.map(|(_, until)| millis(until, now)),
            vote: self.vote_status(now),
            duties: self.performed(now),
            user_duties: self.duties.lines(now).into_iter().map(|line| duty_status(&line, now)).collect(),
            uplink: match self.uplink.route() {
                Route::Closed => "closed",
                Route::Region(_) => "region",
                Route::Holder(..) => "holder",
            },
            region: match self.region {
                Region::Idle => "idle",
                Region::Dialling(_) | Region::Ahead(_) => "dialling",
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
            repair: self.repair_status(),
            refused: admitted.refused,
            uncommitted: self.admission.waiting(),
            hedged: committed.hedged,
            backlog: self.uplink.backlog(self.journal.held()),
            shed: ShedStatus { event: self.shed[Class::Event as usize], bulk: self.shed[Class::Bulk as usize] },
            segments,
            segments_max,
            boards: self.config.boards.iter().map(|board| self.peer_status(board, now)).collect(),
            waits_for: self.next_deadline().why,
            deadlines: self.deadlines(now),
            history: self
                .chronicle
                .lines()
                .map(|(at, what)| HistoryLine { ago_ms: millis(now, at), what: what.to_string() })
                .collect(),
        }
    }

    fn repair_status(&self) -> RepairStatus {
        let (verified, repair) = (self.upkeep.scrub.counts(), &self.upkeep.repair);
        let holes = repair.holes().iter().flat_map(|(stream, ranges)| {
            let line =
                |range: &SeqRange| HoleStatus { stream: stream.to_string(), first: range.first, last: range.last };
            ranges.ranges().iter().map(line)
        });
        RepairStatus {
            verified_bytes: verified.bytes,
            passes: verified.passes,
            verifying: self.upkeep.scrub.at().map(|segment| segment.0),
            damaged_places: self.journal.damaged_places(),
            missing: repair.missing(),
            holes: holes.take(HOLES_LISTED_MAX).collect(),
            repaired: repair.counts().filled,
            gone: repair.counts().gone,
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
            shed: self.shed.iter().sum(),
            backlog: self.uplink.backlog(self.journal.held()),
        }
    }

    fn vote_status(&self, now: Instant) -> VoteStatus {
        let standing = self.election.standing(now);
        let voters = self.election.voters();
        let fitness = self.own.at(now);
        VoteStatus {
            version: voters.version,
            boards: voters.set.boards().iter().map(BoardId::get).collect(),
            witnesses: voters.set.witnesses().map(WitnessId::get).collect(),
            witnesses_reached: self.witnesses.iter().map(|witness| witness.get()).collect(),
            witnesses_strange: standing.strangers.witnesses().map(WitnessId::get).collect(),
            granted_term: standing.granted.map(|(term, _)| term.token()),
            granted_remaining_ms: standing.granted.map(|(_, until)| millis(until, now)),
            abstains_ms: standing.abstains_until.map(|until| millis(until, now)),
            joined: standing.joined,
            campaign: standing.campaign,
            eligible: fitness.eligible,
            steady: fitness.steady,
            uplink_ok: fitness.uplink,
            health: fitness.health,
            priority: fitness.priority,
        }
    }

    fn performed(&self, now: Instant) -> Vec<String> {
        let own = Duty::ALL.into_iter().filter(|duty| self.duties.performs(*duty).is_some());
        let own = own.map(|duty| duty.as_str().to_string());
        let users = self.duties.lines(now).into_iter().filter(|line| line.process == "acts");
        own.chain(users.map(|line| line.name.to_string())).collect()
    }

    fn peer_status(&self, board: BoardId, now: Instant) -> PeerStatus {
        let own = board == self.config.board;
        let view = self.membership.status(now).find(|view| view.board == board);
        let observed = view.filter(|view| view.observed);
        PeerStatus {
            board: board.get(),
            alive: self.membership.is_alive(board),
            linked: own || self.linked.contains(board),
            votes: self.election.voters().set.contains(board.into()),
            silent_ms: observed.and_then(|view| view.silent_ms),
            loss_permille: observed.map(|view| view.loss_permille),
            missed_by: view.map_or(Vec::new(), |view| view.missed_by.iter().map(BoardId::get).collect()),
            impaired: view.is_some_and(|view| view.impaired),
            steady: view.is_none_or(|view| !view.unsteady),
        }
    }

    fn deadlines(&self, now: Instant) -> Vec<DeadlineStatus> {
        let mut all: Vec<Deadline> = [
            self.membership.next_deadline(),
            self.election.next_deadline(),
            self.duties.next_deadline(),
            self.own.next_deadline(),
            self.replication.next_deadline(),
            self.sealer.next_deadline(),
            self.uplink.next_deadline(),
            self.refill.next_deadline(),
            self.upkeep_deadline(),
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

fn duty_status(line: &DutyLine, now: Instant) -> DutyStatus {
    DutyStatus {
        name: line.name.to_string(),
        mode: match line.mode {
            DutyMode::Exclusive => "exclusive",
            DutyMode::Available { .. } => "available",
        },
        holders: line.holders.iter().map(|board| board.get()).collect(),
        token: line.token.map(|token| token.token()),
        remaining_ms: line.until.map(|until| millis(until, now)),
        since_ms: line.since.map(|since| millis(now, since)),
        why: line.why,
        waits_for: line.waits_for,
        process: line.process,
    }
}

fn millis(at: Instant, now: Instant) -> u64 {
    u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX)
}

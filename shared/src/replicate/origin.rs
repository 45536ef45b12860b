//! The origin's side: every run of this board from its number to its commit. Owns who was sent a copy and who
//! confirmed it. Committed means: fsynced here and on k-1 others; where fewer than k boards live, on all that do.
//!
//! ```text
//!  numbered ─▶ written here ∥ sent to k-1 peers ─▶ synced here, confirmed by k-1 ─▶ committed, in order
//!                              └─ late, or its link fell: sent to one more
//! ```

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::action::OwnRun;
use crate::ids::{BoardId, BoardSet, Class, Origin, Seq, Stream};
use crate::limits::RUN_RECORDS_MAX;
use crate::outbox::Outbox;
use crate::ranges::{RangeSet, SeqRange};
use crate::time::{Deadline, Instant};
use crate::wire::peer::Run;

/// Runs of this board that are not committed yet.
#[derive(Debug)]
pub struct Replication {
    origin: Origin,
    /// k.
    copies: usize,
    hedge_after: Duration,
    /// Peers in the order in which this origin prefers them as keepers (rendezvous hashing).
    preference: Vec<BoardId>,
    waiting: BTreeMap<Class, VecDeque<Waiting>>,
    committed: BTreeMap<Class, Seq>,
    counts: CommitCounts,
}

/// What was committed since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitCounts {
    /// Records committed.
    pub committed: u64,
    /// Of these, records on fewer than k boards, because fewer lived.
    pub degraded: u64,
    /// Runs sent to one more peer because a copy was late.
    pub hedged: u64,
}

/// The boards as the control path sees them.
#[derive(Clone, Copy, Debug)]
pub struct Peers {
    /// Not known to be down.
    pub alive: BoardSet,
    /// Reliable connection stands.
    pub linked: BoardSet,
}

/// What the stage asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this copy.
    Copy {
        /// To whom.
        to: BoardId,
        /// What.
        run: Run,
    },
}

/// A run that has committed.
#[derive(Debug)]
pub struct Committed {
    /// The run and its publishers.
    pub own: OwnRun,
    /// Boards that hold it, this one included, as known at commit.
    pub copies: usize,
}

#[derive(Debug)]
struct Waiting {
    own: OwnRun,
    synced: bool,
    sent: BoardSet,
    confirmed: BoardSet,
    sent_at: Instant,
}

impl Replication {
    /// Replication for a new life of this board's journal among `peers`.
    pub fn new(origin: Origin, peers: BoardSet, copies: usize, hedge_after: Duration) -> Self {
        Self {
            origin,
            copies,
            hedge_after,
            preference: preference(origin, peers),
            waiting: BTreeMap::new(),
            committed: BTreeMap::new(),
            counts: CommitCounts::default(),
        }
    }

    /// From now on these are the peers. Copies on a board that left still count: they are on its disk.
    pub fn handle_peers(&mut self, peers: BoardSet) {
        self.preference = preference(self.origin, peers);
    }

    /// Takes over a numbered run that is being written here, and sends its copies.
    pub fn handle_run(&mut self, own: OwnRun, peers: Peers, now: Instant, out: &mut Outbox<Output>) {
        let mut waiting =
            Waiting { own, synced: false, sent: BoardSet::EMPTY, confirmed: BoardSet::EMPTY, sent_at: now };
        send(&mut waiting, self.copies - 1, &self.preference, peers, now, out);
        let class = waiting.own.run.stream.class;
        self.waiting.entry(class).or_default().push_back(waiting);
    }

    /// Records of this life are durable here.
    pub fn handle_synced(&mut self, stream: &Stream, range: SeqRange) {
        if stream.origin == self.origin {
            self.each_in(stream.class, range, |waiting| waiting.synced = true);
        }
    }

    /// `from` holds these records durably.
    pub fn handle_durable(&mut self, from: BoardId, stream: &Stream, range: SeqRange) {
        if stream.origin == self.origin {
            self.each_in(stream.class, range, |waiting| {
                waiting.confirmed.insert(from);
            });
        }
    }

    /// The region has stored the records `covered` of `stream`: safer than any copy here. A run counts once all of
    /// it is there.
    pub fn handle_covered(&mut self, stream: &Stream, covered: &RangeSet, peers: BoardSet) {
        if stream.origin != self.origin {
            return;
        }
        for waiting in self.waiting.get_mut(&stream.class).into_iter().flatten() {
            let range = waiting.own.run.range().expect("own runs have a range");
            if covered.contains_range(range) {
                waiting.synced = true;
                waiting.confirmed = peers;
            }
        }
    }

    fn each_in(&mut self, class: Class, range: SeqRange, mut change: impl FnMut(&mut Waiting)) {
        let Some(queue) = self.waiting.get_mut(&class) else { return };
        // Confirmations arrive in order of sending, so the runs meant are at the front.
        for waiting in queue {
            let have = waiting.own.run.range().expect("own runs have a range");
            if have.first > range.last {
                return;
            }
            if range.first <= have.first && have.last <= range.last {
                change(waiting);
            }
        }
    }

    /// A peer's connection fell: what it has not confirmed may never have arrived.
    pub fn handle_link_down(&mut self, peer: BoardId) {
        for waiting in self.waiting.values_mut().flatten() {
            if !waiting.confirmed.contains(peer) {
                waiting.sent.remove(peer);
            }
        }
    }

    /// Sends what lacks a copy: after a connection came back, a board went down, or a copy is late.
    pub fn pump(&mut self, peers: Peers, now: Instant, out: &mut Outbox<Output>) {
        for waiting in self.waiting.values_mut().flatten() {
            let late = now >= waiting.sent_at + self.hedge_after;
            if late {
                waiting.sent_at = now;
            }
            if waiting.confirmed.len() + 1 >= self.copies {
                continue;
            }
            let reachable = waiting.sent.iter().filter(|peer| peers.alive.contains(*peer)).count();
            let wanted = self.copies - 1 + usize::from(late && reachable > 0);
            if reachable >= wanted && !late {
                continue;
            }
            let more = wanted.saturating_sub(reachable);
            let sent = send(waiting, more, &self.preference, peers, now, out);
            if late && sent > 0 {
                self.counts.hedged += 1;
            } else if late {
                // Every peer has been asked and may have refused: ask again, a copy taken twice does no harm.
                waiting.sent = waiting.confirmed;
            }
        }
    }

    /// Takes every run from the front that is committed, in order within its class.
    pub fn take_committed(&mut self, alive: BoardSet) -> Vec<Committed> {
        let needed = self
            .copies
            .min(1 + alive.iter().filter(|board| *board != self.origin.board).count());
        let mut taken = Vec::new();
        for (class, queue) in &mut self.waiting {
            while queue.front().is_some_and(|run| run.synced && run.confirmed.len() + 1 >= needed) {
                let Some(waiting) = queue.pop_front() else { break };
                let range = waiting.own.run.range().expect("own runs have a range");
                self.committed.insert(*class, range.last);
                let copies = waiting.confirmed.len() + 1;
                self.counts.committed += range.count();
                if copies < self.copies {
                    self.counts.degraded += range.count();
                }
                taken.push(Committed { own: waiting.own, copies });
            }
        }
        taken
    }

    /// The k-1 peers that this origin prefers among the usable ones; none where there are fewer.
    pub fn targets(&self, peers: Peers) -> BoardSet {
        let usable = |peer: &&BoardId| peers.alive.contains(**peer) && peers.linked.contains(**peer);
        let targets: BoardSet = self.preference.iter().filter(usable).take(self.copies - 1).copied().collect();
        if targets.len() + 1 == self.copies {
            targets
        } else {
            BoardSet::EMPTY
        }
    }

    /// Highest committed sequence of `class`; 0 where none is.
    pub fn committed(&self, class: Class) -> Seq {
        self.committed.get(&class).copied().unwrap_or(0)
    }

    /// Counters since the start.
    pub const fn counts(&self) -> CommitCounts {
        self.counts
    }

    /// Runs on their way to their commit.
    pub fn waiting(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// When the oldest copy counts as late.
    pub fn next_deadline(&self) -> Deadline {
        self.waiting
            .values()
            .filter_map(VecDeque::front)
            .map(|waiting| Deadline { at: waiting.sent_at + self.hedge_after, why: "a copy to be confirmed" })
            .fold(Deadline::NONE, Deadline::min)
    }

    /// Asserts what must hold between any two inputs.
    pub fn check(&self) {
        for (class, queue) in &self.waiting {
            let mut next = self.committed(*class) + 1;
            for waiting in queue {
                assert_eq!(waiting.own.run.first, next, "a hole before a run that waits");
                assert!(waiting.own.run.count <= RUN_RECORDS_MAX);
                next += Seq::from(waiting.own.run.count);
            }
        }
    }
}

/// `peers` in the order in which `origin` prefers them as keepers.
fn preference(origin: Origin, peers: BoardSet) -> Vec<BoardId> {
    let mut preference: Vec<BoardId> = peers.iter().collect();
    preference.sort_by_key(|peer| core::cmp::Reverse(xxh3_64(&[origin.board.get(), peer.get()])));
    preference
}

/// Sends `waiting` to up to `more` further peers; returns to how many.
fn send(
    waiting: &mut Waiting,
    more: usize,
    preference: &[BoardId],
    peers: Peers,
    now: Instant,
    out: &mut Outbox<Output>,
) -> usize {
    let mut sent = 0;
    for peer in preference {
        let usable = peers.alive.contains(*peer) && peers.linked.contains(*peer);
        if sent < more && usable && waiting.sent.insert(*peer) {
            out.push(Output::Copy { to: *peer, run: waiting.own.run.clone() });
            sent += 1;
        }
    }
    if sent > 0 {
        waiting.sent_at = now;
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use bytes::Bytes;

    fn board(number: u8) -> BoardId {
        BoardId::new(number).unwrap()
    }

    fn all(boards: &[u8]) -> BoardSet {
        boards.iter().map(|number| board(*number)).collect()
    }

    fn origin() -> Origin {
        Origin { board: board(1), epoch: Epoch { boot: 1, nonce: 1 } }
    }

    fn stream() -> Stream {
        Stream { origin: origin(), class: Class::Event }
    }

    const PATIENCE: Duration = Duration::from_millis(150);

    fn replication(copies: usize) -> Replication {
        Replication::new(origin(), all(&[2, 3]), copies, PATIENCE)
    }

    fn run(first: Seq, count: u32) -> OwnRun {
        OwnRun { run: Run::new(stream(), first, count, Bytes::from_static(b"r")), tickets: Vec::new() }
    }

    fn sent(out: &mut Outbox<Output>) -> Vec<BoardId> {
        core::iter::from_fn(|| out.pop()).map(|Output::Copy { to, .. }| to).collect()
    }

    fn peers(alive: &[u8], linked: &[u8]) -> Peers {
        Peers { alive: all(alive), linked: all(linked) }
    }

    #[test]
    fn commits_in_order_after_own_sync_and_a_copy_never_before() {
        let (mut replication, mut out) = (replication(2), Outbox::default());
        let both = peers(&[1, 2, 3], &[2, 3]);
        replication.handle_run(run(1, 2), both, Instant::ZERO, &mut out);
        replication.handle_run(run(3, 1), both, Instant::ZERO, &mut out);
        let keeper = sent(&mut out)[0];
        let (first, second) = (SeqRange { first: 1, last: 2 }, SeqRange { first: 3, last: 3 });
        replication.handle_durable(keeper, &stream(), first);
        replication.handle_durable(keeper, &stream(), second);
        assert!(replication.take_committed(both.alive).is_empty(), "not synced here");
        replication.handle_synced(&stream(), second);
        assert!(replication.take_committed(both.alive).is_empty(), "not before the one before");
        replication.handle_synced(&stream(), first);
        assert_eq!(replication.take_committed(both.alive).len(), 2);
        assert_eq!((replication.committed(Class::Event), replication.counts().degraded), (3, 0));
    }

    #[test]
    fn a_living_peer_is_waited_for_and_a_dead_one_is_not() {
        let (mut replication, mut out) = (replication(2), Outbox::default());
        let unlinked = peers(&[1, 2, 3], &[]);
        replication.handle_run(run(1, 1), unlinked, Instant::ZERO, &mut out);
        replication.handle_synced(&stream(), SeqRange { first: 1, last: 1 });
        assert!(replication.take_committed(unlinked.alive).is_empty(), "two boards are thought alive");
        assert_eq!(replication.take_committed(all(&[1]))[0].copies, 1);
        assert_eq!(replication.counts().degraded, 1);
    }

    #[test]
    fn a_late_copy_is_hedged_at_the_patience_and_not_before() {
        let (mut replication, mut out) = (replication(2), Outbox::default());
        let both = peers(&[1, 2, 3], &[2, 3]);
        replication.handle_run(run(1, 1), both, Instant::ZERO, &mut out);
        let first = sent(&mut out);
        let late = Instant::ZERO + PATIENCE;
        replication.pump(both, Instant::from_micros(late.micros() - 1), &mut out);
        assert!(sent(&mut out).is_empty());
        replication.pump(both, late, &mut out);
        let second = sent(&mut out);
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_ne!(first, second);
        assert!(replication.next_deadline().at > late, "the deadline moves on");
        // All were asked and none confirmed: they may have refused, so all are asked again.
        for _ in 0..2 {
            let next = replication.next_deadline().at;
            replication.pump(both, next, &mut out);
        }
        assert!(!sent(&mut out).is_empty());
    }

    #[test]
    fn a_fallen_link_sends_the_copy_elsewhere_at_once() {
        let (mut replication, mut out) = (replication(2), Outbox::default());
        replication.handle_run(run(1, 1), peers(&[1, 2, 3], &[2, 3]), Instant::ZERO, &mut out);
        let first = sent(&mut out)[0];
        replication.handle_link_down(first);
        let mut linked = all(&[2, 3]);
        linked.remove(first);
        replication.pump(Peers { alive: all(&[1, 2, 3]), linked }, Instant::ZERO, &mut out);
        assert_ne!(sent(&mut out), [first]);
    }
}

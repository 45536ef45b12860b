//! Which other board holds what, as far as it has said: by inventories and by confirming copies. Owns the question which
//! records lack a copy, and whose business it is to make it; sends nothing itself.
//!
//! What a board held counts while it is away, since its disk does not forget, until it has been away for so long that it
//! may never come back.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::ids::{BoardId, BoardSet, Epoch, Origin, Seq, Stream};
use crate::limits::{RANGES_MAX, STREAMS_MAX};
use crate::ranges::{RangeSet, SeqRange};
use crate::time::{Deadline, Instant};

/// What the other boards hold.
#[derive(Debug)]
pub struct Census {
    own: Origin,
    /// k.
    copies: usize,
    absent_after: Duration,
    peers: BTreeMap<BoardId, Peer>,
    /// When a record of another board last became durable here: an older inventory of a third board says nothing of it.
    newest: BTreeMap<Stream, Instant>,
}

#[derive(Debug)]
struct Peer {
    holds: BTreeMap<Stream, RangeSet>,
    /// Parts of the inventory that is arriving.
    arriving: BTreeMap<Stream, RangeSet>,
    /// When its last whole inventory arrived.
    heard: Option<Instant>,
    /// Of which life of it that was.
    life: Epoch,
    /// No connection stands since then.
    away: Option<Instant>,
}

/// What is to be compared with it.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Durable here.
    pub held: &'a BTreeMap<Stream, RangeSet>,
    /// In the region.
    pub covered: &'a BTreeMap<Stream, RangeSet>,
    /// Committed of this life, by class: what is above is on its way.
    pub committed: [Seq; 3],
    /// Boards whose connection stands.
    pub linked: BoardSet,
}

impl Census {
    /// A census in which nothing was said, among `peers`.
    pub fn new(own: Origin, peers: BoardSet, copies: usize, absent_after: Duration, now: Instant) -> Self {
        let mut census = Self { own, copies, absent_after, peers: BTreeMap::new(), newest: BTreeMap::new() };
        census.handle_peers(peers, now);
        census
    }

    /// From now on these are the other boards. What those that left hold counts no more.
    pub fn handle_peers(&mut self, peers: BoardSet, now: Instant) {
        self.peers.retain(|peer, _| peers.contains(*peer));
        for peer in peers.iter() {
            self.peers.entry(peer).or_insert_with(|| Peer {
                holds: BTreeMap::new(),
                arriving: BTreeMap::new(),
                heard: None,
                life: Epoch::default(),
                away: Some(now),
            });
        }
    }

    /// The connection to `peer` stands or fell.
    pub fn handle_link(&mut self, peer: BoardId, up: bool, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.away = (!up).then_some(now);
            peer.arriving.clear();
        }
    }

    /// A part of what `from` holds in its `life`; true where it was the last part, so that there is something new to
    /// compare.
    pub fn handle_holds(
        &mut self,
        (from, life): (BoardId, Epoch),
        lines: Vec<(Stream, RangeSet)>,
        last: bool,
        now: Instant,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        for (stream, mut ranges) in lines {
            ranges.truncate(RANGES_MAX);
            if peer.arriving.len() < STREAMS_MAX {
                peer.arriving.insert(stream, ranges);
            }
        }
        if last {
            peer.holds = core::mem::take(&mut peer.arriving);
            peer.heard = Some(now);
            peer.life = life;
        }
        last
    }

    /// `from` has these records durably.
    pub fn handle_durable(&mut self, from: BoardId, stream: &Stream, range: SeqRange) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.holds.len() < STREAMS_MAX || peer.holds.contains_key(stream) {
            let holds = peer.holds.entry(*stream).or_default();
            holds.insert(range);
            holds.truncate(RANGES_MAX);
        }
    }

    /// Records of another board have become durable here.
    pub fn handle_kept(&mut self, stream: &Stream, now: Instant) {
        if stream.origin.board != self.own.board {
            self.newest.insert(*stream, now);
        }
    }

    /// Streams that are held here no more need not be remembered.
    pub fn retain(&mut self, held: &BTreeMap<Stream, RangeSet>) {
        self.newest.retain(|stream, _| held.contains_key(stream));
    }

    /// Which boards have said that they hold some of `ranges`.
    pub fn holders(&self, stream: &Stream, ranges: &RangeSet) -> BoardSet {
        let holds = |peer: &Peer| {
            peer.holds
                .get(stream)
                .is_some_and(|have| ranges.ranges().iter().any(|range| have.within(*range).next().is_some()))
        };
        self.peers
            .iter()
            .filter(|(_, peer)| holds(peer))
            .map(|(board, _)| *board)
            .collect()
    }

    /// The records held here that lack copies which it is this board's business to make; `None` while too little is
    /// known of who holds what.
    pub fn lacking(&self, here: Here<'_>, now: Instant) -> Option<BTreeMap<Stream, RangeSet>> {
        let known = |peer: &Peer| peer.heard.is_some() || self.is_absent(peer, now);
        if self.copies < 2 || !self.peers.values().all(known) {
            return None;
        }
        let mut lacking = BTreeMap::new();
        for (stream, have) in here.held {
            let mut open = here
                .covered
                .get(stream)
                .map_or_else(|| have.clone(), |covered| have.minus(covered));
            if stream.origin == self.own {
                let committed = here.committed[stream.class as usize];
                open = open.within(SeqRange { first: 0, last: committed }).collect();
            } else if stream.origin.board != self.own.board && !self.is_settled(stream, here.linked) {
                continue;
            }
            let open = self.below(stream, open, now);
            let mine = self.mine(stream, open, here.linked);
            if !mine.is_empty() {
                lacking.insert(*stream, mine);
            }
        }
        Some(lacking)
    }

    /// The parts of `open` that fewer than k-1 other boards hold.
    fn below(&self, stream: &Stream, open: RangeSet, now: Instant) -> RangeSet {
        if open.is_empty() {
            return open;
        }
        // On at least one, two, ... other boards.
        let mut on = alloc::vec![RangeSet::EMPTY; self.copies - 1];
        for (board, peer) in self.peers.iter().filter(|(_, peer)| !self.is_absent(peer, now)) {
            let mut have = peer.holds.get(stream).map_or(RangeSet::EMPTY, |holds| open.intersection(holds));
            if (Origin { board: *board, epoch: peer.life }) == stream.origin {
                // Whatever it has written since it last said so is on its disk, too.
                let since = peer
                    .holds
                    .get(stream)
                    .and_then(RangeSet::last)
                    .map_or(0, |last| last.saturating_add(1));
                let since: Vec<SeqRange> = open.within(SeqRange { first: since, last: Seq::MAX }).collect();
                since.into_iter().for_each(|range| have.insert(range));
            }
            for at in (1..on.len()).rev() {
                let both = on[at - 1].intersection(&have);
                on[at].extend(&both);
            }
            on[0].extend(&have);
        }
        open.minus(&on[self.copies - 2])
    }

    /// Less what a board holds whose business it is before this one's: the origin's, then that of the lowest number.
    fn mine(&self, stream: &Stream, open: RangeSet, linked: BoardSet) -> RangeSet {
        let order = |board: BoardId| (board != stream.origin.board, board);
        let before = self
            .peers
            .iter()
            .filter(|(board, _)| linked.contains(**board) && order(**board) < order(self.own.board));
        before.fold(open, |open, (_, peer)| match peer.holds.get(stream) {
            Some(holds) if !open.is_empty() => open.minus(holds),
            Some(_) | None => open,
        })
    }

    /// Whether each board that is there has said what it holds since the newest record of `stream` was written here: while
    /// its origin writes, its copies are its own business.
    fn is_settled(&self, stream: &Stream, linked: BoardSet) -> bool {
        let newest = self.newest.get(stream).copied().unwrap_or(Instant::ZERO);
        let mut linked = self.peers.iter().filter(|(board, _)| linked.contains(**board));
        linked.all(|(_, peer)| peer.heard.is_some_and(|heard| heard > newest))
    }

    fn is_absent(&self, peer: &Peer, now: Instant) -> bool {
        peer.away.is_some_and(|since| now >= since + self.absent_after)
    }

    /// When the next board that is away counts no more.
    pub fn next_deadline(&self, now: Instant) -> Deadline {
        let away = self
            .peers
            .values()
            .filter(|peer| !self.is_absent(peer, now))
            .filter_map(|peer| peer.away);
        let at = away.map(|since| since + self.absent_after).min().unwrap_or(Instant::NEVER);
        Deadline { at, why: "a board that is away to come back" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Class;

    const ABSENT: Duration = Duration::from_secs(600);

    fn board(number: u8) -> BoardId {
        BoardId::new(number).unwrap()
    }

    fn boards(numbers: &[u8]) -> BoardSet {
        numbers.iter().map(|number| board(*number)).collect()
    }

    /// A board in its third life.
    fn life(number: u8) -> (BoardId, Epoch) {
        (board(number), Epoch { boot: 3, nonce: 7 })
    }

    fn stream(of: u8, boot: u32) -> Stream {
        Stream { origin: Origin { board: board(of), epoch: Epoch { boot, nonce: 7 } }, class: Class::Event }
    }

    fn set(first: u64, last: u64) -> RangeSet {
        RangeSet::from_iter([SeqRange { first, last }])
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// Board 1 of `count` in its second life.
    fn census(count: u8, copies: usize) -> Census {
        let peers = (2..=count).map(board).collect();
        let mut census = Census::new(stream(1, 2).origin, peers, copies, ABSENT, at(0));
        peers.iter().for_each(|peer| census.handle_link(peer, true, at(0)));
        census
    }

    struct Board(BTreeMap<Stream, RangeSet>, BTreeMap<Stream, RangeSet>, BoardSet);

    impl Board {
        fn lacks(&self, census: &Census, now: Instant) -> Option<Vec<(Stream, RangeSet)>> {
            let here = Here { held: &self.0, covered: &self.1, committed: [0, 20, 0], linked: self.2 };
            census.lacking(here, now).map(|lacking| lacking.into_iter().collect())
        }
    }

    #[test]
    fn what_fewer_than_k_boards_hold_lacks_copies_and_what_the_region_has_does_not() {
        let mut census = census(3, 2);
        let own = stream(1, 1);
        let here = Board(BTreeMap::from([(own, set(1, 30))]), BTreeMap::from([(own, set(1, 5))]), boards(&[2, 3]));
        assert_eq!(here.lacks(&census, at(1)), None, "nobody has said what it holds");
        census.handle_holds(life(2), alloc::vec![(own, set(1, 20))], true, at(1));
        assert_eq!(here.lacks(&census, at(1)), None);
        census.handle_holds(life(3), Vec::new(), true, at(1));
        assert_eq!(here.lacks(&census, at(1)), Some(alloc::vec![(own, set(21, 30))]));
        census.handle_durable(board(3), &own, SeqRange { first: 21, last: 29 });
        assert_eq!(here.lacks(&census, at(1)), Some(alloc::vec![(own, set(30, 30))]));
        // The disk of board 2 is another one.
        census.handle_holds(life(2), Vec::new(), true, at(2));
        assert_eq!(
            here.lacks(&census, at(2)).unwrap()[0].1.ranges(),
            [SeqRange { first: 6, last: 20 }, SeqRange { first: 30, last: 30 }]
        );
    }

    #[test]
    fn three_copies_are_counted_over_all_boards() {
        let mut census = census(4, 3);
        let own = stream(1, 1);
        let here = Board(BTreeMap::from([(own, set(1, 9))]), BTreeMap::new(), boards(&[2, 3, 4]));
        census.handle_holds(life(2), alloc::vec![(own, set(1, 6))], true, at(1));
        census.handle_holds(life(3), alloc::vec![(own, set(5, 9))], true, at(1));
        census.handle_holds(life(4), alloc::vec![(own, set(1, 2))], true, at(1));
        assert_eq!(
            here.lacks(&census, at(1)).unwrap()[0].1.ranges(),
            [SeqRange { first: 3, last: 4 }, SeqRange { first: 7, last: 9 }]
        );
    }

    #[test]
    fn a_board_that_is_away_counts_until_it_is_absent_and_not_a_moment_longer() {
        let mut census = census(3, 2);
        let own = stream(1, 1);
        let here = Board(BTreeMap::from([(own, set(1, 9))]), BTreeMap::new(), boards(&[3]));
        census.handle_holds(life(2), alloc::vec![(own, set(1, 9))], true, at(1));
        census.handle_holds(life(3), Vec::new(), true, at(1));
        census.handle_link(board(2), false, at(10));
        assert_eq!(census.next_deadline(at(11)).at, at(610));
        let before = Instant::from_micros(at(610).micros() - 1);
        assert_eq!(here.lacks(&census, before), Some(Vec::new()));
        assert_eq!(here.lacks(&census, at(610)), Some(alloc::vec![(own, set(1, 9))]));
        assert_eq!(census.next_deadline(at(610)).at, Instant::NEVER);
        census.handle_link(board(2), true, at(700));
        assert_eq!(here.lacks(&census, at(700)), Some(Vec::new()), "it is back with what it held");
    }

    #[test]
    fn copies_of_another_board_are_made_by_one_board_and_not_while_it_writes() {
        let mut census = census(4, 3);
        let dead = stream(4, 1);
        let here = Board(BTreeMap::from([(dead, set(1, 9))]), BTreeMap::new(), boards(&[2, 3]));
        for peer in 2..=4 {
            census.handle_holds(life(peer), Vec::new(), true, at(5));
        }
        census.handle_link(board(4), false, at(5));
        census.handle_kept(&dead, at(5));
        assert_eq!(here.lacks(&census, at(6)), Some(Vec::new()), "what it wrote since is not in the inventories");
        census.handle_holds(life(2), alloc::vec![(dead, set(1, 4))], true, at(7));
        assert_eq!(here.lacks(&census, at(7)), Some(Vec::new()));
        census.handle_holds(life(3), Vec::new(), true, at(8));
        assert_eq!(
            here.lacks(&census, at(8)),
            Some(alloc::vec![(dead, set(1, 9))]),
            "this board has the lowest number"
        );
        let own_of_2 = stream(2, 1);
        census.handle_holds(life(2), alloc::vec![(own_of_2, set(1, 4))], true, at(9));
        let here = Board(BTreeMap::from([(own_of_2, set(1, 9))]), BTreeMap::new(), boards(&[2, 3]));
        assert_eq!(here.lacks(&census, at(9)), Some(alloc::vec![(own_of_2, set(5, 9))]), "its origin sees to the rest");
    }

    #[test]
    fn a_board_that_is_away_holds_what_it_wrote_after_its_last_inventory() {
        let mut census = census(3, 2);
        let of_3 = stream(3, 3);
        let here = Board(BTreeMap::from([(of_3, set(1, 9))]), BTreeMap::new(), boards(&[2]));
        census.handle_holds(life(3), alloc::vec![(of_3, set(1, 4))], true, at(1));
        census.handle_link(board(3), false, at(2));
        census.handle_holds(life(2), Vec::new(), true, at(2));
        assert_eq!(here.lacks(&census, at(3)), Some(Vec::new()));
        // Its next life says what is left.
        census.handle_holds((board(3), Epoch { boot: 4, nonce: 7 }), alloc::vec![(of_3, set(1, 4))], true, at(4));
        assert_eq!(here.lacks(&census, at(4)), Some(alloc::vec![(of_3, set(5, 9))]));
    }

    #[test]
    fn records_on_their_way_to_their_commit_lack_nothing() {
        let mut census = census(2, 2);
        let own = stream(1, 2);
        census.handle_holds(life(2), Vec::new(), true, at(1));
        let here = Board(BTreeMap::from([(own, set(1, 30))]), BTreeMap::new(), boards(&[2]));
        assert_eq!(here.lacks(&census, at(1)), Some(alloc::vec![(own, set(1, 20))]));
    }
}

//! Owns who observes whom: everybody everybody in a small site, a graph of fixed degree in a large one. A function of
//! the boards and the voters alone, so that all boards draw the same. Must not know who is heard.

use alloc::vec;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ids::{BoardId, BoardSet};
use crate::limits::{BOARDS_MAX, MESH_BOARDS_MAX, OBSERVER_RINGS};

/// Who observes whom; always both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Graph {
    /// By the board's number.
    observed: Vec<BoardSet>,
}

impl Graph {
    /// The graph of `boards`, whose `voters` all observe each other.
    pub(super) fn new(boards: BoardSet, voters: BoardSet) -> Self {
        let mut graph = Self { observed: vec![BoardSet::EMPTY; BOARDS_MAX + 1] };
        let all: Vec<BoardId> = boards.iter().collect();
        if all.len() <= MESH_BOARDS_MAX {
            graph.join_all(&all);
            return graph;
        }
        for ring in 0..OBSERVER_RINGS {
            let mut order = all.clone();
            order.sort_by_key(|board| (draw(boards, ring, *board), *board));
            let next = order.iter().cycle().skip(1);
            order.iter().zip(next).for_each(|(one, other)| graph.join(*one, *other));
        }
        let voters: Vec<BoardId> = voters.intersection(boards).iter().collect();
        graph.join_all(&voters);
        graph
    }

    /// Whom `board` observes, and who observes it.
    pub(super) fn of(&self, board: BoardId) -> BoardSet {
        self.observed[usize::from(board.get())]
    }

    fn join_all(&mut self, boards: &[BoardId]) {
        for (place, one) in boards.iter().enumerate() {
            boards[place + 1..].iter().for_each(|other| self.join(*one, *other));
        }
    }

    fn join(&mut self, one: BoardId, other: BoardId) {
        self.observed[usize::from(one.get())].insert(other);
        self.observed[usize::from(other.get())].insert(one);
    }
}

/// The place of `board` in the ring: as good as random, and the same on every board.
fn draw(boards: BoardSet, ring: u64, board: BoardId) -> u64 {
    let set: u64 = boards.iter().fold(0, |bits, board| bits | 1 << (board.get() - 1));
    xxh3_64_with_seed(&set.to_le_bytes(), ring << 8 | u64::from(board.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: core::ops::RangeInclusive<u8>) -> BoardSet {
        numbers.filter_map(BoardId::new).collect()
    }

    #[test]
    fn sixteen_boards_are_a_mesh_and_seventeen_are_not() {
        let (small, large) = (set(1..=16), set(1..=17));
        let mesh = Graph::new(small, BoardSet::EMPTY);
        assert!(
            small
                .iter()
                .all(|board| mesh.of(board).len() == 15 && !mesh.of(board).contains(board))
        );
        let graph = Graph::new(large, BoardSet::EMPTY);
        assert!(large.iter().all(|board| (2..=8).contains(&graph.of(board).len())));
    }

    #[test]
    fn every_board_of_a_large_site_has_about_eight_observers_and_voters_have_each_other() {
        let (boards, voters) = (set(1..=64), set(3..=9));
        let graph = Graph::new(boards, voters);
        for board in boards.iter() {
            let observed = graph.of(board);
            assert!(observed.len() >= 5 && observed.len() <= 14, "{board} has {}", observed.len());
            assert!(observed.iter().all(|other| graph.of(other).contains(board)), "both ways");
        }
        for board in voters.iter() {
            assert!(voters.iter().all(|other| other == board || graph.of(board).contains(other)));
        }
        assert_eq!(graph, Graph::new(boards, voters));
    }
}

//! Owns what observers say of whom they miss: the newest line of each, merged so that order and repetition do not
//! matter, and who can be reached along those who hear. Must not know deadlines.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{BoardId, BoardSet, Epoch};
use crate::limits::HEARING_LINES_MAX;
use crate::membership::graph::Graph;
use crate::time::Instant;
use crate::wire::heartbeat::{Hearing, HearingLine};

/// One observer's newest line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    line: HearingLine,
    since: Instant,
}

/// The newest line of every observer, this board's own among them; at most one a board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    known: BTreeMap<BoardId, Known>,
    /// When the newest change came.
    changed: Instant,
}

impl Lines {
    /// Takes `line` where it is newer than what is known; true where it is.
    pub(super) fn merge(&mut self, line: &HearingLine, now: Instant) -> bool {
        let is_newer = self
            .known
            .get(&line.observer)
            .is_none_or(|known| (line.epoch, line.version) > (known.line.epoch, known.line.version));
        if is_newer {
            self.replace(line, now);
        }
        is_newer
    }

    /// Takes `line` whatever is known: its observer says so itself, in the life in which it is heard.
    pub(super) fn replace(&mut self, line: &HearingLine, now: Instant) {
        self.known.insert(line.observer, Known { line: *line, since: now });
        self.changed = now;
    }

    /// Forgets the lines of all but `boards`.
    pub(super) fn retain(&mut self, boards: BoardSet) {
        self.known.retain(|observer, _| boards.contains(*observer));
    }

    /// In which life `observer` spoke last, as far as anybody passed it on.
    pub(super) fn life(&self, observer: BoardId) -> Option<Epoch> {
        Some(self.known.get(&observer)?.line.epoch)
    }

    /// Whom `observer` misses; `None` where it never spoke.
    pub(super) fn missed(&self, observer: BoardId) -> Option<BoardSet> {
        Some(self.known.get(&observer)?.line.missed)
    }

    /// Whether any of `observers` misses any of them.
    pub(super) fn missed_any(&self, observers: BoardSet) -> bool {
        let mut lines = self.known.values().filter(|known| observers.contains(known.line.observer));
        lines.any(|known| !known.line.missed.intersection(observers).is_empty())
    }

    /// Digest of which line of each of `observers` is the newest.
    pub(super) fn digest(&self, observers: BoardSet) -> u32 {
        let digests = self
            .known
            .values()
            .filter(|known| observers.contains(known.line.observer))
            .map(|known| {
                let line = &known.line;
                let mut bytes = [0; 17];
                bytes[0] = line.observer.get();
                bytes[1..5].copy_from_slice(&line.epoch.boot.to_le_bytes());
                bytes[5..13].copy_from_slice(&line.epoch.nonce.to_le_bytes());
                bytes[13..].copy_from_slice(&line.version.to_le_bytes());
                xxh3_64(&bytes)
            });
        let all = digests.fold(0, |all, one| all ^ one);
        (all ^ all >> 32) as u32
    }

    /// The lines of `observers` that are news: no older than `fresh`.
    pub(super) fn news(&self, observers: BoardSet, fresh: Duration, now: Instant) -> Vec<HearingLine> {
        if now.since(self.changed) > fresh {
            return Vec::new();
        }
        let is_news = |known: &&Known| now.since(known.since) <= fresh && observers.contains(known.line.observer);
        self.known.values().filter(is_news).map(|known| known.line).collect()
    }

    /// All lines of `observers`.
    pub(super) fn all(&self, observers: BoardSet) -> Vec<HearingLine> {
        let wanted = self.known.values().filter(|known| observers.contains(known.line.observer));
        wanted.map(|known| known.line).collect()
    }

    /// The boards that `from` reaches along those who hear: from itself, and from everyone reached, to whom that one
    /// observes and does not miss. Nobody in `barred` is reached. A line that is not known is of one who hears nobody.
    pub(super) fn reached(&self, from: BoardId, graph: &Graph, barred: BoardSet) -> BoardSet {
        let mut reached: BoardSet = [from].into_iter().collect();
        let mut waiting = reached;
        while let Some(observer) = waiting.iter().next() {
            waiting.remove(observer);
            let Some(missed) = self.missed(observer) else { continue };
            for heard in graph.of(observer).difference(missed).difference(barred).iter() {
                if reached.insert(heard) {
                    waiting.insert(heard);
                }
            }
        }
        reached
    }
}

/// `lines` in messages of at most [`HEARING_LINES_MAX`].
pub(super) fn messages(lines: &[HearingLine]) -> impl Iterator<Item = Hearing> + '_ {
    lines
        .chunks(HEARING_LINES_MAX)
        .map(|part| Hearing { lines: part.to_vec(), asks: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(number: u8) -> BoardId {
        BoardId::new(number).unwrap()
    }

    fn set(numbers: &[u8]) -> BoardSet {
        numbers.iter().map(|number| board(*number)).collect()
    }

    fn line(observer: u8, boot: u32, version: u32, missed: &[u8]) -> HearingLine {
        HearingLine { observer: board(observer), epoch: Epoch { boot, nonce: 7 }, version, missed: set(missed) }
    }

    fn merged(lines: &[HearingLine]) -> Vec<HearingLine> {
        let mut all = Lines::default();
        lines.iter().for_each(|line| {
            all.merge(line, Instant::ZERO);
        });
        all.all(set(&[1, 2, 3]))
    }

    #[test]
    fn neither_order_nor_repetition_of_lines_matters() {
        let lines = [
            line(1, 1, 1, &[2]),
            line(1, 1, 2, &[]),
            line(1, 2, 0, &[3]),
            line(2, 1, 5, &[1]),
            line(2, 1, 4, &[]),
        ];
        let want = merged(&lines);
        assert_eq!(want, [line(1, 2, 0, &[3]), line(2, 1, 5, &[1])]);
        for turn in 0..lines.len() {
            let mut turned = lines.to_vec();
            turned.rotate_left(turn);
            assert_eq!(merged(&turned), want);
            turned.reverse();
            turned.extend(lines);
            assert_eq!(merged(&turned), want);
        }
    }

    #[test]
    fn the_digest_tells_versions_and_lives_apart_and_passes_over_the_dead() {
        let digest = |lines: &[HearingLine], of: &[u8]| {
            let mut all = Lines::default();
            lines.iter().for_each(|line| all.replace(line, Instant::ZERO));
            all.digest(set(of))
        };
        let base = digest(&[line(1, 1, 1, &[])], &[1]);
        assert_ne!(base, digest(&[line(1, 1, 2, &[])], &[1]));
        assert_ne!(base, digest(&[line(1, 2, 1, &[])], &[1]));
        assert_ne!(base, digest(&[line(2, 1, 1, &[])], &[2]));
        assert_eq!(base, digest(&[line(1, 1, 1, &[]), line(2, 1, 1, &[])], &[1]));
    }

    #[test]
    fn one_who_hears_is_enough_and_nobody_is_too_little() {
        let graph = Graph::new(set(&[1, 2, 3, 4]), BoardSet::EMPTY);
        let mut lines = Lines::default();
        for hearing in [line(1, 1, 1, &[4]), line(2, 1, 1, &[4]), line(3, 1, 1, &[])] {
            lines.merge(&hearing, Instant::ZERO);
        }
        assert_eq!(lines.reached(board(1), &graph, BoardSet::EMPTY), set(&[1, 2, 3, 4]));
        lines.merge(&line(3, 1, 2, &[4]), Instant::ZERO);
        assert_eq!(lines.reached(board(1), &graph, BoardSet::EMPTY), set(&[1, 2, 3]));
        lines.merge(&line(1, 1, 2, &[2, 4]), Instant::ZERO);
        assert_eq!(lines.reached(board(1), &graph, BoardSet::EMPTY), set(&[1, 2, 3]), "over 3");
        assert_eq!(lines.reached(board(1), &graph, set(&[3])), set(&[1]), "but not over the barred");
    }

    #[test]
    fn news_ages() {
        let mut lines = Lines::default();
        lines.merge(&line(1, 1, 1, &[]), Instant::from_micros(50));
        let fresh = Duration::from_micros(10);
        assert_eq!(lines.news(set(&[1]), fresh, Instant::from_micros(60)).len(), 1);
        assert!(lines.news(set(&[1]), fresh, Instant::from_micros(61)).is_empty());
        assert!(lines.news(set(&[2]), fresh, Instant::from_micros(60)).is_empty());
    }
}

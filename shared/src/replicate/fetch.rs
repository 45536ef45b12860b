//! Answers boards that lost records: sends what is held of them, run by run, and says of the rest whether it is absent,
//! lost here too, or unknown. One question a board, a bounded answer.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::ids::{BoardId, SegmentId, Stream};
use crate::limits::{FETCH_BYTES_MAX, FETCH_RANGES_MAX};
use crate::ranges::{RangeSet, SeqRange};
use crate::replicate::repair::Records;
use crate::wire::peer::{Fetched, Run};

/// Questions that wait for their answers.
#[derive(Debug, Default)]
pub struct Answering {
    questions: VecDeque<Question>,
}

#[derive(Debug)]
struct Question {
    from: BoardId,
    /// Held here and not sent yet.
    left: Records,
    sent_bytes: usize,
    cursor: (SegmentId, u32),
    answer: Fetched,
}

/// What this board knows of its own records.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Durable here.
    pub held: &'a BTreeMap<Stream, RangeSet>,
    /// Lost here.
    pub holes: &'a Records,
    /// The journal may hold more or less than it thinks: nothing is absent for certain.
    pub is_in_doubt: bool,
}

/// A piece of the journal to read for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    to: BoardId,
    number: u64,
    /// In which segment.
    pub segment: SegmentId,
    /// From which byte.
    pub offset: u32,
    /// Durable bytes from there.
    pub length: u32,
}

impl Answering {
    /// `from` asks. A newer question of a board replaces its older one. `waits` says whether records are on their way to
    /// this board's disk.
    pub fn handle_fetch(
        &mut self,
        from: BoardId,
        number: u64,
        wanted: &[(Stream, SeqRange)],
        known: Known<'_>,
        waits: impl Fn(&Stream, SeqRange) -> bool,
    ) {
        self.questions.retain(|question| question.from != from);
        let mut question = Question {
            from,
            left: Records::new(),
            sent_bytes: 0,
            cursor: (SegmentId(0), 0),
            answer: Fetched { number, ..Fetched::default() },
        };
        for (stream, range) in wanted
            .iter()
            .take(FETCH_RANGES_MAX)
            .filter(|(_, range)| range.first <= range.last)
        {
            question.sort(*stream, *range, known, &waits);
        }
        self.questions.push_back(question);
    }

    /// A connection fell: nobody waits for the answer.
    pub fn handle_link_down(&mut self, peer: BoardId) {
        self.questions.retain(|question| question.from != peer);
    }

    /// Where to read next. `next` finds the first place from a cursor on whose segment holds something wanted.
    pub fn wants_read(
        &self,
        next: impl FnOnce((SegmentId, u32), &dyn Fn(&Stream, &RangeSet) -> bool) -> Option<(SegmentId, u32, u32)>,
    ) -> Option<Read> {
        let question = self.questions.front().filter(|question| question.wants_more())?;
        let wanted = |stream: &Stream, ranges: &RangeSet| {
            question
                .left
                .get(stream)
                .is_some_and(|left| ranges.ranges().iter().any(|range| left.within(*range).next().is_some()))
        };
        let (segment, offset, length) = next(question.cursor, &wanted)?;
        Some(Read { to: question.from, number: question.answer.number, segment, offset, length })
    }

    /// Runs that `read` found, and where reading goes on: those to send, and to whom.
    pub fn handle_read(&mut self, read: &Read, runs: Vec<Run>, cursor: (SegmentId, u32)) -> Vec<(BoardId, Run)> {
        let asked = |question: &&mut Question| question.from == read.to && question.answer.number == read.number;
        let Some(question) = self.questions.front_mut().filter(asked) else {
            return Vec::new();
        };
        question.cursor = cursor;
        let mut send = Vec::new();
        for run in runs {
            if question.wants_more() && question.take(&run) {
                send.push((read.to, run));
            }
        }
        send
    }

    /// Answers that are complete. `readable` says whether a read would find something for the question at the front.
    pub fn take_answer(&mut self, readable: bool) -> Option<(BoardId, Fetched)> {
        let question = self.questions.front()?;
        if question.wants_more() && readable {
            return None;
        }
        let question = self.questions.pop_front()?;
        let mut answer = question.answer;
        if question.sent_bytes < FETCH_BYTES_MAX {
            // Claimed and not found where it should stand: whether it is lost is being looked into.
            let left = question
                .left
                .iter()
                .flat_map(|(stream, ranges)| ranges.ranges().iter().map(|range| (*stream, *range)));
            answer.unknown.extend(left);
        }
        Some((question.from, answer))
    }

    /// Whether a question waits.
    pub fn is_idle(&self) -> bool {
        self.questions.is_empty()
    }
}

impl Question {
    fn sort(&mut self, stream: Stream, range: SeqRange, known: Known<'_>, waits: &impl Fn(&Stream, SeqRange) -> bool) {
        let mut rest = RangeSet::from_iter([range]);
        if let Some(held) = known.held.get(&stream) {
            let have = rest.intersection(held);
            rest = rest.minus(&have);
            if !have.is_empty() {
                self.left.entry(stream).or_default().extend(&have);
            }
        }
        for part in rest.ranges() {
            if known.is_in_doubt || waits(&stream, *part) {
                self.answer.unknown.push((stream, *part));
                continue;
            }
            let lost: RangeSet = known
                .holes
                .get(&stream)
                .map_or(RangeSet::EMPTY, |holes| holes.within(*part).collect());
            self.answer.lost.extend(lost.ranges().iter().map(|range| (stream, *range)));
            self.answer
                .absent
                .extend(lost.missing(*part).into_iter().map(|range| (stream, range)));
        }
    }

    fn wants_more(&self) -> bool {
        !self.left.is_empty() && self.sent_bytes < FETCH_BYTES_MAX
    }

    /// Whether `run` holds something wanted; then that is wanted no more.
    fn take(&mut self, run: &Run) -> bool {
        let (Some(left), Some(range)) = (self.left.get_mut(&run.stream), run.range()) else {
            return false;
        };
        if left.within(range).next().is_none() {
            return false;
        }
        *left = left.minus(&RangeSet::from_iter([range]));
        if left.is_empty() {
            self.left.remove(&run.stream);
        }
        self.sent_bytes += run.bytes.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Class, Epoch, Origin};
    use bytes::Bytes;

    fn board(number: u8) -> BoardId {
        BoardId::new(number).unwrap()
    }

    fn stream() -> Stream {
        Stream { origin: Origin { board: board(1), epoch: Epoch::default() }, class: Class::Event }
    }

    fn range(first: u64, last: u64) -> SeqRange {
        SeqRange { first, last }
    }

    fn records(first: u64, last: u64) -> Records {
        Records::from([(stream(), RangeSet::from_iter([range(first, last)]))])
    }

    fn run(first: u64, count: u32, bytes: usize) -> Run {
        Run::new(stream(), first, count, Bytes::from(alloc::vec![3; bytes]))
    }

    fn ask(answering: &mut Answering, held: &Records, holes: &Records, is_in_doubt: bool) {
        let known = Known { held, holes, is_in_doubt };
        answering.handle_fetch(board(1), 7, &[(stream(), range(1, 20))], known, |_, part| part.first == 19);
    }

    #[test]
    fn what_is_held_is_sent_and_the_rest_is_absent_lost_or_unknown() {
        let mut answering = Answering::default();
        let held = records(5, 18);
        ask(&mut answering, &held, &records(3, 3), false);
        let place = (SegmentId(1), 0, 4096);
        let read = answering
            .wants_read(|_, wanted| wanted(&stream(), &held[&stream()]).then_some(place))
            .unwrap();
        let runs = alloc::vec![run(1, 4, 4), run(5, 10, 10), run(15, 4, 4), run(30, 1, 1)];
        let sent = answering.handle_read(&read, runs, (SegmentId(1), 4096));
        let firsts: Vec<u64> = sent.iter().map(|(_, run)| run.first).collect();
        assert_eq!(firsts, [5, 15], "only what holds something wanted");
        let (to, answer) = answering.take_answer(true).unwrap();
        assert_eq!((to, answer.number), (board(1), 7));
        assert_eq!(answer.absent, [(stream(), range(1, 2)), (stream(), range(4, 4))]);
        assert_eq!(answer.lost, [(stream(), range(3, 3))]);
        assert_eq!(answer.unknown, [(stream(), range(19, 20))], "it waits for the disk");
    }

    #[test]
    fn nothing_is_absent_while_the_disk_is_in_doubt() {
        let mut answering = Answering::default();
        ask(&mut answering, &Records::new(), &records(3, 3), true);
        let (_, answer) = answering.take_answer(false).unwrap();
        assert_eq!((answer.absent.len(), answer.lost.len()), (0, 0));
        assert_eq!(answer.unknown, [(stream(), range(1, 20))]);
    }

    #[test]
    fn what_is_claimed_and_not_found_is_unknown() {
        let mut answering = Answering::default();
        ask(&mut answering, &records(1, 20), &Records::new(), false);
        assert!(answering.take_answer(true).is_none(), "it is being read");
        let (_, answer) = answering.take_answer(false).unwrap();
        assert_eq!(answer.unknown, [(stream(), range(1, 20))]);
    }

    #[test]
    fn an_answer_ends_at_its_bound_and_leaves_the_rest_for_another_question() {
        let mut answering = Answering::default();
        ask(&mut answering, &records(1, 20), &Records::new(), false);
        let read = answering.wants_read(|_, _| Some((SegmentId(1), 0, 4096))).unwrap();
        let runs = alloc::vec![run(1, 1, FETCH_BYTES_MAX - 1), run(2, 1, 1), run(3, 1, 1)];
        assert_eq!(answering.handle_read(&read, runs, (SegmentId(1), 4096)).len(), 2);
        let (_, answer) = answering.take_answer(true).unwrap();
        assert_eq!(answer, Fetched { number: 7, ..Fetched::default() });
        assert!(answering.is_idle());
    }
}

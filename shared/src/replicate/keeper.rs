//! The keeper's side: copies from peers wait here for the next group commit, and are confirmed once durable. Copies that
//! publishers wait for stand before those that only lack a copy (repairs).
//! Bounded: past the limit a copy is refused and its origin sends it again or elsewhere.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::ids::{BoardId, Class, Epoch, Seq, Stream};
use crate::limits::{COPY_QUEUE_BYTES_MAX, REPAIR_QUEUE_BYTES_MAX, RUN_BYTES_MAX, RUN_RECORDS_MAX, STREAMS_MAX};
use crate::ranges::{RangeSet, SeqRange};
use crate::record::{Kind, Reading};
use crate::wire::peer::Run;

/// Copies on their way to the disk.
#[derive(Debug, Default)]
pub struct Keeper {
    /// By class, so that an alarm never waits behind records that the journal has no room for.
    queues: [VecDeque<(BoardId, Run)>; Class::ALL.len()],
    queued_bytes: usize,
    /// Runs among them that carry a gap record.
    gaps: usize,
    /// Copies that are missing, for which nobody waits.
    repairs: VecDeque<(BoardId, Run)>,
    repair_bytes: usize,
    /// In the block being written: whom to tell, of what.
    writing: Vec<(BoardId, Stream, SeqRange)>,
    /// Up to where the other boards have said that their records are committed, by class, each of the latest life heard.
    commits: BTreeMap<BoardId, (Epoch, [Seq; Class::ALL.len()])>,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It waits for the disk.
    Queued,
    /// It is durable here already: confirm it at once.
    Held,
    /// It breaks a limit or its checksum; nothing changed.
    Refused,
}

impl Keeper {
    /// Takes in a copy that `from` sent. `held` is what is durable here.
    pub fn handle_copy(&mut self, from: BoardId, run: Run, held: &BTreeMap<Stream, RangeSet>) -> Taken {
        if let Some(taken) = judge(&run, held) {
            return taken;
        }
        if self.queued_bytes + run.bytes.len() > COPY_QUEUE_BYTES_MAX {
            return Taken::Refused;
        }
        self.queued_bytes += run.bytes.len();
        self.gaps += usize::from(carries_gap(&run));
        self.queues[run.stream.class as usize].push_back((from, run));
        Taken::Queued
    }

    /// The records of `stream` are committed up to `seq`, its origin says. True where that is news.
    pub fn handle_commit(&mut self, stream: &Stream, seq: Seq) -> bool {
        let mut committed = [0; Class::ALL.len()];
        committed[stream.class as usize] = seq;
        self.handle_committed(stream.origin.board, stream.origin.epoch, committed)
    }

    /// In its life `epoch`, `board` has committed its records up to `committed`, by class. True where that is news.
    pub fn handle_committed(&mut self, board: BoardId, epoch: Epoch, committed: [Seq; Class::ALL.len()]) -> bool {
        let before = self.commits.get(&board).copied();
        let mut now = (epoch, committed);
        if let Some((_, known)) = before.filter(|(life, _)| *life == epoch) {
            for (now, known) in now.1.iter_mut().zip(known) {
                *now = known.max(*now);
            }
        }
        self.commits.insert(board, now);
        before != Some(now)
    }

    /// Up to where copies of `stream` may be shed: of the latest life of a board what it has called committed, of one that has
    /// ended all, because it waits for nothing any more. `None` where that life has said nothing since this board started.
    pub fn committed(&self, stream: &Stream) -> Option<Seq> {
        let (life, known) = self.commits.get(&stream.origin.board)?;
        if *life == stream.origin.epoch {
            return Some(known[stream.class as usize]);
        }
        (life.boot >= stream.origin.epoch.boot).then_some(Seq::MAX)
    }

    /// Takes in a copy that `from` sent because it is missing, and that nobody waits for.
    pub fn handle_repair(&mut self, from: BoardId, run: Run, held: &BTreeMap<Stream, RangeSet>) -> Taken {
        if let Some(taken) = judge(&run, held) {
            return taken;
        }
        if self.repair_bytes + run.bytes.len() > REPAIR_QUEUE_BYTES_MAX {
            return Taken::Refused;
        }
        self.repair_bytes += run.bytes.len();
        self.repairs.push_back((from, run));
        Taken::Queued
    }

    /// Bytes and class of the copy that [`Keeper::take_repair`] would return; `None` where none waits.
    pub fn next_repair(&self) -> Option<(usize, Class)> {
        self.repairs.front().map(|(_, run)| (run.bytes.len(), run.stream.class))
    }

    /// The next missing copy to write.
    pub fn take_repair(&mut self) -> Option<Run> {
        let (from, run) = self.repairs.pop_front()?;
        self.repair_bytes -= run.bytes.len();
        Some(self.write(from, run))
    }

    fn write(&mut self, from: BoardId, run: Run) -> Run {
        let range = run.range().expect("what is taken in has a range");
        self.writing.push((from, run.stream, range));
        run
    }

    /// Bytes of the copy that [`Keeper::take_run`] would return; `None` where none of `class` waits.
    pub fn next_bytes(&self, class: Class) -> Option<usize> {
        self.queues[class as usize].front().map(|(_, run)| run.bytes.len())
    }

    /// The next copy of `class` to write.
    pub fn take_run(&mut self, class: Class) -> Option<Run> {
        let (from, run) = self.queues[class as usize].pop_front()?;
        self.queued_bytes -= run.bytes.len();
        self.gaps -= usize::from(carries_gap(&run));
        Some(self.write(from, run))
    }

    /// Whether a gap record of a peer waits to be written: with it, and what came before it, room is made there.
    pub const fn has_gap(&self) -> bool {
        self.gaps > 0
    }

    /// Whether any copy waits for the disk that a publisher waits for.
    pub fn waits(&self) -> bool {
        self.queues.iter().any(|queue| !queue.is_empty())
    }

    /// Whether records of `range` are on their way to the disk.
    pub fn is_coming(&self, stream: &Stream, range: SeqRange) -> bool {
        let queued = self.queues.iter().flatten().chain(&self.repairs);
        let queued = queued.filter_map(|(_, run)| Some((run.stream, run.range()?)));
        let writing = self.writing.iter().map(|(_, stream, range)| (*stream, *range));
        queued
            .chain(writing)
            .any(|(of, part)| of == *stream && part.intersection(range).is_some())
    }

    /// The block with the copies taken is durable: who is to be told of what.
    pub fn handle_durable(&mut self) -> BTreeMap<BoardId, Vec<(Stream, SeqRange)>> {
        let mut confirm: BTreeMap<BoardId, Vec<(Stream, SeqRange)>> = BTreeMap::new();
        for (to, stream, range) in self.writing.drain(..) {
            confirm.entry(to).or_default().push((stream, range));
        }
        confirm
    }
}

/// What becomes of the run whatever else waits; `None` where it is to be written.
fn judge(run: &Run, held: &BTreeMap<Stream, RangeSet>) -> Option<Taken> {
    let Some(range) = run.range().filter(|_| is_sound(run)) else {
        return Some(Taken::Refused);
    };
    match held.get(&run.stream) {
        Some(have) if have.contains_range(range) => Some(Taken::Held),
        None if held.len() >= STREAMS_MAX => Some(Taken::Refused),
        Some(_) | None => None,
    }
}

/// Whether the run says of some records that they were shed: it is taken where nothing else is, because the board that sent
/// it can make room only once it is kept.
pub fn carries_gap(run: &Run) -> bool {
    let mut rest: &[u8] = &run.bytes;
    run.stream.class == Class::Alarm
        && (0..run.count).any(|_| match Reading::decode(rest) {
            Ok((reading, after)) => {
                rest = after;
                reading.kind == Kind::Gap
            }
            Err(_) => false,
        })
}

fn is_sound(run: &Run) -> bool {
    run.count <= RUN_RECORDS_MAX && run.bytes.len() <= RUN_BYTES_MAX && run.is_intact()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Origin};
    use bytes::Bytes;

    fn from() -> BoardId {
        BoardId::new(2).unwrap()
    }

    fn copy(first: u64, count: u32, bytes: usize) -> Run {
        let origin = Origin { board: from(), epoch: Epoch::default() };
        Run::new(Stream { origin, class: Class::Event }, first, count, Bytes::from(alloc::vec![7; bytes]))
    }

    #[test]
    fn a_copy_is_confirmed_once_durable_and_to_its_sender() {
        let (mut keeper, held) = (Keeper::default(), BTreeMap::new());
        assert_eq!(keeper.handle_copy(from(), copy(1, 3, 9), &held), Taken::Queued);
        assert!(keeper.handle_durable().is_empty(), "nothing was written");
        let run = keeper.take_run(Class::Event).unwrap();
        let confirmed = keeper.handle_durable();
        assert_eq!(confirmed[&from()], [(run.stream, SeqRange { first: 1, last: 3 })]);
        assert!(keeper.handle_durable().is_empty(), "told once");
    }

    #[test]
    fn what_is_held_is_confirmed_at_once_and_what_is_unsound_is_refused() {
        let (mut keeper, mut held) = (Keeper::default(), BTreeMap::new());
        let run = copy(5, 2, 4);
        held.insert(run.stream, RangeSet::from_iter([SeqRange { first: 5, last: 6 }]));
        assert_eq!(keeper.handle_copy(from(), run.clone(), &held), Taken::Held);
        let mut flipped = copy(7, 1, 4);
        flipped.crc ^= 1;
        assert_eq!(keeper.handle_copy(from(), flipped, &held), Taken::Refused);
        assert_eq!(keeper.handle_copy(from(), copy(7, 0, 4), &held), Taken::Refused);
        assert_eq!(keeper.handle_copy(from(), copy(7, RUN_RECORDS_MAX, 4), &held), Taken::Queued);
        assert_eq!(keeper.handle_copy(from(), copy(7, RUN_RECORDS_MAX + 1, 4), &held), Taken::Refused);
        assert_eq!(keeper.handle_copy(from(), copy(u64::MAX, 2, 4), &held), Taken::Refused);
    }

    #[test]
    fn the_queue_is_bounded_in_bytes() {
        let (mut keeper, held) = (Keeper::default(), BTreeMap::new());
        let mut first = 1;
        while keeper.handle_copy(from(), copy(first, 1, RUN_BYTES_MAX), &held) == Taken::Queued {
            first += 1;
        }
        assert_eq!((first - 1) as usize, COPY_QUEUE_BYTES_MAX / RUN_BYTES_MAX);
        keeper.take_run(Class::Event);
        assert_eq!(keeper.handle_copy(from(), copy(first, 1, RUN_BYTES_MAX), &held), Taken::Queued);
        let mut repairs = 0;
        while keeper.handle_repair(from(), copy(first, 1, RUN_BYTES_MAX), &held) == Taken::Queued {
            repairs += 1;
        }
        assert_eq!(repairs, REPAIR_QUEUE_BYTES_MAX / RUN_BYTES_MAX, "a queue of their own");
    }

    #[test]
    fn a_copy_may_go_once_its_origin_has_called_it_committed_or_its_life_is_over() {
        let mut keeper = Keeper::default();
        let stream = copy(1, 1, 1).stream;
        let of_life = |boot| Stream { origin: Origin { epoch: Epoch { boot, nonce: 7 }, ..stream.origin }, ..stream };
        assert_eq!(keeper.committed(&of_life(3)), None);
        assert!(keeper.handle_commit(&of_life(3), 40));
        assert!(!keeper.handle_commit(&of_life(3), 30), "no news");
        assert_eq!(keeper.committed(&of_life(3)), Some(40));
        assert_eq!(keeper.committed(&Stream { class: Class::Bulk, ..of_life(3) }), Some(0), "another class");
        keeper.handle_committed(from(), Epoch { boot: 3, nonce: 7 }, [1, 50, 9]);
        assert_eq!(keeper.committed(&of_life(3)), Some(50));
        assert_eq!(keeper.committed(&of_life(2)), Some(Seq::MAX), "that life is over");
        assert_eq!(keeper.committed(&of_life(4)), None, "it has said nothing yet");
        keeper.handle_commit(&of_life(4), 2);
        assert_eq!((keeper.committed(&of_life(4)), keeper.committed(&of_life(3))), (Some(2), Some(Seq::MAX)));
    }

    #[test]
    fn what_is_on_its_way_to_the_disk_is_known_to_be() {
        let (mut keeper, held) = (Keeper::default(), BTreeMap::new());
        let run = copy(5, 2, 4);
        let about = |keeper: &Keeper, first, last| keeper.is_coming(&run.stream, SeqRange { first, last });
        keeper.handle_repair(from(), run.clone(), &held);
        assert!(about(&keeper, 1, 5) && about(&keeper, 6, 9) && !about(&keeper, 7, 9));
        assert!(!keeper.waits(), "nobody waits for it");
        assert_eq!(keeper.take_repair(), Some(run.clone()));
        assert!(about(&keeper, 6, 6), "it is being written");
        keeper.handle_durable();
        assert!(!about(&keeper, 6, 6));
    }
}

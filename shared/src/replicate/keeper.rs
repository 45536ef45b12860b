//! The keeper's side: copies from peers wait here for the next group commit, and are confirmed once durable.
//! Bounded: past the limit a copy is refused and its origin sends it again or elsewhere.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::ids::{BoardId, Class, Stream};
use crate::limits::{COPY_QUEUE_BYTES_MAX, RUN_BYTES_MAX, RUN_RECORDS_MAX, STREAMS_MAX};
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
    /// In the block being written: whom to tell, of what.
    writing: Vec<(BoardId, Stream, SeqRange)>,
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
        let Some(range) = run.range().filter(|_| is_sound(&run)) else {
            return Taken::Refused;
        };
        match held.get(&run.stream) {
            Some(have) if have.contains_range(range) => return Taken::Held,
            None if held.len() >= STREAMS_MAX => return Taken::Refused,
            Some(_) | None => {}
        }
        if self.queued_bytes + run.bytes.len() > COPY_QUEUE_BYTES_MAX {
            return Taken::Refused;
        }
        self.queued_bytes += run.bytes.len();
        self.gaps += usize::from(carries_gap(&run));
        self.queues[run.stream.class as usize].push_back((from, run));
        Taken::Queued
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
        let range = run.range().expect("handle_copy checks the range");
        self.writing.push((from, run.stream, range));
        Some(run)
    }

    /// Whether a gap record of a peer waits to be written: with it, and what came before it, room is made there.
    pub const fn has_gap(&self) -> bool {
        self.gaps > 0
    }

    /// Whether any copy waits for the disk.
    pub fn waits(&self) -> bool {
        self.queues.iter().any(|queue| !queue.is_empty())
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
    }
}

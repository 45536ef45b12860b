//! What a site has sent and the store has not taken yet: alarms, then blocks in the order of arrival, and the one transaction that
//! is on its way. While it is, what arrives gathers, and goes together in the next: group commit without a timer.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::ids::{Class, Stream, Term, Token};
use crate::limits::{BLOCK_RAW_BYTES_MAX, TRANSACTION_BLOCKS_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_RAW_BYTES_MAX};
use crate::ranges::SeqRange;
use crate::region::fence::Fence;
use crate::region::session::SessionId;
use crate::wire::uplink::Block;

/// A block on its way through a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Who sent it.
    pub session: SessionId,
    /// Whose records.
    pub stream: Stream,
    /// Which.
    pub range: SeqRange,
    /// Bytes of its body.
    pub bytes: usize,
}

/// A transaction on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Of the action that asked for it.
    pub token: Token,
    /// The fence that it makes durable.
    pub fence: Option<Term>,
    /// Its blocks, in order.
    pub carried: Vec<Carried>,
}

/// What a transaction is asked to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The fence to make durable.
    pub fence: Option<Term>,
    /// The blocks: alarms first, each kind in order of arrival.
    pub blocks: Vec<Block>,
}

/// How much a transaction holds.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    blocks: usize,
    packed: usize,
    unpacked: usize,
}

impl Weight {
    /// Whether `block` goes in, too. The first does, whatever its size.
    fn has_room(&self, block: &Block) -> bool {
        let unpacked = self.unpacked + unpacked(block);
        let is_small = self.packed + block.body.len() <= TRANSACTION_BYTES_MAX && unpacked <= TRANSACTION_RAW_BYTES_MAX;
        self.blocks == 0 || (is_small && self.blocks < TRANSACTION_BLOCKS_MAX)
    }

    fn add(&mut self, block: &Block) {
        self.blocks += 1;
        self.packed += block.body.len();
        self.unpacked += unpacked(block);
    }
}

/// More than a block may hold is a lie, and is found out unpacked.
fn unpacked(block: &Block) -> usize {
    (block.raw_len as usize).min(BLOCK_RAW_BYTES_MAX)
}

/// The intake of one site.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    /// Who may speak for the site.
    pub fence: Fence,
    alarms: VecDeque<(Carried, Block)>,
    waiting: VecDeque<(Carried, Block)>,
    /// The last transaction held alarms alone, and others waited: one of those goes first now.
    owes_others: bool,
    flight: Option<Flight>,
}

impl Intake {
    /// An empty intake behind `fence`.
    pub const fn new(fence: Fence) -> Self {
        Self { fence, alarms: VecDeque::new(), waiting: VecDeque::new(), owes_others: false, flight: None }
    }

    /// Takes a block whose sequences, already checked, are `range`. The session's own limits bound the queue.
    pub fn push(&mut self, session: SessionId, range: SeqRange, block: Block) {
        let carried = Carried { session, stream: block.stream, range, bytes: block.body.len() };
        let queue = match block.stream.class {
            Class::Alarm => &mut self.alarms,
            Class::Event | Class::Bulk => &mut self.waiting,
        };
        queue.push_back((carried, block));
    }

    /// What goes next, of what fits beside `weight` in one transaction.
    fn next(&mut self, weight: Weight) -> Option<(Carried, Block)> {
        let is_others_turn =
            self.alarms.is_empty() || (self.owes_others && weight.blocks == 0 && !self.waiting.is_empty());
        let queue = if is_others_turn { &mut self.waiting } else { &mut self.alarms };
        let (_, block) = queue.front()?;
        weight.has_room(block).then(|| queue.pop_front()).flatten()
    }

    /// The next transaction, under `token`; `None` while one is on its way or nothing waits.
    pub fn launch(&mut self, token: Token) -> Option<Batch> {
        let fence = self.fence.owed();
        let is_empty = self.alarms.is_empty() && self.waiting.is_empty();
        if self.flight.is_some() || (is_empty && fence.is_none()) {
            return None;
        }
        let (mut blocks, mut carried, mut weight) = (Vec::new(), Vec::new(), Weight::default());
        while let Some((line, block)) = self.next(weight) {
            weight.add(&block);
            carried.push(line);
            blocks.push(block);
        }
        self.owes_others = !self.waiting.is_empty() && blocks.iter().all(|block| block.stream.class == Class::Alarm);
        self.flight = Some(Flight { token, fence, carried });
        Some(Batch { fence, blocks })
    }

    /// The transaction of `token` is over; `None` where it is not the one on its way.
    pub fn land(&mut self, token: Token) -> Option<Flight> {
        self.flight.take_if(|flight| flight.token == token)
    }

    /// Forgets what waits of `session`: it is gone, and whoever follows sends again what is not covered.
    pub fn forget(&mut self, session: SessionId) {
        for queue in [&mut self.alarms, &mut self.waiting] {
            queue.retain(|(line, _)| line.session != session);
        }
    }

    /// Blocks that wait or are on their way.
    pub fn blocks(&self) -> usize {
        self.alarms.len() + self.waiting.len() + self.flight.as_ref().map_or(0, |flight| flight.carried.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::pack;
    use crate::ids::{BoardId, Epoch, Origin};
    use crate::wire::uplink::Codec;

    fn stream() -> Stream {
        let origin = Origin { board: BoardId::new(1).unwrap(), epoch: Epoch::default() };
        Stream { origin, class: Class::Event }
    }

    fn push(intake: &mut Intake, session: u64, block: Block) {
        let range = block.range().unwrap();
        intake.push(SessionId(session), range, block);
    }

    #[test]
    fn what_gathers_goes_together_up_to_the_limit_one_transaction_at_a_time() {
        let mut intake = Intake::default();
        assert_eq!(intake.launch(Token(0)), None);
        for seq in 1..=TRANSACTION_BLOCKS_MAX as u64 + 1 {
            push(&mut intake, 1, pack(stream(), seq, 1, b"x"));
        }
        let batch = intake.launch(Token(1)).unwrap();
        assert_eq!((batch.blocks.len(), batch.fence), (TRANSACTION_BLOCKS_MAX, None));
        assert_eq!(intake.launch(Token(2)), None);
        assert_eq!(intake.land(Token(2)), None);
        assert_eq!(intake.land(Token(1)).map(|flight| flight.carried.len()), Some(TRANSACTION_BLOCKS_MAX));
        assert_eq!(intake.launch(Token(3)).map(|batch| batch.blocks.len()), Some(1));
    }

    #[test]
    fn bytes_bound_a_transaction_too() {
        let mut intake = Intake::default();
        let body = bytes::Bytes::from(alloc::vec![0; TRANSACTION_BYTES_MAX / 4]);
        for seq in 1..=5 {
            push(&mut intake, 1, Block::new(stream(), seq, 1, Codec::Plain, 1, body.clone()));
        }
        assert_eq!(intake.launch(Token(1)).map(|batch| batch.blocks.len()), Some(4));
    }

    #[test]
    fn unpacked_bytes_bound_a_transaction_whatever_they_are_packed_to() {
        let mut intake = Intake::default();
        for seq in 1..=17 {
            let length = (TRANSACTION_RAW_BYTES_MAX / 16) as u32;
            push(&mut intake, 1, Block::new(stream(), seq, 1, Codec::Lz4, length, bytes::Bytes::new()));
        }
        assert_eq!(intake.launch(Token(1)).map(|batch| batch.blocks.len()), Some(16));
    }

    /// A backlog of events that has come before does not keep them waiting.
    #[test]
    fn alarms_go_first() {
        let mut intake = Intake::default();
        for seq in 1..=TRANSACTION_BLOCKS_MAX as u64 + 9 {
            push(&mut intake, 1, pack(stream(), seq, 1, b"x"));
        }
        let alarms = Stream { class: Class::Alarm, ..stream() };
        push(&mut intake, 2, pack(alarms, 1, 1, b"x"));
        push(&mut intake, 3, pack(alarms, 2, 1, b"x"));
        let batch = intake.launch(Token(1)).unwrap();
        assert_eq!(batch.blocks.len(), TRANSACTION_BLOCKS_MAX);
        assert_eq!(batch.blocks[..3].iter().map(|block| block.stream).collect::<Vec<_>>(), [alarms, alarms, stream()]);
        assert_eq!(batch.blocks[..2].iter().map(|block| block.first).collect::<Vec<_>>(), [1, 2]);
        intake.land(Token(1));
        push(&mut intake, 2, pack(alarms, 3, 1, b"x"));
        intake.forget(SessionId(2));
        assert_eq!((intake.blocks(), intake.launch(Token(2)).map(|batch| batch.blocks.len())), (11, Some(11)));
    }

    #[test]
    fn alarms_without_end_do_not_stop_all_else() {
        let mut intake = Intake::default();
        let alarms = Stream { class: Class::Alarm, ..stream() };
        push(&mut intake, 1, pack(stream(), 1, 1, b"x"));
        let mut classes = Vec::new();
        for token in 0..3 {
            for seq in 1..=TRANSACTION_BLOCKS_MAX as u64 {
                push(&mut intake, 1, pack(alarms, seq, 1, b"x"));
            }
            let batch = intake.launch(Token(token)).unwrap();
            classes.push(batch.blocks[0].stream.class);
            intake.land(Token(token));
        }
        assert_eq!(classes, [Class::Alarm, Class::Event, Class::Alarm]);
    }

    #[test]
    fn a_fence_alone_is_a_transaction_and_a_lost_session_leaves_nothing_waiting() {
        let mut intake = Intake::default();
        let term = Term::from_token(9);
        intake.fence.hear(term);
        push(&mut intake, 1, pack(stream(), 1, 1, b"x"));
        push(&mut intake, 2, pack(stream(), 2, 1, b"x"));
        intake.forget(SessionId(1));
        let batch = intake.launch(Token(1)).unwrap();
        assert_eq!((batch.fence, batch.blocks.len(), intake.blocks()), (Some(term), 1, 1));
        intake.land(Token(1));
        assert_eq!(intake.launch(Token(2)).and_then(|batch| batch.fence), Some(term), "still owed");
    }
}

//! The second path of a board to its region: a session of its own beside the first, with the same hello, which takes copies of
//! fresh alarms. It loses some, falls now and then without a word, and what the region says over it reaches the node.

use std::time::Duration;

use bytes::Bytes;
use shared::frame::{self, Conversation};
use shared::hub::SessionId;
use shared::ids::{BoardId, Class};
use shared::wire::uplink::{Hello, ToRegion};

use crate::clock::Moment;
use crate::dice::Dice;
use crate::happening::Happening;
use crate::region::Place;
use crate::world::World;

const TICK: Duration = Duration::from_micros(1);
/// The second path is slower than most first ones, or faster.
const TAKES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(150));
/// A second session stands so long after the first one.
const STANDS_AFTER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(400));
/// The region holds one that fell without a word for so long.
const IDLE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(3_000));
/// Of copies, how many the path swallows, in a million.
const SWALLOWED_PPM: u32 = 100_000;
/// Of copies, with how many the session falls, in a million.
const FALLS_PPM: u32 = 20_000;

/// The second path of one board.
#[derive(Debug)]
pub(crate) struct Beside {
    dice: Dice,
    session: Option<SessionId>,
    /// Nothing arrives at the region before: order is kept.
    at_region: Moment,
}

impl Beside {
    /// A path whose chances are of its own, so that worlds without one stay as they are.
    pub(crate) fn new(seed: u64, board: BoardId) -> Self {
        let dice = Dice::new(seed ^ 0x4245_5349_4445 ^ (u64::from(board.get()) << 56));
        Self { dice, session: None, at_region: Moment::ZERO }
    }
}

impl World {
    fn beside(&mut self, board: BoardId) -> Option<&mut Beside> {
        self.uplinks.get_mut(&board)?.beside.as_mut()
    }

    /// The first session stands, with this hello: a second one with the same region is begun, in the place of an earlier one.
    pub(crate) fn stand_beside(&mut self, board: BoardId, first: SessionId, hello: Hello) {
        self.fall_beside(board);
        let (now, place) = (self.now, Place::of(first));
        if !self.region_runs(place) || self.beside(board).is_none() {
            return;
        }
        let session = self.region_at(place).new_session(board);
        let Some(beside) = self.beside(board) else { return };
        let opened = now + beside.dice.span(STANDS_AFTER.0, STANDS_AFTER.1);
        beside.session = Some(session);
        beside.at_region = opened + TICK;
        let frame = Bytes::from(frame::encode(Conversation::ToRegion, &ToRegion::Hello(hello)));
        self.agenda.put(opened, Happening::UplinkOpened { board, session });
        self.agenda.put(opened + TICK, Happening::ToRegion { session, frame });
    }

    /// The second session falls; the region notices later.
    pub(crate) fn fall_beside(&mut self, board: BoardId) {
        let Some(beside) = self.beside(board) else { return };
        let Some(session) = beside.session.take() else { return };
        let after = beside.dice.span(IDLE.0, IDLE.1);
        self.put_in(after, Happening::UplinkGone { session });
    }

    /// A copy of what is urgent leaves the board.
    pub(crate) fn copy_beside(&mut self, board: BoardId, message: &ToRegion, waits: bool) {
        let urgent = matches!(message, ToRegion::Block(block) if !waits && block.stream.class == Class::Alarm);
        let now = self.now;
        let Some(beside) = self.beside(board).filter(|_| urgent) else { return };
        let Some(session) = beside.session else { return };
        if beside.dice.chance(FALLS_PPM) {
            self.fall_beside(board);
            return;
        }
        if beside.dice.chance(SWALLOWED_PPM) {
            return;
        }
        let at = (now + beside.dice.span(TAKES.0, TAKES.1)).max(beside.at_region + TICK);
        beside.at_region = at;
        self.tally.copies_beside += 1;
        let frame = Bytes::from(frame::encode(Conversation::ToRegion, message));
        self.agenda.put(at, Happening::ToRegion { session, frame });
    }

    /// Whether `session` is the second one of `board`.
    pub(crate) fn is_beside(&self, board: BoardId, session: SessionId) -> bool {
        let beside = self.uplinks.get(&board).and_then(|uplink| uplink.beside.as_ref());
        beside.is_some_and(|beside| beside.session == Some(session))
    }
}

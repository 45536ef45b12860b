//! What happens between a board and the region: the shell dials while the node wants a session, says its hello on
//! each, and reports when it stands and falls. A cut swallows packets in silence until patience ends.

use std::time::Duration;

use bytes::Bytes;
use shared::action::RegionLink;
use shared::frame::{self, Conversation};
use shared::hub::SessionId;
use shared::ids::{BoardId, Stream};
use shared::ranges::RangeSet;
use shared::wire::uplink::{FromRegion, Hello, ToRegion};

use crate::board::Life;
use crate::happening::{Happening, Input};
use crate::region::Place;
use crate::uplink::{BACKLOG_STREAMS, Line};
use crate::world::World;

/// A session over which nothing comes back falls after a time between these.
const SILENCE: (Duration, Duration) = (Duration::from_millis(1_500), Duration::from_millis(3_000));
/// The region that stands by is taken once the better one has been gone for so long: sooner than boards do, since a world is short.
const STANDBY_AFTER: Duration = Duration::from_millis(300);
/// The better one is taken again once it has been there for so long: sooner, too.
const HOME_AFTER: Duration = Duration::from_millis(1_000);
/// Between two looks at it.
const LOOKS_EVERY: Duration = Duration::from_millis(250);
const TICK: Duration = Duration::from_micros(1);
/// Bytes that the uplink carries in a millisecond: 20 Mbit/s.
const BYTES_A_MILLI: u64 = 2_500;

impl World {
    fn uplink(&mut self, board: BoardId) -> &mut crate::uplink::Uplink {
        self.uplinks.get_mut(&board).expect("every board has a way to the region")
    }

    fn life(&self, board: BoardId) -> Life {
        self.boards.get(&board).map_or_else(Life::default, |host| host.life)
    }

    /// The node wants sessions with this hello from now on.
    pub(crate) fn dial(&mut self, board: BoardId, hello: Hello) {
        self.close_line(board);
        self.fall_beside(board);
        let uplink = self.uplink(board);
        uplink.wanted = Some(hello.clone());
        uplink.earlier.get_or_insert(hello);
        self.redial(board, Duration::from_millis(1));
    }

    fn redial(&mut self, board: BoardId, after: Duration) {
        let uplink = self.uplink(board);
        uplink.attempt += 1;
        let attempt = uplink.attempt;
        self.put_in(after, Happening::UplinkTry { board, attempt });
    }

    pub(crate) fn uplink_try(&mut self, board: BoardId, attempt: u64) {
        let uplink = self.uplink(board);
        if uplink.attempt != attempt || uplink.wanted.is_none() || uplink.line.is_some() {
            return;
        }
        let way = uplink.out;
        let open = uplink.is_open();
        let runs = self.boards.get(&board).is_some_and(crate::board::Board::runs);
        let Some(place) = self.place_to_dial(board).filter(|_| open && runs) else {
            let again = self.net_dice.span(Duration::from_millis(200), Duration::from_millis(600));
            self.redial(board, again);
            return;
        };
        let session = self.region_at(place).new_session(board);
        let round = way.least() + way.delay(self.now, &mut self.net_dice);
        let opened = self.now + round + way.least();
        let line = Line {
            session,
            told: false,
            at_region: opened,
            at_board: self.now + round,
            backlog_at: [opened + TICK; BACKLOG_STREAMS],
            turn: 0,
            has_said_hello: false,
            to_region: std::collections::VecDeque::new(),
            to_board: std::collections::VecDeque::new(),
        };
        self.uplink(board).line = Some(line);
        self.agenda.put(opened, Happening::UplinkOpened { board, session });
        self.put_in(round, Happening::UplinkUp { board, session });
    }

    /// The region that answers: the better one, else, once that has been gone for long enough, the one that stands by.
    fn place_to_dial(&mut self, board: BoardId) -> Option<Place> {
        let now = self.now;
        let stands_by = self.region_runs(Place::Standby);
        if self.region_runs(Place::Home) {
            self.uplink(board).home_lost = None;
            return Some(Place::Home);
        }
        let lost = *self.uplink(board).home_lost.get_or_insert(now);
        (stands_by && now.since(lost) >= STANDBY_AFTER).then_some(Place::Standby)
    }

    /// A session with the region that stands by ends once the better one has been there for long enough.
    pub(crate) fn look_home(&mut self, board: BoardId, session: SessionId) {
        let (now, is_there) = (self.now, self.region_runs(Place::Home));
        self.check_beliefs();
        let uplink = self.uplink(board);
        if uplink.line.as_ref().is_none_or(|line| line.session != session) {
            return;
        }
        if Place::of(session) == Place::Home {
            return self.put_in(LOOKS_EVERY, Happening::LookHome { board, session });
        }
        let seen = uplink.home_seen.get_or_insert(now);
        if !is_there {
            uplink.home_seen = None;
        } else if now.since(*seen) >= HOME_AFTER {
            self.line_falls(board, TICK);
            return;
        }
        self.put_in(LOOKS_EVERY, Happening::LookHome { board, session });
    }

    /// Promise 2 with two regions: what a board believes one of them to have it has. So nothing is let go, and nothing held back, on
    /// the word of the other.
    pub(crate) fn check_beliefs(&mut self) {
        let Some(standby) = self.standby.as_ref().filter(|_| !self.is_restored) else {
            return;
        };
        let wrong = self.boards.values().find_map(|host| {
            let (tag, covered) = host.process.as_ref()?.node.known_coverage()?;
            let place = if tag == Place::Home.tag() { Place::Home } else { Place::Standby };
            let store = match place {
                Place::Home => &self.region.store,
                Place::Standby => &standby.store,
            };
            let is_wrong = |(stream, ranges): &(&Stream, &RangeSet)| !store.coverage(stream).contains_all(ranges);
            let (stream, _) = covered.iter().find(is_wrong)?;
            Some(format!("{} takes {} to have what it lacks of {stream}", host.id, place.name()))
        });
        if let Some(what) = wrong {
            self.broken(what);
        }
    }

    /// The region accepts the connection.
    pub(crate) fn uplink_opened(&mut self, board: BoardId, session: SessionId) {
        let place = Place::of(session);
        if self.region_at(place).opens(session) {
            self.drive_hub(place, |hub, now, out| hub.handle_opened(session, (crate::world::site(), board), now, out));
        }
    }

    /// The board's shell has its connection: it says the hello and tells the node.
    pub(crate) fn uplink_up(&mut self, board: BoardId, session: SessionId) {
        let uplink = self.uplink(board);
        let Some(hello) = uplink.wanted.clone() else { return };
        let Some(line) = uplink.line.as_mut().filter(|line| line.session == session) else {
            return;
        };
        line.told = true;
        self.story
            .tell(self.now, board, || format!("session {} with the region, term {}", session.0, hello.term));
        self.send_to_region(board, &ToRegion::Hello(hello.clone()), false);
        self.stand_beside(board, session, hello);
        if self.standby.is_some() {
            self.uplink(board).home_seen = None;
            self.put_in(LOOKS_EVERY, Happening::LookHome { board, session });
        }
        let tag = self.standby.is_some().then(|| Place::of(session).tag());
        self.input(board, Input::RegionLink(RegionLink::Up(tag)));
    }

    /// A message leaves the board; dropped where no session stands.
    pub(crate) fn send_to_region(&mut self, board: BoardId, message: &ToRegion, waits: bool) {
        let standing = self.uplink(board).line.as_ref().is_some_and(|line| line.told);
        if !standing {
            return;
        }
        let frame = Bytes::from(frame::encode(Conversation::ToRegion, message));
        self.story.weigh_bytes(self.now, &frame);
        self.tally.messages += 1;
        self.copy_beside(board, message, waits);
        self.carry_out(board, frame, waits);
    }

    /// What waits goes when nothing else is to be carried, and is overtaken by what comes later.
    fn carry_out(&mut self, board: BoardId, frame: Bytes, waits: bool) {
        let now = self.now;
        let uplink = self.uplinks.get_mut(&board).expect("every board has a way to the region");
        let mut path = uplink.out;
        let Some(line) = uplink.line.as_mut() else { return };
        if !path.is_open() || !line.to_region.is_empty() {
            line.to_region.push_back((frame, waits));
            return;
        }
        let mut delay = path.delay(now, &mut self.net_dice);
        if path.loses(now, &mut self.net_dice) {
            delay += 3 * path.least();
        }
        let takes = Duration::from_micros(frame.len() as u64 * 1_000 / BYTES_A_MILLI);
        let at = if waits {
            line.turn = (line.turn + 1) % BACKLOG_STREAMS;
            &mut line.backlog_at[line.turn]
        } else {
            &mut line.at_region
        };
        *at = (*at + TICK + takes).max(now + delay);
        let at = *at;
        if !std::mem::replace(&mut line.has_said_hello, true) {
            line.backlog_at = [at; BACKLOG_STREAMS];
        }
        let session = line.session;
        self.agenda.put(at, Happening::ToRegion { session, frame });
    }

    /// A frame arrives at the region.
    pub(crate) fn frame_at_region(&mut self, session: SessionId, frame: &Bytes) {
        let place = Place::of(session);
        if !self.region_at(place).is_open(session) {
            return;
        }
        match frame::decode_whole(Conversation::ToRegion, frame) {
            Ok(message) => self.drive_hub(place, |hub, now, out| hub.handle_message(session, message, now, out)),
            Err(why) => self.broken(format!("the region cannot read a message: {why}")),
        }
    }

    /// A message leaves the region.
    pub(crate) fn send_from_region(&mut self, session: SessionId, message: &FromRegion) {
        let Some(board) = self.region_at(Place::of(session)).board_of(session) else {
            return;
        };
        if self.is_beside(board, session) {
            return;
        }
        let frame = Bytes::from(frame::encode(Conversation::FromRegion, message));
        self.story.weigh_bytes(self.now, &frame);
        self.carry_back(board, session, frame);
    }

    fn carry_back(&mut self, board: BoardId, session: SessionId, frame: Bytes) {
        let now = self.now;
        let uplink = self.uplinks.get_mut(&board).expect("every board has a way to the region");
        let path = uplink.back;
        let Some(line) = uplink.line.as_mut().filter(|line| line.session == session) else {
            return;
        };
        if !path.is_open() || !line.to_board.is_empty() {
            line.to_board.push_back(frame);
            return;
        }
        let delay = path.delay(now, &mut self.net_dice);
        line.at_board = (line.at_board + TICK).max(now + delay);
        let at = line.at_board;
        self.agenda.put(at, Happening::FromRegion { board, session, frame });
    }

    pub(crate) fn frame_from_region(&mut self, board: BoardId, session: SessionId, frame: &Bytes) {
        if self.uplink(board).line.as_ref().is_none_or(|line| line.session != session) {
            return;
        }
        match frame::decode_whole(Conversation::FromRegion, frame) {
            Ok(message) => self.input(board, Input::Region(message)),
            Err(why) => self.broken(format!("{board} cannot read a message of the region: {why}")),
        }
    }

    /// The node wants no session any more.
    pub(crate) fn hang_up(&mut self, board: BoardId) {
        self.fall_beside(board);
        self.uplink(board).wanted = None;
        self.close_line(board);
    }

    /// The board's shell closes its session; what it sent before may still arrive.
    fn close_line(&mut self, board: BoardId) {
        let uplink = self.uplink(board);
        let open = uplink.out.is_open();
        let Some(line) = uplink.line.take() else { return };
        let session = line.session;
        if open {
            self.agenda.put(line.at_region + TICK, Happening::UplinkGone { session });
        } else {
            self.put_in(SILENCE.1, Happening::UplinkGone { session });
        }
    }

    pub(crate) fn uplink_gone(&mut self, session: SessionId) {
        let place = Place::of(session);
        if self.region_at(place).closes(session) {
            self.drive_hub(place, |hub, now, out| hub.handle_closed(session, now, out));
        }
    }

    /// The region closes a session, after what it sent before has arrived.
    pub(crate) fn region_closes(&mut self, session: SessionId) {
        let region = self.region_at(Place::of(session));
        let Some(board) = region.board_of(session) else { return };
        region.closes(session);
        if self.is_beside(board, session) {
            return self.fall_beside(board);
        }
        self.tally.sessions_closed += 1;
        let life = self.life(board);
        let Some(line) = self.uplink(board).line.as_ref().filter(|line| line.session == session) else {
            return;
        };
        let at = (line.at_board + TICK).max(self.now);
        self.agenda.put(at, Happening::UplinkDown { board, session, life });
    }

    /// The session falls: the region notices at once or later, the board after `told_after`.
    fn line_falls(&mut self, board: BoardId, told_after: Duration) {
        let life = self.life(board);
        let Some(line) = self.uplink(board).line.as_mut() else { return };
        line.to_region.clear();
        line.to_board.clear();
        let session = line.session;
        let gone = self.net_dice.span(TICK, Duration::from_millis(500));
        self.put_in(gone, Happening::UplinkGone { session });
        self.put_in(told_after, Happening::UplinkDown { board, session, life });
        self.tally.sessions_fallen += 1;
    }

    pub(crate) fn uplink_down(&mut self, board: BoardId, session: SessionId, life: Life) {
        let same_life = self.life(board) == life;
        let uplink = self.uplink(board);
        let Some(line) = uplink.line.take_if(|line| line.session == session) else {
            return;
        };
        if !same_life {
            return;
        }
        self.story
            .tell(self.now, board, || format!("session {} with the region fell", session.0));
        if line.told {
            self.input(board, Input::RegionLink(RegionLink::Down));
        }
        let again = self.net_dice.span(Duration::from_millis(50), Duration::from_millis(400));
        self.redial(board, again);
    }

    pub(crate) fn uplink_suspect(&mut self, board: BoardId, session: SessionId) {
        let uplink = self.uplink(board);
        let stuck = !uplink.is_open() && uplink.line.as_ref().is_some_and(|line| line.session == session);
        if stuck {
            self.line_falls(board, TICK);
        }
    }

    /// Resets the board's session with the region.
    pub(crate) fn reset_uplink(&mut self, board: BoardId) {
        self.line_falls(board, TICK);
    }

    pub(crate) fn uplink_loses_process(&mut self, board: BoardId) {
        self.fall_beside(board);
        let uplink = self.uplink(board);
        uplink.wanted = None;
        uplink.attempt += 1;
        if let Some(line) = uplink.line.take() {
            let after = self.net_dice.span(Duration::from_millis(5), SILENCE.1);
            self.put_in(after, Happening::UplinkGone { session: line.session });
        }
    }

    /// Every session with the region at `place` falls with its process.
    pub(crate) fn uplinks_lose_region(&mut self, place: Place) {
        let is_there =
            |uplink: &crate::uplink::Uplink| uplink.line.as_ref().is_none_or(|line| Place::of(line.session) == place);
        let boards = self.uplinks.iter().filter(|(_, uplink)| is_there(uplink));
        let boards: Vec<BoardId> = boards.map(|(board, _)| *board).collect();
        for board in boards {
            let after = self.net_dice.span(TICK, SILENCE.0);
            self.line_falls(board, after);
            self.fall_beside(board);
        }
    }

    /// Packets of `board` to the region, or back, vanish until [`World::mend_uplink`].
    pub fn cut_uplink(&mut self, board: BoardId, out: bool, back: bool) {
        let uplink = self.uplink(board);
        uplink.out.cuts += u32::from(out);
        uplink.back.cuts += u32::from(back);
        let session = uplink.line.as_ref().map(|line| line.session);
        self.story
            .tell(self.now, board, || format!("uplink is cut (out {out}, back {back})"));
        if let Some(session) = session {
            let after = self.net_dice.span(SILENCE.0, SILENCE.1);
            self.put_in(after, Happening::UplinkSuspect { board, session });
        }
    }

    /// Ends a cut that [`World::cut_uplink`] made.
    pub fn mend_uplink(&mut self, board: BoardId, out: bool, back: bool) {
        let uplink = self.uplink(board);
        uplink.out.cuts = uplink.out.cuts.saturating_sub(u32::from(out));
        uplink.back.cuts = uplink.back.cuts.saturating_sub(u32::from(back));
        let (out_open, back_open) = (uplink.out.is_open(), uplink.back.is_open());
        let Some(line) = uplink.line.as_mut() else { return };
        let session = line.session;
        let out_held = if out_open {
            std::mem::take(&mut line.to_region)
        } else {
            Default::default()
        };
        let back_held = if back_open {
            std::mem::take(&mut line.to_board)
        } else {
            Default::default()
        };
        self.story.tell(self.now, board, || "uplink is mended");
        for (frame, waits) in out_held {
            self.carry_out(board, frame, waits);
        }
        for frame in back_held {
            self.carry_back(board, session, frame);
        }
    }

    /// Ends every cut of the way of `board` to the region.
    pub(crate) fn heal_uplink(&mut self, board: BoardId) {
        let uplink = self.uplink(board);
        let (out, back) = (!uplink.out.is_open(), !uplink.back.is_open());
        uplink.out.cuts = u32::from(out);
        uplink.back.cuts = u32::from(back);
        if out || back {
            self.mend_uplink(board, out, back);
        }
    }

    /// Somebody on the way repeats a hello of an earlier leadership, over a session of its own.
    pub fn replay_stale_hello(&mut self, board: BoardId) {
        let Some(hello) = self.uplink(board).earlier.clone() else { return };
        if self.region.hub.is_none() {
            return;
        }
        self.story
            .tell(self.now, board, || format!("a stale hello of term {} is repeated", hello.term));
        self.tally.stale_hellos += 1;
        let session = self.region.new_session(board);
        let frame = Bytes::from(frame::encode(Conversation::ToRegion, &ToRegion::Hello(hello)));
        self.put_in(Duration::from_millis(1), Happening::UplinkOpened { board, session });
        self.put_in(Duration::from_millis(2), Happening::StaleHello { session, frame });
        self.put_in(Duration::from_millis(400), Happening::UplinkGone { session });
    }
}

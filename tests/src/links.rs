//! What happens between boards: datagrams that may be lost, late, twice or out of order; and for each pair one
//! reliable connection, ordered while it stands, whose messages on the way are lost when it falls. Messages travel as
//! values; one in [`SAMPLE`] is written as it ships, read back and compared, so that the codec takes part as well.

use std::time::Duration;

use shared::frame::{self, Conversation};
use shared::ids::BoardId;
use shared::wire::control::{self, ControlMessage, Packer};
use shared::wire::election::ElectionMessage;
use shared::wire::peer::{Fetched, PeerMessage, Run};

use crate::happening::{Happening, Input};
use crate::mesh::{Pair, Side};
use crate::mutant::Mutant;
use crate::world::World;

/// A connection over which nothing comes back falls after a time between these.
const SILENCE: (Duration, Duration) = (Duration::from_millis(900), Duration::from_millis(2_000));

/// One message in so many is encoded and decoded on its way.
const SAMPLE: u64 = 32;

const TICK: Duration = Duration::from_micros(1);

impl World {
    /// A datagram leaves `from`.
    pub(crate) fn tell(&mut self, from: BoardId, to: BoardId, message: ControlMessage) {
        let lies = self.lies(Mutant::DeniedBecomesGranted);
        let message = match message {
            ControlMessage::Election(ElectionMessage::Denied { term, attempt, .. }) if lies => {
                ControlMessage::Election(ElectionMessage::Granted { term, attempt, clear: true })
            }
            honest => honest,
        };
        self.tally.datagrams += 1;
        if self.tally.datagrams.is_multiple_of(SAMPLE) {
            self.sample_datagram(from, &message);
        }
        let message = Box::new(message);
        for delay in self
            .mesh
            .path(from, to)
            .datagram(self.now, &mut self.net_dice)
            .into_iter()
            .flatten()
        {
            self.put_in(delay, Happening::Datagram { from, to, message: message.clone() });
        }
    }

    fn sample_datagram(&mut self, from: BoardId, message: &ControlMessage) {
        let mut packer = Packer::default();
        packer.push(message);
        let datagram = packer.take().unwrap_or_default();
        self.story.weigh_bytes(self.now, &datagram);
        if control::unpack(&datagram).as_deref() != Ok(std::slice::from_ref(message)) {
            self.broken(format!("a datagram of {from} is read as another: {message:?}"));
        }
    }

    pub(crate) fn datagram_arrives(&mut self, from: BoardId, to: BoardId, message: ControlMessage) {
        self.story.weigh(self.now, u64::from(from.get()) << 8 | u64::from(to.get()));
        if !self.boards[&to].is_drowned() {
            self.input(to, Input::Control { from, message });
        }
    }

    fn runs(&self, board: BoardId) -> bool {
        self.boards.get(&board).is_some_and(crate::board::Board::runs)
    }

    /// Where no connection stands, one is tried again and again, as both boards' shells do.
    pub(crate) fn link_try(&mut self, pair: Pair, generation: u64) {
        let link = self.mesh.link(pair);
        if link.stands || link.generation != generation {
            return;
        }
        let possible = self.runs(pair.low) && self.runs(pair.high) && self.mesh.both_open(pair);
        if !possible {
            let again = self.net_dice.span(Duration::from_millis(80), Duration::from_millis(300));
            self.put_in(again, Happening::LinkTry { pair, generation });
            return;
        }
        // A side that has not noticed yet is told by the new connection.
        for side in Side::BOTH {
            if std::mem::take(&mut self.mesh.link(pair).end(side).told) {
                self.input(pair.at(side), Input::Link { peer: pair.at(side.other()), up: false });
            }
        }
        let now = self.now;
        let link = self.mesh.link(pair);
        link.stands = true;
        for side in Side::BOTH {
            let after = self.net_dice.span(Duration::from_millis(1), Duration::from_millis(15));
            self.mesh.link(pair).end(side).arrives = now + after;
            self.put_in(after, Happening::LinkUp { pair, generation, side });
        }
    }

    pub(crate) fn link_up(&mut self, pair: Pair, generation: u64, side: Side) {
        let link = self.mesh.link(pair);
        if !link.stands || link.generation != generation {
            return;
        }
        link.end(side).told = true;
        let (board, peer) = (pair.at(side), pair.at(side.other()));
        self.story.tell(self.now, board, || format!("connected to {peer}"));
        self.input(board, Input::Link { peer, up: true });
    }

    /// A message leaves `from` on the reliable connection; dropped where none stands.
    pub(crate) fn send(&mut self, from: BoardId, to: BoardId, message: PeerMessage) {
        let message = self.lie_about_repair(message);
        if let PeerMessage::Copy { run, .. } | PeerMessage::Repair(run) = &message {
            if let Err(what) = self.model.run_travels(from, run) {
                self.broken(what);
            }
            let is_copy = matches!(message, PeerMessage::Copy { .. });
            self.tally.copies += u64::from(is_copy);
            self.tally.repairs += u64::from(!is_copy);
        }
        let pair = Pair::new(from, to);
        let link = self.mesh.link(pair);
        let generation = link.generation;
        let side = pair.side(to);
        if !link.stands || !link.end(side.other()).told {
            return;
        }
        if self.lies(Mutant::CopyConfirmedByNetwork)
            && let PeerMessage::Copy { run, .. } = &message
            && let Some(range) = run.range()
            && self.net_dice.coin()
        {
            let confirmed = PeerMessage::Durable(vec![(run.stream, range)]);
            let message = Box::new(confirmed);
            self.put_in(TICK, Happening::LinkFrame { pair, generation, side: side.other(), message });
            return;
        }
        if self.lies(Mutant::AbsenceInvented)
            && let PeerMessage::Fetch { number, wanted } = message
        {
            let answer = Fetched { number, absent: wanted, ..Fetched::default() };
            let message = Box::new(PeerMessage::Fetched(answer));
            self.put_in(TICK, Happening::LinkFrame { pair, generation, side: side.other(), message });
            return;
        }
        self.tally.messages += 1;
        if self.tally.messages.is_multiple_of(SAMPLE) {
            self.sample_message(from, &message);
        }
        self.carry(pair, side, Box::new(message));
    }

    /// A board serves bytes that it has not verified, or says that it lacks what it was asked for.
    fn lie_about_repair(&self, message: PeerMessage) -> PeerMessage {
        match message {
            PeerMessage::Repair(run) if self.lies(Mutant::UnverifiedServed) => {
                let mut bytes = run.bytes.to_vec();
                bytes[0] ^= 1;
                PeerMessage::Repair(Run::new(run.stream, run.first, run.count, bytes.into()))
            }
            message => message,
        }
    }

    fn sample_message(&mut self, from: BoardId, message: &PeerMessage) {
        let frame = frame::encode(Conversation::Peer, message);
        self.story.weigh_bytes(self.now, &frame);
        if frame::decode_whole(Conversation::Peer, &frame).as_ref() != Ok(message) {
            self.broken(format!("a message of {from} is read as another: {message:?}"));
        }
    }

    fn carry(&mut self, pair: Pair, side: Side, message: Box<PeerMessage>) {
        let now = self.now;
        let (from, to) = (pair.at(side.other()), pair.at(side));
        let mut path = *self.mesh.path(from, to);
        let link = self.mesh.link(pair);
        let generation = link.generation;
        let end = link.end(side);
        if !path.is_open() || !end.held.is_empty() {
            end.held.push_back(message);
            return;
        }
        let mut delay = path.delay(now, &mut self.net_dice);
        if path.loses(now, &mut self.net_dice) {
            // Sent again after a probe timeout.
            delay += 3 * path.least() + Duration::from_millis(5);
        }
        // A gigabit.
        delay += Duration::from_micros(length(&message) as u64 / 125);
        end.arrives = (end.arrives + TICK).max(now + delay);
        let at = end.arrives;
        self.agenda.put(at, Happening::LinkFrame { pair, generation, side, message });
    }

    pub(crate) fn link_frame(&mut self, pair: Pair, generation: u64, side: Side, message: PeerMessage) {
        let link = self.mesh.link(pair);
        if !link.stands || link.generation != generation {
            return;
        }
        let (from, to) = (pair.at(side.other()), pair.at(side));
        self.story.weigh(self.now, u64::from(from.get()) << 16 | u64::from(to.get()));
        self.input(to, Input::Message { from, message });
    }

    /// The connection of `pair` falls; each side is told after its span.
    pub(crate) fn link_falls(&mut self, pair: Pair, low: Duration, high: Duration) {
        let link = self.mesh.link(pair);
        if !link.stands {
            return;
        }
        link.fall();
        let generation = link.generation;
        self.put_in(low, Happening::LinkDown { pair, generation, side: Side::Low });
        self.put_in(high, Happening::LinkDown { pair, generation, side: Side::High });
        let again = low.min(high) + self.net_dice.span(Duration::from_millis(30), Duration::from_millis(200));
        self.put_in(again, Happening::LinkTry { pair, generation });
        self.tally.links_fallen += 1;
    }

    pub(crate) fn link_down(&mut self, pair: Pair, generation: u64, side: Side) {
        let link = self.mesh.link(pair);
        if link.generation != generation || link.stands || !std::mem::take(&mut link.end(side).told) {
            return;
        }
        let (board, peer) = (pair.at(side), pair.at(side.other()));
        self.story.tell(self.now, board, || format!("connection to {peer} fell"));
        self.input(board, Input::Link { peer, up: false });
    }

    /// Looks at a connection of which a side may have been silent for too long.
    pub(crate) fn link_suspect(&mut self, pair: Pair, generation: u64) {
        let link = self.mesh.link(pair);
        if !link.stands || link.generation != generation {
            return;
        }
        let silent = !self.runs(pair.low) || !self.runs(pair.high) || !self.mesh.both_open(pair);
        if silent {
            let lag = Duration::from_millis(300);
            let (low, high) = (self.net_dice.span(TICK, lag), self.net_dice.span(TICK, lag));
            self.link_falls(pair, low, high);
        }
    }

    fn suspect(&mut self, pair: Pair) {
        let generation = self.mesh.link(pair).generation;
        let after = self.net_dice.span(SILENCE.0, SILENCE.1);
        self.put_in(after, Happening::LinkSuspect { pair, generation });
    }

    pub(crate) fn suspect_links_of(&mut self, board: BoardId) {
        for pair in self.mesh.pairs_of(board) {
            self.suspect(pair);
        }
    }

    /// The process of `board` is gone: its own ends with it, the other side notices sooner or later.
    pub(crate) fn links_lose_process(&mut self, board: BoardId) {
        for pair in self.mesh.pairs_of(board) {
            self.mesh.link(pair).end(pair.side(board)).told = false;
            let quick = self.net_dice.coin();
            let most = if quick { Duration::from_millis(20) } else { SILENCE.1 };
            let after = self.net_dice.span(TICK, most);
            self.link_falls(pair, after, after);
        }
    }

    /// Nothing gets from `from` to `to` any more, until [`World::mend_way`].
    pub fn cut_way(&mut self, from: BoardId, to: BoardId) {
        self.mesh.path(from, to).cuts += 1;
        self.story.tell(self.now, "network", || format!("cut from {from} to {to}"));
        self.suspect(Pair::new(from, to));
    }

    /// One cut from `from` to `to` is mended; what was stuck on a connection that still stands goes on.
    pub fn mend_way(&mut self, from: BoardId, to: BoardId) {
        let path = self.mesh.path(from, to);
        if path.is_open() {
            return;
        }
        path.cuts -= 1;
        if !path.is_open() {
            return;
        }
        self.story.tell(self.now, "network", || format!("mended from {from} to {to}"));
        let pair = Pair::new(from, to);
        let side = pair.side(to);
        let held = std::mem::take(&mut self.mesh.link(pair).end(side).held);
        for message in held {
            self.carry(pair, side, message);
        }
    }

    /// The connection of two boards is reset; both sides notice at once.
    pub(crate) fn reset_link(&mut self, pair: Pair) {
        self.story
            .tell(self.now, "network", || format!("connection {} to {} is reset", pair.low, pair.high));
        self.link_falls(pair, TICK, TICK);
    }
}

/// About how many bytes the message takes as a frame.
fn length(message: &PeerMessage) -> usize {
    const REST: usize = 64;
    match message {
        PeerMessage::Copy { run, .. } | PeerMessage::Repair(run) => run.bytes.len() + REST,
        PeerMessage::Holds { lines, .. } => lines.len() * 48,
        PeerMessage::Fetch { wanted, .. } => wanted.len() * 20,
        PeerMessage::Fetched(answer) => (answer.absent.len() + answer.lost.len() + answer.unknown.len()) * 20,
        PeerMessage::Block(block) | PeerMessage::Backlog(block) => block.body.len() + REST,
        PeerMessage::Durable(lines) => lines.len() * 20,
        PeerMessage::Ask(streams) => streams.len() * 16,
        PeerMessage::Coverage(lines) => lines.len() * 32,
        PeerMessage::Hello(_)
        | PeerMessage::UplinkOpen { .. }
        | PeerMessage::UplinkClosed { .. }
        | PeerMessage::Report(_) => REST,
    }
}

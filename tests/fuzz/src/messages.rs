//! Targets for what machines say to each other. Bytes are read as the envelope or datagram that they may be, and as a
//! conversation: a row of messages, each with who says it and how long after the one before, that a whole board, hub or
//! witness is told. Nothing panics, no invariant breaks, and nothing goes on without an end.

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::block;
use shared::frame::{self, Conversation};
use shared::hub::{Hub, HubAction, HubConfig, HubMemory, SessionId, StoreFailed, Stored, Tally};
use shared::ids::{BoardId, BoardSet, Epoch};
use shared::limits::{CONTROL_BATCH_MAX, DATAGRAM_BYTES_MAX};
use shared::outbox::Outbox;
use shared::ranges::RangeSet;
use shared::region::ledger::settle;
use shared::time::Instant;
use shared::wire::control::{CONTROL_VERSION, ControlMessage, Packer, unpack};
use shared::wire::duty::DutyMessage;
use shared::wire::election::ElectionMessage;
use shared::wire::heartbeat::{Heartbeat, Vitals};
use shared::wire::obituary::Obituary;
use shared::wire::peer::PeerMessage;
use shared::wire::uplink::{FromRegion, ToRegion};
use shared::witness::{Output, Witness};

use super::board::{Board, board, site};

/// Messages of one conversation.
const MESSAGES_MAX: usize = 48;

/// A message, who says it, and how many milliseconds after the one before.
struct Said<M> {
    from: u8,
    after: u64,
    message: M,
}

/// The conversation in `data`, as far as it can be read.
fn conversation<M: DeserializeOwned>(mut data: &[u8]) -> Vec<Said<M>> {
    let mut said = Vec::new();
    while let [from, after, rest @ ..] = data
        && said.len() < MESSAGES_MAX
        && let Ok((message, rest)) = postcard::take_from_bytes(rest)
    {
        said.push(Said { from: *from, after: u64::from(*after), message });
        data = rest;
    }
    said
}

/// Reads `data` as a frame and as its body: what is read is written the same, and no flipped bit passes.
fn envelope<M: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug>(kind: Conversation, data: &[u8]) {
    let _ = frame::decode_whole::<M>(kind, data);
    let Ok((message, _)) = postcard::take_from_bytes::<M>(data) else { return };
    let mut whole = frame::encode(kind, &message);
    assert_eq!(frame::decode_whole(kind, &whole), Ok(message), "what is written is read");
    let bit = data.len() * 7 % (whole.len() * 8);
    whole[bit / 8] ^= 1 << (bit % 8);
    assert!(frame::decode_whole::<M>(kind, &whole).is_err(), "bit {bit} went unnoticed");
}

/// Another board than board 1, of three.
fn peer_of(from: u8) -> BoardId {
    board(1 + from % 2)
}

/// What boards say to each other on their connection, and what they make of it.
pub fn peer(data: &[u8]) {
    envelope::<PeerMessage>(Conversation::Peer, data);
    let mut told = Board::new(3);
    for Said { from, after, message } in conversation(data) {
        told.pass(after);
        told.peer(peer_of(from), message);
    }
    told.pass(1_000);
}

/// What the region says to a board that leads.
pub fn from_region(data: &[u8]) {
    envelope::<FromRegion>(Conversation::FromRegion, data);
    let mut told = Board::new(1);
    assert!(told.has_dialled(), "a board alone speaks to the region");
    for Said { after, message, .. } in conversation(data) {
        told.pass(after);
        told.region(message);
    }
    told.pass(1_000);
}

/// Datagrams between boards: what is unpacked is packed into the same messages, and a board is told them.
pub fn control(data: &[u8]) {
    let read = unpack(data);
    if data.len() > DATAGRAM_BYTES_MAX || data.first() != Some(&CONTROL_VERSION) {
        assert!(read.is_err(), "it is no datagram of this version");
    }
    let Ok(messages) = read else { return };
    assert!(messages.len() <= CONTROL_BATCH_MAX);
    let mut packer = Packer::default();
    let mut datagrams: Vec<_> = messages.iter().filter_map(|message| packer.push(message)).collect();
    datagrams.extend(packer.take());
    let again = datagrams.iter().flat_map(|datagram| unpack(datagram).expect("it was packed"));
    assert!(again.eq(messages.iter().cloned()), "what is packed is unpacked");
    let mut told = Board::new(3);
    for (nth, message) in messages.into_iter().enumerate() {
        told.control(board(1 + (nth % 2) as u8), message);
    }
    told.pass(1_000);
}

fn datagrams<M: DeserializeOwned>(data: &[u8], wrapped: fn(M) -> ControlMessage) {
    let mut told = Board::new(3);
    for Said { from, after, message } in conversation(data) {
        told.pass(after);
        told.control(peer_of(from), wrapped(message));
    }
    told.pass(1_000);
}

/// Signs of life, and what boards tell each other of whom they hear.
pub fn heartbeat(data: &[u8]) {
    datagrams::<Heartbeat>(data, ControlMessage::Heartbeat);
    datagrams(data, ControlMessage::Hearing);
}

/// Votes: a board is told them, and a witness.
pub fn election(data: &[u8]) {
    datagrams::<ElectionMessage>(data, ControlMessage::Election);
    let (mut now, mut out) = (Instant::from_micros(1), Outbox::default());
    let mut witness = Witness::new([], 1, now);
    for Said { from, after, message } in conversation(data) {
        now = Instant::from_micros(now.micros() + after * 1000);
        witness.handle_message(&site(), peer_of(from), &message, now, &mut out);
        while let Some(output) = out.pop() {
            if let Output::Remember { site, memory } = output {
                witness.handle_remembered(&site, memory, now, &mut out);
            }
        }
    }
}

/// Who does what.
pub fn duty(data: &[u8]) {
    datagrams::<DutyMessage>(data, ControlMessage::Duty);
}

/// Obituaries: what is signed and the signature are what came, and a board hears of the death.
pub fn obituary(data: &[u8]) {
    if let Some((read, signed, signature)) = Obituary::decode(data) {
        assert_eq!([signed, signature].concat(), data, "all of it is signed or signature");
        // Numbers may be written longer than need be; what this build writes is read as the same.
        let again = read.encode();
        assert_eq!(Obituary::decode(&again).map(|(again, ..)| again), Some(read));
    }
    let mut told = Board::new(3);
    for (nth, Said { from, after, message }) in conversation::<Obituary>(data).into_iter().enumerate() {
        told.pass(after);
        // Some of those who are said to be dead have lived.
        let (life, number) = (message.life ^ u64::from(from & 1), nth as u64 + 1);
        told.control(peer_of(message.board.get()), ControlMessage::Heartbeat(alive(life, number)));
        told.obituary(message.board, message.life);
    }
    told.pass(1_000);
}

fn alive(nonce: u64, number: u64) -> Heartbeat {
    Heartbeat {
        epoch: Epoch { boot: 1, nonce },
        number,
        vitals: Vitals::default(),
        missed: BoardSet::EMPTY,
        version: 0,
        digest: 0,
        period_ms: 100,
        wanted_ms: 100,
    }
}

/// What a site says to the region, over two sessions.
pub fn to_region(data: &[u8]) {
    envelope::<ToRegion>(Conversation::ToRegion, data);
    let (mut now, mut out) = (Instant::ZERO, Outbox::default());
    let config = HubConfig { sites: [site()].into_iter().collect() };
    let mut hub = Hub::new(config, HubMemory::default(), now);
    for session in 0..2 {
        hub.handle_opened(SessionId(session), (site(), board(session as u8)), now, &mut out);
    }
    for Said { from, after, message } in conversation(data) {
        now = Instant::from_micros(now.micros() + after * 1000);
        hub.handle_deadline(now, &mut out);
        hub.check();
        serve(&mut hub, now, &mut out, from & 2 != 0);
        hub.handle_message(SessionId(u64::from(from % 2)), message, now, &mut out);
        hub.check();
        serve(&mut hub, now, &mut out, from & 4 != 0);
    }
    serve(&mut hub, now, &mut out, false);
}

/// The store does what it is asked, or, where it `fails`, nothing of it.
fn serve(hub: &mut Hub, now: Instant, out: &mut Outbox<HubAction>, fails: bool) {
    while let Some(action) = out.pop() {
        match action {
            HubAction::Store { token, blocks, .. } => {
                let stored = |block: &shared::wire::uplink::Block| {
                    let settled = settle(&RangeSet::EMPTY, block);
                    if settled.is_ok() {
                        assert!(block::unpack(block).is_ok(), "what is filed holds together");
                    }
                    let outcome =
                        settled.map(|settled| Tally { rows: settled.readings().count() as u64, ..Tally::default() });
                    Stored { stream: block.stream, outcome }
                };
                let result = if fails {
                    Err(StoreFailed)
                } else {
                    Ok(blocks.iter().map(stored).collect())
                };
                hub.handle_stored(token, result, now, out);
            }
            HubAction::Load { token, .. } => hub.handle_loaded(token, Ok(Vec::new()), now, out),
            HubAction::Close { session } | HubAction::SendAway { session } => hub.handle_closed(session, now, out),
            HubAction::Send { .. } | HubAction::Report { .. } | HubAction::Duties { .. } | HubAction::Notice { .. } => {
            }
        }
        hub.check();
    }
}

//! One connection's task: its socket, its buffers and its patience. Moves bytes between the socket and the
//! [`Conversation`], offers to the node, answers back; decides nothing about either.
//!
//! Publishes found in one read are offered as one batch, and acknowledgements that an answer frees leave in one
//! write. While the node takes no batch, packets are read on into the next one up to a bound, so that a PINGREQ is
//! answered; past the bound the socket is left unread, TCP pushes back, and the client's silence is not counted.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::action::Offer;
use shared::limits::{DOOR_IN_FLIGHT_MAX, DOOR_READ_BYTES_MAX, DOOR_UNSENT_BYTES_MAX};
use shared::time::WallMillis;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::connect::Will;
use super::conversation::{Batch, Conversation};
use super::counters::add;
use super::fault::Fault;
use super::mailbox::Mailbox;
use super::packet::Version;
use super::registry::{Leave, Life, Seat};
use super::wire::{Incoming, Wire};
use super::{Door, reply, stopped};

/// How long a connection that ended waits for the node to take its last publishes.
const LAST_BATCH_PATIENCE: Duration = Duration::from_secs(4);
/// Later than any deadline.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client said so.
    Left { with_will: bool },
    /// The socket ended or failed.
    Lost,
    /// This side ends it.
    Fault(Fault),
}

/// A connection with a session.
pub(super) struct Connection {
    pub(super) door: Arc<Door>,
    pub(super) wire: Wire,
    pub(super) conversation: Conversation,
    pub(super) client: String,
    pub(super) will: Option<Box<Will>>,
    pub(super) keep_alive: Option<Duration>,
    pub(super) life: Life,
    pub(super) seat: Arc<Seat>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) batch: Batch,
    pub(super) patience: Patience,
}

/// Since when this side waits for the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The last whole packet, or the last time the socket was left unread.
    quiet: Instant,
    /// The first byte of a packet that is not whole.
    partial: Option<Instant>,
    /// The last byte written, while more wait.
    unsent: Option<Instant>,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self { quiet: now, partial: None, unsent: None }
    }
}

/// How far what was read could be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// To its last whole packet.
    Done,
    /// To a bound; whole packets may be left.
    OutOfRoom,
}

/// What a connection woke up for.
enum Woken {
    Stop,
    Wanted,
    Answers,
    /// The node takes a batch, or is gone.
    Room(Option<OwnedPermit<Vec<Offer>>>),
    Writable,
    Readable,
    Time,
}

impl Connection {
    /// Serves the client until one side ends, then leaves everything in order.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let ending = self.converse(&mut stop).await;
        self.leave(ending).await;
    }

    async fn converse(&mut self, stop: &mut watch::Receiver<bool>) -> Ending {
        let mut timer = pin!(sleep_until(Instant::now() + FAR));
        loop {
            if let Err(ending) = self.turn() {
                return ending;
            }
            let has_room = self.has_room();
            let now = Instant::now();
            self.watch_patience(now, has_room);
            let (due, _) = self.deadline(now, has_room);
            if due < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(due);
            }
            let woken = self.wait(stop, has_room, timer.as_mut()).await;
            if let Err(ending) = self.wake(woken).await {
                return ending;
            }
        }
    }

    /// Everything that can be done without waiting.
    fn turn(&mut self) -> Result<(), Ending> {
        loop {
            let was_stopped = self.read_packets()? == Reading::OutOfRoom;
            let words_found = self.conversation.acknowledge(&mut self.wire.out, DOOR_UNSENT_BYTES_MAX);
            self.offer()?;
            self.wire.write_now().map_err(|_| Ending::Lost)?;
            if !words_found {
                // MQTT 3.1.1 has no word for a refused publish but the closed connection.
                return Err(Ending::Fault(Fault::TopicName));
            }
            // What was just offered and said may have made room for packets already read.
            if !was_stopped || !self.has_room() {
                break;
            }
        }
        let is_idle = self.batch.offers.is_empty() && self.conversation.session.in_flight() == 0;
        self.wire.settle(is_idle, self.batch.bytes);
        Ok(())
    }

    fn read_packets(&mut self) -> Result<Reading, Ending> {
        if self.wire.is_drained() {
            return Ok(Reading::Done);
        }
        let taken = wall_clock();
        while self.has_room() {
            let frame = match self.wire.next_frame() {
                Incoming::Whole(frame) => frame,
                Incoming::Partial => return Ok(Reading::Done),
                Incoming::Wrong(fault) => return Err(Ending::Fault(fault)),
            };
            self.patience.quiet = Instant::now();
            self.patience.partial = None;
            let handled = self
                .conversation
                .handle_frame(frame, taken, &mut self.batch, &mut self.wire.out);
            if let Some(farewell) = handled.map_err(Ending::Fault)? {
                return Err(Ending::Left { with_will: farewell.with_will });
            }
        }
        Ok(Reading::OutOfRoom)
    }

    /// Whether more may be read.
    fn has_room(&self) -> bool {
        let is_tight = !self.batch.offers.is_empty() && self.wire.is_tight();
        // MQTT 5 clients are held to the announced maximum by their own count.
        let is_deep =
            self.conversation.version == Version::V3 && self.conversation.session.in_flight() >= DOOR_IN_FLIGHT_MAX;
        self.batch.bytes < DOOR_READ_BYTES_MAX && self.wire.out.len() < DOOR_UNSENT_BYTES_MAX && !is_deep && !is_tight
    }

    fn offer(&mut self) -> Result<(), Ending> {
        if self.batch.offers.is_empty() {
            return Ok(());
        }
        match self.door.offers.try_send(std::mem::take(&mut self.batch.offers)) {
            Ok(()) => {
                self.batch.bytes = 0;
                add(&self.door.counters.batches, 1);
                Ok(())
            }
            Err(TrySendError::Full(offers)) => {
                self.batch.offers = offers;
                Ok(())
            }
            Err(TrySendError::Closed(offers)) => {
                self.batch.offers = offers;
                Err(Ending::Fault(Fault::ShuttingDown))
            }
        }
    }

    fn watch_patience(&mut self, now: Instant, has_room: bool) {
        if !has_room {
            self.patience.quiet = now;
        }
        let is_partial = has_room && !self.wire.is_drained();
        self.patience.partial = is_partial.then(|| self.patience.partial.unwrap_or(now));
        let is_unsent = !self.wire.out.is_empty();
        self.patience.unsent = match (is_unsent, self.wire.has_written()) {
            (false, _) => None,
            (true, true) => Some(now),
            (true, false) => Some(self.patience.unsent.unwrap_or(now)),
        };
    }

    /// When the peer's time is up, and how that is said.
    fn deadline(&self, now: Instant, has_room: bool) -> (Instant, Fault) {
        let patience = self.door.config.packet_patience;
        let quiet = self
            .keep_alive
            .filter(|_| has_room)
            .map(|keep| (self.patience.quiet + keep * 3 / 2, Fault::KeepAlive));
        let partial = self.patience.partial.map(|since| (since + patience, Fault::KeepAlive));
        let unsent = self.patience.unsent.map(|since| (since + patience, Fault::Stalled));
        [quiet, partial, unsent]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or((now + FAR, Fault::KeepAlive))
    }

    async fn wait(&self, stop: &mut watch::Receiver<bool>, has_room: bool, timer: std::pin::Pin<&mut Sleep>) -> Woken {
        let has_batch = !self.batch.offers.is_empty();
        let has_unsent = !self.wire.out.is_empty();
        // In this order: what ends the connection, what frees room, what fills it; time is judged after all input.
        tokio::select! {
            biased;
            () = stopped(stop) => Woken::Stop,
            () = self.seat.wanted.notified() => Woken::Wanted,
            () = self.mailbox.bell.notified() => Woken::Answers,
            room = room_at(&self.door.offers), if has_batch => Woken::Room(room),
            _ = self.wire.stream.writable(), if has_unsent => Woken::Writable,
            _ = self.wire.stream.readable(), if has_room => Woken::Readable,
            () = timer => Woken::Time,
        }
    }

    async fn wake(&mut self, woken: Woken) -> Result<(), Ending> {
        match woken {
            Woken::Stop | Woken::Room(None) => Err(Ending::Fault(Fault::ShuttingDown)),
            Woken::Room(Some(room)) => {
                room.send(std::mem::take(&mut self.batch.offers));
                self.batch.bytes = 0;
                add(&self.door.counters.batches, 1);
                Ok(())
            }
            Woken::Wanted => Err(Ending::Fault(Fault::TakenOver)),
            Woken::Answers => {
                self.take_answers();
                Ok(())
            }
            // The next turn writes.
            Woken::Writable => Ok(()),
            Woken::Readable => match self.wire.read_now().await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Ending::Lost),
                Err(fault) => Err(fault.map_or(Ending::Lost, Ending::Fault)),
            },
            Woken::Time => {
                let now = Instant::now();
                let (due, fault) = self.deadline(now, self.has_room());
                if due <= now { Err(Ending::Fault(fault)) } else { Ok(()) }
            }
        }
    }

    fn take_answers(&mut self) {
        for (serial, answer) in self.mailbox.take() {
            self.conversation.session.handle_answer(serial, answer);
        }
    }

    async fn leave(mut self, ending: Ending) {
        // What is due is said before the end, if the socket takes it: a stopping board has just answered its last. A
        // failure to say it only means that it was not said.
        self.take_answers();
        let _ = self.conversation.acknowledge(&mut self.wire.out, DOOR_UNSENT_BYTES_MAX);
        if let Ending::Fault(fault) = ending {
            self.door.note_ending(self.wire.peer, fault);
            reply::disconnect(self.conversation.version, fault, &mut self.wire.out);
        }
        let _ = self.wire.write_now();
        self.offer_last().await;
        let with_will = match ending {
            Ending::Left { with_will } => with_will,
            Ending::Lost => true,
            // The client is not lost, this board is.
            Ending::Fault(fault) => fault != Fault::ShuttingDown,
        };
        let will = self.will.take().filter(|_| with_will).map(|will| {
            let offer = self.conversation.will(&will, wall_clock());
            (Box::new(offer), Duration::from_secs(u64::from(will.delay_s)))
        });
        let keep = Duration::from_secs(u64::from(self.conversation.session_expiry_s));
        let leave = Leave { session: self.conversation.session, keep, will };
        let due = self.door.registry.leave(&self.client, self.life, leave);
        self.door.publish_wills(due.map(|offer| *offer).into_iter().collect()).await;
        self.wire.close(matches!(ending, Ending::Fault(_))).await;
    }

    /// Offers what was read before the end: a QoS 0 publisher says goodbye and believes it is done.
    async fn offer_last(&mut self) {
        let offers = std::mem::take(&mut self.batch.offers);
        if offers.is_empty() {
            return;
        }
        let tickets: Vec<_> = offers.iter().map(|offer| offer.ticket).collect();
        if let Ok(Ok(permit)) = timeout(LAST_BATCH_PATIENCE, self.door.offers.reserve()).await {
            permit.send(offers);
            return;
        }
        for ticket in tickets {
            match ticket {
                Some(ticket) => self.conversation.session.handle_dropped(ticket.0 as u32),
                None => add(&self.door.counters.unacknowledged_dropped, 1),
            }
        }
    }
}

/// Waits for its turn to hand the node a batch; `None` where the node is gone.
async fn room_at(offers: &mpsc::Sender<Vec<Offer>>) -> Option<OwnedPermit<Vec<Offer>>> {
    offers.clone().reserve_owned().await.ok()
}

/// This board's wall clock: a label on records.
pub(crate) fn wall_clock() -> WallMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

//! The bridge: reads an existing broker as one more publisher. It subscribes with a session that the broker keeps, and
//! the broker gets its PUBACK (or PUBREC) only after the record's commit, in the order in which messages came; what was
//! not committed when the connection or this board fell comes again, marked, and its key makes it one row.
//!
//! Through MQTT 5 the broker hands on user properties, so a publisher's own sequence keeps its worth; 3.1.1 is there
//! because old brokers speak nothing else. After any error the client is thrown away and made anew: a client that
//! repairs itself can repeat its error for ever, the broker's session loses nothing.

mod dial;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use shared::action::{Answer, Offer};
use shared::identity::{self, Said};
use shared::ids::Ticket;
use shared::limits::{BRIDGE_IN_FLIGHT_MAX, PUBLISHER_BYTES_MAX};
use shared::record::Record;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::BridgeProtocol;
use crate::front_door::{DoorAnswers, Mailbox, wall_clock};
use dial::{Heard, Line, Message, Receipt};

/// Wait before the second attempt to connect; doubled up to [`RETRY_MAX`], and back at the first success.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest wait between attempts: a broker that comes back is found within it.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// A broker to read.
#[derive(Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// Publisher of what names none is `bridge:` and this, cut to `limits::PUBLISHER_BYTES_MAX`. Bridges of several
    /// boards to one broker have one name, so that what both of them read is one row where its content tells.
    pub name: String,
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Protocol spoken with it.
    pub protocol: BridgeProtocol,
    /// Client identifier; stable and its own on each board, so that the broker keeps the session.
    pub client_id: String,
    /// Topic filters.
    pub topics: Vec<String>,
    /// QoS asked for, 0 to 2. With 0 what comes while this board is away is lost.
    pub qos: u8,
    /// User name and password.
    pub credentials: Option<(String, String)>,
}

/// A password never reaches a log.
impl fmt::Debug for BridgeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeConfig")
            .field("name", &self.name)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

/// What a bridge counts since its start.
#[derive(Debug, Default)]
pub struct BridgeCounters {
    /// 1 while the broker's connection stands.
    pub connected: AtomicU64,
    /// Connections that stood.
    pub connections: AtomicU64,
    /// Messages taken in.
    pub messages: AtomicU64,
    /// Messages acknowledged to the broker after their commit.
    pub acknowledged: AtomicU64,
    /// Messages that are no records (topic or payload too long): acknowledged, because they would come for ever.
    pub rejected: AtomicU64,
    /// Filters that the broker granted.
    pub filters_granted: AtomicU64,
    /// Filters that the broker refused.
    pub filters_refused: AtomicU64,
}

/// A running bridge.
#[derive(Debug)]
pub struct Bridge;

impl Bridge {
    /// Starts a bridge; must be called within a tokio runtime. Its publishes arrive on `offers` as the front door's do,
    /// and its answers come through the same `answers`. It runs until `stop` turns true or its sender is gone, or the
    /// node takes no more; then what is not acknowledged stays with the broker.
    pub fn start(
        config: BridgeConfig,
        offers: mpsc::Sender<Vec<Offer>>,
        answers: &DoorAnswers,
        stop: watch::Receiver<bool>,
    ) -> Arc<BridgeCounters> {
        let counters = Arc::<BridgeCounters>::default();
        let (slot, mailbox) = answers.add_mailbox();
        let mut publisher = format!("bridge:{}", config.name);
        while publisher.len() > PUBLISHER_BYTES_MAX {
            publisher.pop();
        }
        let reader = Reader {
            config,
            publisher,
            offers,
            mailbox,
            slot,
            first: 0,
            flights: VecDeque::new(),
            batch: Vec::new(),
            has_subscribed: false,
            is_loss_told: false,
            counters: Arc::clone(&counters),
        };
        tokio::spawn(reader.run(stop));
        counters
    }
}

struct Reader {
    config: BridgeConfig,
    publisher: String,
    offers: mpsc::Sender<Vec<Offer>>,
    mailbox: Arc<Mailbox>,
    slot: u32,
    /// Serial of the first flight; those behind it follow without a hole.
    first: u32,
    flights: VecDeque<Flight>,
    batch: Vec<Offer>,
    has_subscribed: bool,
    /// Whether the log knows that there is no connection: it is told once, not at every attempt.
    is_loss_told: bool,
    counters: Arc<BridgeCounters>,
}

struct Flight {
    receipt: Receipt,
    answer: Option<Answer>,
}

/// Why a connection to the broker is over.
enum Over {
    /// The bridge stops.
    Stopped,
    /// Try again.
    Lost { stood: bool },
}

enum Woken {
    Stop,
    Answers,
    Room(Option<OwnedPermit<Vec<Offer>>>),
    Heard(Option<Heard>),
}

impl Reader {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut wait = RETRY_MIN;
        loop {
            let over = self.read(&mut stop).await;
            self.counters.connected.store(0, Relaxed);
            self.forget_connection();
            match over {
                Over::Stopped => return,
                Over::Lost { stood: true } => wait = RETRY_MIN,
                Over::Lost { stood: false } => {}
            }
            tokio::select! {
                () = sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// The broker sends what is not acknowledged again, so neither it nor its answers are waited for.
    fn forget_connection(&mut self) {
        self.first = self.next_serial();
        self.flights.clear();
        self.batch.clear();
    }

    fn next_serial(&self) -> u32 {
        self.first.wrapping_add(self.flights.len() as u32)
    }

    async fn read(&mut self, stop: &mut watch::Receiver<bool>) -> Over {
        let mut line = Line::dial(&self.config);
        let mut stood = false;
        loop {
            match self.wait(&mut line, stop).await {
                Woken::Stop | Woken::Room(None) => return Over::Stopped,
                Woken::Answers => self.take_answers(),
                Woken::Room(Some(room)) => {
                    room.send(std::mem::take(&mut self.batch));
                }
                Woken::Heard(None) => return Over::Lost { stood },
                Woken::Heard(Some(heard)) => {
                    let mut next = Some(heard);
                    while let Some(heard) = next {
                        if !self.handle_heard(heard, &line, &mut stood) {
                            return Over::Lost { stood };
                        }
                        next = if self.is_full() { None } else { line.heard.try_recv().ok() };
                    }
                }
            }
            if !self.acknowledge(&line) {
                return Over::Lost { stood };
            }
        }
    }

    fn is_full(&self) -> bool {
        self.flights.len().max(self.batch.len()) >= usize::from(BRIDGE_IN_FLIGHT_MAX)
    }

    async fn wait(&self, line: &mut Line, stop: &mut watch::Receiver<bool>) -> Woken {
        let has_batch = !self.batch.is_empty();
        let has_room = !self.is_full();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Woken::Stop,
            () = self.mailbox.bell.notified() => Woken::Answers,
            room = room_at(&self.offers), if has_batch => Woken::Room(room),
            heard = line.heard.recv(), if has_room => Woken::Heard(heard),
        }
    }

    /// False where the connection is over.
    fn handle_heard(&mut self, heard: Heard, line: &Line, stood: &mut bool) -> bool {
        match heard {
            Heard::Connected { session_present } => {
                *stood = true;
                self.is_loss_told = false;
                self.counters.connections.fetch_add(1, Relaxed);
                self.counters.connected.store(1, Relaxed);
                tracing::info!(bridge = self.config.name, "the broker is connected");
                // Subscribing again would bring every retained message again. Once in a process it must be, because the
                // filters may have changed since the broker's session began.
                if session_present && self.has_subscribed {
                    return true;
                }
                self.has_subscribed = true;
                line.subscribe(&self.config).is_ok()
            }
            Heard::Subscribed { granted, refused } => {
                self.counters.filters_granted.fetch_add(granted as u64, Relaxed);
                self.counters.filters_refused.fetch_add(refused as u64, Relaxed);
                if refused > 0 {
                    tracing::warn!(bridge = self.config.name, refused, "the broker refused topic filters");
                }
                true
            }
            Heard::Message(message) => {
                self.handle_message(message);
                true
            }
            Heard::Lost(reason) => {
                if self.is_loss_told {
                    tracing::debug!(bridge = self.config.name, reason, "still no connection with the broker");
                } else {
                    tracing::warn!(bridge = self.config.name, reason, "no connection with the broker; trying on");
                }
                self.is_loss_told = true;
                false
            }
        }
    }

    fn handle_message(&mut self, message: Message) {
        self.counters.messages.fetch_add(1, Relaxed);
        let record = self.record(&message);
        let ticket = Ticket(u64::from(self.slot) << 32 | u64::from(self.next_serial()));
        let refused = record.as_ref().and_then(|record| record.check().err());
        let is_record = record.is_some() && refused.is_none();
        if !is_record {
            self.counters.rejected.fetch_add(1, Relaxed);
        }
        let ticket = message.receipt.map(|receipt| {
            // What is no record never will be one: acknowledged in its turn.
            let answer = if is_record { None } else { Some(Answer::Committed) };
            self.flights.push_back(Flight { receipt, answer });
            ticket
        });
        if let Some(record) = record.filter(|_| is_record) {
            self.batch.push(Offer { ticket, record });
        }
    }

    /// The message as a record, unless its topic is no text.
    fn record(&self, message: &Message) -> Option<Record> {
        let topic = std::str::from_utf8(&message.topic).ok()?;
        let identity = identity::derive(&identity::Publish {
            client: &self.publisher,
            topic,
            payload: &message.payload,
            packet: message.packet,
            resent: message.resent,
            said: said(&message.properties),
        });
        Some(Record {
            class: identity.class,
            publisher: Bytes::copy_from_slice(identity.publisher.as_bytes()),
            key: identity.key,
            taken: wall_clock(),
            topic: message.topic.clone(),
            payload: message.payload.clone(),
        })
    }

    fn take_answers(&mut self) {
        for (serial, answer) in self.mailbox.take() {
            let place = serial.wrapping_sub(self.first) as usize;
            if let Some(flight) = self.flights.get_mut(place) {
                flight.answer = Some(answer);
            }
        }
    }

    /// Acknowledges what is due, in order of arrival; false where the connection is of no more use.
    fn acknowledge(&mut self, line: &Line) -> bool {
        while self.flights.front().is_some_and(|flight| flight.answer.is_some()) {
            let Some(flight) = self.flights.pop_front() else { break };
            self.first = self.first.wrapping_add(1);
            if line.acknowledge(flight.receipt).is_err() {
                return false;
            }
            self.counters.acknowledged.fetch_add(1, Relaxed);
        }
        true
    }
}

fn said(properties: &[(String, String)]) -> Said<'_> {
    let of = |name: &str| properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    Said {
        class: of("class"),
        publisher: of("publisher"),
        seq: of("seq"),
        epoch: of("epoch"),
        ts: of("ts"),
    }
}

async fn room_at(offers: &mpsc::Sender<Vec<Offer>>) -> Option<OwnedPermit<Vec<Offer>>> {
    offers.clone().reserve_owned().await.ok()
}

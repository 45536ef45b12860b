//! A sensor as a real MQTT 5 client: numbers its readings, keeps several in flight, and when its board is gone or
//! silent goes to the next one and sends again, in order, everything that was not acknowledged. Keeps its own account
//! of what was acknowledged: the verdict is drawn from that.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use link::stop::Stop;
use rumqttc::mqttbytes::QoS;
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, MqttOptions, PublishNoticeError, PublishOptions, PublishProperties,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::replay::Reading;
use super::verdict::{Account, Fate};

/// Readings of one publisher on their way at once.
const IN_FLIGHT_MAX: usize = 128;
/// A board must have accepted the connection after so long.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A board that has not acknowledged the oldest reading after so long is given up for the next.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(3);
/// Between two attempts.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// A board may take so long to let a publisher go that has nothing left to say.
const LEAVE_MAX: Duration = Duration::from_millis(500);

/// What all publishers together have done, for the screen alone.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    /// Readings handed to a board for the first time.
    pub(crate) sent: AtomicU64,
    /// Readings acknowledged.
    pub(crate) acked: AtomicU64,
    /// Readings handed to a board once more.
    pub(crate) resent: AtomicU64,
}

/// One publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    name: String,
    boards: Vec<SocketAddr>,
    /// The board it speaks with: an index.
    at: usize,
    feed: Option<UnboundedReceiver<Reading>>,
    readings: Vec<Reading>,
    fates: Vec<Fate>,
    /// Every reading before this one is acknowledged.
    settled: usize,
    tallies: Arc<Tallies>,
}

/// How one connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything is acknowledged and nothing more will come, or nobody wants to wait any more.
    Done,
    /// The board is gone, silent, or refuses.
    Lost,
}

/// What a connection's tasks tell.
enum Told {
    Accepted,
    Broken,
    Answered { reading: usize, answer: Result<(), PublishNoticeError> },
}

/// A connection to one board.
struct Connection {
    client: AsyncClient,
    events: AbortHandle,
    teller: UnboundedSender<Told>,
    told: UnboundedReceiver<Told>,
    /// The next reading to look at.
    next: usize,
    in_flight: usize,
    /// Readings on their way, oldest first, and since when.
    since: VecDeque<(usize, Instant)>,
    is_accepted: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.events.abort();
    }
}

impl Publisher {
    /// A publisher that begins at the board `first` (an index, taken round) and sends what `feed` brings until it ends.
    pub(crate) fn new(
        name: String,
        boards: Vec<SocketAddr>,
        first: usize,
        feed: UnboundedReceiver<Reading>,
        tallies: Arc<Tallies>,
    ) -> Self {
        let at = first % boards.len().max(1);
        Self {
            name,
            boards,
            at,
            feed: Some(feed),
            readings: Vec::new(),
            fates: Vec::new(),
            settled: 0,
            tallies,
        }
    }

    /// Publishes until the feed has ended and everything is acknowledged, or until told to stop; then accounts for it.
    pub(crate) async fn run(mut self, mut stop: Stop) -> Account {
        while self.converse(&mut stop).await == End::Lost {
            self.at = (self.at + 1) % self.boards.len();
            tokio::select! {
                () = tokio::time::sleep(RETRY_AFTER) => {}
                () = stop.stopped() => break,
            }
        }
        Account { publisher: self.name, readings: self.fates }
    }

    async fn converse(&mut self, stop: &mut Stop) -> End {
        let mut connection = self.connect();
        let connected_by = Instant::now() + CONNECT_MAX;
        loop {
            if connection.is_accepted {
                if self.send(&mut connection).is_err() {
                    return End::Lost;
                }
                if self.feed.is_none() && self.settled == self.readings.len() {
                    connection.leave().await;
                    return End::Done;
                }
            }
            let deadline = match connection.since.front() {
                _ if !connection.is_accepted => connected_by,
                Some((_, since)) => *since + ACKNOWLEDGE_MAX,
                None => Instant::now() + ACKNOWLEDGE_MAX,
            };
            tokio::select! {
                // What a board has said counts before its lateness does.
                biased;
                () = stop.stopped() => return End::Done,
                told = connection.told.recv() => match told {
                    Some(Told::Accepted) => connection.is_accepted = true,
                    Some(Told::Broken) | None => return End::Lost,
                    Some(Told::Answered { reading, answer }) => self.answered(&mut connection, reading, &answer),
                },
                fed = feed(&mut self.feed) => match fed {
                    Some(reading) => self.take(reading),
                    None => self.feed = None,
                },
                () = tokio::time::sleep_until(deadline) => {
                    if !connection.is_accepted || !connection.since.is_empty() {
                        return End::Lost;
                    }
                }
            }
        }
    }

    fn take(&mut self, reading: Reading) {
        self.fates.push(Fate { content: reading.content(), ..Fate::default() });
        self.readings.push(reading);
    }

    /// A fresh session: what the last board has not acknowledged is sent again by us, in our order.
    fn connect(&self) -> Connection {
        let board = self.boards[self.at];
        let mut options = MqttOptions::new(self.name.clone(), (board.ip().to_string(), board.port()));
        options.set_clean_start(true).set_keep_alive(5).set_connect_timeout(CONNECT_MAX);
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        let (client, events) = AsyncClient::builder(options).capacity(IN_FLIGHT_MAX).build();
        let (teller, told) = unbounded_channel();
        let events = tokio::spawn(drive(events, teller.clone())).abort_handle();
        Connection {
            client,
            events,
            teller,
            told,
            next: self.settled,
            in_flight: 0,
            since: VecDeque::new(),
            is_accepted: false,
        }
    }

    /// Hands the connection as much as may be on its way.
    fn send(&mut self, connection: &mut Connection) -> Result<(), rumqttc::ClientError> {
        while connection.in_flight < IN_FLIGHT_MAX && connection.next < self.readings.len() {
            let at = connection.next;
            if self.fates[at].acked {
                connection.next += 1;
                continue;
            }
            let reading = &self.readings[at];
            let properties = PublishProperties {
                user_properties: vec![
                    ("publisher".to_owned(), self.name.clone()),
                    ("seq".to_owned(), (at + 1).to_string()),
                ],
                ..PublishProperties::default()
            };
            let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
            let notice =
                connection
                    .client
                    .try_publish_tracked(reading.topic.clone(), reading.payload.clone(), options)?;
            let teller = connection.teller.clone();
            tokio::spawn(async move {
                let answer = notice.wait_completion_async().await;
                // The connection may be gone: then the answer came too late to count.
                let _ = teller.send(Told::Answered { reading: at, answer });
            });
            let tally = if self.fates[at].sent {
                &self.tallies.resent
            } else {
                &self.tallies.sent
            };
            tally.fetch_add(1, Ordering::Relaxed);
            self.fates[at].sent = true;
            connection.next += 1;
            connection.in_flight += 1;
            connection.since.push_back((at, Instant::now()));
        }
        Ok(())
    }

    fn answered(&mut self, connection: &mut Connection, reading: usize, answer: &Result<(), PublishNoticeError>) {
        if answer.is_err() {
            // Refused, or swept away with the connection: not acknowledged. The oldest one's lateness ends this
            // connection, and the next board is asked.
            return;
        }
        connection.in_flight -= 1;
        self.fates[reading].acked = true;
        self.tallies.acked.fetch_add(1, Ordering::Relaxed);
        while self.fates.get(self.settled).is_some_and(|fate| fate.acked) {
            self.settled += 1;
        }
        while connection.since.front().is_some_and(|(oldest, _)| self.fates[*oldest].acked) {
            connection.since.pop_front();
        }
    }
}

impl Connection {
    /// Says good-bye, so that the board need not find out.
    async fn leave(&mut self) {
        if self.client.try_disconnect().is_err() {
            return;
        }
        let gone = async { while !matches!(self.told.recv().await, Some(Told::Broken) | None) {} };
        let _ = tokio::time::timeout(LEAVE_MAX, gone).await;
    }
}

/// The next reading; waits for ever once the feed has ended.
async fn feed(feed: &mut Option<UnboundedReceiver<Reading>>) -> Option<Reading> {
    match feed {
        Some(feed) => feed.recv().await,
        None => std::future::pending().await,
    }
}

/// Turns a client's wheel until its connection breaks.
async fn drive(mut events: EventLoop, teller: UnboundedSender<Told>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                let _ = teller.send(Told::Accepted);
            }
            Ok(_) => {}
            Err(_) => {
                let _ = teller.send(Told::Broken);
                return;
            }
        }
    }
}

//! This board towards its witness: keeps one connection, sends what the node tells the witness, brings what it answers.
//! Owns the connection, decides nothing: the node asks the witness only when the boards alone do not carry a lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use link::endpoint;
use link::identity::Identity;
use link::logging::whole_story;
use link::stop::Stop;
use quinn::Connection;
use shared::ids::WitnessId;
use shared::wire::control::{ControlMessage, Packer, unpack};
use shared::wire::election::ElectionMessage;
use tokio::sync::mpsc;

use crate::config;

/// A dial that is not answered within this is given up: ten round trips of a slow uplink.
const DIAL_MAX: Duration = Duration::from_secs(2);
/// Wait before the second dial.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait between dials: a witness that is back is soon asked again.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that stood so long was a good one: the next dial comes soon.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// What waits for the node: answers to some renewals. At the limit answers are dropped, as the network may do.
const INPUTS_MAX: usize = 256;

/// What the way to the witness counts, since the start.
#[derive(Debug, Default)]
pub(crate) struct WitnessCounts {
    /// Whether a connection stands: 1 or 0.
    pub(crate) connected: AtomicU64,
    /// Connections that came to stand.
    pub(crate) opened: AtomicU64,
    /// Dials that failed.
    pub(crate) failed: AtomicU64,
    /// Datagrams sent.
    pub(crate) sent: AtomicU64,
    /// Datagrams received.
    pub(crate) received: AtomicU64,
    /// Datagrams that were no votes.
    pub(crate) bad: AtomicU64,
}

/// What the witness brings to the node.
#[derive(Debug)]
pub(crate) enum WitnessInput {
    /// A connection stands.
    Up(Connection),
    /// The witness said this.
    Said(ElectionMessage),
    /// The connection fell.
    Down,
}

/// The node's way to its witness.
#[derive(Debug)]
pub(crate) struct WitnessLine {
    /// Its number.
    pub(crate) id: WitnessId,
    /// What it counts.
    pub(crate) counts: Arc<WitnessCounts>,
    connection: Option<Connection>,
    packer: Packer,
}

impl WitnessLine {
    /// Begins to dial `witness` as `identity`, which believes the witness's roots, until `stop`.
    pub(crate) fn start(
        identity: Identity,
        witness: config::Witness,
        mut stop: Stop,
    ) -> (Self, mpsc::Receiver<WitnessInput>) {
        let (inputs, brought) = mpsc::channel(INPUTS_MAX);
        let counts = Arc::<WitnessCounts>::default();
        let line = Self { id: witness.id, counts: Arc::clone(&counts), connection: None, packer: Packer::default() };
        let dialler = Dialler { identity, witness, inputs, counts };
        tokio::spawn(async move {
            tokio::select! {
                () = dialler.keep() => {}
                () = stop.stopped() => {}
            }
        });
        (line, brought)
    }

    /// The connection that stands, or that none does.
    pub(crate) fn change(&mut self, connection: Option<Connection>) {
        self.connection = connection;
    }

    /// Adds `message` to what goes with the next [`WitnessLine::flush`].
    pub(crate) fn tell(&mut self, message: ElectionMessage) {
        if let Some(full) = self.packer.push(&ControlMessage::Election(message)) {
            self.send(full);
        }
    }

    /// Sends what was told; where no connection stands it is lost.
    pub(crate) fn flush(&mut self) {
        if let Some(datagram) = self.packer.take() {
            self.send(datagram);
        }
    }

    fn send(&self, datagram: Vec<u8>) {
        let sent = self
            .connection
            .as_ref()
            .is_some_and(|connection| connection.send_datagram(Bytes::from(datagram)).is_ok());
        if sent {
            self.counts.sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Dialler {
    identity: Identity,
    witness: config::Witness,
    inputs: mpsc::Sender<WitnessInput>,
    counts: Arc<WitnessCounts>,
}

impl Dialler {
    /// Keeps a connection. Returns when the node is gone.
    async fn keep(&self) {
        let mut backoff = BACKOFF_MIN;
        let mut said = String::new();
        loop {
            let why = match self.dial().await {
                Ok(connection) => {
                    let began = Instant::now();
                    let Some(why) = self.serve(connection).await else { return };
                    if began.elapsed() >= GOOD_AFTER {
                        backoff = BACKOFF_MIN;
                        said.clear();
                    }
                    why
                }
                Err(why) => {
                    self.counts.failed.fetch_add(1, Ordering::Relaxed);
                    why
                }
            };
            if why != said {
                tracing::warn!(witness = %self.witness.name, why, "no connection to the witness; trying on");
                said = why;
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// A port of its own for each dial: behind a translator of addresses an old one may lead nowhere.
    async fn dial(&self) -> Result<Connection, String> {
        let address = self.witness.address;
        let listening = endpoint::towards_witness(&self.identity, address).map_err(|error| whole_story(&error))?;
        let connecting = listening
            .endpoint
            .connect(address, &self.witness.certificate_name)
            .map_err(|error| whole_story(&error))?;
        match tokio::time::timeout(DIAL_MAX, connecting).await {
            Ok(connected) => connected.map_err(|error| whole_story(&error)),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    /// Brings what the witness says until the connection falls; why it fell, or `None` where the node is gone.
    async fn serve(&self, connection: Connection) -> Option<String> {
        self.counts.opened.fetch_add(1, Ordering::Relaxed);
        self.counts.connected.store(1, Ordering::Relaxed);
        tracing::info!(witness = %self.witness.name, "connected to the witness");
        self.inputs.send(WitnessInput::Up(connection.clone())).await.ok()?;
        let why = loop {
            match connection.read_datagram().await {
                Ok(datagram) => self.take(&datagram),
                Err(error) => break whole_story(&error),
            }
        };
        self.counts.connected.store(0, Ordering::Relaxed);
        self.inputs.send(WitnessInput::Down).await.ok()?;
        Some(why)
    }

    fn take(&self, datagram: &[u8]) {
        self.counts.received.fetch_add(1, Ordering::Relaxed);
        for message in unpack(datagram).unwrap_or_default() {
            let said = match message {
                ControlMessage::Election(message) => self.inputs.try_send(WitnessInput::Said(message)).is_ok(),
                ControlMessage::Heartbeat(_) | ControlMessage::Hearing(_) | ControlMessage::Duty(_) => false,
            };
            if !said {
                self.counts.bad.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

//! The MQTT front door: a server face for publishers, 3.1.1 and 5, whose acknowledgement is a promise. PUBACK (QoS 1)
//! and PUBREC (QoS 2) leave only after the node has answered that the record is committed. Takes publishes only:
//! subscriptions are refused in the protocol's words, a retained publish is stored as an ordinary record.
//!
//! ```text
//!  socket ─► wire ─► packet ─► conversation ─offers─► (bounded channel) ─► node
//!                                   │ session                                │
//!  socket ◄─ wire ◄── reply ◄───────┴─────────── mailbox ◄───── DoorAnswers ◄┘
//! ```
//!
//! Packets are read and built by `mqtt-protocol-core`; session, flow and memory are decided here. A complete server
//! (`mqtt5`) would await a hook before it acknowledges, but one publish at a time for each connection: a pipeline of
//! 1024 publishes would pay 1024 commits in a row. Here all publishes of one read go to the node as one batch, commit
//! together, and are acknowledged by one write. The library's own connection machine is not used either: it sends
//! acknowledgements by itself or leaves all of their order to us, and copies every packet into a buffer of its own.
//!
//! Bounds: connections, sessions, publishes in flight, bytes of a packet, of a read, of what waits, of all buffers
//! together (`shared::limits`, `DOOR_*`). At a bound sockets are left unread, and TCP pushes back.

mod config;
mod connect;
mod connection;
mod conversation;
mod counters;
mod fault;
mod greet;
mod mailbox;
mod packet;
mod registry;
mod reply;
mod session;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::net::sockopt;
use shared::action::{Answer, Offer};
use shared::ids::Ticket;
use shared::limits::DOOR_PEERS_LOGGED_MAX;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

pub use config::{DoorConfig, DoorUser};
pub(crate) use connection::wall_clock;
pub use counters::{DoorCount, DoorCounters};
pub(crate) use mailbox::Mailbox;
use mailbox::Mailboxes;
use registry::Registry;

/// How long nothing may be heard from a peer's machine before TCP asks, and between its questions: with four of them
/// a dead peer is found within two minutes, whatever keep-alive it asked for.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;
/// Between looks at sessions and wills whose time may be over; both are counted in seconds.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// After a failed accept (no file descriptors left): connections that end free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a will waits for the node.
const WILL_PATIENCE: Duration = Duration::from_secs(10);

/// Why the front door did not open. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The address is taken, not this machine's, or not allowed.
    #[error("cannot listen for MQTT on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// The MQTT listener.
#[derive(Debug)]
pub struct FrontDoor;

/// What all connections share.
#[derive(Debug)]
struct Door {
    config: DoorConfig,
    offers: mpsc::Sender<Vec<Offer>>,
    registry: Registry,
    counters: Arc<DoorCounters>,
    stop: watch::Receiver<bool>,
    noted: Mutex<BTreeSet<IpAddr>>,
    assigned: AtomicU64,
}

/// The way back to the publishers, held by the node's owner.
#[derive(Clone, Debug)]
pub struct DoorAnswers {
    mailboxes: Arc<Mailboxes>,
    counters: Arc<DoorCounters>,
    address: SocketAddr,
}

impl DoorAnswers {
    /// Answers publishers. Never waits. Answers for connections that are gone are kept for their session, or dropped
    /// with it.
    pub fn deliver(&self, answers: &[(Ticket, Answer)]) {
        self.mailboxes.deliver(answers);
    }

    /// A mailbox beside those of the sessions, for another source of publishes, and the slot that its tickets name in
    /// their upper half.
    pub(crate) fn add_mailbox(&self) -> (u32, Arc<Mailbox>) {
        let slot = self.mailboxes.add();
        (slot, self.mailboxes.of(slot))
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Arc<DoorCounters> {
        &self.counters
    }

    /// Where the front door listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl FrontDoor {
    /// Opens the front door; must be called within a tokio runtime. Publishes arrive on `offers` in batches, in order
    /// of arrival for each connection; where the channel is full, sockets are not read. The channel should hold
    /// `limits::OFFER_BATCHES_MAX` batches. Once `stop` turns true (or its sender is gone) no connection is accepted,
    /// those that stand are told and closed, and when the last has ended the channel closes.
    ///
    /// # Errors
    /// If the address cannot be listened on; then nothing was started.
    pub fn start(
        config: DoorConfig,
        offers: mpsc::Sender<Vec<Offer>>,
        stop: watch::Receiver<bool>,
    ) -> Result<DoorAnswers, DoorError> {
        let asked = config.listen;
        let failed = |source| DoorError::Listen { address: asked, source };
        let listener = listen(asked).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (mailboxes, counters) = (Arc::<Mailboxes>::default(), Arc::<DoorCounters>::default());
        let registry = Registry::new(config.sessions_max, Arc::clone(&mailboxes), Arc::clone(&counters));
        let door = Door {
            config,
            offers,
            registry,
            counters: Arc::clone(&counters),
            stop,
            noted: Mutex::default(),
            assigned: AtomicU64::new(0),
        };
        let door = Arc::new(door);
        tokio::spawn(keep_sessions(Arc::clone(&door)));
        tokio::spawn(accept(door, listener));
        Ok(DoorAnswers { mailboxes, counters, address })
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn accept(door: Arc<Door>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(door.config.connections_max));
    let mut stop = door.stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            counters::add(&door.counters.over_limit, 1);
            continue;
        };
        if set_options(&stream).is_err() {
            // The peer is gone already.
            continue;
        }
        counters::add(&door.counters.accepted, 1);
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            door.counters.open.fetch_add(1, Relaxed);
            greet::serve(Arc::clone(&door), stream, peer).await;
            door.counters.open.fetch_sub(1, Relaxed);
            drop(place);
        });
    }
}

/// Waits for the stop; its sender gone is a stop too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn set_options(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    Ok(())
}

/// Ends sessions and publishes wills when their time has come.
async fn keep_sessions(door: Arc<Door>) {
    let mut stop = door.stop.clone();
    let mut tick = interval(SWEEP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => door.publish_wills(door.registry.sweep()).await,
            () = stopped(&mut stop) => return,
        }
    }
}

impl Door {
    /// Offers wills to the node. They are nobody's publish, so nobody waits for their commit; where the node takes
    /// nothing for long, they are dropped and counted.
    async fn publish_wills(&self, mut wills: Vec<Offer>) {
        if wills.is_empty() {
            return;
        }
        let count = wills.len() as u64;
        for will in &mut wills {
            will.record.taken = connection::wall_clock();
        }
        match timeout(WILL_PATIENCE, self.offers.send(wills)).await {
            Ok(Ok(())) => counters::add(&self.counters.wills, count),
            Ok(Err(_)) | Err(_) => counters::add(&self.counters.unacknowledged_dropped, count),
        }
    }

    /// An identifier for a client that has none: never given twice by this board, in this life or another.
    fn assign_client(&self) -> String {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = self.assigned.fetch_add(1, Relaxed);
        format!("auto-{:x}-{:x}-{count:x}", since.as_nanos(), std::process::id())
    }

    /// Whether `peer` was not complained about before. Remembers [`DOOR_PEERS_LOGGED_MAX`] addresses, then is silent.
    fn is_news(&self, peer: IpAddr) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.len() < DOOR_PEERS_LOGGED_MAX && noted.insert(peer)
    }
}

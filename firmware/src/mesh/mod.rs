//! This board among its peers. Each board dials every other and sends on the connection that it dialled; what it
//! receives comes on the connections that it accepted. So one direction may be cut without the other.
//!
//! ```text
//!  node ─Send─► Link ─queue─► outgoing ══ one stream of frames ══► the peer's incoming ─► its node
//!      ─Tell─► Telling ─packed─► control ══ datagrams, both ways, a connection of its own ══► the peer's control ─► its node
//! ```
//!
//! Certificates decide who a peer is; a hello must agree with them. Owns connections, decides nothing.

mod control;
mod incoming;
mod lives;
mod members;
mod obituaries;
mod outgoing;
mod telling;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use link::endpoint::{self, EndpointError, Listening};
use link::identity::Identity;
use link::obituary::Coroner;
use link::sites::Sites;
use link::stop::Stop;
use quinn::Connection;
use shared::action::Evidence;
use shared::event::Event;
use shared::ids::BoardId;
use shared::limits::{BOARDS_MAX, PEER_QUEUE_MAX};
use shared::wire::control::ControlMessage;
use shared::wire::peer::{Hello, PeerMessage};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

pub(crate) use members::{Addresses, gone};
pub(crate) use telling::{ControlChange, Telling};

/// Bytes that may wait for one peer's connection: four times what the front door accepts ahead of commits, so that
/// only a peer that reads nothing reaches it. At the limit the connection is dropped and counted.
const LINK_BYTES_MAX: usize = 4 * shared::limits::UNCOMMITTED_BYTES_MAX;
/// Batches of messages from peers that wait for the node. At the limit streams are left unread, and QUIC pushes back.
const BATCHES_MAX: usize = 16;
/// Datagrams that wait for the node. At the limit further ones are dropped and counted, as the network may do.
const DATAGRAMS_MAX: usize = 1024;
/// Changes of links that wait for the node: a few a peer.
const CHANGES_MAX: usize = 256;

/// The codes with which a connection is closed; the reason says it in words.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Close {
    /// This board stops.
    Stopping = 0,
    /// The peer is not who it should be.
    Refused = 1,
    /// A newer connection took this one's place.
    Replaced = 2,
    /// The peer sent what is no message.
    BadFrame = 3,
    /// The peer reads too slowly.
    QueueFull = 4,
    /// Another machine runs as the peer.
    Twice = 5,
}

impl Close {
    /// Closes `connection`, unless it is closed: the first cause is the one to be told.
    pub(crate) fn connection(self, connection: &Connection, why: &str) {
        if connection.close_reason().is_none() {
            connection.close((self as u32).into(), why.as_bytes());
        }
    }
}

/// What the mesh counts, since the start.
#[derive(Debug, Default)]
pub(crate) struct MeshCounts {
    /// Connections dialled that came to stand.
    pub(crate) dialled: AtomicU64,
    /// Connections dropped because too much waited for them.
    pub(crate) queue_full: AtomicU64,
    /// Accepted connections closed because the peer is not who it should be.
    pub(crate) refused: AtomicU64,
    /// Frames and datagrams that were no messages.
    pub(crate) bad_frames: AtomicU64,
    /// Datagrams from peers dropped because too many waited.
    pub(crate) datagrams_dropped: AtomicU64,
    /// Messages for peers dropped because no connection stood.
    pub(crate) unsent: AtomicU64,
    /// Control connections dialled that came to stand.
    pub(crate) control_dialled: AtomicU64,
    /// Control datagrams sent.
    pub(crate) control_sent: AtomicU64,
    /// Their bytes, before QUIC's own.
    pub(crate) control_sent_bytes: AtomicU64,
    /// Control datagrams dropped because no control connection stood.
    pub(crate) control_unsent: AtomicU64,
    /// Ends of peers' lives that their supervisors have attested.
    pub(crate) obituaries: AtomicU64,
    /// Obituaries that nobody who may has signed, or for no life that is known.
    pub(crate) obituaries_bad: AtomicU64,
    /// Obituaries not looked at because of too many.
    pub(crate) obituaries_dropped: AtomicU64,
    /// Control datagrams received.
    pub(crate) control_received: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A connection to a peer that stands: the node's way to send to it.
#[derive(Debug)]
pub(crate) struct Link {
    messages: mpsc::Sender<PeerMessage>,
    waiting_bytes: Arc<AtomicUsize>,
    connection: Connection,
    counts: Arc<MeshCounts>,
}

impl Link {
    /// Queues `message`. Where too much waits the connection is closed, and its fall will be told.
    pub(crate) fn send(&self, message: PeerMessage) {
        let bytes = weight(&message);
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > LINK_BYTES_MAX || self.messages.try_send(message).is_err() {
            // Also met when the connection fell a moment ago: then closing it again changes nothing.
            if self.connection.close_reason().is_none() {
                count(&self.counts.queue_full);
                Close::QueueFull.connection(&self.connection, "it reads too slowly");
            }
        }
    }
}

/// Bytes that a message is likely to have as a frame.
fn weight(message: &PeerMessage) -> usize {
    const REST: usize = 64;
    match message {
        PeerMessage::Copy { run, .. } | PeerMessage::Repair(run) => REST + run.bytes.len(),
        PeerMessage::Holds { lines, .. } => REST + 64 * lines.len(),
        PeerMessage::Fetch { wanted, .. } => REST + 32 * wanted.len(),
        PeerMessage::Fetched(answer) => REST + 32 * (answer.absent.len() + answer.lost.len() + answer.unknown.len()),
        PeerMessage::Block(block) | PeerMessage::Backlog(block) => REST + block.body.len(),
        PeerMessage::Durable(ranges) => REST + 32 * ranges.len(),
        PeerMessage::Ask(streams) => REST + 32 * streams.len(),
        PeerMessage::Coverage(coverage) => REST + 64 * coverage.len(),
        PeerMessage::Hello(_)
        | PeerMessage::UplinkOpen { .. }
        | PeerMessage::UplinkClosed { .. }
        | PeerMessage::Report(_) => REST,
    }
}

/// A link came to stand, or fell.
#[derive(Debug)]
pub(crate) struct LinkChange {
    /// To whom.
    pub(crate) peer: BoardId,
    /// The link, where it stands now.
    pub(crate) link: Option<Link>,
}

/// What the mesh brings to the node, each in its own bounded queue.
#[derive(Debug)]
pub(crate) struct MeshInputs {
    /// Links that came to stand or fell, in order for each peer.
    pub(crate) changes: mpsc::Receiver<LinkChange>,
    /// Messages from peers, in order for each connection.
    pub(crate) messages: mpsc::Receiver<(BoardId, Vec<PeerMessage>)>,
    /// Heartbeats and votes.
    pub(crate) control: mpsc::Receiver<(BoardId, ControlMessage)>,
    /// Control connections that came to stand or fell.
    pub(crate) control_changes: mpsc::Receiver<ControlChange>,
    /// What the transport noticed about peers.
    pub(crate) evidence: mpsc::Receiver<(BoardId, Evidence)>,
    /// Lives of peers that have ended, attested.
    pub(crate) obituaries: mpsc::Receiver<(BoardId, u64)>,
    /// What peers did wrong, to be told.
    pub(crate) events: mpsc::Receiver<Event>,
}

/// Where the tasks of the mesh put what they bring.
#[derive(Clone, Debug)]
struct MeshOutputs {
    changes: mpsc::Sender<LinkChange>,
    messages: mpsc::Sender<(BoardId, Vec<PeerMessage>)>,
    control: mpsc::Sender<(BoardId, ControlMessage)>,
    control_changes: mpsc::Sender<ControlChange>,
    evidence: mpsc::Sender<(BoardId, Evidence)>,
    obituaries: mpsc::Sender<(BoardId, u64)>,
    proofs: mpsc::Sender<obituaries::Proof>,
    events: mpsc::Sender<Event>,
    counts: Arc<MeshCounts>,
    lives: Arc<lives::Lives>,
    /// Rings when a peer has dialled us: so it is there, and need not be waited for.
    came: Arc<BTreeMap<BoardId, Notify>>,
}

/// The running mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// Its endpoint, with the strays it counts.
    pub(crate) listening: Listening,
    /// What it counts.
    pub(crate) counts: Arc<MeshCounts>,
    /// The node's way to tell its peers something, to be taken once.
    pub(crate) telling: Option<Telling>,
    /// Where the other boards are: a change is followed.
    pub(crate) members: watch::Sender<Addresses>,
    /// What the door to it counts.
    pub(crate) admissions: Arc<link::doorman::Admissions>,
    tasks: JoinSet<()>,
}

impl Mesh {
    /// Opens the endpoint at `listen`, begins to dial `peers`, and lets them in.
    pub(crate) fn start(
        identity: &Identity,
        hello: Hello,
        listen: SocketAddr,
        peers: &Addresses,
        stop: &Stop,
    ) -> Result<(Self, MeshInputs), EndpointError> {
        let sites = Arc::new(Sites::one(hello.site.clone(), identity.roots())?);
        let mut listening = endpoint::mesh(identity, &sites, listen)?;
        let (outputs, inputs, proofs) = queues();
        let mut tasks = JoinSet::new();
        let came_in = listening
            .obituaries
            .take()
            .expect("a new endpoint's obituaries are taken here alone");
        let judging = obituaries::judge(Coroner::new(hello.site.clone()), proofs, came_in, outputs.clone());
        let mut judge_stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = judging => {}
                () = judge_stop.stopped() => {}
            }
        });
        let bells: BTreeMap<_, _> = every_board().map(|board| (board, Arc::default())).collect();
        let telling = Telling::new(bells.clone(), Arc::clone(&outputs.counts));
        let (members, wanted) = watch::channel(peers.clone());
        let dialling = members::Members {
            endpoint: listening.endpoint.clone(),
            config: listening.control.clone().expect("the mesh's endpoint dials for control"),
            hello: hello.clone(),
            bells,
            outputs: outputs.clone(),
            stop: stop.clone(),
        };
        tasks.spawn(dialling.run(wanted.clone()));
        let counts = Arc::clone(&outputs.counts);
        let mut acceptor = incoming::Acceptor::new(&listening, sites, hello, wanted, outputs);
        let admissions = acceptor.admissions();
        let mut accept_stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = acceptor.run() => {}
                () = accept_stop.stopped() => {}
            }
        });
        Ok((Self { listening, counts, telling: Some(telling), members, admissions, tasks }, inputs))
    }

    /// Says good-bye to the peers, so that they need not wait for silence. Call after the stop was given.
    pub(crate) async fn finish(mut self) {
        while self.tasks.join_next().await.is_some() {}
        self.listening
            .endpoint
            .close((Close::Stopping as u32).into(), b"this board stops");
        self.listening.endpoint.wait_idle().await;
    }
}

/// Every number that a board may have: one may be added while this board runs.
fn every_board() -> impl Iterator<Item = BoardId> {
    (1..=BOARDS_MAX as u8).filter_map(BoardId::new)
}

fn queues() -> (MeshOutputs, MeshInputs, mpsc::Receiver<obituaries::Proof>) {
    let (changes_in, changes) = mpsc::channel(CHANGES_MAX);
    let (messages_in, messages) = mpsc::channel(BATCHES_MAX);
    let (control_in, control) = mpsc::channel(DATAGRAMS_MAX);
    let (control_changes_in, control_changes) = mpsc::channel(CHANGES_MAX);
    let (evidence_in, evidence) = mpsc::channel(CHANGES_MAX);
    let (obituaries_in, obituaries) = mpsc::channel(CHANGES_MAX);
    let (proofs_in, proofs) = mpsc::channel(obituaries::LEARNT_MAX);
    let (events_in, events) = mpsc::channel(CHANGES_MAX);
    let outputs = MeshOutputs {
        changes: changes_in,
        messages: messages_in,
        control: control_in,
        control_changes: control_changes_in,
        evidence: evidence_in,
        obituaries: obituaries_in,
        proofs: proofs_in,
        events: events_in,
        counts: Arc::default(),
        lives: Arc::default(),
        came: Arc::new(every_board().map(|peer| (peer, Notify::new())).collect()),
    };
    (
        outputs,
        MeshInputs { changes, messages, control, control_changes, evidence, obituaries, events },
        proofs,
    )
}

const _: () = assert!(PEER_QUEUE_MAX >= 1024, "a burst of copies fits a link's queue");

#[cfg(test)]
mod tests;

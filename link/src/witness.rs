//! A witness as a service: lets boards of its sites in, gives their votes to [`shared::witness::Witness`], keeps on disk
//! what that must never forget, and answers. Used by whatever process hosts a witness. Decides nothing.

pub mod config;
mod memory;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use quinn::{Connection, VarInt};
use shared::ids::{BoardId, Name};
use shared::limits::WITNESS_SITES_MAX;
use shared::outbox::Outbox;
use shared::wire::control::{ControlMessage, Packer, unpack};
use shared::wire::election::ElectionMessage;
use shared::wire::obituary::Obituary;
use shared::witness::{Output, Witness};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use config::Served;
pub use memory::MemoryError;
use memory::{Archive, Written};

use crate::clock;
use crate::doorman::Doorman;
use crate::endpoint::{self, EndpointError, Listening};
use crate::identity::{Identity, IdentityError};
use crate::obituary::{Coroner, Judgement};
use crate::sites::{Sites, certificate};
use crate::stop::Stop;

/// Datagrams that wait for the one task that owns the votes. At the limit further ones are dropped, as the network may do.
const INPUTS_MAX: usize = 1024;
/// Boards of one site that may be connected: those that may vote, twice over.
const CONNECTIONS_MAX: usize = 4096;

/// What a witness counts, since the start.
#[derive(Debug, Default)]
pub struct WitnessCounts {
    /// Votes asked for, released or waived.
    pub heard: AtomicU64,
    /// Datagrams sent.
    pub answered: AtomicU64,
    /// Datagrams that were no votes, or dropped because too many waited.
    pub passed_over: AtomicU64,
    /// Ends of boards' lives that their supervisors attested.
    pub obituaries: AtomicU64,
}

impl WitnessCounts {
    /// What was counted, with its name and meaning for whoever monitors.
    pub fn named(&self) -> [(&'static str, &'static str, u64); 4] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("witnessed_votes_heard", "Votes asked of this witness, released or waived", read(&self.heard)),
            ("witnessed_answers", "Datagrams that this witness sent", read(&self.answered)),
            (
                "witnessed_passed_over",
                "Datagrams no votes, or dropped because too many waited",
                read(&self.passed_over),
            ),
            ("witnessed_obituaries", "Ends of boards' lives attested to this witness", read(&self.obituaries)),
        ]
    }
}

/// Why a witness cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The authority of a site cannot be used.
    #[error("a site that the witness votes for cannot be believed")]
    Identity(#[from] IdentityError),
    /// Its port cannot be opened.
    #[error("boards cannot ask the witness")]
    Endpoint(#[from] EndpointError),
    /// What it must not forget cannot be read.
    #[error("the witness does not know what it promised")]
    Memory(#[from] MemoryError),
}

/// A witness that is ready to serve: its port is open, and what it must not forget is read.
#[derive(Debug)]
pub struct WitnessHost {
    listening: Listening,
    sites: Arc<Sites>,
    archive: Archive,
    known: Vec<(Name, shared::action::Memory)>,
    /// What it counts.
    pub counts: Arc<WitnessCounts>,
}

enum Input {
    Said(Name, BoardId, Connection, Vec<ControlMessage>),
}

impl WitnessHost {
    /// A witness for `sites` on `listening` ([`crate::endpoint::witness`]), which keeps its memory in `directory`.
    pub fn open(listening: Listening, sites: Arc<Sites>, directory: &Path) -> Result<Self, MemoryError> {
        let (archive, known) = Archive::open(directory)?;
        Ok(Self { listening, sites, archive, known, counts: Arc::default() })
    }

    /// A witness as `served` says, which proves itself as `identity` and keeps its memory in `directory`.
    pub fn start(identity: &Identity, served: &Served, directory: &Path) -> Result<Self, WitnessError> {
        let mut sites = Sites::default();
        for site in &served.sites {
            sites.load(site.name.clone(), &site.ca)?;
        }
        let sites = Arc::new(sites);
        let listening = endpoint::witness(identity, &sites, served.listen)?;
        Ok(Self::open(listening, sites, directory)?)
    }

    /// Serves until `stop` is given, or the disk has failed: then it votes no more.
    pub async fn serve(mut self, mut stop: Stop) -> Result<(), MemoryError> {
        let life = crate::entropy::draw().map_err(MemoryError::Entropy)?;
        let (inputs, waiting) = mpsc::channel(INPUTS_MAX);
        let obituaries = self.listening.obituaries.take();
        let doors = admit(Doorman::new(self.listening.endpoint.clone()), self.sites, inputs, Arc::clone(&self.counts));
        let (jobs, written) = self.archive.start(WITNESS_SITES_MAX);
        let owner = Owner {
            witness: Witness::new(self.known, life, clock::now()),
            out: Outbox::default(),
            boards: BTreeMap::new(),
            coroners: BTreeMap::new(),
            jobs,
            counts: self.counts,
        };
        let ended = tokio::select! {
            ended = owner.run(waiting, written, obituaries) => ended,
            () = doors => Ok(()),
            () = stop.stopped() => Ok(()),
        };
        self.listening.endpoint.close(VarInt::from_u32(0), b"the witness stops");
        ended
    }
}

/// Lets boards in and reads what they say, until the endpoint is closed.
async fn admit(mut door: Doorman, sites: Arc<Sites>, inputs: mpsc::Sender<Input>, counts: Arc<WitnessCounts>) {
    let mut readers = JoinSet::new();
    loop {
        let connection = tokio::select! {
            connection = door.accept() => connection,
            Some(_) = readers.join_next() => continue,
        };
        let Some(connection) = connection else { return };
        let Some((site, board)) = sites.identify(&connection) else {
            connection.close(VarInt::from_u32(1), b"the certificate names no board of a site served here");
            continue;
        };
        if readers.len() >= CONNECTIONS_MAX {
            connection.close(VarInt::from_u32(1), b"this witness serves as many boards as it can");
            continue;
        }
        let (inputs, counts) = (inputs.clone(), Arc::clone(&counts));
        readers.spawn(async move {
            while let Ok(datagram) = connection.read_datagram().await {
                let said = unpack(&datagram)
                    .ok()
                    .map(|messages| inputs.try_send(Input::Said(site.clone(), board, connection.clone(), messages)));
                if !matches!(said, Some(Ok(()))) {
                    counts.passed_over.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
}

/// The one task that owns the votes.
struct Owner {
    witness: Witness,
    out: Outbox<Output>,
    /// The newest connection on which each board has spoken.
    boards: BTreeMap<(Name, BoardId), Connection>,
    coroners: BTreeMap<Name, Coroner>,
    jobs: mpsc::Sender<(Name, shared::action::Memory)>,
    counts: Arc<WitnessCounts>,
}

impl Owner {
    async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut written: mpsc::Receiver<Written>,
        mut obituaries: Option<mpsc::Receiver<Vec<u8>>>,
    ) -> Result<(), MemoryError> {
        loop {
            tokio::select! {
                Some(written) = written.recv() => {
                    let (site, memory) = written?;
                    self.witness.handle_remembered(&site, memory, clock::now(), &mut self.out);
                }
                Some(Input::Said(site, board, connection, messages)) = inputs.recv() => {
                    self.hear(&site, board, connection, messages);
                }
                Some(datagram) = receive(&mut obituaries) => self.obituary(&datagram),
                else => return Ok(()),
            }
            self.perform();
        }
    }

    fn hear(&mut self, site: &Name, board: BoardId, connection: Connection, messages: Vec<ControlMessage>) {
        for message in messages {
            let ControlMessage::Election(message) = message else {
                self.counts.passed_over.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.counts.heard.fetch_add(1, Ordering::Relaxed);
            if let (ElectionMessage::Acquire(acquire), Some(certificate)) = (&message, certificate(&connection)) {
                let coroner = self.coroners.entry(site.clone()).or_insert_with(|| Coroner::new(site.clone()));
                coroner.learn(board, certificate, acquire.life);
            }
            self.witness.handle_message(site, board, &message, clock::now(), &mut self.out);
        }
        self.boards.retain(|_, connection| connection.close_reason().is_none());
        self.boards.insert((site.clone(), board), connection);
    }

    fn obituary(&mut self, datagram: &[u8]) {
        let Some((obituary, ..)) = Obituary::decode(datagram) else { return };
        let Some(coroner) = self.coroners.get_mut(&obituary.site) else { return };
        if let Judgement::Ended { board, life } = coroner.judge(datagram, Instant::now()) {
            self.counts.obituaries.fetch_add(1, Ordering::Relaxed);
            self.witness.handle_obituary(&obituary.site, board, life);
        }
    }

    fn perform(&mut self) {
        while let Some(output) = self.out.pop() {
            match output {
                Output::Tell { site, to, message } => {
                    let Some(connection) = self.boards.get(&(site, to)) else { continue };
                    let mut packer = Packer::default();
                    packer.push(&ControlMessage::Election(message));
                    let datagram = packer.take().expect("a packer that took a message holds it");
                    // Lost, as a datagram may be.
                    if connection.send_datagram(Bytes::from(datagram)).is_ok() {
                        self.counts.answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Output::Remember { site, memory } => {
                    // One at a time is asked for a site, and the queue has room for every site; where the disk's thread is
                    // gone, its failure is the next thing read.
                    let _ = self.jobs.try_send((site, memory));
                }
            }
        }
    }
}

async fn receive(queue: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match queue {
        Some(queue) => queue.recv().await,
        None => None,
    }
}

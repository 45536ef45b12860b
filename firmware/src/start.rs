//! Brings a board up in order and down in order: identity, status page, journal, mesh, uplink, node, front door.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use link::clock;
use link::endpoint::EndpointError;
use link::entropy::draw;
use link::https::Encrypted;
use link::identity::{Identity, IdentityError};
use link::logging::whole_story;
use link::stop::{Stop, signal};
use link::witness::config::Served;
use link::witness::{WitnessCounts, WitnessHost};
use rustix::process::{Resource, getrlimit, setrlimit};
use shared::action::{Health, Offer};
use shared::ids::Epoch;
use shared::limits::{DOOR_SESSIONS_MAX, OFFER_BATCHES_MAX};
use shared::node::{Node, Start};
use shared::wire::peer::Hello;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::admin;
use crate::bridge::{Bridge, BridgeConfig, BridgeCounters};
use crate::config::{BoardConfig, Publishers};
use crate::disk::{self, DiskError, Opened};
use crate::drive::{Driver, Effects, Ended, Inputs, Snapshot};
use crate::front_door::{DoorAnswers, DoorConfig, DoorError, DoorUser, FrontDoor};
use crate::health;
use crate::http::{Pages, router};
use crate::keys::{KeyError, Keys, locate};
use crate::mesh::Mesh;
use crate::metrics::{Sources, registry};
use crate::notices::Notices;
use crate::reload::{self, Reloader};
use crate::secrets::{SecretError, Secrets, StatusToken};
use crate::supervise::{EXIT_POISONED, EXIT_UNUSABLE, RESTARTS_VARIABLE};
use crate::uplink::Uplink;
use crate::wear::WearGauge;
use crate::witness::{WitnessInput, WitnessLine};
use crate::workloads::{self, Workloads};

/// Threads for calls that block (opening the journal, looking names up): they come when they are needed and go again.
const BLOCKING_THREADS_MAX: usize = 2;
/// What still blocks when a board has ended is waited for so long.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// Files open beside connections: pages (`link::http::CONNECTIONS_MAX`), journal, state, sockets, log.
const FILES_BESIDE: u64 = link::http::CONNECTIONS_MAX as u64 + 64;
/// Where in the board's directory is what it must not forget as the witness of other sites.
const WITNESS_DIR: &str = "witness";
/// Questions of operators that wait for the node. Further ones wait in their sockets.
const WISHES_MAX: usize = 4;
/// Publishers are given so long to take their last answers.
const ANSWERS_MAX: Duration = Duration::from_secs(2);
/// Peers are given so long to hear that this board stops.
const GOOD_BYE_MAX: Duration = Duration::from_millis(500);

/// Why a board does not run.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// The certificate, key or roots cannot be used.
    #[error("this board's identity cannot be used")]
    Identity(#[from] IdentityError),
    /// A file of passwords cannot be used.
    #[error("this board's passwords cannot be used")]
    Secrets(#[from] SecretError),
    /// The file with the journal's keys cannot be used.
    #[error("this board's journal cannot be encrypted")]
    Keys(#[from] KeyError),
    /// A QUIC endpoint cannot be opened.
    #[error("this board cannot reach its peers")]
    Endpoint(#[from] EndpointError),
    /// The directory cannot be used.
    #[error("this board's directory cannot be used")]
    Disk(#[from] DiskError),
    /// The MQTT port cannot be opened.
    #[error("the front door cannot be opened")]
    Door(#[from] DoorError),
    /// The status port cannot be opened.
    #[error("cannot listen for HTTP on {address}: another process has it, or it is not an address of this machine")]
    Http {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The runtime or the system's entropy is not to be had.
    #[error("the system does not give what a process needs")]
    System(#[source] std::io::Error),
    /// A write or sync of the journal failed. Nothing was acknowledged that is not durable. A restart recovers.
    #[error("the journal in {data_dir} is poisoned; it must be recovered by a restart", data_dir = data_dir.display())]
    Poisoned {
        /// The board's directory.
        data_dir: PathBuf,
    },
}

impl FirmwareError {
    /// The process's exit status: tells the supervisor whether a restart can help.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Poisoned { .. } => EXIT_POISONED.into(),
            Self::Identity(_)
            | Self::Secrets(_)
            | Self::Keys(_)
            | Self::Endpoint(EndpointError::Identity(_) | EndpointError::Suite(_))
            | Self::Disk(
                DiskError::StateDamaged { .. }
                | DiskError::StateMissing { .. }
                | DiskError::AnotherBoard { .. }
                | DiskError::Encrypted { .. }
                | DiskError::WrongKey { .. },
            ) => EXIT_UNUSABLE.into(),
            Self::Endpoint(EndpointError::Bind { .. } | EndpointError::Interface { .. })
            | Self::Disk(DiskError::System { .. } | DiskError::Locked { .. } | DiskError::Unsealed { .. })
            | Self::Door(_)
            | Self::Http { .. }
            | Self::System(_) => ExitCode::FAILURE,
        }
    }
}

/// Runs a board until `stop` is given, then stops it in order: the lease is handed back, what was accepted is committed and
/// answered. Blocks the calling thread.
///
/// The calling thread runs the node and what a record passes on its way to the acknowledgement: front door, mesh, journal's answers.
/// A second thread runs what may take its time: the uplink, pages, bridge, votes for other sites. A record so wakes no second
/// thread on its way, and what a drain encrypts or a page draws keeps no heartbeat waiting; blocks are packed by the node's own.
/// Two threads whatever the machine has: the workloads beside the board keep theirs.
pub fn run(mut config: BoardConfig, stop: Stop) -> Result<(), FirmwareError> {
    config.publishers.connections_max = raise_open_files(config.publishers.connections_max);
    let mut core = tokio::runtime::Builder::new_current_thread();
    let mut background = tokio::runtime::Builder::new_multi_thread();
    let core = core.max_blocking_threads(BLOCKING_THREADS_MAX).thread_name("board-blocking");
    let background = background.worker_threads(1).max_blocking_threads(1).thread_name("board-uplink");
    let background = background.enable_all().build().map_err(FirmwareError::System)?;
    let core = core.enable_all().build().map_err(FirmwareError::System)?;
    let ended = core.block_on(serve(config, stop, background.handle()));
    // A sensor that does not answer must not keep the process.
    core.shutdown_timeout(LINGER_MAX);
    background.shutdown_timeout(LINGER_MAX);
    ended
}

/// Lets the process open as many files as the front door may have connections, as far as its hard limit goes: the
/// soft one is 1024 on most systems, and a thousand idle sensors would meet it. Returns how many connections there may
/// then be: a crowd must never take the files that journal, mesh and pages need.
fn raise_open_files(connections_max: usize) -> usize {
    let wanted = connections_max as u64 + FILES_BESIDE;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= wanted) {
        return connections_max;
    }
    let asked = limit.maximum.map_or(wanted, |hard| hard.min(wanted));
    let before = limit.current.unwrap_or(asked);
    limit.current = Some(asked);
    let open = if setrlimit(Resource::Nofile, limit).is_ok() {
        asked
    } else {
        before
    };
    if open >= wanted {
        return connections_max;
    }
    let connections = usize::try_from(open.saturating_sub(FILES_BESIDE)).unwrap_or(usize::MAX).max(1);
    tracing::warn!(
        open,
        connections,
        "fewer connections than configured: raise the limit of open files (`ulimit -Hn`)"
    );
    connections
}

/// Runs a board on the calling task's runtime, and on `background` what may take its time.
async fn serve(config: BoardConfig, mut stop: Stop, background: &Handle) -> Result<(), FirmwareError> {
    let identity = Identity::load(&config.identity.certificate, &config.identity.key, &config.identity.ca)?;
    let secrets = Secrets::read(&config)?;
    let (stop_shell, shell_stopped) = signal();
    let (snapshots, seen) = watch::channel(None);
    let pages = Pages { snapshots: seen, registry: Arc::default(), wear: Arc::default(), uplink: Arc::default() };
    let serving = serve_pages(&config, secrets.status.clone(), &pages, (background, shell_stopped.clone())).await?;
    let opened = tokio::select! {
        opened = open_disk(&config) => opened?,
        // Nothing was accepted in this life.
        () = stop.stopped() => return Ok(()),
    };
    let wear = WearGauge { disk: opened.disk.gauge(), endurance: config.endurance };
    let wear = pages.wear.get_or_init(|| wear).clone();
    let Board { driver, mesh, stop_door, sources } =
        assemble(&config, (identity, secrets), (opened, wear), snapshots, (background, &shell_stopped))?;
    if let Some(standing) = &sources.standing {
        pages.uplink.get_or_init(|| standing.clone());
    }
    pages.registry.get_or_init(|| registry(sources));
    let (ended, inputs, effects) = driver.run(stop).await;
    tracing::info!(?ended, "the node has ended");
    close_door(&stop_door, inputs).await;
    stop_shell.stop();
    let good_bye = async {
        if let Some(uplink) = effects.uplink {
            uplink.finish().await;
        }
        mesh.finish().await;
    };
    // A peer that does not listen finds out by our silence.
    let _ = tokio::time::timeout(GOOD_BYE_MAX, good_bye).await;
    // A page being read when the process ends is no loss.
    let _ = serving.await;
    // The disk's thread finishes the job in hand.
    let disk = effects.disk;
    tokio::task::spawn_blocking(move || drop(disk))
        .await
        .expect("closing the disk does not panic");
    match ended {
        Ended::Stopped | Ended::StoppedWaiting => Ok(()),
        Ended::Poisoned => Err(FirmwareError::Poisoned { data_dir: config.data_dir }),
    }
}

/// In the clear and unasked, or under TLS by this board's certificate and for whoever has the token.
async fn serve_pages(
    config: &BoardConfig,
    token: Option<StatusToken>,
    pages: &Pages,
    (background, stop): (&Handle, Stop),
) -> Result<tokio::task::JoinHandle<()>, FirmwareError> {
    let address = config.listen.http;
    // There, or a node that stands still would take no connection either, and could not be seen to.
    let listener = background.spawn(TcpListener::bind(address)).await;
    let listener = listener.map_err(std::io::Error::other).flatten();
    let listener = listener.map_err(|source| FirmwareError::Http { address, source })?;
    let router = router(pages.clone(), token.clone());
    if token.is_none() {
        return Ok(background.spawn(link::http::serve(listener, router, stop)));
    }
    let encrypted = Encrypted::new(&config.identity.certificate, &config.identity.key, None)?;
    Ok(background.spawn(link::http::serve_through(encrypted, listener, router, stop)))
}

/// Lets the publishers take their last answers. What they offer now is not taken in, so not acknowledged either.
async fn close_door(stop: &watch::Sender<bool>, mut inputs: Inputs) {
    stop.send_replace(true);
    let closed = async { while inputs.offers.recv().await.is_some() {} };
    if tokio::time::timeout(ANSWERS_MAX, closed).await.is_err() {
        tracing::warn!("a publisher did not take its answers in time");
    }
}

async fn open_disk(config: &BoardConfig) -> Result<Opened, FirmwareError> {
    let (data_dir, site, board) = (config.data_dir.clone(), config.node.site.clone(), config.node.board);
    // Supervised, the life's number is the supervisor's: it attests the end of that life.
    let nonce = workloads::life().map_or_else(draw, Ok).map_err(FirmwareError::System)?;
    let keys = config
        .journal_key
        .as_deref()
        .map(|path| Keys::load(&locate(path)))
        .transpose()?;
    let opening = tokio::task::spawn_blocking(move || disk::open_with(&data_dir, (&site, board), nonce, keys));
    Ok(opening.await.expect("opening the disk does not panic")?)
}

/// How often this board's supervisor has seen it end badly; 0 without one.
fn restarts() -> u32 {
    std::env::var(RESTARTS_VARIABLE)
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

/// A board ready to run.
struct Board {
    driver: Driver,
    mesh: Mesh,
    stop_door: watch::Sender<bool>,
    sources: Sources,
}

fn assemble(
    config: &BoardConfig,
    (identity, secrets): (Identity, Secrets),
    (opened, wear): (Opened, WearGauge),
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    (background, stop): (&Handle, &Stop),
) -> Result<Board, FirmwareError> {
    let hello = hello(config, opened.epoch);
    let start = Start {
        epoch: opened.epoch,
        memory: opened.memory,
        seed: draw().map_err(FirmwareError::System)?,
        recovered: opened.recovered,
        restarts: restarts(),
    };
    let (mut mesh, from_mesh) = Mesh::start(&identity, hello, config.listen.mesh, &config.peers, stop)?;
    let (uplink, region) = match &config.region {
        Some(region) => {
            let identity = identity.with_roots(&region.ca)?;
            let _there = background.enter();
            let (uplink, region) = Uplink::start(identity, region, stop.clone());
            (Some(uplink), Some(region))
        }
        None => (None, None),
    };
    let (witness, from_witness) = start_witness(config, &identity, stop)?.unzip();
    let witness_for = config.witness_for.as_ref();
    let witnessing = witness_for.and_then(|served| witness_others(config, served, &identity, (background, stop)));
    let Entrances { stop: stop_door, answers, bridge, offers } = open_entrances(config, secrets, background)?;
    let notices = Arc::<Notices>::default();
    let sources = Sources {
        snapshots: snapshots.subscribe(),
        notices: Arc::clone(&notices),
        disk: opened.disk.gauge(),
        wear,
        mesh: Arc::clone(&mesh.counts),
        mesh_admissions: Arc::clone(&mesh.admissions),
        mesh_strays: Arc::clone(&mesh.listening.strays),
        uplink: uplink.as_ref().map(|uplink| Arc::clone(&uplink.counts)),
        standing: uplink.as_ref().map(|uplink| uplink.standing.clone()),
        witness: witness.as_ref().map(|line| Arc::clone(&line.counts)),
        witnessing,
        door: Arc::clone(answers.counters()),
        bridge,
    };
    let workloads = Workloads::start(&config.node.duties);
    let mut node = config.node.clone();
    for duty in &mut node.duties {
        duty.is_local &= workloads.is_supervised();
    }
    let effects = Effects {
        disk: opened.disk,
        uplink,
        answers,
        workloads,
        notices,
        mesh: Arc::clone(&mesh.counts),
        telling: mesh.telling.take().expect("a mesh has one way to tell, taken here"),
        members: mesh.members.clone(),
        witness,
        snapshots,
    };
    let node = Node::new(node, start, clock::now());
    let (reloader, boards) = Reloader::new(config, effects.members.subscribe(), effects.snapshots.subscribe());
    let (wishes, health) = open_side_doors(config, reloader, background)?;
    let inputs = Inputs { mesh: from_mesh, region, witness: from_witness, offers, wishes, boards, health };
    let driver = Driver::new(node, inputs, effects);
    Ok(Board { driver, mesh, stop_door, sources })
}

/// The way to this site's own witness, where it has one.
fn start_witness(
    config: &BoardConfig,
    identity: &Identity,
    stop: &Stop,
) -> Result<Option<(WitnessLine, mpsc::Receiver<WitnessInput>)>, FirmwareError> {
    let Some(witness) = &config.witness else { return Ok(None) };
    let identity = identity.with_roots(&witness.ca)?;
    Ok(Some(WitnessLine::start(identity, witness.clone(), stop.clone())))
}

/// Votes for other sites. Where that cannot be, this board serves its own site all the same, and says so: those sites see
/// that their witness is away.
fn witness_others(
    config: &BoardConfig,
    served: &Served,
    identity: &Identity,
    (background, stop): (&Handle, &Stop),
) -> Option<Arc<WitnessCounts>> {
    let _there = background.enter();
    let failed = |error: &dyn std::error::Error| {
        tracing::error!(why = whole_story(error), "this board is no witness for other sites");
    };
    let host = WitnessHost::start(identity, served, &config.data_dir.join(WITNESS_DIR));
    let host = host.inspect_err(|error| failed(error)).ok()?;
    let counts = Arc::clone(&host.counts);
    tracing::info!(address = %served.listen, sites = served.sites.len(), "witness for other sites");
    let stop = stop.clone();
    tokio::spawn(async move {
        // A witness whose disk has failed votes no more.
        if let Err(error) = host.serve(stop).await {
            tracing::error!(why = whole_story(&error), "this board is no witness for other sites any more");
        }
    });
    Some(counts)
}

/// What operators ask, and how the machine is.
fn open_side_doors(
    config: &BoardConfig,
    reloader: Reloader,
    background: &Handle,
) -> Result<(mpsc::Receiver<admin::Asked>, mpsc::Receiver<Health>), FirmwareError> {
    let (health_in, health) = mpsc::channel(1);
    tokio::spawn(health::watch(health_in));
    let _there = background.enter();
    let (wishes_in, wishes) = mpsc::channel(WISHES_MAX);
    let socket = admin::open(&config.data_dir).map_err(FirmwareError::System)?;
    let reload: admin::Reload = Arc::new(move || reloader.read());
    tokio::spawn(reload::on_hangup(Arc::clone(&reload)));
    tokio::spawn(admin::serve(socket, wishes_in, reload));
    Ok((wishes, health))
}

fn hello(config: &BoardConfig, epoch: Epoch) -> Hello {
    Hello {
        site: config.node.site.clone(),
        board: config.node.board,
        epoch,
        fingerprint: config.node.fingerprint(),
    }
}

/// Where publishes come in, and how answers go back.
struct Entrances {
    stop: watch::Sender<bool>,
    answers: DoorAnswers,
    bridge: Option<Arc<BridgeCounters>>,
    offers: mpsc::Receiver<Vec<Offer>>,
}

fn open_entrances(config: &BoardConfig, secrets: Secrets, background: &Handle) -> Result<Entrances, FirmwareError> {
    let (stop, stopped) = watch::channel(false);
    let (offers_in, offers) = mpsc::channel(OFFER_BATCHES_MAX);
    let door = door_config(config, secrets.users);
    let (anonymous, users) = (door.anonymous, door.users.len());
    let answers = FrontDoor::start(door, offers_in.clone(), stopped.clone())?;
    tracing::info!(address = %answers.address(), users, anonymous, "the front door is open");
    let bridge = config.bridge.as_ref().map(|bridge| {
        let _there = background.enter();
        Bridge::start(bridge_config(bridge, secrets.bridge), offers_in, &answers, stopped)
    });
    Ok(Entrances { stop, answers, bridge, offers })
}

/// What the front door is told. Where more connections are allowed than by default, more sessions are kept too.
fn door_config(config: &BoardConfig, users: Vec<DoorUser>) -> DoorConfig {
    let Publishers { anonymous, connections_max, .. } = config.publishers;
    let sessions_max = DOOR_SESSIONS_MAX.max(2 * connections_max);
    DoorConfig { anonymous, users, connections_max, sessions_max, ..DoorConfig::new(config.listen.mqtt) }
}

/// What a bridge needs beside its configuration. Its name is the broker's address, which is the same on all boards.
fn bridge_config(bridge: &crate::config::Bridge, credentials: Option<(String, String)>) -> BridgeConfig {
    BridgeConfig {
        name: format!("{}:{}", bridge.host, bridge.port),
        host: bridge.host.clone(),
        port: bridge.port,
        protocol: bridge.protocol,
        client_id: bridge.client_id.clone(),
        topics: bridge.topics.clone(),
        qos: bridge.qos,
        credentials,
    }
}

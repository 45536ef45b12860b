//! Puts a gateway together and takes it down: store, owner, QUIC and HTTP. Owns the order of both; a part that fails
//! for good takes the process down, and whoever supervises it starts it afresh.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use link::doorman::Doorman;
use link::endpoint::{EndpointError, Listening};
use link::https::Encrypted;
use link::identity::{Identity, IdentityError};
use link::logging::whole_story;
use link::sites::Sites;
use link::stop::{Stop, Stopper};
use link::witness::{MemoryError, WitnessHost};
use prometheus_client::registry::Registry;
use quinn::VarInt;
use shared::hub::{Hub, HubConfig, HubMemory, SessionId};
use shared::limits::{ASKS_MAX, SESSIONS_MAX};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::access::audit::{AuditError, AuditLog, Deed, Outcome};
use crate::access::roll::{Roll, RollError};
use crate::access::{Access, Counts, Keeper};
use crate::api::{self, Shown};
use crate::config::{GatewayConfig, Https, Retention, SITES_MAX, StoreKind, is_beyond_loopback};
use crate::dashboard::{self, Histories};
use crate::metrics::{Doors, Logins, Metrics, Sites as SiteMetrics, Witnessing};
use crate::objects::{ObjectError, Objects};
use crate::owner::{Input, NOTES_MAX, Owner};
use crate::picture::Picture;
use crate::session;
use crate::spread;
use crate::store::read::StoreReader;
use crate::store::{
    Desk, PostgresLoads, PostgresReader, PostgresStore, SqliteReader, SqliteStore, Store, StoreError, StoreThread,
};
use crate::upkeep::Upkeep;

/// Inputs that wait for the owner. At the limit sessions are not read.
const INPUTS_MAX: usize = 256;
/// All that the hub may ask of the store at once, notes for people, and an errand of the upkeep.
const JOBS_MAX: usize = SITES_MAX + ASKS_MAX + NOTES_MAX + 1;
/// Closing connections are given so long when the process stops.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Why a gateway cannot run (any more).
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Its certificate, key or roots cannot be used.
    #[error("this gateway has no usable identity")]
    Identity(#[from] IdentityError),
    /// The QUIC port cannot be opened.
    #[error("boards cannot dial in")]
    Endpoint(#[from] EndpointError),
    /// The HTTP port cannot be opened.
    #[error("cannot listen on TCP {address}: another process has it, or it is not an address of this machine")]
    Http {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What its witness must not forget cannot be read.
    #[error("this gateway cannot be a witness")]
    Witness(#[from] MemoryError),
    /// The accounts cannot be read.
    #[error("nobody could be asked who they are")]
    Roll(#[from] RollError),
    /// The audit log cannot be written.
    #[error("what is done here could not be written down")]
    Audit(#[from] AuditError),
    /// Other hosts would reach pages for which nobody could sign in.
    #[error(
        "other hosts reach HTTP at {address}, and nobody has an account that is enabled: make one with `roadstead user add NAME \
         --role admin --config` and this gateway's file, or let `listen.http` be 127.0.0.1"
    )]
    Nobody {
        /// Where HTTP would be.
        address: SocketAddr,
    },
    /// Other hosts would reach HTTP in the clear.
    #[error("other hosts would reach HTTP at {address} in the clear: give [access] a certificate and its key")]
    InTheClear {
        /// Where HTTP would be.
        address: SocketAddr,
    },
    /// A thread cannot be started.
    #[error("the system starts no more threads")]
    Thread(#[source] std::io::Error),
    /// The store cannot be opened, or has failed for good: nothing was acknowledged that is not in it.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// The place of the archive cannot be used as it is configured.
    #[error("the archive cannot be used")]
    Archive(#[from] ObjectError),
    /// A task of this process ended by a bug.
    #[error("a task of the gateway ended unexpectedly; please report this with the log")]
    Bug,
}

/// A gateway that is ready to serve.
#[derive(Debug)]
pub struct Gateway {
    listening: Listening,
    http: TcpListener,
    encrypted: Option<Encrypted>,
    access: Access,
    quic_address: SocketAddr,
    http_address: SocketAddr,
    sites: Arc<Sites>,
    witness: Option<WitnessHost>,
    names: HubConfig,
    store: Box<dyn Store>,
    memory: HubMemory,
    reader: Box<dyn StoreReader>,
    upkeep: Option<Keeping>,
    loads: Option<PostgresLoads>,
}

/// What the upkeep reads by, and what it is to do.
#[derive(Debug)]
struct Keeping {
    reader: Box<dyn StoreReader>,
    archive: Option<Objects>,
    retention: Retention,
}

/// Opens the accounts and the audit log of `config`, which say who may look, and writes down that the gateway starts.
fn open_access(config: &GatewayConfig) -> Result<(Access, Option<Encrypted>), GatewayError> {
    let address = config.listen_http;
    let is_loopback = !is_beyond_loopback(address);
    let encrypted = config.https.as_ref().map(encrypted).transpose()?;
    if !is_loopback && encrypted.is_none() {
        return Err(GatewayError::InTheClear { address });
    }
    let mut log = AuditLog::open(&config.data_dir)?;
    let roll = Roll::open(&config.data_dir)?;
    if !is_loopback && !roll.accounts()?.iter().any(|account| account.enabled) {
        return Err(GatewayError::Nobody { address });
    }
    let digest: String = config.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let detail = format!("version {}, configuration {digest}", env!("CARGO_PKG_VERSION"));
    log.add(&Deed { detail, ..Deed::at_console("gateway.start", "") }, link::clock::wall())?;
    let machines = config.https.as_ref().and_then(|https| https.machines.as_ref());
    let machines = machines.map(|machines| machines.names.clone()).unwrap_or_default();
    let counts = Arc::new(Counts::default());
    let keeper = Keeper::new(roll, log, is_loopback, Arc::clone(&counts));
    let access = Access::start(keeper, encrypted.is_some(), machines, counts).map_err(GatewayError::Thread)?;
    Ok((access, encrypted))
}

/// What writes, what it remembers, and what reads for people and for the upkeep.
type Opened = (Box<dyn Store>, HubMemory, [Box<dyn StoreReader>; 2]);

/// Opens the store of `config`, for writing and for reading.
async fn open_store(config: &GatewayConfig) -> Result<Opened, GatewayError> {
    let (dir, kind) = (config.data_dir.clone(), config.store.clone());
    // Opening blocks, and a client of PostgreSQL refuses to on a thread that runs tasks.
    let open = move || -> Result<Opened, StoreError> {
        Ok(match kind {
            StoreKind::Sqlite => {
                let (store, memory) = SqliteStore::open(&dir)?;
                let readers: [Box<dyn StoreReader>; 2] =
                    [Box::new(SqliteReader::open(&dir)?), Box::new(SqliteReader::open(&dir)?)];
                (Box::new(store), memory, readers)
            }
            StoreKind::Postgres(place) => {
                let (store, memory) = PostgresStore::open(&place, &dir)?;
                tracing::info!(database = %place, "the store is a database");
                let readers: [Box<dyn StoreReader>; 2] =
                    [Box::new(PostgresReader::open(&place)?), Box::new(PostgresReader::open(&place)?)];
                (Box::new(store), memory, readers)
            }
        })
    };
    Ok(tokio::task::spawn_blocking(open).await.map_err(|_| GatewayError::Bug)??)
}

/// Opens the store and the ports of `config`. Serves nobody yet.
pub async fn open(config: GatewayConfig) -> Result<Gateway, GatewayError> {
    let identity = Identity::load(&config.certificate, &config.key, &config.ca)?;
    let mut sites = Sites::default();
    for site in &config.sites {
        sites.load(site.name.clone(), &site.ca)?;
    }
    let sites = Arc::new(sites);
    let archive = config.archive.as_ref().map(Objects::open).transpose()?;
    let (store, memory, [reader, second]) = open_store(&config).await?;
    let loads = match &config.store {
        StoreKind::Postgres(place) if config.spread_sites => {
            Some(PostgresLoads::new(place.clone(), memory.incarnation))
        }
        StoreKind::Postgres(_) | StoreKind::Sqlite => None,
    };
    let is_kept_for_ever = archive.is_none() && config.retention == Retention::default();
    let keeping = Keeping { reader: second, archive, retention: config.retention };
    let (access, encrypted) = open_access(&config)?;
    let unbound = |source| GatewayError::Http { address: config.listen_http, source };
    let http = TcpListener::bind(config.listen_http).await.map_err(unbound)?;
    let http_address = http.local_addr().map_err(unbound)?;
    let listening = link::endpoint::gateway(&identity, &sites, config.listen_quic)?;
    let witness = match config.listen_witness {
        Some(address) => {
            let listening = link::endpoint::witness(&identity, &sites, address)?;
            Some(WitnessHost::open(listening, Arc::clone(&sites), &config.data_dir.join("witness"))?)
        }
        None => None,
    };
    let unbound = |source| EndpointError::Bind { address: config.listen_quic, source };
    let quic_address = listening.endpoint.local_addr().map_err(unbound)?;
    let names = HubConfig { sites: config.sites.into_iter().map(|site| site.name).collect() };
    Ok(Gateway {
        listening,
        http,
        encrypted,
        access,
        quic_address,
        http_address,
        sites,
        witness,
        names,
        store,
        memory,
        reader,
        upkeep: (!is_kept_for_ever).then_some(keeping),
        loads,
    })
}

/// Opens a gateway and serves until `stop` is ready. All that was acknowledged is in the store, however this ends.
pub async fn run(config: GatewayConfig, stop: impl Future<Output = ()>) -> Result<(), GatewayError> {
    open(config).await?.serve(stop).await
}

impl Gateway {
    /// Where boards dial in.
    pub const fn quic_address(&self) -> SocketAddr {
        self.quic_address
    }

    /// Where the API is.
    pub const fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Serves until `stop` is ready, or a part fails for good.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), GatewayError> {
        let mut registry = Registry::with_prefix("roadstead_region");
        let metrics = Metrics::new(&mut registry);
        metrics.begin_at_zero(&self.names.sites);
        let doorman = Doorman::new(self.listening.endpoint.clone());
        let strays = Arc::clone(&self.listening.strays);
        registry.register_collector(Box::new(Doors { admissions: doorman.admissions(), strays }));
        registry.register_collector(Box::new(Logins(Arc::clone(&self.access.counts))));
        if let Some(witness) = &self.witness {
            registry.register_collector(Box::new(Witnessing(Arc::clone(&witness.counts))));
        }
        let sites = self
            .names
            .sites
            .iter()
            .map(|site| (site.clone(), crate::picture::SitePicture::default()));
        let now = link::clock::now();
        let picture = Picture { sites: sites.collect(), beat: now, is_storing: true };
        let (picture, seen) = watch::channel(picture);
        registry.register_collector(Box::new(SiteMetrics(seen.clone())));
        let desk = Desk::start(self.reader).map_err(GatewayError::Thread)?;
        let (store, done) = StoreThread::start(self.store, JOBS_MAX, metrics.clone()).map_err(GatewayError::Thread)?;
        let hub = Hub::new(self.names, self.memory, now);
        let (inputs, waiting) = mpsc::channel(INPUTS_MAX);

        let (stopper, heard) = link::stop::signal();
        let upkeep = keep_up(self.upkeep, &store, &metrics, &heard)?;
        let witness = tokio::spawn(witness(self.witness, heard.clone()));
        let (tell, loads) = watch::channel(Vec::new());
        let spreading = tokio::spawn(spread::exchange(self.loads, seen.clone(), tell, heard.clone()));
        let owner = tokio::spawn(Owner::new(hub, store.jobs(), metrics, picture).run(waiting, done, loads));
        let doors = tokio::spawn(admit(doorman, self.sites, inputs, heard.clone()));
        let (histories, kept) = watch::channel(Histories::default());
        let keeping = tokio::spawn(dashboard::keep(seen.clone(), desk.clone(), histories, heard.clone()));
        let attending = tokio::spawn(self.access.clone().attend(heard.clone()));
        let access = self.access.clone();
        let shown = Shown { picture: seen, histories: kept, desk, registry: Arc::new(registry), access };
        let http = tokio::spawn(serve_http(self.encrypted, self.http, api::router(shown), heard));
        tracing::info!(quic = %self.quic_address, http = %self.http_address, "serving");

        let outcome = watch_over(owner, stop, &stopper).await;
        // All end by the signal; a panic in them was logged where it happened.
        let _ = tokio::join!(doors, http, witness, keeping, attending, spreading);
        write_down_the_end(&self.access, outcome.is_ok()).await;
        self.listening.endpoint.close(VarInt::from_u32(0), b"the gateway stops");
        let _ = tokio::time::timeout(FAREWELL_MAX, self.listening.endpoint.wait_idle()).await;
        // The owner is gone, and with it whoever could ask the store.
        let ended = tokio::task::spawn_blocking(move || {
            if upkeep.is_some_and(|upkeep| upkeep.join().is_err()) {
                tracing::error!("the upkeep ended in a panic");
            }
            store.join();
        })
        .await;
        tracing::info!("stopped");
        ended.map_err(|_| GatewayError::Bug).and(outcome)
    }
}

/// Starts the upkeep, where there is any.
fn keep_up(
    keeping: Option<Keeping>,
    store: &StoreThread,
    metrics: &Metrics,
    stop: &Stop,
) -> Result<Option<JoinHandle<()>>, GatewayError> {
    let Some(Keeping { reader, archive, retention }) = keeping else {
        return Ok(None);
    };
    if let Some(archive) = &archive {
        tracing::info!(%archive, "days that are over are archived");
    }
    let started = Upkeep::start(store.jobs(), reader, (archive, retention), metrics.clone(), stop.clone());
    started.map(Some).map_err(GatewayError::Thread)
}

fn encrypted(https: &Https) -> Result<Encrypted, IdentityError> {
    let machines = https.machines.as_ref().map(|machines| machines.ca.as_path());
    Encrypted::new(&https.certificate, &https.key, machines)
}

/// Serves HTTP, under TLS where the configuration says so.
async fn serve_http(encrypted: Option<Encrypted>, http: TcpListener, router: axum::Router, stop: Stop) {
    match encrypted {
        Some(encrypted) => link::http::serve_through(encrypted, http, router, stop).await,
        None => link::http::serve(http, router, stop).await,
    }
}

/// The last line of this life in the audit log.
async fn write_down_the_end(access: &Access, is_well: bool) {
    let written = access.ask(move |keeper, now| {
        keeper.close(now);
        let outcome = if is_well { Outcome::Ok } else { Outcome::Failed };
        keeper.note(&Deed { outcome, ..Deed::by_gateway("gateway.stop") }, now)
    });
    if let Ok(Err(error)) = written.await {
        tracing::error!(why = whole_story(&error), "the end is not written down");
    }
}

/// Witnesses, where this gateway does. A witness whose disk has failed votes no more; sessions go on without it.
async fn witness(host: Option<WitnessHost>, stop: Stop) {
    let Some(host) = host else { return };
    if let Err(error) = host.serve(stop).await {
        tracing::error!(why = link::logging::whole_story(&error), "the witness votes no more");
    }
}

/// Waits for the signal, passes it on and waits for the owner; or for the owner to end by itself, which it does only
/// where the store has failed.
async fn watch_over(
    mut owner: tokio::task::JoinHandle<Result<(), StoreError>>,
    stop: impl Future<Output = ()>,
    stopper: &Stopper,
) -> Result<(), GatewayError> {
    let ended = tokio::select! {
        ended = &mut owner => Some(ended),
        () = stop => None,
    };
    stopper.stop();
    let ended = match ended {
        Some(ended) => ended,
        None => owner.await,
    };
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(GatewayError::Bug),
    }
}

/// Lets boards in until told to stop, each in a task of its own.
async fn admit(mut doorman: Doorman, sites: Arc<Sites>, inputs: mpsc::Sender<Input>, mut stop: Stop) {
    let slots = Arc::new(Semaphore::new(SESSIONS_MAX));
    let mut sessions = JoinSet::new();
    let mut next = 0;
    loop {
        let connection = tokio::select! {
            () = stop.stopped() => break,
            Some(_) = sessions.join_next() => continue,
            accepted = doorman.accept() => match accepted {
                Some(connection) => connection,
                None => break,
            },
        };
        let Some(identity) = sites.identify(&connection) else {
            connection.close(VarInt::from_u32(1), b"the certificate names no board of a site served here");
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            connection.close(VarInt::from_u32(1), b"this gateway serves as many sessions as it can");
            continue;
        };
        next += 1;
        sessions.spawn(session::serve(SessionId(next), identity, connection, inputs.clone(), slot));
    }
    // Dropped with their tasks: the owner sees its inputs end.
    sessions.shutdown().await;
}

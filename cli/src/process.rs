//! `roadstead node`, `gateway` and `witness`: configuration, log, signals, then the process itself, which is in its own
//! crate. Owns how signals become the wish to stop, and the exit codes of processes.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use firmware::config::BoardConfig;
use firmware::supervise::{self, Charge, Place};
use link::identity::Identity;
use link::logging::{self, Form, whole_story};
use link::obituary::Announcer;
use link::stop::{Stop, Stopper, signal};
use link::witness::WitnessHost;
use tokio::process::Command;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind};

use crate::arguments::{Gateway, Node, Witness};
use crate::check::{self, Checked};
use crate::failure::Failure;

/// The running program itself: also when its file has been replaced since, so that supervisor and board are of one
/// version until the supervisor is started anew.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// The command that becomes a user's process.
const LAUNCHER: &str = "duty-launch";
/// Where a board's directory has the sockets of the users' processes.
const SOCKETS: &str = "run";
/// Threads that serve a gateway's sessions and API; its store has one of its own.
const GATEWAY_THREADS: usize = 2;

/// Runs a board, or the supervisor that starts it again.
pub(crate) fn node(asked: &Node) -> Result<ExitCode, Failure> {
    if asked.child {
        Ok(board(&asked.config))
    } else {
        supervisor(&asked.config)
    }
}

fn board_config(path: &Path) -> Result<BoardConfig, Failure> {
    match check::load(path)? {
        Checked::Board(config) => Ok(*config),
        other => Err(of_another(path, &other)),
    }
}

/// What is said where a process is given the file of another one.
fn of_another(path: &Path, checked: &Checked) -> Failure {
    let path = path.display();
    let (whose, command) = match checked {
        Checked::Board(config) => (format!("a board's ({})", config.node.board), "node"),
        Checked::Gateway(_) => ("a gateway's".to_owned(), "gateway"),
        Checked::Witness(config) => (format!("a witness's ({})", config.name), "witness"),
    };
    Failure::new(format!("{path} is {whose}")).remedy(format!("run it with `roadstead {command} --config`"))
}

/// Refuses a bad configuration at once, so that its refusal is told once.
fn supervisor(path: &Path) -> Result<ExitCode, Failure> {
    let config = board_config(path)?;
    logging::start(Form::from_environment());
    let command = || {
        let mut command = Command::new(OWN_PROGRAM);
        command.arg0("roadstead").args(["node", "--child", "--config"]).arg(path);
        command
    };
    // An obituary does not wait for it: it is what the other boards act on.
    link::entropy::warm_up();
    let runtime = built(Builder::new_current_thread().enable_all().build())?;
    let mut crier = Crier::new(path, &config);
    let charge = Charge {
        processes: config.processes,
        place: Place {
            site: config.node.site,
            board: config.node.board,
            directory: config.data_dir.join(SOCKETS),
            launcher: vec![OWN_PROGRAM.into(), LAUNCHER.into()],
        },
    };
    let announce = |life: u64| crier.announce(life);
    runtime
        .block_on(supervise::supervise(command, charge, announce))
        .map_err(|error| Failure::new(format!("the board of {} is not kept running", path.display())).because(error))?;
    Ok(ExitCode::SUCCESS)
}

/// Tells that a life is over to those whom the configuration names when it is: it may have been read again since the start.
struct Crier<'p> {
    path: &'p Path,
    written: Option<SystemTime>,
    announcer: Option<Announcer>,
}

impl<'p> Crier<'p> {
    fn new(path: &'p Path, config: &BoardConfig) -> Self {
        Self { path, written: written(path), announcer: announcer(config) }
    }

    fn announce(&mut self, life: u64) {
        let written = written(self.path);
        if written != self.written
            && let Ok(config) = board_config(self.path)
        {
            (self.written, self.announcer) = (written, announcer(&config));
        }
        if let Some(announcer) = &self.announcer {
            announcer.announce(life);
        }
    }
}

/// When the file was changed last.
fn written(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|about| about.modified()).ok()
}

/// Who tells the other boards, and the witness, that a life of the node is over. Without it they wait for its lease's end;
/// why its identity cannot be used the node itself will say.
fn announcer(config: &BoardConfig) -> Option<Announcer> {
    let files = &config.identity;
    let identity = Identity::load(&files.certificate, &files.key, &files.ca).ok()?;
    let witness = config.witness.as_ref().map(|witness| witness.address);
    let targets = config.peers.values().copied().chain(witness).collect();
    Announcer::new(&identity, config.node.site.clone(), config.node.board, targets).ok()
}

/// The board itself. Its exit status tells the supervisor whether starting it again can help.
fn board(path: &Path) -> ExitCode {
    if let Err(error) = supervise::bind_to_supervisor() {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    // While the journal recovers, so that the first handshake does not wait for it.
    link::entropy::warm_up();
    let (config, stop) = match board_config(path).and_then(|config| Ok((config, stop_on_signal()?))) {
        Ok(ready) => ready,
        Err(failure) => {
            eprintln!("error: {failure}");
            return supervise::EXIT_UNUSABLE.into();
        }
    };
    logging::start(Form::from_environment());
    match firmware::run(config, stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            eprintln!("error: {}", Failure::new("the board ended").because(error));
            code
        }
    }
}

/// Becomes a user's process: what the supervisor starts.
pub(crate) fn launch() -> ExitCode {
    eprintln!("error: {}", Failure::new("a duty's process cannot be started").because(supervise::launch()));
    ExitCode::FAILURE
}

/// Runs a gateway.
pub(crate) fn gateway(asked: &Gateway) -> Result<ExitCode, Failure> {
    let path = &asked.config;
    let config = match check::load(path)? {
        Checked::Gateway(config) => config,
        other => return Err(of_another(path, &other)),
    };
    let mut stop = stop_on_signal()?;
    logging::start(Form::from_environment());
    let runtime = built(Builder::new_multi_thread().worker_threads(GATEWAY_THREADS).enable_all().build())?;
    let ended = runtime.block_on(gateway::run(config, async move { stop.stopped().await }));
    // Store, audit log and witness have ended. A question about other gateways' loads, in a database that answers nothing, must not keep
    // the process.
    runtime.shutdown_background();
    ended.map_err(|error| Failure::new(format!("the gateway of {} ended", path.display())).because(error))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a witness that is nothing else: a third small machine beside two boards.
pub(crate) fn witness(asked: &Witness) -> Result<ExitCode, Failure> {
    let path = &asked.config;
    let config = match check::load(path)? {
        Checked::Witness(config) => config,
        other => return Err(of_another(path, &other)),
    };
    let stop = stop_on_signal()?;
    logging::start(Form::from_environment());
    let runtime = built(Builder::new_current_thread().enable_all().build())?;
    let ended = |error: &dyn std::error::Error| {
        Failure::new(format!("the witness of {} ended: {}", path.display(), whole_story(error)))
    };
    let served = runtime.block_on(async {
        let identity = Identity::load(&config.certificate, &config.key, &config.ca).map_err(|error| ended(&error))?;
        let host =
            WitnessHost::start(&identity, &config.served, &config.data_dir).map_err(|error| ended(&error))?;
        tracing::info!(name = %config.name, address = %config.served.listen, sites = config.served.sites.len(), "serving");
        host.serve(stop).await.map_err(|error| ended(&error))
    });
    served?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The wish to stop: SIGTERM or SIGINT. A second one ends the process where it stands, which loses nothing that was
/// acknowledged.
fn stop_on_signal() -> Result<Stop, Failure> {
    let runtime = built(Builder::new_current_thread().enable_all().build())?;
    let signals = {
        let _entered = runtime.enter();
        let watched = |kind| tokio::signal::unix::signal(kind);
        watched(SignalKind::terminate()).and_then(|terminate| Ok([terminate, watched(SignalKind::interrupt())?]))
    };
    let signals = signals.map_err(|error| Failure::new("cannot watch for signals").because(error))?;
    let (stopper, stop) = signal();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(pass_on(signals, stopper)))
        .map_err(|error| Failure::new("cannot start a thread").because(error))?;
    Ok(stop)
}

async fn pass_on([mut terminate, mut interrupt]: [Signal; 2], stopper: Stopper) {
    let mut any = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    any().await;
    stopper.stop();
    any().await;
    eprintln!("asked to stop twice: ending at once");
    std::process::exit(1);
}

fn built(runtime: std::io::Result<Runtime>) -> Result<Runtime, Failure> {
    runtime.map_err(|error| Failure::new("the system does not give what a process needs").because(error))
}

//! `roadstead demo`: a site on this machine that survives while one watches. Owns the command from its arguments to
//! its exit code; interrupted at any moment, it leaves no process and no file behind.
//!
//! ```text
//! log ─▶ replay ─▶ publishers ══MQTT══▶ boards ══QUIC══▶ relay ══▶ gateway ─▶ store
//!                      │                  ▲                ▲                    │
//!                      │               timeline: SIGKILL, cut, mend             │
//!                      └── accounts ──────────▶ verdict ◀── fresh read of rows ─┘
//! ```

pub mod arguments;
pub(crate) mod group;
mod hold;
pub mod log;
mod observer;
pub mod packed;
mod play;
pub(crate) mod ports;
mod publisher;
mod region;
pub(crate) mod relay;
mod replay;
mod report;
pub(crate) mod screen;
pub(crate) mod site;
mod timeline;
mod verdict;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use arguments::{Demo, READINGS_MAX};
use log::Log;
use play::Script;
use relay::Relay;
use replay::Replay;
use site::{Home, Site};

/// As a shell says of a process that Ctrl-C has ended: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// Runs the demo.
pub(crate) fn run(asked: &Demo) -> Result<ExitCode, Failure> {
    until_interrupted(demo(asked), || {
        eprintln!("interrupted: every process is ended");
        if asked.hold {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(INTERRUPTED)
        }
    })
}

/// Runs `work` until it is done or the process is told to end; then `work` is dropped, and with it whatever it holds.
pub(crate) fn until_interrupted(
    work: impl Future<Output = Result<ExitCode, Failure>>,
    interrupted: impl FnOnce() -> ExitCode,
) -> Result<ExitCode, Failure> {
    let cannot = |error| Failure::new("cannot start").because(error);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    let done = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(cannot)?;
        tokio::select! {
            done = work => done.map(Some),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
            _ = hang_up.recv() => Ok(None),
        }
    })?;
    Ok(done.unwrap_or_else(interrupted))
}

async fn demo(asked: &Demo) -> Result<ExitCode, Failure> {
    let replay = if asked.hold { None } else { Some(script(asked)?) };
    let home = match &asked.keep {
        Some(path) => Home::kept(path)?,
        None => Home::temporary("demo")?,
    };
    eprintln!("{} boards and a gateway, in {}", asked.boards, home.path().display());
    // Keys take a moment: an interrupt is heard before and after.
    tokio::task::yield_now().await;
    let mut site = Site::make(home, asked.boards, true)?;
    let relay = Relay::start(site.uplink(), site.plan().gateway.quic).await?;
    site.start_all()?;
    let (leader, _) = site.ready().await?;
    let dashboard = site.plan().gateway.http;
    eprintln!("all of them run, and board {} leads; see them at http://{dashboard}/ while this runs", leader + 1);
    let Some(script) = replay else {
        // It only ends by a failure, or by being dropped.
        return hold::hold(&mut site).await.map(|never| match never {});
    };
    let verdict = play::play(&mut site, &relay, script).await?;
    if let Some(path) = &asked.json {
        report::write_json(path, &verdict)?;
    }
    crate::say(&report::text(&verdict))?;
    if let Some(path) = &asked.keep {
        eprintln!("kept in {}", path.display());
    }
    Ok(if verdict.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks what can be wrong before anything is started.
fn script(asked: &Demo) -> Result<Script, Failure> {
    if u64::from(asked.rate) * u64::from(asked.seconds) > READINGS_MAX {
        let what = format!("{} a second for {} s are more than {READINGS_MAX} readings", asked.rate, asked.seconds);
        return Err(Failure::new(what).remedy("every reading is remembered until the verdict: lower one of the two"));
    }
    let beside = asked
        .json
        .as_deref()
        .and_then(Path::parent)
        .filter(|dir| !dir.as_os_str().is_empty());
    if let Some(dir) = beside
        && !dir.is_dir()
    {
        return Err(Failure::new(format!("{} is no directory, so --json cannot be written", dir.display())));
    }
    let log = match &asked.input {
        Some(path) => read(path)?,
        None => packed::controller().map_err(|error| Failure::new("cannot read the demo's own log").because(error))?,
    };
    Ok(Script {
        replay: Replay::new(log)?,
        rate: asked.rate,
        publishing: Duration::from_secs(u64::from(asked.seconds)),
    })
}

fn read(path: &Path) -> Result<Log, Failure> {
    let file =
        File::open(path).map_err(|error| Failure::new(format!("cannot read {}", path.display())).because(error))?;
    Log::read_csv(BufReader::new(file)).map_err(|bad| {
        Failure::new(format!("{} is no log", path.display())).because(bad).remedy(
            "one event a line under the header ts,device,event,param, such as 2024-04-15T12:00:00.000,1136,82,16",
        )
    })
}

//! `roadstead status`: asks boards and gateways over HTTP, all at once, and shows what they say. Exits with 1 where
//! nobody answered.

pub(crate) mod client;
pub(crate) mod region;
mod table;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use firmware::config::BoardConfig;
use serde_json::{Value, json};

use crate::arguments::{Output, Status};
use crate::check::{self, Checked};
use crate::failure::Failure;
use crate::files;
use crate::init::{BOARD_DIR_PREFIX, BOARD_FILE, GATEWAY_DIR, GATEWAY_FILE};
use client::{Approach, NoAnswer};
pub(crate) use table::plain;

/// What a process is, as far as we know before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Board,
    Gateway,
    Unknown,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Board => "board",
            Self::Gateway => "gateway",
            Self::Unknown => "unknown",
        }
    }
}

/// Somebody to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    kind: Kind,
    /// How people call it.
    name: String,
    /// `http://host:port`, or `https://`.
    url: String,
    /// How it is met.
    approach: Approach,
}

/// What came of asking.
#[derive(Debug)]
struct Answer {
    target: Target,
    said: Result<Value, NoAnswer>,
}

/// Asks and shows.
pub(crate) fn run(asked: &Status) -> Result<ExitCode, Failure> {
    let targets = targets(asked)?;
    let within = Duration::from_millis(asked.timeout_ms);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start").because(error))?;
    let answers = runtime.block_on(ask_all(targets, within));
    let heard = answers.iter().filter(|answer| answer.said.is_ok()).count();
    match asked.output {
        Output::Table => {
            crate::say(&table::of(&answers))?;
            for answer in &answers {
                if let Err(why) = &answer.said {
                    eprintln!("{} at {}: {why}", answer.target.name, answer.target.url);
                }
            }
        }
        Output::Json => {
            let all: Vec<Value> = answers.iter().map(as_json).collect();
            crate::say(&format!("{:#}\n", Value::Array(all)))?;
        }
    }
    Ok(if heard > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(answer: &Answer) -> Value {
    let target = &answer.target;
    let mut shown = json!({ "name": target.name, "kind": target.kind.word(), "url": target.url });
    match &answer.said {
        Ok(said) => shown["status"] = said.clone(),
        Err(why) => shown["error"] = why.to_string().into(),
    }
    shown
}

fn targets(asked: &Status) -> Result<Vec<Target>, Failure> {
    let mut targets = match &asked.dir {
        Some(dir) => of_site(dir)?,
        None => Vec::new(),
    };
    for path in &asked.config {
        targets.push(of_config(path)?);
    }
    for url in &asked.url {
        let url = url.trim_end_matches('/').to_owned();
        let approach = Approach { token: None, certificate: asked.certificate.clone() };
        targets.push(Target { kind: Kind::Unknown, name: "process".to_owned(), url, approach });
    }
    if let Some(path) = &asked.token_file {
        let token = files::read_config(path)?;
        let token = String::from_utf8_lossy(&token).trim().to_owned();
        // No board knows it, and HTTP to a board is in the clear.
        for target in targets.iter_mut().filter(|target| target.kind != Kind::Board) {
            target.approach.token = Some(token.clone());
        }
    }
    Ok(targets)
}

/// Boards by number, then the gateway, of a directory that `init` made.
fn of_site(dir: &Path) -> Result<Vec<Target>, Failure> {
    let cannot = |error| Failure::new(format!("cannot look into {}", dir.display())).because(error);
    let mut numbers: Vec<u8> = Vec::new();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(BOARD_DIR_PREFIX));
        numbers.extend(number.and_then(|number| number.parse::<u8>().ok()));
    }
    numbers.sort_unstable();
    // A directory without a configuration is a journal kept of a board that was taken out.
    let boards = numbers
        .iter()
        .map(|number| dir.join(format!("{BOARD_DIR_PREFIX}{number}")).join(BOARD_FILE))
        .filter(|path| path.exists());
    let gateway = dir.join(GATEWAY_DIR).join(GATEWAY_FILE);
    let gateway = Some(gateway).filter(|path| path.exists());
    let targets = boards
        .chain(gateway)
        .map(|path| of_config(&path))
        .collect::<Result<Vec<_>, _>>()?;
    if targets.is_empty() {
        return Err(Failure::new(format!("{} holds no site", dir.display()))
            .remedy("give the directory that `roadstead init` made"));
    }
    Ok(targets)
}

fn of_config(path: &Path) -> Result<Target, Failure> {
    Ok(match check::load(path)? {
        Checked::Board(config) => {
            let (url, approach) = page_of(&config)?;
            Target { kind: Kind::Board, name: config.node.board.to_string(), url, approach }
        }
        Checked::Gateway(config) => {
            let url = listens_at(config.listen_http);
            let (url, certificate) = match config.https {
                Some(https) => (url.replacen("http:", "https:", 1), Some(https.certificate)),
                None => (url, None),
            };
            let approach = Approach { token: None, certificate };
            Target { kind: Kind::Gateway, name: "gateway".to_owned(), url, approach }
        }
        Checked::Witness(_) => {
            return Err(Failure::new(format!("{} is a witness's, which has no page", path.display()))
                .remedy("ask the boards it votes for: they say whether it is in reach"));
        }
    })
}

/// Where the page of a board is, and how it is met: by its own certificate and token, where it asks for one.
pub(crate) fn page_of(config: &BoardConfig) -> Result<(String, Approach), Failure> {
    let url = listens_at(config.listen.http);
    let Some(file) = &config.status_token else {
        return Ok((url, Approach::default()));
    };
    let token = firmware::secrets::status_token(file)
        .map_err(|error| Failure::new("this board's page cannot be asked").because(error))?;
    let certificate = Some(config.identity.certificate.clone());
    Ok((url.replacen("http:", "https:", 1), Approach { token: Some(token), certificate }))
}

/// Where a process that listens at `listen` is reached from its own machine.
pub(crate) fn listens_at(mut listen: std::net::SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{listen}")
}

/// All at once; the answers in the order of `targets`.
async fn ask_all(targets: Vec<Target>, within: Duration) -> Vec<Answer> {
    gather(targets, |target| ask(target, within)).await
}

/// The same for the page `path`, whoever they are.
async fn ask_all_at(targets: Vec<Target>, path: &str, within: Duration) -> Vec<Answer> {
    gather(targets, |target| {
        let path = path.to_owned();
        async move {
            let said = said(&target, &path, within).await;
            Answer { target, said }
        }
    })
    .await
}

async fn gather<F>(targets: Vec<Target>, ask: impl Fn(Target) -> F) -> Vec<Answer>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let asking: Vec<_> = targets.into_iter().map(|target| tokio::spawn(ask(target))).collect();
    let mut answers = Vec::with_capacity(asking.len());
    for asked in asking {
        // A task ends without its answer only by a panic, which has been shown already.
        answers.extend(asked.await);
    }
    answers
}

/// A process that may be either is asked as a board first: a gateway does not know that page.
async fn ask(mut target: Target, within: Duration) -> Answer {
    let said = match target.kind {
        Kind::Board => said(&target, "/status", within).await,
        Kind::Gateway => said(&target, "/api/sites", within).await,
        Kind::Unknown => match said(&target, "/status", within).await {
            Err(NoAnswer::Refused(_)) => {
                target.kind = Kind::Gateway;
                target.name = "gateway".to_owned();
                said(&target, "/api/sites", within).await
            }
            other => {
                if let Ok(status) = &other {
                    target.kind = Kind::Board;
                    target.name = format!("board-{}", status["board"]);
                }
                other
            }
        },
    };
    Answer { target, said }
}

async fn said(target: &Target, path: &str, within: Duration) -> Result<Value, NoAnswer> {
    let body = client::get_as(&target.approach, &target.url, path, within).await?;
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests;

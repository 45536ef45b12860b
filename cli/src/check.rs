//! `roadstead config check`: reads configurations as the processes would, and says what is wrong and where.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firmware::config::BoardConfig;
use gateway::config::GatewayConfig;
use link::witness::config::WitnessConfig;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use shared::config::text::{ConfigError, Text};
use shared::ids::Name;

use crate::failure::Failure;
use crate::files;

/// A checked configuration of one of the processes.
#[allow(clippy::large_enum_variant, reason = "one is made in the life of a process")]
#[derive(Clone, Debug)]
pub(crate) enum Checked {
    /// Of a board.
    Board(Box<BoardConfig>),
    /// Of a gateway.
    Gateway(GatewayConfig),
    /// Of a witness and nothing else.
    Witness(WitnessConfig),
}

/// What tells the kinds of file apart, even where something in them is wrong: a board says its number, and its site by
/// name; a witness says its own name; a gateway has a table for each site.
#[derive(Deserialize)]
struct Kind {
    board: Option<IgnoredAny>,
    voters: Option<IgnoredAny>,
    peer: Option<IgnoredAny>,
    site: Option<Value>,
    witness: Option<Value>,
}

impl Kind {
    const fn is_board(&self) -> bool {
        self.board.is_some() || self.voters.is_some() || self.peer.is_some()
    }

    fn is_witness(&self) -> bool {
        self.witness.as_ref().is_some_and(Value::is_string)
    }

    fn is_gateway(&self) -> bool {
        self.site.as_ref().is_some_and(|site| site.is_array() || site.is_object())
    }
}

/// Checks `files`: one line to stdout for a good one, the refusal to stderr for a bad one.
pub(crate) fn run(files: &[PathBuf]) -> Result<ExitCode, Failure> {
    let mut bad = 0_usize;
    for path in files {
        match load(path) {
            Ok(checked) => {
                crate::say(&format!("{}: ok, {}\n", path.display(), checked.summary()))?;
            }
            Err(failure) => {
                bad += 1;
                eprintln!("{failure}");
            }
        }
    }
    if bad == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if files.len() > 1 {
        eprintln!("{bad} of {} files are refused", files.len());
    }
    Ok(ExitCode::FAILURE)
}

/// The configuration in the file `path`.
pub(crate) fn load(path: &Path) -> Result<Checked, Failure> {
    let bytes = files::read_config(path)?;
    check(path, &bytes).map_err(|refusal| Failure::new(refusal.to_string()))
}

/// The configuration in `bytes`, read from `path`.
pub(crate) fn check(path: &Path, bytes: &[u8]) -> Result<Checked, ConfigError> {
    let file = path.display().to_string();
    let text = Text::new(&file, bytes)?;
    let kind: Kind = text.parse()?;
    if kind.is_board() {
        return BoardConfig::parse(path, bytes).map(|config| Checked::Board(Box::new(config)));
    }
    if kind.is_witness() {
        return WitnessConfig::parse(path, bytes).map(Checked::Witness);
    }
    if kind.is_gateway() {
        return GatewayConfig::parse(path, bytes).map(Checked::Gateway);
    }
    Err(text
        .refuse_all("this is neither a board's file nor a gateway's nor a witness's").suggest(
        "a board's has `board = 1` before the first [table], a witness's `witness = \"its name\"`, a gateway's a [[site]] for \
         each site",
    ))
}

impl Checked {
    /// What it is, in one line.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Board(config) => {
                let node = &config.node;
                let region = match &config.region {
                    Some(region) => format!("region at {}", region.gateways[0].address),
                    None => "no region".to_owned(),
                };
                format!(
                    "{} of site {}: {}, {}, {}, mesh {}, mqtt {}, {} {}, {region}",
                    node.board,
                    node.site,
                    counted(node.boards.len(), "board"),
                    counted(node.voters.set.len(), "voter"),
                    if node.copies == 1 {
                        "1 copy".to_owned()
                    } else {
                        format!("{} copies", node.copies)
                    },
                    config.listen.mesh,
                    config.listen.mqtt,
                    if config.status_token.is_some() { "https" } else { "http" },
                    config.listen.http,
                )
            }
            Self::Gateway(config) => {
                let witness = config.listen_witness.map(|address| format!(", witness {address}"));
                format!(
                    "gateway of {}, quic {}, {} {}{}",
                    listed(config.sites.iter().map(|site| &site.name)),
                    config.listen_quic,
                    if config.https.is_some() { "https" } else { "http" },
                    config.listen_http,
                    witness.unwrap_or_default(),
                )
            }
            Self::Witness(config) => {
                let sites = listed(config.served.sites.iter().map(|site| &site.name));
                format!("witness {} for {sites}, at {}", config.name, config.served.listen)
            }
        }
    }
}

/// `2 sites (a, b)`: the first few by name.
fn listed<'n>(sites: impl ExactSizeIterator<Item = &'n Name>) -> String {
    let count = sites.len();
    let names: Vec<&str> = sites.map(Name::as_str).take(4).collect();
    let more = if count > 4 { ", ..." } else { "" };
    format!("{} ({}{more})", counted(count, "site"), names.join(", "))
}

/// `1 board`, `3 boards`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

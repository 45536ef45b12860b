//! `roadstead config check`: reads configurations as the processes would, and says what is wrong and where.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firmware::config::BoardConfig;
use gateway::config::GatewayConfig;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use shared::config::text::{ConfigError, Text};

use crate::failure::Failure;
use crate::files;

/// A checked configuration of either process.
#[allow(clippy::large_enum_variant, reason = "one is made in the life of a process")]
#[derive(Clone, Debug)]
pub(crate) enum Checked {
    /// Of a board.
    Board(Box<BoardConfig>),
    /// Of a gateway.
    Gateway(GatewayConfig),
}

/// What tells the two kinds of file apart, even where something in them is wrong: a board says its number, and its
/// site by name; a gateway has a table for each site.
#[derive(Deserialize)]
struct Kind {
    board: Option<IgnoredAny>,
    voters: Option<IgnoredAny>,
    peer: Option<IgnoredAny>,
    site: Option<Value>,
}

impl Kind {
    const fn is_board(&self) -> bool {
        self.board.is_some() || self.voters.is_some() || self.peer.is_some()
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
    if kind.is_gateway() {
        return GatewayConfig::parse(path, bytes).map(Checked::Gateway);
    }
    Err(text
        .refuse_all("this is neither a board's file nor a gateway's")
        .suggest("a board's has `board = 1` before the first [table], a gateway's a [[site]] for each site"))
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
                    "{} of site {}: {}, {}, {}, mesh {}, mqtt {}, http {}, {region}",
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
                    config.listen.http,
                )
            }
            Self::Gateway(config) => {
                let sites: Vec<&str> = config.sites.iter().map(|site| site.name.as_str()).take(4).collect();
                let more = if config.sites.len() > 4 { ", ..." } else { "" };
                format!(
                    "gateway of {} ({}{more}), quic {}, http {}",
                    counted(config.sites.len(), "site"),
                    sites.join(", "),
                    config.listen_quic,
                    config.listen_http,
                )
            }
        }
    }
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

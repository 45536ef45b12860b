//! What a witness runs with: where it listens and which sites it votes for, as a file of its own (`witness.toml`) or as
//! the table `[witness_for]` of a board. Owns these keys. Pure: the text is passed in.
//!
//! ```toml
//! witness = "third"             # its name; its certificate says witness.third.roadstead
//! data_dir = "data"
//!
//! [listen]
//! witness = "192.0.2.9:7401"
//!
//! [identity]
//! certificate = "certificate.pem"
//! key = "key.pem"
//! ca = "region-ca.pem"
//!
//! [[site]]                      # one for each site
//! name = "north-4"
//! ca = "sites/north-4.pem"
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::config::text::{ConfigError, Spanned, Text};
use shared::ids::Name;
use shared::limits::WITNESS_SITES_MAX;

use crate::tables::{self, RawIdentity, RawSite, ServedSite};

/// Where a witness listens, and for which sites it votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Where boards ask for its vote: QUIC, over UDP.
    pub listen: SocketAddr,
    /// The sites, each once: 1 to [`WITNESS_SITES_MAX`].
    pub sites: Vec<ServedSite>,
}

/// What a process that is a witness and nothing else runs with. Paths are as usable from its working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessConfig {
    /// Its name.
    pub name: Name,
    /// Where it keeps what it must not forget; made where it does not exist.
    pub data_dir: PathBuf,
    /// Where it listens, and whom it serves.
    pub served: Served,
    /// Its certificate, PEM.
    pub certificate: PathBuf,
    /// The certificate's key, PEM.
    pub key: PathBuf,
    /// The authority that made it, PEM.
    pub ca: PathBuf,
}

/// The text's shape, before anything is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWitness {
    witness: Spanned<String>,
    data_dir: PathBuf,
    listen: RawListen,
    identity: RawIdentity,
    #[serde(default)]
    site: Vec<RawSite>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    witness: Spanned<String>,
}

/// The table `[witness_for]` of a board, before it is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawServed {
    /// An address of this machine.
    pub listen: Spanned<String>,
    #[serde(default)]
    site: Vec<RawSite>,
}

impl WitnessConfig {
    /// The configuration in `bytes`, read from `path`: the name is for refusals, and relative paths in the text are
    /// relative to the directory that holds it. Touches no file. Refused: an address that is none or has port 0, no site,
    /// more than [`WITNESS_SITES_MAX`], a name that is none or given twice.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = Text::new(&file, bytes)?;
        let raw: RawWitness = text.parse()?;
        let beside = path.parent().unwrap_or(Path::new(""));
        Ok(Self {
            name: text.name("witness", &raw.witness)?,
            data_dir: beside.join(&raw.data_dir),
            served: Served {
                listen: address(&text, "listen.witness", &raw.listen.witness)?,
                sites: sites(&text, "site", &raw.site, beside)?,
            },
            certificate: beside.join(&raw.identity.certificate),
            key: beside.join(&raw.identity.key),
            ca: beside.join(&raw.identity.ca),
        })
    }
}

impl RawServed {
    /// The checked table of a board of `own`; relative paths lie `beside` the file. Refused: what
    /// [`WitnessConfig::parse`] refuses, and the board's own site, which it votes for already.
    pub fn check(&self, text: &Text<'_>, beside: &Path, own: &Name) -> Result<Served, ConfigError> {
        let listen = address(text, "witness_for.listen", &self.listen)?;
        let sites = sites(text, "witness_for.site", &self.site, beside)?;
        if let Some(at) = sites.iter().position(|site| site.name == *own) {
            let message = format!("`witness_for.site` names {own}, this board's own site");
            return Err(text
                .refuse(self.site[at].name.span(), message)
                .suggest("a board has a vote in its own site; name neighbouring ones"));
        }
        Ok(Served { listen, sites })
    }
}

fn address(text: &Text<'_>, key: &str, value: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    tables::address(text, key, value, "192.0.2.9:7401")
}

fn sites(text: &Text<'_>, key: &str, raw: &[RawSite], beside: &Path) -> Result<Vec<ServedSite>, ConfigError> {
    tables::sites(text, key, raw, beside, ("a witness votes for", WITNESS_SITES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"witness = "third"
data_dir = "data"
[listen]
witness = "192.0.2.9:7401"
[identity]
certificate = "certificate.pem"
key = "/keys/key.pem"
ca = "region-ca.pem"
[[site]]
name = "elm"
ca = "sites/elm.pem"
[[site]]
name = "oak"
ca = "sites/oak.pem"
"#;

    fn parse(text: &str) -> Result<WitnessConfig, ConfigError> {
        WitnessConfig::parse(Path::new("/etc/roadstead/witness.toml"), text.as_bytes())
    }

    #[test]
    fn a_whole_file_is_read_and_paths_lie_beside_it() {
        let config = parse(WHOLE).unwrap();
        assert_eq!((config.name.as_str(), config.served.listen.port()), ("third", 7401));
        assert_eq!(config.data_dir, Path::new("/etc/roadstead/data"));
        assert_eq!(config.key, Path::new("/keys/key.pem"));
        let sites: Vec<_> = config.served.sites.iter().map(|site| site.name.as_str()).collect();
        assert_eq!(sites, ["elm", "oak"]);
        assert_eq!(config.served.sites[1].ca, Path::new("/etc/roadstead/sites/oak.pem"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (right, wrong, line, word) in [
            ("witness = \"third\"", "witness = \"Third\"", 1, "is no name"),
            (":7401", "", 4, "listen.witness"),
            (":7401", ":0", 4, "port 0"),
            ("key = ", "kye = ", 7, "kye"),
            ("\"oak\"", "\"elm\"", 13, "twice"),
            ("\"oak\"", "\"O\"", 13, "site.name"),
        ] {
            let refusal = parse(&WHOLE.replace(right, wrong)).unwrap_err();
            assert_eq!(refusal.line, line, "{refusal}");
            assert!(refusal.to_string().contains(word), "{refusal}");
        }
        let (before, _) = WHOLE.split_once("[[site]]").unwrap();
        assert!(parse(before).unwrap_err().to_string().contains("0 sites"));
    }
}

//! A gateway's configuration: TOML text to raw to checked, once, at start. Owns addresses, files and the sites that
//! are served. Pure: the text is passed in.
//!
//! ```toml
//! data_dir = "data"
//!
//! [listen]                      # both optional; loopback unless told otherwise
//! quic = "127.0.0.1:7500"
//! http = "127.0.0.1:7580"
//! witness = "192.0.2.1:7501"    # where it is a witness; without it it is none
//!
//! [identity]
//! certificate = "gateway.pem"
//! key = "gateway.key"
//! ca = "region-ca.pem"
//!
//! [[site]]                      # one for each site
//! name = "north-4"
//! ca = "north-4-ca.pem"
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use link::tables::{self, RawIdentity, RawSite, ServedSite};
use serde::Deserialize;
use shared::config::text::{ConfigError, Spanned, Text};

/// Sites that one gateway serves. More are refused by the configuration.
pub const SITES_MAX: usize = 1024;
/// UDP port for boards where none is given.
pub const QUIC_PORT: u16 = 7500;
/// TCP port for people where none is given.
pub const HTTP_PORT: u16 = 7580;

/// What a gateway runs with. Paths are as usable from the process's working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where boards dial in: QUIC, over UDP. Default 127.0.0.1, port [`QUIC_PORT`].
    pub listen_quic: SocketAddr,
    /// API, metrics and health, over TCP. Default 127.0.0.1, port [`HTTP_PORT`]: whoever reaches it may read all.
    pub listen_http: SocketAddr,
    /// Where it witnesses for its sites: QUIC, over UDP; `None` where it does not.
    pub listen_witness: Option<SocketAddr>,
    /// Where the store lives; made where it does not exist.
    pub data_dir: PathBuf,
    /// Its certificate, PEM.
    pub certificate: PathBuf,
    /// The certificate's key, PEM.
    pub key: PathBuf,
    /// The region's authority, PEM.
    pub ca: PathBuf,
    /// The sites that are served: 1 to [`SITES_MAX`], each once.
    pub sites: Vec<ServedSite>,
}

/// The text's shape, before anything is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGateway {
    data_dir: PathBuf,
    #[serde(default)]
    listen: RawListen,
    identity: RawIdentity,
    #[serde(default)]
    site: Vec<RawSite>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    quic: Option<Spanned<String>>,
    http: Option<Spanned<String>>,
    witness: Option<Spanned<String>>,
}

impl GatewayConfig {
    /// The configuration in `bytes`, read from `path`: the name is for refusals, and relative paths in the text are
    /// relative to the directory that holds it. Touches no file.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = Text::new(&file, bytes)?;
        text.parse::<RawGateway>()?.check(&text, path.parent().unwrap_or(Path::new("")))
    }
}

impl RawGateway {
    /// The checked configuration; relative paths are taken to lie `beside` it. Refused: an address that is none or has
    /// port 0, no site, more than [`SITES_MAX`], a name that is none or given twice.
    pub fn check(&self, text: &Text<'_>, beside: &Path) -> Result<GatewayConfig, ConfigError> {
        Ok(GatewayConfig {
            listen_quic: address(text, "listen.quic", self.listen.quic.as_ref(), QUIC_PORT)?,
            listen_http: address(text, "listen.http", self.listen.http.as_ref(), HTTP_PORT)?,
            listen_witness: self
                .listen
                .witness
                .as_ref()
                .map(|witness| address(text, "listen.witness", Some(witness), QUIC_PORT))
                .transpose()?,
            data_dir: beside.join(&self.data_dir),
            certificate: beside.join(&self.identity.certificate),
            key: beside.join(&self.identity.key),
            ca: beside.join(&self.identity.ca),
            sites: tables::sites(text, "site", &self.site, beside, ("a gateway serves", SITES_MAX))?,
        })
    }
}

fn address(text: &Text<'_>, key: &str, value: Option<&Spanned<String>>, port: u16) -> Result<SocketAddr, ConfigError> {
    let Some(value) = value else {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    };
    tables::address(text, key, value, "127.0.0.1:7500")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
data_dir = "data"
[listen]
quic = "192.0.2.1:7501"
http = "127.0.0.1:7581"
[identity]
certificate = "gateway.pem"
key = "/keys/gateway.key"
ca = "region-ca.pem"
[[site]]
name = "elm"
ca = "elm-ca.pem"
[[site]]
name = "oak"
ca = "oak-ca.pem"
"#;

    fn parse(text: &str) -> Result<GatewayConfig, ConfigError> {
        GatewayConfig::parse(Path::new("/etc/roadstead/gateway.toml"), text.as_bytes())
    }

    #[test]
    fn paths_lie_beside_the_file_and_addresses_are_loopback_by_default() {
        let config = parse(WHOLE).unwrap();
        assert_eq!(config.listen_quic, "192.0.2.1:7501".parse().unwrap());
        assert_eq!(config.data_dir, Path::new("/etc/roadstead/data"));
        assert_eq!(config.key, Path::new("/keys/gateway.key"));
        let names: Vec<_> = config.sites.iter().map(|site| site.name.as_str()).collect();
        assert_eq!(names, ["elm", "oak"]);
        let plain: String = WHOLE
            .lines()
            .filter(|line| !line.starts_with("quic") && !line.starts_with("http"))
            .map(|line| format!("{line}\n"))
            .collect();
        let plain = parse(&plain).unwrap();
        assert!(plain.listen_quic.ip().is_loopback() && plain.listen_http.ip().is_loopback());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let refusals = [
            ("quic = \"192.0.2.1:7501\"", "quic = \"192.0.2.1\"", 4, "listen.quic"),
            ("http = \"127.0.0.1:7581\"", "http = \"127.0.0.1:0\"", 5, "port 0"),
            ("name = \"oak\"", "name = \"elm\"", 14, "twice"),
            ("name = \"oak\"", "name = \"Oak\"", 14, "site.name"),
            ("key = ", "kye = ", 8, "kye"),
        ];
        for (right, wrong, line, word) in refusals {
            let refusal = parse(&WHOLE.replace(right, wrong)).unwrap_err();
            assert_eq!(refusal.line, line, "{refusal}");
            assert!(refusal.to_string().contains(word), "{refusal}");
        }
        let (before, _) = WHOLE.split_once("[[site]]").unwrap();
        assert!(parse(before).unwrap_err().to_string().contains("0 sites"));
    }
}

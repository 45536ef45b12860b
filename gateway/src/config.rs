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
//! [access]                      # needed where `listen.http` is beyond loopback; then HTTPS is spoken there
//! certificate = "https.pem"
//! key = "https.key"
//! machines_ca = "machines.pem"  # optional: clients with a certificate of this authority ...
//! machines = ["prometheus"]     # ... for one of these names may read
//!
//! [store]                       # optional: without it, or with kind = "sqlite", a file in data_dir
//! kind = "postgres"
//! url = "postgres://roadstead@db-1.example,db-2.example/roadstead"
//! password_file = "db.password" # optional: its first line
//! ca = "db-ca.pem"              # needed where the server is not this machine: TLS, and who the server is
//! spread_sites = true           # optional: whether gateways of one database share the sites out among each other
//!
//! [archive]                     # optional, as [retention] is: see `keeping`
//! url = "s3://region-archive/records"
//!
//! [[site]]                      # one for each site
//! name = "north-4"
//! ca = "north-4-ca.pem"
//! ```

mod keeping;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use link::tables::{self, RawIdentity, RawSite, ServedSite};
use serde::Deserialize;
use shared::config::text::{ConfigError, Spanned, Text};

pub use self::keeping::{RETENTION_DAYS_MAX, Retention};
use self::keeping::{RawArchive, RawRetention};
use crate::objects::ObjectPlace;
use crate::store::PostgresPlace;

/// Sites that one gateway serves. More are refused by the configuration.
pub const SITES_MAX: usize = 4096;
/// UDP port for boards where none is given.
pub const QUIC_PORT: u16 = 7500;
/// Machines that may be listed.
pub const MACHINES_MAX: usize = 256;
/// TCP port for people where none is given.
pub const HTTP_PORT: u16 = 7580;

/// What a gateway runs with. Paths are as usable from the process's working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where boards dial in: QUIC, over UDP. Default 127.0.0.1, port [`QUIC_PORT`].
    pub listen_quic: SocketAddr,
    /// Dashboard, API, metrics and health, over TCP. Default 127.0.0.1, port [`HTTP_PORT`]. Beyond loopback only with `https`
    /// and accounts.
    pub listen_http: SocketAddr,
    /// What HTTPS is spoken with there; `None`: HTTP in the clear.
    pub https: Option<Https>,
    /// Where it witnesses for its sites: QUIC, over UDP; `None` where it does not.
    pub listen_witness: Option<SocketAddr>,
    /// Where the store lives, if it is a file, and the accounts, the audit log and what a witness must not forget; made where it
    /// does not exist.
    pub data_dir: PathBuf,
    /// What the region's store is.
    pub store: StoreKind,
    /// Whether this gateway and the others of its store share the sites out among each other. Default true; without effect where the
    /// store is a file, which has one gateway. Must be the same for all gateways of a store: one that does not is not seen by those
    /// that do.
    pub spread_sites: bool,
    /// Where records go before they are removed, and once their day is over; `None`: nowhere.
    pub archive: Option<ObjectPlace>,
    /// How long records are kept.
    pub retention: Retention,
    /// Its certificate, PEM.
    pub certificate: PathBuf,
    /// The certificate's key, PEM.
    pub key: PathBuf,
    /// The region's authority, PEM.
    pub ca: PathBuf,
    /// The sites that are served: 1 to [`SITES_MAX`], each once.
    pub sites: Vec<ServedSite>,
    /// SHA-256 of the file as it was read: what the audit log knows it by.
    pub digest: [u8; 32],
}

/// What the region's store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreKind {
    /// A file in the data directory: one gateway.
    #[default]
    Sqlite,
    /// A PostgreSQL database: any number of gateways.
    Postgres(PostgresPlace),
}

/// How HTTPS is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// The certificate for browsers, with its chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who may read by a certificate; `None`: nobody.
    pub machines: Option<Machines>,
}

/// Machines that are known by their certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machines {
    /// Who made their certificates, PEM.
    pub ca: PathBuf,
    /// DNS names or addresses that their certificates are for: 1 to [`MACHINES_MAX`].
    pub names: BTreeSet<String>,
}

/// The text's shape, before anything is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGateway {
    data_dir: PathBuf,
    #[serde(default)]
    listen: RawListen,
    identity: RawIdentity,
    access: Option<RawAccess>,
    #[serde(default)]
    store: RawStore,
    archive: Option<RawArchive>,
    #[serde(default)]
    retention: RawRetention,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAccess {
    certificate: PathBuf,
    key: PathBuf,
    machines_ca: Option<PathBuf>,
    machines: Option<Spanned<Vec<String>>>,
}

/// No `Debug`: the address may hold a password.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    kind: Option<Spanned<String>>,
    url: Option<String>,
    password_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    spread_sites: Option<bool>,
}

/// What it is, without where.
impl std::fmt::Debug for RawStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawStore").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl GatewayConfig {
    /// The configuration in `bytes`, read from `path`: the name is for refusals, and relative paths in the text are
    /// relative to the directory that holds it. Touches no file.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = Text::new(&file, bytes)?;
        let mut config = text
            .parse::<RawGateway>()?
            .check(&text, path.parent().unwrap_or(Path::new("")))?;
        config
            .digest
            .copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
        Ok(config)
    }
}

impl RawGateway {
    /// The checked configuration; relative paths are taken to lie `beside` it. Refused: an address that is none or has
    /// port 0, no site, more than [`SITES_MAX`], a name that is none or given twice, HTTP in the clear beyond loopback.
    pub fn check(&self, text: &Text<'_>, beside: &Path) -> Result<GatewayConfig, ConfigError> {
        let https = self.access.as_ref().map(|access| access.check(text, beside)).transpose()?;
        let listen_http = address(text, "listen.http", self.listen.http.as_ref(), HTTP_PORT)?;
        if let Some(given) = self
            .listen
            .http
            .as_ref()
            .filter(|_| https.is_none() && is_beyond_loopback(listen_http))
        {
            let message = format!("`listen.http` is {listen_http}, which other hosts reach, and there is no [access]");
            return Err(text.refuse(given.span(), message).suggest(
                "give [access] a `certificate` and its `key`, so that passwords cross no network in the clear, and make an \
                 account with `roadstead user add`; or listen on 127.0.0.1",
            ));
        }
        Ok(GatewayConfig {
            listen_quic: address(text, "listen.quic", self.listen.quic.as_ref(), QUIC_PORT)?,
            listen_http,
            https,
            listen_witness: self
                .listen
                .witness
                .as_ref()
                .map(|witness| address(text, "listen.witness", Some(witness), QUIC_PORT))
                .transpose()?,
            data_dir: beside.join(&self.data_dir),
            store: self.store.check(text, beside)?,
            spread_sites: self.store.spread_sites.unwrap_or(true),
            archive: self.archive.as_ref().map(|archive| archive.check(text, beside)).transpose()?,
            retention: self.retention.check(text)?,
            certificate: beside.join(&self.identity.certificate),
            key: beside.join(&self.identity.key),
            ca: beside.join(&self.identity.ca),
            sites: tables::sites(text, "site", &self.site, beside, ("a gateway serves", SITES_MAX))?,
            digest: [0; 32],
        })
    }
}

impl RawStore {
    /// Words of refusal never hold the address: it may have a password in it.
    fn check(&self, text: &Text<'_>, beside: &Path) -> Result<StoreKind, ConfigError> {
        let is_bare =
            self.url.is_none() && self.password_file.is_none() && self.ca.is_none() && self.spread_sites.is_none();
        match self.kind.as_ref().map_or("sqlite", |kind| kind.get_ref().as_str()) {
            "sqlite" if is_bare => Ok(StoreKind::Sqlite),
            "sqlite" => Err(text
                .refuse_all(
                    "`store.url`, `password_file`, `ca` and `spread_sites` are for `kind = \"postgres\"`, and the kind is \"sqlite\"",
                )
                .suggest("say which store is meant: a file needs none of them")),
            "postgres" => {
                let Some(url) = &self.url else {
                    return Err(text
                        .refuse_all("`store.url` is missing: where the database is")
                        .suggest("give one such as postgres://roadstead@127.0.0.1:5432/roadstead"));
                };
                let beside = |path: &PathBuf| beside.join(path);
                let place =
                    PostgresPlace::new(url, self.password_file.as_ref().map(beside), self.ca.as_ref().map(beside));
                place
                    .map(StoreKind::Postgres)
                    .map_err(|why| text.refuse_all(format!("`store.url` will not do: {why}")))
            }
            other => {
                let message = format!("`store.kind` is \"{other}\", but it must be \"sqlite\" or \"postgres\"");
                let at = self.kind.as_ref().map_or(0..0, Spanned::span);
                Err(text.refuse(at, message))
            }
        }
    }
}

impl RawAccess {
    fn check(&self, text: &Text<'_>, beside: &Path) -> Result<Https, ConfigError> {
        let machines = match (&self.machines_ca, &self.machines) {
            (None, None) => None,
            (Some(ca), Some(names)) => Some(Machines { ca: beside.join(ca), names: machine_names(text, names)? }),
            (Some(_), None) | (None, Some(_)) => {
                let message = "`machines` and `machines_ca` go together: who may look, and who says that it is they";
                return Err(text.refuse_all(message).suggest("give [access] both or neither"));
            }
        };
        Ok(Https { certificate: beside.join(&self.certificate), key: beside.join(&self.key), machines })
    }
}

fn machine_names(text: &Text<'_>, names: &Spanned<Vec<String>>) -> Result<BTreeSet<String>, ConfigError> {
    let given = names.get_ref();
    if !(1..=MACHINES_MAX).contains(&given.len()) {
        let message = format!("`access.machines` has {} names; 1 to {MACHINES_MAX} may look", given.len());
        return Err(text
            .refuse(names.span(), message)
            .suggest("give the names that their certificates are for"));
    }
    let is_none = |name: &&String| quinn::rustls::pki_types::ServerName::try_from(name.as_str()).is_err();
    if let Some(name) = given.iter().find(is_none) {
        let message = format!("`access.machines` has {name:?}, which a certificate cannot be for");
        return Err(text.refuse(names.span(), message).suggest("give DNS names or IP addresses"));
    }
    Ok(given.iter().cloned().collect())
}

/// Whether other hosts reach this address.
pub(crate) fn is_beyond_loopback(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

fn address(text: &Text<'_>, key: &str, value: Option<&Spanned<String>>, port: u16) -> Result<SocketAddr, ConfigError> {
    let Some(value) = value else {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    };
    tables::address(text, key, value, "127.0.0.1:7500")
}

#[cfg(test)]
mod tests {
    use shared::ids::Class;

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
    fn beyond_loopback_http_is_encrypted_or_refused() {
        let beyond = WHOLE.replace("127.0.0.1:7581", "192.0.2.1:7581");
        let refusal = parse(&beyond).unwrap_err();
        assert_eq!(refusal.line, 5, "{refusal}");
        assert!(refusal.to_string().contains("roadstead user add"), "{refusal}");
        for everywhere in ["0.0.0.0:7581", "[::]:7581", "[::ffff:192.0.2.1]:7581"] {
            assert!(parse(&WHOLE.replace("127.0.0.1:7581", everywhere)).is_err(), "{everywhere}");
        }
        for here in ["127.9.9.9:7581", "[::1]:7581", "[::ffff:127.0.0.1]:7581"] {
            assert!(parse(&WHOLE.replace("127.0.0.1:7581", here)).is_ok(), "{here}");
        }
        let with = |access: &str| parse(&beyond.replace("[identity]", &format!("[access]\n{access}\n[identity]")));
        let https = with("certificate = \"c.pem\"\nkey = \"c.key\"").unwrap().https.unwrap();
        assert_eq!(https.certificate, Path::new("/etc/roadstead/c.pem"));
        let pair = "certificate = \"c.pem\"\nkey = \"c.key\"\nmachines_ca = \"m.pem\"";
        assert!(with("certificate = \"c.pem\"").is_err(), "no key");
        assert!(with(pair).unwrap_err().to_string().contains("go together"));
        assert!(
            with(&format!("{pair}\nmachines = []"))
                .unwrap_err()
                .to_string()
                .contains("0 names")
        );
        assert!(
            with(&format!("{pair}\nmachines = [\"a b\"]"))
                .unwrap_err()
                .to_string()
                .contains("a b")
        );
        let machines = with(&format!("{pair}\nmachines = [\"prometheus\"]"))
            .unwrap()
            .https
            .unwrap()
            .machines;
        assert!(machines.unwrap().names.contains("prometheus"));
    }

    #[test]
    fn the_store_is_a_file_or_a_database_and_no_refusal_shows_a_password() {
        let with = |store: &str| parse(&WHOLE.replace("[identity]", &format!("[store]\n{store}\n[identity]")));
        assert_eq!(parse(WHOLE).unwrap().store, StoreKind::Sqlite);
        assert_eq!(with("kind = \"sqlite\"").unwrap().store, StoreKind::Sqlite);
        let url = "url = \"postgres://gate:hunter2@127.0.0.1/region\"";
        let config = with(&format!("kind = \"postgres\"\n{url}")).unwrap();
        assert!(matches!(config.store, StoreKind::Postgres(_)) && config.spread_sites);
        assert!(
            !with(&format!("kind = \"postgres\"\nspread_sites = false\n{url}"))
                .unwrap()
                .spread_sites
        );
        let shown = format!("{config:?}");
        assert!(shown.contains("127.0.0.1:5432/region") && !shown.contains("hunter2"), "{shown}");
        for (wrong, word) in [
            (url.to_owned(), "sqlite"),
            ("spread_sites = true".to_owned(), "sqlite"),
            ("kind = \"postgres\"".to_owned(), "store.url"),
            (format!("kind = \"oracle\"\n{url}"), "oracle"),
            (format!("kind = \"postgres\"\n{}", url.replace("127.0.0.1", "db.example")), "`ca`"),
            (format!("kind = \"postgres\"\n{}", url.replace("postgres://", "somewhere://")), "connection string"),
            (format!("kind = \"postgres\"\n{}", url.replace("url", "uri")), "uri"),
        ] {
            let refusal = with(&wrong).unwrap_err().to_string();
            assert!(refusal.contains(word) && !refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn records_are_kept_for_ever_unless_days_are_named_and_the_archive_is_a_place() {
        let with = |keeping: &str| parse(&WHOLE.replace("[identity]", &format!("{keeping}\n[identity]")));
        let plain = parse(WHOLE).unwrap();
        assert_eq!((plain.archive, plain.retention), (None, Retention::default()));
        let config = with("[archive]\nurl = \"archive\"\n[retention]\nalarm_days = 36525\nbulk_days = 1").unwrap();
        assert_eq!(config.archive.unwrap().to_string(), "/etc/roadstead/archive");
        let of = |class| config.retention.of(class);
        assert_eq!((of(Class::Alarm), of(Class::Event), of(Class::Bulk)), (Some(36525), None, Some(1)));
        for (wrong, line, word) in [
            ("[retention]\nbulk_days = 0", 7, "1 to 36525"),
            ("[retention]\nbulk_days = 36526", 7, "1 to 36525"),
            ("[retention]\nbulk = 9", 7, "bulk"),
            ("[archive]\nurl = \"gs://x\"", 7, "gs://"),
            ("[archive]\nurl = \"s3://x\"\nendpoint = \"http://192.0.2.9\"", 7, "allow_http"),
        ] {
            let refusal = with(wrong).unwrap_err();
            assert_eq!(refusal.line, line, "{refusal}");
            assert!(refusal.to_string().contains(word), "{refusal}");
        }
    }

    #[test]
    fn the_digest_is_of_the_bytes() {
        let (one, other) = (parse(WHOLE).unwrap(), parse(&format!("{WHOLE}# a note\n")).unwrap());
        assert_ne!(one.digest, other.digest);
        assert_eq!(one.digest, parse(WHOLE).unwrap().digest);
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

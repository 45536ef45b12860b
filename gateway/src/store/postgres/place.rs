//! Where a PostgreSQL store is and how it is reached. Owns what a connection string may say and the TLS to the server. Whoever
//! prints it sees no password.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quinn::rustls::pki_types::CertificateDer;
use quinn::rustls::pki_types::pem::PemObject as _;
use quinn::rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault;
use crate::store::StoreError;

/// One address is given so long to take a connection, unless the string says `connect_timeout`.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// One host is given so long for all that comes before the first statement: its name, the connection, TLS, the password, and
/// whether it takes writes. One that takes connections and says nothing is left for the next within this.
const OPENED_MAX: Duration = Duration::from_secs(5);
/// What was sent is acknowledged by the server's kernel within this, or the connection is gone; unless the string says
/// `tcp_user_timeout`. A machine that vanished answers nothing: nobody else would end the wait.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// A silent connection is asked after so long, and so often in a row until it counts as gone.
const ASKED_AFTER: Duration = Duration::from_secs(5);
/// See [`ASKED_AFTER`].
const ASKED_TIMES: u32 = 3;

/// A database of a PostgreSQL server, or of one that speaks its protocol.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresPlace {
    url: String,
    password_file: Option<PathBuf>,
    ca: Option<PathBuf>,
}

/// Hosts and database; no user, no password.
impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresPlace({self})")
    }
}

/// Hosts and database; no user, no password.
impl fmt::Display for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(config) = self.url.parse::<Config>() else { return f.write_str("?") };
        let ports = config.get_ports();
        for (at, host) in config.get_hosts().iter().enumerate() {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            let comma = if at == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                Host::Unix(path) => write!(f, "{comma}{}:{port}", path.display())?,
            }
        }
        write!(f, "/{}", config.get_dbname().unwrap_or_default())
    }
}

impl PostgresPlace {
    /// The place of the connection string `url`: `postgres://user@host:5432/database`, or `host=... user=... dbname=...`; several
    /// hosts, for a primary that moves, stand with commas between. The first line of `password_file` is the password. With
    /// `ca`, PEM, TLS is spoken, and the server proves by a certificate of that authority that it is the host that is named.
    ///
    /// Refused, in words that hold nothing of `url`: what is no connection string, no host, and without `ca` any host but
    /// this machine.
    pub fn new(url: &str, password_file: Option<PathBuf>, ca: Option<PathBuf>) -> Result<Self, &'static str> {
        let config: Config = url
            .parse()
            .map_err(|_| "it is no connection string such as postgres://roadstead@127.0.0.1:5432/roadstead")?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("it names no host");
        }
        let is_cut = |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
        if config.get_hosts().iter().any(is_cut) {
            return Err("a host has an @: within a password it is written %40");
        }
        let is_here = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(is_loopback),
        };
        let here = config.get_hosts().iter().all(is_here) && config.get_hostaddrs().iter().copied().all(is_loopback);
        if ca.is_none() && !here {
            return Err("it leads to another machine, and there is no `ca` by which that proves itself under TLS");
        }
        Ok(Self { url: url.to_owned(), password_file, ca })
    }

    /// Connects to the host that takes writes, within five seconds a host, or as long as the string's `connect_timeout` says where
    /// that is longer. What is asked is carried by a task of the runtime that this is called on, which is returned too.
    pub(super) async fn connect(&self) -> Result<(Client, JoinHandle<()>), StoreError> {
        let mut config: Config = self.url.parse().map_err(fault::away)?;
        if let Some(path) = &self.password_file {
            let text = std::fs::read_to_string(path).map_err(unusable(path))?;
            config.password(text.lines().next().unwrap_or_default());
        }
        if config.get_application_name().is_none() {
            config.application_name("roadstead gateway");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_MAX);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
        }
        config
            .keepalives_idle(ASKED_AFTER)
            .keepalives_interval(ASKED_AFTER)
            .keepalives_retries(ASKED_TIMES);
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        let tls = self.ca.as_deref().map(tls).transpose()?.map(MakeRustlsConnect::new);
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        let most = config.get_connect_timeout().copied().unwrap_or_default().max(OPENED_MAX);
        let mut failed = StoreError::Silent;
        for host in each_host(&config) {
            let opening = async {
                match &tls {
                    None => open(&host, NoTls).await,
                    Some(tls) => open(&host, tls.clone()).await,
                }
            };
            match tokio::time::timeout(most, opening).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => failed = fault::away(error),
                Err(_) => failed = StoreError::Silent,
            }
        }
        Err(failed)
    }
}

async fn open<T>(config: &Config, tls: T) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket, Stream: Send + 'static, TlsConnect: TlsConnect<Socket>>,
{
    let (client, connection) = config.connect(tls).await?;
    let carrying = tokio::spawn(async move {
        // Whoever asks is told that the connection is closed, and not why.
        if let Err(error) = connection.await {
            tracing::info!(why = link::logging::whole_story(&error), "the connection to the database has ended");
        }
    });
    Ok((client, carrying))
}

/// The same configuration for each of its hosts alone: the client gives time to a connection, and none to what is said on it, so
/// that a host which says nothing would take the others' time.
fn each_host(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let fits = |length: usize| length <= 1 || length == count;
    if count <= 1 || !(fits(hosts.len()) && fits(addresses.len()) && fits(ports.len())) {
        // What does not fit is refused by the client, in its own words.
        return vec![config.clone()];
    }
    let mut alone: Vec<Config> = (0..count)
        .map(|at| {
            let mut one = without_host(config);
            match hosts.get(at) {
                Some(Host::Tcp(name)) => drop(one.host(name)),
                Some(Host::Unix(path)) => drop(one.host_path(path)),
                None => {}
            }
            addresses.get(at).map(|address| one.hostaddr(*address));
            ports.get(at).or(ports.first()).map(|port| one.port(*port));
            one
        })
        .collect();
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        let first = link::entropy::draw().unwrap_or_default() % count as u64;
        alone.rotate_left(first as usize);
    }
    alone
}

/// All of a configuration but for its hosts and their ports.
fn without_host(config: &Config) -> Config {
    let mut other = Config::new();
    config.get_user().map(|user| other.user(user));
    config.get_password().map(|password| other.password(password));
    config.get_dbname().map(|name| other.dbname(name));
    config.get_options().map(|options| other.options(options));
    config.get_application_name().map(|name| other.application_name(name));
    config.get_connect_timeout().map(|most| other.connect_timeout(*most));
    config.get_tcp_user_timeout().map(|most| other.tcp_user_timeout(*most));
    config.get_keepalives_interval().map(|pause| other.keepalives_interval(pause));
    config.get_keepalives_retries().map(|times| other.keepalives_retries(times));
    other
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts())
        .target_session_attrs(config.get_target_session_attrs());
    other
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn unusable(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Unreadable { path, source }
}

fn tls(ca: &Path) -> Result<ClientConfig, StoreError> {
    let none = |source| unusable(ca)(std::io::Error::other(source));
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(ca).map_err(|error| none(error.to_string()))? {
        let root = root.map_err(|error| none(error.to_string()))?;
        roots.add(root).map_err(|error| none(error.to_string()))?;
    }
    let provider = Arc::new(quinn::rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| none(error.to_string()))?;
    let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
    tls.resumption = quinn::rustls::client::Resumption::disabled();
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2";

    #[test]
    fn nobody_who_prints_it_sees_the_password() {
        for url in [
            format!("postgres://gate:{SECRET}@127.0.0.1:5433,localhost:5434/region"),
            format!("host=/run/postgresql user=gate password={SECRET} dbname=region"),
        ] {
            let place = PostgresPlace::new(&url, None, None).unwrap();
            for shown in [format!("{place:?}"), format!("{place}"), format!("{:?}", Some(&place))] {
                assert!(!shown.contains(SECRET) && shown.contains("/region"), "{shown}");
            }
        }
        let refused =
            PostgresPlace::new(&format!("postgres://gate:{SECRET}@db.example/region"), None, None).unwrap_err();
        assert!(!refused.contains(SECRET));
    }

    #[test]
    fn beyond_this_machine_only_under_tls() {
        let with = |url: &str, ca: Option<&str>| PostgresPlace::new(url, None, ca.map(PathBuf::from));
        for here in ["postgres://a@127.9.9.9/r", "postgres://a@[::1]/r", "postgres://a@localhost/r", "host=/tmp"] {
            assert!(with(here, None).is_ok(), "{here}");
        }
        for there in [
            "postgres://a@192.0.2.1/r",
            "postgres://a@127.0.0.1,db.example/r",
            "host=localhost hostaddr=192.0.2.1",
        ] {
            assert!(with(there, None).unwrap_err().contains("`ca`"), "{there}");
            assert!(with(there, Some("ca.pem")).is_ok(), "{there}");
        }
        assert!(with("postgres:///r", None).unwrap_err().contains("no host"));
        assert!(with("somewhere", None).unwrap_err().contains("no connection string"));
    }
}

//! The `[[uplink]]` sections: the paths that a board has towards its region, and what each may be used for; and the region's
//! addresses, which may be host names. Owns what their keys may say; the paths themselves are in `crate::uplink`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use shared::config::text::{ConfigError, Spanned, Text};

/// Paths that one board knows. More are refused.
pub const UPLINKS_MAX: usize = 4;
/// Linux's IFNAMSIZ, without its zero byte.
const INTERFACE_BYTES_MAX: usize = 15;
/// Where a name of the DNS ends (RFC 1035, 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// One path towards the region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkPath {
    /// Its name, for people. Default its interface, else its address; `any` where no path is configured.
    pub name: String,
    /// The interface that packets leave by, whatever the routes say; `None` where the routes decide.
    pub interface: Option<String>,
    /// The address that they come from; `None` where the system chooses.
    pub address: Option<IpAddr>,
    /// Whether its bytes are paid for: fewer signs of life are sent, so that a dead path is noticed later where nothing is sent.
    pub is_metered: bool,
    /// What a backlog may take of it together with all else that is sent, in Mbit/s (millions): 1 to 100,000. `None`: as much as
    /// it carries.
    pub bandwidth_mbit: Option<u32>,
    /// Whether fresh alarms go over it, too, while the session with the region stands over another path: a second session is kept for
    /// them, 10 MB of signs of life a day. As configured: unless `alarms` is false.
    pub takes_alarms: bool,
}

/// A place to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayPlace {
    /// An address.
    Address(SocketAddr),
    /// A host name, looked up while the board runs, and a UDP port.
    Named {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for GatewayPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Named { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUplink {
    name: Option<Spanned<String>>,
    interface: Option<Spanned<String>>,
    address: Option<Spanned<String>>,
    #[serde(default)]
    metered: bool,
    bandwidth_mbit: Option<Spanned<u32>>,
    #[serde(default = "yes")]
    alarms: bool,
}

const fn yes() -> bool {
    true
}

/// The paths, in the order in which they are preferred; one over whatever the routes say where none is configured.
pub(super) fn check(
    text: &Text<'_>,
    raw: &[Spanned<RawUplink>],
    has_region: bool,
) -> Result<Vec<UplinkPath>, ConfigError> {
    if let Some(first) = raw.first().filter(|_| !has_region) {
        let message = "`[[uplink]]` is a path to the region, but there is no [region]";
        return Err(text
            .refuse(first.span(), message)
            .suggest("add [region], or take the paths out"));
    }
    if let Some(beyond) = raw.get(UPLINKS_MAX) {
        return Err(text.refuse(beyond.span(), format!("more than {UPLINKS_MAX} paths to the region")));
    }
    if raw.is_empty() {
        return Ok(vec![UplinkPath { name: "any".to_owned(), ..UplinkPath::default() }]);
    }
    let mut paths: Vec<UplinkPath> = Vec::new();
    for uplink in raw {
        let path = uplink.get_ref().check(text, uplink)?;
        if paths.iter().any(|other| other.name == path.name) {
            let message = format!("two paths to the region are called \"{}\"", path.name);
            return Err(text.refuse(uplink.span(), message).suggest("give each its own `name`"));
        }
        paths.push(path);
    }
    Ok(paths)
}

impl RawUplink {
    fn check(&self, text: &Text<'_>, whole: &Spanned<Self>) -> Result<UplinkPath, ConfigError> {
        let interface = self.interface.as_ref().map(|given| interface(text, given)).transpose()?;
        let address = self.address.as_ref().map(|given| source(text, given)).transpose()?;
        let bound = interface.clone().or(address.map(|address| address.to_string()));
        let name = match (&self.name, bound) {
            (_, None) => {
                let message =
                    "`[[uplink]]` says neither `interface` nor `address`: nothing tells this path from another";
                return Err(text
                    .refuse(whole.span(), message)
                    .suggest("such as interface = \"wwan0\", or address = \"192.0.2.7\""));
            }
            (Some(given), Some(_)) => text.name("uplink.name", given)?.to_string(),
            (None, Some(bound)) => bound,
        };
        let bandwidth = self.bandwidth_mbit.as_ref();
        let bandwidth = bandwidth.map(|given| text.within("uplink.bandwidth_mbit", given, 1..=100_000, "Mbit/s"));
        let (is_metered, takes_alarms) = (self.metered, self.alarms);
        Ok(UplinkPath { name, interface, address, is_metered, bandwidth_mbit: bandwidth.transpose()?, takes_alarms })
    }
}

fn interface(text: &Text<'_>, given: &Spanned<String>) -> Result<String, ConfigError> {
    let name = given.get_ref();
    let fits = (1..=INTERFACE_BYTES_MAX).contains(&name.len());
    if !fits || name.contains(|c: char| c.is_whitespace() || c == '/' || c == '\0') {
        let message = format!("`uplink.interface` is \"{name}\", which no interface is called");
        return Err(text
            .refuse(given.span(), message)
            .suggest("`ip link` lists them, such as \"wwan0\""));
    }
    Ok(name.clone())
}

fn source(text: &Text<'_>, given: &Spanned<String>) -> Result<IpAddr, ConfigError> {
    let parsed = given
        .get_ref()
        .parse::<IpAddr>()
        .ok()
        .filter(|address| !address.is_unspecified());
    parsed.ok_or_else(|| {
        let message = format!("`uplink.address` is \"{}\", which is no address of a machine", given.get_ref());
        text.refuse(given.span(), message)
            .suggest("such as \"192.0.2.7\", one that this board has; without a port")
    })
}

/// Where a gateway is: an address that names a machine, or a host name, each with a port.
pub(super) fn place(text: &Text<'_>, given: &Spanned<String>) -> Result<GatewayPlace, ConfigError> {
    if let Some((host, port)) = given.get_ref().rsplit_once(':')
        && let Some(port) = port.parse().ok().filter(|port| *port != 0)
        && is_host_name(host)
    {
        return Ok(GatewayPlace::Named { host: host.to_owned(), port });
    }
    super::target(text, "region.gateway.address", given).map(GatewayPlace::Address)
}

/// Letters, digits, hyphens and dots, and something in it that no address has.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        let fits = (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        fits && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= HOST_BYTES_MAX && host.split('.').all(label) && last.contains(|c: char| c.is_ascii_alphabetic())
}

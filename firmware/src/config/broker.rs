//! The `[bridge]` section: an existing broker that is read as one more publisher. Owns what its keys may say; the
//! bridge itself is in [`crate::bridge`].

use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::config::text::{ConfigError, Spanned, Text};
use shared::ids::{BoardId, Name};

use super::file;
use crate::secrets::check_user_name;

/// Topic filters that a bridge subscribes to. More are refused.
pub const BRIDGE_TOPICS_MAX: usize = 64;

/// A broker that is read as one more publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Protocol spoken with it. Default 3.1.1, which every broker speaks.
    pub protocol: BridgeProtocol,
    /// Client identifier. Default `roadstead-<site>-board-<n>`: stable, so that the broker keeps the session.
    pub client_id: String,
    /// Topic filters subscribed to: 1 to [`BRIDGE_TOPICS_MAX`].
    pub topics: Vec<String>,
    /// QoS asked for, 0 to 2. Default 1. With 0 what comes while this board is away is lost.
    pub qos: u8,
    /// How this board says who it is; `None` where the broker does not ask.
    pub login: Option<BridgeLogin>,
}

/// How a board says to a broker who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeLogin {
    /// MQTT user name: 1 to [`MQTT_USER_BYTES_MAX`](shared::limits::MQTT_USER_BYTES_MAX) bytes.
    pub username: String,
    /// File with the password in its first line: see [`crate::secrets`].
    pub password_file: PathBuf,
}

/// MQTT's version towards a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum BridgeProtocol {
    /// MQTT 3.1.1.
    #[default]
    #[serde(rename = "3.1.1")]
    V311,
    /// MQTT 5.
    #[serde(rename = "5")]
    V5,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBridge {
    broker: Spanned<String>,
    #[serde(default)]
    protocol: BridgeProtocol,
    client_id: Option<Spanned<String>>,
    topics: Spanned<Vec<Spanned<String>>>,
    qos: Option<Spanned<u8>>,
    username: Option<Spanned<String>>,
    password_file: Option<Spanned<PathBuf>>,
}

impl RawBridge {
    /// The bridge of `board` of `site`; its files are relative to `beside`.
    pub(super) fn check(
        &self,
        text: &Text<'_>,
        beside: &Path,
        site: &Name,
        board: BoardId,
    ) -> Result<Bridge, ConfigError> {
        let (host, port) = host_and_port(self.broker.get_ref()).ok_or_else(|| {
            let message = format!("`bridge.broker` is \"{}\", which is no host and port", self.broker.get_ref());
            text.refuse(self.broker.span(), message)
                .suggest("such as \"192.0.2.5:1883\" or \"broker.local:1883\"")
        })?;
        let client_id = match &self.client_id {
            Some(given) if given.get_ref().is_empty() => {
                let message = "`bridge.client_id` is empty: the broker could not keep its session";
                return Err(text.refuse(given.span(), message));
            }
            Some(given) => given.get_ref().clone(),
            None => format!("roadstead-{site}-{board}"),
        };
        Ok(Bridge {
            host: host.into(),
            port,
            protocol: self.protocol,
            client_id,
            topics: self.topics(text)?,
            qos: text.within_or("bridge.qos", self.qos.as_ref(), 0..=2, "", 1)?,
            login: self.login(text, beside)?,
        })
    }

    fn topics(&self, text: &Text<'_>) -> Result<Vec<String>, ConfigError> {
        let topics = self.topics.get_ref();
        if !(1..=BRIDGE_TOPICS_MAX).contains(&topics.len()) {
            let message = format!("{} topic filters, but 1 to {BRIDGE_TOPICS_MAX} can be bridged", topics.len());
            return Err(text.refuse(self.topics.span(), message).suggest("`topics = [\"#\"]` takes all"));
        }
        if let Some(bad) = topics.iter().find(|topic| !is_filter(topic.get_ref())) {
            let message = format!("\"{}\" is no topic filter", bad.get_ref());
            return Err(text
                .refuse(bad.span(), message)
                .suggest("`+` and `#` stand for whole levels, and `#` only for the last ones"));
        }
        Ok(topics.iter().map(|topic| topic.get_ref().clone()).collect())
    }

    /// User name and password go together: brokers that ask for one ask for both.
    fn login(&self, text: &Text<'_>, beside: &Path) -> Result<Option<BridgeLogin>, ConfigError> {
        let (username, password_file) = match (&self.username, &self.password_file) {
            (None, None) => return Ok(None),
            (Some(username), Some(password_file)) => (username, password_file),
            (Some(username), None) => {
                let message = "`bridge.username` is given, but no password goes with it";
                return Err(text
                    .refuse(username.span(), message)
                    .suggest("add `password_file = \"bridge-password\"`: a file with the password in its first line"));
            }
            (None, Some(password_file)) => {
                let message = "`bridge.password_file` is given, but no user name goes with it";
                return Err(text.refuse(password_file.span(), message).suggest("add `username = \"...\"`"));
            }
        };
        check_user_name(username.get_ref()).map_err(|why| {
            let message = format!("`bridge.username` is no user name: it {why}");
            text.refuse(username.span(), message)
        })?;
        Ok(Some(BridgeLogin {
            username: username.get_ref().clone(),
            password_file: file(text, "bridge.password_file", password_file, beside)?,
        }))
    }
}

fn host_and_port(broker: &str) -> Option<(&str, u16)> {
    let (host, port) = broker.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let fits = !host.is_empty() && host.len() <= 253 && !host.contains(|c: char| c.is_whitespace() || c == '/');
    fits.then_some((host, port))
}

/// MQTT 5, section 4.7.1: `#` is alone in the last level, `+` alone in its level.
fn is_filter(filter: &str) -> bool {
    let fits = !filter.is_empty() && filter.len() <= usize::from(u16::MAX) && !filter.contains('\0');
    let (above, last) = filter.rsplit_once('/').unwrap_or(("", filter));
    let level = |level: &str| level == "+" || !level.contains(['+', '#']);
    fits && above.split('/').all(level) && (last == "#" || level(last))
}

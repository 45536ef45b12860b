//! The `[mqtt]` section: who may publish at the front door, and how many at once. Owns what its keys may say and that
//! somebody can publish at all; the users' file is read by [`crate::secrets`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::config::text::{ConfigError, Spanned, Text};
use shared::limits::{DOOR_CONNECTIONS_CEILING, DOOR_CONNECTIONS_MAX};

use super::file;

/// Who may publish. With neither of the first two only clients on loopback may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publishers {
    /// Whether clients without a user name may publish from everywhere. Default false.
    pub anonymous: bool,
    /// File of user names and passwords, one `name:password` a line. Default none. With it clients on loopback need
    /// a name too, unless `anonymous` is set.
    pub users_file: Option<PathBuf>,
    /// Connections at once, 1 to [`DOOR_CONNECTIONS_CEILING`]. Default [`DOOR_CONNECTIONS_MAX`].
    pub connections_max: usize,
}

impl Default for Publishers {
    fn default() -> Self {
        Self { anonymous: false, users_file: None, connections_max: DOOR_CONNECTIONS_MAX }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublishers {
    #[serde(default)]
    anonymous: bool,
    users_file: Option<Spanned<PathBuf>>,
    connections_max: Option<Spanned<u32>>,
}

impl RawPublishers {
    /// The section, its file relative to `beside`.
    pub(super) fn check(&self, text: &Text<'_>, beside: &Path) -> Result<Publishers, ConfigError> {
        let users_file = self
            .users_file
            .as_ref()
            .map(|value| file(text, "mqtt.users_file", value, beside))
            .transpose()?;
        let (given, within) = (self.connections_max.as_ref(), 1..=DOOR_CONNECTIONS_CEILING);
        let connections_max = text.within_or("mqtt.connections_max", given, within, "", DOOR_CONNECTIONS_MAX as u32)?;
        Ok(Publishers { anonymous: self.anonymous, users_file, connections_max: connections_max as usize })
    }
}

impl Publishers {
    /// Refuses a front door that other hosts can reach and none of them may use: no sensor could ever publish.
    pub(super) fn check_reachable(
        &self,
        text: &Text<'_>,
        value: &Spanned<String>,
        listen: SocketAddr,
    ) -> Result<(), ConfigError> {
        if listen.ip().to_canonical().is_loopback() || self.anonymous || self.users_file.is_some() {
            return Ok(());
        }
        let message = format!("`listen.mqtt` is {listen}, but no client of another host may publish there");
        Err(text.refuse(value.span(), message).suggest(
            "add [mqtt] with `users_file = \"mqtt-users\"` (lines of name:password) or `anonymous = true`, \
             or listen on 127.0.0.1",
        ))
    }
}

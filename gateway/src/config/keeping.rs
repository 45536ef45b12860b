//! What a configuration says of how long records are kept, and where they go before they are removed.
//!
//! ```toml
//! [archive]                     # optional: without it nothing is archived
//! url = "s3://region-archive/records"         # or file:///dir, or a path
//! endpoint = "https://s3.example:9000"        # optional: without it AWS, in `region`
//! region = "eu-central-1"                     # optional
//! credentials_file = "s3.credentials"         # optional: without it the environment, or the machine; mode 0600
//! ca = "s3-ca.pem"                            # optional: without it whom the system trusts
//! allow_http = false                          # optional: true where HTTP in the clear may leave this machine
//!
//! [retention]                   # optional: what is not named is kept for ever
//! alarm_days = 3650
//! event_days = 400
//! bulk_days = 60
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::config::text::{ConfigError, Spanned, Text};
use shared::ids::Class;

use crate::objects::{ObjectPlace, Service};

/// Days that records may be kept: a century.
pub const RETENTION_DAYS_MAX: u32 = 36_525;

/// For how many days from their reception records are kept, by class. Default: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// In the order of [`Class::ALL`]; `None`: for ever.
    pub days: [Option<u32>; Class::ALL.len()],
}

impl Retention {
    /// For how many days records of `class` are kept; `None`: for ever.
    pub fn of(&self, class: Class) -> Option<u32> {
        let at = Class::ALL.iter().position(|known| *known == class)?;
        self.days.get(at).copied().flatten()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawArchive {
    url: Spanned<String>,
    endpoint: Option<String>,
    region: Option<String>,
    credentials_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    #[serde(default)]
    allow_http: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRetention {
    alarm_days: Option<Spanned<u32>>,
    event_days: Option<Spanned<u32>>,
    bulk_days: Option<Spanned<u32>>,
}

impl RawArchive {
    pub(super) fn check(&self, text: &Text<'_>, beside: &Path) -> Result<ObjectPlace, ConfigError> {
        let path = |path: &PathBuf| beside.join(path);
        let service = Service {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            credentials: self.credentials_file.as_ref().map(path),
            ca: self.ca.as_ref().map(path),
            allow_http: self.allow_http,
        };
        ObjectPlace::new(self.url.get_ref(), beside, service)
            .map_err(|why| text.refuse(self.url.span(), format!("`archive.url` will not do: {why}")))
    }
}

impl RawRetention {
    pub(super) fn check(&self, text: &Text<'_>) -> Result<Retention, ConfigError> {
        let given = [&self.alarm_days, &self.event_days, &self.bulk_days];
        let mut days = [None; Class::ALL.len()];
        for ((class, given), days) in Class::ALL.iter().zip(given).zip(&mut days) {
            let Some(given) = given else { continue };
            if !(1..=RETENTION_DAYS_MAX).contains(given.get_ref()) {
                let message = format!(
                    "`retention.{}_days` is {}; records are kept for 1 to {RETENTION_DAYS_MAX} days",
                    class.as_str(),
                    given.get_ref()
                );
                return Err(text.refuse(given.span(), message).suggest("leave it out to keep them for ever"));
            }
            *days = Some(*given.get_ref());
        }
        Ok(Retention { days })
    }
}

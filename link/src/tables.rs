//! Parts that several programs' configurations share: an address, the files of an identity, the sites that are served.
//! Pure: the text is passed in.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::config::text::{ConfigError, Spanned, Text};
use shared::ids::Name;

/// The table `[identity]`, before it is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIdentity {
    /// Path of the certificate, PEM.
    pub certificate: PathBuf,
    /// Path of its key, PEM.
    pub key: PathBuf,
    /// Path of the authority that made it, PEM.
    pub ca: PathBuf,
}

/// One table of a list of sites, before it is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSite {
    /// The site's name.
    pub name: Spanned<String>,
    ca: PathBuf,
}

/// One site that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedSite {
    /// Its name.
    pub name: Name,
    /// The site's own authority, PEM: only its boards speak for it.
    pub ca: PathBuf,
}

/// The address at `key`; `like` is one that would do. Refused: what is no IP address and port, and port 0.
pub fn address(text: &Text<'_>, key: &str, value: &Spanned<String>, like: &str) -> Result<SocketAddr, ConfigError> {
    let address: SocketAddr = text.read(key, value, &format!("an IP address and port such as \"{like}\""))?;
    if address.port() == 0 {
        let message = format!("`{key}` has port 0: nobody could find it");
        return Err(text.refuse(value.span(), message).suggest("give a port from 1 to 65535"));
    }
    Ok(address)
}

/// The checked list at `key`; relative paths lie `beside` the file. `serves` says who does what with how many, as in
/// "a gateway serves". Refused: no site, more than `most`, a name that is none or given twice.
pub fn sites(
    text: &Text<'_>,
    key: &str,
    raw: &[RawSite],
    beside: &Path,
    (serves, most): (&str, usize),
) -> Result<Vec<ServedSite>, ConfigError> {
    if !(1..=most).contains(&raw.len()) {
        let message = format!("{} sites, but {serves} 1 to {most}", raw.len());
        return Err(text
            .refuse_all(message)
            .suggest(format!("add a [[{key}]] with `name` and `ca` for each site")));
    }
    let mut names = BTreeSet::new();
    let mut sites = Vec::with_capacity(raw.len());
    for site in raw {
        let name = text.name(&format!("{key}.name"), &site.name)?;
        if !names.insert(name.clone()) {
            let message = format!("site \"{name}\" is named twice");
            return Err(text
                .refuse(site.name.span(), message)
                .suggest(format!("give each site one [[{key}]]")));
        }
        sites.push(ServedSite { name, ca: beside.join(&site.ca) });
    }
    Ok(sites)
}

//! What an encrypted backup has beside the store: accounts, audit log, and the files that a gateway starts with. Owns their names in
//! it. A witness's promises are left out: older ones would let it promise twice.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use gateway::access::{audit, roll};
use gateway::config::GatewayConfig;
use gateway::store::backup::{Beside, Source};

use crate::failure::Failure;

/// Below it: what the configuration is, and names.
const FILES: &str = "files";
/// Below that: what lies elsewhere than beside the configuration.
const ELSEWHERE: &str = "elsewhere";
/// Bytes of a certificate, a key or a configuration. A longer one is none.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// All of it, of the gateway whose configuration is the file `config`.
pub(super) fn of(gateway: &GatewayConfig, config: &Path) -> Result<Vec<Beside>, Failure> {
    let mut all = Vec::new();
    let accounts = gateway.data_dir.join(roll::FILE);
    if accounts.exists() {
        all.push(Beside { name: roll::FILE.to_owned(), source: Source::Database(accounts) });
    }
    let log = audit::copy(&gateway.data_dir);
    let log = log.map_err(|error| Failure::new("the audit log cannot be read").because(error))?;
    if let Some(log) = log {
        let name = |name: &str| format!("{}/{name}", audit::DIRECTORY);
        for (file, open, bytes) in log.files {
            all.push(Beside { name: name(&file), source: Source::File(open, bytes) });
        }
        all.push(Beside { name: name(&log.head.0), source: Source::Bytes(log.head.1) });
    }
    let home = config.parent().unwrap_or(Path::new(""));
    for path in started_with(gateway, config) {
        let name = name(&path, home)?;
        if all.iter().all(|beside| beside.name != name) {
            all.push(Beside { name, source: Source::Bytes(read(&path)?) });
        }
    }
    Ok(all)
}

fn started_with(gateway: &GatewayConfig, config: &Path) -> Vec<PathBuf> {
    let GatewayConfig { certificate, key, ca, .. } = gateway;
    let mut paths = vec![config.to_owned(), certificate.clone(), key.clone(), ca.clone()];
    if let Some(https) = &gateway.https {
        paths.extend([https.certificate.clone(), https.key.clone()]);
        paths.extend(https.machines.iter().map(|machines| machines.ca.clone()));
    }
    paths.extend(gateway.sites.iter().map(|site| site.ca.clone()));
    paths.extend(gateway.archive.iter().flat_map(|archive| archive.files()).map(Path::to_owned));
    paths
}

/// As it lies beside the configuration; what lies elsewhere by its whole path, below a directory of its own.
fn name(path: &Path, home: &Path) -> Result<String, Failure> {
    let is_plain = |below: &&Path| below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if let Some(below) = path.strip_prefix(home).ok().filter(is_plain).and_then(Path::to_str) {
        return Ok(format!("{FILES}/{below}"));
    }
    let whole = fs::canonicalize(path).map_err(unreadable(path))?;
    Ok(format!("{FILES}/{ELSEWHERE}{}", whole.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(unreadable(path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::new(format!("{} is too long for what it should be", path.display())));
    }
    Ok(bytes)
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let shown = path.display().to_string();
    move |error| {
        Failure::new(format!("cannot read {shown}, which the gateway starts with"))
            .because(error)
            .remedy("run this as the gateway's user; a backup without it would not bring the gateway back")
    }
}

//! mosquitto: one broker of Debian's package.

use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;

use super::{Cluster, Member, configure, dial, directory};
use crate::bench::ingest::dialects::mqtt::leave_subscription;
use crate::demo::ports;
use crate::demo::site::Home;
use crate::failure::Failure;

const CONFIGURATION: &str = include_str!("../../../../assets/rivals/mosquitto.conf");

fn configuration(dir: &Path, port: u16, is_root: bool) -> String {
    // As root it would change to a user who may not write here.
    let user = if is_root { "user root" } else { "" };
    CONFIGURATION
        .replace("{port}", &port.to_string())
        .replace("{dir}", &dir.to_string_lossy())
        .replace("{user}", user)
}

pub(super) async fn start(home: Home) -> Result<Cluster, Failure> {
    let server = ports::free(1)?[0];
    let dir = directory(&home, "data")?;
    let path = configure(&home, "mosquitto.conf", &configuration(&dir, server.port(), geteuid().is_root()))?;
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(path);
    let broker = Member::start("mosquitto".to_owned(), command, &home)?;
    let mut cluster = Cluster { members: vec![broker], server, home };
    cluster
        .until_ready(async |cluster| leave_subscription(&mut dial(cluster.server).await?).await.map(Some))
        .await?;
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_configuration_is_complete() {
        let text = configuration(Path::new("/tmp/x"), 7, true);
        assert!(!text.contains('{') && text.contains("listener 7 127.0.0.1\n") && text.contains("\nuser root\n"));
        assert!(!configuration(Path::new("/tmp/x"), 7, false).contains("user"));
    }
}

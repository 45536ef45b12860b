//! Redis: Debian's, a primary and its replica.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Cluster, Member, configure, dial, directory};
use crate::demo::ports;
use crate::demo::site::Home;
use crate::failure::Failure;

const CONFIGURATION: &str = include_str!("../../../../assets/rivals/redis.conf");

fn configuration(dir: &Path, port: u16, primary: Option<SocketAddr>) -> String {
    let replica = primary.map(|primary| format!("replicaof {} {}", primary.ip(), primary.port()));
    CONFIGURATION
        .replace("{port}", &port.to_string())
        .replace("{dir}", &dir.to_string_lossy())
        .replace("{replica}", &replica.unwrap_or_default())
}

pub(super) async fn start(home: Home) -> Result<Cluster, Failure> {
    let ports = ports::free(2)?;
    let mut cluster = Cluster { members: Vec::new(), server: ports[0], home };
    for (member, port) in ports.iter().enumerate() {
        let dir = directory(&cluster.home, &format!("data-{member}"))?;
        let text = configuration(&dir, port.port(), (member > 0).then_some(ports[0]));
        let path = configure(&cluster.home, &format!("{member}.conf"), &text)?;
        let mut command = Command::new("redis-server");
        command.arg(path);
        let started = Member::start(format!("redis-server {}", member + 1), command, &cluster.home)?;
        cluster.members.push(started);
    }
    cluster
        .until_ready(async |cluster| {
            let mut stream = dial(cluster.server).await?;
            stream.write_all(b"SET ready 1\r\nWAIT 1 1000\r\n").await?;
            let mut answer = [0; 9];
            stream.read_exact(&mut answer).await?;
            Ok((&answer == b"+OK\r\n:1\r\n").then_some(()))
        })
        .await?;
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_second_one_is_a_replica() {
        let primary = SocketAddr::from(([127, 0, 0, 1], 7));
        let texts = [None, Some(primary)].map(|primary| configuration(Path::new("/tmp/x"), 8, primary));
        assert!(!texts[0].contains("replicaof") && texts[1].contains("\nreplicaof 127.0.0.1 7\n"));
        assert!(texts.iter().all(|text| !text.contains('{') && text.contains("\nport 8\n")));
    }
}

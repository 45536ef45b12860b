//! RabbitMQ: three nodes of Debian's rabbitmq-server, and a port mapper of their own, so that none is left behind.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::{Cluster, Member, configure, dial, directory};
use crate::bench::ingest::dialects::amqp::declare;
use crate::demo::ports;
use crate::demo::site::Home;
use crate::failure::Failure;

const CONFIGURATION: &str = include_str!("../../../../assets/rivals/rabbitmq.conf");
/// Debian's command changes to a user of its own, who could not use our directories; this is what it starts.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Nodes.
const MEMBERS: usize = 3;
/// By what the nodes know each other: they are on loopback, for a minute.
const COOKIE: &str = "roadsteadbench";
const COOKIE_FILE: &str = ".erlang.cookie";

/// What its package says that it is.
pub(super) fn version() -> String {
    let said = Command::new("dpkg-query")
        .args(["-W", "-f=rabbitmq ${Version}", "rabbitmq-server"])
        .output();
    said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

fn command(member: usize, dir: &Path, configuration: &Path, mapper: SocketAddr, mesh: SocketAddr) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env("HOME", dir.parent().unwrap_or(dir))
        .env("ERL_EPMD_PORT", mapper.port().to_string())
        .env("RABBITMQ_NODENAME", format!("m{member}@localhost"))
        .env("RABBITMQ_CONFIG_FILE", configuration)
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_MNESIA_BASE", dir)
        .env("RABBITMQ_LOG_BASE", dir)
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
        .env("RABBITMQ_PID_FILE", dir.join("pid"))
        .env("RABBITMQ_DIST_PORT", mesh.port().to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    command
}

pub(super) async fn start(home: Home) -> Result<Cluster, Failure> {
    let ports = ports::free(2 * MEMBERS + 1)?;
    let mapper = ports[2 * MEMBERS];
    let cookie = configure(&home, COOKIE_FILE, COOKIE)?;
    std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| Failure::new(format!("cannot change {}", cookie.display())).because(error))?;
    let mut mapping = Command::new("epmd");
    mapping.args(["-port", &mapper.port().to_string(), "-address", "127.0.0.1"]);
    let mapping = Member::start("epmd".to_owned(), mapping, &home)?;
    let mut cluster = Cluster { members: vec![mapping], server: ports[0], home };
    for member in 0..MEMBERS {
        let dir = directory(&cluster.home, &format!("data-{member}"))?;
        configure(&cluster.home, &format!("data-{member}/plugins"), "[].\n")?;
        let text = CONFIGURATION.replace("{port}", &ports[member].port().to_string());
        let path = configure(&cluster.home, &format!("{member}.conf"), &text)?;
        let command = command(member, &dir, &path, mapper, ports[MEMBERS + member]);
        let started = Member::start(format!("rabbitmq-server {}", member + 1), command, &cluster.home)?;
        cluster.members.push(started);
    }
    cluster
        .until_ready(async |cluster| {
            if !is_whole(&cluster.logs()) {
                return Ok(None);
            }
            // Every node takes connections; the queue's leader is where it is declared first.
            for port in &ports[..MEMBERS] {
                declare(&mut dial(*port).await?).await?;
            }
            Ok(Some(()))
        })
        .await?;
    Ok(cluster)
}

/// Whether each node has been seen by another one, and has started: the queue gets a member on each node that is there.
fn is_whole(logs: &str) -> bool {
    let seen = |member| logs.contains(&format!("rabbit on node m{member}@localhost up"));
    (0..MEMBERS).all(seen) && logs.matches("Server startup complete").count() == MEMBERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_that_have_seen_each_other_are_whole() {
        let up = |member: usize| format!("[info] <0.5.0> rabbit on node m{member}@localhost up\n");
        let started = "Server startup complete; 0 plugins started.\n".repeat(3);
        assert!(is_whole(&[up(0), up(1), up(2), started.clone()].concat()));
        assert!(!is_whole(&[up(0), up(1), started].concat()));
        assert!(!is_whole(&[up(0), up(1), up(2)].concat()));
    }
}

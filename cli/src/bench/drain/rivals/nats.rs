//! NATS: a server at the site whose JetStream keeps what is published, as a leaf node of one in the region, whose stream
//! mirrors it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Counting, Member, Name, Pair, SERVER_PORT};
use crate::bench::drain::publish::dial;
use crate::bench::drain::tally::Tally;
use crate::bench::drain::wan::{REGION, Wan};
use crate::bench::failover::namespace::Namespace;
use crate::bench::ingest::dialects::nats::{STREAM, ask, read_stream};
use crate::bench::ingest::rivals as ingest;
use crate::bench::ingest::rivals::{configure, directory};
use crate::demo::site::Home;
use crate::failure::Failure;

const SITE_CONFIGURATION: &str = include_str!("../../../../assets/rivals/nats-leaf.conf");
const REGION_CONFIGURATION: &str = include_str!("../../../../assets/rivals/nats-region.conf");
/// The region's stream.
const MIRROR: &str = "region";
/// Where the region's server takes leaf nodes.
const LEAF_PORT: u16 = 7422;
/// A server takes its stream after so long.
const READY_MAX: Duration = Duration::from_secs(20);
/// An answer comes within so long, or is asked for again.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Between two attempts.
const TRY_EVERY: Duration = Duration::from_millis(100);

fn configuration(text: &str, dir: &Path) -> String {
    text.replace("{dir}", &dir.to_string_lossy())
        .replace("{port}", &SERVER_PORT.to_string())
        .replace("{region}", &REGION.to_string())
        .replace("{leaf_port}", &LEAF_PORT.to_string())
}

fn region() -> SocketAddr {
    (REGION, SERVER_PORT).into()
}

pub(super) async fn start(wan: &Wan, name: Name, home: Home) -> Result<Pair, Failure> {
    let program = ingest::nats::program()?;
    let mut members = Vec::new();
    for (at, title, text) in [(wan.region(), "region", REGION_CONFIGURATION), (wan.site(), "site", SITE_CONFIGURATION)]
    {
        let dir = directory(&home, title)?;
        let path = configure(&home, &format!("{title}.conf"), &configuration(text, &dir))?;
        let mut command = Command::new(&program);
        command.arg("--config").arg(path);
        members.push(Member::start(at, command, &home, title)?);
    }
    let pair = Pair { name, members, counting: Counting::Nats, warm_ups: 0.into(), _home: home };
    let keep = format!(
        "{{\"name\":\"{STREAM}\",\"subjects\":[\"{STREAM}.>\"],\"storage\":\"file\",\"num_replicas\":1,\
         \"retention\":\"limits\",\"discard\":\"old\",\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0}}"
    );
    until_made(wan.site(), pair.server(), STREAM, &keep).await?;
    let mirror = format!(
        "{{\"name\":\"{MIRROR}\",\"storage\":\"file\",\"num_replicas\":1,\"max_msgs\":-1,\"max_bytes\":-1,\
         \"mirror\":{{\"name\":\"{STREAM}\",\"external\":{{\"api\":\"$JS.site.API\",\"deliver\":\"\"}}}}}}"
    );
    until_made(wan.region(), region(), MIRROR, &mirror).await?;
    Ok(pair)
}

/// Asks the server at `server` for a stream until it has made it.
async fn until_made(at: &Namespace, server: SocketAddr, stream: &str, config: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut why = "it does not answer".to_owned();
    while begun.elapsed() < READY_MAX {
        match question(at, server, &format!("STREAM.CREATE.{stream}"), config).await {
            Some(made) if made.get("error").is_none() => return Ok(()),
            Some(refused) => why = refused["error"].to_string(),
            None => {}
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
    Err(Failure::new(format!("nats-server makes no stream {stream}: {why}")))
}

async fn question(at: &Namespace, server: SocketAddr, what: &str, body: &str) -> Option<Value> {
    let mut stream = dial(at, server).await.ok()?;
    let answer = tokio::time::timeout(ANSWER_MAX, ask(&mut stream, what, body))
        .await
        .ok()?
        .ok()?;
    serde_json::from_slice(&answer).ok()
}

/// Records in the region's stream.
pub(super) async fn arrived(wan: &Wan) -> Result<u64, Failure> {
    let about = question(wan.region(), region(), &format!("STREAM.INFO.{MIRROR}"), "").await;
    let count = about.and_then(|about| about["state"]["messages"].as_u64());
    count.ok_or_else(|| Failure::new("the region's stream does not say what it holds"))
}

/// Reads everything that the region's stream holds.
pub(super) async fn read(wan: &Wan, tally: &mut Tally) -> Result<(), Failure> {
    let cannot = |error| Failure::new("the region's stream cannot be read").because(error);
    let count = arrived(wan).await?;
    let mut stream = dial(wan.region(), region()).await.map_err(cannot)?;
    read_stream(&mut stream, MIRROR, count, |payload| tally.handle(payload))
        .await
        .map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_configurations_are_complete() {
        for text in [SITE_CONFIGURATION, REGION_CONFIGURATION] {
            let text = configuration(text, Path::new("/tmp/x"));
            let bare = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            assert!(bare.clone().all(|line| !line.contains('{') || line.ends_with('{')), "{text}");
            assert!(text.contains("10.84.2.1:7422"));
        }
    }
}

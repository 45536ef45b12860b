//! mosquitto: a broker at the site with a bridge to one in the region, where a subscriber counts what comes.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Counting, Member, Name, Pair, SERVER_PORT};
use crate::bench::drain::publish::dial;
use crate::bench::drain::tally::Tally;
use crate::bench::drain::wan::{REGION, Wan};
use crate::bench::ingest::dialects::mqtt::{receive, subscribe};
use crate::bench::ingest::rivals::{configure, directory};
use crate::demo::site::Home;
use crate::failure::Failure;

const SITE_CONFIGURATION: &str = include_str!("../../../../assets/rivals/mosquitto-bridge.conf");
const REGION_CONFIGURATION: &str = include_str!("../../../../assets/rivals/mosquitto-region.conf");
/// The region's broker.
const REGION_PORT: u16 = 1883;
/// A broker takes connections after so long.
const READY_MAX: Duration = Duration::from_secs(10);
/// Between two attempts.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Whoever the region's broker hands everything to.
#[derive(Debug)]
pub(super) struct Subscriber {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<io::Result<()>>,
}

/// What has come.
#[derive(Debug)]
struct Seen {
    messages: u64,
    tally: Tally,
}

impl Subscriber {
    fn start(mut stream: TcpStream, shares: &[u64]) -> Self {
        let seen = Arc::new(Mutex::new(Seen { messages: 0, tally: Tally::new(shares) }));
        let of_task = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let each = |payload: &[u8]| {
                let mut seen = of_task.lock().unwrap_or_else(PoisonError::into_inner);
                seen.messages += 1;
                seen.tally.handle(payload);
            };
            receive(&mut stream, each).await
        });
        Self { seen, task }
    }

    /// All messages that have come.
    pub(super) fn arrived(&self) -> Result<u64, Failure> {
        if self.task.is_finished() {
            return Err(Failure::new("the region's broker has closed the subscriber's connection"));
        }
        Ok(self.seen.lock().unwrap_or_else(PoisonError::into_inner).messages)
    }

    /// What they were.
    pub(super) fn tally(&self) -> Tally {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).tally.clone()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn configuration(text: &str, dir: &Path, is_root: bool) -> String {
    // As root it would change to a user who may not write here.
    let user = if is_root { "user root" } else { "" };
    text.replace("{dir}", &dir.to_string_lossy())
        .replace("{user}", user)
        .replace("{port}", &SERVER_PORT.to_string())
        .replace("{region}", &REGION.to_string())
        .replace("{region_port}", &REGION_PORT.to_string())
}

pub(super) async fn start(wan: &Wan, name: Name, home: Home, shares: &[u64]) -> Result<Pair, Failure> {
    let mut members = Vec::new();
    for (at, title, text) in [(wan.region(), "region", REGION_CONFIGURATION), (wan.site(), "site", SITE_CONFIGURATION)]
    {
        let dir = directory(&home, title)?;
        let path = configure(&home, &format!("{title}.conf"), &configuration(text, &dir, geteuid().is_root()))?;
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(path);
        members.push(Member::start(at, command, &home, title)?);
    }
    let begun = std::time::Instant::now();
    let mut stream = loop {
        match dial(wan.region(), (REGION, REGION_PORT).into()).await {
            Ok(stream) => break stream,
            Err(error) if begun.elapsed() > READY_MAX => {
                return Err(Failure::new("the region's broker takes no connection").because(error));
            }
            Err(_) => tokio::time::sleep(TRY_EVERY).await,
        }
    };
    let cannot = |error| Failure::new("the region's broker takes no subscription").because(error);
    subscribe(&mut stream, "region", true).await.map_err(cannot)?;
    let counting = Counting::Mosquitto(Subscriber::start(stream, shares));
    let pair = Pair { name, members, counting, warm_ups: 0.into(), _home: home };
    while dial(wan.site(), pair.server()).await.is_err() {
        if begun.elapsed() > READY_MAX {
            return Err(Failure::new("the site's broker takes no connection"));
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_configurations_are_complete() {
        for text in [SITE_CONFIGURATION, REGION_CONFIGURATION] {
            let text = configuration(text, Path::new("/tmp/x"), true);
            assert!(!text.contains('{') && text.contains("\nuser root\n"), "{text}");
        }
        let site = configuration(SITE_CONFIGURATION, Path::new("/tmp/x"), false);
        assert!(site.contains("address 10.84.2.1:1883\n") && !site.contains("user"));
    }
}

//! Others that keep records at the site while the uplink is down and pass them on: one server in the site's namespace, one in
//! the region's, set up by their own manuals. Owns what they have in common. The configurations stand in
//! `cli/assets/rivals`.

mod mosquitto;
mod nats;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicU64;

use super::tally::Tally;
use super::wan::{Congestion, Wan};
use crate::bench::failover::namespace::Namespace;
use crate::bench::ingest::rivals as ingest;
use crate::bench::install;
use crate::bench::kin::Kin;
use crate::demo::group::tail;
use crate::demo::site::Home;
use crate::failure::Failure;

/// Who is measured beside us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// Two mosquittos and a bridge, TCP as it comes.
    Mosquitto,
    /// The same over BBR.
    MosquittoBbr,
    /// Two NATS servers, a leaf node and a mirrored stream, TCP as it comes.
    Nats,
    /// The same over BBR.
    NatsBbr,
}

impl Name {
    /// As it stands in the figures.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::MosquittoBbr => "mosquitto-bbr",
            Self::Nats => "nats",
            Self::NatsBbr => "nats-bbr",
        }
    }

    /// What was set, for the figures.
    pub(super) const fn setup(self) -> &'static str {
        match self {
            Self::Mosquitto => "bridge, QoS 1, no limit in flight or queued, dialled again after 1 s; TCP CUBIC",
            Self::MosquittoBbr => "bridge, QoS 1, no limit in flight or queued, dialled again after 1 s; TCP BBR",
            Self::Nats => "leaf node, JetStream mirror in the region, file storage, as it comes; TCP CUBIC",
            Self::NatsBbr => "leaf node, JetStream mirror in the region, file storage, as it comes; TCP BBR",
        }
    }

    /// What TCP does about loss.
    pub(super) const fn congestion(self) -> Congestion {
        match self {
            Self::Mosquitto | Self::Nats => Congestion::Cubic,
            Self::MosquittoBbr | Self::NatsBbr => Congestion::Bbr,
        }
    }

    /// Whether sensors speak MQTT to it, or else NATS.
    pub(super) const fn is_mqtt(self) -> bool {
        matches!(self, Self::Mosquitto | Self::MosquittoBbr)
    }

    /// Finds what it needs, installs it where that may be, or says how; returns its version.
    pub(super) fn install(self) -> Result<String, Failure> {
        if self.is_mqtt() {
            install::ensure("mosquitto", "mosquitto").map(|()| "Debian's mosquitto".to_owned())
        } else {
            ingest::nats::program().and_then(|program| ingest::nats::version(&program))
        }
    }
}

/// A process of a rival.
#[derive(Debug)]
struct Member {
    kin: Kin,
    log: PathBuf,
}

impl Member {
    /// Starts `command` in `at`; what it says goes into `title`.log of `home`.
    fn start(at: &Namespace, command: Command, home: &Home, title: &str) -> Result<Self, Failure> {
        let log = home.path().join(format!("{title}.log"));
        let of_kin = log.clone();
        let kin = at.within(move || Kin::start(command, &of_kin))?;
        let kin = kin.map_err(|error| Failure::new(format!("cannot start the {title}'s server")).because(error))?;
        Ok(Self { kin, log })
    }
}

/// How what has arrived is counted.
#[derive(Debug)]
enum Counting {
    /// A subscriber in the region, which keeps what it has seen.
    Mosquitto(mosquitto::Subscriber),
    /// The region's stream says.
    Nats,
}

/// A rival that runs, a server on each side. When it is dropped, no process and no file is left.
#[derive(Debug)]
pub(super) struct Pair {
    name: Name,
    members: Vec<Member>,
    counting: Counting,
    warm_ups: AtomicU64,
    // Dropped last: processes write into it.
    _home: Home,
}

/// Where the site's server takes publishes.
const SERVER_PORT: u16 = 4222;

impl Pair {
    /// Starts `name` on both sides of `wan` for a backlog of `shares` and waits until it takes publishes.
    pub(super) async fn start(wan: &Wan, name: Name, below: &Path, shares: &[u64]) -> Result<Self, Failure> {
        let home = Home::temporary_in(below, "drain")?;
        if name.is_mqtt() {
            mosquitto::start(wan, name, home, shares).await
        } else {
            nats::start(wan, name, home).await
        }
    }

    /// Who it is.
    pub(super) const fn name(&self) -> Name {
        self.name
    }

    /// Where the site's server takes publishes.
    pub(super) const fn server(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), SERVER_PORT)
    }

    /// A failure if a process has ended although nobody ended it.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        for member in &mut self.members {
            if let Some(status) = member.kin.ended() {
                return Err(Failure::new(format!("a server ended ({status}); {}", tail(&member.log))));
            }
        }
        Ok(())
    }

    /// Records that the region has, but for those that came to warm up.
    pub(super) async fn arrived(&self, wan: &Wan) -> Result<u64, Failure> {
        let all = match &self.counting {
            Counting::Mosquitto(subscriber) => subscriber.arrived()?,
            Counting::Nats => nats::arrived(wan).await?,
        };
        Ok(all.saturating_sub(self.warm_ups.load(std::sync::atomic::Ordering::Relaxed)))
    }

    /// So many records have arrived that are not the backlog.
    pub(super) fn handle_warm(&self, records: u64) {
        self.warm_ups.store(records, std::sync::atomic::Ordering::Relaxed);
    }

    /// Counts everything that the region has, of a backlog of `shares`.
    pub(super) async fn read(&self, wan: &Wan, shares: &[u64]) -> Result<Tally, Failure> {
        match &self.counting {
            Counting::Mosquitto(subscriber) => Ok(subscriber.tally()),
            Counting::Nats => {
                let mut tally = Tally::new(shares);
                nats::read(wan, &mut tally).await?;
                Ok(tally)
            }
        }
    }
}

//! Others that take records in durably, each set up by its own manual for the same promise: so many copies on disk before
//! the acknowledgement. Owns what they have in common: members as processes of their own in directories of their own, on
//! loopback, ended by their numbers. The configurations stand in `cli/assets/rivals`.

mod mosquitto;
pub(in crate::bench) mod nats;
mod rabbitmq;
mod redis;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::Talk;
use crate::bench::kin::Kin;
use crate::bench::{install, usage};
use crate::demo::group::tail;
use crate::demo::site::Home;
use crate::failure::Failure;

/// A cluster takes publishes after so long: RabbitMQ's three nodes take half a minute.
const READY_MAX: Duration = Duration::from_secs(180);
/// Between two looks at one that starts.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A server on this machine answers a question within so long, or is asked again.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Who is measured beside us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// JetStream, three replicas, each write synced.
    Nats,
    /// The same as it comes.
    NatsDefault,
    /// Append-only file synced always, one replica waited for.
    Redis,
    /// A quorum queue on three nodes.
    RabbitMq,
    /// Saving at each change.
    Mosquitto,
}

impl Name {
    /// As it stands in the figures.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::NatsDefault => "nats-default",
            Self::Redis => "redis",
            Self::RabbitMq => "rabbitmq",
            Self::Mosquitto => "mosquitto",
        }
    }

    /// What was set, for the figures.
    pub(super) const fn setup(self) -> &'static str {
        match self {
            Self::Nats => "JetStream, R3, file storage, sync_interval always; JetStream publish with a reply each",
            Self::NatsDefault => "JetStream, R3, file storage, as it comes: acknowledged before it is synced",
            Self::Redis => "primary and replica, appendfsync always; XADD in bursts, WAIT 1 after each",
            Self::RabbitMq => "quorum queue on three nodes, persistent messages, publisher confirms",
            Self::Mosquitto => "one broker, autosave_on_changes, autosave_interval 1, an absent subscriber; QoS 1",
        }
    }

    /// Copies that it writes of each record.
    pub(super) const fn copies(self) -> u32 {
        match self {
            Self::Nats | Self::NatsDefault | Self::RabbitMq => 3,
            Self::Redis => 2,
            Self::Mosquitto => 1,
        }
    }

    /// What publishers speak to it.
    pub(super) const fn talk(self) -> Talk {
        match self {
            Self::Nats | Self::NatsDefault => Talk::Nats,
            Self::Redis => Talk::Redis,
            Self::RabbitMq => Talk::Amqp,
            Self::Mosquitto => Talk::Mqtt,
        }
    }

    /// Finds what it needs, installs it where that may be, or says how; returns its version.
    pub(super) fn install(self) -> Result<String, Failure> {
        match self {
            Self::Nats | Self::NatsDefault => nats::program().and_then(|program| nats::version(&program)),
            Self::Redis => install::ensure("redis-server", "redis-server").map(|()| version("redis-server")),
            Self::RabbitMq => install::ensure("rabbitmq-server", "rabbitmq-server").map(|()| rabbitmq::version()),
            Self::Mosquitto => install::ensure("mosquitto", "mosquitto").map(|()| "Debian's mosquitto".to_owned()),
        }
    }
}

/// What `program` says that it is.
fn version(program: &str) -> String {
    let said = Command::new(program).arg("--version").output();
    let text = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// A process of a rival.
#[derive(Debug)]
struct Member {
    title: String,
    kin: Kin,
    log: PathBuf,
}

impl Member {
    /// Starts `command`; what it says goes into a file of `home`.
    fn start(title: String, command: Command, home: &Home) -> Result<Self, Failure> {
        let log = home.path().join(format!("{title}.log"));
        let kin =
            Kin::start(command, &log).map_err(|error| Failure::new(format!("cannot start {title}")).because(error))?;
        Ok(Self { title, kin, log })
    }
}

/// A rival that runs. When it is dropped, no process and no file is left.
#[derive(Debug)]
pub(super) struct Cluster {
    members: Vec<Member>,
    server: SocketAddr,
    // Dropped last: processes write into it.
    home: Home,
}

impl Cluster {
    /// Starts `name` in `below` and waits until it takes publishes.
    pub(super) async fn start(name: Name, below: &Path) -> Result<Self, Failure> {
        let home = Home::temporary_in(below, "bench")?;
        match name {
            Name::Nats => nats::start(home, "always").await,
            Name::NatsDefault => nats::start(home, "2m").await,
            Name::Redis => redis::start(home).await,
            Name::RabbitMq => rabbitmq::start(home).await,
            Name::Mosquitto => mosquitto::start(home).await,
        }
    }

    /// Who takes publishes: the member that leads.
    pub(super) const fn server(&self) -> SocketAddr {
        self.server
    }

    /// A failure if a process has ended although nobody ended it.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        for member in &mut self.members {
            if let Some(status) = member.kin.ended() {
                return Err(Failure::new(format!("{} ended ({status}); {}", member.title, tail(&member.log))));
            }
        }
        Ok(())
    }

    /// The processes of each member.
    pub(super) fn parties(&self) -> Vec<Vec<u32>> {
        self.members.iter().map(|member| member.kin.all()).collect()
    }

    /// Bytes of pages that all members made dirty.
    pub(super) fn dirtied(&self) -> u64 {
        let processes = self.members.iter().flat_map(|member| member.kin.all());
        processes.map(usage::written).sum()
    }

    /// What has been said in all logs.
    fn logs(&self) -> String {
        let read = |member: &Member| std::fs::read(&member.log).unwrap_or_default();
        let all: Vec<u8> = self.members.iter().flat_map(read).collect();
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Asks `question` until it has an answer.
    async fn until_ready<T>(
        &mut self,
        mut question: impl AsyncFnMut(&Self) -> io::Result<Option<T>>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let mut last = io::Error::other("it does not say so");
        while begun.elapsed() < READY_MAX {
            self.check()?;
            match tokio::time::timeout(ANSWER_MAX, question(self)).await {
                Ok(Ok(Some(found))) => return Ok(found),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let tails: Vec<String> = self.members.iter().map(|member| tail(&member.log)).collect();
        let what = format!("a rival takes no publishes after {} s\n{}", READY_MAX.as_secs(), tails.join("\n"));
        Err(Failure::new(what).because(last))
    }
}

/// Writes a configuration file of `home`.
pub(in crate::bench) fn configure(home: &Home, file: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = home.path().join(file);
    std::fs::write(&path, text)
        .map_err(|error| Failure::new(format!("cannot write {}", path.display())).because(error))?;
    Ok(path)
}

/// A directory of `home`, made.
pub(in crate::bench) fn directory(home: &Home, name: &str) -> Result<PathBuf, Failure> {
    let path = home.path().join(name);
    std::fs::create_dir(&path)
        .map_err(|error| Failure::new(format!("cannot make {}", path.display())).because(error))?;
    Ok(path)
}

async fn dial(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

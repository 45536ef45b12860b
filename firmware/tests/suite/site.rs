//! Three boards in one process, each with its own runtime: publishes are acknowledged, pages are served, a restart
//! finds what was kept, a stop is in order.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firmware::FirmwareError;
use firmware::config::{BoardConfig, Listen, Publishers};
use link::stop::{Stopper, signal};
use serde_json::Value;
use shared::config::{JournalConfig, NodeConfig, RepairConfig, Timing};
use shared::ids::{BoardId, BoardSet, Name, Voters};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::certificates::Authority;
use crate::publisher::Publisher;

const PATIENCE: Duration = Duration::from_secs(60);

/// A board's switch and its thread.
type Running = (Stopper, JoinHandle<Result<(), FirmwareError>>);

struct Site {
    directory: PathBuf,
    configs: Vec<BoardConfig>,
    running: Vec<Option<Running>>,
}

impl Drop for Site {
    fn drop(&mut self) {
        for (stopper, thread) in self.running.drain(..).flatten() {
            stopper.stop();
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn free_tcp() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn free_udp() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Site {
    /// Three boards, none of them running.
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("roadstead-site-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let authority = Authority::new(&directory);
        let boards: BoardSet = (1..=3).filter_map(BoardId::new).collect();
        let meshes: BTreeMap<BoardId, SocketAddr> = boards.iter().map(|board| (board, free_udp())).collect();
        let configs = boards
            .iter()
            .map(|board| BoardConfig {
                witness: None,
                witness_for: None,
                file: PathBuf::new(),
                node: NodeConfig {
                    site: Name::try_from("north").unwrap(),
                    board,
                    boards,
                    voters: Voters { version: Voters::CONFIGURED, set: boards.into() },
                    priority: 0,
                    domain: Name::new(),
                    duties: Vec::new(),
                    copies: 2,
                    timing: Timing::default(),
                    journal: JournalConfig::sized(4 * 1024 * 1024, 8),
                    repair: RepairConfig::default(),
                    has_region: false,
                },
                data_dir: directory.join(board.to_string()),
                endurance: None,
                journal_key: None,
                status_token: None,
                listen: Listen { mesh: meshes[&board], mqtt: free_tcp(), http: free_tcp() },
                publishers: Publishers::default(),
                identity: authority.board("north", board),
                peers: meshes
                    .iter()
                    .filter(|(peer, _)| **peer != board)
                    .map(|(b, a)| (*b, *a))
                    .collect(),
                region: None,
                bridge: None,
                processes: Vec::new(),
            })
            .collect();
        Self { directory, configs, running: (0..3).map(|_| None).collect() }
    }

    fn start(&mut self, board: usize) {
        let (stopper, stop) = signal();
        let config = self.configs[board].clone();
        self.running[board] = Some((stopper, std::thread::spawn(move || firmware::run(config, stop))));
    }

    fn stop(&mut self, board: usize) {
        let (stopper, thread) = self.running[board].take().unwrap();
        stopper.stop();
        thread.join().unwrap().unwrap();
    }

    fn mqtt(&self, board: usize) -> SocketAddr {
        self.configs[board].listen.mqtt
    }

    async fn page(&self, board: usize, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.configs[board].listen.http).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: board\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    async fn status(&self, board: usize) -> Option<Value> {
        let (status, body) = self.page(board, "/status").await?;
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    /// Waits until `board`'s status is as wanted.
    async fn until(&self, board: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status(board).await;
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "board {} never came to {what}: {status:?}", board + 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all boards are connected and agree on a leader; its place.
    async fn settled(&self) -> usize {
        let is_settled = |status: &Value| {
            let linked = status["boards"].as_array().unwrap().iter().all(|board| board["linked"] == true);
            linked && status["leader"].is_u64() && status["accepts"] == true
        };
        let mut leader = 0;
        for board in 0..3 {
            let status = self.until(board, "a leader and all links", is_settled).await;
            leader = usize::try_from(status["leader"].as_u64().unwrap()).unwrap();
        }
        leader - 1
    }
}

#[tokio::test]
async fn publishes_are_acknowledged_and_outlive_a_restart_of_all() {
    let mut site = Site::new("restart");
    (0..3).for_each(|board| site.start(board));
    site.settled().await;
    let mut publisher = Publisher::connect(site.mqtt(0), "loop-7").await;
    // Many in flight, so that they commit together.
    for packet in 1..=500 {
        publisher.publish(packet, &format!("{{\"seq\":{packet}}}")).await;
    }
    for packet in 1..=500 {
        assert_eq!(publisher.acknowledged().await, packet);
    }
    let status = site.until(0, "500 commits", |status| status["committed"] == 500).await;
    assert_eq!((&status["accepted"], &status["uncommitted"]), (&500.into(), &0.into()));
    // k = 2: somebody else has each of them too.
    let begun = Instant::now();
    loop {
        let mut copies = 0;
        for board in 1..3 {
            copies += site.status(board).await.unwrap()["backlog"].as_u64().unwrap();
        }
        if copies >= 500 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "only {copies} copies");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(publisher);
    (0..3).for_each(|board| site.stop(board));
    (0..3).for_each(|board| site.start(board));
    site.settled().await;
    let backlog = site.status(0).await.unwrap()["backlog"].as_u64().unwrap();
    assert!(backlog >= 500, "the journal came back with {backlog}");
    assert!(site.status(0).await.unwrap()["epoch"].as_str().unwrap().starts_with("2."));
}

#[tokio::test]
async fn the_site_goes_on_without_its_leader() {
    let mut site = Site::new("leader");
    (0..3).for_each(|board| site.start(board));
    let leader = site.settled().await;
    let other = (leader + 1) % 3;
    let mut publisher = Publisher::connect(site.mqtt(other), "camera-1").await;
    publisher.publish(1, "a").await;
    assert_eq!(publisher.acknowledged().await, 1);
    site.stop(leader);
    publisher.publish(2, "b").await;
    assert_eq!(publisher.acknowledged().await, 2);
    let old = u64::try_from(leader).unwrap() + 1;
    site.until(other, "another leader", |status| status["leader"].as_u64().is_some_and(|leader| leader != old))
        .await;
    site.start(leader);
    site.settled().await;
}

#[tokio::test]
async fn a_board_whose_disk_fails_acknowledges_nothing_more_and_recovers() {
    let mut site = Site::new("poison");
    (0..3).for_each(|board| site.start(board));
    site.settled().await;
    let mut publisher = Publisher::connect(site.mqtt(0), "loop-7").await;
    let mut acknowledged = 0;
    for packet in 1..=100 {
        assert!(publisher.try_publish(packet, "x").await);
        acknowledged += 1;
    }
    // No further segment can be made: a directory stands in the way of each.
    let in_the_way: Vec<PathBuf> = (1..64)
        .map(|number| site.configs[0].data_dir.join(format!("{number:016x}.tmp")))
        .collect();
    in_the_way.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    for packet in 101..=20_000 {
        // Each alone, so that each takes a page of the segment at least.
        if !publisher.try_publish(packet, "x").await {
            break;
        }
        acknowledged += 1;
    }
    let (_stopper, thread) = site.running[0].take().unwrap();
    let ended = thread.join().unwrap();
    assert!(matches!(ended, Err(FirmwareError::Poisoned { .. })), "{ended:?}");
    in_the_way.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
    site.start(0);
    site.settled().await;
    let backlog = site.status(0).await.unwrap()["backlog"].as_u64().unwrap();
    assert!(backlog >= acknowledged, "{acknowledged} acknowledged, {backlog} kept");
}

#[tokio::test]
async fn pages_say_how_the_board_is() {
    let mut site = Site::new("pages");
    (0..3).for_each(|board| site.start(board));
    site.settled().await;
    assert_eq!(site.page(0, "/livez").await.unwrap().0, 200);
    assert_eq!(site.page(0, "/readyz").await.unwrap().0, 200);
    assert!(site.page(0, "/").await.unwrap().1.contains("Board 1 of site north"));
    let lines = [
        "roadstead_records_committed_total 0",
        "roadstead_board_alive{board=\"3\"} 1",
        "roadstead_events_total{event=\"board_up\"} 2",
        "roadstead_journal_fdatasync_seconds_bucket",
        "roadstead_mesh_connections_refused_total 0",
        "roadstead_mqtt_publishes_total{qos=\"1\"} 0",
        "# EOF",
    ];
    let begun = Instant::now();
    loop {
        let (_, metrics) = site.page(0, "/metrics").await.unwrap();
        let missing: Vec<_> = lines.iter().filter(|line| !metrics.contains(**line)).collect();
        if missing.is_empty() {
            break;
        }
        // Links stand a moment before the first heartbeat is heard.
        assert!(begun.elapsed() < PATIENCE, "{missing:?} are missing in\n{metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(site.page(0, "/nowhere").await.unwrap().0, 404);
    site.stop(1);
    site.stop(2);
    let begun = Instant::now();
    while site.page(0, "/readyz").await.unwrap().0 == 200 {
        assert!(begun.elapsed() < PATIENCE, "it is ready without a leader");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(site.page(0, "/livez").await.unwrap().0, 200);
}

//! The bridge against Mosquitto. Where it is not installed the tests say so on standard error and do nothing;
//! `ROADSTEAD_CLIENTS=required` makes that a failure.

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use shared::limits::OFFER_BATCHES_MAX;
use shared::record::Key;
use tokio::time::timeout;

use super::*;
use crate::front_door::{DoorConfig, FrontDoor};

const LONG: Duration = Duration::from_secs(20);

/// A broker of its own on a free port of loopback.
struct Broker {
    process: Child,
    port: u16,
    config: PathBuf,
}

impl Broker {
    fn start(name: &str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = std::env::temp_dir().join(format!("roadstead-broker-{}-{name}.conf", std::process::id()));
        std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"))
            .unwrap();
        let start = |program: &str| {
            Command::new(program)
                .arg("-c")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        // Broker and publisher come in two packages.
        let has_publisher = || {
            Command::new("mosquitto_pub")
                .arg("--help")
                .stdout(Stdio::null())
                .status()
                .is_ok()
        };
        let begin = || start("mosquitto").or_else(|_| start("/usr/sbin/mosquitto"));
        let Some(process) = has_publisher().then(begin).and_then(Result::ok) else {
            std::fs::remove_file(&config).unwrap();
            // Past the harness's capture: a test that did nothing must be seen.
            writeln!(std::io::stderr(), "SKIPPED, NOT PASSED: `mosquitto` and `mosquitto_pub` do not run here")
                .unwrap();
            let required = std::env::var_os("ROADSTEAD_CLIENTS").is_some_and(|value| value == "required");
            assert!(!required, "mosquitto is required");
            return None;
        };
        Some(Self { process, port, config })
    }

    async fn publish(&self, qos: u8, lines: usize) {
        let (port, qos) = (self.port.to_string(), qos.to_string());
        let mut child = tokio::process::Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", &qos, "-t", "alarm/x", "-l", "-V", "mqttv5"])
            .args(["-D", "publish", "user-property", "ts", "7"])
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let text: String = (0..lines).map(|line| format!("{line}\n")).collect();
        let mut stdin = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, text.as_bytes()).await.unwrap();
        drop(stdin);
        assert!(timeout(LONG, child.wait()).await.unwrap().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}

struct Site {
    answers: DoorAnswers,
    sender: mpsc::Sender<Vec<Offer>>,
    offers: mpsc::Receiver<Vec<Offer>>,
    _stop: watch::Sender<bool>,
}

impl Site {
    fn open() -> Self {
        let (sender, offers) = mpsc::channel(OFFER_BATCHES_MAX);
        let (stop, stopped) = watch::channel(false);
        let answers = FrontDoor::start(DoorConfig::new(([127, 0, 0, 1], 0).into()), sender.clone(), stopped).unwrap();
        Self { answers, sender, offers, _stop: stop }
    }

    fn bridge(&self, broker: &Broker, protocol: BridgeProtocol, qos: u8) -> (watch::Sender<bool>, Arc<BridgeCounters>) {
        let (stop, stopped) = watch::channel(false);
        let config = BridgeConfig {
            name: "field".into(),
            host: "127.0.0.1".into(),
            port: broker.port,
            protocol,
            client_id: "roadstead".into(),
            topics: vec!["alarm/#".into()],
            qos,
            credentials: None,
        };
        (stop, Bridge::start(config, self.sender.clone(), &self.answers, stopped))
    }

    async fn take(&mut self, count: usize) -> Vec<Offer> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(timeout(LONG, self.offers.recv()).await.expect("messages in time").unwrap());
        }
        all
    }

    fn commit(&self, offers: &[Offer]) {
        let answers: Vec<_> = offers
            .iter()
            .filter_map(|offer| Some((offer.ticket?, Answer::Committed)))
            .collect();
        self.answers.deliver(&answers);
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(LONG, so).await.is_ok(), "{what}");
}

#[tokio::test]
async fn the_broker_is_acknowledged_after_the_commit_and_sends_the_rest_again() {
    for (protocol, qos) in [
        (BridgeProtocol::V5, 1),
        (BridgeProtocol::V311, 1),
        (BridgeProtocol::V5, 2),
        (BridgeProtocol::V311, 2),
    ] {
        let Some(broker) = Broker::start(&format!("{protocol:?}-{qos}")) else {
            return;
        };
        let mut site = Site::open();
        let (stop, counters) = site.bridge(&broker, protocol, qos);
        until("subscribed", || counters.filters_granted.load(Relaxed) == 1).await;
        broker.publish(qos, 15).await;
        let offers = site.take(15).await;
        assert_eq!(&offers[0].record.publisher[..], b"bridge:field");
        let is_content = matches!(offers[0].record.key, Key::Content(_));
        assert_eq!(is_content, protocol == BridgeProtocol::V5, "user properties travel through MQTT 5");
        // Five are committed, ten are not when the bridge ends.
        site.commit(&offers[..5]);
        until("five acknowledged", || counters.acknowledged.load(Relaxed) == 5).await;
        sleep(Duration::from_millis(100)).await;
        stop.send(true).unwrap();
        until("ended", || stop.is_closed()).await;
        let (_stop, counters) = site.bridge(&broker, protocol, qos);
        let again = site.take(10).await;
        let payloads = |offers: &[Offer]| offers.iter().map(|offer| offer.record.payload.clone()).collect::<Vec<_>>();
        assert_eq!(payloads(&again), payloads(&offers[5..]));
        let same = again
            .iter()
            .zip(&offers[5..])
            .all(|(again, first)| again.record.key.bytes() == first.record.key.bytes());
        assert!(same, "sent again through another connection it keeps its key");
        site.commit(&again);
        until("all acknowledged", || counters.acknowledged.load(Relaxed) == 10).await;
    }
}

#[tokio::test]
async fn a_broker_that_comes_late_is_found() {
    let site = Site::open();
    let Some(gone) = Broker::start("gone") else { return };
    let port = gone.port;
    drop(gone);
    let Some(mut broker) = Broker::start("late") else { return };
    broker.process.kill().unwrap();
    broker.process.wait().unwrap();
    broker.port = port;
    let (_stop, counters) = site.bridge(&broker, BridgeProtocol::V5, 1);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(counters.connections.load(Relaxed), 0);
    std::fs::write(&broker.config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
    let program = if Command::new("mosquitto")
        .arg("-h")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
    {
        "mosquitto"
    } else {
        "/usr/sbin/mosquitto"
    };
    broker.process = Command::new(program)
        .arg("-c")
        .arg(&broker.config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("found", || counters.connected.load(Relaxed) == 1).await;
}

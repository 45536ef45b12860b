//! Clients written by others: `mosquitto_pub`, Eclipse Paho, `rumqttc`. Where one is not installed its test says so on
//! standard error and does nothing; `ROADSTEAD_CLIENTS=required` makes that a failure.

use std::io::Write;
use std::process::Stdio;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions, QoS};
use shared::record::Key;
use tokio::process::Command;

use super::*;

/// A node that commits everything at once, and gives back what it committed.
fn commit_all(house: House) -> (tokio::task::JoinHandle<Vec<Offer>>, watch::Sender<bool>, std::net::SocketAddr) {
    let House { answers, mut offers, stop } = house;
    let address = answers.address();
    let node = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(batch) = offers.recv().await {
            let answered: Vec<_> = batch
                .iter()
                .filter_map(|offer| Some((offer.ticket?, Answer::Committed)))
                .collect();
            answers.deliver(&answered);
            all.extend(batch);
        }
        all
    });
    (node, stop, address)
}

/// Whether a program is here: whether it ends with `code`.
async fn runs(program: &str, arguments: &[&str], code: i32) -> bool {
    let run = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    let installed = run.is_ok_and(|status| status.code() == Some(code));
    if !installed {
        // Past the harness's capture: a test that did nothing must be seen.
        let said =
            writeln!(std::io::stderr(), "SKIPPED, NOT PASSED: `{program} {}` does not run here", arguments.join(" "));
        said.unwrap();
        let required = std::env::var_os("ROADSTEAD_CLIENTS").is_some_and(|value| value == "required");
        assert!(!required, "{program} is required");
    }
    installed
}

async fn run(program: &str, arguments: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = timeout(LONG, child.wait_with_output()).await.expect("the client ends").unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

#[tokio::test]
async fn mosquitto_pub_is_acknowledged_in_every_version_and_qos() {
    // Its help ends with 1.
    if !runs("mosquitto_pub", &["--help"], 1).await {
        return;
    }
    let (node, stop, address) = commit_all(House::open(config()));
    let port = address.port().to_string();
    let lines: String = (0..500).map(|number| format!("{number}\n")).collect();
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let common = ["-h", "127.0.0.1", "-p", &port, "-V", version, "-q", qos, "-i", "mosquitto"];
            run("mosquitto_pub", &[&common[..], &["-t", "one", "-m", "x"]].concat(), "").await;
            run("mosquitto_pub", &[&common[..], &["-t", "many", "-l"]].concat(), &lines).await;
        }
    }
    let five = ["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-q", "1", "-t", "said", "-m", "x", "-i", "m"];
    let properties =
        ["-D", "publish", "user-property", "seq", "41", "-D", "publish", "user-property", "publisher", "p"];
    run("mosquitto_pub", &[&five[..], &properties].concat(), "").await;
    stop.send(true).unwrap();
    let all = node.await.unwrap();
    let count = |topic: &str| all.iter().filter(|offer| offer.record.topic == topic).count();
    assert_eq!((count("one"), count("many")), (9, 9 * 500));
    let said = &all.iter().find(|offer| offer.record.topic == "said").unwrap().record;
    assert_eq!((&said.publisher[..], said.key), (&b"p"[..], Key::Sequence { epoch: 0, seq: 41 }));
}

#[tokio::test]
async fn paho_is_acknowledged_in_every_version_and_qos() {
    if !runs("python3", &["-c", "import paho.mqtt.client"], 0).await {
        return;
    }
    let (node, stop, address) = commit_all(House::open(config()));
    let port = address.port().to_string();
    for version in ["3", "4", "5"] {
        run("python3", &["-c", include_str!("paho_publish.py"), &port, version, "300"], "").await;
    }
    stop.send(true).unwrap();
    assert_eq!(node.await.unwrap().len(), 3 * 300 * 3);
}

#[tokio::test]
async fn rumqttc_is_acknowledged_in_every_qos() {
    let (node, stop, address) = commit_all(House::open(config()));
    let mut options = MqttOptions::new("rumqttc", ("127.0.0.1", address.port()));
    options.set_keep_alive(5);
    let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
    let publishing = tokio::spawn(async move {
        for number in 0..600_u32 {
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number as usize % 3];
            client
                .publish("det/1", number.to_string(), PublishOptions::new(qos))
                .await
                .unwrap();
        }
        client
    });
    let (mut acknowledged, mut completed) = (0, 0);
    while acknowledged < 200 || completed < 200 {
        match timeout(LONG, events.poll()).await.expect("acknowledgements in time").unwrap() {
            Event::Incoming(Packet::PubAck(_)) => acknowledged += 1,
            Event::Incoming(Packet::PubComp(_)) => completed += 1,
            _ => {}
        }
    }
    drop(publishing.await.unwrap());
    stop.send(true).unwrap();
    assert_eq!(node.await.unwrap().len(), 600);
}

/// No test: an open door for suites run by hand, with a node that commits all. Serves until it is ended.
/// `ROADSTEAD_DOOR=127.0.0.1:1883 cargo test -p firmware an_open_door -- --ignored`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "serves clients until it is ended"]
async fn an_open_door() {
    let address = std::env::var("ROADSTEAD_DOOR")
        .expect("ROADSTEAD_DOOR says where to listen")
        .parse()
        .unwrap();
    let House { answers, mut offers, stop: _stop } = House::open(DoorConfig::new(address));
    let (mut count, mut told) = (0_u64, std::time::Instant::now());
    while let Some(batch) = offers.recv().await {
        count += batch.len() as u64;
        let answered: Vec<_> = batch
            .iter()
            .filter_map(|offer| Some((offer.ticket?, Answer::Committed)))
            .collect();
        answers.deliver(&answered);
        if told.elapsed() > Duration::from_secs(1) {
            told = std::time::Instant::now();
            println!("{count} publishes in {} batches", answers.counters().sum("batches"));
        }
    }
}

/// No test: what the door alone carries, from a few pipelining connections on the same machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn the_pace_of_the_door() {
    const CONNECTIONS: usize = 4;
    const EACH: usize = 200_000;
    const WINDOW: usize = 256;
    let (node, stop, address) = commit_all(House::open(config()));
    let since = std::time::Instant::now();
    let publishers: Vec<_> = (0..CONNECTIONS)
        .map(|number| tokio::spawn(pipeline(address, number, EACH, WINDOW)))
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let seconds = since.elapsed().as_secs_f64();
    stop.send(true).unwrap();
    assert_eq!(node.await.unwrap().len(), CONNECTIONS * EACH);
    println!("{:.0} acknowledged publishes a second", (CONNECTIONS * EACH) as f64 / seconds);
}

async fn pipeline(address: std::net::SocketAddr, number: usize, count: usize, window: usize) {
    let mut client = Client { stream: TcpStream::connect(address).await.unwrap() };
    client.send(&connect5(format!("pace-{number}").as_bytes(), true, 0, &[])).await;
    client.packet().await;
    let (mut sent, mut acknowledged) = (0, 0);
    let mut answer = vec![0; 4 * window];
    while acknowledged < count {
        let mut burst = Vec::new();
        while sent < count && sent - acknowledged < window {
            burst.extend(publish5(
                1,
                false,
                (sent % 60_000) as u16 + 1,
                b"det/1",
                &user(b"seq", sent.to_string().as_bytes()),
                &[7; 64],
            ));
            sent += 1;
        }
        client.send(&burst).await;
        let bytes = client.stream.read(&mut answer).await.unwrap();
        client.stream.read_exact(&mut answer[..(4 - bytes % 4) % 4]).await.unwrap();
        acknowledged += bytes.div_ceil(4);
    }
}

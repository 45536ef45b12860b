//! Peers that speak wrongly, not at all, or never finish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::limits::DOOR_PACKET_BYTES_MAX;

use super::super::{Door, greet};
use super::*;

#[tokio::test]
async fn what_is_no_connect_is_dropped_at_its_first_byte() {
    let house = House::open(config());
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"\0", b"\xc0\0", b"\x30\x05\0\x01tab"] {
        let mut client = house.dial().await;
        client.send(bytes).await;
        client.expect_end().await;
    }
    let mut client = house.dial().await;
    client.send(b"\x10\xff\xff\xff\xff\x01").await;
    client.expect_end().await;
    house.until("connections", 0).await;
    assert_eq!(house.answers.counters().of("connections_refused", "malformed"), 6);
}

#[tokio::test]
async fn silence_before_the_connect_is_bounded() {
    let house = House::open(DoorConfig { connect_patience: Duration::from_millis(300), ..config() });
    let since = Instant::now();
    let mut silent = house.dial().await;
    let mut half = house.dial().await;
    half.send(&connect3(b"a", true, 30)[..9]).await;
    silent.expect_end().await;
    half.expect_end().await;
    assert!(since.elapsed() >= Duration::from_millis(300));
    assert_eq!(house.answers.counters().of("connections_refused", "no_connect"), 2);
}

#[tokio::test]
async fn a_packet_begun_and_not_finished_is_bounded() {
    let house = House::open(DoorConfig { packet_patience: Duration::from_millis(300), ..config() });
    let mut client = house.client(&connect5(b"a", true, 0, &[])).await;
    client.send(&publish5(1, false, 1, b"t", &[], b"whole")[..5]).await;
    client.expect(&[0xe0, 1, 0x8d]).await;
    client.expect_end().await;
}

#[tokio::test]
async fn wrong_packets_are_named_in_mqtt_5() {
    let mut house = House::open(config());
    let mut wrong: Vec<(Vec<u8>, u8)> = vec![
        (vec![0x36, 4, 0, 1, b't', 0], 0x81),
        (publish5(0, true, 0, b"t", &[], b""), 0x81),
        (publish5(1, false, 0, b"t", &[], b""), 0x82),
        (publish5(0, false, 0, b"a/+/b", &[], b""), 0x90),
        (publish5(0, false, 0, b"a/#", &[], b""), 0x90),
        (publish5(0, false, 0, b"", &[], b""), 0x90),
        (publish5(0, false, 0, b"a\0b", &[], b""), 0x81),
        (publish5(0, false, 0, b"\xff", &[], b""), 0x81),
        (publish5(0, false, 0, b"t", &[0x0b, 1], b""), 0x82),
        (publish5(0, false, 0, b"t", &[0x11, 0, 0, 0, 1], b""), 0x82),
        (publish5(0, false, 0, b"t", &[0x7f], b""), 0x81),
        (publish5(0, false, 0, b"t", &[1, 0, 1, 0], b""), 0x82),
        (publish5(0, false, 0, b"t", &[1, 1], b"\xff"), 0x99),
        (vec![0x60, 2, 0, 1], 0x81),
        (vec![0x62, 2, 0, 0], 0x81),
        (vec![0x40, 2, 0, 1], 0x82),
        (vec![0xc1, 0], 0x81),
        (vec![0xc0, 1, 0], 0x81),
        (vec![0xd0, 0], 0x81),
        (vec![0x00, 0], 0x81),
        (vec![0xf0, 0], 0x82),
        (vec![0x82, 2, 0, 1], 0x81),
        (connect5(b"a", true, 0, &[]), 0x82),
        (vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], 0x81),
    ];
    // Refused as soon as the length is read; nothing of the body is waited for.
    wrong.push((packet(0x30, &[&vec![0; DOOR_PACKET_BYTES_MAX]])[..4].to_vec(), 0x95));
    for (bytes, code) in &wrong {
        let mut client = house.client(&connect5(b"a", true, 0, &[])).await;
        client.send(bytes).await;
        let said = client.packet().await;
        assert_eq!(said, [0xe0, 1, *code], "{:x?}", &bytes[..bytes.len().min(16)]);
        client.expect_end().await;
        let mut old = house.client(&connect3(b"b", true, 0)).await;
        old.send(bytes).await;
        let ended = timeout(Duration::from_millis(50), old.try_packet()).await;
        assert!(!matches!(ended, Ok(Some(_))), "MQTT 3.1.1 has no words: {ended:x?}");
    }
    house.until("connections", 0).await;
    assert!(house.count("connections_ended") >= wrong.len() as u64);
    let mut client = house.client(&connect5(b"a", true, 0, &[])).await;
    client.send(&publish5(0, false, 0, b"t", &[], b"still open")).await;
    while house.offer().await.record.payload != "still open" {}
}

#[tokio::test]
async fn the_largest_packet_is_taken_and_one_byte_more_is_not() {
    let mut house = House::open(config());
    let mut client = house.client(&connect5(b"a", true, 0, &[])).await;
    let filled = |filler: usize| {
        // Padded by user properties, so that topic and payload keep to their own limits.
        let properties = [&[0x26, 0, 1, b'n'][..], &text(&vec![b'x'; filler])].concat();
        let length = [(properties.len() % 128) as u8 | 0x80, (properties.len() / 128) as u8];
        packet(0x30, &[&text(b"t"), &length, &properties, &[7; 65_536]])
    };
    let filler = 4000 + DOOR_PACKET_BYTES_MAX - filled(4000).len();
    assert_eq!(filled(filler).len(), DOOR_PACKET_BYTES_MAX);
    client.send(&filled(filler)).await;
    assert_eq!(house.offer().await.record.payload.len(), 65_536);
    client.send(&filled(filler + 1)).await;
    client.expect(&[0xe0, 1, 0x95]).await;
}

#[tokio::test]
async fn connections_past_the_limit_are_closed_and_counted() {
    let house = House::open(DoorConfig { connections_max: 1, ..config() });
    let _first = house.client(&connect3(b"a", true, 0)).await;
    let mut second = house.dial().await;
    second.expect_end().await;
    assert_eq!(house.answers.counters().of("connections_refused", "limit"), 1);
}

#[tokio::test]
async fn a_thousand_idle_connections_hold_nothing_and_keep_nobody_waiting() {
    let mut house = House::open(config());
    let mut idle = Vec::new();
    for number in 0..1000_u32 {
        idle.push(house.client(&connect3(format!("idle-{number}").as_bytes(), true, 0)).await);
    }
    house.until("held_bytes", 0).await;
    let mut client = house.client(&connect3(b"busy", true, 0)).await;
    for id in 1..=100 {
        client.send(&publish3(1, false, id, b"t", b"x")).await;
        let offer = house.offer().await;
        house.commit(&[offer]);
        client.packet().await;
    }
    assert_eq!(house.count("connections"), 1001);
    drop(idle);
    house.until("connections", 1).await;
}

#[tokio::test]
async fn a_peer_that_reads_no_acknowledgements_is_let_go() {
    let mut house = House::open(DoorConfig { packet_patience: Duration::from_millis(400), ..config() });
    let mut client = house.client(&connect3(b"a", true, 0)).await;
    // Pings without end: their answers fill the socket, then the bound, then the door stops reading.
    let pings = [0xc0, 0].repeat(32 * 1024);
    let mut sent = 0;
    while client.stream.write_all(&pings).await.is_ok() {
        sent += pings.len();
        assert!(sent < 1 << 30, "the door goes on for ever");
    }
    house.until("connections", 0).await;
    assert_eq!(house.answers.counters().of("connections_ended", "stalled"), 1);
    assert!(house.offers.try_recv().is_err());
}

#[test]
fn the_task_of_a_connection_is_small() {
    fn bytes_of<F: Future>(_: impl FnOnce(Arc<Door>, TcpStream, SocketAddr) -> F) -> usize {
        size_of::<F>()
    }
    let bytes = bytes_of(greet::serve);
    assert!(bytes < 3 * 1024, "{bytes} bytes for each connection, idle or not");
}

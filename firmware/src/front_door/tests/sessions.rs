//! What outlives a connection: resumption, redelivery, take-over, wills, keep-alive, expiry.

use std::time::{Duration, Instant};

use super::*;

/// CONNECT of MQTT 5 with a will on `gone`, payload `bye`.
fn with_will(client: &[u8], keep_alive_s: u16, session_expiry_s: u32, delay_s: u32) -> Vec<u8> {
    let delay = [&[5, 0x18][..], &delay_s.to_be_bytes()].concat();
    let properties = [&[5][..], &expiry(session_expiry_s)].concat();
    let will = [delay, text(b"gone"), text(b"bye")].concat();
    packet(0x10, &[b"\0\x04MQTT\x05\x04", &keep_alive_s.to_be_bytes(), &properties, &text(client), &will])
}

/// Session Present of the CONNACK, which must accept.
async fn session_present(house: &House, connect: &[u8]) -> (Client, bool) {
    let mut client = house.dial().await;
    client.send(connect).await;
    let connack = client.packet().await;
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    (client, connack[2] == 1)
}

#[tokio::test]
async fn a_redelivery_of_what_is_in_flight_waits_for_the_first() {
    let mut house = House::open(config());
    let mut client = house.client(&connect3(b"a", false, 30)).await;
    client.send(&publish3(1, false, 1, b"t", b"x")).await;
    client.send(&publish3(2, false, 2, b"t", b"y")).await;
    let offers = house.offers(2).await;
    drop(client);
    house.until("connections", 0).await;
    let (mut client, present) = session_present(&house, &connect3(b"a", false, 30)).await;
    assert!(present);
    client.send(&publish3(1, true, 1, b"t", b"x")).await;
    client.send(&publish3(2, true, 2, b"t", b"y")).await;
    client.send(&[0xc0, 0]).await;
    client.expect(&[0xd0, 0]).await;
    house.commit(&offers);
    client.expect(&[0x40, 2, 0, 1]).await;
    client.expect(&[0x50, 2, 0, 2]).await;
    assert!(house.offers.try_recv().is_err(), "no second record");
    assert_eq!(house.count("redelivered"), 2);
}

#[tokio::test]
async fn an_answer_that_came_while_nobody_was_there_is_told_to_the_next() {
    let mut house = House::open(config());
    let mut client = house.client(&connect5(b"a", false, 30, &expiry(60))).await;
    client.send(&publish5(2, false, 7, b"t", &[], b"x")).await;
    let offers = house.offers(1).await;
    drop(client);
    house.until("connections", 0).await;
    house.commit(&offers);
    let (mut client, present) = session_present(&house, &connect5(b"a", false, 30, &expiry(60))).await;
    assert!(present);
    client.expect_silence().await;
    client.send(&publish5(2, true, 7, b"t", &[], b"x")).await;
    client.expect(&[0x50, 2, 0, 7]).await;
    drop(client);
    house.until("connections", 0).await;
    // PUBREC is out: the exchange goes on where it was, over any number of connections.
    let (mut client, present) = session_present(&house, &connect5(b"a", false, 30, &expiry(60))).await;
    assert!(present);
    client.send(&[0x62, 2, 0, 7]).await;
    client.expect(&[0x70, 2, 0, 7]).await;
    assert!(house.offers.try_recv().is_err(), "no second record");
}

#[tokio::test]
async fn a_clean_start_forgets() {
    let mut house = House::open(config());
    let mut client = house.client(&connect3(b"a", false, 30)).await;
    client.send(&publish3(1, false, 1, b"t", b"x")).await;
    house.offer().await;
    drop(client);
    house.until("connections", 0).await;
    let (mut client, present) = session_present(&house, &connect3(b"a", true, 30)).await;
    assert!(!present);
    client.send(&publish3(1, true, 1, b"t", b"x")).await;
    house.offer().await;
}

#[tokio::test]
async fn sessions_end_when_they_were_to_end() {
    let house = House::open(config());
    let connect = |seconds| connect5(b"a", false, 30, &expiry(seconds));
    let (mut client, present) = session_present(&house, &connect(0)).await;
    assert!(!present);
    client.send(&[0xe0, 0]).await;
    client.expect_end().await;
    house.until("sessions", 0).await;
    let (mut client, present) = session_present(&house, &connect(60)).await;
    assert!(!present);
    client.send(&[0xe0, 0]).await;
    client.expect_end().await;
    let (mut client, present) = session_present(&house, &connect(60)).await;
    assert!(present);
    // A DISCONNECT may change the expiry, but not from none to some.
    let since = Instant::now();
    client.send(&packet(0xe0, &[&[0, 5], &expiry(1)])).await;
    client.expect_end().await;
    house.until("sessions", 0).await;
    assert!(since.elapsed() >= Duration::from_secs(1));
    let (_client, present) = session_present(&house, &connect(60)).await;
    assert!(!present);
    let (mut client, _) = session_present(&house, &connect5(b"b", false, 30, &expiry(0))).await;
    client.send(&packet(0xe0, &[&[0, 5], &expiry(9)])).await;
    client.expect(&[0xe0, 1, 0x82]).await;
}

#[tokio::test]
async fn a_session_too_long_is_cut_and_told() {
    let house = House::open(config());
    let mut client = house.dial().await;
    client.send(&connect5(b"a", false, 120, &expiry(u32::MAX))).await;
    let connack = client.packet().await;
    let granted = expiry(24 * 3600);
    assert!(connack.windows(5).any(|part| part == granted), "{connack:x?}");
    assert!(connack.windows(3).any(|part| part == [0x13, 0, 60]), "Server Keep Alive: {connack:x?}");
}

#[tokio::test]
async fn the_session_that_would_end_soonest_makes_room() {
    let config = DoorConfig { sessions_max: 2, ..config() };
    let house = House::open(config);
    for (client, seconds) in [(b"a", 50), (b"b", 40)] {
        drop(house.client(&connect5(client, false, 30, &expiry(seconds))).await);
        house.until("connections", 0).await;
    }
    let (_c, _) = session_present(&house, &connect5(b"c", false, 30, &[])).await;
    assert_eq!(house.count("sessions_evicted"), 1);
    let (_a, present) = session_present(&house, &connect5(b"a", false, 30, &[])).await;
    assert!(present, "the longer one stayed");
    let mut refused = house.dial().await;
    refused.send(&connect5(b"d", false, 30, &[])).await;
    refused.expect(&[0x20, 3, 0, 0x89, 0]).await;
}

#[tokio::test]
async fn a_take_over_is_told_and_hands_the_session_over() {
    let mut house = House::open(config());
    let mut first = house.client(&connect5(b"a", false, 30, &expiry(60))).await;
    first.send(&publish5(1, false, 1, b"t", &[], b"x")).await;
    let offers = house.offers(1).await;
    let (mut second, present) = session_present(&house, &connect5(b"a", false, 30, &expiry(60))).await;
    assert!(present);
    first.expect(&[0xe0, 1, 0x8e]).await;
    first.expect_end().await;
    second.send(&publish5(1, true, 1, b"t", &[], b"x")).await;
    second.send(&[0xc0, 0]).await;
    second.expect(&[0xd0, 0]).await;
    house.commit(&offers);
    second.expect(&[0x40, 2, 0, 1]).await;
    assert!(house.offers.try_recv().is_err(), "no second record");
    assert_eq!(house.count("takeovers"), 1);
}

#[tokio::test]
async fn an_identifier_is_assigned_or_refused() {
    let house = House::open(config());
    let mut client = house.dial().await;
    client.send(&connect5(b"", false, 30, &[])).await;
    let connack = client.packet().await;
    assert!(connack.windows(5).any(|part| part == b"auto-"), "{}", connack.escape_ascii());
    house.client(&connect3(b"", true, 30)).await;
    let mut refused = house.dial().await;
    refused.send(&connect3(b"", false, 30)).await;
    refused.expect(&[0x20, 2, 0, 2]).await;
    refused.expect_end().await;
}

#[tokio::test]
async fn silence_past_the_keep_alive_ends_the_connection_and_publishes_the_will() {
    let mut house = House::open(config());
    let mut client = house.client(&with_will(b"a", 2, 0, 0)).await;
    let since = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.send(&[0xc0, 0]).await;
    client.expect(&[0xd0, 0]).await;
    client.expect(&[0xe0, 1, 0x8d]).await;
    assert!(since.elapsed() >= Duration::from_secs(4), "one and a half periods after the last packet");
    let will = house.offer().await;
    assert_eq!((will.ticket, &will.record.topic[..], &will.record.payload[..]), (None, &b"gone"[..], &b"bye"[..]));
    house.until("wills", 1).await;
}

#[tokio::test]
async fn a_will_is_published_unless_the_client_says_goodbye() {
    let mut house = House::open(config());
    let mut client = house.client(&with_will(b"a", 30, 0, 0)).await;
    client.send(&[0xe0, 0]).await;
    client.expect_end().await;
    house.until("connections", 0).await;
    assert!(house.offers.try_recv().is_err(), "a normal goodbye");
    let mut client = house.client(&with_will(b"a", 30, 0, 0)).await;
    client.send(&[0xe0, 1, 4]).await;
    house.offer().await;
    drop(house.client(&with_will(b"a", 30, 0, 0)).await);
    house.offer().await;
}

#[tokio::test]
async fn a_delayed_will_is_void_when_the_session_goes_on() {
    let mut house = House::open(config());
    let since = Instant::now();
    drop(house.client(&with_will(b"late", 30, 60, 3)).await);
    drop(house.client(&with_will(b"back", 30, 60, 3)).await);
    house.until("connections", 0).await;
    let (_back, present) = session_present(&house, &with_will(b"back", 30, 60, 3)).await;
    assert!(present);
    let will = house.offer().await;
    assert_eq!(&will.record.publisher[..], b"late");
    assert!(since.elapsed() >= Duration::from_secs(3));
    // The session's end comes before a longer delay.
    drop(house.client(&with_will(b"short", 30, 0, 3600)).await);
    assert_eq!(&house.offer().await.record.publisher[..], b"short");
}

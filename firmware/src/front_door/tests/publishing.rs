//! The way of a publish: acknowledged after its commit, in order, in batches, under back-pressure.

use std::time::Duration;

use shared::action::Answer;
use shared::ids::Class;
use shared::limits::{DOOR_IN_FLIGHT_MAX, PAYLOAD_BYTES_MAX, TOPIC_BYTES_MAX};
use shared::record::{Key, RecordRefusal};

use super::*;

#[tokio::test]
async fn qos_1_is_acknowledged_after_its_commit() {
    let mut house = House::open(config());
    let mut client = house.client(&connect3(b"loop-7", true, 30)).await;
    client.send(&publish3(1, false, 9, b"alarm/7", b"on")).await;
    let offer = house.offer().await;
    let record = &offer.record;
    assert_eq!(
        (&record.publisher[..], &record.topic[..], &record.payload[..]),
        (&b"loop-7"[..], &b"alarm/7"[..], &b"on"[..])
    );
    assert_eq!((record.class, record.key), (Class::Alarm, Key::delivery(b"loop-7", b"alarm/7", b"on", 9, false)));
    assert!(record.taken.0 > 1_600_000_000_000);
    client.expect_silence().await;
    house.commit(&[offer]);
    client.expect(&[0x40, 2, 0, 9]).await;
}

#[tokio::test]
async fn qos_2_is_received_after_its_commit_and_taken_once() {
    let mut house = House::open(config());
    let mut client = house.client(&connect5(b"a", true, 30, &[])).await;
    let publish = |dup| publish5(2, dup, 3, b"t", &user(b"seq", b"77"), b"on");
    client.send(&publish(false)).await;
    let offer = house.offer().await;
    assert_eq!(offer.record.key, Key::Sequence { epoch: 0, seq: 77 });
    client.send(&publish(true)).await;
    client.send(&[0xc0, 0]).await;
    client.expect(&[0xd0, 0]).await;
    house.commit(&[offer]);
    client.expect(&[0x50, 2, 0, 3]).await;
    // PUBREC was lost: the sender tries again, and no second record comes of it.
    client.send(&publish(true)).await;
    client.expect(&[0x50, 2, 0, 3]).await;
    client.send(&[0x62, 2, 0, 3]).await;
    client.expect(&[0x70, 2, 0, 3]).await;
    client.send(&[0x62, 2, 0, 3]).await;
    client.expect(&[0x70, 3, 0, 3, 0x92]).await;
    assert_eq!(house.count("redelivered"), 2);
    client.send(&publish(false)).await;
    house.offer().await;
}

#[tokio::test]
async fn qos_0_is_offered_without_a_ticket() {
    let mut house = House::open(config());
    let mut client = house.client(&connect3(b"a", true, 30)).await;
    client.send(&[publish3(0, false, 0, b"t", b"x"), vec![0xe0, 0]].concat()).await;
    assert_eq!(house.offer().await.ticket, None);
    client.expect_end().await;
    assert_eq!(house.answers.counters().of("publishes", "0"), 1);
}

#[tokio::test]
async fn a_pipeline_commits_together_and_is_acknowledged_in_order() {
    let mut house = House::open(config());
    let mut client = house.client(&connect3(b"a", true, 30)).await;
    let pipeline: Vec<u8> = (1..=1000)
        .flat_map(|id| publish3(1, false, id, b"t", &id.to_be_bytes()))
        .collect();
    client.send(&pipeline).await;
    // Every publish reaches the node although not one was answered: no acknowledgement is waited for in between.
    let offers = house.offers(1000).await;
    assert!(house.count("batches") < 100, "in few batches, not {}", house.count("batches"));
    client.expect_silence().await;
    // Answered late, in batches, and the later ones first.
    for part in offers.chunks(300).rev() {
        house.commit(part);
    }
    for id in 1..=1000_u16 {
        let [high, low] = id.to_be_bytes();
        client.expect(&[0x40, 2, high, low]).await;
    }
}

#[tokio::test]
async fn back_pressure_leaves_the_socket_unread_and_answers_pings_before() {
    let mut house = House::with_batches(config(), 1);
    let mut client = house.client(&connect5(b"a", true, 30, &[])).await;
    client
        .send(&[publish5(0, false, 0, b"t", &[], b"first"), vec![0xc0, 0]].concat())
        .await;
    client.expect(&[0xd0, 0]).await;
    client
        .send(&[publish5(0, false, 0, b"t", &[], b"waits"), vec![0xc0, 0]].concat())
        .await;
    client.expect(&[0xd0, 0]).await;
    // The node takes nothing: what the door takes in is bounded.
    let big = publish5(0, false, 0, b"t", &[], &[7; 60_000]);
    let mut sent = 0;
    while timeout(Duration::from_secs(1), client.stream.write_all(&big)).await.is_ok() {
        sent += 1;
        assert!(sent < 2000, "the door takes in without end");
    }
    let held = house.count("held_bytes");
    assert!(held < 400_000, "{held} bytes held for one connection");
    assert_eq!(house.batch().await[0].record.payload, "first");
    let rest = house.batch().await;
    assert_eq!(rest[0].record.payload, "waits");
    assert!(rest.len() > 1 && rest.len() < 10, "{} in a batch", rest.len());
}

#[tokio::test]
async fn the_announced_receive_maximum_is_enforced() {
    let mut house = House::open(config());
    let mut client = house.dial().await;
    client.send(&connect5(b"a", true, 30, &[])).await;
    let connack = client.packet().await;
    let [high, low] = (DOOR_IN_FLIGHT_MAX as u16).to_be_bytes();
    assert!(connack.windows(3).any(|part| part == [0x21, high, low]), "announced: {connack:x?}");
    let count = DOOR_IN_FLIGHT_MAX as u16;
    let all: Vec<u8> = (1..=count)
        .flat_map(|id| publish5(2, false, id, b"t", &[], &id.to_be_bytes()))
        .collect();
    client.send(&all).await;
    let offers = house.offers(usize::from(count)).await;
    client.send(&[0xc0, 0]).await;
    client.expect(&[0xd0, 0]).await;
    // PUBREC alone does not make room, PUBCOMP does.
    house.commit(&offers[..1]);
    client.expect(&[0x50, 2, 0, 1]).await;
    client.send(&[0x62, 2, 0, 1]).await;
    client.expect(&[0x70, 2, 0, 1]).await;
    client.send(&publish5(2, false, 1, b"t", &[], b"again")).await;
    house.offer().await;
    client.send(&publish5(1, false, count + 1, b"t", &[], b"one too many")).await;
    client.expect(&[0xe0, 1, 0x93]).await;
    client.expect_end().await;
}

#[tokio::test]
async fn an_old_client_past_the_maximum_is_not_read() {
    let mut house = House::open(config());
    let mut client = house.client(&connect3(b"a", true, 1)).await;
    let count = DOOR_IN_FLIGHT_MAX as u16;
    let all: Vec<u8> = (1..=count + 5)
        .flat_map(|id| publish3(1, false, id, b"t", &id.to_be_bytes()))
        .collect();
    client.send(&all).await;
    let offers = house.offers(usize::from(count)).await;
    assert_eq!(offers.len(), usize::from(count));
    // It says nothing for longer than its keep-alive, because it is not heard.
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert!(house.offers.try_recv().is_err());
    house.commit(&offers);
    assert_eq!(house.offers(5).await.len(), 5);
}

#[tokio::test]
async fn refusals_have_words_in_mqtt_5() {
    let mut house = House::open(config());
    let mut client = house.client(&connect5(b"a", true, 30, &[])).await;
    let long = vec![b'x'; TOPIC_BYTES_MAX + 1];
    client.send(&publish5(1, false, 1, &long, &[], b"x")).await;
    client.expect(&[0x40, 3, 0, 1, 0x90]).await;
    client
        .send(&publish5(2, false, 2, b"t", &[], &vec![0; PAYLOAD_BYTES_MAX + 1]))
        .await;
    client.expect(&[0x50, 3, 0, 2, 0x97]).await;
    client.send(&publish5(1, false, 3, b"t", &[1, 1], b"\xff")).await;
    client.expect(&[0x40, 3, 0, 3, 0x99]).await;
    client
        .send(&publish5(1, false, 4, b"t", &[], &vec![0; PAYLOAD_BYTES_MAX]))
        .await;
    let offer = house.offer().await;
    house
        .answers
        .deliver(&[(offer.ticket.unwrap(), Answer::Refused(RecordRefusal::Topic))]);
    client.expect(&[0x40, 3, 0, 4, 0x90]).await;
    assert_eq!(house.count("acknowledged"), 0);
}

#[tokio::test]
async fn refusals_close_an_old_connection_after_what_is_due() {
    let mut house = House::open(config());
    let mut client = house.client(&connect3(b"a", true, 30)).await;
    client.send(&publish3(1, false, 1, b"t", b"good")).await;
    let offer = house.offer().await;
    client.send(&publish3(1, false, 2, &[b'x'; TOPIC_BYTES_MAX + 1], b"bad")).await;
    client.expect_silence().await;
    house.commit(&[offer]);
    client.expect(&[0x40, 2, 0, 1]).await;
    client.expect_end().await;
}

#[tokio::test]
async fn topic_aliases_stand_for_topics() {
    let mut house = House::open(config());
    let mut client = house.client(&connect5(b"a", true, 30, &[])).await;
    client.send(&publish5(0, false, 0, b"bulk/long", &[0x23, 0, 16], b"1")).await;
    client.send(&publish5(0, false, 0, b"", &[0x23, 0, 16], b"2")).await;
    let offers = house.offers(2).await;
    assert_eq!((offers[1].record.topic.as_ref(), offers[1].record.class), (&b"bulk/long"[..], Class::Bulk));
    client.send(&publish5(0, false, 0, b"", &[0x23, 0, 3], b"3")).await;
    client.expect(&[0xe0, 1, 0x94]).await;
    for alias in [17, 0] {
        let mut client = house.client(&connect5(b"b", true, 30, &[])).await;
        client.send(&publish5(0, false, 0, b"t", &[0x23, 0, alias], b"")).await;
        let said = client.packet().await;
        assert!(matches!(said[..], [0xe0, 1, 0x94 | 0x82]), "{said:x?}");
    }
}

#[tokio::test]
async fn subscriptions_are_refused_in_the_protocols_words() {
    let house = House::open(config());
    let mut old = house.client(&connect3(b"a", true, 30)).await;
    old.send(&packet(0x82, &[&[0, 5], &text(b"a/#"), &[1], &text(b"b"), &[0]]))
        .await;
    old.expect(&[0x90, 4, 0, 5, 0x80, 0x80]).await;
    old.send(&packet(0xa2, &[&[0, 6], &text(b"b")])).await;
    old.expect(&[0xb0, 2, 0, 6]).await;
    let mut new = house.client(&connect5(b"b", true, 30, &[])).await;
    new.send(&packet(0x82, &[&[0, 5], &[0], &text(b"a/#"), &[1]])).await;
    let suback = new.packet().await;
    assert_eq!((suback[0], &suback[2..4], suback.last()), (0x90, &[0, 5][..], Some(&0x80)));
    assert!(suback.windows(9).any(|part| part == b"publishes"), "{}", suback.escape_ascii());
    new.send(&packet(0xa2, &[&[0, 6], &[0], &text(b"b")])).await;
    let unsuback = new.packet().await;
    assert_eq!((unsuback[0], unsuback.last()), (0xb0, Some(&0x11)));
    // Request Problem Information 0: no reason in words. Maximum Packet Size: none that does not fit.
    for properties in [&[0x17, 0][..], &[0x27, 0, 0, 0, 40]] {
        let mut terse = house.dial().await;
        terse.send(&connect5(b"c", true, 30, properties)).await;
        terse.packet().await;
        terse.send(&packet(0x82, &[&[0, 5], &[0], &text(b"a"), &[1]])).await;
        terse.expect(&[0x90, 4, 0, 5, 0, 0x80]).await;
    }
}

#[tokio::test]
async fn a_stop_is_told_and_empties_the_channel() {
    let mut house = House::open(config());
    let mut client = house.client(&connect5(b"a", true, 30, &[])).await;
    let mut silent = house.dial().await;
    client.send(&publish5(0, false, 0, b"t", &[], b"last")).await;
    house.offer().await;
    house.stop.send(true).unwrap();
    client.expect(&[0xe0, 1, 0x8b]).await;
    client.expect_end().await;
    drop(client);
    silent.expect_end().await;
    let ended = timeout(LONG, house.offers.recv()).await.unwrap();
    assert!(ended.is_none(), "nobody offers any more");
}

#[tokio::test]
async fn what_was_answered_before_the_stop_is_said_before_the_end() {
    let mut house = House::open(config());
    let mut client = house.client(&connect5(b"a", true, 30, &[])).await;
    client.send(&publish5(1, false, 1, b"t", &[], b"x")).await;
    let offer = house.offer().await;
    house.commit(&[offer]);
    house.stop.send(true).unwrap();
    client.expect(&[0x40, 2, 0, 1]).await;
    client.expect(&[0xe0, 1, 0x8b]).await;
}

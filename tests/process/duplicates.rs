//! A reading that is sent again through another board, told apart by each of the three kinds of key.

use std::time::Duration;

use crate::mqtt::{Publish, Publisher, Version};
use crate::site::Site;
use crate::{store, until};

/// Sends `publishes` in turn, each through its board, each acknowledged.
fn publish_all(site: &Site, client: &str, version: Version, publishes: &[(usize, Publish<'_>)]) {
    for (board, publish) in publishes {
        let mut publisher = Publisher::connect(site.mqtt(*board), client, version).unwrap();
        publisher.publish(publish).unwrap();
    }
}

/// Payloads of the rows of `client`, sorted.
fn stored(site: &Site, client: &str) -> Vec<String> {
    let rows = store::rows(&site.data_dir());
    let own = rows.into_iter().filter(|row| row.publisher == client);
    let mut payloads: Vec<String> = own.map(|row| String::from_utf8(row.payload).unwrap()).collect();
    payloads.sort_unstable();
    payloads
}

/// Each key once merges what is one reading and once keeps apart what is two.
///
/// Broken to see it fail: the property `seq` left out; a `ts` of its own in each copy; the DUP mark left out.
#[test]
fn a_reading_sent_again_through_another_board_is_one_row() {
    let site = Site::start(3);
    let plain = |payload: &'static str| Publish {
        topic: "detector/1",
        payload: payload.as_bytes(),
        packet: 7,
        dup: false,
        seq: None,
    };
    let counted = |payload, seq| Publish { seq: Some(seq), ..plain(payload) };
    let readings = [
        (1, counted("first", 1)),
        (2, counted("first", 1)),
        (3, counted("first", 1)),
        (1, counted("next", 2)),
    ];
    publish_all(&site, "counts", Version::V5, &readings);
    let (early, late) = (r#"{"ts":"2024-05-01T10:00:00Z","v":1}"#, r#"{"ts":"2024-05-01T10:00:01Z","v":1}"#);
    publish_all(&site, "dates", Version::V3, &[(1, plain(early)), (3, plain(early)), (2, plain(late))]);
    let again = Publish { dup: true, ..plain("on") };
    // The third is a new reading that merely looks like the first.
    publish_all(&site, "marks", Version::V3, &[(1, plain("on")), (2, again), (1, plain("on"))]);
    let all = until(Duration::from_secs(30), || {
        let (rows, duplicates) = store::seen(&site.data_dir());
        rows + duplicates == 10
    });
    assert!(all, "not every reading came: {:?}\n{}", store::seen(&site.data_dir()), site.tails());
    assert_eq!(stored(&site, "counts"), ["first", "next"]);
    assert_eq!(stored(&site, "dates"), [early, late]);
    assert_eq!(stored(&site, "marks"), ["on", "on"]);
    assert_eq!(store::seen(&site.data_dir()), (6, 4));
}

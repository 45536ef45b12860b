//! Who a publish is from, what it is worth and what makes it one row, derived from what the publish says and from
//! nothing else: every board derives the same, so a reading sent again through another board keeps its key.
//!
//! A key may only merge what is one reading. Where a publish says nothing that tells two readings apart, the key is
//! [`Key::Delivery`], which merges two arrivals only if one of them was marked as sent again.

use crate::ids::Class;
use crate::limits::{CONTENT_SCAN_BYTES_MAX, PUBLISHER_BYTES_MAX};
use crate::record::Key;

/// What a publish says about itself beyond topic and payload: MQTT 5 user properties, by name. Absent in MQTT 3.1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// `class`: `alarm`, `event` or `bulk`. Another word counts as absent.
    pub class: Option<&'a str>,
    /// `publisher`: replaces the client identifier; 1 to [`PUBLISHER_BYTES_MAX`] bytes, else it counts as absent.
    pub publisher: Option<&'a str>,
    /// `seq`: the publisher's own number, decimal, unsigned 64 bit, never used twice in one epoch.
    pub seq: Option<&'a str>,
    /// `epoch`: which life of the publisher counts, decimal, unsigned 64 bit; absent: 0.
    pub epoch: Option<&'a str>,
    /// `ts`: when the sensor took the reading, in its own words; never the same for two readings with equal payload.
    pub ts: Option<&'a str>,
}

/// A publish, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// The client's identifier.
    pub client: &'a str,
    /// Where it was published.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// MQTT packet identifier; 0 for QoS 0.
    pub packet: u16,
    /// Whether the client marked it as sent again (MQTT's DUP).
    pub resent: bool,
    /// What its properties say.
    pub said: Said<'a>,
}

/// What [`derive()`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// How much the record matters.
    pub class: Class,
    /// Who sent it.
    pub publisher: &'a str,
    /// What makes it one row.
    pub key: Key,
}

/// Derives class, publisher and key.
///
/// * class: the property `class`, else the topic's first level where it is `alarm` or `bulk`, else `event`.
/// * key: the property `seq` (with `epoch`); else the content's digest where the property `ts` is there or the payload
///   carries the sensor's own time or number (see [`tells_readings_apart`]); else the delivery's digest. A `seq` or
///   `epoch` that is no number counts as not there: a wrong number could merge two readings.
pub fn derive<'a>(publish: &Publish<'a>) -> Identity<'a> {
    let said = &publish.said;
    let publisher = said
        .publisher
        .filter(|name| (1..=PUBLISHER_BYTES_MAX).contains(&name.len()))
        .unwrap_or(publish.client);
    let class = said.class.and_then(Class::parse).unwrap_or_else(|| class_of(publish.topic));
    Identity { class, publisher, key: key_of(publish, publisher) }
}

fn class_of(topic: &str) -> Class {
    match topic.split('/').next() {
        Some("alarm") => Class::Alarm,
        Some("bulk") => Class::Bulk,
        _ => Class::Event,
    }
}

fn key_of(publish: &Publish<'_>, publisher: &str) -> Key {
    let said = &publish.said;
    let epoch = said.epoch.map_or(Some(0), decimal);
    if let (Some(seq), Some(epoch)) = (said.seq.and_then(decimal), epoch) {
        return Key::Sequence { epoch, seq };
    }
    let (from, topic) = (publisher.as_bytes(), publish.topic.as_bytes());
    if let Some(ts) = said.ts.filter(|ts| !ts.is_empty()) {
        // The time stands beside the payload, so it must enter the digest beside it.
        let content = Key::content(from, topic, publish.payload).bytes();
        return Key::content(&content, b"ts", ts.as_bytes());
    }
    if tells_readings_apart(publish.payload) {
        return Key::content(from, topic, publish.payload);
    }
    Key::delivery(from, topic, publish.payload, publish.packet, publish.resent)
}

/// Digits only: `+7` and ` 7` are somebody else's notation.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Members of a JSON object that carry a reading's own time or number. `id` is not one of them: in the field it names
/// the sensor at least as often as the reading, and then every repeated reading would be taken for a copy and lost.
const TELLING: [&[u8]; 4] = [b"seq", b"ts", b"time", b"timestamp"];

/// Whether `payload` carries the sensor's own time or number: a JSON object with a top-level member `seq`, `ts`, `time`
/// or `timestamp` that is a number or a non-empty string, or text that begins with an RFC 3339 date-time. Looks at the first
/// [`CONTENT_SCAN_BYTES_MAX`] bytes, allocates nothing, and takes any bytes.
pub fn tells_readings_apart(payload: &[u8]) -> bool {
    telling(payload).is_some()
}

/// The sensor's own time or number in `payload` where it [tells readings apart](tells_readings_apart), as a number that grows with it: the
/// first 18 digits, or those of a date and a time to the second. 0 where there is none, or it begins with no digit.
///
/// A region files rows by it. Once there are releases it must stay the same for the same payload in every version, and so must all that it goes by:
/// `TELLING`, what counts as telling, how members are read, and `CONTENT_SCAN_BYTES_MAX`. Else a reading that comes again is a second row.
pub fn own_number(payload: &[u8]) -> u64 {
    let value = telling(payload).unwrap_or_default();
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let (value, is_date) = match value.split_at_checked(DATE_TIME.len()) {
        Some((stamp, _)) if is_date_time(stamp) => (stamp, true),
        _ => (value, false),
    };
    let digits = value
        .iter()
        .filter(|byte| !is_date || byte.is_ascii_digit())
        .take_while(|byte| byte.is_ascii_digit());
    digits.take(18).fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// From the sensor's own time or number in `payload` on.
fn telling(payload: &[u8]) -> Option<&[u8]> {
    let head = &payload[..payload.len().min(CONTENT_SCAN_BYTES_MAX)];
    let text = head.trim_ascii_start();
    match text.first()? {
        b'{' => Members { rest: &text[1..] }
            .find(|(name, value)| TELLING.contains(name) && is_telling(value))
            .map(|(_, value)| value),
        byte if byte.is_ascii_digit() => begins_with_date_time(text).then_some(text),
        _ => None,
    }
}

/// A number, or a string with something in it.
fn is_telling(value: &[u8]) -> bool {
    match value {
        [b'"', first, ..] => *first != b'"',
        [b'-', digit, ..] | [digit, ..] => digit.is_ascii_digit(),
        [] => false,
    }
}

/// The top-level members of a JSON object: name and the bytes from its value on. Ends at the object's end or where the
/// bytes stop being JSON; does not judge what it need not read.
struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, after) = string(self.rest.trim_ascii_start())?;
        let value = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        self.rest = past_value(value).unwrap_or_default();
        Some((name, value))
    }
}

/// Splits a JSON string off the front: its raw content and what follows.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let body = bytes.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        match body.get(at)? {
            b'"' => return Some((&body[..at], &body[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// What follows the comma after the value at the front of `bytes`; `None` at the object's end. Depth is counted, not
/// nested in calls.
fn past_value(bytes: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_u32;
    let mut rest = bytes;
    loop {
        match rest.first()? {
            b'"' => {
                rest = string(rest)?.1;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => return Some(&rest[1..]),
            _ => {}
        }
        rest = &rest[1..];
    }
}

/// The shape of a date and a time: `d` stands for a digit, `T` for that, `t` or a space.
const DATE_TIME: &[u8] = b"dddd-dd-ddTdd:dd:dd";

/// Whether `stamp`, as long as [`DATE_TIME`], has that shape.
fn is_date_time(stamp: &[u8]) -> bool {
    stamp.iter().zip(DATE_TIME).all(|(byte, shape)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        _ => byte == shape,
    })
}

/// RFC 3339, section 5.6: `date-time`, with `T`, `t` or the space that the section's note allows.
fn begins_with_date_time(text: &[u8]) -> bool {
    let Some((stamp, rest)) = text.split_at_checked(DATE_TIME.len()) else {
        return false;
    };
    if !is_date_time(stamp) {
        return false;
    }
    let two = |at: usize| (stamp[at] - b'0') * 10 + (stamp[at + 1] - b'0');
    let in_range =
        (1..=12).contains(&two(5)) && (1..=31).contains(&two(8)) && two(11) <= 23 && two(14) <= 59 && two(17) <= 60;
    in_range && begins_with_offset(past_fraction(rest))
}

fn past_fraction(bytes: &[u8]) -> &[u8] {
    let Some(digits) = bytes.strip_prefix(b".") else { return bytes };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    &digits[count..]
}

fn begins_with_offset(bytes: &[u8]) -> bool {
    match bytes {
        [b'Z' | b'z', ..] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2, ..] => [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const PLAIN: Publish<'static> = Publish {
        client: "loop-7",
        topic: "det/7",
        payload: b"on",
        packet: 3,
        resent: false,
        said: Said { class: None, publisher: None, seq: None, epoch: None, ts: None },
    };

    fn key(said: Said<'static>, payload: &'static [u8]) -> Key {
        derive(&Publish { said, payload, ..PLAIN }).key
    }

    #[test]
    fn what_says_nothing_is_keyed_by_its_delivery() {
        let first = derive(&PLAIN);
        assert_eq!((first.class, first.publisher), (Class::Event, "loop-7"));
        assert_eq!(first.key, Key::delivery(b"loop-7", b"det/7", b"on", 3, false));
        let again = derive(&Publish { resent: true, ..PLAIN });
        assert_eq!(again.key.bytes(), first.key.bytes());
        assert_ne!(again.key, first.key);
    }

    #[test]
    fn a_number_of_its_own_is_the_strongest_key() {
        let said = Said { seq: Some("18446744073709551615"), epoch: Some("2"), ts: Some("x"), ..Said::default() };
        assert_eq!(key(said, b"{\"ts\":1}"), Key::Sequence { epoch: 2, seq: u64::MAX });
        let said = Said { seq: Some("7"), ..Said::default() };
        assert_eq!(key(said, b"on"), Key::Sequence { epoch: 0, seq: 7 });
    }

    #[test]
    fn a_number_that_is_none_counts_as_absent() {
        for seq in ["", "+7", " 7", "-7", "0x7", "18446744073709551616", "seven"] {
            assert_eq!(key(Said { seq: Some(seq), ..Said::default() }, b"on").kind(), 2, "{seq:?}");
        }
        let said = Said { seq: Some("7"), epoch: Some("boot"), ..Said::default() };
        assert_eq!(key(said, b"on").kind(), 2);
    }

    #[test]
    fn a_number_of_its_own_grows_with_the_sensors_time() {
        let cases: [(&[u8], u64); 15] = [
            (b"{\"ts\":1760000000123,\"v\":1}", 1_760_000_000_123),
            (b"{\"v\":1,\"seq\": 7}", 7),
            (b"{\"time\":1760000000.25}", 1_760_000_000),
            (b"{\"timestamp\":\"2026-11-25T06:13:01.5Z\"}", 20_261_125_061_301),
            (b"2026-11-25 06:13:01+01:00;3", 20_261_125_061_301),
            (b"{\"ts\":\"2026-11-25T06:13:01\"}", 20_261_125_061_301),
            (b"{\"ts\":\"2026-11-25T06:13:01.5-07:00\"}", 20_261_125_061_301),
            (b"{\"ts\":\"2026-11-25\"}", 2026),
            (b"{\"ts\":12345678901234567890}", 123_456_789_012_345_678),
            (b"{\"ts\":\"17-3\"}", 17),
            (b"{\"ts\":\"monday\"}", 0),
            (b"{\"ts\":-5}", 0),
            (b"{\"ts\":\"\",\"seq\":4}", 4),
            (b"on", 0),
            (b"", 0),
        ];
        for (payload, number) in cases {
            assert_eq!(own_number(payload), number, "{}", payload.escape_ascii());
        }
    }

    /// What is seen of a payload decides where its row is filed.
    #[test]
    fn a_number_of_its_own_is_seen_up_to_the_bound_of_the_scan() {
        let with = |padding: usize| [&b"{\"x\":\""[..], &alloc::vec![b'x'; padding], b"\",\"ts\":12345}"].concat();
        let head = b"{\"x\":\"\",\"ts\":".len();
        for (beyond, number) in [(0, 0), (1, 1), (3, 123), (5, 12345)] {
            assert_eq!(own_number(&with(CONTENT_SCAN_BYTES_MAX - head - beyond)), number, "{beyond}");
        }
    }

    #[test]
    fn a_time_beside_the_payload_tells_equal_payloads_apart() {
        let at = |ts| key(Said { ts: Some(ts), ..Said::default() }, b"on");
        assert_eq!(at("1").kind(), 1);
        assert_ne!(at("1"), at("2"));
        assert_eq!(at("1"), at("1"));
        assert_eq!(at("").kind(), 2);
        let resent = Publish { resent: true, packet: 9, said: Said { ts: Some("1"), ..Said::default() }, ..PLAIN };
        assert_eq!(derive(&resent).key, at("1"), "whatever packet carried it");
    }

    #[test]
    fn the_publisher_may_name_itself() {
        let named = |name| derive(&Publish { said: Said { publisher: Some(name), ..Said::default() }, ..PLAIN });
        assert_eq!(named("radar-2").publisher, "radar-2");
        assert_eq!(named("").publisher, "loop-7");
        let long = "x".repeat(PUBLISHER_BYTES_MAX);
        let said = Said { publisher: Some(&long), ..Said::default() };
        assert_eq!(derive(&Publish { said, ..PLAIN }).publisher, long);
        let longer = "x".repeat(PUBLISHER_BYTES_MAX + 1);
        let said = Said { publisher: Some(&longer), ..Said::default() };
        assert_eq!(derive(&Publish { said, ..PLAIN }).publisher, "loop-7");
    }

    #[test]
    fn the_class_is_said_or_stands_in_the_topic() {
        let class = |topic, class| derive(&Publish { topic, said: Said { class, ..Said::default() }, ..PLAIN }).class;
        assert_eq!(class("alarm/cabinet", None), Class::Alarm);
        assert_eq!(class("bulk", None), Class::Bulk);
        assert_eq!(class("alarms/x", None), Class::Event);
        assert_eq!(class("/alarm", None), Class::Event);
        assert_eq!(class("alarm/x", Some("bulk")), Class::Bulk);
        assert_eq!(class("alarm/x", Some("urgent")), Class::Alarm);
    }

    #[test]
    fn payloads_that_tell_readings_apart() {
        for payload in [
            &b"{\"seq\":1}"[..],
            b" {\"a\":{\"b\":[1,2,\"},\"]},\"ts\":-1.5}",
            b"{\"time\":\"x\"",
            b"{\"n\":\"a\\\"b\",\n \"timestamp\" : 12 }",
            b"2026-01-31T23:59:60Z loop 7 on",
            b"2026-01-31 00:00:00.125+01:00,7",
        ] {
            assert!(tells_readings_apart(payload), "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn payloads_that_do_not() {
        for payload in [
            &b""[..],
            b"{",
            b"{}",
            b"[{\"ts\":1}]",
            b"{\"v\":{\"ts\":1}}",
            b"{\"v\":\"ts\"}",
            b"{\"v\":\"\\\",\\\"ts\\\":1\"}",
            b"{\"ts\":null}",
            b"{\"ts\":\"\"}",
            b"{\"id\":\"loop-7\",\"on\":1}",
            b"{}{\"ts\":1}",
            b"{\"a\":1]},\"ts\":1}",
            b"2026-01-31",
            b"2026-01-31T23:59:59",
            b"2026-13-31T23:59:59Z",
            b"2026-01-31T24:59:59Z",
            b"2026/01/31T23:59:59Z",
            b"2026-01-31T23:59:59.Q",
        ] {
            assert!(!tells_readings_apart(payload), "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn the_scan_stops_at_its_bound() {
        let with_member_at = |at: usize| {
            let mut payload = b"{\"".to_vec();
            payload.resize(at - 4, b'x');
            payload.extend_from_slice(b"\":1,\"ts\":2}");
            payload
        };
        assert!(tells_readings_apart(&with_member_at(CONTENT_SCAN_BYTES_MAX - 10)));
        assert!(!tells_readings_apart(&with_member_at(CONTENT_SCAN_BYTES_MAX)));
    }

    #[test]
    fn no_bytes_panic() {
        // Every string over an alphabet of what the scanners branch on, up to six bytes, behind each beginning.
        const ALPHABET: &[u8] = b"{}[]\":,\\t1- \xff";
        let mut found = 0_u32;
        for length in 0..=5_u32 {
            for number in 0..ALPHABET.len().pow(length) {
                let mut payload: Vec<u8> = b"{\"ts\":".to_vec();
                let mut left = number;
                for _ in 0..length {
                    payload.push(ALPHABET[left % ALPHABET.len()]);
                    left /= ALPHABET.len();
                }
                found += u32::from(tells_readings_apart(&payload));
                found += u32::from(tells_readings_apart(&payload[1..]));
            }
        }
        assert!(found > 0);
        let stamp = b"2026-01-31T23:59:59.125+01:00";
        for cut in 0..stamp.len() {
            for byte in 0..=255 {
                let mut broken = stamp.to_vec();
                broken[cut] = byte;
                tells_readings_apart(&broken);
                tells_readings_apart(&broken[..cut]);
            }
        }
    }
}

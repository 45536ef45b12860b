//! Columns against bytes of every kind: what is packed comes back bit for bit, and what comes from outside is read or refused.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::bits::Torn;
use super::columns::{pack, unpack};
use crate::limits::{
    BLOCK_RAW_BYTES_MAX, COLUMN_BINARY_BYTES_MAX, COLUMN_PAYLOAD_BYTES_MAX, COLUMN_SLOTS_MAX, COLUMN_WORD_BYTES_MAX,
    PAYLOAD_BYTES_MAX, PUBLISHER_BYTES_MAX, RUN_BYTES_MAX, RUN_RECORDS_MAX, TOPIC_BYTES_MAX,
};
use crate::record::{Key, Kind, Reading};
use crate::time::WallMillis;

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.roll() % most as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Small as a rule, and of any length now and then.
    fn number(&mut self) -> u64 {
        let shift = self.pick(&[63, 60, 56, 48, 32, 8, 1, 0]);
        self.roll() >> shift
    }
}

/// Of publisher, topic and payload.
fn reading<'a>(seq: u64, from: &'a str, topic: &'a str, payload: &'a [u8]) -> Reading<'a> {
    let key = Key::Sequence { epoch: 0, seq };
    Reading {
        kind: Kind::Reading,
        publisher: from,
        key,
        taken: WallMillis(1_760_000_000_000 + seq),
        topic,
        payload,
    }
}

fn of_payloads(payloads: &[Vec<u8>]) -> (Vec<u8>, u32) {
    let mut raw = Vec::new();
    for (seq, payload) in payloads.iter().enumerate() {
        reading(seq as u64, "loop-7", "det/7", payload).encode(&mut raw);
    }
    (raw, payloads.len() as u32)
}

/// Packed and back; how long the body is, where there is one.
#[track_caller]
fn returns(raw: &[u8], count: u32) -> Option<usize> {
    let body = pack(raw, count)?;
    assert!(body.len() < raw.len());
    assert!(unpack(&body, count, raw.len()).as_deref() == Ok(raw), "{count} records of {} bytes", raw.len());
    Some(body.len())
}

/// Text with numbers of every notation, of which some stay and some change.
fn notation(dice: &mut Dice) -> String {
    let number = dice.number();
    match dice.below(22) {
        0 => format!("{number}"),
        1 => format!("-{number}"),
        2 => format!("{:05}", number % 1_000_000),
        3 => format!("{}.{:02}", number % 1000, dice.below(100)),
        4 => format!("{}.{}", number % 100, dice.below(1000)),
        5 => format!("-{}.{:03}", number % 3, dice.below(12)),
        6 => dice
            .pick(&["-0", "0", "00", "-0.0", "0.0", "0.", ".5", "-", "--1", "1-2", "+7", "1..2"])
            .to_string(),
        7 => format!("{}e{}", number % 10, dice.pick(&["5", "-5", "+05", "", "-"])),
        8 => format!("{number}{number}{number}"),
        9 => "9".repeat(dice.below(60)),
        10 => format!("2026-{:02}-{:02}T{:02}:{:02}:{:02}Z", dice.below(12), dice.below(31), 5, dice.below(60), 7),
        11 => format!("{:x}", dice.roll()),
        12 => dice
            .pick(&["true", "false", "null", "\"car\"", "\"hgv\"", "\"a_b\"", "\"x-y\"", "\"\""])
            .to_string(),
        13 => format!("\"{}\"", "w".repeat(dice.below(COLUMN_WORD_BYTES_MAX + 3))),
        14 => format!("10.{}.0.{}", dice.below(256), dice.below(256)),
        15 => format!("\"Grüße {}\"", dice.below(9)),
        16 => format!("{}.{}", "1".repeat(dice.below(19) + 1), "2".repeat(dice.below(19))),
        17 => format!("{}", i64::MAX),
        18 => format!("{}", u64::MAX),
        19 => format!("[{},{}]", dice.below(3), dice.below(3)),
        20 => "\u{0}".repeat(dice.below(3)),
        _ => String::new(),
    }
}

fn payload(dice: &mut Dice, pattern: &str) -> Vec<u8> {
    let mut text = String::new();
    for letter in pattern.chars() {
        match letter {
            '#' => text.push_str(&notation(dice)),
            '~' => text.push_str(&format!("{}", dice.below(1000))),
            letter => text.push(letter),
        }
    }
    text.into_bytes()
}

/// One payload of some kind; `kind` is kept for some records, so that templates are met again.
fn anything(dice: &mut Dice, kind: usize) -> Vec<u8> {
    match kind {
        0 => payload(dice, "{\"a\":#,\"b\": #,\"c\":\"#\"}"),
        1 => payload(dice, "{\"lane\":~,\"v\":~.~,\"s\":\"#\",\"t\":~}"),
        2 => payload(dice, "#"),
        3 => payload(dice, "~ ~ ~"),
        4 => Vec::new(),
        5 => (0..dice.below(40)).map(|_| dice.roll() as u8).collect(),
        6 => (0..24).map(|nth| if nth < 20 { nth } else { dice.roll() as u8 }).collect(),
        7 => {
            let mut bytes = Vec::new();
            (0..6).for_each(|_| super::model::write_leb128(dice.number(), &mut bytes));
            bytes
        }
        // LEB128 as nobody writes it: zeros at the end, and too long.
        8 => dice.pick(&[&[0x80, 0][..], &[0xff; 11], &[1, 0x80], &[0x80, 0x80, 1]]).to_vec(),
        9 => vec![0xff; dice.below(COLUMN_BINARY_BYTES_MAX + 3)],
        10 => payload(dice, "~").repeat(dice.below(COLUMN_SLOTS_MAX + 3)),
        11 => payload(dice, ",~").repeat(dice.below(COLUMN_SLOTS_MAX + 3)),
        _ => vec![b'x'; dice.below(COLUMN_PAYLOAD_BYTES_MAX + 3)],
    }
}

fn any_key(dice: &mut Dice, seq: u64, publisher: &str, topic: &str, payload: &[u8]) -> Key {
    let mut digest = [0; 16];
    digest.iter_mut().for_each(|byte| *byte = dice.roll() as u8);
    match dice.below(6) {
        0 => Key::Content(digest),
        1 => Key::Delivery { digest, resent: dice.below(2) == 0 },
        2 => Key::Sequence { epoch: dice.number(), seq: dice.number() },
        3 => Key::Sequence { epoch: 1, seq },
        _ => Key::content(publisher.as_bytes(), topic.as_bytes(), payload),
    }
}

/// Runs of records of every shape, key and name, by seed.
#[test]
fn records_of_every_shape_come_back_bit_for_bit() {
    let mut packed = 0;
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let sources = 1 + dice.below(6);
        let names: Vec<(String, String)> = (0..sources)
            .map(|nth| (format!("p{}", "é".repeat(dice.below(3))), payload(&mut dice, "a/#:\"b~/"), nth))
            .map(|(publisher, topic, nth)| (format!("{publisher}{nth}"), String::from_utf8(topic).unwrap()))
            .collect();
        let mut kinds: Vec<usize> = (0..sources).map(|_| dice.below(13)).collect();
        let (mut raw, mut count) = (Vec::new(), 0);
        for seq in 0..1 + dice.below(300) as u64 {
            let source = dice.below(sources);
            if dice.below(20) == 0 {
                kinds[source] = dice.below(13);
            }
            let (publisher, topic) = &names[source];
            let payload = anything(&mut dice, kinds[source]);
            let key = any_key(&mut dice, seq, publisher, topic, &payload);
            let kind = if dice.below(30) == 0 { Kind::Gap } else { Kind::Reading };
            let taken = WallMillis(if dice.below(9) == 0 { dice.number() } else { seq });
            let record = Reading { kind, publisher, key, taken, topic, payload: &payload };
            if raw.len() + payload.len() + 2048 > RUN_BYTES_MAX {
                break;
            }
            record.encode(&mut raw);
            count += 1;
        }
        packed += usize::from(returns(&raw, count).is_some());
    }
    assert!(packed > 300, "{packed} of 400 were packed");
}

/// Each notation alone, in a place that had another one before.
#[test]
fn every_notation_of_a_number_comes_back_as_it_stood() {
    let words = [
        "0",
        "-0",
        "00",
        "007",
        "7",
        "-7",
        "--7",
        "1.50",
        "1.5",
        "1.",
        ".5",
        "-.5",
        "-0.5",
        "0.000",
        "1e9",
        "1E-9",
        "1.5e+3",
        "999999999999999999",
        "9999999999999999999",
        "18446744073709551616",
        "0.999999999999999999",
        "1.2.3",
        "1-2",
        "0x1F",
        "१२",
        "-9223372036854775808",
        "12:05:07",
        "5 ",
        " 5",
        "5\n",
        "",
        "true",
        "trueish",
        "NaN",
        "1,5",
        "١",
    ];
    for first in words {
        for second in words {
            let payloads: Vec<Vec<u8>> = [first, second, first, second, second]
                .map(|word| format!("{{\"some\":\"thing\",\"value\":{word},\"unit\":\"km/h\"}}").into_bytes())
                .to_vec();
            let (raw, count) = of_payloads(&payloads);
            assert!(returns(&raw, count).is_some(), "{first} {second}");
        }
    }
}

#[test]
fn the_longest_and_the_most_and_the_least_come_back() {
    let long: Vec<Vec<u8>> =
        vec![vec![b'7'; PAYLOAD_BYTES_MAX], b"1".repeat(PAYLOAD_BYTES_MAX), b"2,".repeat(32 * 1024)];
    let (raw, count) = of_payloads(&long);
    assert!(returns(&raw, count).is_some());
    let most: Vec<Vec<u8>> = (0..RUN_RECORDS_MAX)
        .map(|nth| format!("{{\"n\":{nth}}}").into_bytes())
        .collect();
    let (raw, count) = of_payloads(&most);
    assert!(returns(&raw, count).unwrap() < raw.len() / 40);
    let (raw, count) = of_payloads(&[b"{\"lane\":3,\"lane\":3,\"lane\":3,\"lane\":3,\"lane\":3,\"lane\":3}".to_vec()]);
    returns(&raw, count);
    let (publisher, topic) = ("p".repeat(PUBLISHER_BYTES_MAX), "t".repeat(TOPIC_BYTES_MAX));
    let mut raw = Vec::new();
    (0..9).for_each(|seq| reading(seq, &publisher, &topic, b"on").encode(&mut raw));
    assert!(returns(&raw, 9).is_some());
    assert_eq!(pack(&[], 0), None);
    assert_eq!(pack(&[], 1), None);
}

/// A block of nothing but columns keeps to its limit and still comes back.
#[test]
fn more_columns_than_there_may_be_are_packed_as_text() {
    let mut raw = Vec::new();
    let payload: Vec<u8> = b"{\"v\":[".iter().copied().chain(b"1,2,".repeat(200)).collect();
    let mut count = 0;
    while raw.len() + 1000 < RUN_BYTES_MAX {
        let topic = format!("det/{count}");
        reading(count, "p", &topic, &payload).encode(&mut raw);
        count += 1;
    }
    assert!(returns(&raw, count as u32).is_some());
}

#[test]
fn what_is_not_records_is_not_packed() {
    let (raw, count) = of_payloads(&vec![b"on".to_vec(); 20]);
    assert!(pack(&raw, count).is_some());
    assert_eq!(pack(&raw, count - 1), None);
    assert_eq!(pack(&raw, count + 1), None);
    for cut in 1..raw.len() {
        assert_eq!(pack(&raw[..cut], count), None, "cut at {cut}");
    }
    let mut dice = Dice(7);
    let noise: Vec<u8> = (0..4096).map(|_| dice.roll() as u8).collect();
    (0..200).for_each(|count| assert!(returns(&noise, count).is_none_or(|length| length < noise.len())));
}

/// Records of six sources of different shapes, one of which has keys that are said whole.
fn sample() -> (Vec<u8>, u32) {
    let mut dice = Dice(3);
    let mut raw = Vec::new();
    for seq in 0..60 {
        let (kind, publisher) =
            dice.pick(&[(1, "loop-1"), (3, "loop-2"), (6, "box"), (7, "track"), (4, "x"), (0, "y")]);
        let payload = anything(&mut dice, kind);
        let key = if kind == 4 {
            Key::Content([7; 16])
        } else {
            Key::Sequence { epoch: 0, seq }
        };
        Reading { key, ..reading(seq, publisher, "det/7", &payload) }.encode(&mut raw);
    }
    (raw, 60)
}

/// What a body says is read or refused, never more than it says, and never with a panic.
#[test]
fn hostile_bodies_are_read_or_refused() {
    let (raw, count) = sample();
    let good = pack(&raw, count).unwrap();
    let judge = |body: &[u8]| {
        if let Ok(back) = unpack(body, count, raw.len()) {
            assert_eq!(back.len(), raw.len());
        }
    };
    for bit in 0..good.len() * 8 {
        let mut body = good.clone();
        body[bit / 8] ^= 1 << (bit % 8);
        judge(&body);
    }
    for cut in 0..good.len() {
        assert_eq!(unpack(&good[..cut], count, raw.len()), Err(Torn), "cut at {cut}");
    }
    let mut dice = Dice(9);
    for _ in 0..20_000 {
        let mut body = good.clone();
        for _ in 0..=dice.below(8) {
            let at = dice.below(body.len());
            body[at] = dice.roll() as u8;
        }
        judge(&body);
        let length = dice.below(200);
        let mut random: Vec<u8> = (0..length).map(|_| dice.roll() as u8).collect();
        random.splice(..0, [1, 0, 0]);
        judge(&random);
    }
}

#[test]
fn counts_and_lengths_that_are_not_the_bodys_are_refused() {
    let (raw, count) = sample();
    let good = pack(&raw, count).unwrap();
    for wrong in [0, 1, count - 1, count + 1, RUN_RECORDS_MAX] {
        assert_eq!(unpack(&good, wrong, raw.len()), Err(Torn), "{wrong}");
    }
    for wrong in [0, 1, raw.len() - 1, raw.len() + 1, BLOCK_RAW_BYTES_MAX] {
        assert_eq!(unpack(&good, count, wrong), Err(Torn), "{wrong}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(unpack(&longer, count, raw.len()), Err(Torn));
    let mut other = good;
    other[0] = 2;
    assert_eq!(unpack(&other, count, raw.len()), Err(Torn));
}

/// Text that would unpack to more than the records themselves is refused before room is made for it.
#[test]
fn a_text_longer_than_the_records_is_refused_unread() {
    let (raw, count) = of_payloads(&vec![b"on".to_vec(); 20]);
    let good = pack(&raw, count).unwrap();
    for length in [raw.len() as u64 + 1, BLOCK_RAW_BYTES_MAX as u64 + 1, u64::MAX] {
        let mut body = vec![1];
        super::model::write_leb128(length, &mut body);
        body.extend_from_slice(&good[2..]);
        assert_eq!(unpack(&body, count, raw.len()), Err(Torn), "{length}");
    }
}

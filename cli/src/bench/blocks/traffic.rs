//! Traffic records by seed, as the sensors and controllers of an intersection publish them. Owns what they look like; every
//! shape has noise where a road has it.

use std::fmt::Write as _;

use shared::record::{Key, Kind, Reading};
use shared::time::WallMillis;

use crate::bench::failover::dice::Dice;

/// Where the records begin in time.
const BEGAN_MS: u64 = 1_767_225_600_000;
/// What a vehicle may be, the commonest first.
const CLASSES: [&str; 8] = ["car", "car", "car", "car", "van", "truck", "bus", "bicycle"];

/// What records look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Counts, occupancy and speed of each lane's detector, once a second: JSON of some 200 bytes.
    Detector,
    /// Signal groups at each change and once a second: JSON of some 150 bytes, with a time in words.
    Signal,
    /// Each vehicle, classified by a camera: JSON of some 190 bytes, at no regular times.
    Vehicle,
    /// Frames of a radar, ten a second, eight vehicles each: JSON of some 600 bytes, told apart by their delivery alone.
    Radar,
    /// A detector's numbers as a C structure of 24 bytes.
    Packed,
    /// Tracks of cameras in 16 to 24 bytes of postcard.
    Track,
    /// Bytes that nothing is known of: 200 of them.
    Noise,
}

impl Shape {
    /// All of them.
    pub(super) const ALL: [Self; 7] =
        [Self::Detector, Self::Signal, Self::Vehicle, Self::Radar, Self::Packed, Self::Track, Self::Noise];

    /// In figures.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Detector => "detector",
            Self::Signal => "signal",
            Self::Vehicle => "vehicle",
            Self::Radar => "radar",
            Self::Packed => "packed",
            Self::Track => "track",
            Self::Noise => "noise",
        }
    }

    /// Publishers that take turns.
    const fn sources(self) -> u64 {
        match self {
            Self::Detector | Self::Packed => 48,
            Self::Signal => 12,
            Self::Vehicle => 8,
            Self::Radar => 4,
            Self::Track => 12,
            Self::Noise => 8,
        }
    }

    /// Between two records of one of them.
    const fn period_ms(self) -> u64 {
        match self {
            Self::Detector | Self::Packed | Self::Signal => 1000,
            Self::Vehicle => 2500,
            Self::Radar | Self::Track | Self::Noise => 100,
        }
    }

    const fn is_regular(self) -> bool {
        !matches!(self, Self::Vehicle)
    }
}

/// One publisher, and what it sees.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    number: u64,
    at_ms: u64,
    values: [u64; 32],
}

/// Records of one shape, one after the other.
#[derive(Debug)]
pub(super) struct Traffic {
    shape: Shape,
    dice: Dice,
    places: Vec<Place>,
    turn: usize,
}

impl Traffic {
    /// Those of a seed.
    pub(super) fn new(shape: Shape, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let place = |nth: u64| Place {
            number: dice.roll() % 1_000_000,
            at_ms: BEGAN_MS + nth * shape.period_ms() / shape.sources(),
            values: std::array::from_fn(|_| dice.roll() % 10_000),
        };
        let places = (0..shape.sources()).map(place).collect();
        Self { shape, dice, places, turn: 0 }
    }

    /// The next `count` records as journals and blocks carry them, one after the other.
    pub(super) fn encoded(&mut self, count: u32) -> Vec<u8> {
        let mut raw = Vec::new();
        (0..count).for_each(|_| self.push(&mut raw));
        raw
    }

    fn push(&mut self, raw: &mut Vec<u8>) {
        let (shape, dice) = (self.shape, &mut self.dice);
        let turn = if shape.is_regular() {
            self.turn
        } else {
            (dice.roll() % shape.sources()) as usize
        };
        self.turn = (turn + 1) % self.places.len();
        let place = &mut self.places[turn];
        place.number += 1;
        place.at_ms += match shape.is_regular() {
            true => shape.period_ms(),
            false => 300 + dice.roll() % (2 * shape.period_ms()),
        };
        let nth = turn as u64;
        let payload = match shape {
            Shape::Detector => detector(nth, place, dice).into_bytes(),
            Shape::Signal => signal(nth, place, dice).into_bytes(),
            Shape::Vehicle => vehicle(nth, place, dice).into_bytes(),
            Shape::Radar => radar(place, dice).into_bytes(),
            Shape::Packed => packed(nth, place, dice),
            Shape::Track => track(place, dice),
            Shape::Noise => (0..200).map(|_| dice.roll() as u8).collect(),
        };
        let publisher = format!("{}-{}", shape.name(), nth + 1);
        let topic = format!("elm/{}/{}/{}", ["north", "east", "south", "west"][turn % 4], shape.name(), nth + 1);
        let key = match shape {
            Shape::Detector | Shape::Signal | Shape::Vehicle => {
                Key::content(publisher.as_bytes(), topic.as_bytes(), &payload)
            }
            Shape::Radar => {
                let packet = (place.number % 65_535) as u16 + 1;
                Key::delivery(publisher.as_bytes(), topic.as_bytes(), &payload, packet, false)
            }
            Shape::Packed | Shape::Track | Shape::Noise => Key::Sequence { epoch: 3, seq: place.number },
        };
        // The network and the board take a millisecond or five.
        let taken = WallMillis(place.at_ms + 1 + dice.roll() % 5);
        let (publisher, topic) = (publisher.as_str(), topic.as_str());
        Reading { kind: Kind::Reading, publisher, key, taken, topic, payload: &payload }.encode(raw);
    }
}

/// One step of a value that wanders between two bounds.
fn wander(value: &mut u64, step: u64, least: u64, most: u64, dice: &mut Dice) -> u64 {
    *value = (*value + dice.roll() % (2 * step + 1)).saturating_sub(step).clamp(least, most);
    *value
}

/// A number of thousandths as programs write it: zeros at its end are left out.
fn decimal(thousandths: u64) -> String {
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    let text = text.trim_end_matches('0');
    text.strip_suffix('.')
        .map_or_else(|| text.to_owned(), |whole| format!("{whole}.0"))
}

/// Vehicles of a second: mostly none.
fn few(dice: &mut Dice) -> u64 {
    match dice.roll() % 16 {
        0..8 => 0,
        8..13 => 1,
        13..15 => 2,
        _ => 3,
    }
}

fn detector(nth: u64, place: &mut Place, dice: &mut Dice) -> String {
    let (cars, trucks) = (few(dice), u64::from(dice.roll().is_multiple_of(12)));
    let occupancy = (cars + 2 * trucks) * 90 + dice.roll() % 90;
    let speed = wander(&mut place.values[0], 15, 180, 640, dice);
    let gap = wander(&mut place.values[1], 60, 50, 3000, dice);
    let health = if dice.roll().is_multiple_of(500) { "suspect" } else { "ok" };
    format!(
        "{{\"ts\":{},\"det\":\"D{}\",\"lane\":{},\"interval_s\":1,\"count\":{},\"occ\":{},\"speed_kmh\":{},\"gap_s\":{},\
         \"by_class\":{{\"car\":{cars},\"truck\":{trucks},\"bus\":0,\"bike\":{}}},\"temp_c\":{},\"health\":\"{health}\"}}",
        place.at_ms,
        nth + 1,
        nth % 6 + 1,
        cars + trucks,
        decimal(occupancy),
        decimal(speed * 100),
        decimal(gap * 10),
        u64::from(dice.roll().is_multiple_of(30)),
        decimal(21_000 + wander(&mut place.values[2], 1, 0, 90, dice) * 100),
    )
}

fn signal(nth: u64, place: &mut Place, dice: &mut Dice) -> String {
    const CYCLE_S: u64 = 90;
    let second = (place.at_ms / 1000 + nth * 17) % CYCLE_S;
    let green = 25 + nth % 5;
    let (state, since, left) = match second {
        at if at < green => ("green", at, green - at),
        at if at < green + 3 => ("amber", at - green, green + 3 - at),
        at => ("red", at - green - 3, CYCLE_S - at),
    };
    let (day_ms, mut text) = (place.at_ms % 86_400_000, String::new());
    let [hour, minute, rest] = [day_ms / 3_600_000, day_ms / 60_000 % 60, day_ms % 60_000];
    // Writing to a String fails never.
    let _ = write!(
        text,
        "{{\"time\":\"2026-01-01T{hour:02}:{minute:02}:{:02}.{:03}Z\",\"controller\":\"TC-7\",\"group\":{},\"state\":\"{state}\",\
         \"since_s\":{since},\"left_s\":{left},\"plan\":{},\"cycle\":{},\"demand\":{}}}",
        rest / 1000,
        rest % 1000,
        nth + 1,
        place.values[0] % 3 + 1,
        place.at_ms / 1000 / CYCLE_S,
        dice.roll().is_multiple_of(4),
    );
    text
}

fn vehicle(nth: u64, place: &mut Place, dice: &mut Dice) -> String {
    let class = CLASSES[(dice.roll() % 8) as usize];
    let length = if class == "car" {
        3_600 + dice.roll() % 1_300
    } else {
        5_000 + dice.roll() % 9_000
    };
    format!(
        "{{\"timestamp\":{},\"camera\":\"cam{}\",\"track\":{},\"lane\":{},\"class\":\"{class}\",\"confidence\":{},\"speed_kmh\":{},\
         \"length_m\":{},\"direction\":\"{}\",\"model\":\"yolo-s-2026.1\"}}",
        place.at_ms,
        nth + 1,
        place.number,
        dice.roll() % 3 + 1,
        decimal(999 - dice.roll() % 20 * (dice.roll() % 20)),
        decimal((280 + dice.roll() % 120 + dice.roll() % 120) * 100),
        decimal(length / 10 * 10),
        ["through", "through", "left", "right"][(dice.roll() % 4) as usize],
    )
}

fn radar(place: &mut Place, dice: &mut Dice) -> String {
    let mut text = format!("{{\"id\":\"r-{:010}\",\"at_ms\":{},\"vehicles\":[", place.number, place.at_ms);
    for (nth, [along, across, speed, track]) in place.values.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let speed = wander(speed, 20, 1_000, 2_999, dice);
        *along += speed / 10 + dice.roll() % 20;
        let across = wander(across, 10, 1_000, 9_999, dice);
        if *along > 40_000 {
            (*along, *track) = (10_000, *track + 8);
        }
        let class = CLASSES[(*track % 8) as usize];
        let comma = if nth == 0 { "" } else { "," };
        // Writing to a String fails never.
        let _ = write!(
            text,
            "{comma}{{\"track\":{},\"class\":\"{class}\",\"x_m\":{}.{:02},\"y_m\":{}.{:02},\"v_ms\":{}.{:02}}}",
            *track + 10_000,
            *along / 100,
            *along % 100,
            across / 100,
            across % 100,
            speed / 100,
            speed % 100,
        );
    }
    text.push_str("]}");
    text
}

fn packed(nth: u64, place: &mut Place, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    bytes.extend((place.at_ms as u32).to_le_bytes());
    bytes.extend((place.number as u32).to_le_bytes());
    bytes.extend([nth as u8 + 1, nth as u8 % 6, few(dice) as u8, u8::from(dice.roll().is_multiple_of(12))]);
    bytes.extend((wander(&mut place.values[0], 15, 180, 640, dice) as u16).to_le_bytes());
    bytes.extend((wander(&mut place.values[1], 60, 50, 3000, dice) as u16).to_le_bytes());
    bytes.extend((dice.roll() as u16 % 90).to_le_bytes());
    bytes.extend(215_u16.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes
}

/// Fixed-point numbers as postcard writes a structure of them.
fn track(place: &mut Place, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    let speed = wander(&mut place.values[0], 8, 600, 1_900, dice);
    place.values[1] += speed / 10 + dice.roll() % 6;
    if place.values[1] > 30_000 {
        (place.values[1], place.values[2]) = (5_000, place.values[2] + 13);
    }
    let across = wander(&mut place.values[3], 5, 200, 1_800, dice);
    let heading = wander(&mut place.values[4], 6, 8_000, 10_000, dice);
    let score = wander(&mut place.values[5], 12, 500, 999, dice);
    for value in [place.at_ms, place.values[2], place.values[1], across, speed, heading, score] {
        leb128(value, &mut bytes);
    }
    bytes.push((place.values[2] % 5) as u8);
    bytes
}

fn leb128(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

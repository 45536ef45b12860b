//! What is published: frames of a radar at an approach, ten a second, each a JSON list of the vehicles that it follows. All are
//! equally long. Owns their making, and their numbers, by which each is known again wherever it arrives.
//!
//! A vehicle keeps its number and class from frame to frame and moves by its speed; the last digits are noise. So the frames
//! compress as such lists do, three to four times by LZ4 and some fifteen times in columns: counts that hardly change would be on
//! the other side before the link has come up to speed.

use std::io::Write as _;

use crate::bench::failover::dice::Dice;

/// Vehicles of a frame.
const VEHICLES: usize = 8;
/// Between two frames.
const FRAME_MS: u64 = 100;
/// The first frame's time; 13 digits, as all after it for the next two centuries.
const BEGAN_MS: u64 = 1_760_000_000_000;
/// Every frame begins so; then come kind, board, a dash and the number.
const HEAD: &[u8] = b"{\"id\":\"";
/// Digits of a number.
const DIGITS: usize = 10;
/// What a vehicle may be, in letters of one length.
const CLASSES: [&str; 4] = ["car", "van", "bus", "hgv"];

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Shows that the way is open.
    WarmUp,
    /// Waits for the uplink.
    Backlog,
    /// Published while the backlog drains, as an event.
    Event,
    /// The same, as an alarm.
    Alarm,
}

impl Kind {
    const ALL: [Self; 4] = [Self::WarmUp, Self::Backlog, Self::Event, Self::Alarm];

    const fn letter(self) -> u8 {
        match self {
            Self::WarmUp => b'w',
            Self::Backlog => b'b',
            Self::Event => b'e',
            Self::Alarm => b'a',
        }
    }

    /// The first level of its topic, by which a board knows the class.
    pub(super) const fn topic(self) -> &'static str {
        match self {
            Self::WarmUp | Self::Backlog | Self::Event => "bench",
            Self::Alarm => "alarm",
        }
    }
}

/// Which frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    /// What for.
    pub(super) kind: Kind,
    /// Published to this board, 1 to 9.
    pub(super) board: u8,
    /// Counted from 0.
    pub(super) number: u64,
}

impl Id {
    /// Whose payload this is; `None` where it is none of ours.
    pub(super) fn of(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(HEAD)?;
        let (letter, board) = (*rest.first()?, rest.get(1)?.checked_sub(b'0')?);
        let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == letter)?;
        let digits = rest.get(2..)?.strip_prefix(b"-")?.get(..DIGITS)?;
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Self { kind, board, number })
    }
}

/// A vehicle, in hundredths of metres and of metres a second.
#[derive(Clone, Copy, Debug)]
struct Vehicle {
    number: u64,
    class: &'static str,
    along: u64,
    across: u64,
    speed: u64,
}

impl Vehicle {
    fn new(dice: &mut Dice) -> Self {
        Self {
            number: 10_000 + dice.roll() % 90_000,
            class: CLASSES[(dice.roll() % 4) as usize],
            along: 10_000 + dice.roll() % 20_000,
            across: 1_000 + dice.roll() % 8_000,
            speed: 1_000 + dice.roll() % 1_500,
        }
    }

    /// A tenth of a second later; another one where it has left the approach.
    fn go_on(&mut self, dice: &mut Dice) {
        self.along += self.speed / 10 + dice.roll() % 20;
        self.across = (self.across + dice.roll() % 21).saturating_sub(10).clamp(1_000, 9_999);
        self.speed = (self.speed + dice.roll() % 41).saturating_sub(20).clamp(1_000, 2_999);
        if self.along > 99_999 {
            *self = Self::new(dice);
        }
    }
}

/// One publisher's frames, one after the other.
#[derive(Debug)]
pub(super) struct Readings {
    id: Id,
    dice: Dice,
    vehicles: [Vehicle; VEHICLES],
    frame: Vec<u8>,
}

impl Readings {
    /// Those of `kind` for `board`.
    pub(super) fn new(kind: Kind, board: u8) -> Self {
        let mut dice = Dice::new(u64::from(board) << 8 | u64::from(kind.letter()));
        let vehicles = std::array::from_fn(|_| Vehicle::new(&mut dice));
        Self { id: Id { kind, board, number: 0 }, dice, vehicles, frame: Vec::new() }
    }

    /// The next one's.
    pub(super) const fn id(&self) -> Id {
        self.id
    }

    /// Bytes of each.
    pub(super) fn length() -> usize {
        Self::new(Kind::WarmUp, 1).next().len()
    }

    /// The next frame.
    pub(super) fn next(&mut self) -> &[u8] {
        let Id { kind, board, number } = self.id;
        self.id.number += 1;
        self.frame.clear();
        self.frame.extend(HEAD);
        let letter = char::from(kind.letter());
        let at = BEGAN_MS + number * FRAME_MS;
        // Writing to a Vec fails never, here and below.
        let _ = write!(self.frame, "{letter}{board}-{number:0DIGITS$}\",\"at_ms\":{at},\"vehicles\":[");
        for (nth, vehicle) in self.vehicles.iter_mut().enumerate() {
            vehicle.go_on(&mut self.dice);
            let comma = if nth == 0 { "" } else { "," };
            let Vehicle { number, class, along, across, speed } = *vehicle;
            let [along, across, speed] = [along, across, speed].map(|value| (value / 100, value % 100));
            let _ = write!(
                self.frame,
                "{comma}{{\"track\":{number},\"class\":\"{class}\",\"x_m\":{}.{:02},\"y_m\":{}.{:02},\"v_ms\":{}.{:02}}}",
                along.0, along.1, across.0, across.1, speed.0, speed.1
            );
        }
        self.frame.extend(b"]}");
        &self.frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_json_of_one_length_and_known_again() {
        let length = Readings::length();
        for kind in Kind::ALL {
            let mut readings = Readings::new(kind, 3);
            for number in 0..20_000 {
                assert_eq!(readings.id().number, number);
                let frame = readings.next();
                assert_eq!(frame.len(), length);
                assert_eq!(Id::of(frame), Some(Id { kind, board: 3, number }));
            }
            let frame: serde_json::Value = serde_json::from_slice(readings.next()).unwrap();
            assert_eq!(frame["vehicles"].as_array().unwrap().len(), VEHICLES);
        }
        for strange in [&b""[..], b"{\"id\":\"x1-0000000001\"", b"{\"id\":\"b1-00000", b"{\"id\":\"b1_0000000001\""] {
            assert_eq!(Id::of(strange), None);
        }
    }

    #[test]
    fn they_compress_as_such_lists_do() {
        use shared::ids::{BoardId, Class, Epoch, Origin, Stream};
        use shared::record::{Key, Kind as Record, Reading};
        use shared::time::WallMillis;
        use shared::wire::uplink::Reads;
        let mut readings = Readings::new(Kind::Backlog, 1);
        let (mut raw, mut payload_bytes) = (Vec::new(), 0);
        for number in 0..400 {
            let payload = readings.next();
            payload_bytes += payload.len();
            let key = Key::delivery(b"bench-1", b"bench/1", payload, number, false);
            let (kind, taken) = (Record::Reading, WallMillis(u64::from(number)));
            Reading { kind, publisher: "bench-1", key, taken, topic: "bench/1", payload }.encode(&mut raw);
        }
        let origin = Origin { board: BoardId::new(1).unwrap(), epoch: Epoch::default() };
        let stream = Stream { origin, class: Class::Event };
        for (reads, expected) in [(Reads::Lz4, 3.0..4.0), (Reads::Columns, 12.0..20.0)] {
            let block = shared::block::pack_for(reads, stream, 1, 400, &raw);
            let times = payload_bytes as f64 / block.body.len() as f64;
            assert!(expected.contains(&times), "{reads:?}: {times}");
        }
    }
}

//! A publisher as data: what it has made, what it has on its way, and where it is connected. Moved by `publishers.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use shared::ids::BoardId;
use shared::record::{Key, Record};
use shared::time::WallMillis;

use crate::board::Life;
use crate::clock::Moment;
use crate::dice::Dice;
use crate::mark::{MARK_BYTES, Mark};
use crate::settings::Settings;

/// How a publisher's readings are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// By its own numbers.
    Sequence,
    /// By what they say.
    Content,
    /// By the delivery alone.
    Delivery,
}

/// Where a publisher is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Nowhere,
    At { board: BoardId, life: Life },
}

/// A reading on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnItsWay {
    pub(crate) since: Moment,
    pub(crate) times: u32,
    /// Sent on the present connection.
    pub(crate) here: bool,
}

/// One publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) id: u8,
    style: Style,
    /// Of a million readings, so many are sent without asking for an acknowledgement (QoS 0).
    pub(crate) unacknowledged: u32,
    pub(crate) window: usize,
    pub(crate) interval: (Duration, Duration),
    payload_most: u64,
    pub(crate) made: u32,
    /// Made and not sent yet.
    pub(crate) waiting: VecDeque<u32>,
    /// Sent and not acknowledged, by number.
    pub(crate) on_its_way: BTreeMap<u32, OnItsWay>,
    pub(crate) place: Place,
    pub(crate) connection: u64,
    /// Nothing arrives at the board, or here, before: a connection keeps order.
    pub(crate) at_board: Moment,
    pub(crate) at_home: Moment,
    pub(crate) patience: Duration,
    /// A scenario says which board to use.
    pub(crate) only: Option<BoardId>,
}

impl Publisher {
    pub(crate) fn draw_all(settings: &Settings, dice: &mut Dice) -> Vec<Self> {
        (0..settings.publishers).map(|id| Self::draw(id, settings, dice)).collect()
    }

    fn draw(id: u8, settings: &Settings, dice: &mut Dice) -> Self {
        let style = match id % 3 {
            0 => Style::Sequence,
            1 => Style::Content,
            _ => Style::Delivery,
        };
        Self {
            id,
            style,
            unacknowledged: if dice.below(4) == 0 && settings.carefree { 100_000 } else { 0 },
            window: dice.between(1, 32) as usize,
            interval: settings.interval,
            // Mostly small: what large payloads cost is checksums, not decisions. All that gathers must fit a segment.
            payload_most: dice
                .pick(&[40, 40, 80, 80, 200, 200, 400, 2_000])
                .unwrap_or(40)
                .min(if settings.segment_bytes < 512 * 1024 { 80 } else { 2_000 }),
            made: 0,
            waiting: VecDeque::new(),
            on_its_way: BTreeMap::new(),
            place: Place::Nowhere,
            connection: 0,
            at_board: Moment::ZERO,
            at_home: Moment::ZERO,
            patience: dice.span(Duration::from_millis(1_500), Duration::from_millis(4_000)),
            only: None,
        }
    }

    pub(crate) const fn mark(&self, number: u32) -> Mark {
        Mark { publisher: self.id, number }
    }

    /// The reading numbered `number`, as sent for the `times`th time at `now`. The same bytes each time, but for the mark of a
    /// repeated delivery, and the time at which a board takes it in.
    pub(crate) fn record(&self, number: u32, times: u32, key_changes: bool, now: Moment) -> Record {
        let mark = self.mark(number);
        let size = u64::from(number).wrapping_mul(0x9e37_79b9) % (self.payload_most + 1);
        let payload = mark.payload(MARK_BYTES + usize::try_from(size).unwrap_or(0));
        let name = format!("sensor-{}", self.id);
        let class = mark.class();
        let topic = format!("{}/approach/{}", class.as_str(), self.id);
        let packet = u16::try_from(number % 60_000 + 1).unwrap_or(1);
        let changed = if key_changes { times } else { 0 };
        let key = match self.style {
            Style::Sequence => Key::Sequence { epoch: u64::from(changed), seq: u64::from(number) },
            Style::Content if changed > 0 => Key::content(&[changed as u8], topic.as_bytes(), &payload),
            Style::Content => Key::content(name.as_bytes(), topic.as_bytes(), &payload),
            Style::Delivery => {
                let resent = times > 0 && !key_changes;
                Key::delivery(name.as_bytes(), topic.as_bytes(), &payload, packet, resent)
            }
        };
        Record {
            class,
            publisher: Bytes::from(name),
            key,
            taken: WallMillis(1_700_000_000_000 + now.micros() / 1_000),
            topic: Bytes::from(topic),
            payload: Bytes::from(payload),
        }
    }
}

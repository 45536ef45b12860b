//! Blocks as boards seal them: traffic records of one size, packed in columns, from some boards of one site.

use gateway::store::Deposit;
use shared::block::pack;
use shared::ids::{BoardId, Class, Epoch, Name, Origin, Stream};
use shared::record::{Key, Kind, Reading};
use shared::time::WallMillis;
use shared::wire::uplink::Block;

use crate::bench::arguments::{Gateway, KeyChoice};

/// Boards whose blocks come in turns.
const BOARDS: u8 = 3;
/// Detectors of a board, each a publisher with a topic.
const DETECTORS: u64 = 64;

/// Blocks that nobody has stored yet.
pub(super) struct Blocks {
    site: Name,
    blocks: Vec<Block>,
}

impl Blocks {
    /// The blocks of one run; `nonce` tells it from every other.
    pub(super) fn new(asked: &Gateway, nonce: u64) -> Self {
        let per_block = u64::from(asked.block_records);
        let mut next = [1; BOARDS as usize];
        let mut blocks = Vec::new();
        let mut left = asked.records;
        for number in 0.. {
            if left == 0 {
                break;
            }
            let count = left.min(per_block);
            let board = number % usize::from(BOARDS);
            blocks.push(block(asked, nonce, board, next[board], count));
            next[board] += count;
            left -= count;
        }
        let site = Name::try_from(format!("bench-{:x}", nonce & 0xffff_ffff).as_str()).unwrap_or_default();
        Self { site, blocks }
    }

    /// As transactions of so many blocks each.
    pub(super) fn deposits(&self, blocks: usize) -> Vec<Deposit> {
        let deposit = |blocks: &[Block]| Deposit { site: self.site.clone(), fence: None, blocks: blocks.to_vec() };
        self.blocks.chunks(blocks.max(1)).map(deposit).collect()
    }
}

fn block(asked: &Gateway, nonce: u64, board: usize, first: u64, count: u64) -> Block {
    let id = u8::try_from(board + 1)
        .ok()
        .and_then(BoardId::new)
        .expect("there are few boards");
    let origin = Origin { board: id, epoch: Epoch { boot: 1, nonce } };
    let mut raw = Vec::new();
    for seq in first..first + count {
        let detector = seq % DETECTORS;
        let publisher = format!("radar-{board}-{detector}");
        let topic = format!("site/approach/{}/radar/{detector}", detector % 4);
        let payload = payload(asked.payload as usize, detector, seq);
        let key = match asked.keys {
            KeyChoice::Sequence => Key::Sequence { epoch: nonce, seq: seq / DETECTORS },
            KeyChoice::Digest => Key::content(publisher.as_bytes(), topic.as_bytes(), payload.as_bytes()),
            KeyChoice::Delivery => {
                let packet = 1 + (seq / DETECTORS % u64::from(u16::MAX)) as u16;
                Key::delivery(publisher.as_bytes(), topic.as_bytes(), payload.as_bytes(), packet, false)
            }
        };
        let taken = WallMillis(1_767_225_600_000 + seq * 20);
        let reading = Reading {
            kind: Kind::Reading,
            publisher: &publisher,
            key,
            taken,
            topic: &topic,
            payload: payload.as_bytes(),
        };
        reading.encode(&mut raw);
    }
    pack(Stream { origin, class: Class::Event }, first, u32::try_from(count).unwrap_or(u32::MAX), &raw)
}

/// A radar's frame in JSON: the numbers change from one to the next, the words do not.
fn payload(bytes: usize, detector: u64, seq: u64) -> String {
    let scattered = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let of = |shift: u32, below: u64| (scattered >> shift) % below;
    let mut text = format!(
        "{{\"detector\":{detector},\"lane\":{},\"ts\":{},\"speed_kmh\":{}.{},\"length_m\":{}.{},\"gap_s\":{}.{:02},\"occ\":0.{:03},\
         \"class\":\"{}\",\"headway_s\":{}.{:02},\"conf\":0.{:04},\"n\":{seq}",
        of(3, 4),
        1_767_225_600_000 + seq * 20,
        20 + of(5, 70),
        of(11, 10),
        3 + of(13, 15),
        of(17, 10),
        1 + of(19, 20),
        of(23, 100),
        of(29, 1000),
        ["car", "van", "truck", "bus", "bike"][of(37, 5) as usize],
        1 + of(41, 30),
        of(43, 100),
        of(47, 10_000)
    );
    while text.len() + 1 < bytes {
        let digit = char::from(b'0' + ((scattered >> (text.len() % 60)) % 10) as u8);
        text.push(if text.ends_with(|last: char| last.is_ascii_digit()) {
            digit
        } else {
            ' '
        });
    }
    text.push('}');
    text
}

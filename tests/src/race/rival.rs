//! `foca` 2.0.0, as a detector: SWIM with suspicion, as its LAN profile has it or tuned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::convert::Infallible;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{AccumulatingRuntime, Config, Foca, Identity, NoCustomBroadcast, OwnedNotification, PostcardCodec, Timer};
use serde::{Deserialize, Serialize};
use shared::ids::BoardId;
use shared::time::Instant;

use super::{Detector, Effects, Seat};
use crate::dice::Dice;

/// IP and UDP; nothing is added for encryption.
const ENVELOPE: u32 = 28;

/// A board in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    board: u8,
    life: u32,
}

impl Identity for Who {
    type Addr = u8;

    fn renew(&self) -> Option<Self> {
        Some(Self { board: self.board, life: self.life + 1 })
    }

    fn addr(&self) -> u8 {
        self.board
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.life > adversary.life
    }
}

/// The world's chance, as the rival asks for it.
#[derive(Debug)]
pub struct Chance(Dice);

impl rand::TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.word() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.word())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.iter_mut().for_each(|byte| *byte = self.0.word() as u8);
        Ok(())
    }
}

/// The rival.
pub struct Rival {
    foca: Foca<Who, PostcardCodec, Chance, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Who>,
    timers: BinaryHeap<Reverse<(Instant, u64, Timed)>>,
    count: u64,
    alive: shared::ids::BoardSet,
    life: u32,
}

/// A timer, of no order of its own.
struct Timed(Timer<Who>);

impl PartialEq for Timed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// As it comes, for a LAN with so many members.
pub fn lan(boards: u8) -> Config {
    let members = NonZeroU32::new(boards.into()).unwrap_or(NonZeroU32::MIN);
    Config::new_lan(members)
}

/// Tuned to spend about the bytes that ours does: probes, and suspicion with them, so many times faster.
pub fn tuned(boards: u8) -> Config {
    let faster = match boards {
        0..=7 => 25,
        8..=32 => 100,
        _ => 50,
    };
    let mut config = lan(boards);
    config.probe_period /= faster;
    config.probe_rtt /= faster;
    config.suspect_to_down_after /= faster;
    if let Some(gossip) = &mut config.periodic_gossip {
        gossip.frequency = Duration::from_millis(20);
        gossip.num_members = NonZeroUsize::MIN;
    }
    if let Some(announce) = &mut config.periodic_announce_to_down_members {
        announce.frequency = Duration::from_secs(1);
    }
    config
}

impl Detector for Rival {
    type Datagram = Bytes;
    type Tuning = Config;

    fn start(seat: Seat, tuning: &Config, now: Instant, out: &mut Effects<Bytes>) -> Self {
        let who = Who { board: seat.board.get(), life: seat.life };
        let mut rival = Self {
            foca: Foca::new(who, tuning.clone(), Chance(Dice::new(seat.seed)), PostcardCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BinaryHeap::new(),
            count: 0,
            alive: [seat.board].into_iter().collect(),
            life: seat.life,
        };
        for board in (1..=seat.boards).filter(|board| *board != who.board).take(4) {
            // Refusals are the rival's own affair: it goes on.
            let _ = rival.foca.announce(Who { board, life: 1 }, &mut rival.runtime);
        }
        rival.drain(now, out);
        rival
    }

    fn hear(&mut self, _from: BoardId, datagram: &Bytes, now: Instant, out: &mut Effects<Bytes>) {
        let _ = self.foca.handle_data(datagram, &mut self.runtime);
        self.drain(now, out);
    }

    fn wake(&mut self, now: Instant, out: &mut Effects<Bytes>) {
        let mut due = Vec::new();
        while self.timers.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            due.extend(self.timers.pop().map(|Reverse((.., Timed(timer)))| timer));
        }
        due.sort();
        for timer in due {
            let _ = self.foca.handle_timer(timer, &mut self.runtime);
        }
        self.drain(now, out);
    }

    fn next(&self) -> Instant {
        self.timers.peek().map_or(Instant::NEVER, |Reverse((at, ..))| *at)
    }

    fn is_alive(&self, board: BoardId) -> bool {
        self.alive.contains(board)
    }
}

impl Rival {
    fn drain(&mut self, now: Instant, out: &mut Effects<Bytes>) {
        while let Some((to, bytes)) = self.runtime.to_send() {
            let size = ENVELOPE + u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            if let Some(to) = BoardId::new(to.board) {
                out.sent.push((to, bytes, size));
            }
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.count += 1;
            self.timers.push(Reverse((now + after, self.count, Timed(timer))));
        }
        while let Some(notice) = self.runtime.to_notify() {
            match notice {
                OwnedNotification::MemberUp(who) => self.find(who, true, out),
                OwnedNotification::MemberDown(who) => self.find(who, false, out),
                OwnedNotification::Defunct | OwnedNotification::Rejoin(_) => self.life += 1,
                OwnedNotification::Rename(..) | OwnedNotification::Active | OwnedNotification::Idle => {}
            }
        }
    }

    fn find(&mut self, who: Who, up: bool, out: &mut Effects<Bytes>) {
        let Some(board) = BoardId::new(who.board) else {
            return;
        };
        if up {
            self.alive.insert(board);
        } else {
            self.alive.remove(board);
        }
        out.found.push((board, up));
    }
}

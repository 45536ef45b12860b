//! A whole board for messages of any content: the node that ships, over a disk in memory that does every job at once. What
//! its peers, its region and its witness say comes from the search; after every input the node checks itself.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use shared::action::{Action, DiskDone, DiskJob, Memory, Offer, RegionLink};
use shared::config::{DutyConfig, DutyMode, JournalConfig, NodeConfig, RepairConfig, Timing};
use shared::ids::{BoardId, BoardSet, Class, Epoch, Name, SegmentId, Ticket, Voters};
use shared::journal::recover::Recovered;
use shared::limits::PAGE_BYTES;
use shared::node::{Node, Start};
use shared::outbox::Outbox;
use shared::record::{Key, Record};
use shared::time::{Instant, WallMillis};
use shared::wire::control::ControlMessage;
use shared::wire::peer::PeerMessage;
use shared::wire::uplink::FromRegion;

/// Readings that the board has of its own before anybody speaks to it.
const READINGS: u64 = 5;
/// Until the readings are committed, and a board alone leads.
const SETTLED_MILLIS: u64 = 3_000;
/// Nothing that one message sets off goes on for so many inputs without time passing.
const INPUTS_MAX: usize = 4_096;

/// The board.
pub(crate) struct Board {
    node: Node,
    now: Instant,
    disk: BTreeMap<SegmentId, Vec<u8>>,
    done: VecDeque<DiskDone>,
    dialled: bool,
}

pub(crate) fn board(number: u8) -> BoardId {
    BoardId::new(number % 64 + 1).expect("1 to 64")
}

pub(crate) fn site() -> Name {
    "crossing".try_into().expect("a short name")
}

fn config(boards: u8) -> NodeConfig {
    let all: BoardSet = (0..boards).map(board).collect();
    NodeConfig {
        site: site(),
        board: board(0),
        boards: all,
        voters: Voters { version: Voters::CONFIGURED, set: all.into() },
        priority: 0,
        domain: Name::new(),
        duties: vec![DutyConfig {
            name: "signal".try_into().expect("a short name"),
            mode: DutyMode::Exclusive,
            standby: true,
            is_local: true,
        }],
        copies: 2.min(usize::from(boards)),
        timing: Timing::default(),
        journal: JournalConfig::sized(64 * PAGE_BYTES as u32, 8),
        repair: RepairConfig::default(),
        has_region: true,
    }
}

impl Board {
    /// Board 1 of `boards`, connected to all others, with some readings of its own.
    pub(crate) fn new(boards: u8) -> Self {
        let memory = Memory { term_ceiling: 1024, ..Memory::default() };
        let start = Start {
            epoch: Epoch { boot: 1, nonce: 1 },
            memory,
            seed: 1,
            restarts: 0,
            recovered: Recovered::default(),
        };
        let mut this = Self {
            node: Node::new(config(boards), start, Instant::ZERO),
            now: Instant::ZERO,
            disk: BTreeMap::new(),
            done: VecDeque::new(),
            dialled: false,
        };
        this.input(|node, now, out| node.handle_start(now, out));
        for peer in 1..boards {
            this.input(|node, now, out| node.handle_link(board(peer), true, now, out));
        }
        let offers = (1..=READINGS).map(offer).collect();
        this.input(|node, now, out| node.handle_offers(offers, now, out));
        this.pass(SETTLED_MILLIS);
        this
    }

    /// A message on the connection from another board.
    pub(crate) fn peer(&mut self, from: BoardId, message: PeerMessage) {
        self.input(|node, now, out| node.handle_message(from, message, now, out));
    }

    /// A datagram from another board.
    pub(crate) fn control(&mut self, from: BoardId, message: ControlMessage) {
        self.input(|node, now, out| node.handle_control(from, message, now, out));
    }

    /// A message from the region.
    pub(crate) fn region(&mut self, message: FromRegion) {
        self.input(|node, now, out| node.handle_region(message, now, out));
    }

    /// An obituary whose signature held.
    pub(crate) fn obituary(&mut self, of: BoardId, life: u64) {
        self.input(|node, now, out| node.handle_obituary(of, life, now, out));
    }

    /// Whether it speaks to the region.
    pub(crate) const fn has_dialled(&self) -> bool {
        self.dialled
    }

    fn input(&mut self, handle: impl FnOnce(&mut Node, Instant, &mut Outbox<Action>)) {
        let mut out = Outbox::default();
        handle(&mut self.node, self.now, &mut out);
        self.node.check();
        self.perform(&mut out);
        for inputs in 0.. {
            let Some(done) = self.done.pop_front() else { break };
            assert!(inputs < INPUTS_MAX, "one message sets off work without an end");
            self.node.handle_disk(done, self.now, &mut out);
            self.node.check();
            self.perform(&mut out);
        }
    }

    fn perform(&mut self, out: &mut Outbox<Action>) {
        while let Some(action) = out.pop() {
            match action {
                Action::Disk(job) => self.job(job),
                Action::Dial(_) => {
                    self.dialled = true;
                    self.node.handle_region_link(RegionLink::Up(None), self.now, out);
                }
                Action::HangUp => self.dialled = false,
                Action::Answer(_)
                | Action::Send { .. }
                | Action::Tell { .. }
                | Action::TellWitness { .. }
                | Action::Duty { .. }
                | Action::ToRegion { .. }
                | Action::Notice(_) => {}
            }
        }
    }

    fn job(&mut self, job: DiskJob) {
        match job {
            DiskJob::Prepare { segment, from, bytes, .. } => {
                let file = from.and_then(|from| self.disk.remove(&from));
                self.disk.insert(segment, file.unwrap_or_else(|| vec![0; bytes as usize]));
                self.done.push_back(DiskDone::Prepared { segment });
            }
            DiskJob::Append { token, segment, offset, bytes } => {
                self.file(segment, offset, bytes.len()).copy_from_slice(&bytes);
                self.done.push_back(DiskDone::Appended { token });
            }
            DiskJob::Foot { segment, offset, bytes, .. } => {
                self.file(segment, offset, bytes.len()).copy_from_slice(&bytes);
            }
            DiskJob::Read { token, segment, offset, length } | DiskJob::Verify { token, segment, offset, length } => {
                let bytes = Bytes::copy_from_slice(self.file(segment, offset, length as usize));
                self.done.push_back(DiskDone::Read { token, bytes });
            }
            DiskJob::Delete { segment } => {
                self.disk.remove(&segment);
            }
            DiskJob::Free { .. } => {}
            DiskJob::Remember(memory) => self.done.push_back(DiskDone::Remembered(memory)),
        }
    }

    fn file(&mut self, segment: SegmentId, offset: u32, length: usize) -> &mut [u8] {
        let file = self.disk.get_mut(&segment).expect("a job names a segment that is there");
        &mut file[offset as usize..offset as usize + length]
    }

    /// Lets `millis` pass, from deadline to deadline.
    pub(crate) fn pass(&mut self, millis: u64) {
        let end = Instant::from_micros(self.now.micros() + millis * 1000);
        loop {
            let next = self.node.next_deadline();
            if next.at > end {
                break;
            }
            let before = self.now;
            self.now = self.now.max(next.at);
            self.input(|node, now, out| node.handle_deadline(now, out));
            let after = self.node.next_deadline();
            assert!(after.at > before, "it spins on {}", after.why);
        }
        self.now = end;
    }
}

fn offer(seq: u64) -> Offer {
    let record = Record {
        class: Class::Event,
        publisher: Bytes::from_static(b"loop-1"),
        key: Key::Sequence { epoch: 0, seq },
        taken: WallMillis(0),
        topic: Bytes::from_static(b"det/1"),
        payload: Bytes::from_static(b"on"),
    };
    Offer { ticket: Some(Ticket(seq)), record }
}

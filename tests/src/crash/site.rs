//! A site of boards on simulated disks: the node and the disk code that ship, with a wire between them that keeps order
//! and loses nothing while both ends live, and a region that answers at once. Owns which board does its next thing when;
//! decides nothing that a board decides.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firmware::disk::DiskError;
use firmware::disk::system::FileSystem;
use firmware::disk::volume::{Found, Lane, Volume};
use shared::action::{Action, Answer, DiskDone, DiskJob, Offer, RegionLink};
use shared::block::unpack;
use shared::config::site::default_voters;
use shared::config::{JournalConfig, NodeConfig, RepairConfig, Timing};
use shared::event::Event;
use shared::ids::{BoardId, BoardSet, Class, Epoch, Name, SegmentId, Stream, Ticket, Token, VoterSet, Voters};
use shared::journal::format::{Found as Block, decode};
use shared::limits::PAGE_BYTES;
use shared::node::{Node, Start};
use shared::outbox::Outbox;
use shared::ranges::RangeSet;
use shared::record::{Key, Reading, Record};
use shared::time::{Instant, WallMillis};
use shared::wire::control::ControlMessage;
use shared::wire::peer::{Coverage, PeerMessage, Run};
use shared::wire::uplink::{FromRegion, ToRegion};

use crate::crash::ledger::{Ledger, Promise};
use crate::crash::lie::Lie;
use crate::crash::mains::Shared;
use crate::dice::Dice;
use crate::mark::Mark;

/// A start that fails is tried so many times, as a supervisor does.
const STARTS_MAX: u32 = 4;
/// Where every board's directory is, on a disk of its own.
const DIRECTORY: &str = "/board";

/// What a site is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Boards, from 1.
    pub boards: usize,
    /// k.
    pub copies: usize,
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Segments of a board.
    pub segments_max: u32,
    /// Whether the region answers.
    pub region: bool,
}

/// A message on its way.
#[derive(Clone, Debug)]
enum Message {
    Peer { from: usize, to: usize, message: Box<PeerMessage> },
    Control { from: usize, to: usize, message: Box<ControlMessage> },
    Region { to: usize, message: Box<FromRegion> },
    RegionUp { to: usize },
}

impl Message {
    const fn touches(&self, board: usize) -> bool {
        match self {
            Self::Peer { from, to, .. } | Self::Control { from, to, .. } => *from == board || *to == board,
            Self::Region { to, .. } | Self::RegionUp { to } => *to == board,
        }
    }
}

#[derive(Debug)]
struct Process {
    node: Node,
    volume: Volume,
    jobs: VecDeque<DiskJob>,
    tickets: BTreeMap<Ticket, Mark>,
    /// The node has said that fewer than k boards keep each record, and how many do.
    degraded: Option<usize>,
    session: bool,
    ends: bool,
}

/// A site.
#[derive(Debug)]
pub struct Site {
    shape: Shape,
    mains: Shared,
    lie: Option<Lie>,
    processes: Vec<Option<Process>>,
    epochs: Vec<Option<Epoch>>,
    wire: VecDeque<Message>,
    now: Instant,
    dice: Dice,
    next_ticket: u64,
    /// The reference.
    pub ledger: Ledger,
    /// Starts of boards.
    pub starts: u64,
    /// Events of starts that told of damage.
    pub told: Vec<(usize, Event)>,
}

fn id(board: usize) -> BoardId {
    u8::try_from(board + 1)
        .ok()
        .and_then(BoardId::new)
        .expect("there are few boards")
}

fn place(board: BoardId) -> usize {
    usize::from(board.get()) - 1
}

/// The name of every site here.
pub fn site_name() -> Name {
    Name::try_from("crash").expect("the name is short")
}

/// Opens a board's directory on `system`, as the firmware does.
pub fn open(system: Arc<dyn FileSystem>, board: usize, nonce: u64, lie: Option<Lie>) -> Result<Found, DiskError> {
    let mut found = Volume::open(system, Path::new(DIRECTORY), (&site_name(), id(board)), nonce)?;
    for event in &mut found.recovered.events {
        match (lie, &*event) {
            (Some(Lie::TailCalledDamage), Event::TornTail { segment, offset }) => {
                *event = Event::JournalDamaged { segment: *segment, offset: *offset };
            }
            (Some(Lie::DamageCalledTail), Event::JournalDamaged { segment, offset }) => {
                *event = Event::TornTail { segment: *segment, offset: *offset };
            }
            _ => {}
        }
    }
    Ok(found)
}

impl Site {
    /// A site on `mains`, none of whose boards runs; the region has what `ledger` says.
    pub fn new(shape: Shape, mains: Shared, ledger: Ledger, lie: Option<Lie>, dice: Dice) -> Self {
        Self {
            shape,
            mains,
            lie,
            processes: (0..shape.boards).map(|_| None).collect(),
            epochs: vec![None; shape.boards],
            wire: VecDeque::new(),
            now: Instant::from_micros(1_000_000),
            dice,
            next_ticket: 1,
            ledger,
            starts: 0,
            told: Vec::new(),
        }
    }

    fn config(&self, board: usize) -> NodeConfig {
        let boards: BoardSet = (0..self.shape.boards).map(id).collect();
        NodeConfig {
            site: site_name(),
            board: id(board),
            boards,
            voters: Voters { version: 1, set: VoterSet::from(default_voters(boards, false)) },
            priority: 0,
            domain: site_name(),
            duties: Vec::new(),
            copies: self.shape.copies,
            timing: Timing::default(),
            journal: JournalConfig::sized(self.shape.segment_bytes, self.shape.segments_max),
            repair: RepairConfig::default(),
            has_region: self.shape.region,
        }
    }

    /// Starts every board that does not run.
    pub fn start_all(&mut self) {
        for board in 0..self.shape.boards {
            if self.processes[board].is_none() {
                self.start(board);
            }
        }
    }

    fn start(&mut self, board: usize) {
        let struck = self.mains.struck().len();
        let mut opened = None;
        for attempt in 1..=STARTS_MAX {
            let nonce = self.dice.word();
            match open(self.mains.board(board), board, nonce, self.lie) {
                Ok(found) => {
                    opened = Some(found);
                    break;
                }
                // A trouble may strike at a start, too.
                Err(_) if attempt < STARTS_MAX && self.mains.struck().len() > struck => {}
                Err(error) => {
                    self.ledger
                        .breaks(format!("{} does not start: {}", id(board), whole_story(&error)));
                    return;
                }
            }
        }
        let Some(Found { mut epoch, memory, recovered, volume }) = opened else {
            return;
        };
        if let (Some(Lie::EpochContinued), Some(before)) = (self.lie, self.epochs[board]) {
            epoch = before;
        }
        self.epochs[board] = Some(epoch);
        self.starts += 1;
        let at = self.mains.steps();
        for (stream, holding) in recovered.segments.values().flat_map(|segment| &segment.streams) {
            for range in holding.ranges.ranges() {
                self.ledger.durable(at, board, *stream, *range);
            }
        }
        self.told.extend(recovered.events.iter().map(|event| (board, event.clone())));
        let start = Start { epoch, memory, seed: self.dice.word(), restarts: 0, recovered };
        let node = Node::new(self.config(board), start, self.now);
        self.processes[board] = Some(Process {
            node,
            volume,
            jobs: VecDeque::new(),
            tickets: BTreeMap::new(),
            degraded: None,
            session: false,
            ends: false,
        });
        self.drive(board, Node::handle_start);
        for peer in (0..self.shape.boards).filter(|peer| *peer != board) {
            if self.processes[peer].is_some() {
                self.drive(peer, |node, now, out| node.handle_link(id(board), true, now, out));
                self.drive(board, |node, now, out| node.handle_link(id(peer), true, now, out));
            }
        }
    }

    /// The process of `board` is gone at once; its disk and what the page cache holds of it stay.
    pub fn end_process(&mut self, board: usize) {
        if self.processes[board].take().is_none() {
            return;
        }
        self.wire.retain(|message| !message.touches(board));
        for peer in 0..self.shape.boards {
            self.drive(peer, |node, now, out| node.handle_link(id(board), false, now, out));
        }
    }

    /// Every process is gone at once, as when power goes. Their disks are the caller's.
    pub fn end_all(&mut self) {
        self.processes.iter_mut().for_each(|process| *process = None);
        self.wire.clear();
    }

    /// A publisher sends readings to `board`; nothing where the board takes none now. Returns how many it took.
    pub fn publish(&mut self, board: usize, marks: &[(Mark, usize)]) -> usize {
        let Some(process) = self.processes[board].as_mut().filter(|process| process.node.accepts()) else {
            return 0;
        };
        let mut offers = Vec::new();
        for (mark, bytes) in marks {
            let ticket = Ticket(self.next_ticket);
            self.next_ticket += 1;
            process.tickets.insert(ticket, *mark);
            offers.push(Offer { ticket: Some(ticket), record: record(*mark, *bytes) });
        }
        self.drive(board, |node, now, out| node.handle_offers(offers, now, out));
        marks.len()
    }

    /// One input of a board that runs, then its outbox to empty, then its checks.
    fn drive(&mut self, board: usize, handle: impl FnOnce(&mut Node, Instant, &mut Outbox<Action>)) {
        let now = self.now;
        let Some(process) = self.processes[board].as_mut() else { return };
        let mut out = Outbox::default();
        handle(&mut process.node, now, &mut out);
        process.node.check();
        while let Some(action) = out.pop() {
            self.perform(board, action);
        }
        if self.processes[board].as_ref().is_some_and(|process| process.ends) {
            self.end_process(board);
            self.start(board);
        }
    }

    fn perform(&mut self, board: usize, action: Action) {
        let at = self.mains.steps();
        let Some(process) = self.processes[board].as_mut() else { return };
        match action {
            Action::Answer(answers) => {
                for (ticket, answer) in answers {
                    let Some(mark) = process.tickets.remove(&ticket) else { continue };
                    let copies = process.degraded.unwrap_or(self.shape.copies);
                    match answer {
                        Answer::Committed => self.ledger.promise(Promise { at, mark, copies }),
                        Answer::Refused(why) => self.ledger.breaks(format!("{mark} is refused: {why:?}")),
                    }
                }
            }
            Action::Disk(job) => process.jobs.push_back(job),
            Action::Send { to, message } => {
                self.wire
                    .push_back(Message::Peer { from: board, to: place(to), message: Box::new(message) });
            }
            Action::Tell { to, message } => {
                self.wire
                    .push_back(Message::Control { from: board, to: place(to), message: Box::new(message) });
            }
            Action::Dial(_) if self.shape.region => self.wire.push_back(Message::RegionUp { to: board }),
            Action::HangUp => process.session = false,
            Action::ToRegion { message, .. } if process.session => self.at_region(board, message),
            Action::Notice(Event::Degraded { copies, .. }) => process.degraded = Some(copies),
            Action::Notice(Event::Restored) => process.degraded = None,
            Action::Notice(Event::JournalPoisoned) => process.ends = true,
            Action::Notice(event @ Event::JournalDamaged { .. }) => self.told.push((board, event)),
            _ => {}
        }
    }

    fn at_region(&mut self, from: usize, message: ToRegion) {
        let at = self.mains.steps();
        let answer = match message {
            ToRegion::Ask(streams) => {
                let line = |stream| Coverage { stream, ranges: self.ledger.region_has(&stream), whole: true };
                streams.into_iter().map(line).collect()
            }
            ToRegion::Block(block) => {
                let readings = unpack(&block).map_err(|why| why.to_string());
                let readings = readings.and_then(|raw| {
                    let readings = Reading::decode_all(&raw, block.count).map_err(|_| "it does not read".to_owned());
                    readings.map(|readings| self.ledger.file(at, block.stream, block.first, &readings))
                });
                if let Err(why) = readings {
                    self.ledger
                        .breaks(format!("the region refuses a block of {}: {why}", block.stream));
                }
                let ranges: RangeSet = block.range().into_iter().collect();
                vec![Coverage { stream: block.stream, ranges, whole: false }]
            }
            ToRegion::Hello(_) | ToRegion::Report(_) | ToRegion::Duties(_) => return,
        };
        let message = Box::new(FromRegion::Coverage(answer));
        self.wire.push_back(Message::Region { to: from, message });
    }

    /// The next message arrives, or a board does its next disk job. False where there is nothing to do but wait.
    pub fn step(&mut self) -> bool {
        let busy = |process: &Option<Process>| process.as_ref().is_some_and(|process| !process.jobs.is_empty());
        let mut ready: Vec<Option<usize>> = (0..self.processes.len())
            .filter(|board| busy(&self.processes[*board]))
            .map(Some)
            .collect();
        if !self.wire.is_empty() {
            // A message is much faster than a sync.
            ready.extend([None; 3]);
        }
        match self.dice.pick(&ready) {
            Some(Some(board)) => self.work(board),
            Some(None) => self.deliver(),
            None => return false,
        }
        self.now = self.now + Duration::from_micros(50);
        true
    }

    fn deliver(&mut self) {
        match self.wire.pop_front() {
            Some(Message::Peer { from, to, message }) => {
                self.drive(to, |node, now, out| node.handle_message(id(from), *message, now, out));
            }
            Some(Message::Control { from, to, message }) => {
                self.drive(to, |node, now, out| node.handle_control(id(from), *message, now, out));
            }
            Some(Message::RegionUp { to }) => {
                if let Some(process) = self.processes[to].as_mut() {
                    process.session = true;
                }
                self.drive(to, |node, now, out| node.handle_region_link(RegionLink::Up(None), now, out));
                self.drive(to, |node, now, out| node.handle_region(FromRegion::Welcome { incarnation: 1 }, now, out));
            }
            Some(Message::Region { to, message })
                if self.processes[to].as_ref().is_some_and(|process| process.session) =>
            {
                self.drive(to, |node, now, out| node.handle_region(*message, now, out));
            }
            Some(Message::Region { .. }) | None => {}
        }
    }

    fn work(&mut self, board: usize) {
        let Some(process) = self.processes[board].as_mut() else { return };
        // Lanes work beside each other, each behind the earlier ones.
        let jobs = &process.jobs;
        let is_next = |at: &usize| {
            let lane = Lane::of(&jobs[*at]);
            jobs.iter().take(*at).all(|before| Lane::of(before) > lane)
        };
        let ready: Vec<usize> = (0..jobs.len()).filter(is_next).collect();
        let Some(mut job) = self.dice.pick(&ready).and_then(|at| process.jobs.remove(at)) else {
            return;
        };
        let mut holds = Vec::new();
        if let DiskJob::Append { segment, offset, bytes, .. } = &job {
            if let Block::Block { runs, .. } = decode(*segment, *offset, bytes) {
                holds = runs;
            }
            for run in &holds {
                self.ledger.run(run);
            }
        }
        if self.lie == Some(Lie::PageRewritten) {
            job = with_page_before(&mut process.volume, job);
        }
        let done = match process.volume.perform(job) {
            Ok(Some(done)) => done,
            Ok(None) => return,
            Err(_) => {
                process.jobs.clear();
                DiskDone::Failed
            }
        };
        if matches!(done, DiskDone::Appended { .. }) {
            let at = self.mains.steps();
            for run in &holds {
                if let Some(range) = run.range() {
                    self.ledger.durable(at, board, run.stream, range);
                }
            }
        }
        self.drive(board, |node, now, out| node.handle_disk(done, now, out));
    }

    /// Lets time pass to the next deadline of any board.
    pub fn wait(&mut self) {
        let due = |process: &Process| process.node.next_deadline().at;
        let Some(next) = self.processes.iter().flatten().map(due).min() else { return };
        self.now = next.max(self.now + Duration::from_micros(10));
        for board in 0..self.processes.len() {
            let now = self.now;
            if self.processes[board].as_ref().is_some_and(|process| due(process) <= now) {
                self.drive(board, Node::handle_deadline);
            }
        }
    }

    /// Goes on until `reached`, for `within` of the site's time at most. Whether it was reached.
    pub fn run_until(&mut self, within: Duration, reached: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + within;
        loop {
            while self.step() {
                if self.ledger.broken.is_some() {
                    return false;
                }
            }
            if reached(self) {
                return true;
            }
            if self.now >= end || self.ledger.broken.is_some() {
                return false;
            }
            self.wait();
        }
    }

    /// Publishes that wait for their answer.
    pub fn waiting(&self) -> usize {
        self.processes.iter().flatten().map(|process| process.tickets.len()).sum()
    }
}

/// A lie: the block is written together with the page before it.
fn with_page_before(volume: &mut Volume, job: DiskJob) -> DiskJob {
    let DiskJob::Append { token, segment, offset, bytes } = job else { return job };
    let page = u32::try_from(PAGE_BYTES).expect("a page is short");
    let Some(before) = offset.checked_sub(page) else {
        return DiskJob::Append { token, segment, offset, bytes };
    };
    match volume.perform(DiskJob::Read { token, segment, offset: before, length: page }) {
        Ok(Some(DiskDone::Read { bytes: old, .. })) => {
            let bytes = Bytes::from([&old[..], &bytes[..]].concat());
            DiskJob::Append { token, segment, offset: before, bytes }
        }
        Ok(_) | Err(_) => DiskJob::Append { token, segment, offset, bytes },
    }
}

fn record(mark: Mark, bytes: usize) -> Record {
    let class = match mark.number % 8 {
        0 => Class::Alarm,
        1 | 2 => Class::Bulk,
        _ => Class::Event,
    };
    Record {
        class,
        publisher: Bytes::from(format!("sensor-{}", mark.publisher)),
        key: Key::Sequence { epoch: 0, seq: u64::from(mark.number) },
        taken: WallMillis(1_700_000_000_000),
        topic: Bytes::from_static(b"approach"),
        payload: Bytes::from(mark.payload(bytes)),
    }
}

fn whole_story(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", whole_story(source)),
        None => error.to_string(),
    }
}

/// Everything that stands in the recovered part of a board's journal, in the order of its places: segment, offset, bytes,
/// and what is at which number.
pub type Pieces = Vec<Piece>;

/// A block that can be read.
#[derive(Clone, Debug)]
pub struct Piece {
    /// In which segment.
    pub segment: SegmentId,
    /// From which byte.
    pub offset: u32,
    /// How many bytes.
    pub length: u32,
    /// Written in which life.
    pub epoch: Epoch,
    /// What is in it.
    pub runs: Vec<Run>,
}

/// Reads every block that `found` says is there, through the very jobs by which a node reads.
pub fn read_back(found: &mut Found) -> Result<Pieces, String> {
    let mut pieces = Vec::new();
    let ends: Vec<_> = found
        .recovered
        .segments
        .iter()
        .map(|(id, segment)| (*id, segment.end))
        .collect();
    for (segment, end) in ends.into_iter().filter(|(_, end)| *end > 0) {
        let job = DiskJob::Read { token: Token(1), segment, offset: 0, length: end };
        let bytes = match found.volume.perform(job) {
            Ok(Some(DiskDone::Read { bytes, .. })) => bytes,
            Ok(other) => return Err(format!("{segment:?} is read and {other:?} comes back")),
            Err(error) => return Err(format!("{segment:?} cannot be read: {}", whole_story(&error))),
        };
        let mut at = 0;
        while at < bytes.len() {
            let offset = u32::try_from(at).expect("a segment is short");
            match decode(segment, offset, &bytes[at..]) {
                Block::Block { header, runs } => {
                    let length = u32::try_from(header.block_bytes()).expect("a block is short");
                    pieces.push(Piece { segment, offset, length, epoch: header.place.epoch, runs });
                    at += header.block_bytes();
                }
                _ => at += PAGE_BYTES,
            }
        }
    }
    Ok(pieces)
}

/// The records of `pieces`, by stream.
pub fn ranges_of(pieces: &[Piece]) -> BTreeMap<Stream, RangeSet> {
    let mut ranges: BTreeMap<Stream, RangeSet> = BTreeMap::new();
    for run in pieces.iter().flat_map(|piece| &piece.runs) {
        ranges
            .entry(run.stream)
            .or_default()
            .extend(&run.range().into_iter().collect::<RangeSet>());
    }
    ranges
}

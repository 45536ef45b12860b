//! Three nodes over a perfect network and disk in one thread: the chain as a whole. Faults are the simulator's.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Node, Start};
use crate::action::{Action, Answer, DiskDone, DiskJob, Memory, Offer, RegionLink};
use crate::config::{DutyConfig, DutyMode, JournalConfig, NodeConfig, RepairConfig, Timing};
use crate::event::Event;
use crate::ids::{BoardId, BoardSet, Class, Epoch, Name, Origin, SegmentId, Stream, Ticket, Voters};
use crate::limits::{PAGE_BYTES, REPAIR_SHARE_BYTES};
use crate::outbox::Outbox;
use crate::ranges::RangeSet;
use crate::record::{Key, Record};
use crate::time::{Instant, WallMillis};
use crate::wire::control::ControlMessage;
use crate::wire::peer::{Coverage, PeerMessage, Reader, RegionTag, Run};
use crate::wire::uplink::{Codec, FromRegion, Reads, SiteDuties, ToRegion};

fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

struct Town {
    now: Instant,
    nodes: BTreeMap<BoardId, Node>,
    disks: BTreeMap<(BoardId, SegmentId), Vec<u8>>,
    inputs: VecDeque<(BoardId, Input)>,
    answered: Vec<Ticket>,
    covered: BTreeMap<Stream, RangeSet>,
    dialling: Option<BoardId>,
    /// Bytes of the longest write.
    longest: usize,
    /// What the region says that it reads.
    reads: Reads,
    /// Of the blocks that came to the region, and whose.
    codecs: Vec<(BoardId, Codec)>,
    /// Whether it says that it hears of duties.
    hears: bool,
    /// What came to it of duties: when, and from whom.
    duties: Vec<(Instant, BoardId, SiteDuties)>,
    /// Which region it is, where there are several.
    region: Option<RegionTag>,
    /// What nodes told of regions, and who.
    told: Vec<(BoardId, Event)>,
    /// Whether the session is welcomed; until then what the region has to say waits.
    is_welcomed: bool,
    /// A session is welcomed by the test alone.
    is_slow: bool,
    /// How often it was asked what it has.
    asks: usize,
    /// It does not answer that.
    is_mute: bool,
    owed: Vec<Vec<Coverage>>,
}

enum Input {
    Disk(DiskDone),
    Message(BoardId, PeerMessage),
    Control(BoardId, ControlMessage),
    RegionLink(RegionLink),
    Region(FromRegion),
}

fn config(number: u8, boards: u8) -> NodeConfig {
    let all: BoardSet = (1..=boards).map(board).collect();
    NodeConfig {
        site: "crossing".try_into().unwrap(),
        board: board(number),
        boards: all,
        voters: Voters { version: Voters::CONFIGURED, set: all.into() },
        priority: 0,
        domain: Name::new(),
        duties: alloc::vec![DutyConfig {
            name: "signal".try_into().unwrap(),
            mode: DutyMode::Exclusive,
            standby: false,
            is_local: number > 1,
        }],
        copies: 2.min(usize::from(boards)),
        timing: Timing::default(),
        journal: JournalConfig::sized(4 * 1024 * 1024, 8),
        repair: RepairConfig::default(),
        has_region: true,
    }
}

impl Town {
    fn new(boards: u8) -> Self {
        Self::with(boards, Timing::default().seal_event)
    }

    /// Of boards that gather events for a block for so long.
    fn with(boards: u8, linger: core::time::Duration) -> Self {
        let mut town = Self {
            now: Instant::ZERO,
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            inputs: VecDeque::new(),
            answered: Vec::new(),
            covered: BTreeMap::new(),
            dialling: None,
            longest: 0,
            reads: Reads::Lz4,
            codecs: Vec::new(),
            hears: false,
            duties: Vec::new(),
            region: None,
            told: Vec::new(),
            is_welcomed: false,
            is_slow: false,
            asks: 0,
            is_mute: false,
            owed: Vec::new(),
        };
        for number in 1..=boards {
            let epoch = Epoch { boot: 1, nonce: u64::from(number) };
            let memory = Memory { term_ceiling: 1024, ..Memory::default() };
            let seed = u64::from(number);
            let start = Start { epoch, memory, seed, restarts: 0, recovered: Default::default() };
            let mut config = config(number, boards);
            config.timing.seal_event = linger;
            town.nodes.insert(board(number), Node::new(config, start, town.now));
            town.input(board(number), |node, now, out| node.handle_start(now, out));
        }
        for (a, b) in (1..=boards)
            .flat_map(|a| (1..=boards).map(move |b| (a, b)))
            .filter(|(a, b)| a != b)
        {
            town.input(board(a), |node, now, out| node.handle_link(board(b), true, now, out));
        }
        town
    }

    fn input(&mut self, at: BoardId, handle: impl FnOnce(&mut Node, Instant, &mut Outbox<Action>)) {
        let mut out = Outbox::default();
        let Some(node) = self.nodes.get_mut(&at) else { return };
        handle(node, self.now, &mut out);
        node.check();
        while let Some(action) = out.pop() {
            self.perform(at, action);
        }
    }

    fn perform(&mut self, at: BoardId, action: Action) {
        match action {
            Action::Answer(answers) => {
                assert!(answers.iter().all(|(_, answer)| *answer == Answer::Committed));
                self.answered.extend(answers.into_iter().map(|(ticket, _)| ticket));
            }
            Action::Disk(job) => {
                if let Some(done) = self.disk(at, job) {
                    self.inputs.push_back((at, Input::Disk(done)));
                }
            }
            Action::Send { to, message } => self.inputs.push_back((to, Input::Message(at, message))),
            Action::Tell { to, message } => self.inputs.push_back((to, Input::Control(at, message))),
            Action::Dial(_) => {
                self.dialling = Some(at);
                (self.is_welcomed, self.owed) = (false, Vec::new());
                self.inputs.push_back((at, Input::RegionLink(RegionLink::Up(self.region))));
                if !self.is_slow {
                    self.welcome(at);
                }
            }
            Action::TellWitness { .. } | Action::Duty { .. } => {}
            Action::HangUp => self.dialling = None,
            Action::ToRegion { message, .. } => self.region(at, message),
            Action::Notice(event @ (Event::RegionChanged | Event::CoverageWentBack { .. })) => {
                self.told.push((at, event));
            }
            Action::Notice(_) => {}
        }
    }

    fn welcome(&mut self, at: BoardId) {
        self.inputs
            .push_back((at, Input::Region(FromRegion::Welcome { incarnation: 1 })));
        let reads = (self.reads != Reads::Lz4).then(|| Coverage::reads(Reader::Region, self.reads));
        let lines: Vec<Coverage> = reads.into_iter().chain(self.hears.then(Coverage::hears)).collect();
        if !lines.is_empty() {
            self.inputs.push_back((at, Input::Region(FromRegion::Coverage(lines))));
        }
        self.is_welcomed = true;
        for lines in core::mem::take(&mut self.owed) {
            self.inputs.push_back((at, Input::Region(FromRegion::Coverage(lines))));
        }
    }

    /// The session of `at` falls.
    fn fall(&mut self, at: BoardId) {
        (self.is_welcomed, self.owed) = (false, Vec::new());
        self.input(at, |node, now, out| node.handle_region_link(RegionLink::Down, now, out));
    }

    /// The next one stands, and is not welcomed yet.
    fn stand(&mut self, at: BoardId) {
        let region = self.region;
        self.input(at, |node, now, out| node.handle_region_link(RegionLink::Up(region), now, out));
    }

    /// The session of `at` falls, and the next one is with a region that hears of duties or does not.
    fn meet_again(&mut self, at: BoardId, hears: bool) {
        self.hears = hears;
        self.fall(at);
        self.stand(at);
        self.welcome(at);
    }

    fn disk(&mut self, at: BoardId, job: DiskJob) -> Option<DiskDone> {
        match job {
            DiskJob::Prepare { segment, from, bytes, .. } => {
                let file = from.and_then(|from| self.disks.remove(&(at, from)));
                self.disks
                    .insert((at, segment), file.unwrap_or_else(|| alloc::vec![0; bytes as usize]));
                Some(DiskDone::Prepared { segment })
            }
            DiskJob::Append { token, segment, offset, bytes } => {
                let file = self.disks.get_mut(&(at, segment)).unwrap();
                file[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
                self.longest = self.longest.max(bytes.len());
                Some(DiskDone::Appended { token })
            }
            DiskJob::Read { token, segment, offset, length } | DiskJob::Verify { token, segment, offset, length } => {
                let file = &self.disks[&(at, segment)];
                let bytes = Bytes::copy_from_slice(&file[offset as usize..(offset + length) as usize]);
                Some(DiskDone::Read { token, bytes })
            }
            DiskJob::Delete { segment } => {
                self.disks.remove(&(at, segment));
                None
            }
            DiskJob::Foot { .. } | DiskJob::Free { .. } => None,
            DiskJob::Remember(memory) => Some(DiskDone::Remembered(memory)),
        }
    }

    fn region(&mut self, at: BoardId, message: ToRegion) {
        assert_eq!(self.dialling, Some(at), "only the holder speaks");
        let lines = match message {
            ToRegion::Hello(_) | ToRegion::Report(_) => return,
            ToRegion::Duties(duties) => {
                assert!(self.hears, "duties were told to a region that does not know them");
                self.duties.push((self.now, at, duties));
                return;
            }
            ToRegion::Ask(streams) => {
                self.asks += 1;
                if self.is_mute {
                    return;
                }
                streams
                    .into_iter()
                    .map(|stream| {
                        let ranges = self.covered.get(&stream).cloned().unwrap_or_default();
                        Coverage { stream, ranges, whole: true }
                    })
                    .collect()
            }
            ToRegion::Block(block) => {
                assert!(block.is_intact());
                assert!(self.reads.takes(block.codec), "{:?} came to one that reads {:?}", block.codec, self.reads);
                self.codecs.push((block.stream.origin.board, block.codec));
                let ranges = RangeSet::from_iter(block.range());
                self.covered.entry(block.stream).or_default().extend(&ranges);
                alloc::vec![Coverage { stream: block.stream, ranges, whole: false }]
            }
        };
        if self.is_welcomed {
            self.inputs.push_back((at, Input::Region(FromRegion::Coverage(lines))));
        } else {
            self.owed.push(lines);
        }
    }

    /// Lets `millis` pass, in steps of the nearest deadline.
    fn pass(&mut self, millis: u64) {
        let end = Instant::from_micros(self.now.micros() + millis * 1000);
        loop {
            while let Some((at, input)) = self.inputs.pop_front() {
                self.input(at, |node, now, out| match input {
                    Input::Disk(done) => node.handle_disk(done, now, out),
                    Input::Message(from, message) => node.handle_message(from, message, now, out),
                    Input::Control(from, message) => node.handle_control(from, message, now, out),
                    Input::RegionLink(link) => node.handle_region_link(link, now, out),
                    Input::Region(message) => node.handle_region(message, now, out),
                });
            }
            let next = self
                .nodes
                .iter()
                .map(|(at, node)| (node.next_deadline(), *at))
                .min_by_key(|(next, _)| next.at);
            let Some((next, at)) = next.filter(|(next, _)| next.at <= end) else { break };
            assert!(self.nodes[&at].next_deadline().at > self.now || next.at == self.now, "{} is over", next.why);
            let before = self.now;
            self.now = self.now.max(next.at);
            self.input(at, |node, now, out| node.handle_deadline(now, out));
            let after = self.nodes[&at].next_deadline();
            assert!(after.at > before, "{at} spins on {}", after.why);
        }
        self.now = end;
    }

    fn kill(&mut self, dead: BoardId) {
        self.nodes.remove(&dead);
        if self.dialling == Some(dead) {
            self.dialling = None;
        }
        let living: Vec<BoardId> = self.nodes.keys().copied().collect();
        for at in living {
            self.input(at, |node, now, out| node.handle_link(dead, false, now, out));
        }
    }

    fn leader(&self) -> Option<BoardId> {
        let mut leaders = self
            .nodes
            .iter()
            .filter(|(_, node)| node.holds(self.now).is_some())
            .map(|(at, _)| *at);
        let leader = leaders.next();
        assert_eq!(leaders.next(), None, "two leaders");
        leader
    }

    fn publish(&mut self, at: BoardId, first: u64, count: u64) {
        let offers = (first..first + count).map(|seq| {
            let record = Record {
                class: Class::Event,
                publisher: Bytes::from_static(b"loop-1"),
                key: Key::Sequence { epoch: 0, seq },
                taken: WallMillis(0),
                topic: Bytes::from_static(b"det/1"),
                payload: Bytes::from(alloc::vec![1; 200]),
            };
            Offer { ticket: Some(Ticket(seq)), record }
        });
        let offers = offers.collect();
        self.input(at, |node, now, out| node.handle_offers(offers, now, out));
    }

    fn covered(&self) -> u64 {
        self.covered.values().map(RangeSet::count).sum()
    }
}

fn codecs_of(town: &mut Town, from: u64) -> Vec<(u8, Codec)> {
    town.codecs.clear();
    for number in 1..=3 {
        town.publish(board(number), from + 100 * u64::from(number), 60);
    }
    town.pass(2000);
    let mut codecs: Vec<_> = town.codecs.iter().map(|(board, codec)| (board.get(), *codec)).collect();
    codecs.sort_unstable_by_key(|(board, _)| *board);
    codecs.dedup();
    codecs
}

/// The holder and, through it, the others pack blocks in columns for a region that says that it reads them, and for no other:
/// after a session with an older region begins, they stop. Seen to fail without the reset in `open_route`, and with the line left
/// out of `handle_link`.
#[test]
fn blocks_are_packed_for_the_region_that_the_session_is_with() {
    let all = |codec| [(1, codec), (2, codec), (3, codec)];
    let mut town = Town::new(3);
    town.pass(1500);
    assert_eq!(codecs_of(&mut town, 1), all(Codec::Lz4));
    for (reads, codec) in [(Reads::Columns, Codec::Columns), (Reads::Lz4, Codec::Lz4), (Reads::Columns, Codec::Columns)]
    {
        town.reads = reads;
        let holder = town.leader().unwrap();
        town.fall(holder);
        town.pass(10);
        town.stand(holder);
        town.welcome(holder);
        town.pass(10);
        let from = 1000 * town.now.micros();
        assert_eq!(codecs_of(&mut town, from), all(codec));
        // A peer that was away is told when it is there again.
        let peer = (1..=3).map(board).find(|number| *number != holder).unwrap();
        for up in [false, true] {
            town.input(holder, |node, now, out| node.handle_link(peer, up, now, out));
            town.input(peer, |node, now, out| node.handle_link(holder, up, now, out));
        }
        town.pass(100);
        assert_eq!(codecs_of(&mut town, from + 1000), all(codec));
    }
}

/// Where the region has spoken before, all boards' blocks follow the hello, packed as they were, and nobody waits for the welcome.
/// After a session that fell without one nothing goes ahead: it may be what the region did not bear. A new holder knows from the one
/// before what the region reads. Seen to fail without `has_gone_ahead`, and with `region_reads` kept by the holder alone.
#[test]
fn blocks_follow_the_hello_where_the_region_has_spoken_before() {
    let mut town = Town::new(3);
    town.reads = Reads::Columns;
    town.pass(1500);
    let all = [(1, Codec::Columns), (2, Codec::Columns), (3, Codec::Columns)];
    assert_eq!(codecs_of(&mut town, 1), all);
    let first = town.leader().unwrap();
    let from = |town: &Town| 1000 * town.now.micros();

    town.fall(first);
    town.stand(first);
    let seq = from(&town);
    assert_eq!(codecs_of(&mut town, seq), all, "before the welcome");
    town.welcome(first);
    town.pass(100);
    assert!(town.nodes.values().all(|node| node.status(town.now).backlog == 0), "the answers count");
    let asks = town.asks;
    town.pass(12_000);
    assert_eq!(town.asks, asks, "all were answered");

    town.fall(first);
    town.stand(first);
    town.pass(10);
    town.fall(first);
    town.stand(first);
    let seq = from(&town);
    assert_eq!(codecs_of(&mut town, seq), [], "the last session fell without a word");
    town.welcome(first);
    let seq = from(&town) + 1000;
    assert_eq!(codecs_of(&mut town, seq), all);

    town.is_slow = true;
    town.kill(first);
    town.pass(5000);
    let living: Vec<_> = all.into_iter().filter(|(number, _)| *number != first.get()).collect();
    let seq = from(&town);
    assert_eq!(codecs_of(&mut town, seq), living, "as the one before has said");
    // Who waits long for a welcome gives way to another one.
    let second = town.dialling.unwrap();
    town.welcome(second);
    town.pass(100);
    assert!(town.nodes.values().all(|node| node.status(town.now).backlog == 0));
}

/// A region that has much to store answers late. Seen to fail where what is gathered for a block is forgotten when it is asked again:
/// it counted as on its way, and was never sent.
#[test]
fn what_is_gathered_is_not_forgotten_when_a_late_answer_is_asked_for_again() {
    let mut town = Town::with(1, core::time::Duration::from_millis(300));
    town.pass(2500);
    town.publish(board(1), 1, 5);
    town.pass(1000);
    assert_eq!(town.covered(), 5);
    town.fall(board(1));
    town.is_mute = true;
    town.stand(board(1));
    town.welcome(board(1));
    for round in 0..120 {
        town.publish(board(1), 10 + 3 * round, 3);
        town.pass(100);
    }
    town.is_mute = false;
    town.pass(12_000);
    assert_eq!((town.covered(), town.nodes[&board(1)].status(town.now).backlog), (365, 0));
}

/// A holder of an older build hands on what the region says of itself. It could not read the blocks itself.
#[test]
fn the_regions_words_are_not_the_holders() {
    for (reader, codec) in [(Reader::Region, Codec::Lz4), (Reader::Holder, Codec::Columns)] {
        let mut town = Town::new(3);
        town.pass(1500);
        let holder = town.leader().unwrap();
        let peer = (1..=3).map(board).find(|number| *number != holder).unwrap();
        let line = alloc::vec![Coverage::reads(reader, Reads::Columns)];
        town.input(peer, |node, now, out| node.handle_message(holder, PeerMessage::Coverage(line), now, out));
        assert_eq!(town.nodes[&peer].sealer.reads().takes(Codec::Columns), codec == Codec::Columns);
        // What a holder says anew of its session says nothing of what it reads.
        let (Some(term), open) = (town.nodes[&holder].holds(town.now), |term| PeerMessage::UplinkOpen { term }) else {
            panic!("it leads")
        };
        town.input(peer, |node, now, out| node.handle_message(holder, open(term), now, out));
        assert_eq!(town.nodes[&peer].sealer.reads(), Reads::Lz4);
        // A block that a peer sealed for another session is not passed on: it is sent again.
        town.pass(10);
        let stream = Stream { origin: town.nodes[&peer].origin, class: Class::Event };
        let block = crate::wire::uplink::Block::new(stream, 1, 1, Codec::Columns, 1, Bytes::from_static(b"x"));
        town.input(holder, |node, now, out| node.handle_message(peer, PeerMessage::Block(block), now, out));
        assert_eq!(town.codecs, []);
    }
}

#[test]
fn records_are_acknowledged_on_two_boards_and_reach_the_region_once() {
    let mut town = Town::new(3);
    town.pass(1500);
    assert!(town.leader().is_some());
    for round in 0..20 {
        for number in 1..=3 {
            town.publish(board(number), 1 + round * 30 + u64::from(number - 1) * 10, 10);
        }
        town.pass(20);
    }
    assert_eq!(town.answered.len(), 600);
    town.pass(500);
    assert_eq!(town.covered(), 600);
    for node in town.nodes.values() {
        let status = node.status(town.now);
        assert_eq!((status.backlog, status.degraded_records, status.uncommitted), (0, 0, 0));
    }
}

#[test]
fn a_dead_leader_is_replaced_and_its_records_come_from_their_copies() {
    let mut town = Town::new(3);
    town.pass(1500);
    let leader = town.leader().unwrap();
    town.publish(leader, 1, 50);
    town.pass(1);
    assert_eq!(town.answered.len(), 50, "acknowledged before the block was even sealed");
    assert_eq!(town.covered(), 0);
    town.kill(leader);
    town.pass(3000);
    assert!(town.leader().is_some_and(|next| next != leader));
    assert_eq!(town.covered(), 50);
}

#[test]
fn one_board_left_goes_on_degraded_and_says_so() {
    let mut town = Town::new(3);
    town.pass(2500);
    town.kill(board(1));
    town.kill(board(2));
    town.pass(1000);
    town.publish(board(3), 1, 5);
    town.pass(50);
    assert_eq!(town.answered.len(), 5);
    let status = town.nodes[&board(3)].status(town.now);
    assert_eq!((status.degraded, status.degraded_records, status.owed), (true, 5, 5));
    assert_eq!(town.leader(), None, "no majority, no lease");
}

#[test]
fn missing_copies_take_a_small_share_of_each_write_and_all_arrive() {
    let mut town = Town::new(2);
    town.pass(2500);
    let origin = Origin { board: board(2), epoch: Epoch { boot: 9, nonce: 9 } };
    let stream = Stream { origin, class: Class::Event };
    for number in 1..=30 {
        let run = Run::new(stream, number, 1, Bytes::from(alloc::vec![7; 60_000]));
        town.inputs
            .push_back((board(1), Input::Message(board(2), PeerMessage::Repair(run))));
    }
    town.longest = 0;
    town.publish(board(1), 1, 10);
    town.pass(100);
    assert_eq!(town.nodes[&board(1)].held()[&stream].count(), 30);
    assert_eq!(town.answered.len(), 10);
    assert!(town.longest <= REPAIR_SHARE_BYTES + 4 * PAGE_BYTES, "a write of {} bytes", town.longest);
}

#[test]
fn nobody_brings_a_board_records_of_its_own_life_that_it_has_not_lost() {
    let mut town = Town::new(2);
    town.pass(2500);
    let epoch = Epoch { boot: 1, nonce: 1 };
    let stream = Stream { origin: Origin { board: board(1), epoch }, class: Class::Event };
    let run = Run::new(stream, 5, 1, Bytes::from_static(b"?"));
    town.input(board(1), |node, now, out| node.handle_message(board(2), PeerMessage::Repair(run), now, out));
    town.pass(100);
    assert!(!town.nodes[&board(1)].held().contains_key(&stream));
}

#[test]
fn a_site_of_one_board_works() {
    let mut town = Town::new(1);
    town.pass(2500);
    town.publish(board(1), 1, 5);
    town.pass(500);
    assert_eq!((town.answered.len(), town.covered()), (5, 5));
}

#[test]
fn a_long_run_recycles_its_segments() {
    let mut town = Town::new(2);
    town.pass(2500);
    for round in 0..300 {
        town.publish(board(1), 1 + round * 400, 400);
        town.pass(30);
    }
    town.pass(1000);
    assert_eq!((town.answered.len(), town.covered()), (120_000, 120_000));
    assert!(town.disks.len() <= 2 * 5, "{} files", town.disks.len());
}

/// A site that changes to another region and back tells so once a board, and calls neither one's coverage gone back; one that has lost
/// its memory it does. Seen to fail without the holder's line about its region, and without what `foreign` keeps.
#[test]
fn another_region_is_not_taken_for_one_that_has_lost_its_memory() {
    let mut town = Town::new(3);
    let [north, south] = ["north", "south"].map(|name| RegionTag::of(&Name::try_from(name).unwrap()));
    town.region = Some(north);
    town.pass(1500);
    for number in 1..=3 {
        town.publish(board(number), 100 * u64::from(number), 60);
    }
    town.pass(2000);
    assert_eq!((town.covered(), town.told.len()), (180, 0));
    let mut of_north = town.covered.clone();
    for (region, had) in [(south, BTreeMap::new()), (north, of_north.clone()), (north, BTreeMap::new())] {
        let is_another = town.region != Some(region);
        (town.region, town.covered) = (Some(region), had);
        let holder = town.leader().unwrap();
        town.fall(holder);
        town.pass(10);
        town.stand(holder);
        town.welcome(holder);
        town.pass(7000);
        assert_eq!(town.covered(), 180, "all that is kept goes up to it");
        let told = core::mem::take(&mut town.told);
        let changes: BTreeSet<BoardId> = told
            .iter()
            .filter(|(_, event)| *event == Event::RegionChanged)
            .map(|(at, _)| *at)
            .collect();
        let went_back = told
            .iter()
            .filter(|(_, event)| matches!(event, Event::CoverageWentBack { .. }))
            .count();
        assert_eq!((changes.len(), went_back > 0), if is_another { (3, false) } else { (0, true) });
        of_north.clone_from(&town.covered);
    }
}

/// Seen to fail without the reset at the welcome, with what was told never repeated or repeated each second, and with the region
/// not waited for to say that it hears.
#[test]
fn a_region_that_hears_of_duties_is_told_what_changes_and_every_ten_seconds() {
    let mut town = Town::new(3);
    town.pass(5000);
    let first = town.leader().unwrap();
    assert_eq!(town.duties, [], "it has not said that it hears");

    town.meet_again(first, true);
    town.pass(31_500);
    let told: Vec<(Instant, BoardId, SiteDuties)> = core::mem::take(&mut town.duties);
    let of = |told: &SiteDuties| (told.duties.len(), told.duties[0].name.clone(), told.duties[0].holders.len());
    assert_eq!(of(&told[0].2), (1, "signal".try_into().unwrap(), 1));
    assert_eq!(told.len(), 4, "at once, and each ten seconds: {told:?}");
    for pair in told.windows(2) {
        assert_eq!(pair[1].0.since(pair[0].0).as_secs(), 10);
        assert!(pair[1].2.is_as(&pair[0].2));
    }

    town.kill(first);
    town.pass(10_000);
    let second = town.leader().unwrap();
    let (_, by, last) = town.duties.last().unwrap();
    assert_eq!((*by, last.duties[0].holders.contains(first)), (second, false));
    assert!(town.duties.len() <= 10, "no more than one a second: {:?}", town.duties);
    // Each session is told anew, and one with an older region nothing: it would take that for no message at all.
    town.duties.clear();
    town.meet_again(second, true);
    town.pass(1_500);
    assert_eq!(town.duties.len(), 1);
    town.meet_again(second, false);
    town.pass(11_000);
    assert_eq!(town.duties.len(), 1);
}

//! The hub against a store that is a map: it settles as every store must, and answers when the test lets it.

use super::*;
use crate::block::pack;
use crate::ids::{Class, Epoch, Origin};
use crate::limits::{COVERAGE_STREAMS_MAX, DUTIES_MAX, SESSION_ASKS_MAX, SESSION_BLOCKS_MAX, SESSION_SLACK};
use crate::record::{Key, Kind, Reading};
use crate::region::ledger::settle;
use crate::time::WallMillis;
use crate::wire::peer::Reader;
use crate::wire::uplink::{Codec, DutyState, DutyTold, Reads, duty_words};
use core::time::Duration;

fn name(word: &str) -> Name {
    Name::try_from(word).unwrap()
}

fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

fn stream(number: u8) -> Stream {
    let origin = Origin { board: board(number), epoch: Epoch { boot: 1, nonce: 1 } };
    Stream { origin, class: Class::Event }
}

fn block(number: u8, first: u64, count: u32) -> Block {
    let mut raw = Vec::new();
    for seq in first..first + u64::from(count) {
        let key = Key::Sequence { epoch: 0, seq };
        let reading =
            Reading { kind: Kind::Reading, publisher: "p", key, taken: WallMillis(0), topic: "t", payload: b"x" };
        reading.encode(&mut raw);
    }
    pack(stream(number), first, count, &raw)
}

/// A hub, its outbox, and the jobs that its store has not done.
struct Region {
    hub: Hub,
    out: Outbox<HubAction>,
    now: Instant,
    jobs: Vec<HubAction>,
    coverage: BTreeMap<Stream, RangeSet>,
    memory: HubMemory,
    fails: bool,
    /// Sessions that were told which codecs the region reads.
    told_reads: usize,
}

impl Region {
    fn new() -> Self {
        Self::with(HubMemory { incarnation: 77, fences: BTreeMap::new() })
    }

    fn with(memory: HubMemory) -> Self {
        let config = HubConfig { sites: [name("elm"), name("oak")].into_iter().collect() };
        Self {
            hub: Hub::new(config, memory.clone(), Instant::ZERO),
            out: Outbox::default(),
            now: Instant::ZERO,
            jobs: Vec::new(),
            coverage: BTreeMap::new(),
            memory,
            fails: false,
            told_reads: 0,
        }
    }

    /// Drains the outbox: what the store is to do waits in `jobs`, the rest is returned.
    fn drain(&mut self) -> Vec<HubAction> {
        self.hub.check();
        let mut rest = Vec::new();
        while let Some(action) = self.out.pop() {
            match action {
                HubAction::Store { .. } | HubAction::Load { .. } => self.jobs.push(action),
                HubAction::Notice { .. } => {}
                HubAction::Send { session, message: FromRegion::Coverage(lines) }
                    if lines.iter().any(|line| line.as_reads(Reader::Region).is_some()) =>
                {
                    assert_eq!(lines, [Coverage::reads(Reader::Region, Reads::Columns), Coverage::hears()]);
                    let welcomed = HubAction::Send { session, message: FromRegion::Welcome { incarnation: 77 } };
                    assert_eq!(rest.last(), Some(&welcomed), "it comes behind the welcome");
                    self.told_reads += 1;
                }
                HubAction::Send { .. }
                | HubAction::Close { .. }
                | HubAction::SendAway { .. }
                | HubAction::Report { .. }
                | HubAction::Duties { .. } => rest.push(action),
            }
        }
        rest
    }

    fn open(&mut self, session: u64, site: &str, number: u8) -> Vec<HubAction> {
        let identity = (name(site), board(number));
        self.hub.handle_opened(SessionId(session), identity, self.now, &mut self.out);
        self.drain()
    }

    fn say(&mut self, session: u64, message: ToRegion) -> Vec<HubAction> {
        self.hub.handle_message(SessionId(session), message, self.now, &mut self.out);
        self.drain()
    }

    fn hello(&mut self, session: u64, site: &str, number: u8, term: u64) -> Vec<HubAction> {
        let hello = Hello {
            site: name(site),
            board: board(number),
            epoch: Epoch::default(),
            term: Term::from_token(term),
        };
        self.say(session, ToRegion::Hello(hello))
    }

    /// Does the oldest job of the store.
    fn work(&mut self) -> Vec<HubAction> {
        match self.jobs.remove(0) {
            HubAction::Store { token, site, fence, blocks } => {
                let result = if self.fails {
                    Err(StoreFailed)
                } else {
                    Ok(self.store(site, fence, &blocks))
                };
                self.hub.handle_stored(token, result, self.now, &mut self.out);
            }
            HubAction::Load { token, streams, .. } => {
                let loaded = streams.iter().filter_map(|of| Some((*of, self.coverage.get(of)?.clone())));
                let loaded = if self.fails { Err(StoreFailed) } else { Ok(loaded.collect()) };
                self.hub.handle_loaded(token, loaded, self.now, &mut self.out);
            }
            other => panic!("not a job: {other:?}"),
        }
        self.drain()
    }

    fn store(&mut self, site: Name, fence: Option<Term>, blocks: &[Block]) -> Vec<Stored> {
        if let Some(term) = fence {
            self.memory.fences.insert(site, term);
        }
        let mut store_one = |block: &Block| {
            let coverage = self.coverage.entry(block.stream).or_default();
            let outcome = settle(coverage, block).map(|settled| {
                coverage.insert(settled.range);
                Tally { rows: settled.readings().count() as u64, again: settled.again(), ..Tally::default() }
            });
            Stored { stream: block.stream, outcome }
        };
        blocks.iter().map(&mut store_one).collect()
    }

    /// A welcomed session of board 1 of `elm`.
    fn standing() -> Self {
        let mut region = Self::new();
        region.open(1, "elm", 1);
        region.hello(1, "elm", 1, 100);
        assert_eq!(region.work(), [welcome(1)]);
        assert_eq!(region.told_reads, 1);
        region
    }
}

fn send(session: u64, message: FromRegion) -> HubAction {
    HubAction::Send { session: SessionId(session), message }
}

fn welcome(session: u64) -> HubAction {
    send(session, FromRegion::Welcome { incarnation: 77 })
}

fn refused(session: u64, reason: Refusal) -> [HubAction; 2] {
    [send(session, FromRegion::Refused(reason)), HubAction::Close { session: SessionId(session) }]
}

fn covered(session: u64, number: u8, ranges: &[(u64, u64)], whole: bool) -> HubAction {
    let ranges = ranges
        .iter()
        .map(|(first, last)| crate::ranges::SeqRange { first: *first, last: *last })
        .collect();
    let coverage = Coverage { stream: stream(number), ranges, whole };
    send(session, FromRegion::Coverage(alloc::vec![coverage]))
}

#[test]
fn a_session_is_welcomed_only_when_its_term_is_durable() {
    let mut region = Region::new();
    region.open(1, "elm", 1);
    assert_eq!(region.hello(1, "elm", 1, 100), []);
    assert_eq!(region.say(1, ToRegion::Ask(alloc::vec![stream(1)])), []);
    assert_eq!(region.jobs.len(), 1, "the question waits for the welcome");
    assert_eq!(region.work(), [welcome(1)]);
    assert_eq!(region.memory.fences[&name("elm")], Term::from_token(100));
    assert_eq!(region.work(), [covered(1, 1, &[], true)]);
    let mut again = Region::with(region.memory.clone());
    again.open(2, "elm", 2);
    let highest = Term::from_token(100);
    assert_eq!(again.hello(2, "elm", 2, 99), refused(2, Refusal::Fenced { highest }));
    again.open(3, "elm", 1);
    assert_eq!(again.hello(3, "elm", 1, 100), [welcome(3)]);
}

#[test]
fn a_higher_term_closes_lower_sessions_and_an_equal_one_stands_beside() {
    let mut region = Region::standing();
    region.open(2, "elm", 1);
    assert_eq!(region.hello(2, "elm", 1, 100), [welcome(2)]);
    region.open(3, "elm", 2);
    let highest = Term::from_token(101);
    let mut both = refused(1, Refusal::Fenced { highest }).to_vec();
    both.extend(refused(2, Refusal::Fenced { highest }));
    assert_eq!(region.hello(3, "elm", 2, 101), both);
    region.open(4, "elm", 1);
    assert_eq!(region.hello(4, "elm", 1, 100), refused(4, Refusal::Fenced { highest }));
    assert_eq!(region.work(), [welcome(3)]);
    region.open(5, "oak", 1);
    assert_eq!(region.hello(5, "oak", 1, 1), [], "another site has its own fence");
    assert_eq!(region.work(), [welcome(5)]);
}

#[test]
fn a_term_raised_while_another_is_being_stored_is_stored_too() {
    let mut region = Region::new();
    region.open(1, "elm", 1);
    region.hello(1, "elm", 1, 100);
    region.open(2, "elm", 2);
    region.hello(2, "elm", 2, 200);
    assert_eq!(region.work(), [], "the first is fenced, the second not yet durable");
    assert_eq!(region.work(), [welcome(2)]);
    assert_eq!(region.memory.fences[&name("elm")], Term::from_token(200));
}

#[test]
fn blocks_are_acknowledged_after_their_transaction_and_gather_while_one_is_on_its_way() {
    let mut region = Region::standing();
    assert_eq!(region.say(1, ToRegion::Block(block(1, 1, 2))), []);
    assert_eq!(region.say(1, ToRegion::Block(block(1, 3, 2))), []);
    assert_eq!(region.say(1, ToRegion::Block(block(1, 9, 1))), []);
    assert_eq!(region.jobs.len(), 1);
    assert_eq!(region.work(), [covered(1, 1, &[(1, 2)], false)]);
    assert_eq!(region.work(), [covered(1, 1, &[(3, 4), (9, 9)], false)]);
    region.say(1, ToRegion::Block(block(1, 2, 3)));
    assert_eq!(region.work(), [covered(1, 1, &[(2, 4)], false)], "known ones are acknowledged again");
    region.say(1, ToRegion::Ask(alloc::vec![stream(1), stream(2)]));
    let HubAction::Send { message: FromRegion::Coverage(whole), .. } = region.work().remove(0) else {
        panic!("an answer");
    };
    assert_eq!((whole.len(), whole[0].ranges.count(), whole[1].ranges.count()), (2, 5, 0));
}

#[test]
fn a_session_that_is_gone_is_not_answered_and_leaves_nothing_waiting() {
    let mut region = Region::standing();
    region.say(1, ToRegion::Block(block(1, 1, 2)));
    region.say(1, ToRegion::Block(block(1, 3, 2)));
    region.say(1, ToRegion::Ask(alloc::vec![stream(1)]));
    region.hub.handle_closed(SessionId(1), region.now, &mut region.out);
    assert_eq!(region.work(), []);
    assert_eq!(region.work(), []);
    assert_eq!((region.jobs.len(), region.hub.blocks_waiting(&name("elm"))), (0, 0));
    assert_eq!(region.say(1, ToRegion::Block(block(1, 5, 2))), []);
}

#[test]
fn who_the_certificate_does_not_prove_is_refused() {
    let mut region = Region::new();
    assert_eq!(region.open(1, "fir", 1), refused(1, Refusal::Identity));
    region.open(2, "elm", 1);
    assert_eq!(region.hello(2, "oak", 1, 5), refused(2, Refusal::Identity));
    region.open(3, "elm", 1);
    assert_eq!(region.hello(3, "elm", 2, 5), refused(3, Refusal::Identity));
    assert_eq!(region.jobs.len(), 0, "no fence moved");
}

#[test]
fn what_does_not_fit_the_conversation_ends_the_session() {
    let before_hello = [
        ToRegion::Ask(Vec::new()),
        ToRegion::Block(block(1, 1, 1)),
        ToRegion::Report(SiteReport::default()),
        ToRegion::Duties(SiteDuties::default()),
    ];
    for message in before_hello {
        let mut region = Region::new();
        region.open(1, "elm", 1);
        assert_eq!(region.say(1, message), refused(1, Refusal::Protocol));
    }
    let mut region = Region::standing();
    assert_eq!(region.hello(1, "elm", 1, 100), refused(1, Refusal::Protocol));
    let mut region = Region::standing();
    assert_eq!(region.say(1, ToRegion::Ask(alloc::vec![stream(1); COVERAGE_STREAMS_MAX])), []);
    let over = ToRegion::Ask(alloc::vec![stream(1); COVERAGE_STREAMS_MAX + 1]);
    assert_eq!(region.say(1, over), refused(1, Refusal::Protocol));
    let mut region = Region::standing();
    let overflow = Block::new(stream(1), u64::MAX, 2, Codec::Plain, 0, bytes::Bytes::new());
    assert_eq!(region.say(1, ToRegion::Block(overflow)), refused(1, Refusal::Protocol));
}

#[test]
fn a_bad_block_ends_its_session_and_spares_the_rest_of_the_transaction() {
    let mut region = Region::standing();
    region.say(1, ToRegion::Block(block(1, 1, 1)));
    region.say(1, ToRegion::Block(block(1, 2, 1)));
    let mut bad = block(1, 3, 1);
    bad.crc ^= 1;
    region.say(1, ToRegion::Block(bad));
    region.work();
    let mut answers = alloc::vec![covered(1, 1, &[(2, 2)], false)];
    answers.extend(refused(1, Refusal::Protocol));
    assert_eq!(region.work(), answers);
    assert_eq!(region.coverage[&stream(1)].count(), 2);
}

/// One that waits for a store which is away would wait as long as that lasts, though there may be another region.
#[test]
fn a_site_whose_coverage_cannot_be_read_is_let_go() {
    let mut region = Region::standing();
    region.say(1, ToRegion::Ask(alloc::vec![stream(1)]));
    region.say(1, ToRegion::Ask(alloc::vec![stream(2)]));
    region.fails = true;
    assert_eq!(region.work(), [HubAction::Close { session: SessionId(1) }]);
    assert_eq!(region.work(), [], "nobody is there to hear of the second one");
}

#[test]
fn a_failed_transaction_acknowledges_nothing_and_the_site_dials_again() {
    let mut region = Region::standing();
    region.say(1, ToRegion::Block(block(1, 1, 1)));
    region.say(1, ToRegion::Block(block(1, 2, 1)));
    region.fails = true;
    assert_eq!(region.work(), [HubAction::Close { session: SessionId(1) }]);
    assert_eq!(region.jobs.len(), 0, "nothing is tried again by itself");
    region.open(2, "elm", 2);
    region.hello(2, "elm", 2, 200);
    assert_eq!(region.work(), [HubAction::Close { session: SessionId(2) }]);
    assert_eq!(region.jobs.len(), 0);
    region.fails = false;
    region.open(3, "elm", 2);
    assert_eq!(region.hello(3, "elm", 2, 200), [], "the fence is still owed");
    assert_eq!(region.work(), [welcome(3)]);
}

#[test]
fn silence_ends_at_the_deadline_and_not_before() {
    let mut region = Region::new();
    region.open(1, "elm", 1);
    let at = region.hub.next_deadline().at;
    assert_eq!(at, Instant::ZERO + HELLO_WITHIN);
    region
        .hub
        .handle_deadline(Instant::from_micros(at.micros() - 1), &mut region.out);
    assert_eq!(region.drain(), []);
    region.hub.handle_deadline(at, &mut region.out);
    assert_eq!(region.drain(), refused(1, Refusal::Protocol));
    assert_eq!(region.hub.next_deadline(), Deadline::NONE);
    let mut region = Region::standing();
    region.hub.handle_deadline(at + Duration::from_secs(3600), &mut region.out);
    assert_eq!(region.drain(), []);
}

#[test]
fn sessions_end_at_their_limits() {
    let mut region = Region::new();
    for session in 1..=SITE_SESSIONS_MAX as u64 {
        assert_eq!(region.open(session, "elm", 1), []);
    }
    assert_eq!(region.open(99, "elm", 1), [HubAction::Close { session: SessionId(1) }]);
    assert_eq!(region.hub.sessions().count(), SITE_SESSIONS_MAX);
}

#[test]
fn a_full_queue_stops_reading_and_ends_a_session_that_goes_on() {
    let mut region = Region::standing();
    let one = block(1, 1, 1);
    for _ in 0..SESSION_BLOCKS_MAX - 1 {
        region.say(1, ToRegion::Block(one.clone()));
    }
    assert!(region.hub.accepts(SessionId(1)));
    region.say(1, ToRegion::Block(one.clone()));
    assert!(!region.hub.accepts(SessionId(1)));
    for _ in 0..SESSION_SLACK {
        assert_eq!(region.say(1, ToRegion::Block(one.clone())), []);
    }
    assert_eq!(region.say(1, ToRegion::Block(one)), refused(1, Refusal::Full));
    let mut region = Region::standing();
    for _ in 0..SESSION_ASKS_MAX {
        assert!(region.hub.accepts(SessionId(1)));
        region.say(1, ToRegion::Ask(Vec::new()));
    }
    assert!(!region.hub.accepts(SessionId(1)));
    region.work();
    assert!(region.hub.accepts(SessionId(1)));
}

#[test]
fn a_report_is_passed_on_with_its_term() {
    let mut region = Region::standing();
    let report = SiteReport::default();
    let passed =
        HubAction::Report { site: name("elm"), board: board(1), term: Term::from_token(100), report: report.clone() };
    assert_eq!(region.say(1, ToRegion::Report(report)), [passed]);
}

fn duty_told(name: &str) -> DutyTold {
    DutyTold {
        name: Name::try_from(name).unwrap(),
        mode: crate::config::DutyMode::Exclusive,
        state: DutyState::Running,
        holders: [board(2)].into_iter().collect(),
        ready: crate::ids::BoardSet::EMPTY,
        failed: crate::ids::BoardSet::EMPTY,
        token: None,
        held_ms: Some(1),
        waits_for: duty_words("nothing"),
        why: duty_words("nobody had it"),
    }
}

#[test]
fn duties_are_passed_on_with_their_term_and_each_is_named_once() {
    let mut region = Region::standing();
    let duties = SiteDuties { duties: alloc::vec![duty_told("fuse"), duty_told("signal")] };
    let passed = HubAction::Duties { site: name("elm"), term: Term::from_token(100), duties: duties.clone() };
    assert_eq!(region.say(1, ToRegion::Duties(duties)), [passed]);

    let most = |count: usize| SiteDuties {
        duties: (0..count).map(|number| duty_told(&alloc::format!("duty-{number}"))).collect(),
    };
    assert_eq!(region.say(1, ToRegion::Duties(most(DUTIES_MAX))).len(), 1);
    let twice = alloc::vec![duty_told("fuse"), duty_told("fuse")];
    let obeyed = alloc::vec![DutyTold { why: duty_words("\u{9b}31m"), ..duty_told("fuse") }];
    let odd = ["", "Fuse", "fuse, signal@1", "fu\u{202e}se"].map(|name| alloc::vec![duty_told(name)]);
    let bad = odd.into_iter().chain([twice, obeyed]).map(|duties| SiteDuties { duties });
    for bad in bad.chain([most(DUTIES_MAX + 1)]) {
        let mut region = Region::standing();
        let refused = HubAction::Send { session: SessionId(1), message: FromRegion::Refused(Refusal::Protocol) };
        assert_eq!(region.say(1, ToRegion::Duties(bad)), [refused, HubAction::Close { session: SessionId(1) }]);
    }
}

/// A hub beside another gateway that has no sites; its own bar is two more than its share.
fn beside_an_empty_one() -> Region {
    let sites: Vec<Name> = (0..8).map(|number| name(&alloc::format!("site-{number}"))).collect();
    let memory = HubMemory { incarnation: 77, fences: BTreeMap::new() };
    let config = HubConfig { sites: sites.iter().cloned().collect() };
    let mut region = Region::new();
    region.hub = Hub::new(config, memory, Instant::ZERO);
    region
        .hub
        .handle_loads(alloc::vec![Load { gateway: 8, sites: 0, has_spoken: true }], Instant::ZERO);
    for (session, site) in (1..).zip(&sites[..6]) {
        region.open(session, site, 1);
        region.hello(session, site, 1, 100);
        region.work();
    }
    region
        .hub
        .handle_loads(alloc::vec![Load { gateway: 8, sites: 0, has_spoken: true }], Instant::ZERO);
    region
}

#[test]
fn a_site_too_many_is_sent_away_before_its_term_is_heard() {
    let mut region = beside_an_empty_one();
    let away = [HubAction::SendAway { session: SessionId(9) }];
    region.open(9, "site-6", 1);
    assert_eq!(region.hub.gateways(Instant::ZERO), 2);
    assert_eq!(region.hello(9, "site-6", 1, 50), away, "each share is three, the bar five");
    assert!(region.jobs.is_empty(), "no transaction for who does not stay");
    assert!(region.hub.session(SessionId(9)).is_none());
}

#[test]
fn a_second_session_of_a_site_is_neither_counted_nor_sent_away_by_itself() {
    let mut region = beside_an_empty_one();
    region.open(9, "site-6", 1);
    region.hello(9, "site-6", 1, 50);
    for session in 20..24 {
        region.open(session, "site-0", 1);
        assert_eq!(region.hello(session, "site-0", 1, 100), [welcome(session)]);
    }
    // One that is refused leaves the others where they are.
    region.open(30, "site-0", 2);
    let highest = Term::from_token(100);
    assert_eq!(region.hello(30, "site-0", 2, 99), refused(30, Refusal::Fenced { highest }));
    assert_eq!(region.hub.sessions_of(&name("site-0")).count(), 5);
    // A higher term takes over, and the site goes on counting.
    region.open(31, "site-0", 2);
    assert!(
        !region
            .hello(31, "site-0", 2, 101)
            .contains(&HubAction::SendAway { session: SessionId(31) })
    );
}

#[test]
fn a_site_that_is_sent_away_loses_all_its_sessions_and_what_they_sent_is_still_stored() {
    let mut region = Region::new();
    let sites: Vec<Name> = (0..8).map(|number| name(&alloc::format!("site-{number}"))).collect();
    let memory = HubMemory { incarnation: 77, fences: BTreeMap::new() };
    region.hub = Hub::new(HubConfig { sites: sites.iter().cloned().collect() }, memory, Instant::ZERO);
    for (number, site) in (0..).zip(&sites) {
        for session in [number, 100 + number] {
            region.open(session, site, 1);
            region.hello(session, site, 1, 100);
        }
        while !region.jobs.is_empty() {
            region.work();
        }
    }
    (0..8).for_each(|number| drop(region.say(number, ToRegion::Block(block(1, 1, 3)))));
    assert_eq!(region.jobs.len(), 8, "each has a block on its way");
    region
        .hub
        .handle_loads(alloc::vec![Load { gateway: 8, sites: 0, has_spoken: true }], Instant::ZERO);
    let at = region.hub.next_deadline().at;
    assert!(at < Instant::ZERO + Duration::from_secs(2));
    region.hub.handle_deadline(at, &mut region.out);
    let gone: Vec<SessionId> = region
        .drain()
        .into_iter()
        .map(|action| match action {
            HubAction::SendAway { session } => session,
            other => panic!("{other:?}"),
        })
        .collect();
    let [SessionId(first), SessionId(second)] = gone[..] else {
        panic!("{gone:?}")
    };
    assert_eq!(second, first + 100, "both sessions of one site");
    assert_eq!(region.hub.sessions().count(), 14);
    for _ in 0..8 {
        assert!(
            region
                .work()
                .iter()
                .all(|action| !matches!(action, HubAction::Send { session, .. } if gone.contains(session)))
        );
    }
    assert_eq!(region.coverage[&stream(1)].count(), 3, "the transaction on its way has happened");
}

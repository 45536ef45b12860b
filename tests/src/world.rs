//! The world: boards, network, region and publishers around one agenda. Owns the run loop and who gets what happens;
//! the parts of the world are moved in `boards.rs`, `shell.rs`, `links.rs`, `uplinks.rs`, `region.rs`, `publishers.rs` and
//! `faults.rs`. Nothing here decides what a board or the region decides: that is the very code that ships.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use shared::action::Action;
use shared::config::site::default_voters;
use shared::config::{DutyConfig, JournalConfig, NodeConfig, Timing};
use shared::hub::HubAction;
use shared::ids::{BoardId, BoardSet, Name, Seq, Stream, VoterSet, Voters, WitnessId};
use shared::outbox::Outbox;
use shared::record::GapReason;

use crate::agenda::Agenda;
use crate::beside::Beside;
use crate::board::{Board, Life};
use crate::clock::{Moment, SkewedClock};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::faults::{Occurrence, occurrences};
use crate::happening::{Happening, Input};
use crate::mark::Mark;
use crate::mesh::Mesh;
use crate::model::Model;
use crate::mutant::Mutant;
use crate::publisher::Publisher;
use crate::referee::Referee;
use crate::region::{Place, Region, Stores};
use crate::settings::Settings;
use crate::story::Story;
use crate::tally::Tally;
use crate::uplink::Uplink;
use crate::witness::Witness;

/// A promise was broken: which, when and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Moment,
    /// What, in words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: {}", self.at, self.what)
    }
}

/// The site's name in every world.
pub(crate) const SITE: &str = "elm-street";

/// A site, its region, its publishers, and everything that can befall them.
#[derive(Debug)]
pub struct World {
    pub(crate) settings: Settings,
    pub(crate) now: Moment,
    pub(crate) agenda: Agenda<Happening>,
    pub(crate) boards: BTreeMap<BoardId, Board>,
    pub(crate) mesh: Mesh,
    pub(crate) uplinks: BTreeMap<BoardId, Uplink>,
    pub(crate) region: Region,
    /// The second region, where there is one.
    pub(crate) standby: Option<Region>,
    /// The first one was put back from a backup: sites learn of it later.
    pub(crate) is_restored: bool,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) model: Model,
    /// Readings that rotted on a board, or whose gap record did.
    pub(crate) rotted: BTreeSet<Mark>,
    /// Readings that were shed, and of which the last gap record that said so rotted.
    pub(crate) nameless: BTreeSet<Mark>,
    pub(crate) story: Story,
    pub(crate) tally: Tally,
    /// When a leader last began to give way to a certain board.
    pub(crate) handed_over: Option<Moment>,
    pub(crate) net_dice: Dice,
    pub(crate) witness: Option<Witness>,
    pub(crate) referee: Referee,
    /// Every fault that is drawn, in order of time.
    pub(crate) occurrences: Vec<Occurrence>,
    pub(crate) publisher_dice: Dice,
    pub(crate) outbox: Outbox<Action>,
    pub(crate) hub_outbox: Outbox<HubAction>,
    /// Publishers publish and faults happen until then.
    pub(crate) busy_until: Moment,
    /// Publishers publish no more of their own accord.
    pub(crate) rests: bool,
    /// The first broken promise: the run ends with it.
    pub(crate) violation: Option<Violation>,
}

impl World {
    /// The world that `settings` describe, at its beginning: every board is about to boot.
    pub fn new(settings: Settings) -> Self {
        let mut dice = Dice::new(settings.seed);
        let ids: Vec<BoardId> = (1..=settings.boards).filter_map(BoardId::new).collect();
        let boards = ids
            .iter()
            .map(|id| (*id, new_board(*id, &ids, &settings, dice.fork())))
            .collect();
        let mut world = Self {
            now: Moment::ZERO,
            agenda: Agenda::default(),
            boards,
            mesh: Mesh::new(&ids, settings.mesh),
            uplinks: ids.iter().map(|id| (*id, new_uplink(*id, &settings))).collect(),
            region: Region::new(&settings, dice.fork()),
            standby: Region::standby(&settings),
            is_restored: false,
            publishers: Publisher::draw_all(&settings, &mut dice.fork()),
            model: Model::new(settings.copies),
            rotted: BTreeSet::new(),
            nameless: BTreeSet::new(),
            story: Story::new(settings.telling),
            tally: Tally::default(),
            handed_over: None,
            net_dice: dice.fork(),
            witness: settings.witness.then(|| {
                let id = WitnessId::new(1).expect("a small number");
                Witness::new(id, &settings, &ids, dice.fork())
            }),
            referee: Referee::default(),
            occurrences: occurrences(&settings, &mut Dice::for_faults(settings.seed)),
            publisher_dice: dice.fork(),
            outbox: Outbox::default(),
            hub_outbox: Outbox::default(),
            busy_until: Moment::ZERO + settings.busy,
            rests: false,
            violation: None,
            settings,
        };
        world.begin(&ids, &mut dice);
        world
    }

    fn begin(&mut self, ids: &[BoardId], dice: &mut Dice) {
        let Settings { mesh, witness_way, drift_ppm, witness, boards, .. } = &self.settings;
        self.story.tell(self.now, "world", || {
            let ways = format!("mesh {mesh:?}, clocks within {drift_ppm} ppm");
            let far = if *witness {
                format!(", a witness behind {witness_way:?}")
            } else {
                String::new()
            };
            format!("{boards} boards, {ways}{far}")
        });
        self.put_in(Duration::from_millis(1), Happening::RegionBoot);
        if self.standby.is_some() {
            self.boot_region(Place::Standby);
        }
        for board in ids {
            let after = dice.span(Duration::from_millis(1), Duration::from_millis(300));
            self.put_in(after, Happening::Boot { board: *board, after: Life::default() });
        }
        for pair in self.mesh.pairs() {
            self.put_in(Duration::from_millis(10), Happening::LinkTry { pair, generation: 0 });
        }
        self.witness_boot();
        if self.witness.is_some() {
            for board in ids {
                self.put_in(Duration::from_millis(20), Happening::WitnessLink { board: *board });
            }
        }
        self.start_publishers();
        self.start_faults();
        self.put_in(self.settings.busy, Happening::Heal);
    }

    /// Puts `what` on the agenda for so long from now.
    pub(crate) fn put_in(&mut self, after: Duration, what: Happening) {
        self.agenda.put(self.now + after, what);
    }

    /// Whether this lie is told.
    pub(crate) fn lies(&self, mutant: Mutant) -> bool {
        self.settings.mutant == Some(mutant)
    }

    /// Notes a broken promise; the first one stays.
    pub(crate) fn broken(&mut self, what: impl fmt::Display) {
        if self.violation.is_none() {
            let what = what.to_string();
            self.story.tell(self.now, "CHECK", || format!("BROKEN: {what}"));
            self.violation = Some(Violation { at: self.now, what });
        }
    }

    /// Lets the next thing happen.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn step(&mut self) -> Result<(), Violation> {
        if let Some((at, what)) = self.agenda.take() {
            self.now = at;
            self.tally.events += 1;
            self.happen(what);
        }
        match &self.violation {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }

    /// Lets `span` pass.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn run_for(&mut self, span: Duration) -> Result<(), Violation> {
        let end = self.now + span;
        while self.agenda.next_at().is_some_and(|at| at <= end) {
            self.step()?;
        }
        self.now = end;
        Ok(())
    }

    /// Lets time pass until `reached` says so; false where it has not within `limit`.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn run_until(&mut self, limit: Duration, reached: impl Fn(&Self) -> bool) -> Result<bool, Violation> {
        let end = self.now + limit;
        while !reached(self) {
            if self.agenda.next_at().is_none_or(|at| at > end) {
                return Ok(false);
            }
            self.step()?;
        }
        Ok(true)
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Boot { board, after } => self.boot_due(board, after),
            Happening::Wake { board, life } => self.wake(board, life),
            Happening::Serve { board, life } => self.serve(board, life),
            Happening::DiskEnds { board, job } => self.disk_ends(board, job),
            Happening::Thaw { board, life } => self.thaw(board, life),
            Happening::Datagram { from, to, message } => self.datagram_arrives(from, to, *message),
            Happening::LinkTry { pair, generation } => self.link_try(pair, generation),
            Happening::LinkUp { pair, generation, side } => self.link_up(pair, generation, side),
            Happening::LinkDown { pair, generation, side } => self.link_down(pair, generation, side),
            Happening::LinkFrame { pair, generation, side, message } => {
                self.link_frame(pair, generation, side, *message);
            }
            Happening::LinkSuspect { pair, generation } => self.link_suspect(pair, generation),
            Happening::UplinkTry { board, attempt } => self.uplink_try(board, attempt),
            Happening::UplinkOpened { board, session } => self.uplink_opened(board, session),
            Happening::UplinkUp { board, session } => self.uplink_up(board, session),
            Happening::UplinkDown { board, session, life } => self.uplink_down(board, session, life),
            Happening::UplinkGone { session } => self.uplink_gone(session),
            Happening::UplinkSuspect { board, session } => self.uplink_suspect(board, session),
            Happening::ToRegion { session, frame } => self.frame_at_region(session, &frame),
            Happening::FromRegion { board, session, frame } => self.frame_from_region(board, session, &frame),
            Happening::StaleHello { session, frame } => self.frame_at_region(session, &frame),
            Happening::LookHome { board, session } => self.look_home(board, session),
            Happening::RegionWake { place, life } => self.region_wake(place, life),
            Happening::RegionBoot => self.region_boot(),
            Happening::StoreEnds { place, job } => self.store_ends(place, job),
            Happening::StoreAnswers { place, life, done } => self.store_answers(place, life, done),
            Happening::Reading { publisher } => self.reading(publisher),
            Happening::PublisherDial { publisher, connection } => self.publisher_dial(publisher, connection),
            Happening::PublisherUp { publisher, connection, board, life } => {
                self.publisher_up(publisher, connection, board, life);
            }
            Happening::PublisherReset { publisher, connection } => self.publisher_reset(publisher, connection),
            Happening::PublisherPatience { publisher } => self.publisher_patience(publisher),
            Happening::Offer { mark, connection, board, life, acknowledged, record } => {
                self.offer_arrives(mark, connection, (board, life), acknowledged, *record);
            }
            Happening::Answered { mark, connection } => self.answered(mark, connection),
            Happening::Obituary { board, life, machine, times } => self.obituary_leaves(board, life, machine, times),
            Happening::ObituaryArrives { to, board, life } => self.obituary_arrives(to, board, life),
            Happening::Evidence { to, board, evidence } => self.input(to, Input::Evidence { board, evidence }),
            Happening::Duty { board, duty, step } => self.duty_step(board, duty, step),
            Happening::Command { duty, token } => self.command_arrives(duty, token),
            Happening::Health { board, life } => self.health(board, life),
            Happening::WitnessRemembers { boot, memory } => self.witness_remembers(boot, memory),
            Happening::WitnessLink { board } => self.witness_link(board),
            Happening::ToWitness { from, message } => self.at_witness(from, &message),
            Happening::FromWitness { to, message } => self.witness_says(to, message),
            Happening::WitnessObituary { board, life } => self.witness_obituary(board, life),
            Happening::Fault { place } => self.fault_due(place),
            Happening::Starve { board, life, until } => self.starve_on(board, life, until),
            Happening::Mend(mend) => self.mend(mend),
            Happening::Heal => self.heal(),
        }
    }

    /// True time.
    pub const fn now(&self) -> Moment {
        self.now
    }

    /// The story so far.
    pub const fn story(&self) -> &Story {
        &self.story
    }

    /// What has been counted so far.
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally;
        tally.virtual_time = self.now.since(Moment::ZERO);
        self.model.count(&self.region.store, &mut tally);
        tally.rows_standby = self.standby.as_ref().map_or(0, |region| region.store.rows() as u64);
        tally
    }

    /// The board that holds a valid lease now.
    pub fn leader(&self) -> Option<BoardId> {
        self.boards
            .values()
            .find(|board| board.holds(self.now).is_some())
            .map(|board| board.id)
    }

    /// Publishers publish no more of their own accord.
    pub const fn rest(&mut self) {
        self.rests = true;
    }

    /// Boards on whose disk the reading is, whole.
    pub fn holders(&self, mark: Mark) -> Vec<BoardId> {
        let holders = self.boards.values().filter(|host| host.disk.holds(mark));
        holders.map(|host| host.id).collect()
    }

    /// Everything that was acknowledged.
    pub fn acknowledged(&self) -> Vec<Mark> {
        self.model.acknowledged().collect()
    }

    /// Records that boards miss and ask for.
    pub fn missing(&self) -> u64 {
        let processes = self.boards.values().filter_map(|host| Some((host, host.process.as_ref()?)));
        processes
            .map(|(host, process)| process.node.status(host.clock.local(self.now)).repair.missing)
            .sum()
    }

    /// Why the region was told that the reading is gone, where it was.
    pub fn gap_of(&self, mark: Mark) -> Option<GapReason> {
        let (stream, seq) = self.model.addresses(mark).last()?;
        let gaps = self.region.store.gaps_named.iter();
        gaps.filter(|gap| gap.stream == stream && gap.range.contains(seq))
            .map(|gap| gap.reason)
            .next()
    }

    /// What is left nowhere is not missed at the end: the story destroyed every copy. How many readings that are.
    pub fn pardon_lost(&mut self) -> usize {
        let (boards, stores) = (&self.boards, Stores::of(&self.region, self.standby.as_ref()));
        let is_left = |mark| boards.values().any(|host| host.disk.holds(mark)) || stores.have(mark);
        self.model.pardon(|mark| !is_left(mark))
    }

    /// Rows of the region's store that carry `mark`.
    pub fn rows(&self, mark: Mark) -> u32 {
        self.region.store.rows_of(mark)
    }

    /// Rows of the store that stands by that carry `mark`.
    pub fn rows_standby(&self, mark: Mark) -> u32 {
        self.standby.as_ref().map_or(0, |region| region.store.rows_of(mark))
    }

    /// Whether the better region lacks the reading and can tell: something newer of its stream is there.
    pub fn is_hole(&self, mark: Mark) -> bool {
        let covers = |(stream, seq): (Stream, Seq)| {
            let covered = self.region.store.coverage(&stream);
            !covered.contains(seq) && covered.last().is_some_and(|last| last > seq)
        };
        self.model.addresses(mark).any(covers)
    }

    /// The region that the site's leader speaks with.
    pub fn speaks_with(&self) -> Option<Place> {
        let line = self.uplinks.get(&self.leader()?)?.line.as_ref()?;
        line.told.then_some(Place::of(line.session))
    }

    /// Whether a board has acknowledged `mark`.
    pub fn is_acknowledged(&self, mark: Mark) -> bool {
        self.model.is_acknowledged(mark)
    }
}

fn journal_config(settings: &Settings) -> JournalConfig {
    let sized = JournalConfig::sized(settings.segment_bytes, settings.segments_max);
    let written_ahead = if settings.writes_ahead { sized.written_ahead } else { 0 };
    JournalConfig { written_ahead, covered_kept: settings.covered_kept.unwrap_or(sized.covered_kept), ..sized }
}

fn new_uplink(id: BoardId, settings: &Settings) -> Uplink {
    let beside = settings.second_path.then(|| Beside::new(settings.seed, id));
    Uplink::new(settings.uplink, beside)
}

fn new_board(id: BoardId, ids: &[BoardId], settings: &Settings, mut dice: Dice) -> Board {
    let all: BoardSet = ids.iter().copied().collect();
    let voters = match settings.voters {
        Some(count) => ids.iter().copied().take(usize::from(count)).collect(),
        None => default_voters(all, settings.witness),
    };
    let mut set = VoterSet::from(voters);
    if settings.witness {
        set.insert(WitnessId::new(1).expect("a small number").into());
    }
    let duties = settings.duties.iter();
    let duties = duties
        .map(|duty| DutyConfig { is_local: dice.below(4) != 0 || !settings.scarce, ..duty.clone() })
        .collect();
    let config = NodeConfig {
        site: site(),
        board: id,
        boards: all,
        voters: Voters { version: 1, set },
        priority: if settings.ranked && id.get() == 2 { 9 } else { 0 },
        domain: if id.get().is_multiple_of(2) {
            domain("north")
        } else {
            domain("south")
        },
        duties,
        copies: settings.copies,
        timing: Timing::default(),
        journal: journal_config(settings),
        repair: settings.repair,
        has_region: true,
    };
    let slow = settings.mutant == Some(Mutant::SlowClock) && id.get() == 1;
    let ppm = if slow { -500_000 } else { skew(settings.drift_ppm, &mut dice) };
    let clock = SkewedClock { shows: dice.between(1_000_000, 1_000_000_000), ppm };
    Board {
        id,
        config,
        disk: Disk::new(settings.mutant),
        speed: settings.disk,
        clock,
        dice,
        process: None,
        life: Life::default(),
        lost: false,
        took_along: Vec::new(),
        workers: BTreeMap::new(),
        nonce: 0,
        restarts: 0,
        machine: 0,
        starved_until: Moment::ZERO,
        not_before: Moment::ZERO,
        kept_down: false,
    }
}

pub(crate) fn domain(name: &str) -> Name {
    Name::try_from(name).expect("the name is short")
}

/// A rate within `most` parts per million of true time, either way.
pub(crate) fn skew(most: u64, dice: &mut Dice) -> i64 {
    i64::try_from(dice.below(2 * most + 1)).unwrap_or(0) - i64::try_from(most).unwrap_or(0)
}

/// The site's name as a type.
pub(crate) fn site() -> Name {
    Name::try_from(SITE).expect("the name is short")
}

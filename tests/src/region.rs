//! The region: a process that crashes and restarts around a store that does not, sessions, and a writer that does
//! one transaction after the other. The shell's part only: what becomes of a message is the hub's decision. Some worlds have a
//! second region that stands by, with a store of its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shared::event::Event;
use shared::hub::{Hub, HubAction, HubConfig, HubMemory, SessionId};
use shared::ids::{BoardId, Stream, Term, Token};
use shared::outbox::Outbox;
use shared::region::ledger::{StoreFailed, Stored};
use shared::time::Instant;
use shared::wire::peer::RegionTag;
use shared::wire::uplink::{Block, DutyTold, SiteDuties};

use crate::clock::{Moment, SkewedClock};
use crate::dice::Dice;
use crate::happening::{Happening, StoreDone};
use crate::mark::Mark;
use crate::mutant::Mutant;
use crate::settings::Settings;
use crate::store::Store;
use crate::world::{World, domain, site, skew};

/// Sessions of the region that stands by are numbered from here on.
const STANDBY_SESSIONS: u64 = 1 << 40;

/// Which region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The one that sites prefer.
    Home,
    /// The one that stands by.
    Standby,
}

impl Place {
    /// Of a session.
    pub(crate) const fn of(session: SessionId) -> Self {
        if session.0 >= STANDBY_SESSIONS { Self::Standby } else { Self::Home }
    }

    /// What boards know it by.
    pub(crate) fn tag(self) -> RegionTag {
        RegionTag::of(&domain(self.name()))
    }

    /// In the story.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Home => "region",
            Self::Standby => "standby",
        }
    }
}

/// What the regions have together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stores<'r> {
    home: &'r Store,
    standby: Option<&'r Store>,
}

impl<'r> Stores<'r> {
    pub(crate) fn of(home: &'r Region, standby: Option<&'r Region>) -> Self {
        Self { home: &home.store, standby: standby.map(|region| &region.store) }
    }

    /// Whether any region has the reading.
    pub(crate) fn have(self, mark: Mark) -> bool {
        self.home.rows_of(mark) > 0 || self.standby.is_some_and(|store| store.rows_of(mark) > 0)
    }

    /// Whether every region has it.
    pub(crate) fn all_have(self, mark: Mark) -> bool {
        self.home.rows_of(mark) > 0 && self.standby.is_none_or(|store| store.rows_of(mark) > 0)
    }
}

/// One job of the store's writer.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Store { token: Token, fence: Option<Term>, blocks: Vec<Block> },
    Load { token: Token, streams: Vec<Stream> },
}

/// The region's machine.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) hub: Option<Hub>,
    pub(crate) store: Store,
    life: u64,
    clock: SkewedClock,
    dice: Dice,
    /// Sessions that the boards' shells have begun: which board, and whether the hub has opened it.
    sessions: BTreeMap<SessionId, (BoardId, bool)>,
    next_session: u64,
    jobs: VecDeque<Job>,
    running: Option<Job>,
    job: u64,
    wake: Moment,
    /// What the site's leader last told of its users' duties.
    duties: Option<SiteDuties>,
    /// The next transaction does not commit.
    pub(crate) fails_next: bool,
}

impl Region {
    /// The region that stands by, whose chances are its own, so that worlds without one stay as they are.
    pub(crate) fn standby(settings: &Settings) -> Option<Self> {
        let dice = Dice::new(settings.seed ^ 0x53_5441_4e44_4259);
        settings.standby.then(|| {
            let region = Self::new(settings, dice);
            Self { next_session: STANDBY_SESSIONS, ..region }
        })
    }

    pub(crate) fn new(settings: &Settings, mut dice: Dice) -> Self {
        let clock = SkewedClock { shows: dice.between(1, 1_000_000_000), ppm: skew(settings.drift_ppm, &mut dice) };
        let store = Store::new(dice.word());
        Self {
            hub: None,
            store,
            life: 0,
            clock,
            dice,
            sessions: BTreeMap::new(),
            next_session: 1,
            jobs: VecDeque::new(),
            running: None,
            job: 0,
            duties: None,
            wake: Moment::NEVER,
            fails_next: false,
        }
    }

    pub(crate) fn new_session(&mut self, board: BoardId) -> SessionId {
        let session = SessionId(self.next_session);
        self.next_session += 1;
        self.sessions.insert(session, (board, false));
        session
    }

    /// The hub is about to hear of the session; false where it fell before.
    pub(crate) fn opens(&mut self, session: SessionId) -> bool {
        self.sessions.get_mut(&session).map(|(_, open)| *open = true).is_some()
    }

    pub(crate) fn is_open(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|(_, open)| *open)
    }

    /// Forgets the session; true where the hub knew it.
    pub(crate) fn closes(&mut self, session: SessionId) -> bool {
        self.sessions.remove(&session).is_some_and(|(_, open)| open)
    }

    pub(crate) fn board_of(&self, session: SessionId) -> Option<BoardId> {
        self.sessions.get(&session).map(|(board, _)| *board)
    }
}

impl World {
    /// The region at `place`.
    pub(crate) fn region_at(&mut self, place: Place) -> &mut Region {
        match place {
            Place::Home => &mut self.region,
            Place::Standby => self
                .standby
                .as_mut()
                .expect("only a world with two regions speaks of the second"),
        }
    }

    /// Whether there is a region at `place`, and its process runs.
    pub(crate) fn region_runs(&self, place: Place) -> bool {
        let region = match place {
            Place::Home => Some(&self.region),
            Place::Standby => self.standby.as_ref(),
        };
        region.is_some_and(|region| region.hub.is_some())
    }

    /// Starts the region's process over what its store remembers.
    pub fn region_boot(&mut self) {
        self.boot_region(Place::Home);
    }

    /// Starts the process of the region at `place`.
    pub fn boot_region(&mut self, place: Place) {
        let forgets = self.lies(Mutant::FenceForgotten);
        let now = self.now;
        let region = self.region_at(place);
        if region.hub.is_some() {
            return;
        }
        region.life += 1;
        let fence = if forgets { Term::ZERO } else { region.store.fence };
        let memory = HubMemory { incarnation: region.store.incarnation, fences: BTreeMap::from([(site(), fence)]) };
        let config = HubConfig { sites: [site()].into_iter().collect() };
        region.hub = Some(Hub::new(config, memory, region.clock.local(now)));
        region.wake = Moment::NEVER;
        self.story.tell(self.now, place.name(), || "boots");
    }

    /// The region's process is gone at once: sessions, waiting blocks and unsent acknowledgements go with it.
    pub fn region_crash(&mut self) {
        self.crash_region(Place::Home);
    }

    /// The same of the region at `place`.
    pub fn crash_region(&mut self, place: Place) {
        let forgets = self.lies(Mutant::CoverageForgotten);
        let region = self.region_at(place);
        if region.hub.take().is_none() {
            return;
        }
        region.sessions.clear();
        region.jobs.clear();
        region.running = None;
        region.job += 1;
        region.duties = None;
        region.life += 1;
        if forgets {
            region.store.forget_coverage();
        }
        self.tally.region_crashes += 1;
        self.story.tell(self.now, place.name(), || "process dies");
        self.uplinks_lose_region(place);
    }

    /// What a backup of the store would hold.
    pub fn region_backup(&self) -> Store {
        self.region.store.clone()
    }

    /// The region's disk is lost, and a backup is put back: what was stored since is not known there any more.
    pub fn region_restored(&mut self, backup: Store) {
        self.region_crash();
        self.region.store = backup;
        self.is_restored = true;
        self.region.store.incarnation = self.region.dice.word();
        self.story.tell(self.now, "region", || "is restored from a backup");
        self.region_boot();
    }

    /// What the region at home was last told of the users' duty at `place`.
    pub fn duty_told(&self, place: u8) -> Option<&DutyTold> {
        self.region.duties.as_ref()?.duties.get(usize::from(place))
    }

    /// One input of the hub, then its outbox to empty, then its checks.
    pub(crate) fn drive_hub(&mut self, place: Place, handle: impl FnOnce(&mut Hub, Instant, &mut Outbox<HubAction>)) {
        let now = self.now;
        let mut out = std::mem::take(&mut self.hub_outbox);
        let region = self.region_at(place);
        let local = region.clock.local(now);
        let Some(hub) = region.hub.as_mut() else { return };
        handle(hub, local, &mut out);
        hub.check();
        while let Some(action) = out.pop() {
            self.perform_hub(place, action);
        }
        self.hub_outbox = out;
        self.plan_region_wake(place);
    }

    fn perform_hub(&mut self, place: Place, action: HubAction) {
        match action {
            HubAction::Send { session, message } => self.send_from_region(session, &message),
            HubAction::Close { session } | HubAction::SendAway { session } => self.region_closes(session),
            HubAction::Store { token, fence, blocks, .. } => {
                self.region_at(place).jobs.push_back(Job::Store { token, fence, blocks });
                self.store_begins(place);
            }
            HubAction::Load { token, streams, .. } => {
                self.region_at(place).jobs.push_back(Job::Load { token, streams });
                self.store_begins(place);
            }
            HubAction::Report { .. } => {}
            HubAction::Duties { duties, .. } => self.region_at(place).duties = Some(duties),
            HubAction::Notice { event, .. } => {
                self.story.tell(self.now, place.name(), || format!("{event:?}"));
                match event {
                    Event::SessionOpened { board, term } => {
                        if let Err(what) = self.model.session_opened(place, board, term) {
                            self.broken(what);
                        }
                    }
                    Event::SessionRefused { .. } => self.tally.sessions_refused += 1,
                    _ => {}
                }
            }
        }
    }

    fn store_begins(&mut self, place: Place) {
        let early = self.lies(Mutant::RegionAckBeforeCommit);
        let region = match place {
            Place::Home => &mut self.region,
            Place::Standby => self.standby.as_mut().expect("it was told to store"),
        };
        if region.running.is_some() {
            return;
        }
        let Some(job) = region.jobs.pop_front() else { return };
        let takes = match &job {
            Job::Store { blocks, .. } => {
                region.dice.span(Duration::from_millis(1), Duration::from_millis(8))
                    + Duration::from_micros(blocks.len() as u64 * 200)
            }
            Job::Load { .. } => region.dice.span(Duration::from_micros(100), Duration::from_millis(2)),
        };
        region.job += 1;
        let (number, life) = (region.job, region.life);
        if early && let Job::Store { token, fence, blocks } = &job {
            let result = region
                .store
                .clone()
                .commit(*fence, blocks, &mut self.model.clone(), None, &mut Vec::new());
            let done = StoreDone::Stored { token: *token, result: Ok(result) };
            self.put_in(Duration::from_micros(1), Happening::StoreAnswers { place, life, done });
        }
        // A lie is only seen where the commit comes late.
        let takes = if early { takes + Duration::from_millis(200) } else { takes };
        self.region_at(place).running = Some(job);
        self.put_in(takes, Happening::StoreEnds { place, job: number });
    }

    /// The writer's job ends: the transaction commits at this moment, and its answer leaves a little later.
    pub(crate) fn store_ends(&mut self, place: Place, job: u64) {
        let lies = self.settings.mutant;
        let region = match place {
            Place::Home => &mut self.region,
            Place::Standby => self.standby.as_mut().expect("it began to store"),
        };
        if region.job != job {
            return;
        }
        let Some(running) = region.running.take() else { return };
        let done = match running {
            Job::Store { token, .. } if std::mem::take(&mut region.fails_next) => {
                self.story.tell(self.now, place.name(), || "a transaction does not commit");
                StoreDone::Stored { token, result: Err(StoreFailed) }
            }
            Job::Store { token, fence, blocks } => {
                let mut complaints = Vec::new();
                let stored = region.store.commit(fence, &blocks, &mut self.model, lies, &mut complaints);
                self.tally.transactions += 1;
                let again = |line: &&Stored| line.outcome.is_ok_and(|tally| tally.again.is_some());
                self.tally.blocks_again += stored.iter().filter(again).count() as u64;
                self.story.weigh(self.now, blocks.len() as u64);
                for complaint in complaints {
                    self.broken(complaint);
                }
                StoreDone::Stored { token, result: Ok(stored) }
            }
            Job::Load { token, streams } => StoreDone::Loaded { token, streams },
        };
        let answered = lies == Some(Mutant::RegionAckBeforeCommit) && matches!(done, StoreDone::Stored { .. });
        if !answered {
            let region = self.region_at(place);
            let after = region.dice.span(Duration::from_micros(50), Duration::from_millis(2));
            let life = region.life;
            self.put_in(after, Happening::StoreAnswers { place, life, done });
        }
        self.store_begins(place);
    }

    pub(crate) fn store_answers(&mut self, place: Place, life: u64, done: StoreDone) {
        if self.region_at(place).life != life {
            return;
        }
        match done {
            StoreDone::Stored { token, result } => {
                self.drive_hub(place, |hub, now, out| hub.handle_stored(token, result, now, out));
            }
            StoreDone::Loaded { token, streams } => {
                let store = &self.region_at(place).store;
                let loaded: Vec<_> = streams.into_iter().map(|stream| (stream, store.coverage(&stream))).collect();
                self.drive_hub(place, |hub, now, out| hub.handle_loaded(token, Ok(loaded), now, out));
            }
        }
    }

    fn plan_region_wake(&mut self, place: Place) {
        let now = self.now;
        let region = self.region_at(place);
        let Some(hub) = region.hub.as_ref() else { return };
        let due = region.clock.moment(hub.next_deadline().at);
        if due == Moment::NEVER || due.max(now) >= region.wake {
            return;
        }
        region.wake = due.max(now);
        let (at, life) = (region.wake, region.life);
        self.agenda.put(at, Happening::RegionWake { place, life });
    }

    pub(crate) fn region_wake(&mut self, place: Place, life: u64) {
        let now = self.now;
        let region = self.region_at(place);
        let local = region.clock.local(now);
        let Some(hub) = region.hub.as_ref().filter(|_| region.life == life && region.wake <= now) else {
            return;
        };
        region.wake = Moment::NEVER;
        if hub.next_deadline().at <= local {
            self.drive_hub(place, |hub, now, out| hub.handle_deadline(now, out));
        } else {
            self.plan_region_wake(place);
        }
    }
}

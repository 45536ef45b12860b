//! The region: a process that crashes and restarts around a store that does not, sessions, and a writer that does
//! one transaction after the other. The shell's part only: what becomes of a message is the hub's decision.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shared::event::Event;
use shared::hub::{Hub, HubAction, HubConfig, HubMemory, SessionId};
use shared::ids::{BoardId, Stream, Term, Token};
use shared::outbox::Outbox;
use shared::region::ledger::{StoreFailed, Stored};
use shared::time::Instant;
use shared::wire::uplink::Block;

use crate::clock::{Moment, SkewedClock};
use crate::dice::Dice;
use crate::happening::{Happening, StoreDone};
use crate::mutant::Mutant;
use crate::settings::Settings;
use crate::store::Store;
use crate::world::{World, site, skew};

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
    /// The next transaction does not commit.
    pub(crate) fails_next: bool,
}

impl Region {
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
    /// Starts the region's process over what its store remembers.
    pub fn region_boot(&mut self) {
        if self.region.hub.is_some() {
            return;
        }
        let forgets = self.lies(Mutant::FenceForgotten);
        let region = &mut self.region;
        region.life += 1;
        let fence = if forgets { Term::ZERO } else { region.store.fence };
        let memory = HubMemory { incarnation: region.store.incarnation, fences: BTreeMap::from([(site(), fence)]) };
        let config = HubConfig { sites: [site()].into_iter().collect() };
        region.hub = Some(Hub::new(config, memory, region.clock.local(self.now)));
        region.wake = Moment::NEVER;
        self.story.tell(self.now, "region", || "boots");
    }

    /// The region's process is gone at once: sessions, waiting blocks and unsent acknowledgements go with it.
    pub fn region_crash(&mut self) {
        let forgets = self.lies(Mutant::CoverageForgotten);
        let region = &mut self.region;
        if region.hub.take().is_none() {
            return;
        }
        region.sessions.clear();
        region.jobs.clear();
        region.running = None;
        region.job += 1;
        region.life += 1;
        if forgets {
            region.store.forget_coverage();
        }
        self.tally.region_crashes += 1;
        self.story.tell(self.now, "region", || "process dies");
        self.uplinks_lose_region();
    }

    /// What a backup of the store would hold.
    pub fn region_backup(&self) -> Store {
        self.region.store.clone()
    }

    /// The region's disk is lost, and a backup is put back: what was stored since is not known there any more.
    pub fn region_restored(&mut self, backup: Store) {
        self.region_crash();
        self.region.store = backup;
        self.region.store.incarnation = self.region.dice.word();
        self.story.tell(self.now, "region", || "is restored from a backup");
        self.region_boot();
    }

    /// One input of the hub, then its outbox to empty, then its checks.
    pub(crate) fn drive_hub(&mut self, handle: impl FnOnce(&mut Hub, Instant, &mut Outbox<HubAction>)) {
        let local = self.region.clock.local(self.now);
        let Some(hub) = self.region.hub.as_mut() else { return };
        let mut out = std::mem::take(&mut self.hub_outbox);
        handle(hub, local, &mut out);
        hub.check();
        while let Some(action) = out.pop() {
            self.perform_hub(action);
        }
        self.hub_outbox = out;
        self.plan_region_wake();
    }

    fn perform_hub(&mut self, action: HubAction) {
        match action {
            HubAction::Send { session, message } => self.send_from_region(session, &message),
            HubAction::Close { session } | HubAction::SendAway { session } => self.region_closes(session),
            HubAction::Store { token, fence, blocks, .. } => {
                self.region.jobs.push_back(Job::Store { token, fence, blocks });
                self.store_begins();
            }
            HubAction::Load { token, streams, .. } => {
                self.region.jobs.push_back(Job::Load { token, streams });
                self.store_begins();
            }
            HubAction::Report { .. } => {}
            HubAction::Notice { event, .. } => {
                self.story.tell(self.now, "region", || format!("{event:?}"));
                match event {
                    Event::SessionOpened { board, term } => {
                        if let Err(what) = self.model.session_opened(board, term) {
                            self.broken(what);
                        }
                    }
                    Event::SessionRefused { .. } => self.tally.sessions_refused += 1,
                    _ => {}
                }
            }
        }
    }

    fn store_begins(&mut self) {
        let early = self.lies(Mutant::RegionAckBeforeCommit);
        let region = &mut self.region;
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
            self.put_in(Duration::from_micros(1), Happening::StoreAnswers { life, done });
        }
        // A lie is only seen where the commit comes late.
        let takes = if early { takes + Duration::from_millis(200) } else { takes };
        self.region.running = Some(job);
        self.put_in(takes, Happening::StoreEnds { job: number });
    }

    /// The writer's job ends: the transaction commits at this moment, and its answer leaves a little later.
    pub(crate) fn store_ends(&mut self, job: u64) {
        let lies = self.settings.mutant;
        let region = &mut self.region;
        if region.job != job {
            return;
        }
        let Some(running) = region.running.take() else { return };
        let done = match running {
            Job::Store { token, .. } if std::mem::take(&mut region.fails_next) => {
                self.story.tell(self.now, "region", || "a transaction does not commit");
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
            let after = self.region.dice.span(Duration::from_micros(50), Duration::from_millis(2));
            let life = self.region.life;
            self.put_in(after, Happening::StoreAnswers { life, done });
        }
        self.store_begins();
    }

    pub(crate) fn store_answers(&mut self, life: u64, done: StoreDone) {
        if self.region.life != life {
            return;
        }
        match done {
            StoreDone::Stored { token, result } => {
                self.drive_hub(|hub, now, out| hub.handle_stored(token, result, now, out));
            }
            StoreDone::Loaded { token, streams } => {
                let store = &self.region.store;
                let loaded: Vec<_> = streams.into_iter().map(|stream| (stream, store.coverage(&stream))).collect();
                self.drive_hub(|hub, now, out| hub.handle_loaded(token, loaded, now, out));
            }
        }
    }

    fn plan_region_wake(&mut self) {
        let region = &mut self.region;
        let Some(hub) = region.hub.as_ref() else { return };
        let due = region.clock.moment(hub.next_deadline().at);
        if due == Moment::NEVER || due.max(self.now) >= region.wake {
            return;
        }
        region.wake = due.max(self.now);
        let (at, life) = (region.wake, region.life);
        self.agenda.put(at, Happening::RegionWake { life });
    }

    pub(crate) fn region_wake(&mut self, life: u64) {
        let local = self.region.clock.local(self.now);
        let region = &mut self.region;
        let Some(hub) = region.hub.as_ref().filter(|_| region.life == life && region.wake <= self.now) else {
            return;
        };
        region.wake = Moment::NEVER;
        if hub.next_deadline().at <= local {
            self.drive_hub(|hub, now, out| hub.handle_deadline(now, out));
        } else {
            self.plan_region_wake();
        }
    }
}

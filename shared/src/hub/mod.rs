//! The region's node: where sessions, fences, intake and ledger meet. One input, then drain the outbox, then the next
//! input. Acknowledges a block only when the store says that its transaction has committed; the store itself, and
//! every byte that moves, is the shell's.
//!
//! The fence is durable before it is relied on: a hello with a higher term than the store knows makes a transaction
//! that carries the term, alone or with the blocks that wait, and the session is welcomed when that has committed.
//! Lower terms are refused from the moment the higher one is heard.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::block::{BadBlock, check_numbers};
use crate::ids::{BoardId, Name, Stream, Term, Token};
use crate::limits::{ASKS_MAX, HELLO_WITHIN, RANGES_MAX, SESSIONS_MAX, SITE_SESSIONS_MAX};
use crate::outbox::Outbox;
use crate::ranges::RangeSet;
use crate::region::fence::{Fence, Standing};
use crate::region::intake::Intake;
use crate::region::session::{Phase, Session, judge_ask, judge_duties, judge_report};
use crate::time::{Deadline, Instant};
use crate::wire::peer::Coverage;
use crate::wire::uplink::{Block, FromRegion, Hello, Refusal, SiteDuties, SiteReport, ToRegion};

mod action;
mod answers;
mod spread;
#[cfg(test)]
mod tests;

use self::answers::turn_away;
use self::spread::Spread;

pub use self::action::{HubAction, HubConfig, HubMemory};
pub use self::spread::Load;
pub use crate::region::ledger::{StoreFailed, Stored, Tally};
pub use crate::region::session::SessionId;

/// A question on its way to the store.
#[derive(Clone, Debug)]
struct Asked {
    session: SessionId,
    streams: Vec<Stream>,
}

/// The region's node.
#[derive(Debug)]
pub struct Hub {
    incarnation: u64,
    intakes: BTreeMap<Name, Intake>,
    sessions: BTreeMap<SessionId, Session>,
    /// The sessions of each site that has any: with thousands of sites nobody looks through all of them for one.
    of_site: BTreeMap<Name, BTreeSet<SessionId>>,
    /// Sessions that have not said hello, by when they must have.
    unspoken: BTreeSet<(Instant, SessionId)>,
    /// Which site each transaction on its way belongs to.
    stores: BTreeMap<Token, Name>,
    asked: BTreeMap<Token, Asked>,
    /// Which sites go to other gateways.
    spread: Spread,
    next_token: u64,
}

impl Hub {
    /// A hub without sessions, fenced as the store remembers.
    pub fn new(config: HubConfig, memory: HubMemory, _now: Instant) -> Self {
        let intake = |site: &Name| Intake::new(Fence::new(memory.fences.get(site).copied().unwrap_or_default()));
        let intakes = config.sites.iter().map(|site| (site.clone(), intake(site))).collect();
        Self {
            incarnation: memory.incarnation,
            intakes,
            sessions: BTreeMap::new(),
            of_site: BTreeMap::new(),
            unspoken: BTreeSet::new(),
            stores: BTreeMap::new(),
            asked: BTreeMap::new(),
            spread: Spread::new(memory.incarnation),
            next_token: 0,
        }
    }

    /// A connection stands; its certificate proves `identity`.
    pub fn handle_opened(
        &mut self,
        session: SessionId,
        identity: (Name, BoardId),
        now: Instant,
        out: &mut Outbox<HubAction>,
    ) {
        let (site, board) = identity;
        let refusal = if !self.intakes.contains_key(&site) {
            Some(Refusal::Identity)
        } else if self.sessions.len() >= SESSIONS_MAX {
            Some(Refusal::Full)
        } else {
            None
        };
        if let Some(reason) = refusal {
            turn_away(session, &site, reason, out);
            return;
        }
        let mut of_site = self.sessions_of(&site);
        let oldest = of_site.next();
        if of_site.count() + 1 >= SITE_SESSIONS_MAX {
            self.close(oldest, out);
        }
        let until = now + HELLO_WITHIN;
        self.unspoken.insert((until, session));
        self.of_site.entry(site.clone()).or_default().insert(session);
        self.sessions.insert(session, Session::new(site, board, until));
    }

    /// The sessions of `site`, in order of opening.
    pub fn sessions_of(&self, site: &Name) -> impl Iterator<Item = SessionId> {
        self.of_site.get(site).into_iter().flatten().copied()
    }

    /// A message of a session. Whatever it says, the worst is that the session ends.
    pub fn handle_message(&mut self, session: SessionId, message: ToRegion, now: Instant, out: &mut Outbox<HubAction>) {
        let Some(from) = self.sessions.get(&session) else { return };
        let refusal = match message {
            ToRegion::Hello(hello) => self.hello(session, &hello, now, out),
            ToRegion::Ask(_) | ToRegion::Block(_) | ToRegion::Report(_) | ToRegion::Duties(_)
                if from.term().is_none() =>
            {
                Err(Refusal::Protocol)
            }
            ToRegion::Ask(_) | ToRegion::Block(_) if from.overruns() => Err(Refusal::Full),
            ToRegion::Ask(streams) => self.ask(session, streams, out),
            ToRegion::Block(block) => self.block(session, block, out),
            ToRegion::Report(report) => self.report(session, report, out),
            ToRegion::Duties(duties) => self.duties(session, duties, out),
        };
        if let Err(reason) = refusal {
            self.refuse(session, reason, out);
        }
    }

    /// The connection of a session is gone.
    pub fn handle_closed(&mut self, session: SessionId, _now: Instant, _out: &mut Outbox<HubAction>) {
        self.remove(session);
    }

    /// How many sites each of the other live gateways of the store has, by the store's word of a moment ago. Until it is told, and where it
    /// is not told again for ten seconds, every site is taken.
    pub fn handle_loads(&mut self, others: Vec<Load>, now: Instant) {
        self.spread.handle_loads(others, now);
    }

    /// A board of `site` has connected and says no hello: it looks whether this gateway would do. Returns whether it would; where not, its
    /// connection is to be closed at once.
    pub fn handle_look(&mut self, site: &Name, now: Instant) -> bool {
        self.spread.handle_look(site, now)
    }

    /// The transaction of `token` has committed, with one outcome a block; or it has not, and nothing of it is stored.
    pub fn handle_stored(
        &mut self,
        token: Token,
        result: Result<Vec<Stored>, StoreFailed>,
        _now: Instant,
        out: &mut Outbox<HubAction>,
    ) {
        let Some(site) = self.stores.remove(&token) else { return };
        let Some(intake) = self.intakes.get_mut(&site) else { return };
        let Some(flight) = intake.land(token) else { return };
        for line in &flight.carried {
            if let Some(session) = self.sessions.get_mut(&line.session) {
                session.blocks -= 1;
                session.bytes -= line.bytes;
            }
        }
        match result {
            Ok(stored) => {
                if let Some(term) = flight.fence {
                    intake.fence.stored(term);
                }
                self.welcome(&site, out);
                self.acknowledge(&site, &flight.carried, &stored, out);
                self.launch(&site, out);
            }
            // Nothing is tried again from here: whoever dials next brings what is not covered.
            Err(StoreFailed) => self.close_site(&site, out),
        }
    }

    /// The coverage that `token` asked for; a stream that is not named is not covered at all. Where it cannot be read now the site is let
    /// go, as where nothing can be stored: it may have another region.
    pub fn handle_loaded(
        &mut self,
        token: Token,
        loaded: Result<Vec<(Stream, RangeSet)>, StoreFailed>,
        _now: Instant,
        out: &mut Outbox<HubAction>,
    ) {
        let Some(asked) = self.asked.remove(&token) else { return };
        let Ok(loaded) = loaded else {
            let site = self.sessions.get(&asked.session).map(|session| session.site.clone());
            if let Some(site) = site {
                self.close_site(&site, out);
            }
            return;
        };
        let Some(session) = self.sessions.get_mut(&asked.session) else { return };
        session.asks -= 1;
        let mut loaded: BTreeMap<Stream, RangeSet> = loaded.into_iter().collect();
        let answer = |stream: Stream| {
            let mut ranges = loaded.remove(&stream).unwrap_or_default();
            ranges.truncate(RANGES_MAX);
            Coverage { stream, ranges, whole: true }
        };
        let message = FromRegion::Coverage(asked.streams.into_iter().map(answer).collect());
        out.push(HubAction::Send { session: asked.session, message });
    }

    /// Closes sessions that have not said hello in time, and sends a site to another gateway where that is due.
    pub fn handle_deadline(&mut self, now: Instant, out: &mut Outbox<HubAction>) {
        while let Some((until, session)) = self.unspoken.first().copied().filter(|(until, _)| *until <= now) {
            self.unspoken.remove(&(until, session));
            self.refuse(session, Refusal::Protocol, out);
        }
        let Self { spread, intakes, .. } = self;
        let is_idle = |site: &Name| intakes.get(site).is_none_or(|intake| intake.blocks() == 0);
        if let Some(site) = spread.due(now, is_idle) {
            self.send_away(&site, now, out);
        }
    }

    /// What the hub waits for.
    pub fn next_deadline(&self) -> Deadline {
        let hello = |(until, _): &(Instant, SessionId)| Deadline { at: *until, why: "a session has not said hello" };
        self.unspoken
            .first()
            .map_or(Deadline::NONE, hello)
            .min(self.spread.next_deadline())
    }

    /// How many gateways are alive that share the sites, as far as this one knows: itself at least.
    pub fn gateways(&self, now: Instant) -> usize {
        self.spread.gateways(now)
    }

    /// Whether more may be read from `session`: the shell leaves it in the socket while not.
    pub fn accepts(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_none_or(Session::accepts)
    }

    /// The sessions, in order of opening.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// The session `id`, if it is there.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Blocks of `site` that wait for the store.
    pub fn blocks_waiting(&self, site: &Name) -> usize {
        self.intakes.get(site).map_or(0, Intake::blocks)
    }

    /// Re-checks what must always hold: looks at every site and session.
    ///
    /// # Panics
    /// Where it does not: the hub has a bug.
    pub fn check(&self) {
        assert!(self.sessions.len() <= SESSIONS_MAX, "sessions are bounded");
        assert!(self.stores.len() <= self.intakes.len(), "one transaction a site");
        for (site, intake) in &self.intakes {
            assert!(intake.fence.check(), "{site}: what is durable was heard");
        }
        let indexed: usize = self.of_site.values().map(BTreeSet::len).sum();
        assert!(indexed == self.sessions.len(), "each session is its site's");
        self.spread.check();
        for site in self.spread.here() {
            assert!(self.has_spoken(site), "who counts has said hello");
        }
        for (id, session) in &self.sessions {
            assert!(self.sessions_of(&session.site).any(|of_site| of_site == *id), "each session is its site's");
            let fence = self.intakes.get(&session.site).map(|intake| &intake.fence);
            let Some(fence) = fence else { unreachable!("sessions belong to known sites") };
            match &session.phase {
                Phase::Opened { until } => {
                    assert!(session.blocks == 0, "no block before the hello");
                    assert!(self.unspoken.contains(&(*until, *id)), "it is waited for");
                }
                Phase::Raising { term, .. } => assert!(fence.owed() == Some(*term), "it waits for its own term"),
                Phase::Standing { term } => assert!(*term == fence.highest(), "a lower term is closed"),
            }
        }
    }

    fn hello(
        &mut self,
        id: SessionId,
        hello: &Hello,
        now: Instant,
        out: &mut Outbox<HubAction>,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        session.judge(hello)?;
        let site = session.site.clone();
        // A stale board is told that it is one, wherever it asks.
        let is_fenced = self
            .intakes
            .get(&site)
            .is_some_and(|intake| hello.term < intake.fence.highest());
        if !is_fenced && !self.takes(id, &site, now, out) {
            return Ok(());
        }
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        if let Phase::Opened { until } = session.phase {
            self.unspoken.remove(&(until, id));
        }
        let Some(intake) = self.intakes.get_mut(&site) else {
            return Err(Refusal::Identity);
        };
        let standing = intake.fence.hear(hello.term);
        session.phase = match standing {
            Standing::Fenced { highest } => return Err(Refusal::Fenced { highest }),
            Standing::Welcome | Standing::AwaitsStore => Phase::Raising { term: hello.term, asks: Vec::new() },
        };
        let lower: Vec<SessionId> = self.lower_than(&site, hello.term).collect();
        for old in lower {
            self.refuse(old, Refusal::Fenced { highest: hello.term }, out);
        }
        if standing == Standing::Welcome {
            self.welcome(&site, out);
        }
        self.launch(&site, out);
        Ok(())
    }

    fn lower_than(&self, site: &Name, term: Term) -> impl Iterator<Item = SessionId> {
        let is_lower = move |id: &SessionId| {
            let have = self.sessions.get(id).and_then(Session::term);
            have.is_some_and(|have| have < term)
        };
        self.sessions_of(site).filter(is_lower)
    }

    fn ask(&mut self, id: SessionId, streams: Vec<Stream>, out: &mut Outbox<HubAction>) -> Result<(), Refusal> {
        judge_ask(&streams)?;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        session.asks += 1;
        match &mut session.phase {
            Phase::Opened { .. } => Err(Refusal::Protocol),
            Phase::Raising { asks, .. } => {
                asks.push(streams);
                Ok(())
            }
            Phase::Standing { .. } => {
                let site = session.site.clone();
                self.load(site, Asked { session: id, streams }, out)
            }
        }
    }

    fn load(&mut self, site: Name, asked: Asked, out: &mut Outbox<HubAction>) -> Result<(), Refusal> {
        if self.asked.len() >= ASKS_MAX {
            return Err(Refusal::Full);
        }
        let token = self.token();
        out.push(HubAction::Load { token, site, streams: asked.streams.clone() });
        self.asked.insert(token, asked);
        Ok(())
    }

    fn block(&mut self, id: SessionId, block: Block, out: &mut Outbox<HubAction>) -> Result<(), Refusal> {
        let range = check_numbers(&block).map_err(|_: BadBlock| Refusal::Protocol)?;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let site = session.site.clone();
        let Some(intake) = self.intakes.get_mut(&site) else {
            return Err(Refusal::Identity);
        };
        session.blocks += 1;
        session.bytes += block.body.len();
        intake.push(id, range, block);
        self.launch(&site, out);
        Ok(())
    }

    fn report(&mut self, id: SessionId, report: SiteReport, out: &mut Outbox<HubAction>) -> Result<(), Refusal> {
        judge_report(&report)?;
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        let Some(term) = session.term() else { return Err(Refusal::Protocol) };
        let (site, board) = (session.site.clone(), session.board);
        out.push(HubAction::Report { site, board, term, report });
        Ok(())
    }

    fn duties(&mut self, id: SessionId, duties: SiteDuties, out: &mut Outbox<HubAction>) -> Result<(), Refusal> {
        judge_duties(&duties)?;
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        let Some(term) = session.term() else { return Err(Refusal::Protocol) };
        out.push(HubAction::Duties { site: session.site.clone(), term, duties });
        Ok(())
    }

    /// Starts the next transaction of `site`, if one is due.
    fn launch(&mut self, site: &Name, out: &mut Outbox<HubAction>) {
        let token = self.token();
        let Some(batch) = self.intakes.get_mut(site).and_then(|intake| intake.launch(token)) else {
            return;
        };
        self.stores.insert(token, site.clone());
        let (fence, blocks) = (batch.fence, batch.blocks);
        out.push(HubAction::Store { token, site: site.clone(), fence, blocks });
    }

    const fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }
}

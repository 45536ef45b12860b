//! What sessions are told, and how they end: the hub's words, apart from what makes it say them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::spread::Verdict;
use super::{Asked, Hub, HubAction, SessionId, Stored};
use crate::event::Event;
use crate::ids::{Name, Stream};
use crate::outbox::Outbox;
use crate::ranges::RangeSet;
use crate::region::intake::Carried;
use crate::region::session::{Phase, Session};
use crate::time::Instant;
use crate::wire::peer::{Coverage, Reader};
use crate::wire::uplink::{FromRegion, Reads, Refusal};

impl Hub {
    /// Welcomes the sessions of `site` whose term is durable, and asks the store what they have asked meanwhile.
    pub(super) fn welcome(&mut self, site: &Name, out: &mut Outbox<HubAction>) {
        let Some(intake) = self.intakes.get(site) else { return };
        if intake.fence.owed().is_some() {
            return;
        }
        let mut asks = Vec::new();
        let of_site: Vec<SessionId> = self.sessions_of(site).collect();
        for id in &of_site {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            let Phase::Raising { term, asks: early } = &mut session.phase else { continue };
            let term = *term;
            asks.extend(early.drain(..).map(|streams| Asked { session: *id, streams }));
            session.phase = Phase::Standing { term };
            let message = FromRegion::Welcome { incarnation: self.incarnation };
            out.push(HubAction::Send { session: *id, message });
            let reads = Coverage::reads(Reader::Region, Reads::Columns);
            // In one message: a board that does not know the second line passes it over beside the first.
            let message = FromRegion::Coverage(alloc::vec![reads, Coverage::hears()]);
            out.push(HubAction::Send { session: *id, message });
            let event = Event::SessionOpened { board: session.board, term };
            out.push(HubAction::Notice { site: Some(site.clone()), event });
        }
        for asked in asks {
            let session = asked.session;
            if let Err(reason) = self.load(site.clone(), asked, out) {
                self.refuse(session, reason, out);
            }
        }
    }

    /// Tells each session what is now stored of what it sent, and ends those that sent what does not hold together.
    pub(super) fn acknowledge(
        &mut self,
        site: &Name,
        carried: &[Carried],
        stored: &[Stored],
        out: &mut Outbox<HubAction>,
    ) {
        let mut gained: BTreeMap<SessionId, BTreeMap<Stream, RangeSet>> = BTreeMap::new();
        let mut bad = BTreeSet::new();
        for (line, outcome) in carried.iter().zip(stored.iter().map(|stored| stored.outcome)) {
            match outcome {
                Ok(tally) => {
                    let of_session = gained.entry(line.session).or_default();
                    of_session.entry(line.stream).or_default().insert(line.range);
                    if let Some(range) = tally.again {
                        let event = Event::Overlap { stream: line.stream, range };
                        out.push(HubAction::Notice { site: Some(site.clone()), event });
                    }
                }
                Err(_) => {
                    bad.insert(line.session);
                }
            }
        }
        for (session, streams) in gained {
            if !self.sessions.contains_key(&session) {
                continue;
            }
            let delta = |(stream, ranges)| Coverage { stream, ranges, whole: false };
            let message = FromRegion::Coverage(streams.into_iter().map(delta).collect());
            out.push(HubAction::Send { session, message });
        }
        for session in bad {
            self.refuse(session, Refusal::Protocol, out);
        }
    }

    pub(super) fn refuse(&mut self, session: SessionId, reason: Refusal, out: &mut Outbox<HubAction>) {
        if let Some(gone) = self.remove(session) {
            turn_away(session, &gone.site, reason, out);
        }
    }

    pub(super) fn close(&mut self, sessions: impl IntoIterator<Item = SessionId>, out: &mut Outbox<HubAction>) {
        for session in sessions {
            if self.remove(session).is_some() {
                out.push(HubAction::Close { session });
            }
        }
    }

    pub(super) fn close_site(&mut self, site: &Name, out: &mut Outbox<HubAction>) {
        let ids: Vec<SessionId> = self.sessions_of(site).collect();
        self.close(ids, out);
    }

    pub(super) fn remove(&mut self, session: SessionId) -> Option<Session> {
        let gone = self.sessions.remove(&session)?;
        if let Phase::Opened { until } = gone.phase {
            self.unspoken.remove(&(until, session));
        }
        if let Some(of_site) = self.of_site.get_mut(&gone.site) {
            of_site.remove(&session);
            if of_site.is_empty() {
                self.of_site.remove(&gone.site);
            }
        }
        if let Some(intake) = self.intakes.get_mut(&gone.site) {
            intake.forget(session);
        }
        if !self.has_spoken(&gone.site) {
            self.spread.handle_gone(&gone.site);
        }
        Some(gone)
    }

    /// Whether a session of `site` has said hello.
    pub(super) fn has_spoken(&self, site: &Name) -> bool {
        self.sessions_of(site)
            .any(|id| self.sessions.get(&id).is_some_and(|session| session.term().is_some()))
    }

    /// Whether `site`, which says hello on a session, may stay. Where not it is told to go.
    pub(super) fn takes(&mut self, session: SessionId, site: &Name, now: Instant, out: &mut Outbox<HubAction>) -> bool {
        match self.spread.handle_hello(site, now) {
            Verdict::Stays => true,
            Verdict::Kept => {
                out.push(HubAction::Notice { site: Some(site.clone()), event: Event::SiteKept });
                true
            }
            Verdict::Away => {
                let (sites, share) = self.spread.weigh(1, now).map_or((0, 0), |weight| (weight.own, weight.share));
                if self.remove(session).is_some() {
                    out.push(HubAction::SendAway { session });
                }
                let event = Event::SiteSentAway { sites, share, stood: false };
                out.push(HubAction::Notice { site: Some(site.clone()), event });
                false
            }
        }
    }

    /// Sends all sessions of `site` away. What they have sent and was not stored yet they send again, elsewhere.
    pub(super) fn send_away(&mut self, site: &Name, now: Instant, out: &mut Outbox<HubAction>) {
        let sessions: Vec<SessionId> = self.sessions_of(site).collect();
        for session in sessions {
            if self.remove(session).is_some() {
                out.push(HubAction::SendAway { session });
            }
        }
        let (sites, share) = self.spread.weigh(1, now).map_or((0, 0), |weight| (weight.own, weight.share));
        let event = Event::SiteSentAway { sites, share, stood: true };
        out.push(HubAction::Notice { site: Some(site.clone()), event });
    }
}

/// Refuses a session that the hub does not hold (any more).
pub(super) fn turn_away(session: SessionId, site: &Name, reason: Refusal, out: &mut Outbox<HubAction>) {
    let message = FromRegion::Refused(reason.clone());
    out.push(HubAction::Send { session, message });
    out.push(HubAction::Close { session });
    let event = Event::SessionRefused { reason };
    out.push(HubAction::Notice { site: Some(site.clone()), event });
}

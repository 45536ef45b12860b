//! The one task that owns the `Hub`: takes inputs one at a time from bounded channels, performs what the hub asks, and
//! shows how things are. Nothing here waits for a disk or a peer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use link::once::OncePerPeer;
use quinn::{Connection, VarInt};
use shared::event::Event;
use shared::frame::FrameRefusal;
use shared::hub::{Hub, HubAction, Load, SessionId};
use shared::ids::{BoardId, Name};
use shared::outbox::Outbox;
use shared::time::Instant;
use shared::wire::uplink::{FromRegion, Refusal, ToRegion};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::metrics::Metrics;
use crate::picture::{DutiesTold, Picture, SitePicture, Speaker, Told};
use crate::session;
use crate::store::{Deposit, Done, Happening, Job, StoreError};

/// What the owner is told by sessions.
#[derive(Debug)]
pub(crate) enum Input {
    /// A connection has opened its conversation.
    Opened {
        session: SessionId,
        /// As its certificate proves.
        identity: (Name, BoardId),
        connection: Connection,
        /// Where answers go; dropping it ends the session once they are sent.
        replies: mpsc::Sender<FromRegion>,
        /// Set before they are dropped where the site is to dial another gateway.
        away: Arc<AtomicBool>,
    },
    /// A connection has opened no conversation: its board looks whether this gateway would do.
    Looked {
        /// As its certificate proves.
        site: Name,
        connection: Connection,
    },
    /// A message. The permit is given back when more may be read.
    Message {
        session: SessionId,
        message: ToRegion,
        permit: OwnedSemaphorePermit,
    },
    /// The connection is gone, or has sent what is no message.
    Closed { session: SessionId, fault: Option<FrameRefusal> },
}

/// A session as the owner holds it.
#[derive(Debug)]
struct Line {
    site: Name,
    connection: Connection,
    replies: mpsc::Sender<FromRegion>,
    away: Arc<AtomicBool>,
    /// Permits kept while no more of it may be read.
    held: Vec<OwnedSemaphorePermit>,
}

/// The owner task.
#[derive(Debug)]
pub(crate) struct Owner {
    hub: Hub,
    out: Outbox<HubAction>,
    lines: BTreeMap<SessionId, Line>,
    jobs: mpsc::Sender<Job>,
    metrics: Metrics,
    picture: watch::Sender<Picture>,
    said: OncePerPeer<IpAddr>,
    /// Refusals that were logged, by site and reason.
    refused: OncePerPeer<(Name, &'static str)>,
    /// When the hub's invariants are looked at next.
    check_at: Instant,
}

/// Room in the store's queue that is left to jobs that must be done; notes for people do not take it.
pub(crate) const NOTES_MAX: usize = 1024;

/// Between two looks at all of the hub's invariants: after each message it would be most of the work of a gateway with thousands of sites.
const CHECK_EVERY: Duration = Duration::from_secs(1);

impl Owner {
    /// An owner of `hub` that asks the store by `jobs` and shows how things are in `picture`.
    pub(crate) fn new(hub: Hub, jobs: mpsc::Sender<Job>, metrics: Metrics, picture: watch::Sender<Picture>) -> Self {
        Self {
            hub,
            out: Outbox::default(),
            lines: BTreeMap::new(),
            jobs,
            metrics,
            picture,
            said: OncePerPeer::default(),
            refused: OncePerPeer::default(),
            check_at: Instant::ZERO,
        }
    }

    /// Runs until the senders of `inputs` are gone or the store fails for good. `loads` is what other gateways of the store say.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut done: mpsc::Receiver<Done>,
        mut loads: watch::Receiver<Vec<Load>>,
    ) -> Result<(), StoreError> {
        loop {
            let nap = link::clock::nap(self.hub.next_deadline(), link::clock::now());
            tokio::select! {
                // What is stored first: it makes room.
                biased;
                Some(done) = done.recv() => self.handle_done(done, link::clock::now())?,
                // Rare, and of no use late.
                Ok(()) = loads.changed() => {
                    let others = loads.borrow_and_update().clone();
                    self.hub.handle_loads(others, link::clock::now());
                }
                input = inputs.recv() => match input {
                    Some(input) => self.handle_input(input, link::clock::now()),
                    None => return Ok(()),
                },
                () = tokio::time::sleep(nap) => {}
            }
            let now = link::clock::now();
            if self.hub.next_deadline().at <= now {
                self.hub.handle_deadline(now, &mut self.out);
                self.perform(now);
            }
            self.metrics.gateways(self.hub.gateways(now));
            self.picture.send_modify(|picture| picture.beat = now);
        }
    }

    fn handle_input(&mut self, input: Input, now: Instant) {
        match input {
            Input::Opened { session, identity, connection, replies, away } => {
                let site = identity.0.clone();
                let line = Line { site: site.clone(), connection, replies, away, held: Vec::new() };
                self.lines.insert(session, line);
                self.hub.handle_opened(session, identity, now, &mut self.out);
                self.perform(now);
                self.show(site, |_| {});
            }
            Input::Looked { site, connection } => {
                if !self.hub.handle_look(&site, now) {
                    self.metrics.sent_away("looked");
                    session::send_away(&connection);
                }
            }
            Input::Message { session, message, permit } => {
                self.hub.handle_message(session, message, now, &mut self.out);
                if !self.hub.accepts(session)
                    && let Some(line) = self.lines.get_mut(&session)
                {
                    line.held.push(permit);
                }
                self.perform(now);
            }
            Input::Closed { session, fault } => {
                if let Some(fault) = fault {
                    self.blame(session, fault);
                }
                self.hang_up(session, now);
            }
        }
    }

    fn handle_done(&mut self, done: Done, now: Instant) -> Result<(), StoreError> {
        match done {
            Done::Stored(token, result) => {
                let is_storing = result.is_ok();
                self.picture.send_modify(|picture| picture.is_storing = is_storing);
                self.hub.handle_stored(token, result, now, &mut self.out);
            }
            Done::Loaded(token, loaded) => self.hub.handle_loaded(token, loaded, now, &mut self.out),
            Done::Broken(error) => return Err(error),
        }
        self.perform(now);
        let Self { hub, lines, .. } = self;
        for (session, line) in lines.iter_mut().filter(|(_, line)| !line.held.is_empty()) {
            if hub.accepts(*session) {
                line.held.clear();
            }
        }
        Ok(())
    }

    /// Performs what the hub asks, in order, to empty.
    fn perform(&mut self, now: Instant) {
        let mut deaf = Vec::new();
        while let Some(action) = self.out.pop() {
            match action {
                HubAction::Send { session, message } => {
                    let line = self.lines.get(&session);
                    if line.is_some_and(|line| line.replies.try_send(message).is_err()) {
                        deaf.push(session);
                    }
                }
                HubAction::Close { session } => {
                    if let Some(line) = self.lines.remove(&session) {
                        self.show(line.site, |_| {});
                    }
                }
                HubAction::SendAway { session } => {
                    if let Some(line) = self.lines.remove(&session) {
                        line.away.store(true, Ordering::Relaxed);
                        self.show(line.site, |_| {});
                    }
                }
                HubAction::Store { token, site, fence, blocks } => {
                    self.ask(Job::Store(token, Deposit { site, fence, blocks }));
                }
                HubAction::Load { token, site, streams } => self.ask(Job::Load(token, site, streams)),
                HubAction::Report { site, board, term, report } => {
                    let told = Told { at: now, board, term, report };
                    self.show(site, |picture| {
                        // A leader that tells nothing of duties leaves none of an earlier one on the page.
                        picture.duties.take_if(|told| told.term != term);
                        picture.told = Some(told);
                    });
                }
                HubAction::Duties { site, term, duties } => {
                    let told = DutiesTold { at: now, term, duties };
                    self.show(site, |picture| picture.duties = Some(told));
                }
                HubAction::Notice { site, event } => self.notice(site, event),
            }
        }
        // It looks at every session of every site.
        if now >= self.check_at {
            self.hub.check();
            self.check_at = now + CHECK_EVERY;
        }
        for session in deaf {
            if let Some(line) = self.lines.get(&session) {
                line.connection.close(VarInt::from_u32(1), b"answers were not read");
            }
            self.hang_up(session, now);
        }
    }

    fn hang_up(&mut self, session: SessionId, now: Instant) {
        self.hub.handle_closed(session, now, &mut self.out);
        // A session that the hub has closed is shown already.
        if let Some(line) = self.lines.remove(&session) {
            self.show(line.site, |_| {});
        }
    }

    /// The queue holds all that the hub may ask at once, so the only failure is that the store has broken: it has said
    /// so, or is about to.
    fn ask(&self, job: Job) {
        let _ = self.jobs.try_send(job);
    }

    /// Tells a peer that it sent what is no message, and the log, once a peer.
    fn blame(&mut self, session: SessionId, fault: FrameRefusal) {
        self.metrics.bad_frame();
        let Some(line) = self.lines.get(&session) else { return };
        // Where it cannot be said any more, the connection is as good as gone.
        let _ = line.replies.try_send(FromRegion::Refused(Refusal::Protocol));
        let peer = line.connection.remote_address();
        if self.said.is_first(peer.ip()) {
            tracing::warn!(%peer, %fault, "sent what is no message; closed, and only counted from now on");
        }
    }

    fn notice(&mut self, site: Option<Name>, event: Event) {
        let shown = site.clone().unwrap_or_default();
        let detail = match &event {
            Event::SessionOpened { board, term } => {
                let detail = format!("{board} speaks for the site under term {term}");
                tracing::info!(site = %shown, detail, "session opened");
                detail
            }
            Event::SessionRefused { reason } => {
                let (kind, why) = (Metrics::kind(reason), why(reason));
                self.metrics.refused(reason);
                if self.refused.is_first((shown, kind)) {
                    tracing::warn!(site = ?site, why, "session refused; further ones are counted and kept as events");
                }
                why
            }
            // Of no interest to people one by one, and as many as a drain has blocks: the metrics count them.
            Event::Overlap { stream, range } => {
                tracing::debug!(site = %shown, %stream, first = range.first, last = range.last, "stored before");
                return;
            }
            other => {
                if let Event::SiteSentAway { stood, .. } = other {
                    self.metrics.sent_away(if *stood { "stood" } else { "dialled" });
                } else if *other == Event::SiteKept {
                    self.metrics.kept();
                }
                let detail = format!("{other}");
                tracing::info!(site = %shown, detail, "event");
                detail
            }
        };
        if let Some(site) = &site {
            self.show(site.clone(), |_| {});
        }
        if self.jobs.capacity() <= self.jobs.max_capacity() - NOTES_MAX {
            self.metrics.event_dropped();
            return;
        }
        let at = link::clock::wall();
        self.ask(Job::Note(Happening { site, at, name: event.name(), detail }));
    }

    /// Changes the picture of `site`, and brings what is known of its sessions up to date.
    fn show(&self, site: Name, change: impl FnOnce(&mut SitePicture)) {
        let sessions = self.hub.sessions_of(&site).filter_map(|id| self.hub.session(id));
        let speakers = sessions.map(|session| Speaker { board: session.board, term: session.term() });
        let speakers: Vec<Speaker> = speakers.collect();
        let blocks_waiting = self.hub.blocks_waiting(&site);
        self.metrics.sessions(self.hub.sessions().len());
        self.picture.send_modify(|picture| {
            let picture = picture.sites.entry(site).or_default();
            picture.sessions = speakers;
            picture.blocks_waiting = blocks_waiting;
            change(picture);
        });
    }
}

fn why(reason: &Refusal) -> String {
    match reason {
        Refusal::Fenced { highest } => format!("a higher term has spoken: {highest}"),
        Refusal::Identity => {
            "its hello does not name what its certificate proves, or the site is not served".to_owned()
        }
        Refusal::Full => "more waits here than this gateway takes".to_owned(),
        Refusal::Protocol => {
            "it sent what does not fit the conversation, or a block that does not hold together".to_owned()
        }
    }
}

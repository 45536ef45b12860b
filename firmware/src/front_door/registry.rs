//! Sessions by client identifier: who has one now, what is kept for whom and until when, and whose will is still to be
//! published. Hands a session from an old connection to a new one, so that it is never in two hands. Behind one mutex,
//! touched when a connection comes or goes and never for a publish.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::action::Offer;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use super::counters::{DoorCounters, add};
use super::mailbox::Mailboxes;
use super::session::Session;

/// How long a newcomer waits for the old connection to hand the session over, before it starts a fresh one.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(5);

/// All sessions.
#[derive(Debug)]
pub(super) struct Registry {
    places: Mutex<Places>,
    sessions_max: usize,
    pub(super) mailboxes: Arc<Mailboxes>,
    counters: Arc<DoorCounters>,
}

#[derive(Debug, Default)]
struct Places {
    by_client: BTreeMap<String, Place>,
    /// Slots without a session, with the serial from which the next one counts on.
    free: Vec<(u32, u32)>,
    slots: usize,
    lives: u64,
}

#[derive(Debug)]
enum Place {
    Live { life: u64, seat: Arc<Seat> },
    Kept { session: Box<Session>, until: Instant, will: Option<DueWill> },
}

#[derive(Debug)]
struct DueWill {
    at: Instant,
    offer: Box<Offer>,
}

/// What the connection that has the session looks at.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Rung when another connection wants the session.
    pub(super) wanted: Notify,
    successor: Mutex<Option<Successor>>,
}

#[derive(Debug)]
struct Successor {
    is_clean: bool,
    hand: oneshot::Sender<Session>,
}

/// A session in the hand of one connection.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) session: Session,
    pub(super) is_resumed: bool,
    pub(super) seat: Arc<Seat>,
    /// Wills that fall due because their sessions ended here.
    pub(super) due: Vec<Offer>,
    life: u64,
}

/// How a connection leaves its session behind.
#[derive(Debug)]
pub(super) struct Leave {
    pub(super) session: Session,
    /// How long the session is kept; zero: not at all.
    pub(super) keep: Duration,
    /// What is published in the client's name, and how long after.
    pub(super) will: Option<(Box<Offer>, Duration)>,
}

enum Found {
    Session(Box<Session>),
    Nothing,
    Elsewhere(oneshot::Receiver<Session>),
}

impl Registry {
    pub(super) fn new(sessions_max: usize, mailboxes: Arc<Mailboxes>, counters: Arc<DoorCounters>) -> Self {
        Self { places: Mutex::default(), sessions_max, mailboxes, counters }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the session of `client` to the caller, who becomes its one holder and leaves it by [`Registry::leave`] with
    /// the claim's seat. An older holder is asked to leave. `None` where every session is in use.
    pub(super) async fn claim(&self, client: &str, is_clean: bool) -> Option<Claim> {
        let (found, life, seat, mut due) = self.take_seat(client, is_clean);
        let found = match found {
            Found::Session(session) => Some(*session),
            Found::Nothing => None,
            Found::Elsewhere(hand) => {
                add(&self.counters.takeovers, 1);
                timeout(HANDOVER_PATIENCE, hand).await.ok().and_then(Result::ok)
            }
        };
        let mut places = self.lock();
        let kept = match found {
            Some(session) if is_clean => {
                places.free.push(session.place());
                None
            }
            other => other,
        };
        let is_resumed = kept.is_some();
        let session = kept.or_else(|| self.fresh(&mut places, &mut due));
        let Some(session) = session else {
            places.vacate(client, life);
            return None;
        };
        self.tell(&places);
        add(&self.counters.sessions_resumed, u64::from(is_resumed));
        Some(Claim { session, is_resumed, seat, due, life })
    }

    fn take_seat(&self, client: &str, is_clean: bool) -> (Found, u64, Arc<Seat>, Vec<Offer>) {
        let mut places = self.lock();
        places.lives += 1;
        let (life, seat) = (places.lives, Arc::new(Seat::default()));
        let place = Place::Live { life, seat: Arc::clone(&seat) };
        let mut due = Vec::new();
        let found = match places.by_client.insert(client.to_owned(), place) {
            None => Found::Nothing,
            Some(Place::Live { seat: old, .. }) => {
                let (hand, receiver) = oneshot::channel();
                *old.successor.lock().unwrap_or_else(PoisonError::into_inner) = Some(Successor { is_clean, hand });
                old.wanted.notify_one();
                Found::Elsewhere(receiver)
            }
            Some(Place::Kept { session, until, will }) => {
                let is_over = is_clean || until <= Instant::now();
                // A will whose session goes on is void; one whose session ends is due [MQTT-3.1.3-9].
                due.extend(will.filter(|_| is_over).map(|will| *will.offer));
                if is_over {
                    places.free.push(session.place());
                    Found::Nothing
                } else {
                    Found::Session(session)
                }
            }
        };
        (found, life, seat, due)
    }

    fn fresh(&self, places: &mut Places, due: &mut Vec<Offer>) -> Option<Session> {
        if places.free.is_empty() && places.slots < self.sessions_max {
            places.slots += 1;
            return Some(Session::new(self.mailboxes.add(), 0));
        }
        if places.free.is_empty() {
            due.extend(places.evict());
            add(&self.counters.sessions_evicted, u64::from(!places.free.is_empty()));
        }
        let (slot, serial) = places.free.pop()?;
        Some(Session::new(slot, serial))
    }

    /// Takes the session back from the holder of `life`. Returns the will if it is due now.
    pub(super) fn leave(&self, client: &str, life: Life, leave: Leave) -> Option<Box<Offer>> {
        let Leave { mut session, keep, will } = leave;
        session.handle_cut();
        let mut places = self.lock();
        if !places.is_held(client, life.0) {
            let seat = &life.1;
            let successor = seat.successor.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(Successor { is_clean, hand }) = successor else {
                places.free.push(session.place());
                return will.map(|(offer, _)| offer);
            };
            let ends = is_clean || keep.is_zero();
            if ends {
                places.free.push(session.place());
            } else if let Err(session) = hand.send(session) {
                places.free.push(session.place());
            }
            return will.filter(|(_, delay)| ends || delay.is_zero()).map(|(offer, _)| offer);
        }
        if keep.is_zero() {
            places.by_client.remove(client);
            places.free.push(session.place());
            self.tell(&places);
            return will.map(|(offer, _)| offer);
        }
        let now = Instant::now();
        let (due, waiting) = match will {
            Some((offer, delay)) if delay.is_zero() => (Some(offer), None),
            Some((offer, delay)) => (None, Some(DueWill { at: now + delay.min(keep), offer })),
            None => (None, None),
        };
        let kept = Place::Kept { session: Box::new(session), until: now + keep, will: waiting };
        places.by_client.insert(client.to_owned(), kept);
        self.tell(&places);
        due
    }

    /// Ends the sessions whose time is over; returns the wills that are due.
    pub(super) fn sweep(&self) -> Vec<Offer> {
        let mut places = self.lock();
        let now = Instant::now();
        let mut due = Vec::new();
        let mut over = Vec::new();
        for (client, place) in &mut places.by_client {
            let Place::Kept { until, will, .. } = place else { continue };
            if let Some(will) = will.take_if(|will| will.at <= now || *until <= now) {
                due.push(*will.offer);
            }
            if *until <= now {
                over.push(client.clone());
            }
        }
        for client in over {
            places.drop_kept(&client);
        }
        self.tell(&places);
        due
    }

    fn tell(&self, places: &Places) {
        self.counters.sessions.store(places.by_client.len() as u64, Relaxed);
    }
}

/// Proof of having claimed a session, given back with it.
#[derive(Debug)]
pub(super) struct Life(u64, Arc<Seat>);

impl Claim {
    /// What [`Registry::leave`] wants back.
    pub(super) fn life(&self) -> Life {
        Life(self.life, Arc::clone(&self.seat))
    }
}

impl Places {
    fn is_held(&self, client: &str, by: u64) -> bool {
        matches!(self.by_client.get(client), Some(Place::Live { life, .. }) if *life == by)
    }

    fn vacate(&mut self, client: &str, by: u64) {
        if self.is_held(client, by) {
            self.by_client.remove(client);
        }
    }

    fn drop_kept(&mut self, client: &str) -> Option<Box<Offer>> {
        match self.by_client.remove(client) {
            Some(Place::Kept { session, will, .. }) => {
                self.free.push(session.place());
                will.map(|will| will.offer)
            }
            Some(live @ Place::Live { .. }) => {
                self.by_client.insert(client.to_owned(), live);
                None
            }
            None => None,
        }
    }

    /// Ends the kept session that would end soonest, if one is kept; returns its will.
    fn evict(&mut self) -> Option<Offer> {
        let soonest = self.by_client.iter().filter_map(|(client, place)| match place {
            Place::Kept { until, .. } => Some((*until, client)),
            Place::Live { .. } => None,
        });
        let client = soonest.min()?.1.clone();
        self.drop_kept(&client).map(|will| *will)
    }
}

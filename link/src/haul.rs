//! Congestion control of the uplink: keeps the link full and its queue short, also where packets are lost for other reasons
//! than a full queue. The idea is BBR's (Cardwell et al., BBR: congestion-based congestion control, ACM Queue 14/5, 2016):
//! what counts is how much arrives in a round trip and how long the shortest one takes, not that something was lost. Owns
//! the window; the transport spreads it over a round trip.
//!
//! ```text
//!  startup ──the rate grows no more, or a queue forms──▶ cruise ◀──▶ dip, every ten seconds:
//!  the window doubles a round                        gain x rate x     below the link's own, so that
//!                                                    least round trip  the least round trip shows
//!                                                    + a few packets
//! ```
//!
//! The transport's own BBR never lets its estimate of the rate fall, and takes it from single acknowledgements: on 20 Mbit/s
//! with a queue of 100 ms it kept the queue full and had a third of its packets dropped there (`roadstead bench drain`).

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::Connection;
use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// Packets of the first window: three doublings below 20 Mbit/s at 80 ms, and a tenth of a second of 6 Mbit/s.
const FIRST_PACKETS: u64 = 64;
/// Packets of the least window, so that one lost is noticed by those after it.
const LEAST_PACKETS: u64 = 4;
/// The link's rate is the greatest of so many rounds: BBR's own figure.
const ROUNDS: usize = 10;
/// A startup goes on while a round brings so many times more than the best before.
const GROWTH: f64 = 1.25;
/// Or until so many rounds did not.
const STALLED_MAX: u32 = 2;
/// Or until its least round trip is so many times the link's: a queue has formed.
const QUEUE_FORMED: f64 = 1.25;
/// Round trips that a round needs to be judged by them, and those by which a queue shows while it lasts.
const SAMPLES_LEAST: u32 = 8;
/// The window by what the link holds. Above 1, so that a link that has become faster shows and lost packets, which count until
/// they are missed, leave no gap. A gain alone shares nothing: whoever has nine tenths of a link keeps them, and one of 1.5 left a
/// CUBIC beside it a fiftieth where the queue was short (`fairness`).
const GAIN_MOST: f64 = 1.1;
/// What round trips differ by within a round is no queue of ours: a radio waits for its slots. So many times of it count as way.
const SPREAD_TIMES: f64 = 0.75;
/// A round's by its least round trip, at most.
const SPREAD_MOST: u32 = 2;
/// Share of a round's in what is known of it.
const SPREAD_WEIGHT: f64 = 0.125;
/// Packets that each connection keeps in the link's queue beside that, whatever its rate: as FAST does (Wei et al., FAST TCP,
/// IEEE/ACM Transactions on Networking 14/6, 2006). All wait the same time there, so all come to the same rate.
const QUEUED_PACKETS: u64 = 12;
/// On a slow link so much of what it holds at most,
const QUEUED_SHARE: f64 = 0.5;
/// and so many packets at least.
const QUEUED_LEAST_PACKETS: u64 = 6;
/// Where even that queue is too long for the link.
const GAIN_LEAST: f64 = 1.0;
/// Share of a round's packets that may be lost without its being taken for a full queue. Far above 5 % at random.
const LOSS_BORNE: f64 = 0.12;
/// Some thirty packets: of fewer one that is lost is no share.
const LOSS_JUDGED_BYTES: u64 = 32 * 1200;
/// A least round trip counts for so long: BBR's own figure.
const RTT_COUNTS: Duration = Duration::from_secs(10);
/// The window of a dip by what the link holds: the queue that the gain keeps is gone before the round is over.
const DIP: f64 = 0.75;

/// Where it stands.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Startup {
        best: u64,
        stalled: u32,
    },
    Cruise,
    /// `since`: when the queue was gone; `least`: the least round trip of what was sent since.
    Dip {
        since: Option<Instant>,
        least: Option<Duration>,
    },
}

/// From a moment to the first acknowledgement of a packet that was sent after it.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    /// Over once a later packet is acknowledged.
    last_sent: u64,
    delivered: u64,
    lost: u64,
    least_rtt: Option<Duration>,
    total_rtt: Duration,
    samples: u32,
    /// Nothing waited to be sent for some of it: it shows no more than that so much is possible.
    is_idle: bool,
}

impl Round {
    const fn new(began: Instant, last_sent: u64, is_idle: bool) -> Self {
        Self {
            began,
            last_sent,
            delivered: 0,
            lost: 0,
            least_rtt: None,
            total_rtt: Duration::ZERO,
            samples: 0,
            is_idle,
        }
    }

    /// How much longer its round trips took than the least of them, on average; `None` where they are too few to tell.
    fn spread(&self) -> Option<Duration> {
        let least = self
            .least_rtt
            .filter(|_| self.samples >= SAMPLES_LEAST && self.loss() <= LOSS_BORNE)?;
        // A radio that holds everything for seconds says nothing of the rest.
        Some((self.total_rtt / self.samples).saturating_sub(least).min(SPREAD_MOST * least))
    }

    /// Share that was lost; 0 where too little was sent to tell.
    fn loss(&self) -> f64 {
        let sent = self.lost + self.delivered;
        if sent < LOSS_JUDGED_BYTES {
            return 0.0;
        }
        self.lost as f64 / sent as f64
    }
}

/// The least round trip of the last [`SAMPLES_LEAST`] packets, taken together: one alone may be late for other reasons than a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    shown: Option<Duration>,
    gathered: Option<Duration>,
    samples: u32,
}

impl Lately {
    fn add(&mut self, rtt: Duration) {
        self.gathered = Some(self.gathered.map_or(rtt, |least| least.min(rtt)));
        self.samples = (self.samples + 1) % SAMPLES_LEAST;
        if self.samples == 0 {
            self.shown = self.gathered.take();
        }
    }
}

/// Makes a [`Haul`] for each connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hauling;

impl ControllerFactory for Hauling {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Haul::new(now, mtu))
    }
}

/// The control of one connection.
#[derive(Clone, Debug)]
struct Haul {
    mtu: u64,
    phase: Phase,
    window: u64,
    gain: f64,
    /// Bytes a second of the last rounds, the newest at `next - 1`.
    rates: [u64; ROUNDS],
    next: usize,
    least_rtt: Option<(Duration, Instant)>,
    /// How much round trips differ within a round: what waits in our own queue waits about as long all through one.
    spread: Duration,
    lately: Lately,
    round: Round,
    last_sent: u64,
    /// Packets that were acknowledged, each once.
    acknowledged: u64,
}

/// Packets of `connection` that the other end has acknowledged so far, each once: an acknowledgement that comes again does not
/// count. 0 where another congestion control is at work.
pub(crate) fn acknowledged(connection: &Connection) -> u64 {
    let state = connection.congestion_state().into_any().downcast::<Haul>();
    state.map_or(0, |haul| haul.acknowledged)
}

impl Haul {
    fn new(now: Instant, mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        Self {
            mtu,
            phase: Phase::Startup { best: 0, stalled: 0 },
            window: FIRST_PACKETS * mtu,
            gain: GAIN_MOST,
            rates: [0; ROUNDS],
            next: 0,
            least_rtt: None,
            spread: Duration::ZERO,
            lately: Lately::default(),
            round: Round::new(now, 0, true),
            last_sent: 0,
            acknowledged: 0,
        }
    }

    /// Bytes a second that the link has shown.
    fn rate(&self) -> u64 {
        self.rates.iter().copied().max().unwrap_or(0)
    }

    /// `share` of what the link holds without a queue; `None` where that is not known yet.
    fn held(&self, share: f64) -> Option<u64> {
        let (least, _) = self.least_rtt?;
        let bytes = self.rate() as f64 * least.as_secs_f64() * share;
        (bytes > 0.0).then_some((bytes as u64).max(LEAST_PACKETS * self.mtu))
    }

    /// The window that keeps the link full and its share of the queue.
    fn full(&self) -> Option<u64> {
        let queued = (self.held(QUEUED_SHARE)?).clamp(QUEUED_LEAST_PACKETS * self.mtu, QUEUED_PACKETS * self.mtu);
        let late = self.rate() as f64 * self.spread.as_secs_f64() * SPREAD_TIMES;
        Some(self.held(self.gain)? + late as u64 + queued)
    }

    fn handle_acked(&mut self, now: Instant, sent: Instant, bytes: u64, is_idle: bool) {
        let rtt = now.saturating_duration_since(sent);
        self.round.delivered += bytes;
        self.round.is_idle |= is_idle;
        self.round.samples += 1;
        self.round.total_rtt += rtt;
        self.round.least_rtt = Some(self.round.least_rtt.map_or(rtt, |least| least.min(rtt)));
        if self.least_rtt.is_none_or(|(least, _)| rtt <= least) {
            self.least_rtt = Some((rtt, now));
        }
        self.lately.add(rtt);
        let is_queueing = self.has_waited(self.lately.shown);
        match &mut self.phase {
            // What is on its way fills the queue further, for a round trip.
            Phase::Startup { .. } if !is_idle && !is_queueing => self.window += bytes,
            Phase::Dip { since: Some(since), least } if sent >= *since => {
                *least = Some(least.map_or(rtt, |least| least.min(rtt)));
            }
            Phase::Startup { .. } | Phase::Cruise | Phase::Dip { .. } => {}
        }
    }

    fn handle_acks_over(&mut self, now: Instant, in_flight: u64, is_idle: bool, newest: Option<u64>) {
        if newest.is_some_and(|newest| newest > self.round.last_sent) && now > self.round.began {
            let round = self.round;
            self.round = Round::new(now, self.last_sent, is_idle);
            self.handle_round(&round, now);
        }
        let dip = self.held(DIP);
        match &mut self.phase {
            Phase::Startup { .. } => {}
            Phase::Cruise => {
                if let Some(full) = self.full() {
                    self.window = full;
                }
            }
            Phase::Dip { since, .. } => {
                if let Some(held) = dip {
                    self.window = held;
                }
                if since.is_none() && in_flight <= self.window + self.mtu {
                    *since = Some(now);
                }
            }
        }
    }

    fn handle_round(&mut self, round: &Round, now: Instant) {
        let took = (now - round.began).as_secs_f64();
        let rate = (round.delivered as f64 / took) as u64;
        if !round.is_idle || rate > self.rate() {
            self.rates[self.next] = rate;
            self.next = (self.next + 1) % ROUNDS;
        }
        if let Some(spread) = round.spread() {
            self.spread = self.spread.mul_f64(1.0 - SPREAD_WEIGHT) + spread.mul_f64(SPREAD_WEIGHT);
        }
        match &mut self.phase {
            Phase::Startup { best, stalled } => {
                if rate as f64 >= *best as f64 * GROWTH {
                    (*best, *stalled) = (rate, 0);
                } else if !round.is_idle {
                    *stalled += 1;
                }
                let has_stalled = *stalled >= STALLED_MAX;
                if has_stalled || round.loss() > LOSS_BORNE || self.has_queued(round) {
                    self.phase = Phase::Cruise;
                }
            }
            Phase::Cruise => self.cruise(round, now),
            Phase::Dip { since, least } => {
                if since.is_some_and(|since| round.began >= since) {
                    // What it showed stands, also where it is more than before: the way may have become longer.
                    let shown = least.or(self.least_rtt.map(|(least, _)| least));
                    self.least_rtt = shown.map(|least| (least, now));
                    self.phase = Phase::Cruise;
                }
            }
        }
    }

    /// Whether the round's packets have waited for each other.
    fn has_queued(&self, round: &Round) -> bool {
        round.samples >= SAMPLES_LEAST && self.has_waited(round.least_rtt)
    }

    /// Whether a round trip has been so much longer than the link's that a queue has formed.
    fn has_waited(&self, shown: Option<Duration>) -> bool {
        let both = shown.zip(self.least_rtt);
        both.is_some_and(|(shown, (least, _))| shown > least.mul_f64(QUEUE_FORMED))
    }

    fn cruise(&mut self, round: &Round, now: Instant) {
        let step = if round.loss() > LOSS_BORNE { -0.125 } else { 0.025 };
        self.gain = (self.gain + step).clamp(GAIN_LEAST, GAIN_MOST);
        let Some((_, shown_at)) = self.least_rtt else { return };
        if now.saturating_duration_since(shown_at) < RTT_COUNTS {
            return;
        }
        if round.is_idle {
            // Nothing of ours waits in the queue.
            self.least_rtt = round.least_rtt.map(|least| (least, now)).or(self.least_rtt);
        } else {
            self.phase = Phase::Dip { since: None, least: None };
        }
    }

    fn handle_lost(&mut self, now: Instant, bytes: u64, was_cut: bool) {
        self.round.lost += bytes;
        if was_cut {
            // Nothing got through for several round trips: what was known of the link may be true no more.
            let (last_sent, acknowledged) = (self.last_sent, self.acknowledged);
            *self = Self { last_sent, acknowledged, ..Self::new(now, u16::try_from(self.mtu).unwrap_or(u16::MAX)) };
            self.round.last_sent = self.last_sent;
        }
    }
}

impl Controller for Haul {
    fn on_sent(&mut self, _now: Instant, _bytes: u64, last_packet_number: u64) {
        self.last_sent = last_packet_number;
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _rtt: &RttEstimator) {
        self.acknowledged += 1;
        self.handle_acked(now, sent, bytes, app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, newest: Option<u64>) {
        self.handle_acks_over(now, in_flight, app_limited, newest);
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.handle_lost(now, lost_bytes, is_persistent_congestion);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.window = self.window.max(LEAST_PACKETS * self.mtu);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        FIRST_PACKETS * self.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod fairness;
#[cfg(test)]
mod tests;

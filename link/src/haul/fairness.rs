//! Several connections on one calculated link, of ours and of the kind that nearly all others are: who gets what. No clock, no
//! socket.

use std::collections::VecDeque;

use super::tests::{MS, MTU, chance};
use super::*;

/// 20 Mbit/s in bytes.
const RATE: f64 = 20.0 * 125_000.0;

/// RFC 9438 in packets: what Linux, Windows and QUIC's libraries do unless told otherwise.
#[derive(Clone, Debug)]
struct Cubic {
    window: f64,
    most: f64,
    /// When the window was last cut.
    cut_at: Option<Duration>,
    is_slow_start: bool,
}

impl Cubic {
    const BETA: f64 = 0.7;
    const C: f64 = 0.4;

    const fn new() -> Self {
        Self { window: 10.0, most: 0.0, cut_at: None, is_slow_start: true }
    }

    fn handle_acked(&mut self, now: Duration, rtt: Duration) {
        let Some(cut_at) = self.cut_at.filter(|_| !self.is_slow_start) else {
            self.window += 1.0;
            return;
        };
        let (since, rtt) = ((now - cut_at).as_secs_f64(), rtt.as_secs_f64());
        let turn = (self.most * (1.0 - Self::BETA) / Self::C).cbrt();
        let cubic = Self::C * (since + rtt - turn).powi(3) + self.most;
        let like_reno = self.most * Self::BETA + 3.0 * (1.0 - Self::BETA) / (1.0 + Self::BETA) * since / rtt;
        let target = cubic.max(like_reno).clamp(self.window, self.window * 1.5);
        self.window += (target - self.window) / self.window;
    }

    /// Once a round trip.
    fn handle_lost(&mut self, now: Duration, sent: Duration) {
        if self.cut_at.is_some_and(|cut_at| sent <= cut_at) {
            return;
        }
        self.most = self.window;
        self.window = (self.window * Self::BETA).max(2.0);
        (self.cut_at, self.is_slow_start) = (Some(now), false);
    }
}

enum Control {
    Ours(Box<Haul>),
    Theirs(Cubic),
}

/// A connection that always has something to send, from `begins` on.
struct Flow {
    control: Control,
    begins: Duration,
    /// There and back without a queue.
    rtt: Duration,
    sent: u64,
    /// Number, when it was sent, and when its acknowledgement comes, if ever: in order, as the link lets none overtake.
    on_way: VecDeque<(u64, Duration, Option<Duration>)>,
    delivered: u64,
    /// Its last acknowledgement comes then: none overtakes.
    comes_last: Duration,
    /// Ours spreads its packets over the round trip, as the transport does.
    paced_until: Duration,
}

impl Flow {
    fn ours(begins: u64, rtt: u64) -> Self {
        let haul = Haul::new(Instant::now(), MTU as u16);
        Self::of(Control::Ours(Box::new(haul)), begins, rtt)
    }

    fn theirs(begins: u64, rtt: u64) -> Self {
        Self::of(Control::Theirs(Cubic::new()), begins, rtt)
    }

    fn of(control: Control, begins: u64, rtt: u64) -> Self {
        let (begins, rtt) = (Duration::from_secs(begins), rtt as u32 * MS);
        Self {
            control,
            begins,
            rtt,
            sent: 0,
            on_way: VecDeque::new(),
            delivered: 0,
            comes_last: Duration::ZERO,
            paced_until: Duration::ZERO,
        }
    }

    fn window(&self) -> u64 {
        match &self.control {
            Control::Ours(haul) => haul.window,
            Control::Theirs(cubic) => (cubic.window * MTU as f64) as u64,
        }
    }

    fn has_room(&self) -> bool {
        (self.on_way.len() as u64 + 1) * MTU <= self.window()
    }

    /// When it may send next, if its window has room.
    fn sends_at(&self, now: Duration) -> Option<Duration> {
        self.has_room().then(|| now.max(self.begins).max(self.paced_until))
    }

    /// When something is to be done for it next: an acknowledgement, its begin, or a probe where nothing can come any more.
    fn next_at(&self, now: Duration) -> Duration {
        let comes = self.on_way.iter().find_map(|packet| packet.2);
        let probe = self.on_way.back().map(|packet| packet.1 + 3 * self.rtt);
        let heard = comes.or(probe);
        let sends = self.sends_at(now);
        heard.into_iter().chain(sends).min().unwrap_or(now)
    }

    /// Handles what has come until `at`, and what three later ones have overtaken is lost.
    fn acknowledge(&mut self, at: Duration, begun: Instant) {
        let came = |comes: Option<Duration>| comes.is_some_and(|comes| comes <= at);
        let newest = self.on_way.iter().take_while(|packet| packet.2.is_none_or(|comes| comes <= at));
        let newest = newest.filter(|packet| came(packet.2)).map(|packet| packet.0).last();
        let is_probed = self
            .on_way
            .iter()
            .all(|packet| packet.2.is_none() && packet.1 + 3 * self.rtt <= at);
        let is_lost = |number: u64| is_probed || newest.is_some_and(|newest| number + 3 <= newest);
        let mut left = VecDeque::new();
        for (number, sent, comes) in std::mem::take(&mut self.on_way) {
            match &mut self.control {
                Control::Ours(haul) if came(comes) => haul.handle_acked(begun + at, begun + sent, MTU, false),
                Control::Theirs(cubic) if came(comes) => cubic.handle_acked(at, at - sent),
                Control::Ours(haul) if comes.is_none() && is_lost(number) => haul.handle_lost(begun + at, MTU, false),
                Control::Theirs(cubic) if comes.is_none() && is_lost(number) => cubic.handle_lost(at, sent),
                Control::Ours(_) | Control::Theirs(_) => left.push_back((number, sent, comes)),
            }
            self.delivered += u64::from(came(comes));
        }
        self.on_way = left;
        if let Control::Ours(haul) = &mut self.control {
            haul.handle_acks_over(begun + at, self.on_way.len() as u64 * MTU, false, newest);
        }
    }
}

/// A link of 20 Mbit/s with a queue of `queue`, on which `loss` of all packets are lost at random.
struct Bottleneck {
    queue: Duration,
    loss: f64,
    state: u64,
    free_at: Duration,
    now: Duration,
    begun: Instant,
    flows: Vec<Flow>,
}

impl Bottleneck {
    fn new(queue: u32, loss: f64, flows: Vec<Flow>) -> Self {
        let (free_at, now) = (Duration::ZERO, Duration::ZERO);
        Self { queue: queue * MS, loss, state: 7, free_at, now, begun: Instant::now(), flows }
    }

    fn send(&mut self, flow: usize) {
        let leaves = self.free_at.max(self.now) + Duration::from_secs_f64(MTU as f64 / RATE);
        let is_lost = chance(&mut self.state) < self.loss;
        let late = MS.mul_f64(2.0 * chance(&mut self.state));
        let flow = &mut self.flows[flow];
        flow.sent += 1;
        let mut comes = None;
        if leaves <= self.now + self.queue {
            self.free_at = leaves;
            flow.comes_last = flow.comes_last.max(leaves + flow.rtt + late);
            comes = (!is_lost).then_some(flow.comes_last);
        }
        if matches!(flow.control, Control::Ours(_)) {
            let apart = flow.rtt.mul_f64(MTU as f64 / (1.25 * flow.window() as f64));
            flow.paced_until = flow.paced_until.max(self.now) + apart;
        }
        flow.on_way.push_back((flow.sent, self.now, comes));
        if let Control::Ours(haul) = &mut flow.control {
            haul.on_sent(self.begun + self.now, MTU, flow.sent);
        }
    }

    /// Lets it run; the share of the link that each had.
    fn run(&mut self, seconds: u64) -> Vec<f64> {
        let (until, before) = (
            self.now + Duration::from_secs(seconds),
            self.flows.iter().map(|flow| flow.delivered).collect::<Vec<_>>(),
        );
        while self.now < until {
            for flow in 0..self.flows.len() {
                while self.flows[flow].sends_at(self.now).is_some_and(|at| at <= self.now) {
                    self.send(flow);
                }
            }
            let next = (0..self.flows.len()).min_by_key(|flow| self.flows[*flow].next_at(self.now));
            let flow = &mut self.flows[next.unwrap()];
            self.now = self.now.max(flow.next_at(self.now));
            if !flow.on_way.is_empty() {
                flow.acknowledge(self.now, self.begun);
            }
        }
        let whole = RATE * seconds as f64 / MTU as f64;
        let delivered = self.flows.iter().zip(before);
        delivered
            .map(|(flow, before)| (flow.delivered - before) as f64 / whole)
            .collect()
    }
}

/// What each has of the link once all have been there for long.
fn shares(queue: u32, loss: f64, flows: Vec<Flow>) -> Vec<f64> {
    let mut link = Bottleneck::new(queue, loss, flows);
    link.run(60);
    link.run(60)
}

#[test]
fn two_of_ours_come_to_the_same_rate_whoever_was_first() {
    for (queue, loss) in [(40, 0.0), (100, 0.0), (400, 0.0), (100, 0.01), (100, 0.05)] {
        let shares = shares(queue, loss, vec![Flow::ours(0, 80), Flow::ours(10, 80)]);
        let is_fair = shares.iter().all(|share| *share > 0.4);
        assert!(is_fair, "{shares:?} with a queue of {queue} ms, {loss} lost");
    }
}

#[test]
fn four_of_ours_share_alike() {
    for queue in [40, 100, 400] {
        let shares = shares(queue, 0.0, (0..4).map(|flow| Flow::ours(5 * flow, 80)).collect());
        assert!(shares.iter().all(|share| *share > 0.17), "{shares:?} with a queue of {queue} ms");
    }
}

#[test]
fn a_longer_way_is_no_privilege() {
    for queue in [40, 100, 400] {
        let shares = shares(queue, 0.0, vec![Flow::ours(0, 40), Flow::ours(0, 120)]);
        assert!(shares.iter().all(|share| *share > 0.3), "{shares:?} with a queue of {queue} ms");
    }
}

/// Of a queue that is a quarter of a round trip it takes most, as all do that do not yield to each lost packet; of one of a second it
/// gets least, because it does not fill it.
#[test]
fn others_keep_their_part_of_the_link() {
    for (queue, theirs) in [
        (20, 0.05..1.0),
        (40, 0.25..0.6),
        (100, 0.3..0.6),
        (200, 0.3..0.6),
        (400, 0.35..0.65),
        (1000, 0.4..0.85),
    ] {
        for (ours_begins, theirs_begins) in [(0, 10), (10, 0)] {
            let shares = shares(queue, 0.0, vec![Flow::ours(ours_begins, 80), Flow::theirs(theirs_begins, 80)]);
            assert!(theirs.contains(&shares[1]), "{shares:?} with a queue of {queue} ms");
            assert!(shares[0] + shares[1] > 0.95, "{shares:?} with a queue of {queue} ms");
        }
    }
}

/// Or the model would prove nothing.
#[test]
fn the_others_are_fair_among_themselves() {
    let shares = shares(100, 0.0, vec![Flow::theirs(0, 80), Flow::theirs(10, 80)]);
    assert!(shares.iter().all(|share| *share > 0.35), "{shares:?}");
}

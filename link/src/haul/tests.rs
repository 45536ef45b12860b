//! The control on a calculated link: a queue, a wire, loss by a seed, delay. No clock, no socket.

use std::collections::VecDeque;

use super::*;

pub(super) const MTU: u64 = 1452;
pub(super) const MS: Duration = Duration::from_millis(1);

/// The next of a sequence of numbers from 0 to 1 that `state` decides.
pub(super) fn chance(state: &mut u64) -> f64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1_u64 << 53) as f64
}

/// A link, and a sender that always has something to send.
struct Link {
    rate: f64,
    delay: Duration,
    queue: Duration,
    loss: f64,
    state: u64,
    free_at: Duration,
    now: Duration,
    begun: Instant,
    haul: Haul,
    /// Packets on their way in order: number, sent, and when its acknowledgement comes, if ever.
    on_way: VecDeque<(u64, Duration, Option<Duration>)>,
    sent: u64,
    delivered: u64,
    dropped: u64,
    longest_wait: Duration,
    /// What a packet takes longer than another at most, and for how long that stays as it is: radios wait for their slots.
    jitter: (Duration, Duration),
    late: Duration,
    late_until: Duration,
    comes_last: Duration,
}

impl Link {
    /// Of so many Mbit/s and milliseconds there and back.
    fn new(mbit: f64, rtt: Duration, queue: Duration, loss: f64) -> Self {
        let begun = Instant::now();
        Self {
            rate: mbit * 125_000.0,
            delay: rtt,
            queue,
            loss,
            state: 7,
            free_at: Duration::ZERO,
            now: Duration::ZERO,
            begun,
            haul: Haul::new(begun, MTU as u16),
            on_way: VecDeque::new(),
            sent: 0,
            delivered: 0,
            dropped: 0,
            longest_wait: Duration::ZERO,
            jitter: (Duration::ZERO, Duration::ZERO),
            late: Duration::ZERO,
            late_until: Duration::ZERO,
            comes_last: Duration::ZERO,
        }
    }

    /// Of a packet that leaves the queue at `leaves`: none overtakes another.
    fn comes(&mut self, leaves: Duration) -> Duration {
        if leaves >= self.late_until && !self.jitter.0.is_zero() {
            self.late = self.jitter.0.mul_f64(self.chance());
            self.late_until = leaves + self.jitter.1;
        }
        self.comes_last = self.comes_last.max(leaves + self.delay + self.late);
        self.comes_last
    }

    fn chance(&mut self) -> f64 {
        chance(&mut self.state)
    }

    fn send(&mut self) {
        self.sent += 1;
        let leaves = self.free_at.max(self.now) + Duration::from_secs_f64(MTU as f64 / self.rate);
        let mut comes = None;
        if leaves > self.now + self.queue {
            self.dropped += 1;
        } else {
            self.free_at = leaves;
            self.longest_wait = self.longest_wait.max(leaves - self.now);
            let at = self.comes(leaves);
            comes = (self.chance() >= self.loss).then_some(at);
        }
        self.on_way.push_back((self.sent, self.now, comes));
        self.haul.on_sent(self.begun + self.now, MTU, self.sent);
    }

    /// Lets it run; the share of the wire that was used well.
    fn run(&mut self, during: Duration) -> f64 {
        let (until, before) = (self.now + during, self.delivered);
        while self.now < until {
            while (self.on_way.len() as u64 + 1) * MTU <= self.haul.window {
                self.send();
            }
            let next = self.on_way.iter().filter_map(|(_, _, comes)| *comes).min();
            self.now = next.unwrap_or(self.now + 100 * MS);
            self.acknowledge();
        }
        (self.delivered - before) as f64 * MTU as f64 / (self.rate * during.as_secs_f64())
    }

    /// What has come is acknowledged, and what three later ones have overtaken is lost.
    fn acknowledge(&mut self) {
        let (now, at) = (self.begun + self.now, self.now);
        let came = |comes: &Option<Duration>| comes.is_some_and(|comes| comes <= at);
        let Some(newest) = self.on_way.iter().filter(|packet| came(&packet.2)).map(|packet| packet.0).max() else {
            return;
        };
        let mut left = VecDeque::new();
        for (number, sent, comes) in std::mem::take(&mut self.on_way) {
            if came(&comes) {
                self.delivered += 1;
                self.haul.handle_acked(now, self.begun + sent, MTU, false);
            } else if number + 3 <= newest && comes.is_none() {
                self.haul.handle_lost(now, MTU, false);
            } else {
                left.push_back((number, sent, comes));
            }
        }
        self.on_way = left;
        self.haul
            .handle_acks_over(now, self.on_way.len() as u64 * MTU, false, Some(newest));
    }
}

#[test]
fn the_link_is_full_whatever_is_lost_at_random() {
    for (loss, least) in [(0.0, 0.97), (0.01, 0.95), (0.02, 0.94), (0.05, 0.90)] {
        let mut link = Link::new(20.0, 80 * MS, 100 * MS, loss);
        let whole = link.run(Duration::from_secs(30));
        assert!(whole > least, "{whole} at {loss}");
        let dropped = link.dropped as f64 / link.sent as f64;
        assert!(dropped < 0.02, "{dropped} of all packets found the queue full at {loss}");
    }
}

#[test]
fn it_fits_links_of_all_sizes() {
    for (mbit, rtt) in [(1.0, 200), (5.0, 40), (20.0, 600), (100.0, 30)] {
        let mut link = Link::new(mbit, rtt * MS, 100 * MS, 0.01);
        link.run(Duration::from_secs(10));
        let share = link.run(Duration::from_secs(20));
        assert!(share > 0.9, "{share} of {mbit} Mbit/s at {rtt} ms");
    }
}

/// Seen to fail without the spread of round trips in the window: down to a tenth of the link.
#[test]
fn a_radio_whose_round_trips_vary_is_full_too() {
    let links = [(20.0, 30, 60, 20), (50.0, 30, 20, 5), (50.0, 30, 60, 20), (100.0, 30, 40, 20), (100.0, 50, 50, 50)];
    for (mbit, rtt, more, stays) in links {
        let mut link = Link::new(mbit, rtt * MS, 400 * MS, 0.0);
        link.jitter = (more * MS, stays * MS);
        link.run(Duration::from_secs(10));
        link.longest_wait = Duration::ZERO;
        let share = link.run(Duration::from_secs(30));
        assert!(share > 0.93, "{share} of {mbit} Mbit/s at {rtt} ms and up to {more} ms more");
        assert!(link.longest_wait < 150 * MS, "{mbit} Mbit/s, up to {more} ms more: {:?}", link.longest_wait);
    }
}

#[test]
fn the_queue_stays_short() {
    let mut link = Link::new(20.0, 80 * MS, Duration::from_secs(2), 0.0);
    link.run(Duration::from_secs(5));
    link.longest_wait = Duration::ZERO;
    let share = link.run(Duration::from_secs(60));
    assert!(share > 0.97, "{share}");
    assert!(link.longest_wait < 80 * MS, "a queue of two seconds is not filled: {:?}", link.longest_wait);
}

#[test]
fn a_queue_too_short_for_it_is_left_alone() {
    let mut link = Link::new(20.0, 80 * MS, 5 * MS, 0.0);
    link.run(Duration::from_secs(5));
    (link.sent, link.dropped) = (0, 0);
    let share = link.run(Duration::from_secs(30));
    assert!(share > 0.85, "{share}");
    assert!((link.dropped as f64) < 0.2 * link.sent as f64, "{} of {}", link.dropped, link.sent);
}

#[test]
fn it_follows_a_link_that_becomes_faster_slower_or_longer() {
    let mut link = Link::new(20.0, 80 * MS, 100 * MS, 0.01);
    link.run(Duration::from_secs(5));
    link.rate *= 4.0;
    link.run(Duration::from_secs(3));
    assert!(link.run(Duration::from_secs(10)) > 0.9);
    link.rate /= 8.0;
    link.run(Duration::from_secs(5));
    (link.sent, link.dropped) = (0, 0);
    assert!(link.run(Duration::from_secs(10)) > 0.9);
    assert!((link.dropped as f64) < 0.05 * link.sent as f64, "{} of {}", link.dropped, link.sent);
    link.delay = 160 * MS;
    link.run(Duration::from_secs(25));
    assert!(link.run(Duration::from_secs(10)) > 0.9, "the least round trip is forgotten");
}

#[test]
fn an_idle_connection_forgets_nothing_and_learns_nothing_false() {
    let mut link = Link::new(20.0, 80 * MS, 100 * MS, 0.0);
    link.run(Duration::from_secs(5));
    let (window, mut haul) = (link.haul.window, link.haul);
    let mut number = link.sent;
    for second in 1..60 {
        let sent = link.begun + link.now + Duration::from_secs(second);
        number += 1;
        haul.on_sent(sent, 100, number);
        haul.handle_acked(sent + 80 * MS, sent, 100, true);
        haul.handle_acks_over(sent + 80 * MS, 0, true, Some(number));
    }
    let share = haul.window as f64 / window as f64;
    assert!((0.9..1.1).contains(&share), "{share}");
}

#[test]
fn after_a_cut_it_starts_anew() {
    let mut link = Link::new(20.0, 80 * MS, 100 * MS, 0.0);
    link.run(Duration::from_secs(5));
    link.haul.handle_lost(link.begun + link.now, MTU, true);
    assert_eq!(link.haul.window, FIRST_PACKETS * MTU);
    assert!(matches!(link.haul.phase, Phase::Startup { .. }));
    assert!(link.run(Duration::from_secs(10)) > 0.9);
}

/// Seen to fail where a startup is judged once a round alone: 470 to 1058 packets dropped, and 400 ms in the queue of a radio.
#[test]
fn a_startup_fills_the_link_and_not_its_queue() {
    for (mbit, rtt, queue, jitter) in
        [(20.0, 80, 100, 0), (100.0, 30, 100, 0), (20.0, 80, 400, 40), (20.0, 80, 400, 100)]
    {
        let mut link = Link::new(mbit, rtt * MS, queue * MS, 0.01);
        link.jitter = (jitter * MS, 50 * MS);
        let begin = link.run(Duration::from_millis(500));
        let after = link.run(Duration::from_millis(1500));
        let what = format!("{mbit} Mbit/s, {rtt} ms and up to {jitter} more");
        assert!(begin > 0.25 && after > 0.9, "{what}: {begin}, then {after}");
        assert_eq!(link.dropped, 0, "{what}");
        let most = if jitter == 0 { 100 } else { 250 };
        assert!(link.longest_wait < most * MS, "{what}: {:?}", link.longest_wait);
    }
}

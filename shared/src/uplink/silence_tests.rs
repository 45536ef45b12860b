//! Tests of [`super`]: both sides of each time, and paths by seed: lossy, slow, bloated ones are borne, dead ones are left in time.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::*;

const MS: u64 = 1_000;

fn sample(at_ms: u64, asked: u64, answered: u64) -> Sample {
    Sample { at: Instant::from_micros(at_ms * MS), asked, answered, rtt: Duration::from_millis(80) }
}

#[test]
fn patience_follows_the_round_trip_within_bounds() {
    for (rtt_ms, mistakes, patience_ms) in [
        (0, 0, 450),
        (66, 0, 450),
        (67, 0, 451),
        (80, 0, 490),
        (125, 0, 625),
        (600, 0, 2050),
        (2000, 0, 6250),
    ]
    .into_iter()
    .chain([(2000, 3, 6250), (80, 1, 980), (80, 2, 1960), (80, 3, 3000), (80, 9, 3000)])
    {
        let found = patience(Duration::from_millis(rtt_ms), mistakes);
        assert_eq!(found, Duration::from_millis(patience_ms), "{rtt_ms} ms, {mistakes} mistakes");
    }
}

/// Both sides of doubt and of death, one sample apart.
#[test]
fn what_was_asked_in_vain_is_asked_again_and_then_the_path_is_dead() {
    let mut silence = Silence::new(0);
    assert_eq!(silence.handle_sample(sample(0, 5, 3)), Verdict::Fine);
    // Asked, and answered as well: nothing is known to be under way.
    assert_eq!(silence.handle_sample(sample(40, 6, 4)), Verdict::Fine);
    assert_eq!(silence.silent_for(Instant::from_micros(40 * MS)), None);
    let mut verdicts = BTreeMap::new();
    for at in (80..=680).step_by(40) {
        verdicts.insert(at, silence.handle_sample(sample(at, 7, 4)));
    }
    // Asked first in the sample at 80 ms: doubt is 140 ms later, death 490 ms.
    for (at, verdict) in verdicts {
        let expected = match at {
            ..220 => Verdict::Fine,
            220..600 => Verdict::Ask,
            _ => Verdict::Dead,
        };
        assert_eq!(verdict, expected, "at {at} ms");
    }
}

#[test]
fn an_idle_session_and_one_that_is_answered_are_alive() {
    let (mut idle, mut answered) = (Silence::new(0), Silence::new(0));
    for step in 0..1000 {
        assert_eq!(idle.handle_sample(sample(step * 40, 9, 9)), Verdict::Fine);
        // One acknowledgement in half a second is enough.
        assert_ne!(answered.handle_sample(sample(step * 40, step, step / 12)), Verdict::Dead, "at {step}");
    }
}

#[test]
fn a_machine_that_stood_still_does_not_take_that_for_silence() {
    let mut silence = Silence::new(0);
    silence.handle_sample(sample(0, 5, 3));
    silence.handle_sample(sample(40, 6, 3));
    // Nothing was read meanwhile, whatever had come.
    assert_ne!(silence.handle_sample(sample(5040, 6, 3)), Verdict::Dead);
    assert_eq!(silence.handle_sample(sample(5080, 6, 4)), Verdict::Fine);
}

/// xorshift64*: the tests' own chance.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// A path and what uses it: a keep-alive, or a packet a millisecond; probes as QUIC's, and what the judge asks for.
struct World {
    dice: Dice,
    loss_permille: u64,
    /// One way, at an instant in ms.
    delay: fn(u64) -> u64,
    busy: bool,
    cut: Option<(u64, bool, bool)>,
}

/// When the path was called dead, in ms; `None` where it was not within `for_ms`.
fn run(world: &mut World, for_ms: u64) -> Option<u64> {
    const KEEP_ALIVE: u64 = 100;
    let mut silence = Silence::new(0);
    let (mut asked, mut answered, mut srtt) = (1, 1, 2 * (world.delay)(0));
    // Acknowledgements by arrival, with the time at which what they answer was sent.
    let mut acks: VecDeque<(u64, u64)> = VecDeque::new();
    let (mut heard, mut sent, mut probes) = (0, 0, 0);
    for now in 0..for_ms {
        let arrived: Vec<(u64, u64)> = acks.iter().copied().filter(|(at, _)| *at <= now).collect();
        acks.retain(|(at, _)| *at > now);
        for (_, sent_at) in arrived {
            answered += 1;
            srtt = (7 * srtt + (now - sent_at)) / 8;
            (heard, probes) = (now, 0);
        }
        let verdict = (now % 40 == 0).then(|| {
            let sample = Sample { rtt: Duration::from_millis(srtt), ..sample(now, asked, answered) };
            silence.handle_sample(sample)
        });
        if verdict == Some(Verdict::Dead) {
            return Some(now);
        }
        let keeps = now >= sent.max(heard) + KEEP_ALIVE && sent <= heard;
        let probes_now = sent > heard && now >= sent + ((2 * srtt + 25) << probes.min(6));
        let sends = u64::from(world.busy || keeps || verdict == Some(Verdict::Ask)) + 2 * u64::from(probes_now);
        probes += u32::from(probes_now);
        for _ in 0..sends {
            (asked, sent) = (asked + 1, now);
            let cut = |way: fn(&(u64, bool, bool)) -> bool| world.cut.is_some_and(|cut| now >= cut.0 && way(&cut));
            let lost = world.dice.below(1000) < world.loss_permille || world.dice.below(1000) < world.loss_permille;
            if !lost && !cut(|cut| cut.1) && !cut(|cut| cut.2) {
                acks.push_back((now + 2 * (world.delay)(now) + world.dice.below(25), now));
            }
        }
    }
    None
}

/// Ten minutes each. Seen to fail where nothing is asked while in doubt.
#[test]
fn paths_that_lose_or_delay_are_not_taken_for_dead() {
    type Delay = fn(u64) -> u64;
    let paths: [(&str, u64, Delay); 5] = [
        ("5 % each way", 50, |_| 40),
        ("10 % each way, 600 ms", 100, |_| 300),
        ("600 ms", 0, |_| 300),
        // A queue of two seconds fills and empties, twice a minute.
        ("bloated", 10, |at| 20 + (at % 30_000).min(30_000 - at % 30_000) / 15),
        ("jumps by 300 ms", 10, |at| if at % 5_000 < 2_500 { 10 } else { 160 }),
    ];
    for (name, loss_permille, delay) in paths {
        for (busy, seed) in [(false, 1), (false, 2), (true, 3)] {
            let mut world = World { dice: Dice(seed), loss_permille, delay, busy, cut: None };
            assert_eq!(run(&mut world, 600_000), None, "{name}, busy {busy}, seed {seed}");
        }
    }
}

#[test]
fn a_dead_path_is_left_in_time_whichever_way_is_dead() {
    let (mut most, mut count) = (0, 0);
    for seed in 1..=200 {
        let mut dice = Dice(seed);
        let (out, back) = [(true, false), (false, true), (true, true)][dice.below(3) as usize];
        let (cut, busy) = (5_000 + dice.below(1000), dice.below(2) == 0);
        let loss_permille = dice.below(51);
        let mut world = World { dice, loss_permille, delay: |_| 40, busy, cut: Some((cut, out, back)) };
        let dead = run(&mut world, 60_000).expect("a dead path is noticed");
        assert!(dead >= cut, "seed {seed}");
        (most, count) = (most.max(dead - cut), count + 1);
    }
    assert!(most < 900, "{most} ms at most in {count}");
}

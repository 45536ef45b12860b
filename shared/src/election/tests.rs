//! The election in a simulated site: safety under faults, liveness after them, and every safety rule broken once
//! so that the referee is known to see it.

use alloc::vec::Vec;
use core::time::Duration;

use super::rules::{Rule, Rules};
use super::voter::Verdict;
use super::world::{World, board, config};
use super::{Election, Life, Output, View};
use crate::action::Memory;
use crate::ids::Term;
use crate::limits::{LEASE_GUARD, TERM_COUNTER_MAX, TERMS_RESERVED};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::election::{Acquire, ElectionMessage, Met, Standing};

const SEEDS: u64 = 300;
const SECOND: u64 = 1_000_000;

/// One life of a site: six seconds of misfortune, then three of calm; or eight, where the site is new or a disk was
/// replaced: it may be that a majority needs a board that waits until every grant that it may have forgotten has run out.
fn live(seed: u64, rules: Rules) -> World {
    let (boards, voters) = [(3, 3), (4, 3), (5, 5), (2, 2), (1, 1), (7, 7)][(seed % 6) as usize];
    let mut world = World::new(seed, boards, voters, rules);
    if seed / 6 % 2 == 1 {
        world = world.new_site();
    }
    if voters == 2 {
        world = world.with_witness(1, true);
    }
    let mut pause = super::jitter::Jitter::new(!seed);
    while world.now < 6 * SECOND && world.record.fault.is_none() {
        let micros = u64::try_from(pause.below(Duration::from_millis(300)).as_micros()).unwrap();
        world.run(20_000 + micros);
        world.misfortune();
    }
    world.calm();
    world.run(if world.record.replaced > 0 || seed / 6 % 2 == 1 { 8 } else { 3 } * SECOND);
    world
}

#[test]
fn one_board_at_most_holds_the_lease_and_terms_rise_and_a_healed_site_has_a_leader() {
    let (mut leaderships, mut clears, mut replaced) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = live(seed, Rules::default());
        let story = world.record.story.join("\n");
        assert_eq!(world.record.fault, None, "seed {seed}:\n{story}");
        let Some((holder, _)) = world.holder() else {
            panic!("seed {seed}: nobody leads after the calm:\n{story}");
        };
        leaderships += world.record.holders.len();
        clears += world.record.clears;
        replaced += world.record.replaced;
        world.record.gap_micros = 0;
        world.run(SECOND);
        let after = world.holder().map(|(board, _)| board);
        assert_eq!(after, Some(holder), "seed {seed}: a change in the calm:\n{story}");
        assert_eq!(world.record.gap_micros, 0, "seed {seed}: a gap in the calm:\n{story}");
    }
    assert!(leaderships as u64 > 4 * SEEDS, "too little happened: {leaderships} leaderships");
    assert!(replaced > SEEDS / 4, "hardly any disk was replaced: {replaced}");
    assert!(clears > 4 * SEEDS, "leaders were hardly ever told that nothing earlier can run: {clears} times");
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    let first = live(7, Rules::default()).record.story;
    assert!(first.len() > 20, "too short a story: {first:?}");
    assert_eq!(first, live(7, Rules::default()).record.story);
}

/// The first seed whose life shows that `rule` is broken.
fn caught(rule: Rule) -> Option<u64> {
    (0..SEEDS).find(|seed| live(*seed, Rules { broken: Some(rule) }).record.fault.is_some())
}

#[test]
fn each_broken_rule_is_caught() {
    // The drift of real clocks is too small for a few seeds to show; the model check runs clocks 2:1 apart. What longer
    // leases, witnesses and changes of voters rest on is broken there as well.
    let rules = [
        Rule::Abstention,
        Rule::LeaseFromSend,
        Rule::OneGrant,
        Rule::Majority,
        Rule::CeilingKept,
        Rule::StopThenHandOver,
        Rule::StrangerWaits,
    ];
    let unseen: Vec<Rule> = rules.into_iter().filter(|rule| caught(*rule).is_none()).collect();
    assert_eq!(unseen, [], "broken rules that no seed shows");
}

/// A calm site of three, led.
fn led_site(seed: u64) -> World {
    let mut world = World::new(seed, 3, 3, Rules::default());
    world.run(SECOND);
    assert!(world.holder().is_some(), "{:?}", world.record.story);
    world
}

#[test]
fn a_new_site_elects_its_first_board_at_once() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, 3, Rules::default()).new_site();
        world.run(150_000);
        assert!(world.holder().is_some(), "seed {seed}: {:?}", world.record.story);
    }
}

/// Seeds at which nobody follows the first leader of a new site, which is gone for good `by` microseconds after the start.
fn unfollowed(site: impl Fn(u64) -> World, by: u64) -> Vec<u64> {
    let is_stuck = |seed: &u64| {
        let mut world = site(*seed);
        world.run(by);
        let (leader, _) = world.holder().expect("a leader");
        world.crash(leader, 60 * SECOND);
        world.run(2 * SECOND);
        world.holder().is_none_or(|(board, _)| board == leader)
    };
    (0..100).filter(is_stuck).collect()
}

#[test]
fn the_first_leader_of_a_new_site_is_followed_as_any_other_one() {
    // Who lost against it has no vote for two leases after its start; all others at once.
    let three = |seed| World::new(seed, 3, 3, Rules::default()).new_site();
    assert_eq!(unfollowed(three, 600_000), [0; 0]);
    // A witness that granted another candidate, which lost, has no vote for five seconds: that is seldom.
    let pair = |seed| World::new(seed, 2, 2, Rules::default()).with_witness(1, true).new_site();
    let stuck = unfollowed(pair, 400_000);
    assert!(stuck.len() <= 2, "{stuck:?}");
    assert_eq!(unfollowed(pair, 5_500_000), [0; 0]);
}

#[test]
fn a_leader_that_stops_is_followed_within_fifty_milliseconds() {
    for seed in 0..20 {
        let mut world = led_site(seed);
        let (leader, _) = world.holder().unwrap();
        world.record.gap_micros = 0;
        world.stop(leader, 1_000);
        world.run(SECOND);
        assert!(world.holder().is_some_and(|(board, _)| board != leader), "seed {seed}");
        assert!(
            world.record.gap_micros < 50_000,
            "seed {seed}: {} us\n{}",
            world.record.gap_micros,
            world.record.story.join("\n")
        );
    }
}

#[test]
fn a_board_that_does_not_hear_the_leader_disturbs_nobody() {
    for seed in 0..20 {
        let mut world = led_site(seed);
        let (leader, term) = world.holder().unwrap();
        let deaf = board(leader.get() % 3 + 1);
        world.cut(leader, deaf);
        world.record.gap_micros = 0;
        world.run(5 * SECOND);
        assert_eq!(world.holder(), Some((leader, term)), "seed {seed}: {:?}", world.record.story);
        assert_eq!(world.record.gap_micros, 0, "seed {seed}");
    }
}

#[test]
fn the_vote_of_a_restarted_voter_is_won_back_without_a_gap() {
    let mut world = led_site(3);
    let (leader, _) = world.holder().unwrap();
    world.record.gap_micros = 0;
    let others: Vec<_> = (1..=3).map(board).filter(|board| *board != leader).collect();
    // Rolling restarts: after each the leader needs the vote of the one restarted before.
    for round in 0..6 {
        world.crash(others[round % 2], 50_000);
        world.run(SECOND);
    }
    assert_eq!(world.holder().map(|(board, _)| board), Some(leader), "{:?}", world.record.story);
    assert_eq!(world.record.gap_micros, 0, "{:?}", world.record.story);
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(1_000_000 + millis * 1000)
}

const FIRST: Life = life(1);

const fn life(boot: u32) -> Life {
    let voters = crate::ids::Voters { version: 0, set: crate::ids::VoterSet::EMPTY };
    let memory = Memory { term_ceiling: TERMS_RESERVED * boot as u64, longest_micros: 200_000, voters, joined: true };
    Life { boot, nonce: boot as u64, memory, seed: 1 }
}

fn request(term: Term, attempt: u64) -> ElectionMessage {
    let voters = config(1, 3, 3).voters;
    ElectionMessage::Acquire(Acquire {
        term,
        attempt,
        lease_micros: 200_000,
        trial: false,
        life: 0,
        voters,
        released: None,
        standing: Standing::Member,
        vouch: None,
    })
}

fn drain(out: &mut Outbox<Output>) -> Vec<Output> {
    core::iter::from_fn(|| out.pop()).collect()
}

/// The first of three boards, hearing all, in the middle of its first request: time, attempt and term of it.
fn asking(life: Life) -> (Election, Instant, Term, u64) {
    let mut election = Election::new(&config(1, 3, 3), life, at(0));
    let mut out = Outbox::default();
    let view = View { alive: (1..=3).map(board).collect(), ..View::default() };
    election.handle_view(view, at(0), &mut out);
    let now = election.next_deadline().at;
    election.handle_deadline(now, &mut out);
    let (term, attempt) = newest_request(&mut out, true);
    election.handle_message(board(2).into(), &ElectionMessage::Granted { term, attempt, clear: true }, now, &mut out);
    let (asked, attempt) = newest_request(&mut out, false);
    assert_eq!(asked, term, "a trial's term is the one asked for");
    (election, now, term, attempt)
}

/// The same board leads, granted by board 3, and is in the middle of its first renewal: when it asked for the lease and when it
/// renews, term and attempt of that.
fn renewing() -> (Election, (Instant, Instant), Term, u64) {
    let (mut election, sent, term, attempt) = asking(FIRST);
    let mut out = Outbox::default();
    election.handle_message(board(3).into(), &ElectionMessage::Granted { term, attempt, clear: true }, sent, &mut out);
    let renewal = election.next_deadline().at;
    election.handle_deadline(renewal, &mut out);
    let (_, attempt) = newest_request(&mut out, false);
    (election, (sent, renewal), term, attempt)
}

fn newest_request(out: &mut Outbox<Output>, trial: bool) -> (Term, u64) {
    let mut requests = drain(out).into_iter().filter_map(|output| match output {
        Output::Tell { message: ElectionMessage::Acquire(acquire), .. } if acquire.trial == trial => {
            Some((acquire.term, acquire.attempt))
        }
        _ => None,
    });
    requests.next_back().expect("a request was sent")
}

#[test]
fn a_lease_is_counted_from_sending_and_ends_a_guard_before_its_end() {
    let (mut election, sent, term, attempt) = asking(FIRST);
    let mut out = Outbox::default();
    let received = sent + Duration::from_millis(40);
    election.handle_message(
        board(3).into(),
        &ElectionMessage::Granted { term, attempt, clear: true },
        received,
        &mut out,
    );
    assert!(drain(&mut out).contains(&Output::Acquired { term }));
    let end = sent + Duration::from_millis(200);
    let last = Instant::from_micros(end.micros() - LEASE_GUARD.as_micros() as u64 - 1);
    assert_eq!(election.holds(last), Some(term));
    assert_eq!(election.holds(last + Duration::from_micros(1)), None);
}

#[test]
fn an_answer_that_comes_when_its_lease_is_over_wins_nothing() {
    for (late, wins) in [(189_999, true), (190_000, false)] {
        let (mut election, sent, term, attempt) = asking(FIRST);
        let mut out = Outbox::default();
        let received = sent + Duration::from_micros(late);
        election.handle_message(
            board(3).into(),
            &ElectionMessage::Granted { term, attempt, clear: true },
            received,
            &mut out,
        );
        assert_eq!(drain(&mut out).contains(&Output::Acquired { term }), wins, "{late} us late");
    }
}

#[test]
fn a_late_grant_of_a_life_that_its_voter_forgot_does_not_carry_the_lease_on() {
    for forgets in [false, true] {
        let (mut election, (_, renewal), term, attempt) = renewing();
        let mut out = Outbox::default();
        let granted = ElectionMessage::Granted { term, attempt, clear: true };
        if forgets {
            // Its disk was replaced since: the new life says so before the old one's answer arrives.
            let denied = ElectionMessage::Denied {
                term,
                attempt,
                promised: Term::ZERO,
                remaining_micros: 0,
                voters: None,
                met: Met::Early(9),
            };
            election.handle_message(board(3).into(), &denied, renewal, &mut out);
        }
        drain(&mut out);
        election.handle_message(board(3).into(), &granted, renewal, &mut out);
        let extended = drain(&mut out).iter().any(|output| matches!(output, Output::Extended { .. }));
        assert_eq!(extended, !forgets);
        assert_eq!(election.holds(renewal), Some(term), "what it granted before carries the lease to its end");
    }
}

#[test]
fn a_lease_that_has_run_out_does_not_come_back_under_its_term() {
    for (late, extends) in [(189_999, true), (190_000, false)] {
        let (mut election, (sent, _), term, attempt) = renewing();
        let mut out = Outbox::default();
        let granted = ElectionMessage::Granted { term, attempt, clear: true };
        // The answer waited while this board stood still; by itself it would carry the lease on.
        let received = sent + Duration::from_micros(late);
        election.handle_message(board(3).into(), &granted, received, &mut out);
        let extended = drain(&mut out).iter().any(|output| matches!(output, Output::Extended { .. }));
        assert_eq!((extended, election.holds(received).is_some()), (extends, extends), "{late} us late");
        election.handle_deadline(received, &mut out);
        let lost = drain(&mut out).contains(&Output::Lost { term, released: false });
        assert_eq!(lost, !extends, "{late} us late");
    }
}

#[test]
fn a_vote_that_was_refused_does_not_say_that_earlier_grants_are_over() {
    let settings = super::rules::Settings::new(Duration::from_millis(200));
    let mut core = super::core::Core::new(board(1), config(1, 3, 3).voters, &FIRST, settings, at(0));
    let mut out = Outbox::default();
    let all = core.voters().set;
    let spans = |millis| {
        let near = Duration::from_millis(millis);
        super::lease::Spans { near, far: near }
    };
    let answer = |core: &mut super::core::Core, from: u8, out: &mut Outbox<Output>| {
        let (term, attempt) = (core.pursuit.as_ref().unwrap().term(), core.attempt);
        let granted = ElectionMessage::Granted { term, attempt, clear: true };
        core.handle_message(board(from).into(), &granted, at(1), out);
        term
    };
    assert!(core.begin());
    core.request(all, spans(200), at(0), &mut out);
    let first = answer(&mut core, 2, &mut out);
    assert_eq!(core.holds(at(1)), Some(first));
    // The same board takes a higher term. Its own vote refuses at first: the lease asked for is too long.
    assert!(core.raise());
    let refused = core.request(all, spans(400), at(1), &mut out);
    assert!(matches!(refused, Some(Verdict::Denied { .. })), "{refused:?}");
    answer(&mut core, 3, &mut out);
    core.request(all, spans(200), at(1), &mut out);
    let second = answer(&mut core, 3, &mut out);
    assert_eq!(core.holds(at(1)), Some(second));
    // Board 3 has granted nothing before; board 1 has, to the first term, whose duties may still run.
    assert!(!core.pursuit.as_ref().unwrap().is_clear());
}

#[test]
fn an_answer_to_a_trial_is_no_grant() {
    let (mut election, sent, term, attempt) = asking(FIRST);
    let mut out = Outbox::default();
    for attempt in [attempt - 1, attempt + 1] {
        election.handle_message(
            board(3).into(),
            &ElectionMessage::Granted { term, attempt, clear: true },
            sent,
            &mut out,
        );
    }
    assert_eq!(drain(&mut out), []);
    assert_eq!(election.holds(sent), None);
}

#[test]
fn a_board_without_a_vote_counts_for_nothing() {
    let mut election = Election::new(&config(4, 4, 3), FIRST, at(0));
    let mut out = Outbox::default();
    let view = View { alive: (1..=4).map(board).collect(), ..View::default() };
    election.handle_view(view, at(0), &mut out);
    assert_eq!(election.next_deadline().at, Instant::NEVER);
    let term = Term::new(1, board(1));
    election.handle_message(board(1).into(), &request(term, 1), at(1), &mut out);
    let answers = drain(&mut out);
    let refused = |output: &Output| matches!(output, Output::Tell { message: ElectionMessage::Denied { .. }, .. });
    assert!(answers.len() == 1 && answers.iter().all(refused), "{answers:?}");
}

#[test]
fn only_its_own_board_may_ask_for_a_term_or_release_it() {
    let mut election = Election::new(&config(1, 4, 3), FIRST, at(0));
    let mut out = Outbox::default();
    let term = Term::new(1, board(2));
    for from in [board(3), board(4), board(1)] {
        election.handle_message(from.into(), &request(term, 1), at(0), &mut out);
        assert_eq!(drain(&mut out), [], "{from} asked");
    }
    election.handle_message(board(2).into(), &request(term, 1), at(0), &mut out);
    let granted = ElectionMessage::Granted { term, attempt: 1, clear: true };
    assert!(drain(&mut out).contains(&Output::Tell { to: board(2).into(), message: granted }));
    election.handle_message(board(3).into(), &ElectionMessage::Release { term }, at(1), &mut out);
    assert!(election.standing(at(1)).granted.is_some(), "released by a stranger");
    election.handle_message(board(2).into(), &ElectionMessage::Release { term }, at(1), &mut out);
    assert_eq!(election.standing(at(1)).granted, None);
}

#[test]
fn a_stopping_leader_stops_acting_before_it_tells() {
    let (mut election, sent, term, attempt) = asking(FIRST);
    let mut out = Outbox::default();
    election.handle_message(board(3).into(), &ElectionMessage::Granted { term, attempt, clear: true }, sent, &mut out);
    drain(&mut out);
    election.handle_stop(sent, &mut out);
    assert_eq!(election.holds(sent), None);
    let outputs = drain(&mut out);
    assert_eq!(outputs[0], Output::Lost { term, released: true });
    let release = ElectionMessage::Release { term };
    let hand_over = ElectionMessage::HandOver { term };
    assert_eq!(outputs[1], Output::Tell { to: board(2).into(), message: hand_over });
    assert_eq!(outputs[2], Output::Tell { to: board(2).into(), message: release.clone() });
    assert_eq!(outputs[3], Output::Tell { to: board(3).into(), message: release });
    assert_eq!(outputs.len(), 4);
    // A late answer does not bring the lease back.
    election.handle_message(board(2).into(), &ElectionMessage::Granted { term, attempt, clear: true }, sent, &mut out);
    assert_eq!((election.holds(sent), drain(&mut out)), (None, Vec::new()));
}

#[test]
fn a_lone_voter_leads_itself_and_after_a_restart_waits_for_its_own_lease() {
    for (boot, earliest) in [(1, 0), (2, 204_041)] {
        let mut election = Election::new(&config(1, 1, 1), life(boot), at(0));
        let mut out = Outbox::default();
        let alive = [board(1)].into_iter().collect();
        election.handle_view(View { alive, ..View::default() }, at(0), &mut out);
        let mut turn = at(0);
        while election.holds(turn).is_none() {
            turn = election.next_deadline().at;
            election.handle_deadline(turn, &mut out);
        }
        assert!(turn >= at(0) + Duration::from_micros(earliest), "boot {boot}: {turn}");
        assert!(turn < at(5) + Duration::from_micros(earliest), "boot {boot}: {turn}");
        let term = Term::new(TERMS_RESERVED * u64::from(boot - 1) + 1, board(1));
        assert_eq!(election.holds(turn), Some(term));
        assert_eq!(drain(&mut out), [Output::Acquired { term }, Output::LeaderSeen { term }]);
    }
}

#[test]
fn the_reserve_is_asked_for_once_when_half_of_it_is_left() {
    let mut election = Election::new(&config(1, 3, 3), FIRST, at(0));
    let mut out = Outbox::default();
    let alive = [board(1)].into_iter().collect();
    let seen = |counter| View { alive, seen: Term::new(counter, board(2)), ..View::default() };
    election.handle_view(seen(TERMS_RESERVED / 2 - 1), at(0), &mut out);
    assert_eq!(drain(&mut out), []);
    election.handle_view(seen(TERMS_RESERVED / 2), at(0), &mut out);
    let ceiling = TERMS_RESERVED / 2 + TERMS_RESERVED;
    assert_eq!(drain(&mut out), [Output::Remember(Memory { term_ceiling: ceiling, ..FIRST.memory })]);
    election.handle_view(seen(TERMS_RESERVED / 2 + 1), at(0), &mut out);
    assert_eq!(drain(&mut out), [], "asked for already");
    // A term beyond belief moves nothing.
    election.handle_view(seen(TERM_COUNTER_MAX + 1), at(0), &mut out);
    assert_eq!(drain(&mut out), []);
    assert_eq!(election.seen(), Term::new(TERMS_RESERVED / 2 + 1, board(2)));
}

#[test]
fn a_fenced_leader_gives_up_and_comes_back_above_the_fence() {
    let (mut election, sent, term, attempt) = asking(FIRST);
    let mut out = Outbox::default();
    election.handle_message(board(3).into(), &ElectionMessage::Granted { term, attempt, clear: true }, sent, &mut out);
    drain(&mut out);
    let fence = Term::new(40, board(2));
    election.handle_fenced(fence, sent, &mut out);
    assert_eq!(election.holds(sent), None);
    assert_eq!(drain(&mut out)[0], Output::Lost { term, released: true });
    election.handle_deadline(election.next_deadline().at, &mut out);
    assert_eq!(newest_request(&mut out, true).0, Term::new(41, board(1)));
}

#[test]
fn the_floor_of_a_restarted_board_is_reserved_for_but_not_numbered_from() {
    let mut election = Election::new(&config(1, 3, 3), FIRST, at(0));
    let mut out = Outbox::default();
    let view = View {
        alive: (1..=3).map(board).collect(),
        seen: Term::from_token(1024 << 8 | 0xff),
        ..View::default()
    };
    election.handle_view(view, at(0), &mut out);
    assert_eq!(drain(&mut out), [Output::Remember(Memory { term_ceiling: 2048, ..FIRST.memory })]);
    election.handle_deadline(election.next_deadline().at, &mut out);
    assert_eq!(newest_request(&mut out, true).0, Term::new(1, board(1)), "it does not wait for the disk");
}

#[test]
fn a_lost_round_gives_back_what_it_got() {
    let (mut election, sent, term, attempt) = asking(FIRST);
    assert_eq!(election.standing(sent).granted.map(|(term, _)| term), Some(term), "its own vote");
    let mut out = Outbox::default();
    let denied = ElectionMessage::Denied {
        term,
        attempt,
        promised: Term::ZERO,
        remaining_micros: 0,
        voters: None,
        met: Met::Leader,
    };
    election.handle_message(board(2).into(), &denied, sent, &mut out);
    assert_eq!(drain(&mut out), [], "one vote is not the majority");
    election.handle_message(board(3).into(), &denied, sent, &mut out);
    let release = ElectionMessage::Release { term };
    let told = [2, 3].map(|to| Output::Tell { to: board(to).into(), message: release.clone() });
    assert_eq!(drain(&mut out), told);
    assert_eq!(election.standing(sent).granted, None);
}

/// Board 3, which has granted board 1 a lease under the term that is returned.
fn following(life: Life) -> (Election, Term) {
    let mut election = Election::new(&config(3, 3, 3), life, at(0));
    let mut out = Outbox::default();
    let term = Term::new(1, board(1));
    let view = View { alive: (1..=3).map(board).collect(), leads: Some(term), ..View::default() };
    election.handle_view(view, at(0), &mut out);
    let acquire = crate::wire::election::Acquire {
        term,
        attempt: 1,
        lease_micros: 200_000,
        trial: false,
        life: 1,
        voters: config(3, 3, 3).voters,
        released: None,
        standing: Standing::Member,
        vouch: None,
    };
    election.handle_message(board(1).into(), &ElectionMessage::Acquire(acquire), at(0), &mut out);
    assert!(
        drain(&mut out)
            .iter()
            .any(|output| matches!(output, Output::Tell { message: ElectionMessage::Granted { .. }, .. }))
    );
    (election, term)
}

#[test]
fn a_successor_that_is_told_twice_asks_at_once_all_the_same() {
    let (mut named, term) = following(FIRST);
    let mut out = Outbox::default();
    // Both words travel in one datagram, and all input is handled before any deadline is looked at.
    named.handle_message(board(1).into(), &ElectionMessage::HandOver { term }, at(10), &mut out);
    named.handle_message(board(1).into(), &ElectionMessage::Release { term }, at(10), &mut out);
    assert_eq!(named.next_deadline().at, at(10));
    let (mut other, term) = following(FIRST);
    other.handle_message(board(1).into(), &ElectionMessage::Release { term }, at(10), &mut out);
    assert!(other.next_deadline().at >= at(30), "who is not named leaves the successor a step");
}

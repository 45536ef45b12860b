//! One board's duties, case by case: what the simulated site meets too seldom to be relied on.

use alloc::vec::Vec;
use core::time::Duration;

use super::rules::Rule;
use super::world::{board, config, duty};
use super::*;
use crate::limits::{DUTY_ASK_IDLE, DUTY_FRESH, DUTY_LEASE_MAX, DUTY_SETTLE, DUTY_SILENT};
use crate::wire::duty::{Ask, Assigned, Assignment};
use crate::wire::uplink::DutyState;

const LATER: Instant = Instant::from_micros(10_000_000);
const LEASE: Duration = Duration::from_millis(200);

fn term(counter: u64, of: u8) -> Term {
    Term::new(counter, board(of))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Bench {
    duties: Duties,
    now: Instant,
    out: Outbox<Output>,
}

impl Bench {
    /// A board of three, ten seconds after its start.
    fn new(own: u8, broken: Option<Rule>) -> Self {
        let epoch = Epoch { boot: 1, nonce: u64::from(own) };
        let mut duties = Duties::new(&config(board(own), 3), epoch, Instant::ZERO);
        duties.rules.broken = broken;
        Self { duties, now: LATER, out: Outbox::default() }
    }

    fn take(&mut self) -> Vec<Output> {
        core::iter::from_fn(|| self.out.pop()).collect()
    }

    fn leads(&mut self, term: Term) -> Vec<Output> {
        self.duties
            .handle_lease(Some((term, self.now + LEASE)), self.now, &mut self.out);
        self.take()
    }

    fn follows(&mut self, term: Option<Term>) -> Vec<Output> {
        self.duties.handle_leader(term, self.now, &mut self.out);
        self.take()
    }

    fn passes(&mut self, by: Duration) -> Vec<Output> {
        self.now = self.now + by;
        self.duties.handle_deadline(self.now, &mut self.out);
        self.take()
    }

    fn hears(&mut self, from: u8, message: DutyMessage) -> Vec<Output> {
        self.duties.handle_message(board(from), &message, self.now, &mut self.out);
        self.take()
    }

    fn asked(&mut self, from: u8, number: u64, term: Term, holds: &[(DutyId, Fencing)]) -> Vec<Output> {
        self.asked_in(u64::from(from), from, number, term, holds)
    }

    /// The question of a life with this nonce, the first that its board counts.
    fn asked_in(&mut self, nonce: u64, from: u8, number: u64, term: Term, holds: &[(DutyId, Fencing)]) -> Vec<Output> {
        self.asked_as((nonce, from), number, term, holds, (0b111, 0))
    }

    /// The same of a board that can perform some duties, and has processes ready for some.
    fn asked_as(
        &mut self,
        (nonce, from): (u64, u8),
        number: u64,
        term: Term,
        holds: &[(DutyId, Fencing)],
        (can, ready): (u32, u32),
    ) -> Vec<Output> {
        let ask = Ask {
            number,
            epoch: Epoch { boot: 1, nonce },
            term,
            closed: number - 1,
            holds: holds.to_vec(),
            can,
            ready,
            acting: 0,
            may_hold: true,
            load_permille: 0,
            domain: 0,
        };
        self.hears(from, DutyMessage::Ask(ask))
    }

    fn answered(&mut self, number: u64, term: Term, duties: &[Assignment]) -> Vec<Output> {
        let assigned = Assigned {
            number,
            life: u64::from(self.duties.config.board.get()),
            term,
            leader: 99,
            lease_micros: 200_000,
            duties: duties.to_vec(),
        };
        self.hears(term.board().map_or(0, BoardId::get), DutyMessage::Assigned(assigned))
    }

    fn holds(&self, place: u8) -> bool {
        self.duties.holds(duty(place), self.now).is_some()
    }
}

fn signal(term: Term) -> [Assignment; 1] {
    [Assignment { duty: duty(0), token: Fencing::new(term, 1) }]
}

/// The board to which an exclusive duty was given.
fn moved(outputs: &[Output], place: u8) -> Option<BoardId> {
    outputs.iter().rev().find_map(|output| match output {
        Output::Moved { duty: moved, to, .. } if *moved == duty(place) => Some(*to),
        _ => None,
    })
}

fn lease_told(outputs: &[Output]) -> Option<u64> {
    outputs.iter().find_map(|output| match output {
        Output::Tell { message: DutyMessage::Assigned(assigned), .. } => Some(assigned.lease_micros),
        _ => None,
    })
}

#[test]
fn a_board_that_counts_its_lives_anew_is_heard_once_what_the_one_before_had_is_over() {
    let mut bench = Bench::new(1, None);
    let term = term(1, 1);
    bench.leads(term);
    let is_answered = |outputs: &[Output], life: u64| {
        let answers = |output: &Output| matches!(output, Output::Tell { message: DutyMessage::Assigned(told), .. } if told.life == life);
        outputs.iter().any(answers)
    };
    assert!(is_answered(&bench.asked(2, 9, term, &[]), 2));
    let over = bench.now + super::rules::patience(DUTY_LEASE_MAX);
    bench.now = Instant::from_micros(over.micros() - 1);
    assert!(!is_answered(&bench.asked_in(77, 2, 1, term, &[]), 77), "the other life may still act");
    bench.now = over;
    assert!(is_answered(&bench.asked_in(77, 2, 2, term, &[]), 77));
    assert!(!is_answered(&bench.asked(2, 10, term, &[]), 2), "and the other one is not");
}

#[test]
fn uplink_follows_the_own_lease() {
    let (t, u) = (term(1, 2), term(2, 2));
    let uplink = Duty::Uplink;
    let started = |term| Output::Started { duty: uplink, term };
    let stopped = |term| Output::Stopped { duty: uplink, term };
    let rows = [
        (None, None, Vec::new()),
        (None, Some(t), [started(t)].to_vec()),
        (Some(t), Some(t), Vec::new()),
        (Some(t), Some(u), [stopped(t), started(u)].to_vec()),
        (Some(t), None, [stopped(t)].to_vec()),
    ];
    for (before, now, told) in rows {
        let mut bench = Bench::new(2, None);
        let lease = |term: Option<Term>| term.map(|term| (term, LATER + LEASE));
        bench.duties.handle_lease(lease(before), LATER, &mut bench.out);
        bench.take();
        bench.duties.handle_lease(lease(now), LATER, &mut bench.out);
        let mut outputs = bench.take();
        outputs.retain(|output| matches!(output, Output::Started { .. } | Output::Stopped { .. }));
        assert_eq!(outputs, told, "{before:?} to {now:?}");
        assert_eq!(bench.duties.performs(uplink), now);
    }
}

#[test]
fn a_lease_under_a_lower_term_than_was_spoken_of_is_refused() {
    for (broken, acts) in [(None, false), (Some(Rule::OldTermRefused), true)] {
        let mut bench = Bench::new(1, broken);
        bench.follows(Some(term(1, 2)));
        bench.follows(Some(term(2, 3)));
        bench.answered(1, term(1, 2), &signal(term(1, 2)));
        assert_eq!(bench.holds(0), acts, "{broken:?}");
        // Nor does a stale claim bring the old leader back.
        bench.follows(Some(term(1, 2)));
        bench.answered(2, term(2, 3), &signal(term(2, 3)));
        assert!(bench.holds(0));
    }
}

#[test]
fn an_answer_that_was_said_to_be_closed_gives_nothing() {
    for (broken, acts) in [(None, false), (Some(Rule::ClosedAnswers), true)] {
        let mut bench = Bench::new(1, broken);
        bench.follows(Some(term(1, 2)));
        bench.answered(1, term(1, 2), &[]);
        bench.passes(DUTY_ASK_IDLE);
        bench.answered(1, term(1, 2), &signal(term(1, 2)));
        // Counted from the first question it would be over by now, so ask how it was ordered.
        let is_wanted = bench.duties.is_wanted;
        assert_eq!(is_wanted, acts, "{broken:?}");
    }
}

#[test]
fn a_lease_counts_from_the_question_and_is_never_longer_than_the_limit() {
    let mut bench = Bench::new(1, None);
    bench.follows(Some(term(1, 2)));
    bench.passes(ms(150));
    bench.answered(1, term(1, 2), &signal(term(1, 2)));
    assert!(bench.holds(0));
    bench.passes(ms(49));
    assert!(bench.holds(0));
    bench.passes(ms(1));
    assert!(!bench.holds(0), "200 ms after the question");
    assert!(ms(200) < DUTY_LEASE_MAX);
}

#[test]
fn a_young_life_takes_no_lease() {
    for (age, holds) in [(DUTY_FRESH - Duration::from_micros(1), false), (DUTY_FRESH, true)] {
        let mut bench = Bench::new(1, None);
        bench.now = Instant::ZERO + age;
        bench.follows(Some(term(1, 2)));
        bench.answered(1, term(1, 2), &signal(term(1, 2)));
        assert_eq!(bench.holds(0), holds, "{age:?}");
    }
}

#[test]
fn no_lease_is_given_once_the_leader_hands_over_and_its_own_duties_end_first() {
    for (broken, gives) in [(None, false), (Some(Rule::NoLeaseWhileEnding), true)] {
        let mut bench = Bench::new(1, broken);
        let mine = term(5, 1);
        bench.leads(mine);
        bench.asked(2, 1, mine, &[]);
        let given = bench.asked(3, 1, mine, &[]);
        assert_eq!(moved(&given, 0), Some(board(1)), "the leader comes first");
        assert_eq!(moved(&given, 1), Some(board(2)), "the next duty goes to a board with less to do");
        bench.duties.quiesce(bench.now, &mut bench.out);
        bench.take();
        assert!(!bench.duties.is_quiet(bench.now), "its process has not said yet that it rests");
        bench
            .duties
            .handle_report(duty(0), DutyReport::StandsBy, bench.now, &mut bench.out);
        bench.take();
        assert!(bench.duties.is_quiet(bench.now));
        let token = Fencing::new(mine, 2);
        let told = bench.asked(2, 2, mine, &[(duty(1), token)]);
        assert_eq!(lease_told(&told).is_some_and(|lease| lease > 0), gives, "{broken:?}");
    }
}

#[test]
fn a_new_leader_waits_for_every_board_and_takes_over_what_it_hears_of() {
    let mut bench = Bench::new(1, None);
    let mine = term(5, 1);
    assert_eq!(moved(&bench.leads(mine), 0), None, "two boards have not said what they hold");
    assert_eq!(moved(&bench.asked(2, 1, mine, &[]), 0), None, "one has not");
    let old = Fencing::new(term(4, 2), 7);
    let heard = bench.asked(3, 1, mine, &[(duty(0), old)]);
    assert_eq!(moved(&heard, 0), Some(board(3)), "it stays where it is");
    assert!(bench.duties.lines(bench.now)[0].token.unwrap() > old);
    assert_eq!(bench.duties.lines(bench.now)[0].why, Why::Kept.as_str());
}

#[test]
fn a_silent_board_is_waited_for_until_its_lease_is_over_and_no_longer() {
    let mine = term(5, 1);
    let wait = rules::patience(DUTY_LEASE_MAX);
    for (waited, given) in [(wait - Duration::from_micros(1), false), (wait, true)] {
        let mut bench = Bench::new(1, None);
        bench.leads(mine);
        bench.now = bench.now + waited;
        let outputs = bench.leads(mine);
        assert_eq!(moved(&outputs, 0).is_some(), given, "{waited:?}");
    }
    let mut bench = Bench::new(1, None);
    bench.leads(mine);
    bench.duties.handle_clear(bench.now, &mut bench.out);
    assert_eq!(moved(&bench.take(), 0), Some(board(1)), "the election knows that nothing runs");
}

/// The leader's process crashes: attested, nobody waits for it.
#[test]
fn an_attested_leader_is_accounted_for_where_that_life_answered_lately() {
    for (life, age, given) in [(99, ms(100), true), (98, ms(100), false), (99, DUTY_FRESH, false)] {
        let mut bench = Bench::new(1, None);
        bench.follows(Some(term(4, 2)));
        bench.answered(1, term(4, 2), &[]);
        bench.now = bench.now + age;
        bench.duties.handle_obituary(board(2), life, bench.now, &mut bench.out);
        let mine = term(5, 1);
        bench.leads(mine);
        let heard = bench.asked(3, 1, mine, &[]);
        assert_eq!(moved(&heard, 0).is_some(), given, "life {life}, {age:?}");
    }
}

#[test]
fn a_duty_leaves_a_board_that_is_down_only_once_its_lease_is_over() {
    let mut bench = Bench::new(1, None);
    let mine = term(5, 1);
    bench.leads(mine);
    bench.asked(2, 1, mine, &[]);
    bench.asked(3, 1, mine, &[]);
    assert_eq!(bench.duties.lines(bench.now)[1].holders, [board(2)]);
    let until = bench.now + LEASE;
    let mut alive = bench.duties.boards;
    alive.remove(board(2));
    let view = DutyView { alive, fit: alive, can: BTreeMap::new() };
    bench.duties.handle_view(&view, bench.now, &mut bench.out);
    assert_eq!(moved(&bench.take(), 1), None);
    bench.now = Instant::from_micros(until.micros() - 1);
    assert_eq!(moved(&bench.leads(mine), 1), None);
    bench.now = until;
    assert_eq!(moved(&bench.leads(mine), 1), Some(board(3)));
    assert_eq!(bench.duties.lines(bench.now)[1].why, Why::HolderDown.as_str());
}

#[test]
fn an_attested_holder_is_replaced_at_once_and_an_older_life_replaces_nobody() {
    let mut bench = Bench::new(1, None);
    let mine = term(5, 1);
    bench.leads(mine);
    bench.asked(2, 1, mine, &[]);
    bench.asked(3, 1, mine, &[]);
    bench.duties.handle_obituary(board(2), 77, bench.now, &mut bench.out);
    assert_eq!(moved(&bench.take(), 1), None);
    bench.duties.handle_obituary(board(2), 2, bench.now, &mut bench.out);
    assert_eq!(moved(&bench.take(), 1), Some(board(3)));
}

#[test]
fn an_overloaded_holder_is_relieved_after_long_and_not_before() {
    let mut bench = Bench::new(1, None);
    let mine = term(5, 1);
    bench.leads(mine);
    bench.asked(2, 1, mine, &[]);
    bench.asked(3, 1, mine, &[]);
    bench.duties.handle_load(crate::limits::DUTY_LOAD_HIGH);
    let mut number = 1;
    let mut relieved = None;
    let began = bench.now;
    while relieved.is_none() && bench.now.since(began) < DUTY_LOADED_AFTER * 2 {
        bench.now = bench.now + DUTY_ASK_IDLE;
        number += 1;
        let mut outputs = bench.leads(mine);
        outputs.extend(bench.asked(2, number, mine, &[(duty(1), Fencing::new(mine, 2))]));
        outputs.extend(bench.asked(3, number, mine, &[]));
        relieved = moved(&outputs, 0).map(|to| (to, bench.now.since(began)));
    }
    let (to, after) = relieved.unwrap();
    assert!(
        to != board(1) && after >= DUTY_LOADED_AFTER && after < DUTY_LOADED_AFTER + DUTY_SILENT,
        "{to} {after:?}"
    );
}

#[test]
fn the_last_token_of_a_term_stays_where_it_is() {
    let mut bench = Bench::new(1, None);
    let mine = term(5, 1);
    bench.leads(mine);
    bench.duties.tenure.as_mut().unwrap().exhaust();
    bench.asked(2, 1, mine, &[]);
    assert_eq!(moved(&bench.asked(3, 1, mine, &[]), 0), None);
    assert!(bench.duties.lines(bench.now)[0].waits_for.contains("used up"));
}

#[test]
fn available_duties_are_spread_and_go_on_without_a_leader() {
    let mut bench = Bench::new(1, None);
    let mine = term(5, 1);
    bench.leads(mine);
    bench.asked(2, 1, mine, &[]);
    bench.asked(3, 1, mine, &[]);
    bench.passes(DUTY_SETTLE);
    let line = bench.duties.lines(bench.now)[2].clone();
    assert_eq!(line.holders.len(), 2);
    bench.duties.handle_lease(None, bench.now, &mut bench.out);
    bench.take();
    let acts = |bench: &Bench| !bench.duties.is_idle(bench.now);
    let before = acts(&bench);
    bench.passes(DUTY_ALONE_AFTER - Duration::from_micros(1));
    assert_eq!(acts(&bench), before && line.holders.contains(&board(1)));
    bench.passes(Duration::from_micros(1));
    assert!(acts(&bench), "the first of the boards that can begins");
}

#[test]
fn a_board_without_a_command_is_given_nothing() {
    let mut config = config(board(1), 1);
    config.duties[0].is_local = false;
    let mut duties = Duties::new(&config, Epoch { boot: 1, nonce: 1 }, Instant::ZERO);
    let mut out = Outbox::default();
    duties.handle_lease(Some((term(1, 1), LATER + LEASE)), LATER, &mut out);
    assert_eq!(duties.holds(duty(0), LATER), None);
    assert!(duties.holds(duty(1), LATER).is_some() || !config.duties[1].is_local);
    assert_eq!(duties.can() & 1, 0);
}

/// A deadline that nothing comes of would be met again and again.
#[test]
fn what_was_due_is_not_due_again() {
    let mut without = config(board(1), 3);
    without.duties.clear();
    for config in [without, config(board(1), 3)] {
        let mut duties = Duties::new(&config, Epoch { boot: 1, nonce: 1 }, Instant::ZERO);
        let mut out = Outbox::default();
        let inputs: [fn(&mut Duties, Instant, &mut Outbox<Output>); 8] = [
            |duties, now, out| duties.handle_leader(Some(term(1, 2)), now, out),
            |duties, now, out| duties.handle_lease(Some((term(2, 1), now + LEASE)), now, out),
            |duties, now, out| duties.handle_lease(None, now, out),
            |duties, now, out| duties.handle_leader(Some(term(2, 1)), now, out),
            |duties, now, out| duties.handle_leader(Some(term(3, 3)), now, out),
            |duties, now, out| duties.handle_report(duty(0), DutyReport::StandsBy, now, out),
            |duties, now, out| duties.handle_stop(now, out),
            |duties, now, out| duties.handle_leader(None, now, out),
        ];
        let mut now = LATER;
        for input in inputs {
            input(&mut duties, now, &mut out);
            for _ in 0..50 {
                let due = duties.next_deadline().at;
                if due == Instant::NEVER {
                    break;
                }
                now = now.max(due);
                duties.handle_deadline(now, &mut out);
                assert!(duties.next_deadline().at > now, "{:?} at {now}", duties.next_deadline());
            }
            while out.pop().is_some() {}
        }
    }
}

/// Duty 1 is one that board 1, which leads, cannot perform. Seen to fail with failures not kept in the account.
#[test]
fn the_region_is_told_where_each_duty_is_and_how() {
    let mut bench = Bench::new(1, None);
    let mine = term(5, 1);
    assert_eq!(bench.duties.told(bench.now), None, "who does not lead knows too little");
    bench.leads(mine);
    let told = |bench: &Bench| bench.duties.told(bench.now).unwrap().duties[1].clone();
    let set = |numbers: &[u8]| numbers.iter().map(|number| board(*number)).collect::<BoardSet>();
    assert_eq!((told(&bench).state, told(&bench).holders), (DutyState::Unknown, BoardSet::EMPTY));
    bench.asked(2, 1, mine, &[]);
    bench.asked(3, 1, mine, &[]);
    assert_eq!((told(&bench).state, told(&bench).holders), (DutyState::Starting, set(&[2])));
    bench.asked_as((2, 2), 2, mine, &[], (0b111, 0b010));
    let line = told(&bench);
    assert_eq!((line.state, line.ready, line.failed), (DutyState::Running, set(&[2]), BoardSet::EMPTY));
    assert_eq!((line.name.as_str(), line.why.as_str(), line.held_ms), ("fuse", Why::Placed.as_str(), Some(0)));
    assert_eq!(line.token.map(Fencing::term), Some(mine));

    // It gives up on board 2, which may still be acting; then on board 3, too.
    let holds = [(duty(1), line.token.unwrap())];
    bench.asked_as((2, 2), 3, mine, &holds, (0b101, 0));
    assert_eq!((told(&bench).state, told(&bench).failed), (DutyState::Leaving, set(&[2])));
    bench.asked_as((2, 2), 4, mine, &[], (0b101, 0));
    assert_eq!((told(&bench).state, told(&bench).holders), (DutyState::Starting, set(&[3])));
    bench.asked_as((3, 3), 2, mine, &[], (0b101, 0));
    bench.asked_as((3, 3), 3, mine, &[], (0b101, 0));
    assert_eq!((told(&bench).state, told(&bench).failed), (DutyState::Failed, set(&[2, 3])));
    let view = DutyView { alive: set(&[1, 3]), fit: set(&[1, 3]), can: BTreeMap::new() };
    bench.duties.handle_view(&view, bench.now, &mut bench.out);
    assert_eq!(told(&bench).failed, set(&[3]), "of a board that is down nothing is known");
    // A new life has nothing to do with what the one before could.
    bench.asked_as((33, 3), 1, mine, &[], (0b101, 0));
    bench.asked_in(3, 3, 9, mine, &[]);
    bench.passes(DUTY_SILENT);
    bench.asked_as((33, 3), 2, mine, &[], (0b101, 0));
    assert_eq!((told(&bench).state, told(&bench).failed), (DutyState::Unassigned, BoardSet::EMPTY));
}

#[test]
fn the_region_is_told_when_an_available_duty_is_short_of_boards() {
    let mut bench = Bench::new(1, None);
    let mine = term(5, 1);
    bench.leads(mine);
    let state = |bench: &Bench| bench.duties.told(bench.now).unwrap().duties[2].state;
    assert_eq!(state(&bench), DutyState::Unassigned);
    bench
        .duties
        .handle_report(duty(2), DutyReport::StandsBy, bench.now, &mut bench.out);
    bench.passes(DUTY_SETTLE);
    assert_eq!(state(&bench), DutyState::Short, "one board of two");
    bench.asked_as((2, 2), 1, mine, &[], (0b100, 0));
    bench.asked_as((3, 3), 1, mine, &[], (0b100, 0));
    assert_eq!(state(&bench), DutyState::Starting);
    bench.asked_as((2, 2), 2, mine, &[], (0b100, 0b100));
    bench.asked_as((3, 3), 2, mine, &[], (0b100, 0b100));
    assert_eq!(state(&bench), DutyState::Running);
    assert_eq!(bench.duties.told(bench.now).unwrap().duties[2].held_ms, None);
}

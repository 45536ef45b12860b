//! One voter's judgement, each threshold on both sides.

use core::time::Duration;

use super::Life;
use super::rules::Rules;
use super::terms::Terms;
use super::voter::{Refusal, Verdict, Voter, patience};
use super::world::board;
use crate::ids::Term;
use crate::limits::TERMS_RESERVED;
use crate::time::Instant;
use crate::wire::election::Acquire;

const LEASE: Duration = Duration::from_micros(300_000);
/// 300 ms x 1100 / 900, rounded up.
const PATIENCE: u64 = 366_667;

fn at(micros: u64) -> Instant {
    Instant::from_micros(5_000_000 + micros)
}

fn voter(boot: u32) -> (Voter, Terms) {
    let life = Life { boot, term_ceiling: TERMS_RESERVED * u64::from(boot), seed: 0 };
    let terms = Terms::new(board(1), life, Rules::default());
    let voter = Voter::new(LEASE, life, &terms, Rules::default(), at(0));
    (voter, terms)
}

fn request(counter: u64, number: u8, attempt: u64) -> Acquire {
    let term = Term::new(counter, board(number));
    Acquire { term, attempt, lease_micros: 300_000, trial: false }
}

#[test]
fn patience_is_the_lease_on_a_slow_clock_seen_by_a_fast_one() {
    assert_eq!(patience(LEASE), Duration::from_micros(PATIENCE));
    assert_eq!(patience(Duration::from_micros(9)), Duration::from_micros(11));
    assert_eq!(patience(Duration::from_micros(10)), Duration::from_micros(13), "12.2 is rounded up");
    assert!(patience(Duration::MAX) > Duration::from_secs(1 << 32), "no overflow");
}

#[test]
fn a_grant_binds_until_it_expires() {
    let (mut voter, terms) = voter(1);
    assert_eq!(voter.handle_acquire(&request(1, 2, 1), &terms, at(0)), Verdict::Granted);
    let other = request(2, 3, 1);
    assert_eq!(voter.judge(&other, &terms, at(PATIENCE - 1)), Err(Refusal::OtherHolder));
    assert_eq!(voter.judge(&other, &terms, at(PATIENCE)), Ok(()));
}

#[test]
fn a_denial_says_how_long_and_changes_nothing() {
    let (mut voter, terms) = voter(1);
    voter.handle_acquire(&request(1, 2, 1), &terms, at(0));
    let before = alloc::format!("{voter:?}");
    let denied =
        Verdict::Denied { promised: Term::new(1, board(2)), remaining: Duration::from_micros(PATIENCE - 1000) };
    assert_eq!(voter.handle_acquire(&request(9, 3, 1), &terms, at(1000)), denied);
    assert_eq!(alloc::format!("{voter:?}"), before);
}

#[test]
fn a_trial_is_judged_alike_and_changes_nothing() {
    let (mut voter, terms) = voter(1);
    let before = alloc::format!("{voter:?}");
    let trial = Acquire { trial: true, ..request(1, 2, 1) };
    assert_eq!(voter.handle_acquire(&trial, &terms, at(0)), Verdict::Granted);
    assert_eq!(alloc::format!("{voter:?}"), before);
}

#[test]
fn a_renewal_extends_and_a_repetition_does_not() {
    let (mut voter, terms) = voter(1);
    voter.handle_acquire(&request(1, 2, 5), &terms, at(0));
    voter.handle_acquire(&request(1, 2, 6), &terms, at(100));
    assert_eq!(voter.live_grant(at(100)).map(|(_, end)| end), Some(at(100 + PATIENCE)));
    for attempt in [5, 6] {
        assert_eq!(voter.handle_acquire(&request(1, 2, attempt), &terms, at(200)), Verdict::Granted);
    }
    assert_eq!(voter.live_grant(at(200)).map(|(_, end)| end), Some(at(100 + PATIENCE)));
    let over = at(100 + PATIENCE);
    assert_eq!(voter.judge(&request(1, 2, 6), &terms, over), Err(Refusal::Stale));
    assert_eq!(voter.judge(&request(1, 2, 7), &terms, over), Ok(()));
}

#[test]
fn a_shorter_lease_does_not_shorten_what_was_granted() {
    let (mut voter, terms) = voter(1);
    voter.handle_acquire(&request(1, 2, 1), &terms, at(0));
    let shorter = Acquire { lease_micros: 1000, ..request(2, 2, 2) };
    assert_eq!(voter.handle_acquire(&shorter, &terms, at(1)), Verdict::Granted);
    let granted = Some((Term::new(2, board(2)), at(PATIENCE)));
    assert_eq!(voter.live_grant(at(1)), granted);
}

#[test]
fn no_term_below_the_promised_one_and_none_above_the_ceiling() {
    let (mut voter, terms) = voter(1);
    let last = request(TERMS_RESERVED, 2, 1);
    let beyond = request(TERMS_RESERVED + 1, 2, 1);
    assert_eq!(voter.judge(&beyond, &terms, at(0)), Err(Refusal::Unreserved));
    assert_eq!(voter.handle_acquire(&last, &terms, at(0)), Verdict::Granted);
    let free = at(PATIENCE);
    assert_eq!(voter.judge(&request(TERMS_RESERVED, 1, 1), &terms, free), Err(Refusal::Promised));
    assert_eq!(voter.judge(&request(TERMS_RESERVED, 3, 1), &terms, free), Ok(()));
}

#[test]
fn a_restarted_voter_abstains_as_long_as_it_may_have_granted_and_starts_above_its_earlier_ceiling() {
    let (voter, terms) = voter(2);
    let new = request(TERMS_RESERVED + 1, 1, 1);
    assert_eq!(voter.judge(&new, &terms, at(PATIENCE - 1)), Err(Refusal::Abstains));
    assert_eq!(voter.judge(&new, &terms, at(PATIENCE)), Ok(()));
    assert_eq!(voter.abstains_until(at(PATIENCE - 1)), Some(at(PATIENCE)));
    let old = request(TERMS_RESERVED, 64, 1);
    assert_eq!(voter.judge(&old, &terms, at(PATIENCE)), Err(Refusal::Promised));
}

#[test]
fn no_lease_longer_than_the_sites() {
    let (voter, terms) = voter(1);
    let longer = Acquire { lease_micros: 300_001, ..request(1, 2, 1) };
    assert_eq!(voter.judge(&longer, &terms, at(0)), Err(Refusal::TooLong));
    let absurd = Acquire { lease_micros: u64::MAX, ..longer };
    assert_eq!(voter.judge(&absurd, &terms, at(0)), Err(Refusal::TooLong));
}

#[test]
fn a_released_term_is_free_at_once_and_never_granted_again() {
    let (mut voter, terms) = voter(1);
    voter.handle_acquire(&request(3, 2, 1), &terms, at(0));
    voter.handle_release(board(2), Term::new(3, board(2)));
    assert_eq!(voter.live_grant(at(0)), None);
    assert_eq!(voter.judge(&request(3, 2, 2), &terms, at(0)), Err(Refusal::Released));
    assert_eq!(voter.judge(&request(3, 3, 1), &terms, at(0)), Ok(()));
    assert_eq!(voter.judge(&request(4, 2, 3), &terms, at(0)), Ok(()));
}

#[test]
fn the_release_of_another_term_frees_nothing() {
    let (mut voter, terms) = voter(1);
    voter.handle_acquire(&request(3, 2, 1), &terms, at(0));
    voter.handle_release(board(3), Term::new(5, board(3)));
    voter.handle_release(board(2), Term::new(2, board(2)));
    assert_eq!(voter.judge(&request(6, 3, 1), &terms, at(0)), Err(Refusal::OtherHolder));
    assert_eq!(voter.judge(&request(3, 2, 2), &terms, at(0)), Ok(()), "its own renewal");
}

//! Heartbeats, silence and lateness, each threshold on both sides.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Membership, Output, Vitals};
use crate::config::{JournalConfig, NodeConfig, Timing};
use crate::ids::{BoardId, BoardSet, Epoch, Name, Term};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::control::Heartbeat;

const BEAT: u64 = 50_000;
const DOWN: u64 = 400_000;
const LIFE: Epoch = Epoch { boot: 3, nonce: 5 };

fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

fn at(micros: u64) -> Instant {
    Instant::from_micros(9_000_000 + micros)
}

fn membership(boards: u8) -> Membership {
    let all: BoardSet = (1..=boards).map(board).collect();
    let config = NodeConfig {
        site: Name::try_from("here").unwrap(),
        board: board(1),
        boards: all,
        voters: all,
        copies: 2,
        timing: Timing::default(),
        journal: JournalConfig::default(),
        has_region: false,
    };
    Membership::new(&config, LIFE, at(0))
}

fn heartbeat(boot: u32, number: u64) -> Heartbeat {
    Heartbeat { epoch: Epoch { boot, nonce: 1 }, number, seen: Term::ZERO, leads: None, accepts: true }
}

/// Feeds a heartbeat from board 2; what came of it.
fn hear(members: &mut Membership, beat: &Heartbeat, micros: u64) -> Vec<Output> {
    let mut out = Outbox::default();
    members.handle_heartbeat(board(2), beat, at(micros), &mut out);
    drain(&mut out)
}

/// Lets the deadline come at `micros`; what was told apart from heartbeats.
fn judge(members: &mut Membership, micros: u64) -> Vec<Output> {
    let mut out = Outbox::default();
    members.handle_deadline(at(micros), Vitals::default(), &mut out);
    let mut outputs = drain(&mut out);
    outputs.retain(|output| !matches!(output, Output::Tell { .. }));
    outputs
}

fn drain(out: &mut Outbox<Output>) -> Vec<Output> {
    core::iter::from_fn(|| out.pop()).collect()
}

/// Calls each deadline exactly when it is due, before `end`; what was told apart from heartbeats.
fn run_until(members: &mut Membership, end: u64) -> Vec<Output> {
    let mut told = Vec::new();
    while members.next_deadline().at < at(end) {
        let micros = members.next_deadline().at.micros() - at(0).micros();
        told.extend(judge(members, micros));
    }
    told
}

fn down() -> Vec<Output> {
    [Output::Down { board: board(2) }].to_vec()
}

fn up(boot: u32) -> Vec<Output> {
    [Output::Up { board: board(2), epoch: Epoch { boot, nonce: 1 } }].to_vec()
}

#[test]
fn heartbeats_leave_at_once_and_then_every_period_with_the_vitals() {
    let mut members = membership(3);
    let mut out = Outbox::default();
    let term = Term::new(4, board(1));
    let vitals = Vitals { seen: term, leads: Some(term), accepts: true };
    for (number, micros) in [(1, 0), (2, BEAT), (3, 2 * BEAT)] {
        assert_eq!(members.next_deadline().at, at(micros));
        members.handle_deadline(at(micros), vitals, &mut out);
        let heartbeat = Heartbeat { epoch: LIFE, number, seen: term, leads: Some(term), accepts: true };
        let told = [2, 3].map(|to| Output::Tell { to: board(to), heartbeat: heartbeat.clone() });
        assert_eq!(drain(&mut out), told);
    }
    members.handle_deadline(at(3 * BEAT - 1), vitals, &mut out);
    assert_eq!(drain(&mut out), [], "called a microsecond early");
}

#[test]
fn silence_is_judged_at_its_deadline_and_not_a_microsecond_before() {
    let mut members = membership(2);
    judge(&mut members, 0);
    assert_eq!(hear(&mut members, &heartbeat(1, 1), 1), up(1));
    assert_eq!(run_until(&mut members, 1 + DOWN), []);
    assert_eq!(judge(&mut members, DOWN), []);
    assert!(members.is_alive(board(2)));
    assert_eq!(judge(&mut members, DOWN + 1), down());
    assert!(!members.is_alive(board(2)));
    assert_eq!(judge(&mut members, DOWN + 2), [], "told once");
}

#[test]
fn a_heartbeat_read_before_the_deadline_is_judged_saves_its_board_however_late() {
    let mut members = membership(2);
    hear(&mut members, &heartbeat(1, 1), 0);
    run_until(&mut members, DOWN);
    assert_eq!(hear(&mut members, &heartbeat(1, 2), DOWN + 5), []);
    assert_eq!(judge(&mut members, DOWN + 5), []);
    assert!(members.is_alive(board(2)));
}

#[test]
fn own_lateness_is_given_to_the_others_and_not_twice() {
    let mut members = membership(3);
    judge(&mut members, 0);
    hear(&mut members, &heartbeat(1, 1), 0);
    // Frozen from the heartbeat due at 50 ms on, for ten seconds: board 2 had 350 ms left then.
    let thawed = BEAT + 10_000_000;
    assert_eq!(judge(&mut members, thawed), []);
    assert_eq!(run_until(&mut members, thawed + DOWN - BEAT), []);
    assert_eq!(run_until(&mut members, thawed + DOWN - BEAT + 1), down());
    // One that was heard after the thaw has its ordinary patience, not ten seconds more.
    let frozen = thawed + 10_000_000;
    assert_eq!(hear(&mut members, &heartbeat(1, 2), frozen), up(1));
    assert_eq!(judge(&mut members, frozen), []);
    assert_eq!(run_until(&mut members, frozen + DOWN), []);
    assert_eq!(run_until(&mut members, frozen + DOWN + 1), down());
}

#[test]
fn old_heartbeats_say_nothing() {
    let mut members = membership(2);
    hear(&mut members, &heartbeat(2, 5), 0);
    for old in [heartbeat(2, 5), heartbeat(2, 4), heartbeat(1, 9)] {
        assert_eq!(hear(&mut members, &old, DOWN - 1), []);
    }
    assert_eq!(run_until(&mut members, DOWN + 1), down(), "an old heartbeat kept it alive");
}

#[test]
fn a_later_life_is_a_restart_and_a_silent_board_may_return_with_any_life() {
    let mut members = membership(2);
    hear(&mut members, &heartbeat(2, 5), 0);
    let epoch = Epoch { boot: 3, nonce: 1 };
    let restarted = Output::Restarted { board: board(2), epoch };
    assert_eq!(hear(&mut members, &heartbeat(3, 1), 1), [restarted]);
    assert_eq!(members.epoch_of(board(2)), Some(epoch));
    assert_eq!(run_until(&mut members, DOWN + 2), down());
    assert_eq!(members.epoch_of(board(2)), Some(epoch), "the last life is remembered");
    assert_eq!(hear(&mut members, &heartbeat(3, 1), DOWN + 3), [], "a repetition revives nobody");
    assert_eq!(hear(&mut members, &heartbeat(1, 1), DOWN + 4), up(1), "a new disk counts anew");
}

#[test]
fn a_lost_connection_halves_the_patience_and_a_new_one_is_used_at_once() {
    let mut members = membership(2);
    judge(&mut members, 0);
    hear(&mut members, &heartbeat(1, 1), 0);
    let mut out = Outbox::default();
    members.handle_link(board(2), false, at(10), &mut out);
    assert_eq!(run_until(&mut members, 10 + DOWN / 2), []);
    assert_eq!(run_until(&mut members, 10 + DOWN / 2 + 1), down());
    let now = 10 + DOWN / 2 + 2;
    members.handle_link(board(2), true, at(now), &mut out);
    assert_eq!(members.next_deadline().at, at(now));
    assert!(!members.is_alive(board(2)), "a connection is no sign of life");
    // Evidence never lengthens the patience.
    hear(&mut members, &heartbeat(1, 2), now);
    members.handle_link(board(2), false, at(now + DOWN - 1), &mut out);
    assert_eq!(run_until(&mut members, now + DOWN + 1), down());
}

#[test]
fn what_a_board_says_of_itself_lasts_as_long_as_it_lives() {
    let mut members = membership(3);
    assert!(members.is_isolated());
    let (low, high) = (Term::new(4, board(2)), Term::new(6, board(3)));
    hear(&mut members, &Heartbeat { seen: high, leads: Some(low), ..heartbeat(1, 1) }, 0);
    assert!(!members.is_isolated());
    assert_eq!((members.leads(), members.seen()), (Some(low), high));
    assert_eq!(members.alive(), [1, 2].into_iter().map(board).collect());
    let vitals = Vitals { seen: high, leads: Some(low), accepts: true };
    assert_eq!(members.vitals_of(board(2)), Some(vitals));
    run_until(&mut members, DOWN + 1);
    assert!(members.is_isolated());
    assert_eq!((members.leads(), members.seen()), (None, high));
    assert_eq!(members.vitals_of(board(2)), None);
}

#[test]
fn strangers_and_oneself_are_passed_over() {
    let mut members = membership(2);
    let mut out = Outbox::default();
    for from in [1, 3, 64] {
        members.handle_heartbeat(board(from), &heartbeat(9, 9), at(0), &mut out);
        members.handle_link(board(from), false, at(0), &mut out);
    }
    assert_eq!(drain(&mut out), []);
    assert_eq!(members.alive(), [board(1)].into_iter().collect());
    assert_eq!(members.epoch_of(board(1)), Some(LIFE));
    assert!(!membership(1).is_isolated(), "a site of one has nobody to hear");
    assert!(membership(1).next_deadline().at + Duration::ZERO < Instant::NEVER);
}

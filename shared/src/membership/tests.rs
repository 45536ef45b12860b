//! Heartbeats, silence, lateness, lives and news, each threshold on both sides; and small sites in which every board is a
//! real one, cut in all the ways that a site can be.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Membership, Output, Why};
use crate::action::Evidence;
use crate::config::{JournalConfig, NodeConfig, RepairConfig, Timing};
use crate::ids::{BoardId, BoardSet, Epoch, Name, Term, Voters};
use crate::limits::{BEAT_PERIOD_LEAST, BEAT_PERIOD_MOST};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::heartbeat::{Claim, Hearing, HearingLine, Heartbeat, Vitals};

const MS: u64 = 1000;
const BEAT: u64 = 100 * MS;
/// On a way that is not known yet 5 misses are needed where nobody else looks on, and 3 ms are allowed for lateness.
const PAIR_DOWN: u64 = 503 * MS;
/// With three observers 2 are, and the floor is higher: 200 ms and half a period.
const MESH_DOWN: u64 = 250 * MS;

fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

fn set(numbers: impl IntoIterator<Item = u8>) -> BoardSet {
    numbers.into_iter().map(board).collect()
}

fn at(micros: u64) -> Instant {
    Instant::from_micros(9_000_000 + micros)
}

fn config(number: u8, boards: u8) -> NodeConfig {
    let all = set(1..=boards);
    NodeConfig {
        site: Name::try_from("here").unwrap(),
        board: board(number),
        boards: all,
        voters: Voters { version: 1, set: set(1..=boards.min(3)).into() },
        priority: 0,
        domain: Name::try_from("cabinet").unwrap(),
        duties: Vec::new(),
        copies: 2,
        timing: Timing::default(),
        journal: JournalConfig::default(),
        repair: RepairConfig::default(),
        has_region: false,
    }
}

fn life(boot: u32) -> Epoch {
    Epoch { boot, nonce: u64::from(boot) * 100 }
}

fn membership(boards: u8) -> Membership {
    Membership::new(&config(1, boards), life(3), 0, at(0))
}

/// A heartbeat that misses nobody but whom it should.
fn heartbeat(boot: u32, number: u64) -> Heartbeat {
    Heartbeat {
        epoch: life(boot),
        number,
        vitals: Vitals::default(),
        missed: BoardSet::EMPTY,
        version: 1,
        digest: 0,
        period_ms: 100,
        wanted_ms: 100,
    }
}

fn drain(out: &mut Outbox<Output>) -> Vec<Output> {
    core::iter::from_fn(|| out.pop()).collect()
}

fn verdicts(out: &mut Outbox<Output>) -> Vec<Output> {
    let mut all = drain(out);
    all.retain(|output| !matches!(output, Output::Tell { .. } | Output::TellHearing { .. }));
    all
}

fn hear_from(members: &mut Membership, from: u8, beat: &Heartbeat, micros: u64) -> Vec<Output> {
    let mut out = Outbox::default();
    members.handle_heartbeat(board(from), beat, at(micros), &mut out);
    verdicts(&mut out)
}

fn hear(members: &mut Membership, beat: &Heartbeat, micros: u64) -> Vec<Output> {
    hear_from(members, 2, beat, micros)
}

fn judge(members: &mut Membership, micros: u64) -> Vec<Output> {
    let mut out = Outbox::default();
    members.handle_deadline(at(micros), &Vitals::default(), &mut out);
    verdicts(&mut out)
}

/// Calls each deadline exactly when it is due, before `end`; the verdicts.
fn run_until(members: &mut Membership, end: u64) -> Vec<Output> {
    let mut told = Vec::new();
    while members.next_deadline().at < at(end) {
        let micros = members.next_deadline().at.micros() - at(0).micros();
        told.extend(judge(members, micros));
    }
    told
}

fn down(number: u8, why: Why) -> Vec<Output> {
    [Output::Down { board: board(number), why }].to_vec()
}

fn up(boot: u32) -> Vec<Output> {
    [Output::Up { board: board(2), epoch: life(boot) }].to_vec()
}

fn tells(members: &mut Membership, micros: u64) -> Vec<(u8, Heartbeat)> {
    let mut out = Outbox::default();
    members.handle_deadline(at(micros), &Vitals::default(), &mut out);
    sent(&mut out)
}

fn sent(out: &mut Outbox<Output>) -> Vec<(u8, Heartbeat)> {
    let of = |output| match output {
        Output::Tell { to, heartbeat } => Some((to.get(), heartbeat)),
        _ => None,
    };
    drain(out).into_iter().filter_map(of).collect()
}

#[test]
fn heartbeats_leave_at_once_and_then_every_period_with_their_numbers() {
    let mut members = membership(3);
    for (number, micros) in [(1, 0), (2, BEAT), (3, 2 * BEAT)] {
        run_until(&mut members, micros);
        let told = tells(&mut members, micros);
        assert_eq!(told.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [2, 3]);
        assert!(
            told.iter()
                .all(|(_, beat)| beat.number == number && beat.epoch == life(3) && beat.period_ms == 100)
        );
    }
}

#[test]
fn a_receiver_is_obeyed_within_bounds() {
    for (wanted, want) in [(1, BEAT_PERIOD_LEAST), (40, Duration::from_millis(40)), (9999, BEAT_PERIOD_MOST)] {
        let mut members = membership(2);
        hear(&mut members, &Heartbeat { wanted_ms: wanted, ..heartbeat(1, 1) }, 0);
        let told = tells(&mut members, 0);
        assert_eq!(Duration::from_millis(told[0].1.period_ms.into()), want);
    }
}

#[test]
fn a_control_message_takes_a_heartbeat_along_that_is_due_within_half_its_period() {
    let mut members = membership(2);
    tells(&mut members, 0);
    let mut out = Outbox::default();
    members.ride_along(board(2), at(BEAT / 2 - 1), &Vitals::default(), &mut out);
    assert!(sent(&mut out).is_empty());
    members.ride_along(board(2), at(BEAT / 2), &Vitals::default(), &mut out);
    assert_eq!(sent(&mut out).len(), 1);
    assert_eq!(tells(&mut members, BEAT).len(), 0, "the next is a whole period later");
}

#[test]
fn a_pair_needs_more_misses_than_a_mesh() {
    for (boards, patience) in [(2, PAIR_DOWN), (4, MESH_DOWN)] {
        let mut members = membership(boards);
        for number in 1..=2 {
            for from in 2..=boards {
                let is_up = hear_from(&mut members, from, &heartbeat(1, number), 0).len() == 1;
                assert_eq!(is_up, number == 1);
            }
        }
        assert_eq!(run_until(&mut members, patience), []);
        assert_eq!(judge(&mut members, patience).len(), usize::from(boards) - 1);
        assert!(members.is_isolated() && members.alive() == set([1]));
    }
}

#[test]
fn own_lateness_is_never_held_against_others() {
    let mut members = membership(2);
    hear(&mut members, &heartbeat(1, 1), 0);
    run_until(&mut members, 300 * MS);
    // Frozen for two seconds: the board may have been silent because nobody listened.
    assert_eq!(judge(&mut members, 2_300 * MS), []);
    assert_eq!(run_until(&mut members, 2_300 * MS + 100 * MS), []);
    assert_eq!(run_until(&mut members, 2_300 * MS + PAIR_DOWN + MS), down(2, Why::Isolated));
}

#[test]
fn what_arrived_in_time_counts_before_anything_is_judged() {
    let mut members = membership(2);
    hear(&mut members, &heartbeat(1, 1), 0);
    run_until(&mut members, PAIR_DOWN);
    assert_eq!(hear(&mut members, &heartbeat(1, 2), PAIR_DOWN), []);
    assert_eq!(judge(&mut members, PAIR_DOWN), []);
}

#[test]
fn a_lost_connection_halves_the_patience_and_a_new_one_is_used_at_once() {
    let mut members = membership(2);
    hear(&mut members, &heartbeat(1, 1), 0);
    tells(&mut members, 0);
    members.handle_link(board(2), false, at(10 * MS), &mut Outbox::default());
    let due = 10 * MS + PAIR_DOWN / 2;
    assert_eq!(run_until(&mut members, due), []);
    assert_eq!(judge(&mut members, due), down(2, Why::Isolated));
    members.handle_link(board(2), true, at(due + MS), &mut Outbox::default());
    assert_eq!(members.next_deadline().at, at(due + MS));
}

#[test]
fn a_later_life_is_a_restart_and_an_earlier_one_nothing() {
    let mut members = membership(2);
    assert_eq!(hear(&mut members, &heartbeat(4, 7), 0), up(4));
    assert_eq!(hear(&mut members, &heartbeat(4, 7), 1), [], "repeated");
    assert_eq!(hear(&mut members, &heartbeat(3, 9), 2), [], "an earlier life");
    let restarted = [Output::Restarted { board: board(2), epoch: life(5) }];
    assert_eq!(hear(&mut members, &heartbeat(5, 1), 3), restarted);
    assert!(members.unsteady(board(2), at(4)));
}

#[test]
fn a_board_with_a_new_disk_is_taken_back_after_its_silence() {
    let mut members = membership(2);
    hear(&mut members, &heartbeat(9, 1), 0);
    assert_eq!(hear(&mut members, &heartbeat(1, 1), 1), [], "as long as the later life is heard");
    assert_eq!(run_until(&mut members, PAIR_DOWN + MS).len(), 1);
    assert_eq!(hear(&mut members, &heartbeat(9, 1), PAIR_DOWN + MS), [], "a repeated one revives nobody");
    assert_eq!(hear(&mut members, &heartbeat(1, 2), PAIR_DOWN + 2 * MS), up(1));
}

#[test]
fn an_obituary_ends_that_life_at_once_and_no_other() {
    let mut members = membership(2);
    let mut out = Outbox::default();
    hear(&mut members, &heartbeat(4, 1), 0);
    members.handle_obituary(board(2), life(3).nonce, at(1), &mut out);
    assert!(members.is_alive(board(2)), "of an earlier life");
    members.handle_obituary(board(2), life(4).nonce, at(2), &mut out);
    assert_eq!(verdicts(&mut out), down(2, Why::Obituary));
    assert_eq!(hear(&mut members, &heartbeat(4, 2), 3), [], "the dead say nothing");
    assert_eq!(hear(&mut members, &heartbeat(5, 1), 4), up(5));
}

#[test]
fn an_obituary_counts_for_more_than_others_who_still_hear() {
    let mut members = membership(3);
    hear_from(&mut members, 2, &heartbeat(1, 1), 0);
    hear_from(&mut members, 3, &heartbeat(1, 1), 0);
    let mut out = Outbox::default();
    members.handle_obituary(board(2), life(1).nonce, at(1), &mut out);
    assert_eq!(verdicts(&mut out), down(2, Why::Obituary), "although board 3 has not noticed yet");
}

#[test]
fn who_leaves_in_good_order_is_down_at_once_until_heard_again() {
    let mut members = membership(2);
    let mut out = Outbox::default();
    hear(&mut members, &heartbeat(4, 1), 0);
    members.handle_evidence(board(2), Evidence::Leaves, at(1), &mut out);
    assert_eq!(verdicts(&mut out), down(2, Why::Left));
    assert_eq!(hear(&mut members, &heartbeat(4, 2), 2), up(4));
}

#[test]
fn a_machine_that_acknowledges_without_a_heartbeat_is_sick() {
    for (acknowledged, why) in [(BEAT, Why::Isolated), (BEAT + 1, Why::Sick)] {
        let mut members = membership(2);
        hear(&mut members, &heartbeat(1, 1), 0);
        run_until(&mut members, acknowledged);
        members.handle_evidence(board(2), Evidence::Acknowledges, at(acknowledged), &mut Outbox::default());
        assert_eq!(run_until(&mut members, PAIR_DOWN + MS), down(2, why));
    }
}

#[test]
fn a_lease_is_claimed_in_the_term_of_its_own_board_alone() {
    let mut members = membership(3);
    let claiming = |term| {
        let vitals = Vitals { leads: Some(Claim { term, left_ms: 200 }), ..Vitals::default() };
        Heartbeat { vitals, ..heartbeat(1, 1) }
    };
    for term in [Term::new(9, board(3)), Term::new(9, board(1)), Term::from_token(9 << 8), Term::from_token(u64::MAX)] {
        assert_eq!(hear(&mut members, &claiming(term), 0), [], "{term}");
        assert_eq!((members.claims(at(0)), members.seen()), (None, Term::ZERO), "{term}");
    }
    let own = Term::new(9, board(2));
    hear(&mut members, &claiming(own), 0);
    assert_eq!(members.claims(at(0)), Some(own));
}

#[test]
fn claims_run_out_on_our_own_clock_and_with_the_drift_allowed() {
    let mut members = membership(2);
    let term = Term::new(4, board(2));
    let vitals = Vitals { leads: Some(Claim { term, left_ms: 100 }), ..Vitals::default() };
    hear(&mut members, &Heartbeat { vitals, ..heartbeat(1, 1) }, 0);
    assert_eq!((members.claims(at(100 * MS)), members.seen()), (Some(term), term));
    assert_eq!((members.claims(at(200 * MS)), members.last_claim()), (None, Some(term)));
    members.handle_obituary(board(2), life(1).nonce, at(1), &mut Outbox::default());
    assert_eq!(members.claims(at(1)), None);
}

#[test]
fn strangers_and_too_long_messages_are_passed_over() {
    let mut members = membership(2);
    assert_eq!(hear_from(&mut members, 9, &heartbeat(1, 1), 0), []);
    let line = HearingLine { observer: board(2), epoch: life(1), version: 1, missed: BoardSet::EMPTY };
    let mut out = Outbox::default();
    members.handle_hearing(board(2), &Hearing { lines: [line; 33].to_vec(), asks: true }, at(0), &mut out);
    assert!(out.is_empty());
}

#[test]
fn all_lines_are_asked_for_where_digests_keep_differing() {
    let mut members = membership(3);
    let mut asked = Vec::new();
    for number in 1..=9 {
        let mut out = Outbox::default();
        members.handle_heartbeat(board(2), &Heartbeat { digest: 1, ..heartbeat(1, number) }, at(number), &mut out);
        if drain(&mut out)
            .iter()
            .any(|output| matches!(output, Output::TellHearing { hearing, .. } if hearing.asks))
        {
            asked.push(number);
        }
    }
    assert_eq!(asked, [2, 4, 8]);
}

#[test]
fn boards_come_and_go_while_the_site_runs() {
    let mut members = membership(3);
    let mut out = Outbox::default();
    hear(&mut members, &heartbeat(1, 1), 0);
    members.handle_boards(set([1, 3, 4]), at(1), &mut out);
    assert_eq!(verdicts(&mut out), down(2, Why::Removed));
    assert_eq!(hear(&mut members, &heartbeat(1, 2), 2), []);
    let joined = [Output::Up { board: board(4), epoch: life(1) }];
    assert_eq!(hear_from(&mut members, 4, &heartbeat(1, 1), 3), joined);
}

/// A small site: real memberships, a network without loss that takes a millisecond, and ways that are cut.
struct Site {
    boards: BTreeMap<u8, Membership>,
    now: u64,
    on_the_way: Vec<(u64, u8, u8, Output)>,
    is_cut: fn(u8, u8) -> bool,
    dead: Vec<u8>,
    verdicts: Vec<(u8, Output)>,
}

impl Site {
    fn new(count: u8) -> Self {
        let boards = (1..=count)
            .map(|number| (number, Membership::new(&config(number, count), life(1), u64::from(number) * 7919, at(0))));
        let (boards, is_cut) = (boards.collect(), (|_, _| false) as fn(u8, u8) -> bool);
        let mut site = Self { boards, now: 0, on_the_way: Vec::new(), is_cut, dead: Vec::new(), verdicts: Vec::new() };
        site.run(1000);
        assert!(site.boards.values().all(|members| members.alive().len() == usize::from(count)));
        site.verdicts.clear();
        site
    }

    /// Lets `millis` pass, a millisecond at a time: what arrives first, then what is due.
    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += MS;
            let (arrived, later) = self.on_the_way.drain(..).partition(|(when, ..)| *when <= self.now);
            self.on_the_way = later;
            let arrived: Vec<_> = arrived;
            for (_, from, to, output) in arrived {
                self.input(to, |members, now, out| match &output {
                    Output::Tell { heartbeat, .. } => members.handle_heartbeat(board(from), heartbeat, now, out),
                    Output::TellHearing { hearing, .. } => members.handle_hearing(board(from), hearing, now, out),
                    _ => {}
                });
            }
            let all: Vec<u8> = self.boards.keys().copied().collect();
            for number in all {
                self.input(number, |members, now, out| members.handle_deadline(now, &Vitals::default(), out));
            }
        }
    }

    fn input(&mut self, number: u8, input: impl FnOnce(&mut Membership, Instant, &mut Outbox<Output>)) {
        if self.dead.contains(&number) {
            return;
        }
        let mut out = Outbox::default();
        input(self.boards.get_mut(&number).unwrap(), at(self.now), &mut out);
        for output in drain(&mut out) {
            match &output {
                Output::Tell { to, .. } | Output::TellHearing { to, .. } => {
                    if !(self.is_cut)(number, to.get()) {
                        self.on_the_way.push((self.now + MS, number, to.get(), output));
                    }
                }
                _ => self.verdicts.push((number, output)),
            }
        }
    }

    fn alive(&self, number: u8) -> BoardSet {
        self.boards[&number].alive()
    }
}

#[test]
fn a_dead_board_is_known_everywhere_within_the_patience_and_nobody_else_is_accused() {
    for count in [3, 4, 16, 20] {
        let mut site = Site::new(count);
        site.dead.push(2);
        site.run(300);
        let others = (1..=count).filter(|number| *number != 2);
        for number in others.clone() {
            assert_eq!(site.alive(number), set(others.clone()), "at board {number} of {count}");
        }
        assert_eq!(site.verdicts.len(), usize::from(count) - 1, "{:?}", site.verdicts);
    }
}

#[test]
fn halves_see_themselves_and_come_together_again() {
    for (count, cut) in [
        (16, (|one, other| (one <= 8) != (other <= 8)) as fn(u8, u8) -> bool),
        (16, |one, other| (one <= 4) != (other <= 4)),
    ] {
        let mut site = Site::new(count);
        site.is_cut = cut;
        site.run(400);
        for number in 1..=count {
            let own = (1..=count).filter(|other| !cut(number, *other));
            assert_eq!(site.alive(number), set(own), "board {number}");
        }
        site.is_cut = |_, _| false;
        site.run(200);
        assert!((1..=count).all(|number| site.alive(number).len() == usize::from(count)));
    }
}

#[test]
fn one_way_that_is_cut_takes_nobody_down() {
    for cut in [(|one, other| one == 1 && other == 2) as fn(u8, u8) -> bool, |one, other| one + other == 3] {
        let mut site = Site::new(3);
        site.is_cut = cut;
        site.run(3000);
        assert!((1..=3).all(|number| site.alive(number).len() == 3));
        let impaired = site.boards[&3].impaired();
        assert!(impaired.contains(board(1)) && !impaired.contains(board(3)), "{impaired:?}");
        site.is_cut = |_, _| false;
        site.run(2500);
        assert!((1..=3).all(|number| site.boards[&number].impaired().is_empty()));
    }
}

#[test]
fn a_deaf_board_knows_that_it_is_alone_and_nobody_believes_it() {
    let mut site = Site::new(4);
    site.is_cut = |_, to| to == 1;
    site.run(2000);
    assert!(site.boards[&1].is_isolated() && site.alive(1) == set([1]));
    for number in 2..=4 {
        assert_eq!(site.alive(number).len(), 4);
        assert!(site.boards[&number].impaired().is_empty(), "the fault is its own");
    }
}

#[test]
fn a_mute_board_is_down_for_all_and_hears_of_it() {
    let mut site = Site::new(4);
    site.is_cut = |from, _| from == 1;
    site.run(500);
    assert!((2..=4).all(|number| site.alive(number) == set(2..=4)));
    assert_eq!(site.alive(1).len(), 4);
    site.is_cut = |_, _| false;
    site.run(200);
    assert!((1..=4).all(|number| site.alive(number).len() == 4));
}

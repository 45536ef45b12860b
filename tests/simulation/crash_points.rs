//! Power cuts at every step, short: honest workloads keep every promise, and each broken rule is found. The long form is
//! `cargo xtask crash-points`.

#![allow(clippy::panic, reason = "a test says what failed")]

use std::panic::catch_unwind;

use tests::crash::campaign::{Counts, examine};
use tests::crash::lie::Lie;
use tests::crash::mains::Shared;
use tests::crash::medium::{Medium, PowerCut};
use tests::crash::site::open;
use tests::crash::workload::Recipe;
use tests::dice::Dice;

/// Seeds of small workloads and of others that once found a bug. They stay for ever.
const FOUND_A_BUG: &[(u64, bool)] = &[
    // A start wrote over the only good copy of the state while the other one was torn by the power cut before.
    (39, true),
];

/// Workloads tried before a lie counts as unnoticed.
const WORKLOADS: u64 = 400;

fn hold(recipe: Recipe) -> Counts {
    let outcome = examine(recipe);
    if let Some(finding) = outcome.finding {
        panic!("{}\n{recipe:?}: {}", finding.story.join("\n"), finding.what);
    }
    outcome.counts
}

fn hold_all(recipes: impl Iterator<Item = Recipe>) -> Counts {
    let mut counts = Counts::default();
    recipes.for_each(|recipe| counts += hold(recipe));
    counts
}

#[test]
fn power_goes_in_every_way_at_every_step_of_small_workloads() {
    let counts = hold_all((1..=60).map(|seed| Recipe { seed, small: true, lie: None }));
    assert!(counts.exhausted * 10 > counts.moments * 9, "most moments have few enough ways: {counts}");
    assert!(counts.cuts > 5_000, "{counts}");
}

#[test]
fn power_goes_for_all_boards_at_once_at_moments_drawn_by_seed() {
    let counts = hold_all((1..=150).map(|seed| Recipe { seed, small: false, lie: None }));
    for name in ["EIO", "ENOSPC", "short write"] {
        assert!(counts.troubles.contains_key(name), "no {name}: {counts}");
    }
    assert!(counts.drains > 100, "{counts}");
    assert_eq!(counts.rots.len(), 7, "every kind of rot: {counts}");
}

#[test]
fn workloads_that_once_found_a_bug_stay_found() {
    hold_all(
        FOUND_A_BUG
            .iter()
            .map(|(seed, small)| Recipe { seed: *seed, small: *small, lie: None }),
    );
}

/// Power goes at every step of a board's second start, and again at every step of the third.
#[test]
fn two_power_cuts_in_a_row_leave_a_board_that_starts() {
    const DRAWS: usize = 24;
    let mut dice = Dice::new(1);
    let start = |media: Vec<Medium>, dice: &mut Dice| {
        let mains = Shared::new(media, None, dice.fork());
        mains.record();
        let found = open(mains.board(0), 0, dice.word(), None);
        found.unwrap_or_else(|error| panic!("a board does not start: {error}"));
        mains.tape()
    };
    let mut starts = 0;
    let whole = start(vec![Medium::default()], &mut dice).pop().expect("a tape has an end");
    for first in start(whole.media, &mut dice) {
        for _ in 0..DRAWS {
            let once = PowerCut::new(&first.media).drawn(&mut dice);
            for second in start(once, &mut dice) {
                for _ in 0..DRAWS {
                    start(PowerCut::new(&second.media).drawn(&mut dice), &mut dice);
                    starts += 1;
                }
            }
        }
    }
    assert!(starts > 10_000, "{starts} starts were tried");
}

#[test]
fn a_workload_replays_to_the_last_count() {
    let recipe = Recipe { seed: 5, small: false, lie: None };
    assert_eq!(hold(recipe), hold(recipe));
}

fn caught(lie: Lie) {
    let small = (1..=WORKLOADS / 2).map(|seed| Recipe { seed, small: true, lie: Some(lie) });
    let large = (1..=WORKLOADS / 2).map(|seed| Recipe { seed, small: false, lie: Some(lie) });
    // An assertion of the node's own is a find as well.
    let finds = |recipe: Recipe| catch_unwind(|| examine(recipe).finding.is_some()).unwrap_or(true);
    let found = small.chain(large).any(finds);
    assert!(found, "{} lived through {WORKLOADS} workloads: the judge sleeps", lie.name());
}

macro_rules! lies {
    ($($test:ident => $lie:ident,)*) => {
        $(
            #[test]
            fn $test() {
                caught(Lie::$lie);
            }
        )*

        #[test]
        fn every_broken_rule_of_the_journal_is_tried() {
            let tried = [$(Lie::$lie),*];
            for lie in Lie::ALL {
                assert!(tried.contains(&lie), "{} is not tried", lie.name());
            }
        }
    };
}

lies! {
    acknowledging_what_is_not_synced_is_caught => NotSynced,
    using_a_segment_whose_name_is_not_synced_is_caught => NamesNotSynced,
    believing_the_cache_after_a_failed_sync_is_caught => CacheTrusted,
    going_on_in_an_old_epoch_is_caught => EpochContinued,
    rewriting_a_page_is_caught => PageRewritten,
    calling_a_torn_tail_damage_is_caught => TailCalledDamage,
    calling_damage_a_torn_tail_is_caught => DamageCalledTail,
}

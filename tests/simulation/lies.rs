//! Dishonest worlds: each lie breaks what a real shell must do, and the checks must find it within some seeds.

use tests::campaign::run;
use tests::mutant::Mutant;
use tests::recipe::Recipe;

/// Seeds tried before a lie counts as unnoticed.
const SEEDS: u64 = 200;

fn caught(mutant: Mutant) {
    let found = (1..=SEEDS).any(|seed| {
        let failure = run(Recipe::of_mutant(seed, mutant).settings()).failure;
        failure.is_some_and(|what| what.contains(mutant.shows_as()))
    });
    assert!(found, "{} lived through {SEEDS} seeds: a check sleeps", mutant.name());
}

macro_rules! lies {
    ($($test:ident => $mutant:ident,)*) => {
        $(
            #[test]
            fn $test() {
                caught(Mutant::$mutant);
            }
        )*

        #[test]
        fn every_lie_is_tried() {
            let tried = [$(Mutant::$mutant),*];
            for mutant in Mutant::ALL {
                assert!(tried.contains(&mutant), "{} is not tried", mutant.name());
            }
        }
    };
}

lies! {
    forgetting_a_gap_record_is_caught => GapForgotten,
    shedding_alarms_before_bulk_is_caught => AlarmsAreBulk,
    freeing_before_the_rest_is_durable_is_caught => FreedBeforeDurable,
    acknowledging_before_the_sync_is_caught => AckBeforeSync,
    trusting_the_cache_after_a_failed_sync_is_caught => CacheTrusted,
    reusing_a_boot_epoch_is_caught => EpochReused,
    forgetting_the_ceiling_of_terms_is_caught => CeilingForgotten,
    deleting_the_wrong_file_is_caught => WrongFileDeleted,
    acknowledging_before_the_region_commits_is_caught => RegionAckBeforeCommit,
    forgetting_coverage_is_caught => CoverageForgotten,
    filing_without_looking_for_the_key_is_caught => KeysIgnored,
    counting_anew_when_sending_again_is_caught => KeyChangedOnResend,
    a_no_that_becomes_a_yes_is_caught => DeniedBecomesGranted,
    a_clock_at_half_speed_is_caught => SlowClock,
    answering_before_the_commit_is_caught => AnswerBeforeCommit,
    confirming_a_copy_that_was_only_received_is_caught => CopyConfirmedByNetwork,
    forgetting_the_fence_is_caught => FenceForgotten,
    an_obituary_of_the_living_is_caught => ObituaryOfTheLiving,
    a_dead_man_that_sleeps_is_caught => DeadManSleeps,
    acting_beyond_the_lease_is_caught => ActsBeyondLease,
    a_witness_that_forgets_is_caught => WitnessForgets,
    believing_an_empty_disk_is_caught => EmptyDiskTrusted,
    serving_what_was_not_verified_is_caught => UnverifiedServed,
    claiming_what_was_lost_is_caught => CacheVerified,
    calling_gone_what_another_board_has_is_caught => AbsenceInvented,
}

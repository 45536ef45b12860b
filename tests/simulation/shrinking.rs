//! A failed seed becomes a story that a person can read.

use tests::campaign::run;
use tests::mutant::Mutant;
use tests::recipe::Recipe;
use tests::shrink::{list, shrink};

fn judge(recipe: &Recipe) -> Option<String> {
    run(recipe.settings()).failure
}

/// The first five seeds at which the lie is caught, made short, the shortest first.
fn short(mutant: Mutant) -> Vec<Recipe> {
    let found = (1..300)
        .map(|seed| Recipe::of_mutant(seed, mutant))
        .filter(|recipe| judge(recipe).is_some())
        .take(5);
    let shrink = |long: Recipe| {
        let shrunk = shrink(long, judge).expect("it fails").recipe;
        assert_eq!(list(&shrunk).len(), shrunk.faults().len() + 1, "each is told in a line");
        shrunk
    };
    let mut short: Vec<Recipe> = found.map(shrink).collect();
    short.sort_by_key(|recipe| recipe.faults().len());
    short
}

#[test]
fn a_lie_is_told_in_a_few_faults_and_its_line_replays_it() {
    for mutant in [Mutant::FenceForgotten, Mutant::CacheTrusted, Mutant::CoverageForgotten] {
        let recipes = short(mutant);
        let left: Vec<usize> = recipes.iter().map(|recipe| recipe.faults().len()).collect();
        let drawn = recipes
            .iter()
            .map(|recipe| Recipe::of_mutant(recipe.seed, mutant).faults().len());
        let much = left.iter().zip(drawn).filter(|(left, drawn)| *left * 3 < *drawn).count();
        assert!(much >= 3, "{mutant:?}: {left:?} faults are left");
        // The odd tangled world stays long, where every fault shifts what the others meet.
        assert!(left.len() == 5 && left[2] <= 6, "{mutant:?}: {left:?} faults are left");
        for recipe in recipes {
            let (once, again) = (judge(&recipe), judge(&recipe));
            assert!(once.is_some(), "{} does not fail any more", recipe.arguments());
            assert_eq!(once, again);
            assert!(recipe.arguments().contains("--only"), "{}", recipe.arguments());
        }
    }
}

#[test]
fn what_does_not_fail_is_not_made_short() {
    assert!(shrink(Recipe::new(1, (3, 3)), judge).is_none());
}

#[test]
fn leaving_faults_out_leaves_the_others_as_they_are() {
    let whole = Recipe::new(7, (3, 3));
    let all = whole.faults();
    let some = Recipe { only: Some(all.iter().map(|fault| fault.number).step_by(3).collect()), ..whole.clone() };
    for fault in some.faults() {
        let same = all
            .iter()
            .find(|other| other.number == fault.number)
            .expect("it is in the list");
        assert_eq!((same.at, same.fault), (fault.at, fault.fault));
    }
    let shorter = Recipe { busy: Some(whole.settings().busy / 2), ..whole };
    for (one, other) in shorter.faults().iter().zip(&all) {
        assert_eq!((one.number, one.at, one.fault), (other.number, other.at, other.fault), "a prefix");
    }
}

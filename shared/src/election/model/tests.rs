//! The searches, and the broken rules that each must show. The small ones run with the unit tests; `cargo xtask
//! model-check` runs all and prints what it did.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use super::std;
use super::std::println;
use core::time::Duration;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use super::Search;
use crate::election::rules::Rule;
use crate::election::world::{board, witness};
use crate::ids::{VoterId, VoterSet};

fn boards(numbers: &[u8]) -> VoterSet {
    numbers.iter().map(|number| VoterId::from(board(*number))).collect()
}

fn and_witnesses(numbers: &[u8], witnesses: &[u8]) -> VoterSet {
    let all = boards(numbers);
    all.iter().chain(witnesses.iter().map(|number| witness(*number))).collect()
}

/// Two boards and a witness, nothing but ticks.
fn pair(name: &'static str) -> Search {
    Search {
        name,
        voters: and_witnesses(&[1, 2], &[1]),
        machines: and_witnesses(&[1, 2], &[1]),
        near: 2,
        far: 2,
        usual: 2,
        begins: 1,
        renewals: 0,
        crashes: 0,
        releases: 0,
        hand_overs: 0,
        waives: 0,
        obituaries: 0,
        wishes: Vec::new(),
        slow_disk: false,
        rule: None,
    }
}

fn three(name: &'static str) -> Search {
    Search { name, voters: boards(&[1, 2, 3]), machines: boards(&[1, 2, 3]), ..pair(name) }
}

/// Who is to vote in the end, by the wish of board 1: it alone, in two steps.
fn alone() -> Vec<(crate::ids::BoardId, VoterSet)> {
    vec![(board(1), boards(&[1]))]
}

/// Every whole search, the quick ones first.
fn searches() -> Vec<Search> {
    vec![
        Search { ..pair("pair + witness: a campaign each") },
        Search { releases: 1, ..pair("pair + witness: release") },
        Search { renewals: 1, ..pair("pair + witness: renewal") },
        Search { hand_overs: 1, ..pair("pair + witness: hand-over") },
        Search { crashes: 1, ..pair("pair + witness: crash") },
        Search { renewals: 1, waives: 1, far: 3, ..pair("pair + witness, longer lease of it: renewal, waive") },
        Search { crashes: 1, obituaries: 1, ..pair("pair + witness: crash, obituary") },
        Search { ..three("three boards: a campaign each") },
        Search { releases: 1, ..three("three boards: release") },
        Search { begins: 2, ..pair("pair + witness: two campaigns each") },
        Search { crashes: 1, ..three("three boards: crash") },
        Search { wishes: alone(), ..pair("pair + witness: voters change to board 1 alone") },
    ]
}

/// Each broken rule and a search that shows it; `true`: depth first, since its shortest story is long.
fn mutants() -> Vec<(Rule, Search, bool)> {
    let plain = pair("pair + witness");
    let crash = Search { crashes: 1, ..pair("pair + witness, crash") };
    let obituary = Search { crashes: 1, obituaries: 1, ..pair("pair + witness, crash, obituary") };
    let change = Search { wishes: alone(), renewals: 1, ..pair("pair + witness, change") };
    vec![
        (Rule::DriftMargin, plain.clone(), false),
        (Rule::Abstention, crash.clone(), false),
        (Rule::LeaseFromSend, plain.clone(), false),
        (Rule::OneGrant, plain.clone(), false),
        (Rule::Majority, plain.clone(), false),
        (Rule::StopThenRelease, Search { releases: 1, ..plain.clone() }, false),
        (Rule::StopThenHandOver, Search { hand_overs: 1, ..plain.clone() }, false),
        (Rule::CeilingKept, crash.clone(), false),
        (Rule::ObituaryOfItsLife, obituary, false),
        (Rule::StopThenWaive, Search { waives: 1, ..plain }, false),
        (Rule::LongestKept, crash, false),
        (Rule::ChangeByMajority, change.clone(), true),
        (Rule::OneChange, change.clone(), true),
        (Rule::NewestVoters, change, true),
    ]
}

/// What a search came to.
struct Found {
    states: usize,
    depth: usize,
    /// Properties that do not hold, and the length of the shortest story that shows it.
    broken: Vec<(&'static str, usize)>,
    /// What never happened though it should.
    missing: Vec<&'static str>,
    is_whole: bool,
}

/// Looks at every state, one thread, depth first: the stack stays small.
fn search_all(search: &Search, states: usize) -> Found {
    let failures = HasDiscoveries::AnyFailures;
    let checker = search.clone().checker().finish_when(failures).target_state_count(states).spawn_dfs().join();
    found(search, &checker, states)
}

/// Looks for the shortest story that breaks something.
fn search_shortest(search: &Search, states: usize) -> Found {
    let failures = HasDiscoveries::AnyFailures;
    let checker = search.clone().checker().finish_when(failures).target_state_count(states).spawn_bfs().join();
    found(search, &checker, states)
}

fn found(search: &Search, checker: &impl Checker<Search>, states: usize) -> Found {
    let mut broken = Vec::new();
    let mut missing = Vec::new();
    for property in search.properties() {
        let story = checker.discovery(property.name);
        match (&property.expectation, story) {
            (Expectation::Always | Expectation::Eventually, Some(story)) => {
                broken.push((property.name, story.into_vec().len() - 1));
            }
            (Expectation::Sometimes, None) => missing.push(property.name),
            (Expectation::Always | Expectation::Eventually, None) | (Expectation::Sometimes, Some(_)) => {}
        }
    }
    Found {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        broken,
        missing,
        is_whole: checker.state_count() < states,
    }
}

fn tell(search: &Search, states: usize) -> Found {
    let begun = super::std::time::Instant::now();
    let found = search_all(search, states);
    let result = match (found.broken.is_empty(), found.missing.is_empty(), found.is_whole) {
        (false, ..) => format!("BROKEN: {:?}", found.broken),
        (true, false, _) => format!("EMPTY: never {:?}", found.missing),
        (true, true, true) => String::from("holds, every state seen"),
        (true, true, false) => String::from("holds as far as seen"),
    };
    println!(
        "{:<56} {:>9} states, depth {:>2}, {:>3} s: {result}",
        search.name,
        found.states,
        found.depth,
        begun.elapsed().as_secs()
    );
    found
}

fn tell_mutant(rule: Rule, search: &Search, deep: bool, states: usize) -> bool {
    let broken = Search { rule: Some(rule), ..search.clone() };
    let found = if deep { search_all(&broken, states) } else { search_shortest(&broken, states) };
    match found.broken.iter().min_by_key(|(_, length)| *length) {
        Some((property, length)) => println!("{rule:?}: caught after {length} steps: {property} ({})", search.name),
        None => println!("{rule:?}: NOT CAUGHT in {} states of {}", found.states, search.name),
    }
    !found.broken.is_empty()
}

#[test]
fn every_state_of_the_small_searches_keeps_the_promises() {
    for search in searches().iter().take(4) {
        let found = tell(search, usize::MAX);
        assert!(found.broken.is_empty() && found.missing.is_empty() && found.is_whole, "{}", search.name);
    }
}

#[test]
fn each_broken_rule_of_the_core_is_caught_by_a_search() {
    let quick = mutants().into_iter().filter(|(_, _, deep)| !deep);
    let missed: Vec<Rule> = quick
        .filter(|(rule, search, deep)| !tell_mutant(*rule, search, *deep, 3_000_000))
        .map(|(rule, ..)| rule)
        .collect();
    assert_eq!(missed, []);
}

/// `cargo xtask model-check`
#[test]
#[ignore = "minutes: cargo xtask model-check runs it"]
fn the_whole_model_check() {
    let mut holds = true;
    for search in searches() {
        let found = tell(&search, 12_000_000);
        holds &= found.broken.is_empty() && found.missing.is_empty();
    }
    for (rule, search, deep) in mutants() {
        holds &= tell_mutant(rule, &search, deep, 6_000_000);
    }
    assert!(holds, "see the table above");
}

//! The searches, and the broken rules that each must show. The small ones run with the unit tests; `cargo xtask
//! model-check` runs all and prints what it did.

use super::std::println;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use super::{Letter, Search, Step};
use crate::election::rules::Rule;
use crate::election::world::{board, witness};
use crate::ids::{VoterId, VoterSet};
use crate::wire::election::ElectionMessage;

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
        disks: 0,
        is_new: false,
        longest: 0,
        releases: 0,
        hand_overs: 0,
        waives: 0,
        sounds: 0,
        obituaries: 0,
        wishes: Vec::new(),
        slow_disk: false,
        rule: None,
    }
}

fn three(name: &'static str) -> Search {
    Search { name, voters: boards(&[1, 2, 3]), machines: boards(&[1, 2, 3]), ..pair(name) }
}

/// A new site whose first leader leads, so that a board which forgets waits for two usual leases and not for the longest.
fn founded(name: &'static str) -> Search {
    Search { near: 1, far: 1, usual: 1, longest: 4, is_new: true, disks: 1, renewals: 2, ..three(name) }
}

/// Who is to vote in the end, by the wish of board 1: it alone, in two steps.
fn alone() -> Vec<(crate::ids::BoardId, VoterSet)> {
    vec![(board(1), boards(&[1]))]
}

/// The searches that see every state there is, the quick ones first.
fn whole() -> Vec<Search> {
    vec![
        Search { ..pair("pair + witness: a campaign each") },
        Search { releases: 1, ..pair("pair + witness: release") },
        Search { renewals: 1, ..pair("pair + witness: renewal") },
        Search { hand_overs: 1, ..pair("pair + witness: hand-over") },
        Search { crashes: 1, ..pair("pair + witness: crash") },
        Search {
            renewals: 1,
            waives: 1,
            far: 3,
            ..pair("pair + witness, longer lease of it: renewal, waive")
        },
        Search { ..three("three boards: a campaign each") },
    ]
}

/// The searches that see every state up to a depth.
fn deep() -> Vec<Search> {
    vec![
        Search { crashes: 1, obituaries: 1, ..pair("pair + witness: crash, obituary") },
        Search { begins: 2, ..pair("pair + witness: two campaigns each") },
        Search { crashes: 1, renewals: 1, releases: 1, ..pair("pair + witness: crash, renewal, release") },
        Search { releases: 1, ..three("three boards: release") },
        Search { crashes: 1, ..three("three boards: crash") },
        Search { disks: 1, renewals: 1, ..three("three boards: a disk replaced") },
        Search { disks: 1, renewals: 1, ..pair("pair + witness: a disk replaced") },
        Search { is_new: true, ..three("three boards, a new site") },
        Search { is_new: true, crashes: 1, ..three("three boards, a new site: crash") },
        founded("three boards, a new site: a disk replaced"),
        Search {
            voters: and_witnesses(&[1, 2], &[1]),
            machines: and_witnesses(&[1, 2], &[1]),
            ..founded("pair + witness, a new site: a disk replaced")
        },
        Search { wishes: alone(), ..pair("pair + witness: voters change to board 1 alone") },
        Search {
            wishes: alone(),
            crashes: 1,
            slow_disk: true,
            ..pair("the same with a crash and a slow disk")
        },
    ]
}

/// Each broken rule and a search that shows it.
fn mutants() -> Vec<(Rule, Search)> {
    let plain = pair("pair + witness");
    let crash = Search { crashes: 1, ..pair("pair + witness, crash") };
    let disk = Search { disks: 1, begins: 2, renewals: 1, ..three("three boards, a disk replaced") };
    let obituary = Search { crashes: 1, obituaries: 1, ..pair("pair + witness, crash, obituary") };
    vec![
        (Rule::DriftMargin, plain.clone()),
        (Rule::Abstention, crash.clone()),
        (Rule::LeaseFromSend, plain.clone()),
        (Rule::OneGrant, plain.clone()),
        (Rule::Majority, plain.clone()),
        (Rule::StopThenRelease, Search { releases: 1, ..plain.clone() }),
        (Rule::StopThenHandOver, Search { hand_overs: 1, ..plain.clone() }),
        (Rule::CeilingKept, crash.clone()),
        (Rule::ObituaryOfItsLife, obituary),
        (Rule::StopThenWaive, Search { waives: 1, ..plain }),
        (Rule::LongestKept, crash),
        (Rule::StrangerWaits, disk),
    ]
}

/// States that a search for a broken rule may take: the widest of them needs more than six millions.
const MUTANT_STATES: usize = 12_000_000;

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
    let checker = search
        .clone()
        .checker()
        .finish_when(failures)
        .target_state_count(states)
        .spawn_dfs()
        .join();
    found(search, &checker, states)
}

/// Looks for the shortest story that breaks something.
fn search_shortest(search: &Search, states: usize) -> Found {
    let failures = HasDiscoveries::AnyFailures;
    let checker = search
        .clone()
        .checker()
        .finish_when(failures)
        .target_state_count(states)
        .spawn_bfs()
        .join();
    found(search, &checker, states)
}

/// Steps of one walk: where steps lead back to where they came from, it would never end.
const WALK_MAX: usize = 100;

/// Walks at random, from the beginning to where nothing more can happen, until so many states were met: deeper than a search of
/// every state comes. What is broken is told with the length of the walk that broke it.
fn walk(search: &Search, states: usize, seed: u64) -> Found {
    let properties = search.properties();
    let mut found = Found { states: 0, depth: 0, broken: Vec::new(), missing: Vec::new(), is_whole: false };
    let mut seen = vec![false; properties.len()];
    // A linear congruential generator (Knuth, MMIX), of which the upper bits count.
    let mut chance = seed;
    let mut draw = |below: usize| {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(chance >> 33).unwrap() % below
    };
    while found.states < states && found.broken.is_empty() {
        let mut site = search.init_states().pop().unwrap();
        for depth in 0..=WALK_MAX {
            found.states += 1;
            found.depth = found.depth.max(depth);
            for (property, seen) in properties.iter().zip(&mut seen) {
                let holds = (property.condition)(search, &site);
                match property.expectation {
                    Expectation::Sometimes => *seen |= holds,
                    Expectation::Always | Expectation::Eventually if !holds => {
                        found.broken.push((property.name, depth))
                    }
                    Expectation::Always | Expectation::Eventually => {}
                }
            }
            let mut steps = Vec::new();
            search.actions(&site, &mut steps);
            let mut next = None;
            while next.is_none() && !steps.is_empty() {
                next = search.next_state(&site, steps.swap_remove(draw(steps.len())));
            }
            match next {
                Some(next) => site = next,
                None => break,
            }
        }
    }
    let is_missing =
        |(property, seen): &(&Property<Search>, bool)| matches!(property.expectation, Expectation::Sometimes) && !seen;
    found.missing = properties
        .iter()
        .zip(seen)
        .filter(is_missing)
        .map(|(property, _)| property.name)
        .collect();
    found
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

fn tell(search: &Search, states: usize, is_whole: bool) -> bool {
    let begun = super::std::time::Instant::now();
    let found = if is_whole {
        search_all(search, usize::MAX)
    } else {
        search_shortest(search, states)
    };
    let result = match (found.broken.is_empty(), found.missing.is_empty(), found.is_whole) {
        (false, ..) => format!("BROKEN: {:?}", found.broken),
        (true, false, true) => format!("EMPTY: never {:?}", found.missing),
        (true, _, true) => String::from("holds, every state seen"),
        (true, true, false) => String::from("holds, every state to this depth seen"),
        (true, false, false) => format!("holds, every state to this depth seen; not yet {:?}", found.missing),
    };
    println!(
        "{:<56} {:>9} states, depth {:>2}, {:>3} s: {result}",
        search.name,
        found.states,
        found.depth,
        begun.elapsed().as_secs()
    );
    found.broken.is_empty() && (!found.is_whole || found.missing.is_empty())
}

fn tell_walks(search: &Search, states: usize, seed: u64) -> bool {
    let found = walk(search, states, seed);
    let Found { states, depth, broken, missing, .. } = found;
    let result = match (broken.is_empty(), missing.is_empty()) {
        (false, _) => format!("BROKEN: {broken:?}"),
        (true, true) => String::from("holds"),
        (true, false) => format!("holds; never {missing:?}"),
    };
    println!("{:<56} {states:>9} states on walks, longest {depth:>3}: {result}", search.name);
    broken.is_empty()
}

fn tell_mutant(rule: Rule, search: &Search, states: usize) -> bool {
    let broken = Search { rule: Some(rule), ..search.clone() };
    let found = search_shortest(&broken, states);
    match found.broken.iter().min_by_key(|(_, length)| *length) {
        Some((property, length)) => println!("{rule:?}: caught after {length} steps: {property} ({})", search.name),
        None => println!("{rule:?}: NOT CAUGHT in {} states of {}", found.states, search.name),
    }
    !found.broken.is_empty()
}

#[test]
fn every_state_of_the_small_searches_keeps_the_promises() {
    for search in whole().iter().take(4) {
        assert!(tell(search, usize::MAX, true), "{}", search.name);
    }
}

#[test]
fn a_walk_sees_a_broken_rule() {
    let broken = Search { rule: Some(Rule::OneGrant), ..pair("pair + witness") };
    assert!(!walk(&broken, 1_000_000, 1).broken.is_empty());
}

#[test]
fn each_broken_rule_of_the_core_is_caught_by_a_search() {
    let missed: Vec<Rule> = mutants()
        .into_iter()
        .filter(|(rule, search)| !tell_mutant(*rule, search, MUTANT_STATES))
        .map(|(rule, _)| rule)
        .collect();
    assert_eq!(missed, []);
}

/// One line of a story: a kind of step, at which place or from whom to whom.
#[derive(Clone, Copy, Debug)]
enum Line {
    Begin(usize),
    Renew(usize),
    Wish(usize),
    Sound(usize),
    Release(usize),
    Replace(usize),
    Restart(usize),
    Tick(u8),
    /// Every letter from one to another.
    Post(u8, u8),
    /// Every trial from one to another.
    Trials(u8, u8),
}

/// Plays a story on the model: the two holders it ends with or meets, if it does. A line that is not possible is passed
/// over: with a rule kept much is not.
fn play(search: &Search, story: &[Line]) -> Option<usize> {
    let mut site = search.init_states().pop()?;
    for (at, line) in story.iter().enumerate() {
        let fits = |step: &Step| match (line, step) {
            (Line::Begin(who), Step::Begin(place))
            | (Line::Renew(who), Step::Renew(place))
            | (Line::Release(who), Step::Release(place))
            | (Line::Replace(who), Step::Replace(place))
            | (Line::Restart(who), Step::Restart(place))
            | (Line::Wish(who), Step::Wish(place, _))
            | (Line::Sound(who), Step::Sound(place, _)) => who == place,
            (Line::Trials(a, b), Step::Deliver(from, to, Letter::Election(ElectionMessage::Acquire(acquire)))) => {
                acquire.trial && (*a, *b) == (from.get(), to.get())
            }
            (Line::Tick(fast), Step::Tick(clocks)) => fast == clocks,
            (Line::Post(a, b), Step::Deliver(from, to, _)) => (*a, *b) == (from.get(), to.get()),
            _ => false,
        };
        let mut steps = Vec::new();
        search.actions(&site, &mut steps);
        for step in steps.into_iter().filter(fits) {
            site = search.next_state(&site, step).unwrap_or(site);
        }
        if site.holders().len() > 1 {
            return Some(at + 1);
        }
    }
    None
}

/// Broken rules of a change of voters and of a voter that forgets, whose shortest stories are too long to be searched for: each story is told twice,
/// with the rule broken and with it kept.
fn stories() -> Vec<(Rule, Search, Vec<Line>)> {
    use Line::{Begin, Post, Release, Renew, Replace, Restart, Sound, Tick, Trials, Wish};
    let change = Search { wishes: alone(), renewals: 3, begins: 2, ..pair("pair + witness, change to board 1 alone") };
    let leads = [Begin(0), Post(1, 65), Post(65, 1), Wish(0)];
    let other_leads = [Begin(1), Post(2, 65), Post(65, 2)];
    let stays = [Tick(0b100), Renew(0), Tick(0b100), Renew(0)];
    let stored = [Post(1, 65), Post(65, 1)].repeat(3);
    let four = Search {
        voters: and_witnesses(&[1, 2], &[1, 2]),
        machines: and_witnesses(&[1, 2], &[1, 2]),
        wishes: vec![(board(1), and_witnesses(&[1, 2], &[1])), (board(2), and_witnesses(&[2], &[1, 2]))],
        begins: 2,
        ..pair("two boards and two witnesses, two changes begun")
    };
    let over = [Tick(0b1111), Tick(0b1111)];
    let first = [Begin(0), Post(1, 65), Post(65, 1), Post(1, 66), Post(66, 1), Wish(0)];
    let second = [Begin(1), Post(2, 65), Post(65, 2), Post(2, 66), Post(66, 2), Wish(1)];
    let again = [Begin(0), Post(1, 65), Post(65, 1), Begin(1), Post(2, 66), Post(66, 2)];
    let five = Search {
        voters: and_witnesses(&[1, 2, 3], &[1, 2]),
        machines: and_witnesses(&[1, 2, 3], &[1, 2]),
        disks: 2,
        renewals: 8,
        sounds: 8,
        releases: 1,
        begins: 2,
        ..pair("three boards and two witnesses, disks replaced")
    };
    let by_three = [Begin(0), Post(1, 3), Post(3, 1), Post(1, 65), Post(65, 1)];
    // The second witness grants another board a higher term, and forgets it.
    let other_begins = [Begin(1), Post(2, 66), Post(66, 2)];
    let told = [Sound(0), Trials(1, 66), Post(66, 1), Sound(0), Trials(1, 66)];
    let released = [Release(0), Post(1, 3), Post(1, 65), Post(1, 66)];
    let other_wins = [Post(2, 3), Post(3, 2)];
    let wins_again = [Begin(0), Post(1, 65), Post(65, 1), Post(1, 66), Post(66, 1)];
    let forgotten = [Replace(4), Restart(4)];
    // The others carry the lease, until by the second witness's clock all that it may have forgotten has run out.
    let carried = [Tick(0b10000), Renew(0), Post(1, 3), Post(3, 1), Post(1, 65), Post(65, 1)].repeat(2);
    let late = [&by_three[..], &other_begins, &forgotten, &told, &released, &other_wins, &wins_again].concat();
    let said_before = [&by_three[..], &forgotten, &carried, &told, &carried, &other_begins].concat();
    let bound = [&said_before[..], &forgotten, &[Trials(1, 66)], &released, &other_wins, &wins_again].concat();
    vec![
        (Rule::VouchLate, five.clone(), late),
        (Rule::VouchBound, five, bound),
        (Rule::ChangeByMajority, change.clone(), [&leads[..], &stays, &other_leads].concat()),
        (Rule::OneChange, change.clone(), [&leads[..], &[Tick(7), Tick(7), Begin(0)], &other_leads].concat()),
        (Rule::NewestVoters, change, [&leads[..], &stored, &stays, &other_leads].concat()),
        (Rule::ChangeAfterOwn, four, [&first[..], &over, &second, &over, &again].concat()),
    ]
}

#[test]
fn each_broken_rule_of_a_long_story_is_caught_by_it() {
    for (rule, search, story) in stories() {
        let caught = play(&Search { rule: Some(rule), ..search.clone() }, &story);
        println!("{rule:?}: caught after {caught:?} lines of its story ({})", search.name);
        assert!(caught.is_some(), "{rule:?}");
        assert_eq!(play(&search, &story), None, "{rule:?} kept");
    }
}

/// `cargo xtask model-check`, its second part.
#[test]
#[ignore = "minutes: cargo xtask model-check runs it"]
fn the_whole_model_check_on_walks() {
    let searches = deep();
    let broken: Vec<&str> = searches
        .iter()
        .zip(1..)
        .filter(|(search, seed)| !tell_walks(search, 4_000_000, *seed))
        .map(|(search, _)| search.name)
        .collect();
    assert!(broken.is_empty(), "{broken:?}");
}

/// `cargo xtask model-check`
#[test]
#[ignore = "minutes: cargo xtask model-check runs it"]
fn the_whole_model_check() {
    let mut holds = true;
    for search in whole() {
        holds &= tell(&search, usize::MAX, true);
    }
    for search in deep() {
        holds &= tell(&search, 8_000_000, false);
    }
    for (rule, search) in mutants() {
        holds &= tell_mutant(rule, &search, MUTANT_STATES);
    }
    each_broken_rule_of_a_long_story_is_caught_by_it();
    assert!(holds, "see the table above");
}

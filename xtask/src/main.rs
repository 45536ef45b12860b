//! The project's chores, as one command: `cargo xtask test`, `sim`, `model-check`, `ci`, `help`. Uses the standard library alone,
//! so that it compiles in a second. Runs other programs and reports; it tests nothing itself.

mod steps;
mod summary;
mod tiers;
mod tools;
mod workshop;

use std::process::ExitCode;

use crate::steps::{Step, Stop};
use crate::tiers::{TIERS, Tier};
use crate::workshop::Workshop;

/// Exit code for a command line that makes no sense, as is the custom.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let workshop = Workshop::find();
    match words.first().map(String::as_str) {
        Some("test") => test(&workshop, &words[1..]),
        Some("sim") => sim(&workshop, &words[1..]),
        Some("race") => race(&workshop, &words[1..]),
        Some("model-check") => finish(tiers::model_check(&workshop)),
        Some("ci") => finish(Step::new("bash .ci/run").run(&workshop)),
        None | Some("help" | "-h" | "--help") => {
            help();
            ExitCode::SUCCESS
        }
        Some(other) => misuse(&format!("there is no command `{other}`")),
    }
}

/// Runs the tiers named by `--tier`, or all of them, in the table's order.
fn test(workshop: &Workshop, words: &[String]) -> ExitCode {
    let chosen = match choose(words) {
        Ok(chosen) => chosen,
        Err(why) => return misuse(&why),
    };
    let rows = chosen.into_iter().map(|tier| summary::time(workshop, tier)).collect();
    summary::print(rows)
}

/// The tiers that `words` ask for.
fn choose(words: &[String]) -> Result<Vec<&'static Tier>, String> {
    let mut names = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let name = match (word.strip_prefix("--tier="), word.as_str()) {
            (Some(name), _) => name,
            (None, "--tier") => rest.next().ok_or("`--tier` wants a name")?,
            (None, _) => return Err(format!("`test` does not know `{word}`")),
        };
        if !TIERS.iter().any(|tier| tier.name == name) {
            return Err(format!("there is no tier `{name}`"));
        }
        names.push(name);
    }
    let wanted = |tier: &&Tier| names.is_empty() || names.contains(&tier.name);
    Ok(TIERS.iter().filter(wanted).collect())
}

/// Builds the simulator and hands `words` to it as they are.
fn sim(workshop: &Workshop, words: &[String]) -> ExitCode {
    let built = tiers::build_release(workshop, "sim");
    finish(built.and_then(|()| Step::program(workshop.release("sim")).args(words).run(workshop)))
}

/// Builds the race and hands `words` to it as they are.
fn race(workshop: &Workshop, words: &[String]) -> ExitCode {
    let built = tiers::build_release(workshop, "race");
    finish(built.and_then(|()| Step::program(workshop.release("race")).args(words).run(workshop)))
}

fn finish(done: Result<(), Stop>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("{stop}");
            ExitCode::FAILURE
        }
    }
}

fn misuse(why: &str) -> ExitCode {
    eprintln!("xtask: {why}; `cargo xtask help` lists what there is");
    ExitCode::from(USAGE)
}

fn help() {
    println!(
        "The project's chores.

  cargo xtask test [--tier NAME]...   run every tier, or those named, and say what was left out
  cargo xtask sim --seeds N [--seed S] [--boards A..B]
                                      whole sites in simulation; a seed replays bit for bit
  cargo xtask race [--hours N] [--boards 3,16,64]
                                      membership against foca: detection, false verdicts, bytes
  cargo xtask model-check             every state of the election's core within bounds, and each rule broken once
  cargo xtask ci                      what a fresh clone runs: bash .ci/run
  cargo xtask help                    this text

Tiers, in the order in which they run:
"
    );
    for tier in TIERS {
        println!("  {:<10} {}", tier.name, tier.about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn no_choice_means_every_tier() {
        assert_eq!(choose(&[]).unwrap().len(), TIERS.len());
    }

    #[test]
    fn tiers_run_in_the_tables_order_whatever_was_typed() {
        let chosen = choose(&words("--tier sim --tier=fmt --tier sim")).unwrap();
        let names: Vec<_> = chosen.iter().map(|tier| tier.name).collect();
        assert_eq!(names, ["fmt", "sim"]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(choose(&words("--tier nosuch")).is_err());
        assert!(choose(&words("--tier")).is_err());
        assert!(choose(&words("fast")).is_err());
    }
}

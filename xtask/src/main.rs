//! The project's chores, as one command: `cargo xtask test`, `sim`, `crash-points`, `ci`, `help` and others. Uses the standard library alone,
//! so that it compiles in a second. Runs other programs and reports; it tests nothing itself.

mod steps;
mod summary;
mod tiers;
mod tools;
mod workshop;

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::steps::{Step, Stop};
use crate::tiers::{LONG_MAX, TIERS, Tier};
use crate::workshop::Workshop;

/// Exit code for a command line that makes no sense, as is the custom.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let workshop = Workshop::find();
    match words.first().map(String::as_str) {
        Some("test") => test(&workshop, &words[1..]),
        Some("sim") => by_hand(&workshop, "sim", &words[1..]),
        Some("race") => by_hand(&workshop, "race", &words[1..]),
        Some("crash-points") => by_hand(&workshop, "crash-points", &words[1..]),
        Some("powercut") => powercut(&workshop, &words[1..]),
        Some("kills") => kills(&workshop, &words[1..]),
        Some("fuzz") => finish(fuzz(&workshop, &words[1..])),
        Some("bench-journal") => bench_journal(&workshop, &words[1..]),
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

/// Builds `program` and hands `words` to it as they are; it takes as long as they ask for.
fn by_hand(workshop: &Workshop, program: &str, words: &[String]) -> ExitCode {
    let run = || {
        Step::program(workshop.release(program))
            .args(words)
            .within(LONG_MAX)
            .run(workshop)
    };
    finish(tiers::build_release(workshop, program).and_then(|()| run()))
}

/// Real power cuts, of emulated boards.
fn powercut(workshop: &Workshop, words: &[String]) -> ExitCode {
    match options(words, &["--cuts", "--seed", "--json"]) {
        Ok(said) => finish(tiers::powercut_with(workshop, &said)),
        Err(why) => misuse(&why),
    }
}

/// All boards of a site killed at once, again and again.
fn kills(workshop: &Workshop, words: &[String]) -> ExitCode {
    match options(words, &["--rounds"]) {
        Ok(said) => finish(tiers::kills(workshop, said.get("--rounds").map_or("100", String::as_str))),
        Err(why) => misuse(&why),
    }
}

/// Builds each fuzz target, or the one named, and lets it look for `--seconds`.
fn fuzz(workshop: &Workshop, words: &[String]) -> Result<(), Stop> {
    let said = options(words, &["--seconds", "--target"])
        .map_err(|what| Stop::Lacking { what, remedy: "cargo xtask fuzz [--seconds N] [--target NAME]".into() })?;
    tiers::fuzz(workshop, &said)
}

/// Words such as `--cuts 20`, each of `known` at most once.
fn options(words: &[String], known: &[&'static str]) -> Result<BTreeMap<&'static str, String>, String> {
    let mut said = BTreeMap::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let Some(name) = known.iter().find(|name| **name == word) else {
            return Err(format!("it does not know `{word}`, but {}", known.join(", ")));
        };
        let value = rest.next().ok_or_else(|| format!("`{name}` wants a value"))?;
        said.insert(*name, value.clone());
    }
    Ok(said)
}

/// Builds `roadstead` and the comparison with libraries, which gets `words` as they are and works below the build's folder.
fn bench_journal(workshop: &Workshop, words: &[String]) -> ExitCode {
    let run = || {
        tiers::build_release(workshop, "roadstead")?;
        tiers::build_release(workshop, "libraries")?;
        let (roadstead, dir) = (workshop.release("roadstead"), &workshop.target);
        Step::program(workshop.release("libraries"))
            .args(["--roadstead".into(), roadstead.to_string_lossy(), "--dir".into(), dir.to_string_lossy()])
            .args(words)
            .run(workshop)
    };
    finish(run())
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
  cargo xtask crash-points [--seeds N] [--start S] [--seed S] [--lie NAME]
                                      power cuts at every step of a journal's life, on simulated disks
  cargo xtask powercut [--cuts N] [--seed S] [--json FILE]
                                      power cuts of emulated boards under a real kernel
  cargo xtask kills [--rounds N]      all boards of a site killed at once, again and again
  cargo xtask fuzz [--seconds N] [--target NAME]
                                      coverage-guided, over whatever reads bytes from outside
  cargo xtask race [--hours N] [--boards 3,16,64]
                                      membership against foca: detection, false verdicts, bytes
  cargo xtask bench-journal [--json F] [--runs N]
                                      the journal beside SQLite, redb and fjall, on the same disk
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
    fn options_are_names_with_values() {
        let said = options(&words("--cuts 3 --json out"), &["--cuts", "--json"]).unwrap();
        assert_eq!((said["--cuts"].as_str(), said["--json"].as_str()), ("3", "out"));
        assert!(options(&words("--cuts"), &["--cuts"]).is_err());
        assert!(options(&words("--rounds 3"), &["--cuts"]).is_err());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(choose(&words("--tier nosuch")).is_err());
        assert!(choose(&words("--tier")).is_err());
        assert!(choose(&words("fast")).is_err());
    }
}

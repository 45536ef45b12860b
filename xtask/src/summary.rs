//! The end of a run: how long each tier took, what failed and how to repeat it, what was left out and why.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::steps::Stop;
use crate::tiers::Tier;
use crate::workshop::Workshop;

/// A tier that has run, or could not.
pub(crate) struct Row {
    name: &'static str,
    took: Duration,
    done: Result<Vec<String>, Stop>,
}

/// Runs `tier` and takes its time.
pub(crate) fn time(workshop: &Workshop, tier: &'static Tier) -> Row {
    println!("\n== {}: {}", tier.name, tier.about);
    let begun = Instant::now();
    let done = (tier.run)(workshop);
    Row { name: tier.name, took: begun.elapsed(), done }
}

/// Prints the table and the verdict. The last line reads `N passed, N failed` and counts tiers.
pub(crate) fn print(rows: Vec<Row>) -> ExitCode {
    println!("\n  tier        seconds  result");
    for row in &rows {
        println!("  {:<10} {:>8.1}  {}", row.name, row.took.as_secs_f64(), word(&row.done));
    }
    for Row { name, done, .. } in &rows {
        match done {
            Ok(notes) => notes.iter().for_each(|note| println!("\nLEFT OUT in {name}: {note}")),
            Err(stop @ Stop::Failed { .. }) => println!("\nFAILED {name}: {stop}"),
            Err(stop @ Stop::Lacking { .. }) => println!("\nSKIPPED {name}: {stop}"),
        }
    }
    let (passed, failed, skipped) = count(&rows);
    if skipped > 0 {
        println!("\n{skipped} of {} tiers did not run: see SKIPPED above", rows.len());
    }
    println!("\n{passed} passed, {failed} failed");
    // A run in which nothing ran proves nothing.
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn word(done: &Result<Vec<String>, Stop>) -> &'static str {
    match done {
        Ok(notes) if notes.is_empty() => "passed",
        Ok(_) => "passed, in part",
        Err(Stop::Failed { .. }) => "FAILED",
        Err(Stop::Lacking { .. }) => "SKIPPED",
    }
}

fn count(rows: &[Row]) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    for row in rows {
        match row.done {
            Ok(_) => counts.0 += 1,
            Err(Stop::Failed { .. }) => counts.1 += 1,
            Err(Stop::Lacking { .. }) => counts.2 += 1,
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(done: Result<Vec<String>, Stop>) -> Row {
        Row { name: "tier", took: Duration::ZERO, done }
    }

    fn failed() -> Stop {
        Stop::Failed { line: "false".into(), why: "exit status: 1".into() }
    }

    fn lacking() -> Stop {
        Stop::Lacking { what: "no compiler".into(), remedy: "install one".into() }
    }

    #[test]
    fn what_was_skipped_is_neither_passed_nor_failed() {
        let rows = [row(Ok(vec![])), row(Ok(vec!["half".into()])), row(Err(failed())), row(Err(lacking()))];
        assert_eq!(count(&rows), (2, 1, 1));
    }

    #[test]
    fn only_a_run_that_ran_and_did_not_fail_succeeds() {
        let code = |done| format!("{:?}", print(vec![row(done)]));
        let success = format!("{:?}", ExitCode::SUCCESS);
        assert_eq!(code(Ok(vec![])), success);
        assert_ne!(code(Err(failed())), success);
        assert_ne!(code(Err(lacking())), success);
    }
}

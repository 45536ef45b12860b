//! Running many seeds: each on its own, none knows of another. A failed seed is run again with its story kept.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::settings::Settings;
use crate::story::Telling;
use crate::tally::Tally;
use crate::world::World;

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was counted.
    pub tally: Tally,
    /// Digest of everything that happened.
    pub digest: u64,
    /// The broken promise, or the assertion that failed.
    pub failure: Option<String>,
    /// The last lines of the story, where it was kept.
    pub lines: Vec<String>,
}

/// Runs one world to its end.
pub fn run(settings: Settings) -> Outcome {
    let seed = settings.seed;
    let mut world = World::new(settings);
    let ended = catch_unwind(AssertUnwindSafe(|| world.finish()));
    let failure = match ended {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation.to_string()),
        Err(panic) => {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("an assertion");
            Some(format!("at {}: assertion failed: {said}", world.now()))
        }
    };
    Outcome {
        seed,
        tally: world.tally(),
        digest: world.story().digest(),
        failure,
        lines: world.story().lines().map(str::to_owned).collect(),
    }
}

/// Runs one world, and once more with its story kept where it failed.
pub fn run_and_explain(settings: Settings) -> Outcome {
    let first = run(settings.clone());
    if first.failure.is_none() || settings.telling != Telling::Silent {
        return first;
    }
    run(Settings { telling: Telling::Kept, ..settings })
}

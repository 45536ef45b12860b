//! All that names a world: a seed, and what is changed of what it draws. Written as arguments of the simulator, it is the
//! line that replays a bug.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use crate::dice::Dice;
use crate::faults::{Occurrence, occurrences};
use crate::mutant::Mutant;
use crate::settings::Settings;

/// A world by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The seed.
    pub seed: u64,
    /// Fewest and most boards.
    pub boards: (u8, u8),
    /// The lie that is told.
    pub mutant: Option<Mutant>,
    /// Which of the drawn faults strike, by their numbers; `None`: all.
    pub only: Option<BTreeSet<u32>>,
    /// How long publishers publish and faults happen, where not as drawn.
    pub busy: Option<Duration>,
    /// How many publishers there are, where not as drawn.
    pub publishers: Option<u8>,
    /// Whether the site has no duty.
    pub without_duties: bool,
}

impl Recipe {
    /// The world that `seed` draws.
    pub const fn new(seed: u64, boards: (u8, u8)) -> Self {
        Self {
            seed,
            boards,
            mutant: None,
            only: None,
            busy: None,
            publishers: None,
            without_duties: false,
        }
    }

    /// The world that `seed` draws for a lie.
    pub fn of_mutant(seed: u64, mutant: Mutant) -> Self {
        let boards = Settings::boards_for(mutant);
        Self { mutant: Some(mutant), ..Self::new(seed, (boards, boards)) }
    }

    /// What is run.
    pub fn settings(&self) -> Settings {
        let (fewest, most) = self.boards;
        let mut settings = match self.mutant {
            Some(mutant) => Settings::for_mutant(self.seed, mutant, most.min(Settings::boards_for(mutant))),
            None => Settings::drawn(self.seed, fewest, most),
        };
        settings.only.clone_from(&self.only);
        settings.busy = self.busy.unwrap_or(settings.busy);
        settings.publishers = self.publishers.unwrap_or(settings.publishers);
        if self.without_duties {
            settings.duties.clear();
        }
        settings
    }

    /// The faults that strike in it.
    pub fn faults(&self) -> Vec<Occurrence> {
        let settings = self.settings();
        let mut all = occurrences(&settings, &mut Dice::for_faults(self.seed));
        if let Some(only) = &self.only {
            all.retain(|occurrence| only.contains(&occurrence.number));
        }
        all
    }

    /// The arguments that name it, for the simulator's command line.
    pub fn arguments(&self) -> String {
        let mut line = format!("--seed {} --boards {}..{}", self.seed, self.boards.0, self.boards.1);
        let mut add = |text: std::fmt::Arguments<'_>| {
            line.push(' ');
            let _ = line.write_fmt(text);
        };
        if let Some(mutant) = self.mutant {
            add(format_args!("--mutant {}", mutant.name()));
        }
        if let Some(only) = &self.only {
            let numbers: Vec<String> = only.iter().map(u32::to_string).collect();
            let numbers = if numbers.is_empty() { "none".into() } else { numbers.join(",") };
            add(format_args!("--only {numbers}"));
        }
        if let Some(busy) = self.busy {
            add(format_args!("--busy-ms {}", busy.as_millis()));
        }
        if let Some(publishers) = self.publishers {
            add(format_args!("--publishers {publishers}"));
        }
        if self.without_duties {
            add(format_args!("--without-duties"));
        }
        line
    }
}

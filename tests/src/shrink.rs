//! Makes a failed seed short: as few faults, boards, publishers and duties and as little time as still break the same
//! promise. Delta debugging (Zeller and Hildebrandt 2002) over the numbered list of faults.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::recipe::Recipe;

/// Worlds that are tried for one failure at most.
const TRIES_MAX: u32 = 600;

/// A failed world made short.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The shortest world found.
    pub recipe: Recipe,
    /// Worlds tried for it.
    pub tries: u32,
}

struct Shrinker<J> {
    judge: J,
    kind: String,
    best: Recipe,
    tries: u32,
}

/// The shortest world found that fails as `recipe` does, where `judge` says how a world fails; `None` where this one
/// does not.
pub fn shrink(recipe: Recipe, mut judge: impl FnMut(&Recipe) -> Option<String>) -> Option<Shrunk> {
    let kind = kind(&judge(&recipe)?);
    let mut shrinker = Shrinker { judge, kind, best: recipe, tries: 1 };
    shrinker.fewer_faults();
    shrinker.less_time();
    shrinker.fewer_of_the_rest();
    // With fewer boards some faults may have become idle.
    shrinker.fewer_faults();
    Some(Shrunk { recipe: shrinker.best, tries: shrinker.tries })
}

impl<J: FnMut(&Recipe) -> Option<String>> Shrinker<J> {
    /// Keeps `recipe` where it fails in the same way.
    fn keeps(&mut self, recipe: Recipe) -> bool {
        if self.tries >= TRIES_MAX || recipe == self.best {
            return false;
        }
        self.tries += 1;
        let fails = (self.judge)(&recipe).is_some_and(|failure| kind(&failure) == self.kind);
        if fails {
            self.best = recipe;
        }
        fails
    }

    fn with_only(&self, numbers: &[u32]) -> Recipe {
        Recipe { only: Some(numbers.iter().copied().collect::<BTreeSet<u32>>()), ..self.best.clone() }
    }

    fn fewer_faults(&mut self) {
        let mut left: Vec<u32> = self.best.faults().iter().map(|occurrence| occurrence.number).collect();
        if self.keeps(self.with_only(&[])) {
            return;
        }
        let mut parts = 2;
        while left.len() > 1 {
            let size = left.len().div_ceil(parts);
            let chunks: Vec<Vec<u32>> = left.chunks(size).map(<[u32]>::to_vec).collect();
            let rest = |chunk: &Vec<u32>| left.iter().copied().filter(|number| !chunk.contains(number)).collect();
            let halves = if parts == 2 {
                Vec::new()
            } else {
                chunks.iter().map(rest).collect::<Vec<Vec<u32>>>()
            };
            let found = chunks.into_iter().chain(halves).find(|some| self.keeps(self.with_only(some)));
            match found {
                Some(some) => {
                    parts = if some.len() < size * 2 { 2 } else { (parts - 1).max(2) };
                    left = some;
                }
                None if parts >= left.len() => break,
                None => parts = (parts * 2).min(left.len()),
            }
        }
    }

    fn less_time(&mut self) {
        let whole = self.best.settings().busy;
        for eighths in 1..8 {
            if self.keeps(Recipe { busy: Some(whole * eighths / 8), ..self.best.clone() }) {
                return;
            }
        }
    }

    fn fewer_of_the_rest(&mut self) {
        let boards = self.best.settings().boards;
        for fewer in 1..boards {
            if self.keeps(Recipe { boards: (fewer, fewer), ..self.best.clone() }) {
                break;
            }
        }
        let publishers = self.best.settings().publishers;
        for fewer in 1..publishers {
            if self.keeps(Recipe { publishers: Some(fewer), ..self.best.clone() }) {
                break;
            }
        }
        self.keeps(Recipe { without_duties: true, ..self.best.clone() });
    }
}

/// What a failure says, without when and without which numbers.
fn kind(failure: &str) -> String {
    let what = failure.split_once(": ").map_or(failure, |(_, what)| what);
    what.chars().filter(|letter| !letter.is_ascii_digit()).take(60).collect()
}

/// A shrunk world's faults in order, for a person.
pub fn list(recipe: &Recipe) -> Vec<String> {
    let busy = recipe.settings().busy;
    let line = |occurrence: &crate::faults::Occurrence| {
        format!("  {:>3}. at {}: {}", occurrence.number, occurrence.at, occurrence.fault.words())
    };
    let mut lines: Vec<String> = recipe.faults().iter().map(line).collect();
    lines.push(format!("       busy for {:.1} s", Duration::as_secs_f64(&busy)));
    lines
}

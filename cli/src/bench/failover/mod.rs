//! `roadstead bench failover`: how long nobody acts after a fault, and that two never do. The site runs one exclusive duty
//! whose process beats to an observer outside the site; everything is read from the beats.
//!
//! ```text
//!              this process: observer ◀── unix datagrams, one every 0.5 ms ──┐
//!                    │ faults: signals, cables                               │
//!   ┌────────────────▼─────┐   ┌──────────────────────┐   ┌──────────────────┴───┐
//!   │ board 1, namespace 1 │   │ board 2, namespace 2 │   │ board 3, namespace 3 │ supervisor, node, bench-beat
//!   └──────────┬───────────┘   └──────────┬───────────┘   └──────────┬───────────┘
//!              └────────────── bridge, a namespace too ──────────────┘
//! ```
//!
//! Whatever it makes is named after this process, and gone when it ends, also by Ctrl-C or a panic.

pub(super) mod ask;
pub mod beat;
pub mod cases;
pub(super) mod dice;
pub mod emulator;
mod figures;
mod files;
pub mod judge;
pub mod lab;
mod leaders;
pub mod namespace;
mod netlink;
pub mod observer;
pub(crate) mod performer;
mod rivals;
pub mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::arguments::{Against, Failover};
use super::leftovers;
use crate::failure::Failure;
use cases::{Arena, Case};
use dice::Dice;
use figures::{Figures, Rival, Trial};
use rivals::{Cluster, Fault, Name};
use site::Site;

/// A run: what is asked, and what has been found so far.
struct Run<'a> {
    asked: &'a Failover,
    program: PathBuf,
    below: PathBuf,
    dice: Dice,
    trials: BTreeMap<Case, Vec<Trial>>,
    timing: BTreeMap<Arena, String>,
    rivals: BTreeMap<Name, [Vec<Trial>; 2]>,
    has_cables: bool,
    kept: usize,
    /// What could not be measured, in words.
    failed: Vec<String>,
    /// Blocks of trials that a rival did not bear.
    rivals_failed: BTreeMap<Name, u32>,
}

/// Runs the benchmark.
pub(super) async fn measure(asked: &Failover) -> Result<ExitCode, Failure> {
    leftovers::remove_on_panic();
    let names: BTreeSet<Name> = asked.against.iter().flat_map(|against| named(*against)).copied().collect();
    let cases: BTreeSet<Case> = asked.cases.iter().copied().collect();
    check(&names, &cases)?;
    if let Some(dir) = &asked.keep {
        crate::files::make_dir(dir, crate::files::Readers::All)?;
    }
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let mut run = Run {
        asked,
        program: std::env::current_exe().map_err(|error| Failure::new("cannot find this program").because(error))?,
        below: asked.dir.clone().unwrap_or_else(std::env::temp_dir),
        dice: Dice::new(since.as_secs() ^ u64::from(since.subsec_nanos())),
        trials: BTreeMap::new(),
        timing: BTreeMap::new(),
        rivals: BTreeMap::new(),
        has_cables: namespace::lacking().is_none(),
        kept: 0,
        failed: Vec::new(),
        rivals_failed: BTreeMap::new(),
    };
    let mut left = asked.trials;
    while left > 0 {
        let block = left.min(asked.block);
        left -= block;
        for arena in [Arena::Three, Arena::Fast, Arena::Pair] {
            let here: Vec<Case> = cases.iter().copied().filter(|case| case.arena() == arena).collect();
            if !here.is_empty() {
                let done = run.arena(arena, &here, block).await;
                run.note(done);
            }
        }
        for name in &names {
            let done = run.rival(*name, block).await;
            run.note_rival(*name, done);
        }
        eprintln!("{} of {} trials", asked.trials - left, asked.trials);
    }
    finish(&run)
}

/// Installs what is missing, and says what cannot be measured as its name says.
fn check(names: &BTreeSet<Name>, cases: &BTreeSet<Case>) -> Result<(), Failure> {
    if let Some(why) = namespace::lacking() {
        if !names.is_empty() {
            return Err(Failure::new(format!("rivals need network namespaces, and {why}")));
        }
        if cases.iter().any(|case| case.needs_cable()) {
            eprintln!(
                "NOTE: {why}, so there are no network namespaces and no cables to pull.\n\
                 NOTE: for a board that is gone, all of its processes are killed instead. That is a stand-in:\n\
                 NOTE: the kernel of the dead board still answers, and nothing that it had sent is lost."
            );
        }
    }
    names.iter().try_for_each(|name| name.install())
}

fn named(against: Against) -> &'static [Name] {
    match against {
        Against::Etcd => &[Name::Etcd],
        Against::EtcdTuned => &[Name::EtcdTuned],
        Against::Keepalived => &[Name::Keepalived, Name::Keepalived100],
    }
}

impl Run<'_> {
    /// A fresh site, one trial of each case that does not count, then `block` of each, in turn.
    async fn arena(&mut self, arena: Arena, cases: &[Case], block: u32) -> Result<(), Failure> {
        let mut site = Site::start(arena.wanted(&self.program, &self.below))?;
        self.timing.insert(arena, site.timing());
        for nth in 0..=block {
            for case in cases {
                let raw = self.raw(*case);
                let trial = cases::trial(*case, &mut site, &mut self.dice, raw).await?;
                let counts = nth > 0;
                self.say(case.as_str(), "roadstead", &trial, counts);
                // An overlap counts always.
                if counts || trial.overlaps > 0 {
                    self.trials.entry(*case).or_default().push(trial);
                }
            }
        }
        Ok(())
    }

    async fn rival(&mut self, name: Name, block: u32) -> Result<(), Failure> {
        let mut cluster = Cluster::start(name, &self.below).await?;
        for nth in 0..=block {
            for (at, fault) in [Fault::Cable, Fault::Kill].into_iter().enumerate() {
                let trial = cluster.trial(fault, &mut self.dice).await?;
                let what = if fault == Fault::Cable { "board gone" } else { "process killed" };
                self.say(what, name.as_str(), &trial, nth > 0);
                if nth > 0 {
                    self.rivals.entry(name).or_default()[at].push(trial);
                }
            }
        }
        Ok(())
    }

    /// A rival that nobody leads any more is a finding and no failure of the run, unless nothing of it was measured.
    fn note_rival(&mut self, name: Name, done: Result<(), Failure>) {
        let Err(failure) = done else { return };
        eprintln!("NOTE: {}: this block of its trials ends here: {failure}", name.as_str());
        *self.rivals_failed.entry(name).or_default() += 1;
        if !self.rivals.contains_key(&name) {
            self.failed
                .push(format!("nothing of {} was measured: {failure}", name.as_str()));
        }
    }

    /// What fails costs its own block: what else there is to measure is measured.
    fn note(&mut self, done: Result<(), Failure>) {
        if let Err(failure) = done {
            eprintln!("FAILED: {failure}");
            self.failed.push(failure.to_string());
        }
    }

    /// Where the beats of the next trial are kept, if they are.
    fn raw(&mut self, case: Case) -> Option<PathBuf> {
        self.kept += 1;
        let name = format!("{:04}-{}.csv", self.kept, case.as_str());
        self.asked.keep.as_ref().map(|dir| dir.join(name))
    }

    fn say(&self, what: &str, whose: &str, trial: &Trial, counts: bool) {
        if self.asked.verbose {
            let warm_up = if counts { "" } else { " (warming up)" };
            let took = trial.takeover.as_secs_f64() * 1000.0;
            eprintln!("{whose}: {what}: {took:.1} ms, {} overlaps{warm_up}", trial.overlaps);
        }
    }

    fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for (case, trials) in &self.trials {
            let is_stand_in = case.needs_cable() && !self.has_cables;
            let note = is_stand_in.then(|| "a stand-in: processes killed, no cable pulled".to_owned());
            let timing = self.timing.get(&case.arena()).cloned().unwrap_or_default();
            figures
                .cases
                .insert(case.as_str().to_owned(), figures::Case::of(trials, note, timing));
        }
        for (name, [cable, kill]) in &self.rivals {
            let case =
                |trials| figures::Case { overlaps: None, ..figures::Case::of(trials, None, name.timing().to_owned()) };
            figures
                .rivals
                .insert(name.as_str().to_owned(), Rival { board_gone: case(cable), process_killed: case(kill) });
        }
        figures
    }
}

/// Writes the figures. Two holders at once is a failure, whatever else was asked.
fn finish(run: &Run<'_>) -> Result<ExitCode, Failure> {
    let figures = run.figures();
    if let Some(path) = &run.asked.json {
        write_json(path, &figures)?;
    }
    crate::say(&figures.table())?;
    let overlaps: usize = figures.cases.values().filter_map(|case| case.overlaps).sum();
    if overlaps > 0 {
        return Err(Failure::new(format!("two boards acted at once in {overlaps} trials")));
    }
    for (name, blocks) in &run.rivals_failed {
        eprintln!("NOTE: {blocks} blocks of {}'s trials ended early; its figures are of what it bore", name.as_str());
    }
    if let Some(first) = run.failed.first() {
        let what = format!("{} blocks of trials failed", run.failed.len());
        return Err(
            Failure::new(what).because(std::io::Error::other(first.lines().next().unwrap_or_default().to_owned()))
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn write_json(path: &Path, figures: &Figures) -> Result<(), Failure> {
    let cannot = |error| Failure::new(format!("cannot write {}", path.display())).because(error);
    let text = serde_json::to_string(figures).map_err(cannot)?;
    crate::files::write(path, format!("{text}\n").as_bytes(), crate::files::Readers::All)
}

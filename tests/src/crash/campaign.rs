//! Judges workloads: which moments, which ways in which power goes there, what rots afterwards, and what came of it. Owns
//! the counts that the summary prints and the story of a broken promise.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use crate::crash::judge::{Board, Moment, drain, judge};
use crate::crash::mains::Frame;
use crate::crash::medium::{Medium, PowerCut};
use crate::crash::rot::{Kind, Rot, strike};
use crate::crash::site::Piece;
use crate::crash::workload::{Recipe, Workload};
use crate::dice::Dice;

/// Ways in which power can go that are all tried: six things of which each is kept or lost.
const WAYS_MAX: usize = 64;
/// Ways drawn where there are more, and beside all of them: these also tear pages between sectors.
const WAYS_DRAWN: usize = 6;
/// Moments of a workload that is not small.
const MOMENTS: usize = 24;
/// Steps before a broken promise that its story tells.
const STORY_STEPS: usize = 30;

/// What was done, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Workloads.
    pub workloads: u64,
    /// Acknowledgements in them.
    pub acknowledged: u64,
    /// Starts of boards in them.
    pub starts: u64,
    /// Moments at which power was cut.
    pub moments: u64,
    /// Of these, moments at which every way was tried.
    pub exhausted: u64,
    /// Cuts: moments times ways.
    pub cuts: u64,
    /// Cuts of which a start was cut short again.
    pub again: u64,
    /// Starts of boards that were judged.
    pub recoveries: u64,
    /// Sites that brought up everything afterwards.
    pub drains: u64,
    /// Troubles that struck, by name.
    pub troubles: BTreeMap<&'static str, u64>,
    /// Rot, by kind.
    pub rots: BTreeMap<&'static str, RotCounts>,
}

/// What came of one kind of rot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RotCounts {
    /// Times that it struck.
    pub struck: u64,
    /// Boards that lost something by it.
    pub lost: u64,
    /// Of these, boards that told of it.
    pub told: u64,
    /// Boards that lost a block, have a later one of the same life, and told of nothing.
    pub silent: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.workloads += other.workloads;
        self.acknowledged += other.acknowledged;
        self.starts += other.starts;
        self.moments += other.moments;
        self.exhausted += other.exhausted;
        self.cuts += other.cuts;
        self.again += other.again;
        self.recoveries += other.recoveries;
        self.drains += other.drains;
        for (name, count) in other.troubles {
            *self.troubles.entry(name).or_default() += count;
        }
        for (name, rot) in other.rots {
            let mine = self.rots.entry(name).or_default();
            mine.struck += rot.struck;
            mine.lost += rot.lost;
            mine.told += rot.told;
            mine.silent += rot.silent;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} workloads with {} acknowledgements and {} starts of boards",
            self.workloads, self.acknowledged, self.starts
        )?;
        writeln!(
            f,
            "{} power cuts at {} moments ({} of them in every way), {} of a start that followed one",
            self.cuts, self.moments, self.exhausted, self.again
        )?;
        writeln!(f, "{} recoveries judged, {} sites drained to the region", self.recoveries, self.drains)?;
        let troubles: Vec<String> = self.troubles.iter().map(|(name, count)| format!("{count} {name}")).collect();
        writeln!(f, "troubles on the way: {}", troubles.join(", "))?;
        for (name, RotCounts { struck, lost, told, silent }) in &self.rots {
            let boards = format!("{lost} boards lost something by it, {told} of them told");
            writeln!(f, "{name}: {struck} times, {boards}, {silent} could have and did not")?;
        }
        Ok(())
    }
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Of which workload.
    pub recipe: Recipe,
    /// What.
    pub what: String,
    /// How it came about, line by line.
    pub story: Vec<String>,
}

/// What came of one workload.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was done.
    pub counts: Counts,
    /// The first broken promise.
    pub finding: Option<Finding>,
}

thread_local! {
    static UNDER_WAY: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Seed and step that this thread judges now: for whoever reports a panic.
pub fn under_way() -> (u64, u64) {
    UNDER_WAY.get()
}

/// Runs and judges one workload.
pub fn examine(recipe: Recipe) -> Outcome {
    UNDER_WAY.set((recipe.seed, 0));
    let workload = recipe.run();
    let mut counts = Counts { workloads: 1, starts: workload.starts, ..Counts::default() };
    counts.acknowledged = workload.ledger.promised(u64::MAX).count() as u64;
    for trouble in &workload.struck {
        *counts.troubles.entry(trouble.name()).or_default() += 1;
    }
    if let Some(what) = &workload.ledger.broken {
        let finding = Finding { recipe, what: what.clone(), story: story(&workload, workload.tape.len(), &[]) };
        return Outcome { counts, finding: Some(finding) };
    }
    let mut dice = recipe.judging();
    let mut bench = Bench { recipe, workload: &workload, counts };
    let finding = bench.moments(&mut dice).err();
    Outcome { counts: bench.counts, finding }
}

/// The last steps before frame `at`, and `more`.
fn story(workload: &Workload, at: usize, more: &[String]) -> Vec<String> {
    let shape = format!("{:?}", workload.shape);
    let from = at.saturating_sub(STORY_STEPS);
    let steps = workload.tape[from..at].iter();
    let lines = steps.map(|frame| format!("step {}: board {}: {}", frame.number, frame.board + 1, frame.what));
    std::iter::once(shape).chain(lines).chain(more.iter().cloned()).collect()
}

struct Bench<'a> {
    recipe: Recipe,
    workload: &'a Workload,
    counts: Counts,
}

impl Bench<'_> {
    fn moments(&mut self, dice: &mut Dice) -> Result<(), Finding> {
        let frames = self.workload.tape.len();
        let chosen: Vec<usize> = if self.recipe.small {
            (0..frames).collect()
        } else {
            (0..MOMENTS)
                .map(|_| usize::try_from(dice.below(frames as u64)).unwrap_or(0))
                .collect()
        };
        for (nth, at) in chosen.into_iter().enumerate() {
            self.moment(at, nth, dice)?;
        }
        Ok(())
    }

    fn moment(&mut self, at: usize, nth: usize, dice: &mut Dice) -> Result<(), Finding> {
        let frame = &self.workload.tape[at];
        UNDER_WAY.set((self.recipe.seed, frame.number));
        self.counts.moments += 1;
        let cut = PowerCut::new(&frame.media);
        let ways = cut.ways(WAYS_MAX).filter(|_| self.recipe.small);
        self.counts.exhausted += u64::from(ways.is_some());
        for way in 0..ways.unwrap_or(0) {
            self.cut(at, &cut.nth(way), &format!("way {way} of {}", ways.unwrap_or(0)), dice)?;
        }
        let drawn = if self.recipe.small { WAYS_DRAWN } else { 2 };
        for draw in 0..drawn {
            let after = cut.drawn(dice);
            let boards = self.cut(at, &after, "drawn", dice)?;
            if draw == 0 {
                self.cut_again(at, &boards, dice)?;
                self.rot(at, &after, &boards, dice)?;
                // A drain takes as long as some hundred recoveries.
                if nth.is_multiple_of(12) {
                    self.drain(at, &after, &[], dice)?;
                }
            }
        }
        Ok(())
    }

    fn at(&self, at: usize) -> Moment<'_> {
        Moment {
            shape: self.workload.shape,
            ledger: &self.workload.ledger,
            number: self.workload.tape[at].number,
            lie: self.recipe.lie,
        }
    }

    fn broken(&self, at: usize, what: String, how: &[String]) -> Finding {
        let frame = &self.workload.tape[at];
        let cut = format!("power is cut before step {}: board {}: {}", frame.number, frame.board + 1, frame.what);
        let more: Vec<String> = std::iter::once(cut).chain(how.iter().cloned()).collect();
        Finding { recipe: self.recipe, what, story: story(self.workload, at, &more) }
    }

    fn cut(&mut self, at: usize, media: &[Medium], how: &str, dice: &mut Dice) -> Result<Vec<Board>, Finding> {
        self.counts.cuts += 1;
        self.counts.recoveries += media.len() as u64;
        judge(self.at(at), media, &[], dice).map_err(|what| self.broken(at, what, &[how.to_owned()]))
    }

    /// Power goes again while a board starts.
    fn cut_again(&mut self, at: usize, boards: &[Board], dice: &mut Dice) -> Result<(), Finding> {
        let board = usize::try_from(dice.below(boards.len() as u64)).unwrap_or(0);
        let tape: &Vec<Frame> = &boards[board].tape;
        let Some(frame) = tape.get(usize::try_from(dice.below(tape.len() as u64)).unwrap_or(0)) else {
            return Ok(());
        };
        self.counts.again += 1;
        let after = PowerCut::new(&frame.media).drawn(dice);
        let how = format!("and again while board {} starts, before: {}", board + 1, frame.what);
        self.cut(at, &after, &how, dice).map(|_| ())
    }

    /// Something rots on fewer boards than there are copies, or on the only one.
    fn rot(&mut self, at: usize, media: &[Medium], boards: &[Board], dice: &mut Dice) -> Result<(), Finding> {
        let board = usize::try_from(dice.below(media.len() as u64)).unwrap_or(0);
        let earlier = usize::try_from(dice.below(at as u64 + 1)).unwrap_or(0);
        let older = PowerCut::new(&self.workload.tape[earlier].media).nth(0);
        let Some(kind) = dice.pick(&Kind::ALL) else { return Ok(()) };
        let mut rotten = media.to_vec();
        let target = (board, &mut rotten[board]);
        let Some(rot) = strike(kind, target, &boards[board].pieces, &older[board], dice) else {
            return Ok(());
        };
        let how = [format!("then on board {}: {}", board + 1, rot.what)];
        self.counts.recoveries += media.len() as u64;
        let judged = judge(self.at(at), &rotten, std::slice::from_ref(&rot), dice);
        let judged = judged.map_err(|what| self.broken(at, what, &how))?;
        let count = self.counts.rots.entry(kind.name()).or_default();
        let (before, after) = (&boards[board].pieces, &judged[board]);
        count.struck += 1;
        if after.lost > 0 {
            count.lost += 1;
            count.told += u64::from(after.told);
            count.silent += u64::from(!after.told && has_later_block(before, &after.pieces));
        }
        let spread = self.workload.shape.copies > 1 && !judged.iter().any(|board| board.refused);
        if spread && dice.below(8) == 0 {
            self.drain(at, &rotten, std::slice::from_ref(&rot), dice)?;
        }
        Ok(())
    }

    fn drain(&mut self, at: usize, media: &[Medium], rots: &[Rot], dice: &mut Dice) -> Result<(), Finding> {
        self.counts.drains += 1;
        let how: Vec<String> = rots
            .iter()
            .map(|rot| format!("then on board {}: {}", rot.board + 1, rot.what))
            .collect();
        drain(self.at(at), media, dice).map_err(|what| self.broken(at, what, &how))
    }
}

/// Whether a block of `before` is gone of whose life `after` has a later one: what says that it was there.
fn has_later_block(before: &[Piece], after: &[Piece]) -> bool {
    let place = |piece: &Piece| (piece.segment, piece.offset);
    let gone = before
        .iter()
        .filter(|piece| !after.iter().any(|left| place(left) == place(piece)));
    gone.into_iter().any(|lost| {
        let later = |left: &&Piece| left.epoch == lost.epoch && place(left) > place(lost);
        after.iter().any(|left| later(&left))
    })
}

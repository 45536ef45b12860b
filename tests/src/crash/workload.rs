//! Workloads by seed: what a site is like, what is published, which processes end and which power cuts and troubles come
//! on the way. A seed decides everything: it is the bug report.

use std::time::Duration;

use crate::crash::ledger::Ledger;
use crate::crash::lie::Lie;
use crate::crash::mains::{Frame, Shared, Trouble};
use crate::crash::medium::{Medium, PowerCut};
use crate::crash::site::{Shape, Site};
use crate::dice::Dice;
use crate::mark::{MARK_BYTES, Mark};

/// Pages of a segment, fewest and most: a handful of blocks fill one.
const SEGMENT_PAGES: (u64, u64) = (24, 64);
/// Bytes of a record and its run beyond the payload, at most.
const RECORD_OVERHEAD: u64 = 200;
/// What is published is answered within so long of the site's time, where it can be.
const ANSWERS_MAX: Duration = Duration::from_secs(8);

/// Which workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Decides everything.
    pub seed: u64,
    /// One board and few readings, small enough that every way in which power can go is tried.
    pub small: bool,
    /// Break this rule.
    pub lie: Option<Lie>,
}

/// A workload that has run.
#[derive(Debug)]
pub struct Workload {
    /// What the site was like.
    pub shape: Shape,
    /// What happened.
    pub ledger: Ledger,
    /// Every disk before each step, and after the last.
    pub tape: Vec<Frame>,
    /// Troubles that struck.
    pub struck: Vec<Trouble>,
    /// Starts of boards.
    pub starts: u64,
}

impl Recipe {
    /// Chance for what happens.
    pub const fn dice(&self) -> Dice {
        Dice::new(self.seed)
    }

    /// Chance for how it is judged: another stream, so that what is judged does not shift what happens.
    pub const fn judging(&self) -> Dice {
        Dice::new(self.seed ^ 0x4a55_4447_4521)
    }

    fn shape(&self, dice: &mut Dice) -> Shape {
        let boards = match self.small {
            true => 1,
            false => dice.pick(&[1, 2, 2, 3]).unwrap_or(2),
        };
        let pages = dice.between(SEGMENT_PAGES.0, SEGMENT_PAGES.1);
        Shape {
            boards,
            copies: boards.min(2),
            segment_bytes: u32::try_from(pages * 4096).unwrap_or(u32::MAX),
            segments_max: u32::try_from(dice.between(3, 6)).unwrap_or(3),
            region: dice.coin(),
        }
    }

    /// Runs the workload.
    pub fn run(&self) -> Workload {
        let mut dice = self.dice();
        let shape = self.shape(&mut dice);
        let media = vec![Medium::default(); shape.boards];
        let mains = Shared::new(media, self.lie, dice.fork());
        mains.record();
        let site = Site::new(shape, mains.clone(), Ledger::default(), self.lie, dice.fork());
        let mut course = Course { recipe: *self, shape, mains, site, dice, published: 0 };
        course.run();
        let Course { mains, site, .. } = course;
        Workload {
            shape,
            starts: site.starts,
            ledger: site.ledger,
            struck: mains.struck(),
            tape: mains.tape(),
        }
    }
}

/// A workload on its way.
struct Course {
    recipe: Recipe,
    shape: Shape,
    mains: Shared,
    site: Site,
    dice: Dice,
    published: u32,
}

impl Course {
    fn run(&mut self) {
        self.site.start_all();
        self.site.run_until(Duration::from_millis(100), |_| false);
        let (bursts, most) = match self.recipe.small {
            true => (self.dice.between(2, 6), 2_000),
            false => (self.dice.between(4, 40), self.dice.pick(&[100, 400, 2_000, 9_000]).unwrap_or(100)),
        };
        for _ in 0..bursts {
            self.something_happens();
            self.burst(most);
            for _ in 0..self.dice.below(16) {
                if !self.site.step() {
                    self.site.wait();
                }
            }
            if self.site.ledger.broken.is_some() {
                return;
            }
        }
        self.site.run_until(ANSWERS_MAX, |site| site.waiting() == 0);
    }

    fn burst(&mut self, most: u64) {
        let board = usize::try_from(self.dice.below(self.shape.boards as u64)).unwrap_or(0);
        let count = self.dice.between(1, 5);
        // What waits may become one block, which must fit a segment: with the sizes that boards are configured with
        // it always does.
        if (self.site.waiting() as u64 + count) * (most + RECORD_OVERHEAD) * 3 > u64::from(self.shape.segment_bytes) {
            return;
        }
        let marks: Vec<(Mark, usize)> = (0..count)
            .map(|_| {
                self.published += 1;
                let bytes = MARK_BYTES + usize::try_from(self.dice.below(most)).unwrap_or(0);
                (Mark { publisher: 1, number: self.published }, bytes)
            })
            .collect();
        self.site.publish(board, &marks);
    }

    /// Before a burst: mostly nothing; else the end of a process, of power, or trouble to come.
    fn something_happens(&mut self) {
        let rare = if self.recipe.small { 12 } else { 24 };
        match self.dice.below(rare) {
            0 => {
                let board = usize::try_from(self.dice.below(self.shape.boards as u64)).unwrap_or(0);
                self.site.end_process(board);
                self.site.start_all();
            }
            1 => {
                let media = self.mains.media();
                let after = PowerCut::new(&media).drawn(&mut self.dice);
                self.site.end_all();
                self.mains.replace(after);
                self.site.start_all();
            }
            2 => {
                let trouble = self.trouble();
                self.mains.plan(self.mains.steps() + self.dice.below(24), trouble);
            }
            _ => {}
        }
    }

    fn trouble(&mut self) -> Trouble {
        match self.dice.below(4) {
            0 => Trouble::Short,
            1 => Trouble::Full { lasting: self.dice.between(1, 12) },
            _ => Trouble::Io,
        }
    }
}

//! Sets what a site says of itself against what is stored of it: the reckoning that says whether it adds up. The API and
//! the dashboard show it; nothing decides by it.

use std::collections::BTreeMap;

use shared::ids::BoardId;
use shared::wire::uplink::BoardReport;

use crate::picture::SitePicture;
use crate::store::read::{SiteCounts, StreamCounts};

/// What the store has of something. Counts run for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Readings that are rows, or were until they expired.
    pub(crate) rows: u64,
    /// Readings that were rows already.
    pub(crate) duplicates: u64,
    /// Gap records.
    pub(crate) gaps: u64,
    /// Readings and gap records that are in the archive.
    pub(crate) archived: u64,
    /// Readings and gap records that were rows until their time was over.
    pub(crate) expired: u64,
    /// Sequences that are or were stored, in whatever way.
    covered: u64,
    /// Records that gap records declared lost, and that are not stored.
    pub(crate) shed: u64,
    /// Sequences neither stored nor declared lost: on their way, or missing.
    pub(crate) holes: u64,
}

/// One board. What it says counts from its last start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoardLedger<'p> {
    pub(crate) board: BoardId,
    /// What the site's leader last told of it.
    pub(crate) told: Option<&'p BoardReport>,
    pub(crate) kept: Kept,
    /// Whether all that it has committed since its start is stored, declared lost or in a journal.
    pub(crate) adds_up: bool,
}

/// One site.
#[derive(Clone, Debug)]
pub(crate) struct Ledger<'p> {
    pub(crate) accepted: u64,
    pub(crate) committed: u64,
    pub(crate) degraded: u64,
    pub(crate) unacknowledged: u64,
    pub(crate) backlog: u64,
    pub(crate) kept: Kept,
    /// By number: boards that something is told or stored of.
    pub(crate) boards: Vec<BoardLedger<'p>>,
    /// Whether every board adds up, and no more is missing than is on its way.
    pub(crate) adds_up: bool,
}

impl Kept {
    fn add(mut self, counts: &StreamCounts) -> Self {
        self.rows += counts.rows;
        self.duplicates += counts.duplicates;
        self.gaps += counts.gaps;
        self.archived += counts.archived;
        self.expired += counts.expired;
        self.covered += counts.covered;
        self.shed += counts.shed;
        self.holes += counts.holes;
        self
    }

    fn of<'c>(counts: impl Iterator<Item = &'c StreamCounts>) -> Self {
        counts.fold(Self::default(), Self::add)
    }
}

/// The reckoning of a site. `picture` is to be of an earlier moment than `counts`: what is stored afterwards can only be more
/// than what it reckons with.
pub(crate) fn reckon<'p>(picture: &'p SitePicture, counts: &SiteCounts) -> Ledger<'p> {
    let told: &[BoardReport] = picture.told.as_ref().map_or(&[], |told| &told.report.boards);
    let sum = |figure: fn(&BoardReport) -> u64| told.iter().map(figure).fold(0, u64::saturating_add);
    let kept = Kept::of(counts.streams.iter());
    let backlog = sum(|line| line.backlog);
    let mut boards: BTreeMap<BoardId, Option<&BoardReport>> =
        counts.streams.iter().map(|counts| (counts.stream.origin.board, None)).collect();
    boards.extend(told.iter().map(|line| (line.board, Some(line))));
    let boards: Vec<BoardLedger<'_>> = boards
        .into_iter()
        .map(|(board, told)| reckon_board(board, told, counts))
        .collect();
    let adds_up = boards.iter().all(|board| board.adds_up) && kept.holes <= backlog;
    Ledger {
        accepted: sum(|line| line.accepted),
        committed: sum(|line| line.committed),
        degraded: sum(|line| line.degraded),
        unacknowledged: sum(|line| line.unacknowledged),
        backlog,
        kept,
        boards,
        adds_up,
    }
}

fn reckon_board<'p>(board: BoardId, told: Option<&'p BoardReport>, counts: &SiteCounts) -> BoardLedger<'p> {
    let of_board = || counts.streams.iter().filter(move |counts| counts.stream.origin.board == board);
    // The board's counters run from its start, and so does its epoch: these two can be set against each other. What it
    // has committed is stored, declared lost, or still in its journal.
    let adds_up = told.is_none_or(|line| {
        let kept = Kept::of(of_board().filter(|counts| counts.stream.origin.epoch == line.epoch));
        line.committed <= kept.covered.saturating_add(kept.shed).saturating_add(line.backlog)
    });
    BoardLedger { board, told, kept: Kept::of(of_board()), adds_up }
}

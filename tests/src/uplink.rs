//! A board's way to the region as data: both directions, and the session on it, if one stands. Moved by `uplinks.rs`.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::hub::SessionId;
use shared::wire::uplink::Hello;

use crate::beside::Beside;
use crate::clock::Moment;
use crate::mesh::Path;
use crate::settings::Weather;

/// Streams of a session on which a backlog comes, as in `link`.
pub(crate) const BACKLOG_STREAMS: usize = 4;

/// A session as the board's shell sees it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) session: SessionId,
    /// The board has been told that it stands.
    pub(crate) told: bool,
    /// Nothing arrives at the region, or at the board, before: order is kept.
    pub(crate) at_region: Moment,
    pub(crate) at_board: Moment,
    /// Nothing of the backlog arrives before, on each of its streams, which take turns.
    pub(crate) backlog_at: [Moment; BACKLOG_STREAMS],
    pub(crate) turn: usize,
    /// The hello is on its way: the region looks at nothing before it.
    pub(crate) has_said_hello: bool,
    /// Stuck behind a cut, on the way to the region, with whether it is of the backlog, and to the board.
    pub(crate) to_region: VecDeque<(Bytes, bool)>,
    pub(crate) to_board: VecDeque<Bytes>,
}

/// The way of one board to the region.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// Out, to the region, and back.
    pub(crate) out: Path,
    pub(crate) back: Path,
    /// What the node asked to be said on each session; `None` where it wants none.
    pub(crate) wanted: Option<Hello>,
    pub(crate) line: Option<Line>,
    /// Counts dials: tries of an earlier one are void.
    pub(crate) attempt: u64,
    /// The hello of an earlier leadership, which somebody on the way may have kept.
    pub(crate) earlier: Option<Hello>,
    /// Since when the better region has not been there, as far as this board has tried.
    pub(crate) home_lost: Option<Moment>,
    /// Since when it is there again, while the session is with the one that stands by.
    pub(crate) home_seen: Option<Moment>,
    /// The second path, where there is one.
    pub(crate) beside: Option<Beside>,
}

impl Uplink {
    pub(crate) const fn new(weather: Weather, beside: Option<Beside>) -> Self {
        Self {
            out: Path::new(weather),
            back: Path::new(weather),
            wanted: None,
            line: None,
            attempt: 0,
            earlier: None,
            home_lost: None,
            home_seen: None,
            beside,
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.out.is_open() && self.back.is_open()
    }
}

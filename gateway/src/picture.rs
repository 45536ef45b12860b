//! How the sites are, as people are shown it: who speaks for each, and what it last told of itself. The owner task
//! writes it, the API reads it; nothing decides by it.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::ids::{BoardId, Name, Term};
use shared::time::Instant;
use shared::wire::uplink::{SiteDuties, SiteReport};

/// A site with a session tells of itself every second, and of its duties every ten: one that is silent for so long has a leader
/// that hangs.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(30);

/// All sites that are served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picture {
    /// By name.
    pub(crate) sites: BTreeMap<Name, SitePicture>,
    /// When the owner task last came round: a process whose owner hangs is not alive.
    pub(crate) beat: Instant,
    /// Whether the last transaction was stored.
    pub(crate) is_storing: bool,
}

/// One site.
#[derive(Clone, Debug, Default)]
pub(crate) struct SitePicture {
    /// Its sessions, in order of opening.
    pub(crate) sessions: Vec<Speaker>,
    /// Blocks that wait for the store.
    pub(crate) blocks_waiting: usize,
    /// What it last told of itself.
    pub(crate) told: Option<Told>,
    /// What the leader that speaks for it last told of its users' duties.
    pub(crate) duties: Option<DutiesTold>,
}

impl SitePicture {
    /// Whether a board speaks for it now.
    pub(crate) fn is_connected(&self) -> bool {
        self.sessions.iter().any(|speaker| speaker.term.is_some())
    }
}

/// A session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker {
    pub(crate) board: BoardId,
    /// `None` before its hello.
    pub(crate) term: Option<Term>,
}

/// A report, and when it came.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) at: Instant,
    pub(crate) board: BoardId,
    pub(crate) term: Term,
    pub(crate) report: SiteReport,
}

/// What was told of duties, and when it came.
#[derive(Clone, Debug)]
pub(crate) struct DutiesTold {
    pub(crate) at: Instant,
    pub(crate) term: Term,
    pub(crate) duties: SiteDuties,
}

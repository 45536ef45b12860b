//! What the hub asks of the region's shell, what it is configured with, and what it is told of the past.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::event::Event;
use crate::ids::{BoardId, Name, Stream, Term, Token};
use crate::region::session::SessionId;
use crate::wire::uplink::{Block, FromRegion, SiteDuties, SiteReport};

/// What a hub decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// The sites that this region serves.
    pub sites: BTreeSet<Name>,
}

/// What the store remembers from before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubMemory {
    /// Drawn when the store was made or restored. The order in which sites are sent away follows from it, too.
    pub incarnation: u64,
    /// Highest term of each site that has ever been welcomed.
    pub fences: BTreeMap<Name, Term>,
}

/// One thing for the region's shell to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubAction {
    /// Send on a session. Where it is gone, drop.
    Send {
        /// To whom.
        session: SessionId,
        /// What.
        message: FromRegion,
    },
    /// Close a session once what was sent before has left.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Close a session, so that its board dials the next gateway of its list: once what was sent before has left, with the reason that
    /// this gateway has more than its share of the sites.
    SendAway {
        /// Which.
        session: SessionId,
    },
    /// In one transaction: raise the fence, file the blocks, extend the coverage. Answer `handle_stored` with one
    /// [`Stored`](crate::region::ledger::Stored) a block, in order. One is on its way a site; those of several sites may share a transaction.
    Store {
        /// Comes back with the answer.
        token: Token,
        /// Whose.
        site: Name,
        /// The fence to write, if it is to rise.
        fence: Option<Term>,
        /// What to file; may be empty.
        blocks: Vec<Block>,
    },
    /// Read the coverage of these streams, after all that was asked to be stored before. Answer `handle_loaded`.
    Load {
        /// Comes back with the answer.
        token: Token,
        /// Whose.
        site: Name,
        /// Of which streams.
        streams: Vec<Stream>,
    },
    /// A site told how it is.
    Report {
        /// Which site.
        site: Name,
        /// Who speaks for it.
        board: BoardId,
        /// Under which term.
        term: Term,
        /// What it said.
        report: SiteReport,
    },
    /// A site told who performs its duties. Said before the report that it goes with.
    Duties {
        /// Which site.
        site: Name,
        /// Under which term its leader says so.
        term: Term,
        /// What it said, at most `DUTIES_MAX` of them.
        duties: SiteDuties,
    },
    /// Something happened that a person may want to know.
    Notice {
        /// Of which site, if of one.
        site: Option<Name>,
        /// What.
        event: Event,
    },
}

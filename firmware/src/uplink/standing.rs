//! How the session with the region stands, for people: over which path, to which address, since when and why.

use serde::Serialize;
use shared::time::Instant;
use tokio::sync::watch;

/// The uplink's standing at one instant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Over what; `None` where no session stands.
    pub(crate) over: Option<Over>,
    /// Since when that is so.
    pub(crate) since: Instant,
    /// Why it last changed.
    pub(crate) why: String,
    /// Sessions that were moved or fell since the start.
    pub(crate) changes: u64,
}

/// What a session stands over.
#[derive(Clone, Debug)]
pub(crate) struct Over {
    /// The path's name.
    pub(crate) path: String,
    /// The gateway's.
    pub(crate) gateway: String,
    /// Its region's, where the site knows several.
    pub(crate) region: Option<String>,
    /// Its address.
    pub(crate) address: String,
}

/// The same for `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StandingStatus {
    /// The path's name; `any` where no path is configured. `None` where no session stands.
    pub(crate) path: Option<String>,
    /// The gateway's name.
    pub(crate) gateway: Option<String>,
    /// Its region's name. `None` also where the configuration names none.
    pub(crate) region: Option<String>,
    /// Its address.
    pub(crate) address: Option<String>,
    /// For how long that has been so.
    pub(crate) for_ms: u64,
    /// Why it last changed.
    pub(crate) why: String,
    /// Sessions that were moved or fell since the start.
    pub(crate) changes: u64,
}

/// Where it is read.
#[derive(Clone, Debug)]
pub(crate) struct StandingGauge(pub(super) watch::Receiver<Standing>);

impl StandingGauge {
    /// The standing at `now`.
    pub(crate) fn status(&self, now: Instant) -> StandingStatus {
        let standing = self.0.borrow();
        let over = standing.over.as_ref();
        StandingStatus {
            path: over.map(|over| over.path.clone()),
            gateway: over.map(|over| over.gateway.clone()),
            region: over.and_then(|over| over.region.clone()),
            address: over.map(|over| over.address.clone()),
            for_ms: u64::try_from(now.since(standing.since).as_millis()).unwrap_or(u64::MAX),
            why: standing.why.clone(),
            changes: standing.changes,
        }
    }
}

//! How the session with the region stands, for people: over which path, to which address, since when and why.

use serde::Serialize;
use shared::time::Instant;
use tokio::sync::watch;

/// The uplink's standing at one instant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// The path, the gateway and its address; `None` where no session stands.
    pub(crate) over: Option<(String, String, String)>,
    /// Since when that is so.
    pub(crate) since: Instant,
    /// Why it last changed.
    pub(crate) why: String,
    /// Sessions that were moved or fell since the start.
    pub(crate) changes: u64,
}

/// The same for `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StandingStatus {
    /// The path's name; `any` where no path is configured. `None` where no session stands.
    pub(crate) path: Option<String>,
    /// The gateway's name.
    pub(crate) gateway: Option<String>,
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
        let over = standing.over.clone();
        let (path, gateway, address) =
            over.map_or((None, None, None), |(path, gateway, address)| (Some(path), Some(gateway), Some(address)));
        let for_ms = u64::try_from(now.since(standing.since).as_millis()).unwrap_or(u64::MAX);
        StandingStatus { path, gateway, address, for_ms, why: standing.why.clone(), changes: standing.changes }
    }
}

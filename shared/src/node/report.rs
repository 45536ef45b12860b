//! What the site tells the region of itself beside records: each board's counters, and who performs the users' duties.
//! Decides nothing; how often it is said is decided here.

use core::time::Duration;

use crate::action::Action;
use crate::node::{Node, Region};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::uplink::Route;
use crate::wire::peer::PeerMessage;
use crate::wire::uplink::{BoardReport, SiteDuties, SiteReport, ToRegion};

/// What has not changed is told of duties again after so long: ten reports. It costs some hundred bytes.
const DUTIES_AGAIN: Duration = Duration::from_secs(10);

/// What this session of the region was told of duties.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// The region has said that it hears of duties.
    pub(super) hears: bool,
    /// What it was told last, and when.
    told: Option<(SiteDuties, Instant)>,
}

impl Telling {
    /// Whether `duties` are to be told at `now`. If so they count as told.
    fn takes(&mut self, duties: &SiteDuties, now: Instant) -> bool {
        let is_known = self
            .told
            .as_ref()
            .is_some_and(|(told, at)| told.is_as(duties) && now < *at + DUTIES_AGAIN);
        let is_due = self.hears && !is_known;
        if is_due {
            self.told = Some((duties.clone(), now));
        }
        is_due
    }
}

impl Node {
    /// Once a second: counters to the holder, or all boards' counters to the region, and before them what has changed of duties.
    pub(super) fn report(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let own = self.own_report();
        match self.uplink.route() {
            // Before the welcome nobody knows what it hears.
            Route::Region(_) if !matches!(self.region, Region::Open(_)) => {}
            Route::Closed => {}
            Route::Holder(to, _) => out.push(Action::Send { to, message: PeerMessage::Report(own) }),
            Route::Region(_) => {
                if let Some(duties) = self.duties.told(now)
                    && self.telling.takes(&duties, now)
                {
                    out.push(Action::ToRegion { message: ToRegion::Duties(duties), waits: false });
                }
                let alive = self.membership.alive();
                // One that has not reported to this leader, as it died with the last one, is a board of the site all the same.
                let others = self.config.peers().iter().map(|board| BoardReport {
                    alive: alive.contains(board),
                    ..self.reports.get(&board).cloned().unwrap_or(BoardReport::unheard(board))
                });
                let boards = core::iter::once(own.clone()).chain(others).collect();
                out.push(Action::ToRegion { message: ToRegion::Report(SiteReport { boards }), waits: false });
            }
        }
    }
}

//! What a crowd of sites cost the gateway.

use std::time::Duration;

use serde::Serialize;

use super::crowd::Seen;
use crate::bench::arguments::SitesBench;
use crate::bench::figures::{hundredth, mib, percentile};
use crate::demo::screen::grouped;

/// What was seen of the gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gateway {
    /// From the first dial until every site had a session.
    pub(super) connected_s: f64,
    /// Bytes of memory without a session.
    pub(super) empty: u64,
    /// With all sessions, before any record.
    pub(super) idle: u64,
    /// While records came.
    pub(super) busy: u64,
    /// CPU time while it counted.
    pub(super) spent: Duration,
    /// How long that was.
    pub(super) took: Duration,
}

/// All figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    sites: u32,
    records_per_s_each: u32,
    payload_bytes: u32,
    seconds: u32,
    connected_s: f64,
    records_per_s: f64,
    blocks_per_s: f64,
    /// Of one core.
    cpu_cores: f64,
    cpu_us_per_block: f64,
    ack_p50_ms: f64,
    ack_p99_ms: f64,
    ack_max_ms: f64,
    rss_empty_mib: f64,
    rss_idle_mib: f64,
    rss_busy_mib: f64,
    kib_per_site: f64,
    /// Sessions that fell once they stood, and were dialled again.
    fell: u64,
    sent: u64,
    acknowledged: u64,
    stored: u64,
}

impl Figures {
    pub(super) fn of(asked: &SitesBench, seen: &[Seen], gateway: &Gateway) -> Self {
        let mut took: Vec<Duration> = seen.iter().flat_map(|seen| seen.took.iter().copied()).collect();
        took.sort_unstable();
        let sum = |figure: fn(&Seen) -> u64| seen.iter().map(figure).sum::<u64>();
        let (seconds, spent) = (gateway.took.as_secs_f64(), gateway.spent.as_secs_f64());
        let millis = |percent| percentile(&took, percent) as f64 / 1000.0;
        let growth = gateway.busy.max(gateway.idle).saturating_sub(gateway.empty);
        Self {
            sites: asked.sites,
            records_per_s_each: asked.rate,
            payload_bytes: asked.payload,
            seconds: asked.seconds,
            connected_s: hundredth(gateway.connected_s),
            records_per_s: hundredth(sum(|seen| seen.counted) as f64 / seconds),
            blocks_per_s: hundredth(took.len() as f64 / seconds),
            cpu_cores: hundredth(spent / seconds),
            cpu_us_per_block: hundredth(spent * 1e6 / (took.len().max(1) as f64)),
            ack_p50_ms: hundredth(millis(50)),
            ack_p99_ms: hundredth(millis(99)),
            ack_max_ms: hundredth(millis(100)),
            rss_empty_mib: mib(gateway.empty),
            rss_idle_mib: mib(gateway.idle),
            rss_busy_mib: mib(gateway.busy),
            kib_per_site: hundredth(growth as f64 / 1024.0 / f64::from(asked.sites)),
            fell: sum(|seen| seen.fell),
            sent: sum(|seen| seen.sent),
            acknowledged: sum(|seen| seen.acknowledged),
            stored: 0,
        }
    }

    pub(super) const fn with_stored(mut self, stored: u64) -> Self {
        self.stored = stored;
        self
    }

    /// Whether everything that was sent is acknowledged, and stored once.
    pub(super) const fn passes(&self) -> bool {
        self.sent == self.acknowledged && self.stored == self.sent
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let whole = |value: f64| grouped(value.round() as u64);
        format!(
            "{} sites, {} records/s each, at one gateway for {} s\n\
             all of them had a session after {:.1} s; {} sessions fell, and were dialled again\n\
             {} records/s in {} blocks/s; acknowledged within {:.0} ms (p50), {:.0} ms (p99), {:.0} ms (all)\n\
             the gateway used {:.2} cores, {:.0} us a block, all else included\n\
             its memory: {:.0} MiB empty, {:.0} MiB with all sessions, {:.0} MiB while records came: {:.0} KiB a site\n\
             sent {}, acknowledged {}, stored {}: {}\n",
            grouped(u64::from(self.sites)),
            self.records_per_s_each,
            self.seconds,
            self.connected_s,
            grouped(self.fell),
            whole(self.records_per_s),
            whole(self.blocks_per_s),
            self.ack_p50_ms,
            self.ack_p99_ms,
            self.ack_max_ms,
            self.cpu_cores,
            self.cpu_us_per_block,
            self.rss_empty_mib,
            self.rss_idle_mib,
            self.rss_busy_mib,
            self.kib_per_site,
            grouped(self.sent),
            grouped(self.acknowledged),
            grouped(self.stored),
            if self.passes() { "each record once" } else { "THEY DIFFER" },
        )
    }
}

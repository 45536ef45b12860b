//! What is counted, and how Prometheus sees it: names with units, labels bounded by the configuration.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use link::doorman::Admissions;
use link::strays::Strays;
use link::witness::WitnessCounts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use shared::hub::Stored;
use shared::ids::{Name, Term};
use shared::time::Instant;
use shared::wire::uplink::Refusal;
use tokio::sync::watch;

use crate::access::Counts;
use crate::picture::{Picture, SitePicture};
use crate::store::Deposit;
use crate::store::parts::Expired;

/// Commit times: a sync takes 0.1 ms on a server's disk and a second on a tired card.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// What becomes of a record.
const OUTCOMES: [&str; 3] = ["row", "duplicate", "gap"];
/// Why a session is refused.
const REASONS: [Refusal; 4] =
    [Refusal::Fenced { highest: Term::ZERO }, Refusal::Identity, Refusal::Full, Refusal::Protocol];

/// How far a site had come that is sent to another gateway: it looked for a better way, said hello, or had a session.
const STAGES: [&str; 3] = ["looked", "dialled", "stood"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SiteLabel {
    site: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    site: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

/// The gateway's counters; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    records: Family<OutcomeLabels, Counter>,
    blocks: Family<SiteLabel, Counter>,
    blocks_bad: Family<SiteLabel, Counter>,
    blocks_again: Family<SiteLabel, Counter>,
    transactions: Counter,
    transactions_failed: Counter,
    seconds: Histogram,
    sessions: Gauge,
    sessions_refused: Family<ReasonLabel, Counter>,
    bad_frames: Counter,
    events_dropped: Counter,
    archived: Family<SiteLabel, Counter>,
    expired: Family<SiteLabel, Counter>,
    archive_failures: Counter,
    gateways: Gauge,
    sites_sent_away: Family<StageLabel, Counter>,
    sites_kept: Counter,
}

impl Metrics {
    /// Counters, registered under `roadstead_region_`.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Family::default(),
            blocks: Family::default(),
            blocks_bad: Family::default(),
            blocks_again: Family::default(),
            transactions: Counter::default(),
            transactions_failed: Counter::default(),
            seconds: Histogram::new(SECONDS),
            sessions: Gauge::default(),
            sessions_refused: Family::default(),
            bad_frames: Counter::default(),
            events_dropped: Counter::default(),
            archived: Family::default(),
            expired: Family::default(),
            archive_failures: Counter::default(),
            gateways: Gauge::default(),
            sites_sent_away: Family::default(),
            sites_kept: Counter::default(),
        };
        metrics.register(registry);
        metrics
    }

    /// Lets every series that is known now begin at zero: an increase is seen between two values, so a counter that begins at
    /// one hides its first event.
    pub(crate) fn begin_at_zero<'s>(&self, sites: impl IntoIterator<Item = &'s Name>) {
        for site in sites {
            let label = SiteLabel { site: site.to_string() };
            for family in [&self.blocks, &self.blocks_bad, &self.blocks_again, &self.archived, &self.expired] {
                drop(family.get_or_create(&label));
            }
            for outcome in OUTCOMES {
                drop(self.records.get_or_create(&OutcomeLabels { site: site.to_string(), outcome }));
            }
        }
        for stage in STAGES {
            drop(self.sites_sent_away.get_or_create(&StageLabel { stage }));
        }
        for reason in REASONS {
            drop(
                self.sessions_refused
                    .get_or_create(&ReasonLabel { reason: Self::kind(&reason) }),
            );
        }
    }

    fn register(&self, registry: &mut Registry) {
        let Self { records, blocks, blocks_bad, blocks_again, .. } = self;
        registry.register("records", "Records of committed blocks, by what became of them", records.clone());
        registry.register("blocks", "Blocks in committed transactions", blocks.clone());
        registry.register("blocks_bad", "Blocks that did not hold together", blocks_bad.clone());
        registry.register("blocks_again", "Blocks of which a part was stored before", blocks_again.clone());
        registry.register("transactions", "Transactions committed", self.transactions.clone());
        registry.register("transactions_failed", "Transactions not committed", self.transactions_failed.clone());
        let help = "Time of a transaction, its sync included";
        registry.register_with_unit("transaction", help, Unit::Seconds, self.seconds.clone());
        registry.register("sessions", "Sessions that stand or are about to", self.sessions.clone());
        registry.register("sessions_refused", "Sessions refused or ended", self.sessions_refused.clone());
        registry.register("bad_frames", "Sessions that sent what is no message", self.bad_frames.clone());
        registry.register("events_dropped", "Events not kept for want of room", self.events_dropped.clone());
        let help = "Records put into the archive, read back and noted";
        registry.register("archived_records", help, self.archived.clone());
        registry.register("expired_records", "Records removed because their time was over", self.expired.clone());
        registry.register("archive_failures", "Attempts to archive that failed", self.archive_failures.clone());
        let help = "Gateways of this store that are alive, as far as this one knows: itself at least";
        registry.register("gateways", help, self.gateways.clone());
        let help = "Times that a site was sent to another gateway because this one has more than its share, by how far it had come";
        registry.register("sites_sent_away", help, self.sites_sent_away.clone());
        let help = "Times that a site came back that was sent away, because it has nowhere else to go, and stayed";
        registry.register("sites_kept", help, self.sites_kept.clone());
    }

    pub(crate) fn gateways(&self, count: usize) {
        self.gateways.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn sent_away(&self, stage: &'static str) {
        self.sites_sent_away.get_or_create(&StageLabel { stage }).inc();
    }

    pub(crate) fn kept(&self) {
        self.sites_kept.inc();
    }

    pub(crate) fn archived(&self, site: &Name, records: u64) {
        self.archived
            .get_or_create(&SiteLabel { site: site.to_string() })
            .inc_by(records);
    }

    pub(crate) fn expired(&self, expired: &Expired) {
        for (site, records) in expired {
            self.expired.get_or_create(&SiteLabel { site: site.clone() }).inc_by(*records);
        }
    }

    pub(crate) fn archive_failed(&self) {
        self.archive_failures.inc();
    }

    pub(crate) fn committed(&self, took: Duration, deposits: &[Deposit], stored: &[Vec<Stored>]) {
        self.transactions.inc();
        self.seconds.observe(took.as_secs_f64());
        for (deposit, stored) in deposits.iter().zip(stored) {
            let site = deposit.site.to_string();
            let label = SiteLabel { site: site.clone() };
            self.blocks.get_or_create(&label).inc_by(stored.len() as u64);
            for outcome in stored.iter().map(|stored| stored.outcome) {
                let Ok(tally) = outcome else {
                    self.blocks_bad.get_or_create(&label).inc();
                    continue;
                };
                let record = |outcome, count| {
                    self.records
                        .get_or_create(&OutcomeLabels { site: site.clone(), outcome })
                        .inc_by(count);
                };
                for (outcome, count) in OUTCOMES.into_iter().zip([tally.rows, tally.duplicates, tally.gaps]) {
                    record(outcome, count);
                }
                if tally.again.is_some() {
                    self.blocks_again.get_or_create(&label).inc();
                }
            }
        }
    }

    pub(crate) fn not_committed(&self) {
        self.transactions_failed.inc();
    }

    pub(crate) fn sessions(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A refusal's word in metrics.
    pub(crate) const fn kind(reason: &Refusal) -> &'static str {
        match reason {
            Refusal::Fenced { .. } => "fenced",
            Refusal::Identity => "identity",
            Refusal::Full => "full",
            Refusal::Protocol => "protocol",
        }
    }

    pub(crate) fn refused(&self, reason: &Refusal) {
        self.sessions_refused
            .get_or_create(&ReasonLabel { reason: Self::kind(reason) })
            .inc();
    }

    pub(crate) fn bad_frame(&self) {
        self.bad_frames.inc();
    }

    pub(crate) fn event_dropped(&self) {
        self.events_dropped.inc();
    }
}

/// How the sites are, as the picture shows them to people, read when somebody asks.
#[derive(Debug)]
pub(crate) struct Sites(pub(crate) watch::Receiver<Picture>);

impl Collector for Sites {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let picture = self.0.borrow().clone();
        let now = link::clock::now();
        let storing = ConstGauge::new(u64::from(picture.is_storing));
        let help = "Whether the last transaction was stored";
        storing.encode(encoder.encode_descriptor("storing", help, None, storing.metric_type())?)?;
        for (name, help, of) in SITE_GAUGES {
            let of = |site: &SitePicture| of(site, now);
            let mut series = picture
                .sites
                .iter()
                .filter_map(|(name, site)| Some((name, of(site)?)))
                .peekable();
            if series.peek().is_none() {
                continue;
            }
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (site, value) in series {
                ConstGauge::new(value).encode(family.encode_family(&[("site", site.as_str())])?)?;
            }
        }
        Ok(())
    }
}

/// Name, meaning and value of what is shown of each site; `None` before its first report.
type SiteGauge = (&'static str, &'static str, fn(&SitePicture, Instant) -> Option<f64>);

const SITE_GAUGES: [SiteGauge; 6] = [
    ("site_connected", "Whether a board of the site has an open session here", |site, _| {
        Some(f64::from(u8::from(site.sessions.iter().any(|speaker| speaker.term.is_some()))))
    }),
    ("site_blocks_waiting", "Blocks of the site that wait for the store", |site, _| {
        Some(site.blocks_waiting as f64)
    }),
    ("site_report_age_seconds", "Time since the site last told of itself", |site, now| {
        Some(now.since(site.told.as_ref()?.at).as_secs_f64())
    }),
    ("site_boards", "Boards of the site, as it last told", |site, _| {
        Some(site.told.as_ref()?.report.boards.len() as f64)
    }),
    ("site_boards_alive", "Boards of the site that are heard, as it last told", |site, _| {
        Some(site.told.as_ref()?.report.boards.iter().filter(|line| line.alive).count() as f64)
    }),
    (
        "site_backlog_records",
        "Records in the site's journals, each copy counted, as it last told",
        |site, _| Some(site.told.as_ref()?.report.boards.iter().map(|line| line.backlog as f64).sum()),
    ),
];

/// What the doors of the QUIC port have counted, read when somebody asks.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) admissions: Arc<Admissions>,
    pub(crate) strays: Arc<Strays>,
}

impl Collector for Doors {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counted = [
            ("handshakes", "QUIC peers let in", self.admissions.accepted()),
            ("handshakes_failed", "QUIC handshakes that failed", self.admissions.failed()),
            ("handshakes_refused", "QUIC handshakes refused unheard", self.admissions.refused()),
            ("stray_datagrams", "Datagrams that were not ours", self.strays.count()),
        ];
        for (name, help, count) in counted {
            let counter = ConstCounter::new(count);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

/// What the doors of the HTTP port have counted, read when somebody asks.
#[derive(Debug)]
pub(crate) struct Logins(pub(crate) Arc<Counts>);

impl Collector for Logins {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Counts { logins, refused, unwritten, sessions } = &*self.0;
        let counted = [
            ("logins", "People who signed in", logins),
            ("logins_refused", "Logins and tokens that were refused", refused),
            ("audit_unwritten", "Refusals that could not be written into the audit log", unwritten),
        ];
        for (name, help, count) in counted {
            let counter = ConstCounter::new(count.load(Ordering::Relaxed));
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let gauge = ConstGauge::new(sessions.load(Ordering::Relaxed));
        let help = "Browsers that are signed in, as of the last login or sign-out";
        gauge.encode(encoder.encode_descriptor("browsers", help, None, gauge.metric_type())?)
    }
}

/// What this gateway has counted as a witness, read when somebody asks.
#[derive(Debug)]
pub(crate) struct Witnessing(pub(crate) Arc<WitnessCounts>);

impl Collector for Witnessing {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, count) in self.0.named() {
            let counter = ConstCounter::new(count);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

//! What `/metrics` says, in the OpenMetrics text form. Read at each scrape from where it is counted anyway: nothing is
//! counted twice.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use link::clock;
use link::doorman::Admissions;
use link::strays::Strays;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use shared::node::status::{PeerStatus, Status};
use tokio::sync::watch;

use crate::bridge::BridgeCounters;
use crate::disk::{DiskGauge, SYNC_BUCKETS_MICROS};
use crate::drive::Snapshot;
use crate::front_door::{DoorCount, DoorCounters};
use crate::mesh::MeshCounts;
use crate::notices::Notices;
use crate::uplink::{StandingGauge, UplinkCounts};
use crate::wear::{DAY_SECONDS, WearGauge, WearStatus};
use crate::witness::WitnessCounts;

/// Where the numbers stand.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) disk: Arc<DiskGauge>,
    pub(crate) wear: WearGauge,
    pub(crate) mesh: Arc<MeshCounts>,
    pub(crate) mesh_admissions: Arc<Admissions>,
    pub(crate) mesh_strays: Arc<Strays>,
    pub(crate) uplink: Option<Arc<UplinkCounts>>,
    pub(crate) standing: Option<StandingGauge>,
    pub(crate) witness: Option<Arc<WitnessCounts>>,
    pub(crate) witnessing: Option<Arc<link::witness::WitnessCounts>>,
    pub(crate) door: Arc<DoorCounters>,
    pub(crate) bridge: Option<Arc<BridgeCounters>>,
}

/// The registry that `/metrics` encodes.
pub(crate) fn registry(sources: Sources) -> Registry {
    let mut registry = Registry::with_prefix("roadstead");
    registry.register_collector(Box::new(sources));
    registry
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        if let Some(snapshot) = self.snapshots.borrow().clone() {
            page.board(&snapshot)?;
            page.records(&snapshot.status)?;
            page.control(&snapshot.status)?;
            page.peers(&snapshot.status)?;
            page.duties(&snapshot.status)?;
        }
        page.events(&self.notices)?;
        page.disk(&self.disk)?;
        page.wear(&self.wear.status())?;
        self.connections(&mut page)?;
        page.door(&self.door)?;
        match &self.bridge {
            Some(bridge) => page.bridge(bridge),
            None => Ok(()),
        }
    }
}

impl Sources {
    fn connections(&self, page: &mut Page<'_>) -> fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (mesh, door) = (&self.mesh, &self.mesh_admissions);
        page.counter("mesh_connections_dialled", "Connections to peers that came to stand", read(&mesh.dialled))?;
        page.counter("mesh_connections_accepted", "Connections from peers that came to stand", door.accepted())?;
        page.counter("mesh_connections_refused", "Connections from strangers closed", read(&mesh.refused))?;
        page.counter("mesh_handshakes_refused", "Handshakes refused unheard because of too many", door.refused())?;
        page.counter("mesh_handshakes_failed", "Handshakes that failed", door.failed())?;
        page.counter("mesh_queue_full", "Connections dropped because a peer reads too slowly", read(&mesh.queue_full))?;
        page.counter("mesh_bad_frames", "Frames from peers that were no messages", read(&mesh.bad_frames))?;
        page.counter("mesh_datagrams_stray", "Datagrams that were no QUIC packet of ours", self.mesh_strays.count())?;
        page.counter("mesh_datagrams_dropped", "Datagrams dropped at the full queue", read(&mesh.datagrams_dropped))?;
        page.counter("mesh_messages_unsent", "Messages for peers to whom no connection stood", read(&mesh.unsent))?;
        self.control_connections(page)?;
        self.witness_connection(page)?;
        self.witnessing(page)?;
        let Some(uplink) = &self.uplink else { return Ok(()) };
        page.counter("uplink_sessions_opened", "Sessions with the region that came to stand", read(&uplink.opened))?;
        page.counter("uplink_dials_failed", "Dials of the region that failed", read(&uplink.failed))?;
        page.counter("uplink_paths_silent", "Sessions left because their path was silent", read(&uplink.silent))?;
        page.counter("uplink_alarm_copies", "Blocks of alarms sent by a second path, too", read(&uplink.copies))?;
        page.counter(
            "uplink_alarm_copies_dropped",
            "Blocks of alarms that a second path had no room for: they went by the first alone",
            read(&uplink.copies_dropped),
        )?;
        page.counter("uplink_sessions_moved", "Sessions moved to a better path or gateway", read(&uplink.moved))?;
        let standing = self.standing.as_ref().map(|gauge| gauge.status(clock::now()));
        let in_use = standing.and_then(|standing| standing.path);
        let series = in_use.into_iter().map(|path| (path, ConstGauge::new(1_u64)));
        page.family(("uplink_path_in_use", "The path that the session with the region goes over"), "path", series)?;
        page.counter(
            "uplink_queue_full",
            "Sessions dropped because the region reads too slowly",
            read(&uplink.queue_full),
        )?;
        page.counter("uplink_bad_frames", "Frames from the region that were no messages", read(&uplink.bad_frames))
    }
}

impl Sources {
    fn witness_connection(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(witness) = &self.witness else { return Ok(()) };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        page.gauge("witness_connected", "Whether the witness's connection stands", read(&witness.connected))?;
        page.counter("witness_connections", "Connections to the witness that stood", read(&witness.opened))?;
        page.counter("witness_dials_failed", "Dials of the witness that failed", read(&witness.failed))?;
        page.counter("witness_datagrams_sent", "Datagrams sent to the witness", read(&witness.sent))?;
        page.counter("witness_datagrams_received", "Datagrams from the witness", read(&witness.received))?;
        page.counter("witness_datagrams_bad", "Datagrams from the witness that were no votes", read(&witness.bad))
    }

    fn witnessing(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(counts) = &self.witnessing else { return Ok(()) };
        for (name, help, count) in counts.named() {
            page.counter(name, help, count)?;
        }
        Ok(())
    }

    fn control_connections(&self, page: &mut Page<'_>) -> fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mesh = &self.mesh;
        page.counter(
            "control_connections_dialled",
            "Control connections that came to stand",
            read(&mesh.control_dialled),
        )?;
        page.counter("control_datagrams_sent", "Control datagrams sent to peers", read(&mesh.control_sent))?;
        page.counter("control_sent_bytes", "Bytes of those, before QUIC's own", read(&mesh.control_sent_bytes))?;
        page.counter("obituaries", "Ends of peers' lives that their supervisors attested", read(&mesh.obituaries))?;
        page.counter("obituaries_bad", "Obituaries that nobody who may has signed", read(&mesh.obituaries_bad))?;
        page.counter("obituaries_dropped", "Obituaries unseen because of too many", read(&mesh.obituaries_dropped))?;
        page.counter("control_datagrams_received", "Control datagrams from peers", read(&mesh.control_received))?;
        page.counter(
            "control_datagrams_unsent",
            "Control datagrams dropped because no control connection stood",
            read(&mesh.control_unsent),
        )
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        let encoder = self.0.encode_descriptor(name, help, None, counter.metric_type())?;
        counter.encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        let encoder = self.0.encode_descriptor(name, help, None, gauge.metric_type())?;
        gauge.encode(encoder)
    }

    /// A gauge or a counter, one series a label.
    fn family<V>(
        &mut self,
        (name, help): (&str, &str),
        label: &str,
        series: impl IntoIterator<Item = (String, V)>,
    ) -> fmt::Result
    where
        V: EncodeMetric,
    {
        let mut series = series.into_iter().peekable();
        let Some((_, first)) = series.peek() else { return Ok(()) };
        let mut family = self.0.encode_descriptor(name, help, None, first.metric_type())?;
        for (value, metric) in series {
            metric.encode(family.encode_family(&[(label, value.as_str())])?)?;
        }
        Ok(())
    }

    /// Which board this is, what it runs, and how old all that follows is. The site's name is a label that the scrape gives to
    /// every series.
    fn board(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let age = link::clock::now().since(snapshot.at).as_secs_f64();
        let help = "Time since the node last told how it is";
        let gauge = ConstGauge::new(age);
        gauge.encode(
            self.0
                .encode_descriptor("snapshot_age_seconds", help, None, gauge.metric_type())?,
        )?;
        let gauge = ConstGauge::new(1_u64);
        let help = "Always 1: which board this is, and what version it runs";
        let mut family = self.0.encode_descriptor("board_info", help, None, gauge.metric_type())?;
        let board = snapshot.status.board.to_string();
        let labels = [("board", board.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
        gauge.encode(family.encode_family(&labels)?)
    }

    fn records(&mut self, status: &Status) -> fmt::Result {
        self.counter("records_accepted", "Records numbered by this board", status.accepted)?;
        self.counter("records_committed", "Records committed by this board", status.committed)?;
        self.counter("records_degraded", "Records committed on fewer boards than wanted", status.degraded_records)?;
        self.counter("records_unacknowledged", "Records that nobody waits for (QoS 0)", status.unacknowledged)?;
        self.counter("records_refused", "Publishes refused for what they are", status.refused)?;
        self.counter("copies_hedged", "Runs sent to one more peer because a copy was late", status.hedged)?;
        let shed = [("event", status.shed.event), ("bulk", status.shed.bulk)];
        self.family(
            ("records_shed", "Records shed because the journal was full, each in a gap record, by class"),
            "class",
            shed.map(|(class, count)| (class.to_owned(), ConstCounter::new(count))),
        )?;
        self.gauge("records_uncommitted", "Records that wait for their commit", status.uncommitted as u64)?;
        self.gauge("records_owed", "Records whose missing copies are still to be made", status.owed)?;
        let repair = &status.repair;
        self.gauge("records_missing", "Records lost to damage here that are asked for", repair.missing)?;
        self.counter("records_repaired", "Records lost to damage here that are held again", repair.repaired)?;
        self.counter("records_gone", "Records lost to damage here that no board has", repair.gone)?;
        self.counter("journal_verified_bytes", "Bytes of the journal verified on disk", repair.verified_bytes)?;
        self.gauge("journal_damaged_places", "Damaged places in journal segments", repair.damaged_places as u64)?;
        self.gauge("records_backlog", "Records in the journal that the region does not cover", status.backlog)?;
        self.counter("journal_verify_passes", "Passes of the verification over the whole journal", repair.passes)?;
        self.gauge("journal_poisoned", "Whether the journal takes nothing more", status.poisoned.into())?;
        self.gauge("journal_segments", "Journal segments in use", status.segments as u64)?;
        self.gauge("journal_segments_max", "Journal segments there may be", status.segments_max as u64)
    }

    fn control(&mut self, status: &Status) -> fmt::Result {
        self.gauge(
            "leader_board",
            "Number of the board that leads, 0 where none is known",
            status.leader.unwrap_or(0).into(),
        )?;
        self.gauge("leader_term", "Fencing token of the leadership", status.term)?;
        self.gauge("autonomous", "Whether nobody leads for longer than a takeover takes", status.autonomous.into())?;
        self.gauge("may_lead", "Whether this board is fit to lead", status.vote.eligible.into())?;
        self.gauge("health_level", "How this board's machine is: 3 is well, 0 the worst", status.vote.health.into())?;
        self.gauge(
            "vote_counts",
            "Whether this board has met a leader since its disk remembers, so that members count its vote",
            status.vote.joined.into(),
        )?;
        self.gauge("leads", "Whether this board leads", status.lease_remaining_ms.is_some().into())?;
        self.gauge("accepting", "Whether records are taken in", status.accepts.into())?;
        self.gauge("degraded", "Whether fewer boards live than copies are wanted", status.degraded.into())?;
        self.gauge(
            "uplink_open",
            "Whether this board's session with the region is open",
            (status.region == "open").into(),
        )
    }

    /// The boards of the site as this one sees them.
    fn peers(&mut self, status: &Status) -> fmt::Result {
        let gauges = |of: fn(&PeerStatus) -> bool| {
            let series = status.boards.iter().map(move |peer| (peer.board, u64::from(of(peer))));
            series.map(|(board, value)| (board.to_string(), ConstGauge::new(value)))
        };
        self.family(("board_alive", "Whether a board is heard"), "board", gauges(|peer| peer.alive))?;
        self.family(
            ("board_linked", "Whether the reliable connection to a board stands"),
            "board",
            gauges(|peer| peer.linked),
        )?;
        self.family(
            ("board_impaired", "Whether a board is heard by some boards and not by others"),
            "board",
            gauges(|peer| peer.impaired),
        )?;
        let lost = status.boards.iter().filter_map(|peer| {
            let share = f64::from(peer.loss_permille?) / 1000.0;
            Some((peer.board.to_string(), ConstGauge::new(share)))
        });
        self.family(("board_loss_ratio", "Share of a board's datagrams that is lost on the way here"), "board", lost)
    }

    /// The users' duties on this board.
    fn duties(&mut self, status: &Status) -> fmt::Result {
        let gauges = |process: &'static str| {
            let series = status
                .user_duties
                .iter()
                .map(move |duty| (&duty.name, u64::from(duty.process == process)));
            series.map(|(name, value)| (name.clone(), ConstGauge::new(value)))
        };
        self.family(("duty_acts", "Whether a user's process acts on this board"), "duty", gauges("acts"))?;
        self.family(
            ("duty_failed", "Whether a user's process on this board ended too often and rests"),
            "duty",
            gauges("failed"),
        )
    }

    fn events(&mut self, notices: &Notices) -> fmt::Result {
        let counts = notices.counts().into_iter();
        let series = counts.map(|(event, count)| (event.to_owned(), ConstCounter::new(count)));
        self.family(("events", "What the node noticed"), "event", series)
    }

    fn disk(&mut self, disk: &DiskGauge) -> fmt::Result {
        let times = disk.sync_times();
        let ends = SYNC_BUCKETS_MICROS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = ends.zip(times.buckets).collect();
        let unit = Unit::Seconds;
        let help = "Time that the disk takes to make a group of records durable";
        let mut encoder = self
            .0
            .encode_descriptor("journal_fdatasync", help, Some(&unit), MetricType::Histogram)?;
        let count = times.buckets.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(times.total.as_secs_f64(), count, &buckets, None)?;
        self.counter("journal_synced_bytes", "Bytes made durable in the journal", times.bytes)?;
        self.gauge("journal_failed", "Whether the disk has failed", disk.has_failed().into())
    }

    /// Over the board's whole life, so that a restart does not set them back.
    fn wear(&mut self, wear: &WearStatus) -> fmt::Result {
        self.counter("wear_written_bytes", "Bytes written to the medium", wear.written_bytes)?;
        self.counter("wear_syncs", "Syncs of files and of the directory", wear.syncs)?;
        self.counter("wear_payload_bytes", "Bytes of records among those written", wear.payload_bytes)?;
        self.gauge("wear_observed_seconds", "Time over which that was", wear.observed_s)?;
        if let Some(endurance) = wear.endurance_bytes {
            self.gauge("wear_endurance_bytes", "Bytes that may be written to the medium in its life", endurance)?;
        }
        let Some(days) = wear.days_left else { return Ok(()) };
        let gauge = ConstGauge::new(days * DAY_SECONDS);
        let help = "How long the medium lasts at this rate, at most";
        let encoder = self
            .0
            .encode_descriptor("wear_remaining_seconds", help, None, gauge.metric_type())?;
        gauge.encode(encoder)
    }

    fn bridge(&mut self, bridge: &BridgeCounters) -> fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.gauge("bridge_connected", "Whether the broker's connection stands", read(&bridge.connected))?;
        self.counter("bridge_connections", "Connections to the broker that stood", read(&bridge.connections))?;
        self.counter("bridge_messages", "Messages taken from the broker", read(&bridge.messages))?;
        self.counter("bridge_acknowledged", "Messages acknowledged to the broker", read(&bridge.acknowledged))?;
        self.counter("bridge_rejected", "Messages that are no records", read(&bridge.rejected))?;
        self.counter("bridge_filters_granted", "Filters that the broker granted", read(&bridge.filters_granted))?;
        self.counter("bridge_filters_refused", "Filters that the broker refused", read(&bridge.filters_refused))
    }

    fn door(&mut self, door: &DoorCounters) -> fmt::Result {
        let all = door.all();
        // Those of one name stand together and form one family.
        for family in all.chunk_by(|left, right| left.name == right.name) {
            let first = &family[0];
            let name = format!("mqtt_{}", first.name);
            let kind = if first.is_gauge { MetricType::Gauge } else { MetricType::Counter };
            let mut encoder = self.0.encode_descriptor(&name, "Of the MQTT front door", None, kind)?;
            if first.label.is_none() {
                number(first, encoder)?;
                continue;
            }
            for count in family {
                if let Some(label) = count.label {
                    number(count, encoder.encode_family(&[label])?)?;
                }
            }
        }
        Ok(())
    }
}

fn number(count: &DoorCount, encoder: MetricEncoder<'_>) -> fmt::Result {
    if count.is_gauge {
        ConstGauge::new(count.value).encode(encoder)
    } else {
        ConstCounter::new(count.value).encode(encoder)
    }
}

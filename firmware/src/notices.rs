//! What the node noticed, turned into a counter and a log line. Rare by design: nothing here happens once a record.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use shared::event::Event;
use tracing::Level;

/// Events that alerts count. They are shown from zero on: an increase is seen between two values, so a counter that begins
/// at one hides its first event.
const FROM_ZERO: [&str; 8] = [
    "board_older",
    "board_twice",
    "coverage_went_back",
    "device_full",
    "journal_damaged",
    "leader_changed",
    "region_changed",
    "uplink_refused",
];

/// Counts and logs events.
#[derive(Debug)]
pub(crate) struct Notices {
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { counts: Mutex::new(FROM_ZERO.into_iter().map(|name| (name, 0)).collect()) }
    }
}

impl Notices {
    pub(crate) fn note(&self, event: &Event) {
        *self
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(event.name())
            .or_insert(0) += 1;
        match level(event) {
            Level::ERROR => tracing::error!(event = event.name(), "{event}"),
            Level::WARN => tracing::warn!(event = event.name(), "{event}"),
            Level::INFO => tracing::info!(event = event.name(), "{event}"),
            _ => tracing::debug!(event = event.name(), "{event}"),
        }
    }

    /// How often each event came since the start.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Error: somebody must act. Warning: a promise is weaker than it should be. Information: the site changed.
const fn level(event: &Event) -> Level {
    match event {
        Event::JournalPoisoned
        | Event::JournalDamaged { .. }
        | Event::RecordsGone { .. }
        | Event::BoardTwice { .. } => Level::ERROR,
        Event::Degraded { .. }
        | Event::Shed { .. }
        | Event::DeviceFull
        | Event::RecordsMissing { .. }
        | Event::JournalFull
        | Event::UplinkRefused { .. }
        | Event::RegionChanged
        | Event::CoverageWentBack { .. }
        | Event::BoardDown { .. }
        | Event::BoardOlder { .. }
        | Event::BoardImpaired { .. }
        | Event::WitnessLost { .. }
        | Event::Autonomous
        | Event::DutyFailed { .. }
        | Event::BadFrame { .. }
        | Event::SessionRefused { .. } => Level::WARN,
        Event::Restored
        | Event::DeviceRoom
        | Event::JournalRoom
        | Event::Repaired { .. }
        | Event::TornTail { .. }
        | Event::UplinkOpened { .. }
        | Event::UplinkClosed
        | Event::BoardUp { .. }
        | Event::LeaseAcquired { .. }
        | Event::LeaseLost { .. }
        | Event::LeaderChanged { .. }
        | Event::ObituaryHeard { .. }
        | Event::WitnessReached { .. }
        | Event::HandOver { .. }
        | Event::Led
        | Event::VotersChanged { .. }
        | Event::DutyMoved { .. }
        | Event::DutyActs { .. }
        | Event::DutyRests { .. }
        | Event::SessionOpened { .. }
        | Event::SiteSentAway { .. }
        | Event::SiteKept => Level::INFO,
        Event::CopyRefused { .. } | Event::SegmentFreed { .. } | Event::Overlap { .. } => Level::DEBUG,
    }
}

//! Owns the last things that happened on the control path, so that "why did it change?" has an answer on the status page
//! when somebody asks a minute later. A fixed number of lines; the oldest goes first.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};

use crate::event::Event;
use crate::limits::CHRONICLE_LINES_MAX;
use crate::time::Instant;

/// What happened lately.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    lines: VecDeque<(Instant, String)>,
}

impl Chronicle {
    /// Keeps `event`, where it is one of the control path.
    pub(super) fn note(&mut self, event: &Event, now: Instant) {
        if !is_told(event) {
            return;
        }
        if self.lines.len() == CHRONICLE_LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back((now, event.to_string()));
    }

    /// The lines, the newest first.
    pub(super) fn lines(&self) -> impl Iterator<Item = (Instant, &str)> {
        self.lines.iter().rev().map(|(at, line)| (*at, line.as_str()))
    }
}

/// Whether a person who asks why something changed wants to read of it.
const fn is_told(event: &Event) -> bool {
    match event {
        Event::BoardUp { .. }
        | Event::BoardOlder { .. }
        | Event::BoardTwice { .. }
        | Event::BoardDown { .. }
        | Event::BoardImpaired { .. }
        | Event::ObituaryHeard { .. }
        | Event::WitnessReached { .. }
        | Event::WitnessLost { .. }
        | Event::LeaseAcquired { .. }
        | Event::LeaseLost { .. }
        | Event::LeaderChanged { .. }
        | Event::HandOver { .. }
        | Event::Autonomous
        | Event::Led
        | Event::VotersChanged { .. }
        | Event::DutyMoved { .. }
        | Event::DutyActs { .. }
        | Event::DutyRests { .. }
        | Event::DutyFailed { .. }
        | Event::RegionChanged
        | Event::JournalPoisoned => true,
        Event::Degraded { .. }
        | Event::Restored
        | Event::Shed { .. }
        | Event::DeviceFull
        | Event::DeviceRoom
        | Event::JournalFull
        | Event::JournalRoom
        | Event::JournalDamaged { .. }
        | Event::TornTail { .. }
        | Event::SegmentFreed { .. }
        | Event::CopyRefused { .. }
        | Event::UplinkOpened { .. }
        | Event::UplinkClosed
        | Event::UplinkRefused { .. }
        | Event::CoverageWentBack { .. }
        | Event::BadFrame { .. }
        | Event::SessionOpened { .. }
        | Event::SessionRefused { .. }
        | Event::SiteSentAway { .. }
        | Event::SiteKept
        | Event::RecordsMissing { .. }
        | Event::Repaired { .. }
        | Event::RecordsGone { .. }
        | Event::Overlap { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_line_goes_first_and_other_events_are_not_kept() {
        let mut chronicle = Chronicle::default();
        chronicle.note(&Event::Restored, Instant::ZERO);
        assert_eq!(chronicle.lines().count(), 0);
        for micros in 0..=CHRONICLE_LINES_MAX as u64 {
            chronicle.note(&Event::Led, Instant::from_micros(micros));
        }
        let instants: alloc::vec::Vec<u64> = chronicle.lines().map(|(at, _)| at.micros()).collect();
        assert_eq!(instants.len(), CHRONICLE_LINES_MAX);
        assert_eq!((instants[0], *instants.last().unwrap()), (CHRONICLE_LINES_MAX as u64, 1));
    }
}

//! Who performs which duty of a site, as the API and the dashboard show it: what its leader told, and what follows from its
//! sessions. Nothing decides by it.

use std::time::Duration;

use shared::config::DutyMode;
use shared::duties::Duty;
use shared::ids::BoardSet;
use shared::time::Instant;
use shared::wire::uplink::{DutyState, DutyTold};

use crate::picture::{SILENT_AFTER, SitePicture};

/// What the leader does as such; a user's duty may have the same name.
const LEAD: &str = "lead";

/// A duty. Texts of a user's duty are the site's own: as long as its message lets them be, and to be escaped.
#[derive(Clone, Debug)]
pub(crate) struct Line<'p> {
    pub(crate) name: &'p str,
    /// `built-in`, `exclusive` or `available`.
    pub(crate) mode: &'static str,
    /// On how many boards it should be performed.
    pub(crate) wanted: u8,
    pub(crate) state: DutyState,
    /// Where it is, or was when it was last told of.
    pub(crate) holders: BoardSet,
    /// What the site told of it; nothing of a built-in one.
    pub(crate) told: Option<&'p DutyTold>,
    /// Milliseconds for which it has been like that with its board, as far as that is known.
    pub(crate) held_ms: Option<u64>,
}

/// The duties of a site: the built-in ones, then its users' where it has told of them, in its order.
pub(crate) fn crew(picture: &SitePicture, now: Instant) -> Vec<Line<'_>> {
    let speakers = picture.sessions.iter().filter(|speaker| speaker.term.is_some());
    let leader: BoardSet = speakers.map(|speaker| speaker.board).collect();
    // Where no board speaks for the site here, one may speak for it elsewhere.
    let state = if leader.is_empty() {
        DutyState::Unknown
    } else {
        DutyState::Running
    };
    let built_in = core::iter::once(LEAD)
        .chain(Duty::ALL.into_iter().map(Duty::as_str))
        .map(|name| Line { name, mode: "built-in", wanted: 1, state, holders: leader, told: None, held_ms: None });
    // It is told each ten seconds. What nobody has told for longer was so, and may be otherwise.
    let age = picture.duties.as_ref().map(|told| now.since(told.at)).unwrap_or_default();
    let fresh = (!leader.is_empty() && age < SILENT_AFTER).then(|| millis(age));
    let told = picture.duties.iter().flat_map(|told| &told.duties.duties);
    built_in.chain(told.map(|duty| line(duty, fresh))).collect()
}

/// A duty that was told of so many milliseconds ago; `None` where that is no news any more.
fn line(duty: &DutyTold, age_ms: Option<u64>) -> Line<'_> {
    let (mode, wanted) = match duty.mode {
        DutyMode::Exclusive => ("exclusive", 1),
        DutyMode::Available { active } => ("available", active),
    };
    Line {
        name: &duty.name,
        mode,
        wanted,
        state: if age_ms.is_some() { duty.state } else { DutyState::Unknown },
        holders: duty.holders,
        told: Some(duty),
        held_ms: duty.held_ms.zip(age_ms).map(|(held, age)| held.saturating_add(age)),
    }
}

/// Milliseconds since the site told of its users' duties; `None` where it has not, as an older build does not.
pub(crate) fn age_ms(picture: &SitePicture, now: Instant) -> Option<u64> {
    let told = picture.duties.as_ref()?;
    Some(millis(now.since(told.at)))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

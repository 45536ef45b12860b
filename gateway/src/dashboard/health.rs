//! How a site does, in a word and in sentences, from what it tells and what is stored of it. Shown to people; nothing decides
//! by it.

use shared::limits::SESSION_BLOCKS_MAX;
use shared::time::Instant;
use shared::wire::uplink::DutyState;

use super::history::SiteHistory;
use super::words::{about, grouped};
use crate::crew::crew;
use crate::picture::{SILENT_AFTER, SitePicture};

/// From best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// Nothing is to be done.
    Well,
    /// All works, with less in reserve or later than it should.
    Notice,
    /// Somebody should look.
    Trouble,
    /// No board of it has a session here.
    Away,
}

/// What is shown of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) health: Health,
    /// In sentences, the worst first; none where it is well.
    pub(crate) why: Vec<String>,
}

impl Health {
    /// All of them, the worst first.
    pub(crate) const ALL: [Self; 4] = [Self::Away, Self::Trouble, Self::Notice, Self::Well];

    /// The word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Notice => "notice",
            Self::Trouble => "trouble",
            Self::Away => "away",
        }
    }

    /// A sign beside the word, so that colour is never all there is.
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Well => "●",
            Self::Notice => "◐",
            Self::Trouble => "▲",
            Self::Away => "○",
        }
    }
}

/// Judges a site.
pub(crate) fn judge(picture: &SitePicture, history: Option<&SiteHistory>, now: Instant) -> Condition {
    let mut found: Vec<(Health, String)> = Vec::new();
    let mut find = |health, why: String| found.push((health, why));
    match &picture.told {
        None if !picture.is_connected() => {
            find(Health::Away, "It has not called since this gateway started.".to_owned())
        }
        None => {}
        Some(told) => {
            let age = now.since(told.at);
            if !picture.is_connected() {
                find(Health::Away, format!("It has no session here. It was last heard {} ago.", about(age)));
            } else if age >= SILENT_AFTER {
                find(Health::Trouble, format!("It has a session, and has told nothing of itself for {}.", about(age)));
            }
            let silent: Vec<String> = told
                .report
                .boards
                .iter()
                .filter(|line| !line.alive)
                .map(|line| line.board.get().to_string())
                .collect();
            match &silent[..] {
                [] => {}
                [one] => find(Health::Trouble, format!("Board {one} is not heard by the others.")),
                several => find(Health::Trouble, format!("Boards {} are not heard by the others.", several.join(", "))),
            }
        }
    }
    for duty in crew(picture, now) {
        let name = duty.name;
        match duty.state {
            DutyState::Failed => {
                find(Health::Trouble, format!("Nobody performs {name}: its process failed wherever it could run."))
            }
            DutyState::Unassigned => find(Health::Notice, format!("Nobody performs {name}.")),
            DutyState::Short => {
                let (boards, wanted) = (duty.holders.len(), duty.wanted);
                find(Health::Notice, format!("{name} is performed on {boards} boards of {wanted}."));
            }
            DutyState::Unknown | DutyState::Leaving | DutyState::Starting | DutyState::Running => {}
        }
    }
    if let Some(verdict) = history.and_then(SiteHistory::verdict) {
        if !verdict.adds_up {
            find(Health::Trouble, "Its records do not add up: see its ledger.".to_owned());
        }
        if verdict.declared > 0 {
            find(Health::Notice, format!("Declared lost since its first day: {} records.", grouped(verdict.declared)));
        }
    }
    if history.is_some_and(SiteHistory::grows) {
        find(Health::Notice, "More comes in at its boards than goes up to the region.".to_owned());
    }
    if picture.blocks_waiting >= SESSION_BLOCKS_MAX / 2 {
        find(Health::Notice, "The store is slower than what it sends.".to_owned());
    }
    found.sort_by_key(|(health, _)| core::cmp::Reverse(*health));
    let health = found.first().map_or(Health::Well, |(health, _)| *health);
    Condition { health, why: found.into_iter().map(|(_, why)| why).collect() }
}

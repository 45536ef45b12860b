//! The part of a board's text that the node decides by: members, votes, copies, clockwork, journal. Owns the ranges
//! and the combinations that are refused; addresses, files and everything the shell needs are the shell's.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use serde::Deserialize;

use super::text::{ConfigError, Spanned, Text};
use super::{JournalConfig, Timing};
use crate::ids::{BoardId, BoardSet};
use crate::limits::{COPIES_MAX, LEASE_MAX, VOTERS_MAX};

const MIB: u32 = 1024 * 1024;

/// The `[timing]` table: milliseconds, each optional; see [`Timing`] for meaning and defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTiming {
    /// 10 to 1,000.
    pub heartbeat_ms: Option<Spanned<u64>>,
    /// 40 to 60,000, and at least 4 heartbeats.
    pub down_after_ms: Option<Spanned<u64>>,
    /// 100 to 5,000, equal on every board of the site.
    pub lease_ms: Option<Spanned<u64>>,
    /// 10 to 1,666, and at most a third of the lease.
    pub renew_ms: Option<Spanned<u64>>,
    /// 10 to 10,000.
    pub hedge_after_ms: Option<Spanned<u64>>,
    /// 1 to 1,000.
    pub seal_alarm_ms: Option<Spanned<u64>>,
    /// 1 to 10,000.
    pub seal_event_ms: Option<Spanned<u64>>,
    /// 100 to 600,000.
    pub adopt_after_ms: Option<Spanned<u64>>,
}

impl RawTiming {
    /// The checked clockwork. Refused: a value outside its range, fewer than 4 heartbeats before a board counts as
    /// down, a renewal later than a third of the lease.
    pub fn check(&self, text: &Text<'_>) -> Result<Timing, ConfigError> {
        let plain = Timing::default();
        let lease_max = u64::try_from(LEASE_MAX.as_millis()).unwrap_or(u64::MAX);
        let read = |key: &str, given: &Option<Spanned<u64>>, low: u64, high: u64, or: Duration| {
            let or = u64::try_from(or.as_millis()).unwrap_or(u64::MAX);
            let key = format!("timing.{key}");
            let millis = text.within_or(&key, given.as_ref(), low..=high, "ms", or)?;
            Ok(Duration::from_millis(millis))
        };
        let timing = Timing {
            heartbeat: read("heartbeat_ms", &self.heartbeat_ms, 10, 1000, plain.heartbeat)?,
            down_after: read("down_after_ms", &self.down_after_ms, 40, 60_000, plain.down_after)?,
            lease: read("lease_ms", &self.lease_ms, 100, lease_max, plain.lease)?,
            renew: read("renew_ms", &self.renew_ms, 10, lease_max / 3, plain.renew)?,
            hedge_after: read("hedge_after_ms", &self.hedge_after_ms, 10, 10_000, plain.hedge_after)?,
            seal_alarm: read("seal_alarm_ms", &self.seal_alarm_ms, 1, 1000, plain.seal_alarm)?,
            seal_event: read("seal_event_ms", &self.seal_event_ms, 1, 10_000, plain.seal_event)?,
            adopt_after: read("adopt_after_ms", &self.adopt_after_ms, 100, 600_000, plain.adopt_after)?,
        };
        self.check_relations(text, &timing)?;
        Ok(timing)
    }

    fn check_relations(&self, text: &Text<'_>, timing: &Timing) -> Result<(), ConfigError> {
        let Timing { heartbeat, down_after, lease, renew, .. } = *timing;
        if down_after < heartbeat * 4 {
            let at = place([&self.down_after_ms, &self.heartbeat_ms]);
            let message = format!(
                "`timing.down_after_ms` is {}, which is less than 4 heartbeats of {} ms",
                down_after.as_millis(),
                heartbeat.as_millis()
            );
            let least = (heartbeat * 4).as_millis();
            return Err(text.refuse(at, message).suggest(format!(
                "set `down_after_ms = {least}` or more, or a shorter `heartbeat_ms`: one lost datagram is no dead board"
            )));
        }
        if renew * 3 > lease {
            let at = place([&self.renew_ms, &self.lease_ms]);
            let message = format!(
                "`timing.renew_ms` is {}, which is more than a third of the lease of {} ms",
                renew.as_millis(),
                lease.as_millis()
            );
            let most = (lease / 3).as_millis();
            return Err(text.refuse(at, message).suggest(format!(
                "set `renew_ms = {most}` or less, or a longer `lease_ms`: a lease should survive two lost renewals"
            )));
        }
        Ok(())
    }
}

/// Where the first given of some values stands.
fn place(given: [&Option<Spanned<u64>>; 2]) -> Range<usize> {
    given.into_iter().flatten().map(Spanned::span).next().unwrap_or(0..0)
}

/// The `[journal]` table; see [`JournalConfig`] for meaning and defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawJournal {
    /// MiB of one segment file: 4 to 256.
    pub segment_mib: Option<Spanned<u32>>,
    /// Segment files at most: 4 to 65,536.
    pub segments_max: Option<Spanned<u32>>,
}

impl RawJournal {
    /// The checked size. Refused: a value outside its range.
    pub fn check(&self, text: &Text<'_>) -> Result<JournalConfig, ConfigError> {
        let plain = JournalConfig::default();
        let or = plain.segment_bytes / MIB;
        let mib = text.within_or("journal.segment_mib", self.segment_mib.as_ref(), 4..=256, "MiB", or)?;
        let segments = self.segments_max.as_ref();
        let segments_max = text.within_or("journal.segments_max", segments, 4..=65_536, "files", plain.segments_max)?;
        Ok(JournalConfig { segment_bytes: mib * MIB, segments_max })
    }
}

/// Who belongs to a site, who votes, and how many keep a record: the given values.
#[derive(Clone, Copy, Debug)]
pub struct RawMembers<'r> {
    /// This board.
    pub board: &'r Spanned<u8>,
    /// The other boards.
    pub peers: &'r [&'r Spanned<u8>],
    /// Boards that vote; absent: [`default_voters`].
    pub voters: Option<&'r Spanned<Vec<Spanned<u8>>>>,
    /// Boards that keep each record; absent: 2, or 1 where the site has a single board.
    pub copies: Option<&'r Spanned<u8>>,
}

/// The same, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members {
    /// This board.
    pub board: BoardId,
    /// All boards of the site, this one included.
    pub boards: BoardSet,
    /// Boards that vote, all of them in `boards`: an odd number up to 7, or both boards of a pair.
    pub voters: BoardSet,
    /// k: 1 to 5, at most as many as there are boards.
    pub copies: usize,
}

impl RawMembers<'_> {
    /// The checked members. Refused: a number outside 1 to 64, a board named twice, a voter that is no member or is
    /// named twice, an even number of voters (but for a pair), more copies than boards.
    pub fn check(&self, text: &Text<'_>) -> Result<Members, ConfigError> {
        let board = board(text, "board", self.board)?;
        let mut boards = BoardSet::from_iter([board]);
        for peer in self.peers {
            let number = self::board(text, "peer.board", peer)?;
            if !boards.insert(number) {
                let which = if number == board { "this board itself" } else { "named twice" };
                let message = format!("peer {number} is {which}");
                return Err(text
                    .refuse(peer.span(), message)
                    .suggest("list every other board of the site once"));
            }
        }
        let voters = match self.voters {
            Some(voters) => check_voters(text, voters, boards)?,
            None => default_voters(boards),
        };
        let copies = check_copies(text, self.copies, boards.len())?;
        Ok(Members { board, boards, voters, copies })
    }
}

fn board(text: &Text<'_>, key: &str, value: &Spanned<u8>) -> Result<BoardId, ConfigError> {
    let number = *value.get_ref();
    BoardId::new(number)
        .ok_or_else(|| text.refuse(value.span(), format!("`{key}` is {number}, but a board's number is 1 to 64")))
}

fn check_voters(text: &Text<'_>, given: &Spanned<Vec<Spanned<u8>>>, boards: BoardSet) -> Result<BoardSet, ConfigError> {
    let mut voters = BoardSet::EMPTY;
    for value in given.get_ref() {
        let voter = board(text, "voters", value)?;
        if !boards.contains(voter) {
            let members = list(boards);
            return Err(text
                .refuse(value.span(), format!("voter {voter} is no board of this site"))
                .suggest(format!("the boards are {members}: add a [[peer]], or take it out")));
        }
        if !voters.insert(voter) {
            return Err(text.refuse(value.span(), format!("voter {voter} is named twice")));
        }
    }
    let suggestion = format!("for this site: `voters = [{}]`", list(default_voters(boards)));
    if !(1..=VOTERS_MAX).contains(&voters.len()) {
        let message = format!("{} voters, but 1 to {VOTERS_MAX} can vote", voters.len());
        return Err(text.refuse(given.span(), message).suggest(suggestion));
    }
    // Both boards of a pair may vote: neither can lead alone, which is safe. Otherwise an even number only adds a
    // board that must live, and a way to split evenly.
    let pair = boards.len() == 2 && voters.len() == 2;
    if voters.len().is_multiple_of(2) && !pair {
        let message = format!("{} voters: an even number cannot break a tie", voters.len());
        return Err(text.refuse(given.span(), message).suggest(suggestion));
    }
    Ok(voters)
}

fn list(boards: BoardSet) -> String {
    let numbers: Vec<String> = boards.iter().map(|board| board.get().to_string()).collect();
    numbers.join(", ")
}

fn check_copies(text: &Text<'_>, given: Option<&Spanned<u8>>, boards: usize) -> Result<usize, ConfigError> {
    let Some(given) = given else {
        return Ok(boards.min(2));
    };
    let most = u8::try_from(COPIES_MAX).unwrap_or(u8::MAX);
    let copies = usize::from(text.within("copies", given, 1..=most, "")?);
    if copies > boards {
        let message = format!("{copies} copies, but the site has {boards} boards");
        return Err(text
            .refuse(given.span(), message)
            .suggest(format!("set `copies = {boards}`, or add boards")));
    }
    Ok(copies)
}

/// Who votes where nobody says: the lowest numbers, 1 of 1, both of a pair, 3 of 3 or 4, else 5. Five voters ride
/// out two dead boards; more would only slow every vote.
pub fn default_voters(boards: BoardSet) -> BoardSet {
    let count = match boards.len() {
        few @ 0..=2 => few,
        3..=4 => 3,
        _ => 5,
    };
    boards.iter().take(count).collect()
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;

//! The part of a board's text that the node decides by: members, votes, copies, clockwork, journal. Owns the ranges
//! and the combinations that are refused; addresses, files and everything the shell needs are the shell's.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use serde::Deserialize;

use super::text::{ConfigError, Spanned, Text};
use super::{JournalConfig, RepairConfig, Timing};
use crate::ids::{BoardId, BoardSet, VoterSet, Voters, WitnessId};
use crate::limits::{COPIES_MAX, LEASE_MAX, SEGMENTS_LEAST, VOTERS_MAX};

const MIB: u32 = 1024 * 1024;

/// The `[timing]` table: a preset, and milliseconds that differ from it, each optional; see [`Timing`] for meaning and
/// defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTiming {
    /// Where the other values come from.
    #[serde(default)]
    pub preset: Preset,
    /// 10 to 1,000.
    pub heartbeat_ms: Option<Spanned<u64>>,
    /// 20 to 60,000, and at least 2 heartbeats.
    pub down_after_ms: Option<Spanned<u64>>,
    /// 50 to 5,000.
    pub lease_ms: Option<Spanned<u64>>,
    /// 50 to 5,000, and at least the lease.
    pub lease_most_ms: Option<Spanned<u64>>,
    /// 5 to 1,666, and at most a third of the lease.
    pub renew_ms: Option<Spanned<u64>>,
    /// 50 to 5,000, and at least the lease.
    pub witness_lease_ms: Option<Spanned<u64>>,
    /// 10 to 10,000.
    pub hedge_after_ms: Option<Spanned<u64>>,
    /// 1 to 1,000.
    pub seal_alarm_ms: Option<Spanned<u64>>,
    /// 1 to 10,000.
    pub seal_event_ms: Option<Spanned<u64>>,
    /// 100 to 600,000.
    pub adopt_after_ms: Option<Spanned<u64>>,
}

/// A clockwork for a kind of network and machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Boards on one LAN, on machines that run a ready process within some ten milliseconds.
    #[default]
    Default,
    /// Boards on one quiet LAN whose processors are not busy: a lease of 100 ms.
    Fast,
    /// Boards that share a radio or a slow line, or busy machines: a lease of 1 s.
    Rough,
}

impl Preset {
    /// The preset's clockwork.
    pub fn timing(self) -> Timing {
        let plain = Timing::default();
        let ms = Duration::from_millis;
        match self {
            Self::Default => plain,
            Self::Fast => Timing { heartbeat: ms(50), down_after: ms(100), lease: ms(100), renew: ms(20), ..plain },
            Self::Rough => Timing {
                heartbeat: ms(200),
                down_after: ms(800),
                lease: ms(1000),
                lease_most: ms(3000),
                renew: ms(150),
                witness_lease: ms(3000),
                ..plain
            },
        }
    }
}

impl RawTiming {
    /// The checked clockwork. Refused: a value outside its range, fewer than 2 heartbeats before a board counts as
    /// down, a renewal later than a third of the lease, a longest lease or a witness's below the lease.
    pub fn check(&self, text: &Text<'_>) -> Result<Timing, ConfigError> {
        let plain = self.preset.timing();
        let lease_max = u64::try_from(LEASE_MAX.as_millis()).unwrap_or(u64::MAX);
        let read = |key: &str, given: &Option<Spanned<u64>>, low: u64, high: u64, or: Duration| {
            let or = u64::try_from(or.as_millis()).unwrap_or(u64::MAX);
            let key = format!("timing.{key}");
            let millis = text.within_or(&key, given.as_ref(), low..=high, "ms", or)?;
            Ok(Duration::from_millis(millis))
        };
        let lease = read("lease_ms", &self.lease_ms, 50, lease_max, plain.lease)?;
        let timing = Timing {
            heartbeat: read("heartbeat_ms", &self.heartbeat_ms, 10, 1000, plain.heartbeat)?,
            down_after: read("down_after_ms", &self.down_after_ms, 20, 60_000, plain.down_after)?,
            lease,
            lease_most: read("lease_most_ms", &self.lease_most_ms, 50, lease_max, plain.lease_most.max(lease))?,
            renew: read("renew_ms", &self.renew_ms, 5, lease_max / 3, plain.renew)?,
            witness_lease: read(
                "witness_lease_ms",
                &self.witness_lease_ms,
                50,
                lease_max,
                plain.witness_lease.max(lease),
            )?,
            hedge_after: read("hedge_after_ms", &self.hedge_after_ms, 10, 10_000, plain.hedge_after)?,
            seal_alarm: read("seal_alarm_ms", &self.seal_alarm_ms, 1, 1000, plain.seal_alarm)?,
            seal_event: read("seal_event_ms", &self.seal_event_ms, 1, 10_000, plain.seal_event)?,
            adopt_after: read("adopt_after_ms", &self.adopt_after_ms, 100, 600_000, plain.adopt_after)?,
        };
        self.check_relations(text, &timing)?;
        Ok(timing)
    }

    fn check_relations(&self, text: &Text<'_>, timing: &Timing) -> Result<(), ConfigError> {
        let Timing { heartbeat, down_after, lease, lease_most, renew, witness_lease, .. } = *timing;
        if down_after < heartbeat * 2 {
            let at = place([&self.down_after_ms, &self.heartbeat_ms]);
            let message = format!(
                "`timing.down_after_ms` is {}, which is less than 2 heartbeats of {} ms",
                down_after.as_millis(),
                heartbeat.as_millis()
            );
            let least = (heartbeat * 2).as_millis();
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
        let longer = [
            ("lease_most_ms", lease_most, &self.lease_most_ms),
            ("witness_lease_ms", witness_lease, &self.witness_lease_ms),
        ];
        for (key, value, given) in longer {
            if value < lease {
                let at = place([given, &self.lease_ms]);
                let (value, lease) = (value.as_millis(), lease.as_millis());
                let message = format!("`timing.{key}` is {value}, which is less than the lease of {lease} ms");
                return Err(text.refuse(at, message).suggest(format!("set `{key} = {lease}` or more")));
            }
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
    /// Segment files at most: 8 to 65,536.
    pub segments_max: Option<Spanned<u32>>,
    /// Of these, files that alarms alone may fill: 1 to half of them. Absent: a sixteenth.
    pub alarm_reserve: Option<Spanned<u32>>,
    /// Files of records that the region has, kept while there is room: 0 to half of them. Absent: an eighth.
    pub covered_kept: Option<Spanned<u32>>,
    /// Files made and written through before they are needed: 0 to half of them. Absent: an eighth, at most 32.
    pub written_ahead: Option<Spanned<u32>>,
    /// MiB of events that the region does not cover, past which the oldest are shed: 16 or more. Absent: no bound.
    pub event_mib_max: Option<Spanned<u32>>,
    /// The same for bulk.
    pub bulk_mib_max: Option<Spanned<u32>>,
    /// 0 to 1,000.
    pub event_linger_ms: Option<Spanned<u64>>,
    /// 0 to 10,000.
    pub bulk_linger_ms: Option<Spanned<u64>>,
    /// Terabytes (10^12 bytes) that may be written to the medium in its life, by its maker's word: 1 to 1,000,000. For the
    /// shell: the node decides nothing by it.
    pub endurance_tbw: Option<Spanned<u32>>,
    /// File with the keys that the journal is encrypted with. For the shell.
    pub key: Option<Spanned<String>>,
}

impl RawJournal {
    /// The checked size. Refused: a value outside its range.
    pub fn check(&self, text: &Text<'_>) -> Result<JournalConfig, ConfigError> {
        let plain = JournalConfig::default();
        let or = plain.segment_bytes / MIB;
        let mib = text.within_or("journal.segment_mib", self.segment_mib.as_ref(), 4..=256, "MiB", or)?;
        let segments = self.segments_max.as_ref();
        let least = SEGMENTS_LEAST;
        let segments_max =
            text.within_or("journal.segments_max", segments, least..=65_536, "files", plain.segments_max)?;
        let sized = JournalConfig::sized(mib * MIB, segments_max);
        let bound = |key: &str, given: &Option<Spanned<u32>>| {
            let Some(given) = given else { return Ok(u64::MAX) };
            let mib = text.within_or(key, Some(given), 16..=u32::MAX, "MiB", u32::MAX)?;
            Ok(u64::from(mib) * u64::from(MIB))
        };
        let linger = |key: &str, given: &Option<Spanned<u64>>, most: u64, or: Duration| {
            let or = u64::try_from(or.as_millis()).unwrap_or(u64::MAX);
            Ok(Duration::from_millis(text.within_or(key, given.as_ref(), 0..=most, "ms", or)?))
        };
        let reserve = self.alarm_reserve.as_ref();
        Ok(JournalConfig {
            alarm_reserve: text.within_or(
                "journal.alarm_reserve",
                reserve,
                1..=segments_max / 2,
                "files",
                sized.alarm_reserve,
            )?,
            covered_kept: text.within_or(
                "journal.covered_kept",
                self.covered_kept.as_ref(),
                0..=segments_max / 2,
                "files",
                sized.covered_kept,
            )?,
            written_ahead: text.within_or(
                "journal.written_ahead",
                self.written_ahead.as_ref(),
                0..=segments_max / 2,
                "files",
                sized.written_ahead,
            )?,
            event_bytes_max: bound("journal.event_mib_max", &self.event_mib_max)?,
            bulk_bytes_max: bound("journal.bulk_mib_max", &self.bulk_mib_max)?,
            event_linger: linger("journal.event_linger_ms", &self.event_linger_ms, 1000, sized.event_linger)?,
            bulk_linger: linger("journal.bulk_linger_ms", &self.bulk_linger_ms, 10_000, sized.bulk_linger)?,
            ..sized
        })
    }
}

/// The `[repair]` table; see [`RepairConfig`] for meaning and defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRepair {
    /// 0 to 1 GiB.
    pub scrub_bytes_per_s: Option<Spanned<u32>>,
    /// 1 to 2,592,000 (30 days).
    pub scrub_every_s: Option<Spanned<u64>>,
    /// 1 to 2,592,000 (30 days).
    pub absent_after_s: Option<Spanned<u64>>,
}

impl RawRepair {
    /// The checked values. Refused: one outside its range.
    pub fn check(&self, text: &Text<'_>) -> Result<RepairConfig, ConfigError> {
        const DAYS_30: u64 = 30 * 24 * 3600;
        let plain = RepairConfig::default();
        let rate = self.scrub_bytes_per_s.as_ref();
        let or = plain.scrub_bytes_per_s;
        let scrub_bytes_per_s = text.within_or("repair.scrub_bytes_per_s", rate, 0..=1024 * MIB, "bytes/s", or)?;
        let span = |key: &str, given: &Option<Spanned<u64>>, or: Duration| {
            let seconds = text.within_or(key, given.as_ref(), 1..=DAYS_30, "s", or.as_secs())?;
            Ok(Duration::from_secs(seconds))
        };
        Ok(RepairConfig {
            scrub_bytes_per_s,
            scrub_every: span("repair.scrub_every_s", &self.scrub_every_s, plain.scrub_every)?,
            absent_after: span("repair.absent_after_s", &self.absent_after_s, plain.absent_after)?,
        })
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
    /// The witness's number, where one votes beside the boards.
    pub witness: Option<&'r Spanned<u8>>,
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
    /// Who votes, as version 1: boards of `boards` and at most one witness; an odd number up to 7, or both boards of a
    /// pair without a witness.
    pub voters: Voters,
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
        let witness = self.witness.map(|number| witness(text, number)).transpose()?;
        let mut set = match self.voters {
            Some(voters) => check_voters(text, voters, boards, witness)?,
            None => default_voters(boards, witness.is_some()),
        }
        .into();
        if let Some(witness) = witness {
            VoterSet::insert(&mut set, witness.into());
        }
        let voters = Voters { version: 1, set };
        let copies = check_copies(text, self.copies, boards.len())?;
        Ok(Members { board, boards, voters, copies })
    }
}

fn board(text: &Text<'_>, key: &str, value: &Spanned<u8>) -> Result<BoardId, ConfigError> {
    let number = *value.get_ref();
    BoardId::new(number)
        .ok_or_else(|| text.refuse(value.span(), format!("`{key}` is {number}, but a board's number is 1 to 64")))
}

fn witness(text: &Text<'_>, value: &Spanned<u8>) -> Result<WitnessId, ConfigError> {
    let number = *value.get_ref();
    WitnessId::new(number).ok_or_else(|| {
        text.refuse(value.span(), format!("`witness.id` is {number}, but a witness's number is 1 to 63"))
            .suggest("give each machine that ever was this site's witness a number of its own, from 1")
    })
}

fn check_voters(
    text: &Text<'_>,
    given: &Spanned<Vec<Spanned<u8>>>,
    boards: BoardSet,
    witness: Option<WitnessId>,
) -> Result<BoardSet, ConfigError> {
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
    let suggestion = format!("for this site: `voters = [{}]`", list(default_voters(boards, witness.is_some())));
    let count = voters.len() + usize::from(witness.is_some());
    if voters.is_empty() || count > VOTERS_MAX {
        let message = format!("{count} voters, but 1 to {VOTERS_MAX} can vote, one board at least");
        return Err(text.refuse(given.span(), message).suggest(suggestion));
    }
    // Both boards of a pair may vote: neither can lead alone, which is safe. Otherwise an even number only adds a
    // voter that must live, and a way to split evenly.
    let is_lone_pair = boards.len() == 2 && voters.len() == 2 && witness.is_none();
    if count.is_multiple_of(2) && !is_lone_pair {
        let beside = if witness.is_some() { ", the witness included" } else { "" };
        let message = format!("{count} voters{beside}: an even number cannot break a tie");
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

/// Which boards vote where nobody says: the lowest numbers, 1 of 1, both of a pair, 3 of 3 or 4, else 5; beside a
/// witness 2, or 4 of 5 and more. Five voters ride out two dead ones; more would only slow every vote.
pub fn default_voters(boards: BoardSet, with_witness: bool) -> BoardSet {
    let count = match (boards.len(), with_witness) {
        (few @ 0..=2, false) => few,
        (3..=4, false) => 3,
        (_, false) => 5,
        (few @ 0..=1, true) => few,
        (2..=4, true) => 2,
        (_, true) => 4,
    };
    boards.iter().take(count).collect()
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;

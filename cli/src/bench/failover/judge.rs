//! The judgement of a trial, from the beats alone: how long nobody else acted after the fault, and whether two ever
//! acted at once. Owns these two definitions; sees no clock and no process.
//!
//! Takeover: from the fault to the first beat, of another process, under a higher token. Overlap: a beat under an older
//! token that was sent after one under a newer token; or two processes under one token of which one beats again after
//! the other did, or which stand on two boards.

use std::collections::BTreeMap;
use std::time::Duration;

use super::beat::{Beat, Stamp};

/// What one trial showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// From the fault to the first beat of the next holder; `None` while there is none.
    pub takeover: Option<Duration>,
    /// From the last beat of the one before to the first of the next: how long nobody acted.
    pub gap: Option<Duration>,
    /// Beats that should not have been sent.
    pub overlaps: usize,
    /// The board of the next holder.
    pub board: Option<u8>,
}

/// The holder at `fault`: the beat under the highest token up to then.
pub fn holder(beats: &[Beat], fault: Stamp) -> Option<Beat> {
    let before = beats.iter().filter(|beat| beat.acts() && beat.stamp <= fault);
    before.max_by_key(|beat| (beat.token, beat.stamp)).copied()
}

/// Who counts as the next holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another process than the old one.
    Another,
    /// Also the same one: where the old holder is well, and only the leader above it changes.
    Anybody,
}

/// Judges all `beats` around a fault, in any order.
pub fn judge(beats: &[Beat], fault: Stamp, who: Next) -> Verdict {
    let acting = acting(beats);
    let overlaps = overlaps(beats);
    let Some(old) = holder(&acting, fault) else {
        return Verdict { takeover: None, gap: None, overlaps, board: None };
    };
    let next = acting.iter().find(|beat| {
        let counts = who == Next::Anybody || beat.process != old.process;
        beat.stamp > fault && beat.token > old.token && counts
    });
    let last = acting
        .iter()
        .rev()
        .find(|beat| beat.process == old.process && beat.token == old.token);
    Verdict {
        takeover: next.map(|next| next.stamp.since(fault)),
        gap: next.zip(last).map(|(next, last)| next.stamp.since(last.stamp)),
        overlaps,
        board: next.map(|next| next.board),
    }
}

/// Those that act, in the order in which they were sent.
fn acting(beats: &[Beat]) -> Vec<Beat> {
    let mut acting: Vec<Beat> = beats.iter().filter(|beat| beat.acts()).copied().collect();
    acting.sort_by_key(|beat| (beat.stamp, beat.token));
    acting
}

/// How many of `beats`, in any order, prove two holders at once.
pub fn overlaps(beats: &[Beat]) -> usize {
    let mut newest = 0;
    // Of each token: who acts under it, and who has under it before.
    let mut under: BTreeMap<u64, Vec<(u8, u32)>> = BTreeMap::new();
    let mut found = 0;
    for beat in &acting(beats) {
        let who = (beat.board, beat.process);
        let known = under.entry(beat.token).or_default();
        let is_elsewhere = known.iter().any(|(board, _)| *board != beat.board);
        let is_back = known.contains(&who) && known.last() != Some(&who);
        if beat.token < newest || is_elsewhere || is_back {
            found += 1;
        }
        if !known.contains(&who) {
            known.push(who);
        }
        newest = newest.max(beat.token);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn beat(at_ms: u64, token: u64, process: u32) -> Beat {
        Beat {
            stamp: Stamp(at_ms * MS),
            token,
            number: 0,
            process,
            board: u8::try_from(process / 10).unwrap(),
        }
    }

    #[test]
    fn a_clean_takeover_is_measured_from_the_fault() {
        let beats = [beat(1, 5, 10), beat(2, 5, 10), beat(9, 0, 20), beat(12, 6, 20), beat(13, 6, 20)];
        let verdict = judge(&beats, Stamp(3 * MS), Next::Another);
        let expected = Verdict {
            takeover: Some(Duration::from_millis(9)),
            gap: Some(Duration::from_millis(10)),
            overlaps: 0,
            board: Some(2),
        };
        assert_eq!(verdict, expected);
    }

    #[test]
    fn the_old_process_and_an_old_token_are_no_takeover() {
        let beats = [beat(1, 5, 10), beat(4, 6, 10), beat(5, 5, 20)];
        assert_eq!(judge(&beats, Stamp(3 * MS), Next::Another).takeover, None);
        assert_eq!(judge(&beats, Stamp(3 * MS), Next::Anybody).takeover, Some(Duration::from_millis(1)));
        assert_eq!(judge(&[], Stamp(3 * MS), Next::Another).takeover, None);
    }

    #[test]
    fn an_older_token_after_a_newer_one_is_an_overlap() {
        let clean = [beat(1, 5, 10), beat(2, 5, 10), beat(3, 6, 20)];
        assert_eq!(judge(&clean, Stamp(2 * MS), Next::Another).overlaps, 0);
        let late = [beat(1, 5, 10), beat(3, 6, 20), beat(4, 5, 10), beat(5, 5, 10)];
        assert_eq!(judge(&late, Stamp(2 * MS), Next::Another).overlaps, 2);
    }

    #[test]
    fn one_token_for_two_is_an_overlap() {
        let boards = [beat(1, 5, 10), beat(2, 5, 20)];
        assert_eq!(judge(&boards, Stamp(MS), Next::Another).overlaps, 1);
        let replaced = [beat(1, 5, 10), beat(2, 5, 11)];
        assert_eq!(
            judge(&replaced, Stamp(MS), Next::Another).overlaps,
            0,
            "a process started anew on its board is no second holder"
        );
        let both = [beat(1, 5, 10), beat(2, 5, 11), beat(3, 5, 10)];
        assert_eq!(judge(&both, Stamp(MS), Next::Another).overlaps, 1);
    }
}

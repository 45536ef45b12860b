//! How things are shown as JSON: names of members, and the reckoning that says whether a site adds up.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::ids::{BoardId, Name};
use shared::record::Kind;
use shared::time::Instant;
use shared::wire::uplink::BoardReport;

use crate::picture::SitePicture;
use crate::store::read::{Row, SiteCounts, StreamCounts};

/// A site at a glance.
pub(super) fn site(name: &Name, picture: &SitePicture, now: Instant) -> Value {
    let sessions = picture.sessions.iter().map(|speaker| {
        json!({
            "board": speaker.board,
            "term": speaker.term.map(|term| term.to_string()),
        })
    });
    let reported = picture.told.as_ref().map(|told| {
        json!({
            "board": told.board,
            "term": told.term.to_string(),
            "age_ms": u64::try_from(now.since(told.at).as_millis()).unwrap_or(u64::MAX),
            "boards": told.report.boards.len(),
            "boards_alive": told.report.boards.iter().filter(|line| line.alive).count(),
        })
    });
    json!({
        "site": name,
        "is_connected": picture.sessions.iter().any(|speaker| speaker.term.is_some()),
        "sessions": sessions.collect::<Vec<Value>>(),
        "blocks_waiting": picture.blocks_waiting,
        "report": reported,
    })
}

/// What the store has of something.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    rows: u64,
    duplicates: u64,
    gaps: u64,
    covered: u64,
    shed: u64,
    holes: u64,
}

impl Kept {
    fn add(mut self, counts: &StreamCounts) -> Self {
        self.rows += counts.rows;
        self.duplicates += counts.duplicates;
        self.gaps += counts.gaps;
        self.covered += counts.covered;
        self.shed += counts.shed;
        self.holes += counts.holes;
        self
    }

    fn of<'c>(counts: impl Iterator<Item = &'c StreamCounts>) -> Self {
        counts.fold(Self::default(), Self::add)
    }
}

/// Counts of a site and its boards. What boards report counts from their last start; what is stored counts for ever.
pub(super) fn counts(name: &Name, picture: &SitePicture, counts: &SiteCounts, now: Instant) -> Value {
    let reported: &[BoardReport] = picture.told.as_ref().map_or(&[], |told| &told.report.boards);
    let kept = Kept::of(counts.streams.iter());
    let backlog = sum(reported, |line| line.backlog);
    let mut boards: BTreeMap<BoardId, Option<&BoardReport>> =
        counts.streams.iter().map(|counts| (counts.stream.origin.board, None)).collect();
    boards.extend(reported.iter().map(|line| (line.board, Some(line))));
    let boards: Vec<Value> = boards.into_iter().map(|(id, line)| board(id, line, counts)).collect();
    let reconciles = boards.iter().all(|board| board["reconciles"] == true) && (kept.holes <= backlog);
    let age = picture.told.as_ref().map(|told| now.since(told.at).as_millis());
    json!({
        "site": name,
        "report_age_ms": age.map(|age| u64::try_from(age).unwrap_or(u64::MAX)),
        "accepted": sum(reported, |line| line.accepted),
        "committed": sum(reported, |line| line.committed),
        "degraded": sum(reported, |line| line.degraded),
        "unacknowledged": sum(reported, |line| line.unacknowledged),
        "backlog": backlog,
        "stored": kept.rows,
        "duplicates": kept.duplicates,
        "gaps": kept.gaps,
        "shed": kept.shed,
        "holes": kept.holes,
        "reconciles": reconciles,
        "boards": boards,
    })
}

fn sum(reported: &[BoardReport], figure: impl Fn(&BoardReport) -> u64) -> u64 {
    reported.iter().map(figure).fold(0, u64::saturating_add)
}

fn board(id: BoardId, line: Option<&BoardReport>, counts: &SiteCounts) -> Value {
    let of_board = || counts.streams.iter().filter(move |counts| counts.stream.origin.board == id);
    let kept = Kept::of(of_board());
    // The board's counters run from its start, and so does its epoch: these two can be set against each other. What it
    // has committed is stored, declared lost, or still in its journal.
    let reconciles = line.is_none_or(|line| {
        let kept = Kept::of(of_board().filter(|counts| counts.stream.origin.epoch == line.epoch));
        line.committed <= kept.covered.saturating_add(kept.shed).saturating_add(line.backlog)
    });
    json!({
        "board": id,
        "epoch": line.map(|line| line.epoch.to_string()),
        "is_alive": line.map(|line| line.alive),
        "accepted": line.map(|line| line.accepted),
        "committed": line.map(|line| line.committed),
        "degraded": line.map(|line| line.degraded),
        "unacknowledged": line.map(|line| line.unacknowledged),
        "backlog": line.map(|line| line.backlog),
        "stored": kept.rows,
        "duplicates": kept.duplicates,
        "gaps": kept.gaps,
        "shed": kept.shed,
        "holes": kept.holes,
        "reconciles": reconciles,
    })
}

/// A row. A payload that is no text is shown in hexadecimal.
pub(super) fn record(row: &Row<'_>) -> Value {
    let (member, payload) = match std::str::from_utf8(row.payload) {
        Ok(text) => ("payload", text.to_owned()),
        Err(_) => ("payload_hex", hex(row.payload)),
    };
    json!({
        "board": row.stream.origin.board,
        "epoch": row.stream.origin.epoch.to_string(),
        "class": row.stream.class,
        "seq": row.seq,
        "kind": match row.kind {
            Kind::Reading => "reading",
            Kind::Gap => "gap",
        },
        "publisher": row.publisher,
        "key": format!("{}:{}", row.key.kind, hex(&row.key.bytes)),
        "taken_ms": row.taken_ms,
        "topic": row.topic,
        member: payload,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

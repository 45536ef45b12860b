//! How things are shown as JSON: names and values of members.

use serde_json::{Value, json};
use shared::ids::{BoardId, BoardSet, Name};
use shared::record::Kind;
use shared::time::Instant;

use crate::crew::{Line, age_ms, crew};
use crate::dashboard::{SiteHistory, judge};
use crate::picture::SitePicture;
use crate::reckon::{BoardLedger, reckon};
use crate::store::read::{Row, SiteCounts};

/// A site at a glance.
pub(super) fn site(name: &Name, picture: &SitePicture, history: Option<&SiteHistory>, now: Instant) -> Value {
    let condition = judge(picture, history, now);
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
            "backlog": told.report.boards.iter().map(|line| line.backlog).fold(0, u64::saturating_add),
            "boards_alive": told.report.boards.iter().filter(|line| line.alive).count(),
        })
    });
    json!({
        "site": name,
        "state": condition.health.word(),
        "why": condition.why,
        "is_connected": picture.is_connected(),
        "sessions": sessions.collect::<Vec<Value>>(),
        "blocks_waiting": picture.blocks_waiting,
        "stored_per_s": history.and_then(SiteHistory::rate),
        "drained_in_s": history.and_then(SiteHistory::drained_in).map(|span| span.as_secs_f64()),
        "report": reported,
        "duties": crew(picture, now).iter().map(duty).collect::<Vec<Value>>(),
        "duties_age_ms": age_ms(picture, now),
    })
}

/// A duty of a site.
fn duty(line: &Line<'_>) -> Value {
    let told = line.told;
    json!({
        "name": line.name,
        "mode": line.mode,
        "wanted": line.wanted,
        "state": line.state.as_str(),
        "holders": numbers(line.holders),
        "ready": told.map(|told| numbers(told.ready)),
        "failed": told.map(|told| numbers(told.failed)),
        "token": told.and_then(|told| told.token).map(|token| token.token().to_string()),
        "held_ms": line.held_ms,
        "waits_for": told.map(|told| told.waits_for.as_str()),
        "why": told.map(|told| told.why.as_str()),
    })
}

fn numbers(boards: BoardSet) -> Vec<u8> {
    boards.iter().map(BoardId::get).collect()
}

/// What a site did lately.
pub(super) fn history(name: &Name, history: Option<&SiteHistory>, now: Instant) -> Value {
    let samples = history.into_iter().flat_map(SiteHistory::samples).map(|sample| {
        json!({
            "age_ms": u64::try_from(now.since(sample.at).as_millis()).unwrap_or(u64::MAX),
            "stored": sample.stored,
            "backlog": sample.backlog,
        })
    });
    json!({ "site": name, "samples": samples.collect::<Vec<Value>>() })
}

/// Counts of a site and its boards. What boards report counts from their last start; what is stored counts for ever.
pub(super) fn counts(name: &Name, picture: &SitePicture, counts: &SiteCounts, now: Instant) -> Value {
    let ledger = reckon(picture, counts);
    let boards: Vec<Value> = ledger.boards.iter().map(board).collect();
    let age = picture.told.as_ref().map(|told| now.since(told.at).as_millis());
    json!({
        "site": name,
        "report_age_ms": age.map(|age| u64::try_from(age).unwrap_or(u64::MAX)),
        "accepted": ledger.accepted,
        "committed": ledger.committed,
        "degraded": ledger.degraded,
        "unacknowledged": ledger.unacknowledged,
        "backlog": ledger.backlog,
        "stored": ledger.kept.rows,
        "duplicates": ledger.kept.duplicates,
        "gaps": ledger.kept.gaps,
        "archived": ledger.kept.archived,
        "expired": ledger.kept.expired,
        "shed": ledger.kept.shed,
        "holes": ledger.kept.holes,
        "reconciles": ledger.adds_up,
        "boards": boards,
    })
}

fn board(ledger: &BoardLedger<'_>) -> Value {
    let BoardLedger { board, told, kept, adds_up } = *ledger;
    let is_alive = told.map(|line| line.alive);
    let told = told.filter(|line| line.is_heard());
    json!({
        "board": board,
        "epoch": told.map(|line| line.epoch.to_string()),
        "is_alive": is_alive,
        "accepted": told.map(|line| line.accepted),
        "committed": told.map(|line| line.committed),
        "degraded": told.map(|line| line.degraded),
        "unacknowledged": told.map(|line| line.unacknowledged),
        "backlog": told.map(|line| line.backlog),
        "stored": kept.rows,
        "duplicates": kept.duplicates,
        "gaps": kept.gaps,
        "archived": kept.archived,
        "expired": kept.expired,
        "shed": kept.shed,
        "holes": kept.holes,
        "reconciles": adds_up,
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

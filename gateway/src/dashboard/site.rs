//! The page of one site: how it does, who performs its duties, whether it adds up, its boards, curves, alarms and what happened.

use maud::{Markup, html};
use shared::ids::{Class, Name};
use shared::time::Instant;
use shared::wire::uplink::BoardReport;

use super::duties::duties;
use super::health::judge;
use super::history::SiteHistory;
use super::overview::waiting;
use super::page::Part;
use super::plot::plot;
use super::words::{about, grouped, moment};
use crate::picture::SitePicture;
use crate::reckon::{Ledger, reckon};
use crate::store::StoreError;
use crate::store::read::{SiteCounts, StoreReader, StoredEvent};

/// Alarms on the page, the newest first.
const ALARMS: usize = 20;
/// Events on the page, the newest first.
const EVENTS: u32 = 50;
/// Characters of a payload.
const PAYLOAD_CHARS: usize = 160;

/// What the store has of a site, as the page shows it.
pub(super) struct Stored {
    counts: SiteCounts,
    alarms: Vec<Alarm>,
    events: Vec<StoredEvent>,
}

struct Alarm {
    taken_ms: i64,
    board: u8,
    publisher: String,
    topic: String,
    payload: String,
}

impl Stored {
    /// Reads it.
    pub(super) fn read(store: &dyn StoreReader, site: &Name) -> Result<Self, StoreError> {
        let mut alarms = Vec::new();
        store.newest(site, Class::Alarm, ALARMS as u32, &mut |row| {
            if row.kind == shared::record::Kind::Reading {
                alarms.push(Alarm {
                    taken_ms: row.taken_ms,
                    board: row.stream.origin.board.get(),
                    publisher: row.publisher.to_owned(),
                    topic: row.topic.to_owned(),
                    payload: shortened(row.payload),
                });
            }
        })?;
        alarms.sort_by_key(|alarm| core::cmp::Reverse(alarm.taken_ms));
        alarms.truncate(ALARMS);
        Ok(Self { counts: store.counts(site)?, alarms, events: store.events(site, EVENTS)? })
    }
}

fn shortened(payload: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(payload) else {
        return format!("{} bytes that are no text", grouped(payload.len() as u64));
    };
    match text.char_indices().nth(PAYLOAD_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The page's pieces, in order.
pub(super) fn parts(
    name: &Name,
    picture: &SitePicture,
    history: Option<&SiteHistory>,
    stored: &Stored,
    now: Instant,
) -> Vec<Part> {
    let ledger = reckon(picture, &stored.counts);
    vec![
        Part::new("state", state(name, picture, history, now)),
        Part::new("duties", duties(picture, now)),
        Part::new("ledger", ledger_of(&ledger, picture)),
        Part::new("boards", boards(&ledger)),
        Part::new("curves", curves(history)),
        Part::new("alarms", alarms(&stored.alarms)),
        Part::new("events", events(&stored.events)),
    ]
}

fn state(name: &Name, picture: &SitePicture, history: Option<&SiteHistory>, now: Instant) -> Markup {
    let condition = judge(picture, history, now);
    let speakers = picture
        .sessions
        .iter()
        .filter_map(|speaker| Some((speaker.board, speaker.term?)));
    html! {
        section #state {
            h1 { "Site " (name) }
            p {
                span.health.(condition.health.word()) {
                    span aria-hidden="true" { (condition.health.sign()) } " " (condition.health.word())
                }
            }
            @for why in &condition.why { p.why { (why) } }
            dl {
                dt { "Leader, and holder of the duty uplink" }
                dd {
                    @for (board, term) in speakers { "board " (board.get()) ", term " (term) " " }
                    @if !picture.is_connected() { "no session here" }
                }
                dt { "Backlog" } dd { (waiting(picture, history)) }
                dt { "Blocks that wait for the store" } dd { (grouped(picture.blocks_waiting as u64)) }
                @if let Some(told) = &picture.told {
                    dt { "Last told of itself" }
                    dd { "by board " (told.board.get()) ", " (about(now.since(told.at))) " ago" }
                }
            }
        }
    }
}

fn ledger_of(ledger: &Ledger<'_>, picture: &SitePicture) -> Markup {
    let lines = [
        ("Readings stored as rows, ever", ledger.kept.rows),
        ("Readings that came again under another address", ledger.kept.duplicates),
        ("Gap records", ledger.kept.gaps),
        ("Records in the archive", ledger.kept.archived),
        ("Records removed because their time was over", ledger.kept.expired),
        ("Records declared lost, each range by a gap record", ledger.kept.shed),
        ("Sequences neither stored nor declared lost", ledger.kept.holes),
        ("Records in journals that the region lacks, each on every board that holds it", ledger.backlog),
    ];
    html! {
        section #ledger {
            h2 { "Does it add up?" }
            p.(if ledger.adds_up { "yes" } else { "no" }) {
                @if ledger.adds_up && picture.told.is_some() { "Yes: what the boards have committed is stored, declared lost, or on its way." }
                @else if ledger.adds_up { "Nothing is missing that is stored around; the site has told nothing to set against it yet." }
                @else { "No: more is missing than is on its way. Look at the boards below, and at the events." }
            }
            table { tbody { @for (what, count) in lines { tr { th scope="row" { (what) } td { (grouped(count)) } } } } }
        }
    }
}

fn boards(ledger: &Ledger<'_>) -> Markup {
    html! {
        section #boards {
            h2 { "Boards" }
            @if ledger.boards.is_empty() { p { "None is known yet." } }
            @else {
                table {
                    thead {
                        tr {
                            @for head in ["Board", "Heard", "Accepted", "Committed", "On fewer boards", "Stored, ever", "Backlog", "Adds up"] {
                                th scope="col" { (head) }
                            }
                        }
                    }
                    tbody {
                        @for board in &ledger.boards {
                            tr {
                                th scope="row" { "board " (board.board.get()) }
                                @let heard = board.told.filter(|told| told.is_heard());
                                td data-label="Heard" {
                                    @match board.told.map(|told| told.alive) {
                                        Some(true) => "yes",
                                        Some(false) => strong.no { "no" },
                                        None => "–",
                                    }
                                }
                                td data-label="Accepted" { (figure(heard, |told| told.accepted)) }
                                td data-label="Committed" { (figure(heard, |told| told.committed)) }
                                td data-label="On fewer boards" { (figure(heard, |told| told.degraded)) }
                                td data-label="Stored, ever" { (grouped(board.kept.rows)) }
                                td data-label="Backlog" { (figure(heard, |told| told.backlog)) }
                                td data-label="Adds up" { @if board.adds_up { "yes" } @else { strong.no { "no" } } }
                            }
                        }
                    }
                }
                p.note { "Accepted and committed count from the board's last start." }
            }
        }
    }
}

fn figure(told: Option<&BoardReport>, figure: fn(&BoardReport) -> u64) -> String {
    told.map_or("–".to_owned(), |told| grouped(figure(told)))
}

fn curves(history: Option<&SiteHistory>) -> Markup {
    let flow: Vec<Option<f64>> = history
        .map(SiteHistory::flow)
        .unwrap_or_default()
        .into_iter()
        .map(Some)
        .collect();
    let backlog: Vec<Option<f64>> = history
        .map(|history| {
            history
                .samples()
                .map(|sample| sample.backlog.map(|records| records as f64))
                .collect()
        })
        .unwrap_or_default();
    html! {
        section #curves {
            h2 { "The last half hour" }
            (plot("Stored", "rows/s", &flow))
            (plot("Backlog", "records", &backlog))
        }
    }
}

fn alarms(alarms: &[Alarm]) -> Markup {
    html! {
        section #alarms {
            h2 { "Newest alarms" }
            @if alarms.is_empty() { p { "None is stored." } }
            @else {
                table {
                    thead {
                        tr {
                            th scope="col" { "Taken" } th scope="col" { "Board" } th scope="col" { "Publisher" }
                            th scope="col" { "Topic" } th scope="col" { "Says" }
                        }
                    }
                    tbody {
                        @for alarm in alarms {
                            tr {
                                th scope="row" { (moment(alarm.taken_ms)) }
                                td data-label="Board" { (alarm.board) }
                                td data-label="Publisher" { (alarm.publisher) }
                                td data-label="Topic" { (alarm.topic) }
                                td data-label="Says" { code { (alarm.payload) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn events(events: &[StoredEvent]) -> Markup {
    html! {
        section #events {
            h2 { "What happened" }
            @if events.is_empty() { p { "Nothing is noted." } }
            @else {
                ol {
                    @for event in events {
                        li { time { (moment(event.at_ms)) } " " strong { (event.name.replace('_', " ")) } " " (event.detail) }
                    }
                }
            }
        }
    }
}

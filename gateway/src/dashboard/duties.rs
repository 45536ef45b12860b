//! The part of a site's page that shows its duties: on which board each one is, and how it does there.

use std::time::Duration;

use maud::{Markup, html};
use shared::ids::BoardSet;
use shared::time::Instant;
use shared::wire::uplink::{DutyState, DutyTold};

use super::words::about;
use crate::crew::{Line, age_ms, crew};
use crate::picture::{SILENT_AFTER, SitePicture};

/// The section.
pub(super) fn duties(picture: &SitePicture, now: Instant) -> Markup {
    let age = age_ms(picture, now).map(Duration::from_millis);
    let lines = crew(picture, now);
    html! {
        section #duties {
            h2 { "Duties" }
            table {
                thead {
                    tr {
                        @for head in ["Duty", "Kind", "State", "On", "Ready on", "Failed on", "For", "Why there, and what it waits for"] {
                            th scope="col" { (head) }
                        }
                    }
                }
                tbody { @for line in &lines { (row(line)) } }
            }
            @match age {
                None if !picture.is_connected() => p.note { "No board speaks for the site here." },
                None => p.note { "The site has not told of its users' duties, as boards of an earlier version do not." },
                Some(age) if !picture.is_connected() => p.note { "No board speaks for the site here: where they were was told " (about(age)) " ago." },
                Some(age) if age >= SILENT_AFTER => p.note { "Nothing was told of them for " (about(age)) "." },
                Some(_) => {}
            }
        }
    }
}

fn row(line: &Line<'_>) -> Markup {
    let of_told = |boards: fn(&DutyTold) -> BoardSet| numbers(line.told.map_or(BoardSet::EMPTY, boards));
    let held = line.held_ms.map(|held| about(Duration::from_millis(held)));
    html! {
        tr {
            th scope="row" { (line.name) }
            td data-label="Kind" { (line.mode) @if line.wanted > 1 { ", on " (line.wanted) } }
            td data-label="State" { (state(line.state)) }
            (cell("On", None, numbers(line.holders)))
            (cell("Ready on", None, of_told(|told| told.ready)))
            (cell("Failed on", Some("no"), of_told(|told| told.failed)))
            (cell("For", None, held))
            (cell("Why", None, line.told.and_then(reason)))
        }
    }
}

/// A cell, or one that is left out where there is little room.
fn cell(label: &str, class: Option<&str>, text: Option<String>) -> Markup {
    html! {
        @match text {
            Some(text) => td data-label=(label) { span class=[class] { (text) } },
            None => td.none data-label=(label) { "–" },
        }
    }
}

fn state(state: DutyState) -> Markup {
    let class = match state {
        DutyState::Running => "yes",
        DutyState::Unknown => "note",
        DutyState::Leaving | DutyState::Starting | DutyState::Short => "notice",
        DutyState::Unassigned | DutyState::Failed => "no",
    };
    html! { strong class=(class) { (state.as_str()) } }
}

/// Why it is there, and what it waits for where it waits for something.
fn reason(told: &DutyTold) -> Option<String> {
    let waits = Some(told.waits_for.as_str()).filter(|waits| !waits.is_empty() && *waits != "nothing");
    let waits = waits.map(|waits| format!("waits for {waits}"));
    let said = Some(told.why.to_string()).filter(|why| !why.is_empty());
    let said: Vec<String> = said.into_iter().chain(waits).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// Boards by their numbers.
fn numbers(boards: BoardSet) -> Option<String> {
    let numbers: Vec<String> = boards.iter().map(|board| board.get().to_string()).collect();
    let word = if numbers.len() == 1 { "board" } else { "boards" };
    (!numbers.is_empty()).then(|| format!("{word} {}", numbers.join(", ")))
}

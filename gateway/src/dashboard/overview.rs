//! The page of all sites: how many do how well, and a line for each, the worst first.

use maud::{Markup, html};
use shared::ids::Name;
use shared::time::Instant;

use super::health::{Condition, Health, judge};
use super::history::{Histories, SiteHistory, backlog};
use super::page::Part;
use super::plot::sparkline;
use super::words::{grouped, left, rate};
use crate::picture::{Picture, SitePicture};

/// Lines on the page. Further sites are counted, and found by name.
const LINES_MAX: usize = 500;

/// Which sites are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Those that do so alone.
    pub(super) health: Option<Health>,
    /// Those with this in their name alone; empty for all.
    pub(super) name: String,
}

impl Filter {
    /// The question part of a path that asks for the same.
    pub(super) fn query(&self) -> String {
        let mut parts = Vec::new();
        if let Some(health) = self.health {
            parts.push(format!("show={}", health.word()));
        }
        if !self.name.is_empty() {
            parts.push(format!("name={}", self.name));
        }
        if parts.is_empty() {
            String::new()
        } else {
            format!("?{}", parts.join("&"))
        }
    }

    fn lets(&self, name: &Name, health: Health) -> bool {
        self.health.is_none_or(|wanted| wanted == health) && name.as_str().contains(&self.name)
    }
}

/// The page's pieces.
pub(super) struct Overview {
    pub(super) summary: Part,
    /// Of each site that is shown, in order.
    pub(super) rows: Vec<Part>,
    left_out: usize,
}

impl Overview {
    pub(super) fn draw(picture: &Picture, histories: &Histories, filter: &Filter, now: Instant) -> Self {
        let mut sites: Vec<(&Name, &SitePicture, Condition)> = picture
            .sites
            .iter()
            .map(|(name, site)| (name, site, judge(site, histories.get(name), now)))
            .collect();
        let count = |health| sites.iter().filter(|(.., condition)| condition.health == health).count();
        let counts = Health::ALL.map(|health| (health, count(health)));
        let summary = Part::new("summary", summary(sites.len(), &counts, filter));
        sites.retain(|(name, _, condition)| filter.lets(name, condition.health));
        // By name among those that do as well: what comes from the picture is in that order.
        sites.sort_by_key(|(.., condition)| core::cmp::Reverse(condition.health));
        let left_out = sites.len().saturating_sub(LINES_MAX);
        sites.truncate(LINES_MAX);
        let row = |(name, site, condition): (&Name, &SitePicture, Condition)| {
            Part::new(format!("site-{name}"), row(name, site, histories.get(name), &condition))
        };
        Self { summary, rows: sites.into_iter().map(row).collect(), left_out }
    }

    /// All lines.
    pub(super) fn table(&self) -> Part {
        let table = html! {
            section #sites {
                @if self.rows.is_empty() { p { "No site is like that." } }
                @else {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Site" } th scope="col" { "State" } th scope="col" { "Leader" }
                                th scope="col" { "Boards" } th scope="col" { "Stored" } th scope="col" { "Half an hour" }
                                th scope="col" { "Backlog" }
                            }
                        }
                        tbody { @for row in &self.rows { (row.markup) } }
                    }
                }
                @if self.left_out > 0 { p { (grouped(self.left_out as u64)) " more: look for them by name." } }
            }
        };
        Part::new("sites", table)
    }

    /// The page's body.
    pub(super) fn body(&self, filter: &Filter) -> Markup {
        html! {
            h1 { "Sites" }
            (self.summary.markup)
            form method="get" action="/" role="search" {
                @if let Some(health) = filter.health { input type="hidden" name="show" value=(health.word()); }
                label for="name" { "Name contains" }
                input #name name="name" type="search" value=(filter.name) maxlength="64";
                button { "Find" }
            }
            (self.table().markup)
        }
    }
}

fn summary(all: usize, counts: &[(Health, usize)], filter: &Filter) -> Markup {
    let path = |health| format!("/{}", Filter { health, ..filter.clone() }.query());
    let current = |health| (filter.health == health).then_some("page");
    html! {
        nav #summary aria-label="Sites by state" {
            a #show-all href=(path(None)) aria-current=[current(None)] { strong { (grouped(all as u64)) } " in all" }
            @for (health, count) in counts {
                a id=(format!("show-{}", health.word())) class=(health.word()) href=(path(Some(*health)))
                    aria-current=[current(Some(*health))] {
                    span aria-hidden="true" { (health.sign()) } " " strong { (grouped(*count as u64)) } " " (health.word())
                }
            }
        }
    }
}

fn row(name: &Name, site: &SitePicture, history: Option<&SiteHistory>, condition: &Condition) -> Markup {
    let leader = site.sessions.iter().find(|speaker| speaker.term.is_some());
    let boards = site.told.as_ref().map(|told| {
        let alive = told.report.boards.iter().filter(|line| line.alive).count();
        format!("{alive} of {}", told.report.boards.len())
    });
    let rate = history.and_then(SiteHistory::rate).map(rate);
    html! {
        tr id=(format!("site-{name}")) {
            th scope="row" { a id=(format!("to-{name}")) href=(format!("/sites/{name}")) { (name) } }
            td data-label="State" {
                span.health.(condition.health.word()) {
                    span aria-hidden="true" { (condition.health.sign()) } " " (condition.health.word())
                }
                @for why in &condition.why { p.why { (why) } }
            }
            td data-label="Leader" { @if let Some(leader) = leader { "board " (leader.board.get()) } @else { "–" } }
            td data-label="Boards" { (boards.as_deref().unwrap_or("–")) }
            td data-label="Stored" { @if let Some(rate) = rate { (rate) " /s" } @else { "–" } }
            td.curve { @if let Some(history) = history { (sparkline(&history.flow())) } }
            td data-label="Backlog" { (waiting(site, history)) }
        }
    }
}

/// What the region lacks, and for how long still.
pub(super) fn waiting(site: &SitePicture, history: Option<&SiteHistory>) -> Markup {
    html! {
        @match backlog(site) {
            Some(records) => {
                (grouped(records))
                @if let Some(span) = history.and_then(SiteHistory::drained_in) { ", " (left(span)) " left" }
            }
            None => "unknown",
        }
    }
}

//! The board's page for people: the facts of `/status` as plain, light HTML that any browser shows without a network.

use std::fmt::{Display, Write};

use shared::ids::Term;
use shared::node::status::Status;

use crate::drive::Snapshot;
use crate::uplink::StandingStatus;
use crate::wear::WearStatus;

/// Lines of what happened lately that the page shows.
const HISTORY_LINES: usize = 20;

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta name=viewport content='width=device-width,initial-scale=1'><title>Roadstead</title><link rel=icon href=data:,>\
<noscript><meta http-equiv=refresh content=5></noscript><style>:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:1rem auto;padding:0 1rem;\
color:light-dark(#222,#e6e9ef);background:light-dark(#fff,#12161d)}a{color:light-dark(#0b4f9e,#86b8ff)}#live{text-align:right}\
table{border-collapse:collapse;margin:1rem 0;width:100%}\
td,th{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #8886}\
td{font-variant-numeric:tabular-nums;overflow-wrap:anywhere}section{overflow-x:auto}\
.bad{color:light-dark(#a00,#f88)}.good{color:light-dark(#060,#6d8)}</style>\
<script src=/live.js defer></script><header><div id=live role=status>loading</div></header><main>";
/// Keeps the page up to date.
pub(crate) const SCRIPT: &str = include_str!("page/live.js");

/// The page; without a status the board is still starting.
pub(crate) fn render(
    snapshot: Option<&Snapshot>,
    wear: Option<&WearStatus>,
    standing: Option<&StandingStatus>,
) -> String {
    let mut page = String::from(HEAD);
    match snapshot {
        Some(snapshot) => facts(&mut page, snapshot, wear, standing),
        None => page.push_str("<h1>This board is starting</h1><p>It reads its journal."),
    }
    page
}

fn facts(page: &mut String, snapshot: &Snapshot, wear: Option<&WearStatus>, standing: Option<&StandingStatus>) {
    let status = &snapshot.status;
    put(page, format_args!("<h1>Board {} of site {}</h1>", status.board, escape(&status.site)));
    let (class, word) = if status.accepts {
        ("good", "takes records in")
    } else {
        ("bad", "takes nothing in")
    };
    put(page, format_args!("<p class={class}>It {word}."));
    if status.degraded {
        page.push_str("<p class=bad>Fewer boards live than copies are wanted: records are kept on those that do.");
    }
    page.push_str("<table>");
    leadership(page, status);
    row(page, "Duties here", escape(&status.duties.join(", ")));
    row(page, "Session with the region", status.region);
    if let Some(standing) = standing {
        row(page, "Path to the region", escape(&path(standing)));
    }
    row(page, "Blocks go to", status.uplink);
    row(page, "Records accepted", status.accepted);
    row(page, "Records committed", status.committed);
    row(page, "Of these on fewer boards", status.degraded_records);
    row(page, "Without acknowledgement", status.unacknowledged);
    row(page, "Waiting for their commit", status.uncommitted);
    row(page, "Not yet in the region", status.backlog);
    if let Some(eta) = snapshot.backlog_eta {
        row(
            page,
            "Until all of it is",
            format_args!("about {} s at the pace of the last half minute", eta.as_secs()),
        );
    }
    row(page, "Shed, events and bulk", format_args!("{} and {}", status.shed.event, status.shed.bulk));
    row(page, "Journal segments", format_args!("{} of {}", status.segments, status.segments_max));
    if let Some(wear) = wear {
        row(page, "Written to the medium", format_args!("{} bytes, {} syncs", wear.written_bytes, wear.syncs));
        match wear.days_left {
            Some(days) => row(page, "Its life at this rate", format_args!("{days:.0} days more, at most")),
            None => row(page, "Its life at this rate", wear.no_estimate_because.unwrap_or("unknown")),
        }
    }
    row(page, "Waits for", status.waits_for);
    page.push_str("</table>");
    duties(page, status);
    boards(page, status);
    waits(page, status);
    page.push_str("<p>For programs: <a href=/status>status</a>, <a href=/metrics>metrics</a>.");
}

/// Which way the uplink goes, since when, and why it last changed.
fn path(standing: &StandingStatus) -> String {
    let over = standing
        .path
        .as_deref()
        .zip(standing.gateway.as_deref())
        .zip(standing.address.as_deref());
    let seconds = standing.for_ms / 1000;
    let way = match over {
        Some(((path, gateway), address)) => {
            let region = standing
                .region
                .as_ref()
                .map(|region| format!(" of {region}"))
                .unwrap_or_default();
            format!("{path}, to {gateway}{region} at {address}, for {seconds} s")
        }
        None => format!("none for {seconds} s"),
    };
    format!("{way}. Last change: {}", standing.why)
}

fn leadership(page: &mut String, status: &Status) {
    match status.leader {
        Some(leader) => {
            let term = Term::from_token(status.term);
            row(page, "Leader", format_args!("board {leader}, term {term}: {}", status.leader_why));
        }
        None => row(page, "Leader", "none known: exclusive duties rest, all else goes on"),
    }
    if let Some(left) = status.lease_remaining_ms {
        row(page, "Its lease here still runs", format_args!("{left} ms"));
    }
    let vote = &status.vote;
    let names = |kind: &'static str, numbers: &[u8]| -> Vec<String> {
        numbers.iter().map(|number| format!("{kind} {number}")).collect()
    };
    let mut voters = names("board", &vote.boards);
    voters.extend(names("witness", &vote.witnesses));
    row(page, "Who votes", format_args!("{} (version {})", voters.join(", "), vote.version));
    for witness in vote
        .witnesses
        .iter()
        .filter(|witness| !vote.witnesses_reached.contains(witness))
    {
        row(page, "Witness", format_args!("{witness} cannot be reached: the next dead board is not covered"));
    }
    for witness in &vote.witnesses_strange {
        row(page, "Witness", format_args!("{witness} is new, or its disk is: it votes once it has met a leader"));
    }
    if !vote.joined {
        row(page, "Disk", "remembers no leader of this site: the board votes once it has met one");
    }
    match (vote.granted_term, vote.granted_remaining_ms, vote.abstains_ms) {
        (_, _, Some(left)) => row(page, "Vote", format_args!("abstains for {left} ms after its restart")),
        (Some(term), Some(left), None) => {
            row(page, "Vote", format_args!("given to term {} for {left} ms", Term::from_token(term)));
        }
        _ => row(page, "Vote", "free"),
    }
}

fn duties(page: &mut String, status: &Status) {
    if status.user_duties.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Duties</h2><section tabindex=0 aria-label=Duties><table><tr><th>Duty<th>Kind<th>On<th>Token<th>For<th>Process here<th>Waits for<th>Why",
    );
    for duty in &status.user_duties {
        let on: Vec<String> = duty.holders.iter().map(|board| format!("board {board}")).collect();
        let token = duty.token.map_or(String::new(), |token| token.to_string());
        let left = duty.remaining_ms.map_or(String::new(), |left| format!("{left} ms"));
        put(
            page,
            format_args!(
                "<tr><td>{}<td>{}<td>{}<td>{token}<td>{left}<td>{}<td>{}<td>{}",
                escape(&duty.name),
                duty.mode,
                on.join(", "),
                duty.process,
                duty.waits_for,
                duty.why
            ),
        );
    }
    page.push_str("</table></section>");
}

fn boards(page: &mut String, status: &Status) {
    page.push_str(
        "<h2>Boards</h2><section tabindex=0 aria-label=Boards><table><tr><th>Board<th>Heard<th>Connected<th>Votes<th>Silent for<th>Loss<th>Notes",
    );
    for board in &status.boards {
        let yes = |holds: bool| if holds { "yes" } else { "no" };
        let (alive, linked, votes) = (yes(board.alive), yes(board.linked), yes(board.votes));
        let silent = board.silent_ms.map_or(String::new(), |silent| format!("{silent} ms"));
        let loss = board
            .loss_permille
            .map_or(String::new(), |loss| format!("{}.{} %", loss / 10, loss % 10));
        let mut notes = Vec::new();
        if board.impaired {
            let missed: Vec<String> = board.missed_by.iter().map(u8::to_string).collect();
            notes.push(format!("not heard by {}", missed.join(", ")));
        }
        if !board.steady {
            notes.push("unsteady".to_owned());
        }
        put(
            page,
            format_args!(
                "<tr><td>{}<td>{alive}<td>{linked}<td>{votes}<td>{silent}<td>{loss}<td>{}",
                board.board,
                notes.join(", ")
            ),
        );
    }
    page.push_str("</table></section>");
}

/// What each deadline waits for, and what happened lately.
fn waits(page: &mut String, status: &Status) {
    page.push_str("<h2>Waits for</h2><table>");
    for deadline in &status.deadlines {
        row(page, deadline.why, format_args!("{} ms", deadline.in_ms));
    }
    page.push_str("</table><h2>Lately</h2><table>");
    for line in status.history.iter().take(HISTORY_LINES) {
        let ago = line.ago_ms;
        put(page, format_args!("<tr><td>{}.{} s ago<td>{}", ago / 1000, ago % 1000 / 100, escape(&line.what)));
    }
    page.push_str("</table>");
}

fn row(page: &mut String, name: &str, value: impl Display) {
    put(page, format_args!("<tr><th>{name}<td>{value}"));
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a String takes every character");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

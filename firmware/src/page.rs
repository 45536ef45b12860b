//! The board's page for people: the facts of `/status` as plain, light HTML that any browser shows without a network.

use std::fmt::{Display, Write};

use shared::node::status::Status;

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta name=viewport content='width=device-width,initial-scale=1'><meta http-equiv=refresh content=2>\
<title>Roadstead</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;\
color:#222;background:#fff}table{border-collapse:collapse;margin:1rem 0;width:100%}\
td,th{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd}td{font-variant-numeric:tabular-nums}\
.bad{color:#a00}.good{color:#060}</style>";

/// The page; without a status the board is still starting.
pub(crate) fn render(status: Option<&Status>) -> String {
    let mut page = String::from(HEAD);
    match status {
        Some(status) => facts(&mut page, status),
        None => page.push_str("<h1>This board is starting</h1><p>It reads its journal."),
    }
    page
}

fn facts(page: &mut String, status: &Status) {
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
    match status.leader {
        Some(leader) => row(page, "Leader", format_args!("board {leader}, term {}", status.term)),
        None => row(page, "Leader", "none known"),
    }
    row(page, "Duties here", status.duties.join(", "));
    row(page, "Session with the region", status.region);
    row(page, "Blocks go to", status.uplink);
    row(page, "Records accepted", status.accepted);
    row(page, "Records committed", status.committed);
    row(page, "Of these on fewer boards", status.degraded_records);
    row(page, "Without acknowledgement", status.unacknowledged);
    row(page, "Waiting for their commit", status.uncommitted);
    row(page, "Not yet in the region", status.backlog);
    row(page, "Journal segments", format_args!("{} of {}", status.segments, status.segments_max));
    row(page, "Waits for", status.waits_for);
    page.push_str("</table><table><tr><th>Board<th>Heard<th>Connected<th>Votes");
    for board in &status.boards {
        let yes = |holds: bool| if holds { "yes" } else { "no" };
        let (alive, linked, votes) = (yes(board.alive), yes(board.linked), yes(board.votes));
        put(page, format_args!("<tr><td>{}<td>{alive}<td>{linked}<td>{votes}", board.board));
    }
    page.push_str("</table><p>For machines: <a href=/status>status</a>, <a href=/metrics>metrics</a>.");
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

//! The commented TOML files of a new site, filled in from its plan. Owns the text; each is checked before use.

use std::fmt::Write as _;

use shared::ids::BoardSet;

use super::plan::{BoardPlan, SitePlan};

const BOARD: &str = include_str!("../../assets/board.toml");
const GATEWAY: &str = include_str!("../../assets/gateway.toml");

/// What the comment above `voters` must say of a pair.
const PAIR_NOTE: &str = "\
# With two boards and no witness both must agree: while one of them is gone nobody leads, and exclusive duties stop,
# the uplink among them, because one board alone cannot know whether the other still acts. Records are still taken and
# kept; they go up when both boards are back.
";

/// The configuration of one board.
pub(super) fn board(plan: &SitePlan, board: &BoardPlan) -> String {
    let pair_note = if plan.boards.len() == 2 { PAIR_NOTE } else { "" };
    let users_marker = if plan.is_open_to_other_hosts() { "" } else { "# " };
    filled(
        BOARD,
        &[
            ("site", plan.site.to_string()),
            ("board", board.board.get().to_string()),
            ("voters_note", pair_note.to_owned()),
            ("voters", list(plan.voters())),
            ("copies", plan.copies().to_string()),
            ("mesh", board.mesh.to_string()),
            ("mqtt", board.mqtt.to_string()),
            ("http", board.http.to_string()),
            ("users_marker", users_marker.to_owned()),
            ("peers", peers(plan, board)),
            ("gateway", plan.gateway.name.to_string()),
            ("gateway_address", plan.gateway.quic.to_string()),
            ("journal", journal(plan)),
        ],
    )
}

/// The configuration of the gateway.
pub(super) fn gateway(plan: &SitePlan) -> String {
    filled(
        GATEWAY,
        &[
            ("gateway", plan.gateway.name.to_string()),
            ("site", plan.site.to_string()),
            ("quic", plan.gateway.quic.to_string()),
            ("http", plan.gateway.http.to_string()),
        ],
    )
}

fn filled(template: &str, values: &[(&str, String)]) -> String {
    let mut text = template.to_owned();
    for (key, value) in values {
        text = text.replace(&format!("{{{key}}}"), value);
    }
    text
}

fn list(boards: BoardSet) -> String {
    let numbers: Vec<String> = boards.iter().map(|board| board.get().to_string()).collect();
    numbers.join(", ")
}

fn peers(plan: &SitePlan, own: &BoardPlan) -> String {
    let mut text = String::new();
    for (nth, peer) in plan.boards.iter().filter(|peer| peer.board != own.board).enumerate() {
        let note = if nth == 0 {
            "# Every other board of the site [site], with its `listen.mesh`.\n"
        } else {
            ""
        };
        let number = peer.board.get();
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{note}[[peer]]\nboard = {number}\nmesh = \"{}\"\n", peer.mesh);
    }
    text
}

fn journal(plan: &SitePlan) -> String {
    let (marker, journal) = match plan.journal {
        Some(journal) => ("", journal),
        None => ("# ", shared::config::JournalConfig::default()),
    };
    let mib = journal.segment_bytes / (1024 * 1024);
    let segments = journal.segments_max;
    format!(
        "{marker}segment_mib = {mib}                   # MiB of one file; 4 to 256\n\
         {marker}segments_max = {segments}                # files at most; 4 to 65536"
    )
}

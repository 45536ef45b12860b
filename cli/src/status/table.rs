//! Answers as tables for people: one row a board, one row a site that a gateway knows. What an answer does not say
//! (another version) is shown as a dash.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{Table, presets};
use serde_json::{Map, Value};
use shared::ids::Term;

use super::{Answer, Kind};

const BOARD_COLUMNS: [&str; 9] =
    ["board", "state", "leader", "term", "uplink", "accepted", "committed", "backlog", "waits for"];

/// The tables: boards first, then what gateways say.
pub(super) fn of(answers: &[Answer]) -> String {
    let mut boards = plain(&BOARD_COLUMNS);
    for answer in answers.iter().filter(|answer| answer.target.kind != Kind::Gateway) {
        boards.add_row(board(answer));
    }
    let mut text = String::new();
    if !boards.is_empty() {
        text.push_str(&format!("{}\n", boards.trim_fmt()));
    }
    if let Some(status) = best_informed(answers) {
        leadership(&mut text, status);
        duties(&mut text, status);
    }
    uplinks(&mut text, answers);
    repairs(&mut text, answers);
    waits(&mut text, answers);
    wear(&mut text, answers);
    for answer in answers.iter().filter(|answer| answer.target.kind == Kind::Gateway) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&gateway(answer));
    }
    text
}

/// The board that leads says most about the site; where none does, any board that answered.
fn best_informed(answers: &[Answer]) -> Option<&Value> {
    let boards = || {
        let boards = answers.iter().filter(|answer| answer.target.kind != Kind::Gateway);
        boards.filter_map(|answer| answer.said.as_ref().ok())
    };
    boards()
        .find(|status| status["lease_remaining_ms"].is_u64())
        .or_else(|| boards().next())
}

/// Who leads and why, who votes, and what happened last.
fn leadership(text: &mut String, status: &Value) {
    let Some(vote) = status["vote"].as_object() else { return };
    let numbers = |key: &str, kind: &str| -> Vec<String> {
        let numbers = vote.get(key).and_then(Value::as_array);
        numbers.into_iter().flatten().map(|number| format!("{kind}-{number}")).collect()
    };
    match status["leader"].as_u64() {
        Some(leader) => {
            let why = word(&status["leader_why"]);
            text.push_str(&format!("\nboard-{leader} leads under term {}: {why}\n", term(&status["term"])));
        }
        None => text.push_str("\nno board leads: exclusive duties rest, all else goes on\n"),
    }
    let mut voters = numbers("boards", "board");
    voters.extend(numbers("witnesses", "witness"));
    let version = vote.get("version").map_or_else(String::new, word);
    text.push_str(&format!("votes (version {version}): {}\n", voters.join(", ")));
    let reached = numbers("witnesses_reached", "witness");
    for witness in numbers("witnesses", "witness")
        .iter()
        .filter(|witness| !reached.contains(witness))
    {
        text.push_str(&format!("{witness} cannot be reached: the next dead board is not covered\n"));
    }
    if let Some(last) = status["history"].as_array().and_then(|lines| lines.first()) {
        text.push_str(&format!("last change, {} ago: {}\n", ago(&last["ago_ms"]), word(&last["what"])));
    }
}

/// Milliseconds as people say them.
fn ago(millis: &Value) -> String {
    match millis.as_u64() {
        None => "-".to_owned(),
        Some(millis) if millis < 10_000 => format!("{millis} ms"),
        Some(millis) => format!("{} s", millis / 1000),
    }
}

/// The users' duties: where they run, until when, and why there.
fn duties(text: &mut String, status: &Value) {
    let Some(lines) = status["user_duties"].as_array().filter(|lines| !lines.is_empty()) else {
        return;
    };
    let mut table = plain(&["duty", "kind", "on", "token", "for", "waits for", "why"]);
    for line in lines {
        let on: Vec<String> = line["holders"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|board| format!("board-{board}"))
            .collect();
        let on = if on.is_empty() { "none".to_owned() } else { on.join(" ") };
        let left = line["remaining_ms"]
            .as_u64()
            .map_or("-".to_owned(), |left| format!("{left} ms"));
        table.add_row(vec![
            word(&line["name"]),
            word(&line["mode"]),
            on,
            word(&line["token"]),
            left,
            word(&line["waits_for"]),
            word(&line["why"]),
        ]);
    }
    text.push_str(&format!("\n{}\n", table.trim_fmt()));
}

/// What is damaged and missing, and how far each journal is verified.
fn repairs(text: &mut String, answers: &[Answer]) {
    let boards = answers.iter().filter(|answer| answer.target.kind != Kind::Gateway);
    let mut table =
        plain(&["journal of", "verified", "passes", "damaged", "missing", "came back", "gone", "lack copies"]);
    for (answer, status) in boards.filter_map(|answer| Some((answer, answer.said.as_ref().ok()?))) {
        let repair = &status["repair"];
        if repair.is_null() {
            continue;
        }
        let mib = repair["verified_bytes"].as_u64().unwrap_or(0) / (1024 * 1024);
        let keys = ["passes", "damaged_places", "missing", "repaired", "gone"].map(|key| word(&repair[key]));
        let row = [answer.target.name.clone(), format!("{mib} MiB")].into_iter().chain(keys);
        table.add_row(row.chain([word(&status["owed"])]).collect::<Vec<_>>());
        for hole in repair["holes"].as_array().into_iter().flatten() {
            table.add_row(vec![format!("  misses {} to {} of {}", hole["first"], hole["last"], word(&hole["stream"]))]);
        }
    }
    if !table.is_empty() {
        text.push_str(&format!("\n{}\n", table.trim_fmt()));
    }
}

/// What each board's deadlines wait for.
fn waits(text: &mut String, answers: &[Answer]) {
    let boards = answers.iter().filter(|answer| answer.target.kind != Kind::Gateway);
    let mut table = plain(&["board", "in", "waits for"]);
    for (answer, status) in boards.filter_map(|answer| Some((answer, answer.said.as_ref().ok()?))) {
        for deadline in status["deadlines"].as_array().into_iter().flatten() {
            let name = answer.target.name.clone();
            table.add_row(vec![name, ago(&deadline["in_ms"]), word(&deadline["why"])]);
        }
    }
    if !table.is_empty() {
        text.push_str(&format!("\n{}\n", table.trim_fmt()));
    }
}

/// What each board has written to its medium, and how long that lasts.
fn wear(text: &mut String, answers: &[Answer]) {
    let boards = answers.iter().filter(|answer| answer.target.kind != Kind::Gateway);
    let mut table = plain(&["board", "written", "syncs", "for each byte of records", "its medium lasts"]);
    for (answer, status) in boards.filter_map(|answer| Some((answer, answer.said.as_ref().ok()?))) {
        let wear = &status["wear"];
        let Some(written) = wear["written_bytes"].as_u64() else { continue };
        let each = wear["bytes_per_payload_byte"].as_f64();
        let lasts = match wear["days_left"].as_f64() {
            Some(days) => format!("{days:.0} days more, at most"),
            None => word(&wear["no_estimate_because"]),
        };
        table.add_row(vec![
            answer.target.name.clone(),
            bytes(written),
            word(&wear["syncs"]),
            each.map_or("-".to_owned(), |each| format!("{each:.2}")),
            lasts,
        ]);
    }
    if !table.is_empty() {
        text.push_str(&format!("\n{}\n", table.trim_fmt()));
    }
}

/// Bytes as makers of media count them.
fn bytes(count: u64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let fits = units.into_iter().find(|(_, size)| count as f64 >= *size);
    fits.map_or(format!("{count} B"), |(unit, size)| format!("{:.1} {unit}", count as f64 / size))
}

/// A table without lines between its cells.
pub(crate) fn plain(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns.iter().copied());
    table
}

fn board(answer: &Answer) -> Vec<String> {
    let name = answer.target.name.clone();
    let Ok(status) = &answer.said else {
        let mut row = vec![name, "no answer".to_owned()];
        row.resize(BOARD_COLUMNS.len(), "-".to_owned());
        return row;
    };
    vec![
        name,
        state(status),
        status["leader"]
            .as_u64()
            .map_or("none".to_owned(), |leader| format!("board-{leader}")),
        term(&status["term"]),
        uplink(status),
        word(&status["accepted"]),
        word(&status["committed"]),
        word(&status["backlog"]),
        word(&status["waits_for"]),
    ]
}

/// The worst that can be said of a board.
fn state(status: &Value) -> String {
    let is = |key: &str, wanted: bool| status[key].as_bool() == Some(wanted);
    let state = if is("poisoned", true) {
        "poisoned"
    } else if is("accepts", false) {
        "full"
    } else if is("degraded", true) {
        "degraded"
    } else if status["leader"].is_null() {
        "no leader"
    } else if status["lease_remaining_ms"].is_u64() {
        "leads"
    } else {
        "ok"
    };
    state.to_owned()
}

/// A term as logs and gateways say it; none before any leadership.
fn term(token: &Value) -> String {
    match token.as_u64() {
        None | Some(0) => "-".to_owned(),
        Some(token) => Term::from_token(token).to_string(),
    }
}

/// Where its blocks go; for the board that holds the uplink, whether the region is there.
fn uplink(status: &Value) -> String {
    match (status["uplink"].as_str(), status["region"].as_str()) {
        (Some("region"), Some(session)) => match status["uplink_path"]["path"].as_str() {
            // The one path there is where none is configured needs no name.
            Some(path) if path != "any" => format!("region ({session}, {path})"),
            Some(_) | None => format!("region ({session})"),
        },
        (Some(route), _) => route.to_owned(),
        (None, _) => "-".to_owned(),
    }
}

/// Which way the site speaks to its region, since when and why, and how long its backlog still takes.
fn uplinks(text: &mut String, answers: &[Answer]) {
    for answer in answers.iter().filter(|answer| answer.target.kind != Kind::Gateway) {
        let Ok(status) = &answer.said else { continue };
        let (name, path) = (&answer.target.name, &status["uplink_path"]);
        if status["uplink"] == "region" && path.is_object() {
            let seconds = path["for_ms"].as_u64().unwrap_or(0) / 1000;
            let way = match path["path"].is_string() {
                true => {
                    format!("by {} to {} at {}", word(&path["path"]), word(&path["gateway"]), word(&path["address"]))
                }
                false => "by no path".to_owned(),
            };
            text.push_str(&format!(
                "{name}: to the region {way} for {seconds} s; last change: {}\n",
                word(&path["why"])
            ));
        }
        if let Some(eta) = status["backlog_eta_s"].as_u64() {
            text.push_str(&format!("{name}: its backlog is home in about {eta} s\n"));
        }
    }
}

/// A value as one word or line.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        // What another machine says may hold anything; a terminal obeys control characters.
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        other => other.to_string(),
    }
}

/// A gateway's sites: one row each, one column for every simple value that any of them has. Values within a value
/// are named `outer.inner`.
fn gateway(answer: &Answer) -> String {
    let name = &answer.target.name;
    let Ok(said) = &answer.said else {
        return format!("{name}: no answer\n");
    };
    let sites = said.as_array().or_else(|| said["sites"].as_array());
    let sites: Vec<BTreeMap<String, String>> =
        sites.into_iter().flatten().filter_map(Value::as_object).map(flat).collect();
    let named: BTreeSet<&String> = sites.iter().flat_map(BTreeMap::keys).filter(|key| *key != "site").collect();
    let columns: Vec<&str> = ["site"].into_iter().chain(named.into_iter().map(String::as_str)).collect();
    if sites.is_empty() {
        return format!("{name}: serves no site\n");
    }
    let mut table = plain(&columns);
    for site in &sites {
        table.add_row(columns.iter().map(|column| site.get(*column).map_or("-", String::as_str)));
    }
    format!("{name}:\n{}\n", table.trim_fmt())
}

fn flat(site: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (key, value) in site {
        match value {
            Value::Object(inner) => {
                let simple = inner.iter().filter(|(_, value)| !value.is_object() && !value.is_array());
                values.extend(simple.map(|(name, value)| (format!("{key}.{name}"), word(value))));
            }
            Value::Array(_) => {}
            simple => {
                values.insert(key.clone(), word(simple));
            }
        }
    }
    values
}

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
    for answer in answers.iter().filter(|answer| answer.target.kind == Kind::Gateway) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&gateway(answer));
    }
    text
}

fn plain(columns: &[&str]) -> Table {
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
        (Some("region"), Some(session)) => format!("region ({session})"),
        (Some(route), _) => route.to_owned(),
        (None, _) => "-".to_owned(),
    }
}

fn word(value: &Value) -> String {
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

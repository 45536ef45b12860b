//! `roadstead sites` and `roadstead events`: what gateways say of the sites they serve, for people and programs. Exits with 1
//! where no gateway answered.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use shared::ids::Name;

use super::client::{Approach, NoAnswer};
use super::table::{plain, word};
use super::{Answer, Kind, Target, ask_all_at, of_config};
use crate::arguments::{Events, OfGateways, Output, Sites};
use crate::failure::Failure;
use crate::files;
use crate::init::{GATEWAY_DIR, GATEWAY_FILE};
use crate::journal::date;

const SITES: &str = "/api/sites";
/// Duties of a site in a line of the table.
const DUTIES_SHOWN: usize = 5;

/// Every site that the gateways serve, those in trouble first.
pub(crate) fn sites(asked: &Sites) -> Result<ExitCode, Failure> {
    let answers = ask(&asked.of, SITES)?;
    show(&answers, asked.of.output, "sites", sites_table)
}

/// What happened at one site, newest first.
pub(crate) fn events(asked: &Events) -> Result<ExitCode, Failure> {
    let path = format!("{}?limit={}", events_of(&asked.site), asked.limit);
    let answers = ask(&asked.of, &path)?;
    show(&answers, asked.of.output, "events", events_table)
}

fn events_of(site: &Name) -> String {
    // A name holds nothing that a path would need written otherwise.
    format!("{SITES}/{site}/events")
}

fn ask(of: &OfGateways, path: &str) -> Result<Vec<Answer>, Failure> {
    let targets = targets(of)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start").because(error))?;
    Ok(runtime.block_on(ask_all_at(targets, path, Duration::from_millis(of.timeout_ms))))
}

/// The gateways, by directory, by configuration, by address.
fn targets(of: &OfGateways) -> Result<Vec<Target>, Failure> {
    let of_site = of.dir.iter().map(|dir| dir.join(GATEWAY_DIR).join(GATEWAY_FILE));
    let mut targets = Vec::new();
    for path in of_site.chain(of.config.iter().cloned()) {
        let target = of_config(&path)?;
        if target.kind != Kind::Gateway {
            return Err(Failure::new(format!("{} is not a gateway's", path.display()))
                .remedy("give gateway.toml; `roadstead status` asks boards"));
        }
        targets.push(target);
    }
    targets.extend(of.url.iter().map(|url| Target {
        kind: Kind::Gateway,
        name: "gateway".to_owned(),
        url: url.trim_end_matches('/').to_owned(),
        approach: Approach { token: None, certificate: of.certificate.clone() },
    }));
    if let Some(path) = &of.token_file {
        let token = files::read_config(path)?;
        let token = String::from_utf8_lossy(&token).trim().to_owned();
        targets
            .iter_mut()
            .for_each(|target| target.approach.token = Some(token.clone()));
    }
    Ok(targets)
}

/// The members `list` of all answers: as one table, or each with the gateway that said it.
fn show(answers: &[Answer], output: Output, list: &str, table: fn(&[&Value]) -> String) -> Result<ExitCode, Failure> {
    let said = || answers.iter().filter_map(|answer| Some((answer, answer.said.as_ref().ok()?)));
    match output {
        // An empty table would say that there is nothing.
        Output::Table if said().next().is_none() => {}
        Output::Table => {
            let lines = |(_, said): (_, &Value)| said[list].as_array().cloned().unwrap_or_default();
            let all: Vec<Value> = said().flat_map(lines).collect();
            crate::say(&table(&all.iter().collect::<Vec<_>>()))?;
        }
        Output::Json => {
            let lines = |(answer, said): (&Answer, &Value)| {
                let mut lines = said[list].as_array().cloned().unwrap_or_default();
                lines.iter_mut().for_each(|line| line["gateway"] = json!(answer.target.url));
                lines
            };
            let all: Vec<Value> = said().flat_map(lines).collect();
            crate::say(&format!("{:#}\n", Value::Array(all)))?;
        }
    }
    for answer in answers {
        match &answer.said {
            Err(NoAnswer::Refused(status)) if status.as_u16() == 404 => {
                eprintln!(
                    "{}: this site is not served there; `roadstead sites` lists those that are",
                    answer.target.url
                );
            }
            Err(why) => eprintln!("{} at {}: {why}", answer.target.name, answer.target.url),
            Ok(_) => {}
        }
    }
    Ok(if said().next().is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn sites_table(sites: &[&Value]) -> String {
    if sites.is_empty() {
        return "no site is served\n".to_owned();
    }
    let mut sites = sites.to_vec();
    // Those that somebody should look at are what one asks for.
    sites.sort_by_key(|site| (rank(site), site["site"].as_str().map(str::to_owned)));
    let mut table =
        plain(&["site", "state", "boards", "leader", "term", "stored/s", "backlog", "empty in", "duties", "why"]);
    for site in sites {
        let report = &site["report"];
        let boards = match (report["boards_alive"].as_u64(), report["boards"].as_u64()) {
            (Some(alive), Some(all)) => format!("{alive} of {all}"),
            _ => "-".to_owned(),
        };
        let leader = report["board"]
            .as_u64()
            .map_or("-".to_owned(), |board| format!("board-{board}"));
        let rate = site["stored_per_s"]
            .as_f64()
            .map_or("-".to_owned(), |rate| format!("{rate:.0}"));
        let empty = site["drained_in_s"]
            .as_f64()
            .map_or("-".to_owned(), |span| format!("{span:.0} s"));
        table.add_row(vec![
            word(&site["site"]),
            word(&site["state"]),
            boards,
            leader,
            word(&report["term"]),
            rate,
            word(&report["backlog"]),
            empty,
            duties(site),
            site["why"]
                .as_array()
                .into_iter()
                .flatten()
                .map(word)
                .collect::<Vec<_>>()
                .join("; "),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

/// The users' duties: on which boards each is, and how it is where it does not run. Of many the first ones.
fn duties(site: &Value) -> String {
    if site["duties_age_ms"].is_null() {
        return "-".to_owned();
    }
    let all = site["duties"].as_array().into_iter().flatten();
    let said = all.filter(|duty| duty["mode"] != "built-in").map(|duty| {
        let holders: Vec<String> = duty["holders"].as_array().into_iter().flatten().map(word).collect();
        let place = if holders.is_empty() {
            String::new()
        } else {
            format!("@{}", holders.join("+"))
        };
        let state = match duty["state"].as_str() {
            Some("running") => String::new(),
            _ => format!(" {}", word(&duty["state"])),
        };
        format!("{}{place}{state}", word(&duty["name"]))
    });
    let mut said: Vec<String> = said.collect();
    let more = said.len().saturating_sub(DUTIES_SHOWN);
    if more > 0 {
        said.truncate(DUTIES_SHOWN);
        said.push(format!("and {more} more"));
    }
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

/// The worst first; a state that this version does not know is no good sign.
fn rank(site: &Value) -> usize {
    const ORDER: [&str; 3] = ["away", "trouble", "notice"];
    let state = site["state"].as_str();
    let known = ORDER.iter().position(|known| state == Some(known));
    known.unwrap_or(if state == Some("well") { ORDER.len() } else { 0 })
}

fn events_table(events: &[&Value]) -> String {
    if events.is_empty() {
        return "nothing has happened there yet\n".to_owned();
    }
    let mut events = events.to_vec();
    events.sort_by_key(|event| std::cmp::Reverse(event["at_ms"].as_u64()));
    let mut table = plain(&["when", "what", "more"]);
    for event in events {
        let when = event["at_ms"].as_u64().map_or("-".to_owned(), date);
        table.add_row(vec![when, word(&event["name"]), word(&event["detail"])]);
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_in_trouble_come_first_and_what_is_not_told_is_a_dash() {
        let well = json!({ "site": "a", "state": "well", "why": [], "report": { "boards": 3, "boards_alive": 3, "board": 2,
            "term": "4:2", "backlog": 0 }, "stored_per_s": 81.6, "drained_in_s": null, "duties_age_ms": 7, "duties": [
            { "name": "uplink", "mode": "built-in", "state": "running", "holders": [2] },
            { "name": "signal", "mode": "exclusive", "state": "running", "holders": [2] },
            { "name": "infer", "mode": "available", "state": "short", "holders": [1, 3] },
            { "name": "fuse\u{1b}[31m", "mode": "exclusive", "state": "failed", "holders": [] }] });
        let ill = json!({ "site": "b", "state": "away", "why": ["no session", "for 3 min"], "report": null });
        let text = sites_table(&[&well, &ill]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].trim().starts_with("b ") && lines[1].contains("no session; for 3 min"), "{text}");
        assert!(lines[2].contains("3 of 3") && lines[2].contains("board-2") && lines[2].contains("82"), "{text}");
        assert!(lines[2].contains(" signal@2, infer@1+3 short, fuse"), "{text}");
        assert!(lines[2].contains(" failed") && !text.contains('\u{1b}') && !text.contains("uplink"), "{text}");
        let (none, untold) = (json!({ "duties_age_ms": 7, "duties": [] }), json!({}));
        assert_eq!((duties(&none), duties(&untold)), ("none".to_owned(), "-".to_owned()));
        let duty = json!({ "name": "signal", "mode": "exclusive", "state": "running", "holders": [2] });
        let many = json!({ "duties_age_ms": 7, "duties": vec![duty; 32] });
        assert_eq!(duties(&many), format!("{}and 27 more", "signal@2, ".repeat(5)));
        assert_eq!(sites_table(&[]), "no site is served\n");
    }

    #[test]
    fn events_are_dated_and_newest_first_and_obey_no_terminal() {
        let older =
            json!({ "at_ms": 1_772_352_000_007_u64, "name": "session opened", "detail": "board-2\u{1b}[31m speaks" });
        let newer = json!({ "at_ms": 1_772_352_001_000_u64, "name": "session closed", "detail": null });
        let text = events_table(&[&older, &newer]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("session closed") && lines[2].contains("2026-03-01T08:00:00.007Z"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}

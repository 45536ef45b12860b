//! Tests of [`super`]: whom it asks, and what it shows of what they say.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::init::make_site;
use crate::init::plan::{Places, SitePlan};
use crate::scratch::Scratch;

fn answer(kind: Kind, name: &str, said: Value) -> Answer {
    let target = Target {
        kind,
        name: name.to_owned(),
        url: "http://127.0.0.1:1".to_owned(),
        approach: Approach::default(),
    };
    Answer { target, said: Ok(said) }
}

fn board(with: &[(&str, Value)]) -> Answer {
    let mut said = json!({
        "board": 1, "leader": 2, "term": 258, "uplink": "holder", "region": "idle", "accepts": true,
        "degraded": false, "poisoned": false, "accepted": 10, "committed": 9, "backlog": 8,
        "lease_remaining_ms": null, "waits_for": "heartbeat",
    });
    for (key, value) in with {
        said[*key] = value.clone();
    }
    answer(Kind::Board, "board-1", said)
}

fn cells(answer: &Answer) -> Vec<String> {
    let shown = table::of(std::slice::from_ref(answer));
    shown
        .lines()
        .nth(1)
        .unwrap()
        .split("  ")
        .map(|cell| cell.trim().to_owned())
        .filter(|cell| !cell.is_empty())
        .collect()
}

#[test]
fn a_board_is_one_row() {
    let row = cells(&board(&[]));
    assert_eq!(row, ["board-1", "ok", "board-2", "1:2", "holder", "10", "9", "8", "heartbeat"]);
}

#[test]
fn what_was_written_and_how_long_the_medium_lasts_is_a_row() {
    let wear = json!({
        "written_bytes": 1_340_000_000_000_u64, "syncs": 7, "bytes_per_payload_byte": 1.255, "days_left": 3999.6,
    });
    let shown = table::of(&[board(&[("wear", wear)])]);
    let row = shown.lines().last().unwrap();
    assert!(
        row.contains("board-1") && row.contains("1.3 TB") && row.contains("4000 days more, at most"),
        "{shown}"
    );
    let unknown = json!({ "written_bytes": 999, "syncs": 7, "days_left": null, "no_estimate_because": "too short" });
    let shown = table::of(&[board(&[("wear", unknown)])]);
    assert!(shown.lines().last().unwrap().contains("999 B") && shown.contains("too short"), "{shown}");
    assert!(!table::of(&[board(&[])]).contains("medium"), "a board of another version says nothing of it");
}

#[test]
fn the_worst_is_said_first() {
    let state = |with: &[(&str, Value)]| cells(&board(with))[1].clone();
    assert_eq!(state(&[("lease_remaining_ms", json!(100))]), "leads");
    assert_eq!(state(&[("leader", Value::Null)]), "no leader");
    let degraded = ("degraded", json!(true));
    assert_eq!(state(&[("leader", Value::Null), degraded.clone()]), "degraded");
    let full = ("accepts", json!(false));
    assert_eq!(state(&[degraded.clone(), full.clone()]), "full");
    assert_eq!(state(&[degraded, full, ("poisoned", json!(true))]), "poisoned");
}

#[test]
fn other_versions_and_hostile_answers_are_shown_as_far_as_they_go() {
    let row = cells(&answer(Kind::Board, "board-1", json!({})));
    assert_eq!(row[..4], ["board-1", "no leader", "none", "-"]);
    for odd in [json!(null), json!([1]), json!("x"), json!({"term": {"a": 1}, "waits_for": "\u{1b}[31m"})] {
        let shown = table::of(&[answer(Kind::Board, "b", odd.clone()), answer(Kind::Gateway, "g", odd)]);
        assert!(!shown.contains('\u{1b}'));
    }
}

#[test]
fn a_gateway_is_a_table_of_its_sites() {
    let said = json!({"sites": [
        {"site": "north", "is_connected": true, "sessions": [], "report": {"age_ms": 7, "boards": []}},
        {"site": "south", "report": null},
    ]});
    let shown = table::of(&[answer(Kind::Gateway, "gateway", said)]);
    assert!(shown.starts_with("gateway:\n"), "{shown}");
    let rows: Vec<Vec<&str>> = shown.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [
            ["site", "is_connected", "report", "report.age_ms"],
            ["north", "true", "-", "7"],
            ["south", "-", "-", "-"]
        ]
    );
}

#[test]
fn a_site_directory_names_all_its_processes() {
    let scratch = Scratch::new("status");
    let places = Places { host_base: "127.0.0.1".parse().unwrap(), port_base: 7400, gateway: None };
    let (boards, gateway) = places.lay_out(11, "central".try_into().unwrap()).unwrap();
    let plan = SitePlan { site: "north".try_into().unwrap(), boards, gateway, witness: None, journal: None };
    make_site(scratch.path(), &plan, |_| {}).unwrap();
    std::fs::create_dir_all(scratch.path().join("board-12/data")).unwrap();
    let targets = of_site(scratch.path()).unwrap();
    assert_eq!(targets.len(), 12, "a journal that was kept is no board");
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!((names[1], names[9], names[10], names[11]), ("board-2", "board-10", "board-11", "gateway"));
    assert_eq!(targets[1].url, "http://127.0.0.1:7422");
    let empty = Scratch::new("status-empty");
    assert!(of_site(empty.path()).unwrap_err().to_string().contains("holds no site"));
}

#[test]
fn who_listens_everywhere_is_asked_here() {
    assert_eq!(listens_at("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
    assert_eq!(listens_at("[::]:80".parse().unwrap()), "http://[::1]:80");
    assert_eq!(listens_at("10.0.0.1:80".parse().unwrap()), "http://10.0.0.1:80");
}

/// Answers every request with `found` for pages that exist, 404 for others.
async fn serve(listener: TcpListener, page: &'static str, found: &'static str) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        let wanted = format!("GET {page} HTTP/1.1");
        let (status, body) = if head[..length].starts_with(wanted.as_bytes()) {
            ("200 OK", found)
        } else {
            ("404 Not Found", "")
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn boards_gateways_and_the_silent_are_told_apart() {
    let mut targets = Vec::new();
    for (page, found) in [("/status", "{\"board\": 7}"), ("/api/sites", "[]"), ("/status", "hello")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        targets.push(Target { kind: Kind::Unknown, name: "process".to_owned(), url, approach: Approach::default() });
        tokio::spawn(serve(listener, page, found));
    }
    let answers = ask_all(targets, Duration::from_secs(20)).await;
    let names: Vec<&str> = answers.iter().map(|answer| answer.target.name.as_str()).collect();
    assert_eq!(names, ["board-7", "gateway", "process"]);
    assert!(answers[0].said.is_ok() && answers[1].said.is_ok());
    assert!(matches!(answers[2].said, Err(NoAnswer::Json(_))));
    assert_eq!(as_json(&answers[0])["status"]["board"], 7);
    assert!(as_json(&answers[2])["error"].is_string());
}

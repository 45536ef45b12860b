//! The pages for people: what they show, that they stay live, and that what a sensor says is never run.

use std::collections::BTreeSet;

use serde_json::Value;
use shared::config::DutyMode;
use shared::ids::{Class, Epoch, Stream};
use shared::wire::uplink::{
    BoardReport, DutyState, DutyTold, FromRegion, SiteDuties, SiteReport, ToRegion, duty_words,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::deposits::{block, block_of, counted, reading, stream};
use crate::region::{Board, Files, PATIENCE, Running, board};

/// A report of boards 1 and 2, of which the second is silent where `is_heard` is not.
fn report(committed: u64, backlog: u64, is_heard: bool) -> ToRegion {
    let line = |number: u8, alive| BoardReport {
        board: board(number),
        epoch: Epoch { boot: 1, nonce: 1 },
        alive,
        accepted: committed,
        committed: if number == 1 { committed } else { 0 },
        degraded: 0,
        unacknowledged: 0,
        shed: 0,
        backlog: if number == 1 { backlog } else { 0 },
    };
    ToRegion::Report(SiteReport { boards: vec![line(1, true), line(2, is_heard)] })
}

/// What a site tells of two duties: one that runs on board 2, and one that failed on both boards, with words that a page must not
/// take for its own.
fn duties() -> ToRegion {
    let told = |name: &str, state, holders: &[u8], failed: &[u8]| DutyTold {
        name: name.try_into().unwrap(),
        mode: DutyMode::Exclusive,
        state,
        holders: holders.iter().map(|number| board(*number)).collect(),
        ready: holders.iter().map(|number| board(*number)).collect(),
        failed: failed.iter().map(|number| board(*number)).collect(),
        token: None,
        held_ms: Some(180_000),
        waits_for: duty_words("nothing"),
        why: duty_words("<b>bold</b><img src=x onerror=alert(2)>"),
    };
    let running = told("signal", DutyState::Running, &[2], &[]);
    ToRegion::Duties(SiteDuties { duties: vec![running, told("fuse", DutyState::Failed, &[], &[1, 2])] })
}

async fn speaker(files: &Files, running: &Running) -> Board {
    let mut session = Board::dial(&files.board("elm", "elm", 1), running).await.unwrap();
    assert!(matches!(session.hello("elm", 1, 5).await, Some(FromRegion::Welcome { .. })));
    session
}

/// A page that is kept live, as a browser reads it.
struct Live(TcpStream, String);

impl Live {
    async fn open(running: &Running, path: &str) -> Self {
        let mut connection = TcpStream::connect(running.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: r\r\nAccept: text/event-stream\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        Self(connection, String::new())
    }

    /// Reads until what has come holds `text`; gives back all that came since.
    async fn until(&mut self, text: &str) -> String {
        let reading = async {
            while !self.1.contains(text) {
                let mut piece = [0; 4096];
                let length = self.0.read(&mut piece).await.unwrap();
                assert_ne!(length, 0, "it ended; so far: {}", self.1);
                self.1.push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .unwrap_or_else(|_| panic!("no {text:?}"));
        core::mem::take(&mut self.1)
    }
}

/// Asks for `path` until its body holds `text`.
async fn page_with(running: &Running, path: &str, text: &str) -> String {
    let looking = async {
        loop {
            let (status, body) = running.get(path).await;
            assert_eq!(status, 200, "{path}: {body}");
            if body.contains(text) {
                return body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("no {text:?} at {path}"))
}

/// Every path that a page names.
fn named(page: &str) -> BTreeSet<String> {
    let after = |mark: &'static str| page.split(mark).skip(1).filter_map(|rest| rest.split('"').next());
    let all = after("href=\"").chain(after("src=\"")).chain(after("data-live=\""));
    all.filter(|path| path.starts_with('/'))
        .map(|path| path.replace("&amp;", "&"))
        .collect()
}

#[tokio::test]
async fn the_sites_are_listed_the_worst_first_and_every_path_leads_somewhere() {
    let files = Files::new();
    let running = files.start().await;
    let mut session = speaker(&files, &running).await;
    session.say(&[report(0, 0, true)]).await;
    let page = page_with(&running, "/", "2 of 2").await;
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}: {page}"));
    assert!(place("site-oak") < place("site-elm"), "oak is away");
    assert!(page.contains("It has not called since this gateway started.") && page.contains("board 1"));

    session.say(&[report(0, 0, false)]).await;
    page_with(&running, "/", "Board 2 is not heard by the others.").await;
    let troubled = page_with(&running, "/?show=trouble", "site-elm").await;
    assert!(!troubled.contains("site-oak"));
    let (_, found) = running.get("/?name=OAK").await;
    assert!(found.contains("site-oak") && !found.contains("site-elm"));
    let (status, refused) = running.get("/?show=bad").await;
    assert!(status == 400 && refused.contains("away, trouble, notice, well"), "{refused}");
    assert_eq!(running.get("/sites/ash").await.0, 404);

    let mut paths = named(&page);
    paths.extend(named(&running.get("/sites/elm").await.1));
    assert!(
        paths.contains("/sites/elm") && paths.contains("/assets/live.js") && paths.contains("/live/elm"),
        "{paths:?}"
    );
    for path in paths.iter().filter(|path| !path.starts_with("/live")) {
        assert_eq!(running.get(path).await.0, 200, "{path}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_site_shows_its_ledger_and_what_a_sensor_says_is_never_run() {
    let files = Files::new();
    let running = files.start().await;
    let mut session = speaker(&files, &running).await;
    let alarms = Stream { class: Class::Alarm, ..stream(1, 1) };
    let wicked = [reading(counted(1), b"<script>alert(1)</script>"), reading(counted(2), &[0xff, 0xfe])];
    session.say(&[ToRegion::Block(block_of(alarms, 1, &wicked))]).await;
    session.hear_covered(alarms, 2).await;
    session.say(&[report(0, 0, true)]).await;
    let page = page_with(&running, "/sites/elm", "is stored, declared lost, or on its way").await;
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !page.contains("<script>alert"), "{page}");
    assert!(page.contains("2 bytes that are no text") && page.contains("loop-7") && page.contains("board 1, term"));
    assert!(page.contains("session opened"), "what happened: {page}");

    // What is committed and neither stored nor on its way is missing.
    session.say(&[report(1, 0, true)]).await;
    page_with(&running, "/sites/elm", "No: more is missing than is on its way").await;
    running.stop().await;
}

#[tokio::test]
async fn a_site_shows_who_performs_its_duties_until_another_leader_tells_nothing_of_them() {
    let files = Files::new();
    let running = files.start().await;
    let mut session = speaker(&files, &running).await;
    session.say(&[report(0, 0, true)]).await;
    let untold = page_with(&running, "/sites/elm", "Last told of itself").await;
    assert!(untold.contains("has not told of its users' duties"), "{untold}");
    let site = running.json("/api/sites/elm").await;
    assert!(site["duties_age_ms"].is_null());
    let built_in = |site: &Value| -> Vec<String> {
        let lines = site["duties"].as_array().unwrap().iter();
        lines
            .map(|line| format!("{} {} {}", line["name"], line["state"], line["holders"]))
            .collect()
    };
    assert_eq!(built_in(&site), [r#""lead" "running" [1]"#, r#""uplink" "running" [1]"#]);

    session.say(&[duties(), report(0, 0, true)]).await;
    let page = page_with(&running, "/sites/elm", "signal").await;
    assert!(page.contains("board 2") && page.contains("3 min") && page.contains("boards 1, 2"), "{page}");
    assert!(page.contains("&lt;b&gt;bold&lt;/b&gt;") && page.contains("&lt;img src=x"), "{page}");
    assert!(!page.contains("<b>bold") && !page.contains("<img"), "{page}");
    let site = running.json("/api/sites/elm").await;
    let (signal, fuse) = (&site["duties"][2], &site["duties"][3]);
    assert_eq!((&signal["state"], &signal["holders"]), (&"running".into(), &vec![2].into()));
    assert_eq!((&fuse["state"], &fuse["failed"]), (&"failed".into(), &vec![1, 2].into()));
    assert!(signal["held_ms"].as_u64().unwrap() >= 180_000 && site["duties_age_ms"].is_u64());
    assert_eq!(site["state"], "trouble");
    assert!(site["why"].to_string().contains("Nobody performs fuse"), "{site}");

    // Nobody speaks for the site: where its duties were is still there, and not that they run.
    drop(session);
    let page = page_with(&running, "/sites/elm", "where they were was told").await;
    assert!(!page.contains("running") && page.contains("signal") && page.contains("board 2"), "{page}");
    let site = running.json("/api/sites/elm").await;
    for duty in site["duties"].as_array().unwrap() {
        assert_eq!((&duty["state"], duty["held_ms"].is_null()), (&"unknown".into(), true), "{duty}");
    }
    assert_eq!((&site["duties"][2]["holders"], &site["state"]), (&vec![2].into(), &"away".into()));

    // The next leader is of an earlier build.
    let mut next = Board::dial(&files.board("elm", "elm", 2), &running).await.unwrap();
    assert!(matches!(next.hello("elm", 2, 9).await, Some(FromRegion::Welcome { .. })));
    next.say(&[report(0, 0, true)]).await;
    let page = page_with(&running, "/sites/elm", "has not told of its users' duties").await;
    assert!(!page.contains("signal"), "{page}");
    running.stop().await;
}

#[tokio::test]
async fn a_page_is_told_what_changes_and_nothing_else() {
    let files = Files::new();
    let running = files.start().await;
    let mut session = speaker(&files, &running).await;
    let mut live = Live::open(&running, "/live/elm").await;
    let first = live.until("\n\n").await;
    let first = first + &live.until("curves").await;
    assert!(first.contains("text/event-stream") && first.contains("default-src 'none'"), "{first}");
    let mut sites = Live::open(&running, "/live?name=elm").await;
    sites.until("section id=").await;

    session.say(&[ToRegion::Block(block(stream(1, 1), 1, 1..=1234))]).await;
    let changed = live.until("1,234").await;
    assert!(changed.contains("ledger"), "{changed}");
    session.say(&[report(0, 0, false)]).await;
    let changed = sites.until("Board 2 is not heard").await;
    assert!(changed.contains("site-elm") && !changed.contains("site-oak"), "{changed}");

    let mut more = Vec::new();
    loop {
        let mut next = Live::open(&running, "/live").await;
        let answer = next.until("\r\n").await;
        if answer.contains("503") {
            break;
        }
        more.push(next);
        assert!(more.len() <= 40, "pages are kept live without bound");
    }
    assert_eq!(running.get("/").await.0, 200, "whoever is not kept live is served all the same");
    drop(more);
    page_with(&running, "/", "site-elm").await;
    running.stop().await;
}

/// Whether `value` is as `schema` says: types, members, members of lists.
fn fits(schema: &Value, value: &Value, all: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return fits(&all["components"]["schemas"][name], value, all, at);
    }
    if let Some(kinds) = schema["oneOf"].as_array() {
        return if !value.is_null() {
            fits(&kinds[1], value, all, at)
        };
    }
    if let Some(words) = schema["enum"].as_array() {
        return assert!(words.contains(value), "{at}: {value} is none of {words:?}");
    }
    let kinds = schema["type"]
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![schema["type"].clone()]);
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_meant = kinds
        .iter()
        .any(|meant| meant == kind || (meant == "number" && kind == "integer"));
    assert!(is_meant, "{at}: {value} is no {kinds:?}");
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        fits(&schema["items"], item, all, &format!("{at}/{index}"));
    }
    if let Some(members) = value.as_object() {
        for needed in schema["required"].as_array().unwrap() {
            assert!(members.contains_key(needed.as_str().unwrap()), "{at}: no {needed}");
        }
        for (member, value) in members {
            let schema = &schema["properties"][member];
            assert!(!schema.is_null(), "{at}: {member} is not described");
            fits(schema, value, all, &format!("{at}/{member}"));
        }
    }
}

#[tokio::test]
async fn the_api_answers_as_it_is_described() {
    let files = Files::new();
    let running = files.start().await;
    let mut session = speaker(&files, &running).await;
    session
        .say(&[ToRegion::Block(block(stream(1, 1), 1, 1..=3)), duties(), report(3, 0, false)])
        .await;
    session.hear_covered(stream(1, 1), 3).await;
    page_with(&running, "/api/sites/elm/history", "age_ms").await;
    page_with(&running, "/api/sites/elm", "trouble").await;
    let described = running.json("/api/openapi.json").await;
    let paths = described["paths"].as_object().unwrap();
    assert!(paths.len() >= 7);
    for (path, about) in paths {
        for path in [path.replace("{site}", "elm"), path.replace("{site}", "oak")] {
            let answer = running.json(&path).await;
            let schema = &about["get"]["responses"]["200"]["content"]["application/json"]["schema"];
            fits(schema, &answer, &described, &path);
            if path == "/api/sites/elm" {
                assert_eq!(answer["duties"].as_array().unwrap().len(), 4, "{answer}");
            }
        }
    }
    running.stop().await;
}

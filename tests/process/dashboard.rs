//! What the region shows of a real site while its boards die and come back.

use std::process::Command;

use serde_json::Value;

use crate::site::{READY_MAX, Site};
use crate::{http, until};

fn look(site: &Site) -> Option<Value> {
    let sites = http::get(site.gateway_http(), "/api/sites")?;
    let sites: Value = serde_json::from_str(&sites).ok()?;
    sites["sites"].get(0).cloned()
}

/// The one that dies is the leader: whoever leads next has never heard a word of it.
#[test]
fn the_region_is_told_of_a_board_that_died_with_the_lead() {
    let mut site = Site::start(3);
    let is_well = |seen: Value| seen["state"] == "well" && seen["report"]["boards_alive"] == 3;
    assert!(until(READY_MAX, || look(&site).is_some_and(is_well)), "{:?}\n{}", look(&site), site.tails());

    let (leader, _) = site.leader().expect("a site that is ready has a leader");
    site.kill(leader);
    let is_told = |seen: Value| {
        let why = format!("Board {leader} is not heard by the others.");
        seen["state"] == "trouble" && seen["why"].to_string().contains(&why) && seen["report"]["boards"] == 3
    };
    assert!(until(READY_MAX, || look(&site).is_some_and(is_told)), "{:?}\n{}", look(&site), site.tails());
    let name = look(&site).unwrap()["site"].as_str().unwrap().to_owned();
    let page = http::get(site.gateway_http(), &format!("/sites/{name}")).expect("a page");
    assert!(page.contains(&format!("Board {leader} is not heard by the others.")), "{page}");

    site.launch(leader);
    assert!(until(READY_MAX, || look(&site).is_some_and(is_well)), "{:?}\n{}", look(&site), site.tails());
}

/// A browser of this machine, if there is one.
fn browser() -> Option<&'static str> {
    let runs = |program: &&str| {
        Command::new(program)
            .arg("--version")
            .output()
            .is_ok_and(|said| said.status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(runs)
}

/// What a browser makes of the page at `path` in some seconds, scripts and all.
fn shown(browser: &str, site: &Site, path: &str) -> String {
    let profile = site.data_dir().join("browser");
    let said = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--timeout=4000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("http://{}{path}", site.gateway_http()))
        .output()
        .unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// The sign that the page's script has a connection, and what came over it.
#[test]
fn a_browser_shows_the_pages_and_keeps_them_live() {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED a_browser_shows_the_pages_and_keeps_them_live: no chromium (apt-get install chromium)");
        return;
    };
    let site = Site::start(2);
    assert!(until(READY_MAX, || look(&site).is_some_and(|seen| seen["report"]["boards_alive"] == 2)));
    let name = look(&site).unwrap()["site"].as_str().unwrap().to_owned();
    for (path, part) in [("/".to_owned(), format!("site-{name}")), (format!("/sites/{name}"), "ledger".to_owned())] {
        // A browser tells of a page as soon as that is loaded, which may be before its stream is open.
        let mut page = String::new();
        let is_live = until(READY_MAX, || {
            page = shown(browser, &site, &path);
            page.contains("<span id=\"live\" role=\"status\">live</span>")
        });
        assert!(is_live && page.contains(&format!("id=\"{part}\"")), "{path}: {page}");
    }
}

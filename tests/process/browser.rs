//! The pages for people in a real browser, driven by `tests/browser/look.mjs`: what it looks at is said there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::dashboard::{add_duty, holder};
use crate::load::Load;
use crate::site::{READY_MAX, Site};
use crate::{http, until};

/// Readings on the pages.
const READINGS: u64 = 500;

/// Ends with the test, whatever becomes of it.
struct Looker(Child);

impl Drop for Looker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Seen to fail: at a page that loads itself anew, at colours that only some browsers find a background for, at a table that a
/// keyboard cannot move sideways.
#[test]
fn people_see_the_pages_live_on_every_screen_and_nobody_is_shut_out() {
    let Ok(modules) = std::env::var("ROADSTEAD_NODE_MODULES") else {
        eprintln!("SKIPPED people_see_the_pages_live…: no browser was set up (cargo xtask test --tier browser does)");
        return;
    };
    let mut site = Site::make(3);
    add_duty(&site);
    site.start_gateway();
    site.start_boards();
    let load = Load::start(site.mqtt(1), "loop-7", 100, READINGS);
    let sites = || -> Option<Value> { serde_json::from_str(&http::get(site.gateway_http(), "/api/sites")?).ok() };
    let is_well = || sites().is_some_and(|seen| seen["sites"][0]["state"] == "well");
    let is_up = || is_well() && holder(&site).is_some();
    assert!(until(READY_MAX, || load.acked() == READINGS && is_up()), "{:?}\n{}", sites(), site.tails());
    let name = sites().unwrap()["sites"][0]["site"].as_str().unwrap().to_owned();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/look.mjs");
    let mut looker = Command::new("node")
        .arg(script)
        .args([format!("http://{}", site.gateway_http()), name, format!("http://{}", site.http(1))])
        .env("ROADSTEAD_NODE_MODULES", modules)
        .stdout(Stdio::piped())
        .spawn()
        .map(Looker)
        .expect("node starts");
    for line in BufReader::new(looker.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        println!("{line}");
        if line == "WATCHING" {
            assert!(until(READY_MAX, || holder(&site).is_some()), "the duty rests\n{}", site.tails());
            site.kill(holder(&site).expect("it was performed a moment ago"));
        }
    }
    assert!(looker.0.wait().unwrap().success(), "see above\n{}", site.tails());
}

//! What the region shows of a real site while its boards die and come back.

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

/// A duty that does nothing, started where it is to act.
const DUTY: &str = r#"
[[duty]]
name = "signal"
mode = "exclusive"
command = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
"#;

/// Adds the duty `signal` to a site of three boards, which do not run yet.
pub(crate) fn add_duty(site: &Site) {
    for board in 1..=3 {
        site.edit(board, |text| format!("{text}{DUTY}"));
    }
}

/// The one board that performs the user's duty, as the region shows it, where it runs.
pub(crate) fn holder(site: &Site) -> Option<usize> {
    let seen = look(site)?;
    let signal = seen["duties"].as_array()?.iter().find(|duty| duty["name"] == "signal")?;
    let board = signal["holders"].get(0)?.as_u64()?;
    let runs = signal["state"] == "running" && signal["ready"] == signal["holders"];
    usize::try_from(board).ok().filter(|_| runs)
}

#[test]
fn the_region_shows_a_users_duty_move_from_a_board_that_dies() {
    let mut site = Site::make(3);
    add_duty(&site);
    site.start_gateway();
    site.start_boards();
    assert!(until(READY_MAX, || holder(&site).is_some()), "{:?}\n{}", look(&site), site.tails());

    let first = holder(&site).unwrap();
    site.kill(first);
    let has_moved = || holder(&site).is_some_and(|board| board != first);
    assert!(until(READY_MAX, has_moved), "{:?}\n{}", look(&site), site.tails());
    let (second, name) = (holder(&site).unwrap(), look(&site).unwrap()["site"].as_str().unwrap().to_owned());
    let page = http::get(site.gateway_http(), &format!("/sites/{name}")).expect("a page");
    let section = page
        .split("id=\"duties\"")
        .nth(1)
        .and_then(|rest| rest.split("</section>").next());
    let row = section
        .and_then(|section| section.split("signal").nth(1))
        .expect("a line of the duty");
    assert!(row.contains("running") && row.contains(&format!("board {second}")), "{page}");
}

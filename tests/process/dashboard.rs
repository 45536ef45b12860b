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

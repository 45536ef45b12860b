//! A site with two regions, each with a gateway and a store of its own: the first is gone, the second takes over, and the first gets
//! what it has missed. What `docs/regions.md` says an operator does is what `Site::make_standby` does.

use std::time::Duration;

use gateway::store::FILE;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::load::{Account, Load};
use crate::mqtt::{Publish, Publisher, Version};
use crate::site::Site;
use crate::{http, store, until};

/// Readings of the loads that end.
const READINGS: u64 = 400;
/// Readings to each board while the second region stands in: several of the smallest segments.
const MANY: u64 = 24_000;
/// After each 32 readings of a load without an end.
const PAUSE: Duration = Duration::from_millis(10);
/// Readings to each board while neither region is there.
const BACKLOG: u64 = 6_000;
const ALARMS: u64 = 20;
/// Another region is taken within so long: 3 s of patience, an election before it perhaps, and a machine that does other things.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// The better region is taken again within so long: it has to be good for ten seconds, and is tried every half minute at least.
const HOME_WITHIN: Duration = Duration::from_secs(90);

/// The region that the site's leader speaks with.
fn region(site: &Site) -> Option<String> {
    let (leader, _) = site.leader()?;
    let status = site.status(leader)?;
    Some(status["uplink_path"]["region"].as_str()?.to_owned())
}

fn expect_region(site: &Site, name: &str, within: Duration) {
    let is_there = until(within, || region(site).as_deref() == Some(name));
    assert!(is_there, "the site does not speak with {name}, but with {:?}\n{}", region(site), site.tails());
}

fn loads(site: &Site, name: &str, most: u64) -> Vec<Load> {
    let running = site.running();
    let load = |board: &usize| Load::start(site.mqtt(*board), &format!("{name}-{board}"), 200, most);
    running.iter().map(load).collect()
}

/// The same until they are told to end: not as fast as they can, or a fast machine outruns what boards keep.
fn loads_without_end(site: &Site, name: &str) -> Vec<Load> {
    let running = site.running();
    let load = |board: &usize| Load::paced(site.mqtt(*board), &format!("{name}-{board}"), 200, u64::MAX, PAUSE);
    running.iter().map(load).collect()
}

/// Alarms to the first board that runs.
fn alarms(site: &Site) -> Account {
    let mut account = Account::new("alarms", 100);
    let board = site.running()[0];
    let mut publisher = Publisher::connect(site.mqtt(board), "alarms", Version::V5).unwrap();
    for packet in 1..=ALARMS {
        let number = account.send();
        let (payload, packet) = (account.payload(number), u16::try_from(packet).unwrap());
        let alarm = Publish { topic: "alarm/7", payload: &payload, packet, dup: false, seq: Some(number) };
        publisher.publish(&alarm).unwrap();
        account.acknowledge(number);
    }
    account
}

/// Of the rows of publishers whose names begin so, in which block each came, in a store that is a file.
fn blocks(data_dir: &std::path::Path, publisher: &str) -> Vec<i64> {
    let store = Connection::open_with_flags(data_dir.join(FILE), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut asked = store
        .prepare("SELECT block FROM record WHERE publisher IN (SELECT id FROM publisher WHERE name LIKE ?1 || '%')")
        .unwrap();
    let blocks = asked.query_map([publisher], |row| row.get(0)).unwrap();
    blocks.collect::<Result<_, _>>().unwrap()
}

/// What a region counts of the site.
fn counts(gateway: std::net::SocketAddr) -> Value {
    let counts = http::get(gateway, "/api/sites/site/counts").expect("the gateway answers");
    serde_json::from_str(&counts).unwrap()
}

/// Alarms come before the rest of what has waited.
fn expect_alarms_first(site: &Site) {
    let last = blocks(&site.standby_data_dir(), "alarms").into_iter().max().unwrap();
    let waited = blocks(&site.standby_data_dir(), "backlog");
    let later = waited.iter().filter(|block| **block > last).count();
    assert!(
        later * 2 > waited.len(),
        "of {} readings that waited {later} came after the last alarm",
        waited.len()
    );
}

/// Each region counts what it stores, misses nothing, and adds up.
fn expect_sound(site: &Site, gateway: std::net::SocketAddr, rows: u64) {
    let is_sound = || {
        let counts = counts(gateway);
        counts["stored"] == rows && counts["holes"] == 0 && counts["shed"] == 0 && counts["duplicates"] == 0
    };
    assert!(until(TAKEN_WITHIN, is_sound), "{rows} rows: {}\n{}", counts(gateway), site.tails());
}

/// Seen to fail with `covered_kept = 0`.
#[test]
fn a_second_region_takes_over_and_the_first_one_gets_what_it_has_missed() {
    let mut site = Site::make(3);
    site.make_standby();
    for board in 1..=3 {
        site.edit(board, |text| text.replace("[journal]", "[journal]\nsegment_mib = 4\ncovered_kept = 128"));
    }
    site.start_gateway();
    site.start_standby();
    site.start_boards();
    expect_region(&site, "north", TAKEN_WITHIN);
    let mut accounts: Vec<Account> = loads(&site, "before", READINGS).into_iter().map(Load::wait).collect();
    store::expect_all(&site, &accounts);
    assert!(store::rows(&site.standby_data_dir()).is_empty(), "the second region is left alone");

    // The first region dies under load, and with it all that it had not acknowledged.
    let under_way = loads_without_end(&site, "meanwhile");
    assert!(until(TAKEN_WITHIN, || under_way.iter().all(|load| load.acked() > READINGS)));
    site.kill_gateway();
    expect_region(&site, "south", TAKEN_WITHIN);
    let had = store::seen(&site.standby_data_dir()).0;
    assert!(until(TAKEN_WITHIN, || store::seen(&site.standby_data_dir()).0 > had), "{}", site.tails());

    // The leader dies meanwhile; its successor finds the second region by itself.
    let (leader, _) = site.leader().unwrap();
    site.kill(leader);
    let has_another = until(TAKEN_WITHIN, || site.leader().is_some_and(|(other, _)| other != leader));
    assert!(has_another, "{}", site.tails());
    expect_region(&site, "south", TAKEN_WITHIN);
    accounts.extend(under_way.into_iter().map(Load::end));
    site.start_boards();
    accounts.extend(loads(&site, "many", MANY).into_iter().map(Load::wait));
    store::expect_read(&accounts, || store::rows(&site.standby_data_dir()));

    // Neither is there: what waits goes to whichever comes, the alarms first.
    site.kill_standby();
    accounts.push(alarms(&site));
    accounts.extend(loads(&site, "backlog", BACKLOG).into_iter().map(Load::wait));
    site.start_standby();
    store::expect_read(&accounts, || store::rows(&site.standby_data_dir()));
    expect_alarms_first(&site);

    // The first region returns, is taken again by itself, and has everything.
    let south = store::rows(&site.standby_data_dir()).len() as u64;
    expect_sound(&site, site.standby_http(), south);
    let under_way = loads_without_end(&site, "homeward");
    site.start_gateway();
    expect_region(&site, "north", HOME_WITHIN);
    accounts.extend(under_way.into_iter().map(Load::end));
    accounts.extend(loads(&site, "after", READINGS).into_iter().map(Load::wait));
    store::expect_all(&site, &accounts);
    let north = store::rows(&site.data_dir()).len() as u64;
    expect_sound(&site, site.gateway_http(), north);
    assert_eq!(counts(site.gateway_http())["reconciles"], true, "{}", counts(site.gateway_http()));

    // Whoever was there all the time has told of each change of region, and of no region that lost its memory.
    for board in 1..=3 {
        let metrics = http::Metrics::of(site.http(board));
        let events = |event: &str| metrics.sum("roadstead_events_total", &format!("event=\"{event}\""));
        assert_eq!(events("coverage_went_back"), 0, "board {board}\n{}", site.tails());
        assert!(events("region_changed") > u64::from(board != leader), "board {board}\n{}", site.tails());
    }
}

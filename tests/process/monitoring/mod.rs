//! What `docs/monitoring` gives an operator, held against promtool and against a live site: rules that load, tests of them
//! that pass, dashboards whose every query is one, and no name in any of them that no board or gateway tells.
//!
//! `ROADSTEAD_PROMTOOL` is the path of promtool; without it one on the search path is taken, and where there is none that
//! part says so and is left out.

mod papers;
mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use shared::checksum::crc32c;

use self::papers::{alerts, queries, text};
use self::promql::{Asked, Selector};
use crate::load::Load;
use crate::site::Site;
use crate::{http, until};

const DASHBOARDS: [&str; 2] = ["site.json", "region.json"];
/// Labels that a scrape gives to every series.
const TARGET_LABELS: [&str; 3] = ["job", "instance", "site"];
/// What is told only where a broker is bridged: in the list for people, and in no rule.
const BRIDGE: &str = "roadstead_bridge_";
/// A report comes each second, heartbeats sooner: all is told within so long, on a machine that does other things too.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

/// Runs promtool; `None` where there is none and nobody said that there must be.
fn promtool(words: &[&str]) -> Option<()> {
    let given = std::env::var_os("ROADSTEAD_PROMTOOL");
    let ran = Command::new(given.clone().unwrap_or_else(|| "promtool".into()))
        .args(words)
        .current_dir(papers::folder())
        .output();
    match ran {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "promtool {words:?}: {said}");
            Some(())
        }
        Err(error) => {
            assert!(given.is_none(), "promtool does not start: {error}");
            eprintln!("LEFT OUT: alert rules were not checked: there is no promtool ({error})");
            None
        }
    }
}

/// Broken to see it fail: a threshold lowered so that a site that is well alerts, one raised, an hour of `for` made a minute, a
/// parenthesis too few in a dashboard.
#[test]
fn promtool_takes_the_rules_their_tests_and_every_query() {
    // The example's configuration loads the rules.
    let Some(()) = promtool(&["check", "config", "prometheus.yml"]) else { return };
    promtool(&["check", "rules", "--lint-fatal", "alerts.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
    let mut rules = "groups:\n  - name: dashboards\n    rules:\n".to_owned();
    for (number, query) in DASHBOARDS.into_iter().flat_map(queries).enumerate() {
        let query = query.replace("$__rate_interval", "5m");
        writeln!(rules, "      - record: query:{number}\n        expr: >-\n          {query}").unwrap();
    }
    let path = std::env::temp_dir().join(format!("roadstead-queries-{}.yml", std::process::id()));
    fs::write(&path, rules).unwrap();
    promtool(&["check", "rules", path.to_str().unwrap()]);
    fs::remove_file(path).unwrap();
}

/// Broken to see it fail: an alert without a story, one of severity `page`, one whose description is empty.
#[test]
fn every_alert_says_what_to_do_and_has_a_story() {
    let text = text("alerts_test.yml");
    let stories: Vec<&str> = text.split("\n  - name: ").skip(1).collect();
    let alerts = alerts();
    assert!(alerts.len() > 20, "the rules were not read");
    let names: BTreeSet<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names.len(), alerts.len(), "a name is used twice");
    for alert in &alerts {
        let name = &alert.name;
        assert!(["critical", "warning"].contains(&alert.severity.as_str()), "{name}: {}", alert.severity);
        assert!(!alert.expression.is_empty() && !alert.summary.is_empty(), "{name} says nothing");
        assert!(alert.description.len() > 40, "{name} does not say what to do");
        let fires = format!("alertname=\"{name}\"");
        let of_it = |story: &&&str| story.starts_with(&format!("{name}\n"));
        let story = stories.iter().find(of_it).unwrap_or_else(|| panic!("{name} has no story"));
        assert!(story.contains("exp_samples: []") && story.contains(&fires), "{name} fires or rests always");
    }
    assert!(!stories[0].contains("alertname="), "the first story is of a site that is well");
}

/// What a scrape told: the labels of each series, by name.
type Told = BTreeMap<String, Vec<BTreeMap<String, String>>>;

/// Scrapes all of a site.
fn scrape(site: &Site) -> (Told, BTreeSet<String>) {
    let (mut told, mut families) = (Told::new(), BTreeSet::new());
    let pages = site.running().into_iter().map(|board| site.http(board));
    for page in pages.chain([site.gateway_http()]) {
        let page = http::get(page, "/metrics").expect("it tells");
        assert!(page.ends_with("# EOF\n"), "cut short");
        let mut counters = BTreeSet::new();
        for line in page.lines() {
            if let Some(described) = line.strip_prefix("# TYPE ") {
                let (name, kind) = described.split_once(' ').unwrap();
                let is_counter = kind == "counter";
                families.insert(if is_counter { format!("{name}_total") } else { name.to_owned() });
                assert!(counters.insert(name.to_owned()), "{name} is described twice");
            } else if !line.starts_with('#') {
                let end = line.rfind(' ').expect("a value");
                let series = promql::read(&line[..end]).series.remove(0);
                let labels = series.matchers.into_iter().map(|(label, _, value)| (label, value));
                told.entry(series.name).or_default().push(labels.collect());
            }
        }
    }
    (told, families)
}

/// What of `asked` nobody tells.
fn untold(asked: &Asked, told: &Told) -> Vec<String> {
    let mut untold = Vec::new();
    let every: BTreeSet<&str> = told
        .values()
        .flatten()
        .flat_map(|labels| labels.keys().map(String::as_str))
        .collect();
    let strange = |label: &&String| !every.contains(label.as_str()) && !TARGET_LABELS.contains(&label.as_str());
    untold.extend(asked.labels.iter().filter(strange).map(|label| format!("label {label}")));
    // Prometheus tells this one itself.
    for Selector { name, matchers } in asked.series.iter().filter(|series| series.name != "up") {
        let Some(series) = told.get(name) else {
            untold.push(name.clone());
            continue;
        };
        for (label, operator, value) in matchers {
            let chosen = value.contains('$') || TARGET_LABELS.contains(&label.as_str());
            let has = |value: &str| series.iter().any(|labels| labels.get(label).is_some_and(|told| told == value));
            let values: Vec<&str> = if operator == "=~" {
                value.split('|').collect()
            } else {
                vec![value]
            };
            if !chosen && !values.into_iter().all(has) {
                untold.push(format!("{name} with {label}{operator}{value:?}"));
            }
        }
    }
    untold
}

/// A board writes this beside its journal (`firmware/src/disk/wear.rs`): two hours of wear, so that an estimate stands.
fn wear_out(data: &Path) {
    let mut page = vec![0_u8; 4096];
    page[..8].copy_from_slice(b"RSWEAR1\0");
    let (change, bytes, syncs, payload, micros) = (1_u64, 1_u64 << 30, 1000_u64, 1_u64 << 29, 7_200_000_000_u64);
    for (at, number) in [change, bytes, syncs, payload, micros].into_iter().enumerate() {
        page[8 + 8 * at..16 + 8 * at].copy_from_slice(&number.to_le_bytes());
    }
    page[48..52].copy_from_slice(&1_u32.to_le_bytes());
    let crc = crc32c(&page[..4092]);
    page[4092..].copy_from_slice(&crc.to_le_bytes());
    page.resize(8192, 0);
    fs::create_dir_all(data).unwrap();
    fs::write(data.join("wear"), page).unwrap();
}

/// A pair with a witness and a duty, whose media have been worn: it tells whatever a site can tell but a bridge's numbers.
fn whole_site() -> Site {
    let mut site = Site::make(2);
    for board in [1, 2] {
        wear_out(&site.board_dir(board).join("data"));
        let duty = "\n[[duty]]\nname = \"signal\"\nmode = \"exclusive\"\ncommand = [\"/bin/sleep\", \"3600\"]\n";
        site.edit(board, |text| text.replace("[journal]\n", "[journal]\nendurance_tbw = 100\n") + duty);
    }
    site.start_gateway();
    site.start_boards();
    site
}

/// Broken to see it fail: a metric renamed in the firmware, one renamed in the gateway, an event that does not begin at zero,
/// `by (sites)` in a rule, a misspelt name in a dashboard, a row taken out of the list for people, one of a name that is none.
#[test]
fn every_name_in_rules_dashboards_and_the_list_is_told_by_a_live_site() {
    let site = whole_site();
    Load::start(site.mqtt(1), "loop", 500, 500).wait();
    let rules = alerts().into_iter().map(|alert| (alert.name, alert.expression));
    let boards = DASHBOARDS
        .into_iter()
        .flat_map(|file| queries(file).into_iter().map(move |query| (file.into(), query)));
    let asked: Vec<(String, Asked)> = rules
        .chain(boards)
        .map(|(place, query)| (place, promql::read(&query)))
        .collect();
    let stories = papers::stories_series();
    assert!(asked.len() > 60 && stories.len() > 100, "the files were not read");
    let mut missing = BTreeSet::new();
    until(TOLD_WITHIN, || {
        let (told, families) = scrape(&site);
        missing.clear();
        for (place, asked) in &asked {
            missing.extend(untold(asked, &told).into_iter().map(|what| format!("{place}: {what}")));
        }
        for story in &stories {
            let series = promql::read(story).series.remove(0);
            let known = told.get(&series.name).into_iter().flatten().any(|labels| {
                let mut of_story = series.matchers.iter().map(|(label, ..)| label.as_str());
                of_story.all(|label| labels.contains_key(label) || TARGET_LABELS.contains(&label))
            });
            if !known && series.name != "up" {
                missing.insert(format!("alerts_test.yml: {story}"));
            }
        }
        let text = text("README.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let listed: BTreeSet<String> = rows.filter(|name| name.starts_with("roadstead_")).map(str::to_owned).collect();
        missing.extend(families.difference(&listed).map(|name| format!("README.md lacks {name}")));
        let strange = listed.difference(&families).filter(|name| !name.starts_with(BRIDGE));
        missing.extend(strange.map(|name| format!("README.md: nobody tells {name}")));
        missing.is_empty()
    });
    assert!(missing.is_empty(), "{missing:#?}\n{}", site.tails());
}

/// An event that begins at zero stands in a list beside its counter, where a misspelt one would be told all the same.
///
/// Broken to see it fail: the event `bord_twice` in the firmware's list.
#[test]
fn every_event_that_is_told_exists() {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/src/event.rs")).unwrap();
    let site = Site::start(1);
    let (told, _) = scrape(&site);
    let events = told["roadstead_events_total"].iter().map(|labels| &labels["event"]);
    let unknown: BTreeSet<&String> = events.filter(|event| !source.contains(&format!("=> \"{event}\""))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

//! The files of `docs/monitoring`, read as they are written: rules and their tests line by line, dashboards as JSON.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// An alert rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alert {
    pub(crate) name: String,
    pub(crate) expression: String,
    pub(crate) severity: String,
    pub(crate) summary: String,
    pub(crate) description: String,
}

/// The folder.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring")
}

/// One of its files.
pub(crate) fn text(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap()
}

/// Every alert of `alerts.yml`.
pub(crate) fn alerts() -> Vec<Alert> {
    let text = text("alerts.yml");
    let alerts = text.split("      - alert: ").skip(1).map(alert);
    alerts.collect()
}

fn alert(rule: &str) -> Alert {
    let mut alert = Alert { name: rule.lines().next().unwrap().to_owned(), ..Alert::default() };
    let mut lines = rule.lines().skip(1).peekable();
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.trim().split_once(": ") else { continue };
        let value = value.trim_matches('"').to_owned();
        match key {
            "expr" if value == "|" => {
                while let Some(line) = lines.next_if(|line| line.starts_with("          ")) {
                    alert.expression.push_str(line);
                }
            }
            "expr" => alert.expression = value,
            "severity" => alert.severity = value,
            "summary" => alert.summary = value,
            "description" => alert.description = value,
            _ => {}
        }
    }
    alert
}

/// Series that the stories of `alerts_test.yml` begin with.
pub(crate) fn stories_series() -> Vec<String> {
    let text = text("alerts_test.yml");
    let series = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- series: '")?.strip_suffix('\''));
    series.map(str::to_owned).collect()
}

/// Every query of a dashboard, its variables' included.
pub(crate) fn queries(file: &str) -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text(file)).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{file}: a panel without a query: {}", panel["title"]);
        for asks in targets.iter().chain([panel]) {
            assert_eq!(asks["datasource"]["uid"], "${datasource}", "{file}: {}", panel["title"]);
        }
        queries.extend(targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["definition"].as_str() else { continue };
        let inner = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap();
        let (series, label) = inner.rsplit_once(", ").unwrap();
        queries.push(format!("count by ({label}) ({series})"));
    }
    queries
}

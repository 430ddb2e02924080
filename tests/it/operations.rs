//! What operators load into Prometheus and Grafana: it names metrics that exist, Prometheus takes it, every alert is shown to
//! come and to stay away, and every metric is documented.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use churnd::telemetry::metrics::catalog;
use expect_test::expect_file;
use serde_json::Value;
use tempfile::TempDir;

const DASHBOARDS: [&str; 3] = ["churnd-overview", "churnd-pipeline", "churnd-edges"];

#[test]
fn every_metric_is_documented() {
    let mut text = "# Metrics\n\nServed at `/metrics` as OpenMetrics text. A histogram's name has `_bucket`, `_sum` or `_count` \
                    after it. No label ever names an account or a customer.\n\n| metric | kind | labels | what it tells |\n|---|---|---|---|\n"
        .to_owned();
    for metric in catalog() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{}` | {} | {} | {} |", metric.name, metric.kind, labels.join(", "), metric.help).unwrap();
    }
    expect_file!["../../config/prometheus/METRICS.md"].assert_eq(&text);
}

#[test]
fn rules_and_dashboards_name_metrics_that_exist() {
    let known: BTreeMap<&str, &str> = catalog().iter().map(|metric| (metric.name, metric.kind)).collect();
    let mut used = BTreeSet::new();
    let files = DASHBOARDS.map(|name| format!("grafana/{name}.json"));
    for file in files.iter().map(String::as_str).chain(["prometheus/alerts.yml", "prometheus/alerts_test.yml"]) {
        for name in metrics_in(&read(file)) {
            let (base, is_part) = part_of(&name);
            let kind = known.get(base.as_str()).or_else(|| known.get(name.as_str()));
            let kind = kind.unwrap_or_else(|| panic!("{file} names {name}, which churnd does not export"));
            assert_eq!(
                is_part && !known.contains_key(name.as_str()),
                *kind == "histogram",
                "{file}: {name} is a {kind}"
            );
            used.insert(base);
        }
    }
    let unseen: Vec<&&str> = known.keys().filter(|name| !used.contains(**name)).collect();
    assert!(unseen.is_empty(), "no alert and no dashboard shows {unseen:?}");
}

#[test]
fn every_alert_is_shown_to_come_and_to_stay_away() {
    let cases = read("prometheus/alerts_test.yml");
    for alert in alerts() {
        let quiet = format!("{{ alertname: {alert}, eval_time: 170m, exp_alerts: [] }}");
        assert!(cases.contains(&quiet), "no case shows that {alert} stays away when all is well");
        let (_, loud) =
            cases.split_once(&format!("- alertname: {alert}\n")).unwrap_or_else(|| panic!("{alert} never comes"));
        let expected = loud.split_once("exp_alerts:\n").unwrap().1;
        assert!(expected.trim_start().starts_with("- exp_labels: { severity: "), "no case shows that {alert} comes");
    }
    assert!(alerts().len() >= 30, "{}", alerts().len());
}

#[test]
fn prometheus_takes_the_rules_and_what_the_dashboards_ask() {
    let directory = TempDir::new().unwrap();
    promtool(config().join("prometheus"), &["check", "rules", "alerts.yml"]);
    promtool(config().join("prometheus"), &["test", "rules", "alerts_test.yml"]);
    let mut rules = "groups:\n  - name: dashboards\n    rules:\n".to_owned();
    for (at, expression) in expressions().iter().enumerate() {
        let plain = expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*");
        writeln!(
            rules,
            "      - record: dashboards:expression:{at}\n        expr: {}",
            serde_json::to_string(&plain).unwrap()
        )
        .unwrap();
    }
    fs::write(directory.path().join("dashboards.yml"), rules).unwrap();
    promtool(directory.path().to_owned(), &["check", "rules", "dashboards.yml"]);
}

#[test]
fn dashboards_can_be_loaded_side_by_side() {
    let mut titles = BTreeSet::new();
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        assert_eq!(dashboard["uid"], name);
        assert!(titles.insert(dashboard["title"].as_str().unwrap().to_owned()));
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: two panels of one id");
            let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24, "{name}: {} is too wide", panel["title"]);
            for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
                assert!(cells.insert((place("x") + x, place("y") + y)), "{name}: {} covers another", panel["title"]);
            }
            if panel["type"] != "row" {
                assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {}", panel["title"]);
                assert!(
                    panel["description"].as_str().is_some_and(|text| text.ends_with('.')),
                    "{name}: {}",
                    panel["title"]
                );
                assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {}", panel["title"]);
            }
        }
    }
}

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn read(file: &str) -> String {
    fs::read_to_string(config().join(file)).unwrap_or_else(|error| panic!("config/{file}: {error}"))
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(&format!("grafana/{name}.json"))).unwrap()
}

fn alerts() -> Vec<String> {
    read("prometheus/alerts.yml")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: ").map(str::to_owned))
        .collect()
}

/// All that the dashboards ask Prometheus for.
fn expressions() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(expression) = fields.get("expr").and_then(Value::as_str) {
                    found.push(expression.to_owned());
                }
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    DASHBOARDS.iter().for_each(|name| collect(&dashboard(name), &mut found));
    assert!(found.len() > 60, "{}", found.len());
    found
}

/// The names of metrics in a text; those of dashboards and of this program have a dash or nothing after `churnd`.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("churnd_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// The metric that a name belongs to, and whether it is one of a histogram's.
fn part_of(name: &str) -> (String, bool) {
    let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
    (base.unwrap_or(name).to_owned(), base.is_some())
}

fn promtool(directory: PathBuf, arguments: &[&str]) {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/promtool");
    let tool = if own.exists() { own } else { PathBuf::from("promtool") };
    let output = Command::new(&tool).args(arguments).current_dir(directory).output();
    let output =
        output.unwrap_or_else(|error| panic!("{}: {error}: scripts/tools --clients fetches it", tool.display()));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

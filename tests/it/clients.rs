//! Real clients, unmodified, from their registries: what they send arrives exactly once. `scripts/tools --clients` fetches
//! them; each is played by a script in `tests/clients`, which says what it sent.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use churnd::{
    event::ids::StreamSequence,
    stream::{
        dead::{self, DeadLetter},
        publisher::Publisher,
    },
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Cluster, Observer, cluster::ACCOUNT, daemon::Daemon, eventually, http, webhooks::quiet};

const SOON: Duration = Duration::from_secs(60);
/// How long a script may take: browsers are slow where many tests run.
const PATIENCE: Duration = Duration::from_secs(200);

/// A churnd with the keys that clients need.
struct Stage {
    cluster: Cluster,
    daemon: Daemon,
    keys: BTreeMap<&'static str, String>,
}

impl Stage {
    async fn set() -> Self {
        let cluster = Cluster::start().await;
        let mut keys = BTreeMap::new();
        for kind in ["publishable", "secret", "stripe"] {
            let key = cluster.command(&["key", "add", "--account", ACCOUNT, "--kind", kind]).await;
            keys.insert(kind, key.trim().to_owned());
        }
        // All that clients send comes from one address.
        let daemon = Daemon::builder(&cluster, "one").setting("CHURND__TRACKING__PUBLISHABLE_RATE_PER_MINUTE", "0");
        let daemon = daemon.start().await;
        Self { cluster, daemon, keys }
    }

    /// Runs a script to its end and gives what it reports; it must succeed.
    async fn play(&self, script: &str) -> Value {
        let address = format!("http://{}", self.daemon.address());
        let mut command = interpreter_of(script);
        command
            .arg(root().join("tests/clients").join(script))
            .current_dir(self.cluster.dir())
            .env("CHURND_URL", &address)
            .env("CHURNPREDICTOR_HOST", &address)
            .env("CHURND_NATS_URL", self.cluster.nats.url())
            .env("CHURND_ACCOUNT", ACCOUNT)
            .env("CHURND_PUBLISHABLE_KEY", &self.keys["publishable"])
            .env("CHURND_SECRET_KEY", &self.keys["secret"])
            .env("CHURND_STRIPE_SECRET", &self.keys["stripe"])
            .env("CHURND_CHROMIUM", tool("bin/chromium"));
        let said = success(script, command).await;
        let report = said.lines().last().unwrap_or_default();
        serde_json::from_str(report).unwrap_or(Value::Null)
    }

    /// Waits until each of the reported events stands in the stream, once, and all are scored; no other event may be
    /// there but identifies.
    async fn holds_exactly(&self, observer: &Observer<'_>, reports: &[Value]) {
        let named = |report: &Value| -> Vec<String> {
            let events = report["events"].as_array().expect("a report names its events");
            events.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let mut expected = BTreeMap::<String, usize>::new();
        for name in reports.iter().flat_map(named) {
            *expected.entry(name).or_default() += 1;
        }
        eventually(SOON, async || {
            let mut found = BTreeMap::<String, usize>::new();
            for message in observer.messages("CHURN_EVENTS").await? {
                *found.entry(message.json()["event"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
            found.remove("identify");
            if found == expected { Ok(()) } else { Err(difference(&expected, &found)) }
        })
        .await;
        let last = observer.caught_up(SOON).await;
        let applied = "SELECT sum(applied)::bigint FROM partitions WHERE role = 'engine'";
        assert_eq!(observer.number(applied).await, Ok(i64::try_from(last).unwrap()), "each event was applied once");
        assert_eq!(observer.count("CHURN_DEAD").await, Ok(0), "nothing was refused afterwards");
    }
}

/// What is missing, too much, or unknown; the first of each.
fn difference(expected: &BTreeMap<String, usize>, found: &BTreeMap<String, usize>) -> String {
    let names = expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name)));
    let count = |side: &BTreeMap<String, usize>, name: &String| side.get(name).copied().unwrap_or_default();
    let wrong: Vec<String> = names
        .filter(|name| count(expected, name) != count(found, name))
        .map(|name| format!("{name}: {} instead of {}", count(found, name), count(expected, name)))
        .collect();
    format!("{} events are not there as they should be: {:?}", wrong.len(), &wrong[..wrong.len().min(10)])
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn tool(name: &str) -> PathBuf {
    let path = root().join(".tools").join(name);
    assert!(path.exists(), "{} is missing: run scripts/tools --clients", path.display());
    path
}

fn node() -> Command {
    Command::new(tool("bin/node"))
}

fn interpreter_of(script: &str) -> Command {
    if Path::new(script).extension().is_some_and(|extension| extension == "py") {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", tool("clients/python"));
        return command;
    }
    tool("clients/wanted");
    node()
}

/// What a command printed; it must succeed.
async fn success(what: &str, mut command: Command) -> String {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{what} did not end within {PATIENCE:?}")).unwrap();
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what} ended with {}:\n{}\n{}", output.status, end_of(&printed), end_of(&said));
    printed.into_owned()
}

/// What was printed last is what matters.
fn end_of(text: &str) -> &str {
    const BYTES: usize = 8_000;
    let start = text.len().saturating_sub(BYTES);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at));
    &text[start.unwrap_or_default()..]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snippet_is_made_from_its_source_is_small_and_keeps_its_promises() {
    let mut build = node();
    build.arg(root().join("sdk/browser/build.mjs")).arg("--check");
    success("build.mjs", build).await;
    let mut tests = node();
    tests.arg("--test").arg(root().join("sdk/browser/test/track.test.mjs"));
    success("track.test.mjs", tests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_passes_its_tests_and_its_types_hold() {
    let mut tests = node();
    tests.arg("--test").arg(root().join("sdk/node/test/client.test.js"));
    success("client.test.js", tests).await;
    let mut types = node();
    types.arg(tool("clients/node_modules/typescript/bin/tsc")).arg("--project").arg(root().join("sdk/node"));
    success("tsc", types).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snippet_in_a_browser_loses_nothing_when_tabs_close_and_networks_go() {
    let stage = Stage::set().await;
    let observer = Observer::of(&stage.cluster).await;
    let report = stage.play("track_js.mjs").await;
    stage.holds_exactly(&observer, std::slice::from_ref(&report)).await;
    for customer in report["identified"].as_array().unwrap() {
        let risk = observer.risk(customer.as_str().unwrap(), None).await.unwrap();
        assert_eq!((&risk["customerId"], &risk["score"]), (customer, &json!(0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_works_as_documented() {
    let stage = Stage::set().await;
    let observer = Observer::of(&stage.cluster).await;
    let report = stage.play("node_sdk.cjs").await;
    stage.holds_exactly(&observer, &[report]).await;
    assert_eq!(observer.risk("cus_123", None).await.unwrap()["score"], 0);
    assert_eq!(observer.risk("sdk-odd/.. id", None).await.unwrap()["score"], 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_clients_publish_events_and_read_alerts() {
    let stage = Stage::set().await;
    let observer = Observer::of(&stage.cluster).await;
    let reports = [stage.play("nats_js.mjs").await, stage.play("nats_py.py").await];
    stage.holds_exactly(&observer, &reports).await;
    for customer in ["njs@x.org", "npy"] {
        assert_eq!(observer.risk(customer, None).await.unwrap()["score"], 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_signed_by_stripes_own_package_are_taken_once() {
    let stage = Stage::set().await;
    let observer = Observer::of(&stage.cluster).await;
    let report = stage.play("stripe_webhooks.mjs").await;
    quiet(&observer, SOON).await;
    let stored = observer.messages("CHURN_WEBHOOKS").await.unwrap();
    let ids: Vec<Value> = stored.iter().map(|message| message.json()["id"].clone()).collect();
    assert_eq!(json!(ids), report["webhooks"], "each is stored once, no forged one");
    let risk = observer.risk(report["customer"].as_str().unwrap(), None).await.unwrap();
    assert_eq!((&risk["score"], &risk["factors"]), (&json!(40), &json!(["Recent payment failure"])));
    assert_eq!(risk["mrr"]["amount"], 5_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_clients_work_with_another_host() {
    let stage = Stage::set().await;
    let observer = Observer::of(&stage.cluster).await;
    let mut reports = Vec::new();
    for script in ["segment_node.mjs", "segment_python.py", "segment_browser.mjs"] {
        reports.push(stage.play(script).await);
    }
    stage.holds_exactly(&observer, &reports).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_the_api_describes_is_so() {
    let stage = Stage::set().await;
    let observer = Observer::of(&stage.cluster).await;
    // Somebody to ask about: the id that the description has as its example.
    let known = json!({"customerId": "c-17", "event": "payment_failed"});
    let answer = http::post_json(stage.daemon.address(), "/api/track", &stage.keys["secret"], &known).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    observer.caught_up(SOON).await;
    stage.play("schemathesis_run.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_about_account_and_system_can_be_seen_and_used_by_everybody() {
    let stage = Stage::set().await;
    let observer = Observer::of(&stage.cluster).await;
    let at = stage.daemon.address();
    for customer in ["c-1", "c-2"] {
        let failed = json!({"customerId": customer, "event": "payment_failed"});
        let answer = http::post_json(at, "/api/track", &stage.keys["secret"], &failed).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    observer.caught_up(SOON).await;
    let begun = json!({"action": "Ring them", "type": "call"});
    let answer = http::post_json(at, "/api/customers/c-1/interventions", &stage.keys["secret"], &begun).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    // One letter that is good now, as after a fault of ours, and one that is not.
    let publisher = Publisher::new(async_nats::connect(stage.cluster.nats.url()).await.unwrap(), 8);
    for (sequence, body) in [(1, r#"{"event":"login"}"#), (2, "no json")] {
        let letter = DeadLetter {
            dead_subject: format!("churn.dead.{ACCOUNT}.c-3"),
            reason: "unknown_account".to_owned(),
            detail: "the account was not known".to_owned(),
            stage: "decode".to_owned(),
            subject: format!("churn.events.{ACCOUNT}.c-3"),
            stream: "CHURN_EVENTS".to_owned(),
            sequence: StreamSequence(sequence),
            payload: body.into(),
            headers: None,
        };
        dead::publish(&publisher, &letter).await.unwrap();
    }
    let report = stage.play("dashboard_pages.mjs").await;
    assert_eq!(
        (&report["checked"], &report["before"], &report["after"]),
        (&json!(12), &json!(2), &json!(1)),
        "{report}"
    );
    observer.caught_up(SOON).await;
    assert_eq!(observer.risk("c-3", None).await.unwrap()["score"], 0, "the replayed event counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_an_event_within_two_seconds_and_can_be_used_by_everybody() {
    let stage = Stage::set().await;
    let report = stage.play("dashboard.mjs").await;
    assert_eq!(report["checked"], 28, "{report}");
    let took: Vec<i64> = report["took"].as_array().unwrap().iter().map(|took| took.as_i64().unwrap()).collect();
    assert!(took.iter().any(|took| *took <= 2_000), "an event must be seen within 2 s: {took:?} ms");
    assert!(report["marked"].as_i64() > Some(0), "what changed is marked: {report}");
}

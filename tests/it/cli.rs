//! Each command once for real: the binary against the private servers that it starts itself.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::support::{Cluster, Scratch, eventually, http};

/// How long a start may take: Postgres makes its cluster first.
const START: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);

/// A running `churnd dev`.
struct Dev {
    child: Child,
    ready: Value,
}

impl Dev {
    fn start(data: &Path) -> Self {
        let mut command = churnd(&["dev", "--json", "--http", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let line = first_line(child.stdout.take().unwrap(), START);
        Self { child, ready: serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in `{line}`")) }
    }

    fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {}", self.ready))
    }

    /// Runs a command on these servers.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = churnd(arguments);
        command.env("CHURND__NATS__URL", self.text("nats")).env("CHURND__POSTGRES__URL", self.text("postgres"));
        command
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// All processes that it started, and theirs.
    fn descendants(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            at += 1;
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
            let children: Vec<String> = children.collect();
            found.extend(children.iter().flat_map(|list| list.split(' ')).filter_map(|pid| pid.parse::<u32>().ok()));
        }
        found.split_off(1)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_err() {
            eprintln!("churnd dev {} could not be waited for", self.child.id());
        }
    }
}

/// The binary, untouched by the settings of who runs the tests.
fn churnd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_churnd"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["CHURND__NATS__URL", "CHURND__POSTGRES__URL", "DATABASE_URL", "PORT"] {
        command.env_remove(name);
    }
    command
}

fn first_line(from: impl std::io::Read + Send + 'static, within: Duration) -> String {
    let (sender, line) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(from).lines();
        drop(sender.send(lines.next()));
        lines.for_each(drop);
    });
    line.recv_timeout(within).expect("a line comes in time").expect("it ended without a word").unwrap()
}

fn printed(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What a command printed; it must succeed.
#[track_caller]
fn succeeded(output: &Output) -> String {
    let (code, out, err) = printed(output);
    assert_eq!(code, Some(0), "{out}{err}");
    out
}

/// What a command complained of; it must fail with this code.
#[track_caller]
fn failed(output: &Output, expected: i32) -> String {
    let (code, out, err) = printed(output);
    assert_eq!(code, Some(expected), "{out}{err}");
    err
}

fn is_alive(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

fn event(customer: &str, id: &str, name: &str) -> String {
    format!(r#"{{"customerId":"{customer}","id":"{id}","event":"{name}"}}"#)
}

async fn messages_in(nats: &str, stream: &str) -> u64 {
    let client = async_nats::connect(nats).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream(stream).await.unwrap();
    stream.cached_info().state.messages
}

// -- the whole system from nothing --------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn dev_runs_everything_and_the_commands_find_it() {
    let scratch = Scratch::new();
    let dev = Dev::start(&scratch.join("data"));
    let address: SocketAddr = dev.text("http").strip_prefix("http://").unwrap().parse().unwrap();
    eventually(SOON, async || match http::get(address, "/readyz").await {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    for (name, begins) in [("publishableKey", "pk_"), ("secretKey", "sk_"), ("stripeSecret", "whsec_")] {
        assert!(dev.text(name).starts_with(begins), "{name}");
    }
    eventually(SOON, async || {
        let (code, out, err) = printed(&dev.run(&["doctor"]));
        if code == Some(0) && out.contains("nothing is wrong") { Ok(()) } else { Err(format!("{code:?} {out}{err}")) }
    })
    .await;
    let report: Value = serde_json::from_str(&succeeded(&dev.run(&["doctor", "--json"]))).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    succeeded(&dev.run(&["migrate"]));

    assert!(succeeded(&dev.run(&["account", "add", "acme"])).contains("acme"));
    assert!(failed(&dev.run(&["account", "add", "acme"]), 1).contains("exists already"));
    assert!(succeeded(&dev.run(&["account", "list"])).contains("acme"));
    keys_are_two_of_a_kind_at_most(&dev);
    publishing_twice_stores_once(&dev, &scratch).await;
    a_watch_shows_the_alert_that_an_event_causes(&dev);
    dead_letters_come_back_once_their_account_is_there(&dev, &scratch).await;
}

fn keys_are_two_of_a_kind_at_most(dev: &Dev) {
    let add = ["key", "add", "--account", "acme", "--kind", "secret"];
    let first = succeeded(&dev.run(&add));
    assert!(first.starts_with("sk_"), "{first}");
    succeeded(&dev.run(&add));
    let complaint = failed(&dev.run(&add), 1);
    assert!(complaint.contains("revoke") && !complaint.contains(first.trim()), "{complaint}");
    let listed = succeeded(&dev.run(&["key", "list", "--account", "acme"]));
    assert!(listed.contains(&first[..11]) && !listed.contains(first.trim()), "{listed}");
    succeeded(&dev.run(&["key", "revoke", &first[..11]]));
    succeeded(&dev.run(&add));
}

async fn publishing_twice_stores_once(dev: &Dev, scratch: &Scratch) {
    let lines = [
        event("a", "e1", "login"),
        "not json".to_owned(),
        r#"{"customerId":"b","event":"login"}"#.to_owned(),
        event("c", "e3", "login"),
    ];
    let path = scratch.write("events.ndjson", lines.join("\n"));
    let publish = ["publish", path.to_str().unwrap(), "--account", "acme"];
    let complaint = failed(&dev.run(&publish), 1);
    assert!(complaint.contains("events.ndjson:2: ") && complaint.contains("1 line could not be used"), "{complaint}");
    assert_eq!(messages_in(dev.text("nats"), "CHURN_EVENTS").await, 3);
    let (_, again, _) = printed(&dev.run(&publish));
    assert!(again.contains("published 0 events") && again.contains("3 more were there already"), "{again}");
    assert_eq!(messages_in(dev.text("nats"), "CHURN_EVENTS").await, 3);
    assert_eq!(progress_files(scratch.path()), Vec::<PathBuf>::new(), "nothing is left to go on with");
}

fn progress_files(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    files.filter(|path| path.to_str().unwrap().contains(".progress")).collect()
}

fn a_watch_shows_the_alert_that_an_event_causes(dev: &Dev) {
    let mut watch = dev.command(&["watch", "--account", "acme", "--json", "--count", "1"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(first_line(watch.stderr.take().unwrap(), SOON).starts_with("watching"));
    let mut publish = dev.command(&["publish", "-", "--account", "acme"]);
    let mut publish = publish.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let line = event("watched", "w1", "payment_failed");
    std::io::Write::write_all(&mut publish.stdin.take().unwrap(), line.as_bytes()).unwrap();
    assert!(publish.wait().unwrap().success());
    let alert: Value = serde_json::from_str(&first_line(watch.stdout.take().unwrap(), SOON)).unwrap();
    assert_eq!((&alert["customerId"], &alert["level"]), (&"watched".into(), &"medium".into()), "{alert}");
    assert!(watch.wait().unwrap().success());
    let shown = succeeded(&dev.run(&["watch", "--since", "2020-01-01T00:00:00Z", "--count", "1"]));
    assert!(shown.contains("acme/watched: Recent payment failure  → Ask for a new payment method"), "{shown}");
}

async fn dead_letters_come_back_once_their_account_is_there(dev: &Dev, scratch: &Scratch) {
    let path = scratch.write("late.ndjson", event("d", "l1", "login"));
    succeeded(&dev.run(&["publish", path.to_str().unwrap(), "--account", "late"]));
    eventually(SOON, async || match messages_in(dev.text("nats"), "CHURN_DEAD").await {
        1 => Ok(()),
        other => Err(format!("{other} dead letters")),
    })
    .await;
    let shown = succeeded(&dev.run(&["replay-dead"]));
    assert!(shown.contains("0 of 1 dead letter replayed") && shown.contains("(unknown_account)"), "{shown}");
    succeeded(&dev.run(&["account", "add", "late"]));
    let dry = succeeded(&dev.run(&["replay-dead", "--account", "late", "--dry-run"]));
    assert!(dry.contains("1 of 1 dead letter would be replayed"), "{dry}");
    assert!(succeeded(&dev.run(&["replay-dead", "--account", "acme"])).contains("no dead letters"));
    assert!(succeeded(&dev.run(&["replay-dead"])).contains("1 of 1 dead letter replayed"));
    assert_eq!(messages_in(dev.text("nats"), "CHURN_DEAD").await, 0);
    assert!(succeeded(&dev.run(&["replay-dead"])).contains("no dead letters"));
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_keeps_its_keys_shares_its_directory_with_nobody_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let mut first = Dev::start(&data);
    let complaint = failed(&churnd(&["dev", "--data", data.to_str().unwrap()]).output().unwrap(), 1);
    assert!(complaint.contains(&format!("process {}", first.child.id())), "{complaint}");

    let started = first.descendants();
    assert!(started.len() > 2, "nats, postgres and what that forked: {started:?}");
    first.signal(Signal::SIGTERM);
    let status = eventually(SOON, async || first.child.try_wait().unwrap().ok_or("it still runs")).await;
    assert!(status.success(), "{status}");
    let left: Vec<&u32> = started.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(left.is_empty(), "these processes outlived it: {left:?}");

    let second = Dev::start(&data);
    for name in ["account", "publishableKey", "secretKey", "stripeSecret"] {
        assert_eq!(first.text(name), second.text(name), "{name}");
    }
    let started = second.descendants();
    second.signal(Signal::SIGKILL);
    eventually(SOON, async || match started.iter().find(|pid| is_alive(**pid)) {
        None => Ok(()),
        Some(pid) => Err(format!("process {pid} outlives a killed churnd")),
    })
    .await;
}

// -- importing ----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_killed_goes_on_and_doubles_nothing() {
    const LINES: u64 = 60_000;
    let cluster = Cluster::start().await;
    forget_duplicates_quickly(&cluster).await;
    let scratch = Scratch::new();
    let lines: String =
        (0..LINES).map(|line| format!("{{\"customerId\":\"c{}\",\"event\":\"login\"}}\n", line % 50)).collect();
    let path = scratch.write("history.ndjson", lines);
    let publish = || {
        let mut command = churnd(&["publish", path.to_str().unwrap(), "--account", "acme"]);
        command.envs(cluster.settings());
        command
    };
    let mut first = publish().stdout(Stdio::null()).spawn().unwrap();
    eventually(SOON, async || progress_files(scratch.path()).pop().ok_or("no progress yet")).await;
    first.kill().unwrap();
    assert!(!first.wait().unwrap().success(), "it was killed half way");
    let stored = messages_in(&cluster.nats.url(), "CHURN_EVENTS").await;
    assert!((1..LINES).contains(&stored), "{stored} events were stored before the kill");
    tokio::time::sleep(Duration::from_millis(500)).await; // longer than the server remembers ids

    let (code, out, err) = printed(&publish().output().unwrap());
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("going on after line"), "{err}");
    assert_eq!(messages_in(&cluster.nats.url(), "CHURN_EVENTS").await, LINES, "{out}");
    assert_eq!(progress_files(scratch.path()), Vec::<PathBuf>::new());
}

async fn forget_duplicates_quickly(cluster: &Cluster) {
    let jetstream = cluster.jetstream().await;
    let mut config = jetstream.get_stream("CHURN_EVENTS").await.unwrap().cached_info().config.clone();
    config.duplicate_window = Duration::from_millis(100);
    jetstream.update_stream(config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_again_changes_nothing() {
    let cluster = Cluster::start().await;
    assert!(cluster.command(&["provision"]).await.contains("nothing to do"));
    assert!(cluster.command(&["provision", "--dry-run"]).await.contains("nothing to do"));
    let output = churnd(&["doctor"]).envs(cluster.settings()).output().unwrap();
    failed(&output, 1);
    let (_, shown, _) = printed(&output);
    assert!(shown.contains("start `churnd run` with the role engine"), "{shown}");
}

// -- without servers ----------------------------------------------------------------------------------------------------

#[test]
fn doctor_names_both_servers_that_are_away_and_the_next_step() {
    let mut command = churnd(&["doctor"]);
    command.env("CHURND__NATS__URL", "nats://127.0.0.1:9");
    command.env("CHURND__POSTGRES__URL", "postgres://churnd:pa55@127.0.0.1:9/churnd");
    let (code, out, err) = printed(&command.output().unwrap());
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("✗ nats") && out.contains("→ start nats-server"), "{out}");
    assert!(out.contains("✗ postgres") && out.contains("→ start Postgres"), "{out}");
    assert!(err.contains("2 faults found"), "{err}");
    assert!(!out.contains("pa55") && !err.contains("pa55"), "secrets are not told");
}

#[test]
fn check_names_all_mistakes_at_once() {
    let scratch = Scratch::new();
    let rules = include_str!("../../config/rules.toml").replace("medium = 40\n", "medium = 400\n");
    let wrong_line = rules.lines().position(|line| line == "medium = 400").unwrap() + 1;
    let rules = scratch.write("rules.toml", rules);
    let config = scratch.write(
        "churnd.toml",
        format!("[pipeline]\nbatch = 0\n[natz]\nurl = \"x\"\n[rules]\nfile = {:?}\n", rules.to_str().unwrap()),
    );
    let check = |config: &Path| {
        let mut command = churnd(&["check", "--config", config.to_str().unwrap()]);
        command.env("CHURND__HTTP__LISTEN", "nowhere").output().unwrap()
    };
    let complaint = failed(&check(&config), 78);
    let of_rules = format!("rules.toml:{wrong_line}: ");
    for mistake in ["pipeline.batch is 0", "natz.url", "environment CHURND__HTTP__LISTEN", &of_rules] {
        assert!(complaint.contains(mistake), "{mistake} is not in\n{complaint}");
    }
    let fine = scratch.write("fine.toml", "instance = \"one\"\n");
    let report = succeeded(&churnd(&["check", "--config", fine.to_str().unwrap()]).output().unwrap());
    assert!(report.contains("can be used") && report.contains("memory    up to "), "{report}");
    failed(&churnd(&["run", "--config", config.to_str().unwrap()]).output().unwrap(), 78);
    failed(&churnd(&["score"]).output().unwrap(), 2);
}

#[test]
fn score_names_bad_lines_and_goes_on() {
    let scratch = Scratch::new();
    let failure = r#"{"customerId":"a","event":"payment_failed","timestamp":"2026-03-01T00:00:00Z"}"#;
    let path = scratch.write("events.ndjson", format!("{failure}\n\n{{\"event\":\"login\"}}\n[]\n"));
    let output = churnd(&["score", path.to_str().unwrap(), "--as-of", "2026-03-02T00:00:00Z"]).output().unwrap();
    let (code, out, err) = printed(&output);
    assert_eq!(code, Some(1));
    assert_eq!(
        out,
        "{\"customerId\":\"a\",\"score\":40,\"level\":\"medium\",\"factors\":[\"Recent payment failure\"]}\n"
    );
    assert!(err.contains("events.ndjson:3: ") && err.contains("events.ndjson:4: "), "{err}");
    assert!(err.contains("2 of 3 lines could not be used"), "{err}");
    let rules = scratch.write("rules.toml", "version = 2\n");
    let with_rules =
        ["score", path.to_str().unwrap(), "--as-of", "2026-03-02T00:00:00Z", "--rules", rules.to_str().unwrap()];
    failed(&churnd(&with_rules).output().unwrap(), 78);
}

#[test]
fn notify_preview_shows_what_would_be_sent() {
    let scratch = Scratch::new();
    let preview = |arguments: &[&str]| {
        let all: Vec<&str> = ["notify", "preview"].iter().chain(arguments).copied().collect();
        churnd(&all).output().unwrap()
    };
    let mail = succeeded(&preview(&["--public-url", "https://churn.example"]));
    assert!(
        mail.starts_with("Subject: High churn risk: ")
            && mail.contains("https://churn.example/dashboard/customers/c-17")
    );
    assert!(succeeded(&preview(&["--format", "html", "--kind", "digest"])).starts_with("<!DOCTYPE html>"));
    let slack: Value =
        serde_json::from_str(&succeeded(&preview(&["--channel", "slack", "--kind", "churned"]))).unwrap();
    assert_eq!(slack["blocks"][0]["text"]["text"], "Churned: Sample & Sons");
    let digest = succeeded(&preview(&["--channel", "webhook", "--kind", "digest"]));
    let file = scratch.write("digest.json", &digest);
    let again = succeeded(&preview(&["--channel", "webhook", file.to_str().unwrap()]));
    let alerts = |text: &str| serde_json::from_str::<Value>(text).unwrap()["alerts"].clone();
    assert_eq!(alerts(&again), alerts(&digest), "alerts of a file are shown as they are");
    let own = scratch.write("own.txt", "{{ alert.customer }} is at {{ alert.score }}");
    let own = succeeded(&preview(&["--template-text", own.to_str().unwrap()]));
    assert!(own.ends_with("Example Ltd is at 85\n"), "{own}");
    let bad = scratch.write("bad.txt", "hello\n{{ alert.custmer }}");
    let told = failed(&preview(&["--template-text", bad.to_str().unwrap()]), 1);
    assert!(told.contains("the template of the text cannot be used: line 2: there is no such field"), "{told}");
    failed(&preview(&["--channel", "webhook", "--format", "html"]), 1);
    failed(&preview(&["/nowhere.json"]), 1);
}

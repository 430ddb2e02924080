//! Webhooks over HTTP, signed as Stripe signs them: who is believed, what a 200 promises, and what was missed is fetched.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{
    Cluster, Observer,
    cluster::ACCOUNT,
    daemon::{Daemon, in_background},
    eventually,
    http::{self, Response as Answer},
    now,
    webhooks::{quiet, subscription, webhook},
};

const SOON: Duration = Duration::from_secs(60);

/// The header that Stripe sends.
fn signed(secret: &str, seconds: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    format!("t={seconds},v1={}", hex::encode(mac.finalize().into_bytes()))
}

type Headers<'a> = &'a [(&'a str, &'a str)];

/// What a test sends webhooks with.
struct Sender {
    address: SocketAddr,
    key: String,
}

impl Sender {
    async fn of(cluster: &Cluster, daemon: &Daemon) -> Self {
        let key = cluster.command(&["key", "add", "--account", ACCOUNT, "--kind", "publishable"]).await;
        Self { address: daemon.address(), key: key.trim().to_owned() }
    }

    async fn send(&self, headers: Headers<'_>, body: &[u8]) -> Answer {
        let path = format!("/webhooks/stripe?key={}", self.key);
        http::request(self.address, "POST", &path, headers, body).await.unwrap()
    }

    async fn send_signed(&self, secret: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let header = signed(secret, now() / 1_000, body.as_bytes());
        self.send(&[("stripe-signature", &header), ("content-type", "application/json")], body.as_bytes()).await
    }
}

/// Adds a signing secret to the account and gives its id and itself.
async fn add_secret(cluster: &Cluster) -> (String, String) {
    let made = cluster.command(&["key", "add", "--account", ACCOUNT, "--kind", "stripe", "--json"]).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

fn failed_invoice(id: &str, customer: &str) -> Value {
    let invoice = json!({"id": format!("in_{id}"), "object": "invoice", "customer": customer, "amount_due": 2_500});
    webhook(id, "invoice.payment_failed", now() / 1_000 - 60, &invoice)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_webhook_changes_a_score_and_no_other_does() {
    let cluster = Cluster::start().await;
    let (_, secret) = add_secret(&cluster).await;
    let daemon = Daemon::start(&cluster, "one").await;
    let (sender, observer) = (Sender::of(&cluster, &daemon).await, Observer::of(&cluster).await);
    let event = failed_invoice("evt_1", "cus_1");
    let body = event.to_string();
    let (bytes, seconds) = (body.as_bytes(), now() / 1_000);
    let header = signed(&secret, seconds, bytes);
    let other = signed("whsec_of_somebody_else_entirely", seconds, bytes);
    let (old, new) = (signed(&secret, seconds - 400, bytes), signed(&secret, seconds + 400, bytes));
    let spaced = body.replace(':', ": ");
    let large = format!("{body}{}", " ".repeat(512 * 1024));
    let signed_large = signed(&secret, seconds, large.as_bytes());
    let cases: &[(&str, Headers<'_>, &str, u16, &str)] = &[
        ("no header", &[], &body, 400, "missing_signature"),
        (
            "two headers",
            &[("stripe-signature", &header), ("stripe-signature", &header)],
            &body,
            400,
            "repeated_signature",
        ),
        ("another secret", &[("stripe-signature", &other)], &body, 400, "signature_mismatch"),
        ("another body", &[("stripe-signature", &header)], &spaced, 400, "signature_mismatch"),
        ("no body", &[("stripe-signature", &header)], "", 400, "signature_mismatch"),
        ("too old", &[("stripe-signature", &old)], &body, 400, "too_old"),
        ("too new", &[("stripe-signature", &new)], &body, 400, "too_new"),
        (
            "compressed",
            &[("stripe-signature", &header), ("content-encoding", "gzip")],
            &body,
            415,
            "unsupported_encoding",
        ),
        ("too large", &[("stripe-signature", &signed_large)], &large, 413, "body_too_large"),
    ];
    for (name, headers, body, status, code) in cases {
        let answer = sender.send(headers, body.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (*status, Some(*code)),
            "{name}: {}",
            answer.text()
        );
        assert!(!answer.text().contains(&secret), "{name}");
    }
    let path = "/webhooks/stripe?key=pk_00000000000000000000000000000000000000";
    let answer = http::request(daemon.address(), "POST", path, &[("stripe-signature", &header)], bytes).await.unwrap();
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(observer.count("CHURN_WEBHOOKS").await, Ok(0));

    for _ in 0..3 {
        let answer = sender.send(&[("stripe-signature", &header)], bytes).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"received": true})));
    }
    let unknown = webhook("evt_2", "customer.tax_id.created", seconds, &json!({"id": "txi_1", "object": "tax_id"}));
    assert_eq!(sender.send_signed(&secret, &unknown).await.status, 200);
    let thin = json!({"id": "evt_3", "object": "v2.core.event", "type": "v1.invoice.paid", "created": "2026-11-22T10:00:00Z",
        "snapshot_event": "evt_1", "related_object": {"id": "in_1", "type": "invoice", "url": "/v1/invoices/in_1"}});
    assert_eq!(sender.send_signed(&secret, &thin).await.status, 200);
    quiet(&observer, SOON).await;
    let stored = observer.messages("CHURN_WEBHOOKS").await.unwrap();
    assert_eq!(stored.len(), 3, "a repeat is stored once");
    assert_eq!((stored[0].body.as_slice(), stored[0].header("Nats-Msg-Id")), (bytes, "acme:evt_1"));
    let risk = observer.risk("cus_1", None).await.unwrap();
    assert_eq!((&risk["score"], &risk["factors"]), (&json!(40), &json!(["Recent payment failure"])));
    assert_eq!(observer.count("CHURN_DEAD").await, Ok(1), "the thin event holds no object: it is buried with a reason");
    let metrics = http::get(daemon.address(), "/metrics").await.unwrap().text();
    for line in [
        "churnd_webhook_verifications_total{source=\"stripe\",result=\"verified\"} 5\n",
        "churnd_webhook_verifications_total{source=\"stripe\",result=\"signature_mismatch\"} 3\n",
        "churnd_webhook_processing_duration_seconds_count ",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_roll_without_a_gap_and_are_revoked_within_five_seconds() {
    let cluster = Cluster::start().await;
    let fallback = "whsec_for_accounts_without_their_own";
    let daemon =
        Daemon::builder(&cluster, "one").setting("CHURND__ROLES", "bridge").setting("STRIPE_WEBHOOK_SECRET", fallback);
    let daemon = daemon.start().await;
    let sender = Sender::of(&cluster, &daemon).await;
    let event = |number: u32| failed_invoice(&format!("evt_{number}"), "cus_1");
    assert_eq!(sender.send_signed(fallback, &event(1)).await.status, 200, "the account has no secret of its own");
    // A secret counts as soon as it is there; the fallback is for accounts that have none.
    let (old_id, old) = add_secret(&cluster).await;
    assert_eq!(sender.send_signed(&old, &event(2)).await.status, 200);
    assert_eq!(sender.send_signed(fallback, &event(3)).await.status, 400);
    let (_, new) = add_secret(&cluster).await;
    assert_eq!(sender.send_signed(&new, &event(4)).await.status, 200);
    assert_eq!(sender.send_signed(&old, &event(5)).await.status, 200);
    // Another account's secret opens nothing here.
    cluster.command(&["account", "add", "beta"]).await;
    let foreign = cluster.command(&["key", "add", "--account", "beta", "--kind", "stripe"]).await;
    assert_eq!(sender.send_signed(foreign.trim(), &event(6)).await.json()["code"], "signature_mismatch");

    cluster.command(&["key", "revoke", &old_id]).await;
    let revoked = Instant::now();
    eventually(Duration::from_secs(5), async || match sender.send_signed(&old, &event(7)).await.status {
        400 => Ok(()),
        status => Err(format!("{status}")),
    })
    .await;
    println!("a revoked secret was refused after {:?}", revoked.elapsed());
    assert_eq!(sender.send_signed(&new, &event(8)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_a_webhook_is_asked_for_again() {
    let cluster = Cluster::start().await;
    let (_, secret) = add_secret(&cluster).await;
    let daemon = Daemon::builder(&cluster, "one")
        .setting("CHURND__ROLES", "bridge")
        .setting("CHURND__TRACKING__PUBLISH_PATIENCE_MS", "500")
        .start()
        .await;
    let sender = Sender::of(&cluster, &daemon).await;
    cluster.nats.kill();
    let answer = sender.send_signed(&secret, &failed_invoice("evt_1", "cus_1")).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    cluster.nats.restart().unwrap();
    let again = async || match sender.send_signed(&secret, &failed_invoice("evt_1", "cus_1")).await.status {
        200 => Ok(()),
        status => Err(format!("{status}")),
    };
    eventually(SOON, again).await;
    assert_eq!(Observer::of(&cluster).await.count("CHURN_WEBHOOKS").await, Ok(1));
}

/// A server that plays Stripe's list of events: what it holds, what it was asked, and what it answers out of turn.
#[derive(Default)]
struct Stripe {
    /// The newest first.
    events: Vec<Value>,
    asked: Mutex<Vec<String>>,
    /// Answers to the next questions, the last one first; 200 is the list itself.
    moods: Mutex<Vec<(u16, Option<&'static str>)>>,
}

const API_KEY: &str = "rk_test_reads_events";

async fn list_events(State(stripe): State<Arc<Stripe>>, query: RawQuery, headers: HeaderMap) -> Response {
    let query = query.0.unwrap_or_default();
    stripe.asked.lock().unwrap().push(query.clone());
    if headers["authorization"] != format!("Bearer {API_KEY}") {
        let error = json!({"error": {"message": "Invalid API Key provided: rk_test_***"}});
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    let mood = stripe.moods.lock().unwrap().pop();
    if let Some((status, retry_after)) = mood.filter(|(status, _)| *status != 200) {
        let mut answer = StatusCode::from_u16(status).unwrap().into_response();
        if let Some(seconds) = retry_after {
            answer.headers_mut().insert("retry-after", seconds.parse().unwrap());
        }
        return answer;
    }
    let named = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let until: i64 = named("created%5Blte%5D").map_or(i64::MAX, |text| text.parse().unwrap());
    let listed = stripe.events.iter().filter(|event| event["created"].as_i64().unwrap() <= until);
    let after = named("starting_after").map(str::to_owned);
    let mut rest: Vec<Value> = listed.cloned().collect();
    if let Some(after) = after {
        let place = rest.iter().position(|event| event["id"] == after).unwrap();
        rest.drain(..=place);
    }
    let has_more = rest.len() > 100;
    rest.truncate(100);
    Json(json!({"object": "list", "url": "/v1/events", "has_more": has_more, "data": rest})).into_response()
}

impl Stripe {
    async fn start(self) -> (Arc<Self>, String) {
        let stripe = Arc::new(self);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/v1/events", get(list_events)).with_state(Arc::clone(&stripe));
        in_background(async move { axum::serve(listener, routes).await });
        (stripe, url)
    }
}

/// Runs a backfill and gives whether it went well, and all that it said.
async fn backfill(cluster: &Cluster, url: &str, key: &str, more: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_churnd"));
    command.args(["stripe", "backfill", "--account", ACCOUNT]).args(more).envs(cluster.settings());
    command.env("CHURND__STRIPE__API_URL", url).env("STRIPE_API_KEY", key).kill_on_drop(true);
    let output = tokio::time::timeout(SOON, command.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_fetched_and_fetching_again_changes_nothing() {
    let cluster = Cluster::start().await;
    let observer = Observer::of(&cluster).await;
    let _daemon = Daemon::start(&cluster, "one").await;
    let start = now() / 1_000 - 86_400;
    let mut events: Vec<Value> = (0..230)
        .map(|number| {
            let (id, at) = (format!("evt_{number}"), start + number);
            let object = subscription(&format!("cus_{number}"), "past_due", start + 20 * 86_400);
            let kind = if number % 10 == 0 { "payout.paid" } else { "customer.subscription.updated" };
            webhook(&id, kind, at, &object)
        })
        .collect();
    events.reverse();
    // The second page comes after a wait that Stripe asks for, and a failure on its side.
    let moods = Mutex::new(vec![(502, None), (429, Some("1"))]);
    let (stripe, url) = Stripe { events, moods, ..Stripe::default() }.start().await;

    let (well, said) = backfill(&cluster, &url, "rk_wrong", &[]).await;
    assert!(!well && said.contains("stripe.api_key") && said.contains("Invalid API Key provided"), "{said}");
    let begun = Instant::now();
    let (well, said) = backfill(&cluster, &url, API_KEY, &[]).await;
    assert!(well && said.contains("published 207 events of Stripe to account acme; 23 say nothing of risk"), "{said}");
    assert!(
        said.contains("429 Too Many Requests: asking again in 1.0 s") && said.contains("502 Bad Gateway"),
        "{said}"
    );
    assert!(begun.elapsed() > Duration::from_secs(1), "Retry-After is honoured");
    let asked = stripe.asked.lock().unwrap()[1..].to_vec();
    let after: Vec<&str> = asked.iter().filter_map(|query| query.split("starting_after=").nth(1)).collect();
    assert_eq!((asked.len(), after), (5, vec!["evt_130", "evt_30"]));
    quiet(&observer, SOON).await;
    let risk = observer.risk("cus_7", None).await.unwrap();
    assert_eq!((&risk["score"], &risk["mrr"]["amount"]), (&json!(60), &json!(2_500)), "{risk}");

    let state = async || {
        let rows =
            observer.rows("SELECT token, score, snapshot FROM customer_states ORDER BY token", &[]).await.unwrap();
        rows.iter().map(|row| (row.get::<_, String>(0), row.get::<_, i16>(1))).collect::<Vec<_>>()
    };
    let before = state().await;
    assert_eq!(before.len(), 207);
    stripe.moods.lock().unwrap().push((403, None));
    let (well, said) = backfill(&cluster, &url, API_KEY, &[]).await;
    assert!(!well && said.contains("may not read events"), "{said}");
    let (well, said) = backfill(&cluster, &url, API_KEY, &[]).await;
    assert!(well && said.contains("; 207 more were there already"), "{said}");
    quiet(&observer, SOON).await;
    assert_eq!(state().await, before);
    let (well, said) =
        backfill(&cluster, &url, API_KEY, &["--until", "2001-09-09T01:46:40Z", "--type", "invoice.paid"]).await;
    assert!(well && said.contains("published 0 events"), "{said}");
    assert!(
        stripe.asked.lock().unwrap().last().unwrap().ends_with("&created%5Blte%5D=1000000000&types%5B%5D=invoice.paid")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_broken_off_says_where_to_go_on() {
    let cluster = Cluster::start().await;
    let start = now() / 1_000 - 86_400;
    let invoice = |number: i64| json!({"id": format!("in_{number}"), "object": "invoice", "customer": "cus_1"});
    let events = (0..150)
        .rev()
        .map(|number| webhook(&format!("evt_{number}"), "invoice.paid", start + number, &invoice(number)));
    let moods = Mutex::new(vec![(400, None), (200, None)]);
    let (_stripe, url) = Stripe { events: events.collect(), moods, ..Stripe::default() }.start().await;
    let (well, said) = backfill(&cluster, &url, API_KEY, &[]).await;
    let observer = Observer::of(&cluster).await;
    assert!(!well, "{said}");
    let until = said.split("--until ").nth(1).unwrap().split_whitespace().next().unwrap().trim_end_matches(':');
    assert_eq!(observer.count("CHURN_WEBHOOKS").await, Ok(100));
    let (well, said) = backfill(&cluster, &url, API_KEY, &["--until", until]).await;
    assert!(well && said.contains("published 50 events"), "{said}");
    assert_eq!(observer.count("CHURN_WEBHOOKS").await, Ok(150));
}

//! Events over HTTP: what a 2xx promises, and whom a key lets in.

use std::{
    collections::HashSet,
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};

use crate::support::{
    Cluster, Observer,
    cluster::ACCOUNT,
    daemon::Daemon,
    eventually,
    http::{self, Response},
};

const SOON: Duration = Duration::from_secs(30);

/// Makes a key of the account `acme`.
async fn key(cluster: &Cluster, kind: &str, more: &[&str]) -> String {
    let arguments = [&["key", "add", "--account", ACCOUNT, "--kind", kind], more].concat();
    cluster.command(&arguments).await.trim().to_owned()
}

async fn post(address: SocketAddr, path: &str, key: &str, body: Value) -> Response {
    http::post_json(address, path, key, &body).await.unwrap()
}

async fn with(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    http::request(address, "POST", path, headers, body).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_links_sent_over_http_score_their_customer() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::start(&cluster, "one").await;
    let (secret, publishable) = (key(&cluster, "secret", &[]).await, key(&cluster, "publishable", &[]).await);
    let (observer, at) = (Observer::of(&cluster).await, daemon.address());

    let answer = post(at, "/api/track", &publishable, json!({"customerId": "c 1/ä", "event": "payment_failed"})).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert!(!answer.json()["id"].as_str().unwrap().is_empty());
    let text = [("content-type", "text/plain;charset=UTF-8")];
    let body = br#"{"customerId":"c 1/\u00e4","event":"billing_page_view","id":"b-1"}"#;
    let answer = with(at, &format!("/api/track?key={secret}"), &text, body).await;
    assert_eq!((answer.status, answer.json()), (202, json!({"id": "b-1"})));
    // A repeat is accepted and counts once.
    let again = with(at, &format!("/api/track?key={secret}"), &text, body).await;
    assert_eq!((again.status, again.json()), (202, json!({"id": "b-1"})));
    let link =
        json!({"customerId": "c 1/ä", "stripeCustomerId": "cus_7", "traits": {"plan": "team", "Email": "a@b.example"}});
    assert_eq!(post(at, "/api/identify", &secret, link).await.status, 202);

    observer.caught_up(SOON).await;
    let risk = observer.risk("c 1/ä", None).await.unwrap();
    assert_eq!((&risk["score"], &risk["customerId"]), (&json!(60), &json!("c 1/ä")));
    assert_eq!(observer.number("SELECT count(*) FROM stripe_links WHERE stripe_customer = 'cus_7'").await, Ok(1));
    let stored = observer.messages("CHURN_EVENTS").await.unwrap();
    let ours: Vec<Value> = stored.iter().filter(|message| message.subject.contains("c=20")).map(|m| m.json()).collect();
    let names: Vec<&str> = ours.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["payment_failed", "billing_page_view", "identify"]);
    assert_eq!(ours[2]["properties"], json!({"stripeCustomerId": "cus_7", "traits": {"plan": "team"}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_batch_is_judged_by_itself() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::builder(&cluster, "one").setting("CHURND__ROLES", "bridge").start().await;
    let (secret, observer, at) = (key(&cluster, "secret", &[]).await, Observer::of(&cluster).await, daemon.address());
    let long = "x".repeat(33 * 1024);
    let events = json!({"events": [
        {"customerId": "a", "event": "login", "id": "1"},
        {"event": "login"},
        {"customerId": "b", "event": "login"},
        {"customerId": "b", "event": "subscription_transferred"},
        {"customerId": "b", "event": "note", "facts": []},
        {"customerId": "b", "event": "note", "id": "a\nb"},
        {"customerId": "b", "event": "note", "properties": {"text": long}},
        7,
        {"customerId": "c", "event": "login", "timestamp": "yesterday"},
        {"customerId": "c", "event": "login", "id": "2"},
    ]});
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(events.to_string().as_bytes()).unwrap();
    let headers = [("x-api-key", secret.as_str()), ("content-encoding", "gzip"), ("content-type", "application/json")];
    let answer = with(at, "/api/track/batch", &headers, &packed.finish().unwrap()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let results = answer.json()["results"].clone();
    let told: Vec<&str> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["code"].as_str().unwrap_or_else(|| result["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            "accepted",
            "missing_customer",
            "accepted",
            "reserved_event",
            "reserved_field",
            "invalid_id",
            "oversize",
            "not_an_object",
            "invalid_timestamp",
            "accepted",
        ]
    );
    assert_eq!((&results[0]["id"], &results[3]["index"], &results[9]["id"]), (&json!("1"), &json!(3), &json!("2")));
    let subjects: Vec<String> = observer
        .messages("CHURN_EVENTS")
        .await
        .unwrap()
        .iter()
        .map(|m| m.subject.rsplit('.').next().unwrap().to_owned())
        .collect();
    assert_eq!(subjects, ["a", "b", "c"]);
    for (body, code) in [("{}", "not_a_batch"), ("[]", "not_a_batch"), (r#"{"events":{}}"#, "not_a_batch")] {
        let answer = with(at, "/api/track/batch", &[("x-api-key", &secret)], body.as_bytes()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(code)), "{body}");
    }
    let many = json!({"events": vec![json!({}); 2_501]});
    assert_eq!(post(at, "/api/track/batch", &secret, many).await.status, 413);
    assert_eq!(with(at, "/api/track/batch", &[("x-api-key", &secret)], &vec![b' '; 513_000]).await.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_carries_the_request_and_the_trace_of_a_trusted_caller() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::builder(&cluster, "one").setting("CHURND__ROLES", "bridge").start().await;
    let (observer, at) = (Observer::of(&cluster).await, daemon.address());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    for kind in ["secret", "publishable"] {
        let key = key(&cluster, kind, &[]).await;
        let headers = [("x-api-key", key.as_str()), ("traceparent", &parent)];
        let answer = with(at, "/api/track", &headers, br#"{"customerId":"a","event":"login"}"#).await;
        let request = answer.header("x-request-id").unwrap().to_owned();
        let stored = observer.messages("CHURN_EVENTS").await.unwrap().pop().unwrap();
        assert_eq!(stored.header("x-request-id"), request);
        let carried = stored.header("traceparent");
        if kind == "secret" {
            assert!(carried.starts_with(&format!("00-{trace}-")) && carried.ends_with("-01"), "{carried}");
        } else {
            assert!(carried.starts_with(&format!("00-{request}-")) && carried.ends_with("-00"), "{carried}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_opens_at_once_and_a_revoked_one_no_more_after_five_seconds_at_every_instance() {
    let cluster = Cluster::start().await;
    let mut one = Daemon::builder(&cluster, "one").setting("CHURND__ROLES", "bridge").start().await;
    let two = Daemon::builder(&cluster, "two").setting("CHURND__ROLES", "bridge").start().await;
    let event = json!({"customerId": "a", "event": "login"});
    let (old, new) = (key(&cluster, "secret", &[]).await, key(&cluster, "secret", &[]).await);
    for at in [one.address(), two.address()] {
        for key in [&old, &new] {
            assert_eq!(post(at, "/api/track", key, event.clone()).await.status, 202);
        }
    }
    cluster.command(&["key", "revoke", &old[..11]]).await;
    let revoked = Instant::now();
    for at in [one.address(), two.address()] {
        eventually(Duration::from_secs(5).saturating_sub(revoked.elapsed()), async || {
            match post(at, "/api/track", &old, event.clone()).await.status {
                401 => Ok(()),
                status => Err(format!("the revoked key is answered with {status}")),
            }
        })
        .await;
        assert_eq!(post(at, "/api/track", &new, event.clone()).await.status, 202);
    }
    // What a key opens is noted without a write for each request, at the latest when the instance stops.
    assert!(one.stop().await.success());
    let keys = cluster.command(&["key", "list", "--account", ACCOUNT, "--json"]).await;
    let used: Value = serde_json::from_str(keys.lines().next().unwrap()).unwrap();
    assert!(used["lastUsedAt"].is_string(), "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publishable_key_is_bound_to_its_rate_and_its_origins() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::builder(&cluster, "one").setting("CHURND__ROLES", "bridge").start().await;
    let at = daemon.address();
    let event = br#"{"customerId":"a","event":"login"}"#;
    let limited = key(&cluster, "publishable", &["--rate", "3"]).await;
    for _ in 0..3 {
        assert_eq!(with(at, "/api/track", &[("x-api-key", &limited)], event).await.status, 202);
    }
    let refused = with(at, "/api/track", &[("x-api-key", &limited), ("origin", "https://a.example")], event).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("rate_limited")));
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&seconds), "{seconds}");
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("https://a.example"),
        "pages must be able to read it"
    );

    let bound = key(&cluster, "publishable", &["--origin", "https://app.example"]).await;
    let from = async |origin: &str| with(at, "/api/track", &[("x-api-key", &bound), ("origin", origin)], event).await;
    assert_eq!(from("https://app.example").await.status, 202);
    let foreign = from("https://evil.example").await;
    assert_eq!((foreign.status, &foreign.json()["code"]), (403, &json!("origin_not_allowed")));
    assert_eq!(with(at, "/api/track", &[("x-api-key", &bound)], event).await.status, 403);
    let preflight = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let answer = http::request(at, "OPTIONS", "/api/track", &preflight, b"").await.unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some("https://app.example")));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snippet_is_served_with_headers_that_let_it_be_kept() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::builder(&cluster, "one").setting("CHURND__ROLES", "bridge").start().await;
    let get = async |path: &str, headers: &[(&str, &str)]| {
        http::request(daemon.address(), "GET", path, headers, b"").await.unwrap()
    };
    let script = get("/track.js", &[]).await;
    assert_eq!(script.status, 200);
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(script.header("access-control-allow-origin"), Some("*"));
    assert!(script.header("cache-control").unwrap().contains("max-age=3600"));
    assert!(script.text().contains("ChurnPredictor"));
    let versioned = get(&format!("/track.js?v={}", env!("CARGO_PKG_VERSION")), &[]).await;
    assert!(versioned.header("cache-control").unwrap().contains("immutable"));
    let again = get("/track.js", &[("if-none-match", script.header("etag").unwrap())]).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let packed = get("/track.js", &[("accept-encoding", "br, gzip")]).await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() <= 2_048, "{} bytes", packed.body.len());
    let mut unpacked = Vec::new();
    GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, script.body);
}

/// What was answered while the server was killed again and again.
#[derive(Default)]
struct Told {
    accepted: Mutex<HashSet<String>>,
    later: AtomicUsize,
    others: Mutex<Vec<String>>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_2xx_is_in_the_stream_however_often_nats_is_killed_under_500_requests_a_second() {
    const SECONDS: u64 = 12;
    const PER_TICK: u64 = 10;
    let cluster = Cluster::start_durable().await;
    // One connection for each request, from one address.
    let daemon = Daemon::builder(&cluster, "one")
        .setting("CHURND__ROLES", "bridge")
        .setting("CHURND__HTTP__MAX_CONNECTIONS_PER_CLIENT", "4096")
        .start()
        .await;
    let (secret, at) = (key(&cluster, "secret", &[]).await, daemon.address());
    let told = Arc::new(Told::default());
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut under_way = tokio::task::JoinSet::new();
    for round in 0..SECONDS * 50 {
        tick.tick().await;
        for lane in 0..PER_TICK {
            under_way.spawn(track_and_note(Arc::clone(&told), at, secret.clone(), format!("r{round}-{lane}")));
        }
        // Down for most of a second, every three seconds.
        match round % 150 {
            60 => cluster.nats.kill(),
            100 => tokio::task::block_in_place(|| cluster.nats.restart()).unwrap(),
            _ => {}
        }
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap();
    }
    let others = std::mem::take(&mut *told.others.lock().unwrap());
    assert!(others.is_empty(), "{others:?}");
    let accepted = std::mem::take(&mut *told.accepted.lock().unwrap());
    let later = told.later.load(Ordering::Relaxed);
    assert!(accepted.len() > 1_000 && later > 0, "accepted {}, later {later}: nothing was tested", accepted.len());
    let observer = Observer::of(&cluster).await;
    let stored: HashSet<String> = observer.messages("CHURN_EVENTS").await.unwrap().iter().map(id_of).collect();
    let lost: Vec<&String> = accepted.difference(&stored).collect();
    assert!(lost.is_empty(), "{} of {} accepted events are lost: {lost:?}", lost.len(), accepted.len());
    println!("{} accepted, {later} told to come later, {} stored", accepted.len(), stored.len());
}

fn id_of(message: &crate::support::observer::Stored) -> String {
    message.json()["id"].as_str().unwrap().to_owned()
}

async fn track_and_note(told: Arc<Told>, at: SocketAddr, key: String, id: String) {
    let event = json!({"customerId": "a", "event": "used", "id": id});
    match http::post_json(at, "/api/track", &key, &event).await {
        Ok(answer) if answer.status == 202 => drop(told.accepted.lock().unwrap().insert(id)),
        Ok(answer) if answer.status == 503 && answer.header("retry-after").is_some() => {
            told.later.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer) => told.others.lock().unwrap().push(format!("{} {}", answer.status, answer.text())),
        Err(error) => told.others.lock().unwrap().push(error.to_string()),
    }
}

//! Segment's HTTP tracking API: the bodies that each official SDK sends, and the answers that it understands.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use data_encoding::BASE64;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::support::{
    Cluster, Observer,
    cluster::ACCOUNT,
    daemon::Daemon,
    eventually,
    http::{self, Response},
};

const SOON: Duration = Duration::from_secs(30);
const TAKEN: &str = r#"{"success":true}"#;

async fn key(cluster: &Cluster, kind: &str, more: &[&str]) -> String {
    let arguments = [&["key", "add", "--account", ACCOUNT, "--kind", kind], more].concat();
    cluster.command(&arguments).await.trim().to_owned()
}

async fn bridge(cluster: &Cluster) -> Daemon {
    Daemon::builder(cluster, "one").setting("CHURND__ROLES", "bridge").start().await
}

async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    http::request(address, "POST", path, headers, body).await.unwrap()
}

fn basic(text: &str) -> String {
    format!("Basic {}", BASE64.encode(text.as_bytes()))
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[track_caller]
fn check_taken(answer: &Response) {
    assert_eq!((answer.status, answer.text().as_str()), (200, TAKEN));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[track_caller]
fn check_refused(answer: &Response, part: &str) {
    let body = answer.json();
    assert_eq!((answer.status, &body["success"], &body["code"]), (400, &json!(false), &json!("invalid_request")));
    assert!(body["message"].as_str().unwrap().contains(part), "{body}");
    assert_eq!(answer.header("retry-after"), None);
}

/// What an SDK sends.
struct Sent {
    sdk: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// A message as most SDKs write it, for the customer that is named like the SDK.
fn message(sdk: &str, event: &str) -> Value {
    json!({
        "type": "track", "messageId": format!("{sdk}-1"), "userId": sdk, "anonymousId": null, "event": event,
        "properties": {"plan": "team"}, "integrations": {}, "timestamp": "2026-03-01T12:00:00.000Z",
        "context": {"library": {"name": sdk, "version": "1"}, "ip": "192.0.2.1"},
    })
}

fn sent_by_each_sdk(key: &str) -> Vec<Sent> {
    let json_type = ("content-type", "application/json".to_owned());
    let text_type = ("content-type", "text/plain".to_owned());
    let origin = ("origin", "https://shop.example".to_owned());
    let auth = ("authorization", basic(&format!("{key}:")));
    let sent_at = "2026-03-01T12:00:00.000Z";
    let batch = |sdk: &str, more: Value| {
        let mut body = json!({"batch": [message(sdk, "payment_failed")], "sentAt": sent_at});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string().into_bytes()
    };
    let single = |sdk: &str| {
        let mut body = message(sdk, "payment_failed");
        body["writeKey"] = key.into();
        body["sentAt"] = sent_at.into();
        body["_metadata"] = json!({"bundled": ["Segment.io"], "unbundled": [], "bundledIds": []});
        body.to_string().into_bytes()
    };
    let with_key = json!({"writeKey": key});
    vec![
        Sent {
            sdk: "node3",
            path: "/v1/batch",
            headers: vec![json_type.clone(), auth.clone()],
            body: batch("node3", with_key.clone()),
        },
        Sent {
            sdk: "node2",
            path: "/v1/batch",
            headers: vec![json_type.clone()],
            body: batch("node2", with_key.clone()),
        },
        Sent {
            sdk: "ajs184",
            path: "/v1/t",
            headers: vec![text_type.clone(), origin.clone(), auth.clone()],
            body: single("ajs184"),
        },
        Sent { sdk: "ajs", path: "/v1/t", headers: vec![text_type.clone(), origin.clone()], body: single("ajs") },
        Sent {
            sdk: "ajs-batch",
            path: "/v1/b",
            headers: vec![text_type, origin],
            body: batch("ajs-batch", with_key.clone()),
        },
        Sent {
            sdk: "python",
            path: "/v1/batch",
            headers: vec![json_type.clone()],
            body: batch("python", with_key.clone()),
        },
        Sent {
            sdk: "python-gzip",
            path: "/v1/batch",
            headers: vec![json_type.clone(), ("content-encoding", "gzip".to_owned())],
            body: gzip(&batch("python-gzip", with_key.clone())),
        },
        Sent {
            sdk: "python-oauth",
            path: "/v1/batch",
            headers: vec![json_type.clone(), ("authorization", "Bearer eyJhbGciOi.J9.x".to_owned())],
            body: batch("python-oauth", with_key.clone()),
        },
        Sent {
            sdk: "go",
            path: "/v1/batch",
            headers: vec![json_type.clone(), auth.clone()],
            body: batch("go", json!({"messageId": "m", "context": {"library": {"name": "analytics-go"}}})),
        },
        Sent {
            sdk: "java",
            path: "/v1/import/",
            headers: vec![json_type.clone(), auth.clone()],
            body: batch("java", json!({"sequence": 1, "context": {}})),
        },
        Sent {
            sdk: "java35",
            path: "/v1/import/",
            headers: vec![json_type.clone()],
            body: batch("java35", with_key.clone()),
        },
        Sent {
            sdk: "ruby",
            path: "/v1/import",
            headers: vec![json_type.clone(), auth.clone()],
            body: batch("ruby", json!({})),
        },
        Sent {
            sdk: "php",
            path: "/v1/batch",
            headers: vec![json_type, ("authorization", basic(key)), ("content-encoding", "gzip".to_owned())],
            body: gzip(&batch("php", json!({}))),
        },
        Sent {
            sdk: "swift",
            path: "/v1/b",
            headers: vec![("content-type", "application/json; charset=utf-8".to_owned())],
            body: batch("swift", with_key),
        },
        Sent { sdk: "no-type", path: "/v1/track/", headers: vec![auth], body: single("no-type") },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_sdk_sends_scores_its_customer_and_repeats_count_once() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::start(&cluster, "one").await;
    let (observer, at) = (Observer::of(&cluster).await, daemon.address());
    let key = key(&cluster, "publishable", &["--rate", "10000"]).await;
    let all = sent_by_each_sdk(&key);
    for _ in 0..2 {
        for Sent { path, headers, body, .. } in &all {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            check_taken(&post(at, path, &headers, body).await);
        }
    }
    let stored = observer.messages("CHURN_EVENTS").await.unwrap();
    let events: Vec<Value> = stored.iter().map(|message| message.json()).collect();
    let expected: Vec<Value> = all
        .iter()
        .map(|Sent { sdk, .. }| {
            json!({"event": "payment_failed", "id": format!("{sdk}-1"), "customerId": sdk,
                "timestamp": "2026-03-01T12:00:00Z", "properties": {"plan": "team"}})
        })
        .collect();
    let without_time = |event: &Value| {
        let mut event = event.clone();
        event.as_object_mut().unwrap().remove("timestamp");
        event
    };
    // The clock of these senders is wrong: it is corrected to the time of receipt, which differs.
    assert_eq!(
        events.iter().map(without_time).collect::<Vec<_>>(),
        expected.iter().map(without_time).collect::<Vec<_>>()
    );
    observer.caught_up(SOON).await;
    for Sent { sdk, .. } in &all {
        let risk = observer.risk(sdk, None).await.unwrap();
        assert_eq!(risk["score"], 40, "{sdk}: {risk}");
    }
    let metrics = http::get(at, "/metrics").await.unwrap().text();
    let count = all.len();
    for result in ["accepted", "duplicate"] {
        let line = format!("churnd_ingest_events_total{{source=\"segment\",result=\"{result}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_become_events_and_stripe_links() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::start(&cluster, "one").await;
    let (observer, at) = (Observer::of(&cluster).await, daemon.address());
    let auth = basic(&key(&cluster, "secret", &[]).await);
    let page = json!({"name": "Invoices", "properties": {"path": "/billing/invoices", "search": "?a=b",
        "url": "https://app.example/billing/invoices?a=b"}});
    for (path, more) in [
        ("/v1/identify", json!({"traits": {"plan": "team", "email": "anna@example.com", "stripeCustomerId": "cus_9"}})),
        ("/v1/page", page),
        ("/v1/screen", json!({"name": "Inbox"})),
        ("/v1/group", json!({"groupId": "g-1", "traits": {"seats": 4}})),
        ("/v1/alias", json!({"previousId": "a"})),
        ("/v1/i/", json!({"traits": {}})),
        ("/v1/p", json!({})),
        ("/v1/s", json!({})),
        ("/v1/g", json!({"groupId": 7})),
        ("/v1/a", json!({"previousId": "a"})),
    ] {
        let mut body = json!({"userId": "u-1", "context": {"ip": "192.0.2.1"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        check_taken(&post(at, path, &[("authorization", &auth)], body.to_string().as_bytes()).await);
    }
    observer.caught_up(SOON).await;
    let stored = observer.messages("CHURN_EVENTS").await.unwrap();
    let events: Vec<Value> = stored
        .iter()
        .map(|message| message.json())
        .filter(|event| event["customerId"] == "u-1")
        .map(|event| json!([event["event"], event["properties"]]))
        .collect();
    assert_eq!(
        json!(events),
        json!([
            ["identify", {"stripeCustomerId": "cus_9", "traits": {"plan": "team"}}],
            ["billing_page_view", {"name": "Invoices", "path": "/billing/invoices", "url": "https://app.example/billing/invoices"}],
            ["page_view", {"name": "Inbox"}],
            ["identify", {"groupId": "g-1", "traits": {"seats": 4}}],
            ["identify", {"traits": {}}],
            ["page_view", {}],
            ["page_view", {}],
            ["identify", {"groupId": "7", "traits": {}}],
        ])
    );
    assert_eq!(observer.number("SELECT count(*) FROM stripe_links WHERE stripe_customer = 'cus_9'").await, Ok(1));
    let risk = observer.risk("u-1", None).await.unwrap();
    assert_eq!(risk["factors"], json!(["Viewed billing page recently"]), "{risk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_requests_fail_in_words_that_sdks_understand() {
    let cluster = Cluster::start().await;
    let daemon = bridge(&cluster).await;
    let at = daemon.address();
    let secret = key(&cluster, "secret", &[]).await;
    let auth = basic(&format!("{secret}:"));
    let keyed = [("authorization", auth.as_str())];
    let event = json!({"userId": "u", "event": "e"}).to_string();
    let sized = |bytes: usize| json!({"userId": "u", "event": "e", "properties": {"a": "x".repeat(bytes)}}).to_string();
    // Keys: none, one that is none, one that was never made, one for other pages.
    let unknown = format!("{}x", &secret[..secret.len() - 1]);
    let other = basic(&format!("{unknown}:"));
    check_refused(&post(at, "/v1/track", &[], event.as_bytes()).await, "no key");
    check_refused(&post(at, "/v1/track", &[("authorization", "Basic ???")], event.as_bytes()).await, "no key");
    check_refused(&post(at, "/v1/track", &[("authorization", &other)], event.as_bytes()).await, "not valid");
    let in_body = json!({"batch": [], "writeKey": unknown}).to_string();
    check_refused(&post(at, "/v1/batch", &[], in_body.as_bytes()).await, "not valid");
    let bound = key(&cluster, "publishable", &["--origin", "https://app.example"]).await;
    let foreign = [("authorization", basic(&bound)), ("origin", "https://evil.example".to_owned())];
    let foreign: Vec<(&str, &str)> = foreign.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = post(at, "/v1/track", &foreign, event.as_bytes()).await;
    check_refused(&answer, "origin");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://evil.example"),
        "pages must be able to read it"
    );
    // Bodies.
    for (path, body, part) in [
        ("/v1/batch", "", "not JSON"),
        ("/v1/batch", "{", "not JSON"),
        ("/v1/batch", "[]", "not an object"),
        ("/v1/batch", "{}", "`batch`"),
        ("/v1/batch", r#"{"batch":{}}"#, "`batch`"),
        ("/v1/track", "7", "not an object"),
        ("/v1/track", sized(33_000).as_str(), "bytes"),
        ("/v1/track", sized(520_000).as_str(), "bytes"),
        ("/v1/import/", json!({"batch": vec![json!({}); 2_501]}).to_string().as_str(), "2501"),
    ] {
        check_refused(&post(at, path, &keyed, body.as_bytes()).await, part);
    }
    let not_gzip = [("authorization", auth.as_str()), ("content-encoding", "gzip")];
    check_refused(&post(at, "/v1/batch", &not_gzip, b"{}").await, "gzip");
    check_refused(&post(at, "/v1/batch", &not_gzip, &gzip(&vec![b' '; 5_000_000])).await, "bytes");
    // Too often.
    let limited = basic(&key(&cluster, "publishable", &["--rate", "1"]).await);
    check_taken(&post(at, "/v1/track", &[("authorization", &limited)], event.as_bytes()).await);
    let often = post(at, "/v1/track", &[("authorization", &limited)], event.as_bytes()).await;
    assert_eq!(
        (often.status, &often.json()["success"], &often.json()["code"]),
        (429, &json!(false), &json!("rate_limited"))
    );
    let seconds: u64 = often.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_used_leaves_the_others_and_can_be_looked_up() {
    let cluster = Cluster::start().await;
    let daemon = bridge(&cluster).await;
    let (observer, at) = (Observer::of(&cluster).await, daemon.address());
    let secret = key(&cluster, "secret", &[]).await;
    let keyed = [("x-api-key", secret.as_str())];
    let message = |more: Value| {
        let mut message = json!({"type": "track", "userId": "u", "event": "e"});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    let batch = json!({"batch": [
        message(json!({"messageId": "first", "writeKey": "another"})),
        message(json!({"userId": null, "anonymousId": "a"})),
        message(json!({"event": "x".repeat(101)})),
        message(json!({"messageId": "x".repeat(101)})),
        message(json!({"messageId": "a\nb"})),
        message(json!({"event": "subscription_linked"})),
        message(json!({"properties": {"a": "x".repeat(33_000)}})),
        message(json!({"timestamp": "yesterday"})),
        message(json!({"properties": {"nul": "a\u{0}b"}})),
        message(json!({"type": "unheard"})),
        message(json!({"type": "alias"})),
        null_message(),
        message(json!({"messageId": "last"})),
    ]})
    .to_string();
    let strict = [keyed[0], ("x-strict-mode", "1")];
    check_refused(&post(at, "/v1/batch", &strict, batch.as_bytes()).await, "message 1: no_user");
    assert_eq!(observer.count("CHURN_EVENTS").await, Ok(0));
    check_taken(&post(at, "/v1/batch", &keyed, batch.as_bytes()).await);
    let stored = observer.messages("CHURN_EVENTS").await.unwrap();
    let ids: Vec<Value> = stored.iter().map(|message| message.json()["id"].clone()).collect();
    assert_eq!(ids, [json!("first"), json!("last")]);
    check_taken(&post(at, "/v1/alias", &strict, br#"{"userId":"u","previousId":"a"}"#).await);

    let tail = http::request(at, "GET", "/api/segment/dropped", &keyed, b"").await.unwrap().json();
    let told: Vec<(u64, &str)> = tail["dropped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dropped| (dropped["index"].as_u64().unwrap(), dropped["code"].as_str().unwrap()))
        .collect();
    let of_batch = [
        (11, "not_an_object"),
        (10, "alias"),
        (9, "unknown_call"),
        (8, "nul_character"),
        (7, "invalid_timestamp"),
        (6, "oversize"),
        (5, "reserved_event"),
        (4, "invalid_id"),
        (3, "id_length"),
        (2, "event_name_length"),
        (1, "no_user"),
    ];
    assert_eq!(told[0], (0, "alias"));
    assert_eq!(told[1..=of_batch.len()], of_batch);
    let open = http::get(at, "/api/segment/dropped").await.unwrap();
    assert_eq!(open.status, 401);
    let publishable = key(&cluster, "publishable", &[]).await;
    let answer = http::request(at, "GET", "/api/segment/dropped", &[("x-api-key", &publishable)], b"").await.unwrap();
    assert_eq!(answer.status, 403);
    let metrics = http::get(at, "/metrics").await.unwrap().text();
    assert!(metrics.contains("churnd_segment_dropped_total{reason=\"no_user\"} 2\n"), "{metrics}");
    assert!(metrics.contains("churnd_ingest_events_total{source=\"segment\",result=\"rejected\"} 20\n"), "{metrics}");
}

fn null_message() -> Value {
    Value::Null
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_the_customers_of_accounts_that_say_so() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::builder(&cluster, "one")
        .setting("CHURND__ROLES", "bridge")
        .setting("CHURND__SEGMENT__ACCOUNTS", "other=user,acme=group")
        .start()
        .await;
    let (observer, at) = (Observer::of(&cluster).await, daemon.address());
    let secret = key(&cluster, "secret", &[]).await;
    let batch = json!({"writeKey": secret, "batch": [
        {"type": "group", "userId": "u", "groupId": "g", "traits": {"name": "Acme", "stripeCustomerId": "cus_1"}},
        {"type": "track", "userId": "u", "event": "login", "context": {"groupId": "g"}},
        {"type": "track", "userId": "u", "event": "login"},
    ]});
    check_taken(&post(at, "/v1/batch", &[], batch.to_string().as_bytes()).await);
    let stored = observer.messages("CHURN_EVENTS").await.unwrap();
    let events: Vec<Value> = stored.iter().map(|message| message.json()).collect();
    assert_eq!(
        events,
        [
            json!({"event": "identify", "customerId": "g", "userId": "u",
                "properties": {"stripeCustomerId": "cus_1", "traits": {}}}),
            json!({"event": "login", "customerId": "g", "userId": "u"}),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_told_where_to_send_and_may() {
    let cluster = Cluster::start().await;
    let daemon = bridge(&cluster).await;
    let at = daemon.address();
    let publishable = key(&cluster, "publishable", &[]).await;
    let page = [("origin", "https://shop.example")];
    for slash in ["", "/"] {
        let path = format!("/v1/projects/{publishable}/settings{slash}");
        let answer = http::request(at, "GET", &path, &page, b"").await.unwrap();
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("https://shop.example")));
        let destination = json!({"apiKey": publishable, "apiHost": format!("{at}/v1"), "protocol": "http"});
        assert_eq!(answer.json()["integrations"], json!({"Segment.io": destination}));
    }
    for key in ["pk_none", "%ff", "a%2Fb"] {
        let answer = http::get(at, &format!("/v1/projects/{key}/settings")).await.unwrap();
        assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("not_found")), "{key}");
    }
    let asked = [
        ("origin", "https://shop.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,x-retry-count"),
    ];
    for path in ["/v1/t", "/v1/b", "/v1/m"] {
        let answer = http::request(at, "OPTIONS", path, &asked, b"").await.unwrap();
        assert_eq!((answer.status, answer.header("access-control-max-age")), (204, Some("86400")), "{path}");
        let allowed = answer.header("access-control-allow-headers").unwrap();
        assert!(
            ["authorization", "content-type", "x-retry-count"].iter().all(|name| allowed.contains(name)),
            "{allowed}"
        );
    }
    check_taken(&post(at, "/v1/m", &page, br#"{"series":[{"type":"Counter"}]}"#).await);
    check_taken(&post(at, "/v1/m/", &[], b"anything").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_a_batch_is_to_be_sent_again_and_then_counts_once() {
    let cluster = Cluster::start_durable().await;
    let daemon = Daemon::builder(&cluster, "one")
        .setting("CHURND__ROLES", "bridge")
        .setting("CHURND__TRACKING__PUBLISH_PATIENCE_MS", "500")
        .start()
        .await;
    let at = daemon.address();
    let auth = basic(&key(&cluster, "secret", &[]).await);
    let messages: Vec<Value> = (0..20)
        .map(|number| json!({"type": "track", "userId": "u", "event": "e", "messageId": format!("m-{number}")}))
        .collect();
    let batch = json!({"batch": messages}).to_string();
    cluster.nats.kill();
    let refused = post(at, "/v1/batch", &[("authorization", &auth)], batch.as_bytes()).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("unavailable")), "{}", refused.text());
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    tokio::task::block_in_place(|| cluster.nats.restart()).unwrap();
    eventually(SOON, async || {
        let answer = post(at, "/v1/batch", &[("authorization", &auth)], batch.as_bytes()).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(Observer::of(&cluster).await.count("CHURN_EVENTS").await, Ok(20));
}

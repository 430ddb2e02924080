//! Reading over HTTP: what goes in as events comes out of every route, page by page, and of no other account's.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    net::SocketAddr,
    time::Duration,
};

use churnd::event::time::Timestamp;
use serde_json::{Value, json};

use crate::support::{
    Cluster, Feed, Observer,
    cluster::ACCOUNT,
    daemon::Daemon,
    eventually,
    feed::{event, token_of},
    http::{self, Response},
    now,
    webhooks::{item, quiet, subscription, webhook, with},
};

const SOON: Duration = Duration::from_secs(60);
const DAY: i64 = 86_400_000;

/// Asks a daemon with a key.
struct Asker {
    at: SocketAddr,
    key: String,
}

impl Asker {
    /// With a fresh secret key of an account.
    async fn new(cluster: &Cluster, daemon: &Daemon, account: &str) -> Self {
        let key = cluster.command(&["key", "add", "--account", account, "--kind", "secret"]).await.trim().to_owned();
        Self { at: daemon.address(), key }
    }

    async fn ask(&self, path: &str) -> Response {
        http::request(self.at, "GET", path, &[("x-api-key", &self.key)], b"").await.unwrap()
    }

    /// An answer that must be a 200.
    async fn get(&self, path: &str) -> Value {
        let answer = self.ask(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        answer.json()
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Response {
        let headers = [("x-api-key", self.key.as_str()), ("content-type", "application/json")];
        http::request(self.at, method, path, &headers, body.to_string().as_bytes()).await.unwrap()
    }

    /// All entries of a list, by following its cursors.
    async fn all(&self, path: &str, list: &str) -> Vec<Value> {
        let (mut entries, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{path}{cursor}")).await;
            entries.extend(page[list].as_array().unwrap().iter().cloned());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return entries,
            }
        }
    }
}

/// An id as it stands in a path.
fn encoded(id: &str) -> String {
    id.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").unwrap();
        text
    })
}

fn of(customer: &str, rest: &str) -> String {
    format!("/api/customers/{}/{rest}", encoded(customer))
}

/// The customer's id by its number; those that pay have the id that Stripe knows them by.
fn name(number: i64) -> String {
    if number % 3 == 0 { format!("cus_{number:03}") } else { format!("shop/ü {number:03}") }
}

/// What brings a customer to a score of 0, 40, 60, 70 or 90.
fn deeds(number: i64, now: i64) -> Vec<Value> {
    let all = [("login", 20), ("billing_page_view", 1), ("payment_failed", 1), ("login", 1)];
    let chosen: &[usize] = match number % 5 {
        0 => &[3],
        1 => &[2, 3],
        2 => &[1, 2],
        3 => &[0, 2],
        _ => &[0, 1, 2],
    };
    let deed = |index: &usize| {
        let (name, days) = all[*index];
        let at = Timestamp::from_millis(now - days * DAY - number * 1_000);
        json!({"event": name, "id": format!("{number}-{index}"), "timestamp": at, "properties": {"number": number}})
    };
    chosen.iter().map(deed).collect()
}

fn rank(entry: &Value, sort: &str) -> i64 {
    let (score, mrr) = (entry["score"].as_i64().unwrap(), entry["mrr"]["amount"].as_i64());
    match sort {
        "score" => score,
        "mrr" => mrr.unwrap_or(-1),
        _ => mrr.map_or(-1, |mrr| mrr * score),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_come_in_every_order_page_by_page_without_doubles_or_gaps() {
    const CUSTOMERS: i64 = 250;
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::builder(&cluster, "one").setting("CHURND__PIPELINE__SETTLE_SECONDS", "1").start().await;
    let asker = Asker::new(&cluster, &daemon, ACCOUNT).await;
    let now = now();
    let start = now / 1_000 - 86_400;
    let events = |number| deeds(number, now).into_iter().map(move |deed| event(&name(number), &deed));
    feed.send_all((0..CUSTOMERS).flat_map(events).collect()).await;
    for number in (0..CUSTOMERS).step_by(3) {
        let price = json!({"items": {"object": "list", "has_more": false, "data": [item(number % 4 * 1_000, start + 900_000)]}});
        let object = with(&subscription(&name(number), "active", start + 900_000), price);
        feed.webhook(&webhook(&format!("evt_{number}"), "customer.subscription.created", start, &object)).await;
    }
    quiet(&observer, SOON).await;
    // The events are of the past: they count when no more of them come.
    eventually(SOON, async || {
        let totals = asker.get("/api/customers?limit=1").await["totals"].clone();
        if totals[0]["customers"] == 100 && totals[1]["customers"] == 100 { Ok(()) } else { Err(totals.to_string()) }
    })
    .await;

    for sort in ["score", "mrr", "mrr_at_risk"] {
        for (level, expected) in [("any", 250), ("at_risk", 200), ("high", 100), ("medium", 100), ("low", 50)] {
            let path = format!("/api/customers?sort={sort}&level={level}");
            let entries = asker.all(&format!("{path}&limit=9"), "customers").await;
            let ids: HashSet<&str> = entries.iter().map(|entry| entry["customerId"].as_str().unwrap()).collect();
            assert_eq!((entries.len(), ids.len()), (expected, expected), "{path}");
            let place =
                |entry: &Value| (std::cmp::Reverse(rank(entry, sort)), token_of(entry["customerId"].as_str().unwrap()));
            assert!(entries.is_sorted_by_key(place), "{path}");
            assert_eq!(asker.all(&format!("{path}&limit=200"), "customers").await, entries, "{path}");
        }
    }
    let page = asker.get("/api/customers?limit=1").await;
    assert_eq!(page["customers"][0]["score"], 90);
    let totals: BTreeMap<&str, u64> = page["totals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|total| (total["level"].as_str().unwrap(), total["customers"].as_u64().unwrap()))
        .collect();
    assert_eq!(totals, BTreeMap::from([("high", 100), ("medium", 100), ("low", 50)]));
    let next = page["nextCursor"].as_str().unwrap();
    assert_eq!(asker.get(&format!("/api/customers?limit=1&cursor={next}")).await["totals"], Value::Null);

    let found = asker.all("/api/customers?search=shop%2F%C3%BC%2000&limit=2", "customers").await;
    assert_eq!(found.len(), 6, "{found:?}");
    assert_eq!(
        asker.get("/api/customers?search=shop%2F%C3%BC%2000&level=low").await["customers"].as_array().unwrap().len(),
        1
    );

    // A cursor opens the list it came from and no other.
    let other = Asker { at: asker.at, key: other_account(&cluster).await };
    for (asker, path) in [
        (&asker, format!("/api/customers?sort=mrr&cursor={next}")),
        (&asker, format!("/api/customers?level=high&cursor={next}")),
        (&asker, format!("/api/alerts?cursor={next}")),
        (&other, format!("/api/customers?cursor={next}")),
        (&asker, format!("/api/customers?cursor={}", &next[1..])),
        (&asker, "/api/customers?cursor=%00".to_owned()),
    ] {
        let answer = asker.ask(&path).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("invalid_cursor")), "{path}");
    }
    assert_eq!(other.get("/api/customers?level=any").await["customers"], json!([]));
}

async fn other_account(cluster: &Cluster) -> String {
    cluster.command(&["account", "add", "other"]).await;
    cluster.command(&["key", "add", "--account", "other", "--kind", "secret"]).await.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_s_risk_past_and_deeds_can_be_read() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::builder(&cluster, "one").setting("CHURND__PIPELINE__SETTLE_SECONDS", "1").start().await;
    let asker = Asker::new(&cluster, &daemon, ACCOUNT).await;
    let now = now();
    let long = "long ".repeat(50);
    let ids = ["plain", "with/slash ü%2F", "a?b&c=d#e", long.as_str(), ".", "..", "a\u{FFFF}b", "=h"];
    for id in ids {
        let at = Timestamp::from_millis(now - 13 * DAY);
        feed.event(id, &json!({"event": "login", "customerId": id, "timestamp": at})).await;
        feed.event(id, &json!({"event": "note", "customerId": id})).await;
    }
    quiet(&observer, SOON).await;
    for id in ids {
        feed.event(id, &json!({"event": "payment_failed", "id": format!("p {id:.20}"), "customerId": id})).await;
    }
    quiet(&observer, SOON).await;
    // The logins are of the past: they count when no more of them come.
    eventually(SOON, async || match asker.all("/api/alerts?kind=risk.raised&level=medium&limit=3", "alerts").await {
        alerts if alerts.len() == ids.len() => Ok(()),
        alerts => Err(format!("{} alerts", alerts.len())),
    })
    .await;

    for id in ids {
        for as_of in [None, Some(now + DAY), Some(now + 5 * DAY), Some(now + 100 * DAY)] {
            let query = as_of.map(|at| format!("?as_of={}", Timestamp::from_millis(at))).unwrap_or_default();
            let mut answer = asker.get(&of(id, &format!("risk{query}"))).await;
            let mut expected = observer.risk(id, as_of).await.unwrap();
            if as_of.is_none() {
                (answer["asOf"], expected["asOf"]) = (Value::Null, Value::Null);
            }
            assert_eq!(answer, expected, "{id}");
            assert_eq!(answer["customerId"], id);
        }
        let score = |query: &str| {
            let path = of(id, query);
            let asker = &asker;
            async move { asker.get(&path).await["score"].clone() }
        };
        assert_eq!(score("risk").await, 40);
        let later = Timestamp::from_millis(now + 5 * DAY).to_string().replace('Z', "%2B00:00");
        assert_eq!(score(&format!("risk?as_of={later}")).await, 70, "silence raises the risk");
        let forecast = asker.get(&of(id, "risk")).await["forecast"].clone();
        assert_eq!(forecast[0]["score"], 70, "{forecast}");

        let history = asker.all(&of(id, "history?limit=1"), "scores").await;
        assert_eq!(history[0]["score"], 40, "{history:?}");
        assert_eq!(history[0]["factors"], json!(["Recent payment failure"]));
        assert_eq!(history[0]["details"][0]["points"], 40);
        let events = eventually(SOON, async || match asker.all(&of(id, "events?limit=1"), "events").await {
            events if events.len() == 3 => Ok(events),
            events => Err(format!("{events:?}")),
        })
        .await;
        assert_eq!((&events[0]["event"], &events[2]["event"]), (&json!("payment_failed"), &json!("login")));
        assert_eq!(events[0]["id"], format!("p {id:.20}"));
        let alerts = asker.all(&format!("/api/alerts?limit=1&customer={}", encoded(id)), "alerts").await;
        assert!(alerts.iter().all(|alert| alert["customerId"] == *id && alert["held"] == false), "{alerts:?}");
        assert_eq!(alerts[0]["level"], "medium");
    }
    assert_eq!(asker.all("/api/alerts?level=high", "alerts").await, Vec::<Value>::new());
    assert_eq!(asker.all("/api/alerts?held=true", "alerts").await, Vec::<Value>::new());

    let early = asker.ask(&of("plain", "risk?as_of=2020-01-01T00:00:00Z")).await;
    assert_eq!((early.status, &early.json()["code"]), (409, &json!("as_of_too_early")));
    let newest = Timestamp::from_millis(now).to_string();
    assert!(early.json()["detail"].as_str().unwrap().contains(&newest[..13]), "{}", early.text());
    refusals(&asker).await;

    // Who is erased is unknown from the answer on, although it takes a while until nothing is left.
    assert_eq!(asker.send("DELETE", "/api/customers/plain", &json!({})).await.status, 202);
    for rest in ["risk", "history", "events", "interventions", "export"] {
        let answer = asker.ask(&of("plain", rest)).await;
        assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("unknown_customer")), "{rest}");
    }
}

/// What is asked wrongly, and for whom nobody has heard of.
async fn refusals(asker: &Asker) {
    for (path, status, code, named) in [
        ("/api/customers?level=hihg", 400, "invalid_parameter", "level"),
        ("/api/customers?limit=0", 400, "invalid_parameter", "limit"),
        ("/api/customers?limit=201", 400, "invalid_parameter", "1 to 200"),
        ("/api/customers?sort=mrr_at_rsk", 400, "invalid_parameter", "mrr_at_risk"),
        ("/api/customers?status=%00", 400, "invalid_parameter", "status"),
        ("/api/customers?search=", 400, "invalid_parameter", "search"),
        ("/api/customers?levle=high", 400, "invalid_parameter", "levle"),
        ("/api/customers/plain/risk?as_of=now", 400, "invalid_parameter", "as_of"),
        ("/api/alerts?kind=risk", 400, "invalid_parameter", "risk.raised"),
        ("/api/interventions?status=saved", 400, "invalid_parameter", "closed"),
        ("/api/customers/%FF/risk", 400, "invalid_customer_id", "UTF-8"),
        ("/api/customers/nobody/risk", 404, "unknown_customer", ""),
        ("/api/customers/a%00b/risk", 404, "unknown_customer", ""),
        ("/api/customers/a%00b/events", 404, "unknown_customer", ""),
        ("/api/customers/nobody/history", 404, "unknown_customer", ""),
        ("/api/customers/nobody/interventions", 404, "unknown_customer", ""),
        ("/api/customers/nobody/export", 404, "unknown_customer", ""),
    ] {
        let answer = asker.ask(path).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{path}: {}", answer.text());
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    let too_long = asker.ask(&of(&"x".repeat(256), "risk")).await;
    assert_eq!((too_long.status, &too_long.json()["code"]), (404, &json!("unknown_customer")));
    for path in ["/api/customers?search=%00", "/api/alerts?customer=a%00b", "/api/customers?search=%EF%BF%BF0"] {
        asker.get(path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interventions_begin_and_end_with_the_score_of_their_time() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::start(&cluster, "one").await;
    let asker = Asker::new(&cluster, &daemon, ACCOUNT).await;
    let failed = now() - 60_000;
    feed.event("c/1", &json!({"event": "payment_failed", "timestamp": Timestamp::from_millis(failed)})).await;
    feed.event("c2", &json!({"event": "login"})).await;
    quiet(&observer, SOON).await;

    let id = uuid::Uuid::new_v4();
    let path = of("c/1", "interventions");
    let begun = json!({"id": id, "action": "Call", "note": "twice", "createdBy": "anna"});
    let first = asker.send("POST", &path, &begun).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let again = asker.send("POST", &path, &begun).await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    let expected =
        json!({"status": "open", "scoreAtStart": 40, "levelAtStart": "medium", "scoreAtEnd": null, "outcome": null});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&first.json()[field], value, "{field}");
    }
    for (path, body, status, code) in [
        (of("c2", "interventions"), begun.clone(), 409, "intervention_exists"),
        (path.clone(), json!({"id": id, "action": "Write"}), 409, "intervention_exists"),
        (path.clone(), json!({"action": ""}), 400, "invalid_body"),
        (path.clone(), json!({"action": "x".repeat(201)}), 400, "invalid_body"),
        (path.clone(), json!({"action": "x", "note": "x".repeat(2_001)}), 400, "invalid_body"),
        (path.clone(), json!({"action": "x", "id": "7"}), 400, "invalid_body"),
        (path.clone(), json!({"action": "x", "aktion": "y"}), 400, "invalid_body"),
        (path.clone(), json!(["x"]), 400, "invalid_body"),
        (of("nobody", "interventions"), json!({"action": "x"}), 404, "unknown_customer"),
    ] {
        let answer = asker.send("POST", &path, &body).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{body}: {}", answer.text());
    }
    for number in 0..4 {
        let body = json!({"action": format!("mail {number}\u{0}"), "note": "\u{0}"});
        assert_eq!(asker.send("POST", &of("c2", "interventions"), &body).await.status, 201);
    }
    let open = asker.all("/api/interventions?limit=2", "interventions").await;
    assert_eq!(open.len(), 5);
    assert_eq!(open[0]["action"], "mail 3\u{0}");
    assert_eq!(asker.all(&of("c/1", "interventions?limit=1"), "interventions").await, [first.json()]);

    feed.event("c/1", &json!({"event": "payment_succeeded"})).await;
    quiet(&observer, SOON).await;
    let end = format!("/api/interventions/{id}");
    for (path, body, status) in [
        (end.as_str(), json!({"outcome": "no_response"}), 400),
        (end.as_str(), json!({}), 400),
        ("/api/interventions/7", json!({"outcome": "saved"}), 404),
        ("/api/interventions/00000000-0000-0000-0000-000000000000", json!({"outcome": "saved"}), 404),
    ] {
        assert_eq!(asker.send("PATCH", path, &body).await.status, status, "{path} {body}");
    }
    let ended = asker.send("PATCH", &end, &json!({"outcome": "no_reply", "note": "thrice"})).await;
    assert_eq!(ended.status, 200, "{}", ended.text());
    let expected = json!({"status": "closed", "scoreAtStart": 40, "scoreAtEnd": 0, "levelAtEnd": "low", "outcome": "no_reply", "note": "thrice"});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&ended.json()[field], value, "{field}");
    }
    let again = asker.send("PATCH", &end, &json!({"outcome": "no_reply"})).await;
    assert_eq!((again.status, again.json()), (200, ended.json()));
    let other = asker.send("PATCH", &end, &json!({"outcome": "saved"})).await;
    assert_eq!((other.status, &other.json()["code"]), (409, &json!("intervention_closed")));
    assert_eq!(asker.all("/api/interventions?status=closed", "interventions").await, [ended.json()]);
    assert_eq!(asker.all("/api/interventions?status=any", "interventions").await.len(), 5);

    let foreign = Asker { at: asker.at, key: other_account(&cluster).await };
    assert_eq!(foreign.all("/api/interventions?status=any", "interventions").await, Vec::<Value>::new());
    assert_eq!(foreign.send("PATCH", &end, &json!({"outcome": "saved"})).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_all_that_is_known_and_contacts_only_where_they_are_wanted() {
    for wanted in [false, true] {
        let cluster = Cluster::start().await;
        let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
        let daemon = Daemon::builder(&cluster, "one")
            .setting("CHURND__PRIVACY__STORE_CONTACT", wanted.to_string())
            .start()
            .await;
        let asker = Asker::new(&cluster, &daemon, ACCOUNT).await;
        let start = now() / 1_000 - 600;
        for number in 0..230 {
            feed.event("c", &json!({"event": "report_opened", "id": number.to_string()})).await;
        }
        feed.webhook(&webhook(
            "evt_1",
            "customer.subscription.created",
            start,
            &subscription("cus_7", "active", start + 900_000),
        ))
        .await;
        let invoice = json!({"id": "in_1", "object": "invoice", "customer": "cus_7", "amount_due": 2_500});
        feed.webhook(&webhook("evt_2", "invoice.payment_failed", start + 60, &invoice)).await;
        quiet(&observer, SOON).await;
        let traits = json!({"email": "anna@acme.example", "company": {"name": "Acme Ltd"}, "plan": "team"});
        feed.event("c", &json!({"event": "identify", "properties": {"stripeCustomerId": "cus_7", "traits": traits}}))
            .await;
        quiet(&observer, SOON).await;
        assert_eq!(asker.send("POST", &of("c", "interventions"), &json!({"action": "Call"})).await.status, 201);
        eventually(SOON, async || {
            let document = asker.get(&of("c", "export")).await;
            let identified = document["events"].as_array().unwrap().iter().any(|event| event["event"] == "identify");
            if identified { Ok(()) } else { Err("not all is archived yet") }
        })
        .await;
        // The profile is read before the events: the archive may have come between the two.
        let document = asker.get(&of("c", "export")).await;
        assert_eq!(document["complete"], true);
        assert_eq!(
            (&document["customerId"], &document["risk"]["score"]),
            (&json!("c"), &json!(40)),
            "{}",
            document["risk"]
        );
        assert_eq!(document["links"][0]["stripeCustomerId"], "cus_7");
        assert_eq!(document["state"]["stripe"]["subscriptions"][0]["mrr"]["amount"], 2_500, "{}", document["state"]);
        assert!(document["state"]["newestEventByName"].as_array().unwrap().len() >= 2);
        let count = |member: &str| document[member].as_array().unwrap().len();
        let events: Vec<&Value> = document["events"].as_array().unwrap().iter().collect();
        let named = |name: &str| events.iter().filter(|event| event["event"] == name).count();
        assert_eq!((named("report_opened"), named("identify")), (230, 1));
        assert!(events.iter().any(|event| event["customerId"] == "cus_7"), "events under Stripe's id belong to it");
        assert!(count("scores") >= 2 && count("alerts") >= 1, "{} {}", document["scores"], document["alerts"]);
        assert_eq!((count("interventions"), count("deliveries")), (1, 0));

        let text = document.to_string();
        assert_eq!(text.contains("anna@acme.example") && text.contains("Acme Ltd"), wanted, "{text}");
        assert!(text.contains(r#""plan":"team""#));
        let found = asker.get("/api/customers?search=acme").await["customers"].clone();
        if wanted {
            assert_eq!(document["profile"]["email"], "anna@acme.example");
            assert_eq!((&found[0]["customerId"], &found[0]["companyName"]), (&json!("c"), &json!("Acme Ltd")));
        } else {
            assert_eq!((&document["profile"]["email"], found), (&Value::Null, json!([])));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_reading_is_unavailable_and_comes_back() {
    let cluster = Cluster::start_durable().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::start(&cluster, "one").await;
    let asker = Asker::new(&cluster, &daemon, ACCOUNT).await;
    feed.event("c", &json!({"event": "payment_failed"})).await;
    quiet(&observer, SOON).await;
    asker.get("/api/customers").await;
    cluster.postgres().stop();
    for path in [
        "/api/customers",
        "/api/customers?search=c",
        "/api/customers/c/risk",
        "/api/customers/c/history",
        "/api/customers/c/events",
        "/api/customers/c/export",
        "/api/customers/c/interventions",
        "/api/alerts",
        "/api/interventions",
    ] {
        let answer = asker.ask(path).await;
        assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("unavailable")), "{path}: {}", answer.text());
        assert!(answer.header("retry-after").is_some(), "{path}");
    }
    let begun = asker.send("POST", "/api/customers/c/interventions", &json!({"action": "x"})).await;
    assert_eq!(begun.status, 503, "{}", begun.text());
    cluster.postgres().restart().unwrap();
    eventually(SOON, async || {
        let answer = asker.ask("/api/customers").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}

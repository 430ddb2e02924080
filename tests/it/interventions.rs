//! Interventions: of what type they are, noted over HTTP and over NATS alike, and what came of them.

use std::{net::SocketAddr, time::Duration};

use async_nats::client::RequestErrorKind;
use serde_json::{Value, json};

use crate::support::{
    Cluster, Feed, Observer,
    cluster::ACCOUNT,
    daemon::Daemon,
    eventually,
    http::{self, Response},
    webhooks::quiet,
};

const SOON: Duration = Duration::from_secs(60);

/// Asks a daemon over HTTP with a key, and over NATS.
struct Desk {
    at: SocketAddr,
    key: String,
    nats: async_nats::Client,
}

impl Desk {
    async fn of(cluster: &Cluster, daemon: &Daemon, account: &str) -> Self {
        let key = cluster.command(&["key", "add", "--account", account, "--kind", "secret"]).await.trim().to_owned();
        let nats = async_nats::connect(cluster.nats.url()).await.unwrap();
        Self { at: daemon.address(), key, nats }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Response {
        let headers = [("x-api-key", self.key.as_str()), ("content-type", "application/json")];
        http::request(self.at, method, path, &headers, body.to_string().as_bytes()).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = http::request(self.at, "GET", path, &[("x-api-key", &self.key)], b"").await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Asks the service, which must be there or come; a refusal is its code.
    async fn ask(&self, wish: &str, body: &Value) -> Result<Value, String> {
        let subject = format!("churn.interventions.{ACCOUNT}.{wish}");
        let answer = eventually(SOON, async || {
            let asked = self.nats.request(subject.clone(), body.to_string().into()).await;
            asked.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => "nobody answers yet".to_owned(),
                _ => panic!("{error}"),
            })
        })
        .await;
        let header = |name: &str| Some(answer.headers.as_ref()?.get(name)?.as_str().to_owned());
        match header("Nats-Service-Error-Code") {
            None => Ok(serde_json::from_slice(&answer.payload).unwrap()),
            Some(code) => Err(format!("{code} {}", header("Nats-Service-Error").unwrap_or_default())),
        }
    }
}

fn ids(list: &Value) -> Vec<&str> {
    list["interventions"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_can_be_said_at_once_or_later_and_changed() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::start(&cluster, "one").await;
    let desk = Desk::of(&cluster, &daemon, ACCOUNT).await;
    feed.event("c", &json!({"event": "payment_failed"})).await;
    quiet(&observer, SOON).await;

    let path = "/api/customers/c/interventions";
    let begun = desk.send("POST", path, &json!({"action": "Ring them", "type": "call"})).await;
    assert_eq!((begun.status, &begun.json()["type"]), (201, &json!("call")), "{}", begun.text());
    let plain = desk.send("POST", path, &json!({"action": "Think"})).await.json();
    assert_eq!(plain["type"], Value::Null);
    for kind in ["", "Call", "a b", "unassigned", &"x".repeat(41)] {
        let answer = desk.send("POST", path, &json!({"action": "x", "type": kind})).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("invalid_body")), "{kind}");
    }
    let filtered = async |query: &str| {
        let list = desk.get(&format!("/api/interventions?{query}")).await;
        ids(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let (first, second) = (begun.json()["id"].as_str().unwrap().to_owned(), plain["id"].as_str().unwrap().to_owned());
    assert_eq!(filtered("type=call").await, [first.as_str()]);
    assert_eq!(filtered("type=unassigned").await, [second.as_str()]);
    assert_eq!(filtered("type=email").await, Vec::<String>::new());
    assert_eq!(filtered("status=any").await, [second.as_str(), first.as_str()]);

    let at = |id: &str| format!("/api/interventions/{id}");
    let assigned = desk.send("PATCH", &at(&second), &json!({"type": "our_own", "note": "as agreed"})).await;
    assert_eq!(assigned.status, 200, "{}", assigned.text());
    let expected = json!({"type": "our_own", "note": "as agreed", "status": "open", "outcome": null, "closedAt": null});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&assigned.json()[field], value, "{field}");
    }
    let ended = desk.send("PATCH", &at(&second), &json!({"outcome": "saved", "type": "email"})).await.json();
    assert_eq!(
        (&ended["type"], &ended["outcome"], &ended["note"]),
        (&json!("email"), &json!("saved"), &json!("as agreed"))
    );
    let later = desk.send("PATCH", &at(&second), &json!({"type": "training"})).await.json();
    assert_eq!(
        (&later["type"], &later["status"], &later["closedAt"]),
        (&json!("training"), &json!("closed"), &ended["closedAt"])
    );
    let none = desk.send("PATCH", &at(&second), &json!({"type": null})).await.json();
    assert_eq!((&none["type"], &none["outcome"]), (&Value::Null, &json!("saved")));
    let other = desk.send("PATCH", &at(&second), &json!({"outcome": "lost", "type": "call"})).await;
    assert_eq!((other.status, &other.json()["code"]), (409, &json!("intervention_closed")));
    assert_eq!(filtered("status=any&type=unassigned").await, [second.as_str()], "a refused change changes nothing");
    let nothing = desk.send("PATCH", &at(&second), &json!({})).await;
    assert_eq!((nothing.status, &nothing.json()["code"]), (400, &json!("invalid_body")));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_nats_interventions_are_noted_as_over_http() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::start(&cluster, "one").await;
    let desk = Desk::of(&cluster, &daemon, ACCOUNT).await;
    cluster.command(&["account", "add", "other"]).await;
    let foreign = Desk::of(&cluster, &daemon, "other").await;
    for customer in ["c/1", "c2", "gone"] {
        feed.event(customer, &json!({"event": "payment_failed"})).await;
    }
    quiet(&observer, SOON).await;

    let id = uuid::Uuid::new_v4();
    let opening = json!({"customerId": "c/1", "id": id, "action": "Ring them", "createdBy": "anna"});
    let begun = desk.ask("open", &opening).await.unwrap();
    assert_eq!((&begun["status"], &begun["scoreAtStart"], &begun["type"]), (&json!("open"), &json!(40), &Value::Null));
    assert_eq!(desk.ask("open", &opening).await.unwrap(), begun, "the same again makes no second");
    assert_eq!(desk.get("/api/customers/c%2F1/interventions").await["interventions"], json!([begun]));
    let assigned = desk.ask("assign", &json!({"id": id, "type": "call", "note": "twice"})).await.unwrap();
    assert_eq!(
        (&assigned["type"], &assigned["note"], &assigned["status"]),
        (&json!("call"), &json!("twice"), &json!("open"))
    );
    let ended = desk.ask("close", &json!({"id": id, "outcome": "no_reply"})).await.unwrap();
    assert_eq!(
        (&ended["status"], &ended["outcome"], &ended["type"]),
        (&json!("closed"), &json!("no_reply"), &json!("call"))
    );

    for (wish, body, code) in [
        ("open", json!({"customerId": "nobody", "action": "x"}), "404"),
        ("open", json!({"customerId": "c2", "id": id, "action": "x"}), "409"),
        ("open", json!({"action": "x"}), "400"),
        ("open", json!({"customerId": "", "action": "x"}), "400"),
        ("open", json!({"customerId": "c2", "action": ""}), "400"),
        ("open", json!({"customerId": "c2", "action": "x", "account": "other"}), "400"),
        ("assign", json!({"id": id, "outcome": "saved"}), "400"),
        ("assign", json!({"id": id}), "400"),
        ("close", json!({"id": id}), "400"),
        ("close", json!({"id": id, "outcome": "saved"}), "409"),
        ("close", json!({"id": uuid::Uuid::new_v4(), "outcome": "saved"}), "404"),
        ("list", json!({"limit": 51}), "400"),
        ("list", json!({"before": uuid::Uuid::new_v4()}), "404"),
        ("list", json!({"customerId": "nobody"}), "404"),
        ("list", json!([]), "400"),
        ("list", json!(7), "400"),
        ("delete", json!({}), "nobody answers"),
    ] {
        if code == "nobody answers" {
            let asked = desk.nats.request(format!("churn.interventions.{ACCOUNT}.{wish}"), "{}".into()).await;
            assert_eq!(asked.unwrap_err().kind(), RequestErrorKind::NoResponders);
            continue;
        }
        let refusal = desk.ask(wish, &body).await.unwrap_err();
        assert!(refusal.starts_with(code), "{wish} {body}: {refusal}");
    }

    for number in 0..5 {
        desk.ask("open", &json!({"customerId": "c2", "action": format!("mail {number}"), "type": "email"}))
            .await
            .unwrap();
    }
    let (mut paged, mut before) = (Vec::new(), Value::Null);
    loop {
        let page = desk.ask("list", &json!({"status": "any", "limit": 4, "before": before})).await.unwrap();
        paged.extend(page["interventions"].as_array().unwrap().clone());
        before = page["before"].clone();
        if before.is_null() {
            break;
        }
    }
    assert_eq!(json!(paged), desk.get("/api/interventions?status=any").await["interventions"]);
    let count = async |body: Value| desk.ask("list", &body).await.unwrap()["interventions"].as_array().unwrap().len();
    assert_eq!(count(json!({})).await, 5);
    assert_eq!(count(json!({"type": "email", "customerId": "c2"})).await, 5);
    assert_eq!(count(json!({"type": "call"})).await, 0);
    assert_eq!(count(json!({"type": "call", "status": "closed"})).await, 1);
    assert_eq!(foreign.get("/api/interventions?status=any").await["interventions"], json!([]));

    // Who is erased is unknown here too, from the answer on.
    assert_eq!(desk.send("DELETE", "/api/customers/gone", &json!({})).await.status, 202);
    let refusal = desk.ask("open", &json!({"customerId": "gone", "action": "x"})).await.unwrap_err();
    assert!(refusal.starts_with("404"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_worked_and_how_the_account_stands_can_be_read() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::start(&cluster, "one").await;
    let desk = Desk::of(&cluster, &daemon, ACCOUNT).await;
    let nothing = desk.get("/api/interventions/report").await;
    assert_eq!((&nothing["all"]["opened"], &nothing["types"]), (&json!(0), &json!([])));
    assert_eq!((&nothing["all"]["shareSaved"], &nothing["all"]["fewCases"]), (&Value::Null, &json!(true)));

    feed.event("c", &json!({"event": "payment_failed"})).await;
    feed.event("d", &json!({"event": "login"})).await;
    quiet(&observer, SOON).await;
    for number in 0..12 {
        let body = json!({"action": "x", "type": if number == 11 { Value::Null } else { json!("call") }});
        let begun = desk.send("POST", "/api/customers/c/interventions", &body).await.json();
        let outcome = ["saved", "saved", "lost", "no_reply"][number % 4];
        let path = format!("/api/interventions/{}", begun["id"].as_str().unwrap());
        assert_eq!(desk.send("PATCH", &path, &json!({"outcome": outcome})).await.status, 200);
    }
    let report = desk.get("/api/interventions/report").await;
    let all = &report["all"];
    assert_eq!(all["outcomes"], json!({"saved": 6, "lost": 3, "no_reply": 3, "not_needed": 0}));
    assert_eq!((&all["opened"], &all["open"], &all["closed"]), (&json!(12), &json!(0), &json!(12)));
    assert_eq!((&all["shareSaved"], &all["fewCases"]), (&json!(0.5), &json!(false)));
    assert_eq!(all["scoreAtStart"], json!({"cases": 12, "mean": 40.0, "median": 40.0}));
    assert_eq!(all["scoreChange"], json!({"cases": 0, "mean": null, "median": null}), "nothing is 14 days old");
    let types: Vec<_> =
        report["types"].as_array().unwrap().iter().map(|entry| (&entry["type"], &entry["opened"])).collect();
    assert_eq!(types, [(&json!("call"), &json!(11)), (&Value::Null, &json!(1))]);
    assert_eq!(report["types"][0]["shareSaved"], 0.5455);
    assert_eq!(report["types"][1]["shareSaved"], Value::Null, "one case is too few for a share");
    assert_eq!(desk.get("/api/interventions/report?until=2026-01-01T00:00:00Z").await["all"]["opened"], 0);

    let overview = desk.get("/api/overview?days=7").await;
    assert_eq!(overview["now"]["customers"], json!({"high": 0, "medium": 1, "low": 1}));
    assert_eq!((&overview["now"]["churned"], &overview["now"]["mrr"]), (&json!(0), &json!([])));
    assert_eq!(overview["channels"], json!([]));
    assert!(!overview["overTime"].as_array().unwrap().is_empty(), "the hour is noted at the start");
    let alerts = overview["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(
        (&alerts[0]["level"], &alerts[0]["kind"], &alerts[0]["alerts"]),
        (&json!("medium"), &json!("risk.raised"), &json!(1))
    );

    for (path, named) in [
        ("/api/overview?days=0", "days"),
        ("/api/overview?days=401", "1 to 400"),
        ("/api/interventions/report?since=now", "since"),
        ("/api/interventions/report?from=2026-01-01T00:00:00Z", "since"),
    ] {
        let answer = http::request(desk.at, "GET", path, &[("x-api-key", &desk.key)], b"").await.unwrap();
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("invalid_parameter")), "{path}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{}", answer.text());
    }
    cluster.command(&["account", "add", "other"]).await;
    let foreign = Desk::of(&cluster, &daemon, "other").await;
    assert_eq!(foreign.get("/api/interventions/report").await["all"]["opened"], 0);
    let other = foreign.get("/api/overview").await;
    assert_eq!(
        (&other["now"]["customers"]["low"], &other["alerts"], &other["overTime"]),
        (&json!(0), &json!([]), &json!([]))
    );
}

//! Erasure: afterwards no byte of the customer is left anywhere, nothing of it comes back, and nobody else is touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use churnd::stream::publisher::Outgoing;
use serde_json::{Value, json};

use crate::{
    model::traffic::Traffic,
    support::{
        Cluster, Feed, Observer,
        cluster::ACCOUNT,
        daemon::{Builder, Daemon},
        eventually,
        feed::{subject_of, token_of},
        http::{self, Response},
        invariants::{Expected, violations_after_erasure},
        now,
        storm::outgoing,
        webhooks::{subscription, webhook, with},
    },
};

const SOON: Duration = Duration::from_secs(90);
const STREAMS: [&str; 5] = ["CHURN_EVENTS", "CHURN_WEBHOOKS", "CHURN_ALERTS", "CHURN_DEAD", "KV_churn_risk"];

/// What must not be found any more: the id, as it is and as a token, what people call the customer, and Stripe's names.
const ID: &str = "canary id/7f31";
const TOKEN: &str = "canary=20id=2F7f31";
const MAIL: &str = "canary-mail@erase.example";
const NAME: &str = "Canary Company GmbH";
const STRIPE: &str = "cus_canary7";
const CHARGE: &str = "ch_canary7";
const CANARIES: [&str; 6] = [ID, TOKEN, MAIL, NAME, STRIPE, CHARGE];

fn daemon(cluster: &Cluster, name: &str) -> Builder {
    Daemon::builder(cluster, name)
        .setting("CHURND__ERASURE__SETTLE_SECONDS", "1")
        .setting("CHURND__POSTGRES__LEASE_SECONDS", "2")
        .setting("CHURND__PIPELINE__CHECKPOINT_INTERVAL_MS", "100")
        .setting("CHURND__PIPELINE__SETTLE_SECONDS", "1")
}

async fn secret_key(cluster: &Cluster, account: &str) -> String {
    cluster.command(&["key", "add", "--account", account, "--kind", "secret"]).await.trim().to_owned()
}

async fn ask(daemon: &Daemon, method: &str, path: &str, key: &str) -> Response {
    http::request(daemon.address(), method, path, &[("x-api-key", key)], b"").await.unwrap()
}

/// Asks for an erasure; gives its id.
async fn erase(daemon: &Daemon, key: &str, customer: &str) -> String {
    let mut path = "/api/customers/".to_owned();
    for byte in customer.bytes() {
        write!(path, "%{byte:02X}").unwrap();
    }
    let answer = ask(daemon, "DELETE", &path, key).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), Some(format!("/api/erasures/{id}").as_str()));
    id
}

async fn completed(daemon: &Daemon, key: &str, id: &str) -> Value {
    eventually(SOON, async || {
        let answer = ask(daemon, "GET", &format!("/api/erasures/{id}"), key).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let report = answer.json();
        if report["state"] == "completed" { Ok(report) } else { Err(report.to_string()) }
    })
    .await
}

/// Which canaries stand where: in files of a directory, in messages, in rows.
#[derive(Default, Debug)]
struct Found(BTreeMap<&'static str, BTreeSet<String>>);

impl Found {
    fn look(&mut self, place: &str, bytes: &[u8]) {
        for canary in CANARIES {
            if bytes.windows(canary.len()).any(|window| window == canary.as_bytes()) {
                self.0.entry(canary).or_default().insert(place.to_owned());
            }
        }
    }

    /// Every file of the server's store; `index.db` is written every two minutes only, and when the server stops.
    fn in_files(&mut self, dir: &Path, with_index: bool) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.in_files(&path, with_index);
            } else if with_index || path.file_name().is_some_and(|name| name != "index.db") {
                self.look(&path.display().to_string(), path.display().to_string().as_bytes());
                // A file that goes while it is looked for holds nothing.
                self.look(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
            }
        }
    }

    async fn in_messages(&mut self, observer: &Observer<'_>) {
        for stream in STREAMS {
            for message in observer.messages(stream).await.unwrap() {
                self.look(stream, message.subject.as_bytes());
                self.look(stream, &message.body);
                self.look(stream, format!("{:?}", message.headers).as_bytes());
            }
        }
    }

    async fn in_tables(&mut self, observer: &Observer<'_>) {
        let columns = "SELECT c.relname::text, a.attname::text, t.typname::text FROM pg_class c
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            JOIN pg_type t ON t.oid = a.atttypid
            WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace";
        for row in observer.rows(columns, &[]).await.unwrap() {
            let (table, column, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            let text = if kind == "bytea" { format!("encode({column}, 'escape')") } else { format!("{column}::text") };
            let sql = format!("SELECT coalesce({text}, '') FROM {table}");
            for row in observer.rows(&sql, &[]).await.unwrap() {
                self.look(&format!("{table}.{column}"), row.get::<_, String>(0).as_bytes());
            }
        }
    }
}

/// Looks everywhere, with the server's store as it is after it stopped as well.
async fn everywhere(cluster: &Cluster, observer: &Observer<'_>) -> Found {
    let mut found = Found::default();
    found.in_messages(observer).await;
    found.in_tables(observer).await;
    found.in_files(&cluster.nats.store_dir(), false);
    cluster.nats.stop();
    found.in_files(&cluster.nats.store_dir(), true);
    cluster.nats.restart().unwrap();
    eventually(SOON, async || observer.count("CHURN_EVENTS").await.map(|_| ())).await;
    found
}

fn dispute(id: &str, at: i64) -> Value {
    let object = json!({"id": format!("dp_{id}"), "object": "dispute", "charge": CHARGE, "status": "needs_response",
        "evidence": {"customer_email_address": MAIL, "customer_name": NAME}});
    webhook(id, "charge.dispute.created", at, &object)
}

/// The customer leaves its traces wherever one can.
async fn leave_traces(cluster: &Cluster, feed: &Feed, observer: &Observer<'_>) {
    let start = now() / 1_000 - 3_600;
    let contact = json!({"email": MAIL, "company": NAME});
    for (number, name) in ["login", "billing_page_view", "payment_failed", "support_ticket_created"].iter().enumerate()
    {
        let id = format!("{ID}-{number}");
        feed.event(ID, &json!({"event": name, "id": id, "customerId": ID, "properties": contact})).await;
        // Each score is stored by itself, and replaces the one before in the bucket.
        observer.caught_up(SOON).await;
    }
    let link = with(&contact, json!({"stripeCustomerId": STRIPE}));
    feed.event(ID, &json!({"event": "identify", "id": "link", "properties": link})).await;
    let charge = json!({"id": CHARGE, "object": "charge", "customer": STRIPE, "billing_details": contact});
    let active = with(&subscription(STRIPE, "past_due", start + 900_000), contact.clone());
    for body in [
        webhook("evt_c1", "customer.subscription.created", start, &active),
        webhook("evt_c2", "charge.succeeded", start + 1, &charge),
        dispute("evt_c3", start + 2),
        // Of a type that says nothing, but the mail: it stays in its stream unread.
        webhook(
            "evt_c4",
            "customer.updated",
            start + 3,
            &with(&json!({"id": STRIPE, "object": "customer"}), contact.clone()),
        ),
        // Cannot be used: it goes to the dead letters, where no subject names anybody.
        webhook(
            "evt_c5",
            "customer.subscription.updated",
            start + 4,
            &json!({"object": "subscription", "customer": STRIPE}),
        ),
    ] {
        feed.webhook(&body).await;
    }
    let poison = json!({"event": "login", "timestamp": "yesterday", "properties": contact});
    feed.send(Outgoing::new(subject_of(ID), poison.to_string())).await;
    let misplaced = json!({"event": "login", "customerId": ID, "properties": contact});
    feed.send(Outgoing::new("churn.events.acme.=41", misplaced.to_string())).await;
    let sql = cluster.sql().await;
    let note = format!("called {MAIL} of {NAME}");
    sql.execute(
        "INSERT INTO interventions (account_id, token, external_id, action, note) VALUES ('acme', $1, $2, 'call', $3)",
        &[&TOKEN, &ID, &note],
    )
    .await
    .unwrap();
    sql.execute(
        "UPDATE customers SET company_name = $1, email = $2 WHERE account_id = 'acme' AND external_id = $3",
        &[&NAME, &MAIL, &ID],
    )
    .await
    .unwrap();
}

async fn archived(observer: &Observer<'_>) {
    eventually(SOON, async || {
        let last = i64::try_from(observer.last_sequence("CHURN_EVENTS").await?).unwrap();
        let archived = observer.number("SELECT watermark FROM partitions WHERE role = 'archive'").await?;
        if archived >= last { Ok(()) } else { Err(format!("{archived} of {last}")) }
    })
    .await;
}

async fn quiet(observer: &Observer<'_>) {
    crate::support::webhooks::quiet(observer, SOON).await;
}

/// Waits until late events are overwritten.
async fn overwritten(observer: &Observer<'_>) {
    eventually(SOON, async || match observer.number("SELECT count(*) FROM unwanted_events").await? {
        0 => Ok(()),
        count => Err(format!("{count} events")),
    })
    .await;
}

/// What a counter with that label says.
async fn counted(daemon: &Daemon, series: &str) -> u64 {
    let text = http::get(daemon.address(), "/metrics").await.unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or("0").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_an_erased_customer_is_left_and_nothing_of_it_comes_back() {
    let cluster = Cluster::start().await;
    cluster.command(&["account", "add", "other"]).await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = daemon(&cluster, "one").start().await;
    let (key, other_key) = (secret_key(&cluster, ACCOUNT).await, secret_key(&cluster, "other").await);

    // Somebody else, and somebody of the same name at another tenant's.
    for customer in ["bystander", "shared"] {
        for name in ["billing_page_view", "payment_failed"] {
            feed.event(customer, &json!({"event": name})).await;
        }
    }
    for name in ["billing_page_view", "payment_failed"] {
        feed.send(Outgoing::new("churn.events.other.shared", json!({ "event": name }).to_string())).await;
    }
    quiet(&observer).await;
    leave_traces(&cluster, &feed, &observer).await;
    quiet(&observer).await;
    archived(&observer).await;
    let before = observer.bucket().await.unwrap();
    assert!(before.contains_key(&format!("acme.{TOKEN}")), "{before:?}");
    let as_of = now();
    let bystander = observer.risk("bystander", Some(as_of)).await.unwrap();

    // The search finds what is there.
    let traces = everywhere(&cluster, &observer).await;
    for canary in CANARIES {
        let places = traces.0.get(canary).unwrap_or_else(|| panic!("{canary} is nowhere: {traces:#?}"));
        println!("{canary} stands in {places:?}");
    }
    assert_eq!(ask(&daemon, "GET", "/api/erasures/x", &key).await.status, 404);
    let linked = ask(&daemon, "DELETE", &format!("/api/customers/{STRIPE}"), &key).await;
    assert_eq!((linked.status, linked.json()["code"].clone()), (409, json!("linked_customer")));

    let id = erase(&daemon, &key, ID).await;
    assert_eq!(erase(&daemon, &key, ID).await, id, "the same erasure");
    let shared = erase(&daemon, &key, "shared").await;
    let stranger = ask(&daemon, "GET", &format!("/api/erasures/{id}"), &other_key).await;
    let unknown = ask(&daemon, "GET", &format!("/api/erasures/{}", uuid::Uuid::new_v4()), &other_key).await;
    assert_eq!((stranger.status, stranger.text()), (404, unknown.text()));
    let report = completed(&daemon, &key, &id).await;
    completed(&daemon, &key, &shared).await;
    println!("erased: {report}");
    for count in ["events", "webhooks", "alerts", "deadLetters", "scores", "rows"] {
        assert!(report["erased"][count].as_u64().unwrap() > 0, "no {count}: {report}");
    }
    let left = everywhere(&cluster, &observer).await;
    assert!(left.0.is_empty(), "{left:#?}");
    assert!(observer.risk(ID, None).await.is_err());

    comes_back(&feed, &observer, &daemon).await;
    let left = everywhere(&cluster, &observer).await;
    assert!(left.0.is_empty(), "after more of it came: {left:#?}");
    let mut told = Found::default();
    told.look("log", daemon.log().text().as_bytes());
    told.look("metrics", http::get(daemon.address(), "/metrics").await.unwrap().text().as_bytes());
    assert!(told.0.is_empty(), "{told:#?}");

    // The others are as they were.
    assert_eq!(observer.risk("bystander", Some(as_of)).await.unwrap(), bystander);
    let after = observer.bucket().await.unwrap();
    assert_eq!(after["acme.bystander"]["score"], before["acme.bystander"]["score"]);
    assert_eq!(after["other.shared"]["score"], before["other.shared"]["score"]);
    assert!(!after.contains_key("acme.shared"), "{after:?}");
    let shared = "SELECT string_agg(account, ' ') FROM customer_states WHERE token = 'shared'";
    assert_eq!(observer.rows(shared, &[]).await.unwrap()[0].get::<_, String>(0), "other");
    assert_eq!(counted(&daemon, "churnd_erasures_open").await, 0);
    assert!(cluster.command(&["doctor"]).await.contains("no customer waits to be erased"));
}

/// Whatever comes of the customer afterwards is dropped, counted, and erased.
async fn comes_back(feed: &Feed, observer: &Observer<'_>, daemon: &Daemon) {
    let at = now() / 1_000;
    let contact = json!({"email": MAIL, "company": NAME});
    for number in 0..3 {
        let body = json!({"event": "login", "id": format!("late-{number}"), "customerId": ID, "properties": contact});
        feed.event(ID, &body).await;
    }
    feed.send(Outgoing::new(subject_of(ID), format!("not JSON of {MAIL}"))).await;
    feed.send(Outgoing::new(subject_of(STRIPE), json!({"event": "payment_failed"}).to_string())).await;
    let checkout = json!({"id": "cs_1", "object": "checkout.session", "customer": "cus_new", "client_reference_id": ID,
        "customer_details": contact});
    for body in [
        webhook(
            "evt_l1",
            "customer.subscription.updated",
            at,
            &with(&subscription(STRIPE, "active", at), contact.clone()),
        ),
        webhook("evt_l2", "checkout.session.completed", at, &checkout),
        dispute("evt_l3", at),
    ] {
        feed.webhook(&body).await;
    }
    quiet(observer).await;
    archived(observer).await;
    overwritten(observer).await;
    let totals = "SELECT sum(received)::bigint, sum(applied + duplicate + late + dead + suppressed)::bigint,
        sum(suppressed)::bigint FROM partitions WHERE role = 'engine'";
    let row = &observer.rows(totals, &[]).await.unwrap()[0];
    let (received, accounted, suppressed): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((received, suppressed), (accounted, 5));
    assert_eq!(counted(daemon, r#"churnd_events_total{result="suppressed"}"#).await, 5);
    assert_eq!(counted(daemon, r#"churnd_webhooks_total{result="suppressed"}"#).await, 3);
    assert!(observer.risk(ID, None).await.is_err());
}

/// How many messages and rows of these customers of `acme` are left.
async fn remains(observer: &Observer<'_>, customers: &[String]) -> Vec<String> {
    let tokens: BTreeSet<String> = customers.iter().map(|customer| token_of(customer)).collect();
    let mut remains = Vec::new();
    for stream in STREAMS {
        let messages = observer.messages(stream).await.unwrap();
        let named = messages.iter().filter(|message| message.subject.split('.').any(|part| tokens.contains(part)));
        remains.extend(named.map(|message| format!("{stream}: {}", message.subject)));
    }
    for table in ["customer_states", "risk_scores", "outbox", "events", "erasure_customers"] {
        for row in observer.rows(&format!("SELECT token FROM {table} WHERE account = 'acme'"), &[]).await.unwrap() {
            let token: String = row.get(0);
            if tokens.contains(&token) {
                remains.push(format!("{table}: {token}"));
            }
        }
    }
    remains
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_whose_daemon_is_killed_in_its_midst_is_finished_by_the_next() {
    const CUSTOMERS: usize = 24;
    const EVENTS: usize = 60;
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let mut one = daemon(&cluster, "one").start().await;
    let key = secret_key(&cluster, ACCOUNT).await;
    let customers: Vec<String> = (0..CUSTOMERS).map(|number| format!("gone-{number}")).collect();
    let events = |prefix: &str| {
        let event = |number: usize| {
            let body = json!({"event": "payment_failed", "id": format!("{prefix}{number}")});
            crate::support::feed::event(&format!("{prefix}-{}", number % CUSTOMERS), &body)
        };
        (0..CUSTOMERS * EVENTS).map(event).collect::<Vec<_>>()
    };
    feed.send_all(events("gone")).await;
    feed.send_all(events("kept")).await;
    quiet(&observer).await;
    let mut ids = Vec::new();
    for customer in &customers {
        ids.push(erase(&one, &key, customer).await);
    }
    // Some messages are gone, not all.
    let all = u64::try_from(2 * CUSTOMERS * EVENTS).unwrap();
    eventually(SOON, async || match observer.count("CHURN_EVENTS").await? {
        count if count < all => Ok(()),
        count => Err(format!("all {count} are there")),
    })
    .await;
    one.kill();
    let at_the_kill = observer.count("CHURN_EVENTS").await.unwrap();
    println!("{at_the_kill} of {all} messages were left when the daemon was killed");
    assert!(at_the_kill > all / 2, "the erasure was over before the kill");

    let two = daemon(&cluster, "two").start().await;
    for id in &ids {
        completed(&two, &key, id).await;
    }
    quiet(&observer).await;
    assert_eq!(remains(&observer, &customers).await, Vec::<String>::new());
    assert_eq!(observer.count("CHURN_EVENTS").await.unwrap(), all / 2);
    let kept = "SELECT count(*) FROM customer_states WHERE token LIKE 'kept-%' AND score > 0";
    assert_eq!(observer.number(kept).await.unwrap(), i64::try_from(CUSTOMERS).unwrap());
    let entries = observer.bucket().await.unwrap();
    assert_eq!(entries.len(), CUSTOMERS, "{:?}", entries.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_renewed_while_a_slow_statement_holds_the_erasure() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let one = daemon(&cluster, "one").start().await;
    let key = secret_key(&cluster, ACCOUNT).await;
    feed.send_all(vec![crate::support::feed::event("slow", &json!({"event": "payment_failed"}))]).await;
    quiet(&observer).await;
    // Longer than a claim goes without being renewed.
    for sql in [
        "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(4); RETURN NULL; END'",
        "CREATE TRIGGER be_slow AFTER UPDATE OF state ON erasures FOR EACH ROW WHEN (new.state = 'checking')
            EXECUTE FUNCTION be_slow()",
    ] {
        observer.rows(sql, &[]).await.unwrap();
    }
    let id = erase(&one, &key, "slow").await;
    completed(&one, &key, &id).await;
    assert_eq!(counted(&one, "churnd_errors_total{component=\"erasure\",kind=\"unavailable\"}").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_erase_customers_whose_events_still_flow_and_touch_no_others() {
    const EVENTS: usize = 12_000;
    const CUSTOMERS: usize = 300;
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let until = now();
    let mut traffic = Traffic::draw(9, EVENTS, CUSTOMERS, until);
    // Those that are linked to others stay: their customers are compared with a model that knows no erasure.
    let candidates = traffic.histories.keys().filter(|customer| !customer.starts_with("cus_"));
    let gone: Vec<String> = candidates.step_by(7).cloned().collect();
    let mut one = daemon(&cluster, "one").start().await;
    let two = daemon(&cluster, "two").start().await;
    eventually(SOON, async || match observer.owners().await?.values().collect::<Vec<_>>()[..] {
        [8, 8] => Ok(()),
        _ => Err("not shared yet".to_owned()),
    })
    .await;
    let key = secret_key(&cluster, ACCOUNT).await;
    let parts: Vec<_> = traffic.sent.chunks(traffic.sent.len().div_ceil(4)).map(outgoing).collect();
    let mut ids = Vec::new();
    let begun = Instant::now();
    for (number, part) in parts.into_iter().enumerate() {
        let erasing = async {
            let mut ids = Vec::new();
            for customer in gone.iter().skip(number).step_by(4) {
                ids.push(erase(&two, &key, customer).await);
            }
            ids
        };
        ids.extend(tokio::join!(feed.send_all(part), erasing).1);
        if number == 2 {
            // Those claimed by the dead are claimed again.
            one.kill();
        }
    }
    for id in &ids {
        completed(&two, &key, id).await;
    }
    println!("{} customers were erased by two instances within {:?}", ids.len(), begun.elapsed());
    observer.caught_up(SOON).await;
    quiet(&observer).await;
    overwritten(&observer).await;
    // What came while the erasure ran was refused by the owners, whoever they were.
    eventually(SOON, async || match remains(&observer, &gone).await {
        remains if remains.is_empty() => Ok(()),
        remains => Err(format!("{remains:?}")),
    })
    .await;
    traffic.histories.retain(|customer, _| !gone.contains(customer));
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
    let found = violations_after_erasure(&observer, &expected).await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_sleeps_through_an_erasure_brings_nothing_back() {
    const CUSTOMERS: usize = 64;
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let one = daemon(&cluster, "one").start().await;
    let two = daemon(&cluster, "two").start().await;
    let shared = async |expected: &[usize]| {
        eventually(SOON, async || {
            let owners: Vec<usize> = observer.owners().await?.into_values().collect();
            if owners == expected { Ok(()) } else { Err(format!("{owners:?}")) }
        })
        .await;
    };
    shared(&[8, 8]).await;
    let key = secret_key(&cluster, ACCOUNT).await;
    let customers: Vec<String> = (0..CUSTOMERS).map(|number| format!("sleeper-{number}")).collect();
    let events = |round: usize| {
        let event = |number: usize| {
            let name = if number.is_multiple_of(2) { "payment_failed" } else { "billing_page_view" };
            let body = json!({"event": name, "id": format!("{round}-{number}")});
            crate::support::feed::event(&customers[number % CUSTOMERS], &body)
        };
        (0..1_200).map(event).collect::<Vec<_>>()
    };
    feed.send_all(events(0)).await;
    quiet(&observer).await;
    // In the midst of its work: states are dirty, a checkpoint and alerts may be on their way.
    let (_, ()) = tokio::join!(feed.send_all(events(1)), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        one.freeze();
    });
    let mut ids = Vec::new();
    for customer in &customers {
        ids.push(erase(&two, &key, customer).await);
    }
    shared(&[16]).await;
    for id in &ids {
        completed(&two, &key, id).await;
    }
    observer.caught_up(SOON).await;
    assert_eq!(remains(&observer, &customers).await, Vec::<String>::new());
    one.thaw();
    shared(&[8, 8]).await;
    // What comes now is refused by either of them.
    feed.send_all(events(2)).await;
    quiet(&observer).await;
    overwritten(&observer).await;
    eventually(SOON, async || match remains(&observer, &customers).await {
        remains if remains.is_empty() => Ok(()),
        remains => Err(format!("{remains:?}")),
    })
    .await;
    let broken = "SELECT count(*) FROM partitions
        WHERE role = 'engine' AND received <> applied + duplicate + late + dead + suppressed";
    assert_eq!(observer.number(broken).await.unwrap(), 0);
    let suppressed = observer.number("SELECT sum(suppressed)::bigint FROM partitions").await.unwrap();
    assert!(suppressed >= 1_200, "{suppressed}");
}

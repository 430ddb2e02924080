//! Alerts on their way to people: an hour of outage in simulated time, crashes, several dispatchers, and scoring that goes on
//! whatever the receivers do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use churnd::{
    engine::checkpoint::Level,
    event::{ids::AccountId, time::Timestamp},
    notify::{
        dispatcher::{Deliver, Dispatcher, Parts},
        intake::Intake,
        message::Notice,
        sample,
        send::{Failure, Receipt},
        settings::NotifyConfig,
    },
    store::{
        self, Store,
        channels::{NewChannel, Settings, Target, Templates},
        deliveries::NewDelivery,
    },
    telemetry::metrics::Metrics,
};
use secrecy::SecretString;
use serde_json::json;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{
    Cluster, Feed, Observer,
    cluster::ACCOUNT,
    daemon::{Daemon, in_background},
    eventually,
    feed::account,
    http, now,
};

const SOON: Duration = Duration::from_secs(60);
const MINUTE: i64 = 60_000;

/// A try as a receiver saw it.
#[derive(Clone, Debug)]
struct Try {
    at: i64,
    to: String,
    key: String,
    alerts: Vec<String>,
    arrived: bool,
}

/// Receivers that do as they are told.
#[derive(Clone)]
struct Receivers(Arc<Script>);

struct Script {
    tries: Mutex<Vec<Try>>,
    clock: AtomicI64,
    /// Whoever is called `broken…` answers 500, hangs, or asks for two minutes, in turns; with `+gone` it takes nothing any
    /// more, with `+odd` it takes no message.
    broken: AtomicBool,
    /// Messages arrive, and nobody ever hears that they did.
    mute: AtomicBool,
    came: Notify,
}

impl Receivers {
    fn new(at: i64) -> Self {
        let (tries, clock) = (Mutex::default(), AtomicI64::new(at));
        let (broken, mute, came) = (AtomicBool::new(false), AtomicBool::new(false), Notify::new());
        Self(Arc::new(Script { tries, clock, broken, mute, came }))
    }

    fn tries(&self, to: &str) -> Vec<Try> {
        self.0.tries.lock().unwrap().iter().filter(|one| one.to == to).cloned().collect()
    }

    fn arrived(&self, to: &str) -> Vec<String> {
        self.tries(to).into_iter().filter(|one| one.arrived).flat_map(|one| one.alerts).collect()
    }
}

impl Deliver for Receivers {
    async fn send(&self, target: &Target, _: &Templates, notice: &Notice, _: Option<&str>) -> Result<Receipt, Failure> {
        let Target::Email { to } = target else { panic!("{target:?}") };
        let broken = to[0].starts_with("broken") && self.0.broken.load(Ordering::Acquire);
        let count = {
            let mut tries = self.0.tries.lock().unwrap();
            let count = tries.iter().filter(|one| one.to == to[0]).count();
            let alerts = notice.alerts.iter().map(|told| told.alert.id.clone()).collect();
            let (at, key) = (self.0.clock.load(Ordering::Acquire), notice.key.clone());
            tries.push(Try { at, to: to[0].clone(), key, alerts, arrived: !broken });
            count
        };
        self.0.came.notify_one();
        if self.0.mute.load(Ordering::Acquire) {
            return std::future::pending().await;
        }
        if broken && to[0].contains("+gone") {
            return Err(Failure::Gone { reason: "410".to_owned() });
        }
        if broken && to[0].contains("+odd") {
            return Err(Failure::Refused { reason: "413".to_owned() });
        }
        match (broken, count % 3) {
            (false, _) => Ok(Receipt::default()),
            (true, 0) => Err(Failure::Again { reason: "500".to_owned(), after: None }),
            (true, 1) => std::future::pending().await,
            (true, _) => Err(Failure::Again { reason: "429".to_owned(), after: Some(Duration::from_secs(120)) }),
        }
    }
}

struct Scene {
    cluster: Cluster,
    store: Store,
    receivers: Receivers,
    start: i64,
}

impl Scene {
    async fn set() -> Self {
        let cluster = Cluster::start().await;
        let url = SecretString::from(cluster.postgres_url());
        let store = Store::connect(&store::Config { url, ..store::Config::default() }).unwrap();
        let start = now();
        Self { cluster, store, receivers: Receivers::new(start), start }
    }

    fn dispatcher(&self, patience: Duration) -> Dispatcher<Receivers> {
        self.dispatcher_over(self.receivers.clone(), patience)
    }

    fn dispatcher_over<D: Deliver>(&self, deliver: D, patience: Duration) -> Dispatcher<D> {
        let parts = Parts {
            store: self.store.clone(),
            deliver,
            metrics: Metrics::new(Timestamp::from_millis(self.start)),
            config: NotifyConfig { at_once: 8, pause_after_hours: 72 },
            patience,
            store_contact: false,
        };
        Dispatcher::new(parts, CancellationToken::new())
    }

    async fn channel(&self, name: &str, settings: Settings) -> Uuid {
        let target = Target::Email { to: vec![format!("{name}@example.com")] };
        let new = NewChannel { name: name.to_owned(), target, settings, templates: Templates::default() };
        self.store.add_channel(&account(), &new).await.unwrap()
    }

    async fn alert(&self, id: &str, customer: &str, at: i64, channels: &[Uuid]) {
        let at = Timestamp::from_millis(at);
        let body = body(id, &account(), at);
        let acme = account();
        let new = NewDelivery { account: &acme, alert_id: id, token: Some(customer), body: &body, is_test: false, at };
        self.store.enqueue_alert(&new, channels).await.unwrap();
    }

    async fn turn(&self, dispatcher: &Dispatcher<Receivers>, at: i64) {
        self.receivers.0.clock.store(at, Ordering::Release);
        dispatcher.turn(Timestamp::from_millis(at)).await.unwrap();
    }
}

fn body(id: &str, account: &AccountId, at: Timestamp) -> Vec<u8> {
    serde_json::to_vec(&sample::test_alert(id, account, at)).unwrap()
}

fn singles() -> Settings {
    Settings { digest_after: None, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_hour_of_outage_every_alert_arrives_under_its_key_and_others_never_waited() {
    let scene = Scene::set().await;
    // A receiver that hangs is given up at once: what it would have answered never comes.
    let dispatcher = scene.dispatcher(Duration::from_millis(1));
    let channels =
        [scene.channel("broken", Settings::default()).await, scene.channel("fine", Settings::default()).await];
    scene.receivers.0.broken.store(true, Ordering::Release);
    for minute in 0..60 {
        let at = scene.start + minute * MINUTE;
        for alert in 0..3 {
            let id = format!("a{minute}-{alert}");
            scene.alert(&id, &format!("c{}", (minute + alert) % 40), at, &channels).await;
        }
        for step in 0..6 {
            scene.turn(&dispatcher, at + step * 10_000).await;
        }
        let arrived = scene.receivers.arrived("fine@example.com").len();
        assert_eq!(arrived, 3 * (usize::try_from(minute).unwrap() + 1), "the other channel never waits");
    }
    assert_eq!(scene.receivers.arrived("broken@example.com").len(), 0);
    scene.receivers.0.broken.store(false, Ordering::Release);
    let healed = scene.start + 60 * MINUTE;
    for step in 0..60 {
        scene.turn(&dispatcher, healed + step * 10_000).await;
    }
    let tries = scene.receivers.tries("broken@example.com");
    println!("{} tries during the outage", tries.iter().filter(|one| one.at < healed).count());
    // Each alert is in one message, whatever number of times that was tried, and all of them arrived once.
    let mut messages: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in &tries {
        let alerts: BTreeSet<&str> = one.alerts.iter().map(String::as_str).collect();
        let known = messages.entry(&one.key).or_insert_with(|| alerts.clone());
        assert_eq!(*known, alerts, "a message is the same at each try");
    }
    assert_eq!(messages.values().map(BTreeSet::len).sum::<usize>(), 180);
    let arrived = scene.receivers.arrived("broken@example.com");
    assert_eq!((arrived.len(), arrived.iter().collect::<BTreeSet<_>>().len()), (180, 180));
    for (index, one) in tries.iter().enumerate().filter(|(index, one)| !one.arrived && index % 3 == 2) {
        let next = &tries[index + 1];
        assert!(next.at - one.at >= 2 * MINUTE, "it asked for two minutes and got {} ms", next.at - one.at);
    }
    assert!(tries.iter().filter(|one| !one.arrived).count() >= 12, "the outage was tried out: {}", tries.len());
    let backlog = scene.store.delivery_backlog().await.unwrap();
    assert_eq!(backlog.pending, 0);
    assert!(scene.store.troubled_channels().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_fails_for_long_is_paused_and_what_waited_arrives_when_it_goes_on() {
    let scene = Scene::set().await;
    let dispatcher = scene.dispatcher(Duration::from_millis(1));
    let channels = [scene.channel("broken", singles()).await, scene.channel("broken+gone", singles()).await];
    scene.receivers.0.broken.store(true, Ordering::Release);
    scene.alert("a1", "c1", scene.start, &channels).await;
    scene.turn(&dispatcher, scene.start).await;
    let paused = async |channel: Uuid| scene.store.channel(&account(), channel).await.unwrap().unwrap().paused;
    assert_eq!(paused(channels[1]).await.unwrap().1, "410", "what is gone is paused at once");
    for hour in 1..=71 {
        scene.turn(&dispatcher, scene.start + hour * 60 * MINUTE).await;
    }
    assert_eq!(paused(channels[0]).await, None);
    scene.alert("a2", "c2", scene.start + 71 * 60 * MINUTE, &channels).await;
    for hour in 72..=74 {
        scene.turn(&dispatcher, scene.start + hour * 60 * MINUTE).await;
    }
    let why = paused(channels[0]).await.expect("it failed for 72 h").1;
    assert!(why.starts_with("nothing arrived for 72 h: "), "{why}");
    assert_eq!(scene.store.troubled_channels().await.unwrap().len(), 2);
    // Paused channels are left alone, and lose nothing.
    let tried = scene.receivers.tries("broken@example.com").len();
    let healed = scene.start + 100 * 60 * MINUTE;
    scene.turn(&dispatcher, healed).await;
    assert_eq!(scene.receivers.tries("broken@example.com").len(), tried);
    scene.receivers.0.broken.store(false, Ordering::Release);
    for (channel, name) in channels.into_iter().zip(["broken", "broken+gone"]) {
        assert!(scene.store.resume_channel(&account(), channel).await.unwrap());
        scene.turn(&dispatcher, healed).await;
        let mut arrived = scene.receivers.arrived(&format!("{name}@example.com"));
        arrived.sort_unstable();
        assert_eq!(arrived, ["a1", "a2"], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_refused_ends_with_its_reason_and_holds_up_no_other() {
    let scene = Scene::set().await;
    let dispatcher = scene.dispatcher(SOON);
    let channel = scene.channel("broken+odd", singles()).await;
    scene.receivers.0.broken.store(true, Ordering::Release);
    scene.alert("a1", "c1", scene.start, &[channel]).await;
    scene.turn(&dispatcher, scene.start).await;
    scene.receivers.0.broken.store(false, Ordering::Release);
    scene.alert("a2", "c1", scene.start, &[channel]).await;
    scene.turn(&dispatcher, scene.start).await;
    assert_eq!(scene.receivers.arrived("broken+odd@example.com"), ["a2"]);
    let sql = scene.cluster.sql().await;
    let rows = sql.query("SELECT alert_id, state, last_error FROM deliveries ORDER BY id", &[]).await.unwrap();
    let told: Vec<(String, String, Option<String>)> =
        rows.iter().map(|row| (row.get("alert_id"), row.get("state"), row.get("last_error"))).collect();
    assert_eq!(told[0], ("a1".to_owned(), "refused".to_owned(), Some("413".to_owned())));
    assert_eq!((told[1].0.as_str(), told[1].1.as_str()), ("a2", "delivered"));
}

/// A Slack channel: remembers what each message took the place of.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<Vec<Option<String>>>>);

impl Deliver for Board {
    async fn send(&self, _: &Target, _: &Templates, _: &Notice, replaces: Option<&str>) -> Result<Receipt, Failure> {
        let mut messages = self.0.lock().unwrap();
        messages.push(replaces.map(str::to_owned));
        let reference = replaces.map_or_else(|| format!("message {}", messages.len()), str::to_owned);
        Ok(Receipt { reference: Some(reference) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_risk_that_goes_on_takes_the_place_of_its_message_and_a_new_one_does_not() {
    let scene = Scene::set().await;
    let target = Target::SlackApp { token: SecretString::from("xoxb-1"), channel: "#risk".to_owned() };
    let settings = Settings { minimum_level: Level::Low, ..singles() };
    let new = NewChannel { name: "slack".to_owned(), target, settings, templates: Templates::default() };
    let channel = scene.store.add_channel(&account(), &new).await.unwrap();
    let board = Board::default();
    let dispatcher = scene.dispatcher_over(board.clone(), SOON);
    for (step, (customer, level)) in
        [("c1", "medium"), ("c2", "high"), ("c1", "high"), ("c1", "low"), ("c1", "medium")].into_iter().enumerate()
    {
        let (acme, at) = (account(), Timestamp::from_millis(scene.start + i64::try_from(step).unwrap() * MINUTE));
        let id = format!("a{step}");
        let mut alert: serde_json::Value = serde_json::from_slice(&body(&id, &acme, at)).unwrap();
        alert["level"] = json!(level);
        let body = alert.to_string().into_bytes();
        let new = NewDelivery { account: &acme, alert_id: &id, token: Some(customer), body: &body, is_test: false, at };
        scene.store.enqueue_alert(&new, &[channel]).await.unwrap();
        dispatcher.turn(at).await.unwrap();
    }
    let first = || Some("message 1".to_owned());
    // The fall to low still is about the first message; what comes after it is a new risk.
    assert_eq!(*board.0.lock().unwrap(), [None, None, first(), first(), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_not_written_down_is_sent_again_under_the_same_key() {
    let scene = Scene::set().await;
    let channel = scene.channel("fine", singles()).await;
    scene.alert("a1", "c1", scene.start, &[channel]).await;
    scene.receivers.0.mute.store(true, Ordering::Release);
    let killed = scene.dispatcher(SOON);
    tokio::select! {
        () = scene.turn(&killed, scene.start) => panic!("it never hears of the message"),
        () = scene.receivers.0.came.notified() => {}
    }
    scene.receivers.0.mute.store(false, Ordering::Release);
    let other = scene.dispatcher(SOON);
    scene.turn(&other, scene.start).await;
    assert_eq!(scene.receivers.tries("fine@example.com").len(), 1, "the claim still holds");
    let sql = scene.cluster.sql().await;
    sql.execute("UPDATE channels SET claimed_until = now() - interval '1 s'", &[]).await.unwrap();
    scene.turn(&other, scene.start).await;
    let keys: Vec<String> = scene.receivers.tries("fine@example.com").into_iter().map(|one| one.key).collect();
    assert_eq!(keys, ["a1", "a1"]);
    scene.turn(&other, scene.start + MINUTE).await;
    assert_eq!(scene.receivers.tries("fine@example.com").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dispatchers_at_once_send_each_message_once() {
    let scene = Scene::set().await;
    let mut channels = Vec::new();
    for number in 0..4 {
        channels.push(scene.channel(&format!("to{number}"), singles()).await);
    }
    for number in 0..40 {
        scene.alert(&format!("a{number}"), &format!("c{}", number % 9), scene.start, &channels).await;
    }
    let (one, other) = (scene.dispatcher(SOON), scene.dispatcher(SOON));
    tokio::join!(scene.turn(&one, scene.start), scene.turn(&other, scene.start));
    scene.turn(&one, scene.start).await;
    for number in 0..4 {
        let arrived = scene.receivers.arrived(&format!("to{number}@example.com"));
        let expected: Vec<String> = (0..40).map(|number| format!("a{number}")).collect();
        assert_eq!(arrived, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_the_stream_are_taken_once_and_what_cannot_be_read_holds_up_nothing() {
    let scene = Scene::set().await;
    scene.channel("fine", singles()).await;
    let (feed, stop) = (Feed::open(&scene.cluster).await, CancellationToken::new());
    let (start, metrics) = (scene.start, Metrics::new(Timestamp::from_millis(scene.start)));
    let intake = |store: &Store| Intake {
        store: store.clone(),
        metrics: metrics.clone(),
        now: Arc::new(move || Timestamp::from_millis(start)),
        came: Arc::default(),
    };
    for _ in 0..2 {
        let context = async_nats::jetstream::new(feed.client().clone());
        in_background(intake(&scene.store).run(context, stop.clone()));
    }
    let at = Timestamp::from_millis(start);
    let send = async |id: &str, level: &str, body: Vec<u8>| {
        let subject = format!("churn.alerts.{ACCOUNT}.{level}.test.{id}");
        feed.send(churnd::stream::publisher::Outgoing::new(subject, body)).await
    };
    send("bad", "high", b"{}".to_vec()).await;
    let other = AccountId::parse("other").unwrap();
    send("foreign", "high", body("foreign", &other, at)).await;
    // The same alert under two subjects: its id decides.
    send("a1", "high", body("a1", &account(), at)).await;
    send("a1", "medium", body("a1", &account(), at)).await;
    send("a2", "high", body("a2", &account(), at)).await;
    let context = async_nats::jetstream::new(feed.client().clone());
    eventually(SOON, async || {
        let stream = context.get_stream("CHURN_ALERTS").await.map_err(|error| error.to_string())?;
        let info = stream.consumer_info("notify").await.map_err(|error| error.to_string())?;
        let left = info.num_pending + info.num_ack_pending as u64;
        if left == 0 && info.delivered.stream_sequence == 5 { Ok(()) } else { Err(format!("{left} alerts are left")) }
    })
    .await;
    stop.cancel();
    let dispatcher = scene.dispatcher(SOON);
    scene.turn(&dispatcher, start).await;
    let mut arrived = scene.receivers.arrived("fine@example.com");
    arrived.sort_unstable();
    assert_eq!(arrived, ["a1", "a2"]);
    assert!(metrics.encode().contains(r#"error_type="unreadable_alert"} 2"#), "{}", metrics.encode());
}

#[tokio::test(flavor = "multi_thread")]
async fn scoring_goes_on_while_every_receiver_hangs() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = receiver.local_addr().unwrap();
    let url = cluster.dir().join("url");
    std::fs::write(&url, format!("http://{address}/hook")).unwrap();
    let file = url.to_str().unwrap();
    let adding = ["channel", "add", "hook", "--account", ACCOUNT, "--kind", "webhook", "--secret-file", file];
    assert!(cluster.command(&adding).await.contains("whsec_"), "the secret is shown once");
    let listed = cluster.command(&["channel", "list", "--account", ACCOUNT, "--json"]).await;
    assert!(!listed.contains("whsec_") && !listed.contains("/hook"), "{listed}");
    let builder = Daemon::builder(&cluster, "one");
    let daemon = builder
        .setting("CHURND__SENDING__INTERNAL_RECEIVERS", address.to_string())
        .setting("CHURND__SENDING__TIMEOUT_SECONDS", "120")
        .start()
        .await;
    feed.event("c1", &json!({"event": "payment_failed"})).await;
    // It takes the connection and never answers.
    let held = receiver.accept().await.unwrap();
    for number in 0..500 {
        feed.event(&format!("c{number}"), &json!({"event": "payment_failed"})).await;
    }
    observer.caught_up(SOON).await;
    let pending = async || observer.number("SELECT count(*) FROM deliveries WHERE state = 'pending'").await;
    eventually(SOON, async || match pending().await? {
        500 => Ok(()),
        found => Err(format!("{found} of 500 alerts wait for the receiver")),
    })
    .await;
    drop(held);
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_over_http_take_secrets_and_never_give_them_back() {
    let cluster = Cluster::start().await;
    let key = cluster.command(&["key", "add", "--account", ACCOUNT, "--kind", "secret"]).await.trim().to_owned();
    let daemon = Daemon::builder(&cluster, "one").setting("CHURND__ROLES", "bridge").start().await;
    let ask = async |method: &str, path: &str, body: &str| {
        let headers = [("x-api-key", key.as_str()), ("content-type", "application/json")];
        http::request(daemon.address(), method, path, &headers, body.as_bytes()).await.unwrap()
    };
    let hook = r#"{"name":"ops","target":{"kind":"webhook","url":"https://example.com/canary-1"}}"#;
    let added = ask("POST", "/api/channels", hook).await;
    assert_eq!(added.status, 201, "{}", added.text());
    assert!(added.json()["secret"].as_str().unwrap().starts_with("whsec_") && !added.text().contains("canary"));
    assert_eq!(ask("POST", "/api/channels", hook).await.json()["code"], "channel_exists");
    let path = format!("/api/channels/{}", added.json()["id"].as_str().unwrap());
    for (body, status) in [
        (r#"{"settings":{"perHour":5,"quietHours":{"from":"20:00","to":"08:00","zone":"Europe/Berlin"}}}"#, 200),
        (r#"{"settings":{"perHour":0}}"#, 400),
        (r#"{"target":{"kind":"email","to":["a@example.com"]}}"#, 409),
        (r#"{"target":{"kind":"webhook","url":"canary-2"}}"#, 400),
        (r#"{"target":{"kind":"webhook","url":"https://10.0.0.1/canary-5"}}"#, 400),
        (r#"{"templates":{"subject":"{% if %}","text":""}}"#, 400),
        (r#"{"target":{"kind":"webhook","url":["canary-2"]}}"#, 400),
        (r#"{"target":{"kind":"webhook","url":"https://example.com/canary-3","secrets":["canary-4"]}}"#, 400),
    ] {
        let answer = ask("PATCH", &path, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    let listed = ask("GET", "/api/channels", "").await;
    assert!(!listed.text().contains("whsec_") && !listed.text().contains("canary"), "{}", listed.text());
    let channel = &listed.json()["channels"][0];
    assert_eq!((&channel["settings"]["perHour"], &channel["to"]), (&json!(5), &json!("https://example.com/…")));
    assert_eq!(ask("POST", &format!("{path}/resume"), "").await.status, 204);
    assert_eq!(ask("GET", "/api/deliveries?state=pending", "").await.json()["deliveries"], json!([]));
    let test = ask("POST", &format!("{path}/test"), "").await;
    assert_eq!(test.status, 202, "{}", test.text());
    let waiting = ask("GET", "/api/deliveries?state=pending", "").await.json()["deliveries"][0].clone();
    assert_eq!((&waiting["id"], &waiting["test"]), (&test.json()["deliveryId"], &json!(true)));
    let stranger = format!("/api/channels/{}/test", Uuid::nil());
    assert_eq!(ask("POST", &stranger, "").await.json()["code"], "unknown_channel");
    assert_eq!(ask("DELETE", &path, "").await.status, 204);
    assert_eq!(ask("DELETE", &path, "").await.json()["code"], "unknown_channel");
}

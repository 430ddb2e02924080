//! Errors and panics reach Sentry with place, release and instance, and nothing of whom they concern.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use churnd::{
    config::{Config, Sources},
    telemetry::sentry::{self, Reporter},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{
    Cluster,
    cluster::ACCOUNT,
    daemon::{Daemon, in_background},
    eventually, http,
};

const SOON: Duration = Duration::from_secs(30);

/// Plays Sentry: takes envelopes and remembers them.
pub(crate) struct FakeSentry {
    pub(crate) dsn: String,
    received: Arc<Mutex<Vec<Received>>>,
}

#[derive(Clone)]
pub(crate) struct Received {
    head: String,
    pub(crate) body: String,
}

impl FakeSentry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dsn = format!("http://publickey@{}/42", listener.local_addr().unwrap());
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let kept = Arc::clone(&received);
        in_background(async move {
            while let Ok((stream, _)) = listener.accept().await {
                in_background(answer_all(stream, Arc::clone(&kept)));
            }
        });
        Self { dsn, received }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The events of all envelopes.
    fn events(&self) -> Vec<Value> {
        let of = |received: &Received| {
            let lines: Vec<Value> = received.body.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let item = lines.iter().position(|line| line["type"] == "event").expect("an item of an event");
            lines[item + 1].clone()
        };
        self.received().iter().map(of).collect()
    }
}

async fn answer_all(mut stream: TcpStream, kept: Arc<Mutex<Vec<Received>>>) {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let whole = end + 4 + length.unwrap_or_default();
            if bytes.len() >= whole {
                let body = String::from_utf8_lossy(&bytes[end + 4..whole]).into_owned();
                kept.lock().unwrap().push(Received { head, body });
                bytes.drain(..whole);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                continue;
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

#[track_caller]
fn check_clean(received: &[Received], canaries: &[&str]) {
    for Received { head, body } in received {
        for canary in canaries {
            let canary = canary.to_ascii_lowercase();
            assert!(!body.to_ascii_lowercase().contains(&canary), "`{canary}` is in {body}");
            assert!(!head.contains(&canary), "`{canary}` is in {head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_request_is_reported_without_anything_of_it() {
    let cluster = Cluster::start_durable().await;
    let fake = FakeSentry::start().await;
    let mut daemon = Daemon::builder(&cluster, "canary-watch")
        .setting("CHURND__ROLES", "bridge")
        .setting("CHURND__TRACKING__PUBLISH_PATIENCE_MS", "300")
        .setting("SENTRY_DSN", &fake.dsn)
        .start()
        .await;
    let at = daemon.address();
    let secret = cluster.command(&["key", "add", "--account", ACCOUNT, "--kind", "secret"]).await.trim().to_owned();
    let body = json!({"customerId": "quetzal-17", "userId": "axolotl", "event": "okapi", "id": "tapir-1",
        "properties": {"email": "anna@capybara.example", "card": "4242424242424242"}});
    assert_eq!(http::post_json(at, "/api/track", &secret, &body).await.unwrap().status, 202);
    cluster.nats.kill();
    let path = "/api/track?token=narwhal";
    let answer = http::post_json(at, path, &secret, &body).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    let of_request = |event: &Value| event["tags"]["code"] == "unavailable";
    let event = eventually(SOON, async || {
        let events = fake.events();
        events.into_iter().find(of_request).ok_or_else(|| format!("not among {}", fake.received().len()))
    })
    .await;
    assert_eq!(event["release"], format!("churnd@{}", env!("CARGO_PKG_VERSION")));
    assert_eq!((&event["tags"]["instance"], &event["tags"]["status"]), (&json!("canary-watch"), &json!("503")));
    assert_eq!(event["logger"], "churnd::bridge::error");
    assert!(event["culprit"].as_str().unwrap().starts_with("src/bridge/error.rs:"), "{event}");
    let message = event["message"].as_str().unwrap();
    assert!(message.starts_with("answered unavailable: nats did not confirm"), "{message}");
    // Stopped without NATS: what is reported at the stop still arrives.
    daemon.stop().await;
    let port = cluster.nats.url().rsplit(':').next().unwrap().to_owned();
    let canaries = [
        "quetzal",
        "axolotl",
        "okapi",
        "tapir",
        "anna",
        "capybara",
        "4242",
        "narwhal",
        "acme",
        "churn.events",
        "churn.p",
        &secret,
        &secret[..11],
        "postgres://",
        &port,
    ];
    let received = fake.received();
    check_clean(&received, &canaries);
    let first = &received[0].head;
    assert!(first.starts_with("post /api/42/envelope/ http/1.1"), "{first}");
    assert!(first.contains("x-sentry-auth: sentry ") && first.contains("sentry_key=publickey"), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nobodys_data_passes_through_an_error_or_a_panic() {
    const CANARIES: [&str; 14] = [
        "anna.schmidt@quetzal.example",
        "pk_Quetzal0123456789abcdefghijklmnopqrstuv",
        "sk_Quetzal0123456789abcdefghijklmnopqrstuv",
        "whsec_quetzalquetzalquetzal",
        "cus_Quetzal17",
        "postgres://churnd:quetzal-password@db.quetzal.example:5432/churnd",
        "https://host.example/path?token=quetzal&email=anna",
        "eyJhbGciOiJIUzI1NiJ9.quetzal.sig",
        "{\"customerId\":\"quetzal\",\"traits\":{\"name\":\"Anna\"}}",
        "churn.events.quetzal.anna=40quetzal=2Eexample",
        "192.0.2.77",
        "2001:db8::77",
        "4242424242424242",
        "Quetzalcoatl GmbH",
    ];
    let fake = FakeSentry::start().await;
    let config = sentry::Config { dsn: Some(fake.dsn.clone().into()) };
    let reporter = Reporter::start(&config, "one").unwrap().unwrap();
    reporter.watch_panics();
    let subscriber = tracing_subscriber::registry().with(reporter.clone());
    tracing::subscriber::with_default(subscriber, || {
        let all = CANARIES.join(" ");
        let cause = anyhow::anyhow!("{all}").context(format!("in \"{}\"", CANARIES[0]));
        tracing::error!(
            code = "internal", status = 500, customer.id = CANARIES[13], body = CANARIES[8], error = ?cause,
            stage = CANARIES[4], "cannot store `{all}`: {cause:#}"
        );
        tracing::error!(code = CANARIES[1], partition = %CANARIES[10], "{all}");
        tracing::warn!("{all}");
        assert!(catch_unwind(AssertUnwindSafe(|| panic!("called `Option::unwrap()` on {all}"))).is_err());
    });
    // One place speaks up once in a while.
    for _ in 0..100 {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(reporter.clone()), || {
            tracing::error!("again and again");
        });
    }
    reporter.flush();
    let events = fake.events();
    let levels: Vec<&str> = events.iter().map(|event| event["level"].as_str().unwrap_or("error")).collect();
    assert_eq!(levels, ["error", "error", "fatal", "error"]);
    let message = events[0]["message"].as_str().unwrap();
    assert!(message.starts_with("cannot store …"), "{message}");
    assert_eq!(events[0]["tags"], json!({"code": "internal", "status": "500", "instance": "one"}));
    let panic = &events[2]["exception"]["values"][0];
    assert!(panic["value"].as_str().unwrap().starts_with("called …"), "{panic}");
    let frames = panic["stacktrace"]["frames"].as_array().unwrap();
    assert!(
        frames.iter().any(|frame| frame["function"].as_str().is_some_and(|name| name.contains("sentry"))),
        "{panic}"
    );
    let mut canaries = CANARIES.to_vec();
    canaries.extend(["quetzal", "anna", "schmidt", "4242", "192.0.2", "db8", "gmbh", "password@"]);
    check_clean(&fake.received(), &canaries);
}

#[test]
fn a_wrong_dsn_is_a_mistake_of_the_configuration_that_does_not_show_it() {
    let load = |dsn: &str| {
        let environment = vec![("SENTRY_DSN".to_owned(), dsn.to_owned())];
        Config::load(&Sources { environment, ..Sources::default() }).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(load("https://key@sentry.example/42"), Ok(()));
    assert_eq!(load("http://key@127.0.0.1:9000/42"), Ok(()));
    for wrong in
        ["quetzal", "https://quetzal.example/42", "https://quetzal@sentry.example/", "http://quetzal@sentry.example/1"]
    {
        let told = load(wrong).unwrap_err();
        assert!(told.contains("SENTRY_DSN: sentry.dsn ") && told.contains("https://KEY@HOST/PROJECT"), "{told}");
        assert!(!told.contains("quetzal"), "{told}");
    }
}

//! An account whose tracking breaks: one alert instead of one for each customer, and who is really silent is told of later.
//!
//! Days pass by the daemons' clock, and the volume of hours that nobody waits for stands in the table beforehand.

use std::{collections::BTreeMap, time::Duration};

use churnd::stream::publisher::Outgoing;
use serde_json::{Value, json};

use crate::support::{
    Cluster, Feed, Observer,
    daemon::{Builder, Daemon},
    eventually, http,
};

const SOON: Duration = Duration::from_secs(60);
const SLOT_MILLIS: i64 = 900_000;
const HOUR_MILLIS: i64 = 3_600_000;
const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;
/// Customers of the account whose tracking breaks, and of the other one.
const SILENT: usize = 1_200;
const OTHERS: usize = 20;
/// Of the silent ones, those who are seen again when tracking works again.
const RETURNING: usize = 150;

/// A daemon whose clock runs ahead.
fn daemon(cluster: &Cluster, instance: &str, hours: i64) -> Builder {
    Daemon::builder(cluster, instance)
        .setting("CHURND_CLOCK_AHEAD_SECONDS", (hours * 3_600).to_string())
        .setting("CHURND__PIPELINE__CHECKPOINT_INTERVAL_MS", "50")
        .setting("CHURND__PIPELINE__SETTLE_SECONDS", "1")
}

/// Says that so many events of an account came in each quarter of an hour of a span.
async fn pretend(cluster: &Cluster, account: &str, from: i64, until: i64, events: i64) {
    let (from, until) = (from.div_euclid(SLOT_MILLIS), until.div_euclid(SLOT_MILLIS));
    let sql = "INSERT INTO account_volume (account, slot, shard, events)
        SELECT $1, slot, 99, $4 FROM generate_series($2::bigint, $3::bigint) AS slot
        ON CONFLICT (account, slot, shard) DO UPDATE SET events = excluded.events";
    cluster.sql().await.execute(sql, &[&account, &from, &until, &events]).await.unwrap();
}

/// A customer who used the product last week, logged in before, and was not seen since.
fn history(account: &str, customer: &str, base: i64) -> Vec<Outgoing> {
    let at = |millis: i64| churnd::event::time::Timestamp::from_millis(millis);
    let event = |name: &str, millis: i64| {
        Outgoing::new(
            format!("churn.events.{account}.{customer}"),
            json!({"event": name, "timestamp": at(millis)}).to_string(),
        )
    };
    // The login is two weeks old in two hours from now.
    let login = event("login", base - 14 * DAY_MILLIS + 2 * HOUR_MILLIS);
    let used = base - 8 * DAY_MILLIS - 12 * HOUR_MILLIS;
    vec![login, event("report_viewed", used), event("report_viewed", used + 60_000)]
}

fn name(number: usize) -> String {
    format!("c{number}")
}

/// How many of these alerts there are of each account, kind and level.
fn counted(alerts: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for body in alerts {
        let text = |field: &str| body[field].as_str().unwrap_or("?").to_owned();
        *counts.entry(format!("{} {} {}", text("account"), text("kind"), text("level"))).or_default() += 1;
    }
    counts
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(alert, count)| ((*alert).to_owned(), *count)).collect()
}

/// Waits until so many customers of an account have a score, and all that is to be published is.
async fn scored(observer: &Observer<'_>, account: &str, score: i64, customers: usize) {
    eventually(SOON, async || {
        let sql = format!("SELECT count(*) FROM customer_states WHERE account = '{account}' AND score = {score}");
        let found = observer.number(&sql).await?;
        let waiting = "SELECT count(*) FROM outbox WHERE published_at IS NULL AND kind = 'alert'";
        match (usize::try_from(found).unwrap(), observer.number(waiting).await?) {
            (found, 0) if found == customers => Ok(()),
            (found, waiting) => Err(format!("{found} of {account} have {score}, {waiting} alerts wait")),
        }
    })
    .await;
}

/// Waits until exactly these alerts are published, and gives them. Each look into the stream takes a consumer for a minute,
/// and it has few to give: so there is none before their number is right.
async fn published(observer: &Observer<'_>, expected: &[(&str, usize)]) -> Vec<Value> {
    let total: usize = expected.iter().map(|(_, count)| count).sum();
    eventually(SOON, async || match observer.count("CHURN_ALERTS").await? {
        found if found == total as u64 => Ok(()),
        found => Err(format!("{found} of {total} alerts")),
    })
    .await;
    let all = observer.messages("CHURN_ALERTS").await.unwrap();
    let all: Vec<Value> = all.iter().map(|stored| stored.json()).collect();
    assert_eq!(counted(&all), counts(expected));
    all
}

async fn metric(daemon: &Daemon, name: &str) -> f64 {
    let answer = http::get(daemon.address(), "/metrics").await.unwrap();
    let text = answer.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().parse().unwrap_or(0.0)
}

fn anomaly<'a>(alerts: &'a [Value], level: &str) -> &'a Value {
    alerts.iter().find(|body| body["kind"] == "ingest.anomaly" && body["level"] == level).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_tracking_is_one_alert_and_not_one_for_each_customer() {
    let cluster = Cluster::start().await;
    cluster.command(&["account", "add", "beta"]).await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let base = crate::support::now();
    for account in ["acme", "beta"] {
        pretend(&cluster, account, base - 9 * DAY_MILLIS, base, 100).await;
    }
    let of =
        |account: &'static str, count: usize| (0..count).flat_map(move |number| history(account, &name(number), base));
    feed.send_all(of("acme", SILENT).chain(of("beta", OTHERS)).collect()).await;

    // As long as events come, nobody is at risk.
    let mut first = daemon(&cluster, "one", 0).start().await;
    observer.caught_up(SOON).await;
    scored(&observer, "acme", 25, SILENT).await;
    scored(&observer, "beta", 25, OTHERS).await;
    assert_eq!(observer.count("CHURN_ALERTS").await, Ok(0));
    first.kill();

    // Three hours later: of acme nothing came, and everybody's login is two weeks old.
    pretend(&cluster, "beta", base, base + 3 * HOUR_MILLIS, 100).await;
    let (one, two) = tokio::join!(daemon(&cluster, "one", 3).start(), daemon(&cluster, "two", 3).start());
    let mut instances = [one, two];
    scored(&observer, "acme", 55, SILENT).await;
    scored(&observer, "beta", 55, OTHERS).await;
    let told = ("beta risk.raised medium", OTHERS);
    let alerts = published(&observer, &[("acme ingest.anomaly high", 1), told]).await;
    let body = anomaly(&alerts, "high");
    assert_eq!((&body["customerId"], &body["score"], &body["details"]), (&Value::Null, &json!(0), &json!([])));
    let said = "Events fell to 0 in the last 90 minutes, usually about 600: tracking may be broken";
    assert_eq!(body["factors"], json!([said]));
    let mut held = 0.0;
    for instance in &instances {
        eventually(SOON, async || {
            let guarded = metric(instance, "churnd_accounts_guarded").await;
            if guarded == 1.0 { Ok(()) } else { Err(format!("{guarded}")) }
        })
        .await;
        held += metric(instance, "churnd_alerts_held_total{reason=\"tracking\"}").await;
    }
    assert!(held >= SILENT as f64, "{held}");
    let doctor = cluster.command(&["doctor"]).await;
    assert!(doctor.contains("hardly any events of acme since"), "{doctor}");
    let watched =
        cluster.command(&["watch", "--account", "acme", "--since", "2020-01-01T00:00:00Z", "--count", "1"]).await;
    assert!(watched.contains("! no events") && watched.contains(&format!("account acme: {said}")), "{watched}");

    // Who does not pay is told of all the same, also after a crash, and nothing is told twice.
    for instance in &mut instances {
        instance.kill();
    }
    feed.event(&name(0), &json!({"event": "payment_failed"})).await;
    let mut third = daemon(&cluster, "three", 3).start().await;
    observer.caught_up(SOON).await;
    scored(&observer, "acme", 95, 1).await;
    let unpaid = ("acme risk.raised medium", 1);
    published(&observer, &[("acme ingest.anomaly high", 1), told, unpaid]).await;

    // Events come again, and some customers with them.
    pretend(&cluster, "acme", base + 2 * HOUR_MILLIS, base + 3 * HOUR_MILLIS + SLOT_MILLIS, 100).await;
    let seen = (SILENT - RETURNING..SILENT).map(|number| {
        let body = json!({"event": "login"}).to_string();
        Outgoing::new(format!("churn.events.acme.{}", name(number)), body)
    });
    feed.send_all(seen.collect()).await;
    observer.caught_up(SOON).await;
    let back = ("acme ingest.anomaly low", 1);
    let alerts = published(&observer, &[("acme ingest.anomaly high", 1), back, told, unpaid]).await;
    assert_eq!(anomaly(&alerts, "low")["previousLevel"], "high");
    third.kill();

    // Three more hours later the others would have logged in long since, even with the time that was missed.
    for account in ["acme", "beta"] {
        pretend(&cluster, account, base + 3 * HOUR_MILLIS, base + 6 * HOUR_MILLIS, 100).await;
    }
    let mut last = daemon(&cluster, "four", 6).start().await;
    let silent = SILENT - RETURNING - 1;
    let all = [
        ("acme ingest.anomaly high", 1),
        back,
        told,
        // The one who did not pay is at high risk by now.
        ("acme risk.raised high", 1),
        ("acme risk.raised medium", silent + 1),
    ];
    published(&observer, &all).await;
    assert!(last.stop().await.success());
    let total: usize = all.iter().map(|(_, count)| count).sum();
    assert_eq!(observer.count("CHURN_ALERTS").await, Ok(total as u64), "stopping tells nothing more");
}

//! One thread through all layers: event, state, checkpoint, alert, bucket, answer; through a crash and a stop.

use std::time::Duration;

use churnd::event::time::Timestamp;
use serde_json::{Value, json};

use crate::support::{Cluster, Feed, Observer, daemon::Daemon, eventually, now};

const SOON: Duration = Duration::from_secs(60);

fn at(days_ago: i64) -> Value {
    json!(Timestamp::from_millis(now() - days_ago * 86_400_000))
}

#[tokio::test]
async fn an_event_becomes_a_state_an_alert_an_entry_and_an_answer_once_whatever_dies() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let mut daemon = Daemon::start(&cluster, "one").await;

    feed.event("globex", &json!({"event": "login", "id": "e1", "timestamp": at(20)})).await;
    feed.event("globex", &json!({"event": "payment_failed", "id": "e2"})).await;
    let alert = eventually(SOON, async || {
        let alerts = observer.messages("CHURN_ALERTS").await?;
        alerts.first().cloned().ok_or("no alert yet".to_owned())
    })
    .await;
    let body = alert.json();
    assert_eq!(alert.subject, format!("churn.alerts.acme.high.globex.{}", body["id"].as_str().unwrap()));
    assert_eq!((&body["type"], &body["kind"]), (&json!("io.churnd.alert.v1"), &json!("risk.raised")));
    assert_eq!((&body["account"], &body["customerId"]), (&json!("acme"), &json!("globex")));
    assert_eq!((&body["level"], &body["score"], &body["previousLevel"]), (&json!("high"), &json!(70), &json!("low")));
    assert_eq!(body["factors"], json!(["No login for 20 days", "Recent payment failure"]));
    let risk = observer.risk("globex", None).await.unwrap();
    assert_eq!((&risk["score"], &risk["level"], &risk["factors"]), (&json!(70), &json!("high"), &body["factors"]));
    eventually(SOON, async || {
        let bucket = observer.bucket().await?;
        let entry = bucket.get("acme.globex").ok_or("no entry yet")?;
        if entry["score"] == 70 && entry["level"] == "high" { Ok(()) } else { Err(format!("the entry says {entry}")) }
    })
    .await;
    observer.caught_up(SOON).await;

    // A crash: what comes meanwhile is applied to what was stored, and nothing is told twice.
    daemon.kill();
    feed.event("globex", &json!({"event": "billing_page_view", "id": "e3"})).await;
    feed.event("globex", &json!({"event": "payment_succeeded", "id": "e4"})).await;
    feed.event("initech", &json!({"event": "payment_failed", "id": "e5"})).await;
    let mut daemon = Daemon::start(&cluster, "one").await;
    observer.caught_up(SOON).await;
    let risk = observer.risk("globex", None).await.unwrap();
    assert_eq!(risk["factors"], json!(["No login for 20 days", "Viewed billing page recently"]));
    assert_eq!((&risk["score"], &risk["level"]), (&json!(50), &json!("medium")));
    let told = eventually(SOON, async || {
        let alerts = observer.messages("CHURN_ALERTS").await?;
        let told = alerts.iter().map(|alert| {
            let body = alert.json();
            format!("{} {} {}", body["customerId"].as_str().unwrap(), body["kind"].as_str().unwrap(), body["level"])
        });
        let mut told: Vec<String> = told.collect();
        told.sort();
        if told.len() >= 3 { Ok(told) } else { Err(format!("so far {told:?}")) }
    })
    .await;
    let expected = ["globex risk.lowered \"medium\"", "globex risk.raised \"high\"", "initech risk.raised \"medium\""];
    assert_eq!(told, expected);

    // What the crash left unmarked is offered again, refused by the stream, and marked.
    let unpublished = "SELECT count(*) FROM outbox WHERE published_at IS NULL AND kind <> 'held_alert'";
    eventually(SOON, async || match observer.number(unpublished).await? {
        0 => Ok(()),
        left => Err(format!("{left} messages are not marked as published")),
    })
    .await;

    // A stop: everything is stored and published, the partitions are free, nobody waits for a lease.
    feed.event("globex", &json!({"event": "login", "id": "e6"})).await;
    observer.caught_up(SOON).await;
    feed.event("globex", &json!({"event": "login", "id": "e7"})).await;
    let status = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{}", daemon.log().text());
    assert_eq!(observer.owners().await.unwrap(), [(String::new(), 16)].into());
    assert_eq!(observer.number(unpublished).await.unwrap(), 0);
    let _daemon = Daemon::start(&cluster, "two").await;
    let last = observer.caught_up(SOON).await;
    let sums = "SELECT sum(applied)::bigint FROM partitions WHERE role = 'engine'";
    assert_eq!(observer.number(sums).await.unwrap(), i64::try_from(last).unwrap(), "each event was applied once");
    assert_eq!(observer.risk("globex", None).await.unwrap()["score"], 20);
}

#[tokio::test]
async fn a_daemon_that_owns_nothing_any_more_says_so_and_can_be_stopped_without_its_servers() {
    let cluster = Cluster::start_durable().await;
    let mut daemon = Daemon::start(&cluster, "one").await;
    cluster.nats.kill();
    let code = daemon.stop().await.code();
    assert_eq!(code, Some(0), "{}", daemon.log().text());
}

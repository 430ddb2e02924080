//! Memory: ten times more customers than it holds, and Postgres away while events wait.

use std::time::Duration;

use churnd::{
    config::{Config, Sources},
    stream::publisher::Outgoing,
};
use serde_json::json;

use crate::support::{Cluster, Feed, Observer, daemon::Daemon, eventually, feed, http};

const SOON: Duration = Duration::from_secs(120);
const EVENTS: usize = 120_000;
/// Some 3,600 of them fit: hot ones, changed ones, and those in the cache.
const CUSTOMERS: usize = 36_000;
const DIRTY_AT_MOST: usize = 1_000;
const BATCH: usize = 500;
const SETTINGS: [(&str, &str); 4] = [
    ("CHURND__PIPELINE__HOT_CUSTOMERS", "2000"),
    ("CHURND__PIPELINE__DIRTY_CUSTOMERS_MAX", "1000"),
    ("CHURND__PIPELINE__CACHE_BYTES", "262144"),
    ("CHURND__PIPELINE__BATCH", "500"),
];

#[tokio::test]
async fn memory_keeps_its_bound_and_nothing_is_lost_with_far_more_customers_and_postgres_away() {
    let cluster = Cluster::start_durable().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let events = (0..EVENTS).map(|number| {
        // Neighbours in the stream are strangers in memory.
        let customer = number * 7_919 % CUSTOMERS;
        feed::event(&format!("c-{customer}"), &json!({"event": "report_created", "id": format!("e{number}")}))
    });
    let mut events = events.peekable();
    while events.peek().is_some() {
        feed.send_all(events.by_ref().take(10_000).collect()).await;
    }
    let mut daemon = start(&cluster).await;

    eventually(SOON, async || {
        let received = observer.number("SELECT sum(received)::bigint FROM partitions WHERE role = 'engine'").await?;
        if received > 10_000 { Ok(()) } else { Err(format!("{received} received")) }
    })
    .await;
    cluster.postgres().freeze();
    reading_stops(&daemon).await;
    let dirty = gauge(&daemon, "churnd_windows_dirty").await;
    assert!(dirty <= (DIRTY_AT_MOST + BATCH) as f64, "{dirty} changed customers are held");
    cluster.postgres().thaw();

    observer.caught_up(SOON).await;
    let applied = observer.number("SELECT sum(applied)::bigint FROM partitions WHERE role = 'engine'").await.unwrap();
    assert_eq!(applied, EVENTS as i64);
    let stored = observer.number("SELECT count(*) FROM customer_states").await.unwrap();
    assert_eq!(stored, CUSTOMERS as i64);
    keeps_its_bound(&daemon);
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn messages_that_nobody_can_use_take_no_more_memory_than_others_while_postgres_is_away() {
    const POISON: usize = 40_000;
    let cluster = Cluster::start_durable().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let mut daemon = start(&cluster).await;
    // Of a customer in memory: for others Postgres would be asked first.
    feed.event("globex", &json!({"event": "login", "id": "e1"})).await;
    observer.caught_up(SOON).await;
    cluster.postgres().freeze();
    let body = format!("{{\"event\": {}", "x".repeat(2_000));
    for _ in 0..POISON / 1_000 {
        feed.send_all(vec![Outgoing::new(feed::subject_of("globex"), body.clone()); 1_000]).await;
    }
    reading_stops(&daemon).await;
    cluster.postgres().thaw();
    observer.caught_up(SOON).await;
    let dead = observer.number("SELECT sum(dead)::bigint FROM partitions WHERE role = 'engine'").await.unwrap();
    assert_eq!(dead, POISON as i64);
    assert_eq!(observer.count("CHURN_DEAD").await.unwrap(), POISON as u64);
    keeps_its_bound(&daemon);
    assert!(daemon.stop().await.success());
}

async fn start(cluster: &Cluster) -> Daemon {
    let builder = Daemon::builder(cluster, "one");
    SETTINGS.iter().fold(builder, |builder, (name, value)| builder.setting(name, value)).start().await
}

/// What changed waits for Postgres, and once enough waits nothing more is read: then the gauges stand still.
async fn reading_stops(daemon: &Daemon) {
    let mut before = (f64::NAN, f64::NAN);
    let (_, pending) = eventually(SOON, async || {
        // Standing still is seen only over a while.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let dirty = gauge(daemon, "churnd_windows_dirty").await;
        let now = (dirty, gauge(daemon, "churnd_consumer_pending_messages").await);
        if std::mem::replace(&mut before, now) == now { Ok(now) } else { Err(format!("still changing: {now:?}")) }
    })
    .await;
    assert!(pending > 0.0, "the daemon read on to the end without Postgres");
}

/// The pages of the program itself, which are many in a debug build, are not what the settings are about.
fn keeps_its_bound(daemon: &Daemon) {
    let peak = status_bytes(daemon.pid(), "VmHWM:") - status_bytes(daemon.pid(), "RssFile:");
    let bound = bound();
    assert!(peak <= bound + bound / 10, "{peak} bytes at the most, {bound} is the bound");
}

/// What the settings allow.
fn bound() -> u64 {
    let environment = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::load(&Sources { environment, ..Sources::default() }).unwrap().pipeline.memory_bound()
}

/// What the kernel says of a process' memory.
fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1_024
}

async fn gauge(daemon: &Daemon, name: &str) -> f64 {
    let text = http::get(daemon.address(), "/metrics").await.unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.parse().unwrap()
}

//! What a daemon that does not get ahead tells readiness and the service manager.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{
    Cluster, Feed, Observer,
    daemon::{Daemon, Log},
    eventually, feed, http,
    manager::Manager,
};

const SOON: Duration = Duration::from_secs(60);
const WATCHDOG: Duration = Duration::from_millis(600);

#[tokio::test]
async fn bridge_that_has_no_pipeline_is_never_stuck() {
    let cluster = Cluster::start().await;
    let manager = Manager::listen();
    let builder = Daemon::builder(&cluster, "door").setting("CHURND__ROLES", "bridge");
    let builder = builder.setting("CHURND__WATCHDOG__STUCK_AFTER_SECONDS", "1");
    let bridge = manager.starts(builder, WATCHDOG).start().await;
    // Ten signs of life at three in each period of the watchdog take twice as long as a standstill may.
    eventually(SOON, async || match manager.signs_of_life() {
        10.. => Ok(()),
        signs => Err(format!("{signs} signs of life; {:?}", manager.heard())),
    })
    .await;
    assert_eq!(http::get(bridge.address(), "/readyz").await.unwrap().status, 200);
    assert!(manager.heard().contains(&"STATUS=working".to_owned()), "{:?}", manager.heard());
}

#[tokio::test]
async fn outage_of_postgres_takes_readiness_at_once_and_the_watchdogs_patience_only_in_the_end() {
    let cluster = Cluster::start_durable().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let manager = Manager::listen();
    let builder = Daemon::builder(&cluster, "one").setting("CHURND__PIPELINE__BATCH", "10");
    let builder = builder.setting("CHURND__WATCHDOG__STUCK_AFTER_SECONDS", "1");
    let builder = builder.setting("CHURND__WATCHDOG__OUTAGE_PATIENCE_SECONDS", "6");
    let mut daemon = manager.starts(builder, WATCHDOG).start().await;
    let running = manager.hears("READY=1", 0, SOON).await;

    cluster.postgres().freeze();
    let login =
        |number: usize| feed::event(&format!("c-{number}"), &json!({"event": "login", "id": format!("e{number}")}));
    feed.send_all((0..500).map(login).collect()).await;
    let excused = manager.hears("postgres does not answer", running, SOON).await;
    let readiness = http::get(daemon.address(), "/readyz").await.unwrap();
    assert_eq!(readiness.status, 503, "{}", readiness.text());
    assert!(readiness.text().contains("no progress for"), "{}", readiness.text());
    manager.hears("WATCHDOG=1", excused, SOON).await;

    let given_up = manager.hears("longer than watchdog.outage_patience_seconds", excused, SOON).await;
    assert!(log_says(daemon.log(), "not feeding the watchdog"));
    let silent_from = manager.signs_of_life();
    // The status is told anew with each beat that does not feed.
    let later = manager.hears("longer than", given_up, SOON).await;
    manager.hears("longer than", later, SOON).await;
    assert_eq!(manager.signs_of_life(), silent_from, "fed while it is stuck: {:?}", manager.heard());

    cluster.postgres().thaw();
    let working = manager.hears("STATUS=working", later, SOON).await;
    manager.hears("WATCHDOG=1", working, SOON).await;
    observer.caught_up(SOON).await;
    assert_eq!(
        observer.number("SELECT sum(applied)::bigint FROM partitions WHERE role = 'engine'").await.unwrap(),
        500
    );
    daemon.wait_ready().await;
    daemon.signal(Signal::SIGTERM);
    manager.hears("STOPPING=1", working, SOON).await;
    assert!(daemon.ended(SOON).await.success());
}

fn log_says(log: &Log, words: &str) -> bool {
    log.text().contains(words)
}

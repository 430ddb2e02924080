//! Several instances: they share the partitions, succeed each other, and who slept past its lease can change nothing.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use crate::{
    model::traffic::Traffic,
    support::{
        Cluster, Feed, Observer,
        daemon::{Builder, Daemon},
        eventually,
        instance::counter,
        invariants::{Expected, violations},
        now,
        storm::outgoing,
    },
};

const SOON: Duration = Duration::from_secs(60);
const EVENTS: usize = 24_000;
const CUSTOMERS: usize = 400;

fn instance(cluster: &Cluster, name: &str) -> Builder {
    Daemon::builder(cluster, name)
        .setting("CHURND__POSTGRES__LEASE_SECONDS", "2")
        .setting("CHURND__PIPELINE__CHECKPOINT_INTERVAL_MS", "100")
        .setting("CHURND__PIPELINE__SETTLE_SECONDS", "1")
}

/// Waits until the partitions are shared like this.
async fn shared(observer: &Observer<'_>, expected: &[(&str, usize)]) {
    let expected: BTreeMap<String, usize> = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    eventually(SOON, async || {
        let owners = observer.owners().await?;
        if owners == expected { Ok(()) } else { Err(format!("{owners:?}, should become {expected:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_slept_past_its_lease_changes_nothing_and_gets_its_share_back() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let until = now();
    let traffic = Traffic::draw(1, EVENTS, CUSTOMERS, until);
    let one = instance(&cluster, "one").start().await;
    let two = instance(&cluster, "two").start().await;
    shared(&observer, &[("one", 8), ("two", 8)]).await;

    let parts: Vec<_> = traffic.sent.chunks(traffic.sent.len().div_ceil(6)).map(outgoing).collect();
    let mut refused = 0;
    for (round, part) in parts.into_iter().enumerate() {
        let (sleeper, name, other) = if round % 2 == 0 { (&one, "one", "two") } else { (&two, "two", "one") };
        let before = counter(sleeper, "churnd_fenced_writes_total").await;
        let sending = feed.send_all(part);
        let sleeping = async {
            // In the midst of its work, and until the other one has all of it.
            eventually(SOON, async || match observer.is_caught_up().await {
                Ok(_) => Err("nothing has come yet"),
                Err(_) => Ok(()),
            })
            .await;
            sleeper.freeze();
            shared(&observer, &[(other, 16)]).await;
        };
        tokio::join!(sending, sleeping);
        sleeper.thaw();
        shared(&observer, &[("one", 8), ("two", 8)]).await;
        observer.caught_up(SOON).await;
        refused += counter(sleeper, "churnd_fenced_writes_total").await - before;
        println!("round {round}: {name} slept, {refused} writes of sleepers were refused so far");
    }
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
    let found = violations(&observer, &expected).await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
    assert!(refused > 0, "no sleeper tried to write, so nothing was shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_come_and_go_and_are_killed_without_a_gap() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let until = now();
    let traffic = Traffic::draw(2, EVENTS, CUSTOMERS, until);
    let mut parts = traffic.sent.chunks(traffic.sent.len().div_ceil(5)).map(outgoing);
    let mut one = instance(&cluster, "one").start().await;
    let two = tokio::join!(feed.send_all(parts.next().unwrap()), instance(&cluster, "two").start()).1;
    shared(&observer, &[("one", 8), ("two", 8)]).await;
    let mut three = tokio::join!(feed.send_all(parts.next().unwrap()), instance(&cluster, "three").start()).1;
    eventually(SOON, async || {
        let owners = observer.owners().await?;
        let fair = owners.len() == 3 && owners.values().all(|count| (5..=6).contains(count));
        if fair { Ok(()) } else { Err(format!("{owners:?}")) }
    })
    .await;
    let told = cluster.command(&["doctor"]).await;
    assert!(told.contains("all 16 owned, by 3 instances\n"), "{told}");
    assert!(told.contains("three: 5 (") || told.contains("three: 6 ("), "{told}");

    // A crash: the lease need not run out, the connection's end is enough.
    let killing = async {
        one.kill();
        shared(&observer, &[("two", 8), ("three", 8)]).await;
    };
    tokio::join!(feed.send_all(parts.next().unwrap()), killing);
    // A stop: the partitions are given away at once.
    let stopping = async {
        assert_eq!(three.stop().await.code(), Some(0), "{}", three.log().text());
        shared(&observer, &[("two", 16)]).await;
    };
    tokio::join!(feed.send_all(parts.next().unwrap()), stopping);
    feed.send_all(parts.next().unwrap()).await;
    observer.caught_up(SOON).await;
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
    let found = violations(&observer, &expected).await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(counter(&two, "churnd_fenced_writes_total").await, 0, "nobody wrote what was not its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_sharing_instances_reads_nothing_twice() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let mut one = instance(&cluster, "one").start().await;
    let mut two = instance(&cluster, "two").start().await;
    shared(&observer, &[("one", 8), ("two", 8)]).await;
    // Without ids: reading one again would count it again.
    let events = (0..400).map(|number| {
        let customer = format!("c{number}");
        crate::support::feed::event(&customer, &json!({"event": "report_exported"}))
    });
    feed.send_all(events.collect()).await;
    let last = observer.caught_up(SOON).await;
    for daemon in [&mut one, &mut two] {
        assert_eq!(daemon.stop().await.code(), Some(0));
    }
    let _one = instance(&cluster, "one").start().await;
    let _two = instance(&cluster, "two").start().await;
    shared(&observer, &[("one", 8), ("two", 8)]).await;
    feed.event("c0", &json!({"event": "report_exported"})).await;
    observer.caught_up(SOON).await;
    let applied = observer.number("SELECT sum(applied)::bigint FROM partitions WHERE role = 'engine'").await.unwrap();
    assert_eq!(u64::try_from(applied).unwrap(), last + 1);
}

/// Two instances over a planted bug, one asleep past its lease again and again; gives what was noticed.
async fn noticed(mutant: &str) -> Vec<String> {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let until = now();
    let traffic = Traffic::draw(3, EVENTS, CUSTOMERS, until);
    let one = instance(&cluster, "one").setting("CHURND_MUTANT", mutant).start().await;
    let _two = instance(&cluster, "two").setting("CHURND_MUTANT", mutant).start().await;
    shared(&observer, &[("one", 8), ("two", 8)]).await;
    for part in traffic.sent.chunks(traffic.sent.len().div_ceil(4)).map(outgoing) {
        let sleeping = async {
            eventually(SOON, async || if observer.is_caught_up().await.is_ok() { Err("not yet") } else { Ok(()) })
                .await;
            one.freeze();
            shared(&observer, &[("two", 16)]).await;
        };
        tokio::join!(feed.send_all(part), sleeping);
        one.thaw();
        shared(&observer, &[("one", 8), ("two", 8)]).await;
    }
    // A watermark that went back is written forward again by whoever reads on: that is as good as it gets.
    observer.caught_up(SOON).await;
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
    violations(&observer, &expected).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_without_fencing_are_noticed() {
    let found = noticed("no_fencing").await;
    println!("{found:#?}");
    assert!(!found.is_empty());
}

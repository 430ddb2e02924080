//! Zombies: instances whose partitions somebody else has taken over, and who still try to write. Nothing is accepted.

use std::time::Duration;

use churnd::{
    engine::checkpoint::{Checkpoint, Counters},
    event::{
        ids::{Epoch, PartitionId, StreamSequence},
        time::Timestamp,
    },
    store::{
        self, Store, StoreError,
        checkpoint::{CheckpointWrite, PartWrite},
        leases::{Role, Target},
    },
};
use secrecy::SecretString;
use serde_json::json;

use crate::support::{
    Cluster, Feed, Observer,
    daemon::{Builder, Daemon},
    eventually,
    feed::event,
    instance::counter,
    invariants, now,
    proxy::{Direction, Link},
};

const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: u16 = 16;

fn write(partition: u16, epoch: Epoch, from: u64, to: u64) -> CheckpointWrite {
    let checkpoint = Checkpoint {
        partition: PartitionId(partition),
        states: vec![],
        scores: vec![],
        outbox: vec![],
        links: vec![],
        volume: vec![],
        counters: Counters { received: 1, applied: 1, ..Counters::default() },
    };
    let part = PartWrite {
        epoch,
        from: StreamSequence(from),
        to: StreamSequence(to),
        to_time: None,
        stream_created: None,
        rules_hash: None,
        checkpoint,
        forgotten: vec![],
        unwanted: vec![],
    };
    CheckpointWrite::new(vec![part], vec![])
}

/// In each round another instance takes everything over, and its predecessor, who was not told, goes on: before its
/// successor has written anything, and after.
#[tokio::test]
async fn of_five_hundred_checkpoints_by_superseded_owners_none_is_accepted() {
    const ROUNDS: u64 = 18;
    let cluster = Cluster::start().await;
    let config =
        store::Config { url: SecretString::from(cluster.postgres_url()), pool_size: 4, ..store::Config::default() };
    let store = Store::connect(&config).unwrap();
    store.ensure_partitions(Role::Engine, PARTITIONS).await.unwrap();
    let (mut refused, mut accepted) = (0, 0);
    let mut predecessor: Option<Vec<Epoch>> = None;
    for round in 0..ROUNDS {
        let session = store.open_session(&format!("instance-{round}")).await.unwrap();
        let leases = eventually(SOON, async || {
            let leases = session.acquire_and_renew(Role::Engine, Target::FairShare).await.unwrap();
            let held = leases.held.len();
            if held == usize::from(PARTITIONS) { Ok(leases) } else { Err(format!("only {held} so far")) }
        })
        .await;
        let mut epochs = vec![Epoch(0); usize::from(PARTITIONS)];
        for lease in &leases.held {
            epochs[usize::from(lease.partition.0)] = lease.epoch;
        }
        for partition in 0..PARTITIONS {
            let place = usize::from(partition);
            let mut try_as_zombie = async |from| {
                let Some(zombie) = &predecessor else { return };
                match store.store_checkpoint(&write(partition, zombie[place], from, from + 1)).await {
                    Ok(()) => accepted += 1,
                    Err(StoreError::Fenced { .. }) => refused += 1,
                    Err(error) => panic!("{error:?}"),
                }
            };
            try_as_zombie(round).await;
            store.store_checkpoint(&write(partition, epochs[place], round, round + 1)).await.unwrap();
            try_as_zombie(round + 1).await;
        }
        predecessor = Some(epochs);
        // Its connection ends without a farewell, as that of a process that was killed.
        drop(session);
    }
    println!("{refused} writes of zombies were refused, {accepted} accepted");
    assert!(refused >= 500 && accepted == 0, "{refused} refused, {accepted} accepted");
    let observer = Observer::of(&cluster).await;
    let applied = observer.number("SELECT sum(applied)::bigint FROM partitions WHERE role = 'engine'").await.unwrap();
    assert_eq!(u64::try_from(applied).unwrap(), ROUNDS * u64::from(PARTITIONS));
}

fn instance(cluster: &Cluster, name: &str) -> Builder {
    Daemon::builder(cluster, name)
        .setting("CHURND__POSTGRES__LEASE_SECONDS", "2")
        .setting("CHURND__PIPELINE__CHECKPOINT_INTERVAL_MS", "100")
        .setting("CHURND__PIPELINE__SETTLE_SECONDS", "1")
}

/// The worst that can happen to an alert and to an entry of the bucket: sent in good faith, held up on the way, and
/// delivered when a successor has long written something newer.
#[tokio::test(flavor = "multi_thread")]
async fn scores_and_alerts_that_were_held_up_on_the_way_replace_nothing_newer() {
    const CUSTOMERS: usize = 400;
    let cluster = Cluster::start_durable().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let link = Link::to(cluster.nats.port()).await;
    let url = format!("nats://127.0.0.1:{}", link.port());
    let one = instance(&cluster, "one").setting("CHURND__NATS__URL", url).start().await;
    let send = async |name: &str| {
        let at = json!(Timestamp::from_millis(now()));
        let properties = json!({"sentiment": "negative"});
        let body = |customer: usize| json!({"event": name, "id": format!("{name}-{customer}"), "timestamp": at, "properties": properties});
        feed.send_all((0..CUSTOMERS).map(|customer| event(&format!("c{customer}"), &body(customer))).collect()).await;
    };
    let scored = async |score: i64| {
        let sql = format!("SELECT count(*) FROM customer_states WHERE score = {score}");
        eventually(SOON, async || match observer.number(&sql).await? {
            count if usize::try_from(count) == Ok(CUSTOMERS) => Ok(()),
            count => Err(format!("{count} customers have a score of {score}")),
        })
        .await;
    };
    let calm = || {
        eventually(SOON, async || match invariants::settled(&observer, Duration::ZERO).await? {
            found if found.is_empty() => Ok(()),
            found => Err(found.join("; ")),
        })
    };

    // All entries are there, so the instance knows what it will replace.
    send("billing_page_view").await;
    scored(20).await;
    calm().await;

    // What it stores now cannot be told: alerts and scores wait on their way.
    link.hold(Direction::Forth);
    send("payment_failed").await;
    scored(60).await;
    let held = observer.number("SELECT count(*) FROM outbox WHERE published_at IS NULL AND kind = 'alert'").await;
    let held = usize::try_from(held.unwrap()).unwrap();
    let before = counter(&one, "churnd_fenced_writes_total").await;
    one.freeze();
    let two = instance(&cluster, "two").start().await;
    send("support_ticket").await;
    scored(75).await;
    calm().await;
    observer.keep_replaced_scores().await.unwrap();
    let alerts = observer.count("CHURN_ALERTS").await.unwrap();
    assert!(alerts >= u64::try_from(held).unwrap());

    // They arrive.
    link.heal();
    one.thaw();
    let refused = eventually(SOON, async || {
        let refused = counter(&one, "churnd_fenced_writes_total").await - before;
        if refused >= u64::try_from(CUSTOMERS).unwrap() { Ok(refused) } else { Err(format!("{refused} refused")) }
    })
    .await;
    calm().await;
    println!("{held} alerts were told twice and {refused} scores put too late");
    assert_eq!(observer.count("CHURN_ALERTS").await.unwrap(), alerts, "no alert of a zombie is accepted");
    // Whoever gets partitions puts their scores again, which are those that stand there.
    let put = observer.messages("KV_churn_risk").await.unwrap();
    assert!(put.len() >= CUSTOMERS);
    assert_eq!(put.iter().filter(|entry| entry.json()["score"] != 75).count(), 0, "no score of a zombie is accepted");
    drop(two);
}

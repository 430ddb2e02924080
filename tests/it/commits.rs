//! COMMITs that are cut off: a thousand of them, at their three worst moments, and every write stands once.

use std::collections::BTreeMap;

use churnd::{
    engine::checkpoint::{Checkpoint, Counters, Level, OutboxKind, OutboxRow, ScoreRow, StateRow, Status},
    event::{
        ids::{CustomerId, Epoch, PartitionId, StreamSequence},
        subject,
        time::Timestamp,
    },
    store::{
        self, Store, StoreError,
        checkpoint::{CheckpointWrite, PartWrite},
        leases::Role,
    },
};
use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use secrecy::SecretString;

use crate::support::{
    Cluster, Observer,
    feed::account,
    proxy::{Cut, Link},
};

/// Transactions at once, each of a partition of its own.
const WRITERS: u16 = 6;
const CUSTOMERS: usize = 40;
/// How many COMMITs are cut.
const CUTS: usize = 1_050;

/// What a partition's writes come to, counted plainly.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plain {
    watermark: u64,
    applied: u64,
    scores: u64,
    messages: u64,
    /// The newest snapshot by customer.
    snapshots: BTreeMap<String, Vec<u8>>,
}

/// How the tries of all writes ended.
#[derive(Debug, Default)]
struct Tries {
    writes: u64,
    failed: u64,
    unknown: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cut_commits_lose_and_double_nothing() {
    let seed = 20_261_123;
    let cluster = Cluster::start_durable().await;
    let link = Link::to(cluster.postgres().port()).await;
    let url =
        cluster.postgres_url().replace(&format!(":{}/", cluster.postgres().port()), &format!(":{}/", link.port()));
    let config = store::Config { url: SecretString::from(url), pool_size: WRITERS.into(), ..store::Config::default() };
    let store = Store::connect(&config).unwrap();
    store.ensure_partitions(Role::Engine, 16).await.unwrap();
    link.cut_commits(plan(seed));

    let writing = (0..WRITERS).map(|partition| write_until_all_are_cut(&store, &link, partition, seed));
    let (plain, tries): (Vec<Plain>, Vec<Tries>) = join_all(writing).await.into_iter().unzip();
    let sum = |of: fn(&Tries) -> u64| tries.iter().map(of).sum::<u64>();
    println!(
        "seed {seed}: {} COMMITs cut in {} checkpoints; {} tries failed, {} of them with an unknown outcome",
        link.commits_cut(),
        sum(|tries| tries.writes),
        sum(|tries| tries.failed),
        sum(|tries| tries.unknown)
    );

    assert_eq!(link.commits_cut(), u64::try_from(CUTS).unwrap());
    // Each cut is met by some try, whose outcome is then unknown.
    assert_eq!(sum(|tries| tries.unknown), link.commits_cut());
    let observer = Observer::of(&cluster).await;
    for (partition, plain) in plain.iter().enumerate() {
        assert_eq!(stored(&observer, partition).await, *plain, "partition {partition}, seed {seed}");
    }
}

/// All three kinds of cuts in random order, some COMMITs left alone in between.
fn plan(seed: u64) -> Vec<Option<Cut>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let kinds = [Cut::BeforeIt, Cut::BehindIt, Cut::BeforeItsAnswer, Cut::BeforeItsAnswer];
    let mut plan = Vec::new();
    for _ in 0..CUTS {
        // Now and then several tries of a write in a row are cut.
        plan.extend((0..rng.random_range(0..3)).map(|_| None));
        plan.push(kinds.choose(&mut rng).copied());
    }
    plan
}

async fn write_until_all_are_cut(store: &Store, link: &Link, partition: u16, seed: u64) -> (Plain, Tries) {
    let mut rng = StdRng::seed_from_u64(seed + u64::from(partition));
    let (mut plain, mut tries) = (Plain::default(), Tries::default());
    while link.commits_cut() < u64::try_from(CUTS).unwrap() {
        let write = draw(&mut rng, partition, &mut plain);
        store_until_it_stands(store, &write, &mut tries).await;
        tries.writes += 1;
    }
    (plain, tries)
}

/// As the pipeline does it: the same write again, until it stands.
async fn store_until_it_stands(store: &Store, write: &CheckpointWrite, tries: &mut Tries) {
    while let Err(error) = store.store_checkpoint(write).await {
        assert!(error.is_transient(), "{error:?}");
        tries.failed += 1;
        tries.unknown += u64::from(matches!(error, StoreError::OutcomeUnknown { .. }));
    }
}

/// A checkpoint of some customers, and what it comes to.
fn draw(rng: &mut StdRng, partition: u16, plain: &mut Plain) -> CheckpointWrite {
    let (from, applied) = (plain.watermark, rng.random_range(0..50));
    let mut checkpoint = Checkpoint {
        partition: PartitionId(partition),
        states: vec![],
        scores: vec![],
        outbox: vec![],
        links: vec![],
        volume: vec![],
        counters: Counters { received: applied, applied, ..Counters::default() },
    };
    let changed = (0..CUSTOMERS).filter(|_| rng.random_bool(0.2)).collect::<Vec<_>>();
    for number in changed {
        let customer = CustomerId::parse(&format!("p{partition}-{number}")).unwrap();
        let token: Box<str> = subject::encode(&customer).as_str().into();
        let score = rng.random_range(0..=100);
        let at = Timestamp::from_millis(1_767_225_600_000 + i64::try_from(from).unwrap());
        let snapshot = rng.random::<[u8; 16]>().to_vec();
        checkpoint.states.push(StateRow {
            account: account(),
            token: token.clone(),
            customer: customer.clone(),
            snapshot: snapshot.clone(),
            score,
            level: Level::Low,
            status: Status::Active,
            mrr: None,
            due_at: None,
            is_new: plain.snapshots.insert(token.clone().into(), snapshot).is_none(),
        });
        checkpoint.scores.push(ScoreRow {
            account: account(),
            token: token.clone(),
            customer: customer.clone(),
            at,
            score,
            level: Level::Low,
            status: Status::Active,
            factors: vec![],
        });
        let message_id = format!("{token}-{}", plain.messages);
        checkpoint.outbox.push(OutboxRow {
            account: account(),
            token,
            customer,
            subject: format!("churn.alerts.acme.low.{message_id}"),
            message_id,
            body: b"{}".to_vec(),
            kind: OutboxKind::Alert,
            at,
        });
        plain.scores += 1;
        plain.messages += 1;
    }
    // Also where the watermark stays, which alone could not tell whether a write stood.
    plain.watermark += if rng.random_bool(0.2) { 0 } else { rng.random_range(1..100) };
    plain.applied += applied;
    let part = PartWrite {
        epoch: Epoch(0),
        from: StreamSequence(from),
        to: StreamSequence(plain.watermark),
        to_time: None,
        stream_created: None,
        rules_hash: None,
        checkpoint,
        forgotten: vec![],
        unwanted: vec![],
    };
    CheckpointWrite::new(vec![part], vec![])
}

/// What stands in the tables of a partition.
async fn stored(observer: &Observer<'_>, partition: usize) -> Plain {
    let one = async |sql: &str| -> u64 {
        let sql = format!("{sql} = {partition}");
        observer.number(&sql).await.unwrap().try_into().unwrap()
    };
    let states = format!("SELECT token, snapshot FROM customer_states WHERE partition = {partition}");
    Plain {
        watermark: one("SELECT watermark FROM partitions WHERE role = 'engine' AND id").await,
        applied: one("SELECT applied FROM partitions WHERE role = 'engine' AND id").await,
        scores: one("SELECT count(*) FROM risk_scores WHERE partition").await,
        messages: one("SELECT count(*) FROM outbox WHERE partition").await,
        snapshots: observer.rows(&states, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect(),
    }
}

//! Doubling the partitions: what moves, who is refused, and that any step can be repeated.

use super::{
    Store, StoreError,
    rows::{hours, message, part, score, state, write},
    server::Database,
};
use crate::{
    engine::checkpoint::OutboxKind,
    event::ids::{Epoch, PartitionId, StreamSequence},
    store::{
        checkpoint::CheckpointWrite,
        leases::{Leases, Role, Target},
        partitioning::{LabelPlace, Layout},
        session::Session,
    },
};

const CUSTOMERS: usize = 300;

fn names() -> impl Iterator<Item = String> {
    (0..CUSTOMERS).map(|number| format!("c{number}"))
}

/// An installation of four partitions with customers in them, as checkpoints of epoch `epoch` leave them.
fn customers(layout: &Layout, epoch: u64, from: u64, to: u64, new: bool) -> CheckpointWrite {
    let mut parts: Vec<_> = (0..layout.number).map(|id| part(id, epoch, from, to)).collect();
    for name in names() {
        let partition = &mut parts[usize::from(layout.of("acme", &name).0)].checkpoint;
        let mut row = state(&name);
        row.is_new = new;
        row.due_at = Some(hours(3));
        partition.states.push(row);
        partition.scores.push(score(&name, hours(1), 50));
        partition.outbox.push(message(&name, OutboxKind::Alert, &format!("alert-{to}-{name}")));
        partition.counters.received += 1;
        partition.counters.applied += 1;
    }
    write(parts)
}

async fn installed() -> (Database, Store, Layout) {
    let (database, store) = Database::migrated().await;
    let layout = store.ensure_partitions(Role::Engine, 4).await.unwrap();
    store.store_checkpoint(&customers(&layout, 0, 0, 100, true)).await.unwrap();
    (database, store, layout)
}

async fn round(session: &Session) -> Leases {
    session.acquire_and_renew(Role::Engine, Target::FairShare).await.unwrap()
}

/// Labels all customers; gives how many were looked at and moved.
async fn label(store: &Store, layout: &Layout) -> (u64, u64) {
    let (mut place, mut sum) = (LabelPlace::default(), (0, 0));
    loop {
        let done = store.label_customers(layout, &place, 7).await.unwrap();
        sum = (sum.0 + done.seen, sum.1 + done.moved);
        match done.next {
            Some(next) => place = next,
            None => return sum,
        }
    }
}

async fn misplaced(store: &Store, table: &str, layout: &Layout) -> usize {
    let rows = store.ask(&format!("SELECT partition, token FROM {table}")).await;
    let is_misplaced = |row: &&str| {
        let (partition, token) = row.split_once('|').unwrap();
        layout.of("acme", token).0.to_string() != partition
    };
    rows.lines().filter(is_misplaced).count()
}

#[tokio::test]
async fn doubling_splits_every_partition_and_refuses_whoever_works_by_the_old_number() {
    let (_database, store, layout) = installed().await;
    let (one, two) = (store.open_session("one").await.unwrap(), store.open_session("two").await.unwrap());
    assert_eq!(round(&one).await.held.len(), 4);
    assert_eq!(round(&two).await.held.len(), 0);

    let doubled = store.double_partitions(4).await.unwrap();
    assert_eq!((doubled.number, doubled.first, doubled.labelled), (8, 4, 4));
    assert_eq!((doubled.filters_from, doubled.generation), (None, layout.generation + 1));
    let rows = store.ask("SELECT id, watermark, received, epoch, owner FROM partitions ORDER BY id").await;
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows.len(), 8);
    assert!(rows[4..].iter().all(|row| row.ends_with("|100|0|2|∅")), "{rows:?}");
    let counted = store.ask("SELECT sum(received), sum(applied) FROM partitions").await;
    assert_eq!(counted, format!("{CUSTOMERS}|{CUSTOMERS}"));
    // What waits to be published is its new owner's, so that nothing overtakes it.
    assert_eq!(misplaced(&store, "outbox", &doubled).await, 0);

    // The old owner: its write is refused, and it hears that all is lost.
    let refused = store.store_checkpoint(&customers(&layout, 1, 100, 200, false)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { epoch: Epoch(1), .. })), "{refused:?}");
    let told = round(&one).await;
    assert_eq!((told.lost.len(), told.held.len(), told.layout), (4, 4, doubled));
    assert_eq!(round(&two).await.held.len(), 4);
    assert!(told.gained.iter().all(|lease| lease.epoch == Epoch(3) && lease.watermark == StreamSequence(100)));
    // Again, and from another number: nothing.
    assert_eq!(store.double_partitions(4).await.unwrap(), doubled);
    assert_eq!(store.double_partitions(8).await.unwrap(), doubled, "the first is not over");
    assert_eq!(store.ensure_partitions(Role::Engine, 4).await.unwrap(), doubled, "the setting counts no more");
}

#[tokio::test]
async fn who_took_a_decision_before_the_doubling_or_does_not_know_of_it_takes_nothing() {
    let (_database, store, _) = installed().await;
    let one = store.open_session("one").await.unwrap();
    round(&one).await;
    store.double_partitions(4).await.unwrap();
    // As a churnd from before takes a partition.
    let blind = "UPDATE partitions SET owner = 'old/1', session = gen_random_uuid(), epoch = epoch + 1 WHERE id = 6";
    let refused = store.connection("test").await.unwrap().batch_execute(blind).await.unwrap_err();
    assert_eq!(refused.as_db_error().unwrap().constraint(), Some("partitions_taken_knowingly"));
    assert_eq!(round(&one).await.held.len(), 8);
}

#[tokio::test]
async fn a_write_that_stood_before_the_doubling_is_known_after_it() {
    let (_database, store, layout) = installed().await;
    let next = customers(&layout, 0, 100, 200, false);
    store.store_checkpoint(&next).await.unwrap();
    store.double_partitions(4).await.unwrap();
    // Its answer was lost: it is tried again.
    store.store_checkpoint(&next).await.unwrap();
    let counted = store.ask("SELECT sum(received), count(DISTINCT watermark), min(watermark) FROM partitions").await;
    assert_eq!(counted, format!("{}|1|200", CUSTOMERS * 2));
}

#[tokio::test]
async fn all_is_found_under_the_labels_of_its_partition_at_any_time() {
    let (_database, store, layout) = installed().await;
    let doubled = store.double_partitions(4).await.unwrap();
    let due = async |layout: &Layout| {
        let mut found = Vec::new();
        for partition in (0..layout.number).map(PartitionId) {
            let rows = store.load_due(&layout.labels(partition), hours(5).hour(), None, 1_000).await.unwrap();
            found.extend(rows.into_iter().filter(|row| layout.of("acme", &row.token) == partition));
            let page = store.load_page(&layout.labels(partition), None, 1_000).await.unwrap();
            let of_page = page.iter().filter(|row| layout.of("acme", &row.token) == partition).count();
            assert!(of_page > 0 && store.last_score_at(*layout, partition).await.unwrap().is_some());
        }
        found.sort_by(|left, right| left.token.cmp(&right.token));
        found.dedup_by(|left, right| left.token == right.token);
        found.len()
    };
    assert_eq!(due(&layout).await, CUSTOMERS);
    assert_eq!(due(&doubled).await, CUSTOMERS);
    assert!(misplaced(&store, "customer_states", &doubled).await > 0);

    let (seen, moved) = label(&store, &doubled).await;
    assert!(seen >= CUSTOMERS as u64 && moved > 0, "{seen} {moved}");
    assert_eq!(misplaced(&store, "customer_states", &doubled).await, 0);
    assert_eq!(label(&store, &doubled).await.1, 0, "again moves nothing");
    assert_eq!(due(&doubled).await, CUSTOMERS);
    assert!(store.customers_labelled(&doubled).await.unwrap());
    let labelled = store.layout().await.unwrap().unwrap();
    assert_eq!((labelled.labelled, labels(&labelled)), (8, 8));
    assert_eq!(due(&labelled).await, CUSTOMERS);
}

/// How many labels all partitions have together.
fn labels(layout: &Layout) -> usize {
    (0..layout.number).map(|partition| layout.labels(PartitionId(partition)).len()).sum()
}

#[tokio::test]
async fn the_next_doubling_waits_for_the_last_one_and_distrust_takes_all_leases() {
    let (_database, store, _) = installed().await;
    let eight = store.double_partitions(4).await.unwrap();
    assert!(store.settle_partitions(&eight, StreamSequence(150)).await.unwrap());
    assert!(!store.settle_partitions(&eight, StreamSequence(170)).await.unwrap(), "settled already");
    assert_eq!(store.double_partitions(8).await.unwrap().number, 8);
    label(&store, &eight).await;
    store.customers_labelled(&eight).await.unwrap();
    let eight = store.layout().await.unwrap().unwrap();
    assert_eq!((eight.filters_from, eight.is_changing()), (Some(StreamSequence(150)), false));

    let one = store.open_session("one").await.unwrap();
    assert_eq!(round(&one).await.held.len(), 8);
    store.unsettle_partitions(&eight).await.unwrap();
    store.unsettle_partitions(&eight).await.unwrap();
    let told = round(&one).await;
    assert_eq!((told.lost.len(), told.layout.generation, told.layout.filters_from), (8, eight.generation + 1, None));
    assert!(!store.settle_partitions(&eight, StreamSequence(1)).await.unwrap(), "another generation");
    assert!(store.settle_partitions(&told.layout, StreamSequence(300)).await.unwrap());
    let sixteen = store.double_partitions(8).await.unwrap();
    assert_eq!((sixteen.number, sixteen.labelled), (16, 8));
    assert_eq!(store.ask("SELECT count(*), min(watermark) FROM partitions").await, "16|100");
}

//! Volumes and guards: each event counts once, each outage is told once.

use super::{
    Store, StoreError,
    rows::{account, hours, message, part, write, write_of},
    server::Database,
};
use crate::{
    engine::{
        checkpoint::{OutboxKind, VolumeRow},
        fleet::slot_of,
    },
    event::ids::{PartitionId, StreamSequence},
    store::{checkpoint::PartWrite, fleet::NewGuard, leases::Role},
};

async fn with_partitions(count: u16) -> (Database, Store) {
    let (database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, count).await.unwrap();
    (database, store)
}

fn counted(name: &str, slot: i64, events: u64) -> VolumeRow {
    VolumeRow { account: account(name), slot, events }
}

async fn volumes(store: &Store) -> String {
    store.ask("SELECT account, slot, shard, events FROM account_volume ORDER BY 1, 2, 3").await
}

#[tokio::test]
async fn each_event_counts_once_however_often_a_checkpoint_is_stored() {
    let (_database, store) = with_partitions(3).await;
    let with = |mut part: PartWrite, rows: &[VolumeRow]| {
        part.checkpoint.volume = rows.to_vec();
        part
    };
    let both = write(vec![
        with(part(2, 0, 0, 9), &[counted("a", 7, 5), counted("b", 7, 1)]),
        with(part(1, 0, 0, 9), &[counted("a", 7, 3), counted("a", 8, 2)]),
    ]);
    store.store_checkpoint(&both).await.unwrap();
    store.store_checkpoint(&both).await.unwrap();
    assert_eq!(volumes(&store).await, "a|7|1|8\na|8|1|2\nb|7|1|1", "in rows of the lowest partition");
    let more = write(vec![with(part(2, 0, 9, 10), &[counted("a", 7, 4)])]);
    store.store_checkpoint(&more).await.unwrap();
    let stale = write(vec![with(part(2, 0, 9, 11), &[counted("a", 7, 100)])]);
    assert!(matches!(store.store_checkpoint(&stale).await, Err(StoreError::Fenced { .. })));
    let (a, b) = (account("a"), account("b"));
    let found = store.volumes(&[(&a, 7..9), (&a, 20..30), (&b, 8..9)]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[&a].slots.iter().map(|(slot, events)| (*slot, *events)).collect::<Vec<_>>(), [(7, 12), (8, 2)]);
    store.ask("INSERT INTO accounts (id, name) VALUES ('a', 'A'), ('c', 'C')").await;
    assert_eq!(store.first_slots().await.unwrap(), [(a, 7)].into());
    let low = store.low_watermark().await.unwrap();
    assert_eq!((low.watermark, low.partitions), (StreamSequence(0), 3), "partition 0 has read nothing");
}

#[tokio::test]
async fn one_of_many_tells_of_an_outage_and_one_of_its_end() {
    let (_database, store) = with_partitions(1).await;
    let name = account("a");
    let guard =
        |alert_id| NewGuard { account: &name, since: hours(1), noticed_at: hours(3), expected: 600, seen: 2, alert_id };
    let alert = |id: &str| message("=account", OutboxKind::Alert, id);
    let (one, two) = (guard("one"), guard("two"));
    let (first, second) = (alert("one"), alert("two"));
    let set =
        tokio::join!(store.set_guard(&one, PartitionId(0), &first), store.set_guard(&two, PartitionId(0), &second));
    assert_ne!(set.0.unwrap(), set.1.unwrap());
    assert_eq!(store.ask("SELECT count(*) FROM outbox").await, "1");
    let open = store.guards(hours(1_000)).await.unwrap();
    let [open] = open.as_slice() else { panic!("{open:?}") };
    assert_eq!((open.outage.from, open.outage.until, open.outage.expected, open.seen), (hours(1), None, 600, 2));
    let (one, two) = (alert("back one"), alert("back two"));
    let released = tokio::join!(
        store.release_guard(open.id, hours(9), PartitionId(0), &one),
        store.release_guard(open.id, hours(9), PartitionId(0), &two)
    );
    assert_ne!(released.0.unwrap(), released.1.unwrap());
    assert_eq!(store.ask("SELECT count(*) FROM outbox").await, "2");
    assert_eq!(store.guards(hours(9)).await.unwrap()[0].outage.until, Some(hours(9)));
    assert!(store.guards(hours(10)).await.unwrap().is_empty());
    assert!(store.set_guard(&guard("three"), PartitionId(0), &alert("three")).await.unwrap(), "it may happen again");
}

#[tokio::test]
async fn old_volumes_go_unless_an_open_guard_is_compared_with_them() {
    let (_database, store) = with_partitions(1).await;
    let since = hours(24 * 30);
    let start = slot_of(since);
    let rows = [("a", start - 900), ("a", start - 700), ("b", start - 700), ("b", start + 5_000)];
    let rows = rows.map(|(name, slot)| counted(name, slot, 1)).to_vec();
    store.store_checkpoint(&write_of(0, 1, |checkpoint| checkpoint.volume = rows)).await.unwrap();
    let name = account("a");
    let guard = NewGuard { account: &name, since, noticed_at: since, expected: 600, seen: 0, alert_id: "one" };
    store.set_guard(&guard, PartitionId(0), &message("=account", OutboxKind::Alert, "one")).await.unwrap();
    assert_eq!(store.prune_volumes(start + 4_000, hours(0), 100).await.unwrap(), 2);
    assert_eq!(volumes(&store).await, format!("a|{}|0|1\nb|{}|0|1", start - 700, start + 5_000));
}

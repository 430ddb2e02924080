//! Who owns what: sharing, succession, giving up.

use super::{
    Store, StoreError,
    rows::{part, write},
    server::Database,
};
use crate::{
    event::ids::{Epoch, PartitionId},
    store::{
        leases::{Leases, Role, Target},
        session::Session,
    },
};

async fn partitions(count: u16) -> (Database, Store) {
    let (database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, count).await.unwrap();
    (database, store)
}

async fn round(session: &Session) -> Leases {
    session.acquire_and_renew(Role::Engine, Target::FairShare).await.unwrap()
}

/// Gives up what a round says.
async fn give_up(session: &Session, leases: &Leases) {
    for partition in &leases.surplus {
        let lease = leases.held.iter().find(|lease| lease.partition == *partition).unwrap();
        assert!(session.release(Role::Engine, *partition, lease.epoch).await.unwrap());
    }
}

/// Cuts a session's own connection, as a crash of its process would.
async fn cut(store: &Store, session: &Session) {
    let key = {
        let (high, low) = session.id().as_u64_pair();
        (high ^ low) as i64
    };
    let sql = format!(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks
         WHERE locktype = 'advisory' AND ((classid::bigint << 32) | objid::bigint) = {key}"
    );
    assert_eq!(store.ask(&sql).await, "t");
}

#[tokio::test]
async fn two_instances_split_sixteen_partitions_evenly() {
    let (_database, store) = partitions(16).await;
    let one = store.open_session("one").await.unwrap();
    let first = round(&one).await;
    assert_eq!((first.held.len(), first.gained.len(), first.surplus.len()), (16, 16, 0));
    assert!(first.valid_for > store.lease() / 2 && first.valid_for <= store.lease());
    assert!(first.held.iter().all(|lease| lease.epoch == Epoch(1)));

    let two = store.open_session("two").await.unwrap();
    assert_eq!(round(&two).await.held.len(), 0);
    let told = round(&one).await;
    assert_eq!((told.held.len(), told.gained.len(), told.surplus.len()), (16, 0, 8));
    give_up(&one, &told).await;
    let taken = round(&two).await;
    assert_eq!((taken.held.len(), taken.gained.len(), taken.surplus.len()), (8, 8, 0));
    assert!(taken.held.iter().all(|lease| lease.epoch == Epoch(2)));
    let kept = round(&one).await;
    assert_eq!((kept.held.len(), kept.gained.len(), kept.lost.len(), kept.surplus.len()), (8, 0, 0, 0));
    let owners = store.owners().await.unwrap();
    assert_eq!(owners.iter().filter(|owner| owner.owner.as_deref() == Some(&*one.owner())).count(), 8);
}

#[tokio::test]
async fn instances_that_start_at_once_never_share_a_partition() {
    let (_database, store) = partitions(16).await;
    let (one, two) = tokio::try_join!(store.open_session("one"), store.open_session("two")).unwrap();
    for _ in 0..4 {
        let (first, second) = tokio::join!(round(&one), round(&two));
        let both = first.held.iter().filter(|lease| second.held.iter().any(|other| other.partition == lease.partition));
        assert_eq!(both.count(), 0);
        tokio::join!(give_up(&one, &first), give_up(&two, &second));
    }
    assert_eq!((round(&one).await.held.len(), round(&two).await.held.len()), (8, 8));
}

#[tokio::test]
async fn an_expired_lease_is_taken_and_its_owner_is_fenced_and_told() {
    let (_database, store) = partitions(2).await;
    let (one, two) = (store.open_session("one").await.unwrap(), store.open_session("two").await.unwrap());
    assert_eq!(round(&one).await.held.len(), 2);
    assert_eq!(round(&two).await.held.len(), 0);
    store.run("UPDATE partitions SET lease_until = now() - interval '1 second' WHERE id = 1").await;
    store.run("UPDATE instances SET heartbeat_until = now() - interval '1 second' WHERE instance = 'one'").await;
    let taken = round(&two).await;
    assert_eq!(taken.gained.iter().map(|lease| (lease.partition.0, lease.epoch.0)).collect::<Vec<_>>(), [(1, 2)]);
    let refused = store.store_checkpoint(&write(vec![part(1, 1, 0, 5)])).await;
    assert!(matches!(refused, Err(StoreError::Fenced { partition: PartitionId(1), epoch: Epoch(1) })));
    store.store_checkpoint(&write(vec![part(1, 2, 0, 5)])).await.unwrap();
    let told = round(&one).await;
    assert_eq!((told.lost, told.held.len()), (vec![PartitionId(1)], 1));
}

#[tokio::test]
async fn an_expired_lease_that_nobody_took_is_simply_renewed() {
    let (_database, store) = partitions(2).await;
    let one = store.open_session("one").await.unwrap();
    round(&one).await;
    store.run("UPDATE partitions SET lease_until = now() - interval '1 hour'").await;
    let renewed = round(&one).await;
    assert_eq!((renewed.held.len(), renewed.gained.len(), renewed.held[0].epoch), (2, 0, Epoch(1)));
    assert!(renewed.valid_for > store.lease() / 2);
}

#[tokio::test]
async fn a_killed_instance_is_succeeded_after_two_rounds_and_at_once_by_a_new_one() {
    let (_database, store) = partitions(4).await;
    let one = store.open_session("one").await.unwrap();
    let two = store.open_session("two").await.unwrap();
    round(&two).await;
    round(&one).await;
    let told = round(&two).await;
    give_up(&two, &told).await;
    assert_eq!(round(&one).await.held.len(), 2);

    cut(&store, &two).await;
    assert_eq!(round(&one).await.gained.len(), 0);
    assert_eq!(round(&one).await.gained.len(), 2);
    assert_eq!(round(&two).await.lost.len(), 2);

    cut(&store, &one).await;
    drop(one);
    cut(&store, &two).await;
    let three = store.open_session("three").await.unwrap();
    assert_eq!(round(&three).await.gained.len(), 4);
}

#[tokio::test]
async fn a_lost_connection_is_replaced_under_the_same_session_and_loses_nothing() {
    let (_database, store) = partitions(4).await;
    let one = store.open_session("one").await.unwrap();
    let two = store.open_session("two").await.unwrap();
    assert_eq!(round(&one).await.held.len(), 4);
    round(&two).await;
    cut(&store, &one).await;
    // The cut may be noticed by the round itself; the one after it works in any case.
    if one.acquire_and_renew(Role::Engine, Target::FairShare).await.is_err() {
        round(&one).await;
    }
    assert!(!one.is_disconnected().await);
    assert_eq!(round(&two).await.gained.len(), 0);
    let kept = round(&one).await;
    assert_eq!((kept.held.len(), kept.lost.len(), kept.held[0].epoch), (4, 0, Epoch(1)));
}

#[tokio::test]
async fn releasing_keeps_the_epoch_and_regaining_adds_one() {
    let (_database, store) = partitions(1).await;
    let one = store.open_session("one").await.unwrap();
    let epoch = round(&one).await.held[0].epoch;
    assert!(!one.release(Role::Engine, PartitionId(0), Epoch(epoch.0 + 1)).await.unwrap());
    assert!(one.release(Role::Engine, PartitionId(0), epoch).await.unwrap());
    assert!(!one.release(Role::Engine, PartitionId(0), epoch).await.unwrap());
    let released = &store.owners().await.unwrap()[0];
    assert_eq!((released.epoch, &released.owner, released.expired), (epoch, &None, true));
    assert_eq!(one.acquire_and_renew(Role::Engine, Target::Keep).await.unwrap().held.len(), 0);
    let regained = round(&one).await;
    assert_eq!((regained.gained[0].epoch, regained.lost.len()), (Epoch(epoch.0 + 1), 0));
}

#[tokio::test]
async fn closing_leaves_everything_to_the_others_at_once() {
    let (_database, store) = partitions(4).await;
    let one = store.open_session("one").await.unwrap();
    round(&one).await;
    let two = store.open_session("two").await.unwrap();
    round(&two).await;
    one.close().await.unwrap();
    assert_eq!(round(&two).await.gained.len(), 4);
}

/// A checkpoint that takes long locks its partitions' rows: the round neither waits for it nor loses them.
#[tokio::test]
async fn a_round_does_not_wait_for_a_checkpoint_under_way() {
    let (_database, store) = partitions(2).await;
    let one = store.open_session("one").await.unwrap();
    round(&one).await;
    let mut connection = store.connection("test").await.unwrap();
    let tx = connection.transaction().await.unwrap();
    tx.batch_execute("UPDATE partitions SET lease_until = now() - interval '1 second', watermark = 1 WHERE id = 0")
        .await
        .unwrap();
    assert_eq!(round(&one).await.held.len(), 2);
    store.run("UPDATE partitions SET lease_until = now() - interval '1 second' WHERE id = 1").await;
    let two = store.open_session("two").await.unwrap();
    assert_eq!(round(&two).await.held.iter().map(|lease| lease.partition.0).collect::<Vec<_>>(), [1]);
    tx.rollback().await.unwrap();
}

#[tokio::test]
async fn partitions_are_created_once_and_never_fewer() {
    let (_database, store) = partitions(4).await;
    for asked in [4, 8, 2] {
        let layout = store.ensure_partitions(Role::Engine, asked).await.unwrap();
        assert_eq!(layout.number, 4, "what is in force counts, whatever is set");
    }
    store.ensure_partitions(Role::Archive, 2).await.unwrap();
    assert!(matches!(store.ensure_partitions(Role::Archive, 1).await, Err(StoreError::Config(_))));
    assert_eq!(store.owners().await.unwrap().len(), 6);
}

//! Faults on the way: answers that are lost, connections that die, servers that stand still.

use std::time::Duration;

use super::{
    Store, StoreError,
    proxy::{Cut, Proxy},
    rows::{counters, part, write},
    server::{Database, Server, config, store},
};
use crate::store::{
    checkpoint::{CheckpointWrite, CommitState},
    leases::Role,
};

/// A way to a database that is cut at its next COMMIT once armed, and one that is not.
async fn cut_at_commit(cut: Cut) -> (Database, Proxy, Store, Store) {
    let (database, direct) = Database::migrated().await;
    direct.ensure_partitions(Role::Engine, 1).await.unwrap();
    let port = database.server.postgres.port();
    let proxy = Proxy::start(port, cut).await;
    let through = store(&database.url().replace(&format!(":{port}/"), &format!(":{}/", proxy.port())));
    through.ping().await.unwrap();
    (database, proxy, through, direct)
}

fn counting(from: u64, to: u64) -> CheckpointWrite {
    let mut part = part(0, 0, from, to);
    part.checkpoint.counters = counters(1);
    write(vec![part])
}

#[tokio::test]
async fn a_lost_answer_to_commit_is_unknown_until_it_is_looked_up() {
    for (cut, stood) in [(Cut::BeforeIt, CommitState::NotCommitted), (Cut::BeforeItsAnswer, CommitState::Committed)] {
        let (_database, proxy, through, direct) = cut_at_commit(cut).await;
        // Also where the watermark does not move, which alone could not tell.
        for (step, to) in [(0, 0), (0, 5)].into_iter().enumerate() {
            let write = counting(to.0, to.1);
            proxy.arm();
            let error = through.store_checkpoint(&write).await.unwrap_err();
            assert!(matches!(error, StoreError::OutcomeUnknown { .. }), "{cut:?}: {error:?}");
            assert!(error.is_transient());
            assert_eq!(through.checkpoint_stood(&write).await.unwrap(), stood, "{cut:?}");
            through.store_checkpoint(&write).await.unwrap();
            assert_eq!(direct.ask("SELECT applied FROM partitions").await, (step + 1).to_string(), "{cut:?}");
        }
    }
}

/// A write that is still being committed is waited for: the answer never changes afterwards.
#[tokio::test]
async fn looking_up_waits_for_a_write_under_way() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let pending = counting(0, 7);
    let mut connection = store.connection("test").await.unwrap();
    let tx = connection.transaction().await.unwrap();
    let update = format!("UPDATE partitions SET watermark = 7, last_checkpoint = '{}'", pending.id);
    tx.batch_execute(&update).await.unwrap();
    let look = store.checkpoint_stood(&pending);
    let mut look = std::pin::pin!(look);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut look).await.is_err());
    tx.commit().await.unwrap();
    assert_eq!(look.await.unwrap(), CommitState::Committed);
}

#[tokio::test]
async fn dead_connections_in_the_pool_are_replaced_without_an_error() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let killer = store.clone();
    for to in 0..5 {
        let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        killer.ask(sql).await;
        tokio::try_join!(store.ping(), store.ping(), store.ping()).unwrap();
        killer.ask(sql).await;
        store.store_checkpoint(&counting(to, to + 1)).await.unwrap();
    }
    assert_eq!(store.ask("SELECT watermark, applied FROM partitions").await, "5|5");
}

#[tokio::test]
async fn a_server_that_stands_still_is_unavailable_and_forgotten_once_it_goes_on() {
    let database = Database::on(Server::own()).await;
    let config = super::Config { statement_timeout_seconds: 1, connect_timeout_seconds: 1, ..config(&database.url()) };
    let store = Store::connect(&config).unwrap();
    store.migrate().await.unwrap();
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    database.server.postgres.freeze();
    let write = counting(0, 1);
    let error = store.store_checkpoint(&write).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(store.ping().await.unwrap_err().is_transient());
    database.server.postgres.thaw();
    store.store_checkpoint(&write).await.unwrap();
    assert_eq!(store.ask("SELECT watermark, applied FROM partitions").await, "1|1");
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let database = Database::on(Server::own()).await;
    let store = database.store();
    store.migrate().await.unwrap();
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let session = store.open_session("a").await.unwrap();
    let target = crate::store::leases::Target::FairShare;
    session.acquire_and_renew(Role::Engine, target).await.unwrap();
    database.server.postgres.kill();
    assert!(store.store_checkpoint(&counting(0, 1)).await.unwrap_err().is_transient());
    assert!(session.acquire_and_renew(Role::Engine, target).await.unwrap_err().is_transient());
    database.server.postgres.restart().unwrap();
    let leases = session.acquire_and_renew(Role::Engine, target).await.unwrap();
    assert_eq!((leases.held.len(), leases.gained.len(), leases.lost.len()), (1, 0, 0));
    assert_eq!(leases.held[0].epoch.0, 1);
}

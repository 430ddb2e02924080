//! The store against a real Postgres.

mod server; // one server per test process, one database per test
mod proxy; // a connection that is cut when it matters
mod rows; // rows to store, in a few words
mod migrations;
mod roles;
mod encryption;
mod keys;
mod checkpoints;
mod outcomes;
mod leases;
mod partitioning;
mod states;
mod links;
mod erasure;
mod archive;
mod queries;
mod interventions;
mod report;
mod fleet;
mod channels;
mod speed;

use super::*;

/// Whoever calls the store runs on a runtime of several threads.
#[test]
fn futures_can_move_between_threads() {
    fn moves<T: Send>(_: &T) {}
    let store = Store::connect(&Config::default()).unwrap();
    let write = checkpoint::CheckpointWrite::new(vec![], vec![]);
    let account = crate::event::ids::AccountId::parse("acme").unwrap();
    moves(&store.store_checkpoint(&write));
    moves(&store.checkpoint_stood(&write));
    moves(&store.migrate());
    moves(&store.add_key(&account, super::keys::KeyKind::Secret));
    moves(&store.load_states(&[]));
    moves(&store.load_customers(&[]));
    moves(&store.claim_erasures(uuid::Uuid::nil(), Duration::ZERO, 1));
    moves(&store.open_session("a"));
    let session = async {
        let session = store.open_session("a").await?;
        session.acquire_and_renew(super::leases::Role::Engine, super::leases::Target::FairShare).await?;
        session.release(super::leases::Role::Engine, crate::event::ids::PartitionId(0), Default::default()).await?;
        session.close().await
    };
    moves(&session);
}

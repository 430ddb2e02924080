//! Stripe: links, charges, waiting disputes.

use super::{
    rows::{account, hours, link, write_of},
    server::Database,
};
use crate::store::{leases::Role, stripe::PendingDispute};

#[tokio::test]
async fn the_newest_link_wins_in_any_order_and_the_greater_id_among_equals() {
    let said = [("a", 1), ("b", 3), ("c", 2), ("d", 3)];
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]];
    for order in orders {
        for at_once in [true, false] {
            let (_database, store) = Database::migrated().await;
            store.ensure_partitions(Role::Engine, 1).await.unwrap();
            let links: Vec<_> =
                order.iter().map(|index| said[*index]).map(|(id, hour)| link("cus_1", id, hours(hour))).collect();
            let batches = if at_once { vec![links] } else { links.into_iter().map(|link| vec![link]).collect() };
            for (from, batch) in (0..).zip(batches) {
                store.store_checkpoint(&write_of(from, from + 1, |checkpoint| checkpoint.links = batch)).await.unwrap();
            }
            let resolved = store.resolve_links(&account("acme"), &["cus_1", "cus_2"]).await.unwrap();
            assert_eq!(resolved.len(), 1);
            assert_eq!(resolved["cus_1"].as_str(), "d", "{order:?} at once {at_once}");
            assert!(store.resolve_links(&account("other"), &["cus_1"]).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn a_charge_belongs_to_whom_the_latest_said() {
    let (_database, store) = Database::migrated().await;
    let acme = account("acme");
    let said = [("ch_1", "cus_1", hours(1)), ("pi_1", "cus_1", hours(1)), ("ch_1", "cus_2", hours(2))];
    store.remember_charges(&acme, &said).await.unwrap();
    store.remember_charges(&acme, &[("ch_1", "cus_3", hours(1))]).await.unwrap();
    store.remember_charges(&acme, &[]).await.unwrap();
    assert_eq!(store.charge_owner(&acme, &["ch_9", "ch_1"]).await.unwrap().as_deref(), Some("cus_2"));
    assert_eq!(store.charge_owner(&acme, &["pi_1"]).await.unwrap().as_deref(), Some("cus_1"));
    assert_eq!(store.charge_owner(&account("other"), &["ch_1"]).await.unwrap(), None);
}

#[tokio::test]
async fn a_dispute_waits_for_any_of_its_charges() {
    let (_database, store) = Database::migrated().await;
    let acme = account("acme");
    let dispute = |id: &str| PendingDispute { event_id: id.to_owned(), body: b"{}".to_vec(), at: hours(1) };
    for _ in 0..2 {
        store.park_pending(&acme, &["ch_1", "pi_1"], &dispute("evt_1")).await.unwrap();
    }
    store.park_pending(&acme, &["ch_2"], &dispute("evt_2")).await.unwrap();
    assert_eq!(store.pending_of(&acme, &["ch_1", "pi_1", "ch_9"]).await.unwrap(), [dispute("evt_1")]);
    assert_eq!(store.pending_of(&account("other"), &["ch_1"]).await.unwrap(), []);
    store.forget_pending(&acme, &["evt_1"]).await.unwrap();
    assert_eq!(store.pending_of(&acme, &["pi_1"]).await.unwrap(), []);
    assert_eq!(store.take_pending(&acme, &["ch_2"]).await.unwrap(), [dispute("evt_2")]);
    assert_eq!(store.take_pending(&acme, &["ch_2"]).await.unwrap(), []);
    store.park_pending(&acme, &["ch_3"], &dispute("evt_3")).await.unwrap();
    store.prune_charges(hours(2)).await.unwrap();
    assert_eq!(store.pending_of(&acme, &["ch_3"]).await.unwrap(), []);
}

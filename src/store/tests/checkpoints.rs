//! The one transaction: what it writes, and that it writes nothing when it is not ours to write.

use super::{
    Store, StoreError,
    rows::{account, counters, hours, level_of, link, message, part, score, state, write, write_of},
    server::Database,
};
use crate::{
    engine::checkpoint::{OutboxKind, Status},
    event::{
        ids::{Epoch, PartitionId},
        money::{Currency, Money},
    },
    store::{
        checkpoint::{CheckpointWrite, CommitState, PartWrite},
        leases::Role,
        queries::AlertQuery,
    },
};

async fn with_partitions(count: u16) -> (Database, Store) {
    let (database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, count).await.unwrap();
    (database, store)
}

/// Every kind of row once.
fn full(part: PartWrite, name: &str) -> PartWrite {
    let mut part = part;
    part.checkpoint.states.push(state(name));
    part.checkpoint.scores.push(score(name, hours(1), 55));
    part.checkpoint.outbox.push(message(name, OutboxKind::Alert, &format!("alert-{name}")));
    part.checkpoint.links.push(link(&format!("cus_{name}"), name, hours(1)));
    part.checkpoint.counters = counters(3);
    part
}

async fn everything_of(store: &Store) -> String {
    store
        .ask(
            "SELECT (SELECT count(*) FROM customer_states), (SELECT count(*) FROM customers), (SELECT count(*) FROM risk_scores),
                (SELECT count(*) FROM outbox), (SELECT count(*) FROM stripe_links),
                (SELECT string_agg(watermark || ':' || applied, ' ' ORDER BY id) FROM partitions)",
        )
        .await
}

#[tokio::test]
async fn everything_of_a_checkpoint_is_written_at_once() {
    let (_database, store) = with_partitions(2).await;
    let mut first = full(part(0, 0, 0, 10), "a");
    first.to_time = Some(hours(5));
    first.stream_created = Some(hours(-100));
    first.rules_hash = Some("r1".to_owned());
    store.store_checkpoint(&write(vec![full(part(1, 0, 0, 20), "b"), first])).await.unwrap();
    assert_eq!(everything_of(&store).await, "2|2|2|2|2|10:3 20:3");
    let owners = store.owners().await.unwrap();
    assert_eq!((owners[0].watermark_time, owners[0].rules_hash.as_deref()), (Some(hours(5)), Some("r1")));
    assert_eq!(store.ask("SELECT stripe_customer_id FROM customers ORDER BY 1").await, "cus_a\ncus_b");

    // What is not said again stays known: the rules, and the time for as long as it belongs to the watermark.
    store.store_checkpoint(&write(vec![part(0, 0, 10, 10)])).await.unwrap();
    let owners = store.owners().await.unwrap();
    assert_eq!((owners[0].watermark_time, owners[0].rules_hash.as_deref()), (Some(hours(5)), Some("r1")));
    store.store_checkpoint(&write(vec![part(0, 0, 10, 12)])).await.unwrap();
    let owners = store.owners().await.unwrap();
    assert_eq!((owners[0].watermark_time, owners[0].rules_hash.as_deref()), (None, Some("r1")));
    assert_eq!(owners[0].watermark.0, 12);
}

/// Stores a first good checkpoint, then refuses the given one in full.
async fn check_fenced(refused: Vec<PartWrite>, partition: u16) {
    let (_database, store) = with_partitions(3).await;
    store.store_checkpoint(&write(vec![full(part(0, 0, 0, 10), "a")])).await.unwrap();
    let before = everything_of(&store).await;
    let mut refused = write(refused);
    refused.published = vec!["alert-a".to_owned()];
    let error = store.store_checkpoint(&refused).await.unwrap_err();
    assert!(matches!(error, StoreError::Fenced { partition: PartitionId(id), .. } if id == partition), "{error}");
    assert!(!error.is_transient());
    assert_eq!(everything_of(&store).await, before);
    assert_eq!(store.outbox_pending().await.unwrap().count, 1);
    let fenced = CommitState::Fenced(PartitionId(partition));
    assert_eq!(store.checkpoint_stood(&refused).await.unwrap(), fenced);
}

#[tokio::test]
async fn a_wrong_epoch_writes_nothing() {
    check_fenced(vec![full(part(0, 1, 10, 20), "b")], 0).await;
}

#[tokio::test]
async fn a_wrong_watermark_writes_nothing() {
    check_fenced(vec![full(part(0, 0, 9, 20), "b")], 0).await;
    check_fenced(vec![full(part(0, 0, 0, 10), "b")], 0).await;
}

#[tokio::test]
async fn one_foreign_partition_among_several_writes_nothing_and_is_named() {
    check_fenced(vec![full(part(0, 0, 10, 20), "b"), full(part(1, 7, 0, 5), "c"), full(part(2, 0, 0, 5), "d")], 1)
        .await;
}

#[tokio::test]
async fn a_partition_without_a_row_is_refused() {
    check_fenced(vec![full(part(9, 0, 0, 1), "b")], 9).await;
}

#[tokio::test]
async fn the_same_write_again_changes_nothing_also_where_the_watermark_did_not_move() {
    let (_database, store) = with_partitions(1).await;
    for (from, to) in [(0, 0), (0, 10)] {
        let again = write(vec![full(part(0, 0, from, to), "a")]);
        assert_eq!(store.checkpoint_stood(&again).await.unwrap(), CommitState::NotCommitted);
        store.store_checkpoint(&again).await.unwrap();
        let after = everything_of(&store).await;
        store.store_checkpoint(&again).await.unwrap();
        assert_eq!(everything_of(&store).await, after);
        assert_eq!(store.checkpoint_stood(&again).await.unwrap(), CommitState::Committed);
    }
    // Another write of silence is another write.
    store.store_checkpoint(&write(vec![full(part(0, 0, 10, 10), "a")])).await.unwrap();
    assert_eq!(store.ask("SELECT applied FROM partitions").await, "9");
}

#[tokio::test]
async fn a_message_stands_in_the_outbox_once_and_is_published_in_order() {
    let (_database, store) = with_partitions(2).await;
    let kinds = [
        ("m1", OutboxKind::Alert),
        ("m2", OutboxKind::HeldAlert),
        ("m3", OutboxKind::Event),
        ("m1", OutboxKind::Alert),
    ];
    let first = write_of(0, 1, |checkpoint| {
        checkpoint.outbox = kinds.iter().map(|(id, kind)| message("a", *kind, id)).collect();
    });
    store.store_checkpoint(&first).await.unwrap();
    store
        .store_checkpoint(&write_of(1, 2, |checkpoint| checkpoint.outbox = vec![message("a", OutboxKind::Alert, "m1")]))
        .await
        .unwrap();

    let ids = |rows: Vec<crate::store::outbox::StoredOutboxRow>| {
        rows.into_iter().map(|row| row.row.message_id).collect::<Vec<_>>()
    };
    let both = [PartitionId(0), PartitionId(1)];
    let unpublished = store.load_unpublished(&both, 0, 10).await.unwrap();
    let first_id = unpublished[0].id;
    assert_eq!(unpublished[0].row, message("a", OutboxKind::Alert, "m1"));
    assert_eq!(ids(unpublished), ["m1", "m3"]);
    assert_eq!(ids(store.load_unpublished(&both, first_id, 10).await.unwrap()), ["m3"]);
    assert_eq!(ids(store.load_unpublished(&both[1..], 0, 10).await.unwrap()), Vec::<String>::new());
    let pending = store.outbox_pending().await.unwrap();
    assert_eq!((pending.count, pending.oldest), (2, Some(hours(1))));

    let marks = CheckpointWrite { published: vec!["m1".to_owned()], ..write_of(2, 3, |_| {}) };
    store.store_checkpoint(&marks).await.unwrap();
    store.mark_published(&["m3".to_owned(), "unknown".to_owned()]).await.unwrap();
    assert_eq!(store.outbox_pending().await.unwrap().count, 0);
    let all = AlertQuery { limit: 10, ..AlertQuery::default() };
    assert_eq!(ids(store.list_alerts(&account("acme"), &all).await.unwrap()), ["m2", "m1"]);
    assert_eq!(store.prune_outbox(hours(2), 2).await.unwrap(), 2);
    assert_eq!(store.prune_outbox(hours(2), 2).await.unwrap(), 1);
}

#[tokio::test]
async fn a_customer_s_row_follows_what_it_brings_and_a_signpost_gets_none() {
    let (_database, store) = with_partitions(1).await;
    let mrr = |minor| Some(Money { minor, currency: Currency::parse("usd").unwrap() });
    let store_mrr = async |from: u64, minor| {
        let mut row = state("a");
        (row.mrr, row.is_new) = (minor, from == 0);
        let mut moved = state("cus_1");
        moved.status = Status::Moved;
        let write = write_of(from, from + 1, |checkpoint| checkpoint.states = vec![row, moved]);
        store.store_checkpoint(&write).await.unwrap();
        store.ask("SELECT external_id, mrr, currency FROM customers").await
    };
    assert_eq!(store_mrr(0, mrr(4_900)).await, "a|4900|usd");
    let written = store.ask("SELECT xmin FROM customers").await;
    assert_eq!(store_mrr(1, mrr(4_900)).await, "a|4900|usd");
    assert_eq!(store.ask("SELECT xmin FROM customers").await, written);
    assert_eq!(store_mrr(2, mrr(9_900)).await, "a|9900|usd");
}

/// The engine says what is new; a state that went missing meanwhile is written all the same.
#[tokio::test]
async fn a_state_that_is_not_there_after_all_is_inserted() {
    let (_database, store) = with_partitions(1).await;
    let mut known = state("known");
    store.store_checkpoint(&write_of(0, 1, |checkpoint| checkpoint.states = vec![known.clone()])).await.unwrap();
    known.is_new = false;
    known.snapshot = vec![1];
    let mut missing = state("missing");
    missing.is_new = false;
    let mut again = state("again");
    for from in 1..3 {
        again.snapshot = vec![u8::try_from(from).unwrap()];
        let rows = vec![known.clone(), missing.clone(), again.clone()];
        store.store_checkpoint(&write_of(from, from + 1, |checkpoint| checkpoint.states = rows)).await.unwrap();
    }
    let rows = "SELECT token, encode(snapshot, 'escape') FROM customer_states ORDER BY 1";
    assert_eq!(store.ask(rows).await, "again|\u{2}\nknown|\u{1}\nmissing|snapshot of missing");
}

#[tokio::test]
async fn odd_customer_ids_are_stored_and_found_as_they_are() {
    let (_database, store) = with_partitions(1).await;
    let odd = ["a\u{1}b", "\u{1}", "a\u{FFFF}0b", "{\"a\":'b'}", "ü €", "=41", " ", "\\N"];
    let write = write_of(0, 1, |checkpoint| {
        checkpoint.states = odd.iter().map(|id| state(id)).collect();
        checkpoint.scores = odd.iter().map(|id| score(id, hours(1), 50)).collect();
        checkpoint.links = odd.iter().map(|id| link(id, id, hours(1))).collect();
    });
    store.store_checkpoint(&write).await.unwrap();
    for row in &write.parts[0].checkpoint.states {
        let loaded = store.state_of(&row.account, &row.token).await.unwrap().unwrap();
        assert_eq!((&loaded.customer, &loaded.snapshot), (&row.customer, &row.snapshot));
        let links = store.resolve_links(&row.account, &[row.customer.as_str()]).await.unwrap();
        assert_eq!(links[row.customer.as_str()], row.customer);
    }
}

/// Updates that change neither the due hour nor the score touch no index.
#[tokio::test]
async fn updates_of_states_stay_on_their_page() {
    let (_database, store) = with_partitions(1).await;
    let write_all = async |from: u64| {
        let write = write_of(from, from + 1, |checkpoint| {
            checkpoint.states = (0..500).map(|number| state(&format!("c{number}"))).collect();
            for row in &mut checkpoint.states {
                row.due_at = Some(hours(10).plus_millis(from as i64 * 1_000));
                row.snapshot = vec![7; 180 + usize::try_from(from).unwrap()];
                row.level = level_of(row.score);
                row.is_new = from == 0;
            }
        });
        store.store_checkpoint(&write).await.unwrap();
    };
    write_all(0).await;
    for from in 1..6 {
        write_all(from).await;
        store.run("VACUUM customer_states").await;
    }
    store.run("SELECT pg_stat_force_next_flush()").await;
    let counts =
        store.ask("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'customer_states'").await;
    let (updates, hot) = counts.split_once('|').unwrap();
    let (updates, hot): (f64, f64) = (updates.parse().unwrap(), hot.parse().unwrap());
    assert!(updates == 2_500.0 && hot / updates > 0.9, "{hot} of {updates}");
}

#[tokio::test]
async fn a_checkpoint_lengthens_the_lease_it_was_written_under() {
    let (_database, store) = with_partitions(1).await;
    let session = store.open_session("a").await.unwrap();
    session.acquire_and_renew(Role::Engine, crate::store::leases::Target::FairShare).await.unwrap();
    store.run("UPDATE partitions SET lease_until = now() - interval '1 minute'").await;
    let mut part = part(0, 1, 0, 1);
    part.epoch = Epoch(1);
    store.store_checkpoint(&write(vec![part])).await.unwrap();
    assert!(!store.owners().await.unwrap()[0].expired);
}

//! Erasures: who is suppressed, what a checkpoint forgets, who works on what, and that nothing readable is left.

use std::time::Duration;

use uuid::Uuid;

use super::{
    Store, StoreError,
    archive::{archive, event},
    rows::{account, customer, hours, link, message, part, score, state, write, write_of},
    server::Database,
};
use crate::{
    engine::checkpoint::OutboxKind,
    event::ids::StreamSequence,
    store::{
        erasure::{Erased, ErasureJob, ErasureState, Forgotten, Requested, StreamEnds},
        leases::Role,
        stripe::PendingDispute,
    },
};

const SPAN: Duration = Duration::from_secs(10);

async fn ready() -> (Database, Store) {
    let (database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    store.ensure_partitions(Role::Archive, 1).await.unwrap();
    (database, store)
}

async fn request(store: &Store, id: &str) -> Uuid {
    match store.request_erasure(&account("acme"), &customer(id)).await.unwrap() {
        Requested::Accepted(id) => id,
        other @ Requested::BelongsTo(_) => panic!("{other:?}"),
    }
}

async fn claim(store: &Store, me: Uuid) -> Vec<ErasureJob> {
    store.claim_erasures(me, SPAN, 10).await.unwrap()
}

fn forgotten(erasure: Uuid, token: &str) -> Forgotten {
    Forgotten { erasure, account: account("acme"), token: token.into() }
}

/// The text of every row of every table but the archive's days, which the table above them shows.
async fn everything(store: &Store) -> String {
    let tables = store
        .ask("SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace")
        .await;
    let mut texts = String::new();
    for table in tables.lines() {
        texts += &store.ask(&format!("SELECT t::text FROM {table} t")).await;
        texts.push('\n');
    }
    texts
}

#[tokio::test]
async fn a_repeated_request_is_the_one_under_way_and_another_once_that_is_done() {
    let (_database, store) = ready().await;
    let first = request(&store, "a").await;
    assert_eq!(request(&store, "a").await, first);
    assert_ne!(request(&store, "b").await, first);
    assert_eq!(store.open_erasures().await.unwrap().count, 2);
    let me = Uuid::new_v4();
    claim(&store, me).await;
    store.finish_erasures(me, &[first]).await.unwrap();
    assert_eq!(store.open_erasures().await.unwrap().count, 1);
    assert_ne!(request(&store, "a").await, first);
}

#[tokio::test]
async fn of_two_requests_at_once_both_are_the_same() {
    let (_database, store) = ready().await;
    let (first, second) = tokio::join!(request(&store, "a"), request(&store, "a"));
    assert_eq!(first, second);
    assert_eq!(store.ask("SELECT count(*) FROM erasure_customers").await, "1");
}

#[tokio::test]
async fn who_is_suppressed_is_told_from_the_new_and_from_the_stored() {
    let (_database, store) = ready().await;
    let stored = write_of(0, 1, |checkpoint| checkpoint.states = vec![state("kept"), state("gone")]);
    store.store_checkpoint(&stored).await.unwrap();
    request(&store, "gone").await;
    request(&store, "never seen").await;
    let keys = [("acme", "kept"), ("acme", "gone"), ("acme", "new"), ("acme", "never=20seen"), ("other", "gone")];
    let known = store.load_customers(&keys).await.unwrap();
    assert_eq!(known.states.iter().map(|row| &*row.token).collect::<Vec<_>>(), ["kept"]);
    let mut suppressed: Vec<&str> = known.suppressed.iter().map(|key| &**key).collect();
    suppressed.sort_unstable();
    assert_eq!(suppressed, ["acme.gone", "acme.never=20seen"]);
    assert!(store.is_suppressed(&account("acme"), &["x", "gone"], &[]).await.unwrap());
    assert!(!store.is_suppressed(&account("acme"), &["kept"], &["gone"]).await.unwrap(), "a charge is no customer");
    assert!(!store.is_suppressed(&account("other"), &["gone"], &[]).await.unwrap());
}

#[tokio::test]
async fn the_keys_of_two_databases_differ() {
    let ((_one, first), (_other, second)) = (ready().await, ready().await);
    let key = "SELECT encode(key, 'hex') FROM suppression_key";
    let (first, second) = (first.ask(key).await, second.ask(key).await);
    assert_eq!((first.len(), second.len()), (64, 64));
    assert_ne!(first, second);
}

#[tokio::test]
async fn linked_stripe_customers_go_with_the_customer_and_not_alone() {
    let (_database, store) = ready().await;
    let links = |at: u64, links: &[(&str, &str)]| {
        let links = links.iter().map(|(stripe, id)| link(stripe, id, hours(1))).collect();
        write_of(at, at + 1, |checkpoint| checkpoint.links = links)
    };
    store.store_checkpoint(&links(0, &[("cus_1", "a"), ("cus_2", "a"), ("cus_3", "b")])).await.unwrap();
    let alone = store.request_erasure(&account("acme"), &customer("cus_1")).await.unwrap();
    assert_eq!(alone, Requested::BelongsTo(customer("a")));
    request(&store, "a").await;
    let jobs = claim(&store, Uuid::new_v4()).await;
    let tokens = |jobs: &[ErasureJob]| jobs[0].customers.iter().map(|row| row.token.to_string()).collect::<Vec<_>>();
    assert_eq!(tokens(&jobs), ["a", "cus_1", "cus_2"]);
    assert!(!store.follow_links(&jobs[0]).await.unwrap());
    // One that was on its way when the erasure was asked for.
    store.store_checkpoint(&links(1, &[("cus_4", "a")])).await.unwrap();
    assert!(store.follow_links(&jobs[0]).await.unwrap());
    assert!(store.is_suppressed(&account("acme"), &["cus_4"], &[]).await.unwrap());
    assert_eq!(store.customers_to_forget().await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_checkpoint_forgets_what_is_stored_also_by_itself() {
    let (_database, store) = ready().await;
    let both = |at: u64| {
        write_of(at, at + 1, |checkpoint| {
            checkpoint.states = vec![state("gone"), state("kept")];
            checkpoint.scores = vec![score("gone", hours(1), 50), score("kept", hours(1), 50)];
            checkpoint.outbox =
                ["gone", "kept"].map(|id| message(id, OutboxKind::Alert, &format!("acme:alert:{id}{at}"))).to_vec();
        })
    };
    store.store_checkpoint(&both(0)).await.unwrap();
    store
        .run(
            "INSERT INTO accounts (id, name) VALUES ('acme', 'acme');
             INSERT INTO channels (id, account, name, kind, target, settings, templates)
                VALUES (gen_random_uuid(), 'acme', 'x', 'email', '{}', '{}', '{}');
             INSERT INTO deliveries (account, channel_id, alert_id, channel, target, token, body, next_attempt_at, created_at)
                SELECT 'acme', c.id, token || '0', 'email', 'x', token, '{}', now(), now()
                FROM channels c, unnest(ARRAY['gone', 'kept']) AS token",
        )
        .await;
    let erasure = request(&store, "gone").await;
    let mut second = both(1);
    second.parts[0].forgotten = vec![forgotten(erasure, "gone")];
    store.store_checkpoint(&second).await.unwrap();
    let left =
        "SELECT (SELECT string_agg(token, ' ') FROM customer_states), (SELECT string_agg(token, ' ') FROM risk_scores),
        (SELECT string_agg(token, ' ') FROM outbox), (SELECT string_agg(alert_id, ' ') FROM deliveries)";
    assert_eq!(store.ask(left).await, "kept|kept kept|kept kept|kept0");
    let found = store.customers_to_forget().await.unwrap();
    assert_eq!((found.len(), found[0].forgotten, found[0].settled), (1, true, false));
    store.settle_forgotten(&[forgotten(erasure, "gone")]).await.unwrap();
    assert!(claim(&store, Uuid::new_v4()).await[0].customers[0].settled);
}

/// Whoever lost the partition can neither forget nor bring back.
#[tokio::test]
async fn a_checkpoint_of_an_older_epoch_forgets_nobody() {
    let (_database, store) = ready().await;
    let erasure = request(&store, "gone").await;
    let mut fenced = part(0, 7, 0, 1);
    fenced.forgotten = vec![forgotten(erasure, "gone")];
    let refused = store.store_checkpoint(&write(vec![fenced])).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })));
    assert!(!store.customers_to_forget().await.unwrap()[0].forgotten);
}

#[tokio::test]
async fn suppressed_messages_are_counted_and_wait_to_be_overwritten() {
    let (_database, store) = ready().await;
    let mut counted = write_of(0, 3, |checkpoint| {
        (checkpoint.counters.received, checkpoint.counters.suppressed) = (3, 3);
    });
    counted.parts[0].unwanted = [3, 1, 2].map(StreamSequence).to_vec();
    store.store_checkpoint(&counted).await.unwrap();
    assert_eq!(store.ask("SELECT received, suppressed FROM partitions WHERE role = 'engine'").await, "3|3");
    assert_eq!(store.owners().await.unwrap()[0].counters.suppressed, 3);
    assert!(store.open_erasures().await.unwrap().has_unwanted);
    let mut claimed = store.claim_unwanted(SPAN, 2).await.unwrap();
    claimed.sort_unstable();
    assert_eq!(claimed, [1, 2].map(StreamSequence));
    assert_eq!(store.claim_unwanted(SPAN, 2).await.unwrap(), [StreamSequence(3)]);
    assert_eq!(store.claim_unwanted(SPAN, 2).await.unwrap(), []);
    store.run("UPDATE unwanted_events SET claimed_until = now() - interval '1 s'").await;
    assert_eq!(store.claim_unwanted(SPAN, 9).await.unwrap().len(), 3, "whoever claimed them may have died");
    store.forget_unwanted(&[1, 2, 3].map(StreamSequence)).await.unwrap();
    assert!(!store.open_erasures().await.unwrap().has_unwanted);
}

#[tokio::test]
async fn who_claimed_an_erasure_has_it_alone_until_the_claim_runs_out() {
    let (_database, store) = ready().await;
    let id = request(&store, "a").await;
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(claim(&store, one).await.len(), 1);
    assert_eq!(claim(&store, other).await.len(), 0);
    store.move_erasure_on(other, id, ErasureState::Checking, Duration::ZERO, Erased::default()).await.unwrap();
    store.finish_erasures(other, &[id]).await.unwrap();
    let ends = StreamEnds { events: StreamSequence(5), webhooks: StreamSequence(6) };
    assert!(store.end_erasure_at(other, id, ends).await.is_err(), "it is another's");
    assert_eq!(store.end_erasure_at(one, id, ends).await.unwrap(), ends);
    let later = StreamEnds { events: StreamSequence(9), webhooks: StreamSequence(9) };
    assert_eq!(store.end_erasure_at(one, id, later).await.unwrap(), ends, "the first look counts");
    store.run("UPDATE erasures SET claimed_until = now() - interval '1 s'").await;
    assert_eq!(claim(&store, other).await[0].state, ErasureState::Waiting);
    let erased = Erased { events: 2, rows: 3, ..Erased::default() };
    for _ in 0..2 {
        store.move_erasure_on(other, id, ErasureState::Checking, SPAN, erased).await.unwrap();
    }
    let shown = store.erasure(&account("acme"), id).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.erased), (ErasureState::Checking, erased), "it was given back after the first");
    assert_eq!(store.erasure(&account("other"), id).await.unwrap(), None);
    assert_eq!(claim(&store, one).await.len(), 0, "it is not due yet");
}

#[tokio::test]
async fn the_rows_of_a_customer_go_and_nothing_readable_is_left() {
    let (_database, store) = ready().await;
    let mut first = write_of(0, 1, |checkpoint| {
        checkpoint.states = vec![state("canary-1"), state("cus_canary"), state("kept")];
        checkpoint.scores = vec![score("canary-1", hours(1), 50)];
        checkpoint.outbox = vec![message("canary-1", OutboxKind::Alert, "m1")];
        checkpoint.links = vec![link("cus_canary", "canary-1", hours(1)), link("cus_2", "kept", hours(1))];
    });
    first.parts[0].checkpoint.counters.received = 1;
    store.store_checkpoint(&first).await.unwrap();
    let acme = account("acme");
    store.remember_charges(&acme, &[("ch_canary", "cus_canary", hours(1)), ("ch_2", "cus_2", hours(1))]).await.unwrap();
    let dispute = |id: &str, body: &[u8]| PendingDispute { event_id: id.to_owned(), body: body.to_vec(), at: hours(1) };
    store.park_pending(&acme, &["ch_canary"], &dispute("evt_canary", b"{}")).await.unwrap();
    store.park_pending(&acme, &["ch_7"], &dispute("evt_named", b"canary-1")).await.unwrap();
    store.park_pending(&acme, &["ch_8"], &dispute("evt_8", b"{}")).await.unwrap();
    let mut archived = event(1, hours(1));
    (archived.token, archived.customer) = ("canary-1".into(), Some(customer("canary-1")));
    store.copy_events(&archive(0, vec![archived.clone(), event(2, hours(1))])).await.unwrap();
    store
        .run(
            "INSERT INTO interventions (account_id, token, external_id, action, note)
                VALUES ('acme', 'canary-1', 'canary-1', 'call', 'canary');
             INSERT INTO accounts (id, name) VALUES ('acme', 'acme');
             INSERT INTO channels (id, account, name, kind, target, settings, templates)
                VALUES (gen_random_uuid(), 'acme', 'x', 'email', '{}', '{}', '{}');
             INSERT INTO deliveries (account, channel_id, alert_id, channel, target, token, body, next_attempt_at, created_at)
                SELECT 'acme', c.id, token, 'email', 'x', token, convert_to(token, 'UTF8'), now(), now()
                FROM channels c, unnest(ARRAY['canary-1', 'kept']) AS token",
        )
        .await;
    store
        .run(
            "INSERT INTO acknowledgements (account, alert_id, token, acknowledged_by, at)
                VALUES ('acme', 'a', 'canary-1', 'canary', now())",
        )
        .await;
    let id = request(&store, "canary-1").await;
    let me = Uuid::new_v4();
    let job = claim(&store, me).await.remove(0);
    let charges = store.charges_of(&job).await.unwrap();
    assert_eq!(charges, ["ch_canary"]);
    assert_eq!(store.all_pending(&acme).await.unwrap().len(), 3);
    for expected in [14, 0] {
        let erased = store.erase_rows(&job, &charges, &["evt_named"]).await.unwrap();
        assert_eq!(erased.rows, expected);
    }
    // What comes late is refused.
    store.remember_charges(&acme, &[("ch_canary", "cus_canary", hours(2))]).await.unwrap();
    archived.sequence = StreamSequence(3);
    store.copy_events(&archive(2, vec![archived, event(4, hours(1))])).await.unwrap();
    assert!(store.is_suppressed(&acme, &[], &["ch_canary"]).await.unwrap());
    store.finish_erasures(me, &[id]).await.unwrap();
    let left = everything(&store).await;
    assert!(!left.contains("canary"), "{left}");
    assert!(left.contains("cus_2") && left.contains("evt_8") && left.contains("ch_2") && left.contains("kept"));
    assert_eq!(store.ask("SELECT string_agg(sequence::text, ' ' ORDER BY sequence) FROM events").await, "2 4");
    let shown = store.erasure(&acme, id).await.unwrap().unwrap();
    assert_eq!(shown.state, ErasureState::Done);
    assert!(shown.completed_at.is_some());
}

#[tokio::test]
async fn current_scores_are_the_last_of_each_customer_page_by_page() {
    let (_database, store) = ready().await;
    let scored = write_of(0, 1, |checkpoint| {
        checkpoint.states = ["a", "b", "c"].map(state).to_vec();
        checkpoint.scores = vec![score("a", hours(1), 10), score("a", hours(2), 20), score("c", hours(3), 30)];
    });
    store.store_checkpoint(&scored).await.unwrap();
    let first = store.current_scores(None, 2).await.unwrap();
    let rest = store.current_scores(Some(("acme", "b")), 2).await.unwrap();
    let scores: Vec<_> =
        first.iter().chain(&rest).map(|row| (&*row.token, row.score.map(|(score, .., at)| (score, at)))).collect();
    assert_eq!(scores, [("a", Some((20, hours(2)))), ("b", None), ("c", Some((30, hours(3))))]);
}

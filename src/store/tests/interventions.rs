//! Interventions: begun once, closed once, seen by their account alone; and what else is stored of a customer.

use uuid::Uuid;

use super::{
    rows::{account, customer, hours, link, write_of},
    server::Database,
};
use crate::{
    engine::checkpoint::Level,
    event::{
        ids::CustomerId,
        subject::{self, Token},
    },
    store::{
        interventions::{Change, Closing, InterventionQuery, NewIntervention, Outcome, Standing},
        leases::Role,
    },
};

fn new<'a>(id: u128, customer: &'a CustomerId, token: &'a Token, hour: i64) -> NewIntervention<'a> {
    NewIntervention {
        id: Uuid::from_u128(id),
        customer,
        token,
        kind: None,
        action: "ca\0ll",
        note: None,
        created_by: Some("anna"),
        standing: Standing { score: 70, level: Level::High },
        mrr: None,
        at: hours(hour),
    }
}

#[tokio::test]
async fn nothing_is_done_about_a_customer_who_was_erased() {
    let (_database, store) = Database::migrated().await;
    let (acme, other) = (account("acme"), account("other"));
    let id = customer("gone");
    let token = subject::encode(&id);
    store.request_erasure(&acme, &id).await.unwrap();
    assert!(!store.open_intervention(&acme, &new(1, &id, &token, 1)).await.unwrap());
    assert_eq!(store.intervention(&acme, Uuid::from_u128(1)).await.unwrap(), None);
    assert!(store.open_intervention(&other, &new(1, &id, &token, 1)).await.unwrap());
}

#[tokio::test]
async fn an_intervention_begins_once_and_ends_once() {
    let (_database, store) = Database::migrated().await;
    let (acme, other) = (account("acme"), account("other"));
    let id = customer("a\u{1}b");
    let token = subject::encode(&id);
    let first = new(1, &id, &token, 1);
    assert!(store.open_intervention(&acme, &first).await.unwrap());
    assert!(!store.open_intervention(&acme, &NewIntervention { action: "other", ..first.clone() }).await.unwrap());
    assert!(store.open_intervention(&other, &first).await.unwrap(), "ids are an account's own");
    let stored = store.intervention(&acme, first.id).await.unwrap().unwrap();
    assert_eq!((stored.action.as_str(), stored.customer.as_str(), stored.outcome), ("ca\0ll", "a\u{1}b", None));

    let closing = |outcome, note| Closing {
        outcome,
        change: Change { note, ..Change::default() },
        standing: Standing { score: 5, level: Level::Low },
        at: hours(9),
    };
    assert!(store.close_intervention(&acme, first.id, &closing(Outcome::NoReply, Some("tried"))).await.unwrap());
    assert!(!store.close_intervention(&acme, first.id, &closing(Outcome::Saved, None)).await.unwrap());
    assert!(!store.close_intervention(&acme, Uuid::from_u128(2), &closing(Outcome::Saved, None)).await.unwrap());
    let ended = store.intervention(&acme, first.id).await.unwrap().unwrap();
    assert_eq!((ended.outcome, ended.note.as_deref()), (Some(Outcome::NoReply), Some("tried")));
    assert_eq!((ended.score_at_start, ended.level_at_start), (Some(70), Some(Level::High)));
    assert_eq!((ended.score_at_end, ended.level_at_end, ended.closed_at), (Some(5), Some(Level::Low), Some(hours(9))));
    assert_eq!(store.intervention(&other, first.id).await.unwrap().unwrap().outcome, None);
}

#[tokio::test]
async fn interventions_come_in_pages_the_newest_first() {
    let (_database, store) = Database::migrated().await;
    let acme = account("acme");
    let (one, two) = (customer("one"), customer("two"));
    let tokens = (subject::encode(&one), subject::encode(&two));
    for number in 0..12_u8 {
        let (customer, token) = if number % 3 == 0 { (&two, &tokens.1) } else { (&one, &tokens.0) };
        // Three begin at the same instant each.
        let hour = i64::from(number / 3);
        store.open_intervention(&acme, &new(number.into(), customer, token, hour)).await.unwrap();
    }
    let closing = Closing {
        outcome: Outcome::Saved,
        change: Change::default(),
        standing: Standing { score: 0, level: Level::Low },
        at: hours(20),
    };
    store.close_intervention(&acme, Uuid::from_u128(4), &closing).await.unwrap();
    let all = InterventionQuery { limit: 100, ..InterventionQuery::default() };
    for (query, expected) in [
        (all, 12),
        (InterventionQuery { token: Some("two"), ..all }, 4),
        (InterventionQuery { open: Some(true), ..all }, 11),
        (InterventionQuery { open: Some(false), ..all }, 1),
        (InterventionQuery { open: Some(true), token: Some("one"), ..all }, 7),
    ] {
        let whole = store.list_interventions(&acme, &query).await.unwrap();
        assert_eq!(whole.len(), expected, "{query:?}");
        assert!(whole.is_sorted_by_key(|row| std::cmp::Reverse((row.created_at, row.id))));
        let mut paged = Vec::new();
        let mut before = None;
        loop {
            let page = store.list_interventions(&acme, &InterventionQuery { before, limit: 2, ..query }).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some((last.created_at, last.id));
            paged.extend(page);
        }
        assert_eq!(paged, whole, "{query:?}");
    }
    assert_eq!(store.list_interventions(&account("other"), &all).await.unwrap(), []);
}

#[tokio::test]
async fn whoever_asks_sees_links_and_charges() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let acme = account("acme");
    let write = write_of(0, 1, |checkpoint| {
        checkpoint.links =
            vec![link("cus_2", "a", hours(2)), link("cus_1", "a", hours(1)), link("cus_3", "b", hours(1))];
    });
    store.store_checkpoint(&write).await.unwrap();
    let links = store.links_of(&acme, &customer("a")).await.unwrap();
    assert_eq!(links.iter().map(|link| link.stripe_customer.as_str()).collect::<Vec<_>>(), ["cus_1", "cus_2"]);
    let said = [("ch_1", "cus_1", hours(1)), ("ch_2", "cus_1", hours(2)), ("ch_3", "cus_3", hours(3))];
    store.remember_charges(&acme, &said).await.unwrap();
    let charges = store.stripe_charges_of(&acme, "cus_1", None, 10).await.unwrap();
    assert_eq!(charges.iter().map(|charge| charge.charge.as_str()).collect::<Vec<_>>(), ["ch_1", "ch_2"]);
    assert_eq!(store.stripe_charges_of(&acme, "cus_1", Some("ch_1"), 10).await.unwrap().len(), 1);
}

//! The read side: lists in pages, history, sums.

use super::{
    Store,
    archive::{archive, event},
    rows::{account, customer, hours, level_of, message, score, state, write_of},
    server::Database,
};
use crate::{
    engine::{
        alert::AlertKind,
        checkpoint::{Level, OutboxKind, OutboxRow, StateRow, Status},
    },
    event::{
        contact::Contact,
        money::{Currency, Money},
        subject,
    },
    store::{
        archive::ArchiveWrite,
        customers::{ContactRow, CustomerQuery, Levels, ListedCustomer, Order, Statuses},
        leases::Role,
        queries::AlertQuery,
    },
};

/// Customers of `acme` with scores and what they bring, some of the same rank.
async fn customers() -> (Database, Store) {
    let (database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let write = write_of(0, 1, |checkpoint| {
        for number in 0..40_u8 {
            let mut row = state(&format!("c{number:02}"));
            row.score = number % 5 * 20;
            row.level = level_of(row.score);
            row.mrr = (number % 3 != 0).then(|| Money {
                minor: i64::from(number % 4) * 1_000,
                currency: Currency::parse(if number % 2 == 0 { "usd" } else { "eur" }).unwrap(),
            });
            row.status = match number {
                38 => Status::Churned,
                39 => Status::Moved,
                _ => Status::Active,
            };
            checkpoint.states.push(row);
        }
        let mut foreign = state("c00");
        (foreign.account, foreign.score, foreign.level) = (account("other"), 100, Level::High);
        checkpoint.states.push(foreign);
    });
    store.store_checkpoint(&write).await.unwrap();
    (database, store)
}

#[tokio::test]
async fn customers_at_risk_come_in_pages_by_rank_without_gaps() {
    let (_database, store) = customers().await;
    let acme = account("acme");
    for order in [Order::Score, Order::Mrr, Order::MrrAtRisk] {
        for levels in [Levels::AtRisk, Levels::Any, Levels::Only(Level::Low), Levels::Only(Level::High)] {
            let query = |limit| CustomerQuery { levels, order, ..CustomerQuery::at_risk(limit) };
            let all = store.list_customers(&acme, &query(100)).await.unwrap();
            assert!(!all.is_empty());
            let expected = |found: Level| match levels {
                Levels::Any => true,
                Levels::AtRisk => found != Level::Low,
                Levels::Only(level) => found == level,
            };
            assert!(all.iter().all(|row| expected(row.level) && row.status == Status::Active));
            assert!(all.is_sorted_by_key(|row| (std::cmp::Reverse(rank_of(order, row)), row.token.clone())));
            let mut paged: Vec<ListedCustomer> = Vec::new();
            loop {
                let after = paged.last().map(ListedCustomer::cursor);
                let page = store.list_customers(&acme, &CustomerQuery { after, ..query(3) }).await.unwrap();
                if page.is_empty() {
                    break;
                }
                paged.extend(page);
            }
            assert_eq!(paged, all, "{order:?} {levels:?}");
        }
    }
    let with_churned = CustomerQuery { statuses: Statuses::Any, levels: Levels::Any, ..CustomerQuery::at_risk(100) };
    let both = store.list_customers(&acme, &with_churned).await.unwrap();
    assert_eq!(both.iter().filter(|row| row.status == Status::Churned).count(), 1);
    assert_eq!(both.iter().filter(|row| row.status == Status::Moved).count(), 0);
}

/// What a list goes by, worked out again.
fn rank_of(order: Order, row: &ListedCustomer) -> i64 {
    let minor = row.mrr.map(|mrr| mrr.minor);
    match order {
        Order::Score => row.score.into(),
        Order::Mrr => minor.unwrap_or(-1),
        Order::MrrAtRisk => minor.map_or(-1, |minor| minor * i64::from(row.score)),
    }
}

#[tokio::test]
async fn amounts_out_of_all_bounds_are_stored_and_listed() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let write = write_of(0, 1, |checkpoint| {
        for (id, minor) in [("most", i64::MAX), ("much", i64::MAX - 1), ("least", i64::MIN)] {
            let mrr = Some(Money { minor, currency: Currency::parse("usd").unwrap() });
            checkpoint.states.push(StateRow { score: 100, level: Level::High, mrr, ..state(id) });
        }
    });
    store.store_checkpoint(&write).await.unwrap();
    let acme = account("acme");
    for order in [Order::Mrr, Order::MrrAtRisk] {
        let rows = store.list_customers(&acme, &CustomerQuery { order, ..CustomerQuery::at_risk(5) }).await.unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!(&*rows[2].token, "least");
        assert_eq!(rows[2].mrr_at_risk().unwrap().minor, 0);
    }
    store.level_summary(&acme).await.unwrap();
}

/// Stores contacts as the archive does.
async fn keep(store: &Store, from: u64, contacts: &[ContactRow]) {
    store.ensure_partitions(Role::Archive, 1).await.unwrap();
    let write = archive(from, vec![event(from + 1, hours(1))]);
    store.copy_events(&ArchiveWrite { contacts: contacts.to_vec(), ..write }).await.unwrap();
}

#[tokio::test]
async fn a_search_finds_ids_and_companies_by_their_beginning() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let ids = ["acme-1", "acme-2", "Acme-3", "a\u{1}b", "ünder", "other", "100%", "1000"];
    let write = write_of(0, 1, |checkpoint| checkpoint.states = ids.map(state).into());
    store.store_checkpoint(&write).await.unwrap();
    let acme = account("acme");
    let contact = |id: &str, company: &str, hour| ContactRow {
        account: account("acme"),
        customer: customer(id),
        contact: Contact { company_name: Some(company.to_owned()), email: None },
        at: hours(hour),
    };
    let contacts = [contact("other", "ACME Inc.", 1), contact("ünder", "a\0c", 1), contact("later", "Zed", 1)];
    keep(&store, 0, &contacts).await;
    for (text, expected) in [
        ("acme", vec!["acme-1", "acme-2", "other"]),
        ("acme-", vec!["acme-1", "acme-2"]),
        ("Acme", vec!["Acme-3", "other"]),
        ("a\0", vec!["ünder"]),
        ("a\u{1}", vec!["a\u{1}b"]),
        ("ü", vec!["ünder"]),
        ("100%", vec!["100%"]),
        ("cme", vec![]),
        ("\u{10FFFF}", vec![]),
        ("\0", vec![]),
    ] {
        let found = store.find_customers(&acme, text).await.unwrap();
        let mut tokens: Vec<String> =
            expected.iter().map(|id| subject::encode(&customer(id)).as_str().to_owned()).collect();
        let mut by_token = found.tokens.clone();
        tokens.sort();
        by_token.sort();
        assert_eq!((by_token, found.truncated), (tokens, false), "{text}");
        assert_eq!(store.find_customers(&account("other"), text).await.unwrap(), Default::default());
    }
    let found = store.find_customers(&acme, "acme").await.unwrap();
    let among = CustomerQuery { among: Some(&found.tokens), levels: Levels::Any, ..CustomerQuery::at_risk(10) };
    let listed = store.list_customers(&acme, &among).await.unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[2].company_name.as_deref(), Some("ACME Inc."));
}

#[tokio::test]
async fn of_two_contacts_the_later_counts_in_any_order() {
    let (_database, store) = Database::migrated().await;
    let acme = account("acme");
    let said = |company: Option<&str>, email: Option<&str>, hour| ContactRow {
        account: account("acme"),
        customer: customer("c"),
        contact: Contact { company_name: company.map(str::to_owned), email: email.map(str::to_owned) },
        at: hours(hour),
    };
    let both = [said(Some("Old"), Some("old@x.org"), 1), said(Some("New"), None, 2)];
    keep(&store, 0, &both).await;
    keep(&store, 1, &both[..1]).await;
    keep(&store, 2, &both).await;
    let profile = store.profile(&acme, &customer("c")).await.unwrap().unwrap();
    let expected = Contact { company_name: Some("New".to_owned()), email: Some("old@x.org".to_owned()) };
    assert_eq!((profile.contact, profile.contact_at), (expected, Some(hours(2))));
    assert_eq!(store.profile(&account("other"), &customer("c")).await.unwrap(), None);
    assert_eq!(store.profile(&acme, &customer("d")).await.unwrap(), None);
}

#[tokio::test]
async fn alerts_are_found_by_customer_level_kind_and_fate() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let alert = |number: u32, id: &str, kind, level: &str, what: &str| OutboxRow {
        subject: format!("churn.alerts.acme.{level}.{id}.{number}"),
        body: format!(r#"{{"id":"{number}","kind":"{what}"}}"#).into_bytes(),
        ..message(id, kind, &format!("m{number}"))
    };
    let write = write_of(0, 1, |checkpoint| {
        checkpoint.outbox = vec![
            alert(1, "a", OutboxKind::Alert, "high", "risk.raised"),
            alert(2, "a", OutboxKind::HeldAlert, "medium", "risk.lowered"),
            alert(3, "b", OutboxKind::Alert, "high", "customer.churned"),
            message("a", OutboxKind::Event, "m4"),
            alert(5, "a", OutboxKind::Alert, "medium", "risk.raised"),
        ];
    });
    store.store_checkpoint(&write).await.unwrap();
    let all = AlertQuery { limit: 10, ..AlertQuery::default() };
    for (query, expected) in [
        (all, "m5 m3 m2 m1"),
        (AlertQuery { token: Some("a"), ..all }, "m5 m2 m1"),
        (AlertQuery { level: Some(Level::Medium), ..all }, "m5 m2"),
        (AlertQuery { kind: Some(AlertKind::RiskRaised), ..all }, "m5 m1"),
        (AlertQuery { held: Some(true), ..all }, "m2"),
        (AlertQuery { held: Some(false), token: Some("a"), level: Some(Level::High), ..all }, "m1"),
        (AlertQuery { limit: 2, ..all }, "m5 m3"),
    ] {
        let rows = store.list_alerts(&account("acme"), &query).await.unwrap();
        let ids: Vec<&str> = rows.iter().map(|row| row.row.message_id.as_str()).collect();
        assert_eq!(ids.join(" "), expected, "{query:?}");
    }
    assert!(store.list_alerts(&account("other"), &all).await.unwrap().is_empty());
}

#[tokio::test]
async fn levels_are_summed_up_by_currency() {
    let (_database, store) = customers().await;
    let summary = store.level_summary(&account("acme")).await.unwrap();
    assert_eq!(summary.iter().map(|sum| sum.level).collect::<Vec<_>>(), [Level::High, Level::Medium, Level::Low]);
    assert_eq!(summary.iter().map(|sum| sum.customers).sum::<u64>(), 38);
    assert_eq!(summary[0].mrr.len(), 2);
    assert!(store.level_summary(&account("nobody")).await.unwrap().iter().all(|sum| sum.customers == 0));
}

#[tokio::test]
async fn a_score_s_history_comes_newest_first() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let write = write_of(0, 1, |checkpoint| {
        checkpoint.scores = (1..=5).map(|hour| score("a", hours(hour.into()), hour * 10)).collect();
        checkpoint.scores.push(score("b", hours(9), 90));
    });
    store.store_checkpoint(&write).await.unwrap();
    let acme = account("acme");
    let first = store.score_history(&acme, "a", None, 2).await.unwrap();
    assert_eq!(first.iter().map(|line| (line.at, line.score)).collect::<Vec<_>>(), [(hours(5), 50), (hours(4), 40)]);
    let rest = store.score_history(&acme, "a", Some(first[1].id), 10).await.unwrap();
    assert_eq!(rest.iter().map(|line| line.score).collect::<Vec<_>>(), [30, 20, 10]);
    assert_eq!(rest[0].factors[0].reason, "No login for 15 days");
}

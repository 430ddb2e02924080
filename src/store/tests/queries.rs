//! The read side: lists in pages, history, sums.

use super::{
    Store,
    rows::{account, hours, level_of, score, state, write_of},
    server::Database,
};
use crate::{
    engine::checkpoint::{Level, Status},
    event::money::{Currency, Money},
    store::{
        leases::Role,
        queries::{CustomerQuery, Order},
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
    for order in [Order::Score, Order::Mrr] {
        for level in [None, Some(Level::Low), Some(Level::Medium), Some(Level::High)] {
            let query = |limit| CustomerQuery { level, order, ..CustomerQuery::at_risk(limit) };
            let all = store.list_customers(&acme, &query(100)).await.unwrap();
            assert!(!all.is_empty());
            let expected = |found: Level| level.map_or(found != Level::Low, |level| found == level);
            assert!(all.iter().all(|row| expected(row.level) && row.status == Status::Active));
            assert!(all.is_sorted_by_key(|row| (std::cmp::Reverse(row.cursor(order).rank), row.token.clone())));
            let mut paged: Vec<crate::store::queries::ListedCustomer> = Vec::new();
            loop {
                let after = paged.last().map(|row| row.cursor(order));
                let page = store.list_customers(&acme, &CustomerQuery { after, ..query(3) }).await.unwrap();
                if page.is_empty() {
                    break;
                }
                paged.extend(page);
            }
            assert_eq!(paged, all, "{order:?} {level:?}");
        }
    }
    let with_churned = CustomerQuery { include_churned: true, ..CustomerQuery::at_risk(100) };
    let both = store.list_customers(&acme, &with_churned).await.unwrap();
    assert_eq!(both.iter().filter(|row| row.status == Status::Churned).count(), 1);
    assert_eq!(both.iter().filter(|row| row.status == Status::Moved).count(), 0);
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

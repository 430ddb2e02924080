//! Loading states: by key, by due hour, by page.

use super::{
    rows::{account, hours, level_of, part, score, state, write, write_of},
    server::Database,
};
use crate::{
    event::ids::PartitionId,
    store::{leases::Role, states::DueRow},
};

#[tokio::test]
async fn states_are_loaded_by_key_and_unknown_ones_left_out() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let mut row = state("b");
    (row.due_at, row.score, row.level) = (Some(hours(3)), 70, level_of(70));
    let write = write_of(0, 1, |checkpoint| checkpoint.states = vec![state("c"), row.clone(), state("a")]);
    store.store_checkpoint(&write).await.unwrap();
    let mut loaded = store.load_states(&[("acme", "b"), ("acme", "zz"), ("other", "a"), ("acme", "a")]).await.unwrap();
    loaded.sort_by(|left, right| left.token.cmp(&right.token));
    assert_eq!(loaded.iter().map(|state| &*state.token).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((loaded[1].due_at, loaded[1].score, loaded[1].level), (row.due_at, 70, row.level));
    assert_eq!(loaded[1].snapshot, row.snapshot);
    assert_eq!(store.load_states(&[]).await.unwrap(), []);
    assert_eq!(store.state_of(&account("acme"), "zz").await.unwrap(), None);
}

#[tokio::test]
async fn who_is_due_comes_by_hour_and_key_across_partitions_in_pages_without_gaps() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 3).await.unwrap();
    let mut parts: Vec<_> = (0..3).map(|id| part(id, 0, 0, 1)).collect();
    for number in 0..90_u16 {
        let mut row = state(&format!("c{:02}", (number * 37) % 90));
        row.due_at = (number % 10 != 0).then(|| hours(i64::from(number % 7)).plus_millis(i64::from(number)));
        parts[usize::from(number % 3)].checkpoint.states.push(row);
    }
    store.store_checkpoint(&write(parts.clone())).await.unwrap();

    let until = hours(4).hour();
    let mut expected: Vec<DueRow> = parts[..2]
        .iter()
        .flat_map(|part| part.checkpoint.states.iter().map(move |row| (part.checkpoint.partition, row)))
        .filter_map(|(partition, row)| {
            let due_at = row.due_at.filter(|due| due.hour() <= until)?;
            Some(DueRow { partition, account: row.account.clone(), token: row.token.clone(), due_at })
        })
        .collect();
    expected.sort_by(|left, right| (left.due_at.hour(), &left.token).cmp(&(right.due_at.hour(), &right.token)));

    for limit in [1, 7, 1_000] {
        let mut found: Vec<DueRow> = Vec::new();
        loop {
            let page = store.load_due(&[PartitionId(0), PartitionId(1)], until, found.last(), limit).await.unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= limit);
            found.extend(page);
        }
        assert_eq!(found, expected, "pages of {limit}");
    }
}

#[tokio::test]
async fn a_partition_is_swept_in_pages_by_key() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 2).await.unwrap();
    let mut parts = vec![part(0, 0, 0, 1), part(1, 0, 0, 1)];
    for number in 0..25 {
        parts[0].checkpoint.states.push(state(&format!("c{number:02}")));
        let mut other = state(&format!("c{number:02}"));
        other.account = account("other");
        parts[number % 2].checkpoint.states.push(other);
    }
    store.store_checkpoint(&write(parts)).await.unwrap();
    let mut found: Vec<(String, String)> = Vec::new();
    loop {
        let after = found.last().map(|(account, token)| (account.as_str(), token.as_str()));
        let page = store.load_page(&[PartitionId(0)], after, 7).await.unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page.iter().map(|state| (state.account.to_string(), state.token.to_string())));
    }
    assert_eq!(found.len(), 25 + 13);
    assert!(found.is_sorted());
}

#[tokio::test]
async fn recent_scores_are_the_last_of_each_customer() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 2).await.unwrap();
    let write = write_of(0, 1, |checkpoint| {
        checkpoint.scores = vec![
            score("a", hours(1), 20),
            score("b", hours(1), 50),
            score("a", hours(5), 40),
            score("a", hours(6), 75),
        ];
    });
    store.store_checkpoint(&write).await.unwrap();
    let recent = store.recent_scores(&[PartitionId(0), PartitionId(1)], hours(4), None, 10).await.unwrap();
    assert_eq!(recent.iter().map(|score| (&*score.token, score.score)).collect::<Vec<_>>(), [("a", 75)]);
    assert_eq!(recent[0].factors.len(), 1);
    assert_eq!(store.recent_scores(&[PartitionId(1)], hours(0), None, 10).await.unwrap(), []);
    assert_eq!(store.prune_scores(hours(5), 10).await.unwrap(), 2);
    assert_eq!(store.prune_scores(hours(5), 10).await.unwrap(), 0);
}

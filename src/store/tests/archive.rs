//! The archive: each event once, by day, gone by day.

use uuid::Uuid;

use super::{
    StoreError,
    rows::{account, customer, hours},
    server::Database,
};
use crate::{
    event::{
        ids::{Epoch, PartitionId, StreamSequence},
        time::Timestamp,
    },
    store::{
        archive::{ArchiveWrite, ArchivedEvent},
        checkpoint::CommitState,
        leases::Role,
    },
};

pub(super) fn event(sequence: u64, stored_at: Timestamp) -> ArchivedEvent {
    ArchivedEvent {
        sequence: StreamSequence(sequence),
        stored_at,
        partition: PartitionId(3),
        account: account("acme"),
        token: "a=00b".into(),
        customer: Some(customer("a\u{1}b")),
        name: "lo\0gin".to_owned(),
        event_id: Some(format!("e{sequence}")),
        occurred_at: stored_at.plus_millis(-5),
        user_id: None,
        properties: Some(r#"{"text":"\u0000"}"#.to_owned()),
    }
}

pub(super) fn archive(from: u64, events: Vec<ArchivedEvent>) -> ArchiveWrite {
    ArchiveWrite {
        id: Uuid::new_v4(),
        partition: PartitionId(0),
        epoch: Epoch(0),
        from: StreamSequence(from),
        to: events.last().map_or(StreamSequence(from), |event| event.sequence),
        to_time: events.last().map(|event| event.stored_at),
        stream_created: None,
        events,
        contacts: Vec::new(),
    }
}

#[tokio::test]
async fn each_event_stands_in_the_archive_once_on_its_day() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Archive, 1).await.unwrap();
    let events: Vec<_> = (1..=10).map(|sequence| event(sequence, hours(sequence as i64 * 6))).collect();
    let first = archive(0, events.clone());
    store.copy_events(&first).await.unwrap();
    store.copy_events(&first).await.unwrap();
    assert_eq!(store.archive_stood(&first).await.unwrap(), CommitState::Committed);
    let late = archive(0, events.clone());
    assert!(matches!(store.copy_events(&late).await, Err(StoreError::Fenced { .. })));
    let foreign = ArchiveWrite { epoch: Epoch(5), ..archive(10, vec![event(11, hours(70))]) };
    assert!(matches!(store.copy_events(&foreign).await, Err(StoreError::Fenced { .. })));
    assert_eq!(
        store.ask("SELECT count(*), count(DISTINCT tableoid), count(DISTINCT sequence) FROM events").await,
        "10|3|10"
    );
    store.copy_events(&archive(10, vec![])).await.unwrap();

    let acme = account("acme");
    let newest = store.timeline(&acme, "a=00b", None, 4).await.unwrap();
    assert_eq!(newest.iter().map(|event| event.sequence.0).collect::<Vec<_>>(), [10, 9, 8, 7]);
    assert_eq!(newest[0], events[9]);
    let before = (newest[3].stored_at, newest[3].sequence);
    let older = store.timeline(&acme, "a=00b", Some(before), 100).await.unwrap();
    assert_eq!(older.iter().map(|event| event.sequence.0).collect::<Vec<_>>(), [6, 5, 4, 3, 2, 1]);
    assert_eq!(store.timeline(&account("other"), "a=00b", None, 4).await.unwrap(), []);
}

#[tokio::test]
async fn days_are_dropped_whole() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Archive, 1).await.unwrap();
    let events = vec![event(1, hours(1)), event(2, hours(23)), event(3, hours(24)), event(4, hours(49))];
    store.copy_events(&archive(0, events)).await.unwrap();
    assert_eq!(store.drop_archive_before(hours(47)).await.unwrap(), 1);
    assert_eq!(store.ask("SELECT string_agg(sequence::text, ' ' ORDER BY sequence) FROM events").await, "3 4");
    assert_eq!(store.drop_archive_before(hours(47)).await.unwrap(), 0);
}

#[tokio::test]
async fn two_writers_may_need_the_same_new_day() {
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Archive, 2).await.unwrap();
    let one = archive(0, vec![event(1, hours(1))]);
    let two = ArchiveWrite { partition: PartitionId(1), ..archive(0, vec![event(2, hours(2))]) };
    tokio::try_join!(store.copy_events(&one), store.copy_events(&two)).unwrap();
    assert_eq!(store.ask("SELECT count(*) FROM events").await, "2");
}

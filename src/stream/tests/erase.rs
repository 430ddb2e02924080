//! Erasing: what the server leaves of a message on disk, and what it takes that nothing is left.

use std::{fs, path::Path};

use super::*;
use crate::{
    engine::checkpoint::{Level, Status},
    event::{
        ids::{AccountId, StreamSequence},
        time::Timestamp,
    },
    stream::{
        RISK_STREAM, WEBHOOKS,
        erase::{
            Place, bucket_subject, empty_bucket, entry_if_absent, erase, erase_all, fill_bucket, search, sequences_of,
        },
        risk_kv::{self, RiskValue},
    },
};

/// How often a text stands in the server's message files.
fn on_disk(dir: &Path, text: &str) -> usize {
    let mut count = 0;
    let entries = match fs::read_dir(dir) {
        // The server renames and deletes directories of its own beside us.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return 0,
        entries => entries.unwrap(),
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += on_disk(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "blk") {
            let bytes = fs::read(&path).unwrap_or_default();
            count += bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count();
        }
    }
    count
}

fn acme() -> AccountId {
    AccountId::parse("acme").unwrap()
}

fn value(score: u8) -> RiskValue {
    RiskValue { score, level: Level::Low, status: Status::Active, at: Timestamp::from_millis(1) }
}

#[tokio::test]
async fn an_erased_message_leaves_no_byte_and_its_neighbours_stay() {
    let (server, client, context) = Server::provisioned().await;
    let publisher = Publisher::new(client, 8);
    for number in 0..6 {
        let (customer, word) = if number % 2 == 0 { ("canary", "secret-word") } else { ("other", "plain-word") };
        let message = Outgoing::new(format!("churn.events.acme.{customer}"), format!("{word} {number}"));
        publisher.publish(message.with_id(format!("acme:{customer}:{number}"))).await.unwrap();
    }
    let dir = server.nats.store_dir();
    assert!(on_disk(&dir, "canary") > 0 && on_disk(&dir, "secret-word") > 0);
    let subject = "churn.p.*.acme.canary";
    let (first, next) = sequences_of(&context, EVENTS, subject, StreamSequence(3)).await.unwrap();
    assert_eq!((first, next), (vec![StreamSequence(1), StreamSequence(3)], Some(StreamSequence(5))));
    let (all, next) = sequences_of(&context, EVENTS, subject, StreamSequence(u64::MAX)).await.unwrap();
    assert_eq!((all.len(), next), (3, None));
    assert_eq!(erase_all(&context, EVENTS, &all).await.unwrap(), 3);
    assert_eq!(erase_all(&context, EVENTS, &all).await.unwrap(), 0, "a second time there is nothing");
    assert!(!erase(&context, EVENTS, StreamSequence(99)).await.unwrap());
    assert_eq!((on_disk(&dir, "canary"), on_disk(&dir, "secret-word"), on_disk(&dir, "plain-word")), (0, 0, 3));
    server.nats.restart().unwrap();
    assert_eq!((on_disk(&dir, "canary"), on_disk(&dir, "plain-word")), (0, 3));
}

/// The server only marks entries that newer ones replaced. If this ever changes, the bucket need not be emptied.
#[tokio::test]
async fn replaced_entries_stay_on_disk_until_the_bucket_is_written_anew() {
    let (server, client, context) = Server::provisioned().await;
    let publisher = Publisher::new(client, 8);
    for score in [1, 2, 3] {
        risk_kv::put(&publisher, "acme", "canary", &value(score)).await.unwrap();
        risk_kv::put(&publisher, "acme", "other", &value(score)).await.unwrap();
    }
    let subject = bucket_subject(&acme(), "canary");
    let (live, _) = sequences_of(&context, RISK_STREAM, &subject, StreamSequence(u64::MAX)).await.unwrap();
    assert_eq!(erase_all(&context, RISK_STREAM, &live).await.unwrap(), 1);
    let dir = server.nats.store_dir();
    assert_eq!(on_disk(&dir, "canary"), 2, "one for each entry that was replaced");
    empty_bucket(&context).await.unwrap();
    // The server puts the files aside and deletes them beside its work.
    within(async {
        while on_disk(&dir, "canary") > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // What is put meanwhile is newer than what it is filled with.
    risk_kv::put(&publisher, "acme", "newer", &value(9)).await.unwrap();
    let entries = ["newer", "other"].map(|token| entry_if_absent(&acme(), token, &value(3)));
    fill_bucket(&publisher, entries.to_vec()).await.unwrap();
    for (token, score) in [("newer", 9), ("other", 3)] {
        let stream = context.get_stream(RISK_STREAM).await.unwrap();
        let stored = stream.get_last_raw_message_by_subject(&bucket_subject(&acme(), token)).await.unwrap();
        let stored: serde_json::Value = serde_json::from_slice(&stored.payload).unwrap();
        assert_eq!(stored["score"], score, "{token}");
    }
}

#[tokio::test]
async fn a_search_sees_all_of_a_place_and_ends_where_there_is_nothing() {
    let (_server, client, context) = Server::provisioned().await;
    let publisher = Publisher::new(client, 8);
    let mut seen = Vec::new();
    within(search(&context, Place::Webhooks(&acme()), |message| seen.push(message.sequence.0))).await.unwrap();
    for account in ["acme", "other", "acme", "other"] {
        let message = Outgoing::new(format!("churn.webhooks.stripe.{account}"), "{}");
        assert_eq!(publisher.publish(message).await.unwrap().stream, WEBHOOKS);
    }
    within(search(&context, Place::Webhooks(&acme()), |message| seen.push(message.sequence.0))).await.unwrap();
    assert_eq!(seen, [1, 3]);
    let nobody = AccountId::parse("nobody").unwrap();
    within(search(&context, Place::Webhooks(&nobody), |_| panic!("there is nothing"))).await.unwrap();
}

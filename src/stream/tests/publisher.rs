use std::collections::HashMap;

use super::*;
use crate::{
    engine::checkpoint::{Level, Status},
    event::{ids::StreamSequence, time::Timestamp},
    stream::{
        ALERTS, RISK_STREAM, api,
        publisher::PublishError,
        reader::{Reader, ReaderConfig},
        risk_kv::{self, RiskValue},
    },
};

#[tokio::test]
async fn an_alert_published_twice_is_stored_once() {
    let (_server, client, context) = Server::provisioned().await;
    let publisher = Publisher::new(client, 8);
    let alert = Outgoing::new("churn.alerts.acme.high.c1.0190", "{}");
    let ack = publisher.publish(alert.clone()).await.unwrap();
    assert_eq!((ack.stream.as_str(), ack.sequence.0, ack.duplicate), (ALERTS, 1, false));
    let error = publisher.publish(alert.clone()).await.unwrap_err();
    assert!(matches!(&error, PublishError::AlreadyThere { subject } if *subject == *alert.subject), "{error}");
    assert_eq!(api::stream_info(&context, ALERTS).await.unwrap().state.messages, 1);
}

#[tokio::test]
async fn the_same_id_is_confirmed_as_a_duplicate() {
    let (_server, client, _context) = Server::provisioned().await;
    let publisher = Publisher::new(client, 8);
    let first = publisher.publish(event(1, 1).with_id("acme:1")).await.unwrap();
    let second = publisher.publish(event(1, 1).with_id("acme:1")).await.unwrap();
    assert!(!first.duplicate && second.duplicate && first.sequence == second.sequence);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let (_server, client, _context) = Server::provisioned().await;
    let most = client.max_payload();
    let publisher = Publisher::new(client, 8).with_patience(Duration::from_millis(100));
    let error = publisher.publish(Outgoing::new("churn.events.a.b", vec![0; most + 1])).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { .. }), "{error}");
    let error = publisher.publish(Outgoing::new("churn.nowhere", "{}")).await.unwrap_err();
    assert!(error.is_transient() && matches!(error, PublishError::Unconfirmed { .. }), "{error}");
}

#[tokio::test]
async fn a_full_stream_is_said_to_be_full() {
    let (_server, client, context) = Server::provisioned().await;
    let mut config = api::stream_info(&context, EVENTS).await.unwrap().config;
    config.insert("max_bytes".to_owned(), 4_096.into());
    let _: api::StreamInfo = api::request(&context, "STREAM.UPDATE.CHURN_EVENTS", EVENTS, &config).await.unwrap();
    let publisher = Publisher::new(client, 8);
    let results = publisher.publish_all((0..100).map(|number| event(number, 1))).await;
    let error = results.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(error, PublishError::Full { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_publishers_at_once_never_block_each_other() {
    let (_server, client, context) = Server::provisioned().await;
    let publisher = Publisher::new(client, 16);
    let all = (0..8).map(|number| publisher.publish_all((0..500).map(move |step| event(number * 500 + step, 50))));
    let results = within(futures_util::future::join_all(all)).await;
    assert!(results.iter().flatten().all(Result::is_ok));
    assert_eq!(last_sequence(&context).await, 4_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_confirmed_message_survives_a_crash_of_the_server() {
    const COUNT: usize = 60_000;
    let (server, client, context) = Server::provisioned().await;
    let publisher = Publisher::new(client, 512).with_patience(PATIENCE);
    let publishing =
        publisher.publish_all((0..COUNT).map(|number| event(number, 100).with_id(format!("acme:{number}"))));
    let (server, watcher) = (&server, &context);
    let crashes = async {
        for threshold in [10_000, 30_000] {
            while last_sequence(watcher).await < threshold {
                tokio::task::yield_now().await;
            }
            tokio::task::block_in_place(|| server.crash());
        }
    };
    let (results, ()) = within(async { tokio::join!(publishing, crashes) }).await;
    let last = last_sequence(&context).await;
    let mut stored = HashMap::new();
    let mut reader = Reader::open(&context, EVENTS, ReaderConfig::new("churnd-check", StreamSequence(0)));
    while reader.position().0 < last {
        for message in within(reader.next_batch()).await.unwrap().messages {
            stored.insert(message.sequence, message.payload);
        }
    }
    for (number, result) in results.into_iter().enumerate() {
        let ack = result.unwrap();
        assert_eq!(stored.get(&ack.sequence), Some(&event(number, 100).payload), "message {number}");
    }
    assert_eq!(stored.len(), COUNT, "ids make repeats harmless");
}

#[tokio::test]
async fn the_bucket_keeps_the_latest_score() {
    let (_server, client, context) = Server::provisioned().await;
    let publisher = Publisher::new(client, 8);
    let value = |score| RiskValue {
        score,
        level: Level::High,
        status: Status::Active,
        at: Timestamp::from_seconds(1_784_000_000),
    };
    let (low, high) = (value(70), value(95));
    let results =
        risk_kv::put_all(&publisher, [("acme", "c1", &low), ("acme", "c2", &low), ("acme", "c1", &high)]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let bucket = context.get_key_value("churn_risk").await.unwrap();
    let entry = bucket.get("acme.c1").await.unwrap().unwrap();
    let expected = r#"{"score":95,"level":"high","status":"active","at":"2026-07-14T03:33:20Z"}"#;
    assert_eq!(std::str::from_utf8(&entry).unwrap(), expected);
    assert_eq!(api::stream_info(&context, RISK_STREAM).await.unwrap().state.messages, 2);
}

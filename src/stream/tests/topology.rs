use serde_json::json;

use super::*;
use crate::{
    event::{
        ids::{AccountId, CustomerId},
        subject,
    },
    stream::{
        StreamError,
        api::{self, StreamInfo},
        topology::{Remedy, TopologyError},
    },
};

async fn change(context: &Context, stream: &str, field: &str, value: serde_json::Value) {
    let mut config = api::stream_info(context, stream).await.unwrap().config;
    config.insert(field.to_owned(), value);
    let subject = format!("STREAM.UPDATE.{stream}");
    api::request::<_, StreamInfo>(context, &subject, stream, &config).await.unwrap();
}

#[tokio::test]
async fn provisioning_twice_leaves_nothing_to_do() {
    let server = Server::start();
    let (_client, context) = server.connect().await;
    let streams = declared(16);
    let problems = streams.verify(&context).await.unwrap();
    assert_eq!(problems.len(), 5, "{problems:?}");
    assert_eq!(problems[0].text, "The stream CHURN_EVENTS does not exist: run `churnd provision`.");

    assert_eq!(streams.apply(&context).await.unwrap().len(), 5);
    assert_eq!(streams.plan(&context).await.unwrap(), []);
    assert_eq!(streams.apply(&context).await.unwrap(), []);
    let problems = streams.verify(&context).await.unwrap();
    assert!(problems.iter().all(|problem| !problem.fatal), "{problems:?}");
    assert!(problems[0].text.contains("sync_interval"), "{problems:?}");
}

#[tokio::test]
async fn drift_is_shown_and_repaired_and_wider_limits_stay() {
    let (_server, _client, context) = Server::provisioned().await;
    change(&context, EVENTS, "discard", json!("old")).await;
    change(&context, EVENTS, "max_age", json!(3_600_000_000_000_u64)).await;
    change(&context, "CHURN_DEAD", "max_age", json!(0)).await;
    change(&context, "CHURN_DEAD", "metadata", json!({"owner": "ops"})).await;
    let streams = declared(16);

    let shown: Vec<String> = streams.plan(&context).await.unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        "~ CHURN_EVENTS.discard: old -> new",
        "~ CHURN_EVENTS.max_age: 1 h -> 30 d",
        "= CHURN_DEAD.max_age: without limit is kept, declared is 30 d",
    ];
    assert_eq!(shown, expected);
    let problems = streams.verify(&context).await.unwrap();
    let expected = "The stream CHURN_EVENTS has discard old instead of new: run `churnd provision`.";
    assert_eq!(problems[0].text, expected);

    assert_eq!(streams.apply(&context).await.unwrap().len(), 2);
    let left = streams.plan(&context).await.unwrap();
    assert!(left.len() == 1 && left[0].remedy == Remedy::Keep, "{left:?}");
    let dead = api::stream_info(&context, "CHURN_DEAD").await.unwrap();
    assert_eq!(dead.config["metadata"]["owner"], "ops");
}

#[tokio::test]
async fn changes_that_would_lose_or_misplace_data_are_refused_and_nothing_is_changed() {
    let (_server, client, context) = Server::provisioned().await;
    publish_events(&client, 10, 3).await;
    change(&context, "CHURN_DEAD", "discard", json!("new")).await;
    let error = declared(32).apply(&context).await.unwrap_err();
    assert!(matches!(&error, TopologyError::WouldLoseData { field, .. } if field == "subject_transform"), "{error}");
    assert_eq!(api::stream_info(&context, "CHURN_DEAD").await.unwrap().config["discard"], "new");

    change(&context, "CHURN_ALERTS", "discard_new_per_subject", json!(false)).await;
    change(&context, "CHURN_ALERTS", "max_msgs_per_subject", json!(-1)).await;
    let publisher = Publisher::new(client, 8);
    for _ in 0..2 {
        publisher.publish(Outgoing::new("churn.alerts.a.high.c.1", "{}")).await.unwrap();
    }
    let error = declared(16).apply(&context).await.unwrap_err();
    assert!(error.to_string().starts_with("CHURN_ALERTS.max_msgs_per_subject: "), "{error}");
}

#[tokio::test]
async fn a_server_without_room_is_told_apart_and_a_smaller_topology_fits() {
    let server = Server::with("accounts { A: { users: [{user: a, password: a}], jetstream: {max_file: 1GB} } }");
    let config = Config::at(server.nats.url().replace("nats://", "nats://a:a@"));
    let context = jetstream::new(connect(&config, "test").await.unwrap());
    let error = declared(16).apply(&context).await.unwrap_err();
    assert!(
        matches!(&error, TopologyError::NoRoom { .. } | TopologyError::Stream(StreamError::Refused { .. })),
        "{error}"
    );
    let small = declared(16).with_room(900 << 20);
    small.apply(&context).await.unwrap();
    assert_eq!(small.plan(&context).await.unwrap(), []);
}

#[tokio::test]
async fn events_are_stored_under_the_partition_that_we_compute() {
    let (_server, client, context) = Server::provisioned().await;
    let publisher = Publisher::new(client, 64);
    let account = AccountId::parse("acme-1").unwrap();
    let stream = context.get_stream_no_info(EVENTS).await.unwrap();
    for customer in ["a", "user@example.com", "Ünïcode", "c-17", &"long".repeat(60)] {
        let token = subject::encode(&CustomerId::parse(customer).unwrap());
        let message = Outgoing::new(subject::event_subject(&account, &token), "{}");
        let ack = publisher.publish(message).await.unwrap();
        let stored = stream.direct_get(ack.sequence.0).await.unwrap();
        let place = subject::parse_partitioned(&stored.subject).unwrap();
        let expected = subject::partition_of(account.as_str(), token.as_str(), 16);
        assert_eq!((place.partition, place.account, place.token), (expected, account.as_str(), token.as_str()));
    }
}

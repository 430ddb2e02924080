use async_nats::{HeaderMap, header::NATS_MESSAGE_ID};
use bytes::Bytes;

use super::*;
use crate::{
    event::ids::StreamSequence,
    stream::{
        DEAD,
        dead::{self, DeadLetter, ReplayError, Selection},
    },
};

fn letter(account: &str, reason: &str, sequence: u64, payload: impl Into<Bytes>) -> DeadLetter {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, "acme:17");
    headers.insert("Content-Type", "application/msgpack");
    DeadLetter {
        dead_subject: format!("churn.dead.{account}.c1"),
        reason: reason.to_owned(),
        detail: "the body is\nnot JSON".to_owned(),
        stage: "decode".to_owned(),
        subject: format!("churn.events.{account}.c1"),
        stream: EVENTS.to_owned(),
        sequence: StreamSequence(sequence),
        payload: payload.into(),
        headers: Some(headers),
    }
}

#[tokio::test]
async fn letters_are_listed_replayed_and_then_gone() {
    let (_server, client, context) = Server::provisioned().await;
    let publisher = Publisher::new(client, 8);
    let letters =
        [letter("acme", "not_json", 5, "x"), letter("beta", "not_json", 6, "y"), letter("acme", "oversize", 7, "z")];
    for result in dead::publish_all(&publisher, &letters).await {
        result.unwrap();
    }
    assert!(dead::publish(&publisher, &letters[0]).await.unwrap().duplicate, "a letter written twice is one letter");

    let all = dead::list(&context, &Selection::default()).await.unwrap();
    assert_eq!(all.iter().map(|stored| stored.letter.sequence.0).collect::<Vec<_>>(), [5, 6, 7]);
    let selection = Selection {
        account: Some("acme".to_owned()),
        reason: Some("not_json".to_owned()),
        limit: Some(5),
        ..Selection::default()
    };
    let found = dead::list(&context, &selection).await.unwrap();
    assert_eq!(found.len(), 1);
    let stored = &found[0];
    assert_eq!((stored.letter.detail.as_str(), &stored.letter.payload[..]), ("the body is not JSON", &b"x"[..]));

    let ack = dead::replay(&publisher, stored.sequence).await.unwrap();
    assert_eq!(ack.stream, EVENTS);
    let replayed = context.get_stream_no_info(EVENTS).await.unwrap().direct_get(ack.sequence.0).await.unwrap();
    assert_eq!(replayed.headers.get(NATS_MESSAGE_ID).unwrap().as_str(), "acme:replay:CHURN_EVENTS:5");
    assert_eq!(replayed.headers.get("Content-Type").unwrap().as_str(), "application/msgpack");
    assert!(replayed.headers.get(dead::REASON).is_none());
    assert_eq!(&replayed.payload[..], b"x");
    assert_eq!(dead::list(&context, &Selection::default()).await.unwrap().len(), 2);
    assert!(matches!(dead::replay(&publisher, stored.sequence).await, Err(ReplayError::Missing(_))));
    assert!(!dead::delete(&context, stored.sequence).await.unwrap());
}

#[tokio::test]
async fn a_message_at_the_limit_of_size_is_cut_and_replayed_from_its_stream() {
    let (_server, client, context) = Server::provisioned().await;
    let most = client.max_payload();
    let publisher = Publisher::new(client, 8);
    let body = vec![b'x'; most - 200];
    let ack = publisher.publish(Outgoing::new("churn.events.acme.c1", body.clone())).await.unwrap();
    dead::publish(&publisher, &letter("acme", "oversize", ack.sequence.0, body.clone())).await.unwrap();
    let stored = dead::list(&context, &Selection::default()).await.unwrap().remove(0);
    assert_eq!(stored.truncated, Some(body.len()));
    assert!(stored.letter.payload.len() < body.len());
    let replayed = dead::replay(&publisher, stored.sequence).await.unwrap();
    let message = context.get_stream_no_info(EVENTS).await.unwrap().direct_get(replayed.sequence.0).await.unwrap();
    assert!(message.payload == body);

    let lost = letter("acme", "oversize", 99, vec![b'x'; most - 200]);
    let sequence = dead::publish(&publisher, &lost).await.unwrap().sequence;
    let error = dead::replay(&publisher, sequence).await.unwrap_err();
    assert!(matches!(error, ReplayError::OriginalGone { .. }), "{error}");
    assert_eq!(super::super::api::stream_info(&context, DEAD).await.unwrap().state.messages, 1, "the letter is kept");
}

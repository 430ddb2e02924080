use super::*;
use crate::{
    event::{ids::StreamSequence, time::Timestamp},
    stream::reader::{Accounted, Guard, Reader, ReaderConfig, check_rollback},
};

#[tokio::test]
async fn a_rolled_back_stream_is_told_from_a_fine_one() {
    let (_server, client, context) = Server::provisioned().await;
    publish_events(&client, 10, 10).await;
    let mut reader = Reader::open(&context, EVENTS, ReaderConfig::new("churnd-guard", StreamSequence(0)));
    let mut messages = Vec::new();
    while messages.len() < 10 {
        messages.extend(within(reader.next_batch()).await.unwrap().messages);
    }
    let created = reader.stream_created();
    assert!(created.is_some());
    let message = (StreamSequence(8), messages[7].stored_at);
    let guard = async |watermark: u64, messages: &[(StreamSequence, Timestamp)]| {
        let messages = messages.to_vec();
        let accounted = Accounted { watermark: StreamSequence(watermark), messages, stream_created: created };
        check_rollback(&context, EVENTS, accounted).await.unwrap()
    };
    let is_fine = |guard| matches!(guard, Guard::Fine { .. });
    assert_eq!(Some(guard(8, &[message]).await), created.map(|created| Guard::Fine { created }));
    assert!(is_fine(check_rollback(&context, EVENTS, Accounted::default()).await.unwrap()));
    let cut = |expected| Guard::Truncated { last: StreamSequence(10), expected };
    assert_eq!(guard(11, &[]).await, cut(None));
    let (later, other) = ((StreamSequence(11), message.1), (StreamSequence(8), message.1.plus_millis(1)));
    let much_later = (StreamSequence(12), message.1.plus_millis(5));
    assert_eq!(guard(8, &[later, much_later]).await, cut(Some(much_later.1)), "the newest that is missing");
    let first = (StreamSequence(1), messages[0].stored_at);
    assert_eq!(guard(11, &[message, first]).await, cut(Some(first.1)), "who knows which of them are of before?");
    let rewritten = Guard::Rewritten { found: message.1, expected: other.1 };
    let newest = (StreamSequence(10), messages[9].stored_at);
    for watermark in [5, 8, 10] {
        let found = guard(watermark, &[other, newest]).await;
        assert_eq!(found, rewritten, "whatever the watermark ({watermark}) and whoever noticed nothing");
    }

    let stream = context.get_stream(EVENTS).await.unwrap();
    stream.delete_message(8).await.unwrap();
    assert!(is_fine(guard(8, &[message]).await), "an erased message proves nothing");

    context.delete_stream(EVENTS).await.unwrap();
    declared(16).apply(&context).await.unwrap();
    assert!(matches!(guard(8, &[message]).await, Guard::StreamRecreated { .. }));
}

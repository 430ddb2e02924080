use super::*;
use crate::{
    event::ids::StreamSequence,
    stream::reader::{Guard, Reader, ReaderConfig, check_rollback},
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
    let stored_at = Some(messages[7].stored_at);
    let at = |sequence| StreamSequence(sequence);
    let guard = check_rollback(&context, EVENTS, at(8), stored_at, created).await.unwrap();
    assert_eq!(Some(guard), created.map(|created| Guard::Fine { created }));
    let guard = check_rollback(&context, EVENTS, at(0), None, None).await.unwrap();
    assert!(matches!(guard, Guard::Fine { .. }));
    let guard = check_rollback(&context, EVENTS, at(11), None, created).await.unwrap();
    assert_eq!(guard, Guard::Truncated { last: at(10) });
    let other = messages[7].stored_at.plus_millis(1);
    let guard = check_rollback(&context, EVENTS, at(8), Some(other), created).await.unwrap();
    assert_eq!(guard, Guard::Rewritten { found: messages[7].stored_at, expected: other });

    let stream = context.get_stream(EVENTS).await.unwrap();
    stream.delete_message(8).await.unwrap();
    let guard = check_rollback(&context, EVENTS, at(8), stored_at, created).await.unwrap();
    assert!(matches!(guard, Guard::Fine { .. }), "an erased message proves nothing");

    context.delete_stream(EVENTS).await.unwrap();
    declared(16).apply(&context).await.unwrap();
    let guard = check_rollback(&context, EVENTS, at(8), stored_at, created).await.unwrap();
    assert!(matches!(guard, Guard::StreamRecreated { .. }));
}

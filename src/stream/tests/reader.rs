use std::collections::HashSet;

use futures_util::TryStreamExt;

use super::*;
use crate::{
    event::ids::StreamSequence,
    stream::reader::{RawMessage, ReadBatch, Reader, ReaderConfig, ReaderError, Reseek},
};

fn config(after: u64, filter: Option<&str>) -> ReaderConfig {
    ReaderConfig { filter: filter.map(str::to_owned), ..ReaderConfig::new("churnd-test", StreamSequence(after)) }
}

async fn delete_all_consumers(context: &Context) -> usize {
    let stream = context.get_stream(EVENTS).await.unwrap();
    let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    for name in &names {
        stream.delete_consumer(name).await.unwrap();
    }
    names.len()
}

/// Reads until the last message that the stream has, checking order and the absence of repeats on the way.
async fn read_to(reader: &mut Reader, last: u64, mut meanwhile: impl AsyncFnMut(usize)) -> Vec<RawMessage> {
    let mut all: Vec<RawMessage> = Vec::new();
    while reader.position().0 < last {
        let batch = within(reader.next_batch()).await.unwrap();
        for message in batch.messages {
            assert!(all.last().is_none_or(|previous| previous.sequence < message.sequence), "out of order or repeated");
            all.push(message);
        }
        meanwhile(all.len()).await;
    }
    all
}

async fn next_messages(reader: &mut Reader) -> ReadBatch {
    loop {
        let batch = within(reader.next_batch()).await.unwrap();
        if !batch.messages.is_empty() {
            return batch;
        }
    }
}

/// The faults happen while the reader stands in the middle of the stream.
async fn read_through_faults(server: &Server, context: &Context, filter: Option<&str>, step: usize) -> Vec<u64> {
    let last = last_sequence(context).await;
    let mut reader = Reader::open(context, EVENTS, ReaderConfig { batch: step / 6, ..config(0, filter) });
    let counters = reader.counters();
    let mut faults = 0;
    let read = read_to(&mut reader, last, async |count| {
        if count < (faults + 1) * step || faults == 4 {
            return;
        }
        faults += 1;
        match faults % 2 {
            1 => assert_eq!(delete_all_consumers(context).await, 1),
            _ => server.crash(),
        }
    })
    .await;
    assert!(counters.reseeks(Reseek::ConsumerDeleted) + counters.reseeks(Reseek::NoResponders) >= 1, "{counters:?}");
    assert!(counters.all_reseeks() >= 3, "{counters:?}");
    reader.close().await;
    assert_eq!(delete_all_consumers(context).await, 0, "consumers are left over");
    read.iter().map(|message| message.sequence.0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_comes_once_and_in_order_through_crashes_and_deletions() {
    const COUNT: usize = 200_000;
    let (server, client, context) = Server::provisioned().await;
    publish_events(&client, COUNT, 1_000).await;
    let all: Vec<u64> = (1..=u64::try_from(COUNT).unwrap()).collect();
    let read = read_through_faults(&server, &context, None, 40_000).await;
    assert!(read == all, "{} messages instead of {COUNT}", read.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filtered_readers_see_exactly_their_partition_through_crashes_and_deletions() {
    let (server, client, context) = Server::provisioned().await;
    publish_events(&client, 60_000, 1_000).await;
    let last = last_sequence(&context).await;
    let mut reader = Reader::open(&context, EVENTS, config(0, None));
    let all = read_to(&mut reader, last, async |_| {}).await;
    reader.close().await;
    let mut seen = HashSet::new();
    for partition in [0, 7] {
        let prefix = format!("churn.p.{partition}.");
        let expected = all.iter().filter(|message| message.subject.starts_with(&prefix));
        let expected: Vec<u64> = expected.map(|message| message.sequence.0).collect();
        assert!(expected.len() > 2_000);
        let read = read_through_faults(&server, &context, Some(&format!("{prefix}>")), 600).await;
        assert!(read == expected, "{} messages instead of {}", read.len(), expected.len());
        seen.extend(read);
    }
    assert!(seen.len() > 4_000);
}

#[tokio::test]
async fn reading_goes_on_after_any_position() {
    let (_server, client, context) = Server::provisioned().await;
    publish_events(&client, 100, 10).await;
    for (after, first) in [(0, 1), (1, 2), (41, 42), (99, 100)] {
        let mut reader = Reader::open(&context, EVENTS, config(after, None));
        let batch = next_messages(&mut reader).await;
        assert_eq!(batch.messages[0].sequence.0, first);
        assert_eq!(batch.pending, Some(100 - batch.position.0));
        reader.close().await;
    }
    let mut reader = Reader::open(&context, EVENTS, config(100, None));
    assert!(within(reader.next_batch()).await.unwrap().messages.is_empty());
    publish_events(&client, 1, 1).await;
    assert_eq!(next_messages(&mut reader).await.position, StreamSequence(101));
}

#[tokio::test]
async fn a_reader_without_messages_of_its_own_still_moves_on() {
    let (_server, client, context) = Server::provisioned().await;
    publish_events(&client, 50, 1).await;
    let stored = context.get_stream_no_info(EVENTS).await.unwrap().direct_get(1).await.unwrap();
    let filter = if stored.subject.starts_with("churn.p.0.") { "churn.p.1.>" } else { "churn.p.0.>" };
    let mut reader = Reader::open(&context, EVENTS, config(0, Some(filter)));
    for round in 1..=3 {
        let caught_up = within(async {
            loop {
                let batch = reader.next_batch().await.unwrap();
                assert!(batch.messages.is_empty());
                assert!(batch.caught_up_to.is_none_or(|caught_up| caught_up == batch.position));
                if batch.caught_up_to >= Some(StreamSequence(round * 50)) {
                    break batch.position;
                }
            }
        });
        assert_eq!(caught_up.await, StreamSequence(round * 50));
        publish_events(&client, 50, 1).await;
    }
}

#[tokio::test]
async fn a_cancelled_call_loses_nothing() {
    let (_server, client, context) = Server::provisioned().await;
    publish_events(&client, 3_000, 10).await;
    let mut reader = Reader::open(&context, EVENTS, ReaderConfig { batch: 16, ..config(0, None) });
    let mut expected = 1;
    let mut cancelled = 0;
    while expected <= 3_000 {
        tokio::select! {
            biased;
            batch = reader.next_batch() => {
                for message in batch.unwrap().messages {
                    assert_eq!(message.sequence.0, expected);
                    expected += 1;
                }
            }
            () = tokio::task::yield_now() => cancelled += 1,
        }
    }
    assert!(cancelled > 0);
}

#[tokio::test]
async fn an_overtaken_position_is_an_error_once_and_reading_goes_on() {
    let (_server, client, context) = Server::provisioned().await;
    publish_events(&client, 100, 10).await;
    let stream = context.get_stream(EVENTS).await.unwrap();
    stream.purge().sequence(51).await.unwrap();
    let mut reader = Reader::open(&context, EVENTS, config(10, None));
    let error = within(reader.next_batch()).await.unwrap_err();
    let ReaderError::Overtaken { first, expected, missed, .. } = error else { panic!("{error}") };
    assert_eq!((first.0, expected.0, missed), (51, 11, 40));
    let mut read = Vec::new();
    while read.len() < 50 {
        read.extend(next_messages(&mut reader).await.messages.into_iter().map(|message| message.sequence.0));
    }
    assert_eq!(read, (51..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn being_overtaken_while_reading_is_noticed_with_the_exact_count() {
    let (_server, client, context) = Server::provisioned().await;
    publish_events(&client, 1_000, 10).await;
    let stream = context.get_stream(EVENTS).await.unwrap();
    let mut reader = Reader::open(&context, EVENTS, ReaderConfig { batch: 10, ..config(0, None) });
    let mut read = next_messages(&mut reader).await.messages.len();
    stream.delete_message(900).await.unwrap();
    stream.purge().sequence(501).await.unwrap();
    let mut missed = Vec::new();
    while reader.position().0 < 1_000 {
        match within(reader.next_batch()).await {
            Ok(batch) => read += batch.messages.len(),
            Err(ReaderError::Overtaken { missed: count, .. }) => missed.push(count),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(missed.len(), 1, "{missed:?}");
    assert_eq!(u64::try_from(read).unwrap() + missed[0], 999, "an erased message is no missed one");
}

#[tokio::test]
async fn a_silent_server_is_noticed_by_its_missing_heartbeats() {
    let (server, client, context) = Server::provisioned().await;
    publish_events(&client, 10, 10).await;
    let quick =
        ReaderConfig { heartbeat: Duration::from_millis(500), expires: Duration::from_secs(2), ..config(0, None) };
    let mut reader = Reader::open(&context, EVENTS, quick);
    assert_eq!(next_messages(&mut reader).await.position.0, 10);
    server.nats.freeze();
    while reader.counters().reseeks(Reseek::MissingHeartbeat) == 0 {
        assert!(within(reader.next_batch()).await.unwrap().messages.is_empty());
    }
    server.nats.thaw();
    publish_events(&client, 10, 10).await;
    assert_eq!(next_messages(&mut reader).await.messages[0].sequence.0, 11);
}

#[tokio::test]
async fn messages_of_any_size_come_and_memory_stays_bounded() {
    let (_server, client, context) = Server::provisioned().await;
    let most = client.max_payload();
    let publisher = Publisher::new(client, 4);
    for number in 0..24 {
        let size = if number % 3 == 0 { 20 } else { most - 1_024 };
        publisher.publish(Outgoing::new("churn.events.acme.big", vec![b'x'; size])).await.unwrap();
    }
    let mut reader = Reader::open(&context, EVENTS, ReaderConfig { max_bytes: 1, ..config(0, None) });
    let read = read_to(&mut reader, 24, async |_| {}).await;
    assert_eq!(read.len(), 24);
    assert_eq!(reader.counters().all_reseeks(), 0);
}

#[tokio::test]
async fn a_stream_that_does_not_exist_is_said_and_reading_starts_once_it_does() {
    let server = Server::start();
    let (client, context) = server.connect().await;
    let mut reader = Reader::open(&context, EVENTS, config(0, None));
    let error = within(reader.next_batch()).await.unwrap_err();
    assert!(matches!(error, ReaderError::Stream(crate::stream::StreamError::NoStream { .. })), "{error}");
    declared(16).apply(&context).await.unwrap();
    publish_events(&client, 1, 1).await;
    let mut batch = ReadBatch::default();
    while batch.messages.is_empty() {
        batch = within(reader.next_batch()).await.unwrap_or_default();
    }
    assert_eq!(batch.position.0, 1);
}

#[tokio::test]
async fn a_restarted_stream_of_the_same_name_is_not_taken_for_the_old_one() {
    let (_server, client, context) = Server::provisioned().await;
    publish_events(&client, 10, 10).await;
    let mut reader = Reader::open(&context, EVENTS, config(0, None));
    assert_eq!(next_messages(&mut reader).await.position.0, 10);
    context.delete_stream(EVENTS).await.unwrap();
    declared(16).apply(&context).await.unwrap();
    publish_events(&client, 20, 10).await;
    let error = within(async {
        loop {
            match reader.next_batch().await {
                Ok(batch) => assert!(batch.messages.is_empty()),
                Err(ReaderError::Stream(_)) => {}
                Err(error) => break error,
            }
        }
    });
    assert!(matches!(error.await, ReaderError::RolledBack { .. }));
}

#[tokio::test]
async fn the_server_tells_how_far_a_consumer_has_come() {
    let (_server, client, context) = Server::provisioned().await;
    publish_events(&client, 3, 1).await;
    let mut reader = Reader::open(&context, EVENTS, config(0, None));
    assert_eq!(next_messages(&mut reader).await.position.0, 3);
    let stream = context.get_stream(EVENTS).await.unwrap();
    let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    let [name] = names.as_slice() else { panic!("{names:?}") };
    let info = crate::stream::api::consumer_info(&context, EVENTS, name).await.unwrap();
    assert_eq!((info.delivered.consumer_seq, info.delivered.stream_seq, info.num_pending), (3, 3, 0));
}

/// Killed instances leave consumers behind. They go when they are idle, unless so many come that the stream takes no more.
#[tokio::test]
async fn a_stream_that_takes_no_more_consumers_is_read_once_those_left_behind_are_gone() {
    let server = Server::start();
    let (_client, context) = server.connect().await;
    let config = jetstream::stream::Config {
        name: "FEW".to_owned(),
        subjects: vec!["few".to_owned()],
        max_consumers: 4,
        ..jetstream::stream::Config::default()
    };
    let stream = context.create_stream(config).await.unwrap();
    context.publish("few", "one".into()).await.unwrap().await.unwrap();
    let names = ["churnd-p001-e3-one-r1", "churnd-p001-e4-two-r7", "churnd-p001-e6-two-r1", "churnd-p002-e1-one-r1"];
    for name in names {
        let config = jetstream::consumer::pull::Config { name: Some(name.to_owned()), ..Default::default() };
        stream.create_consumer(config).await.unwrap();
    }
    let config = ReaderConfig::new("churnd-p001-e5-one", StreamSequence(0));
    let mut reader = Reader::open(&context, "FEW", config);
    let read = async {
        loop {
            match reader.next_batch().await {
                Ok(batch) if !batch.messages.is_empty() => return batch.messages[0].sequence.0,
                Ok(_) | Err(ReaderError::Stream(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    assert_eq!(within(read).await, 1);
    let mut left: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    left.sort();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left[0].starts_with("churnd-p001-e5-one-r"), "{left:?}");
    assert_eq!(left[1..], names[2..]);
}

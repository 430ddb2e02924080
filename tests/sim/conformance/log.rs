//! JetStream, as readers and publishers meet it: sixteen partitions, nothing published yet.

use std::fmt::Write as _;

use churnd::{
    event::{ids::StreamSequence, time::Timestamp},
    stream::{
        EVENTS,
        publisher::{Outgoing, Publish, PublishError},
        reader::{Accounted, Reader, ReaderConfig, Source, check_rollback, last_before},
    },
};
use expect_test::expect;

/// Plays the suite.
pub(crate) async fn conforms<S: Source>(source: &S, publisher: &dyn Publish) {
    publishing(publisher).await;
    describing(source).await;
    reading(source, publisher).await;
    consumers(source).await;
    rolling_back(source).await;
}

fn event(customer: &str, id: &str) -> Outgoing {
    Outgoing::new(format!("churn.events.acme.{customer}"), format!("{{\"event\":\"login\",\"id\":\"{id}\"}}"))
        .with_id(format!("acme:{id}"))
}

async fn publish(publisher: &dyn Publish, messages: Vec<Outgoing>) -> String {
    let mut told = String::new();
    for result in publisher.publish_all(messages).await {
        match result {
            Ok(ack) => writeln!(told, "{} {} duplicate {}", ack.stream, ack.sequence, ack.duplicate).unwrap(),
            Err(PublishError::AlreadyThere { subject }) => writeln!(told, "there already: {subject}").unwrap(),
            Err(error) => writeln!(told, "{error}").unwrap(),
        }
    }
    told
}

async fn publishing(publisher: &dyn Publish) {
    let alert = |subject: &str, id: &str| {
        Outgoing::new(format!("churn.alerts.acme.high.{subject}"), "{}").with_id(format!("acme:alert:{id}"))
    };
    let told = publish(
        publisher,
        vec![
            event("c1", "e1"),
            event("c2", "e2"),
            event("c1", "e1"),
            event("c3", "e3"),
            alert("c1.one", "one"),
            alert("c1.one", "one"),
            alert("c1.one", "another"),
            alert("c1.two", "two"),
        ],
    )
    .await;
    expect![[r#"
        CHURN_EVENTS 1 duplicate false
        CHURN_EVENTS 2 duplicate false
        CHURN_EVENTS 1 duplicate true
        CHURN_EVENTS 3 duplicate false
        CHURN_ALERTS 1 duplicate false
        CHURN_ALERTS 1 duplicate true
        there already: churn.alerts.acme.high.c1.one
        CHURN_ALERTS 2 duplicate false
    "#]]
    .assert_eq(&told);
}

async fn describing<S: Source>(source: &S) {
    let facts = source.stream_facts(EVENTS).await.unwrap();
    assert_eq!((facts.first, facts.last), (1, 3));
    let again = source.stream_facts(EVENTS).await.unwrap();
    assert_eq!(facts, again, "a stream is created once");
    let first = source.stored_time(EVENTS, 1).await.unwrap().unwrap();
    let last = source.stored_time(EVENTS, 3).await.unwrap().unwrap();
    assert!(facts.created <= first && first <= last, "{facts:?} {first} {last}");
    assert_eq!(source.stored_time(EVENTS, 4).await.unwrap(), None);
}

/// Reads until nothing is pending; tells what came and how far that reaches.
async fn read<S: Source>(source: &S, name: &str, filter: Option<&str>, after: u64) -> String {
    let mut config = ReaderConfig::new(name, StreamSequence(after));
    config.filter = filter.map(str::to_owned);
    config.batch = 2;
    let mut reader = Reader::open(source, EVENTS, config);
    let mut told = String::new();
    loop {
        let batch = reader.next_batch().await.unwrap();
        for message in &batch.messages {
            let id = message.message_id().unwrap_or_default();
            writeln!(told, "{} {} {id}, {} pending", message.sequence, message.subject, message.pending).unwrap();
        }
        if let Some(position) = batch.caught_up_to {
            writeln!(told, "caught up to {position}").unwrap();
            break;
        }
    }
    reader.close().await;
    told
}

async fn reading<S: Source>(source: &S, publisher: &dyn Publish) {
    let told = publish(publisher, (4..=7).map(|number| event("c1", &format!("e{number}"))).collect()).await;
    assert_eq!(told.lines().count(), 4);
    expect![[r#"
        1 churn.p.15.acme.c1 acme:e1, 6 pending
        2 churn.p.2.acme.c2 acme:e2, 5 pending
        3 churn.p.5.acme.c3 acme:e3, 4 pending
        4 churn.p.15.acme.c1 acme:e4, 3 pending
        5 churn.p.15.acme.c1 acme:e5, 2 pending
        6 churn.p.15.acme.c1 acme:e6, 1 pending
        7 churn.p.15.acme.c1 acme:e7, 0 pending
        caught up to 7
    "#]]
    .assert_eq(&read(source, "conformance-all", None, 0).await);
    expect![[r#"
        6 churn.p.15.acme.c1 acme:e6, 1 pending
        7 churn.p.15.acme.c1 acme:e7, 0 pending
        caught up to 7
    "#]]
    .assert_eq(&read(source, "conformance-end", None, 5).await);
    let filtered = read(source, "conformance-one", Some("churn.p.2.>"), 0).await;
    assert!(filtered.starts_with("2 churn.p.2.acme.c2 acme:e2, 0 pending\ncaught up to "), "{filtered}");
}

async fn consumers<S: Source>(source: &S) {
    let config = |name: &str| async_nats::jetstream::consumer::pull::Config {
        name: Some(name.to_owned()),
        ack_policy: async_nats::jetstream::consumer::AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        ..Default::default()
    };
    let (_, pending) = source.create_consumer(EVENTS, config("conformance-taken")).await.unwrap();
    assert_eq!(pending, 7);
    let facts = source.consumer_facts(EVENTS, "conformance-taken").await.unwrap();
    assert_eq!((facts.delivered, facts.scanned, facts.pending), (0, 0, 7));
    let mut other = config("conformance-taken");
    other.filter_subject = "churn.p.15.>".to_owned();
    let refused = source.create_consumer(EVENTS, other).await.err().expect("the name is taken");
    assert!(refused.to_string().contains("10148"), "{refused}");
    assert!(source.delete_consumer(EVENTS, "conformance-taken").await);
    assert!(source.consumer_facts(EVENTS, "conformance-taken").await.is_err());
    // A reader whose consumer is gone makes another and goes on after what it handed out.
    let mut config = ReaderConfig::new("conformance-gone", StreamSequence(0));
    config.batch = 3;
    let mut reader = Reader::open(source, EVENTS, config);
    let mut last = 0;
    while last == 0 {
        let first = reader.next_batch().await.unwrap();
        last = first.messages.last().map_or(0, |message| message.sequence.0);
    }
    source.delete_consumer(EVENTS, "conformance-gone-r1").await;
    while last < 7 {
        for message in reader.next_batch().await.unwrap().messages {
            assert_eq!(message.sequence.0, last + 1);
            last = message.sequence.0;
        }
    }
    reader.close().await;
}

async fn rolling_back<S: Source>(source: &S) {
    let created = source.stream_facts(EVENTS).await.unwrap().created;
    let stored_at = source.stored_time(EVENTS, 3).await.unwrap();
    let other = stored_at.map(|at| at.plus_millis(1));
    let mut told = String::new();
    for (position, time) in [(3, stored_at), (0, None), (9, None), (3, other)] {
        let watermark = StreamSequence(position);
        let messages = time.into_iter().map(|stored_at| (watermark, stored_at)).collect();
        let accounted = Accounted { watermark, messages, stream_created: Some(created) };
        let guard = check_rollback(source, EVENTS, accounted).await.unwrap();
        let guard = format!("{guard:?}");
        writeln!(told, "{position}: {}", guard.split([' ', '{']).next().unwrap_or_default()).unwrap();
    }
    expect![[r#"
        3: Fine
        0: Fine
        9: Truncated
        3: Rewritten
    "#]]
    .assert_eq(&told);
    assert_eq!(last_before(source, EVENTS, created).await.unwrap(), StreamSequence(0));
    let end = Timestamp::from_millis(i64::MAX / 2);
    assert_eq!(last_before(source, EVENTS, end).await.unwrap(), StreamSequence(7));
}

//! The live path equals the offline one: what the daemon answers after reading a file's events from the stream is what
//! the naive model and `churnd score` say of the file.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use churnd::stream::publisher::Outgoing;
use serde_json::Value;

use crate::{
    model::{
        generate, instant,
        scoring::{self, Line, Parameters},
    },
    support::{Cluster, Feed, Observer, Scratch, daemon, daemon::Daemon, feed::event, now},
};

/// How many files are published, each into customers of its own.
const FILES: u64 = 24;

/// The file's events under names of their own: `<number>/<customer>`. Where that makes the name too long, it stays.
fn renamed(text: &str, number: u64) -> String {
    let rename = |line: &str| {
        let mut body: Value = serde_json::from_str(line).unwrap();
        let name = format!("{number}/{}", body["customerId"].as_str().unwrap());
        body["customerId"] = name.into();
        format!("{body}\n")
    };
    let short = |line: &&str| {
        serde_json::from_str::<Value>(line).unwrap()["customerId"].as_str().is_some_and(|id| id.len() < 250)
    };
    text.lines().filter(short).map(rename).collect()
}

/// Of the repeats in a file only those are recognized whose event is among the newest; the stream drops the others by
/// their message id, as long as they come within its window.
fn messages(text: &str) -> Vec<Outgoing> {
    let message = |line: &str| {
        let body: Value = serde_json::from_str(line).unwrap();
        let customer = body["customerId"].as_str().unwrap();
        let mut message = event(customer, &body);
        // The same event id may stand for different customers' events.
        message.message_id = message.message_id.map(|id| format!("{id}@{customer}").replace(['\r', '\n'], " "));
        message.payload = line.to_owned().into();
        message
    };
    text.lines().map(message).collect()
}

async fn offline(text: &str, as_of: i64) -> Vec<Line> {
    let scratch = Scratch::new();
    let path = scratch.write("events.ndjson", text);
    let printed =
        daemon::command(&["score", path.to_str().unwrap(), "--as-of", &instant::utc(as_of)], Vec::new()).await;
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn what_the_daemon_answers_is_what_the_model_and_the_command_say() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let _daemon = Daemon::builder(&cluster, "one").setting("CHURND__PIPELINE__HOT_CUSTOMERS", "64").start().await;
    // Half an hour ago: nothing is cut off at its receipt, and the newest events are not history.
    let as_of = now() - 1_800_000;
    let files: Vec<String> = (0..FILES).map(|seed| renamed(&generate::past_of(seed, as_of).text, seed)).collect();
    let text = files.concat();
    feed.send_all(messages(&text)).await;
    observer.caught_up(Duration::from_secs(90)).await;

    let model = scoring::score_file(&text, as_of, &Parameters::default());
    assert_eq!(offline(&text, as_of).await, model, "offline");
    let mut live = BTreeMap::new();
    for line in &model {
        let answer = observer.risk(&line.customer_id, Some(as_of)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", line.customer_id));
        let factors = answer["factors"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap().to_owned());
        let found = Line {
            customer_id: answer["customerId"].as_str().unwrap().to_owned(),
            score: u8::try_from(answer["score"].as_u64().unwrap()).unwrap(),
            level: answer["level"].as_str().unwrap().to_owned(),
            factors: factors.collect(),
        };
        live.insert(line.customer_id.clone(), found);
    }
    for line in &model {
        assert_eq!(&live[&line.customer_id], line, "live, as of {}", instant::utc(as_of));
    }
    let kinds: HashSet<usize> = model.iter().map(|line| line.factors.len()).collect();
    assert!(model.len() > 150 && kinds.len() >= 4, "{} customers, {kinds:?}", model.len());
}

//! The promises, checked from outside against the naive model. Gives back what is broken instead of panicking, so that
//! planted bugs can be shown to be noticed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::{Observer, cluster::ACCOUNT, feed::token_of, observer::Trouble};
use crate::model::scoring::{self, Parameters, Past};

/// More complaints of one kind are counted only.
const SHOWN: usize = 5;
/// How long what follows a checkpoint may take: publishing, the bucket, an import's end.
const AFTERWARDS: Duration = Duration::from_secs(40);

/// What must have come about.
pub(crate) struct Expected<'a> {
    pub(crate) histories: &'a BTreeMap<String, Vec<Past>>,
    /// Messages in the event stream.
    pub(crate) messages: u64,
    /// As of when the scores are compared; no event lies after it.
    pub(crate) as_of: i64,
}

/// Everything that is broken; the system must have caught up.
pub(crate) async fn violations(observer: &Observer<'_>, expected: &Expected<'_>) -> Result<Vec<String>, Trouble> {
    let mut found = counted(observer, expected.messages).await?;
    found.extend(compared(observer, expected).await?);
    found.extend(settled(observer, AFTERWARDS).await?);
    Ok(found)
}

/// Everything that is broken for those who are left, where customers were erased: messages are missing then.
pub(crate) async fn violations_after_erasure(
    observer: &Observer<'_>,
    expected: &Expected<'_>,
) -> Result<Vec<String>, Trouble> {
    let mut found = compared(observer, expected).await?;
    let broken = "SELECT count(*) FROM partitions
        WHERE role = 'engine' AND received <> applied + duplicate + late + dead + suppressed";
    if observer.number(broken).await? > 0 {
        found.push("a partition's counters do not add up".to_owned());
    }
    found.extend(settled(observer, AFTERWARDS).await?);
    Ok(found)
}

/// Everything that is broken after a restore: alerts since the backup may have been told twice, everything else must be right.
pub(crate) async fn violations_after_restore(
    observer: &Observer<'_>,
    expected: &Expected<'_>,
) -> Result<Vec<String>, Trouble> {
    let mut found = counted(observer, expected.messages).await?;
    found.extend(compared(observer, expected).await?);
    Ok(found)
}

/// received = applied + duplicate + late + dead + suppressed in each partition, and all together are the stream's messages.
async fn counted(observer: &Observer<'_>, messages: u64) -> Result<Vec<String>, Trouble> {
    let mut found = Vec::new();
    let held = observer.count("CHURN_EVENTS").await?;
    if held != messages {
        found.push(format!("the stream holds {held} messages, {messages} were sent"));
    }
    let sql = "SELECT id, received, applied, duplicate, late, dead, suppressed FROM partitions WHERE role = 'engine' ORDER BY id";
    let mut sum = 0;
    for row in observer.rows(sql, &[]).await? {
        let id: i16 = row.get(0);
        let counts: Vec<i64> = (1..7).map(|column| row.get(column)).collect();
        if counts[0] != counts[1..].iter().sum::<i64>() {
            found.push(format!(
                "partition {id} counted received, applied, duplicate, late, dead, suppressed as {counts:?}"
            ));
        }
        sum += counts[1..].iter().sum::<i64>();
    }
    if u64::try_from(sum) != Ok(held) {
        found.push(format!("{sum} messages were accounted for, the stream holds {held}"));
    }
    Ok(found)
}

/// Score, level and reasons of every customer are the model's.
async fn compared(observer: &Observer<'_>, expected: &Expected<'_>) -> Result<Vec<String>, Trouble> {
    let answers: Vec<(&String, Result<Value, Trouble>)> = stream::iter(expected.histories.keys())
        .map(|customer| async move { (customer, observer.risk(customer, Some(expected.as_of)).await) })
        .buffer_unordered(32)
        .collect()
        .await;
    let mut found = Vec::new();
    let mut wrong = 0;
    for (customer, answer) in answers {
        let model = scoring::score(customer, &expected.histories[customer], expected.as_of, &Parameters::default());
        let expected = format!("{} {} {:?}", model.score, model.level, model.factors);
        let answered = answer.map(|answer| {
            let factors: Vec<&str> =
                answer["factors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            format!("{} {} {factors:?}", answer["score"], answer["level"].as_str().unwrap_or_default())
        });
        if answered.as_ref() != Ok(&expected) {
            wrong += 1;
            if wrong <= SHOWN {
                found.push(format!("{customer} is {answered:?}, should be {expected}"));
            }
        }
    }
    if wrong > SHOWN {
        found.push(format!("{wrong} of {} customers have the wrong score", expected.histories.len()));
    }
    Ok(found)
}

/// What follows from the tables after a moment: looks until nothing is broken any more, or the time is up.
pub(crate) async fn settled(observer: &Observer<'_>, within: Duration) -> Result<Vec<String>, Trouble> {
    let deadline = std::time::Instant::now() + within;
    loop {
        let mut found = alerts_agree(observer).await?;
        found.extend(bucket_agrees(observer).await?);
        if found.is_empty() || std::time::Instant::now() >= deadline {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The alerts in the stream are those of the outbox, each once, under its own id.
async fn alerts_agree(observer: &Observer<'_>) -> Result<Vec<String>, Trouble> {
    let mut found = Complaints::default();
    let mut published = BTreeSet::new();
    for alert in observer.messages("CHURN_ALERTS").await? {
        let id = alert.json()["id"].as_str().unwrap_or_default().to_owned();
        if alert.subject.rsplit('.').next() != Some(&id) {
            found.push("alert under another id", format!("{} holds {id}", alert.subject));
        }
        if !published.insert(alert.subject.clone()) {
            found.push("alert twice", alert.subject);
        }
    }
    let mut due = BTreeSet::new();
    let rows = observer.rows("SELECT subject, published_at IS NULL FROM outbox WHERE kind = 'alert'", &[]).await?;
    for row in rows {
        let (subject, unmarked): (String, bool) = (row.get(0), row.get(1));
        if unmarked {
            found.push("alert not marked as published", subject.clone());
        }
        due.insert(subject);
    }
    published.difference(&due).for_each(|subject| found.push("alert that nothing caused", subject.clone()));
    due.difference(&published).for_each(|subject| found.push("alert that never came", subject.clone()));
    Ok(found.said())
}

/// The bucket says what the states say.
async fn bucket_agrees(observer: &Observer<'_>) -> Result<Vec<String>, Trouble> {
    let mut found = Complaints::default();
    let bucket = observer.bucket().await?;
    for row in observer.rows("SELECT account || '.' || token, score, level FROM customer_states", &[]).await? {
        let (key, score, level): (String, i16, String) = (row.get(0), row.get(1), row.get(2));
        let entry = bucket.get(&key);
        let shown = entry.map_or((0, "low"), |entry| {
            (entry["score"].as_i64().unwrap_or(-1), entry["level"].as_str().unwrap_or_default())
        });
        if shown != (i64::from(score), level.as_str()) {
            found.push("wrong entry in the bucket", format!("{key} is {score} {level}, the bucket says {shown:?}"));
        }
    }
    Ok(found.said())
}

/// The key of a customer of `acme` in the bucket.
pub(crate) fn key_of(customer: &str) -> String {
    format!("{ACCOUNT}.{}", token_of(customer))
}

/// Complaints by kind, the first few in full.
#[derive(Default)]
struct Complaints(BTreeMap<&'static str, Vec<String>>);

impl Complaints {
    fn push(&mut self, kind: &'static str, which: String) {
        self.0.entry(kind).or_default().push(which);
    }

    fn said(self) -> Vec<String> {
        let say = |(kind, all): (&str, Vec<String>)| {
            format!("{kind}, {} times: {}", all.len(), all[..all.len().min(SHOWN)].join(", "))
        };
        self.0.into_iter().map(say).collect()
    }
}

//! The risk bucket: each customer's current score and level, for whoever watches. A copy; Postgres holds the truth.

use async_nats::{Client, HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;

use super::{
    BoxError, RISK_BUCKET, RISK_STREAM,
    publisher::{Outgoing, PubAck, PublishError, Publisher},
};
use crate::{
    engine::checkpoint::{Level, Status},
    event::time::Timestamp,
};

/// What stands in the bucket for a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RiskValue {
    /// 0 to 100.
    pub score: u8,
    /// The score's level.
    pub level: Level,
    /// Where the customer stands in its life.
    pub status: Status,
    /// As of when.
    pub at: Timestamp,
}

/// A customer's entry, ready to be published.
pub fn entry(account: &str, token: &str, value: &RiskValue) -> Outgoing {
    let body = serde_json::to_vec(value).expect("plain values are always JSON");
    Outgoing::new(format!("$KV.{RISK_BUCKET}.{account}.{token}"), body)
}

/// A customer's entry, to be stored only if the entry that is there has this revision; 0 where there is none. Without
/// condition where the revision cannot be told.
pub fn entry_at(account: &str, token: &str, value: &RiskValue, revision: Option<u64>) -> Outgoing {
    let entry = entry(account, token, value);
    let Some(revision) = revision else { return entry };
    let mut expected = HeaderMap::new();
    expected.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string().as_str());
    entry.with_headers(expected)
}

/// The revision of a customer's entry; 0 if there is none. It may lag behind: whoever puts on condition of it is
/// refused then.
pub(super) async fn revision(client: &Client, account: &str, token: &str) -> Result<u64, BoxError> {
    let subject = format!("$JS.API.DIRECT.GET.{RISK_STREAM}.$KV.{RISK_BUCKET}.{account}.{token}");
    let answer = client.request(subject, Bytes::new()).await?;
    match answer.status {
        Some(StatusCode::NOT_FOUND) => Ok(0),
        Some(status) if status != StatusCode::OK => Err(format!("the bucket answered {status}").into()),
        Some(_) | None => {
            let sequence = answer.headers.as_ref().and_then(|headers| headers.get(header::NATS_SEQUENCE));
            let sequence = sequence.ok_or("the bucket's answer has no sequence")?;
            Ok(sequence.as_str().parse()?)
        }
    }
}

/// Writes one entry.
pub async fn put(publisher: &Publisher, account: &str, token: &str, value: &RiskValue) -> Result<PubAck, PublishError> {
    publisher.publish(entry(account, token, value)).await
}

/// Writes many entries, a window of them under way at once; the results come in the same order.
pub async fn put_all<'a, I>(publisher: &Publisher, entries: I) -> Vec<Result<PubAck, PublishError>>
where
    I: IntoIterator<Item = (&'a str, &'a str, &'a RiskValue)>,
    I::IntoIter: Send,
{
    publisher.publish_all(entries.into_iter().map(|(account, token, value)| entry(account, token, value))).await
}

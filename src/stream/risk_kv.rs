//! The risk bucket: each customer's current score and level, for whoever watches. A copy; Postgres holds the truth.

use serde::Serialize;

use super::{
    RISK_BUCKET,
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

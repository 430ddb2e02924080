//! The work on one channel: claimed by one instance for a while, done message by message, recorded.
//!
//! What is due is decided by the instant that callers give; how long a claim lasts, by the database's clock. Whoever lost its
//! claim writes nothing: a message that it may have sent is sent again by the next one, under the same key.

use std::time::Duration;

use deadpool_postgres::tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    Store,
    channels::{self, Channel, read_channel},
    deliveries::HeldReason,
    error::StoreError,
    values::{PgText, PgTime, RowReader, bigint, row_limit},
};
use crate::event::time::Timestamp;

/// A delivery that waits, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingRow {
    /// Its id; the order in which alerts came.
    pub id: u64,
    /// The alert's id.
    pub alert_id: String,
    /// The customer's token, if it is about one.
    pub token: Option<Box<str>>,
    /// The message that it is a part of, once that was tried.
    pub key: Option<String>,
    /// Somebody tries the channel out.
    pub is_test: bool,
    /// When it is looked at again.
    pub next_attempt_at: Timestamp,
    /// Why it waits.
    pub held: Option<HeldReason>,
}

/// A message that arrived lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentMessage {
    /// When it arrived.
    pub at: Timestamp,
    /// The tokens of the customers it was about.
    pub tokens: Vec<String>,
}

/// A row of a message that is sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedRow {
    /// The delivery.
    pub id: u64,
    /// The customer's token, if it is about one.
    pub token: Option<Box<str>>,
    /// The alert as it was published.
    pub body: Vec<u8>,
    /// Somebody tries the channel out.
    pub is_test: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried first.
    pub first_attempt_at: Timestamp,
}

/// The last message about a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastMessage {
    /// By what the receiver knows it.
    pub reference: Option<String>,
    /// Its key.
    pub key: String,
    /// The alert that it told.
    pub body: Vec<u8>,
}

/// What came of a try.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// It arrived.
    Delivered {
        /// By what the receiver knows it.
        reference: Option<&'a str>,
    },
    /// It is tried again.
    Again {
        /// Why.
        error: &'a str,
        /// When this message is tried again.
        message_at: Timestamp,
        /// When anything of the channel is tried again.
        channel_at: Timestamp,
    },
    /// It is never tried again.
    Refused {
        /// Why.
        error: &'a str,
    },
    /// Nothing of the channel is tried until a person resumes it.
    Gone {
        /// Why.
        error: &'a str,
    },
}

const CLAIM: &str = "
    UPDATE channels SET claimed_by = $1, claimed_until = clock_timestamp() + make_interval(secs => $2)
    WHERE id IN (
        SELECT c.id FROM channels c
        WHERE c.removed_at IS NULL AND (c.failing_since IS NOT NULL) = $4
          AND (c.claimed_until IS NULL OR c.claimed_until <= clock_timestamp()) AND c.id <> ALL ($6::uuid[])
          AND EXISTS (
              SELECT FROM deliveries d WHERE d.channel_id = c.id AND d.state = 'pending' AND d.next_attempt_at <= $3
                AND (d.is_test OR (c.paused_at IS NULL AND (c.retry_at IS NULL OR c.retry_at <= $3))))
        ORDER BY c.claimed_until NULLS FIRST, c.id LIMIT $5 FOR UPDATE SKIP LOCKED
    )
    RETURNING ";
const KEEP: &str = "UPDATE channels SET claimed_until = clock_timestamp() + make_interval(secs => $3)
    WHERE id = $2 AND claimed_by = $1 AND removed_at IS NULL RETURNING paused_at IS NOT NULL AS paused";
/// A claim that ended lies in the past, so that whoever waited longest comes first.
const RELEASE: &str = "UPDATE channels SET claimed_by = NULL, claimed_until = clock_timestamp()
    WHERE id = $2 AND claimed_by = $1";
const WAITING: &str =
    "SELECT id, account, alert_id, token, message_key, is_test, next_attempt_at, held_reason FROM deliveries
    WHERE channel_id = $1 AND state = 'pending' ORDER BY id LIMIT $2";
const SENT: &str = "
    SELECT max(delivered_at) AS at, array_remove(array_agg(DISTINCT token), NULL) AS tokens FROM deliveries
    WHERE channel_id = $1 AND state = 'delivered' AND delivered_at > $2 AND NOT is_test
    GROUP BY message_key ORDER BY at";
const KEY: &str = "
    UPDATE deliveries SET message_key = $3, first_attempt_at = coalesce(first_attempt_at, $5), held_reason = NULL
    WHERE channel_id = $2 AND id = ANY ($4::bigint[]) AND state = 'pending'
      AND (message_key IS NULL OR message_key = $3)
      AND EXISTS (SELECT FROM channels WHERE id = $2 AND claimed_by = $1)
    RETURNING id, account, token, body, is_test, attempts, first_attempt_at";
const LAST: &str = "SELECT reference, message_key, body FROM deliveries
    WHERE channel_id = $1 AND account = $2 AND token = $3 AND state = 'delivered' AND NOT is_test
    ORDER BY delivered_at DESC, id DESC LIMIT 1";
const HOLD: &str = "UPDATE deliveries SET next_attempt_at = $3, held_reason = $4
    WHERE channel_id = $1 AND id = ANY ($2::bigint[]) AND state = 'pending'";
const DELIVERED: &str = "
    WITH lane AS (
        UPDATE channels SET failing_since = NULL, failures = 0, retry_at = NULL, last_error = NULL
        WHERE id = $2 AND claimed_by = $1 AND (failures > 0 OR failing_since IS NOT NULL)
    )
    UPDATE deliveries SET state = 'delivered', delivered_at = $4, reference = $5, attempts = attempts + 1,
        last_error = NULL, held_reason = NULL
    WHERE channel_id = $2 AND message_key = $3 AND state = 'pending'
      AND EXISTS (SELECT FROM channels WHERE id = $2 AND claimed_by = $1) RETURNING id";
/// Everything that failed while nothing arrived is due again.
const HEALED: &str = "UPDATE deliveries SET next_attempt_at = $2, held_reason = NULL
    WHERE channel_id = $1 AND state = 'pending' AND held_reason = 'retry' AND next_attempt_at > $2";
const AGAIN: &str = "
    WITH lane AS (
        UPDATE channels SET failing_since = coalesce(failing_since, $7), failures = failures + 1, retry_at = $6,
            last_error = $4
        WHERE id = $2 AND claimed_by = $1 RETURNING id
    )
    UPDATE deliveries d SET next_attempt_at = $5, held_reason = 'retry', attempts = attempts + 1, last_error = $4
    FROM lane WHERE d.channel_id = lane.id AND d.message_key = $3 AND d.state = 'pending' RETURNING d.id";
const REFUSED: &str = "
    UPDATE deliveries SET state = 'refused', attempts = attempts + 1, last_error = $4, held_reason = NULL
    WHERE channel_id = $2 AND message_key = $3 AND state = 'pending'
      AND EXISTS (SELECT FROM channels WHERE id = $2 AND claimed_by = $1) RETURNING id";
const GONE: &str = "
    WITH lane AS (
        UPDATE channels SET paused_at = coalesce(paused_at, $5), paused_reason = coalesce(paused_reason, $4),
            failing_since = coalesce(failing_since, $5), last_error = $4, updated_at = now()
        WHERE id = $2 AND claimed_by = $1 RETURNING id
    )
    UPDATE deliveries d SET attempts = attempts + 1, last_error = $4, held_reason = 'retry', next_attempt_at = $5
    FROM lane WHERE d.channel_id = lane.id AND d.message_key = $3 AND d.state = 'pending' RETURNING d.id";
/// When a channel has something to do that nobody is at.
const NEXT_DUE: &str = "
    SELECT min(greatest(d.next, c.retry_at)) AS next FROM channels c
    CROSS JOIN LATERAL (
        SELECT min(next_attempt_at) AS next FROM deliveries WHERE channel_id = c.id AND state = 'pending'
    ) d
    WHERE c.removed_at IS NULL AND c.paused_at IS NULL AND d.next IS NOT NULL
      AND (c.claimed_until IS NULL OR c.claimed_until <= clock_timestamp())";

impl Store {
    /// Claims channels that have something due at `now`, for as long as `span` or until they are released: either such where
    /// nothing arrives lately, or the others. `besides` are left alone.
    pub async fn claim_lanes(
        &self,
        me: Uuid,
        span: Duration,
        now: Timestamp,
        failing: bool,
        limit: usize,
        besides: &[Uuid],
    ) -> Result<Vec<Channel>, StoreError> {
        let sql = format!("{CLAIM} {}", channels::COLUMNS);
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&me, &span.as_secs_f64(), &PgTime(now), &failing, &row_limit(limit), &besides];
        let rows = self.statement("claim channels", &sql, &parameters).await?;
        rows.iter().map(read_channel).collect()
    }

    /// Claims a channel for longer, and says whether it is paused; `None` if it is ours no more.
    pub async fn keep_lane(&self, me: Uuid, channel: Uuid, span: Duration) -> Result<Option<bool>, StoreError> {
        let rows = self.statement("keep a channel", KEEP, &[&me, &channel, &span.as_secs_f64()]).await?;
        rows.first().map(|row| RowReader { table: "channels", row }.get("paused")).transpose()
    }

    /// Gives a claimed channel back.
    pub async fn release_lane(&self, me: Uuid, channel: Uuid) -> Result<(), StoreError> {
        self.statement("release a channel", RELEASE, &[&me, &channel]).await?;
        Ok(())
    }

    /// What waits for a channel, in the order it came.
    pub async fn waiting(&self, channel: Uuid, limit: usize) -> Result<Vec<WaitingRow>, StoreError> {
        let rows = self.statement("look at what waits", WAITING, &[&channel, &row_limit(limit)]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "deliveries", row };
                Ok(WaitingRow {
                    id: row.number("id")?,
                    alert_id: row.text("alert_id")?,
                    token: row.get::<Option<String>>("token")?.map(Into::into),
                    key: row.optional_text("message_key")?,
                    is_test: row.get("is_test")?,
                    next_attempt_at: row.time("next_attempt_at")?,
                    held: HeldReason::read(&row)?,
                })
            })
            .collect()
    }

    /// The messages that arrived after an instant, the oldest first.
    pub async fn sent_since(&self, channel: Uuid, since: Timestamp) -> Result<Vec<SentMessage>, StoreError> {
        let rows = self.statement("look at what was sent", SENT, &[&channel, &PgTime(since)]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "deliveries", row };
                Ok(SentMessage { at: row.time("at")?, tokens: row.get("tokens")? })
            })
            .collect()
    }

    /// Makes deliveries one message under a key, before it is sent; gives those that still wait, in the order they came.
    pub async fn begin_message(
        &self,
        me: Uuid,
        channel: Uuid,
        key: &str,
        ids: &[u64],
        now: Timestamp,
    ) -> Result<Vec<KeyedRow>, StoreError> {
        let parameters: [&(dyn ToSql + Sync); 5] = [&me, &channel, &PgText(key), &bigints(ids), &PgTime(now)];
        let rows = self.statement("begin a message", KEY, &parameters).await?;
        let mut keyed = rows
            .iter()
            .map(|row| {
                let row = RowReader { table: "deliveries", row };
                Ok(KeyedRow {
                    id: row.number("id")?,
                    token: row.get::<Option<String>>("token")?.map(Into::into),
                    body: row.get("body")?,
                    is_test: row.get("is_test")?,
                    attempts: u32::try_from(row.get::<i32>("attempts")?).map_err(|_| row.broken("attempts"))?,
                    first_attempt_at: row.time("first_attempt_at")?,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        keyed.sort_unstable_by_key(|row| row.id);
        Ok(keyed)
    }

    /// The last message that arrived about a customer, of whatever number of alerts.
    pub async fn last_message(&self, channel: &Channel, token: &str) -> Result<Option<LastMessage>, StoreError> {
        let parameters: [&(dyn ToSql + Sync); 3] = [&channel.id, &channel.account.as_str(), &token];
        let rows = self.statement("look at the last message", LAST, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let row = RowReader { table: "deliveries", row };
        let key = row.optional_text("message_key")?.unwrap_or_default();
        Ok(Some(LastMessage { reference: row.optional_text("reference")?, key, body: row.get("body")? }))
    }

    /// Has deliveries wait.
    pub async fn hold(
        &self,
        channel: Uuid,
        ids: &[u64],
        until: Timestamp,
        reason: HeldReason,
    ) -> Result<(), StoreError> {
        let parameters: [&(dyn ToSql + Sync); 4] = [&channel, &bigints(ids), &PgTime(until), &reason.as_str()];
        self.statement("have deliveries wait", HOLD, &parameters).await?;
        Ok(())
    }

    /// Writes down what came of a try; says of how many deliveries. None if the claim was lost, or if they were erased.
    pub async fn record_try(
        &self,
        me: Uuid,
        channel: Uuid,
        key: &str,
        now: Timestamp,
        outcome: Outcome<'_>,
    ) -> Result<usize, StoreError> {
        let (key, now) = (PgText(key), PgTime(now));
        let doing = "record a delivery";
        let rows = match outcome {
            Outcome::Delivered { reference } => {
                let reference = reference.map(PgText);
                self.statement(doing, DELIVERED, &[&me, &channel, &key, &now, &reference]).await?
            }
            Outcome::Again { error, message_at, channel_at } => {
                let parameters: [&(dyn ToSql + Sync); 7] =
                    [&me, &channel, &key, &PgText(error), &PgTime(message_at), &PgTime(channel_at), &now];
                self.statement(doing, AGAIN, &parameters).await?
            }
            Outcome::Refused { error } => {
                self.statement(doing, REFUSED, &[&me, &channel, &key, &PgText(error)]).await?
            }
            Outcome::Gone { error } => {
                self.statement(doing, GONE, &[&me, &channel, &key, &PgText(error), &now]).await?
            }
        };
        Ok(rows.len())
    }

    /// What failed while nothing arrived at a channel is due at once.
    pub async fn heal_lane(&self, channel: Uuid, now: Timestamp) -> Result<(), StoreError> {
        self.statement("try again what failed", HEALED, &[&channel, &PgTime(now)]).await?;
        Ok(())
    }

    /// When the next message is due, of channels that nobody works on.
    pub async fn next_delivery_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let rows = self.statement("look when a delivery is due", NEXT_DUE, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        RowReader { table: "deliveries", row }.optional_time("next")
    }
}

fn bigints(ids: &[u64]) -> Vec<i64> {
    ids.iter().map(|id| bigint(*id)).collect()
}

//! Deliveries: alerts on their way to channels, and how that went. One row for each alert and channel.
//!
//! An alert is taken for all its channels in one statement, and once however often it comes: whoever reads the stream may
//! acknowledge it then. What is about a customer who was erased is not taken.

use deadpool_postgres::tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    Store,
    channels::ChannelKind,
    error::StoreError,
    values::{PgText, PgTime, RowReader, bigint, row_limit},
};
use crate::event::{ids::AccountId, time::Timestamp};

/// An alert to be delivered.
#[derive(Clone, Copy, Debug)]
pub struct NewDelivery<'a> {
    /// Whose alert.
    pub account: &'a AccountId,
    /// Its id.
    pub alert_id: &'a str,
    /// The customer's token; none where it is about the account, or a test.
    pub token: Option<&'a str>,
    /// The alert as it was published.
    pub body: &'a [u8],
    /// Somebody tries the channel out: it is sent whatever the settings, also when the channel is paused.
    pub is_test: bool,
    /// When it came.
    pub at: Timestamp,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It is on its way, or waits.
    Pending,
    /// It arrived.
    Delivered,
    /// The receiver does not want it, now or ever.
    Refused,
    /// Its channel was removed before.
    Canceled,
}

/// Why a delivery waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldReason {
    /// Until the quiet hours end.
    QuietHours,
    /// Until fewer messages were sent within the last hour.
    Limit,
    /// Until it, or an earlier one about the same customer, is tried again.
    Retry,
}

/// A delivery as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Grows with time; the place to go on before.
    pub id: u64,
    /// The channel.
    pub channel_id: Uuid,
    /// What kind of channel it is.
    pub kind: ChannelKind,
    /// What the channel was called.
    pub channel: String,
    /// The alert's id.
    pub alert_id: String,
    /// The alert as it was published.
    pub body: Vec<u8>,
    /// Somebody tried the channel out.
    pub is_test: bool,
    /// What the message is recognized by, once it was tried.
    pub message_key: Option<String>,
    /// What became of it.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, where it waits.
    pub next_attempt_at: Timestamp,
    /// Why it waits.
    pub held: Option<HeldReason>,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// When it came.
    pub created_at: Timestamp,
    /// When it arrived.
    pub delivered_at: Option<Timestamp>,
}

/// Which deliveries to list, the newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryQuery<'a> {
    /// Only those of which this became.
    pub state: Option<DeliveryState>,
    /// Only those to this channel.
    pub channel: Option<Uuid>,
    /// Only those about the customer with this token.
    pub token: Option<&'a str>,
    /// Goes on before this one.
    pub before: Option<u64>,
    /// How many at the most.
    pub limit: usize,
}

/// How the deliveries of a channel stand, tests left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySums {
    /// The channel.
    pub channel_id: Uuid,
    /// How many arrived since the instant that was asked for.
    pub delivered: u64,
    /// How many were refused since then.
    pub refused: u64,
    /// How many wait.
    pub pending: u64,
    /// Since when the oldest of those waits.
    pub oldest_pending: Option<Timestamp>,
    /// When one arrived last.
    pub last_delivered: Option<Timestamp>,
}

/// How everything that waits stands, of all accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many deliveries wait, for whatever reason.
    pub pending: u64,
    /// Since when the oldest waits that nobody holds back: neither by quiet hours, nor by limits, nor by a pause.
    pub oldest: Option<Timestamp>,
}

const ENQUEUE: &str = "
    INSERT INTO deliveries (account, channel_id, channel, target, alert_id, token, body, is_test, next_attempt_at, created_at)
    SELECT c.account, c.id, c.kind, c.name, $3, $4, $5, $6, $7, $7 FROM channels c
    WHERE c.account = $1 AND c.id = ANY ($2::uuid[]) AND c.removed_at IS NULL
      AND ($4::text IS NULL OR NOT EXISTS (SELECT FROM suppressions x WHERE x.account = $1 AND x.hash = $8::bytea))
    ORDER BY c.id
    ON CONFLICT (channel_id, alert_id) DO NOTHING RETURNING id";
const COLUMNS: &str = "id, account, channel_id, channel, target, alert_id, body, is_test, message_key, state, attempts,
    next_attempt_at, held_reason, last_error, created_at, delivered_at";
const SUMS: &str = "
    SELECT c.id, d.delivered, d.refused, d.pending, d.oldest_pending, l.delivered_at AS last_delivered FROM channels c
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE state = 'delivered') AS delivered,
            count(*) FILTER (WHERE state = 'refused') AS refused, count(*) FILTER (WHERE state = 'pending') AS pending,
            min(created_at) FILTER (WHERE state = 'pending') AS oldest_pending
        FROM deliveries WHERE channel_id = c.id AND NOT is_test AND (state = 'pending' OR created_at >= $2)
    ) d
    LEFT JOIN LATERAL (
        SELECT delivered_at FROM deliveries WHERE channel_id = c.id AND state = 'delivered' AND NOT is_test
        ORDER BY delivered_at DESC LIMIT 1
    ) l ON true
    WHERE c.account = $1 AND c.removed_at IS NULL ORDER BY c.name";
const BACKLOG: &str = "
    SELECT count(*) AS pending,
        min(d.created_at) FILTER (WHERE c.paused_at IS NULL AND (d.held_reason IS NULL OR d.held_reason = 'retry')) AS oldest
    FROM deliveries d JOIN channels c ON c.id = d.channel_id WHERE d.state = 'pending'";
const PRUNE: &str = "DELETE FROM deliveries WHERE id IN (
        SELECT id FROM deliveries WHERE created_at < $1 AND state <> 'pending' ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING id";

impl Store {
    /// Takes an alert for those of these channels that are there and did not take it yet; gives the deliveries.
    pub async fn enqueue_alert(&self, new: &NewDelivery<'_>, channels: &[Uuid]) -> Result<Vec<u64>, StoreError> {
        let key = self.suppression_key().await?;
        let hash = new.token.map(|token| key.customer(new.account.as_str(), token));
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &new.account.as_str(),
            &channels,
            &PgText(new.alert_id),
            &new.token,
            &new.body,
            &new.is_test,
            &PgTime(new.at),
            &hash,
        ];
        let rows = self.statement("take an alert for channels", ENQUEUE, &parameters).await?;
        rows.iter().map(|row| RowReader { table: "deliveries", row }.number("id")).collect()
    }

    /// An account's deliveries, the newest first.
    pub async fn list_deliveries(
        &self,
        account: &AccountId,
        query: &DeliveryQuery<'_>,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        let of_customer = if query.token.is_some() { "token = $5" } else { "$5::text IS NULL" };
        let sql = format!(
            "SELECT {COLUMNS} FROM deliveries WHERE account = $1 AND id < $2 AND ($3::text IS NULL OR state = $3)
               AND ($4::uuid IS NULL OR channel_id = $4) AND {of_customer}
             ORDER BY id DESC LIMIT $6"
        );
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &account.as_str(),
            &query.before.map_or(i64::MAX, bigint),
            &query.state.map(DeliveryState::as_str),
            &query.channel,
            &query.token,
            &row_limit(query.limit),
        ];
        let rows = self.statement_of(account, "list deliveries", &sql, &parameters).await?;
        rows.iter().map(read_delivery).collect()
    }

    /// One of an account's deliveries.
    pub async fn delivery(&self, account: &AccountId, id: u64) -> Result<Option<StoredDelivery>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE account = $1 AND id = $2");
        let rows = self.statement_of(account, "load a delivery", &sql, &[&account.as_str(), &bigint(id)]).await?;
        rows.first().map(read_delivery).transpose()
    }

    /// How the deliveries of each of an account's channels stand; what ended is counted if it came after an instant.
    pub async fn delivery_sums(&self, account: &AccountId, since: Timestamp) -> Result<Vec<DeliverySums>, StoreError> {
        let rows =
            self.statement_of(account, "sum up the deliveries", SUMS, &[&account.as_str(), &PgTime(since)]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "deliveries", row };
                Ok(DeliverySums {
                    channel_id: row.get("id")?,
                    delivered: row.number("delivered")?,
                    refused: row.number("refused")?,
                    pending: row.number("pending")?,
                    oldest_pending: row.optional_time("oldest_pending")?,
                    last_delivered: row.optional_time("last_delivered")?,
                })
            })
            .collect()
    }

    /// How much waits, of all accounts.
    pub async fn delivery_backlog(&self) -> Result<Backlog, StoreError> {
        let rows = self.statement("count the deliveries", BACKLOG, &[]).await?;
        let Some(row) = rows.first() else { return Ok(Backlog::default()) };
        let row = RowReader { table: "deliveries", row };
        Ok(Backlog { pending: row.number("pending")?, oldest: row.optional_time("oldest")? })
    }

    /// Forgets up to `limit` deliveries that ended and came before an instant; says how many.
    pub async fn prune_deliveries(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Ok(self.statement("prune the deliveries", PRUNE, &[&PgTime(before), &row_limit(limit)]).await?.len())
    }
}

fn read_delivery(row: &Row) -> Result<StoredDelivery, StoreError> {
    let row = RowReader { table: "deliveries", row };
    Ok(StoredDelivery {
        id: row.number("id")?,
        channel_id: row.get("channel_id")?,
        kind: ChannelKind::read(&row, "channel")?,
        channel: row.text("target")?,
        alert_id: row.text("alert_id")?,
        body: row.get("body")?,
        is_test: row.get("is_test")?,
        message_key: row.optional_text("message_key")?,
        state: DeliveryState::read(&row)?,
        attempts: u32::try_from(row.get::<i32>("attempts")?).map_err(|_| row.broken("attempts"))?,
        next_attempt_at: row.time("next_attempt_at")?,
        held: HeldReason::read(&row)?,
        last_error: row.optional_text("last_error")?,
        created_at: row.time("created_at")?,
        delivered_at: row.optional_time("delivered_at")?,
    })
}

impl DeliveryState {
    /// The state as it stands in tables, answers and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Canceled => "canceled",
        }
    }

    fn read(row: &RowReader<'_>) -> Result<Self, StoreError> {
        let all = [Self::Pending, Self::Delivered, Self::Refused, Self::Canceled];
        let name: &str = row.get("state")?;
        all.into_iter().find(|state| state.as_str() == name).ok_or_else(|| row.broken("state"))
    }
}

impl HeldReason {
    /// The reason as it stands in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QuietHours => "quiet_hours",
            Self::Limit => "limit",
            Self::Retry => "retry",
        }
    }

    pub(super) fn read(row: &RowReader<'_>) -> Result<Option<Self>, StoreError> {
        let Some(name) = row.get::<Option<&str>>("held_reason")? else { return Ok(None) };
        let all = [Self::QuietHours, Self::Limit, Self::Retry];
        all.into_iter().find(|reason| reason.as_str() == name).map(Some).ok_or_else(|| row.broken("held_reason"))
    }
}

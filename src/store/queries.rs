//! The read side: histories, alerts, timelines, sums. Pages by key, never by offset; every query is bounded by its account.

use std::collections::BTreeMap;

use deadpool_postgres::tokio_postgres::types::{Json, ToSql};

use super::{
    Store,
    archive::ArchivedEvent,
    error::StoreError,
    outbox::{OUTBOX_COLUMNS, StoredOutboxRow, read_outbox},
    values::{PgTime, RowReader, bigint, row_limit},
};
use crate::{
    engine::{
        alert::AlertKind,
        checkpoint::{Factor, Level, Status},
        link::RESERVED_NAMES,
    },
    event::{
        ids::{AccountId, CustomerId, StreamSequence},
        money::Currency,
        time::Timestamp,
    },
};

/// A line of a customer's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredScore {
    /// Grows with time; the place to go on before.
    pub id: u64,
    /// As of when it held.
    pub at: Timestamp,
    /// 0 to 100.
    pub score: u8,
    /// The score's level.
    pub level: Level,
    /// The customer's status.
    pub status: Status,
    /// Why.
    pub factors: Vec<Factor>,
}

/// Which alerts to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlertQuery<'a> {
    /// Only those of the customer with this token.
    pub token: Option<&'a str>,
    /// Only those that told of this level.
    pub level: Option<Level>,
    /// Only those of this kind.
    pub kind: Option<AlertKind>,
    /// Only those kept back, or only those published.
    pub held: Option<bool>,
    /// Goes on before this row.
    pub before: Option<u64>,
    /// How many at the most.
    pub limit: usize,
}

/// How many customers of an account have a level, and what they bring a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelSummary {
    /// The level.
    pub level: Level,
    /// How many customers.
    pub customers: u64,
    /// What they bring a month, by currency, in minor units.
    pub mrr: BTreeMap<Currency, i64>,
}

const SCORES: &str = "SELECT id, at, score, level, status, factors, account, token FROM risk_scores
    WHERE account = $1 AND token = $2 AND id < $3 ORDER BY id DESC LIMIT $4";
const TIMELINE: &str =
    "SELECT sequence, stored_at, partition, account, token, customer, name, event_id, occurred_at, user_id,
        properties
    FROM events WHERE account = $1 AND token = $2 AND (stored_at, sequence) < ($3, $4) AND name <> ALL ($6::text[])
    ORDER BY stored_at DESC, sequence DESC LIMIT $5";
const SUMMARY: &str = "SELECT level, mrr_currency, count(*) AS customers,
        least(coalesce(sum(mrr_minor), 0), 9000000000000000000)::bigint AS mrr
    FROM customer_states WHERE account = $1 AND status = 'active' GROUP BY level, mrr_currency";

impl Store {
    /// How many customers of an account have which level, and what they bring.
    pub async fn level_summary(&self, account: &AccountId) -> Result<Vec<LevelSummary>, StoreError> {
        let rows = self.statement_of(account, "sum up the levels", SUMMARY, &[&account.as_str()]).await?;
        let mut summaries = [Level::High, Level::Medium, Level::Low].map(|level| LevelSummary {
            level,
            customers: 0,
            mrr: BTreeMap::new(),
        });
        for row in &rows {
            let row = RowReader { table: "customer_states", row };
            let level = row.level("level")?;
            let Some(summary) = summaries.iter_mut().find(|summary| summary.level == level) else { continue };
            summary.customers += row.number("customers")?;
            if let Some(code) = row.get::<Option<&str>>("mrr_currency")? {
                let currency = Currency::parse(code).map_err(|_| row.broken("mrr_currency"))?;
                summary.mrr.insert(currency, row.get("mrr")?);
            }
        }
        Ok(summaries.into())
    }

    /// A customer's scores, the newest first; goes on before the line `before`.
    pub async fn score_history(
        &self,
        account: &AccountId,
        token: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StoredScore>, StoreError> {
        let before = before.map_or(i64::MAX, bigint);
        let parameters: [&(dyn ToSql + Sync); 4] = [&account.as_str(), &token, &before, &row_limit(limit)];
        let rows = self.statement_of(account, "load a score's history", SCORES, &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "risk_scores", row };
                Ok(StoredScore {
                    id: row.number("id")?,
                    at: row.time("at")?,
                    score: row.score("score")?,
                    level: row.level("level")?,
                    status: row.status("status")?,
                    factors: row.get::<Json<Vec<Factor>>>("factors")?.0,
                })
            })
            .collect()
    }

    /// An account's alerts, the newest first, those kept back too.
    pub async fn list_alerts(
        &self,
        account: &AccountId,
        query: &AlertQuery<'_>,
    ) -> Result<Vec<StoredOutboxRow>, StoreError> {
        let kind = query.kind.map(AlertKind::as_str);
        let stored_as = query.held.map(|held| if held { "held_alert" } else { "alert" });
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &account.as_str(),
            &query.before.map_or(i64::MAX, bigint),
            &row_limit(query.limit),
            &query.token,
            &query.level.map(Level::as_str),
            &kind,
            &stored_as,
        ];
        let of_customer = if query.token.is_some() { "token = $4" } else { "$4::text IS NULL" };
        let sql = format!(
            "SELECT {OUTBOX_COLUMNS} FROM outbox
             WHERE account = $1 AND kind <> 'event' AND id < $2 AND {of_customer}
               AND ($5::text IS NULL OR split_part(subject, '.', 4) = $5)
               AND ($6::text IS NULL OR convert_from(body, 'UTF8')::json ->> 'kind' = $6)
               AND ($7::text IS NULL OR kind = $7)
             ORDER BY id DESC LIMIT $3"
        );
        read_outbox(&self.statement_of(account, "list alerts", &sql, &parameters).await?)
    }

    /// A customer's events from the archive, the newest first, less those that the daemon sends itself; goes on before the
    /// event stored at an instant under a sequence.
    pub async fn timeline(
        &self,
        account: &AccountId,
        token: &str,
        before: Option<(Timestamp, StreamSequence)>,
        limit: usize,
    ) -> Result<Vec<ArchivedEvent>, StoreError> {
        let (at, sequence) = before.unwrap_or((Timestamp::from_millis(i64::MAX), StreamSequence(u64::MAX)));
        let hidden: &[&str] = &RESERVED_NAMES;
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&account.as_str(), &token, &PgTime(at), &bigint(sequence.0), &row_limit(limit), &hidden];
        let rows = self.statement_of(account, "load a timeline", TIMELINE, &parameters).await?;
        rows.iter().map(|row| read_event(&RowReader { table: "events", row })).collect()
    }
}

fn read_event(row: &RowReader<'_>) -> Result<ArchivedEvent, StoreError> {
    let customer = row.optional_text("customer")?;
    Ok(ArchivedEvent {
        sequence: StreamSequence(row.number("sequence")?),
        stored_at: row.time("stored_at")?,
        partition: row.partition("partition")?,
        account: row.account("account")?,
        token: row.token("token")?,
        customer: customer.map(|id| CustomerId::parse(&id).map_err(|_| row.broken("customer"))).transpose()?,
        name: row.text("name")?,
        event_id: row.optional_text("event_id")?,
        occurred_at: row.time("occurred_at")?,
        user_id: row.optional_text("user_id")?,
        properties: row.optional_text("properties")?,
    })
}

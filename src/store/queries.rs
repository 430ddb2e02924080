//! The read side: what people and APIs look at. Pages by key, never by offset; every query is bounded by its account.

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
    engine::checkpoint::{Factor, Level, Status},
    event::{
        ids::{AccountId, CustomerId, StreamSequence},
        money::{Currency, Money},
        time::Timestamp,
    },
};

/// How customers are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The highest score first.
    Score,
    /// The most money first; who brings none, or nothing known, comes last.
    Mrr,
}

/// Which customers to list.
#[derive(Clone, Debug)]
pub struct CustomerQuery {
    /// Only this level; medium and high when absent.
    pub level: Option<Level>,
    /// In which order.
    pub order: Order,
    /// Customers that left already, too.
    pub include_churned: bool,
    /// Goes on after this one.
    pub after: Option<CustomerCursor>,
    /// How many at the most.
    pub limit: usize,
}

/// A place in a list of customers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CustomerCursor {
    /// The last one's score, or its monthly amount in minor units (-1 for none), by the list's order.
    pub rank: i64,
    /// The last one's token.
    pub token: String,
}

/// A customer in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCustomer {
    /// The customer's full id.
    pub customer: CustomerId,
    /// The customer's subject token.
    pub token: Box<str>,
    /// 0 to 100.
    pub score: u8,
    /// The score's level.
    pub level: Level,
    /// Where it stands in its life.
    pub status: Status,
    /// What it brings a month.
    pub mrr: Option<Money>,
    /// When it will be evaluated again.
    pub due_at: Option<Timestamp>,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Its company, where contacts are stored.
    pub company_name: Option<String>,
}

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
    FROM events WHERE account = $1 AND token = $2 AND (stored_at, sequence) < ($3, $4)
    ORDER BY stored_at DESC, sequence DESC LIMIT $5";
const SUMMARY: &str = "SELECT level, mrr_currency, count(*) AS customers, coalesce(sum(mrr_minor), 0)::bigint AS mrr
    FROM customer_states WHERE account = $1 AND status = 'active' GROUP BY level, mrr_currency";

impl CustomerQuery {
    /// Those at risk, the highest score first.
    pub fn at_risk(limit: usize) -> Self {
        Self { level: None, order: Order::Score, include_churned: false, after: None, limit }
    }

    /// The query's text: of a small number of forms, each with the partial index in view.
    fn sql(&self) -> String {
        let level = match self.level {
            None => "s.level <> 'low'",
            Some(Level::Low) => "s.level = 'low'",
            Some(Level::Medium) => "s.level <> 'low' AND s.level = 'medium'",
            Some(Level::High) => "s.level <> 'low' AND s.level = 'high'",
        };
        let status = if self.include_churned { "s.status <> 'moved'" } else { "s.status = 'active'" };
        let (rank, after) = match self.order {
            Order::Score => ("s.score", "s.score <= $3 AND (s.score < $3 OR s.token > $4)"),
            Order::Mrr => (
                "coalesce(s.mrr_minor, -1)",
                "(coalesce(s.mrr_minor, -1) < $3 OR (coalesce(s.mrr_minor, -1) = $3 AND s.token > $4))",
            ),
        };
        let after = if self.after.is_some() { after } else { "$3::bigint IS NOT NULL AND $4::text IS NOT NULL" };
        let after = after.replace("$3", "$3::bigint");
        format!(
            "SELECT s.customer, s.account, s.token, s.score, s.level, s.status, s.mrr_minor, s.mrr_currency, s.due_at,
                s.updated_at, c.company_name
             FROM customer_states s
             LEFT JOIN customers c ON c.account_id = s.account AND c.external_id = s.customer
             WHERE s.account = $1 AND {level} AND {status} AND {after}
             ORDER BY {rank} DESC, s.token LIMIT $2"
        )
    }
}

impl ListedCustomer {
    /// The place in a list after this customer.
    pub fn cursor(&self, order: Order) -> CustomerCursor {
        let rank = match order {
            Order::Score => i64::from(self.score),
            Order::Mrr => self.mrr.map_or(-1, |mrr| mrr.minor),
        };
        CustomerCursor { rank, token: self.token.to_string() }
    }
}

impl Store {
    /// An account's customers by risk.
    pub async fn list_customers(
        &self,
        account: &AccountId,
        query: &CustomerQuery,
    ) -> Result<Vec<ListedCustomer>, StoreError> {
        let (rank, token) = query.after.as_ref().map_or((0, ""), |after| (after.rank, after.token.as_str()));
        let parameters: [&(dyn ToSql + Sync); 4] = [&account.as_str(), &row_limit(query.limit), &rank, &token];
        let rows = self.statement("list customers", &query.sql(), &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "customer_states", row };
                Ok(ListedCustomer {
                    customer: row.customer("customer")?,
                    token: row.token("token")?,
                    score: row.score("score")?,
                    level: row.level("level")?,
                    status: row.status("status")?,
                    mrr: row.money("mrr_minor", "mrr_currency")?,
                    due_at: row.optional_time("due_at")?,
                    updated_at: row.time("updated_at")?,
                    company_name: row.optional_text("company_name")?,
                })
            })
            .collect()
    }

    /// How many customers of an account have which level, and what they bring.
    pub async fn level_summary(&self, account: &AccountId) -> Result<Vec<LevelSummary>, StoreError> {
        let rows = self.statement("sum up the levels", SUMMARY, &[&account.as_str()]).await?;
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
        let rows = self.statement("load a score's history", SCORES, &parameters).await?;
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

    /// An account's alerts, the newest first, those kept back too; goes on before the row `before`.
    pub async fn list_alerts(
        &self,
        account: &AccountId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StoredOutboxRow>, StoreError> {
        let sql = format!(
            "SELECT {OUTBOX_COLUMNS} FROM outbox WHERE account = $1 AND kind <> 'event' AND id < $2 ORDER BY id DESC LIMIT $3"
        );
        let before = before.map_or(i64::MAX, bigint);
        let rows = self.statement("list alerts", &sql, &[&account.as_str(), &before, &row_limit(limit)]).await?;
        read_outbox(&rows)
    }

    /// A customer's events from the archive, the newest first; goes on before the event stored at an instant under a
    /// sequence.
    pub async fn timeline(
        &self,
        account: &AccountId,
        token: &str,
        before: Option<(Timestamp, StreamSequence)>,
        limit: usize,
    ) -> Result<Vec<ArchivedEvent>, StoreError> {
        let (at, sequence) = before.unwrap_or((Timestamp::from_millis(i64::MAX), StreamSequence(u64::MAX)));
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&account.as_str(), &token, &PgTime(at), &bigint(sequence.0), &row_limit(limit)];
        let rows = self.statement("load a timeline", TIMELINE, &parameters).await?;
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

//! How accounts stand, now and over time: levels, money at risk, alerts, and how messages arrived.

use std::collections::BTreeMap;

use deadpool_postgres::tokio_postgres::types::{Json, ToSql};

use super::{
    Store,
    error::StoreError,
    values::{PgTime, RowReader},
};
use crate::{
    engine::checkpoint::Level,
    event::{ids::AccountId, money::Currency, time::Timestamp},
};

/// For how long every hour is kept; then one a day is.
const HOURLY_DAYS: i64 = 8;
/// For how long days are kept.
const DAILY_DAYS: i64 = 730;
const DAY_MILLIS: i64 = 86_400_000;
/// Held by who counts, so that instances do not count all customers side by side. Any constant does, as long as it never
/// changes.
const COUNTING_LOCK: i64 = 0x6368_7572_6e64_0007;

/// How an account stood at an instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When it was counted.
    pub at: Timestamp,
    /// Active customers of high risk.
    pub high: u64,
    /// Of medium risk.
    pub medium: u64,
    /// Of low risk.
    pub low: u64,
    /// Customers who left.
    pub churned: u64,
    /// What the active ones bring, by currency.
    pub mrr: BTreeMap<Currency, Brought>,
}

/// What customers bring a month, in minor units of a currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// All of it.
    pub all: i64,
    /// What of it is at risk: each customer's part is its score in percent.
    pub at_risk: i64,
}

/// Alerts of one day, level and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertCount {
    /// The UTC day's beginning.
    pub day: Timestamp,
    /// The level that they told of.
    pub level: Level,
    /// Their kind, such as `risk.raised`.
    pub kind: String,
    /// How many.
    pub alerts: u64,
}

/// What `{of}` leaves of all customers, by account and currency. Amounts are clamped: one that is out of all bounds must not
/// refuse the sum.
fn counted(of: &str) -> String {
    format!(
        "SELECT account, sum(high)::bigint AS high, sum(medium)::bigint AS medium, sum(low)::bigint AS low,
            sum(churned)::bigint AS churned,
            coalesce(jsonb_object_agg(currency, jsonb_build_array(
                greatest(least(mrr, 9e18), -9e18)::bigint, least(floor(at_risk / 100), 9e18)::bigint
            )) FILTER (WHERE currency IS NOT NULL), '{{}}') AS mrr
         FROM (
            SELECT account, mrr_currency AS currency,
                count(*) FILTER (WHERE status = 'active' AND level = 'high') AS high,
                count(*) FILTER (WHERE status = 'active' AND level = 'medium') AS medium,
                count(*) FILTER (WHERE status = 'active' AND level = 'low') AS low,
                count(*) FILTER (WHERE status = 'churned') AS churned,
                coalesce(sum(mrr_minor) FILTER (WHERE status = 'active'), 0) AS mrr,
                coalesce(sum(least(greatest(mrr_minor, 0), 90000000000000000) * score)
                    FILTER (WHERE status = 'active'), 0) AS at_risk
            FROM customer_states WHERE status <> 'moved' AND {of} GROUP BY account, mrr_currency
         ) by_currency GROUP BY account"
    )
}

const IS_NOTED: &str =
    "SELECT EXISTS (SELECT FROM accounts a JOIN account_hours h ON h.account = a.id AND h.hour = $1) AS noted";
const TURN: &str = "SELECT pg_try_advisory_xact_lock($1) AS ours";
const THIN: &str = "DELETE FROM account_hours h
    WHERE h.hour < $2 OR h.hour < $1 AND EXISTS (
        SELECT FROM account_hours e
        WHERE e.account = h.account AND e.hour >= date_trunc('day', h.hour, 'UTC') AND e.hour < h.hour
    )";
const OVER_TIME: &str = "SELECT account, hour, high, medium, low, churned, mrr FROM account_hours
    WHERE account = $1 AND hour >= $2 ORDER BY hour";
const ALERTS: &str = "SELECT date_trunc('day', at, 'UTC') AS day, split_part(subject, '.', 4) AS level,
        convert_from(body, 'UTF8')::json ->> 'kind' AS kind, count(*) AS alerts
    FROM outbox WHERE account = $1 AND at >= $2 AND kind = 'alert' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";

impl Store {
    /// Notes how all accounts stand in the hour of `now`, unless that was noted; `false` if somebody else is about to.
    /// Reads all customers once: 0.6 to 1 s for each million of 500 bytes that are in memory.
    pub async fn note_hour(&self, now: Timestamp) -> Result<bool, StoreError> {
        let hour = PgTime(Timestamp::start_of_hour(now.hour()));
        let counted = counted("true");
        let note = format!(
            "INSERT INTO account_hours (account, hour, high, medium, low, churned, mrr)
             SELECT a.id, $1, coalesce(c.high, 0), coalesce(c.medium, 0), coalesce(c.low, 0), coalesce(c.churned, 0),
                 coalesce(c.mrr, '{{}}')
             FROM accounts a LEFT JOIN ({counted}) c ON c.account = a.id
             ON CONFLICT (account, hour) DO NOTHING"
        );
        let (hour, note) = (&hour, note.as_str());
        let flag = |rows: &[deadpool_postgres::tokio_postgres::Row], column| {
            rows.first().is_some_and(|row| row.try_get(column).unwrap_or(false))
        };
        if flag(&self.statement("look whether the hour is noted", IS_NOTED, &[hour]).await?, "noted") {
            return Ok(true);
        }
        self.transaction("note how accounts stand", move |tx| async move {
            if !flag(&tx.query(TURN, &[&COUNTING_LOCK]).await?, "ours") {
                return Ok(false);
            }
            tx.execute(note, &[hour]).await?;
            Ok(true)
        })
        .await
    }

    /// Leaves one row a day of what was noted long ago, and none of what was noted very long ago.
    pub async fn thin_hours(&self, now: Timestamp) -> Result<(), StoreError> {
        let hourly = PgTime(now.plus_millis(-HOURLY_DAYS * DAY_MILLIS));
        let daily = PgTime(now.plus_millis(-DAILY_DAYS * DAY_MILLIS));
        self.statement("thin what was noted of accounts", THIN, &[&hourly, &daily]).await?;
        Ok(())
    }

    /// How an account stands now.
    pub async fn overview_now(&self, account: &AccountId, now: Timestamp) -> Result<Snapshot, StoreError> {
        let rows =
            self.statement_of(account, "sum up an account", &counted("account = $1"), &[&account.as_str()]).await?;
        let Some(row) = rows.first() else { return Ok(Snapshot { at: now, ..Snapshot::default() }) };
        snapshot(&RowReader { table: "customer_states", row }, now)
    }

    /// How an account stood since then, the oldest first.
    pub async fn overview_since(&self, account: &AccountId, since: Timestamp) -> Result<Vec<Snapshot>, StoreError> {
        let rows =
            self.statement_of(account, "load an overview", OVER_TIME, &[&account.as_str(), &PgTime(since)]).await?;
        let rows = rows.iter().map(|row| RowReader { table: "account_hours", row });
        rows.map(|row| snapshot(&row, row.time("hour")?)).collect()
    }

    /// How many alerts were published on which day.
    pub async fn alerts_per_day(&self, account: &AccountId, since: Timestamp) -> Result<Vec<AlertCount>, StoreError> {
        let parameters: [&(dyn ToSql + Sync); 2] = [&account.as_str(), &PgTime(since)];
        let rows = self.statement_of(account, "count alerts", ALERTS, &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "outbox", row };
                let kind = row.optional_text("kind")?.unwrap_or_default();
                let (day, level) = (row.time("day")?, row.level("level")?);
                Ok(AlertCount { day, level, kind, alerts: row.number("alerts")? })
            })
            .collect()
    }
}

fn snapshot(row: &RowReader<'_>, at: Timestamp) -> Result<Snapshot, StoreError> {
    let stored: Json<BTreeMap<String, [i64; 2]>> = row.get("mrr")?;
    let brought = stored.0.into_iter().map(|(code, [all, at_risk])| {
        let currency = Currency::parse(&code).map_err(|_| row.broken("mrr"))?;
        Ok((currency, Brought { all, at_risk }))
    });
    Ok(Snapshot {
        at,
        high: row.number("high")?,
        medium: row.number("medium")?,
        low: row.number("low")?,
        churned: row.number("churned")?,
        mrr: brought.collect::<Result<_, StoreError>>()?,
    })
}

//! What worked: interventions by type, how they ended, and how scores went on.

use std::collections::BTreeMap;

use deadpool_postgres::tokio_postgres::types::ToSql;

use super::{
    Store,
    error::StoreError,
    interventions::InterventionType,
    values::{PgTime, RowReader},
};
use crate::event::{ids::AccountId, money::Currency, time::Timestamp};

/// After how many days a customer's score is looked at again.
pub const CHANGE_AFTER_DAYS: i64 = 14;
/// Below so many cases a share says nothing.
pub const ENOUGH_CASES: u64 = 10;
const DAY_MILLIS: i64 = 86_400_000;

/// Which interventions count.
#[derive(Clone, Copy, Debug)]
pub struct ReportQuery {
    /// Those that began then or later.
    pub since: Option<Timestamp>,
    /// Those that began before.
    pub until: Option<Timestamp>,
    /// The time: scores after it are not known.
    pub now: Timestamp,
}

/// What became of some interventions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// How many began.
    pub opened: u64,
    /// How many go on.
    pub open: u64,
    /// How many ended with which outcome.
    pub saved: u64,
    /// The customer left.
    pub lost: u64,
    /// The customer did not answer.
    pub no_reply: u64,
    /// There was nothing to be done.
    pub not_needed: u64,
    /// The scores when they began.
    pub score_at_start: Spread,
    /// By how much the scores had changed some days later, for those that began long enough ago.
    pub score_change: Spread,
    /// What saved customers bring a month, by currency, in minor units.
    pub mrr_saved: BTreeMap<Currency, i64>,
    /// What lost ones brought.
    pub mrr_lost: BTreeMap<Currency, i64>,
}

impl Tally {
    /// How many ended.
    pub fn closed(&self) -> u64 {
        self.opened - self.open
    }

    /// How many ended in a way that says whether it worked.
    pub fn decided(&self) -> u64 {
        self.saved + self.lost + self.no_reply
    }

    /// The saved among those; none where they are too few.
    pub fn share_saved(&self) -> Option<f64> {
        (self.decided() >= ENOUGH_CASES).then(|| self.saved as f64 / self.decided() as f64)
    }
}

/// Numbers in a few words.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// How many there are.
    pub cases: u64,
    /// Their mean; none of nothing.
    pub mean: Option<f64>,
    /// The one in the middle, or the mean of the two there.
    pub median: Option<f64>,
}

/// What worked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Interventions of all types.
    pub all: Tally,
    /// By type, those of none under `None`.
    pub types: BTreeMap<Option<InterventionType>, Tally>,
}

/// The score some days later is the last one that was stored until then; a customer without any had none but 0.
const REPORT: &str = "
    WITH cases AS (
        SELECT i.type, i.outcome, i.score_at_start, i.mrr_minor, i.mrr_currency AS currency,
            CASE WHEN i.created_at <= $4 THEN coalesce(later.score, 0) - i.score_at_start END AS change
        FROM interventions i
        LEFT JOIN LATERAL (
            SELECT r.score FROM risk_scores r
            WHERE i.created_at <= $4 AND r.account = i.account_id AND r.token = i.token
                AND r.at <= i.created_at + $5 * interval '1 day'
            ORDER BY r.id DESC LIMIT 1
        ) later ON true
        WHERE i.account_id = $1 AND i.created_at >= $2 AND i.created_at < $3
    )
    SELECT grouping(type) = 0 AS of_type, type, grouping(currency) = 0 AS of_currency, currency,
        count(*) AS opened, count(*) FILTER (WHERE outcome IS NULL) AS open,
        count(*) FILTER (WHERE outcome = 'saved') AS saved, count(*) FILTER (WHERE outcome = 'lost') AS lost,
        count(*) FILTER (WHERE outcome = 'no_reply') AS no_reply,
        count(*) FILTER (WHERE outcome = 'not_needed') AS not_needed,
        count(score_at_start) AS starts, avg(score_at_start)::float8 AS start_mean,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY score_at_start) AS start_median,
        count(change) AS changes, avg(change)::float8 AS change_mean,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY change) AS change_median,
        CASE WHEN count(mrr_minor) FILTER (WHERE outcome = 'saved') > 0
            THEN greatest(least(sum(mrr_minor) FILTER (WHERE outcome = 'saved'), 9e18), -9e18)::bigint END AS mrr_saved,
        CASE WHEN count(mrr_minor) FILTER (WHERE outcome = 'lost') > 0
            THEN greatest(least(sum(mrr_minor) FILTER (WHERE outcome = 'lost'), 9e18), -9e18)::bigint END AS mrr_lost
    FROM cases GROUP BY GROUPING SETS ((), (type), (currency), (type, currency))";

impl Store {
    /// What became of an account's interventions.
    pub async fn intervention_report(&self, account: &AccountId, query: &ReportQuery) -> Result<Report, StoreError> {
        let since = query.since.unwrap_or(Timestamp::from_millis(i64::MIN));
        let until = query.until.unwrap_or(Timestamp::from_millis(i64::MAX));
        let old_enough = query.now.plus_millis(-CHANGE_AFTER_DAYS * DAY_MILLIS);
        let days = CHANGE_AFTER_DAYS as f64;
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&account.as_str(), &PgTime(since), &PgTime(until), &PgTime(old_enough), &days];
        let mut report = Report::default();
        for row in &self.statement_of(account, "report on interventions", REPORT, &parameters).await? {
            let row = RowReader { table: "interventions", row };
            let tally = if row.get("of_type")? {
                let kind = row.get::<Option<&str>>("type")?.map(InterventionType::parse).transpose();
                report.types.entry(kind.map_err(|_| row.broken("type"))?).or_default()
            } else {
                &mut report.all
            };
            if row.get("of_currency")? { add_money(tally, &row)? } else { count(tally, &row)? }
        }
        Ok(report)
    }
}

fn count(tally: &mut Tally, row: &RowReader<'_>) -> Result<(), StoreError> {
    tally.opened = row.number("opened")?;
    tally.open = row.number("open")?;
    tally.saved = row.number("saved")?;
    tally.lost = row.number("lost")?;
    tally.no_reply = row.number("no_reply")?;
    tally.not_needed = row.number("not_needed")?;
    tally.score_at_start =
        Spread { cases: row.number("starts")?, mean: row.get("start_mean")?, median: row.get("start_median")? };
    tally.score_change =
        Spread { cases: row.number("changes")?, mean: row.get("change_mean")?, median: row.get("change_median")? };
    Ok(())
}

fn add_money(tally: &mut Tally, row: &RowReader<'_>) -> Result<(), StoreError> {
    let Some(code) = row.get::<Option<&str>>("currency")? else { return Ok(()) };
    let currency = Currency::parse(code).map_err(|_| row.broken("currency"))?;
    if let Some(saved) = row.get("mrr_saved")? {
        tally.mrr_saved.insert(currency, saved);
    }
    if let Some(lost) = row.get("mrr_lost")? {
        tally.mrr_lost.insert(currency, lost);
    }
    Ok(())
}

//! How customers came to their scores, for lists: why, since when, and from where. Asked for a page of customers at a time.

use std::collections::HashMap;

use deadpool_postgres::tokio_postgres::types::{Json, ToSql};

use super::{Store, error::StoreError, values::RowReader};
use crate::{
    engine::checkpoint::Factor,
    event::{ids::AccountId, time::Timestamp},
};

/// How a customer came to its score.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trend {
    /// Why, as of when the score last changed.
    pub factors: Vec<Factor>,
    /// Since when it has its level.
    pub since: Option<Timestamp>,
    /// The score before the last one.
    pub previous: Option<u8>,
}

/// A level began with the first line after the last one of another level.
const TRENDS: &str = "
    SELECT t.token, newest.account, newest.factors, began.at AS since, before.score AS previous
    FROM unnest($2::text[]) AS t (token)
    CROSS JOIN LATERAL (
        SELECT r.id, r.account, r.level, r.status, r.factors FROM risk_scores r
        WHERE r.account = $1 AND r.token = t.token ORDER BY r.id DESC LIMIT 1
    ) newest
    LEFT JOIN LATERAL (
        SELECT min(r.at) AS at FROM risk_scores r
        WHERE r.account = $1 AND r.token = t.token AND r.id > coalesce((
            SELECT max(o.id) FROM risk_scores o
            WHERE o.account = $1 AND o.token = t.token AND (o.level, o.status) <> (newest.level, newest.status)
        ), 0)
    ) began ON true
    LEFT JOIN LATERAL (
        SELECT r.score FROM risk_scores r WHERE r.account = $1 AND r.token = t.token AND r.id < newest.id
        ORDER BY r.id DESC LIMIT 1
    ) before ON true";

impl Store {
    /// How these customers came to their scores, by their tokens; who never had another score than 0 is left out.
    pub async fn trends(&self, account: &AccountId, tokens: &[&str]) -> Result<HashMap<String, Trend>, StoreError> {
        if tokens.is_empty() {
            return Ok(HashMap::new());
        }
        let parameters: [&(dyn ToSql + Sync); 2] = [&account.as_str(), &tokens];
        let rows = self.statement_of(account, "load trends", TRENDS, &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "risk_scores", row };
                let previous: Option<i16> = row.get("previous")?;
                let previous =
                    previous.map(|score| u8::try_from(score).map_err(|_| row.broken("previous"))).transpose()?;
                let factors = row.get::<Json<Vec<Factor>>>("factors")?.0;
                Ok((row.text("token")?, Trend { factors, since: row.optional_time("since")?, previous }))
            })
            .collect()
    }
}

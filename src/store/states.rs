//! Customers' states as they stand in the tables: what the pipeline loads on a miss, when something is due, and when it
//! sweeps a whole partition.

use deadpool_postgres::tokio_postgres::Row;

use super::{
    Store,
    error::StoreError,
    leases::smallints,
    partitioning::Layout,
    values::{PgTime, RowReader, row_limit},
};
use crate::{
    engine::checkpoint::{Factor, Level, Status},
    event::{
        ids::{AccountId, CustomerId, PartitionId},
        money::Money,
        time::Timestamp,
    },
};

/// A customer's state as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedState {
    /// The partition it was stored under.
    pub partition: PartitionId,
    /// The tenant.
    pub account: AccountId,
    /// The customer's subject token.
    pub token: Box<str>,
    /// The customer's full id.
    pub customer: CustomerId,
    /// The state, encoded.
    pub snapshot: Vec<u8>,
    /// The score at the last evaluation.
    pub score: u8,
    /// The level at the last evaluation.
    pub level: Level,
    /// The status at the last evaluation.
    pub status: Status,
    /// What the customer brings a month.
    pub mrr: Option<Money>,
    /// When it must be evaluated again if nothing happens.
    pub due_at: Option<Timestamp>,
    /// When the row was written.
    pub updated_at: Timestamp,
}

/// A customer that must be evaluated at an instant; also the place to go on after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRow {
    /// The partition.
    pub partition: PartitionId,
    /// The tenant.
    pub account: AccountId,
    /// The customer's subject token.
    pub token: Box<str>,
    /// When.
    pub due_at: Timestamp,
}

/// A score as it was last written for a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentScore {
    /// The partition.
    pub partition: PartitionId,
    /// The tenant.
    pub account: AccountId,
    /// The customer's subject token.
    pub token: Box<str>,
    /// The customer's full id.
    pub customer: CustomerId,
    /// As of when it holds.
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

pub(super) const COLUMNS: &str = "s.partition, s.account, s.token, s.customer, s.snapshot, s.score, s.level, s.status, s.mrr_minor, \
                       s.mrr_currency, s.due_at, s.updated_at";
const PRUNE_SCORES: &str = "DELETE FROM risk_scores WHERE id IN (
        SELECT id FROM risk_scores WHERE at < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING id";
/// Each partition's rows come from its own stretch of the index, already in order: a page costs what it holds.
const LOAD_DUE: &str = "
    SELECT d.partition, d.account, d.token, d.due_at FROM unnest($1::smallint[]) AS p (id)
    CROSS JOIN LATERAL (
        SELECT s.partition, s.account, s.token, s.due_at, s.due_hour FROM customer_states s
        WHERE s.partition = p.id AND s.due_hour >= $3 AND s.due_hour <= $2 AND (s.due_hour, s.account, s.token) > ($3, $4, $5)
        ORDER BY s.due_hour, s.account, s.token LIMIT $6
    ) d
    ORDER BY d.due_hour, d.account, d.token LIMIT $6";
const RECENT_SCORES: &str = "
    SELECT DISTINCT ON (account, token) partition, account, token, customer, at, score, level, status, factors
    FROM risk_scores WHERE at >= $2 AND partition = ANY ($1::smallint[]) AND (account, token) > ($3, $4)
    ORDER BY account, token, id DESC LIMIT $5";

const LAST_SCORES: &str =
    "SELECT id, at, account, token FROM risk_scores WHERE partition = ANY ($1::smallint[]) AND id < $2
    ORDER BY id DESC LIMIT $3";
/// The last score of a partition is looked for among so many at first, and then among so many at a time.
const LAST_AMONG: [usize; 2] = [8, 1_000];

impl Store {
    /// The states of these customers, given as account and token; who has none is left out.
    pub async fn load_states(&self, keys: &[(&str, &str)]) -> Result<Vec<LoadedState>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (accounts, tokens): (Vec<&str>, Vec<&str>) = keys.iter().copied().unzip();
        let sql = format!(
            "SELECT {COLUMNS} FROM unnest($1::text[], $2::text[]) AS u (account, token)
             JOIN customer_states s ON s.account = u.account AND s.token = u.token"
        );
        read_states(&self.statement("load states", &sql, &[&accounts, &tokens]).await?)
    }

    /// One customer's state.
    pub async fn state_of(&self, account: &AccountId, token: &str) -> Result<Option<LoadedState>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM customer_states s WHERE s.account = $1 AND s.token = $2");
        Ok(read_states(&self.statement_of(account, "load a state", &sql, &[&account.as_str(), &token]).await?)?.pop())
    }

    /// Who must be evaluated up to and in the hour `until_hour`, by hour, account and token; goes on after `after`.
    pub async fn load_due(
        &self,
        partitions: &[PartitionId],
        until_hour: i64,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        let (hour, account, token) = match after {
            Some(row) => (row.due_at.hour(), row.account.as_str(), &*row.token),
            None => (i64::MIN, "", ""),
        };
        let ids = smallints(partitions);
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&ids, &until_hour, &hour, &account, &token, &row_limit(limit)];
        let rows = self.statement("load who is due", LOAD_DUE, &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "customer_states", row };
                Ok(DueRow {
                    partition: row.partition("partition")?,
                    account: row.account("account")?,
                    token: row.token("token")?,
                    due_at: row.time("due_at")?,
                })
            })
            .collect()
    }

    /// The states under these partitions' labels by account and token; goes on after `after`.
    pub async fn load_page(
        &self,
        partitions: &[PartitionId],
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<LoadedState>, StoreError> {
        let (account, token) = after.unwrap_or_default();
        let sql = format!(
            "SELECT {COLUMNS} FROM unnest($1::smallint[]) AS p (id)
             CROSS JOIN LATERAL (
                 SELECT * FROM customer_states s WHERE s.partition = p.id AND (s.account, s.token) > ($2, $3)
                 ORDER BY s.account, s.token LIMIT $4
             ) s
             ORDER BY s.account, s.token LIMIT $4"
        );
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&smallints(partitions), &account, &token, &row_limit(limit)];
        read_states(&self.statement("load a page of states", &sql, &parameters).await?)
    }

    /// Forgets up to `limit` lines of history from before an instant; says how many.
    pub async fn prune_scores(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Ok(self.statement("prune the history", PRUNE_SCORES, &[&PgTime(before), &row_limit(limit)]).await?.len())
    }

    /// As of when the score holds that was written last of a partition's customers, under whatever number; `None` if there
    /// never was one.
    pub async fn last_score_at(&self, layout: Layout, partition: PartitionId) -> Result<Option<Timestamp>, StoreError> {
        let ids = smallints(&layout.labels_ever(partition));
        let (mut before, mut most) = (i64::MAX, LAST_AMONG[0]);
        loop {
            let rows =
                self.statement("look up the last score", LAST_SCORES, &[&ids, &before, &row_limit(most)]).await?;
            for row in &rows {
                let row = RowReader { table: "risk_scores", row };
                if ids.len() == 1 || layout.of(row.get("account")?, row.get("token")?) == partition {
                    return Ok(Some(row.time("at")?));
                }
                before = row.get("id")?;
            }
            if rows.len() < most {
                return Ok(None);
            }
            most = LAST_AMONG[1];
        }
    }

    /// A page of the last scores of all customers of these partitions whose score changed since an instant, by account and
    /// token; the next page begins after the last one.
    pub async fn recent_scores(
        &self,
        partitions: &[PartitionId],
        since: Timestamp,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<RecentScore>, StoreError> {
        let (ids, since, (account, token), limit) =
            (smallints(partitions), PgTime(since), after.unwrap_or_default(), row_limit(limit));
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [&ids, &since, &account, &token, &limit];
        let rows = self.statement("load recent scores", RECENT_SCORES, &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "risk_scores", row };
                Ok(RecentScore {
                    partition: row.partition("partition")?,
                    account: row.account("account")?,
                    token: row.token("token")?,
                    customer: row.customer("customer")?,
                    at: row.time("at")?,
                    score: row.score("score")?,
                    level: row.level("level")?,
                    status: row.status("status")?,
                    factors: row.get::<tokio_postgres::types::Json<Vec<Factor>>>("factors")?.0,
                })
            })
            .collect()
    }
}

fn read_states(rows: &[Row]) -> Result<Vec<LoadedState>, StoreError> {
    rows.iter().map(|row| read_state(&RowReader { table: "customer_states", row })).collect()
}

pub(super) fn read_state(row: &RowReader<'_>) -> Result<LoadedState, StoreError> {
    Ok(LoadedState {
        partition: row.partition("partition")?,
        account: row.account("account")?,
        token: row.token("token")?,
        customer: row.customer("customer")?,
        snapshot: row.get("snapshot")?,
        score: row.score("score")?,
        level: row.level("level")?,
        status: row.status("status")?,
        mrr: row.money("mrr_minor", "mrr_currency")?,
        due_at: row.optional_time("due_at")?,
        updated_at: row.time("updated_at")?,
    })
}

//! What is deleted of an erased customer, table by table, and the current scores that a swept bucket is filled with.

use std::sync::Arc;

use super::{
    Store,
    erasure::{Erased, ErasureJob},
    error::StoreError,
    stripe::PendingDispute,
    suppression::suppress,
    tx::Tx,
    values::{PgText, RowReader, row_limit},
};
use crate::{
    engine::checkpoint::{Level, Status},
    event::{ids::AccountId, time::Timestamp},
};

/// A customer's place in the bucket: what was last put there, if anything ever was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentScore {
    /// The tenant.
    pub account: AccountId,
    /// The customer's subject token.
    pub token: Box<str>,
    /// The last score; a customer whose score never changed has none.
    pub score: Option<(u8, Level, Status, Timestamp)>,
}

/// Held by copies into the archive together, and by an erasure alone: no copy that began without knowing of a suppression
/// ends after the customer's events were deleted. Any constant does, as long as it never changes.
const ARCHIVE_LOCK: i64 = 0x6368_7572_6e64_0002;
const COPYING: &str = "SELECT pg_advisory_xact_lock_shared($1)";
const DELETING: &str = "SELECT pg_advisory_xact_lock($1)";

const CHARGES: &str = "SELECT charge FROM stripe_charges WHERE account = $1 AND stripe_customer = ANY ($2::text[])";
const PENDING: &str =
    "SELECT DISTINCT ON (event_id) event_id, body, at FROM stripe_pending WHERE account = $1 ORDER BY event_id";

/// By `$2`, the customers' tokens.
const BY_TOKEN: [&str; 7] = [
    "DELETE FROM deliveries WHERE account = $1 AND token = ANY ($2::text[])",
    "DELETE FROM outbox WHERE account = $1 AND token = ANY ($2::text[])",
    "DELETE FROM customer_states WHERE account = $1 AND token = ANY ($2::text[])",
    "DELETE FROM risk_scores WHERE account = $1 AND token = ANY ($2::text[])",
    "DELETE FROM acknowledgements WHERE account = $1 AND token = ANY ($2::text[])",
    "DELETE FROM interventions WHERE account_id = $1 AND token = ANY ($2::text[])",
    "DELETE FROM events WHERE account = $1 AND token = ANY ($2::text[])",
];

/// By `$2`, the customers' ids.
const BY_ID: [&str; 3] = [
    "DELETE FROM customers WHERE account_id = $1 AND external_id = ANY ($2::text[])",
    "DELETE FROM stripe_links WHERE account = $1 AND (customer = ANY ($2::text[]) OR stripe_customer = ANY ($2::text[]))",
    "DELETE FROM stripe_charges WHERE account = $1 AND stripe_customer = ANY ($2::text[])",
];

const FORGET_PENDING: &str =
    "DELETE FROM stripe_pending WHERE account = $1 AND (event_id = ANY ($2::text[]) OR charge = ANY ($3::text[]))";
const CURRENT: &str = "
    SELECT s.account, s.token, r.score, r.level, r.status, r.at FROM (
        SELECT account, token FROM customer_states WHERE (account, token) > ($1, $2) ORDER BY account, token LIMIT $3
    ) s
    LEFT JOIN LATERAL (
        SELECT score, level, status, at FROM risk_scores r WHERE r.account = s.account AND r.token = s.token
        ORDER BY r.id DESC LIMIT 1
    ) r ON true
    ORDER BY s.account, s.token";

impl Store {
    /// The charges and payment intents of the customers that an erasure is about, as far as they are known.
    pub async fn charges_of(&self, job: &ErasureJob) -> Result<Vec<String>, StoreError> {
        let ids = ids(job);
        let rows = self.statement("look up charges", CHARGES, &[&job.account.as_str(), &ids]).await?;
        rows.iter().map(|row| RowReader { table: "stripe_charges", row }.text("charge")).collect()
    }

    /// All disputes of an account that wait for their charges.
    pub async fn all_pending(&self, account: &AccountId) -> Result<Vec<PendingDispute>, StoreError> {
        let rows = self.statement_of(account, "load waiting disputes", PENDING, &[&account.as_str()]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "stripe_pending", row };
                Ok(PendingDispute { event_id: row.text("event_id")?, body: row.get("body")?, at: row.time("at")? })
            })
            .collect()
    }

    /// Deletes every row of the customers that an erasure is about, the given waiting disputes too, and suppresses their
    /// charges; says how many rows there were.
    pub async fn erase_rows(
        &self,
        job: &ErasureJob,
        charges: &[String],
        disputes: &[&str],
    ) -> Result<Erased, StoreError> {
        let key = self.suppression_key().await?;
        let account = job.account.as_str();
        let suppressed: Vec<_> = charges.iter().map(|charge| key.charge(account, charge)).collect();
        let tokens: Vec<&str> = job.customers.iter().map(|customer| &*customer.token).collect();
        let disputes: Vec<PgText<'_>> = disputes.iter().map(|id| PgText(id)).collect();
        let charges: Vec<PgText<'_>> = charges.iter().map(|charge| PgText(charge)).collect();
        let (ids, tokens, disputes, charges, suppressed) = (&ids(job), &tokens, &disputes, &charges, &suppressed);
        let delete = move |tx: Arc<Tx>| async move {
            tx.query(DELETING, &[&ARCHIVE_LOCK]).await?;
            suppress(&tx, &job.account, suppressed).await?;
            let mut rows = tx.execute(FORGET_PENDING, &[&account, disputes, charges]).await?;
            for sql in BY_TOKEN {
                rows += tx.execute(sql, &[&account, tokens]).await?;
            }
            for sql in BY_ID {
                rows += tx.execute(sql, &[&account, ids]).await?;
            }
            Ok(rows)
        };
        let rows = self.transaction("erase a customer's rows", delete).await?;
        Ok(Erased { rows, ..Erased::default() })
    }

    /// Customers with their last scores by account and token; goes on after `after`.
    pub async fn current_scores(
        &self,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<CurrentScore>, StoreError> {
        let (account, token) = after.unwrap_or_default();
        let rows = self.statement("load current scores", CURRENT, &[&account, &token, &row_limit(limit)]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "risk_scores", row };
                let score = match row.optional_time("at")? {
                    Some(at) => Some((row.score("score")?, row.level("level")?, row.status("status")?, at)),
                    None => None,
                };
                Ok(CurrentScore { account: row.account("account")?, token: row.token("token")?, score })
            })
            .collect()
    }
}

/// Begins a copy into the archive; see [`ARCHIVE_LOCK`].
pub(super) async fn begin_copy(tx: &Tx) -> Result<(), StoreError> {
    tx.query(COPYING, &[&ARCHIVE_LOCK]).await?;
    Ok(())
}

fn ids(job: &ErasureJob) -> Vec<PgText<'_>> {
    job.customers.iter().map(|customer| PgText(customer.customer.as_str())).collect()
}

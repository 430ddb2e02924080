//! Which of our customers a Stripe customer is, which Stripe customer a charge belongs to, and the disputes that wait to
//! learn it.
//!
//! Links are written by checkpoints (the newest wins, in whatever order they come); charges and waiting disputes by the
//! normalizer of webhooks.

use std::collections::HashMap;

use super::{
    Store,
    error::StoreError,
    values::{PgText, PgTime, RowReader},
};
use crate::event::{
    ids::{AccountId, CustomerId},
    subject::encode,
    time::Timestamp,
};

/// A dispute that names only charges nobody has heard of yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDispute {
    /// Stripe's id of the event, `evt_…`.
    pub event_id: String,
    /// The webhook's body as it came.
    pub body: Vec<u8>,
    /// When it came.
    pub at: Timestamp,
}

const RESOLVE: &str = "SELECT stripe_customer, customer FROM stripe_links
    WHERE account = $1 AND stripe_customer = ANY ($2::text[])";
const REMEMBER: &str = "
    INSERT INTO stripe_charges AS c (account, charge, stripe_customer, at)
    SELECT DISTINCT ON (u.charge COLLATE \"C\") $1, u.charge, u.stripe_customer, u.at
    FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::bytea[]) AS u (charge, stripe_customer, at, hash)
    WHERE NOT EXISTS (SELECT FROM suppressions x WHERE x.account = $1 AND x.hash = u.hash)
    ORDER BY u.charge COLLATE \"C\", u.at DESC, u.stripe_customer COLLATE \"C\" DESC
    ON CONFLICT (account, charge) DO UPDATE SET stripe_customer = excluded.stripe_customer, at = excluded.at
    WHERE (excluded.at, excluded.stripe_customer) > (c.at, c.stripe_customer)";
const OWNER: &str = "SELECT stripe_customer FROM stripe_charges
    WHERE account = $1 AND charge = ANY ($2::text[]) ORDER BY at DESC, charge LIMIT 1";
const PARK: &str = "
    INSERT INTO stripe_pending (account, charge, event_id, body, at)
    SELECT $1, charge, $3, $4, $5 FROM unnest($2::text[]) AS charge
    ON CONFLICT (account, charge, event_id) DO NOTHING";
const PENDING_OF: &str = "
    SELECT DISTINCT ON (event_id) event_id, body, at FROM stripe_pending
    WHERE account = $1 AND charge = ANY ($2::text[]) ORDER BY event_id";
const TAKE: &str = "
    WITH taken AS (
        DELETE FROM stripe_pending WHERE account = $1 AND event_id IN (
            SELECT event_id FROM stripe_pending WHERE account = $1 AND charge = ANY ($2::text[]))
        RETURNING event_id, body, at
    )
    SELECT DISTINCT ON (event_id) event_id, body, at FROM taken ORDER BY event_id";
const FORGET: &str = "DELETE FROM stripe_pending WHERE account = $1 AND event_id = ANY ($2::text[])";
const PRUNE: &str = "
    WITH charges AS (DELETE FROM stripe_charges WHERE at < $1), pending AS (DELETE FROM stripe_pending WHERE at < $1)
    SELECT 1";

impl Store {
    /// Which of our customers these Stripe customers are linked to; unlinked ones are left out.
    pub async fn resolve_links(
        &self,
        account: &AccountId,
        stripe_customers: &[&str],
    ) -> Result<HashMap<String, CustomerId>, StoreError> {
        let asked = texts(stripe_customers);
        let rows =
            self.statement_of(account, "resolve Stripe customers", RESOLVE, &[&account.as_str(), &asked]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "stripe_links", row };
                Ok((row.text("stripe_customer")?, row.customer("customer")?))
            })
            .collect()
    }

    /// Remembers which Stripe customers charges and payment intents belong to, those of erased ones excepted; of two claims
    /// the later counts.
    pub async fn remember_charges(
        &self,
        account: &AccountId,
        charges: &[(&str, &str, Timestamp)],
    ) -> Result<(), StoreError> {
        if charges.is_empty() {
            return Ok(());
        }
        let ids: Vec<PgText<'_>> = charges.iter().map(|(charge, _, _)| PgText(charge)).collect();
        let customers: Vec<PgText<'_>> = charges.iter().map(|(_, customer, _)| PgText(customer)).collect();
        let times: Vec<PgTime> = charges.iter().map(|(_, _, at)| PgTime(*at)).collect();
        let key = self.suppression_key().await?;
        let token_of = |id: &str| CustomerId::parse(id).map(|id| encode(&id));
        let hash = |id: &str| token_of(id).map(|token| key.customer(account.as_str(), token.as_str()));
        let hashes: Vec<Option<Vec<u8>>> = charges.iter().map(|(_, customer, _)| hash(customer).ok()).collect();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&account.as_str(), &ids, &customers, &times, &hashes];
        self.statement_of(account, "remember charges", REMEMBER, &parameters).await?;
        Ok(())
    }

    /// The Stripe customer that the first known of these charges belongs to.
    pub async fn charge_owner(&self, account: &AccountId, charges: &[&str]) -> Result<Option<String>, StoreError> {
        let rows = self.statement_of(account, "look up a charge", OWNER, &[&account.as_str(), &texts(charges)]).await?;
        rows.first().map(|row| RowReader { table: "stripe_charges", row }.text("stripe_customer")).transpose()
    }

    /// Keeps a dispute until one of its charges is known.
    pub async fn park_pending(
        &self,
        account: &AccountId,
        charges: &[&str],
        dispute: &PendingDispute,
    ) -> Result<(), StoreError> {
        let body = dispute.body.as_slice();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&account.as_str(), &texts(charges), &PgText(&dispute.event_id), &body, &PgTime(dispute.at)];
        self.statement_of(account, "keep a dispute", PARK, &parameters).await?;
        Ok(())
    }

    /// The disputes that wait for any of these charges; they stay until [`forget_pending`](Self::forget_pending), so
    /// that nothing is lost between reading and publishing.
    pub async fn pending_of(&self, account: &AccountId, charges: &[&str]) -> Result<Vec<PendingDispute>, StoreError> {
        self.disputes("load waiting disputes", PENDING_OF, account, charges).await
    }

    /// Forgets disputes that were published.
    pub async fn forget_pending(&self, account: &AccountId, event_ids: &[&str]) -> Result<(), StoreError> {
        self.statement_of(account, "forget disputes", FORGET, &[&account.as_str(), &texts(event_ids)]).await?;
        Ok(())
    }

    /// Takes the disputes that wait for any of these charges out of the table. Where what follows can fail, use
    /// [`pending_of`](Self::pending_of) and [`forget_pending`](Self::forget_pending) instead.
    pub async fn take_pending(&self, account: &AccountId, charges: &[&str]) -> Result<Vec<PendingDispute>, StoreError> {
        self.disputes("take waiting disputes", TAKE, account, charges).await
    }

    /// Forgets charges and disputes from before an instant.
    pub async fn prune_charges(&self, before: Timestamp) -> Result<(), StoreError> {
        self.statement("prune the charges", PRUNE, &[&PgTime(before)]).await?;
        Ok(())
    }

    async fn disputes(
        &self,
        doing: &'static str,
        sql: &str,
        account: &AccountId,
        charges: &[&str],
    ) -> Result<Vec<PendingDispute>, StoreError> {
        let rows = self.statement_of(account, doing, sql, &[&account.as_str(), &texts(charges)]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "stripe_pending", row };
                Ok(PendingDispute { event_id: row.text("event_id")?, body: row.get("body")?, at: row.time("at")? })
            })
            .collect()
    }
}

fn texts<'a>(texts: &[&'a str]) -> Vec<PgText<'a>> {
    texts.iter().map(|text| PgText(text)).collect()
}

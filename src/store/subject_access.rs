//! What else is stored of a customer than its state, scores, events, alerts and interventions: for whoever asks to see all.

use deadpool_postgres::tokio_postgres::types::ToSql;

use super::{
    Store,
    error::StoreError,
    values::{PgText, RowReader, bigint, row_limit},
};
use crate::event::{
    ids::{AccountId, CustomerId},
    time::Timestamp,
};

/// A Stripe customer that a customer is linked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLink {
    /// `cus_…`.
    pub stripe_customer: String,
    /// When it was said.
    pub at: Timestamp,
}

/// A charge or payment intent of a Stripe customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCharge {
    /// Stripe's id of it.
    pub charge: String,
    /// When it was heard of.
    pub at: Timestamp,
}

/// How a message about a customer's alert went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Grows with time; the place to go on before.
    pub id: u64,
    /// The alert.
    pub alert_id: String,
    /// `slack`, `email` or `webhook`.
    pub channel: String,
    /// To whom it went.
    pub target: String,
    /// `pending`, `delivered` or `given_up`.
    pub state: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it was to be sent.
    pub created_at: Timestamp,
    /// When it arrived.
    pub delivered_at: Option<Timestamp>,
}

const LINKS: &str = "SELECT account, stripe_customer, at FROM stripe_links
    WHERE account = $1 AND customer = $2 ORDER BY stripe_customer LIMIT 1000";
const CHARGES: &str = "SELECT account, charge, at FROM stripe_charges
    WHERE account = $1 AND stripe_customer = $2 AND charge > $3 ORDER BY charge LIMIT $4";
/// An alert's id is the last part of its message's id, `<account>:alert:<id>`.
const DELIVERIES: &str = "
    SELECT d.id, d.account, d.alert_id, d.channel, d.target, d.state, d.attempts, d.created_at, d.delivered_at
    FROM deliveries d WHERE d.account = $1 AND d.id < $3 AND d.alert_id IN (
        SELECT split_part(o.message_id, ':alert:', 2) FROM outbox o
        WHERE o.account = $1 AND o.token = $2 AND o.kind <> 'event')
    ORDER BY d.id DESC LIMIT $4";

impl Store {
    /// The Stripe customers that a customer is linked to.
    pub async fn links_of(&self, account: &AccountId, customer: &CustomerId) -> Result<Vec<StoredLink>, StoreError> {
        let parameters: [&(dyn ToSql + Sync); 2] = [&account.as_str(), &PgText(customer.as_str())];
        let rows = self.statement("load links", LINKS, &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "stripe_links", row };
                Ok(StoredLink { stripe_customer: row.text("stripe_customer")?, at: row.time("at")? })
            })
            .collect()
    }

    /// The charges of a Stripe customer by their ids; goes on after one.
    pub async fn stripe_charges_of(
        &self,
        account: &AccountId,
        stripe_customer: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredCharge>, StoreError> {
        let after = PgText(after.unwrap_or_default());
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&account.as_str(), &PgText(stripe_customer), &after, &row_limit(limit)];
        let rows = self.statement("load charges", CHARGES, &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "stripe_charges", row };
                Ok(StoredCharge { charge: row.text("charge")?, at: row.time("at")? })
            })
            .collect()
    }

    /// How messages about a customer's alerts went, the newest first; goes on before one.
    pub async fn deliveries_of(
        &self,
        account: &AccountId,
        token: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        let before = before.map_or(i64::MAX, bigint);
        let parameters: [&(dyn ToSql + Sync); 4] = [&account.as_str(), &token, &before, &row_limit(limit)];
        let rows = self.statement("load deliveries", DELIVERIES, &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "deliveries", row };
                Ok(StoredDelivery {
                    id: row.number("id")?,
                    alert_id: row.text("alert_id")?,
                    channel: row.text("channel")?,
                    target: row.text("target")?,
                    state: row.text("state")?,
                    attempts: row.get("attempts")?,
                    created_at: row.time("created_at")?,
                    delivered_at: row.optional_time("delivered_at")?,
                })
            })
            .collect()
    }
}

//! What else is stored of a customer than its state, scores, events, alerts, deliveries and interventions: for whoever asks to see all.

use deadpool_postgres::tokio_postgres::types::ToSql;

use super::{
    Store,
    error::StoreError,
    values::{PgText, RowReader, row_limit},
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

const LINKS: &str = "SELECT account, stripe_customer, at FROM stripe_links
    WHERE account = $1 AND customer = $2 ORDER BY stripe_customer LIMIT 1000";
const CHARGES: &str = "SELECT account, charge, at FROM stripe_charges
    WHERE account = $1 AND stripe_customer = $2 AND charge > $3 ORDER BY charge LIMIT $4";

impl Store {
    /// The Stripe customers that a customer is linked to.
    pub async fn links_of(&self, account: &AccountId, customer: &CustomerId) -> Result<Vec<StoredLink>, StoreError> {
        let parameters: [&(dyn ToSql + Sync); 2] = [&account.as_str(), &PgText(customer.as_str())];
        let rows = self.statement_of(account, "load links", LINKS, &parameters).await?;
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
        let rows = self.statement_of(account, "load charges", CHARGES, &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "stripe_charges", row };
                Ok(StoredCharge { charge: row.text("charge")?, at: row.time("at")? })
            })
            .collect()
    }
}

//! Tenants, and the secrets that Stripe signs their webhooks with.

use std::{collections::HashSet, fmt};

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{
    Store,
    error::StoreError,
    keys,
    values::{PgText, RowReader},
};
use crate::event::{ids::AccountId, time::Timestamp};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its short name.
    pub id: AccountId,
    /// What people call it.
    pub name: String,
    /// Since when it is there.
    pub created_at: Timestamp,
}

/// A secret that Stripe signs an account's webhooks with. It must be known in clear: an HMAC cannot be checked against
/// a hash.
#[derive(Clone)]
pub struct StripeSecret {
    /// Names it when it is to be revoked.
    pub id: Uuid,
    /// The account.
    pub account: AccountId,
    /// `whsec_…`.
    pub secret: SecretString,
    /// What people call it.
    pub label: String,
    /// Since when it counts.
    pub created_at: Timestamp,
}

impl fmt::Debug for StripeSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StripeSecret")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

const ADD_ACCOUNT: &str = "INSERT INTO accounts (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
const LIST_ACCOUNTS: &str = "SELECT id, name, created_at FROM accounts ORDER BY id";
const ADD_STRIPE_SECRET: &str = "INSERT INTO stripe_secrets (id, account, secret, label) VALUES ($1, $2, $3, $4)
    ON CONFLICT (account, secret) DO UPDATE SET revoked_at = NULL, label = excluded.label
    RETURNING id, account, secret, label, created_at";
const LIST_STRIPE_SECRETS: &str = "SELECT id, account, secret, label, created_at FROM stripe_secrets
    WHERE revoked_at IS NULL ORDER BY account, created_at, id";
const REVOKE_STRIPE_SECRET: &str =
    "UPDATE stripe_secrets SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING id";

impl Store {
    /// Adds a tenant; an error when it exists.
    pub async fn add_account(&self, account: &AccountId, name: &str) -> Result<(), StoreError> {
        let added = self
            .transaction_of(account, "add an account", move |tx| async move {
                tx.execute(ADD_ACCOUNT, &[&account.as_str(), &PgText(name)]).await
            })
            .await?;
        if added == 0 { Err(StoreError::AccountExists(account.clone())) } else { Ok(()) }
    }

    /// All tenants by name.
    pub async fn list_accounts(&self) -> Result<Vec<Account>, StoreError> {
        let rows = self.statement("list the accounts", LIST_ACCOUNTS, &[]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "accounts", row };
                Ok(Account { id: row.account("id")?, name: row.text("name")?, created_at: row.time("created_at")? })
            })
            .collect()
    }

    /// The names of all tenants: events of others go to the dead letters.
    pub async fn known_accounts(&self) -> Result<HashSet<AccountId>, StoreError> {
        Ok(self.list_accounts().await?.into_iter().map(|account| account.id).collect())
    }

    /// Adds a signing secret of an account: the one Stripe shows, or a new random one for trying things out. Adding a
    /// known one again makes it count again.
    pub async fn add_stripe_secret(
        &self,
        account: &AccountId,
        secret: Option<SecretString>,
        label: &str,
    ) -> Result<StripeSecret, StoreError> {
        let secret = secret.unwrap_or_else(|| SecretString::from(format!("whsec_{}", keys::random_text())));
        let (id, secret) = (Uuid::new_v4(), secret.expose_secret());
        let rows = self
            .transaction_of(account, "add a Stripe signing secret", move |tx| async move {
                keys::lock_account(&tx, account).await?;
                tx.query(ADD_STRIPE_SECRET, &[&id, &account.as_str(), &secret, &PgText(label)]).await
            })
            .await?;
        rows.first().map_or_else(|| Err(StoreError::UnknownAccount(account.clone())), read_secret)
    }

    /// All signing secrets that count, of all accounts: several of one account are tried in turn.
    pub async fn list_stripe_secrets(&self) -> Result<Vec<StripeSecret>, StoreError> {
        let rows = self.statement("list the Stripe signing secrets", LIST_STRIPE_SECRETS, &[]).await?;
        rows.iter().map(read_secret).collect()
    }

    /// Makes a signing secret count no longer; false when no such secret counted.
    pub async fn revoke_stripe_secret(&self, id: Uuid) -> Result<bool, StoreError> {
        let rows = self.statement("revoke a Stripe signing secret", REVOKE_STRIPE_SECRET, &[&id]).await?;
        Ok(!rows.is_empty())
    }
}

fn read_secret(row: &deadpool_postgres::tokio_postgres::Row) -> Result<StripeSecret, StoreError> {
    let row = RowReader { table: "stripe_secrets", row };
    Ok(StripeSecret {
        id: row.get("id")?,
        account: row.account("account")?,
        secret: SecretString::from(row.get::<String>("secret")?),
        label: row.text("label")?,
        created_at: row.time("created_at")?,
    })
}

//! Suppression: who was erased and must not be stored again, kept as keyed hashes.
//!
//! A hash is the HMAC-SHA256 of an account with a customer's token, or with a charge of the customer's, under a key that
//! the database made for itself. It tells whether an id that is at hand was erased, and no id.

use std::{collections::HashSet, fmt};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{
    Store,
    error::StoreError,
    states::{COLUMNS, LoadedState, read_state},
    tx::Tx,
    values::{PgText, RowReader},
};
use crate::event::ids::AccountId;

/// What stands for an id among the suppressions.
pub(super) type SuppressionHash = Vec<u8>;

/// The key of all hashes of a database.
pub(super) struct SuppressionKey(Hmac<Sha256>);

/// What is known of customers that are not in memory.
#[derive(Debug, Default)]
pub struct Known {
    /// Those that are stored and may be.
    pub states: Vec<LoadedState>,
    /// `<account>.<token>` of those that were erased, or are being erased.
    pub suppressed: HashSet<Box<str>>,
}

const KEY: &str = "SELECT key FROM suppression_key";
const ANY: &str =
    "SELECT EXISTS (SELECT FROM suppressions WHERE account = $1 AND hash = ANY ($2::bytea[])) AS suppressed";
const AMONG: &str = "
    SELECT u.place FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS u (account, hash, place)
    JOIN suppressions x ON x.account = u.account AND x.hash = u.hash";
const FORGET_WAITING: &str = "DELETE FROM stripe_pending WHERE account = $1 AND charge = ANY ($2::text[])";
const SUPPRESS: &str = "
    INSERT INTO suppressions (account, hash) SELECT $1, hash FROM unnest($2::bytea[]) AS hash
    ORDER BY hash ON CONFLICT (account, hash) DO NOTHING";

impl fmt::Debug for SuppressionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SuppressionKey")
    }
}

impl SuppressionKey {
    /// What stands for a customer.
    pub(super) fn customer(&self, account: &str, token: &str) -> SuppressionHash {
        self.hash("customer", account, token)
    }

    /// What stands for a charge or payment intent.
    pub(super) fn charge(&self, account: &str, charge: &str) -> SuppressionHash {
        self.hash("charge", account, charge)
    }

    fn hash(&self, kind: &str, account: &str, id: &str) -> SuppressionHash {
        let mut mac = self.0.clone();
        for part in [kind, account, id] {
            mac.update(part.as_bytes());
            // No account and no token holds it, so no two ids make one text.
            mac.update(&[0]);
        }
        mac.finalize().into_bytes().to_vec()
    }
}

impl Store {
    /// What is known of customers that are not in memory, given as account and token: one look, so that nobody who was
    /// erased is taken for new.
    pub async fn load_customers(&self, keys: &[(&str, &str)]) -> Result<Known, StoreError> {
        if keys.is_empty() {
            return Ok(Known::default());
        }
        let key = self.suppression_key().await?;
        let hashes: Vec<SuppressionHash> = keys.iter().map(|(account, token)| key.customer(account, token)).collect();
        let (accounts, tokens): (Vec<&str>, Vec<&str>) = keys.iter().copied().unzip();
        let sql = format!(
            "SELECT {COLUMNS}, x.hash IS NOT NULL AS suppressed, u.account AS asked_account, u.token AS asked_token
             FROM unnest($1::text[], $2::text[], $3::bytea[]) AS u (account, token, hash)
             LEFT JOIN customer_states s ON s.account = u.account AND s.token = u.token
             LEFT JOIN suppressions x ON x.account = u.account AND x.hash = u.hash
             WHERE s.account IS NOT NULL OR x.hash IS NOT NULL"
        );
        let mut known = Known::default();
        for row in &self.statement("load states", &sql, &[&accounts, &tokens, &hashes]).await? {
            let row = RowReader { table: "customer_states", row };
            if row.get("suppressed")? {
                let (account, token): (&str, &str) = (row.get("asked_account")?, row.get("asked_token")?);
                known.suppressed.insert(format!("{account}.{token}").into());
            } else {
                known.states.push(read_state(&row)?);
            }
        }
        Ok(known)
    }

    /// Whether any of these customers, given by their tokens, or of these charges was erased.
    pub async fn is_suppressed(
        &self,
        account: &AccountId,
        tokens: &[&str],
        charges: &[&str],
    ) -> Result<bool, StoreError> {
        let key = self.suppression_key().await?;
        let tokens = tokens.iter().map(|token| key.customer(account.as_str(), token));
        let charges = charges.iter().map(|charge| key.charge(account.as_str(), charge));
        let hashes: Vec<SuppressionHash> = tokens.chain(charges).collect();
        let rows = self.statement_of(account, "look for suppressions", ANY, &[&account.as_str(), &hashes]).await?;
        Ok(rows.iter().any(|row| row.get("suppressed")))
    }

    /// Suppresses charges that were found to be of erased customers, and forgets the disputes that wait for them.
    pub async fn suppress_charges(&self, account: &AccountId, charges: &[&str]) -> Result<(), StoreError> {
        if charges.is_empty() {
            return Ok(());
        }
        let key = self.suppression_key().await?;
        let hashes: Vec<SuppressionHash> = charges.iter().map(|charge| key.charge(account.as_str(), charge)).collect();
        let charges: Vec<PgText<'_>> = charges.iter().map(|charge| PgText(charge)).collect();
        let (hashes, charges) = (&hashes, &charges);
        self.transaction_of(account, "suppress charges", move |tx| async move {
            suppress(&tx, account, hashes).await?;
            tx.execute(FORGET_WAITING, &[&account.as_str(), charges]).await?;
            Ok(())
        })
        .await
    }

    /// The key, which a database has from its migration on.
    pub(super) async fn suppression_key(&self) -> Result<&SuppressionKey, StoreError> {
        self.shared.suppression_key.get_or_try_init(|| self.load_suppression_key()).await
    }

    async fn load_suppression_key(&self) -> Result<SuppressionKey, StoreError> {
        let table = "suppression_key";
        let rows = self.statement("load the suppressions' key", KEY, &[]).await?;
        let missing = || StoreError::Inconsistent { table, row: "the only one".to_owned(), column: "key".to_owned() };
        let row = rows.first().ok_or_else(missing)?;
        let row = RowReader { table, row };
        Hmac::new_from_slice(row.get("key")?).map(SuppressionKey).map_err(|_| row.broken("key"))
    }
}

/// Suppresses all of these from the commit on.
pub(super) async fn suppress(tx: &Tx, account: &AccountId, hashes: &[SuppressionHash]) -> Result<(), StoreError> {
    tx.execute(SUPPRESS, &[&account.as_str(), &hashes]).await?;
    Ok(())
}

/// Which places of a list of customers, given as account and token, belong to erased ones.
pub(super) async fn suppressed_among(
    tx: &Tx,
    key: &SuppressionKey,
    customers: &[(&str, &str)],
) -> Result<HashSet<usize>, StoreError> {
    let accounts: Vec<&str> = customers.iter().map(|(account, _)| *account).collect();
    let hashes: Vec<SuppressionHash> = customers.iter().map(|(account, token)| key.customer(account, token)).collect();
    let rows = tx.query(AMONG, &[&accounts, &hashes]).await?;
    rows.iter()
        .map(|row| {
            let place = RowReader { table: "suppressions", row }.number("place")?;
            Ok(usize::try_from(place).unwrap_or(usize::MAX) - 1)
        })
        .collect()
}
